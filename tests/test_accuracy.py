"""The accuracy benchmark runs, judges what it plants, and its page holds what it prints."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from benchmarks.accuracy import situations
from benchmarks.accuracy.__main__ import CAUSES, jobs, report, seeds_of
from benchmarks.accuracy.faults import KINDS, faults
from benchmarks.accuracy.results import LIQUIDITY, Results, class_of, per_thousand, wilson

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634)]
)
def test_wilson_interval_equals_published_values(hits: int, of: int, low: float, high: float) -> None:
    assert wilson(hits, of) == pytest.approx((low, high), abs=1e-4)


def test_classes_of_liquidity_take_the_bound_to_the_class_below() -> None:
    shares = pl.DataFrame({"liquidity": [1.0, 0.99, 0.95, 0.9, 0.5, 0.0]})
    assert shares.select(class_of("liquidity", LIQUIDITY))["class"].to_list() == ["> 99 %", "90-99 %", "90-99 %", "50-90 %", "< 50 %", "< 50 %"]  # fmt: skip


def test_false_alarms_are_told_per_thousand_symbol_sessions() -> None:
    assert per_thousand(5, 1000).startswith("5.0 (")
    assert (per_thousand(0, 0), seeds_of("101-103"), seeds_of("7")) == ("-", range(101, 104), range(7, 8))


def test_situations_of_liquid_symbols_are_found_and_named() -> None:
    parts = [situations.judged(name, 3, (60.0,), (3,)) for name in ("halt", "edges", "listings", "odd_rows", "venue")]
    done = Results.joined(parts)
    planted = done.judged.filter(pl.col("kind") != "no_trade")
    assert set(planted["kind"]) == {"halt", "not_covered", "not_listed", "refused", "off_grid", "early_close", "late_open", "calendar_suspect", "venue_halt"}  # fmt: skip
    shares = planted.group_by("kind").agg(pl.col("named").mean(), pl.col("found").mean())
    assert shares.filter(pl.col("kind") != "halt", pl.col("named") < 1).is_empty()
    assert shares.filter(pl.col("named") < 0.6).is_empty()  # a halt with a small jump is `unknown`
    assert done.alarms.is_empty()
    assert done.exposed.height > 100


def test_report_has_a_row_per_planted_kind() -> None:
    one = situations.judged("own_loss", 3, (60.0,), (1,))
    none = Results.empty()
    text = report({"causes": one, "faults": none, "untouched": none, "simulator": none}, range(3, 4))
    row = next(line for line in text.splitlines() if line.startswith("| `symbol_loss` |"))
    count = int(row.split("|")[2])
    assert count == one.judged.filter(kind="symbol_loss").height > 10
    assert set(CAUSES) == set(situations.KINDS)


def test_faults_are_of_the_kinds_that_the_report_shows_and_change_the_rows() -> None:
    rng = np.random.default_rng(1)
    made = situations.feed("XNYS", [20.0], 6, rng)
    (rows,) = made.frames().values()
    rows = rows.with_columns(pl.col("ts").dt.date().alias("session"), pl.lit(value=True).alias("inside"))
    planted = list(faults(rows, rng, closes=True, liquidity=1.0))
    assert {one.kind for one in planted} == set(KINDS)
    assert all(not one.rows.equals(rows) for one in planted)
    spans = [one for one in planted if one.start is not None]
    assert all(isinstance(one.start, dt.datetime) for one in spans)


def test_jobs_are_functions_that_a_worker_can_import() -> None:
    names = {job.func.__module__ for some in jobs(range(3, 4), quick=False).values() for job in some}
    assert names
    assert not [name for name in names if name.endswith("__main__")]


def test_readme_quotes_figures_of_the_page() -> None:
    page = (ROOT / "docs" / "accuracy.md").read_text("utf-8")
    quoted = re.findall(r"(\d[\d.]*) (?:%|per 1,000)[^.]*\[accuracy\]", (ROOT / "README.md").read_text("utf-8"))
    assert all(figure in page for figure in quoted)
