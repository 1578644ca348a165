"""Halts and incidents of files: whose cause a slot has follows from the instants that the files name."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import engine
import numpy as np
import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.errors import ParameterError

DAY = dt.date(2024, 4, 8)
MINUTE = np.timedelta64(60_000_000, "us")
UTC = dt.UTC


def slots(sessions: int = 4) -> np.ndarray:
    """Minutes of the first sessions of XNYS from 2024-04-08, a row each: 09:30 New York is 13:30 UTC."""
    segments = calendar("XNYS").segments(DAY, DAY + dt.timedelta(days=2 * sessions + 5))
    opens = segments.filter("regular").head(sessions)["segment_open"].dt.replace_time_zone(None).to_numpy()
    return opens.astype("datetime64[us]")[:, None] + np.arange(390) * MINUTE


def bars(stamps: np.ndarray, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    close = 50 + np.cumsum(rng.normal(0, 0.02, len(stamps)))
    stamped = pl.Series("ts", stamps).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.DataFrame(
        {"ts": stamped, "open": close, "high": close + 0.02, "low": close - 0.02, "close": close}
    ).with_columns(pl.lit(500.0).alias("volume"))


def frames(lost: dict[str, np.ndarray], symbols: int = 4, sessions: int = 4) -> dict[str, pl.DataFrame]:
    """Liquid symbols A, B, ... of which some lack minutes."""
    grid = slots(sessions).ravel()
    names = [chr(65 + n) for n in range(symbols)]
    return {name: bars(np.setdiff1d(grid, lost.get(name, grid[:0])), n) for n, name in enumerate(names)}


def gaps(tables: dict[str, pl.DataFrame], symbol: str | None = None) -> list[tuple[str, str, int, str]]:
    """(symbol, HH:MM in UTC, bars, cause) of each gap."""
    found = tables["gaps"].sort("symbol", "gap_start")
    if symbol is not None:
        found = found.filter(pl.col("symbol") == symbol)
    return found.select("symbol", pl.col("gap_start").dt.strftime("%H:%M"), "bar_count", "cause").rows()


def audited(data: dict[str, pl.DataFrame], **given: object) -> dict[str, pl.DataFrame]:
    return dict(engine.run_audit(data, "XNYS", interval="1m", **given).tables)


def test_halt_of_a_file_explains_the_slots_inside_it_and_cuts_the_gap_there(tmp_path: Path) -> None:
    grid = slots()
    data = frames({"B": grid[1, 60:100]})  # 14:30 to 15:10 UTC
    path = tmp_path / "halts.csv"
    path.write_text(
        "Halt Date,Halt Time,Issue Symbol,Issue Name,Market,Reason Codes,Pause Threshold Price,Resumption Date,"
        "Resumption Quote Time,Resumption Trade Time\n"
        "04/09/2024,10:40:00,b,Bee,NASDAQ,LUDP,,04/09/2024,10:50:00,10:55:00\n"
    )
    tables = audited(data, halts=path)
    assert gaps(tables) == [
        ("B", "14:30", 10, "symbol_loss"),
        ("B", "14:40", 15, "halt"),
        ("B", "14:55", 15, "symbol_loss"),
    ]
    halted = tables["gaps"].filter(pl.col("cause") == "halt").row(0, named=True)
    assert "LUDP (halts.csv, line 2)" in halted["evidence"]
    assert halted["confidence"] == 0.99
    assert tables["series"].filter(pl.col("symbol") == "B")["explained"].item() == 15
    told = tables["findings"].filter(pl.col("check_name") == "halt")
    assert told.select("severity", "count").rows() == [("info", 15)]


def test_halt_counts_in_slots_that_lie_inside_it_by_half_and_only_there(tmp_path: Path) -> None:
    grid = slots()
    path = tmp_path / "own.csv"
    path.write_text("symbol,halt,resumption,reason\nB,2024-04-09T14:39:40Z,2024-04-09T14:44:31Z,news\n")
    tables = audited(frames({"B": grid[1, 60:100]}), halts=path)
    assert gaps(tables) == [
        ("B", "14:30", 10, "symbol_loss"),
        ("B", "14:40", 5, "halt"),
        ("B", "14:45", 25, "symbol_loss"),
    ]


def test_open_halt_counts_to_the_close_of_its_session_and_not_further(tmp_path: Path) -> None:
    grid = slots()
    lost = np.concatenate([grid[1, 300:], grid[2, :50]])
    path = tmp_path / "open.csv"
    path.write_text("symbol,halt,resumption,reason\nB,2024-04-09T18:30:00Z,,T12\n")
    tables = audited(frames({"B": lost}), halts=[path])
    assert gaps(tables) == [("B", "18:30", 90, "halt"), ("B", "13:30", 50, "symbol_loss")] or gaps(tables) == [
        ("B", "13:30", 50, "symbol_loss"),
        ("B", "18:30", 90, "halt"),
    ]
    said = tables["gaps"].filter(pl.col("cause") == "halt")["evidence"].item()
    assert "without an end, which counts to the close of its session" in said


def test_open_row_gives_way_to_a_later_row_of_the_same_halt_with_a_resumption(tmp_path: Path) -> None:
    grid = slots()
    path = tmp_path / "nyse.csv"
    path.write_bytes(
        b"\xef\xbb\xbfHalt Date,Halt Time,Symbol,Name,Exchange,Reason,Resume Date,NYSE Resume Time\r\n"
        b'2024-04-09,14:30:00,B,"""Bee, Inc.""",NYSE,News Pending,,\r\n'
        b'2024-04-09,14:30:00,B,"""Bee, Inc.""",NYSE,News Pending,2024-04-09,14:50:00\r\n'
    )
    tables = audited(frames({"B": grid[1, 300:340]}), halts=path)
    assert gaps(tables) == [("B", "18:30", 20, "halt"), ("B", "18:50", 20, "symbol_loss")]


def test_open_halt_ends_where_another_row_says_that_the_symbol_trades_again(tmp_path: Path) -> None:
    # Two exchanges tell of one halt, a second apart; and a symbol that is halted again has traded between.
    grid = slots()
    path = tmp_path / "own.csv"
    path.write_text(
        "symbol,halt,resumption,reason\n"
        "B,2024-04-09T18:30:00Z,,T1\n"
        "B,2024-04-09T18:30:01Z,2024-04-09T18:40:00Z,T1\n"
        "C,2024-04-09T18:30:00Z,,T1\n"
        "C,2024-04-10T18:30:00Z,2024-04-10T18:40:00Z,T1\n"
    )
    tables = audited(frames({"B": grid[1, 300:320], "C": grid[1, 300:320]}), halts=path)
    assert gaps(tables) == [("B", "18:30", 10, "halt"), ("B", "18:40", 10, "symbol_loss"), ("C", "18:30", 20, "halt")]


@pytest.mark.parametrize("symbol", ["", "*"])
def test_halt_of_the_whole_market_is_one_event_of_all_symbols(tmp_path: Path, symbol: str) -> None:
    grid = slots()
    path = tmp_path / "market.csv"
    path.write_text(
        f"symbol,halt,resumption,reason,zone\n{symbol},2024-04-09 11:00:00,2024-04-09 11:15:00,MWC1,America/New_York\n"
    )
    tables = audited(frames(dict.fromkeys("ABCD", grid[1, 90:105])), halts=path)
    assert gaps(tables) == [(name, "15:00", 15, "halt") for name in "ABCD"]
    assert tables["outages"].select("cause", "symbols", "missing").rows() == [("halt", 4, 60)]
    assert tables["findings"].filter(pl.col("count") == 60)["check_name"].to_list() == ["halt"]
    assert (tables["series"]["quality_adjusted"] == 100).all()


def test_halt_explains_no_slot_with_trade_prints_inside(tmp_path: Path) -> None:
    grid = slots()
    data = frames({"B": grid[1, 60:70]})
    (tmp_path / "B.csv").write_text(data["B"].write_csv())
    tick = grid[1, 60:65].astype(str)
    (tmp_path / "B-ticks.csv").write_text(
        "timestamp,symbol,price,size\n" + "".join(f"{at}Z,B,50.0,10\n" for at in tick)
    )
    (tmp_path / "B.csv").write_text(data["B"].with_columns(pl.lit("B").alias("symbol")).write_csv())
    halts = pl.DataFrame(
        {
            "symbol": ["B"],
            "halt": [dt.datetime(2024, 4, 9, 14, 30, tzinfo=UTC)],
            "resumption": [dt.datetime(2024, 4, 9, 14, 40, tzinfo=UTC)],
        }
    )
    tables = engine.run_audit(tmp_path, "XNYS", interval="1m", halts=halts).tables
    assert gaps(dict(tables), "B") == [("B", "14:30", 5, "symbol_loss"), ("B", "14:35", 5, "halt")]


def test_overlapping_halts_count_each_slot_once(tmp_path: Path) -> None:
    grid = slots()
    path = tmp_path / "over.csv"
    path.write_text(
        "symbol,halt,resumption\n"
        "B,2024-04-09T14:30:00Z,2024-04-09T14:45:00Z\n"
        "B,2024-04-09T14:40:00Z,2024-04-09T14:50:00Z\n"
        "B,2024-04-09T14:32:00Z,2024-04-09T14:34:00Z\n"
        "B,2024-04-09T14:55:00Z,2024-04-09T14:55:00Z\n"
    )
    tables = audited(frames({"B": grid[1, 60:90]}), halts=path)
    assert gaps(tables) == [("B", "14:30", 20, "halt"), ("B", "14:50", 10, "symbol_loss")]


def test_bad_rows_of_a_halts_file_are_named_and_the_others_count(tmp_path: Path) -> None:
    grid = slots()
    path = tmp_path / "bad.csv"
    path.write_text(
        "symbol,halt,resumption,reason,zone\n"
        "B,2024-04-09 10:30,2024-04-09 10:20,reversed,America/New_York\n"
        "B,2024-04-09 10:30,2024-04-09 10:50,zone,Mars/Olympus\n"
        "B,2024-04-09 10:30,2024-04-09 10:50,no zone,\n"
        "B,someday,,text,America/New_York\n"
        "B,,2024-04-09 10:50,nothing,America/New_York\n"
        "b,2024-04-09 10:30,2024-04-09 10:50,good,America/New_York\n"
    )
    tables = audited(frames({"B": grid[1, 60:80]}), halts=path)
    assert gaps(tables) == [("B", "14:30", 20, "halt")]
    refused = tables["findings"].filter(pl.col("check_name") == "refused")
    said = " ".join(f"{row['message']} {row['evidence']}" for row in refused.iter_rows(named=True))
    assert refused.height == 5
    assert set(refused["source"]) == {str(path)}
    for row, value, valid in (
        (2, "'2024-04-09 10:20', before the start", "an end at the start or later"),
        (3, "'Mars/Olympus'", "an IANA zone such as America/New_York"),
        (4, "'2024-04-09 10:30' without a zone", "--timezone"),
        (5, "'someday'", "a date and a time such as 2024-01-31 10:05:00"),
        (6, "start: missing", "a date and a time such as"),
    ):
        assert f"the first is row {row}:" in said
        assert value in said
        assert valid in said
    named = audited(frames({"B": grid[1, 60:80]}), halts=path, timezone="America/New_York")
    assert named["findings"].filter(pl.col("check_name") == "refused").height == 4


@pytest.mark.parametrize("content", [b"", b"\n\n", b"symbol,halt,resumption,reason\n", b"\xef\xbb\xbf"])
def test_empty_halts_file_explains_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.csv"
    path.write_bytes(content)
    tables = audited(frames({"B": slots()[1, 60:80]}), halts=path)
    assert gaps(tables) == [("B", "14:30", 20, "symbol_loss")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"symbol,when\nB,2024-04-09\n", "no column of the start"),
        (b"\x00\x01\x02" * 40, "binary"),
        (None, "no such file"),
    ],
)
def test_halts_file_that_is_none_ends_the_run_with_its_name(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "x.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ParameterError, match=rf"halts .*x\.csv.*{said}"):
        audited(frames({}), halts=path)


def test_million_rows_of_halts_take_seconds(tmp_path: Path) -> None:
    grid = slots()
    count = 1_000_000
    begun = pl.datetime_range(
        dt.datetime(2024, 4, 8, tzinfo=UTC), dt.datetime(2024, 4, 12, tzinfo=UTC), "345600us", eager=True
    ).head(count)
    rows = pl.DataFrame({"halt": begun, "resumption": begun + dt.timedelta(seconds=40)}).with_columns(
        pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("*")).otherwise(pl.lit("b")).alias("symbol")
    )
    path = tmp_path / "many.csv"
    rows.write_csv(path, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ")
    tables = audited(frames({"B": grid[1, 60:80], "C": grid[2, 5:9]}), halts=path)
    assert {cause for *_, cause in gaps(tables)} == {"halt"}


def test_incident_of_a_vendor_stays_a_loss_and_one_of_the_venue_explains(tmp_path: Path) -> None:
    grid = slots()
    path = tmp_path / "incidents.csv"
    path.write_text(
        "start,end,symbols,kind,source,text\n"
        "2024-04-09T14:30:00Z,2024-04-09T14:40:00Z,b d,feed_loss,Acme,restart of a handler\n"
        "2024-04-09T14:50:00Z,2024-04-09T14:55:00Z,*,venue_halt,NYSE,matching stopped\n"
    )
    lost = np.concatenate([grid[1, 60:70], grid[1, 80:85]])
    tables = audited(frames({"B": lost, "C": grid[1, 80:85]}), incidents=path)
    assert gaps(tables) == [
        ("B", "14:30", 10, "feed_loss"),
        ("B", "14:50", 5, "venue_halt"),
        ("C", "14:50", 5, "venue_halt"),
    ]
    evidence = tables["gaps"].filter(pl.col("cause") == "feed_loss")["evidence"].item()
    assert evidence.startswith(
        "incident of Acme from 2024-04-09 14:30:00Z to 2024-04-09 14:40:00Z: restart of a handler"
    )
    assert tables["series"].filter(pl.col("symbol") == "B")["explained"].item() == 5


def test_halts_of_files_and_of_a_store_are_the_same(tmp_path: Path) -> None:
    grid = slots()
    data = frames({"B": grid[1, 60:100]})
    for name, frame in data.items():
        frame.with_columns(pl.lit(name).alias("symbol")).write_csv(tmp_path / f"{name}.csv")
    halts = pl.DataFrame({"symbol": ["B"], "halt": ["2024-04-09T14:35:00Z"], "resumption": ["2024-04-09T14:50:00Z"]})
    of_files = engine.run_audit(tmp_path, "XNYS", interval="1m", halts=halts).tables["gaps"]
    session = engine.load(tmp_path, "XNYS", interval="1m")
    of_store = engine.run_audit(session, halts=halts).tables["gaps"]
    assert of_files.equals(of_store)
    assert "halt" in set(of_files["cause"])


def test_incidents_that_an_audit_proposes_explain_the_same_gaps_when_they_are_read(tmp_path: Path) -> None:
    grid = slots()
    together = np.concatenate([grid[1, 60:100], grid[2, 380:], grid[3, :20]])
    data = frames(dict.fromkeys("ABCD", together) | {"B": np.concatenate([together, grid[0, 200:230]])}, symbols=5)
    data["WORD CO"] = data.pop("D")
    first = engine.run_audit(data, "XNYS", interval="1m")
    losses = first.tables["gaps"].filter(pl.col("cause").is_in(["feed_loss", "symbol_loss"]))
    assert losses["bar_count"].sum() == 4 * 70 + 30
    engine.write_audit(first, tmp_path / "audit")
    proposed = first.tables["incidents"]
    assert proposed["missing"].sum() == losses["bar_count"].sum()
    assert proposed.filter(pl.col("missing") > 30)["symbols"][0] == "A;B;C;WORD CO;"
    again = engine.run_audit(data, "XNYS", interval="1m", incidents=tmp_path / "audit" / "incidents.csv").tables
    assert again["findings"].filter(pl.col("check_name") == "refused").is_empty()
    read = again["gaps"].filter(pl.col("cause").is_in(["feed_loss", "symbol_loss"]))
    key = ["symbol", "gap_start", "gap_end", "cause"]
    assert read.select(key).equals(losses.select(key))
    assert read["evidence"].str.contains("incidents.csv, line").all()
    assert again["incidents"].drop("evidence").equals(proposed.drop("evidence"))
    assert (
        engine.run_audit(data, "XNYS", interval="1m", incidents=proposed)
        .tables["gaps"]
        .select(key)
        .equals(again["gaps"].select(key))
    )
