"""What stores and networks do to exports: throttling, cut connections, lists that lag, other writers, killed writers."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import polars as pl
import pytest
from engine.arguments import location_of
from engine.errors import EngineError, ExportError
from engine.export import dataset
from engine.export.dataset import STAGING, open_dataset
from engine.export.log_mirror import forget_logs
from engine.export.maintenance.vacuum import vacuum
from engine.export.maintenance.verify import verify
from engine.export.tables import DATA_TABLES
from engine.storage import ObjectPath

from tests.export.store_sample import bars, new_store, put, register, rows, settle
from tests.object_proxy import Faults, proxy_of

COMMITS = "/_delta_log/"


def generation(number: int):
    """A store of one symbol, with values that tell the generation."""
    one = new_store(store_id=f"store {number}")
    register(one, f"S{number}")
    one.append(bars(f"S{number}", 0, [0, 1, 2], float(number)), interval="1m")
    settle(one)
    return one


def generation_of(target: str, revision: int | None = None) -> int:
    """Which one a revision is, whole: all tables are of one symbol."""
    held = rows(target, revision)
    named = {symbol for name in DATA_TABLES if "symbol" in held[name].columns for symbol in held[name]["symbol"]}
    (symbol,) = named
    number = int(symbol.removeprefix("S"))
    assert held["bars"]["open"].unique().to_list() == [float(number)]
    assert {len(held["bars"]), len(held["symbols"])} == {5, 1}
    return number


@pytest.fixture
def proxy(store, object_server, monkeypatch):
    """A proxy that the environment leads to."""
    with proxy_of(object_server) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.address)
        yield running


def test_verify_asks_for_each_log_file_once_and_for_what_is_listed_no_more(store, proxy):
    for number in (1, 2):
        put(generation(number), store)
    proxy.forget()
    assert verify(store).is_empty()
    read = [one for one in proxy.asked if one.method == "GET" and not one.is_list and one.status < 300]
    logs = Counter(one.path for one in read if COMMITS in one.path)
    assert set(logs.values()) == {1}, logs
    assert sum(one.method == "HEAD" for one in proxy.asked) < 5
    gone = open_dataset(store).files("bars")[0]
    location_of("target", str(gone)).unlink()
    assert "exists" in verify(store)["check_name"].to_list()
    assert "exists" in verify(store, quick=True)["check_name"].to_list()


def test_throttled_requests_are_repeated(store, proxy):
    proxy.faults = Faults(throttle=lambda number, *_: number % 4 == 0)
    for number in (1, 2):
        assert put(generation(number), store) == number
    assert proxy.injected > 10
    assert [generation_of(store, revision) for revision in (1, 2)] == [1, 2]
    proxy.faults = Faults()
    assert verify(store).is_empty()


@pytest.mark.parametrize("when", ["cut_before", "cut_after"])
def test_cut_connections_leave_one_consistent_revision(store, proxy, when):
    put(generation(1), store)
    done = 1
    for offset in range(3):
        proxy.faults = Faults(**{when: lambda number, *_, offset=offset: number % 7 == offset})
        with suppress(ExportError):  # whether it got through is what the store says
            put(generation(done + 1), store)
        proxy.faults = Faults()
        last = open_dataset(store).revision
        assert last in (done, done + 1)
        assert generation_of(store) == last
        done = last
    assert put(generation(done + 1), store) == done + 1
    assert verify(store).is_empty()


def test_commit_whose_answer_was_lost_is_known_again(store, proxy):
    put(generation(1), store)
    lost: set[str] = set()

    def is_lost(_: int, method: str, path: str) -> bool:
        """The first answer to each commit."""
        if method != "PUT" or COMMITS not in path or path in lost:
            return False
        lost.add(path)
        return True

    proxy.faults = Faults(cut_after=is_lost)
    assert put(generation(2), store) == 2
    assert any("/exports/" in path for path in lost)
    assert generation_of(store) == 2
    assert verify(store).is_empty()


def test_log_files_are_fetched_once(store, proxy):
    for number in (1, 2):
        put(generation(number), store)
    forget_logs(location_of("x", store))
    proxy.forget()
    opened = open_dataset(store)
    for name in ("bars", "gaps", "bars"):
        assert opened.scan(name).collect().width
    fetched = Counter(one.path for one in proxy.asked if one.status == 200 and one.method == "GET" and not one.is_list)
    logs = {path: times for path, times in fetched.items() if "_delta_log" in path}
    assert len(logs) >= 4
    assert set(logs.values()) == {1}


def test_lists_that_lag_hide_no_revision(store, proxy):
    put(generation(1), store)
    forget_logs(location_of("x", store))
    assert open_dataset(store).revision == 1  # the lists of now are what all later ones will be
    proxy.faults = Faults(lag=lambda *_: True)
    for number in (2, 3):
        assert put(generation(number), store) == number
    forget_logs(location_of("x", store))
    assert open_dataset(store).revision == 3
    assert generation_of(store) == 3
    assert proxy.injected > 0


def test_store_that_is_down_is_an_error_that_names_the_target(store, object_server, monkeypatch):
    put(generation(1), store)
    with proxy_of(object_server) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.address)
        running.faults = Faults(throttle=lambda *_: True)
        monkeypatch.setattr(ObjectPath, "is_file", lambda _: (_ for _ in ()).throw(OSError("503 SlowDown")))
        monkeypatch.setattr(ObjectPath, "stat", lambda _: (_ for _ in ()).throw(OSError("503 SlowDown")))
        with pytest.raises(ExportError, match="s3://lake/"):
            put(generation(2), store)


def test_writer_that_was_overtaken_goes_on_behind_the_other(store, monkeypatch):
    put(generation(1), store)
    upload, others = dataset.upload, [generation(2)]

    def overtake(files) -> None:
        """Let another writer export in between, once."""
        if others:
            put(others.pop(), store)
        upload(files)

    monkeypatch.setattr(dataset, "upload", overtake)
    assert put(generation(3), store) == 3
    assert [generation_of(store, revision) for revision in (1, 2, 3)] == [1, 2, 3]
    assert verify(store).is_empty()


def test_writer_that_is_overtaken_for_long_says_so(store, monkeypatch):
    put(generation(1), store)
    upload, busy = dataset.upload, [False]

    def overtake(files) -> None:
        if not busy[0]:
            busy[0] = True
            put(generation(2), store)
        upload(files)

    monkeypatch.setattr(dataset, "upload", overtake)
    with pytest.raises(ExportError, match="another export is writing to it"):
        put(generation(3), store, lock_timeout=0)
    assert generation_of(store) == 2
    monkeypatch.setattr(dataset, "upload", upload)
    assert put(generation(4), store) == 3
    assert verify(store).is_empty()


def test_vacuum_leaves_files_that_are_on_their_way(store, monkeypatch):
    put(generation(1), store)
    put(generation(2), store)
    upload = dataset.upload

    def vacuum_between(files) -> None:
        upload(files)
        monkeypatch.setattr(dataset, "upload", upload)
        assert vacuum(store, keep_revisions=1).kept == (2,)

    monkeypatch.setattr(dataset, "upload", vacuum_between)
    assert put(generation(3), store) == 3
    assert generation_of(store) == 3
    assert verify(store).is_empty()


class KilledError(BaseException):
    """The writer is no more."""


@pytest.mark.parametrize("content", ["the same", "another"])
def test_killed_writer_leaves_nothing_behind(store, monkeypatch, content):
    target = location_of("x", store)
    put(generation(1), store)
    held, writes, limit = {1: 1}, [0], [0]  # generation by revision

    def dying(method):
        """The method, until the writer is dead: then nothing gets through any more."""

        def call(*values, **named):
            writes[0] += 1
            if writes[0] > limit[0]:
                raise KilledError
            return method(*values, **named)

        return call

    for name in ("write_bytes", "create", "upload", "unlink"):
        monkeypatch.setattr(ObjectPath, name, dying(getattr(ObjectPath, name)))
    for at in range(0, 40, 5):
        done = max(held)
        wanted = 10 * at + 2
        writes[0], limit[0] = 0, at
        with suppress(KilledError):
            put(generation(wanted), store)
        was_killed = writes[0] > limit[0]
        limit[0] = 10**6
        forget_logs(target)  # the next writer is another process
        last = open_dataset(store).revision
        assert last in (done, done + 1)
        held.setdefault(last, wanted)
        assert generation_of(store) == held[last]
        held[last + 1] = wanted + (content == "another")
        assert put(generation(held[last + 1]), store) == last + 1
        assert generation_of(store) == held[last + 1]
        assert verify(store).is_empty()
        assert not list((target / STAGING).iterdir())
        if not was_killed:
            return
    pytest.fail("no export got through")


def test_error_of_a_store_is_short(store):
    with pytest.raises(EngineError) as told:
        open_dataset("s3://absent/out")
    assert len(str(told.value)) < 400
    assert "s3://absent" in str(told.value)


def test_rows_of_two_writers_never_mix(store):
    """Two writers at once, each with some exports: every revision is whole, and of one of them."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    put(generation(9), store)
    with ThreadPoolExecutor(2) as writers:
        made = list(writers.map(lambda number: put(generation(number), store), [1, 2]))
    assert sorted(made) == [2, 3]
    assert {generation_of(store, revision) for revision in (2, 3)} == {1, 2}
    assert pl.DataFrame(verify(store)).is_empty()
