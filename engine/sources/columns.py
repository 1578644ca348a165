"""Match the columns of a table to roles, by the layout that its header or first line fits.

A *role* is our name of a column: those of `engine.schema`, `date` and `time` for stamps in two columns, and `bid_open`
to `ask_close` for bars of both sides in one row. `engine.sources.layouts` has the names that vendors use;
`ReadOptions.columns` wins over all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.errors import ParameterError, SourceError
from engine.schema import ROWS, Kind
from engine.sources.file_names import name_stem
from engine.sources.layouts import (
    COMMON,
    OHLC,
    SIDES,
    Layout,
    layout_of_columns,
    layout_of_first_line,
    normalize_name,
)
from engine.sources.options import ReadOptions

Roles = Mapping[str, str]

ROLES = tuple(COMMON.aliases)
STAMPS = {"ts", "date", "time"}
REPEATED = " #"  # between a name and how often it stood before, in the header of a text file


@dataclass(frozen=True)
class TableColumns:
    """The kind of rows, the column of each role, and the layout that states the table's conventions."""

    kind: Kind
    roles: Roles
    notes: tuple[str, ...] = ()
    layout: Layout = COMMON

    @property
    def sides(self) -> tuple[str, ...]:
        """Those of `bid, ask, mid` with columns for all of open, high, low, close; empty for one-price rows."""
        return tuple(side for side in SIDES if all(f"{side}_{part}" in self.roles for part in OHLC))


def match_columns(names: Sequence[str], options: ReadOptions, path: str) -> TableColumns:
    """Match columns to roles and tell the kind of rows; SourceError without stamp or kind, or for an ambiguous name.

    Raises
    ------
    SourceError
        There is no stamp, nothing that makes bars, quotes, ticks or open interest, not a column of `columns`, or a name
        that stands twice in the header and is not chosen by the caller.
    ParameterError
        `columns` names a role that does not exist.
    """
    layout = layout_of_columns(names, name_stem(path.rpartition("!")[2]))  # of `archive!member` the member
    roles = assign_roles(names, layout, options, path)
    for role, name in roles.items():
        places = [place for place, other in enumerate(names, start=1) if other.partition(REPEATED)[0] == name]
        if len(places) > 1 and role not in options.columns:
            raise SourceError(
                path,
                f"{name!r} names the columns {' and '.join(map(str, places))}; say which one is meant: "
                f"--columns {role}={places[0]}, or {role}={places[1]}",
            )
    kind = kind_of_roles(roles)
    if kind is None or not STAMPS & set(roles):
        raise SourceError(
            path,
            f"columns {', '.join(names)} are no bars (time, open, high, low, close), quotes (time, bid, ask), "
            f"ticks (time, price) or open interest; {suggest_columns(roles)}",
        )
    if kind == "ticks" and "volume" in roles:
        roles.setdefault("size", roles["volume"])
    sided = {f"{side}_{part}" for side in SIDES for part in OHLC}
    used = {name for role, name in roles.items() if role in ROWS[kind] or role in {"date", "time", *sided}}
    unused = [name for name in names if name not in used]
    return TableColumns(kind, roles, (f"columns not used: {', '.join(unused)}",) if unused else (), layout)


def assign_roles(names: Sequence[str], layout: Layout, options: ReadOptions, path: str) -> dict[str, str]:
    """Role -> column by `options.columns` (SourceError if absent), layout, common names; `ts` displaces `date`, `time`.

    Raises
    ------
    SourceError
        The table lacks a column that `columns` states.
    ParameterError
        `columns` names a role that does not exist.
    """
    columns: dict[str, str] = {}
    for name in names:
        columns.setdefault(normalize_name(name), name)
    roles = {}
    for role, common in reversed(list(COMMON.aliases.items())):
        aliases = (*layout.aliases.get(role, "").split(), *common.split())
        alias = next((alias for alias in aliases if alias in columns), None)
        if alias is not None:
            roles[role] = columns[alias]
    for role, stated in options.columns.items():
        if role not in COMMON.aliases:
            raise ParameterError(f"columns: received {role!r}; valid: {', '.join(ROLES)}")
        place = int(stated) if str(stated).isdigit() else 0
        if str(stated) in names:
            roles[role] = str(stated)
        elif 1 <= place <= len(names):
            roles[role] = names[place - 1]
        else:
            raise SourceError(path, f"no column {stated!r} for {role}; it has {', '.join(names)}")
    if "ts" in roles:
        # The columns of a stamp in two parts are then only its repetition.
        roles = {role: name for role, name in roles.items() if role not in ("date", "time")}
    return roles


def has_header(cells: Sequence[str]) -> bool:
    """Whether a first line is a header: not one of its cells is a number or a stamp (digits with `.:,/ TZ+-`)."""
    return all(not re.fullmatch(r"[-+]?\d[\d.:,/ TZ+-]*", cell.strip()) for cell in cells)


def headerless_names(cells: Sequence[str], options: ReadOptions, path: str) -> list[str]:
    """Column names: places `1, 2, ...` if `options.columns` is set, else the layout's; SourceError if none fits.

    With `columns` in the options the names are the places, counted from 1.

    Raises
    ------
    SourceError
        The first line fits no layout; the message suggests `--columns`.
    """
    if options.columns:
        return [str(place) for place in range(1, len(cells) + 1)]
    layout = layout_of_first_line(",".join(cells), name_stem(path.rpartition("!")[2]))
    if layout is not None:
        return list(layout.columns)
    guess = ",".join(f"{role}={place}" for place, role in enumerate(("ts", *OHLC, "volume")[: len(cells)], start=1))
    raise SourceError(
        path,
        f"no header line, and its {len(cells)} columns are no layout that is known (the first line is "
        f"{','.join(cells)[:80]}); name them by place, for example --columns {guess}",
    )


def kind_of_roles(roles: Roles) -> Kind | None:
    """First match: bars (four prices, also of a side), ticks (`price`), quotes (`bid` or `ask`), open_interest, None."""
    if all(part in roles for part in OHLC) or any(all(f"{side}_{part}" in roles for part in OHLC) for side in SIDES):
        return "bars"
    if "price" in roles:
        return "ticks"
    if "bid" in roles or "ask" in roles:
        return "quotes"
    return "open_interest" if "value" in roles else None


def suggest_columns(roles: Roles) -> str:
    """Text advising `--columns` for the missing stamp and prices; a general example if none or over four are missing."""
    bars = [part for part in OHLC if part not in roles] if len(set(OHLC) & set(roles)) > 1 else []
    missing = ([] if STAMPS & set(roles) else ["ts"]) + bars
    if not missing or len(missing) > len(OHLC):
        return "name them with --columns ts=...,open=..."
    return (
        f"{' and '.join(missing)} is missing: if it has another name, "
        f"--columns {','.join(f'{role}=...' for role in missing)}"
    )
