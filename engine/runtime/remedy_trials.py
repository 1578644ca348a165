"""Remedies tried on the rows at hand: what a finding proposes is applied, and kept only if the rows fit better for it.

1. Findings that propose the same options are one trial: the rows of their symbols (up to a million) are read again with these.
2. `measured_series` counts slots with a bar and rows outside sessions; the checks say whether the finding is gone.
3. A remedy that helps is printed with its figures before and after. Of one that does not, the evidence says what speaks against it,
   and the next alternative is tried.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import polars as pl

from engine.audit.pipeline import attribute_gaps
from engine.audit.survey import CheckedAxis, Survey
from engine.calendars.providers import calendar
from engine.checks.calendar_check import IN_SESSION, ORDINARY, UNSCHEDULED_ROWS
from engine.checks.check import SERIES
from engine.checks.remedies import alternatives_of, any_of, options_of, shift_option
from engine.errors import EngineError
from engine.interval import Interval
from engine.runtime.options import CalendarMap, LoadOptions
from engine.schema import Schema, empty
from engine.sources.options import parse_shift

MOST_ROWS, MOST_SYMBOLS = 1_000_000, 50  # of a trial
MOST_TRIALS = 32  # of an audit
FEWEST_SESSIONS = 5
ALMOST_ALL = 99  # percent; beyond it a tenth is told
ABOUT_AS_GOOD = 0.1  # percent of the fit: a step more or less at an edge
MISSING_OPTION = "no option of reading mends this: {}"

KEY = list(SERIES)
MEASURED: Schema = {
    "symbol": pl.String(),
    "price_type": pl.String(),
    "interval": pl.String(),
    "sessions": pl.Int64(),
    "rows": pl.Int64(),
    "expected": pl.Int64(),
    "present": pl.Int64(),
    "inside": pl.Int64(),
    "strays": pl.Int64(),
}
PLACED: Schema = {**SERIES, "place": UNSCHEDULED_ROWS["place"], "rows": pl.Int64()}
Retry = Callable[[LoadOptions, Sequence[str]], Survey]
Judge = Callable[[Survey], pl.DataFrame]
Row = dict[str, Any]


class Measured(NamedTuple):
    """How the rows of some series fit: `MEASURED` of each (rows `inside` sessions, `strays` outside), and what the checks find."""

    series: pl.DataFrame
    found: pl.DataFrame


@dataclass(frozen=True)
class Trials:
    """What is needed to try a remedy.

    Attributes
    ----------
    retry : callable
        Reads the rows of some symbols with other options, and surveys them.
    judge : callable
        Findings of the checks of a survey.
    options : LoadOptions
        Of the audit.
    series : DataFrame of `MEASURED`
        Of the audit, with `first_session` and `last_session`.
    """

    retry: Retry
    judge: Judge
    options: LoadOptions
    series: pl.DataFrame

    def measure(self, options: LoadOptions, symbols: Sequence[str]) -> Measured:
        """Read the symbols with these options; return how their rows fit.

        Raises
        ------
        EngineError
            They cannot be read so.
        """
        survey = self.retry(options, symbols)
        series = attribute_gaps(survey, calendar, options.dates, options.as_of)["series"]
        return Measured(measured_series(series, survey.checks), self.judge(survey))


def measured_series(series: pl.DataFrame, checks: Sequence[CheckedAxis]) -> pl.DataFrame:
    """The table `series` with the rows `inside` sessions, and `strays`: outside, extended hours and auctions apart."""
    placed = pl.concat([empty(PLACED), *(one.measured["unscheduled"].select(list(PLACED)) for one in checks)])
    place = pl.col("place").cast(pl.String)
    counted = placed.group_by(KEY).agg(
        pl.col("rows").filter(place == IN_SESSION).sum().alias("inside"),
        pl.col("rows").filter(~place.is_in([IN_SESSION, *ORDINARY])).sum().alias("strays"),
    )
    joined = series.join(counted, on=KEY, how="left", maintain_order="left")
    ends = [name for name in ("first_session", "last_session") if name in series.columns]
    return joined.select(*(pl.col(name).cast(dtype) for name, dtype in MEASURED.items()), *ends).with_columns(
        pl.col("expected", "present", "inside", "strays").fill_null(0)
    )


def with_tried_remedies(found: pl.DataFrame, trials: Trials) -> pl.DataFrame:
    """The findings with remedies that were tried: those that help with figures in `evidence`, else why they do not.

    Parameters
    ----------
    found : DataFrame of `checks.findings.FINDINGS`
        Of the checks; those that propose no option stay as they are.
    trials : Trials
    """
    proposing = with_joint_remedies(
        [
            (at, row)
            for at, row in enumerate(found.iter_rows(named=True))
            if any(map(options_of, alternatives_of(row["remedy"])))
        ]
    )
    groups: dict[tuple[str, str, str], list[tuple[int, Row]]] = {}
    for at, row in proposing:
        groups.setdefault((row["check_name"], row["interval"], row["remedy"]), []).append((at, row))
    said: dict[int, Row] = {}
    left = MOST_TRIALS
    for (check, _, remedy), members in groups.items():
        alternatives = alternatives_of(remedy)
        if left < len(alternatives):
            said |= {at: {**row, "evidence": f"{row['evidence']}; the remedy was not tried"} for at, row in members}
            continue
        left -= sum(bool(options_of(one)) for one in alternatives)
        said |= tried_group(check, alternatives, members, trials)
    rows = [said.get(at, row) for at, row in enumerate(found.iter_rows(named=True))]
    return pl.DataFrame(rows, schema=found.schema, orient="row") if said else found


def with_joint_remedies(proposing: Sequence[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """Findings, by number, of series with two faults of stamps: before their own remedies, the two findings' together.

    Either remedy alone leaves the other fault, and so seems not to help.
    """
    clocks, stamps = (
        {tuple(row[name] for name in KEY): row["remedy"] for _, row in proposing if row["check_name"] == check}
        for check in ("clock", "stamp")
    )
    joint = {
        series: [
            f"{stamp} {clock}"
            for stamp in alternatives_of(stamps[series])
            for clock in alternatives_of(clocks[series])
            if options_of(stamp) and options_of(clock) and not set(options_of(stamp)) & set(options_of(clock))
        ]
        for series in stamps.keys() & clocks.keys()
    }
    return [
        (at, row | {"remedy": any_of(*joint.get(tuple(row[name] for name in KEY), []), row["remedy"])})
        for at, row in proposing
    ]


def tried_group(
    check: str, alternatives: Sequence[str], members: Sequence[tuple[int, Row]], trials: Trials
) -> dict[int, Row]:
    """Findings of one check and remedy, by number, with the first alternative that helps each."""
    symbols, dates = sample(trials.series, [row["symbol"] for _, row in members], trials.options.dates)
    now = replace(trials.options, dates=dates)
    before = measured_so_far(trials, now, symbols)
    done: dict[int, Row] = {}
    against: dict[int, list[str]] = {at: [] for at, _ in members}
    others = ""
    for alternative in alternatives:
        open_ones = [(at, row) for at, row in members if at not in done]
        options = options_of(alternative)
        if not options:
            others = alternative
            continue
        if not open_ones:
            break
        shown, changed = with_options(now, alternative, options)
        try:
            after = trials.measure(changed, symbols)
        except EngineError as error:
            reason = f"{shown} does not read them: {getattr(error, 'reason', error)}"
            against = {at: [*texts, reason] for at, texts in against.items()}
            continue
        outcomes = {
            (row["symbol"], row["price_type"]): outcome(check, row, shown, before, after)
            for _, row in open_ones
            if row["symbol"] in symbols
        }
        helped = [text for is_better, text in outcomes.values() if is_better]
        for at, row in open_ones:
            own = outcomes.get((row["symbol"], row["price_type"]))
            is_better, text = own or (len(helped) * 2 > len(outcomes), f"{shown} was tried on other symbols")
            if is_better:
                evidence = "; ".join([row["evidence"] or "", *against[at], text]).removeprefix("; ")
                done[at] = {**row, "remedy": shown, "evidence": evidence}
            else:
                against[at].append(text)
    for at, row in members:
        if at not in done:
            evidence = "; ".join([row["evidence"] or "", *against[at]]).removeprefix("; ")
            done[at] = {**row, "remedy": others or MISSING_OPTION.format("ask the vendor"), "evidence": evidence}
    return done


def sample(
    series: pl.DataFrame, symbols: Sequence[str], dates: tuple[dt.date | None, dt.date | None]
) -> tuple[list[str], tuple[dt.date | None, dt.date | None]]:
    """Symbols by name up to a million rows and 50; of one with more rows its last sessions with so many."""
    sizes = series.filter(pl.col("symbol").is_in(sorted(set(symbols)))).group_by("symbol").agg(
        pl.col("rows").sum(), pl.col("sessions").max(), pl.col("last_session").max()
    ).sort("symbol")  # fmt: skip
    fit = sizes.filter((pl.col("rows").cum_sum() <= MOST_ROWS) & (pl.int_range(pl.len()) < MOST_SYMBOLS))
    if fit.height:
        return fit["symbol"].to_list(), dates
    symbol, rows, sessions, last = sizes.row(0)
    share = max(int(sessions * MOST_ROWS / rows), FEWEST_SESSIONS) / max(sessions, 1)
    first = series.filter(pl.col("symbol") == symbol)["first_session"].min()
    return [symbol], (last - (last - first) * share, last)


def measured_so_far(trials: Trials, options: LoadOptions, symbols: Sequence[str]) -> pl.DataFrame:
    """`MEASURED` of the symbols as they were audited; read again where the sample is a part of their sessions."""
    if options.dates != trials.options.dates:
        return trials.measure(options, symbols).series
    return trials.series.filter(pl.col("symbol").is_in(list(symbols)))


def with_options(options: LoadOptions, alternative: str, chosen: dict[str, str]) -> tuple[str, LoadOptions]:
    """(the alternative as it is to be printed, the options with it); a shift is added to that which is set already."""
    read, shown = options.read, alternative
    for name, value in chosen.items():
        if name == "calendar":
            options = replace(options, calendars=CalendarMap(value))
        elif name == "interval":
            options, read = (
                replace(options, interval=Interval.parse(value)),
                replace(read, interval=Interval.parse(value)),
            )
        elif name == "shift":
            whole = shift_option((parse_shift(value) + read.offset).total_seconds())
            shown = shown.replace(f"--shift={value}", whole).replace(f"--shift {value}", whole)
            read = replace(read, shift=whole[len("--shift=") :])
        else:
            read = replace(read, **{name: value})  # type: ignore[arg-type]
    return shown, replace(options, read=read)


def outcome(check: str, row: Row, shown: str, before: pl.DataFrame, after: Measured) -> tuple[bool, str]:
    """(whether the option mends a finding, what it changes in words)."""
    was, now = one_series(before, row), one_series(after.series, row)
    option = shown.partition(" (")[0]
    if was is None or now is None:
        return False, f"with {option} none of its rows would be bars of a session"
    (present, then), (strays, left) = ([share(one) for one in (was, now)], [one["strays"] for one in (was, now)])
    ours = after.found.filter(
        (pl.col("symbol") == row["symbol"])
        & (pl.col("price_type") == row["price_type"])
        & pl.col("check_name").is_in([check, *(("clock", "calendar") if check != "interval" else ())])
    )
    is_finer = Interval.parse(now["interval"]) < Interval.parse(row["interval"])
    gain = inside(now) - inside(was) if is_finer else fit(now) - fit(was)
    if ours.is_empty() and gain >= -ABOUT_AS_GOOD and now["rows"] >= was["rows"] * (1 - ABOUT_AS_GOOD / 100):
        sessions = f"{was['sessions']:,} session{'s' if was['sessions'] != 1 else ''}"
        change = f"present {percent(present)} -> {percent(then)}, rows outside sessions {strays:,} -> {left:,}"
        return True, f"{option} tried on {sessions}: {change}"
    if then == present and left == strays:
        why = "which carry a zone of their own" if "--timezone" in option else "or not enough of it"
        return False, f"{option} would change nothing of these stamps, {why}"
    worse = [f"{left:,} rows outside sessions instead of {strays:,}"] if left > strays else []
    worse += [f"{percent(then)} of the slots present instead of {percent(present)}"] if then < present else []
    if not worse or gain > 0:
        worse = [f"{left:,} rows outside sessions and {percent(then)} of the slots present, and the finding stays"]
    return False, f"{option} would give {' and '.join(worse)}"


def one_series(series: pl.DataFrame, row: Row) -> Row | None:
    """The row of a table of series that has a finding's symbol and price type, whatever its interval; None: none."""
    own = series.filter((pl.col("symbol") == row["symbol"]) & (pl.col("price_type") == row["price_type"]))
    return own.row(0, named=True) if own.height else None


def share(series: Row) -> float:
    """The slots of a series that have a bar, in percent; 0 where none are expected."""
    return 100.0 * int(series["present"]) / int(series["expected"]) if series["expected"] else 0.0


def inside(series: Row) -> float:
    """The rows of a series that lie in sessions, in percent; extended hours and auctions do not count."""
    return 100.0 * int(series["inside"]) / max(int(series["inside"] + series["strays"]), 1)


def fit(series: Row) -> float:
    """The harmonic mean of `share` and `inside`: 100 where rows fill the sessions and only those."""
    return 2 * share(series) * inside(series) / max(share(series) + inside(series), 1e-9)


def percent(value: float) -> str:
    """A share in percent with the digits that tell it from 0 and 100."""
    return f"{value:.0f} %" if value in (0.0, 100.0) or 1 <= value < ALMOST_ALL else f"{value:.1f} %"
