"""Stored outcomes (gaps, quality) of one interval, edited row by row at the cost of the rows that change.

A ledger is a tuple of parts, each sorted, the newest last; parts are merged by size tiers, and a row that goes is marked
in its part and left out when that is merged. So what has settled is not copied by what still moves, however far a session
is. A ledger never changes: an edit gives a new one that shares what it can.
"""

from __future__ import annotations

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
    """What came of an edit: the ledger, and `series, session` of the rows that are new, gone or other than before."""

    ledger: VersionedRows
    touched: pl.DataFrame


@dataclass(frozen=True, eq=False)
class MaskedRun:
    """Rows of a ledger that came about together, sorted, and which of them are still there.

    Attributes
    ----------
    held : DataFrame
    stays : array of bool, optional
        None while all of them do.
    """

    held: pl.DataFrame
    stays: Flags | None = None

    @cached_property
    def height(self) -> int:
        """How many rows are there."""
        return self.held.height if self.stays is None else int(self.stays.sum())

    @cached_property
    def rows(self) -> pl.DataFrame:
        """The rows that are there."""
        return self.held if self.stays is None else self.held.filter(pl.Series(self.stays))

    @cached_property
    def sessions(self) -> tuple[Any, Any]:
        """First and last session, of rows that are gone too."""
        return self.held["session"].min(), self.held["session"].max()

    @cached_property
    def ends(self) -> int:
        """Of rows of runs: where the last of them ends, as `place` counts."""
        return int(_place(self.held, self.held["slot"].to_numpy() + self.held["bar_count"].to_numpy()).max())

    @cached_property
    def segments(self) -> tuple[Ints, Ints]:
        """Each series and ordinal as one number, and where its rows begin; at the end, where the last one's end."""
        keys = pack_columns(self.held, "series", "ordinal")
        begins = np.concatenate([[0], np.flatnonzero(keys[1:] != keys[:-1]) + 1])
        return keys[begins], np.append(begins, len(keys))

    def reaching(self, scan: pl.DataFrame) -> pl.DataFrame:
        """As `VersionedRows.reaching`, of this part."""
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
        """As `VersionedRows.leading`, of this part."""
        known, edges = self.segments
        at, there = find_keys(known, pack_columns(segments, "series", "ordinal"))
        first = edges[at[there]]
        first = first[self.held["slot"].to_numpy()[first] == 0]
        rows: pl.DataFrame = self.held[first if self.stays is None else first[self.stays[first]]]
        return rows

    def less(self, gone: pl.DataFrame, order: tuple[str, ...]) -> MaskedRun:
        """The part without rows that have these keys."""
        if self.sessions[0] > gone["session"].max() or self.sessions[1] < gone["session"].min():
            return self
        at, there = find_tuples(
            [column_values(self.held, name) for name in order], [column_values(gone, name) for name in order]
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
        """A ledger without rows."""
        return cls(order, pl.DataFrame(schema={**schema, "revision": pl.Int64()}))

    @cached_property
    def frame(self) -> pl.DataFrame:
        """All rows, sorted by `order`."""
        return self._joined([part.rows for part in self.parts])

    def since(self, session: object) -> pl.DataFrame:
        """Rows among which are all of `session` and later ones, sorted by `order`: as few as can be had without a filter."""
        near = [part.rows for part in self.parts if part.sessions[1] >= session]
        return self.frame if len(near) == len(self.parts) else self._joined(near)

    def of_sessions(self, scope: pl.DataFrame) -> pl.DataFrame:
        """Rows of some sessions (`series, session`), sorted by `order`."""
        if scope.is_empty():
            return self.none
        first, last = scope["session"].min(), scope["session"].max()
        near = [part.rows for part in self.parts if part.sessions[1] >= first and part.sessions[0] <= last]
        return self._joined([
            rows.join(scope, on=["series", "session"], how="semi", maintain_order="left") for rows in near
        ])  # fmt: skip

    def reaching(self, scan: pl.DataFrame) -> pl.DataFrame:
        """Rows of runs (`ordinal, slot, bar_count`) that end at a slot or later, in no order.

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
        """Rows of runs that begin with a segment (`series, ordinal`), in no order."""
        return pl.concat([self.none, *(part.leading(segments) for part in self.parts)])

    def without(self, series: list[int]) -> VersionedRows:
        """The ledger without these series."""
        keep = ~pl.col("series").is_in(series)
        return self._of(MaskedRun(rows) for part in self.parts if (rows := part.rows.filter(keep)).height)

    def edited(self, gone: pl.DataFrame, come: pl.DataFrame, revision: int) -> Edit:
        """Take rows away and put others in their place; one that comes as it was keeps its revision.

        Parameters
        ----------
        gone : DataFrame
            Rows of this ledger, or of an earlier one: what has their keys goes.
        come : DataFrame
            Rows without `revision`.
        revision : int
            That of the edit.
        """
        come, gone = _sorted(come, self.order), _sorted(gone, self.order)
        new, lost = self._differing(gone, come)
        touched = pl.concat([new, lost[come.columns]])
        if touched.is_empty():
            return Edit(self, touched)
        fresh = new.with_columns(pl.lit(revision, pl.Int64).alias("revision"))[self.none.columns]
        left = [part.less(lost, self.order) for part in self.parts] if lost.height else self.parts
        parts = [*left, MaskedRun(fresh)] if fresh.height else left
        return Edit(self._of(part for part in parts if part.height), touched)

    def _differing(self, gone: pl.DataFrame, come: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Rows that come and those that go, less those that are on both sides. Both are sorted."""
        at, there = find_tuples(
            [column_values(gone, name) for name in self.order], [column_values(come, name) for name in self.order]
        )
        values = [name for name in come.columns if name not in self.order]
        old, new = gone[at[there]], come.filter(pl.Series(there))
        beside = new[values].hstack([old[name].alias(f"{name}:old") for name in values])
        alike = beside.select(pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"{name}:old")) for name in values))
        same = alike.to_series().to_numpy()
        if not same.any():
            return come, gone
        comes, goes = np.ones(come.height, bool), np.ones(gone.height, bool)
        comes[np.flatnonzero(there)[same]] = False
        goes[at[there][same]] = False
        return come.filter(pl.Series(comes)), gone.filter(pl.Series(goes))

    def _of(self, parts: Iterable[MaskedRun]) -> VersionedRows:
        """The ledger of these parts, merged by size tiers."""
        tiers: list[MaskedRun] = []
        for part in parts:
            tiers.append(part if part.height * 2 >= part.held.height else MaskedRun(part.rows))
            while len(tiers) > 1 and tiers[-1].height * TIER_RATIO >= tiers[-2].height:
                last = tiers.pop()
                tiers[-1] = MaskedRun(merge_sorted((tiers[-1].rows, last.rows), self.order))
        return VersionedRows(self.order, self.none, tuple(tiers))

    def _joined(self, rows: Sequence[pl.DataFrame]) -> pl.DataFrame:
        found = [one for one in rows if one.height]
        if not found:
            return self.none
        return found[0] if len(found) == 1 else merge_sorted(found, self.order)


def _place(rows: pl.DataFrame, slot: NDArray[np.integer[Any]]) -> Ints:
    """One number for `ordinal` and a slot, which grows with time."""
    return pack_pair(rows["ordinal"].to_numpy(), slot)


def _sorted(rows: pl.DataFrame, order: tuple[str, ...]) -> pl.DataFrame:
    return rows if is_strictly_increasing(rows, order) else rows.sort(order)
