"""HTTP answers with limits: an answer of many pages has one time limit, one limit of bytes, and no page twice.

The limits stand below the client that asks: `BoundedAdapter` is mounted into its `requests` session, sees each page that the
client asks for, and reads the bodies itself. `Answer` is the account of one answer; whoever waits for it calls `abort` when
time is up, which ends the sockets, so that a thread that reads drop by drop ends too.
"""

from __future__ import annotations

import io
import socket
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import DecodeError, HTTPError, ProtocolError, ReadTimeoutError

from engine.clock import steady_seconds
from engine.errors import AnswerError

SILENCE_SECONDS = 10.0  # without a connection, or a byte of one
CHUNK_BYTES = 65_536
PAGE_TOKEN = "page_token"  # noqa: S105 - the name of a parameter


class Answer:
    """Account of one answer: time, pages and bytes so far.

    Parameters
    ----------
    seconds : float
        Limit of the whole answer: all pages, all attempts, the pauses between them.
    most_bytes : int
        Limit of the decoded bytes of all pages of one attempt.
    """

    def __init__(self, seconds: float, most_bytes: int) -> None:
        self.seconds = seconds
        self.most_bytes = most_bytes
        self.pages = 0
        self.bytes = 0
        self.content_type = ""
        self.status = 0
        self._deadline = steady_seconds() + seconds
        self._tokens: set[str] = set()
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_aborted = False

    @property
    def seconds_left(self) -> float:
        """Time until the deadline; 0 afterwards, and when the answer was aborted."""
        return 0.0 if self._is_aborted else max(self._deadline - steady_seconds(), 0.0)

    @property
    def kind(self) -> str:
        """Status and content type of the last page, for messages."""
        return f"status {self.status}, content type {self.content_type or 'not given'}"

    def begin_attempt(self) -> None:
        """Count pages and bytes anew; the time goes on."""
        self.pages, self.bytes = 0, 0
        self._tokens.clear()
        self.check_time()

    def begin_page(self, url: str | None) -> None:
        """Count a page; AnswerError when time is up or its token was asked for before."""
        self.check_time()
        for token in parse_qs(urlsplit(url or "").query).get(PAGE_TOKEN, ()):
            if token in self._tokens:
                raise AnswerError(
                    f"the answer repeats itself: its page {self.pages} names a next page that was asked for before"
                )
            self._tokens.add(token)
        self.pages += 1

    def add_bytes(self, count: int) -> None:
        """Count bytes of a body; AnswerError when time is up, or above the limit."""
        self.bytes += count
        if self.bytes > self.most_bytes:
            raise AnswerError(
                f"the answer is larger than {self.most_bytes:,} bytes (answer_bytes); {self.pages} pages were begun"
            )
        self.check_time()

    def check_time(self) -> None:
        """Raise AnswerError when the deadline is over."""
        if not self.seconds_left:
            raise self.overdue()

    def overdue(self) -> AnswerError:
        """New error that the answer was not complete in time; returned, not raised."""
        return AnswerError(
            f"the answer was not complete after {self.seconds:g} s (timeout_seconds); "
            f"{self.pages} pages were begun and {self.bytes:,} bytes came"
        )

    def watch(self, wire: socket.socket | None) -> None:
        """Have `abort` end this socket."""
        with self._lock:
            if wire is not None:
                self._sockets.append(wire)
        if self._is_aborted:
            self.abort()

    def abort(self) -> None:
        """End the answer: whoever reads it fails now."""
        self._is_aborted = True
        with self._lock:
            for wire in self._sockets:
                with suppress(OSError):  # it has ended already
                    wire.shutdown(socket.SHUT_RDWR)


class BoundedAdapter(HTTPAdapter):
    """Sends the requests of one answer within its limits.

    Parameters
    ----------
    answer : Answer
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as `requests` has it
        """Make the pools, with connections that the answer watches."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = watched_pools(self._answer)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as `requests` has it
        """Pools of a proxy, with connections that the answer watches."""
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = watched_pools(self._answer)
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:  # noqa: ANN401
        """Send a request and read its whole body within the limits; AnswerError beyond them."""
        answer = self._answer
        answer.begin_page(request.url)
        silence = min(answer.seconds_left, SILENCE_SECONDS)
        response = super().send(request, *args, **{**options, "stream": True, "timeout": (silence, silence)})
        answer.status = response.status_code
        answer.content_type = response.headers.get("Content-Type", "")
        with response.raw as raw:
            body = bytearray()
            while piece := raw.read1(CHUNK_BYTES, decode_content=True):
                answer.add_bytes(len(piece))
                body += piece
        answer.check_time()  # an aborted connection looks like the end of a body
        response.raw = HTTPResponse(io.BytesIO(body), preload_content=False)
        response.encoding = response.encoding or "utf-8"  # else a large body is searched for its encoding
        return response


def watched_pools(answer: Answer) -> dict[str, type[HTTPConnectionPool]]:
    """Classes of connection pools by scheme, whose sockets the answer watches."""

    class WatchedConnection(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            answer.watch(self.sock)

    class WatchedSecureConnection(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            answer.watch(self.sock)

    class WatchedPool(HTTPConnectionPool):
        ConnectionCls = WatchedConnection

    class WatchedSecurePool(HTTPSConnectionPool):
        ConnectionCls = WatchedSecureConnection

    return {"http": WatchedPool, "https": WatchedSecurePool}


def plain_reason(error: Exception, answer: Answer) -> str:
    """What went wrong with a request, in a sentence; the library's own words follow where they tell more."""
    match error:
        case requests.exceptions.ConnectTimeout():
            reason = f"no connection in {SILENCE_SECONDS:g} s"
        case requests.exceptions.ReadTimeout() | ReadTimeoutError():
            reason = f"nothing came for {SILENCE_SECONDS:g} s after {answer.bytes:,} bytes"
        case requests.exceptions.SSLError():
            reason = f"no safe connection: {error}"
        case DecodeError():
            reason = f"a compressed body cannot be decoded: {error}"
        case ProtocolError() | requests.exceptions.ChunkedEncodingError():
            reason = f"the connection ended within an answer, after {answer.bytes:,} bytes"
        case requests.exceptions.JSONDecodeError() | RecursionError():
            reason = f"the answer is no JSON that can be read ({answer.kind}): {error}"
        case requests.exceptions.ConnectionError():
            reason = f"no connection, or it ended before an answer: {error}"
        case requests.RequestException() | HTTPError():
            reason = f"{type(error).__name__}: {error}"
        case _:
            reason = f"the answer has not the documented form ({answer.kind}): {type(error).__name__} {error}"
    return reason
