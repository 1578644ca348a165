"""The rules by which public calls read names, dates, zones and paths: text is one name, a list is several, None is all.

An argument that cannot be read, or names what is not there, raises a `ParameterError` with the parameter, what was
received, and the valid form or the nearest valid name.
"""

from __future__ import annotations

import collections.abc
import datetime as dt
import difflib
import functools
import inspect
import os
import re
import sys
import zoneinfo
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeAlias, TypeVar, Union, cast, get_args, get_origin

from engine.errors import ParameterError, SchemaError
from engine.storage import ObjectPath
from engine.urls import OR_STORE, SCHEMES, refuse_url, scheme_of, url_of

CallT = TypeVar("CallT", bound=Callable[..., Any])
Names: TypeAlias = str | Iterable[str]
Day: TypeAlias = dt.date | str | None
Instant: TypeAlias = dt.datetime | str | None

SYNONYMS: Mapping[str, str] = {
    **dict.fromkeys(("tz", "time_zone", "zone", "tzinfo"), "timezone"),
    **dict.fromkeys(("sep", "separator"), "delimiter"),
    **dict.fromkeys(("freq", "frequency", "timeframe", "resolution", "bar_size"), "interval"),
    **dict.fromkeys(("ticker", "name"), "symbol"),
    **dict.fromkeys(("tickers", "instruments"), "symbols"),
    **dict.fromkeys(("start_date", "from_date", "since"), "start"),
    **dict.fromkeys(("end_date", "to_date", "until"), "end"),
    **dict.fromkeys(("label", "closed"), "stamp"),
    **dict.fromkeys(("date_format", "datetime_format"), "time_format"),
    **dict.fromkeys(("rename", "mapping", "usecols"), "columns"),
    **dict.fromkeys(("intervals", "derived"), "derive"),
}  # what other libraries call an argument
ZONES = "an IANA name (America/New_York, UTC) or whole hours (UTC-05)"
_FIXED_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?00)?")
NAMES_SHOWN = 10
LONGEST_SHOWN = 40


def names_of(parameter: str, value: Names | None, least: int = 1) -> tuple[str, ...] | None:
    """Text as one name, a list, tuple, set (sorted) or series as several, None as None; ParameterError for the rest.

    Parameters
    ----------
    parameter : str
        What the error calls it.
    value : str, iterable of str or None
    least : int
        With 1 an empty list is refused: it would select nothing, or by mistake everything. 0 where it is a valid value.

    Raises
    ------
    ParameterError
        No text and no list of texts, an empty text, or fewer names than `least`.
    """
    if value is None:
        return None
    if isinstance(value, str):
        names: tuple[object, ...] = (value,)
    elif isinstance(value, Iterable) and not isinstance(value, Mapping | bytes | bytearray):
        names = tuple(value)
    else:
        raise _no_names(parameter, value, least)
    texts = tuple(name for name in names if isinstance(name, str) and name)
    if len(texts) < len(names) or len(texts) < least:
        raise _no_names(parameter, value, least)
    return tuple(sorted(texts)) if isinstance(value, set | frozenset) else texts


def _no_names(parameter: str, value: object, least: int) -> ParameterError:
    """Build (not raise) the error for a value that is no name and no list of names."""
    whole = "None for all" if least else "an empty list"
    return ParameterError(
        f"{parameter}: received {describe_value(value)}; valid: one name as text, several in a list, or {whole}"
    )


def one_name(parameter: str, value: object) -> str:
    """The text itself; ParameterError for anything else, a list of one name too, and for empty text."""
    if isinstance(value, str) and value:
        return value
    raise ParameterError(f"{parameter}: received {describe_value(value)}; valid: one name as text")


def check_known(
    parameter: str,
    names: Iterable[str],
    known: Collection[str],
    error: type[ParameterError] = ParameterError,
    more: str = "",
) -> None:
    """Raise `error` where a name is not known, with the nearest known name, up to 10 of the known ones, and `more`."""
    valid = known if isinstance(known, set | frozenset | Mapping) else set(known)
    unknown = [name for name in names if name not in valid]
    if unknown:
        near = did_you_mean(unknown[0], valid, 3)
        raise error(
            f"{parameter}: received {', '.join(map(repr, unknown))}{near}; there are {list_names(sorted(valid))}{more}"
        )


def did_you_mean(word: str, known: Iterable[str], count: int = 1) -> str:
    """Text ` (did you mean X, Y?)` with up to `count` similar known names, ignoring case; "" when none is similar."""
    close = similar_names(word, known, count)
    return f" (did you mean {', '.join(close)}?)" if close else ""


def similar_names(word: str, known: Iterable[str], count: int = 1) -> list[str]:
    """Up to `count` known names like `word`, ignoring case (difflib's ratio 0.5 or more), the most similar first."""
    folded = {name.casefold(): name for name in known}
    return [folded[name] for name in difflib.get_close_matches(word.casefold(), folded, count, 0.5)]


def list_names(names: Iterable[str], most: int = NAMES_SHOWN) -> str:
    """The first `most` names, quoted, cut at 40 characters, and the number of others; no name: `none`."""
    shown = [repr(name) if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]!r}..." for name in names]
    return (
        ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "") if shown else "none"
    )


def describe_value(value: object) -> str:
    """The value as a message shows it: `repr`, or only the type's name where that is long or has several lines."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN and "\n" not in text else f"a {type(value).__name__}"


def date_of(parameter: str, value: Day) -> dt.date | None:
    """Date of ISO text, a date, or a datetime at midnight without a zone; None for None; else ParameterError.

    Raises
    ------
    ParameterError
        Text that is no ISO date, an instant (a trade date is no instant), or another type.
    """
    if isinstance(value, str):
        try:
            return dt.date.fromisoformat(value)
        except ValueError as error:
            raise ParameterError(f"{parameter}: received {value!r}; valid: a date such as 2024-11-18") from error
    if isinstance(value, dt.datetime):
        if value.tzinfo is None and value.time() == dt.time():
            return value.date()
    elif value is None or isinstance(value, dt.date):
        return value
    raise ParameterError(
        f"{parameter}: received {describe_value(value)}; valid: a trade date, as datetime.date or as text (2024-11-18)"
    )


def required_date(parameter: str, value: dt.date | str) -> dt.date:
    """Date as `date_of` reads it; ParameterError for None too."""
    found = date_of(parameter, value)
    if found is None:
        raise ParameterError(f"{parameter}: received None; valid: a date such as 2024-11-18")
    return found


def instant_of(parameter: str, value: Instant) -> dt.datetime | None:
    """Aware datetime of itself or of ISO 8601 text with a zone (then in UTC); None for None; else ParameterError.

    Raises
    ------
    ParameterError
        No instant, or one without a zone.
    """
    instant: object = value
    if isinstance(value, str):
        try:
            read = dt.datetime.fromisoformat(value)
            instant = read if read.tzinfo is None else read.astimezone(dt.UTC)
        except (ValueError, OverflowError):
            instant = None
    if value is None or (isinstance(instant, dt.datetime) and instant.tzinfo is not None):
        return instant  # type: ignore[return-value] # None, or an aware datetime
    zoneless = ", which has no zone" if isinstance(instant, dt.datetime) else ""
    raise ParameterError(
        f"{parameter}: received {describe_value(value)}{zoneless}; valid: 2024-01-02T15:30:00+00:00, or an aware datetime"
    )


def refuse_unknown(call: str, unknown: Collection[str], valid: Collection[str]) -> None:
    """Raise ParameterError where a call was given an option that it does not have, with the one that is meant."""
    for name in unknown:
        meant = SYNONYMS.get(name)
        near = f" (did you mean {meant}?)" if meant in valid else did_you_mean(name, valid)
        options = sorted(set(valid) - {"unknown", "sources"})
        raise ParameterError(f"{name}: {call} has no such option{near}; valid: {', '.join(options)}")


def zone_name(zone: str | dt.tzinfo) -> str:
    """The IANA name itself, or `Etc/GMT+5` for a whole-hour offset `UTC-05`; ParameterError for an unknown zone.

    Raises
    ------
    ParameterError
        There is no such zone.
    """
    if not isinstance(zone, str | dt.tzinfo):
        raise ParameterError(f"timezone: received {describe_value(zone)}; valid: {ZONES}")
    text = zone if isinstance(zone, str) else name_of_tzinfo(zone)
    fixed = _FIXED_OFFSET.fullmatch(text.strip())
    if fixed is not None:
        hours = int(fixed[2])
        # The names of this family have their signs the other way round.
        text = f"Etc/GMT{'-' if fixed[1] == '+' else '+'}{hours}" if hours else "UTC"
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ParameterError(f"timezone: received {text!r}; valid: {ZONES}") from error
    return text


def name_of_tzinfo(zone: dt.tzinfo) -> str:
    """Name of a zone object (`zoneinfo`, pytz, dateutil's UTC, `datetime.timezone`) that `zone_name` can read."""
    return str(getattr(zone, "key", None) or getattr(zone, "zone", None) or zone.tzname(None) or zone)


def refuse_foreign_folder(parameter: str, folder: Path) -> None:
    """ParameterError where the folder exists and belongs to another user, whose files would be taken for own work."""
    if folder.exists() and folder.stat().st_uid != os.geteuid():
        raise ParameterError(
            f"{parameter}: {folder} belongs to another user (uid {folder.stat().st_uid}); valid: a folder of your own"
        )


def path_of(parameter: str, value: object) -> Path:
    """Path of text or of a path object; ParameterError for a URL, anything else (a frame), and empty text."""
    refuse_url(parameter, value)
    if isinstance(value, str | os.PathLike) and str(value):
        return Path(value)
    raise ParameterError(f"{parameter}: received {describe_value(value)}; valid: a path, as text or pathlib.Path")


def location_of(parameter: str, value: object) -> Path:
    """Path of text or of a path object, an `ObjectPath` of a URL of an object store; ParameterError for the rest.

    Raises
    ------
    ParameterError
        A URL of another scheme, or of no bucket; no path at all.
    """
    if isinstance(value, ObjectPath):
        return value
    url = url_of(value) if isinstance(value, str | os.PathLike) else None
    if url is None or scheme_of(url) not in SCHEMES:
        refuse_url(parameter, value, also=OR_STORE)
        return path_of(parameter, value)
    if not url.partition("://")[2].partition("/")[0]:
        raise ParameterError(f"{parameter}: received {url!r}, which names no bucket; valid: s3://bucket/prefix")
    return ObjectPath(url)


def check_arguments(*names: str) -> Callable[[CallT], CallT]:
    """Decorator of a public call: ParameterError if an argument of these names has no type of its annotation.

    What Polars raises of frames with other columns or types is a SchemaError with their columns. Arguments that a rule
    of their own reads (names, dates, paths, intervals) are left to it.
    """

    def decorate(call: CallT) -> CallT:
        signature = inspect.signature(call)
        hints = functools.cache(lambda: {name: _hint_of(call, name, call.__globals__) for name in names})

        @functools.wraps(call)
        def checked(*values: Any, **named: Any) -> Any:  # noqa: ANN401 - whatever the call takes and returns
            given = signature.bind(*values, **named).arguments
            for name, hint in hints().items():
                if name in given:
                    check_type(name, given[name], hint)
            try:
                return call(*values, **named)
            except Exception as error:
                frames = [f"{name} ({', '.join(value.columns)})" for name, value in given.items() if _is_table(value)]
                if not frames or not type(error).__module__.startswith("polars"):
                    raise
                cause = str(error).partition("\n")[0]
                raise SchemaError(f"{call.__name__}: {cause}; received {' and '.join(frames)}") from error

        return cast("CallT", checked)

    return decorate


def check_fields(value: object, *names: str) -> None:
    """ParameterError unless these fields of a dataclass have the types of their annotations."""
    kind: Any = type(value)
    for name, hint in _field_hints(kind, names).items():
        check_type(name, getattr(value, name), hint)


@functools.cache
def _field_hints(kind: Any, names: tuple[str, ...]) -> dict[str, Any]:  # noqa: ANN401 - a class
    """Annotations of fields of a dataclass."""
    return {name: _hint_of(kind, name, vars(sys.modules[kind.__module__])) for name in names}


def _hint_of(owner: Any, name: str, scope: dict[str, Any]) -> Any:  # noqa: ANN401 - a call or class, and a type
    """Annotation of a call's parameter or of a field, evaluated in its module."""
    return eval(owner.__annotations__[name], scope)  # noqa: S307 - the annotation is written in this package


def _is_table(value: object) -> bool:
    """Whether a value is a Polars DataFrame; Polars is not imported."""
    return type(value).__module__.startswith("polars.dataframe")


def check_type(name: str, value: object, hint: Any) -> None:  # noqa: ANN401 - a type
    """ParameterError unless a value has a type (a union, a Literal, a class; not what is inside a list or mapping)."""
    if type(value) is hint:  # most are of a plain class, and thousands of symbols are checked at once
        return
    if not any(_has_type(value, one) for one in _members(hint)):
        near = ""
        choices = [choice for one in _members(hint) if get_origin(one) is Literal for choice in get_args(one)]
        if choices and isinstance(value, str):
            near = did_you_mean(value, choices)
        valid = list(dict.fromkeys(_type_name(one) for one in _members(hint) if one is not type(None)))
        raise ParameterError(f"{name}: received {describe_value(value)}{near}; valid: {' or '.join(valid)}")


@functools.cache
def _members(hint: Any) -> tuple[Any, ...]:  # noqa: ANN401 - types
    """Members of a union, or the type alone; None is its class."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(type(None) if part is None else part for part in parts)


def _has_type(value: object, hint: Any) -> bool:  # noqa: ANN401 - a type
    """Whether a value is of one class or one of the values of a Literal; a boolean is no number, text no sequence."""
    if hint is Any:
        return True
    kind = _kind(hint)
    if kind is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float)
    if kind in (collections.abc.Sequence, collections.abc.Iterable) and isinstance(value, str | bytes):
        return False
    return isinstance(value, kind)


@functools.cache
def _kind(hint: Any) -> Any:  # noqa: ANN401 - types
    """What a type is made of (`list` of `list[int]`, Literal), or the type alone."""
    return get_origin(hint) or hint


def _type_name(hint: Any) -> str:  # noqa: ANN401 - a type
    """What a message calls a type."""
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    kind = get_origin(hint) or hint
    library = "polars " * kind.__module__.startswith("polars")
    return (
        _TYPE_NAMES.get(kind)
        or f"{'an' if not library and kind.__name__[0] in 'AEIO' else 'a'} {library}{kind.__name__}"
    )


_TYPE_NAMES: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    collections.abc.Callable: "a function",
    collections.abc.Mapping: "a mapping",
    collections.abc.Sequence: "a list",
    collections.abc.Iterable: "a list",
    dt.date: "a date",
    dt.datetime: "a datetime",
}
