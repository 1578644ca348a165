"""HTTP answers about a live session: `/metrics` (Prometheus), `/healthz` and `/readyz` (a supervisor's probes).

An answer is made of the session's own state and never waits for the source. A client has `CLIENT_SECONDS`.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from engine.errors import EngineError, ParameterError
from engine.runtime.live import LiveSession
from engine.runtime.live_status import stalled_seconds

CLIENT_SECONDS = 5.0
JSON = "application/json"
Page = Callable[[str], tuple[bytes, str]]  # Accept header -> (body, content type)
MOST_PORT = 65_535


def parse_address(text: str) -> tuple[str, int]:
    """(host, port) of `PORT` (127.0.0.1), `HOST:PORT` or `[HOST]:PORT`; ParameterError otherwise. Port 0: a free one."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= MOST_PORT:
        raise ParameterError(
            f"metrics: received {text!r}; valid: PORT (of 127.0.0.1) or HOST:PORT, such as 0.0.0.0:9464"
        )
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def metrics_page(live: LiveSession) -> Page:
    """Page of a session's metrics; ParameterError without `prometheus-client`."""
    try:
        from engine.runtime.live_metrics import LiveMetrics  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ParameterError(
            f"metrics: {error}; install session-engine[metrics], which brings prometheus-client"
        ) from error
    return LiveMetrics(live).page


def health(live: LiveSession) -> list[str]:
    """Reasons why a session is not alive; none: it is. A start is alive, however long the source takes for it."""
    overdue = stalled_seconds(live)
    return [] if overdue is None else [f"no step for {overdue:.0f} s"]


def readiness(live: LiveSession) -> list[str]:
    """Reasons why a session does not follow its source now: not started, stopped, not connected or stalled."""
    if live.source.stop is not None and live.source.stop.is_set():
        return ["the session is being stopped"]
    if live.last_step_at is None:
        return ["the session is starting: the source or its history has not answered yet"]
    reasons = health(live)
    if live.coordinator.phase == "finished":
        reasons.append("the session is over")
    if not live.source.last_status.connected:
        reasons.append("the source is not connected")
    return reasons


class LiveServer:
    """HTTP server of a live session in threads of its own.

    Parameters
    ----------
    live : LiveSession
    host, port
        Where it listens; port 0: a free one.
    page : callable
        Makes the page of `/metrics` (`metrics_page`).

    Raises
    ------
    EngineError
        The address cannot be used.
    """

    def __init__(self, live: LiveSession, host: str, port: int, page: Page) -> None:
        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = Server((host, port), request_handler(live, page))
        except OSError as error:
            raise EngineError(
                f"metrics: {host}:{port} cannot be used: {error.strerror or error}; give another port"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening; answers that are being made are left."""
        self._server.shutdown()
        self._server.server_close()


def request_handler(live: LiveSession, page: Page) -> type[BaseHTTPRequestHandler]:
    """Class that answers the requests of one session."""

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_SECONDS
        server_version, sys_version = "session-engine", ""

        def do_GET(self) -> None:
            """Answer /metrics, /healthz or /readyz; 404 for anything else."""
            match self.path.partition("?")[0]:
                case "/metrics":
                    body, content_type = page(self.headers.get("Accept", ""))
                    self.reply(HTTPStatus.OK, body, content_type)
                case "/healthz":
                    self.reply_state(health(live))
                case "/readyz":
                    self.reply_state(readiness(live))
                case _:
                    self.reply(HTTPStatus.NOT_FOUND, b"valid: /metrics, /healthz, /readyz\n", "text/plain")

        do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

        def reply_state(self, reasons: list[str]) -> None:
            """Reply 200 without reasons, else 503 with them, as JSON."""
            state = {"status": "unavailable" if reasons else "ok", "reasons": reasons}
            status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
            self.reply(status, json.dumps(state).encode() + b"\n", JSON)

        def reply(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
            """Write an answer; a client that has gone is no error."""
            with suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write no line: scrapes are not events of a session."""

    return Handler
