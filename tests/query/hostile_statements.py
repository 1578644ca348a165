"""Statements that a sandbox must survive: each with what its walls do about it, and what `engine.sql` says.

Placeholders: `{canary}` a text file beside the export, `{canary_parquet}` the same as Parquet, `{stray}` a Parquet
file inside the export that no revision pins, `{pin}` a pinned file's own path, `{pinned}` its name in the sandbox,
`{link}` a link inside the export to the canary, `{export}` the export's folder, `{new}` a path where nothing is.
All of these but `{pin}` and `{pinned}` hold, or lead to, the word that must never be seen.
"""

from __future__ import annotations

from typing import NamedTuple

REFUSED = "refused"


class Hostile(NamedTuple):
    """A statement.

    `walls` is what happens when it runs in the sandbox itself, `door` when it is given to `engine.sql`: REFUSED,
    or why it does no harm.
    """

    statement: str
    walls: str = REFUSED
    door: str = REFUSED

    @staticmethod
    def forbids(outcome: str, told: str) -> bool:
        """Whether the outcome is another than was told."""
        # From 2.0.1 on DuckDB refuses some names that no file has before it looks for them.
        return told != NO_SUCH_NAME and (outcome == REFUSED) != (told == REFUSED)


def _all(*statements: str, walls: str = REFUSED, door: str = REFUSED) -> list[Hostile]:
    return [Hostile(statement, walls, door) for statement in statements]


READS = _all(
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_csv_auto('{canary}')",
    "SELECT * FROM sniff_csv('{canary}')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_text('{canary}')",
    "SELECT * FROM read_blob('{canary}')",
    "SELECT * FROM read_json('{canary}')",
    "SELECT * FROM read_json_objects_auto('{canary}')",
    "SELECT * FROM read_ndjson_objects('{canary}')",
    "SELECT * FROM read_parquet('{canary_parquet}')",
    "SELECT * FROM parquet_scan('{stray}')",
    "SELECT * FROM read_parquet('{pin}')",
    "SELECT * FROM parquet_metadata('{stray}')",
    "SELECT * FROM parquet_schema('{stray}')",
    "SELECT * FROM parquet_file_metadata('{stray}')",
    "SELECT * FROM parquet_kv_metadata('{stray}')",
    "SELECT * FROM '{canary}'",
    "SELECT * FROM '{canary_parquet}'",
    "SELECT * FROM '{stray}'",
    "SELECT * FROM '{link}'",
    "SELECT * FROM read_text('{link}')",
    "SELECT * FROM read_csv('canary.csv')",
    "SELECT * FROM read_csv('./canary.csv')",
    "SELECT * FROM read_csv('../*/canary.csv')",
    "SELECT * FROM 'canary.csv'",
    "SELECT * FROM read_text('file://{canary}')",
    "SELECT * FROM read_text('file:{canary}')",
    "SELECT * FROM read_text('local://{canary}')",
    "SELECT * FROM read_text('memory://canary')",
    "SELECT * FROM read_text('DUCKDB_INTERNAL_OBJECTSTORE://canary')",
    "SELECT * FROM read_text('/dev/stdin')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_text('/proc/self/cwd/canary.csv')",
    "SELECT * FROM read_text('~/canary.csv')",
    "SELECT * FROM read_parquet('pinned://../canary.parquet')",
    "SELECT * FROM read_parquet('pinned://{canary_parquet}')",
    "SELECT * FROM read_parquet('pinned://{stray}')",
    "SELECT * FROM read_parquet('pinned://bars/*')",
    "SELECT * FROM read_parquet('pinned://**')",
    "SELECT * FROM read_parquet('PINNED://{canary_parquet}')",
    "SELECT * FROM query('SELECT * FROM read_text(''{canary}'')')",
    "SELECT * FROM query_table('{canary}')",
    "WITH x AS (SELECT * FROM read_text('{canary}')) SELECT * FROM x",
    "SELECT (SELECT content FROM read_text('{canary}'))",
    "SELECT * FROM bars UNION ALL BY NAME SELECT * FROM read_csv('{canary}')",
    "DESCRIBE SELECT * FROM read_csv('{canary}')",
    "SUMMARIZE SELECT * FROM read_csv('{canary}')",
    "EXPLAIN ANALYZE SELECT * FROM read_csv('{canary}')",
    "SELECT * FROM read_csv('http://127.0.0.1:9/canary.csv')",
    "SELECT * FROM 'https://127.0.0.1:9/canary.parquet'",
    "SELECT * FROM read_parquet('s3://bucket/canary.parquet')",
    "SELECT * FROM read_parquet('gcs://bucket/canary.parquet')",
    "SELECT * FROM read_parquet('hf://datasets/x/canary.parquet')",
    "SELECT * FROM delta_scan('{export}')",
    "SELECT * FROM iceberg_scan('{export}')",
    "SELECT * FROM sqlite_scan('{canary}', 't')",
    "SELECT * FROM read_xlsx('{canary}')",
    "SELECT * FROM canary_frame",
    "SELECT * FROM canary_text",
    "SELECT getenv('ENGINE_CANARY')",
    "SELECT load_extension('httpfs')",
)

NO_SUCH_NAME = "no file has this name, so there are no rows"
NOWHERE = _all(
    "SELECT * FROM read_text('pinned://../canary.csv')",
    "SELECT * FROM read_text('pinned://../../../../../../etc/passwd')",
    "SELECT * FROM read_text('pinned:///etc/passwd')",
    "SELECT * FROM read_text('pinned://{canary}')",
    "SELECT * FROM read_text('pinned://{link}')",
    "SELECT * FROM read_text('{pinned}/../../../../canary.csv')",
    "SELECT * FROM read_blob('pinned://bars')",
    walls=NO_SUCH_NAME,
    door=NO_SUCH_NAME,
)

LISTINGS = [
    *_all(
        "SELECT * FROM glob('{export}/*')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM glob('*')",
        "SELECT * FROM read_blob('{export}/**')",
        "SELECT * FROM duckdb_extensions()",
    ),
    *(
        Hostile(statement, why, why)
        for statement, why in {
            "SELECT * FROM glob('pinned://*')": "a pattern matches no file",
            "SELECT * FROM glob('pinned://../*')": "a pattern matches no file",
            "SELECT size FROM read_blob('{pinned}')": "a pinned file is theirs to read",
            "SELECT name, value FROM duckdb_settings()": "no setting shows a path",
            "SELECT * FROM duckdb_secrets()": "there are none",
            "SELECT * FROM duckdb_databases()": "all are in memory",
            "SELECT * FROM duckdb_temporary_files()": "there are none",
            "SELECT * FROM duckdb_logs": "nothing is logged",
            "SELECT sql FROM duckdb_views()": "views name pinned files, never paths",
        }.items()
    ),
]

WRITES = _all(
    "COPY bars TO '{new}'",
    "COPY (SELECT 1) TO '{new}' (FORMAT csv)",
    "COPY (SELECT 1) TO '{new}' (FORMAT parquet)",
    "COPY (SELECT 1) TO '{new}' (FORMAT json)",
    "COPY (SELECT 1) TO '{new}' (FORMAT csv, USE_TMP_FILE false)",
    "COPY (SELECT 1 AS a, 2 AS b) TO '{new}' (FORMAT parquet, PARTITION_BY (a))",
    "COPY (SELECT 1 AS a) TO '{new}' (FORMAT parquet, PER_THREAD_OUTPUT true)",
    "COPY (SELECT 1) TO 'made.csv'",
    "COPY (SELECT 1) TO '/dev/stdout'",
    "COPY (SELECT 1) TO '{canary}'",
    "COPY (SELECT 1) TO '{pin}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY (SELECT 1) TO '{pinned}'",
    "COPY (SELECT 1) TO '{pinned}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY (SELECT 1) TO '{pinned}' (FORMAT csv, APPEND true)",
    "COPY (SELECT 1) TO 'pinned://made.parquet'",
    "COPY (SELECT 1) TO 'pinned://bars/made.parquet' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY (SELECT 1) TO 'pinned://{new}'",
    "COPY (SELECT 1) TO 'pinned://../made.csv'",
    "COPY (SELECT 1 AS a, 2 AS b) TO 'pinned://made' (FORMAT parquet, PARTITION_BY (a), OVERWRITE true)",
    "COPY (SELECT 1 AS a, 2 AS b) TO 'pinned://bars' (FORMAT parquet, PARTITION_BY (a), OVERWRITE_OR_IGNORE true)",
    "WITH x AS (COPY (SELECT 1) TO '{new}') SELECT * FROM x",
    "WITH x AS (COPY (SELECT 1) TO '{new}' (USE_TMP_FILE false)) SELECT * FROM bars",
    "WITH x AS (COPY (SELECT 1) TO '{pinned}' (FORMAT parquet, USE_TMP_FILE false)) SELECT * FROM x",
    "WITH x AS (COPY (SELECT 1) TO '{pin}' (FORMAT parquet, USE_TMP_FILE false)) SELECT * FROM x",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{new}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{pinned}' (FORMAT parquet, USE_TMP_FILE false)",
    "PREPARE p AS COPY (SELECT 1) TO '{new}'; EXECUTE p",
    "PREPARE p AS COPY (SELECT 1) TO '{pinned}' (FORMAT parquet, USE_TMP_FILE false); EXECUTE p",
    "CREATE MACRO m() AS TABLE SELECT * FROM read_text('{canary}'); FROM m()",
    "EXPORT DATABASE '{new}'",
    "EXPORT DATABASE 'pinned://made'",
    "IMPORT DATABASE '{export}'",
    "IMPORT DATABASE 'pinned://bars'",
    "COPY bars FROM '{canary}'",
    "CREATE TABLE t (a VARCHAR); COPY t FROM '{canary}'; FROM t",
    "INSERT INTO bars SELECT * FROM bars",
    "UPDATE bars SET close = 0",
    "DELETE FROM bars",
    "TRUNCATE bars",
    "MERGE INTO bars USING quality ON true WHEN MATCHED THEN DELETE",
    "WITH x AS (DELETE FROM bars RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO bars SELECT * FROM bars RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE bars SET close = 0 RETURNING *) SELECT * FROM x",
    "CREATE INDEX i ON bars (symbol)",
    "ALTER TABLE bars ADD COLUMN x INTEGER",
)

DATABASES = _all(
    "ATTACH '{new}' AS other",
    "ATTACH '{canary}' AS other",
    "ATTACH '{canary}' AS other (READ_ONLY)",
    "ATTACH '{pin}' AS other",
    "ATTACH 'pinned://made.duckdb' AS other",
    "ATTACH 'file:{new}' AS other",
    "ATTACH 'ducklake:{new}' AS other",
    "ATTACH 'http://127.0.0.1:9/x.duckdb' AS other",
    "ATTACH ':memory:' AS other; ATTACH '{new}' AS third",
    "CONNECT '{new}'",
    "DETACH memory",
)

EXTENSIONS = _all(
    "INSTALL httpfs",
    "FORCE INSTALL httpfs",
    "INSTALL '{canary}'",
    "INSTALL httpfs FROM community",
    "INSTALL httpfs FROM 'http://127.0.0.1:9'",
    "LOAD httpfs",
    "LOAD '{canary}'",
    "LOAD 'pinned://made'",
    "UPDATE EXTENSIONS",
    "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'x')",
    "CREATE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'x', SCOPE '{new}')",
)

SETTINGS = _all(
    *(
        f"SET {name} = {value}"
        for name, value in {
            "enable_external_access": "true",
            "lock_configuration": "false",
            "allowed_directories": "['/']",
            "allowed_paths": "['{canary}']",
            "allowed_configs": "['enable_external_access']",
            "disabled_filesystems": "''",
            "temp_directory": "'{new}'",
            "memory_limit": "'100GB'",
            "max_execution_time": "0",
            "threads": "64",
            "python_enable_replacements": "true",
            "python_scan_all_frames": "true",
            "autoinstall_known_extensions": "true",
            "autoload_known_extensions": "true",
            "allow_community_extensions": "true",
            "allow_unsigned_extensions": "true",
            "allow_extension_repositories": "'allowed'",
            "allow_persistent_secrets": "true",
            "allow_unredacted_secrets": "true",
            "extension_directories": "['{new}']",
            "custom_extension_repository": "'http://127.0.0.1:9'",
            "secret_directory": "'{new}'",
            "home_directory": "'{export}'",
            "file_search_path": "'{export}'",
            "http_proxy": "'http://127.0.0.1:9'",
            "log_query_path": "'{new}'",
            "enable_logging": "true",
            "logging_storage": "'file'",
            "logging_sink": "'file'",
            "profile_output": "'{new}'",
            "profiling_output": "'{new}'",
            "enable_profiling": "'json'",
            "TimeZone": "'America/New_York'",
        }.items()
    ),
    "SET GLOBAL enable_external_access = true",
    "SET SESSION lock_configuration = false",
    "RESET enable_external_access",
    "RESET lock_configuration",
    "RESET allowed_directories",
    "RESET temp_directory",
    "RESET GLOBAL disabled_filesystems",
    "PRAGMA enable_external_access = true",
    "PRAGMA memory_limit = '100GB'",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA profile_output = '{new}'",
    "CALL enable_logging(storage := 'file', storage_path := '{new}')",
    "CALL enable_logging(storage := 'stdout')",
    "CALL enable_profiling(save_location := '{new}')",
    "PRAGMA force_checkpoint",
    "PRAGMA disable_checkpoint_on_shutdown",
    "SET enable_external_access = true; SELECT * FROM read_text('{canary}')",
)

STATE = [
    *_all(
        "DROP VIEW bars",
        "CREATE OR REPLACE VIEW bars AS SELECT 1",
        "CREATE TABLE t AS SELECT * FROM bars",
        "CREATE TEMP TABLE t AS SELECT 1; FROM t",
        "ALTER VIEW bars RENAME TO b",
        "COMMENT ON VIEW bars IS 'x'",
        "CREATE MACRO m() AS 1",
        "CREATE SEQUENCE s",
        "CREATE SCHEMA s",
        "CREATE TYPE e AS ENUM ('a')",
        "SET VARIABLE v = 1",
        "BEGIN; DROP VIEW bars; COMMIT",
        "PREPARE p AS SELECT 1; EXECUTE p",
        "CHECKPOINT",
        "FORCE CHECKPOINT",
        "VACUUM",
        "ANALYZE",
        "CALL pragma_version()",
        "ATTACH ':memory:' AS other; USE other",
        "ATTACH ':memory:' AS other; CREATE TABLE other.t AS FROM bars",
        "ATTACH '{pinned}' AS other; FROM other.file",
        "SET search_path = 'temp'",
        "SELECT 1; SELECT 2",
        "SELECT * FROM bars; DROP VIEW bars",
        "LOAD json",
        walls="it ends with the connection, which no other query shares",
    ),
    # What does not fit in memory is not spilled to a disk.
    *_all("SELECT * FROM (SELECT range AS a, hash(range) AS b FROM range(200000000)) ORDER BY b"),
]

HOSTILE = [*READS, *NOWHERE, *LISTINGS, *WRITES, *DATABASES, *EXTENSIONS, *SETTINGS, *STATE]
