"""The whole job: files to an export of five intervals with gaps, against scripts that do it by hand with DuckDB and Polars.

    python -m benchmarks.job [--only CASE,...] [--rounds N] [--scale F] [--growth] [--also CHECKOUT]

Every contender is a process of its own, started in turns: `engine run SOURCE --calendar XNYS --export OUT`, and the two
scripts of `benchmarks.job_rivals`, which read, make 5m, 15m, 1h and 1d, find gaps by `lag` or `shift`, and write Parquet. The
engine's export holds in addition: calendars, completeness, gaps at the edges of sessions, quality, rejected rows, statistics
and checksums of files, versions. Rows and volume of each interval and the number of inner gaps are compared in each round.

Ratios are medians over the rounds of (engine / rival) of one round, by the clock and by processor time; peak is the largest
resident memory of a process. Data is synthetic and seeded (`benchmarks.panel`).

Cases
-----
files    500 CSV files of one symbol, 20 sessions (3.9M rows).
table    one Parquet file of 500 symbols, 20 sessions (3.9M rows).
market   one `.csv.gz` of 8,000 symbols of one session (3.1M rows), as Polygon's flat files are.
zips     4,000 zips of QuantConnect Lean, of one symbol and session each (1.6M rows).
years    one CSV of one symbol, ten years (0.98M rows).

With `--growth`: the engine alone at 1x, 2x and 4x of files, symbols of one file, sessions of one symbol, and revisions of one
export. `--scale 0.1` takes a tenth of the symbols (files, sessions), for a smoke test.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from statistics import median

import polars as pl
from engine.export.dataset import open_dataset

from benchmarks import machine
from benchmarks.panel import PRICES, build, build_between

COMPILED = str(Path(tempfile.gettempdir()) / "engine-job-compiled")
HERE = str(Path(__file__).resolve().parents[1])
INTERVALS = ("1m", "5m", "15m", "1h", "1d")
OHLCV = (*PRICES, "volume")
YEARS = (dt.date(2015, 1, 2), dt.date(2024, 12, 31))
ENGINE = "engine"
RIVALS = ("duckdb", "polars")
TARGET = 0.9
# A process tells its own peak: what its parent is told begins with the memory of the parent.
PROGRAM = """
import atexit, os, pathlib, sys
def tell_peak():
    pathlib.Path(os.environ["PEAK_FILE"]).write_text(pathlib.Path("/proc/self/status").read_text())
atexit.register(tell_peak)
from {module} import {function}
{function}()
"""


@dataclass(frozen=True)
class Taken:
    """What one process took.

    Attributes
    ----------
    seconds : float
        By the clock.
    processor : float
        User and system time.
    peak_mb : float
        Largest resident memory.
    """

    seconds: float
    processor: float
    peak_mb: float


def write_files(folder: Path, symbols: int, sessions: int = 20) -> Path:
    """One CSV per symbol."""
    folder.mkdir(parents=True)
    for (symbol,), rows in _texts(build(symbols, sessions).named).partition_by("symbol", as_dict=True).items():
        rows.select("timestamp", *OHLCV).write_csv(folder / f"{symbol}.csv")
    return folder


def write_table(folder: Path, symbols: int, sessions: int = 20) -> Path:
    """One Parquet file of all symbols."""
    folder.mkdir(parents=True)
    build(symbols, sessions).named.select("symbol", "ts", *OHLCV).write_parquet(folder / "bars.parquet")
    return folder


def write_market(folder: Path, symbols: int) -> Path:
    """One gzipped CSV of all symbols and one session, in the columns of Polygon's flat files."""
    folder.mkdir(parents=True)
    rows = build(symbols, 1).named.select(
        pl.col("symbol").alias("ticker"), "volume", "open", "close", "high", "low",
        pl.col("ts").dt.epoch("ns").alias("window_start"), pl.col("trades").alias("transactions"),
    )  # fmt: skip
    rows.write_csv(folder / "2024-10-21.csv.gz", compression="gzip")
    return folder


def write_zips(folder: Path, symbols: int, sessions: int = 20) -> Path:
    """One zip of Lean per symbol and session."""
    local = pl.col("ts").dt.convert_time_zone("America/New_York")
    rows = build(symbols, sessions).named.select(
        pl.col("symbol").str.to_lowercase(), local.dt.strftime("%Y%m%d").alias("day"),
        (local - local.dt.truncate("1d")).dt.total_milliseconds().alias("ms"),
        *((pl.col(name) * 10_000).round().cast(pl.Int64) for name in PRICES), pl.col("volume").cast(pl.Int64),
    )  # fmt: skip
    for (symbol, day), part in rows.partition_by("symbol", "day", as_dict=True, include_key=False).items():
        path = folder / "equity" / "usa" / "minute" / str(symbol) / f"{day}_trade.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{day}_{symbol}_minute_trade.csv", part.write_csv(include_header=False))
    return folder


def write_years(folder: Path, years: float) -> Path:
    """One CSV of one symbol."""
    folder.mkdir(parents=True)
    last = YEARS[0] + dt.timedelta(days=round(365.25 * years))
    _texts(build_between(1, YEARS[0], min(last, YEARS[1])).named).select("timestamp", *OHLCV).write_csv(
        folder / "SPY.csv"
    )
    return folder


def _texts(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("timestamp"))


CASES: dict[str, tuple[str, Callable[[Path, float], Path]]] = {
    "files": ("{:.0f} CSV files of one symbol", lambda folder, scale: write_files(folder, round(500 * scale))),
    "table": ("one Parquet file of {:.0f} symbols", lambda folder, scale: write_table(folder, round(500 * scale))),
    "market": ("one .csv.gz of {:.0f} symbols", lambda folder, scale: write_market(folder, round(8_000 * scale))),
    "zips": ("{:.0f} Lean zips", lambda folder, scale: write_zips(folder, round(200 * scale))),
    "years": ("{:g} years of one symbol", lambda folder, scale: write_years(folder, 10 * scale)),
}
COUNTS = {"files": 500, "table": 500, "market": 8_000, "zips": 4_000, "years": 10}


def command(name: str, case: str, source: Path, out: Path) -> list[str]:
    """Command line of a contender."""
    if name in RIVALS:
        script = PROGRAM.format(module="benchmarks.job_rivals", function="main")
        return [sys.executable, "-c", script, name, case, str(source), str(out)]
    script = PROGRAM.format(module="engine.cli", function="program")
    return [sys.executable, "-c", script, "run", str(source), "--calendar", "XNYS", "--export", str(out), "--quiet"]


def run_process(arguments: Sequence[str], checkout: str = HERE) -> Taken:
    """Run a process to its end; CalledProcessError with its output when it fails."""
    with tempfile.TemporaryFile() as printed, tempfile.NamedTemporaryFile("r") as status_file:
        # Of the folder that it runs in, a process imports before that of PYTHONPATH. Modules are compiled once, as those of an installed package are, whatever the environment says of a checkout.
        compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": COMPILED}
        environment = {**os.environ, **compiled, "PYTHONPATH": checkout, "PEAK_FILE": status_file.name}
        begin = time.perf_counter()
        process = subprocess.Popen(arguments, stdout=printed, stderr=subprocess.STDOUT, env=environment, cwd=checkout)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            printed.seek(0)
            raise subprocess.CalledProcessError(process.returncode, arguments, printed.read().decode())
        peak = next(int(line.split()[1]) for line in status_file if line.startswith("VmHWM"))
    return Taken(seconds, used.ru_utime + used.ru_stime, peak / 1024)


def content(name: str, out: Path) -> pl.DataFrame:
    """What a contender made: `interval, rows, volume`, and a row `gaps` that counts inner gaps of the base."""
    if name in RIVALS:
        folds = [pl.scan_parquet(out / f"{interval}.parquet").select(pl.lit(interval).alias("interval"), "volume")
                 for interval in INTERVALS]  # fmt: skip
        gaps = pl.scan_parquet(out / "gaps.parquet")
    else:
        dataset = open_dataset(out)
        folds = [dataset.scan("bars").select("interval", "volume")]
        gaps = dataset.scan("gaps").filter(pl.col("interval") == "1m", pl.col("position") == "inner")
    bars = pl.concat(folds).group_by("interval").agg(pl.len().alias("rows").cast(pl.Int64), pl.col("volume").sum())
    counted = gaps.select(
        pl.lit("gaps").alias("interval"), pl.len().cast(pl.Int64).alias("rows"), pl.lit(0.0).alias("volume")
    )
    return pl.concat([bars, counted]).sort("interval").collect()


def take_turns(
    case: str, source: Path, contenders: dict[str, str], rounds: int, scratch: Path
) -> dict[str, list[Taken]]:
    """What every contender (name -> checkout) took per round; ValueError when what they made differs."""
    taken: dict[str, list[Taken]] = {name: [] for name in contenders}
    # A first round warms the files and checks the results.
    for number in range(rounds + 1):
        made = {}
        for name, checkout in contenders.items():
            out = scratch / f"{case}-{name}-{number}"
            one = run_process(command(name, case, source, out), checkout)
            if number:
                taken[name].append(one)
            else:
                made[name] = content(name, out)
            rmtree(out)
        for name, found in made.items():
            if not found.equals(made[ENGINE]):
                raise ValueError(f"{case}: {name} made\n{found}\n{ENGINE} made\n{made[ENGINE]}")
    return taken


def ratio(ours: Sequence[Taken], theirs: Sequence[Taken], measure: str) -> float:
    """Median over rounds of (ours / theirs) of one round."""
    return median(getattr(a, measure) / getattr(b, measure) for a, b in zip(ours, theirs, strict=True))


def report(label: str, taken: dict[str, list[Taken]]) -> None:
    """A line per contender: medians, and the engine's time over its own."""
    ours = taken[ENGINE]
    for name, runs in taken.items():
        middle = [median(getattr(one, measure) for one in runs) for measure in ("seconds", "processor", "peak_mb")]
        ratios = [ratio(ours, runs, measure) for measure in ("seconds", "processor")]
        against = "" if name == ENGINE else f"engine / {name:<6} {ratios[0]:5.2f} {ratios[1]:5.2f} cpu"
        verdict = f"target <= {TARGET} {'met' if max(ratios) <= TARGET else 'MISSED'}" if name == "duckdb" else ""
        print(
            f"{label:<36} {name:<8} {middle[0]:7.2f} s {middle[1]:7.2f} s cpu {middle[2]:7.0f} MB   "
            f"{against}  {verdict}".rstrip(),
            flush=True,
        )


def growth(scratch: Path, rounds: int) -> Iterator[str]:
    """Lines of what the engine takes at 1x, 2x and 4x, per axis."""
    axes: dict[str, Callable[[Path, int], Path]] = {
        "files": lambda folder, times: write_files(folder, 100 * times, 5),
        "symbols": lambda folder, times: write_market(folder, 1_000 * times),
        "rows": lambda folder, times: write_table(folder, 100, 5 * times),
        "sessions": lambda folder, times: write_years(folder, 2 * times),
    }
    for axis, write in axes.items():
        first = 0.0
        for times in (1, 2, 4):
            source = write(scratch / f"{axis}-{times}", times)
            runs = []
            for number in range(rounds):
                out = scratch / f"{axis}-{times}-out-{number}"
                runs.append(run_process(command(ENGINE, axis, source, out)))
                rmtree(out)
            middle = median(one.processor for one in runs)
            first = first or middle
            yield f"{axis:<10} {times}x {middle:7.2f} s cpu  {middle / first:5.2f}x  {median(one.peak_mb for one in runs):6.0f} MB"
    source, out = write_table(scratch / "revisions", 100, 5), scratch / "revisions-out"
    again = command(ENGINE, "table", source, out)  # of a new store: everything is written
    done, first = 0, 0.0
    for times in (1, 2, 4):
        while done < 10 * times:
            last = run_process(again)
            done += 1
        first = first or last.processor
        yield f"revisions  {times}x {last.processor:7.2f} s cpu  {last.processor / first:5.2f}x  of revision {done}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the lines of the chosen cases, or of growth."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.job", description="See the module's docstring.")
    parser.add_argument("--only", help="one case, or several by comma")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--growth", action="store_true", help="the engine alone at 1x, 2x, 4x")
    parser.add_argument("--also", help="checkout of another version, timed on the same files")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",") if options.only else list(CASES)
    unknown = [case for case in chosen if case not in CASES]
    if unknown:
        parser.error(f"--only: received {', '.join(unknown)}; valid: {', '.join(CASES)}")
    print(f"load {machine.load():.1f}")
    print("; ".join(f"{name} {value}" for name, value in machine.about().items()))
    contenders = {ENGINE: HERE, **({"also": options.also} if options.also else {}), **dict.fromkeys(RIVALS, HERE)}
    with tempfile.TemporaryDirectory(prefix="engine-job-") as folder:
        scratch = Path(folder)
        if options.growth:
            for line in growth(scratch, options.rounds):
                print(line, flush=True)
            return 0
        for case in chosen:
            label, write = CASES[case]
            source = write(scratch / case, options.scale)
            taken = take_turns(case, source, contenders, options.rounds, scratch)
            report(label.format(COUNTS[case] * options.scale), taken)
            rmtree(source)
    print(f"load {machine.load():.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
