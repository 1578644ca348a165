"""Real vendor folders beside the project: faults and holes planted into their minutes, and what is said of them untouched."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import engine
import numpy as np
import polars as pl

from benchmarks.accuracy.faults import judged as judged_faults
from benchmarks.accuracy.results import (
    ALARMS,
    EXPOSED,
    JUDGED,
    Planted,
    Results,
    alarm_rows,
    around,
    judge_causes,
    planted_frame,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
COLUMNS = ("symbol", "price_type", "ts", "open", "high", "low", "close", "volume")


class Folder(NamedTuple):
    """Files of one feed, their calendar and what reading them needs."""

    path: str
    calendar: str
    options: tuple[tuple[str, str], ...] = ()


# Minutes that faults and holes are planted into.
MINUTES = (
    Folder("lean/equity/usa/minute", "XNYS"),
    Folder("lean/equity/india/minute", "XBOM"),
    Folder("lean/forex/oanda/minute", "FX"),
    Folder("lean/forex/fxcm/minute", "FX"),
    Folder("lean/crypto/coinbase/minute", "24/7"),
    Folder("lean/cryptofuture/binance/minute", "24/7"),
    Folder("lean/future/cme/minute", "CME_INDEX"),
    Folder("lean/future/comex/minute", "COMEX_METALS"),
    Folder("nautilus/fxcm", "FX"),
    Folder("nautilus/xcme", "CME_FX", (("stamp", "end"),)),
    Folder("nautilus/btc-perp-20211231-20220201_1m.csv", "24/7", (("symbol", "BTCPERP"), ("timezone", "UTC"))),
)
LEAST_BARS = 300  # of a symbol that something is planted into

# Untouched. Not lean/future/hkfe: no calendar here has the hours of futures in Hong Kong in 2013.
UNTOUCHED = (
    *MINUTES,
    Folder("lean/equity/usa/second", "XNYS"),
    Folder("lean/equity/usa/hour", "XNYS"),
    Folder("lean/equity/usa/daily", "XNYS"),
    Folder("lean/equity/india/daily", "XBOM"),
    Folder("lean/forex/oanda/second", "FX"),
    Folder("lean/forex/oanda/hour", "FX"),
    Folder("lean/forex/fxcm/second", "FX"),
    Folder("lean/forex/fxcm/hour", "FX"),
    Folder("lean/cfd/oanda/minute/xauusd", "COMEX_METALS"),
    Folder("lean/cfd/oanda/minute/de30eur", "EUREX_INDEX"),
    Folder("lean/cfd/oanda/hour", "COMEX_METALS"),
    Folder("lean/crypto/bybit/minute", "24/7"),
    Folder("lean/cryptofuture/bybit/minute", "24/7"),
    Folder("lean/crypto/binance/hour", "24/7"),
    Folder("lean/crypto/bitfinex/hour", "24/7"),
    Folder("lean/crypto/coinbase/second", "24/7"),
    Folder("lean/future/cme/hour", "CME_INDEX"),
    Folder("lean/future/comex/hour", "COMEX_METALS"),
    Folder("lean/future/eurex/minute", "EUREX_INDEX"),
    Folder("lean/index/usa/minute", "XNYS"),
    Folder("lean/index/ose/minute", "XTKS"),
    Folder("lean/index/india/minute", "XBOM"),
    Folder("lean/index/eurex/minute", "XETR"),
    Folder("lean/option/usa/minute", "XNYS"),
    Folder("mismartera", "XNYS"),
)


class Explained(NamedTuple):
    """A finding that the folder's README explains: `item` of its list of oddities (0: its table of licences and files)."""

    path: str
    check: str
    symbol: str
    item: int


EXPLAINED = (
    Explained("mismartera", "clock", "", 9),
    Explained("lean/future/eurex/minute", "conflict", "FESX.202406", 4),
    Explained("lean/equity/usa/minute", "spike", "SPY", 28),
    Explained("lean/equity/usa/second", "spike", "SPY", 28),
    Explained("lean/equity/usa/minute", "symbol_loss", "GOOG", 15),  # no quote file
    Explained("lean/equity/usa/minute", "unscheduled", "GOOG", 15),  # rows after the early close
    Explained("lean/crypto/coinbase/minute", "symbol_loss", "BTCUSD", 16),
    Explained("lean/crypto/bybit/minute", "symbol_loss", "BTCUSDT", 16),
    Explained("lean/equity/usa/hour", "feed_loss", "", 17),
    Explained("lean/equity/usa/hour", "symbol_loss", "BAC", 17),
    Explained("lean/forex/fxcm/minute", "unscheduled", "EURUSD", 11),
    Explained("lean/forex/fxcm/second", "unscheduled", "EURUSD", 11),
    Explained("lean/forex/fxcm/minute", "crossed", "EURUSD", 20),
    Explained("lean/forex/fxcm/second", "crossed", "EURUSD", 20),
    Explained("lean/forex/fxcm/hour", "crossed", "EURUSD", 20),
    Explained("nautilus/fxcm", "crossed", "GBPUSD", 20),
    Explained("lean/forex/fxcm/hour", "unscheduled", "EURUSD", 11),
    Explained("lean/future/cme/minute", "unscheduled", "", 13),
    Explained("lean/future/cme/hour", "unscheduled", "", 13),
    Explained("lean/future/comex/minute", "unscheduled", "", 13),
    Explained("lean/future/comex/hour", "unscheduled", "", 13),
    Explained("lean/future/comex/hour", "absent_slots", "", 29),  # hour bars without 17:00-18:00 New York
    Explained("lean/cfd/oanda/minute/xauusd", "unscheduled", "", 13),
    Explained("lean/future/comex/minute", "zero_volume", "", 22),
    Explained("lean/index/eurex/minute", "stamp", "SX5E", 3),
    Explained("lean/index/eurex/minute", "unscheduled", "SX5E", 3),
    Explained("lean/index/ose/minute", "unscheduled", "N225", 18),
    Explained("lean/index/india/minute", "unscheduled", "NIFTY50", 18),
    Explained("lean/equity/india/minute", "unscheduled", "YESBANK", 18),
    # Raw prices: the adjustment factors are in files of their own (`lean/equity/*/factor_files`), these splits happened.
    Explained("lean/equity/usa/hour", "split", "", 0),
    Explained("lean/equity/usa/daily", "split", "", 0),
    Explained("lean/equity/india/daily", "split", "", 0),
)
# Of a name that lost much (item 16) only the hole itself is explained, not what else is said of the symbol.
EXPLAINED_LEAST = {"lean/crypto/coinbase/minute": 400, "lean/crypto/bybit/minute": 400, "lean/equity/usa/minute": 390}


@cache
def primary_bars(folder: Folder) -> pl.DataFrame:
    """Bars of the folder: of each symbol its trades, or its bids where there are none; with `inside` a chosen segment."""
    rows = all_bars(folder)
    best = pl.col("price_type") == pl.col("price_type").sort_by(pl.col("price_type") != "last", "price_type", descending=[False, True]).first().over("symbol")  # fmt: skip
    return rows.filter(best)


@cache
def all_bars(folder: Folder) -> pl.DataFrame:
    session = engine.load(DATA / folder.path, folder.calendar, **dict(folder.options))
    rows = session.snapshot().tables()["bars"].filter(pl.col("open").is_not_null())
    text = pl.col("symbol", "price_type", "segment", "interval").cast(pl.String)
    inside = pl.col("segment").is_in(["RTH", "ETH"]).fill_null(value=False).alias("inside")
    rows = rows.with_columns(text).filter(pl.col("interval") == "1m")
    return (
        rows.with_columns(inside, pl.col("volume").fill_null(0.0))
        .select(*COLUMNS, "session", "inside")
        .sort("symbol", "price_type", "ts")
    )


def feeds(folder: Folder) -> dict[str, pl.DataFrame]:
    """Primary bars by symbol, of symbols with enough of them."""
    rows = primary_bars(folder)
    enough = rows.filter("inside").group_by("symbol").len().filter(pl.col("len") >= LEAST_BARS)["symbol"].sort()
    return {name: rows.filter(pl.col("symbol") == name).drop("symbol", "price_type") for name in enough}


def with_faults(folder: Folder, seed: int, most: int) -> Results:
    """Results of faults in up to `most` symbols of the folder, each alone, and beside the others where there are some."""
    feed = feeds(folder)
    rng = np.random.default_rng([seed, len(folder.path)])
    names = sorted(feed, key=lambda name: -feed[name].height)[:most]
    parts = [judged_faults("real minutes", folder.calendar, feed, names, rng, beside=False)]
    if len(feed) > 1:
        some = {name: feed[name] for name in sorted(feed, key=lambda name: -feed[name].height)[: most + 3]}
        parts.append(judged_faults("real minutes", folder.calendar, some, names, rng, beside=True))
    done = Results.joined(parts)
    return Results(done.judged, done.exposed.clear(), done.alarms.clear())  # `untouched` judges the rows as they are


def cut_runs(folder: Folder, seed: int, rounds: int) -> Results:
    """Results of runs cut out of sessions of real minutes: of single symbols, with and without their quotes; of all at once."""
    bars = all_bars(folder)
    primary = primary_bars(folder)
    rng = np.random.default_rng([seed, 7, len(folder.path)])
    parts = []
    for _ in range(rounds):
        for quotes, everyone in ((False, False), (True, False), (True, True)):
            if everyone and primary["symbol"].n_unique() == 1:
                continue
            planted = drawn_cuts(primary, rng, everyone=everyone)
            if not planted:
                continue
            frame = planted_frame(planted)
            spans = frame.select("symbol", "start", "end")
            lost = bars.join(spans, on="symbol").filter(
                (pl.col("ts") >= pl.col("start")) & (pl.col("ts") < pl.col("end"))
            )
            if not quotes:
                lost = lost.join(primary.select("symbol", "price_type").unique(), on=["symbol", "price_type"])
            left = bars.join(lost.select("symbol", "price_type", "ts"), on=["symbol", "price_type", "ts"], how="anti")
            tables = dict(engine.run_audit([left.select(COLUMNS)], folder.calendar, interval="1m").tables)
            kinds = primary.select("symbol", "price_type").unique()
            ours = {name: tables[name].join(kinds, on=["symbol", "price_type"]) for name in ("gaps", "quality")}
            done = judge_causes("runs cut out of real minutes", tables | ours, frame, silence=False)
            none = pl.DataFrame(schema=ALARMS)  # the rest of the rows is what it is: `untouched` judges it
            parts.append(Results(done.judged, done.exposed.clear(), none))
    return Results.joined(parts)


def drawn_cuts(primary: pl.DataFrame, rng: np.random.Generator, *, everyone: bool) -> list[Planted]:
    """A run of 1 to 30 minutes out of half of the sessions of each symbol, or the same one of all symbols of a session."""
    planted = []
    for (_,), rows in primary.filter("inside").group_by("session", maintain_order=True):
        shared = None
        symbols = rows["symbol"].n_unique()
        for (symbol,), own in rows.group_by("symbol", maintain_order=True):
            stamps = own["ts"]
            if len(stamps) < 100 or (everyone and symbols == 1) or (not everyone and rng.random() < 0.5):
                continue
            length = int(rng.choice([1, 2, 3, 5, 10, 20, 30]))
            begin = int(rng.integers(5, len(stamps) - 40))
            start = stamps[begin]
            shared = shared or (start, start + (stamps[begin + length] - start))
            start, end = shared if everyone else (start, stamps[begin + length])
            there = int(stamps.is_between(start, end, closed="left").sum())
            if there:
                slots = int((end - start).total_seconds() // 60)
                cause = "feed_loss" if everyone else "symbol_loss"
                planted.append(
                    Planted(symbol, cause, start, end, slots, there, "all symbols" if everyone else "one symbol")
                )
    return planted


def untouched(folder: Folder) -> Results:
    """False alarms of an untouched folder: what is above info and not in `EXPLAINED`, once per symbol, session and name."""
    tables = dict(engine.run_audit([DATA / folder.path], folder.calendar, **dict(folder.options)).tables)
    near = around(tables["quality"])
    loud = tables["findings"].filter(pl.col("severity") != "info")
    ours = [one for one in EXPLAINED if one.path == folder.path]
    least = EXPLAINED_LEAST.get(folder.path, 0)
    explained = pl.lit(value=False)
    for one in ours:
        match = pl.col("check_name") == one.check
        if one.symbol:
            match &= pl.col("symbol") == one.symbol
        if one.check == "symbol_loss":
            match &= pl.col("count") >= least
        explained |= match
    alarms = loud.filter(~explained.fill_null(value=False)).select(
        "symbol",
        "session",
        pl.col("check_name").alias("kind"),
        pl.format("{}: {}", pl.lit(folder.path), "message").alias("message"),
    )
    alarms = alarms.unique(["symbol", "session", "kind"], keep="first", maintain_order=True)
    coarse = any(word in folder.path.split("/") for word in ("hour", "daily"))
    source = f"untouched folders, {'hours and days' if coarse else 'minutes and seconds'}"
    exposed = near.select(pl.lit(source).alias("source"), "liquidity", "peers").cast(EXPOSED)
    return Results(pl.DataFrame(schema=JUDGED), exposed, alarm_rows(source, alarms, near))
