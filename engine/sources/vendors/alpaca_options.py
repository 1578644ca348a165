"""Options of the Alpaca source, and its keys, which are never printed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from engine.errors import ParameterError, StreamError
from engine.toml_text import read_regular_text

FEEDS = ("iex", "sip", "crypto")
MEGABYTE = 2**20
LOGIN_SECONDS = 10.0
KEY, SECRET = "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"


@dataclass(frozen=True)
class Access:
    """Addresses, keys and limits of the client."""

    key: str = field(repr=False)
    secret: str = field(repr=False)
    feed: str
    stream_url: str | None
    rest_url: str | None
    timeout_seconds: float
    quiet_seconds: float | None
    backoff_seconds: tuple[float, float]
    answer_bytes: int
    frame_bytes: int

    @property
    def login_seconds(self) -> float:
        """Time limit of a connection with its login, and of the confirmation of a subscription."""
        return min(self.timeout_seconds, LOGIN_SECONDS)

    def clean(self, text: object) -> str:
        """The value as text with the key and the secret replaced by `***`."""
        return str(text).replace(self.secret, "***").replace(self.key, "***")


@dataclass(frozen=True)
class AlpacaOptions:
    """Options of the Alpaca source.

    Attributes
    ----------
    key, secret : str, optional
        Never shown. Else `key_file` and `secret_file`, else the environment's APCA_API_KEY_ID and APCA_API_SECRET_KEY.
    key_file, secret_file : str, optional
        Files that hold one of them each, as a service manager or a container mounts them.
    feed : {"iex", "sip", "crypto"}
    stream_url, rest_url : str, optional
        Other addresses than the vendor's own, such as `wss://host/v2/iex` and `https://host`.
    backoff_seconds : (float, float)
        Shortest and longest pause before the next attempt; it doubles in between, and half of it is drawn at random.
    overlap_seconds : float
        How much before the last bar a backfill begins; as long as late updates may take.
    again_seconds : float
        When a backfill is fetched once more; 0: never.
    timeout_seconds : float
        For a whole answer of the historical endpoint: all pages, bytes, attempts and pauses. A connection, a login and the
        confirmation of a subscription have at most 10 s of it each.
    answer_bytes : int
        Most bytes of such an answer.
    frame_bytes : int
        Most bytes of a frame of the stream.
    quiet_seconds : float, optional
        Reconnect when nothing came for so long.
    attempts : int
        Of each request to the historical endpoint that is answered with 429 or 5xx.
    bounds : mapping of kind to int
        Most rows that wait to be taken.
    """

    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)
    key_file: str | None = None
    secret_file: str | None = None
    feed: str = "iex"
    stream_url: str | None = None
    rest_url: str | None = None
    backoff_seconds: tuple[float, float] = (1.0, 30.0)
    overlap_seconds: float = 300.0
    again_seconds: float = 30.0
    timeout_seconds: float = 60.0
    answer_bytes: int = 128 * MEGABYTE
    frame_bytes: int = 4 * MEGABYTE
    quiet_seconds: float | None = None
    attempts: int = 5
    bounds: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("key", "secret", "key_file", "secret_file"):
            value = getattr(self, name)
            if not isinstance(value, str | None):
                raise ParameterError(f"{name}: received {type(value).__name__}; valid: text")
        for name in ("key", "secret"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ParameterError(f"{name}_file: received together with {name}; valid: one of them")
        if self.feed not in FEEDS:
            raise ParameterError(f"feed: received {self.feed!r}; valid: {', '.join(FEEDS)}")
        least, most = self.backoff_seconds
        if not 0 < least <= most:
            raise ParameterError(
                f"backoff_seconds: received {self.backoff_seconds}; valid: (shortest, longest) above 0"
            )
        for name in ("timeout_seconds", "answer_bytes", "frame_bytes"):
            if not getattr(self, name) > 0:
                raise ParameterError(f"{name}: received {getattr(self, name)}; valid: above 0")
        if self.attempts < 1:
            raise ParameterError(f"attempts: received {self.attempts}; valid: 1 or more")

    def access(self) -> Access:
        """Addresses, limits, keys (option, file, environment); ParameterError without keys, StreamError without client.

        Raises
        ------
        ParameterError
            There are no keys, or a file of one cannot be read.
        StreamError
            The client is not installed.
        """
        if find_spec("alpaca") is None:
            raise StreamError("alpaca: its client is not installed; pip install session-engine[live]")
        keys = {
            KEY: secret_text("key", self.key, self.key_file) or os.environ.get(KEY, ""),
            SECRET: secret_text("secret", self.secret, self.secret_file) or os.environ.get(SECRET, ""),
        }
        absent = [name for name, value in keys.items() if not value]
        if absent:
            raise ParameterError(
                f"key: {' and '.join(absent)} not given; set in the environment, or as key_file and secret_file"
            )
        return Access(
            keys[KEY],
            keys[SECRET],
            self.feed,
            self.stream_url,
            self.rest_url,
            self.timeout_seconds,
            self.quiet_seconds,
            self.backoff_seconds,
            self.answer_bytes,
            self.frame_bytes,
        )


def secret_text(name: str, value: str | None, file: str | None) -> str | None:
    """Text of a secret, or of its file without blanks around it; None without both; ParameterError for a bad file."""
    if file is not None:
        try:
            return read_regular_text(Path(file)).strip()
        except (OSError, ValueError) as error:
            raise ParameterError(f"{name}_file: {file} cannot be read: {error}") from error
    return value
