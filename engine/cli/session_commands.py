"""Commands that run a session from a configuration: `engine config check`, `engine replay`; `engine live` is in `live_command`."""

# Rooms are imported inside the commands: `engine --help` answers without loading Polars, DuckDB or a calendar.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.app import AsJson, app
from engine.cli.console import merge_notes, print_frame, print_json, print_line, print_list, progress, watching
from engine.cli.parsing import usage_error

if TYPE_CHECKING:
    import polars as pl

    from engine.runtime.config import SessionConfig
    from engine.runtime.coordinator import SessionCoordinator, Step
    from engine.sources.streams.contract import Stream
    from engine.store.session_data import SessionData

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="TOML or JSON; `docs/sessions.md` has every key.")]

MOST_WATCHED = 20  # symbols shown while a session runs: the worst ones

config_app = typer.Typer(help="Configurations of sessions.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@config_app.command()
def check(config: ConfigFile, as_json: AsJson = False) -> None:
    """Explain the subscriptions, derived intervals and requirements of each symbol. Exit code 1 if one is refused.

    Example: engine config check session.toml
    """
    from engine.report.session_status import subscription_table
    from engine.runtime.config import SessionConfig

    whole = SessionConfig.read(config)
    stream, notes = open_source(whole)
    rows = list(explain_subscriptions(whole, stream))
    stream.close()
    table = subscription_table(rows)
    if as_json:
        print_json({"mode": whole.session.mode, "symbols": table.to_dicts(), "notes": notes})
    else:
        print_frame(f"{config}: {whole.session.mode}", table)
        print_list("note", merge_notes(notes))
    if any(row[1] == "refuse" for row in rows):
        raise typer.Exit(1)


def open_source(config: SessionConfig) -> tuple[Stream, list[str]]:
    """(live stream, []) in live mode; else read the replay's files and return (replay stream, notes on the files)."""
    from engine.runtime.deployments import ReplaySession
    from engine.runtime.live import open_stream

    if config.session.mode == "live":
        return open_stream(config), []
    replay = ReplaySession(config)
    return replay.stream, list(replay.contents.notes)


def explain_subscriptions(config: SessionConfig, stream: Stream) -> Iterator[tuple[str, str, str, str]]:
    """Yield (symbol, action, item, reason) of each symbol's plan, history, indicators; `refuse` if not offered."""
    from engine.runtime.subscription_plan import Requirements, explain_plan, plan_subscription

    symbols = list(config.session.symbols) or sorted(stream.available([]))
    offers = stream.available(symbols)
    for symbol in symbols:
        if symbol not in offers:
            yield symbol, "refuse", symbol, "the source has nothing of it"
            continue
        asked = Requirements.of(config, symbol)
        yield from ((symbol, *row) for row in explain_plan(plan_subscription(symbol, asked, offers[symbol]), asked))
        for history in config.history_of(symbol):
            yield symbol, "history", f"{history.sessions} sessions", ", ".join(history.intervals) or "base bars"
        for indicator in config.indicators_of(symbol):
            yield symbol, "indicator", indicator.use, ", ".join(indicator.intervals) or "base bars"


@app.command()
def replay(
    config: ConfigFile,
    speed: Annotated[
        str | None, typer.Option(help="`max`, or how many times as fast as the clock: 60 is a minute a second.")
    ] = None,
    step: Annotated[str | None, typer.Option(help="Session time that passes in a step, such as 1m or 15m.")] = None,
    export: Annotated[Path | None, typer.Option(help="Write the dataset to this folder.")] = None,
    watch: Annotated[bool, typer.Option(help="Show symbols, bars, gaps and lag as they grow.")] = True,
    as_json: AsJson = False,
) -> None:
    """Replay files in the order of arrival (nothing is visible before it was available), then print the final state.

    Example: engine replay session.toml --speed 60
    """
    import time

    from engine.runtime.config import SessionConfig
    from engine.runtime.deployments import ReplaySession

    whole = override_replay(SessionConfig.read(config), speed, step, export)
    with progress(enabled=not as_json) as tell:
        session = ReplaySession(whole, tell)
    session.load()
    with watching(enabled=watch and not as_json) as show:
        for one in session.paced(time.sleep):
            show(partial(watch_table, session.coordinator, session.session, one, None))
    print_session(session.coordinator, session.session, whole, as_json=as_json)


def override_replay(config: SessionConfig, speed: str | None, step: str | None, export: Path | None) -> SessionConfig:
    """Copy of the configuration with the options that are not None; `export` changes the target, not its cadence."""
    from engine.interval import Interval
    from engine.runtime.config import ExportPart

    part = config.replay.model_dump()
    if speed is not None:
        part["speed"] = 0.0 if speed == "max" else parse_speed(speed)
    if step is not None:
        part["step_seconds"] = float(Interval.parse(step).seconds)
    changed: dict[str, object] = {"replay": type(config.replay).model_validate(part)}
    if export is not None:
        every = config.export.every_seconds if config.export else 0.0
        changed["export"] = ExportPart(target=export, every_seconds=every)
    return config.model_copy(update=changed)


def parse_speed(text: str) -> float:
    """Parse a finite number of 0 or more (0: without pauses); ParameterError otherwise, also for `max`."""
    try:
        number = float(text)
    except ValueError as error:
        raise usage_error(f"--speed: received {text!r}; valid: max, or a number such as 60") from error
    if not 0 <= number < float("inf"):
        raise usage_error(f"--speed: received {text!r}; valid: 0 or more")
    return number


def watch_table(
    coordinator: SessionCoordinator, session: SessionData, step: Step, lag: float | None
) -> tuple[str, pl.DataFrame]:
    """(title with time, phase, sessions over, rows, lag; table of the 20 series of worst quality)."""
    from engine.report.session_status import session_state_table

    over, known = coordinator.sessions
    title = (
        f"{step.at:%Y-%m-%d %H:%M:%S} UTC  session {step.session or '-'} {coordinator.phase}  {over} of {known} over"
    )
    title += f"  rows {coordinator.totals.rows:,}  derived {coordinator.totals.derived:,}"
    title += f"  lag {lag:.1f} s" if lag is not None else ""
    return title, session_state_table(session.snapshot(), MOST_WATCHED)


def print_session(
    coordinator: SessionCoordinator,
    session: SessionData,
    config: SessionConfig,
    errors: Sequence[str] = (),
    *,
    as_json: bool,
) -> None:
    """Print symbols, counts, notes and errors of a session; or all as JSON."""
    from engine.report.session_status import session_state_table

    totals = coordinator.totals
    counted = {
        "rows": totals.rows,
        "duplicates": totals.duplicates,
        "corrections": totals.corrections,
        "derived_bars": totals.derived,
        "steps": totals.steps,
        "exports": totals.exports,
        "export": None if config.export is None else str(config.export.target),
    }
    table = session_state_table(session.snapshot())
    if as_json:
        print_json({**counted, "symbols": table.to_dicts(), "notes": totals.notes, "errors": errors})
        return
    print_frame("Symbols", table)
    print_line(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in counted.items() if value is not None))
    print_list("note", totals.notes)
    print_list("error", errors)
