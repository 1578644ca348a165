"""Check `basis`: are prices raw, adjusted for splits or dividends, or a mixture of these? Pure: frame in, frame out.

1. A split that is seen as a jump by its ratio says that prices are raw there (`split` reports the jump itself).
2. Prices that lie off the tick grid, on a grid of their own, are adjusted by its factor (`tick_grid`).
3. A jump by that factor, where the tick grid begins, is the seam of an adjusted copy and raw rows. A series that is both adjusted
   and has a visible split is mixed, and so is a market of which some series are raw and others adjusted.

Series without an event, and adjusted prices that were rounded to ticks, tell nothing: there is no finding.
"""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from engine.checks.check import SERIES, BarCheck, JudgeInput, register
from engine.checks.findings import findings_of
from engine.checks.sanity import BAR_SANITY
from engine.checks.sanity_findings import splits_of
from engine.checks.tick_grid import SAMPLED_PRICES, GridChange, grid_changes_of

Row = dict[str, Any]
KEY = list(SERIES)
SHOWN = 3
RAW_REMEDY = "nothing, if raw prices are what you want; else adjust earlier prices and volumes by the vendor's factors"


def basis(visible: pl.DataFrame, changes: list[GridChange]) -> pl.DataFrame:
    """Return `basis` findings: of each series what it is (info) or that it is mixed (warning), and one of the market.

    Parameters
    ----------
    visible : DataFrame of `FINDINGS`
        Of the check `split`.
    changes : list of GridChange
    """
    adjusted = {change.series: change for change in changes}
    raw: dict[tuple[str, str, str], list[Row]] = {}
    for row in visible.iter_rows(named=True):
        raw.setdefault((row["symbol"], row["price_type"], row["interval"]), []).append(row)
    found = [change_finding(change, raw.get(change.series, [])) for change in changes]
    only_raw = [name for name in raw if name not in adjusted]
    found += [raw_finding(name, raw[name]) for name in only_raw]
    plain = [change for change in changes if not change.is_seam and change.series not in raw]
    if only_raw and plain:
        found.append(market_finding(only_raw, plain))
    return findings_of(found)


def raw_finding(series: tuple[str, str, str], rows: list[Row]) -> Row:
    """Build the info of a series whose splits are visible."""
    first = min(rows, key=lambda row: row["session"])
    dates = ", ".join(
        f"{row['session']} (x{row['value']:.3g})" for row in sorted(rows, key=lambda row: row["session"])[:SHOWN]
    )
    return {
        **dict(zip(KEY, series, strict=True)),
        "check_name": "basis",
        "severity": "info",
        "session": first["session"],
        "start_ts": first["start_ts"],
        "count": len(rows),
        "value": first["value"],
        "message": f"Prices are raw: {'a split is' if len(rows) == 1 else f'{len(rows)} splits are'} seen as a jump, {dates}.",
        "evidence": "an adjusted series does not jump at a split; whether it is adjusted for dividends cannot be told from a raw one",
        "remedy": RAW_REMEDY,
    }


def change_finding(change: GridChange, visible: list[Row]) -> Row:
    """Build the finding of a series off the tick grid: info if it is one adjusted copy, warning if it is mixed."""
    why = (
        f"for a split of {change.ratio[0]}:{change.ratio[1]}"
        if change.ratio
        else "for dividends, or for these and splits"
    )
    until = f"before {change.session}" if change.session else "all through"
    on = "" if math.isnan(change.on) else f", {change.on:.0%} are from then on"
    evidence = f"{change.off:.0%} of the prices {until} are no whole cents{on}; divided by {change.factor:.4g}, the last of them are"
    row: Row = {
        **dict(zip(KEY, change.series, strict=True)),
        "check_name": "basis",
        "severity": "info",
        "session": change.session or change.first,
        "count": change.sessions,
        "value": change.factor,
        "evidence": evidence,
        "remedy": "nothing, if adjusted prices are what you want; do not mix them with raw ones, and adjust volumes alike",
    }
    others = [one for one in visible if one["session"] != change.session]
    if change.is_seam:
        message = f"Prices are mixed: those {until} are adjusted (x{change.factor:.4g}, {why}), from then on they are raw, and the price jumps by it."
    elif others:
        message = (
            f"Prices are mixed: adjusted {until} (x{change.factor:.4g}, {why}), but a split of {others[0]['session']} is seen as a jump "
            f"(x{others[0]['value']:.3g})."
        )
    else:
        later = "" if change.session else ", for events after the data"
        return row | {"message": f"Prices {until} are adjusted {why}{later}: x{change.factor:.4g}."}
    remedy = "load the whole range anew from one copy, all raw or all adjusted"
    return row | {"severity": "warning", "message": message, "remedy": remedy}


def market_finding(raw: list[tuple[str, str, str]], adjusted: list[GridChange]) -> Row:
    """Build the warning that some series are raw and others adjusted."""
    names = sorted({name[0] for name in raw})
    others = sorted({change.series[0] for change in adjusted})
    shown = [
        ", ".join(some[:SHOWN]) + (f" and {len(some) - SHOWN} more" if len(some) > SHOWN else "")
        for some in (names, others)
    ]
    return {
        "check_name": "basis",
        "severity": "warning",
        "count": len(names) + len(others),
        "message": f"Prices are mixed: those of {shown[0]} are raw, those of {shown[1]} adjusted.",
        "evidence": "splits of the ones are seen as jumps, prices of the others are off the tick grid by one factor",
        "remedy": "load all symbols from one copy, all raw or all adjusted",
    }


@register
class BasisCheck(BarCheck):
    """Prices are raw, adjusted for splits or dividends, or mixed."""

    name, severities = "basis", ("warning", "info")
    reads, needs_hours = (BAR_SANITY, SAMPLED_PRICES), True

    def judge(self, measured: JudgeInput) -> pl.DataFrame:
        """Return an info per series that is raw or adjusted, a warning per mixed one, and one of a mixed market."""
        return basis(splits_of(measured), measured.once(grid_changes_of))
