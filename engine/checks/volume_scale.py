"""Check `volume_scale`: volumes of whole sessions in another unit (lots, hundreds). Pure: frame in, frame out."""

from __future__ import annotations

from typing import Any

import polars as pl

from engine.checks.check import SERIES, BarCheck, JudgeInput, register
from engine.checks.findings import findings_of
from engine.checks.rescaled_copies import copy_finding, rescaled_copies_of
from engine.checks.sanity import BAR_SANITY
from engine.checks.session_sums import SESSION_SUMS

FEWEST_TRADED = 20  # bars with volume in a session: the mean of fewer says little
SMALLEST_POWER = 2  # tenfold volume is a day of news
# In powers of ten: the smallest and the largest bar vary most from day to day. Of 288 sessions of other series in another
# unit 1.0 finds 225, 1.5 240, without the limit 252; of 158 pairs of sessions of two series whose volumes differ by a power of
# ten, as activity that grows does, they pass 88, 108 and 158.
NEAR_MEAN, NEAR_EXTREMES = 0.35, 1.0
NEAR_LEVEL = 0.5  # by which sessions of one unit differ
NEAR_WITH_GRAIN = 0.75  # of the mean, where the digits of the volumes moved by the power of ten too

Row = dict[str, Any]


def volume_scales(sums: pl.DataFrame, jumps: pl.DataFrame) -> pl.DataFrame:
    """Return a `volume_scale` error per run of sessions whose volumes are ALL x100 (x1000, x0.01) of those beside.

    The smallest, the mean and the largest must move by one power of ten from one session to the next: activity that grows
    leaves the smallest trade as it is, a unit does not. Or the last digit of the volumes moves by it, and the mean about so
    far: volumes times 100 are all multiples of 100. Of sessions with at least 20 bars with volume. A session at which the price
    moves as far the other way (`sanity.JUMPS`) begins with a split.
    """
    of_series = list(SERIES)
    sized = sums.filter(pl.col("traded") >= FEWEST_TRADED).sort(*of_series, "session", "ts")
    names = ("size", "least", "most", "grain")
    step = [(pl.col(name) - pl.col(name).shift().over(of_series)).alias(f"{name}_step") for name in names]
    grain_step = pl.col("grain_step").cast(pl.Int64)
    by_grain = (grain_step != 0) & ((pl.col("size_step") - grain_step).abs() <= NEAR_WITH_GRAIN)
    by_grain = by_grain.fill_null(value=False)
    power = pl.when(by_grain).then(grain_step).otherwise(pl.col("size_step").round().cast(pl.Int64)).alias("power")
    against = (pl.col("before") / pl.col("open")).log10().round().cast(pl.Int64).alias("power")
    split = jumps.select(*of_series, "session", against).unique().with_columns(pl.lit(value=True).alias("is_split"))
    moved = sized.with_columns(step).with_columns(power, by_grain.alias("by_grain"))
    moved = moved.join(split, on=[*of_series, "session", "power"], how="left", maintain_order="left")
    near = pl.all_horizontal(
        (pl.col(f"{name}_step") - pl.col("power")).abs() <= limit
        for name, limit in zip(names[:3], (NEAR_MEAN, NEAR_EXTREMES, NEAR_EXTREMES), strict=True)
    )
    shifts = (near | pl.col("by_grain")) & (pl.col("power").abs() >= SMALLEST_POWER) & pl.col("is_split").is_null()
    shift = pl.when(shifts).then("power").otherwise(0).fill_null(0)
    # Sessions between two shifts have one unit; the unit that most sessions of the series have is its own.
    levels = moved.with_columns(shift.cum_sum().over(of_series).alias("level"))
    count = pl.len().over([*of_series, "level"])
    usual = pl.col("level").sort_by(count, -pl.col("session").to_physical(), descending=True).first().over(of_series)
    leveled = levels.with_columns((pl.col("level") - usual).alias("off"), pl.len().over(of_series).alias("sessions"))
    # What lies off the level of most sessions by anything else has grown there by itself.
    own = pl.col("size").filter(pl.col("off") == 0).median().over(of_series)
    own_grain = pl.col("grain").filter(pl.col("off") == 0).median().over(of_series)
    has_grain = (pl.col("grain") - own_grain == pl.col("off")).fill_null(value=False)
    limit = pl.when(has_grain).then(NEAR_WITH_GRAIN).otherwise(NEAR_LEVEL)
    fits = (pl.col("size") - own - pl.col("off")).abs() <= limit
    odd = leveled.with_columns(pl.when(fits).then("off").otherwise(0).alias("off"))
    changed = (pl.col("off") != pl.col("off").shift().over(of_series)).fill_null(value=True)
    runs = (
        odd.with_columns(changed.cum_sum().over(of_series).alias("run"))
        .filter(pl.col("off") != 0)
        .group_by(*of_series, "run", maintain_order=True)
        .agg(
            pl.col("session", "ts", "off", "sessions").first(),
            pl.col("session").last().alias("last"),
            pl.len().alias("count"),
            pl.col("size").mean(),
        )
    )
    normal = odd.filter(pl.col("off") == 0).group_by(of_series).agg(pl.col("size").mean().alias("usual"))
    return findings_of(
        [
            volume_scale_finding(row)
            for row in runs.join(normal, on=of_series, maintain_order="left").iter_rows(named=True)
        ]
    )


def volume_scale_finding(row: Row) -> Row:
    """Build the error: `value` is the factor, `count` the sessions of the run."""
    factor = 10.0 ** row["off"]
    span = f"{row['session']}" if row["count"] == 1 else f"{row['session']} to {row['last']}"
    return {
        **{name: row[name] for name in SERIES},
        "check_name": "volume_scale",
        "severity": "error",
        "session": row["session"],
        "start_ts": row["ts"],
        "count": row["count"],
        "value": factor,
        "message": f"Volumes of {span} ({row['count']:,} of {row['sessions']:,} sessions) are x{factor:g} of the others: another unit.",
        "evidence": (
            f"a bar has {10 ** row['size']:,.4g} on average there, {10 ** row['usual']:,.4g} in the other sessions (geometric means); "
            "the smallest and the largest bar, or the last digit of the volumes, moved by the same power of ten, from one session to the next"
        ),
        "remedy": f"divide these volumes by {factor:g} (lots or hundreds for shares), or load them anew",
    }


@register
class VolumeScaleCheck(BarCheck):
    """Volumes of some sessions are a power of ten of those of the others."""

    name, severities = "volume_scale", ("error", "warning")
    reads = (SESSION_SUMS, BAR_SANITY)

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return an error per run of sessions in another unit; of series without one, a finding if they rescale another symbol."""
        found = volume_scales(measured.frames["session_sums"], measured.frames["jumps"])
        copies = measured.once(rescaled_copies_of).filter(pl.col("of") == "size")
        rest = copies.join(found, on=list(SERIES), how="anti", maintain_order="left")
        return pl.concat([found, findings_of([copy_finding(row, self.name) for row in rest.iter_rows(named=True)])])
