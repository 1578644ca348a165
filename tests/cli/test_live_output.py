"""What `engine live` says: sentences, and the same as JSON."""

from __future__ import annotations

import datetime as dt
import json
import re
import signal
import socket
import subprocess
import threading
import urllib.request
import warnings
from pathlib import Path

import pytest
from engine.cli import live_output
from engine.cli.console import set_quiet
from engine.cli.live_output import LiveLog, LiveReporter, describe_followed, describe_market, describe_status, instant
from engine.runtime.config import SessionConfig
from engine.runtime.live_status import LiveStatus
from engine.sources.streams.iterator import IteratorStream

from tests.runtime.live_world import MINUTE, OPEN, Morning, bars, launch, until


def config(**more: object) -> SessionConfig:
    return SessionConfig.of(
        {
            "session": {"calendar": "XNYS", "mode": "live", "symbols": list("ABCDEFG")},
            "source": {"kind": "alpaca"},
            "derive": ["5m", "1h"],
            **more,
        }
    )


def test_describe_followed_names_symbols_kinds_intervals_calendar_and_export() -> None:
    assert describe_followed(config()) == (
        "following 7 symbols (A, B, C, D, E and 2 more) of alpaca: bars of the base interval; derived 5m, 1h; "
        "calendar XNYS; no export"
    )
    more = config(
        session={"calendars": {"ES*": "CME_INDEX"}, "mode": "live", "symbols": ["ESZ6"]},
        streams={"bars": "1m", "quotes": True, "ticks": True},
        derive=[],
        export={"target": "out", "every_seconds": 60},
    )
    assert describe_followed(more) == (
        "following 1 symbol (ESZ6) of alpaca: bars of 1m, quotes, ticks; calendar CME_INDEX of ES*; export to out every 60 s"
    )


@pytest.mark.parametrize(
    ("away", "text"),
    [
        (dt.timedelta(minutes=3), "13:28 UTC (in 3 min)"),
        (dt.timedelta(hours=2), "15:25 UTC (in 2 h)"),
        (dt.timedelta(days=3, hours=5), "2024-06-30 18:25 UTC (in 3 d 5 h)"),
        (dt.timedelta(seconds=-5), "13:24 UTC (in 0 min)"),
    ],
)
def test_instant_tells_how_far_it_is_away(away: dt.timedelta, text: str) -> None:
    now = OPEN - 5 * MINUTE
    assert instant(now + away, now) == text


def test_describe_market_tells_the_next_session_or_the_close() -> None:
    morning = Morning()
    morning.live.start()
    assert describe_market(LiveStatus.of(morning.live)) == (
        "the market is closed; session 2024-06-27 opens at 13:30 UTC (in 5 min)"
    )
    morning.at(1)
    assert describe_market(LiveStatus.of(morning.live)) == "session 2024-06-27 is open until 20:00 UTC (in 6 h 29 min)"
    morning.at(60 * 8)
    assert describe_market(LiveStatus.of(morning.live)).startswith(
        "the market is closed; session 2024-06-28 opens at 2024-06-28 13:30 UTC (in 16 h"
    )


def test_describe_status_has_rows_gaps_and_the_last_bar() -> None:
    morning = Morning()
    morning.live.start()
    morning.stream.push(bars("A", [0, 1, 3]))
    morning.at(4)
    assert describe_status(LiveStatus.of(morning.live), 3) == (
        "session 2024-06-27 open  rows 3 (+3)  derived 1  gaps 2 open  missing 5  lag 0.0 s  last bar to 13:34:00"
    )


def test_reporter_writes_news_once_and_at_the_end_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_output, "LOOK_SECONDS", 0.01)
    morning = Morning()
    told: list[str] = []
    reporter = LiveReporter(morning.live, LiveLog(as_json=True), 0.05, told.append)
    morning.live.start()
    morning.at(1)
    morning.live._record("backfill: first")
    until(lambda: len(told) >= 3, "three lines of the state", 30)
    for n in range(150):  # more than are kept
        morning.live._record(f"backfill: {n}")
    reporter.close()
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "following"
    assert kinds.count("session_open") == 1
    assert [event["message"] for event in events if event["event"] == "error"][:2] == [
        "backfill: first",
        "backfill: 50",
    ]
    assert kinds.count("error") == 101
    states = [event for event in events if event["event"] == "status"]
    assert states[0]["gaps"] == {"open": 0, "retrying": 0, "abandoned": 0, "filled": 0}
    assert dt.datetime.fromisoformat(states[0]["time"]).tzinfo is not None


def test_log_is_one_line_per_event_whatever_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    steering = "two\nlines \x1b[31m\x07 and \u2028 more"
    LiveLog(as_json=True).write("error", steering, "error", value=steering)
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == steering
    LiveLog(as_json=False).write("error", steering, "error")
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC  error: two\\nlines \\x1b\[31m\\x07 and \\u2028 more\n", text
    )


def test_log_with_quiet_has_errors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    set_quiet(quiet=True)
    try:
        LiveLog(as_json=False).write("status", "a line")
        LiveLog(as_json=False).write("source_error", "lost", "warning")
    finally:
        set_quiet(quiet=False)
    assert capsys.readouterr().err.endswith("UTC  warning: lost\n")


def test_log_has_warnings_of_python_as_events(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(), LiveLog(as_json=True).warnings_as_events():
        warnings.simplefilter("always")
        warnings.warn("something odd", stacklevel=1)
    assert json.loads(capsys.readouterr().err)["message"] == "something odd"


FOLDER = """
derive = ["5m"]
[session]
calendar = "24/7"
mode = "live"
symbols = ["A"]
[source]
kind = "folder"
paths = ["drops"]
[streams]
bars = "1m"
[live]
report_seconds = 0.3
poll_seconds = 0.1
[export]
target = "out"
"""


def lines_of(process: subprocess.Popen[str]) -> tuple[list[dict[str, object]], threading.Thread]:
    """Its events, and the thread that adds them as they come."""
    events: list[dict[str, object]] = []
    assert process.stderr is not None
    stream = process.stderr
    reader = threading.Thread(target=lambda: events.extend(map(json.loads, stream)), daemon=True)
    reader.start()
    return events, reader


def test_process_serves_logs_and_notifies_its_supervisor(tmp_path: Path) -> None:
    (tmp_path / "drops").mkdir()
    start = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - 30 * MINUTE
    rows = bars("A", range(20)).with_columns(ts=start + (bars("A", range(20))["ts"] - OPEN))
    rows.select("symbol", "ts", "open", "high", "low", "close", "volume").write_csv(tmp_path / "drops" / "one.csv")
    (tmp_path / "live.toml").write_text(FOLDER)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        process = launch(tmp_path, "--metrics", "0", "--log-json", **environment)
        events, reader = lines_of(process)
        try:
            while (message := manager.recv(4096)) != b"READY=1":
                assert message.startswith(b"STATUS=")
            heard = {manager.recv(4096).partition(b"=")[0] for _ in range(20)}
            assert heard == {b"WATCHDOG", b"STATUS"}
            [port] = [event["port"] for event in events if event["event"] == "serving"]

            def page(path: str) -> bytes:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                    return bytes(answer.read())

            until(lambda: b"session_engine_rows_total 20.0" in page("/metrics"), "the rows")
            assert json.loads(page("/healthz")) == json.loads(page("/readyz")) == {"status": "ok", "reasons": []}
            process.send_signal(signal.SIGTERM)
            assert process.stdout is not None
            state = json.loads(process.stdout.read())
            assert process.wait(60) == 0
        finally:
            process.kill()
            reader.join(60)
            process.communicate()
        manager.settimeout(0)
        last = []
        while True:
            try:
                last.append(manager.recv(4096))
            except BlockingIOError:
                break
        assert b"STOPPING=1" in last
    assert state["rows"] == 20
    kinds = [event["event"] for event in events]
    assert kinds[:2] == ["serving", "following"]
    assert {"session_open", "status", "stopping", "stopped"} <= set(kinds)
    assert {"time", "level", "event", "message"} <= set.intersection(*(set(event) for event in events))


@pytest.mark.parametrize(
    ("words", "config", "message"),
    [
        (["--metrics", "x"], FOLDER, "metrics: received 'x'; valid: PORT"),
        ([], FOLDER.replace("drops", "nowhere"), "folder: received"),
        ([], FOLDER.replace('"live"', '"lively"'), "session.mode"),
    ],
)
def test_mistake_with_log_json_is_an_event_and_exit_code_2(
    engine, words: list[str], config: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "drops").mkdir()
    (tmp_path / "live.toml").write_text(config)
    code, out, err = engine("live", tmp_path / "live.toml", "--log-json", *words)
    assert (code, out) == (2, "")
    last = json.loads(err.splitlines()[-1])
    assert (last["event"], last["level"]) == ("failed", "error")
    assert message in last["message"]
    code, out, err = engine("live", tmp_path / "live.toml", *words)
    assert code == 2
    assert message in err


def test_source_that_ends_with_an_error_is_exit_code_1(engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def frames():
        yield bars("A", [0])
        raise ZeroDivisionError("of the feed")

    monkeypatch.setattr("engine.runtime.live.open_stream", lambda config: IteratorStream(frames()))
    (tmp_path / "drops").mkdir()
    (tmp_path / "live.toml").write_text(FOLDER)
    code, out, err = engine("live", tmp_path / "live.toml")
    assert code == 1
    assert "ZeroDivisionError: of the feed" in out
    assert "warning: source: iterator: ZeroDivisionError: of the feed" in err
