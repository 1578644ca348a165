"""Parquet objects in an object store: the same audit as of files, and errors that name the URL."""

from __future__ import annotations

import datetime as dt
import io

import polars as pl
import pytest
from engine.arguments import location_of
from engine.calendars.providers import calendar
from engine.errors import SourceError
from engine.grid import GridSpec, SessionGrid
from engine.runtime.auditor import audit
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.remote_files import remote_files
from engine.schema import BARS
from engine.simulation.sessions import Market, simulate

OPTIONS = LoadOptions(CalendarMap("XNYS"))


def write(store: str, name: str, content: bytes) -> None:
    (location_of("store", store) / name).write_bytes(content)


def simulated() -> pl.DataFrame:
    """A week of minutes of five symbols."""
    grid = SessionGrid.build(
        calendar("XNYS").segments(dt.date(2024, 11, 4), dt.date(2024, 11, 8)), "1m", GridSpec("XNYS")
    )
    return simulate(grid, Market.of(5, 3)).clean.select(list(BARS))


def test_audit_of_objects_finds_what_an_audit_of_the_files_does(store, tmp_path):
    bars = simulated()
    for symbol, rows in bars.group_by("symbol", maintain_order=True):
        rows.write_parquet(tmp_path / f"part-{symbol[0]}.parquet")
        write(store, f"bars/part-{symbol[0]}.parquet", (tmp_path / f"part-{symbol[0]}.parquet").read_bytes())
    there = audit([f"{store}/bars"], OPTIONS).tables
    here = audit([tmp_path], OPTIONS).tables
    for name in ("gaps", "quality", "outages"):
        assert there[name].equals(here[name]), name
    assert set(there["files"]["source"]) == {f"{store}/bars/part-S000{n}.parquet" for n in range(5)}


def test_audit_one_torn_object_is_a_finding_and_not_the_end(store):
    write(store, "beside/torn.parquet", b"PAR1 torn")
    buffer = io.BytesIO()
    simulated().filter(symbol="S0000").write_parquet(buffer)
    write(store, "beside/S0000.parquet", buffer.getvalue())
    found = audit([f"{store}/beside"], OPTIONS).tables["findings"]
    assert found.filter(check_name="unreadable_file")["source"].to_list() == [f"{store}/beside/torn.parquet"]


@pytest.mark.parametrize("url", ["s3://lake/nothing", "s3://absent/x"])
def test_remote_files_of_an_empty_place_are_refused_by_its_name(store, url):
    with pytest.raises(SourceError, match=url):
        remote_files(location_of("source", url))
