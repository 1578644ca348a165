"""`engine requests`: lists of what to ask for again, from an audit and from an export of the same rows."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from pathlib import Path

import pytest

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)


def write_bars(folder: Path, symbol: str, lost: range = range(0), days: int = 3) -> None:
    folder.mkdir(exist_ok=True)
    lines = ["ts,open,high,low,close,volume"]
    for day in range(days):
        for minute in range(390):
            if day == 1 and minute in lost:
                continue
            price = 100 + (minute * 7 + day * 13 + len(symbol)) % 60 / 100
            at = OPEN + dt.timedelta(days=day, minutes=minute)
            lines.append(f"{at.isoformat()},{price},{price + 0.05},{price - 0.05},{price + 0.01},{100 + minute}")
    (folder / f"{symbol}.csv").write_text("\n".join(lines))


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    for symbol in ("AAA", "BBB", "CCC"):
        write_bars(tmp_path / "mine", symbol, range(60, 80) if symbol == "BBB" else range(0))
    return tmp_path / "mine"


def test_requests_of_an_audit_and_of_an_export_are_the_same(engine, bars: Path, tmp_path: Path) -> None:
    assert engine("run", bars, "--calendar", "XNYS", "--export", tmp_path / "out")[0] == 0
    assert engine("audit", bars, "--calendar", "XNYS", "--output", tmp_path / "audit")[0] in (0, 1)
    answers = [engine("requests", tmp_path / folder) for folder in ("out", "audit")]
    assert answers[0] == answers[1]
    code, text, _ = answers[0]
    assert code == 0
    assert list(csv.DictReader(io.StringIO(text))) == [
        {
            "symbol": "BBB", "interval": "1m", "start": "2024-01-03T15:30:00Z", "end": "2024-01-03T15:50:00Z",
            "slots": "20", "lost": "20", "causes": "symbol_loss",
        }
    ]  # fmt: skip
    code, text, _ = engine("requests", tmp_path / "out", "--vendor", "polygon", "--format", "calls")
    assert (code, text.count("\n")) == (0, 1)
    assert "/BBB/range/1/minute/1704295800000/1704296999999?" in text
    code, text, _ = engine("requests", tmp_path / "out", "--format", "json", "--max-rows", "15")
    assert [(one["start"][11:16], one["lost"]) for one in json.loads(text)] == [("15:30", 15), ("15:45", 5)]
    assert engine("requests", tmp_path / "out", "--symbols", "AAA")[1].count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--vendor", "polygone"), "did you mean polygon"),
        (("--format", "calls"), "without --vendor"),
        (("--format", "xml"), "valid: csv, json, calls"),
        (("--causes", "lost"), "causes: received 'lost'; valid: feed_loss"),
        (("--max-span", "1x"), "--max-span: received '1x'"),
        (("--symbols", "ZZZ"), "symbols: received 'ZZZ'"),
    ],
)
def test_requests_refuses_what_it_cannot_do(engine, bars: Path, tmp_path: Path, words, message: str) -> None:
    engine("audit", bars, "--calendar", "XNYS", "--output", tmp_path / "audit")
    code, _, error = engine("requests", tmp_path / "audit", *words)
    assert code == 2
    assert message in error


def test_requests_of_neither_audit_nor_export_is_refused(engine, bars: Path) -> None:
    code, _, error = engine("requests", bars)
    assert code != 0
    assert "is neither an audit nor an export" in error


@pytest.mark.parametrize("text", ["5", "50x", "-1%"])
def test_tolerance_of_a_fill_that_is_no_share_of_the_price_is_refused(engine, tmp_path: Path, text: str) -> None:
    code, _, error = engine("fill", tmp_path, "--from", tmp_path, "--tolerance", text)
    assert code == 2
    assert f"--tolerance: received '{text}'; valid: a share of the price, as 1% or 0.01" in error
