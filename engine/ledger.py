"""Stored outcomes (gaps, quality) of one interval, edited row by row at the cost of the sessions that still move.

Rows of the last sessions stand apart from settled ones, so that a session that grows by the minute does not copy what
lies before it. A ledger never changes: an edit gives a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl

from engine.panel import looked_up, numbers

MOVING_SESSIONS = 2  # a session, and the one before it whose late rows still come


class Edited(NamedTuple):
    """What came of an edit: the ledger, and `series, session` of the rows that are new, gone or other than before."""

    ledger: Ledger
    touched: pl.DataFrame


@dataclass(frozen=True)
class Ledger:
    """Rows with the `revision` that wrote each, sorted by `order`.

    Attributes
    ----------
    order : tuple of str
        What identifies a row, and how rows are sorted; begins with `series`.
    settled, moving : DataFrame
        Rows of former sessions, and of the last `MOVING_SESSIONS`.
    """

    order: tuple[str, ...]
    settled: pl.DataFrame
    moving: pl.DataFrame

    @classmethod
    def empty(cls, schema: dict[str, pl.DataType], order: tuple[str, ...]) -> Ledger:
        """A ledger without rows."""
        none = pl.DataFrame(schema={**schema, "revision": pl.Int64()})
        return cls(order, none, none)

    @cached_property
    def frame(self) -> pl.DataFrame:
        """All rows, sorted by `order`."""
        if not self.settled.height or not self.moving.height:
            return self.settled if self.settled.height else self.moving
        return pl.concat([self.settled, self.moving]).sort(self.order)

    def since(self, session: object) -> pl.DataFrame:
        """Rows among which are all of `session` and later ones, sorted by `order`: as few as can be had without a filter."""
        return self.moving if self._is_moving(session) else self.frame

    def of_sessions(self, scope: pl.DataFrame) -> pl.DataFrame:
        """Rows of some sessions (`series, session`)."""
        if scope.is_empty():
            return self.moving.clear()
        return self.since(scope["session"].min()).join(
            scope, on=["series", "session"], how="semi", maintain_order="left"
        )

    def without(self, series: list[int]) -> Ledger:
        """The ledger without these series."""
        keep = ~pl.col("series").is_in(series)
        return Ledger(self.order, self.settled.filter(keep), self.moving.filter(keep))

    def edited(self, gone: pl.DataFrame, come: pl.DataFrame, revision: int) -> Edited:
        """Take rows away and put others in their place; one that comes as it was keeps its revision.

        Parameters
        ----------
        gone : DataFrame
            Rows of this ledger.
        come : DataFrame
            Rows without `revision`.
        revision : int
            That of the edit.
        """
        values = come.columns
        if come.is_empty() and gone.is_empty():
            return Edited(self, come)
        # Each row is there once on either side: one that stands alone is other than before.
        alone = pl.concat([gone[values], come]).is_unique()
        if not alone.any():
            return Edited(self, come.clear())
        new, lost = come.filter(alone[gone.height :]), gone.filter(alone[: gone.height])
        touched = pl.concat([new, lost[values]])
        fresh = new.with_columns(pl.lit(revision, pl.Int64).alias("revision"))
        if self._is_moving(touched["session"].min()):
            return Edited(self._parted(self.settled, _swapped(self.moving, lost, fresh, self.order)), touched)
        return Edited(self._parted(self.moving.clear(), _swapped(self.frame, lost, fresh, self.order)), touched)

    def _is_moving(self, session: object) -> bool:
        return not self.settled.height or bool(session > self.settled["session"].max())  # type: ignore[operator]

    def _parted(self, settled: pl.DataFrame, rows: pl.DataFrame) -> Ledger:
        sessions = rows["session"].unique().sort()
        if len(sessions) <= MOVING_SESSIONS:
            return Ledger(self.order, settled, rows)
        moves = rows["session"] >= sessions[-MOVING_SESSIONS]
        past = rows.filter(~moves)
        settled = pl.concat([settled, past]).sort(self.order) if settled.height else past
        return Ledger(self.order, settled, rows.filter(moves))


def _swapped(held: pl.DataFrame, gone: pl.DataFrame, come: pl.DataFrame, order: tuple[str, ...]) -> pl.DataFrame:
    # Both are sorted, so their rows are put together by place: sorting them again would cost all that is held.
    come = come[held.columns].sort(order)
    if gone.height == held.height:
        return come
    columns = [numbers(held, name) for name in order]
    stays = np.ones(held.height, bool)
    at, there = looked_up(columns, [numbers(gone, name) for name in order])
    stays[at[there]] = False
    before, _ = looked_up(columns, [numbers(come, name) for name in order])
    ahead = np.concatenate([[0], np.cumsum(stays)])[before]
    places = np.insert(np.flatnonzero(stays), ahead, held.height + np.arange(come.height))
    return pl.concat([held, come])[places]
