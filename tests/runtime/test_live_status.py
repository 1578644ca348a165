"""Figures, metrics and health of a live session on a clock that stands still."""

from __future__ import annotations

import datetime as dt
import json
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.errors import EngineError, ParameterError
from engine.export.dataset import open_dataset
from engine.runtime import live_status
from engine.runtime.live_metrics import METRICS, PREFIX, LiveMetrics
from engine.runtime.live_server import LiveServer, metrics_page, parse_address
from engine.runtime.live_status import LiveStatus
from engine.sources.streams.contract import StreamStatus
from prometheus_client.parser import text_string_to_metric_families

from tests.runtime.live_world import MINUTE, OPEN, HandStream, Morning, bars, configured


def started(**more: object) -> Morning:
    morning = Morning(**more)  # type: ignore[arg-type]
    morning.live.start()
    return morning


def with_gap() -> Morning:
    """At 09:40, after a step: A has minutes 0 to 9 but 3 and 4, of which 4 was filled; B has all of them."""
    morning = started()
    morning.stream.push(bars("A", [0, 1, 2, 5, 6, 7, 8, 9]))
    morning.stream.push(bars("B", list(range(10))))
    morning.at(10)
    morning.stream.past = bars("A", [4])
    return morning.at(11.5).at(11.6)


def test_status_counts_rows_gaps_and_retries() -> None:
    status = LiveStatus.of(with_gap().live)
    assert (status.rows, status.symbols, status.phase, status.is_open) == (19, 2, "running", True)
    # Minutes 10 (and of B too) are due and missing; they still grow. Of A minute 3 was asked for once, 4 was filled.
    assert status.gaps == {"open": 2, "retrying": 1, "abandoned": 0, "filled": 1}
    assert status.missing == 3
    assert status.retries == 1
    assert status.history_requests == {"answered": 1, "failed": 0}
    assert status.last_bar_end == OPEN + 10 * MINUTE
    assert status.last_bar_age_seconds == pytest.approx(96)
    assert (status.session, status.opens) == (OPEN.date(), OPEN)
    assert status.stalled_seconds is None


def test_status_before_the_open_names_the_next_session() -> None:
    morning = started()
    status = LiveStatus.of(morning.live)
    assert (status.phase, status.is_open, status.opens, status.last_bar_end) == ("waiting", False, OPEN, None)
    assert status.gaps == {"open": 0, "retrying": 0, "abandoned": 0, "filled": 0}


def test_status_knows_the_last_revision(tmp_path: Path) -> None:
    morning = started(config=configured(export={"target": str(tmp_path / "out"), "every_seconds": 60}))
    morning.stream.push(bars("A", [0, 1]))
    morning.at(1).at(3)
    status = LiveStatus.of(morning.live)
    written = open_dataset(tmp_path / "out")
    assert (status.exports, status.revision) == (written.exports.height, written.revision)


def samples(morning: Morning) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    page, _ = LiveMetrics(morning.live).page("")
    families = text_string_to_metric_families(page.decode())
    return {(one.name, tuple(one.labels.items())): one.value for family in families for one in family.samples}


def test_metrics_are_what_prometheus_reads_with_the_values_of_the_session() -> None:
    morning = with_gap()
    read = samples(morning)
    assert read[PREFIX + "rows_total", ()] == 19
    assert read[PREFIX + "gaps", (("state", "retrying"),)] == 1
    assert read[PREFIX + "history_requests_total", (("outcome", "answered"),)] == 1
    assert read[PREFIX + "last_bar_age_seconds", ()] == pytest.approx(96)
    assert read[PREFIX + "session_open", ()] == 1
    assert read[PREFIX + "lag_seconds", ()] == 0
    assert (PREFIX + "revision", ()) not in read  # nothing was exported
    names = {name for name, _ in read}
    for metric in METRICS:
        of = PREFIX + metric.name + ("_total" if metric.kind == "counter" else "")
        assert of in names or metric.name in {"revision", "source_dropped_rows"}
    assert "process_resident_memory_bytes" in names


def test_histogram_of_steps_counts_the_steps_since_it_was_made() -> None:
    morning = started()
    metrics = LiveMetrics(morning.live)
    morning.at(1).at(2).at(3)
    page = metrics.page("")[0].decode()
    assert f"{PREFIX}step_seconds_count 3.0" in page
    assert morning.live.errors.copy() == type(morning.live.errors)()


def test_metrics_of_the_how_to_are_those_of_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "monitoring.md").read_text()
    for metric in METRICS:
        name = PREFIX + metric.name + ("_total" if metric.kind == "counter" else "")
        label = f" (`{metric.label}`)" if metric.label else ""
        assert f"| `{name}`{label} | {metric.kind} | {metric.text} |" in page


@pytest.fixture
def served() -> Iterator[tuple[Morning, str]]:
    morning = started()
    server = LiveServer(morning.live, "127.0.0.1", 0, metrics_page(morning.live))
    yield morning, f"http://127.0.0.1:{server.port}"
    server.close()


def get(url: str, method: str = "GET") -> tuple[int, str, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:  # noqa: S310
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def test_server_answers_probes_and_scrapes(served: tuple[Morning, str], monkeypatch: pytest.MonkeyPatch) -> None:
    morning, url = served
    morning.at(1)
    status, content_type, page = get(url + "/metrics")
    assert (status, content_type.split(";")[0]) == (200, "text/plain")
    assert b"session_engine_steps_total" in page
    assert get(url + "/healthz")[0] == 200
    assert (get(url + "/readyz")[0], json.loads(get(url + "/readyz")[2])) == (200, {"status": "ok", "reasons": []})
    assert get(url + "/healthz", "HEAD") == (200, "application/json", b"")
    assert get(url + "/other")[0] == 404
    morning.live.source.last_status = StreamStatus(connected=False)
    assert json.loads(get(url + "/readyz")[2])["reasons"] == ["the source is not connected"]
    now = live_status.steady_seconds()
    monkeypatch.setattr(live_status, "steady_seconds", lambda: now + 100)
    status, _, body = get(url + "/healthz")
    assert status == 503
    assert "no step for 100 s" in json.loads(body)["reasons"][0]
    monkeypatch.undo()
    morning.live.source.stop = threading.Event()
    morning.live.source.stop.set()
    assert (get(url + "/healthz")[0], json.loads(get(url + "/readyz")[2])["reasons"]) == (
        200,
        ["the session is being stopped"],
    )


def test_server_before_the_start_is_alive_and_not_ready() -> None:
    morning = Morning()
    server = LiveServer(morning.live, "127.0.0.1", 0, metrics_page(morning.live))
    try:
        url = f"http://127.0.0.1:{server.port}"
        assert (get(url + "/healthz")[0], get(url + "/readyz")[0], get(url + "/metrics")[0]) == (200, 503, 200)
    finally:
        server.close()


def test_server_outlasts_clients_that_say_nothing_or_junk(served: tuple[Morning, str]) -> None:
    _, url = served
    port = int(url.rpartition(":")[2])
    mute = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    with socket.create_connection(("127.0.0.1", port)) as junk:
        junk.sendall(b"\x00\xff" * 100 + b"\r\n\r\n")
        assert get(url + "/healthz")[0] == 200
    for one in mute:
        one.close()


def test_server_at_a_port_in_use_says_so(served: tuple[Morning, str]) -> None:
    morning, url = served
    port = int(url.rpartition(":")[2])
    with pytest.raises(EngineError, match=rf"127.0.0.1:{port} cannot be used: .*; give another port"):
        LiveServer(morning.live, "127.0.0.1", port, metrics_page(morning.live))


def test_metrics_without_the_extra_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "engine.runtime.live_metrics")
    with pytest.raises(ParameterError, match=r"install session-engine\[metrics\], which brings prometheus-client"):
        metrics_page(Morning().live)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        ("10.0.0.1:0", ("10.0.0.1", 0)),
        ("[::1]:9464", ("::1", 9464)),
        ("host:80", ("host", 80)),
    ],
)
def test_address_is_a_port_or_a_host_with_one(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "x", "70000", "host:", "-1", "1.5", ":"])
def test_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"metrics: received .*; valid: PORT"):
        parse_address(text)


def test_consumer_of_the_source_sees_the_last_status_of_a_run() -> None:
    stream = HandStream()
    morning = Morning(stream)
    stream.exhausted = True
    morning.live.run(threading.Event())
    assert morning.live.source.last_status.exhausted
    assert stream.closed
    assert morning.live.last_step_at is not None
    assert dt.timedelta(seconds=morning.live.step_seconds) > dt.timedelta(0)
