"""Check `filled`: runs of bars that a source made up, at the last price, in a name that trades. Pure: frame in, frame out.

1. `fill_counts` counts, per series and half hour of the venue's day, bars that trade, quiet bars (at the close before,
   without range), slots without a row, and how often one quiet slot follows another; `fill_runs` lists the longest runs.
2. `filled_runs` keeps the runs that the series' own rates at that time of day, the run left out, make improbable. Bars
   with volume near a run lower these rates, where they are quiet less often than at that time of day in other sessions.
   Where the other quiet minutes of a series have no row at all, rows for them are unusual by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import polars as pl

from engine.checks.check import SERIES, BarCheck, Frames, JudgeInput, MeasureInput, Measurement, register
from engine.checks.clock_profile import MINUTE_US, offsets_at, utc_offsets
from engine.checks.findings import findings_of
from engine.keys import Flags, Ints
from engine.quality.contiguous_runs import ContiguousRuns, SlotRuns, pairs_where, run_starts
from engine.schema import SEGMENTS_PER_SESSION, TS, Schema, empty

# Kinds of a quiet bar: without volume (also where the source has none), or with a volume.
KINDS = ("no volume", "volume")
RATES: Schema = {
    **SERIES,
    "half_hour": pl.Int16(),
    "bars": pl.Int64(),
    "absent": pl.Int64(),
    "absent_runs": pl.Int64(),
    "idle": pl.Int64(),
    "idle_runs": pl.Int64(),
    "carried": pl.Int64(),
    "carried_runs": pl.Int64(),
}
COUNTED = [name for name in RATES if name not in (*SERIES, "half_hour")]
RUNS: Schema = {
    **SERIES,
    "kind": pl.Enum(KINDS),
    "session": pl.Date(),
    "start_ts": TS,
    "end_ts": TS,
    "bars": pl.Int64(),
    "price": pl.Float64(),
    "half_hour": pl.Int16(),
    "near_bars": pl.Int64(),
    "near_quiet": pl.Int64(),
    "near_starts": pl.Int64(),
}
FILLED_SLOTS: Schema = {**SERIES, "session": pl.Date(), "filled": pl.Int64()}
HALF_HOUR_US = 30 * MINUTE_US
SHORTEST = {"no volume": 3, "volume": 10}  # prices stand for some bars of any series that trades in small sizes
LONGEST_KEPT = 3  # runs of a kind, series and session: those that are judged first
PRIOR_SLOTS = 10.0  # of the whole series' rate, that a half hour is given beside its own
PRIOR_QUIET = 5.0
NEAR = 120  # bars before and after a run, in its session: longer than a silence, shorter than a time of day
# Quiet bars, at the rate of the time of day, beside those near a run. 5 to 20 find the same runs of 30 bars and more in 22
# series of futures, crypto and shares; the lower, the more calm hours of restless sessions of simulated markets are named.
PRIOR_NEAR = 20.0
SCARCE = 0.5  # power of the ratio of the rates by which rarer quiet bars are also followed by another less often
# Of the quiet minutes have a row: then rows for them are unusual by themselves. 0.02 to 0.2 find the same of 457 spans filled
# in 16 series of futures, crypto and shares; 0 misses 8 of the 233 without volume.
RARELY_WRITTEN = 0.05
CHANCE, CHANCE_WRITTEN = 1e-3, 1e-6  # of a run in the whole series: below, it is reported
CHANCE_SPARSE = 1e-12  # with volume, in a name that trades in less than half of its slots: its price stands at a tick
# Power of the rate of another quiet slot, where quiet minutes are written: they come in clusters. Of the same 457 spans 0.75
# finds all 233 without volume and all 85 of 40 bars and more with it, 0.6 misses 4, and no power names a series without fault.
CLUSTERED = 0.75
APART = 2  # times as long as the next one is a run that is apart from the shorter ones
TRADES = 0.5  # of the slots of that time of day have a trade, else a name is thin and the fill may be right

Row = dict[str, Any]
KEY = list(SERIES)


class _Quiet:
    """Quiet bars of sorted rows in slots: row numbers, ascending, of those without volume (`idle`) and with it (`carried`).

    Runs of slots stand for the rows, of which only the quiet ones are looked at.
    """

    def __init__(self, part: MeasureInput) -> None:
        runs = part.runs
        self.rows, self.step, self.zone = runs.rows, part.grid.interval.step_us, part.zone
        self.series = self.rows["series"].to_numpy()
        heads = run_starts(runs.series, runs.ordinal)
        self.segment_heads: Ints = runs.row[heads]
        self.session_heads: Ints = runs.row[run_starts(runs.series, runs.ordinal // SEGMENTS_PER_SESSION)]
        after_gap = np.setdiff1d(np.arange(len(runs.row)), heads, assume_unique=True)
        self.after_gap: Ints = runs.row[after_gap]
        # Slots without a row before those bars.
        self.skipped: Ints = runs.slot[after_gap] - runs.slot[after_gap - 1] - runs.size[after_gap - 1]
        close, high, low = (self.rows[name].to_numpy() for name in ("close", "high", "low"))
        at = pairs_where(lambda a, b: (close[b] == close[a]) & (high[b] == low[b]), max(len(close) - 1, 0)) + 1
        at = at[~self.is_head(at)]
        traded = np.zeros(len(at), bool)
        if "volume" in self.rows.columns:
            traded = (self.rows["volume"].gather(at) > 0).fill_null(value=False).to_numpy()
        self.idle, self.carried = at[~traded], at[traded]

    def is_head(self, at: Ints) -> Flags:
        """Mask rows that are the first of their segment."""
        following = np.append(self.segment_heads, [-1])[np.searchsorted(self.segment_heads, at)]
        return np.asarray(following == at)

    def half_hour(self, at: Ints) -> Ints:
        """Return the half hour, 0 to 47, of the venue's day in which each row begins."""
        ts = self.rows["ts"].gather(at).to_physical().to_numpy()
        local: Ints = ts + offsets_at(self.zone, ts) * MINUTE_US
        return local // HALF_HOUR_US % 48

    def near(self, start: Ints, end: Ints) -> tuple[Ints, Ints]:
        """Return (first, last + 1) of the rows within `NEAR` rows of each run, in its session."""
        heads = np.append(self.session_heads, [len(self.series)])
        session = np.searchsorted(heads, start, side="right") - 1
        return np.maximum(start - NEAR, heads[session]), np.minimum(end + NEAR, heads[session + 1])

    def runs(self, at: Ints) -> tuple[Ints, Ints]:
        """Return (first, last + 1) of the runs of quiet bars that follow each other in a segment, absent slots between or not."""
        joined = (np.diff(at, prepend=-2) == 1) & ~self.is_head(at)
        return at[~joined], at[~np.append(joined[1:], [False])[: len(at)]] + 1


def fill_counts(quiet: _Quiet, runs: SlotRuns, series: pl.DataFrame) -> pl.DataFrame:
    """Return `RATES`: a row per series and half hour with rows in slots."""
    if not len(quiet.series):
        return empty(RATES)
    heads = run_starts(runs.series)
    first_of_series = runs.row[heads]
    size = len(heads) * 48

    def counted(at: Ints, weights: Ints | None = None) -> Ints:
        owner = np.searchsorted(first_of_series, at, side="right") - 1
        return np.bincount(owner * 48 + quiet.half_hour(at), weights, minlength=size).astype(np.int64)

    pieces = cut_at_half_hours(runs, quiet.step, quiet.zone)
    counts = {
        "bars": counted(pieces.row, pieces.size),
        "absent": counted(quiet.after_gap, quiet.skipped),
        "absent_runs": counted(quiet.after_gap),
        "idle": counted(quiet.idle),
        "idle_runs": counted(quiet.runs(quiet.idle)[0]),
        "carried": counted(quiet.carried),
        "carried_runs": counted(quiet.runs(quiet.carried)[0]),
    }
    held = np.flatnonzero(counts["bars"])
    found = pl.DataFrame(
        {
            "series": quiet.series[first_of_series][held // 48],
            "half_hour": held % 48,
            **{name: values[held] for name, values in counts.items()},
        }
    )
    named = found.join(series.select("series", *SERIES), on="series", how="inner", maintain_order="left")
    return named.select(pl.col(name).cast(dtype) for name, dtype in RATES.items())


def cut_at_half_hours(runs: SlotRuns, step: int, zone: str) -> ContiguousRuns:
    """Return runs of slots cut at the half hours of the venue's clock."""
    first = runs.rows["ts"].gather(runs.row).to_physical().to_numpy()
    whole = ContiguousRuns(runs.row, runs.size, first, step)
    moves, offsets = utc_offsets(zone, int(first.min()), int(whole.last.max()))
    low, high = (np.searchsorted(moves, at, side="right") - 1 for at in (whole.first, whole.last))
    strides, period = whole.cut(low, high, lambda cell: moves[cell])
    late = offsets[period] * MINUTE_US
    local = ContiguousRuns(strides.row, strides.size, strides.first + late, step)
    low, high = (at // HALF_HOUR_US for at in (local.first, local.last))
    return local.cut(low, high, lambda cell: cell * HALF_HOUR_US)[0]


def fill_runs(quiet: _Quiet, series: pl.DataFrame) -> pl.DataFrame:
    """Return `RUNS`: per series, session and kind the three longest runs of quiet bars, from 3 and 10 bars up.

    `near_bars, near_quiet, near_starts` count the bars within `NEAR` of the run, itself among them, the quiet ones of its
    kind, and the runs of these that begin there.
    """
    found = []
    for kind, which in zip(KINDS, (quiet.idle, quiet.carried), strict=True):
        start, end = quiet.runs(which)
        long = end - start >= SHORTEST[kind]
        begun = start
        start, end = start[long], end[long]
        low, high = quiet.near(start, end)
        near = [np.searchsorted(at, high) - np.searchsorted(at, low) for at in (which, begun)]
        found.append(
            quiet.rows.select("series", "session", pl.col("ts").alias("start_ts"), pl.col("close").alias("price"))[
                start
            ].with_columns(
                pl.lit(kind, RUNS["kind"]).alias("kind"),
                (quiet.rows["ts"].gather(end - 1) + pl.duration(microseconds=quiet.step)).alias("end_ts")
                if len(start)
                else pl.lit(None, TS).alias("end_ts"),
                pl.Series("bars", end - start),
                pl.Series("half_hour", quiet.half_hour(start)),
                pl.Series("near_bars", high - low),
                pl.Series("near_quiet", near[0]),
                pl.Series("near_starts", near[1]),
            )
        )
    rank = pl.col("bars").rank("ordinal", descending=True).over("series", "session", "kind")
    kept = pl.concat(found).filter(rank <= LONGEST_KEPT)
    named = kept.join(series.select("series", *SERIES), on="series", how="inner", maintain_order="left")
    return named.select(pl.col(name).cast(dtype) for name, dtype in RUNS.items())


class QuietBars(Measurement):
    """Frames `fill_rates` and `fill_runs`: how often a series is quiet at each half hour, and its longest quiet runs."""

    schemas: ClassVar[Mapping[str, Schema]] = {"fill_rates": RATES, "fill_runs": RUNS}

    def measure(self, part: MeasureInput) -> Frames:
        """Return the frames `fill_rates` and `fill_runs` of a part, empty for bars of more than half an hour."""
        if not part.grid.interval.is_intraday or part.grid.interval.step_us > HALF_HOUR_US:
            return {name: empty(schema) for name, schema in self.schemas.items()}
        quiet = _Quiet(part)
        return {"fill_rates": fill_counts(quiet, part.runs, part.series), "fill_runs": fill_runs(quiet, part.series)}

    def combine(self, frames: Mapping[str, Sequence[pl.DataFrame]]) -> Frames:
        """Sum the counts by series and half hour; concatenate the runs."""
        whole = super().combine(frames)
        rates = whole["fill_rates"].group_by(*KEY, "half_hour").agg(pl.col(COUNTED).sum()).sort(*KEY, "half_hour")
        runs = whole["fill_runs"].sort(*KEY, "start_ts", "kind", maintain_order=True)
        return {"fill_rates": rates.select(list(RATES)), "fill_runs": runs}


QUIET_BARS = QuietBars()


def filled_runs(frames: Frames) -> pl.DataFrame:
    """Return the improbable runs (`RUNS` with `trades`, `written`, `log_chance`), the only ones whose bars are no trades.

    A run is judged by the quiet slots of its series that lie in no run of its length or more, at the half hours in which
    its bars lie, and reported only if all longer runs of its kind are improbable too.
    """
    runs, rates = frames["fill_runs"], frames["fill_rates"]
    if runs.is_empty():
        return runs.with_columns(pl.lit(0.0).alias(name) for name in ("trades", "written", "log_chance"))
    quiet_bars = {kind: ("idle", "idle_runs") if kind == "no volume" else ("carried", "carried_runs") for kind in KINDS}
    sums = rates.group_by(KEY).agg(pl.col("bars", "absent", "idle").sum())
    quiet = pl.col("idle") + pl.col("absent")
    is_thin = quiet > TRADES * (pl.col("bars") + pl.col("absent"))
    thin = sums.filter(is_thin & (pl.col("idle") > RARELY_WRITTEN * quiet))
    sparse = sums.filter(pl.col("absent") > TRADES * (pl.col("bars") + pl.col("absent")))
    found = []
    for kind, (bars, starts) in quiet_bars.items():
        ours = runs.filter(pl.col("kind") == kind)
        if kind == "no volume":
            found.append(judged_runs(ours, rates_of(rates, bars, starts, ("absent", "absent_runs")), has_absent=True))
            ours = ours.join(thin, on=KEY, how="anti", maintain_order="left")
        # Against the other bars that are there: where some quiet minutes of a series have one and some have none.
        told = judged_runs(ours, rates_of(rates, bars, starts), has_absent=False)
        if kind == "volume":
            likely = told.filter(pl.col("log_chance") >= np.log(CHANCE_SPARSE)).join(sparse, on=KEY, how="semi")
            told = told.join(likely, on=[*KEY, "start_ts"], how="anti", maintain_order="left")
        found.append(told)
    return pl.concat(found).unique([*KEY, "kind", "start_ts"], keep="first").sort(*KEY, "start_ts", maintain_order=True)


def rates_of(rates: pl.DataFrame, bars: str, starts: str, gone: tuple[str, str] | None = None) -> pl.DataFrame:
    """Slots, written, quiet and starts of quiet bars by half hour; `gone` names the absent slots that count as quiet too."""
    absent, absent_runs = (pl.col(name) for name in gone) if gone else (pl.lit(0), pl.lit(0))
    return rates.select(
        *KEY,
        "half_hour",
        (pl.col("bars") + absent).alias("slots"),
        pl.col(bars).alias("written"),
        (pl.col(bars) + absent).alias("quiet"),
        (pl.col(starts) + absent_runs).alias("starts"),
    )


def judged_runs(runs: pl.DataFrame, rates: pl.DataFrame, *, has_absent: bool) -> pl.DataFrame:
    """Return the runs of one kind that the rates make improbable, with `trades`, `written` and `log_chance`."""
    # Runs of its length (to a power of two) and longer ones teach nothing: a source that fills does so more than once.
    ordered = runs.sort([*KEY, "bars"], descending=[False] * len(KEY) + [True], maintain_order=True).with_columns(
        pl.int_range(pl.len()).over(KEY).alias("rank"),
        length_level().alias("level"),
        pl.col("bars").cum_sum().over(KEY).alias("known"),
    )
    of_level = [*KEY, "level"]
    known, known_runs = pl.col("known").last().over(of_level), pl.col("rank").last().over(of_level) + 1
    counted = ("slots", "written", "quiet", "starts")
    whole = rates.group_by(KEY).agg(pl.col(name).sum().alias(f"all_{name}") for name in counted)
    own = ordered.join(whole, on=KEY, how="left", maintain_order="left").with_columns(
        *((pl.col(f"all_{name}") - known).clip(0).alias(f"all_{name}") for name in ("slots", "written", "quiet")),
        (pl.col("all_starts") - known_runs).clip(0).alias("all_starts"),
    )
    base = (pl.col("all_quiet") + 0.5) / (pl.col("all_slots") + 1)
    stays = (pl.col("all_quiet") - pl.col("all_starts")).clip(0)
    usual_stay = (stays + PRIOR_QUIET * base) / (pl.col("all_quiet") + PRIOR_QUIET)
    own = own.with_columns(base.alias("base"), pl.max_horizontal(usual_stay, base).alias("base_stay"))
    pieces = with_rates_near_runs(with_rates_of_half_hours(pieces_of_runs(own), rates))
    of_run = pieces.group_by(*KEY, "rank").agg(
        pl.col("share", "rate").max(),
        (pl.col("piece") * pl.col("stay").log()).sum().alias("log_stays"),
        pl.col("stay").max(),
    )
    told = own.join(of_run, on=[*KEY, "rank"], how="left", maintain_order="left")
    written = (pl.col("all_written") + 0.5) / (pl.col("all_quiet") + 1) if has_absent else pl.lit(1.0)
    few_written = pl.col("all_written") <= RARELY_WRITTEN * pl.col("all_quiet")
    is_rare = pl.lit(has_absent) & (few_written | (pl.col("all_quiet") < PRIOR_QUIET))
    # Quiet minutes come in clusters that one rate does not know.
    power = pl.when(is_rare).then(1.0).otherwise(CLUSTERED)
    log_chance = (
        (pl.col("all_slots").clip(1) * pl.col("rate")).log()
        + power * (pl.col("log_stays") - pl.col("stay").log())
        + pl.when(is_rare).then(written.log()).otherwise(0.0)
    )
    limit = pl.when(is_rare).then(np.log(CHANCE)).otherwise(np.log(CHANCE_WRITTEN))
    is_odd = (log_chance < limit) & (pl.col("share") <= 1 - TRADES)
    return (
        told.with_columns(
            (1 - pl.col("share")).alias("trades"), written.alias("written"), log_chance.alias("log_chance")
        )
        .with_columns(is_odd.cast(pl.Int8).alias("odd"))
        .filter(pl.col("odd").cum_min().over(KEY) == 1)
        .select(*RUNS, "trades", "written", "log_chance")
    )


def length_level() -> pl.Expr:
    """Level of the length of each run, sorted from the longest on: equal within a factor of 2, and for all that are apart.

    The longest runs, down to the last one that is twice as long as the next, or as any run too short to be listed, have
    one level: silence of a market has runs of all lengths.
    """
    level = pl.col("bars").log(2).floor().cast(pl.Int32)
    unlisted = pl.col("kind").cast(pl.String).replace_strict(SHORTEST, return_dtype=pl.Int64) - 1
    is_apart = pl.col("bars") >= APART * pl.col("bars").shift(-1).over(KEY).fill_null(unlisted)
    is_longest = is_apart.cast(pl.Int8).cum_max(reverse=True).over(KEY) == 1
    return pl.when(is_longest).then(level.max().over(KEY)).otherwise(level)


def pieces_of_runs(runs: pl.DataFrame) -> pl.DataFrame:
    """Cut runs at the half hours of the clock: a row per run and half hour, `piece` its bars there, `is_first`."""
    start, end = (pl.col(name).cast(pl.Int64) for name in ("start_ts", "end_ts"))
    cut = (
        runs.with_columns(((end - start) // pl.col("bars")).alias("step"))
        .with_columns(
            pl.int_ranges(start // HALF_HOUR_US, (end - pl.col("step")) // HALF_HOUR_US + 1).alias("cell"),
            (start // HALF_HOUR_US).alias("first_cell"),
        )
        .explode("cell")
    )
    low = pl.max_horizontal(start, pl.col("cell") * HALF_HOUR_US)
    high = pl.min_horizontal(end, (pl.col("cell") + 1) * HALF_HOUR_US)
    # Bars that begin in the half hour, from `low` to below `high`.
    before, after = (-((start - edge) // pl.col("step")) for edge in (low, high))
    is_first = pl.col("cell") == pl.col("first_cell")
    half_hour = (pl.col("half_hour") + pl.col("cell") - pl.col("first_cell")) % 48
    return cut.with_columns(
        (after - before).alias("piece"), is_first.alias("is_first"), half_hour.cast(pl.Int16).alias("half_hour")
    ).filter(pl.col("piece") > 0)


def with_rates_of_half_hours(pieces: pl.DataFrame, rates: pl.DataFrame) -> pl.DataFrame:
    """Add `share`, of quiet slots, and `stay`, how often another follows, of each half hour without runs as long."""
    at = [*KEY, "half_hour"]
    joined = pieces.join(rates, on=at, how="left", maintain_order="left").sort(*at, "rank", maintain_order=True)
    sums = {"taken": "piece", "taken_starts": "is_first"}
    joined = joined.with_columns(pl.col(of).cast(pl.Int64).cum_sum().over(at).alias(name) for name, of in sums.items())
    taken, taken_starts = (pl.col(name).last().over([*at, "level"]) for name in sums)
    quiet = (pl.col("quiet").fill_null(0) - taken).clip(0)
    slots = (pl.col("slots").fill_null(0) - taken).clip(0)
    stays = (quiet - (pl.col("starts").fill_null(0) - taken_starts).clip(0)).clip(0)
    share = (quiet + PRIOR_SLOTS * pl.col("base")) / (slots + PRIOR_SLOTS)
    stay = (stays + PRIOR_QUIET * pl.col("base_stay")) / (quiet + PRIOR_QUIET)
    return joined.with_columns(share.alias("share"), pl.max_horizontal(stay, share).clip(1e-6, 0.9999).alias("stay"))


def with_rates_near_runs(pieces: pl.DataFrame) -> pl.DataFrame:
    """Add `rate`, the `share` that bars with volume near the run have lowered, and lower `stay` likewise."""
    bars, quiet, starts = (pl.col(f"near_{name}") for name in ("bars", "quiet", "starts"))
    # Less the run itself.
    bars, quiet, starts = bars - pl.col("bars"), quiet - pl.col("bars"), starts - 1
    share, stay = pl.col("share"), pl.col("stay")
    rate = ((quiet + PRIOR_NEAR) / (bars + PRIOR_NEAR / share)).clip(upper_bound=share)
    prior = stay * (rate / share).pow(SCARCE)
    near_stay = (quiet - starts).clip(0).add(PRIOR_NEAR * prior) / (quiet + PRIOR_NEAR)
    lowered = pl.max_horizontal(pl.min_horizontal(stay, near_stay), rate)
    is_told = pl.col("kind") == "volume"  # a source that writes quiet minutes writes all of a session, or none
    return pieces.with_columns(
        pl.when(is_told).then(rate).otherwise(share).alias("rate"),
        pl.when(is_told).then(lowered).otherwise(stay).clip(1e-6, 0.9999).alias("stay"),
    )


def filled_slots(frames: Frames, misplaced: pl.DataFrame) -> pl.DataFrame:
    """Return `FILLED_SLOTS`: slots of `filled_runs` per series and session; none of series in `misplaced`, as its findings."""
    placed = filled_runs(frames).join(misplaced, on=KEY, how="anti")
    counted = placed.group_by(*KEY, "session").agg(pl.col("bars").sum().alias("filled"))
    return counted.sort(*KEY, "session").select(list(FILLED_SLOTS))


def filled_runs_of(measured: JudgeInput) -> pl.DataFrame:
    """Return `filled_runs` of all measurements, for the checks that speak of the same bars."""
    return filled_runs(measured.frames)


def filled(runs: pl.DataFrame) -> pl.DataFrame:
    """Return one `filled` warning per series and kind of `filled_runs`: `count` bars of all runs, `value` of the longest."""
    summed = (
        runs.sort("bars", descending=True, maintain_order=True)
        .group_by(*KEY, "kind", maintain_order=True)
        .agg(
            pl.len().alias("runs"),
            pl.col("bars").sum().alias("rows"),
            pl.col("session").n_unique().alias("sessions"),
            pl.col("bars", "start_ts", "end_ts", "session", "price", "trades", "written", "log_chance").first(),
        )
        .sort(*KEY, "kind")
    )
    return findings_of([filled_finding(row) for row in summed.iter_rows(named=True)])


def filled_finding(row: Row) -> Row:
    """Build the `filled` warning of one series and kind; span and session are those of the longest run."""
    without = row["kind"] == "no volume"
    what = (
        "at the price before, without range and volume"
        if without
        else "at the price before, without range though with volume"
    )
    many = (
        f"; {row['rows']:,} bars in {row['runs']:,} such runs of {row['sessions']:,} sessions"
        if row["runs"] > 1
        else ""
    )
    usual = (
        f"at that time of day {row['trades']:.1%} of its other minutes have a trade"
        if without
        else f"at that time of day {row['trades']:.1%} of its other bars have another price"
    )
    habit = f"; of its other minutes without a trade {row['written']:.0%} have a row" if without else ""
    return {
        **{name: row[name] for name in KEY},
        "check_name": "filled",
        "severity": "warning",
        "session": row["session"],
        "start_ts": row["start_ts"],
        "end_ts": row["end_ts"],
        "count": row["rows"],
        "value": float(row["bars"]),
        "message": f"{row['bars']:,} bars in a row from {row['start_ts']:%Y-%m-%d %H:%M} UTC stand {what}, {row['price']:g}: they look filled in{many}.",
        "evidence": f"{usual}{habit}; chance of such a run: 1e{row['log_chance'] / np.log(10):.0f}",
        "remedy": "count these slots as missing and load them anew: a price that was carried forward is no trade",
    }


@register
class FilledCheck(BarCheck):
    """Bars of a name that trades stand at the price before, as if a source had filled them in."""

    name, severities = "filled", ("warning",)
    reads, needs_hours = (QUIET_BARS,), True

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return a warning per series and kind (without volume, with volume) of improbable quiet runs."""
        return filled(measured.once(filled_runs_of))
