"""Symbols that were asked for, and are in no source: an error if that is all of them, else a note."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from engine.arguments import did_you_mean, list_names
from engine.errors import EngineError, ParameterError, SourceError
from engine.sources.batch import Problem
from engine.sources.file_names import parse_path
from engine.sources.inputs import Input, scan_inputs
from engine.sources.options import ReadOptions
from engine.sources.read import read

FILES_LOOKED_INTO = 5  # for the names of symbols that only rows tell


def unmatched_notes(
    inputs: Sequence[Input], options: ReadOptions, found: Iterable[str], problems: Iterable[Problem]
) -> tuple[str, ...]:
    """Notes of requested symbols that no row has; empty if all have some, or none was requested.

    Parameters
    ----------
    inputs : sequence of Input
    options : ReadOptions
        With `symbols`.
    found : iterable of str
        Symbols that have rows.
    problems : iterable of Problem
        Of the files: one that is named after a requested symbol is the error, not that the symbol is unknown.

    Raises
    ------
    ParameterError
        Not one of the symbols has a row; the message lists those that the sources hold, and the nearest.
    SourceError
        Not one has a row, and the file of one cannot be read.
    """
    names = {name for symbol in found for name in names_that_select(symbol)}
    requested = options.symbols or ()
    missing = [symbol for symbol in requested if symbol not in names]
    if not missing:
        return ()
    if len(missing) < len(requested):
        return (f"symbols: {list_names(missing)} asked for, and no row has them",)
    for problem in problems:
        symbol = symbol_of_path(problem.path, options)
        if not problem.ignored and symbol is not None and options.selects(symbol):
            raise SourceError(problem.path, problem.reason)
    known = symbols_of_sources(inputs, options)
    raise ParameterError(
        f"symbols: received {', '.join(missing)}{did_you_mean(missing[0], known)}; no row of the sources has "
        f"{'it' if len(missing) == 1 else 'one of them'}; they hold {list_names(known)}"
    )


def symbol_of_path(path: str, options: ReadOptions) -> str | None:
    """Symbol that the path of a file, or of a member of an archive, states; None if it states none."""
    try:
        return parse_path(path.replace("!", "/"), options).symbol
    except SourceError:
        return None  # it does not fit the template of `symbol_from`


def names_that_select(symbol: str) -> set[str]:
    """What `symbols` may call a symbol: itself, itself without a market (`@`), and each root of it (`ES` of `ES.2024`)."""
    plain = symbol.split("@", maxsplit=1)[0]
    words = plain.split(".")
    return {symbol, *(".".join(words[:count]) for count in range(1, len(words) + 1))}


def symbols_of_sources(inputs: Sequence[Input], options: ReadOptions) -> list[str]:
    """Sorted symbols that names and metadata of the sources' files state, and rows of the first few files without."""
    everything = replace(options, symbols=None)
    files, _ = scan_inputs([one for one in inputs if one.path is None or one.path.exists()], everything)
    stated = {symbol for file in files for symbol in file.symbols or ((file.symbol,) if file.symbol else ())}
    for file in [file for file in files if not (file.symbol or file.symbols)][:FILES_LOOKED_INTO]:
        try:
            stated |= {symbol for batch in read(file, everything) for symbol in batch.frame["symbol"].unique()}
        except EngineError:
            continue  # what cannot be read names no symbol; the scan has its problem
    return sorted(stated)
