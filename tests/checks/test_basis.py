"""Raw, adjusted and mixed prices: simulated feeds whose prices were divided, and real histories with their vendor's factors."""

from __future__ import annotations

import csv
import datetime as dt
import io
import zipfile
from pathlib import Path

import polars as pl
import pytest
from engine.checks.bar_checks import check_bars, combine, measure
from engine.checks.bar_checks import judge as judge_frames

from tests.checks.feeds import Feed, axis, market, placed
from tests.conftest import VENDOR

JUNE = dt.date(2024, 6, 3), dt.date(2024, 6, 28)
CUT = dt.date(2024, 6, 17)
PRICES = ("open", "high", "low", "close")
USA = VENDOR / "lean/equity/usa"
needs_data = pytest.mark.skipif(not USA.is_dir(), reason="needs ../shared/data")


def divided(
    feed: Feed, series: int, ratio: float, *, before: dt.date | None = None, since: dt.date | None = None
) -> Feed:
    """The feed with the prices of a series divided on some sessions, to four digits, and volumes multiplied."""
    ours = pl.col("series") == series
    if before is not None:
        ours &= pl.col("session") < before
    if since is not None:
        ours &= pl.col("session") >= since
    rows = feed.rows.with_columns(
        *(pl.when(ours).then((pl.col(name) / ratio).round(4)).otherwise(name).alias(name) for name in PRICES),
        pl.when(ours).then(pl.col("volume") * ratio).otherwise("volume").alias("volume"),
    )
    return Feed(rows, feed.series, feed.grid, feed.zone)


def said(feed: Feed, *names: str) -> list[tuple[object, ...]]:
    found = check_bars(feed.rows, feed.series, feed.grid, feed.zone)
    told = found.filter(pl.col("check_name").is_in(names or ("basis", "split")))
    return told.select("check_name", "severity", "symbol", "session", pl.col("value").round(3)).sort(pl.all()).rows()


def test_raw_prices_without_an_event_say_nothing() -> None:
    assert said(market("XNYS", *JUNE)) == []


def test_visible_split_is_raw() -> None:
    # After the split on the 17th the name trades at a seventh, in whole cents: raw.
    feed = divided(market("XNYS", *JUNE), 1, 7, since=CUT)
    cents = feed.rows.with_columns(pl.col(name).round(2) for name in PRICES)
    found = said(Feed(cents, feed.series, feed.grid, feed.zone))
    assert [row[:4] for row in found] == [("basis", "info", "LIQ", CUT), ("split", "warning", "LIQ", CUT)]
    assert all(row[4] == pytest.approx(7, rel=0.05) for row in found)


@pytest.mark.parametrize("ratio", [1.5, 2, 3, 4, 5, 7, 10])
def test_split_adjusted_prices_have_the_date_and_the_ratio(ratio) -> None:
    # Raw: 100 to the 16th, 100 / ratio from the 17th on, in whole cents. Adjusted: the first part is divided, too.
    after = divided(market("XNYS", *JUNE), 1, ratio, since=CUT)
    cents = Feed(
        after.rows.with_columns(pl.col(name).round(2) for name in PRICES), after.series, after.grid, after.zone
    )
    assert said(divided(cents, 1, ratio, before=CUT)) == [("basis", "info", "LIQ", CUT, round(1 / ratio, 3))]


def test_copy_that_is_adjusted_up_to_a_date_and_raw_from_then_on_is_mixed_and_told_once() -> None:
    found = said(divided(market("XNYS", *JUNE), 1, 7, before=CUT))
    assert found == [("basis", "warning", "LIQ", CUT, round(1 / 7, 3))]


def test_split_soon_after_the_seam_of_a_mixed_copy_is_a_split_and_no_other_symbol() -> None:
    split = CUT + dt.timedelta(days=4)
    after = divided(market("XNYS", *JUNE), 1, 4, since=split)
    cents = after.rows.with_columns(pl.col(name).round(2) for name in PRICES)
    mixed = divided(Feed(cents, after.series, after.grid, after.zone), 1, 4, before=CUT)
    found = said(mixed, "basis", "split", "foreign_session")
    assert [row[:4] for row in found] == [("basis", "warning", "LIQ", CUT), ("split", "warning", "LIQ", split)]


@pytest.mark.parametrize("sessions", [3, 4])
def test_mixed_copy_is_told_from_few_sessions(sessions) -> None:
    feed = market("XNYS", JUNE[0], dt.date(2024, 6, 12))
    cut = feed.rows["session"].drop_nulls().unique().sort()[sessions]
    assert said(divided(feed, 1, 7, before=cut)) == [("basis", "warning", "LIQ", cut, round(1 / 7, 3))]


def test_adjusted_series_with_a_visible_split_is_mixed() -> None:
    later = dt.date(2024, 6, 24)
    base = market("XNYS", *JUNE)
    after = divided(divided(base, 1, 3, since=CUT), 1, 2, since=later)
    cents = Feed(
        after.rows.with_columns(pl.col(name).round(2) for name in PRICES), after.series, after.grid, after.zone
    )
    found = said(divided(cents, 1, 3, before=CUT))
    assert [row[:4] for row in found] == [("basis", "warning", "LIQ", CUT), ("split", "warning", "LIQ", later)]


def test_market_of_raw_and_adjusted_series_is_mixed() -> None:
    after = divided(divided(market("XNYS", *JUNE), 1, 7, since=CUT), 2, 4, since=CUT)
    cents = Feed(
        after.rows.with_columns(pl.col(name).round(2) for name in PRICES), after.series, after.grid, after.zone
    )
    found = said(divided(cents, 1, 7, before=CUT), "basis")
    assert [row[1:4] for row in found] == [("info", "LIQ", CUT), ("info", "MIX", CUT), ("warning", None, None)]


@pytest.mark.parametrize("factor", [0.9731, 0.9912, 0.87])
def test_dividend_adjusted_prices_have_their_factor(factor) -> None:
    feed = market("XNYS", *JUNE)
    assert said(divided(feed, 1, 1 / factor, before=CUT)) == [("basis", "info", "LIQ", CUT, round(factor, 3))]
    [whole] = said(divided(feed, 1, 1 / factor))
    assert whole[1:3] + whole[4:] == ("info", "LIQ", round(factor, 3))


def test_adjusted_prices_in_whole_cents_cannot_be_told() -> None:
    feed = divided(market("XNYS", *JUNE), 1, 1 / 0.9731, before=CUT)
    cents = Feed(feed.rows.with_columns(pl.col(name).round(2) for name in PRICES), feed.series, feed.grid, feed.zone)
    assert said(cents) == []


@pytest.mark.parametrize("ticks", [16, 32, 200, 1000])
def test_prices_in_fractions_or_finer_digits_are_not_adjusted(ticks) -> None:
    feed = market("XNYS", *JUNE)
    grid = [(pl.col(name) * ticks).round(0) / ticks for name in PRICES]
    finer = feed.rows.with_columns((one + 1 / ticks * (pl.col("ts").dt.minute() % 3)).round(4) for one in grid)
    assert said(Feed(finer, feed.series, feed.grid, feed.zone)) == []


def test_parts_by_session_give_the_findings_of_the_whole() -> None:
    feed = divided(market("XNYS", *JUNE), 1, 7, before=CUT)
    parts = [
        measure(rows, feed.series, feed.grid, feed.zone)
        for _, rows in feed.rows.group_by(pl.col("session").dt.week(), maintain_order=True)
    ]
    whole = judge_frames(
        combine([measure(feed.rows, feed.series, feed.grid, feed.zone)]), feed.grid.segments, feed.zone, "XNYS"
    )
    for order in (parts, parts[::-1]):
        found = judge_frames(combine(order), feed.grid.segments, feed.zone, "XNYS")
        assert found.filter(pl.col("check_name") == "basis").equals(whole.filter(pl.col("check_name") == "basis"))


def history(symbol: str, first: int, last: int) -> Feed:
    """The vendor's raw hours of some years: the nine o'clock bar is that of the half hour from the open on."""
    with zipfile.ZipFile(USA / f"hour/{symbol}.zip") as archive:
        raw = archive.read(archive.namelist()[0])
    names = ["ts", *PRICES, "volume"]
    rows = pl.read_csv(io.BytesIO(raw), has_header=False, new_columns=names)
    ts = pl.col("ts").str.to_datetime("%Y%m%d %H:%M", time_unit="us").dt.replace_time_zone("America/New_York")
    ts = pl.when(ts.dt.hour() == 9).then(ts.dt.offset_by("30m")).otherwise(ts)
    rows = rows.with_columns(
        ts.dt.convert_time_zone("UTC"), *(pl.col(name) / 10_000 for name in PRICES), pl.lit(1, pl.Int32).alias("series")
    )
    rows = rows.filter(pl.col("ts").dt.year().is_between(first, last)).with_columns(pl.col("volume").cast(pl.Float64))
    series = pl.DataFrame(
        {"series": [1], "symbol": [symbol.upper()], "price_type": ["last"], "interval": ["1h"]},
        schema_overrides={"series": pl.Int32},
    )
    grid = axis("XNYS", dt.date(first, 1, 1), dt.date(last, 12, 31), "30m")
    return placed(rows, series, grid, "America/New_York")


def factors(symbol: str) -> list[tuple[dt.date, float, float]]:
    """(last date, price factor, split factor) of the vendor's factor file."""
    with Path(USA / f"factor_files/{symbol}.csv").open() as file:
        return [
            (dt.datetime.strptime(row[0], "%Y%m%d").replace(tzinfo=dt.UTC).date(), float(row[1]), float(row[2]))
            for row in csv.reader(file)
        ]


def adjusted(feed: Feed, symbol: str, *, dividends: bool) -> Feed:
    """The raw history times the factors of the vendor's file."""
    listed = factors(symbol)
    table = pl.DataFrame(
        {"until": [row[0] for row in listed], "factor": [row[2] * (row[1] if dividends else 1.0) for row in listed]}
    )
    rows = feed.rows.sort("session").join_asof(
        table.sort("until"), left_on="session", right_on="until", strategy="forward"
    )
    rows = rows.with_columns((pl.col(name) * pl.col("factor")).round(4) for name in PRICES).drop("factor", "until")
    return Feed(rows.sort("series", "ts"), feed.series, feed.grid, feed.zone)


@needs_data
@pytest.mark.parametrize(
    ("symbol", "years"),
    [
        ("bac", (1998, 2019)),
        ("bac", (2019, 2021)),
        ("ibm", (1998, 2019)),
        ("ibm", (2018, 2021)),
        ("spy", (1998, 2021)),
        ("spwr", (2007, 2008)),
    ],
)
def test_real_raw_history_is_never_adjusted(symbol, years) -> None:
    found = said(history(symbol, *years), "basis")
    assert all(row[1] == "info" and row[4] > 1 for row in found)  # a visible split at most


@needs_data
@pytest.mark.parametrize(("symbol", "event"), [("bac", dt.date(2004, 8, 30)), ("ibm", dt.date(1999, 5, 27))])
def test_real_split_is_raw_in_the_raw_history_and_adjusted_in_the_adjusted_one(symbol, event) -> None:
    raw = history(symbol, event.year - 1, event.year + 1)
    assert [row[:4] for row in said(raw, "basis")] == [("basis", "info", symbol.upper(), event)]
    assert said(adjusted(raw, symbol, dividends=False)) == [("basis", "info", symbol.upper(), event, 0.5)]


@needs_data
@pytest.mark.parametrize(("symbol", "year"), [("bac", 2013), ("ibm", 2013), ("ibm", 2018), ("bac", 2018)])
def test_real_dividend_factor_is_that_of_the_vendors_file(symbol, year) -> None:
    feed = adjusted(history(symbol, year - 2, year), symbol, dividends=True)
    truth = next(price * split for until, price, split in factors(symbol) if until >= dt.date(year, 12, 31))
    [found] = said(feed, "basis")
    assert found[1] == "info"
    assert found[4] == pytest.approx(truth, abs=1e-3)
