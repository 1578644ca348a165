"""Real signals to a real `engine live` whose source blocks for good: it ends, with what had come exported, and says so."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from engine.clock import ManualClock
from engine.runtime.resume import last_export

from tests.runtime import blocking_source
from tests.runtime.live_world import is_up, launch, until
from tests.soak.loopback import KEY, SECRET, Loopback
from tests.sources.streams.hostile_vendor import WAYS, HostileHistory, HostileServer, says, silent, whole

LONG = 120  # seconds until a test gives up; the sources block for an hour
MINUTE = dt.timedelta(minutes=1)
SESSION = """
[session]
calendar = "24/7"
mode = "live"
symbols = ["A"]
[streams]
bars = "1m"
[gaps]
interval_seconds = 0.2
[live]
poll_seconds = 0.1
grace_seconds = 0
[export]
target = "out"
every_seconds = 3600
"""
ALPACA = """
[source]
kind = "alpaca"
options = {{ stream_url = "{stream}", rest_url = "{rest}", timeout_seconds = 3600, backoff_seconds = {backoff} }}
"""


def exported(folder: Path) -> pl.DataFrame:
    held = last_export(folder / "out")
    return pl.DataFrame() if held is None else held.scan("bars").filter(pl.col("interval") == "1m").collect()


@contextmanager
def running(folder: Path, *words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = launch(folder, *words, **environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def stop(process: subprocess.Popen[str], how: signal.Signals) -> tuple[dict[str, object], str]:
    """The state that it printed, and its lines."""
    process.send_signal(how)
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, err
    return json.loads(out or "{}"), err


@pytest.mark.parametrize("name", ["open", "subscribe", "fetch"])
def test_source_that_blocks_the_start_is_left_and_nothing_is_exported(name: str, tmp_path: Path) -> None:
    blocking_source.install(tmp_path)
    (tmp_path / "live.toml").write_text(SESSION + '[source]\nkind = "blocking"\n')
    with running(tmp_path, BLOCKS_IN=name, PYTHONPATH=with_path(tmp_path)) as process:
        until((tmp_path / f"{name}.blocked").exists, "the call that blocks")
        _, err = stop(process, signal.SIGTERM)
    assert "SIGTERM: taking what has come" in err
    assert exported(tmp_path).height == 0


@pytest.mark.parametrize("name", ["wait", "take", "status", "retry", "close"])
def test_source_that_blocks_a_session_is_left_with_the_last_revision_exported(name: str, tmp_path: Path) -> None:
    blocking_source.install(tmp_path)
    (tmp_path / "live.toml").write_text(SESSION + '[source]\nkind = "blocking"\n')
    with running(tmp_path, BLOCKS_IN=name, PYTHONPATH=with_path(tmp_path)) as process:
        if name == "close":
            until(lambda: is_up(process), "the session")
            time.sleep(3)
        else:
            until((tmp_path / f"{name}.blocked").exists, "the call that blocks")
        told, err = stop(process, signal.SIGINT)
    assert exported(tmp_path).height == len(blocking_source.MINUTES), err
    assert told["rows"] == len(blocking_source.MINUTES)
    if name in ("take", "status", "close"):  # calls that were waited for in vain at the end
        assert any(f"{name} of the source had not returned" in error for error in told["errors"])


def with_path(folder: Path) -> str:
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


class FullListener:
    """An address whose queue of connections is full: to connect to it blocks."""

    def __enter__(self) -> str:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        address = self._listener.getsockname()
        self._waiting = [socket.socket() for _ in range(3)]
        for one in self._waiting:
            one.setblocking(False)
            one.connect_ex(address)
        return f"127.0.0.1:{address[1]}"

    def __exit__(self, *_: object) -> None:
        for one in [self._listener, *self._waiting]:
            one.close()


def alpaca(folder: Path, stream: str, rest: str, backoff: str = "[0.01, 0.05]") -> dict[str, str]:
    (folder / "live.toml").write_text(SESSION + ALPACA.format(stream=stream, rest=rest, backoff=backoff))
    return {"APCA_API_KEY_ID": KEY, "APCA_API_SECRET_KEY": SECRET}


def stop_when(folder: Path, is_blocked: Callable[[], bool], keys: dict[str, str]) -> str:
    with running(folder, **keys) as process:
        until(lambda: is_up(process) and is_blocked(), "the call that blocks")
        time.sleep(0.5)
        return stop(process, signal.SIGTERM)[1]


def test_alpaca_that_cannot_be_connected_to_is_left(tmp_path: Path) -> None:
    with FullListener() as address:
        began = time.monotonic()
        keys = alpaca(tmp_path, f"ws://{address}", f"http://{address}")
        assert "SIGTERM" in stop_when(tmp_path, lambda: time.monotonic() - began > 8, keys)


@pytest.mark.parametrize("name", ["silent", "endless_pages"])
def test_alpaca_that_does_not_complete_an_answer_is_left(name: str, tmp_path: Path) -> None:
    with HostileServer(WAYS[name][0]) as rest, HostileServer(silent) as stream:
        keys = alpaca(tmp_path, stream.stream_url, rest.url)
        assert "SIGTERM" in stop_when(tmp_path, lambda: rest.connections > 0 and stream.connections > 0, keys)


def test_alpaca_whose_next_attempt_is_far_away_is_left(tmp_path: Path) -> None:
    busy = says(whole(b"{}", status="503 Busy"))
    with HostileServer(busy) as rest, HostileServer(silent) as stream:
        keys = alpaca(tmp_path, stream.stream_url, rest.url, "[3600, 3600]")
        assert "SIGTERM" in stop_when(tmp_path, lambda: rest.connections > 0, keys)


def test_lookup_of_a_name_that_blocks_is_left(tmp_path: Path) -> None:
    # A resolver cannot be told to stop, and its threads are of a kind that the end of a process waits for.
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, socket, time\n"
        "found = socket.getaddrinfo\n"
        "def getaddrinfo(host, *words, **options):\n"
        "    if 'slow' in str(host):\n"
        f"        pathlib.Path({str(tmp_path)!r}, 'lookup.blocked').touch()\n"
        "        time.sleep(3600)\n"
        "    return found(host, *words, **options)\n"
        "socket.getaddrinfo = getaddrinfo\n"
    )
    keys = alpaca(tmp_path, "ws://slow.invalid:80", "http://slow.invalid")
    keys["PYTHONPATH"] = with_path(tmp_path)
    assert "SIGTERM" in stop_when(tmp_path, (tmp_path / "lookup.blocked").exists, keys)


def test_alpaca_whose_history_turns_hostile_exports_what_was_streamed(tmp_path: Path) -> None:
    start = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - 30 * MINUTE
    clock = ManualClock(start + 20 * MINUTE)

    def bar(n: int) -> dict[str, object]:
        ns = int((start + n * MINUTE).timestamp()) * 1_000_000_000
        return {"S": "A", "t": ns, "o": 10, "h": 11.5, "l": 9, "c": 10.5, "v": 100, "vw": 10.2, "n": 7}

    with Loopback(clock) as vendor, HostileHistory(WAYS["endless_pages"][0], vendor) as history:
        vendor.publish("b", [bar(n) for n in range(20)], is_silent=True)
        keys = alpaca(tmp_path, vendor.stream_url, history.url)
        with running(tmp_path, **keys) as process:
            until(lambda: vendor.connected == 1 and history.connections > 0, "the start")
            time.sleep(2)
            history.symbols = {"A"}
            asked = history.connections
            vendor.drop("reset")
            until(lambda: vendor.connected == 1 and history.connections > asked, "the backfill that blocks")
            vendor.publish("b", [bar(20), bar(21)])
            time.sleep(2)
            stop(process, signal.SIGTERM)
    assert exported(tmp_path)["ts"].to_list() == [start + n * MINUTE for n in range(22)]


def test_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    blocking_source.install(tmp_path)
    often = SESSION.replace("every_seconds = 3600", "every_seconds = 0.1")
    (tmp_path / "live.toml").write_text(often + '[source]\nkind = "blocking"\n')
    with running(tmp_path, BLOCKS_IN="take", PYTHONPATH=with_path(tmp_path)) as process:
        until((tmp_path / "take.blocked").exists, "the call that blocks")
        before = last_export(tmp_path / "out")
        assert before is not None
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LONG)
    assert process.returncode == 130, err
    assert out == ""
    held = last_export(tmp_path / "out")
    assert held is not None
    assert held.exports.height == before.exports.height
