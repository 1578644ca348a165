"""One event is one finding: its parts, what it explains, and what rules say of the same gaps."""

from __future__ import annotations

import datetime as dt
from xml.etree import ElementTree as ET

import engine
import polars as pl
import pytest
from engine.audit.allowlist import parse_allowlist
from engine.audit.rules import parse_rules, read_rules
from engine.audit.verdict import Verdict, apply_rules
from engine.audit.verdict_formats import to_json, to_junit

from tests.runtime.test_remedy_trials import DAYS, bars

TODAY = dt.date(2024, 5, 1)
LOST = (dt.datetime(2024, 4, 10, 14, 5, tzinfo=dt.UTC), dt.datetime(2024, 4, 10, 15, 30, tzinfo=dt.UTC))


def without(rows: pl.DataFrame, span: tuple[dt.datetime, dt.datetime]) -> pl.DataFrame:
    return rows.filter(~pl.col("ts").is_between(*span, closed="left"))


@pytest.fixture(scope="module")
def outage():
    """Audit of twenty symbols that lack the same 85 minutes."""
    return engine.run_audit({f"S{n:02}": without(bars(n), LOST) for n in range(20)}, "XNYS")


@pytest.fixture(scope="module")
def one_hole():
    """Audit of four symbols, of which one lacks 85 minutes."""
    return engine.run_audit({f"S{n}": without(bars(n), LOST) if not n else bars(n) for n in range(4)}, "XNYS")


def verdict(done, rules=None) -> Verdict:
    return apply_rules(done.tables, rules or read_rules(), today=TODAY)


def test_outage_of_twenty_symbols_is_one_finding_with_twenty_parts(outage) -> None:
    (row,) = outage.tables["findings"].to_dicts()
    assert (row["check_name"], row["parts"], row["start_ts"], row["end_ts"]) == ("feed_loss", 20, *LOST)
    assert "20 symbols" in row["message"]
    parts = outage.tables["parts"]
    assert parts["finding"].unique().to_list() == [row["fingerprint"]]
    assert parts.select("symbol", "count").rows() == [(f"S{n:02}", 85) for n in range(20)]


def test_rules_on_the_gaps_of_an_outage_raise_its_finding_and_make_none(outage) -> None:
    judged = verdict(outage)
    (row,) = judged.findings.to_dicts()
    assert (row["check_name"], row["severity"], row["fails"]) == ("feed_loss", "error", True)
    assert "breaks the rule " in row["evidence"]
    assert "long loss" in row["evidence"]
    assert "adjusted quality" in row["evidence"]
    suites = [suite.get("name") for suite in ET.fromstring(to_junit(judged))]  # noqa: S314 - our own
    assert "feed_loss" in suites
    assert "S07 last 1m (85 missing bars)" in to_junit(judged).decode()
    assert to_json(judged).count(b'"role": "part"') == 20


def test_gap_of_one_symbol_has_one_finding_of_one_severity(one_hole) -> None:
    assert one_hole.tables["findings"].select("check_name", "severity", "symbol").rows() == [
        ("symbol_loss", "warning", "S0")
    ]
    (row,) = verdict(one_hole).findings.to_dicts()
    assert (row["check_name"], row["severity"], row["symbol"]) == ("symbol_loss", "error", "S0")
    assert verdict(one_hole).exit_code == 1


def test_severity_that_a_rule_on_findings_sets_stands(one_hole) -> None:
    quiet = parse_rules({
        "defaults": True, "rule": [{"table": "findings", "where": "check_name = 'symbol_loss'", "severity": "info"}],
    })  # fmt: skip
    (row,) = verdict(one_hole, quiet).findings.to_dicts()
    assert (row["check_name"], row["severity"]) == ("symbol_loss", "info")


def test_rule_speaks_for_itself_where_the_finding_is_off(one_hole) -> None:
    off = parse_rules({
        "defaults": True, "rule": [{"table": "findings", "where": "check_name = 'symbol_loss'", "severity": "off"}],
    })  # fmt: skip
    assert sorted(verdict(one_hole, off).findings["check_name"]) == ["adjusted quality", "long loss"]


def test_folder_in_the_wrong_zone_is_one_finding_that_names_what_follows_from_it() -> None:
    early = {f"S{n}": bars(n).with_columns(pl.col("ts") - pl.duration(hours=4)) for n in range(5)}
    done = engine.run_audit(early, "XNYS")
    (row,) = done.tables["findings"].to_dicts()
    assert (row["check_name"], row["parts"], row["symbol"]) == ("clock", 5, None)
    assert row["message"].startswith("5 symbols: Stamps are 4 hours early")
    assert "this explains " in row["evidence"]
    roles = done.tables["parts"].group_by("role").agg(pl.col("finding").unique())
    assert dict(roles.select("role", pl.col("finding").list.first()).iter_rows()) == dict.fromkeys(
        ("part", "consequence"), row["fingerprint"]
    )
    assert verdict(done).findings["check_name"].to_list() == ["clock"]


def test_right_series_keep_their_findings_beside_a_wrong_one() -> None:
    frames = {f"S{n}": bars(n) for n in range(4)} | {"LATE": bars(9).with_columns(pl.col("ts") + pl.duration(hours=4))}
    frames["S0"] = without(frames["S0"], LOST)
    found = engine.run_audit(frames, "XNYS").tables["findings"].filter(pl.col("severity") != "info")
    assert found.select("check_name", "symbol").rows() == [("clock", "LATE"), ("symbol_loss", "S0")]


def test_symbols_of_rules_and_lists_fit_an_event_if_all_its_parts_fit() -> None:
    early = {f"S{n}": bars(n).with_columns(pl.col("ts") - pl.duration(hours=4)) for n in range(3)}
    done = engine.run_audit(early, "XNYS")
    for pattern, count in (("S*", 0), ("S1", 1)):
        rule = {"table": "findings", "where": "check_name = 'clock'", "severity": "off", "symbols": [pattern]}
        assert verdict(done, parse_rules({"rule": [rule]})).findings.height == count
        allowed = parse_allowlist({"allow": [{"symbol": pattern, "reason": "known", "until": TODAY}]})
        judged = apply_rules(done.tables, read_rules(), today=TODAY, allowlist=allowed)
        assert judged.findings["state"].to_list() == ["new" if count else "allowed"]


def test_files_with_rows_refused_for_one_reason_are_one_finding(tmp_path) -> None:
    for number in range(4):
        rows = bars(number).with_row_index()
        swapped = pl.col("index").is_between(100, 102)
        rows.with_columns(
            pl.when(swapped).then("low").otherwise("high").alias("high"),
            pl.when(swapped).then("high").otherwise("low").alias("low"),
        ).drop("index").with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(
            tmp_path / f"S{number}.csv"
        )
    found = engine.run_audit(tmp_path, "XNYS").tables["findings"].filter(pl.col("check_name") == "refused")
    assert found.select("severity", pl.col("count").sum(), pl.col("parts")).rows()[0][:2] == ("error", 12)
    assert found["fingerprint"].n_unique() == found.height == 1


def test_rows_read_are_those_of_the_files_everywhere(tmp_path) -> None:
    twice = pl.concat([bars(0), bars(0).head(60)])
    twice.with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(tmp_path / "S0.csv")
    done = engine.run_audit(tmp_path, "XNYS")
    assert done.rows == done.tables["files"]["rows"].sum() == len(DAYS) * 390 + 60
    page = engine.write_audit(done, tmp_path / "audit").read_text(encoding="utf-8")
    assert '"rows read"' not in page
