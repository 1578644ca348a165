"""Names of the SessionData refactor plan that the engine has under another name: using one says which call to use.

The objects of the plan keep its names where they mean the same (`docs/explanation/plan.md`). A name that is not there
raises `UnknownNameError`, an `AttributeError`, as do assignments to what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from engine.errors import ParameterError, UnknownNameError

ClassT = TypeVar("ClassT", bound=type)
STORE_AGAIN = "session.register_symbol_data(dataclasses.replace(symbol_data, ...))"


class PlanNames:
    """Base of an object of the plan: a name of the plan that it does not have says which call to use."""

    _plan_names: ClassVar[Mapping[str, str]] = {}

    if not TYPE_CHECKING:  # for mypy an unknown name stays an error

        def __getattr__(self, name: str) -> NoReturn:
            kind = type(self).__name__
            if name in self._plan_names:
                raise UnknownNameError(f"{kind}.{name}: is not there; use {self._plan_names[name]}")
            raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=self)


def refuse_assignment(calls: Mapping[str, str]) -> Callable[[ClassT], ClassT]:
    """Decorator of a frozen class: an assignment to an attribute raises UnknownNameError with the call to use."""

    def set_attribute(self: object, name: str, value: object) -> NoReturn:
        del value
        kind = type(self).__name__
        raise UnknownNameError(
            f"{kind}.{name}: cannot be assigned, it is a view of the store; use {calls.get(name, STORE_AGAIN)}"
        )

    def decorate(kind: ClassT) -> ClassT:
        kind.__setattr__ = set_attribute  # type: ignore[method-assign, assignment]
        return kind

    return decorate


class StoredFrames(dict[str, Any]):
    """Frame by interval, as stored: an assignment would be lost, so it raises."""

    def __init__(self, call: str, frames: Mapping[str, Any]) -> None:
        super().__init__(frames)
        self._call = call

    def __setitem__(self, interval: str, frame: object) -> NoReturn:
        del frame
        raise UnknownNameError(f"{interval}: cannot be assigned, it is a view of the store; use {self._call}")


def check_panel_key(call: str, key: object, kind: type) -> None:
    """ParameterError that shows the call, unless `key` is one of a panel: the plan names symbol and interval."""
    if not isinstance(key, kind):
        raise ParameterError(
            f"{call}: received {key!r} in place of a panel key; valid: {call}(session.get_symbol_data(symbol).key_of("
            "interval), frame), with the columns that engine.quality has for it; DataQualityManager(session).step() "
            "computes and stores those of the bars"
        )
