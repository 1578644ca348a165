"""Repair an export: derived bars, gaps and quality are computed again from its own base rows.

`symbols` stores the axis of each symbol. An export of version 0.1 does not: `candidate_axes` lists the possible ones.
The recomputed rows of a symbol are accepted only if they contain every undamaged row of the derived tables.
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
from engine.export.dataset import Dataset, scan_files
from engine.export.maintenance.repair import Rebuilt, Repaired, repair_files
from engine.export.tables import DATA_TABLES, TABLES, conform_table
from engine.export.target_folder import LOCK_TIMEOUT_SECONDS
from engine.grid import Align, GridSpec
from engine.interval import Interval
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.runtime.resume import raw_rows
from engine.schema import IS_MISSING, ROWS, Kind, empty
from engine.store.session_data import SessionData
from engine.store.session_state import Incomplete
from engine.store.symbol_data import SymbolSessionData

RAW: tuple[Kind, ...] = ("ticks", "quotes", "open_interest")
# Columns that a recomputation must reproduce; counts of what was read, and retries, cannot be recomputed.
EVIDENCE: Mapping[str, tuple[str, ...]] = {
    "bars": ("symbol", "price_type", "interval", "ts", "ts_end", "session", "n_base", "n_expected"),
    "gaps": ("symbol", "price_type", "interval", "session", "gap_start", "gap_end", "bar_count"),
    "quality": ("symbol", "price_type", "interval", "session", "expected", "present", "missing"),
}


class Axis(NamedTuple):
    """A possible axis of symbols on their calendar, and policy for incomplete windows."""

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
    """Restore or rebuild damaged files of an export from its undamaged base rows; return revision and actions.

    Parameters
    ----------
    target : Path
        The export's folder.
    drop_damaged : bool
        Leave files that cannot be recomputed out of a new revision.
    calendars : mapping of code to SessionCalendar, optional
        Calendars that the package does not know by their code.
    clock : Clock, optional
        Stamps the revision; default the machine's.
    lock_timeout : float
        Seconds to wait for an exporter of this target.

    Returns
    -------
    Repaired
        The revision, and for each file whether it was repaired.

    Raises
    ------
    ExportError
        No export, another process writes to it, its disk is full, or its logs cannot be read.
    """
    rebuild = partial(rebuild_tables, calendars=calendars or {})
    return repair_files(target, rebuild, drop_damaged=drop_damaged, clock=clock, lock_timeout=lock_timeout)


def rebuild_tables(
    dataset: Dataset, lost: Mapping[str, Sequence[str]], calendars: Mapping[str, SessionCalendar]
) -> Rebuilt:
    """Recompute all tables from the undamaged rows; no tables, but a reason, when `symbols` is damaged or it fails.

    Parameters
    ----------
    dataset : Dataset
    lost : mapping of table to paths
        Damaged files, which are not read.
    calendars : mapping of code to SessionCalendar
        Calendars that the package does not know by their code.
    """
    if lost.get("symbols"):
        return Rebuilt({}, "`symbols` is damaged, which says how the other tables were made")
    stored = {table: undamaged_rows(dataset, table, lost.get(table, ())) for table in DATA_TABLES}
    try:
        is_whole = not any(holds_source_rows(dataset, table, paths) for table, paths in lost.items())
        as_of = dataset.exports.row(-1, named=True).get("as_of")
        return choose_axes(stored, calendars, as_of, is_whole=is_whole)
    except EngineError as error:
        return Rebuilt({}, f"cannot be rebuilt: {error}")


def holds_source_rows(dataset: Dataset, table: str, paths: Sequence[str]) -> bool:
    """Whether any listed file holds rows that cannot be recomputed: ticks, quotes, open interest or source bars."""
    files = dataset.statistics(table).filter(pl.col("path").is_in(list(paths)))
    return table in RAW or (table == "bars" and bool((files["max.origin"] == "source").any()))


def undamaged_rows(dataset: Dataset, table: str, lost: Sequence[str]) -> pl.DataFrame:
    """All rows of a table, without `revision`, from files not in `lost` (paths below the table's folder)."""
    damaged = {dataset.target / table / path for path in lost}
    columns = [name for name in TABLES[table] if name != "revision"]
    none = empty({name: TABLES[table][name] for name in columns})
    files = [path for path in dataset.files(table) if path not in damaged]
    return pl.concat([none, *(scan_files(table, [path]).select(columns).collect() for path in files)])


def choose_axes(
    stored: Mapping[str, pl.DataFrame],
    calendars: Mapping[str, SessionCalendar],
    as_of: dt.datetime | None,
    *,
    is_whole: bool,
) -> Rebuilt:
    """Per symbol tables of the first axis with fewest contradicted rows; `is_whole`: a symbol with any is left out.

    The first of equal axes is taken; an axis that contradicts nothing ends the search.

    With all base rows there (`is_whole`), a symbol that every axis contradicts is left out, and named in the reason.
    """
    least: dict[str, int] = {}
    chosen: dict[str, int] = {}
    computed: list[dict[str, pl.DataFrame]] = []
    for axis in candidate_axes(stored):
        computed.append(recompute_tables(stored, axis, calendars, as_of))
        contradicted = count_contradicted_rows(stored, computed[-1])
        for symbol in stored["symbols"]["symbol"]:
            if contradicted.get(symbol, 0) < least.get(symbol, sum(contradicted.values()) + 1):
                least[symbol], chosen[symbol] = contradicted.get(symbol, 0), len(computed) - 1
        if not any(least.values()):
            break
    refused = [symbol for symbol, rows in least.items() if rows and is_whole]
    reason = f"no axis of {', '.join(sorted(refused)[:3])} gives the rows of it that are whole" if refused else ""
    whole: dict[str, pl.DataFrame] = {}
    for table in DATA_TABLES:
        parts = [empty(TABLES[table])]
        for number, tables in enumerate(computed):
            symbols = [symbol for symbol, at in chosen.items() if at == number and symbol not in refused]
            rows = tables[table]
            parts.append(rows.filter(pl.col("symbol").is_in(symbols)) if "symbol" in rows.columns else rows)
        rows = pl.concat([empty(TABLES[table]), *parts])
        whole[table] = rows if "symbol" in rows.columns else rows.unique(maintain_order=True)
    return Rebuilt(whole, reason)


def candidate_axes(stored: Mapping[str, pl.DataFrame]) -> Iterator[Axis]:
    """Yield axes to try: one per stored `incomplete` policy if all axes are stored, else segments x align x policy."""
    symbols = stored["symbols"].select("align", "incomplete")
    if not symbols["align"].null_count():
        yield from (Axis("session", (), policy) for policy in sorted(symbols["incomplete"].unique()))
        return
    labels = tuple(sorted(stored["sessions"]["segment"].drop_nulls().unique().to_list()))
    incomplete: tuple[Incomplete, ...] = ("flag", "drop")
    aligned: tuple[Align, ...] = ("session", "clock")
    for segments in ((), labels):
        for align in aligned:
            for policy in incomplete:
                yield Axis(align, segments, policy)


def recompute_tables(
    stored: Mapping[str, pl.DataFrame], axis: Axis, calendars: Mapping[str, SessionCalendar], as_of: dt.datetime | None
) -> dict[str, pl.DataFrame]:
    """Fill a new store with the source rows on an axis, derive and assess it; return its tables in export schema."""
    session = SessionData(as_of=as_of, incomplete=axis.incomplete, calendars=calendars)
    zones = dict(stored["calendars"].select("calendar", "time_zone").iter_rows())
    sources = stored["bars"].filter(pl.col("origin") == "source")
    session.register_symbol_data(*registrations(stored, sources, axis, zones))
    append_bars(session, sources, zones)
    for kind in RAW:
        rows = stored[kind]
        if rows.height:
            session.append(raw_rows(kind, rows), kind)
    derive_session(session)
    assess_session(session)
    tables = session.snapshot().tables()
    # The tables of a store without rows have no types.
    with_rows = {table: rows for table, rows in tables.items() if rows.height}
    return {table: conform_table(table, with_rows.get(table)) for table in DATA_TABLES}


def registrations(
    stored: Mapping[str, pl.DataFrame], sources: pl.DataFrame, axis: Axis, zones: Mapping[str, str]
) -> Iterator[SymbolSessionData]:
    """Yield each symbol's registration on its stored axis, else on `axis` with a base from bars, ticks or quotes."""
    based = stored["symbols"].select("symbol", pl.col("base_interval").alias("interval"))
    from_bars = set(sources.join(based, on=["symbol", "interval"], how="semi")["symbol"])
    from_ticks = set(stored["ticks"]["symbol"].unique())
    for row in stored["symbols"].iter_rows(named=True):
        symbol = row["symbol"]
        base_from: Kind = "bars" if symbol in from_bars else "ticks" if symbol in from_ticks else "quotes"
        spec = spec_of(row["calendar"], Interval.parse(row["base_interval"]), axis, zones)
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


def spec_of(calendar: str, interval: Interval, axis: Axis, zones: Mapping[str, str]) -> GridSpec:
    """Grid of a candidate axis: its `align` if intraday, else `date`; zone UTC if `session`, else the calendar's."""
    align: Align = axis.align if interval.is_intraday else "date"
    return GridSpec(calendar, axis.segments, align, "UTC" if align == "session" else zones.get(calendar, "UTC"))


def append_bars(session: SessionData, sources: pl.DataFrame, zones: Mapping[str, str]) -> None:
    """Append registered symbols' source bars on their axis; non-base ones of a day or more by date."""
    symbols = session.snapshot().symbols
    specs = list(dict.fromkeys(one.spec for one in symbols.values()))
    axes = pl.DataFrame(
        [(name, one.base_interval, specs.index(one.spec)) for name, one in symbols.items()],
        schema={"symbol": pl.String, "base": pl.String, "spec": pl.Int64},
        orient="row",
    )
    rows = sources.join(axes, on="symbol")
    for key, part in rows.partition_by("interval", "provenance", "spec", as_dict=True, maintain_order=True).items():
        interval, provenance, number = str(key[0]), str(key[1]), int(str(key[2]))
        is_base = part["base"] == interval
        coarser = spec_of_coarser_bars(specs[number], Interval.parse(interval), zones)
        for chosen, spec in ((part.filter(is_base), None), (part.filter(~is_base), coarser)):
            if chosen.height:
                session.append(
                    chosen.select(*ROWS["bars"], "verdict"), "bars", interval, spec=spec, provenance=provenance
                )


def spec_of_coarser_bars(base: GridSpec, interval: Interval, zones: Mapping[str, str]) -> GridSpec:
    """`base` if `interval` is intraday or `base` by date; else by date, in the venue's zone for a `session` base."""
    if interval.is_intraday or base.align == "date":
        return base
    return replace(base, align="date", zone=zones.get(base.calendar, "UTC") if base.align == "session" else base.zone)


def count_contradicted_rows(stored: Mapping[str, pl.DataFrame], tables: Mapping[str, pl.DataFrame]) -> dict[str, int]:
    """Symbol -> number (if any) of stored derived bars, gaps, quality rows that recomputed tables do not contain."""
    counts: dict[str, int] = {}
    for table, columns in EVIDENCE.items():
        asked = {"bars": pl.col("origin") == "derived", "gaps": IS_MISSING}.get(table, pl.lit(value=True))
        rows = stored[table].filter(asked)
        unmatched = rows.select(columns).join(tables[table], on=columns, how="anti", nulls_equal=True)
        for symbol, count in unmatched.group_by("symbol").len().iter_rows():
            counts[symbol] = counts.get(symbol, 0) + count
    return counts
