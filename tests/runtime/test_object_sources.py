"""Sources and exports in an object store, from end to end: what a run, an audit and a live session make of them."""

from __future__ import annotations

import datetime as dt
import gzip
import pickle

import engine
import polars as pl
import pytest
from engine.arguments import location_of
from engine.calendars.providers import calendar
from engine.errors import EngineError, ParameterError, SourceError
from engine.export.dataset import open_dataset
from engine.export.tables import DATA_TABLES
from engine.grid import GridSpec, SessionGrid
from engine.runtime.auditor import audit
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.resume import Continuation
from engine.schema import BARS
from engine.simulation.sessions import Market, simulate
from engine.sources.objects import copies_of, objects_below
from engine.sources.options import ReadOptions

OPTIONS = LoadOptions(CalendarMap("XNYS"))
CSV = "ts,open,high,low,close,volume\n2024-11-04 14:30:00+00:00,1,2,1,2,5\n2024-11-04 14:31:00+00:00,1,0,1,2,5\n"


def simulated(symbols: int = 3) -> pl.DataFrame:
    """A day of minutes."""
    segments = calendar("XNYS").segments(dt.date(2024, 11, 4), dt.date(2024, 11, 4))
    return simulate(SessionGrid.build(segments, "1m", GridSpec("XNYS")), Market.of(symbols, 3)).clean.select(list(BARS))


def write(store: str, name: str, content: bytes) -> None:
    (location_of("store", store) / name).write_bytes(content)


@pytest.fixture
def bars(store, tmp_path):
    """A folder of CSV files, packed and plain, beside a readme; the same in the store."""
    folder = tmp_path / "in"
    folder.mkdir()
    for (symbol,), rows in simulated().group_by("symbol", maintain_order=True):
        text = rows.drop("symbol").write_csv().encode()
        name, content = (f"{symbol}.csv.gz", gzip.compress(text)) if symbol.endswith("1") else (f"{symbol}.csv", text)
        (folder / name).write_bytes(content)
        write(store, f"in/{name}", content)
    write(store, "in/README.txt", b"about the data")
    write(store, "in/.hidden/X.csv", b"no data")
    return folder, f"{store}/in"


def tables(target: object) -> dict[str, pl.DataFrame]:
    return {name: open_dataset(target).scan(name).collect() for name in DATA_TABLES}


def test_run_from_a_store_into_a_store_is_that_of_a_disk(bars, store, tmp_path, monkeypatch):
    here, there = bars
    monkeypatch.chdir(tmp_path)
    engine.run(there, OPTIONS, f"{store}/out")
    engine.run(here, OPTIONS, "out")
    mine, other = tables(f"{store}/out"), tables("out")
    for name in DATA_TABLES:
        left_out = [column for column in ("source",) if column in mine[name].columns]
        assert mine[name].drop(left_out).equals(other[name].drop(left_out)), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_rejects_of_objects_name_their_url(store):
    write(store, "in/A.csv", CSV.encode())
    session = engine.load(f"{store}/in", "XNYS", interval="1m")
    assert [frame["source"].to_list() for frame in session.snapshot().rejects] == [[f"{store}/in/A.csv"]]


def test_one_object_is_a_source_by_its_own_name(store):
    write(store, "A.csv", CSV.encode())
    assert engine.load(f"{store}/A.csv", "XNYS", interval="1m").get_active_symbols() == {"A"}
    assert engine.load({"SPY": f"{store}/A.csv"}, "XNYS", interval="1m").get_active_symbols() == {"SPY"}


def test_absent_objects_are_named(store):
    with pytest.raises(EngineError, match="nothing/here"):
        engine.load(f"{store}/nothing/here", "XNYS")


def test_copy_of_an_object_is_pickled_and_made_again_where_it_is_not(store):
    write(store, "A.csv", CSV.encode())
    (copy,) = copies_of(objects_below(location_of("x", f"{store}/A.csv")))
    copy.unlink()
    again = pickle.loads(pickle.dumps(copy))  # noqa: S301 - ours
    assert str(again) == f"{store}/A.csv"
    assert again.read_text() == CSV
    assert again.suffix == ".csv"


def test_audit_of_an_export_in_a_store_is_that_of_one_on_a_disk(bars, store, tmp_path):
    here, _ = bars
    for target in (f"{store}/out", tmp_path / "out"):
        engine.run(here, OPTIONS, target)
    there = audit([f"{store}/out"], OPTIONS).tables
    local = audit([tmp_path / "out"], OPTIONS).tables
    for name in ("gaps", "quality", "series", "outages"):
        left_out = [column for column in ("source",) if column in there[name].columns]
        assert there[name].drop(left_out).equals(local[name].drop(left_out)), name


def test_audit_of_text_objects_is_that_of_files(bars):
    here, there = bars
    assert audit([there], OPTIONS).tables["quality"].equals(audit([here], OPTIONS).tables["quality"])


def test_session_goes_on_from_an_export_in_a_store(bars, store):
    engine.run(bars[0], OPTIONS, f"{store}/out")
    past = Continuation.of(location_of("x", f"{store}/out"))
    assert past is not None
    assert sorted(past.symbols) == ["S0000", "S0001", "S0002"]


def test_configuration_takes_a_url_as_target_alone(store, tmp_path):
    text = {"session": {"calendar": "XNYS", "mode": "replay"}, "source": {"paths": ["in"]}}
    config = engine.SessionConfig.of({**text, "export": {"target": f"{store}/out"}}, tmp_path)
    assert config.export is not None
    assert str(config.export.target) == f"{store}/out"
    assert config.source.paths == (tmp_path / "in",)
    with pytest.raises(ParameterError, match="xyz://"):
        engine.SessionConfig.of({**text, "export": {"target": "xyz://out"}}, tmp_path)
    with pytest.raises(ParameterError, match="s3://lake/in"):
        engine.SessionConfig.of({**text, "source": {"paths": ["s3://lake/in"]}}, tmp_path)


def test_replay_exports_to_a_store_as_it_goes_on(bars, store, tmp_path):
    text = {
        "session": {"calendar": "XNYS", "mode": "replay", "start": "2024-11-04", "end": "2024-11-04"},
        "streams": {"bars": "1m"},
        "source": {"paths": [str(bars[0])]},
        "export": {"target": f"{store}/out", "every_seconds": "3h"},
    }
    engine.ReplaySession(engine.SessionConfig.of(text, tmp_path)).run()
    assert open_dataset(f"{store}/out").revision >= 3
    assert open_dataset(f"{store}/out").scan("bars").collect().height == simulated().height


def test_object_that_cannot_be_read_is_a_problem_of_its_own(store):
    write(store, "in/A.csv", CSV.encode())
    write(store, "in/B.csv", b"\x00\x01 nothing")
    options = LoadOptions(CalendarMap("XNYS"), read=ReadOptions(interval=engine.Interval.parse("1m")))
    found = engine.run(f"{store}/in", options).loaded.problems
    assert [one.path for one in found if not one.ignored] == [f"{store}/in/B.csv"]


def test_source_error_of_a_store_that_nobody_serves(store):
    with pytest.raises(SourceError, match="s3://absent/x"):
        objects_below(location_of("x", "s3://absent/x"))
