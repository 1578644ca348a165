"""Errors reach a terminal in Python, too: what they repeat is escaped."""

from __future__ import annotations

import copy
import traceback
from pathlib import Path

import engine
import polars as pl
import pytest
from engine.cli.console import print_list, print_problems, set_quiet
from engine.errors import DamageError, EngineError, QueryError, SourceError, UnknownSymbolError

HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e"
CONTROLS = set(HOSTILE) - set("]0;owned31m")


@pytest.mark.parametrize(
    "error",
    [
        QueryError(HOSTILE),
        UnknownSymbolError(HOSTILE),
        SourceError(HOSTILE, HOSTILE),
        DamageError(HOSTILE, HOSTILE, "-"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_text_of_an_error_has_its_unprintable_characters_escaped(error: Exception) -> None:
    shown = "".join(traceback.format_exception(error))
    assert r"\x1b]0;owned\x07" in shown
    assert not CONTROLS & set(shown)
    assert str(copy.copy(error)) == str(error)


def test_what_a_statement_and_a_file_hold_is_escaped_in_their_errors(tmp_path: Path) -> None:
    bars = tmp_path / f"A{HOSTILE[0]}[2J.csv"
    bars.write_text("ts,open,high,low,close,volume\n2024-01-02T14:30:00Z,1,1,1,\x1b[31m1,1\n")
    with pytest.raises(QueryError) as refused:
        engine.sql({"t": pl.DataFrame({"a": [1]})}, f'SUMMARIZE "{HOSTILE}"')
    with pytest.raises(EngineError) as unread:
        engine.load(bars, "XNYS")
    for raised in (refused, unread):
        shown = "".join(traceback.format_exception(raised.value))
        assert not CONTROLS & set(shown), shown


def test_line_breaks_of_file_names_are_escaped_in_errors_and_lists(capsys) -> None:
    name = "X\nengine: export finished.csv"
    assert "\n" not in str(SourceError(name, "bad"))
    assert "\n" not in str(DamageError(name, "gone", "-"))
    set_quiet(quiet=False)  # a test of the command line in this process may have set it
    print_problems("could not be read", [f"{name}: bad"])
    print_list("note", [name])
    assert len(capsys.readouterr().out.splitlines()) == 2
