"""Validation of rows, by hand: which rows are good, which are refused, and for which reason."""

from __future__ import annotations

import datetime as dt
import json
import math

import polars as pl
import pytest
from engine.errors import SchemaError
from engine.schema import (
    BARS,
    REJECTS,
    ROWS,
    TS,
    Rules,
    cell_text,
    conform,
    empty,
    rejected_rows,
    select_schema,
    session_ordinal,
)

NOON = dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC)
BAR = {"symbol": "A", "ts": NOON, "open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5.0, "trades": 3}
QUOTE = {"symbol": "A", "ts": NOON, "bid": 10.0, "ask": 11.0, "bid_size": 1.0, "ask_size": 2.0}
TICK = {"symbol": "A", "ts": NOON, "price": 10.0, "size": 1.0}


def checked(rows: list[dict], kind: str = "bars", rules: Rules | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    frame = pl.DataFrame(rows, infer_schema_length=None)
    return conform(frame, kind, {name: pl.col(name) for name in frame.columns if name != "row"}, "a.csv", rules)


def reason(row: dict, kind: str = "bars", rules: Rules | None = None) -> str | None:
    """Why a row is refused, beside one that is good; None where both are good."""
    right = {"bars": BAR, "quotes": QUOTE, "ticks": TICK, "open_interest": {"symbol": "A", "ts": NOON, "value": 1.0}}[
        kind
    ]
    good, bad = checked([right, {**right, **row}, right], kind, rules)
    assert good.height + bad.height == 3
    assert bad["row"].to_list() in ([], [2])
    return bad["reason"][0] if bad.height else None


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"symbol": None}, "symbol: missing or unreadable"),
        ({"ts": None}, "ts: missing or unreadable"),
        ({"open": None}, "open: missing or unreadable"),
        ({"high": None}, "high: missing or unreadable"),
        ({"low": None}, "low: missing or unreadable"),
        ({"close": None}, "close: missing or unreadable"),
        ({"ts": dt.datetime(1899, 12, 31, 23, 59, 59, 999_999, dt.UTC)}, "ts: not of 1900 to 2200"),
        ({"ts": dt.datetime(1900, 1, 1, tzinfo=dt.UTC)}, None),
        ({"ts": dt.datetime(2200, 1, 1, tzinfo=dt.UTC)}, None),
        ({"ts": dt.datetime(2200, 1, 1, 0, 0, 0, 1, dt.UTC)}, "ts: not of 1900 to 2200"),
        ({"low": 10.0, "open": 10.0, "high": 11.0, "close": 11.0}, None),  # at the bounds
        ({"low": 10.0, "high": 10.0, "open": 10.0, "close": 10.0}, None),
        ({"open": 11.0, "high": 11.0, "low": 10.0, "close": 10.0}, None),
        ({"open": 8.99}, "open outside low..high"),
        ({"open": 12.01}, "open outside low..high"),
        ({"close": 8.99}, "close outside low..high"),
        ({"close": 12.01}, "close outside low..high"),
        ({"volume": 0.0}, None),
        ({"volume": None, "trades": None}, None),
        ({"volume": -0.01}, "volume: negative"),
        ({"volume": 0.5}, None),
        ({"trades": 0}, None),
        ({"trades": -1}, "trades: negative"),
        ({"volume": math.inf}, "volume: not finite"),
        ({"volume": math.nan}, "volume: not finite"),
        ({"low": 0.5}, None),
        ({"low": 0.0}, "low: not above zero"),
    ],
)
def test_conform_bar_at_each_bound_is_refused_beyond_it_alone(row: dict, why: str | None) -> None:
    assert reason(row) == why


@pytest.mark.parametrize(
    ("column", "bad", "good"),
    [
        ("low", 0.0, [0.001, 0.5, 1.0]),
        ("volume", -0.001, [0.0, 0.5, 1.0]),
        ("trades", -1, [0, 1, 2]),
        ("open", 8.999, [9.0, 9.5, 12.0]),
        ("close", 12.001, [9.0, 11.5, 12.0]),
        ("high", 10.999, [11.0, 12.0, 13.0]),
        (
            "ts",
            dt.datetime(1899, 12, 31, tzinfo=dt.UTC),
            [dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (1900, 1901, 2200)],
        ),
        (
            "ts",
            dt.datetime(2200, 1, 2, tzinfo=dt.UTC),
            [dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (1900, 2199, 2200)],
        ),
    ],
)
def test_conform_rows_at_a_bound_are_good_beside_one_beyond_it(column: str, bad: object, good: list[object]) -> None:
    rows = [{**BAR, column: value} for value in (good[0], bad, *good[1:])]
    kept, refused = checked(rows)
    assert kept[column].to_list() == good
    assert refused["row"].to_list() == [2]


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume", "size", "vwap"])
def test_conform_numbers_that_are_none_are_refused_in_each_column(column: str) -> None:
    for value in (math.nan, math.inf, -math.inf):
        _, refused = checked([{**BAR, "size": 1.0, "vwap": 10.0}, {**BAR, "size": 1.0, "vwap": 10.0, column: value}])
        assert refused["row"].to_list() == [2]
        assert f"{column}: not finite" in refused["reason"][0]


def test_conform_sums_beyond_the_largest_number_refuse_no_row() -> None:
    assert checked([{**BAR, "volume": 1.7e308}, {**BAR, "volume": 1.7e308}])[1].height == 0


def test_conform_row_with_several_faults_names_each() -> None:
    assert reason({"high": 8.0, "volume": -1.0}) == (
        "volume: negative; high below low; open outside low..high; close outside low..high"
    )
    assert reason({"high": math.nan, "close": None, "open": None}) == (
        "open: missing or unreadable; close: missing or unreadable; high: not finite"
    )


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"bid": None}, None),
        ({"ask": None}, None),
        ({"bid": None, "ask": None}, "bid and ask: both missing"),
        ({"bid": 0.0}, "bid: not above zero"),
        ({"ask": 0.0}, "ask: not above zero"),
        ({"bid": 12.0}, None),  # crossed quotes are real
        ({"bid_size": -1.0}, "bid_size: negative"),
        ({"ask_size": -1.0}, "ask_size: negative"),
        ({"bid_size": 0.0, "ask_size": None}, None),
    ],
)
def test_conform_quote_needs_one_side(row: dict, why: str | None) -> None:
    assert reason(row, "quotes") == why


@pytest.mark.parametrize(
    ("row", "kind", "why"),
    [
        ({"price": 0.0}, "ticks", "price: not above zero"),
        ({"price": None}, "ticks", "price: missing or unreadable"),
        ({"size": -1.0}, "ticks", "size: negative"),
        ({"size": None}, "ticks", None),
        ({"value": 0.0}, "open_interest", None),
        ({"value": -1.0}, "open_interest", "value: negative"),
    ],
)
def test_conform_tick_and_open_interest(row: dict, kind: str, why: str | None) -> None:
    assert reason(row, kind) == why


@pytest.mark.parametrize("price", [0.0, -37.63])
def test_conform_prices_through_zero_are_good_where_rules_allow_them(price: float) -> None:
    row = {"open": price, "high": price, "low": price, "close": price}
    assert reason(row).startswith("open: not above zero")
    assert reason(row, rules=Rules(allow_non_positive=True)) is None
    assert reason({"volume": -1.0}, rules=Rules(allow_non_positive=True)) == "volume: negative"


def test_conform_good_rows_have_the_whole_schema_and_their_numbers() -> None:
    good, bad = checked([BAR, {**BAR, "volume": None}])
    assert dict(good.schema) == {**BARS, "row": pl.Int64()}
    assert good["row"].to_list() == [1, 2]
    assert good["price_type"].to_list() == ["last", "last"]
    assert good["vwap"].null_count() == 2
    assert bad.equals(empty(REJECTS))
    assert dict(checked([TICK], "ticks")[0].schema) == {**ROWS["ticks"], "row": pl.Int64()}


def test_conform_numbers_of_the_file_and_cells_as_they_came_are_in_the_rejects() -> None:
    good, bad = checked([{**BAR, "row": 7}, {**BAR, "high": 1.0, "row": 9}, {**BAR, "row": 8}])
    assert good["row"].to_list() == [7, 8]
    assert bad.select("source", "row").rows() == [("a.csv", 9)]
    cells = json.loads(bad["cells"][0])
    assert (cells["symbol"], cells["high"], "row" in cells) == ("A", "1.0", False)


def test_conform_refused_row_of_lists_has_them_as_lists() -> None:
    conditions = pl.DataFrame([{**TICK, "flags": ["T", None]}, {**TICK, "price": -1.0, "flags": ["T", "U"]}])
    flags = conditions.with_columns(pl.Series("pair", [[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2)))
    good, bad = conform(flags, "ticks", {name: pl.col(name) for name in TICK}, "a.parquet")
    assert (good["row"].to_list(), bad["row"].to_list()) == ([1], [2])
    cells = json.loads(bad["cells"][0])
    assert (cells["price"], cells["flags"], cells["pair"]) == ("-1.0", ["T", "U"], [3, 4])


@pytest.mark.parametrize(
    ("text", "why"),
    [("7", None), (None, None), ("", None), ("  ", None), ("many", "volume: unreadable"), ("-", "volume: unreadable")],
)
def test_conform_cell_with_text_that_is_no_number_is_unreadable(text: str | None, why: str | None) -> None:
    right = {**BAR, "volume": "5"}
    good, bad = checked([right, {**right, "volume": text}])
    assert bad["reason"].to_list() == ([why] if why else [])
    assert set(good.columns) == {*BARS, "row"}


def test_conform_required_cell_with_text_that_is_no_number_has_one_reason() -> None:
    right = {**BAR, "open": "10"}
    _, bad = checked([right, {**right, "open": "ten"}, {**right, "open": None}])
    assert bad["reason"].to_list() == ["open: missing or unreadable"] * 2


def test_conform_constant_columns_need_no_cell() -> None:
    frame = pl.DataFrame([{name: value for name, value in BAR.items() if name != "symbol"}])
    columns = {name: pl.col(name) for name in frame.columns}
    columns |= {"symbol": pl.lit("B"), "price_type": pl.lit("bid"), "vwap": pl.lit(None)}
    good, bad = conform(frame, "bars", columns, "b.csv")
    assert (good["symbol"][0], good["price_type"][0], bad.height) == ("B", "bid", 0)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (("symbol", "ts", "open", "high", "low"), "absent: close; not a column of bars: none"),
        ((*BAR, "colour"), "absent: none; not a column of bars: colour"),
    ],
)
def test_conform_wrong_columns_raise_by_name(columns: tuple[str, ...], match: str) -> None:
    frame = pl.DataFrame([{**BAR, "colour": "red"}])
    with pytest.raises(SchemaError, match=match):
        conform(frame, "bars", {name: pl.col(name) for name in columns}, "a.csv")


@pytest.mark.parametrize(
    ("dtype", "per_day"),
    [(pl.Date(), 1), (pl.Datetime("ms"), 86_400 * 10**3), (pl.Datetime("us", "UTC"), 86_400 * 10**6)],
)
def test_cell_text_of_a_date_beyond_the_years_1_to_9999_is_its_number(dtype: pl.DataType, per_day: int) -> None:
    first = (dt.date(1, 1, 1) - dt.date(1970, 1, 1)).days * per_day
    last = ((dt.date(9999, 12, 31) - dt.date(1970, 1, 1)).days + 1) * per_day - 1
    cells = pl.DataFrame({"at": pl.Series([first - 1, first, last, last + 1, None], dtype=pl.Int64)})
    stamps = cells.select(pl.col("at").cast(pl.Int32 if dtype == pl.Date else pl.Int64).cast(dtype))
    before, earliest, latest, after, none = stamps.select(cell_text("at", dtype)).to_series().to_list()
    assert (before, after, none) == (str(first - 1), str(last + 1), None)
    assert earliest.startswith("0001-01-01")
    assert latest.startswith("9999-12-31" if dtype == pl.Date else "9999-12-31 23:59:59")


def test_cell_text_of_nanoseconds_is_their_date() -> None:
    cells = pl.DataFrame({"at": pl.Series([-(2**63) + 1, 2**63 - 1]).cast(pl.Datetime("ns"))})
    text = cells.select(cell_text("at", pl.Datetime("ns"))).to_series().to_list()
    assert [one[:10] for one in text] == ["1677-09-21", "2262-04-11"]


def test_session_ordinal_has_room_for_sixteen_segments_a_day() -> None:
    days = pl.DataFrame({"day": [dt.date(1969, 12, 31), dt.date(1970, 1, 1), dt.date(1970, 1, 2)], "at": [15, 0, 3]})
    found = days.select(session_ordinal(pl.col("day"), pl.col("at"))).to_series()
    assert found.to_list() == [-1, 0, 19]
    assert found.dtype == pl.Int32


def test_select_schema_orders_casts_and_refuses() -> None:
    schema = {"a": pl.Int64(), "b": TS}
    frame = pl.DataFrame({"c": [1], "b": [NOON], "a": [1]}, schema={"c": pl.Int64, "b": TS, "a": pl.Int32})
    assert dict(select_schema(frame, schema, "it").schema) == schema
    assert select_schema(frame.cast({"a": pl.Int64}), schema, "it").columns == ["a", "b"]
    no_column_as_it_is = {"a": pl.Int64()}
    assert dict(select_schema(frame, no_column_as_it_is, "it").schema) == no_column_as_it_is
    with pytest.raises(SchemaError, match="it: lacks a; it has c, b"):
        select_schema(frame.drop("a"), schema, "it")
    with pytest.raises(SchemaError, match="it: "):
        select_schema(frame.with_columns(pl.lit("x").alias("a")), schema, "it")


@pytest.mark.parametrize("dtype", [pl.Datetime("ms"), pl.Datetime("us", "UTC"), pl.Datetime("ns"), pl.Date()])
def test_rejected_rows_write_stamps_that_no_calendar_reaches_as_numbers(dtype):
    far = 2**31 - 1 if dtype == pl.Date else 2**63 - 1
    cells = pl.Series("ts", [far, 0, None], pl.Int32 if dtype == pl.Date else pl.Int64).cast(dtype)
    rejects = rejected_rows(pl.DataFrame([cells]).with_row_index("row"), "far", "x")
    texts = [json.loads(text)["ts"] for text in rejects["cells"]]
    assert texts[1].startswith("1970-01-01")
    assert texts[0] == str(far) or (dtype == pl.Datetime("ns") and texts[0].startswith("2262-"))
    assert texts[2] is None
