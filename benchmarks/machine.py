"""Where and with what a benchmark ran."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

PEAK = Path("/proc/self/clear_refs")
PACKAGES = ("polars", "duckdb", "pandas", "numpy", "pyarrow")


def about() -> dict[str, object]:
    """Machine, cores, memory, versions."""
    return {
        "machine": platform.machine(),
        "processor": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def load() -> float:
    """Processes that ran in the last minute; more than the benchmark's own mean noise."""
    return os.getloadavg()[0]


def forget_peak() -> None:
    """Let `peak_mb` count from here on (Linux)."""
    if PEAK.exists():
        PEAK.write_text("5")


def peak_mb() -> float:
    """The most memory this process held since `forget_peak`; 0 where the system does not tell."""
    return int(_field("/proc/self/status", "VmHWM").removesuffix("kB") or 0) / 1024


def resident_mb() -> float:
    """Memory this process holds now; 0 where the system does not tell."""
    return int(_field("/proc/self/status", "VmRSS").removesuffix("kB") or 0) / 1024


def _field(file: str, name: str) -> str:
    path = Path(file)
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
