"""Text that somebody types or pipes in, cut into statements at the semicolons that end one."""

from __future__ import annotations

import re

# A semicolon in text, in a name, in dollar quotes or in a comment ends nothing.
_TOKEN = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    | (?P<comment>--[^\n]*|/\*.*?\*/)
    | (?P<unclosed>['"]|/\*|\$\w*\$)
    | (?P<semicolon>;)
    | \w+
    | .""",
    re.DOTALL | re.VERBOSE,
)


def split_statements(text: str) -> tuple[list[str], str]:
    """Split SQL at semicolons outside quotes and comments; return complete statements and the unfinished rest.

    Parameters
    ----------
    text : str
        Statements, each ended by a semicolon, perhaps over several lines.

    Returns
    -------
    list of str
        The complete ones, without their semicolons; what is empty or holds comments alone is left out.
    str
        What stands behind the last semicolon; empty when it is blank or comments alone.
    """
    statements: list[str] = []
    begin = 0
    has_words = False
    for token in _TOKEN.finditer(text):
        if token["unclosed"]:
            has_words = True
            break
        if token["semicolon"]:
            statements += [text[begin : token.start()].strip()] * has_words
            begin, has_words = token.end(), False
        elif not token["comment"] and not token[0].isspace():
            has_words = True
    return statements, text[begin:].strip() if has_words else ""
