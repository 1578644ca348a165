"""How often the checks find what was planted, and what they say of feeds that are right: `python -m benchmarks.checks_accuracy`.

Simulated markets of several calendars, four series at each rate of trades per minute, one fault at a time in all of them.
`found` counts series for which the fault is named with its size, `else` the findings that name something else.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import polars as pl
from engine.calendars.providers import calendar
from engine.checks.bar_checks import check_bars
from engine.grid import GridSpec, SessionGrid
from engine.simulation.sessions import Instrument, Market, simulate

CODES = ("XNYS", "XHKG", "CME_INDEX", "FX", "24/7")
FIRST, LAST = dt.date(2024, 6, 3), dt.date(2024, 6, 14)
AUTUMN = dt.date(2024, 10, 28), dt.date(2024, 11, 8)  # Europe's and America's clocks change
RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 60.0)
EACH, SEED = 4, 33
RIGHT_SEEDS, RIGHT_INTERVALS = (31, 32), ("1m", "5m", "30m")
PRICES = ("open", "high", "low", "close", "vwap")


@dataclass(frozen=True)
class Feed:
    """Rows of one calendar, with their axis."""

    rows: pl.DataFrame
    series: pl.DataFrame
    grid: SessionGrid
    zone: str

    def moved(self, minutes: int) -> Feed:
        return self.of(self.rows.with_columns(pl.col("ts") + dt.timedelta(minutes=minutes)))

    def of(self, rows: pl.DataFrame) -> Feed:
        placed = rows.drop("session", "ordinal", "slot").sort("series", "ts")
        return replace(self, rows=placed.with_columns(self.grid.place(placed["ts"])))

    @property
    def findings(self) -> pl.DataFrame:
        return check_bars(self.rows, self.series, self.grid, self.zone)


def simulated(code: str, market: Market, interval: str, first: dt.date = FIRST, last: dt.date = LAST) -> Feed:
    grid = SessionGrid.build(calendar(code).segments_in_bounds(first, last), interval, GridSpec(code))
    names = pl.DataFrame({"symbol": market.symbols}).with_row_index("series", offset=1)
    series = names.with_columns(pl.col("series").cast(pl.Int32), pl.lit("last").alias("price_type"), pl.lit(interval).alias("interval"))  # fmt: skip
    rows = simulate(grid, market).clean.join(series.select("series", "symbol"), on="symbol").sort("series", "ts")
    return Feed(rows.with_columns(grid.place(rows["ts"])), series, grid, calendar(code).zone)


def _at() -> pl.Expr:
    return pl.int_range(pl.len()).over("series") - pl.len().over("series") // 2


def _priced(feed: Feed, test: pl.Expr, price: Callable[[str], pl.Expr]) -> Feed:
    return replace(
        feed, rows=feed.rows.with_columns(pl.when(test).then(price(n)).otherwise(n).alias(n) for n in PRICES)
    )


def _cut(feed: Feed) -> Feed:
    day = feed.rows["session"].unique().sort()[3]
    last = feed.grid.table.filter((pl.col("session") == day) & pl.col("chosen"))
    opens, closes = last["open"][0], last["close"][-1]
    ours = pl.col("session") == day
    return replace(feed, rows=feed.rows.filter(~(ours & (pl.col("ts") >= closes - (closes - opens) / 3))))


# What is planted: how, and which check with which value names it. Spikes lie apart: one in most series is the market's.
FAULTS: dict[str, tuple[Callable[[Feed], Feed], str, float | None]] = {
    "an hour late": (lambda f: f.moved(60), "clock", 1.0),
    "four hours late": (lambda f: f.moved(240), "clock", 4.0),
    "stamped at ends": (lambda f: f.moved(1), "stamp", 1.0),
    "a bar 3 % off": (lambda f: _priced(f, _at() == pl.col("series"), lambda n: pl.col(n) * 1.03), "spike", None),
    "40 bars at one price": (lambda f: _priced(f, _at().is_between(0, 39), lambda _: pl.lit(55.5)), "filled", None),
    "a split of 2:1": (
        lambda f: _priced(f, pl.col("session") >= f.rows["session"].unique().sort()[4], lambda n: pl.col(n) / 2),
        "split",
        None,
    ),
    "a session cut by a third": (_cut, "truncated", None),
}


def main() -> None:
    right = Counter[str]()
    judged = 0
    for code in CODES:
        for seed in RIGHT_SEEDS:
            for interval in RIGHT_INTERVALS:
                for span in ((FIRST, LAST), AUTUMN):
                    feed = simulated(code, Market.of(20, seed), interval, *span)
                    judged += feed.series.height
                    right.update(feed.findings["check_name"])
    print(f"{judged:,} series that are right: {sum(right.values())} findings {dict(right) or ''}")
    instruments = tuple(Instrument(f"R{rate:g}-{n}", trades_per_minute=rate) for rate in RATES for n in range(EACH))
    feeds = {code: simulated(code, Market(instruments, seed=SEED), "1m") for code in CODES}
    print(f"{'fault':<26}{'calendar':<12}" + "".join(f"{f'{rate:g}/min':>9}" for rate in RATES) + "   else")
    for name, (plant, check, value) in FAULTS.items():
        for code, feed in feeds.items():
            told = plant(feed).findings
            named = (
                pl.col("check_name") == check
                if value is None
                else (pl.col("check_name") == check) & (pl.col("value") == value)
            )
            found = Counter(told.filter(named).unique("symbol")["symbol"].str.split("-").list.first())
            cells = "".join(f"{found[f'R{rate:g}']:>7}/{EACH}" for rate in RATES)
            print(f"{name:<26}{code:<12}{cells}   {dict(Counter(told.filter(~named)['check_name'])) or '-'}")


if __name__ == "__main__":
    main()
