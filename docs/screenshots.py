"""Takes the README's pictures anew: docs/report.png (a page, in a headless Chromium) and docs/candles.png (a plot).

Run from the repository's root: python -m docs.screenshots
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import engine
from engine.report.page import Verdict, audit_page
from engine.runtime.demo import demonstrate
from tests.report.audits import small_audit
from tests.report.browser import browser_path, running

HERE = Path(__file__).parent
WIDTH, HEIGHT = 1280, 940
ABOUT = {"title": "vendor 2024 Q4", "sources": "vendor/*.csv", "written": "2024-12-14 09:00 UTC", "engine": "0.1.0"}
VERDICT = Verdict(
    passed=False,
    text="2 of 14 rules failed: quality below 99 in 3 series; 4 outages.",
    reasons=("quality_adjusted < 99: S00, S14", "outage longer than 5 min"),
)


def report(output: Path) -> None:
    """The head of an audit's page: its verdict, its figures and its map."""
    path = browser_path()
    if path is None:
        sys.exit("no Chromium found; install one, or keep the picture that is there")
    with tempfile.TemporaryDirectory() as folder, running(path) as browser:
        page = Path(folder) / "report.html"
        page.write_text(audit_page(small_audit(strange=False), ABOUT, VERDICT), encoding="utf-8")
        browser.sees(WIDTH, HEIGHT)
        browser.open(page)
        browser.picture(output, height=HEIGHT)


def candles(output: Path) -> None:
    """Three sessions of a symbol, with what was lost, on the session axis."""
    with tempfile.TemporaryDirectory() as folder:
        files = demonstrate(Path(folder), seed=7).files
        session = engine.load(files, "XNYS")
    audit = engine.run_audit(session)
    chart = engine.plot_candles(session, "MIDC", start="2024-12-03", end="2024-12-05", gaps=audit)
    engine.save_plot(chart, output, scale=1.4)


def main() -> None:
    report(HERE / "report.png")
    candles(HERE / "candles.png")


if __name__ == "__main__":
    main()
