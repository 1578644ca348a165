"""The page as text: what it embeds, how large it gets, and that nothing in it can leave its place."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import polars as pl
import pytest
from engine.audit.audit_tables import AUDIT_TABLES, FILLS
from engine.errors import SchemaError
from engine.quality.causes.cause_table import CAUSES
from engine.report.page import SCRIPTS, Verdict, annotate_gaps, audit_page, top_gaps
from engine.schema import empty

from tests.report.audits import LINE, LONG, RTL, SCRIPT, STRANGE, large_audit, small_audit

MB = 1_000_000
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
RESOURCES = ("page.html", "page.css", *SCRIPTS)


def data_of(page: str) -> dict[str, Any]:
    found = DATA.search(page)
    assert found is not None
    return dict(json.loads(found[1]))


def values_of(column: Mapping[str, Any]) -> list[Any]:
    runs = column.get("runs")
    values = (
        column["values"] if runs is None else [v for v, n in zip(runs[::2], runs[1::2], strict=True) for _ in range(n)]
    )
    words = column.get("words")
    return values if words is None else [None if v is None else words[v] for v in values]


def rows_of(table: Mapping[str, Any]) -> pl.DataFrame:
    return pl.DataFrame({name: values_of(column) for name, column in table["columns"].items()}, strict=False)


@pytest.fixture(scope="module")
def audit() -> dict[str, pl.DataFrame]:
    return small_audit()


@pytest.fixture(scope="module")
def page(audit: dict[str, pl.DataFrame]) -> str:
    return audit_page(
        audit, {"title": SCRIPT, "sources": RTL, "rows": 7}, Verdict(passed=False, text=SCRIPT, reasons=[LINE])
    )


def test_write_page_of_hostile_text_leaves_markup_in_no_place_but_its_own(page: str) -> None:
    found = DATA.search(page)
    assert found is not None
    assert not set(found[1]) & set("<>&\u2028\u2029")
    frame = page.replace(found[1], "")
    assert frame.count("<script") == 2
    assert SCRIPT not in frame
    assert "onerror" not in frame


def test_write_page_names_no_address_and_a_policy_that_allows_only_its_own_parts(page: str) -> None:
    assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", page.replace("http://www.w3.org/2000/svg", "")) == []
    assert re.findall(r"\b(?:src|href)=\"(?!#)", page) == []
    assert "@import" not in page
    assert "url(" not in page
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    for kind, tag in (("style", "style"), ("script", "script")):
        inner = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inner]
        assert re.findall(rf"{kind}-src 'sha256-([^']+)'", policy[1]) == digests
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]


def test_write_page_of_an_audit_embeds_its_rows_as_they_are(audit: dict[str, pl.DataFrame], page: str) -> None:
    data = data_of(page)
    series = rows_of(data["series"])
    columns = ["symbol", "expected", "present", "missing", "explained", "rows"]
    assert series.select(columns).sort("symbol").equals(audit["series"].select(columns).sort("symbol"))
    assert set(STRANGE) <= set(series["symbol"])
    told = rows_of(data["findings"])
    assert told.height == audit["findings"].height
    assert told["severity"].to_list() == sorted(audit["findings"]["severity"], key=["error", "warning", "info"].index)
    assert sorted(told["fingerprint"]) == sorted(audit["findings"]["fingerprint"])
    assert data["about"] == {"title": SCRIPT, "sources": RTL, "rows": "7"}
    assert data["verdict"] == {"passed": False, "text": SCRIPT, "reasons": [LINE]}


def test_write_page_of_an_audit_counts_everything_once(audit: dict[str, pl.DataFrame], page: str) -> None:
    data = data_of(page)
    totals = data["totals"]
    assert totals["missing"] == audit["gaps"]["bar_count"].sum() == audit["series"]["missing"].sum()
    assert totals["gaps"] == data["gaps"]["of"] == audit["gaps"].height
    assert sum(data["severities"].values()) == totals["findings"] == audit["findings"].height
    assert (totals["files"], totals["files_bad"]) == (25, 2)
    assert (totals["first"], totals["last"]) == ("2024-10-14", "2024-12-13")
    assert rows_of(data["causes"])["slots"].sum() == totals["missing"]


def test_write_page_of_an_audit_puts_the_worst_first(audit: dict[str, pl.DataFrame], page: str) -> None:
    series = rows_of(data_of(page)["series"])
    assert series["quality_adjusted"].is_sorted()
    worst = audit["series"].sort("quality_adjusted")["symbol"][0]
    assert series["symbol"][0] == worst
    main = (
        audit["gaps"]
        .filter(pl.col("symbol") == worst)
        .group_by("cause")
        .agg(pl.col("bar_count").sum())
        .sort("bar_count")
    )
    assert series["main_cause"][0] == main["cause"][-1]
    gaps = rows_of(data_of(page)["gaps"])
    assert gaps["explained"].is_sorted()
    assert gaps.filter(~pl.col("explained"))["bar_count"].is_sorted(descending=True)


def test_write_page_of_strips_draws_each_between_its_own_bounds(audit: dict[str, pl.DataFrame], page: str) -> None:
    strips = data_of(page)["strips"]
    heads, points = rows_of(strips), rows_of(strips["points"])
    assert heads.height == audit["strips"].select("symbol", "gap_start").n_unique() > 20
    assert heads["points"].sum() == points.height == audit["strips"].height
    first = points.head(heads["points"][0])
    mine = audit["strips"].filter(pl.col("symbol") == heads["symbol"][0]).sort("gap_start", "ts")
    mine = mine.filter(
        mine["gap_start"].dt.epoch("us") == heads["gap_start"][0] * strips["columns"]["gap_start"]["unit"]
    )
    assert first["seconds"].to_list() == (mine["ts"] - mine["gap_start"]).dt.total_seconds().to_list()
    back = heads["low"][0] + first["price"] / strips["levels"] * (heads["high"][0] - heads["low"][0])
    assert (back - mine["close"]).abs().max() <= (heads["high"][0] - heads["low"][0]) / strips["levels"]


def test_write_page_of_nothing_says_so_without_failing() -> None:
    data = data_of(audit_page({name: empty(schema) for name, schema in AUDIT_TABLES.items()}, {}))
    assert data["totals"]["first"] is None
    assert data["slots"] == []
    assert data["verdict"] is None


@pytest.mark.parametrize("name", AUDIT_TABLES)
def test_write_page_without_a_table_names_it(name: str) -> None:
    tables = {other: empty(schema) for other, schema in AUDIT_TABLES.items() if other != name}
    with pytest.raises(SchemaError, match=f"absent: {name};"):
        audit_page(tables, {})


def test_write_page_of_500_symbols_and_60_sessions_stays_under_3_mb() -> None:
    page = audit_page(large_audit(500, 60, 4_000), {"title": "large"})
    data = data_of(page)
    assert len(page.encode()) < 3 * MB
    assert (data["coverage"]["rows"], data["coverage"]["every"], data["coverage"]["periods"]["rows"]) == (
        500,
        "session",
        60,
    )
    assert data["findings"]["rows"] == data["findings"]["of"] == 4_002
    assert data["gaps"]["rows"] == data["gaps"]["of"] == 4_000


@pytest.mark.parametrize(
    "text", ["", "<&>" * 100, "\u0001" * 300, "龍" * 300], ids=["plain", "markup", "control", "wide"]
)
def test_write_page_of_thousands_of_symbols_stays_under_5_mb_and_says_what_is_left_out(text: str) -> None:
    page = audit_page(large_audit(3_000, 250, 20_000, text, calendars=7), {"title": "larger"})
    data = data_of(page)
    assert len(page.encode()) < 5 * MB
    assert (data["coverage"]["of"], data["coverage"]["every"]) == (3_000, "week")
    assert data["coverage"]["rows"] * data["coverage"]["periods"]["rows"] <= 60_000
    assert data["gaps"]["of"] == 20_000 > data["gaps"]["rows"] > 0
    assert data["findings"]["of"] == 20_002 > data["findings"]["rows"] > 0
    assert data["totals"]["series"] == data["series"]["of"] == 3_000
    assert [len(picture["raw"]) for picture in data["slots"]] == [
        p["slots"] * p["sessions"]["rows"] for p in data["slots"]
    ]
    assert len(data["slots"]) == 6


def test_find_resources_of_the_page_beside_its_module() -> None:
    held = {path.name for path in (files("engine.report") / "web").iterdir()}
    assert held == set(RESOURCES)


def test_explain_causes_covers_every_cause_of_an_audit(page: str) -> None:
    data = data_of(page)
    assert list(data["glossary"]) == list(data["families"]) == list(CAUSES)
    style = (files("engine.report") / "web" / "page.css").read_text(encoding="utf-8")
    assert all(f"\n.{family} {{" in style for family in data["families"].values())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_read_text_of_any_kind_against_its_ground_has_contrast_enough(dark: bool) -> None:
    style = (files("engine.report") / "web" / "page.css").read_text(encoding="utf-8")
    light, darker = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root[^{]*\{([^}]*)\}", style)[:2]
    )
    tokens = light | (darker if dark else {})
    for ground in ("page", "surface", "sunken"):
        for ink in ("text", "muted", "accent", "good", "error", "warning", "info"):
            assert contrast(tokens[ink], tokens[ground]) >= 4.5, (ink, ground)
        assert contrast(tokens["line-strong"], tokens["surface"]) >= 3
    assert contrast(tokens["on-accent"], tokens["accent"]) >= 4.5
    # One direction: whoever sees no hue sees which of two levels is worse. Marks stand out from their level.
    shades = [luminance(tokens[f"l{level}"]) for level in range(1, 7)]
    assert shades == sorted(shades, reverse=not dark)
    assert all(contrast(tokens[f"ink{level}"], tokens[f"l{level}"]) >= 3 for level in range(3, 7))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_write_page_of_a_verdict_with_many_reasons_says_how_many_more() -> None:
    nothing = {name: empty(schema) for name, schema in AUDIT_TABLES.items()}
    verdict = Verdict(passed=False, text="v" * 700, reasons=[f"rule {n}" for n in range(60)])
    told = data_of(audit_page(nothing, {"title": "t" * 601}, verdict))
    assert told["verdict"]["reasons"] == [*(f"rule {n}" for n in range(50)), "… and 10 more"]
    assert told["verdict"]["text"] == "v" * 600 + "… (700 characters)"
    assert told["about"]["title"] == "t" * 600 + "… (601 characters)"


@pytest.mark.parametrize("most", [1, 7, 60, 10_000])
def test_choose_gravest_gaps_among_many_alike_agrees_with_sorting_all(
    audit: dict[str, pl.DataFrame], most: int
) -> None:
    gaps = annotate_gaps(audit["gaps"], audit["series"], 0.8).with_columns(pl.col("bar_count") // 9)
    order = ["explained", "bar_count", "gap_start", "symbol", "price_type", "interval"]
    whole = gaps.sort(order, descending=[False, True, False, False, False, False])
    assert top_gaps(gaps, most).select(order).equals(whole.head(most).select(order))


def test_write_page_twice_writes_the_same(audit: dict[str, pl.DataFrame], page: str) -> None:
    shuffled = {
        name: table.sample(fraction=1, shuffle=True, seed=1) if name == "gaps" else table
        for name, table in audit.items()
    }
    about, verdict = {"title": SCRIPT, "sources": RTL, "rows": 7}, Verdict(passed=False, text=SCRIPT, reasons=[LINE])
    assert audit_page(shuffled, about, verdict) == page


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), None])
def test_write_page_of_prices_that_are_no_numbers_leaves_them_out(
    audit: dict[str, pl.DataFrame], value: float | None
) -> None:
    odd = pl.when(pl.int_range(pl.len()) % 7 == 3).then(pl.lit(value, pl.Float64))
    strips = audit["strips"].with_columns(
        odd.otherwise(pl.col("close")).alias("close"), odd.otherwise(pl.col("volume")).alias("volume")
    )
    points = rows_of(data_of(audit_page(audit | {"strips": strips}, {}))["strips"]["points"])
    assert points.height == strips.height
    assert all(0 <= price <= 999 for price in points["price"].drop_nulls())
    assert points["price"].null_count() >= strips.height // 8


def test_cut_a_text_of_thousands_of_characters_says_how_long_it_was(page: str) -> None:
    evidence = rows_of(data_of(page)["findings"])["evidence"].drop_nulls()
    long = evidence.filter(evidence.str.starts_with("eee"))
    assert long.to_list() == ["e" * 600 + "… (5000 characters)"]
    assert LONG in rows_of(data_of(page)["series"])["symbol"].to_list()


def test_write_page_of_a_filled_export_says_what_came_from_where(audit: dict[str, pl.DataFrame]) -> None:
    answers = [("answered", 20, None), ("empty", 3, "it has no bar in these slots"), ("refused", 5, SCRIPT)]
    fills = pl.DataFrame(
        [
            {"symbol": LONG, "source": RTL, "outcome": outcome, "bar_count": n, "detail": why}
            for outcome, n, why in answers
        ],
        schema_overrides={"detail": pl.String},
    )
    fills = fills.with_columns(
        pl.lit(None, kind).alias(name) for name, kind in FILLS.items() if name not in fills.columns
    )
    data = data_of(audit_page({**audit, "fills": fills}, {}))
    assert data["filled"][0].endswith(": 20 slots filled, 3 without a bar there, 5 refused")
    assert rows_of(data["fills"]).select("outcome", "bar_count").rows() == [(one, n) for one, n, _ in answers]
    assert data_of(audit_page(audit, {}))["filled"] == []
