"""Preflight of a backtest: whether an export holds a range of sessions of some symbols, from its small tables alone.

`wanted_series` names the series: symbols, their axis, interval and price type; what is not there is a hole as a whole. The
series of each axis are counted by `axis_coverage`. With an audit of the export, gaps have causes, and coverage may be that
of `quality_adjusted`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from engine.arguments import Instant, Names, check_arguments, did_you_mean, instant_of, names_of, path_of
from engine.clock import WallClock
from engine.display import MOST_ROWS, Summarized, Summary
from engine.errors import CoverageError, ParameterError
from engine.export.dataset import Dataset, open_dataset
from engine.interval import Interval
from engine.runtime.axis_coverage import (
    COVERAGE,
    HOLES,
    KEY,
    LABEL_SEPARATOR,
    NOT_EXPORTED,
    AuditCauses,
    AxisCoverage,
    Bound,
    CoverageRange,
)
from engine.schema import empty

AXIS = ["calendar", "segments", "align", "zone", "interval"]
UNKNOWN_SYMBOL = "unknown_symbol"
OF = ("quality", "quality_adjusted")
SEE_HOLES = "; `.holes` has all"
SYMBOLS_NAMED, HOLES_NAMED = 3, 2
WHOLE, ROUNDING = 100.0, 1e-9  # percent


@dataclass(frozen=True, repr=False)
class Preflight(Summarized):
    """Coverage of each series in a range.

    Attributes
    ----------
    frame : DataFrame of `COVERAGE`
        A row per series: slots of the range that are `expected` (of sessions the export does not reach too), `present` and
        `missing`; `coverage` in percent, null where nothing is expected. `explained`, `excluded` and `filled` are those of
        an audit, 0 without one.
    target : Path
        The export.
    revision : int
        Of the export.
    of : str
        `quality`, or `quality_adjusted`.
    min_coverage : float
        In percent.
    """

    frame: pl.DataFrame
    target: Path
    revision: int
    of: str
    min_coverage: float

    @property
    def least(self) -> float | None:
        """Smallest coverage of a series in percent; None where nothing was expected of any."""
        return self.frame["coverage"].min()  # type: ignore[return-value]

    def _summary(self) -> Summary:
        """Facts of the range, and the series with the least coverage."""
        facts = {
            "export": self.target,
            "revision": self.revision,
            "of": self.of,
            "least": self.least,
            "series": self.frame.height,
        }
        worst = self.frame.sort("coverage", *KEY, nulls_last=True)
        shown = worst.select(*KEY, "expected", "missing", "coverage")
        return Summary("Preflight", facts, shown.columns, shown.head(MOST_ROWS).rows(), shown.height)


@check_arguments("of", "revision")
def check(
    out: str | Path | Dataset,
    symbols: Names | None = None,
    start: Bound = None,
    end: Bound = None,
    *,
    min_coverage: float = 100.0,
    interval: str | Interval | None = None,
    price_type: Names | None = None,
    of: Literal["quality", "quality_adjusted"] = "quality",
    audit: str | Path | None = None,
    as_of: Instant = None,
    revision: int | None = None,
) -> Preflight:
    """Coverage of symbols in an export over a range; CoverageError with the holes if any has less than `min_coverage` %.

    Reads the tables `symbols`, `sessions`, `quality` and `gaps`, never bars. A part of the range that the export does not
    reach is a hole (`not_covered`), and so are a symbol or an interval that it does not have (`unknown_symbol`,
    `not_exported`) and sessions in which a symbol had not begun or had ended (`not_listed`). Slots that end after `as_of`
    are not expected.

    Parameters
    ----------
    out : str, Path or Dataset
        The export's folder, or one that is open.
    symbols : str or iterable of str, optional
        Default: all of the export.
    start, end : date, datetime or str, optional
        Trade dates, both included, or instants with a zone: slots that begin in [start, end). Default: the first and
        last session of the export on each calendar.
    min_coverage : float
        In percent, 0 to 100.
    interval : str or Interval, optional
        Base or derived; default each symbol's base. Of a derived interval windows without any bar are missing.
    price_type : str or iterable of str, optional
        Default: the one that each symbol's bars have first (last, or bid).
    of : {"quality", "quality_adjusted"}
        Raw, or adjusted: slots without a trade and halts are explained, those not listed are not expected, filled ones
        are not present. Slots that the export does not cover are holes in both.
    audit : str or Path, optional
        Folder of an audit of this export (`engine audit OUT --output AUDIT`), which `quality_adjusted` needs; holes then
        have causes.
    as_of : datetime or str, optional
        Default: now.
    revision : int, optional
        Of the export; default its last.

    Returns
    -------
    Preflight
        Its `frame` has a row per series.

    Raises
    ------
    CoverageError
        A series has less; `.holes` is a frame of `HOLES`, `.preflight` what would have been returned.
    ParameterError
        An argument is not valid, or the audit is not one of this revision.
    ExportError
        `out` is no export.
    """
    if not isinstance(min_coverage, int | float) or isinstance(min_coverage, bool) or not 0 <= min_coverage <= WHOLE:
        raise ParameterError(f"min_coverage: received {min_coverage!r}; valid: a percentage from 0 to 100")
    if of not in OF:
        raise ParameterError(f"of: received {of!r}; valid: {', '.join(OF)}")
    if of == "quality_adjusted" and audit is None:
        raise ParameterError(
            "of: received 'quality_adjusted' without an audit, which has the causes; valid: audit= the folder that "
            "`engine audit OUT --output FOLDER` wrote"
        )
    dataset = out if isinstance(out, Dataset) else open_dataset(out, revision)
    span, now = CoverageRange.of(start, end), instant_of("as_of", as_of) or WallClock().now()
    step = None if interval is None else str(Interval.parse(interval))
    wanted = wanted_series(dataset, names_of("symbols", symbols), step, names_of("price_type", price_type))
    causes = None if audit is None else AuditCauses(path_of("audit", audit))
    axes = [
        AxisCoverage(dataset, rows, span, now, causes)
        for _, rows in wanted.filter(pl.col("cause").is_null()).group_by(AXIS, maintain_order=True)
    ]
    absent = wanted.filter(pl.col("cause").is_not_null())
    counted = pl.concat([empty(COVERAGE), absent_coverage(absent), *(one.coverage(of) for one in axes)])
    found = Preflight(counted.sort(KEY), dataset.target, dataset.revision, of, float(min_coverage))
    # What is not there at all has no slots, and no coverage.
    enough = pl.col("coverage").is_null() | (pl.col("coverage") >= min_coverage - ROUNDING)
    failing = found.frame.filter(~enough)
    if failing.is_empty():
        return found
    lists = [absent_holes(absent, span), *(one.holes(failing, of) for one in axes)]
    holes = pl.concat(lists).join(failing, on=KEY, how="semi", maintain_order="left").sort(*KEY, "hole_start")
    raise CoverageError(failure_text(found, failing, holes, dataset), holes, found)


def wanted_series(
    dataset: Dataset, symbols: tuple[str, ...] | None, interval: str | None, price_types: tuple[str, ...] | None
) -> pl.DataFrame:
    """Return `symbol, price_type, interval`, axis, first and last row of the symbol, and `cause`: null, or why it is absent."""
    columns = ["symbol", "calendar", "base_interval", "derived_intervals", "price_type", "segments", "align", "zone"]
    known = dataset.scan("symbols").select(*columns, "first_ts", "last_ts").collect()
    asked = (
        known.select("symbol") if symbols is None else pl.DataFrame({"symbol": symbols}, schema={"symbol": pl.String})
    )
    step = pl.col("base_interval") if interval is None else pl.lit(interval)
    has_step = (step == pl.col("base_interval")) | pl.col("derived_intervals").list.contains(step).fill_null(
        value=False
    )
    rows = (
        asked.unique(maintain_order=True)
        .join(known, on="symbol", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("calendar").is_null())
            .then(pl.lit(UNKNOWN_SYMBOL))
            .when(~has_step)
            .then(pl.lit(NOT_EXPORTED))
            .alias("cause"),
            step.fill_null(interval or "").alias("interval"),
            pl.col("segments").list.join(LABEL_SEPARATOR),
        )
    )
    if price_types is not None:
        rows = rows.drop("price_type").join(pl.DataFrame({"price_type": price_types}), how="cross")
    return rows.with_columns(pl.col("price_type").fill_null("last"), pl.col("segments", "align", "zone").fill_null(""))


def absent_coverage(absent: pl.DataFrame) -> pl.DataFrame:
    """`COVERAGE` of symbols and intervals that the export does not have: 0, with nothing counted."""
    counted = absent.with_columns(pl.lit(0.0).alias("coverage"))
    return counted.select(
        (pl.col(name) if name in counted.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in COVERAGE.items()
    )


def absent_holes(absent: pl.DataFrame, span: CoverageRange) -> pl.DataFrame:
    """`HOLES` of symbols and intervals that the export does not have: the range as it was asked for."""
    of = {
        "first_session": span.start.date,
        "last_session": span.end.date,
        "hole_start": span.start.instant,
        "hole_end": span.end.instant,
        "slots": None,
    }
    holes = absent.with_columns(pl.lit(value, HOLES[name]).alias(name) for name, value in of.items())
    return holes.select(list(HOLES))


def failure_text(found: Preflight, failing: pl.DataFrame, holes: pl.DataFrame, dataset: Dataset) -> str:
    """Message of a CoverageError: how many series fail, the worst three of them with their two longest holes each."""
    worst = failing.sort("coverage", *KEY).head(SYMBOLS_NAMED)
    known: Sequence[str] = ()
    told = []
    for row in worst.iter_rows(named=True):
        own = holes.filter(*(pl.col(name) == row[name] for name in KEY)).sort("slots", descending=True, nulls_last=True)
        name = " ".join(str(row[part]) for part in KEY if row[part])
        if row["expected"] is None:
            cause = own["cause"][0]
            if cause == UNKNOWN_SYMBOL:
                known = known or dataset.scan("symbols").select("symbol").collect()["symbol"].to_list()
                told.append(f"{row['symbol']}: not in the export{did_you_mean(row['symbol'], known)}")
            else:
                told.append(f"{row['symbol']}: not exported at {row['interval']}")
            continue
        spans = "; ".join(hole_text(hole) for hole in own.head(HOLES_NAMED).iter_rows(named=True))
        more = f"; {own.height - HOLES_NAMED:,} more" if own.height > HOLES_NAMED else ""
        told.append(
            f"{name} {row['coverage']:.6g} %, {row['missing']:,} of {row['expected']:,} slots missing ({spans}{more})"
        )
    others = f"; and {failing.height - worst.height:,} more series" if failing.height > worst.height else ""
    return (
        f"{found.target} (revision {found.revision}): {failing.height:,} of {found.frame.height:,} series have less than "
        f"{found.min_coverage:g} % of {found.of}: {'; '.join(told)}{others}{SEE_HOLES}"
    )


def hole_text(hole: Mapping[str, Any]) -> str:
    """A hole in words: its slots, from when to when in UTC, and its cause."""
    begin, end = hole["hole_start"], hole["hole_end"]
    return f"{hole['slots']:,} from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, {hole['cause']}"
