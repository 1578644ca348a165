"""What an audit does not do where nothing asks for it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import engine
import polars as pl
import pytest
from engine.calendars.candidates import UsualSegments

OPEN = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)


def test_hours_of_other_calendars_are_not_built_where_the_rows_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [OPEN + dt.timedelta(days=day) for day in range(3)]
    stamps = [day + dt.timedelta(minutes=minute) for day in days for minute in range(390)]
    rows = pl.DataFrame({"ts": stamps, "volume": 100}).with_columns(
        pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        *(
            (10 + pl.int_range(pl.len()) % 7 * 0.01 + 0.02 * up).alias(name)
            for name, up in (("open", 0), ("high", 1), ("low", -1), ("close", 0))
        ),
    )
    rows.write_csv(tmp_path / "AAA_1m.csv")
    monkeypatch.setattr(UsualSegments, "_made", property(lambda _: pytest.fail("built")))
    assert engine.run_audit([str(tmp_path)], "XNYS").tables["series"].height == 1
