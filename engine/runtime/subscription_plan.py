"""Plan of one symbol: streams to subscribe and intervals to derive. A pure function.

`sources.resolution.base_of` chooses the base, as it does for `run` and `audit`: 1m, or what something finer can be made
of (1s for 30s). Intervals that cannot be derived from the base are refused with the reason.
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
class Requirements:
    """Bars, quotes and ticks that a configuration requires of one symbol.

    Attributes
    ----------
    bars : Interval or None
        The base, if it is required by name; None leaves the choice.
    derived : mapping of Interval to str
        Intervals that are required as bars, each with its purpose.
    quotes, ticks : bool
    """

    bars: Interval | None
    derived: Mapping[Interval, str]
    quotes: bool = False
    ticks: bool = False

    @classmethod
    def of(cls, config: SessionConfig, symbol: str) -> Requirements:
        """Base (None if `auto` or `none`), intervals each with its first purpose, quotes, ticks asked of a symbol."""
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
class SubscriptionPlan:
    """Base, streams and derived intervals of one symbol, with the reason.

    Attributes
    ----------
    symbol : str
    base : Interval
    base_from : {"bars", "ticks", "quotes"}
    streams : tuple of Subscription
    derived : tuple of Interval
    refused : mapping of Interval to str
        Intervals that cannot be derived, with the reason.
    why : str
    """

    symbol: str
    base: Interval
    base_from: Kind
    streams: tuple[Subscription, ...]
    derived: tuple[Interval, ...]
    refused: Mapping[Interval, str]
    why: str


def plan_subscription(symbol: str, required: Requirements, available: Iterable[Resolution]) -> SubscriptionPlan:
    """Choose base, streams (base first), derived intervals; others `refused` with reason; ParameterError without a base.

    Raises
    ------
    ParameterError
        The source has nothing to make bars of, or not the base that is required by name.
    """
    available = set(available)
    bars = sorted(interval for kind, interval in available if kind == "bars" and interval is not None)
    base, base_from, why = choose_stream_base(symbol, required, bars, {kind for kind, _ in available})
    derived, refused = [], {}
    for interval in sorted(required.derived):
        if interval < base:
            refused[interval] = f"{interval} is finer than the base {base}: bars can be joined, not cut"
        elif not serves(base, interval):
            refused[interval] = f"{interval} is not a whole number of {base} bars"
        elif interval != base:
            derived.append(interval)
    streams = [Subscription(symbol, "bars", base)] if base_from == "bars" else [Subscription(symbol, base_from)]
    for kind, is_required in (("quotes", required.quotes), ("ticks", required.ticks)):
        if is_required and base_from != kind and (kind, None) in available:
            streams.append(Subscription(symbol, kind))  # type: ignore[arg-type]
    return SubscriptionPlan(symbol, base, base_from, tuple(streams), tuple(derived), refused, why)


def choose_stream_base(
    symbol: str, required: Requirements, bars: Sequence[Interval], kinds: set[Kind]
) -> tuple[Interval, Kind, str]:
    """(base by `base_of`, kind (`ticks` first), reason); ParameterError if the source has only other bars, or none."""
    has = ", ".join([*map(str, bars), *sorted(kinds & {"ticks", "quotes"})]) or "nothing"
    if required.bars is not None and bars and required.bars not in bars and not kinds & {"ticks", "quotes"}:
        raise ParameterError(f"streams.bars: received {required.bars}; the source has {has} of {symbol}")
    raw: tuple[Kind, ...] = ("ticks", "quotes")
    from_raw = next((kind for kind in raw if kind in kinds), None)
    base = base_of([*bars, *([None] if from_raw else [])], required.bars, required.derived)
    if base is None and from_raw is not None:
        base = interval_of_prints(required.bars, required.derived)
        return base, from_raw, f"bars of {base} are made of {from_raw}"
    if base is None:
        raise ParameterError(f"{symbol}: the source has {has} of it; valid: bars, ticks or quotes")
    if base == required.bars:
        return base, "bars", f"{base} is asked for"
    if all(serves(base, target) for target in required.derived):
        wanted = ", ".join(map(str, sorted(required.derived))) or "nothing else"
        return base, "bars", f"of {has} the base; {wanted} can be made of it"
    return base, "bars", f"of {has} the base; not all that is asked can be made of it"


def explain_plan(plan: SubscriptionPlan, required: Requirements) -> list[tuple[str, str, str]]:
    """Rows (action stream, derive or refuse; resolution; reason) of a plan: streams, derived, then refused."""
    rows = [
        ("stream", f"{one.kind} {one.interval or ''}".strip(), plan.why if number == 0 else "is asked for")
        for number, one in enumerate(plan.streams)
    ]
    rows += [("derive", str(one), f"for {required.derived[one]}, from {plan.base}") for one in plan.derived]
    rows += [("refuse", str(one), why) for one, why in sorted(plan.refused.items())]
    return rows
