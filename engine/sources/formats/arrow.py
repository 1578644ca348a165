"""Arrow IPC: files (Feather of version 2) and streams, with typed columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from engine.errors import SourceError
from engine.sources.archive import over_limit_reason, sha256
from engine.sources.batch import Batch, SourceFile
from engine.sources.columns import match_columns
from engine.sources.dataframes import to_polars
from engine.sources.file_names import parse_path
from engine.sources.fixed_point import unpack_binary
from engine.sources.formats.format import Format, has_suffix
from engine.sources.formats.registry import register
from engine.sources.frames import CELL_BYTES
from engine.sources.options import ReadOptions
from engine.sources.table_rows import Origin, batch
from engine.sources.wide_tables import long_table

FILE_MAGIC, STREAM_MAGIC = b"ARROW1\0\0", b"\xff\xff\xff\xff"


@register
class Arrow(Format):
    """Arrow files and streams, told by their first bytes; a stream also needs one of the suffixes."""

    name = "arrow"
    suffixes = (".arrow", ".arrows", ".feather", ".ipc")
    precedence = 25
    magic = (FILE_MAGIC, STREAM_MAGIC)

    def sniff(self, head: bytes, path: Path) -> bool:
        """Whether the file begins with the mark of Arrow files, or with that of streams and has a suffix of this format."""
        return head.startswith(FILE_MAGIC) or (head.startswith(STREAM_MAGIC) and has_suffix(path, self.suffixes))

    def read(self, file: SourceFile, options: ReadOptions) -> list[Batch]:
        """One batch of conformed rows; a missing symbol comes from the name, else from the schema's metadata."""
        raw, stated = read_table(file.path, options)
        path_facts = parse_path(file.path, options)
        known = replace(path_facts, symbol=path_facts.symbol or stated.get("symbol") or stated.get("instrument_id"))
        origin = Origin(str(file.path), sha256(file.path), known, options, file.qualifier)
        raw, notes = long_table(raw)
        columns = match_columns([name for name in raw.columns if name != "row"], options, origin.source)
        unpacked, origin = unpack_binary(raw, replace(origin, notes=notes), stated)
        return [batch(unpacked, columns, origin)]


def read_table(path: Path, options: ReadOptions) -> tuple[pl.DataFrame, dict[str, str]]:
    """(columns and `row` of an Arrow file or stream, key -> text of its metadata); categories become text.

    Raises
    ------
    SourceError
        Damaged, or over `max_bytes`, which is looked at before each record batch of a file is unpacked.
    """
    import pyarrow as pa  # noqa: PLC0415  # slow to import, and few files are Arrow

    with path.open("rb") as file:
        is_file = file.read(len(FILE_MAGIC)) == FILE_MAGIC
    try:
        if is_file:
            rows = pl.scan_ipc(path).select(pl.len()).collect().item()
            width = len(pl.read_ipc_schema(path))
            if rows * width * CELL_BYTES > options.max_bytes:
                raise SourceError(path, over_limit_reason(f"{rows * width * CELL_BYTES:,}", options.max_bytes))
        with (pa.ipc.open_file if is_file else pa.ipc.open_stream)(path.read_bytes()) as reader:
            schema, batches, total = reader.schema, [], 0
            for one in (reader.get_batch(at) for at in range(reader.num_record_batches)) if is_file else reader:
                total += one.nbytes
                if total > options.max_bytes:
                    raise SourceError(path, over_limit_reason(f"over {options.max_bytes:,}", options.max_bytes))
                batches.append(one)
        frame = to_polars(pa.Table.from_batches(batches, schema))
    except (pa.ArrowException, ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise SourceError(path, f"no Arrow data that can be read: {error}") from error
    stated = {
        key.decode("utf-8", "replace"): text.decode("utf-8", "replace") for key, text in (schema.metadata or {}).items()
    }
    table = frame.with_columns(
        pl.col(pl.Categorical, pl.Enum).cast(pl.String), pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("row")
    )
    return table, stated
