"""Slots of gaps inside interruptions: against a plain loop over slots; audits of simulated markets with known halts."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import engine
import polars as pl
import pytest
from engine.calendars.interruptions import INTERRUPTIONS, KINDS, SCOPES, read_shipped_interruptions
from engine.calendars.providers import calendar
from engine.errors import CalendarError
from engine.grid import GridSpec, SessionGrid
from engine.quality.causes.interruptions import interrupted_slots

from tests.checks.feeds import LIQUID, MIXED, THIN, market

DAY = dt.date


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def table(*rows: tuple[str, str, str]) -> pl.DataFrame:
    return pl.DataFrame(
        [(at(start), at(end), "halt", scope, "a notice") for start, end, scope in rows],
        schema=dict(INTERRUPTIONS),
        orient="row",
    )


# ---------------------------------------------------------------------------- the kernel


def gap_rows(grid: SessionGrid, gaps: list[tuple[int, int, int]]) -> pl.DataFrame:
    rows = pl.DataFrame(gaps, schema={"ordinal": pl.Int32, "slot": pl.Int32, "bar_count": pl.Int32}, orient="row")
    last = rows["slot"] + rows["bar_count"] - 1
    return rows.with_columns(
        grid.starts(rows["ordinal"], rows["slot"]).alias("gap_start"), grid.ends(rows["ordinal"], last).alias("gap_end")
    )


def by_loop(gaps: pl.DataFrame, interruptions: pl.DataFrame, grid: SessionGrid) -> list[int]:
    """Per gap the number of its slots of which disjoint interruptions (scope market) cover half or more."""
    counts = []
    for gap in gaps.rows(named=True):
        inside = 0
        for slot in range(gap["slot"], gap["slot"] + gap["bar_count"]):
            ordinal, number = pl.Series([gap["ordinal"]], dtype=pl.Int32), pl.Series([slot], dtype=pl.Int32)
            opens, ends = grid.starts(ordinal, number)[0], grid.ends(ordinal, number)[0]
            parts = [min(end, ends) - max(start, opens) for start, end in interruptions.select("start", "end").rows()]
            inside += any(2 * part >= ends - opens for part in parts)
        counts.append(inside)
    return counts


@pytest.mark.parametrize("interval", ["1m", "7m", "1h", "1d"])
def test_interrupted_slots_equal_a_loop_over_slots(interval: str) -> None:
    grid = SessionGrid.build(calendar("XTKS").segments(DAY(2020, 9, 28), DAY(2020, 10, 2)), interval, GridSpec("XTKS"))
    draw = random.Random(5)  # noqa: S311 - no secret
    gaps = []
    for ordinal, slots in grid.table.select("ordinal", "slots").rows():
        first = draw.randrange(slots)
        gaps.append((ordinal, first, draw.randrange(1, slots - first + 1)))
    rows = gap_rows(grid, gaps)
    # Half slots apart, so that no slot is covered by two.
    spans, begin = [], at("2020-09-28 00:13:20")
    while begin < at("2020-10-02 09:00:00"):
        end = begin + dt.timedelta(seconds=draw.randrange(30, 20_000))
        spans.append((begin.strftime("%Y-%m-%d %H:%M:%S"), end.strftime("%Y-%m-%d %H:%M:%S"), "market"))
        begin = end + dt.timedelta(hours=9)
    interruptions = table(*spans)
    found = interrupted_slots(rows, interruptions, grid)
    assert found["inside"].to_list() == by_loop(rows, interruptions, grid)
    assert found["kind"].is_not_null().to_list() == (found["inside"] > 0).to_list()


def test_interruptions_that_overlap_count_once_and_short_ones_explain_no_day() -> None:
    grid = SessionGrid.build(calendar("XNYS").segments(DAY(2020, 3, 9), DAY(2020, 3, 9)), "1m", GridSpec("XNYS"))
    ordinal = grid.due()["ordinal"][0]
    rows = gap_rows(grid, [(ordinal, 0, 30)])
    twice = table(
        ("2020-03-09 13:34:00", "2020-03-09 13:49:00", "market"),
        ("2020-03-09 13:40:00", "2020-03-09 13:45:00", "market"),
    )
    assert interrupted_slots(rows, twice, grid)["inside"].to_list() == [15]
    days = grid.at(engine.Interval.parse("1d"))
    assert interrupted_slots(gap_rows(days, [(days.due()["ordinal"][0], 0, 1)]), twice, days)["inside"].to_list() == [0]
    assert interrupted_slots(rows, twice.clear(), grid)["inside"].to_list() == [0]


def test_interruption_at_the_exchange_alone_explains_only_gaps_that_cover_it() -> None:
    grid = SessionGrid.build(calendar("XNYS").segments(DAY(2015, 7, 8), DAY(2015, 7, 8)), "1m", GridSpec("XNYS"))
    ordinal = grid.due()["ordinal"][0]
    only_nyse = table(("2015-07-08 15:32:00", "2015-07-08 19:10:00", "exchange"))
    rows = gap_rows(grid, [(ordinal, 130, 3), (ordinal, 122, 218)])
    assert interrupted_slots(rows, only_nyse, grid)["inside"].to_list() == [0, 218]


# ---------------------------------------------------------------------------- the table, and files


def test_shipped_interruptions_lie_in_sessions_of_their_calendars_and_name_a_source() -> None:
    rows = read_shipped_interruptions()
    assert rows["kind"].is_in(list(KINDS)).all()
    assert rows["scope"].is_in(list(SCOPES)).all()
    assert (rows["start"] < rows["end"]).all()
    assert rows["source"].str.len_chars().min() > 8
    assert rows["looked_up"].null_count() == 0
    assert rows["start"].is_sorted()
    for venues, start in rows.select("venues", "start").rows():
        code = {"CME*": "CME_INDEX", "LME": None}.get(venues[0], venues[0])
        if code is not None and start.date() != DAY(2020, 10, 1):  # the library has no session on that day
            # A part of an open session, at least its first minutes, was interrupted.
            assert calendar(code).is_open(start + dt.timedelta(minutes=2)), (venues, start)


@pytest.mark.parametrize(
    ("code", "day", "count"),
    [("XNYS", DAY(2020, 3, 18), 1), ("NYSE", DAY(2015, 7, 8), 1), ("XNAS", DAY(2015, 7, 8), 0), ("XNAS", DAY(2013, 8, 22), 1),
     ("XNYS", DAY(2013, 8, 22), 0), ("XNYS", DAY(2010, 5, 6), 0), ("XNYS", DAY(2015, 8, 24), 0), ("JPX", DAY(2020, 10, 1), 1),
     ("COMEX_METALS", DAY(2025, 11, 28), 1), ("XBOM", DAY(2021, 2, 24), 0), ("24/7", DAY(2020, 3, 18), 0)],
)  # fmt: skip
def test_interruptions_of_a_calendar_by_published_events(code: str, day: dt.date, count: int) -> None:
    assert calendar(code).interruptions().filter(pl.col("start").dt.date() == day).height == count


MINE = """
extends = "XNYS"
[[interruption]]
start = 2024-06-04T11:00:00             # of the calendar's zone
end = 2024-06-04T11:30:00
kind = "outage"
source = "mail of our broker"
[[interruption]]
start = 2024-06-05T15:00:00Z
end = 2024-06-05T15:10:00Z
"""


def test_interruptions_of_a_calendar_file_join_those_of_the_venue_it_extends(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(MINE)
    mine = calendar(file).interruptions()
    assert mine.height == calendar("XNYS").interruptions().filter(pl.col("scope") == "market").height + 2
    assert mine.tail(2).rows() == [
        (at("2024-06-04 15:00:00"), at("2024-06-04 15:30:00"), "outage", "market", "mail of our broker"),
        (at("2024-06-05 15:00:00"), at("2024-06-05 15:10:00"), "halt", "market", ""),
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [("start = 2024-06-04\nend = 2024-06-05T11:00:00", "date-time without quotes"), ("start = 2024-06-04T11:00:00\nend = 2024-06-04T11:00:00", "later date-time"),
     ("start = 2024-06-04T11:00:00\nend = 2024-06-04T12:00:00Z", "with a zone if that has one"), ('start = 2024-06-04T11:00:00\nend = 2024-06-04T12:00:00\nkind = "lunch"', "circuit_breaker"),
     ('start = 2024-06-04T11:00:00\nend = 2024-06-04T12:00:00\ncause = "x"', "unknown key")],
)  # fmt: skip
def test_interruption_of_a_file_is_refused_by_its_key(tmp_path: Path, table: str, message: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'extends = "XNYS"\n[[interruption]]\n{table}\n')
    with pytest.raises(CalendarError, match=message):
        calendar(file)


# ---------------------------------------------------------------------------- audits


def audit_without(rows: pl.DataFrame, code: str | Path, *symbols: str) -> engine.Audit:
    chosen = rows if not symbols else rows.filter(pl.col("symbol").is_in(symbols))
    return engine.run_audit([one for _, one in chosen.group_by("symbol")], code)


def bars(code: str, first: dt.date, last: dt.date, *instruments) -> pl.DataFrame:
    columns = ["symbol", "ts", "open", "high", "low", "close", "volume"]
    return market(code, first, last, instruments=instruments or (LIQUID, MIXED, THIN)).rows.join(
        market(code, first, last, instruments=instruments or (LIQUID, MIXED, THIN)).series.select("series", "symbol"), on="series", suffix="_"
    ).select(columns)  # fmt: skip


def test_audit_attributes_the_gaps_of_a_circuit_breaker_to_the_venue() -> None:
    whole = bars("XNYS", DAY(2020, 3, 2), DAY(2020, 3, 18))
    halted = whole.filter(~pl.col("ts").is_between(at("2020-03-18 16:57:00"), at("2020-03-18 17:10:00")))
    # Another one of which nobody knows, and which looks the same.
    halted = halted.filter(~pl.col("ts").is_between(at("2020-03-17 16:57:00"), at("2020-03-17 17:10:00")))
    audit = audit_without(halted, "XNYS")
    gaps = audit.tables["gaps"].filter(pl.col("symbol") == "LIQ")
    known = gaps.filter(pl.col("session") == DAY(2020, 3, 18))
    assert known.select("cause", "bar_count", "confidence").rows() == [("venue_halt", 14, 1.0)]
    assert "14 of 14 slots lie in the circuit breaker of the venue from 2020-03-18 16:56:17Z" in known["evidence"][0]
    assert gaps.filter(pl.col("session") == DAY(2020, 3, 17))["cause"].to_list() != ["venue_halt"]
    findings = audit.tables["findings"].filter(pl.col("check_name") == "venue_halt")
    assert findings.select("severity", "remedy").unique().rows() == [("info", None)]
    assert findings.filter(pl.col("symbol").is_null()).height == 1  # of the outage; the thin symbol has some of its own
    quality = audit.tables["quality"].filter(pl.col("symbol") == "LIQ", pl.col("session") == DAY(2020, 3, 18))
    assert quality.select("missing", "explained", "quality_adjusted").rows() == [(14, 14, 100.0)]


def test_audit_of_one_symbol_alone_knows_the_halt_too() -> None:
    whole = bars("XNYS", DAY(2020, 3, 2), DAY(2020, 3, 18))
    halted = whole.filter(~pl.col("ts").is_between(at("2020-03-18 16:57:00"), at("2020-03-18 17:10:00")))
    audit = audit_without(halted, "XNYS", "LIQ")
    assert audit.tables["gaps"]["cause"].to_list() == ["venue_halt"]


def test_audit_explains_a_whole_day_that_the_venue_was_down(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('extends = "XTKS"\n[[interruption]]\nstart = 2020-09-29T09:00:00\nend = 2020-09-29T15:00:00\n')
    whole = bars("XTKS", DAY(2020, 9, 14), DAY(2020, 10, 7))
    audit = audit_without(whole.filter(pl.col("ts").dt.date() != DAY(2020, 9, 29)), mine)
    gaps = audit.tables["gaps"].filter(pl.col("session") == DAY(2020, 9, 29))
    assert gaps["cause"].unique().to_list() == ["venue_halt"]
    assert gaps.filter(pl.col("symbol") == "LIQ")["bar_count"].sum() == 300
    quality = audit.tables["quality"].filter(pl.col("session") == DAY(2020, 9, 29))
    assert (quality["explained"] == 300).all()
    assert audit.tables["outages"].select("cause", "confidence").unique().rows() == [("venue_halt", 1.0)]


def test_slots_outside_the_interruption_are_not_explained() -> None:
    whole = bars("XNYS", DAY(2020, 3, 2), DAY(2020, 3, 18), LIQUID)
    late = whole.filter(~pl.col("ts").is_between(at("2020-03-18 16:57:00"), at("2020-03-18 17:19:00")))
    audit = audit_without(late, "XNYS")
    assert audit.tables["gaps"].select("cause", "bar_count").rows() == [("venue_halt", 23)]
    assert audit.tables["quality"].filter(pl.col("missing") > 0)["explained"].to_list() == [14]
