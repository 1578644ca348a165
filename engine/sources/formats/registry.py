"""Table of the file formats that can be read: names and suffixes, for options, file names, scans and help texts.

Every module of this folder is imported at the first look-up, and a class that `register` decorates is then part of the
table. A format of a module elsewhere joins when that module is imported; worker processes import this folder alone.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import ClassVar, TypeVar

from engine.errors import ParameterError

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

_FORMATS: dict[str, Registered] = {}


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


def registered() -> tuple[Registered, ...]:
    """All formats by ascending precedence, after importing this folder's modules; files are tried on the last first."""
    import_format_modules()
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
