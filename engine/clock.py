"""The one door to wall time: everything that asks what time it is asks a `Clock`."""

from __future__ import annotations

import datetime as dt
from typing import Protocol


class Clock(Protocol):
    """Tells the time, aware and in UTC."""

    def now(self) -> dt.datetime:
        """The current instant, UTC."""
        ...


class WallClock:
    """The machine's clock."""

    def now(self) -> dt.datetime:
        """The current instant, UTC."""
        return dt.datetime.now(dt.UTC)


class ManualClock:
    """A clock that stands still until it is told the time: for replays and tests."""

    def __init__(self, start: dt.datetime) -> None:
        self._now = start.astimezone(dt.UTC)

    def now(self) -> dt.datetime:
        """The instant it was last set to, UTC."""
        return self._now

    def set(self, instant: dt.datetime) -> None:
        """Move to `instant`, which must not lie in the past of this clock."""
        instant = instant.astimezone(dt.UTC)
        if instant < self._now:
            raise ValueError(f"instant: received {instant}, earlier than this clock's {self._now}")
        self._now = instant
