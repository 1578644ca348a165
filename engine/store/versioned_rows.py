"""Stored outcomes (gaps, quality) of one interval, edited row by row at the cost of the rows that change.

A ledger is a tuple of parts, each sorted, the newest last; parts are merged by size tiers, and a row that goes is marked
in its part and left out when that is merged. So what has settled is not copied by what still moves, however far a session
is. A ledger never changes: an edit gives a new one that shares what it can.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.keys import (
    Ints,
    column_values,
    expand_ranges,
    find_keys,
    find_tuples,
    is_strictly_increasing,
    pack_columns,
    pack_pair,
    searchsorted_within,
)
from engine.store.panel import TIER_RATIO, merge_sorted

Flags = NDArray[np.bool_]


class Edit(NamedTuple):
    """Result of an edit: the new rows, and `series, session` of each row that was added, removed or changed."""

    ledger: VersionedRows
    touched: pl.DataFrame


@dataclass(frozen=True, eq=False)
class MaskedRun:
    """A sorted run of rows with a mask of those that were not removed since.

    Attributes
    ----------
    held : DataFrame
    stays : array of bool, optional
        The rows that were not removed; None while all are there.
    """

    held: pl.DataFrame
    stays: Flags | None = None

    @cached_property
    def height(self) -> int:
        """Number of rows that were not removed."""
        return self.held.height if self.stays is None else int(self.stays.sum())

    @cached_property
    def rows(self) -> pl.DataFrame:
        """The rows that were not removed."""
        return self.held if self.stays is None else self.held.filter(pl.Series(self.stays))

    @cached_property
    def sessions(self) -> tuple[Any, Any]:
        """First and last session, removed rows included."""
        return self.held["session"].min(), self.held["session"].max()

    @cached_property
    def ends(self) -> int:
        """Max packed (ordinal, slot + bar_count) over the gaps of the run, removed ones included."""
        return int(_place(self.held, self.held["slot"].to_numpy() + self.held["bar_count"].to_numpy()).max())

    @cached_property
    def segments(self) -> tuple[Ints, Ints]:
        """(distinct packed (series, ordinal), first row of each with the row count appended); removed rows included."""
        keys = pack_columns(self.held, "series", "ordinal")
        begins = np.concatenate([[0], np.flatnonzero(keys[1:] != keys[:-1]) + 1])
        return keys[begins], np.append(begins, len(keys))

    def reaching(self, scan: pl.DataFrame) -> pl.DataFrame:
        """Rows of this run in a segment of `scan` with slot + bar_count >= its `low`; removed rows left out."""
        low = scan["low"].to_numpy()
        near = np.flatnonzero(_place(scan, low) <= self.ends)
        known, edges = self.segments
        wanted, low = pack_columns(scan, "series", "ordinal")[near], low[near].astype(np.int64)
        at, there = find_keys(known, wanted)
        begin, end = edges[at], edges[at + there]
        first = searchsorted_within(self.held["slot"].to_numpy(), low, begin, end)
        first -= first > begin  # the one before may reach up to it
        picked = expand_ranges(first, end - first)
        low = np.repeat(low, end - first)
        if self.stays is not None:
            picked, low = picked[self.stays[picked]], low[self.stays[picked]]
        rows = self.held[picked]
        return rows.filter(pl.Series(rows["slot"].to_numpy() + rows["bar_count"].to_numpy() >= low))

    def leading(self, segments: pl.DataFrame) -> pl.DataFrame:
        """Rows of this run that begin at slot 0 of one of these segments; removed rows left out."""
        known, edges = self.segments
        at, there = find_keys(known, pack_columns(segments, "series", "ordinal"))
        first = edges[at[there]]
        first = first[self.held["slot"].to_numpy()[first] == 0]
        rows: pl.DataFrame = self.held[first if self.stays is None else first[self.stays[first]]]
        return rows

    def without_keys(self, removed: pl.DataFrame, order: tuple[str, ...]) -> MaskedRun:
        """Run with the rows whose key (columns `order`) is in `removed` (not empty) masked out; the run itself when none is."""
        if self.sessions[0] > removed["session"].max() or self.sessions[1] < removed["session"].min():
            return self
        at, there = find_tuples(
            [column_values(self.held, name) for name in order], [column_values(removed, name) for name in order]
        )
        if not there.any():
            return self
        stays = np.ones(self.held.height, bool) if self.stays is None else self.stays.copy()
        stays[at[there]] = False
        return MaskedRun(self.held, stays)


@dataclass(frozen=True, eq=False)
class VersionedRows:
    """Rows with the `revision` that wrote each, sorted by `order`.

    Attributes
    ----------
    order : tuple of str
        What identifies a row, and how rows are sorted; begins with `series`.
    none : DataFrame
        Its columns, without a row.
    parts : tuple of MaskedRun
        A row is there in one of them.
    """

    order: tuple[str, ...]
    none: pl.DataFrame = field(repr=False)
    parts: tuple[MaskedRun, ...] = ()

    @classmethod
    def empty(cls, schema: dict[str, pl.DataType], order: tuple[str, ...]) -> VersionedRows:
        """Versioned rows of a schema (plus `revision`) and sort order, without a row."""
        return cls(order, pl.DataFrame(schema={**schema, "revision": pl.Int64()}))

    @cached_property
    def frame(self) -> pl.DataFrame:
        """All rows that were not removed, with `revision`, sorted by `order`."""
        return self._merge_pieces([part.rows for part in self.parts])

    def since(self, session: object) -> pl.DataFrame:
        """All rows of parts whose last session is >= `session`, so earlier sessions may be in; sorted by `order`."""
        near = [part.rows for part in self.parts if part.sessions[1] >= session]
        return self.frame if len(near) == len(self.parts) else self._merge_pieces(near)

    def of_sessions(self, scope: pl.DataFrame) -> pl.DataFrame:
        """Rows whose (series, session) is in `scope`, sorted by `order`; none for an empty scope."""
        if scope.is_empty():
            return self.none
        first, last = scope["session"].min(), scope["session"].max()
        near = [part.rows for part in self.parts if part.sessions[1] >= first and part.sessions[0] <= last]
        return self._merge_pieces([
            rows.join(scope, on=["series", "session"], how="semi", maintain_order="left") for rows in near
        ])  # fmt: skip

    def reaching(self, scan: pl.DataFrame) -> pl.DataFrame:
        """Gaps in a segment of `scan` with slot + bar_count >= its `low`, so adjacent ones too; unordered.

        Parts that end before all of these slots are not looked at, so this costs by what is found.

        Parameters
        ----------
        scan : DataFrame of `series, ordinal, low`
            Segments, each once, and from which slot on.
        """
        if scan.is_empty():
            return self.none
        first = _place(scan, scan["low"].to_numpy()).min()
        return pl.concat([self.none, *(part.reaching(scan) for part in self.parts if part.ends >= first)])

    def leading(self, segments: pl.DataFrame) -> pl.DataFrame:
        """Gaps that begin at slot 0 of one of these segments (`series, ordinal`), in no order."""
        return pl.concat([self.none, *(part.leading(segments) for part in self.parts)])

    def without(self, series: list[int]) -> VersionedRows:
        """New versioned rows without the rows of these series."""
        keep = ~pl.col("series").is_in(series)
        return self._of(MaskedRun(rows) for part in self.parts if (rows := part.rows.filter(keep)).height)

    def from_session(self, session: dt.date) -> VersionedRows:
        """New versioned rows without those of sessions before `session`."""
        later = pl.col("session") >= session
        kept = (one if one.sessions[0] >= session else MaskedRun(one.rows.filter(later)) for one in self.parts)
        return self._of(one for one in kept if one.height)

    def edited(self, removed: pl.DataFrame, added: pl.DataFrame, revision: int) -> Edit:
        """Remove keys of `removed`, add `added` with `revision`; rows equal in both stay; `touched`: rows added and rows removed.

        Parameters
        ----------
        removed : DataFrame
            Rows of this ledger, or of an earlier one: what has their keys goes.
        added : DataFrame
            Rows without `revision`.
        revision : int
            That of the edit.
        """
        added, removed = _sorted(added, self.order), _sorted(removed, self.order)
        new, lost = self._differing(removed, added)
        touched = pl.concat([new, lost[added.columns]])
        if touched.is_empty():
            return Edit(self, touched)
        fresh = new.with_columns(pl.lit(revision, pl.Int64).alias("revision"))[self.none.columns]
        left = [part.without_keys(lost, self.order) for part in self.parts] if lost.height else self.parts
        parts = [*left, MaskedRun(fresh)] if fresh.height else left
        return Edit(self._of(part for part in parts if part.height), touched)

    def _differing(self, removed: pl.DataFrame, added: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """(`added`, `removed`) without the rows equal in both (null equals null); both must be sorted by `order`, and stay so."""
        at, there = find_tuples(
            [column_values(removed, name) for name in self.order], [column_values(added, name) for name in self.order]
        )
        values = [name for name in added.columns if name not in self.order]
        old, new = removed[at[there]], added.filter(pl.Series(there))
        beside = new[values].hstack([old[name].alias(f"{name}:old") for name in values])
        alike = beside.select(pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}:old")) for name in values))
        same = alike.to_series().to_numpy()
        if not same.any():
            return added, removed
        comes, goes = np.ones(added.height, bool), np.ones(removed.height, bool)
        comes[np.flatnonzero(there)[same]] = False
        goes[at[there][same]] = False
        return added.filter(pl.Series(comes)), removed.filter(pl.Series(goes))

    def _of(self, parts: Iterable[MaskedRun]) -> VersionedRows:
        """Versioned rows of these parts; parts over half removed are compacted, the last merges if a third of the one before."""
        tiers: list[MaskedRun] = []
        for part in parts:
            tiers.append(part if part.height * 2 >= part.held.height else MaskedRun(part.rows))
            while len(tiers) > 1 and tiers[-1].height * TIER_RATIO >= tiers[-2].height:
                last = tiers.pop()
                tiers[-1] = MaskedRun(merge_sorted((tiers[-1].rows, last.rows), self.order))
        return VersionedRows(self.order, self.none, tuple(tiers))

    def _merge_pieces(self, rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Non-empty pieces merged into one frame sorted by `order`; an empty frame if all are empty."""
        found = [one for one in rows if one.height]
        if not found:
            return self.none
        return found[0] if len(found) == 1 else merge_sorted(found, self.order)


def _place(rows: pl.DataFrame, slot: NDArray[np.integer[Any]]) -> Ints:
    """Packed (ordinal, slot) of each row: one integer that grows with time."""
    return pack_pair(rows["ordinal"].to_numpy(), slot)


def _sorted(rows: pl.DataFrame, order: tuple[str, ...]) -> pl.DataFrame:
    return rows if is_strictly_increasing(rows, order) else rows.sort(order)
