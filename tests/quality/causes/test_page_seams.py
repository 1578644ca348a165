"""Rows that are missing at constant distances: what an API leaves out between its pages, and what only looks like it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tests.quality.causes.test_situations import LOSSES, MINUTE, audited, causes_at, slots


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("page", "share", "sessions"), [(100, 1.0, 5), (1000, 0.99, 20), (1000, 1.0, 12), (850, 1.0, 15)]
)
def test_audit_of_rows_lost_at_page_seams_is_a_loss(page: int, share: float, sessions: int, seed: int) -> None:
    rng, grid = np.random.default_rng(seed), slots(sessions).ravel()
    traded = {name: grid[rng.random(len(grid)) < share] for name in ("AAA", "BBB", "CCC")}
    stamps = traded | {
        "AAA": np.delete(traded["AAA"], np.arange(page - 1, len(traded["AAA"]), page)),
        "BBB": np.delete(traded["BBB"], np.arange(page // 3, len(traded["BBB"]), page)),
    }
    tables = audited(stamps, rng)
    for name in ("AAA", "BBB"):
        gaps = tables["gaps"].filter(pl.col("symbol") == name)
        lost = np.setdiff1d(traded[name], stamps[name])
        alone = np.isin(lost - MINUTE, stamps[name]) & np.isin(lost + MINUTE, stamps[name])
        named = causes_at(gaps, lost[alone])
        assert named == ["symbol_loss"] * len(named)
        assert len(named) >= 0.8 * len(lost)
        told = tables["findings"].filter(pl.col("symbol") == name, pl.col("check_name") == "symbol_loss")
        assert told["severity"].to_list() == ["warning"]
        assert f"every {page:,}th row is missing" in told["evidence"][0]
    quiet = tables["gaps"].filter(pl.col("symbol") == "CCC", pl.col("cause").is_in(LOSSES))
    assert quiet["bar_count"].sum() <= 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.95, 0.99, 0.997])
def test_audit_of_silences_by_chance_names_no_page(share: float, seed: int) -> None:
    rng, grid = np.random.default_rng(seed), slots(20).ravel()
    tables = audited({f"T{n:02}": grid[rng.random(len(grid)) < share] for n in range(10)}, rng)
    assert not tables["gaps"].filter(pl.col("evidence").str.contains("seams")).height


def test_audit_of_a_minute_that_each_session_lacks_names_no_page() -> None:
    rng, grid = np.random.default_rng(1), slots(12)
    daily = {
        "AAA": np.delete(grid, 389, axis=1).ravel(),
        "BBB": grid.ravel(),
        "CCC": np.delete(grid, 200, axis=1).ravel(),
    }
    tables = audited(daily, rng)
    assert not tables["gaps"].filter(pl.col("evidence").str.contains("seams")).height
