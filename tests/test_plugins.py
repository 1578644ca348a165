"""File formats, layouts and live sources of other packages: found, named where they fail, seen by worker processes."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import engine
import pytest
from engine import plugins
from engine.errors import ParameterError, SourceError, StreamError
from engine.runtime.config import SessionConfig
from engine.runtime.live import LiveSession, open_stream
from engine.sources.formats import registry as formats
from engine.sources.layouts import registry as layouts

from tests.runtime.live_world import until

EXAMPLE = Path(__file__).parent / "example_plugin"
OPEN = 1_704_205_800  # 2024-01-02 09:30 New York
ACME = "ACME1\n" + "\n".join(f"SPY|{OPEN + 60 * n}|10|10.5|9.5|10.2|100" for n in range(390))
CONFIG = {
    "session": {"calendar": "24/7", "mode": "live", "symbols": ["A", "B"]},
    "source": {"kind": "acme", "options": {"bars": 3}},
    "live": {"grace_seconds": 0},
}

Install = Callable[..., Path]


def forget() -> None:
    for cached in (plugins.plugins, formats.join_format_plugins, layouts.plugin_layouts):
        cached.cache_clear()
    for name in list(formats._PLUGINS):
        formats.unregister(name)
    for name in [one for one in sys.modules if one.startswith("acme_feeds")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put the example package on the path of imports, with changes to its code."""

    def put(*changes: tuple[str, str]) -> Path:
        site = tmp_path / "site"
        shutil.copytree(EXAMPLE, site)
        code = (site / "acme_feeds.py").read_text()
        for old, new in changes:
            assert old in code
            code = code.replace(old, new)
        (site / "acme_feeds.py").write_text(code)
        monkeypatch.syspath_prepend(site)
        forget()
        return site

    yield put
    monkeypatch.undo()
    forget()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "data"
    found.mkdir()
    (found / "feed.acme").write_text(ACME)
    lines = [f"2024-01-02 {9 + (31 + n) // 60:02}:{(31 + n) % 60:02},10,10.5,9.5,10.2" for n in range(390)]
    (found / "QQQ.csv").write_text("ACME_END,O,H,L,C\n" + "\n".join(lines))
    return found


def test_a_format_and_a_layout_of_another_package_are_read(install: Install, folder: Path) -> None:
    install()
    session = engine.load(folder, "XNYS")
    quality = session.quality().select("symbol", "present", "missing").sort("symbol").rows()
    assert quality == [("QQQ", 390, 0), ("SPY", 390, 0)]
    assert "acme" in formats.format_names()
    assert layouts.layout_named("acme").stamp == "end"


def test_worker_processes_see_the_plug_ins(install: Install, folder: Path) -> None:
    install()
    done = engine.run_audit(folder, "XNYS", workers=2)
    assert done.tables["series"].select("symbol", "missing").sort("symbol").rows() == [("QQQ", 0), ("SPY", 0)]


def test_the_command_line_sees_the_plug_ins(install: Install, folder: Path) -> None:
    site = install()
    env = {"PYTHONPATH": f"{site}:{Path(engine.__file__).parent.parent}", "PATH": ""}
    code = "import sys; sys.argv = ['engine', 'layouts']\nfrom engine.cli import main\nmain()"
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "acme" in ran.stdout


def test_a_live_source_of_another_package_runs_a_session(install: Install) -> None:
    install()
    config = SessionConfig.of(CONFIG)
    live = LiveSession(config, open_stream(config))
    live.start()
    until(lambda: (live.step(), live.session.bars().height == 6)[1], "bars of the plug-in")
    live.close()
    assert live.session.bars("A").height == 3


def test_an_unknown_kind_of_source_lists_those_of_plug_ins(install: Install) -> None:
    install()
    with pytest.raises(
        ParameterError, match=r"received 'acmee' \(did you mean acme\?\); valid: files, folder, alpaca, acme"
    ):
        SessionConfig.of({**CONFIG, "source": {"kind": "acmee"}})


NAMED = r"plug-in 'acme' of acme-feeds 1\.0 \(engine\.{}\)"


@pytest.mark.parametrize(
    ("change", "group", "reason"),
    [
        (("MAGIC =", "import nowhere_at_all\nMAGIC ="), "formats", "No module named 'nowhere_at_all'"),
        (("class AcmeFormat(TextFormat)", "class Other(TextFormat)"), "formats", "has no attribute 'AcmeFormat'"),
        (('name = "acme"\n    suffixes', 'name = "csv"\n    suffixes'), "formats", "'csv' is registered already"),
        (('suffixes = (".acme",)', 'suffixes = ".acme"'), "formats", "suffixes: received '.acme'"),
        (("MAGIC =", "import sys; sys.exit(5)\nMAGIC ="), "formats", "SystemExit: 5"),
        (("precedence = 60", "precedence = 'high'"), "formats", "precedence: received 'high'; valid: a whole number"),
        (("precedence = 60", "other_folders = 5"), "formats", "other_folders: received 5; valid: a mapping"),
        (("precedence = 60", "magic = b'ACME'"), "formats", "magic: received b'ACME'; valid: a tuple of bytes"),
        (
            ('name = "acme"\n    suffixes', "name = None\n    suffixes"),
            "formats",
            "name: received None; valid: one name",
        ),
        (("LAYOUTS = (", "LAYOUTS = 5, ("), "layouts", "received 5; valid: a Layout"),
        (('stamp="end"', 'stamp="ends"'), "layouts", "stamp: received 'ends' (did you mean end?)"),
        (('stamp="end"', "time_format=5"), "layouts", "time_format: received 5; valid: text"),
        (('zone="America/New_York"', 'zone="Mars/City"'), "layouts", "timezone: received 'Mars/City'"),
        (('Layout(name="acme"', 'Layout(name="kibot"'), "layouts", "'kibot' is there already"),
        (('zone="America', 'name_pattern="(", zone="America'), "layouts", "unterminated subpattern"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_named_and_ends_nothing(
    change: tuple[str, str], group: str, reason: str, install: Install, tmp_path: Path
) -> None:
    install(change)
    path = tmp_path / "SPY_1m.csv"
    path.write_text(
        "timestamp,open,high,low,close\n" + "\n".join(f"{OPEN + 60 * n},10,10.5,9.5,10.2" for n in range(390))
    )
    with pytest.warns(plugins.PluginWarning) as caught:
        session = engine.load(path, "XNYS")
    assert session.quality("SPY")["missing"].to_list() == [0]
    told = [str(one.message) for one in caught if f"engine.{group}" in str(one.message)]
    assert len(told) == 1
    assert re.search(NAMED.format(group), told[0])
    assert reason in told[0]


def test_a_format_that_fails_on_a_file_is_named_and_the_other_files_are_read(install: Install, folder: Path) -> None:
    install(("table = pl.read_csv", "raise KeyError('price')\n        table = pl.read_csv"))
    with pytest.raises(SourceError, match=r"feed\.acme: " + NAMED.format("formats") + ": KeyError: 'price'"):
        engine.load(folder, "XNYS")
    done = engine.run_audit(folder, "XNYS")
    assert done.tables["series"]["symbol"].to_list() == ["QQQ"]
    assert done.tables["files"].drop_nulls("problem")["problem"].str.contains("KeyError: 'price'").to_list() == [True]


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("def read(self, file, options): return None", "read returned None; valid: a list of batches"),
        ("def read(self, file, options): return [5]", "read returned 5; valid: a Batch of bars"),
        ("def read(self, file, options): yield 5", "valid: a list of batches"),
        ("def read(self, file, options): raise SystemExit(3)", "SystemExit: 3"),
        ("def describe(self, path, head, options): return 5", "describe returned 5; valid: a SourceFile or a Problem"),
        ("def sniff(self, head, path): return pl.DataFrame()", "the truth value of a DataFrame is ambiguous"),
        (
            "def read(self, file, options): return [Batch('bars', None, pl.DataFrame({'a': [1]}), pl.DataFrame(), '', '')]",
            "frame of a batch lacks symbol, price_type, ts",
        ),
    ],
)
@pytest.mark.filterwarnings("always::engine.plugins.PluginWarning")
def test_a_format_that_returns_something_else_is_named_and_the_other_files_are_read(
    method: str, reason: str, install: Install, folder: Path, recwarn: pytest.WarningsRecorder
) -> None:
    install(("\n\nLAYOUTS = (", f"\n    {method}\n\n\nLAYOUTS = ("))
    done = engine.run_audit(folder, "XNYS")
    assert done.tables["series"]["symbol"].to_list() == ["QQQ"]
    problems = done.tables["files"].drop_nulls("problem")["problem"].to_list()
    told = [text for text in [*problems, *(str(one.message) for one in recwarn)] if reason in text]
    assert told
    assert re.search(NAMED.format("formats"), told[0])


def test_a_sniff_that_fails_is_named_and_the_other_formats_are_tried(install: Install, folder: Path) -> None:
    install(("return head.startswith(MAGIC)", "return head.nothing"))
    (folder / "feed.acme").unlink()
    with pytest.warns(plugins.PluginWarning, match=NAMED.format("formats")):
        assert engine.load(folder, "XNYS").quality("QQQ")["missing"].to_list() == [0]


@pytest.mark.parametrize(
    "change",
    [
        ("    return IteratorStream(", "    return nothing("),
        ("def open_stream", "def open_other"),
        ("MAGIC =", "import nowhere_at_all\nMAGIC ="),
    ],
)
def test_a_live_source_that_cannot_be_opened_is_named(change: tuple[str, str], install: Install) -> None:
    install(change)
    with pytest.raises(StreamError, match=NAMED.format("sources")):
        open_stream(SessionConfig.of(CONFIG))


def test_a_live_source_that_fails_later_is_named(install: Install) -> None:
    install(
        (
            "return IteratorStream(",
            "class Odd(IteratorStream):\n        def available(self, symbols):\n            return 1 / 0\n    return Odd(",
        )
    )
    config = SessionConfig.of(CONFIG)
    with pytest.raises(StreamError, match=NAMED.format("sources") + ": ZeroDivisionError"):
        LiveSession(config, open_stream(config)).start()
