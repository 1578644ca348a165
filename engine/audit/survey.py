"""What one part of the data says, small enough to be kept, sent and joined: the unit of work of an audit.

A part may hold all rows of some symbols (a vendor's folder), or some rows of all symbols (a file of a lake): surveys of both
are joined by `joined`, and only then are gaps found and explained.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import polars as pl

from engine.quality.findings import FINDINGS
from engine.quality.score import COUNTED
from engine.quality.traces import PROFILE, PROFILE_KEY, RUNS, Trace
from engine.quality.traces import joined as traces_joined
from engine.schema import SEGMENTS_PER_SESSION, Schema, empty

# `segments`, `align` and `zone` are the axis (`grid.GridSpec`); `first` and `last` are the symbol's first and last session.
SERIES: Schema = {
    "series": pl.Int32(),
    "symbol": pl.String(),
    "price_type": pl.String(),
    "interval": pl.String(),
    "calendar": pl.String(),
    "segments": pl.List(pl.String()),
    "align": pl.String(),
    "zone": pl.String(),
    "source": pl.String(),
    "rows": pl.Int64(),
    "first": pl.Date(),
    "last": pl.Date(),
}
COUNTS: Schema = {"series": pl.Int32(), "session": pl.Date(), **dict.fromkeys(COUNTED, pl.Int64())}
SLOTS: Schema = {name: pl.Int32() for name in ("series", "ordinal", "first", "last")}
FILES: Schema = {"source": pl.String(), "rows": pl.Int64(), "problem": pl.String()}
NAMED = ["symbol", "price_type"]


@dataclass(frozen=True)
class Survey:
    """Frames about some rows; `series` numbers are its own.

    Attributes
    ----------
    series : DataFrame of `SERIES`
    runs, profile : DataFrame
        A trace (`quality.traces`).
    counts : DataFrame of `COUNTS`
        What was counted at the door.
    prints, quotes : DataFrame of `SLOTS`
        Runs of slots in which a series has trade prints, or quotes, from other files than its bars.
    clock : DataFrame
        Profile of the clock, for the conventions; of whatever columns the caller's checks have.
    findings : DataFrame of `FINDINGS`
        What the rows of this part alone show.
    files : DataFrame of `FILES`
    """

    series: pl.DataFrame
    runs: pl.DataFrame
    profile: pl.DataFrame
    counts: pl.DataFrame
    prints: pl.DataFrame
    quotes: pl.DataFrame
    clock: pl.DataFrame
    findings: pl.DataFrame
    files: pl.DataFrame

    @classmethod
    def none(cls) -> Survey:
        """A survey of nothing."""
        return cls(
            empty(SERIES), empty(RUNS), empty(PROFILE), empty(COUNTS), empty(SLOTS), empty(SLOTS), pl.DataFrame(),
            empty(FINDINGS), empty(FILES),
        )  # fmt: skip

    @property
    def trace(self) -> Trace:
        """Runs and profile."""
        return Trace(self.runs, self.profile)


NUMBERED = {
    "series": ["series"],
    "runs": ["series", "ordinal", "first"],
    "profile": PROFILE_KEY,
    "counts": ["series", "session"],
    "prints": ["series", "ordinal", "first"],
    "quotes": ["series", "ordinal", "first"],
}


def joined(surveys: Sequence[Survey]) -> Survey:
    """Surveys of several parts as one, series numbered in the order of symbol and price type.

    A series that several parts have is one: what they count is added up, a slot that two of them have is one duplicate.
    """
    if not surveys:
        return Survey.none()
    names = pl.concat([one.series.select(NAMED) for one in surveys]).unique().sort(NAMED)
    numbers = names.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("number"))
    renumbered = [_renumbered(one, numbers) for one in surveys]
    together = {field.name: [getattr(one, field.name) for one in renumbered] for field in fields(Survey)}
    series = _one_each(pl.concat(together["series"]))
    trace = traces_joined([one.trace for one in renumbered])
    counts = pl.concat([*together["counts"], _twice(together["runs"], trace.runs)], how="diagonal")
    clocks = [one for one in together["clock"] if one.width]
    return Survey(
        series,
        trace.runs,
        trace.profile,
        counts.group_by("series", "session").agg(pl.col(COUNTED).sum()).sort("series", "session").select(list(COUNTS)),
        _slots(together["prints"]),
        _slots(together["quotes"]),
        pl.concat(clocks) if clocks else pl.DataFrame(),
        pl.concat(together["findings"]),
        pl.concat(together["files"]),
    )


def _renumbered(one: Survey, numbers: pl.DataFrame) -> Survey:
    number = one.series.join(numbers, on=NAMED, maintain_order="left").select("series", "number")
    if number["series"].equals(number["number"]):
        return one
    changed = {
        name: getattr(one, name).join(number, on="series").with_columns(pl.col("number").alias("series")).drop("number").sort(order)
        for name, order in NUMBERED.items()
    }  # fmt: skip
    return replace(one, **changed)


def _one_each(series: pl.DataFrame) -> pl.DataFrame:
    # The first part names the axis; what the others add is rows and sessions.
    first = [pl.col(name).first() for name in SERIES if name not in ("series", "rows", "first", "last")]
    whole = series.group_by("series", maintain_order=True).agg(
        *first, pl.col("rows").sum(), pl.col("first").min(), pl.col("last").max()
    )
    return whole.sort("series").select(list(SERIES))


def _twice(runs: Sequence[pl.DataFrame], union: pl.DataFrame) -> pl.DataFrame:
    """Slots that more than one part has, as duplicates by session."""
    day = (pl.col("ordinal") // SEGMENTS_PER_SESSION).cast(pl.Date)
    size = (pl.col("last") - pl.col("first") + 1).cast(pl.Int64)

    def held(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.group_by("series", day.alias("session")).agg(size.sum().alias("slots"))

    if len(runs) < 2:  # noqa: PLR2004 - a pair
        return empty({"series": pl.Int32(), "session": pl.Date(), "duplicates": pl.Int64()})
    each = held(pl.concat([frame.select("series", "ordinal", "first", "last") for frame in runs]))
    both = each.join(held(union), on=["series", "session"], suffix="_once")
    again = both.with_columns((pl.col("slots") - pl.col("slots_once")).alias("duplicates")).filter(
        pl.col("duplicates") > 0
    )
    return again.select("series", "session", "duplicates")


def _slots(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    whole = pl.concat([empty(SLOTS), *parts]).sort("series", "ordinal", "first", "last")
    # Parts that overlap are rare; where they do, the later run begins after what is covered.
    covered = pl.col("last").cum_max().shift(1).over("series", "ordinal")
    begun = pl.max_horizontal(pl.col("first"), covered.fill_null(-1) + 1).cast(pl.Int32)
    return whole.with_columns(begun.alias("first")).filter(pl.col("first") <= pl.col("last"))


def to_bytes(survey: Survey) -> bytes:
    """A survey as one file: an archive of its frames."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for field in fields(Survey):
            frame = io.BytesIO()
            getattr(survey, field.name).write_ipc(frame, compression="zstd")
            archive.writestr(field.name, frame.getvalue())
    return out.getvalue()


def from_bytes(content: bytes) -> Survey:
    """The survey that `to_bytes` wrote.

    Raises
    ------
    ValueError
        It is none, or not whole.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return Survey(**{field.name: pl.read_ipc(archive.read(field.name)) for field in fields(Survey)})
    except (zipfile.BadZipFile, KeyError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"no survey: {error}") from error
