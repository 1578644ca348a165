"""Run `engine sql`: one query, a prompt, or a script from standard input."""

# Each library loads where it is used, and Polars while the child loads DuckDB.

from __future__ import annotations

import gc
import sys
from pathlib import Path

from engine.arguments import location_of
from engine.cli.parsing import parse_instant, usage_error
from engine.cli.query_process import query_child


def run_sql(
    out: Path,
    query: str | None = None,
    *,
    form: str = "table",
    output: Path | None = None,
    revision: int | None = None,
    as_of: str | None = None,
    audit: Path | None = None,
    limit: int | None = None,
    timeout: float = 60.0,
    memory: str = "2GB",
    spreadsheet_safe: bool = False,
) -> None:
    """Answer `query` on `out` (export or audit), with `audit` beside it as `audit_NAME`; None: prompt or standard input."""
    out = location_of("OUT", out)
    # The child starts now at the latest.
    with query_child() as child:
        from engine.cli.output import AnswerWriter
        from engine.query.api import QuerySession
        from engine.query.request import Limits

        writer = AnswerWriter.of(form, output, limit, spreadsheet_safe=spreadsheet_safe)
        limits = Limits(timeout, memory)
        target, also = query_target(out, audit)
        at = revision_of(out, revision, as_of)
        with QuerySession(target, revision=at, also=also, child=child) as session:
            if query is not None:
                writer.write_answer(session, query, limits)
                return
            from engine.cli.prompt import run_prompt, run_script

            gc.enable()
            if sys.stdin.isatty():
                run_prompt(session, writer, limits)
            else:
                run_script(session, writer, limits, sys.stdin.read())


def revision_of(out: Path, revision: int | None, as_of: str | None) -> int | None:
    """`revision` (may be None) if `as_of` is None, else the revision at that instant; ParameterError with both."""
    if as_of is None:
        return revision
    if revision is not None:
        raise usage_error("--as-of: received together with --revision; valid: one of them")
    from engine.export.revision_history import revision_at

    wanted = parse_instant(as_of)
    assert wanted is not None  # noqa: S101 - text was given
    return revision_at(out, wanted)


def query_target(out: Path, audit: Path | None) -> tuple[Path | dict[str, Path], dict[str, Path]]:
    """(table files if `out` is an audit, else `out` itself; tables of the audit as `audit_NAME`, {} without one)."""
    from engine.audit.audit_files import is_audit, table_files

    also = {} if audit is None else {f"audit_{name}": path for name, path in table_files(audit).items()}
    return (table_files(out) if is_audit(out) else out), also
