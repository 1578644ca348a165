"""Reading: files of bars into conformed rows, against Polars parsing the same bytes with the types given.

    python -m benchmarks.reading [--files N] [--rounds N] [--only CASE] [--also CHECKOUT]

Each figure is the median of rounds of fresh processes that take turns: the engine, the engine of another checkout
(`--also`, an earlier version on the same files), and Polars (`read_csv` with a schema that includes the stamps'
type, `read_parquet`). Ratios are to Polars in the same round, by the clock and by processor time. Data is synthetic.

Cases
-----
csv      files of 7,700 rows (100; the ratio of 500 is the same).
small    ten times as many files of 390 rows; milliseconds per file.
lean     zips of QuantConnect Lean with 390 rows; milliseconds per file.
parquet  one file of 3.9M rows and 500 symbols, read and placed in a store; against decode and the same placing.
symbols  one CSV of 1,000 to 8,000 symbols, read and placed; milliseconds per symbol.
rows, columns, many   a CSV with 1x, 2x, 4x of rows or of idle columns, and files of 390 rows; growth against 1x.
memory   peak memory while a CSV of 25 MB is read, less its rows; bytes per byte of the file.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import polars as pl

OPEN = dt.datetime(2024, 1, 2, 14, 30)  # noqa: DTZ001  # UTC, as text without a zone
TYPES = {"timestamp": pl.Datetime("us"), **dict.fromkeys(("open", "high", "low", "close", "volume"), pl.Float64)}
RETURN_AT_ONCE = {"_RJEM_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0"}  # freed memory is no peak
SESSION_ROWS = 390
MIB = 1 << 20
Figures = dict[str, float]


def bars(rows: int, symbols: Sequence[str] = (), stamps: str | None = "%Y-%m-%dT%H:%M:%SZ") -> pl.DataFrame:
    """One-minute bars of sessions of 390 minutes; with a column `symbol` if there are any; stamps as text or typed."""
    minutes = pl.int_range(rows, eager=True)
    day, minute = minutes // SESSION_ROWS, minutes % SESSION_ROWS
    ts = (day // 5 * 7 + day % 5).cast(pl.Duration("us")) * 0 + pl.select(
        pl.duration(days=pl.lit(day // 5 * 7 + day % 5), minutes=pl.lit(minute))
    ).to_series()
    frame = pl.DataFrame({"timestamp": ts + OPEN}).with_columns(
        (100 + 3 * (pl.int_range(rows) * 0.37).sin() + pl.int_range(rows) % 89 / 50).round(2).alias("open")
    )
    frame = frame.with_columns(
        (pl.col("open") + 0.11).round(2).alias("high"),
        (pl.col("open") - 0.12).round(2).alias("low"),
        (pl.col("open") + 0.03).round(2).alias("close"),
        (pl.int_range(rows) * 7919 % 9_000 + 100).alias("volume"),
    )
    if stamps is not None:
        frame = frame.with_columns(pl.col("timestamp").dt.strftime(stamps))
    return pl.concat([frame.select(pl.lit(name).alias("symbol"), pl.all()) for name in symbols]) if symbols else frame


def write_files(folder: Path, count: int, rows: int) -> Path:
    folder.mkdir()
    text = bars(rows).write_csv().encode()
    for at in range(count):  # another volume in the first row, so that no two files are equal
        head, first, rest = text.split(b"\n", 2)
        Path(folder, f"S{at:05}.csv").write_bytes(b"\n".join([head, first + str(at).encode(), rest]))
    return folder


def write_lean(folder: Path, count: int) -> Path:
    base = bars(SESSION_ROWS, stamps=None).select(
        (pl.col("timestamp") - OPEN).dt.total_milliseconds() + 34_200_000,
        *((pl.col(name) * 10_000).round().cast(pl.Int64) for name in ("open", "high", "low", "close")),
        "volume",
    )
    text = base.write_csv(include_header=False)
    for at in range(count):
        name = f"s{at % 50:02}"
        day = (OPEN + dt.timedelta(days=at // 50)).strftime("%Y%m%d")
        path = Path(folder, "equity", "usa", "minute", name, f"{day}_trade.zip")
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{day}_{name}_minute_trade.csv", text)
    return folder


def write_csv(folder: Path, rows: int, symbols: int = 0, idle: int = 0) -> Path:
    folder.mkdir()
    names = [f"S{at:05}" for at in range(symbols)]
    frame = bars(rows, names).with_columns(pl.col("open").alias(f"idle{at}") for at in range(idle))
    frame.write_csv(Path(folder, "bars_1m.csv" if symbols else "SPY_1m.csv"))
    return folder


def write_parquet(folder: Path, rows: int, symbols: int) -> Path:
    folder.mkdir()
    names = [f"S{at:05}" for at in range(symbols)]
    frame = bars(rows, names, None).with_columns(pl.col("timestamp").dt.replace_time_zone("UTC"))
    frame.write_parquet(Path(folder, "bars.parquet"))
    return folder


def read_with_polars(folder: Path) -> int:
    """Rows of all files of a folder, parsed by Polars with types given."""
    rows = 0
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".csv":
            with path.open() as file:
                names = file.readline().strip().split(",")
            schema = {name: TYPES.get(name, pl.String() if name == "symbol" else pl.Float64()) for name in names}
            rows += pl.read_csv(path, schema=schema).height
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                data = archive.read(archive.namelist()[0])
            schema = {str(at): pl.Int64() for at in range(6)}
            rows += pl.read_csv(data, has_header=False, schema=schema).height
        elif path.suffix == ".parquet":
            rows += pl.read_parquet(path).height
    return rows


def measure(who: str, case: str, folder: Path) -> Figures:
    """Figures of one contender on one folder, in this process: seconds, processor seconds, peak bytes beyond the rows."""
    # Of the checkout that PYTHONPATH names.
    from engine.runtime.load import read_files, store_contents  # noqa: PLC0415  # the parent does not need it
    from engine.runtime.options import CalendarMap, LoadOptions  # noqa: PLC0415  # the parent does not need it

    from_store = case in ("parquet", "symbols")
    options = LoadOptions(calendars=CalendarMap("XNYS"))
    begin_files = sorted(path for path in folder.rglob("*") if path.is_file())
    warm = tempfile.mkdtemp(prefix="engine-warm-")
    read_files([write_csv(Path(warm, "warm"), 100)], options)  # what is imported and compiled once
    if who == "polars" or case != "parquet":
        read_with_polars(Path(warm, "warm"))
    contents = read_files([folder], options) if who == "polars" and from_store else None
    held = _resident()
    Path("/proc/self/clear_refs").write_text("5")
    begin, worked = time.perf_counter(), time.process_time()
    if who == "polars":
        rows, frames = read_with_polars(folder), 0
        if contents is not None:
            store_contents(contents, options)
    else:
        contents = read_files([folder], options)
        if from_store:
            store_contents(contents, options)
        rows = sum(frame.height for group in contents.groups for frame in group.frames)
        frames = sum(int(frame.estimated_size()) for group in contents.groups for frame in group.frames)
    seconds, processor = time.perf_counter() - begin, time.process_time() - worked
    peak = _field("VmHWM") - held - frames
    size = sum(path.stat().st_size for path in begin_files)
    return {"rows": rows, "seconds": seconds, "processor": processor, "peak": peak / size, "files": len(begin_files)}


def _field(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _resident() -> int:
    return _field("VmRSS")


def take_turns(case: str, folder: Path, contenders: dict[str, str], rounds: int) -> dict[str, list[Figures]]:
    """Figures of every contender (name -> checkout) per round, each in a fresh process."""
    figures: dict[str, list[Figures]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, checkout in contenders.items():
            who = "polars" if name == "polars" else "engine"
            command = [sys.executable, str(Path(__file__)), "--child", who, case, str(folder)]
            environment = {**os.environ, "PYTHONPATH": checkout, **(RETURN_AT_ONCE if case == "memory" else {})}
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            figures[name].append(json.loads(done.stdout.splitlines()[-1]))
    counted = {one["rows"] for taken in figures.values() for one in taken}
    if len(counted) > 1:
        raise ValueError(f"{case}: contenders read {counted} rows")
    return figures


def report(case: str, label: str, figures: dict[str, list[Figures]], target: str = "") -> None:
    """Print a line per contender: medians, ratios to Polars by clock and by processor time, per file and per row."""
    for name, taken in figures.items():
        middle = {key: median(one[key] for one in taken) for key in taken[0]}
        ratios = [
            median(one[key] / other[key] for one, other in zip(taken, figures["polars"], strict=True))
            for key in ("seconds", "processor")
        ]
        print(
            f"{case:<8} {label:<26} {name:<8} {middle['rows']:>10,.0f} rows {middle['seconds']:8.3f} s "
            f"{middle['processor']:8.3f} s cpu  ratio {ratios[0]:6.2f} {ratios[1]:6.2f} cpu  "
            f"{1e3 * middle['processor'] / middle['files']:8.2f} ms/file  "
            f"{1e9 * middle['processor'] / middle['rows']:8.0f} ns/row  peak {middle['peak']:6.2f} B/B"
            f"{'' if name != 'engine' else '  ' + target}",
            flush=True,
        )


def cases(scratch: Path, files: int) -> dict[str, Callable[[], list[tuple[str, Path, str]]]]:
    """Case -> function that writes its folders and returns (label, folder, target) of each."""
    return {
        "csv": lambda: [(f"{files} x 7,700 rows", write_files(scratch / "csv", files, 7_700), "target 1.5 cpu")],
        "small": lambda: [
            (f"{files * 10} x 390 rows", write_files(scratch / "small", files * 10, 390), "target 4 ms/file")
        ],
        "lean": lambda: [(f"{files * 5} zips", write_lean(scratch / "lean", files * 5), "target 4 ms/file")],
        "parquet": lambda: [
            ("500 symbols, placed", write_parquet(scratch / "parquet", 78 * files, 500), "target 3 cpu")
        ],
        "symbols": lambda: [
            (f"{count} symbols", write_csv(scratch / f"symbols{count}", 60, symbols=count), "linear")
            for count in (1_000, 2_000, 4_000, 8_000)
        ],
        "rows": lambda: [
            (f"{times}x rows", write_csv(scratch / f"rows{times}", 100_000 * times), "linear") for times in (1, 2, 4)
        ],
        "columns": lambda: [
            (f"{times}x columns", write_csv(scratch / f"columns{times}", 50_000, idle=6 * (times - 1)), "linear")
            for times in (1, 2, 4)
        ],
        "many": lambda: [
            (f"{times}x files", write_files(scratch / f"many{times}", files * times, 390), "linear")
            for times in (1, 2, 4)
        ],
        "memory": lambda: [("25 MB", write_csv(scratch / "memory", 500_000), "target 4 B/B")],
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the cases and print their lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reading", description="See the module's docstring.")
    parser.add_argument("--files", type=int, default=100, help="files of 7,700 rows; other sizes follow")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="one case, or several by comma")
    parser.add_argument("--also", help="checkout of another version, timed on the same files")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        who, case, folder = options.child
        print(json.dumps(measure(who, case, Path(folder))))
        return 0
    here = str(Path(__file__).resolve().parents[1])
    contenders = {"engine": here, **({"also": options.also} if options.also else {}), "polars": here}
    with tempfile.TemporaryDirectory(prefix="engine-reading-") as scratch:
        for case, write in cases(Path(scratch), options.files).items():
            if options.only is None or case in options.only.split(","):
                for label, folder, target in write():
                    report(case, label, take_turns(case, folder, contenders, options.rounds), target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
