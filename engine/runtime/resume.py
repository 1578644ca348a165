"""What a session goes on from: the last revision of its target, read as far back as it is needed.

1. `last_export` opens the last revision, `Continuation.of` prepares it.
2. `Continuation.registered` registers symbols as the export has them.
3. `Continuation.restore` appends the exported rows of some sessions, with what was counted and tried for them: duplicates
   and corrections, states and retries of gaps, filled gaps, rejects. Of sessions before, the store knows how many rows
   each symbol has; they stay in the export as they are.

Derived bars, gaps and quality are computed from the rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, get_args

import polars as pl

from engine.arguments import location_of
from engine.errors import ExportError, ParameterError
from engine.export.dataset import Dataset, open_dataset, original_store
from engine.export.target_folder import is_export
from engine.interval import Interval
from engine.quality.gaps import GAPS
from engine.schema import IS_MISSING, PROVENANCES, ROWS, Kind
from engine.sources.streams.contract import Delivery
from engine.store.panel_key import PanelKey
from engine.store.session_data import SessionData
from engine.store.session_state import CARRIED
from engine.store.symbol_data import SymbolSessionData

RAW: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "bars")
FIXED = ("calendar", "base_interval", "base_from", "segments", "align", "zone")
SOURCES = ("bars", *RAW)


def last_export(target: Path) -> Dataset | None:
    """Open the last revision of an export; None if the target has no table or no revision; other errors are raised."""
    target = location_of("target", target)
    if not is_export(target):
        return None
    try:
        return open_dataset(target)
    except ExportError as error:
        if "holds no revision" in str(error):
            return None
        raise


class SessionsToRead(NamedTuple):
    """The first session of an export that a store holds, and the first one whose indicators it stores (None: all)."""

    first: dt.date
    indicators_from: dt.date | None = None


@dataclass(frozen=True)
class Continuation:
    """The last revision of a target that a session goes on from.

    Attributes
    ----------
    dataset : Dataset
    """

    dataset: Dataset

    @classmethod
    def of(cls, target: Path) -> Continuation | None:
        """The continuation of a target's last revision; None where there is none."""
        dataset = last_export(target)
        return None if dataset is None else cls(dataset)

    @cached_property
    def entry(self) -> Mapping[str, Any]:
        """The row of `exports`: identity and revision of the store, its as-of time."""
        return self.dataset.exports.row(-1, named=True)

    @cached_property
    def written_at(self) -> dt.datetime:
        """When the session wrote the state that it goes on from; a compaction or repair writes it once more, later."""
        entries = self.dataset.exports.filter(store_revision=self.entry["store_revision"]).iter_rows(named=True)
        state = original_store(self.entry), self.entry["as_of"]
        return min(row["written_at"] for row in entries if (original_store(row), row["as_of"]) == state)  # type: ignore[no-any-return]

    @cached_property
    def as_of(self) -> dt.datetime:
        """Until when windows were over: the as-of time, or without one the time of writing."""
        return self.entry["as_of"] or self.entry["written_at"]  # type: ignore[no-any-return]

    @cached_property
    def symbols(self) -> Mapping[str, Mapping[str, Any]]:
        """Row of the table `symbols` by symbol."""
        rows = self.dataset.scan("symbols").collect()
        return {row["symbol"]: row for row in rows.iter_rows(named=True)}

    @cached_property
    def gaps(self) -> pl.DataFrame:
        """Gaps that were missing at the last revision, of all sessions and intervals that the retries may still fill."""
        since = self.as_of.date() - dt.timedelta(days=7)
        rows = self.dataset.scan("gaps").filter((pl.col("session") >= since) & IS_MISSING)
        return rows.collect()

    @cached_property
    def first_session(self) -> dt.date | None:
        """The first session of any row, from the statistics of the files; None without rows."""
        found = [self.dataset.statistics(name) for name in SOURCES]
        days = [one["min.session"].min() for one in found if "min.session" in one.columns]
        return min((day for day in days if isinstance(day, dt.date)), default=None)

    def registered(self, symbols: Sequence[SymbolSessionData], since: dt.date) -> list[SymbolSessionData]:
        """Symbols with the derived intervals that the export has of them, too, expected since their first assessed session.

        Parameters
        ----------
        symbols : sequence of SymbolSessionData
        since : date
            First session that the store will hold.

        Raises
        ------
        ParameterError
            A symbol has another calendar, base or axis in the export: their rows are not one series.
        """
        quality = self.dataset.scan("quality").filter(pl.col("session") >= since)
        expected = dict(quality.group_by("symbol").agg(pl.col("session").min()).collect().iter_rows())
        registered = []
        for symbol in symbols:
            row = self.symbols.get(symbol.symbol)
            if row is None:
                registered.append(symbol)
                continue
            for name in FIXED:
                was = tuple(row[name]) if isinstance(row[name], list) else row[name]
                if was is not None and was != getattr(symbol, name):
                    raise ParameterError(
                        f"export.target: {self.dataset.target} has {symbol.symbol} with {name} {was!r}, this session "
                        f"{getattr(symbol, name)!r}; valid: the same, or another target"
                    )
            continued = symbol.with_state(expected_from=expected.get(symbol.symbol, symbol.expected_from))
            if not set(row["derived_intervals"]) <= set(symbol.derived_intervals):
                derived = (*symbol.derived_intervals, *row["derived_intervals"])
                continued = replace(continued, derived_intervals=derived)
            registered.append(continued)
        return registered

    def restore(self, session: SessionData, held: SessionsToRead, until: dt.date | None = None) -> None:
        """Append the rows of `[held.first, until)` (None: all later) to a store, with counts, retries and rejects of theirs.

        Parameters
        ----------
        session : SessionData
            Its symbols are registered.
        held : SessionsToRead
        until : date
            The session from which on the store holds rows already.
        """
        since = held.first
        dataset = self.dataset if until is None else open_dataset(self.dataset.target)
        snapshot = session.snapshot()
        symbols = {name: one for name, one in snapshot.symbols.items() if name in self.symbols}
        rows = pl.DataFrame(schema={"symbol": pl.String(), "read": pl.Int64()})
        for provenance, delivery in exported_rows(dataset, symbols, since, until):
            session.append(delivery.frames, delivery.kind, delivery.interval, provenance=provenance, again=True)
            rows = pl.concat(
                [
                    rows,
                    *(frame.group_by("symbol").agg(pl.len().cast(pl.Int64).alias("read")) for frame in delivery.frames),
                ]
            )
        read = rows.group_by("symbol").agg(pl.col("read").sum())
        if until is None:
            session.add_rejects(dataset.scan("rejects").drop("revision").collect())
            known = pl.DataFrame(
                [[row[name] for name in CARRIED] for name, row in self.symbols.items() if name in symbols],
                schema=dict(CARRIED),
                orient="row",
            )
        else:
            known = snapshot.carried
        left = known.join(read, on="symbol", how="left").with_columns(pl.col("rows") - pl.col("read").fill_null(0))
        # Where a symbol ends is known if its last row is not among those that were read.
        last = pl.when(pl.col("read").is_null()).then("last_ts").alias("last_ts")
        carried = left.filter(pl.col("rows") > 0).select("symbol", "rows", "first_ts", last)
        is_mine = pl.col("session").is_between(since, until or dt.date.max, closed="left" if until else "both")
        base = pl.DataFrame(
            [(name, one.base_interval) for name, one in symbols.items()],
            schema=dict.fromkeys(("symbol", "interval"), pl.String()),
            orient="row",
        )
        gaps, quality = (
            dataset.scan(name).filter(is_mine).join(base.lazy(), on=["symbol", "interval"], how="semi").collect()
            for name in ("gaps", "quality")
        )
        counted = quality.filter((pl.col("duplicates") > 0) | (pl.col("corrections") > 0))
        counts = {
            key: part.select("series", "session", "duplicates", "corrections")
            for key, part in by_panel(session, symbols, counted)
        }
        session.continue_from_export(
            since,
            carried,
            counts,
            exported=self.dataset.revision if until is None else None,
            indicators_from=held.indicators_from,
        )
        if gaps.height:
            session.extend_axes(gaps)
        for key, part in by_panel(session, symbols, gaps):
            placed = placed_gaps(session, key, part)
            is_filled = pl.col("state") == "filled"
            session.set_gaps(key, placed.filter(~is_filled), placed.clear())
            session.set_filled(key, placed.filter(is_filled))


def by_panel(
    session: SessionData, symbols: Mapping[str, SymbolSessionData], rows: pl.DataFrame
) -> list[tuple[PanelKey, pl.DataFrame]]:
    """Rows of `symbol, price_type` with their series numbers, by panel of the symbol's base bars."""
    named = session.series_for(rows.select("symbol", "price_type").unique(maintain_order=True))
    numbered = rows.join(named, on=["symbol", "price_type"], how="left", maintain_order="left")
    keys: dict[PanelKey, list[str]] = {}
    for name in rows["symbol"].unique(maintain_order=True):
        keys.setdefault(symbols[name].base_key, []).append(name)
    return [(key, numbered.filter(pl.col("symbol").is_in(names))) for key, names in keys.items()]


def placed_gaps(session: SessionData, key: PanelKey, gaps: pl.DataFrame) -> pl.DataFrame:
    """Exported gaps as stored ones (`GAPS`): with the segment and slot that they begin in."""
    grid = session.snapshot().grid(key.spec, key.grid_interval)
    places = grid.place(gaps["gap_start"]).select("ordinal", "slot")
    return gaps.hstack(places).select(pl.col(name).cast(dtype) for name, dtype in GAPS.items())


def exported_rows(
    dataset: Dataset, symbols: Mapping[str, SymbolSessionData], since: dt.date, until: dt.date | None = None
) -> list[tuple[str, Delivery]]:
    """(provenance, delivery) of trade dates `[since, until)`: source bars at the base per provenance, then raw rows as `source`.

    Parameters
    ----------
    dataset : Dataset
    symbols : mapping of name to SymbolSessionData
        The current registrations; bars of another interval than a symbol's base are left out.
    since : date
    until : date, optional
        Default all later ones.
    """
    bases = pl.LazyFrame(
        [(name, str(symbol.base_interval)) for name, symbol in symbols.items()],
        schema={"symbol": pl.String, "interval": pl.String},
        orient="row",
    )
    recent = pl.col("session") >= since
    if until is not None:
        recent &= pl.col("session") < until
    source_bars = dataset.scan("bars").filter(recent & (pl.col("origin") == "source"))
    bars = source_bars.join(bases, on=["symbol", "interval"], how="semi").collect()
    deliveries = [
        (provenance, Delivery("bars", (part.select(*ROWS["bars"], "verdict"),), Interval.parse(interval)))
        for provenance in PROVENANCES
        for interval in bars["interval"].unique().sort()
        if (part := bars.filter((pl.col("provenance") == provenance) & (pl.col("interval") == interval))).height
    ]
    for kind in RAW:
        rows = dataset.scan(kind).filter(recent & pl.col("symbol").is_in(list(symbols))).collect()
        if rows.height:
            deliveries.append(("source", Delivery(kind, (raw_rows(kind, rows),))))
    return deliveries


def raw_rows(kind: Kind, rows: pl.DataFrame) -> pl.DataFrame:
    """Exported raw rows in the columns that `append` takes; `ts` is set from `ts_ns` where that exists."""
    if "ts_ns" in rows.columns:
        rows = rows.with_columns(pl.from_epoch("ts_ns", time_unit="ns").dt.replace_time_zone("UTC").alias("ts"))
    return rows.select(list(ROWS[kind]))
