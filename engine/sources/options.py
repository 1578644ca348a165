"""Options of reading; every one is optional, and wins over what is inferred."""

from __future__ import annotations

import datetime as dt
import functools
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from engine.arguments import check_type, describe_value, did_you_mean, names_of, path_of, zone_name
from engine.errors import ParameterError, SourceError
from engine.grid import Align, Stamp
from engine.interval import Interval
from engine.schema import PRICE_TYPES, Rules
from engine.sources.formats.registry import format_names
from engine.sources.layouts.registry import layout_named
from engine.toml_text import parse_toml, read_regular_text

FOLDER = "folder"  # of `symbol_from`: the folder's name is the symbol
TEMPLATE_FIELD = r"\{[^{}]*\}"
TEMPLATE_FIELDS = ("symbol", "date", "interval", "price_type")
UNIT_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
GIB = 1024**3
SHIFT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
LONGEST_SHIFT = 366 * 86_400
MOST_SKIPPED = 1_000_000_000
MOST_DIGITS = 38  # of a decimal of 16 bytes
THOUSANDS = (",", ".", " ", "'", "\u2019", "_")

NO_DELIMITERS = frozenset(string.ascii_letters + string.digits + '"\r\n')


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading files: format, time, columns, symbol, limits.

    Attributes
    ----------
    format : str
        Name of a registered format (`csv`, `json`, `parquet` ...; `engine.sources.formats`), whatever the content looks like.
    layout : str
        Name of a vendor's layout (`kibot`; `engine layouts` lists them), where nothing in the files tells the vendor.
    timezone : str
        Zone of stamps that carry none: an IANA name or a fixed offset (`UTC-05`).
    stamp, align : str
        What a bar's stamp marks (`start`, `end`, `end-inclusive`) and where bars begin (`session`, `clock`, `date`).
    shift : str
        What is added to every stamp of ticks, quotes and bars below a day, after its zone: `-5h`, `1m`, `-90s`, `5h30m`.
    unit : str
        Of stamps written as numbers since 1970: `s`, `ms`, `us` or `ns`.
    time_format : str
        Of stamps written as text, as `strftime` has it.
    delimiter, header
        Of delimited text; found out by default.
    skip_rows : int
        Lines at the top of delimited text that are neither header nor rows.
    decimal, thousands : str
        Marks in numbers written as text: `.` or `,`; and between thousands `,`, `.`, a blank, `'` or `_` (default: none).
    null : tuple of str
        Cells that mean none: `-1`, `N/A`.
    ignore : tuple of str
        Columns that are left out, as the file names them.
    columns : mapping of str to str or int
        Our name of a column to the file's name of it, or to its place, counted from 1.
    symbol, interval
        Of all rows, whatever their columns and the file's name say.
    price_type : str
        Of bars without a column of it, whatever the file's name says.
    symbols, price_types : str or sequence of str
        Keep only these (a text is one name, None means all); a root (`ES`) keeps all its contracts.
    symbol_from : str
        Where paths have the symbol: `folder`, or a template of a path's end (`{symbol}/{date}.csv`; `*` is any text).
        Its fields are `symbol`, `date`, `interval` and `price_type`; without `{symbol}` the paths tell none.
    allow_non_positive : bool
        Prices of zero and below are real.
    scale : int
        Decimal digits of integers in fixed-size binary cells (default: 18 in 16 bytes, 9 in 8 bytes).
    max_bytes, max_ratio, max_members : int
        Refuse archives that hold more uncompressed bytes, shrink by more, or have more members.
    """

    format: str | None = None
    layout: str | None = None
    timezone: str | None = None
    stamp: Stamp | None = None
    align: Align | None = None
    shift: str | None = None
    unit: str | None = None
    time_format: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    skip_rows: int = 0
    decimal: str = "."
    thousands: str | None = None
    null: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    columns: Mapping[str, str | int] = field(default_factory=dict)
    symbol: str | None = None
    symbol_from: str | None = None
    price_type: str | None = None
    interval: Interval | None = None
    symbols: tuple[str, ...] | None = None
    price_types: tuple[str, ...] | None = None
    allow_non_positive: bool = False
    scale: int | None = None
    max_bytes: int = 4 * GIB
    max_ratio: int = 200
    max_members: int = 50_000

    def __post_init__(self) -> None:
        if isinstance(self.delimiter, str) and not is_delimiter(self.delimiter):
            raise ParameterError(
                f"delimiter: received {self.delimiter!r}; valid: one ASCII character, no letter, digit, quote or line end"
            )
        check_types(self)
        checks: tuple[tuple[str | None, Callable[[str], object]], ...] = (
            (self.format, lambda name: check_choice("format", name, format_names())),
            (self.layout, layout_named),
            (self.symbol_from, check_template),
        )
        for value, check in checks:
            if value is not None:
                check(value)
        check_choice("stamp", self.stamp, get_args(Stamp))
        check_choice("align", self.align, get_args(Align))
        parse_shift(self.shift)
        check_choice("unit", self.unit, tuple(UNIT_NS))
        for name in ("null", "ignore"):
            set_frozen(self, **{name: names_of(name, getattr(self, name), least=0) or ()})
        for name in ("symbols", "price_types"):
            set_frozen(self, **{name: names_of(name, getattr(self, name))})
        for price_type in (self.price_type, *(self.price_types or ())):
            check_choice("price_type", price_type, PRICE_TYPES)
        check_cells(self)
        if self.timezone is not None:
            set_frozen(self, timezone=zone_name(self.timezone))
        if self.interval is not None:
            set_frozen(self, interval=Interval.parse(self.interval))

    @classmethod
    def from_toml(cls, path: Path | str) -> ReadOptions:
        """Options from TOML with attribute names as keys; SourceError if unreadable, ParameterError if not valid.

        Raises
        ------
        SourceError
            The file cannot be read, or is not TOML.
        ParameterError
            A key is unknown, or a value is not valid.
        """
        try:
            given = parse_toml(read_regular_text(path_of("path", path)))
        except (OSError, ValueError) as error:
            raise SourceError(path, f"no options could be read: {error}") from error
        known = [option.name for option in fields(cls)]
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ParameterError(f"{path}: unknown option {', '.join(unknown)}; valid: {', '.join(known)}")
        return cls(**given)

    @property
    def rules(self) -> Rules:
        """Rules for `schema.conform`: only `allow_non_positive`, whether prices of zero and below are valid."""
        return Rules(allow_non_positive=self.allow_non_positive)

    @property
    def offset(self) -> dt.timedelta:
        """What is added to every stamp: `shift` as a duration, zero without one."""
        return parse_shift(self.shift)

    def selects(self, symbol: str) -> bool:
        """Whether `symbols` is None or has this symbol, its part before `@`, or its root (`ES` of `ES.201312`)."""
        if not self.symbols:
            return True
        plain = symbol.split("@", maxsplit=1)[0]
        return any(s in (plain, symbol) or plain.startswith(f"{s}.") for s in self.symbols)


def parse_shift(text: str | None) -> dt.timedelta:
    """Duration of a `shift` such as `-5h` or `5h30m`, zero of None; ParameterError for other text, or 366 days and more."""
    if text is None:
        return dt.timedelta()
    match = re.fullmatch(r"([+-]?)((?:\d{1,9}(?:\.\d{1,6})?[dhms])+)", text)
    parts = re.findall(r"([\d.]+)([dhms])", match[2]) if match else []
    seconds = sum(float(number) * SHIFT_SECONDS[unit] for number, unit in parts)
    if match is None or seconds > LONGEST_SHIFT:
        raise ParameterError(f"shift: received {text!r}; valid: a duration up to a year, such as -5h, 1m or 5h30m")
    return dt.timedelta(seconds=-seconds if match[1] == "-" else seconds)


def is_delimiter(text: str) -> bool:
    """Whether text is one ASCII character that can stand between cells: no letter, digit, quote or line end."""
    return len(text) == 1 and text.isascii() and text not in NO_DELIMITERS


def check_types(options: ReadOptions) -> None:
    """ParameterError for an empty text or another type than the field's; names and intervals are checked elsewhere."""
    for name, hint in _value_types().items():
        value = getattr(options, name)
        check_type(name, value, hint)
        if value == "":
            raise ParameterError(f"{name}: received ''; valid: text")
    for ours, theirs in options.columns.items():
        if not isinstance(ours, str) or not isinstance(theirs, str | int) or isinstance(theirs, bool):
            raise ParameterError(
                f"columns: received {describe_value(theirs)} for {ours!r}; valid: a column's name, or its place from 1"
            )


@functools.cache
def _value_types() -> dict[str, Any]:
    """Union of the classes of a value per field of ReadOptions, but for those that are read by a rule of their own."""
    found = {}
    for name, hint in get_type_hints(ReadOptions).items():
        parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        classes = tuple(str if get_origin(part) is Literal else get_origin(part) or part for part in parts)
        if name != "timezone" and not {tuple, Interval} & set(classes):
            found[name] = Union[classes]  # noqa: UP007 - of a tuple
    return found


def read_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ReadOptions among a call's arguments that were given (not None); but `interval` and `align`."""
    own = [one.name for one in fields(ReadOptions) if one.name not in ("interval", "align")]
    return {name: arguments[name] for name in own if arguments.get(name) is not None}


def check_cells(options: ReadOptions) -> None:
    """ParameterError for a number out of range, marks in numbers that are not known, or equal ones."""
    for name, most in (("skip_rows", MOST_SKIPPED), ("scale", MOST_DIGITS)):
        value = getattr(options, name)
        if value is not None and not 0 <= value <= most:
            raise ParameterError(f"{name}: received {value}; valid: 0 to {most:,}")
    for name in ("max_bytes", "max_ratio", "max_members"):
        if getattr(options, name) < 1:
            raise ParameterError(f"{name}: received {getattr(options, name)}; valid: 1 or more")
    check_choice("decimal", options.decimal, (".", ","))
    check_choice("thousands", options.thousands, tuple(mark for mark in THOUSANDS if mark != options.decimal))


def check_template(template: str) -> None:
    """ParameterError when `symbol_from` is neither `folder` nor a template whose fields are known, each once.

    Raises
    ------
    ParameterError
        A field is unknown or stands twice, or there is neither a field nor `*`.
    """
    found = [field[1:-1] for field in re.findall(TEMPLATE_FIELD, template)]
    if template == FOLDER or (
        (found or "*" in template) and len({*found}) == len(found) and {*found} <= {*TEMPLATE_FIELDS}
    ):
        return
    listed = ", ".join(f"{{{field}}}" for field in TEMPLATE_FIELDS)
    raise ParameterError(
        f"symbol_from: received {template!r}; valid: folder, or the end of the paths with {listed}, each once, and * for "
        "any text, such as '{symbol}/{date}.csv'"
    )


def check_choice(name: str, value: str | None, valid: Sequence[str]) -> None:
    """ParameterError when the value is neither None nor in `valid`; it names the nearest; returns nothing."""
    if value is not None and value not in valid:
        near = did_you_mean(value, valid) if isinstance(value, str) else ""
        raise ParameterError(f"{name}: received {value!r}{near}; valid: {', '.join(valid)}")


def set_frozen(options: ReadOptions, **values: Any) -> None:  # noqa: ANN401
    """Set attributes of a frozen options object in place, bypassing the freeze; values are not checked."""
    for name, value in values.items():
        object.__setattr__(options, name, value)
