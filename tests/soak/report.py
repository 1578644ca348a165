"""Lines of the fault table: what was done to an export, how often, what came of it, and what that bounds."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass

# 0 in n: with 95 % confidence the true rate is below 3 / n, as (1 - 3 / n)^n is about 5 % (the rule of three).
RULE_OF_THREE = 3.0
HEADS = ("fault", "times", "wrong", "seen", "bound (95 %)")
WIDTHS = (38, 7, 7, 66, 22)


@dataclass(frozen=True)
class Line:
    """One kind of fault.

    Attributes
    ----------
    fault : str
        What was injected.
    times : int
        How often.
    wrong : int
        How often it came out wrong.
    seen : tuple of str
        What was observed.
    failures : tuple of str
        The first few that were wrong.
    """

    fault: str
    times: int
    wrong: int
    seen: tuple[str, ...]
    failures: tuple[str, ...] = ()

    @property
    def bound(self) -> str:
        """What the count says about the rate."""
        if self.wrong:
            return f"{self.wrong} in {self.times:,}: FAILED"
        if self.times <= RULE_OF_THREE:
            return f"0 in {self.times}: no bound"
        # Rounded up, so that what is printed is true.
        return f"0 in {self.times:,}: < {math.ceil(1000 * RULE_OF_THREE / self.times) / 10:g} %"

    @property
    def failed(self) -> bool:
        """Whether anything was wrong, or nothing was done at all."""
        return bool(self.wrong) or not self.times

    def as_json(self) -> dict[str, object]:
        """The line for a file."""
        return {**asdict(self), "bound": self.bound}


def heading() -> str:
    """Head of the table."""
    return "\n".join([_cells([[head] for head in HEADS]), "  ".join("-" * width for width in WIDTHS)])


def row(line: Line) -> str:
    """One line of the table; what failed stands below it."""
    fault, seen = (
        textwrap.wrap(text, width) for text, width in ((line.fault, WIDTHS[0]), ("; ".join(line.seen), WIDTHS[3]))
    )
    shown = _cells([fault, [f"{line.times:,}"], [f"{line.wrong:,}"], seen, [line.bound]])
    return "\n".join([shown, *(f"  WRONG: {failure}" for failure in line.failures)])


def first(failures: Sequence[str], most: int = 5) -> tuple[str, ...]:
    """The first few of them."""
    return tuple(failures[:most])


def _cells(cells: Sequence[Sequence[str]]) -> str:
    height = max(map(len, cells))
    full = [[*cell, *[""] * (height - len(cell))] for cell in cells]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, WIDTHS, strict=True))
        for line in zip(*full, strict=True)
    ]
    return "\n".join(line.rstrip() for line in lines)
