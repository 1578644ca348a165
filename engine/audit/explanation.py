"""From a survey to the tables of an audit: gaps with their causes, quality raw and adjusted, outages.

1. Series that share an axis and an interval are peers (`_peers`): what they lack together is one outage.
2. The series of a group are taken a block at a time, so that memory is bounded by a block: its gaps are found and weighed,
   and what they lack is added up (`_Group.sums`).
3. With the outages of the whole group known, each block is judged (`_Group.tables`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from engine.audit.evidence import is_plain, told, told_of_absence, told_of_outages, told_plainly
from engine.audit.survey import Survey
from engine.audit.tables import AT_THE_DOOR, AUDIT_TABLES, COUNTS, GAPS, OUTAGES, QUALITY, SERIES
from engine.calendars import SessionCalendar
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.quality import outages as peers
from engine.quality.causes import Edges, Part, edges, explained, judge, labelled, prepare, witnessed
from engine.quality.gaps import expected, find_gaps
from engine.quality.score import score
from engine.quality.strides import Ints
from engine.quality.traces import Trace, bin_width, line, overlap
from engine.schema import empty

RUNS_PER_BLOCK = 1 << 21
GONE_SESSIONS = 20  # absent for so many in a row, a symbol may not have been listed under this name
LIQUID, MIXED = 0.95, 0.5  # share of slots with a trade
DateRange = tuple[dt.date | None, dt.date | None]
Calendars = Callable[[str], SessionCalendar]


def explain(
    survey: Survey, calendars: Calendars, dates: DateRange = (None, None), as_of: dt.datetime | None = None
) -> dict[str, pl.DataFrame]:
    """Find the gaps of a survey and say why they are there.

    Parameters
    ----------
    survey : Survey
        Of everything: what is missing in all parts.
    calendars : callable
        From a code to a calendar.
    dates : (date or None, date or None)
        First and last trade date, both included; each symbol is judged within its lifetime.
    as_of : datetime, optional
        Slots that end later are not due.

    Returns
    -------
    dict of table to DataFrame
        `series, quality, gaps, outages, sessions, calendars` of `engine.audit.tables`.
    """
    groups = [_Group(survey, one, calendars, dates, as_of) for one in _peers(survey.series)]
    made = [group.tables() for group in groups]
    tables = {
        name: pl.concat([empty(AUDIT_TABLES[name]), *(one[name] for one in made)])
        for name in ("series", "quality", "gaps", "outages", "sessions", "calendars")
    }
    return tables | {
        "calendars": tables["calendars"].unique(maintain_order=True),
        "sessions": tables["sessions"].unique(maintain_order=True),
    }


def _peers(series: pl.DataFrame) -> Iterator[pl.DataFrame]:
    axis = ["calendar", "segments", "align", "zone", "interval"]
    # A list is no key of a group, its text is.
    keyed = series.with_columns(pl.col("segments").list.join("\x1f").alias("segments"))
    for _, rows in keyed.group_by(axis, maintain_order=True):
        yield rows.sort("series")


class _Group:
    """Series of one axis and interval."""

    def __init__(
        self, survey: Survey, series: pl.DataFrame, calendars: Calendars, dates: DateRange, as_of: dt.datetime | None
    ) -> None:
        self._survey = survey
        self._series = series
        self._dates = dates
        self._held: tuple[list[int], _Block] | None = None
        self._as_of = as_of
        first = series.row(0, named=True)
        self._interval = Interval.parse(first["interval"])
        self._calendar = calendars(first["calendar"])
        labels = tuple(label for label in first["segments"].split("\x1f") if label)
        self._spec = GridSpec(first["calendar"], labels, first["align"], first["zone"])

    def tables(self) -> dict[str, pl.DataFrame]:
        if self._lives.is_empty():
            return {
                name: empty(AUDIT_TABLES[name])
                for name in ("series", "quality", "gaps", "outages", "sessions", "calendars")
            }
        blocks = list(self._blocks())
        found, habits = self._shared(blocks)
        judged = [self._judged(block, found, habits) for block in blocks]
        witnesses = pl.concat([one.witnesses for one in judged]).group_by("outage").sum().sort("outage")
        outages = labelled(found, witnesses, self._axis)
        gaps = self._named_gaps(pl.concat([one.gaps for one in judged]), outages)
        quality = self._quality(gaps)
        return {
            "series": self._series_table(quality, pl.concat([one.traded for one in judged])),
            "quality": self._named(quality).select(list(QUALITY)),
            "gaps": self._named(gaps).select(pl.col(name).cast(dtype) for name, dtype in GAPS.items()),
            "outages": self._outage_table(outages),
            "sessions": self._sessions(),
            "calendars": pl.DataFrame([self._calendar_row()], schema=dict(AUDIT_TABLES["calendars"])),
        }

    @cached_property
    def _lives(self) -> pl.DataFrame:
        first = pl.max_horizontal("first", pl.lit(self._dates[0], pl.Date))
        last = pl.min_horizontal("last", pl.lit(self._dates[1], pl.Date))
        lives = self._series.select("series", first.alias("first"), last.alias("last"))
        return lives.filter(pl.col("first") <= pl.col("last"))

    @cached_property
    def _grid(self) -> SessionGrid:
        first, last = self._lives["first"].min(), self._lives["last"].max()
        segments = self._calendar.covering(first, last)  # type: ignore[arg-type]
        return SessionGrid.build(segments, self._interval, self._spec)

    @cached_property
    def _width(self) -> int:
        return bin_width(self._interval)

    @cached_property
    def _groups(self) -> pl.DataFrame:
        return self._series.select("series", pl.lit(0, pl.Int32).alias("group"))

    @cached_property
    def _voters(self) -> pl.DataFrame:
        # Bid and ask of a symbol are not two witnesses.
        rank = pl.col("price_type").replace_strict({"last": 0, "mid": 1, "bid": 2, "ask": 3}, default=4)
        first = pl.int_range(pl.len()).over("symbol", order_by=rank) == 0
        return self._series.select("series", pl.when(first).then(0).otherwise(-1).cast(pl.Int32).alias("group"))

    @cached_property
    def _quoted(self) -> pl.DataFrame:
        """Slots in which series of trades are quoted: by quotes, else by bars of bid or ask of the same symbol."""
        told = self._survey.quotes
        trades = self._series.filter(
            (pl.col("price_type") == "last") & ~pl.col("series").is_in(told["series"].unique().implode())
        )
        sides = self._series.filter(pl.col("price_type").is_in(["bid", "ask", "mid"])).unique(
            "symbol", keep="first", maintain_order=True
        )
        number = trades.select("symbol", pl.col("series").alias("number")).join(
            sides.select("symbol", "series"), on="symbol"
        )
        runs = self._survey.runs.join(number, on="series").select(
            pl.col("number").alias("series"), "ordinal", "first", "last"
        )
        return pl.concat([told, runs]).sort("series", "ordinal", "first")

    @cached_property
    def _listed(self) -> pl.DataFrame:
        # A symbol is listed while any of its series has rows.
        names = self._survey.series.select("series", "symbol")
        span = self._survey.runs.group_by("series").agg(
            pl.col("ordinal").min().alias("first"), pl.col("ordinal").max().alias("last")
        )
        whole = span.join(names, on="series").group_by("symbol").agg(pl.col("first").min(), pl.col("last").max())
        return self._series.select("series", "symbol").join(whole, on="symbol").drop("symbol")

    @cached_property
    def _axis(self) -> pl.DataFrame:
        due = self._grid.due(self._as_of).filter(pl.col("slots") > 0)
        inside = due.filter(pl.col("session").is_between(self._lives["first"].min(), self._lives["last"].max()))
        return inside.select(pl.lit(0, pl.Int32).alias("group"), "ordinal", "slots").sort("ordinal")

    def _blocks(self) -> Iterator[list[int]]:
        ours = self._lives.select("series").join(
            self._survey.runs.group_by("series").len(), on="series", how="left", maintain_order="left"
        )
        cut = (ours["len"].fill_null(0).cum_sum() // RUNS_PER_BLOCK).alias("cut")
        for _, rows in ours.with_columns(cut).group_by("cut", maintain_order=True):
            yield rows["series"].to_list()

    def _block(self, series: list[int]) -> _Block:
        # It is asked for twice: of one block the second time is spared, of several only one is held at a time.
        if self._held is None or self._held[0] != series:
            self._held = (series, self._made(series))
        return self._held[1]

    def _made(self, series: list[int]) -> _Block:
        lives = self._lives.filter(pl.col("series").is_in(series))
        wanted = expected(lives, self._grid, self._as_of)
        trace = Trace(*(_of(frame, series) for frame in (self._survey.runs, self._survey.profile)))
        gaps = find_gaps(wanted, trace.runs, self._grid).drop(
            "cause", "state", "retry_count", "last_retry", "next_retry"
        )
        gaps = _with_evidence(gaps, wanted, _of(self._survey.prints, series), _of(self._quoted, series))
        return _Block(prepare(gaps, wanted, self._width), trace)

    def _shared(self, blocks: list[list[int]]) -> tuple[pl.DataFrame, pl.DataFrame]:
        sums, due, habits = [], [], []
        for series in blocks:
            part = self._block(series).part
            voters = self._voters.filter(pl.col("series").is_in(series))
            group = (
                part.gaps.select("series")
                .join(voters, on="series", how="left", maintain_order="left")["group"]
                .to_numpy()
            )
            sums.append(peers.peer_sums(part.gaps, part.odds.pieces, part.odds.p, group))
            lives = part.wanted.group_by("series").agg(
                pl.col("ordinal").min().alias("first"), pl.col("ordinal").max().alias("last")
            )
            due.append(peers.expectation(part.rates, lives.join(voters, on="series")))
            habits.append(peers.habit_steps(part.gaps, part.wanted, voters.filter(pl.col("group") >= 0)))
        found = peers.find_outages(
            peers.summed(pl.concat(sums), peers.SUMS), peers.summed(pl.concat(due), peers.EXPECTATION), self._width
        )
        return found, peers.recurrent(peers.summed(pl.concat(habits), peers.HABIT_STEPS))

    def _judged(self, series: list[int], found: pl.DataFrame, habits: pl.DataFrame) -> _JudgedBlock:
        part, trace = self._block(series)
        beside: Edges = edges(part.gaps, trace, self._width)
        minutes = self._interval.seconds / 60
        judged = judge(part, beside, self._groups, found, habits, self._listed, minutes)
        whole = part.rates.of_series
        traded = whole.select("series", (1 - pl.col("missing") / pl.col("due").clip(1)).alias("traded"))
        return _JudgedBlock(pl.concat([part.gaps, judged], how="horizontal"), witnessed(judged, beside), traded)

    def _named_gaps(self, gaps: pl.DataFrame, outages: pl.DataFrame) -> pl.DataFrame:
        named = outages.with_columns(self._outage_names(outages).alias("outage_id"))
        known = named.select(
            "outage", "outage_id", pl.col("cause").alias("outage_cause"), pl.col("confidence").alias("outage_confidence"),
            "symbols", "peers",
        )  # fmt: skip
        beside = gaps.join(known, on="outage", how="left", maintain_order="left")
        of_outage = (pl.col("cause").cast(pl.String) == "feed_loss") & pl.col("outage_cause").is_not_null()
        settled = beside.with_columns(
            pl.when(of_outage).then("outage_cause").otherwise("cause").alias("cause"),
            pl.when(of_outage).then("outage_confidence").otherwise("confidence").alias("confidence"),
        )
        chains = settled.hstack(_chained(settled, self._series, self._axis))
        gone = (pl.col("absent") >= GONE_SESSIONS) & pl.col("own_id").is_not_null()
        known = chains.with_columns(
            pl.when(gone).then(pl.lit("unknown")).otherwise(pl.col("cause").cast(pl.String)).alias("cause"),
            pl.when(gone).then(0.5).otherwise("confidence").alias("confidence"),
        )
        return known.with_columns(
            pl.coalesce("outage_id", "own_id").alias("outage_id"),
            pl.when(gone).then(told_of_absence()).otherwise(_evidence(known)).alias("evidence"),
        )

    def _outage_names(self, outages: pl.DataFrame) -> pl.Series:
        if outages.is_empty():
            return pl.Series("outage_id", [], pl.String)
        start = self._grid.starts(outages["ordinal"], outages["first"])
        begun = outages.select("chain", start.alias("start")).select(pl.col("start").first().over("chain"))["start"]
        stamp = begun.dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        return pl.Series("outage_id", f"{self._spec.calendar} {self._interval} " + stamp)

    def _quality(self, gaps: pl.DataFrame) -> pl.DataFrame:
        wanted = expected(self._lives, self._grid, self._as_of)
        counts = _of(self._survey.counts, self._lives["series"].to_list()).filter(self._in_dates())
        raw = score(wanted, gaps, counts)
        fine = explained(gaps)
        rate = 100.0 * (pl.col("present") + pl.col("explained")) / pl.col("expected")
        return (
            raw.join(fine, on=["series", "session"], how="left", maintain_order="left")
            .with_columns(pl.col("explained").fill_null(0))
            .with_columns(pl.when(pl.col("expected") > 0).then(rate).alias("quality_adjusted"))
        )

    def _in_dates(self) -> pl.Expr:
        first, last = self._dates
        return pl.col("session").is_between(first or dt.date.min, last or dt.date.max)

    def _series_table(self, quality: pl.DataFrame, traded: pl.DataFrame) -> pl.DataFrame:
        counted = [*COUNTS, *AT_THE_DOOR]
        sums = quality.group_by("series").agg(
            (pl.col("expected") > 0).sum().cast(pl.Int64).alias("sessions"), pl.col(counted).sum()
        )
        share = {"quality": pl.col("present"), "quality_adjusted": pl.col("present") + pl.col("explained")}
        activity = (
            pl.when(pl.col("traded") >= LIQUID).then(pl.lit("liquid"))
            .when(pl.col("traded") >= MIXED).then(pl.lit("mixed")).otherwise(pl.lit("thin"))
        )  # fmt: skip
        known = self._series.join(
            self._lives.select("series", pl.col("first").alias("first_session"), pl.col("last").alias("last_session")),
            on="series",
        )
        whole = known.join(sums, on="series").join(traded, on="series", how="left").with_columns(
            *(pl.when(pl.col("expected") > 0).then(100.0 * of / pl.col("expected")).alias(name) for name, of in share.items()),
            activity.alias("activity"),
        )  # fmt: skip
        return whole.sort("series").select(pl.col(name).cast(dtype) for name, dtype in SERIES.items())

    def _outage_table(self, outages: pl.DataFrame) -> pl.DataFrame:
        if outages.is_empty():
            return empty(OUTAGES)
        placed = outages.with_columns(
            self._outage_names(outages).alias("outage_id"),
            self._grid.starts(outages["ordinal"], outages["first"]).alias("start"),
            self._grid.ends(outages["ordinal"], outages["end"] - 1).alias("end"),
            self._grid.sessions(outages["ordinal"]).alias("session"),
            pl.lit(self._spec.calendar).alias("calendar"),
            told_of_outages().alias("evidence"),
        )
        worst = pl.col("lost").arg_max()
        whole = placed.group_by("outage_id", maintain_order=True).agg(
            pl.col("calendar").first(), pl.col("cause").get(worst), pl.col("session").min().alias("first_session"),
            pl.col("start").min(), pl.col("end").max(), pl.col("symbols").max(), pl.col("gaps").sum(),
            pl.col("lost").sum().alias("missing"), pl.col("confidence").get(worst), pl.col("evidence").get(worst),
        )  # fmt: skip
        return whole.select(pl.col(name).cast(dtype) for name, dtype in OUTAGES.items())

    def _sessions(self) -> pl.DataFrame:
        chosen = self._grid.table.filter("chosen") if self._interval.is_intraday else self._grid.table
        inside = chosen.filter(pl.col("session").is_between(self._lives["first"].min(), self._lives["last"].max()))
        return inside.select(
            pl.lit(self._spec.calendar).alias("calendar"), "session", "segment",
            pl.col("open").alias("segment_open"), pl.col("close").alias("segment_close"),
        )  # fmt: skip

    def _calendar_row(self) -> dict[str, Any]:
        one = self._calendar
        return {
            "calendar": self._spec.calendar, "provider": one.provider, "version": one.version,
            "time_zone": one.zone, "overrides_hash": one.overrides_hash,
        }  # fmt: skip

    def _named(self, rows: pl.DataFrame) -> pl.DataFrame:
        names = self._series.select("series", "symbol", "price_type", "interval")
        return rows.join(names, on="series", how="left", maintain_order="left")


class _Block(NamedTuple):
    part: Part
    trace: Trace


class _JudgedBlock(NamedTuple):
    gaps: pl.DataFrame
    witnesses: pl.DataFrame
    traded: pl.DataFrame


def _of(rows: pl.DataFrame, series: list[int]) -> pl.DataFrame:
    # Series of a block are neighbours, mostly; rows are sorted by them.
    low = rows["series"].search_sorted(series[0], side="left")
    near = rows.slice(low, rows["series"].search_sorted(series[-1], side="right") - low)
    return near if len(series) == series[-1] - series[0] + 1 else near.filter(pl.col("series").is_in(series))


def _with_evidence(
    gaps: pl.DataFrame, wanted: pl.DataFrame, prints: pl.DataFrame, quotes: pl.DataFrame
) -> pl.DataFrame:
    """Gaps with how many of their slots hold prints and quotes; null for series that have neither anywhere."""
    for name, runs in (("prints", prints), ("quotes", quotes)):
        if runs.is_empty():
            continue
        inside = pl.Series(name, _overlap(runs, gaps))
        known = gaps["series"].is_in(runs["series"].unique().implode())
        gaps = gaps.with_columns(pl.when(known).then(inside).alias(name))
    if quotes.is_empty():
        return gaps
    due = wanted.group_by("series").agg(pl.col("slots").sum().alias("due"))
    held = quotes.group_by("series").agg((pl.col("last") - pl.col("first") + 1).sum().alias("held"))
    share = due.join(held, on="series").select("series", (pl.col("held") / pl.col("due")).clip(0, 0.999).alias("share"))
    beside = gaps.join(share, on="series", how="left", maintain_order="left")
    return beside.with_columns((-pl.col("bar_count") * (1 - pl.col("share")).log()).alias("usual_quotes")).drop("share")


def _overlap(runs: pl.DataFrame, gaps: pl.DataFrame) -> Ints:
    start = line(*(runs[name].to_numpy() for name in ("series", "ordinal", "first")))
    end = line(*(runs[name].to_numpy() for name in ("series", "ordinal", "last"))) + 1
    begin = line(*(gaps[name].to_numpy() for name in ("series", "ordinal", "slot")))
    return overlap(start, end, begin, begin + gaps["bar_count"].to_numpy())


def _chained(gaps: pl.DataFrame, series: pl.DataFrame, axis: pl.DataFrame) -> pl.DataFrame:
    """Which gaps of a series follow one another without a slot between them: a name for each such run, and its sessions.

    Returns
    -------
    DataFrame of `own_id` (String, null where nothing was lost), `absent` (whole sessions of the run)
    """
    begun = _chains(gaps, axis)
    run = np.repeat(np.arange(len(begun)), np.diff(np.append(begun, gaps.height)))
    placed = gaps.select("series", "session", "position", "cause").with_columns(
        pl.Series("run", run), gaps["gap_start"].gather(begun[run]).alias("begun")
    )
    absent = placed.filter(pl.col("position") == "session").group_by("run").agg(
        pl.col("session").n_unique().alias("absent")
    )  # fmt: skip
    its_own = pl.col("cause").cast(pl.String).is_in(["symbol_loss", "halt", "unknown"]).fill_null(value=False)
    lost = placed.with_row_index("row").filter(its_own)
    names = series.select("series", "symbol", "price_type")
    named = lost.join(names, on="series", how="left", maintain_order="left").join(absent, on="run", how="left", maintain_order="left")  # fmt: skip
    stamp = pl.col("begun").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    told = named.select("row", pl.format("{} {} {}", "symbol", "price_type", stamp).alias("own_id"), "absent")
    return _scattered(told, gaps.height).with_columns(pl.col("absent").fill_null(0))


def _chains(gaps: pl.DataFrame, axis: pl.DataFrame) -> Ints:
    """Gaps that do not go on where the one before ends."""
    ordinal, slot, end, number = (gaps[name].to_numpy() for name in ("ordinal", "slot", "bar_count", "series"))
    at = np.searchsorted(axis["ordinal"].to_numpy(), ordinal)
    closes = slot + end >= axis["slots"].to_numpy()[np.minimum(at, axis.height - 1)]
    follows = (number[1:] == number[:-1]) & (at[1:] == at[:-1] + 1) & (slot[1:] == 0) & closes[:-1]
    return np.flatnonzero(np.append([True], ~follows)[: gaps.height])


def _evidence(gaps: pl.DataFrame) -> pl.Series:
    """What each cause rests on; most gaps are plain, and take a word."""
    plain = gaps.select(is_plain()).to_series()
    rows = gaps.with_row_index("row")
    parts = [(rows.filter(plain), told_plainly()), (rows.filter(~plain), told(gaps))]
    whole = pl.concat([part.select("row", said.alias("evidence")) for part, said in parts])
    return _scattered(whole, gaps.height)["evidence"]


def _scattered(rows: pl.DataFrame, height: int) -> pl.DataFrame:
    """Rows at the places that their `row` says, null between."""
    at = np.full(height, rows.height, np.int64)
    at[rows["row"].to_numpy()] = np.arange(rows.height)
    return pl.concat([rows.drop("row"), rows.drop("row").clear(1)])[at]
