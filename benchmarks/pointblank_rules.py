"""What Pointblank is asked of minute bars: `python benchmarks/pointblank_rules.py TABLE HOURS`, in any environment that has it.

Everything it has a rule for is a rule; what it has none for (where bars should be) is computed by hand in `pre`, from `HOURS`, the
sessions that a calendar library would give: open and close of each. Prints JSON.
"""

from __future__ import annotations

import json
import sys
import time

import pointblank as pb
import polars as pl

KEY = ["symbol", "ts"]
MINUTE = pl.duration(minutes=1)


def in_session(bars: pl.DataFrame, hours: pl.DataFrame) -> pl.DataFrame:
    """Bars of a minute of a session, each once, with that session."""
    known = bars.drop_nulls("ts").with_columns(pl.col("ts").dt.truncate("1m").alias("minute")).sort("ts")
    placed = known.join_asof(hours, left_on="ts", right_on="open_ts", strategy="backward")
    return placed.filter((pl.col("ts") < pl.col("close_ts")) & (pl.col("ts") == pl.col("minute"))).unique(KEY)


def steps(bars: pl.DataFrame, hours: pl.DataFrame) -> pl.DataFrame:
    """Bars in a session with the end of the one before (the open for the first), and one more row at each close."""
    placed = in_session(bars, hours).select("symbol", "ts", "open_ts", "close_ts")
    lives = placed.group_by("symbol").agg(pl.col("open_ts").min().alias("first"), pl.col("open_ts").max().alias("last"))
    due = lives.join(hours, how="cross").filter(pl.col("open_ts").is_between(pl.col("first"), pl.col("last")))
    ends = due.select("symbol", pl.col("close_ts").alias("ts"), "open_ts", "close_ts")
    whole = pl.concat([placed, ends]).sort("symbol", "open_ts", "ts")
    before = (pl.col("ts").shift(1) + MINUTE).over("symbol", "open_ts")
    return whole.with_columns(before.fill_null(pl.col("open_ts")).alias("due"))


def validation(bars: pl.DataFrame, hours: pl.DataFrame) -> pb.Validate:
    prices = ["open", "high", "low", "close"]
    late = (pl.col("ts") < pl.col("ts").cum_max().shift(1).over("symbol")).fill_null(value=False)
    return (
        pb.Validate(bars)
        .col_vals_not_null(columns=[*KEY, *prices])
        .col_vals_gt(columns=prices, value=0, na_pass=True)
        .col_vals_ge(columns="high", value=pb.col("low"), na_pass=True)
        .col_vals_between(columns=["open", "close"], left=pb.col("low"), right=pb.col("high"), na_pass=True)
        .col_vals_ge(columns="volume", value=0, na_pass=True)
        .rows_distinct(columns_subset=KEY)
        .rows_distinct()
        .col_vals_expr(~late)
        .col_vals_expr(pl.col("ts") == pl.col("ts").dt.truncate("1m"))
        .col_vals_expr(pl.col("ts") < pl.col("close_ts"), pre=lambda df: df.drop_nulls("ts").sort("ts").join_asof(
            hours, left_on="ts", right_on="open_ts", strategy="backward"))
        .col_vals_eq(columns="ts", value=pb.col("due"), pre=lambda df: steps(df, hours))
        .interrogate(extract_limit=1_000_000)
    )  # fmt: skip


def main() -> None:
    bars, hours = pl.read_parquet(sys.argv[1]), pl.read_parquet(sys.argv[2])
    begin = time.process_time()
    done = validation(bars, hours)
    seconds = time.process_time() - begin
    told = [
        {"rule": step["assertion_type"], "column": str(step["column"]), "failed": step["n_failed"], "of": step["n"]}
        for step in json.loads(done.get_json_report())
    ]
    last = len(told)
    found = done.get_data_extracts(i=last, frame=True)
    rows = found.select("symbol", pl.col("due").dt.epoch("us"), pl.col("ts").dt.epoch("us")).rows()
    print(json.dumps({"version": pb.__version__, "seconds": seconds, "rules": told, "gaps": rows}))


if __name__ == "__main__":
    main()
