"""Access to wall time: every reader of the current time takes a `Clock`, and only `WallClock` reads the machine's.

Limits of waits and durations are measured by `steady_seconds`.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """Source of the current time, time-zone aware, in UTC."""

    def now(self) -> dt.datetime:
        """The current instant, UTC."""
        ...


class WallClock:
    """Clock that reads the machine's time."""

    def now(self) -> dt.datetime:
        """The current instant, UTC."""
        return dt.datetime.now(dt.UTC)


class ManualClock:
    """Clock that stands still until it is set: for replays and tests."""

    def __init__(self, start: dt.datetime) -> None:
        self._now = start.astimezone(dt.UTC)

    def now(self) -> dt.datetime:
        """The start instant or the one last `set`, in UTC; time never passes by itself."""
        return self._now

    def set(self, instant: dt.datetime) -> None:
        """Set the clock to `instant` (local time if naive); ValueError when it is earlier than the clock's time."""
        instant = instant.astimezone(dt.UTC)
        if instant < self._now:
            raise ValueError(f"instant: received {instant}, earlier than this clock's {self._now}")
        self._now = instant


def steady_seconds() -> float:
    """Seconds of a clock that never jumps and tells no time of day: for limits of waits and durations."""
    return time.monotonic()
