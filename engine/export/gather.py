"""Several exports of different symbols to one: what was made in parts becomes one revision, by one committer.

1. `gather` counts what the parts hold, folder by folder (`bars/1m/2013-10`), from the columns of symbols and sessions alone.
2. Batches are cut as those of a store are (`session_export.cut`), and read in the order of symbols from the parts that hold them, so
   that memory is bounded by a batch however many parts there are.
3. `sessions` and `calendars` are what all parts have together: each calendar from its first session with a row to its last.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from engine.calendars.providers import calendar
from engine.errors import ExportError
from engine.export import session_export
from engine.export.dataset import LOCK_TIMEOUT_SECONDS, Dataset, Plan, State, Work, revise, scan_files
from engine.export.parquet import StagedFile, stage_batches
from engine.export.tables import DATA_TABLES, SORT, TABLES, in_order
from engine.schema import empty

SMALL = ("sessions", "calendars", "symbols")
MOST_NAMED = 3


def gather(
    parts: Sequence[Dataset],
    target: Path,
    *,
    store_id: str,
    written_at: dt.datetime,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> int:
    """Write what several exports hold as the target's next revision.

    Parameters
    ----------
    parts : sequence of Dataset
        Exports that have no symbol in common.
    target : Path
        A folder that is new, empty, or an export.
    store_id : str
        What they are called together.
    written_at : datetime
        Aware; goes into `exports`.
    lock_timeout : float
        Seconds to wait for another exporter of this target.

    Returns
    -------
    int
        The target's revision.

    Raises
    ------
    ExportError
        There is no part, two parts hold the same symbol, or the target cannot be written.
    """
    _check_apart(parts)
    last = pl.concat([part.exports.tail(1) for part in parts])
    state = State(store_id, int(last["store_revision"].max()), written_at, last["as_of"].max())  # type: ignore[arg-type]
    return revise(target, partial(_plan, parts), state, lock_timeout)


def shared_symbols(parts: Sequence[Dataset]) -> list[str]:
    """Symbols that more than one part holds, sorted."""
    held = pl.concat(
        [empty({"symbol": pl.String()}), *(part.scan("symbols").select("symbol").collect() for part in parts)]
    )
    return held.filter(held["symbol"].is_duplicated())["symbol"].unique().sort().to_list()


def _check_apart(parts: Sequence[Dataset]) -> None:
    if not parts:
        raise ExportError("parts: none given; valid: exports that have no symbol in common")
    twice = shared_symbols(parts)
    if twice:
        more = f" and {len(twice) - MOST_NAMED} more" if len(twice) > MOST_NAMED else ""
        raise ExportError(
            f"parts: {', '.join(map(repr, twice[:MOST_NAMED]))}{more} in more than one; valid: each symbol in one part"
        )


def _plan(parts: Sequence[Dataset], work: Work) -> Plan:
    return Plan({name: work.replaced(name, list(_staged(parts, work, name))) for name in DATA_TABLES})


def _staged(parts: Sequence[Dataset], work: Work, name: str) -> Iterator[StagedFile]:
    batches = _small(parts, name) if name in SMALL else _batches(parts, name)
    # Of a store that the target never saw, every row is new.
    yield from stage_batches(name, (work.chain.stamped(name, rows, None) for rows in batches), work.staging)


def _small(parts: Sequence[Dataset], name: str) -> Iterator[pl.DataFrame]:
    whole = pl.concat([part.scan(name).collect() for part in parts])
    once = whole.unique(whole.columns[:-1], maintain_order=True) if name != "symbols" else whole
    yield in_order(_filled(once) if name == "sessions" else once, SORT[name])


def _filled(sessions: pl.DataFrame) -> pl.DataFrame:
    # Parts may leave out sessions that lie between theirs.
    spans = sessions.group_by("calendar").agg(
        pl.col("session").min().alias("first"), pl.col("session").max().alias("last")
    )
    frames = [
        calendar(code).segments_in_bounds(first, last).select(pl.lit(code).alias("calendar"), pl.all())
        for code, first, last in spans.sort("calendar").iter_rows()
    ]
    columns = [pl.col(column).cast(dtype) for column, dtype in TABLES["sessions"].items() if column != "revision"]
    none = empty(TABLES["sessions"])
    return pl.concat([none, *(frame.select(*columns, pl.lit(None, pl.Int64).alias("revision")) for frame in frames)])


def _batches(parts: Sequence[Dataset], name: str) -> Iterator[pl.DataFrame]:
    for files in _folders(parts, name):
        paths, rows = [path for path, _ in files], sum(height for _, height in files)
        # What fits into a batch needs no counting.
        shares = [(pl.lit(value=True), paths)] if rows <= session_export.ROWS_PER_BATCH else _shares(name, paths)
        for share, owners in shares if rows else ():
            found = pl.concat([scan_files(name, [path]).filter(share).collect() for path in owners])
            yield in_order(found, SORT[name])


def _folders(parts: Sequence[Dataset], name: str) -> Iterator[list[tuple[Path, int]]]:
    """Files of each folder below the table, in the order of the parts, with their rows."""
    folders: dict[str, list[tuple[Path, int]]] = {}
    for part in parts:
        for path, rows in part.statistics(name).select("path", "num_records").iter_rows():
            folders.setdefault(path.rpartition("/")[0], []).append((part.target / name / path, rows))
    for _, files in sorted(folders.items()):
        yield files


def _shares(name: str, files: Sequence[Path]) -> Iterator[tuple[pl.Expr, list[Path]]]:
    """Which rows make a batch, and the files that hold some of them."""
    counted = pl.concat([_counted(name, at, path) for at, path in enumerate(files)])
    if counted.group_by("symbol").agg(pl.col("rows").sum())["rows"].max() > session_export.ROWS_PER_BATCH:  # type: ignore[operator]
        counted = pl.concat([_counted(name, at, path, by_day=True) for at, path in enumerate(files)])
    days = counted.sort("symbol", "session")
    whole = days.group_by("month", "symbol", "session", maintain_order=True).agg(pl.col("rows").sum(), "file")
    shares = session_export.cut(whole).group_by("turn", "cut", maintain_order=True).agg(
        "symbol", pl.col("file").explode().unique().sort(),
        pl.col("session").min().alias("first"), pl.col("session").max().alias("last"),
    )  # fmt: skip
    for row in shares.iter_rows(named=True):
        owner = pl.col(_owner(name)).is_in(sorted(set(row["symbol"])))
        by_day = row["first"] is not None
        inside = pl.col("session").is_between(row["first"], row["last"]) if by_day else pl.lit(value=True)
        yield owner & inside, [files[at] for at in row["file"]]


def _owner(name: str) -> str:
    # Rejects have no symbol; what they are of is a file.
    return SORT[name][0]


def _counted(name: str, at: int, path: Path, *, by_day: bool = False) -> pl.DataFrame:
    """`month, symbol, session_export, rows, file`: rows of each symbol, or of each session of it."""
    day = pl.col("session") if by_day and "session" in TABLES[name] else pl.lit(None, pl.Date)
    owner = pl.col(_owner(name)).alias("symbol")
    if by_day:
        keyed = scan_files(name, [path]).select(owner, day.alias("session"))
        counted = keyed.group_by("symbol", "session").agg(pl.len().cast(pl.Int64).alias("rows"))
    else:  # rows are in the order of their owners: a run is told sooner than a group
        runs = scan_files(name, [path]).select(owner.rle().alias("run")).unnest("run")
        counted = runs.select(
            pl.col("value").alias("symbol"), day.alias("session"), pl.col("len").cast(pl.Int64).alias("rows")
        )
    return counted.select(
        pl.lit(None, pl.Date).alias("month"), "symbol", "session", "rows", pl.lit(at, pl.Int32).alias("file")
    ).collect()
