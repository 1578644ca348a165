"""Audits for the page's tests: a small one of simulated sessions whose causes are known, a large one of drawn numbers."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
from engine.audit.audit_tables import AUDIT_TABLES, CALENDARS, FILES, GAPS, KEY, OUTAGES, QUALITY, STRIPS, VOLUMES
from engine.calendars.providers import calendar
from engine.checks.findings import findings
from engine.grid import GridSpec, SessionGrid
from engine.quality.gaps import expected_slots, find_gaps, slot_runs
from engine.schema import empty
from engine.simulation.faults import EMPTY_KINDS, FaultPlan
from engine.simulation.sessions import Instrument, Market, simulate

SCRIPT = "</script><script>window.hit=1</script>"
IMAGE = "<img src=x onerror=window.hit=1>"
RTL = "abc\u202egnp.exe"
LINE = "two\u2028lines"
FORMULA = '=cmd|" /C calc"!A0'
LONG = "L" * 300
STRANGE = (SCRIPT, IMAGE, RTL, LINE, FORMULA, LONG, "[/]", "🚀e\u0301", "&lt;b&gt;", "{{data}}")
CAUSE_OF = {
    "outage": "feed_loss",
    "halt": "halt",
    "missing_start": "symbol_loss",
    "missing_middle": "symbol_loss",
    "missing_end": "symbol_loss",
    "absent_session": "symbol_loss",
    "bad_row": "symbol_loss",
}
SAYS = {
    "feed_loss": "the same {} slots are missing in {} series of this source, p < 1e-9",
    "symbol_loss": "at its rate of that hour a run of {} slots has p = 0.00003; {} others traded",
    "halt": "stops among {} steady slots and reopens 4.6 % away; {} peers traded on",
    "no_trade": "run of {} slots, p = 0.21 at its rate of that hour; feed up for {} peers",
}
VENUES = (
    ("XNYS", dt.date(2024, 10, 14), dt.date(2024, 12, 13), 14),
    ("XHKG", dt.date(2024, 11, 4), dt.date(2024, 12, 6), 6),
    ("24/7", dt.date(2024, 11, 11), dt.date(2024, 12, 1), 3),
)
PLAN = FaultPlan(
    missing_start=4, missing_middle=8, missing_end=4, absent_session=2, outage=2, halt=2, bad_row=6, longest_run=45
)


def small_audit(strange: bool = True) -> dict[str, pl.DataFrame]:
    """Three venues, two months at most, 1m; ten symbols of hostile names."""
    names = [f"S{i:02d}" for i in range(sum(one[3] for one in VENUES))]
    parts, used = [], 0
    for number, (code, first, last, count) in enumerate(VENUES):
        parts.append(venue(code, first, last, names[used : used + count], number))
        used += count
    tables = {name: pl.concat([part[name] for part in parts]) for name in parts[0]}
    tables["files"] = pl.DataFrame(
        [(f"vendor/{name}.csv", 23_400, None) for name in names]
        + [
            ("vendor/broken<b>.csv", 0, "not a CSV: line 3 has 4 cells, the head has 7"),
            ("vendor/empty.csv", 0, "empty"),
        ],
        schema=dict(FILES),
        orient="row",
    )
    tables["findings"] = _findings(tables["gaps"], tables["series"])
    if strange:
        renamed = dict(zip(names[3:], STRANGE, strict=False))
        for name, table in tables.items():
            if "symbol" in table.columns:
                tables[name] = table.with_columns(pl.col("symbol").replace(renamed))
    for name in ("parts", "incidents"):
        tables[name] = pl.DataFrame(schema=dict(AUDIT_TABLES[name]))
    return {name: tables[name].select(list(schema)).cast(dict(schema)) for name, schema in AUDIT_TABLES.items()}


def venue(code: str, first: dt.date, last: dt.date, names: list[str], seed: int) -> dict[str, pl.DataFrame]:
    """The tables of one venue, but for findings and files."""
    rates = np.geomspace(0.7, 60, len(names))
    market = Market(tuple(Instrument(n, trades_per_minute=float(r)) for n, r in zip(names, rates, strict=True)), seed)
    here = calendar(code)
    grid = SessionGrid.build(here.segments(first, last), "1m", GridSpec(code))
    simulation = simulate(grid, market, PLAN)
    lost = simulation.truth.filter(pl.col("kind").is_in(EMPTY_KINDS)).select("symbol", "kind", "fault", "start", "end")
    bars = simulation.clean.join_asof(
        lost.sort("start"), left_on="ts", right_on="start", by="symbol", check_sortedness=False
    )
    bars = bars.filter((pl.col("ts") >= pl.col("end")).fill_null(value=True)).select("symbol", "ts", "close", "volume")
    series = pl.DataFrame({"symbol": names}).with_row_index("series").cast({"series": pl.Int32})
    placed = bars.join(series, on="symbol", maintain_order="left").with_columns(grid.place(bars["ts"]))
    life = series.select("series", first=pl.lit(first), last=pl.lit(last))
    wanted = expected_slots(life, grid)
    gaps = _explained(find_gaps(wanted, slot_runs(placed.sort("series", "ordinal", "slot")), grid), series, lost)
    return _shaped(code, gaps, wanted.join(series, on="series"), bars, here, grid)


def _explained(gaps: pl.DataFrame, series: pl.DataFrame, lost: pl.DataFrame) -> pl.DataFrame:
    named = gaps.join(series, on="series").drop("cause", "state")
    hit = named.join(lost.rename({"start": "a", "end": "b"}), on="symbol").filter(
        (pl.col("gap_start") < pl.col("b")) & (pl.col("gap_end") > pl.col("a"))
    )
    hit = hit.unique(["symbol", "gap_start"], keep="first", maintain_order=True)
    cause = pl.col("kind").replace_strict(CAUSE_OF, default="no_trade")
    known = named.join(hit.select("symbol", "gap_start", "kind", "fault"), on=["symbol", "gap_start"], how="left")
    cause_known = known.with_columns(cause.fill_null("no_trade").alias("cause"))
    said = pl.col("cause").replace_strict({k: v.split("{}")[0] for k, v in SAYS.items()})
    middle = pl.col("cause").replace_strict({k: v.split("{}")[1] for k, v in SAYS.items()})
    end = pl.col("cause").replace_strict({k: v.split("{}")[2] for k, v in SAYS.items()})
    return cause_known.with_columns(
        pl.concat_str(said, pl.col("bar_count").cast(pl.String), middle, pl.lit("14"), end).alias("evidence"),
        (0.82 + 0.17 * (pl.col("bar_count") % 7) / 7).alias("confidence"),
        pl.when(pl.col("kind") == "outage").then(pl.format("o-{}", "fault")).alias("outage_id"),
        pl.lit(1e-6).alias("chance"),
    )


def _shaped(code, gaps, wanted, bars, here, grid) -> dict[str, pl.DataFrame]:
    lits = [pl.lit("last").alias("price_type"), pl.lit("1m").alias("interval")]
    gaps = gaps.with_columns(*lits, pl.format(f"{code}-{{}}", "outage_id").alias("outage_id")).select(list(GAPS))
    explained = pl.col("bar_count").filter(pl.col("cause").is_in(["no_trade", "halt"])).sum().alias("explained")
    per = gaps.group_by("symbol", "session").agg(pl.col("bar_count").sum().alias("missing"), explained)
    quality = (
        wanted.group_by("symbol", "session", maintain_order=True)
        .agg(pl.col("slots").sum().cast(pl.Int64).alias("expected"))
        .join(per, on=["symbol", "session"], how="left")
        .with_columns(
            pl.col("missing", "explained").fill_null(0),
            *(pl.lit(0, pl.Int64).alias(name) for name in ("excluded", "filled")),
            *lits,
        )
    )
    quality = _scored(_at_the_door(quality)).select(list(QUALITY))
    series = quality.group_by(*KEY, maintain_order=True).agg(
        pl.col("session").min().alias("first_session"),
        pl.col("session").max().alias("last_session"),
        pl.len().alias("sessions"),
        pl.col(
            "expected",
            "missing",
            "explained",
            "excluded",
            "filled",
            "duplicates",
            "corrections",
            "off_grid",
            "out_of_session",
            "zero_volume",
        ).sum(),
    )
    traded = 1 - pl.col("explained") / pl.col("expected")
    series = _scored(series).with_columns(
        pl.lit(code).alias("calendar"),
        pl.lit("vendor").alias("source"),
        pl.col("present").alias("rows"),
        traded.alias("traded"),
        pl.when(traded > 0.99)
        .then(pl.lit("liquid"))
        .when(traded > 0.8)
        .then(pl.lit("mixed"))
        .otherwise(pl.lit("thin"))
        .alias("activity"),
    )
    outages = (
        gaps.filter(pl.col("outage_id").is_not_null())
        .group_by("outage_id")
        .agg(
            pl.lit(code).alias("calendar"),
            pl.col("cause").first(),
            pl.col("session").min().alias("first_session"),
            pl.col("gap_start").min().alias("start_ts"),
            pl.col("gap_end").max().alias("end_ts"),
            pl.col("symbol").n_unique().alias("symbols"),
            pl.len().alias("gaps"),
            pl.col("bar_count").sum().alias("missing"),
            pl.col("confidence").max(),
            pl.col("evidence").first(),
        )
    )
    sessions = grid.segments.filter("regular").select("session", "segment", "segment_open", "segment_close")
    zones = [(code, here.provider, here.version, here.zone, here.overrides_hash)]
    tables = {
        "series": series,
        "quality": quality,
        "gaps": gaps,
        "outages": outages,
        "strips": _strips(gaps, bars),
        "sessions": sessions.with_columns(pl.lit(code).alias("calendar")),
        "calendars": pl.DataFrame(zones, schema=dict(CALENDARS), orient="row"),
    }
    return {
        name: table.select(list(AUDIT_TABLES[name])).cast(dict(AUDIT_TABLES[name])) for name, table in tables.items()
    }


def _at_the_door(quality: pl.DataFrame) -> pl.DataFrame:
    zeros = ("duplicates", "corrections", "off_grid", "out_of_session", "zero_volume")
    return quality.with_columns(pl.lit(0).alias(name) for name in zeros)


def _scored(frame: pl.DataFrame) -> pl.DataFrame:
    present = (pl.col("expected") - pl.col("missing")).alias("present")
    return frame.with_columns(present).with_columns(
        (100 * pl.col("present") / pl.col("expected")).alias("quality"),
        (100 * (pl.col("present") + pl.col("explained")) / pl.col("expected")).alias("quality_adjusted"),
        *(pl.lit(None, dtype).alias(name) for name, dtype in VOLUMES.items()),
    )


def _strips(gaps: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    drawn = gaps.filter((pl.col("cause") != "no_trade") & (pl.col("position") != "session")).head(80)
    near = dt.timedelta(minutes=25)
    return (
        drawn.select(*KEY, "gap_start", "gap_end")
        .join(bars, on="symbol")
        .filter((pl.col("ts") >= pl.col("gap_start") - near) & (pl.col("ts") < pl.col("gap_end") + near))
        .sort(*KEY, "gap_start", "ts")
        .select(list(STRIPS))
    )


def _findings(gaps: pl.DataFrame, series: pl.DataFrame) -> pl.DataFrame:
    told = gaps.filter(pl.col("cause").is_in(["feed_loss", "symbol_loss", "halt"])).select(
        pl.format("gaps.{}", "cause").alias("check_name"),
        pl.col("cause")
        .replace_strict({"feed_loss": "error", "symbol_loss": "warning", "halt": "info"})
        .alias("severity"),
        *KEY,
        "session",
        pl.col("gap_start").alias("start_ts"),
        pl.col("gap_end").alias("end_ts"),
        pl.col("bar_count").alias("count"),
        pl.format("{} slots are missing", "bar_count").alias("message"),
        "evidence",
        pl.lit("Ask the vendor for these minutes again; a gap filler does so with a budget of retries.").alias(
            "remedy"
        ),
        pl.lit("vendor").alias("source"),
    )
    thin = series.filter(pl.col("activity") == "thin").select(
        pl.lit("thin").alias("check_name"),
        pl.lit("info").alias("severity"),
        *KEY,
        pl.lit("thin, not broken: most of its missing minutes had no trade").alias("message"),
    )
    strange = pl.DataFrame(
        {
            "check_name": ["bars.order", SCRIPT],
            "severity": ["error", "warning"],
            "symbol": [None, None],
            "message": [f"high below low {IMAGE}", f"text {RTL} and {LINE}"],
            "evidence": [FORMULA, "e" * 5_000],
            "source": ["vendor/x&y.csv", None],
            "value": [float("nan"), 1.5],
        }
    )
    return pl.concat([findings(told), findings(thin), findings(strange)])


def large_audit(
    symbols: int, sessions: int, faults: int, text: str = "", calendars: int = 1
) -> dict[str, pl.DataFrame]:
    """Drawn numbers of a size: `faults` findings and as many gaps. `text` goes into every name and sentence."""
    rng = np.random.default_rng(5)
    first, codes = dt.date(2023, 1, 2), [f"C{at}" for at in range(calendars)]
    days = pl.Series([first + dt.timedelta(days=7 * (d // 5) + d % 5) for d in range(sessions)])
    names = pl.Series([f"{text}N{i:05d}" for i in range(symbols)])
    size = symbols * sessions
    missing = np.minimum(rng.poisson(rng.gamma(0.4, 12, symbols).repeat(sessions)), 390)
    quality = pl.DataFrame(
        {
            "symbol": names.gather(np.arange(size) // sessions),
            "price_type": "last",
            "interval": "1m",
            "session": days.gather(np.arange(size) % sessions),
            "expected": np.full(size, 390),
            "missing": missing,
            "explained": rng.binomial(missing, 0.8),
            "excluded": 0,
            "filled": 0,
        }
    )
    quality = _scored(_at_the_door(quality)).select(list(QUALITY)).cast(dict(QUALITY))
    counts = [
        "expected",
        "present",
        "missing",
        "explained",
        "excluded",
        "filled",
        "duplicates",
        "corrections",
        "off_grid",
        "out_of_session",
        "zero_volume",
    ]
    series = _scored(quality.group_by(*KEY, maintain_order=True).agg(pl.col(counts).sum(), pl.len().alias("sessions")))
    series = series.with_columns(
        pl.Series("calendar", codes).gather(np.arange(symbols) % calendars),
        pl.lit(f"{text}vendor").alias("source"),
        pl.lit(first).alias("first_session"),
        pl.lit(days[-1]).alias("last_session"),
        pl.col("present").alias("rows"),
        pl.lit(0.97).alias("traded"),
        pl.lit("mixed").alias("activity"),
    )
    at, when, slot = rng.integers(0, symbols, faults), rng.integers(0, sessions, faults), rng.integers(0, 360, faults)
    length = rng.integers(1, 30, faults)
    opens = days.gather(when).cast(pl.Datetime("us")).dt.replace_time_zone("UTC") + dt.timedelta(hours=14, minutes=30)
    start = opens + pl.Series(slot * 60_000_000).cast(pl.Duration("us"))
    words = pl.Series(
        [f"{text}run of {n} slots, p = {n * slot_ % 977}e-6 at its rate" for n, slot_ in zip(length, slot, strict=True)]
    )
    gaps = pl.DataFrame(
        {
            "symbol": names.gather(at),
            "price_type": "last",
            "interval": "1m",
            "session": days.gather(when),
            "segment": "RTH",
            "gap_start": start,
            "gap_end": start + pl.Series(length * 60_000_000).cast(pl.Duration("us")),
            "bar_count": length,
            "position": "inner",
            "cause": pl.Series(["no_trade", "feed_loss", "symbol_loss", None]).gather(at % 4),
            "confidence": rng.random(faults),
            "evidence": words,
            "outage_id": None,
            "chance": rng.random(faults),
        }
    ).cast(dict(GAPS))
    segments = (
        pl.DataFrame({"session": days, "segment": "RTH"})
        .join(pl.DataFrame({"calendar": codes}), how="cross")
        .with_columns(
            segment_open=pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
            + dt.timedelta(hours=14, minutes=30)
        )
    )
    tables = {
        "series": series,
        "quality": quality,
        "gaps": gaps,
        "outages": empty(OUTAGES),
        "calendars": pl.DataFrame(
            [(code, "exchange_calendars", "4.13.2", "America/New_York", "") for code in codes],
            schema=dict(CALENDARS),
            orient="row",
        ),
        "sessions": segments.with_columns(segment_close=pl.col("segment_open") + dt.timedelta(minutes=390)),
        "findings": _findings(gaps.with_columns(cause=pl.lit("symbol_loss")), series.head(0)),
        "strips": pl.concat(
            [
                gaps.head(1_500).select(
                    *KEY,
                    "gap_start",
                    pl.col("gap_start").dt.offset_by(f"{m}m").alias("ts"),
                    pl.lit(100.0 + m).alias("close"),
                    pl.lit(5.0).alias("volume"),
                )
                for m in range(-20, 40)
            ]
        ),
        "files": pl.DataFrame({"source": names + ".csv", "rows": 1_000, "problem": None}),
    }
    for name in ("parts", "incidents"):
        tables[name] = pl.DataFrame(schema=dict(AUDIT_TABLES[name]))
    return {name: tables[name].select(list(schema)).cast(dict(schema)) for name, schema in AUDIT_TABLES.items()}
