"""Notifications to systemd (`sd_notify`): ready, a sign of life after each step, a status line, stopping.

They are sent where the environment asks for them (`Type=notify`, `WatchdogSec=`), and nowhere else.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

from engine.clock import steady_seconds


class ServiceManager:
    """The service manager that started this process, if it listens.

    Parameters
    ----------
    environment : mapping, optional
        Default the process's: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        given = os.environ if environment is None else environment
        self._address = given.get("NOTIFY_SOCKET", "")
        is_mine = given.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        limit = given.get("WATCHDOG_USEC", "")
        self._alive_every = int(limit) / 3e6 if limit.isdecimal() and is_mine else None
        self._alive_at = float("-inf")
        self._is_ready = False

    def stepped(self) -> None:
        """Send READY with the first step, and signs of life three times per `WatchdogSec`: a session that stalls sends none."""
        if not self._is_ready:
            self._is_ready = True
            self._send("READY=1")
        now = steady_seconds()
        if self._alive_every is not None and now - self._alive_at >= self._alive_every:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def status(self, line: str) -> None:
        """Send the line that `systemctl status` shows."""
        self._send(f"STATUS={line}")

    def stopping(self) -> None:
        """Tell that the process is about to end."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        """Send a datagram to the manager's socket; nothing without one."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # A manager that does not listen any more is no matter of the session; a full queue must not block it.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.settimeout(0)
            out.sendto(message.encode(), address)
