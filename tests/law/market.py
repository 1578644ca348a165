"""Rows of a small market with planted faults, in plain Python; and the ways to cut them into files and to write these.

Two symbols on XNYS and two around the clock, three sessions in March 2024. `rows` is what every file of every test holds.
"""

from __future__ import annotations

import datetime as dt
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

Row = dict[str, Any]
UTC = dt.UTC
MINUTE = dt.timedelta(minutes=1)
SESSIONS = (dt.date(2024, 3, 4), dt.date(2024, 3, 5), dt.date(2024, 3, 6))
CALENDARS = {"AAA": "XNYS", "BBB": "XNYS", "XBT": "24/7", "XET": "24/7"}
FILLED = range(600, 645)  # slots of XBT's second session that its source made up
VALUES = ("open", "high", "low", "close", "volume", "vwap", "trades")
COLUMNS = ("symbol", "ts", *VALUES)
SCHEMA = {
    "symbol": pl.String,
    "ts": pl.Datetime("us", "UTC"),
    **dict.fromkeys(VALUES[:-1], pl.Float64),
    "trades": pl.Int64,
}


def rows() -> list[Row]:
    """All rows, by symbol and time, the planted ones where their stamps belong."""
    made: list[Row] = []
    for symbol, code in CALENDARS.items():
        made += _with_faults(symbol, _bars(symbol, code))
    return made


def _drawn(low: int, high: int, *key: object) -> int:
    """A number from `low` to `high` that is always the same for a key."""
    return low + zlib.crc32(repr(key).encode()) % (high - low + 1)


def _bars(symbol: str, code: str) -> list[Row]:
    price, bars = 100.0 * len(symbol) + 50 * list(CALENDARS).index(symbol), []
    for day in SESSIONS:
        midnight = dt.datetime(day.year, day.month, day.day, tzinfo=UTC)
        first, count = (midnight + dt.timedelta(hours=14, minutes=30), 390) if code == "XNYS" else (midnight, 1440)
        for slot in range(count):
            if _is_missing(symbol, SESSIONS.index(day), slot, count):
                continue
            if symbol == "XBT" and day == SESSIONS[1] and slot in FILLED:
                bars.append({
                    "symbol": symbol, "ts": first + slot * MINUTE, **dict.fromkeys(("open", "high", "low", "close", "vwap"), price), "volume": 0.0, "trades": 0,
                })  # fmt: skip
                continue
            steps = [_drawn(-20, 20, symbol, day, slot, which) / 100 for which in range(3)]
            opened, closed = price, round(price + steps[0], 2)
            high = round(max(opened, closed) + abs(steps[1]), 2)
            low = round(min(opened, closed) - abs(steps[2]), 2)
            bars.append({
                "symbol": symbol, "ts": first + slot * MINUTE, "open": opened, "high": high, "low": low, "close": closed,
                "volume": float(_drawn(1, 40, symbol, day, slot) * 25), "vwap": round((high + low) / 2, 3), "trades": _drawn(1, 90, slot, day, symbol),
            })  # fmt: skip
            price = closed
    return bars


def _is_missing(symbol: str, session: int, slot: int, count: int) -> bool:
    """Runs without bars: a late start, an inner run, an early end, a whole session, and an outage of all symbols of XNYS."""
    leading = symbol == "AAA" and session == 0 and slot < 7
    inner = symbol == "AAA" and session == 1 and 100 <= slot < 125
    trailing = symbol == "BBB" and session == 2 and slot >= count - 12
    whole = symbol == "XET" and session == 1
    outage = CALENDARS[symbol] == "XNYS" and session == 2 and 200 <= slot < 230
    return leading or inner or trailing or whole or outage


def _with_faults(symbol: str, bars: list[Row]) -> list[Row]:
    at = {"AAA": 300, "BBB": 420, "XBT": 2000, "XET": 500}[symbol]
    bars = [dict(bar) for bar in bars]
    bars[at]["vwap"] = None
    if symbol == "AAA":
        bars[at + 1] |= {"low": -1.0, "open": -0.5}
        bars.insert(at + 5, dict(bars[at + 4]))  # the same row again
        bars[at + 8]["trades"] = -3
    if symbol == "BBB":
        bars[at + 1] |= {"high": bars[at + 1]["low"], "low": bars[at + 1]["high"]}
        for far in range(2, 14):  # keys that come twice with other values: the first ones lose
            twin = dict(bars[at + 2 * far])
            bars.insert(at + 2 * far, twin | {"close": twin["open"], "volume": twin["volume"] + 25.0})
    if symbol == "XBT":
        bars.insert(at + 3, bars[at + 3] | {"ts": bars[at + 3]["ts"] + dt.timedelta(seconds=17)})
        bars[at + 6]["ts"] = None
        bars.insert(at + 9, bars[at + 9] | {"trades": bars[at + 9]["trades"] + 1})  # a conflict in one column
    if symbol == "AAA":
        early = bars[at] | {"ts": dt.datetime(2024, 3, 5, 11, 2, tzinfo=UTC)}
        bars.insert(next(i for i, bar in enumerate(bars) if bar["ts"] > early["ts"]), early)
    if symbol == "XET":
        bars.append(bars[-1] | {"ts": dt.datetime(2250, 1, 1, tzinfo=UTC)})
    return bars


# A way to cut says which part a row goes to. Rows of one key stay together: whether the values of a later row are a conflict
# or a correction is said by whether it comes in the same file, so that cutting them apart gives other rows.
Cut = Callable[[Row], str]


def by_symbol(row: Row) -> str:
    """A file per symbol, with its name."""
    return str(row["symbol"])


def by_day(row: Row) -> str:
    """A file per date; a row without a date of the sessions comes with the last one."""
    day = row["ts"].date() if row["ts"] else SESSIONS[-1]
    return f"bars_{min(day, SESSIONS[-1])}"


def at_random(row: Row) -> str:
    """Three files."""
    return f"bars_part_{_drawn(0, 2, row['symbol'], row['ts'])}_of_3"


def uncut(row: Row) -> str:
    """One file."""
    del row
    return "bars"


CUTS: dict[str, Cut] = {"symbol": by_symbol, "day": by_day, "random": at_random, "one": uncut}


def parts(cut: Cut) -> dict[str, list[Row]]:
    """Rows by the name of their part, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows():
        found.setdefault(cut(row), []).append(row)
    return found


def _stamp(row: Row) -> str:
    return row["ts"].strftime("%Y-%m-%dT%H:%M:%SZ") if row["ts"] else "half past nine"


def csv_bytes(part: Sequence[Row]) -> bytes:
    """Comma-separated; the row without a stamp has text that is none."""
    cells = ([row["symbol"], _stamp(row), *(_cell(row[name]) for name in VALUES)] for row in part)
    return ("\n".join([",".join(COLUMNS), *map(",".join, cells)]) + "\n").encode()


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)


def ndjson_bytes(part: Sequence[Row]) -> bytes:
    """An object per line."""
    return ("\n".join(json.dumps(row | {"ts": _stamp(row)}) for row in part) + "\n").encode()


def frame(part: Iterable[Row]) -> pl.DataFrame:
    """Typed; the row without a stamp has a null."""
    return pl.DataFrame(list(part), schema=SCHEMA, orient="row")


def write(folder: Path, cut: Cut, form: str) -> Path:
    """Write the parts as files of a format: csv, gzip, ndjson, parquet, or text (Parquet whose stamps are text)."""
    folder.mkdir(parents=True)
    for name, part in parts(cut).items():
        if form == "csv":
            (folder / f"{name}.csv").write_bytes(csv_bytes(part))
        elif form == "gzip":
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress(csv_bytes(part), 1, mtime=0))
        elif form == "ndjson":
            (folder / f"{name}.ndjson").write_bytes(ndjson_bytes(part))
        elif form == "text":
            stamped = frame(part).with_columns(pl.Series("ts", [_stamp(row) for row in part]))
            stamped.write_parquet(folder / f"{name}.parquet", row_group_size=1500)
        else:
            frame(part).write_parquet(folder / f"{name}.parquet", row_group_size=1500)
    return folder
