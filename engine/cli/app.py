"""The Typer application and the options that every command shares.

Exit codes: 0 fine; 1 an unexpected failure, such as an output that is full; 2 bad input or usage; 3 done, but some
files could not be read; 4 done, but of a file more rows were refused than `--max-rejects`; 130 interrupted.
"""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from engine.arguments import location_of
from engine.cli.console import print_text
from engine.cli.exit_codes import DEBUG, PLAIN, QUIET
from engine.printable import escape_unprintable
from engine.urls import EXAMPLE, OR_STORE, SCHEMES, refuse_url, scheme_of, url_of

# Parameters that take URLs of object stores, by command; every other path is one of this file system.
_EXPORT = ("out",)
URL_PARAMETERS: Mapping[str, Collection[str]] = {
    "run": ("sources", "export"),
    "audit": ("sources",),
    "replay": ("export",),
    **dict.fromkeys(("sql", "gaps", "quality", "export", "history", "diff", "verify", "compact", "vacuum"), _EXPORT),
}


class CommandGroup(TyperGroup):
    """A group some of whose commands have names of two words (`calendars check`), and whose usage errors are safe to print."""

    def make_context(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - Typer's own
        """Context of the parsed words; the text of a usage error is escaped."""
        with escaped_usage_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - Typer's own
        """Run the command; the text of a usage error is escaped."""
        with escaped_usage_errors():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:  # noqa: ANN401 - Typer's own
        """Command of the first two words if there is one of that name, else of the first; with the words after it."""
        name = " ".join(args[:2])
        if len(args) > 1 and name in self.commands:
            return name, with_checked_paths(self.commands[name]), args[2:]
        found, command, rest = super().resolve_command(ctx, args)
        return found, None if command is None else with_checked_paths(command), rest


def with_checked_paths(command: Any) -> Any:  # noqa: ANN401 - Typer's own
    """The command, which gets URLs as paths of objects, and raises ParameterError where it takes none."""
    callback, names = command.callback, {one.name: one.opts[0] for one in command.params}
    if callback is None:  # a group of commands
        return command

    @functools.wraps(callback)
    def checked(**given: Any) -> Any:  # noqa: ANN401 - options of any command
        for name, value in given.items():
            option = names.get(name, name)
            option = option if option.startswith("-") else option.upper()
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, Path) and not takes_url(command.name, name, path):
                    refuse_url(option, path, OR_STORE if takes_url(command.name, name, Path(EXAMPLE)) else "")
            if isinstance(value, Path):
                given[name] = location_of(option, value)
            elif isinstance(value, list):
                given[name] = [location_of(option, one) if isinstance(one, Path) else one for one in value]
        return callback(**given)

    command.callback = checked
    return command


def takes_url(command: str, parameter: str, path: Path) -> bool:
    """Whether a parameter of a command takes the URL of an object store that a path is."""
    url = url_of(path)
    return url is not None and scheme_of(url) in SCHEMES and parameter in URL_PARAMETERS.get(command, ())


@contextmanager
def escaped_usage_errors() -> Iterator[None]:
    """Escape unprintable characters in the message of a usage error raised in the block: it repeats what was typed."""
    try:
        yield
    except Exception as error:
        shown: Any = getattr(error, "format_message", None)
        if shown is not None:
            text = escape_unprintable(shown())
            error.format_message = lambda: text  # type: ignore[attr-defined] # Typer prints what this returns
        raise


app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]
Export = Annotated[Path, typer.Argument(metavar="OUT", help="A folder that --export wrote.")]
HELP = """Session-true bars, stored and explained gaps, per-bar completeness and SQL for intraday market data.

--quiet, --no-color and --debug may stand behind the command, too.

Example: engine run data/ --calendar XNYS --export out
"""


@app.callback(invoke_without_command=True, help=HELP)
def _global_options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    quiet: Annotated[
        bool, typer.Option(QUIET, help="Print only answers and errors: no progress, no summary, no notes.")
    ] = False,
    no_color: Annotated[bool, typer.Option(PLAIN, help="Print without colours; so does NO_COLOR=1.")] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Print the trace of an error.")] = False,
) -> None:
    """Print the version and exit with --version, else nothing; the other flags are declared for --help alone."""
    del quiet, no_color, debug  # `main` has heard them
    if version:
        from engine import __version__

        print_text(f"engine {__version__}")
        raise typer.Exit
