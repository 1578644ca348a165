"""Several exports of different symbols to one: what was made in parts becomes one revision, by one committer.

1. `merge_exports` counts the rows of the parts, folder by folder (`bars/1m/2013-10`), from the columns of symbols and
   sessions alone.
2. Batches are cut as those of a store are (`session_export.assign_batches`), and read in the order of symbols from the
   parts that hold them, so that memory is bounded by a batch however many parts there are.
3. `sessions` and `calendars` are what all parts have together: each calendar from its first session with a row to its
   last.
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
from engine.export.dataset import Dataset, RevisionDraft, RevisionPlan, StoreState, commit_revision, scan_files
from engine.export.parquet import stage_batches
from engine.export.tables import DATA_TABLES, SORT, TABLES, sorted_rows
from engine.export.target_folder import LOCK_TIMEOUT_SECONDS
from engine.schema import empty

SMALL = ("sessions", "calendars", "symbols")
MOST_NAMED = 3


def merge_exports(
    parts: Sequence[Dataset],
    target: Path,
    *,
    store_id: str,
    written_at: dt.datetime,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> int:
    """Merge exports as the target's next revision, all rows new; ExportError if two share a symbol; return its number.

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
    if not parts:
        raise ExportError("parts: none given; valid: exports that have no symbol in common")
    shared = shared_symbols(parts)
    if shared:
        more = f" and {len(shared) - MOST_NAMED} more" if len(shared) > MOST_NAMED else ""
        raise ExportError(
            f"parts: {', '.join(map(repr, shared[:MOST_NAMED]))}{more} in more than one; valid: each symbol in one part"
        )
    last = pl.concat([part.exports.tail(1) for part in parts])
    store_revision, as_of = last.select(pl.col("store_revision").max(), pl.col("as_of").max()).row(0)
    state = StoreState(store_id, store_revision, written_at, as_of)
    return commit_revision(target, partial(plan_merge, parts), state, lock_timeout)


def shared_symbols(parts: Sequence[Dataset]) -> list[str]:
    """Symbols that occur in the `symbols` table of more than one export, sorted."""
    held = pl.concat(
        [empty({"symbol": pl.String()}), *(part.scan("symbols").select("symbol").collect() for part in parts)]
    )
    return held.filter(held["symbol"].is_duplicated())["symbol"].unique().sort().to_list()


def plan_merge(parts: Sequence[Dataset], draft: RevisionDraft) -> RevisionPlan:
    """Stage the rows of all parts as the target's full content, every row with the new revision; return the plan."""
    changes = {}
    for name in DATA_TABLES:
        batches = [merge_small_table(parts, name)] if name in SMALL else merged_batches(parts, name)
        # Of a store that the target never saw, every row is new.
        stamped = (draft.chain.with_target_revision(name, rows, None) for rows in batches)
        changes[name] = draft.replaced(name, list(stage_batches(name, stamped, draft.staging)))
    return RevisionPlan(changes)


def merge_small_table(parts: Sequence[Dataset], name: str) -> pl.DataFrame:
    """Sorted rows of `symbols`, `calendars` (ExportError for two versions of one), `sessions` (recomputed over all)."""
    rows = pl.concat([part.scan(name).collect() for part in parts])
    if name != "symbols":
        rows = rows.unique(rows.columns[:-1], maintain_order=True)
    if name == "calendars" and rows["calendar"].is_duplicated().any():
        codes = rows.filter(rows["calendar"].is_duplicated())["calendar"].unique().sort()
        raise ExportError(
            f"parts: they were made with several versions of calendar {codes[0]}; valid: parts of one version, make "
            "them anew"
        )
    if name == "sessions":
        # Parts may leave out sessions that lie between theirs.
        spans = rows.group_by("calendar").agg(
            pl.col("session").min().alias("first"), pl.col("session").max().alias("last")
        )
        columns = [pl.col(column).cast(dtype) for column, dtype in TABLES["sessions"].items() if column != "revision"]
        frames = [empty(TABLES["sessions"])]
        for code, first, last in spans.sort("calendar").iter_rows():
            segments = calendar(code).segments_in_bounds(first, last)
            named = segments.select(pl.lit(code).alias("calendar"), pl.all())
            frames.append(named.select(*columns, pl.lit(None, pl.Int64).alias("revision")))
        rows = pl.concat(frames)
    return sorted_rows(rows, SORT[name])


def merged_batches(parts: Sequence[Dataset], name: str) -> Iterator[pl.DataFrame]:
    """Yield the parts' rows in sorted batches of about 2^20, each of one folder: several symbols, or days of one."""
    folders: dict[str, list[tuple[Path, int]]] = {}
    for part in parts:
        for path, rows in part.statistics(name).select("path", "num_records").iter_rows():
            folders.setdefault(path.rpartition("/")[0], []).append((part.target / name / path, rows))
    for _, files in sorted(folders.items()):
        paths, height = [path for path, _ in files], sum(rows for _, rows in files)
        # What fits into a batch needs no counting.
        is_one_batch = height <= session_export.ROWS_PER_BATCH
        batches = [(pl.lit(value=True), paths)] if is_one_batch else batch_conditions(name, paths)
        for condition, sources in batches if height else ():
            rows_of_batch = pl.concat([scan_files(name, [path]).filter(condition).collect() for path in sources])
            yield sorted_rows(rows_of_batch, SORT[name])


def batch_conditions(name: str, files: Sequence[Path]) -> Iterator[tuple[pl.Expr, list[Path]]]:
    """Per batch, the row filter (symbols, and sessions if cut by day) and the files that hold its rows."""
    counted = pl.concat([count_rows(name, at, path) for at, path in enumerate(files)])
    if (counted.group_by("symbol").agg(pl.col("rows").sum())["rows"] > session_export.ROWS_PER_BATCH).any():
        counted = pl.concat([count_rows(name, at, path, by_day=True) for at, path in enumerate(files)])
    days = counted.sort("symbol", "session")
    totals = days.group_by("month", "symbol", "session", maintain_order=True).agg(pl.col("rows").sum(), "file")
    batches = (
        session_export.assign_batches(totals)
        .group_by("turn", "cut", maintain_order=True)
        .agg(
            "symbol",
            pl.col("file").explode().unique().sort(),
            pl.col("session").min().alias("first"),
            pl.col("session").max().alias("last"),
        )
    )
    for row in batches.iter_rows(named=True):
        condition = pl.col(SORT[name][0]).is_in(sorted(set(row["symbol"])))
        if row["first"] is not None:
            condition &= pl.col("session").is_between(row["first"], row["last"])
        yield condition, [files[at] for at in row["file"]]


def count_rows(name: str, file_number: int, path: Path, *, by_day: bool = False) -> pl.DataFrame:
    """Frame: null `month`, `symbol` (rejects: source; may recur), `session` (null unless `by_day`), `rows`, `file`."""
    day = pl.col("session") if by_day and "session" in TABLES[name] else pl.lit(None, pl.Date)
    # Rejects have no symbol; their first column is a source file.
    owner = pl.col(SORT[name][0]).alias("symbol")
    if by_day:
        keyed = scan_files(name, [path]).select(owner, day.alias("session"))
        counted = keyed.group_by("symbol", "session").agg(pl.len().cast(pl.Int64).alias("rows"))
    else:  # rows are in the order of their owners: runs cost less than groups
        runs = scan_files(name, [path]).select(owner.rle().alias("run")).unnest("run")
        counted = runs.select(
            pl.col("value").alias("symbol"), day.alias("session"), pl.col("len").cast(pl.Int64).alias("rows")
        )
    return counted.select(
        pl.lit(None, pl.Date).alias("month"), "symbol", "session", "rows", pl.lit(file_number, pl.Int32).alias("file")
    ).collect()
