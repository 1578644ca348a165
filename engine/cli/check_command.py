"""Command `engine check`: the preflight of a backtest."""

# Rooms are imported inside the command: `engine --help` answers without loading Polars.

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import AsJson, Export, app
from engine.cli.console import print_frame, print_json, print_text
from engine.cli.exit_codes import FAILED
from engine.cli.parsing import check_limit, split_selection


@app.command()
def check(
    out: Export,
    symbols: Annotated[str | None, typer.Option(help="Only these, by comma.")] = None,
    start: Annotated[str | None, typer.Option(help="First trade date, or an instant (ISO 8601 with zone).")] = None,
    end: Annotated[
        str | None, typer.Option(help="Last trade date, included; or an instant, at which no slot begins any more.")
    ] = None,
    min_coverage: Annotated[float, typer.Option(help="Least coverage of each series, in percent.")] = 100.0,
    interval: Annotated[str | None, typer.Option(help="Default: each symbol's base.")] = None,
    price_type: Annotated[str | None, typer.Option(help="By comma; default each symbol's own.")] = None,
    of: Annotated[str, typer.Option(help="quality, or quality_adjusted (with --audit).")] = "quality",
    audit: Annotated[Path | None, typer.Option(help="Folder of an audit of this export: gaps get causes.")] = None,
    as_of: Annotated[
        str | None, typer.Option(help="Slots that end later are not expected (ISO 8601 with zone); default now.")
    ] = None,
    revision: Annotated[int | None, typer.Option(help="Of the export; default its last.")] = None,
    limit: Annotated[int, typer.Option(help="How many rows of each table; 0 for all.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Check that an export holds what a backtest needs; with less than --min-coverage, list the holes and exit with 1.

    Example: engine check out --symbols SPY,QQQ --start 2024-01-02 --end 2024-03-28 --min-coverage 99.5
    """
    from engine.errors import CoverageError
    from engine.runtime.preflight import SEE_HOLES
    from engine.runtime.preflight import check as check_coverage

    check_limit(limit)
    holes, message = None, ""
    try:
        found = check_coverage(
            out,
            split_selection("--symbols", symbols),
            start,
            end,
            min_coverage=min_coverage,
            interval=interval,
            price_type=split_selection("--price-type", price_type),
            of=of,  # type: ignore[arg-type] # it says what is valid
            audit=audit,
            as_of=as_of,
            revision=revision,
        )
    except CoverageError as error:
        found, holes, message = error.preflight, error.holes, str(error)
    worst = found.frame.sort("coverage", "symbol", "price_type", nulls_last=True)
    if as_json:
        listed = [] if holes is None else holes.to_dicts()
        print_json({"passed": holes is None, "series": worst.to_dicts(), "holes": listed})
    else:
        print_frame("Coverage", worst.head(limit) if limit else worst)
        if holes is None:
            print_text(f"{worst.height} series have at least {min_coverage:g} % of {of}")
        else:
            print_frame("Holes", holes.head(limit) if limit else holes)
    if holes is not None:
        # Here they are printed.
        typer.echo(f"engine: {message.removesuffix(SEE_HOLES)}", err=True)
        raise typer.Exit(FAILED)
