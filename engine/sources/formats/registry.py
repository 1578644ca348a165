"""Table of the file formats that can be read: names and suffixes, for options, file names, scans and help texts.

Every module of this folder is imported at the first look-up, and a class that `register` decorates is then part of the
table. Formats of other packages join by entry points (`engine.plugins`), in worker processes too. A format of a module
elsewhere joins when that module is imported, in this process alone.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import ClassVar, ParamSpec, TypeVar

from engine.arguments import check_type, one_name
from engine.errors import ParameterError
from engine.plugins import FORMATS, Plugin, join_plugins

PACKED_SUFFIXES = (
    ".zip",
    ".gz",
    ".zst",
    ".zstd",
    ".bz2",
    ".xz",
)  # of archives and compressed files, whose content has a format


class Registered:
    """A format as the table lists it; `engine.sources.formats.format.Format` has the methods that read."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    precedence: ClassVar[int] = 50


F = TypeVar("F", bound=Registered)
P = ParamSpec("P")
T = TypeVar("T")

_FORMATS: dict[str, Registered] = {}
_PLUGINS: dict[str, Plugin] = {}  # by the name of their format


def register(format_class: type[F]) -> type[F]:
    """Class decorator: add an instance to the table by its name; ParameterError if another class has that name.

    Raises
    ------
    ParameterError
        Another format has the same name.
    """
    name = format_class.name
    if name in _FORMATS and type(_FORMATS[name]).__qualname__ != format_class.__qualname__:
        raise ParameterError(f"format: {name!r} is registered already, by {type(_FORMATS[name]).__qualname__}")
    _FORMATS[name] = format_class()
    return format_class


def unregister(name: str) -> None:
    """Remove the format of this name from the table; an unknown name changes nothing."""
    _FORMATS.pop(name, None)
    _PLUGINS.pop(name, None)


def registered() -> tuple[Registered, ...]:
    """All formats by ascending precedence, after importing this folder's modules; files are tried on the last first."""
    import_format_modules()
    join_format_plugins()
    return tuple(sorted(_FORMATS.values(), key=lambda one: one.precedence))


def format_names() -> tuple[str, ...]:
    """Names of all formats by ascending precedence, as `--format` takes them."""
    return tuple(one.name for one in registered())


def data_suffixes() -> tuple[str, ...]:
    """Lower-case suffixes of all formats, then of packings (`.zip`, ...): other files in a folder are no data."""
    return (*(suffix for one in registered() for suffix in one.suffixes), *PACKED_SUFFIXES)


@functools.cache
def import_format_modules() -> None:
    """Import every module of this folder so that its formats register; later calls change nothing."""
    folder = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")


@functools.cache
def join_format_plugins() -> None:
    """Register the formats of other packages; one that cannot be is left out with a warning; later calls do nothing."""
    join_plugins(FORMATS, join_format)


def join_format(plugin: Plugin, found: object) -> None:
    """Register the format that a plug-in offers; ParameterError if it is no class of a format, or its name is taken.

    Raises
    ------
    ParameterError
        The plug-in offers something else, or another format has its name or suffixes that are none.
    """
    if not (isinstance(found, type) and issubclass(found, Registered)):
        raise ParameterError(f"received {found!r}; valid: a class derived from engine.sources.formats.format.Format")
    check_attributes(found)
    if found.name in _FORMATS and type(_FORMATS[found.name]) is not found:
        raise ParameterError(
            f"format: {found.name!r} is registered already, by {type(_FORMATS[found.name]).__qualname__}"
        )
    register(found)
    _PLUGINS[found.name] = plugin


def check_attributes(found: type[Registered]) -> None:
    """ParameterError if a class attribute of a format has another type than the table and the scan need.

    Raises
    ------
    ParameterError
        An attribute has another type; the message names it.
    """
    one_name("name", found.name)
    if not isinstance(found.suffixes, tuple) or not all(isinstance(one, str) for one in found.suffixes):
        raise ParameterError(f"suffixes: received {found.suffixes!r}; valid: a tuple of texts such as ('.csv',)")
    magic = getattr(found, "magic", ())
    if not isinstance(magic, tuple) or not all(isinstance(one, bytes) for one in magic):
        raise ParameterError(f"magic: received {magic!r}; valid: a tuple of bytes such as (b'ACME',)")
    check_type("precedence", found.precedence, int)
    check_type("other_folders", getattr(found, "other_folders", {}), Mapping)
    check_type("path_states_symbol", getattr(found, "path_states_symbol", False), bool)


def call_format(name: str, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Result of a method of a format; of a plug-in's format every failure is a PluginError that names the plug-in."""
    plugin = _PLUGINS.get(name)
    return function(*args, **options) if plugin is None else plugin.call(function, *args, **options)
