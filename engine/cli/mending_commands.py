"""Commands that lead from a gap to mended bars: `engine requests` and `engine fill`."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.app import AsJson, Export, app
from engine.cli.console import print_data, print_frame, print_json, print_line, print_rows
from engine.cli.parsing import (
    override_options,
    parse_age,
    parse_column_pairs,
    parse_share,
    split_selection,
    usage_error,
)
from engine.cli.source_options import (
    Columns,
    Delimiter,
    NonPositive,
    OneSymbol,
    OptionsFile,
    SourceFormat,
    StampMark,
    SymbolFrom,
    TimeFormat,
    Unit,
    VendorLayout,
    Zone,
)

if TYPE_CHECKING:
    import polars as pl

FORMATS = ("csv", "json", "calls")
MOST_ANSWERS = 40

Causes = Annotated[
    str | None,
    typer.Option(help="Causes of the gaps to ask for, by comma. Default: feed_loss, symbol_loss, refused, off_grid."),
]
WithUnknown = Annotated[bool, typer.Option("--with-unknown", help="Gaps of unknown cause, too.")]


@app.command()
def requests(
    audit: Annotated[Path, typer.Argument(metavar="AUDIT", help="A folder of `engine audit --output`, or an export.")],
    vendor: Annotated[
        str | None, typer.Option(help="polygon, alpaca, databento or binance: its limits, and its --format calls.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="csv, json, or calls: those of the vendor, no key in them.")
    ] = "csv",
    symbols: Annotated[str | None, typer.Option(help="Only these, by comma.")] = None,
    causes: Causes = None,
    with_unknown: WithUnknown = False,
    request_cost: Annotated[
        int,
        typer.Option(help="Rows that one request is worth: holes with no more between them are asked for together."),
    ] = 1000,
    max_span: Annotated[str | None, typer.Option(help="Longest time of a request: 1d, 12h, 30m.")] = None,
    max_rows: Annotated[int | None, typer.Option(help="Most bars of a request.")] = None,
) -> None:
    """Print the cheapest list of (symbol, start, end) to ask a vendor for again: slots that were lost, and no others.

    Example: engine requests audit --vendor polygon --format calls
    """
    from engine.audit.vendor_calls import vendor_calls
    from engine.runtime.lost_slots import requests as plan

    if form not in FORMATS:
        raise usage_error(f"--format: received {form!r}; valid: {', '.join(FORMATS)}")
    if form == "calls" and vendor is None:
        raise usage_error("--format calls: received without --vendor; valid: --vendor polygon --format calls")
    planned = plan(
        audit,
        vendor=vendor,
        symbols=split_selection("--symbols", symbols),
        causes=chosen_causes(causes, with_unknown=with_unknown),
        request_cost=request_cost,
        max_span=None if max_span is None else parse_age("--max-span", max_span),
        max_rows=max_rows,
    )
    if form == "calls":
        print_data("".join(f"{call}\n" for call in vendor_calls(planned, vendor or "")))
    elif form == "json":
        print_json(planned.to_dicts())
    else:
        print_data(planned.write_csv(datetime_format="%Y-%m-%dT%H:%M:%SZ"))


@app.command()
def fill(
    out: Export,
    other: Annotated[
        Path | None, typer.Option("--from", help="The second source: a file, a folder, or an export.")
    ] = None,
    drop: Annotated[
        str | None, typer.Option(help="Take out again what came from this source, and restore the former tables.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the source in `fills`. Default: what --from says.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Only these, by comma.")] = None,
    causes: Causes = None,
    with_unknown: WithUnknown = False,
    tolerance: Annotated[
        str, typer.Option(help="Greatest difference of a price of both around a hole: 0.5% or 0.005.")
    ] = "0.5%",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare and print, write nothing.")] = False,
    source_format: SourceFormat = None,
    layout: VendorLayout = None,
    timezone: Zone = None,
    stamp: StampMark = None,
    unit: Unit = None,
    time_format: TimeFormat = None,
    delimiter: Delimiter = None,
    columns: Columns = None,
    options: OptionsFile = None,
    symbol: OneSymbol = None,
    symbol_from: SymbolFrom = None,
    allow_non_positive: NonPositive = None,
    as_json: AsJson = False,
) -> None:
    """Fill lost slots of an export from a second source where both agree around the hole; without --from, list answers.

    Each request ends answered, empty or refused; `--drop SOURCE` takes a source out again.

    Example: engine fill out --from second-vendor --dry-run
    """
    from engine.runtime.fill import answers, drop_fill
    from engine.runtime.fill import fill as fill_from
    from engine.sources.options import ReadOptions

    if other is not None and drop is not None:
        raise usage_error("--drop: received together with --from; valid: one of them")
    if drop is not None:
        done = drop_fill(out, drop)
        if as_json:
            print_json({"revision": done.revision, "bars": done.bars, "dropped": done.fills.to_dicts()})
        else:
            print_line(
                f"revision {done.revision}: {done.bars:,} bars and {done.fills.height} answers of {drop} taken out"
            )
        return
    if other is None:
        print_answers(answers(out), as_json=as_json)
        return
    given: dict[str, Any] = {
        "format": source_format,
        "layout": layout,
        "timezone": timezone,
        "stamp": stamp,
        "unit": unit,
        "time_format": time_format,
        "delimiter": delimiter,
        "columns": parse_column_pairs(columns),
        "symbol": symbol,
        "symbol_from": symbol_from,
        "allow_non_positive": allow_non_positive,
    }
    done = fill_from(
        out,
        other,
        name=name,
        symbols=split_selection("--symbols", symbols),
        causes=chosen_causes(causes, with_unknown=with_unknown),
        tolerance=parse_share("tolerance", tolerance, of="the price"),
        read=override_options(ReadOptions.from_toml(options) if options else ReadOptions(), given),
        dry_run=dry_run,
    )
    if as_json:
        print_json(
            {"revision": done.revision, "written": done.is_written, "bars": done.bars, "fills": done.fills.to_dicts()}
        )
        return
    print_answers(done.fills, as_json=False)
    happened = "nothing was written" if dry_run else "written" if done.is_written else "nothing new"
    print_line(f"revision {done.revision}: {done.bars:,} bars ({happened})")


def chosen_causes(causes: str | None, *, with_unknown: bool) -> tuple[str, ...]:
    """Causes of `--causes` (None: the lost ones), and `unknown` where it was asked for; each once."""
    from engine.audit.vendor_requests import REQUESTED

    chosen = split_selection("--causes", causes) or REQUESTED
    return tuple(dict.fromkeys((*chosen, *(["unknown"] if with_unknown else []))))


def print_answers(fills: pl.DataFrame, *, as_json: bool) -> None:
    """Print sums of answers by source and outcome, then the first ones; as JSON all of them."""
    import polars as pl

    if as_json:
        print_json(fills.to_dicts())
        return
    sums = fills.group_by("source", "outcome").agg(
        pl.len().alias("requests"),
        pl.col("bar_count").sum().alias("slots"),
        pl.col("symbol").n_unique().alias("symbols"),
    )
    print_frame("Answers", sums.sort("source", "outcome"))
    shown = fills.select("symbol", "gap_start", "gap_end", "bar_count", "cause", "outcome", "source", "detail")
    print_rows("Requests", shown, MOST_ANSWERS, as_json=False)
