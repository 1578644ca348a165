"""Rows that readers refused, per file and reason: of how many, and the first of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from engine.checks.refused import SHOWN_CELLS, count_refused
from engine.schema import REJECTS, empty
from engine.sources.batch import Batch
from engine.sources.options import ReadOptions


@dataclass(frozen=True)
class RefusedRows:
    """Rows of one file, or member of an archive, that were refused for one reason.

    Attributes
    ----------
    source, reason : str
    count, of : int
        Rows refused for this reason, and rows of the file.
    row : int
        Number of the first of them.
    cells : str
        Its cells, as JSON.
    """

    source: str
    reason: str
    count: int
    of: int
    row: int
    cells: str


def refused_rows(batches: Iterable[Batch], options: ReadOptions) -> tuple[RefusedRows, ...]:
    """Refused rows of batches per source and reason, sorted; rows that another source repeats are counted for each."""
    sizes: dict[str, int] = {}
    rejects = [empty(REJECTS)]
    for batch in batches:
        if batch.rejects.is_empty():
            continue
        rejects.append(batch.rejects)
        numbers = pl.concat([batch.frame["row"], batch.rejects["row"]])
        # Rows that were not asked for are gone: then the last row's number is nearest to how many there were.
        is_cut = bool(options.symbols or options.price_types)
        size = max(numbers.n_unique(), int(numbers.sort()[-1]) if is_cut else 0)
        sizes[batch.source] = max(size, sizes.get(batch.source, 0))
    counted = count_refused(pl.concat(rejects))
    return tuple(
        RefusedRows(source, reason, count, sizes.get(source, count), row, cells)
        for source, reason, count, row, cells in counted.iter_rows()
    )


def sources_over(refused: Sequence[RefusedRows], share: float) -> dict[str, tuple[int, int]]:
    """Source -> (rows refused, rows) of those of which more than `share` (0 to 1) of the rows were refused."""
    counts: dict[str, tuple[int, int]] = {}
    for one in refused:
        counts[one.source] = (counts.get(one.source, (0, 0))[0] + one.count, one.of)
    return {source: (count, of) for source, (count, of) in counts.items() if count > share * of}


def describe_refused(refused: Sequence[RefusedRows]) -> list[str]:
    """One line per reason, most rows first: how many of how many rows of the files concerned, and the first row."""
    by_reason: dict[str, list[RefusedRows]] = {}
    for one in refused:
        by_reason.setdefault(one.reason, []).append(one)
    lines = []
    for reason, own in sorted(by_reason.items(), key=lambda item: (-sum(one.count for one in item[1]), item[0])):
        first, files = own[0], len(own)
        of = f"{sum(one.of for one in own):,} rows" + (f" in {files} files" if files > 1 else "")
        lines.append(
            f"{sum(one.count for one in own):,} of {of}: {reason}; the first is row {first.row} of {first.source}: "
            f"{first.cells[:SHOWN_CELLS]}"
        )
    return lines


def describe_sources_over(refused: Sequence[RefusedRows], share: float) -> list[str]:
    """One line per source with more refused rows than `share` of its rows: its name, the two counts, the percentages."""
    return [
        f"{source}: {count:,} of {of:,} rows were refused ({count / of:.1%}), more than --max-rejects {share:.4g}"
        for source, (count, of) in sources_over(refused, share).items()
    ]
