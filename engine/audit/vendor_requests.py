"""Requests for lost slots: the cheapest list of (symbol, start, end) that covers them all. Pure: tables in, tables out.

What a list costs, in rows: `request_cost` for each request, and one for each row that comes although its slot is not
lost. The rule that follows from it: two holes are asked for together if no more rows lie between them than one more request
costs. A request is never longer than its limit; a hole that is longer is cut, and where holes and a limit meet, the cuts
are those of the lowest sum (`cheapest_cuts`). Of lists that cost the same the one of fewest requests is taken.

Rows between holes are counted in hours of sessions: a night between them costs nothing.
"""

from __future__ import annotations

import datetime as dt
import heapq
from collections.abc import Sequence

import numpy as np
import polars as pl

from engine.errors import ParameterError
from engine.interval import Interval
from engine.keys import Ints, expand_ranges
from engine.quality.causes.cause_table import CAUSES, LOSSES
from engine.schema import TS, Schema

REQUESTED = (*LOSSES, "refused", "off_grid")
REQUEST_COST = 1000
TIE = 1 << 20  # of equal sums the one of fewer requests is lower
FAR = np.iinfo(np.int64).max

REQUESTS: Schema = {
    "symbol": pl.String(),
    "interval": pl.String(),
    "start": TS,
    "end": TS,
    "slots": pl.Int64(),
    "lost": pl.Int64(),
    "causes": pl.String(),
}


def plan_requests(
    gaps: pl.DataFrame,
    segments: pl.DataFrame,
    *,
    causes: Sequence[str] = REQUESTED,
    request_cost: int = REQUEST_COST,
    max_span: dt.timedelta | None = None,
    max_rows: int | None = None,
) -> pl.DataFrame:
    """Cheapest list of requests (`REQUESTS`, by symbol and start) that covers every slot of these causes' gaps.

    Parameters
    ----------
    gaps : DataFrame
        `symbol, interval, gap_start, gap_end, cause`, as an audit has them. Gaps of several price types are asked for once.
    segments : DataFrame
        `symbol, segment_open, segment_close`: the sessions of each symbol, for the rows between holes.
    causes : sequence of str
        Which gaps are asked for; default what was lost, refused, or off the grid.
    request_cost : int
        How many rows one request is worth; 0: only holes without a row between them are joined.
    max_span : timedelta, optional
        Longest time from `start` to `end` of a request.
    max_rows : int, optional
        Most bars that a request may bring, if each step of its time has one.

    Returns
    -------
    DataFrame
        `REQUESTS`: `end` is exclusive, `slots` are those that the request covers in sessions, `lost` those of gaps.

    Raises
    ------
    ParameterError
        A cause is unknown, a cost negative, or a limit shorter than a bar.
    """
    unknown = [cause for cause in causes if cause not in CAUSES]
    if unknown:
        raise ParameterError(f"causes: received {unknown[0]!r}; valid: {', '.join(CAUSES)}")
    if request_cost < 0:
        raise ParameterError(f"request_cost: received {request_cost}; valid: a number of rows, 0 or more")
    wanted = gaps.filter(pl.col("cause").is_in(list(causes))).select(
        "symbol", "interval", "gap_start", "gap_end", "cause"
    )
    parts = [pl.DataFrame(schema=dict(REQUESTS))]
    for (symbol, interval), holes in wanted.sort("symbol", "interval", "gap_start").group_by(
        "symbol", "interval", maintain_order=True
    ):
        step = Interval.parse(str(interval)).seconds * 1_000_000
        limit = limit_of(step, max_span, max_rows)
        open_time = segments.filter(pl.col("symbol") == symbol).select("segment_open", "segment_close").unique()
        runs = without_overlaps(holes)
        starts, ends = (runs[name].to_physical().to_numpy() for name in ("gap_start", "gap_end"))
        rows_at_start, rows_at_end = (slots_before(open_time, instants, step) for instants in (starts, ends))
        first, last = cover_runs(starts, ends, (rows_at_start, rows_at_end), step, request_cost, limit)
        slots = slots_before(open_time, last, step) - slots_before(open_time, first, step)
        planned = pl.DataFrame({"start": first, "end": last, "slots": slots}).cast({"start": TS, "end": TS})
        named = planned.with_columns(pl.lit(symbol).alias("symbol"), pl.lit(interval).alias("interval"))
        parts.append(with_lost_slots(named, runs, open_time, step).select(list(REQUESTS)).cast(dict(REQUESTS)))  # type: ignore[arg-type]
    return pl.concat(parts)


def limit_of(step: int, max_span: dt.timedelta | None, max_rows: int | None) -> int:
    """Longest request in microseconds by both limits, a whole number of steps; ParameterError if shorter than one."""
    spans = [max_span // dt.timedelta(microseconds=1)] if max_span is not None else []
    spans += [max_rows * step] if max_rows is not None else []
    limit = min(spans, default=FAR // 4)
    if limit < step:
        raise ParameterError(
            f"max_span, max_rows: received {max_span} and {max_rows}; valid: room for one bar of "
            f"{dt.timedelta(microseconds=step)}"
        )
    return limit // step * step


def without_overlaps(holes: pl.DataFrame) -> pl.DataFrame:
    """Holes of a symbol joined where they overlap or touch, with their `causes` by comma; sorted by `gap_start`."""
    ends = holes["gap_end"].to_physical().cum_max().shift(1)
    begins = (holes["gap_start"].to_physical() > ends).fill_null(value=True)
    return (
        holes.with_columns(begins.cum_sum().alias("run"))
        .group_by("run", maintain_order=True)
        .agg(pl.col("gap_start").min(), pl.col("gap_end").max(), pl.col("cause").unique().sort().str.join(","))
        .drop("run")
    )


def slots_before(open_time: pl.DataFrame, instants: Ints, step: int) -> Ints:
    """Number of slots that begin before each instant (us), in these sessions; without sessions, steps since 1970."""
    ordered = open_time.sort("segment_open")
    opens, closes = (ordered[name].to_physical().to_numpy() for name in ("segment_open", "segment_close"))
    if not len(opens):
        return instants // step
    counts = np.concatenate([[0], np.cumsum(-((opens - closes) // step))])
    at = np.searchsorted(opens, instants, side="right") - 1
    inside = np.minimum(instants, closes[np.maximum(at, 0)]) - opens[np.maximum(at, 0)]
    return np.where(at < 0, 0, counts[np.maximum(at, 0)] - (-inside // step))


def cover_runs(
    starts: Ints, ends: Ints, rows: tuple[Ints, Ints], step: int, request_cost: int, limit: int
) -> tuple[Ints, Ints]:
    """(starts, ends) of the cheapest requests over sorted, disjoint runs: joined where few rows lie between them.

    Parameters
    ----------
    starts, ends : array of int64
        Of the runs, in microseconds.
    rows : (array, array)
        Slots before each start and each end.
    step, limit : int
        Of a slot, and of the longest request, in microseconds.
    request_cost : int
    """
    rows_at_start, rows_at_end = rows
    # A stretch of rows that is dearer than a request is never asked for.
    apart = np.append(True, rows_at_start[1:] - rows_at_end[:-1] > request_cost) if len(starts) else np.zeros(0, bool)
    heads = np.flatnonzero(apart)
    tails = np.append(heads[1:], len(starts))
    fits = ends[tails - 1] - starts[heads] <= limit if len(starts) else np.zeros(0, bool)
    first, last = [starts[heads[fits]]], [ends[tails[fits] - 1]]
    for head, tail in zip(heads[~fits], tails[~fits], strict=True):
        group = slice(int(head), int(tail))
        cut = cheapest_cuts(starts[group], ends[group], rows_at_start[group], step, request_cost, limit)
        first.append(cut[0])
        last.append(cut[1])
    begin, end = np.concatenate(first), np.concatenate(last)
    order = np.argsort(begin, kind="stable")
    return begin[order], end[order]


def cheapest_cuts(
    starts: Ints, ends: Ints, rows_at_start: Ints, step: int, request_cost: int, limit: int
) -> tuple[Ints, Ints]:
    """(starts, ends) of the cheapest requests, none longer than the limit, over runs that do not fit into one.

    A request begins where a run does, or where the one before was cut; it ends where a run does, or as late within a
    run as the limit lets it: of two cuts of a run the later one leaves less to ask for. The lowest sum up to each such
    place is carried forward.
    """
    count = len(starts)
    sizes = -((starts - ends) // step)  # slots of each run
    price = request_cost * TIE + 1
    lowest: dict[tuple[int, int], int] = {(0, 0): 0}  # of each place (run, slots into it): the sum of what lies before
    came_from: dict[tuple[int, int], tuple[int, int]] = {}
    places = [(0, 0)]
    while places:
        run, offset = place = heapq.heappop(places)
        if run == count:
            break
        begin, row = int(starts[run]) + offset * step, int(rows_at_start[run]) + offset
        whole = int(np.searchsorted(ends, begin + limit, side="right"))  # the first run that does not end in time
        reached = [(at + 1, 0) for at in range(run, whole)]
        sums = (lowest[place] + price + (rows_at_start[run:whole] + sizes[run:whole] - row) * TIE).tolist()
        slots = (begin + limit - int(starts[whole])) // step if whole < count else 0
        if slots > (offset if whole == run else 0):
            reached.append((whole, slots))
            sums.append(lowest[place] + price + (int(rows_at_start[whole]) + slots - row) * TIE)
        for after, total in zip(reached, sums, strict=True):
            if after not in lowest:
                heapq.heappush(places, after)
            if total < lowest.get(after, FAR):
                lowest[after], came_from[after] = total, place
    place, first, last = (count, 0), [], []
    while place != (0, 0):
        run, offset = place
        last.append(int(starts[run]) + offset * step if offset else int(ends[run - 1]))
        place = came_from[place]
        first.append(int(starts[place[0]]) + place[1] * step)
    return np.array(first[::-1], np.int64), np.array(last[::-1], np.int64)


def with_lost_slots(planned: pl.DataFrame, runs: pl.DataFrame, open_time: pl.DataFrame, step: int) -> pl.DataFrame:
    """Requests with `lost`, the slots of runs that each covers, and `causes` of these, by comma."""
    first, last = (planned[name].to_physical().to_numpy() for name in ("start", "end"))
    starts, ends = (runs[name].to_physical().to_numpy() for name in ("gap_start", "gap_end"))
    # Requests and runs are in order: the runs of each are neighbours.
    low, high = np.searchsorted(ends, first, side="right"), np.searchsorted(starts, last, side="left")
    pairs = np.repeat(np.arange(len(first)), high - low)
    held = expand_ranges(low, high - low)
    begin, end = np.maximum(starts[held], first[pairs]), np.minimum(ends[held], last[pairs])
    parts = pl.DataFrame({
        "at": pairs,
        "lost": slots_before(open_time, end, step) - slots_before(open_time, begin, step),
        "causes": runs["cause"].gather(held),
    })  # fmt: skip
    named = parts.group_by("at").agg(
        pl.col("lost").sum(), pl.col("causes").str.split(",").explode().unique().sort().str.join(",")
    )
    return planned.with_row_index("at").join(named.cast({"at": pl.UInt32}), on="at", how="left", maintain_order="left")
