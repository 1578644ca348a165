"""Damaged configuration files: a clear error that names the key and what would be valid, and shows no secret."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from engine.errors import ParameterError
from engine.runtime.config import SessionConfig, types_within
from pydantic import BaseModel

KEY, SECRET = "PK-not-to-be-shown", "s3cret-not-to-be-shown"
OPTIONS = {"key": KEY, "secret": SECRET, "feed": "iex"}
WHOLE: dict[str, Any] = {
    "session": {"calendar": "XNYS", "mode": "live", "symbols": ["A"]},
    "source": {"kind": "alpaca", "options": OPTIONS},
    "streams": {"bars": "1m"}, "derive": ["5m"], "history": [{"sessions": 2}], "indicators": [{"use": "sma(20)"}],
    "gaps": {"retries": 3}, "export": {"target": "out"}, "replay": {"speed": 60}, "live": {"grace_seconds": 5},
}  # fmt: skip
# Wrong for whatever a key takes; text is right for some.
ODD: dict[str, object] = {"table": {"a": {"b": SECRET}}, "list": [[SECRET]], "not a number": float("nan")}
# Keys that take a table or any text are tried with other things.
FREE = {"source.read", "source.options", "session.calendars"}


def changed(place: list[str], value: object) -> dict[str, Any]:
    """The whole configuration with another value at a key; of a list of tables in the first of them."""
    content = deepcopy(WHOLE)
    inner: Any = content
    for part in place[:-1]:
        inner = inner.setdefault(part, {})
        inner = inner[0] if isinstance(inner, list) else inner
    inner[place[-1]] = value
    return content


def keys_of(model: type[BaseModel], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Path of every key of a configuration, sections and their keys."""
    for name, field in model.model_fields.items():
        sections = [
            one for one in types_within(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)
        ]
        yield (*before, name)
        for section in sections:
            yield from keys_of(section, (*before, name))


KEYS = [place for place in keys_of(SessionConfig) if ".".join(place) not in FREE]
WRONG_TYPES = [
    (place, what) for place in KEYS for what in ODD if not (place == ("session", "calendars") and what == "table")
]
UNKNOWN = [(*place, "zzz_unknown") for place in [(), *(one for one in KEYS if len(one) == 1 and one[0] != "derive")]]


def refusal(content: Any) -> str:
    """The message of a refused configuration; its whole trace shows no secret."""
    with pytest.raises(ParameterError) as raised:
        SessionConfig.of(content, name="session.toml")
    trace = "".join(traceback.format_exception(raised.value))
    assert [one for one in (KEY, SECRET) if one in trace] == []
    assert len(str(raised.value)) < 20_000
    return str(raised.value)


@pytest.mark.parametrize(("place", "what"), WRONG_TYPES, ids=lambda one: one if isinstance(one, str) else ".".join(one))
def test_value_of_a_wrong_type_names_its_key(place: tuple[str, ...], what: str) -> None:
    said = refusal(changed([*place], ODD[what]))
    assert said.startswith("session.toml: ")
    keys = said.removeprefix("session.toml: ").replace("unknown key ", "").split("; ")
    tables = {name for name in WHOLE if isinstance(WHOLE[name], list)}
    named = [".".join(part for part in key.split(":")[0].split(".") if not part.isdecimal()) for key in keys]
    wanted = ".".join(place)
    assert any(one == wanted or one.startswith(f"{wanted}.") or wanted in tables for one in named), said
    assert any(word in said for word in ("valid", "should be", "received", "unknown key", "missing")), said


@pytest.mark.parametrize("place", UNKNOWN, ids=".".join)
def test_unknown_key_is_named_with_the_valid_ones(place: tuple[str, ...]) -> None:
    said = refusal(changed([*place], SECRET))
    assert "unknown key" in said
    assert "zzz_unknown" in said
    assert "valid: " in said


HUGE: dict[tuple[str, ...], object] = {
    ("gaps", "retries"): 10**30, ("gaps", "backoff"): 1e400, ("gaps", "interval_seconds"): 10**400, ("live", "queue_rows"): -(10**20),
    ("live", "poll_seconds"): "9" * 5_000 + "m", ("replay", "speed"): "1e999", ("derive",): ["1" * 4_000 + "h"],
    ("session", "start"): "99999-01-01", ("session", "calendar"): "X" * 200_000, ("session", "mode"): "live" * 50_000,
    ("session", "symbols"): ["A" * 10 + "\x00"] * 3 + [None], ("source", "kind"): "\x1b[2J\x07", ("export", "every_seconds"): -1,
    ("history",): [{"sessions": 10**40}], ("indicators",): [{"use": "sma(" + "9" * 3_000 + ")"}], ("replay", "step_seconds"): float("inf"),
}  # fmt: skip


@pytest.mark.parametrize("place", HUGE, ids=".".join)
def test_value_out_of_bounds_is_refused_or_never_shown_raw(place: tuple[str, ...]) -> None:
    try:
        SessionConfig.of(changed([*place], HUGE[place]))
    except ParameterError as error:
        said = str(error)
        assert place[0] in said
        assert len(said) < 20_000
    else:
        assert place in {
            ("session", "symbols"),
            ("session", "calendar"),
        }  # any text may be a name, and is looked up later


NESTED: dict[str, Any] = {
    "secret below options": {"source": {"kind": "alpaca", "options": {"account": {"secret": SECRET}, "secret": 5}}},
    "secret in a list": {"source": {"kind": "alpaca", "options": {"secrets": [SECRET], "token": [SECRET]}}},
    "options as text": {"source": {"kind": "alpaca", "options": SECRET}},
    "source as text": {"source": SECRET},
    "secret as a kind": {"source": {"kind": SECRET, "password": SECRET}},
    "secret as a key": {"source": {"kind": "alpaca", "options": OPTIONS, SECRET[:0] + "api_key": SECRET}},
    "list of sources": {"source": [{"kind": "alpaca", "options": OPTIONS}]},
    "mistake beside": {"source": {"kind": "alpaca", "options": OPTIONS}, "gaps": {"retries": "many"}},
    "bytes": {"source": {"kind": "alpaca", "options": {"key": KEY.encode(), "secret": SECRET}}},
    "two secrets of wrong types": {"source": {"kind": "alpaca", "options": {"key": {"a": KEY}, "secret": [SECRET]}}},
}


@pytest.mark.parametrize("name", [one for one in NESTED if one != "secret as a kind"])
def test_nested_secret_is_not_shown(name: str) -> None:
    said = refusal({"session": WHOLE["session"], **NESTED[name]})
    assert "source" in said or "gaps.retries" in said


def circle() -> dict[str, Any]:
    content = deepcopy(WHOLE)
    content["session"]["symbols"] = content
    content["history"] = [content]
    return content


def circle_of_lists() -> dict[str, Any]:
    content, inner = deepcopy(WHOLE), []
    inner.append(inner)
    content["derive"] = inner
    content["source"]["options"] = {"key": inner, "secret": SECRET}
    return content


@pytest.mark.parametrize(
    "content", [circle(), circle_of_lists(), None, 5, "text", [], [WHOLE], {}, {1: 2}, {None: None}, {"": ""}]
)
def test_content_that_is_none_or_goes_in_circles_is_refused(content: Any) -> None:
    assert refusal(content).startswith("session.toml: ")


FILES: dict[str, bytes] = {
    "latin.toml": 'derive = ["é"]'.encode("latin-1"), "utf16.toml": "derive = []".encode("utf-16"), "nul.toml": b"derive = [\x00]",
    "truncated.json": b'{"session": {"calendar": "XN', "twice.toml": b"[session]\n[session]\n", "deep.json": b"[" * 100_000,
    "deep.toml": b"a = " + b"[" * 100_000, "dotted.toml": b".".join([b"a"] * 5_000) + b" = 1", "empty.json": b"",
    "number.json": b"1e999", "surrogate.json": b'{"session": "\\ud800"}', "binary.toml": bytes(range(256)),
    "secret.toml": f'[source]\noptions = {{ secret = "{SECRET}"'.encode(), "secret.json": f'{{"source": {{"secret": "{SECRET}"'.encode(),
    "merge.toml": b"<<<<<<< HEAD\n[session]\n=======\n>>>>>>> main\n", "yaml.toml": b"session:\n  calendar: XNYS\n",
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_damaged_file_is_named_and_shows_no_secret(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    with pytest.raises(ParameterError) as raised:
        SessionConfig.read(path)
    assert name in str(raised.value)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("kind", ["link to itself", "folder", "pipe", "absent", "device"])
def test_path_that_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "session.toml"
    if kind == "link to itself":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(ParameterError, match=r"session\.toml: no configuration could be read"):
        SessionConfig.read(path)


def test_attacks_are_as_many_as_they_say_and_the_whole_configuration_is_right() -> None:
    assert len(WRONG_TYPES) + len(UNKNOWN) + len(HUGE) + len(NESTED) + len(FILES) >= 106
    assert SessionConfig.of(json.loads(json.dumps(WHOLE))).source.kind == "alpaca"
