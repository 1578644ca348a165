"""Small zips in Lean's folder layout."""

from __future__ import annotations

import zipfile
from pathlib import Path


def lean_zip(root: Path, place: str, **members: str) -> Path:
    """Write `<root>/<place>`; a keyword is a member's name without `.csv`, with `d_` for a leading digit."""
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(f"{name.removeprefix('d_')}.csv", text)
    return path
