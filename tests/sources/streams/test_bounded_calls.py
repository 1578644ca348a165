"""Calls that block, and those who wait for them."""

from __future__ import annotations

import threading

import pytest
from engine.errors import StreamError, StreamStoppedError
from engine.sources.streams import bounded_calls
from engine.sources.streams.bounded_calls import Grace, Worker, result_of
from engine.sources.streams.contract import StreamStatus
from engine.sources.streams.interruptible import InterruptibleStream


@pytest.fixture
def gate():
    """An event that blocked calls wait for; it is set at the end, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


def test_worker_makes_calls_in_order_in_one_daemon_thread() -> None:
    worker, seen = Worker("test"), []
    answers = [worker.submit(lambda n=n: seen.append((n, threading.current_thread()))) for n in range(5)]
    worker.end()
    for answer in answers:
        answer.result(10)
    assert [n for n, _ in seen] == list(range(5))
    assert {(thread.name, thread.daemon) for _, thread in seen} == {("test", True)}
    seen[0][1].join(10)
    assert not seen[0][1].is_alive()


def test_result_of_raises_what_the_call_raised_time_outs_too() -> None:
    worker = Worker("test")

    def fail(error: BaseException) -> None:
        raise error

    for error in (ZeroDivisionError("x"), TimeoutError("of the call"), SystemExit(3)):
        with pytest.raises(type(error)) as failed:
            result_of(worker.submit(fail, error), "a call", seconds=60)
        assert failed.value is error
    assert result_of(worker.submit(int, "5"), "the thread goes on", seconds=60) == 5
    worker.end()


def test_result_of_leaves_a_call_when_its_time_is_over_or_the_event_is_set(gate: threading.Event) -> None:
    worker, stop = Worker("test"), threading.Event()
    answer = worker.submit(gate.wait)
    with pytest.raises(StreamError, match=r"the source: fetch has not returned in 0.1 s; it was left"):
        result_of(answer, "the source: fetch", seconds=0.1, stop=stop)
    stop.set()
    with pytest.raises(StreamStoppedError, match="fetch had not returned when the session was stopped"):
        result_of(answer, "fetch", stop=stop)
    worker.end()


def test_grace_is_of_all_calls_together_and_leaves_each_its_least() -> None:
    grace = Grace(seconds=2.0, least_seconds=0.2)
    assert not grace.is_over(begun=90.0, now=100.0)  # it was seen now
    assert not grace.is_over(begun=90.0, now=101.9)
    assert grace.is_over(begun=90.0, now=102.0)
    assert not grace.is_over(begun=101.9, now=102.0)
    assert not grace.is_over(begun=105.0, now=105.1)
    assert grace.is_over(begun=105.0, now=105.2)


class Source:
    """Blocks in the methods that are named."""

    def __init__(self, gate: threading.Event, *blocks: str) -> None:
        self.gate, self.blocks, self.called = gate, blocks, []

    def __getattr__(self, name: str):
        def method(*args: object) -> object:
            self.called.append((name, threading.current_thread() is threading.main_thread()))
            if name in self.blocks:
                self.gate.wait()
            return StreamStatus() if name == "status" else [name]

        method.__name__ = name
        return method


def test_stream_without_an_event_is_called_directly(gate: threading.Event) -> None:
    source = Source(gate)
    assert InterruptibleStream(source).take(None) == ["take"]
    assert source.called == [("take", True)]


def test_stream_calls_are_left_at_the_stop_and_those_that_hand_over_are_made(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(gate, "wait", "fetch")
    stream = InterruptibleStream(source)
    stream.stop = stop = threading.Event()
    assert stream.take(None) == ["take"]
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(StreamStoppedError, match="wait of the source had not returned"):
        stream.wait(3600)
    for call in (
        lambda: stream.wait(1),
        lambda: stream.fetch([]),
        lambda: stream.subscribe([]),
        lambda: stream.available([]),
    ):
        with pytest.raises(StreamStoppedError, match="of the source was not called: the session is stopped"):
            call()
    # The thread of `wait` is blocked: these have another one.
    assert stream.take(None) == ["take"]
    assert stream.status() == stream.last_status == StreamStatus()
    stream.close()
    assert [name for name, _ in source.called] == ["take", "wait", "take", "status", "close"]
    assert not any(is_main for _, is_main in source.called)


def test_stream_that_blocks_in_close_is_left_after_the_grace(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(10_000))
    monkeypatch.setattr(bounded_calls, "steady_seconds", lambda: float(next(seconds)))
    stream = InterruptibleStream(Source(gate, "close"))
    stream.stop = threading.Event()
    stream.stop.set()
    with pytest.raises(StreamStoppedError, match="close of the source had not returned"):
        stream.close()
