"""The whole command line that an error proposes: the words of the command with the options of its message."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

# Options whose values a message can state in full, and how such a value looks; no value: a switch.
_QUOTED = r"'[^']*'|\"[^\"]*\""
PROPOSABLE = {
    "--layout": r"[a-z][a-z0-9-]*",
    "--columns": r"[a-z_]+=[^\s;()]*[^\s;(),.]",
    "--timezone": r"[A-Z][A-Za-z_]+/[\w/+-]+|UTC[-+\d:]*",
    "--time-format": _QUOTED,
    "--decimal": r"[.,](?=[\s;)]|$)",
    "--thousands": rf"{_QUOTED}|[.,_](?=[\s;)]|$)",
    "--interval": r"\d+[smhd]",
    "--unit": r"(?:s|ms|us|ns)\b(?!, (?:ms|us))",
    "--stamp": r"end-inclusive|start|end",
    "--shift": r"[+-]?(?:\d+(?:\.\d+)?[dhms])+",
    "--calendar": r"[A-Z0-9][\w/.]*(?<![.])",
    "--symbols": r"[^\s;()]+",
    "--symbol": r"NAME|[A-Z0-9][\w.^=/-]*(?<![.])",
    "--symbol-from": _QUOTED,
    "--scale": r"\d+",
    "--null": rf"{_QUOTED}|[^\s;(),]+",
    "--ignore": rf"{_QUOTED}|[^\s;(),]+(?:,[^\s;(),]+)*",
    "--encoding": r"[a-z][a-z0-9_-]+",
    "--allow-non-positive": None,
}
JOINED = ("--columns", "--ignore", "--null")  # several values by comma: a proposal adds to those that are given
_PLACEHOLDER = re.compile(r"\.\.\.|=(?:NAME|COLUMN)$")
_OPTION = re.compile(
    "|".join(
        rf"(?<!\S){name}(?![\w-])" + ("" if value is None else rf"[ =](?:{value})")
        for name, value in PROPOSABLE.items()
    )
)
_NOT_PROPOSED = re.compile(r"(?:leave|no|than|without|which) $")
MOST_COMMANDS = 4


def corrected_commands(message: str, words: Sequence[str], zone: str | None = None) -> list[tuple[str, str]]:
    """(condition, command) per alternative that a message's options make of `words` (without `engine`); often [].

    Options that follow each other by a blank alone belong together. Values that only show a form (`...`) make no command.
    Where stamps carry no zone, and none is proposed, `zone` (that of the market) and UTC are the alternatives.
    """
    options = proposals(message)
    commands = [("", join_command(words, one)) for one in options]
    if "stamps carry no zone" in message and not any(name == "--timezone" for one in options for name, _ in one):
        conditions = {zone or "UTC": "if stamps are the market's local time", "UTC": "if stamps are UTC"}
        commands += [(why, join_command(words, [("--timezone", name)])) for name, why in conditions.items()]
    return list(dict.fromkeys(commands))[:MOST_COMMANDS]


def proposals(message: str) -> list[list[tuple[str, str]]]:
    """Alternatives of a message, each its options with values (empty: a switch), in order; none of placeholders."""
    found: list[list[tuple[str, str]]] = []
    end = -1
    for match in _OPTION.finditer(message):
        if _NOT_PROPOSED.search(message, 0, match.start()) is not None:
            continue
        name, _, value = re.sub(r"^(--[a-z-]+)[ =]", r"\1\n", match[0]).partition("\n")
        if _PLACEHOLDER.search(value) is not None:
            continue
        plain = value[1:-1] if value[:1] in ("'", '"') else value
        if match.start() == end + 1 and found:
            found[-1].append((name, plain))
        else:
            found.append([(name, plain)])
        end = match.end()
    return found


def join_command(words: Sequence[str], options: Sequence[tuple[str, str]]) -> str:
    """The command as a shell takes it: `engine`, the words less what the options replace, then the options."""
    kept = list(words)
    for name, value in options:
        stated = [at for at, word in enumerate(kept) if word == name or word.startswith(f"{name}=")]
        for at in reversed(stated):
            given = kept[at].partition("=")[2] if "=" in kept[at] else (kept[at + 1 : at + 2] or [""])[0]
            del kept[at : at + (1 if "=" in kept[at] or not value else 2)]
            value = f"{given},{value}" if name in JOINED and given else value  # noqa: PLW2901  # both are wanted
        # `--null -1` would be read as an option of its own.
        kept += [f"{name}={value}"] if value.startswith("-") else [name, value] if value else [name]
    return shlex.join(["engine", *kept])


def zone_of_words(words: Sequence[str]) -> str | None:
    """Zone of the market that `--calendar` names in the words of a command; None without, or for an unknown one."""
    from engine.calendars.providers import calendar
    from engine.errors import EngineError

    code = next((words[at + 1] for at, word in enumerate(words[:-1]) if word == "--calendar"), None)
    try:
        return None if code is None else calendar(code).zone
    except EngineError:
        return None
