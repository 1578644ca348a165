"""A directory as a live source: each new complete file is read once, and its rows are delivered.

1. `_poll` lists the directory. A file is complete when its size and time of change have stood still for
   `settle_seconds`, or when it was renamed from a name of work in progress (`.tmp`, `.part`, `.partial`, or beginning
   with `.` or `_`).
2. `take` reads complete files, the oldest first, a few at a time: the directory is the queue, and nothing is dropped.
3. What cannot be read is reported and rejected, and so is a file that changes after it was read; the stream goes on.

No thread: whoever calls `take` or `wait` does the work.
"""

from __future__ import annotations

import datetime as dt
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from engine.calendars.providers import calendar
from engine.clock import Clock, WallClock
from engine.errors import ParameterError, SourceError, StreamError
from engine.grid import GridSpec
from engine.interval import Interval
from engine.schema import TS, Kind
from engine.sources import archive
from engine.sources.batch import Batch, SourceFile
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import non_data_reason, scan
from engine.sources.streams.contract import Delivery, HistoryRequest, Resolution, StreamStatus, Subscription
from engine.sources.streams.receive_queue import rejected_line
from engine.sources.streams.subscriptions import (
    SubscriptionFilter,
    available_per_symbol,
    delivery_of_batch,
    lag_seconds,
    parse_resolutions,
)
from engine.store.placement import axis_around

UNFINISHED_SUFFIXES = (".tmp", ".part", ".partial")
UNFINISHED_PREFIXES = (".", "_")
FILES_PER_TAKE = 64
A_DAY_NS = 86_400_000_000_000
STEP_SECONDS = 0.05


class FileState(NamedTuple):
    """Size, time of change and inode of a file, and since when they are unchanged."""

    size: int
    changed_ns: int
    inode: int
    since: dt.datetime

    def is_as(self, other: FileState | None) -> bool:
        """Whether the other state exists and has equal size, time of change and inode; `since` is ignored."""
        return other is not None and self[:3] == other[:3]


class BatchSummary(NamedTuple):
    """Kind, symbols and time range of a file, so that `fetch` skips files without requested rows."""

    kind: Kind
    symbols: frozenset[str]
    first: dt.datetime
    last: dt.datetime


class FolderStream:
    """A `Stream` of the files that appear in a directory.

    Parameters
    ----------
    folder : Path or str
        Watched with all folders in it; it must exist.
    options : ReadOptions, optional
        How files are read, as for `engine run`.
    settle_seconds : float
        How long a file must stand still to count as complete.
    poll_seconds : float
        How often the directory is listed.
    expects : sequence of (kind, interval)
        What symbols are offered with of which no file tells more.
    clock : Clock, optional
    sleep : callable, optional
        How `wait` spends its time.
    """

    def __init__(
        self,
        folder: Path | str,
        options: ReadOptions | None = None,
        *,
        settle_seconds: float = 2.0,
        poll_seconds: float = 1.0,
        expects: Sequence[tuple[str, Interval | str | None]] = (("bars", "1m"),),
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise ParameterError(f"folder: received {folder}; valid: a directory that exists")
        for name, value in (("settle_seconds", settle_seconds), ("poll_seconds", poll_seconds)):
            if value < 0:
                raise ParameterError(f"{name}: received {value}; valid: 0 or more")
        self._options = options or ReadOptions()
        self._settle = dt.timedelta(seconds=settle_seconds)
        self._pause = dt.timedelta(seconds=poll_seconds)
        self._expects = parse_resolutions(expects)
        self._clock = clock or WallClock()
        self._sleep = sleep
        self._lock = threading.RLock()  # `fetch` may come from another thread
        self._filter = SubscriptionFilter()
        self._next_poll: dt.datetime | None = None
        self._growing: dict[Path, FileState] = {}
        self._unfinished: set[int] = set()  # inodes of work in progress, as of the last look
        self._ready: dict[Path, FileState] = {}
        self._done: dict[Path, tuple[FileState, str]] = {}
        self._contents: set[str] = set()
        self._delivered_before_ns = 0
        self._summaries: dict[Path, list[BatchSummary]] = {}
        self._reports: list[Delivery] = []
        self._closed = False
        self._delivered = 0
        self._lag: float | None = None
        self._error = ""
        self.left_out = 0
        """Rows of symbols, kinds or intervals that were not wanted when their file was taken."""

    def available(self, symbols: Sequence[str]) -> Mapping[str, frozenset[Resolution]]:
        """Each given symbol -> (kind, interval) that names of files now in the folder state for it; else `expects`."""
        found: dict[str, frozenset[Resolution]] = {}
        listed = [path for path, stat in self._list_files() if stat.st_size and is_finished_data(path)]
        files, _ = scan(listed, self._options)
        for file in files:
            if file.symbol is not None:
                of = {(file.kind or "bars", file.interval)} if file.kind or file.interval else self._expects
                found[file.symbol] = found.get(file.symbol, frozenset()) | of
        return available_per_symbol(symbols, found, self._expects)

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Add to the subscriptions; they apply to files taken from now on; StreamError once closed.

        Raises
        ------
        StreamError
            The stream was closed.
        """
        if self._closed:
            raise StreamError(f"{self._folder}: the stream was closed; make a new one")
        with self._lock:
            self._filter.add(subscriptions)

    def unsubscribe(self, symbol: str) -> None:
        """Remove every subscription of a symbol; its rows taken later are dropped into `left_out`."""
        with self._lock:
            self._filter.remove(symbol)

    def skip_delivered(self, before: dt.datetime) -> None:
        """Leave files that came to the folder before an instant to `fetch`: `take` gave them to an earlier process.

        What counts is when the file's entry last changed (`st_ctime`), which copies and renames do not carry along; files of
        the last moments before, which may not have been complete then, are delivered.
        """
        with self._lock:
            self._delivered_before_ns = int((before - self._settle - self._pause).timestamp() * 1e9)

    def next_at(self) -> dt.datetime | None:
        """Always None: when the next file comes is unknown before polling."""
        return None

    def take(self, until: dt.datetime) -> list[Delivery]:
        """Read up to 64 complete files, oldest first; return subscribed rows and rejects; `until` is ignored."""
        del until
        with self._lock:
            self._poll()
            made: list[Delivery] = []
            for path, _ in sorted(self._ready.items(), key=by_age)[:FILES_PER_TAKE]:
                for delivery in self._read_complete(path):
                    selected, dropped = self._filter.select(delivery)
                    self.left_out += dropped
                    made.append(selected)
            made += self._reports
            self._reports = []
            self._delivered += sum(one.height for one in made)
            lag = lag_seconds(self._clock.now(), made)
            self._lag = self._lag if lag is None else lag
            return [one for one in made if one.frames or one.rejects.height]

    def wait(self, seconds: float) -> bool:
        """Poll until a complete file or a report is there, closed, or `seconds` have passed; return whether one is."""
        left = seconds
        while not self._has_items():
            if left <= 0 or self._closed:
                return False
            self._sleep(min(STEP_SECONDS, left))
            left -= STEP_SECONDS
        return True

    def fetch(self, requests: Sequence[HistoryRequest]) -> list[Delivery]:
        """Requested rows of all complete files, taken or not, oldest first; unreadable files are skipped."""
        with self._lock:
            self._poll()
            looks = {**{path: look for path, (look, _) in self._done.items()}, **self._ready}
        made: list[Delivery] = []
        # A file that was last changed before a range began has no row of it; a day more, as stamps may be dates.
        earliest = min((request.start for request in requests), default=self._clock.now()).timestamp() * 1e9 - A_DAY_NS
        for path, look in sorted(looks.items(), key=by_age):
            if look.changed_ns >= earliest and self._may_hold(path, requests):
                made += [part for one in self._read_again(path) if (part := select_requested(one, requests)).frames]
        return made

    def status(self) -> StreamStatus:
        """Connected while open and the folder exists, exhausted once closed; rows delivered, FILES waiting, lag."""
        with self._lock:
            return StreamStatus(
                connected=not self._closed and self._folder.is_dir(),
                exhausted=self._closed,
                delivered=self._delivered,
                waiting=len(self._ready),
                lag_seconds=self._lag,
                error=self._error,
            )

    def close(self) -> None:
        """Stop polling and forget files that were not taken, which stay in the folder for another stream."""
        with self._lock:
            self._closed = True
            self._ready, self._growing = {}, {}

    def _has_items(self) -> bool:
        """Poll the folder, then return whether a complete file or a report can be taken."""
        with self._lock:
            self._poll()
            return bool(self._ready or self._reports)

    def _poll(self) -> None:
        """Once per `poll_seconds`, while open: list the folder, sort data into growing and complete (lock held)."""
        now = self._clock.now()
        if self._closed or (self._next_poll is not None and now < self._next_poll):
            return
        self._next_poll = now + self._pause
        unfinished: set[int] = set()
        listed: dict[Path, FileState] = {}
        for path, stat in self._list_files():
            if is_unfinished(path):
                unfinished.add(stat.st_ino)
            elif stat.st_size and is_finished_data(path):
                listed[path] = FileState(stat.st_size, stat.st_mtime_ns, stat.st_ino, now)
                if path not in self._done and stat.st_ctime_ns < self._delivered_before_ns:
                    self._done[path] = (listed[path], "")
        for path, look in listed.items():
            self._observe(path, look)
        self._growing = {path: look for path, look in self._growing.items() if path in listed}
        self._unfinished = unfinished

    def _list_files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the folder's files, recursively, with stat; an OSError ends it and becomes the error."""
        try:
            yield from walk_with_stat(self._folder)
        except OSError as error:
            self._error = f"{self._folder}: cannot be listed: {error.strerror or error}"

    def _observe(self, path: Path, look: FileState) -> None:
        """Mark an unread file complete if still for `settle_seconds` or renamed when finished, else growing."""
        if look.is_as(self._ready.get(path)):
            return
        self._ready.pop(path, None)  # it goes on growing
        if path in self._done and not self._must_read_again(path, look):
            return
        before = self._growing.pop(path, None)
        since = before.since if before is not None and look.is_as(before) else look.since
        changed = dt.datetime.fromtimestamp(look.changed_ns / 1e9, dt.UTC)
        was_old = before is None and look.since - changed >= self._settle
        if was_old or look.since - since >= self._settle or look.inode in self._unfinished:
            self._ready[path] = look
        else:
            self._growing[path] = look._replace(since=since)

    def _must_read_again(self, path: Path, look: FileState) -> bool:
        """Whether a file of `_done` has a new inode or was unreadable; one changed in place is reported (at once)."""
        before, digest = self._done[path]
        if look.is_as(before):
            return False
        if look.inode != before.inode or not digest:
            return True  # also one that could not be read: nothing was taken of it
        self._done[path] = (look, digest)
        if digest_or_empty(path) != digest:
            self._summaries.pop(path, None)
            self._report(
                path,
                f"has changed after it was read ({before.size:,} -> {look.size:,} bytes); what is new in it is not "
                "taken: drop a new file",
            )
        return False

    def _read_complete(self, path: Path) -> list[Delivery]:
        """Deliveries of unseen batches of a file of `_ready` (taken out); [] if it still grows or fails (reported)."""
        look = self._ready.pop(path)
        try:
            digest = archive.sha256(path)
            batches = list(self._read(path))
        except Exception as error:  # noqa: BLE001 - no file ends the stream
            if not self._goes_on_growing(path, look):
                self._done[path] = (look, "")
                self._report(
                    path, error.reason if isinstance(error, SourceError) else f"{type(error).__name__}: {error}"
                )
            return []
        if self._goes_on_growing(path, look):
            return []
        for problem in (problem for _, batch in batches for problem in batch.problems):
            self._report(path, f"{problem.path}: {problem.reason}")
        has_rows = any(batch.frame.height or batch.rejects.height for _, batch in batches)
        self._done[path] = (look, digest if has_rows else "")
        return [self._to_delivery(file, batch) for file, batch in batches if self._is_new(batch)]

    def _goes_on_growing(self, path: Path, look: FileState) -> bool:
        """Whether a file differs from `look`, which makes it growing again; False if deleted."""
        try:
            stat = path.stat()
        except OSError:
            return False  # it is gone, and so is what it had
        now = FileState(stat.st_size, stat.st_mtime_ns, stat.st_ino, self._clock.now())
        if not now.is_as(look):
            self._growing[path] = now
        return not now.is_as(look)

    def _is_new(self, batch: Batch) -> bool:
        """Whether a batch's content mark was not seen before; records the mark, so a second call returns False."""
        is_new = batch.content_mark not in self._contents
        self._contents.add(batch.content_mark)
        return is_new

    def _read(self, path: Path) -> Iterator[tuple[SourceFile, Batch]]:
        """Yield (file, batch) of a file, storing summaries of its batches; SourceError if it is unusable."""
        files, problems = scan([path], self._options)
        for problem in problems:
            if not problem.ignored:
                raise SourceError(path, problem.reason)
        for file in files:
            batches = read(file, self._options)
            self._summaries[path] = [summarize_batch(batch) for batch in batches if batch.frame.height]
            yield from ((file, batch) for batch in batches)

    def _to_delivery(self, file: SourceFile, batch: Batch) -> Delivery:
        """The batch as a Delivery; bars of unknown interval are delivered too, and reported (error and a reject)."""
        interval = self._interval_of(file, batch)
        if batch.kind == "bars" and batch.frame.height and interval is None:
            count = batch.frame.height
            self._report(file.path, f"{count} bars do not tell their interval; name it in the file's name or as option")
        return delivery_of_batch(batch, interval)

    def _interval_of(self, file: SourceFile, batch: Batch) -> Interval | None:
        """Interval of bars by file name, option or rows; None of other kinds, or where nothing tells."""
        is_stated = file.interval is not None or self._options.interval is not None
        return self._filter.interval_of(batch, is_stated=is_stated) if batch.kind == "bars" else None

    def _read_again(self, path: Path) -> list[Delivery]:
        """Unfiltered deliveries of a file, read anew, reporting nothing; an empty list when reading it fails."""
        try:
            read_now = list(self._read(path))
        except Exception:  # noqa: BLE001 - as above
            return []  # `take` has said so, or will
        with self._lock:
            return [delivery_of_batch(batch, self._interval_of(file, batch)) for file, batch in read_now]

    def _may_hold(self, path: Path, requests: Sequence[HistoryRequest]) -> bool:
        """Whether a file's batch may overlap a request in kind, symbol and time (any stamp); True if not read yet."""
        known = self._summaries.get(path)
        return known is None or any(
            one.kind == request.kind
            and request.symbol in one.symbols
            and one.first - longest_shift(request.interval) <= request.end
            and one.last + longest_shift(request.interval) >= request.start
            for one in known
            for request in requests
        )

    def _report(self, path: Path, reason: str) -> None:
        """Set the status' error, and queue a delivery with one rejected line that the next `take` returns."""
        self._error = f"{path}: {reason}"
        self._reports.append(Delivery("bars", (), rejects=rejected_line(str(path), reason)))


def walk_with_stat(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield files, recursively by name, with their stat; linked and unfinished-named folders are skipped.

    What is gone by now, or is no file (a link in a circle, a folder that cannot be listed), is skipped too.
    """
    left = [folder]
    while left:
        current = left.pop()
        try:
            with os.scandir(current) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            if current == folder:
                raise
            continue
        folders = []
        for entry in inside:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith(UNFINISHED_PREFIXES):
                        folders.append(Path(entry.path))
                elif entry.is_file():
                    yield Path(entry.path), entry.stat()
            except OSError:
                continue
        left += reversed(folders)


def is_unfinished(path: Path) -> bool:
    """Whether a name marks work in progress: ends `.tmp`, `.part`, `.partial`, or begins with `.` or `_`."""
    return path.name.startswith(UNFINISHED_PREFIXES) or path.name.lower().endswith(UNFINISHED_SUFFIXES)


def is_finished_data(path: Path) -> bool:
    """Whether the name marks no work in progress and the path may be market data; nothing is opened."""
    return not is_unfinished(path) and non_data_reason(path) is None


def by_age(item: tuple[Path, FileState]) -> tuple[int, Path]:
    """Sort key: time of change (ns), then path, so that the oldest file comes first."""
    return item[1].changed_ns, item[0]


def digest_or_empty(path: Path) -> str:
    """SHA-256 of a file as hexadecimal text; an empty string when it cannot be read."""
    try:
        return archive.sha256(path)
    except SourceError:
        return ""


def summarize_batch(batch: Batch) -> BatchSummary:
    """Kind, set of symbols, and first and last stamp (UTC) of a batch that has rows."""
    first, last = batch.frame.select(pl.col("ts").cast(TS).min(), pl.col("ts").cast(TS).max().alias("last")).row(0)
    return BatchSummary(batch.kind, frozenset(batch.frame["symbol"].unique()), first, last)


def longest_shift(interval: Interval | None) -> dt.timedelta:
    """How far a bar's stamp may lie from its slot's start at most: its length, and a day more if stamps are dates."""
    if interval is None:
        return dt.timedelta()
    return dt.timedelta(seconds=interval.seconds, days=0 if interval.is_intraday else 1)


def select_requested(came: Delivery, requests: Iterable[HistoryRequest]) -> Delivery:
    """The delivery with only rows whose slot begins in `[start, end)` of a request of its kind, interval and symbol."""
    mine = [request for request in requests if (request.kind, request.interval) == (came.kind, came.interval)]
    frames = tuple(part for frame in came.frames if (part := rows_of_requests(frame, came, mine)).height)
    return replace(came, frames=frames)


def rows_of_requests(frame: pl.DataFrame, came: Delivery, requests: Sequence[HistoryRequest]) -> pl.DataFrame:
    """Rows in `[start, end)` of a request for their symbol (kind, interval unchecked): bars by their slot's start."""
    symbols = set(frame["symbol"].unique())
    mine = [request for request in requests if request.symbol in symbols]
    begins: dict[GridSpec, pl.Series] = {}
    tests = [pl.lit(value=False)]
    for request in mine:
        spec = came.spec or request.spec
        if spec not in begins:
            begins[spec] = slot_starts(frame["ts"], came, spec)
        within = pl.lit(begins[spec]).is_between(request.start, request.end, closed="left")
        tests.append((pl.col("symbol") == request.symbol) & within)
    return frame.filter(pl.any_horizontal(tests))


def slot_starts(ts: pl.Series, came: Delivery, spec: GridSpec) -> pl.Series:
    """Starts of the slots that bars are stamped for on an axis (`SessionGrid.from_stamps`); without interval: `ts`."""
    if came.interval is None:
        return ts
    return axis_around(spec, calendar(spec.calendar), ts).at(came.interval).from_stamps(ts, came.stamp)
