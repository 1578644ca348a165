"""`engine.check` against slots counted one by one, on exports of several calendars with holes, late starts and early ends."""

from __future__ import annotations

import datetime as dt
import json
import pickle
import random
from pathlib import Path

import engine
import polars as pl
import pytest
from engine.calendars.providers import calendar
from engine.errors import CalendarError, CoverageError, ParameterError
from engine.export.dataset import Dataset
from engine.runtime import preflight

UTC, MINUTE = dt.UTC, dt.timedelta(minutes=1)
CODES = {"AAA": "XNYS", "BBB": "XNYS", "NEW": "XNYS", "OLD": "XNYS", "HKX": "XHKG", "FXX": "FX"}
FIRST, LAST = dt.date(2024, 3, 4), dt.date(2024, 3, 15)  # the clocks of New York change on the 10th
LIVES = {"NEW": (dt.date(2024, 3, 7), LAST), "OLD": (FIRST, dt.date(2024, 3, 12))}
Slot = tuple[dt.date, dt.datetime, dt.datetime]


def slots(code: str, first: dt.date, last: dt.date, minutes: int = 1) -> list[Slot]:
    """(session, start, end) of every slot of the regular segments, by adding minutes to each open."""
    found = []
    segments = calendar(code).segments(first, last).filter("regular")
    for session, opens, closes in segments.select("session", "segment_open", "segment_close").iter_rows():
        at = opens
        while at < closes:
            found.append((session, at, min(at + minutes * MINUTE, closes)))
            at += minutes * MINUTE
    return found


def bars(seed: int = 7) -> dict[tuple[str, str], set[dt.datetime]]:
    """Starts of the bars of each series: all slots of its life but some runs, and (BBB) one session."""
    rng, made = random.Random(seed), {}  # noqa: S311 - no secret
    for symbol, code in CODES.items():
        life = LIVES.get(symbol, (FIRST, LAST))
        for side in ("bid", "ask") if symbol == "FXX" else ("last",):
            kept = [one[1] for one in slots(code, *life)]
            for _ in range(6):
                low = rng.randrange(10, len(kept) - 60)
                del kept[low : low + rng.randrange(1, 50)]
            made[symbol, side] = set(kept)
    made["BBB", "last"] -= {at for at in made["BBB", "last"] if at.date() == dt.date(2024, 3, 6)}
    return made


BARS = bars()


def frame(starts: dict[tuple[str, str], set[dt.datetime]]) -> pl.DataFrame:
    rows = [(symbol, side, at) for (symbol, side), ats in starts.items() for at in sorted(ats)]
    ts = pl.Datetime("us", "UTC")
    whole = pl.DataFrame(rows, schema={"symbol": pl.String, "price_type": pl.String, "ts": ts}, orient="row")
    prices = {"open": 10.0, "high": 10.5, "low": 9.5, "close": 10.2, "volume": 100.0}
    return whole.with_columns(pl.lit(value).alias(name) for name, value in prices.items())


def exported(folder: Path, as_of: dt.datetime | None = None) -> Path:
    """An export of `BARS`, or of those that had ended at an instant."""
    known = {key: {at for at in ats if as_of is None or at + MINUTE <= as_of} for key, ats in BARS.items()}
    made = [frame({key: ats}) for key, ats in known.items() if ats]
    session = engine.load(made, CODES, interval="1m", derive=["1h", "1d", "1w"], as_of=as_of)
    engine.export_session(session, folder)
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return exported(tmp_path_factory.mktemp("preflight") / "out")


AT = dt.datetime(2024, 3, 13, 15, 7, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Path:
    return exported(tmp_path_factory.mktemp("preflight") / "live", AT)


def counted(
    symbol: str,
    side: str,
    start: dt.date | dt.datetime,
    end: dt.date | dt.datetime,
    now: dt.datetime,
    known: dt.datetime,
) -> tuple[int, int]:
    """(expected, present) of a series, slot by slot."""
    first, last = (one.date() if isinstance(one, dt.datetime) else one for one in (start, end))
    week = dt.timedelta(days=7)
    expected = present = 0
    for session, begin, over in slots(CODES[symbol], first - week, last + week):
        after = begin >= start if isinstance(start, dt.datetime) else session >= start
        before = begin < end if isinstance(end, dt.datetime) else session <= end
        if after and before and over <= now:
            expected += 1
            present += begin in BARS[symbol, side] and over <= known
    return expected, present


def answer(*arguments: object, **named: object) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Coverage and holes (None: passed)."""
    try:
        return engine.check(*arguments, **named).frame, None  # type: ignore[arg-type]
    except CoverageError as error:
        return error.preflight.frame, error.holes


LATE = dt.datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["dates", "instants", "live"])
def test_coverage_of_random_ranges_equals_slots_counted_one_by_one(out, live, kind, seed) -> None:
    rng = random.Random(1000 + seed)  # noqa: S311 - no secret
    days = sorted(rng.sample(range(-4, 18), 2))
    start, end = (dt.date(2024, 3, 4) + dt.timedelta(days=day) for day in days)
    if kind == "instants":
        moment = [dt.timedelta(seconds=rng.randrange(86_400)) for _ in range(2)]
        start, end = (
            dt.datetime.combine(day, dt.time(), UTC) + at for day, at in zip((start, end), moment, strict=True)
        )
    now = rng.choice([AT, AT + dt.timedelta(minutes=31), AT - dt.timedelta(hours=20), LATE]) if kind == "live" else LATE
    target = live if kind == "live" else out
    found, holes = answer(target, list(CODES), start, end, price_type=["last", "bid"], as_of=now)
    checked = 0
    for symbol, side in BARS:
        if side == "ask":
            continue
        row = found.row(by_predicate=(pl.col("symbol") == symbol) & (pl.col("price_type") == side), named=True)
        known = AT if kind == "live" else LATE
        assert (row["expected"], row["present"]) == counted(symbol, side, start, end, now, known), (
            symbol,
            start,
            end,
            now,
        )
        lacking = row["expected"] - row["present"]
        assert row["missing"] == lacking
        if lacking:
            assert holes is not None
            own = holes.filter(pl.col("symbol") == symbol, pl.col("price_type") == side)
            assert own["slots"].sum() == lacking
            checked += 1
    assert checked or holes is None or set(holes["cause"]) <= {"not_exported"}


def test_holes_name_each_missing_slot(out) -> None:
    _, holes = answer(out, ["AAA", "NEW", "OLD"], "2024-03-01", "2024-03-18")
    assert holes is not None
    for symbol in ("AAA", "NEW", "OLD"):
        own = holes.filter(pl.col("symbol") == symbol).sort("hole_start")
        missing = [
            one
            for one in slots("XNYS", dt.date(2024, 3, 1), dt.date(2024, 3, 18))
            if one[1] not in BARS[symbol, "last"]
        ]
        spans = list(zip(own["hole_start"], own["hole_end"], strict=True))
        assert all(any(low <= at < high for low, high in spans) for _, at, _ in missing)
        assert not any(low <= at < high for low, high in spans for at in BARS[symbol, "last"])
    causes = set(holes.select("symbol", "cause").unique().rows())
    assert causes == {
        ("AAA", "missing"), ("NEW", "missing"), ("OLD", "missing"), ("NEW", "not_listed"), ("OLD", "not_listed"),
        ("AAA", "not_covered"), ("NEW", "not_covered"), ("OLD", "not_covered"),
    }  # fmt: skip


@pytest.mark.parametrize(("interval", "days"), [("1h", 1), ("1d", 1), ("1w", 7)])
def test_derived_intervals_count_windows_without_a_bar(out, interval, days) -> None:
    found, _ = answer(out, ["AAA", "BBB", "NEW"], FIRST, LAST, interval=interval)
    windows = {"1h": 7 * 10, "1d": 10, "1w": 2}[interval]
    lost = {"1h": 7, "1d": 1, "1w": 0}[interval]
    late = {"1h": 7 * 3, "1d": 3, "1w": 0}[interval]
    assert found["expected"].to_list() == [windows] * 3
    assert dict(found.select("symbol", "missing").rows()) == {"AAA": 0, "BBB": lost, "NEW": late}


def test_symbol_or_interval_that_is_not_exported_is_a_hole_as_a_whole(out) -> None:
    with pytest.raises(CoverageError, match=r"AAB: not in the export \(did you mean AAA") as caught:
        engine.check(out, ["AAB", "AAA"], FIRST, LAST, min_coverage=90)
    assert caught.value.holes.select("symbol", "first_session", "last_session", "cause").rows() == [
        ("AAB", FIRST, LAST, "unknown_symbol")
    ]
    with pytest.raises(CoverageError, match="AAA: not exported at 7m") as caught:
        engine.check(out, "AAA", FIRST, LAST, interval="7m", min_coverage=1)
    assert caught.value.holes["cause"].to_list() == ["not_exported"]
    with pytest.raises(CoverageError) as caught:
        engine.check(out, "AAA", FIRST, LAST, price_type="bid", min_coverage=1)
    assert set(caught.value.holes["cause"]) == {"not_exported"}


def test_enough_coverage_returns_and_less_raises(out) -> None:
    found = engine.check(out, "OLD", FIRST, LAST, min_coverage=60)
    least = found.least
    assert least is not None
    assert engine.check(out, "OLD", FIRST, LAST, min_coverage=least).frame.height == 1
    with pytest.raises(CoverageError):
        engine.check(out, "OLD", FIRST, LAST, min_coverage=least + 0.001)


def test_nothing_is_expected_of_a_weekend(out) -> None:
    found = engine.check(out, ["AAA", "BBB"], "2024-03-09", "2024-03-10")
    assert found.frame.select("expected", "coverage").rows() == [(0, None)] * 2


def test_default_range_is_that_of_the_export(out) -> None:
    given, _ = answer(out, ["AAA", "NEW"], FIRST, LAST)
    assert answer(out, ["AAA", "NEW"])[0].equals(given)


def test_range_within_the_export_asks_no_calendar_and_reads_no_bars(out, monkeypatch) -> None:
    monkeypatch.setattr(preflight.AxisCoverage, "_grid", property(lambda _: pytest.fail("a calendar was asked")))
    files = Dataset.files

    def no_bars(dataset: Dataset, table: str) -> list[Path]:
        assert table != "bars"
        return files(dataset, table)

    monkeypatch.setattr(Dataset, "files", no_bars)
    assert engine.check(out, ["AAA", "BBB"], FIRST, LAST, min_coverage=50).frame.height == 2


def test_audit_gives_causes_and_the_adjusted_quality(out, tmp_path: Path) -> None:
    audit = engine.run_audit(out)
    engine.write_audit(audit, tmp_path / "audit")
    found, holes = answer(out, None, FIRST, LAST, of="quality_adjusted", audit=tmp_path / "audit")
    series = audit.tables["series"].filter(pl.col("price_type") != "ask")
    told = dict(series.select("symbol", "quality_adjusted").rows())
    # Of symbols that were there from first to last nothing is left out but what a gap's cause leaves out.
    whole = found.filter(pl.col("symbol").is_in(["AAA", "BBB", "HKX"]))
    for row in whole.iter_rows(named=True):
        covered = audit.tables["gaps"].filter(pl.col("symbol") == row["symbol"], pl.col("cause") == "not_covered")
        if covered.is_empty():
            assert row["coverage"] == pytest.approx(told[row["symbol"]])
    new = found.row(by_predicate=pl.col("symbol") == "NEW", named=True)
    assert new["excluded"] >= 3 * 390  # sessions before its first
    assert new["coverage"] == pytest.approx(told["NEW"])
    assert holes is not None
    assert "missing" not in set(holes["cause"])


def test_audit_of_other_rows_is_refused(out, live, tmp_path: Path) -> None:
    engine.write_audit(engine.run_audit(live), tmp_path / "audit")
    with pytest.raises(ParameterError, match="is not one of revision 1"):
        engine.check(out, "AAA", FIRST, LAST, of="quality_adjusted", audit=tmp_path / "audit")


def test_filled_slots_are_absent_for_the_adjusted_quality(tmp_path: Path) -> None:
    rng = random.Random(3)  # noqa: S311 - no secret
    ats = [one[1] for one in slots("XNYS", FIRST, LAST)]
    prices, price = [], 100.0
    for number, _ in enumerate(ats):
        made_up = 1000 <= number < 1040
        close = price if made_up else round(price + rng.choice([-2, -1, 1, 2]) / 100, 2)
        prices.append((price if made_up else close, close, 0.0 if made_up else 100.0))
        price = close
    rows = pl.DataFrame(
        {
            "symbol": "AAA", "ts": ats, "open": [p[0] for p in prices], "high": [max(p[:2]) for p in prices],
            "low": [min(p[:2]) for p in prices], "close": [p[1] for p in prices], "volume": [p[2] for p in prices],
        }
    )  # fmt: skip
    engine.export_session(engine.load(rows, "XNYS", interval="1m"), tmp_path / "out")
    engine.write_audit(engine.run_audit(tmp_path / "out"), tmp_path / "audit")
    assert engine.check(tmp_path / "out", "AAA", FIRST, LAST).least == 100.0
    with pytest.raises(CoverageError) as caught:
        engine.check(tmp_path / "out", "AAA", FIRST, LAST, of="quality_adjusted", audit=tmp_path / "audit")
    assert caught.value.preflight.frame.select("filled", "coverage").rows() == [(40, 100 * 3860 / 3900)]
    assert caught.value.holes.select("slots", "cause").rows() == [(40, "filled")]


def test_mistakes_name_the_argument(out) -> None:
    for named, text in [
        ({"min_coverage": 101}, "min_coverage: received 101"),
        ({"min_coverage": True}, "min_coverage: received True"),
        ({"of": "quality_adjusted"}, "without an audit"),
        ({"start": "2024-03-08", "end": "2024-03-04"}, "an end after the start"),
        ({"start": "2024-03-08T10:00"}, "start: .*no zone"),
        ({"start": "8 March"}, "start: received"),
        ({"audit": out}, "is no audit"),
    ]:  # fmt: skip
        with pytest.raises(engine.EngineError, match=text):
            engine.check(out, "AAA", **named)


def test_error_survives_a_pickle(out) -> None:
    with pytest.raises(CoverageError) as caught:
        engine.check(out, "BBB")
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - of this test
    assert str(copy) == str(caught.value)
    assert copy.holes.equals(caught.value.holes)
    assert "BBB" in repr(copy.preflight)


def test_calendar_that_is_gone_is_named_when_it_is_needed(tmp_path: Path) -> None:
    code = tmp_path / "mine.toml"
    code.write_text('code = "MINE"\nextends = "XNYS"\n')
    ats = {("AAA", "last"): BARS["AAA", "last"]}
    engine.export_session(engine.load(frame(ats), str(code), interval="1m"), tmp_path / "out")
    code.unlink()
    assert engine.check(tmp_path / "out", "AAA", FIRST, LAST, min_coverage=50).frame.height == 1
    with pytest.raises(CalendarError):
        engine.check(tmp_path / "out", "AAA", FIRST, "2024-03-20", min_coverage=50)


def test_command_ends_with_1_and_lists_the_holes(out, monkeypatch, capsys) -> None:
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["engine", "check", str(out), *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            engine.cli.program()
        return int(stopped.value.code or 0), *capsys.readouterr()

    import engine.cli  # noqa: PLC0415 - the command line of this test alone

    code, shown, _ = run("--symbols", "AAA,BBB", "--start", FIRST, "--end", LAST, "--min-coverage", "80")
    assert (code, "at least 80 %" in shown) == (0, True)
    code, shown, told = run("--symbols", "BBB", "--start", FIRST, "--end", LAST, "--json")
    content = json.loads(shown)
    assert (code, content["passed"], len(content["series"])) == (1, False, 1)
    assert sum(one["slots"] for one in content["holes"]) == content["series"][0]["missing"]
    assert told.startswith("engine: ")
    assert "BBB last 1m" in told
    assert run("--min-coverage", "200")[0] == 2
