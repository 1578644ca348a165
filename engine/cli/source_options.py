"""Options shared by the commands that read sources."""

# Rooms are imported where they are used: `engine --help` answers without loading Polars.

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Calendar = Annotated[str | None, typer.Option(help="Calendar code (see `engine calendars`), or a TOML file.")]
CalendarPatterns = Annotated[Path | None, typer.Option(help="TOML with calendars by symbol pattern.")]
Base = Annotated[str | None, typer.Option(help="Base interval; default 1m where there is one, else the finest.")]
Symbols = Annotated[str | None, typer.Option(help="Keep only these, by comma.")]
FirstDate = Annotated[str | None, typer.Option(help="First trade date, YYYY-MM-DD.")]
LastDate = Annotated[str | None, typer.Option(help="Last trade date, YYYY-MM-DD, included.")]
Segments = Annotated[str | None, typer.Option(help="Expected segments: RTH, PRE, POST, OVERNIGHT ... by comma.")]
AuctionPrints = Annotated[
    str, typer.Option("--auctions", help="in: prints of closing auctions enter 1d, 1w and 1mo; out: they do not.")
]
DaysFold = Annotated[
    str,
    typer.Option("--daily-segments", help="What 1d and longer bars fold of the expected segments: regular or all."),
]


def complete_layout(start: str) -> list[str]:
    """Names of layouts that begin with `start`, case-sensitive, for the shell's completion."""
    from engine.sources.layouts.registry import layouts

    return [one.name for one in layouts() if one.name.startswith(start)]


def complete_format(start: str) -> list[str]:
    """Registered format names that begin with `start`, case-sensitive, for the shell's completion."""
    from engine.sources.formats.registry import format_names

    return [name for name in format_names() if name.startswith(start)]


SourceFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of the files, whatever they look like; an unknown name lists the valid ones.",
        autocompletion=complete_format,
    ),
]
VendorLayout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="Vendor whose way to write the files have, where nothing in them tells it (see `engine layouts`).",
        autocompletion=complete_layout,
    ),
]
SymbolFrom = Annotated[
    str | None,
    typer.Option(help="Where paths have the symbol: folder, or the end of the paths: '{symbol}/{date}.csv'; * is any."),
]
Scale = Annotated[int | None, typer.Option(help="Decimal digits of integers in binary cells of Parquet: 9, 16, 18.")]
Zone = Annotated[str | None, typer.Option(help="Zone of stamps that carry none.")]
StampMark = Annotated[str | None, typer.Option(help="What a stamp marks: start, end or end-inclusive.")]
Shift = Annotated[
    str | None,
    typer.Option(help="Add this to every stamp, after its zone: --shift=-5h, --shift 1m. Days keep their dates."),
]
Alignment = Annotated[str | None, typer.Option(help="Where bars begin: session, clock or date.")]
Unit = Annotated[str | None, typer.Option(help="Of numeric stamps: s, ms, us or ns.")]
TimeFormat = Annotated[str | None, typer.Option(help="How stamps are spelled, as strftime has it: '%d.%m.%Y %H:%M'.")]
Delimiter = Annotated[str | None, typer.Option(help="Between the cells of text; found out by default.")]
SkipRows = Annotated[
    int | None, typer.Option(help="Lines above the header (or the first row) of text files.", show_default="0")
]
Decimal = Annotated[str | None, typer.Option(help="Decimal mark of numbers in text: . or a comma.", show_default=".")]
Thousands = Annotated[
    str | None, typer.Option(help="Mark between thousands of numbers in text: a comma, . ' _ or ' '.")
]
NullCells = Annotated[str | None, typer.Option("--null", help="Cells that mean none, by comma: -1,N/A.")]
Ignore = Annotated[str | None, typer.Option(help="Columns to leave out, as the files name them, by comma.")]
Columns = Annotated[str | None, typer.Option(help="Mapping of columns: ts=Date,close=Last or ts=1,open=2.")]
OptionsFile = Annotated[Path | None, typer.Option(help="TOML with read options.")]
OneSymbol = Annotated[str | None, typer.Option(help="Symbol of all rows, whatever the files say.")]
NonPositive = Annotated[
    bool | None, typer.Option(help="Prices of zero and below are real.", show_default="no-allow-non-positive")
]
AsOf = Annotated[str | None, typer.Option(help="Judge as of this instant (ISO 8601 with zone).")]
