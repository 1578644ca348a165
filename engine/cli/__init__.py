"""The command line."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from typer.models import CommandInfo

from engine.cli import ask as _ask
from engine.cli import audit as _audit
from engine.cli import reconcile as _reconcile
from engine.cli import run as _run
from engine.cli import session as _session
from engine.cli import upkeep as _upkeep
from engine.cli.app import DEBUG, FAILED, INTERRUPTED, PARTLY_READ, PLAIN, QUIET, USAGE, app
from engine.cli.ready import started_for
from engine.cli.show import be_quiet
from engine.errors import EngineError

__all__ = ["FAILED", "INTERRUPTED", "PARTLY_READ", "USAGE", "app", "main"]


def _name(command: CommandInfo) -> str:
    return str(command.name or getattr(command.callback, "__name__", ""))


_COMMANDS = (_run, _audit, _reconcile, _ask, _upkeep, _session)  # importing them is what adds their commands
_ORDER = (
    "demo",
    "run",
    "audit",
    "replay",
    "live",
    "reconcile",
    "rules",
    "sql",
    "gaps",
    "quality",
    "export",
    "calendars",
    "history",
    "diff",
    "verify",
    "repair",
)
app.registered_commands.sort(key=lambda c: _ORDER.index(name) if (name := _name(c)) in _ORDER else len(_ORDER))


def _forget_output() -> None:
    # What is still buffered has nowhere to go, and Python would try once more at its end.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _manners(words: list[str]) -> tuple[set[str], list[str]]:
    """The flags about behaviour that stand among the words, and the other words; what follows `--` is data."""
    end = words.index("--") if "--" in words else len(words)
    flags = {word for word in words[:end] if word in (QUIET, PLAIN, DEBUG)}
    return flags, [*(word for word in words[:end] if word not in flags), *words[end:]]


def main() -> None:
    """Entry point: runs a command; errors of this package end in one paragraph and exit code 2."""
    flags, words = _manners(sys.argv[1:])
    be_quiet(quiet=QUIET in flags)
    if PLAIN in flags:
        os.environ["NO_COLOR"] = "1"  # what Rich and child processes look at
    try:
        _run_words(words)
    except SystemExit as stopped:
        if stopped.code == INTERRUPTED:  # Typer took the interrupt, and says no word
            sys.stderr.write("engine: interrupted; what was in place before is as it was\n")
        raise
    except BaseException as error:  # noqa: BLE001 - a person at a terminal gets a sentence, with --debug the trace
        if DEBUG in flags:
            traceback.print_exc()
        raise SystemExit(_told(error)) from None


def _run_words(words: list[str]) -> None:
    try:
        with started_for(words), _only(words):
            app(words)
    finally:
        sys.stdout.flush()


@contextmanager
def _only(words: list[str]) -> Iterator[None]:
    # Typer makes something of every option of every command, which takes longer than what the one does that is asked for.
    whole = app.registered_commands, app.registered_groups
    asked = [command for command in whole[0] if words[:1] == [_name(command)]]
    if asked and "_ENGINE_COMPLETE" not in os.environ:
        app.registered_commands, app.registered_groups = asked, []
    try:
        yield
    finally:
        app.registered_commands, app.registered_groups = whole


def _told(error: BaseException) -> int:
    """Say what happened in one paragraph; the exit code."""
    match error:
        case KeyboardInterrupt():
            sys.stderr.write("engine: interrupted; what was in place before is as it was\n")
            return INTERRUPTED
        case EngineError():
            sys.stderr.write(f"engine: {error}\n")
            return USAGE
        case OSError():
            # Rooms tell of their files by an error of this package, so this is most likely the output: a full disk.
            if not isinstance(error, BrokenPipeError):
                sys.stderr.write(f"engine: {error}\n")
            _forget_output()
            return FAILED
        case _:
            sys.stderr.write(
                f"engine: unexpected {type(error).__name__}: {error}; this is a defect of engine, not of your input: "
                "run it again with --debug and report the trace\n"
            )
            return FAILED
