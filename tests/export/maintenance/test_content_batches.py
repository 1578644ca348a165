"""Files checked many at a time find what they find one by one."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest
from engine.export.dataset import open_dataset
from engine.export.maintenance import agreement, content_batches, verify
from engine.export.maintenance.content_batches import FILE, GROUP, are_sorted, lie_in_folders, repeat_keys
from engine.export.tables import is_sorted_by

from tests.export.maintenance import exported
from tests.export.maintenance.test_verify import FORGERIES

BY = ("symbol", "ts")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return exported.written(tmp_path_factory.mktemp("kept") / "out")


@pytest.fixture
def target(source, tmp_path):
    return shutil.copytree(source, tmp_path / "out")


def one_by_one(target, monkeypatch):
    """Findings without batches: files are read one by one, and bars month by month."""
    with monkeypatch.context() as patch:
        patch.setattr(content_batches, "ROWS_AT_ONCE", -1)
        patch.setattr(agreement, "BYTES_AT_ONCE", -1)
        return verify.verify(target)


def test_files_of_a_sound_export_are_not_read_one_by_one(source, monkeypatch):
    monkeypatch.setattr(verify, "read_rows", lambda path: pytest.fail(f"{path} was read alone"))
    assert verify.verify(source).is_empty()


def test_files_without_batches_are_read_one_by_one(source, monkeypatch):
    read = []
    whole = verify.read_rows
    monkeypatch.setattr(verify, "read_rows", lambda path: read.append(path) or whole(path))
    assert one_by_one(source, monkeypatch).is_empty()
    assert {path.parent.name for path in read} >= {"gaps", "quality", "symbols"}


@pytest.mark.parametrize("name", [*FORGERIES, "bounds", "two", "empty"])
def test_batches_find_what_files_one_by_one_do(target, name, monkeypatch):
    bars = [
        path for path in open_dataset(target).files("bars") if "/1m/" in str(path) and pl.read_parquet(path).height > 1
    ]
    path, other = bars[0], bars[-1]
    rows = pl.read_parquet(path)
    if name == "bounds":
        log = next(log for log, text in exported.edited_log(target, "bars") if path.name in text)
        text = log.read_text()
        close = pl.read_parquet(path)["close"].max()
        changed = text.replace(f'\\"close\\": {close}', f'\\"close\\": {close + 1}')
        assert changed != text
        log.write_text(changed)
        exported.forget_sums(target)
    elif name == "two":
        exported.forge(target, "bars", path, rows.reverse())
        exported.forge(target, "bars", other, pl.read_parquet(other).head(1))
    elif name == "empty":
        exported.forge(target, "bars", path, rows.clear())
    else:
        exported.forge(target, "bars", path, FORGERIES[name][0](rows))
    found = verify.verify(target)
    assert found.height > 0
    assert found.equals(one_by_one(target, monkeypatch))


def random_rows(rng: np.random.Generator) -> pl.DataFrame:
    count, files = int(rng.integers(1, 60)), int(rng.integers(1, 5))
    rows = pl.DataFrame(
        {
            "symbol": rng.choice(["A", "B", "C", None], count).tolist(),
            "ts": rng.choice([*range(12), None], count).tolist(),
            FILE: np.sort(rng.integers(0, files, count)).astype(np.int32),
        },
        schema_overrides={"symbol": pl.String, "ts": pl.Int64},
    )
    return rows.with_columns((pl.col(FILE) // 2).alias(GROUP))


@pytest.mark.parametrize("seed", range(60))
def test_order_and_keys_of_files_together_are_those_of_each(seed):
    rng = np.random.default_rng(seed)
    rows = random_rows(rng)
    if seed % 3:
        rows = rows.sort(FILE, *BY, nulls_last=False)
    if seed % 3 == 2:
        rows = rows.unique([FILE, *BY], maintain_order=True)
    parts = rows.partition_by(FILE)
    assert are_sorted(rows, BY) == all(is_sorted_by(part, BY) for part in parts)
    if seed % 3:
        folders = rows.partition_by(GROUP)
        assert repeat_keys(rows, BY) == any(part.select(BY).is_duplicated().any() for part in folders)


def test_rows_of_another_folder_are_seen():
    rows = pl.DataFrame({FILE: [0, 0, 1], "interval": ["1m", "1m", "5m"], "month": ["2024-01"] * 3})
    assert lie_in_folders(rows, ("interval", "month"), ["1m/2024-01", "5m/2024-01"])
    assert not lie_in_folders(rows, ("interval", "month"), ["1m/2024-01", "1m/2024-01"])
    assert lie_in_folders(rows, (), ["", ""])
