"""Minutes that all liquid series of a market lack: lost by their feed, or without a trade anywhere.

No rate of a single series explains such minutes, so how many there are must tell: a feed fails rarely, a market that is
silent is so often. A few are outages; of many, neither is sure. Pure: frame in, number out.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from engine.schema import SEGMENTS_PER_SESSION

SHORT_SLOTS = 3  # a whole market of liquid symbols is not silent for longer
PASSES = 0.03  # chance that a bar is there although its feed is down
RATE_SHAPE = 0.5  # of the rate of outages of a feed: most have fewer than the mean, some have many
BAD_FEEDS = 0.01  # share of feeds that lose minutes at any rate
SILENT_MARKETS = 0.05  # share of markets with silent minutes
SILENT_NIGHTS = 0.25  # that of markets around the clock
AROUND_THE_CLOCK = 20 * 60  # minutes of a segment
RATE_RANGE = 9.2  # the logarithm of the range of rates
GOES_ON = 0.3  # chance that a silent market is so in the next slot too
# Share of the short ranges that last one, two and three slots. Silence at night comes by lone minutes, outages do not.
OUTAGE_LENGTHS, SILENCE_LENGTHS = (0.5, 0.3, 0.2), (0.7, 0.21, 0.09)
SILENCE = 0.95  # probability from which minutes that all lack are nobody's
SURELY_SILENT = math.log(SILENCE / (1 - SILENCE))


def odds_of_short_outages(outages: pl.DataFrame, usual: float, segment_minutes: float) -> float:
    """Log odds that the short ranges are outages, and not silent minutes of a market that often has some; none: infinite.

    n of them at different times of day are n outages where `usual` ones are expected, at a rate that is gamma distributed
    with shape `RATE_SHAPE`, or of one of the `BAD_FEEDS`, at any rate (log-uniform); or n minutes in which nobody trades, as
    `SILENT_MARKETS` of the markets of liquid symbols have (`SILENT_NIGHTS` of those around the clock), at any rate, each
    minute longer with the chance `GOES_ON` (around the clock `SILENCE_LENGTHS`, against `OUTAGE_LENGTHS`). In such minutes
    some symbols trade, or none: with a chance that they all share, mostly near 0 or 1 (Jeffreys' prior), where an outage
    lets a bar pass with the chance `PASSES`.

    Parameters
    ----------
    outages : DataFrame
        `ordinal, first, length, symbols, peers` of the ranges that are improbable at the rates of the symbols.
    usual : float
        Outages expected.
    segment_minutes : float
        Length of the usual segment.
    """
    short = outages.filter(pl.col("length") <= SHORT_SLOTS)
    times = short.group_by(pl.col("ordinal") % SEGMENTS_PER_SESSION, "first").agg(pl.col("length").max())
    n = times.height
    if not n:
        return np.inf
    chance = RATE_SHAPE / (RATE_SHAPE + usual)
    as_usual = RATE_SHAPE * math.log(chance) + n * math.log1p(-chance)
    as_usual += math.lgamma(n + RATE_SHAPE) - math.lgamma(n + 1) - math.lgamma(RATE_SHAPE)
    as_outages = float(np.logaddexp(as_usual + math.log1p(-BAD_FEEDS), math.log(BAD_FEEDS / RATE_RANGE / n)))
    lengths = times["length"].to_numpy().astype(np.int64)
    longer = float(lengths.sum()) - n
    at_night = segment_minutes >= AROUND_THE_CLOCK
    as_silence = math.log((SILENT_NIGHTS if at_night else SILENT_MARKETS) / RATE_RANGE / n)
    if at_night:
        as_outages += float(np.log(OUTAGE_LENGTHS)[lengths - 1].sum())
        as_silence += float(np.log(SILENCE_LENGTHS)[lengths - 1].sum())
    else:
        as_silence += longer * math.log(GOES_ON)
    lacking = float((short["symbols"] * short["length"]).sum())
    there = float(((short["peers"] - short["symbols"]).clip(0) * short["length"]).sum())
    if_outages = lacking * math.log1p(-PASSES) + there * math.log(PASSES)
    if_silence = math.lgamma(lacking + 0.5) + math.lgamma(there + 0.5) - math.lgamma(lacking + there + 1)
    if_silence -= math.log(math.pi)
    return as_outages - as_silence + max(if_outages - if_silence, 0.0)
