"""Which rows of an export, or of frames, are written for people: by symbol, trade date and interval."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

import polars as pl

from engine.errors import ParameterError, SchemaError
from engine.export.dataset import Dataset
from engine.export.tables import DATA_TABLES, PARTITION, SORT, TABLES, shaped
from engine.interval import Interval

Source = Dataset | Mapping[str, pl.DataFrame]
Lazies = Mapping[str, pl.LazyFrame]
Chunked = dict[str, Iterator[tuple[str, pl.DataFrame]]]

ROWS_PER_BATCH = 1 << 18
NAMES_SHOWN = 10
STREAMS = ("quotes", "ticks", "open_interest")
PER_SYMBOL = ("symbols", "bars", "gaps", "quality", *STREAMS)


@dataclass(frozen=True)
class Selection:
    """What is asked for; None means all.

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
        symbols: Iterable[str] | None,
        start: dt.date | None,
        end: dt.date | None,
        intervals: Iterable[str | Interval] | None,
    ) -> Selection:
        """Check what was asked for.

        Raises
        ------
        ParameterError
            The dates are the wrong way round.
        IntervalError
            An interval is none.
        """
        if start is not None and end is not None and start > end:
            raise ParameterError(f"start: received {start}, later than end {end}")
        steps = None if intervals is None else tuple(str(Interval.parse(text)) for text in intervals)
        return cls(None if symbols is None else tuple(symbols), start, end, steps)

    def narrow(self, rows: pl.LazyFrame, columns: Iterable[str]) -> pl.LazyFrame:
        """Keep the rows of a table with these columns that were asked for."""
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

    def shows(self, interval: str) -> bool:
        """Whether an interval was asked for."""
        return self.intervals is None or interval in self.intervals


def tables_of(source: Source, selection: Selection) -> dict[str, pl.LazyFrame]:
    """Give the rows that were asked for, by table.

    Raises
    ------
    ParameterError
        A symbol that the source does not have.
    SchemaError
        Frames that are no tables.
    """
    whole = {name: pl.concat(parts) for name, parts in _parts(source).items()}
    _check_known(whole, selection)
    return {name: selection.narrow(rows, TABLES[name]) for name, rows in whole.items()}


def chunks_of(source: Source, selection: Selection) -> Chunked:
    """Give the same rows in pieces of about 260,000, sorted.

    Returns
    -------
    dict of table to iterator
        Pairs of the folder's name (`1m-2013-10`; the table's own name when it has no folders) and rows. Pieces of one
        folder follow each other, sorted by symbol and time.
    """
    whole = _parts(source)
    _check_known({name: pl.concat(parts) for name, parts in whole.items()}, selection)
    return {
        name: _chunks(name, [selection.narrow(rows, TABLES[name]) for rows in parts]) for name, parts in whole.items()
    }


def changed_chunks(tables: Mapping[str, pl.DataFrame], selection: Selection) -> Chunked:
    """Give the changed rows of tables as `chunks_of` does; what was asked for need not have changed."""
    return {name: _chunks(name, [selection.narrow(rows.lazy(), rows.columns)]) for name, rows in tables.items()}


def by_symbol(tables: Lazies) -> Iterator[list[str]]:
    """List the symbols of all tables, sorted, in batches of about 260,000 rows."""
    counted = pl.concat(
        [tables[name].group_by("symbol").agg(pl.len().cast(pl.Int64).alias("rows")) for name in PER_SYMBOL]
    )
    sizes = counted.group_by("symbol").agg(pl.col("rows").sum()).sort("symbol").collect()
    batch = (sizes["rows"].cum_sum() // ROWS_PER_BATCH).alias("batch")
    for symbols in sizes.group_by(batch, maintain_order=True).agg("symbol")["symbol"]:
        yield symbols.to_list()


def _parts(source: Source) -> dict[str, list[pl.LazyFrame]]:
    if isinstance(source, Dataset):
        return {name: _folders(source, name) for name in TABLES}
    unknown = [name for name in source if name not in DATA_TABLES]
    if unknown:
        raise SchemaError(f"tables: received {', '.join(unknown)}; valid: {', '.join(DATA_TABLES)}")
    return {name: [shaped(name, source.get(name)).lazy()] for name in DATA_TABLES}


def _folders(dataset: Dataset, name: str) -> list[pl.LazyFrame]:
    # One scan per folder: to read a month is to open its files, not all files of the export.
    files = dataset.files(name)
    if name not in PARTITION or not files:
        return [dataset.scan(name)]
    schema = dict(TABLES[name])
    return [
        pl.scan_parquet(list(found), schema=schema, hive_partitioning=False, glob=False)
        for _, found in groupby(files, key=lambda file: file.parent)
    ]


def _chunks(name: str, parts: list[pl.LazyFrame]) -> Iterator[tuple[str, pl.DataFrame]]:
    for rows in parts:
        for key, piece in _pieces(name, rows):
            frame = rows.filter(piece).collect().sort(SORT[name], maintain_order=True)
            yield key or name, frame


def _pieces(name: str, rows: pl.LazyFrame) -> Iterator[tuple[str, pl.Expr]]:
    if "symbol" not in TABLES[name]:
        yield "", pl.lit(value=True)
        return
    by = [*PARTITION.get(name, ())]
    day = ["session"] if by else []
    sizes = rows.group_by(*by, "symbol", *day).agg(pl.len().alias("rows")).sort(*by, "symbol", *day).collect()
    for part in sizes.partition_by(by, maintain_order=True) if by else [sizes]:
        folder = part.select(by).row(0) if by and part.height else ()
        inside = [pl.col(column) == value for column, value in zip(by, folder, strict=True)] if folder else []
        for wanted in _batches(part):
            yield "-".join(folder), pl.all_horizontal(pl.lit(value=True), *inside, wanted)


def _batches(sizes: pl.DataFrame) -> Iterator[pl.Expr]:
    # A symbol with more rows than a batch holds is cut at its sessions.
    whole = sizes.group_by("symbol", maintain_order=True).agg(pl.col("rows").sum())
    gathered: list[str] = []
    held = 0
    for symbol, rows in whole.iter_rows():
        if gathered and held + rows > ROWS_PER_BATCH:
            yield pl.col("symbol").is_in(gathered)
            gathered, held = [], 0
        if rows > ROWS_PER_BATCH and "session" in sizes.columns:
            for days in _days(sizes.filter(pl.col("symbol") == symbol)):
                yield (pl.col("symbol") == symbol) & pl.col("session").is_in(days)
            continue
        gathered.append(symbol)
        held += rows
    if gathered:
        yield pl.col("symbol").is_in(gathered)


def _days(sizes: pl.DataFrame) -> Iterator[list[dt.date]]:
    batch = (sizes["rows"].cum_sum() // ROWS_PER_BATCH).alias("batch")
    for days in sizes.group_by(batch, maintain_order=True).agg("session")["session"]:
        yield days.to_list()


def _check_known(tables: Lazies, selection: Selection) -> None:
    if selection.symbols is not None:
        check_asked("symbols", selection.symbols, tables_symbols(tables))
    if selection.intervals is not None:
        check_asked("intervals", selection.intervals, _intervals(tables))


def tables_symbols(tables: Lazies) -> set[str]:
    """Name the symbols of all tables."""
    named = [rows.select("symbol").unique() for name, rows in tables.items() if name in PER_SYMBOL]
    return set(pl.concat(named).unique().collect()["symbol"])


def _intervals(tables: Lazies) -> set[str]:
    asked = tables["symbols"].select("base_interval", "derived_intervals").collect()
    listed = asked["derived_intervals"].explode().drop_nulls()
    held = [tables[name].select("interval").unique().collect()["interval"] for name in ("bars", "gaps", "quality")]
    return {text for texts in (asked["base_interval"].drop_nulls(), listed, *held) for text in texts}


def check_asked(what: str, asked: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names that are not known.

    Raises
    ------
    ParameterError
        The message lists some that are.
    """
    there = set(known)
    strange = [name for name in asked if name not in there]
    if strange:
        raise ParameterError(f"{what}: received {', '.join(map(repr, strange))}; there are {_some(there)}")


def _some(names: Iterable[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - NAMES_SHOWN} more" if len(shown) > NAMES_SHOWN else ""
    return (", ".join(map(repr, shown[:NAMES_SHOWN])) or "none") + more
