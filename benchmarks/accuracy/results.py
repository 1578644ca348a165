"""What was planted and what the audit said of it, as rows; shares with their intervals; the tables of the report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl
from engine.quality.causes.cause_table import CAUSE_TABLE

FAMILY = {cause.name: cause.family for cause in CAUSE_TABLE}
LOUD_CAUSES = tuple(cause.name for cause in CAUSE_TABLE if cause.severity in ("warning", "error"))
REPORTED = tuple(cause.name for cause in CAUSE_TABLE if cause.severity)
LIQUIDITY = (("> 99 %", 0.99), ("90-99 %", 0.90), ("50-90 %", 0.50), ("< 50 %", -1.0))
PEERS = (("0", 0), ("1-2", 1), ("3+", 3))
LENGTHS = (("1", 1), ("2-5", 2), ("6-30", 6), ("31+", 31))
Z = 1.959964

JUDGED = {
    "source": pl.String(),
    "kind": pl.String(),
    "variant": pl.String(),
    "symbol": pl.String(),
    "slots": pl.Int64(),
    "liquidity": pl.Float64(),
    "peers": pl.Int64(),
    "found": pl.Boolean(),
    "named": pl.Boolean(),
    "unknown": pl.Boolean(),
    "told": pl.String(),
}
EXPOSED = {"source": pl.String(), "liquidity": pl.Float64(), "peers": pl.Int64()}
ALARMS = {
    "source": pl.String(),
    "kind": pl.String(),
    "symbol": pl.String(),
    "session": pl.Date(),
    "liquidity": pl.Float64(),
    "peers": pl.Int64(),
    "message": pl.String(),
}


@dataclass(frozen=True)
class Results:
    """Rows of three kinds: `judged` per planted thing, `exposed` per symbol and session that was audited, `alarms`."""

    judged: pl.DataFrame
    exposed: pl.DataFrame
    alarms: pl.DataFrame

    @classmethod
    def empty(cls) -> Results:
        return cls(*(pl.DataFrame(schema=schema) for schema in (JUDGED, EXPOSED, ALARMS)))

    @classmethod
    def joined(cls, parts: list[Results]) -> Results:
        parts = [cls.empty(), *parts]
        return cls(*(pl.concat(getattr(one, name) for one in parts) for name in ("judged", "exposed", "alarms")))


class Planted(NamedTuple):
    """Slots of a symbol whose cause is known; of cause "" they are part of a fault and not judged."""

    symbol: str
    cause: str
    start: object
    end: object
    slots: int
    bars: int  # of these slots, those that had a bar
    variant: str = ""


def planted_frame(planted: list[Planted]) -> pl.DataFrame:
    instant = pl.Datetime("us", "UTC")
    schema = {"symbol": pl.String, "cause": pl.String, "start": instant, "end": instant, "slots": pl.Int64, "bars": pl.Int64, "variant": pl.String}  # fmt: skip
    return pl.DataFrame(planted, schema=schema, orient="row")


def around(quality: pl.DataFrame, planted: pl.DataFrame | None = None) -> pl.DataFrame:
    """Per symbol and session with rows (before anything was planted): share of slots with a bar on its other days, peers.

    Of a symbol with one session it is the share of that session.
    """
    of_day = quality.group_by("symbol", "session").agg(pl.col("expected").max(), pl.col("present").max())
    cuts = (
        pl.DataFrame(schema={"symbol": pl.String, "session": pl.Date, "bars": pl.Int64}) if planted is None else planted
    )
    spans = cuts.group_by("symbol", "session").agg(pl.col("bars").sum().alias("cut"))
    days = (
        of_day.join(spans, on=["symbol", "session"], how="left")
        .with_columns(pl.min_horizontal(pl.col("present") + pl.col("cut").fill_null(0), "expected").alias("present"))
        .filter(pl.col("present") > 0)
    )
    rest = [pl.col(name).sum().over("symbol") - pl.col(name) for name in ("present", "expected")]
    alone = pl.len().over("symbol") == 1
    share = pl.when(alone).then(pl.col("present") / pl.col("expected")).otherwise(rest[0] / rest[1])
    return days.select(
        "symbol",
        "session",
        share.fill_nan(0.0).alias("liquidity"),
        (pl.len().over("session") - 1).cast(pl.Int64).alias("peers"),
    )


def told_of(planted: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """Planted slots with `told`, the cause of the gap that covers most of them; null where no gap does."""
    rows = planted.with_row_index("planted")
    shared = pl.min_horizontal("end", "gap_end") - pl.max_horizontal("start", "gap_start")
    found = (
        rows.join(gaps.select("symbol", "gap_start", "gap_end", pl.col("cause").alias("told")), on="symbol")
        .with_columns(shared.alias("shared"))
        .filter(pl.col("shared") > pl.duration())
        .sort("planted", "shared", "gap_start", descending=[False, True, False])
        .unique("planted", keep="first", maintain_order=True)
    )
    return rows.join(found.select("planted", "told"), on="planted", how="left", maintain_order="left").drop("planted")


def judge_causes(
    source: str,
    tables: dict[str, pl.DataFrame],
    planted: pl.DataFrame,
    *,
    silence: bool,
    expected: tuple[str, ...] = (),
) -> Results:
    """Results of one audit in which `planted` is all that is wrong.

    Gaps that touch nothing planted are silence: with `silence` they are judged as planted `no_trade`. One of them with a
    cause above info is a false alarm, and so is each finding above info that is not of a gap (checks in `expected` apart).
    """
    gaps = tables["gaps"]
    sessions = tables["sessions"].select("session", "segment_open", "segment_close").sort("segment_open")
    dated = planted.sort("start").join_asof(sessions, left_on="start", right_on="segment_open", strategy="backward")
    near = around(tables["quality"], dated)
    spans = planted.select("symbol", "start", "end")
    touched = (
        gaps.with_row_index("gap")
        .join(spans, on="symbol")
        .filter((pl.col("gap_start") <= pl.col("end")) & (pl.col("gap_end") >= pl.col("start")))
    )
    others = gaps.with_row_index("gap").join(touched.select("gap").unique(), on="gap", how="anti")
    told = told_of(dated.filter(pl.col("cause") != ""), gaps)
    if silence:
        # Before the first and after the last bar of a symbol, silence is not told from the edge of the data.
        first_last = tables["extents"]
        inner = others.join(first_last, on="symbol").filter(
            (pl.col("gap_end") > pl.col("first_bar")) & (pl.col("gap_start") <= pl.col("last_bar"))
        )
        quiet = inner.select(
            "symbol", pl.lit("no_trade").alias("cause"), pl.col("bar_count").alias("slots"), pl.lit("").alias("variant"), "session", pl.col("cause").alias("told")
        )  # fmt: skip
        told = pl.concat([told.select(quiet.columns), quiet])
    true, said = pl.col("cause"), pl.col("told")
    family = pl.col("told").replace_strict(FAMILY, default=None)
    judged = told.join(near, on=["symbol", "session"], how="left").select(
        pl.lit(source).alias("source"),
        true.alias("kind"),
        "variant",
        "symbol",
        "slots",
        pl.col("liquidity").fill_null(0.0),
        pl.col("peers").fill_null(0),
        (family == true.replace_strict(FAMILY)).fill_null(value=False).alias("found"),
        (said == true).fill_null(value=False).alias("named"),
        (said == "unknown").fill_null(value=False).alias("unknown"),
        said.fill_null("no gap").alias("told"),
    )
    of_gaps = others.filter(pl.col("cause").is_in(LOUD_CAUSES)).select(
        "symbol", "session", pl.col("cause").alias("kind"), pl.format("{} slots: {}", "bar_count", "evidence").alias("message")
    )  # fmt: skip
    of_checks = tables["findings"].filter(
        (pl.col("severity") != "info") & ~pl.col("check_name").is_in([*REPORTED, *expected])
    )
    alarms = pl.concat(
        [of_gaps, of_checks.select([*of_gaps.columns[:2], pl.col("check_name").alias("kind"), "message"])]
    )
    return Results(
        judged.cast(JUDGED),
        near.select(pl.lit(source).alias("source"), "liquidity", "peers").cast(EXPOSED),
        alarm_rows(source, alarms, near),
    )


def alarm_rows(source: str, alarms: pl.DataFrame, near: pl.DataFrame) -> pl.DataFrame:
    """Alarms with liquidity and peers of their symbol and session; of a symbol as a whole, those of its middle session."""
    usual = near.group_by("symbol").agg(pl.col("liquidity", "peers").sort().get(pl.len() // 2).name.suffix("_usual"))
    placed = alarms.join(near, on=["symbol", "session"], how="left").join(usual, on="symbol", how="left")
    return placed.select(
        pl.lit(source).alias("source"),
        "kind",
        "symbol",
        "session",
        pl.coalesce("liquidity", "liquidity_usual").alias("liquidity"),
        pl.coalesce("peers", "peers_usual").alias("peers"),
        "message",
    ).cast(ALARMS)


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score."""
    if of == 0:
        return 0.0, 1.0
    share, spread = hits / of, Z * Z / of
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def percent(hits: int, of: int) -> str:
    """A share in percent, with its interval; a dash where there was nothing to share."""
    if of == 0:
        return "-"
    low, high = wilson(hits, of)
    return f"{100 * hits / of:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def per_thousand(alarms: int, exposed: int) -> str:
    """Alarms per 1,000 symbol-sessions, with the interval of the share."""
    if exposed == 0:
        return "-"
    low, high = wilson(min(alarms, exposed), exposed)
    return f"{1000 * alarms / exposed:.1f} ({1000 * low:.1f}-{1000 * high:.1f})"


def class_of(column: str, classes: tuple[tuple[str, float], ...]) -> pl.Expr:
    """The name of the class of a number: the one with the largest bound below it (liquidity above its bound)."""
    value = pl.col(column)
    above = sorted(classes, key=lambda one: one[1], reverse=True)
    tests = [
        pl.when(value > bound if column == "liquidity" else value >= bound).then(pl.lit(name)) for name, bound in above
    ]
    return pl.coalesce(tests).alias("class")


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table_of_kinds(results: Results, kinds: dict[str, tuple[str, ...]]) -> str:
    """A row per kind: planted, found, named, unknown, false alarms of its names (`kinds`: kind -> check or cause names)."""
    exposed = results.exposed.height
    rows = []
    for kind, names in kinds.items():
        ours = results.judged.filter(kind=kind)
        alarms = results.alarms.filter(pl.col("kind").is_in(list(names))).height
        if ours.is_empty() and not alarms:
            continue
        told = ours.filter(~pl.col("named"))["told"].value_counts(sort=True).head(2)
        rows.append([
            f"`{kind}`",
            f"{ours.height:,}",
            *(percent(int(ours[name].sum()), ours.height) for name in ("found", "named", "unknown")),
            per_thousand(alarms, exposed) if names else "-",
            ", ".join(f"{one} {count:,}" for one, count in told.rows()),
        ])  # fmt: skip
    header = ["kind", "planted", "found %", "named rightly %", "`unknown` %", "false alarms", "else told"]
    return markdown(header, rows)


def table_by(results: Results, kinds: dict[str, tuple[str, ...]], column: str, classes: tuple) -> str:
    """A row per kind, a column per class: named of planted (its `unknown`), and a row of false alarms of all kinds."""
    judged = results.judged.with_columns(class_of(column, classes))
    rows = []
    for kind in kinds:
        ours = judged.filter(kind=kind)
        if ours.is_empty():
            continue
        cells = []
        for name, _ in classes:
            here = ours.filter(pl.col("class") == name)
            share = percent(int(here["named"].sum()), here.height)
            told = f", {100 * here['unknown'].mean():.0f} unknown" if here["unknown"].any() else ""
            cells.append(f"{share} of {here.height:,}{told}" if here.height else "-")
        rows.append([f"`{kind}`", *cells])
    if column != "slots":
        names = [name for some in kinds.values() for name in some]
        alarms = results.alarms.filter(pl.col("kind").is_in(names)).with_columns(class_of(column, classes))
        exposed = results.exposed.with_columns(class_of(column, classes))
        rows.append([
            "false alarms per 1,000",
            *(per_thousand(alarms.filter(pl.col("class") == name).height, exposed.filter(pl.col("class") == name).height) for name, _ in classes),
        ])  # fmt: skip
    return markdown(["kind", *(name for name, _ in classes)], rows)


def table_of_alarms(results: Results) -> str:
    """A row per source: symbol-sessions, false alarms per 1,000, of which kinds."""
    rows = []
    for source in results.exposed["source"].unique(maintain_order=True):
        exposed = results.exposed.filter(source=source).height
        alarms = results.alarms.filter(source=source)
        kinds = ", ".join(
            f"`{kind}` {count:,}" for kind, count in alarms["kind"].value_counts(sort=True).head(4).rows()
        )
        rows.append([source, f"{exposed:,}", f"{alarms.height:,}", per_thousand(alarms.height, exposed), kinds])
    return markdown(["source", "symbol-sessions", "false alarms", "per 1,000", "kinds"], rows)
