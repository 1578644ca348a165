"""The causes of gaps: one row per cause, read by attribution, rules, findings, reports and the documentation.

A new cause is one row here, and code that attributes gaps to it (`attribution.attribute_gaps`). `docs/causes.md` shows
the table.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Family = Literal["feed", "market", "calendar", "unknown"]


class Cause(NamedTuple):
    """A cause of gaps.

    Attributes
    ----------
    name : str
        As in the column `cause` of gaps and outages, in rules, and as `check` of its findings.
    is_loss : bool
        Bars existed and are missing.
    explained : bool
        Nothing is missing: slots of a gap that is attributed to it surely enough count as explained.
    excluded : bool
        Nothing was to be expected: `quality_adjusted` leaves these slots out.
    severity : {"error", "warning", "info"} or None
        Of its findings; None: it is ordinary, so there are none.
    text : str
        The event, as findings say it.
    remedy : str or None
        The repair that findings propose.
    meaning : str
        One sentence for the glossary of reports.
    rule : str
        When a gap is attributed to it, for the documentation.
    family : {"feed", "market", "calendar", "unknown"}
        Its colour and pattern in reports: lost by feed or recorder, rightly absent, a matter of the calendar,
        undecided.
    colour, mark : str
        In plots: a colour (of its family) and a Vega point shape of its own.
    """

    name: str
    is_loss: bool
    explained: bool
    excluded: bool
    severity: Literal["error", "warning", "info"] | None
    text: str
    remedy: str | None
    meaning: str
    rule: str
    family: Family
    colour: str
    mark: str


# Gravest first: legends, glossaries and the choice of gaps to picture follow this order.
CAUSE_TABLE = (
    Cause(
        "feed_loss",
        is_loss=True,
        explained=False,
        excluded=False,
        severity="warning",
        text="the feed was down",
        remedy="ask the vendor for these slots again",
        meaning="Many series of one source lack the same slots: the feed, or whoever recorded it, was down.",
        rule="the symbols that lack the same slots outweigh those that have them, against a common silence; or an "
        "incident of the vendor is on file",
        family="feed",
        colour="#d1495b",
        mark="square",
    ),
    Cause(
        "symbol_loss",
        is_loss=True,
        explained=False,
        excluded=False,
        severity="warning",
        text="bars of this symbol were lost",
        remedy="ask the vendor for this symbol's slots again",
        meaning="Bars of this series alone were lost: trades are known from inside the hole, or it is far too long for "
        "how often the symbol trades at that time of day.",
        rule="trade prints lie inside the hole, the feed's counter skips there, a coarser bar has more, or the holes are "
        "seams of pages; or this symbol alone is silent for longer than its rate allows",
        family="feed",
        colour="#e07a2f",
        mark="triangle-up",
    ),
    Cause(
        "halt",
        is_loss=False,
        explained=True,
        excluded=False,
        severity="info",
        text="trading was halted",
        remedy=None,
        meaning="Trading was halted: a symbol that trades steadily stops, and reopens with a jump or an auction. "
        "Nothing is missing.",
        rule="a file of halts has these slots; or a symbol that trades all the time stops, and reopens away from its "
        "price or with the volume of an auction",
        family="market",
        colour="#2f7fd0",
        mark="diamond",
    ),
    Cause(
        "venue_halt",
        is_loss=False,
        explained=True,
        excluded=False,
        severity="info",
        text="the venue was interrupted",
        remedy=None,
        meaning="The whole venue did not trade: a circuit breaker or an outage that is on record. Nothing is missing.",
        rule="a third of its slots or more lie inside a known interruption of the venue, or an incident of it is on "
        "file; those slots are explained",
        family="market",
        colour="#2f7fd0",
        mark="triangle-up",
    ),
    Cause(
        "calendar_suspect",
        is_loss=False,
        explained=False,
        excluded=False,
        severity="warning",
        text="the calendar expects slots that nobody trades in",
        remedy="amend the calendar: these slots are a break or closed time",
        meaning="All series lack the same slots in every session: the calendar expects hours in which the venue is "
        "closed.",
        rule="nearly every session of every symbol lacks these slots, and those beside them are there",
        family="calendar",
        colour="#7d4fa8",
        mark="cross",
    ),
    Cause(
        "late_open",
        is_loss=False,
        explained=False,
        excluded=False,
        severity="info",
        text="the session opened late",
        remedy="amend the calendar for this date, if the venue confirms it",
        meaning="All series of the calendar start late in this session: the venue opened late, or the calendar is "
        "wrong.",
        rule="all symbols begin late, with the volume of an opening; or do so every session; or a dealer's feed beside a "
        "holiday",
        family="calendar",
        colour="#9a6fc0",
        mark="triangle-right",
    ),
    Cause(
        "early_close",
        is_loss=False,
        explained=False,
        excluded=False,
        severity="info",
        text="the session closed early",
        remedy="amend the calendar for this date, if the venue confirms it",
        meaning="All series of the calendar stop early in this session: the venue closed early, or the calendar is "
        "wrong.",
        rule="all symbols end early, with the volume of a close; or do so every session; or a dealer's feed beside a "
        "holiday",
        family="calendar",
        colour="#9a6fc0",
        mark="triangle-left",
    ),
    Cause(
        "unknown",
        is_loss=False,
        explained=False,
        excluded=False,
        severity="info",
        text="bars are missing for no reason that is known",
        remedy=None,
        meaning="The evidence at hand decides for none of the others.",
        rule="no other cause is surer than 0.7, the symbol is absent for 20 sessions in a row, a quote that comes and "
        "goes was away as long at another time, an edge that the series lacks in most sessions, or all symbols lack so many minutes that a feed loses them or nobody trades",
        family="unknown",
        colour="#7c8691",
        mark="stroke",
    ),
    Cause(
        "refused",
        is_loss=False,
        explained=False,
        excluded=False,
        severity=None,
        text="rows of these slots were refused",
        remedy="mend the rows: the cells are in `rejects`",
        meaning="Rows came for these slots and were refused, since they are no valid bars. The bars are not lost at the "
        "vendor, and not there. Check `refused` reports the file.",
        rule="a row of the slot was refused, and its cells tell stamp and symbol",
        family="feed",
        colour="#b5533c",
        mark="triangle-down",
    ),
    Cause(
        "off_grid",
        is_loss=False,
        explained=False,
        excluded=False,
        severity=None,
        text="rows of these slots lie off the grid",
        remedy="choose the interval or the alignment that fits the stamps",
        meaning="Rows came for these slots, stamped between their starts, so they are no bars of the grid. Checks "
        "`stamp`, `interval` and `unscheduled` report the series.",
        rule="a row of the series lies inside the slot, not at its start",
        family="feed",
        colour="#c98a3b",
        mark="cross",
    ),
    Cause(
        "not_covered",
        is_loss=False,
        explained=False,
        excluded=True,
        severity="info",
        text="the files do not cover these slots",
        remedy=None,
        meaning="The files do not reach there: before the first or after the last row of all series of the feed, on "
        "dates of which no file was given, or between sessions that are samples.",
        rule="no series of the feed has a row before it, or after it, within a week of sessions, or on that whole date; "
        "or the symbol's other sessions are a sample",
        family="calendar",
        colour="#8d99a6",
        mark="square",
    ),
    Cause(
        "not_listed",
        is_loss=False,
        explained=False,
        excluded=True,
        severity="info",
        text="the symbol was not listed",
        remedy=None,
        meaning="Before the first or after the last bar the series ever had: it did not trade yet, or no longer.",
        rule="before the symbol's first row ever, or after its last, while the feed covers earlier or later sessions",
        family="calendar",
        colour="#98a2ad",
        mark="triangle-down",
    ),
    Cause(
        "no_trade",
        is_loss=False,
        explained=True,
        excluded=False,
        severity=None,
        text="nothing traded",
        remedy=None,
        meaning="Nothing traded: a hole of this length is ordinary for this symbol at that time of day. Nothing is "
        "missing.",
        rule="the feed's counter goes on without a jump, or a coarser bar has no more; or a run this long is plausible at "
        "the symbol's own rate for that time of day (`chance` is its probability)",
        family="market",
        colour="#6f9bb8",
        mark="circle",
    ),
)
CAUSES = tuple(cause.name for cause in CAUSE_TABLE)
LOSSES = tuple(cause.name for cause in CAUSE_TABLE if cause.is_loss)
EXPLAINING = tuple(cause.name for cause in CAUSE_TABLE if cause.explained)
EXCLUDED = tuple(cause.name for cause in CAUSE_TABLE if cause.excluded)
REPORTED = tuple(cause.name for cause in CAUSE_TABLE if cause.severity)
