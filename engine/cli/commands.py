"""All commands in the order of `engine --help`, and a run that builds only the requested one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from typer.models import CommandInfo

from engine.cli import audit_command as _audit
from engine.cli import maintenance_commands as _upkeep
from engine.cli import query_commands as _ask
from engine.cli import reconcile_commands as _reconcile
from engine.cli import run_commands as _run
from engine.cli import session_commands as _session
from engine.cli.app import app

__all__ = ["app", "run"]


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


def run(words: list[str]) -> None:
    """Run the command that these words name."""
    with _only(words):
        app(words)


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
