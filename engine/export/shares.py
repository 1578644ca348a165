"""One revision written by many: workers write the files of their shares, one committer names them in the logs.

1. `write_share` writes the final files of a store's growing tables, as `session_export` does for the store of one
   process, and returns what is small: the rows of `symbols` and `calendars`, and the first and last session of each
   calendar.
2. `plan_merges` finds files of a folder that are small, as many shares have a file there, and `merge_files` merges a
   group of them: workers do that as well.
3. `commit_shares` merges what is small and commits: it reads no row of a growing table.

Every row carries the revision that it is written for. Who commits after somebody else made that revision is refused
(`is_taken`): everything is to be written again for the next one.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, TypeVar

import polars as pl

from engine.arguments import location_of
from engine.calendars.providers import calendar
from engine.errors import ExportError
from engine.export import session_export
from engine.export.damage import read_verified
from engine.export.dataset import (
    RevisionDraft,
    RevisionPlan,
    StoreState,
    commit_revision,
    last_pinned_versions,
    read_newest_exports,
)
from engine.export.maintenance.compact import FEWEST
from engine.export.parquet import StagedFile, stage
from engine.export.session_export import GROWING, holds_fills, stage_all_rows, table_batches
from engine.export.share_place import ShareFile, SharePlace
from engine.export.tables import EXPORTS, SORT, TABLES, conform_table, sorted_rows
from engine.export.target_folder import LOCK_TIMEOUT_SECONDS, explained_errors, is_export
from engine.schema import Schema, empty
from engine.store.snapshot import Snapshot

Item = TypeVar("Item")
SMALL_ROWS = 1 << 17  # a row group of a full file
ROWS_PER_TASK = 1 << 22
READERS = 8  # at once: small objects of a store are a wait each
MOST_NAMED = 3
SPANS: Schema = {"calendar": pl.String(), "first": pl.Date(), "last": pl.Date()}


@dataclass(frozen=True)
class Share:
    """The part of a revision that one task wrote.

    Attributes
    ----------
    files : tuple of ShareFile
        Of the growing tables.
    symbols, calendars : DataFrame
        Rows of these tables.
    spans : DataFrame
        `SPANS`: first and last session of each calendar.
    first_reject : DataFrame
        The first of the rows refused, if any.
    has_fills : bool
        Whether there are bars of the provenance `fill`.
    store_revision, as_of
        State of the task's store.
    """

    files: tuple[ShareFile, ...]
    symbols: pl.DataFrame
    calendars: pl.DataFrame
    spans: pl.DataFrame
    first_reject: pl.DataFrame
    has_fills: bool
    store_revision: int
    as_of: dt.datetime | None


def next_revision(target: Path) -> int:
    """Number of the revision that the next export to a target makes."""
    with explained_errors(target):
        return last_pinned_versions(read_newest_exports(target)[1])[0] + 1 if is_export(target) else 1


def write_share(snapshot: Snapshot, place: SharePlace) -> Share:
    """Write all rows of a store's growing tables as final files of a revision; return them, with what is small.

    Parameters
    ----------
    snapshot : Snapshot
        Bars whose window is not over are left out.
    place : SharePlace

    Raises
    ------
    SchemaError
        A value has no place in an export (a float that is not finite).
    ExportError
        The files cannot be written.
    """
    from engine.export.row_revisions import RevisionChain  # noqa: PLC0415 - loads NumPy, which readers do not need

    # Of a store that the target never saw, every row is new.
    chain = RevisionChain.of(empty(EXPORTS), place.revision, snapshot.store_id, snapshot.revision, snapshot.as_of)

    def write_files(staging: Path) -> Iterator[tuple[str, StagedFile]]:
        """Yield the files of each growing table."""
        for name in GROWING:
            for file in stage_all_rows(snapshot, name, chain, None, staging, is_share=True):
                yield name, file

    with explained_errors(place.target, remedy=""):
        files = place.write(write_files)
    small = {name: conform_table(name, rows if rows.height else None) for name, rows in snapshot.small_tables().items()}
    spans = (
        small["sessions"]
        .group_by("calendar")
        .agg(pl.col("session").min().alias("first"), pl.col("session").max().alias("last"))
    )
    (rejects,) = table_batches(snapshot, "rejects")
    return Share(
        tuple(files),
        small["symbols"],
        small["calendars"],
        spans,
        sorted_rows(rejects.rows, SORT["rejects"]).head(1),
        holds_fills(snapshot),
        snapshot.revision,
        snapshot.as_of,
    )


class MergeGroup(NamedTuple):
    """Places of small files, of one table and folder, that become one file (of gaps and quality two)."""

    table: str
    folder: str
    places: tuple[str, ...]


def plan_merges(shares: Sequence[Share]) -> list[list[MergeGroup]]:
    """Groups of small files that are merged, by task: about 2^20 rows of a folder a group, 2^22 a task."""
    folders: dict[tuple[str, str], list[ShareFile]] = {}
    for share in shares if len(shares) > 1 else ():
        for file in share.files:
            if file.rows < SMALL_ROWS:
                folders.setdefault((file.table, file.folder), []).append(file)
    groups: list[tuple[int, MergeGroup]] = []
    for table, folder in sorted(folders):
        small = sorted(folders[table, folder], key=lambda file: file.owner)
        for files in cut_by_rows([(file.rows, file) for file in small], session_export.ROWS_PER_BATCH):
            if len(files) > FEWEST.get(table, 1):
                group = MergeGroup(table, folder, tuple(file.place for file in files))
                groups.append((sum(file.rows for file in files), group))
    return list(cut_by_rows(groups, ROWS_PER_TASK))


def cut_by_rows(sized: Iterable[tuple[int, Item]], most: int) -> Iterator[list[Item]]:
    """Yield the items of (rows, item) in lists of at most so many rows; an item of more is a list alone."""
    held: list[Item] = []
    height = 0
    for rows, item in sized:
        if held and height + rows > most:
            yield held
            held, height = [], 0
        held.append(item)
        height += rows
    if held:
        yield held


def merge_files(groups: Sequence[MergeGroup], place: SharePlace) -> list[ShareFile]:
    """Merge the files of each group; return the new files.

    Raises
    ------
    ExportError
        A file is gone or damaged, or the new ones cannot be written.
    """

    def write_files(staging: Path) -> Iterator[tuple[str, StagedFile]]:
        """Yield the merged files of each group."""
        for table, folder, places in groups:
            # Bytes are compared first: what is damaged must not get a new, true name.
            contents = readers.map(read_verified, [location_of("file", one) for one in places])
            rows = pl.concat([pl.read_parquet(BytesIO(content), hive_partitioning=False) for content in contents])
            for file in stage(table, rows, staging, [folder]):
                yield table, file

    with explained_errors(place.target, remedy=""), ThreadPoolExecutor(READERS, "merge") as readers:
        return place.write(write_files)


def files_after_merges(
    shares: Iterable[Share], merges: Iterable[Sequence[MergeGroup]], merged: Iterable[Sequence[ShareFile]]
) -> list[ShareFile]:
    """Files of the shares without those that were merged, and the merged ones."""
    gone = {place for groups in merges for group in groups for place in group.places}
    kept = [file for share in shares for file in share.files if file.place not in gone]
    return [*kept, *(file for files in merged for file in files)]


def commit_shares(
    shares: Sequence[Share],
    files: Sequence[ShareFile],
    place: SharePlace,
    *,
    store_id: str,
    written_at: dt.datetime,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> int:
    """Commit the shares as the target's next revision, all rows new; return its number.

    Parameters
    ----------
    shares : sequence of Share
        Of different symbols.
    files : sequence of ShareFile
        Of the growing tables (`files_after_merges`).
    place : SharePlace
    store_id : str
        What the stores of the tasks are called together.
    written_at : datetime
        Aware; goes into `exports`.
    lock_timeout : float
        Seconds to wait for another exporter of this target.

    Raises
    ------
    ExportError
        There is no share, two hold the same symbol, somebody else made the revision, or the target cannot be written.
    """
    if not shares:
        raise ExportError("shares: none given; valid: shares that have no symbol in common")
    symbols = pl.concat([share.symbols for share in shares])
    shared = symbols.filter(symbols["symbol"].is_duplicated())["symbol"].unique().sort().to_list()
    if shared:
        more = f" and {len(shared) - MOST_NAMED} more" if len(shared) > MOST_NAMED else ""
        raise ExportError(
            f"shares: {', '.join(map(repr, shared[:MOST_NAMED]))}{more} in more than one; valid: each symbol in one"
        )
    small = {
        "sessions": sessions_of_spans(pl.concat([share.spans for share in shares])),
        "calendars": unique_calendars(pl.concat([share.calendars for share in shares])),
        "symbols": symbols,
    }
    as_of = max((share.as_of for share in shares if share.as_of is not None), default=None)
    state = StoreState(store_id, max(share.store_revision for share in shares), written_at, as_of)
    has_fills = any(share.has_fills for share in shares)
    plan = partial(plan_shares, small, files, place.revision, has_fills=has_fills)
    return commit_revision(place.target, plan, state, lock_timeout)


def plan_shares(
    small: Mapping[str, pl.DataFrame],
    files: Sequence[ShareFile],
    revision: int,
    draft: RevisionDraft,
    *,
    has_fills: bool,
) -> RevisionPlan:
    """Plan of a revision of these small tables and files; ExportError if its number is not that of the files."""
    if draft.revision != revision:
        raise ExportError(
            f"{draft.target}: revision {revision} was made by another export, and the files are written for it; "
            "run again"
        )
    changes = {}
    for name, rows in small.items():
        stamped = draft.chain.with_target_revision(name, rows, None)
        changes[name] = draft.replaced(name, list(stage(name, stamped, draft.staging)))
    for name in GROWING:
        changes[name] = draft.replaced(name, [file.staged() for file in files if file.table == name])
    if not has_fills:
        changes["fills"] = draft.replaced("fills", [])
    return RevisionPlan(changes)


def unique_calendars(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of `calendars`, each once; ExportError for two versions of one."""
    unique = rows.unique(rows.columns[:-1], maintain_order=True)
    if unique["calendar"].is_duplicated().any():
        codes = unique.filter(unique["calendar"].is_duplicated())["calendar"].unique().sort()
        raise ExportError(
            f"shares: they were made with several versions of calendar {codes[0]}; valid: shares of one version, make "
            "them anew"
        )
    return unique


def sessions_of_spans(spans: pl.DataFrame) -> pl.DataFrame:
    """Table `sessions` of `SPANS`: each calendar from its first session to its last, those between the shares' too."""
    whole = spans.group_by("calendar").agg(pl.col("first").min(), pl.col("last").max()).sort("calendar")
    columns = [pl.col(column).cast(dtype) for column, dtype in TABLES["sessions"].items() if column != "revision"]
    frames = [empty(TABLES["sessions"])]
    for code, first, last in whole.iter_rows():
        named = calendar(code).segments_in_bounds(first, last).select(pl.lit(code).alias("calendar"), pl.all())
        frames.append(named.select(*columns, pl.lit(None, pl.Int64).alias("revision")))
    return pl.concat(frames)
