"""Which column is which: names that vendors use, and layouts without a header.

A *role* is our name of a column: those of `engine.schema`, `date` and `time` for stamps in two columns, and `bid_open`
to `ask_close` for bars of both sides in one row. `ReadOptions.columns` wins over every synonym.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.errors import ParameterError, SourceError
from engine.schema import ROWS, Kind
from engine.sources.options import ReadOptions

Roles = Mapping[str, str]

OHLC = ("open", "high", "low", "close")
SIDES = ("bid", "ask", "mid")
STAMPS = {"ts", "date", "time"}
REPEATED = " #"  # between a name and how often it stood before, in the header of a text file

# Per role, in order of preference; names are compared without case, blanks and punctuation.
_SYNONYMS: dict[str, str] = {
    "ts": "timestamp ts tsevent datetime timestamputc datetimeutc utc opentime starttime starttimestamp opentimestamp barstart "
    "bartime windowstart timestampms timestampns unixtimestamp unixtime unix epoch gmttime timeutc t",
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
    "bid_size": "bidsize bidamount bidqty bidquantity bidvolume bidsz bidsz00 bestbidsize bestbidqty bestbidamount",
    "ask_size": "asksize askamount askqty askquantity askvolume asksz asksz00 bestasksize bestaskqty bestaskamount offersize",
    "price": "price tradeprice lastprice last px p",
    "size": "size qty quantity amount lastsize tradesize lastquantity sz s",
    "exchange": "exchange venue ex exch market",
    "conditions": "conditions condition cond salecondition saleconditions",
    "suspicious": "suspicious",
    "seq": "seq sequence sequencenumber tradeid aggtradeid id",
    "value": "openinterest oi",
}
_SIDED = {f"{side}_{part}": f"{side}{part} {part}{side}" for side in SIDES for part in OHLC}
_SYNONYMS |= _SIDED
ROLES = tuple(_SYNONYMS)

BINANCE_KLINES = [
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
]


@dataclass(frozen=True)
class TableColumns:
    """The kind of rows, and the column of each role."""

    kind: Kind
    roles: Roles
    notes: tuple[str, ...] = ()

    @property
    def sides(self) -> tuple[str, ...]:
        """Sides whose bars have columns of their own; empty for rows of one price."""
        return tuple(side for side in SIDES if all(f"{side}_{part}" in self.roles for part in OHLC))


def match_columns(names: Sequence[str], options: ReadOptions, path: str) -> TableColumns:
    """Roles of a table's columns, and what its rows are.

    Raises
    ------
    SourceError
        There is no stamp, nothing that makes bars, quotes, ticks or open interest, or not a column of `columns`.
    ParameterError
        `columns` names a role that does not exist.
    """
    roles = assign_roles(names, options, path)
    _check_once(names, roles, options, path)
    kind = _kind(roles)
    if kind is None or not STAMPS & set(roles):
        raise SourceError(
            path,
            f"columns {', '.join(names)} are no bars (time, open, high, low, close), quotes (time, bid, ask), "
            f"ticks (time, price) or open interest; {_lacking(roles)}",
        )
    if kind == "ticks" and "volume" in roles:
        roles.setdefault("size", roles["volume"])
    used = {name for role, name in roles.items() if role in ROWS[kind] or role in ("date", "time") or role in _SIDED}
    idle = [name for name in names if name not in used]
    return TableColumns(kind, roles, (f"columns not used: {', '.join(idle)}",) if idle else ())


def assign_roles(names: Sequence[str], options: ReadOptions, path: str) -> dict[str, str]:
    """The column of each role that the table has."""
    known: dict[str, str] = {}
    for name in names:
        known.setdefault(normalize_name(name), name)
    roles = {role: known[word] for role, words in reversed(_SYNONYMS.items()) if (word := _first(words, known))}
    roles |= {role: _column(role, given, names, path) for role, given in options.columns.items()}
    if "ts" in roles:
        # The columns of a stamp in two parts are then only its repetition.
        roles = {role: name for role, name in roles.items() if role not in ("date", "time")}
    return roles


def has_header(cells: Sequence[str]) -> bool:
    """Whether a first line holds names: none of its cells is a number or a stamp."""
    return all(not re.fullmatch(r"[-+]?\d[\d.:,/ TZ+-]*", cell.strip()) for cell in cells)


def headerless_names(cells: Sequence[str], options: ReadOptions, path: str) -> list[str]:
    """Names of the columns of a file without a header line, from a layout that its first line fits."""
    if options.columns:
        return [str(place) for place in range(1, len(cells) + 1)]
    numbers = all(re.fullmatch(r"-?\d+(\.\d+)?", cell.strip()) for cell in cells)
    if len(cells) == len(BINANCE_KLINES) and numbers and len(cells[0]) in (13, 16):
        return list(BINANCE_KLINES)
    guess = ",".join(f"{role}={place}" for place, role in enumerate(("ts", *OHLC, "volume")[: len(cells)], start=1))
    raise SourceError(
        path,
        f"no header line, and its {len(cells)} columns are no layout that is known (the first line is {','.join(cells)[:80]}); "
        f"name them by place, for example --columns {guess}",
    )


def normalize_name(name: str) -> str:
    """A column's name as synonyms are compared."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _check_once(names: Sequence[str], roles: Roles, options: ReadOptions, path: str) -> None:
    """A name that stands twice in a header is not chosen by its place, unless the caller did so."""
    for role, name in roles.items():
        places = [place for place, other in enumerate(names, start=1) if other.partition(REPEATED)[0] == name]
        if len(places) > 1 and role not in options.columns:
            raise SourceError(
                path,
                f"{name!r} names the columns {' and '.join(map(str, places))}; say which one is meant: "
                f"--columns {role}={places[0]}, or {role}={places[1]}",
            )


def _lacking(roles: Roles) -> str:
    bars = [part for part in OHLC if part not in roles] if len(set(OHLC) & set(roles)) > 1 else []
    lacks = ([] if STAMPS & set(roles) else ["ts"]) + bars
    if not lacks or len(lacks) > len(OHLC):
        return "name them with --columns ts=...,open=..."
    return (
        f"{' and '.join(lacks)} is missing: if it has another name, --columns {','.join(f'{one}=...' for one in lacks)}"
    )


def _first(words: str, known: Mapping[str, str]) -> str | None:
    return next((word for word in words.split() if word in known), None)


def _column(role: str, given: str | int, names: Sequence[str], path: str) -> str:
    if role not in _SYNONYMS:
        raise ParameterError(f"columns: received {role!r}; valid: {', '.join(ROLES)}")
    if str(given) in names:
        return str(given)
    place = int(given) if str(given).isdigit() else 0
    if 1 <= place <= len(names):
        return names[place - 1]
    raise SourceError(path, f"no column {given!r} for {role}; it has {', '.join(names)}")


def _kind(roles: Roles) -> Kind | None:
    if all(part in roles for part in OHLC) or any(all(f"{side}_{part}" in roles for part in OHLC) for side in SIDES):
        return "bars"
    if "price" in roles:
        return "ticks"
    if "bid" in roles or "ask" in roles:
        return "quotes"
    return "open_interest" if "value" in roles else None
