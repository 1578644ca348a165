"""session-engine: columnar analytics for intraday market sessions.

Everything a user needs is here by name; each name loads its room when it is first used, so `import engine` is quick.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Prices and volumes near the bounds of a float overflow in sums and ratios; the checks take an infinity for what it is.
warnings.filterwarnings(
    "ignore", r"(overflow|invalid value|divide by zero) encountered in ", RuntimeWarning, r"engine\."
)

if TYPE_CHECKING:
    from engine.audit.reconcile import reconcile
    from engine.audit.rules import read_rules
    from engine.audit.verdict import apply_rules
    from engine.calendars.providers import SessionCalendar, calendar, calendar_codes
    from engine.derive.bars import derive as derive_bars
    from engine.derive.indicator_passes import indicators
    from engine.derive.indicators import Indicator
    from engine.derive.tick_bars import bars_from_quotes, bars_from_trades
    from engine.errors import EngineError
    from engine.export.dataset import Dataset, open_dataset
    from engine.export.formats.session_files import write_csv, write_json
    from engine.grid import GridSpec, SessionGrid
    from engine.interval import Interval
    from engine.quality.gaps import expected_slots, find_gaps, slot_runs
    from engine.quality.score import quality_score
    from engine.query import connect, sql
    from engine.report.plot_maps import plot_coverage, plot_gaps, plot_slots
    from engine.report.plot_style import save_plot
    from engine.report.plots import plot_against, plot_candles, plot_spread, plot_volume
    from engine.runtime.audit_report import Audit, write_audit
    from engine.runtime.auditor import run_audit
    from engine.runtime.config import SessionConfig
    from engine.runtime.deployments import ReplaySession
    from engine.runtime.fill import drop_fill, fill
    from engine.runtime.live import LiveSession
    from engine.runtime.lost_slots import requests
    from engine.runtime.options import CalendarMap
    from engine.runtime.preflight import check
    from engine.runtime.run import export_session, load, run
    from engine.schema import conform
    from engine.simulation.sessions import simulate
    from engine.sources.frames import from_frame
    from engine.store.session_data import SessionData
    from engine.store.snapshot import Snapshot
    from engine.store.symbol_data import SymbolSessionData

_ROOMS = {
    "apply_rules": "audit.verdict", "read_rules": "audit.rules", "reconcile": "audit.reconcile",
    "SessionCalendar": "calendars.providers", "calendar": "calendars.providers", "calendar_codes": "calendars.providers",
    "derive_bars": "derive.bars:derive", "bars_from_quotes": "derive.tick_bars", "bars_from_trades": "derive.tick_bars",
    "Indicator": "derive.indicators", "indicators": "derive.indicator_passes",
    "EngineError": "errors",
    "Dataset": "export.dataset", "open_dataset": "export.dataset",
    "write_csv": "export.formats.session_files", "write_json": "export.formats.session_files",
    "GridSpec": "grid", "SessionGrid": "grid",
    "Interval": "interval",
    "expected_slots": "quality.gaps", "find_gaps": "quality.gaps", "quality_score": "quality.score", "slot_runs": "quality.gaps",
    "plot_against": "report.plots", "plot_candles": "report.plots", "plot_spread": "report.plots",
    "plot_volume": "report.plots", "plot_coverage": "report.plot_maps", "plot_gaps": "report.plot_maps",
    "plot_slots": "report.plot_maps", "save_plot": "report.plot_style",
    "check": "runtime.preflight", "CalendarMap": "runtime.options", "SessionConfig": "runtime.config",
    "LiveSession": "runtime.live", "ReplaySession": "runtime.deployments",
    "export_session": "runtime.run", "load": "runtime.run", "run": "runtime.run", "run_audit": "runtime.auditor",
    "Audit": "runtime.audit_report", "requests": "runtime.lost_slots", "fill": "runtime.fill", "drop_fill": "runtime.fill",
    "write_audit": "runtime.audit_report",
    "conform": "schema",
    "Snapshot": "store.snapshot", "SymbolSessionData": "store.symbol_data",
    "from_frame": "sources.frames", "simulate": "simulation.sessions",
    "connect": "query", "sql": "query",
    "SessionData": "store.session_data",
}  # fmt: skip

__all__ = [
    "Audit", "CalendarMap", "Dataset", "EngineError", "GridSpec", "Indicator", "Interval", "LiveSession", "ReplaySession",
    "SessionCalendar", "SessionConfig", "SessionData", "SessionGrid", "Snapshot", "SymbolSessionData",
    "apply_rules", "bars_from_quotes", "bars_from_trades", "calendar", "calendar_codes", "check", "conform", "connect", "derive_bars",
    "drop_fill", "expected_slots", "export_session", "fill", "find_gaps", "from_frame", "indicators", "load", "open_dataset",
    "plot_against", "plot_candles", "plot_coverage", "plot_gaps", "plot_slots", "plot_spread", "plot_volume",
    "quality_score", "read_rules", "reconcile", "requests", "run", "run_audit", "save_plot",
    "simulate", "slot_runs", "sql", "write_audit", "write_csv", "write_json",
]  # fmt: skip


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _ROOMS:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    room, _, inside = _ROOMS[name].partition(":")
    return getattr(import_module(f"engine.{room}"), inside or name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
