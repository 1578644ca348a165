from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.errors import SchemaError
from engine.export.tables import DATA_TABLES, SORT, TABLES, conform_table, is_sorted_by, sorted_rows
from polars.testing import assert_frame_equal

from tests.export.sample import HOSTILE, framed, tables


@pytest.mark.parametrize("name", DATA_TABLES)
def test_shape_fitting_frame_has_exact_schema_and_all_rows(name):
    given = tables(3)[name]
    rows = conform_table(name, given)
    assert rows.schema == pl.Schema(TABLES[name])
    assert_frame_equal(rows.select(given.columns), given)


@pytest.mark.parametrize("name", DATA_TABLES)
def test_shape_nothing_gives_empty_table(name):
    assert conform_table(name, None).schema == pl.Schema(TABLES[name])
    assert conform_table(name, framed(name, [])).is_empty()


def test_shape_bars_adds_month_of_trade_date():
    rows = conform_table("bars", tables(1)["bars"])
    assert set(rows.select("session", "month").unique().rows()) == {
        (dt.date(2013, 10, 31), "2013-10"),
        (dt.date(2013, 11, 1), "2013-11"),
    }


def test_shape_ticks_in_nanoseconds_keeps_them_beside():
    ticks = tables(1)["ticks"]
    fine = ticks.drop("ts_ns").with_columns(pl.from_epoch(ticks["ts_ns"], "ns").dt.replace_time_zone("UTC").alias("ts"))
    assert_frame_equal(conform_table("ticks", fine), conform_table("ticks", ticks))


def test_shape_enum_and_narrow_integers_are_widened():
    given = tables(1)["bars"].with_columns(
        pl.col("provenance").cast(pl.Enum(["source"])), pl.col("n_expected").cast(pl.UInt8)
    )
    assert_frame_equal(conform_table("bars", given), conform_table("bars", tables(1)["bars"]))


BAD = {
    "lacks symbol": lambda f: f.drop("symbol"),
    "has no column extra": lambda f: f.with_columns(extra=1),
    "volume is String": lambda f: f.with_columns(volume=pl.lit("1")),
    "trades is Float64": lambda f: f.with_columns(trades=pl.lit(1.5)),
    "ts is Datetime": lambda f: f.with_columns(ts=pl.col("ts").dt.replace_time_zone(None)),
    "ts_end is Datetime": lambda f: f.with_columns(ts_end=pl.col("ts_end").dt.cast_time_unit("ns")),
    "vwap holds NaN": lambda f: f.with_columns(vwap=float("nan")),
    "high holds NaN or an infinity": lambda f: f.with_columns(high=float("-inf")),
    "session is null in": lambda f: f.with_columns(session=pl.lit(None, pl.Date)),
    "interval is null in": lambda f: f.with_columns(interval=pl.lit(None, pl.String)),
    "'../../x'": lambda f: f.with_columns(interval=pl.lit("../../x")),
    "valid '1h'": lambda f: f.with_columns(interval=pl.lit("60m")),
    "month differs": lambda f: f.with_columns(month=pl.lit("2013-12")),
    "n_base": lambda f: f.with_columns(n_base=pl.lit(2**40)),
}


@pytest.mark.parametrize("message", BAD)
def test_shape_frame_that_does_not_fit_is_refused(message):
    with pytest.raises(SchemaError, match=r"^bars: ") as raised:
        conform_table("bars", BAD[message](tables(1)["bars"]))
    assert message in str(raised.value)


def test_shape_ts_ns_of_another_instant_is_refused():
    with pytest.raises(SchemaError, match="ts_ns differs"):
        conform_table("ticks", tables(1)["ticks"].with_columns(pl.col("ts_ns") + 1_000_000))


def test_shape_unknown_table_is_refused():
    with pytest.raises(SchemaError, match="'candles'; valid: bars"):
        conform_table("candles", None)


@pytest.mark.parametrize("name", DATA_TABLES)
def test_order_shuffled_rows_equals_plain_sort(name):
    rows = conform_table(name, tables(1)[name])
    by = SORT[name]
    # Nulls first, text by its bytes.
    plain = sorted(
        rows.select(by).rows(), key=lambda row: [(v is not None, v.encode() if isinstance(v, str) else v) for v in row]
    )
    for seed in range(3):
        assert sorted_rows(rows.sample(fraction=1, shuffle=True, seed=seed), by).select(by).rows() == plain


def test_order_sorted_rows_are_returned_as_they_are():
    rows = conform_table("bars", tables(1)["bars"]).sort(SORT["bars"])
    assert sorted_rows(rows, SORT["bars"]) is rows


def test_rows_that_are_none_are_sorted():
    none = conform_table("bars", None)
    assert is_sorted_by(none, SORT["bars"])
    assert sorted_rows(none, SORT["bars"]) is none


@pytest.mark.parametrize("name", DATA_TABLES)
def test_sort_key_of_sample_is_unique(name):
    if name == "bars":
        return
    rows = tables(1)[name]
    assert rows.select(SORT[name]).is_unique().all(), HOSTILE
