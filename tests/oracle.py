"""What bars, gaps and quality must be, in plain Python over lists: slow, obvious, and without a line of the kernels.

Times are integers (microseconds since 1970, UTC). A segment is a tuple (trade date ordinal, open, close).
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass

MINUTE = 60_000_000
DAY = 86_400_000_000


@dataclass(frozen=True)
class Segment:
    day: int
    open: int
    close: int


def slots(segment: Segment, step: int) -> list[tuple[int, int]]:
    """(start, end) of each slot."""
    out, start = [], segment.open
    while start < segment.close:
        out.append((start, min(start + step, segment.close)))
        start += step
    return out


def windows(segments: list[Segment], step: int | str) -> list[tuple[int, int, list[Segment]]]:
    """(start, end, segments it lies in) of each window: intraday steps in microseconds, or "1d", "1w", "1mo"."""
    if not isinstance(step, str):
        return [(a, b, [s]) for s in segments for a, b in slots(s, step)]
    groups: dict[object, list[Segment]] = defaultdict(list)
    for segment in segments:
        groups[period(segment.day, step)].append(segment)
    return [(min(s.open for s in g), max(s.close for s in g), g) for g in groups.values()]


def period(day: int, step: str) -> object:
    date = dt.date(1970, 1, 1) + dt.timedelta(days=day)
    return {"1d": date, "1w": date.isocalendar()[:2], "1mo": (date.year, date.month)}[step]


def fold(rows: list[dict], segments: list[Segment], base: int, step: int | str) -> list[dict]:
    """Derived bars: rows are dicts of ts, open, high, low, close, volume, vwap, trades with distinct ts."""
    on_grid = {a for s in segments for a, _ in slots(s, base)}
    out = []
    for start, end, within in windows(segments, step):
        inside = lambda t: start <= t < end and any(s.open <= t < s.close for s in within)  # noqa: B023, E731
        held = sorted((r for r in rows if r["ts"] in on_grid and inside(r["ts"])), key=lambda r: r["ts"])
        if not held:
            continue
        expected = sum(1 for s in within for a, _ in slots(s, base) if inside(a))
        volume = None if all(r["volume"] is None for r in held) else sum(r["volume"] or 0 for r in held)
        covered = all(r["vwap"] is not None or not r["volume"] for r in held)
        notional = sum((r["vwap"] or 0) * (r["volume"] or 0) for r in held)
        trades = [r["trades"] for r in held if r["trades"] is not None]
        out.append({
            "ts": start, "ts_end": end,
            "open": held[0]["open"], "high": max(r["high"] for r in held),
            "low": min(r["low"] for r in held), "close": held[-1]["close"],
            "volume": volume, "vwap": notional / volume if covered and volume else None,
            "trades": sum(trades) if trades else None,
            "n_base": len(held), "n_expected": expected, "complete": len(held) == expected,
        })  # fmt: skip
    return sorted(out, key=lambda r: r["ts"])


def missing(
    stamps: set[int], segments: list[Segment], step: int, first: int, last: int
) -> list[tuple[int, int, int, str]]:
    """(start, end, slots, position) of each run of missing slots in sessions first..last."""
    alive = {s.day for s in segments for a, _ in slots(s, step) if a in stamps}
    out = []
    for segment in segments:
        if not first <= segment.day <= last:
            continue
        cut = slots(segment, step)
        there = [a in stamps for a, _ in cut]
        peers = [s for s in segments if s.day == segment.day and any(a in stamps for a, _ in slots(s, step))]
        run: list[int] = []
        for at in range(len(cut) + 1):
            if at < len(cut) and not there[at]:
                run.append(at)
                continue
            if run:
                where = "session" if segment.day not in alive else _position(run, len(cut), segment, peers)
                out.append((cut[run[0]][0], cut[run[-1]][1], len(run), where))
            run = []
    return out


def _position(run: list[int], count: int, segment: Segment, peers: list[Segment]) -> str:
    if len(run) == count:
        if segment.open < min(p.open for p in peers):
            return "leading"
        return "trailing" if segment.open > max(p.open for p in peers) else "inner"
    if run[0] == 0:
        return "leading"
    return "trailing" if run[-1] == count - 1 else "inner"
