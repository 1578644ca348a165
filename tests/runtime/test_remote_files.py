"""Parquet objects in an object store: the same audit as of files, and errors that name the URL."""

from __future__ import annotations

import datetime as dt
import socket
import subprocess
import sys
import time

import polars as pl
import pyarrow.fs as pafs
import pytest
from engine.calendars.providers import calendar
from engine.errors import SourceError
from engine.grid import GridSpec, SessionGrid
from engine.runtime.auditor import audit
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.remote_files import is_remote, remote_files
from engine.schema import BARS
from engine.simulation.sessions import Market, simulate

OPTIONS = LoadOptions(CalendarMap("XNYS"))


@pytest.fixture(scope="module")
def store():
    """A server that speaks S3, with an empty bucket `lake`."""
    pytest.importorskip("moto.server", reason="no server that speaks S3 is installed (moto)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ALLOW_HTTP": "true"}.items():
            patch.setenv(name, value)
        files = pafs.S3FileSystem(
            endpoint_override=f"127.0.0.1:{port}", scheme="http", region="us-east-1", allow_bucket_creation=True
        )
        for attempt in range(50):
            try:
                files.create_dir("lake")
                break
            except OSError:
                time.sleep(0.2)
                assert attempt < 49
        try:
            yield files
        finally:
            server.kill()
            server.wait()


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
        with store.open_output_stream(f"lake/bars/part-{symbol[0]}.parquet") as out:
            out.write((tmp_path / f"part-{symbol[0]}.parquet").read_bytes())
    there = audit(["s3://lake/bars"], OPTIONS).tables
    here = audit([tmp_path], OPTIONS).tables
    for name in ("gaps", "quality", "outages"):
        assert there[name].equals(here[name]), name
    assert set(there["files"]["source"]) == {f"s3://lake/bars/part-S000{n}.parquet" for n in range(5)}


def test_audit_one_torn_object_is_a_finding_and_not_the_end(store):
    with store.open_output_stream("lake/beside/torn.parquet") as out:
        out.write(b"PAR1 torn")
    with store.open_output_stream("lake/beside/S0000.parquet") as out:
        simulated().filter(symbol="S0000").write_parquet(out)
    found = audit(["s3://lake/beside"], OPTIONS).tables["findings"]
    assert found.filter(check_name="unreadable_file")["source"].to_list() == ["s3://lake/beside/torn.parquet"]


@pytest.mark.parametrize("url", ["s3://lake/nothing", "s3://absent/x"])
def test_remote_files_of_an_empty_place_are_refused_by_its_name(store, url):
    with pytest.raises(SourceError, match=url):
        remote_files(url)


@pytest.mark.parametrize(
    ("source", "remote"),
    [("s3://a/b", True), ("s3:/a/b", True), ("gs://a", True), ("/data/s3", False), ("C:/data", False), ("data", False)],
)
def test_is_remote_tells_urls_from_paths(source, remote):
    assert is_remote(source) is remote
