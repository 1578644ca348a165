"""Forget old revisions: remove the files that no revision pins which is to stay.

1. `recover` puts back what an export that did not end left.
2. `_expire` writes `exports` anew, in which the revisions that go name no table any more: nobody can open them.
3. Files that no revision pins are removed, then log entries that no pinned version needs.

Killed after any of these, every revision that stays is whole, and the next vacuum does the rest.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from engine import __version__
from engine.clock import Clock, WallClock
from engine.errors import ParameterError
from engine.export import delta_table
from engine.export.dataset import (
    LOCK_TIMEOUT_SECONDS,
    STAGING,
    _locked,
    _told,
    open_dataset,
    pinned_revisions,
    recover,
)
from engine.export.maintenance import log_sums
from engine.export.maintenance.verify import NAME
from engine.export.parquet import stage
from engine.export.revision_history import pinned_files, pinned_versions
from engine.export.tables import EXPORTS, TABLES
from engine.publish import fsync, make_durable_folders, remove_if_exists
from engine.schema import Schema

REMOVED: Schema = {"table": pl.String(), "files": pl.Int64(), "bytes": pl.Int64(), "log_entries": pl.Int64()}
_NO_LIST = pl.lit([], pl.List(pl.Null))


@dataclass(frozen=True)
class Vacuumed:
    """What was removed.

    Attributes
    ----------
    kept : tuple of int
        Revisions that stay.
    expired : tuple of int
        Revisions that were forgotten by this.
    removed : DataFrame
        `REMOVED`, one row per table that lost a file or a log entry.
    """

    kept: tuple[int, ...]
    expired: tuple[int, ...]
    removed: pl.DataFrame


def vacuum(
    target: Path,
    *,
    keep: dt.timedelta | None = None,
    keep_revisions: int | None = None,
    clock: Clock | None = None,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> Vacuumed:
    """Remove the files of old revisions; the last revision always stays.

    Parameters
    ----------
    target : Path
        The export's folder.
    keep : timedelta, optional
        Revisions stay that stood at some instant since so long ago: those written since then, and the one before.
    keep_revisions : int, optional
        So many of the last revisions stay. Give one of the two.
    clock : Clock, optional
        Tells the time; default the machine's.
    lock_timeout : float
        Seconds to wait for an exporter of this target.

    Raises
    ------
    ParameterError
        None or both of the two, a negative time, or less than one revision.
    ExportError
        No export, somebody else writes to it, it cannot be written, or a log is not what was written.
    """
    _check(keep, keep_revisions)
    open_dataset(target)
    with maintaining(Path(target), lock_timeout) as exports:
        log_sums.check_logs(Path(target))
        now = (clock or WallClock()).now().astimezone(dt.UTC)
        stay = _staying(exports, None if keep is None else now - keep, keep_revisions)
        gone = [revision for revision in pinned_revisions(exports) if revision not in stay]
        kept = _expire(Path(target), exports, gone, now) if gone else exports
        removed = [_cleaned(Path(target), table, kept) for table in TABLES]
    frame = pl.DataFrame(removed, schema=dict(REMOVED)).filter((pl.col("files") > 0) | (pl.col("log_entries") > 0))
    return Vacuumed(tuple(stay), tuple(gone), frame)


@contextmanager
def maintaining(target: Path, lock_timeout: float = LOCK_TIMEOUT_SECONDS) -> Iterator[pl.DataFrame]:
    """Hold an export's lock, with what an export that did not end left put back; gives its `exports`.

    Raises
    ------
    ExportError
        Somebody else writes to it, or it cannot be read or written.
    """
    with _told(target), _locked(target, lock_timeout):
        recover(target)
        yield open_dataset(target).exports


def unpinned(target: Path, table: str, exports: pl.DataFrame) -> list[Path]:
    """List files of a table, of those that exports wrote, that no revision pins."""
    pinned = {target / table / path for _, held in pinned_files(target, table, exports) for path in held}
    if table == "exports":
        pinned |= {target / table / path for path in newest_exports(target)}
    found = (
        path
        for path in (target / table).rglob("*.parquet")
        if delta_table.LOG not in path.relative_to(target / table).parts
    )
    return sorted(path for path in found if path not in pinned and NAME.fullmatch(path.name) and path.is_file())


def newest_exports(target: Path) -> set[str]:
    """Paths of the files of `exports` that readers begin with, pinned or not: its newest version, and the one before."""
    table = target / "exports"
    head = delta_table.head(table)
    # Somebody may have just begun with the one before.
    return {path for version in (max(head - 1, 0), head) for path in delta_table.files(table, version)}


def _check(keep: dt.timedelta | None, keep_revisions: int | None) -> None:
    if (keep is None) == (keep_revisions is None):
        raise ParameterError(f"keep: received {keep} and keep_revisions {keep_revisions}; valid: one of the two")
    if keep is not None and keep < dt.timedelta(0):
        raise ParameterError(f"keep: received {keep}; valid: zero or more")
    if keep_revisions is not None and keep_revisions < 1:
        raise ParameterError(f"keep_revisions: received {keep_revisions}; valid: 1 or more")


def _staying(exports: pl.DataFrame, since: dt.datetime | None, count: int | None) -> list[int]:
    pinned = pinned_revisions(exports).to_list()
    if since is None:
        return pinned[-(count or 1) :]
    written = dict(exports.select("revision", "written_at").iter_rows())
    first_within = next((at for at, revision in enumerate(pinned) if written[revision] >= since), len(pinned))
    return pinned[max(first_within - 1, 0) :]


def _expire(target: Path, exports: pl.DataFrame, gone: list[int], now: dt.datetime) -> pl.DataFrame:
    is_gone = pl.col("revision").is_in(gone)
    lists = [
        pl.when(is_gone).then(_NO_LIST.cast(EXPORTS[name])).otherwise(name).alias(name)
        for name in ("table_names", "table_versions")
    ]
    marked = exports.with_columns(lists)
    staging = target / STAGING
    make_durable_folders(staging)
    (staged,) = stage("exports", marked, staging)
    file = staged.at(exports["revision"].item(-1))
    staged.staged.replace(target / "exports" / file.path)
    fsync(target / "exports")
    head = delta_table.head(target / "exports")
    oldest = {table: min(pinned_versions(marked, table).values()) for table in TABLES}
    kept = log_sums.note(log_sums.sums_to_keep(target, oldest))
    notes = {"expired": ",".join(map(str, gone)), "engine_version": __version__, **kept}
    former = delta_table.files(target / "exports", head)
    delta_table.commit(target / "exports", EXPORTS, [file], former, after=head, written_at=now, notes=notes)
    remove_if_exists(staging)
    delta_table.checkpoint_when_due(target / "exports", head + 1)
    return marked


def _cleaned(target: Path, table: str, exports: pl.DataFrame) -> dict[str, object]:
    files = unpinned(target, table, exports)
    size = sum(path.stat().st_size for path in files)
    for path in files:
        path.unlink()
    for folder in sorted({path.parent for path in files}):
        fsync(folder)
    _drop_empty(target / table)
    oldest = min(pinned_versions(exports, table).values())
    entries = delta_table.drop_entries(target / table, oldest)
    return {"table": table, "files": len(files), "bytes": size, "log_entries": len(entries)}


def _drop_empty(table: Path) -> None:
    """Remove folders of months that have no file any more."""
    folders = [
        path for path in table.rglob("*") if path.is_dir() and delta_table.LOG not in path.relative_to(table).parts
    ]
    for folder in sorted(folders, reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
