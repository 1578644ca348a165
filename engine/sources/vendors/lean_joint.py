"""Zips of Lean of one day and one instrument each, read as one table: the fast form of `lean.read_lean` for trade bars.

Members of files of one security, market, zone and width are joined (`joint_parts`), each with the midnight of its own
day. A file with something to tell, such as a rejected row, a line of another width or a local time that comes twice,
is left to `read_lean`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from engine.errors import SourceError
from engine.sources import archive
from engine.sources.batch import Batch, SourceFile
from engine.sources.file_names import PathFacts
from engine.sources.joint_parts import Text, file_bytes, part_numbers, plain_lines, rows_in_parts, whole_parts
from engine.sources.local_time import localized
from engine.sources.options import ReadOptions
from engine.sources.stamp_types import NAIVE
from engine.sources.table_rows import Origin, conform_sides
from engine.sources.text import parse_csv
from engine.sources.vendors.lean import Member, choose_members, row_columns, since_midnight
from engine.sources.vendors.lean_layout import LeanFile, data_zone, parse_lean_path, vendor_name


@dataclass(frozen=True)
class LeanMember:
    """The one member of a zip that is read, with its place among the files given."""

    place: int
    file: LeanFile
    sha256: str
    member: Member
    notes: tuple[str, ...]
    text: Text


def read_lean_files(files: Sequence[SourceFile], options: ReadOptions) -> list[Batch | None]:
    """A batch per file, as `read_lean` gives it, where the file can be read with the others; None where not."""
    batches: list[Batch | None] = [None] * len(files)
    if options.price_types and "last" not in options.price_types:
        return batches
    alike: dict[tuple[str, str, str, int], list[LeanMember]] = defaultdict(list)
    for place, file in enumerate(files):
        member = lean_member(place, file, options)
        zone = None if member is None else data_zone(member.file) or options.timezone
        if member is not None and zone is not None:
            width = member.text.lines.split(b"\n", 1)[0].count(b",") + 1
            alike[member.file.security, member.file.resolution, zone, width].append(member)
    for (_, _, zone, width), members in alike.items():
        try:
            made = read_members(members, zone, width, options)
        except (SourceError, pl.exceptions.PolarsError):
            continue
        for member, batch in zip(members, made, strict=True):
            batches[member.place] = batch
    return batches


def lean_member(place: int, file: SourceFile, options: ReadOptions) -> LeanMember | None:
    """The member of a file of trade bars of one day and instrument, if its lines are even; else None."""
    lean_file = parse_lean_path(file.path)
    if lean_file is None or lean_file.day is None or lean_file.holds_contracts or lean_file.content != "trade":
        return None
    data = file_bytes(file) if lean_file.kind == "bars" else None
    if data is None:
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            infos = [info for info in opened.infolist() if not info.is_dir()]
            archive.check_members(file.path, infos, options)
            chosen, notes = choose_members(lean_file, [info.filename for info in infos], options)
            if len(chosen) != 1:
                return None
            allowed = archive.allowed_bytes(len(data), options)
            block = archive.read_member(file.path, opened, chosen[0].name, allowed)
    except (SourceError, NotImplementedError, ValueError, *archive.DAMAGES):
        return None
    text = plain_lines(block, ",", block.split(b"\n", 1)[0].count(b",") + 1)
    if text is None:
        return None
    return LeanMember(place, lean_file, hashlib.sha256(data).hexdigest(), chosen[0], notes, text)


def read_members(members: Sequence[LeanMember], zone: str, width: int, options: ReadOptions) -> list[Batch | None]:
    """Batches of members of one security, resolution, zone and width; None of those that have something to tell.

    Raises
    ------
    SourceError, PolarsError
        Of some member: all are to be read one by one.
    """
    first = members[0].file
    names = first.columns(width, str(first.path))
    counts = np.array([member.text.count for member in members], np.int64)
    raw = parse_csv(b"".join(member.text.lines for member in members), dict.fromkeys(names, pl.Float64()), ",", None)
    if raw.height != counts.sum():
        return [None] * len(members)
    days = pl.Series([dt.datetime.combine(member.file.day, dt.time()) for member in members if member.file.day])
    midnight = days.cast(NAIVE).gather(np.repeat(np.arange(len(members)), counts))
    naive = raw.select(since_midnight(pl.col("time"), pl.lit(midnight)).alias("ts"))["ts"]
    parts = part_numbers(counts.tolist())
    stamps = localized(naive, zone, parts, is_bars=True)
    if stamps.notes or stamps.refused.is_not_null().any():
        return [None] * len(members)
    raw = raw.with_columns(parts.alias("symbol"), rows_in_parts(1, counts))
    columns = row_columns(first, raw) | {"ts": pl.lit(stamps.ts)}
    good, bad = conform_sides(raw, "bars", columns, (), Origin("", "", PathFacts(), options))
    frames = whole_parts(good, counts.tolist(), [member.member.symbol for member in members])
    return [
        frame if frame is None else member_batch(member, frame, bad.clear(), zone, options)
        for member, frame in zip(members, frames, strict=True)
    ]


def member_batch(
    member: LeanMember, frame: pl.DataFrame, rejects: pl.DataFrame, zone: str, options: ReadOptions
) -> Batch:
    """The batch of one file."""
    return Batch(
        kind="bars",
        interval=member.file.interval,
        frame=frame,
        rejects=rejects,
        source=f"{member.file.path}!{member.member.name}",
        sha256=member.sha256,
        stamp=options.stamp or "start",
        align=options.align or member.file.align,
        zone=zone,
        source_symbols={member.member.symbol: vendor_name(member.member.name, member.file)},
        notes=member.notes,
    )
