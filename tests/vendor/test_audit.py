"""Audits of real vendor files say what is known to be wrong with them, and nothing of what is not."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest
from engine.runtime.audit_report import Audit
from engine.runtime.auditor import audit
from engine.runtime.options import CalendarMap, LoadOptions
from engine.sources.options import ReadOptions


def audited(vendor, path: str, calendar: str, **read: object) -> Audit:
    return audit([vendor / path], LoadOptions(CalendarMap(calendar), keep_source=True, read=ReadOptions(**read)))


def checks(done: Audit, **narrow: object) -> set[str]:
    return set(done.tables["findings"].filter(**narrow)["check_name"])


def causes(done: Audit, symbol: str, price_type: str = "last") -> dict[str, int]:
    ours = done.tables["gaps"].filter(symbol=symbol, price_type=price_type)
    return dict(ours.group_by("cause").agg(pl.col("bar_count").sum()).rows())


def test_audit_of_broker_dumps_names_the_four_hours(vendor):
    done = audited(vendor, "mismartera", "XNYS")
    assert done.tables["findings"].filter(check_name="clock").select("parts", "remedy").rows() == [(2, "--shift=-4h")]
    shifts = done.tables["parts"].filter(check_name="clock")
    assert shifts["symbol"].to_list() == ["AAPL", "RIVN"]
    assert all("4 hours late" in text for text in shifts["message"])


def test_audit_of_end_stamps_says_so_and_is_content_with_the_option(vendor):
    files = "nautilus/xcme/6EH4.XCME_1min_bars_20240101_20240131.csv.gz"
    assert "stamp" in checks(audited(vendor, files, "CMEGlobex_FX", symbol="6EH4"))
    assert "stamp" not in checks(audited(vendor, files, "CMEGlobex_FX", symbol="6EH4", stamp="end"))


def test_audit_of_double_rows_calls_them_a_copy(vendor):
    done = audited(vendor, "lean/future/eurex/minute/fesx", "XEUR")
    copy = done.tables["findings"].filter(check_name="conflict").row(0, named=True)
    assert (copy["count"], copy["severity"]) == (1152, "error")
    assert "back-adjusted copy" in copy["message"]


def test_audit_of_a_day_that_stops_while_quotes_go_on_blames_the_symbol(vendor):
    done = audited(vendor, "lean/crypto/coinbase/minute/btcusd", "24/7")
    cut = done.tables["gaps"].filter(
        pl.col("symbol") == "BTCUSD", pl.col("price_type") == "last", pl.col("session") == dt.date(2018, 4, 4)
    )
    tail = cut.sort("gap_start").tail(2).select(pl.col("gap_start").dt.strftime("%H:%M"), "cause")
    # Quotes end with the bar of 23:58: nothing of the feed covers the last minute.
    assert tail.rows() == [("16:48", "symbol_loss"), ("23:59", "not_covered")]
    told = done.tables["findings"].filter(symbol="BTCUSD", check_name="symbol_loss", session=dt.date(2018, 4, 4))
    assert "bid of the same symbol has rows until 2018-04-04 23:58" in "".join(told["evidence"])


def test_audit_of_hours_links_the_late_open_of_all_and_the_outage_of_one(vendor):
    done = audited(vendor, "lean/equity/usa/hour", "XNYS")
    outage = done.tables["outages"].row(0, named=True)
    assert done.tables["outages"].height == 1
    assert (outage["first_session"], outage["symbols"]) == (dt.date(2002, 9, 11), 3)
    bac = done.tables["gaps"].filter(symbol="BAC", session=dt.date(2001, 6, 8)).row(0, named=True)
    assert (bac["cause"], bac["bar_count"]) == ("symbol_loss", 2)
    gone = done.tables["gaps"].filter(symbol="SPWR", position="session")
    assert gone.height > 780
    assert set(gone["cause"]) == {"unknown"}
    assert gone["outage_id"].n_unique() == 1


@pytest.mark.parametrize(
    ("path", "calendar", "symbol", "raw"),
    [
        ("lean/equity/usa/minute/shy", "XNYS", "SHY", 86),
        ("lean/equity/india/minute/juniorbees", "XBOM", "JUNIORBEES", 60),
    ],
)
def test_audit_of_thin_names_explains_their_silence(vendor, path, calendar, symbol, raw):
    done = audited(vendor, path, calendar)
    series = done.tables["series"].filter(symbol=symbol, price_type="last").row(0, named=True)
    assert series["quality"] < raw
    assert series["quality_adjusted"] > 98
    assert series["activity"] in ("mixed", "thin")
    assert not {"feed_loss", "symbol_loss"} & set(causes(done, symbol))


def test_audit_of_liquid_names_explains_their_few_silent_minutes_and_misses_the_quote_file(vendor):
    done = audited(vendor, "lean/equity/usa/minute", "XNYS")
    assert {symbol: causes(done, symbol) for symbol in ("BAC", "SPY", "TWX", "FOXA")} == {
        key: {} for key in ("BAC", "SPY", "TWX", "FOXA")
    }
    assert causes(done, "IBM") == {"no_trade": 2}
    assert causes(done, "GOOG") == {"no_trade": 8}
    lost = done.tables["gaps"].filter(symbol="GOOG", price_type="bid", session=dt.date(2015, 12, 23)).row(0, named=True)
    assert (lost["cause"], lost["bar_count"]) == ("symbol_loss", 390)
    assert done.tables["findings"].filter(severity="error").is_empty()
