"""Situations in which the store, the kernels or the loader once gave a wrong answer, each with what is right."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from engine.calendars.providers import DATA
from engine.derive.bars import derive
from engine.errors import EngineError, ParameterError, SchemaError
from engine.grid import GridSpec
from engine.interval import Interval
from engine.runtime import quality_manager
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.runtime.run import run
from engine.schema import BARS, TICKS, conform
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)  # XNYS, a Tuesday
DAY = 24 * 60


def bars_at(symbol: str, stamps: list[dt.datetime], close: float = 10.0) -> pl.DataFrame:
    rows = {"symbol": symbol, "price_type": "last", "ts": stamps, "volume": 100.0, "size": None, "vwap": close, "trades": 1,
            **dict.fromkeys(("open", "high", "low", "close"), close)}  # fmt: skip
    return pl.DataFrame(rows).select(pl.col(name).cast(dtype) for name, dtype in BARS.items())


def bars(symbol: str, minutes: list[int], close: float = 10.0) -> pl.DataFrame:
    return bars_at(symbol, [OPEN + dt.timedelta(minutes=m) for m in minutes], close)


def ticks(symbol: str, seconds: list[int]) -> pl.DataFrame:
    rows = {"symbol": symbol, "ts": [OPEN + dt.timedelta(seconds=s) for s in seconds], "seq": seconds, "price": 1.0}
    given = pl.DataFrame(rows)
    return given.select(
        pl.col(n).cast(t) if n in rows else pl.lit(None, t).alias(n)
        for n, t in TICKS.items()
    )  # fmt: skip


def store(*symbols: str, derived: tuple[str, ...] = ("5m",), **fields: object) -> SessionData:
    session = SessionData()
    session.register_symbol_data(*(SymbolSessionData(s, derived_intervals=derived, **fields) for s in symbols))
    return session


def settle(session: SessionData, dates: tuple[dt.date | None, dt.date | None] = (None, None)) -> None:
    derive_session(session)
    assess_session(session, dates)


def csv(path: Path, symbols: list[str], step: int) -> None:
    rows = [f"{s},{(OPEN + dt.timedelta(minutes=step * i)):%Y-%m-%dT%H:%M:%SZ},10,10,10,10,1"
            for s in symbols for i in range(60)]  # fmt: skip
    path.write_text("\n".join(["symbol,timestamp,open,high,low,close,volume", *rows]) + "\n")


def quality(session: SessionData, interval: str, *columns: str) -> list[tuple]:
    return session.quality().filter(pl.col("interval") == interval).select(*columns).rows()


# ---------------------------------------------------------------------------- the axis


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_derive_month_of_earlier_rows_holds_all_its_sessions_in_any_order(order: list[int]) -> None:
    days = [dt.datetime(2024, 3, 15, 14, 30, tzinfo=dt.UTC), dt.datetime(2024, 2, 26, 14, 30, tzinfo=dt.UTC)]
    session = store("A", derived=("1mo",))
    for at in order:
        session.append(bars_at("A", [days[at]]), interval="1m")
    derive_session(session)
    assert session.bars(interval="1mo").select("ts", "n_expected").rows() == [
        (dt.datetime(2024, 2, 1, 14, 30, tzinfo=dt.UTC), 20 * 390),
        (dt.datetime(2024, 3, 1, 14, 30, tzinfo=dt.UTC), 20 * 390),
    ]


@pytest.mark.parametrize("year", [1960, 2060])
def test_append_outside_the_calendar_is_kept_and_counted(year: int) -> None:
    session = store("A")
    session.append(bars_at("A", [dt.datetime(year, 6, 1, 14, 30, tzinfo=dt.UTC)]), interval="1m")
    settle(session)
    assert session.bars().height == 1
    assert quality(session, "1m", "out_of_session", "present") == [(1, 0)]


@pytest.mark.parametrize("micros", [-62_135_596_800_000_000, 253_402_214_400_000_000, 400_000_000_000_000_000])
def test_append_impossible_years_are_refused_and_rejected(micros: int) -> None:
    rows = bars("A", [0]).with_columns(pl.lit(micros).cast(pl.Datetime("us", "UTC")).alias("ts"))
    with pytest.raises(SchemaError, match="1900 to 2200"):
        store("A").append(rows, interval="1m")
    good, bad = conform(rows, "bars", {name: pl.col(name) for name in BARS}, "x.csv")
    assert (good.height, bad.height) == (0, 1)
    assert "1900" in bad["reason"][0]


@pytest.mark.parametrize(
    ("interval", "stamp", "day", "session"),
    [
        ("1w", "start", dt.date(2024, 1, 1), dt.date(2024, 1, 5)),  # a Monday without a session
        ("1w", "end", dt.date(2024, 1, 8), dt.date(2024, 1, 5)),  # the first instant after the week
        ("1w", "end-inclusive", dt.date(2024, 1, 6), dt.date(2024, 1, 5)),  # its Saturday
        ("1mo", "start", dt.date(2024, 6, 1), dt.date(2024, 6, 28)),  # a Saturday
        ("1mo", "end-inclusive", dt.date(2024, 6, 30), dt.date(2024, 6, 28)),  # a Sunday
        ("1d", "end", dt.date(2024, 1, 3), dt.date(2024, 1, 2)),
        ("1d", "end-inclusive", dt.date(2024, 1, 2), dt.date(2024, 1, 2)),
    ],
)
def test_append_periods_stamped_with_a_date_find_their_period(
    interval: str, stamp: str, day: dt.date, session: dt.date
) -> None:
    held = store("A", derived=(), base_interval=interval, align="date")
    held.append(bars_at("A", [dt.datetime.combine(day, dt.time(), dt.UTC)]), interval=interval, stamp=stamp)
    assess_session(held)
    assert quality(held, interval, "session", "present", "off_grid", "out_of_session") == [(session, 1, 0, 0)]


def test_append_week_stamped_on_the_sunday_before_it_is_not_in_the_week_before() -> None:
    held = store("A", derived=(), base_interval="1w", align="date")
    held.append(bars_at("A", [dt.datetime(2024, 1, 7, tzinfo=dt.UTC)]), interval="1w")
    assess_session(held)
    assert sum(row[0] for row in quality(held, "1w", "present")) == 0


def test_sessions_of_two_axes_of_one_calendar_cover_both() -> None:
    session = store("A")
    session.append(bars("A", [0]), interval="1m")
    hours = GridSpec("XNYS", align="clock", zone="America/New_York")
    early = dt.datetime(2023, 6, 5, 14, tzinfo=dt.UTC)
    session.append(bars_at("A", [early]), interval="1h", spec=hours)
    days = session.snapshot().sessions()["session"]
    assert (days.min(), days.max(), days.n_unique()) == (dt.date(2023, 6, 5), dt.date(2024, 1, 2), 152 - 6)


# ---------------------------------------------------------------------------- what counts as present


def test_assess_synthetic_rows_are_never_present() -> None:
    session = store("A", derived=("5m", "1d"))
    session.append(bars("A", [0, 1, 2]), interval="1m")
    session.append(bars("A", [3, 4, 5]), interval="1m", provenance="synthetic")
    settle(session)
    assert quality(session, "1m", "present", "missing") == [(3, 387)]
    assert quality(session, "5m", "present", "slot_coverage") == [(1, 3 / 390)]
    assert quality(session, "1d", "present", "slot_coverage") == [(1, 3 / 390)]


@pytest.mark.parametrize(("provenance", "n_base"), [("synthetic", 0), ("backfill", 5)])
def test_derive_rows_of_one_other_provenance_keep_it(provenance: str, n_base: int) -> None:
    session = store("A")
    session.append(bars("A", [0, 1, 2, 3, 4]), interval="1m", provenance=provenance)
    derive_session(session)
    assert session.bars(interval="5m").select("n_base", "complete", "provenance").rows() == [
        (n_base, n_base == 5, provenance)
    ]


def test_assess_week_at_the_edge_of_a_lifetime_covers_what_its_bar_says() -> None:
    session = store("A", derived=("1w", "1mo"))
    session.append(
        bars("A", [d * DAY + m for d in (8, 9, 10) for m in range(390)]), interval="1m"
    )  # Wednesday to Friday
    settle(session)
    for interval in ("1w", "1mo"):
        bar = session.bars(interval=interval).row(0, named=True)
        assert not bar["complete"]
        assert quality(session, interval, "slot_coverage") == [(bar["n_base"] / bar["n_expected"],)]


def test_assess_dates_judge_the_sessions_a_symbol_lived_through() -> None:
    third, fourth = dt.date(2024, 1, 3), dt.date(2024, 1, 4)
    for last, expected in ((fourth, [(third, 390, 0), (fourth, 390, 1)]), (third, [(third, 390, 0)])):
        session = store("A")
        session.append(bars("A", [0, 2 * DAY]), interval="1m", dates=(third, last))
        settle(session, (third, last))
        assert quality(session, "1m", "session", "expected", "present") == expected


def test_assess_dates_after_the_last_row_expect_nothing() -> None:
    session = store("A")
    dates = dt.date(2024, 2, 1), dt.date(2024, 2, 9)
    session.append(bars("A", [0, 2 * DAY]), interval="1m", dates=dates)
    settle(session, dates)
    assert session.quality().height == 0


def test_assess_again_ticks_count_no_duplicates() -> None:
    session = store("A", base_from="ticks")
    session.append(ticks("A", [0, 60]), kind="ticks")
    for _ in range(3):
        settle(session)
        assert quality(session, "1m", "duplicates", "corrections") == [(0, 0)]


def test_session_metrics_are_those_of_the_chosen_segments() -> None:
    session = store("A")
    session.append([bars("A", [-60], close=99.0), bars("A", [0, 1])], interval="1m")
    view = session.get_symbol_data("A")
    assert (view.session_high, view.session_volume) == (10.0, 200.0)
    daily = store("D", derived=(), base_interval="1d", align="date")
    daily.append(bars_at("D", [dt.datetime(2024, 1, 2, tzinfo=dt.UTC)]), interval="1d")
    assert daily.get_symbol_data("D").session_high == 10.0
    assert store("E").get_symbol_data("E").session_bars.height == 0


# ---------------------------------------------------------------------------- removal, changes, the log


def test_changes_of_a_removed_symbol_are_its_removal_alone() -> None:
    session = store("A", "B")
    session.append([bars("A", [0]), bars("B", [0])], interval="1m")
    session.remove_symbol("A")
    assert session.changes(0).select("symbol", "removed").rows() == [("B", False), ("A", True)]


def test_write_derived_of_a_symbol_removed_meanwhile_leaves_no_row() -> None:
    session = store("A", "B")
    session.append([bars("A", [0]), bars("B", [0])], interval="1m")
    before = session.snapshot()
    data = before.symbols["A"]
    made = derive(before.rows_of(data.base_key), before.grid(data.spec, data.base), [Interval.parse("5m")])
    session.remove_symbol("A")
    session.write_derived(Interval.parse("5m"), data.spec, made[Interval.parse("5m")])
    assert session.bars(interval="5m")["symbol"].to_list() == ["B"]


def test_a_refused_registration_leaves_derived_bars_derived() -> None:
    session = store("A")
    session.append([bars("A", [0])], interval="1m")
    data = session.snapshot().symbols["A"]
    ticks = replace(data, symbol="T", base_interval="5m", derived_intervals=(), base_from="ticks")
    with pytest.raises(ParameterError, match="remove_symbol first"):
        session.register_symbol_data(ticks, replace(data, derived_intervals=()))
    derive_session(session)
    assert {key.origin for key in session.snapshot().observed_range} == {"source"}


def test_assess_while_a_symbol_is_removed_leaves_no_row_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    session = store("A", "B")
    session.append([bars("A", [0]), bars("B", [0])], interval="1m")
    derive_session(session)
    read = quality_manager.lifetimes

    def removing(*args: object) -> pl.DataFrame:
        session.remove_symbol("A")
        return read(*args)

    monkeypatch.setattr(quality_manager, "lifetimes", removing)
    assess_session(session)
    assert set(session.quality()["symbol"]) == set(session.gaps()["symbol"]) == {"B"}


def test_register_symbol_with_fewer_intervals_raises() -> None:
    session = store("A", derived=("5m", "1h"))
    with pytest.raises(ParameterError, match="1h derived"):
        session.register_symbol_data(SymbolSessionData("A", derived_intervals=("5m",)))
    session.register_symbol_data(SymbolSessionData("A", derived_intervals=("5m", "1h", "1d")))
    assert session.get_symbol_data("A").derived_intervals == ("5m", "1h", "1d")


def test_append_many_times_keeps_a_short_log_that_tells_every_change() -> None:
    session = store("A", "B", derived=())
    for minute in range(60):
        session.append(bars("AB"[minute % 2], [minute]), interval="1m")
    assert len(session.snapshot().change_log.entries) <= 7
    for since in range(61):
        told = session.changes(since + 1)  # the registration is the first revision
        touched = {"AB"[minute % 2]: minute for minute in range(since, 60)}
        assert dict(told.select("symbol", "revision").rows()) == {s: minute + 2 for s, minute in touched.items()}
        first = {s: min(m for m in range(since, 60) if "AB"[m % 2] == s) for s in touched}
        assert dict(told.select("symbol", "first_ts").rows()) == {
            s: OPEN + dt.timedelta(minutes=m) for s, m in first.items()
        }


def test_bars_updated_needs_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.store.change_log.LOG_ROWS", 2)
    session = store("A", "B")
    for minute in range(6):
        session.append(bars("A", [minute]), interval="1m")
    assert session.get_symbol_data("A").bars_updated
    assert not session.get_symbol_data("B").bars_updated
    session.mark_exported(session.revision)
    assert not session.get_symbol_data("A").bars_updated


# ---------------------------------------------------------------------------- doors


def test_append_one_axis_that_cannot_be_had_writes_nothing() -> None:
    session = store("A")
    session.register_symbol_data(SymbolSessionData("B", calendar="NOPE"))
    with pytest.raises(EngineError, match="NOPE"):
        session.append([bars("A", [0]), bars("B", [0])], interval="1m")
    assert (session.bars().height, session.revision) == (0, 2)  # two registrations


@pytest.mark.parametrize(
    ("column", "value", "kind", "match"),
    [
        ("price_type", None, "bars", "price_type"),
        ("price_type", "Last", "bars", "'Last'"),
        ("seq", None, "ticks", "seq"),
    ],
)
def test_append_rows_without_an_identity_raise(column: str, value: str | None, kind: str, match: str) -> None:
    rows = bars("A", [0]) if kind == "bars" else ticks("A", [0])
    rows = rows.with_columns(pl.lit(value, rows.schema[column]).alias(column))
    with pytest.raises(SchemaError, match=match):
        store("A").append(rows, kind=kind, interval="1m" if kind == "bars" else None)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"kind": "candles", "interval": "1m"}, "candles"),
        ({"interval": "1m", "provenance": "guess"}, "guess"),
        ({"kind": "ticks", "interval": "1m"}, "interval"),
    ],
)
def test_append_bad_arguments_raise_by_name(arguments: dict, match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        store("A").append(bars("A", [0]), **arguments)


def test_as_of_without_a_zone_raises() -> None:
    naive = dt.datetime(2024, 1, 2, 16)  # noqa: DTZ001
    with pytest.raises(ParameterError, match="as_of"):
        SessionData(as_of=naive)
    with pytest.raises(ParameterError, match="as_of"):
        store("A").set_as_of(naive)


# ---------------------------------------------------------------------------- files


@pytest.mark.parametrize("keep", [False, True])
def test_load_file_of_several_symbols_is_the_base_of_those_without_a_finer_one(tmp_path: Path, *, keep: bool) -> None:
    csv(tmp_path / "all_5m.csv", ["AAA", "BBB"], 5)
    csv(tmp_path / "a_1m.csv", ["AAA"], 1)
    outcome = run([tmp_path], LoadOptions(CalendarMap("XNYS"), keep_source=keep))
    held = outcome.session.bars().group_by("symbol", "interval").len().sort("symbol", "interval").rows()
    kept = [("AAA", "5m", 60)] if keep else []
    assert held == [("AAA", "1m", 60), *kept, ("BBB", "5m", 60)]
    assert any("left out, the base is another" in note for note in outcome.loaded.notes) != keep


def test_load_kept_series_lives_on_the_calendar_of_its_symbol(tmp_path: Path) -> None:
    csv(tmp_path / "fine_1m.csv", ["AAA", "BBB"], 1)
    csv(tmp_path / "coarse_5m.csv", ["AAA", "BBB"], 5)
    calendars = CalendarMap("XNYS", (("BBB", "24/7"),))
    session = run([tmp_path], LoadOptions(calendars, keep_source=True)).session
    specs = {key.spec.calendar for key in session.snapshot().panels if str(key.interval) == "5m"}
    assert specs == {"XNYS", "24/7"}


def test_load_symbol_with_no_row_at_its_base_keeps_the_others(tmp_path: Path) -> None:
    csv(tmp_path / "AAA_5m.csv", ["AAA"], 5)
    csv(tmp_path / "BBB_1m.csv", ["BBB"], 1)
    bad = "symbol,timestamp,open,high,low,close,volume\nAAA,2024-01-02T14:30:00Z,10,5,10,10,1\n"
    (tmp_path / "AAA_1m.csv").write_text(bad)
    session = run([tmp_path], LoadOptions(CalendarMap("XNYS"), keep_source=True)).session
    assert session.bars("AAA", "5m").height == 60


def test_load_interval_that_no_file_has_is_said(tmp_path: Path) -> None:
    csv(tmp_path / "AAA_1m.csv", ["AAA"], 1)
    outcome = run([tmp_path], LoadOptions(CalendarMap("XNYS"), interval=Interval.parse("5m")))
    assert "AAA: no bars of 5m, the base is 1m" in outcome.loaded.notes


def test_tables_of_a_calendar_file_name_it_alike(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text((DATA / "fx.toml").read_text("utf-8"))
    csv(tmp_path / "EURUSD_1m.csv", ["EURUSD"], 1)
    tables = run([tmp_path / "EURUSD_1m.csv"], LoadOptions(CalendarMap(str(own)))).session.snapshot().tables()
    for name in ("symbols", "calendars", "sessions"):
        assert set(tables[name]["calendar"]) == {str(own)}
