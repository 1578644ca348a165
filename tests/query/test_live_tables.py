"""A live session answers SQL as its export does; venue time; as-of and window functions as the documents show them."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import polars as pl
import pytest
from engine.interval import Interval
from engine.query import connect, sql
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.run import run
from engine.store.session_data import SessionData
from polars.testing import assert_frame_equal

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
DOCUMENT = Path(__file__).parents[2] / "docs" / "sql.md"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[SessionData, Path]:
    root = tmp_path_factory.mktemp("live")
    for name, holes in (("SPY", set(range(60, 80))), ("0700", {5})):
        rows = [
            f"{(OPEN + dt.timedelta(minutes=m)).isoformat()},{10 + m / 100},{11 + m / 100},9.5,{10.2 + m / 100},{100 + m}"
            for m in range(390)
            if m not in holes
        ]
        (root / "vendor").mkdir(exist_ok=True)
        (root / "vendor" / f"{name}.csv").write_text("ts,open,high,low,close,volume\n" + "\n".join(rows))
    options = LoadOptions(
        calendars=CalendarMap("XNYS"), derive=(Interval.parse("5m"), Interval.parse("1h"), Interval.parse("1d"))
    )
    outcome = run([root / "vendor"], options, root / "out")
    return outcome.session, root / "out"


QUERIES = [
    "SELECT * EXCLUDE (revision) FROM bars ORDER BY ALL",
    "SELECT * EXCLUDE (revision) FROM gaps ORDER BY ALL",
    "SELECT * EXCLUDE (revision) FROM quality ORDER BY ALL",
    "SELECT * EXCLUDE (revision) FROM sessions ORDER BY ALL",
    "SELECT * EXCLUDE (revision) FROM calendars ORDER BY ALL",
    "SELECT * EXCLUDE (revision) FROM symbols ORDER BY ALL",
    "FROM coverage",
    "FROM worst_gaps",
    "FROM ohlcv('SPY', '5m')",
    "FROM ohlcv('0700', '1m')",
    "SELECT symbol, ts, ts_local FROM bars_local WHERE interval = '1h' ORDER BY ALL",
    "SELECT symbol, venue_time(symbol, gap_start) AS began, bar_count FROM worst_gaps",
    "SELECT symbol, interval, count(*) AS n, sum(volume) AS v FROM bars GROUP BY ALL ORDER BY ALL",
    "SELECT symbol, ts, close - lag(close) OVER (PARTITION BY symbol ORDER BY ts) AS move FROM bars WHERE interval = '5m' ORDER BY ALL",
    "SELECT s.symbol, d FROM symbols s, UNNEST(s.derived_intervals) AS u(d) ORDER BY ALL",
    "SELECT symbol, time_bucket(INTERVAL 30 MINUTE, ts) AS half, max(high) AS high FROM bars GROUP BY ALL ORDER BY ALL",
]


@pytest.mark.parametrize("query", QUERIES)
def test_sql_on_a_session_answers_as_its_export(both: tuple[SessionData, Path], query: str) -> None:
    session, out = both
    expected = sql(out, query)
    assert expected.height > 0
    assert_frame_equal(sql(session, query), expected)
    assert_frame_equal(sql(session.snapshot(), query), expected)


def test_sql_isolated_on_a_session_answers_the_same(both: tuple[SessionData, Path]) -> None:
    session, out = both
    assert_frame_equal(sql(session, QUERIES[0], isolated=False), sql(out, QUERIES[0]))


def test_helpers_of_a_session_are_those_of_its_export(both: tuple[SessionData, Path]) -> None:
    listed = "SELECT view_name FROM duckdb_views() WHERE NOT internal UNION SELECT function_name FROM duckdb_functions() WHERE NOT internal AND function_type LIKE '%macro%'"
    helpers = {"coverage", "worst_gaps", "bars_local", "venue_time", "ohlcv"}
    for target in both:
        assert helpers <= set(sql(target, listed)["view_name"])


def test_ts_local_is_the_venue_clock_and_costs_a_query_nothing_that_leaves_it_out(
    both: tuple[SessionData, Path],
) -> None:
    _, out = both
    answer = sql(out, "SELECT ts, ts_local FROM bars_local WHERE interval = '1m' ORDER BY ts")
    expected = answer["ts"].dt.convert_time_zone("America/New_York").dt.replace_time_zone(None).rename("ts_local")
    assert answer["ts_local"].equals(expected)
    plans = {
        query: sql(out, f"EXPLAIN {query}")["explain_value"].item()
        for query in ("SELECT sum(close) FROM bars_local", "SELECT max(ts_local) FROM bars_local")
    }
    assert ["Join" in plan for plan in plans.values()] == [False, True]


def examples() -> list[str]:
    blocks = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return [statement.strip() for block in blocks for statement in block.split(";\n") if statement.strip()]


@pytest.mark.parametrize("statement", examples())
def test_documented_statement_runs_through_every_door(both: tuple[SessionData, Path], statement: str) -> None:
    session, out = both
    answer = sql(out, statement)
    assert_frame_equal(sql(session, statement), answer)
    with connect(out) as con:
        assert con.sql(statement).pl().columns == answer.columns


def test_documents_show_as_of_and_window_functions() -> None:
    whole = " ".join(examples())
    assert len(examples()) >= 6
    assert all(words in whole for words in ("ASOF JOIN", "OVER (", "ts_local", "venue_time(", "QUALIFY"))


def test_asof_join_of_the_document_finds_the_quote_in_force() -> None:
    ticks = pl.DataFrame({"symbol": ["A"] * 3, "ts_ns": [5, 10, 15], "price": [1.0, 2.0, 3.0]})
    quotes = pl.DataFrame(
        {"symbol": ["A", "A", "B"], "ts_ns": [5, 12, 14], "bid": [0.1, 0.2, 0.9], "ask": [0.3, 0.4, 0.95]}
    )
    statement = next(one for one in examples() if "ASOF" in one)
    answer = sql({"ticks": ticks, "quotes": quotes}, statement).sort("ts_ns")
    assert answer["bid"].to_list() == [0.1, 0.1, 0.2]
