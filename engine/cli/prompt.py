"""The SQL prompt: statements over several lines, history, completion; and scripts of statements."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.cli.console import print_text
from engine.cli.output import AnswerWriter
from engine.cli.parsing import usage_error
from engine.cli.table_layout import print_table
from engine.cli.terminal_text import write_error
from engine.errors import EngineError
from engine.query.api import QuerySession
from engine.query.request import Limits
from engine.query.statements import split_statements

try:
    import readline
except ImportError:  # a Python that was built without it: lines can be typed, and that is all
    readline = None  # type: ignore[assignment]

FIRST, NEXT = "engine> ", "   ...> "
HISTORY_LINES = 2000
HELP = r"""A statement ends with a semicolon and may take several lines.
  \d         tables and views
  \d NAME    columns of one
  \x         one line per cell, on and off
  \?         this help
  \q         end (so does Ctrl-D; Ctrl-C clears the line or stops the query)
Tab completes names. Up brings back earlier statements."""
KEYWORDS = """SELECT FROM WHERE GROUP BY ORDER LIMIT JOIN ASOF LEFT USING WITH AS ON AND OR NOT IN BETWEEN LIKE IS NULL
CASE WHEN THEN ELSE END DISTINCT HAVING QUALIFY OVER PARTITION ROWS UNION ALL DESC ASC DESCRIBE SUMMARIZE EXPLAIN
PIVOT"""
MACROS = ("ohlcv(", "venue_time(")


def run_script(session: QuerySession, writer: AnswerWriter, limits: Limits, text: str) -> None:
    """Run and answer all statements in order; the first error is raised; --output takes just one (ParameterError)."""
    statements, rest = split_statements(text)
    statements += [rest] if rest else []
    if writer.output is not None and len(statements) != 1:
        raise usage_error(f"--output: received {len(statements)} statements on standard input; valid: one")
    for statement in statements:
        writer.write_answer(session, statement, limits)


def run_prompt(session: QuerySession, writer: AnswerWriter, limits: Limits) -> None:
    """Read and answer statements until end of input or `q`, then save the history; Ctrl-C discards the open one."""
    talk = PromptState(session, writer, limits, session.columns())
    history = history_file()
    configure_readline(talk.columns, history)
    print_text(r"SQL over the export. \? for help, \q to end.")
    while talk.listening:
        try:
            line = input(NEXT if talk.pending else FIRST)
        except KeyboardInterrupt:
            talk.pending = ""
            print_text("")
        except EOFError:
            print_text("")
            break
        else:
            talk.take_line(line)
    save_history(history)


@dataclass
class PromptState:
    """State of the prompt: session, settings, and the statement typed so far (`pending`)."""

    session: QuerySession
    writer: AnswerWriter
    limits: Limits
    columns: dict[str, list[str]]
    pending: str = ""
    listening: bool = field(default=True)

    def take_line(self, line: str) -> None:
        """Run a backslash command, or all statements completed by this line; the incomplete rest replaces `pending`."""
        if not self.pending and line.strip().startswith("\\"):
            add_to_history(line.strip())
            self.run_backslash_command(*line.split(maxsplit=1))
            return
        statements, self.pending = split_statements(f"{self.pending}\n{line}" if self.pending else line)
        for statement in statements:
            add_to_history(statement + ";")
            self.print_answer(statement)

    def print_answer(self, statement: str) -> None:
        """Run a statement and print its answer; engine errors and Ctrl-C are printed, not raised."""
        try:
            self.writer.write_answer(self.session, statement, self.limits)
        except EngineError as error:
            print_text(str(error))
        except KeyboardInterrupt:
            print_text("interrupted")

    def run_backslash_command(self, name: str, argument: str = "") -> None:
        r"""Run `\q` (ends), `\x` (toggles a line per cell), `\d [table]` (lists tables, columns); else print help."""
        match name:
            case "\\q":
                self.listening = False
            case "\\x":
                self.writer = replace(self.writer, upright=not self.writer.upright)
                print_text(f"one line per cell: {'on' if self.writer.upright else 'off'}")
            case "\\d" if argument:
                quoted = argument.strip().rstrip(";").strip('"').replace('"', '""')
                self.print_answer(f'DESCRIBE "{quoted}"')
            case "\\d":
                self.print_tables()
            case "\\?":
                print_text(HELP)
            case _:
                print_text(f"unknown command {name}\n{HELP}")

    def print_tables(self) -> None:
        """Print each table and view with its column names, as they were when the prompt began."""
        import polars as pl

        rows = {"table": list(self.columns), "columns": [", ".join(names) for names in self.columns.values()]}
        print_table("", pl.DataFrame(rows, schema={"table": pl.String, "columns": pl.String}))


def configure_readline(columns: dict[str, list[str]], history: Path) -> None:
    """Set up Tab completion and load the history; an unreadable one is reported; without readline do nothing."""
    if readline is None:
        return
    names = sorted({*columns, *(name for names in columns.values() for name in names), *MACROS, *KEYWORDS.split()})
    readline.set_completer(NameCompleter(names).complete)
    readline.set_completer_delims(" \t\n\"'`@$><=;|&{}(),.+-*/[]")
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    readline.set_auto_history(False)
    try:
        readline.read_history_file(history)
    except FileNotFoundError:
        pass  # the first time
    except OSError as error:
        write_error(f"engine: the history was not read: {error}\n")


@dataclass
class NameCompleter:
    """Completer of names for readline; `found` holds the matches of the last word."""

    names: Iterable[str]
    found: list[str] = field(default_factory=list)

    def complete(self, word: str, state: int) -> str | None:
        """Match number `state` of names starting with `word`, in any case, else None; state 0 recomputes `found`."""
        if state == 0:
            starts = [name for name in self.names if name.lower().startswith(word.lower())]
            # Names as they are written; keywords in the case that was begun.
            self.found = [name.lower() if word.islower() and name.isupper() else name for name in starts]
        return self.found[state] if state < len(self.found) else None


def add_to_history(statement: str) -> None:
    """Add a statement to the history on one line; with `--` in it, each line as an entry; nothing without readline."""
    if readline is None:
        return
    # The history has one entry per line, and a remark ends with its line.
    lines = statement.splitlines() if "--" in statement else [re.sub(r"\s*\n\s*", " ", statement)]
    for line in lines:
        readline.add_history(line)


def history_file() -> Path:
    """Path `session-engine/sql_history` below $XDG_STATE_HOME, else ~/.local/state; it is not created."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "session-engine" / "sql_history"


def save_history(history: Path) -> None:
    """Write the last 2,000 history lines to a file created with mode 600; an OSError is printed, not raised."""
    if readline is None:
        return
    try:
        history.parent.mkdir(parents=True, exist_ok=True)
        history.touch(mode=0o600)
        readline.set_history_length(HISTORY_LINES)
        readline.write_history_file(history)
    except OSError as error:
        write_error(f"engine: the history was not kept: {error}\n")
