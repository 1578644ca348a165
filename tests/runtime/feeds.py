"""Small files of a few sessions, each row with the instant from which it may be known; and what a store shows of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from engine.runtime.config import SessionConfig
from engine.runtime.deployments import ReplaySession
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot
from polars.testing import assert_frame_equal

MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)
PRICES = ("open", "high", "low", "close", "price", "bid", "ask")
# XNYS, in UTC; the session of July 3rd ends early.
CLOSES = {
    dt.date(2024, 6, 28): 20, dt.date(2024, 7, 1): 20, dt.date(2024, 7, 2): 20, dt.date(2024, 7, 3): 17, dt.date(2024, 7, 5): 20,
}  # fmt: skip
DAYS = tuple(CLOSES)


def opens(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(13, 30), dt.UTC)


def closes(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(CLOSES[day]), dt.UTC)


@dataclass(frozen=True)
class File:
    """A file below the folder: its rows, and `available`, from when each of them may be known."""

    name: str
    rows: pl.DataFrame


def minutes(day: dt.date, which: Iterable[int] | None = None) -> list[dt.datetime]:
    """Starts of minute bars of a session: all of them, or the n-th ones."""
    count = (closes(day) - opens(day)) // MINUTE
    return [opens(day) + n * MINUTE for n in (range(count) if which is None else which)]


def bars(stamps: Sequence[dt.datetime], price: float = 10.0, step: dt.timedelta = MINUTE) -> pl.DataFrame:
    """Bars whose prices and volumes differ from one another; each may be known when it ends."""
    level = [price + (at.toordinal() % 7) + 0.01 * (at.minute + at.hour) for at in stamps]
    return pl.DataFrame({
        "ts": stamps, "open": level, "high": [one + 0.5 for one in level], "low": [one - 0.25 for one in level],
        "close": [one + 0.125 for one in level], "volume": [float(100 + at.minute) for at in stamps],
        "available": [min(at + step, closes(at.date())) for at in stamps],
    })  # fmt: skip


def again(rows: pl.DataFrame, price: float | None = None) -> pl.DataFrame:
    """Rows as a later file repeats them, with another price when one is given."""
    if price is None:
        return rows
    return rows.with_columns(open=price, high=price + 1, low=price - 1, close=price)


def later(name: str, repeated: pl.DataFrame, new: pl.DataFrame) -> File:
    """A later file: what it repeats may be known when its last row has ended, what is new in it as ever."""
    end = pl.concat([repeated, new])["available"].max()
    return File(
        name, pl.concat([repeated.with_columns(pl.lit(end, repeated.schema["available"]).alias("available")), new])
    )


def write(files: Iterable[File], folder: Path, at: dt.datetime | None = None, how: str = "loud") -> Path:
    """Write files; after `at` rows are `loud` (prices a thousand times as high) or `gone`."""
    for one in files:
        rows = one.rows
        if at is not None:
            unknown = pl.col("available") > at
            prices = [name for name in PRICES if name in rows.columns]
            poisoned = rows.with_columns(pl.when(unknown).then(pl.col(prices) * 1000).otherwise(pl.col(prices)))
            rows = poisoned if how == "loud" else rows.filter(~unknown)
        path = folder / one.name
        path.parent.mkdir(parents=True, exist_ok=True)
        stamped = rows.drop("available").with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ"))
        stamped.write_csv(path)
    return folder


def configured(folder: Path, **parts: Any) -> SessionConfig:
    """A replay of a folder: minutes, 5m, 1h and 1d, four hours a step, unless told otherwise."""
    content: dict[str, Any] = {
        "session": {"calendar": "XNYS"}, "source": {"paths": [folder]}, "streams": {"bars": "1m"},
        "derive": ["5m", "1h", "1d"], "replay": {"step_seconds": 14_400},
    }  # fmt: skip
    for name, part in parts.items():
        content[name] = {**content.get(name, {}), **part} if isinstance(part, Mapping) else part
    return SessionConfig.of(content)


def replayed(folder: Path, **parts: Any) -> SessionData:
    """The store when a replay has ended."""
    return ReplaySession(configured(folder, **parts)).run()


def shown(snapshot: Snapshot, *, revisions: bool = False) -> dict[str, pl.DataFrame]:
    """Every table, its rows in one order."""
    tables = snapshot.tables()
    kept = tables if revisions else {name: rows.drop("revision", strict=False) for name, rows in tables.items()}
    return {name: rows.sort([c for c in rows.columns if c != "derived_intervals"]) for name, rows in kept.items()}


def assert_same_tables(have: Mapping[str, pl.DataFrame], want: Mapping[str, pl.DataFrame]) -> None:
    """Equal to the last bit, every row and column."""
    assert set(have) == set(want)
    for name, rows in want.items():
        try:
            assert_frame_equal(have[name], rows, check_exact=True)
        except AssertionError as error:
            more = have[name].join(rows, on=rows.columns, how="anti", nulls_equal=True)
            less = rows.join(have[name], on=rows.columns, how="anti", nulls_equal=True)
            raise AssertionError(f"{name}: {error}\nonly have:\n{more}\nonly want:\n{less}") from error
