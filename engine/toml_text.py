"""TOML files that people write, read without surprises."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path
from typing import Any

DEEPEST = 200  # dotted keys: their parser takes time with the square of the depth
_DEEP = re.compile(rf"(?:[\w\"'-]+\s*\.\s*){{{DEEPEST}}}")


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of TOML text; TOMLDecodeError, a ValueError, also for text that is nested too deeply.

    Raises
    ------
    TOMLDecodeError
        The text is not TOML.
    """
    if _DEEP.search(text):
        raise tomllib.TOMLDecodeError("nested too deeply")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise tomllib.TOMLDecodeError("nested too deeply") from error


def read_regular_text(path: Path) -> str:
    """Text of a regular file in UTF-8; OSError for a pipe, device or folder, which is never opened; else ValueError.

    Raises
    ------
    OSError
        The file cannot be read, or is not a regular one.
    ValueError
        It is not UTF-8.
    """
    return read_regular_bytes(path).decode("utf-8").replace("\r\n", "\n")


def read_regular_bytes(path: Path) -> bytes:
    """Bytes of a regular file; OSError for a pipe, device or folder, which is never opened.

    Raises
    ------
    OSError
        The file cannot be read, or is not a regular one.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")
    return path.read_bytes()
