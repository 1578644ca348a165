"""kill -9 at random instants of exports in an object store, as `kills` does it on a disk.

The server is moto's, in a process of its own. A killed writer leaves what it uploaded, and an announcement of that, in
the store; the next export takes it away.
"""

from __future__ import annotations

import os
from pathlib import Path

from engine.storage import ObjectPath

from tests.object_store import BUCKET, environment, serve_objects
from tests.soak.kills import kill_exports
from tests.soak.report import Line

KILLS_PER_TARGET = 10  # about twenty revisions, so that there is a checkpoint


def kill_stored_exports(folder: Path, kills: int) -> list[Line]:
    """Kill so many exports in a store, every second one a full one; the folder stays empty."""
    del folder
    with serve_objects() as address:
        os.environ.update(environment(address))
        return kill_exports(ObjectPath(f"s3://{BUCKET}"), kills, ", in an object store", KILLS_PER_TARGET)
