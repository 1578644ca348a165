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
from engine.sources.layouts.layout import Layout, normalize_name
from engine.sources.layouts.registry import (
    layout_named,
    layout_of_first_line,
    layout_of_header,
    layouts_like,
    stated_layout,
)
from engine.sources.layouts.shared_names import CLOSE_NAMES, OHLC, SHARED_NAMES, SIDES
from engine.sources.options import ReadOptions

Roles = Mapping[str, str]

ROLES = tuple(SHARED_NAMES.aliases)
MOST_NAMED, LONGEST_NAME = 40, 80
STAMPS = {"ts", "date", "time"}
IDS = ("first_id", "last_id")  # of the trades of a bar
STAMP_LIKE = re.compile(r"time|date|stamp|(?:_at|At)$", re.IGNORECASE)
BAR_ORDERS = (OHLC, ("low", "high", "open", "close"), ("open", "close", "high", "low"))
UNNAMED = (
    "",
    "Unnamed: 0",
    "__index_level_0__",
    "index",
    "Index",
    "level_0",
)  # a frame's index, where it is written without a name
NAMED_ZONE = re.compile(
    r"((?:date|time|timestamp)(?:[ /_]?time)?) ?\([A-Za-z][\w /:+-]*\)", re.IGNORECASE
)  # `Time (EET)`
REPEATED = " #"  # between a name and how often it stood before, in the header of a text file


@dataclass(frozen=True)
class TableColumns:
    """The kind of rows, the column of each role, and the layout that states the table's conventions."""

    kind: Kind
    roles: Roles
    notes: tuple[str, ...] = ()
    layout: Layout = SHARED_NAMES

    @property
    def sides(self) -> tuple[str, ...]:
        """Those of `bid, ask, mid` with columns for all of open, high, low, close; empty for one-price rows."""
        return tuple(side for side in SIDES if all(f"{side}_{part}" in self.roles for part in OHLC))


def match_columns(names: Sequence[str], options: ReadOptions, path: str, layout: Layout | None = None) -> TableColumns:
    """Match columns to roles and tell the kind of rows; SourceError without stamp or kind, or for an ambiguous name.

    Parameters
    ----------
    names : sequence of str
        Of all columns, in order.
    options : ReadOptions
    path : str
        For messages.
    layout : Layout, optional
        Of a file without a header; else the names tell it, or the options.

    Raises
    ------
    SourceError
        There is no stamp, nothing that makes bars, quotes, ticks or open interest, not a column of `columns`, or a name
        that stands twice in the header and is not chosen by the caller.
    ParameterError
        `columns` names a role that does not exist.
    """
    layout = layout or choose_layout(names, options, path)
    roles = assign_roles(names, layout, options, path)
    for role, name in roles.items() if any(REPEATED in name for name in names) else ():
        places = [place for place, other in enumerate(names, start=1) if plain_of_repeated(other) == name]
        if len(places) > 1 and role not in options.columns:
            raise SourceError(
                path,
                f"{name!r} names the columns {' and '.join(map(str, places))}; say which one is meant: "
                f"--columns {role}={places[0]}, or {role}={places[1]}",
            )
    may_be_bars = layout.kind in (None, "bars")
    notes = [*(complete_bars(roles, names, options) if may_be_bars else ()), *index_as_stamp(roles, names)]
    kind = layout.kind or kind_of_roles(roles)
    if kind is None or not STAMPS & set(roles):
        raise SourceError(
            path,
            f"columns {list_names(names)} are no bars (time, open, high, low, close), quotes (time, bid, ask), "
            f"ticks (time, price) or open interest; {suggest_columns(roles, names)}",
        )
    if kind == "ticks" and "volume" in roles:
        roles.setdefault("size", roles["volume"])
    sided = {f"{side}_{part}" for side in SIDES for part in OHLC}
    others = {"date", "time", "tick_volume", "interval", *sided} | (set(IDS) if kind == "bars" else set())
    used = {name for role, name in roles.items() if role in ROWS[kind] or role in others}
    used |= {name for name in names if normalize_name(name) in layout.rows[:1]}
    unused = [name or "''" for name in names if name not in used]
    notes += [f"columns not used: {list_names(unused)}"] if unused else []
    return TableColumns(kind, roles, tuple(notes), layout)


def list_names(names: Sequence[str]) -> str:
    """The first `MOST_NAMED` names, each cut off at `LONGEST_NAME` characters, and how many more there are."""
    shown = [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…" for name in names[:MOST_NAMED]]
    return ", ".join(shown) + (f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else "")


def choose_layout(names: Sequence[str], options: ReadOptions, path: str) -> Layout:
    """The stated layout (SourceError if its columns are absent), else the first that names tell, else the shared names.

    Raises
    ------
    SourceError
        Columns that the stated layout needs are absent.
    """
    if options.layout is None:
        return SHARED_NAMES if options.columns and all(name.isdigit() for name in names) else layout_of_header(names)
    layout = layout_named(options.layout)
    present = {normalize_name(name) for name in names}
    absent = [name for name in layout.columns if normalize_name(name) not in present]
    if absent and not layout.first_line and not options.columns:
        raise SourceError(
            path,
            f"layout {layout.name} has the columns {', '.join(absent)}, which are absent; there are {list_names(names)}",
        )
    return layout


def complete_bars(roles: dict[str, str], names: Sequence[str], options: ReadOptions) -> list[str]:
    """Add to `roles` close (for `price`) and volume of bars under other names (`Last`, tick volume); return notes."""
    notes = []
    if {"open", "high", "low"} <= set(roles) and "close" not in roles and "price" not in options.columns:
        columns = {normalize_name(name): name for name in reversed(names)}
        found = next((columns[alias] for alias in CLOSE_NAMES if alias in columns), None)
        if found is not None:
            roles["close"] = found
            roles.pop("price", None)
            notes.append(f"close: the column {found!r}, beside open, high and low")
    if "tick_volume" in roles and "volume" not in roles and "open" in roles:
        roles["volume"] = roles["tick_volume"]
        notes.append(f"volume: the column {roles['volume']!r}, numbers of ticks")
    return notes


def index_as_stamp(roles: dict[str, str], names: Sequence[str]) -> list[str]:
    """Where no column is a stamp, add to `roles` as `ts` the first column if it is an index without a name; a note."""
    if STAMPS & set(roles) or not names or names[0] not in UNNAMED or names[0] in roles.values():
        return []
    if sum(plain_of_repeated(name) in UNNAMED for name in names) > 1 and "symbol" not in roles:
        return []  # symbol and stamp, or the other way round
    roles["ts"] = names[0]
    return [f"ts: the first column, an index without a name{f' ({names[0]})' if names[0] else ''}"]


def assign_roles(names: Sequence[str], layout: Layout, options: ReadOptions, path: str) -> dict[str, str]:
    """Role -> column by `options.columns` (SourceError if absent), layout, common names; `ts` displaces `date`, `time`.

    Raises
    ------
    SourceError
        The table lacks a column that `columns` states, or two names differ in case alone.
    ParameterError
        `columns` names a role that does not exist.
    """
    columns: dict[str, str] = {}
    for name in names:
        if name not in options.ignore:
            columns.setdefault(normalize_name(name), name)
    for name in columns.copy().values():
        stamp = NAMED_ZONE.fullmatch(name.strip())
        if stamp is not None and normalize_name(name) not in SHARED_NAMES.ranks:
            columns.setdefault(normalize_name(stamp[1]), name)
    roles = roles_by_name(columns, layout)
    for role, stated in options.columns.items():
        if role not in SHARED_NAMES.aliases:
            raise ParameterError(f"columns: received {role!r}; valid: {', '.join(ROLES)}")
        place = int(stated) if str(stated).isdigit() else 0
        if str(stated) in names:
            roles[role] = str(stated)
        elif 1 <= place <= len(names):
            roles[role] = names[place - 1]
        else:
            raise SourceError(path, f"no column {stated!r} for {role}; it has {list_names(names)}")
    check_case_clashes(names, roles, options, path)
    if "ts" in roles:
        # The columns of a stamp in two parts are then only its repetition.
        roles = {role: name for role, name in roles.items() if role not in ("date", "time")}
    return roles


def check_case_clashes(names: Sequence[str], roles: Roles, options: ReadOptions, path: str) -> None:
    """SourceError for a role, not stated by `columns`, whose column another differs from in case or signs alone (`t`, `T`)."""
    for role, name in roles.items():
        normal = normalize_name(name)
        alike = [other for other in names if normalize_name(other) == normal and plain_of_repeated(other) == other]
        if normal and len(set(alike)) > 1 and role not in options.columns:
            choices = ", or ".join(f"--columns {role}={other}" for other in alike)
            raise SourceError(
                path, f"columns {list_names(alike)} differ in case or signs alone; say which is meant: {choices}"
            )


def roles_by_name(columns: Mapping[str, str], layout: Layout) -> dict[str, str]:
    """Role -> column (of normalized name -> name): a layout's aliases, then shared ones for columns it leaves, in order."""
    found: dict[str, tuple[int, str]] = {}  # of each role the best rank of a name, and its column
    for role, aliases in layout.aliases.items():
        own = next((one for alias in aliases.split() if (one := column_named(alias, columns)) is not None), None)
        if own is not None:
            found[role] = (-1, own)
    claimed = {name for _, name in found.values()}
    for normal, name in columns.items():
        for role, rank in SHARED_NAMES.ranks.get(normal, ()) if name not in claimed else ():
            found[role] = min(found.get(role, (rank, name)), (rank, name))
    return {role: found[role][1] for role in reversed(ROLES) if role in found}


def column_named(alias: str, columns: Mapping[str, str]) -> str | None:
    """The first of `columns` (normalized name -> name) with this alias, `*` at its end for any rest; else None."""
    if not alias.endswith("*"):
        return columns.get(alias)
    return next((name for normal, name in columns.items() if normal.startswith(alias[:-1])), None)


def has_header(cells: Sequence[str]) -> bool:
    """Whether a first line is a header: not one of its cells is a number or a stamp (digits with `.:,/ TZ+-`)."""
    return all(not re.fullmatch(r"[-+]?\d[\d.:,/ TZ+-]*", cell.strip()) for cell in cells)


def headerless_columns(cells: Sequence[str], options: ReadOptions, path: str) -> tuple[list[str], Layout | None]:
    """(column names, layout) of a file without a header; with `columns` stated the names are places, `1, 2, ...`.

    Raises
    ------
    SourceError
        The first line fits no layout, or not the stated one; the message suggests `--layout` or `--columns`.
    """
    line = ",".join(cells)
    if options.columns:
        stated = layout_named(options.layout) if options.layout else None
        return [str(place) for place in range(1, len(cells) + 1)], stated
    stem = name_stem(path.rpartition("!")[2])  # of `archive!member` the member
    layout = stated_layout(options.layout, line, path) if options.layout else layout_of_first_line(line, stem)
    if layout is not None:
        return list(layout.columns), layout
    places = [f"{role}={place}" for place, role in enumerate(likely_roles(cells), start=1)]
    like = layouts_like(line)
    mend = f"if it is of one of these vendors: --layout {' or --layout '.join(like)}; else " if like else ""
    example = f", for example --columns {','.join(places)}" if places else ": --columns ts=1,price=..."
    raise SourceError(
        path,
        f"no header line, and nothing tells what its {len(cells)} columns are (the first line is {line[:80]}); {mend}"
        f"name them by place{example}",
    )


def likely_roles(cells: Sequence[str]) -> list[str]:
    """Roles that the cells of a first row may have, in order: symbol if it begins with letters, stamp, prices; else [].

    Prices are those of a bar in the first order of `BAR_ORDERS` whose highest is the high and whose lowest is the low; of
    two or three numbers bid and ask where they are within 1 %, of two others price and size.
    """
    ahead = ["symbol"] if cells and re.match(r"[A-Za-z]", cells[0].strip()) else []
    rest = [cell.strip() for cell in cells[len(ahead) :]]
    stamps: list[tuple[str, ...]] = [("date", "time")] if is_date_and_time(rest) else [("ts",)]
    stamps += (
        [("date", "time")] if re.fullmatch(r"[01]?\d[0-5]\d|2[0-3][0-5]\d", rest[1] if len(rest) > 1 else "") else []
    )
    for stamp in stamps:
        for order in BAR_ORDERS:
            if is_bar(dict(zip(order, rest[len(stamp) :], strict=False))):
                return [*ahead, *stamp, *order, "volume"][: len(cells)]
    try:
        values = [float(cell) for cell in rest[len(stamps[0]) :]]
    except ValueError:
        return []
    if len(values) in (2, 3) and 0 <= values[1] - values[0] < abs(values[0]) / 100:
        return [*ahead, *stamps[0], "bid", "ask"]
    return [*ahead, *stamps[0], "price", "size"][: len(cells)] if len(values) in (1, 2) else []


def is_date_and_time(cells: Sequence[str]) -> bool:
    """Whether the first cell has no colon and the second is a time of day with one: a stamp in two columns."""
    return (
        len(cells) > 1 and ":" not in cells[0] and re.fullmatch(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?", cells[1]) is not None
    )


def is_bar(cells: Mapping[str, str]) -> bool:
    """Whether cells by role have open, high, low and close, numbers of which none is above the high or below the low."""
    try:
        prices = [float(cells[part]) for part in OHLC]
    except (KeyError, ValueError):
        return False
    return prices[1] == max(prices) and prices[2] == min(prices)


def plain_of_repeated(name: str) -> str:
    """Name of a column without the number that tells repeated names apart."""
    return name.partition(REPEATED)[0]


def kind_of_roles(roles: Roles) -> Kind | None:
    """First match: bars (OHLC, or a side's), ticks (`price`, <2 of OHL), quotes (bid or ask), open_interest, None."""
    if all(part in roles for part in OHLC) or any(all(f"{side}_{part}" in roles for part in OHLC) for side in SIDES):
        return "bars"
    if "price" in roles and len({"open", "high", "low"} & set(roles)) < 2:  # noqa: PLR2004  # else a bar, lacking one
        return "ticks"
    if "bid" in roles or "ask" in roles:
        return "quotes"
    return "open_interest" if "value" in roles else None


def suggest_columns(roles: Roles, names: Sequence[str]) -> str:
    """Text advising `--columns` for missing stamp and prices; a general example if none or over four are missing.

    A stamp alone that is missing may be the first column whose name is like one's (`snapped_at`); of bars, `close_time`
    and `end` mark ends.
    """
    bars = [part for part in OHLC if part not in roles] if len(set(OHLC) & set(roles)) > 1 else []
    if not STAMPS & set(roles) and list(map(plain_of_repeated, names[:2])) == ["", ""]:
        return "the first two columns have no name; if they are symbol and stamp: --columns symbol=1,ts=2"
    missing = ([] if STAMPS & set(roles) else ["ts"]) + bars
    stamps = [name for name in names if STAMP_LIKE.search(name) and name not in roles.values()]
    if missing == ["ts"] and stamps:
        ends = re.search(r"(close)|end", stamps[0], re.IGNORECASE) if set(OHLC) <= set(roles) else None
        option = "" if ends is None else f" --stamp {'end-inclusive' if ends[1] else 'end'}"
        return f"ts is missing: if that is {stamps[0]!r}, --columns ts={stamps[0]}{option}"
    if not missing or len(missing) > len(OHLC):
        return "name them with --columns ts=...,open=..."
    return (
        f"{' and '.join(missing)} is missing: if it has another name, "
        f"--columns {','.join(f'{role}=...' for role in missing)}"
    )
