"""Gaps and quality: one scan of the places against SQL window functions, and against merely reading the columns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
from engine.quality.gaps import expected_slots, find_gaps, slot_runs
from engine.quality.score import quality_score
from polars.testing import assert_frame_equal

from benchmarks.panel import Panel
from benchmarks.rivals import connect
from benchmarks.timing import Contender, Measure, measures, race

GAPS = ("series", "gap_start", "gap_end", "bar_count")
SCORES = ("series", "session", "expected", "present", "missing")
DUCKDB, EXPORTED = "duckdb lag(), its best form", "duckdb lag(), as exported"
Answer = tuple[pl.DataFrame, pl.DataFrame]

# Each session opens with the slot before its first one and closes with the slot after its last one; what lies between
# two neighbours is a gap. Whole sessions without a bar have only those two.
GAP_QUERY = """
WITH wanted AS (SELECT series, session, open, close FROM series_list CROSS JOIN hours),
steps AS (
    SELECT series, session, ts,
           lag(ts) OVER (PARTITION BY series, session ORDER BY ts) AS before,
    FROM bars),
inner_gaps AS (
    SELECT series, session, before + INTERVAL 1 minute AS gap_start, ts AS gap_end
    FROM steps WHERE ts - before > INTERVAL 1 minute),
edges AS (SELECT series, session, min(ts) AS first, max(ts) AS last FROM bars GROUP BY ALL),
edge_gaps AS (
    SELECT series, session, open AS gap_start, coalesce(first, close) AS gap_end
    FROM wanted LEFT JOIN edges USING (series, session) WHERE first IS NULL OR first > open
    UNION ALL
    SELECT series, session, last + INTERVAL 1 minute, close
    FROM wanted JOIN edges USING (series, session) WHERE last + INTERVAL 1 minute < close)
SELECT *, datediff('minute', gap_start, gap_end) AS bar_count
FROM (FROM inner_gaps UNION ALL FROM edge_gaps)
"""
SCORE_QUERY = """
WITH wanted AS (
    SELECT series, session, datediff('minute', open, close) AS expected FROM series_list CROSS JOIN hours),
held AS (SELECT series, session, count(*) AS present FROM bars GROUP BY ALL)
SELECT series, session, expected, coalesce(present, 0) AS present, expected - coalesce(present, 0) AS missing
FROM wanted LEFT JOIN held USING (series, session)
"""


def scan(panel: Panel, rounds: int) -> list[Measure]:
    """Gaps with their edges, and quality per session, of every series."""
    exported = panel.named.select(pl.col("symbol").alias("series"), panel.placed["session"], "ts")
    contenders = [
        Contender("engine, stored places", _ours(panel)),
        Contender(DUCKDB, _duckdb(panel.plain.select("series", "session", "ts"), panel.plain_hours)),
        Contender(EXPORTED, _duckdb(exported, panel.hours)),
    ]
    times = race(contenders, rounds, _equals(_ours(panel)()))
    title = f"Gaps and quality, {panel.name}"
    lines = measures(title, "scan", panel.raw.height, times, dict.fromkeys((DUCKDB, EXPORTED), ">= 15"))
    with tempfile.TemporaryDirectory() as folder:
        return lines + _against_decode(panel, rounds, Path(folder) / "bars.parquet", title)


def ours(panel: Panel) -> Answer:
    """What the engine does."""
    return _ours(panel)()


def _against_decode(panel: Panel, rounds: int, path: Path, title: str) -> list[Measure]:
    panel.raw.select("series", "ts").write_parquet(path)
    decode = Contender("warm decode of series, ts", lambda: pl.read_parquet(path, columns=["series", "ts"]))
    scanned = Contender("engine, stored places", _ours(panel))
    times = race([decode, scanned], rounds, lambda *_: None)
    return measures(title, "scan against Parquet decode", panel.raw.height, times, {scanned.name: "<= 3"})


def _ours(panel: Panel) -> Callable[[], Answer]:
    places = panel.placed.select("series", "ordinal", "slot")
    span = [panel.hours["session"][0], panel.hours["session"][-1]]
    alive = pl.DataFrame({"series": pl.int_range(1, panel.symbols + 1, dtype=pl.Int32, eager=True)}).with_columns(
        pl.lit(span[0]).alias("first"), pl.lit(span[1]).alias("last")
    )
    none = pl.DataFrame(schema={"series": pl.Int32, "session": pl.Date})

    def run() -> Answer:
        wanted = expected_slots(alive, panel.grid)
        gaps = find_gaps(wanted, slot_runs(places), panel.grid)
        return gaps, quality_score(wanted, gaps, none)

    return run


def _duckdb(bars: pl.DataFrame, hours: pl.DataFrame) -> Callable[[], Answer]:
    """The queries over `series` (whatever its type), `session` and `ts`."""
    connection = connect()
    connection.register("bars", bars.to_arrow())
    connection.register("hours", hours.to_arrow())
    connection.register("series_list", bars.select("series").unique().to_arrow())
    return lambda: (connection.sql(GAP_QUERY).pl(), connection.sql(SCORE_QUERY).pl())


def _equals(want: Answer) -> Callable[[str, object], None]:
    def check(name: str, result: object) -> None:
        for have, wish, columns in zip(result, want, (GAPS, SCORES), strict=True):  # type: ignore[call-overload]
            try:
                assert_frame_equal(_canonical(have, columns), _canonical(wish, columns))
            except AssertionError as error:
                raise AssertionError(f"{name}: its gaps or counts are not ours: {error}") from error

    return check


def _canonical(frame: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    plain = [pl.col(n).dt.timestamp("us") if n.startswith("gap_") else pl.col(n) for n in columns]
    if frame["series"].dtype == pl.String:
        frame = frame.with_columns(pl.col("series").str.slice(1))
    return frame.select(plain).with_columns(pl.exclude("session").cast(pl.Int64)).sort(columns[:2])
