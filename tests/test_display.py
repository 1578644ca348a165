"""How objects show themselves: as text and as HTML, whatever their names are."""

from __future__ import annotations

import datetime as dt
import html.parser
from pathlib import Path

import engine
import polars as pl
import pytest
from engine.display import LONGEST_CELL, Summary, visible
from engine.runtime.demo import demonstrate

SCRIPT = "</td><script>x</script>"
HOSTILE = (SCRIPT, "=cmd|' /C calc'!A0", "[/]", "L" * 300, "🚀", "a\u202eb\nc")
OPEN = dt.datetime(2024, 11, 25, 14, 30, tzinfo=dt.UTC)


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.depth = 0

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.add(tag)
        self.depth += 1

    def handle_endtag(self, tag) -> None:
        self.depth -= 1


def tags(text: str) -> set[str]:
    parser = Tags()
    parser.feed(text)
    assert parser.depth == 0
    return parser.seen


@pytest.fixture(scope="module")
def session() -> engine.SessionData:
    made = engine.SessionData()
    made.register_symbol_data(*(engine.SymbolSessionData(name, derived_intervals=("5m",)) for name in (*HOSTILE, *(f"S{i}" for i in range(9)))))  # fmt: skip
    bars = pl.concat(
        engine.from_frame(pl.DataFrame({"ts": [OPEN + dt.timedelta(minutes=m) for m in (0, 1, 3)], "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 5.0}), symbol=name).frame
        for name in HOSTILE
    )  # fmt: skip
    made.append(bars, "bars", "1m")
    return made


def objects(session: engine.SessionData, folder: Path) -> dict[str, object]:
    engine.export_session(session, folder / "export")
    snapshot = session.snapshot()
    one = session.get_symbol_data(SCRIPT)
    assert one is not None
    return {
        "session": session, "snapshot": snapshot, "symbol": one, "unbound": engine.SymbolSessionData(SCRIPT),
        "calendar": engine.calendar("XHKG"), "grid": snapshot.grid(one.spec, one.base), "audit": engine.run_audit(session),
        "dataset": engine.open_dataset(folder / "export"),
    }  # fmt: skip


def test_show_of_every_object_is_short_text_and_escaped_html(session, tmp_path: Path) -> None:
    for name, one in objects(session, tmp_path).items():
        text, markup = repr(one), one._repr_html_()
        assert text.startswith(type(one).__name__), name
        assert len(text.splitlines()) < 25, name
        assert visible(text.replace("\n", "")) == text.replace("\n", ""), name
        assert tags(markup) <= {"div", "b", "strong", "table", "thead", "tbody", "tr", "th", "td"}, name


def test_show_of_a_session_counts_bars_and_says_how_many_symbols_are_left_out(session) -> None:
    text = repr(session)
    assert "  symbols   15\n" in text
    assert text.endswith("  and 5 more")
    row = next(line for line in text.splitlines() if line.startswith("  </td>"))
    assert row.split()[1:5] == ["XNYS", "1m", "5m", "3"]
    assert "L" * 300 not in text


def test_show_of_a_symbol_has_a_row_for_each_interval(tmp_path: Path) -> None:
    demonstrate(tmp_path, 7)
    session = engine.load(tmp_path / "files", "XNYS", derive=["5m", "1d"], timezone="UTC", interval="1m")
    one = session.get_symbol_data("BANK")
    assert one is not None
    base = next(line for line in repr(one).splitlines() if line.startswith("  1m")).split()
    gaps = one.bar_gaps["1m"]
    assert base[1] == f"{one.bars_base.height:,}"
    assert base[4:7] == [str(gaps["bar_count"].sum()), str(gaps.height), str(gaps["bar_count"].max())]
    assert [line.split()[0] for line in repr(one).splitlines()[-3:]] == ["1m", "5m", "1d"]
    audit = engine.run_audit(session)
    told = repr(audit)
    assert "slots, " in told
    assert {line.split()[0] for line in told.splitlines()[-3:]} <= set(audit.tables["gaps"]["cause"])


def test_show_of_a_calendar_and_a_grid_says_zone_and_hours() -> None:
    calendar = engine.calendar("XHKG")
    assert "zone      Asia/Hong_Kong" in repr(calendar)
    grid = engine.SessionGrid.build(calendar.segments(dt.date(2024, 1, 2), dt.date(2024, 1, 5)), "15m", engine.GridSpec("XHKG"))  # fmt: skip
    text = repr(grid)
    assert "sessions  4, 2024-01-02 to 2024-01-05" in text
    assert "slots     88" in text
    assert "2024-01-02 01:30 UTC" in text
    assert text.endswith("and 5 more")


def test_show_of_an_empty_store_and_grid_says_so() -> None:
    assert repr(engine.SessionData()) == "SessionData\n  symbols   0\n  revision  0"
    grid = engine.SessionGrid.build(engine.calendar("XNYS").segments(dt.date(2024, 1, 6), dt.date(2024, 1, 7)), "1m", engine.GridSpec("XNYS"))  # fmt: skip
    assert "sessions  none" in repr(grid)


def test_card_cuts_long_cells_and_leaves_out_what_is_not_there() -> None:
    card = Summary("a\nb", {"none": None, "empty": "", "long": "x" * 500}, ("n",), (("y" * 99,),), 3)
    assert card.text().splitlines()[0] == "a\\u000ab"
    assert "none" not in card.text()
    assert max(map(len, card.text().splitlines())) <= 2 * LONGEST_CELL + 10
    assert "and 2 more" in card.html()
