"""A store to an export: what changed since the last one, or everything, one batch of rows after the other.

1. `why_full` says whether the last revision of the target can be built on.
2. `_changes` asks the panels for rows that the store wrote since (unless they are very many: `_is_mostly_new`), and for bars whose window has ended since; gaps
   and quality come by session. Former rows of their keys go (`edits.edit`).
3. `_everything` writes all rows, symbol by symbol within month within interval, a batch at a time (`ROWS_PER_BATCH`; less
   than two of them, or one session of one symbol). Two are being encoded while the next one is made.

The tables that do not grow with the rows (`sessions`, `calendars`, `symbols`) are compared with what was there.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import polars as pl

from engine.export.dataset import LOCK_TIMEOUT_SECONDS, Plan, State, Work, revise
from engine.export.parquet import StagedFile, stage, stage_batches
from engine.export.table_edits import Edit, TableFiles, edit
from engine.export.tables import DATA_TABLES, KEYS, TABLES, shaped
from engine.schema import REJECTS, Kind, empty
from engine.store.panel import Panel
from engine.store.panel_key import PanelKey
from engine.store.snapshot import Snapshot

ROWS_PER_BATCH = 1 << 20
MOST_CHANGED = 8 * ROWS_PER_BATCH  # rows that are held at once
MOST_CHANGED_SHARE = 8  # of fewer than an eighth of all, holding them costs less than writing everything

STREAMS: tuple[Kind, ...] = ("bars", "quotes", "ticks", "open_interest")
STORED: tuple[Literal["gaps", "quality"], ...] = ("gaps", "quality")
SCOPE = ("symbol", "price_type", "interval", "session")


def export_snapshot(
    snapshot: Snapshot,
    target: Path,
    *,
    written_at: dt.datetime,
    full: bool = False,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> int:
    """Write a store as the target's next revision; only what changed, where the last one can be built on.

    Parameters
    ----------
    snapshot : Snapshot
        Bars whose window is not over are left out.
    target : Path
        A folder that is new, empty, or an export.
    written_at : datetime
        Aware; goes into `exports`.
    full : bool
        Write every table anew. Rows that did not change keep their revision.
    lock_timeout : float
        Seconds to wait for another exporter of this target.

    Returns
    -------
    int
        The target's revision. Its row in `exports` has the one it builds on in `since_revision`.

    Raises
    ------
    SchemaError
        A value has no place in an export (a float that is not finite).
    ExportError
        The target is something else, somebody else is writing to it, or it cannot be written; the former
        revision is what it was.
    """
    state = State(snapshot.store_id, snapshot.revision, written_at, snapshot.as_of)
    return revise(target, partial(_plan, snapshot, full=full), state, lock_timeout)


def why_full(snapshot: Snapshot, exports: pl.DataFrame | None) -> str | None:
    """Why the last of `exports` cannot be built on; None when it can."""
    if exports is None:
        return "there is no revision"
    last = exports.row(-1, named=True)
    if last["store_id"] != snapshot.store_id:
        return f"revision {last['revision']} is of another store"
    if last["store_revision"] > snapshot.revision or _instant(last["as_of"]) > _instant(snapshot.as_of):
        return f"revision {last['revision']} is of a later state of the store"
    if last["store_revision"] < snapshot.change_log.start_revision:
        return f"the store's log begins after revision {last['revision']}"
    return None


def _plan(snapshot: Snapshot, work: Work, *, full: bool) -> Plan:
    former = None if work.former is None else work.former.exports
    small = {
        name: work.replaced(name, list(_small(work, name, rows))) for name, rows in snapshot.small_tables().items()
    }
    if full or former is None or why_full(snapshot, former) is not None or _is_mostly_new(snapshot, former):
        large = [name for name in DATA_TABLES if name not in small]
        return Plan({**{name: work.replaced(name, list(_everything(snapshot, work, name))) for name in large}, **small})
    last = former.row(-1, named=True)
    changes = {}
    for name, change in _changes(snapshot, work, last["store_revision"], last["as_of"]):
        assert work.former is not None  # noqa: S101 - `former` comes from it
        if change.is_empty:
            continue
        files = TableFiles(work.target / name, work.former.statistics(name))
        changes[name] = work.edited(name, *edit(name, change, files, work.staging))
    if any(revision > last["store_revision"] for _, revision in snapshot.change_log.removals):
        # With a symbol its conflicts went: rejects have no key by which rows could be taken out.
        changes["rejects"] = work.replaced("rejects", list(_everything(snapshot, work, "rejects")))
    return Plan({**changes, **small}, since=last["revision"])


def _is_mostly_new(snapshot: Snapshot, former: pl.DataFrame) -> bool:
    # What changed is held at once, what is written anew a batch at a time: a year more of data is written anew.
    since = former["store_revision"].item(-1)
    held = [(part.rows.height, part.newest) for panel in snapshot.panels.values() for part in panel.sorted_runs]
    new = sum(rows for rows, newest in held if newest > since)
    return new > MOST_CHANGED and MOST_CHANGED_SHARE * new > sum(rows for rows, _ in held)


def _everything(snapshot: Snapshot, work: Work, name: str) -> Iterator[StagedFile]:
    fitting = (shaped(name, rows) for rows in batches(snapshot, name))
    stamped = (work.chain.stamped(name, rows, work.rows(name)) for rows in fitting)
    yield from stage_batches(name, stamped, work.staging)


def _small(work: Work, name: str, rows: pl.DataFrame) -> Iterator[StagedFile]:
    fitting = shaped(name, rows if rows.height else None)
    yield from stage(name, work.chain.stamped(name, fitting, work.rows(name)), work.staging)


def batches(snapshot: Snapshot, name: str) -> Iterator[pl.DataFrame]:
    """Give a table's rows with the store's revisions, a file's worth at a time, each of one folder, in the files' order.

    Parameters
    ----------
    snapshot : Snapshot
    name : str
        Any but the tables of `Snapshot.small_tables`.
    """
    if name in STORED:
        yield snapshot.outcomes("gaps" if name == "gaps" else "quality")
    elif name == "rejects":
        yield pl.concat([empty(REJECTS), *snapshot.rejects])
    else:
        kind = next(kind for kind in STREAMS if kind == name)
        for keys in _together(snapshot.panels_of(kind)):
            for month, series in _shares(snapshot, keys, by_month=kind != "open_interest"):
                yield pl.concat([_shown(snapshot, key, _part(snapshot.panels[key], month, series)) for key in keys])


def _together(keys: Sequence[PanelKey]) -> list[list[PanelKey]]:
    """Panels whose rows share folders: those of one interval."""
    intervals = dict.fromkeys(key.interval for key in keys)
    return [[key for key in keys if key.interval == interval] for interval in intervals]


def _shares(
    snapshot: Snapshot, keys: Sequence[PanelKey], *, by_month: bool
) -> Iterator[tuple[tuple[dt.date, dt.date] | None, list[int] | None]]:
    """Which sessions and series make a batch; None stands for all of them."""
    parts = (part for key in keys for part in snapshot.panels[key].parts)
    counts = pl.concat(
        [_counted(piece) for part in parts for piece in [part.clear(), *part.iter_slices(ROWS_PER_BATCH)]]
    )
    month = pl.col("session").dt.month_start() if by_month else pl.lit(None, pl.Date)
    days = (
        counts.join(snapshot.series, on="series").group_by(month.alias("month"), "symbol", "session")
        .agg(pl.col("rows").sum(), "series").sort("month", "symbol", "session")
    )  # fmt: skip
    shares = (
        cut(days)
        .group_by("month", "turn", "cut", maintain_order=True)
        .agg(pl.col("series").explode(), pl.col("session").min().alias("first"), pl.col("session").max().alias("last"))
    )
    alone = shares.select((pl.len().over("month") == 1).alias("alone"))["alone"]
    for row, is_alone in zip(shares.iter_rows(named=True), alone, strict=True):
        in_all = is_alone and not by_month
        yield None if in_all else (row["first"], row["last"]), None if is_alone else sorted(set(row["series"]))


def cut(days: pl.DataFrame) -> pl.DataFrame:
    """Cut days into batches of about `ROWS_PER_BATCH`.

    Parameters
    ----------
    days : DataFrame
        `month, symbol, session, rows` and any others, sorted by the first three.

    Returns
    -------
    DataFrame
        The same with two numbers, `turn` and `cut`, that change where a batch ends.
    """
    of_symbol = ["month", "symbol"]
    # In a column of its own: a window inside a window would count within the inner one's groups.
    counted = days.with_columns((pl.col("rows").cum_sum() - pl.col("rows")).over("month").alias("ahead"))
    # A symbol that fills a batch alone is cut at its sessions; others are taken together, each of them whole.
    sized = counted.with_columns(
        (pl.col("rows").sum().over(of_symbol) > ROWS_PER_BATCH).alias("is_large"),
        (pl.int_range(pl.len()).over(of_symbol) == 0).alias("begins"),
        pl.col("ahead").first().over(of_symbol).alias("before"),
    )
    is_large = pl.col("is_large")
    turn = (pl.col("begins") & (is_large | is_large.shift(fill_value=False))).cum_sum()
    own = pl.col("ahead") - pl.col("before")
    share = pl.when(is_large).then(own).otherwise("before") // ROWS_PER_BATCH
    return sized.with_columns(turn.alias("turn"), share.alias("cut"))


def _counted(part: pl.DataFrame) -> pl.DataFrame:
    # Rows are in the order of series and time: runs of one session are counted without a hash of every row.
    begins = (pl.col("series") != pl.col("series").shift()) | (pl.col("session") != pl.col("session").shift())
    runs = part.select(pl.int_range(pl.len()).alias("at"), "series", "session").filter(begins.fill_null(value=True))
    return runs.select(
        "series", "session", (pl.col("at").shift(-1, fill_value=part.height) - pl.col("at")).alias("rows")
    )


def _part(held: Panel, span: tuple[dt.date, dt.date] | None, series: list[int] | None) -> pl.DataFrame:
    sessions = [part.sessions for part in held.sorted_runs if part.rows.height]
    # Most stores hold one month at a time, and a filter that keeps all rows copies them.
    if span is None or all(span[0] <= first and last <= span[1] for first, last in sessions):
        return held.where(pl.lit(value=True)) if series is None else held.of_series(series)
    inside = pl.col("session").is_between(*span)
    return held.where(inside) if series is None else held.of_series(series, inside)


def _shown(snapshot: Snapshot, key: PanelKey, rows: pl.DataFrame) -> pl.DataFrame:
    return snapshot.closed_bars(key, rows) if key.kind == "bars" else snapshot.raw_view(rows)


def _changes(snapshot: Snapshot, work: Work, since: int, was_as_of: dt.datetime | None) -> Iterator[tuple[str, Edit]]:
    gone = [symbol for symbol, revision in snapshot.change_log.removals if revision > since]
    removed = pl.DataFrame({"symbol": gone}, schema={"symbol": pl.String}).unique()
    for kind in STREAMS:
        yield kind, _rows_since(snapshot, work, kind, since, was_as_of, removed)
    touched = snapshot.changes(since).filter(pl.col("symbol").is_not_null(), ~pl.col("removed"))
    for name in STORED:
        yield name, _stored_since(snapshot, work, name, since, touched, removed)
    if not gone:
        written = work.former.rows("rejects") if work.former is not None and snapshot.rejects else 0
        refused = shaped("rejects", pl.concat([empty(REJECTS), *snapshot.rejects]).slice(written))
        yield "rejects", Edit(_new(refused, work))


def _rows_since(
    snapshot: Snapshot, work: Work, kind: Kind, since: int, was_as_of: dt.datetime | None, removed: pl.DataFrame
) -> Edit:
    frames = [empty(TABLES[kind])]
    for key in snapshot.panels_of(kind):
        fresh = snapshot.panels[key].since(since, _maybe_open(key, was_as_of))
        rows = shaped(kind, _shown(snapshot, key, fresh))
        frames.append(rows.filter(_is_new(kind, since, was_as_of)))
    come = _new(pl.concat(frames), work)
    return Edit(come, [come.select(KEYS[kind]), removed])


def _maybe_open(key: PanelKey, was_as_of: dt.datetime | None) -> dt.datetime | None:
    """An instant that no row of a window that was not over then lies before; None where there is none such."""
    if key.kind != "bars" or key.interval is None or was_as_of is None:
        return None
    # Ends of bars that are not derived are computed from their places; none lies two steps after the start.
    return was_as_of if key.origin == "derived" else was_as_of - dt.timedelta(seconds=2 * key.interval.seconds)


def _is_new(kind: Kind, since: int, was_as_of: dt.datetime | None) -> pl.Expr:
    written = pl.col("revision") > since
    return written | (pl.col("ts_end") > was_as_of) if kind == "bars" and was_as_of is not None else written


def _stored_since(
    snapshot: Snapshot, work: Work, name: Literal["gaps", "quality"], since: int, touched: pl.DataFrame, removed: pl.DataFrame
) -> Edit:  # fmt: skip
    scope = touched.filter(pl.col("kind") == name).select(SCOPE)
    now = shaped(name, snapshot.outcomes(name, scope))
    is_new = pl.col("revision") > since
    return Edit(_new(now.filter(is_new), work), [scope, removed], now.filter(~is_new).select(KEYS[name]))


def _new(rows: pl.DataFrame, work: Work) -> pl.DataFrame:
    return rows.with_columns(pl.lit(work.revision, pl.Int64).alias("revision"))


def _instant(as_of: dt.datetime | None) -> dt.datetime:
    return dt.datetime.max.replace(tzinfo=dt.UTC) if as_of is None else as_of
