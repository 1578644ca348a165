"""Numbers that are written as integers: cells of 8 or 16 bytes, and the decimal digits by which they are divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from engine.errors import SourceError
from engine.sources.layouts.layout import normalize_name
from engine.sources.layouts.shared_names import SHARED_NAMES
from engine.sources.table_rows import Origin, divided

WORD_BYTES = 8
USUAL_DIGITS = {WORD_BYTES: (9,), 2 * WORD_BYTES: (18, 16)}  # of Nautilus' catalogs; the first where nothing tells
FEW = 10
SIZE_ROLES = ("volume", "size", "bid_size", "ask_size")
SIZE_NAMES = frozenset(name for role in SIZE_ROLES for name in SHARED_NAMES.aliases[role].split())


def unpack_binary(
    raw: pl.DataFrame, origin: Origin, stated: Mapping[str, str] | None = None
) -> tuple[pl.DataFrame, Origin]:
    """Replace Binary columns by the little-endian fixed-point numbers in them, as Float64, and cast `row` to Int64.

    The digits are `scale`, else told by `price_precision` and `size_precision` of the metadata (`digits_of`), else those
    that are usual for the width; the origin is returned with a note that says which, unless `scale` is stated.

    Raises
    ------
    SourceError
        Cells are not all of 8, or all of 16 bytes.
    """
    packed = {name: packed_integers(raw[name], width) for name, width in cell_widths(raw, origin).items()}
    numbers, notes = [], []
    known: int | None = None  # the digits of prices: sizes, which may be few and round, have the same where they can
    for kind in ("price", "size"):
        names = [name for name in packed if (normalize_name(name) in SIZE_NAMES) == (kind == "size")]
        if not names:
            continue
        precision = (stated or {}).get(f"{kind}_precision") or (stated or {}).get("price_precision")
        width = cell_widths(raw.select(names), origin)[names[0]]
        if origin.options.scale is not None:
            digits = origin.options.scale
        else:
            columns = [packed[name] for name in names]
            digits, why = digits_of(columns, width, precision, origin.source, known)
            known = digits
            notes.append(f"{', '.join(names)}: integers of {width} bytes, multiples of 1e-{digits}, {why}")
        numbers += [fixed_point(pl.lit(packed[name]), digits).alias(name) for name in names]
    unpacked = raw.with_columns(*numbers, pl.col("row").cast(pl.Int64))
    return unpacked, replace(origin, notes=(*origin.notes, *notes))


def digits_of(
    columns: Sequence[pl.Series], width: int, precision: str | None, source: str, known: int | None = None
) -> tuple[int, str]:
    """(decimals of integers, reason): usual ones that fit `precision`, else it; SourceError if several fit few numbers.

    A number of at most `precision` decimals, times 10^digits, ends in `digits - precision` zeros: usual digits of which
    that is not true of every number are not those of the table.
    """
    if precision is None or not precision.isdigit():
        return USUAL_DIGITS[width][0], "as is usual (no metadata tells; --scale N states another)"
    stated = int(precision)
    allowed = [
        digits
        for digits in USUAL_DIGITS[width]
        if stated <= digits and all(ends_in_zeros(column, digits - stated) for column in columns)
    ]
    if known in allowed:
        allowed = [known]
    if len(allowed) > 1 and pl.concat(columns).n_unique() < FEW:
        listed = " or ".join(f"--scale {digits}" for digits in allowed)
        raise SourceError(
            source, f"few numbers in cells of {width} bytes, which do not tell their digits; give {listed}"
        )
    return allowed[0] if allowed else stated, f"by the precision {stated} of the metadata"


def ends_in_zeros(column: pl.Series, count: int) -> bool:
    """Whether every number of an Int128 column ends in this many zeros (decimal); True for no numbers."""
    return bool(pl.select((pl.lit(column) % pl.lit(10**count, pl.Int128) == 0).all()).item())


def cell_widths(raw: pl.DataFrame, origin: Origin) -> dict[str, int]:
    """Binary column -> bytes per cell, 8 or 16 (16 when all are null); SourceError for mixed or other sizes."""
    found = {}
    for name in (name for name, dtype in raw.schema.items() if dtype == pl.Binary):
        widths = raw[name].bin.size().drop_nulls().unique().to_list()
        if len(widths) > 1 or (widths and widths[0] not in USUAL_DIGITS):
            raise SourceError(
                origin.source, f"{name}: binary cells of {widths} bytes; valid: integers of 8 or 16 bytes"
            )
        found[name] = int(widths[0]) if widths else max(USUAL_DIGITS)
    return found


def packed_integers(cells: pl.Series, width: int) -> pl.Series:
    """Int128 of little-endian integers in cells of `width` bytes."""
    dtype = pl.Int64 if width == WORD_BYTES else pl.Int128
    return cells.bin.reinterpret(dtype=dtype, endianness="little").cast(pl.Int128)


def fixed_point(value: pl.Expr, digits: int) -> pl.Expr:
    """Int128 divided by 10^digits, as Float64.

    The integer is cut to a part that a float holds exactly before it is divided, so that 1.14605 comes out as
    the float that its decimal text gives.
    """
    fine = max(digits - 9, 0)
    unit = pl.lit(10**fine, pl.Int128)
    rest = divided((value % unit).cast(pl.Float64), 10.0**digits)
    return divided((value // unit).cast(pl.Float64), 10.0 ** (digits - fine)) + rest
