"""Sentences that say why a gap has its cause."""

from __future__ import annotations

import engine
import numpy as np
import polars as pl
import pytest
from engine.audit.attribution_blocks import symbols_that_go_on
from engine.audit.evidence import plural, unit

MINUTE = np.timedelta64(60_000_000, "us")
OPENS = np.array(["2024-04-08T13:30", "2024-04-09T13:30", "2024-04-10T13:30", "2024-04-11T13:30"], "datetime64[us]")
GRID = OPENS[:, None] + np.arange(390) * MINUTE


@pytest.fixture(scope="module")
def gaps() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    thin = GRID[rng.random(GRID.shape) < 0.8]
    holes = {"AIG": GRID[1, 100:105], "IBM": GRID[2, 50:51], "SPY": GRID[:0, 0], "BAC": GRID[:0, 0]}
    stamps = {name: np.setdiff1d(GRID, np.append(own, GRID[3, 200:207])) for name, own in holes.items()}
    frames = {name: bars(own, rng) for name, own in (stamps | {"THIN": thin}).items()}
    return engine.run_audit(frames, "XNYS", interval="1m").tables["gaps"]


def bars(stamps: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    close = 50 * np.exp(np.cumsum(rng.normal(0, 4e-4, len(stamps))))
    ts = pl.Series("ts", stamps).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    volume = np.ceil(rng.lognormal(7, 0.1, len(stamps)))
    return pl.DataFrame({"ts": ts, **dict.fromkeys(("open", "high", "low", "close"), close), "volume": volume})


def said(gaps: pl.DataFrame, symbol: str, bars: int) -> tuple[str, str]:
    return gaps.filter(pl.col("symbol") == symbol, pl.col("bar_count") == bars).row(0, named=True)


def test_evidence_of_a_loss_says_how_liquid_the_symbol_is_and_who_traded_on(gaps: pl.DataFrame) -> None:
    five, one = said(gaps, "AIG", 5), said(gaps, "IBM", 1)
    assert five["cause"] == "symbol_loss"
    # Both holes are left out of the other minutes, since neither is silence.
    assert five["evidence"] == (
        "AIG has a bar in all 1548 other minutes; these 5 minutes are missing while BAC, SPY and IBM had bars"
    )
    assert one["evidence"].startswith("IBM has a bar in all 1552 other minutes; ")
    assert one["evidence"].endswith("BAC, SPY and AIG had bars")
    assert five["chance"] < 1e-9 < one["chance"] < 1e-4


def test_evidence_of_an_outage_says_who_lacks_it(gaps: pl.DataFrame) -> None:
    lost = said(gaps, "SPY", 7)
    assert (lost["cause"], lost["evidence"]) == ("feed_loss", "4 of 5 symbols lack these 7 minutes together")


def test_evidence_of_silence_says_how_ordinary_it_is(gaps: pl.DataFrame) -> None:
    thin = gaps.filter(pl.col("symbol") == "THIN", pl.col("cause") == "no_trade")
    lacks = gaps.filter(pl.col("symbol") == "THIN")["bar_count"].sum()
    ordinary = thin.filter(pl.col("chance") >= 0.05)["evidence"].unique().to_list()
    assert ordinary == [f"THIN has no bar in {lacks} of 1560 minutes, so a silence of this length is ordinary"]
    others = thin.filter(pl.col("chance") < 0.05)["evidence"]
    assert others.str.contains(
        r"^THIN has a bar in 12\d\d of 15\d\d other minutes; a silence of \d+ minutes comes "
    ).all()


def test_units_of_slots() -> None:
    assert [plural(unit(interval)) for interval in ("1s", "1m", "5m", "1d")] == [
        "seconds",
        "minutes",
        "slots of 5m",
        "days",
    ]


def test_symbols_that_go_on_are_others_that_have_all_slots() -> None:
    runs = pl.DataFrame({"symbol": ["A", "B", "B"], "ordinal": [16, 16, 16], "first": [0, 0, 21], "last": [40, 19, 40]})
    places = {"ordinal": [16, 16, 16, 16], "slot": [10, 18, 50, 10], "bar_count": [3, 4, 1, 3]}
    gaps = pl.DataFrame({"symbol": ["C", "C", "C", "A"]} | places)
    assert symbols_that_go_on(gaps, runs).to_list() == ["A and B", "A", None, "B"]
    assert symbols_that_go_on(gaps, runs.clear()).to_list() == [None] * 4
