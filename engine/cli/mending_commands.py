"""Commands that lead from a gap to mended bars: `engine requests`."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import app
from engine.cli.console import print_data, print_json
from engine.cli.parsing import parse_age, split_selection, usage_error

FORMATS = ("csv", "json", "calls")


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
    causes: Annotated[
        str | None,
        typer.Option(
            help="Causes of the gaps to ask for, by comma. Default: feed_loss, symbol_loss, refused, off_grid."
        ),
    ] = None,
    with_unknown: Annotated[bool, typer.Option("--with-unknown", help="Gaps of unknown cause, too.")] = False,
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
    from engine.audit.vendor_requests import REQUESTED
    from engine.runtime.lost_slots import requests as plan

    if form not in FORMATS:
        raise usage_error(f"--format: received {form!r}; valid: {', '.join(FORMATS)}")
    if form == "calls" and vendor is None:
        raise usage_error("--format calls: received without --vendor; valid: --vendor polygon --format calls")
    chosen = split_selection("--causes", causes) or REQUESTED
    planned = plan(
        audit,
        vendor=vendor,
        symbols=split_selection("--symbols", symbols),
        causes=tuple(dict.fromkeys((*chosen, *(["unknown"] if with_unknown else [])))),
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
