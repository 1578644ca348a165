"""A hostile vendor on real sockets: every request ends with an error in plain words, nothing hangs, other symbols go on."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from engine.clock import ManualClock
from engine.errors import AnswerError, StreamError
from engine.interval import Interval
from engine.runtime.config import SessionConfig
from engine.runtime.live import LiveSession
from engine.sources.streams.contract import HistoryRequest, Subscription
from engine.sources.vendors.alpaca import AlpacaStream
from engine.sources.vendors.alpaca_options import AlpacaOptions

from tests.soak.loopback import KEY, SECRET, Loopback
from tests.sources.streams.hostile_vendor import WAYS, HostileHistory, HostileServer, Way, drip, silent, whole

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
MINUTE = Interval(1, "m")
SECOND_NS = 1_000_000_000
PATIENCE_SECONDS = 60
# The vendor has not answered, in contrast to an answer that cannot be used.
NO_ANSWER = {"cut", "junk", "nothing"}


def until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def bar(n: int, symbol: str = "A") -> dict[str, object]:
    ns = int(OPEN.timestamp() + 60 * n) * SECOND_NS
    return {"S": symbol, "t": ns, "o": 10, "h": 11.5, "l": 9, "c": 10.5, "v": 100, "vw": 10.2, "n": 7}


def options(**more: object) -> AlpacaOptions:
    given = {"key": KEY, "secret": SECRET, "backoff_seconds": (0.005, 0.02), "again_seconds": 0, "attempts": 2}
    return AlpacaOptions(**{**given, "timeout_seconds": 1.0, "answer_bytes": 2_000_000, **more})


def request(symbol: str = "A") -> HistoryRequest:
    return HistoryRequest(symbol, "bars", MINUTE, OPEN, OPEN + dt.timedelta(minutes=30))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(OPEN + dt.timedelta(minutes=30))


@pytest.fixture
def vendor(clock: ManualClock) -> Iterator[Loopback]:
    with Loopback(clock) as loopback:
        yield loopback


@pytest.mark.parametrize("name", WAYS)
def test_fetch_of_a_hostile_history_ends_with_an_error_that_names_it(name: str, clock: ManualClock) -> None:
    way, named = WAYS[name]
    with HostileServer(way) as vendor:
        limit = 1.0 if "after 1 s" in named else 60.0
        stream = AlpacaStream(options(rest_url=vendor.url, timeout_seconds=limit), clock)
        with pytest.raises(StreamError, match=named) as failed:
            stream.fetch([request()])
        assert str(failed.value).startswith("alpaca: history of bars of A from 2024-01-02 14:30 to 2024-01-02 15:00: ")
        assert isinstance(failed.value, AnswerError) == (name not in NO_ANSWER)
        assert KEY not in str(failed.value)
        # The thread that read does not go on in secret, although the vendor does.
        until(lambda: "alpaca history" not in {one.name for one in threading.enumerate()}, "the end of the thread")


def test_fetch_longer_than_an_answer_may_take_is_asked_for_in_pieces(vendor: Loopback, clock: ManualClock) -> None:
    clock.set(OPEN + dt.timedelta(days=450))
    days = [bar(1440 * day) for day in range(450)]
    vendor.publish("b", days, is_silent=True)
    stream = AlpacaStream(options(rest_url=vendor.rest_url, timeout_seconds=30), clock)
    [delivery] = stream.fetch([request()._replace(end=OPEN + dt.timedelta(days=450))])
    assert delivery.frames[0]["ts"].to_list() == [OPEN + dt.timedelta(days=day) for day in range(450)]
    assert len(vendor.asked) == 3  # 200 days each


def test_fetch_of_ticks_keeps_the_last_microsecond_and_not_the_end(vendor: Loopback, clock: ManualClock) -> None:
    end_ns = int(OPEN.timestamp()) * SECOND_NS + 3600 * SECOND_NS  # also where a piece ends
    clock.set(OPEN + dt.timedelta(hours=3))
    stamps = [end_ns // 2 + int(OPEN.timestamp()) * SECOND_NS // 2, end_ns - 1, end_ns, end_ns + 1]
    trades = [
        {"S": "A", "t": ns, "i": n, "x": "V", "p": 10.0, "s": 5, "c": ["@"], "z": "C"} for n, ns in enumerate(stamps)
    ]
    vendor.publish("t", trades, is_silent=True)
    stream = AlpacaStream(options(rest_url=vendor.rest_url), clock)
    asked = HistoryRequest("A", "ticks", None, OPEN, OPEN + dt.timedelta(hours=1))
    [delivery] = stream.fetch([asked])
    # The vendor's own end is a microsecond: its answer does not reach the last nanoseconds of a range.
    assert delivery.frames[0]["seq"].to_list() == [0, 1]
    [both] = stream.fetch([asked._replace(end=OPEN + dt.timedelta(hours=2))])
    assert both.frames[0]["seq"].to_list() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["drip", "same_token", "gigabytes", "html"])
def test_session_goes_on_with_the_symbols_whose_history_answers(
    name: str, vendor: Loopback, clock: ManualClock
) -> None:
    vendor.publish("b", [bar(n, symbol) for n in range(30) for symbol in "ABCD"], is_silent=True)
    config = SessionConfig.of(
        {
            "session": {"calendar": "24/7", "mode": "live", "symbols": list("ABCD"), "start": "2024-01-02"},
            "source": {"kind": "alpaca"},
            "gaps": {"interval_seconds": 1},
        }
    )
    with HostileHistory(WAYS[name][0], vendor, "C") as history:
        stream = AlpacaStream(options(rest_url=history.url, stream_url=vendor.stream_url, timeout_seconds=3.0), clock)
        live = LiveSession(config, stream, clock)
        live.start()

        def bars() -> dict[str, int]:
            clock.set(clock.now() + dt.timedelta(milliseconds=200))
            live.step()
            counted = live.session.bars(interval="1m").group_by("symbol").len()
            return dict(counted.iter_rows())

        until(lambda: all(bars().get(symbol) == 30 for symbol in "ABD"), "the bars of A, B and D")
        until(lambda: bars() and any("bars of C" in error for error in live.errors), "the error of C")
        # C streams although its history is hostile.
        until(lambda: vendor.connected == 1, "the subscription")
        vendor.publish("b", [bar(30, symbol) for symbol in "ABCD"])
        until(lambda: bars().get("C") == 1, "the streamed bar of C")
        live.close()
    assert {error.split(" of ")[2][0] for error in live.errors if "history of" in error} == {"C"}


BARS_A = Subscription("A", "bars", MINUTE)


@pytest.fixture
def connect(vendor: Loopback, clock: ManualClock) -> Iterator[Callable[..., AlpacaStream]]:
    streams: list[AlpacaStream] = []

    def connected(**more: object) -> AlpacaStream:
        given = {"rest_url": vendor.rest_url, "stream_url": vendor.stream_url, "timeout_seconds": 5.0, **more}
        streams.append(AlpacaStream(options(**given), clock))
        streams[-1].subscribe([BARS_A])
        return streams[-1]

    yield connected
    for stream in streams:
        stream.close()


def minutes(stream: AlpacaStream, taken: list[int]) -> list[int]:
    """Minutes of all bars that were taken so far, in order of arrival."""
    for delivery in stream.take(OPEN):
        for frame in delivery.frames:
            taken += [round((ts - OPEN).total_seconds() / 60) for ts in frame["ts"]]
    return taken


@pytest.mark.parametrize("frame", [b"\x00" * 10_000_000, "x" * 10_000_000])
def test_frame_of_10_megabytes_is_not_read_and_bars_go_on(
    frame: bytes | str, vendor: Loopback, connect: Callable[..., AlpacaStream], clock: ManualClock
) -> None:
    stream, taken = connect(), []
    until(lambda: vendor.connected == 1, "the subscription")
    vendor.send_raw(frame)
    until(lambda: stream.status().reconnects >= 1 and vendor.connected >= 1, "another connection")
    assert "larger than 4,194,304 bytes (frame_bytes)" in stream.status().error
    clock.set(OPEN + dt.timedelta(minutes=32))
    vendor.publish("b", [bar(30)])
    until(lambda: 30 in minutes(stream, taken), "the bar after it")


def test_storm_of_disconnects_and_junk_loses_and_doubles_no_bar(
    vendor: Loopback, connect: Callable[..., AlpacaStream], clock: ManualClock
) -> None:
    stream, taken = connect(), []
    junk = [b"\xc1", b"\x93\x01\x02", b"\xdf\xff\xff\xff\xff", b"", "text", b"\x91\x81\xa1T\xa1b", bytes(range(256))]
    for n in range(30, 60):
        until(lambda: vendor.connected >= 1, "a connection")
        clock.set(OPEN + dt.timedelta(minutes=n + 1, seconds=1))
        vendor.send_raw(junk[n % len(junk)])
        if n % 3:
            vendor.drop(("quiet", "frame", "reset")[n % 3])
        vendor.publish("b", [bar(n)])
    until(lambda: set(range(30, 60)) <= set(minutes(stream, taken)), "every bar")
    assert stream.status().reconnects >= 10
    assert stream.status().dropped == {}


@pytest.mark.parametrize(
    ("way", "named"),
    [
        (silent, r"cannot connect: no login in 1 s"),
        (drip(b"HTTP/1.1 101 Switching Protocols\r\nX-Slow: "), r"cannot connect: no login in 1 s"),
        (WAYS["gigabytes"][0], r"cannot connect: "),
        (WAYS["html"][0], r"cannot connect: .*HTTP 200"),
        (WAYS["junk"][0], r"cannot connect: "),
    ],
    ids=["silent", "drip", "gigabytes", "html", "junk"],
)
def test_handshake_that_is_none_is_given_up_and_tried_again(
    way: Way, named: str, vendor: Loopback, connect: Callable[..., AlpacaStream]
) -> None:
    with HostileServer(way) as hostile:
        stream = connect(stream_url=hostile.stream_url, timeout_seconds=1.0)
        until(lambda: hostile.connections >= 3, "the third attempt")
        until(lambda: stream.status().error != "", "an error")
        assert not stream.status().connected
        assert re.search(named, stream.status().error)


def test_subscription_that_is_never_confirmed_is_made_on_another_connection(
    vendor: Loopback, connect: Callable[..., AlpacaStream], clock: ManualClock
) -> None:
    vendor.drop_at.append("unconfirmed")
    stream, taken = connect(timeout_seconds=1.0), []
    until(lambda: stream.status().reconnects >= 1, "another connection")
    assert "the subscription was not confirmed in 1 s" in stream.status().error
    clock.set(OPEN + dt.timedelta(minutes=32))
    until(lambda: vendor.connected == 1, "the subscription")
    vendor.publish("b", [bar(30)])
    until(lambda: 30 in minutes(stream, taken), "a bar")


def test_page_that_is_no_answer_of_ours_keeps_its_body_out_of_errors(clock: ManualClock) -> None:
    body = b"<html>" + KEY.encode() + b" " * 10_000
    with HostileServer(lambda wire, path, ended: wire.sendall(whole(body, status="403 Forbidden"))) as vendor:
        stream = AlpacaStream(options(rest_url=vendor.url), clock)
        with pytest.raises(StreamError, match=r"\(status 403\)") as failed:
            stream.fetch([request()])
    assert KEY not in str(failed.value)
    assert len(str(failed.value)) < 600
