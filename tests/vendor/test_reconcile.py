"""Real vendors beside each other, and beside their own coarser bars: the known oddities are found and named."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl
import pytest
from engine.audit.reconcile import Reconciled, Tolerances, reconcile
from engine.audit.rules import Tolerance
from engine.interval import Interval
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.reconciler import between, within
from engine.sources.options import ReadOptions

from tests.vendor.files import rows
from tests.vendor.folds import bars, found

PRICES = ("open", "high", "low", "close")


def options(calendar: str, **read: object) -> LoadOptions:
    return LoadOptions(CalendarMap(calendar), read=ReadOptions(**read))


def linked(vendor: Path, folder: Path, *patterns: str) -> Path:
    """A folder with these vendor files at their paths."""
    for pattern in patterns:
        for path in found(vendor, pattern):
            target = folder / path.relative_to(vendor / "lean")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def us(vendor, tmp_path_factory) -> Reconciled:
    folder = linked(
        vendor,
        tmp_path_factory.mktemp("us"),
        "equity/usa/minute/*/*_trade.zip",
        "equity/usa/hour/*.zip",
        "equity/usa/daily/*.zip",
    )
    return within(folder, [Interval.parse("1h"), Interval.parse("1d")], options("XNYS")).result


def test_reconcile_us_minutes_with_the_vendors_hours_and_days_pairs_every_bar(us: Reconciled) -> None:
    told = us.summary.select("symbol", "interval", "common", "only_a", "only_b").rows()
    assert told == [
        ("BAC", "1d", 6, 0, 0), ("BAC", "1h", 42, 0, 0), ("FOXA", "1d", 2, 0, 0), ("GOOG", "1d", 3, 0, 0),
        ("IBM", "1d", 6, 0, 0), ("IBM", "1h", 42, 0, 0), ("SPY", "1d", 6, 0, 0), ("SPY", "1h", 42, 0, 0),
    ]  # fmt: skip


def test_reconcile_us_minutes_volume_agrees_but_for_ibms_late_prints(us: Reconciled) -> None:
    volume = us.columns.filter(pl.col("column") == "volume")
    assert volume.select("symbol", "interval", "different").rows() == [
        ("GOOG", "1d", 1),
        ("IBM", "1d", 5),
        ("IBM", "1h", 5),
    ]
    assert volume["median_rel"].max() < 0.02
    assert (volume["first_b"] > volume["first_a"]).all()


def test_reconcile_us_minutes_prices_differ_by_another_filter(us: Reconciled) -> None:
    hours = us.causes.filter(pl.col("interval") == "1h", pl.col("columns") != "volume")
    assert set(hours["cause"]) == {"price_filter", "open_at_close_before"}
    high = us.columns.filter(pl.col("symbol") == "SPY", pl.col("interval") == "1h", pl.col("column") == "high")
    assert high["max_abs"].item() == pytest.approx(1.26)  # the bad prints of 2013-10-08


def test_reconcile_us_hours_with_days_finds_the_hours_after_23_early_closes(vendor, tmp_path: Path) -> None:
    folder = linked(vendor, tmp_path, "equity/usa/hour/[bis]*[cmy].zip", "equity/usa/daily/[bis]*.zip")
    result = within(folder, [Interval.parse("1d")], options("XNYS")).result
    assert result.summary.select("symbol", "common", "different").rows() == [
        (s, 5_849, 23) for s in ("BAC", "IBM", "SPY")
    ]
    assert result.causes.select("cause", "rows").rows() == [("hours", 23)] * 3
    assert result.causes["last_ts"].dt.date().unique().to_list() == [dt.date(2008, 12, 24)]


def test_reconcile_es_minutes_with_the_vendors_days_finds_the_hours_they_cover_and_the_half_volume(
    vendor, tmp_path: Path
) -> None:
    folder = linked(vendor, tmp_path, "future/cme/minute/es/*_trade.zip", "future/cme/daily/es_trade.zip")
    result = within(folder, [Interval.parse("1d")], options("CME_INDEX", symbols=("ES.201312",))).result
    first = result.causes.row(0, named=True)
    assert (first["cause"], first["rows"]) == ("hours", 7)
    assert first["evidence"].startswith(
        "B opens where A's bar of 13:30:00 UTC does, on 6 of 7 days; volume of B is 1.7"
    )


def test_reconcile_oanda_with_fxcm_pairs_their_minutes_and_finds_the_spread(vendor) -> None:
    paths = [vendor / "lean/forex" / broker / "minute" for broker in ("oanda", "fxcm")]
    result = between(*paths, options("FX")).result
    assert result.summary.select("common", "cause").rows() == [(9232, "spread")] * 2
    near = between(*paths, options("FX"), tolerances=Tolerances({"price": Tolerance(absolute=0.0002)})).result
    assert near.summary.select(pl.col("equal") / pl.col("common")).to_series().min() > 0.98


@pytest.mark.parametrize("hours", [5, -4, 1])
def test_reconcile_oanda_with_fxcm_read_in_a_wrong_zone_names_the_hours(hours: int, vendor) -> None:
    oanda, fxcm = (bars(found(vendor, f"forex/{broker}/minute/eurusd/*"), "FX", "1m") for broker in ("oanda", "fxcm"))
    result = reconcile(oanda, fxcm.with_columns(pl.col("ts") + pl.duration(hours=hours)))
    assert result.summary["cause"].to_list() == ["zone", "zone"]
    word = "late" if hours > 0 else "early"
    named = result.causes.filter(pl.col("cause") == "zone")["evidence"]
    assert named.str.starts_with(f"B is {word} by {60 * abs(hours)} min").all()


def test_reconcile_the_two_copies_of_fesx_finds_the_back_adjustment(vendor) -> None:
    both = rows(*found(vendor, "future/eurex/minute/fesx/20240603_trade.zip"))
    both = both.filter(pl.col("ts").is_duplicated()).filter(pl.col("symbol") == "FESX.202406")
    about = both.with_columns(pl.lit("1m").alias("interval"), pl.col("ts").dt.date().alias("session"))
    traded, adjusted = about.slice(1152), about.head(1152)
    result = reconcile(traded, adjusted)
    assert result.causes.select("cause", "rows", "columns").rows() == [("adjustment", 1152, "open, high, low, close")]
    assert result.causes["evidence"][0].startswith("B is 1.0083")
