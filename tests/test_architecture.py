"""The layout as a contract: imports go one way, each heavy library has one door, and a new module must take a place."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import engine
import pytest

ROOT = Path(engine.__file__).parent

# Lower ranks know nothing of higher ones; rooms of one rank know nothing of each other.
RANKS = [
    {"printable"},
    {"errors", "panics", "reference", "toml_text"},
    {"urls", "store_settings"},
    {"storage"},
    {"publish", "arguments", "plugins", "plan_calls"},
    {"interval", "display"},
    {"clock", "schema", "keys"},
    {"calendars"},
    {"grid"},
    {"store"},
    {"sources"},
    {"simulation", "derive"},
    {"quality"},
    {"checks"},
    {"export"},
    {"query", "audit"},
    {"report"},
    {"runtime"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
DOORS = {
    "duckdb": {"query"},
    "fsspec": {"query"},
    "deltalake": {"export"},
    "obstore": {"storage"},
    "pandas": {"calendars"},
    "exchange_calendars": {"calendars"},
    "pandas_market_calendars": {"calendars"},
    "databento_dbn": {"sources"},
    "pydantic": {"runtime"},
    "typer": {"cli"},
    "rich": {"cli"},
    "alpaca": {"sources"},
    "websockets": {"sources"},
    "requests": {"sources"},
    "urllib3": {"sources"},
    "prometheus_client": {"runtime"},
    # Of the sources: a socket, and an iterator that may block, need a thread of their own. A live session asks for the
    # past in one, and the command line tells it to stop. Standard error is one per process, and threads share it.
    "threading": {"store", "query", "sources", "runtime", "cli", "panics"},
    "filelock": {"export"},
    "altair": {"report"},
    "vl_convert": {"report"},
}
KERNELS = (
    "derive", "quality", "checks", "grid.py", "interval.py", "keys.py", "schema.py",
    "store/panel.py", "store/deduplication.py", "store/anomalies.py", "store/versioned_rows.py", "store/views.py",
)  # fmt: skip
WALL_TIME = {"now", "utcnow", "today", "monotonic", "perf_counter"}
NO_SUBJECT = {"utils", "helpers", "common", "core", "misc", "managers", "models"}


def modules() -> list[Path]:
    return sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_of_a_module_go_down_only(path: Path) -> None:
    mine = room(path)
    assert mine in RANK, f"{mine} has no place in the order of rooms"
    inner = {name.split(".")[1] for name in imports(path) if name.startswith("engine.")} - {mine}
    assert {name for name in inner if RANK[name] >= RANK[mine]} == set()


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_of_a_heavy_library_come_through_its_door(path: Path) -> None:
    strangers = {
        lib for lib in (name.split(".")[0] for name in imports(path)) if room(path) not in DOORS.get(lib, {room(path)})
    }
    assert strangers == set()


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_wall_time_is_asked_of_the_clock_alone(path: Path) -> None:
    if path.name == "clock.py":
        return
    calls = {
        node.func.attr for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name | ast.Attribute)
        and ast.unparse(node.func.value) in {"dt.datetime", "datetime", "dt.date", "date", "time", "datetime.datetime"}
    }  # fmt: skip
    assert calls & WALL_TIME <= ({"monotonic"} if room(path) in {"query", "export", "cli"} else set())


@pytest.mark.parametrize("part", KERNELS)
def test_kernels_touch_no_file_thread_or_database(part: str) -> None:
    paths = [ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py"))
    banned = {"os", "pathlib", "threading", "duckdb", "pandas", "io", "time", "concurrent", "multiprocessing"}
    assert {str(p): imports(p) & banned for p in paths if imports(p) & banned} == {}


def test_reference_imports_nothing_but_the_standard_library() -> None:
    names = {name.split(".")[0] for name in imports(ROOT / "reference.py")}
    assert names <= sys.stdlib_module_names
    assert sum(1 for line in (ROOT / "reference.py").read_text().splitlines() if line.strip()) < 300


def test_modules_are_named_for_what_they_hold() -> None:
    assert [str(p) for p in ROOT.rglob("*") if p.stem in NO_SUBJECT] == []


def test_all_names_are_importable_and_nothing_else_is_offered() -> None:
    assert len(set(engine.__all__)) == len(engine.__all__)
    for path in modules():
        if path.name not in {
            "dbn.py",
            "alpaca_client.py",
            "bounded_http.py",
            "live_metrics.py",
        }:  # their libraries are extras
            importlib.import_module(
                ".".join(["engine", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
            )
    shadowed = [name for name in engine.__all__ if isinstance(getattr(engine, name), ModuleType)]
    assert shadowed == []
    assert set(engine.__dir__()) == {*engine.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = engine.nonsense


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import engine", {"polars", "duckdb", "deltalake", "pandas", "exchange_calendars"}),
        ("import engine; engine.derive_bars, engine.SessionGrid, engine.SessionData", {"duckdb", "deltalake", "pandas", "exchange_calendars"}),
        ("import engine.query.child", {"polars", "duckdb", "pyarrow"}),
        ("import engine.cli", {"polars", "typer", "rich"}),
        ("import engine.cli.sql_command, engine.cli.output, engine.query.api", {"typer", "pydantic"}),
        ("import engine.cli.prompt, engine.query.api", {"duckdb", "pyarrow", "fsspec", "numpy", "filelock"}),
        ("import engine; engine.calendar", {"pandas", "exchange_calendars", "pandas_market_calendars"}),
        ("import engine; engine.run_audit, engine.ReplaySession, engine.open_dataset", {"altair", "vl_convert", "dask"}),
        ("import sys; sys.argv = ['engine', '--help']\nfrom engine.cli import main\ntry: main()\nexcept SystemExit: pass", {"polars", "duckdb", "pandas"}),
    ],
)  # fmt: skip
def test_import_loads_no_more_than_is_used(code: str, absent: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('LOADED', *sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.rsplit("LOADED", 1)[1].split())
    assert loaded & absent == set()
