"""Requests of the past in a running session: answers that cannot be used, and fetches that do not return."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from engine.errors import AnswerError, StreamError
from engine.runtime import live as live_module
from engine.runtime.live import LiveSession
from engine.sources.streams.contract import Delivery, HistoryRequest

from tests.runtime.live_world import OPEN, HandStream, Morning, bars, configured, until


class PartlyHostile(HandStream):
    """Its answer about C cannot be used, whatever else is asked for with it."""

    hostile = frozenset({"C"})

    def fetch(self, requests: Sequence[HistoryRequest]) -> list[Delivery]:
        if self.hostile & {one.symbol for one in requests}:
            self.asked += requests
            raise AnswerError(f"history of {', '.join(one.symbol for one in requests)} never ends")
        return super().fetch(requests)


def morning_of(stream: HandStream, minute: int = 5, **more: object) -> Morning:
    config = configured(session={"calendar": "XNYS", "mode": "live", "symbols": list("ABCD")}, **more)
    return Morning(stream, config, minute)


def held(morning: Morning) -> dict[str, int]:
    counts = morning.session.bars(interval="1m").group_by("symbol").len()
    return dict(counts.iter_rows())


def past(symbols: str, minutes: range) -> HandStream:
    stream = PartlyHostile()
    for symbol in symbols:
        stream.past = stream.past.vstack(bars(symbol, minutes))
    return stream


def test_first_start_goes_on_and_asks_again_in_halves_for_what_cannot_be_used() -> None:
    stream = past("ABCD", range(5))
    morning = morning_of(stream)
    morning.live.start()
    assert held(morning) == {}
    assert "never ends; it is asked for again" in morning.live.coordinator.totals.notes[0]
    morning.at(6)  # the history is left alone for a minute
    morning.at(6.5)
    assert held(morning) == {"A": 5, "B": 5, "D": 5}
    assert [error for error in morning.live.errors if "A" in error.replace("AnswerError", "")] == []
    assert any("history of C never ends" in error for error in morning.live.errors)


def test_symbol_whose_answer_cannot_be_used_is_left_alone_and_the_others_are_not() -> None:
    stream = past("ABCD", range(10))
    stream.hostile = frozenset()
    morning = morning_of(stream)
    morning.live.start()
    stream.hostile = frozenset({"C"})
    for symbol in "ABCD":
        stream.push(bars(symbol, [5, 6, 8, 9]))
    morning.at(10)
    stream.asked.clear()
    for second in range(64, 70):
        morning.at(10 + second / 60)
    # Minute 7 was missing of all: in halves A and B, then D, were answered; C was asked for three times and then not any more.
    assert {symbol: count for symbol, count in held(morning).items() if symbol != "C"} == {"A": 10, "B": 10, "D": 10}
    assert [one.symbol for one in stream.asked].count("C") == 3
    [retries] = [gap[3] for gap in morning.gaps("C") if gap[0] == 7]
    assert retries == 0  # it spent nothing
    stream.hostile = frozenset()
    for minute in (12.2, 12.3):
        morning.at(minute)
    assert held(morning)["C"] == 10


def test_refusal_is_not_asked_for_in_halves() -> None:
    stream = past("ABCD", range(5))
    stream.refuses = True
    stream.hostile = frozenset()
    morning = morning_of(stream)
    with pytest.raises(StreamError, match="the history does not answer"):
        morning.live.start()
    assert len(stream.asked) == 4


class Blocking(HandStream):
    """Its `fetch` does not return after the start, until the gate opens."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self.gate = gate
        self.calls = 0

    def fetch(self, requests: Sequence[HistoryRequest]) -> list[Delivery]:
        self.calls += 1
        if self.calls == 2:
            self.gate.wait()
        return super().fetch(requests)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_fetch_that_does_not_return_is_given_up_after_history_seconds(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Blocking(gate)
    morning = Morning(stream, configured(live={"grace_seconds": 0, "history_seconds": 900}))
    morning.live = LiveSession(morning.live.config, stream, morning.clock)
    morning.session = morning.live.session
    morning.live.start()
    stream.push(bars("A", [0, 2]))
    morning.at(3).at(4.1)  # minute 1 is asked for, and not answered
    until(lambda: stream.calls == 2, "the fetch that blocks", 60)
    stream.past = bars("A", [1])
    now = live_module.steady_seconds()
    monkeypatch.setattr(live_module, "steady_seconds", lambda: now + 899)
    morning.at(4.2)
    assert list(morning.live.errors) == []
    monkeypatch.setattr(live_module, "steady_seconds", lambda: now + 901)
    morning.at(4.3)
    assert list(morning.live.errors) == ["backfill: the source has not answered in 900 s ([live] history_seconds)"]
    assert morning.live.history_requests == {"answered": 0, "failed": 2}  # of A, and of B, which is silent
    monkeypatch.undo()

    def is_filled() -> bool:
        morning.clock.set(morning.clock.now() + 0.1 * (morning.clock.now() - OPEN))
        morning.live.step()
        return morning.session.bars("A", "1m").height == 3

    until(is_filled, "the bar, asked for in another thread", 60)
    morning.live.close()
