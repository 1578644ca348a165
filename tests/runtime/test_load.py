"""From files to a store: the choice of the base, what is left out, and independence of the order of reading."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import engine
import polars as pl
import pytest
from engine.errors import IntervalError, ParameterError, SourceError
from engine.interval import Interval
from engine.runtime.load import load_files
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.run import load_options, run
from engine.sources.options import ReadOptions

from tests.runtime.live_world import bars as live_bars

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
HEADER = "ts,open,high,low,close,volume\n"


def csv(path: Path, stamps: list[dt.datetime], price: float = 10.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "".join(f"{t.isoformat()},{price},{price},{price},{price},100\n" for t in stamps))
    return path


def minutes(count: int, step: int = 1) -> list[dt.datetime]:
    return [OPEN + dt.timedelta(minutes=step * m) for m in range(count)]


def options(**more: object) -> LoadOptions:
    return LoadOptions(CalendarMap("XNYS"), **more)  # type: ignore[arg-type]


def test_load_two_resolutions_keeps_the_base_and_names_the_other(tmp_path: Path) -> None:
    csv(tmp_path / "a" / "ABC.csv", minutes(60))
    csv(tmp_path / "b" / "ABC.csv", minutes(40, 5))
    loaded = load_files([tmp_path], options())
    assert loaded.session.get_symbol_data("ABC").bars_base.height == 60
    assert any("5m left out" in note for note in loaded.notes)
    with pytest.raises(IntervalError, match="the store has 1m"):
        loaded.session.bars(interval="5m")


def test_load_with_keep_source_keeps_the_other_as_a_series_beside(tmp_path: Path) -> None:
    csv(tmp_path / "a" / "ABC.csv", minutes(60))
    csv(tmp_path / "b" / "ABC.csv", minutes(40, 5), price=77.0)
    session = engine.load(tmp_path, "XNYS", derive=["5m"], keep_source=True)
    kept = session.bars("ABC", "5m")
    assert kept.group_by("origin").len().sort("origin").rows() == [("derived", 12), ("source", 40)]
    assert kept.filter(pl.col("origin") == "derived")["close"].unique().to_list() == [10.0]


def test_load_few_bars_whose_steps_fit_their_symbol_only_take_its_interval(tmp_path: Path) -> None:
    csv(tmp_path / "1" / "ABC.csv", minutes(60))
    csv(tmp_path / "2" / "ABC.csv", [OPEN + dt.timedelta(minutes=m) for m in (3, 8, 15)], price=11.0)
    loaded = load_files([tmp_path], options())
    assert loaded.corrections == 3
    assert loaded.session.get_symbol_data("ABC").bars_base["close"].to_list().count(11.0) == 3


def test_load_few_bars_that_may_be_coarser_are_refused_and_never_enter_the_base(tmp_path: Path) -> None:
    csv(tmp_path / "1" / "ABC.csv", minutes(60))
    csv(tmp_path / "2" / "ABC.csv", [OPEN + dt.timedelta(minutes=m) for m in (0, 30)], price=11.0)
    loaded = load_files([tmp_path], options())
    assert [(Path(one.path).parent.name, "--interval" in one.reason) for one in loaded.problems] == [("2", True)]
    assert loaded.session.get_symbol_data("ABC").bars_base["close"].unique().to_list() == [10.0]
    stated = load_files([tmp_path], options(read=ReadOptions(interval=Interval.parse("1m"))))
    assert stated.corrections == 2


def test_load_few_hours_beside_minutes_are_left_out_as_hours(tmp_path: Path) -> None:
    csv(tmp_path / "1" / "ABC.csv", minutes(60))
    csv(tmp_path / "2" / "ABC.csv", minutes(7, 60), price=11.0)
    loaded = load_files([tmp_path], options())
    assert loaded.corrections == 0
    assert any("1h left out" in note for note in loaded.notes)


def test_load_one_bar_alone_is_a_problem_that_names_the_option(tmp_path: Path) -> None:
    csv(tmp_path / "ABC.csv", minutes(1))
    with pytest.raises(SourceError, match="--interval"):
        load_files([tmp_path], options())


def test_load_same_file_twice_counts_it_once(tmp_path: Path) -> None:
    csv(tmp_path / "a" / "ABC.csv", minutes(60))
    csv(tmp_path / "b" / "ABC.csv", minutes(60))
    loaded = load_files([tmp_path], options())
    assert (loaded.rows, loaded.duplicates) == (60, 0)
    assert any("same bytes as" in note for note in loaded.notes)


def test_load_later_path_corrects_earlier_one_whatever_the_order_given(tmp_path: Path) -> None:
    first = csv(tmp_path / "1" / "ABC.csv", minutes(60), price=10.0)
    second = csv(tmp_path / "2" / "ABC.csv", minutes(60), price=11.0)
    for order in ([first, second], [second, first]):
        session = load_files(order, options()).session
        assert session.get_symbol_data("ABC").bars_base["close"].unique().to_list() == [11.0]


def test_load_broken_file_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    csv(tmp_path / "ABC.csv", minutes(60))
    (tmp_path / "DEF.parquet").write_bytes(b"PAR1 and then nothing")
    loaded = load_files([tmp_path], options())
    assert [Path(p.path).name for p in loaded.problems if not p.ignored] == ["DEF.parquet"]
    assert loaded.session.get_active_symbols() == {"ABC"}


def test_load_rejected_rows_are_kept_with_line_and_reason(tmp_path: Path) -> None:
    path = csv(tmp_path / "ABC.csv", minutes(60))
    lines = path.read_text().splitlines()
    lines[10] = lines[10].replace("10.0,10.0,10.0,10.0", "10.0,9.0,11.0,10.0")
    path.write_text("\n".join(lines))
    loaded = load_files([path], options())
    refused = loaded.session.snapshot().tables()["rejects"]
    assert refused.select("source", "row").rows() == [(str(path), 11)]
    assert "high below low" in refused["reason"][0]
    assert "9.0" in refused["cells"][0]


def test_load_symbol_without_calendar_says_how_to_name_one(tmp_path: Path) -> None:
    csv(tmp_path / "ABC.csv", minutes(60))
    with pytest.raises(ParameterError, match="--calendar"):
        load_files([tmp_path], LoadOptions(CalendarMap(None)))


def test_load_with_a_calendar_map_puts_each_symbol_on_its_own(tmp_path: Path) -> None:
    csv(tmp_path / "ABC.csv", minutes(60))
    csv(tmp_path / "BTCUSD.csv", minutes(60))
    (tmp_path / "map.toml").write_text('default = "XNYS"\n[symbols]\n"BTC*" = "24/7"\n')
    chosen = CalendarMap.from_toml(tmp_path / "map.toml")
    session = engine.load([tmp_path / "ABC.csv", tmp_path / "BTCUSD.csv"], chosen, derive=["1h", "1d"])
    quality = session.quality().filter(pl.col("interval") == "1m").sort("symbol")
    assert quality["expected"].to_list() == [390, 1440]
    assert session.get_symbol_data("BTCUSD").bars("1h")["ts"][0].minute == 0
    assert session.get_symbol_data("ABC").bars("1h")["ts"][0].minute == 30


@pytest.mark.parametrize(("text", "word"), [("defualt = 'XNYS'", "defualt"), ("default = ", "map.toml")])
def test_read_calendar_map_with_a_mistake_names_it(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(ParameterError, match=word):
        CalendarMap.from_toml(tmp_path / "map.toml")


def test_load_derived_interval_that_does_not_nest_is_left_out_with_a_note(tmp_path: Path) -> None:
    csv(tmp_path / "ABC.csv", minutes(40, 5))
    loaded = load_files([tmp_path], options(derive=(Interval.parse("1m"), Interval.parse("15m"))))
    assert loaded.session.get_symbols_with_derived() == {"ABC": ["15m"]}
    assert any("1m cannot be derived from 5m" in note for note in loaded.notes)


def test_load_hour_bars_on_the_clock_start_at_the_open(tmp_path: Path) -> None:
    hours = [dt.datetime(2024, 1, d, h, tzinfo=dt.UTC) for d in (2, 3, 4, 5, 8) for h in range(14, 21)]
    csv(tmp_path / "ABC.csv", hours)
    session = engine.load(tmp_path, "XNYS", interval="1h", align="clock", timezone="America/New_York")
    view = session.get_symbol_data("ABC")
    assert view.bars_base["ts"][0] == OPEN
    assert view.bar_quality["1h"]["missing"].to_list() == [0] * 5


def test_load_header_only_file_beside_others_is_a_note(tmp_path: Path) -> None:
    csv(tmp_path / "ABC.csv", minutes(60))
    csv(tmp_path / "DEF.csv", [])
    loaded = load_files([tmp_path], options())
    assert loaded.session.get_active_symbols() == {"ABC"}
    assert any("DEF.csv: no rows" in note for note in loaded.notes)


def test_load_ticks_makes_base_bars_at_the_wanted_interval(tmp_path: Path) -> None:
    stamps = [OPEN + dt.timedelta(seconds=20 * s) for s in range(90)]
    body = "".join(f"{t.isoformat()},{10 + i % 7},{i + 1}\n" for i, t in enumerate(stamps))
    (tmp_path / "ABC.csv").write_text("ts,price,size\n" + body)
    session = engine.load(tmp_path, "XNYS", derive=["5m", "1d"])
    view = session.get_symbol_data("ABC")
    assert (view.base_interval, view.base_from, view.ticks.height) == ("1m", "ticks", 90)
    assert view.bars_base.height == 30
    assert view.bars_base["volume"].sum() == sum(range(1, 91))
    assert view.bars("5m")["trades"].to_list() == [15] * 6
    assert view.bar_quality["1m"]["missing"].to_list() == [360]
    seconds = engine.load(tmp_path, "XNYS", interval="1s", derive=["1m"])
    assert seconds.get_symbol_data("ABC").bars("1m")["close"].equals(view.bars_base["close"])


def test_load_quotes_makes_bid_ask_and_mid_bars(tmp_path: Path) -> None:
    body = "".join(
        f"{(OPEN + dt.timedelta(seconds=20 * s)).isoformat()},{10 + s % 3},{12 + s % 3}\n" for s in range(90)
    )
    (tmp_path / "EURUSD.csv").write_text("ts,bid,ask\n" + body)
    session = engine.load(tmp_path, "24/7", derive=["5m"])
    view = session.get_symbol_data("EURUSD")
    assert view.price_type == "bid"
    assert {t: view.bars("1m", t)["close"][0] for t in ("bid", "ask", "mid")} == {"bid": 12.0, "ask": 14.0, "mid": 13.0}
    assert view.quotes.height == 90
    only = engine.load(tmp_path, "24/7", derive=["5m"], price_types=("mid",))
    assert only.bars()["price_type"].unique().to_list() == ["mid"]
    assert only.get_symbol_data("EURUSD").bars("5m").equals(view.bars("5m", "mid"))


def test_load_hours_with_an_odd_stamp_beside_minutes_are_refused_and_correct_nothing(tmp_path: Path) -> None:
    hours = [OPEN + dt.timedelta(days=day, hours=hour) for day in range(3) for hour in range(6)]
    csv(tmp_path / "ABC_1m.csv", minutes(390))
    csv(tmp_path / "ABC.csv", [*hours, hours[-1] + dt.timedelta(minutes=59)], price=20.0)
    loaded = load_files([tmp_path], options())
    assert (loaded.rows, loaded.corrections) == (390, 0)
    assert ["--interval" in problem.reason for problem in loaded.problems] == [True]


@pytest.mark.parametrize(("sides", "refused"), [(["BID", " Ask "], 0), (["bid", "best"], 30), (["bid", ""], 30)])
def test_load_price_types_of_any_case_are_read_and_others_are_rejects_of_their_file(
    tmp_path: Path, sides: list[str], refused: int
) -> None:
    csv(tmp_path / "GOOD.csv", minutes(40))
    rows = [f"{stamp.isoformat()},10,10,10,10,1,{side}" for side in sides for stamp in minutes(30)]
    (tmp_path / "ABC.csv").write_text("\n".join([HEADER.strip() + ",price_type", *rows]))
    loaded = load_files([tmp_path], options())
    assert loaded.session.bars("GOOD", "1m").height == 40
    assert loaded.session.bars("ABC", "1m").height == 60 - refused
    rejects = loaded.session.snapshot().tables()["rejects"]
    assert (rejects.height, set(rejects["reason"])) == (
        refused, {"price_type: not one of last, bid, ask, mid"} if refused else set()
    )  # fmt: skip


def test_load_hive_price_type_in_capitals_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "symbol=SPY" / "price_type=BID" / "interval=1m"
    folder.mkdir(parents=True)
    csv(folder / "x.csv", minutes(30))
    assert engine.load(tmp_path, "XNYS").bars("SPY", "1m", price_type="bid").height == 30


TOKYO_DAYS = [dt.date(2024, 1, day) for day in (4, 5, 9, 10)]
BERLIN_DAYS = [
    dt.date(2024, 3, 27),
    dt.date(2024, 3, 28),
    dt.date(2024, 4, 2),
    dt.date(2024, 4, 3),
]  # over a change of clocks


@pytest.mark.parametrize("written", ["offset", "UTC", "parquet", "seconds"])
@pytest.mark.parametrize(
    ("code", "zone", "days"), [("XTKS", "Asia/Tokyo", TOKYO_DAYS), ("XETR", "Europe/Berlin", BERLIN_DAYS)]
)
def test_load_daily_bars_stamped_at_midnight_of_their_market_have_its_dates(tmp_path, written, code, zone, days):
    local = pl.Series("timestamp", days).cast(pl.Datetime("us")).dt.replace_time_zone(zone)
    stamps = {
        "offset": local.dt.to_string("%Y-%m-%d %H:%M:%S%:z"),
        "UTC": local.dt.convert_time_zone("UTC").dt.to_string("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": local.dt.epoch("s"),
        "parquet": local,
    }
    prices = (pl.Series(name, [1.0] * len(days)) for name in ("open", "high", "low", "close"))
    rows = pl.DataFrame([stamps[written], *prices])
    rows.write_parquet(tmp_path / "A_1d.parquet") if written == "parquet" else rows.write_csv(tmp_path / "A_1d.csv")
    assert engine.load(tmp_path, code).bars(interval="1d")["session"].to_list() == days


FILTERS = [
    ({}, 48, 3, 4, 4), ({"symbols": ["A"]}, 27, 3, 3, 2), ({"start": "2024-06-28"}, 24, 1, 2, 4),
    ({"symbols": ["A"], "start": "2024-06-28"}, 14, 1, 2, 2),
]  # fmt: skip


@pytest.mark.parametrize(("chosen", "rows", "duplicates", "corrections", "rejected"), FILTERS)
def test_counts_of_a_load_pass_the_filters_that_rows_pass(
    tmp_path: Path, chosen: dict[str, object], rows: int, duplicates: int, corrections: int, rejected: int
) -> None:
    day = 1440
    pl.concat([live_bars(one, [*range(10), *range(day, day + 10)]) for one in "AB"]).write_csv(tmp_path / "one_1m.csv")
    later = [
        live_bars("A", [3], 11.0), live_bars("B", [3], 11.0), live_bars("A", [day + 3], 11.0), live_bars("A", [day + 4]),
        live_bars("A", [5, 5]),
        *(live_bars(one, [minute]).with_columns(high=pl.lit(1.0)) for one, minute in (("B", day + 20), ("B", day + 21), ("A", 25))),
        live_bars("A", [day + 7, day + 7]).with_columns(close=pl.Series([10.1, 10.0]), high=pl.lit(11.0)),
    ]  # fmt: skip
    pl.concat(later).write_csv(tmp_path / "two_1m.csv")
    loaded = run([tmp_path], load_options("XNYS", **chosen)).loaded
    assert (loaded.rows, loaded.duplicates, loaded.corrections, loaded.rejected) == (
        rows,
        duplicates,
        corrections,
        rejected,
    )
    stored = loaded.session.bars().height
    conflicts = pl.concat(loaded.session.snapshot().rejects)["reason"].str.contains("conflict").sum()
    assert loaded.rows == stored + loaded.duplicates + loaded.corrections + conflicts
    quality = loaded.session.quality().filter(interval="1m")
    assert quality.select(pl.col("duplicates", "corrections").sum()).row(0) == (duplicates, corrections)
