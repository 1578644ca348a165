"""Tables in terminals that are wide, narrow, colourless, or none."""

from __future__ import annotations

import datetime as dt
import io
import sys

import polars as pl
import pytest
from engine.cli.table_layout import print_table
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

HOSTILE = "[bold]x[/]\x1b[31m\r\n\U0001f4c8"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def printed(frame: pl.DataFrame, width: int | None, **options: object) -> str:
    """What a terminal of a width gets; a pipe when None."""
    stream = Terminal() if width else io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setenv("TERM", "dumb")
        patch.setenv("COLUMNS", str(width or 80))
        patch.setenv("LINES", "40")
        patch.delenv("FORCE_COLOR", raising=False)
        print_table("", frame, **options)
    return stream.getvalue()


def wide(rows: int, columns: int = 12) -> pl.DataFrame:
    return pl.DataFrame({f"column_{n}": [f"cell {n}.{row}" for row in range(rows)] for n in range(columns)})


def test_print_table_to_a_pipe_is_never_squeezed() -> None:
    text = printed(wide(5, 60), None)
    assert "cell 59.4" in text
    assert "left out" not in text


def test_print_table_in_a_narrow_terminal_leaves_columns_out_and_names_them() -> None:
    text = printed(wide(5), 60)
    table, note = text.split("columns left out: ")
    assert "column_0" in table
    assert "column_11" in note
    shown = [name for name in wide(5).columns if name in table]
    assert note.split(" (")[0].replace("\n", " ").split(", ") == wide(5).columns[len(shown) :]
    assert max(cell_len(line) for line in table.splitlines()) <= 60


def test_print_table_says_once_what_is_the_same_in_every_row() -> None:
    frame = wide(5).with_columns(column_0=pl.lit("SPY"), column_1=pl.lit(None))
    assert "the same in every row: column_0 SPY, column_1 null" in printed(frame, 80)
    assert "the same" not in printed(frame, 400)


@pytest.mark.parametrize(("rows", "width"), [(1, 60), (3, 60), (8, 20)])
def test_print_table_few_rows_or_no_room_stand_upright(rows: int, width: int) -> None:
    text = printed(wide(rows), width)
    assert text.count("column_11") == rows if width > 30 else "- 8 -" in text
    assert "left out" not in text


def test_print_table_folds_text_but_no_number_or_stamp() -> None:
    stamp = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
    frame = pl.DataFrame(
        {"ts": [stamp] * 5, "note": ["many words " * 5 + str(n) for n in range(5)], "n": [12345678.5] * 4 + [1.0]}
    )
    text = printed(frame, 40, decimals=None)
    assert text.count("2024-01-02 14:30:00Z") == 1  # constant, said once
    varied = frame.with_columns(ts=pl.col("ts") + pl.duration(minutes=pl.int_range(5)))
    text = printed(varied, 62, decimals=None)
    assert "2024-01-02 14:34:00Z" in text
    assert "12345678.5" in printed(varied, 100, decimals=None)


def test_print_table_cells_are_data() -> None:
    frame = pl.DataFrame({HOSTILE: [HOSTILE] * 5, "n": range(5)})
    for width in (None, 120, 20):
        text = printed(frame, width)
        assert "\x1b" not in text
        assert "\r" not in text
        assert "[bold]x[/]" in text.replace("\n", "") or width == 20


@pytest.mark.parametrize(
    ("value", "exact", "rounded"),
    [
        (1.083451, "1.083451", "1.08"),
        (100.0, "100", "100.00"),
        (0.1 + 0.2, "0.3", "0.3"),
        (1e20, "1e+20", None),
        (123456789012.0, "123456789012", None),
        (-1.5, "-1.5", "-1.50"),
        (float("nan"), "nan", "nan"),
        (None, "", ""),
    ],
)
def test_print_table_numbers(value: float | None, exact: str, rounded: str | None) -> None:
    frame = pl.DataFrame({"x": [value]}, schema={"x": pl.Float64})
    assert printed(frame, None, decimals=None).splitlines()[3].strip("│ ") == exact
    if rounded is not None:
        assert printed(frame, None).splitlines()[3].strip("│ ") == rounded


def test_print_table_without_utf8_spells_out() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        print_table("", pl.DataFrame({"x": ["\U0001f4c8"]}))
        stream.flush()
    assert b"\\U0001f4c8" in raw.getvalue()


texts = st.text(max_size=30)


whole_numbers = st.integers(-(2**63), 2**63 - 1)


@settings(deadline=None)
@given(st.lists(st.tuples(texts, texts, whole_numbers, texts), min_size=1, max_size=6), st.integers(10, 120))
def test_print_table_never_overflows_a_terminal(rows: list[tuple[str, str, int, str]], width: int) -> None:
    frame = pl.DataFrame(
        rows, schema={"a": pl.String, "bb": pl.String, "n": pl.Object, "text": pl.String}, orient="row"
    )
    frame = frame.with_columns(n=pl.Series([str(row[2]) for row in rows]))
    for line in printed(frame, width).splitlines():
        if not line.startswith(("the same", "columns left out")):
            assert cell_len(line) <= width
