"""The command line."""

from __future__ import annotations

import sys

from engine.cli import ask as _ask
from engine.cli import run as _run
from engine.cli import upkeep as _upkeep
from engine.cli.app import INTERRUPTED, PARTLY_READ, USAGE, app
from engine.errors import EngineError

__all__ = ["INTERRUPTED", "PARTLY_READ", "USAGE", "app", "main"]
_COMMANDS = (_run, _ask, _upkeep)  # importing them is what adds their commands


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
