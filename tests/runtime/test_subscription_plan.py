"""Streams and derived intervals follow from the requirements and the source alone."""

from __future__ import annotations

import pytest
from engine.errors import ParameterError
from engine.interval import Interval
from engine.runtime.config import SessionConfig
from engine.runtime.subscription_plan import Requirements, SubscriptionPlan, explain_plan, plan_subscription
from engine.sources.streams.contract import Resolution, Subscription


def parsed(*texts: str) -> list[Interval]:
    return [Interval.parse(text) for text in texts]


def offer(*texts: str) -> set[Resolution]:
    kinds: dict[str, Resolution] = {"ticks": ("ticks", None), "quotes": ("quotes", None)}
    return {kinds.get(text, ("bars", Interval.parse(text) if text not in kinds else None)) for text in texts}


def marked(derive: list[str], offered: list[str], bars: str | None = None, **streams: bool) -> SubscriptionPlan:
    asked = Requirements(bars and Interval.parse(bars), dict.fromkeys(parsed(*derive), "derive"), **streams)
    return plan_subscription("A", asked, offer(*offered))


@pytest.mark.parametrize(
    ("derive", "offered", "base"),
    [
        (["30s"], ["1s", "1m"], "1s"),
        (["5m"], ["1s", "1m"], "1m"),
        (["1d"], ["1s", "1m"], "1m"),
        (["5m", "1d"], ["1s", "1m"], "1m"),
        (["30s", "5m", "1d"], ["1s", "1m"], "1s"),
        (["15m"], ["1m", "5m"], "1m"),
        (["7m"], ["1m", "5m"], "1m"),
        (["5m"], ["1m", "5m"], "1m"),
        ([], ["1s", "1m"], "1m"),
        (["1w"], ["1m", "1d"], "1m"),
        (["5m"], ["1m", "ticks"], "1m"),
    ],
)
def test_mark_streams_the_base_and_derives_the_rest(derive: list[str], offered: list[str], base: str) -> None:
    marking = marked(derive, offered)
    assert (marking.base, marking.base_from) == (Interval.parse(base), "bars")
    assert marking.streams == (Subscription("A", "bars", Interval.parse(base)),)
    assert [str(one) for one in marking.derived] == [one for one in derive if one != base]
    assert marking.refused == {}


@pytest.mark.parametrize(
    ("derive", "offered", "refused", "reason"),
    [
        (["5s", "5m"], ["1m"], "5s", "5s is finer than the base 1m: bars can be joined, not cut"),
        (["7m", "15m"], ["5m"], "7m", "7m is not a whole number of 5m bars"),
        (["5m"], ["1d"], "5m", "5m is finer than the base 1d"),
    ],
)
def test_mark_refuses_what_cannot_be_derived_with_the_reason(
    derive: list[str], offered: list[str], refused: str, reason: str
) -> None:
    marking = marked(derive, offered)
    assert list(marking.refused) == parsed(refused)
    assert reason in marking.refused[Interval.parse(refused)]
    assert marking.derived == tuple(parsed(*(one for one in derive if one != refused)))


@pytest.mark.parametrize(
    ("derive", "kind", "base"),
    [(["5m"], "ticks", "1m"), (["30s", "5m"], "ticks", "30s"), ([], "quotes", "1m"), (["5m"], "quotes", "1m")],
)
def test_mark_source_of_one_raw_kind_makes_its_base_of_it(derive: list[str], kind: str, base: str) -> None:
    marking = marked(derive, [kind])
    assert (marking.base, marking.base_from) == (Interval.parse(base), kind)
    assert marking.streams == (Subscription("A", kind),)  # type: ignore[arg-type]
    assert Interval.parse("5m") in marking.derived or "5m" not in derive


def test_mark_trades_and_quotes_makes_bars_of_trades() -> None:
    assert marked(["5m"], ["ticks", "quotes"]).base_from == "ticks"


def test_mark_finer_than_all_bars_takes_ticks_where_there_are_any() -> None:
    marking = marked(["30s", "5m"], ["1m", "ticks"])
    assert (marking.base, marking.base_from, marking.refused) == (Interval.parse("30s"), "ticks", {})


def test_mark_explicit_base_is_taken_though_a_coarser_one_would_serve() -> None:
    marking = marked(["5m"], ["1s", "1m"], bars="1s")
    assert marking.base == Interval.parse("1s")
    assert "asked for" in marking.why


def test_mark_explicit_base_refuses_what_is_finer() -> None:
    assert list(marked(["30s"], ["1s", "1m"], bars="1m").refused) == parsed("30s")


def test_mark_explicit_base_that_only_ticks_can_give_is_made_of_them() -> None:
    marking = marked(["5m"], ["1m", "ticks"], bars="10s")
    assert (marking.base, marking.base_from) == (Interval.parse("10s"), "ticks")


def test_mark_explicit_base_that_the_source_lacks_names_what_it_has() -> None:
    with pytest.raises(ParameterError, match="received 1s; the source has 1m, 5m of A"):
        marked(["5m"], ["1m", "5m"], bars="1s")


def test_mark_source_with_nothing_to_make_bars_of_raises() -> None:
    with pytest.raises(ParameterError, match="A: the source has nothing"):
        plan_subscription("A", Requirements(None, {}), [])


def test_mark_quotes_and_ticks_stream_beside_the_base_where_asked_and_there() -> None:
    both = marked([], ["1m", "quotes", "ticks"], quotes=True, ticks=True)
    assert both.streams == (
        Subscription("A", "bars", Interval.parse("1m")),
        Subscription("A", "quotes"),
        Subscription("A", "ticks"),
    )
    assert len(marked([], ["1m"], quotes=True, ticks=True).streams) == 1
    assert len(marked([], ["1m", "quotes", "ticks"]).streams) == 1
    assert len(marked([], ["ticks"], ticks=True).streams) == 1


def test_asked_of_configuration_joins_derived_history_and_indicators_of_the_symbol() -> None:
    config = SessionConfig.of({
        "session": {"calendar": "XNYS"}, "source": {"paths": ["f"]}, "derive": ["5m"],
        "history": [{"sessions": 5, "intervals": ["1d"], "symbols": ["A"]}],
        "indicators": [{"use": "sma(20)", "intervals": ["30s"], "symbols": ["B"]}],
    })  # fmt: skip
    assert [str(one) for one in sorted(Requirements.of(config, "A").derived)] == ["5m", "1d"]
    assert [str(one) for one in sorted(Requirements.of(config, "B").derived)] == ["30s", "5m"]
    assert plan_subscription("B", Requirements.of(config, "B"), offer("1s", "1m")).base == Interval.parse("1s")
    assert plan_subscription("A", Requirements.of(config, "A"), offer("1s", "1m")).base == Interval.parse("1m")


def test_explain_says_of_everything_how_and_why() -> None:
    asked = Requirements(None, {Interval.parse("5s"): "derive", Interval.parse("5m"): "indicator sma(20)"})
    told = explain_plan(plan_subscription("A", asked, offer("1m")), asked)
    assert [(what, how) for what, how, _ in told] == [("stream", "bars 1m"), ("derive", "5m"), ("refuse", "5s")]
    assert [why for _, _, why in told] == [
        "of 1m the base; not all that is asked can be made of it",
        "for indicator sma(20), from 1m",
        "5s is finer than the base 1m: bars can be joined, not cut",
    ]
