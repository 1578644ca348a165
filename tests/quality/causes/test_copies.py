"""Copies of a series under other names: what one has and the other lacks was lost, and all of them are one witness."""

from __future__ import annotations

import engine
import numpy as np
import polars as pl
from engine.quality.causes.copies import find_copies, slots_of_copies
from engine.quality.causes.profiles import BarSummary, summarize_bars

MINUTE = np.timedelta64(60_000_000, "us")
OPEN = np.datetime64("2024-04-08T13:30", "us")


def summary(bars: dict[int, tuple[np.ndarray, int]], slots: int = 390) -> BarSummary:
    """Summary of one session: by series, which slots it has and the seed of its prices."""
    parts = []
    for series, (there, seed) in bars.items():
        rng = np.random.default_rng(seed)
        close = 50 * np.exp(np.cumsum(rng.normal(0, 1e-3, slots)))
        columns = {"series": series, "ordinal": 16, "slot": np.arange(slots), "open": close, "close": close}
        frame = pl.DataFrame(columns | {"volume": rng.integers(1, 900, slots).astype(float)})
        parts.append(frame.filter(pl.Series(there)).cast(dict.fromkeys(("series", "ordinal", "slot"), pl.Int32)))
    return summarize_bars(pl.concat(parts), 30)


def test_find_copies_are_those_whose_bars_agree_in_most_bins() -> None:
    every = np.ones(390, bool)
    cut = every.copy()
    cut[200:230] = False
    half = every.copy()
    half[5::30] = False  # a bar of each bin
    made = summary({1: (every, 7), 3: (every, 8), 4: (cut, 7), 6: (half, 7), 7: (every, 9), 8: (every, 8)})
    assert find_copies(made.profile).rows() == [(1, 1), (3, 3), (4, 1), (8, 3)]
    assert find_copies(summary({1: (every, 1), 2: (every, 2)}).profile).is_empty()


def test_slots_of_copies_are_those_that_half_of_the_others_have() -> None:
    every = np.ones(390, bool)
    lacks = []
    for holes in ([50, 60], [60, 70], [60]):
        lacks.append(every.copy())
        lacks[-1][holes] = False
    made = summary({n: (there, 7) for n, there in enumerate(lacks)})
    slots = slots_of_copies(find_copies(made.profile), made.runs)
    expected = [(n, 16, first, last) for n in range(3) for first, last in ((0, 59), (61, 389))]
    assert slots.rows() == expected
    one_has = summary({0: (lacks[0], 7), 1: (lacks[2], 7)})  # of two the other one tells
    assert slots_of_copies(find_copies(one_has.profile), one_has.runs).rows() == [
        (n, 16, first, last) for n in range(2) for first, last in ((0, 59), (61, 389))
    ]


def audited(stamps: dict[str, tuple[np.ndarray, int]]) -> dict[str, pl.DataFrame]:
    frames = {}
    for name, (there, seed) in stamps.items():
        rng = np.random.default_rng(seed)
        close = 50 * np.exp(np.cumsum(rng.normal(0, 1e-3, len(there))))
        ts = pl.Series(OPEN + np.arange(len(there)) * MINUTE).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        prices = dict.fromkeys(("open", "high", "low", "close"), close)
        frame = pl.DataFrame({"ts": ts, **prices, "volume": rng.integers(1, 900, len(there)).astype(float)})
        frames[name] = frame.filter(pl.Series(there))
    return dict(engine.run_audit(frames, "XNYS", interval="1m").tables)


def test_audit_of_a_minute_that_only_a_copy_has_says_that_it_was_lost() -> None:
    thin = np.random.default_rng(3).random(390) < 0.8
    thin[[0, 100, 389]] = True
    cut = thin.copy()
    cut[100] = False
    gaps = audited({"ESH4": (cut, 5), "ES.c.0": (thin, 5), "NQH4": (thin[::-1], 6)})["gaps"]
    lost = gaps.filter(pl.col("cause") != "no_trade").select(
        "symbol", pl.col("gap_start").dt.strftime("%H:%M"), "bar_count", "cause", "evidence"
    )
    said = "ES.c.0 has the same bars as this series, and it has these too"
    assert lost.rows() == [("ESH4", "15:10", 1, "symbol_loss", said)]
    alone = audited({"ESH4": (cut, 5), "NQH4": (thin[::-1], 6)})["gaps"]
    assert set(alone["cause"]) == {"no_trade"}


def test_audit_of_copies_counts_them_as_one_witness() -> None:
    quiet = np.ones(390, bool)
    quiet[[37, 111, 112, 205, 300]] = False
    tables = audited(dict.fromkeys(("A", "B", "C", "D"), (quiet, 5)) | {"E": (np.ones(390, bool), 6)})
    assert tables["outages"].is_empty()
