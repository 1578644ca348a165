"""The rows of files of halts and incidents as text by columns: delimited text, RSS of Nasdaq, DBN of schema `status`."""

from __future__ import annotations

import csv
import html
import io
import re
from pathlib import Path
from typing import TypeAlias

import numpy as np
import polars as pl

from engine.errors import ParameterError, SourceError
from engine.sources import archive
from engine.sources.encodings import to_utf8
from engine.sources.options import ReadOptions
from engine.sources.vendors import dbn

EventSource: TypeAlias = str | Path | pl.DataFrame
HALTED, RESUMED = (8, 9, 10), (7, 12, 13, 15)  # actions of DBN: halt, pause, suspend; trading, closes, not available
RSS_TAGS = (
    "IssueSymbol", "HaltDate", "HaltTime", "ReasonCode", "ResumptionDate", "ResumptionTradeTime",
)  # fmt: skip


def event_table(source: EventSource, role: str) -> pl.DataFrame:
    """The rows of a file or frame with `row`, its line or number; text but for stamps of a frame; ParameterError if unreadable."""
    if isinstance(source, pl.DataFrame):
        if "row" in source.columns:
            source = source.drop("row")
        return source.with_row_index("row", offset=1).with_columns(pl.col("row").cast(pl.Int64))
    path = Path(source)
    try:
        content = archive.content(path, ReadOptions())
        if dbn.peek_header(content) is not None:
            return status_halts(path, content)
        text, _ = to_utf8(content, str(path))
    except SourceError as error:
        raise ParameterError(f"{role} {path}: {error.reason}") from error
    except OSError as error:
        raise ParameterError(f"{role} {path}: {error.strerror or error}") from error
    if not text.strip():
        return pl.DataFrame({"row": pl.Series([], dtype=pl.Int64)})
    if text.lstrip().startswith(b"<"):
        return rss_items(text.decode("utf-8", errors="replace"))
    table = delimited_rows(text)
    return status_states(table) if {"action", "is_trading", "ts_event"} <= set(table.columns) else table


def delimited_rows(text: bytes) -> pl.DataFrame:
    """Rows of delimited text with a header as text cells, and `row`, the line that each begins at; blank lines are left out."""
    above = text[: len(text) - len(text.lstrip(b"\r\n"))].count(b"\n")
    header = text.lstrip(b"\r\n").partition(b"\n")[0]
    mark = max(",;|\t", key=lambda mark: header.count(mark.encode()))
    try:
        cells = pl.read_csv(
            io.BytesIO(text), separator=mark, infer_schema=False, truncate_ragged_lines=True, encoding="utf8-lossy"
        )
    except pl.exceptions.PolarsError:
        # A quote that is never closed: what follows it in its line is one cell, and the other lines hold.
        cells = cells_by_line(text.decode("utf-8", errors="replace"), mark)
    if "row" in cells.columns:
        cells = cells.drop("row")
    breaks = pl.sum_horizontal(pl.all().str.count_matches("\n").fill_null(0)) if cells.width else pl.lit(0)
    begun = breaks.cum_sum().shift(1, fill_value=0)
    line = (pl.int_range(pl.len()) + 2 + above + begun).cast(pl.Int64).alias("row")
    return cells.select(line, pl.all()).filter(~pl.all_horizontal(pl.exclude("row").is_null()))


def cells_by_line(text: str, mark: str) -> pl.DataFrame:
    """Cells of delimited text of which each line is a row, whatever quotes are left open; the first line names them."""
    lines = [next(csv.reader([line], delimiter=mark), []) for line in text.lstrip("\r\n").splitlines()]
    names = [name if name not in lines[0][:at] else f"{name}_{at}" for at, name in enumerate(lines[0])]
    rows = [[*cells[: len(names)], *[None] * (len(names) - len(cells))] for cells in lines[1:]]
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def rss_items(text: str) -> pl.DataFrame:
    """Items of Nasdaq's RSS, a row each, by the names of its tags without their prefix."""
    items = pl.Series("item", re.split(r"<item[\s>]", text)[1:], pl.String)
    cell = r"(?s)<(?:\w+:)?%s(?:\s[^>]*)?>\s*(?:<!\[CDATA\[)?([^<\]]*)"
    found = items.to_frame().select(pl.col("item").str.extract(cell % tag).alias(tag) for tag in RSS_TAGS)
    plain = found.with_columns(pl.Series(tag, [html.unescape(cell or "") for cell in found[tag]]) for tag in RSS_TAGS)
    return plain.with_row_index("row", offset=1).with_columns(pl.col("row").cast(pl.Int64))


def status_halts(path: Path, content: bytes) -> pl.DataFrame:
    """Halts of a DBN file of schema `status`; SourceError for another schema, or without the vendor's library."""
    header = dbn.peek_header(content)
    if header is None or header.schema != "status":
        raise SourceError(path, f"DBN of schema {header.schema if header else '?'}; valid: status")
    library, metadata, body = dbn.decode_metadata(path, content)
    dtype = np.dtype(library.StatusMsg._dtypes)  # noqa: SLF001  # the layout has no other door
    whole = np.frombuffer(body[: len(body) // dtype.itemsize * dtype.itemsize], dtype)
    records = whole[whole["rtype"] == 0x12]  # noqa: PLR2004
    table = dbn.records_table(records, metadata)
    trading = pl.Series("is_trading", records["is_trading"].astype("U1"))
    return status_states(table.with_columns(trading))


def status_states(table: pl.DataFrame) -> pl.DataFrame:
    """Rows `symbol, halt, resumption, reason, row` of status messages: from a halt, pause or suspension to trading or a close."""
    action = pl.col("action").cast(pl.Int64, strict=False)
    state = (
        pl.when(action.is_in(HALTED))
        .then(pl.lit(value=True))
        .when(action.is_in(RESUMED) | (pl.col("is_trading").cast(pl.String).str.to_uppercase() == "Y"))
        .then(pl.lit(value=False))
    )
    order = ["symbol", "ts_event", "row"]
    told = table.with_columns(state.alias("is_halted")).drop_nulls("is_halted").sort(order)
    turns = told.filter(pl.col("is_halted") != pl.col("is_halted").shift(1, fill_value=False).over("symbol"))
    ended = turns.with_columns(pl.col("ts_event").shift(-1).over("symbol").alias("resumption")).filter("is_halted")
    named = action.replace_strict({8: "halt", 9: "pause", 10: "suspension"}, default="halt", return_dtype=pl.String)
    return ended.select(
        pl.col("symbol").cast(pl.String),
        pl.col("ts_event").cast(pl.String).alias("halt"),
        pl.col("resumption").cast(pl.String),
        pl.format("status: {}, reason {}", named, pl.col("reason").cast(pl.String)).alias("reason"),
        "row",
    )
