"""The queue between a live source's threads and the session: bounded, ordered, nothing silently lost."""

from __future__ import annotations

import datetime as dt
import json
import threading

import polars as pl
import pytest
from engine.errors import ParameterError
from engine.interval import Interval
from engine.schema import ROWS
from engine.sources.streams.contract import Delivery
from engine.sources.streams.receive_queue import COLUMNS, ReceiveQueue, rejected_line, to_delivery
from hypothesis import given, settings
from hypothesis import strategies as st

MINUTE = 60_000_000_000
START = 1_704_205_800_000_000_000
BARS = ("bars", Interval(1, "m"))
QUOTES, TICKS = ("quotes", None), ("ticks", None)


def bar(n=0, symbol="A", close=10.5, **cells):
    row = dict(  # noqa: C408
        symbol=symbol, ts=START + n * MINUTE, open=10, high=11.0, low=9.0, close=close, volume=5, vwap=None, trades=3
    )
    return tuple((row | cells)[name] for name in COLUMNS["bars"])


def quote(n=0, symbol="A"):
    return (symbol, START + n, 0, 10.0, 10.1, 100, 200)


def test_take_rows_gives_one_conformed_frame_with_source_and_row():
    queue = ReceiveQueue("wire")
    assert queue.offer(BARS, [bar(0)])
    assert queue.offer(BARS, [bar(1), bar(0, "B")])
    assert queue.waiting == 3
    (got,) = queue.take()
    (frame,) = got.frames
    assert (got.kind, str(got.interval), got.stamp, got.height) == ("bars", "1m", "start", 3)
    assert dict(frame.schema) == {**ROWS["bars"], "row": pl.Int64(), "source": pl.String()}
    assert frame["row"].to_list() == [1, 2, 3]
    assert frame["source"].unique().to_list() == ["wire"]
    assert (queue.waiting, queue.delivered, queue.take()) == (0, 3, [])


def test_take_kinds_together_gives_one_delivery_each_in_order_of_arrival():
    queue = ReceiveQueue("wire")
    queue.offer(QUOTES, [quote(0)])
    queue.offer(BARS, [bar(0)])
    queue.offer(TICKS, [("A", START, 7, 10.0, 5, "V", "@,I")])
    queue.offer(QUOTES, [quote(1)])
    got = queue.take()
    assert [(one.kind, one.height) for one in got] == [("quotes", 2), ("bars", 1), ("ticks", 1)]
    assert got[2].frames[0].select("seq", "exchange", "conditions").row(0) == (7, "V", "@,I")


def test_take_bar_that_came_again_puts_it_into_a_later_frame():
    queue = ReceiveQueue("wire")
    queue.offer(BARS, [bar(0, close=10.1), bar(1), bar(0, close=10.2), bar(0, "B"), bar(0, close=10.3)])
    (got,) = queue.take()
    assert [frame.filter(symbol="A", ts=frame["ts"].min())["close"].to_list() for frame in got.frames] == [
        [10.1],
        [10.2],
        [10.3],
    ]
    assert got.height == 5


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"close": "much"}, "close: missing or unreadable"),
        ({"close": [1]}, "close: missing or unreadable"),
        ({"close": None}, "close: missing or unreadable"),
        ({"close": float("nan")}, "close: not finite"),
        ({"ts": "yesterday"}, "ts: missing or unreadable"),
        ({"ts": 2**70}, "ts: missing or unreadable"),
        ({"high": 8.0}, "high below low"),
        ({"volume": -1.0}, "volume: negative"),
        ({"trades": {"n": 1}}, "trades: unreadable"),
        ({"symbol": None}, "symbol: missing or unreadable"),
    ],
)
def test_take_garbage_cell_rejects_its_row_alone_and_keeps_the_cell(cells, reason):
    queue = ReceiveQueue("wire")
    queue.offer(BARS, [bar(0), bar(1, **cells), bar(2)])
    (got,) = queue.take()
    assert got.frames[0]["ts"].to_physical().to_list() == [START // 1000, (START + 2 * MINUTE) // 1000]
    assert got.frames[0]["close"].to_list() == [10.5, 10.5]
    assert got.rejects["row"].to_list() == [2]
    assert got.rejects["reason"][0].startswith(reason)
    kept = json.loads(got.rejects["cells"][0])
    ((name, value),) = cells.items()
    assert str(kept[name]).lower() == str(value).lower()


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(),
    st.binary(max_size=9),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    st.datetimes(timezones=st.just(dt.UTC)),
)


@pytest.mark.parametrize("resolution", [BARS, QUOTES, TICKS])
@settings(max_examples=40)
@given(data=st.data())
def test_take_whatever_cells_hold_gives_every_row_back_as_good_or_rejected(resolution, data):
    width = len(COLUMNS[resolution[0]])
    good = {"bars": bar(0), "quotes": quote(0), "ticks": ("A", START, 7, 10.0, 5, "V", "@")}[resolution[0]]
    cells = data.draw(st.lists(st.lists(JUNK, min_size=width, max_size=width), min_size=1, max_size=4))
    places = data.draw(st.lists(st.integers(0, width - 1), max_size=3))
    spoiled = [tuple(junk[n] if n in places else cell for n, cell in enumerate(good)) for junk in cells]
    queue = ReceiveQueue("wire")
    queue.offer(resolution, [good, *map(tuple, cells), *spoiled])
    (got,) = queue.take()
    assert got.height + got.rejects.height == 1 + 2 * len(cells)
    assert 1 in [number for frame in got.frames for number in frame["row"]]


def test_offer_bars_beyond_the_bound_is_refused_until_taken():
    queue = ReceiveQueue("wire", {"bars": 3})
    assert queue.offer(BARS, [bar(0), bar(1)])
    assert not queue.offer(BARS, [bar(2), bar(3)])
    assert queue.offer(BARS, [bar(2)])
    assert not queue.offer(BARS, [bar(3)])
    assert queue.take()[0].height == 3
    assert queue.offer(BARS, [bar(n) for n in range(9)]), "what is larger than the bound passes when nothing waits"
    assert queue.dropped == {}


def test_put_bars_into_a_full_queue_waits_and_loses_none():
    queue = ReceiveQueue("wire", {"bars": 5})
    thread = threading.Thread(target=lambda: [queue.put(BARS, [bar(n)]) for n in range(100)])
    thread.start()
    heights, seen = [], []
    while len(seen) < 100 and queue.wait(30):
        got = queue.take()
        heights += [one.height for one in got]
        seen += [ts for one in got for frame in one.frames for ts in frame["ts"].to_list()]
    thread.join(30)
    assert len(seen) == 100 == len(set(seen))
    assert seen == sorted(seen)
    assert max(heights) <= 5


@pytest.mark.parametrize(
    ("resolution", "make"), [(QUOTES, quote), (TICKS, lambda n: ("A", START + n, n, 1.0, 1, "V", ""))]
)
def test_offer_quotes_and_ticks_beyond_the_bound_drops_the_oldest_and_counts(resolution, make):
    kind = resolution[0]
    queue = ReceiveQueue("wire", {kind: 10})
    for n in range(25):
        assert queue.offer(resolution, [make(n)])
    assert queue.dropped == {kind: 15}
    (got,) = queue.take()
    assert got.frames[0]["ts"].to_physical().to_list() == [START + n for n in range(15, 25)]
    assert got.frames[0]["row"].to_list() == list(range(16, 26))


def test_close_frees_a_producer_that_waits_and_what_is_here_can_be_taken():
    queue = ReceiveQueue("wire", {"bars": 1})
    queue.put(BARS, [bar(0)])
    done = []
    thread = threading.Thread(target=lambda: done.append(queue.put(BARS, [bar(1)])))
    thread.start()
    queue.close()
    queue.close()
    thread.join(30)
    assert done == [False]
    assert queue.offer(BARS, [bar(2)])
    assert [one.height for one in queue.take()] == [1]


def test_wait_returns_when_something_comes_and_not_before():
    queue = ReceiveQueue("wire")
    assert not queue.wait(0.01)
    timer = threading.Timer(0.05, lambda: queue.offer(BARS, [bar(0)]))
    timer.start()
    assert queue.wait(30)
    timer.join()


def test_put_delivery_frames_of_ticks_waits_for_room_too():
    queue = ReceiveQueue("iterator", {"ticks": 2})
    rows = to_delivery(TICKS, [("A", START + n, n, 1.0, 1, "V", "") for n in range(2)], "iterator")
    thread = threading.Thread(target=lambda: [queue.put_delivery(rows) for _ in range(3)])
    thread.start()
    taken = []
    while len(taken) < 3 and queue.wait(30):
        taken += queue.take()
    thread.join(30)
    assert [one.height for one in taken] == [2, 2, 2]
    assert queue.dropped == {}


def test_refuse_garbage_beyond_its_bound_counts_what_is_dropped(monkeypatch):
    monkeypatch.setattr("engine.sources.streams.receive_queue.MOST_REFUSED", 5)
    queue = ReceiveQueue("wire")
    for n in range(8):
        queue.put_rejects("bars", rejected_line("wire", f"garbage {n}"))
    got = queue.take()
    assert [one.rejects["reason"][0] for one in got] == [f"garbage {n}" for n in range(3, 8)]
    assert all(isinstance(one, Delivery) and one.height == 0 for one in got)
    assert queue.dropped == {"rejects": 3}


@pytest.mark.parametrize("bounds", [{"bars": 0}, {"candles": 5}])
def test_make_queue_with_a_senseless_bound_names_the_valid_ones(bounds):
    with pytest.raises(ParameterError, match="bounds: received"):
        ReceiveQueue("wire", bounds)
