"""Notes of a run about prints of closing auctions: whether they enter days."""

from __future__ import annotations

import polars as pl

from engine.calendars.auctions import AUCTION
from engine.store.snapshot import Snapshot
from engine.store.views import with_series_names


def auction_notes(snapshot: Snapshot) -> list[str]:
    """One note per symbol with `last` bars in closing auctions and a derived day, week or month: in them, or left out."""
    notes = {}
    for key, panel in snapshot.panels.items():
        if key.kind != "bars" or key.origin != "source" or key.interval is None or not key.interval.is_intraday:
            continue
        table = snapshot.grid(key.spec, key.interval).table.filter(pl.col("segment") == AUCTION)
        if table.is_empty():
            continue
        ordinals = table["ordinal"].implode()
        series = {number for part in panel.parts for number in part.filter(pl.col("ordinal").is_in(ordinals))["series"]}
        rows = pl.DataFrame({"series": sorted(series)}, schema={"series": pl.Int32})
        named = with_series_names(rows, snapshot.series).filter(pl.col("price_type") == "last")
        enters = "are in 1d, 1w and 1mo (--auctions out leaves them out)" if table["auction"].any() else "are in no bar"
        for symbol in named["symbol"]:
            derived = snapshot.symbols[symbol].derived_intervals
            if any(interval.endswith(("d", "w", "mo")) for interval in derived):
                notes[symbol] = f"{symbol}: prints of closing auctions of {key.spec.calendar} {enters}"
    return [notes[symbol] for symbol in sorted(notes)]
