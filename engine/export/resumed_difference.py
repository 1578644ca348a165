"""What makes the last revision of an export equal a store that went on from it, whose change log does not know.

1. `difference_since` compares every table from `held_from` on; earlier sessions stay as they are.
2. Streams are compared interval by interval in ranges of sessions (`session_ranges`) of about `ROWS_COMPARED` rows, with
   the rows of the files that reach into the range (`former_rows`): memory grows by the range, not by what is held.
3. Source bars are not, where the export has them as they were read (`restored_revision`): only those that came since are.
4. `changed_rows` pairs the rows of both by key and compares their values column by column.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import cast

import polars as pl

from engine import __version__
from engine.export.dataset import Dataset
from engine.export.table_edits import RowChanges
from engine.export.tables import KEYS, TABLES, conform_table
from engine.interval import Interval
from engine.schema import Kind, empty
from engine.store.panel import Panel
from engine.store.panel_key import PanelKey
from engine.store.snapshot import Snapshot

ROWS_COMPARED = 1 << 20  # of one range; one session has more where a market is followed

SessionRange = tuple[dt.date, dt.date | None]  # first session, and the first one after it (None: to the end)


def difference_since(
    snapshot: Snapshot, former: Dataset | None, streams: Sequence[Kind]
) -> Iterator[tuple[str, RowChanges]]:
    """Yield (table, RowChanges) that make the last revision equal the store from `held_from` on; earlier sessions stay.

    The first export of a store that goes on from one: the change log does not say what of its rows the export has. It
    costs by the sessions that are held. Rows have no revision yet.

    Parameters
    ----------
    snapshot : Snapshot
        With `held_from`.
    former : Dataset or None
        The last revision.
    streams : sequence of str
        Tables of rows, each compared in ranges of sessions; `gaps` and `quality` follow, each at once.
    """
    first = snapshot.held_from
    if first is None:
        raise ValueError("held_from: the store holds all sessions")
    removed = [symbol for symbol, _ in snapshot.change_log.removals]
    gone = pl.DataFrame({"symbol": removed}, schema={"symbol": pl.String}).unique()
    owned = {
        name: series.join(gone, on="symbol", how="anti", maintain_order="left")
        for name, series in owned_series(snapshot, streams).items()
    }
    restored = restored_revision(snapshot, former)
    for kind in streams:
        changes = [changed_rows(kind, empty(TABLES[kind]), empty(TABLES[kind]))]
        series = owned[kind]
        keys = snapshot.panels_of(kind)
        intervals = {key.interval for key in keys}
        if kind == "bars":
            intervals |= {Interval.parse(name) for name in series["interval"].unique()}
            if restored is not None:
                source = [key for key in keys if key.origin == "source"]
                changes += [_changed_after(restored, snapshot, key, former, series) for key in source]
                keys = [key for key in keys if key.origin != "source"]
                series = series.filter(pl.col("origin") != "source")
        for interval in sorted(intervals, key=str):
            mine = [key for key in keys if key.interval == interval]
            for span in session_ranges([snapshot.panels[key] for key in mine], first):
                in_range = _is_in(span)
                views = (snapshot.exported_view(key, snapshot.panels[key].where(in_range)) for key in mine)
                now = pl.concat([empty(TABLES[kind]), *(conform_table(kind, view) for view in views)])
                changes.append(changed_rows(kind, now, former_rows(former, kind, series, span, interval)))
        yield kind, _joined(changes, gone)
    for name in ("gaps", "quality"):
        now = conform_table(name, snapshot.outcomes("gaps" if name == "gaps" else "quality"))
        yield name, _joined([changed_rows(name, now, former_rows(former, name, owned[name], (first, None)))], gone)


def restored_revision(snapshot: Snapshot, former: Dataset | None) -> int | None:
    """Store revision up to which source bars are exactly those of the last revision; None: they have to be compared.

    They are where nobody wrote since they were read, this version of the package wrote them, and by the same calendars.
    """
    if former is None or snapshot.restored is None or snapshot.restored.revision != former.revision:
        return None
    last = former.exports.row(-1, named=True)
    if (last["store_id"], last["engine_version"]) != (snapshot.store_id, __version__):
        return None
    now, before = snapshot.calendar_table(), former.scan("calendars").drop("revision").collect()
    unknown = now.join(before, on=now.columns, how="anti", nulls_equal=True)
    return None if unknown.height else snapshot.restored.store_revision


def _changed_after(
    revision: int, snapshot: Snapshot, key: PanelKey, former: Dataset | None, owned: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`changed_rows` of a panel of source bars of which only those newer than a store revision may differ from the export's."""
    rows = snapshot.panels[key].since(revision).filter(pl.col("revision") > revision)
    now = conform_table("bars", snapshot.exported_view(key, rows))
    if now.is_empty():
        return changed_rows("bars", now, now)
    first, last = (cast("dt.date", bound) for bound in (now["session"].min(), now["session"].max()))
    before = former_rows(former, "bars", owned, (first, last + dt.timedelta(days=1)), key.interval, now["ts"])
    keys = list(KEYS["bars"])
    return changed_rows("bars", now, before.join(now.select(keys), on=keys, how="semi", nulls_equal=True))


def owned_series(snapshot: Snapshot, streams: Sequence[Kind]) -> dict[str, pl.DataFrame]:
    """Per growing table the rows that a store answers for: of its symbols; bars, gaps and quality of its intervals only."""
    rows = []
    for symbol in snapshot.symbols.values():
        rows.append((symbol.symbol, symbol.base_interval, symbol.base_key.origin))
        rows += [(symbol.symbol, interval, "derived") for interval in symbol.derived_intervals]
    bars = pl.DataFrame(rows, schema=dict.fromkeys(("symbol", "interval", "origin"), pl.String()), orient="row")
    outcomes = bars.select("symbol", "interval").unique()
    symbols = bars.select("symbol").unique()
    return {**dict.fromkeys(streams, symbols), "bars": bars, "gaps": outcomes, "quality": outcomes}


def session_ranges(panels: Sequence[Panel], first: dt.date) -> list[SessionRange]:
    """Ranges of sessions from `first` on without a hole between them, each of one session or of about `ROWS_COMPARED` rows."""
    counts = pl.concat(
        [
            pl.DataFrame(schema={"session": pl.Date(), "rows": pl.UInt32()}),
            *(part.group_by("session").agg(pl.len().alias("rows")) for panel in panels for part in panel.parts),
        ]
    )
    by_session = counts.group_by("session").agg(pl.col("rows").sum()).filter(pl.col("session") >= first).sort("session")
    begins, held = [first], 0
    for session, rows in by_session.iter_rows():
        if held and held + rows > ROWS_COMPARED:
            begins.append(session)
            held = 0
        held += rows
    return [*pairwise(begins), (begins[-1], None)]


def former_rows(
    former: Dataset | None,
    table: str,
    owned: pl.DataFrame,
    span: SessionRange,
    interval: Interval | None = None,
    stamps: pl.Series | None = None,
) -> pl.DataFrame:
    """Rows of a table of the last revision in a range of sessions, of owned series, an interval and a range of `ts` (None: all)."""
    if former is None:
        return empty(TABLES[table])
    files, is_wanted = former.statistics(table), _is_in(span)
    if "min.session" in files.columns:
        begins, ends = (pl.col(f"{bound}.session") for bound in ("min", "max"))
        is_apart = (ends < span[0]) if span[1] is None else (ends < span[0]) | (begins >= span[1])
        files = files.filter(~is_apart.fill_null(value=False))
    if interval is not None:
        is_wanted &= pl.col("interval") == str(interval)
        if "min.interval" in files.columns:
            text = pl.lit(str(interval))
            is_apart = (pl.col("max.interval") < text) | (pl.col("min.interval") > text)
            files = files.filter(~is_apart.fill_null(value=False))
    if stamps is not None:
        is_wanted &= pl.col("ts").is_between(stamps.min(), stamps.max())
    rows = former.scan(table, files).filter(is_wanted)
    return rows.join(owned.lazy(), on=owned.columns, how="semi").collect()


def changed_rows(table: str, now: pl.DataFrame, before: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of `now` whose key `before` has not, or with other values, and the keys of these and of those only in `before`."""
    keys = list(KEYS[table])
    if before.is_empty() or now.is_empty():
        return now, pl.concat([now.select(keys), before.select(keys)])
    numbered = now.lazy().select(*keys).with_row_index("at"), before.lazy().select(*keys).with_row_index("was")
    pairs = numbered[0].join(numbered[1], on=keys, how="full", coalesce=True, nulls_equal=True)
    places = pairs.select("at", "was").collect()
    both, added, removed = (
        places.filter(test)
        for test in (
            pl.col("at").is_not_null() & pl.col("was").is_not_null(),
            pl.col("was").is_null(),
            pl.col("at").is_null(),
        )
    )
    values = [name for name in TABLES[table] if name not in (*keys, "revision")]
    differs = reduce(
        or_,
        (now[name].gather(both["at"]).ne_missing(before[name].gather(both["was"])) for name in values),
        pl.repeat(value=False, n=both.height, dtype=pl.Boolean, eager=True),
    )
    fresh = now[pl.concat([added["at"], both["at"].filter(differs)]).unique().sort()]
    return fresh, pl.concat([fresh.select(keys), before[removed["was"]].select(keys)])


def _is_in(span: SessionRange) -> pl.Expr:
    from_first = pl.col("session") >= span[0]
    return from_first if span[1] is None else from_first & (pl.col("session") < span[1])


def _joined(changes: Iterable[tuple[pl.DataFrame, pl.DataFrame]], gone: pl.DataFrame) -> RowChanges:
    rows, keys = zip(*changes, strict=True)
    return RowChanges(pl.concat(rows), [pl.concat(keys).unique(), gone])
