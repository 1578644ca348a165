"""Text that somebody types or pipes in, cut into statements at the semicolons that end one."""

from __future__ import annotations


def split_statements(text: str) -> tuple[list[str], str]:
    """Statements ended by a semicolon outside quotes and comments (blank ones left out), and the unfinished rest.

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
    import duckdb  # noqa: PLC0415 - the prompt shows itself before the database is loaded

    end = len(text.encode())
    # A semicolon that does not end the whole text lies in a quote or comment that is still open.
    data = f"{text}\n;".encode()
    tokens = duckdb.tokenize(data.decode())
    is_open = not tokens or tokens[-1][0] != end + 1
    statements: list[str] = []
    begin, has_words = 0, False
    for at, kind in tokens:
        if at > end:
            break
        if kind == duckdb.token_type.operator and data[at : at + 1] == b";":
            statements += [data[begin:at].decode().strip()] * has_words
            begin, has_words = at + 1, False
        elif kind != duckdb.token_type.comment:
            has_words = True
    return statements, data[begin:end].decode().strip() if has_words or is_open else ""
