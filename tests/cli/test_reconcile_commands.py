"""`engine reconcile` and `engine rules` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from engine.cli import PARTLY_READ, USAGE

from tests.cli.test_commands import engine  # noqa: F401 - a fixture
from tests.runtime.test_reconciler import folded, minutes, written

AT = ("--calendar", "XNYS")


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    other = minutes().with_columns((pl.col("close") + 0.01).alias("close"), (pl.col("high") + 0.01).alias("high"))
    return written(tmp_path / "a", "SPY.csv", minutes()), written(tmp_path / "b", "SPY.csv", other)


def test_reconcile_equal_sides_says_so_and_ends_with_0(engine, sides) -> None:  # noqa: F811
    ran = engine("reconcile", sides[0], sides[0], *AT)
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "equal"


def test_reconcile_different_sides_shows_columns_causes_and_values_and_ends_with_1(engine, sides) -> None:  # noqa: F811
    ran = engine("reconcile", *sides, *AT, "--limit", 2)
    assert ran.code == 1
    assert ran.out.splitlines()[-1] == "different"
    for title in (
        "Series",
        "Columns that differ",
        "Guessed causes",
        "Values that differ, of the first 2 bars",
        "price_side",
    ):
        assert title in ran.out


@pytest.mark.parametrize("off", [0.00002, 1e-8, 1e-9])
def test_reconcile_shows_the_digits_that_differ(engine, tmp_path: Path, off: float) -> None:  # noqa: F811
    near = pl.when(pl.int_range(pl.len()) == 40).then(pl.col("close") + off).otherwise("close").alias("close")
    rows = minutes().with_columns(pl.col("open", "high", "low", "close") / 400)
    ample = rows.with_columns(high=pl.col("high") + 0.01)
    sides = (written(tmp_path / "a", "SPY.csv", ample), written(tmp_path / "b", "SPY.csv", ample.with_columns(near)))
    value = ample["close"][40]
    told = engine("reconcile", *sides, *AT).out
    shown = [cell.strip() for line in told.splitlines() for cell in line.split("│")]
    held = [float(cell) for cell in shown if cell.replace(".", "").isdigit() and abs(float(cell) - value) < 3 * off]
    assert len(held) == 4  # both tables have both values
    assert len(set(held)) == 2
    assert max(held) - min(held) == pytest.approx(off, rel=0.1)


def test_reconcile_json_holds_every_table(engine, sides) -> None:  # noqa: F811
    ran = engine("reconcile", *sides, *AT, "--json")
    told = json.loads(ran.out)
    assert (ran.code, told["equal"]) == (1, False)
    assert [row["column"] for row in told["columns"]] == ["high", "close"]
    assert len({row["ts"] for row in told["differences"]}) == 20


def test_reconcile_within_the_tolerance_is_equal(engine, sides) -> None:  # noqa: F811
    assert engine("reconcile", *sides, *AT, "--tolerance", "price=0.011").code == 0
    assert engine("reconcile", *sides, *AT, "--tolerance", "close=1%,high=1e-1").code == 0
    assert engine("reconcile", *sides, *AT, "--tolerance", "close=0.011").code == 1


def test_reconcile_findings_are_written_as_a_file(engine, sides, tmp_path: Path) -> None:  # noqa: F811
    assert engine("reconcile", *sides, *AT, "--findings", tmp_path / "f.parquet").code == 1
    found = pl.read_parquet(tmp_path / "f.parquet")
    assert found.select("check_name", "severity", "symbol", "count").rows() == [
        ("reconcile price side", "warning", "SPY", 780)
    ]


def test_reconcile_against_coarser_bars_of_the_folder(engine, tmp_path: Path) -> None:  # noqa: F811
    folder = written(tmp_path / "v", "SPY_1m.csv", minutes())
    written(folder, "SPY_30m.csv", folded(minutes(), "30m"))
    assert engine("reconcile", folder, "--against", "30m", *AT).code == 0


def test_reconcile_equal_but_a_file_could_not_be_read_ends_with_3(engine, sides) -> None:  # noqa: F811
    (sides[0] / "TLT.parquet").write_bytes(b"PAR1 nonsense")
    ran = engine("reconcile", sides[0], sides[0], *AT)
    assert (ran.code, "TLT.parquet" in ran.out) == (PARTLY_READ, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("A",), "B or --against: give one of the two"),
        (("A", "A", "--against", "1h"), "B or --against: give one of the two"),
        (("A", "A", "--tolerance", "close"), "--tolerance: received 'close'; valid: column=size"),
        (("A", "A", "--tolerance", "close=-1"), "--tolerance close: received '-1'"),
        (("A", "A", "--tolerance", "cloze=1"), "tolerance: received cloze; valid: price, open"),
        (("A", "A", "--names", "X"), "--names: received 'X'"),
        (("A", "A", "--findings", "f.xls"), "--findings: received 'f.xls'; valid: a file that ends in .csv"),
        (("A", "A", "--limit", "-1"), "--limit: received -1"),
        (("A", "nowhere"), "nowhere does not exist"),
    ],
)
def test_reconcile_wrong_argument_is_named_and_ends_with_2(engine, sides, words, told: str) -> None:  # noqa: F811
    ran = engine("reconcile", *(sides[0] if word == "A" else word for word in words), *AT)
    assert (ran.code, told in ran.err) == (USAGE, True), ran.err


def test_rules_without_a_file_prints_the_default_ones_which_can_be_read_again(engine, tmp_path: Path) -> None:  # noqa: F811
    printed = engine("rules")
    (tmp_path / "rules.toml").write_text(printed.out)
    ran = engine("rules", tmp_path / "rules.toml", "--json")
    assert ran.code == 0
    assert [rule["name"] for rule in json.loads(ran.out)["rules"]] == [
        "adjusted quality",
        "adjusted quality",
        "long loss",
    ]


def test_rules_of_a_file_are_listed(engine, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "r.toml").write_text(
        '[[rule]]\ntable = "gaps"\nwhere = "in_first > 300"\nsymbols = ["S*"]\nallow = 3\n'
    )
    assert "gaps where in_first > 300, symbols S*" in engine("rules", tmp_path / "r.toml").out


def test_rules_with_a_mistake_names_file_rule_and_nearest_word(engine, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "r.toml").write_text('[[rule]]\ntable = "quality"\nwhere = "qualty < 99"\n')
    ran = engine("rules", tmp_path / "r.toml")
    assert ran.code == USAGE
    assert "r.toml: rule 1: where 'qualty < 99': received 'qualty' (did you mean 'quality'?)" in ran.err
