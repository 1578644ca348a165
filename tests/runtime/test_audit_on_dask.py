"""Audits on a Dask cluster: the tables of one process; nothing that is sent to a worker names a place of this machine's work."""

from __future__ import annotations

import pickle
from contextlib import contextmanager

import numpy as np
import polars as pl
import pytest
from engine.audit import pipeline
from engine.calendars.providers import calendar
from engine.runtime import auditor
from engine.runtime.executor import DaskCluster, DaskExecutor
from engine.runtime.run import load_options


class Elsewhere:
    """A Dask client whose workers are other machines: what they get is pickled, and may not name the folder of the audit's work."""

    def __init__(self, secret: str) -> None:
        self.secret, self.sent = secret.encode(), 0

    def submit(self, function, *values, key=None, retries=0):
        content = pickle.dumps((function, [value.value if isinstance(value, Made) else value for value in values]))
        assert self.secret not in content
        self.sent += 1
        made, arguments = pickle.loads(content)  # noqa: S301 - what was pickled above
        return Made(made(*arguments))

    def scatter(self, values, **options):
        return [Made(value) for value in values]

    def gather(self, futures):
        return [one.value for one in futures]


class Made:
    key = "made"

    def __init__(self, value) -> None:
        self.value = value

    def result(self):
        return self.value


class Far:
    concurrency = 3

    def __init__(self, client) -> None:
        self.client = client

    @contextmanager
    def open_pool(self):
        yield DaskCluster(self.client, iter, self.concurrency)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files of six symbols with minutes of their own missing and ten that all lack; a task a file, several blocks."""
    monkeypatch.setattr(auditor, "BYTES_PER_TASK", 1)
    monkeypatch.setattr(pipeline, "LEAST_RUNS_PER_BLOCK", 20)
    (tmp_path / "feed").mkdir()
    rng = np.random.default_rng(4)
    days = calendar("XNYS").segments("2024-06-03", "2024-06-07").filter("regular")
    opens = days["segment_open"].cast(pl.Int64).to_numpy()
    stamps = (opens[:, None] + np.arange(390) * 60_000_000).ravel()
    for number in range(6):
        kept = rng.random(len(stamps)) > 0.01 * number
        kept[800:810] = False
        ts = stamps[kept].astype("datetime64[us]")
        price = 100 + np.cumsum(rng.integers(-3, 4, len(ts))) * 0.01
        rows = pl.DataFrame(
            {"ts": ts, "open": price, "high": price + 0.02, "low": price - 0.02, "close": price, "volume": 100.0}
        )
        rows.write_csv(tmp_path / "feed" / f"S{number}_1m.csv", datetime_format="%Y-%m-%dT%H:%M:%SZ")
    return tmp_path / "feed"


def test_audit_by_workers_that_share_no_folder_of_work_gives_the_tables_of_one_process(folder, tmp_path):
    options, work = load_options("XNYS"), tmp_path / "output" / ".work"
    client = Elsewhere(str(work))
    made = auditor.audit([folder], options, work=work, executor=Far(client)).tables
    whole = auditor.audit([folder], options).tables
    assert {name: made[name].equals(whole[name]) for name in whole} == dict.fromkeys(whole, True)
    assert "feed_loss" in set(whole["gaps"]["cause"])
    assert client.sent > 6 + 3 * 3


@pytest.mark.slow
def test_audit_on_a_local_dask_cluster_gives_the_tables_of_one_process(folder, tmp_path):
    pytest.importorskip("distributed")
    options = load_options("XNYS")
    made = auditor.audit([folder], options, work=tmp_path / "work", executor=DaskExecutor("local", 2)).tables
    whole = auditor.audit([folder], options).tables
    assert {name: made[name].equals(whole[name]) for name in whole} == dict.fromkeys(whole, True)
