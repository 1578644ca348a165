"""Every vendor file against the rows and stamps that were counted from it independently (`FACTS.json`)."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from engine.sources.batch import Batch, SourceFile
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan
from engine.sources.vendors.lean_layout import ZONES, data_zone, parse_lean_path

# What these files do not tell by themselves.
OPTIONS = {
    "quote_tick_data.csv": ReadOptions(columns={"ts": 1, "bid": 2, "ask": 3}, symbol="EURUSD", timezone="UTC"),
    "btc-perp-20211231-20220201_1m.csv": ReadOptions(timezone="UTC"),
}


@pytest.fixture(scope="module")
def scanned(vendor):
    return scan([vendor])


def facts_of(vendor: Path) -> dict[str, list[dict]]:
    found = defaultdict(list)
    for fact in json.loads((vendor / "FACTS.json").read_text()):
        found[fact["path"]].append(fact)
    return found


def lines(batch: Batch) -> pl.DataFrame:
    """Each line that the batch accounts for, once: (symbol, row)."""
    refused = batch.rejects.select(pl.col("cells").str.json_path_match("$.symbol").alias("symbol"), "row")
    return pl.concat([batch.frame.select("symbol", "row"), refused]).unique()


def of_contract(frame: pl.DataFrame, contract: str | None) -> pl.DataFrame:
    return frame if contract is None else frame.filter(pl.col("symbol").str.split("@").list[0].str.ends_with(contract))


def differences(file: SourceFile, facts: list[dict]) -> list[str]:
    batch = read(file, OPTIONS.get(file.path.name))[0]
    seen = lines(batch)
    stamps_told = not file.path.name.startswith("test_data.bbo") and batch.rejects.is_empty()
    wrong = []
    for fact in facts:
        rows = of_contract(seen, fact["contract"]).height
        if rows != fact["rows"]:
            wrong.append(f"{fact['path']} {fact['contract']}: {rows} rows, due {fact['rows']}")
        if fact["first"] and stamps_told:
            ts = of_contract(batch.frame, fact["contract"])["ts"].dt.convert_time_zone(fact["time_zone"])
            ends = [str(at.replace(tzinfo=None)) for at in (ts.min(), ts.max())]
            due = [fact[end].removesuffix("+00:00") for end in ("first", "last")]
            if ends != due:
                wrong.append(f"{fact['path']} {fact['contract']}: {ends}, due {due}")
    return wrong


def test_read_every_vendor_file_has_the_rows_and_stamps_counted(vendor, scanned):
    facts = facts_of(vendor)
    told = [(file, facts.get(file.path.relative_to(vendor).as_posix())) for file in scanned[0]]
    wrong = [text for file, fact in told if fact for text in differences(file, fact)]
    assert wrong == []
    # The answer files of calendars have sessions and no rows of market data.
    others = [file.path for file, fact in told if not fact and "calendars" not in file.path.parts]
    assert sorted(path.name for path in others) == ["FACTS.json", "MANIFEST.tsv"]


def test_scan_vendor_folder_accounts_for_every_file_that_has_facts(vendor, scanned):
    files, problems = scanned
    seen = {file.path for file in files} | {Path(problem.path) for problem in problems}
    assert {vendor / path for path in facts_of(vendor)} <= seen
    assert [problem for problem in problems if not problem.ignored] == []


def test_scan_vendor_folder_passes_over_only_what_holds_no_rows(vendor, scanned):
    facts = facts_of(vendor)
    ignored = {Path(problem.path).relative_to(vendor).as_posix() for problem in scanned[1]}
    skipped = {path for path in facts if path in ignored}
    assert skipped
    assert all(
        any(
            f".{schema}." in path or f"_{schema}." in path
            for schema in ("definition", "mbo", "mbp-10", "statistics", "status")
        )
        for path in skipped
    )


def test_scan_vendor_folder_keeps_markets_apart(scanned):
    names = {(file.symbol, file.market): file.qualifier for file in scanned[0] if file.format == "lean"}
    assert names["EURUSD", "oanda"] == "@OANDA"
    assert names["EURUSD", "fxcm"] == "@FXCM"
    assert names["BTCUSDT", "binance"] == "@BINANCE"
    assert names["SPY", "usa"] == ""
    assert names["BTCUSDT.PERP", "bybit"] == ""


def test_data_zone_of_every_vendor_file_agrees_with_the_table_of_zones(vendor, scanned):
    lean = [parse_lean_path(file.path) for file in scanned[0] if file.format == "lean"]
    told = {(file.security, file.market): data_zone(file) for file in lean}
    assert told == {key: ZONES.get(key, ZONES.get((key[0], "*"))) for key in told}


@pytest.mark.parametrize(
    "path",
    [
        "lean/equity/usa/minute/spy/20131007_trade.zip",
        "lean/equity/india/daily/cccl.zip",
        "lean/forex/fxcm/minute/eurusd/20140504_quote.zip",
        "lean/option/usa/minute/goog/20151224_trade_american.zip",
        "lean/future/cme/minute/es/20131006_quote.zip",
        "lean/equity/usa/tick/ibm/20131011_quote.zip",
    ],
)
def test_read_lean_prices_are_the_floats_of_their_decimal_text(vendor, path):
    file = next(iter(scan([vendor / path])[0]))
    batch = read(file)[0]
    scale = Decimal(10_000) if file.security in ("equity", "option") else Decimal(1)
    due = sorted(float(Decimal(cell) / scale) for cell in price_cells(vendor / path, file))
    columns = {"bars": ["open", "high", "low", "close"], "quotes": ["bid", "ask"]}[batch.kind]
    found = pl.concat([batch.frame[name].rename("price") for name in columns]).drop_nulls()
    assert batch.rejects.is_empty()
    assert sorted(found.to_list()) == due


def price_cells(path: Path, file: SourceFile) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        text = "\n".join(archive.read(name).decode() for name in archive.namelist())
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    wide = {6: (1, 2, 3, 4), 8: (1, 3), 11: (1, 2, 3, 4, 6, 7, 8, 9)}[len(rows[0])]
    cells = [row[at] for row in rows for at in wide]
    return [cell for cell in cells if cell not in ("", "0")]


def test_read_duplicate_member_of_the_next_session_is_named_and_left_out(vendor):
    path = vendor / "lean/index/india/minute/nifty50/20190101_trade.zip"
    batch = read(scan([path])[0][0])[0]
    assert batch.source.endswith("!20190101_nifty_minute_trade.csv")
    assert any("20190102_nifty_minute_trade.csv left out" in note for note in batch.notes)
    assert batch.frame["symbol"].unique().to_list() == ["NIFTY50"]


def test_read_member_of_another_symbol_takes_the_folders_with_a_note(vendor):
    path = vendor / "lean/index/eurex/minute/sx5e/20240729_trade.zip"
    batch = read(scan([path])[0][0])[0]
    assert batch.frame["symbol"].unique().to_list() == ["SX5E"]
    assert any("fesx" in note and "SX5E" in note for note in batch.notes)


def test_read_gold_ticks_keep_decimal_milliseconds_and_zero_sizes(vendor):
    path = vendor / "lean/cfd/oanda/tick/xauusd/20140504_quote.zip"
    first_two = read(scan([path])[0][0])[0].frame["ts"].head(2).dt.to_string("%H:%M:%S%.9f").to_list()
    assert first_two == ["22:00:00.579427000", "22:00:00.613066800"]
    gold = vendor / "lean/future/comex/tick/gc/20131008_trade.zip"
    assert (read(scan([gold])[0][0])[0].frame["size"] == 0).any()


def test_read_suspicious_flags_of_one_session_are_the_ten_counted(vendor):
    path = vendor / "lean/equity/usa/tick/spy/20131010_trade.zip"
    frame = read(scan([path])[0][0])[0].frame
    assert frame["suspicious"].sum() == 10
    assert frame["conditions"].str.contains("^[0-9A-Fa-f]*$").all()


def test_read_bid_and_ask_files_of_one_symbol_give_two_price_types(vendor):
    files = scan([vendor / "nautilus/fxcm"])[0]
    batches = [read(file)[0] for file in files]
    assert [batch.frame["price_type"].unique().to_list() for batch in batches] == [["ask"], ["bid"]]
    crossed = (
        batches[0].frame.join(batches[1].frame, on="ts", suffix="_bid").filter(pl.col("close_bid") > pl.col("close"))
    )
    assert crossed.height == 347


def test_read_fixed_size_binary_prices_are_the_floats_of_their_decimals(vendor):
    path = vendor / "nautilus/quote_tick_eurusd_2019_sim_rust.parquet"
    batch = read(scan([path])[0][0])[0]
    raw = pl.read_parquet(path)
    due = [float(Decimal(int.from_bytes(cell, "little", signed=True)) / 10**18) for cell in raw["bid_price"].to_list()]
    assert batch.frame["bid"].to_list() == due
    assert batch.source_symbols == {"EUR/USD.SIM": "EUR/USD.SIM"}
