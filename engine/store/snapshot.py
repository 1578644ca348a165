"""What a reader holds: the whole store at one revision, and one symbol of it. Immutable.

Rows of all symbols of one kind, interval and axis share one sorted `Panel`; the frames of a `SymbolSessionData` are
views on it, so they agree with one another and never change.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.calendars.providers import SessionCalendar
from engine.display import MOST_ROWS, Summarized, Summary
from engine.errors import CursorExpiredError, ParameterError, UnknownSymbolError
from engine.grid import Align, GridSpec, SessionGrid
from engine.interval import Interval
from engine.keys import pack_pair
from engine.schema import PROVENANCE, REJECTS, ROWS, TS, TS_NS, Kind, Schema, empty
from engine.store.panel import Panel
from engine.store.versioned_rows import VersionedRows
from engine.store.views import (
    BARS_VIEW,
    CALENDARS_VIEW,
    GAPS_VIEW,
    QUALITY_VIEW,
    SESSIONS_VIEW,
    SYMBOLS_VIEW,
    bars_view,
    with_series_names,
)

AXIS_INTERVAL = Interval(1, "m")  # any step serves to hold an axis; it is cut to the wanted one by `SessionGrid.at`
RAW_PRICE_TYPES: Mapping[Kind, str] = {"quotes": "quote", "ticks": "last", "open_interest": "open_interest"}

BAR_VALUES = ("open", "high", "low", "close", "volume", "size", "vwap", "trades")
PLACE_COLUMNS = {"series": pl.Int32(), "session": pl.Date(), "ordinal": pl.Int32(), "slot": pl.Int32()}
WRITE_COLUMNS = {"provenance": PROVENANCE, "revision": pl.Int64()}
_AMOUNTS = {name: ROWS["bars"][name] for name in BAR_VALUES}
PANELS: Mapping[str, dict[str, pl.DataType]] = {
    "bars": {**PLACE_COLUMNS, "ts": TS, **_AMOUNTS, **WRITE_COLUMNS},
    "derived": {**PLACE_COLUMNS, "ts": TS, "ts_end": TS, **_AMOUNTS, "n_base": pl.Int32(), "n_expected": pl.Int32(),
                "complete": pl.Boolean(), "notional": pl.Float64(), **WRITE_COLUMNS},
    "quotes": {**PLACE_COLUMNS, "ts": TS_NS, "seq": pl.Int64(), "bid": pl.Float64(), "ask": pl.Float64(),
               "bid_size": pl.Float64(), "ask_size": pl.Float64(), **WRITE_COLUMNS},
    "ticks": {**PLACE_COLUMNS, "ts": TS_NS, "seq": pl.Int64(), "price": pl.Float64(), "size": pl.Float64(),
              "exchange": pl.String(), "conditions": pl.String(), "suspicious": pl.Boolean(), **WRITE_COLUMNS},
    "open_interest": {**PLACE_COLUMNS, "ts": TS, "value": pl.Float64(), **WRITE_COLUMNS},
}  # fmt: skip
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
CHANGE_LOG = {"series": pl.Int32(), "kind": pl.String(), "interval": pl.String(), "session": pl.Date(),
           "first_ts": TS, "last_ts": TS, "revision": pl.Int64()}  # fmt: skip


EXTENT = {"symbol": pl.String(), "price_type": pl.String(), "series": pl.Int32(), "rows": pl.Int64(),
          "first_ts": TS, "last_ts": TS}  # fmt: skip


Incomplete = Literal["flag", "drop"]


class PanelKey(NamedTuple):
    """Which panel: rows of one kind, interval and origin on one axis."""

    kind: Kind
    interval: Interval | None
    origin: str
    spec: GridSpec


IndicatorKey = tuple[PanelKey, frozenset[Hashable]]  # the bars, and what is computed from them


@dataclass(frozen=True, repr=False)
class SymbolSessionData(Summarized):
    """One symbol: what is known about it, and views on its rows.

    The fields are set at registration; the frames are read from the snapshot it was taken from, so they agree with
    one another and never change. `price_type` is the one that calls mean which name none; `price_types` narrows what is
    made of ticks and quotes (empty: `last`, `bid`, `ask` and `mid`). `history_sessions` is how many sessions before the
    current one are its history (0: all that are there), `indicators` are pairs of definition (a text, or your own
    `Indicator`) and interval. `expected_from` is the session from which rows are expected although none came yet, as of
    a symbol that a live session was asked for.
    """

    symbol: str
    calendar: str = "XNYS"
    base_interval: str = "1m"
    derived_intervals: tuple[str, ...] = ()
    is_loaded: bool = False
    price_type: str = "last"
    price_types: tuple[str, ...] = ()
    base_from: Kind = "bars"
    segments: tuple[str, ...] = ()
    align: Align = "session"
    zone: str = "UTC"
    source_symbol: str = ""
    source: str = ""
    adjustment: str = "raw"
    first_session: dt.date | None = None
    last_session: dt.date | None = None
    expected_from: dt.date | None = None
    history_sessions: int = 0
    indicators: tuple[tuple[Hashable, str], ...] = ()
    synthetic_quotes: bool = False
    _snapshot: Snapshot | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        base = Interval.parse(self.base_interval)
        derived = sorted({Interval.parse(i) for i in self.derived_intervals})
        object.__setattr__(self, "base_interval", str(base))
        object.__setattr__(self, "derived_intervals", tuple(str(i) for i in derived if i != base))

    @property
    def base(self) -> Interval:
        """The base interval."""
        return Interval.parse(self.base_interval)

    @cached_property
    def spec(self) -> GridSpec:
        """The axis it lives on."""
        return GridSpec(self.calendar, self.segments, self.align, self.zone)

    @cached_property
    def base_key(self) -> PanelKey:
        """The panel its base bars are in."""
        return PanelKey("bars", self.base, "source" if self.base_from == "bars" else "derived", self.spec)

    def key_of(self, interval: str | None = None) -> PanelKey:
        """The panel its bars of an interval (default: the base) are in."""
        wanted = Interval.parse(interval or self.base_interval)
        return self.base_key if wanted == self.base else PanelKey("bars", wanted, "derived", self.spec)

    def definitions_of(self, interval: str | None = None) -> frozenset[Hashable]:
        """The indicators it asks for at an interval (default: the base)."""
        wanted = Interval.parse(interval or self.base_interval)
        return frozenset(one for one, at in self.indicators if Interval.parse(at) == wanted)

    def bars(self, interval: str | None = None, price_type: str | None = None) -> pl.DataFrame:
        """Bars of one interval (default: the base) and price type (default: the symbol's), as the `bars` table."""
        return self._bound.bars_of(self.key_of(interval), [self.symbol], [price_type or self.price_type])

    @property
    def bars_base(self) -> pl.DataFrame:
        """Base bars of the symbol's price type."""
        return self.bars()

    @property
    def bars_derived(self) -> dict[str, pl.DataFrame]:
        """Derived bars of the symbol's price type, keyed by interval."""
        return {interval: self.bars(interval) for interval in self.derived_intervals}

    @property
    def latest_bar(self) -> dict[str, object] | None:
        """The last base bar, None when there is none."""
        bars = self.bars_base
        return bars.row(-1, named=True) if bars.height else None

    @property
    def bar_quality(self) -> dict[str, pl.DataFrame]:
        """Quality per session, keyed by interval."""
        return self._per_interval("quality")

    @property
    def bar_gaps(self) -> dict[str, pl.DataFrame]:
        """Stored gaps, keyed by interval; an interval without a gap has an empty frame."""
        return self._per_interval("gaps")

    @property
    def quotes(self) -> pl.DataFrame:
        """Quotes, sorted by (ts, seq)."""
        return self._raw("quotes")

    @property
    def ticks(self) -> pl.DataFrame:
        """Trades, sorted by (ts, seq)."""
        return self._raw("ticks")

    @property
    def open_interest(self) -> pl.DataFrame:
        """Open interest, sorted by ts."""
        return self._raw("open_interest")

    @cached_property
    def session_bars(self) -> pl.DataFrame:
        """Base bars of the current session (the last one with a bar, when none is set), those in a slot of it."""
        bound = self._bound
        rows = bound.rows_of(self.base_key, bound.series_of([self.symbol], [self.price_type]))
        rows = rows.filter(pl.col("slot").is_not_null())
        current = bound.session_date or rows["session"].max()
        return bound.shown(self.base_key, rows.filter(pl.col("session") == pl.lit(current, pl.Date)))

    @property
    def session_volume(self) -> float:
        """Volume of the current session."""
        return float(self.session_bars["volume"].sum())

    @property
    def session_high(self) -> float | None:
        """Highest price of the current session."""
        return self.session_bars["high"].max()  # type: ignore[return-value]

    @property
    def session_low(self) -> float | None:
        """Lowest price of the current session."""
        return self.session_bars["low"].min()  # type: ignore[return-value]

    @property
    def historical_bars(self) -> dict[str, dict[dt.date, pl.DataFrame]]:
        """Bars of sessions before the current one, the last `history_sessions` of them: interval -> trade date -> frame."""
        current = self._bound.session_date
        return {
            i: _by_session(self.bars(i), current, self.history_sessions)
            for i in (self.base_interval, *self.derived_intervals)
        }

    @property
    def historical_indicators(self) -> dict[str, dict[str, object]]:
        """Averages and extremes of the sessions before the current one (`derive.history.trailing`), keyed by interval.

        An interval without a former session is left out; all are, while no session is current or no
        `IndicatorManager` has stepped since it became so.
        """
        found = {
            i: self._bound.trailing_of(self.key_of(i), self) for i in (self.base_interval, *self.derived_intervals)
        }
        return {interval: values for interval, values in found.items() if values is not None}

    def indicator_values(self, interval: str | None = None) -> pl.DataFrame:
        """Its indicators at an interval (default: the base): `ts, session`, a column for each value, a row for each bar.

        Without columns of values while none is computed.
        """
        bound, group = self._bound, (self.key_of(interval), self.definitions_of(interval))
        if group not in bound.indicators:
            return pl.DataFrame(schema={"ts": TS, "session": pl.Date()})
        rows = bound.indicators[group].of_series(bound.series_of([self.symbol], [self.price_type]))
        return rows.select("ts", "session", pl.exclude("ts", "session", "series", "revision"))

    @property
    def latest_quote(self) -> dict[str, object] | None:
        """The last quote; where there is none and `synthetic_quotes` asks for it, the last close as bid and ask."""
        bar = self.latest_bar if self.synthetic_quotes and not self.quotes.height else None
        if bar is not None:
            return {"ts": bar["ts_end"], "bid": bar["close"], "ask": bar["close"], "source": "bar"}
        return {**self.quotes.row(-1, named=True), "source": "quote"} if self.quotes.height else None

    @property
    def latest_trade(self) -> dict[str, object] | None:
        """The last trade, None when there is none."""
        return self.ticks.row(-1, named=True) if self.ticks.height else None

    @property
    def spread(self) -> float | None:
        """Ask less bid of the last quote, None when it lacks a side."""
        quote = self.latest_quote or {}
        bid, ask = quote.get("bid"), quote.get("ask")
        return ask - bid if isinstance(bid, float) and isinstance(ask, float) else None

    @property
    def last_update(self) -> dt.datetime | None:
        """Start of the last base bar."""
        return self.bars_base["ts"].max()  # type: ignore[return-value]

    @property
    def bars_updated(self) -> bool:
        """Whether bars were written since the last export."""
        return self._updated("bars")

    @property
    def quotes_updated(self) -> bool:
        """Whether quotes were written since the last export."""
        return self._updated("quotes")

    @property
    def ticks_updated(self) -> bool:
        """Whether ticks were written since the last export."""
        return self._updated("ticks")

    @property
    def _bound(self) -> Snapshot:
        if self._snapshot is None:
            raise UnknownSymbolError(f"symbol: {self.symbol} is not in a store; take it from get_symbol_data()")
        return self._snapshot

    def _summary(self) -> Summary:
        facts = {
            "calendar": self.calendar,
            "price type": self.price_type,
            "segments": self.segments,
            "source": self.source,
        }
        title = f"SymbolSessionData {self.symbol}"
        if self._snapshot is None:
            return Summary(title, {**facts, "base": self.base_interval, "derived": self.derived_intervals})
        rows = [(interval, *self._counted(interval)) for interval in (self.base_interval, *self.derived_intervals)]
        raw = {kind: getattr(self, kind).height or None for kind in ("quotes", "ticks", "open_interest")}
        return Summary(
            title, facts | raw, ("interval", "bars", "first", "last", "missing", "gaps", "longest", "quality"), rows
        )

    def _counted(self, interval: str) -> tuple[object, ...]:
        bars, gaps, quality = self.bars(interval), self.bar_gaps[interval], self.bar_quality[interval]
        mine = pl.col("price_type") == self.price_type
        expected, present = quality.filter(mine).select(pl.col("expected", "present").sum()).row(0)
        longest = gaps.filter(mine)["bar_count"]
        share = 100.0 * present / expected if expected else None
        return (
            bars.height,
            bars["session"].min(),
            bars["session"].max(),
            expected - present,
            len(longest),
            longest.max(),
            share,
        )

    def _per_interval(self, table: str) -> dict[str, pl.DataFrame]:
        frame = self._bound.gaps([self.symbol]) if table == "gaps" else self._bound.quality([self.symbol])
        return {i: frame.filter(pl.col("interval") == i) for i in (self.base_interval, *self.derived_intervals)}

    def _raw(self, kind: Kind) -> pl.DataFrame:
        return self._bound.raw_of(PanelKey(kind, None, "source", self.spec), [self.symbol])

    def _updated(self, kind: str) -> bool:
        # Asked of the rows and not of the log, which forgets.
        bound = self._bound
        ours = bound.series_of([self.symbol])
        rows = (bound.rows_of(key, ours)["revision"] for key in bound.panels if key.kind == kind)
        return any(bool((written > bound.exported_revision).any()) for written in rows)


@dataclass(frozen=True, repr=False)
class Snapshot(Summarized):
    """The store at one revision. Immutable: hold it as long as you like.

    Attributes
    ----------
    store_id : str
        Which store.
    revision : int
        How many writes it had seen.
    as_of : datetime or None
        Until when slots are due; None for a batch whose sessions are all over.
    incomplete : {"flag", "drop"}
        Whether derived bars of windows that lack slots are shown (and flagged) or left out of views and exports.
    """

    store_id: str
    revision: int = 0
    symbols: Mapping[str, SymbolSessionData] = field(default_factory=dict)
    series: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema={"series": pl.Int32, "symbol": pl.String, "price_type": pl.String})
    )
    panels: Mapping[PanelKey, Panel] = field(default_factory=dict)
    counts: Mapping[PanelKey, pl.DataFrame] = field(default_factory=dict)
    observed_range: Mapping[PanelKey, pl.DataFrame] = field(default_factory=dict)
    excluded_range: Mapping[PanelKey, pl.DataFrame] = field(default_factory=dict)
    axes: Mapping[GridSpec, SessionGrid] = field(default_factory=dict)
    calendars: Mapping[str, SessionCalendar] = field(default_factory=dict)
    gap_rows: Mapping[PanelKey, VersionedRows] = field(default_factory=dict)
    quality_rows: Mapping[PanelKey, VersionedRows] = field(default_factory=dict)
    indicators: Mapping[IndicatorKey, Panel] = field(default_factory=dict)
    trailing: Mapping[PanelKey, pl.DataFrame] = field(default_factory=dict)
    rejects: tuple[pl.DataFrame, ...] = ()
    log: tuple[pl.DataFrame, ...] = ()
    removals: tuple[tuple[str, int], ...] = ()
    registered: Mapping[str, int] = field(default_factory=dict)
    horizon: int = 0
    exported_revision: int = 0
    session_active: bool = False
    session_date: dt.date | None = None
    active_streams: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    as_of: dt.datetime | None = None
    incomplete: Incomplete = "flag"
    files: frozenset[str] = frozenset()

    def _summary(self) -> Summary:
        return self.summary("Snapshot")

    def summary(self, kind: str) -> Summary:
        """What the store says of itself: its state, and the first symbols, each at its base interval."""
        names = sorted(self.symbols)
        facts = {
            "symbols": len(names), "revision": self.revision, "as of": self.as_of, "session": self.session_date,
            "rejects": sum(rows.height for rows in self.rejects) or None,
            "streams": tuple(f"{symbol} {what}" for (symbol, what), on in self.active_streams.items() if on)[:MOST_ROWS],
        }  # fmt: skip
        head = ("symbol", "calendar", "base", "derived", "bars", "missing", "quality")
        shown = names[:MOST_ROWS]
        quality = (
            self.quality(shown).group_by("symbol", "interval", "price_type").agg(pl.col("expected", "present").sum())
        )
        sums = {row[:3]: row[3:] for row in quality.iter_rows()}
        rows = [self._row_of(self.symbols[name], sums) for name in shown]
        return Summary(kind, facts, head, rows, len(names))

    def _row_of(self, one: SymbolSessionData, sums: Mapping[tuple[str, ...], tuple[int, int]]) -> tuple[object, ...]:
        bars = self.rows_of(one.base_key, self.series_of([one.symbol], [one.price_type])).height
        expected, present = sums.get((one.symbol, one.base_interval, one.price_type), (0, 0))
        share = 100.0 * present / expected if expected else None
        return (one.symbol, one.calendar, one.base_interval, one.derived_intervals, bars, expected - present, share)

    def grid(self, spec: GridSpec, interval: Interval) -> SessionGrid:
        """The axis `spec` cut at `interval`, over the dates of the data."""
        if spec not in self.axes:
            raise ParameterError(f"spec: no row lives on {spec} in this store")
        return self.axes[spec].at(interval)

    def series_of(self, symbols: Iterable[str] | None = None, price_types: Iterable[str] | None = None) -> list[int]:
        """Numbers of the series of these symbols and price types, ascending."""
        wanted = self.series
        if symbols is not None:
            wanted = wanted.filter(pl.col("symbol").is_in(list(symbols)))
        if price_types is not None:
            wanted = wanted.filter(pl.col("price_type").is_in(list(price_types)))
        return wanted["series"].sort().to_list()

    def rows_of(self, key: PanelKey, series: Sequence[int] | None = None) -> pl.DataFrame:
        """Rows of a panel as stored, sorted by (series, ts); empty when there is no such panel."""
        if key not in self.panels:
            return pl.DataFrame(schema=PANELS[layout(key)])
        held = self.panels[key]
        return held.frame if series is None else held.of_series(series)

    def none_of(self, key: PanelKey) -> pl.DataFrame:
        """No row, with the columns of a panel."""
        return self.panels[key].parts[0].clear() if key in self.panels else pl.DataFrame(schema=PANELS[layout(key)])

    def trailing_of(self, key: PanelKey, one: SymbolSessionData) -> dict[str, object] | None:
        """What is stored of the sessions of a symbol before the current one; None when that is nothing."""
        if key not in self.trailing:
            return None
        ours = pl.col("series").is_in(self.series_of([one.symbol], [one.price_type]))
        rows = self.trailing[key].filter(ours & (pl.col("before") == pl.lit(self.session_date, pl.Date)))
        return rows.drop("series", "before").row(0, named=True) if rows.height else None

    def bars_of(
        self, key: PanelKey, symbols: Iterable[str] | None = None, price_types: Iterable[str] | None = None
    ) -> pl.DataFrame:
        """Bars of one panel with names, labels and ends, as the `bars` table has them."""
        everything = symbols is None and price_types is None
        return self.shown(key, self.rows_of(key, None if everything else self.series_of(symbols, price_types)))

    def shown(self, key: PanelKey, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of a bar panel with names, labels and ends, as the `bars` table has them."""
        if key not in self.panels:
            return bars_view(rows, None, key.interval, key.origin, self.series, self.as_of)
        if key.origin == "derived" and self.incomplete == "drop":
            rows = rows.filter("complete")
        return bars_view(
            rows, self.grid(key.spec, key.interval or AXIS_INTERVAL), key.interval, key.origin, self.series, self.as_of
        )

    def raw_of(self, key: PanelKey, symbols: Iterable[str] | None = None) -> pl.DataFrame:
        """Quotes, ticks or open interest with names."""
        rows = self.rows_of(key, None if symbols is None else self.series_of(symbols, [RAW_PRICE_TYPES[key.kind]]))
        return self.named_raw(rows).drop("revision")

    def named_raw(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of a panel of quotes, ticks or open interest as their table has them, in the same order."""
        return with_series_names(rows, self.series).drop("series", "price_type", "slot", "ordinal", "provenance")

    def closed_bars(self, key: PanelKey, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of a bar panel as the `bars` table has them, those of windows that are not over left out."""
        grid = self.grid(key.spec, key.interval or AXIS_INTERVAL)
        if key.origin == "derived" and self.incomplete == "drop":
            rows = rows.filter("complete")
        shown = bars_view(rows, grid, key.interval, key.origin, self.series, self.as_of)
        known = shown.with_columns(rows["revision"])
        return (
            known if self.as_of is None or known["final"].all() else known.filter("final")
        )  # a filter copies what it keeps

    def panels_of(self, kind: Kind) -> list[PanelKey]:
        """Which panels hold rows of a kind, by interval and origin."""
        return sorted((key for key in self.panels if key.kind == kind), key=_key_order)

    def bars(
        self, symbol: str | None = None, interval: str | None = None, price_type: str | None = None
    ) -> pl.DataFrame:
        """The `bars` table: every series, or those of one symbol, interval or price type."""
        wanted = None if interval is None else Interval.parse(interval)
        keys = [k for k in self.panels if k.kind == "bars" and wanted in (None, k.interval)]
        frames = [
            self.bars_of(k, symbol and [symbol], price_type and [price_type]) for k in sorted(keys, key=_key_order)
        ]
        return (
            pl.concat(frames) if frames else bars_view(empty(PANELS["bars"]), None, None, "source", self.series, None)
        )

    def gaps(self, symbols: Iterable[str] | None = None) -> pl.DataFrame:
        """The `gaps` table, of all symbols or of some."""
        return self._stored(GAPS_VIEW, _frames(self.gap_rows), symbols)

    def quality(self, symbols: Iterable[str] | None = None) -> pl.DataFrame:
        """The `quality` table, of all symbols or of some."""
        return self._stored(QUALITY_VIEW, _frames(self.quality_rows), symbols)

    def changes(self, since: int) -> pl.DataFrame:
        """What was touched after revision `since`: one coalesced row per series, kind, interval and session.

        Returns
        -------
        DataFrame
            `CHANGES_VIEW`; a removed symbol is one row with `removed` true and the rest null.

        Raises
        ------
        CursorExpiredError
            `since` lies behind the log: read everything anew.
        """
        alive = with_series_names(self.touched(since), self.series).with_columns(pl.lit(value=False).alias("removed"))
        gone = [{"symbol": s, "revision": r, "removed": True} for s, r in self.removals if r > since]
        whole = pl.concat([alive.select(*CHANGES_VIEW), pl.DataFrame(gone, schema=CHANGES_VIEW)])
        return whole.sort("revision", "symbol", "price_type", "kind", "interval", "session", nulls_last=True)

    def touched(self, since: int, kinds: Sequence[str] | None = None) -> pl.DataFrame:
        """As `changes`, by the numbers of series, without what was removed, in no order (`CHANGE_LOG`).

        Of these kinds, when they are given.
        `first_ts` and `last_ts` hold what was touched after `since`; of an old `since` they may reach further.
        """
        if since < self.horizon:
            raise CursorExpiredError(
                f"since: revision {since} is older than the change log, which begins at {self.horizon}; full read required"
            )
        # Each entry is in the order of revisions, and so are they.
        rows = [
            part.slice(int(np.searchsorted(part["revision"].to_numpy(), since, side="right")))
            for part in self.log if part.height and part["revision"][-1] > since
        ]  # fmt: skip
        asked = [part if kinds is None else part.filter(pl.col("kind").is_in(kinds)) for part in rows]
        found = coalesce_changes(pl.concat([empty(CHANGE_LOG), *asked]))
        return found.filter(pl.col("series").is_in(self.series["series"].implode())) if self.removals else found

    def sessions(self) -> pl.DataFrame:
        """The `sessions` table: segments of each calendar, from its first session with a row to its last."""
        spans: dict[str, list[dt.date]] = {}
        for key, held in self.panels.items():
            for part in held.sorted_runs:
                if part.rows.height:
                    spans.setdefault(key.spec.calendar, []).extend(part.sessions)
        # Asked of the calendar: each of its axes reaches no further than its own rows.
        frames = [
            self.calendars[code].segments_in_bounds(min(days), max(days)).select(pl.lit(code).alias("calendar"), *SESSIONS_VIEW[1:])
            for code, days in sorted(spans.items())
        ]  # fmt: skip
        return pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(SESSIONS_VIEW, pl.String))

    def symbol_table(self) -> pl.DataFrame:
        """The `symbols` table."""
        spans = [
            with_series_names(part.extent.with_columns(pl.col("first_ts", "last_ts").cast(TS)), self.series)
            for key, held in self.panels.items() if key.origin == "source"
            for part in held.sorted_runs
        ]  # fmt: skip
        extent = pl.concat([pl.DataFrame(schema=EXTENT), *spans]).group_by("symbol").agg(
            pl.col("rows").sum(), pl.col("first_ts").min(), pl.col("last_ts").max()
        )  # fmt: skip
        about = [
            {"symbol": d.symbol, "source_symbol": d.source_symbol or d.symbol, "calendar": d.calendar,
             "base_interval": d.base_interval, "derived_intervals": list(d.derived_intervals), "is_loaded": d.is_loaded,
             "adjustment": d.adjustment, "source": d.source, "base_from": d.base_from, "price_type": d.price_type,
             "price_types": list(d.price_types), "segments": list(d.segments), "align": d.align, "zone": d.zone,
             "incomplete": self.incomplete}
            for d in self.symbols.values()
        ]  # fmt: skip
        frame = pl.DataFrame(about, schema={**SYMBOLS_VIEW})
        return frame.join(extent, on="symbol", how="left").with_columns(pl.col("rows").fill_null(0)).sort("symbol")

    def tables(self) -> dict[str, pl.DataFrame]:
        """Every table of an export, as it stands at this revision; bars whose window is not over are left out.

        `revision` is the one that wrote the row, null where that is not known.
        """
        bars = [self.closed_bars(key, self.rows_of(key)) for key in self.panels_of("bars")]
        none = pl.DataFrame(schema={**BARS_VIEW, "revision": pl.Int64()})
        raw = {
            kind: pl.concat([self.named_raw(self.rows_of(key)) for key in keys])
            for kind in RAW_PRICE_TYPES if (keys := self.panels_of(kind))
        }  # fmt: skip
        return {
            "bars": _dated(pl.concat([none, *bars])),
            **{kind: rows if kind == "open_interest" else _dated(_both_clocks(rows)) for kind, rows in raw.items()},
            "gaps": self.stored("gaps"),
            "quality": self.stored("quality"),
            **self.small_tables(),
            "rejects": pl.concat([empty(REJECTS), *self.rejects]),
        }

    def small_tables(self) -> dict[str, pl.DataFrame]:
        """The tables that do not grow with the rows: `sessions`, `calendars` and `symbols`."""
        # By the code that symbols and sessions have: a calendar file's own may be another.
        calendars = [(code, c.provider, c.version, c.zone, c.overrides_hash) for code, c in self.calendars.items()]
        return {
            "sessions": self.sessions(),
            "calendars": pl.DataFrame(calendars, schema=dict.fromkeys(CALENDARS_VIEW, pl.String), orient="row"),
            "symbols": self.symbol_table(),
        }

    def stored(self, table: Literal["gaps", "quality"], scope: pl.DataFrame | None = None) -> pl.DataFrame:
        """The `gaps` or the `quality` table with the `revision` that wrote each row.

        Parameters
        ----------
        table : {"gaps", "quality"}
        scope : DataFrame of `symbol, price_type, interval, session`, optional
            Only rows of these.
        """
        columns = {**(GAPS_VIEW if table == "gaps" else QUALITY_VIEW), "revision": pl.Int64()}
        ledgers = self.gap_rows if table == "gaps" else self.quality_rows
        if scope is None:
            return self._stored(columns, _frames(ledgers), None)
        numbers = scope.join(self.series, on=["symbol", "price_type"]).select("series", "interval", "session")
        near = {key: ledger.of_sessions(numbers.filter(interval=str(key.interval))) for key, ledger in ledgers.items()}
        return self._stored(columns, near, None)

    def _stored(
        self, columns: Schema, outcomes: Mapping[PanelKey, pl.DataFrame], symbols: Iterable[str] | None
    ) -> pl.DataFrame:
        series = None if symbols is None else self.series_of(symbols)
        frames = [(key.interval, outcomes[key]) for key in sorted(outcomes, key=_key_order)]
        parts = [
            with_series_names(rows if series is None else rows.filter(pl.col("series").is_in(series)), self.series)
            .with_columns(pl.lit(str(interval)).alias("interval")).select(*columns)
            for interval, rows in frames
        ]  # fmt: skip
        return pl.concat(parts) if parts else empty(columns)


def _frames(ledgers: Mapping[PanelKey, VersionedRows]) -> dict[PanelKey, pl.DataFrame]:
    return {key: ledger.frame for key, ledger in ledgers.items()}


def _dated(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("session").dt.strftime("%Y-%m").alias("month"))


def _both_clocks(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("ts").cast(TS), pl.col("ts").dt.timestamp("ns").alias("ts_ns"))


def coalesce_changes(log: pl.DataFrame, *, alike: bool = False) -> pl.DataFrame:
    """Entries of a log (when they are `alike`, of one kind and interval) as one row per series, kind, interval and session.

    In no order. By number: grouping by the four of them would cost four times as much, of what a store does most often.
    """
    what, where = np.zeros(log.height, np.int64) if alike else _codes(log), _places(log)
    order = np.argsort(where, kind="stable") if alike else np.lexsort((where, what))
    sorted_what, sorted_where = what[order], where[order]
    others = (sorted_what[1:] != sorted_what[:-1]) | (sorted_where[1:] != sorted_where[:-1])
    if others.all():
        return log
    begins = np.flatnonzero(np.append(True, others))
    ends = [
        _reduced(log[name], order, begins, by)
        for name, by in (("first_ts", np.minimum), ("last_ts", np.maximum), ("revision", np.maximum))
    ]
    return log[order[begins]].with_columns(ends)


def _codes(log: pl.DataFrame) -> NDArray[np.int64]:
    """A number for kind and interval of each entry."""
    about = ["kind", "interval"]
    changes = log.select(pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in about))
    begins = np.flatnonzero(changes.to_series().to_numpy())
    runs = log[begins][about]
    numbered = runs.unique(maintain_order=True).with_row_index("code")
    codes = runs.join(numbered, on=about, how="left", nulls_equal=True, maintain_order="left")["code"].to_numpy()
    return np.repeat(codes.astype(np.int64), np.diff(np.append(begins, log.height)))


def _places(log: pl.DataFrame) -> NDArray[np.int64]:
    """One number for series and session of each entry, in the order of the pairs."""
    days = log["session"].cast(pl.Int32).cast(pl.Int64).fill_null(np.iinfo(np.int32).min).to_numpy()
    return pack_pair(log["series"].to_numpy(), days)


def _reduced(values: pl.Series, order: NDArray[np.int64], begins: NDArray[np.int64], by: np.ufunc) -> pl.Series:
    """The least or greatest of each run; nulls count for nothing, all of them give null."""
    if values.null_count() == len(values):
        return values.head(len(begins))
    numbers, none = values.cast(pl.Int64), np.iinfo(np.int64).max if by is np.minimum else np.iinfo(np.int64).min
    if not values.null_count():
        return pl.Series(values.name, by.reduceat(numbers.to_numpy()[order], begins)).cast(values.dtype)
    made = pl.Series(values.name, by.reduceat(numbers.fill_null(none).to_numpy()[order], begins))
    return made.replace(none, None).cast(values.dtype)


def layout(key: PanelKey) -> str:
    """Which columns the rows of a panel have: a key of `PANELS`."""
    return "derived" if key.origin == "derived" else key.kind


def _key_order(key: PanelKey) -> tuple[str, int, str, str]:
    return (key.kind, key.interval.seconds if key.interval else 0, key.origin, repr(key.spec))


def _by_session(bars: pl.DataFrame, before: dt.date | None, sessions: int) -> dict[dt.date, pl.DataFrame]:
    past = bars if before is None else bars.filter(pl.col("session") < before)
    if sessions:
        past = past.filter(pl.col("session").is_in(past["session"].unique().sort().tail(sessions).implode()))
    return {key[0]: frame for key, frame in past.partition_by("session", as_dict=True, maintain_order=True).items()}
