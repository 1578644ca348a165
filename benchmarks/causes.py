"""How often the cause of a gap is told right: `python -m benchmarks.causes [SEEDS]`.

Simulated markets with planted causes (liquid, mixed and thin names; four calendars; `SEEDS` that nothing was tuned on), each
with four kinds of evidence at hand; and real files with runs cut out of them. The share of slots without a trade that are
blamed on the feed or the symbol is beside it.
"""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from engine.audit.pipeline import attribute_gaps
from engine.audit.survey import SLOTS, Survey
from engine.calendars.providers import calendar
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.quality.gaps import slot_runs
from engine.runtime.load import load_files
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.parquet_scan import survey_rows
from engine.simulation.faults import FaultPlan
from engine.simulation.sessions import Instrument, Market, Simulation, simulate

DATA = Path(__file__).parents[2] / "shared" / "data"
FIRST_SEED = 1001
SYMBOLS = 24
MARKETS = {"liquid": (30.0, 300.0), "mixed": (1.0, 100.0), "thin": (0.3, 4.0)}  # trades a minute
VENUES = {
    "XNYS": (dt.date(2024, 11, 4), dt.date(2024, 12, 13)),
    "XHKG": (dt.date(2024, 10, 7), dt.date(2024, 11, 8)),
    "CME_INDEX": (dt.date(2024, 11, 4), dt.date(2024, 11, 22)),
    "24/7": (dt.date(2024, 11, 4), dt.date(2024, 11, 18)),
}
PLAN = FaultPlan(outage=3, absent_session=2, missing_start=4, missing_middle=10, missing_end=4)
SPANS = ("outage", "halt", "absent_session", "missing_start", "missing_middle", "missing_end")
TRUE = {"outage": "feed_loss", "halt": "halt"}
EVIDENCE = ("alone", "peers", "quotes", "prints")
LENGTHS = ((1, 2), (3, 5), (6, 15), (16, 10_000))
BLAMES = ("feed_loss", "symbol_loss")
M1 = Interval(1, "m")


@dataclass(frozen=True)
class Trial:
    """A market, what is missing in it and why."""

    market: str
    code: str
    rows: pl.DataFrame
    planted: pl.DataFrame
    quiet: pl.DataFrame
    clean: pl.DataFrame


def trials(seeds: range) -> Iterator[Trial]:
    for seed in seeds:
        for name, (low, high) in MARKETS.items():
            for code, dates in VENUES.items():
                yield simulated(name, low, high, code, dates, seed)


def simulated(name: str, low: float, high: float, code: str, dates: tuple[dt.date, dt.date], seed: int) -> Trial:
    grid = SessionGrid.build(calendar(code).segments(*dates), "1m", GridSpec(code))
    rng = np.random.default_rng([seed, len(name)])
    rates = np.exp(rng.uniform(np.log(low), np.log(high), SYMBOLS))
    market = Market(
        tuple(Instrument(f"S{n:03}", price=20.0 + n, trades_per_minute=float(r)) for n, r in enumerate(rates)), seed
    )
    made = simulate(grid, market, replace(PLAN, halt=0 if name == "thin" else 4))
    planted = made.truth.filter(pl.col("kind").is_in(SPANS))
    return Trial(name, code, _feed(made), planted, made.no_trade, made.clean)


def _feed(made: Simulation) -> pl.DataFrame:
    return made.rows.filter(pl.col("fault").is_null()).select(
        "symbol", "price_type", "ts", "open", "high", "low", "close", "volume"
    )


def gaps_of(trial: Trial, evidence: str) -> pl.DataFrame:
    """Gaps with their causes, with this much evidence at hand."""
    options = LoadOptions(CalendarMap(trial.code))
    if evidence == "alone":
        parts = [
            attribute_gaps(survey_rows(rows, M1, options, "alone"), _calendar)["gaps"]
            for _, rows in trial.rows.group_by("symbol", maintain_order=True)
        ]
        return pl.concat(parts)
    survey = survey_rows(trial.rows, M1, options, evidence)
    if evidence in ("quotes", "prints"):
        survey = replace(survey, **{evidence: _seen(trial, survey, evidence)})
    return attribute_gaps(survey, _calendar)["gaps"]


def _seen(trial: Trial, survey: Survey, evidence: str) -> pl.DataFrame:
    """Quotes are there wherever the feed was up; prints wherever somebody traded, though the bar was lost."""
    grid = SessionGrid.build(calendar(trial.code).segments_in_bounds(*VENUES[trial.code]), "1m", GridSpec(trial.code))
    down = trial.planted.filter(pl.col("kind") == "outage").select("symbol", "start", "end")
    held = (
        pl.concat([trial.clean.select("symbol", "ts"), trial.quiet.select("symbol", "ts")])
        if evidence == "quotes"
        else trial.clean.select("symbol", "ts")
    )
    lost = (
        held.join(down, on="symbol")
        .filter((pl.col("ts") >= pl.col("start")) & (pl.col("ts") < pl.col("end")))
        .select("symbol", "ts")
    )
    there = (
        held.join(lost, on=["symbol", "ts"], how="anti")
        .join(survey.series.select("symbol", "series"), on="symbol")
        .sort("series", "ts")
    )
    placed = pl.concat([there.select("series"), grid.place(there["ts"])], how="horizontal")
    return slot_runs(placed).select(list(SLOTS))


@cache
def _calendar(code: str):
    return calendar(code)


def told(trial: Trial, gaps: pl.DataFrame) -> pl.DataFrame:
    """Each planted stretch with the cause of the gap that holds it."""
    holds = (pl.col("gap_start") <= pl.col("start")) & (pl.col("gap_end") >= pl.col("end"))
    true = pl.col("kind").replace_strict(TRUE, default="symbol_loss")
    found = trial.planted.join(gaps.select("symbol", "gap_start", "gap_end", "cause"), on="symbol").filter(holds)
    return found.select(
        pl.lit(trial.market).alias("market"), true.alias("true"), pl.col("rows").cast(pl.Int64).alias("length"), "cause"
    )


def blamed(trial: Trial, gaps: pl.DataFrame) -> tuple[int, int]:
    """Slots without a trade, outside what was planted: how many, and how many of them are blamed on the feed or the symbol."""
    inside = (pl.col("ts") >= pl.col("gap_start")) & (pl.col("ts") < pl.col("gap_end"))
    spans = trial.planted.select("symbol", pl.col("start").alias("gap_start"), pl.col("end").alias("gap_end"))
    own = trial.quiet.join(spans, on="symbol").filter(inside).select("symbol", "ts").unique()
    quiet = trial.quiet.join(own, on=["symbol", "ts"], how="anti")
    wrong = quiet.join(
        gaps.filter(pl.col("cause").is_in(BLAMES)).select("symbol", "gap_start", "gap_end"), on="symbol"
    ).filter(inside)
    return quiet.height, wrong.height


def real(seed: int = FIRST_SEED, rounds: int = 20) -> Iterator[tuple[str, str, pl.DataFrame]]:
    """Real files with a run cut out of each session: of one symbol, or of all of them at once."""
    rng = np.random.default_rng(seed)
    for name, folder, code in (
        ("US equities", "lean/equity/usa/minute", "XNYS"),
        ("FX Oanda", "lean/forex/oanda/minute", "FX"),
        ("FX FXCM", "lean/forex/fxcm/minute", "FX"),
    ):
        session = load_files([DATA / folder], LoadOptions(CalendarMap(code))).session
        rows = (
            session.snapshot().tables()["bars"].filter(pl.col("segment").is_not_null() & pl.col("open").is_not_null())
        )
        bars = rows.select("symbol", "price_type", "ts", "session", "open", "high", "low", "close", "volume")
        for quotes in ("kept", "cut"):
            yield (
                name,
                f"quotes {quotes}",
                pl.concat([_cut(bars, code, rng, quotes_too=quotes == "cut", everyone=False) for _ in range(rounds)]),
            )
        if name == "US equities":
            yield (
                name,
                "all symbols",
                pl.concat([_cut(bars, code, rng, quotes_too=True, everyone=True) for _ in range(rounds)]),
            )


def _cut(bars: pl.DataFrame, code: str, rng: np.random.Generator, *, quotes_too: bool, everyone: bool) -> pl.DataFrame:
    primary = "last" if bars["price_type"].eq("last").any() else "bid"
    of_primary = bars.filter(pl.col("price_type") == primary)
    spans = []
    for session, day in of_primary.group_by("session", maintain_order=True):
        shared = None
        for symbol, held in day.group_by("symbol", maintain_order=True):
            stamps = held["ts"].sort()
            if len(stamps) < 100:
                continue
            length, begin = int(rng.integers(2, 31)), int(rng.integers(1, len(stamps) - 40))
            start, end = stamps[begin], stamps[begin + length]
            shared = shared or (start, end)
            spans.append((symbol[0], session[0], *(shared if everyone else (start, end))))
            if not everyone and rng.random() < 0.5:
                spans.pop()
    planted = pl.DataFrame(
        spans,
        schema={
            "symbol": pl.String,
            "session": pl.Date,
            "start": pl.Datetime("us", "UTC"),
            "end": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )
    inside = (pl.col("ts") >= pl.col("start")) & (pl.col("ts") < pl.col("end"))
    gone = bars.join(planted.select("symbol", "start", "end"), on="symbol").filter(inside)
    lost = gone if quotes_too or primary == "bid" else gone.filter(pl.col("price_type") == primary)
    left = bars.join(lost.select("symbol", "price_type", "ts"), on=["symbol", "price_type", "ts"], how="anti").drop(
        "session"
    )
    gaps = attribute_gaps(survey_rows(left, M1, LoadOptions(CalendarMap(code)), "cut"), _calendar)["gaps"].filter(
        pl.col("price_type") == primary
    )
    holds = (pl.col("gap_start") <= pl.col("start")) & (pl.col("gap_end") >= pl.col("end"))
    length = gone.filter(pl.col("price_type") == primary).group_by("symbol", "start").len("length")
    true = "feed_loss" if everyone else "symbol_loss"
    found = (
        planted.join(gaps.select("symbol", "gap_start", "gap_end", "cause"), on="symbol")
        .filter(holds)
        .join(length, on=["symbol", "start"])
    )
    return found.select(
        pl.col("symbol").alias("market"), pl.lit(true).alias("true"), pl.col("length").cast(pl.Int64), "cause"
    )


def matrix(found: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Share of each true cause that was told as what, in percent; `found` counts those told right."""
    causes = sorted(found["cause"].unique().to_list())
    counted = found.group_by([*by, "true"]).agg(
        pl.len().alias("stretches"), *((pl.col("cause") == one).mean().mul(100).round(1).alias(one) for one in causes)
    )
    return counted.sort([*by, "true"])


def _length() -> pl.Expr:
    bounds = [
        pl.when(pl.col("length").is_between(low, high)).then(
            pl.lit(f"{low}-{high}" if high < LENGTHS[-1][1] else f"{low}+")
        )
        for low, high in LENGTHS
    ]
    return pl.coalesce(bounds).alias("slots")


def main(seeds: int) -> None:
    pl.Config.set_tbl_rows(100)
    pl.Config.set_tbl_cols(20)
    pl.Config.set_tbl_width_chars(160)
    pl.Config.set_tbl_hide_column_data_types(True)
    pl.Config.set_tbl_hide_dataframe_shape(True)
    made = list(trials(range(FIRST_SEED, FIRST_SEED + seeds)))
    for evidence in EVIDENCE:
        judged = [(trial, gaps_of(trial, evidence)) for trial in made]
        found = pl.concat([told(*one) for one in judged])
        print(f"\nSimulated, evidence: {evidence} (percent of planted stretches)")
        print(matrix(found, ["market"]))
        if evidence in ("peers", "prints"):
            print(matrix(found.filter(pl.col("true") != "feed_loss").with_columns(_length()), ["market", "slots"]))
        for market in MARKETS:
            counts = [blamed(*one) for one in judged if one[0].market == market]
            quiet, wrong = (sum(values) for values in zip(*counts, strict=True))
            print(
                f"{market}: {quiet:,} slots without a trade, {100 * wrong / max(quiet, 1):.2f} % blamed on feed or symbol"
            )
    if not DATA.exists():
        print("\nno real files here: skipped")
        return
    for name, what, found in real():
        print(f"\nReal files, {name}, {what} (percent of runs cut out)")
        print(matrix(found, ["market"]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
