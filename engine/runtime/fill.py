"""Bars for lost slots of an export from a second source, as a new revision that can be taken back.

1. `lost_slots.caused_gaps` audits the export; of its gaps those that were lost are asked for.
2. `read_other` reads the second source on the export's own axes.
3. `audit.source_agreement` compares both around each hole: it is `refused` where they disagree, `empty` where the source
   has no bar in it, else `answered`, run by run. Each answer is a row of the table `fills`.
4. `changed_tables` computes the touched sessions again from the base bars with those that came, by the code of a run
   (`export_repair.recompute_tables`), and keeps of the former rows what cannot be computed (causes, retries, duplicates).
5. `commit_revision` writes what changed. Another revision that came between is noticed under the lock, and all is done anew.

`drop_fill` takes the bars and the answers of a source out again: what is left is computed in the same way.
"""

from __future__ import annotations

import datetime as dt
import glob
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from engine.arguments import Names, check_known, names_of, path_of
from engine.audit.source_agreement import PRICES, TOLERANCE, Sides, answer_runs, compare_around
from engine.audit.vendor_requests import REQUESTED
from engine.clock import Clock, WallClock
from engine.errors import EngineError, ExportError, ParameterError, UnknownSymbolError
from engine.export.dataset import Dataset, RevisionDraft, RevisionPlan, StoreState, commit_revision, open_dataset
from engine.export.maintenance.repair import with_stored_columns
from engine.export.row_revisions import keep_known_revisions
from engine.export.table_edits import RowChanges, TableFiles, stage_changes
from engine.export.tables import DATA_TABLES, FILLS, KEYS, TABLES, conform_table
from engine.export.target_folder import LOCK_TIMEOUT_SECONDS, is_export
from engine.interval import Interval
from engine.runtime.export_repair import Axis, recompute_tables
from engine.runtime.load import load_files
from engine.runtime.lost_slots import caused_gaps
from engine.runtime.options import CalendarMap, LoadOptions
from engine.runtime.processor import derive_session
from engine.schema import ROWS, empty
from engine.sources.options import ReadOptions

FILLED = "+filled"  # what was filled is no state of its store any more: its next export writes everything
ATTEMPTS = 3
NO_BAR = "it has no bar in these slots"
SERIES = ["symbol", "price_type"]
STATE = ("state", "retry_count", "last_retry", "next_retry")
OTHER_BARS = (*SERIES, "ts", "ts_end", *ROWS["bars"].keys() - {"symbol", "price_type", "ts"})


@dataclass(frozen=True)
class Filled:
    """Result of a fill or of its removal.

    Attributes
    ----------
    revision : int
        The export's last revision; the former one where nothing changed.
    fills : DataFrame
        What was asked in this call and how each request ended (`tables.FILLS` without `revision`); of `drop_fill`, what went.
    bars : int
        Bars that came, or went.
    is_written : bool
        Whether there is a new revision.
    """

    revision: int
    fills: pl.DataFrame
    bars: int
    is_written: bool


class _Plan(NamedTuple):
    """New content of an export: bars that come, keys of bars that go, the whole table `fills`, and what to report."""

    added: pl.DataFrame
    removed: pl.DataFrame
    fills: pl.DataFrame
    report: pl.DataFrame


class _MovedOnError(EngineError):
    """Another revision came while this one was prepared."""


def fill(
    target: str | Path,
    other: str | Path,
    *,
    name: str | None = None,
    symbols: Names | None = None,
    causes: Sequence[str] = REQUESTED,
    tolerance: float = TOLERANCE,
    read: ReadOptions | None = None,
    dry_run: bool = False,
    clock: Clock | None = None,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> Filled:
    """Fill lost slots of an export from a second source where both agree around the hole; a new revision if any answer is new.

    Parameters
    ----------
    target : str or Path
        The export.
    other : str or Path
        A file, a folder, or an export. Symbols may differ in case.
    name : str, optional
        What `fills.source` calls it; default `other` as it is written here.
    symbols : str or list of str, optional
        Only these.
    causes : sequence of str
        Which gaps; default those of bars that were lost, refused or off the grid.
    tolerance : float
        Greatest relative difference of prices around a hole (`source_agreement`).
    read : ReadOptions, optional
        How to read the second source.
    dry_run : bool
        Compare and report, write nothing.
    clock : Clock, optional
        Stamps the revision; default the machine's.
    lock_timeout : float
        Seconds to wait for an exporter of this target.

    Returns
    -------
    Filled

    Raises
    ------
    ExportError
        `target` is no export, somebody else writes to it, or it cannot be written.
    ParameterError
        An argument is not valid, or the source has none of the symbols.
    """
    target, other = path_of("target", target), path_of("other", other)
    if not 0 < tolerance < 1:
        raise ParameterError(f"tolerance: received {tolerance}; valid: a share above 0 and below 1, as 0.005")
    names = names_of("symbols", symbols)
    label = name or str(other)

    def plan(dataset: Dataset) -> _Plan:
        """Ask for the lost slots of this revision."""
        listed = dataset.scan("symbols").collect()
        if names is not None:
            check_known("symbols", names, listed["symbol"].to_list(), UnknownSymbolError)
        gaps = caused_gaps(target).gaps.filter(pl.col("cause").is_in(list(causes)))
        gaps = gaps if names is None else gaps.filter(pl.col("symbol").is_in(names))
        based = listed.select("symbol", pl.col("base_interval").alias("interval"))
        holes = gaps.join(based, on=["symbol", "interval"], how="semi").sort(*SERIES, "gap_start")
        former = dataset.scan("fills").collect().drop("revision")
        if holes.is_empty():
            return _Plan(empty(TABLES["bars"]), empty(TABLES["bars"]), former, former.clear())
        bars = read_other(
            other, listed.filter(pl.col("symbol").is_in(holes["symbol"].implode())), read or ReadOptions()
        )
        asked, added = ask(dataset, listed, holes, bars, label, tolerance)
        return _Plan(added, empty(TABLES["bars"]), with_answers(former, asked), asked)

    return _commit(target, plan, dry_run=dry_run, clock=clock, lock_timeout=lock_timeout)


def drop_fill(
    target: str | Path, source: str, *, clock: Clock | None = None, lock_timeout: float = LOCK_TIMEOUT_SECONDS
) -> Filled:
    """Take a source's bars and answers out of an export: its tables are those of before, in a new revision.

    Raises
    ------
    ParameterError
        Nothing was asked of a source of this name; the message lists those that there are.
    """
    target = path_of("target", target)

    def plan(dataset: Dataset) -> _Plan:
        """Keys of the bars that came from the source."""
        former = dataset.scan("fills").collect().drop("revision")
        known = former["source"].unique().sort().to_list()
        if source not in known:
            raise ParameterError(f"source: received {source!r}; {target} was filled from {', '.join(known) or 'none'}")
        ours = pl.col("source") == source
        runs = former.filter(ours, pl.col("outcome") == "answered")
        key = [*SERIES, "interval"]
        bars = dataset.scan("bars").filter(
            pl.col("provenance") == "fill", pl.col("symbol").is_in(runs["symbol"].unique().implode())
        )
        pairs = bars.join(runs.lazy().select(*key, "gap_start", "gap_end"), on=key)
        gone = pairs.filter(pl.col("ts").is_between("gap_start", "gap_end", closed="left")).select(list(TABLES["bars"]))
        return _Plan(empty(TABLES["bars"]), gone.collect(), former.filter(~ours), former.filter(ours))

    return _commit(target, plan, dry_run=False, clock=clock, lock_timeout=lock_timeout)


def answers(target: str | Path) -> pl.DataFrame:
    """Table `fills` of an export: what was asked of second sources, and how each request ended; sorted by its key."""
    return open_dataset(path_of("target", target)).scan("fills").collect().sort(KEYS["fills"])


def read_other(other: Path, symbols: pl.DataFrame, read: ReadOptions) -> pl.DataFrame:
    """Bars of a second source on the axes of these rows of `symbols`, with the export's names: `OTHER_BARS`, sorted.

    Where only the case of a symbol differs, and one alone does so, it is the same.
    """
    schema = {name: TABLES["bars"][name] for name in OTHER_BARS}
    if is_export(other):
        wanted = symbols.select(pl.col("symbol").str.to_lowercase().alias("folded"), "base_interval")
        found = open_dataset(other).scan("bars").with_columns(pl.col("symbol").str.to_lowercase().alias("folded"))
        named = found.join(
            wanted.lazy(), left_on=["folded", "interval"], right_on=["folded", "base_interval"], how="semi"
        )
        # The source's own bars of an interval go before those that were derived.
        bars = named.sort("origin", descending=True).select(*schema, "interval").collect()
        bars = bars.unique([*SERIES, "interval", "ts"], keep="first", maintain_order=True).select(list(schema))
        return named_as_ours(bars, symbols["symbol"]).sort(*SERIES, "ts")
    parts = [empty(schema)]
    axis = ["calendar", "segments", "align", "zone", "base_interval"]
    joined = symbols.with_columns(pl.col("segments").list.join("\x1f"))
    for (code, labels, align, _, base), rows in joined.group_by(axis, maintain_order=True):
        names = rows["symbol"].to_list()
        step = Interval.parse(str(base))
        spelled = tuple(dict.fromkeys(text for one in names for text in (one, one.lower(), one.upper())))
        options = LoadOptions(
            CalendarMap(str(code), tuple((glob.escape(one), str(code)) for one in names)),
            derive=(step,),
            segments=tuple(label for label in str(labels).split("\x1f") if label),
            align=str(align),  # type: ignore[arg-type] # as the export has it
            read=read if read.symbols or read.symbol else replace(read, symbols=spelled),
        )
        session = load_files(other, options).session
        derive_session(session)
        snapshot = session.snapshot()
        stored = pl.concat(
            [snapshot.bars_of(key) for key in snapshot.panels_of("bars") if key.interval == step] or [empty(schema)],
            how="diagonal_relaxed",
        )
        parts.append(named_as_ours(stored.select(list(schema)), rows["symbol"]))
    return pl.concat(parts).unique([*SERIES, "ts"], keep="first", maintain_order=True).sort(*SERIES, "ts")


def named_as_ours(bars: pl.DataFrame, symbols: pl.Series) -> pl.DataFrame:
    """Bars of these symbols: of equal names, else of the one name that differs in case alone."""
    theirs = bars.select("symbol").unique().with_columns(pl.col("symbol").str.to_lowercase().alias("folded"))
    ours = pl.DataFrame({"ours": symbols}).with_columns(pl.col("ours").str.to_lowercase().alias("folded"))
    pairs = ours.join(theirs, on="folded").with_columns((pl.col("ours") == pl.col("symbol")).alias("is_equal"))
    # One of equal spelling goes before others; where several differ in case, none can be told to be meant.
    best = pairs.filter(pl.col("is_equal") | (~pl.col("is_equal").any().over("ours") & (pl.len().over("ours") == 1)))
    return (
        bars.join(best.select("symbol", "ours"), on="symbol", maintain_order="left")
        .with_columns(pl.col("ours").alias("symbol"))
        .drop("ours")
    )


def ask(
    dataset: Dataset, symbols: pl.DataFrame, holes: pl.DataFrame, bars: pl.DataFrame, label: str, tolerance: float
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(answers: rows of `FILLS` without `revision`; bars that fill, as base bars) of each hole of the export."""
    steps = {row["symbol"]: row for row in symbols.iter_rows(named=True)}
    known = pl.concat([dataset.scan("gaps").collect().drop("revision"), original_gaps(dataset.scan("fills").collect())])
    answers, added = [], [empty(TABLES["bars"])]
    for (symbol, price_type), own in holes.group_by(*SERIES, maintain_order=True):
        of_series = (pl.col("symbol") == symbol) & (pl.col("price_type") == price_type)
        about = steps[str(symbol)]
        step = Interval.parse(about["base_interval"])
        ours = dataset.scan("bars").filter(
            of_series,
            pl.col("interval") == about["base_interval"],
            pl.col("provenance").is_in(["source", "backfill"]),
        )
        theirs = bars.filter(of_series)
        sides = Sides(ours.select("ts", *PRICES, "volume").sort("ts").collect(), theirs)
        numbered = own.with_row_index("hole")
        compared = compare_around(numbered, sides, step.seconds * 1_000_000, tolerance)
        for hole, refusal in zip(numbered.iter_rows(named=True), compared["refusal"], strict=True):
            first, last = (theirs["ts"].search_sorted(hole[edge]) for edge in ("gap_start", "gap_end"))
            inside = theirs.slice(first, last - first)
            why = "base: it is made of ticks or quotes" if about["base_from"] != "bars" else refusal
            if step.is_intraday:
                inside = inside.filter(
                    (pl.col("ts") - hole["gap_start"]).dt.total_microseconds() % (step.seconds * 1_000_000) == 0
                )
            runs: list[tuple[dt.datetime | None, dt.datetime | None, int]] = [(None, None, 0)]
            if theirs.is_empty():
                why = f"it has no bars of {about['base_interval']} of this series"
                outcome = "empty"
            elif inside.is_empty() and not (why or "").startswith("stamps"):
                outcome = "empty"
                why = NO_BAR
            elif why is not None:
                outcome = "refused"
            else:
                outcome = "answered"
                runs = [*answer_runs_of(hole, inside)]
                added.append(as_base_bars(inside, about["base_interval"], hole))
            for start, end, count in runs:
                answers.append(answer_row(hole, (start, end, count), label, outcome, why, step))
    asked = pl.DataFrame(answers, schema={name: FILLS[name] for name in ANSWER}, orient="row")
    return with_original_gaps(asked, known), pl.concat(added)


ANSWER = (
    *("symbol", "price_type", "interval", "session", "segment", "gap_start", "gap_end", "bar_count", "cause"),
    *("source", "outcome", "detail"),
)


def answer_runs_of(hole: Mapping[str, dt.datetime], inside: pl.DataFrame) -> list[tuple[dt.datetime, dt.datetime, int]]:
    """Runs of a hole with and without bars, as instants."""
    bounds = pl.Series([hole["gap_start"], hole["gap_end"]]).to_physical().to_list()
    runs = answer_runs((bounds[0], bounds[1]), inside)
    edges = pl.Series([edge for start, end, _ in runs for edge in (start, end)], dtype=pl.Int64)
    instants = edges.cast(TABLES["bars"]["ts"]).to_list()
    return [(instants[2 * n], instants[2 * n + 1], count) for n, (_, _, count) in enumerate(runs)]


def answer_row(
    hole: Mapping[str, object],
    run: tuple[dt.datetime | None, dt.datetime | None, int],
    label: str,
    outcome: str,
    why: str | None,
    step: Interval,
) -> tuple[object, ...]:
    """Row of `ANSWER` of one run of a hole; a run without bars in an answered hole is `empty`."""
    start, end = run[0] or hole["gap_start"], run[1] or hole["gap_end"]
    count: object = run[2]
    if outcome != "answered":
        count = hole["bar_count"]
    elif not run[2]:
        outcome, why = "empty", NO_BAR
        count = -(-(end - start) // dt.timedelta(seconds=step.seconds))  # type: ignore[operator]
    about = [hole[name] for name in ANSWER[:5]]
    return (*about, start, end, count, hole["cause"], label, outcome, why)


def as_base_bars(inside: pl.DataFrame, interval: str, hole: Mapping[str, object]) -> pl.DataFrame:
    """Bars that fill a hole, as rows of the table `bars`."""
    return conform_table(
        "bars",
        inside.with_columns(
            pl.lit(interval).alias("interval"),
            pl.lit("source").alias("origin"),
            pl.lit(hole["session"], pl.Date).alias("session"),
            pl.lit(hole["segment"], pl.String).alias("segment"),
            *(pl.lit(None, TABLES["bars"][name]).alias(name) for name in ("n_base", "n_expected", "complete")),
            pl.lit(value=True).alias("final"),
            pl.lit("fill").alias("provenance"),
            pl.lit("filled").alias("verdict"),
        ),
    )


def with_original_gaps(asked: pl.DataFrame, gaps: pl.DataFrame) -> pl.DataFrame:
    """Answers with bounds, cause and retries of the longest of these gaps that each lies in: that of before any fill."""
    key = [*SERIES, "interval", "session"]
    former = gaps.select(
        *key,
        pl.col("gap_start").alias("original_start"),
        pl.col("gap_end").alias("original_end"),
        pl.col("cause").alias("original_cause"),
        *STATE,
    )
    pairs = asked.with_row_index("at").join(former, on=key, how="left")
    within = pairs.filter(
        (pl.col("original_start") <= pl.col("gap_start")) & (pl.col("original_end") >= pl.col("gap_end"))
    )
    length = pl.col("original_end") - pl.col("original_start")
    held = within.sort("at", -length.dt.total_microseconds(), maintain_order=True).unique(
        "at", keep="first", maintain_order=True
    )
    names = [name for name in FILLS if name != "revision"]
    return held.select(pl.col(name).cast(FILLS[name]) for name in names)


def with_answers(former: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Table `fills` with new answers in place of earlier ones of the same source that found nothing in the same slots."""
    key = [*SERIES, "interval", "source"]
    # The same answer again is the one that is there, with the gap that it was given for.
    same = ["gap_start", "gap_end", "outcome", "detail"]
    asked = asked.join(former, on=[*key, *same], how="anti", nulls_equal=True, maintain_order="left")
    spans = asked.select(*key, pl.col("gap_start").alias("new_start"), pl.col("gap_end").alias("new_end"))
    open_answers = former.with_row_index("at").filter(pl.col("outcome") != "answered")
    overlaps = open_answers.join(spans, on=key).filter(
        (pl.col("gap_start") < pl.col("new_end")) & (pl.col("gap_end") > pl.col("new_start"))
    )
    kept = former.with_row_index("at").join(overlaps.select("at").unique(), on="at", how="anti", maintain_order="left")
    return pl.concat([kept.drop("at"), asked]).sort(KEYS["fills"])


def _commit(
    target: Path, plan: Callable[[Dataset], _Plan], *, dry_run: bool, clock: Clock | None, lock_timeout: float
) -> Filled:
    """Plan on the last revision, and write it; anew where another revision came in between."""
    for attempt in range(ATTEMPTS):
        dataset = open_dataset(target)
        made = plan(dataset)
        former = dataset.scan("fills").collect().drop("revision").sort(KEYS["fills"])
        moved = made.added.height + made.removed.height
        if dry_run or (not moved and made.fills.equals(former)):
            return Filled(dataset.revision, made.report, moved, is_written=False)
        last = dataset.exports.row(-1, named=True)
        store_id = last["store_id"].removesuffix(FILLED) + (FILLED if made.fills.height else "")
        state = StoreState(store_id, last["store_revision"], (clock or WallClock()).now(), last["as_of"])
        changed = changed_tables(dataset, made)

        def stage_revision(
            draft: RevisionDraft, dataset: Dataset = dataset, changed: Mapping[str, RowChange] = changed
        ) -> RevisionPlan:
            """Stage the rows that changed, if nobody else wrote meanwhile."""
            if draft.former is None or draft.former.revision != dataset.revision:
                raise _MovedOnError(f"{target}: another revision came while revision {dataset.revision} was filled")
            changes = {}
            for table, change in changed.items():
                files = TableFiles(draft.target / table, dataset.statistics(table))
                rows = RowChanges(change.stamped(table, draft.revision), [change.gone.select(KEYS[table])])
                if not rows.is_empty:
                    changes[table] = draft.edited(table, *stage_changes(table, rows, files, draft.staging))
            return RevisionPlan(changes, since=dataset.revision)

        try:
            revision = commit_revision(target, stage_revision, state, lock_timeout)
        except _MovedOnError as error:
            if attempt + 1 == ATTEMPTS:
                raise ExportError(f"{error}; try again when nobody writes to it") from error
            continue
        return Filled(revision, made.report, moved, is_written=True)
    raise ExportError(f"{target}: could not be filled")


class RowChange(NamedTuple):
    """Rows of a table that are new or changed, and former rows that are gone or replaced."""

    rows: pl.DataFrame
    gone: pl.DataFrame

    def stamped(self, table: str, revision: int) -> pl.DataFrame:
        """The new rows with a revision, in the table's schema."""
        return conform_table(table, self.rows.with_columns(pl.lit(revision, pl.Int64).alias("revision")))


def changed_tables(dataset: Dataset, made: _Plan) -> dict[str, RowChange]:
    """Rows that change in each table when bars come or go: those of the sessions and windows that hold them."""
    former_fills = dataset.scan("fills").collect()
    changed = {"fills": row_change("fills", made.fills, former_fills)}
    moved = pl.concat([made.added, made.removed])
    for symbols in batches_of_symbols(dataset, moved["symbol"].unique().sort().to_list()):
        former = {table: rows_of(dataset, table, symbols) for table in DATA_TABLES if table != "fills"}
        ours = pl.col("symbol").is_in(symbols)
        key = list(KEYS["bars"])
        bars = former["bars"].join(made.removed.filter(ours).select(key), on=key, how="anti")
        stored = {
            name: rows.drop("revision", strict=False)
            for name, rows in {**former, "bars": pl.concat([bars, made.added.filter(ours)])}.items()
        }
        policy = stored["symbols"]["incomplete"].item(0)
        as_of = dataset.exports.row(-1, named=True)["as_of"]
        now = recompute_tables(stored, Axis("session", (), policy), {}, as_of)
        windows = touched_windows(moved.filter(ours), former["bars"], now["bars"])
        gaps = pl.concat([former["gaps"].drop("revision"), original_gaps(former_fills.filter(ours))])
        for table in ("bars", "gaps", "quality", "symbols"):
            rows, before = now[table], former[table]
            if table != "symbols":
                rows, before = (side.join(windows, on=windows.columns, how="semi") for side in (rows, before))
            if table == "gaps":
                rows = with_states(rows, gaps)
            if table == "quality":
                rows = with_stored_columns(table, rows, before)
            one = row_change(table, rows.drop("revision"), before)
            held = changed.get(table)
            changed[table] = one if held is None else RowChange(*map(pl.concat, zip(held, one, strict=True)))
    return changed


def batches_of_symbols(dataset: Dataset, symbols: Sequence[str], most_rows: int = 4 << 20) -> Iterator[list[str]]:
    """Yield the symbols in batches whose rows, as the table `symbols` counts them, are few enough to be held at once."""
    rows = dict(dataset.scan("symbols").select("symbol", "rows").collect().iter_rows())
    batch: list[str] = []
    held = 0
    for symbol in symbols:
        if batch and held + rows.get(symbol, 0) > most_rows:
            yield batch
            batch, held = [], 0
        batch.append(symbol)
        held += rows.get(symbol, 0)
    if batch:
        yield batch


def rows_of(dataset: Dataset, table: str, symbols: Sequence[str]) -> pl.DataFrame:
    """Rows of some symbols in a table; all of a table without symbols."""
    rows = dataset.scan(table)
    return (rows.filter(pl.col("symbol").is_in(list(symbols))) if "symbol" in TABLES[table] else rows).collect()


def row_change(table: str, rows: pl.DataFrame, former: pl.DataFrame) -> RowChange:
    """RowChange from former rows (with `revision`) to `rows` (without): equal ones stay as they are."""
    kept = keep_known_revisions(table, conform_table(table, rows), former, -1)
    changed = kept.filter(pl.col("revision") == -1)
    key = list(KEYS[table])
    same = kept.filter(pl.col("revision") != -1).select(key)
    return RowChange(changed.drop("revision"), former.join(same, on=key, how="anti", nulls_equal=True).drop("revision"))


def touched_windows(moved: pl.DataFrame, former: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """`symbol, price_type, interval, session` of the bars at every interval whose window holds a bar that came or went."""
    key = [*SERIES, "interval", "session"]
    stamps = moved.select(*SERIES, pl.col("ts").alias("at")).unique().sort("at")
    parts = [moved.select(key)]
    for bars in (former, now):
        for _, of_interval in bars.filter(pl.col("origin") == "derived").group_by("interval"):
            windows = of_interval.select(*key, "ts", "ts_end").sort("ts")
            held = stamps.join_asof(windows, left_on="at", right_on="ts", by=SERIES, check_sortedness=False)
            parts.append(held.filter(pl.col("at") < pl.col("ts_end")).select(key))
    return pl.concat(parts).unique()


def original_gaps(fills: pl.DataFrame) -> pl.DataFrame:
    """Gaps of before their slots were asked for, with cause and retries, in the columns of `gaps` that tell them apart."""
    named = fills.with_columns(
        pl.col("original_start").alias("gap_start"),
        pl.col("original_end").alias("gap_end"),
        pl.col("original_cause").alias("cause"),
    )
    lacking = [name for name in TABLES["gaps"] if name not in named.columns]
    return (
        named.with_columns(pl.lit(None, TABLES["gaps"][name]).alias(name) for name in lacking)
        .select(name for name in TABLES["gaps"] if name != "revision")
        .unique()
    )


def with_states(gaps: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Gaps with cause and retries of the known gap of equal bounds, else of the shortest that contains them."""
    key, stored = [*SERIES, "interval", "session"], ["cause", *STATE]
    numbered = gaps.with_row_index("at")
    within = known.select(*key, "gap_start", "gap_end", *stored)
    pairs = numbered.select("at", *key, "gap_start", "gap_end").join(within, on=key, suffix="_known")
    held = pairs.filter(
        (pl.col("gap_start_known") <= pl.col("gap_start")) & (pl.col("gap_end_known") >= pl.col("gap_end"))
    )
    nearest = (
        held.with_columns((pl.col("gap_end_known") - pl.col("gap_start_known")).alias("length"))
        .sort("at", "length", maintain_order=True)
        .unique("at", keep="first", maintain_order=True)
        .select("at", *stored, pl.lit(value=True).alias("is_known"))
    )
    joined = numbered.join(nearest, on="at", how="left", maintain_order="left", suffix="_known")
    kept = [pl.when(pl.col("is_known")).then(f"{name}_known").otherwise(name).alias(name) for name in stored]
    return joined.with_columns(kept).select(gaps.columns)
