"""Lines of `engine live` on standard error: sentences with the time, or one JSON object each (`--log-json`).

A thread of its own writes them, so that they come whatever the source does: what is followed, the market's next session,
a line per `[live] report_seconds`, sessions that open and close, and errors.
"""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engine.cli.console import is_quiet
from engine.cli.terminal_text import write_error
from engine.clock import WallClock, steady_seconds
from engine.printable import escape_unprintable

if TYPE_CHECKING:
    import datetime as dt

    from engine.runtime.config import SessionConfig
    from engine.runtime.live import LiveSession
    from engine.runtime.live_status import LiveStatus

LOOK_SECONDS = 0.5  # how often the thread looks for errors and for sessions that open or close
SOURCE_ERROR_SECONDS = 10.0  # an error of the source that changes all the time is told no more often
MOST_NAMES = 5


class LiveLog:
    """Writes the events of a live session, from any thread.

    Parameters
    ----------
    as_json : bool
        One JSON object a line: `time`, `level`, `event`, `message` and the event's fields. Else sentences.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._lock = threading.Lock()

    def write(self, event: str, message: str, level: str = "info", **fields: object) -> None:
        """Write an event; with --quiet errors and warnings only, as JSON always."""
        now = WallClock().now()
        if self._as_json:
            import orjson

            line = orjson.dumps(
                {"time": now, "level": level, "event": event, "message": message, **fields},
                default=str,
                option=orjson.OPT_NON_STR_KEYS,
            ).decode()
        elif level == "info" and is_quiet():
            return
        else:
            line = f"{now:%Y-%m-%d %H:%M:%S} UTC  {message if level == 'info' else f'{level}: {message}'}"
        with self._lock:
            write_error(escape_unprintable(line, keep_breaks=False) + "\n")
            sys.stderr.flush()

    @contextmanager
    def warnings_as_events(self) -> Iterator[None]:
        """Context in which Python's warnings are written as events too, where lines are JSON."""
        former = warnings.showwarning

        def show(message: Warning | str, *_: object, **__: object) -> None:
            self.write("warning", str(message), "warning")

        if self._as_json:
            warnings.showwarning = show
        try:
            yield
        finally:
            warnings.showwarning = former


class LiveReporter:
    """Reports a live session until `close`, in a thread of its own.

    Parameters
    ----------
    live : LiveSession
    log : LiveLog
    every_seconds : float
        Time between two lines of the state; 0: none.
    told : callable
        Gets each line of the state, too.
    """

    def __init__(
        self, live: LiveSession, log: LiveLog, every_seconds: float, told: Callable[[str], None] = lambda _: None
    ) -> None:
        self._live, self._log, self._every, self._told = live, log, every_seconds, told
        self._ended = threading.Event()
        self._errors = 0
        self._source_error = ""
        self._source_error_at = float("-inf")
        self._was_open: bool | None = None
        self._line_at = steady_seconds()
        self._rows = 0
        log.write("following", describe_followed(live.config), **followed_fields(live.config))
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what has not been told yet, and end the thread."""
        self._ended.set()
        self._thread.join()
        self._tell_errors(is_last=True)

    def _run(self) -> None:
        """Thread body: look for news until closed."""
        while not self._ended.wait(LOOK_SECONDS):
            self._tell_errors()
            self._tell_market()
            if self._every and steady_seconds() - self._line_at >= self._every:
                self._line_at = steady_seconds()
                self._tell_state()

    def _tell_errors(self, *, is_last: bool = False) -> None:
        """Write errors that are new since the last look, and the source's own one if it has changed."""
        count, kept = self._live.error_count, list(self._live.errors.copy())
        new = min(count - self._errors, len(kept))
        for error in kept[len(kept) - new :]:
            self._log.write("error", error, "error")
        self._errors = count
        error = self._live.source.last_status.error
        now = steady_seconds()
        is_time = is_last or now - self._source_error_at >= SOURCE_ERROR_SECONDS
        if error and error != self._source_error and is_time:
            self._source_error, self._source_error_at = error, now
            self._log.write("source_error", f"source: {error}", "warning")

    def _tell_market(self) -> None:
        """Write that a session has opened, or that the market is closed and when the next session opens."""
        live = self._live
        if live.last_step_at is None or live.coordinator.phase == "finished":
            return
        is_open = live.coordinator.phase == "running"
        if is_open != self._was_open:
            self._was_open = is_open
            status = live_status(live)
            fields: dict[str, Any] = {"session": status.session, "opens": status.opens, "closes": status.closes}
            self._log.write("session_open" if is_open else "market_closed", describe_market(status), **fields)

    def _tell_state(self) -> None:
        """Write the line of the state; before the start is done, that it is awaited."""
        if self._live.last_step_at is None:
            self._log.write("starting", "starting: the source or its history has not answered yet")
            return
        status = live_status(self._live)
        line = describe_status(status, status.rows - self._rows)
        self._rows = status.rows
        level = "info" if status.stalled_seconds is None else "warning"
        self._log.write("status", line, level, **status_fields(status))
        self._told(line)


def live_status(live: LiveSession) -> LiveStatus:
    """The state of a session now."""
    from engine.runtime.live_status import LiveStatus

    return LiveStatus.of(live)


def followed_fields(config: SessionConfig) -> dict[str, Any]:
    """What a configuration follows, as fields of an event."""
    calendars = dict(config.session.calendars)
    return {
        "source": config.source.kind,
        "symbols": list(config.session.symbols),
        "bars": config.streams.bars,
        "quotes": config.streams.quotes,
        "ticks": config.streams.ticks,
        "derive": list(config.derive),
        "calendar": config.session.calendar,
        "calendars": calendars,
        "export": None if config.export is None else str(config.export.target),
        "export_every_seconds": None if config.export is None else config.export.every_seconds,
    }


def describe_followed(config: SessionConfig) -> str:
    """Sentence on what a configuration follows: symbols, source, kinds, intervals, calendars, export."""
    names = config.session.symbols
    what = f"{len(names)} symbol{'s' * (len(names) != 1)} ({short_list(names)})" if names else "all symbols"
    bars = {"auto": "bars of the base interval", "none": "no bars"}.get(
        config.streams.bars, f"bars of {config.streams.bars}"
    )
    kinds = [bars, *(["quotes"] if config.streams.quotes else []), *(["ticks"] if config.streams.ticks else [])]
    calendars = [
        *filter(None, [config.session.calendar]),
        *(f"{code} of {name}" for name, code in config.session.calendars.items()),
    ]
    parts = [f"following {what} of {config.source.kind}: {', '.join(kinds)}"]
    parts += [f"derived {', '.join(config.derive)}"] if config.derive else []
    parts += [f"calendar {short_list(calendars)}"]
    if config.export is None:
        parts += ["no export"]
    else:
        every = f"every {config.export.every_seconds:g} s" if config.export.every_seconds else "after each session"
        parts += [f"export to {config.export.target} {every}"]
    return "; ".join(parts)


def describe_market(status: LiveStatus) -> str:
    """Sentence on the session that is open, or on when the next one opens."""
    if status.opens is None or status.closes is None:
        return "the last session is over"
    if status.is_open:
        return f"session {status.session} is open until {instant(status.closes, status.at)}"
    return f"the market is closed; session {status.session} opens at {instant(status.opens, status.at)}"


def describe_status(status: LiveStatus, new_rows: int) -> str:
    """Line of the state: session, rows, gaps, lag, last bar, revision; when closed the next session's open."""
    gaps = ", ".join(f"{count} {state}" for state, count in status.gaps.items() if count) or "none"
    parts = [
        f"session {status.session} open" if status.is_open else describe_market(status),
        f"rows {status.rows:,} (+{new_rows:,})",
        f"derived {status.derived:,}",
        f"gaps {gaps}",
        f"missing {status.missing:,}",
    ]
    parts += [] if status.source.lag_seconds is None else [f"lag {status.source.lag_seconds:.1f} s"]
    parts += [] if status.last_bar_end is None else [f"last bar to {status.last_bar_end:%H:%M:%S}"]
    parts += [] if status.revision is None else [f"revision {status.revision}"]
    parts += [] if status.source.connected else ["the source is not connected"]
    parts += [f"errors {status.errors}"] if status.errors else []
    parts += [] if status.stalled_seconds is None else [f"no step for {status.stalled_seconds:.0f} s"]
    return "  ".join(parts)


def status_fields(status: LiveStatus) -> dict[str, Any]:
    """Figures of a state, as fields of an event."""
    return {
        "phase": status.phase,
        "session": status.session,
        "opens": status.opens,
        "closes": status.closes,
        "rows": status.rows,
        "duplicates": status.duplicates,
        "corrections": status.corrections,
        "derived": status.derived,
        "rejects": status.rejects,
        "gaps": dict(status.gaps),
        "missing": status.missing,
        "retries": status.retries,
        "lag_seconds": status.source.lag_seconds,
        "last_bar_age_seconds": status.last_bar_age_seconds,
        "revision": status.revision,
        "step_seconds": status.step_seconds,
        "connected": status.source.connected,
        "reconnects": status.source.reconnects,
        "errors": status.errors,
        "stalled_seconds": status.stalled_seconds,
    }


def instant(at: dt.datetime, now: dt.datetime) -> str:
    """An instant as text, with its date where that is not today's, and how far it is away."""
    text = f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"
    minutes = max(round((at - now).total_seconds() / 60), 0)
    days, hours, left = minutes // 1440, minutes // 60 % 24, minutes % 60
    far = (
        f"{days} d {hours} h"
        if days
        else f"{hours} h {left} min"
        if hours and left
        else f"{hours} h"
        if hours
        else f"{left} min"
    )
    return f"{text} (in {far})"


def short_list(names: Sequence[str]) -> str:
    """Names joined by commas; of more than five the first ones and the number of the others."""
    shown = ", ".join(names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES:,} more"
