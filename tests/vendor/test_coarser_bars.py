"""The vendor's own coarser bars, wherever they are a plain fold of its finer ones: equal to the last digit."""

from __future__ import annotations

import polars as pl
import pytest

from tests.vendor.folds import PRICES, Fold, left_over, of_the_same_days, ours, paired, theirs, unequal

FXCM, OANDA, GOLD, COINBASE = "forex/fxcm/", "forex/oanda/", "cfd/oanda/", "crypto/coinbase/"
FXCM_DAY, NEW_YORK = "fxcm_data_day.toml", "America/New_York"

FOLDS = [
    Fold(OANDA + "tick/eurusd/*", "1s", OANDA + "second/eurusd/*", "1s", "FX", 188_738),
    Fold(OANDA + "tick/eurusd/*", "1s", OANDA + "minute/eurusd/*", "1m", "FX", 13_934),
    Fold(OANDA + "second/eurusd/*", "1s", OANDA + "minute/eurusd/*", "1m", "FX", 13_934),
    Fold(FXCM + "tick/eurusd/*", "1s", FXCM + "second/eurusd/*", "1s", FXCM_DAY, 41_808, days="Etc/GMT+5"),
    Fold(FXCM + "second/eurusd/*", "1s", FXCM + "minute/eurusd/*", "1m", FXCM_DAY, 3_914, days="Etc/GMT+5"),
    Fold(FXCM + "minute/eurusd/*", "1m", FXCM + "hour/eurusd.zip", "1h", FXCM_DAY, 324, days="Etc/GMT+5"),
    Fold(FXCM + "minute/eurusd/*", "1m", FXCM + "hour/eurusd.zip", "1h", "FX", 320, days="Etc/GMT+5"),
    Fold(FXCM + "minute/eurusd/*", "1m", FXCM + "daily/eurusd.zip", "1d", FXCM_DAY, 16, days="Etc/GMT+5"),
    Fold(FXCM + "hour/eurusd.zip", "1h", FXCM + "daily/eurusd.zip", "1d", FXCM_DAY, 6_974, days="Etc/GMT+5"),
    Fold(OANDA + "hour/eurusd.zip", "1h", OANDA + "daily/eurusd.zip", "1d", "24/7", 7_476),
    Fold(GOLD + "tick/xauusd/*", "1s", GOLD + "second/xauusd/*", "1s", "GOLD_CFD", 4_432),
    Fold(GOLD + "second/xauusd/*", "1s", GOLD + "minute/xauusd/*", "1m", "GOLD_CFD", 2_994),
    Fold(GOLD + "hour/xauusd.zip", "1h", GOLD + "daily/xauusd.zip", "1d", "24/7", 7_898),
    Fold(COINBASE + "second/btcusd/*", "1s", COINBASE + "minute/btcusd/*_trade.zip", "1m", "24/7", 2_819),
    Fold(COINBASE + "minute/btcusd/*", "1m", COINBASE + "daily/*", "1d", "24/7", 11),
    Fold("cryptofuture/binance/minute/adausdt/*", "1m", "cryptofuture/binance/hour/*", "1h", "24/7", 72),
    Fold("cryptofuture/binance/hour/*", "1h", "cryptofuture/binance/daily/*", "1d", "24/7", 3),
    Fold("future/comex/hour/gc_[qt]*", "1h", "future/comex/daily/gc_[qt]*", "1d", "gc_data_day.toml", 268),
    Fold("index/usa/minute/spx/2021*", "1m", "index/usa/hour/*", "1h", "spx_index.toml", 16, align="clock"),
    Fold("index/usa/minute/spx/2021*", "1m", "index/usa/daily/*", "1d", "spx_index.toml", 2),
    Fold("index/usa/hour/*", "1h", "index/usa/daily/*", "1d", "spx_index.toml", 2, align="clock"),
    Fold("equity/usa/hour/[bis]*[cmy].zip", "1h", "equity/usa/daily/[bis]*.zip", "1d", "us_full_day.toml", 17_547,
         days=NEW_YORK),
]  # fmt: skip


@pytest.mark.parametrize("fold", FOLDS, ids=str)
def test_derive_from_vendor_files_equals_the_vendors_coarser_bars(fold: Fold, vendor) -> None:
    have, want = ours(vendor, fold), theirs(vendor, fold)
    assert left_over(have, want).is_empty()
    assert left_over(of_the_same_days(want, have, fold.days), have).is_empty()
    pairs = paired(have, want)
    assert unequal(pairs).is_empty()
    assert unequal_amounts(pairs).is_empty()
    assert pairs.height == fold.bars


def unequal_amounts(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs whose volumes or sizes differ; coin amounts are fractions, so their sums may differ in the last digits."""
    volume, vendors = pl.col("volume"), pl.col("volume_vendor")
    whole = (vendors == vendors.round()).all() | vendors.is_null().all()
    slack = pl.when(whole).then(0.0).otherwise(1e-9)
    return pairs.filter(
        volume.is_null().ne(vendors.is_null())
        | ((volume - vendors).abs() > slack * vendors)
        | (pl.col("size").fill_null(0.0) != pl.col("size_vendor").fill_null(0.0))
    )


def test_derive_daily_bars_of_us_minutes_equals_open_and_close_of_the_regular_session(vendor) -> None:
    have, want = us_days(vendor)
    pairs = paired(have, want)
    assert unequal(pairs, ("open", "close")).is_empty()
    assert set(left_over(have, want)["symbol"]) == {"SHY", "TWX"}  # of which there is no daily file
    assert pairs.height == 23
    half_day = pairs.filter((pl.col("symbol") == "GOOG") & (pl.col("session") == pl.date(2015, 12, 24)))
    assert half_day.select("n_base", "n_expected", "close").rows() == [(210, 210, 748.4)]


def us_days(vendor) -> tuple[pl.DataFrame, pl.DataFrame]:
    fold = Fold("equity/usa/minute/*/*_trade.zip", "1m", "equity/usa/daily/*", "1d", "XNYS", 23)
    return ours(vendor, fold), theirs(vendor, fold)


def test_derive_hour_bars_of_gold_futures_equals_the_vendors_but_for_the_hour_it_leaves_out(vendor) -> None:
    fold = Fold("future/comex/minute/gc/*_trade.zip", "1m", "future/comex/hour/gc_trade.zip", "1h", "COMEX_METALS", 174)
    have, want = ours(vendor, fold), theirs(vendor, fold)
    new_york = pl.col("ts").dt.convert_time_zone(NEW_YORK).dt.hour()
    assert left_over(have, want)["ts"].dt.convert_time_zone(NEW_YORK).dt.hour().to_list() == [17] * 4
    assert left_over(of_the_same_days(want, have, "UTC"), have).is_empty()
    pairs = paired(have.filter(new_york != 17), want)
    assert unequal(pairs, (*PRICES, "volume")).is_empty()
    assert pairs.height == fold.bars
