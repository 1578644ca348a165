"""Shares of a revision: files that several writers leave in the target, and one commit that names them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from engine.arguments import location_of
from engine.errors import ExportError
from engine.export import delta_table, session_export, shares
from engine.export.dataset import open_dataset
from engine.export.folders import folders_of_rows
from engine.export.maintenance.repair import remove_leftovers
from engine.export.maintenance.vacuum import vacuum
from engine.export.maintenance.verify import verify
from engine.export.share_place import SHARES, SharePlace, open_share_place
from engine.export.shares import commit_shares, files_after_merges, merge_files, plan_merges, write_share
from engine.export.tables import DATA_TABLES, KEYS, PARTITION
from engine.storage import ObjectPath
from engine.store.session_data import SessionData
from polars.testing import assert_frame_equal

from tests.export.store_sample import (
    SLOTS,
    TINY,
    WRITTEN_AT,
    bars,
    interest,
    new_store,
    put,
    quotes,
    register,
    rows,
    settle,
    ticks,
)

SYMBOLS = ("A", "B/B", "C", "D")


@pytest.fixture(autouse=True)
def tiny_calendar(monkeypatch):
    monkeypatch.setattr(shares, "calendar", {"TINY": TINY}.__getitem__)


@cache
def stored(*symbols: str) -> SessionData:
    """A store of some symbols, with every kind of rows, two price types, corrections and gaps over two months."""
    session = new_store()
    for symbol in symbols:
        late = 2 + SYMBOLS.index(symbol)
        register(session, symbol)
        session.append(bars(symbol, 0, list(range(SLOTS))), interval="1m")
        session.append(bars(symbol, 3, [0, 1, late, 9]), interval="1m")
        session.append(bars(symbol, 3, [1], value=2.0), interval="1m")
        session.append(ticks(symbol, 1, [0, 1, late]), kind="ticks")
        session.append(quotes(symbol, 1, [0, 1]), kind="quotes")
        session.append(interest(symbol, 1, 5.0), kind="open_interest")
    settle(session)
    return session


def write(place: SharePlace) -> int:
    """Write the sample as three shares, the second of them twice, as by a worker believed dead; merge and commit."""
    made = [write_share(stored(*names).snapshot(), place) for names in (("D",), ("B/B", "C"), ("B/B", "C"), ("A",))]
    del made[1]
    merges = plan_merges(made)
    files = files_after_merges(made, merges, [merge_files(groups, place) for groups in merges])
    return commit_shares(made, files, place, store_id="shares", written_at=WRITTEN_AT)


def expect_sample(target: Path | str, whole: Path, revision: int | None = None) -> None:
    here, there = rows(whole), rows(target, revision)
    for name in DATA_TABLES:
        keys = list(KEYS[name])
        assert_frame_equal(there[name].drop("revision").sort(keys), here[name].drop("revision").sort(keys))


@pytest.mark.parametrize("kind", ["disk", "store"])
def test_commit_shares_gives_the_tables_of_one_store(tmp_path, request, kind):
    target = tmp_path / "out" if kind == "disk" else location_of("t", request.getfixturevalue("store"))
    put(stored(*SYMBOLS), tmp_path / "whole")
    with open_share_place(target, 1, "run") as place:
        assert write(place) == 1
    expect_sample(target, tmp_path / "whole")
    # A file of each month's folder; else as one process writes it: gaps and quality keep the last session's rows apart.
    for name in DATA_TABLES:
        paths = delta_table.file_paths(target / name)
        if name in PARTITION:
            held = open_dataset(tmp_path / "whole").scan(name).collect()
            assert [path.rpartition("/")[0] for path in sorted(paths)] == folders_of_rows(name, held), name
        else:
            assert len(paths) == len(delta_table.file_paths(tmp_path / "whole" / name))
    left = [path for path, _ in target.walk_objects()] if isinstance(target, ObjectPath) else list(target.rglob("*"))
    pinned = {target / name / file for name in DATA_TABLES for file in delta_table.file_paths(target / name)}
    data = {path for path in left if path.suffix == ".parquet" and "exports" not in path.parts}
    assert data == pinned
    assert not [path for path in left if SHARES in path.parts or (path.suffix == ".json" and ".staging" in path.parts)]
    assert verify(target).is_empty()


def test_plan_merges_leaves_files_that_are_large_or_alone(tmp_path, monkeypatch):
    with open_share_place(tmp_path / "out", 1, "run") as place:
        made = [write_share(stored(name).snapshot(), place) for name in SYMBOLS]
        assert plan_merges(made[:1]) == []
        files = {file.place: file for one in made for file in one.files}
        (groups,) = plan_merges(made)
        assert {(group.table, len(group.places)) for group in groups} >= {("bars", 4), ("quality", 8)}
        assert [files[place].owner for place in groups[0].places] == sorted(SYMBOLS)
        monkeypatch.setattr(session_export, "ROWS_PER_BATCH", 2 * SLOTS)
        monkeypatch.setattr(shares, "ROWS_PER_TASK", 2 * SLOTS)
        cut = plan_merges(made)
        assert all(sum(files[place].rows for group in task for place in group.places) <= 2 * SLOTS for task in cut)
        monkeypatch.setattr(shares, "SMALL_ROWS", 1)
        assert plan_merges(made) == []


@pytest.mark.parametrize("cleaner", ["export", "vacuum", "repair"])
def test_a_killed_run_leaves_nothing_and_one_under_way_keeps_its_files(tmp_path, cleaner):
    target = tmp_path / "out"
    put(stored("A"), target)
    killed = target / SHARES / "killed"
    with open_share_place(target, 2, "run") as place:
        killed.mkdir()  # nobody holds its lock
        write_share(stored("D").snapshot(), SharePlace(target, 2, killed))
        made = write_share(stored("C").snapshot(), place)
        assert set(verify(target)["file"]) == {SHARES}
        if cleaner == "export":
            put(stored("A"), target)
        elif cleaner == "vacuum":
            vacuum(target, keep_revisions=1)
        else:
            assert list(remove_leftovers(target, 1.0)) == []  # of a run that is under way, too
        assert not killed.exists()
        assert place.holds_all(made.files)
    assert not (target / SHARES).exists()
    assert verify(target).is_empty()


def test_a_killed_run_in_a_store_is_cleared_by_the_next_export(store):
    target = location_of("target", store)
    put(stored("A"), target)
    with open_share_place(target, 2, "run") as place:
        made = write_share(stored("D").snapshot(), place)
    assert "D" not in set(rows(store)["bars"]["symbol"])
    assert all(file.path.is_file() for file in made.files)
    put(stored("B/B"), target)
    assert not any(file.path.is_file() for file in made.files)
    assert verify(store).is_empty()


def test_commit_of_a_revision_that_somebody_made_is_refused(tmp_path):
    target = tmp_path / "out"
    with open_share_place(target, 1, "run") as place:
        made = write_share(stored("D").snapshot(), place)
        put(stored("A"), target)
        with pytest.raises(ExportError, match="revision 1 was made by another export"):
            commit_shares([made], made.files, place, store_id="x", written_at=WRITTEN_AT)
    assert set(rows(target)["bars"]["symbol"]) == {"A"}
    assert verify(target).is_empty()


def test_commit_of_no_share_and_of_a_symbol_in_two_is_refused(tmp_path):
    with open_share_place(tmp_path / "out", 1, "run") as place:
        with pytest.raises(ExportError, match="shares: none given"):
            commit_shares([], [], place, store_id="x", written_at=WRITTEN_AT)
        made = write_share(stored("D").snapshot(), place)
        with pytest.raises(ExportError, match="shares: 'D' in more than one"):
            commit_shares([made, made], made.files, place, store_id="x", written_at=WRITTEN_AT)
        newer = made.calendars.with_columns(version=pl.lit("2"))
        other = write_share(stored("A").snapshot(), place)
        other = replace(other, calendars=newer)
        with pytest.raises(ExportError, match="several versions of calendar TINY"):
            commit_shares([made, other], made.files, place, store_id="x", written_at=WRITTEN_AT)
    assert list(tmp_path.iterdir()) == []  # nothing was committed


def test_write_share_of_a_run_that_is_over_is_refused(tmp_path):
    with (
        open_share_place(tmp_path / "out", 1, "run") as place,
        pytest.raises(ExportError, match="is under way"),
        open_share_place(tmp_path / "out", 1, "run"),
    ):
        pytest.fail("it was opened twice")
    with pytest.raises(ExportError, match="the run that it was for is over"):
        write_share(stored("D").snapshot(), place)
    assert list(tmp_path.iterdir()) == []
