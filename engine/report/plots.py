"""Plots of one symbol: candles, intraday profiles, derived bars against a vendor's bars.

Every plot takes any source (`plot_source`), reduces its rows to at most a few thousand marks before they are embedded,
and says below its title when it did. The result is an Altair chart: show it, change it, or `save_plot` it.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from engine.arguments import Day, check_known, date_of, one_name
from engine.errors import ParameterError
from engine.interval import Interval, check_known_intervals
from engine.report.plot_axes import (
    Chart,
    X,
    bar_width,
    break_marks,
    caption,
    clock_text,
    close_steps,
    day_x,
    session_x,
)
from engine.report.plot_data import PlotSource, Source, SymbolAxis, plot_source
from engine.report.plot_style import (
    CAUSES,
    OTHER_CAUSE,
    WIDTH,
    Theme,
    ThemeColours,
    alt,
    label,
    style_chart,
    theme_colours,
)
from engine.report.session_axis import Axis
from engine.report.summary_tables import venue_time
from engine.schema import PRICE_TYPES, TS

MOST_CANDLES, MOST_GAPS, MOST_NAMED_GAPS, MOST_POINTS = 430, 60, 4, 130
PRICE_HEIGHT = 280
SHOWN = ("open", "high", "low", "close", "volume", "bars")
MINUTE_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 240)


def plot_candles(
    source: Source,
    symbol: str | None = None,
    *,
    interval: str | Interval | None = None,
    price_type: str | None = None,
    start: Day = None,
    end: Day = None,
    gaps: Source | None = None,
    calendar: str | Path | None = None,
    theme: Theme = "both",
) -> Chart:
    """Plot candles, volume if any and shaded gaps on an axis of session slots; over 430 slots share candles.

    Parameters
    ----------
    source
        A session (SessionData, Snapshot), an export (folder, Dataset), or a frame of bars.
    symbol : str, optional
        None: the only one.
    interval, price_type : str, optional
        Default: the symbol's base interval and price type.
    start, end : date or str, optional
        First and last trade date.
    gaps : source, optional
        Where the gaps are taken from: an audit's have causes. Default: `source`.
    calendar : str or Path, optional
        For a frame: whose sessions are the axis.
    theme : {"both", "light", "dark"}
        Which page it reads on.

    Raises
    ------
    ParameterError
        No such symbol, no bars, or no session in the range.
    """
    data = plot_source(source, calendar)
    about, wanted, kind = resolve_series(data, symbol, interval, price_type)
    bars = require_bars(data, about, wanted, kind)
    axis = Axis.of(data.grid(about, wanted, bars), date_of("start", start), date_of("end", end), MOST_CANDLES)
    zone = data.time_zone(about.calendar)
    candles = with_venue_time(axis.folded(bars), zone)
    holes, said = gaps_to_shade(plot_source(gaps, calendar) if gaps is not None else data, about, wanted, kind, axis)
    has_volume = candles["volume"].sum() > 0
    x, over, colours = session_x(axis, zone), session_x(axis, zone, labels=not has_volume), theme_colours(theme)
    layers = [
        gap_rectangles(holes, over, named=True),
        break_marks(axis, over, colours),
        *candle_marks(candles, over, axis, colours),
        gap_labels(holes, over, axis),
    ]
    price = alt.layer(*(one for one in layers if one is not None)).properties(width=WIDTH, height=PRICE_HEIGHT)
    panels = [price, volume_panel(candles, holes, axis, x, colours)] if has_volume else [price]
    title = f"{label(about.symbol)}, {wanted} {kind}"
    each = f"each candle: {axis.shared}" if axis.shared else ""
    return style_chart(
        alt.vconcat(*panels, spacing=14, bounds="flush").resolve_scale(color="independent"),
        title,
        [caption(each, said, zone)],
        theme,
    )


def plot_volume(
    source: Source,
    symbol: str | None = None,
    *,
    interval: str | Interval | None = None,
    start: Day = None,
    end: Day = None,
    calendar: str | Path | None = None,
    theme: Theme = "both",
) -> Chart:
    """Plot volume by time of day: median and 25th to 75th percentile of sessions; a slot without a bar does not count.

    Parameters
    ----------
    source
        As for `plot_candles`. A slot without a bar counts in no session.
    symbol, interval, start, end, calendar, theme
        As for `plot_candles`.
    """
    data = plot_source(source, calendar)
    about, wanted, kind = resolve_series(data, symbol, interval, None)
    bars = require_bars(data, about, wanted, kind).drop_nulls("volume")
    if bars.is_empty():
        raise ParameterError(f"source: {kind} bars of {about.symbol!r} have no volume; valid: bars of trades")
    zone = data.time_zone(about.calendar)
    placed = data.grid(about, wanted, bars).place(bars["ts"])
    rows = with_session_minute(select_sessions(bars.filter(placed["slot"].is_not_null()), zone, start, end), zone)
    step = choose_slot_minutes(rows, wanted)
    sums = rows.group_by("session", slot_minute(step)).agg(pl.col("volume").sum().alias("value"))
    unit = "volume per minute" if step == 1 else f"volume per {step} minutes"
    return profile_chart(sums, step, f"{label(about.symbol)}, volume by time of day", unit, zone, theme)


def plot_spread(
    source: Source,
    symbol: str | None = None,
    *,
    start: Day = None,
    end: Day = None,
    calendar: str | Path | None = None,
    theme: Theme = "both",
) -> Chart:
    """Plot the spread by time of day in bp of the mid: median and middle half over sessions of their median per slot.

    Parameters
    ----------
    source
        One with quotes, or with bars of bid and ask (then the spread is that of their closes).
    symbol, start, end, calendar, theme
        As for `plot_candles`.
    """
    data = plot_source(source, calendar)
    about = data.about(symbol)
    quotes, what = bid_ask_rows(data, about)
    zone = data.time_zone(about.calendar)
    placed = data.grid(about, about.interval, quotes).place(quotes["ts"].cast(TS), exact=False)
    dated = quotes.with_columns(placed["session"]).filter(placed["slot"].is_not_null())
    rows = with_session_minute(select_sessions(dated, zone, start, end), zone)
    step = choose_slot_minutes(rows, "1m")
    middle = (pl.col("bid") + pl.col("ask")) / 2
    spread = 10_000 * (pl.col("ask") - pl.col("bid")) / middle
    shares = rows.group_by("session", slot_minute(step)).agg(spread.median().alias("value"))
    title = f"{label(about.symbol)}, spread by time of day"
    return profile_chart(shares, step, title, "basis points", zone, theme, f"from {what}")


def plot_against(
    source: Source,
    vendor: Source | None = None,
    symbol: str | None = None,
    *,
    interval: str | Interval = "1h",
    price_type: str | None = None,
    start: Day = None,
    end: Day = None,
    calendar: str | Path | None = None,
    theme: Theme = "both",
) -> Chart:
    """Plot closes of derived and vendor bars and their distance in bp; a `vendor` of one symbol: that; None: `source`.

    Parameters
    ----------
    source
        Where the derived bars are.
    vendor : source, optional
        Where the vendor's are. None: `source` has both (`load(..., keep_source=True)`).
    symbol, price_type, start, end, calendar, theme
        As for `plot_candles`.
    interval : str
        Of both.
    """
    ours, theirs = plot_source(source, calendar), plot_source(source if vendor is None else vendor, calendar)
    about, wanted, kind = resolve_series(ours, symbol, interval, price_type)
    derived = require_bars(ours, about, wanted, kind, "derived" if vendor is None else None)
    other = theirs.about(None if vendor is not None and len(theirs.symbols()) == 1 else about.symbol)
    quoted = require_bars(theirs, other, wanted, kind, "source" if vendor is None else None)
    axis = Axis.of(ours.grid(about, wanted, derived), date_of("start", start), date_of("end", end), MOST_CANDLES)
    zone = ours.time_zone(about.calendar)
    both, said = compare_closes(derived, quoted, axis, zone)
    each = f"each place: {axis.shared}" if axis.shared else ""
    title = f"{label(about.symbol)}, {wanted} {kind}: derived against vendor"
    return style_chart(
        comparison_chart(both, axis, zone, theme_colours(theme)), title, [caption(each, said, zone)], theme
    )


# ---------------------------------------------------------------------------- rows


def resolve_series(
    data: PlotSource, symbol: str | None, interval: str | Interval | None, price_type: str | None
) -> tuple[SymbolAxis, str, str]:
    """Return (axis, interval, price type) as named, else the symbol's defaults; ParameterError for no such symbol."""
    about = data.about(symbol)
    kind = about.price_type if price_type is None else one_name("price_type", price_type)
    check_known("price_type", [kind], PRICE_TYPES)
    return about, str(Interval.parse(about.interval if interval is None else interval)), kind


def require_bars(
    data: PlotSource, about: SymbolAxis, interval: str, kind: str, origin: str | None = None
) -> pl.DataFrame:
    """Return the bars of one series; without `origin` the last per `ts`; ParameterError if there is none."""
    bars = data.bars(about.symbol, interval, kind, origin)
    if bars.is_empty():
        of_series = (pl.col("symbol") == about.symbol) & (pl.col("price_type") == kind)
        known = [Interval.parse(text) for text in data.table("bars", of_series)["interval"].unique()]
        if known and origin is None:
            check_known_intervals("interval", [Interval.parse(interval)], known, about.symbol)
        whose = f" of origin {origin}" if origin else ""
        raise ParameterError(
            f"source: it has no {interval} {kind} bars{whose} of {about.symbol!r}; valid: an interval that was loaded "
            "or derived, from a session, an export or a frame of bars (an audit keeps none: give it as `gaps`)"
        )
    return bars if origin else bars.unique("ts", keep="last", maintain_order=True)


def with_venue_time(rows: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Add `time`: `ts` as text with date, time and zone abbreviation in the venue's zone."""
    return rows.with_columns(venue_time(rows.with_columns(pl.lit(zone).alias("time_zone")), "ts").alias("time"))


def gaps_to_shade(
    data: PlotSource, about: SymbolAxis, interval: str, kind: str, axis: Axis
) -> tuple[pl.DataFrame, str]:
    """Return (the 60 longest gaps: `x, x2, cause, bar_count, what`; a caption that counts all, empty if none)."""
    of_series = (pl.col("symbol") == about.symbol) & (pl.col("price_type") == kind)
    at_interval = data.gaps(of_series & (pl.col("interval") == interval))
    found = axis.spans(at_interval)
    longest = found.sort("bar_count", "gap_start", descending=[True, False]).head(MOST_GAPS)
    slots = int(found["bar_count"].sum())
    said = f"{slots:,} of {int(axis.table['slots'].sum()):,} slots missing in {found.height:,} gaps"
    cut = f", the {MOST_GAPS} longest shaded" if found.height > MOST_GAPS else ""
    known = longest.with_columns(
        pl.when(pl.col("cause").is_in(list(CAUSES))).then("cause").otherwise(pl.lit(OTHER_CAUSE)).alias("cause")
    )
    slots_ = pl.when(pl.col("bar_count") == 1).then(pl.lit("slot")).otherwise(pl.lit("slots"))
    comma = pl.when(pl.col("cause") == "missing").then(pl.lit(" ")).otherwise(pl.lit(", "))
    shown = known.select(
        "x", "x2", "cause", "bar_count", pl.format("{} {}{}{}", "bar_count", slots_, comma, "cause").alias("what")
    )
    return shown, (said + cut if found.height else "")


def select_sessions(rows: pl.DataFrame, zone: str, start: Day, end: Day) -> pl.DataFrame:
    """Return rows of sessions `start`..`end` (None: open); absent `session`: local date; none: ParameterError."""
    if "session" not in rows.columns:
        rows = rows.with_columns(pl.col("ts").dt.convert_time_zone(zone).dt.date().alias("session"))
    if rows.is_empty():
        raise ParameterError("source: none of its rows lies in a session; valid: rows of the symbol's calendar")
    first, last = date_of("start", start), date_of("end", end)
    held = rows.filter(pl.col("session").is_between(first or rows["session"].min(), last or rows["session"].max()))
    if held.is_empty():
        days = rows["session"].sort().cast(pl.String)
        raise ParameterError(
            f"start, end: received {first} and {last}: no row there; the source has {days[0]} to {days[-1]}"
        )
    return held


def with_session_minute(rows: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Add `minute`: venue wall-clock minutes of `ts` after midnight of its `session`."""
    local = pl.col("ts").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    since = (local - pl.col("session").cast(pl.Datetime("us"))).dt.total_seconds() / 60
    return rows.with_columns(since.alias("minute"))


def choose_slot_minutes(rows: pl.DataFrame, interval: str) -> int:
    """Return the least of `MINUTE_STEPS` >= the interval for at most 130 slots over the minutes; else 240."""
    low, high = rows["minute"].min(), rows["minute"].max()
    wide = float(high) - float(low) if isinstance(low, float) and isinstance(high, float) else 0.0
    least = max(Interval.parse(interval).seconds / 60, wide / MOST_POINTS)
    return next((step for step in MINUTE_STEPS if step >= least), MINUTE_STEPS[-1])


def slot_minute(step: int) -> pl.Expr:
    """Return an expression: `minute` rounded down to a multiple of `step`."""
    return ((pl.col("minute") / step).floor() * step).alias("minute")


def bid_ask_rows(data: PlotSource, about: SymbolAxis) -> tuple[pl.DataFrame, str]:
    """Return (two-sided quotes, else bid and ask closes paired by `ts`; text of which); ParameterError for neither."""
    quotes = data.quotes(about.symbol).drop_nulls(["bid", "ask"])
    if quotes.height:
        return quotes, "quotes"
    interval = about.interval
    sides = [data.bars(about.symbol, interval, side) for side in ("bid", "ask")]
    both = (
        sides[0]
        .select("ts", pl.col("close").alias("bid"))
        .join(sides[1].select("ts", pl.col("close").alias("ask")), on="ts")
    )
    if both.is_empty():
        raise ParameterError(
            f"source: it has neither quotes nor bid and ask bars of {about.symbol!r}; valid: one that has"
        )
    return both, f"closes of {interval} bid and ask bars"


def compare_closes(derived: pl.DataFrame, vendor: pl.DataFrame, axis: Axis, zone: str) -> tuple[pl.DataFrame, str]:
    """Return (per place the closes furthest apart in bp, `side` if one is absent; caption with counts of all bars)."""
    a, b = (rows.select("ts", pl.col("close").alias(name)) for rows, name in ((derived, "derived"), (vendor, "vendor")))
    both = a.join(b, on="ts", how="full", coalesce=True).sort("ts")
    places = both.hstack(axis.at(both["ts"])).drop_nulls("place")
    apart = places.with_columns((10_000 * (pl.col("vendor") / pl.col("derived") - 1)).alias("apart"))
    # Of several bars in one place the one that is furthest off.
    worst = apart.sort(pl.col("apart").abs(), descending=True, nulls_last=True).unique("place", keep="first")
    side = (
        pl.when(pl.col("vendor").is_null())
        .then(pl.lit("derived only"))
        .when(pl.col("derived").is_null())
        .then(pl.lit("vendor only"))
    )
    rows = with_venue_time(worst.sort("place").with_columns(side.alias("side")).drop("x").rename({"place": "x"}), zone)
    differ = apart.filter(pl.col("apart").abs() > 1e-5)  # noqa: PLR2004 - a billionth of the price
    only = [
        f"{count:,} {name} only"
        for name in ("derived", "vendor")
        if (count := apart[{"derived": "vendor", "vendor": "derived"}[name]].null_count())
    ]
    most = differ["apart"].abs().max()
    said = [f"{apart['apart'].drop_nulls().len():,} bars in both", f"{differ.height:,} differ"]
    said += [f"at most {most:.2f} bp"] if isinstance(most, float) else []
    return rows, ", ".join(said + only)


# ---------------------------------------------------------------------------- marks


def gap_rectangles(holes: pl.DataFrame, x: X, *, named: bool) -> Chart | None:
    """Return rectangles over the gaps, coloured by cause, with a legend only if `named`; None without a gap."""
    if holes.is_empty():
        return None
    seen = [one for one in CAUSES if one in set(holes["cause"])]
    scale = alt.Scale(domain=seen, range=[CAUSES[one][0] for one in seen])
    legend = alt.Legend(title=None, orient="top", symbolType="square", direction="horizontal")
    return (
        alt.Chart(holes)
        .mark_rect(fillOpacity=0.22, strokeOpacity=0.3, strokeWidth=0.8)
        .encode(
            x=x,
            x2="x2",
            color=alt.Color("cause", type="nominal", scale=scale, legend=legend if named else None),
            stroke=alt.Stroke("cause", type="nominal", scale=scale, legend=None),
            tooltip="what:N",
        )
    )


def candle_marks(candles: pl.DataFrame, x: X, axis: Axis, colours: ThemeColours) -> list[Chart]:
    """Return [wicks, bodies] as charts, in the rising (close >= open) or falling colour."""
    rows = candles.drop("ts").with_columns(
        (pl.col("x") + 0.5).alias("x"), (pl.col("close") >= pl.col("open")).alias("up"), pl.col("volume").fill_null(0)
    )
    rising = alt.condition("datum.up", alt.value(colours.up), alt.value(colours.down))
    scale, told = alt.Scale(zero=False, nice=True), ["time:N", *(f"{name}:Q" for name in SHOWN)]
    drawn = alt.Chart(rows).encode(x=x, color=rising, tooltip=told)
    low = alt.Y("low", type="quantitative", title=None, scale=scale, axis=alt.Axis(tickCount=6))
    open_ = alt.Y("open", type="quantitative", title=None, scale=scale)
    # A bar that opens where it closes has no body; the line under it shows that it is there.
    return [
        drawn.mark_rule(strokeWidth=1).encode(y=low, y2="high"),
        drawn.mark_bar(size=bar_width(axis)).encode(y=open_, y2="close"),
    ]


def gap_labels(holes: pl.DataFrame, x: X, axis: Axis) -> Chart | None:
    """Texts of up to 4 of the first 20 gaps, none within a sixth of the axis of an earlier one; None without any."""
    chosen: list[tuple[float, str]] = []
    for left, right, what in holes.select("x", "x2", "what").head(20).iter_rows():
        middle = (left + right) / 2
        if len(chosen) < MOST_NAMED_GAPS and all(abs(middle - other) > axis.length / 6 for other, _ in chosen):
            chosen.append((min(max(middle, axis.length * 0.07), axis.length * 0.93), what))
    if not chosen:
        return None
    rows = pl.DataFrame(chosen, schema={"x": pl.Float64, "what": pl.String}, orient="row")
    return alt.Chart(rows).mark_text(baseline="bottom", dy=-3).encode(x=x, y=alt.value(PRICE_HEIGHT), text="what:N")


def volume_panel(candles: pl.DataFrame, holes: pl.DataFrame, axis: Axis, x: X, colours: ThemeColours) -> Chart:
    """Return a chart of volume per candle, with the gaps shaded and session breaks marked."""
    y = alt.Y("volume", type="quantitative", title="volume", axis=alt.Axis(tickCount=3, format="~s"))
    rows = candles.select((pl.col("x") + 0.5).alias("x"), "volume", "time")
    bars = (
        alt.Chart(rows)
        .mark_bar(size=bar_width(axis), color=colours.quiet, opacity=0.75)
        .encode(x=x, y=y, tooltip=["time:N", "volume:Q"])
    )
    layers = [gap_rectangles(holes, x, named=False), break_marks(axis, x, colours), bars]
    return alt.layer(*(one for one in layers if one is not None)).properties(width=WIDTH, height=70)


def profile_chart(
    sums: pl.DataFrame, step: int, title: str, unit: str, zone: str, theme: Theme, source: str = ""
) -> Chart:
    """Return a chart of `value` by minute of day: median line and band from 25th to 75th percentile of sessions."""
    colours = theme_colours(theme)
    value = pl.col("value")
    rows = (
        sums.group_by("minute")
        .agg(
            value.median().alias("median"),
            value.quantile(0.25, "linear").alias("low"),
            value.quantile(0.75, "linear").alias("high"),
            pl.len().alias("sessions"),
        )
        .sort("minute")
        .with_columns(clock_text().alias("time"))
    )
    x = day_x(rows["minute"], step)
    drawn = alt.Chart(close_steps(rows, step, ["median", "low", "high"])).properties(width=WIDTH, height=240)
    band = drawn.mark_area(opacity=0.25, color=colours.mark, interpolate="step-after").encode(
        x=x, y=alt.Y("low", type="quantitative", title=unit, axis=alt.Axis(format="~s", tickCount=6)), y2="high"
    )
    told = ["time:N", "median:Q", "low:Q", "high:Q", "sessions:Q"]
    line = drawn.mark_line(color=colours.mark, strokeWidth=2, interpolate="step-after").encode(
        x=x, y="median:Q", tooltip=told
    )
    said = f"line: median of {sums['session'].n_unique()} sessions · band: the middle half of them"
    return style_chart(alt.layer(band, line), title, [caption(said, source, zone)], theme)


def comparison_chart(rows: pl.DataFrame, axis: Axis, zone: str, colours: ThemeColours) -> Chart:
    """Return two panels: both closes; vendor less derived in bp, with marks where only one has a bar."""
    x, over = session_x(axis, zone), session_x(axis, zone, labels=False)
    placed = rows.drop("ts").with_columns((pl.col("x") + 0.5).alias("x"))
    lines = placed.unpivot(["derived", "vendor"], index=["x", "time"], variable_name="whose", value_name="close")
    whose = ["derived", "vendor"]
    legend = alt.Legend(title=None, orient="top-left", direction="horizontal", symbolType="stroke", symbolStrokeWidth=2)
    close = (
        alt.Chart(lines.drop_nulls("close"))
        .mark_line(strokeWidth=1.6)
        .encode(
            x=over,
            y=alt.Y("close", type="quantitative", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6)),
            color=alt.Color(
                "whose",
                type="nominal",
                scale=alt.Scale(domain=whose, range=[colours.mark, colours.other]),
                legend=legend,
            ),
            strokeDash=alt.StrokeDash(
                "whose", type="nominal", scale=alt.Scale(domain=whose, range=[[1, 0], [5, 4]]), legend=legend
            ),
            tooltip=["time:N", "whose:N", "close:Q"],
        )
    )
    breaks = break_marks(axis, x, colours)
    upper = alt.layer(*(one for one in (break_marks(axis, over, colours), close) if one is not None)).properties(
        width=WIDTH, height=230
    )
    most = placed["apart"].abs().max()
    reach = 1.15 * float(most) if isinstance(most, float) and most > 0 else 1.0
    apart = (
        alt.Chart(placed.drop_nulls("apart"))
        .mark_bar(size=bar_width(axis), color=colours.quiet)
        .encode(
            x=x,
            y=alt.Y(
                "apart",
                type="quantitative",
                title="vendor less derived, bp",
                scale=alt.Scale(domain=[-reach, reach], nice=False),
                axis=alt.Axis(tickCount=4),
            ),
            tooltip=["time:N", "derived:Q", "vendor:Q", "apart:Q"],
        )
    )
    alone = (
        alt.Chart(placed.drop_nulls("side"))
        .mark_point(filled=True, size=45, opacity=1)
        .encode(
            x=x,
            y=alt.value(6),
            shape=alt.Shape(
                "side",
                type="nominal",
                legend=alt.Legend(title=None, orient="top", direction="horizontal", symbolFillColor=colours.quiet),
                scale=alt.Scale(domain=["derived only", "vendor only"], range=["triangle-up", "diamond"]),
            ),
            color=alt.condition("datum.side == 'derived only'", alt.value(colours.mark), alt.value(colours.other)),
            tooltip=["time:N", "side:N"],
        )
    )
    lower = [one for one in (breaks, apart, alone if placed["side"].count() else None) if one is not None]
    panels = [upper, alt.layer(*lower).properties(width=WIDTH, height=110)]
    return alt.vconcat(*panels, spacing=38, bounds="flush").resolve_scale(color="independent", shape="independent")
