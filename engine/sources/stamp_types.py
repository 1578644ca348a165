"""What is known of the stamps of a file before they are read (`Reading`), and what came of reading them (`Stamps`)."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

import polars as pl

NAIVE = pl.Datetime("ns")

ZONES_OF_LETTERS = {
    "America/New_York": ("EST", "EDT", "ET"),
    "America/Chicago": ("CST", "CDT", "CT"),
    "America/Denver": ("MST", "MDT", "MT"),
    "America/Los_Angeles": ("PST", "PDT", "PT"),
    "Europe/London": ("BST",),
    "Europe/Berlin": ("CET", "CEST"),
    "Europe/Helsinki": ("EET", "EEST"),
    "Asia/Tokyo": ("JST",),
    "Asia/Hong_Kong": ("HKT",),
    "Asia/Kolkata": ("IST",),
    "Australia/Sydney": ("AEST", "AEDT"),
}


@dataclass(frozen=True)
class Reading:
    """Column, zone, unit and format with which the stamps of a file are read.

    Attributes
    ----------
    path : str
        For errors.
    column : str
        Name of the column; `utc` or `gmt` in it says the zone.
    timezone : str or None
        Zone of stamps without one.
    unit, time_format : str or None
        As `ReadOptions` has them.
    day : date or None
        From the file's name, for stamps that are times of day.
    is_bars : bool
        Whether one series has a stamp at most once, so that a repeated local time is its second pass.
    """

    path: str
    column: str
    timezone: str | None = None
    unit: str | None = None
    time_format: str | None = None
    day: dt.date | None = None
    is_bars: bool = False

    @property
    def zone(self) -> str | None:
        """Zone of stamps that carry none: `timezone`, else UTC if the column's name has `utc` or `gmt`; else None."""
        if self.timezone is not None:
            return self.timezone
        return "UTC" if re.search(r"utc|gmt", self.column.lower()) else None

    @property
    def zones_of_name(self) -> list[str]:
        """Zones whose clocks show the letters in parentheses in the column's name: `Time (EET)`; [] without any."""
        letters = re.search(r"\(([A-Z]{2,5})\)", self.column)
        return [zone for zone, known in ZONES_OF_LETTERS.items() if letters is not None and letters[1] in known]


@dataclass(frozen=True)
class Stamps:
    """Instants of a column, with the reason of each that was refused.

    Attributes
    ----------
    ts : Series of Datetime[ns, UTC] (of bars perhaps us, as they came)
        Null where there is none, or it could not be read.
    refused : Series of String
        Reason for a local time that does not exist, or occurs twice and cannot be told apart; else null.
    dates_only : bool
        The stamps are dates, so midnights.
    notes : tuple of str
        What was inferred.
    """

    ts: pl.Series
    refused: pl.Series
    dates_only: bool = False
    notes: tuple[str, ...] = ()


def as_stamps(ts: pl.Series, refused: pl.Series | None = None, *notes: str, dates_only: bool = False) -> Stamps:
    """A `Stamps` of UTC instants, reasons of refused rows (None: all null) and notes."""
    none = pl.Series([None], dtype=pl.String).new_from_index(0, len(ts)) if refused is None else refused
    return Stamps(ts.alias("ts"), none.alias("refused"), dates_only, tuple(notes))
