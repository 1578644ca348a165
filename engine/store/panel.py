"""A sorted panel of many series that grows by batches: how the store keeps rows of one kind and interval.

A panel is a tuple of parts, each a frame sorted by (series, ts, seq). The first is the largest; appended parts
are merged by size tiers, so a row is copied O(log n) times however often rows arrive. Parts and panels never
change: `upsert` gives a new panel that shares what it can, and a frame sliced from an old one stays as it was.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import or_
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.keys import (
    Ints,
    column_values,
    expand_ranges,
    find_keys,
    find_tuples_within,
    is_strictly_increasing,
    searchsorted_within,
)
from engine.store.deduplication import (
    CORRECTED,
    count,
    differs,
    no_counts,
    settle,
    sum_counts,
    with_verdicts_at_least,
)

TIER_RATIO = 3  # a part is merged into the one before it when it has grown to a third of its size


KEY = ("series", "ts")
TICK_KEY = ("series", "ts", "seq")


@dataclass(frozen=True)
class Upsert:
    """Result of an upsert: the new panel, the rows written and replaced, counts and conflicts.

    Attributes
    ----------
    panel : Panel
        With the rows in it.
    written : DataFrame
        The rows that are new or changed something, sorted by key.
    counts : DataFrame of `series, session, duplicates, corrections` (Int64)
        Rows that repeated what was there, and rows that replaced it.
    conflicts : DataFrame
        Rows of one batch that lost against a later row of the same batch with other values.
    replaced : DataFrame
        The rows of the panel that are there no more, because one of `written` has their key.
    """

    panel: Panel
    written: pl.DataFrame
    counts: pl.DataFrame
    conflicts: pl.DataFrame
    replaced: pl.DataFrame


@dataclass(frozen=True, eq=False)
class SortedRun:
    """A sorted run of a panel with lazily cached statistics, shared by later versions of the panel.

    Attributes
    ----------
    rows : DataFrame
        Sorted by key.
    before : tuple of SortedRun
        The runs before it in the panel, which stay the same as long as it is part of one.
    key : tuple of str
    replaces : bool
        Whether it may replace rows of the runs before it.
    """

    rows: pl.DataFrame
    before: tuple[SortedRun, ...]
    key: tuple[str, ...]
    replaces: bool

    @cached_property
    def newest(self) -> int:
        """Highest revision of the run's rows; 0 without rows."""
        return int(self.rows["revision"].max() or 0)  # type: ignore[arg-type]

    @cached_property
    def latest(self) -> Any:  # noqa: ANN401 - an instant in whatever unit the rows have
        """Max `ts_end` of the run, or max `ts` where rows store no end; None without rows."""
        return self.rows["ts_end"].max() if "ts_end" in self.rows.columns else self.span[1]

    @cached_property
    def span(self) -> tuple[Any, Any]:
        """(min, max) of `ts`; (None, None) without rows."""
        return self.rows["ts"].min(), self.rows["ts"].max()

    def reaches(self, low: Any, high: Any) -> bool:  # noqa: ANN401
        """Whether [low, high] overlaps the run's span of `ts`, bounds included; False without rows or `low`."""
        first, last = self.span
        return first is not None and low is not None and bool(first <= high and last >= low)

    @cached_property
    def row_edges(self) -> tuple[Ints, Ints]:
        """(distinct series in order, row at which each begins with the total row count appended)."""
        series = self.rows["series"].to_numpy()
        begins = np.flatnonzero(series[1:] != series[:-1]) + 1
        begins = np.concatenate([[0], begins]) if len(series) else begins
        return series[begins], np.append(begins, len(series))

    def row_range(self, wanted: Ints) -> tuple[Ints, Ints]:
        """Per wanted series (first row, end row exclusive); both equal for a series that the run does not have."""
        known, edges = self.row_edges
        at, found = find_keys(known, wanted)
        return edges[at], edges[at + found]

    @cached_property
    def sessions(self) -> tuple[Any, Any]:
        """(min, max) of `session`; (None, None) without rows."""
        return self.rows["session"].min(), self.rows["session"].max()

    def begins_before(self, session: dt.date) -> bool:
        """Whether the run has a row of an earlier session."""
        first = self.sessions[0]
        return first is not None and bool(first < session)

    @cached_property
    def extent(self) -> pl.DataFrame:
        """Per series `series, rows, first_ts, last_ts`; `rows` without those that replace one of an earlier run."""
        spans = extent_by_series(self.rows)
        again = [
            near.select(self.key)
            for part in self.before
            if self.replaces and (near := part.rows_shared_with(self)).height
        ]
        if not again:
            return spans
        # A row that was replaced twice is in two of them.
        twice = pl.concat(again).unique().group_by("series").agg(pl.len().cast(pl.Int64).alias("twice"))
        known = spans.join(twice, on="series", how="left", maintain_order="left")
        return known.with_columns(pl.col("rows") - pl.col("twice").fill_null(0)).drop("twice")

    def find_rows(self, wanted: Sequence[Ints]) -> tuple[Ints, NDArray[np.bool_]]:
        """(row index, mask whether present) of each key (one array per column); absent: the insertion point."""
        return find_tuples_within(
            [column_values(self.rows, name) for name in self.key[1:]], wanted[1:], *self.row_range(wanted[0])
        )

    def rows_shared_with(self, other: SortedRun) -> pl.DataFrame:
        """Rows of this run (with its values) whose keys also occur in the other run."""
        return self.rows_with_keys(other.rows, *other.span)

    def rows_with_keys(self, rows: pl.DataFrame, low: Any, high: Any) -> pl.DataFrame:  # noqa: ANN401
        """Rows of this run with `ts` in [low, high] whose keys occur in `rows`; empty when no `ts` is there."""
        if not self.reaches(low, high):
            return self.rows.clear()
        near = self.rows.lazy().filter(pl.col("ts").is_between(low, high)).collect()
        return near.join(rows.select(self.key), on=self.key, how="semi")


@dataclass(frozen=True)
class Panel:
    """Rows of one kind and interval, unique by `key`, as sorted parts.

    Attributes
    ----------
    parts : tuple of DataFrame
        Each sorted by `key`; columns `series` (Int32), `session` (Date), `ts`, values, `revision` (Int64).
    key : tuple of str
        What identifies a row.
    values : tuple of str
        The columns that make two rows of one key the same or different.
    overlapping : bool
        Whether a later part replaces rows of an earlier one.
    """

    parts: tuple[pl.DataFrame, ...]
    key: tuple[str, ...]
    values: tuple[str, ...]
    overlapping: bool = False
    _earlier_runs: tuple[SortedRun, ...] = field(default=(), repr=False, compare=False)

    @cached_property
    def frame(self) -> pl.DataFrame:
        """All rows merged into one frame sorted by key; of a key in several parts only the row of the latest part."""
        return (
            self.parts[0] if len(self.parts) == 1 else merge_sorted(self.parts, self.key, overlapping=self.overlapping)
        )

    @cached_property
    def sorted_runs(self) -> tuple[SortedRun, ...]:
        """One `SortedRun` per part, oldest first; runs of the panel's earlier version are reused with their caches."""
        known = {id(part.rows): part for part in self._earlier_runs}
        found: list[SortedRun] = []
        for rows in self.parts:
            found.append(known.get(id(rows)) or SortedRun(rows, tuple(found), self.key, self.overlapping))
        return tuple(found)

    @property
    def height(self) -> int:
        """Number of rows over all parts; replaced rows count until merged, so it may exceed `frame.height`."""
        return sum(part.height for part in self.parts)

    def of_series(self, series: Sequence[int], test: pl.Expr | None = None) -> pl.DataFrame:
        """Rows of these series that pass `test` (if any), sorted by key; of a key in several parts the latest."""
        wanted = sorted(series)
        if wanted and wanted[-1] - wanted[0] + 1 == len(wanted):  # neighbours, so one slice of each part
            slices = [[_slice(part, wanted[0], wanted[-1])] for part in self.parts]
        else:
            slices = [[_slice(part, one, one) for one in wanted] for part in self.parts]
        if test is None:
            return self._merge_pieces(piece for pieces in slices for piece in pieces)
        # Slices of one part are in order, and put side by side they are filtered at once.
        return self._merge_pieces(pl.concat(pieces).filter(test).rechunk() for pieces in slices if pieces)

    def where(self, test: pl.Expr) -> pl.DataFrame:
        """Rows that pass `test`, sorted by key; parts are filtered first, then of each key the latest stays.

        The test must hold for the row that replaced another whenever it holds for that one: tests of `series`, `session`
        or `ts`, or of a lower bound of `revision`.
        """
        return self._merge_pieces(part.filter(test) for part in self.parts)

    def since(self, revision: int, instant: dt.datetime | None = None) -> pl.DataFrame:
        """Rows with revision > `revision` or end (no `ts_end`: start) after `instant`, sorted by key.

        Parts without such rows are skipped, so the cost depends on the newer rows, not on the size of the panel.
        """
        stamp = "ts_end" if "ts_end" in self.parts[0].columns else "ts"
        test = pl.col("revision") > revision
        if instant is not None:
            test |= pl.col(stamp) > instant
        wanted = (part for part in self.sorted_runs if part.newest > revision or _is_after(part.latest, instant))
        return self._merge_pieces(part.rows.filter(test) for part in wanted)

    def between(self, spans: pl.DataFrame) -> pl.DataFrame:
        """Rows whose `ts` lies in an inclusive span of their series, sorted by key; found by binary search.

        Parameters
        ----------
        spans : DataFrame of `series` (Int32), `first`, `last` (of the type of `ts`)
            Inclusive; sorted by (series, first), those of one series disjoint.
        """
        low, high = spans["first"].min(), spans["last"].max()
        return self._merge_pieces(_rows_in_ranges(part, spans) for part in self.sorted_runs if part.reaches(low, high))

    def without(self, series: Sequence[int]) -> Panel:
        """New panel with the rows of these series filtered out of each part; parts are not merged."""
        kept = tuple(part.filter(~pl.col("series").is_in(list(series))) for part in self.parts)
        return _panel(kept, self)

    def from_session(self, session: dt.date) -> Panel:
        """New panel without the rows of sessions before `session`; parts that have none stay as they are."""
        kept = tuple(
            run.rows.filter(~(pl.col("session") < session).fill_null(value=False))
            if run.begins_before(session)
            else run.rows
            for run in self.sorted_runs
        )
        return _panel(tuple(part for part in kept if part.height) or (self.parts[0].clear(),), self)

    def without_keys(self, keys: pl.DataFrame) -> Panel:
        """New panel without the rows that have one of these keys (columns `key`), in whatever part; other parts stay as they are."""
        low, high = keys["ts"].min(), keys["ts"].max()
        kept = tuple(
            run.rows.join(keys, on=self.key, how="anti", maintain_order="left") if run.reaches(low, high) else run.rows
            for run in self.sorted_runs
        )
        return _panel(kept, self)

    def upsert(self, rows: pl.DataFrame) -> Upsert:
        """New panel with rows added, of each key the last; others: duplicates if equal, else corrections, or conflicts in a batch.

        Parameters
        ----------
        rows : DataFrame
            The panel's columns and `batch` (Int32): in order of arrival, later rows win. Any order of keys.

        Returns
        -------
        Upsert
        """
        rows = rows if is_strictly_increasing(rows, self.key) else rows.sort(self.key, maintain_order=True)
        rows, within, conflicts = settle(rows, self.key, self.values)
        written, against, replaced = self._compare(rows[[name for name in rows.columns if name != "batch"]])
        counts = sum_counts([within, against])
        if written.is_empty():
            return Upsert(self, written, counts, conflicts, replaced)
        parts = (*tuple(part for part in self.parts if part.height), written[self.parts[0].columns])
        grown = Panel(parts, self.key, self.values, self.overlapping or replaced.height > 0, self.sorted_runs)
        return Upsert(grown._tiered(), written, counts, conflicts, replaced)

    def _compare(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """(rows with new key or other values, counts of duplicates and corrections, stored rows they replace); each key once."""
        at, known = self._known(rows)
        if known.is_empty():
            return rows, no_counts(), known
        there = rows[at]
        old = {name: f"{name}:old" for name in self.values}
        beside = there.hstack([known.get_column(name).alias(was) for name, was in old.items()])
        is_other = beside.select(differs(old).alias("differs")).to_series()
        counts = count(there, ~is_other, is_other)
        if "verdict" in rows.columns and "verdict" not in self.values:
            rows = with_verdicts_at_least(rows, at, np.where(is_other.to_numpy(), CORRECTED, 0))
            # What was disputed in this batch, and is what was there: the bar stays, its verdict does not.
            is_other |= (there["verdict"] == "disputed") & (known["verdict"] < "disputed")
        if is_other.all():
            return rows, counts, known
        keep = np.ones(rows.height, bool)
        keep[at] = is_other.to_numpy()
        return rows.filter(pl.Series(keep)), counts, known.filter(is_other)

    def _known(self, rows: pl.DataFrame) -> tuple[Ints, pl.DataFrame]:
        """(indices of `rows` whose key the panel has, its latest row of each, in the same order)."""
        wanted = [column_values(rows, name) for name in self.key]
        places, found = [np.zeros(0, np.int64)], [rows.clear()]
        left = np.arange(rows.height)
        first, last = rows["ts"].min(), rows["ts"].max()
        # What comes lies behind all that is there, as a rule, and then nothing has to be looked up.
        for part in (part for part in reversed(self.sorted_runs) if part.reaches(first, last)):
            low, held = part.find_rows([values[left] for values in wanted])
            if held.any():
                places.append(left[held])
                found.append(part.rows[low[held]])
                left = left[~held]
        if len(found) <= 2:  # noqa: PLR2004 - the empty one and at most one part's
            return places[-1], found[-1]
        at, rows_of_parts = np.concatenate(places), pl.concat(found[1:])
        order = np.argsort(at)
        return at[order], rows_of_parts[order]

    def _merge_pieces(self, pieces: Iterable[pl.DataFrame]) -> pl.DataFrame:
        """Non-empty pieces merged by key, of equal keys the later piece's row; an empty frame if all are empty."""
        found = [piece for piece in pieces if piece.height]
        if not found:
            return self.parts[0].clear()
        return found[0] if len(found) == 1 else merge_sorted(found, self.key, overlapping=self.overlapping)

    def _tiered(self) -> Panel:
        """The panel with its last two runs merged while the last has at least a third of the rows of the one before."""
        parts = list(self.parts)
        while len(parts) > 1 and parts[-1].height * TIER_RATIO >= parts[-2].height:
            last = parts.pop()
            parts[-1] = merge_sorted((parts[-1], last), self.key, overlapping=self.overlapping)
        return _panel(tuple(parts), self)


def append_size_tiered(parts: Sequence[pl.DataFrame], newest: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """Append a frame, then concatenate the last two while the last has at least a third of the other's rows."""
    tiers = [*parts, newest]
    while len(tiers) > 1 and tiers[-1].height * TIER_RATIO >= tiers[-2].height:
        last = tiers.pop()
        tiers[-1] = pl.concat([tiers[-1], last], rechunk=True)
    return tuple(tiers)


def empty_panel(schema: dict[str, pl.DataType], key: tuple[str, ...], values: tuple[str, ...]) -> Panel:
    """Panel without rows of this schema; `key` identifies a row, a difference in `values` makes a correction."""
    return Panel((pl.DataFrame(schema=schema),), key, values)


def _panel(parts: tuple[pl.DataFrame, ...], like: Panel) -> Panel:
    # Only those that stay: what was merged away would be held for as long as the panel is.
    staying = tuple(part for part in like.sorted_runs if any(part.rows is rows for rows in parts))
    return Panel(parts, like.key, like.values, like.overlapping and len(parts) > 1, staying)


def merge_sorted(parts: Sequence[pl.DataFrame], key: tuple[str, ...], *, overlapping: bool = False) -> pl.DataFrame:
    """Merge frames sorted by key into one sorted frame; with `overlapping` only the last frame's row of a key, else all rows."""
    whole = pl.concat(parts)
    if not is_strictly_increasing(whole, key):
        whole = whole.sort(key, maintain_order=True)
    if overlapping:
        whole = whole.filter(
            reduce(or_, (pl.col(name) != pl.col(name).shift(-1) for name in key)).fill_null(value=True)
        )
    return whole.rechunk()


def _is_after(latest: Any, instant: dt.datetime | None) -> bool:  # noqa: ANN401
    return instant is not None and latest is not None and latest > instant


def extent_by_series(rows: pl.DataFrame) -> pl.DataFrame:
    """Per series `series, rows, first_ts, last_ts` of rows that are sorted by series and time."""
    # Rows are sorted by series and time, so its bounds are where a series begins and ends.
    begins = (pl.col("series") != pl.col("series").shift()).fill_null(value=True)
    first = rows.select(begins.arg_true())["series"].cast(pl.Int64)
    last = first.shift(-1, fill_value=rows.height) - 1
    return pl.DataFrame({
        "series": rows["series"].gather(first), "rows": last - first + 1,
        "first_ts": rows["ts"].gather(first), "last_ts": rows["ts"].gather(last),
    })  # fmt: skip


def _slice(part: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    low = part["series"].search_sorted(first, side="left")
    return part.slice(low, part["series"].search_sorted(last, side="right") - low)


def _rows_in_ranges(part: SortedRun, spans: pl.DataFrame) -> pl.DataFrame:
    """Rows of a run with `ts` in one of these inclusive spans, which must be sorted by (series, first) and disjoint."""
    ts = column_values(part.rows, "ts")
    begin, end = part.row_range(spans["series"].to_numpy())
    low = searchsorted_within(ts, column_values(spans, "first"), begin, end)
    high = searchsorted_within(ts, column_values(spans, "last") + 1, low, end)
    count = high - low
    total = int(count.sum())
    if total == 0:
        return part.rows.clear()
    held = np.flatnonzero(count)
    if high[held[-1]] - low[held[0]] == total:
        return part.rows.slice(int(low[held[0]]), total)
    return part.rows[expand_ranges(low, count)]
