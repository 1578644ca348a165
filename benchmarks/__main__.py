"""Benchmarks of the kernels and the store, against other libraries on the same columns.

    python -m benchmarks [--size S|M|L] [--only GROUP] [--repeat N] [--json PATH]

Groups
------
derive   1m -> 5m from stored places and from raw timestamps, against DuckDB `time_bucket`, pandas (two ways), Polars on
         the timestamps (two ways) and NumPy `reduceat`; OHLCV alone, and with all columns of completeness.
every    5m 15m 30m 1h 1d together against 5m alone.
seconds  1s -> 1m.
gaps     gaps with their edges and quality per session, against a DuckDB `lag()` query, and against the warm decode of
         two columns from Parquet.
checks   each check of an audit's bars, against the warm decode of the columns that they read; judging the sums.
indicators  nine columns of seven indicators in one pass, against pandas; one more bar of each symbol against that pass.
growth   place, derive and scan with ever more symbols; milliseconds per million rows.
import   `import engine` against `import polars`, whole processes.
store    append, derive and assess through `SessionData`, in fresh processes: rows per second, and the peak memory of
         each step, the input included; no rival.
market   a session of a whole market by the minute: appended, derived, gaps and quality, around minute 30 and minute 380,
         against a list of bar objects per symbol, all computed again at each bar; and the same minute of a few symbols.
export   `export_session` to a new folder, against Polars writing the same frames as Parquet with as many flushes.
delta    one more minute of 1,000 symbols, written into exports of ever more sessions, the last of which was merged at its
         end, and read from them: seconds, bytes of new files, rows read; against the smallest export.
memory   peak memory of a full export beyond its store, in fresh processes; against the smallest store.
pruning  a symbol's year of 5m bars out of an export of many symbols: bytes read / bytes of the table.
sql      full scans through `engine.sql`, its child process and `engine.connect`, against DuckDB `read_parquet`.
cold     `engine sql` as a whole process, against `import duckdb`.
preflight  `engine.check` of all symbols and of one, against DuckDB and Polars counting the bars; whole processes.
audit    the audit of a Parquet table against its decode, step by step, by two workers, and its memory (`benchmarks.audit`).

Sizes
-----
====  ========================  ==================  ==================  ==============  =================  ==========
size  minutes                   seconds             growth              delta sessions  pruning            memory
====  ========================  ==================  ==================  ==============  =================  ==========
S     20 symbols x 5 sessions   2 x 2               5, 50, 500          1, 2            10 (0.2M rows)     0.1M, 0.5M
M     500 x 20 (3.9M rows)      30 x 10 (7M rows)   50, 500, 5,000      1, 10, 100      250 (4.9M rows)    5M, 50M
L     2,000 x 20 (15.6M rows)   60 x 20 (28M rows)  50, 500, 5,000      1, 10, 100      2,500 (49M rows)   5M, 50M
====  ========================  ==================  ==================  ==============  =================  ==========

The audit has 5M rows, and 50M from size M on. `minutes` is also the size of checks, indicators, export, sql and cold. Size S
has 50 symbols in delta. The market has 50, 8,000 and 8,000 symbols.

Fairness
--------
All contenders of a case run in this process and take turns; each result is compared with ours, row by row, in a warm-up
round. The ratio is the median over the rounds of (contender / first contender of the case). Rivals get what is fastest
for them (`benchmarks.rivals`): integer keys, stamps without a zone, a constant origin, no order asked of the result,
data in memory in their own format. DuckDB also runs `as exported`, on text symbols and UTC stamps. The engine checks that
its rows are sorted and always computes every column of `bars.DERIVED`, so in the case `OHLCV` it computes more than others. Data is synthetic and seeded (`benchmarks.panel`).

A target that is missed is printed as such, and changes nothing about the exit code. Size S is a smoke test: fixed costs
of a few milliseconds outweigh its rows, so it is not held to targets.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from benchmarks import (
    audit,
    checks,
    derive,
    export,
    growth,
    imports,
    indicators,
    machine,
    market,
    memory,
    preflight,
    quality,
    store,
)
from benchmarks.panel import Panel, build
from benchmarks.timing import Measure, table


@dataclass(frozen=True)
class Size:
    """Size of the data of each group: (symbols, sessions); numbers of symbols; delta: symbols, and numbers of sessions."""

    minutes: tuple[int, int]
    seconds: tuple[int, int]
    growth: tuple[int, ...]
    delta: tuple[int, tuple[int, ...]]
    pruning: int
    memory: tuple[int, ...]
    market: int
    audit: tuple[int, ...]


SIZES = {
    "S": Size((20, 5), (2, 2), (5, 50, 500), (50, (1, 2)), 10, (100_000, 500_000), 50, (5_000_000,)),
    "M": Size(
        (500, 20),
        (30, 10),
        (50, 500, 5000),
        (1000, (1, 10, 100)),
        250,
        (5_000_000, 50_000_000),
        8000,
        (5_000_000, 50_000_000),
    ),
    "L": Size(
        (2000, 20),
        (60, 20),
        (50, 500, 5000),
        (1000, (1, 10, 100)),
        2500,
        (5_000_000, 50_000_000),
        8000,
        (5_000_000, 50_000_000),
    ),
}
GROWTH_SESSIONS = 4
FIXED_STEPS = 30


@dataclass
class Bench:
    """One run: size, rounds, scratch folder, and the panel and the export that several groups share."""

    size: Size
    rounds: int
    scratch: Path

    @cached_property
    def panel(self) -> Panel:
        return build(*self.size.minutes)

    @cached_property
    def exported(self) -> export.Exported:
        return export.Exported.of(self.panel, self.scratch)


GROUPS: dict[str, Callable[[Bench], list[Measure]]] = {
    "derive": lambda b: derive.one_target(b.panel, b.rounds),
    "every": lambda b: derive.every_target(b.panel, b.rounds),
    "gaps": lambda b: quality.scan(b.panel, b.rounds),
    "checks": lambda b: checks.shares(b.panel, b.rounds),
    "indicators": lambda b: [*indicators.whole(b.panel, min(b.rounds, 3)), *indicators.one_more(b.panel, b.rounds)],
    "seconds": lambda b: derive.seconds(*b.size.seconds, b.rounds),
    "growth": lambda b: growth.by_symbols(b.size.growth, GROWTH_SESSIONS, b.rounds),
    "import": lambda b: imports.start(b.rounds),
    "store": lambda b: store.whole_run(*b.size.minutes, min(b.rounds, 3)),
    "market": lambda b: [*market.whole_market(b.size.market), *market.fixed_cost(FIXED_STEPS)],
    "export": lambda b: export.written(b.exported, min(b.rounds, 3)),
    "delta": lambda b: export.delta(*b.size.delta, b.scratch, b.rounds),
    "memory": lambda b: memory.exports(b.size.memory),
    "pruning": lambda b: export.pruning(b.size.pruning, b.scratch, b.rounds),
    "sql": lambda b: export.sql(b.exported, b.rounds),
    "cold": lambda b: export.cold(b.exported),
    "preflight": lambda b: preflight.everything(b.exported.first[0].target, b.rounds),
    "audit": lambda b: [
        line for rows in b.size.audit for lines in audit.everything(rows, b.scratch, min(b.rounds, 3)) for line in lines
    ],
}


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen groups, print and write their report; 0 when done, also where a target was missed."""
    options = build_parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="engine-bench-") as scratch:
        return run_groups(options, Bench(SIZES[options.size], options.repeat, Path(scratch)))


def run_groups(options: argparse.Namespace, bench: Bench) -> int:
    before, begin = machine.load(), time.perf_counter()
    lines: list[Measure] = []
    for name in [options.only] if options.only else GROUPS:
        measures = (
            GROUPS[name](bench) if options.size != "S" else [replace(one, target="") for one in GROUPS[name](bench)]
        )
        print(table(measures), flush=True)
        lines += measures
    taken = time.perf_counter() - begin
    print(
        f"\n{taken:.0f} s; load {before:.1f} at the start, {machine.load():.1f} at the end",
        summarize_targets(lines),
        sep="\n",
    )
    write_report(Path(options.json), {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "size": options.size, "repeat": options.repeat,
        "sizes": vars(bench.size), "load": [before, machine.load()], "seconds": taken,
        "about": machine.about(), "results": [line.as_json() for line in lines],
    })  # fmt: skip
    return 0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="See the docstring of benchmarks/__main__.py."
    )
    parser.add_argument("--size", choices=SIZES, default="M")
    parser.add_argument("--only", choices=GROUPS, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="rounds (default 5)")
    parser.add_argument("--json", default="out/bench.json", metavar="PATH")
    return parser


def summarize_targets(lines: list[Measure]) -> str:
    judged = [line for line in lines if line.met is not None]
    missed = [
        f"{line.group}: {line.case}, {line.name} {line.ratio:.2f} (wanted {line.target})"
        for line in judged
        if not line.met
    ]
    return "\n".join([f"{len(judged) - len(missed)} of {len(judged)} targets met", *missed])


def write_report(path: Path, report: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, default=str) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
