"""Faults planted into rows that are right: what is done to them, and which findings find and name them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import engine
import numpy as np
import polars as pl
from engine.quality.causes.cause_table import LOSSES

from benchmarks.accuracy.results import ALARMS, EXPOSED, JUDGED, REPORTED, Results, alarm_rows, around

SAME = ["check_name", "symbol", "message"]  # of a finding in two audits
PRICES = ["open", "high", "low", "close"]
Bars = pl.DataFrame  # of one symbol: ts, open, high, low, close, volume, session, inside (in a chosen segment)


@dataclass(frozen=True)
class Fault:
    """Rows with a fault, and what a finding must say of it."""

    kind: str
    rows: Bars
    checks: tuple[str, ...]
    variant: str = ""
    start: dt.datetime | None = None  # a finding must cover it
    end: dt.datetime | None = None
    value: float | None = None  # of the finding, in the units of its check
    text: tuple[str, ...] = ()  # all of it in message or remedy
    session: dt.date | None = None
    slots: tuple[dt.datetime, ...] = ()  # whose gaps must have the cause of the fault


def scaled(rows: Bars, where: pl.Expr, factor: float, columns: list[str] = PRICES) -> Bars:
    return rows.with_columns(pl.when(where).then(pl.col(name) * factor).otherwise(name).alias(name) for name in columns)


def moved(rows: Bars, step: dt.timedelta) -> Bars:
    return rows.with_columns(pl.col("ts") + step)


def faults(rows: Bars, rng: np.random.Generator, *, closes: bool, liquidity: float) -> Iterator[Fault]:
    """Every fault that leaves a trace in these rows: shifts where the market closes, sessions beside others, made-up bars if it trades.

    Parameters
    ----------
    rows : DataFrame
        Bars of one symbol, in the order of their stamps.
    rng : Generator
        Chooses sessions and minutes.
    closes : bool
        The market has opens and closes, so that a shift of its stamps can be seen.
    liquidity : float
        Share of slots with a bar: a name that trades in less than half of them is right to have made-up bars.
    """
    inside = rows.filter("inside")
    days = inside.group_by("session", maintain_order=True).len().filter(pl.col("len") >= 80)["session"].to_list()
    if not days:
        return
    if closes:
        yield from shifts(rows, inside)
    yield Fault(
        "stamps within bars", moved(rows, dt.timedelta(seconds=59)), ("stamp",), "59 s", text=("end-inclusive",)
    )
    pick = days[int(rng.integers(len(days)))]
    day = inside.filter(pl.col("session") == pick)
    begin = int(rng.integers(10, day.height - 45))
    block = day.slice(begin, 30)
    yield from blocks(rows, block, trades=liquidity > 0.5)
    yield from spikes(rows, day, rng)
    beside = [number for number in range(1, len(days) - 1) if (days[number + 1] - days[number - 1]).days <= 6]
    if len(days) > 3 and beside:
        yield from sessions(rows, inside, days, int(rng.choice(beside)))
    swapped = day.filter(pl.col("high") > pl.col("low"))["ts"].gather_every(7).head(8)
    if len(swapped):
        turned = pl.col("ts").is_in(swapped.implode())
        other = [pl.when(turned).then(b).otherwise(a).alias(a) for a, b in (("high", "low"), ("low", "high"))]
        yield Fault("high below low", rows.with_columns(other), ("refused",), slots=tuple(swapped))


def shifts(rows: Bars, inside: Bars) -> Iterator[Fault]:
    for hours in (1, -1, 4, -4, 5, -5):
        words = (f"{abs(hours)} hour", "late" if hours > 0 else "early")
        step = dt.timedelta(hours=hours)
        for part, of in (("all rows", rows), ("regular hours", inside)):
            if part == "regular hours" and inside.height == rows.height:
                continue
            yield Fault("zone", moved(of, step), ("clock",), part, text=words)
    minute = dt.timedelta(minutes=1)
    yield Fault("stamps at ends", moved(rows, minute), ("stamp",), "all rows", text=("end",))
    yield Fault("stamps one step early", moved(inside, -minute), ("stamp",), "regular hours", value=-1.0)
    if inside.height < rows.height:
        yield Fault("stamps at ends", moved(inside, minute), ("stamp",), "regular hours", text=("end",))


def blocks(rows: Bars, block: Bars, *, trades: bool) -> Iterator[Fault]:
    """Runs of bars within one session: in another unit, made up."""
    for count in (3, 30):
        first, last = block["ts"][0], block["ts"][count - 1]
        within = pl.col("ts").is_between(first, last)
        for factor in (100.0, 0.01):
            yield Fault(
                "scale, a block", scaled(rows, within, factor), ("scale",), f"{count} bars", first, last, factor
            )
    before = rows.filter(pl.col("ts") < block["ts"][0])["close"]
    if not len(before) or rows["volume"].sum() == 0 or not trades:
        return
    for count, volume in ((5, False), (30, False), (30, True)):
        within = pl.col("ts").is_between(block["ts"][0], block["ts"][count - 1])
        flat = [pl.when(within).then(pl.lit(before[-1])).otherwise(name).alias(name) for name in PRICES]
        none = [] if volume else [pl.when(within).then(0.0).otherwise("volume").alias("volume")]
        kind = "made-up bars with volume" if volume else "made-up bars"
        first, last = block["ts"][0], block["ts"][count - 1]
        yield Fault(kind, rows.with_columns(flat + none), ("filled",), f"{count} bars", first, last)


def spikes(rows: Bars, day: Bars, rng: np.random.Generator) -> Iterator[Fault]:
    middle = int(rng.integers(day.height // 4, 3 * day.height // 4))
    places = (("inner", day["ts"][middle], 10.0), ("first bar", day["ts"][0], 10.0), ("last bar", day["ts"][-1], 10.0), ("inner, 3 %", day["ts"][middle], 1.03), ("inner, -5 %", day["ts"][middle], 0.95))  # fmt: skip
    for place, at, factor in places:
        yield Fault("spike", scaled(rows, pl.col("ts") == at, factor), ("spike",), place, at, at)


def sessions(rows: Bars, inside: Bars, days: list[dt.date], number: int) -> Iterator[Fault]:
    """Whole sessions: in another unit, split, copied, missing."""
    pick, other = days[number], days[number + 1]
    ours = pl.col("session") == pick
    yield Fault("scale, a session", scaled(rows, ours, 100.0), ("scale",), value=100.0, session=pick)
    yield Fault("scale, a session", scaled(rows, ours, 0.01), ("scale",), value=0.01, session=pick)
    yield Fault("split", scaled(rows, pl.col("session") >= pick, 0.5), ("split",), "2:1", session=pick)
    if rows["volume"].sum() > 0:
        yield Fault("volume scale, a session", scaled(rows, ours, 100.0, ["volume"]), ("volume_scale",), value=100.0, session=pick)  # fmt: skip
    step = other - pick
    copy = inside.filter(ours).with_columns(pl.col("ts") + step, pl.lit(other).alias("session"))
    rest = rows.filter(~((pl.col("session") == other) & pl.col("inside")))
    yield Fault("copied session", pl.concat([rest, copy]).sort("ts"), ("copied_session", "repeated"), session=other)
    yield Fault("session left out", rows.filter(~ours), ("symbol_loss", "feed_loss"), session=pick)


KINDS: dict[str, tuple[str, ...]] = {
    "zone": ("clock",),
    "stamps at ends": ("stamp",),
    "stamps one step early": ("stamp",),
    "stamps within bars": ("stamp",),
    "scale, a block": ("scale",),
    "scale, a session": ("scale",),
    "volume scale, a session": ("volume_scale",),
    "split": ("split",),
    "copied session": ("copied_session", "repeated"),
    "session left out": (),
    "made-up bars": ("filled",),
    "made-up bars with volume": ("filled",),
    "spike": ("spike",),
    "high below low": ("refused",),
}


def said_of(fault: Fault, name: str, tables: dict[str, pl.DataFrame], before: pl.DataFrame) -> tuple[bool, bool, str]:
    """Found, named rightly, and the checks above info that the audit of the rows without the fault does not have."""
    loud = tables["findings"].filter(pl.col("severity") != "info")
    fresh = loud.join(before, on=SAME, how="anti", nulls_equal=True)
    told = ", ".join(sorted(set(fresh["check_name"]))) or "nothing"
    gaps = tables["gaps"].filter(pl.col("symbol") == name)
    if fault.kind == "session left out":
        causes = set(gaps.filter(session=fault.session)["cause"])
        return bool(causes & set(LOSSES)), causes == {"symbol_loss"}, ", ".join(sorted(causes)) or "no gap"
    hits = fresh.filter(pl.col("check_name").is_in(list(fault.checks)))
    if fault.kind == "high below low":
        causes = [
            gaps.filter(pl.col("gap_start") <= at, pl.col("gap_end") > at)["cause"].to_list() for at in fault.slots
        ]
        return hits.height > 0, all(one == ["refused"] for one in causes), told
    hits = hits.filter(pl.col("symbol") == name)
    named = hits
    if fault.start is not None and fault.end is not None:
        reach = pl.coalesce("end_ts", "start_ts")
        named = named.filter((pl.col("start_ts") <= fault.end) & (reach >= fault.start))
    if fault.session is not None:
        named = named.filter(pl.col("session") == fault.session)
    if fault.value is not None:
        named = named.filter((pl.col("value") / fault.value).is_between(0.99, 1.01))
    said = pl.concat_str(pl.col("message", "remedy").fill_null(""), separator=" ")
    for words in fault.text:
        named = named.filter(said.str.contains(words, literal=True))
    return hits.height > 0, named.height > 0, told


def judged(
    source: str, code: str, feed: dict[str, Bars], names: list[str], rng: np.random.Generator, *, beside: bool
) -> Results:
    """Results of each fault in each of `names`, an audit per fault: of the symbol alone, or `beside` the others of the feed."""
    closes = code != "24/7"
    columns = ["ts", *PRICES, "volume"]
    plain = {name: rows.select(columns) for name, rows in feed.items()}
    rows_out = []
    parts = []
    for name in names:
        untouched = plain if beside else {name: plain[name]}
        tables = dict(engine.run_audit(untouched, code, interval="1m").tables)
        near = around(tables["quality"])
        loud = tables["findings"].filter(pl.col("severity") != "info")
        before = loud.select(SAME)
        own = near.filter(symbol=name)
        liquidity = float(own["liquidity"].median() or 0.0)
        peers = int(own["peers"].median() or 0)
        if not parts or not beside:
            ours = loud.filter(~pl.col("check_name").is_in(REPORTED)).select(
                "symbol", "session", pl.col("check_name").alias("kind"), "message"
            )
            parts.append((near, ours))
        for fault in faults(feed[name], rng, closes=closes, liquidity=liquidity):
            changed = untouched | {name: fault.rows.select(columns)}
            said = said_of(fault, name, dict(engine.run_audit(changed, code, interval="1m").tables), before)
            rows_out.append((source, fault.kind, fault.variant, name, fault.rows.height, liquidity, peers, said[0], said[1], False, said[2]))  # fmt: skip
    return Results.joined([
        Results(pl.DataFrame(rows_out, schema=JUDGED, orient="row"), pl.DataFrame(schema=EXPOSED), pl.DataFrame(schema=ALARMS)),
        *(
            Results(pl.DataFrame(schema=JUDGED), near.select(pl.lit(source).alias("source"), "liquidity", "peers").cast(EXPOSED), alarm_rows(source, ours, near))
            for near, ours in parts
        ),
    ])  # fmt: skip
