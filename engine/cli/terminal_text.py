"""Text from data, files and libraries made safe for a terminal."""

from __future__ import annotations

import sys


def escape_unprintable(text: str, *, keep_breaks: bool = True) -> str:
    """Text with unprintable characters as Python escapes; line breaks stay if `keep_breaks`."""
    kept = "\n" if keep_breaks else ""
    return "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in text)


def write_error(text: str) -> None:
    """Write text to standard error with unprintable characters escaped; no line break is added."""
    sys.stderr.write(escape_unprintable(text))
