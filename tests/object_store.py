"""A server that speaks S3, in a process of its own: moto's, which honours `If-None-Match: *` and range requests."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

BUCKET = "lake"
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
START_SECONDS = 60


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def serve_objects() -> Iterator[str]:
    """Context: a running server with an empty bucket `lake`; its address, `http://127.0.0.1:PORT`."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        make_bucket(address)
        yield address
    finally:
        server.kill()
        server.wait()


def make_bucket(address: str) -> None:
    """Make the bucket, as soon as the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            line = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
            line.request("PUT", f"/{BUCKET}")
            line.getresponse().read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def environment(address: str) -> dict[str, str]:
    """Variables by which clients find the server."""
    return {**KEYS, "AWS_ENDPOINT_URL": address}
