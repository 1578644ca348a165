"""What changed in an export between two of its revisions, for whoever keeps a copy of it.

A consumer reads a delta, applies it, and notes how far it is under a name of its own (`cursors`):

    delta = read_delta(target, since=read_cursor(target, "risk"))
    copy = apply_delta(copy, delta)
    advance_cursor(target, "risk", delta.until)

Computed from the dataset alone: of each table, the files of the one revision and not of the other are read. Rows
that come carry a revision later than `since`; rows that go are those of dropped files whose key is nowhere now. Files are
compared with their SHA-256 first, as what is damaged would be passed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from engine.errors import ExportError, ParameterError
from engine.export.dataset import Dataset, _told, open_dataset, pinned_revisions, scan_files
from engine.export.maintenance.compact import intact_bytes
from engine.export.tables import DATA_TABLES, KEYS, SORT, TABLES
from engine.schema import empty

Tables = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Delta:
    """What leads from one revision of an export to a later one.

    Attributes
    ----------
    since, until : int
        The two revisions; `since` 0 is before the first.
    full : bool
        The rows are all of `until`, to be taken instead of what the consumer has.
    reason : str
        Why it is full, empty when it is not.
    upserts : mapping of table to DataFrame
        Rows that are new or changed (`tables.TABLES`).
    removed : mapping of table to DataFrame
        Keys (`tables.KEYS`) of rows that are gone. Empty when `full`.
    """

    since: int
    until: int
    full: bool
    reason: str
    upserts: Tables = field(repr=False)
    removed: Tables = field(repr=False)


def read_delta(target: Path, since: int, until: int | None = None) -> Delta:
    """Read what changed after a revision.

    Parameters
    ----------
    target : Path
        An export.
    since : int
        The revision that the consumer has; 0 when it has none.
    until : int, optional
        The revision to get to; default the last one.

    Returns
    -------
    Delta
        A full one, with the reason, where `since` is 0, unknown, vacuumed, damaged, or of another store than `until`.

    Raises
    ------
    ParameterError
        `since` is negative, or later than `until`.
    ExportError
        `target` is no export, has no revision `until`, or a file of that one is damaged.
    """
    target = Path(target)
    with _told(target):
        return _read_delta(target, since, until)


def _read_delta(target: Path, since: int, until: int | None) -> Delta:
    now = open_dataset(target, until)
    if not 0 <= since <= now.revision:
        raise ParameterError(
            f"since: received {since}; valid: 0 (nothing yet) to {now.revision}, the revision to get to"
        )
    reason = _why_full(now, since)
    if reason:
        _check_intact(file for name in DATA_TABLES for file in now.files(name))
        return Delta(since, now.revision, True, reason, _whole(now), _nothing())  # noqa: FBT003
    then = open_dataset(target, since)
    _check_intact(file for name in DATA_TABLES for file in _only(now, then, name))
    pairs = {name: _table_delta(name, then, now) for name in DATA_TABLES}
    upserts, removed = ({name: pair[side] for name, pair in pairs.items()} for side in (0, 1))
    return Delta(since, now.revision, False, "", upserts, removed)  # noqa: FBT003


def apply_delta(tables: Tables, delta: Delta) -> dict[str, pl.DataFrame]:
    """Bring a copy of an export up to date.

    Parameters
    ----------
    tables : mapping of table to DataFrame
        The data tables as they were at `delta.since`; a table that is absent counts as empty.
    delta : Delta

    Returns
    -------
    dict of table to DataFrame
        The data tables as they are at `delta.until`, each in the order of `tables.SORT` (`bars` by interval first).
    """
    return {name: _applied(name, tables.get(name), delta) for name in DATA_TABLES}


def _applied(name: str, held: pl.DataFrame | None, delta: Delta) -> pl.DataFrame:
    come, gone, key = delta.upserts[name], delta.removed[name], list(KEYS[name])
    if delta.full or held is None:
        return in_table_order(name, come)
    changed = pl.concat([come.select(key), gone.select(key)])
    kept = held.join(changed, on=key, how="anti", nulls_equal=True)
    return in_table_order(name, pl.concat([kept, come]))


def in_table_order(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Sort a table's rows by interval, where it has one, and then as its files are."""
    first = ["interval"] if name == "bars" else []
    return rows.sort(*first, *SORT[name], "revision")


def _why_full(now: Dataset, since: int) -> str:
    exports = now.exports
    if since == 0:
        return "nothing was read before"
    if since not in pinned_revisions(exports):
        first = pinned_revisions(exports).item(0)
        return f"revision {since} is not there any more, or never was; there are {first} to {now.revision}"
    between = exports.filter(pl.col("revision") >= since)["store_id"]
    if between.n_unique() > 1:
        return f"revision {since} is of another store than revision {now.revision}"
    then = open_dataset(now.target, since)
    dropped = [file for name in DATA_TABLES for file in _only(then, now, name)]
    lost = next((file for file in dropped if not _is_intact(file)), None)
    return "" if lost is None else f"revision {since} is not whole any more: {lost.name} is damaged or gone"


def _is_intact(file: Path) -> bool:
    try:
        intact_bytes(file)
    except ExportError:
        return False
    return True


def _check_intact(files: Iterable[Path]) -> None:
    for file in files:
        intact_bytes(file)


def _table_delta(name: str, then: Dataset, now: Dataset) -> tuple[pl.DataFrame, pl.DataFrame]:
    key = list(KEYS[name])
    come, gone = _scan(name, _only(now, then, name)), _scan(name, _only(then, now, name))
    if name == "rejects":
        return _rejects_delta(come, gone, now)
    left = gone.select(key).join(come.select(key), on=key, how="anti", nulls_equal=True)
    return come.filter(pl.col("revision") > then.revision).collect(), left.collect()


def _rejects_delta(come: pl.LazyFrame, gone: pl.LazyFrame, now: Dataset) -> tuple[pl.DataFrame, pl.DataFrame]:
    # A reject may be there twice, so it is changed when it is there more or less often, and comes as often as it is.
    key = list(KEYS["rejects"])
    often = [
        rows.group_by(key).agg(pl.len().cast(pl.Int64).alias("n"), pl.col("revision").max()) for rows in (come, gone)
    ]
    both = often[0].join(often[1], on=key, how="full", nulls_equal=True, coalesce=True, suffix=":old")
    is_same = pl.col("n").eq_missing(pl.col("n:old")) & pl.col("revision").eq_missing(pl.col("revision:old"))
    changed = both.filter(~is_same).select(key).collect()
    upserts = now.scan("rejects").join(changed.lazy(), on=key, how="semi", nulls_equal=True).collect()
    return upserts, changed.join(upserts, on=key, how="anti", nulls_equal=True)


def _only(one: Dataset, other: Dataset, name: str) -> list[Path]:
    there = set(other.files(name))
    return [file for file in one.files(name) if file not in there]


def _scan(name: str, files: list[Path]) -> pl.LazyFrame:
    if not files:
        return empty(TABLES[name]).lazy()
    return scan_files(name, files)


def _whole(now: Dataset) -> Tables:
    return {name: now.scan(name).collect() for name in DATA_TABLES}


def _nothing() -> Tables:
    return {name: empty({column: TABLES[name][column] for column in KEYS[name]}) for name in DATA_TABLES}
