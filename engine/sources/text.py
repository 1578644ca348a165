"""Delimited text: every line of a file is a good row, a rejected one, a header or blank.

1. `find_layout` tells delimiter, header and columns from the first lines.
2. A file whose lines have as many delimiters as its header, and numbers where numbers are due, is parsed with types
   (`read_typed`); the text of cells is fetched again for rejected rows alone.
3. Any other is a table of text first (`read_cells`): parsed whole where all lines are as wide as the header
   (`parse_even`), else line by line, columnar still, so that lines that do not fit are rejected (`parse_uneven`).

A quoted cell must end on its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from engine.errors import SourceError
from engine.schema import REJECTS, ROWS, Kind, empty, rejected_rows
from engine.sources.batch import Batch
from engine.sources.columns import REPEATED, TableColumns, has_header, headerless_columns, match_columns
from engine.sources.encodings import UTF8, UTF8_MARK, encoding_of, no_text_reason
from engine.sources.headers import DELIMITERS, QUOTED, column_levels, header_line, split_line
from engine.sources.layouts.layout import Layout
from engine.sources.layouts.shared_names import OHLC, SIDES
from engine.sources.number_text import FEW, PLAIN, marks_of, propose_marks, unread_cells
from engine.sources.options import ReadOptions
from engine.sources.resolution import ENOUGH_BARS
from engine.sources.table_rows import Origin, batch, is_number, text_numbers
from engine.sources.wide_tables import long_table, symbols_of_columns

SAMPLE_BYTES = 65_536
BLOCK_BYTES = 1 << 18
LINE_END = ord("\n")
NUMBER_ROLES = frozenset(
    [name for schema in ROWS.values() for name, dtype in schema.items() if dtype == pl.Float64]
    + [f"{side}_{part}" for side in SIDES for part in (*OHLC, "size")]
    + ["trades"]
)


@dataclass(frozen=True)
class Table:
    """Cells of a file as text, and the lines that do not fit its columns.

    Attributes
    ----------
    raw : DataFrame
        The columns, all String (an empty cell is null), and `row` (Int64, number of the line).
    refused : DataFrame
        `schema.REJECTS`: lines that have not as many cells as the header.
    notes : tuple of str
    """

    raw: pl.DataFrame
    refused: pl.DataFrame
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextLayout:
    """Delimiter, header and columns of a text, told from its first lines.

    Attributes
    ----------
    data : bytes
        UTF-8 without BOM, from the header (or first row) on.
    top : int
        Number of lines above it.
    delimiter : str
        One character.
    first : list of str
        Cells of the first line.
    names : list of str
        Of all columns, in order.
    headed : bool
        The first line is a header.
    vendor : Layout or None
        The vendor's layout of a file without a header.
    notes : tuple of str
    """

    data: bytes
    top: int
    delimiter: str
    first: list[str]
    names: list[str]
    headed: bool
    vendor: Layout | None = None
    notes: tuple[str, ...] = ()


def read_text(data: bytes, origin: Origin) -> Batch:
    """Batch of conformed rows of delimited text; lines of another width are rejects; empty for a lone header.

    A file of which every cell of a number parses is read with types (`read_typed`). Any other is read as text
    (`read_cells`), with the same result: only rejected rows need the text of their cells.

    Raises
    ------
    SourceError
        It is no such text, or columns, symbol, zone or unit are not known.
    """
    layout = find_layout(data, origin.options, origin.source)
    origin = replace(origin, notes=(*origin.notes, *layout.notes))
    typed = read_typed(layout, origin)
    return typed if typed is not None else read_cells(layout, origin)


def read_cells(layout: TextLayout, origin: Origin) -> Batch:
    """Batch of conformed rows by way of a table of text: the general form of `read_typed`."""
    read = layout_table(layout, origin.source)
    known = with_table_notes(origin, read)
    if read.raw.is_empty() and read.refused.is_empty():
        return empty_batch(layout.names, known)
    raw, notes = long_table(read.raw)
    names = layout.names if raw is read.raw else [name for name in raw.columns if name != "row"]
    table = match_columns(names, origin.options, origin.source, layout.vendor)
    known = replace(known, notes=(*known.notes, *notes))
    if layout.delimiter == ";":
        known = with_decimal_comma(raw, table, known)
    if raw is not read.raw or not has_plain_numbers(table, known.options):
        return batch(raw, table, known)

    def written(rows: pl.Series) -> pl.DataFrame:
        """The rows of these numbers, with cells as text."""
        return read.raw.filter(pl.col("row").is_in(rows.implode()))

    return batch(with_parsed_numbers(read.raw, table), table, known, written)


def has_plain_numbers(table: TableColumns, options: ReadOptions) -> bool:
    """Whether numbers are decimals with a point, and no cell stands for another value, by layout and options."""
    return not table.layout.changes_cells and not options.null and marks_of(options) == PLAIN


def with_parsed_numbers(raw: pl.DataFrame, table: TableColumns) -> pl.DataFrame:
    """The table with columns of numbers as Float64 if every cell is one or missing; unchanged if a column has 3 others.

    Unchanged if many cells of a column are no such numbers: whether other marks read them is then seen from all columns.
    """
    names = number_columns(table)
    parsed = raw.select(pl.col(name).cast(pl.Float64, strict=False) for name in raw.columns if name in names)
    unread = {cells.name: cells.null_count() - raw[cells.name].null_count() for cells in parsed}
    if any(count >= min(FEW, raw.height) for count in unread.values()):
        return raw
    return raw.with_columns(cells for cells in parsed if not unread[cells.name])


def number_columns(table: TableColumns) -> set[str]:
    """Names of the columns whose cells must be numbers."""
    return {name for role, name in table.roles.items() if role in NUMBER_ROLES}


def with_decimal_comma(raw: pl.DataFrame, table: TableColumns, origin: Origin) -> Origin:
    """The origin with decimal comma and a note if no mark is stated and only that reads all of 30+ rows; else as it is.

    Spreadsheets of many countries write a semicolon between cells because the comma is the decimal mark.
    """
    stated = marks_of(origin.options)
    columns = [raw[name] for name in text_numbers(raw, table).values()]
    if raw.height < ENOUGH_BARS or stated != PLAIN or all(unread_cells(cells, stated).is_empty() for cells in columns):
        return origin
    proposals = propose_marks(columns, stated)
    if len(proposals) != 1 or proposals[0].decimal != ",":
        return origin
    options = replace(origin.options, decimal=",", thousands=proposals[0].thousands)
    note = f"numbers have a decimal comma ({proposals[0].options}): no other spelling reads all of them"
    return replace(origin, options=options, notes=(*origin.notes, note))


def read_typed(layout: TextLayout, origin: Origin) -> Batch | None:
    """Batch as of `read_cells` by a typed parse; None if the text needs that (quotes, uneven lines ...); SourceError as there.

    Raises
    ------
    SourceError
        As `read_text`.
    """
    lines = even_lines(layout.data, len(layout.names), layout.delimiter)
    if lines is None or lines == layout.headed or symbols_of_columns(layout.names):
        return None
    table = match_columns(layout.names, origin.options, origin.source, layout.vendor)
    numbers = number_columns(table)
    header = dict(zip(layout.names, layout.first, strict=True))
    # A header that stands again further down must not pass for a row of text.
    if not has_plain_numbers(table, origin.options) or (
        layout.headed and any(is_number(header[name]) for name in numbers)
    ):
        return None
    types = {name: pl.Float64() if name in numbers else pl.String() for name in layout.names}
    try:
        read = parse_csv(layout.data, types, layout.delimiter, quote=None, skip_lines=int(layout.headed))
    except pl.exceptions.PolarsError:
        return None
    if read.height != lines - layout.headed:
        return None
    first_row = 1 + layout.top + layout.headed
    row = pl.int_range(first_row, first_row + read.height, dtype=pl.Int64, eager=True).alias("row")
    read = read.with_columns(row)

    def written(rows: pl.Series) -> pl.DataFrame:
        """The rows of these numbers, with cells as text."""
        texts = dict.fromkeys(layout.names, pl.String())
        text = parse_csv(layout.data, texts, layout.delimiter, quote=None, skip_lines=int(layout.headed))
        return text.with_columns(row).filter(pl.col("row").is_in(rows.implode()))

    return batch(read, table, origin, written)


def with_table_notes(origin: Origin, read: Table) -> Origin:
    """The origin with the table's notes appended and its refused lines in place of the origin's."""
    return replace(origin, notes=(*origin.notes, *read.notes), refused=read.refused)


def find_layout(data: bytes, options: ReadOptions, source: str) -> TextLayout:
    """Layout of a file's bytes; its data are normalized and begin at the header; lines above that are no `#` are noted.

    Raises
    ------
    SourceError
        Empty, binary, without a delimiter, or without a header and of no known layout.
    """
    data = normalize_bytes(data, source)
    if options.skip_rows:
        rest = data.split(b"\n", options.skip_rows)[options.skip_rows :]
        below = find_layout(rest[0] if rest else b"", replace(options, skip_rows=0), source)
        return replace(below, top=below.top + options.skip_rows)
    lines = sample_lines(data)
    top = header_line(lines, options)
    above = [line for line in lines[:top] if line.strip() and not line.startswith("#")]
    notes = (
        (f"{len(above)} line{'s' * (len(above) > 1)} above the header left out: {above[0][:80]!r}",) if above else ()
    )
    data = after_lines(data, top)
    sample = [line for line in lines[top:] if line.strip()]
    if not sample:
        raise SourceError(source, "is empty")
    delimiter = options.delimiter or find_delimiter(sample, source)
    if has_trailing_cells(sample, delimiter):
        data = data.replace(sample[0].encode(), sample[0].encode() + delimiter.encode(), 1)
        sample[0] += delimiter
    levels = column_levels(sample, delimiter) if options.header is None else None
    if levels is not None:
        body = after_lines(data, levels.lines)
        return TextLayout(body, top + levels.lines, delimiter, levels.names, levels.names, headed=False, notes=notes)
    first = split_line(sample[0], delimiter)
    headed = has_header(first) if options.header is None else options.header
    names, vendor = (number_repeated_names(first), None) if headed else headerless_columns(first, options, source)
    return TextLayout(data, top, delimiter, first, names, headed, vendor, notes)


def after_lines(data: bytes, count: int) -> bytes:
    """The bytes after `count` lines."""
    start = 0
    for _ in range(count):
        start = data.find(b"\n", start) + 1 or len(data)
    return data[start:]


def has_trailing_cells(sample: Sequence[str], delimiter: str) -> bool:
    """Whether every line but the first ends with a delimiter and has one cell more than the first, which is empty."""
    width = len(split_line(sample[0], delimiter)) + 1
    return (
        len(sample) > 1
        and all(line.endswith(delimiter) for line in sample[1:])
        and all(len(split_line(line, delimiter)) == width for line in sample[1:])
    )


def layout_table(layout: TextLayout, source: str) -> Table:
    """Cells as String with `row` (line number); header lines are dropped, wherever they stand."""
    read = cells(layout.data, layout.names, layout.delimiter, source)
    raw = read.raw.with_columns(pl.col("row") + layout.top)
    refused = read.refused.with_columns(pl.col("row") + layout.top)
    return drop_headers(raw, refused, layout.first, headed=layout.headed)


def cells(data: bytes, names: list[str], delimiter: str, source: str) -> Table:
    """Table with one row per non-blank line that has exactly these columns; lines with more or fewer cells are refused.

    Parameters
    ----------
    data : bytes
        UTF-8, lines ended by LF or CRLF, the last one perhaps not at all.
    names : list of str
        Of all columns, in order.
    delimiter : str
        One character.
    source : str
        For the refused.
    """
    even = parse_even(data, names, delimiter)
    return Table(even, empty(REJECTS)) if even is not None else parse_uneven(data, names, delimiter, source)


def even_lines(data: bytes, width: int, delimiter: str) -> int | None:
    """Number of lines if there are `width` cells per line on average, no quotes and no blank line; else None."""
    if b'"' in data or (b"\r" in data and (b"\n\r" in data or data.startswith(b"\r"))):
        return None
    # By blocks that stay in the processor's cache: a search for two line ends in a row begins anew at each line.
    codes, lines, delimiters, before = np.frombuffer(data, np.uint8), 0, 0, -1
    for start in range(0, len(codes), BLOCK_BYTES):
        block = codes[start : start + BLOCK_BYTES]
        ends = np.flatnonzero(block == LINE_END)
        delimiters += int(np.count_nonzero(block == ord(delimiter)))
        if not len(ends):
            continue
        if start + ends[0] == before + 1 or (ends[1:] == ends[:-1] + 1).any():
            return None
        lines, before = lines + len(ends), start + int(ends[-1])
    lines += not data.endswith(b"\n")
    return lines if delimiters == (width - 1) * lines else None


def parse_even(data: bytes, names: list[str], delimiter: str) -> pl.DataFrame | None:
    """Cells as String with `row`, if all lines have the header's width, no quotes, no blank line; else None."""
    lines = even_lines(data, len(names), delimiter)
    if lines is None:
        return None
    try:
        read = parse_csv(data, dict.fromkeys(names, pl.String()), delimiter, quote=None)
    except pl.exceptions.PolarsError:
        return None  # a line is longer: `parse_uneven` finds which
    if read.height != lines:
        return None
    return read.with_columns(pl.int_range(1, lines + 1, dtype=pl.Int64).alias("row"))


def parse_uneven(data: bytes, names: list[str], delimiter: str, source: str) -> Table:
    """Table of lines as wide as the columns; other widths and bad quotes are refused, blank lines skipped."""
    lines = pl.DataFrame({"line": data.decode("utf-8", errors="replace").split("\n")}).with_row_index("row", offset=1)
    lines = lines.with_columns(pl.col("line").str.strip_suffix("\r"), pl.col("row").cast(pl.Int64))
    lines = lines.filter(pl.col("line").str.strip_chars() != "")
    cell = rf'(?:{QUOTED}|[^"{re.escape(delimiter)}]*)'
    wrapped = pl.col("line").str.contains(rf"^{cell}(?:{re.escape(delimiter)}{cell})*$")
    unquoted = pl.col("line").str.replace_all(QUOTED, "")
    counted = lines.with_columns(
        (unquoted.str.count_matches(delimiter, literal=True) + 1).alias("count"), wrapped.alias("wrapped")
    )
    reason = (
        pl.when(~pl.col("wrapped"))
        .then(pl.lit("quotes that do not wrap a whole cell of the line"))
        .when(pl.col("count") != len(names))
        .then(pl.format(f"{{}} cells, where {len(names)} are due", "count"))
    )
    judged = counted.with_columns(reason.alias("reason"))
    good, bad = judged.filter(pl.col("reason").is_null()), judged.filter(pl.col("reason").is_not_null())
    text = "\n".join(good["line"]).encode()
    read = (
        parse_csv(text, dict.fromkeys(names, pl.String()), delimiter, quote='"')
        if good.height
        else pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    )
    return Table(read.with_columns(good["row"]), rejected_rows(bad.select("row", "line"), bad["reason"], source))


def parse_csv(
    data: bytes, types: Mapping[str, pl.DataType], delimiter: str, quote: str | None, skip_lines: int = 0
) -> pl.DataFrame:
    """Cells of headerless text as columns of these names and types; bad UTF-8 is replaced, empty cells are null.

    Raises
    ------
    PolarsError
        A line is too long, or a cell is not of its column's type.
    """
    return pl.read_csv(
        data,
        has_header=False,
        skip_lines=skip_lines,
        schema=types,
        separator=delimiter,
        quote_char=quote,
        encoding="utf8-lossy",
    )


def drop_headers(raw: pl.DataFrame, refused: pl.DataFrame, first: list[str], *, headed: bool) -> Table:
    """Table without lines equal to the header, and a note on repeats; unchanged if not `headed`."""
    if not headed:
        return Table(raw, refused)
    names = [name for name in raw.columns if name != "row"]
    is_equal = [pl.col(name).str.strip_chars().fill_null("") == cell for name, cell in zip(names, first, strict=True)]
    # Few rows equal the header in their first cell, so the others are compared in those alone.
    candidates = raw.filter(is_equal[0]).filter(pl.all_horizontal(is_equal))
    rows = raw.filter(~pl.col("row").is_in(candidates["row"].implode()))
    repeated = raw.height - rows.height - 1
    return Table(rows, refused, (f"{repeated} repeated header lines",) if repeated > 0 else ())


def empty_batch(names: list[str], origin: Origin) -> Batch:
    """An empty batch of the kind that the columns fit, `bars` if none; a note says there is no row."""
    kind: Kind = "bars"
    try:
        kind = match_columns(names, origin.options, origin.source).kind
        notes = (*origin.notes, "a header and no row")
    except SourceError as error:
        notes = (*origin.notes, f"a header and no row; {error.reason}")
    return Batch(
        kind=kind,
        interval=origin.interval if kind == "bars" else None,
        frame=empty({**ROWS[kind], "row": pl.Int64()}),
        rejects=origin.refused,
        source=origin.source,
        sha256=origin.sha256,
        notes=notes,
    )


def normalize_bytes(data: bytes, source: str) -> bytes:
    """Bytes without BOM, each lone CR as LF; SourceError for bytes that are no UTF-8 text (`encodings`)."""
    if encoding_of(data) != UTF8:
        raise SourceError(source, no_text_reason(data))
    data = data.removeprefix(UTF8_MARK)
    if b"\r" not in data or data.count(b"\r") == data.count(b"\r\n"):
        return data
    return data.replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def sample_lines(data: bytes) -> list[str]:
    """Lines of the first 64 KiB without line ends, a last one cut off there left out; a longer first line is whole."""
    end = max(SAMPLE_BYTES, data.find(b"\n", SAMPLE_BYTES) if b"\n" not in data[:SAMPLE_BYTES] else 0)
    if b"\n" not in data[:SAMPLE_BYTES] and end == SAMPLE_BYTES:
        end = len(data)
    lines = data[:end].decode("utf-8", errors="replace").split("\n")
    whole = lines if len(data) <= end or len(lines) == 1 else lines[:-1]
    return [line.removesuffix("\r") for line in whole]


def find_delimiter(sample: list[str], source: str) -> str:
    """Of `, ; tab |`, the one by which most of 50 lines have the first line's 2+ cells; else SourceError."""

    def fit(delimiter: str) -> tuple[int, int]:
        widths = [
            len(split_line(line, delimiter)) if '"' in line else line.count(delimiter) + 1 for line in sample[:50]
        ]
        return sum(width == widths[0] for width in widths) if widths[0] > 1 else 0, widths[0]

    best = max(DELIMITERS, key=fit)
    if fit(best)[0] == 0:
        raise SourceError(source, no_delimiter_reason(sample[0]))
    return best


def no_delimiter_reason(first: str) -> str:
    """Error text for a first line without delimiter: a web page, JSON or none found, with the remedy."""
    shown = repr(first[:80])
    if first.lstrip().startswith("<"):
        return f"is a web page ({shown}), most likely the answer to a download that failed; fetch the file again"
    if first.lstrip().startswith(("{", "[")):
        return f"is JSON ({shown}); valid: one object per line, with --format ndjson or a name that ends in .ndjson"
    return (
        f"no delimiter found in its first line, {shown}; looked for comma, semicolon, tab, bar; give --delimiter, "
        "or --skip-rows with the number of lines above the header"
    )


def number_repeated_names(names: list[str]) -> list[str]:
    """The names, repeated ones with ` #2`, ` #3`, ... appended; `row` (ours), `*` or `^...$` (patterns) with a blank."""
    seen: dict[str, int] = {}
    unique = []
    # The number of the line has the name `row`; Polars would take the others for all columns, and for a pattern of names.
    for name in (f"{name} " if name in ("*", "row") or re.fullmatch(r"\^.*\$", name) else name for name in names):
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}{REPEATED}{seen[name]}")
    return unique
