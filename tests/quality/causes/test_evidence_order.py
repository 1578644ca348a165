"""Order of the evidence: against a loop over slots."""

from __future__ import annotations

import random

import polars as pl
import pytest
from engine.audit.survey import KNOWN, SLOTS
from engine.quality.causes.evidence_order import RANKS, settle_known

CAUSES = {
    "row": ("refused", "off_grid"),
    "halt": ("halt", "venue_halt"),
    "counter": ("no_trade", "symbol_loss"),
    "coarser_bar": ("no_trade", "symbol_loss"),
    "incident": ("feed_loss",),
}


@pytest.mark.parametrize("seed", range(30))
def test_settle_known_gives_each_slot_the_first_kind_that_speaks_of_it(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311
    rows, decided = [], {}
    printed = {(1, slot) for slot in range(10, 10 + rng.randint(0, 8))}
    for number in range(rng.randint(0, 14)):
        kind = rng.choice([*CAUSES])
        cause, first = rng.choice(CAUSES[kind]), rng.randint(0, 30)
        last = first + rng.randint(0, 9)
        rows.append((rng.randint(0, 2), 16, first, last, cause, str(number), 0.9, None, RANKS[kind]))
    for row in sorted(rows, key=lambda row: (row[8], row[4] in ("symbol_loss", "feed_loss"), row[2], row[3])):
        series, _, first, last, cause, *_ = row
        for slot in range(first, last + 1):
            denied = row[8] > RANKS["print"] and cause not in ("symbol_loss", "feed_loss") and (series, slot) in printed
            if not denied:
                decided.setdefault((series, slot), cause)
    known = pl.DataFrame(rows, schema=dict(KNOWN), orient="row")
    prints = pl.DataFrame([(1, 16, slot, slot) for _, slot in sorted(printed)], schema=dict(SLOTS), orient="row")
    settled = settle_known(known, prints)
    found = {}
    for series, first, last, cause in settled.select("series", "first", "last", "cause").iter_rows():
        for slot in range(first, last + 1):
            assert (series, slot) not in found
            found[series, slot] = cause
    assert found == decided
