"""Panels of a store and their outcomes: stored rows, counts, gaps, quality and indicators of all series. Immutable.

Frames refer to series by number; `series` maps numbers to symbols and price types.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from engine.arguments import Names, check_known, names_of
from engine.calendars.providers import SessionCalendar
from engine.errors import ParameterError
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.schema import PRICE_TYPES, Kind, Schema, empty
from engine.store.panel import Panel
from engine.store.panel_key import RAW_PRICE_TYPES, IndicatorKey, PanelKey
from engine.store.versioned_rows import VersionedRows
from engine.store.views import GAPS_VIEW, QUALITY_VIEW, SESSIONS_VIEW, with_series_names

VALID_PRICE_TYPES = {*PRICE_TYPES, *RAW_PRICE_TYPES.values()}
SERIES = {"series": pl.Int32(), "symbol": pl.String(), "price_type": pl.String()}


@dataclass(frozen=True, kw_only=True, repr=False)
class PanelState:
    """Rows and outcomes of all series at one revision.

    Attributes
    ----------
    series : DataFrame of `series, symbol, price_type`
    panels : mapping of PanelKey to Panel
    counts : mapping of PanelKey to DataFrame
        Duplicates, corrections and, for base bars, anomalies per series and session.
    observed_range : mapping of PanelKey to DataFrame
        First and last session of each series with a stored row (`insertion.session_ranges`).
    excluded_range : mapping of PanelKey to DataFrame
        The same of rows that the requested dates excluded, clipped to these dates.
    axes : mapping of GridSpec to SessionGrid
        Each at `AXIS_INTERVAL`, over the dates of the data.
    axis_dates : mapping of GridSpec to (date, date)
        The first and last date that each axis was built for.
    calendars : mapping of str to SessionCalendar
        By the code that symbols name.
    gap_rows, quality_rows : mapping of PanelKey to VersionedRows
        Stored outcomes of an interval.
    filled_rows : mapping of PanelKey to VersionedRows
        Gaps, or parts of them, that a request filled: their slots are not missing any more.
    indicators : mapping of IndicatorKey to Panel
        Values per bar.
    trailing : mapping of PanelKey to DataFrame
        Statistics of the sessions before a date, per series.
    removed_bars : mapping of PanelKey to DataFrame of `removal.REMOVED_BARS`
        Derived bars that are there no more, because a correction took away all that they were made of.
    """

    series: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SERIES))
    panels: Mapping[PanelKey, Panel] = field(default_factory=dict)
    counts: Mapping[PanelKey, pl.DataFrame] = field(default_factory=dict)
    observed_range: Mapping[PanelKey, pl.DataFrame] = field(default_factory=dict)
    excluded_range: Mapping[PanelKey, pl.DataFrame] = field(default_factory=dict)
    axes: Mapping[GridSpec, SessionGrid] = field(default_factory=dict)
    axis_dates: Mapping[GridSpec, tuple[dt.date, dt.date]] = field(default_factory=dict)
    calendars: Mapping[str, SessionCalendar] = field(default_factory=dict)
    gap_rows: Mapping[PanelKey, VersionedRows] = field(default_factory=dict)
    quality_rows: Mapping[PanelKey, VersionedRows] = field(default_factory=dict)
    filled_rows: Mapping[PanelKey, VersionedRows] = field(default_factory=dict)
    indicators: Mapping[IndicatorKey, Panel] = field(default_factory=dict)
    trailing: Mapping[PanelKey, pl.DataFrame] = field(default_factory=dict)
    removed_bars: Mapping[PanelKey, pl.DataFrame] = field(default_factory=dict)

    def grid(self, spec: GridSpec, interval: Interval) -> SessionGrid:
        """Stored axis `spec` cut at `interval`, over the data's dates; ParameterError when no row is placed on it."""
        if spec not in self.axes:
            raise ParameterError(f"spec: no row lives on {spec} in this store")
        return self.axes[spec].at(interval)

    def panels_of(self, kind: Kind) -> list[PanelKey]:
        """Keys of the panels of a kind, sorted by interval, origin and axis."""
        return sorted((key for key in self.panels if key.kind == kind), key=lambda key: key.sort_key)

    def series_of(self, symbols: Names | None = None, price_types: Names | None = None) -> list[int]:
        """Ascending numbers of series with one of the symbols AND of the price types (None: any); ParameterError: no price type."""
        names, sides = names_of("symbols", symbols, least=0), names_of("price_types", price_types, least=0)
        chosen = self.series
        if names is not None:
            chosen = chosen.filter(pl.col("symbol").is_in(names))
        if sides is not None:
            check_known("price_types", sides, VALID_PRICE_TYPES)
            chosen = chosen.filter(pl.col("price_type").is_in(sides))
        return chosen["series"].sort().to_list()

    def rows_of(self, key: PanelKey, series: Sequence[int] | None = None) -> pl.DataFrame:
        """Stored rows of a panel, of these series numbers or all (None), sorted by key; empty if there is no such panel."""
        if key not in self.panels:
            return pl.DataFrame(schema=key.schema)
        panel = self.panels[key]
        return panel.frame if series is None else panel.of_series(series)

    def no_rows_of(self, key: PanelKey) -> pl.DataFrame:
        """Empty frame with the columns of a panel, or of its key's schema when there is no such panel."""
        return self.panels[key].parts[0].clear() if key in self.panels else pl.DataFrame(schema=key.schema)

    def raw_of(self, key: PanelKey, symbols: Names | None = None) -> pl.DataFrame:
        """Public table of a raw panel (`symbol` instead of series; no slot, no revision), of these symbols or all."""
        rows = self.rows_of(key, None if symbols is None else self.series_of(symbols, [RAW_PRICE_TYPES[key.kind]]))
        return self.raw_view(rows).drop("revision")

    def raw_view(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Stored raw rows with `symbol` first, without `series, price_type, slot, ordinal, provenance`; order stays."""
        return with_series_names(rows, self.series).drop("series", "price_type", "slot", "ordinal", "provenance")

    def gaps(self, symbols: Names | None = None) -> pl.DataFrame:
        """Stored `gaps` table (`GAPS_VIEW`), `filled` ones too, of all intervals and price types, of some symbols or all (None)."""
        stored = {key: [rows.frame for rows in ledgers] for key, ledgers in self._outcome_rows("gaps").items()}
        return self._outcome_table(GAPS_VIEW, stored, names_of("symbols", symbols))

    def quality(self, symbols: Names | None = None) -> pl.DataFrame:
        """Stored `quality` table (`QUALITY_VIEW`) of all intervals and price types, of some symbols or all (None)."""
        stored = {key: [rows.frame for rows in ledgers] for key, ledgers in self._outcome_rows("quality").items()}
        return self._outcome_table(QUALITY_VIEW, stored, names_of("symbols", symbols))

    def outcomes(self, table: Literal["gaps", "quality"], scope: pl.DataFrame | None = None) -> pl.DataFrame:
        """`gaps` or `quality` table with each row's `revision`; `scope`: only of its `symbol, price_type, interval, session`.

        Parameters
        ----------
        table : {"gaps", "quality"}
        scope : DataFrame of `symbol, price_type, interval, session`, optional
            Only rows of these.
        """
        columns = {**(GAPS_VIEW if table == "gaps" else QUALITY_VIEW), "revision": pl.Int64()}
        stored = self._outcome_rows(table)
        if scope is None:
            whole = {key: [rows.frame for rows in ledgers] for key, ledgers in stored.items()}
            return self._outcome_table(columns, whole, None)
        numbers = scope.join(self.series, on=["symbol", "price_type"]).select("series", "interval", "session")
        scoped = {
            key: [rows.of_sessions(numbers.filter(interval=str(key.interval))) for rows in ledgers]
            for key, ledgers in stored.items()
        }
        return self._outcome_table(columns, scoped, None)

    def _outcome_rows(self, table: Literal["gaps", "quality"]) -> dict[PanelKey, list[VersionedRows]]:
        """Stored rows of a table by panel: quality, or gaps that are open and those that were filled."""
        parts = (self.quality_rows,) if table == "quality" else (self.gap_rows, self.filled_rows)
        return {
            key: [part[key] for part in parts if key in part] for key in {key: None for part in parts for key in part}
        }

    def _outcome_table(
        self, columns: Schema, outcomes: Mapping[PanelKey, Sequence[pl.DataFrame]], symbols: Names | None
    ) -> pl.DataFrame:
        """Rows of `outcomes` as `columns`, with series names and interval added; of `symbols` only, or of all (None)."""
        series = None if symbols is None else self.series_of(symbols)
        parts = []
        for key in sorted(outcomes, key=lambda key: key.sort_key):
            rows = pl.concat(outcomes[key])
            if len(outcomes[key]) > 1:
                rows = rows.sort("series", "gap_start")
            rows = rows if series is None else rows.filter(pl.col("series").is_in(series))
            interval = pl.lit(str(key.interval)).alias("interval")
            parts.append(with_series_names(rows, self.series).with_columns(interval).select(*columns))
        return pl.concat(parts) if parts else empty(columns)

    def sessions(self, others: Mapping[str, Sequence[dt.date]] | None = None) -> pl.DataFrame:
        """`sessions` table: all segments of each calendar from its first to its last session with a stored row, or of `others`."""
        dates: dict[str, list[dt.date]] = {code: list(days) for code, days in (others or {}).items()}
        for key, panel in self.panels.items():
            for run in panel.sorted_runs:
                if run.rows.height:
                    dates.setdefault(key.spec.calendar, []).extend(run.sessions)
        # From the calendar, because each of its axes reaches no further than its own rows.
        frames = [
            self.calendars[code]
            .segments_in_bounds(min(days), max(days))
            .select(pl.lit(code).alias("calendar"), *SESSIONS_VIEW[1:])
            for code, days in sorted(dates.items())
        ]
        return pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(SESSIONS_VIEW, pl.String))

    def without_series(self, removed: Sequence[int]) -> dict[str, object]:
        """Fields that hold series, each without these ones: rows, counts, ranges, outcomes, indicators, trailing, removed bars."""
        keep = ~pl.col("series").is_in(list(removed))
        return {
            "series": self.series.filter(keep),
            **{
                name: {key: held.without(removed) for key, held in getattr(self, name).items()}
                for name in ("panels", "gap_rows", "quality_rows", "filled_rows", "indicators")
            },
            **{
                name: {key: frame.filter(keep) for key, frame in getattr(self, name).items()}
                for name in ("counts", "observed_range", "excluded_range", "trailing", "removed_bars")
            },
        }

    def from_session(self, session: dt.date, indicators_from: dt.date | None = None) -> dict[str, object]:
        """Fields that hold rows of sessions, each without those before one: rows, counts, outcomes, removed bars, indicators.

        Parameters
        ----------
        session : date
        indicators_from : date, optional
            The first session whose indicators stay; default `session`.
        """
        of_session = {
            name: {key: held.from_session(session) for key, held in getattr(self, name).items()}
            for name in ("panels", "gap_rows", "quality_rows", "filled_rows")
        }
        counted = {
            name: {key: frame.filter(pl.col("session") >= session) for key, frame in getattr(self, name).items()}
            for name in ("counts", "removed_bars")
        }
        first = indicators_from or session
        indicators = {key: panel.from_session(first) for key, panel in self.indicators.items()}
        return {**of_session, **counted, "indicators": indicators}
