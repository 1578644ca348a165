from __future__ import annotations

import datetime as dt
import shutil

import polars as pl
import pytest
from engine.errors import ExportError, ParameterError
from engine.export.difference import COMPARED, diff
from engine.export.maintenance.vacuum import vacuum
from engine.export.revision_history import COUNTS, history, revision_at
from engine.export.tables import DATA_TABLES, KEYS

from tests.export.maintenance import exported


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return exported.written(tmp_path_factory.mktemp("kept") / "out")


@pytest.fixture
def target(source, tmp_path):
    return shutil.copytree(source, tmp_path / "out")


def test_history_lists_revisions_with_what_the_disk_says(source):
    found = history(source)
    assert found["revision"].to_list() == [1, 2, 3]
    assert found["state"].unique().to_list() == ["pinned"]
    assert found["written_at"].to_list() == [exported.clock(n).now() for n in range(3)]
    former: set = set()
    for row in found.iter_rows(named=True):
        files = set(exported.pinned(source, row["revision"]))
        told = {name: row[name] for name in COUNTS}
        assert told == {
            "rows": sum(pl.read_parquet(path).height for path in files),
            "files": len(files),
            "bytes": sum(path.stat().st_size for path in files),
            "files_added": len(files - former),
            "files_removed": len(former - files),
            "bytes_added": sum(path.stat().st_size for path in files - former),
            "bytes_removed": sum(path.stat().st_size for path in former - files),
        }
        assert {one["table"] for one in row["tables"]} == set(DATA_TABLES)
        assert sum(one["rows"] for one in row["tables"]) == row["rows"]
        former = files


def test_history_after_vacuum_marks_what_expired(target):
    vacuum(target, keep_revisions=2, clock=exported.clock(9))
    found = history(target)
    assert found["state"].to_list() == ["expired", "pinned", "pinned"]
    assert found["rows"].null_count() == 1
    assert found["files_added"].null_count() == 2
    assert found["store_id"].null_count() == 0


@pytest.mark.parametrize(("hours", "revision"), [(0, 1), (0.5, 1), (1, 2), (1.99, 2), (2, 3), (9999, 3)])
def test_revision_at_is_the_last_one_written_by_then(source, hours, revision):
    zone = dt.timezone(dt.timedelta(hours=-5))
    assert revision_at(source, exported.clock(hours).now().astimezone(zone)) == revision


def test_revision_at_before_the_first_says_when_that_was(source):
    with pytest.raises(ExportError, match=r"no revision at .*; its first, 1, was written at 2024-02-05T12:00"):
        revision_at(source, exported.clock(-1).now())


def test_revision_at_naive_instant_is_refused(source):
    with pytest.raises(ParameterError, match="without a zone"):
        revision_at(source, dt.datetime(2024, 2, 6))  # noqa: DTZ001


def test_revision_at_an_expired_one_names_the_oldest(target):
    vacuum(target, keep_revisions=1, clock=exported.clock(9))
    with pytest.raises(ExportError, match="revision 1 has expired, its files were removed; it has 3 to 3"):
        revision_at(target, exported.clock(0).now())


def rows_by_key(target, revision, table):
    key = KEYS[table] + (("gap_end",) if table == "gaps" else ())
    rows = exported.contents(target, revision)[table].drop("revision").to_dicts()
    return {tuple(row[name] for name in key): row for row in rows}, key


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 3), (1, 3), (3, 1), (2, 2)])
@pytest.mark.parametrize("table", [name for name in COMPARED if name != "quality"])
def test_diff_gives_what_dicts_of_all_rows_give(source, table, old, new):
    (before, key), (after, _) = rows_by_key(source, old, table), rows_by_key(source, new, table)
    found = getattr(diff(source, old, new, [table]), table)
    keys = [{tuple(row[name] for name in key) for row in frame.to_dicts()} for frame in found]
    assert keys == [after.keys() - before.keys(), before.keys() - after.keys(),
                    {k for k in after.keys() & before.keys() if after[k] != before[k]}]  # fmt: skip
    for row in found.corrected.to_dicts():
        at = tuple(row[name] for name in key)
        changed = {c for c in before[at] if before[at][c] != after[at][c] and c != "month"}
        assert set(row["columns"]) == changed
        assert {(c, row[f"{c}_old"], row[f"{c}_new"]) for c in changed} == {
            (c, before[at][c], after[at][c]) for c in changed
        }


def test_diff_shows_the_correction_the_filled_gap_and_the_new_day(source):
    found = diff(source, 1, 2)
    corrected = found.bars.corrected.filter(interval="1m")
    assert corrected.select("symbol", "close_old", "close_new").rows() == [("A", 1.0, 2.0)]
    closed = found.gaps.removed.filter(interval="1m").select("symbol", "bar_count").rows()
    opened = found.gaps.added.filter(interval="1m", session=dt.date(2024, 1, 30)).select("symbol", "bar_count").rows()
    assert (closed, opened) == ([("A", 2)], [("A", 1)])
    moved = found.quality.filter(interval="1m").select("session", "present_old", "present_new").rows()
    assert moved == [(dt.date(2024, 1, 30), 10, 11), (dt.date(2024, 2, 1), None, 6)]
    assert diff(source, 2, 3).symbols.removed["symbol"].to_list() == ["B"]


def test_diff_summary_counts_the_frames(source):
    found = diff(source, 1, 3)
    told = {(row["table"], row["change"]): row["rows"] for row in found.summary.to_dicts()}
    assert told == {tuple(name.rsplit("_", 1)): frame.height for name, frame in found.frames().items() if frame.height}
    assert diff(source, 2, 2).summary.is_empty()


def test_diff_reads_only_files_that_differ(source, tmp_path):
    target = shutil.copytree(source, tmp_path / "out")
    common = set(exported.pinned(target, 2)) & set(exported.pinned(target, 3))
    for path in common:
        path.write_bytes(b"nobody looks")
    assert diff(target, 2, 3).summary.equals(diff(source, 2, 3).summary)
    assert common


def test_diff_of_unknown_table_says_which_there_are(source):
    with pytest.raises(ParameterError, match="received rejects; valid: bars"):
        diff(source, 1, 2, ["rejects"])
