"""The command `engine live`: runs a live session until it is told to stop, whatever its source does."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import thread as pool_threads
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.app import AsJson, app
from engine.cli.console import watching
from engine.cli.exit_codes import FAILED, INTERRUPTED, USAGE, report_error
from engine.cli.live_output import LiveLog, LiveReporter
from engine.cli.parsing import usage_error
from engine.cli.session_commands import ConfigFile, print_session, watch_table

if TYPE_CHECKING:
    from engine.runtime.config import SessionConfig
    from engine.runtime.live import LiveSession
    from engine.runtime.service_manager import ServiceManager
    from engine.sources.streams.contract import Stream

SHOW_CURSOR = b"\x1b[?25h"  # which a table that is redrawn has hidden


@app.command()
def live(
    config: ConfigFile,
    watch: Annotated[bool, typer.Option(help="In a terminal, show symbols, bars, gaps and lag as they grow.")] = True,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Serve /metrics (Prometheus), /healthz and /readyz; host 127.0.0.1."),
    ] = None,
    log_json: Annotated[bool, typer.Option(help="Write events as JSON, an object a line, to standard error.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a live session until Ctrl-C or SIGTERM, then write the last revision and print the state.

    Exit code 0: it was stopped, or its last session or its source is over. 1: the source has ended with an error.
    2: configuration, source or target cannot be used. A second Ctrl-C ends it at once, without the last revision (130).

    Example: engine live session.toml --metrics 9464 --log-json
    """
    there = set(threading.enumerate())
    log = LiveLog(as_json=log_json)
    code = 0
    try:
        with log.warnings_as_events():
            run_live(config, log, metrics, watch=watch and not log_json, as_json=as_json)
    except typer.Exit as ended:
        code = ended.exit_code
    except Exception as error:
        if not log_json and not is_left_behind(there):
            raise  # it is reported as for other commands
        code = log_error(log, error) if log_json else report_error(error)
    # A thread that is left in a call, such as a lookup of a name, would hold the end of the process.
    if is_left_behind(there):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    if code:
        raise typer.Exit(code)


def run_live(config: ConfigFile, log: LiveLog, metrics: str | None, *, watch: bool, as_json: bool) -> None:
    """Open the source, run the session with its reports, and print its state; typer.Exit(1) if the source has failed."""
    from engine.runtime.config import SessionConfig
    from engine.runtime.live import LiveSession
    from engine.runtime.service_manager import ServiceManager

    whole = SessionConfig.read(config)
    if whole.session.mode != "live":
        raise usage_error(f"{config}: session.mode: received {whole.session.mode!r}; valid for this command: live")
    manager = ServiceManager()
    with stop_on_signal(log, manager) as stop:
        stream = opened(whole, stop)
        if stream is None:
            log.write("stopped", "stopped before the source was opened; the export is as it was")
            return
        session = LiveSession(whole, stream)
        session.consumers.append(lambda *_: manager.stepped())
        with serving(session, metrics, log), watching(enabled=watch and not as_json) as show:
            every = 0.0 if show.is_shown else whole.live.report_seconds
            reporter = LiveReporter(session, log, every, manager.status)
            session.consumers.append(
                lambda _, one: show(
                    lambda: watch_table(
                        session.coordinator, session.session, one, session.source.last_status.lag_seconds
                    )
                )
            )
            try:
                session.run(stop)
            finally:
                reporter.close()
        was_stopped = stop.is_set()
    ended = session.source.last_status
    revision = session.coordinator.totals.revision
    log.write(
        "stopped",
        f"stopped; {'nothing was exported' if revision is None else f'revision {revision} is the last one'}",
        revision=revision,
        rows=session.coordinator.totals.rows,
        was_told=was_stopped,
    )
    errors = [*session.errors, *filter(None, [ended.error])]
    print_session(session.coordinator, session.session, whole, errors, as_json=as_json)
    if ended.exhausted and ended.error and not was_stopped:
        raise typer.Exit(FAILED)


def opened(config: SessionConfig, stop: threading.Event) -> Stream | None:
    """The source of a configuration, opened in a thread; None when `stop` is set before it is open."""
    from engine.errors import StreamStoppedError
    from engine.runtime.live import open_stream
    from engine.sources.streams.bounded_calls import Worker, result_of

    worker = Worker("open source")
    answer = worker.submit(open_stream, config)
    worker.end()
    try:
        return result_of(answer, "opening of the source", stop=stop)
    except StreamStoppedError:
        return None


@contextmanager
def serving(session: LiveSession, address: str | None, log: LiveLog) -> Iterator[None]:
    """Context in which metrics and health are served at `[HOST:]PORT`; nothing without an address."""
    if address is None:
        yield
        return
    from engine.runtime.live_server import LiveServer, metrics_page, parse_address

    host, port = parse_address(address)
    server = LiveServer(session, host, port, metrics_page(session))
    log.write("serving", f"serving /metrics, /healthz and /readyz on {host}:{server.port}", host=host, port=server.port)
    try:
        yield
    finally:
        server.close()


@contextmanager
def stop_on_signal(log: LiveLog, manager: ServiceManager) -> Iterator[threading.Event]:
    """Context with an event that SIGINT or SIGTERM sets, instead of ending the process; then restore the handlers.

    A second SIGINT ends the process at once.
    """
    stop = threading.Event()
    heard: SimpleQueue[int | None] = SimpleQueue()
    interrupts = iter((False, True))

    def on_signal(number: int, frame: FrameType | None) -> None:
        # The event has a lock that the interrupted thread may hold; a SimpleQueue may be used in a handler.
        del frame
        heard.put(number)
        if number == signal.SIGINT and next(interrupts, True):
            # What is committed is whole; an exception would write the last revision on its way out.
            os.write(
                2, (SHOW_CURSOR if sys.stderr.isatty() else b"") + b"engine: interrupted again; no last revision\n"
            )
            os._exit(INTERRUPTED)

    def set_stop() -> None:
        while (number := heard.get()) is not None:
            if not stop.is_set():
                stop.set()
                name = signal.Signals(number).name
                log.write("stopping", f"{name}: taking what has come and writing the last revision", signal=name)
                manager.stopping()

    listener = threading.Thread(target=set_stop, name="signals", daemon=True)
    listener.start()
    former = {one: signal.signal(one, on_signal) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for one, handler in former.items():
            signal.signal(one, handler)
        heard.put(None)
        listener.join()


def is_left_behind(there: set[threading.Thread]) -> bool:
    """Whether a thread that was started meanwhile would hold the end of the process."""
    # Pools of threads, as asyncio has one for lookups of names, are waited for although their threads are daemons.
    pooled = getattr(pool_threads, "_threads_queues", {})
    mine = [one for one in threading.enumerate() if one not in there and (not one.daemon or one in pooled)]
    for one in mine:  # most have only not ended yet
        with suppress(RuntimeError):
            one.join(0.1)
    return any(one.is_alive() for one in mine)


def log_error(log: LiveLog, error: Exception) -> int:
    """Write an error as an event, an unexpected one with its trace; return the exit code that it has."""
    from engine.errors import EngineError

    if isinstance(error, EngineError):
        log.write("failed", str(error), "error")
        return USAGE
    trace = "".join(traceback.format_exception(error))
    log.write("failed", f"unexpected {type(error).__name__}: {error}", "error", trace=trace)
    return FAILED
