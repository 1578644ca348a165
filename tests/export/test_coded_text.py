"""Columns of few values: an enum on the way to a file, text in it, the same bytes whatever they came as."""

from __future__ import annotations

import io
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from engine.export.coded_text import FEW_VALUES, concat_coded, least_coded, schema_as_text
from engine.export.parquet import stage
from engine.export.tables import TABLES, conform_table
from polars.testing import assert_frame_equal

from tests.export.sample import tables


@pytest.mark.parametrize(
    ("values", "known"),
    [
        (["b", "a", "b"], ["b", "unused", "a"]),
        (["b", None, "b"], ["a", "b"]),
        (["b", "b"], ["c", "b", "a"]),
        (["b", "b"], ["b"]),
    ],
)
def test_codes_are_those_of_the_values_that_occur_in_order(values, known):
    least = [least_coded(pl.Series("v", values, dtype)) for dtype in (pl.Enum(known), pl.String)]
    used = sorted({value for value in values if value is not None})
    for column in least:
        assert column.dtype == pl.Enum(used)
        assert column.to_list() == values


def test_a_column_without_a_value_is_text():
    assert least_coded(pl.Series("v", [None, None], pl.Enum(["a"]))).dtype == pl.String
    assert least_coded(pl.Series("v", [], pl.Enum(["a"]))).dtype == pl.String


def test_frames_of_other_values_are_joined():
    frames = [pl.DataFrame({"v": pl.Series([value], dtype=pl.Enum([value])), "n": [1]}) for value in ("b", "a", "c")]
    both = concat_coded(frames)
    assert both["v"].to_list() == ["b", "a", "c"]
    assert both.schema["v"] == pl.Enum(["a", "b", "c"])


def test_text_and_enums_make_the_same_file_and_readers_see_text(tmp_path: Path):
    rows = conform_table("bars", tables(1)["bars"])
    coded = rows.with_columns(
        rows[name].cast(pl.Enum(sorted({*rows[name].drop_nulls(), "unused"}, reverse=True)))
        for name in FEW_VALUES["bars"]
        if name not in ("price_type", "origin", "interval", "month")
    )
    names = {}
    for kind, given in (("text", rows), ("enums", coded)):
        (tmp_path / kind).mkdir()
        staged = list(stage("bars", given, tmp_path / kind))
        names[kind] = [(one.folder, one.sha256, one.stats) for one in staged]
        read = pl.concat([pl.read_parquet(one.staged) for one in staged])
        assert read.schema == pl.Schema(TABLES["bars"])
        assert_frame_equal(read.sort(*rows.columns[:5]), rows.sort(*rows.columns[:5]))
        for one in staged:
            kinds = {str(field.type) for field in pq.read_schema(one.staged) if field.name in FEW_VALUES["bars"]}
            assert kinds == {"large_string"}
            described = duckdb.sql(f"DESCRIBE FROM read_parquet('{one.staged}')").fetchall()
            assert {kind for name, kind, *_ in described if name in FEW_VALUES["bars"]} == {"VARCHAR"}
    assert names["text"] == names["enums"]


def test_the_schema_of_a_file_is_the_one_that_text_would_have():
    rows = pl.DataFrame({"v": pl.Series(["a"], dtype=pl.Enum(["a"])), "n": [1]})
    buffer = io.BytesIO()
    rows.cast({"v": pl.String}).write_parquet(buffer)
    buffer.seek(0)
    assert schema_as_text(rows)["ARROW:schema"] == pl.read_parquet_metadata(buffer)["ARROW:schema"]
