"""`engine reconcile` and `engine rules`."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.app import AsJson, app
from engine.cli.console import (
    merge_notes,
    print_data,
    print_frame,
    print_json,
    print_line,
    print_list,
    print_problems,
    print_rows,
    progress,
)
from engine.cli.exit_codes import PARTLY_READ
from engine.cli.parsing import (
    check_limit,
    override_options,
    parse_date,
    parse_interval,
    parse_intervals,
    split_list,
    split_pairs,
    split_selection,
    usage_error,
)

if TYPE_CHECKING:
    from engine.audit.reconcile import Tolerances
    from engine.runtime.reconciler import Comparison

DIFFERENT = 1


@app.command()
def reconcile(
    a: Annotated[Path, typer.Argument(metavar="A", help="A file, a folder or an export.")],
    b: Annotated[Path | None, typer.Argument(metavar="[B]", help="What it is compared with.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Without B: compare bars derived from A's base with its own of these intervals.")
    ] = None,
    calendar: Annotated[
        str | None, typer.Option(help="Calendar code (see `engine calendars`), or a TOML file.")
    ] = None,
    calendar_map: Annotated[Path | None, typer.Option(help="TOML with calendars by symbol pattern.")] = None,
    interval: Annotated[str | None, typer.Option(help="Compare bars of this interval; derived where finer.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Keep only these, by comma.")] = None,
    price_type: Annotated[str | None, typer.Option(help="Keep only these series: last,bid,ask,mid.")] = None,
    start: Annotated[str | None, typer.Option(help="First trade date, YYYY-MM-DD.")] = None,
    end: Annotated[str | None, typer.Option(help="Last trade date, YYYY-MM-DD, included.")] = None,
    segments: Annotated[str | None, typer.Option(help="Segments of derived bars: RTH, PRE ... by comma.")] = None,
    align: Annotated[str | None, typer.Option(help="Where bars begin: session, clock or date.")] = None,
    options_a: Annotated[Path | None, typer.Option(help="TOML with read options of A (and of B).")] = None,
    options_b: Annotated[Path | None, typer.Option(help="TOML with read options of B.")] = None,
    names: Annotated[str | None, typer.Option(help="Symbols of B as A calls them: XBTUSD=BTCUSD,...")] = None,
    tolerance: Annotated[str | None, typer.Option(help="How far values may be apart: price=0.01,volume=1%.")] = None,
    limit: Annotated[int, typer.Option(help="How many bars that differ are shown; 0 for all.")] = 20,
    output: Annotated[
        Path | None, typer.Option("--findings", help="Write findings to this file: .parquet, .csv or .json.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two sources of the same bars: rows only one has, values that differ, causes. Exit code 1: different.

    Exit code 0: equal; 1: different beyond the tolerance.

    Example: engine reconcile oanda/minute fxcm/minute --calendar FX --tolerance price=0.0002
    """
    from engine.export.formats.output_formats import OUTPUT_FORMATS, write_result
    from engine.runtime.options import CalendarMap, LoadOptions
    from engine.runtime.reconciler import between, within
    from engine.sources.options import ReadOptions

    if (b is None) == (against is None):
        raise usage_error("B or --against: give one of the two, as in A B, or A --against 1h,1d")
    check_limit(limit)
    if output is not None and output.suffix.removeprefix(".") not in OUTPUT_FORMATS:
        raise usage_error(
            f"--findings: received {str(output)!r}; valid: a file that ends in .{', .'.join(OUTPUT_FORMATS)}"
        )
    given: dict[str, Any] = {
        "align": align,
        "symbols": split_selection("--symbols", symbols),
        "price_types": split_selection("--price-type", price_type),
    }
    read_a = ReadOptions.from_toml(options_a) if options_a else ReadOptions()
    read_b = ReadOptions.from_toml(options_b) if options_b else read_a
    options = LoadOptions(
        calendars=CalendarMap.from_toml(calendar_map, calendar) if calendar_map else CalendarMap(calendar),
        interval=parse_interval(interval),
        dates=(parse_date("start", start), parse_date("end", end)),
        segments=split_list(segments),
        align=align,  # type: ignore[arg-type]
        read=override_options(read_a, given),
    )
    renames = split_pairs("--names", names, "B's symbol = A's, as in XBTUSD=BTCUSD")
    chosen: dict[str, Any] = {"tolerances": tolerances_of(tolerance), "limit": limit or None}
    with progress(enabled=not as_json) as tell:
        if b is not None:
            from dataclasses import replace

            for_b = replace(options, read=override_options(read_b, given))
            done = between(a, b, options, for_b, names=renames, progress=tell, **chosen)
        else:
            done = within(a, parse_intervals(against or ""), options, progress=tell, **chosen)
    if output is not None:
        write_result(done.result.findings, output.suffix.removeprefix("."), output)
    print_comparison(done, limit, as_json=as_json)
    if not done.result.is_equal:
        raise typer.Exit(DIFFERENT)
    if done.problems:
        raise typer.Exit(PARTLY_READ)


@app.command()
def rules(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A rule file to check.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the default rules of an audit, or check a rules file and list its rules.

    Example: engine rules rules.toml
    """
    from engine.audit.rules import DEFAULT_RULES, read_rules

    found = read_rules(file)
    if as_json:
        print_json({"threshold": found.threshold, "rules": [rule_fields(one) for one in found.rules]})
    elif file is None:
        print_data(DEFAULT_RULES)
    else:
        import polars as pl

        listed = pl.DataFrame([rule_fields(one) for one in found.rules])
        print_frame(f"{listed.height} rules; {found.threshold} fails", listed)


def tolerances_of(text: str | None) -> Tolerances:
    """Parse `column=size,...`; a size with `%` is relative, else absolute; ParameterError without `=`; None: empty."""
    from engine.audit.reconcile import Tolerances
    from engine.audit.rules import parse_tolerance

    pairs = split_pairs("--tolerance", text, "column=size, as in close=0.0001,volume=1%")
    return Tolerances({name: parse_tolerance(f"--tolerance {name}", size) for name, size in pairs.items()})


def rule_fields(rule: Any) -> dict[str, Any]:  # noqa: ANN401 - engine.audit.rules.Rule
    """Name, rule text, severity, allowed number and tolerance (text) of a rule, by key, for JSON or a table."""
    return {
        "name": rule.name,
        "rule": str(rule),
        "severity": rule.severity,
        "allow": rule.allow,
        "tolerance": str(rule.tolerance),
    }


def print_comparison(done: Comparison, title_limit: int, *, as_json: bool) -> None:
    """Print tables, notes, problems, `equal` or `different`, or all as JSON; `title_limit` cuts nothing."""
    result = done.result
    problems = [{"path": one.path, "reason": one.reason} for one in done.problems]
    if as_json:
        tables = {name: getattr(result, name).to_dicts() for name in ("summary", "columns", "causes", "differences")}
        print_json({"equal": result.is_equal, **tables, "notes": list(done.notes), "problems": problems})
        return
    from engine.cli.table_layout import tell_apart

    print_frame("Series", result.summary)
    columns = tell_apart(result.columns, "first_a", "first_b")
    for title, frame in (("Columns that differ", columns), ("Guessed causes", result.causes)):
        if frame.height:
            print_frame(title, frame)
    if result.differences.height:
        print_rows(
            f"Values that differ, of the first {title_limit} bars" if title_limit else "Values that differ",
            tell_apart(result.differences, "a", "b"),
            0,
            as_json=False,
        )
    print_list("note", merge_notes(done.notes))
    print_problems("could not be read", [f"{one['path']}: {one['reason']}" for one in problems])
    print_line("equal" if result.is_equal else "different")
