"""Which files are data: folders are walked, formats told by content and name, namesakes kept apart.

1. `_walked` lists files in the order of their paths, hidden ones left out.
2. `_found` tells a file's format by its first bytes, and what it is by its name and place.
3. `_apart` gives the same symbol of two markets two names (`EURUSD@FXCM`, `EURUSD@OANDA`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from engine.errors import SourceError
from engine.sources import archive, ndjson
from engine.sources.batch import Problem, SourceFile
from engine.sources.file_names import named
from engine.sources.options import ReadOptions
from engine.sources.text import UTF16
from engine.sources.vendors import dbn, lean
from engine.sources.vendors.lean_layout import CONTRACTS

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".psv", ".dat")
WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
SAVE_AS_CSV = "a spreadsheet: save its sheet as CSV (UTF-8)"
DATA_SUFFIXES = (*TEXT_SUFFIXES, *ndjson.SUFFIXES, ".parquet", ".pq", ".zip", ".gz", ".zst", ".zstd", ".dbn")
OTHER_NAMES = ("readme", "license", "licence", "notice", "changelog")
_Name = tuple[str, bool]  # a symbol, and whether it is a root of contracts
_Place = tuple[str | None, str | None]  # a market, and a kind of instrument
OTHER_FOLDERS: Mapping[str, str] = {
    "map_files": "ticker map",
    "factor_files": "adjustment factors",
    "market-hours": "vendor's calendar",
    "symbol-properties": "symbol properties",
}


def scan(paths: Sequence[Path | str], options: ReadOptions | None = None) -> tuple[list[SourceFile], list[Problem]]:
    """Find data files.

    Parameters
    ----------
    paths : sequence of Path or str
        Files, and folders that are walked recursively.
    options : ReadOptions, optional
        `format` wins over what files look like; files of `symbols` and `price_types` not asked for are passed over.

    Returns
    -------
    files : list of SourceFile
        Sorted by path, each once.
    problems : list of Problem
        What cannot be read, and (`ignored`) what is no data; sorted by path.
    """
    options = options or ReadOptions()
    files: list[SourceFile] = []
    problems: list[Problem] = []
    for path, is_given in sorted(_listed(paths).items()):
        found = _found(path, options, is_given=is_given)
        if isinstance(found, SourceFile):
            files.append(found)
        else:
            problems.append(found)
    apart = _apart(files)
    wanted = [file for file in apart if _may_hold(file, options)]
    problems += [
        Problem(str(file.path), "not asked for", ignored=True) for file in apart if not _may_hold(file, options)
    ]
    return wanted, sorted(problems, key=lambda problem: problem.path)


def _listed(paths: Iterable[Path | str]) -> dict[Path, bool]:
    # Each path once, and whether it was named itself: then it is meant to be data.
    listed: dict[Path, bool] = {}
    for path in map(Path, paths):
        for found in _walked(path) if path.is_dir() else (path,):
            listed[found] = listed.get(found, False) or found == path
    return listed


def _walked(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            # A link to a folder above would never end.
            if not entry.is_symlink():
                yield from _walked(entry)
        else:
            yield entry


def _found(path: Path, options: ReadOptions, *, is_given: bool) -> SourceFile | Problem:
    reason = None if is_given else no_data(path)
    if reason is not None:
        return Problem(str(path), reason, ignored=True)
    if not path.exists():
        return Problem(str(path), "no such file or folder")
    try:
        return _identified(path, options, is_given=is_given)
    except (SourceError, OSError) as error:
        reason = error.reason if isinstance(error, SourceError) else f"cannot be read: {error.strerror or error}"
        return Problem(str(path), reason)


def _identified(path: Path, options: ReadOptions, *, is_given: bool) -> SourceFile | Problem:
    head = archive.head(path)
    name = options.format or _format(path, head)
    if name == "lean":
        return lean.source_file(path) or Problem(str(path), "not in Lean's folder layout")
    if name == "dbn":
        header = dbn.peeked(head)
        if header is None:
            return Problem(str(path), "is no Databento Binary Encoding")
        reason = dbn.skipped(header)
        return Problem(str(path), reason, ignored=True) if reason else dbn.source_file(path, head, header)
    if options.format is None and path.suffix.lower() in WORKBOOKS:
        return Problem(str(path), SAVE_AS_CSV, ignored=not is_given)
    if name is None:
        return Problem(str(path), "no format of ours by its first bytes; give --format", ignored=not is_given)
    known = named(path)
    return SourceFile(
        path=path,
        format=name,
        interval=options.interval or known.interval,
        symbol=options.symbol or known.symbol,
        price_type=options.price_type or known.price_type,
    )


def _format(path: Path, head: bytes) -> str | None:
    if head.startswith(archive.PARQUET):
        return "parquet"
    if head.startswith(archive.DBN) and dbn.peeked(head) is not None:
        return "dbn"
    if head.startswith((archive.ZIP, archive.EMPTY_ZIP)):
        return "lean" if lean.source_file(path) else "csv"
    if lean.source_file(path) is not None:
        return "lean"  # a damaged zip of that layout: its reader says what is wrong
    if not _suffixes(path) & set(DATA_SUFFIXES) or (b"\0" in head and not head.startswith(UTF16)):
        return None  # text in UTF-16 is text: its reader says what is wrong
    return "ndjson" if _suffixes(path) & set(ndjson.SUFFIXES) else "csv"


def _suffixes(path: Path) -> set[str]:
    return {suffix.lower() for suffix in path.suffixes}


def no_data(path: Path) -> str | None:
    """Why a file found in a folder is no market data; None when it may be some."""
    for folder, what in OTHER_FOLDERS.items():
        if folder in path.parts[:-1]:
            return what
    if path.stem.lower().startswith(OTHER_NAMES) or path.parent.name.lower().startswith(OTHER_NAMES):
        return "about the data"
    if path.suffix.lower() in WORKBOOKS:
        return SAVE_AS_CSV
    return None if _suffixes(path) & set(DATA_SUFFIXES) else f"no data file by its name ({path.suffix or 'no suffix'})"


def _apart(files: Sequence[SourceFile]) -> list[SourceFile]:
    places: dict[_Name, set[_Place]] = {}
    for file in files:
        for name in _names(file):
            places.setdefault(name, set()).add((file.market, file.security))
    shared = {name: found for name, found in places.items() if len(found) > 1}
    # A file that lists its symbols takes part in its whole market's name, so that none of them is split in two.
    markets = {file.market for file in files if file.symbols and not shared.keys().isdisjoint(_names(file))}
    return [replace(file, qualifier=_qualifier(file, shared, markets)) for file in files]


def _names(file: SourceFile) -> list[_Name]:
    symbols = file.symbols or ((file.symbol,) if file.symbol else ())
    return [(symbol, file.security in CONTRACTS) for symbol in symbols]


def _qualifier(file: SourceFile, shared: Mapping[_Name, set[_Place]], markets: set[str | None]) -> str:
    if file.market is None:
        return ""
    if file.symbols:
        return f"@{file.market.upper()}" if file.market in markets else ""
    places = {place for name in _names(file) for place in shared.get(name, ())}
    kinds = {security for market, security in places if market == file.market}
    parts = [file.market] if len({market for market, _ in places}) > 1 else []
    parts += [file.security] if len(kinds) > 1 and file.security else []
    return "@" + ".".join(part.upper() for part in parts) if parts else ""


def _may_hold(file: SourceFile, options: ReadOptions) -> bool:
    made = {"ticks": {"last"}, "quotes": {"bid", "ask", "mid"}}.get(file.kind or "", {file.price_type})
    if options.price_types and None not in made and made.isdisjoint(options.price_types):
        return False
    if not options.symbols or file.symbol is None or file.format != "lean":
        return True
    roots = {symbol.split(".")[0].split("@")[0] for symbol in options.symbols}
    return options.wants(file.symbol + file.qualifier) or (file.security in CONTRACTS and file.symbol in roots)
