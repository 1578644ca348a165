"""`run` and `audit` on simulated sessions with planned faults: planned against found."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from engine.calendars.providers import calendar
from engine.errors import ParameterError
from engine.grid import GridSpec, SessionGrid
from engine.interval import Interval
from engine.query import sql
from engine.runtime.audit_report import write_audit
from engine.runtime.auditor import run_audit
from engine.runtime.options import CalendarMap, LoadOptions, Progress
from engine.runtime.run import RunResult, run
from engine.simulation.faults import EMPTY_KINDS, SPAN_KINDS, FaultPlan
from engine.simulation.feed import write_csv
from engine.simulation.sessions import Instrument, Market, Simulation, simulate

CODE = "XNYS"
FIRST, LAST = dt.date(2024, 11, 18), dt.date(2024, 12, 13)  # holds Thanksgiving and the early close after it
DERIVED = ("5m", "15m", "30m", "1h", "1d", "1w")
MARKET = (
    Instrument("MEGA", price=180.0, trades_per_minute=300.0),
    Instrument("LIQD", price=95.0, trades_per_minute=120.0),
    Instrument("BANK", price=41.0, trades_per_minute=60.0),
    Instrument("MIDC", price=27.5, trades_per_minute=25.0),
    Instrument("RTLR", price=63.0, trades_per_minute=15.0),
    Instrument("SMLL", price=12.4, trades_per_minute=6.0),
    Instrument("THIN", price=8.1, trades_per_minute=2.0),
    Instrument("RARE", price=33.0, trades_per_minute=0.8),
)
PLAN = FaultPlan(
    missing_start=3,
    missing_middle=6,
    missing_end=3,
    absent_session=1,
    outage=1,
    halt=2,
    duplicate=40,
    conflict=8,
    correction=12,
    late=25,
    off_grid=9,
    out_of_session=11,
    bad_row=10,
)
QUESTION = (
    "SELECT symbol, session, position, bar_count AS bars, gap_start FROM gaps "
    "WHERE interval = '1m' AND bar_count >= 10 ORDER BY bars DESC, symbol LIMIT 8"
)


@dataclass(frozen=True)
class Demonstration:
    """Output of the demo.

    Attributes
    ----------
    outcome : RunResult
        Result of `run` on the simulated files.
    files, dataset : Path
        The simulated vendor files, and the export.
    comparison : DataFrame of `fault, planned, found, agrees`
    question : str
        An SQL question to the export.
    answer : DataFrame
        Its answer.
    causes : DataFrame of `planned, cause, stretches`
        What the audit makes of each planned stretch without bars.
    report : Path
        Of the audit.
    """

    outcome: RunResult
    files: Path
    dataset: Path
    comparison: pl.DataFrame
    question: str
    answer: pl.DataFrame
    causes: pl.DataFrame
    report: Path

    @property
    def agrees(self) -> bool:
        """Whether every kind of fault was found exactly as often as planned."""
        return bool(self.comparison["agrees"].all())

    def as_dict(self) -> dict[str, object]:
        """Paths, comparison, question, answer and causes as JSON values; without the outcome and its store."""
        return {
            "files": str(self.files),
            "dataset": str(self.dataset),
            "comparison": self.comparison.to_dicts(),
            "question": self.question,
            "answer": self.answer.to_dicts(),
            "causes": self.causes.to_dicts(),
            "report": str(self.report),
        }


def demonstrate(target: Path, seed: int, progress: Progress | None = None) -> Demonstration:
    """Simulate faulty sessions, write CSV, run with export, audit with report; compare planned and found faults.

    Parameters
    ----------
    target : Path
        Folder for `files`, `export` and `audit`; an earlier demo there is run again beside its files.
    seed : int
        Of the simulation.
    """
    files, dataset = target / "files", target / "export"
    if files.exists() and any(files.iterdir()) and not (files / ".demo").exists():
        raise ParameterError(f"export: {files} holds files that no demo wrote; valid: a new folder")
    grid = SessionGrid.build(calendar(CODE).segments(FIRST, LAST), "1m", GridSpec(CODE))
    simulation = simulate(grid, Market(MARKET, seed), PLAN)
    write_feed(simulation, files)
    options = LoadOptions(CalendarMap(CODE), derive=tuple(map(Interval.parse, DERIVED)), dates=(FIRST, LAST))
    outcome = run([files], options, dataset, progress)
    found = run_audit(outcome.session)
    report = write_audit(found, target / "audit", title="Simulated sessions with planned faults", sources=str(files))
    return Demonstration(
        outcome,
        files,
        dataset,
        match_faults(simulation, outcome),
        QUESTION,
        sql(dataset, QUESTION),
        match_causes(simulation.truth, found.tables["gaps"]),
        report,
    )


def match_causes(truth: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """Count planned spans per (fault kind, cause of the gap that contains the span); spans in no gap are omitted.

    Returns
    -------
    DataFrame of `planned, cause` (String), `stretches` (UInt32)
    """
    spans = truth.filter(pl.col("kind").is_in(SPAN_KINDS)).select("kind", "symbol", "start", "end")
    held = spans.join(gaps.select("symbol", "gap_start", "gap_end", "cause"), on="symbol").filter(
        (pl.col("gap_start") <= pl.col("start")) & (pl.col("gap_end") >= pl.col("end"))
    )
    planned = pl.col("kind").str.replace_all("_", " ").alias("planned")
    return (
        held.group_by(planned, "cause")
        .len("stretches")
        .sort("planned", "stretches", "cause", descending=[False, True, False])
    )


def match_faults(simulation: Simulation, outcome: RunResult) -> pl.DataFrame:
    """Per fault kind planned and found number (in the store's 1m tables), whether equal; last row: slots without a bar.

    Returns
    -------
    DataFrame of `fault` (String), `planned, found` (Int64), `agrees` (Boolean)
    """
    tables = outcome.session.snapshot().tables()
    base = {name: tables[name].filter(pl.col("interval") == "1m") for name in ("bars", "gaps", "quality")}
    planned = simulation.truth.group_by("kind").len()
    counts = {kind: int(count) for kind, count in planned.iter_rows()}
    covered = count_spans_in_gaps(simulation.truth, base["gaps"])
    found: dict[str, int] = {kind: covered.get(kind, 0) for kind in SPAN_KINDS}
    conflict = tables["rejects"]["reason"].str.starts_with("conflict")
    found |= {name: int(base["quality"][f"{name}s"].sum()) for name in ("duplicate", "correction")}
    found |= {name: int(base["quality"][name].sum()) for name in ("off_grid", "out_of_session")}
    found |= {"conflict": int(conflict.sum()), "bad_row": int((~conflict).sum())}
    found["late"] = count_late_bars_in_place(simulation, base["bars"])
    rows = [(kind.replace("_", " "), counts.get(kind, 0), found[kind]) for kind in found]
    rows.append(("slots without a bar", count_slots_without_bar(simulation), int(base["quality"]["missing"].sum())))
    frame = pl.DataFrame(rows, schema={"fault": pl.String, "planned": pl.Int64, "found": pl.Int64}, orient="row")
    return frame.with_columns((pl.col("planned") == pl.col("found")).alias("agrees"))


def write_feed(simulation: Simulation, files: Path) -> None:
    """Write CSV of the session and, in a second folder, the corrected rows; mark the folder with `.demo`."""
    repaired = simulation.truth.filter(pl.col("kind") == "correction").select("symbol", pl.col("start").alias("ts"))
    second = pl.col("fault").is_null() & pl.struct("symbol", "ts").is_in(repaired.to_struct().implode())
    write_csv(simulation.rows.filter(~second), files / "1-session")
    # One or two bars do not tell their interval: the folder states it.
    write_csv(simulation.rows.filter(second), files / "2-corrections" / "interval=1m")
    (files / ".demo").touch()


def count_spans_in_gaps(truth: pl.DataFrame, gaps: pl.DataFrame) -> dict[str, int]:
    """Per kind with any, the number of planned spans that lie wholly within a stored gap; each span counts once."""
    spans = truth.filter(pl.col("kind").is_in(SPAN_KINDS)).with_row_index("at")
    held = spans.join(gaps.select("symbol", "gap_start", "gap_end"), on="symbol").filter(
        (pl.col("gap_start") <= pl.col("start")) & (pl.col("gap_end") >= pl.col("end"))
    )
    return {kind: int(count) for kind, count in held.unique("at").group_by("kind").len().iter_rows()}


def count_late_bars_in_place(simulation: Simulation, bars: pl.DataFrame) -> int:
    """Number of late bars that are stored at their own time with the true OHLC and volume."""
    late = simulation.truth.filter(pl.col("kind") == "late").select("symbol", pl.col("start").alias("ts"))
    values = ["symbol", "ts", "open", "high", "low", "close", "volume"]
    true = simulation.clean.join(late, on=["symbol", "ts"], how="semi").select(values)
    return true.join(bars.select(values), on=values, how="semi").height


def count_slots_without_bar(simulation: Simulation) -> int:
    """Expected number of missing slots: clean bars in planned empty spans, slots without trades, and halted slots."""
    empty = simulation.truth.filter(pl.col("kind").is_in(EMPTY_KINDS))
    lost = simulation.clean.join(empty.select("symbol", "start", "end", "kind"), on="symbol").filter(
        (pl.col("ts") >= pl.col("start")) & (pl.col("ts") < pl.col("end"))
    )
    halted = empty.filter(pl.col("kind") == "halt")["bar_count"].sum()
    return lost.unique(["symbol", "ts"]).height + simulation.no_trade.height + int(halted)
