"""Tables with named columns -> batches: the way of delimited text, Parquet and frames alike.

1. Roles are the columns' (`columns.match_columns`); symbol and interval come from a column, an option or the name.
2. Stamps pass the door for time (`stamps.column_to_utc`); local times that do not exist are refused.
3. `schema.conform` splits the rest into rows that hold and rows that do not, once per side of the bars.
4. What was not asked for is left out and counted; the interval is the commonest step, if nothing else tells it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from engine.errors import SourceError
from engine.grid import Stamp
from engine.interval import Interval
from engine.schema import AMOUNTS, COUNTERS, REJECTS, ROWS, Kind, conform, empty, rejected_rows
from engine.sources.batch import Batch
from engine.sources.columns import IDS, TableColumns
from engine.sources.counters import bar_counters, numbers_of_bars, tick_counters
from engine.sources.file_names import PathFacts, interval_of_text
from engine.sources.fixed_stamps import parse_fixed
from engine.sources.layout_cells import apply_layout, is_all_zero
from engine.sources.layouts.shared_names import OHLC
from engine.sources.number_text import (
    CURRENCY,
    FEW,
    NUMBER_LIKE,
    Marks,
    marks_of,
    plain_number,
    propose_marks,
    shell_text,
    unread_cells,
)
from engine.sources.options import ReadOptions
from engine.sources.resolution import contradicting_interval, interval_of
from engine.sources.stamp_types import Reading, Stamps
from engine.sources.stamps import column_to_utc

BOOLEANS = {"true": True, "t": True, "1": True, "yes": True, "false": False, "f": False, "0": False, "no": False}
LEAST_REPEATED = 0.05
REVISIONS = re.compile(r"revision|version|update|correct|sequence|(?:^|_)(?:id|seq|row|index)$", re.IGNORECASE)
NONE_WORDS = ("n/a", "#n/a", "na", "nan", "null", "none", "nil", "-", "--")  # text that means a missing value
DATABASE_NULL = r"\N"  # as MySQL, PostgreSQL and Hive write a missing value
MOST_EXACT = 2.0**53
STAMP_ROLES = frozenset(["ts", "date", "time"])
TEXT_ROLES = frozenset(["symbol", "price_type", "exchange", "conditions", "suspicious", "interval"])


@dataclass(frozen=True)
class Origin:
    """Source of a table: file, hash, facts of its path, options, notes and refused lines."""

    source: str
    sha256: str
    path_facts: PathFacts
    options: ReadOptions
    qualifier: str = ""
    notes: tuple[str, ...] = ()
    refused: pl.DataFrame = field(default_factory=lambda: empty(REJECTS))

    @property
    def symbol(self) -> str | None:
        """Symbol for tables without a symbol column: the option, else the path's; None when neither states one."""
        return self.options.symbol or self.path_facts.symbol

    @property
    def price_type(self) -> str | None:
        """Side for bars without a side column: the option, else the path's; None when neither states one."""
        return self.options.price_type or self.path_facts.price_type

    @property
    def interval(self) -> Interval | None:
        """Interval by option, else by path; None when only the rows can show it."""
        return self.options.interval or self.path_facts.interval


def batch(
    raw: pl.DataFrame, table: TableColumns, origin: Origin, written: Callable[[pl.Series], pl.DataFrame] | None = None
) -> Batch:
    """Convert a table to a batch: stamps to UTC, numbers parsed, bad rows to rejects, unrequested rows dropped.

    Parameters
    ----------
    raw : DataFrame
        The file's columns, of any type, and `row` (Int64).
    table : TableColumns
        What they are.
    origin : Origin
        What else is known.
    written : callable, optional
        Of a table that was parsed with types: numbers of rows -> these rows as text, for rejects.

    Raises
    ------
    SourceError
        No symbol, no zone, no unit, or numbers with other marks; the message names the option.
    """
    read = conform_rows(raw, table, origin)
    origin, bad, stamps = read.origin, read.bad, read.stamps
    interval, inferred = resolve_interval(read.kept, table.kind, origin, dates_only=stamps.dates_only)
    is_daily = stamps.dates_only or (interval is not None and not interval.is_intraday)
    hints: tuple[str, ...] = ()
    if bad.height:
        rows = read.raw.filter(pl.col("row").is_in(bad["row"].implode())) if written is None else written(bad["row"])
        bad = bad if written is None else with_cells(bad, rows)
        hints = value_hints(bad, rows, read.table, read.raw.height)
    hints = (*hints, *rounded_amounts(read.kept))
    notes = (*origin.notes, *read.table.notes, *stamps.notes, *read.left_out, *inferred, *hints)
    names = read.kept["symbol"] if bad.height or read.left_out else read.names
    return Batch(
        kind=table.kind,
        interval=interval,
        frame=read.kept,
        rejects=pl.concat([origin.refused, bad]),
        source=origin.source,
        sha256=origin.sha256,
        stamp=origin.options.stamp or "start",
        align=origin.options.align or ("date" if is_daily else "session"),
        zone=origin.options.timezone or "UTC",
        source_symbols=source_symbols(names, origin.qualifier),
        notes=notes,
        counters=counters_of(read.raw, read.kept, read.table, interval, origin.options.stamp or "start"),
    )


@dataclass(frozen=True)
class ConformedRows:
    """Rows of a table that hold and those that do not, before their interval is told.

    Attributes
    ----------
    raw, table, origin
        Those given, with what the layout and the options fill in.
    kept : DataFrame
        Requested rows in the schema of their kind.
    bad : DataFrame
        `schema.REJECTS`.
    names : Series
        Distinct symbols.
    stamps : Stamps
    left_out : tuple of str
        Notes on rows that were not requested.
    """

    raw: pl.DataFrame
    table: TableColumns
    origin: Origin
    kept: pl.DataFrame
    bad: pl.DataFrame
    names: pl.Series
    stamps: Stamps
    left_out: tuple[str, ...]


def conform_rows(raw: pl.DataFrame, table: TableColumns, origin: Origin) -> ConformedRows:
    """Conform a table as `batch` does, but for what its rows tell together: their interval, hints, counters.

    Raises
    ------
    SourceError
        As `batch`.
    """
    options, conventions = table.layout.fill(origin.options)
    origin = replace(origin, options=options, notes=(*origin.notes, *conventions))
    raw, table = apply_layout(with_plain_cells(raw, table, origin.source), table, marks_of(origin.options))
    is_dump = any((raw[name] == DATABASE_NULL).any() for name in text_numbers(raw, table).values())
    raw = without_null_cells(raw, table, (*options.null, DATABASE_NULL) if is_dump else options.null)
    origin = with_interval_of_column(raw, table, origin)
    check_number_spelling(raw, table, origin)
    symbols, names = symbol_column(raw, table, origin)
    series = series_names(raw, table, symbols)
    stamps = stamp_column(raw, table, origin, series)
    check_times_of_ticks(raw, table, origin, stamps)
    check_one_symbol(raw, table, origin, stamps, series)
    columns = value_columns(raw, table, origin) | {"ts": pl.lit(stamps.ts), "symbol": pl.lit(symbols)}
    good, bad = conform_table(raw, stamps, table, columns, origin)
    bad = rejects_of_requested(bad, raw["row"], symbols, origin.options)
    kept, left_out = drop_unrequested(good, origin.options)
    return ConformedRows(raw, table, origin, kept, bad, names, stamps, left_out)


def counters_of(
    raw: pl.DataFrame, kept: pl.DataFrame, table: TableColumns, interval: Interval | None, stamp: Stamp
) -> pl.DataFrame:
    """`COUNTERS` of ticks with numbers of their own, and of bars with those of their first and last trade; else none."""
    if table.kind == "ticks" and is_numbered(raw, table.roles.get("seq")):
        return tick_counters(kept)
    if table.kind == "bars" and set(IDS) <= set(table.roles):
        ids = numbers_of_bars(raw, kept, *(table.roles[role] for role in IDS))
        return bar_counters(ids, interval, stamp)
    return empty(COUNTERS)


def with_plain_cells(raw: pl.DataFrame, table: TableColumns, source: str) -> pl.DataFrame:
    """The table with categories and lists of conditions as text; SourceError for nested, temporal or boolean numbers.

    Raises
    ------
    SourceError
        A column has cells that cannot be what its role needs; the message names both.
    """
    plain = []
    for role, name in table.roles.items():
        dtype = raw.schema[name]
        if isinstance(dtype, pl.Categorical | pl.Enum):
            plain.append(pl.col(name).cast(pl.String))
        elif isinstance(dtype, pl.List) and role in ("conditions", "exchange"):
            plain.append(list_text(name))
        elif role not in STAMP_ROLES and (
            dtype.is_nested()
            or dtype.is_temporal()
            or dtype in (pl.Binary, pl.Object)
            or (dtype == pl.Boolean and role not in TEXT_ROLES)
        ):
            valid = "text" if role in TEXT_ROLES else "numbers, or text"
            raise SourceError(source, f"{name}: {dtype} cells are no {role}; valid: {valid}")
    return raw.with_columns(plain) if plain else raw


def list_text(name: str) -> pl.Expr:
    """Expression for a column of lists as text with commas."""
    return pl.col(name).cast(pl.List(pl.String)).list.join(",")


def drop_unrequested(frame: pl.DataFrame, options: ReadOptions) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Drop rows of unrequested symbols and price types (empty options: keep all); return the rest and notes."""
    notes: list[str] = []
    if options.symbols:
        strange = [name for name in frame["symbol"].unique() if not options.selects(name)]
        frame = drop_rows(frame, pl.col("symbol").is_in(strange), "of other symbols", notes)
    if options.price_types and "price_type" in frame.columns:
        others = ~pl.col("price_type").is_in(options.price_types)
        frame = drop_rows(frame, others, "of other price types", notes)
    return frame, tuple(notes)


def rejects_of_requested(
    rejects: pl.DataFrame, rows: pl.Series, symbols: pl.Series, options: ReadOptions
) -> pl.DataFrame:
    """Rejects without those whose row (`rows`, with its symbol in `symbols`) is of a symbol that was not requested."""
    if not options.symbols or rejects.is_empty():
        return rejects
    strange = [name for name in symbols.unique().drop_nulls() if not options.selects(name)]
    others = rows.filter(symbols.is_in(strange))
    return rejects.filter(~pl.col("row").is_in(others.implode()))


def source_symbols(symbols: pl.Series, qualifier: str) -> dict[str, str]:
    """Each distinct symbol -> the vendor's own name: the symbol without the qualifier at its end."""
    return {name: name.removesuffix(qualifier) for name in symbols.unique(maintain_order=True)}


def divided(number: pl.Expr, divisor: float) -> pl.Expr:
    """Expression for the correctly rounded Float64 quotient: 37_027_500 / 10_000 is the float of the text 3702.75."""
    # Polars multiplies by the reciprocal of a scalar, which is off in the last digit of every third price.
    return number / (number * 0 + divisor)


def conform_table(
    raw: pl.DataFrame, stamps: Stamps, table: TableColumns, columns: Mapping[str, pl.Expr], origin: Origin
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Conform rows to their kind: (good rows, rejects); rows with a nonexistent local time are rejected."""
    skipped = stamps.refused.is_not_null()
    if not skipped.any():
        return conform_sides(raw, table.kind, columns, table.sides, origin)
    rows = raw.with_columns(stamps.ts.alias("@ts"), columns["symbol"].alias("@symbol")).filter(~skipped)
    columns = {**columns, "ts": pl.lit(rows["@ts"]), "symbol": pl.lit(rows["@symbol"])}
    good, bad = conform_sides(rows.drop("@ts", "@symbol"), table.kind, columns, table.sides, origin)
    refused = rejected_rows(raw.filter(skipped), stamps.refused.filter(skipped), origin.source)
    return good, pl.concat([refused, bad])


def conform_sides(
    raw: pl.DataFrame, kind: Kind, columns: Mapping[str, pl.Expr], sides: Sequence[str], origin: Origin
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(good, rejects): rows as they are, or per side one bar where it has a price; rows without any are rejected.

    Columns of a side are named `bid_open` to `bid_close` and `bid_size`. A row without any side is rejected.
    """
    rules = origin.options.rules
    if not sides:
        return conform(raw, kind, columns, origin.source, rules)
    shared = {name: expr for name, expr in columns.items() if name in ROWS["bars"] and name not in (*OHLC, "size")}
    none = raw.filter(~pl.any_horizontal(has_price_cell(raw, side, columns) for side in sides))
    parts = [conform_side(raw, side, shared, columns, origin) for side in sides]
    bad = [part[1] for part in parts]
    if none.height:
        bad.append(rejected_rows(none, f"{' and '.join(sides)}: all missing", origin.source))
    return pl.concat([part[0] for part in parts]), pl.concat(bad)


def conform_side(
    raw: pl.DataFrame, side: str, shared: Mapping[str, pl.Expr], columns: Mapping[str, pl.Expr], origin: Origin
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(good, rejects) of one side: a bar per row with any price cell of it; other rows are skipped silently."""
    mine = {part: columns[f"{side}_{part}"] for part in OHLC} | {"price_type": pl.lit(side)}
    if f"{side}_size" in columns:
        mine["size"] = columns[f"{side}_size"]
    is_there = raw.select(has_price_cell(raw, side, columns).alias("there"))["there"]
    if is_there.all():
        return conform(raw, "bars", {**shared, **mine}, origin.source, origin.options.rules)
    # Series that were computed beside the table must lose the same rows as the table.
    cut = {name: filter_expression(raw, expr, is_there) for name, expr in shared.items()}
    return conform(raw.filter(is_there), "bars", {**cut, **mine}, origin.source, origin.options.rules)


def filter_expression(raw: pl.DataFrame, expr: pl.Expr, keep: pl.Series) -> pl.Expr:
    """Expression for rows where `keep`: itself if it reads columns, else its values, filtered, as literal."""
    if expr.meta.root_names():
        return expr
    value = raw.select(pl.col("row"), expr.alias("value"))["value"]
    return pl.lit(value.filter(keep))


def has_price_cell(raw: pl.DataFrame, side: str, columns: Mapping[str, pl.Expr]) -> pl.Expr:
    """Expression: whether any of a side's OHLC cells is not null or blank; unparsable text counts as present."""
    # The cells themselves, not their values: text that is no number is a bad bar, not an absent one.
    names = [columns[f"{side}_{part}"].meta.root_names()[0] for part in OHLC]
    is_text = {name: raw.schema[name] == pl.String for name in names}
    cells = [pl.col(name).str.strip_chars().replace("", None) if is_text[name] else pl.col(name) for name in names]
    return pl.any_horizontal(cell.is_not_null() for cell in cells)


def symbol_column(raw: pl.DataFrame, table: TableColumns, origin: Origin) -> tuple[pl.Series, pl.Series]:
    """(symbols: --symbol, else column, blank null, else path's; qualifier behind; distinct ones); else SourceError."""
    column = table.roles.get("symbol")
    if column is not None and origin.options.symbol is None:
        symbols = raw[column].cast(pl.String)
        # Symbols are few and rows are many: as a rule the distinct ones show that there is nothing to strip.
        names = symbols.unique(maintain_order=True)
        if not ((names.str.strip_chars() == names) & (names != "")).fill_null(value=True).all():
            symbols = symbols.str.strip_chars().replace("", None)
            names = symbols.unique(maintain_order=True)
    elif origin.symbol is not None:
        names = pl.Series([origin.symbol], dtype=pl.String).head(raw.height)
        symbols = names.new_from_index(0, raw.height) if raw.height else names
    else:
        raise SourceError(
            origin.source,
            "neither a column nor the file's name tells the symbol; give --symbol NAME, --columns symbol=COLUMN or, where "
            "folders have the symbols, --symbol-from folder",
        )
    if origin.qualifier:
        symbols, names = symbols + origin.qualifier, names + origin.qualifier
    return symbols.alias("symbol"), names


def series_names(raw: pl.DataFrame, table: TableColumns, symbols: pl.Series) -> pl.Series:
    """Symbol of each row, with its side where bars have a column of it: bid and ask of one minute have one stamp."""
    side = table.roles.get("price_type")
    if side is None or table.kind != "bars":
        return symbols
    return symbols + " " + raw[side].cast(pl.String).fill_null("")


def stamp_column(raw: pl.DataFrame, table: TableColumns, origin: Origin, series: pl.Series) -> Stamps:
    """UTC stamps of the `ts` column, else of `date` and `time` joined by a blank (or the only one of both present)."""
    options, roles = origin.options, table.roles
    column = roles.get("ts") or "+".join(roles[role] for role in ("date", "time") if role in roles)
    if column in raw.columns:
        cells = raw[column]
    else:
        cells = stamp_text(raw[roles["date"]]) + " " + stamp_text(raw[roles["time"]])
    reading = Reading(
        path=origin.source,
        column=column,
        timezone=options.timezone,
        unit=options.unit,
        time_format=options.time_format,
        day=origin.path_facts.day,
        is_bars=table.kind == "bars",
    )
    if cells.dtype == pl.String and options.time_format is None:
        fixed = parse_fixed(cells)
        cells = cells if fixed is None else fixed
    return column_to_utc(cells, reading, series)


def stamp_text(cells: pl.Series) -> pl.Series:
    """Text of the date or time of a stamp in two columns: whole floats without `.0`, durations as times of day."""
    if cells.dtype.is_float() and ((cells == cells.round()) | cells.is_null() | cells.is_nan()).all():
        cells = cells.fill_nan(None).cast(pl.Int64, strict=False)
    elif isinstance(cells.dtype, pl.Duration):
        cells = cells.cast(pl.Duration("ns")).to_physical().cast(pl.Time, strict=False)
    return cells.cast(pl.String).str.strip_chars()


def value_columns(raw: pl.DataFrame, table: TableColumns, origin: Origin) -> dict[str, pl.Expr]:
    """Role -> expression, not `ts`, `symbol`; bars without price_type: option's or path's; `seq`: row unless all whole."""
    schema = ROWS[table.kind]
    sizes = [f"{side}_{part}" for side in table.sides for part in (*OHLC, "size")]
    own = {role: name for role, name in table.roles.items() if role in schema or role in sizes}
    marks = marks_of(origin.options)
    values = {
        role: parse_cell(raw, role, name, marks) for role, name in own.items() if role not in ("ts", "symbol", "seq")
    }
    if table.kind == "bars" and "price_type" not in values and origin.price_type:
        values["price_type"] = pl.lit(origin.price_type)
    if "seq" in schema:
        values["seq"] = sequence_column(raw, table.roles.get("seq"))
    return values


def parse_cell(raw: pl.DataFrame, role: str, name: str, marks: Marks) -> pl.Expr:
    """A role's cells as String (price types lowercase), Boolean, Int64 (`trades`, decimals cut) or Float64; null if unreadable."""
    cell, dtype = pl.col(name), raw.schema[name]
    if role == "price_type":
        return cell.cast(pl.String).str.strip_chars().str.to_lowercase()
    if role in ("exchange", "conditions"):
        return cell.cast(pl.String)
    if role == "suspicious":
        return cell.cast(pl.String).str.to_lowercase().replace_strict(BOOLEANS, default=None, return_dtype=pl.Boolean)
    if dtype == pl.String:
        cell = plain_number(cell, marks)
    number = cell.cast(pl.Float64, strict=False)
    return number.cast(pl.Int64, strict=False) if role == "trades" else number


def sequence_column(raw: pl.DataFrame, column: str | None) -> pl.Expr:
    """Expression for `seq`: the column if every cell is a whole number, else the row number for all rows."""
    return pl.col(column).cast(pl.Int64) if column is not None and is_numbered(raw, column) else pl.col("row")


def is_numbered(raw: pl.DataFrame, column: str | None) -> bool:
    """Whether every cell of a column is a whole number; an id in letters, or a fraction, orders no rows. None: False."""
    if column is None:
        return False
    cells, whole = raw[column], raw[column].cast(pl.Int64, strict=False)
    has_fractions = (cells.dtype.is_float() or cells.dtype.is_decimal()) and (whole != cells).any()
    return whole.null_count() == 0 and not has_fractions


def without_null_cells(raw: pl.DataFrame, table: TableColumns, texts: Sequence[str]) -> pl.DataFrame:
    """The table, null where a role's cell is one of these texts, in rejects too; numbers are compared as numbers."""
    if not texts:
        return raw
    schema = raw.schema
    numbers = [float(text) for text in texts if is_number(text)]
    missing = [
        (
            pl.col(name),
            (text_of(name).is_in(list(texts)) if schema[name] == pl.String else pl.lit(value=False))
            | pl.col(name).cast(pl.Float64, strict=False).is_in(numbers),
        )
        for name in dict.fromkeys(table.roles.values())
        if schema[name] == pl.String or schema[name].is_numeric()
    ]
    return raw.with_columns(pl.when(~is_null.fill_null(value=False)).then(cell) for cell, is_null in missing)


def text_of(name: str) -> pl.Expr:
    """Expression for a column's cells as stripped text."""
    return pl.col(name).cast(pl.String, strict=False).str.strip_chars()


def is_number(text: str) -> bool:
    """Whether `float` takes the text: also `nan`, `inf`, `1e5`, `1_000` and blanks around a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def text_numbers(raw: pl.DataFrame, table: TableColumns) -> dict[str, str]:
    """Role -> column of numbers (`seq` excepted) whose cells are String."""
    schema, rows = raw.schema, ROWS[table.kind]
    sizes = {f"{side}_{part}" for side in table.sides for part in (*OHLC, "size")}
    roles = {
        role: name for role, name in table.roles.items() if role in sizes or rows.get(role) in (pl.Float64, pl.Int64)
    }
    return {role: name for role, name in roles.items() if role != "seq" and schema.get(name) == pl.String}


def check_number_spelling(raw: pl.DataFrame, table: TableColumns, origin: Origin) -> None:
    """SourceError if other marks than the stated read 3 or more unread cells, or all cells have a currency's sign.

    The marks that the message proposes read every number-like cell of all columns of numbers. Fewer than three unread
    cells (of more rows) are damage, not a spelling: these rows are rejected one by one.
    """
    marks = marks_of(origin.options)
    columns = {name: raw[name] for name in text_numbers(raw, table).values()}
    for name, cells in columns.items():
        unread = unread_cells(cells, marks)
        number_like = unread.filter(unread.str.contains(NUMBER_LIKE))
        if number_like.len() >= min(FEW, max(raw.height, 1)):
            proposals = propose_marks(list(columns.values()), marks)
            if proposals:
                received = number_like[0]
                reads = " or ".join(f"{one.options} (reads {read_text(received, one)})" for one in proposals[:2])
                raise SourceError(
                    origin.source, f"{name}: received {received!r} in {number_like.len()} rows; give {reads}"
                )
        if unread.len() and unread.len() == cells.len() - cells.null_count() and unread.str.contains(CURRENCY).all():
            raise SourceError(
                origin.source,
                f"{name}: received {unread[0]!r}, with a currency's sign; write bare numbers",
            )


def read_text(text: str, marks: Marks) -> str:
    """A number's text with a decimal point and nothing between thousands."""
    return str(pl.select(plain_number(pl.lit(text), marks)).item())


def with_cells(rejects: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The rejects with the cells of `rows` (text, by `row`) in place of their own."""
    cells = rejected_rows(rows, "", "").select("row", "cells")
    return rejects.drop("cells").join(cells, on="row", how="left", maintain_order="left").select(*REJECTS)


def value_hints(bad: pl.DataFrame, rows: pl.DataFrame, table: TableColumns, raw_height: int) -> tuple[str, ...]:
    """Notes with the options that read rejected cells of a table of so many rows: `--null`, `--ignore` and others."""
    reasons = bad["reason"].str.split("; ").explode().value_counts()
    hints: dict[str, str] = {}
    for reason, count in reasons.sort("count", "reason", descending=[True, False]).iter_rows():
        role, _, fault = reason.partition(": ")
        name = table.roles.get(role)
        if fault == "not above zero":
            option = "--allow-non-positive if prices of zero and below are real"
            if role == "open" and {"high", "low", "close"} <= set(table.roles) and is_all_zero(rows, name):
                names = ",".join(shell_text(table.roles[part]) for part in ("open", "high", "low"))
                option = f"--ignore {names} if {table.roles['close']} is the price of ticks"
            hints.setdefault(fault, f"{count} rows refused, {reason}; {option}")
        elif fault in ("negative", "unreadable") and name in rows.columns:
            texts = rows.select(text_of(name).alias("text"))["text"].drop_nulls()
            shown = [text for text in texts if text and (fault == "unreadable" or text.startswith("-"))]
            # Text that no number of the file stands beside is more likely another column's than a missing value.
            cell = shown[0] if len(set(shown)) == 1 else ""
            if fault == "unreadable" and count == raw_height and cell.lower() not in NONE_WORDS:
                cell = ""
            option = f"--null={shell_text(cell)} if that means none, " if cell and "," not in cell else ""
            hints[reason] = (
                f"{count} rows refused, {reason}; {option}--ignore {shell_text(name)} to leave the column out"
            )
    return tuple(hints.values())


def rounded_amounts(frame: pl.DataFrame) -> list[str]:
    """Notes on columns of amounts with a value of 2^53 or more, from where a Float64 cannot hold each integer."""
    schema = frame.schema
    largest = {name: frame[name].max() for name in AMOUNTS if schema.get(name) == pl.Float64}
    return [
        f"{name}: values above 2^53 ({value:.0f}) are rounded to the nearest number of 53 bits"
        for name, value in largest.items()
        if isinstance(value, float) and value >= MOST_EXACT
    ]


def check_times_of_ticks(raw: pl.DataFrame, table: TableColumns, origin: Origin, stamps: Stamps) -> None:
    """SourceError for ticks and quotes whose stamps are dates alone; it proposes a column that may have their times."""
    if not stamps.dates_only or table.kind not in ("ticks", "quotes"):
        return
    date = table.roles.get("date") or table.roles["ts"]
    others = [name for name in raw.columns if "time" in name.lower() and name not in table.roles.values()]
    advice = f": --columns date={date},time={others[0]}" if others else " of its own: --columns date=...,time=..."
    raise SourceError(
        origin.source, f"{date}: dates without a time, which {table.kind} must have; if that is in a column{advice}"
    )


def check_one_symbol(raw: pl.DataFrame, table: TableColumns, origin: Origin, stamps: Stamps, series: pl.Series) -> None:
    """SourceError if --symbol merges a column's symbols, or 5 % of the stamps of bars repeat and another column parts them."""
    if "symbol" in table.roles and origin.options.symbol:
        check_not_merged(raw[table.roles["symbol"]], origin, stamps.ts)
    if table.kind != "bars" or origin.options.symbol or not raw.height:
        return
    idle = idle_columns(raw, table)
    if not idle and not stamps.dates_only:  # nothing could part the rows, so they are not counted
        return
    keys = pl.DataFrame([series.alias("@series"), stamps.ts.alias("@ts")])
    repeated = raw.height - keys.n_unique()
    if repeated < LEAST_REPEATED * raw.height:  # few are corrections, or damage
        return
    if stamps.dates_only:
        column = table.roles.get("date") or table.roles["ts"]
        raise SourceError(
            origin.source,
            f"{column}: dates without a time, {repeated} of which come again; if the time is in a column of its own: "
            f"--columns date={column},time=...",
        )
    few = [name for name in idle if 1 < raw[name].n_unique() <= max(raw.height // 2, 2)]
    parting = next((name for name in few if is_apart(keys, raw, [name])), None)
    if parting is None and (len(few) < 2 or not is_apart(keys, raw, few)):  # noqa: PLR2004  # one was tried
        return
    some = ", ".join(raw[parting or few[0]].cast(pl.String).drop_nulls().unique(maintain_order=True).head(3))
    mend = f"if that is the symbol: --columns symbol={parting}; " if parting else "write a symbol for each of them; "
    raise SourceError(
        origin.source,
        f"{repeated} stamps come again, with another {' or '.join(map(repr, [parting] if parting else few))} ({some}); {mend}"
        "if all are one symbol: --symbol NAME",
    )


def idle_columns(raw: pl.DataFrame, table: TableColumns) -> list[str]:
    """Columns without a role that could part the rows into series: no decimals, and no revisions or ids by their names."""
    used = {*table.roles.values(), "row"}
    return [
        name
        for name, dtype in raw.schema.items()
        if name not in used and not dtype.is_float() and not REVISIONS.search(name)
    ]


def is_apart(keys: pl.DataFrame, raw: pl.DataFrame, names: Sequence[str]) -> bool:
    """Whether no two rows have the same keys and the same cells in these columns."""
    return pl.concat([keys, raw.select(names)], how="horizontal").n_unique() == raw.height


def check_not_merged(symbols: pl.Series, origin: Origin, ts: pl.Series) -> None:
    """SourceError if the option `symbol` would merge symbols of a column whose rows lie in the same time.

    Symbols that follow one another are no mistake: contracts of one continuous series.
    """
    if symbols.n_unique() == 1:
        return
    spans = pl.DataFrame([symbols.alias("name"), ts.alias("ts")]).drop_nulls().group_by("name")
    by_start = spans.agg(pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last")).sort("first", "name")
    if (by_start["first"] <= by_start["last"].cum_max().shift(1)).any():
        some = ", ".join(by_start["name"].cast(pl.String).head(3))
        raise SourceError(
            origin.source,
            f"{symbols.name!r} has {by_start.height} symbols in the same time ({some}), which --symbol "
            f"{origin.options.symbol} would make one series; leave --symbol out, or keep one of them: --symbols NAME",
        )


def with_interval_of_column(raw: pl.DataFrame, table: TableColumns, origin: Origin) -> Origin:
    """The origin with the interval that a column states for all bars, in place of the name's; SourceError for several.

    Raises
    ------
    SourceError
        The column states several intervals.
    """
    column = table.roles.get("interval")
    if table.kind != "bars" or column is None or origin.options.interval is not None:
        return origin
    cells = raw[column].drop_nulls().unique(maintain_order=True).cast(pl.String)
    found = {interval for text in cells if (interval := interval_of_text(text)) is not None}
    if len(found) > 1:
        listed = ", ".join(map(str, sorted(found)))
        raise SourceError(
            origin.source, f"{column}: bars of {listed} in one table; divide it, or give --interval if all are of one"
        )
    if not found:
        return origin
    return replace(origin, path_facts=replace(origin.path_facts, interval=found.pop()))


def resolve_interval(
    frame: pl.DataFrame, kind: Kind, origin: Origin, *, dates_only: bool
) -> tuple[Interval | None, tuple[str, ...]]:
    """Interval of bars by option, else path, else row steps with a note; (None, notes) if unknown or no bars.

    Raises
    ------
    SourceError
        The path says an interval that is coarser than the steps of the rows.
    """
    if kind != "bars":
        return None, ()
    if origin.interval is not None:
        finer = None if origin.options.interval else contradicting_interval(frame, origin.interval)
        if finer is not None:
            raise SourceError(
                origin.source,
                f"its name says {origin.interval}, but most of its bars are {finer} apart; give --interval {finer}, "
                f"or --interval {origin.interval} if they are bars of {origin.interval}",
            )
        return origin.interval, ()
    return with_interval_note(interval_of(frame, dates_only=dates_only), frame.height)


def with_interval_note(found: Interval | None, rows: int) -> tuple[Interval | None, tuple[str, ...]]:
    """The interval that so many rows tell, or None, and the note that says so; no note without rows."""
    if found is None:
        return None, ("interval: not told by name, option or rows; give --interval",) if rows else ()
    return found, (f"interval: {found}, the commonest step between bars",)


def drop_rows(frame: pl.DataFrame, others: pl.Expr, what: str, notes: list[str]) -> pl.DataFrame:
    """Drop rows where `others` is true or null; append a note with their number to `notes` unless none."""
    kept = frame.filter(~others)
    if kept.height < frame.height:
        notes.append(f"{frame.height - kept.height} rows {what} left out")
    return kept
