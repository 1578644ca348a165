"""Dates of a Parquet file by its footer, against those of the rows that were written."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine.runtime.parquet_scan import dates_in_footer

FIRST, LAST = dt.datetime(1969, 12, 31, 23, 59, tzinfo=dt.UTC), dt.datetime(2024, 2, 29, 0, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_dates_in_footer_are_those_of_the_stamps_in_utc(tmp_path, unit, zone):
    stamps = pl.Series("ts", [LAST, FIRST]).dt.cast_time_unit(unit)
    column = stamps.dt.replace_time_zone(None) if zone is None else stamps.dt.convert_time_zone(zone)
    pl.DataFrame({"ts": column, "symbol": ["A", "B"], "volume": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    assert dates_in_footer(tmp_path / "a.parquet") == (FIRST.date(), LAST.date())


def test_dates_in_footer_of_a_file_without_stamps_in_range_are_none(tmp_path):
    far = pa.table({"ts": pa.array([1 << 62], pa.timestamp("us")), "volume": [1.0]})
    pq.write_table(far, tmp_path / "far.parquet")
    assert dates_in_footer(tmp_path / "far.parquet") is None


def test_dates_in_footer_do_not_import_pandas(tmp_path):
    stamps = pl.Series("ts", [FIRST, LAST]).dt.cast_time_unit("ns")
    pl.DataFrame({"ts": stamps}).write_parquet(tmp_path / "a.parquet")
    code = (
        "import sys; from pathlib import Path; from engine.runtime.parquet_scan import dates_in_footer; "
        "assert dates_in_footer(Path(sys.argv[1])); assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.parquet")], check=True)
