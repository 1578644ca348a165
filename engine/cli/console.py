"""Print tables, lines, JSON and progress to the terminal. Cells are data, never markup."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Self

from engine.cli.terminal_text import write_error
from engine.printable import escape_unprintable

if TYPE_CHECKING:
    import polars as pl


SECONDS_BETWEEN_LOOKS = 0.25


class _Manners:
    """Whether this run of the command line prints summaries and notes; set once, before the command."""

    quiet = False


def set_quiet(*, quiet: bool) -> None:
    """Set whether this process suppresses summaries, notes and progress; answers and errors are always printed."""
    _Manners.quiet = quiet


def is_quiet() -> bool:
    """Whether --quiet was given."""
    return _Manners.quiet


def print_rows(title: str, frame: pl.DataFrame, limit: int, *, as_json: bool) -> None:
    """Print the first `limit` rows (0: all), even if quiet, as JSON or a table; unless quiet, then how many more."""
    shown = frame.head(limit) if limit else frame
    if as_json:
        print_json(shown.to_dicts())
        return
    from engine.cli.table_layout import print_table

    print_table(title, shown)
    if shown.height < frame.height:
        print_line(f"{frame.height - shown.height} more; --limit 0 shows all")


def print_frame(title: str, frame: pl.DataFrame) -> None:
    """Print a frame as a table; nothing with --quiet."""
    from engine.cli.table_layout import print_table

    if not _Manners.quiet:
        print_table(title, frame)


def merge_notes(notes: Iterable[str]) -> list[str]:
    """Merge notes of equal text (after `place: `, or whole) into the first of them, with `(and N more like it)`."""
    alike: dict[str, list[str]] = {}
    for note in notes:
        _, colon, text = note.partition(": ")
        alike.setdefault(text if colon else note, []).append(note)
    return [one[0] + (f" (and {len(one) - 1} more like it)" if len(one) > 1 else "") for one in alike.values()]


def one_line(text: object) -> str:
    """Text with line breaks escaped, too: names of files and symbols may have some."""
    return escape_unprintable(str(text), keep_breaks=False)


def print_list(what: str, lines: Any, most: int = 12) -> None:  # noqa: ANN401 - any sequence of text
    """Print up to `most` lines as `what: line`, then how many are left out; nothing with --quiet."""
    for line in lines[:most]:
        print_line(f"{what}: {one_line(line)}")
    if len(lines) > most:
        print_line(f"{what}: {len(lines) - most} more; --json lists all")


def print_problems(what: str, lines: Any) -> None:  # noqa: ANN401 - any sequence of text
    """Print up to 12 lines as `what: line` to standard output; with --quiet all of them, to standard error."""
    if not _Manners.quiet:
        print_list(what, lines)
        return
    for line in lines:
        write_error(f"engine: {what}: {one_line(line)}\n")


def print_line(text: str) -> None:
    """Print a line to standard output; nothing with --quiet."""
    if not _Manners.quiet:
        print_text(text)


def print_text(text: str) -> None:
    """Print a line to standard output, even if quiet; unprintable or unencodable characters are escaped."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout.write(escape_unprintable(text) + "\n")


def print_json(content: object) -> None:
    """Print content as indented JSON, even if quiet; instants in ISO 8601, unknown types by `str`."""
    import orjson

    text = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS, default=str)
    print_data(text.decode() + "\n")


def print_data(text: str) -> None:
    """Write text to standard output, in UTF-8, unchanged unless a terminal, which gets unprintable characters escaped."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(escape_unprintable(text) if sys.stdout.isatty() else text)


def is_progress_visible() -> bool:
    """Whether standard error is a terminal and --quiet was not given."""
    return not _Manners.quiet and sys.stderr.isatty()


class watching:  # noqa: N801 - used as a function
    """Context manager that is called to redraw a table on standard error while a session runs.

    What it is given is a function that makes title and table: it is called a few times a second at most.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled and is_progress_visible()
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        if not self._enabled:
            return self
        from rich.console import Console
        from rich.live import Live

        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        return self

    @property
    def is_shown(self) -> bool:
        """Whether a table is shown."""
        return self._enabled

    def __call__(self, make: Callable[[], tuple[str, pl.DataFrame]]) -> None:
        """Call `make` and redraw its (title, frame) on standard error; within 0.25 s of the last redraw do nothing."""
        if not self._enabled:
            return
        import time

        from engine.cli.table_layout import render_table

        now = time.monotonic()
        if now - self._shown_at >= SECONDS_BETWEEN_LOOKS:
            self._shown_at = now
            self._live.update(render_table(self._console, *make()), refresh=True)

    def __exit__(self, *_: object) -> Literal[False]:
        if self._enabled:
            self._live.stop()
        return False


class progress:  # noqa: N801 - used as a function
    """Context manager: a function that updates a progress bar on standard error, with rate and time left."""

    def __init__(self, *, enabled: bool, doing: str = "reading") -> None:
        self._doing = doing
        self._enabled = enabled and is_progress_visible()

    def __enter__(self) -> Any:  # noqa: ANN401 - runtime.load.Progress or None
        if not self._enabled:
            return None
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn(self._doing),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task(self._doing, rate="")
        self._bar.start()
        return self.update

    def update(self, done: int, total: int, _: object) -> None:
        """Move the progress bar to `done` of `total`; show items per second, or seconds per item if below one."""
        speed = self._bar.tasks[0].speed
        rate = "" if not speed else f"{speed:,.0f}/s" if speed >= 1 else f"{1 / speed:,.0f} s each"
        self._bar.update(self._task, completed=done, total=total, rate=rate)

    def __exit__(self, *_: object) -> Literal[False]:
        if self._enabled:
            self._bar.stop()
        return False
