"""Repair an export: derived bars, gaps and quality are computed anew from its own base rows.

`symbols` says on which axis each one lived. An export of version 0.1 does not: there `_axes` proposes some. A symbol's rows
are believed only where the axis gives every row of the derived tables that is still whole.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl

from engine.calendars.providers import SessionCalendar
from engine.clock import Clock
from engine.errors import EngineError
from engine.export.dataset import LOCK_TIMEOUT_SECONDS, Dataset, scan_files
from engine.export.maintenance.repair import Rebuilt, Repaired, repair_files
from engine.export.tables import DATA_TABLES, TABLES, shaped
from engine.grid import Align, GridSpec
from engine.interval import Interval
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.runtime.resume import raw_rows
from engine.schema import ROWS, Kind, empty
from engine.store.session_data import SessionData
from engine.store.snapshot import Incomplete, SymbolSessionData

RAW: tuple[Kind, ...] = ("ticks", "quotes", "open_interest")
# What must come out as it stands: counts of what was read, and retries, are no kernel's.
EVIDENCE: Mapping[str, tuple[str, ...]] = {
    "bars": ("symbol", "price_type", "interval", "ts", "ts_end", "session", "n_base", "n_expected"),
    "gaps": ("symbol", "price_type", "interval", "session", "gap_start", "gap_end", "bar_count"),
    "quality": ("symbol", "price_type", "interval", "session", "expected", "present", "missing"),
}


class Axis(NamedTuple):
    """How symbols may have lived on their calendar."""

    align: Align
    segments: tuple[str, ...]
    incomplete: Incomplete


def repair(
    target: Path,
    *,
    drop_damaged: bool = False,
    calendars: Mapping[str, SessionCalendar] | None = None,
    clock: Clock | None = None,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> Repaired:
    """Put an export right as far as its own data go.

    Parameters
    ----------
    target : Path
        The export's folder.
    drop_damaged : bool
        Take files that cannot be had again out of a new revision.
    calendars : mapping of code to SessionCalendar, optional
        Those that the package does not know by their code.
    clock : Clock, optional
        Stamps the revision; default the machine's.
    lock_timeout : float
        Seconds to wait for an exporter of this target.

    Returns
    -------
    Repaired
        The revision, and what was done and could not be done, file by file.

    Raises
    ------
    ExportError
        No export, somebody else writes to it, its disk is full, or its logs cannot be read.
    """
    rebuild = partial(rebuild_tables, calendars=calendars or {})
    return repair_files(target, rebuild, drop_damaged=drop_damaged, clock=clock, lock_timeout=lock_timeout)


def rebuild_tables(
    dataset: Dataset, lost: Mapping[str, Sequence[str]], calendars: Mapping[str, SessionCalendar]
) -> Rebuilt:
    """Compute every table from the base rows of an export, without its damaged files.

    Parameters
    ----------
    dataset : Dataset
    lost : mapping of table to paths
        Files that are not to be read.
    calendars : mapping of code to SessionCalendar
        Beside those that are known by their code.
    """
    if lost.get("symbols"):
        return Rebuilt({}, "`symbols` is damaged, which says how the other tables were made")
    held = {table: _held(dataset, table, lost.get(table, ())) for table in DATA_TABLES}
    try:
        as_of = dataset.exports.row(-1, named=True).get("as_of")
        return _believed(held, calendars, as_of, is_whole=not any(_sources_lost(dataset, lost)))
    except EngineError as error:
        return Rebuilt({}, f"cannot be rebuilt: {error}")


def _sources_lost(dataset: Dataset, lost: Mapping[str, Sequence[str]]) -> Iterator[bool]:
    for table, paths in lost.items():
        files = dataset.statistics(table).filter(pl.col("path").is_in(list(paths)))
        yield table in RAW or (table == "bars" and bool((files["max.origin"] == "source").any()))


def _held(dataset: Dataset, table: str, lost: Sequence[str]) -> pl.DataFrame:
    gone = {dataset.target / table / path for path in lost}
    columns = [name for name in TABLES[table] if name != "revision"]
    none = empty({name: TABLES[table][name] for name in columns})
    files = [path for path in dataset.files(table) if path not in gone]
    return pl.concat([none, *(scan_files(table, [path]).select(columns).collect() for path in files)])


def _believed(
    held: Mapping[str, pl.DataFrame],
    calendars: Mapping[str, SessionCalendar],
    as_of: dt.datetime | None,
    *,
    is_whole: bool,
) -> Rebuilt:
    """For each symbol, the tables of the first axis that contradicts it least; none, where its base is whole, may."""
    least: dict[str, int] = {}
    chosen: dict[str, int] = {}
    computed: list[dict[str, pl.DataFrame]] = []
    for axis in _axes(held):
        computed.append(_computed(held, axis, calendars, as_of))
        against = _contradicted(held, computed[-1])
        for symbol in held["symbols"]["symbol"]:
            if against.get(symbol, 0) < least.get(symbol, sum(against.values()) + 1):
                least[symbol], chosen[symbol] = against.get(symbol, 0), len(computed) - 1
        if not any(least.values()):
            break
    strange = [symbol for symbol, rows in least.items() if rows and is_whole]
    reason = f"no axis of {', '.join(sorted(strange)[:3])} gives the rows of it that are whole" if strange else ""
    tables = {table: _of_chosen(table, computed, chosen, strange) for table in DATA_TABLES}
    return Rebuilt(tables, reason)


def _of_chosen(
    table: str, computed: Sequence[Mapping[str, pl.DataFrame]], chosen: Mapping[str, int], strange: Sequence[str]
) -> pl.DataFrame:
    parts = [empty(TABLES[table])]
    for at, tables in enumerate(computed):
        ours = [symbol for symbol, where in chosen.items() if where == at and symbol not in strange]
        rows = tables[table]
        parts.append(rows.filter(pl.col("symbol").is_in(ours)) if "symbol" in rows.columns else rows)
    return _concat(table, parts)


def _concat(table: str, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    whole = pl.concat([empty(TABLES[table]), *parts])
    return whole if "symbol" in whole.columns else whole.unique(maintain_order=True)


def _axes(held: Mapping[str, pl.DataFrame]) -> Iterator[Axis]:
    """What to try: how windows that lack slots were treated where every symbol says how it lived, else everything."""
    told = held["symbols"].select("align", "incomplete")
    if not told["align"].null_count():
        yield from (Axis("session", (), policy) for policy in sorted(told["incomplete"].unique()))
        return
    labels = tuple(sorted(held["sessions"]["segment"].drop_nulls().unique().to_list()))
    incomplete: tuple[Incomplete, ...] = ("flag", "drop")
    aligned: tuple[Align, ...] = ("session", "clock")
    for segments in ((), labels):
        for align in aligned:
            for policy in incomplete:
                yield Axis(align, segments, policy)


def _computed(
    held: Mapping[str, pl.DataFrame], axis: Axis, calendars: Mapping[str, SessionCalendar], as_of: dt.datetime | None
) -> dict[str, pl.DataFrame]:
    session = SessionData(as_of=as_of, incomplete=axis.incomplete, calendars=calendars)
    zones = dict(held["calendars"].select("calendar", "time_zone").iter_rows())
    sources = held["bars"].filter(pl.col("origin") == "source")
    session.register_symbol_data(*_registered(held, sources, axis, zones))
    _append_bars(session, sources, zones)
    for kind in RAW:
        rows = held[kind]
        if rows.height:
            session.append(raw_rows(kind, rows), kind)
    derive_session(session)
    assess_session(session)
    tables = session.snapshot().tables()
    # A store without a row does not know the types of its tables.
    known = {table: rows for table, rows in tables.items() if rows.height}
    return {table: shaped(table, known.get(table)) for table in DATA_TABLES}


def _registered(
    held: Mapping[str, pl.DataFrame], sources: pl.DataFrame, axis: Axis, zones: Mapping[str, str]
) -> Iterator[SymbolSessionData]:
    based = held["symbols"].select("symbol", pl.col("base_interval").alias("interval"))
    from_bars = set(sources.join(based, on=["symbol", "interval"], how="semi")["symbol"])
    from_ticks = set(held["ticks"]["symbol"].unique())
    for row in held["symbols"].iter_rows(named=True):
        symbol = row["symbol"]
        base_from: Kind = "bars" if symbol in from_bars else "ticks" if symbol in from_ticks else "quotes"
        spec = _spec(row["calendar"], Interval.parse(row["base_interval"]), axis, zones)
        if row["align"] is not None:
            base_from = row["base_from"]
            spec = GridSpec(row["calendar"], tuple(row["segments"]), row["align"], row["zone"])
        yield SymbolSessionData(
            symbol=symbol,
            calendar=row["calendar"],
            base_interval=row["base_interval"],
            derived_intervals=tuple(row["derived_intervals"] or ()),
            is_loaded=bool(row["is_loaded"]),
            base_from=base_from,
            price_type=row["price_type"] or "last",
            price_types=tuple(row["price_types"] or ()),
            segments=spec.segments,
            align=spec.align,
            zone=spec.zone,
            source_symbol=row["source_symbol"] or "",
            source=row["source"] or "",
            adjustment=row["adjustment"] or "",
        )


def _spec(calendar: str, interval: Interval, axis: Axis, zones: Mapping[str, str]) -> GridSpec:
    align: Align = axis.align if interval.is_intraday else "date"
    return GridSpec(calendar, axis.segments, align, "UTC" if align == "session" else zones.get(calendar, "UTC"))


def _append_bars(session: SessionData, sources: pl.DataFrame, zones: Mapping[str, str]) -> None:
    symbols = session.snapshot().symbols
    specs = list(dict.fromkeys(one.spec for one in symbols.values()))
    homes = pl.DataFrame(
        [(name, one.base_interval, specs.index(one.spec)) for name, one in symbols.items()],
        schema={"symbol": pl.String, "base": pl.String, "spec": pl.Int64},
        orient="row",
    )
    rows = sources.join(homes, on="symbol")
    for key, part in rows.partition_by("interval", "provenance", "spec", as_dict=True, maintain_order=True).items():
        interval, provenance, number = str(key[0]), str(key[1]), int(str(key[2]))
        is_base = part["base"] == interval
        beside = _beside(specs[number], Interval.parse(interval), zones)
        for chosen, spec in ((part.filter(is_base), None), (part.filter(~is_base), beside)):
            if chosen.height:
                session.append(chosen.select(list(ROWS["bars"])), "bars", interval, spec=spec, provenance=provenance)


def _beside(base: GridSpec, interval: Interval, zones: Mapping[str, str]) -> GridSpec:
    """The axis of coarser bars that were kept beside a base on its own."""
    if interval.is_intraday or base.align == "date":
        return base
    return replace(base, align="date", zone=zones.get(base.calendar, "UTC") if base.align == "session" else base.zone)


def _contradicted(held: Mapping[str, pl.DataFrame], tables: Mapping[str, pl.DataFrame]) -> dict[str, int]:
    """How many rows of each symbol, in the derived tables that are whole, do not come out."""
    found: dict[str, int] = {}
    for table, columns in EVIDENCE.items():
        known = held[table].filter(pl.col("origin") == "derived") if table == "bars" else held[table]
        unmatched = known.select(columns).join(tables[table], on=columns, how="anti", nulls_equal=True)
        for symbol, rows in unmatched.group_by("symbol").len().iter_rows():
            found[symbol] = found.get(symbol, 0) + rows
    return found
