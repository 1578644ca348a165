"""How long `engine live` takes to end after a signal while its source blocks for good: `python -m tests.soak.stops`.

The processes are those of `tests/runtime/test_live_signals.py`; the time is that from the signal to the end of the process.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.runtime import blocking_source
from tests.runtime.live_world import is_up, until
from tests.runtime.test_live_signals import SESSION, FullListener, alpaca, exported, running, with_path
from tests.sources.streams.hostile_vendor import WAYS, HostileServer, says, silent, whole


class Stopped(NamedTuple):
    """Time and processor time from a signal to the end of the process, its exit code and the bars that it exported."""

    seconds: float
    processor_seconds: float
    exit_code: int
    bars: int


METHODS = ("open", "subscribe", "fetch", "wait", "take", "status", "retry", "close")
BEGUN_SECONDS = 8.0  # after which a process without another sign is in its call
BUSY = says(whole(b"{}", status="503 Busy"))


def stop_plugin(folder: Path, name: str, how: signal.Signals) -> Stopped:
    """Stop of a plug-in source that blocks in a method."""
    blocking_source.install(folder)
    (folder / "live.toml").write_text(SESSION + '[source]\nkind = "blocking"\n')
    with running(folder, BLOCKS_IN=name, PYTHONPATH=with_path(folder)) as process:
        blocked = (folder / f"{name}.blocked").exists
        until(lambda: exported(folder).height > 0 if name == "close" else blocked(), name)
        return timed(process, how, folder)


def stop_alpaca(folder: Path, name: str, how: signal.Signals) -> Stopped:
    """Stop of an Alpaca that connects to nothing, receives nothing, follows pages without end, or waits."""
    way, backoff = {"busy": (BUSY, "[3600, 3600]")}.get(name, (WAYS.get(name, (silent, ""))[0], "[0.01, 0.05]"))
    with FullListener() as full, HostileServer(way) as rest, HostileServer(silent) as stream:
        addresses = (f"ws://{full}", f"http://{full}") if name == "connect" else (stream.stream_url, rest.url)
        begun = time.monotonic()
        with running(folder, **alpaca(folder, *addresses, backoff)) as process:
            until(lambda: is_up(process) and (rest.connections > 0 or time.monotonic() - begun > BEGUN_SECONDS), name)
            time.sleep(1)
            return timed(process, how, folder)


def timed(process: subprocess.Popen[str], how: signal.Signals, folder: Path) -> Stopped:
    """Send the signal, wait for the end of the process, and read its export."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    used = sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    others, begun = children_seconds(), time.monotonic()
    process.send_signal(how)
    process.communicate(timeout=300)
    seconds, of_process = time.monotonic() - begun, children_seconds() - others
    return Stopped(seconds, of_process - used, process.returncode, exported(folder).height)


def children_seconds() -> float:
    """Processor time of all processes of this one that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print a row per blocked call."""
    print("| blocked in | signal | seconds | of the processor | exit code | bars exported |")
    print("| --- | --- | --- | --- | --- | --- |")
    cases = [(stop_plugin, name) for name in METHODS]
    cases += [(stop_alpaca, name) for name in ("connect", "silent", "drip", "endless_pages", "busy")]
    for number, (stop, name) in enumerate(cases):
        how = (signal.SIGTERM, signal.SIGINT)[number % 2]
        with tempfile.TemporaryDirectory() as folder:
            ended = stop(Path(folder), name, how)
        row = (name, how.name, f"{ended.seconds:.1f}", f"{ended.processor_seconds:.2f}", ended.exit_code, ended.bars)
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
