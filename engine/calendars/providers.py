"""Calendars of exchanges, by code or file: their sessions, labels and bounds.

Which provider answers a code, the first that has it:

1. this package, by the files of `data/` (`24/7`, `FX`, `CME_INDEX`, ...), also for the codes of `_ALIASES`, which a
   library has, but not right;
2. exchange_calendars, codes and aliases: one label `RTH` (`ETH` for the venues of `_ROUND_THE_CLOCK`); its US
   equity codes have PRE, POST and OVERNIGHT too (`hours.us_extended`);
3. pandas_market_calendars: markets that exchange_calendars lacks (`RTH`, PRE and POST).

Codes of `_REFUSED` are known to be wrong, and refused with the code to use instead. A code that exchange_calendars
cannot build has the sessions of pandas_market_calendars where that knows the market (`_SUBSTITUTES`). The libraries
are asked in `calendars.libraries` alone. What is built of libraries and files is cached in `calendars.cache` for the
process, which documents when it is built anew, and what depends on nothing of the user's on disk too
(`calendars.disk_cache`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import polars as pl

from engine.arguments import did_you_mean, names_of, path_of, required_date
from engine.calendars.auctions import AUCTION, auctions_of, with_auctions
from engine.calendars.cache import adopted, cached, has_adopted
from engine.calendars.disk_cache import cached_on_disk
from engine.calendars.files import CalendarFile, parse_calendar, parse_overrides, read_bytes
from engine.calendars.hours import (
    Amendments,
    amend,
    dates,
    empty_spans,
    weekly_spans,
)
from engine.calendars.interruptions import Interruption, interruptions_of
from engine.calendars.libraries import (
    FIRST,
    LAST,
    MARGIN,
    US_EQUITIES,
    exchange_builds,
    exchange_decade,
    exchange_label,
    exchanges,
    market,
    market_codes,
    market_decade,
)
from engine.calendars.questions import CalendarQuestions
from engine.display import Summarized, Summary
from engine.errors import CalendarError, ParameterError
from engine.schema import SEGMENTS, SEGMENTS_PER_SESSION, Schema, select_schema, session_ordinal

LABELS = ("OVERNIGHT", "PRE", "RTH", "ETH", "POST")  # in the order of a session
DATA = Path(__file__).parent / "data"

CODES: Schema = {
    "code": pl.String(),
    "provider": pl.String(),
    "zone": pl.String(),
    "labels": pl.List(pl.String()),
    "description": pl.String(),
}

Dates = tuple[dt.date, dt.date]
SpansOf = Callable[[dt.date, dt.date], pl.DataFrame]

_SHIPPED: Mapping[str, str] = {
    "24/7": "always.toml",
    "FX": "fx.toml",
    "GOLD_CFD": "gold_cfd.toml",
    "CME_INDEX": "cme_index.toml",
    "CME_RATES": "cme_rates.toml",
    "CME_FX": "cme_fx.toml",
    "CME_CRYPTO": "cme_crypto.toml",
    "CME_LIVESTOCK": "cme_livestock.toml",
    "CBOT_GRAINS": "cbot_grains.toml",
    "COMEX_METALS": "comex_metals.toml",
    "NYMEX_ENERGY": "nymex_energy.toml",
    "EUREX_INDEX": "eurex_index.toml",
    "EUREX_DAX": "eurex_dax.toml",
    "EUREX_RATES": "eurex_rates.toml",
    "CFE_VX": "cfe_vx.toml",
    "XBKK": "xbkk.toml",
    "XBOM": "xbom.toml",
    "XCBF": "xcbf.toml",
    "CBOE_Equity_Options": "cboe_equity_options.toml",
    "IEX": "iex.toml",
    "XHKG": "xhkg.toml",
    "XIDX": "xidx.toml",
    "XKAR": "xkar.toml",
    "XKLS": "xkls.toml",
    "XKRX": "xkrx.toml",
    "XPHS": "xphs.toml",
    "XSES": "xses.toml",
}
# Of exchange_calendars, when it cannot build them: the code of pandas_market_calendars that answers, and its first date.
_SUBSTITUTES: Mapping[str, tuple[str, dt.date]] = {"XTAE": ("TASE", dt.date(2019, 1, 1))}
_NO_PAUSE = (
    "{} of exchange_calendars trades through the daily pause of CME; use CME_INDEX (equity index futures), CME_RATES, "
    "CME_FX, CME_CRYPTO, CME_LIVESTOCK, CBOT_GRAINS, COMEX_METALS or NYMEX_ENERGY"
)
_IN_UTC = (
    "{} of pandas_market_calendars has one clock all year and neither Eurex' hours nor its holidays; use EUREX_INDEX"
)
_REFUSED: Mapping[str, str] = {
    **{code: _NO_PAUSE.format(code) for code in ("CMES", "CME", "CBOT", "COMEX", "NYMEX")},
    "CME_TradeDate": "CME_TradeDate of pandas_market_calendars has no hours; use CME_INDEX or CME_FX",
    **{code: _IN_UTC.format(code) for code in ("EUREX_PrePost", "EUREX_Extended")},
    **dict.fromkeys(
        ("FOREX", "Forex"),
        "FOREX of pandas_market_calendars has a sixth session, from Saturday to Sunday, when the market is closed; "
        "use FX",
    ),
}
# Codes of pandas_market_calendars that are wrong on holidays or in their hours: a shipped calendar answers instead.
_ANSWERED_BY: Mapping[str, tuple[str, ...]] = {
    "CME_INDEX": ("CME_Equity", "CBOT_Equity", "CME Globex Equity"),
    "CME_RATES": (
        "CME_Bond", "CBOT_Bond", "CME_Rate", "CBOT_Rate", "CME_InterestRate", "CBOT_InterestRate",
        "CME Globex Fixed Income", "CME Globex Interest Rate Products",
    ),
    "CME_FX": ("CMEGlobex_FX", "CME_Currency"),
    "CME_CRYPTO": ("CME Globex Crypto", "CME Globex Cryptocurrencies"),
    "CME_LIVESTOCK": (
        "CMEGlobex_Livestock", "CMEGlobex_Live_Cattle", "CMEGlobex_Feeder_Cattle", "CMEGlobex_Lean_Hog",
        "CMEGlobex_Port_Cutout",
    ),
    "CBOT_GRAINS": (
        "CMEGlobex_Grains", "CMEGlobex_Oilseeds", "CME_Agriculture", "CBOT_Agriculture", "COMEX_Agriculture",
        "NYMEX_Agriculture",
    ),
    "COMEX_METALS": (
        "CMEGlobex_Metals", "CMEGlobex_PreciousMetals", "CMEGlobex_Gold", "CMEGlobex_GC", "GC", "CMEGlobex_Silver",
        "CMEGlobex_SI", "SI", "CMEGlobex_Platinum", "CMEGlobex_PL", "PL", "CMEGlobex_BaseMetals", "CMEGlobex_Copper",
        "CMEGlobex_HG", "HG", "CMEGlobex_Aluminum", "CMEGlobex_ALI", "ALI", "CMEGlobex_QC", "QC",
        "CMEGlobex_FerrousMetals", "CMEGlobex_HRC", "HRC", "CMEGlobex_BUS", "BUS", "CMEGlobex_TIO", "TIO",
    ),
    "NYMEX_ENERGY": (
        "CMEGlobex_EnergyAndMetals", "CMEGlobex_Energy", "CMEGlobex_CrudeAndRefined", "CMEGlobex_NYHarbor",
        "CMEGlobex_HO", "HO", "CMEGlobex_Crude", "CMEGlobex_CL", "CL", "CMEGlobex_Gas", "CMEGlobex_RB", "RB",
        "CMEGlobex_MicroCrude", "CMEGlobex_MCL", "MCL", "CMEGlobex_NatGas", "CMEGlobex_NG", "NG",
        "CMEGlobex_Dutch_NatGas", "CMEGlobex_TTF", "TTF", "CMEGlobex_LastDay_NatGas", "CMEGlobex_NN", "NN",
        "CMEGlobex_CarbonOffset", "CMEGlobex_CGO", "CGO", "C-GEO", "CMEGlobex_NGO", "NGO", "CMEGlobex_GEO", "GEO",
    ),
    "EUREX_INDEX": ("EUREX",),
    "EUREX_RATES": ("EUREX_Bond",),
    "CFE_VX": ("CFE", "CBOE_Futures"),
    "XCBF": ("CBOE_Index_Options",),
    "IEX": ("Investors_Exchange",),
    "XBOM": ("NSE", "XNSE"),
}  # fmt: skip
_ALIASES: Mapping[str, str] = {alias: code for code, aliases in _ANSWERED_BY.items() for alias in aliases}


@dataclass(frozen=True, repr=False)
class SessionCalendar(CalendarQuestions, Summarized):
    """Trade dates of a venue and their segments.

    Attributes
    ----------
    code : str
        As it was asked for, or as its file says.
    provider : str
        `exchange_calendars`, `pandas_market_calendars`, `engine` (shipped files) or `file` (your own).
    version : str
        Of the provider; of a file, its hash and the version of what it extends.
    zone : str
        IANA zone of the venue.
    overrides_hash : str
        First 16 digits of the SHA-256 of the overrides file, empty without one.
    labels : tuple of str
        Segments it has, in the order of a session.
    source : callable
        What gives the spans of a range of trade dates; `segments` checks, sorts and numbers them.
    venue : str
        Code of the library's calendar that it is, or that its file extends; empty: none.
    own_interruptions : tuple of Interruption
        Those of its file.
    """

    code: str
    provider: str
    version: str
    zone: str
    overrides_hash: str
    labels: tuple[str, ...]
    source: SpansOf = field(repr=False, compare=False)
    _bounds: Dates = field(repr=False)
    venue: str = ""
    own_interruptions: tuple[Interruption, ...] = ()

    def bounds(self) -> Dates:
        """First and last trade date that `segments` accepts, both included."""
        return self._bounds

    def segments(self, first: dt.date | str, last: dt.date | str) -> pl.DataFrame:
        """Segments of trade dates `first` to `last` inclusive, sorted by open; CalendarError outside `bounds`.

        Returns
        -------
        DataFrame
            `schema.SEGMENTS`, sorted by `segment_open`, disjoint. `regular` marks RTH, or ETH where there is no
            RTH (every segment where there is neither). Dates without a session have no row.

        Raises
        ------
        CalendarError
            `first` or `last` lies outside `bounds`, or the provider cannot build these years.
        """
        first, last = required_date("first", first), required_date("last", last)
        earliest, latest = self._bounds
        for name, day in (("first", first), ("last", last)):
            if day < earliest:
                raise CalendarError(f"`{name}` was {day}, earlier than the first date of {self._named} ({earliest})")
            if day > latest:
                raise CalendarError(f"`{name}` was {day}, later than the last date of {self._named} ({latest})")
        if first > last:
            raise CalendarError(f"`first` was {first}, later than `last` ({last})")
        return self._number_segments(self.source(first, last))

    def segments_in_bounds(self, first: dt.date, last: dt.date) -> pl.DataFrame:
        """Segments of `first` to `last` inclusive, clipped to `bounds` without an error; empty when nothing is left."""
        earliest, latest = self._bounds
        first, last = max(first, earliest), min(last, latest)
        return self._number_segments(self.source(first, last) if first <= last else empty_spans())

    def interruptions(self) -> pl.DataFrame:
        """Interruptions of the venue, known ones and those of its file: `start, end, kind, scope, source`, by start.

        Slots inside are expected all the same; an audit explains their gaps with the cause `venue_halt`.

        Examples
        --------
        >>> from engine import calendar
        >>> calendar("XTKS").interruptions()["start"].dt.date().to_list()[-1]
        datetime.date(2020, 10, 1)
        """
        return interruptions_of((self.code, self.venue), self.own_interruptions, self.zone)

    def check_labels(self, labels: Collection[str]) -> None:
        """Raise ParameterError if any of these labels is none of the calendar's.

        Raises
        ------
        ParameterError
            The message has the labels of the calendar.
        """
        unknown = [label for label in names_of("segments", labels, least=0) or () if label not in self.labels]
        if unknown:
            raise ParameterError(
                f"segments: received {', '.join(unknown)}; calendar {self.code} has {', '.join(self.labels)}"
            )

    @property
    def _named(self) -> str:
        return f"calendar {self.code}"

    def _summary(self) -> Summary:
        """Summary for `repr` and notebooks: code, provider, version, zone, labels, bounds, overrides hash."""
        first, last = self._bounds
        facts = {
            "provider": f"{self.provider} {self.version}", "zone": self.zone, "segments": self.labels,
            "dates": f"{first} to {last}", "overrides": self.overrides_hash,
        }  # fmt: skip
        return Summary(f"SessionCalendar {self.code}", facts)

    def _number_segments(self, spans: pl.DataFrame) -> pl.DataFrame:
        """Spans sorted by open, with `ordinal` and `regular` added; CalendarError if they are invalid."""
        if AUCTION in self.labels:
            spans = with_auctions(spans, auctions_of((self.code, self.venue)), regular_labels(self.labels))
        by_open = spans.sort("segment_open")
        position = pl.int_range(pl.len()).over("session")
        segments = by_open.with_columns(
            session_ordinal(pl.col("session"), position).alias("ordinal"),
            pl.col("segment").is_in(list(regular_labels(self.labels))).alias("regular"),
        )
        self._check_segments(segments)
        return select_schema(segments, SEGMENTS, self._named)

    def _check_segments(self, segments: pl.DataFrame) -> None:
        """Raise CalendarError on a null or reversed time, an overlap, wrong session order, or too many per session."""
        opens, closes = pl.col("segment_open"), pl.col("segment_close")
        faults = {
            "begins or ends at a local time that the zone skips": opens.is_null() | closes.is_null(),
            "closes before it opens": closes <= opens,
            "overlaps the one before": opens < closes.shift(1),
            "belongs to an earlier trade date than the one before": pl.col("session") < pl.col("session").shift(1),
            f"has more than {SEGMENTS_PER_SESSION} segments": pl.len().over("session") > SEGMENTS_PER_SESSION,
        }
        for fault, test in faults.items():
            found = segments.filter(test)
            if found.height:
                row = found.row(0, named=True)
                raise CalendarError(
                    f"{self._named}: {row['segment']} of {row['session']}, "
                    f"{row['segment_open']} to {row['segment_close']}, {fault}"
                )


def calendar(code: str | Path, overrides: str | Path | None = None) -> SessionCalendar:
    """Calendar of a code or TOML file (Path, `*.toml`) with `overrides` on top; CalendarError if unknown or faulty.

    Parameters
    ----------
    code : str or Path
        One of `calendar_codes()`, or the path of a TOML file (`docs/calendars.md`); text ending in `.toml` is a path.
    overrides : Path, optional
        A TOML file of holidays and overrides applied on top.

    Raises
    ------
    CalendarError
        Unknown code (the message names the nearest), one known to be wrong, or a mistake in a file.
    """
    path = Path(code) if isinstance(code, str) else path_of("calendar", code)
    is_file = isinstance(code, Path) or path.suffix == ".toml"
    base = cached(calendar_from_content, path, read_bytes(path)) if is_file else calendar_by_code(str(code))
    if overrides is None:
        return base
    amended = path_of("overrides", overrides)
    amendments = cached(parse_overrides, amended, read_bytes(amended))
    return replace(amended_calendar(base, amendments), overrides_hash=amendments.digest)


def preload_calendar(code: str, first: dt.date, last: dt.date) -> SessionCalendar:
    """Calendar with the spans of all decades from `first` to `last` (clipped to its bounds) built now; others at need.

    Dates of other decades are still asked of the library.
    """
    base = calendar(code)
    earliest, latest = base.bounds()
    low, high = (max(min(day, latest), earliest) for day in (first, last))
    dates = max(dt.date(low.year // 10 * 10, 1, 1), earliest), min(dt.date(high.year // 10 * 10 + 9, 12, 31), latest)
    return replace(base, source=PreloadedSpans(base.source(*dates), dates, base.source))


@dataclass(frozen=True)
class PreloadedSpans:
    """Spans of a range of dates from a frame; of dates outside it from the calendar's own source."""

    spans: pl.DataFrame
    dates: Dates
    beyond: SpansOf

    def __call__(self, first: dt.date, last: dt.date) -> pl.DataFrame:
        """Spans of `first` to `last` inclusive from the frame if it covers all of them, else all from `beyond`."""
        if self.dates[0] <= first and last <= self.dates[1]:
            return self.spans.filter(pl.col("session").is_between(first, last))
        return self.beyond(first, last)


def calendar_codes() -> pl.DataFrame:
    """All codes that `calendar` takes (not adopted or refused ones), sorted: code, provider, zone, labels, description.

    Returns
    -------
    DataFrame of `code, provider, zone` (String), `labels` (List of String), `description` (String), sorted by `code`
        No calendar is built for it.
    """
    described = [
        *((cached(shipped_calendar, code), shipped_file(code).description) for code in _SHIPPED),
        *((alias_calendar(code), f"as {name}") for code, name in _ALIASES.items()),
        *((calendar_by_code(code), exchanges()[code].description) for code in exchanges() if code not in _REFUSED),
        *((cached(market_calendar, code), market(code).description) for code in market_codes()),
    ]
    rows = [(one.code, one.provider, one.zone, list(one.labels), description) for one, description in described]
    listed = pl.DataFrame(rows, schema=dict(CODES), orient="row")
    accepted = listed.filter(~pl.col("code").is_in(list(_REFUSED)))
    return accepted.unique("code", keep="first", maintain_order=True).sort("code")


def calendar_by_code(code: str) -> SessionCalendar:
    """Calendar of a code: adopted, shipped, an alias of one, of a library; CalendarError if refused or unknown."""
    if (preloaded := adopted(code)) is not None:
        return preloaded
    if code in _REFUSED:
        raise CalendarError(f"calendar: received {code!r}: {_REFUSED[code]}")
    if code in _SHIPPED:
        return cached(shipped_calendar, code)
    if code in _ALIASES:
        return alias_calendar(code)
    if code in exchanges() and (name := exchanges()[code].name) in _SHIPPED:
        return replace(cached(shipped_calendar, name), code=code)
    return library_calendar(code)


def library_calendar(code: str) -> SessionCalendar:
    """Calendar of a code as a library has it, exchange_calendars first, our own not asked; CalendarError if unknown."""
    if code in exchanges():
        name = exchanges()[code].name
        if name in _SUBSTITUTES and not cached(exchange_builds, name):
            return cached(substitute_calendar, code)
        return cached(exchange_calendar, code)
    if code in market_codes():
        return cached(market_calendar, code)
    known = [name for name in (*_SHIPPED, *_ALIASES, *exchanges(), *market_codes()) if name not in _REFUSED]
    raise CalendarError(
        f"calendar: received {code!r}{did_you_mean(code, known, 3)}; valid: a code of calendar_codes(), or a .toml file"
    )


def regular_labels(labels: tuple[str, ...]) -> frozenset[str]:
    """The regular labels: only RTH if there, else only ETH if there, else all."""
    return frozenset(next(([label] for label in ("RTH", "ETH") if label in labels), labels))


def sort_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels in session order OVERNIGHT, PRE, RTH, ETH, POST; others last, in their given order."""
    known = tuple(label for label in LABELS if label in labels)
    return known + tuple(label for label in labels if label not in LABELS)


# ---------------------------------------------------------------------------- files


def shipped_calendar(code: str) -> SessionCalendar:
    """Calendar of a shipped code's TOML file, with provider `engine` and this package's version."""
    made = made_shipped(code)
    spans = partial(spans_by_decade, shipped_decade, code)
    return replace(made, code=code, provider="engine", version=version("session-engine"), source=spans, venue=code)


def made_shipped(code: str) -> SessionCalendar:
    """Calendar of a shipped code's file, its spans not cached; a file that extends its own code corrects a library."""
    file = shipped_file(code)
    return calendar_from_file(file, library_calendar if file.extends == code else calendar_by_code)


def shipped_decade(code: str, decade: int) -> pl.DataFrame:
    """Spans of a shipped code in a decade (199: the 1990s), empty beyond its bounds."""
    # A file may extend a calendar that another process adopted with changes of its own; those are not kept on disk.
    return build_shipped_decade(code, decade) if has_adopted() else cached_on_disk(build_shipped_decade, code, decade)


def build_shipped_decade(code: str, decade: int) -> pl.DataFrame:
    """As `shipped_decade`, from the file and what it extends."""
    made = made_shipped(code)
    first, last = dt.date(decade * 10, 1, 1), dt.date(decade * 10 + 9, 12, 31)
    earliest, latest = made.bounds()
    first, last = max(first, earliest), min(last, latest)
    return made.source(first, last) if first <= last else empty_spans()


def alias_calendar(code: str) -> SessionCalendar:
    """The shipped calendar that answers a library's code in its place, under that code; KeyError for other codes."""
    return replace(cached(shipped_calendar, _ALIASES[code]), code=code, venue=_ALIASES[code])


def shipped_file(code: str) -> CalendarFile:
    """Parsed TOML file in `data/` of a shipped code, cached by its bytes; KeyError for other codes."""
    path = DATA / _SHIPPED[code]
    return cached(parse_calendar, path, read_bytes(path))


def calendar_from_content(path: Path, content: bytes) -> SessionCalendar:
    """Calendar built from TOML bytes; `path` is for messages and the default code, and is not read."""
    return calendar_from_file(parse_calendar(path, content))


def calendar_from_file(
    file: CalendarFile, extended: Callable[[str], SessionCalendar] = calendar_by_code
) -> SessionCalendar:
    """Calendar of a parsed file: weekly hours or an extended calendar, minus borrowed holidays, then overrides."""
    base = extended(file.extends) if file.extends else weekly_calendar(file)
    zone = file.zone or base.zone
    digest = file.amendments.digest
    revision = f"{digest} on {base.provider} {base.version}" if file.extends else digest
    own = replace(base, code=file.code, provider="file", zone=zone, version=revision)
    if file.holidays_from:
        own = replace(own, source=partial(spans_without_holidays, own.source, calendar_by_code(file.holidays_from)))
    return amended_calendar(own, file.amendments)


def weekly_calendar(file: CalendarFile) -> SessionCalendar:
    """Calendar of a file's weekly hours alone, no holidays or overrides; bounds from the rules' dates, else 1970 to 2049."""
    scopes = [rule.scope for rule in file.hours]
    bounds = min(scope.valid_from or FIRST for scope in scopes), max(scope.valid_to or LAST for scope in scopes)
    spans = partial(weekly_spans, file.hours, file.zone)
    return SessionCalendar(file.code, "file", "", file.zone, "", sort_labels(file.labels), spans, bounds)


def amended_calendar(base: SessionCalendar, amendments: Amendments) -> SessionCalendar:
    """Copy of a calendar with holidays and overrides applied to its spans, and the overrides' labels added."""
    labels = sort_labels(tuple(dict.fromkeys(base.labels + amendments.labels)))
    spans = partial(amended_spans, base, amendments, regular_labels(labels))
    interruptions = base.own_interruptions + amendments.interruptions
    return replace(base, labels=labels, source=spans, own_interruptions=interruptions)


def amended_spans(
    base: SessionCalendar, amendments: Amendments, regular: frozenset[str], first: dt.date, last: dt.date
) -> pl.DataFrame:
    """Base spans of `first` to `last` inclusive without holidays and with overrides, those of the days before included."""
    if not amendments.across_dates:
        return amend(base.source(first, last), amendments, base.zone, regular, dates(first, last))
    # What was halted on a holiday belongs to the trade date after it, and a halt of one day cuts that of the next.
    start = min(first, max(first - MARGIN, base.bounds()[0]))
    changed = amend(base.source(start, last), amendments, base.zone, regular, dates(start, last))
    return changed.filter(pl.col("session").is_between(first, last))


def spans_without_holidays(base: SpansOf, other: SessionCalendar, first: dt.date, last: dt.date) -> pl.DataFrame:
    """Base spans but for dates, in the other's bounds, on which the other skips one of the weekdays it usually trades."""
    whole_years = other.segments_in_bounds(first.replace(month=1, day=1), last.replace(month=12, day=31))
    sessions = whole_years.select("session").unique()
    weekday = pl.col("session").dt.weekday()
    # A weekday on which the other venue never works (but for a rare special session) says nothing about holidays.
    working = sessions.group_by(weekday.alias("day")).len().filter(pl.col("len") > pl.col("len").max() / 2)["day"]
    closed = weekday.is_in(working.to_list()) & ~pl.col("session").is_in(sessions["session"].to_list())
    early, late = other.bounds()
    return base(first, last).filter(~(closed & pl.col("session").is_between(early, late)))


# ---------------------------------------------------------------------------- libraries


def spans_by_decade(
    block: Callable[[str, int], pl.DataFrame], name: str, first: dt.date, last: dt.date
) -> pl.DataFrame:
    """Spans of `first` to `last` inclusive from whole decades built by `block(name, decade)`, each cached."""
    blocks = [cached(block, name, decade) for decade in range(first.year // 10, last.year // 10 + 1)]
    return pl.concat([empty_spans(), *blocks]).filter(pl.col("session").is_between(first, last))


def with_auction_label(labels: tuple[str, ...], *codes: str) -> tuple[str, ...]:
    """Labels and `AUCTION` behind them if the table of auctions has one of the codes."""
    return labels if auctions_of(codes).is_empty() else (*labels, AUCTION)


# ---------------------------------------------------------------------------- exchange_calendars


def exchange_calendar(code: str) -> SessionCalendar:
    """Calendar of an exchange_calendars code or alias (US equities: extended hours), built lazily; KeyError if unknown."""
    facts = exchanges()[code]
    name = facts.name
    labels = ("OVERNIGHT", "PRE", "RTH", "POST") if name == US_EQUITIES else (exchange_label(name),)
    spans = partial(spans_by_decade, exchange_decade, name)
    provided = "exchange_calendars", version("exchange-calendars")
    bounds = facts.first, facts.last
    return SessionCalendar(code, *provided, facts.zone, "", with_auction_label(labels, code, name), spans, bounds, name)


def substitute_calendar(code: str) -> SessionCalendar:
    """Calendar of pandas_market_calendars for a code that exchange_calendars cannot build, from its first good date on."""
    name, first = _SUBSTITUTES[exchanges()[code].name]
    return replace(market_calendar(name), code=code, _bounds=(first, LAST))


# ---------------------------------------------------------------------------- pandas_market_calendars


def market_calendar(code: str) -> SessionCalendar:
    """Calendar of a pandas_market_calendars code: RTH, PRE and POST if it has them; spans built lazily."""
    facts = market(code)
    spans = partial(spans_by_decade, market_decade, code)
    provided = "pandas_market_calendars", version("pandas-market-calendars")
    labels = with_auction_label(sort_labels(tuple(facts.labels)), code, facts.name)
    return SessionCalendar(code, *provided, facts.zone, "", labels, spans, (FIRST, LAST), facts.name)
