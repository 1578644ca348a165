"""Page headers of Parquet files: those of sound files pass, whatever wrote them; damaged ones never end the process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine.errors import SourceError
from engine.sources.parquet_pages import check_page_headers

ROWS = 5000
FRAME = pl.DataFrame(
    {
        "symbol": pl.Series(["SPY", "QQQ"] * (ROWS // 2)).cast(pl.Categorical),
        "ts": pl.int_range(ROWS, eager=True) * 60_000_000,
        "close": [None if n % 7 == 0 else n / 3 for n in range(ROWS)],
        "tags": [["a"] * (n % 3) for n in range(ROWS)],
        "name": [f"row {n}" for n in range(ROWS)],
        "none": pl.Series([None] * ROWS, dtype=pl.Float64),
        "same": 1,
    }
)
WRITERS: dict[str, Callable[[Path], object]] = {
    "polars": lambda path: FRAME.write_parquet(path, row_group_size=700),
    "polars, small pages": lambda path: FRAME.write_parquet(path, compression="snappy", data_page_size=200),
    "pyarrow": lambda path: pq.write_table(FRAME.to_arrow(), path, row_group_size=1000),
    "pyarrow, version 2": lambda path: pq.write_table(
        FRAME.to_arrow(), path, data_page_version="2.0", data_page_size=500, write_page_index=True, compression="none"
    ),
    "pyarrow, checksums": lambda path: pq.write_table(FRAME.to_arrow(), path, write_page_checksum=True, use_dictionary=False),
    "pyarrow, unused categories": lambda path: pq.write_table(
        pa.table({"symbol": pa.DictionaryArray.from_arrays([0, 1], [f"S{n}" for n in range(900)])}), path
    ),
    "pandas": lambda path: FRAME.drop("tags").to_pandas().to_parquet(path),
    "duckdb": lambda path: duckdb.sql("SELECT * FROM FRAME").write_parquet(str(path), row_group_size=2048),
    "no rows": lambda path: FRAME.head(0).write_parquet(path),
}  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
def test_page_headers_of_a_sound_file_pass(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "a.parquet"
    WRITERS[writer](path)
    check_page_headers(path, set(pq.read_schema(path).names))
    check_page_headers(path, set(pq.read_schema(path).names), (700, 700))


READ_DAMAGED = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from engine.errors import SourceError
from engine.sources import frames
from engine.sources.options import ReadOptions
frames.MOST_BYTES_CHECKED = 0  # as if the file were larger than is decoded twice
path, damaged = Path(sys.argv[1]), Path(sys.argv[1]).with_name("SPY.parquet")
data = path.read_bytes()
chunks = [pq.read_metadata(path).row_group(0).column(at) for at in range(5)]
begins = [at for chunk in chunks for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at]
refused = 0
for at in sorted({begin + more for begin in begins for more in range(24)}):
    for byte in (0xFF, data[at] ^ 0x80, data[at] ^ 1):
        damaged.write_bytes(data[:at] + bytes([byte]) + data[at + 1 :])
        try:
            frames.read_parquet(damaged, ReadOptions())
        except SourceError:
            refused += 1
print(refused)
"""


def test_read_large_parquet_with_damaged_page_headers_never_ends_the_process(tmp_path: Path) -> None:
    ts = pl.from_epoch("ts", "us").dt.replace_time_zone("UTC")
    bars = FRAME.select(ts=ts, open="same", high=pl.lit(2.0), low=pl.lit(0.5), close=pl.lit(1.0)).with_columns(
        pl.col("open") * 1.0
    )
    bars.write_parquet(tmp_path / "a.parquet", row_group_size=ROWS)
    done = subprocess.run(
        [sys.executable, "-c", READ_DAMAGED, tmp_path / "a.parquet"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, int(done.stdout or 0) > 100) == (0, True), done.stderr[-500:]


def test_page_headers_of_rows_that_are_not_read_are_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    FRAME.select("ts", "same").write_parquet(path, row_group_size=1000, compression="uncompressed")
    chunk = pq.read_metadata(path).row_group(3).column(0)
    at = min(at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at)
    data = path.read_bytes()
    path.write_bytes(data[: at + 1] + b"\xff\xff" + data[at + 3 :])
    check_page_headers(path, {"ts"}, (0, 3000))
    check_page_headers(path, {"same"})
    with pytest.raises(SourceError, match="in column ts of row group 3"):
        check_page_headers(path, {"ts"}, (2000, 1500))
