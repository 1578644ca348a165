"""The one cache of calendars in a process: what was built of libraries and files, by everything that it depends on.

An entry is keyed by the function that builds it and by all its arguments, and is never invalid by itself:

- Spans of a library are keyed by library, code and decade. The libraries do not change while a process runs.
- What is built of a calendar file is keyed by the path and by the bytes of the file, which are read at each request. A
  file that changes is therefore noticed at the next `calendar` call, whatever its time stamp says.
- A `SessionData` keeps the calendar by which its first rows were placed, because ordinals and slots depend on it; a
  file that changes counts for the next session.
- `adopt` gives calendars that another process preloaded precedence over the libraries, for as long as the process runs.

The entries used least recently are dropped beyond `MOST_ENTRIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from engine.calendars.providers import SessionCalendar

MOST_ENTRIES = 1024

T = TypeVar("T")

_adopted: dict[str, SessionCalendar] = {}


def cached(build: Callable[..., T], *arguments: Hashable) -> T:
    """Result of `build(*arguments)` from a per-process LRU cache, built if absent; exceptions are raised, not cached."""
    return cast("T", _entry(build, *arguments))


@lru_cache(maxsize=MOST_ENTRIES)
def _entry(build: Callable[..., Any], *arguments: Hashable) -> Any:  # noqa: ANN401 - whatever is built
    return build(*arguments)


def adopt(calendars: Iterable[SessionCalendar]) -> None:
    """Register calendars by their code (the latest wins), used in this process before shipped files and libraries."""
    _adopted.update({one.code: one for one in calendars})


def adopted(code: str) -> SessionCalendar | None:
    """Calendar registered by `adopt` for a code; None when there is none."""
    return _adopted.get(code)


def has_adopted() -> bool:
    """Whether any calendar was registered by `adopt`."""
    return bool(_adopted)
