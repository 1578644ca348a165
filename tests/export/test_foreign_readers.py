"""Each table through readers that do not know us, with filters on every column."""

from __future__ import annotations

import duckdb
import pandas as pd
import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
from deltalake import DeltaTable
from engine.export.dataset import open_dataset
from engine.export.tables import DATA_TABLES, TABLES, conform_table
from polars.testing import assert_frame_equal

from tests.export.sample import HOSTILE, tables


def same(got, want):
    got = got.select(want.columns).with_columns(cs.datetime().dt.convert_time_zone("UTC")).cast(want.schema)
    assert_frame_equal(got, want, check_row_order=False)


def values(rows, column):
    seen = rows[column].drop_nulls().unique().sort()
    picked = [seen[0], seen[len(seen) // 2], seen[-1]] if len(seen) else []
    return [*dict.fromkeys(picked), None]


def plain(rows, column, value):
    # The oracle filters in plain Python.
    return rows[[n for n, cell in enumerate(rows[column].to_list()) if cell == value]] if rows.height else rows


@pytest.mark.parametrize("name", DATA_TABLES)
def test_filter_every_column_gives_same_rows_in_every_reader(first_export, name):
    rows = conform_table(name, tables(1)[name])
    table = str(first_export / name)
    lazy = pl.scan_delta(table)
    arrow = DeltaTable(table).to_pyarrow_dataset()
    connection = duckdb.connect()
    files = [str(path) for path in open_dataset(first_export).files(name)]
    glob = f"{table}/**/*.parquet"
    own = open_dataset(first_export).scan(name)
    for column, dtype in rows.schema.items():
        if isinstance(dtype, pl.List):
            same(
                pl.DataFrame(arrow.to_table(filter=pyarrow.dataset.field(column).is_null())), plain(rows, column, None)
            )
            continue
        for value in values(rows, column):
            want = plain(rows, column, value)
            matches = pl.col(column).eq_missing(pl.lit(value, dtype))
            same(lazy.filter(matches).collect(), want)
            same(own.filter(matches).collect(), want)
            field = pyarrow.dataset.field(column)
            scalar = pa.scalar(value, type=arrow.schema.field(column).type)
            same(pl.DataFrame(arrow.to_table(filter=field.is_null() if value is None else field == scalar)), want)
            for source in (files, glob):
                query = f"SELECT * FROM read_parquet($files) WHERE {column} IS NOT DISTINCT FROM $value"  # noqa: S608
                same(connection.sql(query, params={"files": source, "value": value}).pl(), want)


@pytest.mark.parametrize("name", DATA_TABLES)
def test_read_whole_table_gives_same_rows_in_every_reader(first_export, name):
    rows = conform_table(name, tables(1)[name])
    table = str(first_export / name)
    same(pl.scan_delta(table).collect(), rows)
    same(pl.DataFrame(DeltaTable(table).to_pyarrow_dataset().to_table()), rows)
    same(duckdb.read_parquet(f"{table}/**/*.parquet").pl(), rows)
    same(pl.read_parquet(f"{table}/**/*.parquet"), rows)
    for partitioning in (None, "hive"):
        same(pl.DataFrame(pyarrow.dataset.dataset(table, partitioning=partitioning).to_table()), rows)
    same(pl.DataFrame(pyarrow.parquet.read_table(table)), rows)
    assert len(pd.read_parquet(table)) == rows.height
    assert pl.scan_delta(table).collect_schema() == pl.Schema(TABLES[name])


@pytest.mark.parametrize("symbol", HOSTILE)
def test_filter_hostile_symbol_finds_its_rows(first_export, symbol):
    want = conform_table("bars", tables(1, [symbol])["bars"])
    table = str(first_export / "bars")
    same(pl.scan_delta(table).filter(pl.col("symbol") == symbol).collect(), want)
    arrow = DeltaTable(table).to_pyarrow_dataset()
    same(pl.DataFrame(arrow.to_table(filter=pyarrow.dataset.field("symbol") == symbol)), want)
    query = "SELECT * FROM read_parquet($files) WHERE symbol = $symbol"
    same(duckdb.sql(query, params={"files": f"{table}/**/*.parquet", "symbol": symbol}).pl(), want)


def test_read_below_a_folder_named_like_a_partition_gives_same_rows(first_export, tmp_path):
    place = tmp_path / "day=5"
    place.mkdir()
    (place / "out").symlink_to(first_export)
    rows = conform_table("bars", tables(1)["bars"])
    same(pl.scan_delta(str(place / "out" / "bars")).collect(), rows)
    same(open_dataset(place / "out").scan("bars").filter(interval="1m").collect(), rows.filter(interval="1m"))
