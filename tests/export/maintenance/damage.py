"""Damage of every kind to every kind of file of an export, and what readers may say afterwards.

The oracle is the undamaged copy: a reader gives the rows of a revision of it, or an error of this package that names a file
of the export and a command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import engine
import polars as pl
from engine.errors import EngineError
from engine.export import delta_table
from engine.export.dataset import open_dataset
from engine.export.delta import apply_delta, read_delta
from engine.export.difference import diff
from engine.export.revision_history import history
from engine.export.tables import KEYS
from engine.runtime.run import export_session
from engine.store.session_data import SessionData

from tests.export.maintenance import exported

Tables = dict[str, pl.DataFrame]
ASKED = ("bars", "gaps", "quality", "symbols")


def truncated(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeroed(path: Path, other: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def emptied(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path, other: Path) -> None:
    exported.flip(path, path.stat().st_size * 4)


def deleted(path: Path, other: Path) -> None:
    path.unlink()


def swapped(path: Path, other: Path) -> None:
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


def overwritten(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def renamed(path: Path, other: Path) -> None:
    path.rename(path.with_name(f"{path.name}.bak"))


def folder(path: Path, other: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: Mapping[str, Callable[[Path, Path], None]] = {
    one.__name__: one for one in (truncated, zeroed, emptied, flipped, deleted, swapped, overwritten, renamed, folder)
}


def truth_of(target: Path) -> dict[int, Tables]:
    """All data tables of each revision."""
    return {n: exported.contents(target, n) for n in open_dataset(target).exports["revision"]}


def by_sql(target: Path, revision: int) -> Tables:
    tables = {name: engine.sql(target, f"FROM {name}", revision=revision) for name in ASKED}
    return {name: rows.sort(KEYS[name]) for name, rows in tables.items()}


def by_delta(target: Path, revision: int) -> Tables:
    rows = apply_delta({}, read_delta(target, 0, revision))
    return {name: frame.sort(KEYS[name]) for name, frame in rows.items()}


READERS: Mapping[str, Callable[[Path, int], Tables]] = {
    "scan": exported.contents,
    "sql": by_sql,
    "delta": by_delta,
}


def is_equal(one: Tables, other: Tables, without: tuple[str, ...] = ()) -> bool:
    return all(
        rows.drop(without, strict=False).equals(other[name].drop(without, strict=False)) for name, rows in one.items()
    )


def wrong_answers(target: Path, truth: Mapping[int, Tables], without: tuple[str, ...] = ()) -> Iterator[str]:
    """Readers that give rows which are of no revision, or refuse without a file and a command."""
    for name, reader in READERS.items():
        revision = min(truth) if name == "delta" else max(truth)
        try:
            rows = reader(target, revision)
        except EngineError as error:
            yield from unclear(f"{name} of {revision}", target, str(error))
            continue
        if not is_equal(rows, truth[revision], without):
            yield f"{name}: rows are not those of revision {revision}"
    try:
        last = open_dataset(target).revision
        if last != max(truth):
            yield f"opened revision {last}, there was {max(truth)}"
        listed = history(target)
        if listed["revision"].to_list() != sorted(truth):
            yield f"history lists {listed['revision'].to_list()}"
        found = diff(target, min(truth), max(truth))
        before, after = truth[min(truth)]["gaps"], truth[max(truth)]["gaps"]
        key = [*KEYS["gaps"], "gap_end"]
        if found.gaps.added.height != after.join(before, on=key, how="anti", nulls_equal=True).height:
            yield "diff of gaps"
    except EngineError as error:
        yield from unclear("open, history or diff", target, str(error))


def unclear(reader: str, target: Path, message: str) -> Iterator[str]:
    """The message, where it lacks a file of the export, or a command."""
    has_file = any(name in message for name in (".json", ".parquet", "_last_checkpoint", delta_table.LOG))
    if not has_file or "`engine repair`" not in message:
        yield f"{reader}: {message}"


@cache
def next_session() -> tuple[SessionData, Tables]:
    """A session to export next, and its tables."""
    session = exported.stored()
    with TemporaryDirectory() as folder:
        exported.settle(session, Path(folder, "clean"), 5)
        return session, exported.contents(Path(folder, "clean"))


def wrong_export(target: Path, truth: Mapping[int, Tables]) -> Iterator[str]:
    """What a next export gets wrong: it is refused as a reader refuses, or makes the next revision, right."""
    session, expected = next_session()
    try:
        revision = export_session(session, target, exported.clock(5))
    except EngineError as error:
        yield from unclear("export", target, str(error))
        return
    if revision != max(truth) + 1:
        yield f"export made revision {revision} after {max(truth)}"
    if not is_equal(exported.contents(target), expected, ("revision",)):
        yield "export: rows are not those of the store"
