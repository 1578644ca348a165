"""The verdict on an audit: which findings are new, known, tolerated or allowed, what was mended, and whether it fails.

1. `rules.rule_findings` finds what the rules and the built-in checks say.
2. `apply_allowlist` marks what an allow-list hides; entries that have expired, or fit nothing, are said.
3. `baseline.mark_known` tells what an earlier audit knew from what is new or worse.
4. `apply_budgets`: of a rule with a budget (`allow = 3`), what is within it does not fail.
5. What is new and at or over the threshold fails.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from engine.arguments import check_arguments
from engine.audit.allowlist import Allowance
from engine.audit.audit_tables import FILES, PARTS, SERIES
from engine.audit.baseline import Baseline, mark_known, resolved_findings
from engine.audit.rules import Rule, RuleSet, Tables, count_unmeasured_gaps, matching, rule_findings
from engine.checks.findings import FINDINGS, SEVERITIES
from engine.schema import Schema, empty

STATES = ("new", "known", "tolerated", "allowed")
# `rule` is the rule as text, null of a built-in check; `note` says why the state is what it is.
JUDGED: Schema = {**FINDINGS, "rule": pl.String(), "state": pl.String(), "note": pl.String(), "fails": pl.Boolean()}
GONE: Schema = {**FINDINGS, "state": pl.String()}
CLEAN, FAILED = 0, 1


@dataclass(frozen=True)
class Verdict:
    """What is to be made of an audit.

    Attributes
    ----------
    findings : DataFrame
        `JUDGED`: what fails first, then by severity, check, symbol and time.
    mended : DataFrame
        `GONE`: findings of the baseline that are not there any more, and those that could not be checked.
    rules : RuleSet
        By which it was judged.
    notes : tuple of str
        Entries of the allow-list that have expired or fit nothing, rules that choose no symbol.
    parts : DataFrame of `audit_tables.PARTS`
        What the findings consist of and explain.
    """

    findings: pl.DataFrame
    mended: pl.DataFrame
    rules: RuleSet
    notes: tuple[str, ...]
    parts: pl.DataFrame = field(default_factory=lambda: empty(PARTS))

    @property
    def exit_code(self) -> int:
        """1 when any finding fails, else 0."""
        return FAILED if self.findings["fails"].any() else CLEAN

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of findings by `fails` and by state: new, known, tolerated, allowed, mended, unchecked; 0 included."""
        states = dict(self.findings["state"].value_counts().rows()) | dict(self.mended["state"].value_counts().rows())
        return {
            "fails": int(self.findings["fails"].sum()),
            **{state: states.get(state, 0) for state in (*STATES, "mended", "unchecked")},
        }

    @property
    def headline(self) -> str:
        """One line: `passed` or `FAILED` with the number failing, then each state's count that is not 0."""
        counted = {name: count for name, count in self.counts.items() if count}
        said = ", ".join(f"{count} {name}" for name, count in counted.items() if name != "fails") or "no findings"
        word = "FAILED" if self.exit_code else "passed"
        over = f"{counted['fails']} at or over {self.rules.threshold}; " if self.exit_code else ""
        return f"{word}: {over}{said}"

    @property
    def summary(self) -> pl.DataFrame:
        """One row per check and severity, failing first: counts of failing and each state, symbols, first example."""
        names = [self.findings.select("check_name", "severity", "symbol")]
        names.append(
            self.parts.join(self.findings.select("fingerprint", "severity"), left_on="finding", right_on="fingerprint")
            .filter(pl.col("role") == "part")
            .select("check_name", pl.col("severity_right").alias("severity"), "symbol")
        )
        symbols = (
            pl.concat(names)
            .group_by("check_name", "severity")
            .agg(pl.col("symbol").drop_nulls().n_unique().alias("symbols"))
        )
        place = pl.concat_str("symbol", pl.col("session").cast(pl.String), separator=" ", ignore_nulls=True)
        states = [(pl.col("state") == state).sum().alias(state) for state in STATES]
        rank = pl.col("severity").cast(pl.Enum(SEVERITIES))
        return (
            self.findings.group_by("check_name", "severity", maintain_order=True)
            .agg(
                pl.col("fails").sum(),
                *states,
                pl.when(place == "")
                .then("message")
                .otherwise(pl.format("{}: {}", place, "message"))
                .first()
                .alias("example"),
            )
            .join(symbols, on=["check_name", "severity"], how="left", maintain_order="left")
            .select("check_name", "severity", "fails", *STATES, pl.col("symbols").fill_null(0), "example")
            .sort(pl.col("fails") == 0, rank, "check_name", maintain_order=True)
        )


@check_arguments("tables", "rules", "today", "baseline", "allowlist")
def apply_rules(
    tables: Tables,
    rules: RuleSet,
    *,
    today: dt.date,
    baseline: Baseline | None = None,
    allowlist: Sequence[Allowance] = (),
) -> Verdict:
    """Apply rules, then allow-list, baseline, budgets and threshold, in this order; return the verdict.

    Parameters
    ----------
    tables : mapping of name to DataFrame
        Of `tables.AUDIT_TABLES`; those absent are empty.
    rules : RuleSet
        From `rules.read_rules`.
    today : date
        Entries of the allow-list that end earlier have expired.
    baseline : Baseline, optional
        What is known from an earlier audit does not fail.
    allowlist : sequence of Allowance
        What is accepted for a time.
    """
    found = rule_findings(tables, rules)
    parts = tables.get("parts", empty(PARTS))
    found, notes = apply_allowlist(found, allowlist, today, parts)
    found = compare_with_baseline(found, baseline, rules)
    found = apply_budgets(found, rules)
    judged = mark_failing(found, rules)
    return Verdict(
        judged, resolved(found, baseline, tables, rules), rules, (*notes, *idle_rule_notes(tables, rules)), parts
    )


def apply_allowlist(
    found: pl.DataFrame, allowlist: Sequence[Allowance], today: dt.date, parts: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """Return (findings with `state` allowed or new, `note`; notes on entries that fit nothing or ended before `today`)."""
    found = found.with_columns(pl.lit(None, pl.String).alias("note"))
    notes = []
    for number, entry in enumerate(allowlist, 1):
        fits = entry.matches(found, parts)
        if not fits.any():
            notes.append(f"allow-list entry {number} ({entry}) fits nothing: {entry.reason}")
        elif entry.until < today:
            notes.append(
                f"allow-list entry {number} ({entry}) expired on {entry.until}, it hides nothing: {entry.reason}"
            )
        else:
            why = pl.lit(f"allowed until {entry.until}: {entry.reason}")
            is_first = pl.lit(fits) & pl.col("note").is_null()
            found = found.with_columns(pl.when(is_first).then(why).otherwise("note").alias("note"))
    state = pl.when(pl.col("note").is_null()).then(pl.lit("new")).otherwise(pl.lit("allowed"))
    return found.with_columns(state.alias("state")), notes


def compare_with_baseline(found: pl.DataFrame, baseline: Baseline | None, rules: RuleSet) -> pl.DataFrame:
    """Turn `new` into `known` where the baseline has it no worse, else note what got worse; no baseline: unchanged."""
    if baseline is None:
        return found
    with_sizes = found.join(rule_tolerances(rules), on="rule", how="left", maintain_order="left").with_columns(
        # A built-in finding whose gaps break a rule has a value of its own kind.
        (pl.col("lower_is_worse").fill_null(value=False) & (pl.col("check_name") == pl.col("name"))).alias(
            "lower_is_worse"
        ),
        pl.col("absolute").fill_null(rules.tolerance.absolute),
        pl.col("relative").fill_null(rules.tolerance.relative),
    )
    told = mark_known(with_sizes, baseline)
    is_known = pl.col("known") & (pl.col("state") == "new")
    state = pl.when(is_known).then(pl.lit("known")).otherwise("state")
    note = pl.when(is_known).then(pl.lit("in the baseline")).otherwise(pl.coalesce("note", "than"))
    return told.with_columns(state.alias("state"), note.alias("note")).select(found.columns)


def rule_tolerances(rules: RuleSet) -> pl.DataFrame:
    """Return per rule its index `rule`, `lower_is_worse` (gaps, findings: never), `absolute`, `relative` tolerance."""
    rows = [
        (
            at,
            rule.name,
            rule.condition.table not in ("gaps", "findings") and rule.condition.lower_is_worse,
            rule.tolerance.absolute,
            rule.tolerance.relative,
        )
        for at, rule in enumerate(rules.rules)
    ]
    schema = {
        "rule": pl.Int32,
        "name": pl.String,
        "lower_is_worse": pl.Boolean,
        "absolute": pl.Float64,
        "relative": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def apply_budgets(found: pl.DataFrame, rules: RuleSet) -> pl.DataFrame:
    """Turn ALL `new` findings of a rule to `tolerated` if it has <= `allow`, known ones too, allowed not; else none."""
    # What is known counts too: a budget that each baseline filled anew would have no end.
    counted = found.filter(pl.col("state") != "allowed").group_by("rule").len()
    budget = {at: rule.allow for at, rule in enumerate(rules.rules) if rule.allow}
    within = [at for at, many in counted.iter_rows() if at is not None and many <= budget.get(at, 0)]
    is_within = pl.col("rule").is_in(within).fill_null(value=False) & (pl.col("state") == "new")
    return found.with_columns(
        pl.when(is_within).then(pl.lit("tolerated")).otherwise("state").alias("state"),
        pl.when(is_within).then(pl.lit("within the rule's budget")).otherwise("note").alias("note"),
    )


def mark_failing(found: pl.DataFrame, rules: RuleSet) -> pl.DataFrame:
    """Add `fails` (`new`, at or above the threshold), set `rule` to its text; return `JUDGED`, failing first."""
    fails = (pl.col("state") == "new") & pl.col("severity").is_in(rules.failing)
    names = pl.DataFrame(
        {"rule": range(len(rules.rules)), "text": [str(rule) for rule in rules.rules]},
        schema={"rule": pl.Int32, "text": pl.String},
    )
    judged = found.with_columns(fails.alias("fails")).join(names, on="rule", how="left", maintain_order="left")
    rank = pl.col("severity").cast(pl.Enum(SEVERITIES))
    order = ["check_name", "symbol", "price_type", "interval", "session", "start_ts", "source", "message"]
    ordered = judged.sort(~pl.col("fails"), rank, *order, maintain_order=True, nulls_last=True)
    return ordered.with_columns(pl.col("text").alias("rule")).select(*JUDGED)


def resolved(found: pl.DataFrame, baseline: Baseline | None, tables: Tables, rules: RuleSet) -> pl.DataFrame:
    """Return baseline findings absent now with state `mended` or `unchecked`; without a baseline empty."""
    if baseline is None:
        return empty(GONE)
    series, files = tables.get("series", empty(SERIES)), tables.get("files", empty(FILES))
    return resolved_findings(found, baseline, series, files, [rule.name for rule in rules.rules])


def idle_rule_notes(tables: Tables, rules: RuleSet) -> list[str]:
    """Return a note per rule whose `symbols` fit no series, and per rule with gaps of unknown session hours."""
    there = tables.get("series", empty(SERIES))["symbol"]
    notes = []
    for number, rule in enumerate(rules.rules, 1):
        if rule.symbols and not matching(there, rule.symbols).any():
            notes.append(f"rule {number} ({rule_title(rule)}): no symbol is one of {', '.join(rule.symbols)}")
        if lost := count_unmeasured_gaps(tables, rule):
            notes.append(
                f"rule {number} ({rule_title(rule)}): {lost} gaps have no hours in the table sessions, and were not measured"
            )
    return notes


def rule_title(rule: Rule) -> str:
    """Return the name of a rule; for rules on findings their condition."""
    return str(rule.condition) if rule.is_about_findings else rule.name
