"""Panels against a dict: whatever arrives in whatever batches, the rows and the counts are those of one dict."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import polars as pl
import pytest
from engine.schema import TS
from engine.store.panel import KEY, Panel, empty_panel
from hypothesis import given, settings
from hypothesis import strategies as st

SCHEMA = {"series": pl.Int32(), "session": pl.Date(), "ts": pl.Int64(), "close": pl.Float64(), "revision": pl.Int64()}

Row = tuple[int, int, float]
rows = st.tuples(st.integers(1, 4), st.integers(0, 12), st.sampled_from([1.0, 2.0, None]))
appends = st.lists(st.lists(st.lists(rows, max_size=12), max_size=3), min_size=1, max_size=8)


def framed(batches: list[list[Row]], revision: int) -> pl.DataFrame:
    flat = [(s, None, t, v, revision, b) for b, batch in enumerate(batches) for s, t, v in batch]
    return pl.DataFrame(flat, schema={**SCHEMA, "batch": pl.Int32()}, orient="row")


def offered(batches: list[list[Row]], state: dict, counts: Counter, conflicts: list[Row]) -> None:
    final: dict = {}
    for batch in batches:
        mine: dict = {}
        for s, t, v in batch:
            mine.setdefault((s, t), []).append(v)
        for key, values in mine.items():
            for lost in values[:-1]:
                if lost == values[-1]:
                    counts["duplicates"] += 1
                else:
                    conflicts.append((*key, lost))
            if key in final:
                counts["duplicates" if final[key] == values[-1] else "corrections"] += 1
            final[key] = values[-1]
    for key, value in final.items():
        if key in state:
            counts["duplicates" if state[key] == value else "corrections"] += 1
        state[key] = value


@given(appends)
@settings(max_examples=200)
def test_upsert_any_batches_equals_a_dict(calls: list[list[list[Row]]]) -> None:
    held: Panel = empty_panel(SCHEMA, KEY, ("close",))
    state: dict = {}
    expected, counted = Counter(), Counter()
    lost: list[Row] = []
    told: list[Row] = []
    for revision, batches in enumerate(calls):
        before, kept = held.frame, held.frame.clone()
        done = held.upsert(framed(batches, revision))
        offered(batches, state, expected, lost)
        assert before.equals(kept)
        held = done.panel
        counted.update({name: done.counts[name].sum() for name in ("duplicates", "corrections")})
        told += done.conflicts.select("series", "ts", "close").rows()
        assert held.frame.select("series", "ts", "close").rows() == [(*k, v) for k, v in sorted(state.items())]
        for series in range(1, 5):
            mine = held.of_series([series]).select("series", "ts", "close").rows()
            assert mine == [(*k, v) for k, v in sorted(state.items()) if k[0] == series]
        spans = pl.concat(part.extent for part in held.sorted_runs).group_by("series").agg(
            pl.col("rows").sum(), pl.col("first_ts").min(), pl.col("last_ts").max()
        )  # fmt: skip
        assert sorted(spans.rows()) == sorted(
            (series, len(mine), min(mine), max(mine))
            for series in range(1, 5) if (mine := [ts for one, ts in state if one == series])
        )  # fmt: skip
        for since in range(-1, revision + 1):
            assert held.since(since).equals(held.frame.filter(pl.col("revision") > since))
    assert +counted == +expected
    key = lambda row: (row[0], row[1], row[2] is None, row[2] or 0)  # noqa: E731
    assert sorted(told, key=key) == sorted(lost, key=key)


def test_upsert_row_that_repeats_keeps_its_revision() -> None:
    held = empty_panel(SCHEMA, KEY, ("close",)).upsert(framed([[(1, 0, 1.0), (1, 1, 1.0)]], 1)).panel
    held = held.upsert(framed([[(1, 0, 1.0), (1, 1, 2.0)]], 2)).panel
    assert held.frame["revision"].to_list() == [1, 2]


def test_upsert_many_small_appends_keeps_few_parts() -> None:
    held = empty_panel(SCHEMA, KEY, ("close",))
    for t in range(500):
        held = held.upsert(framed([[(s, t, 1.0) for s in range(1, 5)]], t)).panel
    assert held.height == 2000
    assert len(held.parts) <= 8


def test_since_an_instant_gives_what_starts_later_however_old() -> None:
    stamped = {**SCHEMA, "ts": TS}
    at = [dt.datetime(2024, 1, 2, 15, minute, tzinfo=dt.UTC) for minute in range(3)]
    rows = pl.DataFrame([(1, None, ts, 1.0, 1, 0) for ts in at], schema={**stamped, "batch": pl.Int32()}, orient="row")
    held = empty_panel(stamped, KEY, ("close",)).upsert(rows).panel
    assert held.since(1).height == 0
    assert held.since(1, at[1])["ts"].to_list() == [at[2]]
    assert held.since(0, at[1])["ts"].to_list() == at


def test_since_a_revision_looks_at_no_part_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    held = (
        empty_panel(SCHEMA, KEY, ("close",))
        .upsert(framed([[(s, t, 1.0) for s in (1, 2) for t in range(100)]], 1))
        .panel
    )
    held = held.upsert(framed([[(1, 100, 1.0)]], 2)).panel
    assert [part.newest for part in held.sorted_runs] == [1, 2]
    looked_at = []
    kept = pl.DataFrame.filter
    monkeypatch.setattr(
        pl.DataFrame, "filter", lambda rows, *tests: looked_at.append(rows.height) or kept(rows, *tests)
    )
    assert held.since(1)["ts"].to_list() == [100]
    assert looked_at == [1]


def test_upsert_keeps_what_untouched_parts_say_of_themselves() -> None:
    held = empty_panel(SCHEMA, KEY, ("close",)).upsert(framed([[(1, t, 1.0) for t in range(100)]], 1)).panel
    large = held.sorted_runs[0]
    for t in range(100, 104):
        held = held.upsert(framed([[(1, t, 1.0)]], t)).panel
        assert held.sorted_runs[0] is large


def test_upsert_lets_go_of_parts_that_were_merged() -> None:
    held = empty_panel(SCHEMA, KEY, ("close",))
    for t in range(60):
        held = held.upsert(framed([[(1, t, 1.0)]], t)).panel
        assert all(any(part.rows is rows for rows in held.parts) for part in held._earlier_runs)
        assert all(one in held.sorted_runs for part in held.sorted_runs for one in part.before)


def test_without_series_leaves_the_others() -> None:
    held = empty_panel(SCHEMA, KEY, ("close",)).upsert(framed([[(s, 0, 1.0) for s in (1, 2, 3)]], 1)).panel
    assert held.without([2]).frame["series"].to_list() == [1, 3]
    assert held.frame.height == 3
