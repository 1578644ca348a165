"""A query over a table of many files opens those that the export's log says it needs, and answers as if it opened all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb
import engine
import polars as pl
import pytest
from engine.export.dataset import open_dataset, write_dataset
from engine.export.tables import conform_table
from engine.query.api import connect
from engine.query.file_selection import PLANNING_SETTINGS, narrowed_catalog, planning_catalog
from engine.query.request import Catalog, Limits
from engine.query.sandbox import ReusedSandbox
from engine.query.sql_views import pinned_catalog

from tests.soak.targets import NOON, rows_of_bars

MONTHS = 84  # a file of each from January 1900 on: one symbol of seven, one row on the second day
SYMBOLS = ["A", "B", "C", "it's (", "S4", "S5", "é"]
LIMITS = Limits(threads=1)


class Export(NamedTuple):
    """An export of many files, a connection of its owner, and the sandboxes that questions use."""

    target: Path
    owner: duckdb.DuckDBPyConnection
    catalog: Catalog
    planner: ReusedSandbox

    def narrowed(self, query: str) -> Catalog:
        with self.planner.connection(planning_catalog(self.catalog), LIMITS) as con:
            return narrowed_catalog(self.catalog, con, query)

    def opened(self, query: str) -> int:
        """Number of files of bars that are left for a query."""
        return sum(name.startswith("bars/") for name in self.narrowed(query).files)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Export]:
    target = tmp_path_factory.mktemp("many") / "out"
    rows = rows_of_bars(pl.DataFrame({"interval": ["1m"] * MONTHS, "n": range(MONTHS)})).with_columns(
        pl.Series("symbol", [SYMBOLS[n % 7] for n in range(MONTHS)]),
        pl.Series("close", [float(n) for n in range(MONTHS)]),
    )
    write_dataset(target, {"bars": conform_table("bars", rows)}, store_id="m", store_revision=1, written_at=NOON)
    opened = open_dataset(target)
    statistics = {name: opened.statistics(name) for name in opened.tables}
    catalog = pinned_catalog({name: opened.files(name) for name in opened.tables}, statistics)
    assert list(catalog.listed) == ["bars"]
    planner = ReusedSandbox(PLANNING_SETTINGS)
    with connect(target) as owner:
        yield Export(target, owner, catalog, planner)
    planner.close()


CHOSEN = {
    "SELECT count(*) FROM bars": 0,
    "SELECT 1 FROM bars LIMIT 5": 0,
    "SELECT * FROM bars LIMIT 5": 5,
    "SELECT close + 1 FROM bars LIMIT 3": 3,
    "SELECT close FROM bars WHERE symbol = 'A' ORDER BY ts": 12,
    "SELECT close FROM bars WHERE symbol = 'it''s (' AND lower(symbol) > '' ORDER BY ts": 12,
    "SELECT close FROM bars WHERE symbol IN ('A', 'é') ORDER BY ts": 24,
    "SELECT close FROM bars WHERE symbol = 'A' OR symbol = 'B' AND session < '1901-01-01' ORDER BY ts": 24,
    "SELECT close FROM bars WHERE session = '1901-03-02'": 1,
    "SELECT close FROM bars WHERE session BETWEEN '1901-03-02' AND '1901-05-01' ORDER BY ts": 2,
    "SELECT close FROM bars WHERE ts >= '1906-11-02 14:30:00+00' ORDER BY ts": 2,
    "SELECT close FROM bars WHERE ts > '1906-11-02 15:30:00+01' ORDER BY ts": 1,
    "SELECT close FROM bars WHERE year(session) = 1902 ORDER BY ts": 12,
    "SELECT close FROM bars WHERE symbol LIKE 'S%' ORDER BY ts": 24,
    "SELECT count(*) FROM bars WHERE symbol = 'nobody'": 0,
    "SELECT sum(close) FROM bars_local WHERE symbol = 'B'": 12,
    "WITH b AS (SELECT * FROM bars WHERE symbol = 'B') SELECT count(*) FROM b JOIN b AS c USING (ts)": 12,
    "SELECT sum(close) FROM (FROM bars WHERE symbol = 'A' UNION ALL FROM bars WHERE session = '1900-02-02')": 13,
    "SELECT 1": 1,
    # Not told by the plan, or by bounds: all of them.
    "SELECT sum(close) FROM bars": MONTHS,
    "SELECT close FROM bars WHERE symbol = 'A' OR close > 70 ORDER BY ts": MONTHS,
    "SELECT close FROM bars WHERE upper(symbol) = 'A' ORDER BY ts": MONTHS,
    "SELECT close FROM bars WHERE symbol <> 'A' ORDER BY ts": MONTHS,
    "SELECT close FROM bars LIMIT 3 OFFSET 2": MONTHS,
    "SELECT close FROM bars ORDER BY ts DESC LIMIT 3": MONTHS,
    "SELECT count(*) FROM main.bars AS m, (SELECT max(close) AS top FROM bars WHERE symbol = 'A') WHERE m.close > top": MONTHS,
    "SELECT count(b.symbol) FROM (VALUES (1), (2)) AS v(n) LEFT JOIN bars AS b ON b.symbol = 'A' AND v.n = 1": 12,
    "SELECT count(*) FROM bars AS b LEFT JOIN bars AS c ON b.symbol = 'A' AND c.ts = b.ts": MONTHS,
    "SELECT sum(close) FROM query_table('bars') WHERE symbol = 'A'": 12,
    "PIVOT (SELECT symbol, close FROM bars WHERE symbol < 'C') ON symbol USING sum(close)": MONTHS,
    "DESCRIBE bars": MONTHS,
    "SELECT count(*) FROM bars WHERE close > (SELECT avg(close) FROM bars)": MONTHS,
    "SELECT close FROM bars WHERE ts < now() AND symbol = 'A' ORDER BY ts": 12,
}


@pytest.mark.parametrize("query", CHOSEN)
def test_query_opens_the_files_it_needs_and_answers_as_over_all(query: str, many: Export) -> None:
    assert many.opened(query) == CHOSEN[query]
    sandbox = ReusedSandbox()
    with sandbox.connection(many.narrowed(query), LIMITS) as con:
        assert con.sql(query).fetchall() == many.owner.sql(query).fetchall()
    sandbox.close()


def test_null_of_a_file_keeps_it(tmp_path: Path) -> None:
    rows = rows_of_bars(pl.DataFrame({"interval": ["1m"] * 70, "n": range(70)}))
    halves = rows.with_columns(pl.when(pl.col("ts").dt.year() > 1903).then("session").alias("session"))
    catalog = pinned_catalog(
        {"bars": [tmp_path / f"{n}.parquet" for n in range(70)]},
        {
            "bars": halves.select(
                pl.lit(1).alias("num_records"), pl.lit(9).alias("size_bytes"), pl.col("session").alias("min.session"), pl.col("session").alias("max.session"),
            )
        },
    )  # fmt: skip
    planner = ReusedSandbox(PLANNING_SETTINGS)
    query = "SELECT close FROM bars WHERE session = '1904-01-02'"
    with planner.connection(planning_catalog(catalog), LIMITS) as con:
        assert len(narrowed_catalog(catalog, con, query).files) == 48 + 1
    planner.close()


def test_child_answers_questions_of_many_files_in_turn(many: Export) -> None:
    for symbol, rows in (("A", 12), ("nobody", 0), ("B", 12)):
        found = engine.sql(many.target, f"SELECT * FROM bars WHERE symbol = '{symbol}'", threads=1)  # noqa: S608
        assert found.height == rows
        assert found["symbol"].unique().to_list() == [symbol][:rows]
    assert engine.sql(many.target, "SELECT count(*) FROM bars").item() == MONTHS
