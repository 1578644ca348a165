"""Files of trading halts, and of incidents of a venue or a vendor -> `EVENTS`: what happened to whom, from when to when.

1. `event_tables.event_table` reads a file (delimited text, RSS of Nasdaq, DBN of schema `status`) or a frame as text by columns.
2. Columns take roles by their names (`HALT_ROLES`, `INCIDENT_ROLES`), whoever delivered the file.
3. Stamps become UTC: those with a zone as they are, others in the column `zone`, the exchange's zone, or the caller's.
4. A row that cannot be understood goes to `rejects` with file, line and reason; the others count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias
from zoneinfo import available_timezones

import numpy as np
import polars as pl

from engine.arguments import describe_value
from engine.errors import ParameterError
from engine.schema import REJECTS, TS, Schema, empty, rejected_rows
from engine.sources.event_tables import EventSource, event_table
from engine.sources.layouts.layout import normalize_name

EventSources: TypeAlias = EventSource | Sequence[EventSource] | None

# `symbol` null: all symbols. `end` null: open, it counts to the close of its session. `event` names file and line.
EVENTS: Schema = {
    "symbol": pl.String(),
    "start": TS,
    "end": TS,
    "cause": pl.String(),
    "evidence": pl.String(),
    "event": pl.String(),
}
US_ZONE = "America/New_York"
ALL_SYMBOLS = ("", "*", "ALL")
SHOWN_ROWS = 20  # bad rows of a kind that are named one by one
FRAME = "<frame>"
Roles = Mapping[str, str]
HALT_ROLES: Roles = {
    "symbol": "issuesymbol symbol ticker sym rawsymbol",
    "start_date": "haltdate",
    "start": "halttime halt haltdatetime haltstart haltedat halted halttimestamp start starttime",
    "end_date": "resumptiondate resumedate",
    "end": (
        "resumptiontradetime nyseresumetime resumetradetime resumption resumptiontime resumetime resumptiondatetime "
        "resumedat resumed resume haltend end endtime"
    ),
    "text": "reasoncodes reasoncode reason haltreason code text",
    "zone": "zone timezone tz",
}
INCIDENT_ROLES: Roles = {
    "symbol": "symbols symbol ticker tickers",
    "start": "start startts starttime begin from",
    "end": "end endts endtime until to",
    "kind": "kind cause type",
    "text": "text description title reason evidence",
    "vendor": "source vendor venue",
    "zone": "zone timezone tz",
}
# Columns that only exchanges of the United States write: their times are those of New York.
US_COLUMNS = {"issuesymbol", "haltdate", "resumptiondate", "resumedate", "nyseresumetime", "resumptiontradetime"}
KINDS = ("feed_loss", "symbol_loss", "venue_halt", "halt")
KIND_WORDS = {"loss": "feed_loss", "vendor": "feed_loss", "feed": "feed_loss", "venue": "venue_halt", "": "feed_loss"}
NOTHING = ("n/a", "na", "nan", "null", "none", "-", "--")
STAMPS = (
    *("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y%m%d %H:%M:%S%.f"),
    *("%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d%H%M%S%3f"),
)
# Digits of seconds, milli-, micro- and nanoseconds from 1973 on; of other numbers of digits are dates and times.
EPOCH = r"^(?:\d{9,10}|\d{13}|\d{16}|\d{19})$"
US_STAMPS = ("%m/%d/%Y %H:%M:%S%.f", "%m/%d/%Y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p")
ZONED = ("%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M%z")
A_STAMP = "a date and a time such as 2024-01-31 10:05:00 or 01/31/2024 10:05:00"


class EventRows(NamedTuple):
    """What files of events say.

    Attributes
    ----------
    events : DataFrame of `EVENTS`
    rejects : DataFrame of `schema.REJECTS`
        Rows that cannot be understood.
    files : tuple of (str, int)
        Each file that was read, and its number of rows.
    """

    events: pl.DataFrame
    rejects: pl.DataFrame
    files: tuple[tuple[str, int], ...]


def read_events(halts: EventSources, incidents: EventSources, timezone: str | None = None) -> EventRows:
    """Events of all files and frames; of rows of one symbol and start an open one gives way to one with an end.

    Parameters
    ----------
    halts, incidents : path, frame or list of them, optional
    timezone : str, optional
        Of stamps without a zone, in files that are not an exchange's.

    Raises
    ------
    ParameterError
        A file cannot be read, or has no column of the start.
    """
    parts = [
        read_event_file(one, role, timezone)
        for role, sources in (("halts", halts), ("incidents", incidents))
        for one in listed_sources(role, sources)
    ]
    events = pl.concat([empty(EVENTS), *(part.events for part in parts)])
    return EventRows(
        without_superseded(events),
        pl.concat([empty(REJECTS), *(part.rejects for part in parts)]),
        tuple(file for part in parts for file in part.files),
    )


def listed_sources(name: str, sources: EventSources) -> list[EventSource]:
    """The sources as a list; ParameterError for anything but paths and frames."""
    listed = [] if sources is None else [sources] if isinstance(sources, str | Path | pl.DataFrame) else [*sources]
    wrong = [one for one in listed if not isinstance(one, str | Path | pl.DataFrame)]
    if wrong:
        raise ParameterError(f"{name}: received {describe_value(wrong[0])}; valid: a file, a frame, or a list of them")
    return listed


def without_superseded(events: pl.DataFrame) -> pl.DataFrame:
    """Events without those that are open while another of the same symbol, cause and start has an end."""
    # Exchanges publish a halt twice: when it begins, and again with its resumption.
    if not events["end"].null_count():
        return events
    key, is_open = ["symbol", "cause", "start"], pl.col("end").is_null()
    ended = events.filter(~is_open).select(key).unique()
    left = events.filter(is_open).join(ended, on=key, how="anti", nulls_equal=True, maintain_order="left")
    return pl.concat([events.filter(~is_open), left])


def read_event_file(source: EventSource, role: str, timezone: str | None) -> EventRows:
    """Events and rejects of one file or frame; `role` is `halts` or `incidents`, and names the option in messages.

    Raises
    ------
    ParameterError
        It cannot be read, or has no column of the start.
    """
    table = event_table(source, role)
    name = source if isinstance(source, str | Path) else FRAME
    files = ((str(name), table.height),)
    if table.columns == ["row"]:
        return EventRows(empty(EVENTS), empty(REJECTS), files)
    roles = HALT_ROLES if role == "halts" else INCIDENT_ROLES
    columns = columns_of_roles(table, roles)
    if "start" not in columns:
        valid = " or ".join(roles["start"].split()[:3])
        others = ", ".join(column for column in table.columns if column != "row")
        raise ParameterError(f"{role} {name}: no column of the start ({valid}); it has {others}")
    cells = table.select(
        "row", *(pl.col(column).alias(role) for role, column in columns.items())
    )  # fmt: skip
    zone = US_ZONE if US_COLUMNS & {normalize_name(column) for column in table.columns} else timezone
    read = with_instants(with_default_columns(cells), zone)
    judged = read.with_columns(pl.coalesce(row_faults(read)).alias("fault"))
    rejects = bad_rows(judged, table, str(name))
    good = judged.filter(pl.col("fault").is_null())
    file_name = Path(name).name
    return EventRows(
        halt_events(good, file_name) if role == "halts" else incident_events(good, file_name), rejects, files
    )


def columns_of_roles(table: pl.DataFrame, roles: Roles) -> dict[str, str]:
    """Role -> column of the first of its names that the table has; case, blanks and punctuation do not count."""
    named: dict[str, str] = {}
    for column in table.columns:
        named.setdefault(normalize_name(column), column)
    found = {
        role: next((named[name] for name in names.split() if name in named), None) for role, names in roles.items()
    }
    return {role: column for role, column in found.items() if column is not None and column != "row"}


def with_default_columns(cells: pl.DataFrame) -> pl.DataFrame:
    """All roles as columns: text stripped, blank and `N/A` null; stamps of a frame as they are; absent ones null."""
    every = dict.fromkeys((*HALT_ROLES, *INCIDENT_ROLES))
    stripped = [
        pl.col(name)
        if cells.schema[name].is_temporal()
        else pl.when(~clean_text(name).str.to_lowercase().is_in(["", *NOTHING])).then(clean_text(name)).alias(name)
        for name in cells.columns
        if name != "row"
    ]
    absent = [pl.lit(None, pl.String).alias(name) for name in every if name not in cells.columns]
    return cells.select("row", *stripped, *absent)


def clean_text(name: str) -> pl.Expr:
    """Expression: a column as text without blanks and quotes around it."""
    return pl.col(name).cast(pl.String, strict=False).str.strip_chars(' \t"\u00a0')


def with_instants(cells: pl.DataFrame, zone: str | None) -> pl.DataFrame:
    """Add `from_ts` and `until_ts` (UTC), and the texts `from_text`, `until_text` that they are read from."""
    zoned = cells.with_columns(pl.col("zone").cast(pl.String).fill_null(pl.lit(zone, pl.String)).alias("zone"))
    for role, name in (("start", "from"), ("end", "until")):
        day = zoned[f"{role}_date"]
        if zoned.schema[role].is_temporal() and not isinstance(zoned.schema[role], pl.Time):
            cell = zoned[role]
            text = cell.cast(pl.String)
            ts = (
                cell.cast(pl.Datetime("us"))
                if not isinstance(cell.dtype, pl.Datetime)
                else cell.dt.cast_time_unit("us")
            )
            if ts.dtype == TS or getattr(ts.dtype, "time_zone", None):
                instants = ts.dt.convert_time_zone("UTC")
            else:
                instants = local_to_utc(ts, zoned["zone"])
        else:
            # A resumption without its date is one of the day of the halt.
            dated = (
                day
                if role == "start" or zoned["start_date"].null_count() == zoned.height
                else day.fill_null(zoned["start_date"])
            )
            time = zoned[role].cast(pl.String)
            text = zoned.select(pl.concat_str(dated.cast(pl.String), time, separator=" ").fill_null(time).alias("t"))[
                "t"
            ]
            text = text.set(time.is_null(), None)
            instants = text_to_utc(text, zoned["zone"])
        zoned = zoned.with_columns(text.alias(f"{name}_text"), instants.alias(f"{name}_ts"))
    return zoned


def text_to_utc(text: pl.Series, zones: pl.Series) -> pl.Series:
    """Instants of texts: with a zone, as numbers since 1970, or local in the zone of each row; null where unreadable."""
    plain = text.str.replace(r"(\d)T(\d)", "${1} ${2}").str.replace(r"\s*(?:Z|UTC|GMT)$", "+0000")
    plain = plain.str.replace(r"(:\d\d(?:\.\d+)?)\s*([+-]\d\d)$", "${1}${2}00")
    plain = plain.str.replace(r"\s+([+-]\d\d:?\d\d)$", "${1}")
    is_zoned = plain.str.contains(r":\d\d(?:\.\d+)?[+-]\d\d:?\d\d$")
    is_number = plain.str.contains(EPOCH)
    is_us = plain.str.contains("/", literal=True)
    aware = parsed_in_turn(plain, is_zoned, ZONED, "UTC")
    local = parsed_in_turn(plain, is_us & ~is_zoned, US_STAMPS, None)
    other = parsed_in_turn(plain, ~(is_us | is_zoned | is_number), STAMPS, None)
    in_zone = local_to_utc(local.zip_with(local.is_not_null(), other), zones)
    exact = plain.set(~is_number.fill_null(value=False), None).cast(pl.Int64, strict=False)
    parts = pl.DataFrame({"aware": aware, "number": exact, "zoned": in_zone})
    return parts.select(pl.coalesce("aware", epoch_instant(pl.col("number")), "zoned").cast(TS).alias("ts"))["ts"]


def epoch_instant(number: pl.Expr) -> pl.Expr:
    """Expression: whole seconds, milli-, micro- or nanoseconds since 1970 as instants, by their size."""
    size = ((number.cast(pl.Float64).log10() - 8) / 3).floor().clip(0, 3).cast(pl.Int64)
    micros = [number * 1_000_000, number * 1000, number, number // 1000]
    told = pl.when(size == 0).then(micros[0])
    for place in range(1, len(micros)):
        told = told.when(size == place).then(micros[place])  # type: ignore[assignment]
    return told.cast(TS)


def parsed_in_turn(text: pl.Series, is_meant: pl.Series, styles: Sequence[str], zone: str | None) -> pl.Series:
    """Stamps of the texts that are meant, by the first of the styles that reads each; null where none does."""
    parsed = pl.Series("ts", [None], pl.Datetime("us", zone)).new_from_index(0, len(text))
    at = np.flatnonzero(is_meant.fill_null(value=False).to_numpy())
    for style in styles:
        if len(at):
            read = text.gather(at).str.to_datetime(style, time_unit="us", time_zone=zone, strict=False)
            fits = read.is_not_null().to_numpy()
            parsed = parsed.scatter(at[fits], read.drop_nulls())
            at = at[~fits]
    return parsed


def local_to_utc(local: pl.Series, zones: pl.Series) -> pl.Series:
    """Instants of local times in the zone of each row: the first of two that a clock shows; null without a known zone."""
    rows = pl.DataFrame({"local": local, "zone": zones.cast(pl.String)}).with_row_index("at")
    known = [zone for zone in rows["zone"].drop_nulls().unique().to_list() if zone in known_zones()]
    parts = [
        rows.filter(pl.col("zone") == zone).select(
            "at",
            pl.col("local")
            .dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
            .dt.convert_time_zone("UTC")
            .cast(TS)
            .alias("ts"),
        )
        for zone in known
    ]
    found = pl.concat([pl.DataFrame(schema={"at": pl.UInt32, "ts": TS}), *parts])
    return rows.join(found, on="at", how="left", maintain_order="left")["ts"]


@cache
def known_zones() -> frozenset[str]:
    """Names of all IANA zones."""
    return frozenset(available_timezones())


def row_faults(read: pl.DataFrame) -> list[pl.Expr]:
    """Expressions: what is wrong with a row as text with value and valid form, null if nothing; most telling first."""
    zones = read["zone"].drop_nulls().unique()
    unknown = [zone for zone in zones.to_list() if zone not in known_zones()]
    strange = pl.col("zone").is_in(unknown).fill_null(value=False)
    has_zone = pl.col("zone").is_not_null()
    unread = pl.col("from_ts").is_null()
    kind = pl.col("kind").cast(pl.String).str.to_lowercase().fill_null("")
    return [
        pl.when(pl.col("from_text").is_null()).then(pl.lit(f"start: missing; valid: {A_STAMP}")),
        pl.when(strange & (unread | (pl.col("until_ts").is_null() & pl.col("until_text").is_not_null()))).then(
            pl.format("zone: received {}; valid: an IANA zone such as America/New_York", quoted("zone"))
        ),
        pl.when(unread & ~has_zone & looks_dated("from_text")).then(
            pl.format(
                "start: received {} without a zone; valid: a stamp such as 2024-01-31T10:05:00-05:00, a column zone, or "
                "--timezone", quoted("from_text"),
            )
        ),
        pl.when(unread).then(pl.format("start: received {}; valid: {}", quoted("from_text"), pl.lit(A_STAMP))),
        pl.when(pl.col("until_text").is_not_null() & pl.col("until_ts").is_null()).then(
            pl.format("end: received {}; valid: {}, or nothing", quoted("until_text"), pl.lit(A_STAMP))
        ),
        pl.when(pl.col("until_ts") < pl.col("from_ts")).then(
            pl.format("end: received {}, before the start {}; valid: an end at the start or later", quoted("until_text"), quoted("from_text"))
        ),
        pl.when(~kind.is_in([*KINDS, *KIND_WORDS])).then(
            pl.format("kind: received {}; valid: {}", quoted("kind"), pl.lit(", ".join(KINDS)))
        ),
    ]  # fmt: skip


def quoted(name: str) -> pl.Expr:
    """Expression: a cell in quotes, cut to 60 characters."""
    return pl.format("'{}'", pl.col(name).cast(pl.String).fill_null("").str.slice(0, 60))


def looks_dated(name: str) -> pl.Expr:
    """Expression: whether a text is a local stamp of a known form."""
    return pl.col(name).str.contains(r"\d[-/]\d\d?[-/]\d.*\d:\d\d|^\d{8} \d\d:\d\d|^(?:\d{12}|\d{14}|\d{17})$")


def bad_rows(judged: pl.DataFrame, table: pl.DataFrame, source: str) -> pl.DataFrame:
    """`REJECTS` of rows with a `fault`; of each kind the first 20 are named one by one, the others share a reason."""
    bad = judged.filter(pl.col("fault").is_not_null()).select("row", "fault")
    if bad.is_empty():
        return empty(REJECTS)
    kind = pl.col("fault").str.extract(r"^([^:]*: \w+)").fill_null("")
    number = pl.int_range(pl.len()).over(kind)
    named = pl.when(number < SHOWN_ROWS).then("fault").otherwise(pl.format("{}, as in rows above", kind))
    reasons = bad.with_columns(named.alias("fault"))
    raw = table.join(reasons, on="row", how="semi", maintain_order="left")
    return rejected_rows(raw, reasons["fault"], source)


def halt_events(good: pl.DataFrame, file: str) -> pl.DataFrame:
    """`EVENTS` of halts; evidence: from when to when, the reason, file and line."""
    said = (
        pl.when(pl.col("text").is_not_null())
        .then(pl.format(": {}", pl.col("text").str.slice(0, 120)))
        .otherwise(pl.lit(""))
    )
    evidence = pl.format(
        "halted from {} {}{} ({}, line {})", stamp_text("from_ts"), until_text(), said, pl.lit(file), "row"
    )
    return events_of(good, file, pl.lit("halt"), evidence)


def incident_events(good: pl.DataFrame, file: str) -> pl.DataFrame:
    """`EVENTS` of incidents, one per symbol that a row lists; evidence: whose, the text, file and line."""
    kind = pl.col("kind").cast(pl.String).str.to_lowercase().fill_null("")
    cause = kind.replace(KIND_WORDS)
    whose = pl.when(pl.col("vendor").is_not_null()).then(pl.format(" of {}", "vendor")).otherwise(pl.lit(""))
    said = (
        pl.when(pl.col("text").is_not_null())
        .then(pl.format(": {}", pl.col("text").str.slice(0, 200)))
        .otherwise(pl.lit(""))
    )
    evidence = pl.format(
        "incident{} from {} {}{} ({}, line {})", whose, stamp_text("from_ts"), until_text(), said, pl.lit(file), "row"
    )
    cell = pl.col("symbol").cast(pl.String).fill_null("*")
    listed_names = cell.str.replace_all(r"\s*[;,|]\s*", ";").str.strip_chars(";").str.split(";")
    names = (
        pl.when(cell.str.contains("[;,|]"))
        .then(listed_names)
        .otherwise(cell.str.replace_all(r"\s+", ";").str.split(";"))
    )
    listed = good.with_columns(names.alias("symbol")).explode("symbol")
    return events_of(listed, file, cause, evidence)


def events_of(good: pl.DataFrame, file: str, cause: pl.Expr, evidence: pl.Expr) -> pl.DataFrame:
    """`EVENTS` of rows that hold; symbols `*`, `all` and none are all symbols."""
    symbol = pl.col("symbol").cast(pl.String).fill_null("")
    return good.select(
        pl.when(~symbol.str.to_uppercase().is_in(list(ALL_SYMBOLS))).then(symbol).alias("symbol"),
        pl.col("from_ts").alias("start"),
        pl.col("until_ts").alias("end"),
        cause.alias("cause"),
        evidence.alias("evidence"),
        pl.format("{} line {}", pl.lit(file), "row").alias("event"),
    ).select(pl.col(name).cast(dtype) for name, dtype in EVENTS.items())


def stamp_text(name: str) -> pl.Expr:
    """Expression: an instant as text in UTC."""
    return pl.col(name).dt.strftime("%Y-%m-%d %H:%M:%SZ")


def until_text() -> pl.Expr:
    """Expression: `to` and the end, or that it is open."""
    ended = pl.format("to {}", stamp_text("until_ts"))
    return pl.coalesce(ended, pl.lit("without an end, which counts to the close of its session or the next resumption"))
