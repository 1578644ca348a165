"""The feed's own counters: what is proved follows from how the trades were made and which of them were taken away."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import engine
import numpy as np
import polars as pl
import pytest
from engine.runtime import auditor, parquet_scan

DAY = np.datetime64("2024-05-06T00:00", "us")
DAYS = 2
MINUTE = np.timedelta64(60_000_000, "us")


def trades(seed: int, per_minute: float = 0.5) -> pl.DataFrame:
    """Trades of 24-hour sessions at random instants, numbered by one from 5,000."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(per_minute * 1440 * DAYS)
    at = np.sort(rng.integers(0, 1440 * DAYS * 60_000_000, count)).astype("timedelta64[us]") + DAY
    stamp = pl.Series("timestamp", at).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    price = np.round(100 + np.cumsum(rng.normal(0, 0.01, count)), 4)
    return pl.DataFrame({"timestamp": stamp, "price": price, "quantity": 1.0}).with_columns(
        pl.int_range(5_000, pl.len() + 5_000).alias("trade_id")
    )


def minute_of(rows: pl.DataFrame) -> pl.Series:
    """Number of the minute of each trade."""
    start = dt.datetime(2024, 5, 6, tzinfo=dt.UTC)
    return ((rows["timestamp"] - start).dt.total_microseconds() // 60_000_000).cast(pl.Int64)


def without(rows: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    """Trades without those of minutes [first, last)."""
    minute = minute_of(rows)
    return rows.filter(~minute.is_between(first, last, closed="left"))


def gaps(tables: dict[str, pl.DataFrame], symbol: str = "XBT") -> pl.DataFrame:
    return tables["gaps"].filter(pl.col("symbol") == symbol)


def audited(files: dict[str, pl.DataFrame], **given: object) -> dict[str, pl.DataFrame]:
    return dict(engine.run_audit(files, "24/7", interval="1m", **given).tables)


def missing_minutes(found: pl.DataFrame) -> dict[int, str]:
    """Minute -> cause of all missing minutes."""
    start = dt.datetime(2024, 5, 6, tzinfo=dt.UTC)
    causes = {}
    for begun, count, cause in found.select("gap_start", "bar_count", "cause").iter_rows():
        first = int((begun - start).total_seconds() // 60)
        causes |= dict.fromkeys(range(first, first + count), cause)
    return causes


@pytest.mark.parametrize("seed", range(3))
def test_counter_without_a_jump_proves_silence_and_a_jump_proves_loss(seed: int) -> None:
    whole = trades(seed)
    tables = audited({"XBT": without(whole, 700, 720)})
    found = missing_minutes(gaps(tables))
    silent = set(range(1440 * DAYS)) - set(minute_of(whole).to_list())
    edges = set(range(minute_of(whole)[0])) | set(range(minute_of(whole)[-1] + 1, 1440 * DAYS))
    # A hole that the loss widened is one hole to the counter: minutes beside it that nobody traded in are part of it.
    kept = set(minute_of(without(whole, 700, 720)).to_list())
    low = max(minute for minute in kept if minute < 700)
    high = min(minute for minute in kept if minute >= 720)
    assert {minute for minute, cause in found.items() if cause == "symbol_loss"} == set(range(low + 1, high))
    proved = silent - edges - set(range(low + 1, high))
    assert {found[minute] for minute in proved} == {"no_trade"}
    lost = gaps(tables).filter(pl.col("cause") == "symbol_loss").row(0, named=True)
    count = whole.height - without(whole, 700, 720).height
    assert f"{count} trades are lost (100.0 % of its " in lost["evidence"]
    assert lost["confidence"] == 1.0
    said = gaps(tables).filter(pl.col("evidence").str.contains("nothing traded"))
    assert said["evidence"].str.contains(r"goes on from \d+ to \d+").all()


@pytest.mark.parametrize("how", ["channel", "random", "falling", "row", "constant"])
def test_counter_that_does_not_count_the_symbols_trades_is_no_evidence(how: str) -> None:
    whole = trades(4)
    rng = np.random.default_rng(9)
    count = whole.height
    ids = {
        "channel": np.cumsum(rng.integers(1, 12, count)),
        "random": rng.integers(1, 10**12, count),
        "falling": np.arange(10**6, 10**6 - count, -1),
        "row": np.arange(1, count + 1),
        "constant": np.full(count, 7),
    }[how]
    rows = whole.with_columns(pl.Series("trade_id", ids))
    if how == "row":
        rows = rows.drop("trade_id")  # the reader numbers rows itself
    found = gaps(audited({"XBT": without(rows, 700, 720)}))
    assert not found["evidence"].str.contains("the counter").any()


def test_counter_that_skips_a_few_numbers_everywhere_proves_with_less_confidence() -> None:
    whole = trades(5, per_minute=3)
    rng = np.random.default_rng(1)
    rows = whole.with_columns(pl.Series("trade_id", np.cumsum(np.where(rng.random(whole.height) < 0.05, 2, 1))))
    told = gaps(audited({"XBT": without(rows, 700, 720)})).filter(pl.col("evidence").str.contains("the counter"))
    assert told["confidence"].is_between(0.92, 0.98).all()
    assert told.filter(pl.col("cause") == "symbol_loss").height == 1


def test_counter_that_begins_anew_each_session_tells_nothing_of_the_hole_between() -> None:
    whole = trades(6)
    minute = minute_of(whole)
    rows = whole.filter(~minute.is_between(1400, 1500))
    after = minute_of(rows) >= 1440
    begun = rows.filter(~after).height
    ids = np.concatenate([np.arange(100, 100 + begun), np.arange(1, rows.height - begun + 1)])
    found = gaps(audited({"XBT": rows.with_columns(pl.Series("trade_id", ids))}))
    across = found.filter(pl.col("bar_count") > 30)
    assert across.height > 0
    assert not across["evidence"].str.contains("the counter").any()
    assert found["evidence"].str.contains("nothing traded").any()


def test_trades_that_most_symbols_lost_together_are_a_loss_of_the_feed() -> None:
    files = {f"X{n}": without(trades(20 + n, per_minute=3), 700, 720) for n in range(4)}
    tables = audited(files)
    lost = tables["gaps"].filter(pl.col("bar_count") >= 20)
    assert lost["cause"].to_list() == ["feed_loss"] * 4
    assert lost["outage_id"].n_unique() == 1
    assert tables["outages"].select("cause", "symbols").rows() == [("feed_loss", 4)]
    assert tables["findings"].filter(pl.col("check_name") == "feed_loss").height == 1


def bars_with_ids(rows: pl.DataFrame) -> pl.DataFrame:
    """One-minute bars of trades, with the ids of the first and the last; none of a minute without a trade."""
    minute = pl.col("timestamp").dt.truncate("1m").alias("open_time")
    price = pl.col("price")
    return rows.group_by(minute, maintain_order=True).agg(
        price.first().alias("open"),
        price.max().alias("high"),
        price.min().alias("low"),
        price.last().alias("close"),
        pl.col("quantity").sum().alias("volume"),
        pl.col("trade_id").first().alias("first_trade_id"),
        pl.col("trade_id").last().alias("last_trade_id"),
    )


@pytest.mark.parametrize("stamp", ["start", "end"])
def test_bars_with_first_and_last_ids_prove_silence_and_loss(stamp: str) -> None:
    whole = trades(7)
    bars = bars_with_ids(whole)
    start = dt.datetime(2024, 5, 6, tzinfo=dt.UTC)
    number = (bars["open_time"] - start).dt.total_minutes()
    kept = bars.filter(~number.is_between(700, 719))
    if stamp == "end":
        kept = kept.with_columns(pl.col("open_time") + dt.timedelta(minutes=1))
    found = missing_minutes(gaps(audited({"XBT": kept.rename({"open_time": "timestamp"})}, stamp=stamp)))
    lost = {minute for minute, cause in found.items() if cause == "symbol_loss"}
    assert set(range(702, 718)) <= lost
    assert all(690 < minute < 730 for minute in lost)
    inner = set(range(number[0], number[-1])) - set(number.to_list()) - lost
    assert {found[minute] for minute in inner} == {"no_trade"}


def test_counters_of_parts_files_and_stores_prove_the_same(tmp_path: Path) -> None:
    rows = without(trades(8), 700, 720).with_columns(pl.lit("XBT").alias("symbol"))
    cut = rows.height // 3 * 2
    rows.head(cut).write_csv(tmp_path / "a.csv")
    rows.slice(cut).write_parquet(tmp_path / "b.parquet")
    whole = audited({"XBT": rows})["gaps"]
    assert engine.run_audit(tmp_path, "24/7", interval="1m").tables["gaps"].equals(whole)
    session = engine.load({"XBT": rows}, "24/7", interval="1m")
    assert engine.run_audit(session).tables["gaps"].equals(whole)


def test_bars_with_ids_of_a_large_table_prove_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = without(trades(9), 700, 720)
    bars = bars_with_ids(kept).rename({"open_time": "timestamp"}).with_columns(pl.lit("XBT").alias("symbol"))
    bars.write_parquet(tmp_path / "all.parquet", row_group_size=300)
    small = engine.run_audit(tmp_path, "24/7", interval="1m").tables["gaps"]
    monkeypatch.setattr(auditor, "LARGE_BYTES", 1)
    monkeypatch.setattr(parquet_scan, "ROWS_PER_RANGE", 300)
    large = engine.run_audit(tmp_path, "24/7", interval="1m").tables["gaps"]
    assert large.equals(small)
    assert large["evidence"].str.contains("trades are lost").sum() == 1


def test_proven_silence_counts_for_how_busy_a_series_is() -> None:
    whole = trades(0)
    series = audited({"XBT": whole})["series"].row(0, named=True)
    busy = minute_of(whole).n_unique() / (1440 * DAYS)
    assert series["traded"] == pytest.approx(busy, abs=0.02)
    assert series["activity"] == "thin"
