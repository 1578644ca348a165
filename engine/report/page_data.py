"""Encode frames for a page: few bytes, any text, bounded size. Frames in, text out.

1. `truncate_rows` takes the first rows of a frame that fit a number of rows and of bytes.
2. `encode_table` turns them into columns of short JSON: text as a dictionary and codes, equal neighbours as runs, instants
   in the coarsest unit that loses nothing.
3. `script_text` writes JSON that no text can leave: a page may hold it in a `<script>`.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import polars as pl

LONGEST_TEXT = 600  # characters of one cell; more is cut, and the cut said
INSTANT_UNITS_US = (60_000_000, 1_000_000, 1)
DECIMALS = 6
# What a page could take for markup, or JavaScript for the end of a line.
ESCAPED: Mapping[str, str] = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
SWOLLEN = r'[<>&"\\\x00-\x1f\x7f\x{2028}\x{2029}]'  # characters of which JSON makes up to six

Column = dict[str, object]


def truncate_rows(rows: pl.DataFrame, most_rows: int, most_bytes: int) -> pl.DataFrame:
    """Return the first rows within `most_rows` and `most_bytes` of text (repeats: free), texts cut at 600 characters.

    Parameters
    ----------
    rows : DataFrame
        The most important ones first.
    most_rows, most_bytes : int
        Bounds. A text that stood in a row before costs nothing again.
    """
    head = rows.head(most_rows)
    texts = [name for name, dtype in head.schema.items() if dtype == pl.String]
    cut = head.with_columns(truncate_text_column(name) for name in texts)
    if not texts or cut.is_empty():
        return cut
    fresh = [
        pl.when(pl.col(name).is_first_distinct()).then(json_bytes(pl.col(name))).otherwise(0).alias(name)
        for name in texts
    ]
    weight = cut.select(pl.sum_horizontal(fresh).cum_sum().alias("so_far"))["so_far"]
    return cut.head(int((weight <= most_bytes).sum()))


def encode_table(rows: pl.DataFrame, of: int | None = None) -> dict[str, object]:
    """Return `rows`, `of` (number of all rows; default these) and `columns`, each encoded by `encode_column`.

    Parameters
    ----------
    rows : DataFrame
    of : int, optional
        How many rows there are in all, when these are the first.
    """
    return {
        "rows": rows.height,
        "of": rows.height if of is None else of,
        "columns": {name: encode_column(rows[name]) for name in rows.columns},
    }


def encode_column(values: pl.Series) -> Column:
    """Encode a column as values or runs: text as codes of `words`, dates by day, instants in `unit`, rounded floats."""
    if values.dtype == pl.String:
        words = values.drop_nulls().unique(maintain_order=True)
        codes = values.cast(pl.Enum(words)).to_physical() if len(words) else values.cast(pl.Int32)
        return {**encode_numbers(codes), "words": words.to_list()}
    if values.dtype == pl.Date:
        return {**encode_numbers(values.to_physical()), "unit": "day"}
    if isinstance(values.dtype, pl.Datetime):
        instants = values.to_physical()
        unit = next(u for u in INSTANT_UNITS_US if u == 1 or (instants % u == 0).all())
        return {**encode_numbers(instants // unit), "unit": unit}
    if values.dtype.is_float():
        return encode_numbers(values.round(DECIMALS))
    return encode_numbers(values)


def encode_numbers(values: pl.Series) -> Column:
    """Return `{values: [...]}`, or `{runs: [value, length, ...]}` if runs are fewer than half of the values."""
    runs = values.rle()
    if 2 * len(runs) >= len(values):
        return {"values": values.to_list()}
    fields = runs.struct.unnest()
    return {"runs": [cell for pair in fields.select("value", "len").iter_rows() for cell in pair]}


def script_text(data: object) -> str:
    """Return data as JSON with `<`, `>`, `&`, U+2028 and U+2029 escaped, safe inside a `<script>`."""
    text = orjson.dumps(data).decode()
    for character, escape in ESCAPED.items():
        text = text.replace(character, escape)
    return text


def truncate_text(text: str) -> str:
    """Return the text; if longer than 600 characters, cut there with its length appended."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text)} characters)"


def truncate_text_column(name: str) -> pl.Expr:
    """Return an expression: the text column cut at 600 characters, its original length appended if it was cut."""
    text = pl.col(name)
    said = pl.format("{}… ({} characters)", text.str.slice(0, LONGEST_TEXT), text.str.len_chars())
    return pl.when(text.str.len_chars() > LONGEST_TEXT).then(said).otherwise(text).alias(name)


def json_bytes(text: pl.Expr) -> pl.Expr:
    """Return an expression: an upper bound of a text's bytes in JSON (escaped characters take six); null is 0."""
    return (text.str.len_bytes() + 5 * text.str.count_matches(SWOLLEN) + 3).fill_null(0).cast(pl.Int64)
