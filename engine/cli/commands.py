"""All commands in the order of `engine --help`, and a run that builds only the requested one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from typer.models import CommandInfo

from engine.cli import audit_command as _audit
from engine.cli import calendar_command as _calendars
from engine.cli import check_command as _check
from engine.cli import live_command as _live
from engine.cli import maintenance_commands as _upkeep
from engine.cli import mending_commands as _mend
from engine.cli import query_commands as _ask
from engine.cli import reconcile_commands as _reconcile
from engine.cli import run_commands as _run
from engine.cli import session_commands as _session
from engine.cli.app import app

__all__ = ["app", "run"]


def command_name(command: CommandInfo) -> str:
    """Name of a command: the registered one, else that of its function, else an empty string."""
    return str(command.name or getattr(command.callback, "__name__", ""))


_COMMANDS = (
    _run,
    _audit,
    _reconcile,
    _mend,
    _ask,
    _check,
    _calendars,
    _upkeep,
    _session,
    _live,
)  # importing them is what adds their commands
_ORDER = (
    "demo",
    "run",
    "audit",
    "replay",
    "live",
    "reconcile",
    "requests",
    "fill",
    "rules",
    "sql",
    "gaps",
    "quality",
    "check",
    "export",
    "calendars",
    "calendars check",
    "layouts",
    "history",
    "diff",
    "verify",
    "repair",
)
app.registered_commands.sort(key=lambda c: _ORDER.index(name) if (name := command_name(c)) in _ORDER else len(_ORDER))


def run(words: list[str]) -> None:
    """Run the application with these words; only the command that the first one names is built."""
    with only_command(words):
        app(words)


@contextmanager
def only_command(words: list[str]) -> Iterator[None]:
    """Context in which the app has only the command of the first words; all if none matches or completion runs."""
    # Typer builds every option of every command, which takes longer than the one requested command runs.
    whole = app.registered_commands, app.registered_groups
    named = {command_name(command): command for command in whole[0]}
    asked = [named[name] for name in (" ".join(words[:2]), *words[:1]) if name in named][:1]
    if asked and "_ENGINE_COMPLETE" not in os.environ:
        app.registered_commands, app.registered_groups = asked, []
    try:
        yield
    finally:
        app.registered_commands, app.registered_groups = whole
