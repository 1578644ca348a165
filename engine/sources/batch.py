"""Results of reading: batches of conformed rows, data files, and files that could not be used."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import polars as pl

from engine.grid import Align, Stamp
from engine.interval import Interval
from engine.schema import COUNTERS, Kind, empty


@dataclass(frozen=True)
class Batch:
    """Rows of one kind and one interval from one file.

    Attributes
    ----------
    kind : {"bars", "quotes", "ticks", "open_interest"}
        Which schema of `engine.schema`.
    interval : Interval or None
        Bars only; None for the other kinds, and for bars too few to tell it from.
    frame : DataFrame
        `schema.ROWS[kind]` and `row` (Int64, number of the line in the file, or in the archive's member, from
        1, headers counted). File order within each series. `ts` holds the vendor's stamps in UTC, not yet
        moved to bar starts.
    rejects : DataFrame
        `schema.REJECTS`: the rows that did not hold, with their cells and the reason.
    source : str
        The file; `archive!member` when all rows come from one member.
    sha256 : str
        Of the file's bytes.
    stamp, align, zone : str
        How `SessionGrid.from_stamps` must read `ts`.
    source_symbols : mapping of str to str
        The vendor's own name of each symbol.
    notes : tuple of str
        What was assumed, inferred or left out.
    problems : tuple of Problem
        Other members of the same archive that could not be read; they stand in its first batch.
    counters : DataFrame of `schema.COUNTERS`
        The feed's own numbers, where the file has them.
    """

    kind: Kind
    interval: Interval | None
    frame: pl.DataFrame
    rejects: pl.DataFrame
    source: str
    sha256: str
    stamp: Stamp = "start"
    align: Align = "session"
    zone: str = "UTC"
    source_symbols: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    counters: pl.DataFrame = field(default_factory=lambda: empty(COUNTERS))

    def shifted(self, offset: dt.timedelta) -> Batch:
        """The batch with `offset` added to its stamps; bars of a day and more, which have dates, stay as they are."""
        is_dated = self.interval is not None and not self.interval.is_intraday
        if not offset or is_dated:
            return self
        moved = self.frame.with_columns((pl.col("ts") + offset).cast(self.frame.schema["ts"]))
        return replace(self, frame=moved, notes=(*self.notes, f"{offset} was added to every stamp"))

    @cached_property
    def price_types(self) -> Mapping[str, frozenset[str]]:
        """Symbol -> price types of its bars (of other kinds an empty set), in the order of first rows."""
        symbols = self.frame["symbol"]
        names = symbols.unique(maintain_order=True).to_list()
        if self.kind != "bars":
            return dict.fromkeys(names, frozenset())
        if len(names) == 1:
            return {names[0]: frozenset(self.frame["price_type"].unique())}
        sides = self.frame["price_type"]
        if (
            names and not sides.null_count() and (sides == sides[0]).all()
        ):  # as a rule, and comparing costs less than a set of pairs
            return dict.fromkeys(names, frozenset([sides[0]]))
        pairs = self.frame.select("symbol", "price_type").unique(maintain_order=True)
        types: dict[str, set[str]] = {}
        for symbol, price_type in pairs.iter_rows():
            types.setdefault(symbol, set()).add(price_type)
        return {symbol: frozenset(there) for symbol, there in types.items()}

    @property
    def symbols(self) -> tuple[str, ...]:
        """Distinct symbols in the order of first rows."""
        return tuple(self.price_types)

    @property
    def content_mark(self) -> str:
        """Text of file hash, kind, sorted symbols and first stamp; batches with equal marks have equal rows."""
        # Symbol and date may come from the path, so equal bytes alone do not make equal rows.
        start = self.frame["ts"].min() if self.frame.height else None
        return " ".join([self.sha256, self.kind, *sorted(self.symbols), str(start)])


@dataclass(frozen=True)
class SourceFile:
    """A data file with the facts that its name, place and first bytes state.

    Attributes
    ----------
    path : Path
        The file.
    format : str
        Name of the registered format that reads it: `csv`, `ndjson`, `parquet`, `lean`, `dbn`.
    kind, interval, symbol, price_type : optional
        None where only the rows tell. `symbol` is canonical; of a file of contracts it is their root.
    market, security : str or None
        Venue (`oanda`, `GLBX.MDP3`) and kind of instrument (`equity`, `future`), where the vendor tells.
    qualifier : str
        Appended to every symbol of the file (`@OANDA`), because another market has the same ones.
    symbols : tuple of str
        All symbols of the file, where it lists them.
    given_symbol : str or None
        The caller's name of all its rows (`{symbol: path}`), whatever the file says.
    frame : DataFrame or None
        The rows themselves: a frame of the caller, which `path` only names.
    """

    path: Path
    format: str
    kind: Kind | None = None
    interval: Interval | None = None
    symbol: str | None = None
    price_type: str | None = None
    market: str | None = None
    security: str | None = None
    qualifier: str = ""
    symbols: tuple[str, ...] = ()
    given_symbol: str | None = None
    frame: pl.DataFrame | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Bytes of the file, or about those of the frame in memory."""
        return self.path.stat().st_size if self.frame is None else int(self.frame.estimated_size())

    @property
    def state(self) -> str:
        """Text that changes when the file does (size and time of writing), or the frame (a hash of its rows)."""
        if self.frame is not None:
            return content_hash(self.frame)
        stat = self.path.stat()
        return f"{stat.st_size}:{stat.st_mtime_ns}"


def content_hash(frame: pl.DataFrame) -> str:
    """SHA-256, as hexadecimal text, of a frame's column names, types and hashed rows; no copy of the rows is made."""
    rows = frame.hash_rows(seed=1).to_numpy().tobytes() if frame.height else b""
    digest = hashlib.sha256(str(list(frame.schema.items())).encode())
    digest.update(rows)
    return digest.hexdigest()


@dataclass(frozen=True)
class Problem:
    """A file that yields no data, with the reason.

    Attributes
    ----------
    path : str
        The file.
    reason : str
        Why.
    ignored : bool
        The file is no market data (a readme, a ticker map): passed over, nothing is wrong.
    """

    path: str
    reason: str
    ignored: bool = False
