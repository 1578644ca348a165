"""Options of reading: a wrong value or file is an error that names the option and what is valid."""

from __future__ import annotations

import os
import time

import pytest
from engine.audit.allowlist import read_allowlist
from engine.audit.rules import read_rules
from engine.calendars.files import parse_calendar, read_bytes
from engine.errors import EngineError, ParameterError, SourceError
from engine.runtime.config import SessionConfig
from engine.runtime.options import CalendarMap
from engine.sources.options import ReadOptions


@pytest.mark.parametrize(
    ("name", "value", "valid"),
    [
        ("format", 5, "text"),
        ("timezone", ["UTC"], "IANA"),
        ("timezone", True, "IANA"),
        ("stamp", 3, "text"),
        ("unit", {}, "text"),
        ("delimiter", 1, "text"),
        ("delimiter", "é", "one ASCII character"),
        ("delimiter", "ab", "one ASCII character"),
        ("delimiter", "", "one ASCII character"),
        ("delimiter", "\n", "one ASCII character"),
        ("delimiter", '"', "one ASCII character"),
        ("delimiter", "x", "one ASCII character"),
        ("header", "yes", "true or false"),
        ("header", 1, "true or false"),
        ("columns", "ts=1", "a mapping"),
        ("columns", {"ts": 1.5}, "its place from 1"),
        ("columns", {"ts": []}, "its place from 1"),
        ("allow_non_positive", "no", "true or false"),
        ("scale", "2", "a whole number"),
        ("scale", -1, "0 to 38"),
        ("scale", 39, "0 to 38"),
        ("skip_rows", 10**30, "0 to 1,000,000,000"),
        ("symbols", [], "None for all"),
        ("price_types", (), "None for all"),
        ("max_bytes", "4GB", "a whole number"),
        ("max_ratio", 1.5, "a whole number"),
        ("max_members", True, "a whole number"),
        ("max_bytes", 0, "1 or more"),
        ("symbols", 5, "symbols"),
        ("interval", [], "interval"),
    ],
)
def test_options_of_another_type_name_what_is_valid(name, value, valid):
    with pytest.raises(ParameterError, match=valid) as raised:
        ReadOptions(**{name: value})
    assert name in str(raised.value) or name == "interval"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", " ", "^", "~", "\x01"])
def test_options_take_a_delimiter(delimiter):
    assert ReadOptions(delimiter=delimiter).delimiter == delimiter


def nested() -> str:
    return "a = " + "[" * 5000 + "]" * 5000


def test_files_of_options_nested_deeply_are_refused(tmp_path):
    path = tmp_path / "deep.toml"
    path.write_text(nested())
    for read in (ReadOptions.from_toml, CalendarMap.from_toml, read_rules, read_allowlist, SessionConfig.read):
        with pytest.raises(EngineError, match="nested too deeply"):
            read(path)
    with pytest.raises(EngineError, match="nested too deeply"):
        parse_calendar(path, read_bytes(path))


def test_files_of_options_that_are_pipes_are_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(SourceError, match="not a regular file"):
        ReadOptions.from_toml(tmp_path / "pipe.toml")
    for read in (CalendarMap.from_toml, read_rules, read_allowlist, SessionConfig.read):
        with pytest.raises(ParameterError, match="not a regular file"):
            read(tmp_path / "pipe.toml")


def test_toml_of_a_deep_dotted_key_is_refused_at_once(tmp_path):
    path = tmp_path / "deep.toml"
    path.write_text("a" + ".a" * 50_000 + " = 1")
    began = time.perf_counter()
    with pytest.raises(SourceError, match="nested too deeply"):
        ReadOptions.from_toml(path)
    assert time.perf_counter() - began < 5
