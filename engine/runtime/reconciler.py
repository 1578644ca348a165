"""Two sides to reconcile, from files, folders or exports: loaded, derived to common intervals, compared.

- `between`: A against B. Where a symbol has no common interval, the finer side is derived to the coarser one.
- `within`: one source against itself: bars derived from its base against its own coarser bars.

Derived bars are on the axis of the bars that they are compared with: against a vendor that cuts hours by the clock
they are derived by the clock. They cover the chosen segments alone, so bars of other segments are left out, and
counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from engine.audit.reconcile import Reconciled, Tolerances, reconcile
from engine.errors import DataError, ParameterError
from engine.export.dataset import open_dataset
from engine.interval import Interval
from engine.runtime.load import load_files
from engine.runtime.options import LoadOptions, Progress
from engine.runtime.processor import derive_session
from engine.sources.batch import Problem
from engine.store.views import BARS_VIEW

KEY = ["symbol", "price_type", "interval"]


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
    """One side of a comparison: bars, messages, whether it is cut by the clock and whether it can be derived."""

    name: str
    bars: pl.DataFrame
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    by_clock: bool = False
    derivable: bool = True

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
    if wanted is not None:
        options = replace(options, derive=(wanted,))
    options_b = replace(options_b or options, interval=wanted, derive=options.derive)
    left, right = (
        load_side("A", a, options, progress),
        rename_symbols(load_side("B", b, options_b, progress), names or {}),
    )
    for_left, for_right = missing_intervals(left, right), missing_intervals(right, left)
    if for_left:
        left = load_side("A", a, options_deriving(options, for_left, right), progress)
    if for_right:
        right = rename_symbols(load_side("B", b, options_deriving(options_b, for_right, left), progress), names or {})
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
    side = load_side("A", source, keeping, progress)
    if side.by_clock and options.align is None:
        side = load_side("A", source, replace(keeping, align="clock"), progress)
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


def load_side(name: str, source: Path, options: LoadOptions, progress: Progress | None) -> Side:
    """Bars of an export if the path has a folder `exports`, else of files, loaded and derived."""
    return (
        read_export(name, source, options)
        if (source / "exports").is_dir()
        else load_and_derive(name, source, options, progress)
    )


def read_export(name: str, source: Path, options: LoadOptions) -> Side:
    """Bars of an export, source and derived, within dates, symbols and price types; not derivable further."""
    rows = open_dataset(source).scan("bars").select(*BARS_VIEW)
    start, end = options.dates
    for limit, kept in ((start, pl.col("session") >= pl.lit(start)), (end, pl.col("session") <= pl.lit(end))):
        rows = rows if limit is None else rows.filter(kept)
    bars = rows.collect()
    symbols = bars["symbol"].unique()
    wanted = symbols.filter([options.read.selects(one) for one in symbols])
    bars = bars.filter(pl.col("symbol").is_in(wanted.implode()))
    if options.read.price_types:
        bars = bars.filter(pl.col("price_type").is_in(options.read.price_types))
    return Side(name, bars, derivable=False)


def load_and_derive(name: str, source: Path, options: LoadOptions, progress: Progress | None) -> Side:
    """Load files and derive; return all bars, notes, problems; `by_clock` if any source bars are clock-aligned."""
    loaded = load_files([source], options, progress)
    derive_session(loaded.session)
    snapshot = loaded.session.snapshot()
    problems = tuple(one for one in loaded.problems if not one.ignored)
    notes = tuple(f"{name}: {note}" for note in loaded.notes)
    source_bars = [key for key in snapshot.panels if key.kind == "bars" and key.origin == "source"]
    by_clock = any(key.spec.align == "clock" for key in source_bars)
    return Side(name, snapshot.bars(), notes, problems, by_clock)


def rename_symbols(side: Side, names: Mapping[str, str]) -> Side:
    """Copy of a side with symbols renamed (its name -> new one); ParameterError for a name that it does not have."""
    absent = [name for name in names if name not in set(side.bars["symbol"])]
    if absent:
        raise ParameterError(f"names: {', '.join(absent)} is no symbol of {side.name}")
    return replace(side, bars=side.bars.with_columns(pl.col("symbol").replace(dict(names)))) if names else side


def missing_intervals(finer: Side, coarser: Side) -> set[Interval]:
    """Intervals of `coarser` that `finer` can be derived to, for symbols without a common one; empty if not derivable."""
    ours, theirs = finer.intervals(), coarser.intervals()
    targets: set[Interval] = set()
    for symbol in ours.keys() & theirs.keys():
        if not ours[symbol] & theirs[symbol] and finer.derivable:
            have = min(map(Interval.parse, ours[symbol]))
            targets |= {one for one in map(Interval.parse, theirs[symbol]) if have < one and have.nests_in(one)}
    return targets


def options_deriving(options: LoadOptions, targets: set[Interval], other: Side) -> LoadOptions:
    """Copy of the options that also derives `targets`; clock-aligned if `other` is and no alignment was chosen."""
    align = "clock" if other.by_clock and options.align is None else options.align
    return replace(options, derive=tuple(sorted({*options.derive, *targets})), align=align)


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
        raise DataError(f"nothing to compare: A has {describe_series(a.bars)}; B has {describe_series(b.bars)}")
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


def describe_series(bars: pl.DataFrame) -> str:
    """Text of the first five series (names, origin), sorted, and the number of others; `no bars` without any."""
    series = bars.select(*KEY, "origin").unique().sort(*KEY, "origin")
    named = ", ".join(" ".join(row) for row in series.head(5).iter_rows())
    more = f" and {series.height - 5} more" if series.height > 5 else ""  # noqa: PLR2004 - as many as are named
    return f"{named}{more}" if named else "no bars"
