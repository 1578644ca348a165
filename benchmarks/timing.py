"""Paired timing: contenders take turns A B C A B C ..., so that a slow moment of the machine hits all of them.

A ratio is the median of the ratios of one round, never the ratio of two medians of different moments.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median


@dataclass(frozen=True)
class Contender:
    """Somebody who does the job: `run` is timed, what it returns is checked by `check` before the first round.

    `once` marks one that takes seconds: it is timed in the first round only.
    """

    name: str
    run: Callable[[], object]
    once: bool = False


@dataclass(frozen=True)
class Measure:
    """One line of the report.

    Attributes
    ----------
    ratio : float or None
        Median over the rounds of this contender's time divided by the reference's (the first contender's).
    target : str
        What `ratio` should be: `>= 3`, `<= 1.7`, or empty.
    """

    group: str
    case: str
    name: str
    rows: int
    seconds: tuple[float, ...]
    ratio: float | None = None
    target: str = ""
    note: str = ""

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if not self.target or self.ratio is None:
            return None
        sign, bound = self.target.split()
        return self.ratio >= float(bound) if sign == ">=" else self.ratio <= float(bound)

    def as_json(self) -> dict[str, object]:
        best = {"median_seconds": self.median, "best_seconds": min(self.seconds), "met": self.met}
        return {**asdict(self), **best}


def race(contenders: Sequence[Contender], rounds: int, check: Callable[[str, object], None]) -> dict[str, list[float]]:
    """Times of each contender, one per round; every result is checked once, unmeasured, as the warm-up."""
    first: dict[str, float] = {}
    for one in contenders:
        seconds, result = _timed(one.run)
        check(one.name, result)
        first[one.name] = seconds
        del result
    times: dict[str, list[float]] = {one.name: [first[one.name]] if one.once else [] for one in contenders}
    for _ in range(rounds):
        for one in contenders:
            if not one.once:
                times[one.name].append(_timed(one.run)[0])
    return times


def measures(
    group: str, case: str, rows: int, times: dict[str, list[float]], targets: dict[str, str], against: str | None = None
) -> list[Measure]:
    """A line per contender; ratios against the first one, or the one named."""
    reference = times[against or next(iter(times))]
    return [
        Measure(group, case, name, rows, tuple(taken), _ratio(taken, reference), targets.get(name, ""))
        for name, taken in times.items()
    ]


def table(lines: Iterable[Measure]) -> str:
    """The report as text."""
    head = (
        f"{'case':<34} {'contender':<34} {'rows':>11} {'median':>10} {'best':>10} {'Mrows/s':>8} {'ratio':>7}  target"
    )
    out: list[str] = []
    group = ""
    for line in lines:
        if line.group != group:
            group = line.group
            out += ["", group, head, "-" * len(head)]
        out.append(_shown(line))
    return "\n".join(out)


def _shown(line: Measure) -> str:
    speed = f"{line.rows / line.median / 1e6:8.1f}" if line.rows else " " * 8
    ratio = f"{line.ratio:7.2f}" if line.ratio is not None else " " * 7
    verdict = {True: "met", False: "MISSED", None: ""}[line.met]
    tail = f"{line.target} {verdict} {line.note}".strip()
    rows = f"{line.rows:>11,}" if line.rows else " " * 11
    return (
        f"{line.case:<34} {line.name:<34} {rows} {_ms(line.median)} {_ms(min(line.seconds))} {speed} {ratio}  {tail}"
    ).rstrip()


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:7.1f} ms"


def _ratio(taken: Sequence[float], reference: Sequence[float]) -> float:
    if len(taken) != len(reference):  # timed once: against the typical round of the other
        return median(taken) / median(reference)
    return median(a / b for a, b in zip(taken, reference, strict=True))


def _timed(run: Callable[[], object]) -> tuple[float, object]:
    gc.collect()
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result
