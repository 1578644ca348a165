"""Verdicts: what fails, what a baseline knows, what is allowed for a time, what a budget tolerates."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import polars as pl
import pytest
from engine.audit.allowlist import parse_allowlist, read_allowlist
from engine.audit.baseline import parse_baseline, read_baseline
from engine.audit.rules import parse_rules
from engine.audit.verdict import JUDGED, apply_rules
from engine.audit.verdict_formats import to_json, write_verdict
from engine.errors import ParameterError
from hypothesis import given
from hypothesis import strategies as st

from tests.audit.tables import DAY, OPEN, audit, found, gap, quality, series, table

TODAY = dt.date(2024, 6, 1)
RULES = parse_rules({"rule": [{"name": "q", "table": "quality", "where": "quality < 99", "tolerance": 0.5}]})


def sessions(*values: float, symbol: str = "SPY") -> pl.DataFrame:
    return table("quality", *(quality(symbol, DAY + dt.timedelta(days=n), quality=v) for n, v in enumerate(values)))


def against(before: dict[str, pl.DataFrame], now: dict[str, pl.DataFrame], rules=RULES, **more):
    former = apply_rules(before, rules, today=TODAY, **more)
    return apply_rules(now, rules, today=TODAY, baseline=parse_baseline(json.loads(to_json(former))))


def states(verdict) -> list[str]:
    return verdict.findings.sort("fingerprint")["state"].to_list()


def test_judge_nothing_found_is_clean() -> None:
    verdict = apply_rules(audit(quality=sessions(100.0)), RULES, today=TODAY)
    assert (verdict.exit_code, verdict.findings.height, verdict.headline) == (0, 0, "passed: no findings")
    assert verdict.findings.schema == pl.Schema(JUDGED)


def test_judge_no_tables_at_all_is_clean() -> None:
    assert apply_rules({}, RULES, today=TODAY).exit_code == 0


@pytest.mark.parametrize(("threshold", "code"), [("error", 0), ("warning", 1), ("info", 1)])
def test_judge_threshold_says_which_severity_fails(threshold: str, code: int) -> None:
    rules = parse_rules(
        {"threshold": threshold, "rule": [{"table": "quality", "where": "quality < 99", "severity": "warning"}]}
    )
    verdict = apply_rules(audit(quality=sessions(90.0)), rules, today=TODAY)
    assert verdict.exit_code == code
    assert verdict.counts["new"] == 1


@pytest.mark.parametrize(("allow", "code", "expected"), [(2, 1, "new"), (3, 0, "tolerated"), (4, 0, "tolerated")])
def test_judge_budget_of_a_rule_tolerates_so_many_and_not_one_more(allow: int, code: int, expected: str) -> None:
    rules = parse_rules({"rule": [{"table": "quality", "where": "quality < 99", "allow": allow}]})
    verdict = apply_rules(audit(quality=sessions(90.0, 91.0, 92.0)), rules, today=TODAY)
    assert verdict.exit_code == code
    assert states(verdict) == [expected] * 3


def test_judge_budget_counts_what_the_baseline_knows() -> None:
    rules = parse_rules({"rule": [{"table": "quality", "where": "quality < 99", "allow": 2}]})
    verdict = against(audit(quality=sessions(90.0, 91.0)), audit(quality=sessions(90.0, 91.0, 92.0)), rules)
    assert states(verdict) == ["known", "known", "new"]
    assert verdict.exit_code == 1


def test_judge_baseline_only_what_is_new_fails_and_what_is_mended_is_said() -> None:
    verdict = against(audit(quality=sessions(90.0, 91.0)), audit(quality=sessions(90.0, 100.0, 80.0)))
    assert states(verdict) == ["known", "new"]
    assert verdict.findings.filter("fails")["value"].to_list() == [80.0]
    assert verdict.mended.select("session", "state").rows() == [(DAY + dt.timedelta(days=1), "mended")]
    assert verdict.headline == "FAILED: 1 at or over error; 1 new, 1 known, 1 mended"


@pytest.mark.parametrize(("now", "state"), [(90.0, "known"), (89.6, "known"), (89.4, "new"), (95.0, "known")])
def test_judge_known_finding_that_got_worse_by_more_than_the_tolerance_is_new(now: float, state: str) -> None:
    verdict = against(audit(quality=sessions(90.0)), audit(quality=sessions(now)))
    assert states(verdict) == [state]
    assert verdict.findings["note"][0] == ("in the baseline" if state == "known" else f"was 90.0, is {now}")


@pytest.mark.parametrize(("last", "state"), [(120, "known"), (126, "known"), (127, "new")])
def test_judge_known_gap_that_grew_is_new_beyond_five_percent(last: int, state: str) -> None:
    rules = parse_rules({"rule": [{"table": "gaps", "where": "seconds > 300"}]})
    verdict = against(audit(gaps=table("gaps", gap(0, 120))), audit(gaps=table("gaps", gap(0, last))), rules)
    assert states(verdict) == [state]


def test_judge_built_in_finding_without_a_value_is_measured_by_its_count() -> None:
    before, now = audit(findings=found(count=100)), audit(findings=found(count=106))
    assert states(against(before, now)) == ["new"]
    assert states(against(now, before)) == ["known"]


@pytest.mark.parametrize("with_value", ["before", "now"])
def test_judge_finding_with_a_value_on_one_side_only_is_told_by_its_counts(with_value: str) -> None:
    before = found(count=100, value=0.25 if with_value == "before" else None)
    now = found(count=200, value=0.25 if with_value == "now" else None)
    verdict = against(audit(findings=before), audit(findings=now))
    assert states(verdict) == ["new"]
    assert verdict.findings["note"][0] == "was 100.0, is 200.0"


def test_judge_known_finding_that_got_more_severe_is_new() -> None:
    verdict = against(audit(findings=found(severity="warning")), audit(findings=found(severity="error")))
    assert (states(verdict), verdict.exit_code) == (["new"], 1)
    assert verdict.findings["note"][0] == "was a finding of severity warning"


def test_judge_baseline_of_a_symbol_session_or_rule_not_looked_at_is_unchecked_not_mended() -> None:
    rows = pl.concat(
        [sessions(90.0, symbol="QQQ"), table("quality", quality(session=dt.date(2023, 1, 3), quality=80.0))]
    )
    both = parse_rules(
        {
            "rule": [
                {"name": "q", "table": "quality", "where": "quality < 99"},
                {"name": "z", "table": "quality", "where": "missing > 1"},
            ]
        }
    )
    before = audit(quality=pl.concat([rows, table("quality", quality(missing=5))]))
    former = apply_rules(before, both, today=TODAY)
    verdict = apply_rules(audit(), RULES, today=TODAY, baseline=parse_baseline(json.loads(to_json(former))))
    assert verdict.mended["state"].to_list() == ["unchecked"] * 3
    assert verdict.exit_code == 0


@pytest.mark.parametrize(
    ("source", "session", "state"),
    [
        ("XNYS", DAY, "mended"),
        ("XNYS", DAY - dt.timedelta(days=400), "unchecked"),
        ("XLON", DAY, "unchecked"),
        (None, DAY, "mended"),
        (None, DAY - dt.timedelta(days=400), "unchecked"),
    ],
)
def test_judge_baseline_of_an_outage_is_mended_if_its_calendar_and_session_were_looked_at(
    source, session, state
) -> None:
    before = audit(findings=found("feed_loss", symbol=None, source=source, session=session))
    assert against(before, audit()).mended["state"].to_list() == [state]


finding_lists = st.lists(
    st.tuples(
        st.sampled_from(["zone", "spike"]),
        st.sampled_from(["error", "warning", "info"]),
        st.sampled_from(["A", "<b>", "[/]", "x|y", "\x00"]),
        st.one_of(st.none(), st.floats(-1e6, 1e6)),
    ),
    max_size=12,
)


@given(finding_lists, st.lists(st.floats(0, 100), max_size=5))
def test_judge_baseline_of_itself_has_nothing_new_and_nothing_mended(rows, values) -> None:
    parts = [found(check, severity, symbol, value=value) for check, severity, symbol, value in rows]
    worst_first = sorted(parts, key=lambda one: ("error", "warning", "info").index(one["severity"][0]))
    once = pl.concat([found().clear(), *worst_first]).with_columns(pl.col("value").cast(pl.Float64))
    tables = audit(findings=once.unique("fingerprint", keep="first", maintain_order=True), quality=sessions(*values))
    verdict = against(tables, tables)
    assert set(verdict.findings["state"]) <= {"known"}
    assert verdict.mended.is_empty()
    assert verdict.exit_code == 0


def test_judge_allowed_finding_is_hidden_until_its_day_and_not_after() -> None:
    allowed = parse_allowlist(
        {"allow": [{"check_name": "q", "symbol": "S*", "session": "2024-01-*", "reason": "halted", "until": TODAY}]}
    )
    tables = audit(quality=sessions(90.0))
    verdict = apply_rules(tables, RULES, today=TODAY, allowlist=allowed)
    assert (verdict.exit_code, states(verdict)) == (0, ["allowed"])
    assert verdict.findings["note"][0] == "allowed until 2024-06-01: halted"
    late = apply_rules(tables, RULES, today=TODAY + dt.timedelta(days=1), allowlist=allowed)
    assert (late.exit_code, states(late)) == (1, ["new"])
    assert late.notes == (
        "allow-list entry 1 (check_name q, symbol S*, session 2024-01-*) expired on 2024-06-01, it hides nothing: halted",
    )


def test_judge_expired_allowance_is_no_part_of_the_baseline() -> None:
    allowed = parse_allowlist({"allow": [{"check_name": "q", "reason": "halted", "until": TODAY}]})
    tables = audit(quality=sessions(90.0))
    assert states(against(tables, tables, allowlist=allowed)) == ["new"]


def test_judge_allowance_that_fits_nothing_is_said() -> None:
    allowed = parse_allowlist({"allow": [{"symbol": "TWX", "reason": "sold", "until": TODAY}]})
    assert apply_rules(audit(), RULES, today=TODAY, allowlist=allowed).notes == (
        "allow-list entry 1 (symbol TWX) fits nothing: sold",
    )


def test_judge_fingerprint_of_an_allowance_is_taken_to_the_letter() -> None:
    tables = audit(findings=pl.concat([found("spike", "error", "[a]"), found("spike", "error", "a")]))
    mark = tables["findings"]["fingerprint"][0]
    allowed = parse_allowlist({"allow": [{"fingerprint": mark, "reason": "seen", "until": TODAY}]})
    verdict = apply_rules(tables, RULES, today=TODAY, allowlist=allowed)
    assert verdict.findings.filter(pl.col("state") == "allowed")["symbol"].to_list() == ["[a]"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"reason": "x", "until": TODAY}, "entry 1: fits everything; valid: at least one of fingerprint, check"),
        ({"symbol": "A", "until": TODAY}, "entry 1: reason: received None"),
        ({"symbol": "A", "reason": "x"}, "entry 1: until: received None; valid: a date such as"),
        ({"symbol": "A", "reason": "x", "until": "2024"}, "until: received '2024'"),
        ({"symbl": "A"}, r"unknown key 'symbl' \(did you mean 'symbol'\?\)"),
    ],
)
def test_allowed_of_mistake_names_entry_and_what_is_valid(entry: dict, told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        parse_allowlist({"allow": [entry]})


def test_read_allowed_file_with_dates_reads_them(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        '[[allow]]\nsymbol = "A"\nsession = 2024-01-02\nreason = "x"\nuntil = 2026-12-31\n'
    )
    entry = read_allowlist(tmp_path / "a.toml")[0]
    assert (entry.fits, entry.until) == ({"symbol": "A", "session": "2024-01-02"}, dt.date(2026, 12, 31))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "cannot be read"),
        (b"[]", "format: received 'list'; valid: 'session-engine audit'"),
        (b'{"format": "other"}', "format: received 'other'"),
        (b'{"format": "session-engine audit", "version": 99}', "version: received 99; valid: 2. Run the audit again"),
        (b'{"format": "session-engine audit", "version": 2}', "is damaged: KeyError 'findings'"),
        (
            b'{"format": "session-engine audit", "version": 2, "rules": [], "findings": [{"state": "new"}]}',
            "is damaged",
        ),
    ],
)
def test_read_baseline_that_is_none_says_why(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "last.json").write_bytes(content)
    with pytest.raises(ParameterError, match=told):
        read_baseline(tmp_path / "last.json")


def test_judge_rule_whose_symbols_are_not_there_is_said() -> None:
    rules = parse_rules({"rule": [{"name": "mine", "table": "quality", "where": "quality < 9", "symbols": ["XYZ*"]}]})
    assert apply_rules(audit(), rules, today=TODAY).notes == ("rule 1 (mine): no symbol is one of XYZ*",)


def test_judge_gaps_whose_session_has_no_hours_are_said() -> None:
    rules = parse_rules({"rule": [{"name": "early", "table": "gaps", "where": "in_first > 300"}]})
    tables = audit(gaps=table("gaps", gap(0, 9), gap(0, 9, segment="PRE")))
    verdict = apply_rules(tables, rules, today=TODAY)
    assert verdict.findings.height == 1
    assert verdict.notes == ("rule 1 (early): 1 gaps have no hours in the table sessions, and were not measured",)


def test_summary_counts_by_check_and_severity_with_an_example() -> None:
    tables = audit(quality=sessions(90.0, 91.0), findings=found("zone", symbol="TLT"), series=table("series", series()))
    rows = apply_rules(tables, RULES, today=TODAY).summary.to_dicts()
    assert [(row["check_name"], row["severity"], row["fails"], row["new"]) for row in rows] == [
        ("q", "error", 2, 2),
        ("zone", "warning", 0, 1),
    ]
    assert rows[0]["example"] == "SPY 2024-01-02: quality 90 (< 99)"


def test_summary_counts_no_symbol_for_findings_of_files() -> None:
    tables = audit(findings=pl.concat([found("unreadable", symbol=None, source="a.csv"), found("zone", symbol="TLT")]))
    rows = apply_rules(tables, RULES, today=TODAY).summary
    assert rows.select("check_name", "symbols").rows() == [("unreadable", 0), ("zone", 1)]


def test_write_verdict_json_round_trips_as_a_baseline_with_every_stamp(tmp_path: Path) -> None:
    fine = OPEN + dt.timedelta(microseconds=5)
    tables = audit(findings=found("spike", "error", "=cmd|' /C", start_ts=fine, session=DAY, value=float("inf")))
    verdict = apply_rules(tables, RULES, today=TODAY)
    back = read_baseline(write_verdict(verdict, "json", tmp_path / "new" / "last.json"))
    assert back.findings["start_ts"][0] == fine
    assert back.findings["fingerprint"].to_list() == verdict.findings["fingerprint"].to_list()
    assert apply_rules(tables, RULES, today=TODAY, baseline=back).exit_code == 0


def test_write_verdict_parquet_holds_the_findings(tmp_path: Path) -> None:
    verdict = apply_rules(audit(quality=sessions(90.0)), RULES, today=TODAY)
    assert pl.read_parquet(write_verdict(verdict, "parquet", tmp_path / "f.parquet")).equals(verdict.findings)


def test_write_verdict_other_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="format: received 'xls'; valid: json, junit, github, parquet"):
        write_verdict(apply_rules(audit(), RULES, today=TODAY), "xls", tmp_path / "f")
