"""Causes of gaps on markets whose every fault is planted: found, not invented, and the same however the market is cut."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from engine.audit import pipeline
from engine.audit.attribution_blocks import segment_slots_of
from engine.audit.pipeline import BlockRunner, attribute_gaps
from engine.audit.survey import SLOTS, join_surveys
from engine.calendars.providers import calendar
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.quality.causes.no_trade_rates import BinnedGaps, chance_of_run, count_rates, no_trade_odds
from engine.quality.causes.outages import SUMS, peer_sums, sum_steps
from engine.quality.causes.profiles import bin_width
from engine.quality.causes.weighing import weigh_gaps
from engine.quality.gaps import expected_slots, find_gaps, slot_runs
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.parquet_scan import survey_rows
from engine.schema import BARS
from engine.simulation.faults import FaultPlan
from engine.simulation.sessions import Instrument, Market, simulate
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

FIRST, LAST = dt.date(2024, 11, 4), dt.date(2024, 11, 22)
M1 = Interval(1, "m")
OPTIONS = LoadOptions(CalendarMap("XNYS"))
MARKET = Market(
    tuple(
        Instrument(f"S{n:02}", price=30.0 + n, trades_per_minute=rate)
        for n, rate in enumerate([200.0, 150.0, 90.0, 60.0, 40.0, 25.0, 12.0, 5.0, 2.0, 0.8])
    ),
    seed=77,
)


@pytest.fixture(scope="module")
def grid() -> SessionGrid:
    return SessionGrid.build(calendar("XNYS").segments(FIRST, LAST), "1m", GridSpec("XNYS"))


@pytest.fixture(scope="module")
def clean(grid) -> pl.DataFrame:
    return simulate(grid, MARKET).clean


def explained(rows: pl.DataFrame, **changes):
    survey = survey_rows(rows.select([name for name in BARS if name in rows.columns]), M1, OPTIONS, "test")
    return attribute_gaps(replace(survey, **{name: make(survey) for name, make in changes.items()}), calendar)


def cut(rows: pl.DataFrame, symbols: list[str], start: str, end: str) -> pl.DataFrame:
    low, high = (pl.lit(text).str.to_datetime(time_unit="us", time_zone="UTC") for text in (start, end))
    return rows.filter(~(pl.col("symbol").is_in(symbols) & (pl.col("ts") >= low) & (pl.col("ts") < high)))


def cause_at(tables, symbol: str, instant: str) -> dict:
    at = pl.lit(instant).str.to_datetime(time_unit="us", time_zone="UTC")
    found = tables["gaps"].filter((pl.col("symbol") == symbol) & (pl.col("gap_start") <= at) & (at < pl.col("gap_end")))
    assert found.height == 1
    return found.row(0, named=True)


ALL = [instrument.symbol for instrument in MARKET.instruments]


def test_explain_slots_that_all_lack_is_one_outage(clean):
    tables = explained(cut(clean, ALL, "2024-11-12 16:00", "2024-11-12 16:07"))
    outage = tables["outages"].row(0, named=True)
    assert tables["outages"].height == 1
    assert (outage["cause"], outage["start_ts"].minute, outage["end_ts"].minute) == ("feed_loss", 0, 7)
    assert outage["symbols"] == 10
    of_it = tables["gaps"].filter(pl.col("outage_id") == outage["outage_id"])
    assert set(of_it["symbol"]) == set(ALL)
    assert cause_at(tables, "S00", "2024-11-12 16:03")["cause"] == "feed_loss"


def test_explain_slots_that_one_liquid_symbol_lacks_is_its_own_loss(clean):
    tables = explained(cut(clean, ["S02"], "2024-11-12 16:00", "2024-11-12 16:07"))
    gap = cause_at(tables, "S02", "2024-11-12 16:03")
    assert (gap["cause"], gap["bar_count"]) == ("symbol_loss", 7)
    assert gap["confidence"] > 0.9
    assert tables["outages"].is_empty()


def test_explain_silence_of_a_thin_symbol_is_no_trade(clean):
    tables = explained(clean)
    thin = tables["gaps"].filter(pl.col("symbol") == "S09")
    assert thin["bar_count"].sum() > 1000
    assert (thin.filter(pl.col("cause") == "no_trade")["bar_count"].sum() / thin["bar_count"].sum()) > 0.98
    series = tables["series"].filter(pl.col("symbol") == "S09").row(0, named=True)
    assert series["quality"] < 70
    assert series["quality_adjusted"] > 98
    assert series["activity"] == "mixed"


def test_explain_a_jump_over_the_hole_is_a_halt(grid):
    made = simulate(grid, MARKET, FaultPlan(halt=4))
    tables = explained(made.clean)
    found = [
        cause_at(tables, row["symbol"], str(row["start"])[:16])["cause"] for row in made.truth.iter_rows(named=True)
    ]
    assert found == ["halt"] * 4


def test_explain_an_absence_at_the_open_with_an_opening_print_is_a_late_open(grid):
    # The venue opened at 10:00 on one day; everybody's day begins there, with the volume of an opening.
    late = dt.date(2024, 11, 13)
    segments = calendar("XNYS").segments(FIRST, LAST)
    moved = segments.with_columns(
        pl.when(pl.col("session") == late)
        .then(pl.col("segment_open") + dt.timedelta(minutes=30))
        .otherwise("segment_open")
        .alias("segment_open")
    )
    rows = simulate(SessionGrid.build(moved, "1m", GridSpec("XNYS")), MARKET).clean
    tables = explained(rows)
    assert cause_at(tables, "S00", "2024-11-13 14:35")["cause"] == "late_open"


def test_explain_an_absence_at_the_open_without_an_opening_print_is_a_feed_loss(clean):
    tables = explained(cut(clean, ALL, "2024-11-13 14:30", "2024-11-13 15:00"))
    assert cause_at(tables, "S00", "2024-11-13 14:35")["cause"] == "feed_loss"


def test_explain_slots_that_every_session_lacks_are_the_calendars(clean):
    noon = clean.filter(~((pl.col("ts").dt.hour() == 17) & pl.col("ts").dt.minute().is_between(0, 4)))
    tables = explained(noon)
    whole = tables["gaps"].filter(
        (pl.col("gap_start").dt.hour() == 17) & (pl.col("gap_start").dt.minute() == 0) & (pl.col("symbol") == "S00")
    )
    assert whole.height == 15
    assert set(whole["cause"]) == {"calendar_suspect"}


def test_explain_prints_in_the_hole_prove_a_loss(grid, clean):
    symbol = "S09"
    hole = clean.filter(
        (pl.col("symbol") == symbol)
        & pl.col("ts").is_between(
            dt.datetime(2024, 11, 12, 16, tzinfo=dt.UTC), dt.datetime(2024, 11, 12, 16, 5, tzinfo=dt.UTC)
        )
    )
    left = clean.join(hole, on=["symbol", "ts"], how="anti")

    def prints(survey):
        number = survey.series.filter(pl.col("symbol") == symbol)["series"][0]
        stamps = clean.filter(pl.col("symbol") == symbol)["ts"]
        return slot_runs(grid.place(stamps).with_columns(pl.lit(number, pl.Int32).alias("series"))).select(list(SLOTS))

    at = str(hole["ts"][0])[:16]
    assert cause_at(explained(left), symbol, at)["cause"] == "no_trade"
    proven = cause_at(explained(left, prints=prints), symbol, at)
    assert proven["cause"] == "symbol_loss"
    assert "trades are on record in" in proven["evidence"]


def test_explain_a_loss_over_sessions_has_one_name(clean):
    tables = explained(cut(clean, ["S03"], "2024-11-12 20:00", "2024-11-14 15:00"))
    ids = tables["gaps"].filter((pl.col("symbol") == "S03") & (pl.col("cause") == "symbol_loss"))
    assert ids["position"].to_list() == ["trailing", "session", "leading"]
    assert ids["outage_id"].n_unique() == 1
    assert ids["outage_id"][0] == "S03 last 2024-11-12T20:00:00Z"


def test_explain_missing_is_the_sum_of_gaps_and_explained_never_more(clean):
    tables = explained(cut(clean, ["S03", "S09"], "2024-11-12 16:00", "2024-11-12 18:00"))
    gaps = tables["gaps"].group_by("symbol", "session").agg(pl.col("bar_count").sum())
    both = (
        tables["quality"]
        .join(gaps, on=["symbol", "session"], how="left")
        .with_columns(pl.col("bar_count").fill_null(0))
    )
    assert both["missing"].equals(both["bar_count"].alias("missing"))
    assert (both["explained"] <= both["missing"]).all()
    assert (both["quality_adjusted"] >= both["quality"]).all()


def test_explain_nothing_missing_gives_no_gap(grid):
    one = simulate(grid, Market((Instrument("A", trades_per_minute=400.0),), 3)).clean
    tables = explained(one)
    assert tables["gaps"].is_empty()
    assert tables["quality"]["quality_adjusted"].to_list() == [100.0] * 15


@pytest.mark.parametrize("keeps", ["memory", "files", "elsewhere"])
def test_explain_blocks_of_a_market_gives_what_the_whole_gives(clean, tmp_path, monkeypatch, keeps):
    rows = cut(cut(clean, ALL, "2024-11-12 16:00", "2024-11-12 16:07"), ["S02"], "2024-11-14 15:00", "2024-11-14 15:09")
    survey = survey_rows(rows.select(list(BARS)), M1, OPTIONS, "test")
    whole = attribute_gaps(survey, calendar)
    monkeypatch.setattr(pipeline, "LEAST_RUNS_PER_BLOCK", 100)
    ran = []

    def run(function, blocks):
        ran.append(len(blocks))
        yield from reversed([(number, function(block)) for number, block in enumerate(blocks)])

    def run_with_state(function, contexts, kept):
        # Twice, as where a worker was lost: the first call leaves what is kept as it was.
        ran.append(len(contexts))
        done = [[function(*one) for one in zip(contexts, kept, strict=True)] for _ in range(2)][1]
        return [result for result, _ in done], [after for _, after in done]

    runner = BlockRunner(
        run, 6, tmp_path if keeps == "files" else None, run_with_state if keeps == "elsewhere" else None
    )
    made = attribute_gaps(survey, calendar, runner=runner)
    assert len(ran) == 3
    assert set(ran) <= set(range(2, 7))
    assert {name: made[name].equals(whole[name]) for name in whole} == dict.fromkeys(whole, True)
    assert any(tmp_path.iterdir()) == (keeps == "files")


def test_prepare_weighs_each_gap_as_if_all_were_weighed_again(clean, grid):
    rows = cut(
        cut(clean, ALL[:4], "2024-11-12 16:00", "2024-11-12 16:07"), ["S09"], "2024-11-14 15:00", "2024-11-14 18:30"
    )
    survey = survey_rows(rows.select(list(BARS)), M1, OPTIONS, "test")
    wanted = expected_slots(survey.series.select("series", "first", "last"), grid)
    gaps, width = find_gaps(wanted, survey.runs, grid), bin_width(M1)
    part = weigh_gaps(gaps, wanted, width)
    excluded = gaps.filter(pl.Series(part.excluded))["series"].n_unique()
    assert 0 < excluded < survey.series.height  # some are weighed again, others not
    seen = BinnedGaps.of(gaps, wanted, width)
    known = count_rates(seen, part.excluded)
    again = no_trade_odds(known, seen, part.excluded)
    assert_frame_equal(part.rates.table, known.table)
    for name in ("run", "expected", "weight", "k", "p"):
        assert np.array_equal(getattr(part.odds, name), getattr(again, name)), name


def test_sums_of_what_is_missing_are_the_same_in_any_order(clean, grid):
    survey = survey_rows(clean.select(list(BARS)), M1, OPTIONS, "test")
    wanted = expected_slots(survey.series.select("series", "first", "last"), grid)
    gaps = find_gaps(wanted, survey.runs, grid)
    part = weigh_gaps(gaps, wanted, bin_width(M1))
    slots = segment_slots_of(gaps, wanted)
    whole = peer_sums(gaps, part.odds, part.rates, np.zeros(gaps.height, np.int64), slots)
    parts = [
        peer_sums(gaps, part.odds, part.rates, np.where(gaps["series"].to_numpy() % 3 == rest, 0, -1), slots)
        for rest in (2, 0, 1)
    ]
    assert_frame_equal(sum_steps(pl.concat(parts), SUMS), whole, check_exact=True)


@pytest.mark.parametrize("by", ["symbol", "session"])
def test_explain_parts_of_a_market_joined_gives_what_the_whole_gives(clean, by):
    rows = cut(cut(clean, ALL, "2024-11-12 16:00", "2024-11-12 16:07"), ["S02"], "2024-11-14 15:00", "2024-11-14 15:09")
    parts = rows.with_columns(session=pl.col("ts").dt.date()).partition_by(by, maintain_order=True)
    surveys = [survey_rows(part.select(list(BARS)), M1, OPTIONS, "part") for part in reversed(parts)]
    whole = explained(rows)
    made = attribute_gaps(join_surveys(surveys), calendar)
    for name in ("gaps", "outages", "quality", "sessions"):
        same = {
            column: made[name][column].equals(whole[name][column])
            for column in whole[name].columns
            if whole[name][column].dtype != pl.Float64
        }
        assert all(same.values()), (name, same)
        for column in (c for c in whole[name].columns if whole[name][c].dtype == pl.Float64):
            assert np.allclose(made[name][column], whole[name][column], equal_nan=True), (name, column)


@given(st.floats(0.001, 12), st.integers(1, 60), st.sampled_from([1.0, 3.0, 15.0, 1e6]))
def test_chance_of_run_falls_with_its_length_and_is_p_of_one_slot(weight, slots, k):
    run = chance_of_run(np.array([1.0, slots, slots + 1.0]), np.full(3, weight), k)
    assert run[0] == pytest.approx(np.exp(-weight), rel=1e-6)
    assert run[2] <= run[1] <= 1
    assert run[1] >= np.exp(-weight * slots) * (1 - 1e-6)
