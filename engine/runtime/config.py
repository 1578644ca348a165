"""Configuration of a session: read from TOML or JSON, validated as a whole; each mistake names the nearest valid key.

[session]      calendar, mode, dates, symbols
[streams]      bars, quotes, ticks
derive, [[history]], [[indicators]], [gaps], [export], [replay], [live], [source]
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from engine.arguments import did_you_mean, location_of, path_of, similar_names
from engine.derive.indicators import Indicator
from engine.errors import ParameterError
from engine.interval import Interval
from engine.plugins import SOURCES as PLUGINS
from engine.plugins import plugins
from engine.sources.options import ReadOptions
from engine.storage import ObjectPath
from engine.toml_text import parse_toml, read_regular_text
from engine.urls import refuse_url

Mode = Literal["replay", "live"]
SOURCES = ("files", "folder", "alpaca")
EVERY = "*"
SECRET_NAME = re.compile(
    r"(?:^|_)(key|key_id|secret|secret_key|token|password|passphrase|credentials?)$", re.IGNORECASE
)
TABLE_EXPECTED = ("model_type", "model_attributes_type", "dict_type", "mapping_type")  # text in its place may be a key
LONGEST_VALUE = 200  # characters of a value in a message
PACED_STEP_SECONDS, FAST_STEP_SECONDS = 60.0, 1800.0


def parse_interval(text: object) -> str:
    """Normalize an interval to its shortest spelling; ValueError for anything but text."""
    if not isinstance(text, str):
        told = describe_input((), text)
        raise ValueError(f"received {told}; valid: an interval as text, such as 5m")  # noqa: TRY004 - pydantic's
    return str(Interval.parse(text))


def refuse_store(path: Path) -> Path:
    """Return a path of this file system unchanged; ValueError for a URL."""
    try:
        refuse_url("path", path)
    except ParameterError as error:
        raise ValueError(str(error).removeprefix("path: ")) from error
    return path


def target_of(path: Path) -> Path:
    """Return the path, of a URL that of its objects; ValueError for a URL of no object store."""
    try:
        return location_of("target", path)
    except ParameterError as error:
        raise ValueError(str(error).removeprefix("target: ")) from error


def parse_base(text: object) -> str:
    """Return `auto` and `none` unchanged, any other value as a normalized interval."""
    return str(text) if text in ("auto", "none") else parse_interval(text)


def parse_seconds(value: object) -> object:
    """Convert interval text such as `5m` to seconds; return other values unchanged."""
    if isinstance(value, str):
        length = Interval.parse(value)
        return length.seconds
    return value


def parse_speed(value: object) -> object:
    """Return 0.0 for `max`, numbers unchanged; ValueError for other text."""
    if value == "max":
        return 0.0
    if isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - pydantic's
            f"received {value!r}; valid: max, or how many times as fast as the clock, such as 60"
        )
    return value


def check_read_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options unchanged if `ReadOptions` accepts them; ValueError for unknown keys or bad arguments."""
    known = [option.name for option in fields(ReadOptions)]
    unknown = [unknown_key(name, name, known) for name in options if name not in known]
    if unknown:
        raise ValueError("; ".join(unknown))
    try:
        ReadOptions(**options)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return options


def hide_secrets(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Options whose values under names such as `key`, `api_secret` or `token` are `SecretStr`; ValueError if no text."""
    wrong = [name for name, value in options.items() if is_secret(name) and not isinstance(value, str | SecretStr)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: received {type(options[wrong[0]]).__name__}; valid: text in quotes")
    return {
        name: SecretStr(value) if is_secret(name) and isinstance(value, str) else value
        for name, value in options.items()
    }


def revealed_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with the text of secrets in place of `SecretStr`; for the call that opens a source only."""
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in options.items()
    }


def is_secret(name: str) -> bool:
    """Whether the value of an option of this name is never shown: `key`, `secret`, `token`, `password` and the like."""
    return SECRET_NAME.search(name) is not None


IntervalText = Annotated[str, BeforeValidator(parse_interval)]
LocalPath = Annotated[Path, AfterValidator(refuse_store)]
Target = Annotated[Path, AfterValidator(target_of)]
Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(ge=0, allow_inf_nan=False)]
Pattern = Annotated[str, AfterValidator(str.strip), Field(min_length=1)]


class Section(BaseModel):
    """Base of all sections: immutable, unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SessionPart(Section):
    """`[session]`: calendars, trade dates and symbols.

    Attributes
    ----------
    calendar : str or None
        Calendar of symbols that `calendars` does not name.
    calendars : mapping of pattern to code
    mode : {"replay", "live"}
    start, end : date or None
        First and last trade date. A replay without them runs all sessions of its source; a live session begins today.
    symbols : tuple of str
        Empty: all symbols of the source.
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
    def check_dates(self) -> SessionPart:
        """Raise ValueError when `end` is before `start`; return the section."""
        if self.start and self.end and self.end < self.start:
            raise ValueError(f"end: received {self.end}; valid: not before start ({self.start})")
        return self


class StreamsPart(Section):
    """`[streams]`: kinds of rows to subscribe to.

    Attributes
    ----------
    bars : str
        An interval, `auto` (chosen by `subscription_plan`) or `none`.
    quotes, ticks : bool
    synthetic_quotes : bool
        In a replay without quotes, bid and ask of each symbol are its last close.
    """

    bars: Annotated[str, BeforeValidator(parse_base)] = "auto"
    quotes: bool = False
    ticks: bool = False
    synthetic_quotes: bool = False


class HistoryPart(Section):
    """`[[history]]`: sessions before the current one.

    Attributes
    ----------
    sessions : int
        Their number.
    intervals : tuple of str
        Intervals of their bars; empty: the base.
    symbols : tuple of pattern
    """

    sessions: int = Field(ge=1, le=2_000)
    intervals: tuple[IntervalText, ...] = ()
    symbols: tuple[Pattern, ...] = (EVERY,)


def parse_indicator(text: str) -> str:
    """Normalize an indicator definition such as `sma(20)`; an error if it is not valid."""
    return str(Indicator.parse(text))


class IndicatorPart(Section):
    """`[[indicators]]`: a definition such as `sma(20)`, and the intervals and symbols it is computed for."""

    use: Annotated[str, AfterValidator(parse_indicator)]
    intervals: tuple[IntervalText, ...] = ()
    symbols: tuple[Pattern, ...] = (EVERY,)


class GapsPart(Section):
    """`[gaps]`: retries of open gaps in live mode.

    Attributes
    ----------
    fill : bool
    retries : int
        Number of requests for a gap before it is abandoned.
    interval_seconds : float
        Time until the first retry, and between two.
    backoff : float
        Factor by which that time grows with each retry.
    every_seconds : float
        Time between two assessments of gaps and quality.
    """

    fill: bool = True
    retries: int = Field(default=5, ge=0, le=1_000)
    interval_seconds: Seconds = 60.0
    backoff: float = Field(default=2.0, ge=1.0, le=100.0)
    every_seconds: Seconds = 0.0


class ExportPart(Section):
    """`[export]`: target of the dataset, and session time between two revisions (0: one at the end)."""

    target: Target
    every_seconds: Seconds = 0.0


class ReplayPart(Section):
    """`[replay]`: speed (`max`, or a multiple of the clock), and session time per step.

    The step changes the states that a reader can see (an export's cadence is not finer), and nothing of the last one.
    """

    speed: Annotated[float, BeforeValidator(parse_speed), Field(ge=0, allow_inf_nan=False)] = 0.0
    step_seconds: Annotated[Seconds, Field(gt=0)] | None = None

    @property
    def step(self) -> dt.timedelta:
        """Session time per step: `step_seconds` if set, else 1 minute, or 30 minutes at speed `max` (0)."""
        return dt.timedelta(seconds=self.step_seconds or (PACED_STEP_SECONDS if self.speed else FAST_STEP_SECONDS))


class LivePart(Section):
    """`[live]`: bounds of a running session.

    Attributes
    ----------
    grace_seconds : float
        Time after its end at which a slot is due.
    queue_rows : int
        Quotes and ticks that are queued before the oldest are dropped (and counted).
    poll_seconds : float
        Longest time between two steps.
    overlap_seconds : float
        How much before the last exported bar of a symbol a start asks for bars again, as they may have been corrected.
    history_seconds : float
        Longest time that the source may take for requests of the past of a running session; 0: no limit.
    report_seconds : float
        Time between two lines of the state that `engine live` writes; 0: none.
    """

    grace_seconds: Seconds = 5.0
    queue_rows: int = Field(default=1_000_000, ge=1)
    poll_seconds: Seconds = 1.0
    overlap_seconds: Seconds = 300.0
    history_seconds: Seconds = 3600.0
    report_seconds: Seconds = 60.0


class SourcePart(Section):
    """`[source]`: source of the rows.

    Attributes
    ----------
    kind : {"files", "folder", "alpaca"}
        Or the name of a plug-in of the group `engine.sources`.
    paths : tuple of Path
        Files and folders to replay, or the folder to follow; relative ones to the configuration's folder.
    read : mapping
        Options of the readers (`engine.sources.options.ReadOptions`).
    keep_source : bool
        Load other resolutions of files than the base as series of their own.
    options : mapping
        Options of a live source; those with the names of secrets (`is_secret`) are `pydantic.SecretStr`.
    """

    kind: str = "files"
    paths: tuple[LocalPath, ...] = ()
    read: Annotated[Mapping[str, Any], AfterValidator(check_read_options)] = Field(default_factory=dict)
    keep_source: bool = False
    options: Annotated[Mapping[str, Any], AfterValidator(hide_secrets)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def check_kind(self) -> SourcePart:
        """Raise ValueError for an unknown kind, or for files or folder without a path; return the section."""
        valid = (*SOURCES, *(one.name for one in plugins(PLUGINS)))
        if self.kind not in valid:
            raise ValueError(f"kind: received {self.kind!r}{did_you_mean(self.kind, valid)}; valid: {', '.join(valid)}")
        if self.kind in ("files", "folder") and not self.paths:
            raise ValueError(f"paths: none given; valid: what {self.kind} are read from")
        return self


class SessionConfig(Section):
    """Configuration of a session; the fields are described in their sections."""

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
    def check_sections(self) -> SessionConfig:
        """ValueError without calendar, for a source the mode cannot use, for live Alpaca without symbols; return self."""
        if self.session.calendar is None and not self.session.calendars:
            raise ValueError("session.calendar: none given; valid: a code of `engine calendars`, or a TOML file")
        if self.session.mode == "replay" and self.source.kind != "files":
            raise ValueError(f"source.kind: received {self.source.kind!r}; valid in a replay: files")
        if self.session.mode == "live" and self.source.kind == "files":
            raise ValueError("source.kind: received 'files'; valid in live mode: folder, alpaca, a plug-in")
        if self.session.mode == "live" and not self.session.symbols and self.source.kind == "alpaca":
            raise ValueError("session.symbols: none given; valid: the symbols to stream")
        return self

    @classmethod
    def read(cls, path: str | Path) -> SessionConfig:
        """Read and validate a TOML or `.json` file; relative paths are below its folder; errors list all mistakes.

        Raises
        ------
        ParameterError
            The file cannot be read, or is not valid; the message names all mistakes.
        """
        path = path_of("path", path)
        try:
            text = read_regular_text(path)
            content = json.loads(text) if path.suffix == ".json" else parse_toml(text)
        except (OSError, ValueError, RecursionError) as error:
            raise ParameterError(f"{path}: no configuration could be read: {error}") from error
        return cls.of(content, path.parent, str(path))

    @classmethod
    def of(cls, content: Mapping[str, Any], folder: Path | None = None, name: str = "configuration") -> SessionConfig:
        """Validate a mapping; ParameterError lists all mistakes; `folder` (if given) is put before relative paths."""
        try:
            config = cls.model_validate(content)
        except ValidationError as error:
            raise ParameterError(
                f"{name}: " + "; ".join(describe_mistake(one) for one in error.errors(include_url=False))
            ) from error
        return config if folder is None else config.below(folder)

    def below(self, folder: Path) -> SessionConfig:
        """Copy in which relative source paths and the export target are below `folder`; absolute paths stay."""
        source = self.source.model_copy(update={"paths": tuple(folder / path for path in self.source.paths)})
        export = self.export and self.export.model_copy(update={"target": below_folder(folder, self.export.target)})
        return self.model_copy(update={"source": source, "export": export})

    def history_of(self, symbol: str) -> tuple[HistoryPart, ...]:
        """History sections with a pattern that matches the symbol, in order; () if none."""
        return tuple(part for part in self.history if matches(symbol, part.symbols))

    def indicators_of(self, symbol: str) -> tuple[IndicatorPart, ...]:
        """Indicator sections with a pattern that matches the symbol, in order; () if none."""
        return tuple(part for part in self.indicators if matches(symbol, part.symbols))

    @property
    def history_sessions(self) -> int:
        """Largest `sessions` of all history sections; 0 without any."""
        return max((part.sessions for part in self.history), default=0)


def matches(symbol: str, patterns: Iterable[str]) -> bool:
    """Whether a symbol matches any of the shell patterns, case-sensitive; False without patterns."""
    return any(fnmatch.fnmatchcase(symbol, pattern) for pattern in patterns)


def below_folder(folder: Path, target: Path) -> Path:
    """A relative path below the folder; an absolute one, or that of a store, as it is."""
    return target if isinstance(target, ObjectPath) else folder / target


def describe_mistake(error: Mapping[str, Any]) -> str:
    """One-line text of a pydantic error: key path, reason, value (of tables the kind); unknown keys: the nearest one."""
    place = [str(part) for part in error["loc"]]
    where = ".".join(place)
    if error["type"] == "extra_forbidden":
        valid = valid_keys(place[:-1])
        return unknown_key(where, place[-1], valid)
    if error["type"] == "missing":
        return f"{where}: is missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    if not any(part in message for part in ("received", "none given", "unknown key")):
        value = error["input"]
        told = type(value).__name__ if error["type"] in TABLE_EXPECTED else describe_input(place, value)
        message = f"{message} (received {told})"
    return f"{where}: {message}" if where else message


def describe_input(place: Sequence[str], value: object) -> str:
    """A value for a message: its kind if it is a table or list, or if a key on the way to it names a secret."""
    # What stands in a table under a wrong name may be a key.
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list of tables" if any(isinstance(one, Mapping) for one in value) else f"a list of {len(value)}"
    if any(map(is_secret, place)):
        return type(value).__name__
    shown = repr(value)
    return shown if len(shown) <= LONGEST_VALUE else f"{shown[:LONGEST_VALUE]}... ({len(shown):,} characters)"


def unknown_key(where: str, key: str, valid: Sequence[str]) -> str:
    """Message that `where` is unknown, with the valid key most like `key` (ratio 0.5 or more) and all valid."""
    similar = similar_names(key, valid)
    hint = f"did you mean {similar[0]}? " if similar else ""
    return f"unknown key {where}; {hint}valid: {', '.join(valid)}"


def valid_keys(place: Sequence[str]) -> list[str]:
    """Field names of the configuration section at a key path; list positions in the path are ignored."""
    model: type[BaseModel] = SessionConfig
    for part in place:
        if part.isdecimal():
            continue
        model = next(one for one in types_within(model.model_fields[part].annotation) if issubclass(one, BaseModel))
    return list(model.model_fields)


def types_within(annotation: object) -> list[type]:
    """Classes in a type annotation, itself first, then those of its arguments, recursively."""
    inner = [one for part in get_args(annotation) for one in types_within(part)]
    return [annotation, *inner] if isinstance(annotation, type) else inner
