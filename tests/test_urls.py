"""URLs where a call takes paths of this file system: refused with what is valid, and no folder `s3:` comes to be."""

from __future__ import annotations

from pathlib import Path

import engine
import pytest
from engine.errors import ParameterError
from engine.publish import atomic_publish, make_durable_folders
from engine.runtime.options import LoadOptions
from engine.urls import refuse_url, url_of


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("s3://lake/out", "s3://lake/out"),
        ("S3://lake/out", "s3://lake/out"),
        (Path("s3://lake/out"), "s3://lake/out"),
        (Path("gs:/lake"), "gs://lake"),
        ("xyz://a/b", "xyz://a/b"),
        (Path("xyz://a/b"), "xyz://a/b"),
        ("file:///data", "file:///data"),
        ("out", None),
        ("/data/s3:/x", None),
        ("./s3://x", None),
        ("c:/data", None),  # one letter is a drive
        ("SPY=data://x", None),
    ],
)
def test_url_of_tells_urls_from_paths(value, url):
    assert url_of(value) == url


def test_url_of_takes_one_slash_for_a_folder_that_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "day:").mkdir()
    assert url_of("day:/bars.csv") is None
    assert url_of("day://bars.csv") == "day://bars.csv"


def test_refuse_url_says_what_is_valid():
    with pytest.raises(ParameterError, match=r"out: received 's3://b/o', a URL of an object store; valid here: a path"):
        refuse_url("out", "s3://b/o")
    with pytest.raises(ParameterError, match=r"unknown scheme 'xyz'; valid here: a path"):
        refuse_url("out", "xyz://b/o")


CALLS = {
    "run": lambda url: engine.run("a.csv", LoadOptions(engine.CalendarMap("XNYS")), export=url),
    "load": lambda url: engine.load(url, "XNYS"),
    "open_dataset": engine.open_dataset,
    "sql": lambda url: engine.sql(url, "SELECT 1"),
    "connect": engine.connect,
    "audit": lambda url: engine.run_audit(url, "XNYS"),
    "publish": lambda url: atomic_publish(Path(url)).__enter__(),
    "folders": lambda url: make_durable_folders(Path(url)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_call_refuses_a_url_of_an_unknown_scheme(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="xyz://lake/out"):
        call("xyz://lake/out")
    assert not any(tmp_path.iterdir())
