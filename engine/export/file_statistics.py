"""Statistics of a file in the log, read without opening it: rows, bounds and nulls of every column."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Any

import orjson

from engine.export.delta_table import DataFile

STAMPS = ("ts", "gap_start", "segment_open", "first_ts", "session")
RELATIVE_TOLERANCE = 1e-12  # logs keep floats as text, which not every reader takes back to the last bit
PARTS = ("minValues", "maxValues", "nullCount")

Held = dict[str, Any]


def row_count(file: DataFile) -> int:
    """Row count of a file as its log statistics state it; 0 when they do not."""
    count = parse_statistics(file.stats).get("numRecords")
    return count if isinstance(count, int) else 0


def parse_statistics(stats: str) -> Mapping[str, Any]:
    """Parse a file's Delta statistics JSON; an empty mapping when the text is no JSON object."""
    try:
        found = orjson.loads(stats)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def summarize_file(file: DataFile) -> Held:
    """Dict of `rows, symbols` (`A` or `A to Z`), datetimes `first_ts, last_ts` by a file's log; None each where absent."""
    stats = parse_statistics(file.stats)
    low, high = _part(stats, "minValues"), _part(stats, "maxValues")
    first, last = low.get("symbol"), high.get("symbol")
    stamp = next((name for name in STAMPS if low.get(name) is not None), "ts")
    return {
        "rows": stats.get("numRecords") if isinstance(stats.get("numRecords"), int) else None,
        "symbols": first if first == last or first is None else f"{first} to {last}",
        "first_ts": _instant(low.get(stamp)),
        "last_ts": _instant(high.get(stamp)),
    }


def differing_statistics(told: str, found: str) -> list[str]:
    """`numRecords` if it differs, then columns whose min, max (beyond 1e-12) or null count differ in two statistics."""
    one, other = parse_statistics(told), parse_statistics(found)
    names = ["numRecords"] * (one.get("numRecords") != other.get("numRecords"))
    for part in PARTS:
        mine, theirs = _part(one, part), _part(other, part)
        names += [name for name in {**mine, **theirs} if not _same(mine.get(name), theirs.get(name))]
    return list(dict.fromkeys(names))


def _part(stats: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = stats.get(name)
    return found if isinstance(found, dict) else {}


def _same(one: object, other: object) -> bool:
    """Whether two bounds are equal: numbers within a relative 1e-12, unequal texts if both are the same instant."""
    if isinstance(one, float | int) and isinstance(other, float | int):
        return one == other or math.isclose(one, other, rel_tol=RELATIVE_TOLERANCE)
    if isinstance(one, str) and isinstance(other, str) and one != other:
        instants = _instant(one), _instant(other)
        return instants[0] is not None and instants[0] == instants[1]
    return one == other


def _instant(value: object) -> dt.datetime | None:
    """Parse an ISO stamp as an aware datetime (UTC when it has no zone); None when it is no stamp."""
    try:
        instant = dt.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return instant.replace(tzinfo=dt.UTC) if instant is not None and instant.tzinfo is None else instant
