"""Two sides of bars: counts against an oracle in plain Python, laws, and causes that were planted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import polars as pl
import pytest
from engine.audit.reconcile import CAUSES, COLUMNS, DIFFERENCES, SUMMARY, Reconciled, Tolerances, reconcile
from engine.audit.rules import Tolerance
from engine.checks.findings import FINDINGS
from engine.errors import ParameterError, SchemaError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audit import bars
from tests.audit.bars import Row, frame, walk

PRICES = ("open", "high", "low", "close")
KEY = ["symbol", "price_type", "interval"]


@st.composite
def sides(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Few bars of few series on both sides, with holes, other values, nulls and sessions that only one has."""
    value = st.sampled_from([None, 0.0, 1.0, 2.0, 2.0 + 1e-12, -3.0])
    drawn = []
    for _ in range(2):
        rows = {}
        for _ in range(draw(st.integers(0, 14))):
            symbol, day, minute = draw(st.sampled_from("AB")), draw(st.integers(1, 3)), draw(st.integers(0, 3))
            session = dt.date(2024, 1, day)
            ts = dt.datetime(2024, 1, day, 14, minute, tzinfo=dt.UTC)
            rows[symbol, ts] = {
                "symbol": symbol,
                "price_type": "last",
                "interval": "1m",
                "ts": ts,
                "session": session,
                **{name: draw(value) for name in bars.COLUMNS},
            }
        drawn.append(list(rows.values()))
    return drawn[0], drawn[1]


def counts(result: Reconciled) -> dict[tuple, dict]:
    found = {}
    for row in result.summary.iter_rows(named=True):
        series = tuple(row[name] for name in KEY)
        mine = result.columns.filter(*(pl.col(n) == v for n, v in zip(KEY, series, strict=True)))
        found[series] = {"state": row["state"]}
        if row["state"] in ("equal", "different"):
            found[series] |= {
                n: row[n] for n in ("common", "equal", "different", "only_a", "only_b", "outside_a", "outside_b")
            }
            found[series]["columns"] = dict(mine.select("column", "different").rows())
    return found


@given(sides())
@settings(max_examples=60)
def test_reconcile_any_sides_counts_as_the_oracle_does(pair: tuple[list[Row], list[Row]]) -> None:
    result = reconcile(frame(pair[0]), frame(pair[1]))
    assert counts(result) == bars.compare(*pair)
    assert result.is_equal == all(one["state"] == "equal" for one in bars.compare(*pair).values())


@given(sides())
@settings(max_examples=25)
def test_reconcile_a_side_with_itself_is_equal(pair: tuple[list[Row], list[Row]]) -> None:
    result = reconcile(frame(pair[0]), frame(pair[0]).reverse())
    assert result.is_equal
    assert result.columns.height + result.causes.height + result.differences.height + result.findings.height == 0


@given(sides())
@settings(max_examples=25)
def test_reconcile_sides_swapped_swaps_what_it_says(pair: tuple[list[Row], list[Row]]) -> None:
    there, back = reconcile(frame(pair[0]), frame(pair[1])), reconcile(frame(pair[1]), frame(pair[0]))
    swap = {"only_a": "only_b", "only_b": "only_a"}
    named = {"rows_a": "rows_b", "rows_b": "rows_a", "outside_a": "outside_b", "outside_b": "outside_a", **swap}
    swapped = back.summary.rename(named).select(*SUMMARY).with_columns(pl.col("state").replace(swap))
    assert swapped.drop("cause").equals(there.summary.drop("cause"))
    numbers = ["column", "different", "max_abs"]
    assert there.columns.select(*KEY, *numbers).equals(back.columns.select(*KEY, *numbers))
    assert there.differences.height == back.differences.height


@given(sides())
@settings(max_examples=25)
def test_reconcile_every_different_bar_has_one_cause(pair: tuple[list[Row], list[Row]]) -> None:
    result = reconcile(frame(pair[0]), frame(pair[1]))
    wrong = result.summary.select(pl.sum_horizontal("different", "only_a", "only_b").sum()).item()
    assert result.causes["rows"].sum() == wrong
    assert result.differences.select("symbol", "ts").unique().height == wrong
    assert [dict(one.schema) for one in (result.summary, result.columns, result.causes, result.differences)] == [
        SUMMARY,
        COLUMNS,
        CAUSES,
        DIFFERENCES,
    ]


def shifted(minutes: int) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda b: b.with_columns(pl.col("ts") + pl.duration(minutes=minutes))


def times(factor: float, *columns: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda b: b.with_columns(pl.col(columns) * factor)


def changed(where: pl.Expr, **values: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda b: b.with_columns(
        pl.when(where).then(new).otherwise(name).alias(name) for name, new in values.items()
    )


IN_DAY = pl.int_range(pl.len()).over("session")
NUMBER = pl.int_range(pl.len())
SPLIT_DAY = dt.date(2024, 1, 4)


@pytest.mark.parametrize(
    ("plant", "cause", "evidence"),
    [
        (shifted(60), "zone", "B is late by 60 min"),
        (shifted(-30), "zone", "B is early by 30 min"),
        (shifted(1), "zone", "B is late by 1 min"),
        (times(100, *PRICES), "scale", "B is 100 times A (5 sessions)"),
        (times(1e-4, *PRICES), "scale", "B is 0.0001 times A"),
        (times(0.01, "volume"), "scale", "volume of B is 0.01 times that of A in 600 bars"),
        (times(1.00835, *PRICES), "adjustment", "B is 1.00835 times A (5 sessions)"),
        (
            changed(pl.col("session") < SPLIT_DAY, **{n: pl.col(n) / 4 for n in PRICES}),
            "adjustment",
            "B is 0.25 times A at first, 1 at last, and moves 1 times between",
        ),
        (lambda b: b.with_columns(pl.col(PRICES) - 12.25), "adjustment", "B is A plus -12.25"),
        (lambda b: b.with_columns(pl.col(PRICES) + 0.01), "price_side", "B closes above A in 100 % of 600 bars"),
        (lambda b: b.filter(IN_DAY >= 30), "session_boundary", "before the other's first"),
        (lambda b: b.filter(pl.col("session") != SPLIT_DAY), "session_missing", "no bar of the session"),
        (lambda b: b.filter(NUMBER % 50 != 3), "missing_bar", "has bars before and after"),
        (changed(IN_DAY == 0, open=pl.col("open") + 0.03), "auction_print", "open of the session's first"),
        (
            changed(IN_DAY == 119, close=pl.col("close") - 0.03, volume=pl.col("volume") * 9),
            "auction_print",
            "close or volume",
        ),
        (changed(NUMBER % 9 == 1, volume=pl.col("volume") * 1.5), "volume_only", "volume of B is 1.5 times that of A"),
        (changed(NUMBER % 9 == 1, open=pl.col("close").shift(1)), "open_at_close_before", "opens where its bar before"),
        (changed(NUMBER % 9 == 1, high=pl.col("high") - 0.01), "price_filter", "lies within the other's"),
        (changed(NUMBER == 77, close=pl.col("close") + 0.01), "late_correction", "few bars of many"),
        (changed(NUMBER % 9 == 1, high=pl.col("high") + 0.5, low=pl.col("low") + 0.01), "unknown", "no known pattern"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_reconcile_planted_difference_is_named_with_its_evidence(plant, cause: str, evidence: str) -> None:
    a = frame(walk())
    result = reconcile(a, plant(a))
    assert result.summary["cause"].to_list() == [cause]
    assert result.causes["cause"].to_list() == [cause]
    assert evidence in result.causes["evidence"][0]


def test_reconcile_prices_adjusted_in_half_of_the_sessions_are_no_zone() -> None:
    # Of five sessions the first two or three: the median ratio of all bars is that of neither half.
    a = frame(walk(days=6, bars=300))
    days = a["session"].unique().sort()
    for first in (2, 3, 4):
        b = changed(pl.col("session") < days[first], **{name: pl.col(name) / 5 for name in PRICES})(a)
        told = reconcile(a, b)
        assert told.causes["cause"].to_list() == ["adjustment"]
        assert "B is 0.2 times A at first, 1 at last" in told.causes["evidence"][0]


def test_reconcile_adjusted_prices_in_another_zone_are_a_zone() -> None:
    a = frame(walk(days=6, bars=300))
    half = changed(pl.col("session") < a["session"].unique().sort()[3], **{name: pl.col(name) / 5 for name in PRICES})
    assert reconcile(a, shifted(60)(half(a))).causes["cause"].to_list()[0] == "zone"
    assert reconcile(a, shifted(1)(times(100, *PRICES)(a))).causes["cause"].to_list()[0] == "zone"


@pytest.mark.parametrize("off", [25.0, -3.0])
def test_reconcile_a_constant_distance_of_prices_that_move_little_is_no_ratio(off: float) -> None:
    quiet = frame(walk()).with_columns(pl.col(PRICES) / 100 + 2000)
    told = reconcile(quiet, quiet.with_columns(pl.col(PRICES) + off))
    assert told.causes["cause"].to_list() == ["adjustment"]
    assert f"B is A plus {off:g}" in told.causes["evidence"][0]
    ratio = reconcile(quiet, quiet.with_columns(pl.col(PRICES) * 1.0125))
    assert "B is 1.0125 times A" in ratio.causes["evidence"][0]


def hours_from(minute: int) -> pl.DataFrame:
    """Hours of one price path, from the minute of the hour on."""
    rows = frame(walk(days=8, bars=390))
    hours = rows.group_by_dynamic("ts", every="1h", offset=f"{minute}m", group_by=["symbol", "price_type", "session"])
    return hours.agg(
        pl.lit("1h").alias("interval"), pl.col("open").first(), pl.col("high").max(), pl.col("low").min(),
        pl.col("close").last(), pl.col("volume").sum(),
    )  # fmt: skip


def test_reconcile_hours_that_begin_at_another_minute_are_another_alignment() -> None:
    told = reconcile(hours_from(30), hours_from(0))
    assert told.causes["cause"].to_list() == ["alignment"]
    a, b = hours_from(30).height, hours_from(0).height
    assert told.causes["rows"].to_list() == [a + b]
    said = f"{a} bars of A alone begin 30 min into the interval, {b} bars of B alone 0 min"
    assert told.causes["evidence"].to_list() == [said]
    lacking = reconcile(hours_from(30), hours_from(30).filter(pl.int_range(pl.len()) % 5 > 0))
    assert lacking.causes["cause"].unique().to_list() != ["alignment"]


@pytest.mark.parametrize("plant", [shifted(60), times(100, *PRICES), times(1.00835, *PRICES)])
def test_reconcile_cause_is_the_same_whichever_side_has_it(plant) -> None:
    a = frame(walk())
    there, back = reconcile(a, plant(a)), reconcile(plant(a), a)
    assert there.causes["cause"].to_list() == back.causes["cause"].to_list()


def test_reconcile_other_brokers_quotes_in_another_zone_are_both_found() -> None:
    a = frame(walk(days=2, bars=600))
    noisy = a.with_columns(pl.col(PRICES) + 0.004 * ((NUMBER * 7) % 5 - 2))
    assert reconcile(a, shifted(300)(noisy)).summary["cause"].to_list() == ["zone"]
    feeds = reconcile(a, noisy)
    assert feeds.summary["cause"].to_list() == ["other_feed"]
    assert feeds.causes["evidence"][0].endswith("95 % of them by at most 0.008")


def test_reconcile_bids_that_are_all_higher_are_a_spread() -> None:
    a = frame(walk()).with_columns(pl.lit("bid").alias("price_type"))
    assert reconcile(a, a.with_columns(pl.col(PRICES) + 0.01)).summary["cause"].to_list() == ["spread"]


def test_reconcile_closes_that_differ_by_rounding_alone_are_no_price_side() -> None:
    a = frame(walk())
    other = changed(NUMBER % 9 == 1, volume=pl.col("volume") * 1.5)(a)
    assert reconcile(a, other.with_columns(pl.col("close") * (1 + 1e-13))).summary["cause"].to_list() == ["volume_only"]


FOLD = [
    pl.col("ts").first(),
    pl.col("open").first(),
    pl.col("high").max(),
    pl.col("low").min(),
    pl.col("close").last(),
    pl.col("volume").sum(),
]


def daily(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.lit("1d").alias("interval")).group_by(*KEY, "session", maintain_order=True).agg(FOLD)


def test_reconcile_days_that_open_at_one_time_cover_other_hours() -> None:
    finer = frame(walk(days=6))
    a, late = daily(finer), daily(finer.filter(IN_DAY >= 30))
    b = late.with_columns(a["ts"])
    result = reconcile(a, b, finer=finer)
    assert result.causes["cause"].to_list() == ["hours"]
    assert result.causes["evidence"][0].startswith("B opens where A's bar of 15:00:00 UTC does, on 6 of 6 days")
    assert "hours" not in reconcile(a, b).causes["cause"].to_list()


def test_reconcile_days_that_hold_bars_outside_the_segments_are_named() -> None:
    finer = frame(walk(days=6))
    a, b = daily(finer.filter(IN_DAY < 100)), daily(finer)
    result = reconcile(a, b, finer=finer)
    assert result.causes.select("cause", "rows").rows() == [("hours", 6)]
    assert result.causes["evidence"][0].startswith("B's day is made of all bars of A")
    other = b.with_columns(pl.col("volume") + 1)
    assert "hours" not in reconcile(a, other, finer=finer).causes["cause"].to_list()


def test_reconcile_volume_of_a_day_is_no_auction_print() -> None:
    a = daily(frame(walk(days=6)))
    assert reconcile(a, changed(NUMBER == 2, volume=pl.col("volume") + 5)(a)).causes["cause"].to_list() == [
        "volume_only"
    ]


def test_reconcile_one_bar_of_a_few_is_no_late_correction() -> None:
    a = frame(walk(days=1, bars=99))
    late = changed(NUMBER == 50, close=pl.col("close") + 0.05, high=pl.col("high") + 0.05, low=pl.col("low") + 0.001)
    assert reconcile(a, late(a)).causes["cause"].to_list() == ["unknown"]


def test_reconcile_symbols_that_differ_in_other_ways_are_told_apart() -> None:
    a = frame([*walk(symbol="A"), *walk(symbol="B"), *walk(symbol="C", seed=9)])
    of_b, of_c = pl.col("symbol") == "B", pl.col("symbol") == "C"
    b = a.with_columns(pl.when(of_b).then(pl.col(n) * 100).otherwise(n).alias(n) for n in PRICES)
    b = b.with_columns(pl.when(of_c).then(pl.col("ts") + pl.duration(hours=1)).otherwise("ts").alias("ts"))
    assert reconcile(a, b).summary.select("symbol", "state", "cause").rows() == [
        ("A", "equal", None),
        ("B", "different", "scale"),
        ("C", "different", "zone"),
    ]


@pytest.mark.parametrize(
    ("tolerance", "equal"),
    [
        ({}, False),
        ({"close": Tolerance(absolute=0.011)}, True),
        ({"close": Tolerance(absolute=0.009)}, False),
        ({"price": Tolerance(relative=0.001)}, True),
        ({"price": Tolerance(relative=0.001), "close": Tolerance()}, False),
        ({"volume": Tolerance(relative=0.5)}, False),
    ],
)
def test_reconcile_values_within_their_tolerance_are_equal(tolerance: dict, equal: bool) -> None:
    a = frame(walk())
    b = changed(NUMBER % 3 == 0, close=pl.col("close") + 0.01)(a)
    assert reconcile(a, b, Tolerances(tolerance)).is_equal == equal


def test_tolerances_of_an_unknown_column_are_refused() -> None:
    with pytest.raises(ParameterError, match="tolerance: received cloze; valid: price, open"):
        Tolerances({"cloze": Tolerance()})


def test_reconcile_a_value_that_one_side_lacks_differs_and_a_column_that_it_lacks_does_not() -> None:
    a = frame(walk(days=1))
    b = a.with_columns(pl.when(NUMBER == 3).then(None).otherwise("volume").alias("volume"))
    assert reconcile(a, b).columns.select("column", "different").rows() == [("volume", 1)]
    assert reconcile(a, a.drop("volume")).is_equal


def test_reconcile_column_rows_have_size_share_and_first_example() -> None:
    a = frame(walk(days=1))
    b = changed(NUMBER.is_in([10, 20]), volume=pl.col("volume") * 2)(a)
    row = reconcile(a, b).columns.row(0, named=True)
    assert (row["column"], row["compared"], row["different"], row["median_rel"]) == ("volume", 120, 2, 0.5)
    assert (row["first_ts"], row["first_a"], row["first_b"]) == (a["ts"][10], a["volume"][10], 2 * a["volume"][10])
    assert row["max_abs"] == max(a["volume"][10], a["volume"][20])


def test_reconcile_limit_shows_one_of_each_cause_first_and_counts_all() -> None:
    a = frame(walk())
    b = changed(NUMBER % 9 == 1, volume=pl.col("volume") * 2)(a).filter(NUMBER % 50 != 3)
    result = reconcile(a, b, limit=2)
    assert sorted(result.differences["cause"]) == ["missing_bar", "volume_only"]
    assert result.differences.filter(pl.col("side") == "a").select("column", "a", "b").rows() == [(None, None, None)]
    assert result.summary.select("different", "only_a").rows() == [(66, 12)]


def test_findings_are_one_per_cause_and_per_series_of_one_side() -> None:
    hostile = "<script>|=cmd[/]"
    a = frame([*walk(symbol=hostile), *walk(symbol="LONE")])
    result = reconcile(a, times(100, *PRICES)(a.filter(pl.col("symbol") == hostile)))
    found = result.findings.sort("check_name")
    assert dict(found.schema) == dict(FINDINGS)
    assert found.select("check_name", "severity", "symbol", "count").rows() == [
        ("reconcile only a", "error", "LONE", 600),
        ("reconcile scale", "error", hostile, 600),
    ]
    assert found["message"][1] == "600 bars of A and B differ: scale (open, high, low, close)"


def test_reconcile_rows_that_share_a_place_are_refused() -> None:
    a = frame(walk(days=1, bars=5))
    with pytest.raises(
        SchemaError, match="B: 2 rows share their place with others; the first is A last 1m at 2024-01-02"
    ):
        reconcile(a, pl.concat([a, a.head(1)]))


def test_reconcile_frame_without_a_price_is_refused() -> None:
    with pytest.raises(SchemaError, match="A: lacks close; it has symbol"):
        reconcile(frame([]).drop("close"), frame([]))
