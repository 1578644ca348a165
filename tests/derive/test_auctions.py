"""Closing auctions: segments after the close, days with and without their prints, incremental as whole, against the reference."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import engine
import polars as pl
import pytest
from engine import reference
from engine.calendars.auctions import AUCTION, read_auctions
from engine.errors import ParameterError
from engine.grid import GridSpec, SessionGrid
from engine.runtime.options import LoadOptions
from engine.runtime.processor import derive_session
from engine.store.symbol_data import SymbolSessionData

LONDON = ZoneInfo("Europe/London")


def local(text: str, zone: str = "Europe/London") -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(dt.UTC)


def spans(code: str | Path, day: str) -> list[str]:
    one = engine.calendar(code)
    rows = one.segments(day, day).filter(pl.col("segment") == AUCTION)
    zone = ZoneInfo(one.zone)
    return [
        f"{begin.astimezone(zone):%H:%M}-{end.astimezone(zone):%H:%M}"
        for begin, end in rows.select("segment_open", "segment_close").rows()
    ]


@pytest.mark.parametrize(
    ("code", "day", "expected"),
    [("XLON", "2024-06-03", ["16:30-16:40"]), ("LSE", "2024-12-24", ["12:30-12:40"]), ("XPAR", "2024-06-03", ["17:30-17:40"]),
     ("XETR", "2024-06-03", ["17:30-17:45"]), ("XHKG", "2024-06-03", ["16:00-16:10"]), ("XHKG", "2024-12-24", ["12:00-12:10"]),
     ("XHKG", "2016-07-22", []), ("XHKG", "2016-07-25", ["16:00-16:10"]), ("XTKS", "2024-11-05", ["15:30-15:31"]),
     ("XTKS", "2024-11-01", ["15:00-15:01"]), ("XNSE", "2024-06-03", ["15:40-16:00"]), ("XNYS", "2024-06-03", [])],
)  # fmt: skip
def test_auctions_follow_the_close_of_the_day_and_their_era(code: str, day: str, expected: list[str]) -> None:
    assert spans(code, day) == expected


def test_auctions_leave_hours_and_questions_as_they_are() -> None:
    london = engine.calendar("XLON")
    assert london.labels == ("RTH", AUCTION)
    assert london.next_close("2024-06-03T12:00+01:00") == local("2024-06-03 16:30")
    assert not london.is_open("2024-06-03T16:35+01:00")
    assert london.is_open("2024-06-03T16:35+01:00", segments=AUCTION)
    assert read_auctions()["source"].str.len_chars().min() > 8


def test_a_calendar_file_has_auctions_of_its_own_that_move_with_an_early_close(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'zone = "Europe/London"\n[[hours]]\ndays = "Mon-Fri"\nRTH = "08:00 to 16:30"\nAUCTION = "16:30 to 16:36"\n'
        '[[override]]\ndate = 2024-06-04\nclose = "12:30"\n'
    )
    assert [spans(file, day) for day in ("2024-06-03", "2024-06-04")] == [["16:30-16:36"], ["12:30-12:36"]]
    extended = tmp_path / "extended.toml"
    extended.write_text('extends = "XLON"\n[[override]]\ndate = 2024-06-04\nclose = "12:30"\n')
    assert spans(extended, "2024-06-04") == ["12:30-12:40"]


# ---------------------------------------------------------------------------- bars


def bars(days: int, *, with_auctions: bool = True) -> pl.DataFrame:
    """Minutes of 100 shares, 10 of each morning and the last one, and a print of 5,000 at 16:35, one of 200 at 16:36."""
    rows = []
    for day in range(days):
        date = f"2024-06-{3 + day:02}"
        stamps = [f"{date} 08:{minute:02}" for minute in range(10)] + [f"{date} 16:29"]
        rows += [(local(at), 10.0 + day + n / 100, 100.0) for n, at in enumerate(stamps)]
        if with_auctions:
            rows += [(local(f"{date} 16:35"), 20.0 + day, 5_000.0), (local(f"{date} 16:36"), 20.5 + day, 200.0)]
        rows += [(local(f"{date} 16:50"), 99.0, 7.0)]  # after hours: of no bar
    stamps, prices, volumes = zip(*rows, strict=True)
    return pl.DataFrame({"timestamp": pl.Series(stamps, dtype=pl.Datetime("us", "UTC")), "open": prices, "high": prices, "low": prices, "close": prices, "volume": volumes})  # fmt: skip


def daily(session: engine.SessionData, interval: str = "1d") -> list[tuple[object, ...]]:
    return (
        session.bars("VOD", interval)
        .select("open", "high", "low", "close", "volume", "n_base", "n_expected", "ts_end")
        .rows()
    )


def test_days_have_the_close_and_volume_of_the_auction_and_are_over_with_it() -> None:
    session = engine.load({"VOD": bars(2)}, "XLON", derive=["5m", "1d", "1w"])
    assert daily(session) == [
        (10.0, 20.5, 10.0, 20.5, 6_300.0, 11, 510, local("2024-06-03 16:40")),
        (11.0, 21.5, 11.0, 21.5, 6_300.0, 11, 510, local("2024-06-04 16:40")),
    ]
    assert session.bars("VOD", "1w").select("close", "volume").rows() == [(21.5, 12_600.0)]
    assert session.bars("VOD", "5m")["volume"].sum() == 2 * 1_100.0  # no slots: not in intraday bars
    labelled = session.bars("VOD", "1m").filter(pl.col("segment") == AUCTION)
    assert labelled["volume"].sum() == 2 * 5_200.0
    assert session.quality("VOD").filter(pl.col("interval") == "1m")["expected"].to_list() == [510, 510]


def test_auctions_out_leaves_days_as_the_session_has_them() -> None:
    session = engine.load({"VOD": bars(1)}, "XLON", derive="1d", auctions="out")
    assert daily(session) == [(10.0, 10.1, 10.0, 10.1, 1_100.0, 11, 510, local("2024-06-03 16:30"))]
    without = engine.load({"VOD": bars(1, with_auctions=False)}, "XLON", derive="1d", auctions="out")
    assert daily(session) == daily(without)


def test_segments_that_are_named_keep_their_auction() -> None:
    assert LoadOptions(engine.CalendarMap("XLON"), segments=("RTH",)).segments_of("XLON") == ("RTH", AUCTION)
    assert LoadOptions(engine.CalendarMap("XLON"), segments=("RTH",), auctions="out").segments_of("XLON") == ("RTH",)
    assert LoadOptions(engine.CalendarMap("XLON"), auctions="out").segments_of("XLON") == ("RTH",)
    assert LoadOptions(engine.CalendarMap("XNYS"), auctions="out").segments_of("XNYS") == ()
    with pytest.raises(ParameterError, match="auctions"):
        LoadOptions(engine.CalendarMap("XLON"), auctions="maybe")  # type: ignore[arg-type]


def test_days_equal_the_reference() -> None:
    calendar = engine.calendar("XLON")
    segments = calendar.segments("2024-06-03", "2024-06-07")
    known = tuple(
        reference.Segment(day, int(begin.timestamp() * 1e6), int(end.timestamp() * 1e6), label, regular)
        for day, label, begin, end, regular in segments.select(
            "session", "segment", "segment_open", "segment_close", "regular"
        ).rows()
    )
    for labels in ((), ("RTH",), ("RTH", AUCTION)):
        frame = bars(3)
        rows = [{**row, "ts": int(row["timestamp"].timestamp() * 1e6)} for row in frame.rows(named=True)]
        expected = reference.bars(reference.Grid(known, labels), rows, reference.MINUTE, "1d")
        grid = SessionGrid.build(segments, "1m", GridSpec("XLON", labels))
        placed = frame.rename({"timestamp": "ts"}).with_columns(pl.lit(1, pl.Int32).alias("series"))
        placed = placed.hstack(grid.place(placed["ts"]))
        found = engine.derive_bars(placed, grid, "1d")[engine.Interval.parse("1d")]
        names = ["open", "high", "low", "close", "volume", "n_base", "n_expected", "complete"]
        assert found.select(names).rows() == [tuple(bar[name] for name in names) for bar in expected], labels
        assert [int(end.timestamp() * 1e6) for end in found["ts_end"]] == [bar["ts_end"] for bar in expected]


@pytest.mark.parametrize("derive", [("1d",), ("5m", "1h", "1d", "1w")])
def test_prints_that_come_late_make_the_days_of_a_whole_load(derive: tuple[str, ...]) -> None:
    whole = bars(2)
    loaded = engine.load({"VOD": whole}, "XLON", derive=derive)
    session = engine.SessionData()
    session.register_symbol_data(SymbolSessionData("VOD", "XLON", derived_intervals=derive))
    rows = whole.rename({"timestamp": "ts"}).with_columns(
        pl.lit("VOD").alias("symbol"), pl.lit("last").alias("price_type"), pl.lit(None, pl.Float64).alias("size"),
        pl.lit(None, pl.Float64).alias("vwap"), pl.lit(None, pl.Int64).alias("trades"), pl.lit(0, pl.Int64).alias("row"),
    )  # fmt: skip
    late = rows["ts"].dt.convert_time_zone("Europe/London").dt.strftime("%H:%M") == "16:35"
    from engine.runtime.processor import DataProcessor  # noqa: PLC0415 - of this test alone

    processor = DataProcessor(session)
    for part in (rows.filter(~late), rows.filter(late)):
        session.append(part, "bars", "1m")
        processor.step()
    for interval in derive:
        columns = ["ts", "ts_end", "open", "high", "low", "close", "volume", "n_base", "n_expected", "complete"]
        assert session.bars("VOD", interval).select(columns).equals(loaded.bars("VOD", interval).select(columns)), (
            interval
        )
    assert derive_session(session) == 0


def test_a_vwap_needs_one_of_the_auction_too() -> None:
    frame = bars(1).with_columns(pl.when(pl.col("volume") < 5_000).then(pl.col("close")).alias("vwap"))
    assert engine.load({"VOD": frame}, "XLON", derive="1d").bars("VOD", "1d")["vwap"].to_list() == [None]
    whole = frame.with_columns(pl.col("close").alias("vwap"))
    expected = whole.filter(pl.col("volume") != 7).select(
        (pl.col("vwap") * pl.col("volume")).sum() / pl.col("volume").sum()
    )
    assert engine.load({"VOD": whole}, "XLON", derive="1d").bars("VOD", "1d")["vwap"][0] == pytest.approx(
        expected.item()
    )


def test_quotes_of_an_auction_call_are_no_price_of_the_day() -> None:
    frame = bars(1).with_columns(pl.lit("bid").alias("price_type"))
    session = engine.load({"VOD": frame}, "XLON", derive="1d")
    assert session.bars("VOD", "1d", "bid")["close"].to_list() == [10.1]


# ---------------------------------------------------------------------------- audits


def test_audit_has_auctions_in_columns_of_their_own_and_weighs_by_volume() -> None:
    audit = engine.run_audit({"VOD": bars(5)}, "XLON")
    row = audit.tables["series"].row(0, named=True)
    # A day: 1,100 shares in the session, 5,200 in the auction, 7 after hours.
    assert row["auctions"] == 10
    assert row["auction_volume"] == pytest.approx(100 * 5_200 / 6_307)
    assert row["outside_volume"] == pytest.approx(100 * 7 / 6_307)
    found = audit.tables["findings"].filter(pl.col("check_name") == "unscheduled").sort("count")
    assert found.select("severity", "count").rows() == [("warning", 5), ("info", 10)]
    assert "10 rows (82.4% of the volume) lie in closing auctions of XLON" in found["message"][1]
    assert "(0.1% of the volume) lie after the close" in found["message"][0]


def test_few_rows_outside_with_much_of_the_volume_are_a_warning(tmp_path: Path) -> None:
    plain = tmp_path / "plain.toml"  # hours of London without its auction
    plain.write_text('zone = "Europe/London"\n[[hours]]\ndays = "Mon-Fri"\nRTH = "08:00 to 16:30"\n')
    audit = engine.run_audit({"VOD": bars(1)}, plain)
    found = audit.tables["findings"].filter(pl.col("check_name") == "unscheduled")
    assert found.select("severity", "count").rows() == [("warning", 3)]
    assert found["value"][0] == pytest.approx(5_207 / 6_307)


def test_a_run_says_whether_auctions_are_in_days(tmp_path: Path, capsys, monkeypatch) -> None:
    import sys  # noqa: PLC0415 - of this test alone

    from engine.cli import main  # noqa: PLC0415 - of this test alone

    bars(2).write_parquet(tmp_path / "VOD.parquet")
    for words, text in (([], "are in 1d, 1w and 1mo"), (["--auctions", "out"], "are in no bar")):
        monkeypatch.setattr(sys, "argv", ["engine", "run", str(tmp_path), "--calendar", "XLON", *words])
        with pytest.raises(SystemExit):
            main()
        assert f"VOD: prints of closing auctions of XLON {text}" in " ".join(capsys.readouterr().out.split())
