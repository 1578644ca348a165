"""The soak runs, and its judges tell torn, mixed and whole apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import polars as pl
import pytest
from engine.export.formats.output_formats import OUTPUT_FORMATS

from tests.soak.disconnects import differences
from tests.soak.disk import DATASETS
from tests.soak.inputs import FORMATS, lines_lost
from tests.soak.readers import AMOUNTS, READERS, Seen, _disagreement, _held, _mixed, _sums, _Written
from tests.soak.report import Line, row
from tests.soak.session import TWINS, Session, violations
from tests.soak.story import Chronicle, _bars
from tests.soak.week import week

ROOT = Path(__file__).parents[2]


COUNTS = {
    "kills": 0, "object-kills": 0, "sizes": 0, "truncations": 0, "flips": 0, "seconds": 0, "disconnects": 0, "inputs": 0,
    "session-seconds": 0, "restarts": 0, "week": 0,
}  # fmt: skip
EXPORTERS = len(DATASETS) + len(OUTPUT_FORMATS)
KINDS = {
    "kills": ({"kills": 2}, [1, 1]),
    "objects": ({"object-kills": 4}, [2, 2]),
    "disk": ({"sizes": 1}, [1] * EXPORTERS),
    "damage": ({"truncations": 3, "flips": 2}, [3, 2]),
    "readers": ({"seconds": 1}, [None] * (len(READERS) + 1)),
    "disconnects": ({"disconnects": 2}, [None]),
    "inputs": ({"inputs": 25}, [25] * len(FORMATS)),
    "session": ({"session-seconds": 3}, [None] * 3),
    "restarts": ({"restarts": 1}, [1]),
    "week": ({"week": 30}, [5, 5]),
}


@pytest.mark.parametrize(
    "kind",
    [
        "kills",
        "readers",
        "disconnects",
        "inputs",
        "session",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("objects", "restarts", "disk", "damage", "week")),
    ],
)
def test_soak_with_small_counts_finds_nothing_wrong(tmp_path, kind):
    given, times = KINDS[kind]
    options = [part for name, count in {**COUNTS, **given}.items() for part in (f"--{name}", str(count))]
    command = [sys.executable, "-m", "tests.soak", *options, "--json", str(tmp_path / "soak.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("\n")[0].split() == ["fault", "times", "wrong", "seen", "bound", "(95", "%)"]
    lines = json.loads((tmp_path / "soak.json").read_text())["lines"]
    assert [line["wrong"] for line in lines] == [0] * len(times)
    assert all(line["times"] == (wanted or line["times"]) > 0 for line, wanted in zip(lines, times, strict=True))
    assert all(line["fault"][:20] in done.stdout for line in lines)


@pytest.mark.parametrize(
    ("times", "wrong", "bound"),
    [
        (200, 0, "0 in 200: < 1.5 %"),
        (1000, 0, "0 in 1,000: < 0.3 %"),
        (3, 0, "0 in 3: no bound"),
        (9, 2, "2 in 9: FAILED"),
    ],
)
def test_bound_of_counts_is_rule_of_three(times, wrong, bound):
    line = Line("kill", times, wrong, ("seen",), ("why",) * bool(wrong))
    assert line.bound == bound
    assert line.failed == bool(wrong)
    assert bound in row(line)
    assert ("WRONG: why" in row(line)) == bool(wrong)


def test_line_without_a_trial_fails():
    assert Line("kill", 0, 0, ()).failed


@pytest.fixture(scope="module")
def chronicle():
    told = Chronicle()
    told.snapshot(3)
    return told


def test_compare_tables_of_one_generation_is_whole(chronicle):
    for generation in (1, 2, 3):
        assert chronicle.compare(generation, chronicle.held[generation]).kind == "whole"


@pytest.mark.parametrize("table", ["bars", "quotes", "ticks", "open_interest", "gaps", "quality", "symbols", "rejects"])
def test_compare_one_table_of_another_generation_is_mixed(chronicle, table):
    mixed = {**chronicle.held[3], table: chronicle.held[2][table]}
    assert chronicle.compare(3, mixed).kind == "mixed"


@pytest.mark.parametrize("hurt", [lambda rows: rows[:-1], lambda rows: pl.concat([rows, rows[-1:]])])
def test_compare_table_with_a_row_less_or_twice_is_torn(chronicle, hurt):
    held = chronicle.held[3]
    assert chronicle.compare(3, {**held, "bars": hurt(held["bars"])}).kind == "torn"


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path)


def test_violations_of_a_session_whose_writes_were_followed_are_none(session):
    chance = Random(3)  # noqa: S311
    for _ in range(4):
        session.append(chance, chance.random())
        session.correct(chance, chance.random())
        session.come_and_go(chance)
    assert session.store.bars(interval="30m").height > 0
    assert violations(session.store.snapshot()) == []


def test_violations_of_a_write_that_nothing_followed_names_what_is_old(session):
    session.store.append(_bars("S00", 1, [3, 4, 90], 5.0), interval="1m")
    told = violations(session.store.snapshot())
    assert told == [f"{name} differ from a rebuild" for name in ("bars", "gaps", "quality")]


def test_violations_of_one_twin_without_the_other_names_it(session):
    session.store.append(_bars(TWINS[0], 0, [3], 5.0), interval="1m")
    session.step()
    assert violations(session.store.snapshot()) == ["what was written together is there in part"]


def test_read_of_tables_that_agree_is_told_from_any_mix(chronicle):
    now, before = (_held(chronicle.snapshots[generation]) for generation in (3, 2))
    written = _Written({7: _sums(now)})
    assert _disagreement(now) == ""
    assert _mixed(Seen(7, _sums(now), ""), written) == ""
    assert _mixed(Seen(8, _sums(now), ""), written) == "was never written"
    for table in AMOUNTS:
        mixed = {**now, table: before[table]}
        assert "do not agree" in _disagreement(mixed)
        assert _mixed(Seen(7, _sums(mixed), ""), written)


@pytest.mark.parametrize(
    ("hurt", "what"),
    [
        (lambda rows: rows[:-1], "lost"),
        (lambda rows: pl.concat([rows, rows[-1:]]), "doubled"),
        (lambda rows: rows.with_columns(pl.col("volume") + 1), "of other values"),
        (lambda rows: rows.with_columns(pl.col("ts") + pl.duration(minutes=1)), "never published"),
    ],
)
def test_differences_of_published_and_held_bars_name_what_was_lost_or_doubled(chronicle, hurt, what):
    published = chronicle.held[1]["bars"].filter(pl.col("origin") == "source")
    assert differences(published, published) == []
    assert any(text.endswith(what) for text in differences(published, hurt(published)))


def test_lines_lost_tells_lines_that_are_neither_row_nor_reject():
    data = b"# top\nts,open\n\n1,2\n3,4\nts,open\n5,6\n"

    class Told:
        frame, rejects, notes = pl.DataFrame({"row": [4]}), pl.DataFrame({"row": [7]}), ()
        source = "SPY.csv"

    assert lines_lost(data, Told) == [5]
    Told.rejects = pl.DataFrame({"row": [5, 7]})
    assert lines_lost(data, Told) == []


@pytest.mark.slow
def test_a_market_that_is_followed_with_kills_equals_one_without(tmp_path):
    lines = week(tmp_path, symbols=20, sessions=1, kills=2)
    assert [(line.times, line.wrong, line.failures) for line in lines] == [(2, 0, ()), (1, 0, ())]
