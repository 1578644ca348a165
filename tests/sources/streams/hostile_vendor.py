"""A vendor on 127.0.0.1 that does not answer as it should, on real sockets: each way is a function of a connection.

    with HostileServer(WAYS["drip"]) as vendor:
        AlpacaOptions(rest_url=vendor.url)

`HostileHistory` is hostile about some symbols only: requests of others it passes on to a `Loopback`.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.soak.loopback import Loopback

Way = Callable[[socket.socket, str, threading.Event], None]  # (connection, path with query, set at the end)
PAUSE_SECONDS = 0.05
PIECE = b"x" * 65_536
BOMB = gzip.compress(b"[" * 20_000_000, 1)


def head(status: str = "200 OK", content_type: str = "application/json", **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join([*lines, "", ""])).encode()


def whole(body: bytes, **headers: object) -> bytes:
    return head(Content_Length=len(body), Connection="close", **headers) + body


def drip(data: bytes) -> Way:
    """Some bytes as they are, then a blank every 50 ms without end."""

    def way(wire: socket.socket, path: str, ended: threading.Event) -> None:
        wire.sendall(data)
        while not ended.wait(PAUSE_SECONDS):
            wire.sendall(b" ")

    return way


def silent(wire: socket.socket, path: str, ended: threading.Event) -> None:
    ended.wait()


def gigabytes(wire: socket.socket, path: str, ended: threading.Event) -> None:
    wire.sendall(head(Transfer_Encoding="chunked"))
    while not ended.is_set():
        wire.sendall(b"10000\r\n" + PIECE + b"\r\n")


def gzip_bomb(wire: socket.socket, path: str, ended: threading.Event) -> None:
    wire.sendall(whole(BOMB, Content_Encoding="gzip"))


def pages(token: Callable[[int], str]) -> Way:
    """Empty pages, each with the token of a next one."""

    def way(wire: socket.socket, path: str, ended: threading.Event) -> None:
        asked = parse_qs(urlsplit(path).query).get("page_token", ["0"])[0]
        body = {"bars": {}, "next_page_token": token(int(asked))}
        wire.sendall(whole(json.dumps(body).encode()))

    return way


def says(data: bytes) -> Way:
    def way(wire: socket.socket, path: str, ended: threading.Event) -> None:
        wire.sendall(data)

    return way


# way -> what it does, and a pattern of the error that names it
WAYS: dict[str, tuple[Way, str]] = {
    "drip": (drip(head(Content_Length=10**9)), r"not complete after 1 s \(timeout_seconds\); 1 pages were begun and \d+ bytes"),
    "drip_chunks": (drip(head(Transfer_Encoding="chunked") + b"000"), r"not complete after 1 s"),
    "drip_headers": (drip(b"HTTP/1.1 200 OK\r\nX-Slow: "), r"not complete after 1 s"),
    "silent": (silent, r"not complete after 1 s"),
    "endless_pages": (pages(lambda asked: str(asked + 1)), r"not complete after 1 s .* \d+ pages were begun"),
    "same_token": (pages(lambda asked: "7"), r"the answer repeats itself: its page 2"),
    "gigabytes": (gigabytes, r"larger than 2,000,000 bytes \(answer_bytes\)"),
    "gzip_bomb": (gzip_bomb, r"larger than 2,000,000 bytes \(answer_bytes\)"),
    "html": (says(whole(b"<html>Sign in</html>", content_type="text/html")), r"no JSON that can be read \(status 200, content type text/html\)"),
    "image": (says(whole(bytes(range(256)), content_type="image/png")), r"no JSON that can be read .* image/png"),
    "not_gzip": (says(whole(b"no gzip", Content_Encoding="gzip")), r"a compressed body cannot be decoded"),
    "deep": (says(whole(b'{"bars":' + b"[" * 200_000)), r"no JSON that can be read"),
    "list": (says(whole(b"[1, 2, 3]")), r"not the documented form .*status 200"),
    "number": (says(whole(b"4711")), r"not the documented form .*TypeError"),
    "rows_of_text": (says(whole(b'{"bars": {"A": ["junk", 5]}}')), r"not the documented form"),
    "redirect": (says(head("302 Found", Location="/elsewhere", Content_Length=0, Connection="close")), r"not the documented form|no JSON"),
    "cut": (says(head(Content_Length=1000) + b'{"bars"'), r"the connection ended within an answer, after 7 bytes"),
    "junk": (says(b"\x00\xff\xfe nothing of HTTP\r\n\r\n"), r"no connection, or it ended before an answer"),
    "nothing": (says(b""), r"no connection, or it ended before an answer"),
}  # fmt: skip


class HostileServer:
    """A server of one way, with a thread per connection.

    `url` is its address for HTTP, `stream_url` for a WebSocket.
    """

    def __init__(self, way: Way) -> None:
        self.way = way
        self.connections = 0
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        port = self._listener.getsockname()[1]
        self.url, self.stream_url = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def answer(self, wire: socket.socket, request: str) -> None:
        self.way(wire, request, self._ended)

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                wire, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(wire,), daemon=True))
            self._threads[-1].start()

    def _serve(self, wire: socket.socket) -> None:
        with wire, suppress(OSError):  # a client that has had enough
            wire.settimeout(10)
            asked = b""
            while b"\r\n\r\n" not in asked:
                if not (piece := wire.recv(4096)):
                    return
                asked += piece
            words = asked.split(b" ", 2)
            self.answer(wire, words[1].decode() if len(words) > 1 else "")


class HostileHistory(HostileServer):
    """Hostile about requests that name one of `symbols`; the others a `Loopback` answers."""

    def __init__(self, way: Way, vendor: Loopback, *symbols: str) -> None:
        super().__init__(way)
        self.vendor, self.symbols = vendor, set(symbols)

    def answer(self, wire: socket.socket, request: str) -> None:
        url = urlsplit(request)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if self.symbols & set(query["symbols"].split(",")):
            super().answer(wire, request)
        else:
            wire.sendall(whole(json.dumps(self.vendor.answer(url.path, query)).encode()))
