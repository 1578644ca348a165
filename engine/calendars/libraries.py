"""The one door to exchange_calendars, pandas_market_calendars and pandas: codes, facts and sessions as they have them.

What they answer is kept on disk (`disk_cache`): the libraries are imported, inside the functions that ask them, where a
frame must be built. Before a library builds its first sessions, it is asked for one special session that some
versions lose (`require_sound_library`), and refused if it does not know it.
A segment's close never depends on what else was asked: libraries are asked for whole decades.
"""

from __future__ import annotations

import datetime as dt
import inspect
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import requires, version
from typing import Any, NamedTuple

import polars as pl

from engine.calendars.cache import cached
from engine.calendars.disk_cache import cached_on_disk
from engine.calendars.hours import around_break, empty_spans, spans_between, us_extended
from engine.errors import CalendarError
from engine.schema import Schema

FIRST, LAST = dt.date(1970, 1, 1), dt.date(2049, 12, 31)
US_EQUITIES = "XNYS"
# Built on both sides of a decade: a year's last session may belong to the next year's first trade date.
MARGIN = dt.timedelta(days=40)
_ROUND_THE_CLOCK = ("24/5", "IEPA", "us_futures")
# The distributions whose versions decide what each library answers.
_DISTRIBUTIONS = {"exchange_calendars": "exchange-calendars", "pandas_market_calendars": "pandas-market-calendars"}

EXCHANGES: Schema = {
    "code": pl.String(), "name": pl.String(), "zone": pl.String(), "first": pl.Date(), "last": pl.Date(),
    "description": pl.String(),
}  # fmt: skip
MARKETS: Schema = {
    "code": pl.String(), "name": pl.String(), "zone": pl.String(), "labels": pl.List(pl.String()),
    "description": pl.String(),
}  # fmt: skip


class Exchange(NamedTuple):
    """A code or alias of exchange_calendars: the code of its class, its zone, first and last date, a description."""

    code: str
    name: str
    zone: str
    first: dt.date
    last: dt.date
    description: str


class Market(NamedTuple):
    """A code of pandas_market_calendars: the name of its class, its zone, labels in no order, its full name."""

    code: str
    name: str
    zone: str
    labels: list[str]
    description: str


@contextmanager
def ignore_warnings() -> Iterator[None]:
    """Context manager that suppresses all Python warnings in its block."""
    # What pandas has to say about the libraries' own code is not for our callers.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def require_sound_library(library: str, special: Callable[[], bool]) -> None:
    """Raise CalendarError naming the versions unless `special()`, a test for one special session, holds; run at first use."""
    versions = f"{library} {version(_DISTRIBUTIONS[library])} with pandas {version('pandas')}"
    try:
        with ignore_warnings():
            is_sound = special()
    except Exception as error:  # versions that do not fit may raise anything
        raise CalendarError(f"{versions} fails ({type(error).__name__}: {error}); {install_advice()}") from error
    if not is_sound:
        raise CalendarError(
            f"{versions} does not know a special session that took place, so its other sessions may be wrong too; "
            f"{install_advice()}"
        )


def install_advice() -> str:
    """Text `install ...` with the versions of the calendar libraries and pandas that this package requires."""
    asked = (text.replace(" ", "") for text in requires("session-engine") or () if ";" not in text)
    names = ("pandas", *_DISTRIBUTIONS.values())
    bounded = [text for text in asked if re.split(r"[<>=!~]", text)[0] in names]
    return "install " + " ".join(f"'{text}'" for text in sorted(bounded))


def schedule_frame(schedule: Any) -> pl.DataFrame:  # noqa: ANN401 - a pandas frame
    """Pandas schedule as a Polars frame: `session` (Date) from its index, its columns, all in UTC, as Datetime[us, UTC]."""
    session = pl.Series("session", schedule.index.to_numpy().astype("datetime64[us]")).cast(pl.Date)
    instants = [
        pl.Series(name, schedule[name].dt.tz_localize(None).to_numpy().astype("datetime64[us]")) for name in schedule
    ]
    return pl.DataFrame([session, *(values.dt.replace_time_zone("UTC") for values in instants)])


# ---------------------------------------------------------------------------- exchange_calendars


def exchanges() -> dict[str, Exchange]:
    """All codes of exchange_calendars, then its aliases, refused ones included; cached per process."""
    return cached(load_exchanges)


def load_exchanges() -> dict[str, Exchange]:
    """Codes and aliases of exchange_calendars from the kept listing; uncached."""
    return {row[0]: Exchange(*row) for row in cached_on_disk(list_exchanges).iter_rows()}


def list_exchanges() -> pl.DataFrame:
    """Codes of exchange_calendars and their facts, then its aliases with those of the codes they stand for."""
    rows = []
    factories = exchange_factories()
    for code, factory in factories.items():
        name = next(known for known, other in factories.items() if other is factory)
        # The zone is a property that needs no sessions, so none are built for it.
        zone = str(object.__new__(factory).tz)
        low, high = factory.bound_min(), factory.bound_max()
        first = max(FIRST, low.date()) if low else FIRST
        last = min(LAST, high.date()) if high else LAST
        opening = (inspect.getdoc(factory) or "").splitlines()[:1]
        own = opening[0] if opening and "calendar" in opening[0].lower() else f"Exchange calendar {name}."
        rows.append((code, name, zone, first, last, own if name == code else f"as {name}"))
    return pl.DataFrame(rows, schema=dict(EXCHANGES), orient="row")


def exchange_factories() -> dict[str, Any]:
    """Calendar classes of exchange_calendars by code and by alias, cached per process."""
    return cached(load_exchange_factories)


def load_exchange_factories() -> dict[str, Any]:
    """Import exchange_calendars and return its calendar classes by code and by alias; uncached."""
    with ignore_warnings():
        from exchange_calendars.calendar_utils import (  # noqa: PLC0415 - half a second to import
            _default_calendar_aliases,
            _default_calendar_factories,
        )
    aliases = {alias: _default_calendar_factories[name] for alias, name in _default_calendar_aliases.items()}
    return {**_default_calendar_factories, **aliases}


def exchange_label(name: str) -> str:
    """`ETH` for codes in `_ROUND_THE_CLOCK` (24/5, IEPA, us_futures), else `RTH`."""
    return "ETH" if name in _ROUND_THE_CLOCK else "RTH"


def exchange_build_range(name: str, decade: int) -> tuple[dt.date, dt.date]:
    """First and last date to build for a decade (199: the 1990s): 40 days more on each side, cut to the exchange's bounds."""
    # Rules such as "the first session of the year opens late" (XKRX) go wrong at the last session that is built.
    first, last = dt.date(decade * 10, 1, 1) - MARGIN, dt.date(decade * 10 + 9, 12, 31) + MARGIN
    low, high = exchange_factories()[name].bound_min(), exchange_factories()[name].bound_max()
    return max(first, low.date()) if low else first, min(last, high.date()) if high else last


def exchange_builds(name: str) -> bool:
    """Whether exchange_calendars can build three months of a code; some versions of pandas raise for some codes."""
    return bool(cached_on_disk(try_exchange, name).item())


def try_exchange(name: str) -> pl.DataFrame:
    """One Boolean: whether three months of a code can be built."""
    try:
        with ignore_warnings():
            exchange_factories()[name](start="2024-01-01", end="2024-03-31")
    except (ValueError, NotImplementedError):
        return pl.DataFrame({"builds": [False]})
    return pl.DataFrame({"builds": [True]})


def exchange_special_session() -> bool:
    """Whether exchange_calendars knows Saturday 2024-01-20 of XBOM, a session by a week mask of its own."""
    built = exchange_factories()["XBOM"](start="2024-01-15", end="2024-02-15").schedule
    return "2024-01-20" in built.index.strftime("%Y-%m-%d")


def exchange_decade(name: str, decade: int) -> pl.DataFrame:
    """Spans of an exchange in a decade (199: the 1990s), US equities with extended hours; CalendarError if the build fails."""
    return cached_on_disk(build_exchange_decade, name, decade)


def build_exchange_decade(name: str, decade: int) -> pl.DataFrame:
    """As `exchange_decade`, asked of the library."""
    cached(require_sound_library, "exchange_calendars", exchange_special_session)
    first, last = exchange_build_range(name, decade)
    try:
        with ignore_warnings():
            schedule = exchange_factories()[name](start=first.isoformat(), end=last.isoformat()).schedule
    except (ValueError, NotImplementedError) as error:
        raise CalendarError(
            f"calendar {name}: exchange_calendars {version('exchange-calendars')} cannot build {first} to {last} "
            f"({type(error).__name__}: {error}); write its hours in a TOML file instead"
        ) from error
    frame = schedule_frame(schedule).filter(pl.col("session").dt.year() // 10 == decade)
    sessions = around_break(frame, exchange_label(name), "open", "close")
    return pl.concat([sessions, us_extended(sessions)]) if name == US_EQUITIES else sessions


# ---------------------------------------------------------------------------- pandas_market_calendars


def market_codes() -> list[str]:
    """Codes of pandas_market_calendars that exchange_calendars does not have, cached per process."""
    return cached(load_market_codes)


def load_market_codes() -> list[str]:
    """Codes of pandas_market_calendars that exchange_calendars does not have, from the kept list; uncached."""
    return cached_on_disk(list_market_codes)["code"].to_list()


def list_market_codes() -> pl.DataFrame:
    """One column `code`: those of pandas_market_calendars that exchange_calendars does not have."""
    with ignore_warnings():
        import pandas_market_calendars  # noqa: PLC0415 - half a second to import
    mirrored = exchanges()
    codes = [code for code in pandas_market_calendars.get_calendar_names() if code not in mirrored]
    return pl.DataFrame({"code": codes}, schema={"code": pl.String()})


def market(code: str) -> Market:
    """Facts of a code of pandas_market_calendars."""
    return Market(*cached_on_disk(describe_market, code).row(0))


def describe_market(code: str) -> pl.DataFrame:
    """One row: the facts of a code of pandas_market_calendars."""
    instance = market_instance(code)
    extended = [label for label, time in (("PRE", "pre"), ("POST", "post")) if time in instance.market_times]
    row = (code, instance.name, str(instance.tz), ["RTH", *extended], instance.full_name)
    return pl.DataFrame([row], schema=dict(MARKETS), orient="row")


def market_instance(code: str) -> Any:  # noqa: ANN401 - a class without types
    """Calendar object of a pandas_market_calendars code, cached per process."""
    return cached(build_market_instance, code)


def build_market_instance(code: str) -> Any:  # noqa: ANN401 - a class without types
    """New calendar object of a pandas_market_calendars code; uncached."""
    with ignore_warnings():
        import pandas_market_calendars  # noqa: PLC0415 - half a second to import

        return pandas_market_calendars.get_calendar(code)


def market_special_session() -> bool:
    """Whether pandas_market_calendars knows the evening session of NSE on Friday 2024-11-01, 18:00 to 19:00."""
    times = market_instance("NSE").schedule("2024-10-28", "2024-11-05")
    evening = times[times.index == "2024-11-01"].astype("string").to_numpy().tolist()
    return bool(evening == [["2024-11-01 12:30:00+00:00", "2024-11-01 13:30:00+00:00"]])


def market_decade(code: str, decade: int) -> pl.DataFrame:
    """Spans of a market in a decade (199: the 1990s), PRE and POST included."""
    return cached_on_disk(build_market_decade, code, decade)


def build_market_decade(code: str, decade: int) -> pl.DataFrame:
    """As `market_decade`, asked of the library."""
    cached(require_sound_library, "pandas_market_calendars", market_special_session)
    first, last = dt.date(decade * 10, 1, 1), dt.date(decade * 10 + 9, 12, 31)
    instance = market_instance(code)
    with ignore_warnings():
        schedule = instance.schedule(first - MARGIN, last + MARGIN, market_times="all")
    if schedule.empty:
        return empty_spans()
    frame = schedule_frame(schedule)
    sessions = around_break(frame, "RTH", "market_open", "market_close")
    extended = [
        spans_between(frame, label, begin, end)
        for label, begin, end in (("PRE", "pre", "market_open"), ("POST", "market_close", "post"))
        if {begin, end} <= set(frame.columns)
    ]
    return pl.concat([sessions, *extended]).filter(pl.col("session").is_between(first, last))
