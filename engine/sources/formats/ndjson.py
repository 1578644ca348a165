"""Newline-delimited JSON: every line is an object that makes a row, a rejected line, or blank.

A file that is JSON throughout goes to the parser whole. Any other is judged line by line, columnar still, and what is
no object is rejected with its text. Names are those of all lines together; a cell that a line lacks is null.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from engine.errors import SourceError
from engine.schema import REJECTS, empty, rejected_rows
from engine.sources.batch import Batch
from engine.sources.columns import match_columns
from engine.sources.formats.format import TextFormat
from engine.sources.formats.registry import register
from engine.sources.table_rows import Origin, batch, list_text
from engine.sources.text import Table, empty_batch, with_table_notes

NAME = r'"((?:[^"\\]|\\.)*)"\s*:'
MOST_NAMES = 256


@register
class Ndjson(TextFormat):
    """One JSON object per line."""

    name = "ndjson"
    suffixes = (".ndjson", ".jsonl")
    precedence = 10

    def read_content(self, data: bytes, origin: Origin) -> Batch:
        """Batch of conformed rows from NDJSON bytes; lines that are no JSON object are rejected."""
        return read_ndjson(data, origin)


def read_ndjson(data: bytes, origin: Origin) -> Batch:
    """Batch of conformed rows from NDJSON bytes; lines that are no object are rejects; SourceError if all are blank.

    Raises
    ------
    SourceError
        It is no such text, one name has values that do not mix, or columns, symbol, zone or unit are not known.
    """
    read = objects(data, origin.source)
    names = [name for name in read.raw.columns if name != "row"]
    if read.raw.is_empty():
        return empty_batch(names, with_table_notes(origin, read))
    return batch(read.raw, match_columns(names, origin.options, origin.source), with_table_notes(origin, read))


def objects(data: bytes, source: str) -> Table:
    """Table of a row per JSON object, lists as comma text; other non-blank lines are rejects; SourceError if blank.

    Raises
    ------
    SourceError
        Empty, or one name has values that do not mix.
    """
    lines = pl.DataFrame({"line": data.decode("utf-8", errors="replace").split("\n")})
    lines = lines.with_row_index("row", offset=1).with_columns(pl.col("row").cast(pl.Int64))
    lines = lines.filter(pl.col("line").str.strip_chars() != "")
    if lines.is_empty():
        raise SourceError(source, "is empty")
    # What is JSON comes back in its shortest spelling, what is none as null.
    is_object = lines["line"].str.json_path_match("$").str.starts_with("{").fill_null(value=False)
    good, bad = lines.filter(is_object), lines.filter(~is_object)
    refused = rejected_rows(bad, "no JSON object", source) if bad.height else empty(REJECTS)
    names, left_out = commonest_names(good["line"])
    notes = (f"{left_out} names of values that few lines have are not read",) if left_out else ()
    return Table(parse_objects(good, source, names if left_out else None), refused, notes)


def commonest_names(lines: pl.Series) -> tuple[list[str], int]:
    """(the at most 256 names that most lines have, names left out); names inside nested objects count as names too.

    Columns times lines are the cost of a table: lines with names of their own would make it grow with their square.
    """
    names = lines.str.extract_all(NAME).explode().str.extract(NAME, 1).drop_nulls()
    counted = names.value_counts(sort=True, name="lines")
    kept = counted.head(MOST_NAMES)
    return kept[names.name].to_list(), counted.height - kept.height


def parse_objects(lines: pl.DataFrame, source: str, names: Sequence[str] | None = None) -> pl.DataFrame:
    """One row per line, typed as in JSON (with `names` these alone, as text); nests as text; SourceError if types mix.

    With `names` these columns alone, as text.
    """
    if lines.is_empty():
        return lines.select("row")
    try:
        data = "\n".join(lines["line"]).encode()
        schema = None if names is None else dict.fromkeys(names, pl.String())
        read = pl.read_ndjson(data, schema=schema, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        raise SourceError(source, f"values of one name do not mix: {error}") from error
    if read.height != lines.height:
        raise SourceError(source, f"{lines.height} objects were parsed into {read.height} rows; write one per line")
    return flatten_nested(read.drop("row", strict=False)).with_columns(lines["row"])


def flatten_nested(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with lists as text with commas, and objects as JSON text."""
    schema = frame.schema
    lists = [list_text(name) for name, dtype in schema.items() if dtype == pl.List]
    structs = [pl.col(name).struct.json_encode() for name, dtype in schema.items() if dtype == pl.Struct]
    return frame.with_columns(*lists, *structs)
