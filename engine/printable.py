"""Text from data, files and libraries made safe to print."""

from __future__ import annotations


def escape_unprintable(text: str, *, keep_breaks: bool = True) -> str:
    """Text with unprintable characters as Python escapes; line breaks stay if `keep_breaks`."""
    if text.isprintable():
        return text
    kept = "\n" if keep_breaks else ""
    return "".join(c if c.isprintable() or c in kept else repr(c)[1:-1] for c in text)
