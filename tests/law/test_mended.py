"""Each way in which the same rows were seen to give different answers, alone."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from functools import partial
from pathlib import Path

import engine
import polars as pl
import pytest
from engine.runtime import audit_report, auditor, parquet_scan
from engine.runtime.audit_report import BarsReader, bars_of, with_strips, write_audit
from engine.runtime.auditor import audit
from engine.runtime.config import SessionConfig
from engine.runtime.deployments import ReplaySession
from engine.runtime.executor import ProcessExecutor, SerialExecutor
from engine.runtime.options import CalendarMap, LoadOptions

from tests.law import market, tables

OPTIONS = LoadOptions(CalendarMap(None, tuple(market.CALENDARS.items())))
NIGHT = dt.datetime(2024, 4, 1, tzinfo=dt.UTC)


class FixedClock:
    def now(self) -> dt.datetime:
        return NIGHT


def stream_all(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(auditor, "LARGE_BYTES", 1)
    monkeypatch.setattr(parquet_scan, "ROWS_PER_RANGE", rows)


def test_audit_of_a_large_file_refuses_and_reports_what_a_small_one_does(tmp_path: Path, monkeypatch) -> None:
    small = audit([market.write(tmp_path / "a", market.uncut, "parquet")], OPTIONS)
    stream_all(monkeypatch, 1 << 21)
    large = audit([tmp_path / "a"], OPTIONS)
    checks = [
        done.tables["findings"].group_by("check_name", "severity").len().sort("check_name", "severity")
        for done in (small, large)
    ]
    assert checks[0].equals(checks[1])
    assert tables.exit_code(small) == tables.exit_code(large) == 1
    assert large.tables["quality"]["session"].max() == market.SESSIONS[-1]  # not 2250


def two_resolutions(folder: Path) -> Path:
    folder.mkdir()
    bars = [row for row in market.rows() if row["symbol"] == "XBT" and row["ts"]][:1000]
    coarse = [row for row in bars if row["ts"].minute % 5 == 0 and row["ts"].second == 0]
    (folder / "XBT_1m.csv").write_bytes(market.csv_bytes(bars))
    (folder / "XBT_5m.csv").write_bytes(market.csv_bytes(coarse))
    return folder


def test_base_of_a_folder_with_two_resolutions_is_the_same_in_run_replay_and_audit(tmp_path: Path) -> None:
    folder = two_resolutions(tmp_path / "xbt")
    ran = engine.load(folder, "24/7", derive=["15m"])
    config = SessionConfig.of({
        "session": {"calendar": "24/7", "start": "2024-03-04", "end": "2024-03-04"},
        "source": {"paths": [str(folder)]}, "derive": ["15m"], "replay": {"step_seconds": 86_400},
    })  # fmt: skip
    replayed = ReplaySession(config).run()
    audited = engine.run_audit(folder, "24/7")
    bases = {session.get_symbol_data("XBT").base_interval for session in (ran, replayed)}
    assert bases | set(audited.tables["series"]["interval"]) == {"1m"}
    assert (
        ran.bars(interval="15m")
        .drop("revision", strict=False)
        .equals(replayed.bars(interval="15m").drop("revision", strict=False))
    )


def test_conflicts_of_a_removed_symbol_leave_an_incremental_export_as_a_full_one(tmp_path: Path) -> None:
    session = engine.SessionData(store_id="law")
    session.register_symbol_data(
        *(engine.SymbolSessionData(name, "24/7", base_interval="1m") for name in ("XBT", "XET"))
    )
    rows = market.frame(
        row for row in market.rows() if row["symbol"] in ("XBT", "XET") and row["ts"] and row["ts"].year == 2024
    )
    batch = engine.from_frame(rows, interval="1m").frame
    session.append(batch, "bars", "1m")
    twin = batch.filter(pl.col("symbol") == "XET").head(1)
    session.append(pl.concat([twin.with_columns(pl.col("volume") + 1), twin]), "bars", "1m")
    engine.export_session(session, tmp_path / "out")
    assert session.snapshot().tables()["rejects"].height == 2
    session.remove_symbol("XET")
    engine.export_session(session, tmp_path / "out")
    engine.export_session(session, tmp_path / "full", full=True)
    left, full = (engine.open_dataset(tmp_path / name).scan("rejects").collect() for name in ("out", "full"))
    assert left.drop("revision").equals(full.drop("revision"))
    assert left["cells"].str.contains("XBT").to_list() == [True]
    later = batch.filter(pl.col("symbol") == "XBT").head(1)
    session.append(pl.concat([later.with_columns(pl.col("volume") + 1), later]), "bars", "1m")
    engine.export_session(session, tmp_path / "out")
    assert engine.open_dataset(tmp_path / "out").scan("rejects").collect().height == 2


def test_report_is_the_same_to_the_byte_with_another_executor(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(auditor, "BYTES_PER_TASK", 300_000)
    folder = market.write(tmp_path / "files", market.by_symbol, "csv")
    texts = []
    for number, executor in enumerate((SerialExecutor(), ProcessExecutor(2))):
        done = audit([folder], OPTIONS, executor=executor, strips=True)
        texts.append(write_audit(done, tmp_path / str(number), clock=FixedClock()).read_bytes())
    assert texts[0] == texts[1]


def test_strips_of_gaps_that_tie_are_chosen_whatever_the_order_of_the_gaps(tmp_path: Path, monkeypatch) -> None:
    # Two price types of each symbol, so that their gaps of one outage tie.
    rows = market.frame(row for row in market.rows() if row["symbol"] in ("AAA", "BBB") and row["ts"])
    sides = pl.concat([rows.with_columns(pl.lit(side).alias("price_type")) for side in ("bid", "ask")])
    sides.write_parquet(tmp_path / "bars.parquet")
    session = engine.load(tmp_path / "bars.parquet", OPTIONS.calendars, interval="1m")
    done = engine.run_audit(session, OPTIONS.calendars)
    holder = BarsReader(frozenset({"AAA", "BBB"}), partial(bars_of, session.snapshot()))
    monkeypatch.setattr(audit_report, "MOST_STRIPS", 3)
    turned = replace(done, tables={**done.tables, "gaps": done.tables["gaps"].reverse()})
    strips = [with_strips(one, [holder]).tables["strips"] for one in (done, turned)]
    assert strips[0].height
    assert strips[0].equals(strips[1])


@pytest.mark.parametrize("large", [False, True])
def test_audit_of_a_copy_counts_no_row_twice_in_whatever_task_it_is(tmp_path: Path, monkeypatch, large: bool) -> None:
    folder = market.write(tmp_path / "one", market.uncut, "parquet")
    alone = audit([folder], OPTIONS)
    (folder / "bars_copy_of_it.parquet").write_bytes((folder / "bars.parquet").read_bytes())
    monkeypatch.setattr(auditor, "BYTES_PER_TASK", 1)
    if large:
        stream_all(monkeypatch, 4000)
    both = audit([folder], OPTIONS)
    assert tables.differences(tables.of_audit(alone), tables.of_audit(both)) == []
    assert both.tables["files"].select("rows", "problem").sort("rows").rows()[0] == (0, None)


def test_base_is_one_where_the_resolutions_of_a_symbol_are_in_several_tasks(tmp_path: Path, monkeypatch) -> None:
    folder = two_resolutions(tmp_path / "xbt")
    together = audit([folder], OPTIONS)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"part_{number}_untold.csv")
    monkeypatch.setattr(auditor, "BYTES_PER_TASK", 1)
    apart = audit([folder], OPTIONS)
    assert apart.tables["series"]["interval"].to_list() == ["1m"]
    assert tables.differences(tables.of_audit(together), tables.of_audit(apart)) == []


def with_shared_keys(folder: Path) -> Path:
    """Two files in which keys stand twice far apart, with the same values or others; names tell no symbol."""
    folder.mkdir()
    rows = market.rows()
    again = [row | {"close": row["open"], "volume": row["volume"] + 1} for row in rows[500:520] if row["ts"]]
    same = [dict(row) for row in rows[600:610] if row["ts"]]
    market.frame([*rows, *again, *same]).write_parquet(folder / "bars.parquet", row_group_size=700)
    return folder


def test_audit_of_keys_that_two_row_ranges_share_tells_conflicts_from_duplicates(tmp_path: Path, monkeypatch) -> None:
    folder = with_shared_keys(tmp_path / "bars")
    whole = audit([folder], OPTIONS)
    stream_all(monkeypatch, 1400)
    cut = audit([folder], OPTIONS)
    assert tables.differences(tables.of_audit(whole), tables.of_audit(cut)) == []
    assert tables.exit_code(whole) == tables.exit_code(cut)
    found = cut.tables["findings"].filter(pl.col("check_name") == "conflict")
    assert (
        found["count"].sum() == whole.tables["findings"].filter(pl.col("check_name") == "conflict")["count"].sum() > 20
    )


@pytest.mark.parametrize("workers", [None, 2])
def test_audit_of_keys_that_two_tasks_of_files_share_tells_corrections_from_duplicates(
    tmp_path: Path, monkeypatch, workers: int | None
) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    rows = [row for row in market.rows() if row["ts"]]
    again = [row | {"close": row["open"], "volume": row["volume"] + 1} for row in rows[500:520]]
    (folder / "bars_1.csv").write_bytes(market.csv_bytes(rows))
    (folder / "bars_2.csv").write_bytes(market.csv_bytes([*again, *rows[600:610]]))
    whole = audit([folder], OPTIONS)
    monkeypatch.setattr(auditor, "BYTES_PER_TASK", 1)
    cut = audit([folder], OPTIONS, executor=ProcessExecutor(2) if workers else None)
    assert tables.differences(tables.of_audit(whole), tables.of_audit(cut)) == []
    assert whole.tables["quality"]["corrections"].sum() >= 20
