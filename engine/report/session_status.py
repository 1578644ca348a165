"""Status tables of a running session: subscriptions, and progress per series. Frames out."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from engine.schema import IS_MISSING
from engine.store.snapshot import Snapshot


def subscription_table(rows: Iterable[tuple[str, str, str, str]]) -> pl.DataFrame:
    """Return rows as a frame of text `symbol, does, what, why`, in the same order."""
    schema = dict.fromkeys(("symbol", "does", "what", "why"), pl.String)
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def session_state_table(snapshot: Snapshot, most: int | None = None) -> pl.DataFrame:
    """Row per base series: bars of all; gaps, missing, quality of the current session (none: of all); cut: worst first.

    Returns
    -------
    DataFrame of `symbol, price_type, interval, bars, last_ts, gaps, missing, quality, loaded`
        Worst quality first where `most` cuts the list.
    """
    base = pl.DataFrame(
        [(name, one.base_interval, one.is_loaded) for name, one in snapshot.symbols.items()],
        schema={"symbol": pl.String, "interval": pl.String, "loaded": pl.Boolean},
        orient="row",
    )
    series, at_base = ["symbol", "price_type"], ["symbol", "interval"]
    spans = [
        held.frame.group_by("series")
        .agg(pl.len().alias("bars"), pl.col("ts").max().alias("last_ts"))
        .join(snapshot.series, on="series")
        for key, held in snapshot.panels.items()
        if key.has_slots and key in {one.base_key for one in snapshot.symbols.values()}
    ]
    none = pl.DataFrame(
        schema={"symbol": pl.String, "price_type": pl.String, "bars": pl.UInt32, "last_ts": pl.Datetime("us", "UTC")}
    )
    bars = pl.concat([none, *(one.select(none.columns) for one in spans)])
    now = snapshot.session_date
    is_now = pl.lit(value=True) if now is None else pl.col("session") == now
    gaps = (
        snapshot.gaps()
        .join(base, on=at_base, how="semi")
        .filter(is_now & IS_MISSING)
        .group_by(series)
        .agg(pl.len().alias("gaps"))
    )
    quality = (
        snapshot.quality()
        .join(base, on=at_base, how="semi")
        .filter(is_now)
        .group_by(series)
        .agg(pl.col("expected", "present", "missing").sum())
        .with_columns(
            pl.when(pl.col("expected") > 0).then(100.0 * pl.col("present") / pl.col("expected")).alias("quality")
        )
    )
    whole = (
        base.join(bars, on="symbol", how="left")
        .join(gaps, on=series, how="left")
        .join(quality, on=series, how="left")
        .with_columns(pl.col("bars", "gaps", "missing").fill_null(0))
        .select("symbol", "price_type", "interval", "bars", "last_ts", "gaps", "missing", "quality", "loaded")
    )
    if most is None or whole.height <= most:
        return whole.sort(series)
    return whole.sort("quality", *series, nulls_last=True).head(most)
