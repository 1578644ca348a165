"""What of a symbol is streamed and what is derived: a pure function of what is asked and what the source has.

`sources.resolution.base_of` chooses the base, as it does for `run` and `audit`: 1m, or what something finer can be made of (1s
for 30s). Bars that the base can be folded to are derived, the others are refused with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.errors import ParameterError
from engine.interval import Interval
from engine.runtime.config import SessionConfig
from engine.schema import Kind
from engine.sources.resolution import base_of, interval_of_prints, serves
from engine.sources.streams.contract import Resolution, Subscription


@dataclass(frozen=True)
class Asked:
    """What a configuration asks of one symbol.

    Attributes
    ----------
    bars : Interval or None
        The base that is asked for by name; None leaves the choice.
    derived : tuple of Interval
        Everything that must be there as bars, with whom it is for.
    quotes, ticks : bool
    """

    bars: Interval | None
    derived: Mapping[Interval, str]
    quotes: bool = False
    ticks: bool = False

    @classmethod
    def of(cls, config: SessionConfig, symbol: str) -> Asked:
        """What a configuration asks of a symbol: its derived intervals, and those that its history and indicators need."""
        derived = {Interval.parse(text): "derive" for text in config.derive}
        for history in config.history_of(symbol):
            for text in history.intervals:
                derived.setdefault(Interval.parse(text), f"history of {history.sessions} sessions")
        for indicator in config.indicators_of(symbol):
            for text in indicator.intervals:
                derived.setdefault(Interval.parse(text), f"indicator {indicator.use}")
        bars = config.streams.bars
        base = None if bars in ("auto", "none") else Interval.parse(bars)
        return cls(base, derived, config.streams.quotes, config.streams.ticks)


@dataclass(frozen=True)
class Marking:
    """What is streamed and derived for one symbol, and why.

    Attributes
    ----------
    symbol : str
    base : Interval
    base_from : {"bars", "ticks", "quotes"}
    streams : tuple of Subscription
    derived : tuple of Interval
    refused : mapping of Interval to str
        What cannot be had, with the reason.
    why : str
    """

    symbol: str
    base: Interval
    base_from: Kind
    streams: tuple[Subscription, ...]
    derived: tuple[Interval, ...]
    refused: Mapping[Interval, str]
    why: str


def mark(symbol: str, asked: Asked, offered: Iterable[Resolution]) -> Marking:
    """Choose the base of a symbol, and what is streamed and derived.

    Raises
    ------
    ParameterError
        The source has nothing to make bars of, or not the base that is asked for by name.
    """
    offered = set(offered)
    bars = sorted(interval for kind, interval in offered if kind == "bars" and interval is not None)
    base, base_from, why = _base(symbol, asked, bars, {kind for kind, _ in offered})
    derived, refused = _parted(base, asked.derived)
    subscriptions = [Subscription(symbol, "bars", base)] if base_from == "bars" else [Subscription(symbol, base_from)]
    for kind, wanted in (("quotes", asked.quotes), ("ticks", asked.ticks)):
        if wanted and base_from != kind and (kind, None) in offered:
            subscriptions.append(Subscription(symbol, kind))  # type: ignore[arg-type]
    return Marking(symbol, base, base_from, tuple(subscriptions), derived, refused, why)


def _base(symbol: str, asked: Asked, bars: Sequence[Interval], kinds: set[Kind]) -> tuple[Interval, Kind, str]:
    has = ", ".join([*map(str, bars), *sorted(kinds & {"ticks", "quotes"})]) or "nothing"
    if asked.bars is not None and bars and asked.bars not in bars and not kinds & {"ticks", "quotes"}:
        raise ParameterError(f"streams.bars: received {asked.bars}; the source has {has} of {symbol}")
    raw: tuple[Kind, ...] = ("ticks", "quotes")
    from_raw = next((kind for kind in raw if kind in kinds), None)
    base = base_of([*bars, *([None] if from_raw else [])], asked.bars, asked.derived)
    if base is None and from_raw is not None:
        base = interval_of_prints(asked.bars, asked.derived)
        return base, from_raw, f"bars of {base} are made of {from_raw}"
    if base is None:
        raise ParameterError(f"{symbol}: the source has {has} of it; valid: bars, ticks or quotes")
    if base == asked.bars:
        return base, "bars", f"{base} is asked for"
    if all(serves(base, target) for target in asked.derived):
        wanted = ", ".join(map(str, sorted(asked.derived))) or "nothing else"
        return base, "bars", f"of {has} the base; {wanted} can be made of it"
    return base, "bars", f"of {has} the base; not all that is asked can be made of it"


def _parted(base: Interval, asked: Mapping[Interval, str]) -> tuple[tuple[Interval, ...], dict[Interval, str]]:
    derived, refused = [], {}
    for target in sorted(asked):
        if target == base:
            continue
        if serves(base, target):
            derived.append(target)
        else:
            refused[target] = _reason(base, target)
    return tuple(derived), refused


def _reason(base: Interval, target: Interval) -> str:
    if target < base:
        return f"{target} is finer than the base {base}: bars can be joined, not cut"
    return f"{target} is not a whole number of {base} bars"


def explain(marking: Marking, asked: Asked) -> list[tuple[str, str, str]]:
    """`(what, how, why)` of everything that a symbol streams, derives and cannot have."""
    rows = [
        ("stream", f"{one.kind} {one.interval or ''}".strip(), marking.why if number == 0 else "is asked for")
        for number, one in enumerate(marking.streams)
    ]
    rows += [("derive", str(one), f"for {asked.derived[one]}, from {marking.base}") for one in marking.derived]
    rows += [("refuse", str(one), why) for one, why in sorted(marking.refused.items())]
    return rows
