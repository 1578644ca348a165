"""Changes of an export between two of its revisions, for consumers that keep a copy of it.

A consumer reads a delta, applies it, and stores the revision it has under a name of its own (`cursors`):

    delta = read_delta(target, since=read_cursor(target, "risk"))
    copy = apply_delta(copy, delta)
    advance_cursor(target, "risk", delta.until)

Computed from the dataset alone: of each table, the files of the one revision and not of the other are read. New and
changed rows carry a revision later than `since`; removed rows are those of dropped files whose key is nowhere now.
Files are compared with their SHA-256 first, as damage would be passed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from engine.arguments import location_of
from engine.errors import ExportError, ParameterError
from engine.export.damage import read_verified
from engine.export.dataset import Dataset, open_dataset, pinned_revisions, scan_files
from engine.export.tables import DATA_TABLES, KEYS, SORT, TABLES
from engine.export.target_folder import explained_errors
from engine.schema import empty

Tables = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Delta:
    """Rows that were added, changed or removed between one revision of an export and a later one.

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


def read_delta(target: str | Path, since: int, until: int | None = None) -> Delta:
    """Changes after `since` up to `until` (None: last), full if `since` is 0, lost or foreign; ParameterError if later.

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
    target = location_of("target", target)
    with explained_errors(target):
        now = open_dataset(target, until)
        if not 0 <= since <= now.revision:
            raise ParameterError(
                f"since: received {since}; valid: 0 (nothing yet) to {now.revision}, the revision to get to"
            )
        upserts: dict[str, pl.DataFrame] = {}
        removed: dict[str, pl.DataFrame] = {}
        reason = reason_for_full_delta(now, since)
        then = None if reason else open_dataset(target, since)
        for name in DATA_TABLES:
            for file in now.files(name) if then is None else files_of_one(now, then, name):
                read_verified(file)
        for name in DATA_TABLES:
            if then is None:
                upserts[name] = now.scan(name).collect()
                removed[name] = empty({column: TABLES[name][column] for column in KEYS[name]})
            else:
                upserts[name], removed[name] = table_delta(name, then, now)
        return Delta(since, now.revision, then is None, reason, upserts, removed)


def apply_delta(tables: Tables, delta: Delta) -> dict[str, pl.DataFrame]:
    """All data tables, sorted, with the delta's upserts and without its removed keys; a full delta ignores `tables`.

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
    updated = {}
    for name in DATA_TABLES:
        rows, upserts, key = tables.get(name), delta.upserts[name], list(KEYS[name])
        if not delta.full and rows is not None:
            changed = pl.concat([upserts.select(key), delta.removed[name].select(key)])
            unchanged = rows.join(changed, on=key, how="anti", nulls_equal=True)
            upserts = pl.concat([unchanged, upserts])
        updated[name] = sort_table(name, upserts)
    return updated


def sort_table(name: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Sort a table's rows by its `SORT` columns, then `revision`; `bars` by `interval` before these."""
    first = ["interval"] if name == "bars" else []
    return rows.sort(*first, *SORT[name], "revision")


def reason_for_full_delta(now: Dataset, since: int) -> str:
    """Reason to send all rows: `since` 0, expired, unknown, other store, or damaged; "" when none."""
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
    for file in (file for name in DATA_TABLES for file in files_of_one(then, now, name)):
        try:
            read_verified(file)
        except ExportError:
            return f"revision {since} is not whole any more: {file.name} is damaged or gone"
    return ""


def table_delta(name: str, then: Dataset, now: Dataset) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(upserts: rows later than `then`; removed keys) from files one of the two lacks; `rejects` by `rejects_delta`."""
    key = list(KEYS[name])
    added, dropped = (
        scan_files(name, files) for files in (files_of_one(now, then, name), files_of_one(then, now, name))
    )
    if name == "rejects":
        return rejects_delta(added, dropped, now)
    removed = dropped.select(key).join(added.select(key), on=key, how="anti", nulls_equal=True)
    return added.filter(pl.col("revision") > then.revision).collect(), removed.collect()


def rejects_delta(
    in_new_files: pl.LazyFrame, in_dropped_files: pl.LazyFrame, now: Dataset
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All copies in `now` of rejects whose number or revision differs between the files; keys that `now` lacks."""
    key = list(KEYS["rejects"])
    counts = [
        rows.group_by(key).agg(pl.len().cast(pl.Int64).alias("n"), pl.col("revision").max())
        for rows in (in_new_files, in_dropped_files)
    ]
    both = counts[0].join(counts[1], on=key, how="full", nulls_equal=True, coalesce=True, suffix=":old")
    is_same = pl.col("n").eq_missing(pl.col("n:old")) & pl.col("revision").eq_missing(pl.col("revision:old"))
    changed = both.filter(~is_same).select(key).collect()
    upserts = now.scan("rejects").join(changed.lazy(), on=key, how="semi", nulls_equal=True).collect()
    return upserts, changed.join(upserts, on=key, how="anti", nulls_equal=True)


def files_of_one(one: Dataset, other: Dataset, name: str) -> list[Path]:
    """Files of a table that `one` has and `other` has not, in the order of `one`."""
    others = set(other.files(name))
    return [file for file in one.files(name) if file not in others]
