"""Sides from files, folders and exports, derived to the intervals that they share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from engine.errors import DataError, ParameterError
from engine.interval import Interval
from engine.runtime import reconciler
from engine.runtime.load import Loaded, load_files
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.reconciler import between, within
from engine.runtime.run import run
from engine.sources.options import ReadOptions

from tests.audit.bars import frame, walk

PRICES = ("open", "high", "low", "close")
OPTIONS = LoadOptions(CalendarMap("XNYS"))


def written(folder: Path, name: str, bars: pl.DataFrame) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    bars.select("ts", *PRICES, "volume").with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(
        folder / name
    )
    return folder


def minutes(days: int = 2) -> pl.DataFrame:
    return frame(walk(days=days, bars=390))


def folded(bars: pl.DataFrame, every: str, offset: str = "0m") -> pl.DataFrame:
    fold = [
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        pl.col("volume").sum(),
    ]
    return bars.group_by_dynamic("ts", every=every, offset=offset).agg(fold)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Minutes of SPY twice, the second with one other volume."""
    other = minutes().with_columns(pl.when(pl.int_range(pl.len()) == 5).then(9.0).otherwise("volume").alias("volume"))
    return written(tmp_path / "a", "SPY.csv", minutes()), written(tmp_path / "b", "SPY.csv", other)


def test_between_the_same_folder_twice_is_equal(two) -> None:
    done = between(two[0], two[0], OPTIONS)
    assert done.result.is_equal
    assert done.result.summary.select("symbol", "interval", "common").rows() == [("SPY", "1m", 780)]


def test_between_folders_with_one_other_volume_names_it(two) -> None:
    result = between(*two, OPTIONS).result
    assert result.columns.select("column", "different", "first_b").rows() == [("volume", 1, 9.0)]


def test_between_minutes_and_half_hours_derives_the_finer_side(two, tmp_path: Path) -> None:
    coarse = written(tmp_path / "c", "SPY.csv", folded(minutes(), "30m"))
    for a, b in ((two[0], coarse), (coarse, two[0])):
        result = between(a, b, OPTIONS).result
        assert result.is_equal
        assert result.summary.select("interval", "common").rows() == [("30m", 26)]


def test_between_with_an_interval_derives_both_sides_to_it(two) -> None:
    result = between(*two, LoadOptions(CalendarMap("XNYS"), interval=Interval.parse("1h"))).result
    assert result.summary.select("interval", "common", "different").rows() == [("1h", 14, 1)]


@pytest.mark.parametrize("interval", [None, "1h"])
def test_bars_of_a_clock_are_compared_with_bars_derived_by_the_clock_whether_an_interval_is_asked_for(
    two, tmp_path: Path, interval: str | None
) -> None:
    hours = written(tmp_path / "hours", "SPY.csv", folded(minutes(days=6), "1h"))
    day = written(tmp_path / "a6", "SPY.csv", minutes(days=6))
    plain = LoadOptions(CalendarMap("XNYS"), interval=Interval.parse(interval) if interval else None)
    clock = replace(plain, read=ReadOptions(align="clock"))
    sides = ((day, hours, (plain, clock)), (hours, day, (clock, plain)), (day, hours, (plain,)), (hours, day, (plain,)))
    for a, b, options in sides:
        result = between(a, b, *options).result
        assert result.summary.select("interval", "common", "equal", "only_a", "only_b").rows() == [("1h", 28, 28, 0, 0)]


def test_hours_by_the_clock_beside_minutes_are_found_and_hours_by_the_session_are_left(tmp_path: Path) -> None:
    for name, offset, notes in (("clock", "0m", 1), ("session", "30m", 0)):
        folder = written(tmp_path / name, "SPY_1m.csv", minutes(days=6))
        written(folder, "SPY_1h.csv", folded(minutes(days=6), "1h", offset))
        done = within(folder, [Interval.parse("1h")], OPTIONS)
        assert done.result.summary.select("equal", "only_a", "only_b").rows() == [(28, 0, 0)]
        assert sum("begin on the clock" in note for note in done.notes) == notes
    told = LoadOptions(CalendarMap("XNYS"), align="session")
    assert not within(tmp_path / "clock", [Interval.parse("1h")], told).result.is_equal


def test_between_bars_by_the_clock_in_an_export_and_minutes_is_equal(two, tmp_path: Path) -> None:
    hour = (Interval.parse("1h"),)
    run([two[0]], LoadOptions(CalendarMap("XNYS"), derive=hour, align="clock"), tmp_path / "out")
    result = between(tmp_path / "out", two[0], LoadOptions(CalendarMap("XNYS"), interval=hour[0])).result
    assert result.summary.select("interval", "common", "equal").rows() == [("1h", 14, 14)]


def test_each_source_is_read_once(two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(paths: Any, *rest: Any, **options: Any) -> Loaded:
        read.extend(paths)
        return load_files(paths, *rest, **options)

    monkeypatch.setattr(reconciler, "load_files", counted)
    hours = written(tmp_path / "hours", "SPY.csv", folded(minutes(days=6), "1h"))
    clock = replace(OPTIONS, read=ReadOptions(align="clock"))
    between(two[0], hours, OPTIONS, clock)
    between(two[0], hours, replace(OPTIONS, interval=Interval.parse("1h")), clock)
    assert read == [two[0], hours] * 2


def test_between_an_export_and_its_files_is_equal_at_each_interval(two, tmp_path: Path) -> None:
    derived = LoadOptions(CalendarMap("XNYS"), derive=(Interval.parse("30m"),))
    run([two[0]], derived, tmp_path / "out")
    assert between(tmp_path / "out", two[0], OPTIONS).result.summary["interval"].to_list() == ["1m"]
    both = between(tmp_path / "out", tmp_path / "out", OPTIONS).result
    assert both.is_equal
    assert both.summary["interval"].to_list() == ["1m", "30m"]


def test_between_an_export_and_a_symbol_that_is_not_asked_for_leaves_it_out(two, tmp_path: Path) -> None:
    written(two[0], "QQQ.csv", minutes())
    run([two[0]], OPTIONS, tmp_path / "out")
    whole = between(tmp_path / "out", two[1], OPTIONS).result
    assert whole.summary.select("symbol", "state").rows() == [("QQQ", "only_a"), ("SPY", "different")]
    asked = LoadOptions(CalendarMap("XNYS"), read=ReadOptions(symbols=("SPY",)))
    assert between(tmp_path / "out", two[1], asked).result.summary["symbol"].to_list() == ["SPY"]


def test_between_other_names_for_one_thing_are_mapped(two, tmp_path: Path) -> None:
    other = written(tmp_path / "c", "SPY.P.csv", minutes())
    (symbol,) = between(other, other, OPTIONS).result.summary["symbol"]
    assert between(two[0], other, OPTIONS, names={symbol: "SPY"}).result.is_equal
    with pytest.raises(ParameterError, match="names: TWX is no symbol of B"):
        between(two[0], other, OPTIONS, names={"TWX": "SPY"})


def test_between_reads_each_side_with_its_own_options(two, tmp_path: Path) -> None:
    naive = minutes().with_columns(pl.col("ts").dt.convert_time_zone("America/New_York"))
    local = tmp_path / "local"
    local.mkdir()
    naive.select(pl.col("ts").dt.strftime("%Y-%m-%d %H:%M:%S"), *PRICES, "volume").write_csv(local / "SPY.csv")
    for zone, cause in (("America/New_York", None), ("America/Chicago", "zone")):
        for_b = LoadOptions(CalendarMap("XNYS"), read=ReadOptions(timezone=zone))
        assert between(two[0], local, OPTIONS, for_b).result.summary["cause"].to_list() == [cause]


def test_between_sides_that_share_nothing_says_what_each_has(two, tmp_path: Path) -> None:
    empty = tmp_path / "out"
    run([two[0]], OPTIONS, empty)
    asked = LoadOptions(CalendarMap("XNYS"), read=ReadOptions(symbols=("NONE",)))
    with pytest.raises(DataError, match="nothing to compare: A has no bars; B has no bars"):
        between(empty, empty, asked)


def test_between_sides_of_other_sessions_says_which_each_has(two, tmp_path: Path) -> None:
    late = minutes(4).filter(pl.col("session") > minutes()["session"].max())
    later = written(tmp_path / "late", "SPY.csv", late)
    told = r"no session that both have: A has SPY last 1m source 2024-01-02 to 2024-01-03; B has SPY last 1m source 2024-01-04 to"
    with pytest.raises(DataError, match=told):
        between(two[0], later, OPTIONS)


def test_within_a_folder_compares_derived_bars_with_the_coarser_ones_there(tmp_path: Path) -> None:
    folder = written(tmp_path / "v", "SPY_1m.csv", minutes())
    half = folded(minutes(), "30m").with_columns(
        pl.when(pl.int_range(pl.len()) == 12).then(pl.col("volume") + 7).otherwise("volume").alias("volume")
    )
    written(tmp_path / "v", "SPY_30m.csv", half)
    done = within(folder, [Interval.parse("30m"), Interval.parse("1h")], OPTIONS)
    assert done.result.summary.select("symbol", "interval", "common", "different", "cause").rows() == [
        ("SPY", "30m", 26, 1, "auction_print")
    ]
    assert "SPY last 1h: no finer and coarser bars to compare" in done.notes


def test_within_an_export_that_kept_its_sources_compares_them(tmp_path: Path) -> None:
    folder = written(tmp_path / "v", "SPY_1m.csv", minutes())
    written(tmp_path / "v", "SPY_30m.csv", folded(minutes(), "30m"))
    keeping = LoadOptions(CalendarMap("XNYS"), derive=(Interval.parse("30m"),), keep_source=True)
    run([folder], keeping, tmp_path / "out")
    done = within(tmp_path / "out", [Interval.parse("30m")], OPTIONS)
    assert done.result.is_equal
    assert done.result.summary["common"].to_list() == [26]


def test_within_a_folder_without_coarser_bars_is_refused(two) -> None:
    told = r"a: no symbol has bars of 1h beside a finer base; it has SPY last 1h derived, SPY last 1m source"
    with pytest.raises(DataError, match=told):
        within(two[0], [Interval.parse("1h")], OPTIONS)
    with pytest.raises(ParameterError, match="against: none given"):
        within(two[0], [], OPTIONS)
