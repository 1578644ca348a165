"""Typed tables: Parquet and frames in memory."""

from __future__ import annotations

import base64
import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine.errors import SchemaError, SourceError
from engine.sources.frames import from_frame, read_parquet, read_parquet_rows
from engine.sources.options import ReadOptions
from polars.testing import assert_frame_equal

START = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
BARS = pl.DataFrame(
    {
        "symbol": ["SPY", "SPY"],
        "timestamp": [START, START + dt.timedelta(minutes=1)],
        "open": [10.0, 10.5],
        "high": [11.0, 12.0],
        "low": [9.0, 10.0],
        "close": [10.5, 11.0],
        "volume": [100, 200],
    }
)


@pytest.mark.parametrize(
    "frame",
    [
        BARS,
        BARS.lazy(),
        BARS.to_arrow(),
        BARS.to_pandas(),
        BARS.to_pandas().set_index("timestamp"),
        BARS.to_pandas().set_index("timestamp").rename_axis(None),
        pa.RecordBatchReader.from_batches(BARS.to_arrow().schema, BARS.to_arrow().to_batches()),
        BARS.with_columns(pl.col("open", "close").cast(pl.Decimal(18, 4))),
        BARS.with_columns(pl.col("timestamp").dt.replace_time_zone(None)).rename({"timestamp": "timestamp_utc"}),
        BARS.with_columns(pl.col("timestamp").dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ns")),
        BARS.with_columns(pl.col("timestamp").dt.epoch("ns")),
        BARS.rename({"timestamp": "t", "open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}),
        BARS.with_columns(pl.col("symbol").cast(pl.Categorical)),
    ],
)
def test_from_frame_of_any_library_gives_the_same_bars(frame):
    batch = from_frame(frame)
    assert batch.rejects.is_empty()
    assert str(batch.interval) == "1m"
    assert_frame_equal(batch.frame, from_frame(BARS).frame)
    assert batch.frame.select("ts", "close", "volume").rows() == [
        (START, 10.5, 100),
        (START + dt.timedelta(minutes=1), 11, 200),
    ]


def test_from_frame_float_columns_are_not_copied():
    def address(series):
        return series.to_arrow().buffers()[1].address

    assert address(from_frame(BARS).frame["close"]) == address(BARS["close"])


def test_from_frame_symbol_and_interval_of_the_call_are_taken():
    batch = from_frame(BARS.drop("symbol"), symbol="QQQ", interval="1m")
    assert batch.frame["symbol"].unique().to_list() == ["QQQ"]
    with pytest.raises(SourceError, match="--symbol"):
        from_frame(BARS.drop("symbol"))


def test_from_frame_naive_stamps_need_a_zone():
    naive = BARS.with_columns(pl.col("timestamp").dt.replace_time_zone(None))
    with pytest.raises(SourceError, match="--timezone"):
        from_frame(naive)
    assert from_frame(naive, options=ReadOptions(timezone="UTC")).frame["ts"][0] == START


def test_from_frame_bad_rows_are_rejected_with_their_number():
    bad = BARS.with_columns(pl.Series("high", [8.0, None]))
    batch = from_frame(bad)
    assert batch.frame.is_empty()
    assert batch.rejects["row"].to_list() == [1, 2]
    assert "high below low" in batch.rejects["reason"][0]


@pytest.mark.parametrize("what", [[1, 2], "SPY", None, pd.Series([1])])
def test_from_frame_of_no_frame_is_refused(what):
    with pytest.raises((SchemaError, SourceError)):
        from_frame(what)


def test_read_parquet_booleans_in_text_and_decimals_are_understood(tmp_path):
    ticks = pl.DataFrame(
        {
            "ts": [START],
            "price": [Decimal("1.25")],
            "qty": [3],
            "suspicious": ["True"],
            "trade_id": [7],
            "buyer_maker": ["False"],
        }
    )
    ticks.write_parquet(tmp_path / "SPY.parquet")
    batch = read_parquet(tmp_path / "SPY.parquet", ReadOptions())
    assert batch.frame.select("symbol", "seq", "price", "size", "suspicious").rows() == [("SPY", 7, 1.25, 3, True)]
    assert batch.notes == ("columns not used: buyer_maker",)


@pytest.mark.parametrize(("width", "scale", "digits"), [(16, None, 18), (8, None, 9), (16, 16, 16), (8, 2, 2)])
def test_read_parquet_integers_in_binary_cells_are_the_nearest_floats(tmp_path, width, scale, digits):
    prices = [Decimal("1.14"), Decimal("0.07"), Decimal("150.29"), Decimal("-3.3")]
    cells = [int(price * 10**digits).to_bytes(width, "little", signed=True) for price in prices]
    table = pa.table(
        {
            "ts_event": pa.array([1_704_205_800_000_000_000 + at for at in range(4)], pa.uint64()),
            "bid_price": pa.array(cells, pa.binary(width)),
            "ask_price": pa.array(cells, pa.binary(width)),
        },
        metadata={"instrument_id": "EUR/USD"},
    )
    pq.write_table(table, tmp_path / "one_two.parquet")
    batch = read_parquet(tmp_path / "one_two.parquet", ReadOptions(scale=scale, allow_non_positive=True))
    assert batch.frame["bid"].to_list() == [float(price) for price in prices]
    assert batch.frame["symbol"].unique().to_list() == ["EUR/USD"]


def write_with_metadata(table, path, metadata):
    with pq.ParquetWriter(path, table.schema, store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata(metadata)


@pytest.mark.parametrize(
    ("width", "stated", "digits"),
    [(8, "5", 9), (8, "2", 2), (8, "11", 11), (16, "5", 18), (16, "5", 16), (16, "7", 7), (8, None, 9), (16, None, 18)],
)
def test_read_parquet_integers_are_scaled_by_the_precision_of_the_metadata_and_noted(tmp_path, width, stated, digits):
    prices = [Decimal("1.1") + Decimal(at) / 10 ** min(int(stated or 2), 5) for at in range(11)]
    cells = [int(price * 10**digits).to_bytes(width, "little", signed=True) for price in prices]
    sizes = [int(size * 10**digits).to_bytes(width, "little", signed=True) for size in range(100, 111)]
    table = pa.table(
        {
            "ts_event": pa.array([1_704_205_800_000_000_000 + at for at in range(11)], pa.uint64()),
            "bid": pa.array(cells, pa.binary(width)),
            "ask": pa.array(cells, pa.binary(width)),
            "bid_size": pa.array(sizes, pa.binary(width)),
        },
        metadata={"instrument_id": "EUR/USD"} | ({"price_precision": stated, "size_precision": "0"} if stated else {}),
    )
    if stated == "2":
        table = table.drop_columns("bid_size")
    pq.write_table(table, tmp_path / "one_two.parquet")
    batch = read_parquet(tmp_path / "one_two.parquet", ReadOptions())
    assert batch.frame["bid"].to_list() == [float(price) for price in prices]
    (note,) = [note for note in batch.notes if note.startswith("bid, ask: ")]
    assert f"integers of {width} bytes, multiples of 1e-{digits}" in note
    assert ("--scale" in note) is (stated is None)
    if digits in (9, 16, 18):
        assert batch.frame["bid_size"].to_list() == [float(size) for size in range(100, 111)]


def test_read_parquet_integers_that_do_not_tell_their_digits_are_refused_with_the_options(tmp_path):
    cells = [(10**18).to_bytes(16, "little"), (2 * 10**18).to_bytes(16, "little")]
    table = pa.table(
        {"ts": pa.array([1_704_205_800_000_000_000, 1_704_205_801_000_000_000]), "bid": pa.array(cells, pa.binary(16))},
        metadata={"price_precision": "2"},
    )
    pq.write_table(table, tmp_path / "SPY.parquet")
    with pytest.raises(SourceError, match="give --scale 18 or --scale 16"):
        read_parquet(tmp_path / "SPY.parquet", ReadOptions())
    assert read_parquet(tmp_path / "SPY.parquet", ReadOptions(scale=16)).frame["bid"].to_list() == [100.0, 200.0]


def test_read_parquet_of_pandas_without_names_of_index_levels(tmp_path):
    index = pd.MultiIndex.from_product([["SPY"], pd.date_range("2024-01-02 14:30", periods=2, freq="min", tz="UTC")])
    bars = pd.DataFrame({part: [10.0, 11.0] for part in ("open", "high", "low", "close")}, index=index)
    bars.to_parquet(tmp_path / "bars.parquet")
    batch = read_parquet(tmp_path / "bars.parquet", ReadOptions())
    assert batch.frame["symbol"].to_list() == ["SPY", "SPY"]
    wide = pd.DataFrame(
        {f"('{part}', 'SPY')": [10.0, 11.0] for part in ("Open", "High", "Low", "Close")}, index=index.levels[1]
    )
    wide.to_parquet(tmp_path / "wide.parquet")
    batch = read_parquet(tmp_path / "wide.parquet", ReadOptions())
    assert batch.frame.select("symbol", "close").rows() == [("SPY", 10.0), ("SPY", 11.0)]


@pytest.mark.parametrize("in_arrow_schema", [True, False])
@pytest.mark.parametrize(
    ("place", "column", "options", "symbol"),
    [
        ("AAPL_1m.parquet", None, {}, "EUR/USD"),
        ("symbol=MSFT/AAPL_1m.parquet", None, {}, "MSFT"),
        ("AAPL_1m.parquet", None, {"symbol_from": "{symbol}_*.parquet"}, "AAPL"),
        ("AAPL_1m.parquet", None, {"symbol_from": "*.parquet"}, "EUR/USD"),
        ("AAPL_1m.parquet", "IBM", {}, "IBM"),
        ("symbol=MSFT/AAPL_1m.parquet", "IBM", {"symbol": "SPY"}, "SPY"),
    ],
)
def test_read_parquet_symbol_is_the_option_else_column_folder_metadata_and_name(
    tmp_path, place, column, options, symbol, in_arrow_schema
):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    columns = {"ts": [START], "price": [1.0], **({"symbol": [column]} if column else {})}
    table = pl.DataFrame(columns).to_arrow()
    metadata = {"symbol": "EUR/USD"}
    if in_arrow_schema:  # as writers in Rust do
        metadata = {"ARROW:schema": base64.b64encode(table.schema.with_metadata(metadata).serialize().to_pybytes())}
    write_with_metadata(table, path, metadata)
    batches = [read_parquet(path, ReadOptions(**options)), read_parquet_rows(path, ReadOptions(**options), (0, 1))]
    assert [batch.frame["symbol"].to_list() for batch in batches] == [[symbol]] * 2


@pytest.mark.parametrize("dtype", [pl.Float64, pl.Decimal(10, 2)])
@pytest.mark.parametrize(("numbers", "seq"), [([1.5, 1.7], [1, 2]), ([7, 5], [5, 7])])
def test_from_frame_sequence_of_fractions_is_no_order(dtype, numbers, seq):
    frame = pl.DataFrame({"ts": [START] * 2, "price": [1.0, 2.0], "seq": pl.Series(numbers, strict=False).cast(dtype)})
    rows = from_frame(frame, symbol="A").frame
    assert rows["seq"].sort().to_list() == seq


@pytest.mark.parametrize("damage", ["!", "AAAA"])
def test_read_parquet_with_a_damaged_arrow_schema_is_refused_by_name(tmp_path, damage):
    table = pl.DataFrame({"ts": [START], "price": [1.0]}).to_arrow()
    write_with_metadata(table, tmp_path / "A.parquet", {"ARROW:schema": damage})
    with pytest.raises(SourceError, match="no Parquet file that can be read"):
        read_parquet(tmp_path / "A.parquet", ReadOptions())


def test_read_parquet_over_the_limit_is_refused_before_it_is_read(tmp_path):
    pl.DataFrame({"ts": [START], "price": [1.0]}).select(pl.all().repeat_by(100_000).explode()).write_parquet(
        tmp_path / "A.parquet"
    )
    with pytest.raises(SourceError, match="max_bytes"):
        read_parquet(tmp_path / "A.parquet", ReadOptions(max_bytes=1_000_000))
    assert read_parquet(tmp_path / "A.parquet", ReadOptions()).frame.height == 100_000


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"timestamp,price\n"])
def test_read_parquet_of_no_parquet_is_refused(tmp_path, data):
    (tmp_path / "A.parquet").write_bytes(data)
    with pytest.raises(SourceError, match="no Parquet file"):
        read_parquet(tmp_path / "A.parquet", ReadOptions())


def test_read_parquet_prices_and_symbols_of_categories_are_their_texts(tmp_path):
    table = BARS.with_columns(pl.col("close", "symbol").cast(pl.String).cast(pl.Categorical))
    table.write_parquet(tmp_path / "a.parquet")
    read = read_parquet(tmp_path / "a.parquet", ReadOptions())
    assert (read.frame["close"].to_list(), read.symbols, read.rejects.height) == ([10.5, 11.0], ("SPY",), 0)
    assert_frame_equal(from_frame(table).frame, read.frame)


def test_from_frame_lists_of_conditions_are_texts():
    ticks = BARS.select("symbol", "timestamp", price="close", size="volume")
    ticks = ticks.with_columns(conditions=pl.Series([[12, 37], [1]]))
    assert from_frame(ticks).frame["conditions"].to_list() == ["12,37", "1"]


@pytest.mark.parametrize(
    ("column", "cells", "told"),
    [
        ("close", pl.concat_list("close", "open"), r"close: List\(Float64\) cells are no close; valid: numbers"),
        ("close", pl.struct("close", "open"), "close: Struct.* cells are no close"),
        ("open", pl.col("open") > 0, "open: Boolean cells are no open"),
        ("volume", pl.col("timestamp"), "volume: Datetime.* cells are no volume"),
        ("symbol", pl.concat_list("symbol"), r"symbol: List\(String\) cells are no symbol; valid: text"),
    ],
)
def test_read_parquet_cells_that_are_no_numbers_are_refused_by_their_type(tmp_path, column, cells, told):
    BARS.with_columns(cells.alias(column)).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=told):
        read_parquet(tmp_path / "a.parquet", ReadOptions())


def test_read_parquet_page_that_contradicts_its_checksum_is_refused(tmp_path):
    table = BARS.to_arrow()
    pq.write_table(
        table,
        tmp_path / "a.parquet",
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
        write_statistics=False,
    )
    data = (tmp_path / "a.parquet").read_bytes()
    at = data.index(np.float64(10.5).tobytes())
    (tmp_path / "a.parquet").write_bytes(data[: at + 6] + b"\x31" + data[at + 7 :])
    with pytest.raises(SourceError, match="CRC"):
        read_parquet(tmp_path / "a.parquet", ReadOptions())


def test_from_frame_that_raises_an_error_of_its_library_is_ours():
    class Broken:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            raise RuntimeError("connection has an open result")

    with pytest.raises(SchemaError, match="connection has an open result"):
        from_frame(Broken())


def test_read_parquet_columns_with_names_of_ours_are_the_files_own(tmp_path):
    BARS.with_columns(pl.lit(7).alias("@row"), pl.lit(8).alias("row")).write_parquet(tmp_path / "a.parquet")
    assert read_parquet(tmp_path / "a.parquet", ReadOptions()).frame["row"].to_list() == [1, 2]
