"""Retries of open gaps of the running session, within a budget. No thread, no clock.

1. `due(now)` schedules the first retry of new gaps, and returns the requests of gaps whose retry is due: one per symbol
   for several gaps (of ticks and quotes where these are near one another).
2. The deployment asks the source for them, where that may block.
3. `settle(requests, now)` is called when the answer was appended: what was filled of a gap becomes a row of state
   `filled`; what is missing still is retried later (exponential back-off) or, when its budget is spent, abandoned.
4. `fail(requests)` is called when there was no answer: that spends nothing. How long an endpoint that fails is left alone
   is the endpoint's (`HistoryEndpoint`), and not a gap's.

The state of a gap (open, retrying, abandoned, filled, counts and times) is part of its row in the store, so that exports
show it and a restart goes on with it. A gap at the end of what is due still grows: it is retried, and not abandoned before
it has an end; count and back-off begin anew then (`assessment.inherit_retries`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import polars as pl

from engine.quality.gaps import GAPS, slot_runs
from engine.runtime.assessment import GROWING
from engine.runtime.config import GapsPart
from engine.schema import Kind
from engine.sources.streams.contract import HistoryRequest
from engine.store.panel_key import PanelKey
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot
from engine.store.versioned_rows import VersionedRows

LONGEST_WAIT_SECONDS = 6 * 3600.0
LONGEST_PAUSE_SECONDS = 300.0
NEAR = dt.timedelta(
    minutes=10
)  # ticks and quotes in between are asked for again, so gaps that are further apart are not joined
REPORT = {"symbol": pl.String(), "gap_start": GAPS["gap_start"], "gap_end": GAPS["gap_end"], "state": pl.String()}
SLOT = ["series", "ordinal", "slot"]


class AskedGaps(NamedTuple):
    """Gaps of one panel that a request asks for, as they were stored then."""

    key: PanelKey
    gaps: pl.DataFrame


class HistoryEndpoint:
    """Back-off of a source's history while it fails: pauses double from `interval_seconds` on, to 300 s at most."""

    def __init__(self, interval_seconds: float) -> None:
        self._interval = interval_seconds
        self._failures = 0
        self._ready_at: dt.datetime | None = None

    def is_ready(self, now: dt.datetime) -> bool:
        """Whether it may be asked: it answered last, or its pause is over."""
        return self._ready_at is None or now >= self._ready_at

    def answered(self) -> None:
        """It works: nothing is left of former failures."""
        self._failures, self._ready_at = 0, None

    def failed(self, now: dt.datetime) -> None:
        """It did not answer: it is left alone for a pause, twice as long as the last one."""
        pause = min(self._interval * 2.0 ** min(self._failures, 30), max(LONGEST_PAUSE_SECONDS, self._interval))
        self._failures, self._ready_at = self._failures + 1, now + dt.timedelta(seconds=pause)


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
        self._asked: dict[HistoryRequest, AskedGaps] = {}

    @property
    def filled(self) -> pl.DataFrame:
        """Gaps, or parts of gaps, of this session that a request filled: `symbol, gap_start, gap_end, state` (`filled`)."""
        snapshot = self._session.snapshot()
        rows = [stored.frame for stored in snapshot.filled_rows.values()]
        if not rows:
            return pl.DataFrame(schema=REPORT)
        named = pl.concat(rows).filter(pl.col("session") == snapshot.session_date)
        return named.join(snapshot.series, on="series").select(list(REPORT)).sort("symbol", "gap_start")

    def forget(self) -> None:
        """Clear open requests, for a new session; stored gaps stay."""
        self._session.keep_state(self, "_asked")
        self._asked = {}

    def due(self, now: dt.datetime, *, ask: bool = True, leave: frozenset[str] = frozenset()) -> list[HistoryRequest]:
        """Schedule first retries of new gaps; return requests of gaps due by `now`, a symbol's next only once settled.

        `ask`: whether requests are made at all now; without, they stay due, as those of the symbols in `leave` do.
        """
        if not self._part.fill or not self._part.retries:
            return []
        first_retry = pl.lit(now + dt.timedelta(seconds=self._part.interval_seconds)).cast(GAPS["next_retry"])
        due: list[HistoryRequest] = []
        with self._session.transaction():
            self._session.keep_state(self, "_asked")
            snapshot = self._session.snapshot()
            names = snapshot.series.select("series", "symbol")
            waiting = leave | {request.symbol for request in self._asked}
            for key, kinds in base_kinds(snapshot).items():
                gaps = current_gaps(snapshot, key).filter(pl.col("state").is_in(["open", "retrying"]))
                new = gaps.filter(pl.col("next_retry").is_null())
                self._replace_gaps(key, new, new.with_columns(first_retry.alias("next_retry")))
                if not ask:
                    continue
                ripe = gaps.filter(pl.col("next_retry") <= now).join(
                    names, on="series", how="left", maintain_order="left"
                )
                for (symbol,), of_symbol in ripe.group_by("symbol", maintain_order=True):
                    kind = kinds.get(str(symbol))
                    if kind is None or symbol in waiting:
                        continue
                    interval = key.interval if kind == "bars" else None
                    for part in joined_gaps(of_symbol, None if kind == "bars" else NEAR):
                        start, end = part.select(pl.col("gap_start").min(), pl.col("gap_end").max()).row(0)
                        request = HistoryRequest(str(symbol), kind, interval, start, end, key.spec)
                        self._asked[request] = AskedGaps(key, part.select(list(GAPS)))
                        due.append(request)
        return due

    def fail(self, requests: Sequence[HistoryRequest]) -> None:
        """Forget that these were asked for: there was no answer, and their gaps are due as before."""
        self._session.keep_state(self, "_asked")
        self._asked = {request: asked for request, asked in self._asked.items() if request not in requests}

    def settle(self, requests: Sequence[HistoryRequest], now: dt.datetime) -> int:
        """Per own request: store what was filled of its gaps, count a retry of what is left or abandon it; number of filled rows."""
        filled = 0
        with self._session.transaction():
            self._session.keep_state(self, "_asked")
            asked = [self._asked.pop(request) for request in requests if request in self._asked]
            for key in dict.fromkeys(one.key for one in asked):
                wanted = pl.concat([one.gaps for one in asked if one.key == key])
                snapshot = self._session.snapshot()
                gaps = current_gaps(snapshot, key)
                left = gaps.filter(overlap_any(gaps, wanted))
                self._replace_gaps(key, left, self._after_retry(left, now))
                done = filled_parts(snapshot, key, wanted, left, now)
                if done.height:
                    self._session.set_filled(key, done)
                filled += done.height
        return filled

    def _after_retry(self, gaps: pl.DataFrame, now: dt.datetime) -> pl.DataFrame:
        """Add a retry; `retrying` after a back-off (at most 6 h), or `abandoned` at the limit unless it grows."""
        count = pl.col("retry_count") + 1
        waits = pl.lit(self._part.interval_seconds) * pl.lit(self._part.backoff).pow(count)
        milliseconds = (waits.clip(upper_bound=LONGEST_WAIT_SECONDS) * 1000).cast(pl.Int64)
        next_retry = pl.lit(now) + pl.duration(milliseconds=milliseconds)
        spent = (count >= self._part.retries) & ~pl.col("position").is_in(GROWING)
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


def joined_gaps(gaps: pl.DataFrame, within: dt.timedelta | None) -> Iterable[pl.DataFrame]:
    """Gaps of one symbol in groups that one request asks for: all of them (None), or those at most `within` apart."""
    ordered = gaps.sort("gap_start")
    if within is None:
        return [ordered]
    begins = ordered["gap_start"] - ordered["gap_end"].cum_max().shift() > within
    number = begins.fill_null(value=False).cum_sum().alias("group")
    return ordered.with_columns(number).partition_by("group", maintain_order=True, include_key=False)


def overlap_any(gaps: pl.DataFrame, wanted: pl.DataFrame) -> pl.Series:
    """Whether each gap has a slot of one of the wanted gaps (`series, ordinal, slot, bar_count`)."""
    slots = slots_of(gaps.with_row_index("at"), "at").join(slots_of(wanted), on=SLOT, how="semi")
    return pl.int_range(gaps.height, dtype=pl.UInt32, eager=True).is_in(slots["at"].unique().implode())


def slots_of(gaps: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """A row per missing slot: `series, ordinal, slot` and these columns of its gap."""
    ranges = pl.int_ranges("slot", pl.col("slot") + pl.col("bar_count"), dtype=pl.Int32).alias("slot")
    return gaps.select("series", "ordinal", ranges, *columns).explode("slot")


def filled_parts(
    snapshot: Snapshot, key: PanelKey, wanted: pl.DataFrame, left: pl.DataFrame, now: dt.datetime
) -> pl.DataFrame:
    """`GAPS` of state `filled`: runs of slots of the wanted gaps that are not missing any more, with this retry counted."""
    slots = slots_of(wanted).join(slots_of(left), on=SLOT, how="anti").unique().sort(SLOT)
    runs = slot_runs(slots)
    of_gap = wanted.select(
        "series", "ordinal", pl.col("slot").alias("begin"), "session", "segment", "position", "cause", "retry_count"
    )
    runs = runs.join_asof(
        of_gap.sort("begin"), left_on="first", right_on="begin", by=["series", "ordinal"], check_sortedness=False
    )
    grid = snapshot.grid(key.spec, key.grid_interval)
    return runs.with_columns(
        grid.starts(runs["ordinal"], runs["first"]).alias("gap_start"),
        grid.ends(runs["ordinal"], runs["last"]).alias("gap_end"),
        pl.col("first").alias("slot"),
        (pl.col("last") - pl.col("first") + 1).alias("bar_count"),
        pl.col("retry_count") + 1,
        pl.lit("filled").alias("state"),
        pl.lit(now).alias("last_retry"),
        pl.lit(None).alias("next_retry"),
    ).select(pl.col(name).cast(dtype) for name, dtype in GAPS.items())


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
