"""Arrow files and streams."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pyarrow as pa
import pytest
from engine.errors import SourceError
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan

START = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
BARS = pl.DataFrame(
    {
        "timestamp": [START + dt.timedelta(minutes=n) for n in range(40)],
        "open": [10.0 + n for n in range(40)],
        "high": [11.0 + n for n in range(40)],
        "low": [9.0 + n for n in range(40)],
        "close": [10.5 + n for n in range(40)],
        "volume": list(range(40)),
    }
)


def write(path, kind):
    match kind:
        case "file" | "lz4" | "zstd":
            BARS.write_ipc(path, compression="uncompressed" if kind == "file" else kind)
        case "stream":
            BARS.write_ipc_stream(path)
        case "pandas":
            BARS.to_pandas().set_index("timestamp").to_feather(path)
        case "metadata":
            table = BARS.to_arrow().replace_schema_metadata({"symbol": "SPY"})
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("SPY_1m.arrow", "file"),
        ("SPY_1m.feather", "lz4"),
        ("SPY_1m.ipc", "zstd"),
        ("SPY_1m.arrow", "stream"),
        ("SPY_1m.feather", "pandas"),
        ("SPY_1m.parquet", "file"),  # told by its first bytes
        ("2024-01-02.arrow", "metadata"),
    ],
)
def test_read_arrow_gives_typed_bars(tmp_path, name, kind):
    write(tmp_path / name, kind)
    (file,), problems = scan([tmp_path])
    (batch,) = read(file)
    assert (problems, file.format, str(batch.interval)) == ([], "arrow", "1m")
    assert batch.frame.select("symbol", "open", "close", "volume").rows() == [
        ("SPY", 10.0 + n, 10.5 + n, float(n)) for n in range(40)
    ]
    assert batch.frame["ts"].to_list() == BARS["timestamp"].to_list()
    assert batch.frame["row"].to_list() == list(range(1, 41))


@pytest.mark.parametrize("kind", ["file", "zstd", "stream"])
def test_read_arrow_over_the_limit_is_refused(tmp_path, kind):
    write(tmp_path / "SPY_1m.arrow", kind)
    (file,), _ = scan([tmp_path])
    with pytest.raises(SourceError, match="max_bytes"):
        read(file, ReadOptions(max_bytes=500))


@pytest.mark.parametrize("cut", [9, 200, 900])
def test_read_arrow_that_is_cut_off_is_refused(tmp_path, cut):
    write(tmp_path / "SPY_1m.arrow", "file")
    (tmp_path / "SPY_1m.arrow").write_bytes((tmp_path / "SPY_1m.arrow").read_bytes()[:cut])
    (file,), _ = scan([tmp_path])
    with pytest.raises(SourceError, match="no Arrow data"):
        read(file)
