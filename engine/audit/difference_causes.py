"""Why bars of two sides differ: a guess for each, from what the series does as a whole and from where the bar lies.

Of the series as a whole (`find_shifts`, `find_price_levels`, `find_volume_ratios`, `find_other_hours`, `find_quote_sides`, `find_other_feeds`,
`find_other_alignments`), the first that holds:

- `zone`: closes fit better when B is shifted by whole hours, a half, or a slot; a ratio of prices (`find_price_levels`) is taken out first.
- `scale`: prices, or volumes, stand in one ratio that is a power of ten.
- `adjustment`: prices stand in a ratio (or at a distance) that is constant in stretches of sessions.
- `hours`: days of B cover other hours: they open where a finer bar of A does, at the same time of most days, or are
  made of all of A's bars, those outside its segments too.
- `price_side`, `spread`: nearly all closes differ to the same side by a small share, as bid, mid and ask do, or the bids
  and asks of two brokers.
- `other_feed`: closes differ in most bars, to either side, by little: two feeds of one market.
- `alignment`: bars that one side has alone begin at one time of the interval, those of the other side at another.

Of a bar that the series does not explain (`attribute_by_place`):

- `session_missing`, `session_boundary`, `missing_bar`: only one side has it; in a session that the other lacks
  whole, before the other's first or after its last bar of the session, or between those.
- `auction_print`: the open of a session's first bar, the close or volume of its last.
- `volume_only`: prices agree, amounts do not: sweeps, odd lots, late prints.
- `open_at_close_before`: one side opens a bar where the bar before closed, the other at the first tick.
- `price_filter`: the range of one side lies within the other's: prints were left out.
- `late_correction`: what is left, when that is few bars of many; else `unknown`.

These are guesses: they say which known pattern fits, not what happened.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from engine.interval import Interval
from engine.schema import Schema, empty

KEY = ["symbol", "price_type", "interval"]
PRICES = ("open", "high", "low", "close")
AMOUNTS = ("volume", "vwap", "trades")
COMPARED = (*PRICES, *AMOUNTS)

APPRECIABLE = 1e-3  # a ratio nearer to 1 is no scale and no adjustment
CONSTANT = 2e-4  # how far a constant ratio may stray: prices are rounded
MOST_ROUNDED = 2e-3
LOT_CONSTANT = 0.01
NEARLY_ALL = 0.9
MOST_OF_ONE_SIDE = 0.95
SPREAD = 5e-3
FEEDS = 0.5
LEAST_LONE = 5  # bars of each side
SAME_SUM = 1e-9
LEAST_DAYS, MOST_DAYS = 4, 0.7
FEW = 0.01
OFTEN, SHIFT_ROWS, LEAST_ROWS, BETTER = 0.3, 1_000, 20, 0.5
SHIFT_SECONDS = sorted({h * 3600 for h in range(-14, 15)} | {half * 1800 for half in (-19, -11, -1, 1, 11, 19)})
REMEDIES: Mapping[str, str] = {
    "zone": "read one side with another --timezone or --stamp",
    "scale": "multiply one side",
    "adjustment": "compare raw with raw, or adjusted with adjusted",
    "alignment": "--align clock, or --align session, for the side whose bars begin otherwise (--options-a, --options-b)",
    "price_side": "compare bid with bid and ask with ask (--price-type)",
    "session_missing": "ask for the session again, or check the calendar",
    "other_feed": "give a --tolerance for price",
    "hours": "ask with the --segments that B covers",
    "session_boundary": "check which hours each side covers (--segments)",
}
# A reason of whole series, and which of their rows it is about.
WHOLESALE: Schema = {
    **dict.fromkeys((*KEY, "label", "why"), pl.String()),
    **dict.fromkeys(("prices", "amounts", "alone"), pl.Boolean()),
}

# What is said of a bar where nothing was measured of its series.
PATTERNS: Mapping[str, str] = {
    "session_missing": "the other side has no bar of the session",
    "session_boundary": "before the other's first or after its last bar of the session",
    "missing_bar": "the other side has bars before and after",
    "auction_print": "open of the session's first bar, or close or volume of its last",
    "volume_only": "prices agree, amounts do not",
    "open_at_close_before": "one side opens where its bar before closed",
    "price_filter": "the range of one side lies within the other's",
    "late_correction": "few bars of many differ, in no pattern",
    "unknown": "no known pattern fits",
}


def attribute_differences(pairs: pl.DataFrame, finer: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return rows that differ or have one side, with guessed `cause, evidence, remedy`; series causes override places.

    Parameters
    ----------
    pairs : DataFrame
        `symbol, price_type, interval, ts, session, side`, and `_a`, `_b`, `_differs` of each of `COMPARED`; sorted by
        the first four.
    finer : DataFrame, optional
        `symbol, price_type, ts, session, open, close, volume` of bars that those of A were made of, and of those beside them.

    Returns
    -------
    DataFrame
        The rows that differ, or that one side lacks, in the same order, with `cause`, `evidence` and `remedy`.
    """
    placed = attribute_by_place(pairs)
    different = placed.filter((pl.col("side") != "both") | any_differs(COMPARED))
    if different.is_empty():
        return different.with_columns(pl.lit(None, pl.String).alias("remedy"))
    suspects = pairs.join(different.select(KEY).unique(), on=KEY, how="semi", maintain_order="left")
    # The later one is the stronger reason.
    levels = find_price_levels(suspects)
    wholesale = [find_other_alignments(different), find_other_feeds(suspects), find_quote_sides(suspects)]
    wholesale += [find_other_hours(different, finer)] if finer is not None else []
    wholesale += [find_volume_ratios(suspects), levels, find_shifts(without_levels(suspects, levels), different)]
    for reason in wholesale:
        different = apply_series_cause(different, reason)
    if finer is not None:
        different = mark_days_of_all_hours(different, finer)
    said = pl.col("cause").replace_strict(PATTERNS, default=None, return_dtype=pl.String)
    different = different.with_columns(pl.coalesce("evidence", said).alias("evidence"))
    remedy = pl.col("cause").replace_strict(REMEDIES, default=None, return_dtype=pl.String)
    return different.with_columns(remedy.alias("remedy"))


def apply_series_cause(different: pl.DataFrame, whole: pl.DataFrame) -> pl.DataFrame:
    """Overwrite cause, evidence of bars the series cause's flags cover: prices, only amounts, or one side differ."""
    if whole.is_empty():
        return different
    beside = different.join(whole, on=KEY, how="left", maintain_order="left")
    about = (
        (pl.col("prices") & any_differs(PRICES))
        | (pl.col("amounts") & ~any_differs(PRICES) & any_differs(AMOUNTS))
        | (pl.col("alone") & (pl.col("side") != "both"))
    ).fill_null(value=False)
    return beside.with_columns(
        pl.when(about).then("label").otherwise("cause").alias("cause"),
        pl.when(about).then("why").otherwise("evidence").alias("evidence"),
    ).drop(whole.columns[len(KEY) :])


def any_differs(names: tuple[str, ...]) -> pl.Expr:
    """Return an expression: whether any `<name>_differs` is true."""
    return pl.any_horizontal(f"{name}_differs" for name in names)


# ------------------------------------------------------------------ by the place of a bar


def attribute_by_place(pairs: pl.DataFrame) -> pl.DataFrame:
    """Add guessed `cause`, null `evidence` to ALL pairs, equal ones too, by place and values; sorted by series, ts."""
    day = [*KEY, "session"]
    has_a, has_b = pl.col("side") != "b", pl.col("side") != "a"
    edges = [
        fold(pl.col("ts").filter(has)).over(day).alias(f"{name}_{side}")
        for side, has in (("a", has_a), ("b", has_b))
        for name, fold in (("first", pl.Expr.min), ("last", pl.Expr.max))
    ]
    before = [pl.col(f"close_{side}").shift(1).over(KEY).alias(f"before_{side}") for side in "ab"]
    beside = pairs.with_columns(*edges, *before)
    judged = beside.with_columns(cause_of_place().alias("cause"), pl.lit(None, pl.String).alias("evidence"))
    return mark_late_corrections(judged).drop("first_a", "last_a", "first_b", "last_b", "before_a", "before_b")


def cause_of_place() -> pl.Expr:
    """Cause of a pair, first match: one-sided, auction, volume only (or equal), open at close before, filter, unknown."""
    return (
        pl.when(pl.col("side") == "a")
        .then(cause_of_one_side("b"))
        .when(pl.col("side") == "b")
        .then(cause_of_one_side("a"))
        .when(is_auction_print())
        .then(pl.lit("auction_print"))
        .when(~any_differs(PRICES))
        .then(pl.lit("volume_only"))
        .when(is_open_at_close_before())
        .then(pl.lit("open_at_close_before"))
        .when(is_range_within("a", "b") | is_range_within("b", "a"))
        .then(pl.lit("price_filter"))
        .otherwise(pl.lit("unknown"))
    )


def cause_of_one_side(other: str) -> pl.Expr:
    """Cause of a bar `other` lacks: `session_missing`, `session_boundary` (outside its bars), `missing_bar` (between)."""
    first, last = pl.col(f"first_{other}"), pl.col(f"last_{other}")
    return (
        pl.when(first.is_null())
        .then(pl.lit("session_missing"))
        .when((pl.col("ts") < first) | (pl.col("ts") > last))
        .then(pl.lit("session_boundary"))
        .otherwise(pl.lit("missing_bar"))
    )


def is_auction_print() -> pl.Expr:
    """Whether the first bar's open (not close) or the last's close or amounts alone (not open) differ; 1-bar day: no."""
    # A day is first and last at once, and so tells nothing.
    opens = pl.col("ts") == pl.min_horizontal("first_a", "first_b")
    closes = pl.col("ts") == pl.max_horizontal("last_a", "last_b")
    at_open = opens & pl.col("open_differs") & ~pl.col("close_differs")
    amounts_alone = any_differs(AMOUNTS) & ~any_differs(PRICES)
    at_close = closes & ~pl.col("open_differs") & (pl.col("close_differs") | amounts_alone)
    return (opens != closes) & (at_open | at_close)


def is_open_at_close_before() -> pl.Expr:
    """Whether opens differ, closes do not, and at least one side opens at its previous bar's close."""
    before = [pl.col(f"open_{side}") == pl.col(f"before_{side}") for side in "ab"]
    return pl.col("open_differs") & ~pl.col("close_differs") & pl.any_horizontal(before).fill_null(value=False)


def is_range_within(inner: str, outer: str) -> pl.Expr:
    """Whether low..high of side `inner` lies within that of side `outer`; equal ranges count."""
    return (pl.col(f"high_{inner}") <= pl.col(f"high_{outer}")) & (pl.col(f"low_{inner}") >= pl.col(f"low_{outer}"))


def mark_late_corrections(judged: pl.DataFrame) -> pl.DataFrame:
    """Relabel filter and unknown price differences `late_correction` if <= 1 % of common bars; needs ALL pairs."""
    left = pl.col("cause").is_in(["price_filter", "unknown"]) & any_differs(PRICES)
    common = (pl.col("side") == "both").sum().over(KEY)
    few = left.sum().over(KEY) <= FEW * common
    return judged.with_columns(pl.when(left & few).then(pl.lit("late_correction")).otherwise("cause").alias("cause"))


# ------------------------------------------------------------------ by the series as a whole


def series_causes(rows: pl.DataFrame, label: pl.Expr, why: pl.Expr, about: str) -> pl.DataFrame:
    """Return `WHOLESALE` rows; `about`, names with spaces between, sets the flags `prices`, `amounts`, `alone`."""
    kinds = [pl.lit(kind in about.split()).alias(kind) for kind in list(WHOLESALE)[-3:]]
    return rows.select(*KEY, label.alias("label"), why.alias("why"), *kinds)


def mark_days_of_all_hours(different: pl.DataFrame, finer: pl.DataFrame) -> pl.DataFrame:
    """Set cause `hours` where a 1d bar of B has open, close, volume (if any) of ALL finer bars of A's session."""
    day = ["symbol", "price_type", "session"]
    folds = [pl.col("open").first(), pl.col("close").last(), pl.col("volume").sum()]
    whole = finer.sort("ts").group_by(day).agg(fold.name.suffix("_whole") for fold in folds)
    beside = different.join(whole, on=day, how="left", maintain_order="left")
    off = (pl.col("volume_b") - pl.col("volume_whole")).abs()
    amounts = pl.col("volume_b").is_null() | (off <= SAME_SUM * pl.col("volume_whole"))
    equal = (pl.col("open_b") == pl.col("open_whole")) & (pl.col("close_b") == pl.col("close_whole")) & amounts
    is_whole = (pl.col("interval") == "1d") & equal.fill_null(value=False)
    why = pl.lit("B's day is made of all bars of A, those outside its segments too")
    return beside.with_columns(
        pl.when(is_whole).then(pl.lit("hours")).otherwise("cause").alias("cause"),
        pl.when(is_whole).then(why).otherwise("evidence").alias("evidence"),
    ).drop("open_whole", "close_whole", "volume_whole")


def find_quote_sides(suspects: pl.DataFrame) -> pl.DataFrame:
    """Cause `spread` (bid, ask), else `price_side`: B's close is off to one side in >= 95 % of >= 20 bars, by <= 0.5 %."""
    a, b, differs = pl.col("close_a"), pl.col("close_b"), pl.col("close_differs")
    sides = (
        suspects.filter(pl.col("side") == "both")
        .group_by(KEY)
        .agg(
            pl.len().alias("common"),
            (differs & (b > a)).mean().alias("above"),
            (differs & (b < a)).mean().alias("below"),
            (b / a - 1).median().alias("off"),
        )
    )
    one_side = pl.max_horizontal("above", "below") >= MOST_OF_ONE_SIDE
    held = sides.filter(one_side & (pl.col("off").abs() <= SPREAD) & (pl.col("common") >= LEAST_ROWS))
    side = pl.when(pl.col("above") > pl.col("below")).then(pl.lit("above")).otherwise(pl.lit("below"))
    share = shown_figures((100 * pl.max_horizontal("above", "below")).round(1))
    points = shown_figures((1e4 * pl.col("off").abs()).round(3))
    why = pl.format("B closes {} A in {} % of {} bars, by {} basis points in the median", side, share, "common", points)
    quoted = pl.col("price_type").is_in(["bid", "ask"])
    label = pl.when(quoted).then(pl.lit("spread")).otherwise(pl.lit("price_side"))
    return series_causes(held, label, why, "prices")


def find_other_feeds(suspects: pl.DataFrame) -> pl.DataFrame:
    """Return cause `other_feed` of series whose closes differ in >= 50 % of >= 20 bars, by a median <= 0.1 %."""
    apart = (pl.col("close_b") - pl.col("close_a")).abs()
    both = (
        suspects.filter(pl.col("side") == "both")
        .group_by(KEY)
        .agg(
            pl.len().alias("common"),
            pl.col("close_differs").mean().alias("share"),
            apart.quantile(0.95).alias("most"),
            (apart / pl.col("close_a").abs()).median().alias("off"),
        )
    )
    held = both.filter((pl.col("share") >= FEEDS) & (pl.col("off") <= APPRECIABLE) & (pl.col("common") >= LEAST_ROWS))
    share, points = shown_figures((100 * pl.col("share")).round(1)), shown_figures((1e4 * pl.col("off")).round(3))
    why = pl.format(
        "closes differ in {} % of {} bars, by {} basis points in the median, 95 % of them by at most {}",
        share,
        "common",
        points,
        pl.col("most").round_sig_figs(3),
    )
    return series_causes(held, pl.lit("other_feed"), why, "prices")


def find_other_hours(different: pl.DataFrame, finer: pl.DataFrame) -> pl.DataFrame:
    """Cause `hours` of 1d series: B opens like A's finer bar of one UTC time on >= 70 %, >= 4, of days with other opens."""
    series = ["symbol", "price_type"]
    days = different.filter((pl.col("interval") == "1d") & pl.col("open_differs"))
    opens = finer.select(*series, "session", pl.col("ts").dt.time().alias("at"), pl.col("open").alias("open_b"))
    met = (
        days.join(opens, on=[*series, "session", "open_b"])
        .group_by(*KEY, "at")
        .agg(pl.col("session").n_unique().alias("days"))
    )
    best = met.sort(pl.col("days"), "at", descending=[True, False]).unique(KEY, keep="first", maintain_order=True)
    held = best.join(days.group_by(KEY).agg(pl.len().alias("all")), on=KEY).filter(
        (pl.col("days") >= LEAST_DAYS) & (pl.col("days") >= MOST_DAYS * pl.col("all"))
    )
    why = pl.format(
        "B opens where A's bar of {} UTC does, on {} of {} days",
        pl.col("at").cast(pl.String).str.head(8),
        "days",
        "all",
    )
    return series_causes(held, pl.lit("hours"), why, "prices amounts")


def find_volume_ratios(suspects: pl.DataFrame) -> pl.DataFrame:
    """Return cause `scale`: of >= 20 volume ratios 90 % are within 1 % of their median, which is over 1 % off 1."""
    some = suspects.filter((pl.col("volume_a") > 0) & (pl.col("volume_b") > 0))
    ratio = (pl.col("volume_b") / pl.col("volume_a")).alias("ratio")
    levels = some.select(*KEY, ratio).with_columns(pl.col("ratio").median().over(KEY).alias("level"))
    near = (pl.col("ratio") / pl.col("level") - 1).abs() <= LOT_CONSTANT
    found = levels.group_by(KEY).agg(pl.col("level").first(), near.mean().alias("near"), pl.len().alias("common"))
    far = (pl.col("level") - 1).abs() > LOT_CONSTANT
    held = found.filter((pl.col("near") >= NEARLY_ALL) & far & (pl.col("common") >= LEAST_ROWS))
    why = pl.format("volume of B is {} times that of A in {} bars", shown_figures("level"), "common")
    return series_causes(held, pl.lit("scale"), why, "amounts")


def find_price_levels(suspects: pl.DataFrame) -> pl.DataFrame:
    """Cause `scale` (B/A is one power of ten) or `adjustment` (B/A, else B-A, constant in stretches of sessions)."""
    both = suspects.filter((pl.col("close_a") > 0) & (pl.col("close_b") > 0))
    ratio, distance = pl.col("close_b") / pl.col("close_a"), (pl.col("close_b") - pl.col("close_a"))
    ratios = piecewise_constant_series(both, ratio, 1.0, pl.lit(1.0))
    distances = piecewise_constant_series(both, distance, 0.0, pl.col("close_b"))
    # Of prices that move little both are constant within the rounding: the one that strays less is meant.
    nearer = distances.join(ratios.select(*KEY, pl.col("stray").alias("of_ratio")), on=KEY, how="left").filter(
        pl.col("stray") < pl.col("of_ratio").fill_null(float("inf"))
    )
    ratios = ratios.join(nearer, on=KEY, how="anti")
    distances = nearer.drop("of_ratio")
    power = pl.col("last").log10().round(0)
    is_power = (
        ((pl.col("last") / pl.lit(10.0).pow(power) - 1).abs() <= pl.col("grain"))
        & (power != 0)
        & (pl.col("changes") == 0)
    )
    label = pl.when(is_power).then(pl.lit("scale")).otherwise(pl.lit("adjustment"))
    return pl.concat(
        [
            series_causes(ratios, label, level_evidence("B is {} times A"), "prices amounts"),
            series_causes(distances, pl.lit("adjustment"), level_evidence("B is A plus {}"), "prices"),
        ]
    )


def level_evidence(what: str) -> pl.Expr:
    """Text: `what` (with one `{}`) filled with the last level, and sessions; if it moves, also first level, changes."""
    first, last, over = shown_figures("first"), shown_figures("last"), pl.format(" ({} sessions)", "sessions")
    moving = pl.format(what + " at first, {} at last, and moves {} times between", first, last, "changes")
    return pl.concat_str(pl.when(pl.col("changes") == 0).then(pl.format(what, last)).otherwise(moving), over)


def piecewise_constant_series(both: pl.DataFrame, measure: pl.Expr, neutral: float, unit: pl.Expr) -> pl.DataFrame:
    """Return levels of series with `measure` off `neutral`, steady in >= 90 % of sessions, changing in <= 10 % or once."""
    rows = both.select(*KEY, "session", measure.alias("measure"), unit.alias("unit"))
    days = (
        rows.group_by(*KEY, "session", maintain_order=True)
        .agg(
            pl.col("measure").median().alias("level"),
            pl.col("unit").median(),
            pl.len().alias("bars"),
            ((pl.col("measure") - pl.col("measure").median()).abs().median() / pl.col("unit").median()).alias("stray"),
        )
        .join(rounding_spread(both), on=KEY, maintain_order="left")
    )
    step = (pl.col("level") - pl.col("level").shift(1)).abs().over(KEY) / pl.col("unit")
    moved = (step > 2 * pl.col("grain")).fill_null(value=False)
    series = (
        days.with_columns(moved.alias("moved"))
        .group_by(KEY, maintain_order=True)
        .agg(
            pl.len().alias("sessions"),
            pl.col("bars").sum().alias("common"),
            pl.col("moved").sum().cast(pl.Int64).alias("changes"),
            (pl.col("stray") <= pl.col("grain")).mean().alias("tight"),
            pl.col("stray").mean(),
            ((pl.col("level") - neutral).abs() / pl.col("unit")).max().alias("off"),
            pl.col("level").first().alias("first"),
            pl.col("level").last().alias("last"),
            pl.col("grain").first(),
        )
    )
    few_changes = pl.col("changes") <= pl.max_horizontal(1, pl.col("sessions") * 0.1)
    appreciable = pl.col("off") > pl.max_horizontal(APPRECIABLE, 3 * pl.col("grain"))
    return series.filter((pl.col("tight") >= NEARLY_ALL) & appreciable & few_changes & (pl.col("common") >= LEAST_ROWS))


def rounding_spread(both: pl.DataFrame) -> pl.DataFrame:
    """Return `grain` per series: 2e-4, plus half a tick of each side by its median close (together at most 2e-3)."""
    ticks = [pl.col(f"close_{side}").unique().sort().diff().min() / pl.col(f"close_{side}").median() for side in "ab"]
    rounding = pl.sum_horizontal(tick.fill_null(0.0) / 2 for tick in ticks).clip(upper_bound=MOST_ROUNDED)
    return both.group_by(KEY).agg((CONSTANT + rounding).alias("grain"))


def without_levels(suspects: pl.DataFrame, levels: pl.DataFrame) -> pl.DataFrame:
    """Pairs with closes of B at the level of A in each session, in series whose prices stand in `levels`."""
    if levels.is_empty():
        return suspects
    ratio = (pl.col("close_b") / pl.col("close_a")).median()
    level = pl.coalesce(ratio.over(*KEY, "session"), ratio.over(KEY))
    standing = suspects.join(levels, on=KEY, how="semi", maintain_order="left")
    others = suspects.join(levels, on=KEY, how="anti", maintain_order="left")
    return pl.concat([standing.with_columns((pl.col("close_b") / level).alias("close_b")), others])


def find_other_alignments(different: pl.DataFrame) -> pl.DataFrame:
    """Cause `alignment` of intraday series: >= 90 % of A's lone bars begin at one offset in the interval, of B's at another."""
    lone = different.filter(pl.col("side") != "both")
    parts = [empty(WHOLESALE)]
    for (text,), rows in lone.group_by("interval"):
        step = Interval.parse(str(text))
        if not step.is_intraday:
            continue
        offset = (pl.col("ts").dt.epoch("us") % (step.seconds * 1_000_000)).alias("offset")
        sides = (
            rows.with_columns(offset)
            .group_by(*KEY, "side")
            .agg(
                pl.len().alias("bars"),
                pl.col("offset").mode().min().alias("usual"),
                (pl.col("offset") == pl.col("offset").mode().min()).mean().alias("share"),
            )
            .filter(pl.col("share") >= NEARLY_ALL)
        )
        a, b = (sides.filter(pl.col("side") == side).drop("side", "share") for side in "ab")
        both = a.join(b, on=KEY, suffix="_b")
        apart = both.filter(
            (pl.col("usual") != pl.col("usual_b")) & (pl.min_horizontal("bars", "bars_b") >= LEAST_LONE)
        )
        why = pl.format(
            "{} bars of A alone begin {} min into the interval, {} bars of B alone {} min",
            *("bars", shown_figures(pl.col("usual") / 60_000_000)),
            *("bars_b", shown_figures(pl.col("usual_b") / 60_000_000)),
        )
        parts.append(series_causes(apart, pl.lit("alignment"), why, "alone"))
    return pl.concat(parts)


def find_shifts(suspects: pl.DataFrame, different: pl.DataFrame) -> pl.DataFrame:
    """Cause `zone` of intraday series > 30 % differing: A's first 1000 bars fit better with B moved by hours, a slot."""
    wrong = different.group_by(KEY).agg(pl.len().alias("wrong"))
    often = suspects.group_by(KEY).agg(pl.len().alias("all")).join(wrong, on=KEY)
    often = often.filter(pl.col("wrong") > OFTEN * pl.col("all")).sort(KEY).with_row_index("series")
    steps = {one: Interval.parse(one) for one in often["interval"].unique()}
    intraday = often.filter(pl.col("interval").is_in([one for one, step in steps.items() if step.is_intraday]))
    if intraday.is_empty():
        return empty(WHOLESALE)
    # Numbered, so that the many joins are on numbers.
    bars = suspects.join(intraday.select(*KEY, "series"), on=KEY, maintain_order="left")
    a = bars.filter(pl.col("close_a") > 0).select("series", "ts", pl.col("close_a").log().alias("a"))
    a = a.filter(pl.int_range(pl.len()).over("series") < SHIFT_ROWS)
    b = bars.filter(pl.col("close_b") > 0).select("series", "ts", pl.col("close_b").log().alias("b"))
    own = {step.seconds for step in steps.values() if step.is_intraday}
    tried = [spread_at_shift(a, b, seconds) for seconds in sorted({*SHIFT_SECONDS, *own, *(-step for step in own)})]
    return best_shifts(pl.concat(tried), a.group_by("series").agg(pl.len().alias("bars")), intraday)


def spread_at_shift(a: pl.DataFrame, b: pl.DataFrame, seconds: int) -> pl.DataFrame:
    """Return per series `stray` (mean |b - a - median|, both logs), `met` bars, `seconds`: B moved BACK by so many."""
    moved = b.with_columns(pl.col("ts") - pl.duration(seconds=seconds))
    off = a.join(moved, on=["series", "ts"]).with_columns((pl.col("b") - pl.col("a")).alias("off"))
    stray = (pl.col("off") - pl.col("off").median()).abs().mean()
    return (
        off.group_by("series")
        .agg(stray.alias("stray"), pl.len().alias("met"))
        .with_columns(pl.lit(seconds).alias("seconds"))
    )


def best_shifts(tried: pl.DataFrame, bars: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """Cause `zone` if the best shift meeting >= 25 % of bars, 20, is not 0 and strays < half of shift 0 and the median."""
    enough = pl.col("met") >= pl.max_horizontal(LEAST_ROWS, pl.col("bars") * 0.25)
    fits = tried.join(bars, on="series").filter(enough)
    unmoved = fits.filter(pl.col("seconds") == 0).select("series", pl.col("stray").alias("unmoved"))
    usual = fits.group_by("series").agg(pl.col("stray").median().alias("usual"))
    best = fits.sort("stray", pl.col("seconds").abs()).unique("series", keep="first", maintain_order=True)
    best = (
        best.join(usual, on="series")
        .join(unmoved, on="series", how="left")
        .join(names.select(*KEY, "series"), on="series")
    )
    clear = pl.min_horizontal("usual", "unmoved") * BETTER
    held = best.filter((pl.col("seconds") != 0) & (pl.col("stray") < clear))
    why = pl.format(
        "B is {} by {} min: moved, closes stray by {}, as they are by {} ({} bars)",
        pl.when(pl.col("seconds") > 0).then(pl.lit("late")).otherwise(pl.lit("early")),
        shown_figures(pl.col("seconds").abs() / 60),
        pl.col("stray").round(7),
        pl.coalesce("unmoved", "usual").round(7),
        "met",
    )
    return series_causes(held, pl.lit("zone"), why, "prices amounts alone")


def shown_figures(value: str | pl.Expr) -> pl.Expr:
    """Return an expression: the number as text, seven significant figures, a trailing `.0` removed."""
    number = pl.col(value) if isinstance(value, str) else value
    return number.round_sig_figs(7).cast(pl.String).str.strip_suffix(".0")
