"""Columns of audit tables: one name in Python, SQL and files, and none that SQL reserves."""

from __future__ import annotations

import duckdb
from engine.audit.audit_tables import AUDIT_TABLES
from engine.checks.findings import FINDINGS
from engine.export.maintenance.verify_findings import FINDINGS as VERIFY_FINDINGS


def test_columns_of_audit_tables_and_findings_are_no_reserved_words() -> None:
    words = duckdb.sql("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'").fetchall()
    reserved = {word for (word,) in words}
    assert {"check", "end", "table"} <= reserved
    for schema in (*AUDIT_TABLES.values(), VERIFY_FINDINGS):
        assert not reserved & set(schema)


def test_findings_of_checks_and_of_verify_share_their_vocabulary() -> None:
    assert {"check_name", "severity", "start_ts", "end_ts"} <= set(FINDINGS)
    assert {"check_name", "severity"} <= set(VERIFY_FINDINGS)
    assert not {"check", "start", "end"} & {*FINDINGS, *VERIFY_FINDINGS}
