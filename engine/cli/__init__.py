"""The command line."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from typer.models import CommandInfo

from engine.cli import ask as _ask
from engine.cli import audit as _audit
from engine.cli import reconcile as _reconcile
from engine.cli import run as _run
from engine.cli import session as _session
from engine.cli import upkeep as _upkeep
from engine.cli.app import FAILED, INTERRUPTED, PARTLY_READ, USAGE, app
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


def main() -> None:
    """Entry point: runs a command; errors of this package end in one paragraph and exit code 2."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except OSError as error:
        # Rooms tell of their files by an error of this package, so this is most likely the output: a full disk.
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"engine: {error}\n")
        _forget_output()
        raise SystemExit(FAILED) from error
    except EngineError as error:
        sys.stderr.write(f"engine: {error}\n")
        raise SystemExit(USAGE) from error
    except KeyboardInterrupt:
        sys.stderr.write("engine: interrupted\n")
        raise SystemExit(INTERRUPTED) from None
