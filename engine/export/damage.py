"""Files of an export compared with the SHA-256 in their names, and the error that names file, fault and remedy.

Loads neither Polars nor Delta: the process that answers queries compares files, too.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from engine.errors import DamageError
from engine.publish import file_sha256
from engine.storage import ObjectPath

REMEDY = "`engine verify` lists what is damaged, `engine repair` restores it or says what is lost"
FILE_NAME = re.compile(r"(\d+)-([0-9a-f]{64})\.parquet")
# Files of a table that together are larger are compared by size alone when they are read: a question about one symbol
# would have to read all of them.
HASHED_BYTES = 1 << 27
# Libraries give the system's refusals as text: no permission, no space, read-only, quota, a file that is too large.
REFUSED_BY_SYSTEM = re.compile(r"[Oo]s error (1|13|27|28|30|122)\b")

_intact: dict[str, tuple[int, int, int, int]] = {}


def damage_error(path: Path | str, fault: str) -> DamageError:
    """DamageError of a file of an export: the file, its fault, and what can be done."""
    return DamageError(path, fault, REMEDY)


def check_file(path: Path, shown: str = "") -> None:
    """Raise DamageError unless a file's bytes have the SHA-256 of its name; read them once per process and file state.

    Objects of a store are not compared, as that would be to fetch them whole: `engine verify` does it.

    Parameters
    ----------
    path : Path
        A file that an export wrote.
    shown : str
        What the message calls it; default its path.

    Raises
    ------
    DamageError
        It is gone, is no file, or its bytes are others.
    """
    if isinstance(path, ObjectPath):
        return
    try:
        found = os.stat(path)  # noqa: PTH116 - a third of the time of Path.stat
        state = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if _intact.get(str(path)) == state:
            return
        digest = file_sha256(path)
    except OSError as error:
        raise damage_error(shown or path, f"cannot be read ({error.strerror})") from error
    if not path.stem.endswith(digest):
        raise damage_error(shown or path, "its SHA-256 is not that of its name")
    _intact[str(path)] = state


def check_files(files: Iterable[tuple[Path, int]]) -> None:
    """Raise DamageError for a damaged one of a table's files: by SHA-256 up to `HASHED_BYTES` together, else by size.

    Parameters
    ----------
    files : iterable of (path, bytes by the log)
    """
    listed = list(files)
    if sum(size for _, size in listed) <= HASHED_BYTES:
        for path, _ in listed:
            check_file(path)
        return
    check_sizes(listed)


def check_sizes(files: Iterable[tuple[Path, int]]) -> None:
    """Raise DamageError for a file that is gone or has another size than the log says."""
    for path, size in files:
        try:
            found = os.stat(path).st_size  # noqa: PTH116 - a third of the time of Path.stat
        except OSError as error:
            raise damage_error(path, f"cannot be read ({error.strerror})") from error
        if found != size:
            raise damage_error(path, f"has {found} bytes, the log says {size}")


def read_verified(path: Path, shown: str = "") -> bytes:
    """Bytes of a file whose name holds its SHA-256; DamageError when it is unreadable or the hash differs.

    Parameters
    ----------
    path : Path
    shown : str
        What the message calls it; default its path.

    Raises
    ------
    DamageError
        It is gone, or its bytes are others.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise damage_error(shown or path, f"cannot be read ({error.strerror})") from error
    if not path.stem.endswith(hashlib.sha256(content).hexdigest()):
        raise damage_error(shown or path, "its SHA-256 is not that of its name")
    return content


def is_refused(error: Exception) -> bool:
    """Whether the system refused something (no space, no permission, a read-only disk), which is no damage."""
    is_damage = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError | FileExistsError)
    return bool(REFUSED_BY_SYSTEM.search(str(error))) or (
        isinstance(error, OSError) and error.errno is not None and not is_damage
    )
