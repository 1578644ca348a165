"""The store of a session: every symbol's rows and stored outcomes, and nothing that could be derived from them.

The whole state is one immutable `Snapshot`. A writer builds the next one under the one lock and swaps a reference;
readers take no lock, and the snapshot they hold never changes. Rows of all symbols of one kind, interval and axis share
one sorted `Panel`; `SymbolSessionData` and its frames are views on it.

1. `register_symbol_data` registers symbols, `remove_symbol` removes one with everything stored of it.
2. `append` is the only entry of raw rows: placed on the grid, deduplicated, counted, logged (`insertion.insert_rows`).
3. `write_derived`, `set_gaps`, `set_quality`, `set_indicators` and `set_trailing` store what the runtime computed from them;
   `remove_absent_bars` removes derived bars that a correction took away.
4. `changes` lists what was written since a revision; consumers pull (`wait_for_revision` blocks until there is something),
   the store calls nobody.
5. `transaction` makes several writes atomic: other threads see all of them at once, or none.
"""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Literal, NamedTuple, get_args

import polars as pl

from engine.arguments import Day, Names, check_arguments, check_type, instant_of, names_of, one_name
from engine.calendars.providers import SessionCalendar, calendar
from engine.display import Summarized, Summary
from engine.errors import ParameterError, UnknownSymbolError
from engine.grid import GridSpec, Stamp
from engine.interval import Interval, Intervals
from engine.plan_calls import PlanNames, check_panel_key
from engine.schema import COUNTERS, REJECTS, TS, Kind, empty, select_schema
from engine.store.batch_rows import (
    DateRange,
    check_kind,
    conflict_rejects,
    stack_batches,
    within_dates,
    without_conflicts_of,
)
from engine.store.change_log import ChangeLog, change_entry
from engine.store.insertion import extend_excluded_range, insert_rows, merge_ranges
from engine.store.panel import KEY, Upsert, empty_panel
from engine.store.panel_key import PanelKey
from engine.store.placement import extend_axis, number_pairs, partition_by_axis, place_rows
from engine.store.removal import absent_bars, remove_rows
from engine.store.session_state import Incomplete, Restored
from engine.store.snapshot import Snapshot
from engine.store.symbol_data import SymbolSessionData
from engine.store.versioned_rows import VersionedRows

OUTCOME_FIELDS = {"gaps": "gap_rows", "quality": "quality_rows", "filled": "filled_rows"}
GAP_ORDER = ("series", "ordinal", "slot")
OUTCOME_ORDER = {"gaps": GAP_ORDER, "quality": ("series", "session"), "filled": GAP_ORDER}


class Appended(NamedTuple):
    """Result of `append`: the store's revision, and counts that tell of every offered row once.

    `offered = added + duplicates + corrections + left_out + rejects.height`.

    Attributes
    ----------
    revision : int
    offered : int
        Rows of all frames.
    added : int
        Rows whose key the store did not have before.
    duplicates, corrections : int
        Rows whose key the store, or an earlier row of the call, had: with the same values, or with others (of a later batch).
    left_out : int
        Rows outside `dates`.
    rejects : DataFrame of `schema.REJECTS`
        The conflicts: rows that lost against a later one of their own batch that has other values.
    """

    revision: int
    offered: int
    added: int
    duplicates: int
    corrections: int
    left_out: int
    rejects: pl.DataFrame


PLAN_NAMES = {
    "register_symbol": "register_symbol_data(SymbolSessionData(symbol))",
    "_active_symbols": "get_active_symbols()",
    "_session_active": "snapshot().session_active",
    "_current_session_date": "snapshot().current_session",
    "_active_streams": "snapshot().active_streams",
    "_data_arrival_event": "wait_for_revision(revision)",
}


class SessionData(PlanNames, Summarized):
    """Store of per-symbol session data: registered symbols, their rows, and the gaps, quality and indicators computed from them."""

    _plan_names = PLAN_NAMES

    @check_arguments("incomplete", "calendars", "store_id")
    def __init__(
        self,
        *,
        as_of: dt.datetime | None = None,
        incomplete: Incomplete = "flag",
        calendars: Mapping[str, SessionCalendar] | None = None,
        store_id: str | None = None,
    ) -> None:
        if incomplete not in get_args(Incomplete):
            raise ParameterError(f"incomplete: received {incomplete!r}; valid: {', '.join(get_args(Incomplete))}")
        self._lock = threading.RLock()
        self._news = threading.Condition()
        self._shown = Snapshot(store_id=store_id or uuid.uuid4().hex, as_of=_aware(as_of), incomplete=incomplete)
        self._draft: Snapshot | None = None
        self._drafter = 0
        self._undo: list[Callable[[], None]] = []
        self._calendars: dict[str, SessionCalendar] = dict(calendars or {})
        self._keys_of_symbols: tuple[Mapping[str, SymbolSessionData], frozenset[PanelKey]] = ({}, frozenset())
        self._next_series = 1
        self._axes_of_symbols: tuple[Mapping[str, SymbolSessionData], list[GridSpec], dict[str, int]] = ({}, [], {})

    @property
    def _state(self) -> Snapshot:
        # Inside `transaction` its thread sees what it has written so far, all others what was there before.
        draft = self._draft
        return draft if draft is not None and self._drafter == threading.get_ident() else self._shown

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Context manager under the write lock: publish all writes inside at once; on an exception discard them.

        A nested transaction publishes nothing by itself; when it raises, only its own writes are rolled back. Components
        with state of their own follow by `keep_state`.
        """
        with self._lock:
            before, kept = self._draft, len(self._undo)
            self._drafter, self._draft = threading.get_ident(), before or self._shown
            self.keep_state(self, "_next_series")
            try:
                yield
            except BaseException:
                self._draft = before
                while len(self._undo) > kept:
                    self._undo.pop()()
                raise
            if before is not None:
                return
            self._shown, self._draft = self._draft, None
            self._undo.clear()
        self._notify()

    def _summary(self) -> Summary:
        return self._state.summary("SessionData")

    def keep_state(self, component: object, *names: str) -> None:
        """Inside a transaction: attributes of a component that get back what they are now when it is rolled back.

        The one way in which components follow rolled-back transactions: call it before the state is changed. Of mutable
        containers a shallow copy is kept, of all else the object. Outside a transaction it does nothing.
        """
        if self._draft is None or self._drafter != threading.get_ident():
            return
        held = {name: copy(getattr(component, name)) for name in names}

        def put_back() -> None:
            for name, value in held.items():
                setattr(component, name, value)

        self._undo.append(put_back)

    @check_arguments("revision", "seconds")
    def wait_for_revision(self, revision: int, seconds: float | None = None) -> bool:
        """Block until the published revision exceeds this one; True, or False after `seconds` (None: no limit)."""
        with self._news:
            return self._news.wait_for(lambda: self._shown.revision > revision, seconds)

    def _notify(self) -> None:
        with self._news:
            self._news.notify_all()

    @property
    def _symbols(self) -> Mapping[str, SymbolSessionData]:
        return self._state.symbols

    def snapshot(self) -> Snapshot:
        """The current immutable state; inside a transaction its own thread gets the uncommitted state."""
        return self._state

    @property
    def revision(self) -> int:
        """Revision of the current state: grows by one with each logged write, registration or removal."""
        return self._state.revision

    @check_arguments("code")
    def calendar(self, code: str) -> SessionCalendar:
        """Calendar of a code: the constructor's, else the one stored rows were placed by, else the package's."""
        for calendars in (self._calendars, self._state.calendars):
            if code in calendars:
                return calendars[code]
        return calendar(code)

    def resume(self, store_id: str, revision: int) -> None:
        """Become the store of an export, which was at `revision`: same identity, revisions counted on; ParameterError if not new."""
        with self._lock:
            if self._state.panels or self._state.symbols:
                raise ParameterError("store_id: the store has symbols already; valid: resuming with a new store")
            later = max(revision + 1, self._state.revision)
            self._swap(store_id=store_id, revision=later, change_log=ChangeLog(start_revision=later))

    def continue_from_export(
        self,
        session: dt.date,
        carried: pl.DataFrame,
        counts: Mapping[PanelKey, pl.DataFrame],
        *,
        exported: int | None,
        indicators_from: dt.date | None = None,
    ) -> None:
        """Set from which session on the store holds rows, what its export alone has (`CARRIED`), and add counts of the held ones.

        Consumers of changes read everything anew: rows of sessions before may have come.

        Parameters
        ----------
        session : date
        carried : DataFrame of `session_state.CARRIED`
            Their symbols live since before `session`.
        counts : mapping of PanelKey to DataFrame of `series, session, duplicates, corrections`
            Of sessions whose rows were read from the export, which tell nothing of what came twice.
        exported : int or None
            The revision of the export whose rows the store has and no others; None where others have come before.
        indicators_from : date, optional
            The first session whose indicators are stored; default all held ones.
        """
        with self._lock:
            before = session - dt.timedelta(days=1)
            known = [self._state.symbols[symbol] for symbol in carried["symbol"]]
            pairs = [(one.symbol, side) for one in known for side in one.price_types or [one.price_type]]
            named = self.series_for(pl.DataFrame(pairs, schema=["symbol", "price_type"], orient="row").cast(pl.String))
            ranges, summed = dict(self._state.observed_range), dict(self._state.counts)
            lived = [pl.lit(before).alias(name) for name in ("first", "last", "any_first", "any_last")]
            for key in dict.fromkeys(one.base_key for one in known):
                ours = [one.symbol for one in known if one.base_key == key]
                added = named.filter(pl.col("symbol").is_in(ours)).select("series", *lived)
                ranges[key] = merge_ranges([ranges[key], added]) if key in ranges else added
            for key, came in counts.items():
                both = pl.concat([summed[key], came], how="diagonal") if key in summed else came
                summed[key] = both.group_by("series", "session", maintain_order=True).sum()
            revision = self._state.revision + 1
            self._swap(
                held_from=session,
                indicators_from=indicators_from,
                restored=self._state.restored if exported is None else Restored(exported, revision),
                carried=carried,
                carried_in=self._state.carried_in if exported is None else exported,
                observed_range=ranges,
                counts=summed,
                revision=revision,
                change_log=replace(self._state.change_log, entries=(), start_revision=revision),
            )

    def drop_sessions_before(self, session: dt.date, *, exported: int, indicators_from: dt.date | None = None) -> None:
        """Drop what is stored of the sessions before `session`, which an export has; the change log does not list them.

        Parameters
        ----------
        session : date
            From here on the store holds rows; the number and extent of those before go on in `carried`.
        exported : int
            The revision of the export that has them.
        indicators_from : date, optional
            The first session whose indicators are stored; default all held ones.
        """
        with self._lock:
            state = self._state
            if state.held_from is None or state.held_from < session:
                self._swap(
                    held_from=session,
                    indicators_from=indicators_from,
                    carried=state.carried_before(session),
                    carried_in=exported,
                    **state.from_session(session, indicators_from),
                )

    def extend_axes(self, gaps: pl.DataFrame) -> None:
        """Extend the axes of the symbols of `gaps` (`symbol, gap_start`) to hold these, as rows would."""
        with self._lock:
            bounds = gaps.group_by("symbol").agg(
                pl.col("gap_start").min().alias("first"), pl.col("gap_start").max().alias("last")
            )
            reached: dict[GridSpec, list[dt.datetime]] = {}
            for symbol, first, last in bounds.iter_rows():
                reached.setdefault(self._state.symbols[symbol].spec, []).extend((first, last))
            for spec, stamps in reached.items():
                venue = self.calendar(spec.calendar)
                self._swap(**extend_axis(self._state, spec, venue, pl.Series(stamps, dtype=TS)))

    def register_symbol_data(self, *symbols: SymbolSessionData) -> None:
        """Register symbols or replace a registered one's fields (rows stay); ParameterError if its base or a derived interval would go.

        Raises
        ------
        ParameterError
            A registered symbol would move to another calendar or base interval, or lose a derived one: remove it first.
        """
        for symbol in symbols:
            check_type("symbols", symbol, SymbolSessionData)
        with self._lock:
            known = dict(self._state.symbols)
            revision = self._state.revision + 1
            registered: dict[str, int] = {}
            for symbol in symbols:
                before = known.get(symbol.symbol)
                symbol.check_replaces(before)
                if symbol.requires_other_than(before):
                    registered[symbol.symbol] = revision
                known[symbol.symbol] = symbol.with_state()
            self._swap(
                symbols=known,
                registered={**self._state.registered, **registered},
                revision=revision if registered else revision - 1,
            )
            # Slots that are missing from the first one on need a series that they are missing of.
            expected = [(one.symbol, one.price_type) for one in symbols if one.expected_from is not None]
            if expected:
                self.series_for(
                    pl.DataFrame(expected, schema=["symbol", "price_type"], orient="row").unique(maintain_order=True)
                )

    def mark_loaded(self, symbols: Names) -> None:
        """Set `is_loaded` of these registered symbols (never reset here); a symbol that was removed is passed over."""
        names = names_of("symbols", symbols, least=0) or ()
        with self._lock:
            known = self._state.symbols
            loaded = {name: known[name].with_state(is_loaded=True) for name in names if name in known}
            self._swap(symbols={**known, **loaded})

    def remove_symbol(self, symbol: str) -> bool:
        """Remove and log a symbol with rows, outcomes, conflict rejects and streams; False if it is not registered."""
        one_name("symbol", symbol)
        with self._lock:
            state = self._state
            if symbol not in state.symbols:
                return False
            revision = state.revision + 1
            self._swap(
                revision=revision,
                symbols={name: data for name, data in state.symbols.items() if name != symbol},
                registered={name: at for name, at in state.registered.items() if name != symbol},
                rejects=tuple(without_conflicts_of(symbol, frame) for frame in state.rejects),
                counters=tuple(frame.filter(pl.col("symbol") != symbol) for frame in state.counters),
                carried=state.carried.filter(pl.col("symbol") != symbol),
                active_streams={key: on for key, on in state.active_streams.items() if key[0] != symbol},
                change_log=state.change_log.with_removal(symbol, revision),
                **state.without_series(state.series_of([symbol])),
            )
            return True

    def get_symbol_data(self, symbol: str) -> SymbolSessionData | None:
        """The symbol bound to the current snapshot, so its views never change; None when it is not registered.

        Check before you go on: a name that may be unknown gives None, not an empty symbol.

        Examples
        --------
        >>> from engine import SessionData, SymbolSessionData
        >>> session = SessionData()
        >>> session.register_symbol_data(SymbolSessionData("SPY"))
        >>> spy = session.get_symbol_data("SPY")
        >>> if spy is None:
        ...     raise SystemExit(f"no SPY; there are {sorted(session.get_active_symbols())}")
        >>> spy.bars().height
        0

        `session.bars("SPY")` needs no check: an unknown symbol raises, with the nearest known one.
        """
        one_name("symbol", symbol)
        state = self._state
        registered = state.symbols.get(symbol)
        return None if registered is None else registered.with_state(snapshot=state)

    def get_active_symbols(self) -> set[str]:
        """Set of the names of all registered symbols, loaded or not."""
        return set(self._state.symbols)

    def get_loaded_symbols(self) -> set[str]:
        """Set of the names of registered symbols with `is_loaded` (see `mark_loaded`)."""
        return {name for name, data in self._state.symbols.items() if data.is_loaded}

    def get_symbols_with_derived(self) -> dict[str, list[str]]:
        """Symbol -> list of its derived intervals; symbols without any are left out."""
        return {name: list(d.derived_intervals) for name, d in self._state.symbols.items() if d.derived_intervals}

    def bars(
        self, symbol: Names | None = None, interval: Intervals | None = None, price_type: Names | None = None
    ) -> pl.DataFrame:
        """Current `bars` table, source and derived, of symbols, intervals, price types (text is one, None all); see below.

        Raises
        ------
        UnknownSymbolError
            A symbol is not registered; the message names the nearest one.
        IntervalError
            None of the symbols is derived to the interval or has bars of it; the message lists those that there are.
        """
        return self._state.bars(symbol, interval, price_type)

    def slots(
        self, symbol: Names | None = None, interval: str | Interval | None = None, start: Day = None, end: Day = None
    ) -> pl.DataFrame:
        """Every expected slot of symbols (None: all) as a row: `symbol, interval, session, segment, ordinal, slot, ts, ts_end`.

        From the first to the last trade date with a row of the symbol's base, or from `start` to `end`; due by `as_of`.

        Raises
        ------
        UnknownSymbolError
            A symbol is not registered.

        Examples
        --------
        >>> from engine import SessionData, SymbolSessionData
        >>> session = SessionData()
        >>> session.register_symbol_data(SymbolSessionData("SPY", "XNYS"))
        >>> session.slots("SPY", "1m", "2024-07-03", "2024-07-03").height
        210
        """
        return replace(self._state, calendars={**self._state.calendars, **self._calendars}).slots(
            symbol, interval, start, end
        )

    def gaps(self, symbols: Names | None = None) -> pl.DataFrame:
        """Current `gaps` table of all intervals, of a symbol, a list of them or all (None); UnknownSymbolError for others."""
        return self._state.gaps(symbols)

    def quality(self, symbols: Names | None = None) -> pl.DataFrame:
        """Current `quality` table of all intervals, of a symbol, a list of them or all (None); UnknownSymbolError for others."""
        return self._state.quality(symbols)

    @check_arguments("rows", "kind", "stamp", "spec", "provenance", "dates")
    def append(
        self,
        rows: pl.DataFrame | Sequence[pl.DataFrame],
        kind: Kind = "bars",
        interval: Interval | str | None = None,
        *,
        stamp: Stamp = "start",
        spec: GridSpec | None = None,
        provenance: str = "source",
        dates: DateRange = (None, None),
        again: bool = False,
    ) -> Appended:
        """Place, deduplicate, count, log and store raw rows atomically, those outside `dates` dropped; return counts and conflicts.

        Parameters
        ----------
        rows : DataFrame or sequence of DataFrame
            Conformed rows (`schema.ROWS[kind]`) of any symbols in any order, and, when there are any, `source` and
            `row` for the rejects. Each frame is a batch: inside one, the last row of a key wins and those with
            other values are refused as conflicts; a later batch corrects an earlier one.
        kind : {"bars", "quotes", "ticks", "open_interest"}
        interval : Interval or str
            Of bars.
        stamp : {"start", "end", "end-inclusive"}
            What `ts` of bars stands for; stored is the start of the slot it belongs to.
        spec : GridSpec, optional
            The axis, where it is not the symbol's own (a series kept beside the base).
        provenance : {"source", "backfill", "synthetic"}
        dates : (date or None, date or None)
            First and last trade date to keep, both included; rows of others are left out and counted.
        again : bool
            The rows were asked for once more by us: those that are stored already do not count as duplicates of the feed.

        Returns
        -------
        Appended

        Raises
        ------
        UnknownSymbolError
            A symbol is not registered; nothing was written.
        SchemaError
            A frame does not fit; nothing was written.
        """
        frames = [rows] if isinstance(rows, pl.DataFrame) else list(rows)
        for frame in frames:
            check_type("rows", frame, pl.DataFrame)
        step = Interval.parse(interval) if interval is not None else None
        check_kind(kind, step, provenance)
        stacked = stack_batches(frames, kind, provenance)
        with self.transaction():
            upserts, left_out = [], 0
            groups = self._partition_by_axis(stacked, spec) if stacked.height else []
            for axis, part in groups:
                venue = self.calendar(axis.calendar)
                self._swap(**extend_axis(self._state, axis, venue, part["ts"].cast(TS)))
            for axis, part in groups:
                key = PanelKey.of_source(kind, step, axis)
                placed = place_rows(self._state, key, part, stamp)
                included = within_dates(placed, dates)
                if included.height < placed.height:
                    left_out += placed.height - included.height
                    self._swap(**extend_excluded_range(self._state, key, placed, dates))
                upserts.append(self._insert(key, included, again=again))
            conflicts = [conflict_rejects(one.conflicts, kind, self._state.series) for one in upserts]
            rejects = pl.concat([empty(REJECTS), *conflicts])
            self.add_rejects(rejects)
            return Appended(
                self.revision,
                stacked.height,
                sum(one.written.height - one.replaced.height for one in upserts),
                sum(int(one.counts["duplicates"].sum()) for one in upserts),
                sum(int(one.counts["corrections"].sum()) for one in upserts),
                left_out,
                rejects,
            )

    def series_for(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Distinct `pairs` in order with `series` numbers; new pairs are numbered and stored; UnknownSymbolError: unregistered.

        Parameters
        ----------
        pairs : DataFrame of `symbol, price_type`
            Distinct.

        Returns
        -------
        DataFrame of `symbol, price_type, series`
            In the same order.

        Raises
        ------
        UnknownSymbolError
            A symbol is not registered.
        """
        with self._lock:
            unknown = set(pairs["symbol"].to_list()) - set(self._state.symbols)
            if unknown:
                listed = ", ".join(sorted(map(str, unknown))[:5])
                raise UnknownSymbolError(f"symbol: {listed} not registered; call register_symbol_data first")
            known = pairs.join(self._state.series, on=["symbol", "price_type"], how="left", maintain_order="left")
            if not known["series"].null_count():
                return known
            new = known.filter(pl.col("series").is_null())
            numbers = pl.int_range(self._next_series, self._next_series + new.height, dtype=pl.Int32, eager=True)
            self._next_series += new.height
            self._swap(
                series=pl.concat([self._state.series, new.select(numbers.alias("series"), "symbol", "price_type")])
            )
            return pairs.join(self._state.series, on=["symbol", "price_type"], how="left", maintain_order="left")

    def write_derived(self, interval: Interval, spec: GridSpec, rows: pl.DataFrame) -> int:
        """Upsert derived bars, but not of unregistered series; equal ones keep their revision; return number new or changed."""
        key = PanelKey.of_derived_bars(interval, spec)
        with self._lock:
            batch = self._of_registered(rows).with_columns(pl.lit(0, pl.Int32).alias("batch"))
            columns = {name: dtype for name, dtype in key.schema.items() if name != "revision"}
            fitted = select_schema(batch, {**columns, "batch": pl.Int32()}, "derived bars")
            return self._insert(key, fitted).written.height

    def remove_absent_bars(
        self, interval: Interval, spec: GridSpec, bars: pl.DataFrame, ranges: pl.DataFrame
    ) -> pl.DataFrame:
        """Remove and log the stored derived bars in ranges whose (series, ts) `bars` does not have; return them.

        Parameters
        ----------
        interval : Interval
        spec : GridSpec
        bars : DataFrame with `series, ts`
            All bars that there are in the ranges now.
        ranges : DataFrame of `series, first, last`
            Inclusive; sorted by (series, first), those of one series disjoint.
        """
        key = PanelKey.of_derived_bars(interval, spec)
        with self._lock:
            state = self._state
            gone = absent_bars(state, key, bars, ranges)
            if gone.height:
                log = state.change_log
                removal = remove_rows(
                    state, key, gone, state.revision + 1, is_base=self._is_base(key), since=log.start_revision
                )
                self._write(removal.fields, removal.entry)
            return gone

    def set_gaps(self, key: PanelKey, gaps: pl.DataFrame, replaced: pl.DataFrame | None = None) -> None:
        """Remove `replaced` (None: all stored gaps of the key), store `gaps`; equal ones keep their revision; log what changed."""
        check_panel_key("set_gaps", key, PanelKey)
        self._set_outcome("gaps", key, gaps, replaced)

    def set_quality(self, key: PanelKey, quality: pl.DataFrame, replaced: pl.DataFrame | None = None) -> None:
        """Remove `replaced` (None: all stored quality of the key), store `quality`; equal rows keep their revision; log changes."""
        check_panel_key("set_quality", key, PanelKey)
        self._set_outcome("quality", key, quality, replaced)

    def set_filled(self, key: PanelKey, gaps: pl.DataFrame) -> None:
        """Store gaps (`GAPS`) that a request filled, beside those that are there; one of the same first slot is replaced."""
        with self._lock:
            stored = self._state.filled_rows.get(key)
            known = gaps.clear() if stored is None else stored.of_sessions(gaps.select("series", "session").unique())
            self._set_outcome("filled", key, gaps, known.join(gaps, on=GAP_ORDER, how="semi"))

    def set_indicators(
        self,
        key: PanelKey,
        definitions: frozenset[Hashable],
        rows: pl.DataFrame,
        *,
        without: Sequence[int] = (),
        absent: pl.DataFrame | None = None,
    ) -> int:
        """Drop series in `without`, upsert `rows`; equal ones keep their revision; return number new or changed; or ParameterError.

        Parameters
        ----------
        key : PanelKey
            The bars they are computed from.
        definitions : frozenset
            The indicators; series with the same definitions share one panel.
        rows : DataFrame of `series, session, ts` and values
            In any order, each (series, ts) once.
        without : sequence of int
            Series whose stored values are dropped first.
        absent : DataFrame of `series, session, ts`, optional
            Stored rows that are dropped first, because their bars are there no more.

        Returns
        -------
        int
            Number of rows that are new, changed or dropped as `absent`.

        Raises
        ------
        ParameterError
            A value has the name of a column of the store.
        """
        if reserved := {"revision", "batch"} & set(rows.columns):
            raise ParameterError(f"indicators: a value is called {reserved.pop()}; valid: another name")
        with self._lock:
            state, group = self._state, (key, definitions)
            stamped = self._of_registered(rows).with_columns(pl.lit(state.revision + 1, pl.Int64).alias("revision"))
            panel = state.indicators.get(group)
            panel = panel.without(without) if panel is not None and len(without) else panel
            gone = stamped.clear() if panel is None or absent is None else absent
            panel = panel.without_keys(gone) if panel is not None and gone.height else panel
            if panel is None or not panel.height:  # values of another type may come once none is left
                values = tuple(name for name in rows.columns if name not in ("series", "session", "ts"))
                panel = empty_panel(dict(stamped.schema), KEY, values)
            upsert = panel.upsert(stamped.with_columns(pl.lit(0, pl.Int32).alias("batch")))
            entry = None
            keys = [frame.select("series", "session", first_ts="ts", last_ts="ts") for frame in (upsert.written, gone)]
            changed = pl.concat(keys)
            if changed.height:
                entry = change_entry(key, "indicators", changed, state.revision + 1)
            self._write({"indicators": {**state.indicators, group: upsert.panel}}, entry)
            return changed.height

    def set_trailing(self, key: PanelKey, rows: pl.DataFrame, series: pl.Series) -> None:
        """Replace stored statistics of `series` by `rows` (`series, before`, values), not logged; those of others stay."""
        with self._lock:
            merged, stored = self._of_registered(rows), self._state.trailing.get(key)
            if stored is not None:
                merged = pl.concat([stored.filter(~pl.col("series").is_in(series.implode())), merged])
            self._swap(trailing={**self._state.trailing, key: merged.sort("series")})

    @check_arguments("since")
    def changes(self, since: int) -> pl.DataFrame:
        """Changes after revision `since`, one row per series, kind, interval, session, and one per removed symbol."""
        return self._state.changes(since)

    @check_arguments("rejects")
    def add_rejects(self, rejects: pl.DataFrame) -> None:
        """Append refused rows (`schema.REJECTS`) to the `rejects` table; the revision stays."""
        if rejects.height:
            with self._lock:
                self._swap(rejects=(*self._state.rejects, select_schema(rejects, REJECTS, "rejects")))

    @check_arguments("counters")
    def add_counters(self, counters: pl.DataFrame) -> None:
        """Append the feed's own numbers (`schema.COUNTERS`), which audits of the store look at; the revision stays."""
        if counters.height:
            with self._lock:
                self._swap(counters=(*self._state.counters, select_schema(counters, COUNTERS, "counters")))

    def add_files(self, marks: Iterable[str]) -> frozenset[str]:
        """Mark files as loaded by content mark; return those of `marks` that were marked before."""
        with self._lock:
            loaded = self._state.files
            added = frozenset(names_of("marks", marks, least=0) or ())
            self._swap(files=loaded | added)
            return added & loaded

    @check_arguments("revision")
    def mark_exported(self, revision: int) -> None:
        """Raise `exported_revision` to `revision`; a lower one has no effect."""
        with self._lock:
            self._swap(exported_revision=max(revision, self._state.exported_revision))

    def set_as_of(self, as_of: dt.datetime | None) -> None:
        """Set the instant until which slots are due (None: all are); ParameterError if it has no time zone."""
        with self._lock:
            self._swap(as_of=_aware(as_of))

    @check_arguments("active")
    def set_session(self, session_date: dt.date | None, *, active: bool) -> None:
        """Set the current trade date (None: none) and whether its session is running."""
        with self._lock:
            self._swap(session_date=session_date, session_active=active)

    @check_arguments("streams", "active")
    def set_streams(self, streams: Iterable[tuple[str, str]], *, active: bool) -> None:
        """Set these (symbol, interval or kind) streams to `active`; others stay as they are."""
        pairs = list(streams)
        for pair in pairs:
            check_type("streams", pair, tuple)
        named = {(one_name("streams", symbol), one_name("streams", kind)): active for symbol, kind in pairs}
        with self._lock:
            self._swap(active_streams={**self._state.active_streams, **named})

    def _swap(self, **fields: object) -> None:
        """Replace state fields (lock held): of the transaction's draft within one, else of the shown state, and wake waiters."""
        new = replace(self._state, **fields)  # type: ignore[arg-type]
        if self._draft is not None:
            self._draft = new
            return
        self._shown = new
        self._notify()

    def _write(self, fields: dict[str, object], entry: pl.DataFrame | None) -> None:
        """Replace state fields (lock held); with a log entry, stamped by the caller with revision + 1, append it and take that."""
        if entry is not None:
            state = self._state
            fields |= {"revision": state.revision + 1, "change_log": state.change_log.with_entry(entry)}
        self._swap(**fields)

    def _of_registered(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Drop rows of series whose symbol was removed meanwhile."""
        # A symbol may have been removed while its rows were computed.
        if not self._state.change_log.removals:
            return rows
        return rows.filter(pl.col("series").is_in(self._state.series["series"].implode()))

    def _partition_by_axis(self, rows: pl.DataFrame, spec: GridSpec | None) -> list[tuple[GridSpec, pl.DataFrame]]:
        """[(axis, rows)] by each symbol's axis, or one on `spec`; stores new series; UnknownSymbolError possible."""
        symbols = self._state.symbols
        pairs, pair = number_pairs(rows)
        series = self.series_for(pairs)
        if self._axes_of_symbols[0] is not symbols:  # found anew when symbols come or go
            numbers: dict[GridSpec, int] = {}
            axis_of = {name: numbers.setdefault(one.spec, len(numbers)) for name, one in symbols.items()}
            self._axes_of_symbols = (symbols, list(numbers), axis_of)
        _, specs, axis_of = self._axes_of_symbols
        return partition_by_axis(rows, series, pair, specs if spec is None else [spec], axis_of)

    def _insert(self, key: PanelKey, rows: pl.DataFrame, *, again: bool = False) -> Upsert:
        """Upsert, count (anomalies of a base, too) and log rows (lock held); revision + 1 on any change or source duplicate."""
        inserted = insert_rows(self._state, key, rows, self.revision + 1, is_base=self._is_base(key), again=again)
        self._write(inserted.fields, inserted.entry)
        return inserted.upsert

    def _is_base(self, key: PanelKey) -> bool:
        """Whether a panel holds rows of a source, or derived bars that a symbol has as its base (lock held)."""
        symbols = self._state.symbols
        if self._keys_of_symbols[0] is not symbols:  # found anew when symbols come or go
            self._keys_of_symbols = (symbols, frozenset(one.base_key for one in symbols.values()))
        return key.origin == "source" or key in self._keys_of_symbols[1]

    def _set_outcome(
        self,
        table: Literal["gaps", "quality", "filled"],
        key: PanelKey,
        rows: pl.DataFrame,
        replaced: pl.DataFrame | None,
    ) -> None:
        """Remove `replaced` (None: all) gaps or quality, store `rows`; equal rows keep their revision; log changes."""
        with self._lock:
            state, name = self._state, OUTCOME_FIELDS[table]
            outcomes: Mapping[PanelKey, VersionedRows] = getattr(state, name)
            stored = outcomes.get(key) or VersionedRows.empty(dict(rows.schema), OUTCOME_ORDER[table])
            removed = stored.frame if replaced is None else replaced
            edit = stored.edited(removed, self._of_registered(rows), state.revision + 1)
            entry = None
            if edit.touched.height:
                has_span = "gap_start" in edit.touched.columns
                first, last = (pl.col(at) if has_span else pl.lit(None, TS) for at in ("gap_start", "gap_end"))
                changed = edit.touched.select("series", "session", first.alias("first_ts"), last.alias("last_ts"))
                entry = change_entry(key, "gaps" if table == "filled" else table, changed, state.revision + 1)
            self._write({name: {**outcomes, key: edit.ledger}}, entry)


def _aware(as_of: dt.datetime | None) -> dt.datetime | None:
    """The instant unchanged; ParameterError where it has no zone."""
    return instant_of("as_of", as_of)
