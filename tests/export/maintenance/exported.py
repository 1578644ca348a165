"""An export of three revisions on a tiny calendar, and ways to damage one."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import engine.publish
import orjson
import polars as pl
import pyarrow.parquet as pq
from engine.clock import ManualClock
from engine.export import delta_table
from engine.export.dataset import open_dataset
from engine.export.log_copies import COPIES
from engine.export.maintenance.compact import compact
from engine.export.maintenance.log_sums import NOTE
from engine.export.maintenance.vacuum import vacuum
from engine.export.parquet import column_statistics
from engine.export.tables import DATA_TABLES, KEYS
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.runtime.run import export_session

from tests.export.store_sample import BASE, bars, new_store, quotes, register, ticks

NOON = dt.datetime(2024, 2, 5, 12, tzinfo=dt.UTC)
CALENDARS = BASE


def clock(hours: float) -> ManualClock:
    return ManualClock(NOON + dt.timedelta(hours=hours))


def settle(session, target: Path, hours: float) -> int:
    derive_session(session)
    assess_session(session)
    return export_session(session, target, clock(hours))


def stored():
    """A and B have bars of two days with holes; T has ticks, Q quotes."""
    session = new_store()
    register(session, "A")
    register(session, "B")
    register(session, "T", base_from="ticks")
    register(session, "Q", base_from="quotes", price_type="bid")
    rows = [
        bars(s, day, [n for n in range(12) if n not in holes])
        for s, holes in (("A", (3, 4)), ("B", (0, 11)))
        for day in (0, 1)
    ]
    session.append(rows, interval="1m")
    session.append(ticks("T", 0, [0, 1, 5, 6]), "ticks")
    session.append(quotes("Q", 1, [0, 2, 7]), "quotes")
    return session


def written(target: Path, revisions: int = 3) -> Path:
    """Revision 2 fills A's hole at slot 3, corrects slot 5 and brings day 2; revision 3 has no B."""
    session = stored()
    settle(session, target, 0)
    if revisions > 1:
        session.append([bars("A", 0, [3, 5], 2.0), bars("A", 2, list(range(6)))], interval="1m")
        settle(session, target, 1)
    if revisions > 2:
        session.remove_symbol("B")
        settle(session, target, 2)
    return target


def minutes(target: Path, count: int = 12) -> Path:
    """A live session: an export after every minute."""
    session = new_store()
    for symbol in ("A", "B", "C"):
        register(session, symbol)
    for slot in range(count):
        session.append([bars(symbol, 0, [slot], slot + 1.0) for symbol in ("A", "B", "C")], interval="1m")
        settle(session, target, slot / 60)
    return target


def contents(target: Path, revision: int | None = None) -> dict[str, pl.DataFrame]:
    opened = open_dataset(target, revision)
    return {name: opened.scan(name).sort(KEYS[name]).collect() for name in DATA_TABLES}


def pinned(target: Path, revision: int | None = None) -> list[Path]:
    opened = open_dataset(target, revision)
    return [path for name in DATA_TABLES for path in opened.files(name)]


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)


def forge(target: Path, table: str, path: Path, rows: pl.DataFrame) -> Path:
    """Put rows where a file was, with a true name and a log that agrees: nothing but the rows tells."""
    buffer = io.BytesIO()
    rows.write_parquet(buffer, statistics=True)
    content = buffer.getvalue()
    name = f"{path.stem.partition('-')[0]}-{hashlib.sha256(content).hexdigest()}.parquet"
    log = target / table / delta_table.LOG
    for entry in sorted(log.glob("*.json")):
        text = entry.read_text()
        if path.name in text:
            entry.write_text(
                "".join(_forged(line, path, name, len(content), rows) for line in text.splitlines(keepends=True))
            )
    path.unlink()
    (path.parent / name).write_bytes(content)
    forget_sums(target)
    return path.parent / name


def forget_sums(target: Path) -> None:
    """Take what `exports` notes of the logs out of its own, and the copies of the logs, as an export of before has it."""
    shutil.rmtree(target / COPIES, ignore_errors=True)
    for entry, text in edited_log(target, "exports"):
        actions = [orjson.loads(line) for line in text.splitlines()]
        for action in actions:
            action.get("commitInfo", {}).pop(NOTE, None)
        entry.write_bytes(b"".join(orjson.dumps(action) + b"\n" for action in actions))


def _forged(line: str, path: Path, name: str, size: int, rows: pl.DataFrame) -> str:
    action = orjson.loads(line)
    if "add" in action and action["add"]["path"].endswith(path.name):
        action["add"] |= {
            "path": action["add"]["path"].replace(path.name, name),
            "size": size,
            "stats": column_statistics(rows),
        }
        return orjson.dumps(action).decode() + "\n"
    return line


def edited_log(target: Path, table: str) -> Iterator[tuple[Path, str]]:
    for entry in sorted((target / table / delta_table.LOG).glob("*.json")):
        yield entry, entry.read_text()


READERS = {
    "polars": lambda path: pl.read_parquet(path, hive_partitioning=False),
    "pyarrow": lambda path: pl.DataFrame(pq.ParquetFile(path).read()),
    "duckdb": lambda path: duckdb.sql(f"SELECT * FROM read_parquet('{path}', hive_partitioning=false)").pl(),  # noqa: S608
}


def read_all(reader: str, pairs: str) -> int:
    """Read damaged files in a child, as some readers die of them: a word for each."""
    for path, whole in json.loads(pairs):
        try:
            rows, want = READERS[reader](path), pl.read_parquet(whole)
            # DuckDB has its own name for UTC.
            is_same = rows.columns == want.columns and rows.cast(dict(want.schema)).equals(want)
            word = "quiet" if is_same else "quiet,wrong"
        except BaseException:  # noqa: BLE001 - Rust panics are no Exception
            word = "error"
        print(word, flush=True)  # noqa: T201
    return 0


def main(action: str, folder: str, kill_at: str) -> int:
    """A child of the fault tests: killed before its n-th step that changes the disk."""
    if action == "read":
        return read_all(folder, kill_at)
    left = [int(kill_at)]

    def counted(real):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return wrapped

    engine.publish.os.fsync = counted(os.fsync)
    Path.unlink = counted(Path.unlink)
    Path.replace = counted(Path.replace)
    if action == "vacuum":
        vacuum(Path(folder), keep_revisions=1, clock=clock(9))
    else:
        compact(Path(folder), clock=clock(9))
    print(int(kill_at) - left[0], flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
