"""Open gaps of the running session, asked for again: how often, when, and what became of each. No thread, no clock.

1. `due(now)` notes when new gaps will be asked for, and gives the requests of those whose time has come.
2. Whoever deploys the session asks the source for them, wherever that may block.
3. `settle(requests, now)` is told when the answer was taken in: a gap that is still there waits longer (exponential
   back-off) or, when its budget is used up, is abandoned; one that is gone was filled.

The state of a gap (open, retrying, abandoned, counts and times) is part of its row in the store, so that exports show it.
A gap at the end of what is due still grows: it is asked for, and not abandoned before it has an end.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import polars as pl

from engine.quality.gaps import GAPS
from engine.runtime.config import GapsPart
from engine.schema import Kind
from engine.sources.streams.contract import HistoryRequest
from engine.store.session_data import SessionData
from engine.store.snapshot import PanelKey, Snapshot
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
        """Gaps of this session that are there no more, since they were asked for."""
        return pl.DataFrame(self._filled, schema=REPORT, orient="row")

    def forget(self) -> None:
        """The session is over: its gaps are not asked for any more."""
        self._asked.clear()
        self._filled.clear()

    def due(self, now: dt.datetime) -> list[HistoryRequest]:
        """Requests of the gaps whose time has come; each is out until it is settled."""
        if not self._part.fill or not self._part.retries:
            return []
        with self._session.transaction():
            snapshot = self._session.snapshot()
            return [one for key, kinds in _bases(snapshot).items() for one in self._due_of(snapshot, key, kinds, now)]

    def settle(self, requests: Sequence[HistoryRequest], now: dt.datetime) -> int:
        """Note what became of gaps that were asked for; returns how many are filled."""
        with self._session.transaction():
            snapshot = self._session.snapshot()
            current = {
                key: _current(snapshot, key) for key in {self._asked[one] for one in requests if one in self._asked}
            }
            filled = [one for one in requests if not self._settle_one(snapshot, current, one, now)]
        self._filled += [(one.symbol, one.start, one.end, "filled") for one in filled]
        return len(filled)

    def _due_of(
        self, snapshot: Snapshot, key: PanelKey, kinds: Mapping[str, Kind], now: dt.datetime
    ) -> list[HistoryRequest]:
        held = _current(snapshot, key)
        open_ones = held.filter(pl.col("state").is_in(["open", "retrying"]))
        unseen = open_ones.filter(pl.col("next_retry").is_null())
        first = now + dt.timedelta(seconds=self._part.interval_seconds)
        self._write(key, unseen, unseen.with_columns(pl.lit(first).cast(GAPS["next_retry"]).alias("next_retry")))
        names = snapshot.series.select("series", "symbol")
        ripe = open_ones.filter(pl.col("next_retry") <= now).join(names, on="series", how="left", maintain_order="left")
        requests = [
            HistoryRequest(row["symbol"], kinds[row["symbol"]], key.interval if kinds[row["symbol"]] == "bars" else None,
                    row["gap_start"], row["gap_end"])
            for row in ripe.iter_rows(named=True) if row["symbol"] in kinds
        ]  # fmt: skip
        # Bid and ask of one symbol are one question.
        fresh = [one for one in dict.fromkeys(requests) if one not in self._asked]
        self._asked |= dict.fromkeys(fresh, key)
        return fresh

    def _settle_one(
        self, snapshot: Snapshot, current: Mapping[PanelKey, pl.DataFrame], request: HistoryRequest, now: dt.datetime
    ) -> bool:
        """Whether something of a gap is still there; then its row says what was tried."""
        key = self._asked.pop(request, None)
        if key is None:
            return True
        ours = snapshot.series.filter(pl.col("symbol") == request.symbol)["series"]
        left = current[key].filter(
            pl.col("series").is_in(ours.implode())
            & (pl.col("gap_start") < request.end)
            & (pl.col("gap_end") > request.start)
        )
        if left.is_empty():
            return False
        count = pl.col("retry_count") + 1
        waits = pl.lit(self._part.interval_seconds) * pl.lit(self._part.backoff).pow(count)
        later = pl.lit(now) + pl.duration(
            milliseconds=(waits.clip(upper_bound=LONGEST_WAIT_SECONDS) * 1000).cast(pl.Int64)
        )
        spent = (count >= self._part.retries) & (pl.col("position") != "trailing")
        tried = left.with_columns(
            pl.when(spent).then(pl.lit("abandoned")).otherwise(pl.lit("retrying")).alias("state"),
            count.cast(GAPS["retry_count"]).alias("retry_count"),
            pl.lit(now).cast(GAPS["last_retry"]).alias("last_retry"),
            pl.when(~spent).then(later).cast(GAPS["next_retry"]).alias("next_retry"),
        )
        self._write(key, left, tried)
        return True

    def _write(self, key: PanelKey, old: pl.DataFrame, new: pl.DataFrame) -> None:
        if old.height:
            self._session.set_gaps(key, new.select(list(GAPS)), old)


def _bases(snapshot: Snapshot) -> dict[PanelKey, dict[str, Kind]]:
    """Panels of base bars, and what the bars of each symbol are made of."""
    found: dict[PanelKey, dict[str, Kind]] = {}
    for name, data in snapshot.symbols.items():
        if data.is_loaded:
            found.setdefault(data.base_key, {})[name] = data.base_from
    return found


def _current(snapshot: Snapshot, key: PanelKey) -> pl.DataFrame:
    """Stored gaps of the current session."""
    held: VersionedRows | None = snapshot.gap_rows.get(key)
    if held is None or snapshot.session_date is None:
        return pl.DataFrame(schema={**GAPS, "revision": pl.Int64()})
    return held.since(snapshot.session_date).filter(pl.col("session") == snapshot.session_date)
