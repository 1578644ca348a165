"""Faults, injected again and again: kills, full disks, damaged files, readers under a writer, disconnects, mutated input files, threads on one session.

    python -m tests.soak [--kills N] [--object-kills N] [--sizes N] [--truncations N] [--flips N]
                             [--seconds N] [--disconnects N] [--inputs N] [--session-seconds N] [--restarts N]
                             [--week N] [--json PATH]

Prints one line per kind of fault: how often it was injected, how often the outcome was wrong, what was seen, and what
that bounds: 0 in N means a rate below 3 / N with 95 % confidence, for faults drawn as these were. Exits with 1 when anything
was torn, mixed, lost, left behind or missed. A count of 0 leaves a kind out; where one above 0 is given, so are all kinds
without one. What is hurt, and where, is the same in every run; at which instruction a kill arrives is not, and the more
instants are tried the better.

`kills`, `objects`, `disk`, `damage`, `readers`, `disconnects`, `inputs`, `session`, `restarts` and `week` inject one kind of fault each; `story` makes what is exported.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from benchmarks import machine

from tests.soak.report import Line, heading, row

# Where each kind lives and which counts it takes. By name: every child imports this module again, and needs one kind.
KINDS = {
    "kills": ("tests.soak.kills", "kill_exports", ("kills",)),
    "objects": ("tests.soak.objects", "kill_stored_exports", ("object_kills",)),
    "disk": ("tests.soak.disk", "fill_disks", ("sizes",)),
    "damage": ("tests.soak.damage", "damage_files", ("truncations", "flips")),
    "readers": ("tests.soak.readers", "read_under_writer", ("seconds",)),
    "disconnects": ("tests.soak.disconnects", "disconnect_streams", ("disconnects",)),
    "inputs": ("tests.soak.inputs", "fuzz_inputs", ("inputs",)),
    "session": ("tests.soak.session", "soak_session", ("session_seconds",)),
    "restarts": ("tests.soak.restarts", "restart_sessions", ("restarts",)),
    "week": ("tests.soak.week", "week", ("week",)),
}
# How many without any count, and of what.
COUNTS = {
    "kills": (200, "kill -9 of exports"),
    "object_kills": (200, "kill -9 of exports in a store"),
    "sizes": (20, "full disks per exporter"),
    "truncations": (500, "shortened files"),
    "flips": (500, "turned bits"),
    "seconds": (60, "seconds of readers under a writer"),
    "disconnects": (1_000, "disconnects of a live stream"),
    "session_seconds": (60, "seconds of threads on one session"),
    "inputs": (20_000, "mutated input files per format"),
    "restarts": (500, "histories of a live session"),
    "week": (8_000, "symbols of a market followed for a week"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run, print, write; 1 when a line failed."""
    options = _parser().parse_args(arguments)
    begin = time.perf_counter()
    print(heading(), flush=True)
    lines = _run(options)
    taken = time.perf_counter() - begin
    failed = [line for line in lines if line.failed]
    faults = sum(line.times for line in lines)
    print(
        f"\n{taken:.0f} s; {faults:,} trials; {f'{len(failed)} of {len(lines)} lines FAILED' if failed else 'nothing was wrong'}"
    )
    if options.json:
        _write(Path(options.json), {
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "seconds": taken, "load": machine.load(),
            "about": machine.about(), "lines": [line.as_json() for line in lines],
        })  # fmt: skip
    return 1 if failed else 0


def _run(options: argparse.Namespace) -> list[Line]:
    lines: list[Line] = []
    given = {name: count for name in COUNTS if (count := getattr(options, name)) is not None}
    if not any(given.values()):
        given = {name: default for name, (default, _) in COUNTS.items()} | given
    with tempfile.TemporaryDirectory(prefix="engine-soak-") as folder:
        for kind, (module, function, counts) in KINDS.items():
            wanted = [given.get(name, 0) for name in counts]
            if any(wanted):
                (Path(folder) / kind).mkdir()
                made = getattr(import_module(module), function)(Path(folder) / kind, *wanted)
                print("\n".join(map(row, made)), flush=True)
                lines += made
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="See the docstring of tests/soak/__main__.py."
    )
    for name, (default, what) in COUNTS.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=_count, metavar="N", help=f"{what} (default {default})")
    parser.add_argument("--json", default="", metavar="PATH", help="also write the lines there")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"received {text}; valid: 0 or more")
    return number


def _write(path: Path, report: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    sys.exit(main())
