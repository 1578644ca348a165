"""More statements hostile to `engine.sql`, for a process of its own only: they crash, fill or stall an engine in this one.

Placeholders are those of `hostile_statements`. Each says what must come of it.
"""

# ruff: noqa: S608 - statements are the point

from __future__ import annotations

from typing import NamedTuple

ERROR = "an error"
EITHER = "an answer, or an error: which of both depends on the version of DuckDB"


class Attack(NamedTuple):
    """A statement, and what comes of it: `ERROR`, `EITHER`, or the value of its first cell."""

    statement: str
    outcome: object


def _deep(opening: str, closing: str, levels: int, core: str = "") -> str:
    return f"(repeat('{opening}', {levels}) || '{core}' || repeat('{closing}', {levels}))"


FILES = (
    "read_text('{canary}')", "read_blob('{canary}')", "read_csv('{canary}')", "sniff_csv('{canary}')",
    "read_parquet('{canary_parquet}')", "parquet_metadata('{stray}')", "glob('{export}/*')", "read_json('{canary}')",
)  # fmt: skip
# Ways to hide a function of the engine in a statement that reads a table.
HIDDEN = (
    "SELECT symbol FROM bars UNION ALL SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {function}",
    "SELECT count(*) FROM bars EXCEPT SELECT count(*) FROM {function}",
    "WITH hidden AS MATERIALIZED (SELECT * FROM {function}) SELECT * FROM bars, hidden",
    "SELECT * FROM bars, LATERAL (SELECT * FROM {function} LIMIT 1)",
    "SELECT * FROM bars WHERE EXISTS (SELECT 1 FROM {function})",
    "SELECT (SELECT count(*) FROM {function}) FROM bars",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r, (SELECT count(*) FROM {function}) WHERE n < 3) FROM r",
    "SELECT * FROM (VALUES (1)) t(a) POSITIONAL JOIN {function}",
)  # fmt: skip
OBJECT = '{"a":'
UNIONS = [Attack(one.replace("{function}", function), ERROR) for one in HIDDEN for function in FILES]

DEEP = [
    *(Attack(f"SELECT {_deep('[', ']', levels)}::JSON::VARIANT", EITHER) for levels in (100_000, 400_000)),
    Attack(f"SELECT json_contains({_deep('[', ']', 300_000)}, '1')", ERROR),
    Attack(f"SELECT json_contains({_deep('[', ']', 200_000)}, {_deep('[', ']', 200_000)})", ERROR),
    Attack(f"SELECT json_structure({_deep('[', ']', 100_000)})", EITHER),
    Attack(f"SELECT json_transform({_deep('[', ']', 50_000)}, '[JSON]')", EITHER),
    Attack(f"SELECT json_keys({_deep(OBJECT, '}', 50_000, '1')})", EITHER),
    Attack(f"SELECT length(json_merge_patch({_deep(OBJECT, '}', 30_000, '1')}, '{{}}'))", EITHER),
    Attack(f"SELECT json_valid({_deep('[', ']', 1_000)})", True),
    Attack("SELECT " + "(" * 5_000 + "1" + ")" * 5_000, EITHER),
    Attack("SELECT " + "NOT " * 20_000 + "true", EITHER),
    Attack("SELECT " + "1 + " * 20_000 + "1", EITHER),
    Attack("SELECT " + "CASE WHEN true THEN " * 2_000 + "1" + " END" * 2_000, EITHER),
    Attack("SELECT " + "[" * 3_000 + "1" + "]" * 3_000, EITHER),
    Attack("SELECT * FROM " + "(SELECT * FROM " * 400 + "bars" + ")" * 400, EITHER),
    Attack("WITH " + ", ".join(f"c{n} AS (SELECT * FROM {f'c{n - 1}' if n else 'range(2)'})" for n in range(300)) + " SELECT count(*) FROM c299", EITHER),
    Attack("SELECT regexp_matches(repeat('a', 30000), '(a*)*b')", False),
    Attack("SELECT regexp_matches('a', repeat('(', 2000) || 'a' || repeat(')', 2000))", EITHER),
]  # fmt: skip

HUGE = [
    Attack("SELECT range FROM range(10000000000)", ERROR),
    Attack("SELECT repeat('x', 4000000000)", ERROR),
    Attack("SELECT repeat('x', 9223372036854775807)", ERROR),
    Attack("SELECT list(range) FROM range(400000000)", ERROR),
    Attack("SELECT unnest(range(3000000000))", ERROR),
    Attack("SELECT string_agg(repeat('y', 1000000), '') FROM range(2000)", ERROR),
    Attack("SELECT a.range, b.range FROM range(100000) a, range(100000) b", ERROR),
    Attack("SELECT lpad('x', 2000000000, 'y')", ERROR),
    Attack("SELECT list_resize([1], 2000000000)", ERROR),
    Attack("SELECT array_agg(repeat(symbol, 100000)) FROM bars, range(100000)", ERROR),
    Attack("SELECT 170141183460469231731687303715884105727 + 1", ERROR),
    Attack("SELECT (2::HUGEINT ** 100)::HUGEINT", ERROR),
    Attack("SELECT DATE '5877641-06-25'", ERROR),
    Attack("SELECT " + ", ".join(f"{n} AS c{n}" for n in range(3_000)), 0),
    Attack("SELECT length(repeat('x', 10000000))", 10_000_000),
    Attack("SELECT count(*) FROM range(30000000)", 30_000_000),
]  # fmt: skip

# Each is stopped by its time limit, which the test sets to a second.
SLOW = [
    Attack("SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE hash(a.range) < hash(b.range)", ERROR),
    Attack("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r", ERROR),
    Attack(f"SELECT count(*) FROM json_tree({_deep('[1,', ']', 100_000, '1')})", ERROR),
    Attack("SELECT sum(levenshtein(repeat('a', 20000), repeat('b', 20000 + range))) FROM range(1000)", ERROR),
]

TEXTS = [
    Attack("SELECT '\x00'", EITHER),
    Attack("SELECT 1 \x00 FROM bars", EITHER),
    Attack("SELECT '\x1b[2J\x07'", "\x1b[2J\x07"),
    Attack("SELECT \u202e1", ERROR),
    Attack("SELECT '\U0010ffff'", "\U0010ffff"),
    Attack("\ufeffSELECT 1", EITHER),
    Attack("SELECT 1;;;", 1),
    Attack("SELECT 1; DROP VIEW bars", ERROR),
    Attack("/* SELECT */ SELECT 1 -- ; SELECT 2", 1),
    Attack("SELECT 'it''s' /* ; */", "it's"),
    Attack("SELECT $$;$$", ";"),
    Attack("-- nothing", ERROR),
    Attack('SELECT 1 AS "a\x07b"', 1),
    Attack("SELECT '" + "x" * 1_000_000 + "'", "x" * 1_000_000),
    Attack("SELECT 1" + " " * 1_000_000, 1),
    Attack('SELECT * FROM "' + "t" * 100_000 + '"', ERROR),
    Attack("SELECT $1", ERROR),
    Attack("SELECT ?", ERROR),
]  # fmt: skip

GROUPS = {"unions": UNIONS, "deep": DEEP, "huge": HUGE, "slow": SLOW, "texts": TEXTS}
