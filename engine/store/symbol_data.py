"""One symbol of a snapshot: its registered fields, and its bars, quotes, ticks, gaps and quality as views. Immutable."""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import polars as pl

from engine.arguments import Names, check_fields, check_known, names_of, one_name
from engine.display import Summarized, Summary
from engine.errors import ParameterError, UnknownSymbolError
from engine.grid import Align, GridSpec
from engine.interval import Interval, check_known_intervals, intervals_of
from engine.plan_calls import PlanNames, StoredFrames, refuse_assignment
from engine.schema import IS_MISSING, PRICE_TYPES, TS, Kind
from engine.store.panel_key import PanelKey

if TYPE_CHECKING:
    from engine.store.snapshot import Snapshot


PLAN_NAMES = {
    "to_json": "engine.write_json(session.snapshot().tables(), folder, symbols=symbol)",
    "_latest_bar": "latest_bar",
    "_last_export_indices": "bars_updated, or engine.export.delta.read_delta(target, since) of an export",
}
ASSIGNMENTS = {
    "is_loaded": "session.mark_loaded(symbol)",
    **dict.fromkeys(("bars_base", "quotes", "ticks", "open_interest", "latest_bar"), "session.append(rows, kind, interval)"),
    **dict.fromkeys(("session_volume", "session_high", "session_low", "last_update"), "session.append(rows, kind, interval): it is computed from the bars"),
    **dict.fromkeys(("bars_updated", "quotes_updated", "ticks_updated"), "session.mark_exported(revision)"),
    "bars_derived": "DataProcessor(session).step(), which derives them",
    "bar_gaps": "session.set_gaps(symbol_data.key_of(interval), gaps)",
    "bar_quality": "session.set_quality(symbol_data.key_of(interval), quality)",
    **dict.fromkeys(("historical_bars", "historical_indicators"), "session.set_session(trade_date, active=True), then IndicatorManager(session).step()"),
}  # fmt: skip


# Symbols share few axes; one object for all of them is compared and hashed faster than equal ones.
_axis = lru_cache(maxsize=256)(GridSpec)


@refuse_assignment(ASSIGNMENTS)
@dataclass(frozen=True, repr=False)
class SymbolSessionData(PlanNames, Summarized):
    """One symbol: its registered fields, and views on its rows.

    The fields are set at registration; the frames are read from the snapshot it was taken from, so they agree with
    one another and never change. `price_type` is the default of calls that name none; `price_types` narrows which bars are
    built from ticks and quotes (empty: `last`, `bid`, `ask` and `mid`). `history_sessions` is the number of sessions
    before the current one that are its history (0: all), `indicators` are pairs of definition (a text, or your own
    `Indicator`) and interval. `expected_from` is the session from which rows are expected although none has arrived yet,
    as for a symbol that a live session subscribes to.
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
    _plan_names = PLAN_NAMES

    def __post_init__(self) -> None:
        one_name("symbol", self.symbol)
        check_fields(self, "calendar", "base_from", "align", "zone", "is_loaded", "synthetic_quotes")
        base = Interval.parse(self.base_interval)
        derived = sorted(set(intervals_of("derived_intervals", self.derived_intervals, least=0) or ()))
        for name in ("price_types", "segments"):
            object.__setattr__(self, name, names_of(name, getattr(self, name), least=0) or ())
        check_known("price_type", (one_name("price_type", self.price_type), *self.price_types), PRICE_TYPES)
        object.__setattr__(self, "base_interval", str(base))
        object.__setattr__(self, "derived_intervals", tuple(str(i) for i in derived if i != base))

    def with_state(
        self, *, is_loaded: bool | None = None, expected_from: dt.date | None = None, snapshot: Snapshot | None = None
    ) -> SymbolSessionData:
        """Copy bound to `snapshot`, with these states (None: as they are); fields that were checked are not checked again."""
        fields: dict[str, object] = {"_snapshot": snapshot}
        if is_loaded is not None:
            fields["is_loaded"] = is_loaded
        if expected_from is not None:
            fields["expected_from"] = expected_from
        return self._copy(fields)

    def renamed(self, symbol: str, source_symbol: str) -> SymbolSessionData:
        """Copy of another symbol with the same other fields, which are not checked again; bound to no snapshot."""
        one_name("symbol", symbol)
        return self._copy({"symbol": symbol, "source_symbol": source_symbol, "_snapshot": None})

    def _copy(self, changed: Mapping[str, object]) -> SymbolSessionData:
        # The axis and the key of the base depend on no field that a copy changes, and thousands of symbols are asked for them.
        copied = object.__new__(type(self))
        kept = type(self).__dataclass_fields__.keys() | {"spec", "base_key"}
        vars(copied).update({name: value for name, value in vars(self).items() if name in kept})
        vars(copied).update(changed)
        return copied

    def requires_other_than(self, registered: SymbolSessionData | None) -> bool:
        """Whether derived intervals, price types, first or last session differ from `registered`'s (None: True)."""
        if registered is None:
            return True
        fields = ("derived_intervals", "price_types", "first_session", "last_session")
        return any(getattr(registered, name) != getattr(self, name) for name in fields)

    def check_replaces(self, registered: SymbolSessionData | None) -> None:
        """Raise ParameterError if it has another base panel than `registered`, or lacks a derived interval of it."""
        if registered is None:
            return
        if registered.base_key != self.base_key:
            raise ParameterError(
                f"symbol: {self.symbol} is registered with calendar {registered.calendar} and base "
                f"{registered.base_interval}; received {self.calendar} and {self.base_interval}; remove_symbol first"
            )
        lost = [interval for interval in registered.derived_intervals if interval not in self.derived_intervals]
        if lost:
            raise ParameterError(
                f"symbol: {self.symbol} has {', '.join(lost)} derived, which would no longer follow its base; "
                "remove_symbol first, or keep them among derived_intervals"
            )

    @property
    def base(self) -> Interval:
        """The base interval."""
        return Interval.parse(self.base_interval)

    @cached_property
    def spec(self) -> GridSpec:
        """Axis of its rows: `GridSpec` of calendar, segments, alignment and zone."""
        return _axis(self.calendar, self.segments, self.align, self.zone)

    @cached_property
    def base_key(self) -> PanelKey:
        """Panel key of its base bars: source bars, or derived bars where `base_from` is ticks or quotes."""
        if self.base_from == "bars":
            return PanelKey.of_source("bars", self.base, self.spec)
        return PanelKey.of_derived_bars(self.base, self.spec)

    def key_of(self, interval: str | Interval | None = None) -> PanelKey:
        """Panel key of its bars at an interval: `base_key` for the base (None), else that of derived bars."""
        step = Interval.parse(self.base_interval if interval is None else interval)
        return self.base_key if step == self.base else PanelKey.of_derived_bars(step, self.spec)

    def definitions_of(self, interval: str | Interval | None = None) -> frozenset[Hashable]:
        """Frozenset of the definitions in `indicators` whose interval is this one (None: the base)."""
        step = Interval.parse(self.base_interval if interval is None else interval)
        return frozenset(definition for definition, at in self.indicators if Interval.parse(at) == step)

    def bars(self, interval: str | Interval | None = None, price_type: Names | None = None) -> pl.DataFrame:
        """Its `bars` table at one interval (None: base) and price type (None: its own); IntervalError for one it has not.

        Raises
        ------
        IntervalError
            It is not derived to the interval and has no bars of it; the message lists those that it has.
        """
        key, sides = self.key_of(interval), names_of("price_type", price_type) or self.price_type
        if str(key.interval) in (self.base_interval, *self.derived_intervals):
            return self._bound.bars_of(key, self.symbol, sides)
        return self._bound.bars(self.symbol, key.interval, sides)  # kept beside the base, or not there at all

    @property
    def bars_base(self) -> pl.DataFrame:
        """`bars` table at the base interval, of its own price type only."""
        return self.bars()

    @property
    def bars_derived(self) -> dict[str, pl.DataFrame]:
        """Derived interval -> `bars` table, of its own price type only."""
        return {interval: self.bars(interval) for interval in self.derived_intervals}

    @property
    def latest_bar(self) -> dict[str, object] | None:
        """Last base bar of its price type as a dict, final or not; None without bars."""
        bars = self.bars_base
        return bars.row(-1, named=True) if bars.height else None

    @property
    def bar_quality(self) -> dict[str, pl.DataFrame]:
        """Interval (base and derived) -> stored quality per session, of all price types."""
        return StoredFrames(ASSIGNMENTS["bar_quality"], self._per_interval("quality"))

    @property
    def bar_gaps(self) -> dict[str, pl.DataFrame]:
        """Interval (base and derived) -> stored gaps, of all price types; an empty frame without a gap."""
        return StoredFrames(ASSIGNMENTS["bar_gaps"], self._per_interval("gaps"))

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
        """Base bars in a slot (none off grid) of the current session (`Snapshot.current_session`)."""
        bound = self._bound
        rows = bound.rows_of(self.base_key, bound.series_of([self.symbol], [self.price_type]))
        rows = rows.filter(pl.col("slot").is_not_null())
        today = pl.col("session") == pl.lit(bound.current_session, pl.Date)
        return bound.bars_table(self.base_key, rows.filter(today))

    @property
    def session_volume(self) -> float:
        """Sum of `volume` of `session_bars`; 0.0 without bars."""
        return float(self.session_bars["volume"].sum())

    @property
    def session_high(self) -> float | None:
        """Max `high` of `session_bars`; None without bars."""
        return self.session_bars["high"].max()  # type: ignore[return-value]

    @property
    def session_low(self) -> float | None:
        """Min `low` of `session_bars`; None without bars."""
        return self.session_bars["low"].min()  # type: ignore[return-value]

    @property
    def historical_bars(self) -> dict[str, dict[dt.date, pl.DataFrame]]:
        """Interval -> trade date -> bars, of the last `history_sessions` (0: all) before the current session."""
        current, history = self._bound.current_session, {}
        for interval in (self.base_interval, *self.derived_intervals):
            bars = self.bars(interval)
            past = bars if current is None else bars.filter(pl.col("session") < current)
            if self.history_sessions:
                last = past["session"].unique().sort().tail(self.history_sessions)
                past = past.filter(pl.col("session").is_in(last.implode()))
            parts = past.partition_by("session", as_dict=True, maintain_order=True)
            history[interval] = {key[0]: frame for key, frame in parts.items()}
        return history

    @property
    def historical_indicators(self) -> dict[str, dict[str, object]]:
        """Interval -> stored averages and extremes of the sessions before the current; intervals without any left out.

        An interval without an earlier session is left out; all are, while no `IndicatorManager` has stepped since the
        session became current (`engine.load` and sessions do that).
        """
        bound, values = self._bound, {}
        ours = pl.col("series").is_in(bound.series_of([self.symbol], [self.price_type]))
        current = pl.col("before") == pl.lit(bound.current_session, pl.Date)
        for interval in (self.base_interval, *self.derived_intervals):
            stored = bound.trailing.get(self.key_of(interval))
            rows = None if stored is None else stored.filter(ours & current)
            if rows is not None and rows.height:
                values[interval] = rows.drop("series", "before").row(0, named=True)
        return values

    def indicator_values(self, interval: str | Interval | None = None) -> pl.DataFrame:
        """`ts, session` and stored indicator values per bar of an interval (None: base); empty if none; IntervalError: lacks it.

        `ts, session` alone while none is computed; IntervalError for an interval that it has not.
        """
        bound, group = self._bound, (self.key_of(interval), self.definitions_of(interval))
        own = map(Interval.parse, (self.base_interval, *self.derived_intervals))
        check_known_intervals("interval", [Interval.parse(interval or self.base_interval)], own, self.symbol)
        if group not in bound.indicators:
            return pl.DataFrame(schema={"ts": TS, "session": pl.Date()})
        rows = bound.indicators[group].of_series(bound.series_of([self.symbol], [self.price_type]))
        return rows.select("ts", "session", pl.exclude("ts", "session", "series", "revision"))

    @property
    def latest_quote(self) -> dict[str, object] | None:
        """Last quote as a dict with `source`; no quote and `synthetic_quotes`: last close as bid and ask; else None."""
        bar = self.latest_bar if self.synthetic_quotes and not self.quotes.height else None
        if bar is not None:
            return {"ts": bar["ts_end"], "bid": bar["close"], "ask": bar["close"], "source": "bar"}
        return {**self.quotes.row(-1, named=True), "source": "quote"} if self.quotes.height else None

    @property
    def latest_trade(self) -> dict[str, object] | None:
        """Last tick as a dict; None without ticks."""
        return self.ticks.row(-1, named=True) if self.ticks.height else None

    @property
    def spread(self) -> float | None:
        """Ask minus bid of `latest_quote` (0 for a synthetic one); None without a quote or without a side."""
        quote = self.latest_quote or {}
        bid, ask = quote.get("bid"), quote.get("ask")
        return ask - bid if isinstance(bid, float) and isinstance(ask, float) else None

    @property
    def last_update(self) -> dt.datetime | None:
        """Max `ts` (start) of the base bars of its price type; None without bars."""
        return self.bars_base["ts"].max()  # type: ignore[return-value]

    @property
    def bars_updated(self) -> bool:
        """Whether any of its bars, source or derived, has a revision above `exported_revision`."""
        return self._updated("bars")

    @property
    def quotes_updated(self) -> bool:
        """Whether any of its quotes has a revision above `exported_revision`."""
        return self._updated("quotes")

    @property
    def ticks_updated(self) -> bool:
        """Whether any of its ticks has a revision above `exported_revision`."""
        return self._updated("ticks")

    @property
    def _bound(self) -> Snapshot:
        """The snapshot it belongs to; UnknownSymbolError where it was not taken from a store."""
        if self._snapshot is None:
            raise UnknownSymbolError(f"symbol: {self.symbol} is not in a store; take it from get_symbol_data()")
        return self._snapshot

    def _summary(self) -> Summary:
        """Settings; per interval bars, first, last session, missing, gaps, quality; no snapshot: settings only."""
        facts = {
            "calendar": self.calendar,
            "price type": self.price_type,
            "segments": self.segments,
            "source": self.source,
        }
        title = f"SymbolSessionData {self.symbol}"
        if self._snapshot is None:
            return Summary(title, {**facts, "base": self.base_interval, "derived": self.derived_intervals})
        mine = pl.col("price_type") == self.price_type
        rows = []
        for interval in (self.base_interval, *self.derived_intervals):
            bars, gaps = (
                self.bars(interval),
                self.bar_gaps[interval].filter(mine & IS_MISSING),
            )
            quality = self.bar_quality[interval].filter(mine)
            expected, present = quality.select(pl.col("expected", "present").sum()).row(0)
            share = 100.0 * present / expected if expected else None
            first, last, longest = bars["session"].min(), bars["session"].max(), gaps["bar_count"].max()
            rows.append((interval, bars.height, first, last, expected - present, gaps.height, longest, share))
        raw = {kind: getattr(self, kind).height or None for kind in ("quotes", "ticks", "open_interest")}
        return Summary(
            title, facts | raw, ("interval", "bars", "first", "last", "missing", "gaps", "longest", "quality"), rows
        )

    def _per_interval(self, table: str) -> dict[str, pl.DataFrame]:
        frame = self._bound.gaps([self.symbol]) if table == "gaps" else self._bound.quality([self.symbol])
        return {i: frame.filter(pl.col("interval") == i) for i in (self.base_interval, *self.derived_intervals)}

    def _raw(self, kind: Kind) -> pl.DataFrame:
        return self._bound.raw_of(PanelKey.of_source(kind, None, self.spec), [self.symbol])

    def _updated(self, kind: str) -> bool:
        """Whether rows of a kind changed since the last export."""
        # Read from the rows and not from the change log, which forgets.
        bound = self._bound
        ours = bound.series_of([self.symbol])
        revisions = (bound.rows_of(key, ours)["revision"] for key in bound.panels if key.kind == kind)
        return any(bool((one > bound.exported_revision).any()) for one in revisions)
