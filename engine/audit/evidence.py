"""Evidence of causes as sentences: columns in, text out."""

from __future__ import annotations

import polars as pl

HALTED_SHARE = 1 / 3  # of a gap: less may be an interruption within a longer silence
ORDINARY = 0.05  # a run likelier than this needs no more words
SEVERAL_RUNS = 1.5  # per session
JUMP_DEVIATIONS = 3  # a smaller move of the price is not mentioned
RAREST_SHOWN = 1e-4  # runs in a session
SHOWN_AS_ZERO = 1e-12


def is_ordinary() -> pl.Expr:
    """Whether a gap is `no_trade` by its own odds, of run probability >= 0.05, no slot lost to an outage; null is False."""
    ordinary = (pl.col("cause").cast(pl.String) == "no_trade") & (pl.col("run") >= ORDINARY) & (pl.col("lost") == 0)
    ordinary &= pl.col("known").is_null()
    return ordinary.fill_null(value=False)


def ordinary_evidence() -> pl.Expr:
    """Return an expression: text `p=` and the probability of a run so long."""
    return pl.format("p={}", two_figures("run"))


def gap_evidence(gaps: pl.DataFrame) -> pl.Expr:
    """Text by cause: symbols of the outage; fixed for calendar causes, not listed; others: odds of the run, activity."""
    cause = pl.col("cause").cast(pl.String)
    own = pl.concat_str([run_evidence(), *activity_evidence(gaps)], separator="; ", ignore_nulls=True)
    in_outage = pl.format("{} of {} symbols lack these slots together", pl.col("symbols"), pl.col("peers"))
    beside = pl.format("{} of {} slots lie in an outage", pl.col("lost"), pl.col("bar_count"))
    with_outage = pl.concat_str([pl.when(pl.col("lost") > 0).then(beside), own], separator="; ", ignore_nulls=True)
    return (
        pl.when(
            pl.col("outage").is_not_null()
            & pl.col("known").is_null()
            & ~cause.is_in(["no_trade", "symbol_loss", "unknown"])
        )
        .then(in_outage)
        .when(cause.is_in(["late_open", "early_close", "calendar_suspect"]))
        .then(pl.lit("nearly every session of every symbol, or of that weekday for weeks, lacks these slots"))
        .when(pl.col("known").is_not_null())
        .then("known_evidence")
        .otherwise(with_outage)
    )


def is_venue_halt() -> pl.Expr:
    """Whether a third or more of a gap's slots (`bar_count`) are `inside` an interruption of the venue."""
    return (pl.col("inside") > 0) & (pl.col("inside") >= HALTED_SHARE * pl.col("bar_count"))


def venue_halt_confidence() -> pl.Expr:
    """Return an expression: 1 where the whole market stopped, 0.9 where only the exchange did."""
    return pl.when(pl.col("scope") == "market").then(1.0).otherwise(0.9)


def venue_halt_evidence() -> pl.Expr:
    """Return text: how many slots lie in which interruption, from when to when, and its source."""
    text = "{} of {} slots lie in the {} of the venue from {} to {}{}"
    source = pl.when(pl.col("source").fill_null("") != "").then(pl.format(" ({})", "source")).otherwise(pl.lit(""))
    return pl.format(text, "inside", "bar_count", pl.col("kind").str.replace("_", " "), "start", "end", source)


def absence_evidence() -> pl.Expr:
    """Return an expression: fixed text with the number of sessions `absent` in a row."""
    text = "absent for {} sessions in a row: not listed under this name, never asked for, or never delivered"
    return pl.format(text, "absent")


def outage_evidence() -> pl.Expr:
    """Return text: symbols lacking it of all, % of expected bars missing, and what volume or price showed its cause."""
    lacks = pl.format(
        "{} of {} symbols lack it, {} % of the bars expected",
        "symbols",
        "peers",
        (100 * pl.col("share")).clip(0, 100).round(0).cast(pl.Int64),
    )
    cause = pl.col("cause").cast(pl.String)
    why = (
        pl.when(cause == "late_open")
        .then(pl.lit("; the first bars after it have the volume of an opening"))
        .when(cause == "early_close")
        .then(pl.lit("; the last bars before it have the volume of a close"))
        .when(cause == "halt")
        .then(pl.lit("; prices reopened away from where they stopped"))
        .otherwise(pl.lit(""))
    )
    return pl.concat_str([lacks, why])


def run_evidence() -> pl.Expr:
    """Return text: `p=` the chance of the run, and by `expected_runs` how many a session has or sessions per run."""
    runs = pl.col("expected_runs")
    usual = (
        pl.when(runs >= SEVERAL_RUNS)
        .then(pl.format("a session has {} runs so long", two_figures("expected_runs")))
        .when(runs >= 2 / 3)
        .then(pl.lit("a session has about one run so long"))
        .when(runs >= RAREST_SHOWN)
        .then(pl.format("one in {} sessions has a run so long", (1 / runs).round(0).cast(pl.Int64)))
        .otherwise(pl.lit("no session has a run so long"))
    )
    return pl.format("p={} at its own rate: {}", two_figures("run"), usual)


def activity_evidence(gaps: pl.DataFrame) -> list[pl.Expr]:
    """Texts or nulls: price move >= 3 deviations, volume >= e times the usual, prints if any, quotes if known (also 0)."""
    jump = pl.format("price moved {} deviations", pl.col("jump").abs().round(1))
    busier = pl.format("volume after it {}x the usual", pl.col("busier").exp().round(1))
    seen: list[pl.Expr] = [
        pl.when(pl.col("jump").abs() >= JUMP_DEVIATIONS).then(jump),
        pl.when(pl.col("busier") >= 1).then(busier),
    ]
    if "prints" in gaps.columns:
        seen.append(
            pl.when(pl.col("prints") > 0).then(pl.format("trade prints in {} of its {} slots", "prints", "bar_count"))
        )
    if "quotes" in gaps.columns:
        seen.append(
            pl.when(pl.col("quotes").is_not_null()).then(
                pl.format("quotes in {} of its {} slots", "quotes", "bar_count")
            )
        )
    return seen


def two_figures(name: str) -> pl.Expr:
    """Return an expression: the column as text with two significant figures; `0` below 1e-12."""
    value = pl.col(name)
    return pl.when(value < SHOWN_AS_ZERO).then(pl.lit("0")).otherwise(value.round_sig_figs(2).cast(pl.String))
