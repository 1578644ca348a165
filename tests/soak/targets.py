"""Figures of exports that are large, read-only, or on a full disk.

    python -m tests.soak.targets revisions 1000      # so many revisions, each with one more file
    python -m tests.soak.targets files 20000         # so many files of one table
    python -m tests.soak.targets symbols 50000       # one session of so many symbols: load, export, read
    python -m tests.soak.targets questions 1000000   # a table of so many rows: questions to a warm process against DuckDB
    python -m tests.soak.targets read-only           # a target without the right to write; as root, start it by
                                                     # setpriv --bounding-set=-dac_override,-dac_read_search
    python -m tests.soak.targets full FOLDER         # a target on a file system of a few MB, as
                                                     # mount -t tmpfs -o size=3m tmpfs FOLDER makes one

Each prints one line per measure. Exits with 1 when an answer was wrong, or a refusal changed the target.
"""

from __future__ import annotations

import datetime as dt
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import engine
import polars as pl
from engine.errors import EngineError
from engine.export.dataset import (
    RevisionDraft,
    RevisionPlan,
    StoreState,
    commit_revision,
    open_dataset,
    write_dataset,
)
from engine.export.formats.session_files import write_files
from engine.export.log_copies import COPIES
from engine.export.maintenance.compact import compact
from engine.export.maintenance.vacuum import vacuum
from engine.export.maintenance.verify import verify
from engine.export.maintenance.verify_findings import faults
from engine.export.parquet import stage
from engine.export.revision_history import history
from engine.export.tables import DATA_TABLES, TABLES, conform_table
from engine.runtime.export_repair import repair

from tests.export.maintenance import exported
from tests.soak.week import Market

NOON = exported.NOON
OHLCV = ("open", "high", "low", "close", "volume")


def main(words: list[str]) -> int:
    """Run one kind; 1 when something was wrong."""
    kind, *rest = words
    with tempfile.TemporaryDirectory(prefix="engine-targets-") as folder:
        place = Path(rest[0]) if kind == "full" else Path(folder)
        wrong = {
            "revisions": lambda: measure_revisions(place / "out", int(rest[0])),
            "files": lambda: measure_files(place / "out", int(rest[0])),
            "symbols": lambda: measure_symbols(place, int(rest[0])),
            "questions": lambda: measure_questions(place / "out", int(rest[0])),
            "read-only": lambda: try_read_only(place / "out"),
            "full": lambda: try_full(place / "out"),
        }[kind]()
    for line in wrong:
        say(f"WRONG: {line}")
    return 1 if wrong else 0


def say(text: str) -> None:
    print(text, flush=True)


def timed(what: str, act: Callable[[], Any]) -> Any:
    """Run, print the wall and processor time, return what came."""
    wall, own = time.perf_counter(), time.process_time()
    result = act()
    say(f"{what}: {time.perf_counter() - wall:.2f} s, of the processor {time.process_time() - own:.2f} s")
    return result


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure_readers(target: Path, bars: int) -> list[str]:
    """Times of all readers; what they count wrong."""
    wrong = []
    for again in ("", ", again"):
        counted = timed(f"engine.sql, count of bars{again}", lambda: engine.sql(target, "SELECT count(*) FROM bars"))
        if counted.item() != bars:
            wrong.append(f"sql counts {counted.item()} bars, {bars} were written")
    if timed("open_dataset and rows of bars", lambda: open_dataset(target).rows("bars")) != bars:
        wrong.append("rows of the log")
    timed("history", lambda: history(target))
    timed("verify --quick", lambda: verify(target, quick=True))
    return wrong


def measure_revisions(target: Path, count: int) -> list[str]:
    """Commit so many revisions that add one file of bars each, then read, damage and repair."""
    taken = []
    for number in range(count):
        rows = rows_of_bars(pl.DataFrame({"interval": ["1m"], "n": [number]})).with_columns(
            pl.lit(number + 1, pl.Int64).alias("revision")
        )

        def plan(draft: RevisionDraft, rows: pl.DataFrame = rows) -> RevisionPlan:
            """One more file of bars."""
            staged = list(stage("bars", conform_table("bars", rows), draft.staging))
            return RevisionPlan({"bars": draft.edited("bars", staged, [])})

        begin = time.process_time()
        commit_revision(target, plan, StoreState("many", number + 1, NOON + dt.timedelta(minutes=number)))
        taken.append(time.process_time() - begin)
    middle = sorted(taken[-20:])[10]
    say(f"{count} revisions; processor time of the first {taken[0]:.3f} s, median of the last 20 {middle:.3f} s")
    logs = sum(folder_bytes(path) for path in target.glob("*/_delta_log"))
    say(f"logs {logs:,} bytes, their copies {folder_bytes(target / COPIES):,}")
    wrong = measure_readers(target, count)
    max((target / "bars" / "_delta_log").glob("*.json")).unlink()
    done = timed("repair of a lost log entry", lambda: repair(target, calendars=exported.CALENDARS))
    if done.actions["action"].to_list() != ["restored"] or done.revision != count:
        wrong.append(f"repair: {done.actions.rows()}")
    timed("vacuum --keep-revisions 10", lambda: vacuum(target, keep_revisions=10, clock=exported.clock(99)))
    logs = sum(folder_bytes(path) for path in target.glob("*/_delta_log"))
    say(f"logs afterwards {logs:,} bytes, copies {folder_bytes(target / COPIES):,}")
    return wrong


def rows_of_bars(places: pl.DataFrame) -> pl.DataFrame:
    """A source bar of each interval and number of a month."""
    ts = pl.datetime(1900 + pl.col("n") // 12, pl.col("n") % 12 + 1, 2, 14, 30, time_zone="UTC", time_unit="us")
    rows = places.select(
        pl.lit("A").alias("symbol"), pl.lit("last").alias("price_type"), "interval", pl.lit("source").alias("origin"),
        ts.alias("ts"), (ts + pl.duration(minutes=1)).alias("ts_end"), ts.dt.date().alias("session"), pl.lit("RTH").alias("segment"),
        *(pl.lit(1.0).alias(name) for name in ("open", "high", "low", "close", "volume")),
        pl.lit("source").alias("provenance"), pl.lit("observed").alias("verdict"),
    )  # fmt: skip
    absent = [
        pl.lit(None, dtype).alias(name)
        for name, dtype in TABLES["bars"].items()
        if name not in (*rows.columns, "month")
    ]
    return rows.with_columns(absent).with_columns(pl.lit(1, pl.Int64).alias("revision"))


def measure_files(target: Path, count: int) -> list[str]:
    """Write a table of so many files, one bar each, then read it."""
    steps = pl.DataFrame({"interval": [f"{n}s" for n in range(1, 60)]})
    months = pl.DataFrame({"n": range(-(-count // 59))})
    tables = {"bars": rows_of_bars(steps.join(months, how="cross").head(count))}
    timed(
        f"export of {count:,} files",
        lambda: write_dataset(target, tables, store_id="files", store_revision=1, written_at=NOON),
    )
    return measure_readers(target, count)


def measure_symbols(place: Path, count: int) -> list[str]:
    """Load one session of so many symbols from a Parquet file, export it, read both; what is wrong."""
    market, source, target = Market(count, 1), place / "market.parquet", place / "out"
    bars = market.bars(market.minutes[0], market.minutes[-1]).select("symbol", "ts", *OHLCV)
    bars.write_parquet(source)
    counts = dict(bars.group_by("symbol").len().iter_rows())
    rows = bars.height
    del bars
    say(f"{count:,} symbols, {rows:,} bars")
    session = timed(
        "load, 5m and 1d derived, gaps and quality", lambda: engine.load(source, "XNYS", derive=["5m", "1d"])
    )
    timed("export", lambda: engine.export_session(session, target))
    wanted = market.names[:: max(1, count // 1000)]
    held = timed(
        f"get_symbol_data and bars of {len(wanted):,} symbols",
        lambda: {name: session.get_symbol_data(name).bars("1m").height for name in wanted},
    )
    timed("print(session)", lambda: str(session))
    wrong = [] if held == {name: counts[name] for name in wanted} else ["bars of symbols"]
    query = "SELECT symbol, count(*) AS rows FROM bars WHERE interval = '1m' GROUP BY symbol ORDER BY symbol"
    found = timed("engine.sql, bars of each symbol", lambda: engine.sql(target, query))
    wrong += [] if dict(found.iter_rows()) == counts else ["sql"]
    timed("engine.sql, one symbol", lambda: engine.sql(target, f"FROM bars WHERE symbol = '{wanted[-1]}'"))
    wrong += faults(timed("verify --quick", lambda: verify(target, quick=True)))["detail"].to_list()
    say(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")
    return wrong


def measure_questions(target: Path, rows: int) -> list[str]:
    """Ask the same of a table in turn by `engine.sql` and by an open DuckDB over the same files; what is unequal."""
    many = pl.int_range(rows, eager=True)
    minute = pl.duration(minutes=pl.col("n") // 50)
    bars = rows_of_bars(pl.DataFrame({"interval": ["1m"], "n": [1500]})).drop("symbol", "ts", "ts_end")
    bars = pl.DataFrame({"n": many}).join(bars, how="cross").with_columns(
        (pl.lit("S") + (pl.col("n") % 50).cast(pl.String)).alias("symbol"), (NOON + minute).alias("ts"),
        (NOON + minute + pl.duration(minutes=1)).alias("ts_end"), pl.col("n").cast(pl.Float64).alias("close"),
    )  # fmt: skip
    write_dataset(
        target, {"bars": conform_table("bars", bars.drop("n"))}, store_id="many", store_revision=1, written_at=NOON
    )
    query = "SELECT symbol, count(*) AS rows, avg(close) AS close FROM bars GROUP BY symbol ORDER BY symbol"
    files = [str(path) for path in open_dataset(target).files("bars")]
    taken: dict[str, list[float]] = {"DuckDB": [], "engine.sql": [], "engine.sql, SELECT 1": []}
    wrong = []
    with duckdb.connect() as con:
        con.execute(
            f"CREATE VIEW bars AS FROM read_parquet({files!r}, hive_partitioning=true, hive_types_autocast=false)"
        )
        asked = {
            "DuckDB": lambda: con.sql(query).pl(),
            "engine.sql": lambda: engine.sql(target, query),
            "engine.sql, SELECT 1": lambda: engine.sql(target, "SELECT 1"),
        }
        for number in range(21):
            answers = []
            for name, ask in asked.items():
                begin = time.perf_counter()
                answers.append(ask())
                taken[name] += [time.perf_counter() - begin] if number else []
            wrong += [] if answers[0].equals(answers[1]) else ["answers differ"]
    for name, seconds in taken.items():
        say(f"{name}: least {1000 * min(seconds):.0f} ms, median {1000 * sorted(seconds)[10]:.0f} ms")
    return wrong


@contextmanager
def without_write(target: Path) -> Iterator[None]:
    """Take away and give back the right to write to a folder and all in it."""
    paths = [target, *target.rglob("*")]
    try:
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


def contents_of(target: Path) -> dict[str, bytes]:
    return {str(path.relative_to(target)): path.read_bytes() for path in sorted(target.rglob("*")) if path.is_file()}


def try_read_only(target: Path) -> list[str]:
    """Every reader answers, every writer refuses with the reason and no advice to repair; nothing changes."""
    exported.written(target)
    truth, before = exported.contents(target), contents_of(target)
    wrong = []
    with without_write(target):
        if os.access(target, os.W_OK):
            return ["this user may write everywhere: start it with setpriv, or as an ordinary user"]
        if not all(engine.sql(target, f"FROM {name}").height == truth[name].height for name in DATA_TABLES):
            wrong.append("sql")
        wrong += faults(verify(target))["detail"].to_list()
        writers: dict[str, Callable[[], object]] = {
            "export": lambda: exported.settle(exported.stored(), target, 5),
            "repair": lambda: repair(target, calendars=exported.CALENDARS),
            "compact": lambda: compact(target),
            "vacuum": lambda: vacuum(target, keep_revisions=1),
            "export --to, beside a read-only folder": lambda: write_files(
                open_dataset(target), "csv", target.parent / "csv"
            ),
        }
        wrong += refusals(writers, allowed=("export --to, beside a read-only folder",))
    if contents_of(target).keys() - {".lock"} != before.keys() - {".lock"}:
        wrong.append("files came or went")
    return wrong


def refusals(writers: dict[str, Callable[[], object]], allowed: tuple[str, ...] = ()) -> list[str]:
    """Run the writers, print how each ended; those that ended without an error of this package, or advise a repair."""
    wrong = []
    for name, act in writers.items():
        try:
            act()
        except EngineError as error:
            say(f"{name}: {str(error)[:200]}")
            if "engine repair" in str(error):
                wrong.append(f"{name}: advises a repair")
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            wrong.append(f"{name}: {type(error).__name__}: {error}")
        else:
            say(f"{name}: done")
            if name not in allowed:
                wrong.append(f"{name}: was not refused")
    return wrong


def try_full(target: Path) -> list[str]:
    """Export until the disk is full: the export fails, the last revision stands, and with space the next one succeeds."""
    session, number, refusal = exported.stored(), 0, ""
    free = os.statvfs(target.parent)
    say(f"{free.f_bavail * free.f_frsize:,} bytes free")
    reserve = target.parent / "reserve"
    reserve.write_bytes(bytes(1 << 20))
    while number < 1000:
        try:
            exported.settle(session, target, number)
        except EngineError as error:
            refusal = str(error)
            say(f"revision {number + 1}: {refusal[:200]}")
            break
        truth, number = exported.contents(target), number + 1
        session.append(exported.bars("A", 2 + number // 12, [number % 12], float(number)), interval="1m")
    wrong = ["advises a repair"] if "repair" in refusal else []
    if open_dataset(target).revision != number or not all(
        rows.equals(truth[name]) for name, rows in exported.contents(target).items()
    ):
        wrong.append("the last revision is not what it was")
    wrong += refusals({"repair": lambda: repair(target, calendars=exported.CALENDARS)}, allowed=("repair",))
    reserve.unlink()
    revision = exported.settle(session, target, 6000)
    if revision != number + 1 or faults(verify(target)).height:
        wrong.append(f"export with space again: revision {revision}")
    say(f"{number} revisions, then full; with space again revision {revision}")
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
