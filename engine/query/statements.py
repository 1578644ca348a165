"""Text that somebody types or pipes in, cut into statements at the semicolons that end one."""

from __future__ import annotations

import re

# A semicolon in text, in a name, in dollar quotes or in a comment ends nothing.
_TOKEN = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    | (?P<remark>--[^\n]*|/\*.*?\*/)
    | (?P<open>['"]|/\*|\$\w*\$)
    | (?P<end>;)
    | \w+
    | .""",
    re.DOTALL | re.VERBOSE,
)


def split(text: str) -> tuple[list[str], str]:
    """Cut text into the statements that are complete, and the rest.

    Parameters
    ----------
    text : str
        Statements, each ended by a semicolon, perhaps over several lines.

    Returns
    -------
    list of str
        The complete ones, without their semicolons; what is empty or holds remarks alone is left out.
    str
        What stands behind the last semicolon; empty when it is blank or remarks alone.
    """
    statements: list[str] = []
    begin = 0
    has_words = False
    for token in _TOKEN.finditer(text):
        if token["open"]:
            has_words = True
            break
        if token["end"]:
            statements += [text[begin : token.start()].strip()] * has_words
            begin, has_words = token.end(), False
        elif not token["remark"] and not token[0].isspace():
            has_words = True
    return statements, text[begin:].strip() if has_words else ""
