"""Allow-lists: findings that somebody has looked at and accepts for a time. Each entry says why, and until when."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from engine.audit.events import fits_all_parts
from engine.audit.rule_language import nearest
from engine.audit.rules import matching
from engine.errors import ParameterError
from engine.toml_text import parse_toml, read_regular_text

PATTERNS = ("fingerprint", "check_name", "symbol", "interval", "session", "source")
KEYS = (*PATTERNS, "reason", "until")


@dataclass(frozen=True)
class Allowance:
    """One entry: what it fits (shell patterns, all must fit; a fingerprint is taken to the letter), why, until when."""

    fits: Mapping[str, str]
    reason: str
    until: dt.date

    def matches(self, found: pl.DataFrame, parts: pl.DataFrame | None = None) -> pl.Series:
        """Mask findings that fit ALL patterns (fingerprint exactly, null never), also if the entry has expired.

        A pattern on symbols fits an event of several (`parts`) if it fits all of them.
        """
        fits = pl.select(pl.repeat(value=True, n=found.height, dtype=pl.Boolean)).to_series()
        for name, pattern in self.fits.items():
            values = found[name].cast(pl.String)
            if name == "fingerprint":
                fits &= (values == pattern).fill_null(value=False)
            elif name == "symbol" and parts is not None:
                fits &= fits_all_parts(found, parts, partial(matching, patterns=[pattern]))
            else:
                fits &= matching(values, [pattern])
        return fits

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.fits.items())


def read_allowlist(path: Path) -> tuple[Allowance, ...]:
    """Read a TOML file: one Allowance per `[[allow]]`, in order; ParameterError if unreadable or invalid.

    Raises
    ------
    ParameterError
        The file cannot be read, or an entry is not valid: the message names the file, the entry and what would be valid.
    """
    try:
        content = parse_toml(read_regular_text(path))
    except (OSError, ValueError) as error:
        raise ParameterError(f"{path}: no allow-list could be read: {error}") from error
    return parse_allowlist(content, str(path))


def parse_allowlist(content: Mapping[str, Any], name: str = "allow-list") -> tuple[Allowance, ...]:
    """Return one Allowance per `[[allow]]`, none if absent; ParameterError for other keys or an invalid entry."""
    strange = [key for key in content if key != "allow"]
    given = content.get("allow", [])
    if strange or not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise ParameterError(f"{name}: received {strange[0] if strange else given!r}; valid: tables [[allow]]")
    return tuple(parse_allowance(f"{name}: entry {number}", one) for number, one in enumerate(given, 1))


def parse_allowance(where: str, given: Mapping[str, Any]) -> Allowance:
    """Parse one entry, expired or not; ParameterError for unknown keys, no pattern, no reason, `until` not a date."""
    for key in given:
        if key not in KEYS:
            raise ParameterError(f"{where}: unknown key {key!r}{nearest(key, KEYS)}; valid: {', '.join(KEYS)}")
    # TOML has dates of its own.
    fits = {name: str(given[name]) for name in PATTERNS if name in given}
    if not fits:
        raise ParameterError(f"{where}: fits everything; valid: at least one of {', '.join(PATTERNS)}")
    reason, until = given.get("reason"), given.get("until")
    if not isinstance(reason, str) or not reason.strip():
        raise ParameterError(f"{where}: reason: received {reason!r}; valid: some text")
    if isinstance(until, dt.datetime) or not isinstance(until, dt.date):
        raise ParameterError(f"{where}: until: received {until!r}; valid: a date such as until = 2026-12-31")
    return Allowance(fits, reason.strip(), until)
