"""The kernels against the reference: places, repeated rows, bars, gaps and quality of random cases are equal."""

from __future__ import annotations

import random

import polars as pl
import pytest
from engine import reference
from engine.derive.bars import completeness_interval, derive, finish_bars, fold, fold_input, refold_input
from engine.interval import fold_parent
from engine.reference import MINUTE, Row

from tests import axis
from tests.reference_cases import (
    NOT_OF_THE_REFERENCE,
    QUALITY,
    Answers,
    Case,
    Round,
    answers,
    by_series,
    instants,
    interval,
    random_round,
    session_grid,
)

CASES = 20  # of a round
SAMPLE = range(100)
ROUNDS_OF_A_BLOCK = 125
BLOCKS = range(40)  # 40 * 125 * 20 = 100,000


@pytest.mark.parametrize("block", range(4))
def test_kernels_of_a_sample_of_cases_equal_the_reference(block: int) -> None:
    for seed in SAMPLE[block::4]:
        expect_equal(seed)


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_kernels_of_many_cases_equal_the_reference(block: int) -> None:
    for seed in range(block * ROUNDS_OF_A_BLOCK, (block + 1) * ROUNDS_OF_A_BLOCK):
        expect_equal(len(SAMPLE) + seed)


@pytest.mark.parametrize("seed", range(len(SAMPLE), len(SAMPLE) + 12))
def test_bars_folded_from_stored_bars_equal_the_reference(seed: int) -> None:
    one = random_round(seed, CASES)
    base, rows, targets = interval(one.base), answers(one).panel, [interval(step) for step in one.steps]
    grid = session_grid(one)
    for step, target in zip(one.steps, targets, strict=True):
        above = fold_parent(base, target)
        stored = derive(rows, grid, [above])[above] if above != base else None
        carried = refold_input(stored) if stored is not None else fold_input(rows.filter(pl.col("slot").is_not_null()))
        judge = completeness_interval(base, target)
        folded = fold(carried, grid.at(above), grid.at(target), counts_rows=target <= judge)
        bars = by_series(finish_bars(folded, grid.at(target), grid.at(judge)).drop(NOT_OF_THE_REFERENCE), CASES)
        for n, case in enumerate(one.cases, 1):
            settled = reference.settle([batch for call in case.calls for batch in call])[0]
            assert bars[n] == reference.bars(one.grid, settled, one.base, step), f"round {seed}, case {n}"


def expect_equal(seed: int) -> None:
    """Whatever differs is told with the number of its round: `random_round(seed)` gives it again."""
    one = random_round(seed, CASES)
    got = answers(one)
    expect_equal_places(one, seed)
    for n, case in enumerate(one.cases, 1):
        where = f"round {seed}, case {n}"
        rows = expect_equal_rows(case, n, got, where)
        expect_equal_outcomes(one, case, rows, (n, one.base), got, where)
        for step in one.steps:
            want = reference.bars(one.grid, rows, one.base, step)
            assert got.bars[n, step] == want, where  # prices are quarters, so that no order of a sum makes a difference
            real = [bar for bar in want if bar["n_base"]]
            expect_equal_outcomes(one, case, real, (n, step), got, where)


def expect_equal_rows(case: Case, n: int, got: Answers, where: str) -> list[Row]:
    rows, duplicates, corrections, conflicts = reference.settle([batch for call in case.calls for batch in call])
    assert got.rows[n] == rows, where
    assert got.repeats[n] == (duplicates, corrections), where
    in_order = lambda found: sorted(map(repr, found))  # noqa: E731
    assert in_order({**row} for row in got.conflicts[n]) == in_order(conflicts), where
    return rows


def expect_equal_outcomes(
    one: Round, case: Case, rows: list[Row], key: tuple[int, reference.Step], got: Answers, where: str
) -> None:
    step = key[1]
    stamps = [row["ts"] for row in rows if step != one.base or row["provenance"] != "synthetic"]
    assert got.gaps[key] == reference.gaps(one.grid, stamps, step, case.dates, one.as_of), where
    judged = rows if step == one.base else [{"ts": ts} for ts in stamps]
    want = reference.quality(one.grid, judged, step, case.dates, one.as_of)
    if step != one.base:  # what stands out is counted in base bars alone
        want = [row for row in want if row["expected"]]
    assert got.quality[key] == [{name: row[name] for name in ("session", *QUALITY)} for row in want], where


def expect_equal_places(one: Round, seed: int) -> None:
    grid, dice = session_grid(one), random.Random(seed)  # noqa: S311
    edges = [edge + by for s in one.grid.segments for edge in (s.open, s.close) for by in (-1, 0, 1)]
    first, last = one.grid.segments[0].open, one.grid.segments[-1].close
    stamps = [*edges, *(dice.randint(first - MINUTE, last + MINUTE) for _ in range(40))]
    ordinals = axis.frame(list(one.grid.segments))["ordinal"]
    numbers = dict(zip(one.grid.segments, ordinals, strict=True))
    for exact in (True, False):
        found = grid.place(instants(stamps), exact=exact).rows()
        for ts, have in zip(stamps, found, strict=True):
            session, segment, slot = reference.place(one.grid, one.base, ts, exact=exact)
            ordinal = None if segment is None else numbers.get(segment, have[1])  # a day's is that of its date
            assert have == (session, ordinal, slot.number if slot else None), f"round {seed}, {ts}"
    if isinstance(one.base, int):
        for stamp in ("end", "end-inclusive"):
            want = [reference.bar_start(one.grid, one.base, ts, stamp) for ts in stamps]
            have = grid.from_stamps(instants(stamps), stamp).cast(pl.Int64).to_list()
            assert have == want, f"round {seed}, {stamp}"
