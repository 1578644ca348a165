"""Files in a store that a writer announced and never committed: it was overtaken, or killed."""

from __future__ import annotations

from engine.export.attempts import leavings
from engine.export.damage import FILE_NAME
from engine.export.dataset import open_dataset
from engine.export.maintenance.vacuum import current_exports_files
from engine.export.revision_history import pinned_files
from engine.storage import ObjectPath


def remove_leavings(target: ObjectPath, revision: int) -> None:
    """Delete announced files of revisions up to this one, which is there, that no revision pins, then the announcements."""
    announced = leavings(target, revision)
    if not announced:
        return
    exports = open_dataset(target).exports
    names = {name for names in announced.values() for name in names}
    pinned = {f"exports/{path}" for path in current_exports_files(target)}
    for table in {name.partition("/")[0] for name in names}:
        pinned |= {f"{table}/{path}" for _, files in pinned_files(target, table, exports) for path in files}
    for name in sorted(names - pinned):
        file = FILE_NAME.fullmatch(name.rpartition("/")[2])
        if file is not None and int(file[1]) <= revision and ".." not in name.split("/"):
            (target / name).unlink(missing_ok=True)
    for place in announced:
        place.unlink(missing_ok=True)
