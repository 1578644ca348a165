"""Shared fixtures: where the vendor files are, when they are."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

if "PYTEST_XDIST_WORKER" in os.environ:  # one of as many processes as there are cores
    os.environ.setdefault("POLARS_MAX_THREADS", "1")

from tests.object_store import BUCKET, environment, serve_objects

# How long an example takes says more about the machine than about the code.
settings.register_profile("engine", deadline=None)
# A failure is shown as it was found, with the line that gives it again: shrinking it takes minutes, so that is done at a
# desk. For CI, and for mutants, of which most fail.
settings.register_profile("ci", deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate], print_blob=True)
# `make quick`: a tenth of the examples.
settings.register_profile("quick", deadline=None, max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "engine"))


def pytest_xdist_auto_num_workers() -> int:
    """Workers of `-n auto`: half as many again as there are cores, because tests of live sessions and of kills wait."""
    cores = os.cpu_count() or 1
    return cores + cores // 2


def pytest_configure(config: pytest.Config) -> None:
    """The processes of a run share calendars on disk, in a folder of their own."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="engine-caches-")
        os.environ["ENGINE_CACHE"] = folder.name
        config.add_cleanup(folder.cleanup)


VENDOR = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def vendor() -> Path:
    """The folder of real vendor files beside the project; tests that need it skip where it is absent."""
    if not VENDOR.is_dir():
        pytest.skip(f"no vendor files at {VENDOR}")
    return VENDOR


@pytest.fixture(scope="session")
def object_server() -> Iterator[str]:
    """Address of a server that speaks S3, with an empty bucket."""
    pytest.importorskip("moto.server", reason="no server that speaks S3 is installed (moto)")
    with serve_objects() as address:
        yield address


@pytest.fixture
def store(object_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty place of the test's own in the store, which the environment leads to."""
    for name, value in environment(object_server).items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.getreports("skipped") if "no vendor files" in str(report.longrepr)]
    if skipped:
        terminalreporter.section("REAL VENDOR FILES WERE NOT TESTED", sep="!")
        terminalreporter.write_line(f"{len(skipped)} tests were skipped: no folder {VENDOR}")
