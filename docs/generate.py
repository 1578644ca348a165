"""Reference pages, generated from the code when the site is built; they are not stored in the repository.

mkdocs calls `on_files`, which adds `pages`. Links out of docs/ (to the notebooks, the tests) point to files of the
repository, so `on_page_markdown` replaces them with their text.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer.main
from engine import _ROOMS, errors
from engine.audit.audit_tables import AUDIT_TABLES
from engine.cli import FAILED, INTERRUPTED, PARTLY_READ, USAGE
from engine.cli.commands import app
from engine.cli.exit_codes import MANY_REJECTS
from engine.export.tables import KEYS, TABLES

GROUPS = {
    "Load, run, audit": ["load", "run", "run_audit", "Audit", "write_audit", "reconcile", "requests", "fill", "drop_fill", "apply_rules", "read_rules", "export_session", "CalendarMap"],
    "Calendars and the grid": ["calendar", "calendar_codes", "SessionCalendar", "GridSpec", "SessionGrid", "Interval"],
    "Store": ["SessionData", "Snapshot", "SymbolSessionData", "from_frame", "conform"],
    "Kernels": [
        "derive_bars", "bars_from_trades", "bars_from_quotes", "indicators", "Indicator", "find_gaps", "expected_slots", "slot_runs", "quality_score",
    ],
    "Exports and SQL": ["check", "open_dataset", "Dataset", "write_json", "write_csv", "sql", "connect"],
    "Plots": [
        "plot_candles", "plot_coverage", "plot_slots", "plot_gaps", "plot_volume", "plot_spread", "plot_against", "save_plot",
    ],
    "Sessions": ["SessionConfig", "ReplaySession", "LiveSession", "simulate"],
    "Errors": ["EngineError"],
}  # fmt: skip


def on_files(files: Any, config: Any) -> Any:  # noqa: ANN401 - mkdocs' own
    from mkdocs.structure.files import File  # noqa: PLC0415 - only mkdocs has it

    for path, content in pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:  # noqa: ANN401
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+(?:engine|tests|notebooks|benchmarks)[^)]*\)", r"\1", markdown)


def pages() -> dict[str, str]:
    return {
        "reference/python.md": python_page(),
        "reference/cli.md": cli_page(),
        "reference/tables.md": tables_page(),
        "reference/errors.md": errors_page(),
    }


def python_page() -> str:
    parts = ["# Python", "Every name below is `engine.NAME`; its module is imported at the first use."]
    listed = [name for names in GROUPS.values() for name in names]
    more = [name for name in _ROOMS if name not in listed]
    for title, names in (GROUPS | ({"More": more} if more else {})).items():
        parts.append(f"## {title}")
        parts += [f"::: {_place(name)}\n    options:\n      heading_level: 3" for name in names]
    return "\n\n".join(parts)


def _place(name: str) -> str:
    room, _, inside = _ROOMS[name].partition(":")
    found = inspect.unwrap(getattr(__import__("engine"), name))
    return f"{getattr(found, '__module__', f'engine.{room}')}.{inside or name}"


def cli_page() -> str:
    parts = [
        "# Command line",
        "`--quiet`, `--no-color` and `--debug` are valid at any position; `engine --install-completion` installs shell completion.",
        (
            f"Exit codes: 0 success; 1 findings, differences or faults (and {FAILED} for a failure that the input did not cause); "
            f"{USAGE} invalid input or usage; {PARTLY_READ} completed, but some files could not be read; "
            f"{MANY_REJECTS} completed, but of a file more rows were refused than `--max-rejects`; {INTERRUPTED} interrupted."
        ),
    ]
    for names, command in _commands(typer.main.get_command(app), ()):
        parts += _command(" ".join(("engine", *names)), command)
    return "\n\n".join(parts)


def _commands(command: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:  # noqa: ANN401 - click's own
    inner = getattr(command, "commands", {})
    if not inner:
        yield names, command
    for name, one in inner.items():
        yield from _commands(one, (*names, name))


def _command(name: str, command: Any) -> list[str]:  # noqa: ANN401
    description, _, example = inspect.cleandoc(command.help or "").partition("Example: ")
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join([name, "[OPTIONS]", *(one.metavar or one.name.upper() for one in arguments)])
    rows = [f"| `{one.metavar or one.name.upper()}` | {_cell(one.help)} | |" for one in arguments]
    rows += [
        f"| {', '.join(f'`{opt}`' for opt in one.opts)} | {_cell(one.help)} | {_default(one)} |" for one in options
    ]
    table = "\n".join(["| argument or option | meaning | default |", "| --- | --- | --- |", *rows])
    shown = f"```text\n{usage}\n{example.strip()}\n```"
    return [f"## {name}", description.strip(), shown, table]


def _default(option: Any) -> str:  # noqa: ANN401
    return "" if option.default in (None, False, True, ()) or callable(option.default) else f"`{option.default}`"


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def tables_page() -> str:
    parts = [
        "# Tables",
        "Types are Polars types. [The exported dataset](../dataset.md) explains revisions, [Why a bar is missing](../causes.md) explains causes.",
    ]
    parts += [
        "## Tables of an export",
        *(part for name in TABLES for part in _table(name, TABLES[name], KEYS.get(name, ()))),
    ]
    parts += [
        "## Tables of an audit",
        *(part for name in AUDIT_TABLES for part in _table(f"{name} (audit)", AUDIT_TABLES[name], ())),
    ]
    return "\n\n".join(parts)


def _table(name: str, schema: Any, keys: Any) -> list[str]:  # noqa: ANN401
    rows = [f"| `{column}` | {dtype} | {'key' if column in keys else ''} |" for column, dtype in schema.items()]
    return [f"### {name}", "\n".join(["| column | type | |", "| --- | --- | --- |", *rows])]


def errors_page() -> str:
    tree = (errors.__doc__ or "").partition("\n\n")[2].strip()
    kinds = [one for one in vars(errors).values() if inspect.isclass(one) and one.__module__ == errors.__name__]
    rows = [f"| `{kind.__name__}` | {_cell(inspect.cleandoc(kind.__doc__ or '').splitlines()[0])} |" for kind in kinds]
    return "\n\n".join([
        "# Errors",
        ("`EngineError` is the base class of all errors of this package. The message names the parameter, the value received, the valid "
        "values and the correction. The command line prints it as one paragraph with exit code 2; `--debug` prints the traceback."),
        f"```text\n{tree}\n```",
        "\n".join(["| error | raised when |", "| --- | --- |", *rows]),
    ])  # fmt: skip
