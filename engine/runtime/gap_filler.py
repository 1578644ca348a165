"""Retries of open gaps of the running session, within a budget. No thread, no clock.

1. `due(now)` schedules the first retry of new gaps, and returns the requests of gaps whose retry is due.
2. The deployment asks the source for them, where that may block.
3. `settle(requests, now)` is called when the answer was appended: a gap that still exists is retried later (exponential
   back-off) or, when its budget is spent, abandoned; one that does not was filled.

The state of a gap (open, retrying, abandoned, counts and times) is part of its row in the store, so that exports show
it. A gap at the end of what is due still grows: it is retried, and not abandoned before it has an end.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import polars as pl

from engine.quality.gaps import GAPS
from engine.runtime.config import GapsPart
from engine.schema import Kind
from engine.sources.streams.contract import HistoryRequest
from engine.store.panel_key import PanelKey
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot
from engine.store.versioned_rows import VersionedRows

LONGEST_WAIT_SECONDS = 6 * 3600.0
REPORT = {"symbol": pl.String(), "gap_start": GAPS["gap_start"], "gap_end": GAPS["gap_end"], "state": pl.String()}


class GapFiller:
    """Retries the gaps of the current session within a budget.

    Parameters
    ----------
    session : SessionData
    part : GapsPart
        Budget, interval and back-off.
    """

    def __init__(self, session: SessionData, part: GapsPart) -> None:
        self._session = session
        self._part = part
        self._asked: dict[HistoryRequest, PanelKey] = {}
        self._filled: list[tuple[str, dt.datetime, dt.datetime, str]] = []

    @property
    def filled(self) -> pl.DataFrame:
        """Gaps of this session that a request filled: `symbol, gap_start, gap_end, state` (`filled`)."""
        return pl.DataFrame(self._filled, schema=REPORT, orient="row")

    def forget(self) -> None:
        """Clear open requests and the list of filled gaps, for a new session; stored gaps stay."""
        self._asked.clear()
        self._filled.clear()

    def due(self, now: dt.datetime) -> list[HistoryRequest]:
        """Schedule first retries of new gaps; return requests of gaps due by `now`, each once until settled."""
        if not self._part.fill or not self._part.retries:
            return []
        first_retry = pl.lit(now + dt.timedelta(seconds=self._part.interval_seconds)).cast(GAPS["next_retry"])
        due: list[HistoryRequest] = []
        with self._session.transaction():
            snapshot = self._session.snapshot()
            names = snapshot.series.select("series", "symbol")
            for key, kinds in base_kinds(snapshot).items():
                gaps = current_gaps(snapshot, key).filter(pl.col("state").is_in(["open", "retrying"]))
                new = gaps.filter(pl.col("next_retry").is_null())
                self._replace_gaps(key, new, new.with_columns(first_retry.alias("next_retry")))
                ripe = gaps.filter(pl.col("next_retry") <= now)
                ripe = ripe.join(names, on="series", how="left", maintain_order="left")
                for gap in ripe.iter_rows(named=True):
                    kind = kinds.get(gap["symbol"])
                    if kind is None:
                        continue
                    interval = key.interval if kind == "bars" else None
                    request = HistoryRequest(gap["symbol"], kind, interval, gap["gap_start"], gap["gap_end"], key.spec)
                    if request not in self._asked:  # gaps of bid and ask of one symbol are one request
                        self._asked[request] = key
                        due.append(request)
        return due

    def settle(self, requests: Sequence[HistoryRequest], now: dt.datetime) -> int:
        """Per own request: filled if no gap overlaps it, else retry counted or gap abandoned; return number filled."""
        filled = []
        with self._session.transaction():
            snapshot = self._session.snapshot()
            keys = {self._asked[request] for request in requests if request in self._asked}
            gaps = {key: current_gaps(snapshot, key) for key in keys}
            for request in requests:
                key = self._asked.pop(request, None)
                if key is None:
                    continue
                series = snapshot.series.filter(pl.col("symbol") == request.symbol)["series"]
                overlaps = (pl.col("gap_start") < request.end) & (pl.col("gap_end") > request.start)
                remaining = gaps[key].filter(pl.col("series").is_in(series.implode()) & overlaps)
                if remaining.is_empty():
                    filled.append((request.symbol, request.start, request.end, "filled"))
                else:
                    self._replace_gaps(key, remaining, self._after_retry(remaining, now))
        self._filled += filled
        return len(filled)

    def _after_retry(self, gaps: pl.DataFrame, now: dt.datetime) -> pl.DataFrame:
        """Add a retry; `retrying` after a back-off (at most 6 h), or `abandoned` at the limit unless trailing."""
        count = pl.col("retry_count") + 1
        waits = pl.lit(self._part.interval_seconds) * pl.lit(self._part.backoff).pow(count)
        milliseconds = (waits.clip(upper_bound=LONGEST_WAIT_SECONDS) * 1000).cast(pl.Int64)
        next_retry = pl.lit(now) + pl.duration(milliseconds=milliseconds)
        spent = (count >= self._part.retries) & (pl.col("position") != "trailing")
        return gaps.with_columns(
            pl.when(spent).then(pl.lit("abandoned")).otherwise(pl.lit("retrying")).alias("state"),
            count.cast(GAPS["retry_count"]).alias("retry_count"),
            pl.lit(now).cast(GAPS["last_retry"]).alias("last_retry"),
            pl.when(~spent).then(next_retry).cast(GAPS["next_retry"]).alias("next_retry"),
        )

    def _replace_gaps(self, key: PanelKey, old: pl.DataFrame, new: pl.DataFrame) -> None:
        """Replace the stored gaps `old` of a panel by `new` in the store; nothing when `old` is empty."""
        if old.height:
            self._session.set_gaps(key, new.select(list(GAPS)), old)


def base_kinds(snapshot: Snapshot) -> dict[PanelKey, dict[str, Kind]]:
    """Panel of base bars -> {loaded symbol: kind of rows its base is made of (bars, ticks or quotes)}."""
    kinds: dict[PanelKey, dict[str, Kind]] = {}
    for name, data in snapshot.symbols.items():
        if data.is_loaded:
            kinds.setdefault(data.base_key, {})[name] = data.base_from
    return kinds


def current_gaps(snapshot: Snapshot, key: PanelKey) -> pl.DataFrame:
    """Stored gaps of a panel in the store's current session, any state; empty frame without a session or gaps."""
    stored: VersionedRows | None = snapshot.gap_rows.get(key)
    if stored is None or snapshot.session_date is None:
        return pl.DataFrame(schema={**GAPS, "revision": pl.Int64()})
    return stored.since(snapshot.session_date).filter(pl.col("session") == snapshot.session_date)
