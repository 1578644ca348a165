"""Calendars that are kept on disk: equal to what is built, never read when damaged or of another origin, nobody else's."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from engine.calendars import cache, disk_cache, libraries, providers
from engine.calendars.disk_cache import FOLDER, cached_on_disk, folder_of_caches
from engine.calendars.libraries import build_exchange_decade, build_market_decade, describe_market, list_exchanges
from engine.calendars.providers import build_shipped_decade, calendar, calendar_codes
from polars.testing import assert_frame_equal

Build = Callable[..., pl.DataFrame]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of caches; nothing is cached in the process, before the test and after it."""
    monkeypatch.setenv(FOLDER, str(tmp_path / "caches"))
    cache._entry.cache_clear()
    yield tmp_path / "caches" / "calendars"
    cache._entry.cache_clear()


def numbered(count: int) -> pl.DataFrame:
    return pl.DataFrame({"n": range(count)})


def not_called(*_: object) -> pl.DataFrame:
    raise AssertionError("built again")


not_called.__name__ = numbered.__name__


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (build_exchange_decade, ("XNYS", 202)),
        (build_exchange_decade, ("XHKG", 199)),
        (build_market_decade, ("TSXV", 202)),
        (build_shipped_decade, ("CME_INDEX", 201)),
        (build_shipped_decade, ("24/7", 202)),
        (list_exchanges, ()),
        (describe_market, ("TSXV",)),
    ],
)
def test_kept_frame_equals_the_built_one(build: Build, arguments: tuple[str | int, ...], folder: Path) -> None:
    built = build(*arguments)
    cached_on_disk(build, *arguments)
    assert_frame_equal(cached_on_disk(build, *arguments), built)
    assert [path.name.split("-")[0] for path in folder.iterdir() if path.name.startswith(build.__name__)] == [
        build.__name__
    ]


def test_a_second_process_asks_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    dates = dt.date(2024, 1, 2), dt.date(2024, 12, 31)
    codes = ("XNYS", "CME_INDEX", "XTAE", "TSXV", "XHKG")
    before = {code: (calendar(code), calendar(code).segments(*dates)) for code in codes}
    listed = calendar_codes()
    cache._entry.cache_clear()  # as a new process
    for name in ("load_exchange_factories", "build_market_instance"):  # what imports them
        monkeypatch.setattr(libraries, name, not_called)
    for code, (asked, segments) in before.items():
        assert repr(calendar(code)) == repr(asked)
        assert_frame_equal(calendar(code).segments(*dates), segments)
    monkeypatch.undo()
    assert_frame_equal(calendar_codes(), listed)


@pytest.mark.parametrize(
    "damage",
    {
        "empty": lambda content: b"",
        "cut short": lambda content: content[:-1],
        "longer": lambda content: content + b"\0",
        "other digest": lambda content: bytes([content[0] ^ 1]) + content[1:],
        "other bytes": lambda content: content[:-200] + bytes([content[-200] ^ 1]) + content[-199:],
        "no frame": lambda content: b"PAR1" * 100,
    }.items(),
    ids=lambda pair: pair[0],
)
def test_damaged_file_is_built_anew(damage: tuple[str, Callable[[bytes], bytes]], folder: Path) -> None:
    cached_on_disk(numbered, 5)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage[1](whole))
    assert_frame_equal(cached_on_disk(numbered, 5), numbered(5))
    assert path.read_bytes() == whole
    assert_frame_equal(cached_on_disk(not_called, 5), numbered(5))


def test_file_of_another_question_is_not_its_answer(folder: Path) -> None:
    cached_on_disk(numbered, 5)
    (path,) = folder.iterdir()
    cached_on_disk(numbered, 6)
    (other,) = set(folder.iterdir()) - {path}
    other.write_bytes(path.read_bytes())
    assert_frame_equal(cached_on_disk(numbered, 6), numbered(6))


def test_file_of_another_origin_is_built_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    cached_on_disk(numbered, 5)
    monkeypatch.setattr(disk_cache, "origin", lambda: b"other versions")
    with pytest.raises(AssertionError, match="built again"):
        cached_on_disk(not_called, 5)


def test_origin_depends_on_versions_and_on_the_files_of_the_calendars(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def origin() -> bytes:
        disk_cache.origin.cache_clear()
        return disk_cache.origin()

    before = origin()
    assert origin() == before
    monkeypatch.setattr(disk_cache, "version", lambda name: "0")
    versions = origin()
    monkeypatch.undo()
    (tmp_path / "xnys.toml").write_text("")
    monkeypatch.setattr(disk_cache, "PACKAGE", tmp_path)
    files = origin()
    (tmp_path / "xnys.toml").write_text("x")
    assert len({before, versions, files, origin()}) == 4
    disk_cache.origin.cache_clear()


def test_nothing_is_kept_where_that_is_asked(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv(FOLDER, "")
    assert_frame_equal(cached_on_disk(numbered, 5), numbered(5))
    assert not folder.exists()


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_folder_that_others_may_write_to_is_not_used(folder: Path) -> None:
    cached_on_disk(numbered, 5)
    folder.chmod(0o777)
    assert folder_of_caches() is None
    with pytest.raises(AssertionError, match="built again"):
        cached_on_disk(not_called, 5)
    folder.chmod(0o700)
    assert_frame_equal(cached_on_disk(not_called, 5), numbered(5))


@pytest.mark.parametrize("name", ["file", "file/below", "with\0nul"])
def test_folder_that_cannot_be_made_is_done_without(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(disk_cache, "user_cache_path", lambda *_, **__: tmp_path / name)
    monkeypatch.delenv(FOLDER)
    assert folder_of_caches() is None
    assert_frame_equal(cached_on_disk(numbered, 5), numbered(5))


def test_full_disk_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert_frame_equal(cached_on_disk(numbered, 5), numbered(5))
    assert list(folder.iterdir()) == []


def test_calendars_of_another_process_are_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipped calendar may extend one that was adopted with overrides: only what depends on nothing else is kept."""
    monkeypatch.setattr(cache, "_adopted", {})
    day = dt.date(2024, 1, 3)
    base = calendar("XHKG")
    cache.adopt([replace(base, code="OTHER")])
    providers.shipped_decade("XPHS", 202)
    assert not any(path.name.startswith("build_shipped_decade") for path in folder.iterdir())
    assert calendar("XPHS").segments(day, day).height
