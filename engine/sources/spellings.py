"""Tables of how vendors spell dates and times, and the spelling of a cell (`spelling_of`).

A cell is a date, what stands between, a time, decimals of a second and a zone; or the time comes first. `DATES` and `TIMES` have one entry per
form: its pattern, and the `strptime` formats that read it (`{0}`, `{1}`: the marks that the groups of the pattern
caught). A date with several formats is ambiguous: which field is the day is for the rows to tell. What no format can
hold is rewritten first (`REWRITES`). Patterns are in the syntax that Python and Polars share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import NamedTuple

MONTH = r"(?i:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[A-Za-z]*"
YEAR_FIRST = r"(?:19|20)\d{6}"
WEEKDAY = r"(?:(?i:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[A-Za-z]*)"


class Form(NamedTuple):
    """One way to write a date or a time.

    Attributes
    ----------
    pattern : str
        Regular expression; its groups are the marks between fields.
    formats : tuple of str
        `strptime` formats, in which `{0}`, `{1}` stand for the marks.
    meaning : str
        What it is, and who writes it.
    is_settled : bool
        Of several formats the first holds where the rows do not tell.
    """

    pattern: str
    formats: tuple[str, ...]
    meaning: str
    is_settled: bool = False


class Rewrite(NamedTuple):
    """A replacement that is made in every cell before a format is applied.

    Attributes
    ----------
    pattern, value : str
        Of a replacement by regular expression; `${1}` is what group 1 caught.
    meaning : str
        What it is for.
    """

    pattern: str
    value: str
    meaning: str

    def apply(self, text: str) -> str:
        """The text with the first match replaced."""
        return re.sub(self.pattern, re.sub(r"\$\{(\d)\}", r"\\\1", self.value), text, count=1)


DATES = (
    Form(r"\d{4}([-/.])\d{1,2}([-/.])\d{1,2}", ("%Y{0}%m{1}%d",), "2024-01-02: ISO 8601; 2024.01.02: MetaTrader, kdb+"),
    Form(YEAR_FIRST, ("%Y%m%d",), "20240102: ISO 8601 basic, FIX, Interactive Brokers"),
    Form(r"\d{4}(-?)W\d{2}(-?)[1-7]", ("%G{0}W%V{1}%u",), "2024-W01-2, 2024W012: ISO 8601, week"),
    Form(r"\d{4}(-)\d{3}", ("%Y{0}%j",), "2024-002: ISO 8601, day of the year"),
    Form(r"(?:19|20)\d{5}", ("%Y%j",), "2024002: year and day of the year"),
    Form(
        r"\d{1,2}([/-])\d{1,2}([/-])\d{4}",
        ("%m{0}%d{1}%Y", "%d{0}%m{1}%Y"),
        "01/02/2024: American, or European; only a field above 12 tells",
    ),
    Form(
        r"\d{1,2}(\. ?)\d{1,2}(\. ?)\d{4}",
        ("%d{0}%m{1}%Y", "%m{0}%d{1}%Y"),
        "02.01.2024: with dots the day is first (Dukascopy, German Excel)",
        is_settled=True,
    ),
    Form(
        r"\d{1,2}([/-])\d{1,2}([/-])\d{2}",
        ("%m{0}%d{1}%y", "%d{0}%m{1}%y", "%y{0}%m{1}%d"),
        "01/02/24: any field may be the day, the first one the year",
    ),
    Form(
        r"\d{1,2}(\. ?)\d{1,2}(\. ?)\d{2}",
        ("%d{0}%m{1}%y", "%y{0}%m{1}%d"),
        "02.01.24: German, or Korean with the year first",
    ),
    Form(r"\d{8}", ("%d%m%Y", "%m%d%Y"), "02012024"),
    Form(r"\d{6}", ("%y%m%d", "%d%m%y", "%m%d%y"), "240102"),
    Form(
        rf"\d{{1,2}}([-/ .]?){MONTH}([-/ .]?)\d{{4}}",
        ("%d{0}%B{1}%Y",),
        "02-Jan-2024, 02JAN2024: RFC 2822, SAS, Apache",
    ),
    Form(rf"\d{{1,2}}([-/ .]?){MONTH}([-/ .]?)\d{{2}}", ("%d{0}%B{1}%y",), "02-JAN-24: Oracle, RFC 850"),
    Form(
        rf"{MONTH}([-/ ])\d{{1,2}}(,? |[-/])\d{{4}}", ("%B{0}%d{1}%Y",), "Jan 02, 2024: JavaScript, Java, Investing.com"
    ),
    Form(rf"\d{{4}}([-/ .]?){MONTH}([-/ .]?)\d{{1,2}}", ("%Y{0}%B{1}%d",), "2024-Jan-02: Boost"),
)

TIMES = (
    Form(r"\d{1,2}:\d{2}:\d{2} ?[AaPp][Mm]", ("%I:%M:%S %p",), "9:30:00 AM: Excel, .NET"),
    Form(r"\d{1,2}:\d{2} ?[AaPp][Mm]", ("%I:%M %p",), "9:30 AM"),
    Form(r"\d{1,2}\.\d{2}\.\d{2} ?[AaPp][Mm]", ("%I.%M.%S %p",), "09.30.00 AM: Oracle"),
    Form(r"\d{1,2}:\d{2}:\d{2}", ("%H:%M:%S",), "09:30:00"),
    Form(r"\d{1,2}:\d{2}", ("%H:%M",), "09:30, 9:30"),
    Form(r"\d{1,2}([-.])\d{2}([-.])\d{2}", ("%H{0}%M{1}%S",), "09-30-00, 09.30.00: names of files, Finnish"),
    Form(r"\d{1,2}\.\d{2}", ("%H.%M",), "09.30"),
    Form(r"\d{6}", ("%H%M%S",), "093000"),
    Form(r"\d{4}", ("%H%M",), "0930"),
)

UNMARKED_DATES = tuple(date for date in DATES if date.pattern in (YEAR_FIRST, r"\d{8}", r"\d{6}"))
UNMARKED_TIMES = TIMES[-2:]  # nothing need stand between such a date and such a time
GAPS = r"[Tt]|\s*[-_D,:@]\s*|\s+at\s+|\s+"  # between a date and a time
_NAME = r"[A-Z][A-Za-z_]+(?:/[A-Za-z0-9_+-]+)+"
_SHIFT = r"[-+\u2212]\d{1,2}(?::?\d{2})?"
ZONES = (
    rf"Z|z|(?:UTC|GMT|UT)?{_SHIFT}(?:\[{_NAME}\]|\s+\([A-Za-z .]+\))?|\((?:UTC|GMT){_SHIFT}\)|"
    rf"\[{_NAME}\]|{_NAME}|\(?[A-Z]{{2,5}}\)?"
)

REWRITES = (
    Rewrite(r" {2,}", " ", "Jan  2: C; 20240102  09:30:00: Interactive Brokers"),
    Rewrite(r"[\u00a0\u202f]", " ", "narrow blank before AM: Java 20, JavaScript"),
    Rewrite(r"([AaPp])\. ?([Mm])\.?$", "${1}${2}", "9:30 a.m."),
    Rewrite(r"(\d) ?([AaPp])$", "${1} ${2}M", "9:30A"),
    Rewrite(r"(^|[T ])(\d{1,2})[- ]?([AaPp][Mm])$", "${1}${2}:00 ${3}", "07-PM: CryptoDataDownload"),
    Rewrite(r"(\d)(?:st|nd|rd|th)\b", "${1}", "2nd January 2024"),
    Rewrite(r"(?i:(Sep)t)\b", "${1}", "Sept"),
    Rewrite(r"([A-Za-z]{3})\. ", "${1} ", "Jan. 2, 2024"),
    Rewrite(
        r"^([A-Za-z]{3,9},? [A-Za-z]{3,9} +\d{1,2},?) (\d{1,2}:.*?) (\d{4})$",
        "${1} ${3} ${2}",
        "Tue Jan  2 09:30:00 2024: C, Unix",
    ),
    Rewrite(r"(:\d{2}):(\d{3}|\d{6}|\d{9})($|\D)", "${1}.${2}${3}", "09:30:00:000"),
    Rewrite(
        r"(:\d{2}|[T ]\d{6}),(\d{3}|\d{6,9}|\d{1,9}$)($|\D)",
        "${1}.${2}${3}",
        "09:30:00,000: ISO 8601, Python's logging",
    ),
    Rewrite(r"^(\d{14})(\d{3}|\d{6}|\d{9})($|\D)", "${1}.${2}${3}", "20240102093000000"),
    Rewrite(r"^(\d{8} \d{6}) (\d{7})$", "${1}.${2}", "20240102 093000 1230000: NinjaTrader's ticks"),
    Rewrite(r"([T _D:,-][0-2]\d[0-5]\d[0-5]\d)(\d{3}|\d{6}|\d{9})($|\D)", "${1}.${2}${3}", "20240102 093000000"),
    Rewrite(r"(:\d{2}|\.\d{2}\.\d{2})\.(\d{1,18})( ?[AaPp][Mm])$", "${1}${3}.${2}", "09:30:00.000 AM"),
    Rewrite(r"^(\d{1,2}:\d{2}:\d{2})\.(\d{1,18})([^\d].*\d.*)$", "${1}${3}.${2}", "09:30:00.000 02/01/2024"),
    Rewrite(r"^(\S+)[T ]00:00(?::00(?:\.0+)?)? (\d.*)$", "${1} ${2}", "a date with midnight beside a time"),
)
HALVES = re.compile(r"\(?[AaPp][Mm](?![a-z])")
FRACTION = r"\.\d{1,18}"


@dataclass(frozen=True)
class Spelling:
    """How a cell is spelled.

    Attributes
    ----------
    formats : tuple of str
        `strptime` formats of the cell without fraction and zone; several where the fields of the date may change places.
    pattern, date : str
        Pattern of the cell without fraction and zone, and of its date (empty: a time of day).
    has_time, has_fraction : bool
        Whether it has a time of day, and decimals of a second.
    zone : str
        Text of its zone; empty without.
    rewrites : tuple of Rewrite
        What is replaced in each cell before.
    is_settled : bool
        Of several formats the first holds where the rows do not tell.
    """

    formats: tuple[str, ...]
    pattern: str
    date: str = ""
    has_time: bool = True
    has_fraction: bool = False
    zone: str = ""
    rewrites: tuple[Rewrite, ...] = ()
    is_settled: bool = False

    @property
    def cell_pattern(self) -> str:
        """Pattern of a whole cell, with three groups: without fraction and zone, fraction, zone."""
        fraction = rf"({FRACTION})?" if "%S" in self.formats[0] else "()"
        return rf"^({self.pattern}){fraction}\s*({ZONES})?$"


@lru_cache(maxsize=1024)
def spellings_of(cell: str) -> tuple[Spelling, ...]:
    """All spellings that a cell may have, the likeliest first; empty if it is neither a date nor a date and a time."""
    rewrites = []
    for one in REWRITES:
        changed = one.apply(cell)
        if changed != cell:
            rewrites.append(one)
            cell = changed
    day = re.match(rf"({WEEKDAY})(,? +)", cell)
    if day is None:
        return tuple(replace(one, rewrites=tuple(rewrites)) for one in plain_spellings(cell))
    return tuple(
        replace(
            one,
            rewrites=tuple(rewrites),
            formats=tuple(f"%A{day[2]}{form}" for form in one.formats),
            pattern=rf"{WEEKDAY},? +{one.pattern}",
        )
        for one in plain_spellings(cell[day.end() :])
    )


def plain_spellings(cell: str) -> Iterator[Spelling]:
    """Yield the spellings of a cell that is rewritten and does not begin with the name of a weekday."""
    for date in DATES:
        match = re.match(date.pattern, cell)
        if match is None:
            continue
        pattern = uncaught(date.pattern)
        if match.end() == len(cell):
            formats = tuple(form.format(*match.groups()) for form in date.formats)
            yield Spelling(formats, pattern, pattern, has_time=False, is_settled=date.is_settled)
        for time in TIMES:
            yield from joined(cell, match, date, time, date)
    for time in TIMES:
        match = re.match(time.pattern, cell)
        if match is not None:
            for date in DATES:
                yield from joined(cell, match, time, date, date)


def joined(cell: str, match: re.Match[str], first: Form, second: Form, date: Form) -> Iterator[Spelling]:
    """Yield the spelling of a cell of `first` (as matched), `second`, fraction and zone; nothing if it is not so."""
    gaps = rf"{GAPS}|" if first in UNMARKED_DATES and second in UNMARKED_TIMES else GAPS
    rest = re.compile(rf"({gaps})({second.pattern})({FRACTION})?\s*({ZONES})?").fullmatch(cell, match.end())
    if rest is None:
        return
    fraction, zone = rest[rest.re.groups - 1], rest[rest.re.groups] or ""
    # 09.30.00 is no half hour with decimals, and AM no zone.
    if (fraction and not any("%S" in form for form in (*first.formats, *second.formats))) or HALVES.match(zone):
        return
    marks = re.fullmatch(second.pattern, rest[2])
    formats = tuple(
        left.format(*match.groups()) + rest[1] + right.format(*(marks.groups() if marks else ()))
        for left, right in product(first.formats, second.formats)
    )
    yield Spelling(
        formats,
        rf"{uncaught(first.pattern)}(?:{gaps}){uncaught(second.pattern)}",
        uncaught(date.pattern),
        has_fraction=fraction is not None,
        zone=zone,
        is_settled=date.is_settled,
    )


def uncaught(pattern: str) -> str:
    """The pattern with groups that catch nothing."""
    return re.sub(r"\((?!\?)", "(?:", pattern)
