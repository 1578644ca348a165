"""The store's promises: one way in, snapshots that never change, removal that leaves nothing, changes that are complete."""

from __future__ import annotations

import datetime as dt
import json
import threading

import polars as pl
import pytest
from engine.errors import CursorExpiredError, ParameterError, SchemaError, UnknownSymbolError
from engine.interval import Interval
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.schema import BARS, ROWS, rejected_rows
from engine.store.change_log import CHANGE_LOG, coalesce_changes
from engine.store.placement import number_pairs
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)  # XNYS, a Tuesday


def bars(symbol: str, minutes: list[int], close: float = 10.0, **more: object) -> pl.DataFrame:
    rows = {
        "symbol": symbol, "price_type": "last", "ts": [OPEN + dt.timedelta(minutes=m) for m in minutes],
        "open": close, "high": close, "low": close, "close": close, "volume": 100.0, "size": None, "vwap": close,
        "trades": 1, **more,
    }  # fmt: skip
    return (
        pl.DataFrame(rows)
        .cast({k: v for k, v in BARS.items() if k not in ("symbol", "price_type")})
        .select(*BARS, *(k for k in more if k not in BARS))
    )


def store(*symbols: str, derived: tuple[str, ...] = ("5m", "1h")) -> SessionData:
    session = SessionData()
    session.register_symbol_data(*(SymbolSessionData(s, derived_intervals=derived) for s in symbols))
    return session


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(("bid", "ask"))), max_size=12))
def test_number_pairs_of_rows_in_any_order_names_each_row(rows: list[tuple[str, str]]) -> None:
    frame = pl.DataFrame(rows, schema={"symbol": pl.String, "price_type": pl.String}, orient="row")
    pairs, pair = number_pairs(frame)
    assert pairs.rows() == list(dict.fromkeys(rows))
    assert [pairs.row(number) for number in pair.tolist()] == rows


def test_register_symbol_then_get_gives_a_view_and_remove_gives_none() -> None:
    session = store("A", "B")
    session.append(bars("A", [0, 1, 2]), interval="1m")
    assert session.get_active_symbols() == {"A", "B"}
    assert session.get_symbol_data("A").bars_base.height == 3
    assert session.get_symbol_data("B").bars_base.height == 0
    assert session.remove_symbol("A")
    assert session.get_symbol_data("A") is None
    assert not session.remove_symbol("A")
    assert session.get_symbols_with_derived() == {"B": ["5m", "1h"]}


def test_append_bars_off_grid_and_out_of_session_are_kept_and_counted() -> None:
    session = store("A", derived=("5m",))
    rows = pl.concat([bars("A", [0, 1, -60, 600]), bars("A", [2]).with_columns(pl.col("ts") + dt.timedelta(seconds=7))])
    session.append(rows, interval="1m")
    derive_session(session)
    assess_session(session)
    view = session.get_symbol_data("A")
    assert view.bars_base.height == 5
    assert view.bars_base["segment"].to_list() == ["PRE", "RTH", "RTH", "RTH", "POST"]
    assert view.bars("5m")["n_base"].to_list() == [2]
    quality = view.bar_quality["1m"].row(0, named=True)
    assert (quality["off_grid"], quality["out_of_session"], quality["present"], quality["missing"]) == (1, 2, 2, 388)


def test_append_same_rows_again_counts_duplicates_and_writes_no_row() -> None:
    session = store("A")
    first = session.append(bars("A", [0, 1]), interval="1m")
    again = session.append(bars("A", [0, 1]), interval="1m")
    assert (first.added, again.added, again.duplicates, again.corrections) == (2, 0, 2, 0)
    assert session.changes(first.revision)["kind"].to_list() == ["counts"]


def test_append_other_values_corrects_and_rederives_like_a_rebuild() -> None:
    session = store("A")
    session.append(bars("A", [0, 1, 2]), interval="1m")
    derive_session(session)
    done = session.append(bars("A", [1], close=12.0), interval="1m")
    derive_session(session)
    fresh = store("A")
    fresh.append(pl.concat([bars("A", [0]), bars("A", [1], close=12.0), bars("A", [2])]), interval="1m")
    derive_session(fresh)
    assert done.corrections == 1
    for interval in ("1m", "5m", "1h"):
        made, again = (one.get_symbol_data("A").bars(interval) for one in (session, fresh))
        assert made.drop("verdict").equals(again.drop("verdict"))
    assert session.bars("A", "1m")["verdict"].to_list() == ["observed", "corrected", "observed"]


def test_append_conflict_in_one_batch_rejects_the_loser_with_its_place() -> None:
    session = store("A")
    batch = pl.concat(
        [bars("A", [0], close=10.0, row=7, source="x.csv"), bars("A", [0], close=11.0, row=8, source="x.csv")]
    )
    done = session.append(batch, interval="1m")
    assert session.get_symbol_data("A").bars_base["close"].to_list() == [11.0]
    assert done.rejects.select("source", "row").rows() == [("x.csv", 7)]
    assert "conflict" in done.rejects["reason"][0]
    assert session.snapshot().rejects[0].equals(done.rejects)


def test_append_two_batches_in_one_call_corrects_like_two_calls() -> None:
    session = store("A")
    done = session.append([bars("A", [0], close=10.0), bars("A", [0], close=11.0)], interval="1m")
    assert (done.corrections, done.rejects.height) == (1, 0)


EARLIER, OTHER = bars("A", [0, 1]), bars("A", [0], close=11.0)
CALLS = {
    "new rows": [EARLIER],
    "a correction of a stored row": [EARLIER, OTHER],
    "a correction in the same call": [[EARLIER, OTHER]],
    "a correction in the same call of what corrects a stored row": [EARLIER, [OTHER, bars("A", [0], close=12.0)]],
    "a correction and its undoing": [EARLIER, [OTHER, EARLIER]],
    "duplicates of the store, of a batch and of the call": [EARLIER, [EARLIER, pl.concat([OTHER, OTHER]), OTHER]],
    "conflicts": [pl.concat([EARLIER, OTHER]), pl.concat([EARLIER, OTHER])],
    "rows of other dates": [bars("A", [0, 24 * 60])],
}


@pytest.mark.parametrize("calls", CALLS.values(), ids=CALLS)
def test_append_counts_every_offered_row_once(calls: list[pl.DataFrame | list[pl.DataFrame]]) -> None:
    session = store("A")
    for rows in calls:
        before = session.get_symbol_data("A").bars_base.height
        done = session.append(rows, interval="1m", dates=(None, OPEN.date()))
        assert done.offered == sum(one.height for one in (rows if isinstance(rows, list) else [rows]))
        counted = done.added + done.duplicates + done.corrections + done.left_out + done.rejects.height
        assert counted == done.offered
        assert session.get_symbol_data("A").bars_base.height == before + done.added


RAW = {
    "ticks": ({"seq": 1, "price": 10.0, "size": 5.0, "exchange": "Q", "conditions": "@", "suspicious": True}, "price"),
    "quotes": ({"seq": 1, "bid": 9.0, "ask": 11.0, "bid_size": 1.0, "ask_size": 2.0}, "ask"),
    "open_interest": ({"value": 7.0}, "value"),
}


@pytest.mark.parametrize("kind", RAW)
def test_append_conflict_of_raw_rows_keeps_all_their_values_in_the_reject(kind: str) -> None:
    session = store("A")
    values, changed = RAW[kind]
    rows = pl.DataFrame([{**values, changed: 8.0}, values]).select(
        pl.lit("A").alias("symbol"), pl.lit(OPEN, ROWS[kind]["ts"]).alias("ts"), *values
    )
    done = session.append(rows, kind)
    cells = json.loads(done.rejects["cells"][0])
    known = {name: str(value).lower() if value is True else str(value) for name, value in values.items()}
    assert {name: cells[name] for name in values} == {**known, changed: "8.0"}


@pytest.mark.parametrize("symbol", ["A", 'a"b', "=cmd", "[/]", "\U0001f4c8", "$.x"])
def test_remove_symbol_takes_the_conflicts_of_its_rows_and_no_other_reject(symbol: str) -> None:
    session = store(symbol, "other")
    refused = rejected_rows(pl.DataFrame({"row": [3], "symbol": [symbol]}), "volume is negative", "x.csv")
    session.add_rejects(refused)
    for name in (symbol, "other"):
        session.append(pl.concat([bars(name, [0]), bars(name, [0], close=11.0)]), interval="1m")
    assert session.snapshot().tables()["rejects"].height == 3
    session.remove_symbol(symbol)
    left = session.snapshot().tables()["rejects"]
    assert sorted(left["reason"].str.contains("conflict").to_list()) == [False, True]
    assert left.filter(pl.col("reason").str.contains("conflict"))["cells"].str.contains('"other"').all()


def test_append_unknown_symbol_writes_nothing() -> None:
    session = store("A")
    with pytest.raises(UnknownSymbolError, match="B not registered"):
        session.append(pl.concat([bars("A", [0]), bars("B", [0])]), interval="1m")
    assert session.get_symbol_data("A").bars_base.height == 0
    assert session.revision == 1  # the registration


def test_append_frame_that_does_not_fit_says_which_column() -> None:
    session = store("A")
    with pytest.raises(SchemaError, match="close"):
        session.append(bars("A", [0]).drop("close"), interval="1m")
    with pytest.raises(ParameterError, match="interval"):
        session.append(bars("A", [0]))


def test_append_unsorted_rows_are_stored_in_order() -> None:
    session = store("B", "A")
    session.append(pl.concat([bars("B", [5, 1]), bars("A", [3, 0])]), interval="1m")
    for symbol, minutes in (("A", [0, 3]), ("B", [1, 5])):
        assert session.get_symbol_data(symbol).bars_base["ts"].to_list() == [
            OPEN + dt.timedelta(minutes=m) for m in minutes
        ]


def test_append_outside_the_dates_is_left_out() -> None:
    session = store("A")
    done = session.append(bars("A", [0, 24 * 60]), interval="1m", dates=(dt.date(2024, 1, 3), None))
    assert (done.added, done.left_out) == (1, 1)
    assert session.get_symbol_data("A").bars_base["session"].to_list() == [dt.date(2024, 1, 3)]


@pytest.mark.parametrize(("stamp", "shift"), [("start", 0), ("end", 60), ("end-inclusive", 59)])
def test_append_any_stamp_stores_the_start(stamp: str, shift: int) -> None:
    session = store("A")
    rows = bars("A", [0, 1, 389]).with_columns(pl.col("ts") + dt.timedelta(seconds=shift))
    session.append(rows, interval="1m", stamp=stamp)
    assert session.get_symbol_data("A").bars_base["ts"].to_list() == [
        OPEN + dt.timedelta(minutes=m) for m in (0, 1, 389)
    ]


def test_append_end_stamps_of_a_short_last_bar_find_their_slot() -> None:
    session = SessionData()
    session.register_symbol_data(SymbolSessionData("A", base_interval="1h"))
    rows = bars("A", [60, 390])  # the last hour of XNYS is half an hour long
    session.append(rows, interval="1h", stamp="end")
    assert session.get_symbol_data("A").bars_base["ts"].to_list() == [OPEN, OPEN + dt.timedelta(minutes=360)]


def test_snapshot_held_over_writes_never_changes() -> None:
    session = store("A", "B")
    session.append(bars("A", [0, 1]), interval="1m")
    before = session.snapshot()
    frame = before.bars("A", "1m").clone()
    session.append(bars("A", [0, 2], close=99.0), interval="1m")
    session.remove_symbol("B")
    assert before.bars("A", "1m").equals(frame)
    assert set(before.symbols) == {"A", "B"}
    assert session.snapshot().revision > before.revision


def test_changes_since_coalesces_per_session_and_tells_removals() -> None:
    session = store("A", "B", derived=())
    session.append(bars("A", [0, 1]), interval="1m")
    cursor = session.revision
    session.append(bars("A", [5, 2]), interval="1m")
    session.append(bars("A", [3]), interval="1m")
    session.remove_symbol("B")
    told = session.changes(cursor)
    assert told.select("symbol", "kind", "interval", "removed").rows() == [
        ("A", "bars", "1m", False),
        ("B", None, None, True),
    ]
    assert (told["first_ts"][0], told["last_ts"][0]) == (OPEN + dt.timedelta(minutes=2), OPEN + dt.timedelta(minutes=5))
    assert session.changes(session.revision).height == 0


def test_changes_behind_the_log_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.store.change_log.LOG_ROWS", 2)
    monkeypatch.setattr("engine.store.change_log.RECENT_LOG_ROWS", 2)
    session = store("A")
    for day in range(6):
        session.append(bars("A", [day * 1440]), interval="1m")
    with pytest.raises(CursorExpiredError, match="full read"):
        session.changes(0)
    assert session.changes(session.revision - 1).height == 1


def test_assess_again_without_changes_keeps_the_revision() -> None:
    session = store("A")
    session.append(bars("A", [0, 3, 4]), interval="1m")
    for _ in range(2):
        derive_session(session)
        assess_session(session)
        revision = session.revision
    derive_session(session)
    assess_session(session)
    assert session.revision == revision


def test_remove_symbol_leaves_no_row_anywhere() -> None:
    session = store("A", "B")
    session.append(pl.concat([bars("A", [0, 3]), bars("B", [0, 4])]), interval="1m")
    derive_session(session)
    assess_session(session)
    session.remove_symbol("A")
    tables = session.snapshot().tables()
    assert {name for name, t in tables.items() if "symbol" in t.columns and "A" in t["symbol"].to_list()} == set()
    assert tables["bars"]["symbol"].unique().to_list() == ["B"]
    session.register_symbol_data(SymbolSessionData("A"))
    assert session.get_symbol_data("A").bars_base.height == 0


def test_register_symbol_with_another_base_raises() -> None:
    session = store("A")
    with pytest.raises(ParameterError, match="remove_symbol first"):
        session.register_symbol_data(SymbolSessionData("A", base_interval="5m"))


def test_quality_of_absent_session_is_zero_and_listed() -> None:
    session = store("A", derived=("1d",))
    session.append(bars("A", [0, 2 * 24 * 60]), interval="1m")
    derive_session(session)
    assess_session(session)
    view = session.get_symbol_data("A")
    assert view.bar_quality["1m"].select("session", "present", "quality").rows()[1] == (dt.date(2024, 1, 3), 0, 0.0)
    assert view.bar_gaps["1m"].filter(pl.col("position") == "session")["bar_count"].to_list() == [390]
    assert view.bar_quality["1d"].select("expected", "present", "missing").rows() == [(1, 1, 0), (1, 0, 1), (1, 1, 0)]
    assert view.bar_quality["1d"]["slot_coverage"].to_list() == pytest.approx([1 / 390, 0, 1 / 390])


def test_incomplete_drop_leaves_flagged_bars_out_of_views() -> None:
    session = SessionData(incomplete="drop")
    session.register_symbol_data(SymbolSessionData("A", derived_intervals=("5m",)))
    session.append(bars("A", [0, 1, 2, 3, 4, 5]), interval="1m")
    derive_session(session)
    assert session.get_symbol_data("A").bars("5m")["n_base"].to_list() == [5]


def test_metrics_of_the_current_session_and_history_are_views() -> None:
    session = store("A", derived=("5m",))
    session.append(bars("A", [0, 1, 24 * 60]), interval="1m")
    derive_session(session)
    session.set_session(dt.date(2024, 1, 3), active=True)
    view = session.get_symbol_data("A")
    assert (view.session_volume, view.session_high, view.session_low) == (100.0, 10.0, 10.0)
    assert list(view.historical_bars["1m"]) == [dt.date(2024, 1, 2)]
    assert view.historical_bars["5m"][dt.date(2024, 1, 2)]["n_base"].to_list() == [2]
    assert view.latest_bar["ts"] == OPEN + dt.timedelta(days=1)
    assert view.bars_updated
    session.mark_exported(session.revision)
    assert not session.get_symbol_data("A").bars_updated


def test_append_while_others_read_add_and_remove_keeps_every_snapshot_whole() -> None:
    session = store(*(f"S{n}" for n in range(8)), derived=())
    stop, broken = threading.Event(), []

    def look() -> None:
        snapshot = session.snapshot()
        newest = [part["revision"].max() or 0 for held in snapshot.panels.values() for part in held.parts]
        broken.extend(f"row of revision {n} in {snapshot.revision}" for n in newest if n > snapshot.revision)
        views = [session.get_symbol_data(name) for name in snapshot.symbols]
        broken.extend(v.symbol for v in views if v is not None and not v.bars_base["ts"].is_sorted())

    def read() -> None:
        while not stop.is_set():
            look()

    def churn() -> None:
        for _ in range(30):
            session.remove_symbol("S0")
            session.register_symbol_data(SymbolSessionData("S0", derived_intervals=()))

    threads = [threading.Thread(target=read) for _ in range(3)] + [threading.Thread(target=churn)]
    for thread in threads:
        thread.start()
    for minute in range(60):
        session.append([bars(f"S{n}", [minute]) for n in range(1, 8)], interval="1m")
    stop.set()
    for thread in threads:
        thread.join()
    assert broken == []
    assert session.get_symbol_data("S1").bars("1m").height == 60


def test_intervals_of_one_symbol_keep_their_order() -> None:
    data = SymbolSessionData("A", derived_intervals=("1h", "60m", "5m", "1m"))
    assert data.derived_intervals == ("5m", "1h")
    assert data.base == Interval.parse("1m")


instants = st.none() | st.integers(0, 3).map(lambda n: dt.datetime(2024, 1, 2, 15, n, tzinfo=dt.UTC))
entries = st.tuples(
    st.integers(1, 3), st.sampled_from(["bars", "gaps"]), st.sampled_from([None, "1m", "5m"]),
    st.sampled_from([None, dt.date(1969, 12, 31), dt.date(2024, 1, 2)]), instants, instants, st.integers(1, 9),
)  # fmt: skip


@given(st.lists(entries, max_size=12))
def test_coalesced_any_entries_equals_grouping_them(found: list[tuple[object, ...]]) -> None:
    log, key = pl.DataFrame(found, schema=CHANGE_LOG, orient="row"), ["series", "kind", "interval", "session"]
    grouped = log.group_by(key).agg(pl.col("first_ts").min(), pl.col("last_ts").max(), pl.col("revision").max())
    assert_frame_equal(coalesce_changes(log).sort(key), grouped.sort(key))
