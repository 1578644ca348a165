"""The same rows give the same tables, findings and exit code.

However they are cut into files, in whatever format and size these are, read by whichever entry point, with any number of
workers and any executor. `tables` says what may differ; `market` makes the rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import engine
import polars as pl
import pytest
from engine.cli import main
from engine.interval import Interval
from engine.runtime import auditor, parquet_scan
from engine.runtime.auditor import audit
from engine.runtime.config import SessionConfig
from engine.runtime.deployments import ReplaySession
from engine.runtime.executor import DaskExecutor, ProcessExecutor, SerialExecutor
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.partitioned_run import run_partitioned
from engine.runtime.run import run
from engine.sources.read import read
from engine.sources.scan import scan

from tests.law import market, tables

CALENDARS = CalendarMap(None, tuple(market.CALENDARS.items()))
OPTIONS = LoadOptions(CALENDARS, derive=(Interval.parse("15m"),))
AUDITED = LoadOptions(CALENDARS, keep_source=True)
FORMS = ("csv", "gzip", "ndjson", "parquet", "text")
PRODUCT = [(cut, form) for cut in market.CUTS for form in FORMS]
ALWAYS = [("symbol", "csv"), ("day", "gzip"), ("random", "ndjson"), ("one", "parquet"), ("day", "text")]
EXECUTORS = {
    0: SerialExecutor,
    1: lambda: ProcessExecutor(1),
    2: lambda: ProcessExecutor(2),
    "dask": lambda: DaskExecutor("local", 2),
}


def cases(always: list[tuple[str, str]], product: list[tuple[str, str]]) -> list[object]:
    slow = [pytest.param(*one, marks=pytest.mark.slow) for one in product if one not in always]
    return [*always, *slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """Folders of files, each written once."""
    root, written = tmp_path_factory.mktemp("law"), {}

    def make(cut: str, form: str) -> Path:
        if (cut, form) not in written:
            written[cut, form] = market.write(root / f"{cut}_{form}", market.CUTS[cut], form)
        return written[cut, form]

    return make


@pytest.fixture(scope="module")
def stored(folder) -> tables.Tables:
    """Tables of the main job over one file per symbol."""
    return tables.of_store(run([folder("symbol", "csv")], OPTIONS).session.snapshot().tables())


@pytest.fixture(scope="module")
def audited(folder):
    """The audit of one file per symbol."""
    return audit([folder("symbol", "csv")], AUDITED)


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request, monkeypatch) -> bool:
    """Whether Parquet files are surveyed a few rows at a time, as large ones are."""
    if request.param:
        monkeypatch.setattr(auditor, "LARGE_BYTES", 1)
        monkeypatch.setattr(parquet_scan, "ROWS_PER_RANGE", 4000)
    return request.param


def exit_code(*words: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["engine", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def calendar_map(folder: Path) -> Path:
    path = folder / "calendars.toml"
    path.write_text("[symbols]\n" + "".join(f'{name} = "{code}"\n' for name, code in market.CALENDARS.items()))
    return path


def test_rows_hold_what_was_planted(stored, audited) -> None:
    reasons = stored["rejects"]["reason"].value_counts().sort("reason").rows()
    assert [(reason.split(":")[0], count) for reason, count in reasons] == [
        ("conflict", 13), ("high below low; open outside low..high; close outside low..high", 1),
        ("open", 1), ("trades", 1), ("ts", 1), ("ts", 1),
    ]  # fmt: skip
    quality = stored["quality"].filter(pl.col("interval") == "1m")
    assert {name: quality[name].sum() for name in ("duplicates", "off_grid", "out_of_session")} == {
        "duplicates": 1, "off_grid": 1, "out_of_session": 1,
    }  # fmt: skip
    assert quality["missing"].sum() == 7 + 25 + 12 + 1440 + 2 * 30 + 4
    assert tables.exit_code(audited) == 1
    filled = audited.tables["quality"].filter(pl.col("filled") > 0)
    told = ("symbol", "session", "filled", "missing", "quality", "quality_adjusted")
    assert filled.select(told).rows() == [
        ("XBT", market.SESSIONS[1], 45, 1, 100 * 1439 / 1440, 100 * (1439 - 45) / 1440)
    ]


@pytest.mark.parametrize(("cut", "form"), cases(ALWAYS[1:], PRODUCT))
def test_run_gives_the_same_tables(folder, stored, cut: str, form: str) -> None:
    done = run([folder(cut, form)], OPTIONS)
    assert tables.differences(stored, tables.of_store(done.session.snapshot().tables())) == []


@pytest.mark.parametrize(("cut", "form"), cases([("random", "parquet")], PRODUCT))
def test_load_gives_the_same_tables(folder, stored, cut: str, form: str) -> None:
    session = engine.load(folder(cut, form), CALENDARS, derive=["15m"])
    assert tables.differences(stored, tables.of_store(session.snapshot().tables())) == []


@pytest.mark.parametrize(("cut", "form"), cases([("symbol", "csv"), ("one", "parquet")], PRODUCT))
def test_replay_gives_the_same_tables(folder, stored, cut: str, form: str) -> None:
    config = SessionConfig.of({
        "session": {"calendars": market.CALENDARS, "start": str(market.SESSIONS[0]), "end": str(market.SESSIONS[-1])},
        "source": {"paths": [str(folder(cut, form))]},
        "derive": ["15m"],
        "replay": {"step_seconds": 86_400},
    })  # fmt: skip
    replayed = ReplaySession(config).run()
    assert tables.differences(stored, tables.of_store(replayed.snapshot().tables())) == []


@pytest.mark.parametrize("cut", market.CUTS)
def test_frame_gives_the_same_rows(folder, cut: str) -> None:
    files, _ = scan([folder("one", "csv")])
    [wanted] = read(files[0])
    batches = [engine.from_frame(market.frame(part), interval="1m") for part in market.parts(market.CUTS[cut]).values()]
    good = pl.concat([one.frame for one in batches]).drop("row").sort(pl.all())
    assert good.equals(wanted.frame.drop("row").sort(pl.all()))
    bad = pl.concat([one.rejects for one in batches])
    assert tables.rejects(bad).equals(tables.rejects(wanted.rejects))


@pytest.mark.parametrize(("cut", "form"), cases(ALWAYS[1:4], PRODUCT))
def test_audit_gives_the_same_tables(folder, audited, streamed, cut: str, form: str) -> None:
    if streamed and form not in ("parquet", "text"):
        pytest.skip("only Parquet is streamed")
    done = audit([folder(cut, form)], AUDITED)
    assert tables.differences(tables.of_audit(audited), tables.of_audit(done)) == []
    assert tables.exit_code(done) == tables.exit_code(audited)
    assert done.rows == audited.rows


@pytest.mark.parametrize("form", ["parquet", "text"])
@pytest.mark.parametrize("cut", market.CUTS)
def test_audit_streams_the_same_tables(folder, audited, monkeypatch, cut: str, form: str) -> None:
    monkeypatch.setattr(auditor, "LARGE_BYTES", 1)
    monkeypatch.setattr(parquet_scan, "ROWS_PER_RANGE", 4000)
    done = audit([folder(cut, form)], AUDITED)
    assert tables.differences(tables.of_audit(audited), tables.of_audit(done)) == []
    assert tables.exit_code(done) == tables.exit_code(audited)


def whole_gaps(gaps: pl.DataFrame) -> pl.DataFrame:
    """Gaps with the parts joined that an audit cut where the cause changes."""
    series = ["symbol", "price_type", "interval", "session", "segment"]
    parts = gaps.select(tables.BASE_GAP).sort(tables.BASE_GAP)
    begins = (pl.col("gap_start") != pl.col("gap_end").shift().over(series)).fill_null(value=True)
    joined = parts.with_columns(begins.cum_sum().alias("run")).group_by(*series, "run", maintain_order=True)
    whole = joined.agg(
        pl.col("gap_start").first(), pl.col("gap_end").last(), pl.col("bar_count").sum(), pl.col("position").first()
    )
    return whole.select(tables.BASE_GAP).sort(tables.BASE_GAP)


def test_audit_agrees_with_run(stored, audited) -> None:
    gaps = whole_gaps(tables.of_audit(audited)["gaps"])
    base = stored["gaps"].filter(pl.col("interval") == "1m").select(tables.BASE_GAP).sort(tables.BASE_GAP)
    assert tables.differences({"gaps": base}, {"gaps": gaps}) == []
    judged = [*tables.BASE_QUALITY, *tables.COUNTED]
    base = stored["quality"].filter(pl.col("interval") == "1m").select(judged).sort(judged)
    assert (
        tables.differences(
            {"quality": base}, {"quality": tables.of_audit(audited)["quality"].select(judged).sort(judged)}
        )
        == []
    )


@pytest.mark.parametrize(
    "workers", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param("dask", marks=pytest.mark.slow)]
)
def test_workers_give_the_same_tables(folder, stored, audited, monkeypatch, tmp_path: Path, workers) -> None:
    monkeypatch.setattr(auditor, "BYTES_PER_TASK", 300_000)
    where = EXECUTORS[workers]()
    with where.open_pool() as kept:
        done = audit([folder("symbol", "csv")], AUDITED, executor=kept)
        outcome = run_partitioned([folder("symbol", "csv")], OPTIONS, tmp_path / "out", kept)
    assert tables.differences(tables.of_audit(audited), tables.of_audit(done)) == []
    assert tables.exit_code(done) == tables.exit_code(audited)
    exported = {
        name: outcome.dataset.scan(name).collect() for name in ("bars", "gaps", "quality", "rejects", "symbols")
    }
    assert tables.differences(stored, tables.of_store(exported)) == []


def test_export_holds_and_audits_as_the_same_tables(folder, stored, audited, tmp_path: Path) -> None:
    run([folder("one", "parquet")], OPTIONS, tmp_path / "out")
    dataset = engine.open_dataset(tmp_path / "out")
    exported = {name: dataset.scan(name).collect() for name in ("bars", "gaps", "quality", "rejects", "symbols")}
    assert tables.differences(stored, tables.of_store(exported)) == []
    done = engine.run_audit(tmp_path / "out")
    assert tables.differences(tables.of_audit(audited), tables.of_audit(done)) == []
    assert tables.exit_code(done) == tables.exit_code(audited)


def test_commands_end_with_the_same_exit_code(folder, monkeypatch, tmp_path: Path, capsys) -> None:
    known = calendar_map(tmp_path)
    sources = [folder("day", "csv"), folder("one", "parquet")]
    runs = {
        exit_code("run", one, "--calendar-map", known, "--derive", "15m", monkeypatch=monkeypatch) for one in sources
    }
    audits = {exit_code("audit", one, "--calendar-map", known, monkeypatch=monkeypatch) for one in sources}
    assert (runs, audits) == ({0}, {1})
