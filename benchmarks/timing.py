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
    """A function to time: `run` is timed, its result is checked before the first round.

    With `once` (for one that takes seconds) it is timed in the first round only.
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
        Target of `ratio`: `>= 3`, `<= 1.7`, or empty.
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
    """Time each contender once per round, in turns; a first unmeasured round checks every result."""
    first: dict[str, float] = {}
    for one in contenders:
        seconds, result = seconds_and_result(one.run)
        check(one.name, result)
        first[one.name] = seconds
        del result
    times: dict[str, list[float]] = {one.name: [first[one.name]] if one.once else [] for one in contenders}
    for _ in range(rounds):
        for one in contenders:
            if not one.once:
                times[one.name].append(seconds_and_result(one.run)[0])
    return times


def measures(
    group: str, case: str, rows: int, times: dict[str, list[float]], targets: dict[str, str], against: str | None = None
) -> list[Measure]:
    """One `Measure` per contender, with ratios to the first one or to `against`."""
    reference = times[against or next(iter(times))]
    return [
        Measure(group, case, name, rows, tuple(taken), median_ratio(taken, reference), targets.get(name, ""))
        for name, taken in times.items()
    ]


def table(lines: Iterable[Measure]) -> str:
    """Report of measures as a text table."""
    head = (
        f"{'case':<34} {'contender':<34} {'rows':>11} {'median':>10} {'best':>10} {'Mrows/s':>8} {'ratio':>7}  target"
    )
    out: list[str] = []
    group = ""
    for line in lines:
        if line.group != group:
            group = line.group
            out += ["", group, head, "-" * len(head)]
        out.append(format_measure(line))
    return "\n".join(out)


def format_measure(line: Measure) -> str:
    speed = f"{line.rows / line.median / 1e6:8.1f}" if line.rows else " " * 8
    ratio = f"{line.ratio:7.2f}" if line.ratio is not None else " " * 7
    verdict = {True: "met", False: "MISSED", None: ""}[line.met]
    tail = f"{line.target} {verdict} {line.note}".strip()
    rows = f"{line.rows:>11,}" if line.rows else " " * 11
    return (
        f"{line.case:<34} {line.name:<34} {rows} {milliseconds(line.median)} {milliseconds(min(line.seconds))} {speed} {ratio}  {tail}"
    ).rstrip()


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:7.1f} ms"


def median_ratio(taken: Sequence[float], reference: Sequence[float]) -> float:
    if len(taken) != len(reference):  # timed once: against the typical round of the other
        return median(taken) / median(reference)
    return median(a / b for a, b in zip(taken, reference, strict=True))


def seconds_and_result(run: Callable[[], object]) -> tuple[float, object]:
    gc.collect()
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result
