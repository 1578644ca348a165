"""Find the data files in folders, identify their formats, and keep namesakes of different markets apart.

1. `list_files` lists files in the order of their paths, hidden ones left out.
2. `identify_file` asks the registered formats, then describes the file by its name, place and first bytes.
3. `qualify_namesakes` gives the same symbol of two markets two names (`EURUSD@FXCM`, `EURUSD@OANDA`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from engine.errors import SourceError
from engine.sources import archive
from engine.sources.batch import Problem, SourceFile
from engine.sources.formats.format import format_named, formats, has_suffix, sniff_format
from engine.sources.formats.registry import data_suffixes
from engine.sources.options import ReadOptions
from engine.sources.vendors.lean_layout import CONTRACTS

WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
SAVE_AS_CSV = "a spreadsheet: save its sheet as CSV (UTF-8)"
OTHER_NAMES = ("readme", "license", "licence", "notice", "changelog")
_Name = tuple[str, bool]  # a symbol, and whether it is a root of contracts
_Place = tuple[str | None, str | None]  # a market, and a kind of instrument


def scan(paths: Sequence[Path | str], options: ReadOptions | None = None) -> tuple[list[SourceFile], list[Problem]]:
    """Find data files (sorted, qualified), and problems: unreadable, and as `ignored` non-data and unrequested files.

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
    for path, is_given in sorted(list_files(paths).items()):
        identified = identify_file(path, options, is_given=is_given)
        if isinstance(identified, SourceFile):
            files.append(identified)
        else:
            problems.append(identified)
    selected = []
    for file in qualify_namesakes(files):
        if may_hold_requested(file, options):
            selected.append(file)
        else:
            problems.append(Problem(str(file.path), "not asked for", ignored=True))
    return selected, sorted(problems, key=lambda problem: problem.path)


def list_files(paths: Iterable[Path | str]) -> dict[Path, bool]:
    """File -> True if passed itself (it may not exist), False if only found in a passed folder; each once."""
    listed: dict[Path, bool] = {}
    for path in map(Path, paths):
        for file in walk_files(path) if path.is_dir() else (path,):
            listed[file] = listed.get(file, False) or file == path
    return listed


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield files of a folder and its subfolders by name; entries beginning with `.` and linked folders skipped."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            # A link to a folder above would never end.
            if not entry.is_symlink():
                yield from walk_files(entry)
        else:
            yield entry


def identify_file(path: Path, options: ReadOptions, *, is_given: bool) -> SourceFile | Problem:
    """The file as its format describes it, or a Problem (`ignored` if it is no data and not `is_given`)."""
    reason = None if is_given else non_data_reason(path)
    if reason is not None:
        return Problem(str(path), reason, ignored=True)
    if not path.exists():
        return Problem(str(path), "no such file or folder")
    try:
        head = archive.head(path)
        file_format = format_named(options.format) if options.format else sniff_format(head, path)
        if options.format is None and path.suffix.lower() in WORKBOOKS:
            return Problem(str(path), SAVE_AS_CSV, ignored=not is_given)
        if file_format is None:
            return Problem(str(path), "no format of ours by its first bytes; give --format", ignored=not is_given)
        return file_format.describe(path, head, options)
    except (SourceError, OSError) as error:
        reason = error.reason if isinstance(error, SourceError) else f"cannot be read: {error.strerror or error}"
        return Problem(str(path), reason)


def non_data_reason(path: Path) -> str | None:
    """Reason why a path names no market data (readme, workbook, other suffix), None if it may; nothing is opened."""
    for one in formats():
        for folder, content in one.other_folders.items():
            if folder in path.parts[:-1]:
                return content
    if path.stem.lower().startswith(OTHER_NAMES) or path.parent.name.lower().startswith(OTHER_NAMES):
        return "about the data"
    if path.suffix.lower() in WORKBOOKS:
        return SAVE_AS_CSV
    return None if has_suffix(path, data_suffixes()) else f"no data file by its name ({path.suffix or 'no suffix'})"


def qualify_namesakes(files: Sequence[SourceFile]) -> list[SourceFile]:
    """All files; `qualifier` tells apart files of one symbol by market, kind or both (`@MARKET.KIND`); else empty."""
    places: dict[_Name, set[_Place]] = {}
    for file in files:
        for name in names_of_file(file):
            places.setdefault(name, set()).add((file.market, file.security))
    shared = {name: there for name, there in places.items() if len(there) > 1}
    # A file that lists its symbols takes part in its whole market's name, so that none of them is split in two.
    markets = {file.market for file in files if file.symbols and not shared.keys().isdisjoint(names_of_file(file))}
    return [replace(file, qualifier=market_qualifier(file, shared, markets)) for file in files]


def names_of_file(file: SourceFile) -> list[_Name]:
    """Pairs (symbol, is root of contracts) of a file's listed symbols, else of its one symbol, else empty."""
    symbols = file.symbols or ((file.symbol,) if file.symbol else ())
    return [(symbol, file.security in CONTRACTS) for symbol in symbols]


def market_qualifier(file: SourceFile, shared: Mapping[_Name, set[_Place]], markets: set[str | None]) -> str:
    """`@MARKET`, `@SECURITY` or both, as little as separates shared symbols, else empty; for lists by `markets`."""
    if file.market is None:
        return ""
    if file.symbols:
        return f"@{file.market.upper()}" if file.market in markets else ""
    places = {place for name in names_of_file(file) for place in shared.get(name, ())}
    kinds = {security for market, security in places if market == file.market}
    parts = [file.market] if len({market for market, _ in places}) > 1 else []
    parts += [file.security] if len(kinds) > 1 and file.security else []
    return "@" + ".".join(part.upper() for part in parts) if parts else ""


def may_hold_requested(file: SourceFile, options: ReadOptions) -> bool:
    """False only if kind or side rules out the price types, or the path (where it decides) the symbols."""
    price_types = {"ticks": {"last"}, "quotes": {"bid", "ask", "mid"}}.get(file.kind or "", {file.price_type})
    if options.price_types and None not in price_types and price_types.isdisjoint(options.price_types):
        return False
    if not options.symbols or file.symbol is None or not format_named(file.format).path_states_symbol:
        return True
    roots = {symbol.split(".")[0].split("@")[0] for symbol in options.symbols}
    return options.selects(file.symbol + file.qualifier) or (file.security in CONTRACTS and file.symbol in roots)
