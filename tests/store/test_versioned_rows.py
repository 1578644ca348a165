"""A ledger equals a plain dict of rows, whatever is edited, and a row that comes as it was keeps its revision."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import polars as pl
from engine.store.panel import TIER_RATIO
from engine.store.versioned_rows import VersionedRows
from hypothesis import given
from hypothesis import strategies as st

SCHEMA = {"series": pl.Int32(), "session": pl.Date(), "missing": pl.Int64()}
DAY = dt.date(2024, 1, 2)

rows = st.dictionaries(st.tuples(st.integers(1, 3), st.integers(0, 5)), st.integers(0, 2), max_size=6)


@given(st.lists(st.tuples(rows, st.booleans()), max_size=8))
def test_edit_any_rows_equals_a_dict_of_them(edits: list[tuple[dict[tuple[int, int], int], bool]]) -> None:
    ledger, held = VersionedRows.empty(SCHEMA, ("series", "session")), {}
    for revision, (batch, only_gone) in enumerate(edits, start=1):
        keys = pl.DataFrame(
            [(s, DAY + dt.timedelta(days=d)) for s, d in batch],
            schema={"series": pl.Int32, "session": pl.Date},
            orient="row",
        )
        gone = ledger.of_sessions(keys)
        come = pl.DataFrame(
            [] if only_gone else [(s, DAY + dt.timedelta(days=d), value) for (s, d), value in batch.items()],
            schema=SCHEMA,
            orient="row",
        )
        edited = ledger.edited(gone, come, revision)
        before = dict(held)
        for key in batch:
            held.pop(key, None)
        if not only_gone:
            held |= {
                key: (value, before[key][1] if before.get(key, (None,))[0] == value else revision)
                for key, value in batch.items()
            }
        ledger = edited.ledger
        found = {(s, (day - DAY).days): (value, at) for s, day, value, at in ledger.frame.iter_rows()}
        assert found == held
        assert ledger.frame.height == len(held)
        assert ledger.frame.equals(ledger.frame.sort("series", "session"))
        changed = {key for key in batch if before.get(key, (None,))[0] != held.get(key, (None,))[0]}
        assert {(s, (day - DAY).days) for s, day in edited.touched.select("series", "session").iter_rows()} == changed
        heights = [part.height for part in ledger.parts]
        assert all(late * TIER_RATIO < early for early, late in pairwise(heights))
        assert all(part.height and part.held.height <= 2 * part.height for part in ledger.parts)


RUNS = {"series": pl.Int32(), "session": pl.Date(), "ordinal": pl.Int32(), "slot": pl.Int32(), "bar_count": pl.Int32()}
places = st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(0, 9))


def run_rows(found: set[tuple[int, int, int]]) -> pl.DataFrame:
    """Runs of two slots at every third one, so that none touches another."""
    cells = [(series, DAY, ordinal, 3 * slot, 2) for series, ordinal, slot in found]
    return pl.DataFrame(cells, schema=RUNS, orient="row")


@given(
    st.lists(st.tuples(st.sets(places), st.sets(places)), max_size=8),
    st.dictionaries(st.tuples(st.integers(1, 3), st.integers(0, 2)), st.integers(0, 30)),
)
def test_reaching_and_leading_after_any_edits_give_the_runs_that_a_filter_gives(
    edits: list[tuple[set[tuple[int, int, int]], set[tuple[int, int, int]]]], lows: dict[tuple[int, int], int]
) -> None:
    ledger, held = VersionedRows.empty(RUNS, ("series", "ordinal", "slot")), set()
    for revision, (come, gone) in enumerate(edits, start=1):
        leave = held & (gone | come)
        gone_rows = ledger.frame.join(run_rows(leave), on=["series", "ordinal", "slot"], how="semi")
        ledger = ledger.edited(gone_rows, run_rows(come), revision).ledger
        held = (held - leave) | come
    scan = pl.DataFrame(
        [(*segment, low) for segment, low in sorted(lows.items())],
        schema={"series": pl.Int32, "ordinal": pl.Int32, "low": pl.Int32},
        orient="row",
    )
    found = {row[:3] for row in ledger.reaching(scan).select("series", "ordinal", "slot").iter_rows()}
    assert found == {
        (series, ordinal, 3 * slot) for series, ordinal, slot in held if 3 * slot + 2 >= lows.get((series, ordinal), 99)
    }
    first = {row[:3] for row in ledger.leading(scan).select("series", "ordinal", "slot").iter_rows()}
    assert first == {(*segment, 0) for segment in lows if (*segment, 0) in held}


def test_edit_of_a_row_that_was_replaced_meanwhile_leaves_one_row_of_its_key() -> None:
    def row(missing: int) -> pl.DataFrame:
        return pl.DataFrame([(1, DAY, missing)], schema=SCHEMA, orient="row")

    first = VersionedRows.empty(SCHEMA, ("series", "session")).edited(row(0).clear(), row(0), 1).ledger
    second = first.edited(first.frame, row(1), 2).ledger
    assert second.edited(first.frame, row(2), 3).ledger.frame.rows() == [(1, DAY, 2, 3)]
