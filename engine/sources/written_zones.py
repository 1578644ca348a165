"""Zones written behind a stamp: offsets (`-05:00`, `GMT-0500`, `Z`), names (`US/Eastern`) and letters (`EST`).

Letters mean another offset in every country, and some vendors write `EST` all year for the time of New York. They are
therefore only compared with the zone that the caller states: they tell the passes of a repeated hour apart, and must be
what its clocks show.
"""

from __future__ import annotations

import re
import zoneinfo

import numpy as np
import polars as pl

from engine.errors import SourceError
from engine.schema import TS_NS
from engine.sources.local_time import letters_to_utc, local_to_utc, localized
from engine.sources.options import UNIT_NS
from engine.sources.stamp_types import ZONES_OF_LETTERS, Reading, Stamps, as_stamps

MOST_ZONES = 200
NO_OFFSET = re.compile(r"Z|z|UTC|GMT|UT")
OFFSET = re.compile(r"\(?(?:UTC|GMT|UT)?([-+\u2212])(\d{1,2}):?(\d{2})?\)?")
NAME = re.compile(r"\[?([A-Z][A-Za-z_]+(?:/[A-Za-z0-9_+-]+)+)\]?")
LETTERS = re.compile(r"\(?([A-Z]{2,5})\)?")


def zoned_to_utc(naive: pl.Series, zones: pl.Series, reading: Reading, series: pl.Series | None, *notes: str) -> Stamps:
    """UTC instants of local times by the zone written behind each, else `reading.zone`; SourceError if unknown.

    Parameters
    ----------
    naive : Series of Datetime[ns]
    zones : Series of String
        Text of the zone, null without.
    reading : Reading
    series : Series or None
        As `localized` has it.

    Raises
    ------
    SourceError
        A zone is not known; letters stand for a zone and none is stated, or are not what the stated one shows.
    """
    if zones.null_count() == len(zones):
        return local_to_utc(naive, reading, series, *notes)
    texts = [text for text in zones.unique(maintain_order=True).head(MOST_ZONES) if text is not None]
    offsets = {text: offset for text in texts if (offset := offset_ns(text)) is not None}
    aware = naive.to_physical() - zones.replace_strict(offsets, default=None, return_dtype=pl.Int64)
    ts = aware.cast(TS_NS)
    is_done = zones.is_in(list(offsets))
    if is_done.all():
        return as_stamps(ts, None, *notes)
    refused = pl.Series([None], dtype=pl.String).new_from_index(0, len(ts))
    told = list(notes)
    for part, mask in parts_of(zones, [text for text in texts if text not in offsets], naive):
        rows = np.flatnonzero(mask.to_numpy())
        if not len(rows):
            continue
        own = None if series is None else series.gather(rows)
        found = part_to_utc(naive.gather(rows), zones.gather(rows), part, reading, own)
        ts, refused = ts.scatter(rows, found.ts), refused.scatter(rows, found.refused)
        told.extend(found.notes)
    return as_stamps(ts, refused, *told)


def parts_of(zones: pl.Series, texts: list[str], naive: pl.Series) -> list[tuple[str | None, pl.Series]]:
    """(zone name, "" for letters, None for no zone; mask of its rows with a stamp); "" and None always, even without rows."""
    names = [text for text in texts if NAME.fullmatch(text)]
    letters = [text for text in texts if text not in names]
    masks: list[tuple[str | None, pl.Series]] = [(text, zones == text) for text in names]
    masks += [("", zones.is_in(letters)), (None, zones.is_null())]
    return [(name, (mask & naive.is_not_null()).fill_null(value=False)) for name, mask in masks]


def part_to_utc(
    naive: pl.Series, zones: pl.Series, part: str | None, reading: Reading, series: pl.Series | None
) -> Stamps:
    """UTC instants of local times that all have a zone's name, letters (empty `part`), or no zone (None)."""
    if part is None:
        return local_to_utc(naive, reading, series, "stamps with and without a zone are mixed")
    if not part:
        return lettered_to_utc(naive, zones.str.strip_chars("()"), reading, series)
    match = NAME.fullmatch(part)
    name = match[1] if match else part
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SourceError(reading.path, f"{reading.column}: no zone is called {name!r}") from error
    return localized(naive, name, series, is_bars=reading.is_bars)


def offset_ns(text: str) -> int | None:
    """Nanoseconds east of UTC of an offset (`Z`, `-05`, `(UTC-5)`, `GMT+0530`, `-05:00[Area/City]`); else None."""
    bare = re.sub(r"(?<=\d)\[.*\]$|(?<=\d)\s+\(.*\)$", "", text)
    if NO_OFFSET.fullmatch(bare):
        return 0
    match = OFFSET.fullmatch(bare)
    if match is None:
        return None
    minutes = int(match[2]) * 60 + int(match[3] or 0)
    return (1 if match[1] == "+" else -1) * minutes * 60 * UNIT_NS["s"]


def lettered_to_utc(naive: pl.Series, letters: pl.Series, reading: Reading, series: pl.Series | None) -> Stamps:
    """UTC instants of local times with letters of a zone (`EST`) by `reading.timezone`, which must show them.

    Raises
    ------
    SourceError
        No zone is stated, or its clocks show other letters; the message has the options that read the stamps.
    """
    if reading.timezone is not None:
        found = letters_to_utc(naive, letters, reading.timezone, series, is_bars=reading.is_bars)
        if found is not None:
            return found
    used = [text for text in letters.unique(maintain_order=True).head(5) if text]
    zones = [zone for zone, known in ZONES_OF_LETTERS.items() if set(used) <= set(known)]
    fitting = [zone for zone in (*zones, *used[:1]) if is_shown(naive, letters, zone, series, reading)]
    advice = "; ".join(f"--timezone {zone}" for zone in fitting) or "--timezone with the zone whose clocks show it"
    stated = f", and {reading.timezone} does not show {'it' if len(used) == 1 else 'them'} at these times"
    raise SourceError(
        reading.path,
        f"{reading.column}: stamps end in {' and '.join(used)}, which many zones share"
        f"{stated if reading.timezone else ''}; give {advice}",
    )


def is_shown(naive: pl.Series, letters: pl.Series, zone: str, series: pl.Series | None, reading: Reading) -> bool:
    """Whether a zone exists and its clocks show the letters at all these local times."""
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return letters_to_utc(naive, letters, zone, series, is_bars=reading.is_bars) is not None
