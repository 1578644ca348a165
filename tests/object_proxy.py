"""A proxy in front of a server that speaks S3: it counts requests and bytes, and does what networks and stores do."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

THROTTLED = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass(frozen=True)
class Asked:
    """A request that went through, with the bytes that came back."""

    method: str
    path: str
    range: str | None
    status: int
    received: int

    @property
    def is_list(self) -> bool:
        return self.method == "GET" and "list-type=2" in self.path


@dataclass
class Faults:
    """What happens to requests: each is asked by number from 1, method and path.

    `throttle`: answered with 503. `cut_before`: the connection ends before the server hears of it. `cut_after`: the
    server does it, and the answer is lost. `lag`: a list is what it was when the same one was asked for first.
    """

    throttle: Callable[[int, str, str], bool] = lambda *_: False
    cut_before: Callable[[int, str, str], bool] = lambda *_: False
    cut_after: Callable[[int, str, str], bool] = lambda *_: False
    lag: Callable[[int, str, str], bool] = lambda *_: False


@dataclass
class Proxy:
    """A running proxy."""

    address: str
    faults: Faults = field(default_factory=Faults)
    asked: list[Asked] = field(default_factory=list)
    injected: int = 0
    count: int = 0
    lists: dict[str, tuple[int, list[tuple[str, str]], bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def forget(self) -> None:
        """Begin counting anew."""
        self.asked.clear()
        self.injected = self.count = 0

    @property
    def requests(self) -> int:
        return len(self.asked)

    @property
    def received(self) -> int:
        return sum(one.received for one in self.asked)


@contextlib.contextmanager
def proxy_of(server: str) -> Iterator[Proxy]:  # noqa: C901 - a handler and its server
    """Context: a proxy of a server, in this process."""
    target = urlsplit(server).netloc
    local = threading.local()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def pass_on(self) -> None:
            with proxy.lock:
                proxy.count += 1
                number = proxy.count
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            faults, what = proxy.faults, (number, self.command, self.path)
            if faults.throttle(*what):
                proxy.injected += 1
                self.answer(503, [("Content-Type", "application/xml")], THROTTLED)
                return
            if faults.cut_before(*what):
                proxy.injected += 1
                self.cut()
                return
            status, headers, content = forward(self.command, self.path, dict(self.headers), body)
            if faults.cut_after(*what):
                proxy.injected += 1
                self.cut()
                return
            if self.command == "GET" and "list-type=2" in self.path:
                first = proxy.lists.setdefault(self.path, (status, headers, content))
                if faults.lag(*what) and first[2] != content:
                    proxy.injected += 1
                    status, headers, content = first
            proxy.asked.append(Asked(self.command, self.path, self.headers.get("Range"), status, len(content)))
            self.answer(status, headers, content)

        def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            length = {name.lower(): value for name, value in headers}.get("x-length", str(len(content)))
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in HOP | {"x-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def cut(self) -> None:
            self.close_connection = True
            self.connection.close()

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = pass_on  # noqa: N815 - as the base class has it

    def forward(
        method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        for attempt in range(2):
            line = getattr(local, "line", None) or http.client.HTTPConnection(target, timeout=60)
            local.line = line
            try:
                line.request(method, path, body, headers)
                answer = line.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                local.line = None  # a connection that the server has closed meanwhile
                if attempt:
                    raise
                continue
            kept = list(answer.headers.items())
            if method == "HEAD" and answer.headers.get("Content-Length"):
                kept.append(("x-length", answer.headers["Content-Length"]))
            return answer.status, kept, content
        raise AssertionError

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that was killed has closed its connection: nothing to say."""

    listener = Server(("127.0.0.1", 0), Handler)
    proxy = Proxy(f"http://127.0.0.1:{listener.server_port}")
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
