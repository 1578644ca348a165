"""What a session is to do: read from TOML or JSON, checked as a whole, every mistake named with the nearest valid key.

[session]      calendar, mode, dates, symbols
[streams]      bars, quotes, ticks
derive, [[history]], [[indicators]], [gaps], [export], [replay], [live], [source]
"""

from __future__ import annotations

import datetime as dt
import difflib
import fnmatch
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from engine.derive.indicators import Indicator
from engine.errors import ParameterError
from engine.interval import Interval

Mode = Literal["replay", "live"]
SOURCES = ("files", "folder", "alpaca")
EVERY = "*"


def _interval(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError(f"received {text!r}; valid: an interval as text, such as 5m")  # noqa: TRY004 - pydantic's
    return str(Interval.parse(text))


def _indicator(text: str) -> str:
    return str(Indicator.parse(text))


def _seconds(value: object) -> object:
    """A number of seconds, or a length of time as an interval is spelled."""
    if isinstance(value, str):
        length = Interval.parse(value)
        return length.seconds
    return value


def _speed(value: object) -> object:
    if value == "max":
        return 0.0
    if isinstance(value, str):
        raise ValueError(f"received {value!r}; valid: max, or how many times as fast as the clock, such as 60")  # noqa: TRY004
    return value


IntervalText = Annotated[str, BeforeValidator(_interval)]
Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]
Pattern = Annotated[str, AfterValidator(str.strip), Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SessionPart(_Part):
    """`[session]`: which market, which days, which symbols.

    Attributes
    ----------
    calendar : str or None
        Of symbols that `calendars` does not name.
    calendars : mapping of pattern to code
    mode : {"replay", "live"}
    start, end : date or None
        First and last trade date. A replay without them takes all that its source has; a live session begins today.
    symbols : tuple of str
        Empty: all that the source has.
    segments : tuple of str
        Labels whose slots are expected; empty: the regular ones.
    """

    calendar: str | None = None
    calendars: Mapping[str, str] = Field(default_factory=dict)
    mode: Mode = "replay"
    start: dt.date | None = None
    end: dt.date | None = None
    symbols: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    incomplete: Literal["flag", "drop"] = "flag"

    @model_validator(mode="after")
    def _is_ordered(self) -> SessionPart:
        if self.start and self.end and self.end < self.start:
            raise ValueError(f"end: received {self.end}; valid: not before start ({self.start})")
        return self


class StreamsPart(_Part):
    """`[streams]`: what is taken from the source as it comes.

    Attributes
    ----------
    bars : str
        An interval, `auto` (the coarsest that serves all that is asked) or `none`.
    quotes, ticks : bool
    synthetic_quotes : bool
        In a replay without quotes, bid and ask of each symbol are its last close.
    """

    bars: str = "auto"
    quotes: bool = False
    ticks: bool = False
    synthetic_quotes: bool = False

    @model_validator(mode="after")
    def _is_known(self) -> StreamsPart:
        if self.bars not in ("auto", "none"):
            object.__setattr__(self, "bars", str(Interval.parse(self.bars)))
        return self


class HistoryPart(_Part):
    """`[[history]]`: sessions before the current one.

    Attributes
    ----------
    sessions : int
        How many.
    intervals : tuple of str
        In which bars; empty: the base.
    symbols : tuple of pattern
    """

    sessions: int = Field(ge=1, le=2_000)
    intervals: tuple[IntervalText, ...] = ()
    symbols: tuple[Pattern, ...] = (EVERY,)


class IndicatorPart(_Part):
    """`[[indicators]]`: a definition such as `sma(20)`, and the intervals and symbols it is computed for."""

    use: Annotated[str, AfterValidator(_indicator)]
    intervals: tuple[IntervalText, ...] = ()
    symbols: tuple[Pattern, ...] = (EVERY,)


class GapsPart(_Part):
    """`[gaps]`: how open gaps are asked for again, in live mode.

    Attributes
    ----------
    fill : bool
    retries : int
        How often a gap is asked for before it is abandoned.
    interval_seconds : float
        Until the first retry, and between two.
    backoff : float
        By how much that grows each time.
    every_seconds : float
        How often gaps and quality are judged.
    """

    fill: bool = True
    retries: int = Field(default=5, ge=0, le=1_000)
    interval_seconds: Seconds = 60.0
    backoff: float = Field(default=2.0, ge=1.0, le=100.0)
    every_seconds: Seconds = 0.0


class ExportPart(_Part):
    """`[export]`: the dataset that the session leaves, and how often it takes a revision (0: at the end)."""

    target: Path
    every_seconds: Seconds = 0.0


class ReplayPart(_Part):
    """`[replay]`: how fast (`max`, or a multiple of the clock), and how much time passes in a step."""

    speed: Annotated[float, BeforeValidator(_speed), Field(ge=0, allow_inf_nan=False)] = 0.0
    step_seconds: Seconds = 60.0


class LivePart(_Part):
    """`[live]`: bounds of a running session.

    Attributes
    ----------
    grace_seconds : float
        How long after its end a slot is due.
    queue_rows : int
        How many quotes and ticks wait before the oldest are dropped (and counted).
    poll_seconds : float
        The longest time between two looks at the clock.
    """

    grace_seconds: Seconds = 5.0
    queue_rows: int = Field(default=1_000_000, ge=1)
    poll_seconds: Seconds = 1.0


class SourcePart(_Part):
    """`[source]`: where rows come from.

    Attributes
    ----------
    kind : {"files", "folder", "alpaca"}
    paths : tuple of Path
        Files and folders to replay, or the folder to follow; relative ones to the configuration's folder.
    read : mapping
        Options of the readers (`engine.sources.options.ReadOptions`).
    options : mapping
        Of a live source.
    """

    kind: str = "files"
    paths: tuple[Path, ...] = ()
    read: Mapping[str, Any] = Field(default_factory=dict)
    options: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_known(self) -> SourcePart:
        if self.kind not in SOURCES:
            raise ValueError(f"kind: received {self.kind!r}; valid: {', '.join(SOURCES)}")
        if self.kind in ("files", "folder") and not self.paths:
            raise ValueError(f"paths: none given; valid: what {self.kind} are read from")
        return self


class SessionConfig(_Part):
    """A whole configuration; see the parts for their fields."""

    session: SessionPart
    source: SourcePart
    streams: StreamsPart = StreamsPart()
    derive: tuple[IntervalText, ...] = ()
    history: tuple[HistoryPart, ...] = ()
    indicators: tuple[IndicatorPart, ...] = ()
    gaps: GapsPart = GapsPart()
    export: ExportPart | None = None
    replay: ReplayPart = ReplayPart()
    live: LivePart = LivePart()

    @model_validator(mode="after")
    def _fits(self) -> SessionConfig:
        if self.session.calendar is None and not self.session.calendars:
            raise ValueError("session.calendar: none given; valid: a code of `engine calendars`, or a TOML file")
        if self.session.mode == "replay" and self.source.kind != "files":
            raise ValueError(f"source.kind: received {self.source.kind!r}; valid in a replay: files")
        if self.session.mode == "live" and self.source.kind == "files":
            raise ValueError("source.kind: received 'files'; valid in live mode: folder, alpaca")
        if self.session.mode == "live" and not self.session.symbols and self.source.kind == "alpaca":
            raise ValueError("session.symbols: none given; valid: the symbols to stream")
        return self

    @classmethod
    def read(cls, path: Path) -> SessionConfig:
        """Read a TOML or JSON file; relative paths in it are relative to its folder.

        Raises
        ------
        ParameterError
            The file cannot be read, or is not valid; all mistakes are named.
        """
        try:
            text = path.read_text("utf-8")
            content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except (OSError, ValueError) as error:
            raise ParameterError(f"{path}: no configuration could be read: {error}") from error
        return cls.of(content, path.parent, str(path))

    @classmethod
    def of(cls, content: Mapping[str, Any], folder: Path | None = None, name: str = "configuration") -> SessionConfig:
        """Check a configuration that is a mapping already."""
        try:
            config = cls.model_validate(content)
        except ValidationError as error:
            raise ParameterError(f"{name}: " + "; ".join(_mistakes(error))) from error
        return config if folder is None else config.below(folder)

    def below(self, folder: Path) -> SessionConfig:
        """The configuration with its relative paths below a folder."""
        source = self.source.model_copy(update={"paths": tuple(folder / path for path in self.source.paths)})
        export = self.export and self.export.model_copy(update={"target": folder / self.export.target})
        return self.model_copy(update={"source": source, "export": export})

    def history_of(self, symbol: str) -> tuple[HistoryPart, ...]:
        """The history that a symbol needs."""
        return tuple(part for part in self.history if matches(symbol, part.symbols))

    def indicators_of(self, symbol: str) -> tuple[IndicatorPart, ...]:
        """The indicators of a symbol."""
        return tuple(part for part in self.indicators if matches(symbol, part.symbols))

    @property
    def history_sessions(self) -> int:
        """The longest history that any symbol needs, in sessions."""
        return max((part.sessions for part in self.history), default=0)


def matches(symbol: str, patterns: Iterable[str]) -> bool:
    """Whether one of these shell patterns fits a symbol."""
    return any(fnmatch.fnmatchcase(symbol, pattern) for pattern in patterns)


def _mistakes(error: ValidationError) -> list[str]:
    return [_mistake(one) for one in error.errors(include_url=False)]


def _mistake(one: Mapping[str, Any]) -> str:
    place = [str(part) for part in one["loc"]]
    where = ".".join(place)
    if one["type"] == "extra_forbidden":
        valid = _keys(place[:-1])
        near = difflib.get_close_matches(place[-1], valid, 1, 0.5)
        meant = f"did you mean {near[0]}? " if near else ""
        return f"unknown key {where}; {meant}valid: {', '.join(valid)}"
    if one["type"] == "missing":
        return f"{where}: is missing"
    said = str(one["msg"]).removeprefix("Value error, ")
    got = "" if "received" in said or "none given" in said else f" (received {one['input']!r})"
    return f"{where}: {said}{got}" if where else f"{said}{got}"


def _keys(place: Sequence[str]) -> list[str]:
    model: type[BaseModel] = SessionConfig
    for part in place:
        if part.isdecimal():
            continue
        found = [one for one in _models(model.model_fields[part].annotation) if issubclass(one, BaseModel)]
        model = found[0]
    return list(model.model_fields)


def _models(annotation: object) -> list[type]:
    inner = [one for part in get_args(annotation) for one in _models(part)]
    return [annotation, *inner] if isinstance(annotation, type) else inner
