"""Scripts that do by hand what `engine run` does: read bars, make 5m, 15m, 1h and 1d, find gaps, write Parquet.

    python -m benchmarks.job_rivals duckdb|polars CASE SOURCE OUT

Each is as fast as we know to write it: types given, files read in parallel by the library itself, one materialized table of
bars, one file per interval. They know that all sessions begin at half past an hour, that stamps are UTC and rows are right:
no calendar, no completeness, no edges of sessions, no quality, no rejected rows, no checksums, no versions.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import polars as pl

# Each script loads its own library alone, as one that is written by hand would.

STEPS = {"5m": 300, "15m": 900, "1h": 3600}
PRICES = ("open", "high", "low", "close")
ORIGIN = "2000-01-03 14:30:00"
ZONE = "America/New_York"


def duckdb_script(case: str, source: Path, out: Path) -> None:
    """The job by SQL."""
    import duckdb  # noqa: PLC0415

    con = duckdb.connect()
    con.execute("SET preserve_insertion_order=false")
    if case == "zips":
        con.register("zipped", zipped_bars(source).to_arrow())
    con.execute(f"CREATE TEMP TABLE bars AS {DUCKDB_SOURCES[case](source)}")
    copy = "TO '{}' (FORMAT parquet, COMPRESSION zstd)"
    con.execute(f"COPY (FROM bars ORDER BY symbol, ts) {copy.format(out / '1m.parquet')}")
    fold = "arg_min(open, ts) AS open, max(high) AS high, min(low) AS low, arg_max(close, ts) AS close, sum(volume) AS volume"
    for name, seconds in STEPS.items():
        window = f"time_bucket(INTERVAL {seconds} seconds, ts, TIMESTAMP '{ORIGIN}')"
        con.execute(
            f"COPY (SELECT symbol, {window} AS ts, {fold} FROM bars GROUP BY ALL) {copy.format(out / f'{name}.parquet')}"
        )
    con.execute(
        f"COPY (SELECT symbol, ts::DATE AS ts, {fold} FROM bars GROUP BY ALL) {copy.format(out / '1d.parquet')}"
    )
    before = "lag(ts) OVER (PARTITION BY symbol, ts::DATE ORDER BY ts)"
    con.execute(
        f"COPY (SELECT * FROM (SELECT symbol, {before} AS before, ts FROM bars) WHERE ts - before > INTERVAL 1 minute) "
        f"{copy.format(out / 'gaps.parquet')}"
    )


DUCKDB_SOURCES: dict[str, Callable[[Path], str]] = {
    "files": lambda source: (
        "SELECT parse_filename(filename, true) AS symbol, * EXCLUDE (filename, timestamp), timestamp AS ts "
        f"FROM read_csv('{source}/*.csv', header=true, filename=true, columns={{'timestamp': 'TIMESTAMP', "
        "'open': 'DOUBLE', 'high': 'DOUBLE', 'low': 'DOUBLE', 'close': 'DOUBLE', 'volume': 'DOUBLE'})"
    ),
    "table": lambda source: (
        f"SELECT symbol, ts AT TIME ZONE 'UTC' AS ts, open, high, low, close, volume FROM '{source}/*.parquet'"
    ),
    "market": lambda source: (
        "SELECT ticker AS symbol, make_timestamp_ns(window_start)::TIMESTAMP AS ts, open, high, low, close, volume FROM "
        f"read_csv('{source}/*.csv.gz', header=true, columns={{'ticker': 'VARCHAR', 'volume': 'DOUBLE', "
        "'open': 'DOUBLE', 'close': 'DOUBLE', 'high': 'DOUBLE', 'low': 'DOUBLE', 'window_start': 'BIGINT', "
        "'transactions': 'BIGINT'})"
    ),
    "zips": lambda _: "FROM zipped",
}
DUCKDB_SOURCES["years"] = DUCKDB_SOURCES["files"]


def polars_script(case: str, source: Path, out: Path) -> None:
    """The job by expressions."""
    import polars as pl  # noqa: PLC0415

    bars = polars_bars(case, source).sort("symbol", "ts")
    bars.write_parquet(out / "1m.parquet")
    fold = [
        pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(), pl.col("volume").sum()
    ]  # fmt: skip
    # Windows of half hours begin where those from midnight do; hours begin at half past.
    for name in STEPS:
        offset = "30m" if name == "1h" else "0m"
        windows = bars.group_by_dynamic("ts", every=name, offset=offset, group_by="symbol")
        windows.agg(fold).write_parquet(out / f"{name}.parquet")
    bars.group_by_dynamic("ts", every="1d", group_by="symbol").agg(fold).write_parquet(out / "1d.parquet")
    before = pl.col("ts").shift()
    is_same_day = (pl.col("symbol") == pl.col("symbol").shift()) & (pl.col("ts").dt.date() == before.dt.date())
    gaps = bars.lazy().select("symbol", before.alias("before"), "ts", is_same_day.alias("is_same_day"))
    gap = pl.col("is_same_day") & (pl.col("ts") - pl.col("before") > pl.duration(minutes=1))
    gaps.filter(gap).drop("is_same_day").collect().write_parquet(out / "gaps.parquet")


def polars_bars(case: str, source: Path) -> pl.DataFrame:
    """`symbol, ts, open, high, low, close, volume` of a case."""
    import polars as pl  # noqa: PLC0415

    columns = ["symbol", "ts", *PRICES, "volume"]
    if case == "zips":
        return zipped_bars(source)
    if case == "table":
        table = pl.scan_parquet(f"{source}/*.parquet").with_columns(pl.col("ts").dt.replace_time_zone(None))
        return table.select(columns).collect()
    numbers = dict.fromkeys((*PRICES, "volume"), pl.Float64())
    if case == "market":
        order = ("volume", "open", "close", "high", "low")
        types = {"ticker": pl.String(), **dict.fromkeys(order, pl.Float64())}
        types |= {"window_start": pl.Int64(), "transactions": pl.Int64()}
        read = pl.read_csv(next(source.glob("*.csv.gz")), schema=types)
        stamp = pl.from_epoch("window_start", time_unit="ns").dt.cast_time_unit("us")
        return read.lazy().with_columns(pl.col("ticker").alias("symbol"), stamp.alias("ts")).select(columns).collect()
    read = pl.scan_csv(
        f"{source}/*.csv", schema={"timestamp": pl.Datetime("us", "UTC"), **numbers}, include_file_paths="path"
    )
    symbol = pl.col("path").str.extract(r"([^/]+)\.csv$").alias("symbol")
    return (
        read.with_columns(symbol, pl.col("timestamp").dt.replace_time_zone(None).alias("ts")).select(columns).collect()
    )


def zipped_bars(source: Path) -> pl.DataFrame:
    """Rows of Lean's zips of one symbol and day: milliseconds from midnight in New York, prices times 10,000."""
    import datetime as dt  # noqa: PLC0415

    import polars as pl  # noqa: PLC0415

    frames = []
    for path in sorted(source.rglob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            data = archive.read(archive.namelist()[0])
        rows = pl.read_csv(data, has_header=False, schema=dict.fromkeys(("ms", *PRICES, "volume"), pl.Int64()))
        day = dt.datetime.strptime(path.name[:8], "%Y%m%d").replace(tzinfo=ZoneInfo(ZONE))
        midnight = pl.lit(day.astimezone(dt.UTC).replace(tzinfo=None)).dt.cast_time_unit("us").alias("midnight")
        frames.append(rows.with_columns(pl.lit(path.parent.name.upper()).alias("symbol"), midnight))
    stamp = (pl.col("midnight") + pl.duration(milliseconds="ms")).alias("ts")
    prices = [pl.col(name) / 10_000 for name in PRICES]
    return pl.concat(frames).lazy().select("symbol", stamp, *prices, pl.col("volume").cast(pl.Float64)).collect()


def main() -> None:
    """Run the script that the command line names."""
    name, case, source, out = sys.argv[1:]
    Path(out).mkdir(parents=True)
    {"duckdb": duckdb_script, "polars": polars_script}[name](case, Path(source), Path(out))


if __name__ == "__main__":
    main()
