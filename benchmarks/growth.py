"""Cost of placing, deriving and scanning by number of symbols: milliseconds per million rows should not grow."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from engine.derive.bars import derive
from engine.interval import Interval

from benchmarks import quality
from benchmarks.panel import OHLCV, build
from benchmarks.timing import Contender, Measure, measures, race

FIVE = Interval.parse("5m")


def by_symbols(counts: tuple[int, ...], sessions: int, rounds: int) -> list[Measure]:
    """Measure the same sessions with each number of symbols."""
    out: list[Measure] = []
    for count in counts:
        panel = build(count, sessions)
        rows = panel.placed.select("series", "ordinal", "slot", *OHLCV)
        contenders = [
            Contender("place", partial(panel.grid.place, panel.raw["ts"])),
            Contender("derive 5m", partial(derive, rows, panel.grid, [FIVE])),
            Contender("gaps and quality", partial(quality.ours, panel)),
        ]
        times = race(contenders, rounds, lambda *_: None)
        lines = measures(f"Growth, {sessions} sessions", f"{count} symbols", panel.raw.height, times, {})
        out += [replace(one, ratio=None, note=f"{one.median / one.rows * 1e9:.1f} ms per Mrow") for one in lines]
    return out
