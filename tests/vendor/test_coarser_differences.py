"""The vendor's coarser bars where they are no plain fold of its finer ones: the difference is exactly its known reason."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.derive.tick_bars import bars_from_trades
from engine.grid import GridSpec, SessionGrid

from tests.vendor.files import rows
from tests.vendor.folds import KEY, PRICES, Fold, found, left_over, of_the_same_days, ours, paired, theirs, unequal

NEW_YORK = "America/New_York"
US_SECONDS = "equity/usa/second/*/*_trade.zip"
US_MINUTES = "equity/usa/minute/*/*_trade.zip"
US_HOURS = "equity/usa/hour/[bis]*[cmy].zip"  # bac, ibm, spy
LOCAL_TIME = pl.col("ts").dt.convert_time_zone(NEW_YORK).dt.time()
OPENING, CLOSING = dt.time(9, 30), dt.time(15, 59)
SERIES = ["symbol", "price_type"]

# Flags of US trades that count for volume, not for price; out of hours, and reported out of sequence, all trades count.
SWEEP, SELLER, OPENED, CLOSED, DERIVED, STOCK_OPTION, CROSS, OFFICIAL_CLOSE, OFFICIAL_OPEN = (
    0x20, 0x8, 0x40, 0x80, 0x200, 0x40000, 0x200000, 0x1000000, 0x4000000,
)  # fmt: skip
NO_PRICE = SWEEP | SELLER | OPENED | CLOSED | DERIVED | STOCK_OPTION | CROSS | OFFICIAL_CLOSE | OFFICIAL_OPEN
AVERAGE_PRICE = 0x100000 | 0x20000000
ALWAYS = 0x2000 | 0x4000


@pytest.fixture(scope="module")
def us_seconds(vendor) -> pl.DataFrame:
    """One-minute bars from seconds beside the vendor's minutes."""
    fold = Fold(US_SECONDS, "1s", US_MINUTES, "1m", "XNYS", 5_849)
    have, want = ours(vendor, fold), theirs(vendor, fold)
    assert left_over(have, want).is_empty()
    assert left_over(of_the_same_days(want, have, NEW_YORK), have).is_empty()
    pairs = paired(have, want).with_columns(LOCAL_TIME.alias("at"))
    assert pairs.height == fold.bars
    return pairs


def test_fold_us_seconds_give_the_minutes_prices_but_for_opening_and_closing_prints(us_seconds) -> None:
    assert unequal(us_seconds, ("low",)).is_empty()
    assert set(unequal(us_seconds, ("open",))["at"]) == {OPENING}
    assert set(unequal(us_seconds, ("high", "close"))["at"]) == {CLOSING}
    auction = unequal(us_seconds, ("high",))
    assert (auction["high_vendor"] == auction["close_vendor"]).all()
    assert unequal(us_seconds).height == 18


def test_fold_us_seconds_give_the_minutes_volume_but_for_shares_that_count_for_the_bar_before(us_seconds) -> None:
    surplus = (pl.col("volume") - pl.col("volume_vendor")).alias("surplus")
    between = us_seconds.filter(~pl.col("at").is_in([OPENING, CLOSING])).with_columns(surplus)
    # What a second hands to the one before leaves its minute only backwards, so the running sum is what is on its way.
    moved = between.with_columns(pl.col("surplus").cum_sum().over("symbol", "session").alias("moved"))
    days = moved.group_by("symbol", "session").agg(pl.col("moved").last().alias("rest"), pl.col("moved").min())
    assert days.filter(pl.col("moved") < pl.col("rest")).is_empty()
    # One day the second minute's first 100 shares count for the opening minute.
    assert days.filter(pl.col("rest") != 0).select("symbol", "session", "rest").rows() == [
        ("IBM", dt.date(2013, 10, 7), -100.0)
    ]
    assert between.filter(pl.col("surplus") != 0).height > 900
    at_the_ends = us_seconds.filter(pl.col("at").is_in([OPENING, CLOSING])).select(surplus)["surplus"]
    assert (at_the_ends <= 0).sum() == 30


def test_fold_us_second_bars_are_the_fold_of_the_trades_that_make_prices(vendor) -> None:
    segments = calendar("XNYS").segments(dt.date(2013, 10, 7), dt.date(2013, 10, 11))
    grid = SessionGrid.build(segments, "1s", GridSpec("XNYS"))
    flag = pl.col("conditions").str.to_integer(base=16)
    averaged = (flag & AVERAGE_PRICE) == AVERAGE_PRICE
    makes_price = (((flag & NO_PRICE) == 0) & ~averaged) | ((flag & ALWAYS) != 0)
    for symbol, seconds, plain in (("ibm", 26_126, 3_000), ("bac", 66_799, 1_500)):
        ticks = rows(*found(vendor, f"equity/usa/tick/{symbol}/*_trade.zip")).with_columns(
            pl.lit(1, pl.Int32).alias("series")
        )
        want = rows(*found(vendor, f"equity/usa/second/{symbol}/*_trade.zip"))
        want = want.filter(grid.place(want["ts"])["slot"].is_not_null()).drop("price_type")
        have = bars_from_trades(ticks.filter(makes_price), grid)
        pairs = have.join(want, on="ts", how="full", suffix="_vendor", coalesce=True)
        assert unequal(pairs).is_empty()
        assert pairs.height == seconds
        unfiltered = bars_from_trades(ticks, grid).join(want, on="ts", suffix="_vendor")
        assert unequal(unfiltered).height > plain


def test_fold_us_hours_have_the_minutes_volume_and_lose_prints_to_another_filter(vendor) -> None:
    fold = Fold(US_MINUTES, "1m", US_HOURS, "1h", "XNYS", 126, align="clock")
    pairs = paired(ours(vendor, fold), theirs(vendor, fold))
    assert pairs.height == fold.bars
    more = unequal(pairs, ("volume",)).with_columns(LOCAL_TIME.alias("at"))
    assert more.select("symbol", "at").unique().rows() == [("IBM", dt.time(15))]
    assert (more["volume"] < more["volume_vendor"]).all()
    assert pairs.filter(
        (pl.col("high_vendor") > pl.col("high")) | (pl.col("low_vendor") < pl.col("low"))
    ).is_empty()  # prints fell out, none came in
    bad = pairs.filter((pl.col("symbol") == "SPY") & (pl.col("high") == 167.51))
    assert bad.select(LOCAL_TIME, "session").rows() == [(dt.time(15), dt.date(2013, 10, 8))]
    assert (bad["high_vendor"] < 167.51).all()


def test_fold_us_daily_bars_stay_within_the_minutes_and_lack_no_share(vendor) -> None:
    fold = Fold(US_MINUTES, "1m", "equity/usa/daily/*", "1d", "XNYS", 23)
    pairs = paired(ours(vendor, fold), theirs(vendor, fold))
    assert pairs.height == fold.bars
    assert (pairs["high_vendor"] <= pairs["high"]).all()
    assert (pairs["low_vendor"] >= pairs["low"]).all()
    assert (pairs["volume_vendor"] >= pairs["volume"]).all()
    assert set(unequal(pairs, ("volume",))["symbol"]) == {"IBM", "GOOG"}


def test_fold_us_hours_after_an_early_close_are_in_the_vendors_day_and_not_in_ours(vendor) -> None:
    fold = Fold(US_HOURS, "1h", "equity/usa/daily/[bis]*.zip", "1d", "XNYS", 17_547, align="clock")
    have, want = ours(vendor, fold), theirs(vendor, fold)
    late = rows(*found(vendor, US_HOURS)).with_columns(
        pl.col("ts").dt.convert_time_zone(NEW_YORK).dt.date().alias("session")
    )
    ends = calendar("XNYS").segments(dt.date(1998, 1, 2), dt.date(2021, 3, 31)).filter(pl.col("segment") == "RTH")
    late = late.join(ends.select("session", "segment_close"), on="session").filter(
        pl.col("ts") >= pl.col("segment_close")
    )
    other = unequal(paired(have, want), (*PRICES, "volume"))
    days = ["symbol", "session"]
    assert other.select(days).sort(days).equals(late.select(days).unique().sort(days))
    assert other.height == 3 * 23
    assert other["session"].max() == dt.date(2008, 12, 24)


def test_fold_us_quote_bars_open_at_the_close_of_the_bar_before(vendor) -> None:
    for resolution, bars in (("second", 607_702), ("minute", 30_426)):
        quotes = rows(*found(vendor, f"equity/usa/{resolution}/*/*_quote.zip")).sort(KEY)
        day = pl.col("ts").dt.convert_time_zone(NEW_YORK).dt.date()
        before = pl.col("close").shift(1).over(*SERIES, day)
        pairs = quotes.with_columns(before.alias("before")).filter(pl.col("before").is_not_null())
        assert (pairs["open"] == pairs["before"]).all()
        assert pairs.height == bars


def test_fold_us_quote_seconds_give_the_quote_minutes_since_both_open_alike(vendor) -> None:
    fold = Fold("equity/usa/second/*/*_quote.zip", "1s", "equity/usa/minute/*/*_quote.zip", "1m", "XNYS", 11_700)
    have, want = ours(vendor, fold), theirs(vendor, fold)
    pairs = paired(have, want)
    assert left_over(have, want).is_empty()
    assert unequal(pairs).is_empty()
    assert pairs.height == fold.bars


def opened_at_the_close_before(have: pl.DataFrame, want: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pairs, and the same with ours opened where the vendor's bar before closed (high and low stretched to it)."""
    before = want.with_columns(pl.col("close").shift(1).over(SERIES).alias("before"))
    pairs = paired(have, want).join(before.select(*KEY, "before"), on=KEY).filter(pl.col("before").is_not_null())
    opened = pairs.with_columns(
        pl.col("before").alias("open"),
        pl.max_horizontal("high", "before").alias("high"),
        pl.min_horizontal("low", "before").alias("low"),
    )
    return pairs, opened


@pytest.mark.parametrize(
    ("fold", "opens"),
    [
        (Fold("equity/usa/tick/ibm/20131007_quote.zip", "1s", "equity/usa/minute/ibm/20131007_quote.zip", "1m",
              "XNYS", 778), 118),
        (Fold("forex/oanda/minute/eurusd/*", "1m", "forex/oanda/hour/eurusd.zip", "1h", "FX", 330), 259),
        (Fold("future/comex/minute/gc/*_quote.zip", "1m", "future/comex/hour/gc_quote.zip", "1h", "COMEX_METALS", 1_890),
         1_059),
    ],
    ids=str,
)  # fmt: skip
def test_fold_quote_bars_that_open_at_the_close_before_are_the_fold_from_there(fold: Fold, opens: int, vendor) -> None:
    pairs, opened = opened_at_the_close_before(ours(vendor, fold), theirs(vendor, fold))
    assert unequal(pairs, ("close",)).is_empty()
    assert unequal(opened).is_empty()
    assert pairs.height == fold.bars
    assert unequal(pairs, ("open",)).height == opens


def test_fold_gold_cfd_hours_differ_in_the_hour_of_the_reopening_and_lack_sundays_first(vendor) -> None:
    fold = Fold("cfd/oanda/minute/xauusd/*", "1m", "cfd/oanda/hour/xauusd.zip", "1h", "GOLD_CFD", 316)
    have, want = ours(vendor, fold), theirs(vendor, fold)
    pairs = paired(have, want)
    assert pairs.height == fold.bars
    assert set(unequal(pairs).select(LOCAL_TIME).to_series()) == {dt.time(18)}
    assert unequal(pairs, ("open",)).is_empty()
    sunday = left_over(have, want).select(pl.col("ts").dt.convert_time_zone(NEW_YORK))["ts"]
    assert [(at.date(), at.hour) for at in sunday] == [(dt.date(2014, 5, 4), 18)] * 2


def test_fold_gold_future_ticks_give_the_minutes_but_for_the_last_trade_that_the_file_repeats(vendor) -> None:
    fold = Fold("future/comex/tick/gc/*_trade.zip", "1m", "future/comex/minute/gc/*_trade.zip", "1m", "COMEX_METALS",
                3_037)  # fmt: skip
    have, want = ours(vendor, fold), theirs(vendor, fold)
    pairs = paired(have, want)
    assert left_over(have, want).is_empty()
    assert left_over(want, have).is_empty()
    assert unequal(pairs).is_empty()
    assert pairs.height == fold.bars
    ticks = rows(*found(vendor, fold.fine))
    last = ticks.group_by("symbol", pl.col("ts").dt.date().alias("day"), maintain_order=True).agg(
        pl.all().last(), pl.struct("price", "size", pl.col("ts").alias("at")).tail(2).n_unique().alias("kinds")
    )
    assert (last["kinds"] == 1).all()
    once = last.select(
        "symbol", pl.col("ts").dt.cast_time_unit("us").dt.truncate("1m"), pl.col("size").alias("repeated")
    )
    volume = pairs.join(once, on=["symbol", "ts"], how="left").with_columns(pl.col("repeated").fill_null(0.0))
    assert (volume["volume"] - volume["repeated"] == volume["volume_vendor"]).all()
    assert unequal(pairs, ("volume",)).height == 13


@pytest.mark.parametrize(("calendar_code", "equal_opens"), [("es_cash_day.toml", 6), ("CME_INDEX", 0)])
def test_fold_es_daily_bars_begin_at_the_open_of_new_yorks_cash_session(calendar_code, equal_opens, vendor) -> None:
    fold = Fold("future/cme/minute/es/*_trade.zip", "1m", "future/cme/daily/es_trade.zip", "1d", calendar_code, 6)
    whole = (pl.col("symbol") == "ES.201312") & (pl.col("session") <= dt.date(2013, 10, 14))
    pairs = paired(ours(vendor, fold).filter(whole), theirs(vendor, fold))
    assert pairs["open_vendor"].count() == fold.bars
    assert pairs.height - unequal(pairs, ("open",)).height == equal_opens
    # Up to the Friday the minutes hold about half of the day's contracts; on Monday all of them, in cash hours.
    same = pairs.filter(pl.col("volume") == pl.col("volume_vendor"))["session"].to_list()
    assert same == ([dt.date(2013, 10, 14)] if equal_opens else [])
