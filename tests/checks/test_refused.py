"""Rows that were refused, replaced or repeated, and quotes that are crossed."""

from __future__ import annotations

import datetime as dt

import engine
import polars as pl
import pytest
from engine.checks.refused import conflict_pairs, conflicts, count_refused, refused, repeats
from engine.checks.spreads import bar_spreads, combine_spreads, crossed, quote_spreads
from engine.schema import REJECTS, empty, rejected_rows

from tests.checks.feeds import stored
from tests.vendor.files import CALENDARS

EUREX = CALENDARS.parents[1] / "calendars" / "eurex_index.toml"
OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)


def bars(closes: list[float], volume: float = 5.0) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "symbol": "A",
            "price_type": "last",
            "interval": "1m",
            "session": dt.date(2024, 1, 2),
            "ts": [OPEN + dt.timedelta(minutes=n) for n in range(len(closes))],
            "close": closes,
            "volume": volume,
        }
    ).cast({"ts": pl.Datetime("us", "UTC")})


def losers(kept: pl.DataFrame, factor: pl.Expr) -> pl.DataFrame:
    cells = kept.with_columns(pl.col("close") * factor).with_row_index("row", offset=1)
    return rejected_rows(cells.drop("interval", "session"), "conflict: a later row has other values", "a.csv")


def test_refused_rows_are_one_finding_per_file_and_reason_with_the_first_row() -> None:
    raw = pl.DataFrame({"row": [4, 9, 11], "text": ["<script>", "=1+1", "[/]"]})
    bad = pl.concat(
        [
            rejected_rows(raw, "high below low", "a.csv"),
            rejected_rows(raw.head(1), "ts: missing", "b.csv"),
            rejected_rows(raw, "conflict: later", "a.csv"),
        ]
    )
    found = refused(count_refused(bad))
    assert found.select("source", "count").rows() == [("a.csv", 3), ("b.csv", 1)]
    assert found["evidence"][0] == 'the first is row 4: {"text":"<script>"}'
    assert found["fingerprint"].n_unique() == 2


def test_conflicts_between_whole_seconds_find_the_bar_that_was_kept() -> None:
    kept = bars([10.0]).with_columns(pl.col("ts") + pl.duration(milliseconds=500))
    (row,) = conflict_pairs(losers(kept, pl.lit(1.02)), kept).iter_rows(named=True)
    assert (row["ts"], row["kept"]) == (kept["ts"][0], 10.0)


def test_refused_nothing_says_nothing() -> None:
    none = empty(REJECTS)
    assert refused(count_refused(none)).height == 0
    assert conflicts(conflict_pairs(none, bars([1.0]))).height == 0


def test_conflicts_of_one_ratio_are_an_adjusted_copy() -> None:
    kept = bars([100 + n / 4 for n in range(40)])
    (row,) = conflicts(conflict_pairs(losers(kept, pl.lit(1.02)), kept)).iter_rows(named=True)
    assert (row["count"], row["source"]) == (40, "a.csv")
    assert "back-adjusted copy of the other: every close differs by x 1.02000" in row["message"]
    assert "100% have the same volume; the first: 102 refused, 100 kept" in row["evidence"]


@pytest.mark.parametrize("factor", [0.25, 1 / 3, 7.0])
def test_conflicts_of_a_split_have_volumes_in_the_inverse_ratio(factor: float) -> None:
    kept = bars([100 + n / 4 for n in range(40)]).with_columns(
        (5.0 + 13 * pl.int_range(pl.len())).round().alias("volume")
    )
    scaled = kept.with_columns((pl.col("volume") / factor).round())
    (row,) = conflicts(conflict_pairs(losers(scaled, pl.lit(factor)), kept)).iter_rows(named=True)
    assert f"copy of the other: every close differs by x {factor:.5f}" in row["message"]
    assert "100% have the volume in the inverse ratio" in row["evidence"]


def test_conflicts_of_one_ratio_with_other_volumes_are_no_copy() -> None:
    kept = bars([100 + n / 4 for n in range(40)]).with_columns((500.0 + pl.int_range(pl.len())).alias("volume"))
    strange = kept.with_columns(pl.col("volume").reverse() * 3)
    (row,) = conflicts(conflict_pairs(losers(strange, pl.lit(1.02)), kept)).iter_rows(named=True)
    assert "copy" not in row["message"]
    assert "0% have the same volume" in row["evidence"]


def test_conflicts_of_one_ratio_without_volumes_are_an_adjusted_copy() -> None:
    kept = bars([100 + n / 4 for n in range(40)]).with_columns(pl.lit(None, pl.Float64).alias("volume"))
    (row,) = conflicts(conflict_pairs(losers(kept, pl.lit(1.02)), kept)).iter_rows(named=True)
    assert "back-adjusted copy" in row["message"]


def test_conflicts_of_many_ratios_are_no_copy() -> None:
    kept = bars([100.0] * 40)
    (row,) = conflicts(conflict_pairs(losers(kept, 1 + pl.int_range(pl.len()) / 1000), kept)).iter_rows(named=True)
    assert "copy" not in row["message"]


def test_conflicts_without_the_bars_that_won_are_counted_all_the_same() -> None:
    kept = bars([100.0] * 3)
    (row,) = conflicts(conflict_pairs(losers(kept, pl.lit(1.1)), kept.clear())).iter_rows(named=True)
    assert row["count"] == 3
    assert "not at hand" in row["message"]


def test_conflicts_of_the_euro_stoxx_future_are_a_back_adjusted_copy(vendor) -> None:
    session = engine.load(vendor / "lean/future/eurex/minute/fesx", str(EUREX))
    found = conflicts(conflict_pairs(pl.concat(session.snapshot().rejects), session.snapshot().bars()))
    assert found.select("symbol", "count").rows() == [("FESX.202406", 1152)]
    assert "x 1.00835" in found["message"][0]


def test_repeats_are_summed_per_series_and_kind() -> None:
    days = [dt.date(2024, 1, d) for d in (2, 3, 4)]
    quality = pl.DataFrame(
        {
            "symbol": "A",
            "price_type": "last",
            "interval": "1m",
            "session": days,
            "present": 390,
            "duplicates": [0, 7, 1],
            "corrections": [0, 0, 9],
        }
    )
    found = pl.concat([repeats(quality, kind) for kind in ("duplicates", "corrections")])
    assert found.select("check_name", "severity", "count", "session").rows() == [
        ("duplicates", "info", 8, days[1]),
        ("corrections", "warning", 9, days[2]),
    ]
    assert repeats(quality.with_columns(pl.lit(0).alias("duplicates")), "duplicates").height == 0


def test_sessions_of_two_sources_under_one_name_are_said_to_be_that() -> None:
    days = [dt.date(2024, 1, d) for d in (2, 3, 4)]
    quality = pl.DataFrame(
        {
            "symbol": ["A", "A", "B"],
            "price_type": "last",
            "interval": "1m",
            "session": days,
            "present": 390,
            "corrections": [0, 377, 40],
        }
    )
    found = repeats(quality, "corrections")
    assert found["message"].str.contains("two sources").to_list() == [True, False]
    assert found["remedy"].str.contains("engine reconcile").to_list() == [True, False]


def test_spreads_of_quotes_count_locked_and_crossed_and_leave_out_one_sided_ones() -> None:
    quotes = pl.DataFrame(
        {
            "symbol": "A",
            "session": dt.date(2024, 1, 2),
            "ts": [OPEN] * 5,
            "bid": [10.0, 10.0, 11.0, None, 9.0],
            "ask": [11.0, 10.0, 10.0, 10.0, None],
        }
    )
    counted = combine_spreads([quote_spreads(quotes), quote_spreads(quotes)])
    assert counted.select("quotes", "locked", "crossed", "widest").rows() == [(6, 2, 2, 0.10000000000000009)]
    (row,) = crossed(counted).iter_rows(named=True)
    assert (row["severity"], row["count"]) == ("warning", 2)
    assert crossed(combine_spreads([quote_spreads(quotes.head(1))])).height == 0


def test_spreads_of_the_pound_in_2012_are_crossed_in_347_minutes(vendor) -> None:
    (feed,) = stored(vendor / "nautilus/fxcm", "FX")
    (row,) = crossed(combine_spreads([bar_spreads(feed.rows, feed.series)])).iter_rows(named=True)
    assert (row["symbol"], row["count"]) == ("GBPUSD", 347)
    assert "347 of 30,117 1m closes" in row["message"]


def test_crossed_quotes_of_prices_at_and_below_zero_have_no_share():
    stamps = [dt.datetime(2024, 1, 2, 15, minute, tzinfo=dt.UTC) for minute in range(3)]
    quotes = pl.DataFrame(
        {"symbol": "CL", "ts": stamps, "session": stamps[0].date(), "bid": [-1.0, 1.0, 1.0], "ask": [-2.0, -1.0, 0.0]}
    )
    (message,) = crossed(quote_spreads(quotes))["message"]
    assert message.startswith("The bid is above the ask in 3 of 3 quotes (100.00%), and equal")
    priced = quotes.with_columns(bid=pl.Series([101.0, 1.0, 1.0]), ask=pl.Series([100.0, -1.0, 0.0]))
    assert "by up to 1.0000% of the price" in crossed(quote_spreads(priced))["message"][0]
