"""File formats, layouts and live sources of other packages, found by entry points.

A package offers one by an entry point of the group `engine.formats` (a class of `engine.sources.formats.format.Format`),
`engine.layouts` (a `Layout` of `engine.sources.layouts.layout`, or several) or `engine.sources` (a function of a
configuration and a clock that returns a `Stream`). Worker processes find the same packages. A plug-in that fails is
named: where it is loaded, in a `PluginWarning`, and nothing else ends; where it is used, in the error of what used it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import ParamSpec, TypeVar

from engine.errors import EngineError, PluginError

FORMATS, LAYOUTS, SOURCES = "engine.formats", "engine.layouts", "engine.sources"

P = ParamSpec("P")
T = TypeVar("T")


class PluginWarning(UserWarning):
    """A plug-in that is left out; the message names it and says why."""


@dataclass(frozen=True)
class Plugin:
    """An entry point of another package; its text names the plug-in in messages."""

    entry: EntryPoint

    @property
    def name(self) -> str:
        """Name of the entry point."""
        return self.entry.name

    def __str__(self) -> str:
        package = f" of {self.entry.dist.name} {self.entry.dist.version}" if self.entry.dist is not None else ""
        return f"plug-in {self.name!r}{package} ({self.entry.group})"

    def call(self, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Result of a function of the plug-in; PluginError that names it for whatever it raises, but errors of ours.

        Raises
        ------
        PluginError
            The function failed; the cause is chained.
        """
        try:
            return function(*args, **options)
        except (EngineError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"{self}: {type(error).__name__}: {error}") from error

    def load(self) -> object:
        """What the entry point names, imported; PluginError that names the plug-in where it cannot be.

        Raises
        ------
        PluginError
            Its module cannot be imported, or has no such name.
        """
        return self.call(self.entry.load)

    def leave_out(self, error: Exception) -> None:
        """Warn (`PluginWarning`) that the plug-in is left out, and why."""
        reason = str(error) if str(self) in str(error) else f"{self}: {error}"
        warnings.warn(f"{reason}; it is left out", PluginWarning, stacklevel=2)


@functools.cache
def plugins(group: str) -> tuple[Plugin, ...]:
    """Plug-ins of a group by name, none of them loaded; looked up once per process."""
    found = sorted(entry_points(group=group), key=lambda one: (one.name, one.value))
    return tuple(map(Plugin, dict.fromkeys(found)))


def plugin_named(group: str, name: str) -> Plugin | None:
    """The plug-in of this name, or None."""
    return next((one for one in plugins(group) if one.name == name), None)


def join_plugins(group: str, join: Callable[[Plugin, object], None]) -> None:
    """Load each plug-in of a group and hand it to `join`; one for which either fails is left out, with a warning."""
    for one in plugins(group):
        try:
            one.call(join, one, one.load())
        except EngineError as error:
            one.leave_out(error)
