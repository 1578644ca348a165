"""Which layout a file has: by `--layout`, the names in its header, or its first line and name.

To add a vendor's layout, add one entry to `engine.sources.layouts.vendors`. An entry without a header applies where its
`first_line` and `name_pattern` (if any) fit, one with a header where all of its `columns` stand in it. Entries are tried
in order; the names that all vendors share come last. What the caller states in `ReadOptions` wins over every entry.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable
from dataclasses import fields

import polars as pl

from engine.arguments import check_fields, did_you_mean, one_name
from engine.errors import ParameterError, SourceError
from engine.plugins import LAYOUTS as PLUGINS
from engine.plugins import Plugin, join_plugins
from engine.sources.layouts.layout import Layout, normalize_name
from engine.sources.layouts.shared_names import OHLC, SHARED_NAMES
from engine.sources.layouts.vendors import VENDORS

LAYOUTS: tuple[Layout, ...] = VENDORS


def layouts() -> tuple[Layout, ...]:
    """All layouts in the order in which they are tried, without the names that vendors share; plug-ins' come first."""
    return (*plugin_layouts(), *LAYOUTS)


@functools.cache
def plugin_layouts() -> tuple[Layout, ...]:
    """Layouts of other packages (`engine.plugins`), looked up once; one that is none is left out with a warning."""
    found: list[Layout] = []

    def join(plugin: Plugin, offered: object) -> None:
        """Add the layouts that a plug-in offers; ParameterError for anything else, or a name that is taken."""
        from engine.sources.options import ReadOptions  # noqa: PLC0415  # it has a layout's name among its values

        del plugin
        for one in offered if isinstance(offered, Iterable) else (offered,):
            if not isinstance(one, Layout):
                raise ParameterError(f"received {one!r}; valid: a Layout of engine.sources.layouts.layout, or several")
            one_name("name", one.name)
            check_fields(one, *(each.name for each in fields(Layout)))
            ReadOptions(**one.conventions())  # type: ignore[arg-type]  # which refuses what is no zone, unit or stamp
            if one.name in {other.name for other in (*LAYOUTS, *found)}:
                raise ParameterError(f"layout: {one.name!r} is there already; valid: a name of its own")
            for pattern in (one.first_line, one.name_pattern):
                re.compile(pattern)
            found.append(one)

    join_plugins(PLUGINS, join)
    return tuple(found)


def layout_named(name: str) -> Layout:
    """The layout of this name, in any case; ParameterError that lists the valid names when there is none.

    Raises
    ------
    ParameterError
        There is no such layout.
    """
    for one in layouts():
        if one.name == name.lower():
            return one
    names = [one.name for one in layouts()]
    raise ParameterError(f"layout: received {name!r}{did_you_mean(name, names)}; valid: {', '.join(names)}")


def layout_of_header(names: Collection[str]) -> Layout:
    """First layout with a header whose `columns` are all among the names; `SHARED_NAMES` when none is."""
    present = {normalize_name(name) for name in names}
    return next((one for one in layouts() if has_columns(one) and required_columns(one) <= present), SHARED_NAMES)


def layout_of_first_line(line: str, stem: str) -> Layout | None:
    """First layout for files without a header whose `first_line` and name pattern (if any) fit; None when none does."""
    fitting = (one for one in layouts() if one.is_recognized and one.fits_first_line(line))
    return next((one for one in fitting if not one.name_pattern or one.match_name(stem) is not None), None)


def layouts_like(line: str) -> tuple[str, ...]:
    """Names of layouts by which `--layout` could read a first line, whatever the name: it fits, high and low too."""
    return tuple(one.name for one in layouts() if one.fits_first_line(line) and has_fitting_prices(one, line))


def has_fitting_prices(layout: Layout, line: str) -> bool:
    """Whether a line, its cells in the order of the layout's columns, has no price above its high or below its low."""
    cells = dict(zip(layout.columns, line.split(","), strict=False))
    if not set(OHLC) <= set(cells):
        return True
    opened, high, low, closed = (float(cells[part]) for part in OHLC)
    return low <= min(opened, closed) and max(opened, closed) <= high


def stated_layout(name: str, line: str, path: str) -> Layout:
    """The layout that `--layout` names for a file without a header; SourceError if its first line is another.

    Raises
    ------
    SourceError
        The layout has a header, or another first line.
    """
    layout = layout_named(name)
    if layout.fits_first_line(line):
        return layout
    others = [other for other in layouts_like(line) if other != layout.name]
    mend = f"valid for it: --layout {' or '.join(others)}" if others else "no other layout fits it; give --columns"
    raise SourceError(path, f"layout {layout.name} does not fit its first line, {line[:80]!r}; {mend}")


def layout_table() -> pl.DataFrame:
    """One row per layout, in order: `name`, `title`, `recognized_by` (header, first line, name, --layout), `sets`, `say`."""
    rows = [(one.name, one.title, recognized_by(one), ", ".join(stated_conventions(one)), one.say) for one in layouts()]
    return pl.DataFrame(
        rows, schema=dict.fromkeys(("name", "title", "recognized_by", "sets", "say"), pl.String), orient="row"
    )


def layout_markdown() -> str:
    """The table of layouts in Markdown, as in docs/sources.md: name, files, how recognized, what it sets, what to add."""
    head = "| `--layout` | files | recognized by | sets | say also |\n| --- | --- | --- | --- | --- |\n"
    rows = (
        f"| `{name}` | {title} | {recognized} | {sets} | {say} |"
        for name, title, recognized, sets, say in layout_table().iter_rows()
    )
    return head + "\n".join(rows).replace("<", "&lt;") + "\n"


def recognized_by(layout: Layout) -> str:
    """What in a file tells the layout: `header`, `first line`, `first line and name`, `name`, or `--layout`."""
    if not layout.is_recognized:
        return "--layout"
    if layout.first_line:
        return "first line and name" if layout.name_pattern else "first line"
    return "header" if layout.columns else "name"


def stated_conventions(layout: Layout) -> list[str]:
    """Texts of what a layout states: `timezone UTC`, `stamp end`, `integer prices x 1e-9`, `-1 none`, `no $ in ...`."""
    stated = [f"{name} {value}" for name, value in layout.conventions().items()]
    stated += [f"integer prices x 1e-{layout.fixed_digits}"] if layout.fixed_digits is not None else []
    none = [cell for cell in layout.sentinels if len(cell) < 5]  # noqa: PLR2004  # the largest integers say nothing to a reader
    stated += [f"{' and '.join(none)} none"] if none else []
    stated += [f"no {' '.join(layout.signs)} in numbers"] if layout.signs else []
    stated += ["K, M, B in volumes"] if layout.magnitudes else []
    return stated


def has_columns(layout: Layout) -> bool:
    """Whether a header alone tells the layout: it states columns, no first line, and no other vendor writes them."""
    return layout.is_recognized and bool(layout.columns) and not layout.first_line


@functools.lru_cache(maxsize=512)
def normalized(columns: tuple[str, ...]) -> frozenset[str]:
    """Set of normalized column names; cached."""
    return frozenset(normalize_name(name) for name in columns)


def required_columns(layout: Layout) -> frozenset[str]:
    """Normalized names that must stand in a header of this layout."""
    return normalized(layout.columns)
