"""Rules: read from TOML, applied to the tables of an audit. What they find has the shape of all findings.

A rule is a table, a condition over its rows (`engine.audit.rule_language`) and to what it applies; rules on the table `findings`
set the severity of what the built-in checks found. Of rules with one name the first that is broken counts for a session, a gap
or a file, so an `error` at 95 stands before a `warning` at 99. Of rules on findings the first that matches counts.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl

from engine.arguments import path_of
from engine.audit.audit_tables import AUDIT_TABLES, KEY
from engine.audit.events import PART, REFUSED, fits_all_parts, roots_of_series
from engine.audit.gap_findings import gap_owners
from engine.audit.rule_language import EDGE_MINUTES, TABLES, Condition, nearest, parse_condition, replaced_check
from engine.checks.calendar_check import OFF_GRID
from engine.checks.findings import SEVERITIES, findings
from engine.errors import ParameterError
from engine.quality.causes.cause_table import CAUSES, EXCLUDED, EXPLAINING, LOSSES
from engine.quality.causes.priors import SURE
from engine.quality.gaps import POSITIONS
from engine.schema import empty
from engine.toml_text import parse_toml, read_regular_text

OFF = "off"
ACTIVITIES = ("liquid", "mixed", "thin")
LISTS: Mapping[str, tuple[str, ...]] = {"activity": ACTIVITIES, "cause": CAUSES, "position": POSITIONS}
TOP = ("threshold", "tolerance", "defaults", "rule")
KEYS = (
    "name",
    "table",
    "where",
    "edge_minutes",
    "severity",
    "symbols",
    "interval",
    *LISTS,
    "allow",
    "tolerance",
)
# The column by which a selector chooses rows; `activity` is that of the symbol.
SELECTORS = {
    "symbols": "symbol",
    "interval": "interval",
    "activity": "symbol",
    "cause": "cause",
    "position": "position",
}
US_PER_SECOND = 1_000_000
Tables = Mapping[str, pl.DataFrame]

DEFAULT_RULES = f"""\
threshold = "error"

[[rule]]
name = "adjusted quality"
table = "quality"
where = "quality_adjusted < 95 AND present > 0"
activity = ["liquid"]
severity = "error"
tolerance = 0.1

[[rule]]
name = "adjusted quality"
table = "quality"
where = "quality_adjusted < 99 AND present > 0"
activity = ["liquid"]
severity = "warning"
tolerance = 0.1

[[rule]]
name = "long loss"
table = "gaps"
where = "seconds > 3600"
cause = {json.dumps(LOSSES)}
severity = "error"
"""


@dataclass(frozen=True)
class Tolerance:
    """By how much a measured value may get worse and still be the same: in its own unit, or as a share of it."""

    absolute: float = 0.0
    relative: float = 0.0

    def __str__(self) -> str:
        return f"{100 * self.relative:g}%" if self.relative else f"{self.absolute:g}"


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes
    ----------
    name : str
        `check_name` of its findings.
    condition : Condition
        Table and SQL condition: a row for which it is true is a finding.
    severity : {"error", "warning", "info", "off"}
        `off` silences a built-in check.
    edge_minutes : float
        Length of the first and the last part of a session that `in_first` and `in_last` measure.
    symbols : tuple of pattern
        Empty: all.
    interval : tuple of str
        Empty: all.
    activity, cause, position : tuple of str
        Classes of symbols; causes and positions of gaps. Empty: all.
    allow : int
        How many findings do not fail.
    tolerance : Tolerance
        Against a baseline.
    """

    name: str
    condition: Condition
    severity: str = "error"
    edge_minutes: float = EDGE_MINUTES
    symbols: tuple[str, ...] = ()
    interval: tuple[str, ...] = ()
    activity: tuple[str, ...] = ()
    cause: tuple[str, ...] = ()
    position: tuple[str, ...] = ()
    allow: int = 0
    tolerance: Tolerance = Tolerance(relative=0.05)

    def __str__(self) -> str:
        edge = f", edge_minutes {self.edge_minutes:g}" if self.edge_minutes != EDGE_MINUTES else ""
        chosen = {name: words for name in SELECTORS if (words := getattr(self, name))}
        return f"{self.condition}{edge}" + "".join(f", {name} {'|'.join(words)}" for name, words in chosen.items())

    @property
    def is_about_findings(self) -> bool:
        """Whether the rule sets the severity of built-in findings, and makes none of its own."""
        return self.condition.table == "findings"


@dataclass(frozen=True)
class RuleSet:
    """Rules in their order, the severity that fails, and the tolerance of findings that no rule is about."""

    rules: tuple[Rule, ...]
    threshold: str = "error"
    tolerance: Tolerance = Tolerance(relative=0.05)

    @property
    def failing(self) -> tuple[str, ...]:
        """Severities at or above the threshold, the gravest first."""
        return SEVERITIES[: SEVERITIES.index(self.threshold) + 1]


def read_rules(path: str | Path | None = None) -> RuleSet:
    """Read a TOML rules file; None: the default rules. ParameterError if unreadable or invalid.

    Raises
    ------
    ParameterError
        The file cannot be read, or a rule is not valid: the message names the file, the rule, what was received, and
        what would be valid.
    """
    if path is None:
        return parse_rules(parse_toml(DEFAULT_RULES), "default rules")
    path = path_of("path", path)
    try:
        content = parse_toml(read_regular_text(path))
    except (OSError, ValueError) as error:
        raise ParameterError(f"{path}: no rules could be read: {error}") from error
    return parse_rules(content, str(path))


def parse_rules(content: Mapping[str, Any], name: str = "rules") -> RuleSet:
    """Parse a rules mapping; `defaults = true` appends the default rules; ParameterError for anything invalid."""
    check_keys(name, content, TOP)
    threshold = parse_choice(f"{name}: threshold", content.get("threshold", "error"), SEVERITIES)
    given = content.get("rule", [])
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise ParameterError(f"{name}: rule: received {given!r}; valid: tables that begin with [[rule]]")
    general = parse_tolerance(f"{name}: tolerance", content.get("tolerance", "5%"))
    made = tuple(parse_rule(f"{name}: rule {number}", one, general) for number, one in enumerate(given, 1))
    defaults = content.get("defaults", False)
    if not isinstance(defaults, bool):
        raise ParameterError(f"{name}: defaults: received {defaults!r}; valid: true or false")
    return RuleSet(made + (read_rules().rules if defaults else ()), threshold, general)


def rule_findings(tables: Tables, rules: RuleSet) -> pl.DataFrame:
    """Findings of rules, then other built-in ones with severities by rules; adds `rule`, the index of its rule, or null.

    What a rule finds in gaps, outages or sessions that a built-in finding reports already is no second one: that finding
    has the graver severity of both, and its evidence names the rule (`owners_of_broken`).

    Parameters
    ----------
    tables : mapping of name to DataFrame
        Of `AUDIT_TABLES`; those absent are empty.
    rules : RuleSet

    Returns
    -------
    DataFrame
        `FINDINGS`, and `rule` (Int32): its place among the rules, null where none is about it.
    """
    full = {name: tables.get(name, empty(schema)) for name, schema in AUDIT_TABLES.items()}
    none = findings(pl.DataFrame(schema=dict.fromkeys(("check_name", "severity", "message"), pl.String)))
    parts = [none.with_columns(pl.lit(0, pl.Int32).alias("rule"), pl.lit(None, pl.String).alias("owner"))]
    built_in = with_rule_severities(full, rules)
    owners = GapOwners(full, built_in)
    for at, rule in enumerate(rules.rules):
        if not rule.is_about_findings:
            named = [pl.lit(rule.name).alias("check_name"), pl.lit(rule.severity).alias("severity")]
            found = findings(broken_rows(full, rule).with_columns(named))
            owner = owners.of(rule.condition.table, found)
            parts.append(found.with_columns(pl.lit(at, pl.Int32).alias("rule"), owner))
    # A check that is built in and a rule that finds the same thing under one name are one finding.
    broken = pl.concat(parts).unique("fingerprint", keep="first", maintain_order=True)
    own = broken.filter(pl.col("owner").is_null()).drop("owner")
    built_in = with_broken_rules(built_in, broken.drop_nulls("owner"))
    built_in = built_in.join(own, on="fingerprint", how="anti", maintain_order="left")
    return pl.concat([own, built_in.select(own.columns)])


def with_broken_rules(found: pl.DataFrame, broken: pl.DataFrame) -> pl.DataFrame:
    """Built-in findings with the severity of the gravest rule that their gaps break, its number, and its name as evidence.

    A severity that a rule on findings set stays.
    """
    rank = pl.col("severity").cast(pl.Enum(SEVERITIES))
    ordered = broken.sort(rank, "rule", maintain_order=True)
    named = pl.format("{} ({})", "check_name", pl.col("message").first().over("owner", "check_name"))
    summed = ordered.group_by("owner", maintain_order=True).agg(
        pl.col("severity").first().alias("severity_of_rule"),
        pl.col("rule").first().alias("broken_rule"),
        named.unique(maintain_order=True).str.join(", ").alias("names"),
    )
    joined = found.join(summed, left_on="fingerprint", right_on="owner", how="left", maintain_order="left")
    is_graver = pl.col("severity_of_rule").cast(pl.Enum(SEVERITIES)).to_physical() < rank.to_physical()
    is_its = pl.col("rule").is_null() & pl.col("broken_rule").is_not_null()
    said = pl.concat_str("evidence", pl.format("breaks the rule {}", "names"), separator="; ", ignore_nulls=True)
    return joined.with_columns(
        pl.when(is_its & is_graver).then("severity_of_rule").otherwise("severity").alias("severity"),
        pl.when(is_its).then("broken_rule").otherwise("rule").alias("rule"),
        said.alias("evidence"),
    ).select(found.columns)


class GapOwners:
    """The built-in findings that report the gaps of an audit: what a rule says of the same gaps is theirs.

    Parameters
    ----------
    tables : mapping of name to DataFrame
    found : DataFrame of `FINDINGS`
        Built-in ones that the rules leave.
    """

    def __init__(self, tables: Tables, found: pl.DataFrame) -> None:
        self._there = found["fingerprint"]
        self._head = tables["parts"].select(pl.col("fingerprint").alias("owner"), "finding").unique("owner")
        self._tables, self._found = tables, found

    def of(self, table: str, broken: pl.DataFrame) -> pl.Series:
        """Per finding of a rule on a table the fingerprint of the built-in one whose gaps it is about; null: none is."""
        keys = {
            "gaps": (self._gaps, [*KEY, "session", "start_ts"]),
            "outages": (self._outages, ["session", "start_ts", "end_ts"]),
            "quality": (self._sessions, [*KEY, "session"]),
            "series": (self._series, list(KEY)),
        }
        if table not in keys or broken.is_empty() or self._there.is_empty():
            return pl.repeat(None, broken.height, dtype=pl.String, eager=True).alias("owner")
        owners, key = keys[table]
        named = owners.unique(key, keep="first", maintain_order=True)
        return broken.join(named, on=key, how="left", maintain_order="left")["owner"]

    def _reported_owners(self, owners: pl.DataFrame) -> pl.DataFrame:
        """Owners as they are reported: the finding of their event, if they are part of one; those that rules silence left out."""
        joined = owners.join(self._head, on="owner", how="left", maintain_order="left")
        return joined.with_columns(pl.coalesce("finding", "owner").alias("owner")).filter(
            pl.col("owner").is_in(self._there.implode())
        )

    @cached_property
    def _owned(self) -> pl.DataFrame:
        return self._reported_owners(gap_owners(self._tables["gaps"], self._tables["outages"]))

    @cached_property
    def _gaps(self) -> pl.DataFrame:
        return self._owned.select(*KEY, "session", pl.col("gap_start").alias("start_ts"), "owner")

    @cached_property
    def _outages(self) -> pl.DataFrame:
        outages = self._tables["outages"]
        ids = self._owned.select("outage_id", "owner").unique("outage_id")
        key = [pl.col("first_session").alias("session"), "start_ts", "end_ts", "owner"]
        return outages.join(ids, on="outage_id", maintain_order="left").select(key)

    @cached_property
    def _told(self) -> pl.DataFrame:
        """Built-in findings, those that are parts of others too."""
        columns = ["check_name", "severity", *KEY, "source", "message", "fingerprint"]
        parts = self._tables["parts"].filter(pl.col("role") == PART)
        return pl.concat([self._found.select(columns), parts.select(columns)])

    @cached_property
    def _series(self) -> pl.DataFrame:
        """Series whose stamps, interval or calendar are wrong: nothing else is true of them."""
        return self._reported_owners(roots_of_series(self._told).rename({"root": "owner"})).select(*KEY, "owner")

    @cached_property
    def _sessions(self) -> pl.DataFrame:
        """Sessions of these; and those of which one finding has at least half of the slots that lower the adjusted quality."""
        key = [*KEY, "session"]
        quality = self._tables["quality"].with_columns(pl.col("explained", "excluded", "filled").fill_null(0))
        lost = pl.col("missing") - pl.col("explained") - pl.col("excluded") + pl.col("filled")
        is_explained = pl.col("cause").is_in(EXPLAINING) & (pl.col("confidence") >= SURE)
        gaps = self._owned.filter(~is_explained & ~pl.col("cause").is_in(EXCLUDED))
        held = [one.select(*key, "owner", "bar_count") for one in (gaps, self._of_rows, self._of_filled)]
        summed = pl.concat(held).group_by(*key, "owner").agg(pl.col("bar_count").sum())
        most = summed.sort("bar_count", "owner", descending=[True, False]).unique(
            key, keep="first", maintain_order=True
        )
        half = most.join(quality.select(*key, lost.alias("lost")), on=key).filter(
            2 * pl.col("bar_count") >= pl.col("lost")
        )
        wrong = quality.select(key).join(self._series, on=list(KEY))
        return pl.concat([wrong.select(*key, "owner"), half.select(*key, "owner")])

    @property
    def _of_filled(self) -> pl.DataFrame:
        """Sessions with bars that look filled in, `bar_count` of them, with the finding of their series."""
        filled = self._told.filter(pl.col("check_name") == "filled").unique(
            list(KEY), keep="first", maintain_order=True
        )
        owners = self._reported_owners(filled.select(*KEY, pl.col("fingerprint").alias("owner")))
        sessions = self._tables["quality"].select(*KEY, "session", pl.col("filled").alias("bar_count"))
        return sessions.filter(pl.col("bar_count") > 0).join(owners, on=list(KEY))

    @property
    def _of_rows(self) -> pl.DataFrame:
        """Gaps of rows that were refused or lie off the grid, with the finding that tells of these rows."""
        gaps = self._tables["gaps"].with_columns(pl.col("evidence").str.extract(r"of (.*)$").alias("reason"))
        name = pl.col("source").str.split("/").list.last()
        reason = pl.col("message").str.extract(r" were refused: (.*)\.$")
        refused = self._told.filter(pl.col("check_name") == REFUSED).select(
            pl.format("{}: {}", name, reason).alias("reason"), pl.col("fingerprint").alias("owner")
        )
        off_grid = self._told.filter(
            (pl.col("check_name") == "unscheduled") & pl.col("message").str.contains(f" {OFF_GRID} of ", literal=True)
        ).select(*KEY, pl.col("fingerprint").alias("owner"))
        parts = [
            gaps.filter(pl.col("cause") == cause).join(
                self._reported_owners(owners).unique(on, keep="first", maintain_order=True), on=on
            )
            for cause, owners, on in ((REFUSED, refused, ["reason"]), ("off_grid", off_grid, list(KEY)))
        ]
        return pl.concat([one.select(*KEY, "session", "owner", "bar_count") for one in parts])


def count_unmeasured_gaps(tables: Tables, rule: Rule) -> int:
    """Count gaps a rule on `in_first` or `in_last` applies to that have no segment hours; other rules: 0."""
    if rule.condition.table != "gaps" or not rule.condition.reads("in_first", "in_last"):
        return 0
    full = {name: tables.get(name, empty(schema)) for name, schema in AUDIT_TABLES.items()}
    return (
        full["gaps"]
        .filter(is_selected(full, full["gaps"], rule))
        .pipe(with_edge_seconds, full, rule)["in_first"]
        .null_count()
    )


def matching(values: pl.Series, patterns: Iterable[str]) -> pl.Series:
    """Mask values that equal a pattern or fit it as a case-sensitive shell pattern; nulls do not."""
    wanted = list(patterns)
    fits = [
        one
        for one in values.drop_nulls().unique()
        if any(one == pattern or fnmatch.fnmatchcase(one, pattern) for pattern in wanted)
    ]
    return values.is_in(pl.Series(fits, dtype=pl.String).implode()).fill_null(value=False)


# ------------------------------------------------------------------ tables to findings


def broken_rows(tables: Tables, rule: Rule) -> pl.DataFrame:
    """Return rows that fit selectors and condition as finding columns without name, severity; not for table `findings`."""
    condition = rule.condition
    rows = tables[condition.table].filter(is_selected(tables, tables[condition.table], rule))
    if condition.table == "gaps":
        rows = with_edge_seconds(rows, tables, rule)
    rows = rows.filter(condition.expression)
    measured = pl.lit(None, pl.Float64) if condition.measured is None else pl.col(condition.measured).cast(pl.Float64)
    shown = [
        pl.format(f"{one.column} {{}} ({one.operator} {one.bound:g})", shown_number(pl.col(one.column)))
        for one in condition.comparisons
    ]
    told = pl.concat_str(shown, separator=", ", ignore_nulls=True) if shown else pl.lit(condition.text)
    value = measured.alias("value")
    match condition.table:
        case "files":
            return rows.select("source", pl.coalesce("problem", told).alias("message"), value)
        case "outages":
            return rows.select(
                pl.col("first_session").alias("session"),
                "start_ts",
                "end_ts",
                "evidence",
                pl.col("missing").alias("count"),
                told.alias("message"),
                value,
            )
        case "gaps":
            edges = [one for one in ("in_first", "in_last") if condition.reads(one)]
            where = "".join(
                f", {{}} min of it in the {one[3:]} {shown_duration(60 * rule.edge_minutes)}" for one in edges
            )
            minutes = [shown_number(pl.col(name) / 60) for name in ("seconds", *edges)]
            cause = pl.col("cause").fill_null("cause not known")
            message = pl.format(f"gap of {{}} min{where}, {{}} bars: {{}}", *minutes, "bar_count", cause)
            return rows.select(
                *KEY,
                "session",
                pl.col("gap_start").alias("start_ts"),
                pl.col("gap_end").alias("end_ts"),
                pl.col("bar_count").alias("count"),
                value,
                message.alias("message"),
                "evidence",
            )
    slots = (pl.col(name).fill_null(0) for name in ("present", "expected", "explained"))
    evidence = pl.format("{} of {} slots present, {} of the others explained", *slots).alias("evidence")
    when = ["session"] if condition.table == "quality" else []
    return rows.select(*KEY, *when, told.alias("message"), value, pl.col("missing").alias("count"), evidence)


def with_edge_seconds(gaps: pl.DataFrame, tables: Tables, rule: Rule) -> pl.DataFrame:
    """Add `seconds`, and `in_first, in_last` (within `edge_minutes` of the label's open, close; null if unknown)."""
    # The hours of one label: the first hour of RTH is not that of PRE, and a lunch break ends no session.
    label = ["calendar", "session", "segment"]
    hours = tables["sessions"].group_by(label).agg(pl.col("segment_open").min(), pl.col("segment_close").max())
    calendars = tables["series"].select(*KEY, "calendar").unique(list(KEY), keep="first", maintain_order=True)
    placed = gaps.join(calendars, on=list(KEY), how="left", maintain_order="left").join(
        hours, on=label, how="left", maintain_order="left"
    )
    edge = pl.duration(seconds=60 * rule.edge_minutes)
    inside = {
        "seconds": pl.col("gap_end") - pl.col("gap_start"),
        "in_first": pl.min_horizontal(pl.col("gap_end"), pl.col("segment_open") + edge)
        - pl.max_horizontal("gap_start", "segment_open"),
        "in_last": pl.min_horizontal("gap_end", "segment_close")
        - pl.max_horizontal(pl.col("gap_start"), pl.col("segment_close") - edge),
    }
    known = pl.col("segment_open").is_not_null()
    return placed.with_columns(
        pl.when(known | pl.lit(name == "seconds"))
        .then((span.dt.total_microseconds() / US_PER_SECOND).clip(lower_bound=0))
        .alias(name)
        for name, span in inside.items()
    ).drop("calendar", "segment_open", "segment_close")


def with_rule_severities(tables: Tables, rules: RuleSet) -> pl.DataFrame:
    """Return built-in findings with the FIRST matching rule's severity and number; no match: as is; drop `off`."""
    found = tables["findings"].with_columns(pl.lit(None, pl.Int32).alias("rule"))
    for at, rule in enumerate(rules.rules):
        if rule.is_about_findings:
            is_its = pl.lit(is_selected(tables, found, rule)) & rule.condition.expression & pl.col("rule").is_null()
            found = found.with_columns(
                pl.when(is_its).then(pl.lit(rule.severity)).otherwise("severity").alias("severity"),
                pl.when(is_its).then(pl.lit(at, pl.Int32)).otherwise("rule").alias("rule"),
            )
    return found.filter(pl.col("severity") != OFF)


def is_selected(tables: Tables, rows: pl.DataFrame, rule: Rule) -> pl.Series:
    """Mask rows that fit all set selectors: symbols, interval, cause, position, activity (of any series of the symbol)."""
    fits = pl.select(pl.repeat(value=True, n=rows.height, dtype=pl.Boolean)).to_series()
    tests: list[Callable[[pl.Series], pl.Series]] = []
    if rule.symbols:
        tests.append(partial(matching, patterns=rule.symbols))
    if rule.activity:
        series = tables["series"]
        active = series.filter(pl.col("activity").is_in(rule.activity))["symbol"].unique()
        tests.append(lambda symbols: symbols.is_in(active.implode()).fill_null(value=False))
    for test in tests:
        fits &= fits_all_parts(rows, tables["parts"], test) if rule.is_about_findings else test(rows["symbol"])
    for name, words in (("interval", rule.interval), ("cause", rule.cause), ("position", rule.position)):
        if words:
            fits &= rows[name].is_in(words).fill_null(value=False)
    return fits


def shown_number(value: pl.Expr) -> pl.Expr:
    """Return an expression: the number as text, rounded to two decimals, a trailing `.0` removed."""
    return value.cast(pl.Float64).round(2).cast(pl.String).str.strip_suffix(".0")


def shown_duration(seconds: float) -> str:
    """Format seconds as whole hours, else as whole minutes, else as seconds: `2 h`, `90 min`, `45 s`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


# ------------------------------------------------------------------ TOML to rules


def parse_rule(where: str, given: Mapping[str, Any], general: Tolerance) -> Rule:
    """Parse one rule (default name: its condition); ParameterError if invalid, in the old form, or a selector is unfit."""
    if isinstance(given.get("check"), str) and "where" not in given:
        new = replaced_check(given["check"], str(given.get("per", "session")))
        shown = "a table and an SQL condition" if new is None else ", ".join(new.split("\n"))
        raise ParameterError(f"{where}: check {given['check']!r} is the form of earlier versions; valid: {shown}")
    check_keys(where, given, KEYS)
    table = parse_choice(f"{where}: table", given.get("table"), tuple(TABLES))
    if not isinstance(given.get("where"), str):
        raise ParameterError(f'{where}: where: received {given.get("where")!r}; valid: text such as "quality < 99"')
    try:
        condition = parse_condition(given["where"], table)
    except ParameterError as error:
        raise ParameterError(f"{where}: where {given['where'][:100]!r}: {error}") from error
    name = given.get("name", condition.text)
    if not isinstance(name, str) or not name.strip():
        raise ParameterError(f"{where}: name: received {name!r}; valid: some text")
    usable = [key for key, column in SELECTORS.items() if column in TABLES[table]]
    for key in SELECTORS:
        # What would choose nothing: a cause of a session, a symbol of a file.
        if given.get(key) and key not in usable:
            raise ParameterError(
                f"{where}: {key} does not apply to the table {table}; valid: {', '.join(usable) or 'none'}"
            )
    edge = given.get("edge_minutes", EDGE_MINUTES)
    if isinstance(edge, bool) or not isinstance(edge, int | float) or not 0 < edge < float("inf"):
        raise ParameterError(f"{where}: edge_minutes: received {edge!r}; valid: a number above 0")
    if "edge_minutes" in given and not condition.reads("in_first", "in_last"):
        raise ParameterError(f"{where}: edge_minutes applies to conditions on in_first or in_last of the table gaps")
    return Rule(
        name,
        condition,
        severity=parse_choice(
            f"{where}: severity",
            given.get("severity", "error"),
            (*SEVERITIES, OFF) if table == "findings" else SEVERITIES,
        ),
        edge_minutes=float(edge),
        symbols=parse_words(f"{where}: symbols", given.get("symbols", [])),
        interval=parse_words(f"{where}: interval", given.get("interval", [])),
        allow=parse_count(f"{where}: allow", given.get("allow", 0)),
        tolerance=parse_tolerance(f"{where}: tolerance", given["tolerance"]) if "tolerance" in given else general,
        **{key: parse_words(f"{where}: {key}", given.get(key, []), valid) for key, valid in LISTS.items()},
    )


def check_keys(where: str, given: Mapping[str, Any], valid: Sequence[str]) -> None:
    """Raise ParameterError for the first key not in `valid`, naming the nearest valid one; else do nothing."""
    for key in given:
        if key not in valid:
            raise ParameterError(f"{where}: unknown key {key!r}{nearest(key, valid)}; valid: {', '.join(valid)}")


def parse_choice(where: str, value: object, valid: Sequence[str]) -> str:
    """Return the value as text if it is in `valid`; else raise ParameterError with the nearest valid one."""
    if value not in valid:
        raise ParameterError(f"{where}: received {value!r}{nearest(str(value), valid)}; valid: {', '.join(valid)}")
    return str(value)


def parse_words(where: str, value: object, valid: Sequence[str] = ()) -> tuple[str, ...]:
    """Return a list of nonempty text as tuple; ParameterError otherwise or for words not in `valid` (empty: any)."""
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ParameterError(f'{where}: received {value!r}; valid: a list of text, such as ["SPY", "Q*"]')
    return tuple(parse_choice(where, one, valid) if valid else one for one in value)


def parse_count(where: str, value: object) -> int:
    """Return the value if it is an int >= 0; else, also for booleans, raise ParameterError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ParameterError(f"{where}: received {value!r}; valid: a whole number, 0 or more")
    return value


def parse_tolerance(where: str, value: object) -> Tolerance:
    """Return a Tolerance: `5%` is relative, a number >= 0 (or its text) absolute; else ParameterError."""
    share = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%", value) if isinstance(value, str) else None
    if share is not None:
        return Tolerance(relative=float(share[1]) / 100)
    if isinstance(value, str) and re.fullmatch(r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ParameterError(f'{where}: received {value!r}; valid: a number, 0 or more, or a share such as "5%"')
    return Tolerance(absolute=float(value))
