"""The preflight of a backtest, `engine.check`, beside counting the bars by hand with DuckDB and with Polars.

`python -m benchmarks.preflight OUT [--rounds N]` measures an export that is there; the group `preflight` of `python -m benchmarks` the
export that other groups write. Rivals count the bars of each symbol in their files and know how many slots the range has;
their counts are compared with ours. `cold` is a whole process each: `import engine` and one check, `import duckdb` and one count.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import duckdb
import engine
import polars as pl
from engine.errors import CoverageError
from engine.export.dataset import Dataset, open_dataset

from benchmarks.timing import Contender, Measure, measures, race, table

TARGET_SECONDS = 0.05
COLD_STARTS = 5


def coverage(out: Path) -> pl.DataFrame:
    """`symbol, present` of our preflight of all that the export has."""
    try:
        found = engine.check(out, min_coverage=0.0)
    except CoverageError as error:
        found = error.preflight
    return found.frame.select("symbol", "present").sort("symbol")


def rows_of(counted: list[tuple[str, int]]) -> pl.DataFrame:
    """`symbol, present` of the rows of a statement."""
    return pl.DataFrame(counted, schema={"symbol": pl.String, "present": pl.Int64}, orient="row")


def base_files(dataset: Dataset) -> list[str]:
    """Files of the base bars, which lie in the folder of their interval."""
    base = dataset.scan("symbols").select("base_interval").first().collect().item()
    folder = dataset.target / "bars" / base
    return [str(file) for file in dataset.files("bars") if folder in file.parents]


def everything(out: Path, rounds: int) -> list[Measure]:
    """All symbols over the whole export; one symbol over one session; and whole processes."""
    dataset = open_dataset(out)
    files, rows = base_files(dataset), dataset.rows("bars")
    sessions = (
        dataset.scan("sessions")
        .select(pl.col("session").min().alias("first"), pl.col("session").max().alias("last"))
        .collect()
    )
    first, last = sessions.row(0)
    symbol = dataset.scan("symbols").select("symbol").first().collect().item()
    listed = ", ".join(f"'{file}'" for file in files)
    count = f"SELECT symbol, count(*) AS present FROM read_parquet([{listed}]) WHERE session BETWEEN '{{}}' AND '{{}}'{{}} GROUP BY symbol ORDER BY symbol"  # noqa: S608 - ours

    def by_polars() -> pl.DataFrame:
        scan = pl.scan_parquet(files, hive_partitioning=False, glob=False)
        return (
            scan.filter(pl.col("session").is_between(first, last))
            .group_by("symbol")
            .len("present")
            .sort("symbol")
            .collect()
        )

    con = duckdb.connect()
    whole = [
        Contender("engine.check", lambda: coverage(out)),
        Contender("duckdb count of bars", lambda: rows_of(con.execute(count.format(first, last, "")).fetchall())),
        Contender("polars count of bars", by_polars),
    ]
    wanted = coverage(out)["present"]

    def check(name: str, found: object) -> None:
        counts = found["present"].cast(pl.Int64)  # type: ignore[index]
        if not counts.equals(wanted):
            raise AssertionError(f"{name}: other counts")

    one_symbol = [
        Contender("engine.check", lambda: engine.check(out, symbol, last, last, min_coverage=0.0)),
        Contender(
            "duckdb count of bars",
            lambda: rows_of(con.execute(count.format(last, last, f" AND symbol = '{symbol}'")).fetchall()),
        ),
    ]
    size = f"{rows / 1e6:.0f}M bars"
    target = {"duckdb count of bars": ">= 3"}
    return [
        *measures("preflight", f"all symbols, {size}", rows, race(whole, rounds, check), target),
        *measures("preflight", f"a symbol's session, {size}", rows, race(one_symbol, rounds, lambda *_: None), {}),
        *cold(out, files, size),
    ]


def cold(out: Path, files: list[str], size: str) -> list[Measure]:
    """Median seconds of whole processes that check once, and that count once."""
    ours = f"import engine; engine.check({str(out)!r}, min_coverage=0.0)"
    theirs = f"import duckdb; duckdb.execute('SELECT symbol, count(*) FROM read_parquet(?) GROUP BY symbol', [{files!r}]).fetchall()"  # noqa: S608 - ours
    seconds: dict[str, list[float]] = {"engine.check": [], "duckdb count of bars": []}
    for _ in range(COLD_STARTS):
        for name, text in zip(seconds, (ours, theirs), strict=True):
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", text], check=True)
            seconds[name].append(time.perf_counter() - begun)
    return measures("preflight", f"a whole process, {size}", 0, seconds, {})


def main() -> None:
    """Print the measures of an export, with the load of the machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print(table(everything(options.out, options.rounds)))
    warm = []
    for _ in range(options.rounds):
        begun = time.perf_counter()
        coverage(options.out)
        warm.append(time.perf_counter() - begun)
    print(
        f"warm: median {1000 * median(warm):.1f} ms, best {1000 * min(warm):.1f} ms (target {1000 * TARGET_SECONDS:.0f} ms); load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
