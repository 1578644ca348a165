"""Prior probabilities of the causes of gaps: how often each occurs before a gap is looked at. docs/causes.md states them."""

from __future__ import annotations

HOURS_PER_LOSS = 650.0  # of open market between losses of one symbol, and of a whole feed: one in 100 sessions of XNYS
HALTS_PER_LOSS = 0.2
SURE = 0.7  # posterior probability from which a cause is named; below it the cause is unknown


def losses_per_slot(slot_minutes: float) -> float:
    """Prior probability that a loss begins in a given slot: its length over `HOURS_PER_LOSS`."""
    return slot_minutes / (60 * HOURS_PER_LOSS)
