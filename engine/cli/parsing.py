"""Parse the text of options; an error names the option, the text received and valid forms."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from engine.arguments import instant_of
from engine.errors import ParameterError


def usage_error(text: str) -> ParameterError:
    """Build (not raise) the ParameterError of a wrong option value."""
    return ParameterError(text)


def check_limit(limit: int | None) -> None:
    """ParameterError for a negative number of rows; 0 is all, None the default."""
    if limit is not None and limit < 0:
        raise usage_error(f"--limit: received {limit}; valid: 0 for all rows, or how many")


_WORD = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*(?=,|$)|([^,]*))(?:,|$)', re.DOTALL)


def split_list(text: str | None) -> tuple[str, ...]:
    """Split text at commas, trim, drop empty words; `"..."` may contain commas, and `""` a quote; None gives ()."""
    found = _WORD.findall((text or "").strip())
    return tuple(word for quoted, bare in found if (word := quoted.replace('""', '"') or bare.strip()))


def split_selection(option: str, text: str | None) -> tuple[str, ...] | None:
    """Split an option's text at commas; None if absent; ParameterError naming the option if it holds no word."""
    given = split_list(text)
    if text is not None and not given:
        raise usage_error(f"{option}: received {text!r}; valid: one word or more, by comma, or no {option} for all")
    return given or None


def split_pairs(option: str, text: str | None, valid: str) -> dict[str, str]:
    """Split `left=right,...` to a dict, trimmed; None: {}; ParameterError if a side is empty, or a left stands twice."""
    pairs: dict[str, str] = {}
    for word in split_list(text):
        left, _, right = (part.strip() for part in word.partition("="))
        if not left or not right:
            raise usage_error(f"{option}: received {word!r}; valid: {valid}")
        if left in pairs:
            raise usage_error(f"{option}: received {left!r} twice ({pairs[left]!r} and {right!r}); valid: each once")
        pairs[left] = right
    return pairs


def parse_column_pairs(text: str | None) -> dict[str, str | int]:
    """Parse `ours=theirs,...` to a dict; numeric `theirs` (place from 1) as int; {} for None; else ParameterError."""
    pairs = split_pairs("--columns", text, "our name = theirs, as in ts=Date,close=Last or ts=1,close=5")
    return {ours: int(theirs) if theirs.isdecimal() else theirs for ours, theirs in pairs.items()}


def parse_date(name: str, text: str | None) -> dt.date | None:
    """Parse an ISO date; None for None; ParameterError, with the option's `name`, for other text."""
    if text is None:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise usage_error(f"--{name}: received {text!r}; valid: a date as YYYY-MM-DD") from error


def parse_instant(text: str | None) -> dt.datetime | None:
    """Parse an ISO 8601 instant, convert it to UTC; None for None; ParameterError for other text or without a zone."""
    return instant_of("--as-of", text)


UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_age(option: str, text: str) -> dt.timedelta:
    """Parse a whole number (up to 5 digits) and a unit s, m, h, d or w as a time span; ParameterError otherwise."""
    match = re.fullmatch(r"(\d{1,5})([smhdw])", text.strip())
    if match is None:
        raise usage_error(f"{option}: received {text!r}; valid: a number and s, m, h, d or w, as in 7d")
    return dt.timedelta(**{UNITS[match[2]]: int(match[1])})


def parse_share(name: str, text: str, of: str = "the rows") -> float:
    """Parse `1%` or `0.01` to a share (`of` what, for the message) from 0 to 1; ParameterError, with the option's `name`, for other text."""
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if rest or not 0 <= share <= 1:
        raise usage_error(f"--{name}: received {text!r}; valid: a share of {of}, as 1% or 0.01")
    return share


def parse_interval(text: str | None) -> Any:  # noqa: ANN401 - engine.interval.Interval or None
    """Parse an interval; None for None; IntervalError for text that is none."""
    from engine.interval import Interval

    return None if text is None else Interval.parse(text)


def parse_intervals(text: str) -> list[Any]:
    """Parse a comma-separated list of intervals, in order; [] for empty text."""
    return [parse_interval(word) for word in split_list(text)]


def override_options(base: Any, given: dict[str, Any]) -> Any:  # noqa: ANN401 - engine.sources.options.ReadOptions
    """Copy of `base` with the given values; None, () and {} were not given and do not override."""
    from dataclasses import replace

    return replace(base, **{name: value for name, value in given.items() if value not in (None, (), {})})
