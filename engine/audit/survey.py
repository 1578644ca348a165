"""Surveys: small mergeable summaries of one part of the data, the unit of work of an audit.

A part may hold all rows of some symbols (a vendor's folder), or some rows of all symbols (a file of a lake): surveys of both
are joined by `join_surveys`, and only then are gaps found and explained.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import polars as pl

from engine.checks.bar_checks import combine
from engine.checks.refused import CONFLICTS, REFUSED, sum_refused
from engine.quality.causes.profiles import PROFILE, PROFILE_KEY, RUNS, BarSummary
from engine.quality.causes.profiles import merge_summaries as traces_joined
from engine.quality.score import COUNTED
from engine.schema import COUNTERS, SEGMENTS_PER_SESSION, Schema, empty

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
# Slots whose cause is known before gaps are weighed: rows that were refused, and whatever else tells what happened.
# `cause` is one of `cause_table.CAUSES`, `evidence` a sentence, `event` names the event that explains slots of several series
# (null: none). `rank` is the place of the kind of evidence in `evidence_order.EVIDENCE`: rows of a series may overlap until
# `evidence_order.settle_known` leaves the first.
KNOWN: Schema = {
    **{name: pl.Int32() for name in ("series", "ordinal", "first", "last")},
    "cause": pl.String(),
    "evidence": pl.String(),
    "confidence": pl.Float64(),
    "event": pl.String(),
    "rank": pl.Int32(),
}
# `schema.COUNTERS` of series.
COUNTER_SPANS: Schema = {"series": pl.Int32(), **{name: dtype for name, dtype in COUNTERS.items() if name != "symbol"}}
SLOTS: Schema = {name: pl.Int32() for name in ("series", "ordinal", "first", "last")}
# `symbols`: of the rows of a file, where they are few and all of its rows are known; null otherwise.
FILES: Schema = {
    "source": pl.String(),
    "rows": pl.Int64(),
    "problem": pl.String(),
    "symbols": pl.List(pl.String()),
}
NAMED = ["symbol", "price_type"]
AXES = "axes.json"


class Axis(NamedTuple):
    """Calendar, segments, alignment, zone and interval of series that are checked together."""

    calendar: str
    segments: tuple[str, ...]
    align: str
    zone: str
    interval: str


class CheckedAxis(NamedTuple):
    """Measurements (`checks.bar_checks.measure`) of the bars of one axis."""

    axis: Axis
    measured: Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Survey:
    """Frames about some rows; `series` numbers are its own.

    Attributes
    ----------
    series : DataFrame of `SERIES`
    runs, profile : DataFrame
        A trace (`quality.traces`).
    counts : DataFrame of `COUNTS`
        Counts of anomalies when rows were stored.
    prints, quotes : DataFrame of `SLOTS`
        Runs of slots in which a series has trade prints, or quotes, from other files than its bars.
    known : DataFrame of `KNOWN`
        Slots whose cause is known.
    counters : DataFrame of `COUNTER_SPANS`
        The feed's own numbers of a series' trades.
    checks : tuple of CheckedAxis
        Measurements of the checks, one of each axis.
    refused : DataFrame of `checks.refused.REFUSED`
        Rows that did not hold, by file and reason.
    conflicts : DataFrame of `checks.refused.CONFLICTS`
        Rows that lost against a later one of their file with other values.
    files : DataFrame of `FILES`
    """

    series: pl.DataFrame
    runs: pl.DataFrame
    profile: pl.DataFrame
    counts: pl.DataFrame
    prints: pl.DataFrame
    quotes: pl.DataFrame
    known: pl.DataFrame
    counters: pl.DataFrame
    checks: tuple[CheckedAxis, ...]
    refused: pl.DataFrame
    conflicts: pl.DataFrame
    files: pl.DataFrame

    @classmethod
    def none(cls) -> Survey:
        """Return a survey of empty frames without checks."""
        return cls(
            empty(SERIES),
            empty(RUNS),
            empty(PROFILE),
            empty(COUNTS),
            empty(SLOTS),
            empty(SLOTS),
            empty(KNOWN),
            empty(COUNTER_SPANS),
            (),
            empty(REFUSED),
            empty(CONFLICTS),
            empty(FILES),
        )

    @property
    def trace(self) -> BarSummary:
        """Return `runs` and `profile` as a BarSummary."""
        return BarSummary(self.runs, self.profile)

    def without_series(self, named: pl.DataFrame) -> Survey:
        """Return the survey without series of these (symbol, interval), without their measurements and conflicts."""
        gone = self.series.join(named, on=["symbol", "interval"], how="semi")["series"].implode()
        if gone[0].is_empty():
            return self
        kept = {name: getattr(self, name).filter(~pl.col("series").is_in(gone)) for name in NUMBERED}
        left = set(kept["series"].select("interval", "calendar").iter_rows())
        checks = []
        for axis, measured in self.checks:
            lost = named.filter(pl.col("interval") == axis.interval).select("symbol").unique()
            frames = {
                name: frame.join(lost, on="symbol", how="anti", maintain_order="left")
                if "symbol" in frame.columns
                else frame
                for name, frame in measured.items()
            }
            if (axis.interval, axis.calendar) in left:
                checks.append(CheckedAxis(axis, frames))
        conflicts = self.conflicts.join(named, on=["symbol", "interval"], how="anti", maintain_order="left")
        return replace(self, checks=tuple(checks), conflicts=conflicts, **kept)


NUMBERED = {
    "series": ["series"],
    "runs": ["series", "ordinal", "first"],
    "profile": PROFILE_KEY,
    "counts": ["series", "session"],
    "prints": ["series", "ordinal", "first"],
    "quotes": ["series", "ordinal", "first"],
    "known": ["series", "ordinal", "first"],
    "counters": ["series", "first_ts"],
}


def join_surveys(surveys: Sequence[Survey]) -> Survey:
    """Join surveys, one series per symbol and price type, counts summed; slots that two parts have are duplicates.

    A series that several parts have is one: what they count is added up, a slot that two of them have is one duplicate.
    """
    if not surveys:
        return Survey.none()
    names = pl.concat([one.series.select(NAMED) for one in surveys]).unique().sort(NAMED)
    numbers = names.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("number"))
    renumbered = [renumber_series(one, numbers) for one in surveys]
    together = {field.name: [getattr(one, field.name) for one in renumbered] for field in fields(Survey)}
    series = merge_series(pl.concat(together["series"]))
    trace = traces_joined([one.trace for one in renumbered])
    counts = pl.concat([*together["counts"], count_slots_of_two_parts(together["runs"], trace.runs)], how="diagonal")
    return Survey(
        series,
        trace.runs,
        trace.profile,
        counts.group_by("series", "session").agg(pl.col(COUNTED).sum()).sort("series", "session").select(list(COUNTS)),
        merge_slot_runs(together["prints"]),
        merge_slot_runs(together["quotes"]),
        merge_known(together["known"]),
        pl.concat(together["counters"]).sort("series", "first_ts", "first_id"),
        combine_checks(
            [one for checks in together["checks"] for one in checks], sessions_of_two_parts(together["runs"], series)
        ),
        sum_refused(together["refused"]),
        pl.concat(together["conflicts"]),
        pl.concat(together["files"]),
    )


def series_in_shared_slots(surveys: Sequence[Survey]) -> pl.DataFrame:
    """`symbol, interval, rows` of series that two parts have in one slot, or slots between those of each other; mostly none.

    Of a series whose rows lie scattered over parts, no part sees which bar follows which.
    """
    series = pl.concat([empty(SERIES), *(one.series for one in surveys)])
    names = series.select(NAMED).unique().sort(NAMED)
    numbers = names.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("number"))
    places = list(SLOTS)
    of_parts = [
        renumber_series(one, numbers).runs.select(*places, pl.lit(part, pl.Int32).alias("part"))
        for part, one in enumerate(surveys)
    ]
    runs = pl.concat([empty({**SLOTS, "part": pl.Int32()}), *of_parts]).sort(places)
    number, ordinal, first, last, part = (runs[name].to_numpy() for name in runs.columns)
    in_segment = (number[1:] == number[:-1]) & (ordinal[1:] == ordinal[:-1])
    # Runs of one part do not overlap: of sorted ones that do, two neighbours do.
    again = in_segment & (first[1:] <= last[:-1])
    turns = runs[1:].filter(pl.Series(in_segment & (part[1:] != part[:-1])))
    # Parts that follow each other take turns once less than they are.
    many = turns.group_by("series", "ordinal").len("turns").filter(pl.col("turns") > 1)
    parts = (
        runs.join(many, on=["series", "ordinal"]).group_by("series", "ordinal", "turns").agg(pl.col("part").n_unique())
    )
    scattered = parts.filter(pl.col("turns") >= pl.col("part"))["series"].to_numpy()
    symbols = names["symbol"].gather(np.unique(np.concatenate([number[1:][again], scattered])))
    shared = series.filter(pl.col("symbol").is_in(symbols.implode()))
    return shared.group_by("symbol", "interval").agg(pl.col("rows").sum()).sort("symbol", "interval")


def renumber_series(one: Survey, numbers: pl.DataFrame) -> Survey:
    """Return the survey with series numbers looked up by symbol and price type, its frames sorted; unchanged if equal."""
    number = one.series.join(numbers, on=NAMED, maintain_order="left").select("series", "number").sort("series")
    if number["series"].equals(number["number"]):
        return one
    given = np.full(int(number["series"].max()) + 1, -1, np.int32)  # type: ignore[arg-type]
    given[number["series"].to_numpy()] = number["number"].to_numpy()
    # Parts number their series in the order of names, mostly, as the whole does.
    in_order = number["number"].is_sorted()
    changed = {}
    for name, order in NUMBERED.items():
        rows = getattr(one, name)
        rows = rows.with_columns(pl.Series("series", given[rows["series"].to_numpy()]))
        changed[name] = rows if in_order else rows.sort(order)
    return replace(one, **changed)


def merge_series(series: pl.DataFrame) -> pl.DataFrame:
    """Return one row per series number: rows summed, earliest first, latest last; axis and source of the first part."""
    # The first part names the axis; what the others add is rows and sessions.
    first = [pl.col(name).first() for name in SERIES if name not in ("series", "rows", "first", "last")]
    whole = series.group_by("series", maintain_order=True).agg(
        *first, pl.col("rows").sum(), pl.col("first").min(), pl.col("last").max()
    )
    return whole.sort("series").select(list(SERIES))


def count_slots_of_two_parts(runs: Sequence[pl.DataFrame], union: pl.DataFrame) -> pl.DataFrame:
    """Return `series, session, duplicates`: slots of all parts' runs in excess of their union; none: empty."""
    size = (pl.col("last") - pl.col("first") + 1).cast(pl.Int64)

    def held(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.group_by("series", session_of_ordinal().alias("session")).agg(size.sum().alias("slots"))

    if sum(frame.select(size.sum()).item() for frame in runs) == union.select(size.sum()).item():
        return empty({"series": pl.Int32(), "session": pl.Date(), "duplicates": pl.Int64()})
    each = held(pl.concat([frame.select("series", "ordinal", "first", "last") for frame in runs]))
    both = each.join(held(union), on=["series", "session"], suffix="_once")
    again = both.with_columns((pl.col("slots") - pl.col("slots_once")).alias("duplicates")).filter(
        pl.col("duplicates") > 0
    )
    return again.select("series", "session", "duplicates")


def combine_checks(parts: Sequence[CheckedAxis], split_sessions: pl.DataFrame) -> tuple[CheckedAxis, ...]:
    """Combine measurements of equal axes; if several parts have one, drop its truncations in `split_sessions`."""
    by_axis: dict[Axis, list[Mapping[str, pl.DataFrame]]] = {}
    for one in parts:
        by_axis.setdefault(one.axis, []).append(one.measured)
    return tuple(
        CheckedAxis(axis, found[0] if len(found) == 1 else without_split_sessions(combine(found), split_sessions))
        for axis, found in by_axis.items()
    )


def without_split_sessions(
    whole: Mapping[str, pl.DataFrame], split_sessions: pl.DataFrame
) -> Mapping[str, pl.DataFrame]:
    """Return the measurements without `truncated` rows of the `split_sessions` sessions (lying in two parts)."""
    # A session that lies in two parts was cut by whoever cut the parts.
    truncated = whole["truncated"].join(split_sessions, on=[*NAMED, "session"], how="anti", maintain_order="left")
    return {**whole, "truncated": truncated}


def sessions_of_two_parts(parts: Sequence[pl.DataFrame], series: pl.DataFrame) -> pl.DataFrame:
    """Return `symbol, price_type, session` for which more than one part has rows."""
    numbers = pl.concat([part.select(pl.col("series").unique()) for part in parts])["series"]
    shared = numbers.filter(numbers.is_duplicated()).unique().implode()
    days = [
        part.filter(pl.col("series").is_in(shared)).select("series", session_of_ordinal().alias("session")).unique()
        for part in parts
    ]
    both = pl.concat(days).group_by("series", "session").len().filter(pl.col("len") > 1)
    return both.join(series.select("series", *NAMED), on="series").select(*NAMED, "session")


def session_of_ordinal() -> pl.Expr:
    """Return an expression: the session (Date) of a segment's `ordinal`."""
    return (pl.col("ordinal") // SEGMENTS_PER_SESSION).cast(pl.Date)


def merge_known(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """`KNOWN` rows of all parts, sorted; where one overlaps an earlier one of its `rank` its covered slots are cut off."""
    whole = pl.concat(parts)
    ranks = whole["rank"].unique().sort()
    merged = [merge_slot_runs([whole.filter(pl.col("rank") == rank)]) for rank in ranks]
    return pl.concat([whole.clear(), *merged]).sort("series", "ordinal", "first", "rank")


def merge_slot_runs(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Merge slot runs of all parts, sorted; where one overlaps an earlier one its covered slots are cut off."""
    whole = pl.concat(parts).sort("series", "ordinal", "first", "last")
    # Parts that overlap are rare; where they do, the later run begins after what is covered.
    covered = pl.col("last").cum_max().shift(1).over("series", "ordinal")
    begun = pl.max_horizontal(pl.col("first"), covered.fill_null(-1) + 1).cast(pl.Int32)
    return whole.with_columns(begun.alias("first")).filter(pl.col("first") <= pl.col("last"))


def to_bytes(survey: Survey) -> bytes:
    """Return the survey as a zip archive of Arrow IPC frames and a JSON of the axes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, frame in named_frames(survey):
            held = io.BytesIO()
            frame.write_ipc(held, compression="lz4")
            archive.writestr(name, held.getvalue())
        archive.writestr(AXES, json.dumps([one.axis for one in survey.checks]))
    return out.getvalue()


def from_bytes(content: bytes) -> Survey:
    """Return the survey that `to_bytes` wrote; ValueError for anything else or a damaged archive.

    Raises
    ------
    ValueError
        It is none, or not whole.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            frames = {name: pl.read_ipc(archive.read(name)) for name in archive.namelist() if name != AXES}
            axes = [Axis(a[0], tuple(a[1]), *a[2:]) for a in json.loads(archive.read(AXES))]
        checks = tuple(CheckedAxis(axis, frames_of_check(frames, number)) for number, axis in enumerate(axes))
        return Survey(
            checks=checks, **{field.name: frames[field.name] for field in fields(Survey) if field.name != "checks"}
        )
    except (zipfile.BadZipFile, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"no survey: {error}") from error


def named_frames(survey: Survey) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield (name, frame) of each field, then `<axis number>/<frame>` of the measurements."""
    for field in fields(Survey):
        if field.name != "checks":
            yield field.name, getattr(survey, field.name)
    for number, one in enumerate(survey.checks):
        yield from ((f"{number}/{name}", frame) for name, frame in one.measured.items())


def frames_of_check(frames: Mapping[str, pl.DataFrame], number: int) -> dict[str, pl.DataFrame]:
    """Return the frames whose name begins with `<number>/`, under their names without it."""
    prefix = f"{number}/"
    return {name.removeprefix(prefix): frame for name, frame in frames.items() if name.startswith(prefix)}
