"""The typed pass of delimited text gives what the pass by way of text gives: frames, rejects and notes."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace

import polars as pl
import pytest
from engine.errors import SourceError
from engine.sources.batch import Batch
from engine.sources.file_names import PathFacts
from engine.sources.fixed_stamps import parse_fixed
from engine.sources.options import ReadOptions
from engine.sources.resolution import ordered_steps, step_counts
from engine.sources.stamps import Reading, column_to_utc
from engine.sources.table_rows import Origin
from engine.sources.text import find_layout, read_cells, read_typed
from polars.testing import assert_frame_equal, assert_series_equal

ORIGIN = Origin("any.csv", "", PathFacts(symbol="SPY"), ReadOptions())
HEADERS = {
    "bars": "timestamp,open,high,low,close,volume,trades,remark",
    "sided": "timestamp,bid_open,bid_high,bid_low,bid_close,ask_open,ask_high,ask_low,ask_close,bid_size",
    "quotes": "timestamp,bid,ask,bid_size,ask_size",
    "ticks": "timestamp,price,size,exchange,trade_id,suspicious",
    "named": "timestamp,symbol,price_type,open,high,low,close,volume",
}
CELLS = [
    "",
    " ",
    "nan",
    "inf",
    "-1",
    "0",
    "abc",
    "1e3",
    "1e400",
    "+7",
    " 8",
    "9 ",
    "1,5",
    "1_0",
    "NULL",
    "7.25",
    "\xa03",
]
STAMPS = [
    "2024-01-02T14:30:00Z", "2024-01-02 14:30:00Z", "2024-01-02T14:30:60Z", "2024-02-30T14:30:00Z", "x",
    "2024-01-02T24:00:00Z", "9999-01-02T14:30:00Z", "2024-01-02T14:30Z", "1850-01-02T14:30:00Z",
]  # fmt: skip


def text_of(kind: str, rows: int, chance: random.Random) -> list[list[str]]:
    lines = []
    for at in range(rows):
        minute = f"2024-01-{2 + at // 390:02}T{14 + at % 390 // 60:02}:{at % 60:02}:00Z"
        price = round(100 + chance.random(), 2)
        cells = {
            "timestamp": minute, "remark": chance.choice(["a", "b", ""]), "exchange": chance.choice("NQ"),
            "suspicious": chance.choice(["0", "true", ""]), "symbol": chance.choice(["A", "B"]), "price_type": "last",
            "trade_id": str(at), "volume": str(chance.randrange(9999)), "trades": str(chance.randrange(99)),
        }  # fmt: skip
        prices = {"high": price + 1, "low": price - 1}
        lines.append([
            cells.get(name, f"{prices.get(name.rpartition('_')[2], price):.2f}") for name in HEADERS[kind].split(",")
        ])  # fmt: skip
    return lines


def damaged(lines: list[list[str]], chance: random.Random) -> list[list[str]]:
    for _ in range(chance.randrange(4)):
        row, column = chance.randrange(len(lines)), chance.randrange(len(lines[0]))
        lines[row][column] = chance.choice(STAMPS if column == 0 else CELLS)
    if chance.random() < 0.2:
        lines.insert(chance.randrange(len(lines)), list(chance.choice(lines)))
    return lines


def outcome(read: Batch | SourceError) -> object:
    if isinstance(read, SourceError):
        return str(read)
    return replace(read, frame=None, rejects=None, counters=None)  # type: ignore[arg-type]


def attempt(call: object, *arguments: object) -> Batch | SourceError | None:
    try:
        return call(*arguments)  # type: ignore[operator,no-any-return]
    except SourceError as error:
        return error


def assert_same(data: bytes, origin: Origin) -> bool:
    """Whether the typed pass read it; a difference from the pass by way of text fails."""
    layout = find_layout(data, origin.options, origin.source)
    typed, text = attempt(read_typed, layout, origin), attempt(read_cells, layout, origin)
    if typed is None:
        return False
    assert text is not None
    assert outcome(typed) == outcome(text)
    if isinstance(typed, Batch) and isinstance(text, Batch):
        assert_frame_equal(typed.frame, text.frame)
        assert_frame_equal(typed.rejects, text.rejects)
        assert_frame_equal(typed.counters, text.counters)
    return True


@pytest.mark.parametrize("kind", HEADERS)
def test_read_typed_random_and_damaged_text_equals_read_cells(kind: str) -> None:
    origin = replace(ORIGIN, path_facts=PathFacts()) if kind == "named" else ORIGIN
    typed = 0
    for seed in range(120):
        chance = random.Random(seed)  # noqa: S311  # not for secrets
        lines = damaged(text_of(kind, chance.choice([1, 2, 40, 400]), chance), chance)
        end = chance.choice(["\n", "\r\n"])
        text = end.join([*(["# top"] if seed % 7 == 0 else []), HEADERS[kind], *map(",".join, lines)])
        if chance.random() < 0.1:
            text += f"{end}{HEADERS[kind]}"
        typed += assert_same((text + chance.choice(["", end])).encode(), origin)
    assert typed > 30  # else the typed pass is hardly tested


def test_read_typed_spliced_files_equals_read_cells() -> None:
    for seed in range(200):
        chance = random.Random(seed)  # noqa: S311  # not for secrets
        first, second = ("\n".join([HEADERS[kind], *map(",".join, text_of(kind, 50, chance))]).encode()
                         for kind in chance.sample(list(HEADERS), 2))  # fmt: skip
        body = first.index(b"\n") + 1
        cut = bytearray(first[: chance.randrange(body, len(first))] + second[chance.randrange(len(second)) :])
        for _ in range(chance.randrange(3)):
            cut[chance.randrange(body, len(cut))] = chance.choice(b'\n\r,;"\xff 19')
        assert_same(bytes(cut), ORIGIN)


def test_read_typed_rejected_row_keeps_cells_as_written() -> None:
    rows = ["timestamp,open,high,low,close,volume", "2024-01-02T14:30:00Z,1.50,2.00,1.0,1.5,007"]
    data = "\n".join([*rows, "2024-01-02T14:31:00Z,1.50,1.00,2.0,1.5,008"]).encode()
    batch = read_typed(find_layout(data, ReadOptions(), "any.csv"), ORIGIN)
    assert batch is not None
    assert batch.frame.height == 1
    assert batch.rejects["row"].to_list() == [3]
    assert '"high":"1.00"' in batch.rejects["cells"][0]
    assert '"volume":"008"' in batch.rejects["cells"][0]


FORMS = [
    "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y-%m-%d %H:%M:%S%.3f", "%Y-%m-%d %H:%M:%S%.9f",
    "%Y-%m-%d %H:%M:%S-05:00", "%Y-%m-%dT%H:%M:%S+0530", "%Y-%m-%d %H:%MZ",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("zone", ["America/New_York", "UTC"])
def test_parse_fixed_equals_the_general_reading(form: str, zone: str) -> None:
    chance = random.Random(form)  # noqa: S311  # not for secrets
    reading = Reading("any", "ts", zone, is_bars=True)
    for seed in range(30):
        start = pl.Series([chance.randrange(1_600_000_000, 1_800_000_000) for _ in range(50)]).cast(pl.Int64)
        cells = (start * 1_000_000_000).cast(pl.Datetime("ns")).dt.strftime(form).to_list()
        if seed % 3:
            cells[chance.randrange(len(cells))] = chance.choice(
                [*STAMPS, "2024-01-02 14:30:00-04:00", cells[0][:-1] + "9"]
            )
        text = pl.Series("ts", cells)
        fixed = parse_fixed(text)
        assert seed % 3 or fixed is not None
        if fixed is not None:
            ours, general = column_to_utc(fixed, reading), column_to_utc(text, reading)
            assert_series_equal(ours.ts.cast(general.ts.dtype), general.ts)
            assert ours.notes == general.notes


def test_ordered_steps_equals_steps_of_sorted_rows() -> None:
    for seed in range(60):
        chance = random.Random(seed)  # noqa: S311  # not for secrets
        rows = sorted(
            (chance.choice("AB"), chance.choice(["bid", "ask"]), 60 * chance.randrange(200)) for _ in range(60)
        )
        if seed % 3 == 1:
            rows = list(dict.fromkeys(rows))
        if seed % 3 == 2:
            chance.shuffle(rows)
        frame = pl.DataFrame(rows, schema=["symbol", "price_type", "ts"], orient="row")
        frame = frame.with_columns(pl.col("ts").cast(pl.Int64).mul(1_000_000).cast(pl.Datetime("us", "UTC")))
        series: dict[tuple[str, str], list[int]] = {}
        for symbol, price_type, ts in sorted(set(rows)):
            series.setdefault((symbol, price_type), []).append(ts)
        steps = [1000 * (b - a) for stamps in series.values() for a, b in itertools.pairwise(stamps)]
        assert step_counts(frame) == sorted(Counter(steps).items(), key=lambda pair: (-pair[1], pair[0]))
        if seed % 3 == 1:
            assert ordered_steps(frame) is not None
            assert (ordered_steps(frame.reverse()) is None) == (frame.height > 4)
