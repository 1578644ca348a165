"""Alpaca's own client against a vendor on 127.0.0.1: what comes, what is missed and fetched, what is refused."""

from __future__ import annotations

import datetime as dt
import logging
import sys
import time

import pytest
from engine.clock import ManualClock
from engine.errors import ParameterError, StreamError
from engine.interval import Interval
from engine.sources.streams.contract import HistoryRequest, Subscription
from engine.sources.vendors.alpaca import AlpacaStream
from engine.sources.vendors.alpaca_options import AlpacaOptions

from tests.soak.disconnects import WAYS, live_through
from tests.soak.loopback import KEY, SECRET, Loopback, packed, stamp

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
OPEN_NS = 1_704_205_800_000_000_000
MINUTE, DAY = Interval(1, "m"), Interval(1, "d")
SECOND_NS = 1_000_000_000
PATIENCE_SECONDS = 60


def at(minutes):
    return OPEN + dt.timedelta(minutes=minutes)


def bar(n, symbol="A", **cells):
    return {
        "S": symbol,
        "t": OPEN_NS + n * 60 * SECOND_NS,
        "o": 10,
        "h": 11.5,
        "l": 9,
        "c": 10.5,
        "v": 100,
        "vw": 10.2,
        "n": 7,
    } | cells


def quote(n, symbol="A", **cells):
    return {
        "S": symbol,
        "t": OPEN_NS + n,
        "bp": 10.0,
        "bs": 2,
        "bx": "V",
        "ap": 10.1,
        "as": 3,
        "ax": "V",
        "c": ["R"],
        "z": "C",
    } | cells


def trade(n, symbol="A", **cells):
    return {"S": symbol, "t": OPEN_NS + n, "i": 100 + n, "x": "V", "p": 10.0, "s": 5, "c": ["@", "I"], "z": "C"} | cells


def until(done, what=""):
    for _ in range(PATIENCE_SECONDS * 100):
        if done():
            return
        time.sleep(0.01)
    pytest.fail(f"waited in vain {what}")


def is_live(stream, one):
    """Whether the stream has heard that the vendor streams this."""
    with stream._lock:
        state = stream._backfill._series.get((one.kind, one.symbol))
        return state is not None and state.is_streaming


class Taken:
    """Everything that was taken of a stream."""

    def __init__(self, stream):
        self.stream, self.deliveries = stream, []

    def __call__(self):
        self.deliveries += self.stream.take(OPEN)
        return self

    def rows(self, kind="bars", *columns):
        frames = [f for d in self().deliveries if d.kind == kind for f in d.frames]
        return [row for frame in frames for row in frame.select(columns or ("symbol", "ts")).iter_rows()]

    def minutes(self, symbol="A"):
        return [round((ts - OPEN).total_seconds() / 60) for name, ts in self.rows() if name == symbol]

    def reasons(self):
        return [reason for d in self().deliveries for reason in d.rejects["reason"]]


@pytest.fixture
def clock():
    return ManualClock(OPEN)


@pytest.fixture
def vendor(clock):
    with Loopback(clock, page_rows=7) as loopback:
        yield loopback


@pytest.fixture
def connect(vendor, clock):
    streams = []

    def connected(*subscriptions, **options):
        given = {"backoff_seconds": (0.005, 0.02), "again_seconds": 0, "attempts": 3, "timeout_seconds": 10}
        addresses = {"stream_url": vendor.stream_url, "rest_url": vendor.rest_url}
        stream = AlpacaStream(AlpacaOptions(**{"key": KEY, "secret": SECRET, **addresses, **given, **options}), clock)
        streams.append(stream)
        if subscriptions:
            stream.subscribe(subscriptions)
            until(lambda: all(is_live(stream, one) for one in subscriptions), "for a connection")
        return stream, Taken(stream)

    yield connected
    for stream in streams:
        stream.close()


BARS_A, BARS_B = Subscription("A", "bars", MINUTE), Subscription("B", "bars", MINUTE)


def test_take_gives_bars_quotes_and_trades_as_the_store_takes_them(vendor, connect, clock):
    stream, taken = connect(BARS_A, BARS_B, Subscription("A", "quotes"), Subscription("A", "ticks"))
    clock.set(at(1) + dt.timedelta(seconds=2))
    vendor.publish("b", [bar(0), bar(0, "B"), bar(0, "C")])
    vendor.publish("q", [quote(1), quote(1, ap=0, **{"as": 0}), quote(2)])
    vendor.publish("t", [trade(1), trade(3)])
    until(lambda: stream.status().waiting == 7)
    assert stream.wait(0)
    names = ("open", "high", "low", "close", "volume", "vwap", "trades", "price_type", "source")
    assert taken.rows("bars", "symbol", *names) == [
        (s, 10.0, 11.5, 9.0, 10.5, 100.0, 10.2, 7, "last", "alpaca:iex") for s in "AB"
    ]
    assert taken.rows("quotes", "seq", "bid", "ask", "ask_size") == [
        (0, 10.0, 10.1, 3.0),
        (1, 10.0, None, 0.0),
        (0, 10.0, 10.1, 3.0),
    ]
    assert taken.rows("ticks", "seq", "price", "size", "exchange", "conditions") == [
        (n, 10.0, 5.0, "V", "@,I") for n in (101, 103)
    ]
    assert taken.deliveries[1].frames[0]["ts"].to_physical().to_list() == [OPEN_NS + 1, OPEN_NS + 1, OPEN_NS + 2]
    assert (str(taken.deliveries[0].interval), taken.deliveries[0].stamp) == ("1m", "start")
    status = stream.status()
    assert (status.connected, status.exhausted, status.delivered, status.waiting, status.error) == (
        True,
        False,
        7,
        0,
        "",
    )
    assert not stream.wait(0)


def test_status_lag_tells_how_late_the_last_row_came(vendor, connect, clock):
    stream, taken = connect(BARS_A)
    assert stream.status().lag_seconds is None
    clock.set(at(1) + dt.timedelta(seconds=2.5))
    vendor.publish("b", [bar(0)])
    until(lambda: taken.minutes() == [0])
    assert stream.status().lag_seconds == 2.5


def test_take_late_update_gives_it_in_a_later_frame(vendor, connect, clock):
    stream, taken = connect(BARS_A)
    clock.set(at(3))
    vendor.publish("b", [bar(0), bar(1)])
    vendor.publish("u", [bar(0, c=11.0)])
    until(lambda: stream.status().waiting == 3)
    (delivery,) = stream.take(OPEN)
    assert [frame["close"].to_list() for frame in delivery.frames] == [[10.5, 10.5], [11.0]]
    vendor.publish("u", [bar(1, c=9.5)])
    until(lambda: taken.rows("bars", "close") == [(9.5,)])


@pytest.mark.parametrize("how", WAYS)
def test_disconnect_brings_what_was_published_meanwhile(vendor, connect, clock, how):
    stream, taken = connect(BARS_A, BARS_B)
    clock.set(at(2))
    vendor.publish("b", [bar(0), bar(0, "B"), bar(1), bar(1, "B")])
    until(lambda: len(taken.rows()) == 4)
    assert vendor.drop(how) == 1
    clock.set(at(5))
    vendor.publish("b", [bar(2), bar(3)])
    vendor.publish("u", [bar(1, "B", c=11.0)])
    until(lambda: vendor.connected)
    vendor.publish("b", [bar(4), bar(4, "B")])
    until(lambda: set(taken.minutes()) == {0, 1, 2, 3, 4})
    until(lambda: ("B", at(1), 11.0) in taken.rows("bars", "symbol", "ts", "close"))
    until(lambda: set(taken.minutes("B")) == {0, 1, 4})
    assert (stream.status().connected, stream.status().reconnects) == (True, 1)
    assert "connect" in stream.status().error.lower()


@pytest.mark.parametrize("stage", ["welcome", "auth", "subscribe", "acked"])
def test_disconnect_during_the_handshake_is_followed_by_another(vendor, connect, clock, stage):
    vendor.drop_at.extend([stage] * 3)
    stream, taken = connect(BARS_A)
    until(lambda: vendor.counts[f"dropped {stage}"] == 3)
    clock.set(at(1))
    vendor.publish("b", [bar(0)])
    until(lambda: set(taken.minutes()) == {0})
    until(lambda: is_live(stream, BARS_A))
    assert stream.status().connected


def test_vendor_that_accepts_and_says_nothing_is_left_after_a_while(vendor, connect):
    vendor.drop_at.append("silent")
    stream, _ = connect(BARS_A, timeout_seconds=1.0)
    assert vendor.counts["silent"] == 1
    assert "no login in 1 s" in stream.status().error
    assert stream.status().connected


def test_connection_on_which_nothing_comes_is_made_anew_when_asked_for(vendor, connect, clock):
    stream, taken = connect(BARS_A, quiet_seconds=0.5)
    clock.set(at(1))
    vendor.publish("b", [bar(0)], is_silent=True)
    until(lambda: taken.minutes() != [])
    until(lambda: stream.status().reconnects >= 1)
    assert "nothing came for 0.5 s" in stream.status().error


def test_twenty_sudden_disconnects_lose_and_double_no_bar():
    outcome = live_through(20)
    assert outcome.wrong() == []
    assert outcome.disconnects >= 20
    assert outcome.counts["missed"] > 0
    assert outcome.published.height == outcome.held.height > 0


def test_disconnect_fetches_quotes_and_trades_that_were_missed(vendor, connect, clock):
    _, taken = connect(Subscription("A", "quotes"), Subscription("A", "ticks"))
    vendor.publish("q", [quote(1)])
    vendor.publish("t", [trade(1)])
    until(lambda: len(taken.rows("quotes")) == len(taken.rows("ticks")) == 1)
    clock.set(at(1))
    vendor.publish("q", [quote(1), quote(2)], is_silent=True)
    vendor.publish("t", [trade(2), trade(3)], is_silent=True)
    vendor.drop()
    until(lambda: {seq for (seq,) in taken.rows("ticks", "seq")} == {101, 102, 103})
    # Quotes have no number of their own: the same one has the same place among those of its stamp, live or fetched.
    until(lambda: len(taken.rows("quotes")) == 4)
    assert [seq for (seq,) in taken.rows("quotes", "seq")] == [0, 0, 1, 0]


def test_hole_that_the_history_does_not_know_yet_is_looked_at_again(vendor, connect, clock):
    stream, taken = connect(BARS_A, again_seconds=30)
    clock.set(at(1))
    vendor.publish("b", [bar(0)])
    until(lambda: taken.minutes() == [0])
    vendor.lag_seconds = 15
    clock.set(at(2))
    vendor.publish("b", [bar(1)], is_silent=True)
    vendor.drop()
    until(lambda: vendor.connected and len(vendor.asked) == 1)
    until(lambda: stream.pending_backfills == 1)
    assert 1 not in taken.minutes()
    clock.set(at(2.6))
    until(lambda: 1 in taken.minutes())
    until(lambda: stream.pending_backfills == 0)


def test_fetched_bar_that_was_updated_meanwhile_gives_way_to_the_update(vendor, connect, clock):
    stream, taken = connect(BARS_A)
    clock.set(at(1))
    vendor.publish("b", [bar(0)])
    until(lambda: taken.minutes() == [0])

    def update():
        vendor.while_answering = lambda: None
        vendor.publish("u", [bar(0, c=11.0)])
        until(lambda: stream.status().waiting == 1)

    vendor.while_answering = update
    vendor.drop()
    until(lambda: vendor.asked and not stream.pending_backfills)
    assert [close for (close,) in taken.rows("bars", "close")] == [10.5, 11.0]


@pytest.mark.parametrize(
    "faults", [[429, 500], [500] * 4, ["no JSON", "5", "{}", '{"bars": {"A": [5]}}', '{"bars": null}']]
)
def test_hole_is_fetched_although_the_history_fails_at_first(vendor, connect, clock, faults):
    stream, taken = connect(BARS_A)
    clock.set(at(1))
    vendor.rest_faults.extend(faults)
    vendor.publish("b", [bar(0)], is_silent=True)
    vendor.drop()
    for n in range(2, 100 * PATIENCE_SECONDS):
        if 0 in taken.minutes():
            break
        clock.set(at(n))
        time.sleep(0.02)
    assert taken.minutes() == [0]
    assert not vendor.rest_faults
    until(lambda: not stream.pending_backfills)


@pytest.mark.parametrize(
    "frame",
    [
        b"\xc1",
        b"",
        "text",
        b"\x05",
        packed([7]),
        packed(["b"]),
        packed([{"T": ["b"], "S": "A"}]),
        packed([{"T": "b", "S": ["A"]}]),
    ],
)
def test_garbage_frame_is_rejected_and_what_follows_is_taken(vendor, connect, clock, frame):
    stream, taken = connect(BARS_A)
    clock.set(at(2))
    vendor.publish("b", [bar(0)], is_silent=True)  # as if it had been in the frame, behind the garbage
    vendor.send_raw(frame)
    vendor.publish("b", [bar(1)])
    until(lambda: 1 in taken.minutes())
    until(lambda: 0 in taken.minutes())
    assert any(reason.startswith("a frame that cannot be read") for reason in taken.reasons())
    assert (stream.status().connected, stream.status().reconnects) == (True, 0)


def test_messages_that_mean_nothing_are_passed_over(vendor, connect, clock):
    stream, taken = connect(BARS_A)
    clock.set(at(1))
    vendor.send(
        [
            {},
            {"T": "?"},
            {"T": "b"},
            {"T": "q", "S": "A"},
            {"T": "b", "S": "Z"},
            {"T": "d", **bar(0), "t": stamp(OPEN_NS)},
        ]
    )
    vendor.publish("b", [bar(0)])
    until(lambda: taken.minutes() == [0])
    assert (taken.reasons(), stream.status().error) == ([], "")


@pytest.mark.parametrize("cells", [{"c": "much"}, {"c": None}, {"t": "yesterday"}])
def test_malformed_bar_is_rejected_and_fetched(vendor, connect, clock, cells):
    stream, taken = connect(BARS_A)
    clock.set(at(1))
    vendor.publish("b", [bar(0)], is_silent=True)
    vendor.send([{"T": "b", **bar(0), "t": stamp(OPEN_NS), **cells}])
    until(lambda: taken.minutes() == [0])
    assert len(taken.reasons()) == 1
    assert "missing or unreadable" in taken.reasons()[0]
    until(lambda: not stream.pending_backfills)


def test_trade_that_is_cancelled_is_noted_and_stands(vendor, connect):
    _, taken = connect(Subscription("A", "ticks"))
    vendor.publish("t", [trade(1)])
    vendor.send([{"T": "x", "S": "A", "i": 101, "x": "V", "p": 10.0, "s": 5, "a": "C", "t": stamp(OPEN_NS), "z": "C"}])
    until(lambda: len(taken.reasons()) == 1)
    assert "corrected or cancelled" in taken.reasons()[0]
    assert len(taken.rows("ticks")) == 1


def test_bars_that_nobody_takes_are_not_read_and_none_is_lost(vendor, connect, clock):
    stream, taken = connect(BARS_A, bounds={"bars": 5})
    clock.set(at(300))
    for n in range(60):
        vendor.publish("b", [bar(n)])
    until(lambda: stream.status().waiting == 5)
    time.sleep(0.1)
    assert stream.status().waiting == 5
    until(lambda: len(taken.minutes()) == 60)
    assert taken.minutes() == list(range(60))
    assert stream.status().dropped == {}


def test_quotes_that_nobody_takes_push_out_the_oldest_and_are_counted(vendor, connect):
    stream, taken = connect(Subscription("A", "quotes"), bounds={"quotes": 5})
    vendor.publish("q", [quote(n) for n in range(12)])
    until(lambda: stream.status().dropped == {"quotes": 7})
    assert len(taken.rows("quotes")) == 5


def test_unsubscribe_leaves_out_what_waits_and_others_go_on(vendor, connect, clock):
    stream, taken = connect(BARS_A, BARS_B)
    clock.set(at(1))
    vendor.publish("b", [bar(0), bar(0, "B")])
    until(lambda: stream.status().waiting == 2)
    stream.unsubscribe("A")
    until(lambda: not any("A" in channels["bars"] for channels in vendor._clients.values()))
    clock.set(at(2))
    vendor.publish("b", [bar(1), bar(1, "B")])
    until(lambda: taken.minutes("B") == [0, 1])
    assert taken.minutes("A") == []
    stream.subscribe([BARS_A])
    until(lambda: is_live(stream, BARS_A))
    clock.set(at(3))
    vendor.publish("b", [bar(2)])
    until(lambda: taken.minutes("A") == [2])


def test_subscribe_again_changes_nothing_and_more_symbols_join(vendor, connect, clock):
    stream, taken = connect(BARS_A)
    stream.subscribe([BARS_A])
    stream.subscribe([BARS_B, BARS_B])
    until(lambda: is_live(stream, BARS_B))
    clock.set(at(1))
    vendor.publish("b", [bar(0), bar(0, "B")])
    until(lambda: len(taken.rows()) == 2)
    assert vendor.counts["connections"] == 1


@pytest.mark.parametrize(
    "want",
    [Subscription("A", "bars", DAY), Subscription("A", "bars", Interval(5, "m")), Subscription("A", "open_interest")],
)
def test_subscribe_to_what_is_not_streamed_names_what_is(connect, want):
    stream, _ = connect()
    with pytest.raises(StreamError, match="streamed are bars 1m, quotes, ticks"):
        stream.subscribe([want])


def test_refused_keys_end_the_stream_and_are_never_shown(vendor, connect, caplog):
    caplog.set_level(logging.DEBUG)
    vendor.refuse_keys = True
    stream, _ = connect()
    stream.subscribe([BARS_A])
    until(lambda: stream.status().exhausted)
    assert not stream.wait(PATIENCE_SECONDS)
    status = stream.status()
    assert (status.connected, vendor.counts["refused"]) == (False, 3)
    assert "auth failed" in status.error
    with pytest.raises(StreamError, match="auth failed") as raised:
        stream.subscribe([BARS_B])
    with pytest.raises(StreamError, match="status 403") as denied:
        AlpacaStream(AlpacaOptions("wrong-key", SECRET, rest_url=vendor.rest_url)).fetch(
            [HistoryRequest("A", *BARS_A[1:], at(0) - dt.timedelta(1), at(0))]
        )
    shown = [
        caplog.text,
        repr(stream),
        str(stream._options),
        repr(stream._access),
        status.error,
        str(raised.value),
        str(denied.value),
    ]
    assert not [text for text in shown if KEY in text or SECRET in text or "wrong-key" in text]


def test_keys_come_from_the_environment_and_their_absence_is_named(monkeypatch):
    monkeypatch.delenv("APCA_API_KEY_ID", raising=False)
    monkeypatch.setenv("APCA_API_SECRET_KEY", "from-the-environment")
    with pytest.raises(ParameterError, match="APCA_API_KEY_ID not given") as raised:
        AlpacaStream()
    assert "from-the-environment" not in str(raised.value)
    monkeypatch.setenv("APCA_API_KEY_ID", "an-id")
    assert AlpacaStream()._access.key == "an-id"


def test_client_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "alpaca", None)
    with pytest.raises(StreamError, match=r"pip install session-engine\[live\]"):
        AlpacaStream(AlpacaOptions(KEY, SECRET))


def test_error_of_the_vendor_is_told_and_the_stream_goes_on(vendor, connect, clock):
    stream, taken = connect(BARS_A)
    vendor.send([{"T": "error", "code": 405, "msg": "symbol limit exceeded"}])
    until(lambda: "symbol limit exceeded (405)" in stream.status().error)
    clock.set(at(1))
    vendor.publish("b", [bar(0)])
    until(lambda: taken.minutes() == [0])


def test_vendor_that_is_not_there_is_tried_again_and_told(clock):
    stream = AlpacaStream(
        AlpacaOptions(KEY, SECRET, stream_url="ws://127.0.0.1:9", backoff_seconds=(0.005, 0.01)), clock
    )
    stream.subscribe([BARS_A])
    until(lambda: "cannot connect" in stream.status().error)
    assert (stream.status().connected, stream.status().exhausted) == (False, False)
    stream.close()
    stream.close()
    assert stream.status().exhausted
    assert not stream.wait(PATIENCE_SECONDS)


def test_close_ends_both_threads_and_keeps_what_came(vendor, connect, clock):
    stream, taken = connect(BARS_A)
    clock.set(at(1))
    vendor.publish("b", [bar(0)])
    until(lambda: stream.status().waiting == 1)
    stream.close()
    assert not stream._connection._thread.is_alive()
    assert not stream._filler.is_alive()
    assert taken.minutes() == [0]


def test_fetch_gives_every_page_of_the_slots_that_were_asked_for(vendor, connect, clock):
    stream, _ = connect()
    clock.set(at(40))
    vendor.publish("b", [bar(n, symbol) for n in range(40) for symbol in "AB"])
    (got,) = stream.fetch([HistoryRequest(symbol, "bars", MINUTE, at(5), at(35)) for symbol in "BA"])
    (frame,) = got.frames
    assert frame.group_by("symbol", maintain_order=True).len().rows() == [("A", 30), ("B", 30)]
    assert (frame["ts"].min(), frame["ts"].max()) == (at(5), at(34))
    assert vendor.counts["requests"] == 9
    assert (got.kind, got.interval) == ("bars", MINUTE)


def test_fetch_leaves_out_bars_that_are_not_over(vendor, connect, clock):
    stream, _ = connect()
    vendor.history["bars"]["A"] = [{key: value for key, value in bar(n).items() if key != "S"} for n in range(5)]
    vendor.lag_seconds = -600
    clock.set(at(2.5))
    (got,) = stream.fetch([HistoryRequest("A", "bars", MINUTE, at(0), at(60))])
    assert got.frames[0]["ts"].to_list() == [at(0), at(1)]
    assert stream.fetch([HistoryRequest("A", "bars", MINUTE, at(10), at(60))]) == []


def test_fetch_daily_bars_by_their_trade_date(vendor, connect, clock):
    stream, _ = connect()
    midnight = OPEN_NS - int(9.5 * 3600) * SECOND_NS
    vendor.publish("b", [bar(0, t=midnight - n * 86_400 * SECOND_NS) for n in range(4)])
    clock.set(at(0) + dt.timedelta(days=3))
    (got,) = stream.fetch(
        [HistoryRequest("A", "bars", DAY, at(0) - dt.timedelta(days=2), at(0) + dt.timedelta(hours=7))]
    )
    assert [ts.date().day for ts in got.frames[0]["ts"]] == [31, 1, 2]
    assert vendor.asked[0]["timeframe"] == "1Day"


def test_fetch_quotes_and_trades_keeps_nanoseconds_and_numbers(vendor, connect, clock):
    stream, _ = connect()
    clock.set(at(5))
    vendor.publish("q", [quote(1), quote(1, bp=0, ap=0), quote(2, bp=0), quote(1000)])
    vendor.publish("t", [trade(n) for n in range(9)])
    quotes, ticks = stream.fetch(
        [HistoryRequest("A", "quotes", None, at(0), at(1)), HistoryRequest("A", "ticks", None, at(0), at(1))]
    )
    assert quotes.frames[0].select("seq", "bid").rows() == [(0, 10.0), (0, None), (0, 10.0)]
    assert quotes.rejects["reason"].to_list() == ["bid and ask: both missing"]
    assert quotes.frames[0]["ts"].to_physical().to_list() == [OPEN_NS + 1, OPEN_NS + 2, OPEN_NS + 1000]
    assert ticks.frames[0]["seq"].to_list() == [100 + n for n in range(9)]


def test_fetch_is_answered_after_429_and_500(vendor, connect, clock):
    stream, _ = connect()
    clock.set(at(5))
    vendor.publish("b", [bar(0)])
    vendor.rest_faults.extend([429, 500])
    assert stream.fetch([HistoryRequest("A", "bars", MINUTE, at(0), at(5))])[0].height == 1
    assert vendor.counts["requests"] == 3


@pytest.mark.parametrize(("faults", "requests"), [([500] * 9, 3), ([403] * 9, 1), ([422] * 9, 1)])
def test_fetch_without_an_answer_says_so(vendor, connect, clock, faults, requests):
    stream, _ = connect()
    clock.set(at(5))
    vendor.rest_faults.extend(faults)
    with pytest.raises(StreamError, match=rf"no answer in {requests} of 3 attempts \(status {faults[0]}\)"):
        stream.fetch([HistoryRequest("A", "bars", MINUTE, at(0), at(5))])
    assert vendor.counts["requests"] == requests


def test_fetch_another_interval_names_those_that_can_be_had(connect):
    stream, _ = connect()
    with pytest.raises(StreamError, match="valid: bars 1d, bars 1m, quotes, ticks"):
        stream.fetch([HistoryRequest("A", "bars", Interval(5, "m"), at(0), at(5))])


def test_crypto_streams_and_fetches_pairs(vendor, connect, clock):
    stream, taken = connect(Subscription("BTC/USD", "bars", MINUTE), feed="crypto")
    assert set(stream.available(["BTC/USD", "AAPL"])) == {"BTC/USD"}
    clock.set(at(2))
    vendor.publish("b", [bar(0, "BTC/USD", v=0.25)])
    until(lambda: taken.rows("bars", "symbol", "volume") == [("BTC/USD", 0.25)])
    assert stream.fetch([HistoryRequest("BTC/USD", "bars", MINUTE, at(0), at(2))])[0].height == 1
    assert vendor.asked[-1]["path"] == "/v1beta3/crypto/us/bars"


@pytest.mark.parametrize(
    ("options", "name"),
    [({"feed": "sap"}, "feed"), ({"backoff_seconds": (2, 1)}, "backoff_seconds"), ({"attempts": 0}, "attempts")],
)
def test_options_that_are_not_valid_are_named(options, name):
    with pytest.raises(ParameterError, match=f"{name}: received"):
        AlpacaOptions(**options)
