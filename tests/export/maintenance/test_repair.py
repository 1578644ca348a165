from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import replace

import engine
import polars as pl
import pytest
from engine.errors import ExportError
from engine.export import dataset, delta_table
from engine.export.dataset import open_dataset
from engine.export.delta import read_delta
from engine.export.difference import diff
from engine.export.formats.session_files import write_files
from engine.export.maintenance.verify import verify
from engine.export.maintenance.verify_findings import faults
from engine.export.tables import ADDED, TABLES
from engine.runtime.export_repair import repair
from engine.store.session_data import SessionData
from engine.store.snapshot import Snapshot

from tests.export.maintenance import exported
from tests.export.store_sample import bars, interest, register, spans, ticks


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return exported.written(tmp_path_factory.mktemp("kept") / "out")


@pytest.fixture
def target(source, tmp_path):
    return shutil.copytree(source, tmp_path / "out")


def put_right(target, **options):
    return repair(target, calendars=exported.CALENDARS, clock=exported.clock(9), **options)


def told(done):
    return dict(done.actions.select("file", "action").iter_rows())


def files_of(target, text):
    return [path for path in exported.pinned(target) if text in str(path.relative_to(target))]


def test_repair_whole_export_does_nothing(target):
    before = {path: path.read_bytes() for path in target.rglob("*.parquet")}
    done = put_right(target)
    assert (done.revision, done.actions.height) == (3, 0)
    assert {path: path.read_bytes() for path in target.rglob("*.parquet")} == before


@pytest.mark.parametrize("what", ["bars/5m", "bars/1d", "gaps", "calendars"])
@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_repair_puts_derived_files_back_byte_for_byte(target, what, damage):
    whole = {path: path.read_bytes() for path in files_of(target, what)}
    for path in whole:
        exported.flip(path, 777) if damage == "flip" else path.unlink()
    done = put_right(target)
    restored = {file for file, action in told(done).items() if action == "restored"}
    for path, content in whole.items():
        if str(path.relative_to(target)) in restored:
            assert path.read_bytes() == content
    assert set(told(done).values()) <= {"restored", "rebuilt"}
    assert faults(verify(target, done.revision)).is_empty()


def test_repair_heals_former_revisions_too_when_the_bytes_are_the_same(tmp_path):
    target, session = tmp_path / "out", exported.stored()
    exported.settle(session, target, 0)
    session.append(bars("A", 2, [0, 1, 2]), interval="1m")
    exported.settle(session, target, 1)
    before = exported.contents(target, 1)
    (path,) = set(exported.pinned(target, 1)) & set(files_of(target, "bars/5m"))
    path.unlink()
    assert put_right(target).revision == 2
    assert faults(verify(target)).is_empty()
    assert all(rows.equals(before[name]) for name, rows in exported.contents(target, 1).items())


def test_repair_of_quality_tells_what_cannot_be_counted_again(target):
    before = exported.contents(target)["quality"]
    for path in files_of(target, "quality"):
        path.write_bytes(b"")
    done = put_right(target)
    rebuilt = done.actions.filter(action="rebuilt")
    assert rebuilt["detail"].str.contains("corrections cannot be computed again").any()
    after = exported.contents(target)["quality"]
    lost = ["duplicates", "corrections", "revision"]
    assert after.drop(lost).equals(before.drop(lost))
    assert faults(verify(target, done.revision)).is_empty()


def test_repair_everything_derived_at_once(target):
    before = exported.contents(target)
    for what in ("bars/5m", "bars/1d", "gaps", "quality", "sessions", "calendars"):
        for path in files_of(target, what):
            path.unlink()
    done = put_right(target)
    assert "lost" not in told(done).values()
    after = exported.contents(target)
    lost = ["duplicates", "corrections", "revision"]
    assert all(
        rows.drop(lost, strict=False).equals(before[name].drop(lost, strict=False)) for name, rows in after.items()
    )
    assert faults(verify(target, done.revision)).is_empty()


@pytest.mark.parametrize("what", ["ticks", "quotes"])
def test_repair_lists_lost_sources_with_what_they_held_and_leaves_them(target, what):
    (path,) = files_of(target, f"{what}/")
    rows = pl.read_parquet(path)
    path.unlink()
    done = put_right(target)
    (row,) = done.actions.filter(action="lost").to_dicts()
    assert (row["file"], row["rows"], row["symbols"]) == (str(path.relative_to(target)), rows.height, rows["symbol"][0])
    assert (row["first_ts"], row["last_ts"]) == (rows["ts"].min(), rows["ts"].max())
    assert "load them again" in row["detail"]
    assert done.revision == 3


def test_repair_drop_damaged_leaves_a_revision_that_agrees_with_itself(target):
    before = exported.contents(target)
    lost = next(path for path in files_of(target, "bars/1m") if "A" in pl.read_parquet(path)["symbol"])
    gone = pl.read_parquet(lost).select("symbol", "ts", "interval")
    exported.flip(lost, 4321)
    done = put_right(target, drop_damaged=True)
    assert done.revision == 4
    assert told(done)[str(lost.relative_to(target))] == "dropped"
    after = exported.contents(target)
    sources = {"interval": "1m", "origin": "source"}
    left = before["bars"].filter(**sources).join(gone, on=["symbol", "ts", "interval"], how="anti")
    assert after["bars"].filter(**sources).select("symbol", "ts").equals(left.select("symbol", "ts"))
    # Bars that are made of ticks were in the same file, and the ticks are whole.
    ticked = {"interval": "1m", "symbol": "T"}
    assert after["bars"].filter(**ticked).drop("revision").equals(before["bars"].filter(**ticked).drop("revision"))
    assert (
        after["quality"].filter(interval="1m", symbol="A")["present"].sum()
        < before["quality"].filter(interval="1m", symbol="A")["present"].sum()
    )
    assert faults(verify(target, 4)).is_empty()


def test_repair_drop_damaged_open_interest_names_its_sources_and_counts_the_rows_again(tmp_path):
    target, session = tmp_path / "out", exported.stored()
    session.append(interest("A", 0, 7.0), "open_interest")
    exported.settle(session, target, 0)
    (path,) = open_dataset(target).files("open_interest")
    path.unlink()
    done = put_right(target, drop_damaged=True)
    (dropped,) = done.actions.filter(action="dropped").to_dicts()
    assert dropped["detail"] == "it held what was read from sources: load them again"
    assert faults(verify(target, done.revision)).is_empty()


def test_repair_lost_symbols_says_why_nothing_can_be_rebuilt(target):
    for what in ("symbols", "gaps"):
        files_of(target, what)[0].unlink()
    done = put_right(target)
    assert set(told(done).values()) == {"lost"}
    assert done.actions["detail"].str.contains("`symbols` is damaged").all()


def test_repair_unknown_calendar_says_so(target):
    files_of(target, "gaps")[0].unlink()
    done = repair(target, clock=exported.clock(9))
    assert done.actions["action"].to_list() == ["lost"]
    assert "TINY" in done.actions["detail"].item()


def test_repair_removes_leftovers_and_puts_heads_back(target):
    (target / dataset.STAGING).mkdir()
    stray = target / "bars" / "1m" / f"2-{'0' * 64}.parquet"
    stray.write_bytes(b"x")
    delta_table.commit(target / "bars", TABLES["bars"], [], [delta_table.file_paths(target / "bars")[0]], after=delta_table.newest_version(target / "bars"),
                written_at=exported.NOON, notes={})  # fmt: skip
    done = put_right(target)
    assert told(done) == {
        "bars/_delta_log": "put back",
        dataset.STAGING: "removed",
        str(stray.relative_to(target)): "removed",
    }
    assert verify(target).is_empty()


def test_repair_what_is_no_export_is_refused(tmp_path):
    with pytest.raises(ExportError, match="is no export"):
        repair(tmp_path)


def test_repair_then_export_goes_on(target):
    for path in files_of(target, "quality"):
        path.unlink()
    done = put_right(target)
    assert exported.settle(exported.stored(), target, 10) == done.revision + 1
    assert faults(verify(target, open_dataset(target).revision)).is_empty()


def test_repair_of_a_folder_where_a_file_was_puts_the_file_back(target):
    place = files_of(target, "gaps")[0]
    content = place.read_bytes()
    place.unlink()
    place.mkdir()
    (place / "mine.txt").write_text("x")
    with pytest.raises(ExportError, match="is a folder where a file was"):
        put_right(target)
    (place / "mine.txt").unlink()
    assert told(put_right(target))[str(place.relative_to(target))] == "restored"
    assert place.read_bytes() == content


def test_export_after_repair_that_dropped_rows_brings_them_back(tmp_path):
    target = tmp_path / "out"
    session = exported.stored()
    exported.settle(session, target, 0)
    whole = exported.contents(target)
    exported.flip(files_of(target, "bars/1m")[0], 999)
    put_right(target, drop_damaged=True)
    assert exported.contents(target)["bars"].height < whole["bars"].height
    session.append(bars("A", 2, [0]), interval="1m")
    exported.settle(session, target, 10)
    now = exported.contents(target)["bars"].drop("revision")
    assert now.join(whole["bars"].drop("revision"), on=now.columns, nulls_equal=True).height >= whole["bars"].height - 1
    assert faults(verify(target, 3)).is_empty()


def two_segments(first: dt.date, last: dt.date) -> pl.DataFrame:
    early = spans(first, last)
    late = early.with_columns(
        pl.lit("LATE").alias("segment"),
        *(pl.col(name).dt.offset_by("1h") for name in ("segment_open", "segment_close")),
    )
    return pl.concat([early, late])


def test_repair_of_an_axis_that_cannot_be_guessed_reads_it_from_symbols(tmp_path):
    calendar = replace(exported.CALENDARS["TINY"], labels=("RTH", "LATE"), source=two_segments)
    store = SessionData(calendars={"TINY": calendar}, incomplete="drop")
    register(store, "A", segments=("LATE",), price_type="bid")
    register(store, "B", align="clock", zone="Asia/Kolkata")
    register(store, "T", base_from="ticks", price_types=("last",))
    store.append([bars("B", 0, [0, 1, 5]), bars("A", 0, [60, 61, 65])], interval="1m")
    store.append(ticks("T", 0, [0, 1, 5]), "ticks")
    target = tmp_path / "out"
    exported.settle(store, target, 0)
    whole = exported.contents(target)
    for path in (*files_of(target, "bars/5m"), *files_of(target, "gaps"), *files_of(target, "quality")):
        path.unlink()
    done = repair(target, calendars={"TINY": calendar}, clock=exported.clock(9))
    assert set(told(done).values()) == {"restored"}
    assert all(frame.equals(whole[name]) for name, frame in exported.contents(target).items())


# --- Exports of before `symbols` said how a symbol lived


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    now, added = dict(TABLES["symbols"]), ADDED["symbols"]
    said = Snapshot.symbol_table
    with monkeypatch.context() as then:
        then.setitem(TABLES, "symbols", {name: dtype for name, dtype in now.items() if name not in added})
        then.setitem(ADDED, "symbols", ())
        then.setattr(Snapshot, "symbol_table", lambda self: said(self).drop(added))
        target = exported.written(tmp_path / "earlier", 2)
    assert not set(added) & set(delta_table.column_names(target / "symbols"))
    return target


def test_open_earlier_export_gives_nulls_for_what_it_did_not_say(earlier):
    assert verify(earlier).is_empty()
    symbols = engine.sql(earlier, "FROM symbols")
    assert symbols.schema == TABLES["symbols"]
    assert symbols["segments"].null_count() == symbols.height == 4
    assert engine.connect(earlier).sql("FROM symbols").pl()["align"].null_count() == 4
    assert symbols.equals(open_dataset(earlier).scan("symbols").collect())
    assert engine.sql(earlier, "FROM coverage").height
    assert diff(earlier, 1, 2).symbols.corrected.height == 1
    assert read_delta(earlier, 1, 2).upserts["symbols"]["symbol"].to_list() == ["A"]
    write_files(open_dataset(earlier), "parquet", earlier.parent / "files")


def test_repair_earlier_export_guesses_the_axis(earlier):
    whole = exported.contents(earlier)
    for path in files_of(earlier, "bars/5m"):
        path.unlink()
    assert set(told(put_right(earlier)).values()) == {"restored", "rebuilt"}
    now = exported.contents(earlier)
    assert all(frame.drop("revision").equals(whole[name].drop("revision")) for name, frame in now.items())


def test_export_to_earlier_export_adds_the_columns(earlier):
    before = exported.contents(earlier, 2)
    exported.settle(exported.stored(), earlier, 3)
    assert set(pl.read_delta(str(earlier / "symbols")).columns) == set(TABLES["symbols"])
    assert exported.contents(earlier)["symbols"]["align"].to_list() == ["session"] * 4
    heads = pl.scan_delta(str(earlier / "symbols")).select(list(TABLES["symbols"])).sort("symbol").collect()
    assert heads.equals(exported.contents(earlier)["symbols"])
    assert all(frame.equals(before[name]) for name, frame in exported.contents(earlier, 2).items())
    assert verify(earlier).is_empty()
