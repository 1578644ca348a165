"""Result of an audit, the bars around its gravest gaps, and its output folder: tables, verdict, report."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from engine import __version__
from engine.arguments import check_arguments, path_of
from engine.audit.audit_files import write_audit_tables
from engine.audit.audit_tables import COUNTS, KEY, STRIPS
from engine.audit.rules import read_rules
from engine.audit.verdict import Verdict, apply_rules
from engine.audit.verdict_formats import write_verdict
from engine.checks.findings import FINDINGS
from engine.clock import Clock, WallClock
from engine.display import Summarized, Summary
from engine.export.formats.output_formats import write_bytes
from engine.keys import expand_ranges, is_strictly_increasing, number_ranges, searchsorted_within
from engine.quality.causes.cause_table import CAUSES, REPORTED
from engine.quality.causes.priors import SURE
from engine.quality.score import adjusted_quality
from engine.report import page
from engine.schema import TS, Schema, empty
from engine.store.snapshot import Snapshot

MOST_STRIPS, MOST_READERS, STRIP_MINUTES = 60, 24, 30
INCIDENT_STAMP = "%Y-%m-%dT%H:%M:%S%.6fZ"
BAR: Schema = {
    "symbol": pl.String(),
    "price_type": pl.String(),
    "ts": TS,
    "close": pl.Float64(),
    "volume": pl.Float64(),
}


@dataclass(frozen=True, repr=False)
class Audit(Summarized):
    """Result of an audit.

    Attributes
    ----------
    tables : mapping of name to DataFrame
        `engine.audit.audit_tables.AUDIT_TABLES`.
    rows, files : int
        Number of rows and files read.
    """

    tables: Mapping[str, pl.DataFrame]
    rows: int
    files: int

    def _summary(self) -> Summary:
        """Facts (rows, series, quality in %, also adjusted for explained gaps) and slots per cause, most first."""
        series, causes = self.tables["series"], self.tables["gaps"].group_by("cause")
        sums = series.select(pl.col(list(COUNTS)).sum()).with_columns(adjusted_quality()).row(0, named=True)
        expected = sums["expected"]
        levels = self.tables["findings"]["severity"].value_counts().sort("severity")
        facts = {
            "read": f"{self.rows:,} rows of {self.files:,} file{'s' if self.files != 1 else ''}",
            "series": series.height,
            "quality": 100.0 * sums["present"] / expected if expected else None,
            "adjusted": sums["quality_adjusted"],
            "missing": f"{sums['missing']:,} of {expected:,} slots, {sums['explained']:,} of them explained",
            "findings": ", ".join(f"{count:,} {level}" for level, count in levels.iter_rows()) or "none",
        }
        rows = causes.agg(pl.len().alias("gaps"), pl.col("bar_count").sum().alias("slots")).sort(
            "slots", "cause", descending=[True, False]
        )
        return Summary("Audit", facts, ("cause", "gaps", "slots"), rows.rows(), rows.height)


class BarsReader(NamedTuple):
    """Symbols of a part of the sources, and a function that reads bars (`BAR`) of some of them."""

    symbols: frozenset[str]
    bars: Callable[[Sequence[str]], pl.DataFrame]


def bars_of(snapshot: Snapshot, symbols: Sequence[str]) -> pl.DataFrame:
    """Base bars (`BAR` columns) of the given symbols; symbols that the store does not have are skipped."""
    known = [snapshot.symbols[symbol] for symbol in symbols if symbol in snapshot.symbols]
    return pl.concat([empty(BAR), *(snapshot.bars(one.symbol, one.base_interval).select(list(BAR)) for one in known)])


def with_strips(done: Audit, readers: Sequence[BarsReader]) -> Audit:
    """Copy with table `strips`: bars within 30 minutes of 60 reported gaps, one per outage first; 24 readers only."""
    gaps = (
        done.tables["gaps"]
        .filter(pl.col("cause").is_in(REPORTED))
        .with_columns(
            pl.col("cause").cast(pl.Enum(CAUSES)).to_physical().alias("rank"),
            pl.int_range(pl.len())
            .over("outage_id", order_by=["symbol", "price_type", "interval", "gap_start"])
            .alias("turn"),
        )
    )
    # One gap of each outage first, then the others.
    order = ["turn", "rank", "bar_count", "symbol", "price_type", "interval", "gap_start"]
    shown = gaps.sort(order, descending=[name == "bar_count" for name in order]).head(MOST_STRIPS)
    wanted = set(shown["symbol"])
    having = [(reader, sorted(reader.symbols & wanted)) for reader in readers if reader.symbols & wanted]
    bars = pl.concat([empty(BAR), *(reader.bars(symbols) for reader, symbols in having[:MOST_READERS])])
    strips = bars_around_gaps(shown.select(*KEY, "gap_start", "gap_end"), bars, dt.timedelta(minutes=STRIP_MINUTES))
    return replace(done, tables={**done.tables, "strips": strips.select(list(STRIPS))})


def bars_around_gaps(gaps: pl.DataFrame, bars: pl.DataFrame, margin: dt.timedelta) -> pl.DataFrame:
    """Bars of each gap's series from `margin` before the gap to `margin` after it, sorted by gap and time.

    Takes memory for the bars and for what it returns, whatever the number of gaps. Of bars of one series and stamp the
    first counts.

    Parameters
    ----------
    gaps : DataFrame
        `symbol, price_type, interval, gap_start, gap_end`.
    bars : DataFrame of `BAR`
    margin : timedelta

    Returns
    -------
    DataFrame
        The columns of `gaps`, then `ts, close, volume` of each bar.
    """
    pair = ["symbol", "price_type"]
    pairs = gaps.select(pair).unique(maintain_order=True).with_row_index("pair")
    placed = bars.join(pairs, on=pair, maintain_order="left").with_columns(pl.col("pair").cast(pl.Int32))
    if not is_strictly_increasing(placed, ["pair", "ts"]):
        placed = placed.sort("pair", "ts", maintain_order=True).unique(
            ["pair", "ts"], keep="first", maintain_order=True
        )
    number = placed["pair"].to_numpy()
    wanted = gaps.join(pairs, on=pair, maintain_order="left").sort(*KEY, "gap_start", maintain_order=True)
    low, high = (np.searchsorted(number, wanted["pair"].to_numpy(), side=side) for side in ("left", "right"))
    ts = placed["ts"].cast(pl.Int64).to_numpy()
    edges = wanted.select(pl.col("gap_start") - margin, pl.col("gap_end") + margin).cast(pl.Int64)
    first, end = (searchsorted_within(ts, edges[name].to_numpy(), low, high) for name in edges.columns)
    count = np.maximum(end - first, 0)
    owner, _ = number_ranges(count)
    around = placed.select("ts", "close", "volume")[expand_ranges(first, count)]
    return wanted.drop("pair")[owner].hstack(around)


@check_arguments("done", "title", "sources", "verdict", "clock")
def write_audit(
    done: Audit,
    folder: str | Path,
    *,
    title: str = "Audit",
    sources: str = "",
    verdict: Verdict | None = None,
    clock: Clock | None = None,
) -> Path:
    """Write `report.html`, `audit.json`, `incidents.csv`, `tables`; findings of `verdict` (None: default rules); return report path.

    Parameters
    ----------
    done : Audit
    folder : str or Path
        Files of an earlier audit there are replaced one by one.
    title, sources : str
        Heading of the report, and the sources that it names.
    verdict : Verdict, optional
        Default: by the default rules.
    clock : Clock, optional
        For the date of the report.

    Returns
    -------
    Path
        The report.
    """
    folder, now = path_of("folder", folder), (clock or WallClock()).now()
    judged = verdict or apply_rules(done.tables, read_rules(), today=now.date())
    tables = {**done.tables, "findings": judged.findings.select(list(FINDINGS))}  # what the rules find, too
    write_audit_tables(tables, folder)
    write_verdict(judged, "json", folder / "audit.json")
    write_bytes(tables["incidents"].write_csv(datetime_format=INCIDENT_STAMP).encode(), folder / "incidents.csv")
    about: dict[str, str | int] = {
        "title": title,
        "sources": sources,
        "made": f"{now:%Y-%m-%d %H:%M UTC} by session-engine {__version__}",
    }
    shown_verdict = page.Verdict(passed=judged.exit_code == 0, text=judged.headline, reasons=judged.notes)
    text = page.audit_page(tables, about, shown_verdict, confidence=SURE)
    return write_bytes(text.encode(), folder / "report.html")
