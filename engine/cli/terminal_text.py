"""Standard error, made safe for a terminal."""

from __future__ import annotations

import sys

from engine.printable import escape_unprintable


def write_error(text: str) -> None:
    """Write text to standard error with unprintable characters escaped; no line break is added."""
    sys.stderr.write(escape_unprintable(text))
