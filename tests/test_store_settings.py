"""Settings of the environment that stores are opened with: malformed ones are refused by name, and waits are bounded."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from engine.cli.exit_codes import USAGE, report_error
from engine.errors import EngineError, ParameterError
from engine.export.dataset import open_dataset
from engine.export.maintenance.verify import verify
from engine.sources.objects import objects_below
from engine.storage import ObjectPath
from engine.store_settings import check_variables

from tests.object_store import environment

PAGE = b"<html>console</html>"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", "127.0.0.1:9000"),
        ("AWS_ENDPOINT_URL", "localhost:9000"),
        ("AWS_ENDPOINT_URL", ""),
        ("AWS_ENDPOINT_URL", "http://"),
        ("AWS_ENDPOINT_URL", "http://[::1"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:99999"),
        ("AWS_REGION", "a\nb"),
        ("AWS_REGION", ""),
        ("AWS_ALLOW_HTTP", "maybe"),
        ("HTTPS_PROXY", "::"),
        ("AWS_SECRET_ACCESS_KEY", "hush \n"),
        ("ENGINE_STORE_TIMEOUT", "soon"),
    ],
)
def test_malformed_variable_is_refused_by_name(name, value, monkeypatch):
    for other, valid in environment("http://127.0.0.1:9").items():
        monkeypatch.setenv(other, valid)
    monkeypatch.setenv(name, value)
    with pytest.raises(ParameterError, match=f"^{name}: received .*; valid: ") as told:
        open_dataset("s3://lake/x")
    assert "hush" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", "http://[::1]:9000"),
        ("AWS_ENDPOINT_URL", "https://minio.example.org/path"),
        ("HTTP_PROXY", "127.0.0.1:3128"),
        ("no_proxy", "any thing"),
        ("AWS_ALLOW_HTTP", "TRUE"),
    ],
)
def test_valid_variable_passes(name, value):
    check_variables([(name, value)])


@contextmanager
def console() -> Iterator[str]:
    """Address of a server that answers every request with a page, as that of a store's console does."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(PAGE)))
            self.send_header("Last-Modified", "Thu, 03 Dec 2026 10:00:00 GMT")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(PAGE)

        do_GET = do_HEAD = do_PUT = do_POST = answer  # noqa: N815 - as the base class has it

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("read", [open_dataset, verify], ids=["open", "verify"])
def test_address_that_answers_everything_is_an_error_with_what_it_gave(read, monkeypatch):
    with console() as address:
        for name, value in environment(address).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(EngineError, match=f"console.*{address}|{address}.*console") as told:
            read("s3://lake/x")
    assert report_error(told.value) == USAGE


def test_bucket_that_is_not_there_is_told_as_such(store):
    with pytest.raises(EngineError, match="s3://absent: there is no such bucket"):
        open_dataset("s3://absent/out")
    with pytest.raises(EngineError, match="s3://absent: there is no such bucket"):
        objects_below(ObjectPath("s3://absent", "in"))
    with pytest.raises(EngineError, match="is no export"):
        open_dataset(store)


def test_store_that_never_answers_is_left_after_half_the_timeout(monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for name, value in environment(f"http://127.0.0.1:{silent.getsockname()[1]}").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ENGINE_STORE_TIMEOUT", "1")
        begin = time.monotonic()
        with pytest.raises(EngineError) as told:
            ObjectPath("s3://lake", "x").stat()
    assert time.monotonic() - begin < 10
    assert report_error(told.value) == USAGE
