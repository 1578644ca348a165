"""`engine live` as a process of its own, with the vendor's own client, against a vendor on 127.0.0.1."""

from __future__ import annotations

import datetime as dt
import json
import signal
from pathlib import Path

import polars as pl
import pytest
from engine.clock import ManualClock
from engine.runtime.resume import last_export

from tests.runtime.live_world import launch, until
from tests.soak.loopback import KEY, SECRET, Loopback

MINUTE = dt.timedelta(minutes=1)
SECOND_NS = 1_000_000_000
CONFIG = """
derive = ["5m"]
[session]
calendar = "24/7"
mode = "live"
symbols = ["A"]
[source]
kind = "alpaca"
options = {{ stream_url = "{stream}", rest_url = "{rest}", backoff_seconds = [0.01, 0.05], again_seconds = 0 }}
[streams]
bars = "1m"
quotes = true
ticks = true
[live]
poll_seconds = 0.05
grace_seconds = 0
[export]
target = "out"
every_seconds = 0.2
"""


def exported(folder: Path, table: str) -> pl.DataFrame:
    held = last_export(folder / "out")
    if held is None:
        return pl.DataFrame()
    rows = held.scan(table)
    return (rows.filter(pl.col("interval") == "1m") if table == "bars" else rows).collect()


def until_held(folder: Path, heights: dict[str, int]) -> None:
    until(lambda: {table: exported(folder, table).height for table in heights} == heights, str(heights))


def ns(at: dt.datetime) -> int:
    return int(at.timestamp()) * SECOND_NS


def minute(at: dt.datetime) -> dict[str, object]:
    return {"S": "A", "t": ns(at), "o": 10, "h": 11.5, "l": 9, "c": 10.5, "v": 100, "vw": 10.2, "n": 7}


def quote(t: int, bid: float = 10.0) -> dict[str, object]:
    return {"S": "A", "t": t, "bp": bid, "bs": 2, "bx": "V", "ap": 10.25, "as": 3, "ax": "V", "c": ["R"], "z": "C"}


def trade(t: int, number: int, price: float = 10.0) -> dict[str, object]:
    return {"S": "A", "t": t, "i": number, "x": "V", "p": price, "s": 5, "c": ["@"], "z": "C"}


@pytest.mark.parametrize("how", ["quiet", "frame", "reset"])
def test_live_quotes_and_trades_survive_a_disconnect_whole_and_are_exported(tmp_path: Path, how: str) -> None:
    start = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - 20 * MINUTE
    clock = ManualClock(start + 15 * MINUTE)
    with Loopback(clock) as vendor:
        config = CONFIG.format(stream=vendor.stream_url, rest=vendor.rest_url)
        (tmp_path / "live.toml").write_text(config)
        vendor.publish("b", [minute(start + n * MINUTE) for n in range(15)], is_silent=True)
        process = launch(tmp_path, APCA_API_KEY_ID=KEY, APCA_API_SECRET_KEY=SECRET)
        try:
            until_held(tmp_path, {"bars": 15})
            base = ns(start + 15 * MINUTE)
            clock.set(start + 16 * MINUTE)
            vendor.publish("q", [quote(base + n, 10 + n / 100) for n in range(20)])
            vendor.publish("t", [trade(base + n, n) for n in range(20)])
            until_held(tmp_path, {"quotes": 20, "ticks": 20})
            vendor.drop(how)
            vendor.publish("q", [quote(base + SECOND_NS + n) for n in range(5)], is_silent=True)
            vendor.publish("t", [trade(base + SECOND_NS + n, 20 + n) for n in range(5)], is_silent=True)
            vendor.publish("b", [minute(start + 15 * MINUTE)], is_silent=True)
            until_held(tmp_path, {"quotes": 25, "ticks": 25, "bars": 16})
            vendor.publish("q", [quote(base + 2 * SECOND_NS, 10.125)])
            until_held(tmp_path, {"quotes": 26})
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 0, err
    told = json.loads(out)
    assert told["exports"] >= 1
    assert any("Connection" in error for error in told["errors"])
    quotes, ticks = exported(tmp_path, "quotes"), exported(tmp_path, "ticks")
    assert quotes.sort("ts", "seq")["bid"].to_list() == [*(10 + n / 100 for n in range(20)), *[10.0] * 5, 10.125]
    assert sorted(ticks["seq"].to_list()) == list(range(25))
    assert ticks["price"].unique().to_list() == [10.0]
    found = exported(tmp_path, "quality").filter(pl.col("interval") == "1m").row(0, named=True)
    assert found["present"] == 16
