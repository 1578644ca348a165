"""Zips of Lean's layout -> batches.

1. The path tells what the rows are (`lean_layout.parse_lean_path`); the members of the file's own date are chosen
   (`choose_members`).
2. Their cells become one table, each row with the symbol of its member (`members_table`).
3. Times since midnight, or written out, become instants in UTC from the data time zone (`member_stamps`).
4. Scaled integers become prices; sides without a quote become nothing (`row_columns`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from engine.errors import SourceError
from engine.schema import REJECTS, ROWS, empty, rejected_rows
from engine.sources import archive
from engine.sources.batch import Batch, SourceFile
from engine.sources.file_names import PathFacts
from engine.sources.local_time import localized
from engine.sources.options import ReadOptions
from engine.sources.stamp_types import NAIVE, Reading, Stamps
from engine.sources.stamps import column_to_utc
from engine.sources.table_rows import Origin, conform_sides, divided, drop_unrequested
from engine.sources.text import cells
from engine.sources.vendors.lean_layout import (
    PRICE_SCALE,
    SCALED,
    LeanFile,
    data_zone,
    member_day,
    parse_lean_path,
    vendor_name,
)

DAY_MS = 86_400_000
NS_PER_MS = 1_000_000
PRICES = frozenset(["open", "high", "low", "close", "price", "bid", "ask"]) | {
    f"{side}_{part}" for side in ("bid", "ask") for part in ("open", "high", "low", "close")
}
ONE_SIDED_WIDTH = 8  # quote ticks with an exchange hold one side; the other is 0


@dataclass(frozen=True)
class Member:
    """One entry of a zip: its name, and the symbol of its rows."""

    name: str
    symbol: str


def source_file(path: Path) -> SourceFile | None:
    """The file with kind, interval, symbol, market from its path, `last` if trade bars; None outside the layout."""
    file = parse_lean_path(path)
    if file is None:
        return None
    return SourceFile(
        path=path,
        format="lean",
        kind=file.kind,
        interval=file.interval,
        symbol=file.symbol,
        price_type="last" if file.kind == "bars" and file.content == "trade" else None,
        market=file.market,
        security=file.security,
    )


def read_lean(path: Path, options: ReadOptions, qualifier: str = "") -> Batch:
    """Batch of the zip members of the path's date, requested symbols only; zone by database, table, then option.

    Raises
    ------
    SourceError
        The path is not of that layout, the archive is damaged or over the limits, or the zone is not known.
    """
    file = parse_lean_path(path)
    if file is None:
        raise SourceError(
            path,
            "not in Lean's layout: <security>/<market>/<resolution>/<symbol>/<YYYYMMDD>_<trade|quote|openinterest>.zip",
        )
    zone = data_zone(file) or options.timezone
    if zone is None:
        raise SourceError(path, f"data time zone of {file.security}/{file.market} is not known; give --timezone")
    chosen, notes = choose_members(file, archive.member_names(path, options), options)
    source = f"{path}!{chosen[0].name}" if len(chosen) == 1 else str(path)
    origin = Origin(source, archive.sha256(path), PathFacts(), options, qualifier, notes)

    raw, width, refused = members_table(file, chosen, options)
    raw = raw.with_columns(pl.col("symbol") + origin.qualifier) if origin.qualifier else raw
    stamps = member_stamps(file, raw, zone, origin)
    good, bad = conform_members(file, raw, width, stamps, origin)
    kept, left_out = drop_unrequested(good, options)
    own = {member.symbol + origin.qualifier: vendor_name(member.name, file) for member in chosen}
    return Batch(
        kind=file.kind,
        interval=file.interval,
        frame=kept,
        rejects=pl.concat([refused, bad]),
        source=origin.source,
        sha256=origin.sha256,
        stamp=options.stamp or "start",
        align=options.align or file.align,
        zone=zone,
        source_symbols=own,
        notes=(*origin.notes, *stamps.notes, *left_out),
    )


def choose_members(file: LeanFile, names: Sequence[str], options: ReadOptions) -> tuple[list[Member], tuple[str, ...]]:
    """CSV members of the file's date or undated (one, unless contracts), if requested; SourceError if none by date."""
    day = file.day.strftime("%Y%m%d") if file.day else None
    own = [name for name in names if name.endswith(".csv") and member_day(name) in (None, day)]
    notes = [f"member {name} left out: not of the file's date" for name in names if name not in own]
    if not file.holds_contracts and len(own) > 1:
        best = [name for name in own if file.ticker in name.lower()] or own
        notes += [f"member {name} left out: {best[0]} holds the symbol" for name in own if name != best[0]]
        own = best[:1]
    if not own:
        raise SourceError(
            file.path, f"no member of the file's date {day or ''}; it holds {', '.join(names) or 'nothing'}"
        )
    members = []
    for name in own:
        symbol = file.member_symbol(name)
        if symbol is None:
            raise SourceError(f"{file.path}!{name}", "the member's name lacks its contract")
        if file.ticker not in name.lower().removesuffix(".csv").rsplit("/", 1)[-1].split("_"):
            notes.append(f"member {name} names another symbol; the folder's is taken: {symbol}")
        members.append(Member(name, symbol))
    kept = [member for member in members if options.selects(member.symbol)]
    if len(kept) < len(members):
        notes.append(f"{len(members) - len(kept)} members of other symbols left out")
    return kept, tuple(notes)


def members_table(
    file: LeanFile, chosen: Sequence[Member], options: ReadOptions
) -> tuple[pl.DataFrame, int, pl.DataFrame]:
    """(all members' cells with `symbol`, `source`, `row`; width of the first line; refused lines of other widths)."""
    parts, refused, names = [], [empty(REJECTS)], file.columns(widest_layout(file), str(file.path))
    blocks = archive.members(file.path, [member.name for member in chosen], options)
    for at, (member, block) in enumerate(zip(chosen, blocks, strict=True)):
        source = f"{file.path}!{member.name}"
        if at == 0:
            names = file.columns(block.split(b"\n", 1)[0].count(b",") + 1, source) if block else names
        read = cells(block, names, ",", source)
        parts.append(read.raw.with_columns(pl.lit(member.symbol).alias("symbol"), pl.lit(source).alias("source")))
        refused.append(read.refused)
    if not parts:
        text = dict.fromkeys((*names, "symbol", "source"), pl.String())
        return pl.DataFrame(schema={**text, "row": pl.Int64()}), len(names), pl.concat(refused)
    return pl.concat(parts), len(names), pl.concat(refused)


def widest_layout(file: LeanFile) -> int:
    """Most columns that members of the file's kind and content can have."""
    return {"ticks": 6, "quotes": 8, "open_interest": 2}.get(file.kind, 11 if file.content == "quote" else 6)


def member_stamps(file: LeanFile, raw: pl.DataFrame, zone: str, origin: Origin) -> Stamps:
    """UTC stamps in `zone` of ms since the file's midnight (null beyond a day), else of `YYYYMMDD HH:MM`."""
    is_bars = file.kind == "bars"
    if file.day is None:
        return column_to_utc(
            raw["time"],
            Reading(origin.source, "time", zone, time_format="%Y%m%d %H:%M", is_bars=is_bars),
            raw["symbol"],
        )
    since = pl.col("time").str.strip_chars().cast(pl.Float64, strict=False)
    midnight = pl.lit(dt.datetime.combine(file.day, dt.time()), NAIVE)
    naive = raw.select(since_midnight(since, midnight).alias("ts"))["ts"]
    return localized(naive, zone, raw["symbol"], is_bars=is_bars)


def since_midnight(since: pl.Expr, midnight: pl.Expr) -> pl.Expr:
    """Expression for local times that are so many ms (decimals) after midnight; null where that is beyond the day."""
    past = (since * NS_PER_MS).round(0).cast(pl.Int64, strict=False).cast(pl.Duration("ns"))
    return pl.when(since.is_between(0, DAY_MS)).then(midnight + past)


def conform_members(
    file: LeanFile, raw: pl.DataFrame, width: int, stamps: Stamps, origin: Origin
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(good, rejects by member): quote bars split by side; in 8-column quotes a side priced 0 is null."""
    if width == ONE_SIDED_WIDTH and file.kind == "quotes":
        raw = raw.with_columns(
            null_if_absent("bid"),
            null_if_absent("bid_size", "bid"),
            null_if_absent("ask"),
            null_if_absent("ask_size", "ask"),
        )
    exists = stamps.refused.is_null()
    rows, ts, skipped = raw, stamps.ts, empty(REJECTS)
    if not exists.all():
        skipped = rejected_rows(raw.filter(~exists), stamps.refused.filter(~exists), origin.source)
        rows, ts = raw.filter(exists), stamps.ts.filter(exists)
    columns = row_columns(file, rows) | {"ts": pl.lit(ts)}
    sides = ("bid", "ask") if file.kind == "bars" and file.content == "quote" else ()
    good, bad = conform_sides(rows, file.kind, columns, sides, origin)
    rejects = pl.concat([skipped, bad])
    if rejects.is_empty():
        return good, rejects
    # The table of several members carries each row's own source among its cells.
    own = rejects["cells"].str.json_path_match("$.source")
    return good, rejects.with_columns(own.fill_null(rejects["source"]).alias("source"))


def null_if_absent(name: str, price: str | None = None) -> pl.Expr:
    """Expression: the column, null where `price` (default: the column itself) is 0, which means no quote."""
    absent = pl.col(price or name).str.strip_chars().cast(pl.Float64, strict=False) == 0
    return pl.when(~absent.fill_null(value=False)).then(pl.col(name)).alias(name)


def row_columns(file: LeanFile, raw: pl.DataFrame) -> dict[str, pl.Expr]:
    """Column -> expression for the kind's columns; scaled prices are divided by 10,000, `seq` is the row number."""
    is_scaled = file.security in SCALED
    columns = {
        name: parse_cell(name, dtype, is_scaled=is_scaled)
        for name, dtype in raw.schema.items()
        if name not in ("time", "row", "source")
    }
    if "seq" in ROWS[file.kind]:
        columns["seq"] = pl.col("row")
    known = set(ROWS[file.kind]) | (columns.keys() if file.content == "quote" and file.kind == "bars" else set())
    return {name: expr for name, expr in columns.items() if name in known}


def parse_cell(name: str, dtype: pl.DataType, *, is_scaled: bool) -> pl.Expr:
    """Text columns as they are, `suspicious` Boolean, others Float64 (scaled prices / 10,000); unreadable: null."""
    cell = pl.col(name)
    if name in ("symbol", "exchange", "conditions"):
        return cell
    if name == "suspicious":
        return cell.str.strip_chars().replace_strict({"0": False, "1": True}, default=None, return_dtype=pl.Boolean)
    number = cell.str.strip_chars().cast(pl.Float64, strict=False) if dtype == pl.String else cell
    return divided(number, PRICE_SCALE) if name in PRICES and is_scaled else number
