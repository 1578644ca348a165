"""Any iterator of frames: pulled in its own thread, conformed, bounded; its exceptions end it and nothing else."""

from __future__ import annotations

import datetime as dt
import threading

import polars as pl
import pytest
from engine.clock import ManualClock
from engine.errors import ParameterError, StreamError
from engine.interval import Interval
from engine.sources.frames import from_frame
from engine.sources.streams.contract import Delivery, HistoryRequest, Subscription
from engine.sources.streams.iterator import IteratorStream

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
MINUTE = Interval(1, "m")
SUBSCRIPTIONS = [Subscription("A", "bars", MINUTE), Subscription("B", "bars", MINUTE)]
PATIENCE_SECONDS = 30


def bars(first=0, count=1, symbol="A", **cells):
    rows = {"ts": [OPEN + dt.timedelta(minutes=first + n) for n in range(count)], "symbol": symbol}
    return pl.DataFrame(rows | {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5} | cells)


def drained(stream):
    """All deliveries, to the end."""
    taken = []
    while not stream.status().exhausted:
        assert stream.wait(PATIENCE_SECONDS) or stream.status().exhausted
        taken += stream.take(OPEN)
    return taken


def rows(deliveries, *columns):
    return [
        row
        for one in deliveries
        for frame in one.frames
        for row in frame.select(columns or ("symbol", "ts")).iter_rows()
    ]


def reasons(deliveries):
    return [reason for one in deliveries for reason in one.rejects["reason"]]


@pytest.fixture
def stream_of():
    made = []

    def stream(frames, *subscriptions, **options):
        one = IteratorStream(frames, **options)
        made.append(one)
        one.subscribe(subscriptions or SUBSCRIPTIONS)
        return one

    yield stream
    for one in made:
        one.close()


def test_take_generator_of_frames_gives_conformed_rows_in_order(stream_of):
    def generator():
        for n in range(5):
            yield bars(n, 2)

    taken = drained(stream := stream_of(generator()))
    assert [one.height for one in taken] == [2] * 5
    assert [ts.minute - 30 for _, ts in rows(taken)] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert {one.interval for one in taken} == {MINUTE}
    assert rows(taken, "source", "row")[:3] == [("iterator:1", 1), ("iterator:1", 2), ("iterator:2", 1)]
    status = stream.status()
    assert (status.exhausted, status.connected, status.delivered, status.error) == (True, False, 10, "")


@pytest.mark.parametrize("convert", [pl.DataFrame.lazy, pl.DataFrame.to_arrow, pl.DataFrame.to_pandas])
def test_take_frames_of_other_libraries(stream_of, convert):
    assert len(rows(drained(stream_of([convert(bars(0, 3))])))) == 3


def test_take_deliveries_as_they_are(stream_of):
    batch = from_frame(bars(0, 2), interval="5m")
    whole = Delivery("bars", (batch.frame,), Interval(5, "m"), "end")
    (taken,) = drained(stream_of([whole], Subscription("A", "bars", Interval(5, "m"))))
    assert (taken.interval, taken.stamp, taken.height) == (Interval(5, "m"), "end", 2)


@pytest.mark.parametrize(
    "item",
    [
        None,
        5,
        "text",
        pl.DataFrame({"a": [1]}),
        Delivery("bars", (pl.DataFrame({"a": [1]}),), MINUTE),
        bars().drop("symbol"),
        bars().drop("ts"),
    ],
)
def test_take_item_that_is_no_frame_of_rows_is_rejected_and_the_next_is_pulled(stream_of, item):
    stream = stream_of([bars(0), item, bars(1)])
    taken = drained(stream)
    assert [ts.minute for _, ts in rows(taken)] == [30, 31]
    assert len(reasons(taken)) == 1
    assert stream.status().error == reasons(taken)[0]


def test_take_bad_rows_are_rejected_with_their_item_and_row(stream_of):
    taken = drained(stream_of([bars(0), pl.concat([bars(1), bars(2, high=1.0)])], name="feed"))
    assert len(rows(taken)) == 2
    assert [row for one in taken for row in one.rejects.select("source", "row").iter_rows()] == [("feed:2", 2)]


@pytest.mark.parametrize("error", [ValueError("no more"), KeyboardInterrupt("pressed"), SystemExit(3), GeneratorExit()])
def test_exception_of_the_iterator_ends_the_stream_and_is_told(stream_of, error):
    def generator():
        yield bars(0)
        raise error

    stream = stream_of(generator())
    assert [ts.minute for _, ts in rows(drained(stream))] == [30]
    assert type(error).__name__ in stream.status().error
    assert str(error) in stream.status().error
    assert not stream.wait(PATIENCE_SECONDS)


def test_iterable_that_cannot_even_begin_is_told(stream_of):
    class Broken:
        def __iter__(self):
            raise OSError("no line")

    stream = stream_of(Broken())
    assert drained(stream) == []
    assert stream.status().error == "iterator: OSError: no line"


def test_iterator_is_pulled_no_faster_than_rows_are_taken(stream_of):
    pulled = []

    def generator():
        for n in range(50):
            pulled.append(n)
            yield bars(n * 10, 10)

    stream = stream_of(generator(), bounds={"bars": 30})
    assert stream.wait(PATIENCE_SECONDS)
    threading.Event().wait(0.2)
    assert len(pulled) <= 4
    assert stream.status().waiting <= 30
    assert len(rows(drained(stream))) == 500
    assert stream.status().dropped == {}


def test_quotes_and_ticks_of_an_iterator_wait_too(stream_of):
    ticks = [pl.DataFrame({"ts": [OPEN], "symbol": ["A"], "price": [float(n)]}) for n in range(1, 9)]
    stream = stream_of(ticks, Subscription("A", "ticks"), expects=[("ticks", None)], bounds={"ticks": 2})
    assert [price for (price,) in rows(drained(stream), "price")] == [float(n) for n in range(1, 9)]
    assert stream.status().dropped == {}


def test_take_rows_that_nobody_wants_are_left_out_and_counted(stream_of):
    stream = stream_of([bars(0), bars(0, 2, "B"), bars(0, 4, "Z")], SUBSCRIPTIONS[0])
    assert rows(drained(stream)) == [("A", OPEN)]
    assert (stream.left_out, stream.status().delivered) == (6, 1)


def test_unsubscribe_leaves_out_what_waits(stream_of):
    stream = stream_of([bars(0), bars(0, 1, "B")])
    stream.unsubscribe("A")
    assert rows(drained(stream)) == [("B", OPEN)]


def test_iterator_that_blocks_does_not_block_its_stream(stream_of):
    gate = threading.Event()

    def generator():
        yield bars(0)
        gate.wait(PATIENCE_SECONDS)
        yield bars(1)

    stream = stream_of(generator())
    assert stream.wait(PATIENCE_SECONDS)
    assert len(rows(stream.take(OPEN))) == 1
    assert stream.take(OPEN) == []
    assert not stream.wait(0.05)
    gate.set()
    assert len(rows(drained(stream))) == 1


def test_close_ends_the_generator_and_its_thread(stream_of):
    ended = threading.Event()

    def generator():
        try:
            while True:
                yield bars(0)
        finally:
            ended.set()

    stream = stream_of(generator(), bounds={"bars": 1})
    stream.wait(PATIENCE_SECONDS)
    stream.close()
    stream.close()
    assert ended.wait(PATIENCE_SECONDS)
    stream.take(OPEN)
    assert stream.status().exhausted
    with pytest.raises(StreamError, match="make a new one"):
        stream.subscribe(SUBSCRIPTIONS)


def test_nothing_is_pulled_before_the_first_subscription():
    pulled = []
    stream = IteratorStream(pulled.append(1) for _ in range(3))
    assert stream.available(["A"]) == {"A": {("bars", MINUTE)}}
    assert not stream.wait(0.05)
    assert pulled == []
    stream.close()


def test_offers_known_symbols_alone_and_has_no_past():
    stream = IteratorStream([], symbols=["A"], expects=[("bars", "5m"), ("quotes", None)])
    assert stream.available(["A", "B"]) == {"A": {("bars", Interval(5, "m")), ("quotes", None)}}
    assert stream.fetch([HistoryRequest("A", "bars", MINUTE, OPEN, OPEN)]) == []
    assert stream.next_at() is None


def test_status_lag_tells_how_far_the_last_bar_is_behind(stream_of):
    stream = stream_of([bars(0)], clock=ManualClock(OPEN + dt.timedelta(seconds=75)))
    drained(stream)
    assert stream.status().lag_seconds == 15


@pytest.mark.parametrize("frames", [bars(0), "text", 5])
def test_make_stream_of_what_is_no_iterator_of_frames_is_refused(frames):
    with pytest.raises(ParameterError, match="frames: received"):
        IteratorStream(frames)
