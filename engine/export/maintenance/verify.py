"""Whether an export is what it says, byte by byte and table against table.

1. `_pins` reads the table `exports`: which revisions there are and which version of each table they pin.
2. `_changed` compares log files with what `exports` noted of them; `_logs` reads every log entry, and that the versions that are pinned can be had; where a log is broken, what can
   still be read of it names the files.
3. `_intact` compares each file that a revision pins with its name and its log: there, as long, the same SHA-256.
4. `_content` reads those of the revision in question: rows, columns, statistics, order, folder, keys.
5. `agreement.disagreements` compares the tables with one another.
6. `_strays` lists files that no revision pins.

Whatever is broken is a finding, never an error: only a folder that is no export is refused.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from engine.errors import ExportError
from engine.export import delta_table
from engine.export.dataset import STAGING, Dataset, open_dataset
from engine.export.delta_table import LakeFile
from engine.export.file_statistics import differing, rows_of
from engine.export.maintenance.agreement import disagreements
from engine.export.maintenance.log_sums import changed_files
from engine.export.maintenance.verify_findings import Finding, damaged, framed, tried
from engine.export.parquet import _stats
from engine.export.revision_history import pinned_files
from engine.export.tables import ADDED, KEYS, PARTITION, SORT, TABLES, in_order

CHUNK_BYTES = 1 << 20
# With one of these a file's rows cannot be compared with other tables.
UNREADABLE = ("exists", "size", "sha256", "readable", "schema")
NAME = re.compile(r"(\d+)-([0-9a-f]{64})\.parquet")


def verify(target: Path, revision: int | None = None, *, quick: bool = False) -> pl.DataFrame:
    """Check an export; reads only.

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
    target = Path(target)
    if not any((target / name / delta_table.LOG).is_dir() for name in TABLES):
        raise ExportError(f"{target}: is no export (it has no table with a log); valid: a folder that `--export` wrote")
    dataset, why = tried(partial(open_dataset, target))
    if dataset is None:
        return framed([Finding("exports", "exports", "readable", why), *_loose(target, quick=quick)])
    chosen = dataset if revision is None else open_dataset(target, revision)
    return framed(_found(_Check(target, dataset.exports, chosen, every=revision is None, quick=quick)))


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


def _found(check: _Check) -> Iterator[Finding]:
    named: set[str] = set()
    whole: dict[str, dict[str, LakeFile]] = {}
    broken: set[str] = set()
    changed = list(_changed(check.target))
    for table in TABLES:
        logs = list(_logs(check, table))
        yield from logs
        yield from (one for one in changed if one.table == table)
        mine, others = _pinned(check, table)
        named |= {f"{table}/{path}" for path in (*mine, *others)}
        former = [
            one._replace(detail=f"{one.detail}; only former revisions hold it") for one in _intact(check, table, others)
        ]
        faulty = list(_intact(check, table, mine))
        fine = {path: file for path, file in mine.items() if f"{table}/{path}" not in {one.file for one in faulty}}
        faulty += [] if check.quick or table == "exports" else _content(check, table, fine)
        yield from (*faulty, *former)
        whole[table] = fine
        broken |= {str(Path(one.file).parent) for one in faulty if one.check in UNREADABLE} | (
            {table} if logs else set()
        )
    if not check.quick:
        yield from _agree(check, whole, broken)
    yield from _strays(check, named)


def _logs(check: _Check, table: str) -> Iterator[Finding]:
    log = check.target / table / delta_table.LOG
    for path in sorted(log.glob("*.json")):
        _, why = tried(partial(delta_table.after_entry, {}, path))
        if why:
            yield Finding(table, str(path.relative_to(check.target)), "log", why)
    head, why = tried(partial(delta_table.head, check.target / table))
    pin = check.versions.get(table)
    if head is None or pin is None:
        yield Finding(table, str(log.relative_to(check.target)), "log", why or "no version of it is pinned")
        return
    held, why = tried(partial(delta_table.files, check.target / table, pin))
    if held is None:
        yield Finding(table, str(log.relative_to(check.target)), "pin", f"version {pin} cannot be read: {why}")
        return
    yield from _replayed(check, table, pin)
    if check.every and table != "exports":
        yield from _at_head(check, table, pin, held)


def _changed(target: Path) -> Iterator[Finding]:
    for table, path in changed_files(target):
        yield Finding(table, str(path.relative_to(target)), "log", "its SHA-256 is not what the log of `exports` notes")


def _replayed(check: _Check, table: str, pin: int) -> Iterator[Finding]:
    """The version as a checkpoint sums it up against the entries themselves, where all are there."""
    entries = [delta_table.entry(check.target / table, version) for version in range(pin + 1)]
    if not all(path.is_file() for path in entries):
        return
    held: dict[str, LakeFile] = {}
    for path in entries:
        after, why = tried(partial(delta_table.after_entry, held, path))
        if why:
            return
        held = after or {}
    summed, _ = tried(partial(delta_table.files, check.target / table, pin))
    if sorted(held) != summed:
        yield Finding(table, f"{table}/{delta_table.LOG}", "log", f"version {pin} is not what its entries add up to")


def _at_head(check: _Check, table: str, pin: int, held: Sequence[str]) -> Iterator[Finding]:
    newest, why = tried(partial(delta_table.files, check.target / table))
    if newest != held:
        detail = (
            why or f"the newest version has other files than version {pin}, which is pinned: a crash, or another writer"
        )
        yield Finding(
            table, f"{table}/{delta_table.LOG}", "head", f"{detail}; `engine repair` or the next export puts it back"
        )


def _pinned(check: _Check, table: str) -> tuple[dict[str, LakeFile], dict[str, LakeFile]]:
    """Files of the chosen revision, and those that only others pin."""
    exports = check.exports if check.every else check.chosen.exports.tail(1)
    found, _ = tried(lambda: dict(pinned_files(check.target, table, exports)))
    if found is None:
        # A version that cannot be read does not hide the files that the rest of the log names.
        return _salvaged(check.target / table, check.versions.get(table)), {}
    if table == "exports" and check.every:
        # A vacuum writes it anew without a revision; what stood before is still being read.
        head = delta_table.head(check.target / table)
        found |= {
            -version: held for version, held in delta_table.holdings(check.target / table, [max(head - 1, 0), head])
        }
    mine = found.pop(check.chosen.revision, {})
    others = {path: file for held in found.values() for path, file in held.items() if path not in mine}
    return mine, others


def _salvaged(table: Path, version: int | None) -> dict[str, LakeFile]:
    held: dict[str, LakeFile] = {}
    for path in sorted((table / delta_table.LOG).glob("*.json")):
        if version is None or int(path.stem) <= version:
            after, _ = tried(partial(delta_table.after_entry, held, path))
            held = held if after is None else after
    return held


def _intact(check: _Check, table: str, files: Mapping[str, LakeFile]) -> Iterator[Finding]:
    for file in files.values():
        path = check.target / table / file.path
        fault, why = tried(partial(_damage, path, file, quick=check.quick))
        if why or fault:
            yield Finding.of(table, file, *(fault or ("readable", why)))


def _damage(path: Path, file: LakeFile, *, quick: bool) -> tuple[str, str] | None:
    if not path.is_file():
        return "exists", "the file is not there"
    size = path.stat().st_size
    if size != file.size:
        return "size", f"has {size} bytes, the log says {file.size}"
    name = NAME.fullmatch(path.name)
    if name is None:
        return "sha256", "the log names a file that is none of ours"
    if not quick and (found := _sha256(path)) != name[2]:
        return "sha256", f"its SHA-256 is {found}"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content(check: _Check, table: str, files: Mapping[str, LakeFile]) -> Iterator[Finding]:
    by_folder: dict[str, list[LakeFile]] = {}
    for file in files.values():
        by_folder.setdefault(file.path.rpartition("/")[0], []).append(file)
    for folder, held in sorted(by_folder.items()):
        keys = []
        for file in held:
            rows, why = tried(partial(_rows, check.target / table / file.path))
            if rows is None:
                yield Finding.of(table, file, "readable", why)
                continue
            yield from (Finding.of(table, file, *fault) for fault in _faults(table, folder, file, rows))
            keys.append(rows.select([name for name in KEYS[table] if name in rows.columns]))
        yield from _repeated(table, folder, keys)


def _rows(path: Path) -> pl.DataFrame:
    # From memory: a map of a file that shrinks meanwhile kills the process.
    return pl.read_parquet(io.BytesIO(path.read_bytes()), hive_partitioning=False)


def _faults(table: str, folder: str, file: LakeFile, rows: pl.DataFrame) -> Iterator[tuple[str, str]]:
    if rows.height != rows_of(file):
        yield "rows", f"has {rows.height} rows, the log says {rows_of(file)}"
    wrong = _wrong_columns(table, rows)
    if wrong:
        yield "schema", "; ".join(wrong)
        return
    differs = differing(file.stats, _stats(rows))
    if differs and rows.height == rows_of(file):
        yield "statistics", f"bounds or nulls differ from the log's: {', '.join(differs)}"
    if in_order(rows, SORT[table]) is not rows:
        yield "sorted", f"rows are not in order of {', '.join(SORT[table])}"
    if _folders(table, rows) - {folder}:
        yield "folder", f"holds rows of {', '.join(sorted(_folders(table, rows) - {folder})[:3])}"


def _wrong_columns(table: str, rows: pl.DataFrame) -> list[str]:
    # Files of an earlier version do not have these.
    late = ("revision", *ADDED.get(table, ()))
    wanted = {name: dtype for name, dtype in TABLES[table].items() if name not in late or name in rows.columns}
    missing = [f"lacks {name}" for name in wanted if name not in rows.columns]
    strange = [f"has {name}" for name in rows.columns if name not in wanted]
    others = [f"{name} is {rows.schema[name]}, not {dtype}" for name, dtype in wanted.items()
              if name in rows.columns and rows.schema[name] != dtype]  # fmt: skip
    return missing + strange + others


def _folders(table: str, rows: pl.DataFrame) -> set[str]:
    by = PARTITION.get(table, ())
    return {"/".join(map(str, key)) for key in rows.select(by).unique().iter_rows()} if by else {""}


def _repeated(table: str, folder: str, keys: Sequence[pl.DataFrame]) -> Iterator[Finding]:
    if not keys or table == "rejects":
        return
    whole = pl.concat(keys)
    again = whole.height - whole.unique().height if _may_repeat(keys) else 0
    if again:
        twice = whole.filter(whole.is_duplicated())
        held = {"rows": again, "symbols": str(twice[twice.columns[0]][0])}
        place = f"{table}/{folder}".rstrip("/")
        yield Finding(
            table, place, "key", f"{again} rows repeat the key ({', '.join(whole.columns)}) of another", held=held
        )


def _may_repeat(keys: Sequence[pl.DataFrame]) -> bool:
    # Rows of one sorted file repeat a key only side by side, which is a twentieth of the price of a set.
    if len(keys) > 1:
        return True
    rows = keys[0]
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in rows.columns)
    return bool(rows.select(same.slice(1).any()).item()) if rows.height > 1 else False


def _agree(check: _Check, whole: Mapping[str, Mapping[str, LakeFile]], broken: set[str]) -> Iterator[Finding]:
    paths = {table: [check.target / table / path for path in files] for table, files in whole.items()}
    found, why = tried(
        lambda: list(disagreements(check.target, paths, broken, check.chosen.exports.row(-1, named=True)))
    )
    if found is None:
        yield Finding("exports", "", "agreement", f"could not be checked: {why}", "warning")
    yield from found or []


def _strays(check: _Check, named: set[str]) -> Iterator[Finding]:
    if (check.target / STAGING).exists():
        detail = "an export runs, or one did not end; the next export or `engine repair` removes what it left"
        yield Finding("exports", STAGING, "stray", detail, "info")
    if not check.every:
        return
    last = check.exports["revision"].item(-1)
    for table in TABLES:
        known: set[str] | None = None
        for path in _files_below(check.target / table):
            file = str(path.relative_to(check.target))
            if file in named:
                continue
            known = _ever_named(check.target / table) if known is None else known
            yield _stray(table, file, last, is_known=path.relative_to(check.target / table).as_posix() in known)


def _stray(table: str, file: str, last: int, *, is_known: bool) -> Finding:
    name = NAME.fullmatch(Path(file).name)
    if name is None:
        return Finding(table, file, "stray", "a file that no export wrote", "info")
    # A vacuum that was killed leaves a file of `exports` that no log names.
    if is_known or int(name[1]) > last or table == "exports":
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


def _ever_named(table: Path) -> set[str]:
    text = "".join(path.read_text(errors="replace") for path in sorted((table / delta_table.LOG).glob("*.json")))
    return set(re.findall(r'"path":"([^"]+)"', text))


def _files_below(table: Path) -> list[Path]:
    if not table.is_dir():
        return []
    return sorted(
        path for path in table.rglob("*") if path.is_file() and delta_table.LOG not in path.relative_to(table).parts
    )


def _loose(target: Path, *, quick: bool) -> Iterable[Finding]:
    """Without `exports`: what the logs of the other tables still say."""
    yield from _changed(target)
    for table in TABLES:
        files = _salvaged(target / table, None)
        for file in files.values():
            fault, why = tried(partial(_damage, target / table / file.path, file, quick=quick))
            if why or fault:
                yield Finding.of(table, file, *(fault or ("readable", why)))
        for path in sorted((target / table / delta_table.LOG).glob("*.json")):
            _, why = tried(partial(delta_table.after_entry, {}, path))
            if why:
                yield Finding(table, str(path.relative_to(target)), "log", why)


def lost_files(findings: pl.DataFrame) -> dict[str, list[str]]:
    """Paths of damaged files below their tables, by table."""
    found = damaged(findings).unique("file", maintain_order=True)
    lost: dict[str, list[str]] = {}
    for table, file in found.select("table_name", "file").iter_rows():
        lost.setdefault(table, []).append(file.removeprefix(f"{table}/"))
    return lost
