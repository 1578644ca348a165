"""Example of a package that adds a file format, a vendor's layout and a live source to the engine, by entry points.

Its metadata (`acme_feeds-1.0.dist-info/entry_points.txt`, which a build back-end writes from `pyproject.toml`) names them:

    [project.entry-points."engine.formats"]
    acme = "acme_feeds:AcmeFormat"
    [project.entry-points."engine.layouts"]
    acme = "acme_feeds:LAYOUTS"
    [project.entry-points."engine.sources"]
    acme = "acme_feeds:open_stream"
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from engine.clock import Clock
from engine.runtime.config import SessionConfig
from engine.sources.batch import Batch
from engine.sources.formats.format import TextFormat
from engine.sources.frames import read_frame
from engine.sources.layouts.layout import Layout
from engine.sources.streams.contract import Stream
from engine.sources.streams.iterator import IteratorStream
from engine.sources.table_rows import Origin

MAGIC = b"ACME1\n"
NAMES = ["symbol", "ts", "open", "high", "low", "close", "volume"]


class AcmeFormat(TextFormat):
    """Lines such as `SPY|1704205800|10|10.5|9.5|10.2|100` after a first line `ACME1`; also gzipped, or in a zip."""

    name = "acme"
    suffixes = (".acme",)
    precedence = 60  # formats with a mark of their own are tried before text

    def sniff(self, head: bytes, path: Path) -> bool:
        return head.startswith(MAGIC)

    def read_content(self, data: bytes, origin: Origin) -> Batch:
        table = pl.read_csv(data.removeprefix(MAGIC), separator="|", has_header=False, new_columns=NAMES)
        return read_frame(table, origin)


LAYOUTS = (
    Layout(name="acme", title="Acme CSV: stamps are ends", columns=("ACME_END", "O", "H", "L", "C"), aliases={"ts": "acmeend"}, zone="America/New_York", stamp="end"),
)  # fmt: skip


def open_stream(config: SessionConfig, clock: Clock) -> Stream:
    """A stream of the symbols of the configuration; `[source] options = { bars = 3 }` says how many bars each has."""
    return IteratorStream(frames(config, clock.now()), symbols=config.session.symbols, clock=clock, name="acme")


def frames(config: SessionConfig, now: dt.datetime) -> Iterator[pl.DataFrame]:
    start = now.replace(second=0, microsecond=0)
    for number in range(int(config.source.options["bars"])):
        ts = start + dt.timedelta(minutes=number)
        yield pl.DataFrame([{**dict.fromkeys(NAMES, 10.0), "symbol": one, "ts": ts} for one in config.session.symbols])
