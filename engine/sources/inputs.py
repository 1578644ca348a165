"""What a caller may give as sources: paths, frames, lists of them, or a mapping of symbols to them.

`inputs_of` turns all forms into a list of `Input`, `scan_inputs` into data files: a frame is one that lies in memory.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import polars as pl

from engine.arguments import describe_value, location_of, one_name
from engine.errors import ParameterError
from engine.sources.batch import Problem, SourceFile
from engine.sources.dataframes import is_frame, to_polars
from engine.sources.options import ReadOptions
from engine.sources.scan import scan
from engine.storage import ObjectPath

VALID = (
    "a path, a frame (Polars, pandas, PyArrow, DuckDB relation), a list of them, or a mapping of symbols to them, "
    "as in {'SPY': frame}"
)
IN_MEMORY = "frame"  # the format of a frame, which no file has


@runtime_checkable
class ArrowStream(Protocol):
    """A frame of any library that offers an Arrow stream: pandas, PyArrow, DuckDB relations ..."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Capsule of the stream, as the Arrow PyCapsule protocol has it."""
        ...


OneSource: TypeAlias = str | os.PathLike[str] | pl.DataFrame | pl.LazyFrame | ArrowStream
Sources: TypeAlias = OneSource | Iterable[OneSource] | Mapping[str, OneSource | Sequence[OneSource]]


@dataclass(frozen=True)
class Input:
    """One path or frame to read.

    Attributes
    ----------
    name : str
        The path, or what messages call the frame (`frame 2`, `frame SPY`).
    path : Path or None
    frame : DataFrame or None
        One of the two is given.
    symbol : str or None
        Of all rows, where the caller gave a mapping.
    """

    name: str
    path: Path | None = None
    frame: pl.DataFrame | None = None
    symbol: str | None = None


def inputs_of(sources: Any) -> list[Input]:  # noqa: ANN401 - `Sources`, or anything wrong
    """Inputs of a path, a frame, a list or set of them, or a mapping of symbols to them; ParameterError for the rest.

    Raises
    ------
    ParameterError
        Nothing was given, or something that is none of these.
    SchemaError
        A frame cannot be read.
    """
    if isinstance(sources, Mapping):
        named = [
            (one_name("sources", symbol), value) for symbol, values in sources.items() for value in each_source(values)
        ]
        frames, found, seen = Counter(symbol for symbol, _ in named), [], Counter[str]()
        for symbol, value in named:
            seen[symbol] += 1
            name = f"frame {symbol} {seen[symbol]}" if frames[symbol] > 1 else f"frame {symbol}"
            found.append(_input(value, name, symbol))
    else:
        values = each_source(sources)
        digits = len(str(len(values)))
        found = [
            _input(value, "frame" if len(values) == 1 else f"frame {number:0{digits}}")
            for number, value in enumerate(values, start=1)
        ]
    if not found:
        raise ParameterError(f"source: none given; valid: {VALID}")
    return found


def each_source(sources: Any) -> list[Any]:  # noqa: ANN401
    """Members of a list, set (sorted) or iterable; [it] for a path or frame; ParameterError for mappings and others."""
    if isinstance(sources, str | os.PathLike) or is_frame(sources):
        return [sources]
    if not isinstance(sources, Iterable) or isinstance(sources, bytes | Mapping):
        raise ParameterError(f"source: received {describe_value(sources)}; valid: {VALID}")
    return sorted(sources, key=str) if isinstance(sources, set | frozenset) else list(sources)


def _input(value: Any, name: str, symbol: str | None = None) -> Input:  # noqa: ANN401
    """Input of one path or frame, or as it is; ParameterError for anything else."""
    if isinstance(value, Input):
        return value
    if isinstance(value, str | os.PathLike) and str(value):
        path = location_of("source", value)
        return Input(str(path), path, symbol=symbol)
    if is_frame(value):
        return Input(name, frame=to_polars(value), symbol=symbol)
    raise ParameterError(f"source: received {describe_value(value)}; valid: {VALID}")


def scan_inputs(inputs: Sequence[Input], options: ReadOptions) -> tuple[list[SourceFile], list[Problem]]:
    """(data files that `scan` finds at paths and frames as files, by path; problems); ParameterError for absent paths.

    Raises
    ------
    ParameterError
        A path does not exist; all such are listed.
    """
    absent = [one.name for one in inputs if one.path is not None and not is_there(one.path)]
    if absent:
        raise ParameterError(f"source: {', '.join(absent)} does not exist")
    files, problems = scan([one.path for one in inputs if one.path is not None and one.symbol is None], options)
    for symbol in dict.fromkeys(one.symbol for one in inputs if one.path is not None and one.symbol is not None):
        paths = [one.path for one in inputs if one.path is not None and one.symbol == symbol]
        own, own_problems = scan(paths, replace(options, symbol=symbol))
        files += [replace(file, given_symbol=symbol) for file in own]
        problems += own_problems
    frames = [
        SourceFile(Path(one.name), IN_MEMORY, symbol=one.symbol, given_symbol=one.symbol, frame=one.frame)
        for one in inputs
        if one.frame is not None
    ]
    return sorted([*files, *frames], key=lambda file: file.path), problems


def is_there(path: Path) -> bool:
    """Whether a path exists, if only as a link that leads nowhere; what a store holds is told when it is listed."""
    return isinstance(path, ObjectPath) or os.path.lexists(path)
