"""What a stream did not bring: when backfills open, where they begin, and when they are closed."""

from __future__ import annotations

import pytest
from engine.sources.streams.backfill_requests import MINUTE_NS, SECOND_NS, BackfillRequests

OPEN = 1_704_205_800 * SECOND_NS
KEYS = [("bars", "A"), ("bars", "B"), ("quotes", "A")]
ALL = {"bars": {"A", "B"}, "quotes": {"A"}}


def at(minutes):
    return OPEN + round(minutes * MINUTE_NS)


@pytest.fixture
def requests():
    made = BackfillRequests(overlap_ns=5 * MINUTE_NS, again_ns=30 * SECOND_NS)
    made.add(KEYS, at(0.2))
    made.mark_streaming(ALL, at(0.3))
    return made


def short(taken):
    return [(request.kind, request.symbol, (request.since_ns - OPEN) / MINUTE_NS) for request in taken]


def test_first_connection_within_the_minute_leaves_no_request(requests):
    assert len(requests) == 0


def test_first_connection_after_a_bar_has_ended_leaves_a_request_of_bars_alone():
    made = BackfillRequests(0, 0)
    made.add(KEYS, at(0.9))
    made.mark_streaming(ALL, at(1.1))
    assert sorted(short(made.take_due(at(2)))) == [("bars", "A", 0), ("bars", "B", 0)]


def test_reconnect_opens_holes_from_the_last_row_less_the_overlap(requests):
    requests.record_row("bars", "A", at(10))
    requests.record_row("quotes", "A", at(10.5))
    requests.mark_disconnected()
    requests.mark_streaming({"bars": {"A"}, "quotes": {"A"}}, at(12))
    assert short(requests.take_due(at(12))) == [("bars", "A", 5), ("quotes", "A", 10.5)]
    requests.mark_streaming(ALL, at(13))
    assert short(requests.take_due(at(13))) == [("bars", "B", -5)]


def test_reconnect_of_a_delayed_feed_opens_arequest_from_its_last_row_and_not_from_when_it_was_asked_for(requests):
    requests.record_row("quotes", "A", at(-14.5))
    requests.mark_disconnected()
    requests.mark_streaming({"quotes": {"A"}}, at(12))
    assert short(requests.take_due(at(12))) == [("quotes", "A", -14.5)]


def test_same_connection_that_is_acknowledged_again_opens_none(requests):
    requests.mark_streaming(ALL, at(9))
    assert len(requests) == 0


def testrequest_that_was_not_fetched_keeps_its_beginning_through_another_disconnect(requests):
    requests.record_row("bars", "A", at(10))
    requests.mark_disconnected()
    requests.mark_streaming(ALL, at(12))
    taken = requests.take_due(at(12))
    requests.record_row("bars", "A", at(20))
    requests.mark_disconnected()
    requests.mark_streaming(ALL, at(21))
    requests.postpone(taken, at(22))
    assert ("bars", "A", 5) in short(requests.take_due(at(22)))


def test_filledrequest_is_looked_at_once_more_and_then_closed(requests):
    requests.record_row("bars", "A", at(10))
    requests.mark_disconnected()
    requests.mark_streaming(ALL, at(12))
    requests.mark_filled(requests.take_due(at(12)), at(12))
    assert requests.take_due(at(12.4)) == []
    again = requests.take_due(at(12.5))
    assert len(again) == 3
    requests.mark_filled(again, at(12.5))
    assert len(requests) == 0


def testrequest_that_is_put_back_waits_until_it_is_due(requests):
    requests.mark_disconnected()
    requests.mark_streaming(ALL, at(3))
    requests.postpone(requests.take_due(at(3)), at(5))
    assert requests.take_due(at(4.9)) == []
    assert len(requests.take_due(at(5))) == 3


def test_removed_symbol_has_norequest_and_gets_none_back(requests):
    requests.mark_disconnected()
    requests.mark_streaming(ALL, at(3))
    taken = requests.take_due(at(3))
    assert sorted(requests.remove("A")) == [("bars", "A"), ("quotes", "A")]
    requests.postpone(taken, at(3))
    requests.mark_filled(taken, at(3))
    requests.record_row("bars", "A", at(4))
    assert {request.symbol for request in requests.take_due(at(9))} == {"B"}
    assert ("bars", "A") not in requests


def test_doubt_opens_holes_of_what_is_live(requests):
    requests.record_row("bars", "A", at(10))
    requests.reopen(at(11), "A")
    assert sorted(short(requests.take_due(at(11)))) == [("bars", "A", 5), ("quotes", "A", 0.2)]
    requests.mark_disconnected()
    requests.reopen(at(12))
    assert len(requests) == 0


def test_older_row_does_not_move_the_beginning_back(requests):
    requests.record_row("bars", "A", at(10))
    requests.record_row("bars", "A", at(3))
    requests.mark_disconnected()
    requests.mark_streaming({"bars": {"A"}}, at(12))
    assert short(requests.take_due(at(12))) == [("bars", "A", 5)]
