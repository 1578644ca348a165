"""Exports in an object store: the same tables, revisions and maintenance as on a disk, and nothing beside it."""

from __future__ import annotations

import datetime as dt

import engine
import polars as pl
import pytest
from engine.arguments import location_of
from engine.errors import ExportError, ParameterError
from engine.export import delta_table
from engine.export.cursors import advance_cursor, list_cursors, read_cursor
from engine.export.dataset import STAGING, open_dataset
from engine.export.delta import apply_delta, read_delta
from engine.export.difference import diff
from engine.export.log_mirror import forget_logs
from engine.export.maintenance.compact import compact
from engine.export.maintenance.vacuum import vacuum
from engine.export.maintenance.verify import verify
from engine.export.revision_history import history, revision_at
from engine.export.tables import DATA_TABLES

from tests.export.store_sample import WRITTEN_AT, bars, new_store, put, quotes, register, rows, settle, ticks


@pytest.fixture
def session():
    """Two symbols with bars, ticks and quotes of two days."""
    one = new_store(store_id="one")
    for symbol in ("A", "B"):
        register(one, symbol)
        one.append(pl.concat([bars(symbol, day, [0, 1, 2, 4]) for day in (0, 1)]), interval="1m")
    one.append(ticks("A", 0, [0, 1]), kind="ticks")
    one.append(quotes("A", 0, [0, 1]), kind="quotes")
    settle(one)
    return one


def grow(session, day: int) -> None:
    session.append(bars("A", day, [0, 1, 2]), interval="1m")
    settle(session)


def test_tables_in_a_store_are_those_on_a_disk(session, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for day in (2, 3):
        assert put(session, store) == put(session, tmp_path / "out")
        grow(session, day)
    for revision in (None, 1):
        there, here = rows(store, revision), rows(tmp_path / "out", revision)
        for name in DATA_TABLES:
            assert there[name].equals(here[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_maintenance_in_a_store_is_that_on_a_disk(session, store, tmp_path):
    here = tmp_path / "out"
    for day in (2, 3, 4, 5):
        put(session, store)
        put(session, here)
        grow(session, day)
    left_out = ["bytes", "bytes_added", "bytes_removed", "tables"]
    assert history(store).drop(left_out).equals(history(here).drop(left_out))
    for name, frame in diff(store, 1, 4).frames().items():
        assert frame.equals(diff(here, 1, 4).frames()[name]), name
    assert verify(store).is_empty()
    assert verify(store, quick=True).is_empty()
    assert revision_at(store, WRITTEN_AT + dt.timedelta(days=1)) == 4
    columns = ["table", "rows", "files_before", "files_after"]
    assert compact(store).merged.select(columns).equals(compact(here).merged.select(columns))
    there, local = vacuum(store, keep_revisions=1), vacuum(here, keep_revisions=1)
    assert (there.kept, there.expired) == (local.kept, local.expired) == ((5,), (1, 2, 3, 4))
    assert there.removed.select("table", "files").equals(local.removed.select("table", "files"))
    assert verify(store).is_empty()
    assert vacuum(store, keep_revisions=1).removed.is_empty()
    with pytest.raises(ExportError, match="expired"):
        open_dataset(store, 2)


def test_sql_reads_an_export_in_a_store(session, store, tmp_path):
    put(session, store)
    put(session, tmp_path / "out")
    query = "SELECT * EXCLUDE (revision) FROM bars ORDER BY ALL"
    assert engine.sql(store, query).equals(engine.sql(tmp_path / "out", query))
    assert engine.sql(store, "SELECT * FROM coverage", isolated=False).height == 4
    with engine.connect(store) as con:
        assert con.sql("SELECT count(*) FROM ticks").fetchall() == [(2,)]


def test_sql_of_a_process_that_got_its_credentials_after_a_first_question(session, store, tmp_path, monkeypatch):
    put(session, store)
    put(session, tmp_path / "out")
    with monkeypatch.context() as before:
        before.delenv("AWS_ACCESS_KEY_ID")
        before.delenv("AWS_SECRET_ACCESS_KEY")
        count = engine.sql(tmp_path / "out", "SELECT count(*) FROM bars").item()
    assert engine.sql(store, "SELECT count(*) FROM bars").item() == count


def test_sql_sees_nothing_of_the_store_but_the_pinned_files(session, store):
    put(session, store)
    for place in (f"{store}/exports/_delta_log/*.json", f"{store}/bars/*/*/*.parquet", "pinned://exports/../bars"):
        with pytest.raises(engine.EngineError):
            engine.sql(store, f"SELECT * FROM read_text('{place}')")  # noqa: S608


def test_deltas_and_cursors_of_an_export_in_a_store(session, store):
    put(session, store)
    whole = read_delta(store, 0)
    advance_cursor(store, "risk", whole.until)
    grow(session, 2)
    put(session, store)
    delta = read_delta(store, read_cursor(store, "risk"))
    assert not delta.full
    copy = apply_delta(apply_delta({}, whole), delta)
    assert copy["bars"].drop("revision").sort(pl.all()).equals(rows(store)["bars"].drop("revision").sort(pl.all()))
    assert list_cursors(store).rows() == [("risk", 1)]


def test_export_continues_one_in_a_store_by_another_store(session, store):
    put(session, store)
    other = new_store(store_id="two")
    register(other, "C")
    other.append(bars("C", 0, [0, 1]), interval="1m")
    settle(other)
    assert put(other, store) == 2
    assert rows(store)["symbols"]["symbol"].to_list() == ["C"]
    assert rows(store, 1)["symbols"]["symbol"].to_list() == ["A", "B"]
    assert verify(store).is_empty()


def test_export_into_a_place_that_holds_something_else_is_refused(session, store):
    (location_of("target", store) / "notes.txt").write_bytes(b"mine")
    with pytest.raises(ExportError, match="neither empty nor an export"):
        put(session, store)


def test_export_without_a_bucket_is_refused(session):
    with pytest.raises(ParameterError, match="names no bucket"):
        put(session, "s3:///out")


def test_export_to_a_store_that_nobody_serves_names_the_target(session, store, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(ExportError, match="s3://absent/out"):
        put(session, "s3://absent/out")


def test_nothing_is_announced_after_an_export(session, store):
    put(session, store)
    assert not list((location_of("target", store) / STAGING).iterdir())


def test_checkpoints_in_a_store_are_read(session, store, monkeypatch):
    monkeypatch.setattr(delta_table, "COMMITS_PER_CHECKPOINT", 4)
    for day in range(6):
        grow(session, day + 2)
        put(session, store)
    table = location_of("target", store) / "bars"
    assert [path.name for path in table.rglob("*.checkpoint.parquet")] == [f"{4:020}.checkpoint.parquet"]
    forget_logs(location_of("target", store))  # as another process
    assert verify(store).is_empty()
    assert vacuum(store, keep_revisions=1).removed["log_entries"].sum() > 0
    assert verify(store).is_empty()
