"""Plots of many series: coverage heatmap, missing slots of the day, gaps on a time axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from engine.arguments import Day, Names, check_arguments, check_known, date_of, names_of
from engine.errors import ParameterError, UnknownSymbolError
from engine.interval import Interval
from engine.quality.causes.cause_table import EXPLAINING
from engine.quality.causes.priors import SURE
from engine.quality.score import adjusted_quality
from engine.report.coverage import ALL, ALPHABET, CLOSED, PERIODS, choose_period, slot_shares
from engine.report.plot_axes import (
    Chart,
    X,
    break_marks,
    caption,
    clock_text,
    close_steps,
    day_x,
    session_x,
)
from engine.report.plot_data import PlotSource, Source, plot_source
from engine.report.plot_style import CAUSES, HEAT, OTHER_CAUSE, WIDTH, Theme, alt, labels, style_chart, theme_colours
from engine.report.session_axis import Axis

MOST_SERIES, MOST_PERIODS, MOST_SLOT_MARKS, MOST_GAP_MARKS, MOST_ROWS = 60, 66, 2_400, 1_200, 40
PLACES = 430
SERIES = ["symbol", "price_type"]
SLOTS, KNOWN_TO_AUDITS = ("expected", "present", "missing"), ("explained", "excluded", "filled")
FLOORS = (
    100.0,
    99.0,
    95.0,
    80.0,
    50.0,
)  # quality from which each step of `HEAT` begins; below the last: more than none


@check_arguments("of")
def plot_coverage(
    source: Source,
    *,
    of: str = "quality",
    symbols: Names | None = None,
    start: Day = None,
    end: Day = None,
    theme: Theme = "both",
) -> Chart:
    """Plot a heatmap of quality per series and session (or week, ...): the 60 series that miss most, worst on top.

    Parameters
    ----------
    source
        A session, an export, an audit (or its folder), or a frame of quality.
    of : {"quality", "quality_adjusted"}
        Slots without a trade and halts count as absent, or (an audit knows) as rightly so, and filled ones as absent.
    symbols : str or iterable of str, optional
        Only these.
    start, end : date or str, optional
        First and last trade date.
    theme : {"both", "light", "dark"}
        Which page it reads on.
    """
    if of not in ("quality", "quality_adjusted"):
        raise ParameterError(f"of: received {of!r}; valid: quality, quality_adjusted")
    due = select_quality(plot_source(source), symbols, start, end)
    if of not in due.columns:
        raise ParameterError(f"of: received {of!r}; the source has no causes; valid: quality, or an audit as source")
    every = choose_period(due["session"], MOST_PERIODS)
    # Frames of a caller may lack what only an audit knows.
    due = due.with_columns(pl.lit(0, pl.Int64).alias(name) for name in KNOWN_TO_AUDITS if name not in due.columns)
    summed = pl.col(*SLOTS, *KNOWN_TO_AUDITS).fill_null(0).sum()
    share = adjusted_quality() if of == "quality_adjusted" else 100.0 * pl.col("present") / pl.col("expected")
    cells = (
        due.group_by(*SERIES, pl.col("session").dt.truncate(every).alias("period"))
        .agg(summed)
        .with_columns(share.alias("quality"))
        .drop_nulls("quality")
        .select(*SERIES, "period", "quality", "missing", "expected")
    )
    names, said = label_worst_series(cells)
    shown = (
        cells.join(names, on=SERIES)
        .with_columns(
            heat_step().alias("covered"),
            pl.col("period").dt.strftime("%Y-%m-%d").alias("day"),
            pl.col("quality").round(2),
        )
        .sort("turn", "period")
    )
    whole = due.select(summed).select(share.alias("quality")).item() or 0.0
    told = f"{whole:.2f} % of {int(due['expected'].sum()):,} slots" + (
        ", explained ones counted" if of != "quality" else ""
    )
    title = f"Coverage by series and {PERIODS[every]}"
    return style_chart(coverage_heatmap(shown, names["name"].to_list(), theme), title, [caption(told, said)], theme)


@check_arguments("of")
def plot_slots(
    source: Source,
    *,
    of: str = "missing",
    calendar: str | Path | None = None,
    start: Day = None,
    end: Day = None,
    theme: Theme = "both",
) -> Chart:
    """Plot the share of series MISSING each slot of day, per session or period, of one calendar (default: commonest).

    Parameters
    ----------
    source
        A session, an export or an audit (or its folder).
    of : {"missing", "unexplained"}
        All missing slots, or (an audit knows) those that are neither without a trade nor halted.
    calendar : str or Path, optional
        Whose symbols; default: the calendar of most of them.
    start, end, theme
        As for `plot_coverage`.
    """
    if of not in ("missing", "unexplained"):
        raise ParameterError(f"of: received {of!r}; valid: missing, unexplained")
    data = plot_source(source)
    known = data.symbols()
    code = str(calendar) if calendar is not None else commonest_calendar(known)
    series = known.filter(pl.col("calendar") == code).rename({"base_interval": "interval"})
    if series.is_empty():
        raise ParameterError(
            f"calendar: received {code!r}; the source has {', '.join(known['calendar'].drop_nulls().unique().sort())}"
        )
    due = select_quality(data, series["symbol"].to_list(), start, end)
    key = [*SERIES, "interval"]
    gaps = data.gaps(pl.col("symbol").is_in(series["symbol"].implode())).join(
        due.select(*key, "session").unique(), on=[*key, "session"], how="semi"
    )
    outage = [] if "outage_id" in gaps.columns else [pl.lit(None, pl.String).alias("outage_id")]
    if of == "unexplained" and "confidence" not in gaps.columns:
        raise ParameterError(
            "of: received 'unexplained'; the source has no causes; valid: missing, or an audit as source"
        )
    is_explained = (
        pl.col("cause").is_in(EXPLAINING) & (pl.col("confidence") >= SURE)
        if of == "unexplained"
        else pl.lit(value=False)
    )
    lost = gaps.with_columns(is_explained.fill_null(value=False).alias("explained"), *outage)
    zone, about = data.time_zone(code), data.about(series["symbol"][0])
    chosen = (
        data.grid(about, about.interval, due)
        .table.filter("chosen")
        .rename({"open": "segment_open", "close": "segment_close"})
    )
    rows = due["session"].n_unique()
    drawn = slot_shares(due.select(key).unique(), due, lost, chosen, zone, max(MOST_SLOT_MARKS // min(rows, 60), 40))
    if drawn is None:
        raise ParameterError("source: nothing was expected there; valid: a source with sessions")
    return slot_chart(drawn, due.select(key).unique().height, code, zone, theme)


def plot_gaps(
    source: Source,
    *,
    symbols: Names | None = None,
    interval: str | Interval | None = None,
    start: Day = None,
    end: Day = None,
    calendar: str | Path | None = None,
    theme: Theme = "both",
) -> Chart:
    """Plot gaps of the 40 series missing most, of the most common calendar, by cause; ParameterError if there is none.

    Parameters
    ----------
    source
        A session, an export, an audit (or its folder; only an audit knows causes), or a frame of gaps.
    symbols : str or iterable of str, optional
        Only these, which share a calendar. Default: those of the calendar of most.
    interval : str, optional
        Default: the base interval.
    start, end : date or str, optional
        First and last trade date.
    calendar : str or Path, optional
        For a frame: whose sessions are the axis.
    theme : {"both", "light", "dark"}
        Which page it reads on.
    """
    data = plot_source(source, calendar)
    known = data.symbols()
    chosen = names_of("symbols", symbols)
    check_known("symbols", chosen or (), known["symbol"].to_list(), UnknownSymbolError)
    wanted = known if chosen is None else known.filter(pl.col("symbol").is_in(chosen))
    if wanted.is_empty():
        raise ParameterError("source: it has no symbol; valid: a source with gaps")
    about = data.about(wanted.filter(pl.col("calendar") == commonest_calendar(wanted))["symbol"][0])
    ours = wanted.filter(pl.col("calendar") == about.calendar)["symbol"]
    step = about.interval if interval is None else str(Interval.parse(interval))
    gaps = data.gaps(pl.col("symbol").is_in(ours.implode()) & (pl.col("interval") == step)).rename({"gap_start": "ts"})
    if gaps.is_empty():
        raise ParameterError(
            f"source: it has no gap of {step} bars of these symbols; valid: others, or nothing is missing"
        )
    axis = Axis.of(data.grid(about, step, gaps), date_of("start", start), date_of("end", end), PLACES)
    spans = axis.spans(gaps.rename({"ts": "gap_start"}))
    marks, names, said = merge_gap_marks(spans)
    zone = data.time_zone(about.calendar)
    title = f"Gaps of {step} bars, {about.calendar}" if about.calendar else f"Gaps of {step} bars"
    return style_chart(gap_timeline(marks, names, axis, zone, theme), title, [caption(said, zone)], theme)


# ---------------------------------------------------------------------------- rows


def commonest_calendar(symbols: pl.DataFrame) -> str:
    """Return the code of the calendar of most symbols (of several the first by name); none known: ParameterError."""
    known = symbols["calendar"].drop_nulls()
    if known.is_empty():
        raise ParameterError("source: it tells no calendars; valid: a session, an export or an audit")
    return str(known.mode().sort()[0])


def select_quality(data: PlotSource, symbols: Names | None, start: Day, end: Day) -> pl.DataFrame:
    """Return quality rows with expected slots of these symbols (None: all) and dates; none: ParameterError."""
    quality = data.quality().filter(pl.col("expected") > 0)
    first, last, names = date_of("start", start), date_of("end", end), names_of("symbols", symbols)
    check_known("symbols", names or (), {*quality["symbol"], *data.symbols()["symbol"]}, UnknownSymbolError)
    held = quality.filter(
        pl.col("session").is_between(first or quality["session"].min(), last or quality["session"].max()),
        pl.lit(value=True) if names is None else pl.col("symbol").is_in(names),
    )
    if held.is_empty():
        raise ParameterError(
            f"source: it has no quality of these symbols from {first or 'the first'} to {last or 'the last'} session; "
            "valid: a session, an export, an audit, or a frame of quality"
        )
    return held


def label_worst_series(cells: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Return (the 60 series with the largest MISSING share, labelled; a note if others are left out, else empty)."""
    ranked = (
        cells.group_by(SERIES)
        .agg((pl.col("missing").sum() / pl.col("expected").sum()).alias("share"))
        .sort("share", *SERIES, descending=[True, False, False])
    )
    shown = ranked.head(MOST_SERIES)
    said = f"the worst {MOST_SERIES} of {ranked.height:,} series" if ranked.height > MOST_SERIES else ""
    return label_series(shown), said


def label_series(series: pl.DataFrame) -> pl.DataFrame:
    """Add `name` (unique label; with price type where a symbol has several rows) and the row number `turn`."""
    many = series.group_by("symbol").len().filter(pl.col("len") > 1)["symbol"].implode()
    full = pl.when(pl.col("symbol").is_in(many)).then(pl.format("{} {}", "symbol", "price_type")).otherwise("symbol")
    texts = series.select(full.alias("full"))["full"].to_list()
    made = labels(texts)
    return series.with_columns(pl.Series("name", [made[text] for text in texts])).with_row_index("turn")


def heat_step() -> pl.Expr:
    """Return an expression: the `HEAT` label of `quality`: floors 100, 99, 95, 80, 50 %, above 0, else none."""
    step: pl.Expr = pl.when(pl.col("quality") > 0).then(pl.lit(HEAT[-2])).otherwise(pl.lit(HEAT[-1]))
    for floor, name in zip(reversed(FLOORS), reversed(HEAT[: len(FLOORS)]), strict=True):
        step = pl.when(pl.col("quality") >= floor).then(pl.lit(name)).otherwise(step)
    return step


def decode_shares(drawn: dict[str, Any]) -> pl.DataFrame:
    """Decode UNEXPLAINED shares of `slot_shares`: a row per cell: `row, minute, share` (0-1, if `open`), `open`."""
    codes = np.full(256, CLOSED, np.int64)
    codes[ALPHABET] = np.arange(len(ALPHABET))
    level = codes[np.frombuffer(drawn["adjusted"].encode(), np.uint8)]
    at = np.arange(len(level))
    return pl.DataFrame(
        {
            "row": at // drawn["slots"],
            "minute": drawn["first"] + (at % drawn["slots"]) * drawn["step"],
            "share": (level / ALL) ** 2,
            "open": level != CLOSED,
        }
    )


def merge_gap_marks(spans: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, str]:
    """Return (a mark per series, cause and place, 1,200 at most; labels of the 40 series missing most; caption)."""
    lost = (
        spans.group_by(SERIES)
        .agg(pl.col("bar_count").sum())
        .sort("bar_count", *SERIES, descending=[True, False, False])
    )
    names = label_series(lost.head(MOST_ROWS))
    cause = pl.when(pl.col("cause").is_in(list(CAUSES))).then("cause").otherwise(pl.lit(OTHER_CAUSE)).alias("cause")
    placed = spans.join(names.select(*SERIES, "name"), on=SERIES).with_columns(cause)
    # Gaps of one cause that begin in one place are one mark.
    merged = placed.group_by("name", "cause", pl.col("x").floor().alias("place")).agg(
        pl.col("x").min(), pl.col("x2").max(), pl.len().alias("gaps"), pl.col("bar_count").sum().alias("slots")
    )
    shown = (
        merged.sort("slots", "place", "name", descending=[True, False, False])
        .head(MOST_GAP_MARKS)
        .sort("place", "name")
    )
    said = f"{int(spans['bar_count'].sum()):,} slots missing in {spans.height:,} gaps of {lost.height:,} series"
    left = [
        f"the {MOST_ROWS} worst series" if lost.height > MOST_ROWS else "",
        f"the {MOST_GAP_MARKS:,} largest marks" if merged.height > MOST_GAP_MARKS else "",
    ]
    cut = " and ".join(one for one in left if one)
    middle = ((pl.col("x") + pl.col("x2")) / 2).alias("middle")
    return shown.drop("place").with_columns(middle), names, caption(said, f"shown: {cut}" if cut else "")


# ---------------------------------------------------------------------------- marks


def coverage_heatmap(cells: pl.DataFrame, names: list[str], theme: Theme) -> Chart:
    """Return a chart of one coloured cell per series and period; cells under 95 % carry a sign as well."""
    heat = alt.Scale(domain=list(HEAT), range=list(theme_colours(theme).heat))
    days = cells["day"].unique().sort().to_list()
    every = -(-len(days) // 12)
    x = alt.X(
        "day",
        type="ordinal",
        title=None,
        sort=days,
        axis=alt.Axis(values=days[::every], labelAngle=0, ticks=True, labelFlush=False),
    )
    y = alt.Y("name", type="nominal", title=None, sort=names)
    told = ["name:N", "day:N", "quality:Q", "missing:Q", "expected:Q"]
    rows = cells.select("name", "day", "quality", "missing", "expected", "covered")
    legend = alt.Legend(title=None, orient="top", symbolType="square", direction="horizontal", columns=len(HEAT))
    base = alt.Chart(rows).encode(x=x, y=y, tooltip=told)
    field = base.mark_rect(stroke=None, cornerRadius=1).encode(
        color=alt.Color("covered", type="nominal", scale=heat, legend=legend)
    )
    # Worse cells carry a mark, so that colour is not all that says it.
    marks = alt.Scale(domain=[*HEAT[3:]], range=["·", "•", "•", "✕"])
    signs = (
        base.transform_filter(alt.FieldOneOfPredicate(field="covered", oneOf=list(HEAT[3:])))
        .transform_calculate(sign=f"{dict(zip(marks.domain, marks.range, strict=True))}[datum.covered]")
        .mark_text(color="#ffffff" if theme != "dark" else "#0d1117", fontSize=11, fontWeight="bold", tooltip=None)
        .encode(text="sign:N")
    )
    return alt.layer(field, signs).properties(width=WIDTH, height=max(18 * len(names), 60))


def slot_chart(drawn: dict[str, Any], series: int, code: str, zone: str, theme: Theme) -> Chart:
    """Return a chart of missing shares by slot of day: worst and mean above, one row per session or period below."""
    colours = theme_colours(theme)
    starts = (
        pl.Series(drawn["sessions"]["columns"]["start"]["values"]).cast(pl.Int32).cast(pl.Date)
    )  # distinct, so never runs
    cells = decode_shares(drawn).with_columns(pl.lit(starts.dt.strftime("%Y-%m-%d")).gather(pl.col("row")).alias("day"))
    days = starts.dt.strftime("%Y-%m-%d").to_list()
    open_ = cells.filter("open")
    run = (pl.col("minute").diff() != drawn["step"]).cum_sum().fill_null(0)  # a pause begins another, and so does a day
    fields = open_.group_by("day", run.alias("run"), maintain_order=True).agg(
        pl.col("minute").min(), (pl.col("minute").max() + drawn["step"]).alias("until")
    )
    lost = open_.filter(pl.col("share") > 0).sort("share", descending=True, maintain_order=True)
    shown = (
        lost.head(MOST_SLOT_MARKS)
        .with_columns(
            (pl.col("minute") + drawn["step"]).alias("until"),
            (pl.col("minute")).alias("minute"),
            pl.col("share").round(4),
        )
        .select("day", "minute", "until", "share")
        .with_columns(clock_text().alias("time"))
    )
    by_slot = (
        open_.group_by("minute")
        .agg(pl.col("share").max().alias("worst"), pl.col("share").mean().alias("mean"))
        .sort("minute")
        .with_columns((pl.col("minute") + drawn["step"]).alias("until"))
    )
    x = day_x(by_slot["minute"], drawn["step"])
    every = -(-len(days) // 14)
    y = alt.Y("day", type="ordinal", title=None, sort=days, axis=alt.Axis(values=days[::every]))
    share = alt.Y("worst", type="quantitative", title="worst, mean", axis=alt.Axis(format="%", tickCount=3))
    above = alt.Chart(by_slot).properties(width=WIDTH, height=70)
    top = alt.layer(
        above.mark_rect(color=CAUSES["missing"][0], opacity=0.45).encode(
            x=without_labels(x), x2="until", y=share, y2=alt.datum(0), tooltip=["worst:Q", "mean:Q"]
        ),
        alt.Chart(close_steps(by_slot, drawn["step"], ["mean"]))
        .mark_line(color=colours.mark, strokeWidth=2, interpolate="step-after")
        .encode(x=without_labels(x), y="mean:Q"),
    )
    height = max(min(14 * len(days), 520), 60)
    fill = alt.Color(
        "share",
        type="quantitative",
        scale=alt.Scale(domain=[0, 1], range=list(colours.share)),
        legend=alt.Legend(
            title="series that lack the slot", format="%", orient="top", gradientLength=220, titleLimit=300
        ),
    )
    grid = alt.layer(
        alt.Chart(fields).mark_rect(color=colours.field).encode(x=x, x2="until", y=y),
        alt.Chart(shown)
        .mark_rect()
        .encode(x=x, x2="until", y=y, color=fill, tooltip=["day:N", "time:N", alt.Tooltip("share:Q", format=".1%")]),
    ).properties(width=WIDTH, height=height)
    cut = f"the {MOST_SLOT_MARKS:,} largest shares shown" if lost.height > MOST_SLOT_MARKS else ""
    said = f"rows: {drawn['every']}s · columns: {drawn['step']} minutes · {series:,} series"
    return style_chart(
        alt.vconcat(top, grid, spacing=12, bounds="flush"),
        f"Slots of the day, {code}",
        [caption(said, cut, zone)],
        theme,
    )


def without_labels(x: X) -> X:
    """Return a deep copy of an x encoding whose axis shows no labels."""
    other = x.copy(deep=True)
    other["axis"]["labels"] = False
    return other


def gap_timeline(marks: pl.DataFrame, names: pl.DataFrame, axis: Axis, zone: str, theme: Theme) -> Chart:
    """Return a chart of gaps per series: a bar over the span, a point sized by slots at its middle, cause by colour."""
    colours = theme_colours(theme)
    x, order = session_x(axis, zone), names["name"].to_list()
    y = alt.Y("name", type="nominal", title=None, sort=order, scale=alt.Scale(domain=order), axis=alt.Axis(grid=True))
    seen = [cause for cause in CAUSES if cause in set(marks["cause"])]
    legend = alt.Legend(title=None, orient="top", direction="horizontal", columns=len(CAUSES), symbolOpacity=1)
    colour = alt.Color(
        "cause", type="nominal", legend=legend, scale=alt.Scale(domain=seen, range=[CAUSES[one][0] for one in seen])
    )
    shape = alt.Shape(
        "cause", type="nominal", legend=legend, scale=alt.Scale(domain=seen, range=[CAUSES[one][1] for one in seen])
    )
    told = ["name:N", "cause:N", "gaps:Q", "slots:Q"]
    base = alt.Chart(marks).encode(y=y, color=colour, tooltip=told)
    bars = base.mark_bar(height=9, opacity=0.45, cornerRadius=1).encode(x=x, x2="x2")
    size = alt.Size("slots", type="quantitative", legend=None, scale=alt.Scale(type="sqrt", range=[22, 120]))
    middle = alt.X("middle", type="quantitative", title=None)
    points = base.mark_point(filled=True, opacity=0.95).encode(x=middle, shape=shape, size=size)
    layers = [one for one in (break_marks(axis, x, colours), bars, points) if one is not None]
    return alt.layer(*layers).properties(width=WIDTH, height=max(22 * len(order), 60))
