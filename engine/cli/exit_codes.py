"""Exit codes, flags of behaviour, and the message of an error.

Loads nothing: it runs before the words are read.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from engine.cli.terminal_text import write_error
from engine.errors import EngineError

FAILED = 1
USAGE = 2
PARTLY_READ = 3
MANY_REJECTS = 4
INTERRUPTED = 130

# Flags about how the command behaves, not what it does.
QUIET, PLAIN, DEBUG = "--quiet", "--no-color", "--debug"


def split_flags(words: list[str]) -> tuple[set[str], list[str]]:
    """(set of --quiet, --no-color, --debug found, other words in order); words from `--` on are never flags."""
    end = words.index("--") if "--" in words else len(words)
    flags = {word for word in words[:end] if word in (QUIET, PLAIN, DEBUG)}
    return flags, [*(word for word in words[:end] if word not in flags), *words[end:]]


def report_error(error: BaseException) -> int:
    """Print an error, and the commands it proposes, to stderr; return 130 interrupt, 2 EngineError, 1 others.

    After an OSError the output that is not yet written is dropped.
    """
    match error:
        case KeyboardInterrupt():
            say_interrupted()
            return INTERRUPTED
        case EngineError():
            write_error(f"engine: {error}\n")
            for line in correction_lines(str(error)):
                write_error(line)
            return USAGE
        case OSError():
            # Rooms tell of their files by an error of this package, so this is most likely the output: a full disk.
            if not isinstance(error, BrokenPipeError):
                write_error(f"engine: {error}\n")
            discard_output()
            return FAILED
        case MemoryError():
            sys.stderr.write("engine: out of memory; read fewer files at once, or give --workers with --export\n")
            return FAILED
        case _:
            write_error(
                f"engine: unexpected {type(error).__name__}: {error}; this is a defect of engine, not of your input: "
                "run it again with --debug and report the trace\n"
            )
            return FAILED


def correction_lines(message: str) -> list[str]:
    """`try: ...` and ` or: ...` lines, with a line break, of the commands that a message makes of `sys.argv`; or []."""
    words = split_flags(sys.argv[1:])[1]
    if not words or "--" not in message:
        return []
    from engine.cli.corrections import corrected_commands, zone_of_words

    zone = zone_of_words(words) if "carry no zone" in message else None
    return [
        f"{' or' if place else 'try'}{', ' if condition else ''}{condition}: {command}\n"
        for place, (condition, command) in enumerate(corrected_commands(message, words, zone))
    ]


def say_interrupted() -> None:
    """Print to standard error that the command was interrupted; exits nothing."""
    sys.stderr.write("engine: interrupted; what was in place before is as it was\n")


def discard_output() -> None:
    """Redirect standard output to the null device, so that text still buffered is lost without an error at exit."""
    # What is still buffered has nowhere to go, and Python would try once more at its end.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
