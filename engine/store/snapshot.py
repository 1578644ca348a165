"""The whole store at one revision: its panels, the state of its session, its change log, and the tables made of them.

Rows of all symbols of one kind, interval and axis share one sorted `Panel`; the frames of a `SymbolSessionData` are
views on it, so they agree with one another and never change.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter

import polars as pl

from engine.arguments import Day, Names, check_arguments, check_known, date_of, names_of
from engine.calendars.providers import calendar
from engine.display import MOST_ROWS, Summarized, Summary
from engine.errors import UnknownSymbolError
from engine.grid import SLOTS, SessionGrid, whole_years
from engine.interval import Interval, Intervals, check_known_intervals, intervals_of
from engine.schema import REJECTS, TS, empty
from engine.store.change_log import ChangeLog
from engine.store.panel import extent_by_series
from engine.store.panel_key import PANEL_SCHEMAS, RAW_PRICE_TYPES, PanelKey
from engine.store.panel_state import PanelState
from engine.store.session_state import CARRIED, SessionState
from engine.store.views import BARS_VIEW, CALENDARS_VIEW, SYMBOLS_VIEW, bars_view, with_ends, with_series_names

CHANGES_VIEW = {
    "symbol": pl.String(),
    "price_type": pl.String(),
    "kind": pl.String(),
    "interval": pl.String(),
    "session": pl.Date(),
    "first_ts": TS,
    "last_ts": TS,
    "revision": pl.Int64(),
    "removed": pl.Boolean(),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Snapshot(PanelState, SessionState, Summarized):
    """The store at one revision. Immutable: hold it as long as you like.

    Its fields are those of `PanelState` (rows and outcomes) and of `SessionState` (symbols and session), and:

    Attributes
    ----------
    store_id : str
        Identity of the store.
    revision : int
        Number of writes so far.
    change_log : ChangeLog
    """

    store_id: str
    revision: int = 0
    change_log: ChangeLog = field(default_factory=ChangeLog)

    def _summary(self) -> Summary:
        return self.summary("Snapshot")

    def summary(self, title: str) -> Summary:
        """Display summary: facts of the store, then rows, missing slots, quality of the first symbols' base bars."""
        names = sorted(self.symbols)
        facts = {
            "symbols": len(names),
            "revision": self.revision,
            "as of": self.as_of,
            "session": self.session_date,
            "rejects": sum(rows.height for rows in self.rejects) or None,
            "streams": tuple(f"{symbol} {what}" for (symbol, what), on in self.active_streams.items() if on)[
                :MOST_ROWS
            ],
        }
        quality = self.quality(names[:MOST_ROWS] or None)
        quality = quality.group_by("symbol", "interval", "price_type").agg(pl.col("expected", "present").sum())
        sums = {row[:3]: row[3:] for row in quality.iter_rows()}
        rows = []
        for symbol in (self.symbols[name] for name in names[:MOST_ROWS]):
            series = self.series_of([symbol.symbol], [symbol.price_type])
            expected, present = sums.get((symbol.symbol, symbol.base_interval, symbol.price_type), (0, 0))
            share = 100.0 * present / expected if expected else None
            bars = self.rows_of(symbol.base_key, series).height
            about = (symbol.symbol, symbol.calendar, symbol.base_interval, symbol.derived_intervals)
            rows.append((*about, bars, expected - present, share))
        head = ("symbol", "calendar", "base", "derived", "bars", "missing", "quality")
        return Summary(title, facts, head, rows, len(names))

    @cached_property
    def current_session(self) -> dt.date | None:
        """Trade date of the session that runs or opens next; none set, as after a load: the last with a base bar; else None."""
        if self.session_date is not None:
            return self.session_date
        keys = {one.base_key for one in self.symbols.values()} & self.observed_range.keys()
        last = [self.observed_range[key]["last"].max() for key in keys]
        return max((day for day in last if isinstance(day, dt.date)), default=None)

    def series_of(self, symbols: Names | None = None, price_types: Names | None = None) -> list[int]:
        """Numbers of series with one of the symbols AND one of the price types, ascending; UnknownSymbolError for others.

        Raises
        ------
        UnknownSymbolError
            A symbol is not registered; the message names the nearest one.
        ParameterError
            A price type is none.
        """
        names = names_of("symbols", symbols, least=0)
        check_known("symbols", names or (), self.symbols, UnknownSymbolError)
        return super().series_of(names, price_types)

    def bars(
        self, symbol: Names | None = None, interval: Intervals | None = None, price_type: Names | None = None
    ) -> pl.DataFrame:
        """`bars` table, source and derived, of symbols, intervals and price types (text is one, a list several, None all).

        Raises
        ------
        UnknownSymbolError
            A symbol is not registered; the message names the nearest one.
        IntervalError
            None of the symbols is derived to the interval or has bars of it; the message lists those that there are.
        """
        names, steps = names_of("symbol", symbol), intervals_of("interval", interval)
        series = self.series_of(names, names_of("price_type", price_type))
        keys = [key for key in self.panels_of("bars") if steps is None or key.interval in steps]
        rows = {key: self.rows_of(key, None if symbol is price_type is None else series) for key in keys}
        self._check_intervals(steps or (), names, {k.interval for k in keys if rows[k].height})
        frames = [self.bars_table(key, rows[key]) for key in keys]
        if frames:
            return pl.concat(frames)
        return bars_view(empty(PANEL_SCHEMAS["bars"]), None, None, "source", self.series, None)

    def _check_intervals(
        self, steps: Sequence[Interval], names: tuple[str, ...] | None, present: set[Interval | None]
    ) -> None:
        """Raise IntervalError unless each step is registered for a symbol of `names` (None: any) or has rows; no symbols: pass."""
        registered = [self.symbols[name] for name in (names or self.symbols)]
        if not registered or all(step in present for step in steps):
            return
        known = {Interval.parse(text) for one in registered for text in (one.base_interval, *one.derived_intervals)}
        stored = {key.interval for key in self.panels_of("bars") if key.interval and self.bars_of(key, names).height}
        check_known_intervals("interval", steps, known | stored, ", ".join(names or ()) or "the store")

    def slots(
        self, symbol: Names | None = None, interval: str | Interval | None = None, start: Day = None, end: Day = None
    ) -> pl.DataFrame:
        """Every expected slot of symbols (None: all) as a row, to join bars on; due by `as_of`, see below for the dates.

        Parameters
        ----------
        symbol : str or list of str, optional
        interval : str or Interval, optional
            Default each symbol's base.
        start, end : date or str, optional
            First and last trade date; default the first and last with a row of the symbol's base. A symbol without rows
            and without both has no slots.

        Returns
        -------
        DataFrame of `symbol, interval` (String), `session` (Date), `segment` (String), `ordinal, slot` (Int32), `ts, ts_end`
            Sorted by symbol and `ts`. A week or month is there where it has a trade date within the dates.

        Raises
        ------
        UnknownSymbolError
            A symbol is not registered.
        """
        names = names_of("symbol", symbol)
        check_known("symbol", names or (), self.symbols, UnknownSymbolError)
        first, last = date_of("start", start), date_of("end", end)
        steps = {"symbol": pl.String(), "interval": pl.String()}
        parts = [empty({**steps, **SLOTS})]
        for one in (self.symbols[name] for name in sorted(set(names or self.symbols))):
            days = self.rows_of(one.base_key, self.series_of([one.symbol]))["session"].unique().to_list()
            if not days and (first is None or last is None):
                continue
            dates = first or min(days), last or max(days)
            step = one.base if interval is None else Interval.parse(interval)
            venue = self.calendars.get(one.calendar) or calendar(one.calendar)
            # Periods at both ends are whole ones.
            segments = venue.segments_in_bounds(*whole_years(*dates))
            slots = SessionGrid.build(segments, step, one.spec).slot_table(self.as_of, dates)
            parts.append(slots.select(pl.lit(one.symbol).alias("symbol"), pl.lit(str(step)).alias("interval"), *SLOTS))
        return pl.concat(parts)

    def bars_of(self, key: PanelKey, symbols: Names | None = None, price_types: Names | None = None) -> pl.DataFrame:
        """`bars` table of one panel, of these symbols and price types (None: any); empty if there is no such panel."""
        everything = symbols is None and price_types is None
        return self.bars_table(key, self.rows_of(key, None if everything else self.series_of(symbols, price_types)))

    def bars_table(self, key: PanelKey, rows: pl.DataFrame) -> pl.DataFrame:
        """Stored rows as the `bars` table; incomplete derived bars dropped if `incomplete` is `drop`; empty if panel is absent."""
        if key not in self.panels:
            return bars_view(rows, None, key.interval, key.origin, self.series, self.as_of)
        grid = self.grid(key.spec, key.grid_interval)
        return bars_view(self._chosen_windows(key, rows), grid, key.interval, key.origin, self.series, self.as_of)

    def closed_bars(self, key: PanelKey, rows: pl.DataFrame, *, as_enums: bool = False) -> pl.DataFrame:
        """As `bars_table` (text as enums, but for symbols, if asked for), plus `revision`; no bar that ends after `as_of`."""
        rows, grid = self._chosen_windows(key, rows), self.grid(key.spec, key.grid_interval)
        bars = bars_view(rows, grid, key.interval, key.origin, self.series, self.as_of, as_enums=as_enums)
        bars = bars.with_columns(rows["revision"])
        # A filter copies every row, so it is left out where all are final.
        return bars if self.as_of is None or bars["final"].all() else bars.filter("final")

    def exported_view(self, key: PanelKey, rows: pl.DataFrame, *, as_enums: bool = False) -> pl.DataFrame:
        """Rows of a panel as an export has them: `closed_bars` of bars, `raw_view` of the rest."""
        return self.closed_bars(key, rows, as_enums=as_enums) if key.kind == "bars" else self.raw_view(rows)

    def _chosen_windows(self, key: PanelKey, rows: pl.DataFrame) -> pl.DataFrame:
        drops = self.incomplete == "drop" and key.layout == "derived_bars"
        return rows.filter("complete") if drops else rows

    @check_arguments("since")
    def changes(self, since: int) -> pl.DataFrame:
        """Changes after `since` by revision, one row per series, kind, interval, session, or removed symbol; CursorExpiredError.

        Returns
        -------
        DataFrame
            `CHANGES_VIEW`; a removed symbol is one row with `removed` true and the rest null.

        Raises
        ------
        CursorExpiredError
            `since` is older than the change log: read everything anew.
        """
        changed = with_series_names(self.series_changes(since), self.series)
        changed = changed.with_columns(pl.lit(value=False).alias("removed")).select(*CHANGES_VIEW)
        removals = [
            {"symbol": symbol, "revision": revision, "removed": True}
            for symbol, revision in self.change_log.removals
            if revision > since
        ]
        both = pl.concat([changed, pl.DataFrame(removals, schema=CHANGES_VIEW)])
        return both.sort("revision", "symbol", "price_type", "kind", "interval", "session", nulls_last=True)

    def series_changes(self, since: int, kinds: Sequence[str] | None = None) -> pl.DataFrame:
        """Changes after `since` by series number (`CHANGE_LOG`), of these kinds or all; no removed series; unordered.

        `first_ts` and `last_ts` span what was changed after `since`; for an old `since` they may span more.
        """
        changed = self.change_log.since(since, kinds)
        if not self.change_log.removals:
            return changed
        return changed.filter(pl.col("series").is_in(self.series["series"].implode()))

    def symbol_table(self) -> pl.DataFrame:
        """`symbols` table by name: registered fields and `rows, first_ts, last_ts` of source rows (0, null if none).

        Bars that are not over by `as_of` do not count among `rows`, as they are in no export.
        """
        extents = [
            self._extent_by_symbol(run.extent)
            for key, panel in self.panels.items()
            if key.origin == "source"
            for run in panel.sorted_runs
        ]
        extent = sum_extents([self.carried, *extents, self._open_bars()])
        # Thousands of symbols share their other fields: a row of each set of them, taken as often as there are symbols.
        shared = [name for name in SYMBOLS_VIEW if name not in ("symbol", "source_symbol", "incomplete")]
        fields_of = attrgetter(*shared)
        number_of: dict[tuple[object, ...], int] = {}
        numbers = [number_of.setdefault(fields_of(one), len(number_of)) for one in self.symbols.values()]
        distinct = [{name: list(v) if isinstance(v, tuple) else v for name, v in zip(shared, fields, strict=True)}
                    for fields in number_of]  # fmt: skip
        names = pl.DataFrame(
            {
                "symbol": list(self.symbols),
                "source_symbol": [one.source_symbol or one.symbol for one in self.symbols.values()],
            },
            schema={name: SYMBOLS_VIEW[name] for name in ("symbol", "source_symbol")},
        )
        place = pl.Series(numbers, dtype=pl.UInt32)
        fields = pl.DataFrame(distinct, schema={name: SYMBOLS_VIEW[name] for name in shared}).select(
            pl.all().gather(place)
        )
        incomplete = pl.lit(self.incomplete, SYMBOLS_VIEW["incomplete"]).alias("incomplete")
        frame = names.hstack(fields).with_columns(incomplete).select(*SYMBOLS_VIEW)
        return frame.join(extent, on="symbol", how="left").with_columns(pl.col("rows").fill_null(0)).sort("symbol")

    def carried_before(self, session: dt.date) -> pl.DataFrame:
        """`carried` with the source rows of the sessions before one, as if they were in an export alone."""
        earlier = [
            self._extent_by_symbol(extent_by_series(panel.where(pl.col("session") < session)))
            for key, panel in self.panels.items()
            if key.origin == "source"
        ]
        return sum_extents([self.carried, *earlier])

    def _extent_by_symbol(self, extent: pl.DataFrame) -> pl.DataFrame:
        """`CARRIED` of an extent by series."""
        zoned = extent.with_columns(pl.col("first_ts", "last_ts").cast(TS))
        return with_series_names(zoned, self.series).select(*CARRIED)

    def _open_bars(self) -> pl.DataFrame:
        """`CARRIED` with the negative number of source bars per symbol that end after `as_of`; found among the newest rows."""
        none = empty(CARRIED)
        if self.as_of is None:
            return none
        counts = [none]
        for key, panel in self.panels.items():
            if key.kind == "bars" and key.origin == "source":
                longest = dt.timedelta(seconds=2 * key.grid_interval.seconds)
                recent = panel.since(self.revision, self.as_of - longest)
                ended = with_ends(recent, self.grid(key.spec, key.grid_interval))
                late = with_series_names(ended.filter(pl.col("ts_end") > self.as_of), self.series)
                counted = late.group_by("symbol").agg(-pl.len().cast(pl.Int64).alias("rows"))
                counts.append(pl.concat([none, counted], how="diagonal"))
        return pl.concat(counts)

    def tables(self) -> dict[str, pl.DataFrame]:
        """Export table -> frame: closed bars, stored raw kinds (`month` in all but open interest), gaps, quality, `small_tables`, rejects.

        `revision` is the one that wrote the row, null where that is not known.
        """
        month = pl.col("session").dt.strftime("%Y-%m").alias("month")
        both_clocks = pl.col("ts").cast(TS), pl.col("ts").dt.timestamp("ns").alias("ts_ns")
        bars = [self.closed_bars(key, self.rows_of(key)) for key in self.panels_of("bars")]
        tables = {
            "bars": pl.concat([pl.DataFrame(schema={**BARS_VIEW, "revision": pl.Int64()}), *bars]).with_columns(month)
        }
        for kind in RAW_PRICE_TYPES:
            if keys := self.panels_of(kind):
                rows = pl.concat([self.raw_view(self.rows_of(key)) for key in keys])
                tables[kind] = rows if kind == "open_interest" else rows.with_columns(*both_clocks).with_columns(month)
        return {
            **tables,
            "gaps": self.outcomes("gaps"),
            "quality": self.outcomes("quality"),
            **self.small_tables(),
            "rejects": pl.concat([empty(REJECTS), *self.rejects]),
        }

    def calendar_table(self) -> pl.DataFrame:
        """`calendars` table: provider, version, zone and overrides of each calendar."""
        # By the code that symbols and sessions name: a calendar file's own may be another.
        calendars = [(code, c.provider, c.version, c.zone, c.overrides_hash) for code, c in self.calendars.items()]
        return pl.DataFrame(calendars, schema=dict.fromkeys(CALENDARS_VIEW, pl.String), orient="row")

    def small_tables(self) -> dict[str, pl.DataFrame]:
        """Dict of the tables `sessions`, `calendars` and `symbols`, whose size does not depend on the rows."""
        return {
            "sessions": self.sessions(),
            "calendars": self.calendar_table(),
            "symbols": self.symbol_table(),
        }


def sum_extents(extents: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """`CARRIED` with one row per symbol: the number of all its rows, their first and their last stamp."""
    by_symbol = pl.concat(one.select(*CARRIED) for one in extents).group_by("symbol", maintain_order=True)
    return by_symbol.agg(pl.col("rows").sum(), pl.col("first_ts").min(), pl.col("last_ts").max())
