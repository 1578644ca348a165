"""A remedy that a finding prints, printed as a command, mends the planted fault; what would not help is not printed."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import sys
from pathlib import Path

import engine
import numpy as np
import polars as pl
import pytest
from engine.cli import main
from engine.cli.corrections import corrected_commands
from engine.runtime.auditor import STORED

PRICES = ["open", "high", "low", "close"]
ZONED, NAIVE = "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S"
DAYS = [dt.date(2024, 4, day) for day in (*range(8, 13), *range(15, 20))]


def bars(seed: int, minutes: int = 1) -> pl.DataFrame:
    """Bars of ten sessions of New York, with a volume that is high at the opens and closes."""
    rng = np.random.default_rng(seed)
    stamps = [
        pl.datetime_range(
            dt.datetime.combine(day, dt.time(13, 30)), dt.datetime.combine(day, dt.time(19, 59)), f"{minutes}m", eager=True, time_zone="UTC"
        )
        for day in DAYS
    ]  # fmt: skip
    ts = pl.concat(stamps).cast(pl.Datetime("us", "UTC"))
    close = 50 * np.exp(np.cumsum(rng.normal(0, 4e-4, len(ts))))
    opened = np.append([50.0], close[:-1])
    wick = np.abs(rng.normal(0, 0.01, (2, len(ts))))
    edge = np.tile(1 + 4 * np.abs(np.linspace(-1, 1, len(stamps[0]))) ** 3, len(DAYS))
    return pl.DataFrame({
        "ts": ts,
        "open": opened,
        "high": np.maximum(opened, close) + wick[0],
        "low": np.minimum(opened, close) - wick[1],
        "close": close,
        "volume": np.round(rng.lognormal(7, 0.5, len(ts)) * edge),
    })  # fmt: skip


def write(folder: Path, change: pl.Expr | None = None, form: str = ZONED, minutes: int = 1, symbols: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(symbols):
        rows = bars(number, minutes)
        rows = rows if change is None else rows.with_columns(change.alias("ts"))
        rows.with_columns(pl.col("ts").dt.strftime(form)).write_csv(folder / f"S{number}.csv")
    return folder


def audited(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[dict]:
    """Findings of the command line, as JSON."""
    monkeypatch.setattr(sys, "argv", ["engine", *words, "--json"])
    with pytest.raises(SystemExit):
        main()
    return json.loads(capsys.readouterr().out)["findings"]


def late(**parts: int) -> pl.Expr:
    return pl.col("ts") + pl.duration(**parts)


FAULTS = {
    "zone, stamps carry one": ("clock", late(hours=-4), ZONED, [], "--shift 4h"),
    "zone, stamps carry none": ("clock", late(hours=-4), NAIVE, ["--timezone", "UTC"], "--timezone America/New_York"),
    "an hour late": ("clock", late(hours=1), ZONED, [], "--shift=-1h"),
    "a step early": ("stamp", late(minutes=-1), ZONED, [], "--shift 1m"),
    "ends": ("stamp", late(minutes=1), ZONED, [], "--stamp end"),
    "within": ("stamp", late(seconds=59), ZONED, [], "--stamp end-inclusive"),
    "past the end": ("stamp", late(seconds=61), ZONED, [], "--shift=-1s --stamp end"),
    "calendar": ("calendar", late(seconds=0), ZONED, ["--calendar", "XHKG"], "--calendar XNYS"),
    "interval": ("interval", late(seconds=0), ZONED, ["--interval", "1m"], "--interval 5m"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_printed_command_mends_the_fault(fault, tmp_path, monkeypatch, capsys) -> None:
    check, change, form, options, remedy = FAULTS[fault]
    folder = write(tmp_path / "data", change, form, 5 if fault == "interval" else 1)
    words = ["audit", str(folder), *([] if "--calendar" in options else ["--calendar", "XNYS"]), *options]
    found = audited(words, monkeypatch, capsys)
    (row,) = [one for one in found if one["severity"] == "error"]
    assert (row["check_name"], row["parts"]) == (check, 3)
    assert row["remedy"].partition(" (")[0] == remedy
    assert " tried on 10 sessions: present " in row["evidence"]
    ((_, command), *_) = corrected_commands(row["remedy"], words)
    again = audited(shlex.split(command)[1:], monkeypatch, capsys)
    assert [one["message"] for one in again if one["severity"] != "info"] == []


@pytest.mark.parametrize(
    ("form", "options", "remedy"),
    [
        (ZONED, [], "--stamp end-inclusive --shift=-4h"),
        (NAIVE, ["--timezone", "America/New_York"], "--stamp end-inclusive --timezone UTC"),
    ],
)
def test_two_faults_of_stamps_have_one_command_that_mends_both(
    form, options, remedy, tmp_path, monkeypatch, capsys
) -> None:
    """Four hours late (UTC read as New York's time, or converted twice), and each stamp at the last second of its bar."""
    hours = 4 if form == ZONED else 0
    folder = write(tmp_path / "data", late(hours=hours, seconds=59), form)
    words = ["audit", str(folder), "--calendar", "XNYS", *options]
    errors = [one for one in audited(words, monkeypatch, capsys) if one["severity"] == "error"]
    assert sorted(one["check_name"] for one in errors) == ["clock", "stamp"]
    assert [one["remedy"].partition(" (")[0] for one in errors] == [remedy, remedy]
    ((_, command), *_) = corrected_commands(remedy, words)
    again = audited(shlex.split(command)[1:], monkeypatch, capsys)
    assert [one["message"] for one in again if one["severity"] != "info"] == []


@pytest.mark.parametrize(("factor", "last"), [(100.0, 5), (0.01, 9)])
def test_another_unit_has_no_option_and_its_remedy_mends_it(factor, last, tmp_path) -> None:
    rows = bars(1)
    wrong = pl.col("ts").dt.date().is_between(DAYS[5], DAYS[last])
    planted = rows.with_columns(
        pl.when(wrong).then(pl.col(name) * factor).otherwise(name).alias(name) for name in PRICES
    )
    (row,) = (
        engine.run_audit({"S": planted}, "XNYS").tables["findings"].filter(pl.col("severity") == "error").to_dicts()
    )
    assert (row["check_name"], row["value"]) == ("scale", factor)
    assert row["remedy"].startswith(f"divide these prices by {factor:g}")
    assert not corrected_commands(row["remedy"], ["audit", "x"])
    span = pl.col("ts") >= row["start_ts"]
    span = span & (pl.col("ts") < row["end_ts"]) if row["end_ts"] else span
    mended = planted.with_columns(
        pl.when(span).then(pl.col(name) / row["value"]).otherwise(name).alias(name) for name in PRICES
    )
    assert engine.run_audit({"S": mended}, "XNYS").tables["findings"].filter(pl.col("severity") != "info").is_empty()


def test_zone_of_stamps_that_carry_one_is_not_advised(tmp_path) -> None:
    found = engine.run_audit(write(tmp_path / "data", late(hours=-4)), "XNYS").tables["findings"]
    (row,) = found.filter(pl.col("check_name") == "clock").to_dicts()
    assert "--timezone" not in row["remedy"]
    assert "--timezone America/New_York would change nothing of these stamps, which carry a zone" in row["evidence"]


def test_remedy_that_does_not_help_is_replaced_by_what_speaks_against_it(tmp_path) -> None:
    """A market of two seasons, four hours early in one and three in the other: no shift of all stamps fits both."""
    rows = bars(2)
    both = pl.concat([rows, rows.with_columns(pl.col("ts") + pl.duration(weeks=36, hours=1))])
    moved = both.with_columns(
        pl.when(pl.col("ts").dt.month() < 7).then(late(hours=-4)).otherwise(late(hours=-3)).alias("ts")
    )
    found = engine.run_audit({"S": moved}, "XNYS").tables["findings"]
    (row,) = found.filter(pl.col("check_name") == "clock").to_dicts()
    assert "--" not in row["remedy"]
    assert "vendor" in row["remedy"]


def test_stored_bars_are_tried_too(tmp_path) -> None:
    session = engine.load(write(tmp_path / "data", late(hours=-4)), "XNYS")
    (row,) = engine.run_audit(session).tables["findings"].filter(pl.col("check_name") == "clock").to_dicts()
    assert row["remedy"] == "--shift 4h"
    assert {"open", "high", "low", "close", "volume"} <= set(STORED)


def test_command_for_one_of_several_symbols_names_it(tmp_path, monkeypatch, capsys) -> None:
    folder = write(tmp_path / "data")
    bars(9).with_columns(late(hours=-4).alias("ts")).with_columns(pl.col("ts").dt.strftime(ZONED)).write_csv(
        folder / "EARLY.csv"
    )
    monkeypatch.setattr(sys, "argv", ["engine", "audit", str(folder), "--calendar", "XNYS"])
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr().out
    assert "error clock EARLY last: Stamps are 4 hours early" in printed
    assert f"try: engine audit {folder} --calendar XNYS --shift 4h --symbols EARLY\n" in printed


def test_shift_is_added_to_one_that_is_given(tmp_path) -> None:
    folder = write(tmp_path / "data", late(hours=-5))
    (row,) = (
        engine.run_audit(folder, "XNYS", shift="1h")
        .tables["findings"]
        .filter(pl.col("check_name") == "clock")
        .to_dicts()
    )
    assert row["remedy"] == "--shift 5h"
    mended = engine.load(folder, "XNYS", shift="5h")
    assert set(mended.quality("S0")["quality"]) == {100.0}
