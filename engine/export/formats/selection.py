"""Rows of an export, or of frames, selected by symbol, trade date and interval, in pieces to write."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import polars as pl

from engine.arguments import Day, Names, check_known, date_of, describe_value, names_of
from engine.errors import ParameterError, SchemaError, UnknownSymbolError
from engine.export.dataset import Dataset, scan_files
from engine.export.tables import DATA_TABLES, PARTITION, SORT, TABLES, conform_table
from engine.interval import Interval, Intervals, check_known_intervals, intervals_of

Source = Dataset | Mapping[str, pl.DataFrame]
LazyTables = Mapping[str, pl.LazyFrame]
# Rows piece by piece, each with the name of the part it belongs to (`1m-2013-10`).
PartPieces = Iterator[tuple[str, pl.DataFrame]]

ROWS_PER_BATCH = 1 << 18
STREAMS = ("quotes", "ticks", "open_interest")
PER_SYMBOL = ("symbols", "bars", "gaps", "quality", *STREAMS)


@dataclass(frozen=True)
class Selection:
    """Symbols, trade dates and intervals to write; None means all.

    Attributes
    ----------
    symbols : tuple of str or None
    start, end : date or None
        Trade dates, both included.
    intervals : tuple of str or None
    """

    symbols: tuple[str, ...] | None
    start: dt.date | None
    end: dt.date | None
    intervals: tuple[str, ...] | None

    @classmethod
    def of(
        cls,
        symbols: Names | None,
        start: Day,
        end: Day,
        intervals: Intervals | None,
    ) -> Selection:
        """Selection with dates parsed and intervals in canonical spelling; ParameterError when `start` is after `end`.

        Raises
        ------
        ParameterError
            The dates are the wrong way round.
        IntervalError
            An interval is none.
        """
        first, last, steps = date_of("start", start), date_of("end", end), intervals_of("intervals", intervals)
        if first is not None and last is not None and first > last:
            raise ParameterError(f"start: received {first}, later than end {last}")
        return cls(names_of("symbols", symbols), first, last, None if steps is None else tuple(map(str, steps)))

    def narrow(self, rows: pl.LazyFrame, columns: Iterable[str]) -> pl.LazyFrame:
        """Filter by symbol, session range (inclusive), interval where `columns` has them; None filters nothing."""
        present = set(columns)
        if self.symbols is not None and "symbol" in present:
            rows = rows.filter(pl.col("symbol").is_in(list(self.symbols)))
        if self.start is not None and "session" in present:
            rows = rows.filter(pl.col("session") >= self.start)
        if self.end is not None and "session" in present:
            rows = rows.filter(pl.col("session") <= self.end)
        if self.intervals is not None and "interval" in present:
            rows = rows.filter(pl.col("interval").is_in(list(self.intervals)))
        return rows

    def includes_interval(self, interval: str) -> bool:
        """Whether the selection has no interval restriction or lists this interval."""
        return self.intervals is None or interval in self.intervals


def selected_tables(source: Source, selection: Selection) -> dict[str, pl.LazyFrame]:
    """Lazy selected rows of every table by name; ParameterError for a symbol or interval in none of them.

    Raises
    ------
    ParameterError
        A symbol or an interval that the source does not have.
    SchemaError
        Frames that are no tables.
    """
    tables = {name: pl.concat(scans) for name, scans in table_scans(source).items()}
    check_selection(tables, selection)
    return {name: selection.narrow(rows, TABLES[name]) for name, rows in tables.items()}


def selected_pieces(source: Source, selection: Selection) -> dict[str, PartPieces]:
    """(part name, sorted rows) pieces of about 260,000 selected rows, by table; ParameterError for unknown names.

    Returns
    -------
    dict of table to iterator
        Pairs of the part's name (`1m-2013-10`; the table's own name when it has no partitions) and rows. Pieces of one
        part follow each other, sorted by symbol and time.

    Raises
    ------
    ParameterError, SchemaError
        As `selected_tables`.
    """
    scans = table_scans(source)
    check_selection({name: pl.concat(parts) for name, parts in scans.items()}, selection)
    return {
        name: sorted_pieces(name, [selection.narrow(rows, TABLES[name]) for rows in parts])
        for name, parts in scans.items()
    }


def selected_changes(tables: Mapping[str, pl.DataFrame], selection: Selection) -> dict[str, PartPieces]:
    """Iterator of (part name, sorted rows) per table of a delta; unknown symbols and intervals do not raise."""
    return {name: sorted_pieces(name, [selection.narrow(rows.lazy(), rows.columns)]) for name, rows in tables.items()}


def symbol_batches(tables: LazyTables) -> Iterator[list[str]]:
    """Yield all symbols of the tables, sorted, in lists that have about 260,000 rows together."""
    counted = pl.concat(
        [tables[name].group_by("symbol").agg(pl.len().cast(pl.Int64).alias("rows")) for name in PER_SYMBOL]
    )
    sizes = counted.group_by("symbol").agg(pl.col("rows").sum()).sort("symbol").collect()
    batch = (sizes["rows"].cum_sum() // ROWS_PER_BATCH).alias("batch")
    for symbols in sizes.group_by(batch, maintain_order=True).agg("symbol")["symbol"]:
        yield symbols.to_list()


def table_scans(source: Source) -> dict[str, list[pl.LazyFrame]]:
    """Lazy frames by table: of an export one per partition folder, else one; given frames conformed, absent ones empty.

    Raises
    ------
    SchemaError
        A frame's name is no table, or it does not fit its table.
    """
    if isinstance(source, Dataset):
        scans = {}
        for name in TABLES:
            files = source.intact_files(name)
            if name not in PARTITION or not files:
                scans[name] = [source.scan(name)]
                continue
            folders = [list(paths) for _, paths in groupby(files, key=lambda file: file.parent)]
            scans[name] = [scan_files(name, paths) for paths in folders]
        return scans
    if not isinstance(source, Mapping):
        raise ParameterError(
            f"source: received {describe_value(source)}; valid: a Dataset (open_dataset), or a mapping of tables to frames"
        )
    unknown = [name for name in source if name not in DATA_TABLES]
    if unknown:
        raise SchemaError(f"tables: received {', '.join(unknown)}; valid: {', '.join(DATA_TABLES)}")
    return {name: [conform_table(name, source.get(name)).lazy()] for name in DATA_TABLES}


def sorted_pieces(name: str, scans: list[pl.LazyFrame]) -> PartPieces:
    """Yield (part name, sorted rows), about 260,000 rows each, none if empty; tables without symbols as one piece."""
    by = list(PARTITION.get(name, ()))
    for rows in scans:
        pieces = [(name, pl.lit(value=True))]
        if "symbol" in TABLES[name]:
            keys = [*by, "symbol", *(["session"] if by else [])]
            sizes = rows.group_by(keys).agg(pl.len().alias("rows")).sort(keys).collect()
            pieces = []
            for part in sizes.partition_by(by, maintain_order=True) if by else [sizes]:
                key = part.select(by).row(0) if by and part.height else ()
                in_part = [pl.col(column) == value for column, value in zip(by, key, strict=False)]
                pieces += [("-".join(key) or name, pl.all_horizontal(*in_part, batch)) for batch in row_batches(part)]
        for part_name, in_piece in pieces:
            yield part_name, rows.filter(in_piece).collect().sort(SORT[name], maintain_order=True)


def row_batches(sizes: pl.DataFrame) -> Iterator[pl.Expr]:
    """Yield row filters of about 260,000 rows by `sizes` (`symbol, rows`, maybe `session`), big symbols by session."""
    batch: list[str] = []
    batch_rows = 0
    for symbol, rows in sizes.group_by("symbol", maintain_order=True).agg(pl.col("rows").sum()).iter_rows():
        if batch and batch_rows + rows > ROWS_PER_BATCH:
            yield pl.col("symbol").is_in(batch)
            batch, batch_rows = [], 0
        if rows > ROWS_PER_BATCH and "session" in sizes.columns:
            # A symbol with more rows than a batch is cut at its sessions.
            of_symbol = sizes.filter(pl.col("symbol") == symbol)
            number = (of_symbol["rows"].cum_sum() // ROWS_PER_BATCH).alias("batch")
            for sessions in of_symbol.group_by(number, maintain_order=True).agg("session")["session"]:
                yield (pl.col("symbol") == symbol) & pl.col("session").is_in(sessions.to_list())
            continue
        batch.append(symbol)
        batch_rows += rows
    if batch:
        yield pl.col("symbol").is_in(batch)


def check_selection(tables: LazyTables, selection: Selection) -> None:
    """Raise ParameterError where a selected symbol or interval is in none of the tables; None passes."""
    if selection.symbols is not None:
        check_known("symbols", selection.symbols, symbols_of(tables), UnknownSymbolError)
    if selection.intervals is not None:
        configured = tables["symbols"].select("base_interval", "derived_intervals").collect()
        present = [
            tables[name].select("interval").unique().collect()["interval"] for name in ("bars", "gaps", "quality")
        ]
        texts = [configured["base_interval"], configured["derived_intervals"].explode(), *present]
        known = {Interval.parse(text) for column in texts for text in column.drop_nulls().unique()}
        check_known_intervals("intervals", map(Interval.parse, selection.intervals), known, "the source")


def symbols_of(tables: LazyTables) -> set[str]:
    """Distinct symbols of all per-symbol tables among these (`rejects`, `sessions`, `calendars` have none)."""
    named = [rows.select("symbol").unique() for name, rows in tables.items() if name in PER_SYMBOL]
    return set(pl.concat(named).unique().collect()["symbol"])
