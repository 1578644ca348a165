"""Wheel and sdist in an environment that holds nothing else: no extra is pulled in, and none is needed.

Python 3.11 is what the suite itself runs on; 3.12 and 3.13 are tried where they are installed, and skipped by name where not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = {
    "databento_dbn", "alpaca", "websockets", "dask", "distributed", "altair", "vl_convert", "great_tables", "jupyterlab", "nbclient",
    "talib", "hypothesis", "pytest", "mkdocs",
}  # fmt: skip
BLOCKED = f"""
import sys
class Closed:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Closed())
"""
TAKE_ALL = """
import engine
for name in engine.__all__:
    try:
        getattr(engine, name)
    except engine.EngineError as error:
        print(f"{name}: {error}")
"""
PYTHONS = ["3.11", "3.12", "3.13"]


def ran(*words: object, cwd: Path | None = None) -> str:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, env=env, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_import_without_any_extra_gives_every_name_but_the_plots(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + TAKE_ALL], capture_output=True, text=True, check=True, cwd=ROOT
    )  # fmt: skip
    refused = dict(line.split(": ", maxsplit=1) for line in done.stdout.splitlines())
    assert {name for name in refused if "plot" not in name} == set()
    assert {"session-engine[notebook]" in why for why in refused.values()} == {True}


def test_demo_without_any_extra_finds_what_was_planned(tmp_path: Path) -> None:
    code = (
        BLOCKED
        + f"sys.argv = ['engine', 'demo', '--export', {str(tmp_path)!r}, '--json']\nfrom engine.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert {row["agrees"] for row in json.loads(done.stdout)["comparison"]} == {True}


def test_read_of_dbn_without_its_extra_names_the_extra(vendor: Path) -> None:
    file = vendor / "databento" / "EQUS.MINI" / "test_data.ohlcv-1m.dbn.zst"
    code = (
        BLOCKED
        + f"sys.argv = ['engine', 'run', {str(file)!r}, '--calendar', 'XNYS']\nfrom engine.cli import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, "pip install session-engine[dbn]" in done.stderr) == (2, True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    clone = folder / "clone"
    shutil.copytree(
        ROOT, clone, ignore=shutil.ignore_patterns(".git", ".venv", "out", "__pycache__", ".*_cache", ".hypothesis")
    )
    ran(sys.executable, "-m", "venv", folder / "builder")
    ran(folder / "builder/bin/python", "-m", "pip", "install", "--quiet", "build")
    ran(folder / "builder/bin/python", "-m", "build", "--outdir", folder / "made", clone)
    return folder / "made"


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tools = tmp_path_factory.mktemp("tools")
    ran(sys.executable, "-m", "venv", tools)
    ran(tools / "bin/python", "-m", "pip", "install", "--quiet", "uv")
    return tools / "bin/uv"


@pytest.mark.slow
def test_wheel_holds_the_package_and_what_it_reads(built: Path) -> None:
    names = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    kept = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "engine").rglob("*")
        if path.is_file() and not {"__pycache__", "facts"} & set(path.parts)  # answer files are for the tests
    ]
    assert sorted(name for name in names if ".dist-info/" not in name) == sorted(kept)


@pytest.mark.slow
def test_sdist_holds_what_its_wheel_is_built_from(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "engine/__init__.py", "engine/py.typed"} <= inside


@pytest.mark.slow
def test_install_of_the_wheel_by_pip_into_nothing_runs_the_demo(built: Path, tmp_path: Path) -> None:
    ran(sys.executable, "-m", "venv", tmp_path / "empty")
    ran(tmp_path / "empty/bin/python", "-m", "pip", "install", "--quiet", next(built.glob("*.whl")))
    check(tmp_path / "empty", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
def test_install_of_the_sdist_by_uv_into_nothing_runs_the_demo(
    built: Path, uv: Path, tmp_path: Path, python: str
) -> None:
    ran(uv, "venv", "--quiet", "--python", found(python), tmp_path / "empty")
    ran(uv, "pip", "install", "--quiet", "--python", tmp_path / "empty/bin/python", next(built.glob("*.tar.gz")))
    check(tmp_path / "empty", tmp_path)


def found(python: str) -> str:
    """An interpreter of this version, installed as such or by pyenv, whose shims run nothing by themselves."""
    if sys.version_info[:2] == tuple(map(int, python.split("."))):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places = [shutil.which(f"python{python}"), *sorted(map(str, pyenv.glob(f"{python}.*/bin/python{python}")))]
    for place in filter(None, places):
        if subprocess.run([place, "--version"], capture_output=True, check=False).returncode == 0:
            return place
    pytest.skip(f"no python{python} on this machine")


def check(environment: Path, folder: Path) -> None:
    """The command and the package as a stranger has them: away from the clone, with nothing beside them."""
    listed = "import importlib.metadata as m; print(*(one.name for one in m.distributions()))"
    installed = set(ran(environment / "bin/python", "-c", listed).lower().replace("-", "_").split())
    assert installed & EXTRAS == set()
    assert ran(environment / "bin/engine", "--version", cwd=folder).startswith("engine ")
    assert "plot_candles: " in ran(environment / "bin/python", "-c", TAKE_ALL, cwd=folder)
    told = json.loads(ran(environment / "bin/engine", "demo", "--export", folder / "demo", "--json", cwd=folder))
    assert {row["agrees"] for row in told["comparison"]} == {True}
