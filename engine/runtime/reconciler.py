"""Two sides to reconcile, from files, folders or exports: loaded, brought to intervals they share, compared.

- `between`: A against B. Where a symbol has no interval on both sides, the finer side is derived to the coarser one.
- `within`: one source against itself: bars derived from its base against the coarser ones that it brings along.

Derived bars live on the axis of the bars that they are compared with: those of a vendor that cuts hours by the clock are
derived by the clock. They cover the chosen segments alone, so bars of others are left out there, and counted.
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
from engine.store.snapshot import Snapshot
from engine.store.views import BARS_VIEW

KEY = ["symbol", "price_type", "interval"]


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    Attributes
    ----------
    result : Reconciled
    notes : tuple of str
        What was derived, renamed or left out.
    problems : tuple of Problem
        Files that could not be read.
    """

    result: Reconciled
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class _Side:
    name: str
    bars: pl.DataFrame
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    by_clock: bool = False
    derivable: bool = True

    def intervals(self) -> dict[str, set[str]]:
        """Intervals of each symbol."""
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
    """Compare A with B.

    Parameters
    ----------
    a, b : Path
        A file, a folder or an export each.
    options, options_b : LoadOptions
        How each is read; B's default to A's. With `interval` only bars of that are compared; a side that has finer ones
        is derived to it.
    names : mapping of B's symbol to A's, optional
        Where they have different names for one thing.
    tolerances, limit
        As `reconcile` takes them.
    progress : callable, optional
        Told after each file.

    Raises
    ------
    DataError
        No symbol has an interval that both sides have, or can be derived.
    """
    wanted = options.interval
    if wanted is not None:
        options = replace(options, derive=(wanted,))
    options_b = replace(options_b or options, interval=wanted, derive=options.derive)
    left, right = _side("A", a, options, progress), _renamed(_side("B", b, options_b, progress), names or {})
    for_left, for_right = _targets(left, right), _targets(right, left)
    if for_left:
        left = _side("A", a, _deriving(options, for_left, right), progress)
    if for_right:
        right = _renamed(_side("B", b, _deriving(options_b, for_right, left), progress), names or {})
    only = set() if wanted is None else {str(wanted)}
    return _compared(left, right, only, tolerances, limit)


def within(
    source: Path,
    against: Sequence[Interval],
    options: LoadOptions,
    *,
    tolerances: Tolerances | None = None,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare bars derived from a source's base (A) with the coarser bars that it brings along (B).

    Parameters
    ----------
    source : Path
        A folder with several resolutions, or an export that kept them.
    against : sequence of Interval
        Which.
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
    side = _side("A", source, keeping, progress)
    if side.by_clock and options.align is None:
        side = _side("A", source, replace(keeping, align="clock"), progress)
    at_wanted = pl.col("interval").is_in(wanted)
    ours = side.bars.filter((pl.col("origin") == "derived") & at_wanted)
    theirs = side.bars.filter((pl.col("origin") == "source") & at_wanted)
    series = ours.select(KEY).unique().join(theirs.select(KEY).unique(), on=KEY)
    if series.is_empty():
        raise DataError(
            f"{source}: no symbol has bars of {', '.join(sorted(wanted))} beside a finer base; it has {_described(side.bars)}"
            "; valid: a folder with both, or an export that --keep-source wrote"
        )
    lone = pl.concat([ours, theirs]).select(KEY).unique().join(series, on=KEY, how="anti").sort(KEY)
    notes = [f"{s} {p} {i}: no finer and coarser bars to compare" for s, p, i in lone.iter_rows()]
    left = replace(side, bars=ours.join(series, on=KEY, how="semi"), notes=(*side.notes, *notes))
    right = _Side("B", theirs.join(series, on=KEY, how="semi"))
    finer = _at_base(side.bars.filter((pl.col("origin") == "source") & ~at_wanted), options)
    return _compared(left, right, wanted, tolerances, limit, finer)


def _side(name: str, source: Path, options: LoadOptions, progress: Progress | None) -> _Side:
    return _exported(name, source, options) if (source / "exports").is_dir() else _read(name, source, options, progress)


def _exported(name: str, source: Path, options: LoadOptions) -> _Side:
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
    return _Side(name, bars, derivable=False)


def _read(name: str, source: Path, options: LoadOptions, progress: Progress | None) -> _Side:
    loaded = load_files([source], options, progress)
    derive_session(loaded.session)
    snapshot = loaded.session.snapshot()
    problems = tuple(one for one in loaded.problems if not one.ignored)
    notes = tuple(f"{name}: {note}" for note in loaded.notes)
    return _Side(name, snapshot.bars(), notes, problems, _cut_by_clock(snapshot))


def _cut_by_clock(snapshot: Snapshot) -> bool:
    return any(key.spec.align == "clock" for key in snapshot.panels if key.kind == "bars" and key.origin == "source")


def _renamed(side: _Side, names: Mapping[str, str]) -> _Side:
    absent = [name for name in names if name not in set(side.bars["symbol"])]
    if absent:
        raise ParameterError(f"names: {', '.join(absent)} is no symbol of {side.name}")
    return replace(side, bars=side.bars.with_columns(pl.col("symbol").replace(dict(names)))) if names else side


def _targets(finer: _Side, coarser: _Side) -> set[Interval]:
    """Intervals that a side must be derived to, of symbols that share none."""
    ours, theirs = finer.intervals(), coarser.intervals()
    targets: set[Interval] = set()
    for symbol in ours.keys() & theirs.keys():
        if not ours[symbol] & theirs[symbol] and finer.derivable:
            have = min(map(Interval.parse, ours[symbol]))
            targets |= {one for one in map(Interval.parse, theirs[symbol]) if have < one and have.nests_in(one)}
    return targets


def _deriving(options: LoadOptions, targets: set[Interval], other: _Side) -> LoadOptions:
    align = "clock" if other.by_clock and options.align is None else options.align
    return replace(options, derive=tuple(sorted({*options.derive, *targets})), align=align)


def _compared(
    a: _Side,
    b: _Side,
    intervals: set[str],
    tolerances: Tolerances | None,
    limit: int | None,
    finer: pl.DataFrame | None = None,
) -> Comparison:
    left, right = (_settled(side.bars, intervals) for side in (a, b))
    left, right = _sharing(left, right), _sharing(right, left)
    bars_a, bars_b = _of_its_segments(left, right), _of_its_segments(right, left)
    result = reconcile(bars_a, bars_b, tolerances, limit, finer)
    if not (result.summary["common"] + result.summary["only_a"] + result.summary["only_b"]).sum():
        raise DataError(f"nothing to compare: A has {_described(a.bars)}; B has {_described(b.bars)}")
    left_out = [
        f"{name}: {whole.height - kept.height} bars outside the segments of the derived bars left out"
        for name, whole, kept in (("A", left, bars_a), ("B", right, bars_b)) if whole.height > kept.height
    ]  # fmt: skip
    return Comparison(result, (*a.notes, *b.notes, *left_out), (*a.problems, *b.problems))


def _settled(bars: pl.DataFrame, intervals: set[str]) -> pl.DataFrame:
    """Bars of these intervals; what a source brought along stands before what was derived."""
    chosen = bars.filter(pl.col("interval").is_in(intervals)) if intervals else bars
    brought = chosen.filter(pl.col("origin") == "source").select(KEY).unique()
    derived = chosen.filter(pl.col("origin") == "derived").join(brought, on=KEY, how="anti")
    return pl.concat([chosen.filter(pl.col("origin") == "source"), derived])


def _sharing(side: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Series at intervals that the other has of the symbol; the finest of symbols that it has not."""
    at = ["symbol", "interval"]
    shared = side.join(other.select(at).unique(), on=at, how="semi")
    foreign = side.join(other.select("symbol").unique(), on="symbol", how="anti")
    if foreign.is_empty():
        return shared
    steps = {one: Interval.parse(one).seconds for one in foreign["interval"].unique()}
    step = pl.col("interval").replace_strict(steps, return_dtype=pl.Int64)
    return pl.concat([shared, foreign.filter(step == step.min().over("symbol"))])


def _at_base(bars: pl.DataFrame, options: LoadOptions) -> pl.DataFrame:
    """Of several intervals of a symbol the one that is its base."""
    there = bars.select("symbol", "interval").unique().group_by("symbol").agg("interval")
    base = {name: str(options.base_of(name, map(Interval.parse, intervals))) for name, intervals in there.iter_rows()}
    return bars.filter(pl.col("interval") == pl.col("symbol").replace_strict(base, return_dtype=pl.String))


def _of_its_segments(side: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Bars of the segments that the other's derived bars cover; all, where it has derived none."""
    derived = other.filter((pl.col("origin") == "derived") & pl.col("segment").is_not_null())
    covered = derived.select(*KEY, "segment").unique()
    about = covered.select(KEY).unique()
    bound = side.join(about, on=KEY, how="semi").join(covered, on=[*KEY, "segment"], how="semi")
    return pl.concat([side.join(about, on=KEY, how="anti"), bound])


def _described(bars: pl.DataFrame) -> str:
    series = bars.select(*KEY, "origin").unique().sort(*KEY, "origin")
    named = ", ".join(" ".join(row) for row in series.head(5).iter_rows())
    more = f" and {series.height - 5} more" if series.height > 5 else ""  # noqa: PLR2004 - as many as are named
    return f"{named}{more}" if named else "no bars"
