"""What a consumer gets by deltas equals what is there: in the dataset, and in an export made anew."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import engine.publish
import polars as pl
import pytest
from engine.errors import ExportError, ParameterError
from engine.export import session_export
from engine.export.dataset import open_dataset
from engine.export.delta import apply_delta, read_delta
from engine.export.session_export import export_snapshot
from engine.export.tables import DATA_TABLES, KEYS, TABLES
from engine.store.session_data import SessionData
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.export.maintenance import exported
from tests.export.sample import HOSTILE, WRITTEN_AT, export
from tests.export.store_sample import (
    SLOTS,
    Story,
    at,
    bars,
    interest,
    new_store,
    put,
    quotes,
    register,
    renumbered,
    rows,
    settle,
    ticks,
)

SYMBOLS = ("A", "B/B", "../x")
NAMES = st.sampled_from(SYMBOLS)
DAYS = st.integers(0, 4)
SLOT_LISTS = st.lists(st.integers(-1, SLOTS), min_size=1, max_size=5, unique=True)
VALUES = st.sampled_from([1.0, 2.0, 3.0])
PROVENANCE = st.sampled_from(["source", "backfill"])
PLAIN = {
    "bars": st.tuples(NAMES, DAYS, SLOT_LISTS, VALUES, PROVENANCE),
    "twice": st.tuples(NAMES, DAYS, SLOT_LISTS, VALUES),
    "ticks": st.tuples(NAMES, DAYS, SLOT_LISTS, VALUES),
    "quotes": st.tuples(NAMES, DAYS, SLOT_LISTS, VALUES),
    "interest": st.tuples(NAMES, DAYS, VALUES),
    "hourly": st.tuples(NAMES, DAYS, VALUES),
    "remove": st.tuples(NAMES),
    "rename": st.tuples(NAMES, st.sampled_from(["x", "y"])),
    "refuse": st.tuples(st.integers(0, 2)),
    "until": st.tuples(DAYS, st.integers(0, SLOTS)),
    "settle": st.just(()),
    "forget": st.just(()),
    "export": st.tuples(st.booleans()),
}
WEIGHTS = {"bars": 6, "until": 3, "settle": 3, "export": 4}
EDITS = st.one_of([st.tuples(st.just(name), PLAIN[name]) for name in PLAIN for _ in range(WEIGHTS.get(name, 1))])


def forget_changes(store: SessionData) -> None:
    log = store.snapshot().change_log
    store._swap(change_log=replace(log, entries=(), start_revision=store.revision))


class World:
    """A store, its export, and a consumer that knows nothing but deltas."""

    def __init__(self, folder: Path, incomplete: str) -> None:
        self.store = new_store(incomplete)
        self.target, self.folder = folder / "out", folder
        self.copy: dict[str, pl.DataFrame] = {}
        self.seen = 0
        self.export(full=False)

    def apply(self, name: str, args: tuple) -> None:
        getattr(self, name)(*args)

    def _known(self, symbol: str) -> None:
        if symbol not in self.store.get_active_symbols():
            register(self.store, symbol)

    def bars(self, symbol: str, day: int, slots: list[int], value: float, provenance: str) -> None:
        self._known(symbol)
        self.store.append(bars(symbol, day, slots, value), interval="1m", provenance=provenance)

    def twice(self, symbol: str, day: int, slots: list[int], value: float) -> None:
        self._known(symbol)
        both = [bars(symbol, day, slots, value), bars(symbol, day, slots, value + 0.5)]
        self.store.append(pl.concat(both), interval="1m")

    def ticks(self, symbol: str, day: int, slots: list[int], value: float) -> None:
        self._known(symbol)
        self.store.append(ticks(symbol, day, slots, value), kind="ticks")

    def quotes(self, symbol: str, day: int, slots: list[int], value: float) -> None:
        self._known(symbol)
        self.store.append(quotes(symbol, day, slots, value), kind="quotes")

    def interest(self, symbol: str, day: int, value: float) -> None:
        self._known(symbol)
        self.store.append(interest(symbol, day, value), kind="open_interest")

    def hourly(self, symbol: str, day: int, value: float) -> None:
        self._known(symbol)
        self.store.append(bars(symbol, day, [0], value), interval="1h")

    def remove(self, symbol: str) -> None:
        self.store.remove_symbol(symbol)

    def rename(self, symbol: str, name: str) -> None:
        register(self.store, symbol, source_symbol=name)

    def refuse(self, row: int) -> None:
        cells = {"source": "f", "row": row, "reason": "r", "cells": None if row else "{}"}
        self.store.add_rejects(pl.DataFrame([cells], schema={n: t for n, t in TABLES["rejects"].items() if n in cells}))

    def until(self, day: int, slot: int) -> None:
        self.store.set_as_of(at(day, slot))

    def settle(self) -> None:
        settle(self.store)

    def forget(self) -> None:
        forget_changes(self.store)

    def export(self, full: bool) -> None:
        revision = put(self.store, self.target, full=full)
        delta = read_delta(self.target, self.seen)
        assert (delta.since, delta.until) == (self.seen, revision)
        self.copy = apply_delta(self.copy, delta)
        assert_same(apply_delta(self.copy, delta), self.copy)
        self.seen = revision
        assert_same(self.copy, rows(self.target))

    def check(self) -> None:
        put(self.store, self.folder / "anew")
        anew = rows(self.folder / "anew")
        assert_same(dropped(self.copy), dropped(anew))
        assert all(set(frame["revision"]) <= {1} for frame in anew.values())
        for since in sorted({1, self.seen // 2} - {0}):
            held = apply_delta(rows(self.target, since), read_delta(self.target, since))
            assert_same(held, self.copy)
        known = self.store.get_active_symbols()
        for name in DATA_TABLES:
            if "symbol" in TABLES[name]:
                assert set(self.copy[name]["symbol"]) <= known


def dropped(tables):
    return {name: frame.drop("revision") for name, frame in tables.items()}


def assert_same(got, want):
    # The oracle compares rows as Python values, in any order, each as often as it is there.
    for name in DATA_TABLES:
        assert got[name].schema == want[name].schema
        assert counted(got[name]) == counted(want[name]), name


def counted(frame):
    return Counter(map(repr, frame.rows()))


@pytest.fixture
def unflushed(monkeypatch):
    monkeypatch.setattr(engine.publish.os, "fsync", lambda _: None)


@settings(
    max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(edits=st.lists(EDITS, min_size=3, max_size=14), incomplete=st.sampled_from(["flag", "drop"]))
def test_apply_deltas_of_random_edits_equals_full_export(unflushed, edits, incomplete):
    law(edits, incomplete)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=st.lists(EDITS, min_size=3, max_size=25), incomplete=st.sampled_from(["flag", "drop"]))
def test_apply_deltas_of_many_random_edits_equals_full_export(unflushed, edits, incomplete):
    law(edits, incomplete)


def law(edits, incomplete):
    folder = Path(tempfile.mkdtemp())
    try:
        world = World(folder, incomplete)
        for name, args in edits:
            world.apply(name, args)
        world.export(full=False)
        world.check()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A story of four exports."""
    target = tmp_path_factory.mktemp("told") / "out"
    story = Story.begin()
    put(story.store, target)
    for generation in (2, 3, 4):
        put(story.edit(generation).store, target)
    return target


@pytest.fixture
def story(told, tmp_path):
    """Its export for each test, and the store as it is after it."""
    return Story.told(4), Path(shutil.copytree(told, tmp_path / "out"))


def test_export_again_builds_on_former_revision(told):
    exports = open_dataset(told).exports
    assert exports["since_revision"].to_list() == [None, 1, 2, 3]
    assert exports["as_of"].to_list() == [at(1, 6), at(1, 10), at(1, 11), at(1, 12)]


def test_export_unchanged_store_again_changes_no_table(story):
    told, target = story
    assert put(told.store, target) == 5
    then, now = (open_dataset(target, n) for n in (4, 5))
    assert all(then.files(name) == now.files(name) for name in DATA_TABLES)
    delta = read_delta(target, 4)
    assert not any(frame.height for part in (delta.upserts, delta.removed) for frame in part.values())


def test_export_rows_carry_the_revision_that_brought_them(told):
    held = rows(told)["bars"].filter(interval="1m", symbol="A").sort("ts")
    base = [1] * SLOTS + [1, 1, 1, 2, 3, 4, 4]
    assert held.filter(pl.col("ts") < at(2, 0))["revision"].to_list()[:SLOTS] == base[:SLOTS]
    by_slot = dict(held.filter(pl.col("ts") >= at(1, 0)).select("ts", "revision").rows())
    # Slot 6 was corrected by the next edit; slot 7 was there but not over at revision 2.
    assert {slot: by_slot[at(1, slot)] for slot in (0, 1, 4, 6, 7, 8)} == {0: 1, 1: 1, 4: 1, 6: 2, 7: 3, 8: 4}


def test_export_in_full_keeps_revisions_of_unchanged_rows(story):
    told, target = story
    before = rows(target)
    assert put(told.store, target, full=True) == 5
    assert open_dataset(target).exports["since_revision"].to_list()[-1] is None
    assert_same(rows(target), before)


def test_export_of_very_many_changes_is_written_anew_and_equals_an_edited_one(tmp_path, monkeypatch):
    def grown(target):
        store = new_store(store_id="grown")
        register(store, "A", ())
        store.append(bars("A", 0, list(range(SLOTS))), interval="1m")
        put(store, target)
        store.append(pl.concat([bars("A", day, list(range(SLOTS))) for day in (1, 2)]), interval="1m")
        store.append(bars("A", 0, [3], 9.0), interval="1m")
        put(store, target)
        return open_dataset(target).exports["since_revision"].to_list(), rows(target), read_delta(target, 1)

    edited = grown(tmp_path / "edited")
    monkeypatch.setattr(session_export, "MOST_CHANGED", SLOTS)
    anew = grown(tmp_path / "anew")
    assert (edited[0], anew[0]) == ([None, 1], [None, None])
    assert_same(anew[1], edited[1])
    assert anew[2].upserts["bars"].sort("ts").equals(edited[2].upserts["bars"].sort("ts"))


def test_export_of_bar_that_was_not_over_comes_when_it_is(tmp_path):
    store = new_store()
    register(store, "A", ())
    store.set_as_of(at(0, 1))
    store.append(bars("A", 0, [0, 1]), interval="1m")
    put(store, tmp_path)
    assert rows(tmp_path)["bars"]["ts"].to_list() == [at(0, 0)]
    store.set_as_of(at(0, 2))
    put(store, tmp_path)
    delta = read_delta(tmp_path, 1)
    assert delta.upserts["bars"].select("ts", "revision").rows() == [(at(0, 1), 2)]
    assert open_dataset(tmp_path).exports["since_revision"].to_list() == [None, 1]


def test_export_of_bars_until_earlier_takes_later_ones_back(tmp_path):
    store = new_store()
    register(store, "A", ())
    store.append(bars("A", 0, [0, 1]), interval="1m")
    put(store, tmp_path)
    store.set_as_of(at(0, 1))
    put(store, tmp_path)
    assert rows(tmp_path)["bars"]["ts"].to_list() == [at(0, 0)]
    assert read_delta(tmp_path, 1).removed["bars"]["ts"].to_list() == [at(0, 1)]
    store.set_as_of(None)
    put(store, tmp_path)
    assert read_delta(tmp_path, 2).upserts["bars"].select("ts", "revision").rows() == [(at(0, 1), 3)]


def test_export_of_removed_symbol_leaves_no_row_and_the_rest_untouched(tmp_path):
    store = new_store()
    hostile = [symbol for symbol in HOSTILE if symbol]  # a store refuses a symbol without a name
    for symbol in hostile:
        register(store, symbol)
    names = [symbol for symbol in hostile if symbol != "CON"]
    store.append(pl.concat([bars(symbol, 0, [0, 3]) for symbol in hostile]), interval="1m")
    store.append(pl.concat([ticks(symbol, 0, [0]) for symbol in hostile]), kind="ticks")
    settle(store)
    put(store, tmp_path)
    store.remove_symbol("CON")
    put(store, tmp_path)
    assert open_dataset(tmp_path).exports["since_revision"].to_list() == [None, 1]
    now = rows(tmp_path)
    for name in ("bars", "ticks", "gaps", "quality", "symbols"):
        assert set(now[name]["symbol"]) == set(names)
        assert set(read_delta(tmp_path, 1).removed[name]["symbol"]) == {"CON"}
        assert set(now[name]["revision"]) == {1}


def test_export_of_log_that_was_forgotten_is_full_and_keeps_revisions(story):
    told, target = story
    before = rows(target)
    forget_changes(told.edit(5).store)
    put(told.store, target)
    assert open_dataset(target).exports["since_revision"].to_list()[-1] is None
    delta = read_delta(target, 4)
    assert not delta.full
    assert_same(apply_delta(before, delta), rows(target))
    assert delta.upserts["bars"].height < before["bars"].height / 3


def test_export_of_another_store_is_full_and_new(story):
    told, target = story
    put(renumbered(told.store, "other"), target)
    assert open_dataset(target).exports["since_revision"].to_list()[-1] is None
    assert all(set(frame["revision"]) <= {5} for frame in rows(target).values())
    delta = read_delta(target, 4)
    assert delta.full
    assert "another store" in delta.reason
    assert_same(delta.upserts, rows(target))


def test_export_of_empty_store_writes_every_table_empty(tmp_path):
    assert put(new_store(), tmp_path) == 1
    assert not any(frame.height for frame in rows(tmp_path).values())


def test_read_delta_says_what_changed(told):
    delta = read_delta(told, 3, 4)
    assert (delta.since, delta.until, delta.full, delta.reason) == (3, 4, False, "")
    assert all(
        set(frame["revision"]) == {4} for name, frame in delta.upserts.items() if frame.height and name != "rejects"
    )
    assert all(frame.columns == list(KEYS[name]) for name, frame in delta.removed.items())
    corrected = delta.upserts["bars"].filter(interval="1m", symbol="B/B")
    assert corrected.select("ts", "volume").rows() == [(at(0, 3), 4.0)]


def test_read_delta_over_several_revisions_equals_them_one_after_the_other(told):
    step = rows(told, 1)
    for since in (1, 2, 3):
        step = apply_delta(step, read_delta(told, since, since + 1))
    assert_same(apply_delta(rows(told, 1), read_delta(told, 1)), step)
    assert_same(step, rows(told))


def test_read_delta_of_nothing_read_before_is_full(told):
    delta = read_delta(told, 0)
    assert (delta.full, delta.reason) == (True, "nothing was read before")
    assert_same(apply_delta({"bars": rows(told, 1)["bars"]}, delta), rows(told))


def test_read_delta_of_lost_files_is_full_and_names_one(story):
    target = story[1]
    lost = sorted(set(open_dataset(target, 1).files("bars")) - set(open_dataset(target).files("bars")))
    lost[0].unlink()
    delta = read_delta(target, 1)
    assert delta.full
    assert lost[0].name in delta.reason
    assert_same(delta.upserts, rows(target))


@pytest.mark.parametrize("damage", [lambda path: exported.flip(path, 5000), lambda path: path.write_bytes(b"PAR1")])
def test_read_delta_of_damaged_files_is_full_and_names_one(story, damage):
    target = story[1]
    lost = sorted(set(open_dataset(target, 1).files("bars")) - set(open_dataset(target).files("bars")))
    damage(lost[0])
    delta = read_delta(target, 1)
    assert delta.full
    assert lost[0].name in delta.reason
    assert_same(delta.upserts, rows(target))


@pytest.mark.parametrize("since", [0, 3])
def test_read_delta_to_a_damaged_file_is_refused(story, since):
    target = story[1]
    fresh = sorted(set(open_dataset(target).files("bars")) - set(open_dataset(target, 3).files("bars")))
    exported.flip(fresh[0], 5000)
    with pytest.raises(ExportError, match="SHA-256"):
        read_delta(target, since)


def test_read_delta_of_a_store_that_went_back_takes_corrections_back(tmp_path):
    store = new_store()
    register(store, "A")
    snapshots = []
    for slot, value in ((0, 1.0), (1, 2.0), (0, 3.0), (0, 4.0)):
        store.append(bars("A", 0, [slot], value), interval="1m")
        settle(store)
        snapshots.append(store.snapshot())
    for at_step in (0, 3, 2, 3, 1):
        export_snapshot(snapshots[at_step], tmp_path, written_at=WRITTEN_AT)
    for since in range(1, 5):
        for until in range(since + 1, 6):
            delta = read_delta(tmp_path, since, until)
            assert_same(apply_delta(rows(tmp_path, since), delta), rows(tmp_path, until))


@pytest.mark.parametrize("since", [-1, 5])
def test_read_delta_since_a_revision_that_is_not_before_is_refused(told, since):
    with pytest.raises(ParameterError, match=f"received {since}; valid: 0"):
        read_delta(told, since)


def test_read_delta_until_unknown_revision_is_refused(told):
    with pytest.raises(ExportError, match="no revision 9"):
        read_delta(told, 1, 9)


def test_read_delta_of_tables_written_by_value_tells_rows_apart(tmp_path):
    for generation in (1, 1, 2):
        export(tmp_path, generation)
    delta = read_delta(tmp_path, 1)
    assert_same(apply_delta(rows(tmp_path, 1), delta), rows(tmp_path))
    assert read_delta(tmp_path, 1, 2).upserts["bars"].is_empty()
