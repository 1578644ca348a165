"""One rule for names, intervals, dates and paths in every public call: each of them works, or raises an error of ours."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import engine
import pandas as pd
import polars as pl
import pytest
from engine.arguments import date_of, instant_of, names_of, path_of
from engine.errors import EngineError, IntervalError, ParameterError, UnknownSymbolError
from engine.export.cursors import read_cursor
from engine.export.delta import read_delta
from engine.export.formats.session_files import write_delta, write_files
from engine.interval import Interval, intervals_of
from engine.runtime.options import LoadOptions
from engine.sources.options import ReadOptions

from tests.runtime.live_world import HandStream, configured

STAMPS = pl.datetime_range(
    dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC), dt.datetime(2024, 1, 2, 20, 59, tzinfo=dt.UTC), "1m", eager=True
).gather([n for n in range(390) if n not in {7, 8}])
BARS = pl.DataFrame({"ts": STAMPS, "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 5.0})
FRAME = BARS.head(1)


class World(NamedTuple):
    """A store of SPY and QQQ with 1m, 5m, 1h bars, its export and its audit, and a folder for files."""

    session: engine.SessionData
    dataset: engine.Dataset
    audit: engine.Audit
    folder: Path

    def new(self) -> Path:
        return self.folder / f"new{len(list(self.folder.iterdir()))}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("arguments")
    session = engine.load({"SPY": BARS, "QQQ": BARS}, "XNYS", derive=["5m", "1h"])
    engine.export_session(session, folder / "out")
    return World(session, engine.open_dataset(folder / "out"), engine.run_audit(session, "XNYS"), folder)


def load(**options: Any) -> engine.SessionData:
    return engine.load({"SPY": BARS, "QQQ": BARS}, "XNYS", **options)


def audit(**options: Any) -> engine.Audit:
    return engine.run_audit({"SPY": BARS, "QQQ": BARS}, "XNYS", **options)


Call = Callable[[World, Any], object]
SYMBOLS: dict[str, Call] = {
    "SessionData.bars": lambda w, x: w.session.bars(x),
    "SessionData.gaps": lambda w, x: w.session.gaps(x),
    "SessionData.quality": lambda w, x: w.session.quality(x),
    "Snapshot.bars": lambda w, x: w.session.snapshot().bars(x),
    "Snapshot.gaps": lambda w, x: w.session.snapshot().gaps(x),
    "Snapshot.quality": lambda w, x: w.session.snapshot().quality(x),
    "plot_coverage": lambda w, x: engine.plot_coverage(w.session, symbols=x).to_json(),
    "plot_gaps": lambda w, x: engine.plot_gaps(w.session, symbols=x).to_json(),
    "plot_gaps of an audit": lambda w, x: engine.plot_gaps(w.audit, symbols=x).to_json(),
    "write_csv": lambda w, x: (engine.write_csv(w.dataset, out := w.new(), symbols=x), (out / "bars.csv").read_text())[1],
    "write_json": lambda w, x: pl.read_json(engine.write_json(w.dataset, w.new(), symbols=x)).select("symbols").height,
    "write_files": lambda w, x: len(write_files(w.dataset, "csv", w.new(), symbols=x)),
    "write_delta": lambda w, x: len(write_delta(w.dataset.target, read_delta(w.dataset.target, 0), w.new(), "csv", symbols=x)),
}  # fmt: skip
READ_SYMBOLS: dict[str, Call] = {
    "load": lambda w, x: load(symbols=x).bars(),
    "run_audit": lambda w, x: audit(symbols=x).tables["series"],
    "ReadOptions": lambda w, x: ReadOptions(symbols=x).symbols,
}
ONE_SYMBOL: dict[str, Call] = {
    "SessionData.get_symbol_data": lambda w, x: w.session.get_symbol_data(x),
    "SessionData.remove_symbol": lambda w, x: load().remove_symbol(x),
    "plot_candles": lambda w, x: engine.plot_candles(w.session, x),
    "plot_volume": lambda w, x: engine.plot_volume(w.session, x),
    "plot_against": lambda w, x: engine.plot_against(w.session, w.session, x),
    "SymbolSessionData": lambda w, x: engine.SymbolSessionData(x),
    "CalendarMap.of": lambda w, x: engine.CalendarMap("XNYS").of(x),
    "load symbol": lambda w, x: engine.load(BARS, "XNYS", symbol=x).bars(),
    "from_frame": lambda w, x: engine.from_frame(BARS, symbol=x),
    "LiveSession.add_symbol": lambda w, x: engine.LiveSession(configured(), HandStream()).add_symbol(x),
    "LiveSession.remove_symbol": lambda w, x: engine.LiveSession(configured(), HandStream()).remove_symbol(x),
}
INTERVALS: dict[str, Call] = {
    "SessionData.bars": lambda w, x: w.session.bars("SPY", x),
    "Snapshot.bars": lambda w, x: w.session.snapshot().bars(None, x),
    "write_csv": lambda w, x: (engine.write_csv(w.dataset, out := w.new(), intervals=x), (out / "bars.csv").read_text())[1],
}  # fmt: skip
ONE_INTERVAL: dict[str, Call] = {
    "SymbolSessionData.bars": lambda w, x: w.session.get_symbol_data("SPY").bars(x),
    "SymbolSessionData.indicator_values": lambda w, x: w.session.get_symbol_data("SPY").indicator_values(x),
    "plot_candles": lambda w, x: engine.plot_candles(w.session, "SPY", interval=x),
    "plot_volume": lambda w, x: engine.plot_volume(w.session, "SPY", interval=x),
    "plot_gaps": lambda w, x: engine.plot_gaps(w.session, interval=x),
}
NEW_INTERVALS: dict[str, Call] = {
    "load derive": lambda w, x: load(derive=x).bars(),
    "SymbolSessionData": lambda w, x: engine.SymbolSessionData("SPY", derived_intervals=x).derived_intervals,
    "derive_bars": lambda w, x: sorted(map(str, engine.derive_bars(*placed(w), x))),
}
NEW_INTERVAL: dict[str, Call] = {
    "Interval.parse": lambda w, x: Interval.parse(x),
    "load interval": lambda w, x: load(interval=x),
    "from_frame": lambda w, x: engine.from_frame(BARS, symbol="SPY", interval=x),
    "append": lambda w, x: load().append(BARS.with_columns(symbol=pl.lit("SPY")), "bars", x),
    "SessionGrid.build": lambda w, x: engine.SessionGrid.build(segments(), x, engine.GridSpec("XNYS")),
    "SymbolSessionData.key_of": lambda w, x: w.session.get_symbol_data("SPY").key_of(x),
    "SymbolSessionData.definitions_of": lambda w, x: w.session.get_symbol_data("SPY").definitions_of(x),
    "SymbolSessionData base": lambda w, x: engine.SymbolSessionData("SPY", base_interval=x),
}
PRICE_TYPES: dict[str, Call] = {
    "SessionData.bars": lambda w, x: w.session.bars("SPY", "1m", x),
    "SymbolSessionData.bars": lambda w, x: w.session.get_symbol_data("SPY").bars("1m", x),
    "load": lambda w, x: load(price_types=x).bars(),
    "SymbolSessionData": lambda w, x: engine.SymbolSessionData("SPY", price_types=x).price_types if x != [] else names_of("price_types", x),
}  # fmt: skip
ONE_PRICE_TYPE: dict[str, Call] = {
    "plot_candles": lambda w, x: engine.plot_candles(w.session, "SPY", price_type=x),
    "load": lambda w, x: load(price_type=x),
    "SymbolSessionData": lambda w, x: engine.SymbolSessionData("SPY", price_type=x or "last" if x is None else x),
}
DATES: dict[str, Call] = {
    "load start": lambda w, x: load(start=x),
    "load end": lambda w, x: load(end=x),
    "run_audit": lambda w, x: audit(start=x),
    "plot_candles": lambda w, x: engine.plot_candles(w.session, "SPY", start=x),
    "plot_coverage": lambda w, x: engine.plot_coverage(w.session, end=x),
    "plot_gaps": lambda w, x: engine.plot_gaps(w.session, end=x),
    "plot_slots": lambda w, x: engine.plot_slots(w.session, end=x),
    "plot_volume": lambda w, x: engine.plot_volume(w.session, "SPY", start=x),
    "write_csv": lambda w, x: engine.write_csv(w.dataset, w.new(), start=x),
    "write_json": lambda w, x: engine.write_json(w.dataset, w.new(), end=x),
    "SessionCalendar.segments": lambda w, x: engine.calendar("XNYS").segments(
        "2024-01-02" if x is None else x, "2024-01-05"
    ),
}
INSTANTS: dict[str, Call] = {
    "load": lambda w, x: load(as_of=x),
    "SessionData": lambda w, x: engine.SessionData(as_of=x),
    "SessionData.set_as_of": lambda w, x: load().set_as_of(x),
}
ZONES: dict[str, Call] = {
    "load": lambda w, x: load(timezone=x),
    "run_audit": lambda w, x: audit(timezone=x),
    "GridSpec": lambda w, x: engine.GridSpec("XNYS", zone="UTC" if x is None else x),
}
PATHS: dict[str, Call] = {
    "open_dataset": lambda w, x: engine.open_dataset(x),
    "connect": lambda w, x: engine.connect(x),
    "sql": lambda w, x: engine.sql(x, "SELECT 1"),
    "sql also": lambda w, x: engine.sql(w.dataset.target, "SELECT * FROM more", also={"more": x}),
    "export_session": lambda w, x: engine.export_session(load(), x),
    "write_csv": lambda w, x: engine.write_csv(w.dataset, x),
    "write_json": lambda w, x: engine.write_json(w.dataset, x),
    "write_csv source": lambda w, x: engine.write_csv(x, w.new()),
    "write_audit": lambda w, x: engine.write_audit(w.audit, x),
    "read_rules": lambda w, x: engine.read_rules(x if x is not None else 5),
    "save_plot": lambda w, x: engine.save_plot(engine.plot_candles(w.session, "SPY"), x),
    "SessionConfig.read": lambda w, x: engine.SessionConfig.read(x),
    "CalendarMap.from_toml": lambda w, x: engine.CalendarMap.from_toml(x),
    "calendar": lambda w, x: engine.calendar(x),
    "calendar overrides": lambda w, x: engine.calendar("XNYS", overrides=5 if x is None else x),
    "run_audit work": lambda w, x: audit(work=5 if x is None else x),
    "ReadOptions.from_toml": lambda w, x: ReadOptions.from_toml(x),
    "plot_candles": lambda w, x: engine.plot_candles(x),
    "read_delta": lambda w, x: read_delta(x, 0),
    "read_cursor": lambda w, x: read_cursor(x, "name"),
}


def segments() -> pl.DataFrame:
    return engine.calendar("XNYS").segments(dt.date(2024, 1, 2), dt.date(2024, 1, 2))


def placed(world: World) -> tuple[pl.DataFrame, engine.SessionGrid]:
    symbol = world.session.get_symbol_data("SPY")
    assert symbol is not None
    snapshot = world.session.snapshot()
    return snapshot.rows_of(symbol.base_key), snapshot.grid(symbol.spec, symbol.base)


def cases(calls: dict[str, Call], values: list[Any]) -> pytest.MarkDecorator:
    table = [pytest.param(call, value, id=f"{name}({value!r:.30})") for name, call in calls.items() for value in values]
    return pytest.mark.parametrize(("call", "value"), table)


NO_NAMES = [5, 1.5, b"SPY", Path("SPY"), [5], [None], [], (), set(), "", [""], {"SPY": 1}, FRAME, True]


def same(left: object, right: object) -> bool:
    return left.equals(right) if isinstance(left, pl.DataFrame) else left == right


@cases(
    SYMBOLS | READ_SYMBOLS,
    [["SPY"], ("SPY",), {"SPY"}, frozenset({"SPY"}), pl.Series(["SPY"]), pd.Index(["SPY"])],
)
def test_a_list_of_one_symbol_is_that_symbol(world: World, call: Call, value: Any) -> None:
    values = list(value)
    if hasattr(value, "__next__"):
        value = iter(values)
    assert same(call(world, values), call(world, "SPY"))


@cases(SYMBOLS | READ_SYMBOLS, [None])
def test_no_symbol_is_all_of_them(world: World, call: Call, value: None) -> None:
    assert same(call(world, None), call(world, ["QQQ", "SPY"])) or call is READ_SYMBOLS["ReadOptions"]


@cases(SYMBOLS | READ_SYMBOLS, NO_NAMES)
def test_what_is_no_name_and_no_list_of_names_is_refused(world: World, call: Call, value: Any) -> None:
    with pytest.raises(ParameterError, match=r"received .*; valid: one name as text"):
        call(world, value)


@cases(SYMBOLS, ["SPYY", "spy", ["SPY", "SPYY"]])
def test_an_unknown_symbol_is_refused_with_the_nearest(world: World, call: Call, value: Any) -> None:
    with pytest.raises(UnknownSymbolError, match=r"did you mean SPY"):
        call(world, value)


@cases(ONE_SYMBOL, [*NO_NAMES, ["SPY"]])
def test_where_one_symbol_is_meant_a_list_is_refused(world: World, call: Call, value: Any) -> None:
    with pytest.raises(ParameterError, match="received"):
        call(world, value)


@cases({name: call for name, call in ONE_SYMBOL.items() if "plot" in name}, ["SPYY"])
def test_a_plot_of_an_unknown_symbol_is_refused_with_the_nearest(world: World, call: Call, value: str) -> None:
    with pytest.raises(UnknownSymbolError, match="did you mean SPY"):
        call(world, value)


def test_get_symbol_data_of_an_unknown_symbol_is_none(world: World) -> None:
    assert world.session.get_symbol_data("SPYY") is None


NO_INTERVALS = [5, b"1h", Path("1h"), [5], [None], "", "5min", "x", {"1h": 1}, FRAME]


@cases(INTERVALS, [["1h"], ("1h",), {"1h"}, Interval(1, "h"), [Interval(1, "h")], "60m"])
def test_a_list_of_one_interval_is_that_interval(world: World, call: Call, value: Any) -> None:
    assert same(call(world, value), call(world, "1h"))


@cases(INTERVALS | ONE_INTERVAL, ["10m", Interval(10, "m")])
def test_an_interval_that_is_not_there_is_refused_with_the_nearest(world: World, call: Call, value: Any) -> None:
    with pytest.raises(ParameterError, match=r"(nearest is 5m|no gap of 10m)"):
        call(world, value)


@cases(INTERVALS | ONE_INTERVAL | NEW_INTERVALS | NEW_INTERVAL, NO_INTERVALS)
def test_what_is_no_interval_is_refused(world: World, call: Call, value: Any) -> None:
    with pytest.raises(IntervalError, match="received"):
        call(world, value)


@cases(INTERVALS, [[], ()])
def test_an_empty_list_of_intervals_is_refused_as_a_filter(world: World, call: Call, value: Any) -> None:
    with pytest.raises(IntervalError, match="received"):
        call(world, value)


@cases(NEW_INTERVALS, [["1h"], ("1h",), {"1h"}, Interval(1, "h")])
def test_one_interval_to_derive_needs_no_list(world: World, call: Call, value: Any) -> None:
    assert same(call(world, value), call(world, "1h"))


@cases(PRICE_TYPES, [["last"], ("last",), {"last"}])
def test_a_list_of_one_price_type_is_that_price_type(world: World, call: Call, value: Any) -> None:
    assert same(call(world, value), call(world, "last"))


@cases(PRICE_TYPES | ONE_PRICE_TYPE, ["lst", 5, b"last", [5], [], "", FRAME])
def test_what_is_no_price_type_is_refused(world: World, call: Call, value: Any) -> None:
    with pytest.raises(ParameterError, match="received"):
        call(world, value)


@cases(DATES, [None, "2024-01-02", dt.date(2024, 1, 2), dt.datetime(2024, 1, 2), pd.Timestamp("2024-01-02")])  # noqa: DTZ001
def test_a_date_is_text_or_a_date(world: World, call: Call, value: Any) -> None:
    call(world, value)


@cases(
    DATES,
    ["x", "2024-13-01", "02.01.2024", "", 5, [], ["2024-01-02"], dt.datetime(2024, 1, 2, 15, tzinfo=dt.UTC), FRAME],
)
def test_what_is_no_date_is_refused(world: World, call: Call, value: Any) -> None:
    with pytest.raises(ParameterError, match=r"received .*; valid: .*2024-11-18"):
        call(world, value)


@cases(INSTANTS, ["2024-01-02T20:00:00+00:00", dt.datetime(2024, 1, 2, 20, tzinfo=dt.UTC), None])
def test_an_instant_is_text_or_an_aware_datetime(world: World, call: Call, value: Any) -> None:
    call(world, value)


@cases(INSTANTS, ["x", "2024-01-02T20:00:00", dt.datetime(2024, 1, 2), dt.date(2024, 1, 2), 5, [], "", FRAME])  # noqa: DTZ001
def test_what_is_no_instant_is_refused(world: World, call: Call, value: Any) -> None:
    with pytest.raises(ParameterError, match="received"):
        call(world, value)


@cases(
    ZONES,
    [
        "UTC",
        "America/New_York",
        "UTC-05",
        zoneinfo.ZoneInfo("Europe/Berlin"),
        dt.UTC,
        dt.timezone(dt.timedelta(hours=-5)),
        None,
    ],
)
def test_a_zone_is_text_or_a_zone_object(world: World, call: Call, value: Any) -> None:
    call(world, value)


@cases(ZONES, ["New York", "EST5", 5, b"UTC", [], ["UTC"], "", FRAME])
def test_what_is_no_zone_is_refused(world: World, call: Call, value: Any) -> None:
    with pytest.raises(ParameterError, match=r"zone: received .*; valid: an IANA name"):
        call(world, value)


@cases(PATHS, [FRAME, FRAME.to_pandas(), 5, b"out", None, [], [Path("out")], "", "nowhere/at/all", {}])
def test_what_is_no_path_is_refused_where_one_is_expected(
    world: World, call: Call, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.folder)
    try:
        call(world, value)
    except EngineError as error:
        assert str(error)  # noqa: PT017 - an error of ours
        return
    assert isinstance(value, pl.DataFrame | pd.DataFrame | str) or value == {}


def test_tables_beside_an_export_may_be_frames_of_any_library(world: World) -> None:
    for more in (FRAME, FRAME.lazy(), FRAME.to_pandas(), FRAME.to_arrow()):
        assert engine.sql(world.dataset.target, "SELECT count(*) AS n FROM more", also={"more": more})[
            "n"
        ].to_list() == [1]


def test_rules_of_arguments() -> None:
    assert names_of("symbols", "SPY") == names_of("symbols", ["SPY"]) == ("SPY",)
    assert names_of("symbols", {"B", "A"}) == ("A", "B")
    assert names_of("symbols", None) is None
    assert names_of("segments", [], least=0) == ()
    assert intervals_of("derive", {"1h", "5m"}) == (Interval(5, "m"), Interval(1, "h"))
    assert date_of("start", pd.Timestamp("2024-01-02")) == dt.date(2024, 1, 2)
    assert instant_of("as_of", "2024-01-02T15:30:00-05:00") == dt.datetime(2024, 1, 2, 20, 30, tzinfo=dt.UTC)
    assert path_of("target", "out") == Path("out")


def test_path_that_is_too_long_is_an_error_of_ours():
    for call in (engine.load, engine.run_audit):
        with pytest.raises(EngineError, match="does not exist"):
            call("x" * 5000, "XNYS")


JUNK = [
    None,
    5,
    1.5,
    True,
    "",
    "x",
    [],
    ["x"],
    [5],
    {},
    b"x",
    object(),
    len,
    FRAME,
    FRAME.lazy(),
    FRAME.to_pandas(),
    Path("no"),
    STAMPS,
]
Typed = tuple[Callable[..., object], dict[str, Any]]


def typed_calls(w: World) -> dict[str, Typed]:
    """Public calls with right arguments, each of which is replaced by what has another type."""
    snapshot, grid, spec = (
        w.session.snapshot(),
        engine.SessionGrid.build(segments(), "1m", engine.GridSpec("XNYS")),
        engine.GridSpec("XNYS"),
    )
    rows, _ = placed(w)
    bars = snapshot.bars("SPY")
    store = load()
    return {
        "connect": (engine.connect, {"target": w.dataset, "revision": None}),
        "sql": (engine.sql, {"target": snapshot, "query": "SELECT 1", "revision": None, "also": None, "timeout_seconds": 5.0, "memory": "1GB", "threads": 1}),
        "open_dataset": (engine.open_dataset, {"target": w.dataset.target, "revision": None}),
        "export_session": (engine.export_session, {"session": w.session, "target": w.new(), "clock": None, "full": False}),
        "from_frame": (engine.from_frame, {"frame": bars, "options": None}),
        "reconcile": (engine.reconcile, {"a": bars, "b": bars, "tolerances": None, "limit": None, "finer": None}),
        "run": (engine.run, {"sources": bars, "options": LoadOptions(engine.CalendarMap("XNYS")), "export": None, "clock": None}),
        "LoadOptions": (LoadOptions, {"calendars": engine.CalendarMap("XNYS"), "interval": None, "keep_source": False, "as_of": None, "read": ReadOptions()}),
        "CalendarMap": (engine.CalendarMap, {"default": "XNYS", "patterns": ()}),
        "write_audit": (engine.write_audit, {"done": w.audit, "folder": w.new(), "title": "A", "verdict": None, "clock": None}),
        "apply_rules": (engine.apply_rules, {"tables": w.audit.tables, "rules": engine.read_rules(None), "today": dt.date(2024, 1, 3), "baseline": None}),
        "derive_bars": (engine.derive_bars, {"rows": rows, "grid": grid, "targets": "5m"}),
        "bars_from_trades": (engine.bars_from_trades, {"ticks": FRAME, "grid": grid}),
        "bars_from_quotes": (engine.bars_from_quotes, {"quotes": FRAME, "grid": grid, "price_type": "bid"}),
        "indicators": (engine.indicators, {"bars": bars, "selected": "sma(2)"}),
        "Indicator": (engine.Indicator, {"name": "mine", "expression": pl.col("close"), "within": "series", "lookback": None}),
        "slot_runs": (engine.slot_runs, {"rows": rows}),
        "find_gaps": (engine.find_gaps, {"expected": rows, "present": rows, "grid": grid}),
        "expected_slots": (engine.expected_slots, {"lifetimes": rows, "grid": grid, "as_of": None}),
        "quality_score": (engine.quality_score, {"expected": rows, "gaps": rows, "counts": rows, "coverage": None}),
        "conform": (engine.conform, {"raw": FRAME, "kind": "bars", "columns": {}, "source": "x"}),
        "simulate": (engine.simulate, {"grid": grid, "market": None}),
        "save_plot": (engine.save_plot, {"chart": None, "path": w.folder / "a.png"}),
        "ReplaySession": (engine.ReplaySession, {"config": None}),
        "LiveSession": (engine.LiveSession, {"config": None, "stream": None}),
        "Interval": (Interval, {"count": 1, "unit": "m"}),
        "GridSpec": (engine.GridSpec, {"calendar": "XNYS", "segments": (), "align": "session", "zone": "UTC"}),
        "SessionGrid.build": (engine.SessionGrid.build, {"segments": segments(), "interval": "1m", "spec": spec}),
        "SessionGrid.at": (grid.at, {"interval": Interval(5, "m")}),
        "SessionGrid.due": (grid.due, {"as_of": None}),
        "SessionGrid.place": (grid.place, {"ts": STAMPS}),
        "SessionGrid.from_stamps": (grid.from_stamps, {"ts": STAMPS, "stamp": "start"}),
        "SessionData": (engine.SessionData, {"as_of": None, "incomplete": "flag", "calendars": None}),
        "SymbolSessionData": (engine.SymbolSessionData, {"symbol": "A", "calendar": "XNYS", "align": "session", "zone": "UTC", "base_from": "bars"}),
        "append": (store.append, {"rows": bars, "kind": "bars", "interval": "1m", "stamp": "start", "spec": None, "dates": (None, None)}),
        "add_rejects": (store.add_rejects, {"rejects": pl.DataFrame()}),
        "add_files": (store.add_files, {"marks": []}),
        "changes": (store.changes, {"since": 0}),
        "mark_exported": (store.mark_exported, {"revision": 0}),
        "wait_for_revision": (store.wait_for_revision, {"revision": 0, "seconds": 0.0}),
        "set_streams": (store.set_streams, {"streams": [], "active": False}),
        "session calendar": (store.calendar, {"code": "XNYS"}),
        "Dataset.scan": (w.dataset.scan, {"table": "bars"}),
        "check_labels": (engine.calendar("XNYS").check_labels, {"labels": ["RTH"]}),
        "plot_coverage": (engine.plot_coverage, {"source": w.session, "of": "quality", "theme": "both"}),
        "plot_slots": (engine.plot_slots, {"source": w.session, "of": "missing", "theme": "both"}),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_public_calls_answer_or_raise_an_error_of_ours_whatever_they_are_given(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.new().parent)  # a text is a path in some of these calls
    strange = []
    for name, (call, right) in typed_calls(world).items():
        for parameter in right:
            for value in JUNK:
                try:
                    call(**{**right, parameter: value})
                except EngineError:
                    continue
                except Exception as error:  # noqa: BLE001 - whatever else is raised is what the test looks for
                    strange.append(f"{name}({parameter}={value!r:.30}): {type(error).__name__}: {error!s:.60}")
    assert not strange, "\n".join(strange)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda w: engine.sql(w.session, 5), "query: received 5; valid: text"),
        (lambda w: engine.sql(w.audit, "SELECT 1"), "its `tables` are such a mapping"),
        (lambda w: engine.open_dataset(w.dataset.target, 1.5), "revision: received 1.5; valid: a whole number"),
        (lambda w: engine.run(BARS, "XNYS"), "options: received 'XNYS'; valid: a LoadOptions"),
        (lambda w: engine.find_gaps(FRAME, FRAME, "XNYS"), "grid: received 'XNYS'; valid: a SessionGrid"),
        (lambda w: engine.slot_runs(FRAME.to_pandas()), "rows: received a DataFrame; valid: a polars DataFrame"),
        (lambda w: engine.slot_runs(FRAME), r"slot_runs: .*not found.*received rows \(ts, open, high"),
        (lambda w: engine.GridSpec("XNYS", align="sesion"), r"align: received 'sesion' \(did you mean session\?\); valid: session"),
        (lambda w: engine.export_session(w.session.snapshot(), w.new()), "session: received a Snapshot; valid: a SessionData"),
        (lambda w: w.session.register_symbol_data("SPY"), "symbols: received 'SPY'; valid: a SymbolSessionData"),
        (lambda w: w.session.append(BARS, "bar", "1m"), r"kind: received 'bar' \(did you mean bars\?\)"),
    ],
)  # fmt: skip
def test_arguments_of_another_type_are_named_with_the_valid_one(world: World, call: Call, told: str) -> None:
    with pytest.raises(EngineError, match=told):
        call(world)
