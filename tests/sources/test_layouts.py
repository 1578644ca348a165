"""One entry of the layout table is enough for a vendor's columns, conventions and file names."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import polars as pl
import pytest
from engine.cli import main
from engine.schema import ROWS
from engine.sources.columns import ROLES, match_columns
from engine.sources.file_names import parse_name, parse_path
from engine.sources.layouts import registry
from engine.sources.layouts.layout import Layout, normalize_name
from engine.sources.layouts.registry import layout_of_first_line, layout_of_header
from engine.sources.layouts.shared_names import SHARED_NAMES
from engine.sources.layouts.vendors import VENDORS
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan

HEADED = Layout(
    name="acme",
    columns=("Stamp", "First", "Max", "Min", "Last", "Lots"),
    aliases={"ts": "stamp", "open": "first", "close": "last", "volume": "lots"},
    time_format="%d.%m.%Y %H:%M",
    zone="America/New_York",
    stamp="end",
    sentinels=("-1", "N/A"),
)
HEADERLESS = Layout(
    name="acme-ticks",
    columns=("stamp", "price", "size"),
    first_line=r"\d+,[\d.]+,\d+",
    aliases={"ts": "stamp"},
    unit="ms",
    name_pattern=r"acme(?P<symbol>[a-z]+)x(?P<interval>\d+min)?_(?P<side>bid|ask|last)_(?P<date>\d{8})",
)


@pytest.fixture
def acme(monkeypatch):
    monkeypatch.setattr(registry, "LAYOUTS", (HEADED, HEADERLESS, *VENDORS))
    parse_name.cache_clear()
    yield
    parse_name.cache_clear()


def batches(path, text, options=None):
    path.write_text(text)
    (file,), _ = scan([path], options)
    return read(file, options)


def test_read_headed_file_of_a_layout_takes_its_names_format_zone_and_stamp(acme, tmp_path):
    text = "Stamp,First,Max,Min,Last,Lots\n02.01.2024 09:31,1,2,1,2,N/A\n02.01.2024 09:32,2,3,-1,3,7\n"
    (batch,) = batches(tmp_path / "SPY_1m.csv", text)
    assert batch.stamp == "end"
    assert batch.frame["ts"].to_list() == [dt.datetime(2024, 1, 2, 14, 31, tzinfo=dt.UTC)]
    assert batch.frame.select("open", "high", "low", "close", "volume").row(0) == (1.0, 2.0, 1.0, 2.0, None)
    assert batch.rejects["row"].to_list() == [3]
    assert "layout acme: time_format %d.%m.%Y %H:%M, timezone America/New_York, stamp end" in batch.notes


def test_read_file_of_a_layout_with_options_of_the_caller_obeys_them(acme, tmp_path):
    text = "Stamp,First,Max,Min,Last,Lots\n02.01.2024 14:31,1,2,1,2,3\n02.01.2024 14:32,1,2,1,2,3\n"
    (batch,) = batches(tmp_path / "SPY_1m.csv", text, ReadOptions(timezone="UTC", stamp="start"))
    assert batch.stamp == "start"
    assert batch.frame["ts"][0] == dt.datetime(2024, 1, 2, 14, 31, tzinfo=dt.UTC)


def test_read_headerless_file_of_a_layout_takes_its_order_and_unit(acme, tmp_path):
    (batch,) = batches(tmp_path / "acmeSPYx_last_20240102.csv", "90000,1.5,3\n90001,1.6,4\n")
    assert (batch.kind, batch.frame["symbol"][0]) == ("ticks", "SPY")
    assert batch.frame.select("price", "size").rows() == [(1.5, 3.0), (1.6, 4.0)]
    assert batch.frame["ts"][0] == dt.datetime(1970, 1, 1, 0, 1, 30, tzinfo=dt.UTC)


def test_parse_path_of_a_layout_takes_the_groups_of_its_pattern(acme):
    facts = parse_path("folder/acmespyx5min_bid_20240102.csv.gz")
    assert (facts.symbol, str(facts.interval), facts.price_type, facts.day) == ("SPY", "5m", "bid", dt.date(2024, 1, 2))


def test_read_headerless_file_whose_name_does_not_match_the_layout_is_not_of_it(acme, tmp_path):
    assert layout_of_first_line("90000,1.5,3", "SPY") is None
    assert layout_of_first_line("90000,1.5,3", "acmeSPYx_last_20240102") is HEADERLESS


def test_columns_without_a_layout_are_of_the_common_names():
    matched = match_columns(["Date Time", "O", "H", "L", "C", "Vol", "extra"], ReadOptions(), "a.csv")
    assert matched.layout is SHARED_NAMES
    assert dict(matched.roles) == {
        "ts": "Date Time",
        "open": "O",
        "high": "H",
        "low": "L",
        "close": "C",
        "volume": "Vol",
    }
    assert matched.notes == ("columns not used: extra",)


@pytest.mark.parametrize("layout", VENDORS, ids=lambda one: one.name)
def test_every_entry_of_the_table_fits_together(layout):
    roles = {*ROLES, *(name for kind in ROWS.values() for name in kind)}
    assert set(layout.aliases) <= roles
    assert layout.title
    assert layout.columns or layout.name_pattern
    assert not layout.first_line or layout.columns
    words = [word.removesuffix("*") for words in layout.aliases.values() for word in words.split()]
    assert words == [normalize_name(word) for word in words]
    if layout.columns and not layout.first_line:
        if layout.is_recognized:
            assert layout_of_header(layout.columns) is layout
    elif layout.columns:
        assert match_columns(layout.columns, ReadOptions(symbol="A"), "a.csv", layout).kind in ROWS


def test_names_of_layouts_differ():
    assert len({layout.name for layout in VENDORS}) == len(VENDORS)


def test_read_binance_klines_without_a_header_in_ms_and_us(tmp_path):
    cells = ",1,2,1,2,5,1704067259999,10,3,2,4,0\n"
    for first in ("1704067200000", "1704067200000000"):
        (batch,) = batches(tmp_path / f"BTCUSDT-1m-{len(first)}.csv", first + cells, ReadOptions(symbol="BTCUSDT"))
        assert batch.frame["ts"].cast(pl.Datetime("us", "UTC")).to_list() == [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)]
        assert batch.frame["trades"][0] == 3


def test_documented_layouts_are_those_of_the_table():
    page = (Path(__file__).parents[2] / "docs/sources.md").read_text(encoding="utf-8")
    shown = page.partition("layout_markdown -->\n")[2].partition("<!-- end -->")[0]
    assert shown == registry.layout_markdown()


def test_cli_lists_every_layout_with_a_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["engine", "layouts", "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == [layout.name for layout in VENDORS]
