"""Plots: what is in their specifications, how much of it, how they are saved, and what hostile names do to them."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import altair as alt
import engine
import polars as pl
import pytest
import vl_convert
from engine.errors import ParameterError
from engine.grid import GridSpec, SessionGrid
from engine.report import plot_maps, plots
from engine.report.plot_style import THEME_COLOURS, label, labels, save_plot
from engine.report.session_axis import Axis
from engine.simulation.faults import FaultPlan
from engine.simulation.feed import write_csv
from engine.simulation.sessions import Instrument, Market, simulate

from tests.report.browser import LOCAL, browser_path, running

FIRST, LAST = dt.date(2024, 11, 25), dt.date(2024, 12, 2)
HOSTILE = (
    "</script><script>window.hit=1</script>",
    "=cmd|' /C calc'!A0",
    "[/]{x}'\"\\",
    "L" * 300,
    "🚀",
    "a\u202eb\nc",
)
MOST_MARKS = 3_000


def marks(chart) -> int:
    return sum(len(rows) for rows in chart.to_dict()["datasets"].values())


def rows_with(chart, column: str) -> pl.DataFrame:
    found = [rows for rows in chart.to_dict()["datasets"].values() if rows and column in rows[0]]
    return pl.DataFrame(found[0], infer_schema_length=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    grid = SessionGrid.build(engine.calendar("XNYS").segments(FIRST, LAST), "1m", GridSpec("XNYS"))
    market = Market((Instrument("AAA"), Instrument("BBB", trades_per_minute=3.0)), 5)
    files = tmp_path_factory.mktemp("plots") / "files"
    write_csv(simulate(grid, market, FaultPlan(missing_middle=3, outage=1)).rows, files)
    return files


@pytest.fixture(scope="module")
def session(folder: Path) -> engine.SessionData:
    return engine.load(folder, "XNYS", derive=["5m", "1h", "1d"], timezone="UTC")


@pytest.fixture(scope="module")
def audit(session: engine.SessionData):
    return engine.run_audit(session)


@pytest.fixture(scope="module")
def export(session: engine.SessionData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("plots") / "export"
    engine.export_session(session, target)
    return target


def every_plot(session, audit, **options):
    quotes = session.bars("AAA", "1m").select(
        "symbol", "ts", pl.col("close").alias("bid"), (pl.col("close") + 0.02).alias("ask")
    )
    return {
        "candles": plots.plot_candles(session, "AAA", gaps=audit, **options),
        "volume": plots.plot_volume(session, "AAA", **options),
        "spread": plots.plot_spread(quotes, calendar="XNYS", **options),
        "against": plots.plot_against(session, session.bars("AAA", "1h"), "AAA", **options),
        "coverage": plot_maps.plot_coverage(audit, **options),
        "slots": plot_maps.plot_slots(audit, **options),
        "gaps": plot_maps.plot_gaps(audit, **options),
    }


def test_plot_candles_over_sessions_leaves_no_hole_for_a_night(session) -> None:
    chart = plots.plot_candles(session, "AAA", interval="5m")
    candles = rows_with(chart, "low").sort("x")
    assert candles["x"].diff().drop_nulls().max() <= 3  # gaps of bars alone
    slots = 4 * 78 + 42  # the early close after Thanksgiving
    assert candles["x"].max() <= slots
    assert candles.height <= slots


def test_plot_candles_beyond_what_a_picture_holds_folds_and_says_so(session) -> None:
    bars = session.bars("AAA", "1m")
    chart = plots.plot_candles(session, "AAA")
    candles = rows_with(chart, "low")
    assert candles.height <= plots.MOST_CANDLES < bars.height
    assert "each candle: 5 slots of 1m" in chart.to_dict()["title"]["subtitle"][0]
    in_slot = bars.filter(pl.col("segment") == "RTH")
    assert candles["volume"].sum() == in_slot["volume"].sum()
    assert (candles["high"].max(), candles["low"].min()) == (in_slot["high"].max(), in_slot["low"].min())


def test_plot_candles_shades_each_gap_at_its_slots(session, audit) -> None:
    day = dt.date(2024, 11, 26)
    gaps = session.gaps(["BBB"]).filter(pl.col("interval") == "1m", pl.col("session") == day)
    chart = plots.plot_candles(session, "BBB", start=day, end="2024-11-26", gaps=audit)
    shown = rows_with(chart, "x2").sort("x")
    longest = gaps.sort("bar_count", "gap_start", descending=[True, False]).head(plots.MOST_GAPS).sort("gap_start")
    opened = dt.datetime(2024, 11, 26, 14, 30, tzinfo=dt.UTC)
    assert shown["x"].to_list() == [(at - opened).total_seconds() / 60 for at in longest["gap_start"]]
    assert (shown["x2"] - shown["x"]).to_list() == longest["bar_count"].to_list()
    assert set(shown["cause"]) <= set(audit.tables["gaps"]["cause"])


def test_plot_of_session_export_and_frame_is_the_same(session, export: Path) -> None:
    ways = [
        plots.plot_candles(source, "AAA", calendar=code)
        for source, code in (
            (session, None),
            (session.snapshot(), None),
            (export, None),
            (engine.open_dataset(export), None),
            (session.bars("AAA", "1m"), "XNYS"),
        )
    ]
    candles = [rows_with(chart, "low") for chart in ways]
    assert all(one.equals(candles[0]) for one in candles[1:])


def test_plot_of_a_bare_frame_takes_days_from_its_rows(session) -> None:
    bare = session.bars("AAA", "1m").filter(pl.col("segment") == "RTH").select("ts", "open", "high", "low", "close")
    candles = rows_with(plots.plot_candles(bare), "low")
    assert candles["bars"].sum() == bare.height


def test_plot_of_an_audit_and_of_its_folder_are_the_same(audit, tmp_path: Path) -> None:
    engine.audit.audit_files.write_audit_tables(audit.tables, tmp_path)
    for plot in (plot_maps.plot_coverage, plot_maps.plot_slots, plot_maps.plot_gaps):
        assert plot(audit).to_dict() == plot(tmp_path).to_dict()


def test_plot_coverage_shows_quality_of_each_cell(session) -> None:
    cells = rows_with(plot_maps.plot_coverage(session), "covered").sort("name", "day")
    quality = session.quality().filter(pl.col("interval") == "1m").sort("symbol", "session")
    assert cells["quality"].to_list() == quality["quality"].round(2).to_list()
    whole = cells.filter(pl.col("covered") == "all")
    assert (whole["quality"] == 100).all()


def test_plot_slots_names_the_outage_and_counts_explained_slots_out(session, audit) -> None:
    outage = audit.tables["outages"].row(0, named=True)
    shown = rows_with(plot_maps.plot_slots(audit, of="unexplained"), "share")
    worst = shown.sort("share", descending=True).row(0, named=True)
    assert worst["day"] == str(outage["first_session"])
    everything = rows_with(plot_maps.plot_slots(audit), "share")
    assert everything["share"].sum() > shown["share"].sum() > 0
    with pytest.raises(ParameterError, match="no causes"):
        plot_maps.plot_slots(session, of="unexplained")


def test_plot_gaps_says_each_cause_by_colour_and_by_shape(audit) -> None:
    spec = plot_maps.plot_gaps(audit).to_dict()
    points = next(layer for layer in spec["layer"] if layer["mark"]["type"] == "point")
    domains = [points["encoding"][channel]["scale"]["domain"] for channel in ("color", "shape")]
    assert domains[0] == domains[1]
    assert set(domains[0]) == set(audit.tables["gaps"]["cause"])
    assert len(set(points["encoding"]["shape"]["scale"]["range"])) == len(domains[0])


def test_plot_against_counts_what_differs_and_what_is_on_one_side(session) -> None:
    vendor = session.bars("AAA", "1h").with_columns(
        pl.when(pl.int_range(pl.len()) == 4).then(pl.col("close") * 1.001).otherwise("close").alias("close")
    )
    chart = plots.plot_against(session, vendor.slice(2), "AAA", interval="1h")
    assert chart.to_dict()["title"]["subtitle"][0].startswith(
        f"{vendor.height - 2} bars in both, 1 differ, at most 10.00 bp, 2 derived only"
    )


def test_plot_against_a_source_with_both_origins_tells_them_apart(session) -> None:
    derived = session.bars("AAA", "1h")
    both = pl.concat([derived, derived.with_columns(pl.lit("source").alias("origin"), pl.col("close") + 1)])
    said = plots.plot_against(both, symbol="AAA", calendar="XNYS").to_dict()["title"]["subtitle"][0]
    assert said.startswith(f"{derived.height} bars in both, {derived.height} differ")


def test_plot_volume_shows_the_median_of_each_slot(session) -> None:
    rows = rows_with(plots.plot_volume(session, "AAA", interval="5m"), "median").drop_nulls("time").sort("minute")
    bars = session.bars("AAA", "5m").with_columns(
        (pl.col("ts").dt.convert_time_zone("America/New_York").dt.strftime("%H:%M")).alias("time")
    )
    medians = bars.group_by("time").agg(pl.col("volume").median()).sort("time")
    assert rows["time"].to_list() == medians["time"].to_list()
    assert rows["median"].to_list() == medians["volume"].to_list()


def test_plot_spread_without_quotes_says_what_is_needed(session) -> None:
    with pytest.raises(ParameterError, match="neither quotes nor bid and ask bars of 'AAA'"):
        plots.plot_spread(session, "AAA")


def test_plots_by_time_of_day_leave_a_lunch_break_open(tmp_path: Path) -> None:
    grid = SessionGrid.build(
        engine.calendar("XHKG").segments(dt.date(2024, 11, 4), dt.date(2024, 11, 5)), "5m", GridSpec("XHKG")
    )
    write_csv(simulate(grid, Market((Instrument("AAA"),), 1), FaultPlan(missing_middle=1)).rows, tmp_path)
    hongkong = engine.load(tmp_path, "XHKG", timezone="UTC")
    noon, one = 12 * 60, 13 * 60
    volume = rows_with(plots.plot_volume(hongkong), "median")
    assert volume.filter(pl.col("minute").is_between(noon, one, closed="none"))["median"].null_count() == 1
    assert volume["median"].null_count() == 2  # the break, and the end
    fields = rows_with(plot_maps.plot_slots(hongkong), "run")
    assert fields.filter((pl.col("minute") < one) & (pl.col("until") > noon)).is_empty()
    assert fields.height == 4
    breaks = rows_with(plots.plot_candles(hongkong), "kind")
    assert breaks.sort("x")["kind"].to_list() == ["pause", "session", "pause"]


def test_every_plot_stays_within_its_bound(session, audit) -> None:
    counts = {name: marks(chart) for name, chart in every_plot(session, audit).items()}
    assert {name: count for name, count in counts.items() if not 0 < count <= MOST_MARKS} == {}


def test_plots_of_a_large_market_stay_within_their_bounds() -> None:
    symbols, days = (
        [f"S{i:03d}" for i in range(300)],
        pl.date_range(dt.date(2022, 1, 3), dt.date(2024, 12, 31), eager=True),
    )
    quality = (
        pl.DataFrame({"symbol": symbols})
        .join(pl.DataFrame({"session": days}), how="cross")
        .with_columns(
            pl.lit(390).alias("expected"),
            (pl.int_range(pl.len()) % 7).alias("missing"),
        )
        .with_columns((pl.col("expected") - pl.col("missing")).alias("present"), pl.lit(1.0).alias("quality"))
    )
    chart = plot_maps.plot_coverage(quality)
    assert marks(chart) <= plot_maps.MOST_SERIES * plot_maps.MOST_PERIODS
    assert "the worst 60 of 300 series" in chart.to_dict()["title"]["subtitle"][0]


@pytest.mark.parametrize("theme", THEME_COLOURS)
def test_every_plot_is_drawn_in_each_theme_without_a_background(session, audit, theme: str, tmp_path: Path) -> None:
    for name, chart in every_plot(session, audit, theme=theme).items():
        spec = chart.to_dict()
        assert spec["background"] == "transparent"
        assert spec["config"]["title"]["color"] == THEME_COLOURS[theme].text
        drawn = save_plot(chart, tmp_path / f"{name}.svg").read_text()
        assert THEME_COLOURS[theme].quiet in drawn


def test_save_plot_writes_each_form_and_asks_nobody(session, tmp_path: Path) -> None:
    chart = plots.plot_candles(session, "AAA")
    written = save_plot(chart, tmp_path / "a.png").read_bytes()
    plain = vl_convert.vegalite_to_png(chart.to_dict(), scale=2.0)
    assert vl_convert.vegalite_to_png(chart.to_dict(), scale=2.0)[:33] == written[:33]  # the head: size and depth
    assert len(written) < len(plain)
    assert save_plot(chart, tmp_path / "a.svg").read_text().startswith("<svg")
    page = save_plot(chart, str(tmp_path / "new" / "a.html")).read_text(encoding="utf-8")
    assert not re.search(r'(src|href)\s*=\s*"?https?:', page)
    assert "default-src 'none'" in page
    with pytest.raises(ParameterError, match=r"received 'a.pdf'; valid: a name that ends in .png, .svg, .html"):
        save_plot(chart, tmp_path / "a.pdf")


@pytest.mark.parametrize("symbol", HOSTILE)
def test_hostile_symbols_are_text_in_every_plot(session, audit, symbol: str, tmp_path: Path) -> None:
    def renamed(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col("symbol").replace({"AAA": symbol})) if "symbol" in frame.columns else frame

    tables = {name: renamed(table) for name, table in audit.tables.items()}
    hostile = engine.runtime.auditor.Audit(tables, 0, 0)
    charts = [plot(hostile) for plot in (plot_maps.plot_coverage, plot_maps.plot_slots, plot_maps.plot_gaps)]
    charts.append(plots.plot_candles(renamed(session.bars("AAA", "1h")), symbol, calendar="XNYS", gaps=hostile))
    for chart in charts:
        page = save_plot(chart, tmp_path / "a.html").read_text(encoding="utf-8")
        assert page.count("</script>") == 3
        told = re.search(r'<script type="application/json" id="spec">(.*?)</script>', page, re.DOTALL)
        assert told is not None
        assert json.loads(told[1]) == json.loads(json.dumps(chart.to_dict()))
        assert "<script" not in save_plot(chart, tmp_path / "a.svg").read_text(encoding="utf-8")


@pytest.mark.skipif(browser_path() is None, reason="no Chromium here")
def test_saved_html_opens_from_disk_without_network_or_complaint(session, audit, tmp_path: Path) -> None:
    hit = HOSTILE[0]
    bars = session.bars("AAA", "1h").with_columns(pl.lit(hit).alias("symbol"))
    pages = [
        save_plot(plots.plot_candles(bars, hit, calendar="XNYS"), tmp_path / "a.html"),
        save_plot(plot_maps.plot_gaps(audit), tmp_path / "b.html"),
    ]
    with running(str(browser_path())) as browser:
        for page in pages:
            browser.open(page)
            drawn = "new Promise(r => {let n = 0; const i = setInterval(() => {const c = document.querySelector('#plot canvas, #plot svg'); if (c || ++n > 100) {clearInterval(i); r(!!c)}}, 50)})"
            assert browser.value(drawn)
            assert browser.value("window.hit === undefined")
        assert browser.complaints == []
        assert [one for one in browser.requests if not one.startswith(LOCAL)] == []


@pytest.mark.skipif(browser_path() is None, reason="no Chromium here")
def test_saved_png_on_a_page_has_the_colours_it_was_given(tmp_path: Path) -> None:
    field = (
        alt.Chart(pl.DataFrame({"x": [1]}))
        .mark_rect(color="#e07a2f", opacity=0.25)
        .encode(x=alt.value(0), x2=alt.value(40), y=alt.value(0), y2=alt.value(40))
    )
    save_plot(
        field.properties(width=40, height=40, background="transparent").configure_view(stroke=None),
        tmp_path / "a.png",
        scale=1,
    )
    (tmp_path / "a.html").write_text('<img id="i" src="a.png">')
    source = base64.b64encode((tmp_path / "a.png").read_bytes()).decode()
    drawn = f"""new Promise(r => {{const i = new Image(); i.onload = () => {{const c = document.createElement('canvas');
        const x = c.getContext('2d'); x.fillStyle = '#fff'; x.fillRect(0, 0, 99, 99); x.drawImage(i, 0, 0);
        r([...x.getImageData(20, 20, 1, 1).data])}}; i.src = 'data:image/png;base64,{source}'}})"""
    with running(str(browser_path())) as browser:
        browser.open(tmp_path / "a.html")
        found = browser.value(drawn)[:3]
    meant = [round(255 * 0.75 + 0.25 * part) for part in (0xE0, 0x7A, 0x2F)]
    assert all(abs(one - other) <= 3 for one, other in zip(found, meant, strict=True)), (found, meant)


def test_label_of_hostile_text_is_one_short_visible_line() -> None:
    assert label("a\u202eb\nc") == "a\\u202eb\\u000ac"
    assert len(label("L" * 300)) == 40
    made = labels(["L" * 300, "L" * 301, "x"])
    assert len(set(made.values())) == 3


MISTAKES = [
    (plots.plot_candles, "session", {"symbol": "AAB"}, r"symbol: received 'AAB' \(did you mean AAA\?\)"),
    (plots.plot_candles, "session", {}, r"symbol: none was named; valid: one of 'AAA', 'BBB'"),
    (plots.plot_candles, "audit", {"symbol": "AAA"}, r"an audit keeps none: give it as `gaps`"),
    (plots.plot_candles, "session", {"symbol": "AAA", "interval": "2m"}, r"received '2m'"),
    (
        plots.plot_candles,
        "session",
        {"symbol": "AAA", "start": "2031-01-01"},
        r"received 2031-01-01 and None: no session",
    ),
    (plots.plot_volume, "session", {"symbol": "AAA", "start": "2031-01-01"}, r"received 2031-01-01 and None: no row"),
    (plots.plot_candles, "session", {"symbol": "AAA", "start": "soon"}, r"start: received 'soon'; valid: a date"),
    (
        plots.plot_candles,
        "session",
        {"symbol": "AAA", "theme": "neon"},
        r"theme: received 'neon'; valid: both, light, dark",
    ),
    (plots.plot_candles, 42, {}, r"source: received int; valid: a SessionData"),
    (plots.plot_candles, "/nowhere", {}, r"source: /nowhere is neither an export nor an audit"),
    (plots.plot_candles, pl.DataFrame({"x": [1]}), {}, r"source: a frame of x; valid"),
    (plot_maps.plot_coverage, "session", {"of": "charm"}, r"of: received 'charm'; valid: quality, quality_adjusted"),
    (plot_maps.plot_coverage, "session", {"of": "quality_adjusted"}, r"the source has no causes"),
    (plot_maps.plot_slots, "session", {"calendar": "XHKG"}, r"calendar: received 'XHKG'; the source has XNYS"),
    (plot_maps.plot_gaps, "session", {"symbols": ["ZZZ"]}, "symbols: received 'ZZZ'"),
]


@pytest.mark.parametrize(("plot", "source", "options", "told"), MISTAKES)
def test_plot_of_a_wrong_argument_names_the_mend(session, audit, plot, source, options, told: str) -> None:
    given = {"session": session, "audit": audit}.get(source, source) if isinstance(source, str) else source
    with pytest.raises(ParameterError, match=told):
        plot(given, **options)


@pytest.mark.parametrize("plot", [plot_maps.plot_slots, plot_maps.plot_gaps])
def test_plot_of_series_without_a_calendar_names_what_is_valid(audit, plot) -> None:
    series = audit.tables["series"]
    unknown = SimpleNamespace(tables={**audit.tables, "series": series.with_columns(calendar=pl.lit(None, pl.String))})
    with pytest.raises(ParameterError, match="source: it tells no calendars"):
        plot(unknown)
    first = pl.when(pl.col("symbol") == "BBB").then("calendar").alias("calendar")
    assert plot(SimpleNamespace(tables={**audit.tables, "series": series.with_columns(first)}))


def test_clock_ticks_are_round_by_the_venues_clock() -> None:
    code = "XBOM"  # five and a half hours ahead of UTC
    grid = SessionGrid.build(
        engine.calendar(code).segments(dt.date(2024, 11, 4), dt.date(2024, 11, 4)), "1m", GridSpec(code)
    )
    ticks = Axis.of(grid, None, None, 1_000).clock_ticks("Asia/Kolkata", 7)
    assert sorted(ticks["label"]) == ["10:00", "11:00", "12:00", "13:00", "14:00", "15:00"]


@pytest.mark.parametrize("most", [1, 7, 50, 400, 5_000])
def test_axis_of_any_bound_keeps_order_and_bound(most: int) -> None:
    code = "XHKG"  # a lunch break
    grid = SessionGrid.build(
        engine.calendar(code).segments(dt.date(2024, 11, 1), dt.date(2024, 11, 29)), "1m", GridSpec(code)
    )
    axis = Axis.of(grid, None, None, most)
    chosen = grid.table.filter("chosen")
    places = chosen.select(pl.int_ranges(0, "slots").alias("slot"), "ordinal").explode("slot")
    at = axis.at(grid.starts(places["ordinal"], places["slot"].cast(pl.Int32)))
    assert at["x"].is_sorted()
    assert at["place"].is_sorted()
    assert at["place"].n_unique() <= most
    assert at["place"].diff().drop_nulls().max() in (None, 0, 1)
    assert 0 <= at["x"][0] <= at["x"][-1] < axis.length


@pytest.mark.parametrize("absent", ["altair", "vl_convert"])
def test_plot_without_the_extra_says_what_to_install(absent: str) -> None:
    code = f"import sys; sys.modules[{absent!r}] = None\nimport engine\ntry: engine.plot_candles\nexcept engine.EngineError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"({absent} is not installed); pip install 'session-engine[notebook]'" in done.stdout
