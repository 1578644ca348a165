"""session-engine: columnar analytics for intraday market sessions.

Everything a user needs is here by name; each name loads its room when it is first used, so `import engine` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from engine.audit.reconcile import reconcile
    from engine.audit.rules import read_rules
    from engine.audit.verdict import judge
    from engine.calendars import SessionCalendar, calendar, calendar_codes
    from engine.derive.bars import derive as derive_bars
    from engine.derive.indicators import Indicator
    from engine.derive.passes import indicators
    from engine.derive.ticks import bars_from_quotes, bars_from_trades
    from engine.errors import EngineError
    from engine.export.dataset import Dataset, open_dataset
    from engine.export.formats import write_csv, write_json
    from engine.grid import GridSpec, SessionGrid
    from engine.interval import Interval
    from engine.quality.gaps import expected, find_gaps, runs
    from engine.quality.score import score
    from engine.query import connect, sql
    from engine.report.look import save_plot
    from engine.report.maps import plot_coverage, plot_gaps, plot_slots
    from engine.report.plots import plot_against, plot_candles, plot_spread, plot_volume
    from engine.runtime.audit_report import Audit, write_audit
    from engine.runtime.auditor import run_audit
    from engine.runtime.config import SessionConfig
    from engine.runtime.live import LiveSession
    from engine.runtime.load import CalendarMap
    from engine.runtime.run import export_session, load, run
    from engine.runtime.worker import ReplaySession
    from engine.schema import conform
    from engine.snapshot import Snapshot, SymbolSessionData
    from engine.sources.frames import from_frame
    from engine.sources.synthetic import simulate
    from engine.store import SessionData

_ROOMS = {
    "judge": "audit.verdict", "read_rules": "audit.rules", "reconcile": "audit.reconcile",
    "SessionCalendar": "calendars", "calendar": "calendars", "calendar_codes": "calendars",
    "derive_bars": "derive.bars:derive", "bars_from_quotes": "derive.ticks", "bars_from_trades": "derive.ticks",
    "Indicator": "derive.indicators", "indicators": "derive.passes",
    "EngineError": "errors",
    "Dataset": "export.dataset", "open_dataset": "export.dataset",
    "write_csv": "export.formats", "write_json": "export.formats",
    "GridSpec": "grid", "SessionGrid": "grid",
    "Interval": "interval",
    "expected": "quality.gaps", "find_gaps": "quality.gaps", "runs": "quality.gaps", "score": "quality.score",
    "plot_against": "report.plots", "plot_candles": "report.plots", "plot_spread": "report.plots",
    "plot_volume": "report.plots", "plot_coverage": "report.maps", "plot_gaps": "report.maps",
    "plot_slots": "report.maps", "save_plot": "report.look",
    "CalendarMap": "runtime.load", "SessionConfig": "runtime.config",
    "LiveSession": "runtime.live", "ReplaySession": "runtime.worker",
    "export_session": "runtime.run", "load": "runtime.run", "run": "runtime.run", "run_audit": "runtime.auditor",
    "Audit": "runtime.audit_report", "write_audit": "runtime.audit_report",
    "conform": "schema",
    "Snapshot": "snapshot", "SymbolSessionData": "snapshot",
    "from_frame": "sources.frames", "simulate": "sources.synthetic",
    "connect": "query", "sql": "query",
    "SessionData": "store",
}  # fmt: skip

__all__ = [
    "Audit", "CalendarMap", "Dataset", "EngineError", "GridSpec", "Indicator", "Interval", "LiveSession", "ReplaySession",
    "SessionCalendar", "SessionConfig", "SessionData", "SessionGrid", "Snapshot", "SymbolSessionData",
    "bars_from_quotes", "bars_from_trades", "calendar", "calendar_codes", "conform", "connect", "derive_bars",
    "expected", "export_session", "find_gaps", "from_frame", "indicators", "judge", "load", "open_dataset",
    "plot_against", "plot_candles", "plot_coverage", "plot_gaps", "plot_slots", "plot_spread", "plot_volume",
    "read_rules", "reconcile", "run", "run_audit", "runs", "save_plot",
    "score", "simulate", "sql", "write_audit", "write_csv", "write_json",
]  # fmt: skip


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _ROOMS:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    room, _, inside = _ROOMS[name].partition(":")
    return getattr(import_module(f"engine.{room}"), inside or name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
