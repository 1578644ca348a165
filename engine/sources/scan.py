"""Find the data files in folders, identify their formats, and keep namesakes of different markets apart.

1. `list_files` lists files in the order of their paths, hidden ones left out.
2. `identify_file` asks the registered formats, then describes the file by its name, place and first bytes.
3. `qualify_namesakes` gives the same symbol of two markets two names (`EURUSD@FXCM`, `EURUSD@OANDA`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from engine.errors import ParameterError, SourceError
from engine.sources import archive
from engine.sources.batch import Problem, SourceFile
from engine.sources.encodings import encoding_of, no_text_reason
from engine.sources.file_names import parse_path, symbol_conflict
from engine.sources.formats.format import (
    OTHER_NAMES,
    OTHER_SUFFIXES,
    describe_file,
    format_named,
    formats,
    has_suffix,
    sniff_format,
)
from engine.sources.formats.registry import data_suffixes
from engine.sources.objects import copies_of, objects_below
from engine.sources.options import ReadOptions
from engine.sources.read import contained
from engine.sources.vendors.lean_layout import CONTRACTS
from engine.storage import ObjectPath

WORKBOOKS = (".xls", ".xlsb", ".ods", ".numbers")
SAVE_AS_CSV = "a spreadsheet: save its sheet as CSV (UTF-8)"
ABOUT_DATA = frozenset(  # names of JSON documents that services and tools lay beside their data
    ["metadata", "manifest", "condition", "symbology", "config", "package", "settings", "schema", "audit", "session"]
)
SIGNATURES = (  # first bytes, their place, and what a file is that has them there
    (b"PARE", 0, "is encrypted Parquet; decrypt it first"),
    (b"FEA1", 0, "is Feather of version 1; write it as Parquet or as Feather of version 2"),
    (b"ORC", 0, "is ORC; write it as Parquet"),
    (b"Obj\x01", 0, "is Avro; write it as Parquet"),
    (b"\x89HDF\r\n", 0, "is HDF5; write its table as Parquet"),
    (b"SQLite format 3\0", 0, "is an SQLite database; write its table as Parquet or CSV"),
    (b"\x93NUMPY", 0, "is a NumPy array; write it as Parquet"),
    (b"\xd0\xcf\x11\xe0", 0, "is an Excel workbook of the old kind (.xls); save its sheet as CSV (UTF-8)"),
    (b"%PDF", 0, "is a PDF document"),
    (b"7z\xbc\xaf\x27\x1c", 0, "is a 7-Zip archive; unpack it first"),
    (b"Rar!", 0, "is a RAR archive; unpack it first"),
    (b"ustar", 257, "is a tar archive; unpack it first"),
    (b"DBZ", 0, "is Databento's former DBZ; convert it to DBN"),
)
_Name = tuple[str, bool]  # a symbol, and whether it is a root of contracts
_Place = tuple[str | None, str | None]  # a market, and a kind of instrument


def scan(paths: Sequence[Path | str], options: ReadOptions | None = None) -> tuple[list[SourceFile], list[Problem]]:
    """(data files by path, qualified; problems, some `ignored`); ParameterError if `symbol` merges several symbols.

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

    Raises
    ------
    ParameterError
        `symbol` is given for files whose names state several symbols.
    """
    options = options or ReadOptions()
    files: list[SourceFile] = []
    problems: list[Problem] = []
    listed, unlisted = list_files(paths)
    problems += unlisted
    for path, is_given in sorted(listed.items()):
        identified = identify_file(path, options, is_given=is_given)
        if isinstance(identified, SourceFile):
            files.append(identified)
        else:
            problems.append(identified)
    conflict = symbol_conflict(options.symbol, [(file.path, symbol_in_name(file, options)) for file in files])
    if conflict is not None:
        raise ParameterError(conflict)
    selected = []
    for file in qualify_namesakes(files):
        if may_hold_requested(file, options):
            selected.append(file)
        else:
            problems.append(Problem(str(file.path), "not asked for", ignored=True))
    return selected, sorted(problems, key=lambda problem: problem.path)


def symbol_in_name(file: SourceFile, options: ReadOptions) -> str | None:
    """Symbol that a file's path states, whatever `symbol` says; None where it tells none, or is a format's own."""
    return None if format_named(file.format).path_states_symbol else parse_path(file.path, options).symbol


def list_files(paths: Iterable[Path | str]) -> tuple[dict[Path, bool], list[Problem]]:
    """(file -> True if passed itself, False if found in a passed folder; problems of folders and linked folders)."""
    listed: dict[Path, bool] = {}
    problems: list[Problem] = []
    for path in (Path(one) if isinstance(one, str) else one for one in paths):
        if isinstance(path, ObjectPath):
            found, unlisted = copy_objects(path)
            problems += unlisted
        elif path.is_dir():
            found, unlisted = walk_files(path)
            problems += unlisted
        else:
            found = [path]
        for file in found:
            listed[file] = listed.get(file, False) or str(file) == str(path)
    return listed, problems


def copy_objects(place: ObjectPath) -> tuple[list[Path], list[Problem]]:
    """(copies of the object of this name, or of data objects below it; problems: what is no data, or cannot be listed)."""
    try:
        found = objects_below(place)
    except SourceError as error:
        return [], [Problem(error.path, error.reason)]
    reasons = {path: non_data_reason(path) for path, _ in found if path != place}
    problems = [Problem(str(path), reason, ignored=True) for path, reason in reasons.items() if reason is not None]
    return [*copies_of([one for one in found if reasons.get(one[0]) is None])], problems


def walk_files(folder: Path) -> tuple[list[Path], list[Problem]]:
    """(unsorted files of a folder and its subfolders, problems); names with a leading `.` and linked folders left out.

    A folder that cannot be listed is a problem; how deep folders are nested is of no consequence.
    """
    files: list[Path] = []
    problems: list[Problem] = []
    left = [folder]
    while left:
        current = left.pop()
        try:
            with os.scandir(current) as entries:
                inside = [
                    (
                        path := Path(entry.path),
                        path.is_dir() if entry.is_symlink() else entry.is_dir(),
                        entry.is_symlink(),
                    )
                    for entry in entries
                ]
        except OSError as error:
            problems.append(Problem(shown_path(current), f"cannot be listed: {error.strerror or error}"))
            continue
        for path, is_folder, is_link in inside:
            if path.name.startswith("."):
                continue
            if not is_folder:
                files.append(path)
            elif is_link:  # one to a folder above would never end
                problems.append(Problem(shown_path(path), "a link to a folder: pass the folder itself", ignored=True))
            else:
                left.append(path)
    return files, problems


def shown_path(path: Path) -> str:
    """A path as text; bytes of it that are not UTF-8 are written out in hexadecimal."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def identify_file(path: Path, options: ReadOptions, *, is_given: bool) -> SourceFile | Problem:
    """The file as its format describes it, or a Problem (`ignored` if not given itself and its name is of no data)."""
    reason = None if is_given else non_data_reason(path)
    if reason is not None:
        return Problem(shown_path(path), reason, ignored=True)
    if shown_path(path) != str(path):
        return Problem(shown_path(path), "its path is not UTF-8; rename it")
    try:
        return contained(path, lambda: sniff_file(path, options))
    except SourceError as error:
        return Problem(str(path), error.reason)


def sniff_file(path: Path, options: ReadOptions) -> SourceFile | Problem:
    """The file as its stated or sniffed format describes it; Problem for a spreadsheet not read; SourceError else.

    Raises
    ------
    SourceError
        It is not a regular file, cannot be unpacked, or its first bytes are of no format.
    """
    head = archive.head(path)
    check_packed_once(path, head)
    file_format = format_named(options.format) if options.format else sniff_format(head, path)
    if options.format is None and path.suffix.lower() in WORKBOOKS:
        return Problem(str(path), SAVE_AS_CSV)
    if file_format is None:
        raise SourceError(path, unknown_reason(path, head))
    return describe_file(file_format, path, head, options)


def check_packed_once(path: Path, head: bytes) -> None:
    """SourceError if the first unpacked bytes of a packed file are packed themselves.

    Raises
    ------
    SourceError
        It is packed twice.
    """
    inner = archive.packing_of(head) or ("zip" if archive.is_zip(head) else None)
    if inner is None:
        return
    with path.open("rb") as file:
        outer = archive.packing_of(file.read(archive.MAGIC_BYTES))
    if outer is not None:
        raise SourceError(path, f"is packed twice ({inner} in {outer}); unpack it once")


def unknown_reason(path: Path, head: bytes) -> str:
    """Text why first (unpacked) bytes are of no format: a known other kind of file, damaged, or binary."""
    for magic, place, what in SIGNATURES:
        if head[place:].startswith(magic):
            return what
    for one in formats():
        if one.magic and has_suffix(path, one.suffixes):
            return (
                f"begins with the bytes {head[:8].hex(' ') or '(none)'}, not with the mark of {one.name}: "
                "damaged, or another format (--format)"
            )
    if not head:
        return "is empty"
    reason = no_text_reason(head) if encoding_of(head) is None else "no format of ours by its first bytes"
    return f"{reason}; give --format"


def non_data_reason(path: Path) -> str | None:
    """Reason why a path names no market data (readme, workbook, other suffix), None if it may; nothing is opened."""
    for one in formats():
        for folder, content in one.other_folders.items():
            if folder in path.parts[:-1]:
                return content
    is_document = path.suffix.lower() == ".json" and path.stem.lower() in ABOUT_DATA
    if is_document or path.stem.lower().startswith(OTHER_NAMES) or path.parent.name.lower().startswith(OTHER_NAMES):
        return "about the data"
    if path.suffix.lower() in OTHER_SUFFIXES:  # `BTCUSDT-1m-2024-01.zip.CHECKSUM`
        return f"no data file by its name ({path.suffix})"
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
    """`@MARKET`, `@SECURITY`, both or "", as little as parts shared symbols ("" if no market); lists: by `markets`."""
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
