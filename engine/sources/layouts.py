"""Table of vendor layouts: names of columns, their order in files without a header, conventions, and file names.

To add a vendor's layout, add one entry to `LAYOUTS`. An entry applies to a file where everything it states fits: all
`columns` stand in the header (or the first line matches `first_line`), and `name_pattern` matches the file's name.
Entries are tried in order; the names that all vendors share are the last one, `COMMON`. What the caller states in
`ReadOptions` wins over every entry.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from engine.grid import Stamp
from engine.sources.options import ReadOptions

OHLC = ("open", "high", "low", "close")
SIDES = ("bid", "ask", "mid")


@dataclass(frozen=True)
class Layout:
    """One vendor's way to write a file; what is left empty is inferred as for any other file.

    Attributes
    ----------
    name : str
        Vendor and product, for notes.
    columns : tuple of str
        Names that must stand in the header; of a file without a header, the names of all columns, in order.
    first_line : str
        Files have no header, and this regular expression matches their first line (its cells joined by commas, whatever
        the file's delimiter, which is found by itself). Allow for empty cells: a first row that does not match is refused.
    aliases : mapping of str to str
        Role -> names of its column, by blanks, in order of preference, in small letters and without punctuation. They
        come before those of `COMMON`, and are needed only where `COMMON` lacks the name (`epochseconds` for a column
        `epoch_seconds`). A role is a column of `engine.schema`, `date` or `time` (a stamp in two columns),
        or `bid_open` to `ask_close` (bars of both sides in one row).
    time_format : str or None
        Of stamps written as text, as `strftime` has it.
    zone : str or None
        Zone of stamps that carry none.
    stamp : {"start", "end", "end-inclusive"} or None
        What a bar's stamp marks.
    unit : str or None
        Of stamps written as numbers since 1970: `s`, `ms`, `us` or `ns`.
    sentinels : tuple of str
        Cells that stand for a missing value: `-1`, `N/A`.
    name_pattern : str
        Regular expression of a file's whole name, without its suffixes, in any case. Where it matches, its groups
        `symbol`, `interval`, `side` and `date` (YYYYMMDD or YYYY-MM-DD) are read and the words of the name are not:
        capture `1min` as `(?P<interval>1min)`, or the interval is inferred from the rows.
    name_fillers : frozenset of str
        Words of a file's name that say what the file is, and name no symbol.
    """

    name: str
    columns: tuple[str, ...] = ()
    first_line: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    time_format: str | None = None
    zone: str | None = None
    stamp: Stamp | None = None
    unit: str | None = None
    sentinels: tuple[str, ...] = ()
    name_pattern: str = ""
    name_fillers: frozenset[str] = frozenset()

    def match_name(self, stem: str) -> re.Match[str] | None:
        """Match of `name_pattern` with a whole file stem, case-insensitive; None without match or pattern."""
        return re.fullmatch(self.name_pattern, stem, re.IGNORECASE) if self.name_pattern else None

    def fill(self, options: ReadOptions) -> tuple[ReadOptions, tuple[str, ...]]:
        """Options with unset time format, zone, stamp, unit filled from this layout, and a note of those (or none)."""
        stated = {
            "time_format": self.time_format,
            "timezone": self.zone,
            "stamp": self.stamp,
            "unit": self.unit,
        }
        used = {name: value for name, value in stated.items() if value is not None and getattr(options, name) is None}
        if not used:
            return options, ()
        conventions = ", ".join(f"{name} {value}" for name, value in used.items())
        return replace(options, **used), (f"layout of {self.name}: {conventions}",)  # type: ignore[arg-type]


NAME_FILLERS = frozenset(
    [
        "bar",
        "bars",
        "candle",
        "candles",
        "kline",
        "klines",
        "ohlc",
        "ohlcv",
        "dump",
        "data",
        "quote",
        "quotes",
        "trade",
        "trades",
        "tick",
        "ticks",
        "history",
        "historical",
        "hist",
        "min",
        "mins",
        "intraday",
        "prices",
        "price",
        "export",
        "sample",
    ]
)

COMMON = Layout(
    name="common names",
    aliases={
        "ts": (
            "timestamp ts tsevent datetime timestamputc datetimeutc utc opentime starttime starttimestamp "
            "opentimestamp barstart bartime windowstart timestampms timestampns unixtimestamp unixtime unix epoch "
            "gmttime timeutc t"
        ),
        "date": "date day tradedate yyyymmdd",
        "time": "time timeofday hhmmss",
        "symbol": "symbol ticker sym instrument pair contract rawsymbol code",
        "price_type": "pricetype",
        "open": "open o openprice openpx priceopen",
        "high": "high h highprice highpx max pricehigh",
        "low": "low l lowprice lowpx min pricelow",
        "close": "close c closeprice closepx priceclose",
        "volume": "volume v vol totalvolume tradedvolume volumetraded basevolume tickvolume",
        "vwap": "vwap vw average wap avgprice",
        "trades": "trades n count transactions tradecount numberoftrades numtrades tradescount barcount",
        "bid": "bid bidprice bidpx bidpx00 bestbid bestbidprice bidprice0 b",
        "ask": "ask askprice askpx askpx00 bestask bestaskprice askprice0 offer offerprice a",
        "bid_size": (
            "bidsize bidamount bidqty bidquantity bidvolume bidsz bidsz00 bestbidsize bestbidqty bestbidamount"
        ),
        "ask_size": (
            "asksize askamount askqty askquantity askvolume asksz asksz00 bestasksize bestaskqty bestaskamount "
            "offersize"
        ),
        "price": "price tradeprice lastprice last px p",
        "size": "size qty quantity amount lastsize tradesize lastquantity sz s",
        "exchange": "exchange venue ex exch market",
        "conditions": "conditions condition cond salecondition saleconditions",
        "suspicious": "suspicious",
        "seq": "seq sequence sequencenumber tradeid aggtradeid id",
        "value": "openinterest oi",
    }
    | {f"{side}_{part}": f"{side}{part} {part}{side}" for side in SIDES for part in OHLC},
    name_fillers=NAME_FILLERS,
)

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        name="Binance klines",
        columns=(
            "open_time",
            "open",
            "high",
            "low",
            "close",
            "volume",
            "close_time",
            "quote_volume",
            "trades",
            "taker_base",
            "taker_quote",
            "ignored",
        ),
        first_line=r"(?=[^,]{13},|[^,]{16},)-?\d+(\.\d+)?(,-?\d+(\.\d+)?){11}",
    ),
    COMMON,
)


def normalize_name(name: str) -> str:
    """Column name in lower case with only `a-z` and `0-9`, as aliases are compared."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def layout_of_columns(names: Collection[str], stem: str) -> Layout:
    """First layout whose `columns` are all among the names and whose name pattern fits; at last `COMMON`."""
    present = {normalize_name(name) for name in names}
    return next(
        one
        for one in LAYOUTS
        if all(normalize_name(name) in present for name in one.columns)
        and (not one.name_pattern or one.match_name(stem) is not None)
    )


def layout_of_first_line(line: str, stem: str) -> Layout | None:
    """First layout for files without a header whose `first_line` and name pattern (if any) fit; None when none does."""
    return next(
        (
            one
            for one in LAYOUTS
            if one.first_line
            and re.fullmatch(one.first_line, line)
            and (not one.name_pattern or one.match_name(stem) is not None)
        ),
        None,
    )
