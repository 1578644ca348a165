"""The single source of truth: every symbol's frames, keyed by symbol and interval, and nothing derivable from them.

The whole state is one immutable `Snapshot`. A writer builds the next one under the one lock and swaps a reference;
readers take no lock, and what they hold never changes. Rows of all symbols of one kind, interval and axis share one
sorted `Panel`; `SymbolSessionData` and its frames are views on it.

1. `register_symbol_data` makes a symbol known, `remove_symbol` forgets it with everything it had.
2. `append` is the one way in for raw rows: placed on the grid, deduplicated, counted, logged (`_place_and_insert`).
3. `write_derived`, `set_gaps`, `set_quality`, `set_indicators` and `set_trailing` store what the runtime computed from them.
4. `changes` says what was touched since a revision; consumers pull (`wait_for_revision` blocks until there is something), the
   store calls nobody.
5. `transaction` makes several writes one: other threads see all of them at once, or none.
"""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, get_args

import polars as pl

from engine.calendars.providers import SessionCalendar, calendar
from engine.display import Summarized, Summary
from engine.errors import CalendarError, ParameterError, SchemaError, UnknownSymbolError
from engine.grid import GridSpec, SessionGrid, Stamp
from engine.interval import Interval
from engine.schema import (
    EARLIEST,
    LATEST,
    PRICE_TYPES,
    PROVENANCE,
    PROVENANCES,
    REJECTS,
    ROWS,
    TS,
    Kind,
    empty,
    rejected_rows,
    select_schema,
)
from engine.store.anomalies import count_anomalies
from engine.store.panel import KEY, TICK_KEY, Upsert, append_size_tiered, empty_panel
from engine.store.snapshot import (
    AXIS_INTERVAL,
    BAR_VALUES,
    CHANGE_LOG,
    PANELS,
    PLACE_COLUMNS,
    RAW_PRICE_TYPES,
    WRITE_COLUMNS,
    Incomplete,
    PanelKey,
    Snapshot,
    SymbolSessionData,
    coalesce_changes,
    layout,
)
from engine.store.versioned_rows import VersionedRows
from engine.store.views import with_series_names

MONTH = dt.timedelta(
    days=31
)  # the least an axis reaches beyond the data, so that weeks and months at its edges are whole
CONFLICT = "conflict: a later row of the same batch has other values for this key"
PADDING = 2 * MONTH  # what it reaches when it is built, so that it is not built anew every day
LOG_ROWS = 2_000_000  # changes older than this many (series, session) rows are forgotten
RECENT_LOG_ROWS = (
    1 << 18
)  # at least so many entries tell exactly what was touched when: a few minutes of a whole market
LEDGERS = {"gaps": "gap_rows", "quality": "quality_rows"}
LEDGER_ORDER = {"gaps": ("series", "ordinal", "slot"), "quality": ("series", "session")}


DateRange = tuple[dt.date | None, dt.date | None]


class Appended(NamedTuple):
    """What came of an `append`: the revision it made, and what became of the rows that were offered.

    `offered = written + duplicates + corrections` does not hold where a batch corrects another one of the same call;
    `written` counts the rows that are in the store now and were not before.
    """

    revision: int
    offered: int
    written: int
    duplicates: int
    corrections: int
    rejects: pl.DataFrame


class SessionData(Summarized):
    """Per-symbol session data in one place: the dict of symbols, their rows, and what was computed from them."""

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
        _check_aware(as_of)
        self._lock = threading.RLock()
        self._news = threading.Condition()
        self._shown = Snapshot(store_id=store_id or uuid.uuid4().hex, as_of=as_of, incomplete=incomplete)
        self._draft: Snapshot | None = None
        self._drafter = 0
        self._rollbacks = 0
        self._calendars: dict[str, SessionCalendar] = dict(calendars or {})
        self._covered: dict[GridSpec, tuple[dt.date, dt.date]] = {}
        self._base_keys: set[PanelKey] = set()
        self._next_series = 1
        self._axes_found: tuple[Mapping[str, SymbolSessionData], list[GridSpec], dict[str, int]] = ({}, [], {})

    @property
    def _state(self) -> Snapshot:
        # Inside `transaction` its thread sees what it has written so far, all others what was there before.
        draft = self._draft
        return draft if draft is not None and self._drafter == threading.get_ident() else self._shown

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the writes inside one: other threads see all of them at once or, when something is raised, none.

        One inside another shows nothing by itself; when it raises, just its own writes are undone.
        """
        with self._lock:
            before, covered = self._draft, dict(self._covered)
            self._drafter, self._draft = threading.get_ident(), before or self._shown
            try:
                yield
            except BaseException:
                self._draft, self._covered = before, covered
                self._rollbacks += 1
                raise
            if before is not None:
                return
            self._shown, self._draft = self._draft, None
        self._tell()

    def _summary(self) -> Summary:
        return self._state.summary("SessionData")

    @property
    def rollbacks(self) -> int:
        """Number of rolled-back transactions. A consumer that caches state must rebuild it when this changes."""
        return self._rollbacks

    def wait_for_revision(self, revision: int, seconds: float | None = None) -> bool:
        """Block until the store is past a revision, at most so long; whether it is."""
        with self._news:
            return self._news.wait_for(lambda: self._shown.revision > revision, seconds)

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()

    @property
    def _symbols(self) -> Mapping[str, SymbolSessionData]:
        return self._state.symbols

    def snapshot(self) -> Snapshot:
        """The state as it is now; it never changes."""
        return self._state

    @property
    def revision(self) -> int:
        """How many writes there were."""
        return self._state.revision

    def calendar(self, code: str) -> SessionCalendar:
        """The calendar of a code, built once."""
        with self._lock:
            if code not in self._calendars:
                self._calendars[code] = calendar(code)
            return self._calendars[code]

    def register_symbol_data(self, *symbols: SymbolSessionData) -> None:
        """Make symbols known; one that is known already takes the new fields and keeps its rows.

        Raises
        ------
        ParameterError
            A known symbol would move to another calendar or base interval, or lose a derived one: remove it first.
        """
        with self._lock:
            known = dict(self._state.symbols)
            revision = self._state.revision + 1
            registered: dict[str, int] = {}
            for one in symbols:
                _check_reregistration(known.get(one.symbol), one)
                if _asks_for_more(known.get(one.symbol), one):
                    registered[one.symbol] = revision
                known[one.symbol] = replace(one, _snapshot=None)
                self._base_keys.add(one.base_key)
            self._swap(
                symbols=known,
                registered={**self._state.registered, **registered},
                revision=revision if registered else revision - 1,
            )
            # What is missing from the first slot on is missing of something.
            expected = [(one.symbol, one.price_type) for one in symbols if one.expected_from is not None]
            if expected:
                self.series_for(pl.DataFrame(expected, schema=["symbol", "price_type"], orient="row").unique())

    def mark_loaded(self, symbols: Iterable[str]) -> None:
        """Note that symbols have all they need; readers see them among `get_loaded_symbols` from now on."""
        with self._lock:
            known = self._state.symbols
            done = {name: replace(known[name], is_loaded=True) for name in symbols if name in known}
            self._swap(symbols={**known, **done})

    def remove_symbol(self, symbol: str) -> bool:
        """Forget a symbol and everything it had; False when it was not known."""
        with self._lock:
            state = self._state
            if symbol not in state.symbols:
                return False
            gone = state.series_of([symbol])
            revision = state.revision + 1
            keep = ~pl.col("series").is_in(gone)
            self._swap(
                revision=revision,
                symbols={name: data for name, data in state.symbols.items() if name != symbol},
                series=state.series.filter(keep),
                panels={key: held.without(gone) for key, held in state.panels.items()},
                counts={key: frame.filter(keep) for key, frame in state.counts.items()},
                gap_rows={key: ledger.without(gone) for key, ledger in state.gap_rows.items()},
                quality_rows={key: ledger.without(gone) for key, ledger in state.quality_rows.items()},
                indicators={group: held.without(gone) for group, held in state.indicators.items()},
                trailing={key: frame.filter(keep) for key, frame in state.trailing.items()},
                excluded_range={key: frame.filter(keep) for key, frame in state.excluded_range.items()},
                observed_range={key: frame.filter(keep) for key, frame in state.observed_range.items()},
                registered={name: at for name, at in state.registered.items() if name != symbol},
                rejects=tuple(_without_conflicts_of(symbol, frame) for frame in state.rejects),
                active_streams={key: on for key, on in state.active_streams.items() if key[0] != symbol},
                removals=(*(one for one in state.removals if one[0] != symbol), (symbol, revision)),
            )
            return True

    def get_symbol_data(self, symbol: str) -> SymbolSessionData | None:
        """A symbol with views on its rows as they are now; None when it is not there (any more)."""
        state = self._state
        found = state.symbols.get(symbol)
        return None if found is None else replace(found, _snapshot=state)

    def get_active_symbols(self) -> set[str]:
        """All symbols."""
        return set(self._state.symbols)

    def get_loaded_symbols(self) -> set[str]:
        """Symbols that are fully loaded."""
        return {name for name, data in self._state.symbols.items() if data.is_loaded}

    def get_symbols_with_derived(self) -> dict[str, list[str]]:
        """Derived intervals of each symbol that has any."""
        return {name: list(d.derived_intervals) for name, d in self._state.symbols.items() if d.derived_intervals}

    def bars(
        self, symbol: str | None = None, interval: str | None = None, price_type: str | None = None
    ) -> pl.DataFrame:
        """The `bars` table as it is now; see `Snapshot.bars`."""
        return self._state.bars(symbol, interval, price_type)

    def gaps(self, symbols: Iterable[str] | None = None) -> pl.DataFrame:
        """The `gaps` table as it is now."""
        return self._state.gaps(symbols)

    def quality(self, symbols: Iterable[str] | None = None) -> pl.DataFrame:
        """The `quality` table as it is now."""
        return self._state.quality(symbols)

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
    ) -> Appended:
        """Take raw rows in: the one way.

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
        step = Interval.parse(interval) if interval is not None else None
        _check_kind(kind, step, provenance)
        whole = _stack(frames, kind, provenance)
        with self.transaction():
            groups = self._by_axis(whole, spec) if whole.height else []
            for axis, part in groups:
                self._cover(axis, part["ts"].cast(TS))
            done = [
                self._place_and_insert(part, PanelKey(kind, step, "source", axis), stamp, dates)
                for axis, part in groups
            ]
            refused = pl.concat(
                [empty(REJECTS), *(conflict_rejects(one.conflicts, self._state.series) for one in done)]
            )
            self.add_rejects(refused)
            counts = pl.concat([one.counts for one in done]).sum() if done else None
            return Appended(
                self.revision,
                whole.height,
                sum(one.written.height for one in done),
                int(counts["duplicates"][0] or 0) if counts is not None else 0,
                int(counts["corrections"][0] or 0) if counts is not None else 0,
                refused,
            )

    def series_for(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Numbers of series, given to new ones here.

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
            strange = set(pairs["symbol"].to_list()) - set(self._state.symbols)
            if strange:
                shown = ", ".join(sorted(map(str, strange))[:5])
                raise UnknownSymbolError(f"symbol: {shown} not registered; call register_symbol_data first")
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
        """Store derived bars (`derive.bars.DERIVED`): the one way. Bars that did not change keep their revision.

        Returns
        -------
        int
            How many bars are new or changed.
        """
        key = PanelKey("bars", interval, "derived", spec)
        with self._lock:
            whole = self._of_known(rows).with_columns(
                pl.lit(0, pl.Int32).alias("batch"), pl.lit(self.revision + 1, pl.Int64).alias("revision")
            )
            return self._insert(
                key, select_schema(whole, {**PANELS["derived"], "batch": pl.Int32()}, "derived bars")
            ).written.height

    def set_gaps(self, key: PanelKey, gaps: pl.DataFrame, replaced: pl.DataFrame | None = None) -> None:
        """Store gaps of one interval: all of them, or instead of the stored rows in `replaced`."""
        self._store_outcome("gaps", key, gaps, replaced)

    def set_quality(self, key: PanelKey, quality: pl.DataFrame, replaced: pl.DataFrame | None = None) -> None:
        """Store quality of one interval: all of it, or instead of the stored rows in `replaced`."""
        self._store_outcome("quality", key, quality, replaced)

    def set_indicators(
        self, key: PanelKey, definitions: frozenset[Hashable], rows: pl.DataFrame, *, without: Sequence[int] = ()
    ) -> int:
        """Store values of indicators: the one way. Values that did not change keep their revision.

        Parameters
        ----------
        key : PanelKey
            The bars they are computed from.
        definitions : frozenset
            What is computed; series that ask for the same are kept together.
        rows : DataFrame of `series, session, ts` and values
            In any order, each (series, ts) once.
        without : sequence of int
            Series whose values are forgotten first.

        Returns
        -------
        int
            How many rows are new or changed.

        Raises
        ------
        ParameterError
            A value has the name of one of the columns that are kept beside them.
        """
        if taken := {"revision", "batch"} & set(rows.columns):
            raise ParameterError(f"indicators: a value is called {taken.pop()}; valid: another name")
        with self._lock:
            state, group = self._state, (key, definitions)
            fresh = self._of_known(rows).with_columns(pl.lit(state.revision + 1, pl.Int64).alias("revision"))
            values = tuple(name for name in rows.columns if name not in ("series", "session", "ts"))
            held = state.indicators.get(group)
            held = held.without(without) if held is not None and len(without) else held
            if held is None or not held.height:  # values of another type may come once none is left
                held = empty_panel(dict(fresh.schema), KEY, values)
            done = held.upsert(fresh.with_columns(pl.lit(0, pl.Int32).alias("batch")))
            changed: dict[str, object] = {"indicators": {**state.indicators, group: done.panel}}
            if done.written.height:
                touched = done.written.select("series", "session", first_ts="ts", last_ts="ts")
                entry = self._entry(key, "indicators", touched)
                changed |= {"revision": state.revision + 1, **self._log_with(entry)}
            self._swap(**changed)
            return done.written.height

    def set_trailing(self, key: PanelKey, rows: pl.DataFrame) -> None:
        """Store what the sessions before a date were like (`series, before`, values), instead of what these series had."""
        with self._lock:
            fresh, held = self._of_known(rows), self._state.trailing.get(key)
            if held is not None:
                fresh = pl.concat([held.join(fresh, on="series", how="anti", maintain_order="left"), fresh])
            self._swap(trailing={**self._state.trailing, key: fresh.sort("series")})

    def changes(self, since: int) -> pl.DataFrame:
        """What was touched after revision `since`; see `Snapshot.changes`."""
        return self._state.changes(since)

    def add_rejects(self, refused: pl.DataFrame) -> None:
        """Keep rows that a reader refused, for the `rejects` table."""
        if refused.height:
            with self._lock:
                self._swap(rejects=(*self._state.rejects, select_schema(refused, REJECTS, "rejects")))

    def add_files(self, marks: Iterable[str]) -> frozenset[str]:
        """Note files by their hashes, all at once; returns those that were loaded before."""
        with self._lock:
            known = self._state.files
            offered = frozenset(marks)
            self._swap(files=known | offered)
            return offered & known

    def mark_exported(self, revision: int) -> None:
        """Note that everything up to `revision` is in an export."""
        with self._lock:
            self._swap(exported_revision=max(revision, self._state.exported_revision))

    def set_as_of(self, as_of: dt.datetime | None) -> None:
        """Set until when slots are due."""
        _check_aware(as_of)
        with self._lock:
            self._swap(as_of=as_of)

    def set_session(self, session_date: dt.date | None, *, active: bool) -> None:
        """Set the current trade date and whether its session runs."""
        with self._lock:
            self._swap(session_date=session_date, session_active=active)

    def set_streams(self, streams: Iterable[tuple[str, str]], *, active: bool) -> None:
        """Note which (symbol, interval or kind of rows) are streamed, or are not any more."""
        with self._lock:
            self._swap(active_streams={**self._state.active_streams, **dict.fromkeys(streams, active)})

    def _of_known(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Computed rows without those of symbols that were removed meanwhile."""
        if not self._state.removals:
            return rows
        return rows.filter(pl.col("series").is_in(self._state.series["series"].implode()))

    def _swap(self, **fields: object) -> None:
        new = replace(self._state, **fields)  # type: ignore[arg-type]
        if self._draft is not None:
            self._draft = new
            return
        self._shown = new
        self._tell()

    def _by_axis(self, rows: pl.DataFrame, spec: GridSpec | None) -> list[tuple[GridSpec, pl.DataFrame]]:
        """Rows with numbers for names, parted by the axis they live on."""
        names = ["symbol", "price_type"]
        lookup = self.series_for(rows.select(names).unique(maintain_order=True))
        distinct, axis_of = self._axes_of_symbols()
        if spec is not None or len(distinct) == 1:
            return [(spec or distinct[0], rows.join(lookup, on=names, how="left", maintain_order="left").drop(names))]
        axes = [axis_of[symbol] for symbol in lookup["symbol"]]
        numbered = rows.join(
            lookup.with_columns(pl.Series("axis", axes, pl.Int32)), on=names, how="left", maintain_order="left"
        ).drop(names)
        parts = numbered.partition_by("axis", as_dict=True, include_key=False, maintain_order=True)
        return [(distinct[at], part) for (at,), part in parts.items()]

    def _place_and_insert(self, rows: pl.DataFrame, key: PanelKey, stamp: Stamp, dates: DateRange) -> Upsert:
        grid = self._state.grid(key.spec, key.interval or AXIS_INTERVAL)
        if key.kind == "bars":
            rows = rows.with_columns(grid.from_stamps(rows["ts"], stamp).alias("ts"))
        place = grid.place(rows["ts"].cast(TS), exact=key.kind == "bars")
        placed = rows.with_columns(*place.get_columns(), pl.lit(self.revision + 1, pl.Int64).alias("revision"))
        kept = _within(placed, dates)
        if kept.height < placed.height:
            self._note_left_out(key, placed, dates)
        return self._insert(key, kept)

    def _note_left_out(self, key: PanelKey, placed: pl.DataFrame, dates: DateRange) -> None:
        """Keep which of the dates that were asked for the series lived through, by rows that are left out too."""
        reach = placed.group_by("series").agg(session_ranges(pl.col("slot").is_not_null()))
        reach = reach.with_columns(
            pl.col("first", "any_first").clip(dates[0]), pl.col("last", "any_last").clip(None, dates[1])
        )
        held = self._state.excluded_range.get(key, reach.clear())
        self._swap(excluded_range={**self._state.excluded_range, key: merge_ranges([held, reach])})

    def _cover(self, spec: GridSpec, stamps: pl.Series) -> None:
        """Make the axis reach well beyond the stamps; ordinals do not depend on how far it reaches."""
        venue = self.calendar(spec.calendar)
        earliest, latest = venue.bounds()
        first, last = (min(max(day.date(), earliest), latest) for day in (stamps.min(), stamps.max()))  # type: ignore[union-attr]
        low, high = self._covered.get(spec, (latest, earliest))
        if low <= max(first - MONTH, earliest) and min(last + MONTH, latest) <= high:
            return
        low, high = min(low, max(first - PADDING, earliest)), max(high, min(last + PADDING, latest))
        segments = venue.segments_in_bounds(low, high)
        if segments.is_empty():
            raise CalendarError(f"calendar {spec.calendar} has no session from {low} to {high}, where the rows are")
        self._swap(
            axes={**self._state.axes, spec: SessionGrid.build(segments, AXIS_INTERVAL, spec)},
            calendars={**self._state.calendars, spec.calendar: venue},
        )
        self._covered[spec] = low, high

    def _insert(self, key: PanelKey, rows: pl.DataFrame) -> Upsert:
        state = self._state
        shape = layout(key)
        held = state.panels.get(key) or empty_panel(
            PANELS[shape], TICK_KEY if "seq" in PANELS[shape] else KEY, _values(shape)
        )
        done = held.upsert(rows)
        changed: dict[str, object] = {"panels": {**state.panels, key: done.panel}}
        counts = self._counted(key, done)
        if counts.height:
            total = pl.concat([state.counts[key], counts], how="diagonal") if key in state.counts else counts
            changed["counts"] = {**state.counts, key: total.group_by("series", "session", maintain_order=True).sum()}
        touched = done.written.select(
            "series", "session", pl.col("ts").alias("first_ts"), pl.col("ts").alias("last_ts")
        )
        entries = [self._entry(key, key.kind, touched)] if touched.height else []
        if key.origin == "source" and done.counts.height:  # also where every row repeats one
            none = pl.lit(None, TS)
            entries.append(self._entry(key, "counts", done.counts.with_columns(first_ts=none, last_ts=none)))
        if touched.height and self._is_raw(key):
            changed |= self._reached(key, done.written)
        if entries:
            changed |= {"revision": state.revision + 1, **self._log_with(pl.concat(entries))}
        self._swap(**changed)
        return done

    def _is_raw(self, key: PanelKey) -> bool:
        return key.origin == "source" or key in self._base_keys

    def _counted(self, key: PanelKey, done: Upsert) -> pl.DataFrame:
        """What rows that came and went add to the counts of their sessions."""
        # Deriving again repeats bars, the feed did not.
        counts = done.counts if key.origin == "source" else done.counts.clear()
        if key.kind != "bars" or not self._is_raw(key):
            return counts
        chosen = self._state.grid(key.spec, key.interval or AXIS_INTERVAL).due()["ordinal"]
        come, gone = count_anomalies(done.written, chosen), count_anomalies(done.replaced, chosen)
        gone = gone.select("series", "session", -pl.col(gone.columns[2:]))
        counted = pl.concat([counts, come, gone], how="diagonal")
        return counted.group_by("series", "session", maintain_order=True).sum() if counted.height else counts

    def _reached(self, key: PanelKey, written: pl.DataFrame) -> dict[str, object]:
        """First and last session of each series, with those of rows that were written; nothing where none of them moves."""
        chosen = self._state.grid(key.spec, key.interval or AXIS_INTERVAL).due()["ordinal"].implode()
        held, inside = self._state.observed_range.get(key), pl.col("ordinal").is_in(chosen).fill_null(value=False)
        rows = written[["series", "session", "ordinal"]]
        if held is not None:
            known = rows.join(held, on="series", how="left")
            within = pl.col("session").is_between("any_first", "any_last")
            within &= ~inside | pl.col("session").is_between("first", "last")
            # As the same object it tells whoever keeps what was made of it that it still is right.
            if known.select(within.fill_null(value=False).all()).item():
                return {}
        new = rows.unique().group_by("series").agg(session_ranges(inside))
        return {
            "observed_range": {**self._state.observed_range, key: new if held is None else merge_ranges([held, new])}
        }

    def _axes_of_symbols(self) -> tuple[list[GridSpec], dict[str, int]]:
        """The axes in use, and which of them each symbol is on; found anew when symbols come or go."""
        symbols = self._state.symbols
        if self._axes_found[0] is not symbols:
            numbers: dict[GridSpec, int] = {}
            of = {name: numbers.setdefault(one.spec, len(numbers)) for name, one in symbols.items()}
            self._axes_found = (symbols, list(numbers), of)
        return self._axes_found[1], self._axes_found[2]

    def _entry(self, key: PanelKey, kind: str, touched: pl.DataFrame) -> pl.DataFrame:
        """What the log notes of rows that hold `series, session, first_ts, last_ts`."""
        about = {
            "kind": pl.lit(kind),
            "interval": pl.lit(None if key.interval is None else str(key.interval), pl.String),
            "first_ts": pl.col("first_ts").cast(TS),
            "last_ts": pl.col("last_ts").cast(TS),
            "revision": pl.lit(self.revision + 1, pl.Int64),
        }
        return coalesce_changes(
            touched.select(about.get(name, pl.col(name)).alias(name) for name in CHANGE_LOG), alike=True
        )

    def _log_with(self, entry: pl.DataFrame) -> dict[str, object]:
        """The log with one more entry: recent ones exact, older ones as one row per series, kind, interval and session."""
        past, *recent = self._state.log or (entry.clear(),)
        recent = list(append_size_tiered(recent, entry))
        rows = sum(part.height for part in recent)
        if rows <= max(RECENT_LOG_ROWS, past.height):
            return {"log": (past, *recent)}
        # By half, so that whoever follows closely is still told exactly, and not every write does this.
        whole = pl.concat(recent)
        border = whole["revision"][rows // 2]
        old = whole["revision"] < border
        old = old if old.any() else whole["revision"] == border
        past, kept = coalesce_changes(pl.concat([past, whole.filter(old)])).sort("revision"), whole.filter(~old)
        if past.height <= LOG_ROWS:
            return {"log": (past, kept)}
        horizon = int(past["revision"][past.height - LOG_ROWS // 2 - 1])
        return {"log": (past.filter(pl.col("revision") > horizon), kept), "horizon": horizon}

    def _store_outcome(self, kind: str, key: PanelKey, rows: pl.DataFrame, replaced: pl.DataFrame | None) -> None:
        with self._lock:
            state = self._state
            ledgers: Mapping[PanelKey, VersionedRows] = getattr(state, LEDGERS[kind])
            held = ledgers.get(key) or VersionedRows.empty(dict(rows.schema), LEDGER_ORDER[kind])
            gone = held.frame if replaced is None else replaced
            edited = held.edited(gone, self._of_known(rows), state.revision + 1)
            changed: dict[str, object] = {LEDGERS[kind]: {**ledgers, key: edited.ledger}}
            if edited.touched.height:
                changed |= {
                    "revision": state.revision + 1,
                    **self._log_with(self._entry(key, kind, _spanned(edited.touched))),
                }
            self._swap(**changed)


def session_ranges(inside: pl.Expr) -> list[pl.Expr]:
    """First and last session of rows: `first, last` of those `inside` the chosen segments, `any_first, any_last` of all."""
    session = pl.col("session")
    return [
        session.filter(inside).min().alias("first"), session.filter(inside).max().alias("last"),
        session.min().alias("any_first"), session.max().alias("any_last"),
    ]  # fmt: skip


def merge_ranges(reaches: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Several reaches (`session_ranges`) of series as one row each."""
    ends = [pl.col("first", "any_first").min(), pl.col("last", "any_last").max()]
    return pl.concat(reaches).group_by("series", maintain_order=True).agg(ends).select(reaches[0].columns)


def _values(shape: str) -> tuple[str, ...]:
    # Where a row came from makes it no other row; a derived bar tells it of the rows below.
    marks = {"revision"} if shape == "derived" else {*WRITE_COLUMNS}
    skipped = {*PLACE_COLUMNS, *marks, "ts", "seq"}
    return tuple(name for name in PANELS[shape] if name not in skipped)


def _stack(frames: Sequence[pl.DataFrame], kind: Kind, provenance: str) -> pl.DataFrame:
    """All batches in one frame, numbered in order, with what every row needs beside its values."""
    origin = {"source": pl.String(), "row": pl.Int64()}
    stacked = []
    for number, frame in enumerate(frames):
        extra = [pl.lit(None, dtype).alias(name) for name, dtype in origin.items() if name not in frame.columns]
        fitted = select_schema(frame.with_columns(extra), {**ROWS[kind], **origin}, f"{kind} batch {number}")
        stacked.append(fitted.with_columns(pl.lit(number, pl.Int32).alias("batch")))
    whole = pl.concat(stacked) if stacked else empty({**ROWS[kind], **origin, "batch": pl.Int32()})
    needed = [name for name in ("symbol", "ts", "seq", "price_type") if name in whole.columns]
    lacking = [name for name in needed if whole[name].null_count()]
    if lacking:
        raise SchemaError(f"{kind}: a row lacks its {', '.join(lacking)}; pass rows through schema.conform first")
    if not whole.select(pl.col("ts").is_between(EARLIEST, LATEST).all()).item():
        raise SchemaError(
            f"{kind}: a ts lies outside {EARLIEST:%Y} to {LATEST:%Y}; pass rows through schema.conform first"
        )
    if kind == "bars":
        strange = sorted(set(whole["price_type"].unique()) - set(PRICE_TYPES))
        if strange:
            raise SchemaError(f"bars: price_type: received {strange[0]!r}; valid: {', '.join(PRICE_TYPES)}")
    else:
        whole = whole.with_columns(pl.lit(RAW_PRICE_TYPES[kind]).alias("price_type"))
    return whole.with_columns(pl.lit(provenance, PROVENANCE).alias("provenance"))


def conflict_rejects(losers: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    """Rows that lost a conflict as `schema.REJECTS`: `series, ts`, values, `source, row`; and the names of the series."""
    if losers.is_empty():
        return empty(REJECTS)
    shown = with_series_names(losers, series)
    cells = shown.select("symbol", "price_type", "ts", *(n for n in BAR_VALUES if n in shown.columns), "row")
    source = shown["source"].fill_null("")
    return rejected_rows(cells, CONFLICT, "").with_columns(source)


def _without_conflicts_of(symbol: str, refused: pl.DataFrame) -> pl.DataFrame:
    # What a reader refused tells of a file, whoever is there; a conflict is between rows that the symbol brought.
    its = (pl.col("reason") == CONFLICT) & (pl.col("cells").str.json_path_match("$.symbol") == symbol)
    return refused.filter(~its.fill_null(value=False))


def _within(rows: pl.DataFrame, dates: DateRange) -> pl.DataFrame:
    first, last = dates
    if first is not None:
        rows = rows.filter(pl.col("session") >= first)
    return rows if last is None else rows.filter(pl.col("session") <= last)


def _spanned(touched: pl.DataFrame) -> pl.DataFrame:
    """`series, session, first_ts, last_ts` of rows of gaps or quality."""
    span = [name if name in touched.columns else None for name in ("gap_start", "gap_end")]
    first, last = (pl.lit(None, TS) if name is None else pl.col(name) for name in span)
    return touched.select("series", "session", first.alias("first_ts"), last.alias("last_ts"))


def _check_kind(kind: str, step: Interval | None, provenance: str) -> None:
    if kind not in ROWS:
        raise ParameterError(f"kind: received {kind!r}; valid: {', '.join(ROWS)}")
    if kind == "bars" and step is None:
        raise ParameterError("interval: bars need one; valid: 1s, 1m, 5m, 1d ...")
    if kind != "bars" and step is not None:
        raise ParameterError(f"interval: received {step}; {kind} have none")
    if provenance not in PROVENANCES:
        raise ParameterError(f"provenance: received {provenance!r}; valid: {', '.join(PROVENANCES)}")


def _check_aware(as_of: dt.datetime | None) -> None:
    if as_of is not None and as_of.tzinfo is None:
        raise ParameterError(f"as_of: received {as_of}, which has no zone; valid: an aware datetime")


def _asks_for_more(known: SymbolSessionData | None, new: SymbolSessionData) -> bool:
    """Whether something has to be derived or judged for a symbol that was not before."""
    if known is None:
        return True
    fields = ("derived_intervals", "price_types", "first_session", "last_session")
    return any(getattr(known, name) != getattr(new, name) for name in fields)


def _check_reregistration(known: SymbolSessionData | None, new: SymbolSessionData) -> None:
    if known is None:
        return
    if known.base_key != new.base_key:
        raise ParameterError(
            f"symbol: {new.symbol} is registered with calendar {known.calendar} and base {known.base_interval}; "
            f"received {new.calendar} and {new.base_interval}; remove_symbol first"
        )
    lost = [interval for interval in known.derived_intervals if interval not in new.derived_intervals]
    if lost:
        raise ParameterError(
            f"symbol: {new.symbol} has {', '.join(lost)} derived, which would no longer follow its base; "
            "remove_symbol first, or keep them among derived_intervals"
        )
