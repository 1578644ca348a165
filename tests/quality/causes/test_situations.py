"""Verdicts on situations whose right answer follows from how they are made: by numpy, not by the engine's simulator."""

from __future__ import annotations

import datetime as dt

import engine
import numpy as np
import polars as pl
import pytest
from engine.calendars.providers import calendar

MINUTE = np.timedelta64(60_000_000, "us")
FIRST = dt.date(2024, 4, 8)
LOSSES = {"symbol_loss", "feed_loss"}


def slots(sessions: int) -> np.ndarray:
    """Minutes of the first sessions of XNYS, a row each."""
    segments = calendar("XNYS").segments(FIRST, FIRST + dt.timedelta(days=2 * sessions + 5))
    segments = segments.filter("regular").head(sessions)
    opens = segments["segment_open"].dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")
    return opens[:, None] + np.arange(390) * MINUTE


def bars(stamps: np.ndarray, rng: np.random.Generator) -> pl.DataFrame:
    close = 50 * np.exp(np.cumsum(rng.normal(0, 4e-4, len(stamps))))
    opened = np.concatenate([[50.0], close])[: len(stamps)]
    volume = np.ceil(rng.lognormal(7, 1, len(stamps)))
    stamped = pl.Series("ts", stamps).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    high, low = np.maximum(opened, close), np.minimum(opened, close)
    return pl.DataFrame({"ts": stamped, "open": opened, "high": high, "low": low, "close": close, "volume": volume})


def audited(stamps: dict[str, np.ndarray], rng: np.random.Generator, code: str = "XNYS") -> dict[str, pl.DataFrame]:
    frames = {name: bars(own, rng) for name, own in stamps.items() if len(own)}
    return dict(engine.run_audit(frames, code, interval="1m").tables)


def loud(tables: dict[str, pl.DataFrame]) -> list[str]:
    return tables["findings"].filter(pl.col("severity") != "info")["check_name"].to_list()


def causes(tables: dict[str, pl.DataFrame], symbol: str | None = None) -> set[str]:
    gaps = tables["gaps"] if symbol is None else tables["gaps"].filter(pl.col("symbol") == symbol)
    return set(gaps["cause"])


def causes_at(gaps: pl.DataFrame, starts: np.ndarray) -> list[str]:
    instants = pl.Series("at", starts).cast(pl.Datetime("us")).dt.replace_time_zone("UTC").implode()
    return gaps.filter(pl.col("gap_start").is_in(instants)).sort("gap_start")["cause"].to_list()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("share", "sessions"), [(0.003, 1), (0.003, 20), (0.1, 1), (0.4, 1), (0.4, 20), (0.03, 5)])
def test_audit_of_thin_symbols_blames_no_loss(share: float, sessions: int, seed: int) -> None:
    rng, grid = np.random.default_rng(seed), slots(sessions).ravel()
    tables = audited({f"T{n:02}": grid[rng.random(len(grid)) < share] for n in range(20)}, rng)
    lost = tables["gaps"].filter(pl.col("cause").is_in(LOSSES))["bar_count"].sum()
    assert lost <= 0.005 * tables["gaps"]["bar_count"].sum()
    assert loud(tables) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("symbols", "days", "minutes"), [(3, [4], 1), (3, [2, 4, 6], 1), (4, [4], 2), (4, [7], 5), (8, [5], 1), (8, [3], 5)]
)
def test_audit_of_minutes_that_all_liquid_symbols_lack_is_a_feed_loss(
    symbols: int, days: list[int], minutes: int, seed: int
) -> None:
    rng, grid = np.random.default_rng(seed), slots(10)
    holes = grid[days, 340 : 340 + minutes]
    full = {f"L{n}": grid[rng.random(grid.shape) < 0.999] for n in range(symbols)}
    tables = audited({name: own[~np.isin(own, holes)] for name, own in full.items()}, rng)
    at = pl.Series(holes[:, 0]).cast(pl.Datetime("us")).dt.replace_time_zone("UTC").implode()
    hit = tables["gaps"].filter(pl.col("gap_start").is_in(at))
    # A symbol that had no trade in the minute before has a gap that begins earlier.
    assert hit.height >= 0.9 * symbols * len(days)
    assert set(hit["cause"]) == {"feed_loss"}


@pytest.mark.parametrize("symbols", [3, 4, 8])
@pytest.mark.parametrize("share", [1.0, 0.999])
def test_audit_of_three_minutes_of_different_times_that_all_liquid_symbols_lack_is_a_feed_loss(
    symbols: int, share: float
) -> None:
    rng, grid = np.random.default_rng(symbols), slots(10)
    holes = grid[[2, 4, 7], [130, 301, 21]]
    full = {f"L{n}": grid[rng.random(grid.shape) < share] for n in range(symbols)}
    tables = audited({name: own[~np.isin(own, holes)] for name, own in full.items()}, rng)
    lost = tables["gaps"].filter(pl.col("cause").is_in(LOSSES))
    assert causes_at(tables["gaps"], holes) == ["feed_loss"] * 3 * symbols
    assert lost["bar_count"].sum() == 3 * symbols


@pytest.mark.parametrize(("sessions", "minutes"), [(5, 3), (5, 5), (10, 5), (10, 8)])
def test_audit_of_several_minutes_that_all_liquid_symbols_lack_says_not_that_nothing_traded(
    sessions: int, minutes: int
) -> None:
    rng, grid = np.random.default_rng(minutes), slots(sessions)
    holes = rng.choice(grid[:, 20:370].ravel(), minutes, replace=False)
    full = {f"L{n}": grid[rng.random(grid.shape) < 0.999] for n in range(4)}
    tables = audited({name: own[~np.isin(own, holes)] for name, own in full.items()}, rng)
    assert set(causes_at(tables["gaps"], holes)) <= {"unknown", "feed_loss"}


@pytest.mark.parametrize("sessions", [10, 3])
def test_audit_of_single_minutes_that_alike_symbols_lack_is_no_loss(sessions: int) -> None:
    rng, grid = np.random.default_rng(sessions), slots(sessions)
    tables = audited({f"T{n:02}": grid[rng.random(grid.shape) < 0.9995] for n in range(20)}, rng)
    assert causes(tables) <= {"no_trade", "unknown"}


@pytest.mark.parametrize("shares", [[0.4, 0.1, 0.9, 0.9, 0.6], [0.9, 0.98, 0.99, 0.995, 0.999], [1.0] * 5])
def test_audit_of_a_minute_that_a_complete_symbol_lost_is_its_loss_whatever_its_peers(shares: list[float]) -> None:
    rng, grid = np.random.default_rng(2), slots(10)
    peers = {f"T{n}": grid[rng.random(grid.shape) < share] for n, share in enumerate(shares)}
    tables = audited(peers | {"L": np.delete(grid.ravel(), 1000)}, rng)
    assert causes(tables, "L") == {"symbol_loss"}


@pytest.mark.parametrize("lost", [[40], [40, 77]])
def test_audit_of_an_hour_that_one_symbol_lost_is_not_explained_by_hours_that_all_lost(lost: list[int]) -> None:
    rng = np.random.default_rng(1)
    segments = calendar("XHKG").segments(FIRST, FIRST + dt.timedelta(days=40)).filter("regular").head(40)
    spans = segments.select(pl.col("segment_open", "segment_close").dt.replace_time_zone(None)).rows()
    hours = np.concatenate([np.arange(a, b, dt.timedelta(hours=1), "datetime64[us]") for a, b in spans])
    held = np.delete(hours, lost)
    frames = {f"H{n}": bars(np.setdiff1d(held, hours[[99]]) if n == 0 else held, rng) for n in range(4)}
    gaps = engine.run_audit(frames, "XHKG", interval="1h").tables["gaps"]
    assert set(causes_at(gaps, hours[lost])) == {"feed_loss"}
    assert causes_at(gaps, hours[[99]]) == ["symbol_loss"]


@pytest.mark.parametrize("silent", [6, 10])
def test_audit_of_a_month_of_currencies_with_silent_minutes_has_no_outage(silent: int) -> None:
    rng = np.random.default_rng(8)
    segments = calendar("FX").segments(dt.date(2024, 5, 1), dt.date(2024, 5, 31)).filter("regular")
    spans = segments.select(pl.col("segment_open", "segment_close").dt.replace_time_zone(None)).rows()
    minutes = np.concatenate([np.arange(a, b, dt.timedelta(minutes=1), "datetime64[us]") for a, b in spans])
    held = np.delete(minutes, rng.choice(np.arange(500, len(minutes) - 500), silent, replace=False))
    own = {name: held[rng.random(len(held)) < 0.9995] for name in ("EURUSD", "GBPUSD", "USDJPY")}
    tables = audited(own, rng, "FX")
    assert (tables["outages"].height, loud(tables)) == (0, [])


def test_audit_of_a_silent_minute_beside_one_that_a_symbol_lacks_is_no_loss_of_two() -> None:
    rng = np.random.default_rng(8)
    minutes = np.arange(0, 20 * 1440) * np.timedelta64(60_000_000, "us") + np.datetime64("2024-05-01", "us")
    silent = rng.choice(np.arange(500, len(minutes) - 500), 25, replace=False)
    own = {name: np.delete(minutes, silent) for name in ("A", "B", "C")}
    own["A"] = np.setdiff1d(own["A"], minutes[[silent[0] + 1, 900, 5_000, 9_000, 14_000, 20_000]])
    tables = audited(own, rng, "24/7")
    assert causes_at(tables["gaps"], minutes[silent[[0]]])[0] == "no_trade"
    assert "feed_loss" not in set(tables["gaps"]["cause"])
    assert not tables["gaps"].filter(pl.col("cause") == "symbol_loss", pl.col("bar_count") > 1).height


@pytest.mark.parametrize("seed", range(2))
def test_audit_of_a_feed_that_fails_beside_losses_of_single_symbols_is_a_feed_loss(seed: int) -> None:
    rng, grid = np.random.default_rng(seed), slots(10)
    holes = grid[[2, 5, 8], 100:130].ravel()
    full = {f"L{n}": np.delete(grid.ravel(), np.arange(20) + 390 * (n % 10) + 17 * n) for n in range(12)}
    tables = audited({name: own[~np.isin(own, holes)] for name, own in full.items()}, rng)
    of_feed = pl.col("gap_start").is_in(pl.Series(grid[[2, 5, 8], 100]).dt.replace_time_zone("UTC").implode())
    gaps = tables["gaps"].filter(pl.col("bar_count") == 30)
    assert gaps.filter(of_feed)["cause"].to_list() == ["feed_loss"] * len(gaps.filter(of_feed))
    assert gaps.filter(of_feed).height > 30
    assert set(tables["gaps"].filter(~of_feed)["cause"]) == {"symbol_loss"}


def test_audit_of_minutes_that_a_market_often_lacks_is_no_outage() -> None:
    rng, grid = np.random.default_rng(1), slots(20)
    open_ = rng.random(grid.shape) < 0.998  # sixteen minutes of nobody, at any time
    tables = audited({f"L{n}": grid[open_ & (rng.random(grid.shape) < 0.999)] for n in range(3)}, rng)
    assert tables["outages"].is_empty()
    assert loud(tables) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("share", "sessions"), [(0.55, 5), (0.7, 5), (0.7, 12)])
def test_audit_of_slots_that_one_symbol_lacks_every_session_by_chance_names_no_break(share, sessions, seed) -> None:
    rng, grid = np.random.default_rng(seed), slots(sessions)
    tables = audited({"MID": grid[rng.random(grid.shape) < share]}, rng)
    assert (loud(tables), causes(tables) - {"not_covered"}) == ([], {"no_trade"})


@pytest.mark.parametrize("symbols", [1, 4])
def test_audit_of_a_break_every_session_is_named_also_where_symbols_are_thin(symbols: int) -> None:
    rng, grid = np.random.default_rng(5), slots(10)
    traded = {f"T{n}": rng.random(grid.shape) < 0.7 for n in range(symbols)}
    for there in traded.values():
        there[:, 150:180] = False
    tables = audited({name: grid[there] for name, there in traded.items()}, rng)
    break_of = tables["gaps"].filter(pl.col("bar_count") >= 30)
    assert set(break_of["cause"]) == {"calendar_suspect"}
    assert "calendar_suspect" in loud(tables) or "absent_slots" in loud(tables)


@pytest.mark.parametrize("symbols", [1, 3])
def test_audit_of_fridays_that_end_early_for_months_is_a_habit_and_of_one_friday_a_loss(symbols: int) -> None:
    rng, grid = np.random.default_rng(9), slots(60)
    there = rng.random((symbols, *grid.shape)) < 0.999
    days = grid[:, 0].astype("datetime64[D]")
    fridays = np.flatnonzero((days.astype(int) + 3) % 7 == 4)
    habit = there.copy()
    habit[:, fridays, 300:] = False
    tables = audited({f"L{n}": grid[one] for n, one in enumerate(habit)}, rng)
    trailing = tables["gaps"].filter(pl.col("bar_count") >= 90)
    assert trailing.height == symbols * len(fridays) == symbols * 12
    assert set(trailing["cause"]) == {"early_close"}
    assert loud(tables) == []
    there[:, fridays[5], 300:] = False
    once = audited({f"L{n}": grid[one] for n, one in enumerate(there)}, rng)
    assert once["gaps"].filter(pl.col("bar_count") >= 90)["cause"].is_in(list(LOSSES)).all()


@pytest.mark.parametrize("seed", range(3))
def test_audit_of_one_liquid_symbol_without_minutes_is_its_own_loss(seed: int) -> None:
    rng, grid = np.random.default_rng(seed), slots(10)
    full = {f"L{n}": grid[rng.random(grid.shape) < 0.9999] for n in range(6)}
    for minutes in (3, 10):
        once = audited(full | {"L0": np.setdiff1d(full["L0"], grid[4, 200 : 200 + minutes])}, rng)
        assert "symbol_loss" in causes(once, "L0")
    recurring = audited(full | {"L0": np.setdiff1d(full["L0"], grid[[2, 4, 6], 340])}, rng)
    lost = recurring["gaps"].filter(pl.col("symbol") == "L0", pl.col("cause") == "symbol_loss")
    assert lost.filter(pl.col("gap_start").dt.strftime("%H:%M") == "19:10").height == 3


def test_audit_of_a_liquid_peer_that_trades_on_finds_no_outage_of_thin_names() -> None:
    rng, grid = np.random.default_rng(4), slots(20)
    thin = {f"T{n:02}": grid[rng.random(grid.shape) < 0.3] for n in range(12)}
    holes = grid[7, 100:130]
    silent = {name: own[~np.isin(own, holes)] for name, own in thin.items()}
    liquid = {f"L{n}": grid.ravel() for n in range(20)}
    assert audited(silent | liquid, rng)["outages"].is_empty()


@pytest.mark.parametrize("hole", [slice(0, 390), slice(100, 280)])
def test_audit_of_a_peer_that_is_away_for_long_says_nothing_of_a_single_minute(hole: slice) -> None:
    rng, grid = np.random.default_rng(6), slots(10)
    away = np.setdiff1d(grid, grid[4, hole])
    tables = audited({"A": np.setdiff1d(grid, grid[4, 200]), "B": away}, rng)
    assert tables["outages"].is_empty()
    assert tables["gaps"].filter(pl.col("symbol") == "B")["bar_count"].to_list() == [hole.stop - hole.start]
    both = audited({"A": away, "B": away}, rng)
    assert causes(both) == {"feed_loss"}


def test_audit_of_an_uncovered_edge_makes_no_single_minutes_recur() -> None:
    rng = np.random.default_rng(7)
    # Coverage begins at the 30th minute of the first session, and two sessions lack that minute by chance.
    grid = slots(20)
    stamps = np.setdiff1d(
        grid, np.concatenate([grid[0, :29], grid[[5, 11], 1], grid[[1, 2, 3, 7, 9, 15, 16], 77 + np.arange(7)]])
    )
    tables = audited({"A": stamps}, rng)
    assert causes(tables) == {"not_covered", "no_trade"}


def test_audit_of_a_minute_in_busy_hours_is_a_loss_and_in_quiet_ones_and_between_is_not() -> None:
    rng = np.random.default_rng(5)
    days = np.datetime64("2024-05-06T00:00", "us") + np.arange(14)[:, None] * 1440 * MINUTE + np.arange(1440) * MINUTE
    there = rng.random(days.shape) < 0.95
    there[:, 480:] = True
    there[6, [100, 482, 900]] = False
    gaps = audited({"A": days[there]}, rng, "24/7")["gaps"]
    assert causes_at(gaps, days[6, [100, 482, 900]]) == ["no_trade", "no_trade", "symbol_loss"]


def test_audit_of_the_last_minute_of_several_sessions_is_quiet_and_of_a_minute_within_is_lost() -> None:
    rng, grid = np.random.default_rng(9), slots(22)
    some = [3, 7, 8, 15]
    others = grid[rng.integers(0, 22, 12), rng.integers(30, 360, 12)]
    for minute, cause in ((389, "no_trade"), (200, "symbol_loss")):
        stamps = np.setdiff1d(grid, np.append(grid[some, minute], others))
        assert causes_at(audited({"A": stamps}, rng)["gaps"], grid[some, minute]) == [cause] * 4


@pytest.mark.parametrize("minute", [0, 389])
def test_audit_of_a_first_or_last_minute_that_one_liquid_series_never_has_is_not_explained(minute) -> None:
    rng, grid = np.random.default_rng(3), slots(12)
    stamps = {name: np.delete(grid.ravel(), rng.integers(60, 300, 20)) for name in "ABCD"}
    stamps["B"] = np.setdiff1d(stamps["B"], grid[:, minute])
    gaps = audited(stamps, rng)["gaps"].filter(symbol="B")
    assert causes_at(gaps, grid[:, minute]) == ["unknown"] * 12
    side = "first" if minute == 0 else "last"
    edges = gaps.filter(pl.col("cause") == "unknown")["evidence"]
    assert edges.str.contains(f"it lacks the {side} minutes in 12 sessions, and next to none beside them").all()
    assert not edges.str.contains("a silence of").any()


def test_audit_of_a_series_with_many_long_silences_does_not_call_the_longest_losses() -> None:
    rng, grid = np.random.default_rng(2), slots(10).ravel()
    # Quoted on and off: runs of silence of all lengths, a tenth of them far longer than the others.
    quiet = np.zeros(len(grid), bool)
    for start in rng.choice(len(grid), 150, replace=False):
        quiet[start : start + int(np.ceil(rng.pareto(1.0)))] = True
    tables = audited({"FAR": grid[~quiet]}, rng)
    assert quiet.mean() > 0.1
    assert tables["gaps"].filter(pl.col("cause").is_in(LOSSES), pl.col("bar_count") < 100).is_empty()


@pytest.mark.parametrize("seed", range(12))
def test_audit_of_one_session_of_symbols_that_hardly_trade_finds_no_outage(seed: int) -> None:
    rng, grid = np.random.default_rng(seed), slots(1).ravel()
    tables = audited({f"T{n:02}": grid[rng.random(len(grid)) < 0.003] for n in range(20)}, rng)
    assert tables["outages"].is_empty()


@pytest.mark.parametrize("symbols", [1, 2])
def test_audit_of_a_month_cut_at_midnight_has_slots_that_are_not_covered(symbols: int) -> None:
    rng = np.random.default_rng(8)
    minutes = np.arange(np.datetime64("2024-05-01T00:00", "us"), np.datetime64("2024-05-11T00:00", "us"), MINUTE)
    local = pl.Series(minutes).dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York")
    hour, day = local.dt.hour().to_numpy(), local.dt.weekday().to_numpy()
    minutes = minutes[(day <= 4) | ((day == 5) & (hour < 17)) | ((day == 7) & (hour >= 17))]
    stamps = {name: minutes[rng.random(len(minutes)) < 0.999] for name in ("EURUSD", "GBPUSD")[:symbols]}
    tables = audited(stamps, rng, "FX")
    assert loud(tables) == []
    assert tables["gaps"].filter(pl.col("cause") == "not_covered")["bar_count"].sum() == symbols * 180
    assert (tables["quality"]["quality_adjusted"] > 99.9).all()
    assert tables["series"]["excluded"].to_list() == [180] * symbols


def test_audit_of_sample_days_has_no_loss_and_of_one_absent_day_has() -> None:
    rng, grid = np.random.default_rng(3), slots(60)
    sampled = audited({f"S{n}": grid[[0, 25, 59]].ravel() for n in range(4)}, rng)
    assert (loud(sampled), causes(sampled)) == ([], {"not_covered"})
    absent = audited({f"S{n}": np.delete(grid[:20], 9, axis=0).ravel() for n in range(4)}, rng)
    assert causes(absent) == {"feed_loss"}


def test_audit_of_a_sample_day_that_one_symbol_lost_is_its_loss_though_rows_of_few_lie_beside_it() -> None:
    rng, grid = np.random.default_rng(4), slots(60)
    picked = [2, 14, 26, 38, 50]
    stamps = {f"S{n}": grid[picked].ravel() for n in range(5)}
    # Files of another time zone or market: rows in sessions beside the sample days.
    stamps["S5"] = grid[[day + beside for day in picked for beside in (0, 1, 2)]].ravel()
    lost = audited(stamps | {"S0": np.delete(grid[picked], 2, axis=0).ravel()}, rng)
    assert causes(lost, "S1") == {"not_covered"}
    of_day = lost["gaps"].filter(pl.col("cause") == "symbol_loss").select("symbol", "session", "bar_count")
    assert of_day.rows() == [("S0", grid[26, 0].astype("datetime64[D]").item(), 390)]


def test_audit_of_sample_days_of_thin_symbols_is_no_outage() -> None:
    rng, grid = np.random.default_rng(3), slots(60)
    thin = {f"T{n}": grid[[0, 25, 59]][rng.random((3, 390)) < 0.03] for n in range(3)}
    tables = audited(thin, rng)
    assert tables["outages"].is_empty()
    assert (loud(tables), causes(tables)) == ([], {"not_covered", "no_trade"})


def test_audit_of_a_contract_that_ends_and_of_a_listing_that_begins_is_not_listed() -> None:
    rng, grid = np.random.default_rng(5), slots(10)
    tables = audited({"OLD": grid[:8].ravel()[:-90], "NEW": grid[2:].ravel()[100:], "ALL": grid.ravel()}, rng)
    assert causes(tables, "OLD") == causes(tables, "NEW") == {"not_listed"}
    assert loud(tables) == []


def test_audit_cuts_a_gap_where_its_cause_changes() -> None:
    rng, grid = np.random.default_rng(6), slots(10)
    full = {f"L{n}": np.setdiff1d(grid.ravel(), grid[4, 200:210]) for n in range(8)}
    tables = audited(full | {"L0": np.setdiff1d(full["L0"], grid[4, 210:230])}, rng)
    parts = tables["gaps"].filter(pl.col("symbol") == "L0").sort("gap_start").select("bar_count", "cause")
    assert parts.rows() == [(10, "feed_loss"), (20, "symbol_loss")]
    assert tables["series"].filter(pl.col("symbol") == "L0")["missing"].item() == 30


def test_audit_of_refused_rows_and_stamps_off_the_grid_says_so(tmp_path) -> None:
    rng, grid = np.random.default_rng(7), slots(5).ravel()
    for name in ("R0", "R1", "R2"):
        rows = bars(grid, rng).with_row_index()
        bad = pl.col("index").is_between(500, 539) & pl.lit(name == "R0")
        late = pl.when((pl.col("index") == 700) & pl.lit(name == "R1")).then(17).otherwise(0)
        swapped = rows.with_columns(
            pl.when(bad).then(pl.col("low") - 1).otherwise("high").alias("high"),
            (pl.col("ts") + pl.duration(seconds=late)).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        swapped.drop("index").write_csv(tmp_path / f"{name}_1m.csv")
    tables = engine.run_audit([tmp_path], "XNYS").tables
    gaps = tables["gaps"].sort("symbol").select("symbol", "bar_count", "cause").rows()
    assert gaps == [("R0", 40, "refused"), ("R1", 1, "off_grid")]
    assert "refused, line 502 of R0_1m.csv: high below low" in tables["gaps"].sort("symbol")["evidence"][0]
    assert (tables["series"]["quality_adjusted"] < 100).to_list() == [True, True, False]


def test_audit_of_a_halt_that_reopens_at_its_price_with_an_auction_is_no_loss() -> None:
    rng, grid = np.random.default_rng(4), slots(10)
    hole = grid[5, 120:150]
    frames = {name: bars(grid.ravel(), rng) for name in "ABC"} | {"HALT": bars(np.setdiff1d(grid, hole), rng)}
    opened = pl.col("ts") == pl.Series(hole[-1:] + MINUTE).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")[0]
    volume = pl.when(opened).then(25 * pl.col("volume").mean()).otherwise("volume").alias("volume")
    frames["HALT"] = frames["HALT"].with_columns(volume)
    gap = engine.run_audit(frames, "XNYS", interval="1m").tables["gaps"].row(0, named=True)
    assert gap["cause"] in {"unknown", "halt"}
    assert gap["evidence"].endswith("this decides neither for a halt nor for a loss")


@pytest.mark.parametrize(("deviation", "persistence"), [(0.0, 0.0), (1.2, 0.9)])
def test_audit_of_silences_of_a_symbol_that_trades_in_bursts_blames_no_loss(
    deviation: float, persistence: float
) -> None:
    rng, grid = np.random.default_rng(6), slots(10).ravel()
    frames = {}
    for name in "ABCDEFGH":
        heat = rng.normal(size=len(grid))
        for at in range(1, len(grid)):
            heat[at] = persistence * heat[at - 1] + np.sqrt(1 - persistence**2) * heat[at]
        trades = rng.poisson(2 * np.exp(deviation * heat - deviation**2 / 2))
        frames[name] = grid[trades > 0]
    assert not LOSSES & set(loud(audited(frames, rng)))
