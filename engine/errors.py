"""The errors that this package raises on purpose.

EngineError
├── ParameterError (ValueError)     an argument: its name, the value received, what would be valid
│   ├── IntervalError               not an interval, or one that cannot be derived from the base
│   ├── CalendarError               unknown code, dates out of a calendar's bounds, bad calendar file
│   ├── UnknownNameError (AttributeError)   a name of the plan that is another one here: which call to use
│   └── UnknownSymbolError (KeyError, StoreError)   no such symbol
├── DataError (ValueError)          data that is not as its schema or format requires
│   ├── SourceError                 a file that cannot be read: path and reason
│   ├── CoverageError               an export that lacks bars which a backtest needs: `.holes`
│   ├── SchemaError                 a frame whose columns do not fit
│   └── SortednessError             rows out of order where order is required
├── StoreError
│   └── CursorExpiredError          changes(since) is older than the log: read everything anew
├── StreamError                     a live source that does not answer, or refuses
│   ├── AnswerError                 an answer that is too long, too large or cannot be read
│   └── StreamStoppedError          a call that was left because the session was stopped
├── PluginError                     a plug-in that cannot be loaded, or failed: its name and package
├── WorkerError                     a task that killed every worker it was given to
├── RemoteError (OSError)           an object store that is out of reach, refuses, or answers something else
├── ExportError                     a target that cannot be written or read
│   └── DamageError                 a file of an export is lost or altered: `.path`, `.fault`
└── QueryError                      SQL that was refused or failed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.printable import escape_unprintable

if TYPE_CHECKING:
    from polars import DataFrame

LONGEST_REASON = 2000  # characters: a header of a thousand names is not repeated as a whole


class EngineError(Exception):
    """Root of every error of this package; its text has unprintable characters escaped, its `args` have them as received."""

    def __str__(self) -> str:
        return escape_unprintable(str(self.args[0])) if self.args else ""


class ParameterError(EngineError, ValueError):
    """An argument is not valid; the message names it, what was received and what would be valid."""


class IntervalError(ParameterError):
    """Text that is no interval, or an interval that cannot be derived from its base."""


class CalendarError(ParameterError):
    """Unknown calendar, dates outside its bounds, or a calendar file with a mistake in it."""


class UnknownNameError(ParameterError, AttributeError):
    """A name of the refactor plan that the engine has under another one; the message says which call to use."""


class DataError(EngineError, ValueError):
    """Data that is not as its schema or format requires."""


class SourceError(DataError):
    """A file that cannot be read."""

    def __init__(self, path: object, reason: str) -> None:
        if len(reason) > LONGEST_REASON:
            reason = f"{reason[:LONGEST_REASON]} ... ({len(reason) - LONGEST_REASON:,} more characters)"
        super().__init__(f"{escape_unprintable(str(path), keep_breaks=False)}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[SourceError], tuple[str, str]]:
        # Pickle would rebuild it from the message alone; workers hand it to their parent.
        return type(self), (self.path, self.reason)


class SchemaError(DataError):
    """A frame lacks columns, or has columns of types that do not fit."""


class CoverageError(DataError):
    """An export has less of a range than was asked for.

    Attributes
    ----------
    holes : DataFrame
        `engine.runtime.axis_coverage.HOLES`: what is missing, by series and time.
    preflight : engine.runtime.preflight.Preflight
        Coverage of all series.
    """

    def __init__(self, message: str, holes: DataFrame, preflight: Any) -> None:  # noqa: ANN401 - of a layer above
        super().__init__(message)
        self.holes = holes
        self.preflight = preflight

    def __reduce__(self) -> tuple[type[CoverageError], tuple[str, DataFrame, Any]]:
        # Pickle would rebuild it from the message alone; workers hand it to their parent.
        return type(self), (str(self), self.holes, self.preflight)


class SortednessError(DataError):
    """Rows are out of order where a kernel needs order."""


class StoreError(EngineError):
    """The store refused an operation."""


class UnknownSymbolError(StoreError, ParameterError, KeyError):
    """No such symbol in the store, or in the export; the message names the nearest one."""


class CursorExpiredError(StoreError):
    """A revision older than the change log; read everything anew."""


class StreamError(EngineError):
    """A live source that cannot be reached, refuses, or answers nonsense."""


class AnswerError(StreamError):
    """An answer of a source's history that takes too long, is too large or cannot be read; others may be fine."""


class StreamStoppedError(StreamError):
    """A call of a live source that had not returned when the session was stopped."""


class PluginError(EngineError):
    """A plug-in that cannot be loaded, or failed; the message names it and its package."""


class WorkerError(EngineError):
    """A task that killed every worker it was given to."""


class RemoteError(EngineError, OSError):
    """An object store that cannot be reached, refuses a request, or answers what is no answer to it."""


class ExportError(EngineError):
    """A dataset that cannot be written or read."""


class DamageError(ExportError):
    """A file of an export is lost, or is not what was written.

    Attributes
    ----------
    path : str
        The file.
    fault : str
        What is wrong with it.
    """

    def __init__(self, path: object, fault: str, remedy: str) -> None:
        super().__init__(f"{escape_unprintable(str(path), keep_breaks=False)}: {fault}; {remedy}")
        self.path = str(path)
        self.fault = fault
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[DamageError], tuple[str, str, str]]:
        # Pickle would rebuild it from the message alone; workers hand it to their parent.
        return type(self), (self.path, self.fault, self.remedy)


class QueryError(EngineError):
    """A statement that was refused or failed."""
