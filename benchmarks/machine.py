"""Machine and versions of a benchmark, and the memory of its process."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

PEAK = Path("/proc/self/clear_refs")
PACKAGES = ("polars", "duckdb", "pandas", "numpy", "pyarrow")


def about() -> dict[str, object]:
    """Processor, cores, memory, system and package versions."""
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
    """Load average of the last minute; above the benchmark's own it means noise."""
    return os.getloadavg()[0]


def reset_peak() -> None:
    """Reset the peak that `peak_mb` reports (Linux)."""
    if PEAK.exists():
        PEAK.write_text("5")


def peak_mb() -> float:
    """Peak memory in MB of this process since `reset_peak`; 0 on other systems than Linux."""
    return int(_field("/proc/self/status", "VmHWM").removesuffix("kB") or 0) / 1024


def resident_mb() -> float:
    """Resident memory in MB of this process; 0 on other systems than Linux."""
    return int(_field("/proc/self/status", "VmRSS").removesuffix("kB") or 0) / 1024


def _field(file: str, name: str) -> str:
    path = Path(file)
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
