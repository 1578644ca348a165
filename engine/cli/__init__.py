"""The command line: entry point, flags of behaviour and error messages.

Nothing of weight loads here: the process that answers `engine sql` starts before anything else does.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
import warnings
from typing import NoReturn

from engine.cli.console import set_quiet
from engine.cli.exit_codes import (
    DEBUG,
    FAILED,
    INTERRUPTED,
    PARTLY_READ,
    PLAIN,
    QUIET,
    USAGE,
    report_error,
    say_interrupted,
    split_flags,
)
from engine.cli.query_process import start_query_process
from engine.cli.terminal_text import write_error
from engine.printable import escape_unprintable

__all__ = ["FAILED", "INTERRUPTED", "PARTLY_READ", "USAGE", "main", "program"]


def program() -> NoReturn:
    """Run `main`, and exclude all objects from garbage collection at exit, which saves time; exit like `main`."""
    try:
        main()
    finally:
        gc.freeze()


def main() -> NoReturn:
    """Run the command of `sys.argv` and exit with its code; an error is printed as a sentence, its trace with --debug."""
    flags, words = split_flags(sys.argv[1:])
    set_quiet(quiet=QUIET in flags)
    warnings.formatwarning = lambda message, *_, **__: escape_unprintable(
        f"engine: {message}\n"
    )  # a sentence, and no line of code
    if PLAIN in flags:
        os.environ["NO_COLOR"] = "1"  # what Rich and child processes look at
    try:
        run_words(words)
    except SystemExit as stopped:
        if stopped.code == INTERRUPTED:  # Typer took the interrupt, and says no word
            say_interrupted()
        raise
    except BaseException as error:  # noqa: BLE001 - a person at a terminal gets a sentence, with --debug the trace
        if DEBUG in flags:
            write_error(traceback.format_exc())
        raise SystemExit(report_error(error)) from None
    raise SystemExit(0)


def run_words(words: list[str]) -> None:
    """Run a command: `sql OUT QUERY` by `run_sql` directly, all others by Typer; flush standard output at the end."""
    try:
        with start_query_process(words):
            match words:
                # Nothing to read for Typer, which takes a quarter of the time that such a question takes.
                case ["sql", out, query] if not (out.startswith("-") or query.startswith("-")):
                    from pathlib import Path

                    from engine.cli.sql_command import run_sql

                    run_sql(Path(out), query)
                case _:
                    from engine.cli.commands import run

                    run(words)
    finally:
        sys.stdout.flush()
