"""Put an export right as far as its own data go.

1. What an export that did not end left is put back or removed, and so are files that no revision pins.
2. `verify` names the damaged files of the last revision.
3. `_candidates` looks for their rows among those that a `rebuild` computes from what is whole: rows of the file's
   bounds that no intact file has, as many as the log says.
4. Where they make the very bytes that the file's name promises, the file is put back in its place, which heals every
   revision that pins it. Else they become a file of a new revision.
5. Files that cannot be had again are listed with what they held, and leave the new revision only on request; gaps,
   quality and derived bars are then computed anew from the rest.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from engine.clock import Clock, WallClock
from engine.errors import ExportError
from engine.export import delta_table
from engine.export.dataset import (
    LOCK_TIMEOUT_SECONDS,
    STAGING,
    Change,
    Dataset,
    Plan,
    State,
    Work,
    _told,
    lock_of,
    open_dataset,
    revise,
)
from engine.export.delta_table import LakeFile
from engine.export.file_statistics import held_by, parsed, rows_of
from engine.export.maintenance import log_sums
from engine.export.maintenance.compact import intact_bytes
from engine.export.maintenance.vacuum import maintaining, unpinned
from engine.export.maintenance.verify import lost_files, verify
from engine.export.parquet import StagedFile, partitions, stage
from engine.export.row_revisions import as_before
from engine.export.tables import DATA_TABLES, KEYS, TABLES
from engine.publish import fsync, make_durable_folders, remove_if_exists
from engine.schema import TS, Schema, empty

ACTIONS: Schema = {
    "action": pl.String(),
    "table": pl.String(),
    "file": pl.String(),
    "rows": pl.Int64(),
    "symbols": pl.String(),
    "first_ts": TS,
    "last_ts": TS,
    "detail": pl.String(),
}
DERIVED = ("gaps", "quality")
TOLD: Mapping[str, tuple[str, ...]] = {
    "gaps": ("cause", "state", "retry_count", "last_retry", "next_retry"),
    "quality": ("duplicates", "corrections"),
}
LEFTOVERS = ("head", "stray")
# What lacks rows is no state of its store any more: the next export from it writes everything.
REPAIRED = "+repaired"


class Rebuilt(NamedTuple):
    """Rows of every table as the kernels give them from what is whole, and why there are none for some."""

    tables: Mapping[str, pl.DataFrame]
    reason: str


Rebuild = Callable[[Dataset, Mapping[str, Sequence[str]]], Rebuilt]


@dataclass(frozen=True)
class Repaired:
    """What was done.

    Attributes
    ----------
    revision : int
        The target's last revision.
    actions : DataFrame
        `ACTIONS`. `action` is `put back` (a table's head after a crash), `removed` (a file that no revision pins),
        `restored` (a damaged file, byte for byte), `rebuilt` (its rows in a file of the new revision), `recomputed` (a
        table that speaks of rows that were dropped), `stale` (it could not be), `dropped`, or `lost`: damaged, still
        there, not to be had again.
    """

    revision: int
    actions: pl.DataFrame


class _Lost(NamedTuple):
    table: str
    file: LakeFile

    @property
    def folder(self) -> str:
        return self.file.path.rpartition("/")[0]

    @property
    def sha256(self) -> str:
        return Path(self.file.path).stem.partition("-")[2]


class _Found(NamedTuple):
    """Lost files, and the rows that they held together."""

    lost: tuple[_Lost, ...]
    rows: pl.DataFrame

    @property
    def table(self) -> str:
        return self.lost[0].table


def repair_files(
    target: Path,
    rebuild: Rebuild,
    *,
    drop_damaged: bool = False,
    clock: Clock | None = None,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> Repaired:
    """Repair an export with the rows that `rebuild` computes; `engine.runtime.export_repair.repair` brings the kernels.

    Parameters
    ----------
    target : Path
        The export's folder.
    rebuild : callable
        Given the last revision and its damaged files (paths by table), computes all tables from the others.
    drop_damaged : bool
        Take files that cannot be had again out of the new revision.
    clock : Clock, optional
        Stamps the revision; default the machine's.
    lock_timeout : float
        Seconds to wait for an exporter of this target.

    Raises
    ------
    ExportError
        No export, somebody else writes to it, its disk is full, or its logs cannot be read.
    """
    target = Path(target)
    actions = list(_cleared(target, lock_timeout))
    dataset = open_dataset(target)
    lost = _lost(dataset)
    if not lost:
        return Repaired(dataset.revision, _framed(actions))
    paths: dict[str, list[str]] = {}
    for one in lost:
        paths.setdefault(one.table, []).append(one.file.path)
    rebuilt = rebuild(dataset, paths)
    found = list(_candidates(dataset, lost, rebuilt.tables))
    restored = _restore(target, found, lock_timeout)
    reborn = [one for one in found if one not in restored]
    rest = [one for one in lost if not any(one in group.lost for group in restored)]
    gone = [one for one in rest if not any(one in group.lost for group in reborn)]
    actions += [_action("restored", one, "the same bytes as before") for group in restored for one in group.lost]
    actions += [_action("rebuilt", one, _differences(group)) for group in reborn for one in group.lost]
    actions += [_action("dropped" if drop_damaged else "lost", one, _why_lost(one, rebuilt)) for one in gone]
    dropped = gone if drop_damaged else []
    if not reborn and not dropped:
        return Repaired(dataset.revision, _framed(actions))
    last = dataset.exports.row(-1, named=True)
    store_id = last["store_id"] + REPAIRED * bool(dropped)
    state = State(store_id, last["store_revision"], (clock or WallClock()).now(), last.get("as_of"))

    def plan(work: Work) -> Plan:
        changes = _edits(work, reborn, dropped)
        if any(_is_source(one) for one in dropped) and not rebuilt.tables:
            actions.append(_row("stale", "quality", detail=f"gaps, quality and derived bars {rebuilt.reason}"))
        elif any(_is_source(one) for one in dropped):
            anew = _recomputed(work, dataset, rest, rebuilt.tables)
            actions.extend(_row("recomputed", table, detail="from the rows that are left") for table in anew)
            changes |= anew
        return Plan(changes, None if dropped else dataset.revision)

    return Repaired(revise(target, plan, state, lock_timeout), _framed(actions))


def _cleared(target: Path, lock_timeout: float) -> Iterator[Mapping[str, Any]]:
    leftovers = verify(target, quick=True).filter(pl.col("check_name").is_in(LEFTOVERS))
    with _told(target), lock_of(target, lock_timeout):
        dropped = log_sums.drop_bad_checkpoints(target)
    with maintaining(target, lock_timeout) as exports:
        # A log that was changed may name other files than those that are needed.
        trusted = not (log_sums.changed_files(target) or log_sums.bad_checkpoints(target))
        strays = {table: unpinned(target, table, exports) if trusted else [] for table in TABLES}
        for files in strays.values():
            for path in files:
                path.unlink()
    for table, path in dropped:
        yield _row("removed", table, str(path.relative_to(target)), "a damaged checkpoint, whose entries are all there")
    for row in leftovers.filter(pl.col("check_name") == "head").iter_rows(named=True):
        yield _row("put back", row["table_name"], row["file"], "to what the last revision pins")
    for row in leftovers.filter(pl.col("file") == STAGING).iter_rows(named=True):
        yield _row("removed", row["table_name"], row["file"], "an export did not end")
    for table, files in strays.items():
        for path in files:
            yield _row("removed", table, str(path.relative_to(target)), "no revision pins it")


def _lost(dataset: Dataset) -> list[_Lost]:
    paths = lost_files(verify(dataset.target, dataset.revision))
    last = dataset.exports.row(-1, named=True)
    versions = dict(zip(last["table_names"], last["table_versions"], strict=True))
    found = []
    for table, names in paths.items():
        if table in DATA_TABLES:
            ((_, held),) = delta_table.holdings(dataset.target / table, [versions[table]])
            found += [_Lost(table, held[name]) for name in names]
    return found


def _candidates(dataset: Dataset, lost: Sequence[_Lost], tables: Mapping[str, pl.DataFrame]) -> Iterator[_Found]:
    """Rows of lost files: rebuilt ones within their bounds that no intact file of their folder has."""
    for table, folder in sorted({(one.table, one.folder) for one in lost if one.table in tables}):
        ours = [one for one in lost if (one.table, one.folder) == (table, folder)]
        rows = dict(_by_folder(table, tables[table])).get(folder, empty(TABLES[table]))
        known = _intact(dataset, table, folder, {one.file.path for one in ours})
        left = rows.join(known.select(KEYS[table]), on=KEYS[table], how="anti", nulls_equal=True, maintain_order="left")
        parts = {one: left.filter(_within(one.file, table)) for one in ours}
        alone = [one for one in ours if parts[one].height == rows_of(one.file)]
        if len(alone) == len(ours):
            yield from (_Found((one,), _stamped(part, [one], dataset)) for one, part in parts.items())
        elif left.height == sum(rows_of(one.file) for one in ours):
            # Their bounds overlap, but together they held these rows.
            yield _Found(tuple(ours), _stamped(left, ours, dataset))


def _stamped(rows: pl.DataFrame, lost: Sequence[_Lost], dataset: Dataset) -> pl.DataFrame:
    known = {_revision_of(one) for one in lost}
    # Rows that several revisions wrote cannot be told apart any more: they count as written now.
    revision = known.pop() if len(known) == 1 else None
    return rows.with_columns(pl.lit(revision or dataset.revision + 1, pl.Int64).alias("revision"))


def _by_folder(table: str, rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    # A table of which the running session is kept apart has parts of one folder.
    parts: dict[str, list[pl.DataFrame]] = {}
    for folder, part in partitions(table, rows):
        parts.setdefault(folder, []).append(part)
    for folder, found in parts.items():
        yield folder, pl.concat(found)


def _intact(dataset: Dataset, table: str, folder: str, lost: set[str]) -> pl.DataFrame:
    paths = [path.relative_to(dataset.target / table).as_posix() for path in dataset.files(table)]
    mine = [path for path in paths if path.rpartition("/")[0] == folder and path not in lost]
    return pl.concat([empty(TABLES[table]), *(_read(dataset.target / table / path, table) for path in mine)])


def _read(path: Path, table: str) -> pl.DataFrame:
    intact_bytes(path)
    rows = pl.read_parquet(path, hive_partitioning=False, glob=False)
    absent = [pl.lit(None, TABLES[table][name]).alias(name) for name in TABLES[table] if name not in rows.columns]
    return rows.with_columns(absent).select(list(TABLES[table]))


def _within(file: LakeFile, table: str) -> pl.Expr:
    stats = parsed(file.stats)
    low, high = stats.get("minValues") or {}, stats.get("maxValues") or {}
    names = [
        name for name in dict.fromkeys((*KEYS[table], "session")) if name in TABLES[table] and low.get(name) is not None
    ]
    tests = [
        pl.col(name).is_between(_literal(low[name], TABLES[table][name]), _literal(high[name], TABLES[table][name]))
        for name in names if name in high
    ]  # fmt: skip
    return pl.all_horizontal([pl.lit(value=True), *tests])


def _literal(value: Any, dtype: pl.DataType) -> pl.Expr:  # noqa: ANN401 - what JSON has
    if dtype == TS:
        return pl.lit(dt.datetime.fromisoformat(value), dtype)
    return pl.lit(dt.date.fromisoformat(value) if dtype == pl.Date else value, dtype)


def _revision_of(one: _Lost) -> int | None:
    stats = parsed(one.file.stats)
    low, high = ((stats.get(part) or {}).get("revision") for part in ("minValues", "maxValues"))
    return low if isinstance(low, int) and low == high else None


def _restore(target: Path, found: Sequence[_Found], lock_timeout: float) -> list[_Found]:
    """Put files back whose rows make the bytes that their names promise."""
    restored = []
    with maintaining(target, lock_timeout):
        staging = target / STAGING
        make_durable_folders(staging)
        for one in found:
            staged = {file.sha256: file for file in stage(one.lost[0].table, one.rows, staging)}
            if staged.keys() == {lost.sha256 for lost in one.lost}:
                for lost in one.lost:
                    _put_back(staged[lost.sha256], target / lost.table / lost.file.path)
                restored.append(one)
            for file in staged.values():
                remove_if_exists(file.staged)
        remove_if_exists(staging)
    return restored


def _put_back(file: StagedFile, place: Path) -> None:
    make_durable_folders(place.parent)
    if place.is_dir() and not place.is_symlink():
        _clear(place)
    file.staged.replace(place)
    fsync(place.parent)


def _clear(place: Path) -> None:
    # An empty folder may go, for a file; what lies in it is somebody's.
    try:
        place.rmdir()
    except OSError as error:
        raise ExportError(f"{place}: is a folder where a file was; move it away and repair again ({error})") from error


def _edits(work: Work, reborn: Sequence[_Found], dropped: Sequence[_Lost]) -> dict[str, Change]:
    staged: dict[str, list[StagedFile]] = {}
    gone: dict[str, list[str]] = {}
    for found in reborn:
        staged.setdefault(found.table, []).extend(stage(found.table, found.rows, work.staging))
    for one in [*(one for found in reborn for one in found.lost), *dropped]:
        gone.setdefault(one.table, []).append(one.file.path)
    return {table: work.edited(table, staged.get(table, []), paths) for table, paths in gone.items()}


def _is_source(one: _Lost) -> bool:
    stats = parsed(one.file.stats)
    origin = (stats.get("maxValues") or {}).get("origin")
    return one.table in ("quotes", "ticks") or (one.table == "bars" and origin != "derived")


def _recomputed(
    work: Work, dataset: Dataset, lost: Sequence[_Lost], tables: Mapping[str, pl.DataFrame]
) -> dict[str, Change]:
    """Derived bars, gaps, quality and what `symbols` counts, as they are without the rows that were dropped."""
    paths = {(one.table, one.file.path) for one in lost}
    changes = {}
    for table in ("bars", *DERIVED, "symbols"):
        former = _whole(dataset, table, {path for name, path in paths if name == table})
        rows = tables[table]
        if table == "bars":
            rows = pl.concat([former.filter(pl.col("origin") == "source"), rows.filter(pl.col("origin") == "derived")])
        elif table in TOLD:
            rows = _with_history(table, rows, former)
        stamped = as_before(table, rows, former, work.revision)
        changes[table] = work.replaced(table, list(stage(table, stamped, work.staging)))
    return changes


def _with_history(table: str, rows: pl.DataFrame, former: pl.DataFrame) -> pl.DataFrame:
    """Rows with what no kernel computes taken from the former ones: counts at the door, tries to fill a gap."""
    key = [*KEYS[table], *(["gap_end"] if table == "gaps" else [])]
    told = list(TOLD[table])
    known = former.select(*key, *told, pl.lit(value=True).alias("known"))
    beside = rows.join(known, on=key, how="left", nulls_equal=True, maintain_order="left", suffix="_known")
    kept = [pl.when(pl.col("known")).then(f"{name}_known").otherwise(name).alias(name) for name in told]
    return beside.with_columns(kept).select(rows.columns)


def _whole(dataset: Dataset, table: str, lost: set[str]) -> pl.DataFrame:
    paths = [path.relative_to(dataset.target / table).as_posix() for path in dataset.files(table)]
    read = [_read(dataset.target / table / path, table) for path in paths if path not in lost]
    return pl.concat([empty(TABLES[table]), *read])


def _differences(found: _Found) -> str:
    said = [parsed(one.file.stats) for one in found.lost]
    numbers = [name for name in TOLD.get(found.table, ()) if name in said[0].get("maxValues", {})]
    highest = {name: max((one["maxValues"][name] for one in said if one["maxValues"].get(name) is not None), default=None)
               for name in numbers}  # fmt: skip
    differs = [name for name, value in highest.items() if found.rows[name].max() != value]
    return "rows as the log counts them" + (f"; {', '.join(differs)} cannot be computed again" if differs else "")


def _why_lost(one: _Lost, rebuilt: Rebuilt) -> str:
    if _is_source(one):
        return "it held what was read from sources: load them again"
    return rebuilt.reason or "the kernels give other rows than the log says it had"


def _action(action: str, one: _Lost, detail: str) -> Mapping[str, Any]:
    return {**_row(action, one.table, f"{one.table}/{one.file.path}", detail), **held_by(one.file)}


def _row(action: str, table: str, file: str = "", detail: str = "") -> Mapping[str, Any]:
    return {"action": action, "table": table, "file": file, "detail": detail}


def _framed(actions: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame([{name: row.get(name) for name in ACTIONS} for row in actions], schema=dict(ACTIONS))
