"""The language of rules: the text of a check becomes a value, and that an expression or a filter over an audit's tables.

    check      = comparison { "and" comparison } | gap | finding | file
    comparison = column operator number [ "%" ]          quality < 99, missing >= 5 and explained == 0
    gap        = "gap" operator length [ "in" window ]   gap > 5 min, gap >= 20 bars, gap > 90 s in last 30 min
    window     = ( "first" | "last" ) [ number ] unit    first hour, last 30 min
    length     = number ( unit | "bars" )
    finding    = "finding" pattern                       finding zone, finding stale*
    file       = "file" "unreadable"
    operator   = < | <= | > | >= | == | !=

Nothing is evaluated: what is no check is refused with the nearest word that would be.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from engine.audit.audit_tables import OUTAGES, QUALITY, SERIES
from engine.errors import ParameterError
from engine.schema import Schema

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
}
BARS = ("bar", "bars", "slot", "slots")
PER: Mapping[str, Schema] = {"session": QUALITY, "series": SERIES, "outage": OUTAGES}
US_PER_SECOND = 1_000_000

_TOKEN = re.compile(r"\s*(?:(?P<number>[0-9]+(?:\.[0-9]+)?)|(?P<op><=|>=|==|!=|<|>)|(?P<word>[A-Za-z_]+)|(?P<sign>%))")


@dataclass(frozen=True)
class Comparison:
    """A column of a table against a number: true where the rule is broken."""

    column: str
    operator: str
    bound: float

    @property
    def expression(self) -> pl.Expr:
        """True, false, or null where the column is."""
        broken: pl.Expr = OPERATORS[self.operator](pl.col(self.column), self.bound)
        return broken

    def __str__(self) -> str:
        return f"{self.column} {self.operator} {self.bound:g}"


@dataclass(frozen=True)
class TableCheck:
    """Comparisons that must all hold of one row; the first says what is measured."""

    comparisons: tuple[Comparison, ...]

    @property
    def lower_is_worse(self) -> bool:
        """Whether a smaller measured value is a worse one."""
        return self.comparisons[0].operator in ("<", "<=")

    def __str__(self) -> str:
        return " and ".join(map(str, self.comparisons))


@dataclass(frozen=True)
class Window:
    """The first or the last seconds of a session."""

    edge: str
    seconds: int

    def __str__(self) -> str:
        return f"{self.edge} {_shown(self.seconds)}"


@dataclass(frozen=True)
class GapCheck:
    """The length of a gap, in seconds or in bars; with a window, of the part of it that lies there."""

    operator: str
    length: float
    in_bars: bool
    window: Window | None

    def holds(self, measured: pl.Expr) -> pl.Expr:
        """Whether a measured length (seconds or bars) breaks the rule."""
        broken: pl.Expr = OPERATORS[self.operator](measured, self.length)
        return broken

    def __str__(self) -> str:
        length = f"{self.length:g} bars" if self.in_bars else _shown(self.length)
        return f"gap {self.operator} {length}{f' in {self.window}' if self.window else ''}"


@dataclass(frozen=True)
class FindingCheck:
    """Findings of built-in checks, by a shell pattern on the check's name."""

    pattern: str

    def __str__(self) -> str:
        return f"finding {self.pattern}"


@dataclass(frozen=True)
class FileCheck:
    """Files that could not be read."""

    def __str__(self) -> str:
        return "file unreadable"


Check = TableCheck | GapCheck | FindingCheck | FileCheck


def parse_check(text: str, per: str = "session") -> Check:
    """Read a check.

    Parameters
    ----------
    text : str
        As the grammar above.
    per : {"session", "series", "outage"}
        Of which table the columns of a comparison are.

    Raises
    ------
    ParameterError
        The text is none; the message names the word, and the nearest that is valid.
    """
    first, _, rest = text.strip().partition(" ")
    if first == "finding":
        return FindingCheck(_pattern(rest.strip()))
    if text.split() == ["file", "unreadable"]:
        return FileCheck()
    tokens = _Tokens(text)
    check = _gap(tokens) if tokens.peek() == "gap" else _table(tokens, per)
    tokens.end()
    return check


def nearest(word: str, valid: Iterable[str]) -> str:
    """`did you mean`, when a valid word is near."""
    near = difflib.get_close_matches(word, list(valid), 1, 0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def numbers(per: str) -> list[str]:
    """Columns of a table that can be compared with a number."""
    return [name for name, dtype in PER[per].items() if dtype.is_numeric()]


class _Tokens:
    def __init__(self, text: str) -> None:
        self._found: list[tuple[str, str]] = []
        self._next = 0
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise ParameterError(
                    f"received {text[at:].strip()[:20]!r}; valid: words, numbers, {', '.join(OPERATORS)}"
                )
            self._found.append((str(match.lastgroup), match[str(match.lastgroup)]))
            at = match.end()

    def peek(self) -> str:
        return self._found[self._next][1] if self._next < len(self._found) else ""

    def take(self, kind: str, valid: str) -> str:
        if self._next == len(self._found):
            raise ParameterError(f"ends too early; valid here: {valid}")
        found, text = self._found[self._next]
        if found != kind:
            raise ParameterError(f"received {text!r}; valid here: {valid}")
        self._next += 1
        return text

    def skip(self, *words: str) -> bool:
        if self.peek() not in words:
            return False
        self._next += 1
        return True

    def end(self) -> None:
        if self.peek():
            raise ParameterError(f"received {self.peek()!r} after the check; valid here: nothing more")


def _table(tokens: _Tokens, per: str) -> TableCheck:
    found = [_comparison(tokens, per)]
    while tokens.skip("and"):
        found.append(_comparison(tokens, per))
    return TableCheck(tuple(found))


def _comparison(tokens: _Tokens, per: str) -> Comparison:
    columns = numbers(per)
    column = tokens.take("word", "a column")
    if column not in columns:
        known = [*columns, "gap", "finding", "file"]
        raise ParameterError(f"received {column!r}{nearest(column, known)}; valid per {per}: {', '.join(known)}")
    sign = _operator(tokens)
    bound = float(tokens.take("number", "a number"))
    if tokens.skip("%") and not column.startswith("quality"):
        raise ParameterError(f"received % after {column}, which is no share; valid: a number alone")
    return Comparison(column, sign, bound)


def _gap(tokens: _Tokens) -> GapCheck:
    tokens.skip("gap")
    sign = _operator(tokens)
    length = float(tokens.take("number", "a length such as 5 min or 10 bars"))
    unit = tokens.take("word", "a unit: s, min, hour or bars")
    window = _window(tokens) if tokens.skip("in") else None
    if unit in BARS:
        if window is not None:
            raise ParameterError(f"received {unit!r} in a window; valid there: a length of time such as 5 min")
        return GapCheck(sign, length, in_bars=True, window=None)
    return GapCheck(sign, length * _unit(unit, BARS), in_bars=False, window=window)


def _window(tokens: _Tokens) -> Window:
    edge = tokens.take("word", "first or last")
    if edge not in ("first", "last"):
        raise ParameterError(f"received {edge!r}{nearest(edge, ('first', 'last'))}; valid here: first or last")
    count = float(tokens.take("number", "")) if tokens.peek()[:1].isdecimal() else 1.0
    seconds = count * _unit(tokens.take("word", "a unit: s, min or hour"))
    if seconds <= 0:
        raise ParameterError("received a window of no length; valid: first hour, last 30 min")
    return Window(edge, round(seconds))


def _operator(tokens: _Tokens) -> str:
    return tokens.take("op", " ".join(OPERATORS))


def _unit(word: str, others: tuple[str, ...] = ()) -> int:
    if word not in SECONDS:
        known = [*SECONDS, *others]
        raise ParameterError(f"received {word!r}{nearest(word, known)}; valid units: {', '.join(known)}")
    return SECONDS[word]


def _pattern(word: str) -> str:
    if not word:
        raise ParameterError("finding: no name; valid: the name of a check, or a shell pattern such as stale*")
    return word


def _shown(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
