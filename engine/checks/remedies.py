"""Remedies of findings as text: alternatives in the order in which to try them, with the options of the command line.

A check names what would mend its finding; `runtime.remedy_trials` applies it to the rows, and keeps what helps.
"""

from __future__ import annotations

import re

SEPARATOR = "; or "
ASK_WHAT_IS_MARKED = "ask the vendor what a stamp marks"
# Options of reading that a finding may propose; the value follows a blank or `=`.
OPTION = re.compile(r"--(timezone|shift|stamp|calendar|interval)[ =]([^\s;,()]+)")


def any_of(*alternatives: str) -> str:
    """The remedy that consists of these alternatives, the first to be tried first; `alternatives_of` takes it apart."""
    return SEPARATOR.join(alternatives)


def alternatives_of(remedy: str | None) -> list[str]:
    """The alternatives of a remedy, in their order; none of None."""
    return remedy.split(SEPARATOR) if remedy else []


def options_of(alternative: str) -> dict[str, str]:
    """Options of one alternative by name, without dashes (`{"stamp": "end"}`); empty: it is not for a command line."""
    return dict(OPTION.findall(alternative))


def shift_option(seconds: float) -> str:
    """The option `--shift` that adds so many seconds to each stamp, in the largest unit that states them exactly."""
    unit, size = next((one for one in (("h", 3600), ("m", 60)) if seconds % one[1] == 0), ("s", 1))
    # A value that begins with a dash would be read as an option of its own.
    return f"--shift{'=' if seconds < 0 else ' '}{seconds / size:g}{unit}"
