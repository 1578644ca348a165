"""A growing directory: complete files only, each once, in order, and nothing stops the stream."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import shutil
import zipfile

import polars as pl
import pytest
from engine.clock import ManualClock
from engine.errors import ParameterError, StreamError
from engine.grid import GridSpec
from engine.interval import Interval
from engine.sources import archive
from engine.sources.options import ReadOptions
from engine.sources.streams.contract import HistoryRequest, Subscription
from engine.sources.streams.folder import FILES_PER_TAKE, FolderStream

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
MINUTE = Interval(1, "m")
SUBSCRIPTIONS = [Subscription("AAPL", "bars", MINUTE), Subscription("MSFT", "bars", MINUTE)]


def bars(first, count=1, close=10.5):
    stamps = [OPEN + dt.timedelta(minutes=first + n) for n in range(count)]
    return pl.DataFrame(
        {"ts": [f"{ts:%Y-%m-%dT%H:%M:%SZ}" for ts in stamps], "open": 10.0, "high": 11.0, "low": 9.0, "close": close}
    )


class Scene:
    """A directory, a stream of it and a clock that is moved by hand."""

    def __init__(self, folder, **options):
        self.folder = folder
        self.clock = ManualClock(dt.datetime.now(dt.UTC))
        self.stream = FolderStream(folder, clock=self.clock, poll_seconds=0, sleep=self.sleep, **options)
        self.slept = 0.0
        self.rejects = []

    def sleep(self, seconds):
        self.slept += seconds
        self.pass_by(seconds)

    def pass_by(self, seconds):
        self.clock.set(self.clock.now() + dt.timedelta(seconds=seconds))

    def drop(self, name, rows=None, text=None):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if text is not None else rows.write_csv())
        self.stamp(path)
        return path

    def stamp(self, path):
        now = self.clock.now().timestamp()
        os.utime(path, (now, now))

    def take(self):
        deliveries = self.stream.take(self.clock.now())
        self.rejects += [row for one in deliveries for row in one.rejects.iter_rows(named=True)]
        return [
            (symbol, round((ts - OPEN).total_seconds() / 60))
            for one in deliveries
            for frame in one.frames
            for symbol, ts in frame.select("symbol", "ts").iter_rows()
        ]

    def settled(self):
        """What is taken once all has stood still."""
        at_once = self.take()
        self.pass_by(3)
        return at_once + self.take()


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path / "drops" if (tmp_path / "drops").mkdir() is None else tmp_path)
    made.stream.subscribe(SUBSCRIPTIONS)
    yield made
    made.stream.close()


def test_take_file_waits_until_it_has_stood_still(scene):
    scene.drop("AAPL_1m.csv", bars(0, 2))
    assert scene.take() == []
    scene.pass_by(1.9)
    assert scene.take() == []
    scene.pass_by(0.2)
    assert scene.take() == [("AAPL", 0), ("AAPL", 1)]
    scene.pass_by(100)
    assert scene.take() == []
    assert (scene.stream.status().delivered, scene.stream.status().error) == (2, "")


def test_take_file_that_grows_waits_for_its_last_change(scene):
    path = scene.drop("AAPL_1m.csv", bars(0))
    for n in range(1, 5):
        assert scene.take() == []
        scene.pass_by(1.5)
        path.write_text(bars(0, n + 1).write_csv())
        scene.stamp(path)
    assert scene.settled() == [("AAPL", n) for n in range(5)]


def test_take_file_that_is_old_at_first_sight_is_complete(scene):
    path = scene.drop("AAPL_1m.csv", bars(0))
    os.utime(path, (scene.clock.now().timestamp() - 10,) * 2)
    assert scene.take() == [("AAPL", 0)]


@pytest.mark.parametrize(
    "name",
    [
        "AAPL_1m.csv.tmp",
        "AAPL_1m.csv.part",
        "AAPL_1m.csv.partial",
        ".AAPL_1m.csv",
        "_AAPL_1m.csv",
        "_work/AAPL_1m.csv",
        ".hidden/x/AAPL_1m.csv",
    ],
)
def test_take_work_in_progress_is_left_alone_until_renamed(scene, name):
    path = scene.drop(name, bars(0))
    assert scene.settled() == []
    path.rename(scene.folder / "AAPL_1m.csv")
    assert scene.settled() == [("AAPL", 0)]


def test_take_file_renamed_into_place_is_complete_at_once(scene):
    path = scene.drop("AAPL_1m.csv.tmp", bars(0))
    assert scene.take() == []
    path.rename(scene.folder / "AAPL_1m.csv")
    assert scene.take() == [("AAPL", 0)]


def test_take_empty_file_waits_for_its_bytes(scene):
    path = scene.drop("AAPL_1m.csv", text="")
    assert scene.settled() == []
    path.write_text(bars(0).write_csv())
    scene.stamp(path)
    assert scene.settled() == [("AAPL", 0)]
    assert scene.rejects == []


@pytest.mark.parametrize(
    "name", ["AAPL_1m.csv", "AAPL_1m.csv.gz", "AAPL_1m.parquet", "AAPL_1m.ndjson", "deep/er/AAPL_1m.jsonl"]
)
def test_take_reads_every_format_in_every_folder(scene, name):
    path = scene.drop(name, text="x")
    rows = bars(0, 3)
    if name.endswith("parquet"):
        rows.write_parquet(path)
    elif name.endswith("gz"):
        path.write_bytes(gzip.compress(rows.write_csv().encode()))
    else:
        path.write_text(rows.write_csv() if name.endswith("csv") else rows.write_ndjson())
    scene.stamp(path)
    assert scene.settled() == [("AAPL", 0), ("AAPL", 1), ("AAPL", 2)]


def test_take_same_content_again_reads_it_once(scene):
    path = scene.drop("one/AAPL_1m.csv", bars(0))
    assert scene.settled() == [("AAPL", 0)]
    shutil.copy(path, scene.folder / "AAPL_1m.csv")
    shutil.copy(path, scene.folder / "MSFT_1m.csv")  # the same bytes, of another symbol
    path.rename(scene.folder / "AAPL_1m_2024-01-02.csv")
    assert scene.settled() == [("MSFT", 0)]
    assert scene.rejects == []


def test_take_files_in_the_order_of_their_last_change_so_that_a_correction_comes_later(scene):
    late = scene.drop("a/AAPL_1m.csv", bars(0, close=10.9))
    early = scene.drop("b/AAPL_1m.csv", bars(0, close=10.1))
    now = scene.clock.now().timestamp()
    os.utime(early, (now - 20, now - 20))
    os.utime(late, (now - 10, now - 10))
    closes = [frame["close"].to_list() for one in scene.stream.take(OPEN) for frame in one.frames]
    assert closes == [[10.1], [10.9]]


def test_take_file_that_grows_after_it_was_read_is_said_and_not_taken(scene):
    path = scene.drop("AAPL_1m.csv", bars(0))
    assert scene.settled() == [("AAPL", 0)]
    with path.open("a") as file:
        file.write(bars(1).write_csv(include_header=False))
    assert scene.settled() == []
    assert scene.settled() == []
    assert "has changed after it was read" in scene.stream.status().error
    assert [(row["source"], row["reason"][:30]) for row in scene.rejects] == [
        (str(path), "has changed after it was read ")
    ]
    scene.drop("MSFT_1m.csv", bars(0))
    assert scene.settled() == [("MSFT", 0)]


def test_take_file_that_was_only_touched_is_no_change(scene):
    path = scene.drop("AAPL_1m.csv", bars(0))
    scene.settled()
    scene.pass_by(50)
    scene.stamp(path)
    assert scene.settled() == []
    assert (scene.stream.status().error, scene.rejects) == ("", [])


def test_take_new_file_in_place_of_one_that_was_read_is_read(scene):
    scene.drop("AAPL_1m.csv", bars(0))
    scene.settled()
    scene.drop("AAPL_1m.csv.tmp", bars(0, 2)).replace(scene.folder / "AAPL_1m.csv")
    assert scene.settled() == [("AAPL", 0), ("AAPL", 1)]
    assert scene.rejects == []


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("AAPL_1m.parquet", b"PAR1 and nothing more", "no Parquet file"),
        ("AAPL_1m.csv", b"a,b\n1,2\n", "are no bars"),
        ("AAPL_1m.csv.gz", b"\x1f\x8b\x08 broken", "cannot be unpacked"),
        ("AAPL_1m.csv", b"\x00\x01\x02", "is binary"),
        ("AAPL_1m.zip", b"PK\x03\x04 broken", "zip"),
    ],
)
def test_take_file_that_cannot_be_read_is_said_and_others_are_read(scene, name, data, reason):
    path = scene.drop(name, text="x")
    path.write_bytes(data)
    scene.stamp(path)
    scene.drop("MSFT_1m.csv", bars(0))
    assert scene.settled() == [("MSFT", 0)]
    ((source, said),) = [(row["source"], row["reason"]) for row in scene.rejects]
    assert source == str(path)
    assert reason in said
    assert reason in scene.stream.status().error
    assert scene.settled() == []
    assert len(scene.rejects) == 1


@pytest.mark.parametrize("text", ["ts,open,high,low,close\n", "nonsense\n"])
def test_take_file_without_a_row_is_read_again_when_it_changes(scene, text):
    path = scene.drop("AAPL_1m.csv", text=text)
    assert scene.settled() == []
    path.write_text(bars(0).write_csv())
    assert scene.settled() == [("AAPL", 0)]


def test_take_file_that_changes_while_it_is_read_is_read_when_it_is_complete(scene, monkeypatch):
    path = scene.drop("AAPL_1m.csv", bars(0))
    hash_of = archive.sha256

    def grow(of):
        monkeypatch.setattr(archive, "sha256", hash_of)
        path.write_text(bars(0, 3).write_csv())
        return hash_of(of)

    monkeypatch.setattr(archive, "sha256", grow)
    scene.take()
    scene.pass_by(3)
    assert scene.take() == []
    scene.pass_by(3)
    assert scene.take() == [("AAPL", 0), ("AAPL", 1), ("AAPL", 2)]
    assert scene.rejects == []


def test_take_file_that_vanishes_before_it_is_read_is_said(scene):
    path = scene.drop("AAPL_1m.csv", bars(0))
    scene.take()
    scene.pass_by(3)
    assert scene.stream.wait(0)
    path.unlink()
    assert scene.take() == []
    assert "No such file" in scene.rejects[0]["reason"]


def test_take_bad_rows_are_rejected_with_file_and_line(scene):
    path = scene.drop("AAPL_1m.csv", text=bars(0, 2).write_csv() + "2024-01-02T14:32:00Z,10,9,11,10\n")
    assert scene.settled() == [("AAPL", 0), ("AAPL", 1)]
    ((source, row, reason),) = [(r["source"], r["row"], r["reason"]) for r in scene.rejects]
    assert (source, row) == (str(path), 4)
    assert "high below low" in reason


@pytest.mark.parametrize("name", ["README.txt", "notes.log", "map_files/aapl.csv"])
def test_take_what_is_no_data_is_passed_over(scene, name):
    scene.drop(name, text="hello\n")
    assert scene.settled() == []
    assert (scene.rejects, scene.stream.status().error) == ([], "")


def test_take_rows_that_nobody_wants_are_left_out_and_counted(scene):
    scene.drop("AAPL_5m.csv", bars(0, 2))
    scene.drop("IBM_1m.csv", bars(0, 3))
    scene.drop("MSFT_1m.csv", bars(0))
    assert scene.settled() == [("MSFT", 0)]
    assert scene.stream.left_out == 5
    scene.stream.unsubscribe("MSFT")
    scene.drop("b/MSFT_1m.csv", bars(1))
    assert scene.settled() == []


def test_take_few_bars_have_the_interval_that_is_wanted(scene):
    scene.drop("AAPL.csv", pl.concat([bars(0), bars(5), bars(10)]))
    assert scene.settled() == [("AAPL", 0), ("AAPL", 5), ("AAPL", 10)]


def test_take_many_files_come_a_few_at_a_time(scene):
    for n in range(FILES_PER_TAKE + 5):
        scene.drop(f"{n}/AAPL_1m.csv", bars(n))
    assert len(scene.settled()) == FILES_PER_TAKE
    assert scene.stream.status().waiting == 5
    assert len(scene.take()) == 5


def test_wait_looks_again_until_a_file_is_complete(scene):
    scene.drop("AAPL_1m.csv", bars(0))
    assert scene.stream.wait(60)
    assert 2 <= scene.slept < 3
    assert scene.stream.status().waiting == 1
    assert scene.take() == [("AAPL", 0)]
    assert not scene.stream.wait(1)
    assert 2.9 < scene.slept < 4.5


def test_fetch_reads_complete_files_again_and_keeps_what_was_asked_for(scene):
    scene.drop("AAPL_1m.csv", bars(0, 5))
    scene.drop("IBM_1m.csv", bars(0, 5))
    assert len(scene.settled()) == 5
    scene.drop("b/IBM_1m.csv", bars(5, 5))
    got = scene.stream.fetch(
        [HistoryRequest("IBM", "bars", MINUTE, OPEN + dt.timedelta(minutes=3), OPEN + dt.timedelta(minutes=6))]
    )
    assert [ts.minute for one in got for frame in one.frames for ts in frame["ts"]] == [33, 34]
    scene.pass_by(3)
    got = scene.stream.fetch(
        [HistoryRequest("IBM", "bars", MINUTE, OPEN + dt.timedelta(minutes=3), OPEN + dt.timedelta(minutes=6))]
    )
    assert [ts.minute for one in got for frame in one.frames for ts in frame["ts"]] == [33, 34, 35]
    assert scene.stream.fetch([HistoryRequest("IBM", "quotes", None, OPEN, OPEN + dt.timedelta(days=1))]) == []


HOUR, DAY = Interval(1, "h"), Interval(1, "d")
XNYS = GridSpec("XNYS")
LAST_OF_HOURS = [OPEN + dt.timedelta(minutes=m, microseconds=-1000) for m in (60, 120, 390)]  # the last is half an hour


def stamped(*stamps):
    text = [f"{ts:%Y-%m-%dT%H:%M:%S.%fZ}" for ts in stamps]
    return pl.DataFrame({"ts": text, "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0})


def fetched(scene, interval, start, end, spec=XNYS):
    got = scene.stream.fetch([HistoryRequest("IBM", "bars", interval, start, end, spec)])
    return [ts for one in got for frame in one.frames for ts in frame["ts"]]


@pytest.mark.parametrize("was_taken", [False, True])
@pytest.mark.parametrize("hour", range(3))
@pytest.mark.parametrize(("stamp", "add"), [("end", dt.timedelta(milliseconds=1)), ("end-inclusive", dt.timedelta())])
def test_fetch_bars_stamped_at_their_end_are_those_of_the_slot(tmp_path, stamp, add, hour, was_taken):
    scene = Scene(tmp_path, options=ReadOptions(stamp=stamp))
    stamps = [ts + add for ts in LAST_OF_HOURS]
    scene.drop("IBM_1h.csv", stamped(*stamps))
    scene.pass_by(10)
    if was_taken:
        scene.settled()
    start = [OPEN, OPEN + dt.timedelta(hours=1), OPEN + dt.timedelta(hours=6)][hour]
    end = [OPEN + dt.timedelta(hours=1), OPEN + dt.timedelta(hours=2), OPEN + dt.timedelta(hours=6.5)][hour]
    assert fetched(scene, HOUR, start, end) == [stamps[hour]]
    assert fetched(scene, HOUR, OPEN + dt.timedelta(hours=5), OPEN + dt.timedelta(hours=6)) == []


def test_fetch_without_an_axis_end_inclusive_hours_are_those_of_the_clock(tmp_path):
    scene = Scene(tmp_path, options=ReadOptions(stamp="end-inclusive"))
    nine = dt.datetime(2024, 1, 2, 9, tzinfo=dt.UTC)
    ends = [nine + dt.timedelta(hours=h, milliseconds=-1) for h in (1, 2)]
    scene.drop("IBM_1h.csv", stamped(*ends))
    scene.pass_by(10)
    (got,) = scene.stream.fetch([HistoryRequest("IBM", "bars", HOUR, nine, nine + dt.timedelta(hours=1))])
    assert got.frames[0]["ts"].to_list() == ends[:1]


@pytest.mark.parametrize("was_taken", [False, True])
def test_fetch_daily_bars_stamped_with_their_date_are_those_of_the_session(scene, was_taken):
    dates = [dt.datetime(2024, 1, day, tzinfo=dt.UTC) for day in (2, 3)]
    scene.drop("IBM_1d.csv", stamped(*dates))
    scene.pass_by(10)
    if was_taken:
        scene.settled()
    assert fetched(scene, DAY, OPEN, OPEN + dt.timedelta(hours=6.5)) == dates[:1]


def test_offers_what_names_tell_and_else_what_is_expected(tmp_path):
    scene = Scene(tmp_path, expects=[("bars", "1m"), ("quotes", None)])
    scene.drop("AAPL_5m.csv", bars(0))
    scene.drop("MSFT.csv", bars(0))
    scene.drop("IBM_1h.csv.tmp", bars(0))
    expected = {("bars", MINUTE), ("quotes", None)}
    assert scene.stream.available(["AAPL", "MSFT", "IBM"]) == {
        "AAPL": {("bars", Interval(5, "m"))},
        "MSFT": expected,
        "IBM": expected,
    }


def test_status_lag_tells_how_far_the_last_bar_is_behind(scene):
    scene.drop("AAPL_1m.csv", bars(0))
    assert scene.stream.status().lag_seconds is None
    scene.settled()
    lag = (scene.clock.now() - OPEN).total_seconds() - 60
    assert scene.stream.status().lag_seconds == pytest.approx(lag)


def test_close_ends_the_stream(scene):
    scene.drop("AAPL_1m.csv", bars(0))
    scene.take()
    scene.stream.close()
    scene.stream.close()
    scene.pass_by(10)
    assert scene.take() == []
    assert not scene.stream.wait(5)
    assert scene.stream.status().exhausted
    with pytest.raises(StreamError, match="make a new one"):
        scene.stream.subscribe(SUBSCRIPTIONS)


def test_folder_that_is_gone_is_said_and_may_come_back(scene):
    scene.folder.rmdir()
    assert scene.take() == []
    assert "cannot be listed" in scene.stream.status().error
    assert not scene.stream.status().connected
    scene.drop("AAPL_1m.csv", bars(0))
    assert scene.settled() == [("AAPL", 0)]


def test_options_are_those_of_the_readers(tmp_path):
    scene = Scene(tmp_path, options=ReadOptions(timezone="America/New_York", stamp="end", symbol="AAPL"))
    scene.stream.subscribe(SUBSCRIPTIONS)
    scene.drop("x.csv", text="ts,open,high,low,close\n2024-01-02 09:31:00,1,1,1,1\n")
    scene.take()
    scene.pass_by(3)
    (got,) = scene.stream.take(OPEN)
    assert (got.stamp, got.frames[0]["ts"][0], got.frames[0]["source"][0]) == (
        "end",
        OPEN + dt.timedelta(minutes=1),
        str(tmp_path / "x.csv"),
    )


@pytest.mark.parametrize(
    ("options", "name"), [({"settle_seconds": -1}, "settle_seconds"), ({"poll_seconds": -1}, "poll_seconds")]
)
def test_folder_with_options_that_are_not_valid_names_them(tmp_path, options, name):
    with pytest.raises(ParameterError, match=f"{name}: received -1"):
        FolderStream(tmp_path, **options)


def test_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="folder: received"):
        FolderStream(tmp_path / "none")


def test_take_zip_with_a_member_that_cannot_be_read_says_so_and_delivers_the_others(scene):
    path = scene.drop("many.zip", text="x")
    with zipfile.ZipFile(path, "w") as archived:
        archived.writestr("AAPL_1m.csv", bars(0).write_csv())
        archived.writestr("MSFT_1m.csv", bytes(5000))
    scene.stamp(path)
    assert scene.settled() == [("AAPL", 0)]
    assert [row["reason"] for row in scene.rejects] == [
        f"{path}!MSFT_1m.csv: is filled with zeros, most likely a copy that was not finished; fetch the file again"
    ]


def test_take_passes_by_pipes_and_links_in_a_circle(scene):
    (scene.folder / "A.csv").symlink_to(scene.folder / "A.csv")
    os.mkfifo(scene.folder / "B.csv")
    scene.drop("AAPL_1m.csv", bars(0))
    assert scene.settled() == [("AAPL", 0)]
    assert scene.rejects == []


def test_fetch_over_bars_that_do_not_tell_their_interval_reports_them_no_second_time(scene):
    scene.drop("IBM.csv", bars(0))
    scene.settled()
    assert len(scene.rejects) == 1
    request = HistoryRequest("IBM", "bars", MINUTE, OPEN, OPEN + dt.timedelta(hours=1))
    assert [scene.stream.fetch([request]) for _ in range(2)] == [[], []]
    assert (scene.take(), len(scene.rejects)) == ([], 1)
