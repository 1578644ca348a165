"""Mid bars in step with quotes that are late, corrected or of one side."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.runtime.processor import DataProcessor
from engine.schema import QUOTES
from engine.store.panel import Panel
from engine.store.session_data import SessionData
from engine.store.symbol_data import SymbolSessionData
from polars.testing import assert_frame_equal

OPEN = dt.datetime(2024, 1, 3, 14, 30, tzinfo=dt.UTC)
Quote = tuple[float, float | None, float | None]  # minutes after the open, bid, ask


def quotes(rows: list[Quote]) -> pl.DataFrame:
    content = [
        {"symbol": "A", "ts": OPEN + dt.timedelta(minutes=at), "seq": 0, "bid": bid, "ask": ask}
        for at, bid, ask in rows
    ]
    return pl.DataFrame(content, schema={name: QUOTES.get(name) for name in QUOTES}, orient="row")


def registered() -> SessionData:
    session = SessionData()
    session.register_symbol_data(
        SymbolSessionData("A", base_from="quotes", price_type="mid", derived_intervals=("5m",))
    )
    return session


def stored(*batches: list[Quote]) -> SessionData:
    """A store that derived after each batch."""
    session = SessionData()
    session.register_symbol_data(
        SymbolSessionData("A", base_from="quotes", price_type="mid", derived_intervals=("5m",))
    )
    processor = DataProcessor(session)
    for batch in batches:
        session.append(quotes(batch), "quotes")
        processor.step()
    return session


def stored_at_once(*batches: list[Quote]) -> SessionData:
    session = registered()
    session.append([quotes(batch) for batch in batches], "quotes")
    DataProcessor(session).step()
    return session


def mids(session: SessionData) -> list[tuple[int, float]]:
    rows = session.bars("A", "1m").filter(pl.col("price_type") == "mid").select("ts", "close").rows()
    return [(int((ts - OPEN).total_seconds()) // 60, close) for ts, close in rows]


@pytest.mark.parametrize(
    ("before", "late", "then"),
    [
        # A late quote of both sides changes the mid of the one-sided quote after it, in another slot.
        ([(0, 9, 11), (5, 10, None), (7, 9, 11)], [(2, 9, 13)], [(0, 10.0), (2, 11.0), (5, 11.5), (7, 10.0)]),
        # Up to where both sides were quoted anew, by two quotes hours apart.
        ([(0, 9, 11), (5, 10, None), (200, 8, None), (300, None, 12)], [(2, 9, 13)], [(0, 10.0), (2, 11.0), (5, 11.5), (200, 10.5), (300, 10.0)]),
        # To the end of the segment, when one never is.
        ([(0, 9, 11), (5, 10, None), (389, 8, None)], [(2, 9, 13)], [(0, 10.0), (2, 11.0), (5, 11.5), (389, 10.5)]),
        # A one-sided quote needs the other side of hours ago, and nothing of the day before.
        ([(-1440, 1, 2), (0, None, 11), (1, 9, None)], [(380, 10, None)], [(-1440, 1.5), (1, 10.0), (380, 10.5)]),
        ([(-1440, 1, 2)], [(0, 10, None)], [(-1440, 1.5)]),
        # A correction that takes a side away, and one that brings it.
        ([(0, 9, 11), (1, 10, 14), (2, 11, None)], [(1, 10, None)], [(0, 10.0), (1, 10.5), (2, 11.0)]),
        ([(0, 9, 11), (1, 10, None), (2, 11, None)], [(1, 10, 14)], [(0, 10.0), (1, 12.0), (2, 12.5)]),
        # Quotes of one instant have an order, too.
        ([(0, 9, 11), (5, 10, None), (5, None, 12), (5, 10, 12)], [(2, 9, 13)], [(0, 10.0), (2, 11.0), (5, 11.0)]),
        # Two touched slots, with slots between them that nothing touched.
        ([(0, 9, 11), (3, 10, None), (6, 10, None)], [(1, 9, 13), (4, None, 15)], [(0, 10.0), (1, 11.0), (3, 11.5), (4, 12.5), (6, 12.5)]),
    ],
)  # fmt: skip
def test_step_mids_after_a_late_quote_equal_those_of_a_rebuild(
    before: list[Quote], late: list[Quote], then: list[tuple[int, float]]
) -> None:
    followed = stored(before, late)
    assert mids(followed) == then
    rebuilt = stored_at_once(before, late)
    assert mids(rebuilt) == then
    coarse, want = (one.bars("A", "5m").filter(pl.col("price_type") == "mid") for one in (followed, rebuilt))
    assert_frame_equal(coarse, want)


def test_step_of_one_sided_quotes_reads_what_is_near_and_not_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    between = Panel.between

    def counted(panel: Panel, spans: pl.DataFrame) -> pl.DataFrame:
        rows = between(panel, spans)
        taken.append(rows.height)
        return rows

    def read(minute: int) -> int:
        whole: list[Quote] = [(at / 20, 9 if at % 2 else None, None if at % 2 else 11) for at in range(20 * minute)]
        session = stored(whole)
        processor = DataProcessor(session)
        processor.step()
        session.append(quotes([(minute, 9, None)]), "quotes")
        taken.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Panel, "between", counted)
            processor.step()
        return sum(taken)

    assert read(380) <= 1.2 * read(30)
