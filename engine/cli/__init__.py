"""The command line."""

from __future__ import annotations

import sys

from typer.models import CommandInfo

from engine.cli import ask as _ask
from engine.cli import run as _run
from engine.cli import upkeep as _upkeep
from engine.cli.app import INTERRUPTED, PARTLY_READ, USAGE, app
from engine.errors import EngineError

__all__ = ["INTERRUPTED", "PARTLY_READ", "USAGE", "app", "main"]


def _name(command: CommandInfo) -> str:
    return str(command.name or getattr(command.callback, "__name__", ""))


_COMMANDS = (_run, _ask, _upkeep)  # importing them is what adds their commands
_ORDER = ("demo", "run", "sql", "gaps", "quality", "export", "calendars", "history", "diff", "verify", "repair")
app.registered_commands.sort(key=lambda c: _ORDER.index(name) if (name := _name(c)) in _ORDER else len(_ORDER))


def main() -> None:
    """Entry point: runs a command; errors of this package end in one paragraph and exit code 2."""
    try:
        app()
    except EngineError as error:
        sys.stderr.write(f"engine: {error}\n")
        raise SystemExit(USAGE) from error
    except KeyboardInterrupt:
        sys.stderr.write("engine: interrupted\n")
        raise SystemExit(INTERRUPTED) from None
