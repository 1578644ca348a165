"""Coverage and slots of the day, against loops in plain Python."""

from __future__ import annotations

import datetime as dt
import math
import zoneinfo
from collections import Counter

import polars as pl
import pytest
from engine.report.coverage import ALPHABET, choose_period, coverage, slot_shares
from engine.report.page_data import encode_numbers, truncate_rows
from hypothesis import given
from hypothesis import strategies as st

from tests.report.audits import small_audit, venue
from tests.report.test_page import rows_of, values_of

LETTERS = ALPHABET.tobytes().decode()
MIDNIGHT = dt.time()


@pytest.fixture(scope="module")
def audit() -> dict[str, pl.DataFrame]:
    return small_audit(strange=False)


@pytest.fixture(scope="module")
def overnight() -> dict[str, pl.DataFrame]:
    """Sessions that open the evening before, across a change of the clocks."""
    return venue("FX", dt.date(2024, 10, 21), dt.date(2024, 11, 8), ["A", "B", "C"], 4)


@pytest.mark.parametrize(
    ("code", "zone"),
    [("XNYS", "America/New_York"), ("XHKG", "Asia/Hong_Kong"), ("24/7", "UTC"), ("FX", "America/New_York")],
)
def test_share_slots_of_a_venue_agrees_with_minutes_counted_one_by_one(
    audit: dict[str, pl.DataFrame], overnight: dict[str, pl.DataFrame], code: str, zone: str
) -> None:
    audit = overnight if code == "FX" else audit
    series = audit["series"].filter(pl.col("calendar") == code)
    quality, gaps = (audit[name].join(series, on="symbol", how="semi") for name in ("quality", "gaps"))
    gaps = gaps.with_columns(explained=pl.col("cause") == "no_trade")
    segments = audit["sessions"].filter(pl.col("calendar") == code)
    picture = slot_shares(series, quality, gaps, segments, zone)
    assert picture is not None
    here = zoneinfo.ZoneInfo(zone)
    slot_of = lambda session, at: (minute(session, at, here) - picture["first"]) // picture["step"]  # noqa: E731
    owed, lost, unexplained = Counter(), Counter(), Counter()
    for session, start, end in segments.select("session", "segment_open", "segment_close").iter_rows():
        for at in minutes(start, end):
            owed[session, slot_of(session, at)] += series.height
    for session, start, end, explained in gaps.select("session", "gap_start", "gap_end", "explained").iter_rows():
        for at in minutes(start, end):
            lost[session, slot_of(session, at)] += 1
            unexplained[session, slot_of(session, at)] += not explained
    days = segments["session"].unique().sort().to_list()
    cells = [(day, slot) for day in days for slot in range(picture["slots"])]
    assert picture["raw"] == "".join(letter(lost[cell], owed[cell]) for cell in cells)
    assert picture["adjusted"] == "".join(letter(unexplained[cell], owed[cell]) for cell in cells)
    assert set(picture["raw"]) > {LETTERS[0], LETTERS[61]}


def minute(session: dt.date, at: dt.datetime, zone: zoneinfo.ZoneInfo) -> int:
    local = at.astimezone(zone).replace(tzinfo=None) - dt.datetime.combine(session, MIDNIGHT)
    return round(local.total_seconds() / 60)


def minutes(start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
    return [start + dt.timedelta(minutes=m) for m in range(round((end - start).total_seconds() / 60))]


def letter(lost: int, owed: int) -> str:
    if not owed:
        return "."
    level = math.floor(math.sqrt(lost / owed) * 61 + 1e-6)
    return LETTERS[max(level, 1 if lost else 0)]


def test_mark_outages_of_a_venue_where_its_series_lack_slots(audit: dict[str, pl.DataFrame]) -> None:
    series = audit["series"].filter(pl.col("calendar") == "XNYS")
    quality, gaps = (audit[name].join(series, on="symbol", how="semi") for name in ("quality", "gaps"))
    segments = audit["sessions"].filter(pl.col("calendar") == "XNYS")
    picture = slot_shares(series, quality, gaps.with_columns(explained=False), segments, "America/New_York")
    assert picture is not None
    marks = rows_of(picture["marks"])
    assert marks.height == 2
    width = picture["slots"]
    for row, start, end in marks.select("row", "from", "to").iter_rows():
        held = picture["raw"][row * width + int(start) : row * width + math.ceil(end)]
        assert LETTERS[61] in held
        assert LETTERS[0] not in held


def test_cover_series_by_session_agrees_with_quality(audit: dict[str, pl.DataFrame]) -> None:
    picture = coverage(audit["series"], audit["quality"])
    days = [dt.date(1970, 1, 1) + dt.timedelta(days=d) for d in values_of(picture["periods"]["columns"]["start"])]
    cells = {name: values_of(column) for name, column in picture["cells"].items()}
    truth = {
        (s, d): counts
        for s, d, *counts in audit["quality"]
        .select("symbol", "session", "expected", "missing", "explained")
        .iter_rows()
    }
    for row, symbol in enumerate(audit["series"]["symbol"]):
        for column, day in enumerate(days):
            at = row * len(days) + column
            assert [cells[name][at] for name in ("expected", "missing", "explained")] == truth.get(
                (symbol, day), [0, 0, 0]
            )
    assert picture["every"] == "session"


@pytest.mark.parametrize(
    ("count", "most", "every"),
    [(60, 130, "1d"), (250, 130, "1w"), (250, 20, "1mo"), (4_000, 130, "1q"), (40_000, 130, "1y")],
)
def test_group_sessions_of_years_into_the_finest_periods_that_fit(count: int, most: int, every: str) -> None:
    days = pl.Series([dt.date(1910, 1, 3) + dt.timedelta(days=d * 7 // 5) for d in range(count)])
    assert choose_period(days, most) == every


@given(st.lists(st.one_of(st.none(), st.integers(-3, 3)), max_size=60))
def test_write_numbers_in_runs_loses_none(values: list[int | None]) -> None:
    assert values_of(encode_numbers(pl.Series(values, dtype=pl.Int64))) == values


@given(st.lists(st.text(max_size=700), min_size=1, max_size=30), st.integers(0, 30), st.integers(0, 20_000))
def test_take_rows_within_bounds_keeps_a_head_that_fits(texts: list[str], most_rows: int, most_bytes: int) -> None:
    rows = pl.DataFrame({"text": texts, "at": range(len(texts))})
    held = truncate_rows(rows, most_rows, most_bytes)
    assert held["at"].to_list() == list(range(held.height))
    assert held.height <= most_rows
    assert sum(len(text.encode()) for text in set(held["text"])) <= most_bytes
    if held.height < min(most_rows, len(texts)):
        assert 6 * sum(min(len(text), 700) * 4 + 40 for text in texts[: held.height + 1]) > most_bytes
