"""A ledger equals a plain dict of rows, whatever is edited, and a row that comes as it was keeps its revision."""

from __future__ import annotations

import datetime as dt

import polars as pl
from engine.ledger import MOVING_SESSIONS, Ledger
from hypothesis import given
from hypothesis import strategies as st

SCHEMA = {"series": pl.Int32(), "session": pl.Date(), "missing": pl.Int64()}
DAY = dt.date(2024, 1, 2)

rows = st.dictionaries(st.tuples(st.integers(1, 3), st.integers(0, 5)), st.integers(0, 2), max_size=6)


@given(st.lists(st.tuples(rows, st.booleans()), max_size=8))
def test_edit_any_rows_equals_a_dict_of_them(edits: list[tuple[dict[tuple[int, int], int], bool]]) -> None:
    ledger, held = Ledger.empty(SCHEMA, ("series", "session")), {}
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
        assert ledger.moving["session"].n_unique() <= max(
            MOVING_SESSIONS, 6 if not ledger.settled.height else MOVING_SESSIONS
        )
