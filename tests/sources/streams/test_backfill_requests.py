"""What a stream did not bring: when holes open, where they begin, and when they are closed."""

from __future__ import annotations

import pytest
from engine.sources.streams.backfill_requests import MINUTE_NS, SECOND_NS, Holes

OPEN = 1_704_205_800 * SECOND_NS
KEYS = [("bars", "A"), ("bars", "B"), ("quotes", "A")]
ALL = {"bars": {"A", "B"}, "quotes": {"A"}}


def at(minutes):
    return OPEN + round(minutes * MINUTE_NS)


@pytest.fixture
def holes():
    made = Holes(overlap_ns=5 * MINUTE_NS, again_ns=30 * SECOND_NS)
    made.add(KEYS, at(0.2))
    made.live(ALL, at(0.3))
    return made


def short(taken):
    return [(hole.kind, hole.symbol, (hole.since_ns - OPEN) / MINUTE_NS) for hole in taken]


def test_first_connection_within_the_minute_leaves_no_hole(holes):
    assert len(holes) == 0


def test_first_connection_after_a_bar_has_ended_leaves_a_hole_of_bars_alone():
    made = Holes(0, 0)
    made.add(KEYS, at(0.9))
    made.live(ALL, at(1.1))
    assert sorted(short(made.take(at(2)))) == [("bars", "A", 0), ("bars", "B", 0)]


def test_reconnect_opens_holes_from_the_last_row_less_the_overlap(holes):
    holes.saw("bars", "A", at(10))
    holes.saw("quotes", "A", at(10.5))
    holes.lost()
    holes.live({"bars": {"A"}, "quotes": {"A"}}, at(12))
    assert short(holes.take(at(12))) == [("bars", "A", 5), ("quotes", "A", 10.5)]
    holes.live(ALL, at(13))
    assert short(holes.take(at(13))) == [("bars", "B", -5)]


def test_reconnect_of_a_delayed_feed_opens_a_hole_from_its_last_row_and_not_from_when_it_was_asked_for(holes):
    holes.saw("quotes", "A", at(-14.5))
    holes.lost()
    holes.live({"quotes": {"A"}}, at(12))
    assert short(holes.take(at(12))) == [("quotes", "A", -14.5)]


def test_same_connection_that_is_acknowledged_again_opens_none(holes):
    holes.live(ALL, at(9))
    assert len(holes) == 0


def test_hole_that_was_not_fetched_keeps_its_beginning_through_another_disconnect(holes):
    holes.saw("bars", "A", at(10))
    holes.lost()
    holes.live(ALL, at(12))
    taken = holes.take(at(12))
    holes.saw("bars", "A", at(20))
    holes.lost()
    holes.live(ALL, at(21))
    holes.put_back(taken, at(22))
    assert ("bars", "A", 5) in short(holes.take(at(22)))


def test_filled_hole_is_looked_at_once_more_and_then_closed(holes):
    holes.saw("bars", "A", at(10))
    holes.lost()
    holes.live(ALL, at(12))
    holes.filled(holes.take(at(12)), at(12))
    assert holes.take(at(12.4)) == []
    again = holes.take(at(12.5))
    assert len(again) == 3
    holes.filled(again, at(12.5))
    assert len(holes) == 0


def test_hole_that_is_put_back_waits_until_it_is_due(holes):
    holes.lost()
    holes.live(ALL, at(3))
    holes.put_back(holes.take(at(3)), at(5))
    assert holes.take(at(4.9)) == []
    assert len(holes.take(at(5))) == 3


def test_removed_symbol_has_no_hole_and_gets_none_back(holes):
    holes.lost()
    holes.live(ALL, at(3))
    taken = holes.take(at(3))
    assert sorted(holes.remove("A")) == [("bars", "A"), ("quotes", "A")]
    holes.put_back(taken, at(3))
    holes.filled(taken, at(3))
    holes.saw("bars", "A", at(4))
    assert {hole.symbol for hole in holes.take(at(9))} == {"B"}
    assert ("bars", "A") not in holes


def test_doubt_opens_holes_of_what_is_live(holes):
    holes.saw("bars", "A", at(10))
    holes.doubt(at(11), "A")
    assert sorted(short(holes.take(at(11)))) == [("bars", "A", 5), ("quotes", "A", 0.2)]
    holes.lost()
    holes.doubt(at(12))
    assert len(holes) == 0


def test_older_row_does_not_move_the_beginning_back(holes):
    holes.saw("bars", "A", at(10))
    holes.saw("bars", "A", at(3))
    holes.lost()
    holes.live({"bars": {"A"}}, at(12))
    assert short(holes.take(at(12))) == [("bars", "A", 5)]
