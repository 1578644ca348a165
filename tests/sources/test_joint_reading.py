"""Files that are read together give what each of them gives alone."""

# ruff: noqa: S311, RUF005 - seeded texts; lines are cut and joined

from __future__ import annotations

import re
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from random import Random

import polars as pl
import pytest
from engine.errors import SourceError
from engine.sources.batch import Batch
from engine.sources.formats.format import format_named
from engine.sources.joint_parts import MOST_FILES, joint_groups
from engine.sources.options import ReadOptions
from engine.sources.read import read, read_all
from engine.sources.scan import scan
from polars.testing import assert_frame_equal

HEADERS = ("timestamp,open,high,low,close,volume", "ts,open,high,low,close,volume,note", "time,open,high,low,close")
FORMS = ("2024-01-{day:02}T{hour:02}:{minute:02}:00Z", "2024-03-{day:02} {hour:02}:{minute:02}:00-05:00")
DAMAGES = (
    lambda lines, _: lines,
    lambda lines, _: lines,
    lambda lines, _: lines,
    lambda lines, at: lines[:at] + [lines[at].replace(",", ",x", 1)] + lines[at + 1 :],
    lambda lines, at: lines[:at] + [lines[at] + ",1"] + lines[at + 1 :],
    lambda lines, at: lines[:at] + ["", *lines[at:]],
    lambda lines, at: lines[:at] + [lines[at].rsplit(",", 1)[0] + ","] + lines[at + 1 :],
    lambda lines, at: lines[:at] + ['"' + lines[at].replace(",", '",', 1)] + lines[at + 1 :],
    lambda lines, at: lines[:at] + [lines[at], *lines[at:]],
    lambda lines, at: [lines[0], *lines[:0:-1]],
    lambda lines, at: lines[:1],
    lambda lines, at: [*lines[: at + 1], lines[0], *lines[at + 1 :]],
    lambda lines, at: [lines[0] + ",more", *(line + ",é" for line in lines[1:])],
    lambda lines, at: ["# from a vendor", *lines],
)


def assert_same(got: list[Batch], expected: list[Batch]) -> None:
    """Equal in every field."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        for field in fields(Batch):
            mine, its = getattr(one, field.name), getattr(other, field.name)
            if isinstance(mine, pl.DataFrame):
                assert_frame_equal(mine, its)
            else:
                assert mine == its, field.name


def assert_alike(folder: Path, options: ReadOptions, fewest: int) -> None:
    """Read the files of a folder together and alone; at least so many must be read together."""
    files, _ = scan([folder], options)
    together = [
        batches
        for group in joint_groups(files)
        for batches in format_named(group[0].format).read_together(group, options)
    ]
    assert sum(batches is not None for batches in together) >= fewest
    for file, got in zip(
        files, (one for group in joint_groups(files) for one in read_all(group, options)), strict=True
    ):
        if isinstance(got, SourceError):
            with pytest.raises(SourceError, match=re.escape(str(got))):
                read(file, options)
        else:
            assert_same(got, read(file, options))


def text_of(rng: Random, header: str, form: str, step: int) -> str:
    """Lines of bars in random walks, some of them damaged."""
    names = header.split(",")
    lines, day, minute, price = [header], 2, 0, rng.uniform(5, 500)
    for _ in range(rng.randint(1, 60)):
        minute += step * rng.choice((1, 1, 1, 2))
        day, minute = (day + 1, 0) if minute >= 300 else (day, minute)
        price *= 1 + rng.uniform(-0.01, 0.01)
        cells = {
            "open": price,
            "high": price + 1,
            "low": price - 1,
            "close": price,
            "volume": rng.randint(0, 9),
            "note": "a",
        }
        stamp = form.format(day=day, hour=15 + minute // 60, minute=minute % 60)
        lines.append(",".join([stamp, *(f"{cells[name]}" for name in names[1:])]))
    damage = rng.choice(DAMAGES)
    return "\n".join(damage(lines, rng.randrange(1, len(lines)))) + rng.choice(("\n", ""))


@pytest.mark.parametrize("seed", range(6))
def test_read_together_random_texts_equals_each_alone(tmp_path, seed):
    rng = Random(seed)
    header, form = rng.choice(HEADERS), rng.choice(FORMS)
    for number in range(24):
        path = tmp_path / f"S{number:02}{rng.choice(('', '_1m', '_5m'))}.csv"
        path.write_text(text_of(rng, header, form, rng.choice((1, 1, 5))))
    (tmp_path / "A.csv").write_text("\n".join([header, *(header.replace(",", "0,") for _ in range(2))]))
    (tmp_path / "AA.csv").write_text(text_of(Random(seed), header, form, 1))
    changes = (
        {},
        {"stamp": "end"},
        {"shift": "1m"},
        {"interval": "1m"},
        {"align": "clock"},
        {"symbols": tuple(f"S{n:02}" for n in range(18))},
    )
    assert_alike(tmp_path, ReadOptions(**changes[seed]), 3)


def test_read_together_even_files_are_read_together(tmp_path):
    rng = Random(1)
    lines = [HEADERS[0], *(f"2024-01-02T15:{minute:02}:00Z,2,3,1,2,{minute}" for minute in range(50))]
    for number in range(9):
        (tmp_path / f"S{number}.csv").write_text("\n".join(lines[: rng.randint(3, 50)]))
    (tmp_path / "S9.csv").write_text("\n".join([*lines, "2024-01-02T16:00:00Z,2,3,1,2,x"]))
    assert_alike(tmp_path, ReadOptions(), 0)
    (tmp_path / "S9.csv").write_text("\n".join([*lines, "2024-01-02T16:00:00Z,2,1,3,2,5"]))
    assert_alike(tmp_path, ReadOptions(), 9)


def test_read_together_local_stamps_of_one_zone(tmp_path):
    for number, month in enumerate((2, 3, 7, 11)):
        lines = [f"2024-{month:02}-05 10:{minute:02},2,3,1,2,5" for minute in range(20)]
        (tmp_path / f"S{number}.csv").write_text("\n".join([HEADERS[0], *lines]))
    assert_alike(tmp_path, ReadOptions(timezone="America/New_York"), 4)
    assert_alike(tmp_path, ReadOptions(), 0)  # no zone: each one is refused


def test_read_together_lean_zips_equals_each_alone(tmp_path):
    rng = Random(2)
    for number in range(12):
        lines = [
            f"{34_200_000 + 60_000 * minute},20000,30000,10000,{rng.randint(10000, 30000)},7" for minute in range(30)
        ]
        if number == 3:
            lines[5] = "34500000,20000,10000,30000,20000,7"
        if number == 4:
            lines[5] = "90000000,20000,30000,10000,20000,7"
        if number == 5:
            lines[5] += ",1"
        path = tmp_path / "equity" / "usa" / "minute" / f"s{number % 4}" / f"2024030{1 + number // 4}_trade.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"2024030{1 + number // 4}_s{number % 4}_minute_trade.csv", "\n".join(lines))
            if number == 6:
                archive.writestr("20240229_s2_minute_trade.csv", "34200000,1,1,1,1,1")
    path = tmp_path / "equity" / "usa" / "minute" / "s9" / "20240304_trade.zip"
    path.parent.mkdir()
    path.write_bytes(b"PK\x03\x04 no zip")
    assert_alike(tmp_path, ReadOptions(), 8)
    assert_alike(tmp_path, ReadOptions(symbols=("S1",), price_types=("last",)), 2)


def test_group_files_cuts_by_number_and_format(tmp_path):
    (tmp_path / "A.csv").write_text(HEADERS[0] + "\n2024-01-02T15:00:00Z,2,3,1,2,5\n")
    files, _ = scan([tmp_path], ReadOptions())
    many = files * (MOST_FILES + 1)
    assert [len(group) for group in joint_groups(many)] == [MOST_FILES, 1]
    other = replace(files[0], format="ndjson")
    assert [len(group) for group in joint_groups([*files, other, other, replace(other, given_symbol="X")])] == [1, 2, 1]
