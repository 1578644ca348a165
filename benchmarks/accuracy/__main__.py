"""Print the tables of docs/accuracy.md: `python -m benchmarks.accuracy [--quick] [--seeds 101-102] [--write]`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import polars as pl

from benchmarks.accuracy import faults, folders, made_up, simulator, situations
from benchmarks.accuracy.results import LENGTHS, LIQUIDITY, PEERS, Results, table_by, table_of_alarms, table_of_kinds

PAGE = Path(__file__).parents[2] / "docs" / "accuracy.md"
BEGIN, END = "<!-- figures: python -m benchmarks.accuracy --write -->\n", "<!-- end of figures -->"
DEVELOPMENT, PUBLISHED = range(1, 6), range(101, 102)
CAUSES = {kind: (kind,) for kind in situations.KINDS}
Job = Callable[[], Results]


def jobs(seeds: range, *, quick: bool) -> dict[str, list[Job]]:
    """What is run, by part: longest first."""
    rates = (60.0, 1.2) if quick else situations.RATES
    groups = (1, 3) if quick else situations.GROUPS
    there = folders.DATA.exists()
    minutes = folders.MINUTES[:1] if quick else folders.MINUTES
    real = minutes if there else ()
    untouched = (folders.UNTOUCHED[:6] if quick else folders.UNTOUCHED) if there else ()
    names = ("own_loss", "feed_loss", "odd_rows") if quick else tuple(situations.SITUATIONS)
    once = seeds[:2] if not quick else seeds[:1]
    return {
        "causes": [
            *(partial(situations.judged, name, seed, rates, groups) for name in names for seed in seeds),
            *(partial(folders.cut_runs, folder, seed, 1 if quick else 2) for folder in real for seed in seeds),
        ],
        "faults": [
            *(partial(made_up.with_faults, seed, rates[:1] if quick else rates) for seed in once),
            *(partial(folders.with_faults, folder, seed, 1 if quick else 3) for folder in real for seed in once[:1]),
        ],
        "untouched": [partial(folders.untouched, folder) for folder in untouched],
        "simulator": [] if quick else [partial(simulator.judged, seed) for seed in seeds],
    }  # fmt: skip


def run_all(parts: dict[str, list[Job]], workers: int) -> dict[str, Results]:
    """Results of each part; no job is a function of this module, which a worker cannot import by its name `__main__`."""
    if workers == 1:
        return {name: Results.joined([job() for job in some]) for name, some in parts.items()}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        asked = {name: [pool.submit(job) for job in some] for name, some in parts.items()}
        return {name: Results.joined([one.result() for one in some]) for name, some in asked.items()}


def report(done: dict[str, Results], seeds: range) -> str:
    """The Markdown of all tables."""
    causes, faulty, untouched = done["causes"], done["faults"], done["untouched"]
    everything = Results.joined([causes, faulty, untouched])
    at_causes = Results(causes.judged, *_alarms_of(causes, untouched, tuple(CAUSES)))
    checks = tuple(name for names in faults.KINDS.values() for name in names)
    at_faults = Results(faulty.judged, *_alarms_of(faulty, Results.joined([untouched, causes]), checks))
    real = causes.judged.filter(pl.col("source") != situations.SOURCE)
    lengths = {kind: (kind,) for kind in ("symbol_loss", "feed_loss")}
    which = f"Seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"Seed {seeds[0]}"
    blocks = [
        f"{which}. Shares in percent with their 95 % intervals (Wilson); false alarms per 1,000 symbol-sessions.",
        "### Causes of gaps",
        table_of_kinds(at_causes, CAUSES),
        "Named rightly, by the share of slots with a bar on the symbol's other days (percent named, of how many; percent `unknown`):",
        table_by(at_causes, CAUSES, "liquidity", LIQUIDITY),
        "By peers at hand (other symbols of the feed with bars in that session):",
        table_by(at_causes, CAUSES, "peers", PEERS),
        "By slots of the run:",
        table_by(at_causes, lengths, "slots", LENGTHS),
        "Of these, runs cut out of real minutes alone:" if real.height else "No real files here: the folder `../shared/data` is not beside the project.",
        *([table_by(Results(real, causes.exposed, causes.alarms.clear()), lengths, "liquidity", LIQUIDITY)] if real.height else []),
        "### Faults",
        table_of_kinds(at_faults, faults.KINDS),
        "Named rightly, by liquidity:",
        table_by(at_faults, faults.KINDS, "liquidity", LIQUIDITY),
        "By peers at hand:",
        table_by(at_faults, faults.KINDS, "peers", PEERS),
        "### False alarms",
        table_of_alarms(everything),
    ]  # fmt: skip
    if done["simulator"].judged.height:
        blocks += ["### Beside it: markets of the engine's own simulator", table_of_kinds(done["simulator"], CAUSES)]
    return "\n\n".join(blocks) + "\n"


def _alarms_of(own: Results, besides: Results, kinds: tuple[str, ...]) -> tuple[pl.DataFrame, pl.DataFrame]:
    alarms = pl.concat([own.alarms, besides.alarms]).filter(pl.col("kind").is_in(list(kinds)))
    return pl.concat([own.exposed, besides.exposed]), alarms


def failures(done: dict[str, Results]) -> str:
    """What was told wrong, most frequent first, and an example of each kind of false alarm."""
    lines = []
    for name, one in done.items():
        wrong = one.judged.filter(~pl.col("named"), pl.col("kind") != "no_trade")
        counted = wrong.group_by("source", "kind", "variant", "told").agg(pl.len(), pl.col("symbol").first(), pl.col("liquidity").mean().round(3), pl.col("peers").mean().round(1))  # fmt: skip
        lines += [
            f"{name}: {' | '.join(map(str, row))}" for row in counted.sort("len", descending=True).head(60).rows()
        ]
        for (source, kind), rows in one.alarms.group_by("source", "kind", maintain_order=True):
            lines += [f"{name} ALARM {source} {kind} x{rows.height}: {row[0]} {row[1]} {row[2]}" for row in rows.select("symbol", "session", "message").head(8).rows()]  # fmt: skip
    return "\n".join(lines)


def seeds_of(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test: one seed, few situations")
    parser.add_argument("--seeds", type=seeds_of, default=None, help=f"default {PUBLISHED[0]}-{PUBLISHED[-1]}; {DEVELOPMENT[0]}-{DEVELOPMENT[-1]} to develop with")  # fmt: skip
    parser.add_argument("--only", choices=("causes", "faults", "untouched", "simulator"))
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--failures", action="store_true", help="also print what was told wrong")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/accuracy.md")
    asked = parser.parse_args(arguments)
    seeds = asked.seeds or (DEVELOPMENT[:1] if asked.quick else PUBLISHED)
    begin = time.perf_counter()
    parts = jobs(seeds, quick=asked.quick)
    if not folders.DATA.exists():
        print(f"NO REAL FILES: {folders.DATA} is not there; all that needs them is skipped", file=sys.stderr)
    if asked.only:
        parts = {name: some if name == asked.only else [] for name, some in parts.items()}
    done = run_all(parts, asked.workers)
    text = report(done, seeds)
    print(text)
    if asked.failures:
        print(failures(done))
    if asked.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    print(f"{time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
