"""A folder of files, published in one step with checksums, also over an earlier one."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.arguments import path_of
from engine.errors import ExportError
from engine.export.delta_table import LOG
from engine.export.formats.output_formats import export_errors
from engine.publish import fsync, fsync_tree, make_durable_folders, staging_folder

SUMS = "SHA256SUMS"
AT_FDCWD = -100
RENAME_EXCHANGE = 2


@contextmanager
def publish_folder(output: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary folder that replaces `output`, with `SHA256SUMS`, on success; ExportError for foreign content.

    Parameters
    ----------
    output : Path
        New, empty, or what this wrote before, with nothing added to it.
    replace : bool
        Whether what this wrote before may be replaced.

    Yields
    ------
    Path
        An empty folder. `SHA256SUMS` is added when the body ends, for `sha256sum -c` in the folder; when it fails, the
        folder is removed, and `output` is what it was.

    Raises
    ------
    ExportError
        `output` is something else, the disk is full, or the place is not writable.
    """
    output = path_of("output", output).absolute()
    with export_errors(output):
        check_output(output, replace=replace)
        make_durable_folders(output.parent)
        with staging_folder(output) as folder:
            staged = folder / output.name
            staged.mkdir()
            yield staged
            write_sums(staged)
            fsync_tree(staged)
            check_output(output, replace=replace)
            # After an exchange the folder that was replaced is there, and is removed with the staging folder.
            move_into_place(staged, output)
            fsync(output.parent)


def check_output(output: Path, *, replace: bool) -> None:
    """ExportError unless `output` is outside exports and new, empty or (if `replace`) holds only files it summed."""
    export = next((folder for folder in output.resolve().parents if (folder / "exports" / LOG).is_dir()), None)
    if export is not None:
        raise ExportError(
            f"{output}: lies in the export {export}, whose readers would take it for a part; valid: elsewhere"
        )
    if not output.exists() and not output.is_symlink():
        return
    if not output.is_dir() or output.is_symlink():
        raise ExportError(f"{output}: is no folder; valid: a folder that is new or empty")
    listed: set[str] = set()
    if replace and (output / SUMS).exists():
        lines = (output / SUMS).read_text(encoding="utf-8").splitlines()
        listed = {SUMS, *(line.partition("  ")[2] for line in lines)}
    unlisted = file_names(output) - listed
    if unlisted:
        raise ExportError(
            f"{output}: holds {', '.join(sorted(unlisted)[:3])}; valid: a folder that is new or empty"
            + (", or a former export with nothing added" if replace else "")
        )


def file_names(folder: Path) -> set[str]:
    """Relative paths of all files and links below a folder; folders themselves are not among them."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` of all files below a folder into it, sorted by name, as `sha256sum -c` reads it."""
    lines = []
    for name in sorted(file_names(folder)):
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def move_into_place(staged: Path, output: Path) -> None:
    """Rename `staged` to `output`; a non-empty `output` is exchanged and ends up at the path of `staged`."""
    if not output.exists() or not any(output.iterdir()):
        staged.replace(output)
    elif not exchange_names(staged, output):
        replaced = staged.with_name(f"{staged.name}.former")
        output.rename(replaced)
        staged.rename(output)
        replaced.rename(staged)


def exchange_names(one: Path, other: Path) -> bool:
    """Swap two folders' names atomically (Linux renameat2); return False where unsupported, else OSError."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(code, os.strerror(code), str(other))
