"""Calendars that do not fit: simulated markets and vendor files on the calendars of others."""

from __future__ import annotations

import datetime as dt
from functools import cache
from pathlib import Path

import engine
import numpy as np
import polars as pl
import pytest
from engine.calendars.candidates import CandidateSegments, UsualSegments, candidate_hours, weekly_segments
from engine.calendars.files import parse_calendar
from engine.calendars.providers import calendar, calendar_from_file
from engine.checks.conventions import OtherCalendars, conventions
from engine.checks.other_calendars import ExpectedDays, calendar_scores, row_dates, session_weights, try_calendars
from engine.schema import TS
from polars.testing import assert_frame_equal

from tests.checks.feeds import LIQUID, MIXED, THIN, Feed, axis, market, moved, profile

AUTUMN = dt.date(2024, 10, 14), dt.date(2024, 11, 22)  # clocks change in London, then in New York
SUMMER = dt.date(2024, 6, 3), dt.date(2024, 6, 14)
SLOW = {"XMOS", "XKRX"}


@cache
def others(first: dt.date, last: dt.date) -> OtherCalendars:
    return OtherCalendars(CandidateSegments(first, last), UsualSegments(last))


def said(feed: Feed, span: tuple[dt.date, dt.date] = AUTUMN) -> pl.DataFrame:
    tried = others(*span)
    known = OtherCalendars(tried.exact, tried.usual, row_dates(feed.rows["ts"]))
    return conventions(profile(feed), feed.grid.segments, feed.zone, known)


def on(feed: Feed, code: str, interval: str = "1m", span: tuple[dt.date, dt.date] = AUTUMN) -> Feed:
    return moved(feed._replace(grid=axis(code, *span, interval), zone=calendar(code).zone), dt.timedelta(0))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("XNYS", "XLON"),
        ("XNYS", "XFRA"),
        ("XNYS", "24/7"),
        ("XNYS", "CME_INDEX"),
        ("XBOM", "XHKG"),
        ("XTKS", "XHKG"),
        ("XHKG", "XSHG"),
        ("XLON", "XNYS"),
        ("XASX", "XNYS"),
        ("BVMF", "XNYS"),
        ("FX", "XNYS"),
        ("FX", "24/7"),
        ("24/7", "XNYS"),
        ("24/7", "FX"),
        ("CME_INDEX", "24/7"),
    ],
)
def test_calendar_of_another_market_is_named_with_the_code_that_fits(right, wrong) -> None:
    found = said(on(market(right, *AUTUMN, "1m", (LIQUID, MIXED)), wrong))
    assert set(found["check_name"]) == {"calendar"}
    assert found.height == 2
    assert found["remedy"].str.starts_with(f"--calendar {right}").all()


@pytest.mark.parametrize(("right", "wrong"), [("XNYS", "XLON"), ("XNYS", "24/7"), ("XHKG", "XNYS")])
@pytest.mark.parametrize("interval", ["5m", "1h"])
def test_calendar_of_another_market_is_named_of_coarser_bars(right, wrong, interval) -> None:
    found = said(on(market(right, *AUTUMN, interval, (LIQUID,)), wrong, interval))
    assert found["check_name"].to_list() == ["calendar"]
    assert found["remedy"][0].startswith(f"--calendar {right}")


@pytest.mark.parametrize("code", ["XNYS", "XLON", "XTKS", "XBOM", "FX", "24/7", "CME_INDEX", "EUREX", "XASX"])
@pytest.mark.parametrize("interval", ["1m", "1h"])
def test_right_calendar_is_not_doubted(code, interval) -> None:
    assert said(market(code, *AUTUMN, interval, (LIQUID, MIXED, THIN))).is_empty()


@pytest.mark.parametrize("hours", [-4, -5, 4, 5])
def test_stamps_of_a_wrong_zone_are_no_wrong_calendar(hours) -> None:
    found = said(moved(market("XNYS", *SUMMER), dt.timedelta(hours=hours)), SUMMER)
    assert set(found["check_name"]) == {"clock"}


def test_edges_of_a_calendar_that_fits_poorly_tell_nothing_of_stamps() -> None:
    feed = on(market("XNYS", *SUMMER, "1m", (LIQUID,)), "CME_INDEX", span=SUMMER)
    late = moved(feed, pl.col("ts") + dt.timedelta(minutes=1))
    assert set(said(late, SUMMER)["check_name"]) == {"calendar"}


@pytest.mark.parametrize(
    ("folder", "wrong", "code"),
    [
        ("equity/usa/minute/ibm", "XLON", "XNYS"),
        ("equity/usa/minute/ibm", "CME_INDEX", "XNYS"),
        ("equity/usa/minute/goog", "XFRA", "XNYS"),
        ("equity/india/minute/yesbank", "XHKG", "XBOM"),
        ("forex/oanda/minute", "XNYS", "FX"),
        ("crypto/coinbase/minute", "CME_INDEX", "24/7"),
        ("future/cme/minute/es", "24/7", "CME_INDEX"),
        ("index/ose/minute", "XHKG", "XTKS"),
    ],
)
def test_audit_of_vendor_files_names_the_calendar_that_fits(folder, wrong, code, vendor) -> None:
    found = engine.run_audit(vendor / "lean" / folder, wrong, evidence=False).tables["findings"]
    of_places = found.filter(pl.col("check_name").is_in(["clock", "calendar", "stamp", "interval"]))
    assert set(of_places["check_name"]) == {"calendar"}
    assert set(of_places["remedy"].str.extract(r"^--calendar (\S+)")) == {code}
    assert of_places["evidence"].str.contains(f"tried .*{code} 9|tried .*{code} 100").all()


def test_quotes_follow_the_trades_of_their_symbol(vendor) -> None:
    tables = engine.run_audit(vendor / "lean/equity/usa/minute/ibm", "XLON", evidence=False).tables
    (finding,) = tables["findings"].filter(check_name="calendar")["fingerprint"]
    parts = tables["parts"].filter(finding=finding, role="part")
    assert sorted(parts["price_type"]) == ["ask", "bid", "last"]
    assert parts["remedy"].n_unique() == 1


def test_score_is_one_where_rows_fill_the_hours_and_only_these() -> None:
    feed = market("XNYS", *SUMMER, "1m", (LIQUID,))
    codes = {code: calendar(code).segments_in_bounds(*SUMMER) for code in ("XNYS", "24/7", "XHKG")}
    scores = calendar_scores(profile(feed), codes, ExpectedDays.of(row_dates(feed.rows["ts"])))
    of_code = dict(scores.select("code", "score").iter_rows())
    assert of_code["XNYS"] == pytest.approx(1.0)
    assert of_code["XHKG"] == 0.0
    share = 6.5 / 24
    assert of_code["24/7"] < 2 * share / (1 + share)  # weekends lie between


def test_days_expected_are_those_with_rows_and_weekends_between() -> None:
    stamps = [dt.datetime(2024, 6, day, 12, tzinfo=dt.UTC) for day in (6, 7, 10, 18)]
    expected = ExpectedDays.of(row_dates(pl.Series(stamps).cast(TS)))
    first = (dt.date(2024, 6, 1) - dt.date(1970, 1, 1)).days
    assert (expected.days - first + 1).tolist() == [6, 7, 8, 9, 10, 18]
    assert expected.has_rows.tolist() == [True, True, False, False, True, True]


def test_calendars_left_out_for_their_usual_hours_score_less_than_is_asked() -> None:
    feed = on(market("XNYS", *AUTUMN, "1m", (LIQUID, THIN)), "XLON")
    rows, tried, days = profile(feed), others(*AUTUMN), ExpectedDays.of(row_dates(feed.rows["ts"]))
    near = {code: tried.usual[code] for code in ("XNYS", "XTSE", "XMEX", "CME_INDEX", "FX", "XTKS")}
    exact = {code: tried.exact[code] for code in near}
    series = rows.select("symbol", "price_type", "interval").unique()
    whole = try_calendars(rows, days, exact, near)
    for least in (0.8, 0.95, 1.0):
        found = try_calendars(rows, days, exact, near, series.with_columns(pl.lit(least).alias("least")))
        assert found.filter(pl.col("score") >= least).equals(whole.filter(pl.col("score") >= least))
        assert found.height <= whole.height
    assert found.height < whole.height


def test_rows_are_weighed_on_dates_with_rows_and_hours_on_all() -> None:
    # A Monday with rows and one without, on which the calendar is closed.
    monday = dt.datetime(2024, 6, 3, tzinfo=dt.UTC)
    segments = calendar("XNYS").segments_in_bounds(monday.date(), monday.date())
    first = (monday.date() - dt.date(1970, 1, 1)).days
    days = ExpectedDays(np.array([first, first + 7]), np.array([True, False]))
    ((of_all, of_rows, has_rows),) = session_weights(segments, days).values()
    assert of_all.max() == 0.5
    assert of_rows.max() == 1.0
    assert has_rows.tolist() == [True] + [False] * 6


@pytest.mark.parametrize("seed", range(3))
def test_weekly_segments_of_many_files_are_those_of_each_file(seed) -> None:
    rng = np.random.default_rng(seed)
    zones = rng.permutation(
        ["UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Europe/Berlin"]
    )

    def span() -> str:
        opens, length = int(rng.integers(0, 1300)), int(rng.integers(5, 120))
        first, last = (f"{at // 60:02}:{at % 60:02}" for at in (opens, opens + length))
        return f'["{first}{rng.choice(["", " UTC"])} to {last}"]'

    texts = [
        f'zone = "{zone}"\n[[hours]]\ndays = "Mon-Thu"\nRTH = {span()}\n[[hours]]\ndays = "Fri, Sun"\nRTH = {span()}\nPRE = {span()}\n'
        for zone in zones
    ]
    files = [parse_calendar(Path(f"{number}.toml"), text.encode()) for number, text in enumerate(texts)]
    year = dt.date(2011, 3, 1), dt.date(2012, 4, 30)  # Samoa skips a day
    columns = ["session", "segment", "segment_open", "segment_close"]
    for file, fast in zip(files, weekly_segments(files, *year), strict=True):
        slow = calendar_from_file(file).source(*year)
        assert_frame_equal(fast.select(columns).sort(columns), slow.select(columns).sort(columns))
        assert fast["regular"].equals(fast["segment"] == "RTH")


def test_usual_hours_are_those_of_the_calendars() -> None:
    week = dt.date(2025, 6, 9), dt.date(2025, 6, 15)
    usual = UsualSegments(week[1])
    codes = [code for code in candidate_hours()["code"].unique(maintain_order=True) if code not in SLOW]
    spans = ["segment_open", "segment_close"]
    wrong = [
        code
        for code in codes
        if not (known := calendar(code).segments_in_bounds(*week).filter("regular").select(spans))
        .join(usual[code].select(spans), on=spans, how="anti")
        .is_empty()
        or known.is_empty()
    ]
    assert wrong == []


@pytest.mark.parametrize(("seed", "shares"), [(1, (1.0, 1.0)), (6, (1.0, 0.9))])
def test_audit_of_hours_that_are_shifted_gives_all_series_of_a_folder_the_same_remedy(seed, shares) -> None:
    rng = np.random.default_rng(seed)
    segments = calendar("XLON").segments(dt.date(2024, 4, 8), dt.date(2024, 5, 10)).filter("regular").head(15)
    spans = segments.select(pl.col("segment_open", "segment_close").dt.replace_time_zone(None)).rows()
    hours = np.concatenate([np.arange(a, b, dt.timedelta(hours=1), "datetime64[us]") for a, b in spans])
    frames = {}
    for number, share in enumerate(np.linspace(*shares, 4)):
        stamps = hours[rng.random(len(hours)) < share] + np.timedelta64(5, "h")
        close = 50 * np.exp(np.cumsum(rng.normal(0, 3e-3, len(stamps))))
        opened = np.append(50.0, close)[: len(stamps)]
        frames[f"N{number}"] = pl.DataFrame(
            {
                "ts": pl.Series(stamps).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
                "open": opened,
                "high": np.maximum(opened, close),
                "low": np.minimum(opened, close),
                "close": close,
                "volume": np.ceil(rng.lognormal(7, 1, len(stamps))),
            }
        )
    findings = engine.run_audit(frames, "XLON", interval="1h").tables["findings"]
    told = findings.filter(pl.col("check_name").is_in(["clock", "calendar"]))
    assert told.select("check_name", "remedy").unique().rows() == [("clock", "--shift=-5h")]
