"""URLs on the command line, where a command takes paths of this file system: exit code 2, and nothing is written."""

from __future__ import annotations

import polars as pl
import pytest
from engine.cli.commands import app, command_name

TAKES_NO_PATH = {"layouts", "calendars"}
WORDS = {
    "demo": ("--export", "URL"),
    "run": ("URL", "--calendar", "XNYS"),
    "audit": ("URL", "--calendar", "XNYS"),
    "replay": ("URL",),
    "live": ("URL",),
    "reconcile": ("URL", "URL"),
    "requests": ("URL",),
    "fill": ("URL", "--from", "URL"),
    "rules": ("URL",),
    "sql": ("URL", "SELECT 1"),
    "gaps": ("URL",),
    "quality": ("URL",),
    "check": ("URL", "--symbols", "A", "--start", "2024-01-02", "--end", "2024-01-03"),
    "export": ("URL", "--to", "csv", "--output", "out"),
    "calendars check": ("URL", "--calendar", "XNYS"),
    "history": ("URL",),
    "diff": ("URL", "1", "2"),
    "verify": ("URL",),
    "repair": ("URL",),
    "compact": ("URL",),
    "vacuum": ("URL", "--keep", "7d"),
}


def test_every_command_that_takes_a_path_is_tried():
    assert {command_name(one) for one in app.registered_commands} - TAKES_NO_PATH == set(WORDS)


@pytest.mark.parametrize("scheme", ["xyz", "http"])
@pytest.mark.parametrize("name", WORDS)
def test_command_refuses_a_url_of_an_unknown_scheme(name, scheme, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = f"{scheme}://lake/out"
    code, out, err = engine(*name.split(), *(url if word == "URL" else word for word in WORDS[name]))
    assert code == 2, (out, err)
    assert url in err
    assert "valid" in err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["export", "output", "junit"])
def test_option_refuses_a_url_of_an_unknown_scheme(option, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pl.DataFrame({"ts": ["2024-01-02 09:30:00"]}).write_csv("a.csv")
    command = "run" if option == "export" else "audit"
    code, _, err = engine(command, "a.csv", "--calendar", "XNYS", f"--{option}", "xyz://lake/out")
    assert code == 2
    assert "xyz://lake/out" in err
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
