"""Faults planted into made-up situations."""

from __future__ import annotations

import numpy as np
import polars as pl

from benchmarks.accuracy import faults, situations
from benchmarks.accuracy.results import Results


def with_faults(seed: int, rates: tuple[float, ...]) -> Results:
    """Results of faults in situations: markets of each rate, alone and beside others."""
    parts = []
    for number, rate in enumerate(rates):
        for code, sessions, symbols in (("XNYS", 10, 1), ("FX", 6, 3), ("24/7", 6, 1)):
            rng = np.random.default_rng([seed, 99, number, symbols])
            made = situations.feed(code, [rate] * symbols, sessions, rng)
            session = pl.DataFrame(
                {"ts": made.grid, "session": np.repeat(np.arange(sessions), [len(day) for day in made.days])}
            )
            dates = [day[len(day) // 2].item().date() for day in made.days]
            of_slot = session.select(
                pl.col("ts").dt.replace_time_zone("UTC"),
                pl.col("session").replace_strict(dict(enumerate(dates)), return_dtype=pl.Date),
                pl.lit(value=True).alias("inside"),
            )
            feed = {name: rows.join(of_slot, on="ts", how="left") for name, rows in made.frames().items()}
            if feed:
                names = list(feed)[:1]
                parts.append(faults.judged(situations.SOURCE, code, feed, names, rng, beside=symbols > 1))
    return Results.joined(parts)
