"""Truncated files and flipped bits in files that a revision pins: what `verify` says, and what plain readers say.

Files are chosen by chance, and so is where they are hurt: a truncation keeps any length from nothing to all but one byte, a
flip turns one bit of any byte. Several files are hurt at once, one fault each; `verify` must name every one of them. Then Polars,
DuckDB and PyArrow read each hurt file by itself, as anybody would who was not told, in another process, because damage may end
the one that reads. What they give is compared with what they give of the whole file.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from engine.export.dataset import Dataset, open_dataset
from engine.export.maintenance.verify import verify
from engine.export.maintenance.verify_findings import damaged, try_reading

from tests.soak.report import Line, first
from tests.soak.story import Chronicle, export

SEED = 77
REVISIONS = 6
WHOLE = "whole"
AT_ONCE = 12
ANSWER_SECONDS = 60.0
Damage = Callable[[bytes, random.Random], bytes]


def truncated(content: bytes, chance: random.Random) -> bytes:
    """Any shorter beginning."""
    return content[: chance.randrange(len(content))]


def flipped(content: bytes, chance: random.Random) -> bytes:
    """The same with one bit turned."""
    place, bit = chance.randrange(len(content)), chance.randrange(8)
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def damage_files(folder: Path, truncations: int, flips: int) -> list[Line]:
    """Hurt so many files and put them back.

    Parameters
    ----------
    folder : Path
        Empty; filled with an export.
    truncations, flips : int
    """
    chronicle, target = Chronicle(), folder / "out"
    for generation in range(1, REVISIONS + 1):
        export(chronicle.snapshot(generation), target, full=False)
    dataset = open_dataset(target)
    # What plain readers are compared with.
    shutil.copytree(target, folder / WHOLE)
    whole = {path: path.read_bytes() for table in dataset.tables for path in dataset.files(table) if table != "exports"}
    kinds = (("truncation", truncations, truncated), ("bit flip", flips, flipped))
    with closing(_Reader()) as reader:
        return [_Trial(kind, times, damage, dataset, whole, reader).line() for kind, times, damage in kinds if times]


@dataclass
class _Trial:
    kind: str
    times: int
    damage: Damage
    dataset: Dataset
    whole: Mapping[Path, bytes]
    reader: _Reader
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    false_alarms: list[str] = field(default_factory=list)

    def line(self) -> Line:
        chance, done = random.Random(f"{SEED} {self.kind}"), 0  # noqa: S311
        while done < self.times:
            chosen = chance.sample(sorted(self.whole), min(AT_ONCE, len(self.whole), self.times - done))
            with _hurt({path: self.damage(self.whole[path], chance) for path in chosen}, self.whole):
                self._verify(chosen)
                self._read(chosen)
            done += len(chosen)
        readers = [f"{name}: {self._spoken(name)}" for name in READERS]
        seen = (
            f"verify named {self.times - len(self.missed):,} of {self.times:,} files, and {len(self.false_alarms)} whole ones",
            *readers,
        )
        failures = self.missed + self.false_alarms
        return Line(f"{self.kind} of a pinned file", self.times, len(failures), seen, first(failures))

    def _verify(self, hurt: Sequence[Path]) -> None:
        target = self.dataset.target
        named = set(damaged(verify(target))["file"])
        self.missed += [f"verify did not name {path}" for path in hurt if str(path.relative_to(target)) not in named]
        innocent = named - {str(path.relative_to(target)) for path in hurt}
        self.false_alarms += [f"verify named {file}, which is whole" for file in sorted(innocent)]

    def _read(self, hurt: Sequence[Path]) -> None:
        target = self.dataset.target
        for path in hurt:
            twin = target.with_name(WHOLE) / path.relative_to(target)
            for name in READERS:
                self.counts[name, self.reader.outcome(name, path, twin)] += 1

    def _spoken(self, name: str) -> str:
        told = {outcome: self.counts[name, outcome] for outcome in OUTCOMES}
        silent = told["same"] + told["wrong"]
        crashed = f", {told['crash']} crashed it" if told["crash"] else ""
        return f"{silent} read without an error ({told['wrong']} with wrong rows){crashed}"


@contextmanager
def _hurt(damaged_files: Mapping[Path, bytes], whole: Mapping[Path, bytes]) -> Iterator[None]:
    try:
        for path, content in damaged_files.items():
            path.write_bytes(content)
        yield
    finally:
        for path in damaged_files:
            path.write_bytes(whole[path])


# Each in its plainest form: one file, all columns.


def _by_polars(path: str) -> pa.Table:
    return pl.read_parquet(path, hive_partitioning=False).to_arrow()


def _by_duckdb(path: str) -> pa.Table:
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone='UTC'")
        return con.execute("SELECT * FROM read_parquet(?)", [path]).to_arrow_table()


def _by_pyarrow(path: str) -> pa.Table:
    return pq.ParquetFile(path).read()


READERS: Mapping[str, Callable[[str], pa.Table]] = {"Polars": _by_polars, "DuckDB": _by_duckdb, "PyArrow": _by_pyarrow}
OUTCOMES = ("error", "same", "wrong", "crash")


class _Reader:
    """A process that reads; begun anew when a file ends it."""

    def __init__(self) -> None:
        self._begin()

    def outcome(self, name: str, path: Path, twin: Path) -> str:
        """One of `OUTCOMES` for a hurt file and a library; the twin is whole."""
        self._line.send((name, str(path), str(twin)))
        try:
            if self._line.poll(ANSWER_SECONDS):
                return str(self._line.recv())
        except EOFError:
            pass
        self.close()
        self._begin()
        return "crash"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._line.close()

    def _begin(self) -> None:
        context = get_context("spawn")
        self._line, other = context.Pipe()
        self._process = context.Process(target=_read_all, args=(other,), daemon=True)
        self._process.start()
        other.close()


def _read_all(line: Connection) -> None:
    # Panics and aborts are what is counted here; their traces would bury the table.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    whole = lru_cache(maxsize=None)(_read)
    while True:
        name, path, twin = line.recv()
        rows, _ = try_reading(partial(_read, name, path))
        line.send("error" if rows is None else "same" if rows.equals(whole(name, twin)) else "wrong")


def _read(name: str, path: str) -> pa.Table:
    return READERS[name](path)
