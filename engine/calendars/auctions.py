"""Closing auctions of venues: spans after the regular close in which their prints come, by `data/auctions.csv`.

A span is a segment labelled `AUCTION`. It has no expected slots; its rows are labelled, belong to the trade date, and enter
daily, weekly and monthly bars (`grid.SessionGrid.windows`). Spans hang on each session's last regular close, so that they move
with short days. A calendar whose file has hours of the label has these instead.
"""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from engine.calendars.cache import cached

TABLE = Path(__file__).parent / "data" / "auctions.csv"
AUCTION = "AUCTION"


def auctions_of(codes: Iterable[str]) -> pl.DataFrame:
    """Rows of the table for calendar codes: `valid_from, valid_to` (Date), `opens, closes` (minutes after the close)."""
    names = [code for code in codes if code]
    table = cached(read_auctions)
    # A dozen rows: no data path.
    is_ours = [any(fnmatch.fnmatchcase(name, one) for name in names for one in venues) for venues in table["venues"]]
    return table.filter(is_ours)


def read_auctions() -> pl.DataFrame:
    """The table: `venues` (list of patterns), eras, minutes, `kind`, `source`, `looked_up`."""
    texts = dict.fromkeys(("kind", "source"), pl.String())
    dates, minutes = (
        dict.fromkeys(("valid_from", "valid_to"), pl.Date()),
        dict.fromkeys(("opens", "closes"), pl.Int32()),
    )
    schema = {"venues": pl.String(), **dates, **minutes, **texts, "looked_up": pl.Date()}
    return pl.read_csv(io.BytesIO(TABLE.read_bytes()), schema=schema).with_columns(pl.col("venues").str.split(" "))


def with_auctions(spans: pl.DataFrame, auctions: pl.DataFrame, regular: Iterable[str]) -> pl.DataFrame:
    """Spans (`hours.SPANS`) and an `AUCTION` per session, valid auction and close; not where it has one, or another segment begins before."""
    if auctions.is_empty() or spans.is_empty():
        return spans
    has_own = spans.filter(pl.col("segment") == AUCTION)["session"].unique().to_list()
    closes = (
        spans.filter(~pl.col("session").is_in(has_own))
        .filter(pl.col("segment").is_in(list(regular)))
        .group_by("session")
        .agg(pl.col("segment_close").max().alias("at"))
    )
    valid = (pl.col("session") >= pl.col("valid_from")).fill_null(value=True) & (
        pl.col("session") <= pl.col("valid_to")
    ).fill_null(value=True)
    made = closes.join(auctions, how="cross").filter(valid)
    made = made.select(
        "session",
        pl.lit(AUCTION).alias("segment"),
        *((pl.col("at") + pl.duration(minutes=pl.col(name))).alias(f"segment_{name.removesuffix('s')}") for name in ("opens", "closes")),
    )  # fmt: skip
    later = spans.sort("segment_open").select("segment_open", pl.col("segment_open").alias("next_open"))
    free = made.sort("segment_open").join_asof(later, on="segment_open", strategy="forward")
    free = free.filter((pl.col("segment_close") <= pl.col("next_open")).fill_null(value=True))
    return pl.concat([spans, free.select(pl.col(name).cast(dtype) for name, dtype in spans.schema.items())])
