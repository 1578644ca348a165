"""No look-ahead: rows that are not available yet do not change the store.

A replay is stopped at an instant, and compared with one of files in which every row that is not yet available then is
poison: a thousand times as high, or not there at all. Bars are available at their end, the vendor's own hours and days
too; ticks and quotes at their instant; what a later file has again when that file has ended; rows that cannot be read
when theirs has.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import engine
import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.grid import GridSpec
from engine.interval import Interval
from engine.runtime.availability import order_by_availability
from engine.runtime.deployments import ReplaySession
from engine.runtime.load import Group

from tests.runtime.feeds import (
    DAYS,
    HOUR,
    MINUTE,
    File,
    again,
    assert_same_tables,
    bars,
    closes,
    configured,
    later,
    minutes,
    opens,
    shown,
    write,
)

BEFORE, HISTORY, FIRST, SECOND, LAST = DAYS
INSTANTS = {
    "in the first session": opens(FIRST) + HOUR + dt.timedelta(seconds=30),
    "between sessions": closes(FIRST) + 3 * HOUR,
    "in the second session": opens(SECOND) + 2 * HOUR,
}


@cache
def feed() -> tuple[File, ...]:
    whole = bars([at for day in DAYS for at in minutes(day)])
    gaps = [*minutes(HISTORY, range(30, 40)), *minutes(FIRST, range(20, 25)), *minutes(FIRST, range(100, 110))]
    told = whole.filter(~pl.col("ts").is_in(gaps))
    at = {day: whole.filter(pl.col("ts").dt.date() == day) for day in DAYS}
    others = bars([*minutes(HISTORY), *minutes(SECOND), *minutes(LAST, range(50))], 20.0)
    return (
        File("1/AAA_1m.csv", told),
        File("1/BBB_1m.csv", with_bad_rows(others)),
        # Corrections of history and of the first session, which arrive in it and in the second one.
        later("2/AAA_1m.csv", pl.concat([again(at[HISTORY][10:14], 50.0), at[HISTORY][14:20]]), at[FIRST][20:22]),
        later("3/AAA_1m.csv", pl.concat([at[HISTORY][10:12], again(at[FIRST][5:9], 60.0)]), bars(minutes(SECOND, [40]))),
        later("4/AAA_1m.csv", pl.concat([again(at[SECOND][:5], 70.0), at[SECOND][5:8]]), bars(minutes(LAST, [60]))),
        # The vendor's own hours and days.
        File("AAA_1h.csv", bars([opens(day) + n * HOUR for day in DAYS for n in range((closes(day) - opens(day)) // HOUR + 1)], 30.0, HOUR)),
        File("AAA_1d.csv", days(40.0)),
        File("CCC_trades.csv", ticks()),
        File("DDD_quotes.csv", quotes()),
    )  # fmt: skip


def days(price: float) -> pl.DataFrame:
    rows = bars([dt.datetime.combine(day, dt.time(), dt.UTC) for day in DAYS], price)
    return rows.with_columns(pl.Series("available", [closes(day) for day in DAYS]))


def with_bad_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """With bars whose high is below their low: nothing tells when they came, but for the end of their file."""
    end = rows["available"].max()
    bad = rows[100:103].with_columns(
        pl.lit(0.01).alias("high"), pl.lit(end, rows.schema["available"]).alias("available")
    )
    return pl.concat([rows[:100], bad, rows[103:]])


def ticks() -> pl.DataFrame:
    stamps = [opens(day) + n * 4 * MINUTE + dt.timedelta(microseconds=n) for day in DAYS for n in range(50)]
    return pl.DataFrame(
        {"ts": stamps, "price": [5 + 0.01 * n for n in range(len(stamps))], "size": 2.0, "available": stamps}
    )


def quotes() -> pl.DataFrame:
    stamps = [opens(day) + n * 5 * MINUTE + dt.timedelta(milliseconds=n) for day in DAYS for n in range(40)]
    bid = [None if n % 5 == 0 else 7 + 0.01 * n for n in range(len(stamps))]
    return pl.DataFrame({"ts": stamps, "bid": bid, "ask": [9 + 0.01 * n for n in range(len(stamps))], "bid_size": 1.0,
                         "ask_size": 1.0, "available": stamps})  # fmt: skip


PARTS: dict[str, Any] = {
    "session": {"calendar": "XNYS", "start": FIRST, "end": LAST},
    "history": [{"sessions": 1, "intervals": ["1d"]}],
    "derive": ["5m", "1h", "1d", "1w"],
}


def begun(folder: Path) -> ReplaySession:
    replay = ReplaySession(configured(folder, **PARTS, source={"keep_source": True}))
    replay.load()
    return replay


def all_that_shows(replay: ReplaySession, folder: Path) -> dict[str, pl.DataFrame]:
    """Every table (with the revision that wrote each row), and what views make of them."""
    snapshot = replay.session.snapshot()
    tables = shown(snapshot, revisions=True)
    tables["rejects"] = tables["rejects"].with_columns(pl.col("source").str.replace(str(folder), "", literal=True))
    tables["all bars"] = snapshot.bars()
    tables["changes"] = snapshot.changes(0)
    for symbol in sorted(snapshot.symbols):
        view = replay.session.get_symbol_data(symbol)
        assert view is not None
        for interval, sessions in view.historical_bars.items():
            tables |= {f"{symbol} {interval} {day}": rows for day, rows in sessions.items()}
        tables[f"{symbol} now"] = pl.DataFrame(
            {"latest": [str([view.latest_bar, view.latest_quote, view.latest_trade])]}
        )
    state = (snapshot.revision, snapshot.as_of, snapshot.session_date, snapshot.session_active)
    tables["state"] = pl.DataFrame({"state": [str(state)]})
    return tables


def advanced(replay: ReplaySession, to: dt.datetime) -> ReplaySession:
    """On to an instant, in a few steps that do not depend on the rows."""
    stops = {
        *INSTANTS.values(),
        *(at for day in (FIRST, SECOND, LAST) for at in (opens(day), opens(day) + HOUR, closes(day))),
    }
    now = replay.coordinator.now
    for at in sorted(stops):
        if now is not None and now < at <= to:
            replay.coordinator.advance(at)
    return replay


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, pl.DataFrame]]:
    """What one replay of the true files shows at each instant."""
    folder = write(feed(), tmp_path_factory.mktemp("clean"))
    replay = begun(folder)
    return {name: all_that_shows(advanced(replay, at), folder) for name, at in INSTANTS.items()}


@pytest.mark.parametrize("how", ["loud", "gone"])
@pytest.mark.parametrize("when", INSTANTS)
def test_replay_up_to_an_instant_is_the_same_whatever_comes_later(
    when: str, how: str, clean: Mapping[str, dict[str, pl.DataFrame]], tmp_path: Path
) -> None:
    folder = write(feed(), tmp_path, INSTANTS[when], how)
    assert_same_tables(all_that_shows(advanced(begun(folder), INSTANTS[when]), folder), clean[when])


def test_replay_up_to_an_instant_shows_what_is_available_then(clean: Mapping[str, dict[str, pl.DataFrame]]) -> None:
    """That the law above is not kept by showing too little: each kind of row is there as soon as it may be."""
    first, night, second = clean.values()

    def closes_of(
        tables: Mapping[str, pl.DataFrame], interval: str, which: list[dt.datetime], origin: str = "source"
    ) -> list[float]:
        of = (pl.col("symbol") == "AAA") & (pl.col("interval") == interval) & (pl.col("origin") == origin)
        return [round(x) for x in tables["bars"].filter(of & pl.col("ts").is_in(which)).sort("ts")["close"]]

    corrected = minutes(HISTORY, range(10, 14))
    assert closes_of(first, "1m", corrected) == [50] * 4  # the second file has ended
    assert closes_of(second, "1m", corrected)[2:] == [50] * 2
    assert closes_of(second, "1m", corrected)[:2] != [50] * 2  # and the third one
    assert closes_of(night, "1m", minutes(FIRST, range(5, 9))) != [60] * 4
    assert closes_of(second, "1m", minutes(FIRST, range(5, 9))) == [60] * 4
    assert 70 not in closes_of(second, "1m", minutes(SECOND, range(5)))
    hours = [opens(FIRST) + n * HOUR for n in range(7)]
    assert [len(closes_of(tables, "1h", hours)) for tables in (first, night, second)] == [1, 7, 7]
    own = [tables["bars"].filter((pl.col("interval") == "1d") & (pl.col("origin") == "source"))["session"].to_list()
           for tables in (first, night, second)]  # fmt: skip
    assert own == [[HISTORY], [HISTORY, FIRST], [HISTORY, FIRST]]
    assert [tables["ticks"].height for tables in (first, night, second)] == [50 + 16, 100, 130]
    assert [tables["quotes"].height for tables in (first, night, second)] == [40 + 13, 80, 104]
    assert [tables["rejects"].height for tables in (first, night, second)] == [0, 0, 0]


def test_replay_without_an_end_shows_no_session_that_is_still_to_come(tmp_path: Path) -> None:
    """As of an instant nobody can tell how many rows, sessions or lifetimes will follow."""
    at = opens(FIRST) + HOUR
    rows = bars([*minutes(FIRST), *minutes(SECOND)])
    seen = []
    for name, files in (("short", [File("AAA_1m.csv", rows.head(80))]), ("long", [File("AAA_1m.csv", rows)])):
        folder = write(files, tmp_path / name)
        replay = ReplaySession(configured(folder))
        replay.load()
        replay.coordinator.advance(opens(FIRST))
        replay.coordinator.advance(at)
        seen.append(all_that_shows(replay, folder))
    assert seen[1]["symbols"]["rows"].to_list() == [60]
    assert seen[1]["sessions"]["session"].unique().to_list() == [FIRST]
    assert_same_tables(*seen)


def test_advance_to_an_open_or_a_close_takes_each_stop_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write([File("AAA_1m.csv", bars([*minutes(FIRST), *minutes(SECOND)]))], tmp_path)
    replay = ReplaySession(configured(folder))
    replay.load()
    taken: list[dt.datetime] = []
    take = replay.coordinator.stream.take
    monkeypatch.setattr(replay.coordinator.stream, "take", lambda until: taken.append(until) or take(until))
    stops = [opens(FIRST), closes(FIRST), opens(SECOND), closes(SECOND)]
    for stop in stops:
        replay.coordinator.advance(stop)
    assert taken == stops
    replay.coordinator.advance(closes(SECOND) + MINUTE)
    assert taken[4:] == [closes(SECOND) + MINUTE]


def test_replay_of_a_file_without_a_good_row_rejects_them_at_the_end(tmp_path: Path) -> None:
    bad = bars(minutes(SECOND, range(3))).with_columns(pl.lit(0.01).alias("high"))
    folder = write([File("AAA_1m.csv", bars([*minutes(FIRST), *minutes(SECOND)])), File("BBB_1m.csv", bad)], tmp_path)
    replay = ReplaySession(configured(folder))
    replay.load()
    replay.coordinator.advance(closes(SECOND) - MINUTE)
    assert replay.session.snapshot().tables()["rejects"].height == 0
    replay.coordinator.finish()
    want = engine.load(folder, "XNYS").snapshot().tables()["rejects"]
    assert replay.session.snapshot().tables()["rejects"].height == want.height == 3


@pytest.mark.parametrize(
    ("interval", "start", "end"),
    [
        ("1h", opens(SECOND) + 3 * HOUR, closes(SECOND)),
        ("1d", dt.datetime.combine(SECOND, dt.time(), dt.UTC), closes(SECOND)),
        ("1w", dt.datetime.combine(HISTORY, dt.time(), dt.UTC), closes(LAST)),
        ("1mo", dt.datetime(2024, 6, 3, tzinfo=dt.UTC), closes(BEFORE)),
    ],
)
def test_arrivals_of_coarse_bars_are_available_at_their_clamped_end(
    interval: str, start: dt.datetime, end: dt.datetime
) -> None:
    spec = GridSpec("XNYS", align="session" if interval == "1h" else "date", zone="UTC")
    rows = bars([opens(FIRST)]).with_columns(
        pl.lit(start, pl.Datetime("us", "UTC")).alias("ts"), pl.lit("AAA").alias("symbol")
    )
    rows = rows.with_columns(pl.lit("last").alias("price_type")).drop("available")
    timed = order_by_availability(Group("bars", Interval.parse(interval), "start", spec, (rows,)), {}, calendar)
    assert timed["available"].to_list() == [end]
