"""What a task of a run returns, as bytes: for the process that waits for it, and for a run that goes on."""

from __future__ import annotations

import base64
import datetime as dt
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any, NamedTuple

import orjson
import polars as pl

from engine.errors import SourceError
from engine.export.share_place import ShareFile
from engine.export.shares import Share
from engine.report.summary_tables import RunSummary
from engine.runtime.refused_rows import RefusedRows
from engine.sources.batch import Problem

FRAMES = ("symbols", "calendars", "spans", "first_reject")
SUMMARY_FRAMES = ("series", "worst", "calendars")


@dataclass(frozen=True)
class LoadCounts:
    """Counts, problems and notes of a load, as in `load.Loaded`: of one task, or of all tasks."""

    files: int
    rows: int
    duplicates: int
    corrections: int
    rejected: int
    outside_sessions: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    refused: tuple[RefusedRows, ...] = ()


class TaskOutcome(NamedTuple):
    """What one task wrote, the counts of its load, the number of its derived bars, and their quality."""

    share: Share
    counts: LoadCounts
    derived: int
    summary: RunSummary


def record_of_outcome(outcome: TaskOutcome) -> bytes:
    """An outcome as JSON; frames as Arrow streams in it."""
    share = outcome.share
    return orjson.dumps(
        {
            "files": [tuple(file) for file in share.files],
            "frames": {name: _text_of_frame(getattr(share, name)) for name in FRAMES},
            "has_fills": share.has_fills,
            "store_revision": share.store_revision,
            "as_of": share.as_of and share.as_of.isoformat(),
            "counts": asdict(outcome.counts),
            "derived": outcome.derived,
            "summary": {name: _text_of_frame(getattr(outcome.summary, name)) for name in SUMMARY_FRAMES},
        }
    )


def outcome_of_record(record: bytes) -> TaskOutcome:
    """The outcome that a record holds; SourceError if it is damaged.

    Raises
    ------
    SourceError
        The record is damaged.
    """
    try:
        return _parsed(orjson.loads(record))
    except (ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise SourceError("a record of --resume", f"{error}; run again without --resume") from error


def _parsed(stored: dict[str, Any]) -> TaskOutcome:
    counts = stored["counts"]
    counts |= {
        "problems": tuple(Problem(**one) for one in counts["problems"]),
        "notes": tuple(counts["notes"]),
        "refused": tuple(RefusedRows(**one) for one in counts["refused"]),
    }
    as_of = stored["as_of"] and dt.datetime.fromisoformat(stored["as_of"])
    share = Share(
        files=tuple(ShareFile(*file) for file in stored["files"]),
        **{name: _frame_of_text(stored["frames"][name]) for name in FRAMES},
        has_fills=stored["has_fills"],
        store_revision=stored["store_revision"],
        as_of=as_of,
    )
    summary = RunSummary(**{name: _frame_of_text(stored["summary"][name]) for name in SUMMARY_FRAMES})
    return TaskOutcome(share, LoadCounts(**counts), stored["derived"], summary)


def _text_of_frame(frame: pl.DataFrame) -> str:
    content = BytesIO()
    frame.write_ipc_stream(content)
    return base64.b64encode(content.getvalue()).decode()


def _frame_of_text(text: str) -> pl.DataFrame:
    return pl.read_ipc_stream(BytesIO(base64.b64decode(text)))
