"""One fact is one finding: what lowers the quality of a session is told by the finding that names it, with the rule's severity."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import engine
import numpy as np
import polars as pl
from engine.audit.rules import read_rules, rule_findings

OPENS = [dt.datetime(2024, 3, day, 14, 30, tzinfo=dt.UTC) for day in (4, 5, 6, 7, 8)]
SLOTS = 390
PRICES = ("open", "high", "low", "close")
FAULTY = 2 * SLOTS + 100  # the row with which each fault begins
BROKEN = "breaks the rule adjusted quality"


def session_rows(seed: int) -> pl.DataFrame:
    """Bars of five sessions, all minutes traded."""
    rng = np.random.default_rng(seed)
    close = np.round(50 * np.exp(np.cumsum(rng.normal(0, 0.0006, len(OPENS) * SLOTS))), 2)
    start = np.concatenate([[50.0], close[:-1]])
    ts = [at + dt.timedelta(minutes=minute) for at in OPENS for minute in range(SLOTS)]
    return pl.DataFrame(
        {
            "ts": pl.Series(ts).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "open": start,
            "high": np.maximum(start, close) + 0.01,
            "low": np.minimum(start, close) - 0.01,
            "close": close,
            "volume": rng.integers(500, 900, len(close)),
        }
    ).cast(dict.fromkeys(PRICES, pl.String))


def test_sessions_of_low_quality_are_told_by_the_finding_of_their_fault(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    at = pl.int_range(pl.len())
    faulty = at.is_between(FAULTY, FAULTY + 29)
    before = session_rows(0)["close"][FAULTY - 1]
    worlds = {
        "FILLED": session_rows(0).with_columns(
            *(pl.when(faulty).then(pl.lit(before)).otherwise(name).alias(name) for name in PRICES),
            pl.when(faulty).then(0).otherwise("volume").alias("volume"),
        ),
        "REFUSED": session_rows(1).with_columns(pl.when(faulty).then(pl.lit("n/a")).otherwise("high").alias("high")),
        "ASTRAY": session_rows(2).with_columns(
            pl.when(faulty).then(pl.col("ts").str.replace(":00Z", ":27Z")).otherwise("ts").alias("ts")
        ),
        "HALTED": session_rows(3).filter(~faulty),
        "WHOLE": session_rows(4),
    }
    for symbol, rows in worlds.items():
        rows.write_csv(source / f"{symbol}.csv")
    halt, resumption = (OPENS[2] + dt.timedelta(minutes=minute) for minute in (100, 120))
    (tmp_path / "halts.csv").write_text(
        f"symbol,halt,resumption,reason\nHALTED,{halt.isoformat()},{resumption.isoformat()},LUDP\n"
    )
    tables = engine.run_audit(source, "XNYS", halts=[tmp_path / "halts.csv"]).tables
    findings = rule_findings(tables, read_rules())
    assert "adjusted quality" not in findings["check_name"].to_list()
    breaking = findings.filter(pl.col("evidence").str.contains(BROKEN, literal=True))
    assert set(breaking["check_name"]) == {"filled", "refused", "unscheduled", "symbol_loss"}
    assert breaking.height == 4
    assert breaking.filter(pl.col("check_name") == "symbol_loss")["count"].to_list() == [10]
    assert findings.filter(pl.col("check_name") == "halt")["severity"].to_list() == ["info"]
