"""Specifications of bars: how they are written, and whether their bars have slots."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from engine.errors import IntervalError, ParameterError
from engine.grid import GridSpec
from engine.interval import Aggregation, BarSpec, Interval
from engine.store.panel_key import PanelKey

ACTIVITIES = sorted(set(get_args(Aggregation)) - {"time"})


@pytest.mark.parametrize("text", ["1s", "5m", "1h", "1d", "2d", "1w", "2w", "1mo", "3mo", "1y"])
def test_parse_interval_is_a_time_bar_with_slots(text: str) -> None:
    spec = BarSpec.parse(text)
    assert spec == BarSpec(Interval.parse(text)) == BarSpec.parse(Interval.parse(text)) == BarSpec.parse(spec)
    assert (str(spec), spec.interval, spec.has_slots) == (text, Interval.parse(text), True)


def test_parse_interval_of_another_spelling_is_the_same_specification() -> None:
    assert BarSpec.parse("60m") == BarSpec.parse("1h")
    assert len({BarSpec.parse("60m"), BarSpec.parse("1h")}) == 1


@pytest.mark.parametrize("aggregation", ACTIVITIES)
@pytest.mark.parametrize(("text", "step"), [("1000", 1000.0), ("2.5", 2.5), ("250000000", 250_000_000.0)])
def test_parse_activity_has_no_slots_and_no_interval(aggregation: Aggregation, text: str, step: float) -> None:
    spec = BarSpec.parse(f"{text}-{aggregation}")
    assert spec == BarSpec(step, aggregation)
    assert not spec.has_slots
    assert str(spec) == f"{text}-{aggregation}"
    assert BarSpec.parse(str(spec)) == spec
    with pytest.raises(IntervalError, match=f"{text}-{aggregation} are closed by activity"):
        _ = spec.interval


@pytest.mark.parametrize(
    ("step", "aggregation", "message"),
    [
        (Interval(5, "m"), "tick", "valid of tick bars: a number"),
        (5.0, "time", "valid of time bars: an Interval"),
        (0.0, "volume", "above 0"),
        (-1.0, "range", "above 0"),
        (float("inf"), "dollar", "above 0"),
        (float("nan"), "dollar", "above 0"),
        (5.0, "ticks", "aggregation: received 'ticks'; valid: time, tick"),
    ],
)
def test_make_specification_of_a_step_that_does_not_fit_is_refused(
    step: Interval | float, aggregation: Aggregation, message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        BarSpec(step, aggregation)


@pytest.mark.parametrize("text", ["", "tick", "1000 tick", "-5-tick", "5x"])
def test_parse_text_that_is_no_specification_is_refused(text: str) -> None:
    with pytest.raises(IntervalError, match="interval: received"):
        BarSpec.parse(text)


@pytest.mark.parametrize("count", ["", "0", "2", "1439", "86400", "1234567"])
@pytest.mark.parametrize("word", ["min", "s", "hrs", "D", "weeks", "M"])
def test_parse_misspelt_interval_proposes_only_what_is_accepted(count: str, word: str) -> None:
    try:
        Interval.parse(count + word)
    except IntervalError as error:
        for proposed in re.findall(r"did you mean (\w+)|or (\w+) for", str(error)):
            Interval.parse("".join(proposed))


@pytest.mark.parametrize(("text", "proposed"), [("5min", "5m"), ("daily", "1d"), ("1hour", "1h"), ("1M", "1mo")])
def test_parse_misspelt_interval_proposes_the_spelling(text: str, proposed: str) -> None:
    with pytest.raises(IntervalError, match=f"did you mean {proposed}"):
        Interval.parse(text)


def test_panel_of_bars_has_slots_and_one_of_ticks_has_none() -> None:
    axis = GridSpec("XNYS")
    bars, ticks = PanelKey.of_source("bars", Interval(1, "m"), axis), PanelKey.of_source("ticks", None, axis)
    assert (bars.has_slots, bars.bar_spec) == (True, BarSpec(Interval(1, "m")))
    assert (ticks.has_slots, ticks.bar_spec) == (False, None)


@pytest.mark.parametrize("text", ["101d", "14w", "5mo", "7mo", "24mo", "2y", "0d"])
def test_parse_period_without_a_fixed_origin_is_refused_with_what_is_valid(text: str) -> None:
    with pytest.raises(IntervalError, match="1d to 100d, 1w to 13w, 1mo, 2mo, 3mo, 4mo, 6mo, 1y"):
        Interval.parse(text)


def test_parse_twelve_months_is_a_year() -> None:
    assert Interval.parse("12mo") == Interval.parse("1y")


@pytest.mark.parametrize(
    ("finer", "coarser", "nests"),
    [
        ("1d", "2d", True),
        ("1h", "2w", True),
        ("2d", "4d", True),
        ("2d", "3d", False),
        ("2d", "1w", False),
        ("1w", "2w", True),
        ("2w", "3w", False),
        ("1w", "1mo", False),
        ("1mo", "3mo", True),
        ("2mo", "3mo", False),
        ("3mo", "1y", True),
        ("1w", "1y", False),
        ("1d", "1y", True),
    ],
)
def test_periods_nest_in_periods_made_of_whole_ones(finer: str, coarser: str, nests: bool) -> None:
    assert Interval.parse(finer).nests_in(Interval.parse(coarser)) == nests


def test_intervals_of_one_nominal_length_have_one_order() -> None:
    week, days = Interval.parse("1w"), Interval.parse("7d")
    assert [week < days, days < week, week <= days, days <= week] == [True, False, True, False]
