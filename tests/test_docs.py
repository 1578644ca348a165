"""Every block of code in README.md and docs/*.md runs as it stands; SQL also in `test_sql_live`."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.util
import re
import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import duckdb
import engine
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from engine.cli import main
from engine.clock import ManualClock
from engine.interval import Interval
from engine.runtime.demo import demonstrate
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.run import run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
NOT_RUN = {"sh", "sql", "text"}  # `make`; run elsewhere; what is shown


def blocks(page: Path) -> list[tuple[str, str]]:
    return [(kind, text) for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind not in NOT_RUN]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory):
    """A folder with the demo, and an export `out` of two revisions, whose symbols the documents name."""
    folder = tmp_path_factory.mktemp("docs")
    demonstrate(folder / "out" / "demo", 7, None)
    (folder / "vendor").mkdir()
    options = LoadOptions(CalendarMap("XNYS"), derive=(Interval.parse("5m"),))
    for day in (5, 6):
        for symbol in ("SPY", "0700"):
            lines = [f"{(OPEN + dt.timedelta(minutes=m)).isoformat()},10,11,9.5,10.{day},{100 + m}" for m in range(60)]
            (folder / "vendor" / f"{symbol}.csv").write_text("ts,open,high,low,close,volume\n" + "\n".join(lines))
        clock = ManualClock(dt.datetime(2024, 1, day, tzinfo=dt.UTC))
        run([folder / "vendor"], options, folder / "export", clock=clock)
    with contextlib.chdir(folder):
        for path in (folder / "export").iterdir():
            path.rename(folder / "out" / path.name)
        yield folder


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_blocks_of_a_page_run_in_their_order(place: Path, page: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    known = {
        "engine": engine,
        "pl": pl,
        "duckdb": duckdb,
        "pyarrow": pa,
        "Path": Path,
        "OUT": place / "out",
        "copy": {},
        "generator": lambda: iter(()),
    }
    for key in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(key, "not a key")
    Path("drops").mkdir(exist_ok=True)
    known["session"] = engine.load("vendor", "XNYS")
    for kind, text in blocks(page):
        if kind == "python":
            exec(compile(text, page.name, "exec"), known)  # noqa: S102
        elif kind == "toml" and "[session]" in text:
            engine.SessionConfig.of(tomllib.loads(text))
        elif kind == "toml":
            Path("fx.toml").write_text(text)
            assert engine.calendar("fx.toml").zone == "America/New_York"
        else:
            assert kind == "console"
            for line in text.splitlines():
                ask(line, monkeypatch, capsys)


def ask(line: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    prompt, name, *words = shlex.split(line, comments=True)
    assert (prompt, name) == ("$", "engine")
    if words[0] == "sql" and (len(words) == 2 or "<" in words):
        return  # a prompt, and a script: tests of the command line
    monkeypatch.setattr(sys, "argv", ["engine", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = re.search(r"# exits with (\d)$", line)
    assert (stopped.value.code or 0) == int(said[1] if said else 0), (line, capsys.readouterr().err)


def generated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_has_every_name_command_table_and_error() -> None:
    pages = generated().pages()
    heads = re.findall(r"^::: [\w.]+\.(\w+)$", pages["reference/python.md"], re.MULTILINE)
    assert sorted(heads) == sorted({"derive_bars": "derive"}.get(name, name) for name in engine.__all__)
    told = re.findall(r"^## engine (.+)$", pages["reference/cli.md"], re.MULTILINE)
    assert {"run", "audit", "reconcile", "sql", "config check"} <= set(told)
    assert {
        name for name in engine.export.tables.TABLES if f"### {name}\n" not in pages["reference/tables.md"]
    } == set()
    assert "`CursorExpiredError`" in pages["reference/errors.md"]


def test_reference_of_a_command_has_its_options_and_example() -> None:
    text = generated().cli_page()
    audit = text.partition("## engine audit\n")[2].partition("\n## ")[0]
    assert "| `--baseline` | audit.json of an earlier audit: only what is new or worse fails. |" in audit
    assert "engine audit lean/equity/usa/minute --calendar XNYS --output audit" in audit


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    made = {(ROOT / "docs" / name).resolve() for name in generated().pages()}
    prose = re.sub(r"```.*?```|<!--.*?-->|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in target]
    paths = [(page.parent / target).resolve() for target in targets if target]
    assert [str(path) for path in paths if not path.exists() and path not in made] == []


def test_site_names_every_page() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    listed = set(re.findall(r"([\w/-]+\.md)$", nav, re.MULTILINE))
    written = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.name != "README.md"}
    assert listed == written | set(generated().pages())


def test_pages_with_python_are_all_run() -> None:
    assert {page.name for page in PAGES if any(kind == "python" for kind, _ in blocks(page))} >= {
        "README.md", "dataset.md", "formats.md", "sql.md", "calendars.md",
    }  # fmt: skip


def test_documented_columns_are_those_of_the_tables() -> None:
    told = re.findall(r"^\| `(\w+)` \| (.*?revision.*?) \|$", (ROOT / "docs" / "dataset.md").read_text(), re.MULTILINE)
    listed = {name: [re.sub(r" \(.*", "", column) for column in columns.split(", ")] for name, columns in told}
    assert listed == {name: list(schema) for name, schema in engine.export.tables.TABLES.items()}
