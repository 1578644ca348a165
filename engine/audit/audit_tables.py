"""The tables of an audit: columns and types. `engine sql` joins them to bars; the report and the rules read them."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from engine.checks.findings import FINDINGS
from engine.schema import TS, Schema

STRING, DATE, FLOAT, LONG = pl.String(), pl.Date(), pl.Float64(), pl.Int64()
KEY: Schema = {"symbol": STRING, "price_type": STRING, "interval": STRING}
# `filled` slots are present for `quality` and not for `quality_adjusted`: a source made their bars up.
COUNTS: Schema = dict.fromkeys(("expected", "present", "missing", "explained", "excluded", "filled"), LONG)
AT_THE_DOOR: Schema = dict.fromkeys(("duplicates", "corrections", "off_grid", "out_of_session", "zero_volume"), LONG)

# Rows in closing auctions, and how much of the volume, in percent, lies in them and outside of sessions and auctions.
VOLUMES: Schema = {"auctions": LONG, "auction_volume": FLOAT, "outside_volume": FLOAT}

# One row per series: its whole life in the audit. `traded` is the share of slots with a bar where the feed was up, 0-1;
# `activity` is what it makes of the symbol: liquid, mixed or thin.
SERIES: Schema = {
    **KEY,
    "calendar": STRING,
    "source": STRING,
    "first_session": DATE,
    "last_session": DATE,
    "sessions": LONG,
    "rows": LONG,
    **COUNTS,
    **AT_THE_DOOR,
    **VOLUMES,
    "quality": FLOAT,
    "quality_adjusted": FLOAT,
    "traded": FLOAT,
    "activity": STRING,
}
QUALITY: Schema = {**KEY, "session": DATE, **COUNTS, **AT_THE_DOOR, "quality": FLOAT, "quality_adjusted": FLOAT}
# `evidence` is a sentence. `outage_id` is the same for all gaps of one outage, over segments, sessions and symbols.
GAPS: Schema = {
    **KEY,
    "session": DATE,
    "segment": STRING,
    "gap_start": TS,
    "gap_end": TS,
    "bar_count": LONG,
    "position": STRING,
    "cause": STRING,
    "confidence": FLOAT,
    "evidence": STRING,
    "outage_id": STRING,
    "chance": FLOAT,
}
OUTAGES: Schema = {
    "outage_id": STRING,
    "calendar": STRING,
    "cause": STRING,
    "first_session": DATE,
    "start_ts": TS,
    "end_ts": TS,
    "symbols": LONG,
    "gaps": LONG,
    "missing": LONG,
    "confidence": FLOAT,
    "evidence": STRING,
}
# Findings that another one tells: as one of its parts (the same in another series), or as its consequence. `finding` is
# the fingerprint of that one.
PARTS: Schema = {"finding": STRING, "role": STRING, **{n: t for n, t in FINDINGS.items() if n != "parts"}}
# Losses as rows to send to the vendor; `--incidents` reads them. `symbols` are names with `;` between them.
INCIDENTS: Schema = {
    "start_ts": TS,
    "end_ts": TS,
    "symbols": STRING,
    "kind": STRING,
    "source": STRING,
    "missing": LONG,
    "evidence": STRING,
}
# Bars around the gaps that the report draws.
STRIPS: Schema = {**KEY, "gap_start": TS, "ts": TS, "close": FLOAT, "volume": FLOAT}
SESSIONS: Schema = {
    "calendar": STRING,
    "session": DATE,
    "segment": STRING,
    "segment_open": TS,
    "segment_close": TS,
}
CALENDARS: Schema = dict.fromkeys(("calendar", "provider", "version", "time_zone", "overrides_hash"), STRING)
# What was read: `problem` is null where nothing was wrong.
FILES: Schema = {"source": STRING, "rows": LONG, "problem": STRING}

# Of audits of exports that were filled: what second sources were asked for, and how each request ended.
FILLS: Schema = {
    **KEY,
    "session": DATE,
    "gap_start": TS,
    "gap_end": TS,
    "bar_count": LONG,
    **dict.fromkeys(("cause", "source", "outcome", "detail"), STRING),
}
OPTIONAL_TABLES: Mapping[str, Schema] = {"fills": FILLS}

AUDIT_TABLES: Mapping[str, Schema] = {
    "series": SERIES,
    "quality": QUALITY,
    "gaps": GAPS,
    "outages": OUTAGES,
    "incidents": INCIDENTS,
    "findings": FINDINGS,
    "parts": PARTS,
    "strips": STRIPS,
    "sessions": SESSIONS,
    "calendars": CALENDARS,
    "files": FILES,
}
