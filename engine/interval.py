"""Specifications of bars: intervals of time (the one parser, how they nest, the parent of each fold), and activity.

An `Interval` is a count of seconds, minutes or hours below one day, or of days, weeks, months or one year. Days, weeks,
months and years are periods of trade dates, not of hours (`grid.period_numbers` has their origins).

A `BarSpec` names how bars are closed: after an `Interval`, or by activity (so many ticks, so much volume, ...).
Bars of an interval have slots on the session grid, hence gaps and completeness; bars closed by activity have none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, total_ordering
from typing import Literal, TypeAlias, cast, get_args

from engine.arguments import describe_value
from engine.errors import IntervalError, ParameterError

US_PER_SECOND = 1_000_000
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "mo": 31 * 86_400, "y": 12 * 31 * 86_400}
PERIOD_UNITS = ("d", "w", "mo", "y")
PERIOD_COUNTS: Mapping[str, tuple[int, ...]] = {
    "d": tuple(range(1, 101)), "w": tuple(range(1, 14)), "mo": (1, 2, 3, 4, 6, 12), "y": (1,),
}  # fmt: skip
VALID = "a whole number and s, m or h below one day (30s, 1m, 7m, 4h), or 1d to 100d, 1w to 13w, 1mo, 2mo, 3mo, 4mo, 6mo, 1y"

Aggregation = Literal["time", "tick", "volume", "dollar", "imbalance", "run", "range", "renko"]

_TEXT = re.compile(r"([0-9]{1,6})(s|m|h|d|w|mo|y)")
_ACTIVITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)-([a-z]+)")


@total_ordering
@dataclass(frozen=True)
class Interval:
    """A bar's length, in its shortest spelling (`Interval.parse("60m")` is `1h`).

    Attributes
    ----------
    count : int
        How many units.
    unit : str
        `s`, `m`, `h`, `d`, `w`, `mo` or `y`.
    """

    count: int
    unit: str

    def __post_init__(self) -> None:
        is_unit = isinstance(self.unit, str) and self.unit in SECONDS
        if type(self.count) is not int or self.count < 1 or not is_unit:
            received = f"{describe_value(self.count)} and {describe_value(self.unit)}"
            raise IntervalError(f"interval: received {received}; valid: {VALID}")

    @classmethod
    def parse(cls, text: str | Interval) -> Interval:
        """Interval from text in its shortest spelling (`60m` is `1h`, `12mo` is `1y`), or as it is; IntervalError.

        Raises
        ------
        IntervalError
            The text is none; the message says what is valid.
        """
        if isinstance(text, Interval):
            return text
        if not isinstance(text, str):
            raise IntervalError(f"interval: received {text!r}; valid: {VALID}{spelling_hint(text)}")
        return _interval_of_text(text)

    @classmethod
    def of_seconds(cls, seconds: int, text: object = None) -> Interval:
        """Intraday interval in its largest whole unit; IntervalError (naming `text`) unless 0 < seconds < 1 day."""
        shown = text if text is not None else f"{seconds}s"
        if not 0 < seconds < SECONDS["d"]:
            raise IntervalError(f"interval: received {shown!r}, which is not between 1s and one day; valid: {VALID}")
        unit = next(u for u in ("h", "m", "s") if seconds % SECONDS[u] == 0)
        return cls(seconds // SECONDS[unit], unit)

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    def __lt__(self, other: Interval) -> bool:
        return (self.seconds, self.count) < (other.seconds, other.count)

    @property
    def is_intraday(self) -> bool:
        """True of s, m and h (below one day, cut by time); False of days, weeks, months and years."""
        return self.unit not in PERIOD_UNITS

    @property
    def seconds(self) -> int:
        """Nominal length in seconds (1mo: 31 days, 1y: 372); intervals sort by it."""
        return self.count * SECONDS[self.unit]

    @property
    def step_us(self) -> int:
        """Length in microseconds; IntervalError for days, weeks, months and years.

        Raises
        ------
        IntervalError
            The interval is a number of days, weeks or months, which has no fixed length.
        """
        if not self.is_intraday:
            raise IntervalError(f"interval: {self} is a period of trade dates, it has no fixed step")
        return self.seconds * US_PER_SECOND

    def nests_in(self, coarser: Interval) -> bool:
        """Whether bars of this make `coarser`: an intraday multiple; any intraday and 1d in a period; 2w in 4w, 1mo in 3mo, 1y."""
        if self == coarser:
            return True
        if coarser.is_intraday:
            return self.is_intraday and coarser.seconds % self.seconds == 0
        if self.is_intraday or self == Interval(1, "d"):
            return True
        if self.in_months and coarser.in_months:
            return coarser.in_months % self.in_months == 0
        return self.unit == coarser.unit and coarser.count % self.count == 0

    @property
    def in_months(self) -> int:
        """Number of months of months and years; 0 of all other units."""
        return self.count * {"mo": 1, "y": 12}.get(self.unit, 0)


@lru_cache(maxsize=1024)
def _interval_of_text(text: str) -> Interval:
    # Every symbol names its intervals again, and an interval never changes.
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise IntervalError(f"interval: received {text!r}; valid: {VALID}{spelling_hint(text)}")
    count, unit = int(match[1]), match[2]
    if unit in PERIOD_UNITS:
        if count not in PERIOD_COUNTS[unit]:
            raise IntervalError(f"interval: received {text!r}; valid: {VALID}")
        return Interval(1, "y") if (count, unit) == (12, "mo") else Interval(count, unit)
    return Interval.of_seconds(count * SECONDS[unit], text)


@dataclass(frozen=True)
class BarSpec:
    """Rule that closes bars: a length of time (`BarSpec.parse("5m")`) or an activity (`BarSpec.parse("1000-tick")`).

    Attributes
    ----------
    step : Interval or float
        Of time bars their interval; of the others the amount that closes a bar, above 0: ticks, volume, value in the
        currency (`dollar`), signed imbalance, length of a run of one sign, or points of price (`range`, `renko`).
    aggregation : {"time", "tick", "volume", "dollar", "imbalance", "run", "range", "renko"}
        The unit of the step.

    Raises
    ------
    ParameterError
        The step does not fit the aggregation.
    """

    step: Interval | float
    aggregation: Aggregation = "time"

    def __post_init__(self) -> None:
        if self.aggregation not in get_args(Aggregation):
            valid = ", ".join(get_args(Aggregation))
            raise ParameterError(f"aggregation: received {self.aggregation!r}; valid: {valid}")
        if (self.aggregation == "time") != isinstance(self.step, Interval):
            valid = "an Interval" if self.aggregation == "time" else "a number"
            raise ParameterError(f"step: received {self.step!r}; valid of {self.aggregation} bars: {valid}")
        if not isinstance(self.step, Interval) and not 0 < self.step < float("inf"):
            raise ParameterError(f"step: received {self.step!r}; valid: a number above 0")

    @classmethod
    def parse(cls, text: str | Interval | BarSpec) -> BarSpec:
        """BarSpec from `5m` or `1000-tick`, or as it is; IntervalError for other text, ParameterError for a bad amount.

        Raises
        ------
        IntervalError
            The text is neither.
        ParameterError
            The amount is 0, or there is no such aggregation.
        """
        if isinstance(text, BarSpec):
            return text
        activity = _ACTIVITY.fullmatch(text.strip()) if isinstance(text, str) else None
        if activity is None:
            return cls(Interval.parse(text))
        return cls(float(activity[1]), cast("Aggregation", activity[2]))

    def __str__(self) -> str:
        return str(self.step) if isinstance(self.step, Interval) else f"{self.step:.15g}-{self.aggregation}"

    @property
    def has_slots(self) -> bool:
        """Whether bars lie in grid slots, so that some can be missing: True of time bars, False of activity bars."""
        return self.aggregation == "time"

    @property
    def interval(self) -> Interval:
        """Interval of time bars; IntervalError for bars closed by activity.

        Raises
        ------
        IntervalError
            The bars are closed by activity, so they have no length of time.
        """
        if not isinstance(self.step, Interval):
            raise IntervalError(f"interval: bars of {self} are closed by activity, they have no interval")
        return self.step


Intervals: TypeAlias = str | Interval | Iterable[str | Interval]


def intervals_of(parameter: str, value: Intervals | None, least: int = 1) -> tuple[Interval, ...] | None:
    """Intervals of text or an Interval (one), or of a list of them (several); None for None; IntervalError for the rest.

    Parameters
    ----------
    parameter : str
        What the error calls it.
    value : str, Interval, iterable of them, or None
    least : int
        With 1 an empty list is refused, which would select nothing.

    Raises
    ------
    IntervalError
        The text is none, the value is no list, or it has fewer than `least`.
    """
    if value is None:
        return None
    if isinstance(value, str | Interval):
        return (Interval.parse(value),)
    found = (
        tuple(Interval.parse(one) for one in value)
        if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes)
        else None
    )
    if found is None or len(found) < least:
        raise IntervalError(f"{parameter}: received {describe_value(value)}; valid: one or several of {VALID}")
    return tuple(sorted(found)) if isinstance(value, set | frozenset) else found


def check_known_intervals(parameter: str, intervals: Iterable[Interval], known: Iterable[Interval], whose: str) -> None:
    """Raise IntervalError where an interval is not known, with the nearest known length, all of them, and the remedy."""
    valid = sorted(set(known))
    unknown = [one for one in intervals if one not in valid]
    if unknown:
        near = min(valid, key=lambda one: abs(math.log(one.seconds / unknown[0].seconds)), default=None)
        hint = "" if near is None else f" (the nearest is {near})"
        raise IntervalError(
            f"{parameter}: received {', '.join(repr(str(one)) for one in unknown)}{hint}; {whose} has "
            f"{', '.join(map(str, valid)) or 'none'}; derive another one when loading: derive=[{str(unknown[0])!r}], or "
            f"--derive {unknown[0]}"
        )


LADDER = tuple(Interval.parse(text) for text in ("1s", "1m", "5m", "15m", "30m", "1h", "1d", "1w"))


def fold_parent(base: Interval, target: Interval) -> Interval:
    """Coarsest `LADDER` step made of base that makes target, else `base`; IntervalError if target is not derivable.

    A pure function of the two, so that no result depends on what else was asked for.

    Raises
    ------
    IntervalError
        `target` is not coarser than `base`, or not made of whole bars of it.
    """
    check_derivable(base, target)
    steps = [s for s in LADDER if s < target and base.nests_in(s) and s.nests_in(target)]
    return max([base, *(s for s in steps if base < s)])


def plan_folds(base: Interval, targets: Iterable[Interval]) -> list[tuple[Interval, Interval]]:
    """(parent, child) folds, finest child first, that make all targets but `base` over ladder steps, each once."""
    folds: dict[Interval, Interval] = {}
    pending = sorted(set(targets), reverse=True)
    while pending:
        child = pending.pop()
        if child == base or child in folds:
            continue
        folds[child] = fold_parent(base, child)
        pending.append(folds[child])
    return [(above, child) for child, above in sorted(folds.items())]


def check_derivable(base: Interval, target: Interval) -> None:
    """Raise IntervalError unless `target` is coarser than `base` and made of whole bars of it."""
    if target <= base:
        raise IntervalError(f"derive: {target} is not coarser than the base interval {base}")
    if not base.nests_in(target):
        raise IntervalError(
            f"derive: {target} is not a whole number of {base} bars; valid: multiples of {base}, or days, weeks, months, 1y"
        )


def spelling_hint(text: object) -> str:
    """Text `; did you mean 5m?` for `5min`, `daily` and the like (count 1 by default); empty where that is no interval."""
    if not isinstance(text, str):
        return ""
    word = re.fullmatch(r"\s*([0-9]*)\s*([A-Za-z]+)\s*", text)
    if word is None:
        return ""
    units = {
        "m": "min minute t",
        "s": "sec second",
        "h": "hour hr",
        "d": "day daily",
        "w": "week",
        "mo": "month mon",
        "y": "yr year",
    }
    spelled = {word: unit for unit, words in units.items() for word in words.split()}
    name = word[2]
    unit = "mo" if name == "M" else spelled.get(name.lower().removesuffix("s") or "s", name.lower())
    meant = f"{word[1] or '1'}{unit}"
    if unit not in SECONDS or not _TEXT.fullmatch(meant):
        return ""
    try:
        Interval.parse(meant)
    except IntervalError:
        return ""
    either = " (or 1m for a minute)" if name == "M" else ""
    return f"; did you mean {meant}{either}?"
