"""One vendor's way to write a file, as data: `Layout` states it, and fills what the caller's options leave open."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from engine.grid import Stamp
from engine.schema import Kind

if TYPE_CHECKING:
    from engine.sources.options import ReadOptions  # which has a layout's name among its values


@dataclass(frozen=True)
class Layout:
    """One vendor's way to write a file; what is left empty is inferred as for any other file.

    Attributes
    ----------
    name : str
        As `--layout` takes it, in small letters: `kibot`.
    title : str
        Vendor and product, and what is special about them, in one line.
    columns : tuple of str
        Names that must stand in the header; of a file without a header, the names of all columns, in order.
    first_line : str
        Files have no header, and this regular expression matches their first line (its cells joined by commas, whatever
        the file's delimiter, which is found by itself). Allow for empty cells: a first row that does not match is refused.
    is_recognized : bool
        False: other vendors' files look the same, so that only `--layout` chooses this one.
    say : str
        Options that a caller must give beside it, for the documentation: `--timezone`.
    aliases : mapping of str to str
        Role -> names of its column, by blanks, in order of preference, in small letters and without punctuation; `*` at
        the end stands for any rest. They come before those of `SHARED_NAMES`, and are needed only where these lack the
        name (`epochseconds` for a column `epoch_seconds`). A role is a column of `engine.schema`, `date` or `time` (a
        stamp in two columns), `tick_volume`, `interval`, or `bid_open` to `ask_close` (bars of both sides in one row).
    kind : {"bars", "ticks", "quotes"} or None
        Of rows that have the columns of several: bid and ask beside the price of the last trade. None: as the columns tell.
    rows : tuple of str
        A column, as normalized, and a regular expression: rows whose cell does not match it are no rows of this kind
        (quotes among trades) and are left out, with a note. Empty, or without that column in the header: all rows.
    time_format : str or None
        Of stamps written as text, as `strftime` has it.
    zone : str or None
        Zone of stamps that carry none.
    stamp : {"start", "end", "end-inclusive"} or None
        What a bar's stamp marks.
    unit : str or None
        Of stamps written as numbers since 1970: `s`, `ms`, `us` or `ns`.
    sentinels : tuple of str
        Cells that stand for a missing value: `-1`, `N/A`.
    sentinel_roles : tuple of str
        Columns where they do; empty: everywhere.
    fixed_digits : int or None
        Prices written as integers are multiples of 10 to the power of minus this; prices with a point are decimals.
    signs : str
        Characters that are taken out of numbers: `$`, `,`.
    magnitudes : bool
        Volumes end in `K`, `M` or `B` (thousands, millions, billions).
    joined_symbols : str
        Characters that are taken out of symbols: `/` makes `BTCUSDT` of `BTC/USDT`.
    name_pattern : str
        Regular expression of a file's whole name, without its suffixes, in any case. Where it matches, its groups
        `symbol`, `interval` (a bare number is minutes), `side`, `venue` and `date` (YYYYMMDD or YYYY-MM-DD) are read and
        the words of the name are not: capture `1min` as `(?P<interval>1min)`, or the interval is inferred from the rows.
        A file without a header must match it too, a file with one need not.
    symbol_format : str
        The symbol made of the pattern's groups: `{root}.20{year}{month}`.
    """

    name: str
    title: str = ""
    columns: tuple[str, ...] = ()
    first_line: str = ""
    is_recognized: bool = True
    say: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    kind: Kind | None = None
    rows: tuple[str, ...] = ()
    time_format: str | None = None
    zone: str | None = None
    stamp: Stamp | None = None
    unit: str | None = None
    sentinels: tuple[str, ...] = ()
    sentinel_roles: tuple[str, ...] = ()
    fixed_digits: int | None = None
    signs: str = ""
    magnitudes: bool = False
    joined_symbols: str = ""
    name_pattern: str = ""
    symbol_format: str = "{symbol}"

    @functools.cached_property
    def ranks(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """Normalized name of a column -> the roles that have it, each with its place among the role's aliases."""
        found: dict[str, list[tuple[str, int]]] = {}
        for role, aliases in self.aliases.items():
            for rank, alias in enumerate(aliases.split()):
                found.setdefault(alias, []).append((role, rank))
        return {alias: tuple(roles) for alias, roles in found.items()}

    @property
    def changes_cells(self) -> bool:
        """Whether cells must be seen as text, since some are no plain numbers: sentinels, signs, magnitudes, integer prices."""
        return bool(self.sentinels or self.signs or self.magnitudes or self.fixed_digits is not None)

    def match_name(self, stem: str) -> re.Match[str] | None:
        """Match of `name_pattern` with a whole file stem, case-insensitive; None without match or pattern."""
        return self.compiled_name.fullmatch(stem) if self.compiled_name else None

    @functools.cached_property
    def compiled_name(self) -> re.Pattern[str] | None:
        """`name_pattern` compiled, case-insensitive; None where there is none."""
        return re.compile(self.name_pattern, re.IGNORECASE) if self.name_pattern else None

    def fits_first_line(self, line: str) -> bool:
        """Whether `first_line` is stated and matches a whole line, its cells joined by commas."""
        return bool(self.first_line) and re.fullmatch(self.first_line, line) is not None

    def conventions(self) -> dict[str, str]:
        """Read option -> value that this layout states for it: time format, zone, stamp, unit."""
        stated = {"time_format": self.time_format, "timezone": self.zone, "stamp": self.stamp, "unit": self.unit}
        return {name: value for name, value in stated.items() if value is not None}

    def fill(self, options: ReadOptions) -> tuple[ReadOptions, tuple[str, ...]]:
        """Options with unset time format, zone, stamp, unit filled from this layout, and a note of those (or none)."""
        used = {name: value for name, value in self.conventions().items() if getattr(options, name) is None}
        if not used:
            return options, ()
        listed = ", ".join(f"{name} {value}" for name, value in used.items())
        return replace(options, **used), (f"layout {self.name}: {listed}",)  # type: ignore[arg-type]


def normalize_name(name: str) -> str:
    """Column name in lower case with only `a-z` and `0-9`, as aliases are compared."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
