"""URLs on the command line, where a command takes paths of this file system: exit code 2, and nothing is written."""

from __future__ import annotations

import json

import polars as pl
import pytest
from engine.arguments import location_of
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


REFUSED = ("demo", "replay", "live", "reconcile", "requests", "fill", "rules", "check", "calendars check", "repair")


@pytest.mark.parametrize("name", REFUSED)
def test_command_that_takes_no_url_refuses_one_of_a_store(name, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("s3://lake/out" if word == "URL" else word for word in WORDS[name])
    code, out, err = engine(*name.split(), *words)
    assert code == 2, (out, err)
    assert "'s3://lake/out', a URL of an object store; valid here: a path" in err.replace("\n", " ")
    assert not any(tmp_path.iterdir())


def test_options_of_files_refuse_a_url_of_a_store(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (
        ("sql", "out", "SELECT 1", "--output", "s3://lake/x.csv"),
        ("export", "out", "--to", "csv", "--output", "s3://lake/x"),
        ("audit", "in", "--calendar", "XNYS", "--output", "s3://lake/x"),
    ):
        code, _, err = engine(*words)
        assert code == 2, words
        assert "s3://lake/x" in err
        assert "valid here: a path" in err.replace("\n", " ")
    assert not any(tmp_path.iterdir())


def test_commands_work_on_a_store(engine, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"2024-11-04T14:{minute}:00Z,1,2,1,2,{minute}" for minute in range(30, 50)]
    text = "\n".join(["ts,open,high,low,close,volume", *rows])
    (location_of("x", store) / "in" / "SPY.csv").write_bytes(text.encode())
    for times in (1, 2):
        code, out, err = engine("run", f"{store}/in", "--calendar", "XNYS", "--export", f"{store}/out")
        assert code == 0, (times, out, err)
    code, out, err = engine(
        "sql",
        f"{store}/out",
        "SELECT count(*) AS n, max(volume) AS v FROM bars WHERE interval = '1m'",
        "--format",
        "csv",
    )
    assert (code, out.split()) == (0, ["n,v", "20,49.0"]), err
    code, out, err = engine("history", f"{store}/out", "--json")
    assert [one["revision"] for one in json.loads(out)] == [1, 2], err
    for words in (("verify",), ("gaps",), ("quality",), ("vacuum", "--keep-revisions", "1"), ("compact",)):
        code, out, err = engine(words[0], f"{store}/out", *words[1:])
        assert code == 0, (words, out, err)
    code, out, err = engine("diff", f"{store}/out", "1", "2")
    assert code == 2
    assert "expired" in err
    code, out, err = engine("audit", f"{store}/out", "--calendar", "XNYS", "--json")
    assert json.loads(out)["findings"], err
    assert not any(tmp_path.iterdir())
