"""Statements of a script: cut where DuckDB's own parser cuts them."""

from __future__ import annotations

import duckdb
import pytest
from engine.query.statements import split_statements

COMPLETE = [
    "select 1; select 2;",
    "select 1; /* a /* nested */ ; */ select 2;",
    "select 1 as a$b$c; select 2;",
    "select ';'; select $$;$$; select $t$ ; $t$; -- ;\n select 4;",
    'select E\'\\\';\'; select ";" from (select 1 as ";");',
    "select 'é;€'; select 'ü';",
]


@pytest.mark.parametrize("text", COMPLETE)
def test_split_statements_cuts_where_the_parser_does(text: str) -> None:
    found, rest = split_statements(text)
    assert rest == ""
    theirs = [duckdb.sql(one.query).fetchall() for one in duckdb.extract_statements(text)]
    assert [duckdb.sql(one).fetchall() for one in found] == theirs


@pytest.mark.parametrize(
    "unfinished", ["select 'open ;", 'select "open ;', "/* open ;", "select $$ open ;", "select 1"]
)
def test_split_statements_keeps_what_is_not_finished(unfinished: str) -> None:
    assert split_statements(f"select 1; {unfinished}") == (["select 1"], unfinished)


@pytest.mark.parametrize("blank", ["", "  \n", "-- said ;", "/* said ; */", ";;"])
def test_split_statements_of_blanks_and_comments_is_nothing(blank: str) -> None:
    assert split_statements(blank) == ([], "")
