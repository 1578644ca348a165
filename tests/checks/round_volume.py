"""A check from outside of the package: the volume of a series is always a multiple of 100."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from engine.checks.check import SERIES, BarCheck, JudgeInput, MeasureInput
from engine.checks.findings import findings
from engine.schema import empty


class RoundVolumeCheck(BarCheck):
    """Volumes are rounded to lots of 100."""

    name, severities = "round_volume", ("info",)
    schema = {**SERIES, "bars": pl.Int64(), "round": pl.Int64()}  # noqa: RUF012

    def measure(self, part: MeasureInput) -> pl.DataFrame:
        """Count bars with a volume, and those of a multiple of 100."""
        if "volume" not in part.rows.columns:
            return empty(self.schema)
        traded = part.rows.filter(pl.col("volume") > 0)
        is_round = (pl.col("volume") % 100 == 0).sum().cast(pl.Int64)
        counted = traded.group_by("series").agg(pl.len().cast(pl.Int64).alias("bars"), is_round.alias("round"))
        return counted.join(part.series, on="series").select(list(self.schema))

    def combine(self, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Add up the counts of all parts."""
        return super().combine(frames).group_by(list(SERIES)).agg(pl.col("bars", "round").sum()).sort(list(SERIES))

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Find series of which every volume is round."""
        found = measured.frames[self.name].filter(pl.col("bars") == pl.col("round"))
        message = pl.format("All {} volumes are multiples of 100.", "bars").alias("message")
        named = [pl.lit(self.name).alias("check_name"), pl.lit("info").alias("severity")]
        return findings(found.select(*named, *SERIES, pl.col("bars").alias("count"), message))
