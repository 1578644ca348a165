"""Command lines that messages propose."""

from __future__ import annotations

import pytest
from engine.cli.corrections import corrected_commands

WORDS = ["run", "in", "--calendar", "XNYS", "--unit", "ms", "--columns", "ts=Date"]


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("give --decimal , --thousands . (reads 16523.34)", ["--decimal , --thousands ."]),
        ("give --thousands , (reads 38505) or --decimal , (reads 38.505)", ["--thousands ,", "--decimal ,"]),
        ('give --thousands "\'" (reads 4158)', ["--thousands ''\"'\"''"]),
        ("valid for it: --layout kibot or --layout mt4", ["--layout kibot", "--layout mt4"]),
        ("give --interval 5m, or --interval 1h if they are bars of 1h", ["--interval 5m", "--interval 1h"]),
        ("give --time-format '%d.%m.%Y %H:%M' (the first date is 2024-01-02)", ["--time-format '%d.%m.%Y %H:%M'"]),
        (
            "if that is 'close_time', --columns ts=close_time --stamp end",
            ["--columns ts=Date,ts=close_time --stamp end"],
        ),
        ("--null='\\N' if that means none", ["--null '\\N'"]),
        ("--null=-1 if that means none", ["--null=-1"]),
        ("--allow-non-positive if prices of zero and below are real", ["--allow-non-positive"]),
        ("give --symbol NAME, --columns symbol=COLUMN or --columns ts=...,open=...", ["--symbol NAME"]),
        ("leave --symbol out; give --unit s, ms, us or ns; run without --workers; no --interval 5m", []),
    ],
)
def test_corrected_commands_append_the_options_of_a_message(message, options):
    kept = "engine run in --calendar XNYS --unit ms"
    columns = "" if "--columns ts=" in " ".join(options) else " --columns ts=Date"
    assert corrected_commands(message, WORDS) == [("", f"{kept}{columns} {text}") for text in options]


def test_corrected_commands_replace_the_option_that_was_given():
    assert corrected_commands("give --unit s, or no --unit", WORDS) == [
        ("", "engine run in --calendar XNYS --columns ts=Date --unit s")
    ]
    assert corrected_commands("x; give --unit s", ["run", "in", "--unit=ms", "--json"]) == [
        ("", "engine run in --json --unit s")
    ]


def test_corrected_commands_for_stamps_without_a_zone_are_that_of_the_market_and_utc():
    message = "ts: stamps carry no zone; give --timezone (America/New_York, UTC, UTC-05)"
    local, utc = "if stamps are the market's local time", "if stamps are UTC"
    command = "engine run in --timezone"
    found = corrected_commands(message, ["run", "in"], "Europe/Berlin")
    assert found == [(local, f"{command} Europe/Berlin"), (utc, f"{command} UTC")]
    assert corrected_commands(message, ["run", "in"], "UTC") == [(utc, f"{command} UTC")]
    message = "Time (EET): stamps carry no zone; give --timezone Europe/Helsinki"
    assert corrected_commands(message, ["run", "in"], "UTC") == [("", f"{command} Europe/Helsinki")]
