"""Verification of an export: files against the log byte by byte, and tables against one another.

1. The table `exports` says which revisions there are and which version of each table they pin.
2. `check_log_sums` compares log files with their noted SHA-256; `check_logs` reads every log entry, and the versions
   that are pinned; where a log is broken, what can still be read of it names the files.
3. `check_files` compares each file that a revision pins with its name and its log: it exists, has the size, the
   SHA-256.
4. `check_contents` reads those of the revision in question: rows, columns, statistics, order, folder, keys. Files are
   taken many at a time (`content_batches`), and one by one where something is wrong.
5. `agreement.cross_table_findings` compares the tables with one another.
6. `check_strays` lists files that no revision pins.

Whatever is broken is a finding, never an error: only a folder that is no export is refused.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from engine.arguments import location_of
from engine.errors import DamageError, ExportError
from engine.export import delta_table
from engine.export.damage import FILE_NAME
from engine.export.dataset import STAGING, Dataset, open_dataset
from engine.export.delta_table import DataFile
from engine.export.file_statistics import differing_statistics, row_count
from engine.export.folders import folder_groups, folders_of_rows, may_lie_in
from engine.export.log_copies import COPIES, read_copies
from engine.export.log_mirror import seen_export
from engine.export.maintenance.agreement import cross_table_findings
from engine.export.maintenance.content_batches import faulty_groups
from engine.export.maintenance.log_sums import altered_log_files
from engine.export.maintenance.verify_findings import Finding, damaged, findings_frame, try_reading
from engine.export.parquet import column_statistics
from engine.export.revision_history import pinned_files
from engine.export.share_place import SHARES
from engine.export.tables import ADDED, KEYS, LATER, SORT, TABLES, sorted_rows
from engine.export.target_folder import refuse_no_export
from engine.publish import file_sha256
from engine.storage import ObjectPath, seen_objects, sized

CHUNK_BYTES = 1 << 20
# With one of these a file's rows cannot be compared with other tables.
UNREADABLE = ("exists", "size", "sha256", "readable", "schema")


def verify(target: Path, revision: int | None = None, *, quick: bool = False) -> pl.DataFrame:
    """Findings, errors first, on logs, files and (unless `quick`) rows of a revision; None: last, and others' files.

    Parameters
    ----------
    target : Path
        The export's folder.
    revision : int, optional
        Check the files of this one alone; default the last one, and that the files of all others are intact.
    quick : bool
        Leave out what needs the files' bytes: they are there, as long as the log says, and the logs can be read.

    Returns
    -------
    DataFrame
        `findings.FINDINGS`, errors first; empty when nothing was found. `file` is below `target`. `severity` is
        `error` (data is lost or contradicts itself), `warning` (cannot be told) or `info` (nothing is wrong).
        `rows, symbols, first_ts, last_ts` are what a damaged file held by its log, null where that is lost too.

    Raises
    ------
    ExportError
        `target` is no export, or has no such revision.
    """
    target = location_of("target", target)
    if isinstance(target, ObjectPath):
        with seen_objects(seen_export(target)):  # what the store has now
            return _verify(target, revision, quick=quick)
    return _verify(target, revision, quick=quick)


def _verify(target: Path, revision: int | None, *, quick: bool) -> pl.DataFrame:
    if not any((target / name / delta_table.LOG).is_dir() for name in TABLES):
        refuse_no_export(target, "it has no table with a log")
    try:
        dataset = open_dataset(target)
    except DamageError as error:
        file = Path(error.path).relative_to(target).as_posix()
        unreadable = Finding("exports", file, "readable", error.fault)
        return findings_frame([unreadable, *check_without_exports(target, quick=quick)])
    except ExportError as error:
        unreadable = Finding("exports", "exports", "readable", str(error))
        return findings_frame([unreadable, *check_without_exports(target, quick=quick)])
    chosen = dataset if revision is None else open_dataset(target, revision)
    return findings_frame(check_export(_Check(target, dataset.exports, chosen, every=revision is None, quick=quick)))


@dataclass(frozen=True)
class _Check:
    target: Path
    exports: pl.DataFrame
    chosen: Dataset
    every: bool
    quick: bool

    @property
    def versions(self) -> Mapping[str, int]:
        last = self.chosen.exports.row(-1, named=True)
        return dict(zip(last["table_names"], last["table_versions"], strict=True))


def check_export(check: _Check) -> Iterator[Finding]:
    """Yield findings per table (logs, files, contents), then where tables disagree (not `quick`), then of strays."""
    pinned: set[str] = set()
    whole: dict[str, dict[str, DataFile]] = {}
    broken: set[str] = set()
    changed = list(check_log_sums(check.target))
    for table in TABLES:
        logs = list(check_logs(check, table))
        yield from logs
        yield from (one for one in changed if one.table == table)
        mine, others = files_by_pin(check, table)
        pinned |= {f"{table}/{path}" for path in (*mine, *others)}
        former = [
            one._replace(detail=f"{one.detail}; only former revisions hold it")
            for one in check_files(check, table, others)
        ]
        faulty = list(check_files(check, table, mine))
        fine = {path: file for path, file in mine.items() if f"{table}/{path}" not in {one.file for one in faulty}}
        faulty += [] if check.quick or table == "exports" else check_contents(check, table, fine)
        yield from (*faulty, *former)
        whole[table] = fine
        broken |= {str(Path(one.file).parent) for one in faulty if one.check in UNREADABLE} | (
            {table} if logs else set()
        )
    if not check.quick:
        paths = {
            table: [sized(check.target / table / file.path, file.size) for file in files.values()]
            for table, files in whole.items()
        }
        entry = check.chosen.exports.row(-1, named=True)
        found, why = try_reading(lambda: list(cross_table_findings(check.target, paths, broken, entry)))
        if found is None:
            yield Finding("exports", "", "agreement", f"could not be checked: {why}", "warning")
        yield from found or []
    yield from check_strays(check, pinned)


def check_logs(check: _Check, table: str) -> Iterator[Finding]:
    """Yield findings of unreadable log entries or pin, a version unlike its log, a newest version unlike the pin."""
    log = check.target / table / delta_table.LOG
    for path in sorted(log.glob("*.json")):
        _, why = try_reading(partial(delta_table.apply_log_entry, {}, path))
        if why:
            yield Finding(table, str(path.relative_to(check.target)), "log", why)
    head, why = try_reading(partial(delta_table.newest_version, check.target / table))
    pin = check.versions.get(table)
    if pin is None and table in LATER:
        return
    if head is None or pin is None:
        yield Finding(table, str(log.relative_to(check.target)), "log", why or "no version of it is pinned")
        return
    held, why = try_reading(partial(delta_table.file_paths, check.target / table, pin))
    if held is None:
        yield Finding(table, str(log.relative_to(check.target)), "pin", f"version {pin} cannot be read: {why}")
        return
    yield from check_replay(check, table, pin)
    if check.every and table != "exports":
        newest, why = try_reading(partial(delta_table.file_paths, check.target / table))
        if newest != held:
            detail = why or (
                f"the newest version has other files than version {pin}, which is pinned: a crash, or another writer"
            )
            yield Finding(
                table,
                f"{table}/{delta_table.LOG}",
                "head",
                f"{detail}; `engine repair` or the next export puts it back",
            )


def check_log_sums(target: Path) -> Iterator[Finding]:
    """Yield findings of log files unlike the SHA-256 noted in the `exports` log, or unlike their copy, and of bad copies."""
    altered = altered_log_files(target)
    for table, path in altered:
        yield Finding(table, str(path.relative_to(target)), "log", "its SHA-256 is not what the log of `exports` notes")
    copies, known = read_copies(target), {path for _, path in altered}
    for path in copies.damaged:
        detail = "a copy of log entries whose SHA-256 is not that of its name; `engine repair` writes it anew"
        yield Finding("exports", str(path.relative_to(target)), "copy", detail, "warning")
    for name, content in copies.entries.items():
        path = target / name
        if path.is_file() and path not in known and path.read_bytes() != content:
            yield Finding(name.partition("/")[0], name, "log", f"is not what its copy in {COPIES} holds")


def check_replay(check: _Check, table: str, pin: int) -> Iterator[Finding]:
    """Yield a finding if a pinned version's files differ from its replayed log; none if an entry is missing or bad."""
    entries = [delta_table.log_entry_path(check.target / table, version) for version in range(pin + 1)]
    if not all(path.is_file() for path in entries):
        return
    held: dict[str, DataFile] = {}
    for path in entries:
        after, why = try_reading(partial(delta_table.apply_log_entry, held, path))
        if why:
            return
        held = after or {}
    summed, _ = try_reading(partial(delta_table.file_paths, check.target / table, pin))
    if sorted(held) != summed:
        yield Finding(table, f"{table}/{delta_table.LOG}", "log", f"version {pin} is not what its entries add up to")


def files_by_pin(check: _Check, table: str) -> tuple[dict[str, DataFile], dict[str, DataFile]]:
    """(files of the chosen revision, files only other unexpired ones pin) by path; a bad log: what can be replayed."""
    exports = check.exports if check.every else check.chosen.exports.tail(1)
    found, _ = try_reading(lambda: dict(pinned_files(check.target, table, exports)))
    if found is None:
        # A version that cannot be read does not hide the files that the rest of the log names.
        return files_in_readable_entries(check.target / table, check.versions.get(table)), {}
    if table == "exports" and check.every:
        # A vacuum writes it anew without a revision; the version before is still being read.
        head = delta_table.newest_version(check.target / table)
        # What another program added to the version before was taken out.
        found |= {
            -version: {path: file for path, file in held.items() if version == head or FILE_NAME.fullmatch(path)}
            for version, held in delta_table.files_by_version(check.target / table, [max(head - 1, 0), head])
        }
    mine = found.pop(check.chosen.revision, {})
    others = {path: file for held in found.values() for path, file in held.items() if path not in mine}
    return mine, others


def files_in_readable_entries(table: Path, version: int | None) -> dict[str, DataFile]:
    """Files by path at a version (None: newest) by replaying its log entries, skipping unreadable ones."""
    held: dict[str, DataFile] = {}
    for path in sorted((table / delta_table.LOG).glob("*.json")):
        if version is None or int(path.stem) <= version:
            after, _ = try_reading(partial(delta_table.apply_log_entry, held, path))
            held = held if after is None else after
    return held


def check_files(check: _Check, table: str, files: Mapping[str, DataFile]) -> Iterator[Finding]:
    """Yield a finding per file that is missing, unreadable, of another size or, unless quick, another SHA-256."""
    for file in files.values():
        path = check.target / table / file.path
        fault, why = try_reading(partial(damage_of, path, file, quick=check.quick))
        if why or fault:
            yield Finding.of(table, file, *(fault or ("readable", why)))


def damage_of(path: Path, file: DataFile, *, quick: bool) -> tuple[str, str] | None:
    """First failed check and its detail, of `exists, size, sha256` (hash not if `quick`); None when it is intact."""
    if not path.is_file():
        return "exists", "the file is not there"
    size = path.stat().st_size
    if size != file.size:
        return "size", f"has {size} bytes, the log says {file.size}"
    name = FILE_NAME.fullmatch(path.name)
    if name is None:
        return "sha256", "the log names a file that is none of ours"
    if not quick:
        digest = file_sha256(path)
        if digest != name[2]:
            return "sha256", f"its SHA-256 is {digest}"
    return None


def check_contents(check: _Check, table: str, files: Mapping[str, DataFile]) -> Iterator[Finding]:
    """Yield findings of files unreadable, unlike log or schema, unsorted or in a wrong folder, and of repeated keys."""
    groups = folder_groups(file.folder for file in files.values())
    by_group: dict[str, list[DataFile]] = {}
    for file in files.values():
        by_group.setdefault(groups[file.folder], []).append(file)
    root = check.target / table
    faulty = faulty_groups(root, table, by_group, lambda rows: not column_faults(table, rows))
    for group, held in sorted((group, by_group[group]) for group in faulty):
        keys = []
        for file in held:
            rows, why = try_reading(partial(read_rows, root / file.path))
            if rows is None:
                yield Finding.of(table, file, "readable", why)
                continue
            yield from (Finding.of(table, file, *fault) for fault in content_faults(table, file, rows))
            if not column_faults(table, rows):
                keys.append(rows.select(KEYS[table]))
        yield from check_keys(table, group, keys)


def read_rows(path: Path) -> pl.DataFrame:
    """Read all rows and columns of a Parquet file from an in-memory copy of its bytes."""
    # From memory: a map of a file that shrinks meanwhile kills the process.
    return pl.read_parquet(io.BytesIO(path.read_bytes()), hive_partitioning=False)


def content_faults(table: str, file: DataFile, rows: pl.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield (check, detail) per failed `rows, schema, statistics, sorted, folder`; ends after a schema fault."""
    if rows.height != row_count(file):
        yield "rows", f"has {rows.height} rows, the log says {row_count(file)}"
    wrong = column_faults(table, rows)
    if wrong:
        yield "schema", "; ".join(wrong)
        return
    differs = differing_statistics(file.stats, column_statistics(rows))
    if differs and rows.height == row_count(file):
        yield "statistics", f"bounds or nulls differ from the log's: {', '.join(differs)}"
    if sorted_rows(rows, SORT[table]) is not rows:
        yield "sorted", f"rows are not in order of {', '.join(SORT[table])}"
    strange = [folder for folder in folders_of_rows(table, rows) if not may_lie_in(folder, file.folder)]
    if strange:
        yield "folder", f"holds rows of {', '.join(strange[:3])}"


def column_faults(table: str, rows: pl.DataFrame) -> list[str]:
    """Texts on missing, unknown and wrongly typed columns of rows; absent `revision` and `ADDED` ones are allowed."""
    # Files of an earlier version do not have these.
    late, held = ("revision", *ADDED.get(table, ())), dict(rows.schema)
    wanted = {name: dtype for name, dtype in TABLES[table].items() if name not in late or name in held}
    missing = [f"lacks {name}" for name in wanted if name not in held]
    unknown = [f"has {name}" for name in held if name not in wanted]
    other_types = [
        f"{name} is {held[name]}, not {dtype}" for name, dtype in wanted.items() if name in held and held[name] != dtype
    ]
    return missing + unknown + other_types


def check_keys(table: str, group: str, keys: Sequence[pl.DataFrame]) -> Iterator[Finding]:
    """Yield one finding if a key repeats within a group of folders (a key frame per sorted file); never for `rejects`."""
    if not keys or table == "rejects":
        return
    whole = pl.concat(keys)
    again = 0
    # Rows of one sorted file repeat a key only side by side, which is a twentieth of the price of a set.
    adjacent_equal = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in whole.columns)
    if len(keys) > 1 or (whole.height > 1 and whole.select(adjacent_equal.slice(1).any()).item()):
        again = whole.height - whole.unique().height
    if again:
        twice = whole.filter(whole.is_duplicated())
        held = {"rows": again, "symbols": str(twice[twice.columns[0]][0])}
        place = f"{table}/{group}".rstrip("/")
        yield Finding(
            table, place, "key", f"{again} rows repeat the key ({', '.join(whole.columns)}) of another", held=held
        )


def check_strays(check: _Check, pinned: set[str]) -> Iterator[Finding]:
    """Yield findings of leftover staging folders and, when all revisions are checked, of files not in `pinned`."""
    for folder in (STAGING, SHARES):
        if (check.target / folder).exists():
            detail = "an export runs, or one did not end; the next export or `engine repair` removes what it left"
            yield Finding("exports", folder, "stray", detail, "info")
    if not check.every:
        return
    last = check.exports["revision"].item(-1)
    for table in TABLES:
        known: set[str] | None = None
        for path in sorted(path for path in (check.target / table).rglob("*") if path.is_file()):
            file, inner = str(path.relative_to(check.target)), path.relative_to(check.target / table)
            if file in pinned or delta_table.LOG in inner.parts:
                continue
            if known is None:
                logs = sorted((check.target / table / delta_table.LOG).glob("*.json"))
                text = "".join(log.read_text(errors="replace") for log in logs if log.is_file())
                known = set(re.findall(r'"path":"([^"]+)"', text))
            yield stray_finding(table, file, last, is_logged=inner.as_posix() in known)


def stray_finding(table: str, file: str, last: int, *, is_logged: bool) -> Finding:
    """Finding of an unpinned file: a warning if an export up to revision `last` named it and no log does; else info."""
    name = FILE_NAME.fullmatch(Path(file).name)
    if name is None:
        return Finding(table, file, "stray", "a file that no export wrote", "info")
    # A vacuum that was killed leaves a file of `exports` that no log names.
    if is_logged or int(name[1]) > last or table == "exports":
        return Finding(
            table, file, "stray", "no revision pins it any more; `engine repair` or `engine vacuum` removes it", "info"
        )
    return Finding(
        table,
        file,
        "stray",
        f"revision {name[1]} wrote it, but no log names it: a log was changed, or the file copied",
        "warning",
    )


def check_without_exports(target: Path, *, quick: bool) -> Iterable[Finding]:
    """Yield findings without the table `exports`: altered or bad log entries, damaged files they name."""
    yield from check_log_sums(target)
    for table in TABLES:
        files = files_in_readable_entries(target / table, None)
        for file in files.values():
            fault, why = try_reading(partial(damage_of, target / table / file.path, file, quick=quick))
            if why or fault:
                yield Finding.of(table, file, *(fault or ("readable", why)))
        for path in sorted((target / table / delta_table.LOG).glob("*.json")):
            _, why = try_reading(partial(delta_table.apply_log_entry, {}, path))
            if why:
                yield Finding(table, str(path.relative_to(target)), "log", why)


def damaged_paths(findings: pl.DataFrame) -> dict[str, list[str]]:
    """Distinct damaged files of the findings, as paths relative to their table's folder, by table."""
    found = damaged(findings).unique("file", maintain_order=True)
    lost: dict[str, list[str]] = {}
    for table, file in found.select("table_name", "file").iter_rows():
        lost.setdefault(table, []).append(file.removeprefix(f"{table}/"))
    return lost
