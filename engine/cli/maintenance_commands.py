"""Commands that maintain an export: `engine history`, `diff`, `verify`, `repair`, `compact`, `vacuum`."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.app import AsJson, Export, app
from engine.cli.console import print_frame, print_json, print_line, print_rows
from engine.cli.parsing import check_limit, parse_age, usage_error

if TYPE_CHECKING:
    import polars as pl

FOUND = 1
TABLES = ("bars", "gaps", "quality", "symbols", "all")

Limit = Annotated[int, typer.Option(help="How many rows of each table; 0 for all.")]


@app.command()
def history(out: Export, as_json: AsJson = False) -> None:
    """List the revisions of an export: when written, state, rows, files, bytes, and files and bytes added and removed.

    Example: engine history out
    """
    from engine.export.revision_history import history as revisions

    found = revisions(out)
    if as_json:
        print_json(found.to_dicts())
        return
    print_rows(f"{found.height} revisions", found.drop("tables", "store_id"), 0, as_json=False)


@app.command()
def diff(
    out: Export,
    old: Annotated[int, typer.Argument(metavar="REV1", help="A revision.")],
    new: Annotated[int, typer.Argument(metavar="REV2", help="The revision to compare with it.")],
    table: Annotated[str, typer.Option(help="bars, gaps, quality, symbols or all.")] = "all",
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Print the rows added, removed and corrected between two revisions of an export, up to --limit of each table.

    Example: engine diff out 3 4 --table gaps
    """
    from engine.export.difference import COMPARED
    from engine.export.difference import diff as compare

    check_limit(limit)
    if table not in TABLES:
        raise usage_error(f"--table: received {table!r}; valid: {', '.join(TABLES)}")
    found = compare(out, old, new, COMPARED if table == "all" else (table,))
    frames = {name: frame for name, frame in found.frames().items() if frame.height}
    if as_json:
        shown = {name: (frame.head(limit) if limit else frame).to_dicts() for name, frame in frames.items()}
        print_json({"old": old, "new": new, "summary": found.summary.to_dicts(), **shown})
        return
    print_frame(f"Revision {old} to {new}", found.summary)
    for name, frame in frames.items():
        print_rows(name.replace("_", " "), merge_changes(frame), limit, as_json=False)


@app.command()
def verify(
    out: Export,
    revision: Annotated[int | None, typer.Option(help="Check the files of this one alone.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Logs, names and sizes only; no file is read.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check every file of an export, and every table against the others. Exit code 1 on errors or warnings.

    Example: engine verify out --quick
    """
    from engine.export.maintenance.verify import verify as check
    from engine.export.maintenance.verify_findings import faults

    found = check(out, revision, quick=quick)
    bad = faults(found).height
    if as_json:
        print_json(found.to_dicts())
    elif found.is_empty():
        print_line(f"{out}: nothing wrong")
    else:
        print_rows(f"{bad} faults, {found.height - bad} remarks", found, 0, as_json=False)
    if bad:
        raise typer.Exit(FOUND)


@app.command()
def repair(
    out: Export,
    drop_damaged: Annotated[bool, typer.Option("--drop-damaged", help="Leave out what cannot be had again.")] = False,
    calendar: Annotated[list[Path] | None, typer.Option(help="TOML of a calendar that is not built in.")] = None,
    as_json: AsJson = False,
) -> None:
    """Repair an export: undo a crash, rebuild derived tables from base bars. Exit code 1 when data stay lost or stale.

    Example: engine repair out
    """
    from engine.calendars.providers import calendar as read_calendar
    from engine.runtime.export_repair import repair as put_right

    calendars = {one.code: one for one in map(read_calendar, calendar or ())}
    done = put_right(out, drop_damaged=drop_damaged, calendars=calendars)
    if as_json:
        print_json({"revision": done.revision, "actions": done.actions.to_dicts()})
    elif done.actions.is_empty():
        print_line(f"{out}: nothing to repair")
    else:
        print_rows(f"Revision {done.revision}", done.actions, 0, as_json=False)
    if done.actions["action"].is_in(["lost", "stale"]).any():
        raise typer.Exit(FOUND)


@app.command()
def compact(out: Export, as_json: AsJson = False) -> None:
    """Merge small files of an export, as a new revision with the same rows; without small files, change nothing.

    Example: engine compact out
    """
    from engine.export.maintenance.compact import compact as merge

    done = merge(out)
    if as_json:
        print_json({"revision": done.revision, "merged": done.merged.to_dicts()})
    elif done.merged.is_empty():
        print_line(f"{out}: no small files to merge, revision {done.revision} stays")
    else:
        print_rows(f"Revision {done.revision}", done.merged, 0, as_json=False)


@app.command()
def vacuum(
    out: Export,
    keep: Annotated[str | None, typer.Option(help="Keep revisions that stood within this time: 7d, 12h, 2w.")] = None,
    keep_revisions: Annotated[int | None, typer.Option(help="Keep so many of the last revisions.")] = None,
    as_json: AsJson = False,
) -> None:
    """Expire revisions outside --keep or --keep-revisions (give one) and delete the files that only they use.

    Example: engine vacuum out --keep 7d
    """
    from engine.export.maintenance.vacuum import vacuum as clean

    if (keep is None) == (keep_revisions is None):
        raise usage_error("--keep or --keep-revisions: give one of the two, as in --keep 7d")
    done = clean(out, keep=None if keep is None else parse_age("--keep", keep), keep_revisions=keep_revisions)
    if as_json:
        print_json({"kept": done.kept, "expired": done.expired, "removed": done.removed.to_dicts()})
        return
    files, size = done.removed["files"].sum(), done.removed["bytes"].sum()
    print_line(f"kept revisions {done.kept[0]} to {done.kept[-1]}; {len(done.expired)} expired")
    print_line(f"{files} file{'s' if files != 1 else ''}, {size} bytes removed")


def merge_changes(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace `*_old`, `*_new` and `columns` by a text column `changes`; unchanged when there is no `columns`."""
    import polars as pl

    if "columns" not in frame.columns:
        return frame
    names = [name.removesuffix("_old") for name in frame.columns if name.endswith("_old")]
    texts = [
        pl.when(pl.col("columns").list.contains(name)).then(
            pl.format("{} {} -> {}", pl.lit(name), *(value_text(frame, f"{name}_{side}") for side in ("old", "new")))
        )
        for name in names
    ]
    key = [name for name in frame.columns if name != "columns" and not name.endswith(("_old", "_new"))]
    return frame.select(*key, pl.concat_str(texts, separator=", ", ignore_nulls=True).alias("changes"))


def value_text(frame: pl.DataFrame, name: str) -> pl.Expr:
    """Expression of a column as text; list elements joined by blanks, null as `nothing`."""
    import polars as pl

    nested = frame.schema[name].is_nested()
    shown = pl.col(name).cast(pl.List(pl.String)).list.join(" ") if nested else pl.col(name).cast(pl.String)
    return shown.fill_null("nothing")
