"""Folders of months and of small years: where rows go, and that nothing else depends on it."""

from __future__ import annotations

import datetime as dt
import random

import polars as pl
import pytest
from engine.export import table_edits
from engine.export.dataset import open_dataset
from engine.export.folders import (
    ROWS_PER_FOLDER,
    SESSIONS_PER_YEAR,
    cut_by_folder,
    folder_groups,
    small_years,
    years_of_changes,
)
from engine.export.maintenance import agreement, content_batches
from engine.export.maintenance.compact import compact
from engine.export.maintenance.verify import verify
from engine.runtime.export_repair import repair

from tests.export.maintenance import exported
from tests.export.store_sample import SLOTS, bars, new_store, put, register, rows, settle, ticks

JANUARY, FEBRUARY, NEXT_YEAR = 0, 2, 242  # numbers of weekdays from 2024-01-30


def counts(first: str, sessions: int, each: int) -> pl.DataFrame:
    days = pl.date_range(
        dt.date.fromisoformat(first), dt.date.fromisoformat(first) + dt.timedelta(sessions - 1), eager=True
    )
    return pl.DataFrame({"session": days, "rows": [each] * sessions})


@pytest.mark.parametrize(
    ("first", "sessions", "each", "years"),
    [
        ("2020-01-01", 366, ROWS_PER_FOLDER // SESSIONS_PER_YEAR, [2020]),
        ("2020-01-01", 366, ROWS_PER_FOLDER // SESSIONS_PER_YEAR + 1, []),
        ("2020-01-01", 31, 1, []),  # a month is a folder anyhow
        ("2020-01-31", 2, 1, [2020]),
        ("2020-12-01", 63, 390, [2021]),
        ("2020-01-31", 2, 8_000, []),  # a young year of many symbols
    ],
)
def test_years_of_few_rows_a_session_are_small(first, sessions, each, years):
    assert small_years(counts(first, sessions, each)) == years


@pytest.mark.parametrize("seed", range(30))
def test_rows_are_cut_as_one_by_one(seed):
    chance = random.Random(seed)  # noqa: S311
    days = [dt.date(2019, 11, 1) + dt.timedelta(chance.randrange(800)) for _ in range(chance.randrange(1, 80))]
    named = [("bars", chance.choice(["1m", "5m"]), day, at) for at, day in enumerate(days)]
    years = {f"{interval}/{year}" for interval in ("1m", "5m") for year in (2019, 2020, 2021) if chance.random() < 0.5}
    frame = pl.DataFrame(
        {
            "interval": pl.Series([one[1] for one in named], dtype=pl.Enum(["1m", "5m"])),
            "session": days,
            "month": [f"{day:%Y-%m}" for day in days],
            "at": range(len(days)),
        }
    )
    expected: dict[str, list[int]] = {}
    for _, interval, day, at in named:
        year = f"{interval}/{day.year}"
        expected.setdefault(year if year in years else f"{interval}/{day:%Y-%m}", []).append(at)
    found = cut_by_folder("bars", frame, years)
    assert [(folder, part["at"].to_list()) for folder, part in found] == sorted(expected.items())
    assert all(part.columns == frame.columns for _, part in found)


def test_groups_join_a_year_with_its_months_only_where_both_are_there():
    folders = ["1m/2019", "1m/2019-03", "1m/2020-03", "5m/2019-03", "2019-03", ""]
    assert folder_groups(folders) == {one: one for one in folders} | {"1m/2019-03": "1m/2019"}


@pytest.mark.parametrize(
    ("folders", "years"),
    [
        ([], set()),
        (["1m/2019"], {"1m/2019", "1m/2020"}),  # 2020 goes on as 2019 was
        (["1m/2019", "1m/2019-12"], {"1m/2019"}),
        (["1m/2018-12"], set()),
        (["5m/2019"], set()),
    ],
)
def test_changes_go_where_their_year_is(folders, years):
    frame = pl.DataFrame({"interval": ["1m", "1m"], "session": [dt.date(2019, 12, 31), dt.date(2020, 1, 2)]})
    assert years_of_changes("bars", frame, [f"{folder}/1-ab.parquet" for folder in folders]) == years


def stored(days: list[int]):
    store = new_store()
    for symbol in ("A", "B"):
        register(store, symbol)
        store.append(pl.concat([bars(symbol, day, [0, 1, 2, 5, 7, 8]) for day in days]), interval="1m")
        store.append(pl.concat([ticks(symbol, day, list(range(SLOTS))) for day in days]), kind="ticks")
    settle(store)
    return store


def folders_of(target, table: str) -> set[str]:
    return {path.parent.relative_to(target / table).as_posix() for path in open_dataset(target).files(table)}


def test_small_year_is_one_folder_and_changes_stay_in_it(tmp_path):
    target = tmp_path / "out"
    store = stored([JANUARY, FEBRUARY])
    put(store, target)
    assert folders_of(target, "bars") == {"1m/2024", "5m/2024", "1d/2024"}
    assert folders_of(target, "ticks") == {"2024"}
    store.append(bars("A", JANUARY, [3], 5.0), interval="1m")
    store.append(bars("A", FEBRUARY + 1, [0, 1]), interval="1m")
    store.append(bars("B", NEXT_YEAR, [0, 1]), interval="1m")
    settle(store)
    put(store, target)
    assert folders_of(target, "bars") == {f"{one}/{year}" for one in ("1m", "5m", "1d") for year in (2024, 2025)}
    put(store, tmp_path / "whole", full=True)
    for name, expected in rows(tmp_path / "whole").items():
        held = rows(target)[name].drop("revision").sort(pl.all().exclude(pl.List))
        assert held.equals(expected.drop("revision").sort(pl.all().exclude(pl.List))), name
    assert verify(target).is_empty()
    assert compact(target).merged["folder"].to_list()
    assert all(one.count("-") == 0 for one in folders_of(target, "bars"))
    assert verify(target).is_empty()


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """An export with a folder of the year 2024, and one of its February for a later day."""
    target = tmp_path / "out"
    store = stored([JANUARY, FEBRUARY])
    put(store, target)
    store.append(bars("A", FEBRUARY + 1, [0, 1, 2]), interval="1m")
    settle(store)
    with monkeypatch.context() as patch:
        patch.setattr(table_edits, "years_of_changes", lambda *_: frozenset())
        put(store, target)
    assert folders_of(target, "bars") >= {"1m/2024", "1m/2024-02"}
    return target


def found_with_and_without_batches(target, monkeypatch):
    together = verify(target)
    monkeypatch.setattr(content_batches, "ROWS_AT_ONCE", -1)
    monkeypatch.setattr(agreement, "BYTES_AT_ONCE", -1)
    assert verify(target).equals(together)
    return together


def test_year_and_month_of_it_side_by_side_are_in_order(mixed, monkeypatch):
    assert found_with_and_without_batches(mixed, monkeypatch).is_empty()


def test_row_in_the_folder_of_a_year_and_of_its_month_is_found(mixed, monkeypatch):
    (year, month) = (
        next(path for path in open_dataset(mixed).files("bars") if path.parent.parts[-2:] == ("1m", name))
        for name in ("2024", "2024-02")
    )
    again = pl.read_parquet(year).filter(pl.col("month") == "2024-02", pl.col("symbol") == "A").head(1)
    rows = pl.concat([pl.read_parquet(month), again]).sort("symbol", "ts")
    exported.forge(mixed, "bars", month, rows)
    found = found_with_and_without_batches(mixed, monkeypatch)
    assert "bars/1m/2024" in found.filter(check_name="key")["file"].to_list()


@pytest.mark.parametrize("lost", ["2024", "2024-02"])
def test_lost_file_beside_its_year_or_month_is_put_back(mixed, lost, monkeypatch):
    paths = [path for path in open_dataset(mixed).files("bars") if path.parent.parts[-2:] == ("5m", lost)]
    whole = {path: path.read_bytes() for path in paths}
    assert whole
    for path in paths:
        path.unlink()
    found = found_with_and_without_batches(mixed, monkeypatch)
    assert set(found["check_name"]) == {"exists"}
    repair(mixed, calendars=exported.CALENDARS, clock=exported.clock(9))
    assert {path: path.read_bytes() for path in paths} == whole
    assert verify(mixed).is_empty()
