"""Days that recur by rule, by the names that calendar files use (`on = ["good_friday", "thanksgiving+1"]`).

A name is one of `RULES`, a month and day such as `12-24`, or either with a number of weekdays after (`+1`) or before
(`-1`) it: `thanksgiving+1` is the Friday after, `labor-1` the Friday before Labor Day. The rules are those by which US
exchanges observe the days: a Sunday moves to Monday, a Saturday to Friday (New Year's Day is then not observed).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

YEARS = range(1970, 2051)

_NAME = re.compile(r"(?P<rule>[a-z_]+|\d\d-\d\d)(?P<shift>[+-]\d)?")
_DAY = dt.timedelta(days=1)
_SATURDAY = 5


def nth_weekday(year: int, month: int, weekday: int, nth: int) -> dt.date:
    """Date of the nth weekday (0 is Monday) of a month; nth -1 is the last one."""
    if nth < 0:
        last = dt.date(year, month + 1, 1) - _DAY
        return last - _DAY * ((last.weekday() - weekday) % 7)
    first = dt.date(year, month, 1)
    return first + _DAY * ((weekday - first.weekday()) % 7 + 7 * (nth - 1))


def nearest_weekday(day: dt.date) -> dt.date:
    """The day itself, Friday for a Saturday, Monday for a Sunday."""
    return day + {_SATURDAY: -_DAY, 6: _DAY}.get(day.weekday(), _DAY * 0)


def easter(year: int) -> dt.date:
    """Easter Sunday of the Gregorian calendar (algorithm of Meeus, Jones and Butcher)."""
    golden, century, rest = year % 19, year // 100, year % 100
    moon = (19 * golden + century - century // 4 - (century - (century + 8) // 25 + 1) // 3 + 15) % 30
    weekday = (32 + 2 * (century % 4) + 2 * (rest // 4) - moon - rest % 4) % 7
    late = (golden + 11 * moon + 22 * weekday) // 451
    month, day = divmod(moon + weekday - 7 * late + 114, 31)
    return dt.date(year, month, day + 1)


def new_year(year: int) -> dt.date | None:
    """1 January, Monday for a Sunday; None for a Saturday, when the Friday before is an ordinary day."""
    day = dt.date(year, 1, 1)
    return None if day.weekday() == _SATURDAY else nearest_weekday(day)


def eve(year: int, month: int, day: int) -> dt.date | None:
    """The date if it is a Monday to Thursday, so that the holiday itself is the next day; else None."""
    date = dt.date(year, month, day)
    return date if date.weekday() <= 3 else None  # noqa: PLR2004 - Thursday


RULES: Mapping[str, Callable[[int], dt.date | None]] = {
    "new_year": new_year,
    "martin_luther_king": lambda year: nth_weekday(year, 1, 0, 3) if year >= 1998 else None,  # noqa: PLR2004
    "presidents": lambda year: nth_weekday(year, 2, 0, 3),
    "good_friday": lambda year: easter(year) - 2 * _DAY,
    "easter_monday": lambda year: easter(year) + _DAY,
    "memorial": lambda year: nth_weekday(year, 5, 0, -1),
    "juneteenth": lambda year: nearest_weekday(dt.date(year, 6, 19)) if year >= 2022 else None,  # noqa: PLR2004
    "independence_eve": lambda year: eve(year, 7, 3),
    "independence": lambda year: nearest_weekday(dt.date(year, 7, 4)),
    "labor": lambda year: nth_weekday(year, 9, 0, 1),
    "thanksgiving": lambda year: nth_weekday(year, 11, 3, 4),
    "christmas_eve": lambda year: eve(year, 12, 24),
    "christmas": lambda year: nearest_weekday(dt.date(year, 12, 25)),
}


def is_holiday_name(name: str) -> bool:
    """Whether a name is one of `RULES` or a possible month and day, either with `+N` or `-N` weekdays."""
    match = _NAME.fullmatch(name)
    if match is None:
        return False
    if match["rule"] in RULES:
        return True
    try:
        dt.date.fromisoformat(f"2000-{match['rule']}")
    except ValueError:
        return False
    return True


@lru_cache(maxsize=256)
def holiday_dates(names: tuple[str, ...]) -> tuple[dt.date, ...]:
    """Sorted distinct dates, 1970 to 2050, of names that `is_holiday_name` accepts; others are a KeyError or ValueError."""
    return tuple(sorted({day for name in names for day in dates_of_name(name)}))


def dates_of_name(name: str) -> Iterable[dt.date]:
    """Dates of one name in `YEARS`, those left out in which the rule has none (29 February, a Saturday's New Year)."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is no name of a day")
    for year in YEARS:
        day = RULES[match["rule"]](year) if match["rule"] in RULES else fixed_day(year, match["rule"])
        if day is not None:
            yield shift_weekdays(day, int(match["shift"] or 0))


def fixed_day(year: int, month_day: str) -> dt.date | None:
    """Date of a month and day in a year; None for 29 February of a common year."""
    month, day = (int(part) for part in month_day.split("-"))
    return None if (month, day) == (2, 29) and year % 4 else dt.date(year, month, day)


def shift_weekdays(day: dt.date, count: int) -> dt.date:
    """The date `count` weekdays (Monday to Friday) after a date, before it if negative."""
    step = _DAY if count > 0 else -_DAY
    for _ in range(abs(count)):
        day += step
        while day.weekday() >= _SATURDAY:
            day += step
    return day
