"""Conditions of rules: a Boolean SQL expression over one table of an audit becomes a Polars expression.

1. Every word of the text must be a column of the table, a keyword of `KEYWORDS` or a function of `FUNCTIONS`. This is checked
   before anything is parsed: `pl.sql_expr` reads files while it parses a subquery.
2. `pl.sql_expr` parses the text. The expression is tried on one row of nulls, and must be one Boolean column.
3. Comparisons of a numeric column with a number (`quality < 99`) are also read as such (`ComparisonReader`): they give a
   finding its value and its message, and say which way is worse. A negated one is read as its opposite (`NOT quality >= 99`
   is `quality < 99`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from engine.arguments import similar_names
from engine.audit.audit_tables import FILES, GAPS, OUTAGES, QUALITY, SERIES
from engine.checks.findings import FINDINGS
from engine.errors import ParameterError
from engine.schema import Schema

FLOAT = pl.Float64()
# `seconds` is the length of a gap; `in_first` and `in_last` are its seconds within the first and the last hour of its label.
GAPS_OF_RULES: Schema = {**GAPS, "seconds": FLOAT, "in_first": FLOAT, "in_last": FLOAT}
TABLES: Mapping[str, Schema] = {
    "quality": QUALITY,
    "series": SERIES,
    "gaps": GAPS_OF_RULES,
    "outages": OUTAGES,
    "findings": FINDINGS,
    "files": FILES,
}
KEYWORDS = (
    "and",
    "or",
    "not",
    "in",
    "is",
    "null",
    "like",
    "ilike",
    "between",
    "true",
    "false",
    "case",
    "when",
    "then",
    "else",
    "end",
    "date",
)
FUNCTIONS = ("abs", "coalesce", "greatest", "least", "round", "lower", "upper", "length", "starts_with", "ends_with")
EDGE_MINUTES = 60  # default length of the first and the last part of a session
LONGEST_CONDITION = 1000  # characters: the parser recurses

_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<text>'(?:[^']|'')*')|"(?P<quoted>\w+)"|(?P<word>[A-Za-z_]\w*)|(?P<number>\d+(?:\.\d+)?)"""
    r"|(?P<sign><=|>=|<>|!=|==|[<>=+\-*/%(),])"
)
NEGATED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "=": "<>", "==": "!=", "<>": "=", "!=": "="}
_WHOLE = (None, "and", "or")  # what may stand before and after a comparison, or a group, that counts as it is


@dataclass(frozen=True)
class Comparison:
    """A numeric column, an operator and the number it is compared with."""

    column: str
    operator: str
    bound: float


@dataclass(frozen=True)
class Condition:
    """A Boolean SQL expression over a table of `TABLES`; rows for which it is true break the rule.

    Attributes
    ----------
    table : str
    text : str
        As it was written.
    sql : str
        With columns in quotes.
    comparisons : tuple of Comparison
        In the order of the text; negated ones as their opposites.
    """

    table: str
    text: str
    sql: str
    comparisons: tuple[Comparison, ...]

    @property
    def expression(self) -> pl.Expr:
        """The condition as a Polars expression over the columns of the table."""
        return pl.sql_expr(self.sql)

    @property
    def measured(self) -> str | None:
        """Column of the FIRST comparison with a number, whose value a finding reports; None without any."""
        return self.comparisons[0].column if self.comparisons else None

    @property
    def lower_is_worse(self) -> bool:
        """Whether the first comparison is `<` or `<=`; False without comparisons."""
        return bool(self.comparisons) and self.comparisons[0].operator in ("<", "<=")

    def reads(self, *columns: str) -> bool:
        """Whether the condition reads at least one of these columns."""
        return not set(columns).isdisjoint(self.expression.meta.root_names())

    def __str__(self) -> str:
        return f"{self.table} where {self.text}"


def parse_condition(text: str, table: str) -> Condition:
    """Parse a Boolean SQL condition; ParameterError for unknown words, bad SQL, another type; KeyError: unknown table.

    Raises
    ------
    ParameterError
        A word is no column, keyword or function (the message has the nearest one), the text is no SQL expression, or its
        result is not Boolean.
    """
    sql = quote_columns(text, TABLES[table])
    try:
        # One row of nulls, not none: types are only compared where there is a row.
        tried = pl.DataFrame(schema=dict(TABLES[table])).clear(1).select(pl.sql_expr(sql).alias("broken"))
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n", 1)[0]
        raise ParameterError(
            f"{reason}; valid: a Boolean SQL expression such as quality < 99 AND missing > 5"
        ) from error
    if tried.schema["broken"] != pl.Boolean:
        raise ParameterError(
            f"is {tried.schema['broken']}, not Boolean; valid: a comparison such as quality < 99 AND missing > 5"
        )
    numeric = frozenset(name for name, dtype in TABLES[table].items() if dtype.is_numeric())
    return Condition(table, text.strip(), sql, tuple(ComparisonReader(sql, numeric).comparisons))


class ComparisonReader:
    """Reads the comparisons of a valid condition that make it true: those under an odd number of negations as opposites.

    Left out are comparisons that are a part of arithmetic, of a function's arguments or of another comparison
    (`(quality < 99) = false`), and those in a CASE whose THEN is neither `true` nor `false`.

    Parameters
    ----------
    sql : str
        With columns in quotes.
    numeric : frozenset of str
        Columns whose comparisons are read.
    """

    def __init__(self, sql: str, numeric: frozenset[str]) -> None:
        found = [match for match in _TOKEN.finditer(sql) if not match["space"]]
        self._tokens = [match[0].lower() if match["word"] else match[0] for match in found]
        self._columns = [match["quoted"] if match["quoted"] in numeric else None for match in found]
        self._closing: dict[int, int] = {}
        opened: list[int] = []
        for at, token in enumerate(self._tokens):
            if token in ("(", "case"):
                opened.append(at)
            elif token in (")", "end") and opened:
                self._closing[opened.pop()] = at
        # The parser takes a last word for the name of the result, also `case`.
        self._closing |= dict.fromkeys(opened, len(self._tokens))
        self.comparisons: list[Comparison] = []
        self._read(0, len(self._tokens), 1)

    def _read(self, first: int, last: int, sense: int) -> None:
        """Read a Boolean expression; `sense` 1: it makes the condition true, -1: its negation does, 0: not known."""
        at, own = first, sense  # NOT reaches to the next AND or OR
        while at < last:
            word = self._tokens[at]
            begins = at == first or self._tokens[at - 1] in ("and", "or", "not")
            if word in ("and", "or"):
                own = sense
            elif word == "not":
                own = -own
            elif word in ("(", "case"):
                end = self._closing[at]
                is_whole = begins and self._next(end + 1, last) in _WHOLE
                (self._read if word == "(" else self._read_case)(at + 1, end, own if is_whole else 0)
                at = end
            elif begins and own and self._columns[at] is not None:
                self._read_comparison(at, last, own)
            at += 1

    def _read_case(self, first: int, last: int, sense: int) -> None:
        """Read the conditions and results of a CASE: a condition in the sense of its THEN, if that is true or false."""
        marks, at = [], first
        while at < last:
            if self._tokens[at] in ("when", "then", "else"):
                marks.append(at)
            at = self._closing.get(at, at) + 1
        if not marks:
            return
        is_simple = marks[0] != first  # CASE value WHEN ...
        for mark, end in zip(marks, [*marks[1:], last], strict=True):
            result = tuple(self._tokens[end + 1 : end + 3]) if self._tokens[mark] == "when" else ()
            known = {"true": sense, "false": -sense}.get(result[0], 0) if result else sense
            ends = len(result) < 2 or result[1] in ("when", "else", "end")  # noqa: PLR2004
            self._read(mark + 1, end, known if ends and not is_simple else 0)

    def _read_comparison(self, at: int, last: int, sense: int) -> None:
        """Add the comparison at this place, of a column with a number, if it is all; `sense` -1: its opposite."""
        sign = self._next(at + 1, last)
        negative = self._next(at + 2, last) == "-"
        number = at + 2 + negative
        bound = self._next(number, last) or ""
        if sign in NEGATED and bound[:1].isdigit() and self._next(number + 1, last) in _WHOLE:
            column, value = self._columns[at] or "", -float(bound) if negative else float(bound)
            self.comparisons.append(Comparison(column, sign if sense > 0 else NEGATED[sign], value))

    def _next(self, at: int, last: int) -> str | None:
        """The token at this place; None at the end of the expression."""
        return self._tokens[at] if at < last else None


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the most similar valid word (ratio >= 0.5), else an empty text."""
    similar = similar_names(word, valid)
    return f" (did you mean {similar[0]!r}?)" if similar else ""


def quote_columns(text: str, columns: Mapping[str, pl.DataType]) -> str:
    """Return the text with columns quoted; ParameterError for unknown words or signs, or more than 1000 characters."""
    # Quoted, `interval` and `position` are columns, and no keywords of SQL.
    if len(text) > LONGEST_CONDITION:
        raise ParameterError(f"has {len(text)} characters; valid: at most {LONGEST_CONDITION}")
    parts, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ParameterError(f"received {text[at : at + 20]!r}; valid: columns, numbers, 'text' and SQL operators")
        word = match["quoted"] or match["word"]
        if word in columns:
            parts.append(f'"{word}"')
        elif word is None or (match["word"] and word.lower() in (*KEYWORDS, *FUNCTIONS)):
            parts.append(match[0])
        else:
            known = [*columns, *FUNCTIONS]
            raise ParameterError(
                f"received {word!r}{nearest(word, known)}; valid: {', '.join(columns)}; functions {', '.join(FUNCTIONS)}"
            )
        at = match.end()
    return "".join(parts)


# ---------------------------------------------------------------------------- the form of earlier versions

_UNITS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_OLD_GAP = re.compile(
    r"gap\s*(<=|>=|==|!=|<|>)\s*([0-9.]+)\s*([a-z]+?)s?(?:\s+in\s+(first|last)(?:\s+([0-9.]+))?\s+([a-z]+?)s?)?"
)


def replaced_check(check: str, per: str = "session") -> str | None:
    """Translate a `check` of earlier versions to TOML (`table`, `where`, `edge_minutes`); None if it does not parse."""
    text, edge = " ".join(check.split()), ""
    if text.startswith("finding "):
        pattern = text.removeprefix("finding ").replace("'", "''").replace("*", "%").replace("?", "_")
        table, where = "findings", f"check_name LIKE '{pattern}'"
    elif text == "file unreadable":
        table, where = "files", "problem IS NOT NULL"
    elif gap := _OLD_GAP.fullmatch(text):
        sign, size, unit, side, count, window = gap.groups()
        if unit not in ("bar", "slot", *_UNITS) or (window or "s") not in _UNITS:
            return None
        column = "bar_count" if unit in ("bar", "slot") else f"in_{side}" if side else "seconds"
        table, where = "gaps", f"{column} {sign} {float(size) * _UNITS.get(unit, 1):g}"
        # A gap outside of the window has no second in it, and broke no rule.
        where += f" AND {column} > 0" if side and sign not in (">", ">=") else ""
        minutes = float(count or 1) * _UNITS[window] / 60 if side else EDGE_MINUTES
        edge = f"\nedge_minutes = {minutes:g}" if minutes != EDGE_MINUTES else ""
    else:
        table, where = (
            {"series": "series", "outage": "outages"}.get(per, "quality"),
            re.sub(r"\s*%", "", text).replace("==", "="),
        )
    try:
        parse_condition(where, table)
    except ParameterError:
        return None
    return f'table = "{table}"\nwhere = "{where}"{edge}'
