"""Parse Lean's folders and file names: instrument, resolution, kind, date, contract, data time zone, columns.

    <security>/<market>/<tick|second|minute>/<symbol>/<YYYYMMDD>_<trade|quote|openinterest>[_<style>].zip
    <security>/<market>/<hour|daily>/<symbol>[_<year>][_<kind>][_<style>].zip

Canonical symbols: the ticker in capitals (`SPY`, `EURUSD`); futures with their contract month (`ES.201312`); options
with expiry, right and strike (`GOOG.20160115.C.605`); perpetual futures `BTCUSDT.PERP`.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.arguments import zone_name
from engine.errors import SourceError
from engine.grid import Align
from engine.interval import Interval
from engine.schema import Kind
from engine.sources.file_names import day_of_text

SECURITIES = {
    "equity": "Equity",
    "option": "Option",
    "forex": "Forex",
    "cfd": "Cfd",
    "crypto": "Crypto",
    "cryptofuture": "CryptoFuture",
    "future": "Future",
    "futureoption": "FutureOption",
    "index": "Index",
    "indexoption": "IndexOption",
}
INTERVALS = {"second": "1s", "minute": "1m", "hour": "1h", "daily": "1d"}
SCALED = ("equity", "option")  # prices are integers, ten thousandths
PRICE_SCALE = 10_000.0
CONTRACTS = ("option", "future", "futureoption", "indexoption")

# Data time zones where no market-hours database is at hand; `*` stands for every market.
ZONES: Mapping[tuple[str, str], str] = {
    ("equity", "usa"): "America/New_York",
    ("option", "usa"): "America/New_York",
    ("indexoption", "usa"): "America/Chicago",
    ("equity", "india"): "Asia/Kolkata",
    ("index", "india"): "Asia/Kolkata",
    ("future", "india"): "Asia/Kolkata",
    ("forex", "oanda"): "UTC",
    ("forex", "fxcm"): "Etc/GMT+5",
    ("cfd", "oanda"): "UTC",
    ("cfd", "fxcm"): "Etc/GMT+5",
    ("crypto", "*"): "UTC",
    ("cryptofuture", "*"): "UTC",
    ("future", "cme"): "UTC",
    ("future", "comex"): "UTC",
    ("future", "cbot"): "UTC",
    ("future", "nymex"): "UTC",
    ("future", "eurex"): "Europe/Berlin",
    ("index", "eurex"): "Europe/Berlin",
    ("future", "hkfe"): "Asia/Hong_Kong",
    ("index", "hkfe"): "Asia/Hong_Kong",
    ("index", "ose"): "Asia/Tokyo",
    ("index", "usa"): "America/Chicago",
}

_QUOTE_BAR = [
    "time",
    "bid_open",
    "bid_high",
    "bid_low",
    "bid_close",
    "bid_size",
    "ask_open",
    "ask_high",
    "ask_low",
    "ask_close",
    "ask_size",
]
_COLUMNS: Mapping[tuple[str, str], tuple[list[str], ...]] = {
    ("tick", "trade"): (
        ["time", "price", "size", "exchange", "conditions", "suspicious"],
        ["time", "price", "size"],
        ["time", "price"],
    ),
    ("tick", "quote"): (
        ["time", "bid", "bid_size", "ask", "ask_size", "exchange", "conditions", "suspicious"],
        ["time", "bid", "bid_size", "ask", "ask_size"],
        ["time", "bid", "ask"],
    ),
    ("bar", "trade"): (["time", "open", "high", "low", "close", "volume"], ["time", "open", "high", "low", "close"]),
    ("bar", "quote"): (_QUOTE_BAR,),
    ("any", "openinterest"): (["time", "value"],),
}

_PATH = re.compile(
    rf"(?:^|/)(?P<root>(?P<security>{'|'.join(SECURITIES)})/(?P<market>[^/]+)/(?:"
    r"(?P<fine>tick|second|minute)/(?P<folder>[^/]+)/(?:\d{6,8}/)?(?P<day>\d{8})_"
    r"(?P<kind>trade|quote|openinterest)(?:_[a-z]+)?"
    r"|(?P<coarse>hour|daily)/(?P<ticker>[^/_]+)(?:_\d{4,8})?"
    r"(?:_(?P<coarse_kind>trade|quote|openinterest))?(?:_[a-z]+)?"
    r")\.zip)$"
)
_OPTION = re.compile(r"_(?P<right>call|put)_(?P<strike>\d+)_(?P<expiry>\d{8})\.csv$")
_MONTH = re.compile(r"_(?P<month>\d{6}|\d{8})\.csv$")
_DAY = re.compile(r"^(?P<day>\d{8})_")


@dataclass(frozen=True)
class LeanFile:
    """A file of Lean's layout with the facts of its path.

    Attributes
    ----------
    path : Path
    security, market, ticker : str
        In small letters, as the folders have them.
    resolution : {"tick", "second", "minute", "hour", "daily"}
    content : {"trade", "quote", "openinterest"}
    day : date or None
        Of tick, second and minute files.
    """

    path: Path
    security: str
    market: str
    ticker: str
    resolution: str
    content: str
    day: dt.date | None

    @property
    def kind(self) -> Kind:
        """`open_interest` by content, else `bars`; at tick resolution `ticks` for trades, `quotes` for quotes."""
        if self.content == "openinterest":
            return "open_interest"
        if self.resolution != "tick":
            return "bars"
        return "ticks" if self.content == "trade" else "quotes"

    @property
    def interval(self) -> Interval | None:
        """1s, 1m, 1h or 1d of bars by resolution; None for ticks, quotes and open interest."""
        return Interval.parse(INTERVALS[self.resolution]) if self.kind == "bars" else None

    @property
    def align(self) -> Align:
        """`clock` for hour files, `date` for daily ones, `session` for tick, second and minute."""
        return {"hour": "clock", "daily": "date"}.get(self.resolution, "session")  # type: ignore[return-value]

    @property
    def symbol(self) -> str:
        """Ticker in capitals, with `.PERP` for crypto futures; for a file of contracts, only their root."""
        return self.ticker.upper() + (".PERP" if self.security == "cryptofuture" else "")

    @property
    def holds_contracts(self) -> bool:
        """Whether members are contracts with symbols of their own: option, future, futureoption, indexoption."""
        return self.security in CONTRACTS

    def columns(self, width: int, source: str) -> list[str]:
        """Column names for a member of `width` cells, by resolution and content; SourceError if none fits."""
        grain = "any" if self.content == "openinterest" else "tick" if self.resolution == "tick" else "bar"
        known = _COLUMNS[grain, self.content]
        found = next((names for names in known if len(names) == width), None)
        if found is None:
            valid = " or ".join(str(len(names)) for names in known)
            raise SourceError(source, f"{self.resolution} {self.content} rows have {valid} cells, here {width}")
        return found

    def member_symbol(self, member: str) -> str | None:
        """Symbol of a member: root with expiry, right, strike or month (contracts: None without); else `symbol`."""
        name = member.rsplit("/", 1)[-1].lower()
        root = self.ticker.upper()
        if self.security in ("option", "futureoption", "indexoption"):
            match = _OPTION.search(name)
            return match and f"{root}.{match['expiry']}.{match['right'][0].upper()}.{format_strike(match['strike'])}"
        match = _MONTH.search(name)
        if match is not None and self.security in ("future", "cryptofuture"):
            return f"{root}.{match['month']}"
        return None if self.security == "future" else self.symbol


def parse_lean_path(path: Path) -> LeanFile | None:
    """Facts of a path in Lean's layout (any case; forex, cfd: quotes by default); None for others and wrong dates."""
    match = _PATH.search(path.absolute().as_posix().lower())
    day = day_of_text(match["day"]) if match is not None else None
    if match is None or (match["fine"] and day is None):
        return None
    security, fine = match["security"], match["fine"]
    return LeanFile(
        path=path,
        security=security,
        market=match["market"],
        ticker=match["folder"] or match["ticker"],
        resolution=fine or match["coarse"],
        content=match["kind"] or match["coarse_kind"] or ("quote" if security in ("forex", "cfd") else "trade"),
        day=day,
    )


def member_day(member: str) -> str | None:
    """The eight digits at the start of a member's file name, if `_` follows them; else None."""
    match = _DAY.match(member.rsplit("/", 1)[-1])
    return match["day"] if match else None


def vendor_name(member: str, file: LeanFile) -> str:
    """Vendor's name of an instrument: the ticker, or for contracts the member's stem without date and kind."""
    if not file.holds_contracts:
        return file.ticker
    stem = member.rsplit("/", 1)[-1].removesuffix(".csv")
    return re.sub(r"^\d{8}_|(?<=_)(?:tick|second|minute|trade|quote|openinterest)_", "", stem)


def data_zone(file: LeanFile) -> str | None:
    """Zone of a file's stamps: by market-hours database (ticker, then `[*]`), else the table `ZONES`, else None."""
    folders = file.path.absolute().parts
    depth = len(folders) - 1 - [folder.lower() for folder in folders][::-1].index(file.security)
    root = Path(*folders[:depth])
    database = root / "market-hours" / "market-hours-database.json"
    if database.is_file():
        zones = read_hours_zones(database)
        security = SECURITIES[file.security]
        keys = (f"{security}-{file.market}-{name}".lower() for name in (file.ticker, "[*]"))
        found = next((zones[key] for key in keys if key in zones), None)
        if found is not None:
            return zone_name(found)
    return ZONES.get((file.security, file.market)) or ZONES.get((file.security, "*"))


@functools.lru_cache(maxsize=4)
def read_hours_zones(path: Path) -> dict[str, str]:
    """Lower-case key (`forex-oanda-[*]`) -> data time zone, of a JSON database; cached; SourceError if unreadable."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))["entries"]
        return {key.lower(): entry["dataTimeZone"] for key, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(path, f"no market-hours database that can be read: {error}") from error


def format_strike(scaled: str) -> str:
    """Strike as decimal text from text in ten thousandths, without trailing zeros: `6050000` gives `605`."""
    whole, part = divmod(int(scaled), int(PRICE_SCALE))
    return f"{whole}.{part:04d}".rstrip("0").rstrip(".")
