"""Faults are put into real exports; `verify` must name every one of them, and break on none."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from engine.errors import ExportError
from engine.export import dataset, delta_table
from engine.export.dataset import open_dataset
from engine.export.maintenance.verify import verify
from engine.export.maintenance.verify_findings import FINDINGS, damaged, faults
from engine.export.tables import DATA_TABLES, TABLES

from tests.export.maintenance import exported

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return exported.written(tmp_path_factory.mktemp("kept") / "out")


@pytest.fixture
def target(source, tmp_path):
    return shutil.copytree(source, tmp_path / "out")


def named(findings):
    return set(damaged(findings)["file"])


def file_of(target, table="bars", nth=0):
    return open_dataset(target).files(table)[nth]


def test_verify_whole_export_finds_nothing(source):
    for revision in (None, 1, 2, 3):
        found = verify(source, revision)
        assert found.is_empty(), found
        assert found.schema == pl.Schema(FINDINGS)
    assert verify(source, quick=True).is_empty()


@pytest.mark.parametrize("name", ["", "absent"])
def test_verify_what_is_no_export_is_refused(tmp_path, name):
    with pytest.raises(ExportError, match="is no export"):
        verify(tmp_path / name)


def test_verify_unknown_revision_is_refused(source):
    with pytest.raises(ExportError, match="no revision 9; it has 1 to 3"):
        verify(source, 9)


def plain_readers(target, whole):
    """How often each plain reader read a damaged file without an error, read other rows, or died of it."""
    missed: Counter[str] = Counter()
    pairs = [(str(path), str(whole / path.relative_to(target))) for path in exported.pinned(target)]
    for reader in exported.READERS:
        left = list(pairs)
        while left:
            command = [sys.executable, "-m", "tests.export.maintenance.exported", "read", reader, json.dumps(left)]
            ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            told = ran.stdout.split()
            missed.update(f"{reader}: {word}" for word in told)
            if ran.returncode:
                missed[f"{reader}: died"] += 1
            left = left[len(told) + 1 :] if ran.returncode else []
    return missed


def inject(target, rounds, damage, *, with_readers=0):
    """Damage every file of the last revision at once, by turns; tell how often, and how much of it was named."""
    paths = exported.pinned(target)
    whole = shutil.copytree(target, target.with_name("whole"), dirs_exist_ok=True)
    told, missed = 0, Counter()
    for turn in range(rounds):
        for path in paths:
            path.write_bytes(damage((whole / path.relative_to(target)).read_bytes(), turn))
        told += len(named(verify(target, 3)) & {str(path.relative_to(target)) for path in paths})
        missed += plain_readers(target, whole) if turn < with_readers else Counter()
    for path in paths:
        shutil.copy(whole / path.relative_to(target), path)
    return rounds * len(paths), told, missed


def flipped(chance):
    def damage(content, _):
        bit = chance.randrange(len(content) * 8)
        return content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]

    return damage


def test_verify_reports_every_flipped_bit_and_plain_readers_do_not(target):
    injected, told, missed = inject(target, 7, flipped(random.Random(3)), with_readers=2)  # noqa: S311
    assert injected >= 100
    assert told == injected
    assert missed["polars: quiet"] > 0


def test_verify_reports_every_truncation(target):
    injected, told, _ = inject(target, 6, lambda content, turn: content[: len(content) * turn // 6])
    assert injected >= 100
    assert told == injected


@pytest.mark.slow
def test_verify_reports_500_flipped_bits_and_500_truncations(target):
    rounds = -(-500 // len(exported.pinned(target)))
    injected, told, missed = inject(target, rounds, flipped(random.Random(5)), with_readers=rounds)  # noqa: S311
    print(injected, told, dict(missed))  # noqa: T201 - what plain readers missed
    assert told == injected >= 500
    cut = lambda content, turn: content[: len(content) * turn // rounds]  # noqa: E731
    injected, told, missed = inject(target, rounds, cut, with_readers=5)
    print(injected, told, dict(missed))  # noqa: T201
    assert told == injected >= 500


def test_verify_quick_reports_truncations_of_every_length(target):
    path = file_of(target, "calendars")
    content = path.read_bytes()
    for size in range(0, len(content), max(len(content) // 6, 1)):
        path.write_bytes(content[:size])
        assert named(verify(target, quick=True)) == {str(path.relative_to(target))}


def test_verify_names_what_a_deleted_file_held(target):
    path = next(p for p in open_dataset(target).files("bars") if "1m/2024-02" in str(p))
    rows = pl.read_parquet(path)
    path.unlink()
    (row,) = damaged(verify(target)).to_dicts()
    assert row["file"] == str(path.relative_to(target))
    assert (row["check_name"], row["rows"], row["symbols"]) == ("exists", rows.height, "A")
    assert (row["first_ts"], row["last_ts"]) == (rows["ts"].min(), rows["ts"].max())


@pytest.mark.parametrize(
    "table", ["bars", "gaps", "quality", "sessions", "symbols", "calendars", "ticks", "quotes", "exports"]
)
def test_verify_deleted_or_emptied_file_of_any_table_is_named(target, table):
    path = file_of(target, table)
    for damage in (path.unlink, lambda: path.write_bytes(b"")):
        damage()
        for quick in (True, False):
            assert str(path.relative_to(target)) in named(verify(target, quick=quick))


def test_verify_swapped_files_are_both_named(target):
    one, other = file_of(target, nth=0), file_of(target, nth=1)
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    assert named(verify(target)) == {str(path.relative_to(target)) for path in (one, other)}


def test_verify_valid_parquet_with_other_rows_is_named(target):
    path = file_of(target)
    rows = pl.read_parquet(path)
    rows.with_columns(pl.col("close") + 1).write_parquet(path)
    assert named(verify(target)) == {str(path.relative_to(target))}


def test_verify_damage_that_only_a_former_revision_pins_says_so(target):
    path = next(iter(set(exported.pinned(target, 1)) - set(exported.pinned(target, 3))))
    path.unlink()
    (row,) = verify(target).to_dicts()
    assert "only former revisions hold it" in row["detail"]
    assert verify(target, 3).is_empty()


FORGERIES = {
    "unsorted": (lambda rows: rows.reverse(), "sorted"),
    "doubled": (lambda rows: pl.concat([rows, rows]).sort("symbol", "ts"), "key"),
    "lost": (lambda rows: rows.head(rows.height - 1), "present"),
    "elsewhere": (lambda rows: rows.with_columns(pl.lit("1999-01").alias("month")), "folder"),
    "recast": (lambda rows: rows.with_columns(pl.col("volume").cast(pl.Float32)), "schema"),
    "less": (lambda rows: rows.drop("close"), "schema"),
    "unknown": (lambda rows: rows.with_columns(pl.lit("ZZZ").alias("symbol")), "symbols"),
    "unscheduled": (lambda rows: rows.with_columns(pl.col("session") - pl.duration(days=3)), "sessions"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_verify_forged_bars_with_a_true_name_are_told_by_their_rows(target, name):
    change, check = FORGERIES[name]
    path = next(p for p in open_dataset(target).files("bars") if "/1m/" in str(p) and pl.read_parquet(p).height > 5)
    exported.forge(target, "bars", path, change(pl.read_parquet(path)))
    assert check in set(faults(verify(target))["check_name"])


def test_verify_file_that_lacks_a_key_column_beside_others_in_its_folder_is_found(target):
    paths = open_dataset(target).files("gaps")
    assert len({path.parent for path in paths}) == 1 < len(paths)
    exported.forge(target, "gaps", paths[0], pl.read_parquet(paths[0]).drop("interval"))
    found = faults(verify(target))
    assert found.filter(check_name="schema")["detail"].to_list() == ["lacks interval"]


def test_verify_bar_moved_into_a_gap_is_found(target):
    gaps = exported.contents(target)["gaps"].filter(interval="1m", symbol="A", session=pl.date(2024, 1, 30))
    start = gaps["gap_start"].item(0)
    for path in open_dataset(target).files("bars"):
        rows = pl.read_parquet(path)
        place = (
            (pl.col("symbol") == "A") & (pl.col("ts") == start - pl.duration(minutes=1)) & (pl.col("interval") == "1m")
        )
        if rows.filter(place).height:
            moved = rows.with_columns(pl.when(place).then(start).otherwise("ts").alias("ts"))
            exported.forge(target, "bars", path, moved)
            break
    assert "inside" in set(faults(verify(target))["check_name"])


@pytest.mark.parametrize(
    ("table", "column", "check"),
    [
        ("gaps", "bar_count", "gaps"),
        ("quality", "present", "counts"),
        ("quality", "missing", "gaps"),
        ("symbols", "rows", "symbols"),
    ],
)
def test_verify_forged_count_contradicts_another_table(target, table, column, check):
    path = file_of(target, table)
    exported.forge(target, table, path, pl.read_parquet(path).with_columns(pl.col(column) + 1))
    assert check in set(faults(verify(target))["check_name"])


def test_verify_derived_bar_with_more_slots_than_its_window_is_found(target):
    path = next(p for p in open_dataset(target).files("bars") if "/5m/" in str(p))
    exported.forge(target, "bars", path, pl.read_parquet(path).with_columns((pl.col("n_expected") + 1).alias("n_base")))
    assert "completeness" in set(faults(verify(target))["check_name"])


@pytest.mark.parametrize(("old", "new", "check"), [
    ('\\"numRecords\\"', '\\"numRecord\\"', "rows"),
    ('"size":', '"size":1', "size"),
    ('\\"low\\": 1.0', '\\"low\\": 0.5', "statistics"),
])  # fmt: skip
def test_verify_edited_log_is_found(target, old, new, check):
    path = next(p for p in open_dataset(target).files("bars") if "5m/2024-01" in str(p))
    for entry, text in exported.edited_log(target, "bars"):
        lines = [
            line.replace(old, new) if path.name in line and '"add"' in line else line
            for line in text.splitlines(keepends=True)
        ]
        entry.write_text("".join(lines))
    assert check in set(faults(verify(target))["check_name"])


def test_verify_file_taken_out_of_the_log_is_found(target):
    path = next(p for p in open_dataset(target).files("quotes"))
    for entry, text in exported.edited_log(target, "quotes"):
        entry.write_text("".join(line for line in text.splitlines(keepends=True) if path.name not in line))
    found = faults(verify(target))
    assert {"stray", "symbols"} <= set(found["check_name"])
    assert str(path.relative_to(target)) in set(found["file"])


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_verify_broken_log_is_a_finding_and_never_an_error(target, table, damage):
    entry = max((target / table / delta_table.LOG).glob("*.json"))
    {"cut": lambda: entry.write_bytes(entry.read_bytes()[:-40]),
     "gone": entry.unlink}[damage]()  # fmt: skip
    found = faults(verify(target))
    assert found.height
    assert table in set(found["table_name"]) | ({"exports"} if table == "exports" else set()), found


def test_verify_random_damage_of_logs_never_breaks_it(target):
    chance = random.Random(9)  # noqa: S311
    logs = sorted(target.rglob("_delta_log/*.json"))
    for _ in range(6):
        path = chance.choice(logs)
        content = path.read_bytes()
        exported.flip(path, chance.randrange(len(content) * 8))
        assert verify(target, quick=True).schema == pl.Schema(FINDINGS)
        path.write_bytes(content)


def test_verify_bad_log_still_names_the_damaged_files_of_that_table(target):
    path = file_of(target, "quality")
    path.write_bytes(b"x")
    entry = max((target / "quality" / delta_table.LOG).glob("*.json"))
    entry.write_bytes(entry.read_bytes() + b'{"add":')
    assert str(path.relative_to(target)) in set(verify(target)["file"])


def test_verify_strays_are_told_and_are_no_fault(target):
    (target / "bars" / "notes.txt").write_text("mine")
    (target / dataset.STAGING).mkdir()
    found = verify(target)
    assert set(found["file"]) == {"bars/notes.txt", dataset.STAGING}
    assert faults(found).is_empty()


def test_verify_head_that_is_not_the_pin_is_found(target):
    delta_table.commit(target / "bars", TABLES["bars"], [], [delta_table.file_paths(target / "bars")[0]], after=delta_table.newest_version(target / "bars"),
                written_at=exported.NOON, notes={})  # fmt: skip
    assert set(faults(verify(target))["check_name"]) == {"head"}


def test_verify_export_without_quality_says_that_it_was_not_judged(tmp_path):
    dataset.write_dataset(
        tmp_path / "out",
        {name: rows for name, rows in exported.stored().snapshot().tables().items() if name in DATA_TABLES},
        store_id="s", store_revision=1, written_at=exported.NOON,
    )  # fmt: skip
    found = verify(tmp_path / "out")
    assert set(found["check_name"]) == {"present"}
    assert set(found["severity"]) == {"warning"}
