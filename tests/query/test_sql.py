"""SQL: both doors agree with plain Polars, and the sandbox lets nothing in or out."""

from __future__ import annotations

import datetime as dt
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import duckdb
import polars as pl
import pytest
from engine.errors import ExportError, ParameterError, QueryError
from engine.export.dataset import open_dataset, write_dataset
from engine.export.tables import DATA_TABLES, TABLES
from engine.query import connect, sql
from engine.query.api import table_files
from engine.query.pinned import PinnedFile, PinnedFiles
from engine.query.request import SCHEME, Limits
from engine.query.sandbox import open_sandbox
from engine.query.sql_views import frame_catalog, pinned_catalog, sql_type
from engine.schema import TS
from polars.testing import assert_frame_equal

from tests.query.hostile_statements import HOSTILE, READS, REFUSED, SETTINGS, WRITES, Hostile

UTC = dt.UTC
NOON = dt.datetime(2013, 10, 31, 16, tzinfo=UTC)
WORD = "canary-6f1c"  # must never come out


def _bars(symbol: str, interval: str, minutes: int, count: int, origin: str) -> pl.DataFrame:
    step = dt.timedelta(minutes=minutes)
    ts = pl.Series("ts", [NOON + i * step for i in range(count)], dtype=TS)
    close = pl.Series("close", [100.0 + i % 17 for i in range(count)])
    return pl.DataFrame({"ts": ts, "close": close}).with_columns(
        pl.lit(symbol).alias("symbol"),
        pl.lit("last").alias("price_type"),
        pl.lit(interval).alias("interval"),
        pl.lit(origin).alias("origin"),
        (pl.col("ts") + step).alias("ts_end"),
        pl.col("ts").dt.date().alias("session"),
        pl.lit("RTH").alias("segment"),
        *(pl.col("close").alias(name) for name in ("open", "high", "low")),
        pl.int_range(pl.len()).cast(pl.Float64).alias("volume"),
        *(pl.lit(None, dtype=pl.Float64).alias(name) for name in ("size", "vwap")),
        pl.lit(3, dtype=pl.Int64).alias("trades"),
        *(pl.lit(minutes, dtype=pl.Int32).alias(name) for name in ("n_base", "n_expected")),
        *(pl.lit(value=True).alias(name) for name in ("complete", "final")),
        pl.lit("source").alias("provenance"),
        pl.lit("observed").alias("verdict"),
    )


def _tables() -> dict[str, pl.DataFrame]:
    bars = [_bars("0700", "1m", 1, 1000, "source"), _bars("0700", "5m", 5, 200, "derived"),
            _bars("0700", "5m", 5, 200, "source").with_columns(close=pl.lit(-1.0)),
            _bars("SPY", "1m", 1, 900, "source")]  # fmt: skip
    ticks = pl.DataFrame({"ts_ns": [1383235200_000000000 + i * 1_000_000_007 for i in range(500)]}).with_columns(
        pl.lit("SPY").alias("symbol"),
        pl.from_epoch("ts_ns", time_unit="ns").dt.cast_time_unit("us").dt.replace_time_zone("UTC").alias("ts"),
        pl.int_range(pl.len()).alias("seq"),
        pl.lit(dt.date(2013, 10, 31)).alias("session"),
        pl.lit(101.5).alias("price"),
        pl.lit(100.0).alias("size"),
        *(pl.lit(None, dtype=pl.String).alias(name) for name in ("exchange", "conditions")),
        pl.lit(value=False).alias("suspicious"),
    )
    quotes = ticks.gather_every(10).select(
        "symbol", "ts", "ts_ns", "seq", "session", bid=pl.col("seq") / 100, ask=pl.col("seq") / 100 + 0.01,
        bid_size=pl.lit(1.0), ask_size=pl.lit(1.0),
    )  # fmt: skip
    keys = {"price_type": "last", "interval": "1m", "session": dt.date(2013, 10, 31)}
    gaps = [
        {"symbol": "SPY", **keys, "gap_start": NOON, "gap_end": NOON + dt.timedelta(minutes=n), "bar_count": n}
        for n in (3, 7)
    ]
    quality = [{"symbol": "SPY", **keys, "expected": 10, "present": 9, "missing": 1, "quality": 90.0},
               {"symbol": "0700", **keys, "expected": 10, "present": 8, "missing": 2, "quality": 80.0}]  # fmt: skip
    symbols = [{"symbol": s, "base_interval": "1m", "derived_intervals": ["5m"]} for s in ("0700", "SPY")]
    partial = {"gaps": gaps, "quality": quality, "symbols": symbols}
    return {
        "bars": pl.concat(bars),
        "ticks": ticks,
        "quotes": quotes,
        **{name: pl.DataFrame(rows, schema=dict(TABLES[name])) for name, rows in partial.items()},
    }


def _export(target: Path, tables: dict[str, pl.DataFrame]) -> int:
    return write_dataset(target, tables, store_id="test", store_revision=1, written_at=NOON)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("sql") / "export"
    _export(target, _tables())
    return target


# --- What the views are


def test_sql_each_table_has_exactly_the_contract(export: Path) -> None:
    for table, schema in TABLES.items():
        assert dict(sql(export, f"FROM {table}").schema) == dict(schema), table


def test_sql_each_table_equals_the_dataset(export: Path) -> None:
    dataset = open_dataset(export)
    for table in dataset.tables:
        expected = dataset.scan(table).collect()
        assert_frame_equal(sql(export, f"FROM {table}"), expected, check_row_order=False)


def test_sql_numeric_symbol_and_month_stay_text(export: Path) -> None:
    answer = sql(export, "SELECT DISTINCT symbol, month FROM bars WHERE symbol = '0700' AND month = '2013-10'")
    assert answer.rows() == [("0700", "2013-10")]


class _Folders:
    """Tables of bare files, whose partition columns may be in the folders alone."""

    def __init__(self, bars: list[Path]) -> None:
        self.tables = ("bars", "quality", "gaps", "symbols")
        self._bars = bars

    def files(self, table: str) -> list[Path]:
        return self._bars if table == "bars" else []


def _partitioned(root: Path, dropped: tuple[str, ...]) -> _Folders:
    rows = _tables()["bars"].with_columns(month=pl.col("session").dt.strftime("%Y-%m"), revision=pl.lit(1))
    rows = rows.select(TABLES["bars"].keys())
    files = []
    for (interval, month), part in sorted(rows.group_by("interval", "month", maintain_order=True)):
        file = root / "bars" / f"interval={interval}" / f"month={month}" / "a.parquet"
        file.parent.mkdir(parents=True)
        part.drop(dropped).write_parquet(file)
        files.append(file)
    return _Folders(files)


@pytest.mark.parametrize("dropped", [(), ("month",), ("interval", "month")], ids=str)
@pytest.mark.parametrize("folder", ["plain", "symbol=A", "a[1]*?"])
def test_view_partition_columns_in_folders_or_files_give_the_same(
    tmp_path: Path, dropped: tuple[str, ...], folder: str
) -> None:
    tables = _partitioned(tmp_path / folder, dropped)
    query = "SELECT interval, month, symbol, origin, ts, close FROM bars ORDER BY ALL"
    expected = (
        _tables()["bars"]
        .select("interval", pl.col("session").dt.strftime("%Y-%m").alias("month"), "symbol", "origin", "ts", "close")
        .pipe(lambda frame: frame.sort(frame.columns))
    )
    assert_frame_equal(sql(tables, query), expected)
    with connect(tables) as con:
        assert_frame_equal(con.sql(query).pl(), expected)


def test_sql_revision_given_reads_that_one(tmp_path: Path) -> None:
    tables = _tables()
    first = _export(tmp_path / "out", tables)
    second = _export(tmp_path / "out", tables | {"bars": tables["bars"].head(10)})
    count = "SELECT count(*) FROM bars"
    assert sql(tmp_path / "out", count, revision=first).item() == tables["bars"].height
    assert sql(tmp_path / "out", count, revision=second).item() == sql(tmp_path / "out", count).item() == 10


def test_sql_revision_beside_tables_that_have_no_other_is_refused(export: Path) -> None:
    for target in (open_dataset(export), _tables()):
        with pytest.raises(ParameterError, match="revision: received 1 for tables that have no other"):
            sql(target, "SELECT 1", revision=1)
    with pytest.raises(ParameterError, match="revision: received 1"):
        connect(open_dataset(export), revision=1)


def test_connect_relative_target_outlives_a_change_of_folder(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(export.parent)
    with connect(export.name) as con:
        monkeypatch.chdir("/")
        assert con.sql("SELECT count(*) FROM bars").fetchall() == [(_tables()["bars"].height,)]


@pytest.mark.parametrize("damage", ["missing", "broken"])
def test_sql_file_unreadable_names_the_table_and_no_path(tmp_path: Path, damage: str) -> None:
    tables = _partitioned(tmp_path, ())
    file = tables.files("bars")[0]
    file.unlink() if damage == "missing" else file.write_bytes(b"PAR1 no more")
    with pytest.raises(ExportError, match="table bars cannot be read") as raised:
        sql(tables, "SELECT 1")
    assert str(tmp_path) not in str(raised.value)


def test_sql_folder_that_is_no_export_is_refused(tmp_path: Path) -> None:
    for call in (lambda: sql(tmp_path, "SELECT 1"), lambda: connect(tmp_path)):
        with pytest.raises(ExportError, match="no export"):
            call()


# --- What queries give

QUERIES = [
    "SELECT count(*) AS n FROM bars",
    "SELECT symbol, interval, sum(volume) AS v, min(ts) AS first, max(ts_end) AS last FROM bars GROUP BY ALL ORDER BY ALL",
    "SELECT * FROM bars ORDER BY ALL LIMIT 7",
    "SELECT symbol, ts, lag(close) OVER (PARTITION BY symbol, interval, origin ORDER BY ts) AS was FROM bars ORDER BY ALL",
    """SELECT symbol, ts, avg(close) OVER (PARTITION BY symbol ORDER BY ts ROWS 19 PRECEDING) AS mean FROM bars
    WHERE interval = '1m' ORDER BY ALL""",
    """SELECT t.ts_ns, q.bid, q.ask FROM ticks t ASOF JOIN quotes q ON t.symbol = q.symbol AND t.ts_ns >= q.ts_ns
    ORDER BY t.seq""",
    "SELECT time_bucket(INTERVAL 1 HOUR, ts) AS hour, max(close) AS high FROM bars GROUP BY 1 ORDER BY 1",
    "SELECT DISTINCT ON (symbol) symbol, ts, close FROM bars WHERE interval = '1m' ORDER BY symbol, ts DESC",
    "SELECT s.symbol, d FROM symbols s, UNNEST(s.derived_intervals) AS u(d) ORDER BY ALL",
    "FROM coverage",
    "FROM worst_gaps",
    "FROM ohlcv('0700', '5m')",
]


@pytest.mark.parametrize("query", QUERIES)
def test_sql_and_connect_same_query_agree(export: Path, query: str) -> None:
    sandboxed = sql(export, query)
    with connect(export) as con:
        assert_frame_equal(sandboxed, con.sql(query).pl())
    assert sandboxed.height > 0


@pytest.mark.parametrize("query", QUERIES)
def test_sql_live_frames_answer_as_the_export_does(export: Path, query: str) -> None:
    dataset = open_dataset(export)
    frames = {table: dataset.scan(table).collect() for table in dataset.tables}
    frames["bars"] = frames["bars"].with_columns(pl.col("provenance").cast(pl.Enum(["source", "backfill"])))
    assert_frame_equal(sql(frames, query), sql(export, query))


def test_sql_window_equals_polars(export: Path) -> None:
    query = "SELECT ts, close - lag(close) OVER (ORDER BY ts) AS move FROM bars WHERE symbol = 'SPY' ORDER BY ts"
    bars = _tables()["bars"].filter(pl.col("symbol") == "SPY").sort("ts")
    assert_frame_equal(sql(export, query), bars.select("ts", move=pl.col("close").diff()))


def test_sql_asof_join_equals_polars(export: Path) -> None:
    query = (
        "SELECT t.seq, q.bid FROM ticks t ASOF LEFT JOIN quotes q "
        "ON t.symbol = q.symbol AND t.ts_ns >= q.ts_ns ORDER BY t.seq"
    )
    tables = _tables()
    expected = tables["ticks"].select("seq", "ts_ns").join_asof(tables["quotes"].select("ts_ns", "bid"), on="ts_ns")
    assert_frame_equal(sql(export, query), expected.select("seq", "bid"))


def test_ohlcv_derived_interval_leaves_the_source_series_out(export: Path) -> None:
    answer = sql(export, "FROM ohlcv('0700', '5m')")
    assert answer.height == 200
    assert answer["close"].min() == 100.0
    assert sql(export, "FROM ohlcv('0700', '1m')").height == 1000
    assert sql(export, "FROM ohlcv('0700', '5m', of_price := 'bid')").height == 0


def test_worst_gaps_come_longest_first(export: Path) -> None:
    assert sql(export, "SELECT bar_count FROM worst_gaps")["bar_count"].to_list() == [7, 3]


@pytest.mark.parametrize(
    ("expression", "dtype", "value"),
    [
        ("TIMESTAMPTZ '2013-10-31 12:00:00-04'", pl.Datetime("us", "UTC"), NOON),
        ("TIMESTAMP_NS '2013-10-31 16:00:00'", pl.Datetime("us"), NOON.replace(tzinfo=None)),
        ("TIMESTAMP_S '2013-10-31 16:00:00'", pl.Datetime("us"), NOON.replace(tzinfo=None)),
        ("DATE '2013-10-31'", pl.Date(), dt.date(2013, 10, 31)),
        ("TIME '16:00:00'", pl.Time(), dt.time(16)),
        ("INTERVAL '1 day 2 seconds'", pl.Duration("us"), dt.timedelta(days=1, seconds=2)),
        ("CAST(NULL AS INTERVAL)", pl.Duration("us"), None),
        ("sum(7)", pl.Int64(), 7),
        ("CAST(7 AS UHUGEINT)", pl.Int64(), 7),
        ("CAST(7 AS DECIMAL(38, 0))", pl.Decimal(38, 0), 7),
        ("'b'::ENUM('b', 'a')", pl.String(), "b"),
        ("['b'::ENUM('b', 'a')]", pl.List(pl.String()), ["b"]),
        ("{'k': 'b'::ENUM('b', 'a')}", pl.Struct({"k": pl.String()}), {"k": "b"}),
        ("[TIMESTAMP_NS '2013-10-31 16:00:00']", pl.List(pl.Datetime("us")), [NOON.replace(tzinfo=None)]),
        ("[1, 2]::INTEGER[2]", pl.Array(pl.Int32, 2), [1, 2]),
        ("NULL::INTEGER", pl.Int32(), None),
    ],
)
def test_sql_types_come_back_plain(expression: str, dtype: pl.DataType, value: object) -> None:
    answer = sql({}, f"SELECT {expression} AS x")
    assert answer.schema["x"] == dtype
    assert answer["x"].to_list() == [value]


def test_sql_live_nanoseconds_become_microseconds_and_stay_askable() -> None:
    ticks = pl.DataFrame({"ts": pl.Series([1_000_000_007], dtype=pl.Datetime("ns", "UTC"))})
    answer = sql({"ticks": ticks}, "SELECT ts, epoch_ns(ts) AS ns FROM ticks")
    assert answer.schema == {"ts": TS, "ns": pl.Int64()}
    assert answer["ns"].item() == 1_000_000_007


def test_sql_difference_of_stamps_with_nulls_is_a_duration() -> None:
    stamps = pl.DataFrame({"a": [NOON, None, NOON], "b": [NOON + dt.timedelta(hours=30), NOON, NOON]})
    answer = sql({"stamps": stamps}, "SELECT b - a AS d FROM stamps")
    assert answer["d"].to_list() == [dt.timedelta(hours=30), None, dt.timedelta(0)]


@pytest.mark.parametrize(
    ("query", "names"),
    [("SELECT 1 AS a, 2 AS a, 3 AS a", ["a", "a_1", "a_2"]), ("SELECT 1 AS a, 2 AS a, 3 AS a_1", ["a", "a_2", "a_1"])],
)
def test_sql_columns_of_one_name_are_kept_apart(query: str, names: list[str]) -> None:
    assert sql({}, query).columns == names


@pytest.mark.parametrize(
    "query",
    ["FROM t", "VALUES (1)", "DESCRIBE t", "SUMMARIZE t", "SHOW TABLES", "EXPLAIN FROM t", "EXPLAIN ANALYZE FROM t",
     "PIVOT t ON a USING sum(b)", "WITH p AS (PIVOT t ON a USING sum(b)) FROM p", "UNPIVOT t ON b", "(SELECT 1);"],
)  # fmt: skip
def test_sql_every_reading_statement_is_let_through(query: str) -> None:
    assert sql({"t": pl.DataFrame({"a": ["x", "y"], "b": [1, 2]})}, query).height > 0


def test_sql_empty_answer_keeps_columns_and_types(export: Path) -> None:
    answer = sql(export, "SELECT symbol, ts, ts_end - ts AS d FROM bars WHERE false")
    assert answer.schema == {"symbol": pl.String(), "ts": TS, "d": pl.Duration("us")}
    assert answer.is_empty()


# --- Errors


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT symbol,\n  clsoe\nFROM bars", ["unknown column clsoe", "nearest: close", "LINE 2:   clsoe\n          ^^^^^"]),
        ("SELECT b.clsoe FROM bars b", ["unknown column clsoe", "nearest: close", "^^^^^"]),
        ("SELECT * FROM brs", ["unknown table brs", "nearest: bars", "LINE 1: SELECT * FROM brs\n                      ^^^"]),
        ("SELECT * FROM zzzzzz", ["unknown table zzzzzz", "tables: bars", "quality"]),
        ("SELECT bar.close FROM bars", ["unknown table bar", "nearest: bars"]),
        ('SELECT * FROM bars WHERE symbol = "SPY"', ["single quotes: 'SPY'"]),
        ("SELECT 'clsoe', clsoe FROM bars", ["LINE 1: SELECT 'clsoe', clsoe FROM bars\n" + " " * 24 + "^^^^^"]),
        ("SELEC 1", ["syntax error", "LINE 1: SELEC 1\n        ^^^^^"]),
        ("SELECT * FROM bars WHERE ts > 'soon'", ["'soon'", "LINE 1"]),
        ("SELECT CAST(2 AS HUGEINT) ** 70 :: HUGEINT * 1, CAST('99999999999999999999' AS HUGEINT)", ["64 bits"]),
        ("SELECT INTERVAL '1 month' AS m", ["m: an INTERVAL of months"]),
        ("SELECT error('mine') FROM bars", ["mine"]),
        ("", ["no statement"]),
    ],
)  # fmt: skip
def test_sql_mistake_points_at_the_place(export: Path, query: str, words: list[str]) -> None:
    with pytest.raises(QueryError) as raised:
        sql(export, query)
    for word in words:
        assert word in str(raised.value)
    assert str(export) not in str(raised.value)
    assert "Traceback" not in str(raised.value)


@pytest.mark.parametrize(
    "query",
    ["SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE hash(a.range) < hash(b.range)",
     "SELECT range FROM range(100000000000) WHERE hash(range) % 1000000 = 0"],
)  # fmt: skip
def test_sql_slow_query_is_stopped(query: str) -> None:
    with pytest.raises(QueryError, match=r"stopped after timeout_seconds=0\.3"):
        sql({}, query, timeout_seconds=0.3)


def test_sql_result_beyond_memory_is_stopped() -> None:
    with pytest.raises(QueryError, match="result is larger than memory=50MB"):
        sql({}, "SELECT range, range FROM range(10000000000)", memory="50MB")


def test_sql_query_beyond_memory_says_so() -> None:
    with pytest.raises(QueryError, match="needs more than memory=50MB"):
        sql({}, "SELECT list(range) FROM range(100000000)", memory="50MB")


@pytest.mark.parametrize(
    ("option", "value"),
    [("timeout_seconds", 0), ("timeout_seconds", float("nan")), ("threads", 0), ("memory", "lots"), ("memory", "-1GB")],
)
def test_sql_option_not_valid_is_named(option: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"{option}: received"):
        sql({}, "SELECT 1", **{option: value})


# --- Many threads


def test_pinned_many_row_groups_and_threads_give_the_right_sums(tmp_path: Path) -> None:
    rows = pl.DataFrame({"k": pl.int_range(600_000, eager=True), "v": pl.int_range(600_000, eager=True) * 7 % 1001})
    files = {}
    for number, part in enumerate(rows.iter_slices(200_000)):
        files[f"{number}.parquet"] = tmp_path / f"{number}.parquet"
        part.write_parquet(files[f"{number}.parquet"], row_group_size=2_500)
    con = duckdb.connect(config={"threads": 4})
    con.register_filesystem(PinnedFiles(files))
    names = ", ".join(f"'{SCHEME}{name}'" for name in files)
    query = f"SELECT count(*), sum(k), sum(v), sum(k * v), max(hash(k, v)) FROM read_parquet([{names}])"  # noqa: S608
    expected = con.sql(query.replace(SCHEME, f"{tmp_path}/")).fetchall()
    assert expected[0][:3] == (rows.height, rows["k"].sum(), rows["v"].sum())
    assert all(con.sql(query).fetchall() == expected for _ in range(30))
    con.close()


def test_sql_threads_with_their_own_connections_give_right_answers(export: Path) -> None:
    expected = {query: sql(export, query) for query in QUERIES}
    asked = QUERIES * 2
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda query: sql(export, query), asked))
    for query, answer in zip(asked, answers, strict=True):
        assert_frame_equal(answer, expected[query])


def test_pinned_file_each_thread_has_its_own_position(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)) * 400)
    file = PinnedFile(path, "a")

    def reads(offset: int) -> list[bytes]:
        return [(file.seek(offset), file.read(2))[1] for _ in range(2000)]

    with ThreadPoolExecutor(4) as pool:
        for offset, found in zip((1, 300, 513, 90_000), pool.map(reads, (1, 300, 513, 90_000)), strict=True):
            assert set(found) == {path.read_bytes()[offset : offset + 2]}
    file.close()


# --- The sandbox


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path | str]:
    """An export among files that must not be read, and the places that statements name."""
    root = tmp_path.resolve()
    (root / "cwd").mkdir()
    for folder in (root, root / "cwd"):
        (folder / "canary.csv").write_text(f"a\n{WORD}\n")
    pl.DataFrame({"a": [WORD]}).write_parquet(root / "canary.parquet")
    export = root / "export"
    pin = _partitioned(export, ()).files("bars")[0]
    stray = pin.with_name("stray.parquet")
    pl.read_parquet(pin).with_columns(symbol=pl.lit(WORD)).write_parquet(stray)
    link = export / "link.csv"
    link.symlink_to(root / "canary.csv")
    monkeypatch.chdir(root / "cwd")
    monkeypatch.setenv("HOME", str(root / "cwd"))
    monkeypatch.setenv("ENGINE_CANARY", WORD)
    return {
        "root": root, "export": export, "pin": pin, "stray": stray, "link": link, "new": root / "made",
        "canary": root / "canary.csv", "canary_parquet": root / "canary.parquet",
        "pinned": f"{SCHEME}bars/{pin.parent.relative_to(export / 'bars')}/0.parquet",
    }  # fmt: skip


def _filled(hostile: Hostile, scene: dict[str, Path | str]) -> str:
    query = hostile.statement
    for name, value in scene.items():
        query = query.replace("{" + name + "}", str(value))
    return query


def _snapshot(root: Path) -> dict[str, tuple[int, int, str]]:
    return {
        str(path): (
            path.lstat().st_mtime_ns,
            path.lstat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(root.rglob("*"))
    }


def _pins(scene: dict[str, Path | str]) -> _Folders:
    pin = scene["pin"]
    assert isinstance(pin, Path)
    return _Folders([pin])


def _answers(con: duckdb.DuckDBPyConnection, query: str) -> Iterator[str]:
    canary_frame = pl.DataFrame({"a": [WORD]})  # DuckDB looks for tables among the caller's variables
    canary_text = canary_frame["a"].item()
    assert canary_text == WORD
    for statement in con.extract_statements(query):
        answer = con.sql(statement.query)
        if answer is not None:
            yield str(answer.to_arrow_table().to_pydict())


LIMITS = Limits(timeout_seconds=20, memory="60MB", threads=2)


def test_walls_hostile_statements_get_nothing_in_or_out(
    scene: dict[str, Path | str], capfd: pytest.CaptureFixture[str]
) -> None:
    pins = table_files(_pins(scene))
    before = _snapshot(Path(scene["root"]))
    wrong = []
    for hostile in HOSTILE:
        query, seen, outcome = _filled(hostile, scene), "", "harmless"
        try:
            with open_sandbox(pinned_catalog(pins), {}, LIMITS) as con:
                for text in _answers(con, query):
                    seen += text
        except (duckdb.Error, OSError, ValueError):
            outcome = REFUSED
        if hostile.forbids(outcome, hostile.walls):
            wrong.append(f"{outcome}: {query}")
        if WORD in seen or str(scene["root"]) in seen.replace(query, ""):
            wrong.append(f"gave away: {query}")
        if (after := _snapshot(Path(scene["root"]))) != before:
            wrong.append(f"changed a file: {query}")
            before = after
    assert wrong == []
    assert WORD not in "".join(capfd.readouterr())


def test_sql_hostile_statements_are_answered_as_the_table_says(scene: dict[str, Path | str]) -> None:
    before = _snapshot(Path(scene["root"]))
    canary_frame = pl.DataFrame({"a": [WORD]})
    wrong = []
    for hostile in HOSTILE:
        query, outcome = _filled(hostile, scene), "harmless"
        try:
            seen = str(sql(_pins(scene), query, timeout_seconds=20, memory="60MB").to_dict(as_series=False))
        except QueryError as error:
            outcome, seen = REFUSED, str(error).replace(query, "")
        if hostile.forbids(outcome, hostile.door) or WORD in seen:
            wrong.append((query, seen))
    assert wrong == []
    assert _snapshot(Path(scene["root"])) == before
    assert canary_frame["a"].item() == WORD


@pytest.mark.parametrize("source", ["export", "frames"])
def test_walls_all_statements_on_one_connection_get_nothing(scene: dict[str, Path | str], source: str) -> None:
    # What an earlier statement left (a table, a macro, a prepared statement) opens no door for a later one.
    before = _snapshot(Path(scene["root"]))
    pins = table_files(_pins(scene))
    frames = {"bars": pl.read_parquet(scene["pin"]), "quality": pl.DataFrame({"symbol": ["SPY"]})}
    scenes = {"export": (pinned_catalog(pins), {}), "frames": (frame_catalog(frames), frames)}
    seen = []
    with open_sandbox(*scenes[source], LIMITS) as con:
        for hostile in HOSTILE:
            try:
                seen += list(_answers(con, _filled(hostile, scene)))
            except (duckdb.Error, OSError, ValueError):
                with suppress(duckdb.Error):
                    con.execute("ROLLBACK")
    assert WORD not in "".join(seen)
    assert _snapshot(Path(scene["root"])) == before


def test_hostile_table_has_teeth(scene: dict[str, Path | str]) -> None:
    # The same statements do harm in an ordinary connection: they are not refused for a slip of the pen.
    root = Path(scene["root"])
    whole = _contents(root)
    gave_away = changed = 0
    for hostile in (*READS, *WRITES):
        query, seen = _filled(hostile, scene), ""
        if "/dev/" in query or "://" in query:
            continue
        with connect(_pins(scene)) as con, suppress(duckdb.Error, OSError):
            con.execute("SET autoinstall_known_extensions=false")
            seen = "".join(_answers(con, query))
        gave_away += WORD in seen
        if _contents(root) != whole:
            changed += 1
            _restore(root, whole)
    assert gave_away >= 25
    assert changed >= 12


def _contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _restore(root: Path, whole: dict[Path, bytes]) -> None:
    for path in _contents(root):
        if path not in whole:
            path.unlink()
    shutil.rmtree(root / "made", ignore_errors=True)
    for path, data in whole.items():
        path.write_bytes(data)


GONE = {"logging_storage", "logging_sink"}  # the one of 2.0.0, the other of 2.0.1


def test_hostile_settings_exist_and_statements_parse() -> None:
    con = duckdb.connect()
    known = {name for (name,) in con.execute("SELECT name FROM duckdb_settings()").fetchall()}
    named = [h.statement.split()[1] for h in SETTINGS if h.statement.startswith("SET ") and h.statement.count(" ") == 3]
    assert len(named) > 25
    assert set(named) - known <= GONE
    for hostile in HOSTILE:
        assert con.extract_statements(hostile.statement), hostile.statement
    con.close()


def test_sandbox_settings_are_shut_and_no_path_of_the_machine_shows(export: Path) -> None:
    settings = dict(sql(export, "SELECT name, value FROM duckdb_settings()").rows())
    assert settings["lock_configuration"] == "true"
    assert settings["enable_external_access"] == "false"
    assert settings["python_enable_replacements"] == "false"
    assert settings["temp_directory"] == ""
    assert settings["allowed_directories"] == f"['{SCHEME}']"
    assert settings["allowed_paths"] == "[]"
    machine = [
        value for value in map(str, settings.values()) if str(Path.home()) in value or str(export.parent) in value
    ]
    assert machine == []


WRITING = ("rm", "rm_file", "rmdir", "mv", "rename", "move", "copy", "cp", "cp_file", "touch", "mkdir", "makedirs",
           "put", "put_file", "get", "get_file", "pipe", "pipe_file", "delete", "write_bytes", "write_text")  # fmt: skip


@pytest.mark.parametrize("method", WRITING)
def test_pinned_files_every_way_to_change_is_refused(tmp_path: Path, method: str) -> None:
    (tmp_path / "a").write_bytes(b"a")
    files = PinnedFiles({"a": tmp_path / "a"})
    with pytest.raises(PermissionError, match="refused"):
        getattr(files, method)("a", str(tmp_path / "b"))
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a"]


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b", "xb", "w"])
def test_pinned_files_open_for_writing_is_refused(tmp_path: Path, mode: str) -> None:
    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(PermissionError, match="refused"):
        PinnedFiles({"a": tmp_path / "a"}).open("pinned://a", mode)
    assert (tmp_path / "a").read_bytes() == b"a"


@pytest.mark.parametrize("name", ["b", "../a", "/a", "./a", "a/", "A", "*", "a*", "", "a/../a"])
def test_pinned_files_other_name_is_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    files = PinnedFiles({"a": tmp_path / "a"})
    assert files.glob(SCHEME + name) == []
    assert not files.exists(SCHEME + name)
    assert not files.isfile(SCHEME + name)
    with pytest.raises(FileNotFoundError):
        files.open(SCHEME + name)


def test_pinned_file_is_closed_when_a_query_ends(export: Path) -> None:
    sql(export, "FROM bars LIMIT 1")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for query in QUERIES:
        sql(export, query)
    with pytest.raises(QueryError):
        sql(export, "SELECT error('x') FROM bars")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_sql_in_a_process_of_its_own_ends_quietly(export: Path) -> None:
    code = "import sys; from engine.query import sql; print(sql(sys.argv[1], 'SELECT count(*) FROM bars').item())"
    done = subprocess.run([sys.executable, "-c", code, str(export)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(_tables()["bars"].height)
    assert done.stderr == ""


def test_every_type_of_the_contract_has_a_name_in_sql() -> None:
    assert {table: len([sql_type(dtype) for dtype in TABLES[table].values()]) for table in DATA_TABLES}


def test_sql_over_files_of_the_target_and_files_beside_it_reads_each(tmp_path: Path) -> None:
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    pl.DataFrame({"x": [1]}).write_parquet(one)
    pl.DataFrame({"x": [2]}).write_parquet(two)
    assert sql({"a": one}, "SELECT a.x AS ax, b.x AS bx FROM a, b", also={"b": two}).row(0) == (1, 2)
