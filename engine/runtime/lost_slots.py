"""Gaps with their causes, from an audit's folder or an export, and the requests for those that were lost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from engine.arguments import Names, check_known, names_of, path_of
from engine.audit.audit_files import is_audit, read_audit_table, table_files
from engine.audit.vendor_calls import vendor_of
from engine.audit.vendor_requests import REQUEST_COST, REQUESTED, plan_requests
from engine.errors import ExportError, UnknownSymbolError
from engine.export.target_folder import is_export
from engine.interval import Interval
from engine.runtime.auditor import audit
from engine.runtime.options import CalendarMap, LoadOptions


class CausedGaps(NamedTuple):
    """Gaps with causes (`audit_tables.GAPS`), and `symbol, segment_open, segment_close` of each symbol's sessions."""

    gaps: pl.DataFrame
    segments: pl.DataFrame


def caused_gaps(target: Path) -> CausedGaps:
    """Gaps and sessions of an audit's folder; an export is audited first, as the gaps that it stores have no cause.

    Raises
    ------
    ExportError
        The folder is neither.
    """
    if is_audit(target):
        tables = {
            name: read_audit_table(path)
            for name, path in table_files(target).items()
            if name in ("gaps", "series", "sessions")
        }
    elif is_export(target):
        tables = dict(audit(target, LoadOptions(CalendarMap(None))).tables)
    else:
        raise ExportError(
            f"{target}: is neither an audit nor an export; valid: a folder that `engine audit --output` or "
            "`engine run --export` wrote"
        )
    calendars = tables["series"].select("symbol", "calendar").unique()
    segments = calendars.join(tables["sessions"], on="calendar").select("symbol", "segment_open", "segment_close")
    return CausedGaps(tables["gaps"], segments)


def requests(
    target: str | Path,
    *,
    vendor: str | None = None,
    symbols: Names | None = None,
    causes: Sequence[str] = REQUESTED,
    request_cost: int = REQUEST_COST,
    max_span: dt.timedelta | None = None,
    max_rows: int | None = None,
) -> pl.DataFrame:
    """Cheapest list of requests for the lost slots of an audit or export (`vendor_requests.plan_requests`).

    Parameters
    ----------
    target : str or Path
        The folder of an audit (`engine audit --output`), or an export, which is then audited.
    vendor : str, optional
        Its limit of bars per call holds, too (`vendor_calls.VENDORS`).
    symbols : str or list of str, optional
        Only these.
    causes : sequence of str
        Which gaps; default those of bars that were lost, refused or off the grid.
    request_cost : int
        How many rows one request is worth: holes are asked for together if no more rows lie between them.
    max_span : timedelta, optional
        Longest time of a request.
    max_rows : int, optional
        Most bars of a request.

    Returns
    -------
    DataFrame
        `symbol, interval, start, end` (exclusive), `slots`, `lost`, `causes`; sorted by symbol, interval and start.

    Raises
    ------
    ExportError
        The target is neither an audit nor an export.
    ParameterError
        A vendor or cause is unknown, or a limit too short.

    Examples
    --------
    >>> import engine
    >>> asked = engine.requests("out/audit", vendor="polygon")  # doctest: +SKIP
    """
    gaps, segments = caused_gaps(path_of("target", target))
    names = names_of("symbols", symbols)
    if names is not None:
        check_known("symbols", names, segments["symbol"].unique().to_list(), UnknownSymbolError)
        gaps = gaps.filter(pl.col("symbol").is_in(names))
    parts = []
    for text in gaps["interval"].unique().sort() if vendor is not None else ():
        longest = vendor_of(vendor).longest_span(Interval.parse(text))  # type: ignore[arg-type]
        spans = [span for span in (longest, max_span) if span is not None]
        ours = gaps.filter(pl.col("interval") == text)
        parts.append(_planned(ours, segments, causes, request_cost, min(spans, default=None), max_rows))
    if not parts:
        return _planned(gaps, segments, causes, request_cost, max_span, max_rows)
    return pl.concat(parts).sort("symbol", "interval", "start")


def _planned(
    gaps: pl.DataFrame,
    segments: pl.DataFrame,
    causes: Sequence[str],
    request_cost: int,
    max_span: dt.timedelta | None,
    max_rows: int | None,
) -> pl.DataFrame:
    return plan_requests(gaps, segments, causes=causes, request_cost=request_cost, max_span=max_span, max_rows=max_rows)
