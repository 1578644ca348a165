"""Folders of a table's files: `bars/1m/2013-10` of a month, or `bars/1m/2013` of a year with few rows.

1. `small_years` chooses the years whose months are written together, when all rows of a table are written. Changes
   go where former rows of their year are (`years_of_changes`), so that a folder once made stays the folder of its
   rows.
2. `cut_by_folder` cuts sorted rows into those of each folder.
3. `folder_groups` joins a year's folder with those of its months, where both are there: only rows of one group can
   share a session. `verify` and `repair` compare the rows of a group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import polars as pl

from engine.export.tables import PARTITION
from engine.interval import Interval

ROWS_PER_FOLDER = 1 << 20  # of a year with as many rows a session; more are cut by months
SESSIONS_PER_YEAR = 252
YEAR_LENGTH = len("2013")


def small_years(days: pl.DataFrame) -> list[int]:
    """Years that have rows in more than one month, so few that a whole year of such sessions has at most 2^20.

    Parameters
    ----------
    days : DataFrame
        `session, rows`; a session may stand in several rows.
    """
    month = pl.col("session").dt.month()
    by_year = days.group_by(pl.col("session").dt.year().alias("year")).agg(
        pl.col("rows").sum(), pl.col("session").n_unique().alias("sessions"), month.n_unique().alias("months")
    )
    # As many a session: a year that is two months old must not fill its folder with far more later on.
    is_small = pl.col("rows") * SESSIONS_PER_YEAR <= pl.col("sessions") * ROWS_PER_FOLDER
    return by_year.filter(is_small, pl.col("months") > 1)["year"].sort().to_list()


def year_folders(interval: Interval | None, years: Iterable[int]) -> list[str]:
    """Folders of some years of an interval; of a table without intervals (None) the years alone."""
    head = "" if interval is None else f"{interval}/"
    return [f"{head}{year:0{YEAR_LENGTH}}" for year in years]


def years_of_changes(name: str, rows: pl.DataFrame, paths: Iterable[str]) -> frozenset[str]:
    """Year folders for new rows of a table: those there are, and of later years where the newest folder is a year's.

    Parameters
    ----------
    name : str
        Of the table.
    rows : DataFrame
    paths : iterable of str
        Of the table's files, below its folder.
    """
    if name not in PARTITION or rows.is_empty():
        return frozenset()
    folders = set(map(folder_of, paths))
    newest = {folder[: -len(_period(folder))]: folder for folder in sorted(folders)}
    found = set()
    for head, year in _years(name, rows):
        last = newest.get(head)
        is_later = last is not None and is_year(last) and _period(last) < year
        if head + year in folders or is_later:
            found.add(head + year)
    return frozenset(found)


def cut_by_folder(name: str, rows: pl.DataFrame, years: Collection[str] = ()) -> list[tuple[str, pl.DataFrame]]:
    """(folder, rows in the same order) in folder order; months of which the year is in `years` are one folder.

    Parameters
    ----------
    name : str
        Of the table; all rows of one without folders are in "".
    rows : DataFrame
        With the columns of `PARTITION`.
    years : collection of str
        As `year_folders` gives them.
    """
    by = PARTITION.get(name, ())
    if rows.is_empty() or not by:
        return [("", rows)]
    # One folder is the common case, and comparing all rows with the first costs less than finding distinct values.
    if all((rows[column] == rows[column][0]).all() for column in by):
        folder = "/".join(rows[column][0] for column in by)
        return [(year_of(folder) if year_of(folder) in years else folder, rows)]
    if not years:
        return _parts(rows, by)
    *head, month = by
    by_year = rows.with_columns(pl.col("session").dt.year().alias("@year"))
    years_in_rows = by_year.select(*head, "@year").unique()
    folders = pl.concat_str(
        *(pl.col(one).cast(pl.String) for one in head),
        pl.col("@year").cast(pl.String).str.zfill(YEAR_LENGTH),
        separator="/",
    )
    is_small = years_in_rows.select(*head, "@year", folders.is_in(list(years)).alias("@small"))
    if is_small["@small"].all():
        return _parts(by_year, (*head, "@year"))
    by_year = by_year.join(is_small, on=[*head, "@year"], how="left", maintain_order="left")
    small, large = by_year.filter("@small").drop("@small"), by_year.filter(~pl.col("@small")).drop("@small", "@year")
    return sorted([*_parts(small, (*head, "@year")), *_parts(large, (*head, month))], key=lambda part: part[0])


def folder_groups(folders: Iterable[str]) -> dict[str, str]:
    """Folder -> its group: its year's folder if that is among them, else itself."""
    every = set(folders)
    return {folder: year_of(folder) if year_of(folder) in every else folder for folder in every}


def may_lie_in(month: str, folder: str) -> bool:
    """Whether rows of a month's folder, by their columns, may lie in a folder: it is that, or their year's."""
    return folder in (month, year_of(month))


def folders_of_rows(name: str, rows: pl.DataFrame) -> list[str]:
    """Folders of months that the rows of a table belong to by their columns, sorted."""
    by = PARTITION.get(name, ())
    return sorted("/".join(map(str, key)) for key in rows.select(by).unique().iter_rows()) if by else [""]


def folder_of(path: str) -> str:
    """Folder of a file's path below its table; "" of the table's own."""
    return path.rpartition("/")[0]


def is_year(folder: str) -> bool:
    """Whether a folder is that of a year."""
    return len(_period(folder)) == YEAR_LENGTH


def year_of(folder: str) -> str:
    """Folder of the year of a month's folder; a year's folder, and "", is its own."""
    return folder[: len(folder) - len(_period(folder)) + YEAR_LENGTH]


def _period(folder: str) -> str:
    # `2013-10` of `1m/2013-10`.
    return folder.rpartition("/")[2]


def _parts(rows: pl.DataFrame, by: Sequence[str]) -> list[tuple[str, pl.DataFrame]]:
    # Frames by the text of these columns, in its order, without `@year`.
    parts = rows.partition_by(by, as_dict=True, maintain_order=True)
    named = [
        ("/".join(_year_text(one) if isinstance(one, int) else str(one) for one in key), part)
        for key, part in parts.items()
    ]
    return [(folder, part.drop("@year", strict=False)) for folder, part in sorted(named, key=lambda part: part[0])]


def _years(name: str, rows: pl.DataFrame) -> list[tuple[str, str]]:
    # What a folder begins with (`1m/`), and the year, of each year of some rows.
    head = PARTITION[name][:-1]
    held = rows.select(*head, pl.col("session").dt.year().alias("@year")).unique()
    return [("".join(f"{one}/" for one in first), _year_text(year)) for *first, year in held.iter_rows()]


def _year_text(year: int) -> str:
    return f"{year:0{YEAR_LENGTH}}"
