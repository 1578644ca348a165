"""The registry: a check is one class; audits, their workers and resumed ones run what is registered."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path

import engine
import polars as pl
import pytest
from engine.checks.check import Check, added_checks, fingerprint, register, registered, unregister
from engine.checks.findings import SEVERITIES, findings
from engine.errors import SchemaError

from tests.checks.feeds import market
from tests.checks.round_volume import RoundVolumeCheck

JUNE = dt.date(2024, 6, 3), dt.date(2024, 6, 5)
DOCS = Path(__file__).parents[2] / "docs" / "checks.md"


@pytest.fixture
def round_volume() -> Iterator[type[RoundVolumeCheck]]:
    yield register(RoundVolumeCheck)
    unregister(RoundVolumeCheck.name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    feed = market("XNYS", *JUNE)
    rows = feed.rows.join(feed.series, on="series").select("symbol", "ts", "open", "high", "low", "close", "volume")
    lots = rows.with_columns(pl.when(pl.col("symbol") == "LIQ").then(pl.col("volume") * 100).otherwise("volume"))
    for (symbol,), part in lots.group_by("symbol", maintain_order=True):
        part.write_parquet(tmp_path / f"{symbol}.parquet")
    return tmp_path


def round_series(done: engine.Audit) -> list[str]:
    return done.tables["findings"].filter(pl.col("check_name") == "round_volume")["symbol"].to_list()


@pytest.mark.parametrize("workers", [None, 2])
def test_audit_runs_a_registered_check_here_and_in_workers(folder, round_volume, workers, monkeypatch) -> None:
    monkeypatch.setattr("engine.runtime.auditor.BYTES_PER_TASK", 1)  # a task per symbol
    assert added_checks() == (RoundVolumeCheck,)
    assert round_series(engine.run_audit(folder, "XNYS", workers=workers)) == ["LIQ"]


def test_audit_resumed_after_a_check_was_added_or_changed_measures_anew(folder, tmp_path, monkeypatch) -> None:
    work = tmp_path / "work"
    sources = sorted(folder.glob("*.parquet"))
    assert round_series(engine.run_audit(sources, "XNYS", work=work)) == []
    assert (len(list(work.iterdir())), added_checks()) == (1, ())
    register(RoundVolumeCheck)
    try:
        assert round_series(engine.run_audit(sources, "XNYS", work=work)) == ["LIQ"]
        assert len(list(work.iterdir())) == 2
        engine.run_audit(sources, "XNYS", work=work)
        assert len(list(work.iterdir())) == 2
        monkeypatch.setattr(RoundVolumeCheck, "version", 2)
        engine.run_audit(sources, "XNYS", work=work)
        assert len(list(work.iterdir())) == 3
    finally:
        unregister(RoundVolumeCheck.name)


def test_fingerprint_of_the_same_checks_is_the_same(round_volume) -> None:
    with_it = fingerprint()
    assert with_it == fingerprint()
    unregister(round_volume.name)
    assert with_it != fingerprint()
    register(round_volume)
    assert with_it == fingerprint()


def test_register_refuses_a_name_twice_and_a_severity_that_is_none() -> None:
    assert "spike" in {check.name for check in registered(Check)}  # which imports them, whatever ran before

    class Other(RoundVolumeCheck):
        name = "spike"

    class Fatal(RoundVolumeCheck):
        severities = ("fatal",)

    with pytest.raises(SchemaError, match="check 'spike': SpikeCheck has this name; valid: a name of its own"):
        register(Other)
    with pytest.raises(SchemaError, match=r"severities \('fatal',\); valid: any of error, warning, info"):
        register(Fatal)


def test_checked_findings_of_another_name_or_severity_are_refused() -> None:
    check = RoundVolumeCheck()
    said = {"check_name": "round_volume", "severity": "info", "message": "m"}
    assert check.checked(findings(pl.DataFrame([said]))).height == 1
    for wrong in ({"check_name": "spike"}, {"severity": "error"}):
        with pytest.raises(SchemaError, match="check 'round_volume': received findings named"):
            check.checked(findings(pl.DataFrame([said | wrong])))


def test_documented_checks_are_the_registered_ones_with_their_severities() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([a-z, ]+) \|", DOCS.read_text(), re.MULTILINE)
    told = {
        name: tuple(word for word in SEVERITIES if word in severities)
        for names, severities in rows
        for name in re.findall(r"`(\w+)`", names)
        if name not in SEVERITIES
    }
    assert told == {check.name: check.severities for check in registered(Check)}


def test_findings_without_a_severity_are_refused() -> None:
    rows = pl.DataFrame({"check_name": "a", "severity": pl.Series([None], dtype=pl.String), "message": "m"})
    with pytest.raises(SchemaError, match="severity None; valid: error, warning, info"):
        findings(rows)
