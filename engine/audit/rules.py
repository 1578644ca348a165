"""Rules: read from TOML, applied to the tables of an audit. What they find has the shape of all findings.

A rule is one check (`engine.audit.rule_language`) and to what it applies; `finding` checks change the severity of what the
built-in checks found. Of rules with one name the first that is broken counts for a session, a gap or a file, so an
`error` at 95 stands before a `warning` at 99. Rules on findings: the first that matches counts.
"""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from engine.audit.audit_tables import AUDIT_TABLES, KEY
from engine.audit.rule_language import (
    PER,
    US_PER_SECOND,
    Check,
    FileCheck,
    FindingCheck,
    GapCheck,
    TableCheck,
    Window,
    nearest,
    parse_check,
)
from engine.checks.findings import SEVERITIES, findings
from engine.errors import ParameterError
from engine.quality.causes.cause_table import CAUSES, LOSSES
from engine.quality.gaps import POSITIONS
from engine.schema import empty

OFF = "off"
ACTIVITIES = ("liquid", "mixed", "thin")
LISTS: Mapping[str, tuple[str, ...]] = {"activity": ACTIVITIES, "cause": CAUSES, "position": POSITIONS}
TOP = ("threshold", "tolerance", "defaults", "rule")
KEYS = ("name", "check", "per", "severity", "symbols", "interval", *LISTS, "allow", "tolerance")
Tables = Mapping[str, pl.DataFrame]

DEFAULT_RULES = f"""\
threshold = "error"

[[rule]]
name = "adjusted quality"
check = "quality_adjusted < 95 and present > 0"
activity = ["liquid"]
severity = "error"
tolerance = 0.1

[[rule]]
name = "adjusted quality"
check = "quality_adjusted < 99 and present > 0"
activity = ["liquid"]
severity = "warning"
tolerance = 0.1

[[rule]]
name = "long loss"
check = "gap > 1 hour"
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
        The `check` of its findings.
    check : Check
    per : {"session", "series", "outage"}
    severity : {"error", "warning", "info", "off"}
        `off` silences a built-in check.
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
    check: Check
    severity: str = "error"
    per: str = "session"
    symbols: tuple[str, ...] = ()
    interval: tuple[str, ...] = ()
    activity: tuple[str, ...] = ()
    cause: tuple[str, ...] = ()
    position: tuple[str, ...] = ()
    allow: int = 0
    tolerance: Tolerance = Tolerance(relative=0.05)

    def __str__(self) -> str:
        of = {"symbols": self.symbols, "interval": self.interval, **{name: getattr(self, name) for name in LISTS}}
        return f"{self.check}" + "".join(f", {name} {'|'.join(words)}" for name, words in of.items() if words)


@dataclass(frozen=True)
class RuleSet:
    """Rules in their order, the severity that fails, and the tolerance of findings that no rule is about."""

    rules: tuple[Rule, ...]
    threshold: str = "error"
    tolerance: Tolerance = Tolerance(relative=0.05)

    @property
    def failing(self) -> tuple[str, ...]:
        """Severities at or over the threshold."""
        return SEVERITIES[: SEVERITIES.index(self.threshold) + 1]


def read_rules(path: Path | None = None) -> RuleSet:
    """Rules of a file, or the default ones.

    Raises
    ------
    ParameterError
        The file cannot be read, or a rule is not valid: the message names the file, the rule, what was received, and
        what would be valid.
    """
    if path is None:
        return rules_of(tomllib.loads(DEFAULT_RULES), "default rules")
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ParameterError(f"{path}: no rules could be read: {error}") from error
    return rules_of(content, str(path))


def rules_of(content: Mapping[str, Any], name: str = "rules") -> RuleSet:
    """Rules that are a mapping already; `defaults = true` puts the default ones behind them."""
    _check_keys(name, content, TOP)
    threshold = _one_of(f"{name}: threshold", content.get("threshold", "error"), SEVERITIES)
    given = content.get("rule", [])
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise ParameterError(f"{name}: rule: received {given!r}; valid: tables that begin with [[rule]]")
    general = tolerance_of(f"{name}: tolerance", content.get("tolerance", "5%"))
    made = tuple(_rule(f"{name}: rule {number}", one, general) for number, one in enumerate(given, 1))
    defaults = content.get("defaults", False)
    if not isinstance(defaults, bool):
        raise ParameterError(f"{name}: defaults: received {defaults!r}; valid: true or false")
    return RuleSet(made + (read_rules().rules if defaults else ()), threshold, general)


def broken(tables: Tables, rules: RuleSet) -> pl.DataFrame:
    """What the rules and the built-in checks find.

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
    parts = [_found(full, rule, at) for at, rule in enumerate(rules.rules) if not isinstance(rule.check, FindingCheck)]
    none = _numbered(findings(pl.DataFrame(schema=dict.fromkeys(("check", "severity", "message"), pl.String))), 0)
    # A check that is built in and a rule that finds the same thing under one name are one finding.
    own = pl.concat([none, *parts]).unique("fingerprint", keep="first", maintain_order=True)
    built_in = _reviewed(full, rules).join(own, on="fingerprint", how="anti", maintain_order="left")
    return pl.concat([own, built_in.select(own.columns)])


def unmeasured(tables: Tables, rule: Rule) -> int:
    """How many gaps that a rule is about have no hours in `sessions`, so that its window cannot be told."""
    if not isinstance(rule.check, GapCheck) or rule.check.window is None:
        return 0
    full = {name: tables.get(name, empty(schema)) for name, schema in AUDIT_TABLES.items()}
    gaps = _chosen(full, full["gaps"], rule)
    return gaps.height - _with_window(full, gaps, rule.check.window).height


def matching(values: pl.Series, patterns: Iterable[str]) -> pl.Series:
    """Which values are one of these words, or fit one of these shell patterns; nulls do not."""
    wanted = list(patterns)
    fits = [
        one for one in values.drop_nulls().unique()
        if any(one == pattern or fnmatch.fnmatchcase(one, pattern) for pattern in wanted)
    ]  # fmt: skip
    return values.is_in(pl.Series(fits, dtype=pl.String).implode()).fill_null(value=False)


# ------------------------------------------------------------------ tables to findings


def _found(tables: Tables, rule: Rule, at: int) -> pl.DataFrame:
    match rule.check:
        case TableCheck():
            rows = _of_table(tables, rule, rule.check)
        case GapCheck():
            rows = _of_gaps(tables, rule, rule.check)
        case _:
            rows = _of_files(tables)
    about = rows.with_columns(pl.lit(rule.name).alias("check"), pl.lit(rule.severity).alias("severity"))
    return _numbered(findings(about), at)


def _numbered(found: pl.DataFrame, at: int) -> pl.DataFrame:
    return found.with_columns(pl.lit(at, pl.Int32).alias("rule"))


def _of_table(tables: Tables, rule: Rule, check: TableCheck) -> pl.DataFrame:
    source = {"session": "quality", "series": "series", "outage": "outages"}[rule.per]
    rows = _chosen(tables, tables[source], rule)
    rows = rows.filter(pl.all_horizontal([one.expression for one in check.comparisons]))
    measured = pl.col(check.comparisons[0].column).cast(pl.Float64)
    shown = [
        pl.format(f"{one.column} {{}} ({one.operator} {one.bound:g})", _number(pl.col(one.column)))
        for one in check.comparisons
    ]
    message = pl.concat_str(shown, separator=", ", ignore_nulls=True)
    if rule.per == "outage":
        return rows.select(
            pl.col("first_session").alias("session"), "start", "end", "evidence",
            pl.col("missing").alias("count"), message.alias("message"), measured.alias("value"),
        )  # fmt: skip
    when = ["session"] if rule.per == "session" else []
    counted = pl.format(
        "{} of {} slots present, {} of the others explained", *(pl.col(n).fill_null(0) for n in ("present", "expected", "explained"))
    )  # fmt: skip
    return rows.select(
        *KEY, *when, message.alias("message"), measured.alias("value"), pl.col("missing").alias("count"),
        counted.alias("evidence"),
    )  # fmt: skip


def _of_gaps(tables: Tables, rule: Rule, check: GapCheck) -> pl.DataFrame:
    gaps = _chosen(tables, tables["gaps"], rule)
    inside = pl.col("gap_end") - pl.col("gap_start")
    if check.window is not None:
        gaps = _with_window(tables, gaps, check.window)
        inside = pl.min_horizontal("gap_end", "window_end") - pl.max_horizontal("gap_start", "window_start")
    seconds = inside.dt.total_microseconds() / US_PER_SECOND
    gaps = gaps.with_columns(
        (pl.col("bar_count").cast(pl.Float64) if check.in_bars else seconds).alias("measured"), seconds.alias("seconds")
    )
    gaps = gaps.filter(check.holds(pl.col("measured")) & (pl.col("seconds") > 0))
    where = "" if check.window is None else f", {{}} min of it in the {check.window}"
    minutes = [(pl.col("gap_end") - pl.col("gap_start")).dt.total_seconds() / 60]
    minutes += [pl.col("seconds") / 60] * (check.window is not None)
    message = pl.format(
        f"gap of {{}} min{where}, {{}} bars: {{}}",
        *map(_number, minutes), "bar_count", pl.col("cause").fill_null("cause not known"),
    )  # fmt: skip
    return gaps.select(
        *KEY, "session", pl.col("gap_start").alias("start"), pl.col("gap_end").alias("end"),
        pl.col("bar_count").alias("count"), pl.col("measured").alias("value"), message.alias("message"), "evidence",
    )  # fmt: skip


def _with_window(tables: Tables, gaps: pl.DataFrame, window: Window) -> pl.DataFrame:
    # The hours of one label: the first hour of RTH is not that of PRE, and a lunch break ends no session.
    where = ["calendar", "session", "segment"]
    hours = tables["sessions"].group_by(where).agg(pl.col("segment_open").min(), pl.col("segment_close").max())
    length = pl.duration(seconds=window.seconds)
    first = window.edge == "first"
    start = pl.col("segment_open") if first else pl.col("segment_close") - length
    end = pl.col("segment_open") + length if first else pl.col("segment_close")
    calendars = tables["series"].select(*KEY, "calendar").unique(list(KEY), keep="first", maintain_order=True)
    placed = gaps.drop("calendar", strict=False).join(calendars, on=list(KEY), how="left", maintain_order="left")
    return placed.join(hours, on=where, how="inner", maintain_order="left").with_columns(
        start.alias("window_start"), end.alias("window_end")
    )


def _of_files(tables: Tables) -> pl.DataFrame:
    bad = tables["files"].filter(pl.col("problem").is_not_null())
    return bad.select("source", pl.col("problem").alias("message"))


def _reviewed(tables: Tables, rules: RuleSet) -> pl.DataFrame:
    """Findings of built-in checks with the severity that the first matching rule gives them."""
    found = tables["findings"].with_columns(pl.lit(None, pl.Int32).alias("rule"))
    for at, rule in enumerate(rules.rules):
        if isinstance(rule.check, FindingCheck):
            fits = _fits(tables, found, rule) & matching(found["check"], [rule.check.pattern]) & found["rule"].is_null()
            is_its = pl.lit(fits)
            found = found.with_columns(
                pl.when(is_its).then(pl.lit(rule.severity)).otherwise("severity").alias("severity"),
                pl.when(is_its).then(pl.lit(at, pl.Int32)).otherwise("rule").alias("rule"),
            )
    return found.filter(pl.col("severity") != OFF)


def _chosen(tables: Tables, rows: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    return rows.filter(_fits(tables, rows, rule))


def _fits(tables: Tables, rows: pl.DataFrame, rule: Rule) -> pl.Series:
    fits = pl.select(pl.repeat(value=True, n=rows.height, dtype=pl.Boolean)).to_series()
    if rule.symbols:
        fits &= matching(rows["symbol"], rule.symbols)
    if rule.activity:
        series = tables["series"]
        active = series.filter(pl.col("activity").is_in(rule.activity))["symbol"].unique()
        fits &= rows["symbol"].is_in(active.implode()).fill_null(value=False)
    for name, words in (("interval", rule.interval), ("cause", rule.cause), ("position", rule.position)):
        if words:
            fits &= rows[name].is_in(words).fill_null(value=False)
    return fits


def _number(value: pl.Expr) -> pl.Expr:
    return value.cast(pl.Float64).round(2).cast(pl.String).str.strip_suffix(".0")


# ------------------------------------------------------------------ TOML to rules


def _rule(where: str, given: Mapping[str, Any], general: Tolerance) -> Rule:
    _check_keys(where, given, KEYS)
    if not isinstance(given.get("check"), str):
        raise ParameterError(f'{where}: check: received {given.get("check")!r}; valid: text such as "quality < 99"')
    per = _one_of(f"{where}: per", given.get("per", "session"), tuple(PER))
    try:
        check = parse_check(given["check"], per)
    except ParameterError as error:
        raise ParameterError(f"{where}: check {given['check']!r}: {error}") from error
    name = given.get("name", str(check))
    if not isinstance(name, str) or not name.strip():
        raise ParameterError(f"{where}: name: received {name!r}; valid: some text")
    severities = (*SEVERITIES, OFF) if isinstance(check, FindingCheck) else SEVERITIES
    rule = Rule(
        name,
        check,
        severity=_one_of(f"{where}: severity", given.get("severity", "error"), severities),
        per=per,
        symbols=_words(f"{where}: symbols", given.get("symbols", [])),
        interval=_words(f"{where}: interval", given.get("interval", [])),
        allow=_count(f"{where}: allow", given.get("allow", 0)),
        tolerance=tolerance_of(f"{where}: tolerance", given["tolerance"]) if "tolerance" in given else general,
        **{name: _words(f"{where}: {name}", given.get(name, []), valid) for name, valid in LISTS.items()},
    )
    _check_applies(where, rule, given)
    return rule


def _check_applies(where: str, rule: Rule, given: Mapping[str, Any]) -> None:
    """Refuse what would choose nothing: a cause of a session, a symbol of a file."""
    outage = isinstance(rule.check, TableCheck) and rule.per == "outage"
    usable = {"symbols", "interval", "activity"}
    if isinstance(rule.check, GapCheck):
        usable |= {"cause", "position"}
    if outage or isinstance(rule.check, FileCheck):
        usable = {"cause"} if outage else set()
    for name in ("symbols", "interval", "activity", "cause", "position"):
        if given.get(name) and name not in usable:
            what = "per outage" if outage else f"with the check {rule.check}"
            raise ParameterError(f"{where}: {name} does not apply {what}; valid: {', '.join(sorted(usable)) or 'none'}")
    if "per" in given and not isinstance(rule.check, TableCheck):
        raise ParameterError(f"{where}: per does not apply with the check {rule.check}; valid: a rule without it")


def _check_keys(where: str, given: Mapping[str, Any], valid: Sequence[str]) -> None:
    for key in given:
        if key not in valid:
            raise ParameterError(f"{where}: unknown key {key!r}{nearest(key, valid)}; valid: {', '.join(valid)}")


def _one_of(where: str, value: object, valid: Sequence[str]) -> str:
    if value not in valid:
        raise ParameterError(f"{where}: received {value!r}{nearest(str(value), valid)}; valid: {', '.join(valid)}")
    return str(value)


def _words(where: str, value: object, valid: Sequence[str] = ()) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ParameterError(f'{where}: received {value!r}; valid: a list of text, such as ["SPY", "Q*"]')
    return tuple(_one_of(where, one, valid) if valid else one for one in value)


def _count(where: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ParameterError(f"{where}: received {value!r}; valid: a whole number, 0 or more")
    return value


def tolerance_of(where: str, value: object) -> Tolerance:
    """A tolerance from a number, its text, or a share such as `5%`; `where` names it in errors."""
    share = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%", value) if isinstance(value, str) else None
    if share is not None:
        return Tolerance(relative=float(share[1]) / 100)
    if isinstance(value, str) and re.fullmatch(r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ParameterError(f'{where}: received {value!r}; valid: a number, 0 or more, or a share such as "5%"')
    return Tolerance(absolute=float(value))
