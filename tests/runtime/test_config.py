"""A configuration is accepted as a whole, or refused with every mistake and its valid values."""

from __future__ import annotations

import datetime as dt
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from engine.errors import ParameterError
from engine.runtime.config import SessionConfig
from engine.runtime.live import open_stream

TOML = """
derive = ["5m", "60m"]
[session]
calendar = "XNYS"
start = 2024-07-01
symbols = ["AAA", "BBB"]
[source]
paths = ["files", "/elsewhere/more"]
[streams]
bars = "60s"
[[history]]
sessions = 3
intervals = ["1d"]
symbols = ["A*"]
[[history]]
sessions = 1
[[indicators]]
use = "sma(20)"
intervals = ["5m"]
[gaps]
interval_seconds = "2m"
[export]
target = "out"
every_seconds = 900
[replay]
speed = 60
"""
LEAST: dict[str, Any] = {"session": {"calendar": "XNYS"}, "source": {"paths": ["files"]}}


def with_(**parts: Any) -> dict[str, Any]:
    """The least that is valid, with some parts changed."""
    merged = {
        name: {**LEAST.get(name, {}), **part} if isinstance(part, Mapping) else part for name, part in parts.items()
    }
    return {**LEAST, **merged}


def refusal(content: Mapping[str, Any]) -> str:
    with pytest.raises(ParameterError) as caught:
        SessionConfig.of(content)
    return str(caught.value)


def test_read_toml_takes_every_part_in_its_shortest_spelling(tmp_path: Path) -> None:
    (tmp_path / "session.toml").write_text(TOML)
    config = SessionConfig.read(tmp_path / "session.toml")
    assert config.derive == ("5m", "1h")
    assert config.streams.bars == "1m"
    assert config.session.start == dt.date(2024, 7, 1)
    assert config.gaps.interval_seconds == 120
    assert config.replay.speed == 60
    assert [one.sessions for one in config.history_of("AAA")] == [3, 1]
    assert [one.sessions for one in config.history_of("BBB")] == [1]
    assert config.history_sessions == 3
    assert [one.use for one in config.indicators_of("BBB")] == ["sma(20)"]


def test_read_json_equals_toml_of_the_same_content(tmp_path: Path) -> None:
    (tmp_path / "session.toml").write_text(TOML)
    wanted = SessionConfig.read(tmp_path / "session.toml")
    (tmp_path / "session.json").write_text(wanted.model_dump_json())
    assert SessionConfig.read(tmp_path / "session.json") == wanted


def test_read_relative_paths_are_below_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "session.toml").write_text(TOML)
    config = SessionConfig.read(tmp_path / "deep" / "session.toml")
    assert config.source.paths == (tmp_path / "deep" / "files", Path("/elsewhere/more"))
    assert config.export is not None
    assert config.export.target == tmp_path / "deep" / "out"


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", "derive = ["), ("a.json", "{"), ("a.json", '"text"'), ("a.toml", None)]
)
def test_read_what_is_no_configuration_names_the_file(tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ParameterError, match=name):
        SessionConfig.read(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "where", "meant"),
    [
        ({**LEAST, "derived": ["5m"]}, "derived", "derive"),
        (with_(session={"calender": "XNYS"}), "session.calender", "calendar"),
        (with_(streams={"quote": True}), "streams.quote", "quotes"),
        (with_(history=[{"sessions": 1}, {"sessions": 2, "interval": ["1d"]}]), "history.1.interval", "intervals"),
        (with_(indicators=[{"use": "vwap", "symbol": ["A"]}]), "indicators.0.symbol", "symbols"),
        (with_(export={"target": "out", "every_second": 5}), "export.every_second", "every_seconds"),
        (with_(replay={"sped": 5}), "replay.sped", "speed"),
        (with_(source={"path": ["files"]}), "source.path", "paths"),
        (with_(source={"read": {"timezome": "UTC"}}), "timezome", "timezone"),
    ],
)  # fmt: skip
def test_of_unknown_key_names_the_nearest_valid_one(content: dict[str, Any], where: str, meant: str) -> None:
    said = refusal(content)
    assert f"unknown key {where}" in said
    assert f"did you mean {meant}?" in said


def test_of_unknown_key_like_no_other_lists_the_valid_ones() -> None:
    said = refusal(with_(live={"zzz": 1}))
    assert "did you mean" not in said
    assert "valid: grace_seconds, queue_rows, poll_seconds" in said


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        (with_(session={"mode": "dream"}), ["session.mode", "'dream'", "replay"]),
        (with_(session={"start": "2024-13-01"}), ["session.start", "'2024-13-01'"]),
        (with_(session={"start": "2024-07-02", "end": "2024-07-01"}), ["session", "end", "2024-07-01", "2024-07-02"]),
        (with_(session={"incomplete": "hide"}), ["session.incomplete", "'hide'", "flag"]),
        (with_(streams={"bars": "7x"}), ["streams", "bars", "7x"]),
        (with_(streams={"quotes": "perhaps"}), ["streams.quotes", "perhaps"]),
        (with_(derive=["5m", "5 parsecs"]), ["derive.1", "5 parsecs"]),
        (with_(derive=[5]), ["derive.0", "received 5", "5m"]),
        (with_(history=[{"sessions": 0}]), ["history.0.sessions", "received 0", "1"]),
        (with_(history=[{}]), ["history.0.sessions", "missing"]),
        (with_(history=[{"sessions": 1, "symbols": [" "]}]), ["history.0.symbols.0"]),
        (with_(gaps={"retries": -1}), ["gaps.retries", "received -1"]),
        (with_(gaps={"backoff": 0.5}), ["gaps.backoff", "received 0.5"]),
        (with_(gaps={"interval_seconds": float("nan")}), ["gaps.interval_seconds", "nan"]),
        (with_(gaps={"interval_seconds": "soon"}), ["gaps.interval_seconds", "soon"]),
        (with_(export={"every_seconds": 5}), ["export.target", "missing"]),
        (with_(replay={"speed": "fast"}), ["replay.speed", "'fast'", "max", "60"]),
        (with_(replay={"speed": -1}), ["replay.speed", "received -1"]),
        (with_(replay={"step_seconds": 0}), ["replay.step_seconds", "received 0"]),
        (with_(live={"queue_rows": 0}), ["live.queue_rows", "received 0"]),
        (with_(source={"kind": "crystal ball"}), ["source", "kind", "crystal ball", "files, folder, alpaca"]),
        (with_(source={"paths": []}), ["source", "paths", "none given"]),
        (with_(source={"read": {"stamp": "middle"}}), ["source", "stamp", "middle", "end"]),
        ({"source": LEAST["source"]}, ["session", "missing"]),
        (with_(session={"calendar": None}), ["session.calendar", "engine calendars"]),
        (with_(source={"kind": "folder"}), ["source.kind", "'folder'", "files"]),
        (with_(session={"mode": "live"}), ["source.kind", "'files'", "folder, alpaca"]),
        (with_(session={"mode": "live"}, source={"kind": "alpaca"}), ["session.symbols", "none given"]),
    ],
)  # fmt: skip
def test_of_wrong_value_says_where_what_and_what_is_valid(content: dict[str, Any], fragments: list[str]) -> None:
    said = refusal(content)
    assert [one for one in fragments if one not in said] == [], said


def test_of_several_mistakes_names_all_of_them() -> None:
    said = refusal(with_(session={"calender": "XNYS"}, derive=["5q"], replay={"speed": "fast"}, gaps={"retries": -1}))
    assert [one for one in ("session.calender", "5q", "replay.speed", "gaps.retries") if one not in said] == []


@pytest.mark.parametrize("session", [{"calendar": None, "calendars": {"*": "XNYS"}}, {"calendar": "XNYS"}])
def test_of_calendar_or_calendars_is_enough(session: dict[str, Any]) -> None:
    assert SessionConfig.of(with_(session=session)).session.mode == "replay"


@pytest.mark.parametrize("kind", ["folder", "alpaca"])
def test_of_live_source_with_what_it_needs_fits(kind: str) -> None:
    config = SessionConfig.of(with_(session={"mode": "live", "symbols": ["A"]}, source={"kind": kind}))
    assert config.source.kind == kind


def test_of_speed_max_means_no_waiting() -> None:
    assert SessionConfig.of(with_(replay={"speed": "max"})).replay.speed == 0


def test_history_of_symbol_that_no_pattern_fits_is_none() -> None:
    config = SessionConfig.of(with_(history=[{"sessions": 4, "symbols": ["B?"]}]))
    assert config.history_of("A") == ()
    assert config.history_of("b1") == ()
    assert [one.sessions for one in config.history_of("B1")] == [4]


KEY_TEXT, SECRET_TEXT = "PK-not-to-be-shown", "s3cret-not-to-be-shown"
LIVE = {"mode": "live", "calendar": "XNYS", "symbols": ["A"]}
OPTIONS = {"key": KEY_TEXT, "secret": SECRET_TEXT}


@pytest.mark.parametrize(
    "content",
    [
        {"session": LIVE, "source": [{"kind": "alpaca", "options": OPTIONS}]},
        {"session": LIVE, "source": {"kind": "alpaca", "options": [OPTIONS]}},
        {"session": LIVE, "source": {"kind": "alpaca", **OPTIONS}},
        {"session": LIVE, "source": {"kind": "alpaca", "options": {**OPTIONS, "token": [SECRET_TEXT]}}},
        {"session": {**LIVE, "mode": "liv"}, "source": {"kind": "alpaca", "options": OPTIONS}},
        {"session": LIVE, "source": {"kind": "alpaca", "options": {**OPTIONS, "secret": 12345678901}}},
    ],
    ids=["list of sources", "list of options", "wrong level", "list as token", "mistake elsewhere", "number"],
)
def test_secrets_are_in_no_error_and_no_trace(content: dict[str, Any]) -> None:
    with pytest.raises(ParameterError) as raised:
        SessionConfig.of(content)
    trace = "".join(traceback.format_exception(raised.value))
    assert not [text for text in (KEY_TEXT, SECRET_TEXT, "12345678901") if text in trace]


def test_secrets_are_not_shown_by_a_configuration(tmp_path: Path) -> None:
    config = SessionConfig.of({"session": LIVE, "source": {"kind": "alpaca", "options": OPTIONS}})
    shown = f"{config!r} {config} {config.model_dump_json()} {config.model_dump()}"
    assert KEY_TEXT not in shown
    assert SECRET_TEXT not in shown
    assert open_stream(config)._access.secret == SECRET_TEXT
    (tmp_path / "secret").write_text(f"{SECRET_TEXT}\n")
    by_file = {"key": KEY_TEXT, "secret_file": str(tmp_path / "secret")}
    config = SessionConfig.of({"session": LIVE, "source": {"kind": "alpaca", "options": by_file}})
    assert open_stream(config)._access.secret == SECRET_TEXT


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"key": 5, "secret": "x"}, "key: received int; valid: text in quotes"),
        ({"key": "a", "secret_file": "/nowhere/x"}, "secret_file: /nowhere/x cannot be read"),
        ({"key": "a", "secret": "b", "secret_file": "/x"}, "secret_file: received together with secret"),
        ({"key_file": 5}, "key_file: received int"),
    ],
)
def test_keys_that_are_none_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(told)):
        open_stream(SessionConfig.of({"session": LIVE, "source": {"kind": "alpaca", "options": options}}))
