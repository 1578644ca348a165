"""The main job: files in; bars, gaps and quality in one store; an export out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.clock import Clock, WallClock
from engine.export.dataset import write_dataset
from engine.runtime.load import Loaded, LoadOptions, Progress, load
from engine.runtime.processor import derive_session
from engine.runtime.quality_manager import assess_session
from engine.store import SessionData


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes
    ----------
    loaded : Loaded
        The store, and how reading went.
    derived : int
        Derived bars written.
    export_revision : int or None
        The export's revision, None without one.
    """

    loaded: Loaded
    derived: int
    export_revision: int | None

    @property
    def session(self) -> SessionData:
        """The store."""
        return self.loaded.session


def run(
    sources: Sequence[Path],
    options: LoadOptions,
    export: Path | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
) -> Outcome:
    """Load sources, derive, judge and, when a target is given, export.

    Parameters
    ----------
    sources : sequence of Path
        Files and folders.
    options : LoadOptions
    export : Path, optional
        Where the dataset goes; a new folder, or an export that takes a new revision.
    progress : callable, optional
        Told after each file.
    clock : Clock, optional
        Stamps the export; default the machine's.
    """
    loaded = load(sources, options, progress)
    derived = derive_session(loaded.session)
    assess_session(loaded.session, options.dates)
    revision = None if export is None else export_session(loaded.session, export, clock)
    return Outcome(loaded, derived, revision)


def export_session(session: SessionData, target: Path, clock: Clock | None = None) -> int:
    """Write everything a store holds as the next revision of an export; returns that revision."""
    snapshot = session.snapshot()
    revision = write_dataset(
        target,
        snapshot.tables(),
        store_id=snapshot.store_id,
        store_revision=snapshot.revision,
        written_at=(clock or WallClock()).now(),
    )
    session.mark_exported(snapshot.revision)
    return revision
