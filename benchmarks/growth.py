"""How cost grows with the number of symbols: seconds per million rows should stay level."""

from __future__ import annotations

from dataclasses import replace

from benchmarks import quality
from benchmarks.panel import OHLCV, build
from benchmarks.timing import Contender, Measure, measures, race
from engine.derive.bars import derive
from engine.interval import Interval

FIVE = Interval.parse("5m")


def symbols(counts: tuple[int, ...], sessions: int, rounds: int) -> list[Measure]:
    """The same sessions, ever more symbols."""
    out: list[Measure] = []
    for count in counts:
        panel = build(count, sessions)
        rows = panel.placed.select("series", "ordinal", "slot", *OHLCV)
        contenders = [
            Contender("place", lambda panel=panel: panel.grid.place(panel.raw["ts"])),
            Contender("derive 5m", lambda rows=rows, panel=panel: derive(rows, panel.grid, [FIVE])),
            Contender("gaps and quality", lambda panel=panel: quality.ours(panel)),
        ]
        times = race(contenders, rounds, lambda *_: None)
        lines = measures(f"Growth, {sessions} sessions", f"{count} symbols", panel.raw.height, times, {})
        out += [replace(one, ratio=None, note=f"{one.median / one.rows * 1e9:.1f} ms per Mrow") for one in lines]
    return out
