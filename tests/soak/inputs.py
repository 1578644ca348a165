"""Mutated input files per format: flipped bits, truncations, and splices of two vendors' files.

Each file is found and read as `engine run` does it. Right is: rows, or an error of this package that names the file; of
text files every line is a bar, a reject, a header or a comment; and no more than five seconds.
"""

from __future__ import annotations

import bz2
import datetime as dt
import faulthandler
import gzip
import io
import json
import lzma
import random
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
from engine.errors import EngineError
from engine.sources.batch import Batch
from engine.sources.encodings import to_utf8
from engine.sources.options import ReadOptions
from engine.sources.read import read
from engine.sources.scan import scan
from engine.sources.text import normalize_bytes

from tests.soak.report import Line, first

SEED = 20_261
SLOWEST_SECONDS = 5.0
HUNG_SECONDS = 60.0
ROWS = 60
START = dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC)
BARS = [(START + dt.timedelta(minutes=n), 10.25 + n, 12.5 + n, 9.125 + n, 11.5 + n, 100 + 7 * n) for n in range(ROWS)]
OPTIONS = ReadOptions(timezone="America/New_York", symbol="SPY")


def frame() -> pl.DataFrame:
    return pl.DataFrame(BARS, schema=["timestamp", "open", "high", "low", "close", "volume"], orient="row")


def csv(delimiter: str = ",", stamp: str = "%Y-%m-%dT%H:%M:%SZ", end: str = "\n") -> bytes:
    lines = [delimiter.join(["timestamp", "open", "high", "low", "close", "volume"])]
    lines += [delimiter.join([ts.strftime(stamp), *map(str, cells)]) for ts, *cells in BARS]
    return (end.join(lines) + end).encode()


def quoted() -> bytes:
    rows = [f'"{ts:%m/%d/%Y}","{ts:%H:%M:%S}","{o}","{h}","{low}","{c}","{v}"' for ts, o, h, low, c, v in BARS]
    return "\r\n".join(["# exported", '"Date","Time","Open","High","Low","Close","Vol"', *rows]).encode()


def headerless() -> bytes:
    rows = []
    for ts, *cells in BARS:
        ms = int(ts.timestamp() * 1000)
        rows.append(",".join(map(str, [ms, *cells, ms + 59_999, 5, 7, 1, 2, 0])))
    return "\n".join(rows).encode()


def ndjson(names: str = "tohlcv", *, text: bool = False) -> bytes:
    keys = ["t", "o", "h", "l", "c", "v"] if names == "tohlcv" else ["time", "open", "high", "low", "close", "volume"]
    rows = [[f"{ts:%Y-%m-%dT%H:%M:%SZ}", *(map(str, cells) if text else cells)] for ts, *cells in BARS]
    return "\n".join(json.dumps(dict(zip(keys, row, strict=True))) for row in rows).encode()


def alpaca() -> bytes:
    return json.dumps({"bars": {"SPY": list(map(json.loads, ndjson().splitlines()))}, "next_page_token": None}).encode()


def twelve() -> bytes:
    values = list(map(json.loads, ndjson("long", text=True).splitlines()))
    return json.dumps(
        {"meta": {"symbol": "SPY", "interval": "1min"}, "values": values, "status": "ok"}, indent=1
    ).encode()


def klines() -> bytes:
    return json.dumps([line.split(",") for line in headerless().decode().splitlines()]).encode()


def chart() -> bytes:
    names = ["open", "high", "low", "close", "volume"]
    quote = {name: [bar[place] for bar in BARS] for place, name in enumerate(names, 1)}
    stamps = [int(bar[0].timestamp()) for bar in BARS]
    result = {"meta": {"symbol": "SPY"}, "timestamp": stamps, "indicators": {"quote": [quote]}}
    return json.dumps({"chart": {"result": [result], "error": None}}).encode()


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    target = io.BytesIO()
    write(target)
    return target.getvalue()


def parquet(compression: str = "zstd") -> bytes:
    return written(lambda target: frame().write_parquet(target, compression=compression, row_group_size=20))


def pandas_parquet() -> bytes:
    return written(lambda target: frame().to_pandas().set_index("timestamp").to_parquet(target))


def workbook(*, texts: bool = False) -> bytes:
    stamps = pl.col("timestamp").dt.replace_time_zone(None)
    table = frame().with_columns(stamps.dt.to_string("%Y-%m-%d %H:%M:%S") if texts else stamps)
    return written(table.write_excel)


def zipped(members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    def write(target: io.BytesIO) -> None:
        with zipfile.ZipFile(target, "w", packing) as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return written(write)


def lean(kind: str) -> bytes:
    rows = "".join(f"{34_200_000 + 60_000 * n},102500,125000,91250,115000,100\n" for n in range(ROWS))
    return zipped({f"20240102_spy_minute_{kind}.csv": rows.encode()})


def dbn(schema: str = "ohlcv-1m") -> bytes:
    from tests.sources.vendors import test_dbn  # noqa: PLC0415 - only this format needs the vendor's library

    mappings = {"SPY": [test_dbn.spans(1)]}
    if schema == "trades":
        start = test_dbn.START_NS
        times = [start + n * 10**9 for n in range(ROWS)]
        return test_dbn.encoded(
            schema, mappings, [test_dbn.trades([1] * ROWS, times, [10.5] * ROWS, list(range(ROWS)))]
        )
    block = test_dbn.block(
        test_dbn.dbn.OHLCVMsg,
        33,
        instrument_id=[1] * ROWS,
        ts_event=[test_dbn.START_NS + n * 60 * 10**9 for n in range(ROWS)],
        **{name: [int(10.5e9)] * ROWS for name in ("open", "high", "low", "close")},
        volume=[100] * ROWS,
    )
    return test_dbn.encoded(schema, mappings, [block])


LEAN = "equity/usa/minute/spy/20240102_trade.zip"
# Format -> (name of the file, files of two or more vendors).
FORMATS: dict[str, tuple[str, Callable[[], list[bytes]]]] = {
    "csv": ("SPY_1m.csv", lambda: [csv(), csv(";", "%Y-%m-%d %H:%M:%S", "\r\n"), quoted(), headerless(), csv("\t")]),
    "utf-16": ("SPY_1m.csv", lambda: [csv().decode().encode("utf-16"), quoted().decode().encode("utf-16-le"), csv()]),
    "gzip": ("SPY_1m.csv.gz", lambda: [gzip.compress(csv()), gzip.compress(quoted())]),
    "bzip2": ("SPY_1m.csv.bz2", lambda: [bz2.compress(csv()), bz2.compress(headerless())]),
    "xz": ("SPY_1m.csv.xz", lambda: [lzma.compress(csv()), lzma.compress(quoted())]),
    "zstandard": ("SPY_1m.csv.zst", lambda: [zstd(csv()), zstd(headerless())]),
    "zip": (
        "SPY_1m.zip",
        lambda: [
            zipped({"SPY_1m.csv": csv(), "QQQ_1m.csv": quoted()}),
            zipped({"SPY-1m-2024-01-02.csv": headerless()}, zipfile.ZIP_LZMA),
            zipped({"SPY.ndjson": ndjson(), "readme.txt": b"about"}, zipfile.ZIP_STORED),
        ],
    ),
    "ndjson": ("SPY_1m.ndjson", lambda: [ndjson(), ndjson("long", text=True)]),
    "json": ("SPY_1m.json", lambda: [alpaca(), twelve(), klines(), chart(), ndjson()]),
    "parquet": ("SPY_1m.parquet", lambda: [parquet(), parquet("uncompressed"), pandas_parquet()]),
    "arrow": (
        "SPY_1m.arrow",
        lambda: [
            written(lambda target: frame().write_ipc(target, compression="zstd")),
            written(lambda target: frame().write_ipc(target, compression="uncompressed")),
            written(lambda target: frame().write_ipc_stream(target)),
        ],
    ),
    "excel": ("SPY_1m.xlsx", lambda: [workbook(), workbook(texts=True)]),
    "lean": (LEAN, lambda: [lean("trade"), lean("quote")]),
    "dbn": ("SPY.dbn", lambda: [dbn(), dbn("trades"), gzip.compress(dbn())]),
}


def zstd(data: bytes) -> bytes:
    import pyarrow as pa  # noqa: PLC0415

    return pa.compress(data, codec="zstd", asbytes=True)


def mutate(vendors: list[bytes], chance: random.Random) -> tuple[str, bytes]:
    """(kind of mutation, the file): bits flipped, cut off, bytes repeated, or the beginning of one and the end of another."""
    data = chance.choice(vendors)
    match chance.randrange(4):
        case 0:
            hurt = bytearray(data)
            for _ in range(chance.choice([1, 1, 2, 8, 64])):
                hurt[chance.randrange(len(hurt))] ^= 1 << chance.randrange(8)
            return "bits flipped", bytes(hurt)
        case 1:
            return "cut off", data[: chance.randrange(len(data))]
        case 2:
            start = chance.randrange(len(data))
            end = min(len(data), start + chance.choice([1, 16, 300]))
            return "bytes repeated", data[:end] + data[start:end] * chance.choice([1, 3]) + data[end:]
        case _:
            other = chance.choice(vendors)
            return "spliced", data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


def lines_lost(data: bytes, batch: Batch) -> list[int]:
    """Numbers of lines of a text file that are neither row nor reject, nor blank, comment, header or above one."""
    text = to_utf8(data, "")[0]
    # Only in delimited text a CR alone ends a line.
    lines = (normalize_bytes(text, "") if batch.source.endswith(".csv") else text).decode(errors="replace").split("\n")
    told = set(batch.frame["row"].to_list()) | set(batch.rejects["row"].to_list())
    lost = [number for number, line in enumerate(lines, 1) if line.strip() and number not in told]
    head = next((n for n, number in enumerate(lost) if number != n + 1 and lines[number - 1][:1] != "#"), len(lost))
    headers = {line.strip() for line in lines[: max(lost[:head], default=0)]}
    if not told and any("no row" in note for note in batch.notes):
        return []
    return [number for number in lost[head:] if lines[number - 1].strip() not in headers]


def try_file(path: Path, data: bytes, *, is_lines: bool) -> tuple[str, str | None]:
    """(what came of it, what was wrong with that or None)."""
    begin = time.monotonic()
    faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True)
    wrong = None
    try:
        files, problems = scan([path.parent if path.suffix != ".zip" or "equity" not in path.parts else path], OPTIONS)
        batches = [batch for file in files for batch in read(file, OPTIONS)]
        outcome = "read" if batches else "refused"
        reasons = [problem.reason for problem in [*problems, *(one for batch in batches for one in batch.problems)]]
        # A schema of Databento without bars is passed over by its name.
        if not batches and not any(not problem.ignored or "holds no bars" in problem.reason for problem in problems):
            wrong = "vanished"
        if is_lines and len(batches) == 1 and (lost := lines_lost(data, batches[0])):
            wrong = f"lines lost: {lost[:5]}"
    except EngineError as error:
        outcome, reasons = "refused", [str(error)]
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        outcome, reasons, wrong = "raised", [], f"{type(error).__name__}: {error}"
    finally:
        faulthandler.cancel_dump_traceback_later()
    if any("defect of engine" in reason for reason in reasons):
        wrong = reasons[0]
    if (taken := time.monotonic() - begin) > SLOWEST_SECONDS:
        wrong = f"took {taken:.1f} s"
    return outcome, wrong


def fuzz_inputs(folder: Path, count: int) -> list[Line]:
    """Read so many mutated files of each format; wrong ones are kept in `folder`.

    Parameters
    ----------
    folder : Path
        Empty.
    count : int
        Files per format.
    """
    return [fuzz_format(folder / name, name, count) for name in FORMATS]


def fuzz_format(folder: Path, name: str, count: int, seed: int = SEED) -> Line:
    """Read mutated files of one format; the same ones in every run."""
    place, make = FORMATS[name]
    vendors, chance = make(), random.Random(f"{seed} {name}")  # noqa: S311 - the same in every run
    path = folder / "files" / place
    path.parent.mkdir(parents=True)
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    for number in range(count):
        kind, data = mutate(vendors, chance)
        path.write_bytes(data)
        outcome, wrong = try_file(path, data, is_lines=name in ("csv", "ndjson"))
        outcomes[f"{kind}: {outcome}"] += 1
        if wrong is not None:
            (folder / f"{number}-{path.name}").write_bytes(data)
            failures.append(f"{name} {number}, {kind}: {wrong}")
    seen = tuple(f"{outcome} {times:,}" for outcome, times in sorted(outcomes.items()))
    return Line(f"mutated input files: {name}", count, len(failures), seen, first(failures))
