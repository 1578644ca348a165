"""Faults, injected again and again: kills, full disks, damaged files, readers under a writer, disconnects, mutated input files, threads on one session.

    python -m tests.soak [--kills N] [--object-kills N] [--sizes N] [--truncations N] [--flips N]
                             [--seconds N] [--disconnects N] [--inputs N] [--session-seconds N] [--restarts N]
                             [--week SYMBOLS] [--json PATH]

Prints one line per kind of fault: how often it was injected, how often the outcome was wrong, what was seen, and what
that bounds: 0 in N means a rate below 3 / N with 95 % confidence, for faults drawn as these were. Exits with 1 when anything
was torn, mixed, lost, left behind or missed. Where a count is given, kinds without one are left out, as a count
of 0 leaves one out. What is hurt, and where, is the same in every run;
at which instruction a kill arrives is not, and the more instants are tried the better.

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
# Without any count.
DEFAULTS = {
    "kills": 200,
    "object_kills": 200,
    "sizes": 20,
    "truncations": 500,
    "flips": 500,
    "seconds": 60,
    "disconnects": 1_000,
    "session_seconds": 60,
    "inputs": 20_000,
    "restarts": 500,
    "week": 8_000,
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
    given = {name: count for name in DEFAULTS if (count := getattr(options, name)) is not None} or DEFAULTS
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
    parser.add_argument("--kills", type=_count, metavar="N", help="kill -9 of exports (default 200)")
    parser.add_argument("--object-kills", type=_count, metavar="N", help="kill -9 of exports in a store (default 200)")
    parser.add_argument("--sizes", type=_count, metavar="N", help="full disks per exporter (default 20)")
    parser.add_argument("--truncations", type=_count, metavar="N", help="shortened files (default 500)")
    parser.add_argument("--flips", type=_count, metavar="N", help="turned bits (default 500)")
    parser.add_argument("--seconds", type=_count, metavar="N", help="of readers under a writer (default 60)")
    parser.add_argument("--disconnects", type=_count, metavar="N", help="of a live stream (default 1000)")
    parser.add_argument("--session-seconds", type=_count, metavar="N", help="of threads on one session (default 60)")
    parser.add_argument("--inputs", type=_count, metavar="N", help="mutated input files per format (default 20000)")
    parser.add_argument("--restarts", type=_count, metavar="N", help="histories of a live session (default 500)")
    parser.add_argument("--week", type=_count, metavar="SYMBOLS", help="of a market followed for a week (default 8000)")
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
