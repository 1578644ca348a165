"""Two sides to reconcile, from files, folders or exports: loaded, derived to common intervals, compared.

- `between`: A against B. Where a symbol has no common interval, the finer side is derived to the coarser one.
- `within`: one source against itself: bars derived from its base against its own coarser bars.

Each source is read once, and again where its bars turn out to begin on the clock. Derived bars are on the axis of the bars that they are compared with: against a vendor that
cuts hours by the clock they are derived by the clock of its zone. They cover the chosen segments alone, so bars of other
segments are left out, and counted.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from engine.audit.reconcile import Reconciled, Tolerances, reconcile
from engine.calendars.providers import SessionCalendar
from engine.errors import DataError, ParameterError
from engine.export.dataset import open_dataset
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.runtime.load import load_files
from engine.runtime.options import LoadOptions, Progress
from engine.runtime.processor import derive_session
from engine.schema import ROWS
from engine.sources.batch import Problem
from engine.sources.resolution import DEFAULT_BASE, base_of, serves
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot
from engine.store.symbol_data import SymbolSessionData
from engine.store.views import BARS_VIEW, with_series_names

KEY = ["symbol", "price_type", "interval"]
DAY = dt.timedelta(days=1)
SAMPLED_STAMPS = 2_000  # of a series
MOST_STAMPS, FEW_STAMPS = 0.8, 0.5  # that fit the clock, where so few fit the session


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison.

    Attributes
    ----------
    result : Reconciled
    notes : tuple of str
        Messages on what was derived, renamed or left out.
    problems : tuple of Problem
        Files that could not be read.
    """

    result: Reconciled
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Side:
    """One side of a comparison: bars and messages; of files also registrations and calendars, to derive further.

    `axes` has the axis of the bars of a (symbol, interval), as far as it is known.
    """

    name: str
    bars: pl.DataFrame
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    symbols: Mapping[str, SymbolSessionData] = field(default_factory=dict)
    calendars: Mapping[str, SessionCalendar] = field(default_factory=dict)
    axes: Mapping[tuple[str, str], GridSpec] = field(default_factory=dict)

    def intervals(self) -> dict[str, set[str]]:
        """Symbol -> set of the intervals of its bars."""
        rows = self.bars.select("symbol", "interval").unique().group_by("symbol").agg("interval")
        return {symbol: set(intervals) for symbol, intervals in rows.iter_rows()}


def between(
    a: Path,
    b: Path,
    options: LoadOptions,
    options_b: LoadOptions | None = None,
    *,
    names: Mapping[str, str] | None = None,
    tolerances: Tolerances | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare bars of A and B at `options.interval` or common ones, deriving the finer side; DataError if none match.

    Parameters
    ----------
    a, b : Path
        A file, a folder or an export each.
    options, options_b : LoadOptions
        How each is read; B's default to A's. With `interval` only bars of that interval are compared; a side that has
        finer ones is derived to it.
    names : mapping of B's symbol to A's, optional
        Symbols that are named differently.
    tolerances, limit
        As `reconcile` takes them.
    progress : callable, optional
        Called after each file.

    Raises
    ------
    DataError
        No symbol has an interval that both sides have, or can be derived.
    """
    wanted = options.interval
    options_b = replace(options_b or options, interval=wanted)
    left = load_aligned("A", a, base_options(options), progress)
    right = rename_symbols(load_aligned("B", b, base_options(options_b), progress), names or {})
    left, right = derive_common(left, right, options), derive_common(right, left, options_b)
    only = set() if wanted is None else {str(wanted)}
    return compare_sides(left, right, only, tolerances, limit)


def within(
    source: Path,
    against: Sequence[Interval],
    options: LoadOptions,
    *,
    tolerances: Tolerances | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare bars derived from a source's base (A; by clock if its bars are) with its own bars at `against` (B).

    Parameters
    ----------
    source : Path
        A folder with several resolutions, or an export with them.
    against : sequence of Interval
        Intervals of the coarser bars.
    options, tolerances, limit, progress
        As `between` takes them.

    Raises
    ------
    ParameterError
        No interval was given.
    DataError
        No symbol has bars of such an interval beside a finer base.
    """
    if not against:
        raise ParameterError("against: none given; valid: intervals such as 1h,1d")
    wanted = {str(one) for one in against}
    keeping = replace(options, keep_source=True, derive=tuple(against))
    side = load_aligned("A", source, keeping, progress)
    by_clock = {
        name: {one for one in against if is_by_clock(side, name, one) and serves(data.base, one)}
        for name, data in side.symbols.items()
    }
    if options.align is None and any(by_clock.values()):
        side = derive_further(side, by_clock, side, options)
    at_wanted = pl.col("interval").is_in(wanted)
    ours = side.bars.filter((pl.col("origin") == "derived") & at_wanted)
    theirs = side.bars.filter((pl.col("origin") == "source") & at_wanted)
    series = ours.select(KEY).unique().join(theirs.select(KEY).unique(), on=KEY)
    if series.is_empty():
        raise DataError(
            f"{source}: no symbol has bars of {', '.join(sorted(wanted))} beside a finer base; "
            f"it has {describe_series(side.bars)}; valid: a folder with both, or an export that --keep-source wrote"
        )
    lone = pl.concat([ours, theirs]).select(KEY).unique().join(series, on=KEY, how="anti").sort(KEY)
    notes = [f"{s} {p} {i}: no finer and coarser bars to compare" for s, p, i in lone.iter_rows()]
    left = replace(side, bars=ours.join(series, on=KEY, how="semi"), notes=(*side.notes, *notes))
    right = Side("B", theirs.join(series, on=KEY, how="semi"))
    finer = bars_of_base(side.bars.filter((pl.col("origin") == "source") & ~at_wanted), options)
    return compare_sides(left, right, wanted, tolerances, limit, finer)


def base_options(options: LoadOptions) -> LoadOptions:
    """Copy that loads the bars of `interval`, else what they can be derived from, and derives nothing of coarser ones yet."""
    wanted = options.interval
    if wanted is None:
        return replace(options, derive=())
    # Bars of ticks are made at the base: they are derived on the axis of the other side, which is not known yet.
    finer = () if serves(DEFAULT_BASE, wanted) else (wanted,)
    return replace(options, interval=None, derive=finer, choose=lambda _, available: base_of(available, wanted=wanted))


def load_aligned(name: str, source: Path, options: LoadOptions, progress: Progress | None) -> Side:
    """Bars of a path; by the clock where their stamps fit it and not the session, and no option says how they are cut."""
    side = load_side(name, source, options, progress)
    shares = shares_on_axis(side)
    can_be = all(DAY.total_seconds() % Interval.parse(text).seconds == 0 for _, text in shares)
    is_told = (options.align or options.read.align) is not None
    if is_told or not can_be or min(shares.values(), default=1.0) >= FEW_STAMPS:
        return side
    by_clock = load_side(name, source, replace(options, align="clock"), progress)
    if min(shares_on_axis(by_clock).values(), default=0.0) < MOST_STAMPS:
        return side
    return replace(by_clock, notes=(*by_clock.notes, f"{name}: bars begin on the clock: read as with --align clock"))


def shares_on_axis(side: Side) -> dict[tuple[str, str], float]:
    """(symbol, interval) -> share of the stamps of intraday bars of files, of those inside sessions, that are starts of slots."""
    sources = side.bars.lazy().filter(pl.col("origin") == "source").select("symbol", "interval", "ts")
    sampled = sources.group_by("symbol", "interval").head(SAMPLED_STAMPS).collect()
    shares = {}
    for (symbol, text), rows in sampled.group_by("symbol", "interval"):
        interval, spec = Interval.parse(str(text)), side.axes.get((str(symbol), str(text)))
        if spec is None or not interval.is_intraday or spec.calendar not in side.calendars:
            continue
        low, high = rows.select(
            pl.col("ts").dt.date().min().alias("low"), pl.col("ts").dt.date().max().alias("high")
        ).row(0)
        segments = side.calendars[spec.calendar].segments_in_bounds(low - DAY, high + DAY)
        places = SessionGrid.build(segments, interval, spec).place(rows["ts"])
        # The first bar by the clock begins before the open.
        inside = places.filter(pl.col("ordinal").is_not_null())
        shares[str(symbol), str(text)] = 1 - inside["slot"].null_count() / max(inside.height, 1)
    return shares


def load_side(name: str, source: Path, options: LoadOptions, progress: Progress | None) -> Side:
    """Bars of an export if the path has a folder `exports`, else of files, loaded and derived."""
    return (
        read_export(name, source, options)
        if (source / "exports").is_dir()
        else load_and_derive(name, source, options, progress)
    )


def read_export(name: str, source: Path, options: LoadOptions) -> Side:
    """Bars of an export, source and derived, within dates, symbols and price types; not derivable further."""
    dataset = open_dataset(source)
    rows = dataset.scan("bars").select(*BARS_VIEW)
    start, end = options.dates
    for limit, kept in ((start, pl.col("session") >= pl.lit(start)), (end, pl.col("session") <= pl.lit(end))):
        rows = rows if limit is None else rows.filter(kept)
    bars = rows.collect()
    symbols = bars["symbol"].unique()
    wanted = symbols.filter([options.read.selects(one) for one in symbols])
    bars = bars.filter(pl.col("symbol").is_in(wanted.implode()))
    if options.read.price_types:
        bars = bars.filter(pl.col("price_type").is_in(options.read.price_types))
    fields = ("calendar", "segments", "align", "zone")
    registered = dataset.scan("symbols").select("symbol", *fields).collect()
    specs = {
        row["symbol"]: GridSpec(row["calendar"], tuple(row["segments"]), row["align"], row["zone"])
        for row in registered.iter_rows(named=True)
    }
    pairs = bars.select("symbol", "interval").unique().iter_rows()
    return Side(name, bars, axes={(symbol, interval): specs[symbol] for symbol, interval in pairs})


def load_and_derive(name: str, source: Path, options: LoadOptions, progress: Progress | None) -> Side:
    """Load files and derive `options.derive`; return all bars, notes, problems and what deriving further needs."""
    loaded = load_files([source], options, progress)
    derive_session(loaded.session)
    snapshot = loaded.session.snapshot()
    problems = tuple(one for one in loaded.problems if not one.ignored)
    notes = tuple(f"{name}: {note}" for note in loaded.notes)
    codes = {data.calendar for data in snapshot.symbols.values()}
    calendars = {code: loaded.session.calendar(code) for code in codes}
    return Side(name, snapshot.bars(), notes, problems, snapshot.symbols, calendars, source_axes(snapshot))


def source_axes(snapshot: Snapshot) -> dict[tuple[str, str], GridSpec]:
    """(symbol, interval) -> axis of the source bars of a snapshot."""
    return {
        (symbol, str(key.interval)): key.spec
        for key, panel in snapshot.panels.items()
        if key.kind == "bars" and key.origin == "source"
        for run in panel.sorted_runs
        for symbol in with_series_names(run.extent, snapshot.series)["symbol"]
    }


def rename_symbols(side: Side, names: Mapping[str, str]) -> Side:
    """Copy of a side with symbols renamed (its name -> new one); ParameterError for a name that it does not have."""
    absent = [name for name in names if name not in set(side.bars["symbol"])]
    if absent:
        raise ParameterError(f"names: {', '.join(absent)} is no symbol of {side.name}")
    return replace(
        side,
        bars=side.bars.with_columns(pl.col("symbol").replace(dict(names))),
        symbols={(new := names.get(name, name)): replace(data, symbol=new) for name, data in side.symbols.items()},
        axes={(names.get(name, name), interval): spec for (name, interval), spec in side.axes.items()},
    )


def derive_common(side: Side, other: Side, options: LoadOptions) -> Side:
    """The side, also derived to `options.interval`, or to the other side's intervals for symbols without a common one."""
    wanted, ours, theirs = options.interval, side.intervals(), other.intervals()
    targets: dict[str, set[Interval]] = {}
    notes = []
    for symbol, data in side.symbols.items():
        has, of_other = ours.get(symbol, set()), theirs.get(symbol, set())
        names = {str(wanted)} - has if wanted is not None else set() if has & of_other else of_other
        coarser = set(map(Interval.parse, names))
        targets[symbol] = {one for one in coarser if serves(data.base, one)}
        if wanted is not None and coarser and not targets[symbol]:
            notes.append(f"{side.name}: {symbol}: {wanted} cannot be derived from {data.base}, left out")
    return derive_further(replace(side, notes=(*side.notes, *notes)), targets, other, options)


def is_by_clock(side: Side, symbol: str, interval: Interval) -> bool:
    """Whether the bars of a symbol at an interval are known to be aligned to the clock."""
    spec = side.axes.get((symbol, str(interval)))
    return spec is not None and spec.align == "clock"


def derive_further(side: Side, targets: Mapping[str, set[Interval]], other: Side, options: LoadOptions) -> Side:
    """The side, its base bars also derived to `targets` by symbol: by the other's clock where its bars are, if `align` is None.

    Derived bars of these symbols and intervals replace those that the side has. An empty set leaves a symbol as it is.
    """
    alike: dict[tuple[Interval, GridSpec], list[SymbolSessionData]] = defaultdict(list)
    for symbol, intervals in targets.items():
        data = side.symbols[symbol]
        for interval in intervals:
            spec = data.spec
            if options.align is None and is_by_clock(other, symbol, interval):
                spec = replace(spec, align="clock", zone=other.axes[symbol, str(interval)].zone)
            alike[interval, spec].append(replace(data, align=spec.align, zone=spec.zone))
    if not alike:
        return side
    derived = pl.concat([derive_bars(side, members, interval, options) for (interval, _), members in alike.items()])
    kept = side.bars.join(derived.select(*KEY, "origin").unique(), on=[*KEY, "origin"], how="anti")
    return replace(side, bars=pl.concat([kept, derived]))


def derive_bars(
    side: Side, symbols: Sequence[SymbolSessionData], interval: Interval, options: LoadOptions
) -> pl.DataFrame:
    """Bars derived to an interval, on the axes of the symbols as given, from their base bars among `side.bars`."""
    session = SessionData(incomplete=options.incomplete, calendars=side.calendars)
    session.register_symbol_data(
        *(replace(data, derived_intervals=(str(interval),), base_from="bars") for data in symbols)
    )
    bases = {data.symbol: data.base_interval for data in symbols}
    for base in dict.fromkeys(data.base for data in symbols):
        is_base = pl.col("interval") == pl.col("symbol").replace_strict(bases, default=None, return_dtype=pl.String)
        rows = side.bars.filter(is_base & (pl.col("interval") == str(base)))
        session.append(rows.select(list(ROWS["bars"])), interval=base)
    derive_session(session)
    return session.bars(interval=interval).filter(pl.col("origin") == "derived")


def compare_sides(
    a: Side,
    b: Side,
    intervals: set[str],
    tolerances: Tolerances | None,
    limit: int | None,
    finer: pl.DataFrame | None = None,
) -> Comparison:
    """Compare common series, source bars before derived; `finer` bars explain differences; DataError if none common."""
    left, right = (prefer_source_bars(side.bars, intervals) for side in (a, b))
    left, right = common_series(left, right), common_series(right, left)
    bars_a, bars_b = bars_of_derived_segments(left, right), bars_of_derived_segments(right, left)
    result = reconcile(bars_a, bars_b, tolerances, limit, finer)
    if not (result.summary["common"] + result.summary["only_a"] + result.summary["only_b"]).sum():
        is_apart = (result.summary["state"] == "apart").any()
        told = [describe_series(side.bars, with_sessions=is_apart) for side in (a, b)]
        why = "no session that both have" if is_apart else "nothing to compare"
        raise DataError(f"{why}: A has {told[0]}; B has {told[1]}")
    left_out = [
        f"{name}: {whole.height - kept.height} bars outside the segments of the derived bars left out"
        for name, whole, kept in (("A", left, bars_a), ("B", right, bars_b))
        if whole.height > kept.height
    ]
    return Comparison(result, (*a.notes, *b.notes, *left_out), (*a.problems, *b.problems))


def prefer_source_bars(bars: pl.DataFrame, intervals: set[str]) -> pl.DataFrame:
    """Bars at `intervals` (all if empty); derived series are dropped where source bars of the same key exist."""
    chosen = bars.filter(pl.col("interval").is_in(intervals)) if intervals else bars
    brought = chosen.filter(pl.col("origin") == "source").select(KEY).unique()
    derived = chosen.filter(pl.col("origin") == "derived").join(brought, on=KEY, how="anti")
    return pl.concat([chosen.filter(pl.col("origin") == "source"), derived])


def common_series(side: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Bars of `side` at (symbol, interval) of `other`; for symbols that `other` lacks, those of the finest interval."""
    at = ["symbol", "interval"]
    shared = side.join(other.select(at).unique(), on=at, how="semi")
    foreign = side.join(other.select("symbol").unique(), on="symbol", how="anti")
    if foreign.is_empty():
        return shared
    steps = {one: Interval.parse(one).seconds for one in foreign["interval"].unique()}
    step = pl.col("interval").replace_strict(steps, return_dtype=pl.Int64)
    return pl.concat([shared, foreign.filter(step == step.min().over("symbol"))])


def bars_of_base(bars: pl.DataFrame, options: LoadOptions) -> pl.DataFrame:
    """Bars at one interval per symbol: its base, as the options choose it from the intervals there."""
    there = bars.select("symbol", "interval").unique().group_by("symbol").agg("interval")
    base = {name: str(options.base_of(name, map(Interval.parse, intervals))) for name, intervals in there.iter_rows()}
    return bars.filter(pl.col("interval") == pl.col("symbol").replace_strict(base, return_dtype=pl.String))


def bars_of_derived_segments(side: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Bars of `side` in segments that `other` has derived bars in; all bars of series that `other` has not derived."""
    derived = other.filter((pl.col("origin") == "derived") & pl.col("segment").is_not_null())
    covered = derived.select(*KEY, "segment").unique()
    about = covered.select(KEY).unique()
    bound = side.join(about, on=KEY, how="semi").join(covered, on=[*KEY, "segment"], how="semi")
    return pl.concat([side.join(about, on=KEY, how="anti"), bound])


def describe_series(bars: pl.DataFrame, *, with_sessions: bool = False) -> str:
    """Text of the first five series (names, origin, sessions if wanted), sorted, and the number of others; `no bars` if none."""
    sessions = [pl.col("session").min().alias("first"), pl.col("session").max().alias("last")]
    series = bars.group_by(*KEY, "origin").agg(sessions).sort(*KEY, "origin")
    named = ", ".join(
        " ".join(names) + (f" {first} to {last}" if with_sessions else "")
        for *names, first, last in series.head(5).iter_rows()
    )
    more = f" and {series.height - 5} more" if series.height > 5 else ""  # noqa: PLR2004 - as many as are named
    return f"{named}{more}" if named else "no bars"
