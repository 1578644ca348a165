"""Vendor files through our readers, as rows placed on a grid; and the facts that were measured from their bytes."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from engine.grid import GridSpec, SessionGrid
from engine.schema import SEGMENTS
from engine.sources.batch import Batch
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan

CALENDARS = Path(__file__).parent / "calendars"
Fact = dict[str, Any]


def batches(paths: Sequence[Path], **options: Any) -> list[tuple[Path, Batch]]:
    """Every batch of the data files in `paths`, in the order of their paths."""
    asked = ReadOptions(**options)
    found, problems = scan(paths, asked)
    assert not [one for one in problems if not one.ignored]
    return [(file.path, batch) for file in found for batch in read(file, asked)]


def rows(*paths: Path, **options: Any) -> pl.DataFrame:
    """The conformed rows of files of one kind."""
    return pl.concat([batch.frame for _, batch in batches(paths, **options)])


def day_facts(vendor: Path) -> list[Fact]:
    """The facts of FACTS.json that have session windows: one per file, or per contract of a file."""
    facts: list[Fact] = json.loads((vendor / "FACTS.json").read_text("utf-8"))
    return [fact for fact in facts if fact["windows"]]


def windows(fact: Fact) -> tuple[tuple[dt.datetime, dt.datetime], ...]:
    """A fact's session windows, in UTC."""
    spans = pl.DataFrame(fact["windows"], schema={"open": pl.String, "close": pl.String}, orient="row")
    zoned = pl.all().str.to_datetime("%Y-%m-%d %H:%M:%S").dt.replace_time_zone(fact["time_zone"])
    return tuple(spans.select(zoned.dt.convert_time_zone("UTC")).rows())


def segments(day: dt.date, spans: Iterable[tuple[dt.datetime, dt.datetime]]) -> pl.DataFrame:
    """Segments of one session, made by hand."""
    number = (day - dt.date(1970, 1, 1)).days * 16
    made = [(day, number + at, "RTH", opened, closed, True) for at, (opened, closed) in enumerate(spans)]
    return pl.DataFrame(made, schema=dict(SEGMENTS), orient="row")


def grid_of(fact: Fact, interval: str) -> SessionGrid:
    """The grid of a fact's windows."""
    day = dt.date.fromisoformat(fact["windows"][0][0][:10])
    return SessionGrid.build(segments(day, windows(fact)), interval, GridSpec("FACTS"))
