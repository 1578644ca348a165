"""Evidence of causes as sentences: columns in, text out."""

from __future__ import annotations

import polars as pl

HALTED_SHARE = 1 / 3  # of a gap: less may be an interruption within a longer silence
ORDINARY = 0.05  # a run likelier than this needs no more words
UNITS = {"1s": "second", "1m": "minute", "1h": "hour", "1d": "day"}
SEVERAL_RUNS = 1.5  # per session
JUMP_DEVIATIONS = 3  # a smaller move of the price is not mentioned
RAREST_SHOWN = 1e-4  # runs in a session


def unit(interval: str) -> str:
    """What a slot of an interval is called, in the singular: minute, second, ..., or `slot of 5m`."""
    return UNITS.get(interval, f"slot of {interval}")


def plural(word: str) -> str:
    """`minutes` of `minute`, `slots of 5m` of `slot of 5m`."""
    first, *rest = word.split(" ", 1)
    return " ".join([f"{first}s", *rest])


def missing_bars(count: str) -> pl.Expr:
    """Text of a column with a number: `1 missing bar`, `8 missing bars`."""
    return pl.format("{} missing bar{}", count, pl.when(pl.col(count) == 1).then(pl.lit("")).otherwise(pl.lit("s")))


def is_ordinary() -> pl.Expr:
    """Whether a gap is `no_trade` by its own odds, of run probability >= 0.05, no slot lost to an outage; null is False."""
    ordinary = (pl.col("cause").cast(pl.String) == "no_trade") & (pl.col("run") >= ORDINARY) & (pl.col("lost") == 0)
    ordinary &= pl.col("known").is_null()
    return ordinary.fill_null(value=False)


def ordinary_evidence(word: str) -> pl.Expr:
    """Text per series of `symbol, due, missing`: how many of its slots have no bar, so that a gap is ordinary."""
    text = f"{{}} has no bar in {{}} of {{}} {plural(word)}, so a silence of this length is ordinary"
    return pl.format(text, "symbol", "missing", "due")


def gap_evidence(gaps: pl.DataFrame, word: str) -> pl.Expr:
    """Text by cause: symbols of the outage; fixed for calendar causes; others: how often there is a bar, who traded on.

    Parameters
    ----------
    gaps : DataFrame
        Of `symbol`, `others` and `others_missing` (other slots of the series, and how many of them lack a bar), `on` (symbols
        that have all slots of the gap, or null), and what `attribution.ATTRIBUTED` has.
    word : str
        From `unit`.
    """
    cause = pl.col("cause").cast(pl.String)
    in_outage = pl.concat_str([symbols_text(), pl.lit(" lack "), these(word), pl.lit(" together")])
    beside = pl.format(f"{{}} of {{}} {plural(word)} lie in an outage", pl.col("lost"), pl.col("bar_count"))
    silence = pl.concat_str([pl.lit("a silence of "), how_many(word), pl.lit(" comes "), how_often()])
    missing = pl.concat_str(
        [
            these(word),
            pl.when(pl.col("bar_count") == 1).then(pl.lit(" is")).otherwise(pl.lit(" are")),
            pl.lit(" missing"),
        ]
    )
    traded_on = pl.when(pl.col("on").is_not_null()).then(pl.format(" while {} had bars", "on")).otherwise(pl.lit(""))
    meanwhile = pl.when(pl.col("on").is_not_null()).then(pl.format("; {} had bars", "on")).otherwise(pl.lit(""))
    stopped = pl.concat_str([pl.lit("it stopped for "), how_many(word)])
    is_halt_or_loss = (cause == "unknown") & (pl.col("expected_runs") < RAREST_SHOWN) & (pl.col("busier") >= 1)
    side = pl.when(pl.col("position").cast(pl.String) == "leading").then(pl.lit("first")).otherwise(pl.lit("last"))
    at_edge = pl.format(
        f"it lacks the {{}} {plural(word)} in {{}} sessions, and next to none beside them: a habit of its source or of its trading",
        side,
        "edge_sessions",
    )
    said = (
        pl.when(pl.col("edge_sessions") > 0)
        .then(at_edge)
        .when("together")
        .then(pl.concat_str([pl.lit("its peers lack "), these(word), pl.lit(" too")]))
        .when((cause == "symbol_loss") | is_halt_or_loss)
        .then(pl.concat_str([missing, traded_on]))
        .when(cause == "halt")
        .then(pl.concat_str([stopped, traded_on]))
        .otherwise(pl.concat_str([silence, meanwhile]))
    )
    neither = "this decides neither for {} nor for a loss"
    of_all = pl.when("together").then(pl.lit(neither.format("a silence of the market")))
    undecided = (
        of_all.when(is_halt_or_loss)
        .then(pl.lit(neither.format("a halt")))
        .when(cause == "unknown")
        .then(pl.lit(neither.format("silence")))
    )
    clauses = [
        pl.when(pl.col("lost") > 0).then(beside),
        how_liquid(word),
        said,
        *activity_evidence(gaps),
        undecided,
    ]
    return (
        pl.when(
            pl.col("outage").is_not_null()
            & pl.col("known").is_null()
            & ~cause.is_in(["no_trade", "symbol_loss", "unknown"])
        )
        .then(in_outage)
        .when(pl.col("known").is_not_null())
        .then("known_evidence")
        .when(cause.is_in(["late_open", "early_close", "calendar_suspect"]))
        .then(
            pl.lit(
                f"in nearly every session, or nearly every one of that weekday, no symbol has a bar in these {plural(word)}"
            )
        )
        .otherwise(pl.concat_str(clauses, separator="; ", ignore_nulls=True))
    )


def how_liquid(word: str) -> pl.Expr:
    """Text: in how many of its other slots the series has a bar; null if it has no others."""
    has = pl.when(pl.col("others_missing") == 0).then(
        pl.format(f"{{}} has a bar in all {{}} other {plural(word)}", "symbol", "others")
    )
    some = pl.format(
        f"{{}} has a bar in {{}} of {{}} other {plural(word)}",
        "symbol",
        pl.col("others") - pl.col("others_missing"),
        "others",
    )
    return pl.when(pl.col("others") > 0).then(has.otherwise(some))


def how_many(word: str) -> pl.Expr:
    """Text: `1 minute`, `5 minutes`."""
    one = pl.when(pl.col("bar_count") == 1).then(pl.lit(f"1 {word}"))
    return one.otherwise(pl.format(f"{{}} {plural(word)}", "bar_count"))


def these(word: str) -> pl.Expr:
    """Text: `this minute`, `these 5 minutes`."""
    one = pl.when(pl.col("bar_count") == 1).then(pl.lit(f"this {word}"))
    return one.otherwise(pl.format(f"these {{}} {plural(word)}", "bar_count"))


def symbols_text() -> pl.Expr:
    """Text: `all 15 symbols`, `12 of 15 symbols`."""
    every = pl.when(pl.col("symbols") >= pl.col("peers")).then(pl.format("all {} symbols", "symbols"))
    return every.otherwise(pl.format("{} of {} symbols", "symbols", "peers"))


def how_often() -> pl.Expr:
    """Text by `expected_runs`: how many silences so long a session has, or in how many sessions there is one."""
    runs = pl.col("expected_runs")
    return (
        pl.when(runs >= SEVERAL_RUNS)
        .then(pl.format("about {} times a session", runs.round(0).cast(pl.Int64)))
        .when(runs >= 2 / 3)
        .then(pl.lit("about once a session"))
        .when(runs >= RAREST_SHOWN)
        .then(pl.format("once in {} sessions", (1 / runs).round(0).cast(pl.Int64)))
        .otherwise(pl.lit("in no session"))
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


def outage_evidence(word: str) -> pl.Expr:
    """Return text: symbols that lack which slots, % of expected bars missing, and what volume or price showed its cause."""
    share = (100 * pl.col("share")).clip(0, 100).round(0).cast(pl.Int64)
    lacks = pl.concat_str(
        [symbols_text(), pl.lit(" lack "), these(word), pl.format(", {} % of the bars expected", share)]
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


def activity_evidence(gaps: pl.DataFrame) -> list[pl.Expr]:
    """Texts or nulls: price move >= 3 deviations, volume >= e times the usual, prints if any, quotes if known (also 0)."""
    jump = pl.format("the price moved {} times its usual step", pl.col("jump").abs().round(1))
    busier = pl.format("the first bar after it has {} times the usual volume", pl.col("busier").exp().round(1))
    seen: list[pl.Expr] = [
        pl.when(pl.col("jump").abs() >= JUMP_DEVIATIONS).then(jump),
        pl.when(pl.col("busier") >= 1).then(busier),
    ]
    for name, what in (("prints", "trades are on record"), ("quotes", "quotes are there")):
        if name in gaps.columns:
            inside = pl.col(name)
            some = pl.when(inside > 0).then(pl.format(f"{what} in {{}} of {{}} slots", name, "bar_count"))
            none = pl.when((inside == 0) & (pl.lit(name) == "quotes")).then(pl.lit("quotes are missing too"))
            seen.append(pl.coalesce(some, none))
    return seen
