"""Repair of an export from its own intact data.

1. `log_repair.mend_logs` restores log entries and the table `exports`; where the last revision can still not be opened,
   the faults are listed, and nothing else is done.
2. `remove_leftovers` undoes an export that did not end, and removes files that no revision pins.
3. `verify` names the damaged files.
4. `find_rows` looks for their rows among those that a `rebuild` computes from intact files: rows within the file's
   bounds that no intact file has, as many as the log says.
5. Where their encoding has the SHA-256 in the file's name, the file is restored in its place, for every revision that
   pins it. Else the rows become a file of a new revision.
6. Files that cannot be rebuilt are listed with the rows they had, and leave the new revision only on request; gaps,
   quality and derived bars are then computed from the remaining rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from engine.arguments import path_of
from engine.clock import Clock, WallClock
from engine.errors import DamageError, ExportError
from engine.export import delta_table
from engine.export.damage import read_verified
from engine.export.dataset import (
    REPAIRED,
    STAGING,
    Dataset,
    RevisionDraft,
    RevisionPlan,
    StoreState,
    TableChange,
    commit_revision,
    last_pinned_versions,
    open_dataset,
)
from engine.export.delta_table import DataFile
from engine.export.file_statistics import parse_statistics, row_count, summarize_file
from engine.export.folders import cut_by_folder, folder_groups, folder_of, years_of_changes
from engine.export.maintenance import log_sums
from engine.export.maintenance.agreement import SOURCES
from engine.export.maintenance.log_repair import last_readable_revision, make_way, mend_logs, unreadable_logs
from engine.export.maintenance.vacuum import locked_and_recovered, unpinned_files
from engine.export.maintenance.verify import damaged_paths, verify
from engine.export.maintenance.verify_findings import FILE_CHECKS, damaged
from engine.export.parquet import StagedFile, stage
from engine.export.revision_history import pinned_files
from engine.export.row_revisions import keep_known_revisions
from engine.export.share_place import SHARES
from engine.export.tables import DATA_TABLES, KEYS, TABLES
from engine.export.target_folder import LOCK_TIMEOUT_SECONDS, explained_errors, hold_lock
from engine.publish import file_sha256, fsync, make_durable_folders, remove_if_exists, write_new_file
from engine.schema import IS_MISSING, TS, Schema, empty

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
STORED_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "gaps": ("cause", "state", "retry_count", "last_retry", "next_retry"),
    "quality": ("duplicates", "corrections"),
}
LEFTOVERS = ("head", "stray")
LOG_CHECKS = ("log", "pin", "copy")
HELD = ("rows", "symbols", "first_ts", "last_ts")
# What lacks rows is no state of its store any more: the next export from it writes everything.


class Rebuilt(NamedTuple):
    """Rows of every table that the kernels compute from intact files, and the reason where they could not."""

    tables: Mapping[str, pl.DataFrame]
    reason: str


Rebuild = Callable[[Dataset, Mapping[str, Sequence[str]]], Rebuilt]


@dataclass(frozen=True)
class Repaired:
    """Result of `repair_files`: the last revision, and one row per action.

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


class _LostFile(NamedTuple):
    # A damaged file of the last revision.

    table: str
    file: DataFile

    @property
    def sha256(self) -> str:
        return Path(self.file.path).stem.partition("-")[2]


class _FoundRows(NamedTuple):
    """Lost files, and the rows that they had together."""

    lost: tuple[_LostFile, ...]
    rows: pl.DataFrame

    @property
    def table(self) -> str:
        return self.lost[0].table

    @property
    def folders(self) -> set[str]:
        return {one.file.folder for one in self.lost}


def repair_files(
    target: Path,
    rebuild: Rebuild,
    *,
    drop_damaged: bool = False,
    clock: Clock | None = None,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> Repaired:
    """Remove leftovers; restore damaged files byte for byte or as rebuilt rows, else keep, or drop if `drop_damaged`.

    `engine.runtime.export_repair.repair` brings the kernels.

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
    target = path_of("target", target)
    now = (clock or WallClock()).now()
    if not any((target / name / delta_table.LOG).is_dir() for name in TABLES):
        raise ExportError(f"{target}: is no export (it has no table with a log); valid: a folder that `--export` wrote")
    with explained_errors(target, remedy=""), hold_lock(target, lock_timeout):
        actions = [_row(one.action, one.table, _below(target, one.path), one.detail) for one in mend_logs(target, now)]
        blocked = [
            _row("lost", *_place(target, fault), describe_lost_log(target, fault)) for fault in unreadable_logs(target)
        ]
    if blocked:
        return Repaired(last_readable_revision(target) or 0, _framed([*actions, *blocked]))
    actions += remove_leftovers(target, lock_timeout)
    dataset = open_dataset(target)
    findings = verify(target)
    found_again = restore_from_elsewhere(target, damaged_paths(findings), lock_timeout)
    if found_again:
        actions += found_again
        findings = verify(target)
    lost = damaged_files(dataset, findings)
    actions += lost_of_former_revisions(findings, lost)
    if not lost:
        return Repaired(dataset.revision, _framed(actions))
    paths: dict[str, list[str]] = {}
    for one in lost:
        paths.setdefault(one.table, []).append(one.file.path)
    rebuilt = rebuild(dataset, paths)
    found = list(find_rows(dataset, lost, rebuilt.tables))
    restored = restore_files(target, found, lock_timeout)
    reborn = [one for one in found if one not in restored]
    rest = [one for one in lost if not any(one in group.lost for group in restored)]
    gone = [one for one in rest if not any(one in group.lost for group in reborn)]
    actions += [_action("restored", one, "the same bytes as before") for group in restored for one in group.lost]
    actions += [_action("rebuilt", one, describe_rebuilt(group)) for group in reborn for one in group.lost]
    actions += [_action("dropped" if drop_damaged else "lost", one, reason_lost(one, rebuilt)) for one in gone]
    dropped = gone if drop_damaged else []
    if not reborn and not dropped:
        return Repaired(dataset.revision, _framed(actions))
    last = dataset.exports.row(-1, named=True)
    store_id = last["store_id"] + REPAIRED * bool(dropped)
    state = StoreState(store_id, last["store_revision"], now, last.get("as_of"))

    def plan(draft: RevisionDraft) -> RevisionPlan:
        """Plan a revision with rows found again in place of lost files, and tables recomputed from the rows left."""
        changes = changes_of_repair(draft, reborn, dropped)
        if any(is_source_file(one) for one in dropped) and not rebuilt.tables:
            actions.append(_row("stale", "quality", detail=f"gaps, quality and derived bars {rebuilt.reason}"))
        elif any(is_source_file(one) for one in dropped):
            recomputed = changes_of_recomputed(draft, dataset, rest, rebuilt.tables)
            actions.extend(_row("recomputed", table, detail="from the rows that are left") for table in recomputed)
            changes |= recomputed
        return RevisionPlan(changes, None if dropped else dataset.revision)

    return Repaired(commit_revision(target, plan, state, lock_timeout), _framed(actions))


def remove_leftovers(target: Path, lock_timeout: float) -> Iterator[Mapping[str, Any]]:
    """Roll back an unfinished export and, if logs are sound, delete unpinned files; yield actions."""
    leftovers = verify(target, quick=True).filter(pl.col("check_name").is_in(LEFTOVERS))
    with locked_and_recovered(target, lock_timeout) as exports:
        # A log that was changed may name other files than those that are needed.
        trusted = not (log_sums.altered_log_files(target) or log_sums.bad_checkpoints(target))
        strays = {table: unpinned_files(target, table, exports) if trusted else [] for table in TABLES}
        for files in strays.values():
            for path in files:
                path.unlink()
    for row in leftovers.filter(pl.col("check_name") == "head").iter_rows(named=True):
        yield _row("put back", row["table_name"], row["file"], "to what the last revision pins")
    for row in leftovers.filter(pl.col("file").is_in([STAGING, SHARES])).iter_rows(named=True):
        if not (target / row["file"]).exists():  # shares of a run that is under way stay
            yield _row("removed", row["table_name"], row["file"], "an export did not end")
    for table, files in strays.items():
        for path in files:
            yield _row("removed", table, str(path.relative_to(target)), "no revision pins it")


def damaged_files(dataset: Dataset, findings: pl.DataFrame) -> list[_LostFile]:
    """Damaged files of a revision's data tables by findings of `verify`, each with its log entry (path, size, statistics)."""
    found = []
    for table, names in damaged_paths(findings).items():
        if table in DATA_TABLES and table in dataset.tables:
            version = last_pinned_versions(dataset.exports)[1][table]
            ((_, held),) = delta_table.files_by_version(dataset.target / table, [version])
            found += [_LostFile(table, held[name]) for name in names if name in held]
    return found


def restore_from_elsewhere(
    target: Path, lost: Mapping[str, Sequence[str]], lock_timeout: float
) -> list[Mapping[str, Any]]:
    """Put files back whose bytes are in the export under another name: renamed, or exchanged with another file.

    Parameters
    ----------
    target : Path
    lost : mapping of table to paths
        Damaged files, below their table's folder.
    lock_timeout : float
    """
    places = {
        Path(name).stem.partition("-")[2]: target / table / name for table, names in lost.items() for name in names
    }
    if not places:
        return []
    actions: list[Mapping[str, Any]] = []
    with locked_and_recovered(target, lock_timeout) as exports:
        pinned = {
            target / table / name
            for table in TABLES
            for _, held in pinned_files(target, table, exports)
            for name in held
        }
        damaged_ones = set(places.values())
        candidates = [
            path
            for table in lost
            for path in sorted((target / table).rglob("*"))
            if path.is_file() and delta_table.LOG not in path.parts and (path in damaged_ones or path not in pinned)
        ]
        staging = target / STAGING
        make_durable_folders(staging)
        staged = {}
        for path in candidates:
            digest = file_sha256(path)
            if digest in places and digest not in staged:
                # First a copy of each: two files that were exchanged are each other's only source.
                write_new_file(staging / digest, path.read_bytes())
                staged[digest] = path
        for digest, source in staged.items():
            place = places[digest]
            make_durable_folders(place.parent)
            make_way(place)
            (staging / digest).replace(place)
            fsync(place.parent)
            table = place.relative_to(target).parts[0]
            detail = f"its bytes were in {source.relative_to(target).as_posix()}"
            actions.append(_row("restored", table, _below(target, place), detail))
            if source not in damaged_ones:
                source.unlink()
        remove_if_exists(staging)
    return actions


def lost_of_former_revisions(findings: pl.DataFrame, lost: Sequence[_LostFile]) -> Iterator[Mapping[str, Any]]:
    """Yield `lost` for damaged files, and log files, that the last revision does without."""
    ours = {f"{one.table}/{one.file.path}" for one in lost}
    is_log = (pl.col("severity") == "error") & pl.col("check_name").is_in(LOG_CHECKS)
    for row in pl.concat([damaged(findings), findings.filter(is_log)]).unique("file", maintain_order=True).to_dicts():
        if row["file"] in ours:
            continue
        detail = (
            "only former revisions need it; `engine vacuum --keep-revisions 1` removes them"
            if row["check_name"] in FILE_CHECKS
            else "only former revisions need it, and they cannot all be opened; no vacuum removes files while it is so"
        )
        yield {**_row("lost", row["table_name"], row["file"], detail), **{n: row[n] for n in HELD}}


def describe_lost_log(target: Path, fault: DamageError) -> str:
    """Text why a log cannot be mended, which revision can still be opened, and what is left to do."""
    readable = last_readable_revision(target)
    opened = (
        "no revision can be opened" if readable is None else f"revision {readable} is the last one that can be opened"
    )
    return f"{fault.fault}, and there is no copy of it; {opened}; put the file back from a backup, or export to a new folder"


def find_rows(dataset: Dataset, lost: Sequence[_LostFile], tables: Mapping[str, pl.DataFrame]) -> Iterator[_FoundRows]:
    """Yield lost files, singly or by group of folders, with rebuilt rows that no intact file has, where counts match the log."""
    for table in sorted({one.table for one in lost} & tables.keys()):
        groups = folder_groups(map(folder_of, dataset.statistics(table)["path"]))
        parts_of_group = dict(cut_by_folder(table, tables[table], set(groups.values())))
        for group in sorted({groups[one.file.folder] for one in lost if one.table == table}):
            ours = [one for one in lost if one.table == table and groups[one.file.folder] == group]
            rows = parts_of_group.get(group, empty(TABLES[table]))
            folders = {folder for folder, other in groups.items() if other == group}
            yield from find_rows_of_files(dataset, ours, rows, folders)


def find_rows_of_files(
    dataset: Dataset, ours: Sequence[_LostFile], rows: pl.DataFrame, folders: Collection[str]
) -> Iterator[_FoundRows]:
    """Yield these lost files, singly or together, with those of the rows that no intact file of the folders has."""
    table = ours[0].table
    known = read_intact(dataset, table, {one.file.path for one in ours}, folders)
    left = rows.join(known.select(KEYS[table]), on=KEYS[table], how="anti", nulls_equal=True, maintain_order="left")
    parts = {one: left.filter(is_within_bounds(one.file, table)) for one in ours}
    alone = [one for one in ours if parts[one].height == row_count(one.file)]
    if len(alone) == len(ours):
        yield from (_FoundRows((one,), with_revision_of(part, [one], dataset)) for one, part in parts.items())
    elif left.height == sum(row_count(one.file) for one in ours):
        # Their bounds overlap, but together they had these rows.
        yield _FoundRows(tuple(ours), with_revision_of(left, ours, dataset))


def with_revision_of(rows: pl.DataFrame, lost: Sequence[_LostFile], dataset: Dataset) -> pl.DataFrame:
    """Rows with `revision` set to the one all lost files carry; the next revision when they carry several."""
    known = set()
    for one in lost:
        stats = parse_statistics(one.file.stats)
        low, high = ((stats.get(bound) or {}).get("revision") for bound in ("minValues", "maxValues"))
        known.add(low if isinstance(low, int) and low == high else None)
    # Rows that several revisions wrote cannot be told apart any more: they count as written now.
    revision = known.pop() if len(known) == 1 else None
    return rows.with_columns(pl.lit(revision or dataset.revision + 1, pl.Int64).alias("revision"))


def read_intact(dataset: Dataset, table: str, lost: set[str], folders: Collection[str] | None = None) -> pl.DataFrame:
    """Rows of a table (or some folders) from all files but the lost ones; ExportError if one fails its SHA-256."""
    columns = TABLES[table]
    frames = [empty(columns)]
    for path in dataset.files(table):
        name = path.relative_to(dataset.target / table).as_posix()
        if name not in lost and (folders is None or folder_of(name) in folders):
            read_verified(path)
            rows = pl.read_parquet(path, hive_partitioning=False, glob=False)
            absent = [
                pl.lit(None, dtype).alias(column) for column, dtype in columns.items() if column not in rows.columns
            ]
            frames.append(rows.with_columns(absent).select(list(columns)))
    return pl.concat(frames)


def is_within_bounds(file: DataFile, table: str) -> pl.Expr:
    """Expression: key and session columns lie within the file's log min/max (inclusive); unbounded ones pass."""
    stats = parse_statistics(file.stats)
    low, high = stats.get("minValues") or {}, stats.get("maxValues") or {}
    names = [
        name for name in dict.fromkeys((*KEYS[table], "session")) if name in TABLES[table] and low.get(name) is not None
    ]
    dtypes = {name: TABLES[table][name] for name in names if name in high}
    tests = [
        pl.col(name).is_between(bound_literal(low[name], dtype), bound_literal(high[name], dtype))
        for name, dtype in dtypes.items()
    ]
    return pl.all_horizontal([pl.lit(value=True), *tests])


def bound_literal(value: Any, dtype: pl.DataType) -> pl.Expr:  # noqa: ANN401 - any value of JSON
    """JSON bound of Delta statistics as a Polars literal of the column's type (stamps and dates parsed)."""
    if dtype == TS:
        return pl.lit(dt.datetime.fromisoformat(value), dtype)
    return pl.lit(dt.date.fromisoformat(value) if dtype == pl.Date else value, dtype)


def restore_files(target: Path, found: Sequence[_FoundRows], lock_timeout: float) -> list[_FoundRows]:
    """Lock the target, write rows back in place where they encode to every lost file's SHA-256; return these groups."""
    restored = []
    with locked_and_recovered(target, lock_timeout):
        staging = target / STAGING
        make_durable_folders(staging)
        for one in found:
            staged = {file.sha256: file for file in stage(one.table, one.rows, staging, one.folders)}
            if staged.keys() == {lost.sha256 for lost in one.lost}:
                for lost in one.lost:
                    place = target / lost.table / lost.file.path
                    make_durable_folders(place.parent)
                    make_way(place)
                    staged[lost.sha256].staged.replace(place)
                    fsync(place.parent)
                restored.append(one)
            for file in staged.values():
                remove_if_exists(file.staged)
        remove_if_exists(staging)
    return restored


def changes_of_repair(
    draft: RevisionDraft, reborn: Sequence[_FoundRows], dropped: Sequence[_LostFile]
) -> dict[str, TableChange]:
    """TableChange per table: add files of the found rows, remove the lost files they replace and dropped ones."""
    staged: dict[str, list[StagedFile]] = {}
    gone: dict[str, list[str]] = {}
    for found in reborn:
        staged.setdefault(found.table, []).extend(stage(found.table, found.rows, draft.staging, found.folders))
    for one in [*(one for found in reborn for one in found.lost), *dropped]:
        gone.setdefault(one.table, []).append(one.file.path)
    return {table: draft.edited(table, staged.get(table, []), paths) for table, paths in gone.items()}


def is_source_file(one: _LostFile) -> bool:
    """Whether a lost file is of quotes, ticks, open interest, or of bars whose highest `origin` is not `derived`."""
    stats = parse_statistics(one.file.stats)
    origin = (stats.get("maxValues") or {}).get("origin")
    return one.table in SOURCES or (one.table == "bars" and origin != "derived")


def changes_of_recomputed(
    draft: RevisionDraft, dataset: Dataset, lost: Sequence[_LostFile], tables: Mapping[str, pl.DataFrame]
) -> dict[str, TableChange]:
    """Stage rebuilt derived bars, gaps, quality, `symbols`, each WHOLE; return the TableChanges; intact source bars stay."""
    paths = {(one.table, one.file.path) for one in lost}
    changes = {}
    for table in ("bars", *DERIVED, "symbols"):
        former = read_intact(dataset, table, {path for name, path in paths if name == table})
        rows = tables[table]
        if table == "bars":
            rows = pl.concat([former.filter(pl.col("origin") == "source"), rows.filter(pl.col("origin") == "derived")])
        elif table in STORED_COLUMNS:
            rows = with_stored_columns(table, rows, former)
        if table == "gaps":
            rows = pl.concat([rows, former.filter(~IS_MISSING).select(rows.columns)], how="vertical_relaxed")
        stamped = keep_known_revisions(table, rows, former, draft.revision)
        years = years_of_changes(table, stamped, dataset.statistics(table)["path"])
        changes[table] = draft.replaced(table, list(stage(table, stamped, draft.staging, years)))
    return changes


def with_stored_columns(table: str, rows: pl.DataFrame, former: pl.DataFrame) -> pl.DataFrame:
    """Rows with cause, state, retries (gaps) or duplicates, corrections (quality) of the former row of equal key."""
    key = [*KEYS[table], *(["gap_end"] if table == "gaps" else [])]
    stored = list(STORED_COLUMNS[table])
    known = former.select(*key, *stored, pl.lit(value=True).alias("known"))
    joined = rows.join(known, on=key, how="left", nulls_equal=True, maintain_order="left", suffix="_known")
    kept = [pl.when(pl.col("known")).then(f"{name}_known").otherwise(name).alias(name) for name in stored]
    return joined.with_columns(kept).select(rows.columns)


def describe_rebuilt(found: _FoundRows) -> str:
    """Detail text of a `rebuilt` action; names the stored columns whose maximum differs from the log's."""
    said = [parse_statistics(one.file.stats) for one in found.lost]
    numbers = [name for name in STORED_COLUMNS.get(found.table, ()) if name in said[0].get("maxValues", {})]
    highest = {
        name: max((one["maxValues"][name] for one in said if one["maxValues"].get(name) is not None), default=None)
        for name in numbers
    }
    differs = [name for name, value in highest.items() if found.rows[name].max() != value]
    kept = "rows as the log counts them, in a file of the new revision (former ones need a vacuum)"
    return kept + (f"; {', '.join(differs)} cannot be computed again" if differs else "")


def reason_lost(one: _LostFile, rebuilt: Rebuilt) -> str:
    """Text why a lost file has no rebuilt rows: source data, the rebuild's own reason, or other rows computed."""
    if is_source_file(one):
        return "it held what was read from sources: load them again"
    return rebuilt.reason or "the kernels give other rows than the log says it had"


def _action(action: str, one: _LostFile, detail: str) -> Mapping[str, Any]:
    return {**_row(action, one.table, f"{one.table}/{one.file.path}", detail), **summarize_file(one.file)}


def _row(action: str, table: str, file: str = "", detail: str = "") -> Mapping[str, Any]:
    return {"action": action, "table": table, "file": file, "detail": detail}


def _below(target: Path, path: Path) -> str:
    return path.relative_to(target).as_posix()


def _place(target: Path, fault: DamageError) -> tuple[str, str]:
    file = _below(target, Path(fault.path))
    return file.partition("/")[0], file


def _framed(actions: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame([{name: row.get(name) for name in ACTIONS} for row in actions], schema=dict(ACTIONS))
