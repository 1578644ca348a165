"""A store to an export: what changed since the last one, or everything, one batch of rows after the other.

1. `reason_for_full_export` says whether the last revision of the target can be built on.
2. `changes_since` asks the panels for rows that the store wrote since (unless they are very many: `is_mostly_new`), and
   for bars whose window has ended since; gaps and quality come by session. Former rows of their keys go
   (`table_edits.stage_changes`).
3. `stage_all_rows` writes all rows, symbol by symbol within month within interval, a batch at a time
   (`ROWS_PER_BATCH`; less than two of them, or one session of one symbol; several months, or years, where they are
   small). Two are being encoded while the next one is made.

The tables that do not grow with the rows (`sessions`, `calendars`, `symbols`) are compared with what was there.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl

from engine.arguments import location_of
from engine.errors import ExportError
from engine.export.coded_text import concat_coded
from engine.export.dataset import (
    Dataset,
    RevisionDraft,
    RevisionPlan,
    StoreState,
    TableChange,
    commit_revision,
    original_store,
)
from engine.export.folders import small_years, year_folders
from engine.export.parquet import Batch, StagedFile, stage, stage_batches
from engine.export.resumed_difference import difference_since
from engine.export.table_edits import RowChanges, TableFiles, stage_changes
from engine.export.tables import KEYS, PARTITION, SORT, TABLES, conform_table, sorted_rows
from engine.export.target_folder import LOCK_TIMEOUT_SECONDS, is_export
from engine.schema import REJECTS, Kind, empty
from engine.store.panel import Panel
from engine.store.panel_key import PanelKey
from engine.store.snapshot import Snapshot
from engine.store.views import with_series_names

if TYPE_CHECKING:
    from engine.export.row_revisions import RevisionChain

ROWS_PER_BATCH = 1 << 20
MOST_CHANGED = 8 * ROWS_PER_BATCH  # rows that are held at once
MOST_CHANGED_SHARE = 8  # of fewer than an eighth of all, holding them costs less than writing everything

STREAMS: tuple[Kind, ...] = ("bars", "quotes", "ticks", "open_interest")
STORED: tuple[Literal["gaps", "quality"], ...] = ("gaps", "quality")
GROWING = (*STREAMS, *STORED, "rejects")
SCOPE = ("symbol", "price_type", "interval", "session")


def export_snapshot(
    snapshot: Snapshot,
    target: Path,
    *,
    written_at: dt.datetime,
    full: bool = False,
    skip_unchanged: bool = False,
    lock_timeout: float = LOCK_TIMEOUT_SECONDS,
) -> int:
    """Write a store's changes (all rows if `full` or no usable base) as the target's next revision; return its number.

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
    skip_unchanged : bool
        Write no revision when a running session (with an as-of time) has the rows of the last one; return that one.
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
    target = location_of("target", target)
    if snapshot.carried.height and not is_export(target):  # before folders are made there
        check_target_has_earlier_sessions(snapshot, target, None)
    state = StoreState(snapshot.store_id, snapshot.revision, written_at, snapshot.as_of)

    def plan(draft: RevisionDraft) -> RevisionPlan:
        """Plan of the revision; skipped where asked for and no table changes."""
        planned = plan_revision(snapshot, draft, full=full)
        is_same = not any(change.fresh or change.gone for change in planned.changes.values())
        is_running = skip_unchanged and draft.former is not None and snapshot.as_of is not None
        return planned._replace(is_skipped=is_running and is_same)

    return commit_revision(target, plan, state, lock_timeout)


def reason_for_full_export(snapshot: Snapshot, exports: pl.DataFrame | None) -> str | None:
    """Why `exports` cannot be built on (no revision, other store, later state, log too short); None if it can."""
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


def check_target_has_earlier_sessions(snapshot: Snapshot, target: Path, exports: pl.DataFrame | None) -> None:
    """ExportError when earlier sessions are in an export alone, and the target's last revision does not go on from that one."""
    if snapshot.carried["rows"].sum() == 0:
        return
    found = "has no revision"
    if exports is not None:
        last = exports.row(-1, named=True)
        is_ours, is_behind = original_store(last) == snapshot.store_id, last["revision"] < snapshot.carried_in
        if is_ours and not is_behind:
            return
        found = f"ends with revision {last['revision']}{'' if is_ours else ' of another store'}"
    raise ExportError(
        f"{target}: the session holds its rows from {snapshot.held_from} on, those before are in revision "
        f"{snapshot.carried_in} of the target that it has exported to, but this one {found}; valid: that target, or a "
        "new session for another one"
    )


def plan_revision(snapshot: Snapshot, draft: RevisionDraft, *, full: bool) -> RevisionPlan:
    """Stage small tables whole, of others the changes; all rows if `full`, no revision is usable or most is new."""
    former = draft.former
    check_target_has_earlier_sessions(snapshot, draft.target, None if former is None else former.exports)
    is_continued = snapshot.held_from is not None
    changes = {}
    small_tables = (
        snapshot.small_tables() if former is None or not is_continued else small_tables_with_carried(snapshot, former)
    )
    for name, rows in small_tables.items():
        small = conform_table(name, rows if rows.height else None)
        if former is not None and draft.chain.continues and not full and has_same_rows(name, small, former):
            continue
        stamped = draft.chain.with_target_revision(name, small, draft.rows(name))
        changes[name] = draft.replaced(name, list(stage(name, stamped, draft.staging)))
    if former is None:
        return RevisionPlan(changes | whole_tables(snapshot, draft))
    is_usable = not full and reason_for_full_export(snapshot, former.exports) is None
    if is_continued and not is_usable:
        difference = difference_since(snapshot, former, STREAMS)
        changes |= changed_tables(draft, ((name, _entered(change, draft)) for name, change in difference))
        changes["rejects"] = replace_all_rows(snapshot, draft, "rejects")
        return RevisionPlan(changes, since=former.revision)
    if not is_continued and (not is_usable or is_mostly_new(snapshot, former.exports)):
        return RevisionPlan(changes | whole_tables(snapshot, draft))
    last = former.exports.row(-1, named=True)
    changes |= changed_tables(draft, changes_since(snapshot, draft, last["store_revision"], last["as_of"]))
    if any(revision > last["store_revision"] for _, revision in snapshot.change_log.removals):
        # With a symbol its conflicts went: rejects have no key by which rows could be taken out.
        changes["rejects"] = replace_all_rows(snapshot, draft, "rejects")
    return RevisionPlan(changes, since=last["revision"])


def has_same_rows(name: str, rows: pl.DataFrame, former: Dataset) -> bool:
    """Whether a small table of the last revision holds exactly these rows, whatever their revisions."""
    if former.rows(name) != rows.height:
        return False
    now, before = (sorted_rows(frame.drop("revision"), SORT[name]) for frame in (rows, former.scan(name).collect()))
    return now.equals(before)


def holds_fills(snapshot: Snapshot) -> bool:
    """Whether a store has a bar of the provenance `fill`."""
    parts = (part for panel in snapshot.panels.values() for part in panel.parts)
    return any(
        bool((part["provenance"] == "fill").any()) for part in parts if "verdict" in part.columns and part.height
    )


def whole_tables(snapshot: Snapshot, draft: RevisionDraft) -> dict[str, TableChange]:
    """Change of each growing table to all rows of the store."""
    changes = {name: replace_all_rows(snapshot, draft, name) for name in GROWING}
    # Fills stay as long as the store holds bars of them, as one that was resumed from the export does.
    if not holds_fills(snapshot):
        changes["fills"] = draft.replaced("fills", [])
    return changes


def changed_tables(draft: RevisionDraft, changes: Iterable[tuple[str, RowChanges]]) -> dict[str, TableChange]:
    """Change of each table whose rows change, staged against the files of the last revision."""
    staged = {}
    for name, change in changes:
        if draft.former is not None and not change.is_empty:
            files = TableFiles(draft.target / name, draft.former.statistics(name))
            staged[name] = draft.edited(name, *stage_changes(name, change, files, draft.staging))
    return staged


def small_tables_with_carried(snapshot: Snapshot, former: Dataset) -> dict[str, pl.DataFrame]:
    """`sessions`, `calendars`, `symbols` of a store that goes on from an export, and what of them the export alone has.

    Symbols that the session does not follow any more stay, as not loaded; `sessions` has no hole between both.
    """
    tables = snapshot.small_tables()
    gone = [symbol for symbol, _ in snapshot.change_log.removals]
    known = former.scan("symbols").filter(~pl.col("symbol").is_in([*gone, *snapshot.symbols])).collect()
    known = known.with_columns(pl.lit(value=False).alias("is_loaded")).select(tables["symbols"].columns)
    symbols = pl.concat([tables["symbols"], known], how="vertical_relaxed").sort("symbol")
    in_use = pl.col("calendar").is_in(symbols["calendar"].unique().implode())
    earlier = former.scan("sessions").filter(in_use).collect()
    is_mine = pl.col("calendar").is_in(list(snapshot.calendars))
    dates = (
        earlier.filter(is_mine).group_by("calendar").agg(pl.col("session").min(), pl.col("session").max().alias("last"))
    )
    sessions = snapshot.sessions({code: days for code, *days in dates.iter_rows()})
    others = earlier.filter(~is_mine).select(sessions.columns)
    calendars = former.scan("calendars").filter(in_use & ~is_mine).collect().select(tables["calendars"].columns)
    return {
        "sessions": pl.concat([sessions, others], how="vertical_relaxed") if others.height else sessions,
        "calendars": pl.concat([tables["calendars"], calendars]),
        "symbols": symbols,
    }


def is_mostly_new(snapshot: Snapshot, exports: pl.DataFrame) -> bool:
    """Whether rows in runs newer than the last revision exceed both `MOST_CHANGED` (8 x 2^20) and an eighth of all."""
    # What changed is held at once, what is written in full a batch at a time: a year more of data is written in full.
    since = exports["store_revision"].item(-1)
    runs = [(run.rows.height, run.newest) for panel in snapshot.panels.values() for run in panel.sorted_runs]
    new = sum(rows for rows, newest in runs if newest > since)
    return new > MOST_CHANGED and MOST_CHANGED_SHARE * new > sum(rows for rows, _ in runs)


def stage_all_rows(
    snapshot: Snapshot,
    name: str,
    chain: RevisionChain,
    former: pl.LazyFrame | None,
    staging: Path,
    *,
    is_share: bool = False,
) -> Iterator[StagedFile]:
    """Yield the staged files of all rows of a table, batch by batch, each row with its target revision.

    Parameters
    ----------
    snapshot : Snapshot
    name : str
        Of the table.
    chain : RevisionChain
        Turns revisions of the store into the target's.
    former : LazyFrame, optional
        The table's rows in the target's last revision.
    staging : Path
        Folder of the files.
    is_share : bool
        The rows are some of the table's, and no year counts as small.
    """
    batches = (
        Batch(chain.with_target_revision(name, conform_table(name, rows, keep_enums=True), former), years)
        for rows, years in table_batches(snapshot, name, is_share=is_share)
    )
    yield from stage_batches(name, batches, staging)


def replace_all_rows(snapshot: Snapshot, draft: RevisionDraft, name: str) -> TableChange:
    """Change of a table to all rows of the store."""
    return draft.replaced(name, list(stage_all_rows(snapshot, name, draft.chain, draft.rows(name), draft.staging)))


def table_batches(snapshot: Snapshot, name: str, *, is_share: bool = False) -> Iterator[Batch]:
    """Yield all rows of a table in batches: gaps, quality, rejects in one; else per interval, folder and symbols.

    Parameters
    ----------
    snapshot : Snapshot
    name : str
        Any but the tables of `Snapshot.small_tables`.
    is_share : bool
        As in `stage_all_rows`.
    """
    if name in STORED:
        yield Batch(snapshot.outcomes("gaps" if name == "gaps" else "quality"))
    elif name == "rejects":
        yield Batch(pl.concat([empty(REJECTS), *snapshot.rejects]))
    else:
        kind = next(kind for kind in STREAMS if kind == name)
        all_keys = snapshot.panels_of(kind)
        for interval in dict.fromkeys(key.interval for key in all_keys):
            # Panels of one interval share their folders.
            keys = [key for key in all_keys if key.interval == interval]
            counts = count_rows(snapshot, keys)
            years = small_years(counts) if name in PARTITION and not is_share else []
            for sessions, series in batch_scopes(counts, years if name in PARTITION else None):
                panels = [(key, panel_rows(snapshot.panels[key], sessions, series)) for key in keys]
                rows = concat_coded([snapshot.exported_view(key, rows, as_enums=True) for key, rows in panels])
                yield Batch(rows, year_folders(interval, years))


def count_rows(snapshot: Snapshot, keys: Sequence[PanelKey]) -> pl.DataFrame:
    """Rows of some panels per series and session (`series, symbol, session, rows`), each perhaps in several rows."""
    parts = (part for key in keys for part in snapshot.panels[key].parts)
    counts = pl.concat(
        [count_by_session(piece) for part in parts for piece in [part.clear(), *part.iter_slices(ROWS_PER_BATCH)]]
    )
    return counts.join(snapshot.series, on="series").select("series", "symbol", "session", "rows")


def batch_scopes(
    counts: pl.DataFrame, years: Sequence[int] | None
) -> Iterator[tuple[tuple[dt.date, dt.date] | None, list[int] | None]]:
    """Yield (first, last session) and series ids of each batch of about 2^20 rows; None stands for all of them.

    A batch is of one folder, or of several whole ones. They are cut when files are made.

    Parameters
    ----------
    counts : DataFrame
        As `count_rows` gives them.
    years : sequence of int or None
        Those that have a folder; of others each month has one. None: there are no folders.
    """
    day, folder = pl.col("session"), pl.lit(None, pl.Date)
    if years is not None:
        folder = pl.when(day.dt.year().is_in(years)).then(day.dt.truncate("1y")).otherwise(day.dt.month_start())
    days = counts.group_by(folder.alias("folder"), "symbol", "session").agg(pl.col("rows").sum(), "series")
    days = days.with_columns(joined_folders(days))
    scopes = (
        assign_batches(days.sort("folder", "symbol", "session"))
        .group_by("folder", "turn", "cut", maintain_order=True)
        .agg(pl.col("series").explode(), pl.col("session").min().alias("first"), pl.col("session").max().alias("last"))
    )
    alone = scopes.select((pl.len().over("folder") == 1).alias("alone"))["alone"]
    for row, is_alone in zip(scopes.iter_rows(named=True), alone, strict=True):
        is_whole = is_alone and years is None
        yield None if is_whole else (row["first"], row["last"]), None if is_alone else sorted(set(row["series"]))


def joined_folders(days: pl.DataFrame) -> pl.Expr:
    """Expression for `folder` of `days` (`folder, rows`), where those that fit into one batch together are the first of them."""
    folders = days.group_by("folder").agg(pl.col("rows").sum()).sort("folder")
    first, held, joined = None, ROWS_PER_BATCH, []
    for folder, rows in folders.iter_rows():
        if held + rows > ROWS_PER_BATCH:
            first, held = folder, 0
        held += rows
        joined.append(first)
    firsts = pl.Series(joined, dtype=folders.schema["folder"])
    return pl.col("folder").replace_strict(folders["folder"], firsts, return_dtype=pl.Date)


def assign_batches(days: pl.DataFrame) -> pl.DataFrame:
    """Sorted `days` (`folder, symbol, session, rows`) with `turn`, `cut`; a change of one ends a batch of 2^20 rows.

    Parameters
    ----------
    days : DataFrame
        `folder, symbol, session, rows` and any others, sorted by the first three.

    Returns
    -------
    DataFrame
        The same with two numbers, `turn` and `cut`, that change where a batch ends.
    """
    of_symbol = ["folder", "symbol"]
    # In a column of its own: a window inside a window would count within the inner one's groups.
    counted = days.with_columns((pl.col("rows").cum_sum() - pl.col("rows")).over("folder").alias("ahead"))
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
    return sized.select(*days.columns, turn.alias("turn"), share.alias("cut"))


def count_by_session(part: pl.DataFrame) -> pl.DataFrame:
    """Rows per run of equal series and session, in the rows' order: `series, session, rows`; no hashing."""
    # Rows are in the order of series and time: runs of one session are counted without a hash of every row.
    begins = (pl.col("series") != pl.col("series").shift()) | (pl.col("session") != pl.col("session").shift())
    runs = part.select(pl.int_range(pl.len()).alias("at"), "series", "session").filter(begins.fill_null(value=True))
    return runs.select(
        "series", "session", (pl.col("at").shift(-1, fill_value=part.height) - pl.col("at")).alias("rows")
    )


def panel_rows(panel: Panel, sessions: tuple[dt.date, dt.date] | None, series: list[int] | None) -> pl.DataFrame:
    """Rows of a panel within the sessions (first, last, inclusive) and of the series; None means no restriction."""
    spans = [run.sessions for run in panel.sorted_runs if run.rows.height]
    # Most stores hold one month at a time, and a filter that keeps all rows copies them.
    if sessions is None or all(sessions[0] <= first and last <= sessions[1] for first, last in spans):
        return panel.where(pl.lit(value=True)) if series is None else panel.of_series(series)
    in_sessions = pl.col("session").is_between(*sessions)
    return panel.where(in_sessions) if series is None else panel.of_series(series, in_sessions)


def changes_since(
    snapshot: Snapshot, draft: RevisionDraft, since: int, was_as_of: dt.datetime | None
) -> Iterator[tuple[str, RowChanges]]:
    """Yield (table, RowChanges) of every growing table since a store revision; no `rejects` if symbols were removed."""
    gone = [symbol for symbol, revision in snapshot.change_log.removals if revision > since]
    removed = pl.DataFrame({"symbol": gone}, schema={"symbol": pl.String}).unique()
    for kind in STREAMS:
        yield kind, raw_changes(snapshot, draft, kind, since, was_as_of, removed)
    touched = snapshot.changes(since).filter(pl.col("symbol").is_not_null(), ~pl.col("removed"))
    for name in STORED:
        yield name, stored_changes(snapshot, draft, name, since, touched, removed)
    if not gone:
        written = draft.former.rows("rejects") if draft.former is not None and snapshot.rejects else 0
        refused = conform_table("rejects", pl.concat([empty(REJECTS), *snapshot.rejects]).slice(written))
        yield "rejects", RowChanges(_with_revision(refused, draft))


def raw_changes(
    snapshot: Snapshot,
    draft: RevisionDraft,
    kind: Kind,
    since: int,
    was_as_of: dt.datetime | None,
    removed: pl.DataFrame,
) -> RowChanges:
    """RowChanges of a stream: rows newer than `since`, bars over now but open at `was_as_of`, removed bars and symbols."""
    is_new = pl.col("revision") > since
    if kind == "bars" and was_as_of is not None:
        is_new |= pl.col("ts_end") > was_as_of
    frames = [empty(TABLES[kind])]
    for key in snapshot.panels_of(kind):
        open_from = None
        if key.kind == "bars" and key.interval is not None and was_as_of is not None:
            # Ends of bars that are not derived are computed from their places; none lies two steps after the start.
            longest = dt.timedelta(seconds=0 if key.origin == "derived" else 2 * key.interval.seconds)
            open_from = was_as_of - longest
        rows = conform_table(kind, snapshot.exported_view(key, snapshot.panels[key].since(since, open_from)))
        frames.append(rows.filter(is_new))
    fresh = _with_revision(pl.concat(frames), draft)
    gone = [removed_bar_keys(snapshot, since)] if kind == "bars" else []
    return RowChanges(fresh, [fresh.select(KEYS[kind]), *gone, removed])


def removed_bar_keys(snapshot: Snapshot, since: int) -> pl.DataFrame:
    """Keys of the derived bars that were removed, or became incomplete where these are left out, since a store revision."""
    keys = [empty({name: TABLES["bars"][name] for name in KEYS["bars"]})]
    for key in snapshot.panels_of("bars"):
        gone = [snapshot.removed_bars[key].filter(pl.col("revision") > since)] if key in snapshot.removed_bars else []
        if snapshot.incomplete == "drop" and key.layout == "derived_bars":
            gone.append(snapshot.panels[key].since(since).filter(~pl.col("complete"), pl.col("revision") > since))
        for rows in gone:
            named = with_series_names(rows.select("series", "ts"), snapshot.series)
            of_panel = (pl.lit(str(key.interval)).alias("interval"), pl.lit(key.origin).alias("origin"))
            keys.append(named.with_columns(of_panel).select(keys[0].columns))
    return pl.concat(keys).unique()


def stored_changes(
    snapshot: Snapshot,
    draft: RevisionDraft,
    name: Literal["gaps", "quality"],
    since: int,
    touched: pl.DataFrame,
    removed: pl.DataFrame,
) -> RowChanges:
    """RowChanges of gaps or quality in touched sessions: new rows added, the rest replaced, older equal rows stay."""
    scope = touched.filter(pl.col("kind") == name).select(SCOPE)
    now = conform_table(name, snapshot.outcomes(name, scope))
    is_new = pl.col("revision") > since
    return RowChanges(
        _with_revision(now.filter(is_new), draft), [scope, removed], now.filter(~is_new).select(KEYS[name])
    )


def _entered(changes: RowChanges, draft: RevisionDraft) -> RowChanges:
    return replace(changes, rows=_with_revision(changes.rows, draft))


def _with_revision(rows: pl.DataFrame, draft: RevisionDraft) -> pl.DataFrame:
    return rows.with_columns(pl.lit(draft.revision, pl.Int64).alias("revision"))


def _instant(as_of: dt.datetime | None) -> dt.datetime:
    return dt.datetime.max.replace(tzinfo=dt.UTC) if as_of is None else as_of
