"""Files of an audit that gave no rows: those that cannot be read, and those that are no market data."""

from __future__ import annotations

import polars as pl

from engine.checks.check import TableCheck, register
from engine.checks.findings import findings

PASSED_OVER = "passed over: "  # begins the `problem` of a file that is no market data


@register
class UnreadableFileCheck(TableCheck):
    """A file could not be read."""

    name, severities, table = "unreadable_file", ("error",), "files"
    most = None

    def judge(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return one error per file with a `problem` not marked as passed over; an option that a problem names is the first remedy."""
        bad = rows.drop_nulls("problem").filter(~pl.col("problem").str.starts_with(PASSED_OVER))
        message = pl.format("could not be read: {}", "problem").alias("message")
        option = pl.col("problem").str.extract(r"(--[a-z][a-z-]*)")
        again = pl.lit("deliver the file again, or name its format and columns")
        remedy = pl.coalesce(pl.format("give {}, or deliver the file again", option), again).alias("remedy")
        named = [pl.lit(self.name).alias("check_name"), pl.lit("error").alias("severity")]
        return findings(bad.select(*named, "source", message, remedy))


@register
class PassedOverCheck(TableCheck):
    """A file is no market data."""

    name, severities, table = "passed_over", ("info",), "files"
    most = None

    def judge(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return one `info` per file passed over as no market data; the message is its `problem`."""
        passed = rows.drop_nulls("problem").filter(pl.col("problem").str.starts_with(PASSED_OVER))
        named = [pl.lit(self.name).alias("check_name"), pl.lit("info").alias("severity")]
        return findings(passed.select(*named, "source", pl.col("problem").alias("message")))
