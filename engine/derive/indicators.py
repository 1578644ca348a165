"""Indicators: their definitions as Polars expressions over the bars of one series, and their spelling in configuration.

`derive.indicator_passes` evaluates them. A definition never looks at a later bar, windows count bars and not slots, and
a value is null until there are as many bars as it needs. Averages start as TA-Lib's do: the first value of a recursive
one is the plain mean of its first n inputs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import ceil, log, log1p
from typing import Literal, get_args

import polars as pl

from engine.arguments import check_fields, one_name
from engine.derive.series import SESSION_NUMBER, SLOT
from engine.errors import ParameterError

Within = Literal["series", "session", "slot"]

VALUES = ("open", "high", "low", "close", "volume", "size", "vwap", "trades")
MOST_BARS = 1_000_000
FORGOTTEN = 1e-16  # share of an average at which a contribution counts no more
CLOCK = "_clock"  # sessions of a slot's bars, apart from those of other slots
BEFORE = "_before"  # the close of the bar before, of the same series

_TEXT = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\(([^()]*)\))?\s*")


@dataclass(frozen=True)
class Running:
    """A recursive part of an indicator: a column that each bar carries on from the bar before it.

    Attributes
    ----------
    name : str
        Of the column.
    value : Expr
        Contribution of a bar, from its own columns and `BEFORE`, the close of the bar before it. Null contributes
        nothing: the column keeps its value.
    fold : callable
        From contributions to the column. A stored value of the column stands for all contributions before it.
    warmup : int
        The column is null until so many bars have contributed; their mean is the first to be folded. 0: no warm-up.
    memory : int or None
        Number of contributions, none of them 0, after which earlier ones change the column by less than 1e-16 of its
        value; None: all of them count.
    """

    name: str
    value: pl.Expr
    fold: Callable[[pl.Expr], pl.Expr]
    warmup: int = 0
    memory: int | None = None


@dataclass(frozen=True)
class Indicator:
    """One or more columns computed from bars: expressions and a name. Equal when the names are.

    Attributes
    ----------
    name : str
        Of the column; of several, each expression has its own.
    expression : Expr or tuple of Expr
        Over the columns of bars (`views.BARS_VIEW`), for the bars of one series in order of time; it must not look
        ahead. Where there are `running` or `windows`, over one row of these and the bars.
    within : {"series", "session", "slot"}
        What the expression sees at once: a series; one session of it; the bars of one slot of all its sessions.
    lookback : int or None
        How many earlier bars a value depends on, beyond `running`; None for all of them.
    running : tuple of Running
        Recursive parts, computed first.
    windows : tuple of Expr
        Parts that look at many bars, computed first, each with its name; those within a slot look at `CLOCK`.
    sessions : int or None
        Where one window is the mean volume of a slot: of so many sessions before (`slot_baseline`).
    text : str
        The spelling that `parse` reads; the name, for one of your own.

    Examples
    --------
    >>> Indicator.parse("sma(20)").name
    'sma_20'
    """

    name: str
    expression: pl.Expr | tuple[pl.Expr, ...] = field(compare=False, repr=False)
    within: Within = field(default="series", compare=False, repr=False)
    lookback: int | None = field(default=None, compare=False, repr=False)
    running: tuple[Running, ...] = field(default=(), compare=False, repr=False)
    windows: tuple[pl.Expr, ...] = field(default=(), compare=False, repr=False)
    sessions: int | None = field(default=None, compare=False, repr=False)
    text: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        one_name("name", self.name)
        check_fields(self, "expression", "within", "lookback", "running", "windows", "sessions")

    def __str__(self) -> str:
        return self.text or self.name

    @property
    def expressions(self) -> tuple[pl.Expr, ...]:
        """Tuple of output expressions, each aliased to its column; a single expression gets the indicator's name."""
        return (self.expression.alias(self.name),) if isinstance(self.expression, pl.Expr) else self.expression

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the output columns, in order."""
        return tuple(one.meta.output_name() for one in self.expressions)

    @property
    def inputs(self) -> set[str]:
        """Columns that bars must have: read by expressions, windows, running parts, without computed ones; `BEFORE` is `close`."""
        read = (*self.expressions, *self.windows, *(one.value for one in self.running))
        computed = {*(one.name for one in self.running), *(one.meta.output_name() for one in self.windows)}
        needed = {name for one in read for name in one.meta.root_names()} - computed - {SESSION_NUMBER, SLOT, CLOCK}
        return needed - {BEFORE} | ({"close"} if BEFORE in needed else set())

    @classmethod
    def parse(cls, text: str | Indicator) -> Indicator:
        """Indicator from text (`sma(20)`, `ema(50, of=close)`); an Indicator is returned as is; else ParameterError with a hint.

        Raises
        ------
        ParameterError
            An unknown name, or an argument that does not fit; the message says which would.
        """
        if isinstance(text, Indicator):
            return text
        match = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ParameterError(f"indicator: received {text!r}; valid: {all_spellings()}")
        maker = _NAMED.get(match[1])
        if maker is None:
            similar = get_close_matches(match[1].lower(), _NAMED, 1, 0.4)
            hint = f"; did you mean {example_spelling(similar[0])}?" if similar else ""
            raise ParameterError(f"indicator: received {text!r}; valid: {all_spellings()}{hint}")
        return maker(**parse_arguments(match[1], match[2] or "", text))


def sma(n: int, of: str = "close") -> Indicator:
    """Mean of the last n values of `of` per series, across sessions; null before n; `sma_<n>`, unless of close `sma_<n>_<of>`."""
    name = column_name("sma", n, of)
    return Indicator(
        name,
        input_column(of).rolling_mean(check_bar_count("sma", n)),
        lookback=n - 1,
        text=configuration_text("sma", n, of=of),
    )


def ema(n: int, of: str = "close") -> Indicator:
    """Exponential average of `of`, weight 2 / (n + 1), starting as the mean of the first n bars (null before); across sessions."""
    name = column_name("ema", n, of)
    average = exponential_average(name, input_column(of), check_bar_count("ema", n), 2 / (n + 1))
    return Indicator(name, pl.col(name), lookback=0, running=(average,), text=configuration_text("ema", n, of=of))


def rsi(n: int = 14) -> Indicator:
    """Wilder's RSI 0-100 from averaged gains, losses of closes (weight 1/n, seeded by n >= 2 changes); null without any move."""
    name, change = column_name("rsi", check_bar_count("rsi", n, 2)), pl.col("close") - pl.col(BEFORE)
    gain = exponential_average(f"_{name}_gain", change.clip(lower_bound=0), n, 1 / n)
    loss = exponential_average(f"_{name}_loss", (-change).clip(lower_bound=0), n, 1 / n)
    moved = pl.col(gain.name) + pl.col(loss.name)
    strength = pl.when(moved > 0).then(100 * pl.col(gain.name) / moved)
    return Indicator(name, strength, lookback=1, running=(gain, loss), text=configuration_text("rsi", n))


def atr(n: int = 14) -> Indicator:
    """Wilder's average true range: mean of the first n true ranges (null before), then weight 1/n; none on the first bar."""
    name, before = column_name("atr", check_bar_count("atr", n)), pl.col(BEFORE)
    true_range = pl.max_horizontal("high", before) - pl.min_horizontal("low", before)
    average = exponential_average(name, pl.when(before.is_not_null()).then(true_range), n, 1 / n)
    return Indicator(name, pl.col(name), lookback=1, running=(average,), text=configuration_text("atr", n))


def bollinger(n: int = 20, k: float = 2.0) -> Indicator:
    """Bands of the last n >= 2 closes: `_mid` (mean), `_upper`, `_lower` (k > 0 population deviations); null before n."""
    check_bar_count("bollinger", n, 2)
    if not (isinstance(k, int | float) and 0 < k < float("inf")):
        raise ParameterError(f"bollinger: k received {k!r}; valid: a number above 0; did you mean bollinger({n}, 2)?")
    name = f"bollinger_{n}_{shortest_text(k)}".replace(".", "_")
    mid, deviation, reach = f"{name}_mid", f"_{name}_deviation", k * pl.col(f"_{name}_deviation")
    windows = (pl.col("close").rolling_mean(n).alias(mid), pl.col("close").rolling_std(n, ddof=0).alias(deviation))
    upper, lower = (pl.col(mid) + reach).alias(f"{name}_upper"), (pl.col(mid) - reach).alias(f"{name}_lower")
    text = configuration_text("bollinger", n, shortest_text(k))
    return Indicator(name, (pl.col(mid), upper, lower), lookback=n - 1, windows=windows, text=text)


def session_vwap() -> Indicator:
    """Cumulative price * volume / volume in a session; price is `vwap`, else (h + l + c) / 3; null at volume 0."""
    # Times 1/3: Polars divides a column of one row by another method, so the last bit would depend on the frame.
    name, typical = "session_vwap", (pl.col("high") + pl.col("low") + pl.col("close")) * (1 / 3)
    traded = pl.col("volume").fill_null(0.0)
    notional = Running(f"_{name}_notional", traded * pl.coalesce("vwap", typical), pl.Expr.cum_sum)
    volume = Running(f"_{name}_volume", traded, pl.Expr.cum_sum)
    price = pl.when(pl.col(volume.name) > 0).then(pl.col(notional.name) / pl.col(volume.name))
    return Indicator(name, price, "session", 0, (notional, volume), text=name)


def relative_volume(n: int = 20) -> Indicator:
    """Volume / its slot's mean in the n sessions before (those with the bar); null before n sessions, off the grid, mean 0."""
    name, volume = column_name("relative_volume", check_bar_count("relative_volume", n)), pl.col("volume")
    average = volume.rolling_mean_by(CLOCK, f"{n}i", closed="left").alias(f"_{name}_usual")
    has_average = (pl.col(SESSION_NUMBER) >= n) & pl.col(SLOT).is_not_null() & (pl.col(f"_{name}_usual") > 0)
    ratio = pl.when(has_average).then(volume / pl.col(f"_{name}_usual"))
    return Indicator(name, ratio, "slot", windows=(average,), sessions=n, text=configuration_text("relative_volume", n))


def custom(
    name: str, expression: pl.Expr | tuple[pl.Expr, ...], *, within: Within = "series", lookback: int | None = None
) -> Indicator:
    """Indicator of your expression, or several, a column each by its own name; `lookback` None: all bars; or ParameterError.

    Parameters
    ----------
    name : str
        Of the column.
    expression : Expr or tuple of Expr
        Must not look ahead (no negative shift, no centred window).
    within : {"series", "session", "slot"}
        What the expression sees at once.
    lookback : int or None
        How many earlier bars a value depends on. None means all of them: then `extend` computes the series anew.

    Raises
    ------
    ParameterError
        The name is empty or taken by a column of bars, `within` is none, or `lookback` is negative.
    """
    if not name or name.startswith("_") or name in VALUES:
        raise ParameterError(f"name: received {name!r}; valid: a name that is no column of bars and has no leading _")
    if within not in get_args(Within):
        raise ParameterError(f"within: received {within!r}; valid: {', '.join(get_args(Within))}")
    if lookback is not None and lookback < 0:
        raise ParameterError(f"lookback: received {lookback}; valid: a number of bars from 0, or None for all")
    return Indicator(name, expression, within, lookback)


_MAKERS: tuple[Callable[..., Indicator], ...] = (sma, ema, rsi, atr, bollinger, session_vwap, relative_volume)
_NAMED = {maker.__name__: maker for maker in _MAKERS}
_EXAMPLES = {"sma": "20", "ema": "50", "rsi": "14", "atr": "14", "bollinger": "20, 2", "relative_volume": "20"}


def exponential_average(name: str, value: pl.Expr, n: int, weight: float) -> Running:
    """`Running` average: mean of the first n values, then weight * value + (1 - weight) * last; nulls skipped."""
    memory = ceil(log(FORGOTTEN) / log1p(-weight)) if weight < 1 else 1
    return Running(name, value, lambda one: one.ewm_mean(alpha=weight, adjust=False, ignore_nulls=True), n, memory)


def input_column(of: str) -> pl.Expr:
    """Expression of column `of` as Float64; ParameterError where it is not one of `VALUES`."""
    if of not in VALUES:
        similar = get_close_matches(str(of).lower(), VALUES, 1, 0.4)
        hint = f"; did you mean {similar[0]}?" if similar else ""
        raise ParameterError(f"of: received {of!r}; valid: {', '.join(VALUES)}{hint}")
    return pl.col(of).cast(pl.Float64)


def check_bar_count(name: str, n: object, least: int = 1) -> int:
    """Return `n`; ParameterError unless it is an int (no bool) from `least` to a million; message begins with `name`."""
    if isinstance(n, int) and not isinstance(n, bool) and least <= n <= MOST_BARS:
        return n
    nearest = min(max(round(n), least), MOST_BARS) if isinstance(n, int | float) and abs(n) < float("inf") else None
    hint = f"; did you mean {name}({nearest})?" if nearest is not None else ""
    raise ParameterError(f"{name}: n received {n!r}; valid: a whole number of bars from {least} to {MOST_BARS:,}{hint}")


def shortest_text(k: float) -> str:
    """Shortest text of a number that reads back as the same float (`2.0` is `2`)."""
    short = f"{k:g}"
    return short if float(short) == k else repr(float(k))


def column_name(name: str, n: int, of: str = "close") -> str:
    """`name_n`, or `name_n_of` where `of` is not `close`: `sma_20`, `sma_20_volume`."""
    return f"{name}_{n}" if of == "close" else f"{name}_{n}_{of}"


def configuration_text(name: str, *values: object, of: str = "close") -> str:
    """Text that `Indicator.parse` reads: `sma(20)`, with `of=...` last where it is not `close`."""
    return f"{name}({', '.join([*map(str, values), *([f'of={of}'] if of != 'close' else [])])})"


def example_spelling(name: str) -> str:
    """Name with example arguments for error messages (`sma(20)`); the bare name if it takes none."""
    return f"{name}({_EXAMPLES[name]})" if name in _EXAMPLES else name


def all_spellings() -> str:
    """Comma-separated example spellings of all named indicators, for error messages."""
    return ", ".join(map(example_spelling, _NAMED))


def parse_arguments(name: str, inside: str, text: str) -> dict[str, object]:
    """Parameter name -> value of text `20, of=volume`: positional by order, numbers parsed, `of` as text; ParameterError if unfit.

    Parameters
    ----------
    name : str
        A key of `_NAMED`.
    inside : str
        Positional and named arguments, separated by commas.
    text : str
        The whole spelling, for error messages.

    Raises
    ------
    ParameterError
        An argument is unknown, set twice or no number, or `n` is missing.
    """
    parameters = inspect.signature(_NAMED[name]).parameters
    takes = list(parameters)
    arguments: dict[str, object] = {}
    for at, part in enumerate(inside.split(",") if inside.strip() else []):
        word, equals, value = (one.strip() for one in part.rpartition("="))
        key = word if equals else (takes[at] if at < len(takes) else f"argument {at + 1}")
        if key not in takes or key in arguments:
            similar = get_close_matches(key, takes, 1, 0.3)
            raise ParameterError(
                f"indicator: received {text!r}, {key} is unknown or given twice; valid: {example_spelling(name)} with "
                f"{', '.join(takes) or 'no argument'}{f'; did you mean {similar[0]}?' if similar else ''}"
            )
        arguments[key] = value if key == "of" else parse_number(value, key, name, text)
    if "n" in takes and "n" not in arguments and parameters["n"].default is inspect.Parameter.empty:
        raise ParameterError(f"indicator: received {text!r}, which lacks n; did you mean {example_spelling(name)}?")
    return arguments


def parse_number(value: str, key: str, name: str, text: str) -> int | float:
    """`value` as int, else as float; ParameterError naming `key` and an example when it is neither."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    raise ParameterError(
        f"indicator: received {text!r}, {key}={value!r} is no number; did you mean {example_spelling(name)}?"
    )
