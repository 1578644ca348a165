"""The page as a person has it: opened from disk in a real browser, read, searched, sorted, by keyboard, on paper."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from engine.audit.audit_tables import AUDIT_TABLES
from engine.report.page import Verdict, audit_page
from engine.schema import empty

from tests.report.audits import FORMULA, IMAGE, RTL, SCRIPT, STRANGE, large_audit, small_audit

pytest.importorskip("websockets", reason="drives the browser; comes with the extra `live`")
from tests.report.browser import Browser, browser_path, running

FOUND = browser_path()
pytestmark = pytest.mark.skipif(
    FOUND is None, reason="no Chromium or Chrome on this machine (Debian: apt install chromium)"
)

TAB, ENTER, RIGHT, DOWN = ("Tab", 9), ("Enter", 13, "\r"), ("ArrowRight", 39), ("ArrowDown", 40)
CELLS = "Array.from(document.querySelectorAll('#{} tbody tr'), (row) => row.children[{}].textContent)"
SHOW_ALL = "for (let i = 0; i < 99 && !document.querySelector('#{0} .more').hidden; i++) document.querySelector('#{0} .more').click()"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert FOUND is not None
    with running(FOUND) as one:
        yield one


@pytest.fixture(scope="module")
def audit() -> dict[str, pl.DataFrame]:
    return small_audit()


@pytest.fixture(scope="module")
def file(audit: dict[str, pl.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "audit.html"
    verdict = Verdict(passed=False, text=f"2 rules failed {IMAGE}", reasons=[SCRIPT])
    path.write_text(audit_page(audit, {"title": f"Vendor {SCRIPT}", "sources": RTL}, verdict), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Browser:
    """The page just opened; what it complains of and asks for is counted from here."""
    browser.complaints.clear()
    browser.requests.clear()
    browser.sees(1280)
    browser.open(file)
    return browser


def column(page: Browser, table: str, at: int) -> list[str]:
    return list(page.value(CELLS.format(table, at)))


def test_open_page_from_disk_complains_of_nothing_and_asks_for_nothing(page: Browser, file: Path) -> None:
    page.value("new Promise((done) => setTimeout(done, 300))")
    assert page.complaints == []
    assert page.requests == [file.as_uri()]
    assert page.value("document.querySelectorAll('section').length") == 10


def test_open_page_of_hostile_text_shows_it_and_runs_none(page: Browser) -> None:
    page.value(SHOW_ALL.format("symbols"))
    shown = set(column(page, "symbols", 1))
    written_out = {text.replace("\u202e", "\\u202e").replace("\u2028", "\\u2028") for text in STRANGE}
    assert written_out <= shown
    assert page.value("window.hit === undefined && document.scripts.length === 2 && document.images.length === 0")
    assert page.value("document.querySelector('h1').textContent") == f"Vendor {SCRIPT}"
    assert IMAGE in page.value("document.querySelector('.said').textContent")
    assert FORMULA in page.value("document.querySelector('#findings').textContent")


def test_search_findings_shows_those_that_hold_the_words(page: Browser, audit: dict[str, pl.DataFrame]) -> None:
    page.value("document.querySelector('#findings input[type=search]').focus()")
    page.type("GAPS.HALT")
    halts = audit["findings"].filter(pl.col("check_name") == "gaps.halt")
    assert 0 < halts.height < 25
    assert column(page, "findings", 2) == ["gaps.halt"] * halts.height
    assert f"{halts.height} matching of" in page.value("document.querySelector('#findings .count').textContent")
    page.value("document.querySelector('#findings input[type=search]').select()")
    page.type("no finding has these words")
    assert page.value("document.querySelector('#findings tbody').textContent") == "Nothing matches."


def test_search_findings_by_markup_finds_its_symbol(page: Browser, audit: dict[str, pl.DataFrame]) -> None:
    page.value("document.querySelector('#findings input[type=search]').focus()")
    page.type(SCRIPT)
    page.value(SHOW_ALL.format("findings"))
    named = audit["findings"].filter((pl.col("symbol") == SCRIPT) | (pl.col("check_name") == SCRIPT))
    assert len(column(page, "findings", 1)) == named.height > 1


def test_choose_severity_by_its_button_filters_the_findings(page: Browser, audit: dict[str, pl.DataFrame]) -> None:
    page.value("document.querySelectorAll('#findings .chip')[2].click()")
    page.value(SHOW_ALL.format("findings"))
    infos = audit["findings"].filter(pl.col("severity") == "info").height
    assert len(column(page, "findings", 1)) == infos > 0
    assert page.value("document.querySelectorAll('#findings .chip')[2].getAttribute('aria-pressed')") == "true"


def test_sort_symbols_by_enter_on_a_heading_sorts_both_ways(page: Browser, audit: dict[str, pl.DataFrame]) -> None:
    page.value(SHOW_ALL.format("symbols"))
    page.value("document.querySelectorAll('#symbols th')[5].querySelector('button').focus()")
    missing = sorted(audit["series"]["missing"], reverse=True)
    page.press(*ENTER)
    assert [int(text.replace(",", "")) for text in column(page, "symbols", 5)] == missing
    page.press(*ENTER)
    assert [int(text.replace(",", "")) for text in column(page, "symbols", 5)] == missing[::-1]
    heads = page.value("Array.from(document.querySelectorAll('#symbols th'), (th) => th.getAttribute('aria-sort'))")
    assert heads[5] == "ascending"
    assert set(heads[1:5] + heads[6:]) == {"none"}


def test_sort_findings_by_session_puts_those_without_one_last(page: Browser, audit: dict[str, pl.DataFrame]) -> None:
    page.value(SHOW_ALL.format("findings"))
    days = sorted(str(day) for day in audit["findings"]["session"].drop_nulls())
    none = [""] * audit["findings"]["session"].null_count()
    for told in (days, days[::-1]):
        page.value("document.querySelectorAll('#findings th')[4].querySelector('button').click()")
        assert column(page, "findings", 4) == told + none


def test_open_a_gap_shows_its_evidence_and_draws_its_strip(page: Browser, audit: dict[str, pl.DataFrame]) -> None:
    page.value("document.querySelector('#gaps input[type=search]').focus()")
    page.type("XNYS-o-")
    page.value("document.querySelector('#gaps .opener').focus()")
    page.press(*ENTER)
    assert page.value("document.querySelector('#gaps .opener').getAttribute('aria-expanded')") == "true"
    told = page.value("document.querySelector('#gaps .details').textContent")
    assert "slots are missing in 14 series of this source" in told
    hole, price = page.value(
        "['.hole', '.price'].map((c) => { const b = document.querySelector('#gaps .strip ' + c).getBoundingClientRect(); return [b.width, b.height]; })"
    )
    assert min(*hole, *price) > 5
    page.press(*ENTER)
    assert page.value("document.querySelectorAll('#gaps .details').length") == 0


def test_move_over_coverage_by_keys_says_what_each_cell_is(page: Browser, audit: dict[str, pl.DataFrame]) -> None:
    for _ in range(99):
        page.press(*TAB)
        if page.value("document.activeElement.tagName") == "CANVAS":
            break
    page.press(*DOWN)
    page.press(*RIGHT)
    worst = audit["series"].sort("quality_adjusted", "symbol")["symbol"][1]
    said = page.value("document.querySelector('#coverage .tip').textContent")
    assert said.startswith(f"{worst}, ")
    days = sorted(set(audit["quality"]["session"]))
    assert str(days[1]) in said
    page.press("End", 35)
    cell = audit["quality"].filter((pl.col("symbol") == worst) & (pl.col("session") == days[-1]))
    said = page.value("document.querySelector('#coverage .tip').textContent")
    expected = "nothing expected" if cell.is_empty() else f"of {cell['expected'][0]:,} slots missing"
    assert expected in said


def test_click_a_cell_of_coverage_shows_the_gaps_of_its_symbol_and_session(
    page: Browser, audit: dict[str, pl.DataFrame]
) -> None:
    page.value("document.querySelector('#coverage .scroller canvas').focus()")
    worst = audit["series"].sort("quality_adjusted", "symbol")["symbol"][0]
    missing = audit["quality"].filter((pl.col("symbol") == worst) & (pl.col("missing") > 0))["session"][0]
    days = sorted(set(audit["quality"]["session"]))
    page.press("Home", 36)
    for _ in range(days.index(missing)):
        page.press(*RIGHT)
    page.press(*ENTER)
    gaps = audit["gaps"].filter((pl.col("symbol") == worst) & (pl.col("session") == missing))
    page.value(SHOW_ALL.format("gaps"))
    assert column(page, "gaps", 1) == [worst] * gaps.height
    assert set(column(page, "gaps", 2)) == {str(missing)}


def test_choose_utc_turns_the_times_of_gaps(page: Browser, audit: dict[str, pl.DataFrame]) -> None:
    page.value("document.querySelector('#gaps input[type=search]').focus()")
    page.type("2024-11-15")
    first = column(page, "gaps", 3)
    page.value("Array.from(document.querySelectorAll('#bar button')).find((b) => b.textContent === 'UTC').click()")
    second = column(page, "gaps", 3)
    assert any(text.endswith("EST") for text in first)
    assert all(text.endswith("UTC") for text in second)
    starts = {at.strftime("%Y-%m-%d %H:%M UTC") for at in audit["gaps"]["gap_start"]}
    assert set(second) <= starts


def test_choose_raw_quality_draws_other_pictures(page: Browser) -> None:
    pixels = "Array.from(document.querySelectorAll('.scroller canvas'), (c) => c.toDataURL().length + c.toDataURL())"
    adjusted = page.value(pixels)
    page.value("Array.from(document.querySelectorAll('#bar button')).find((b) => b.textContent === 'Raw').click()")
    raw = page.value(pixels)
    assert len(adjusted) == 4
    assert all(one != other for one, other in zip(adjusted, raw, strict=True))


@pytest.mark.parametrize("width", [400, 1280])
def test_open_page_in_any_width_needs_no_scrolling_sideways(page: Browser, file: Path, width: int) -> None:
    page.sees(width)
    page.open(file)
    assert page.value("document.documentElement.scrollWidth") == width
    assert (
        page.value(
            "Math.max(...Array.from(document.querySelectorAll('#findings .scroll, #gaps .scroll'), (s) => s.scrollWidth - s.clientWidth))"
        )
        <= 0
    )


def test_open_page_in_the_dark_is_dark_and_on_paper_light(page: Browser, file: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    shade = "Array.from(document.querySelector('.legend canvas').getContext('2d').getImageData(1, 1, 1, 1).data).slice(0, 3)"
    light = (page.value(ground), page.value(shade))
    page.sees(1280, dark=True)
    page.open(file)
    dark = (page.value(ground), page.value(shade))
    assert sum(light[1]) > 600
    assert sum(dark[1]) < 300
    assert light[0] != dark[0]
    page.value("window.dispatchEvent(new Event('beforeprint'))")
    assert page.value(shade) == light[1]
    assert page.value("document.querySelectorAll('#findings .details').length") == 25
    page.value("window.dispatchEvent(new Event('afterprint'))")
    assert page.value(shade) == dark[1]
    assert page.value("document.querySelectorAll('#findings .details').length") == 0


def test_print_page_makes_a_document_of_a_few_pages(page: Browser, tmp_path: Path) -> None:
    page.printed(tmp_path / "page.pdf")
    text = (tmp_path / "page.pdf").read_bytes()
    assert text.startswith(b"%PDF")
    assert 2 <= text.count(b"/Type /Page\n") <= 20
    assert page.complaints == []


def test_reach_every_control_by_the_keyboard(page: Browser) -> None:
    controls = page.value(
        "Array.from(document.querySelectorAll('button, select, input, a[href], canvas[tabindex]')).filter((c) => c.checkVisibility() && c.tabIndex < 0).length"
    )
    assert controls == 0
    clickable = page.value("Array.from(document.querySelectorAll('[onclick], div[tabindex], span[tabindex]')).length")
    assert clickable == 0
    unnamed = page.value(
        "Array.from(document.querySelectorAll('button, select, input')).filter((c) => c.checkVisibility() && !(c.textContent.trim() || c.getAttribute('aria-label'))).length"
    )
    assert unnamed == 0


def test_add_a_script_to_the_page_is_refused_by_its_policy(page: Browser) -> None:
    page.value(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.hit = 1'; document.body.append(s); })()"
    )
    page.value(
        "(() => { const d = document.createElement('div'); d.innerHTML = '<img src=x onerror=\"window.hit = 1\">'; document.body.append(d); })()"
    )
    page.value("fetch('data:text/plain,x').catch(() => 0)")
    page.value("new Promise((done) => setTimeout(done, 200))")
    assert page.value("window.hit === undefined")
    assert sum("Content Security Policy" in text for text in page.complaints) >= 3
    assert len(page.requests) == 1 or all(address.startswith(("file:", "data:")) for address in page.requests)


def test_open_page_of_nothing_says_so(browser: Browser, tmp_path: Path) -> None:
    browser.complaints.clear()
    path = tmp_path / "nothing.html"
    path.write_text(audit_page({name: empty(schema) for name, schema in AUDIT_TABLES.items()}, {}), encoding="utf-8")
    browser.open(path)
    assert browser.complaints == []
    told = browser.value("document.getElementById('main').textContent")
    assert "Nothing was found." in told
    assert "Nothing is missing." in told


def test_open_page_of_thousands_of_symbols_says_what_it_holds(browser: Browser, tmp_path: Path) -> None:
    browser.complaints.clear()
    path = tmp_path / "large.html"
    path.write_text(audit_page(large_audit(2_500, 250, 9_000), {"title": "large"}), encoding="utf-8")
    browser.open(path)
    assert browser.complaints == []
    told = browser.value("document.getElementById('main').textContent")
    assert "1,000 of 2,500 series are held here" in told
    assert "of 9,002 in all" in told
    first = dt.date(2023, 1, 2)
    assert f"week from {first}" not in told  # only where a cell is asked
    browser.value("document.querySelector('#coverage .scroller').scrollTop = 300")
    browser.value("document.querySelector('#coverage .scroller canvas').focus()")
    browser.press("Home", 36)
    browser.press(*RIGHT)
    assert "week from 2023-01-09" in browser.value("document.querySelector('#coverage .tip').textContent")


# Points all over a picture: what is said of the cell there, and its colour before it was pointed at.
POINTS = """(() => {
  const canvas = document.querySelector('#coverage .scroller canvas');
  const tip = document.querySelector('#coverage .tip');
  const ink = canvas.getContext('2d');
  const box = canvas.getBoundingClientRect();
  const found = [];
  for (let y = 30; y < box.height; y += 9) for (let x = 220; x < box.width; x += 23) {
    canvas.dispatchEvent(new PointerEvent('pointerleave'));
    const colour = Array.from(ink.getImageData(x, y, 1, 1).data).slice(0, 3);
    canvas.dispatchEvent(new PointerEvent('pointermove', { clientX: box.left + x, clientY: box.top + y }));
    if (tip.textContent) found.push([tip.textContent, colour]);
  }
  return found;
})()"""
LEVELS = "['l0', 'l1', 'l2', 'l3', 'l4', 'l5', 'l6'].map((name) => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim())"


@pytest.mark.parametrize("order", ["worst", "symbol", "calendar"])
def test_draw_coverage_in_any_order_paints_each_cell_as_it_is_said(page: Browser, order: str) -> None:
    page.value(
        f"(() => {{ const pick = document.querySelector('#coverage select'); pick.value = '{order}'; pick.dispatchEvent(new Event('change')); }})()"
    )
    levels = [[int(text[at : at + 2], 16) for at in (1, 3, 5)] for text in page.value(LEVELS)]
    painted = {-1: [0, 0, 0], **dict(enumerate(levels))}
    seen = [(level_said(text), colour) for text, colour in page.value(POINTS)]
    assert len(seen) > 800
    assert {level for level, _ in seen} >= {-1, 0, 2, 3, 6}
    for level in {level for level, _ in seen}:
        colours = [colour for one, colour in seen if one == level]
        # A point between two cells may be either's, one on a mark neither's (a cross fills its cell). Nothing expected: nothing painted.
        assert sum(colour == painted[level] for colour in colours) > (0.25 if level == 6 else 0.6) * len(colours), level


def level_said(text: str) -> int:
    if "nothing expected" in text:
        return -1
    missing, of, explained = (
        int(word.replace(",", ""))
        for word in re.findall(r"([\d,]+)(?= of| slots| explained)", text.rsplit("\n", maxsplit=1)[-1])
    )
    share = (missing - explained) / of
    bounds = (0, 0.005, 0.05, 0.2, 0.5)
    return 6 if share == 1 else next((at for at, bound in enumerate(bounds) if share <= bound), 5)
