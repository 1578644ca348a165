"""Write the answer of a query: as a table, as text for programs, or into a file."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from engine.cli.console import print_data, print_text
from engine.cli.parsing import check_limit, usage_error
from engine.cli.table_layout import print_table
from engine.export.formats.output_formats import OUTPUT_FORMATS, to_text, write_result
from engine.query.api import QuerySession
from engine.query.request import Limits

TABLE = "table"
TABLE_ROWS = 50
EXPLAINED = ["explain_key", "explain_value"]


@dataclass(frozen=True)
class AnswerWriter:
    """Format, target and row limit of answers.

    Attributes
    ----------
    form : str
        `table` or one of `engine.export.formats.output_formats.OUTPUT_FORMATS`.
    output : Path, optional
        A file.
    limit : int, optional
        How many rows are shown or written; None for all.
    upright : bool
        Tables with one line per cell.
    spreadsheet_safe : bool
        CSV with a `'` before text that a spreadsheet takes for a formula.
    """

    form: str = TABLE
    output: Path | None = None
    limit: int | None = TABLE_ROWS
    upright: bool = False
    spreadsheet_safe: bool = False

    @classmethod
    def of(cls, form: str, output: Path | None, limit: int | None, *, spreadsheet_safe: bool = False) -> AnswerWriter:
        """Checked writer; `form` table with `output`: by its suffix; limit None: 50 in tables, else all; 0: all."""
        if form == TABLE and output is not None:
            form = output.suffix.removeprefix(".")
        if form not in (TABLE, *OUTPUT_FORMATS):
            raise usage_error(f"--format: received {form!r}; valid: {TABLE}, {', '.join(OUTPUT_FORMATS)}")
        if form != TABLE and not OUTPUT_FORMATS[form].is_text and output is None:
            raise usage_error(f"--format: received {form!r} without --output; valid: a file to write it to")
        if spreadsheet_safe and (form == TABLE or "spreadsheet_safe" not in OUTPUT_FORMATS[form].options):
            raise usage_error(f"--spreadsheet-safe: received with --format {form}; valid: with csv")
        check_limit(limit)
        default = TABLE_ROWS if form == TABLE else 0
        return cls(form, output, (default if limit is None else limit) or None, spreadsheet_safe=spreadsheet_safe)

    def write_answer(self, session: QuerySession, query: str, limits: Limits) -> None:
        """Run a query and write its answer to the file if set, else print it; then print if rows were left out."""
        answer = session.run(query, limits, self.limit)
        if self.output is not None:
            write_result(answer.frame, self.form, self.output, **self.options)
        elif self.form != TABLE:
            print_data(to_text(answer.frame, self.form, **self.options))
        elif answer.frame.columns == EXPLAINED:
            for text in answer.frame["explain_value"]:
                print_text(text)
        else:
            print_table("", answer.frame, decimals=None, upright=self.upright)
        self.print_note(answer.note, answer.rows)

    @property
    def options(self) -> dict[str, bool]:
        """Options of the format that are switched on."""
        return {"spreadsheet_safe": True} if self.spreadsheet_safe else {}

    def print_note(self, note: str | None, rows: int) -> None:
        """Print the note on cut-off rows, for tables else the row count; other formats: the note to standard error."""
        if note is not None:
            note += "; --limit 0 shows all"
        if self.form == TABLE:
            print_text(note or f"{rows:,} row{'' if rows == 1 else 's'}")
        elif note is not None:
            # The data on standard output stay data.
            sys.stderr.write(f"engine: {note}\n")
