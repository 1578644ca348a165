"""A folder for people: written beside, with checksums, and put in place in one step, also over a former one."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import ExportError
from engine.export.delta_table import LOG
from engine.publish import fsync, fsync_tree, make_durable_folders, remove_if_exists

SUMS = "SHA256SUMS"
AT_FDCWD = -100
RENAME_EXCHANGE = 2


@contextmanager
def replacing(output: Path, *, over_former: bool = True) -> Iterator[Path]:
    """Give a folder beside `output` to write files to; at the end it becomes `output`.

    Parameters
    ----------
    output : Path
        New, empty, or what this wrote before, with nothing added to it.
    over_former : bool
        Whether what this wrote before may go.

    Yields
    ------
    Path
        An empty folder. `SHA256SUMS` is added when the body ends, for `sha256sum -c` in the folder; when it fails, the
        folder is removed, and `output` is what it was.

    Raises
    ------
    ExportError
        `output` is something else.
    OSError
        The disk is full, or the place is not writable.
    """
    output = output.absolute()
    _check(output, over_former=over_former)
    make_durable_folders(output.parent)
    staged = output.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        staged.mkdir()
        yield staged
        _write_sums(staged)
        fsync_tree(staged)
        _check(output, over_former=over_former)
        _put(staged, output)
        fsync(output.parent)
    finally:
        # The former folder, after an exchange.
        remove_if_exists(staged)


def _check(output: Path, *, over_former: bool) -> None:
    around = next((folder for folder in output.resolve().parents if (folder / "exports" / LOG).is_dir()), None)
    if around is not None:
        raise ExportError(
            f"{output}: lies in the export {around}, whose readers would take it for a part; valid: elsewhere"
        )
    if not output.exists() and not output.is_symlink():
        return
    if not output.is_dir() or output.is_symlink():
        raise ExportError(f"{output}: is no folder; valid: a folder that is new or empty")
    strange = _files(output) - (_listed(output) if over_former else set())
    if strange:
        shown = ", ".join(sorted(strange)[:3])
        raise ExportError(
            f"{output}: holds {shown}; valid: a folder that is new or empty"
            + (", or a former export with nothing added" if over_former else "")
        )


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


def _listed(folder: Path) -> set[str]:
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return set()
    return {SUMS, *(line.partition("  ")[2] for line in lines)}


def _write_sums(folder: Path) -> None:
    lines = []
    for name in sorted(_files(folder)):
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _put(staged: Path, output: Path) -> None:
    if not output.exists() or not any(output.iterdir()):
        staged.replace(output)
    elif not _exchanged(staged, output):
        former = output.with_name(f".{uuid.uuid4().hex}.tmp")
        output.rename(former)
        staged.rename(output)
        former.rename(staged)


def _exchanged(one: Path, other: Path) -> bool:
    # Linux swaps two names in one step; elsewhere there is an instant without the folder.
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(code, os.strerror(code), str(other))
