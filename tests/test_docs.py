"""Every block of code in README.md and docs/*.md runs as pasted, in a fresh namespace and a folder where `make demo` was run."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import engine
import pytest
from engine.cli import main
from engine.runtime.demo import demonstrate

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Output and commands of other programs; SQL runs in tests/query/test_live_tables.py, units and manifests are checked in
# tests/test_deployment.py.
NOT_RUN = {"text", "sql", "ini", "yaml"}
# An option or path of the reader's own machine: such a line is parsed by its command and not run.
FOREIGN = re.compile(r"^(make|pip|python|\. |#)|/data/|^engine (run|audit|reconcile) (data|databento|Data)/")


def blocks(page: Path) -> list[tuple[str, str]]:
    return [(kind, text) for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind not in NOT_RUN]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `make demo` was run and nothing else."""
    folder = tmp_path_factory.mktemp("demo")
    demonstrate(folder / "out" / "demo", 7, None)
    return folder


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_blocks_of_a_page_run_as_pasted(demo: Path, page: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """Each Python block has a namespace of its own, each page a folder of its own with the output of `make demo`."""
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    for key in ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(key, "not a key")
    monkeypatch.chdir(tmp_path)
    for kind, text in blocks(page):
        if kind == "python":
            exec(compile(text, page.name, "exec"), {"__name__": "__main__"})  # noqa: S102 - the page's own code
        elif kind == "toml" and (named := re.match(r"# (\S+\.toml)\n", text)):
            Path(named[1]).write_text(text)  # a file that the blocks below it use
        elif kind == "toml" and "[session]" in text:
            engine.SessionConfig.of(tomllib.loads(text))
        elif kind == "toml":
            Path("fx.toml").write_text(text)
            assert engine.calendar("fx.toml").zone == "America/New_York"
        elif kind == "sql":
            engine.sql("out/demo/export", text)
        else:
            assert kind in {"console", "sh"}
            for line in text.replace("\\\n", " ").splitlines():
                run_line(line.removeprefix("$ "), monkeypatch, capsys)


def run_line(line: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    if not line.strip() or FOREIGN.search(line):
        return
    name, *words = shlex.split(line, comments=True)
    assert name == "engine", line
    if words[0] == "sql" and (len(words) == 2 or "<" in words):
        return  # a prompt, and a script: tests of the command line
    monkeypatch.setattr(sys, "argv", ["engine", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    expected = re.search(r"# exits with (\d)$", line)
    assert (stopped.value.code or 0) == int(expected[1] if expected else 0), (line, capsys.readouterr().err)


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


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"], ids=lambda page: page.name)
def test_paths_of_code_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:engine|tests|benchmarks|docs)/[\w/.]+(?:/|\.\w+))`", text))
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


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
