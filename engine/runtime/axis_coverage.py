"""Slots of a range that series on one axis have and lack, counted from the small tables of an export.

1. `ExpectedSessions.of` counts the slots that each session of the range should have. Sessions that are over and in the
   table `quality` are counted there; a calendar is asked only for others, and for sessions that an instant cuts.
2. `AxisCoverage.coverage` sums what the series have of these; `AxisCoverage.holes` lists what they lack. Bars are never
   read.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from engine.arguments import date_of, instant_of
from engine.audit.audit_files import table_files
from engine.errors import ExportError, ParameterError
from engine.export.dataset import Dataset
from engine.grid import GridSpec, SessionGrid, whole_years
from engine.interval import Interval
from engine.quality.causes.cause_table import EXPLAINING
from engine.quality.causes.priors import SURE
from engine.quality.score import adjusted_quality
from engine.schema import IS_MISSING, TS, Schema, empty

KEY = ["symbol", "price_type", "interval"]
LABEL_SEPARATOR = "\x1f"
COVERAGE: Schema = {
    **dict.fromkeys((*KEY, "calendar"), pl.String()),
    **dict.fromkeys(("expected", "present", "missing", "explained", "excluded", "filled"), pl.Int64()),
    "coverage": pl.Float64(),
}
HOLES: Schema = {
    **dict.fromkeys(KEY, pl.String()),
    "first_session": pl.Date(),
    "last_session": pl.Date(),
    "hole_start": TS,
    "hole_end": TS,
    "slots": pl.Int64(),
    "cause": pl.String(),
}
# A slot of the expected sessions, or (`start` to `end`) all slots of a session.
SESSION_SLOTS: Schema = {"session": pl.Date(), "slots": pl.Int64()}
SLOT: Schema = {"session": pl.Date(), "ts": TS, "ts_end": TS}
JUDGED: Schema = {
    **dict.fromkeys(KEY, pl.String()),
    "session": pl.Date(),
    "expected": pl.Int64(),
    "missing": pl.Int64(),
}
SPANS: Schema = {
    **dict.fromkeys(KEY, pl.String()),
    "session": pl.Date(),
    "hole_start": TS,
    "hole_end": TS,
    "slots": pl.Int64(),
    "cause": pl.String(),
    "share": pl.String(),
}
NOT_EXPORTED, MISSING, FILLED = "not_exported", "missing", "filled"
NOT_COVERED, NOT_LISTED = "not_covered", "not_listed"
A_YEAR, A_DAY = dt.timedelta(days=366), dt.timedelta(days=1)

Bound = dt.date | dt.datetime | str | None


class DateOrInstant(NamedTuple):
    """A bound of the range: a trade date, an instant, or (both None) that of the export."""

    date: dt.date | None
    instant: dt.datetime | None

    @classmethod
    def of(cls, parameter: str, value: Bound) -> DateOrInstant:
        """Bound of a trade date (`date`, `2024-11-18`) or an instant with a zone; ParameterError for anything else."""
        is_instant = isinstance(value, dt.datetime) or (
            isinstance(value, str) and len(value.strip()) > len("2024-11-18")
        )
        if is_instant:
            return cls(None, instant_of(parameter, value))  # type: ignore[arg-type]
        return cls(date_of(parameter, value), None)


@dataclass(frozen=True)
class CoverageRange:
    """The range that is asked for: trade dates (both included), or instants (slots that begin in [start, end))."""

    start: DateOrInstant
    end: DateOrInstant

    @classmethod
    def of(cls, start: Bound, end: Bound) -> CoverageRange:
        """Range of two bounds; ParameterError if it ends before it begins."""
        made = cls(DateOrInstant.of("start", start), DateOrInstant.of("end", end))
        first, last = made.dates
        if (first is not None and last is not None and first > last) or (
            made.start.instant and made.end.instant and made.start.instant >= made.end.instant
        ):
            raise ParameterError(f"end: received {end}, start {start}; valid: an end after the start")
        return made

    @property
    def dates(self) -> tuple[dt.date | None, dt.date | None]:
        """First and last trade date that can have slots of the range; None: that of the export."""
        first, last = self.start.date, self.end.date
        if self.start.instant is not None:
            first = self.start.instant.astimezone(dt.UTC).date() - A_DAY
        if self.end.instant is not None:
            last = self.end.instant.astimezone(dt.UTC).date() + 4 * A_DAY  # the evening of a Friday is Monday's session
        return first, last

    def begins_inside(self) -> pl.Expr:
        """Whether a slot of `ts` begins in the range, as far as instants tell."""
        inside = pl.lit(value=True)
        if self.start.instant is not None:
            inside = inside & (pl.col("ts") >= self.start.instant)
        if self.end.instant is not None:
            inside = inside & (pl.col("ts") < self.end.instant)
        return inside

    def overlaps(self, opens: str, closes: str) -> pl.Expr:
        """Whether a session from `opens` to `closes` has a part in the range, as far as instants tell."""
        inside = pl.lit(value=True)
        if self.start.instant is not None:
            inside = inside & (pl.col(closes) > self.start.instant)
        if self.end.instant is not None:
            inside = inside & (pl.col(opens) < self.end.instant)
        return inside

    def cuts(self, opens: str, closes: str) -> pl.Expr:
        """Whether an instant lies inside a session from `opens` to `closes`."""
        cut = pl.lit(value=False)
        for one in (self.start.instant, self.end.instant):
            if one is not None:
                cut = cut | ((pl.col(opens) < one) & (pl.col(closes) > one))
        return cut


@dataclass(frozen=True)
class ExpectedSessions:
    """Slots of the range on one axis; a session is in one of the three.

    `settled` (`session, slots`) are over and judged by the export. `whole` (`session, slots`) no series of those asked for
    has, or they are longer than a day. `cut` (`SLOT`) has each slot of the sessions that an instant cuts, or that were not
    over at the export or are not now.
    """

    settled: pl.DataFrame
    whole: pl.DataFrame
    cut: pl.DataFrame

    @property
    def slots(self) -> int:
        """Number of all slots."""
        return int(self.settled["slots"].sum()) + int(self.whole["slots"].sum()) + self.cut.height

    @cached_property
    def sessions(self) -> pl.DataFrame:
        """`SESSION_SLOTS` of all three, sorted, with `rank`, the number of the session among them."""
        of_cut = self.cut.group_by("session").agg(pl.len().cast(pl.Int64).alias("slots"))
        parts = [
            one.select(pl.col(name).cast(dtype) for name, dtype in SESSION_SLOTS.items())
            for one in (self.settled, self.whole, of_cut)
        ]
        return pl.concat(parts).sort("session").with_row_index("rank")


class AuditCauses:
    """Causes of gaps, and explained and filled slots, of an audit's folder.

    Parameters
    ----------
    folder : Path
        That `engine audit --output` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._files = folder, table_files(folder)

    def rows(self, table: str, series: pl.DataFrame, dates: tuple[dt.date, dt.date]) -> pl.DataFrame:
        """Rows of the table `quality` or `gaps` of some series and trade dates."""
        scan = pl.scan_parquet(self._files[table], hive_partitioning=False, glob=False)
        inside = scan.filter(
            pl.col("session").is_between(*dates), pl.col("interval").is_in(series["interval"].unique().implode())
        )
        try:
            return inside.join(series.lazy().select(KEY), on=KEY, how="semi").collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ExportError(
                f"{self._files[table]}: a table of an audit that cannot be read: {error}; audit again"
            ) from error


class AxisCoverage:
    """Coverage of the series of one calendar, axis and interval.

    Parameters
    ----------
    dataset : Dataset
    rows : DataFrame
        Of `wanted_series`.
    span : CoverageRange
    now : datetime
        Slots that end later are not expected.
    causes : AuditCauses, optional
    """

    def __init__(
        self, dataset: Dataset, rows: pl.DataFrame, span: CoverageRange, now: dt.datetime, causes: AuditCauses | None
    ) -> None:
        self._dataset, self._rows, self._span, self._now, self._causes = dataset, rows, span, now, causes
        self._axis = rows.row(0, named=True)
        self._interval = Interval.parse(self._axis["interval"])
        self._as_of: dt.datetime | None = dataset.exports.row(-1, named=True)["as_of"]

    def coverage(self, of: str) -> pl.DataFrame:
        """`COVERAGE` of the series: raw, or adjusted by the audit."""
        expected = pl.lit(self.expected.slots, pl.Int64).alias("expected")
        has = self._present_in_settled.join(self._present_in_cut, on=KEY, how="full", coalesce=True)
        counted = self._rows.select(*KEY, "calendar").join(has, on=KEY, how="left")
        present = pl.sum_horizontal(pl.col("settled", "in_cut").fill_null(0)).cast(pl.Int64).alias("present")
        counted = counted.select(*KEY, "calendar", expected, present).with_columns(
            (pl.col("expected") - pl.col("present")).alias("missing")
        )
        known = self._known_to_audit
        whole = counted.join(known, on=KEY, how="left").with_columns(
            pl.col("explained", "excluded", "filled").fill_null(0)
        )
        share = 100.0 * pl.col("present") / pl.col("expected")
        if of == "quality_adjusted":
            # Nothing left of what the calendar expects: not one slot of it can be had.
            share = adjusted_quality().fill_null(0.0)
        coverage = pl.when(pl.col("expected") > 0).then(share).alias("coverage")
        return whole.with_columns(coverage).select(pl.col(name).cast(dtype) for name, dtype in COVERAGE.items())

    def holes(self, failing: pl.DataFrame, of: str) -> pl.DataFrame:
        """`HOLES` of those of the series that are among `failing`, as far as they count for `of`."""
        series = self._rows.join(failing, on=KEY, how="semi", maintain_order="left").select(KEY)
        if series.is_empty():
            return empty(HOLES)
        spans = [self._gaps(series, self.expected.sessions), self._after_export(series), self._filled(series)]
        found = pl.concat([empty(SPANS), *spans])
        if of == "quality_adjusted":
            found = found.filter(pl.col("share") == MISSING)
        else:
            found = found.filter(pl.col("cause") != FILLED)
        session = pl.col("session")
        single = found.with_columns(session.alias("first_session"), session.alias("last_session")).select(list(HOLES))
        absent = self._uncovered.join(series, on=KEY, how="semi", maintain_order="left")
        if of == "quality_adjusted":
            # A series all of which is not listed has no other hole.
            alone = failing.filter(pl.col("excluded") == pl.col("expected"))
            counts = pl.col("cause") != NOT_LISTED
            absent = pl.concat([absent.filter(counts), absent.filter(~counts).join(alone, on=KEY, how="semi")])
        return pl.concat([single, self._runs_of_sessions(absent)])

    @cached_property
    def expected(self) -> ExpectedSessions:
        """What is to be expected in the range, by session."""
        span, known = self._span, self._exported_sessions
        is_day = self._interval.is_intraday or (self._interval.count == 1 and self._interval.unit == "d")
        if is_day:
            inside = known.filter(span.overlaps("opens", "closes"), pl.col("session").is_between(*self._dates))
        else:
            spans = self._session_spans.rename({"start": "opens", "end": "closes"})
            inside = spans.filter(span.overlaps("opens", "closes")).drop("slots", "all")
        counted = self._judged.group_by("session").agg(pl.col("expected").max().alias("slots"))
        over = min(self._now, self._as_of or self._now)
        settled = inside.filter(~span.cuts("opens", "closes"), pl.col("closes") <= over).join(counted, on="session")
        settled = settled.sort("session").select(pl.col(name).cast(dtype) for name, dtype in SESSION_SLOTS.items())
        if is_day and self._is_within_export and settled.height == inside.height:
            return ExpectedSessions(settled, empty(SESSION_SLOTS), empty(SLOT))
        spans = self._session_spans.filter(span.overlaps("start", "end"))
        rest = spans.join(settled, on="session", how="anti")
        judged = pl.col("session").is_in(counted["session"].implode())
        is_cut = span.cuts("start", "end") | (pl.col("slots") < pl.col("all")) | judged
        cut, whole = rest.filter(is_cut), rest.filter(~is_cut)
        return ExpectedSessions(
            settled,
            whole.select(pl.col(name).cast(dtype) for name, dtype in SESSION_SLOTS.items()),
            self._slots_of(cut),
        )

    @cached_property
    def _dates(self) -> tuple[dt.date, dt.date]:
        """First and last trade date of the range; those of the export where it is open."""
        known = self._exported_sessions["session"]
        first, last = self._span.dates
        return first or known.min(), last or known.max()  # type: ignore[return-value]

    @cached_property
    def _exported_sessions(self) -> pl.DataFrame:
        """`session, opens, closes` of the calendar's sessions in the export, sorted: it has each from first to last."""
        ours = self._dataset.scan("sessions").filter(pl.col("calendar") == self._axis["calendar"])
        opens, closes = pl.col("segment_open").min().alias("opens"), pl.col("segment_close").max().alias("closes")
        return ours.group_by("session").agg(opens, closes).sort("session").collect()

    @cached_property
    def _is_within_export(self) -> bool:
        """Whether the export's sessions tell all sessions of the range."""
        known, span = self._exported_sessions, self._span
        if known.is_empty():
            return False
        begun = known["session"][0] <= span.start.date if span.start.date else True
        ended = known["session"][-1] >= span.end.date if span.end.date else True
        if span.start.instant:
            begun = known["opens"][0] <= span.start.instant
        if span.end.instant:
            ended = known["closes"][-1] >= span.end.instant
        return begun and ended

    @cached_property
    def _judged(self) -> pl.DataFrame:
        """`JUDGED` of the series in the range: sessions of the export in which something was expected."""
        first, last = self._dates
        # The session of a year or month is its last one.
        late = last if self._interval.is_intraday else last + A_YEAR
        scan = self._dataset.scan("quality").filter(
            pl.col("session").is_between(first, late),
            pl.col("interval") == self._axis["interval"],
            pl.col("expected") > 0,
        )
        if self._rows.height < self._dataset.rows("symbols"):
            scan = scan.filter(pl.col("symbol").is_in(self._rows["symbol"].unique().implode()))
        found = scan.select(list(JUDGED)).collect()
        return found.join(self._rows.select(KEY), on=KEY, how="semi")

    @cached_property
    def _grid(self) -> SessionGrid:
        from engine.calendars.providers import calendar  # noqa: PLC0415 - a check within the export needs none

        first, last = self._dates
        dates = (first, last) if self._interval.is_intraday else whole_years(first, last)
        labels = tuple(label for label in self._axis["segments"].split(LABEL_SEPARATOR) if label)
        spec = GridSpec(self._axis["calendar"], labels, self._axis["align"], self._axis["zone"])
        return SessionGrid.build(calendar(self._axis["calendar"]).segments_in_bounds(*dates), self._interval, spec)

    @cached_property
    def _session_spans(self) -> pl.DataFrame:
        """`session, slots` (due now), `all`, `start, end` of every session of the range, from the calendar."""
        first, last = self._dates
        whole = self._grid.due(None).filter(
            pl.col("slots") > 0, pl.col("session") >= first, pl.col("first_session") <= last
        )
        due = self._grid.due(self._now).select("ordinal", pl.col("slots").alias("due"))
        placed = whole.join(due, on="ordinal").with_columns(
            self._grid.starts(whole["ordinal"], pl.repeat(0, whole.height, dtype=pl.Int32, eager=True)).alias("start"),
            self._grid.ends(whole["ordinal"], whole["slots"] - 1).alias("end"),
        )
        sums = (pl.col("due").sum().alias("slots"), pl.col("slots").sum().alias("all"))
        spans = placed.group_by("session", maintain_order=True).agg(*sums, pl.col("start").min(), pl.col("end").max())
        return spans.filter(pl.col("slots") > 0)

    def _slots_of(self, sessions: pl.DataFrame) -> pl.DataFrame:
        """`SLOT` of some sessions: those due now that begin in the range."""
        if sessions.is_empty():
            return empty(SLOT)
        dates: Any = (sessions["session"].min(), sessions["session"].max())
        table = self._grid.slot_table(self._now, dates).join(sessions, on="session", how="semi", maintain_order="left")
        return table.filter(self._span.begins_inside()).select(list(SLOT))

    @cached_property
    def _present_in_settled(self) -> pl.DataFrame:
        """`settled` per series: present slots of the settled sessions."""
        judged = self._judged.join(self.expected.settled, on="session", how="semi")
        return judged.group_by(KEY).agg((pl.col("expected") - pl.col("missing")).sum().alias("settled"))

    @cached_property
    def _present_in_cut(self) -> pl.DataFrame:
        """`in_cut` per series: present slots of sessions that are cut."""
        judged = self._cut_sessions.select(*KEY, "judged")
        lacking = self._gaps(self._rows.select(KEY), self.expected.cut.select("session").unique(), with_causes=False)
        lost = lacking.group_by(KEY).agg(pl.col("slots").sum().alias("lost"))
        summed = judged.group_by(KEY).agg(pl.col("judged").sum()).join(lost, on=KEY, how="left")
        return summed.select(*KEY, (pl.col("judged") - pl.col("lost").fill_null(0)).alias("in_cut"))

    @cached_property
    def _cut_sessions(self) -> pl.DataFrame:
        """Per series and cut session that the export judged: `judged` slots, `later` ones after its time, their `start, end`."""
        is_judged = pl.lit(value=True) if self._as_of is None else pl.col("ts_end") <= self._as_of
        later = ~is_judged
        sums = self.expected.cut.group_by("session").agg(
            is_judged.sum().cast(pl.Int64).alias("judged")
            if self._as_of is not None
            else pl.len().cast(pl.Int64).alias("judged"),
            pl.col("ts").filter(later).min().alias("start"),
            pl.col("ts_end").filter(later).max().alias("end"),
            pl.len().cast(pl.Int64).alias("later"),
        )
        sums = sums.with_columns(pl.col("later") - pl.col("judged"))
        return self._judged.select(*KEY, "session").join(sums, on="session")

    def _gaps(self, series: pl.DataFrame, sessions: pl.DataFrame, *, with_causes: bool = True) -> pl.DataFrame:
        """`SPANS` of gaps of some series and sessions, those of cut sessions with the slots of the range alone."""
        if series.is_empty() or sessions.is_empty():
            return empty(SPANS)
        dates: Any = (sessions["session"].min(), sessions["session"].max())
        if self._causes is not None and with_causes:
            gaps = self._causes.rows("gaps", series, dates)
            is_explained = pl.col("cause").is_in(EXPLAINING) & (pl.col("confidence") >= SURE)
            is_excluded = pl.col("cause") == NOT_LISTED
            gaps = gaps.with_columns(
                pl.when(is_explained)
                .then(pl.lit("explained"))
                .when(is_excluded)
                .then(pl.lit("excluded"))
                .otherwise(pl.lit(MISSING))
                .alias("share")
            )
        else:
            scan = self._dataset.scan("gaps").filter(
                IS_MISSING,
                pl.col("session").is_between(*dates),
                pl.col("interval") == self._axis["interval"],
                pl.col("symbol").is_in(series["symbol"].unique().implode()),
            )
            gaps = (
                scan.select(*KEY, "session", "gap_start", "gap_end", "bar_count")
                .collect()
                .with_columns(pl.lit(MISSING).alias("cause"), pl.lit(MISSING).alias("share"))
            )
        inside = gaps.join(series, on=KEY, how="semi").join(sessions.select("session"), on="session", how="semi")
        spans = inside.rename({"gap_start": "hole_start", "gap_end": "hole_end", "bar_count": "slots"}).select(
            list(SPANS)
        )
        cut = self.expected.cut
        if cut.is_empty():
            return spans
        is_cut = pl.col("session").is_in(cut["session"].unique().implode())
        clipped = spans.filter(is_cut)
        low, high = (
            cut["ts"].search_sorted(clipped[name], side="left").cast(pl.Int64) for name in ("hole_start", "hole_end")
        )
        clipped = clipped.with_columns((high - low).alias("slots")).with_columns(
            cut["ts"].gather(low.clip(upper_bound=cut.height - 1)).alias("hole_start"),
            cut["ts_end"].gather((high - 1).clip(0)).alias("hole_end"),
        )
        return pl.concat([spans.filter(~is_cut), clipped.filter(pl.col("slots") > 0)])

    def _after_export(self, series: pl.DataFrame) -> pl.DataFrame:
        """`SPANS` of slots that are due now and were not at the export, in sessions that it judged."""
        late = self._cut_sessions.filter(pl.col("later") > 0).join(series, on=KEY, how="semi")
        named = late.rename({"start": "hole_start", "end": "hole_end", "later": "slots"})
        return named.with_columns(pl.lit(NOT_COVERED).alias("cause"), pl.lit(MISSING).alias("share")).select(
            list(SPANS)
        )

    def _filled(self, series: pl.DataFrame) -> pl.DataFrame:
        """`SPANS` of sessions with filled slots, from their open to their close; none without an audit."""
        if self._causes is None:
            return empty(SPANS)
        made = self._causes.rows("quality", series, self._dates).filter(pl.col("filled") > 0)
        placed = made.join(self.expected.sessions, on="session", how="semi").join(self._exported_sessions, on="session")
        named = placed.select(
            *KEY,
            "session",
            pl.col("opens").alias("hole_start"),
            pl.col("closes").alias("hole_end"),
            pl.col("filled").alias("slots"),
        )
        return named.with_columns(pl.lit(FILLED).alias("cause"), pl.lit(MISSING).alias("share"))

    @cached_property
    def _uncovered(self) -> pl.DataFrame:
        """Series and `SESSION_SLOTS` of the sessions that the export does not have of them, with `rank` and `cause`."""
        sessions, judged = self.expected.sessions, self._judged.select(*KEY, "session")
        schema = {**dict.fromkeys(KEY, pl.String()), **SESSION_SLOTS, "rank": pl.UInt32(), "cause": pl.String()}
        counts = judged.join(sessions, on="session", how="semi").group_by(KEY).len()
        some = self._rows.join(counts, on=KEY, how="left").filter(pl.col("len").fill_null(0) < sessions.height)
        if some.is_empty():
            return empty(schema)
        absent = (
            some.select(*KEY, "first_ts", "last_ts")
            .join(sessions, how="cross")
            .join(judged, on=[*KEY, "session"], how="anti")
        )
        placed = absent.join(self._exported_sessions, on="session", how="left", maintain_order="left")
        is_later = pl.lit(value=False) if self._as_of is None else pl.col("opens") >= self._as_of
        cause = (
            pl.when(pl.col("opens").is_null() | is_later)
            .then(pl.lit(NOT_COVERED))
            .when((pl.col("closes") <= pl.col("first_ts")) | (pl.col("opens") > pl.col("last_ts")))
            .then(pl.lit(NOT_LISTED))
            .otherwise(pl.lit(NOT_EXPORTED))
        )
        return placed.with_columns(cause.alias("cause")).select(
            pl.col(name).cast(dtype) for name, dtype in schema.items()
        )

    def _runs_of_sessions(self, absent: pl.DataFrame) -> pl.DataFrame:
        """`HOLES` of the runs of sessions of `_uncovered` that follow each other and have one cause."""
        if absent.is_empty():
            return empty(HOLES)
        of_cut = self.expected.cut.group_by("session").agg(
            pl.col("ts").min().alias("start"), pl.col("ts_end").max().alias("end")
        )
        others = self._session_spans.select("session", "start", "end").join(of_cut, on="session", how="anti")
        placed = absent.join(pl.concat([others, of_cut]), on="session", how="left", maintain_order="left")
        ordered = placed.sort(*KEY, "rank")
        run = pl.col("rank").cast(pl.Int64) - pl.int_range(pl.len()).over(*KEY, "cause")
        found = (
            ordered.with_columns(run.alias("run"))
            .group_by(*KEY, "cause", "run", maintain_order=True)
            .agg(
                pl.col("session").min().alias("first_session"),
                pl.col("session").max().alias("last_session"),
                pl.col("start").min().alias("hole_start"),
                pl.col("end").max().alias("hole_end"),
                pl.col("slots").sum(),
            )
        )
        return found.select(pl.col(name).cast(dtype) for name, dtype in HOLES.items())

    @cached_property
    def _known_to_audit(self) -> pl.DataFrame:
        """`explained, excluded, filled` slots per series; empty without an audit.

        Raises
        ------
        ParameterError
            The audit has other counts than the export.
        """
        names = ("explained", "excluded", "filled")
        if self._causes is None:
            return empty({**dict.fromkeys(KEY, pl.String()), **dict.fromkeys(names, pl.Int64())})
        series, at = self._rows.select(KEY), [*KEY, "session"]
        told = self._causes.rows("quality", series, self._dates).select(*at, pl.col("missing").alias("told"), *names)
        settled = self._judged.join(self.expected.settled.select("session"), on="session", how="semi")
        settled = settled.join(told, on=at, how="left")
        other = settled.filter(~pl.col("told").eq_missing(pl.col("missing")))
        if other.height:
            row = other.row(0, named=True)
            raise ParameterError(
                f"audit: {self._causes.folder} is not one of revision {self._dataset.revision} of {self._dataset.target}: "
                f"{row['symbol']} {row['price_type']} {row['interval']} lacks {row['missing']} slots of {row['session']}, there "
                f"{'it is not judged' if row['told'] is None else row['told']}; valid: the audit of this export, at an interval "
                "that audits judge (the base, 1m of seconds)"
            )
        gaps = self._gaps(series, self.expected.sessions)
        cut = self.expected.cut["session"].unique()
        is_cut = pl.col("session").is_in(cut.implode())
        slots = pl.col("slots")
        of_gaps = gaps.group_by(KEY).agg(
            slots.filter(is_cut, pl.col("share") == "explained").sum().alias("explained"),
            # The audit leaves out what its files do not cover; here that is missing.
            (
                slots.filter(is_cut, pl.col("share") == "excluded").sum()
                - slots.filter(~is_cut, pl.col("cause") == NOT_COVERED).sum()
            ).alias("excluded"),
            pl.lit(0, pl.Int64).alias("filled"),
        )
        unlisted = (
            self._uncovered.filter(pl.col("cause") == NOT_LISTED).group_by(KEY).agg(slots.sum().alias("excluded"))
        )
        zero = [pl.lit(0, pl.Int64).alias(name) for name in ("explained", "filled")]
        parts = [
            settled.select(*KEY, *names),
            told.filter(is_cut).select(*KEY, zero[0], pl.lit(0, pl.Int64).alias("excluded"), "filled"),
            of_gaps.select(*KEY, *names),
            unlisted.with_columns(zero).select(*KEY, *names),
        ]
        return pl.concat(parts, how="vertical_relaxed").group_by(KEY).agg(pl.col(names).sum())
