"""Notifications to systemd, received on a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine.runtime import service_manager
from engine.runtime.service_manager import ServiceManager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(0)
        yield listener, path


def received(listener: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(listener.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_stepped_tells_ready_once_and_life_three_times_per_limit(
    manager: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listener, path = manager
    service = ServiceManager({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())})
    for second in range(31):
        monkeypatch.setattr(service_manager, "steady_seconds", lambda second=second: 1000.0 + second)
        service.stepped()
    assert received(listener) == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]
    service.status("rows 5")
    service.stopping()
    assert received(listener) == ["STATUS=rows 5", "STOPPING=1"]


def test_watchdog_of_another_process_or_none_is_not_answered(manager: tuple[socket.socket, str]) -> None:
    listener, path = manager
    for more in ({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {}, {"WATCHDOG_USEC": "junk"}):
        ServiceManager({"NOTIFY_SOCKET": path, **more}).stepped()
    assert received(listener) == ["READY=1"] * 3


def test_abstract_socket_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0engine-test-{os.getpid()}")
        listener.settimeout(0)
        ServiceManager({"NOTIFY_SOCKET": f"@engine-test-{os.getpid()}"}).stopping()
        assert received(listener) == ["STOPPING=1"]


def test_manager_that_is_gone_ends_nothing(manager: tuple[socket.socket, str], tmp_path: Path) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nowhere")})
    service.stepped()
    listener, path = manager
    full = ServiceManager({"NOTIFY_SOCKET": path})
    for _ in range(5000):  # more than a queue holds, and nobody reads
        full.status("x" * 500)
    assert 0 < len(received(listener)) < 5000
