"""What a sandbox is asked: the scene, the query, the limits. Loads no library, so that whoever asks starts at once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from engine.errors import ParameterError, QueryError

Config = dict[str, str | bool | int | float | list[str]]

PROTOCOL = "pinned"
SCHEME = f"{PROTOCOL}://"
LONGEST_SECONDS = 86_400 * 365  # what every clock of the operating system can hold
BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Limits:
    """How much a query may take.

    Attributes
    ----------
    timeout_seconds : float
        How long it may run.
    memory : str
        How much DuckDB may hold, and how large the result may be: a whole number and KB, MB or GB.
    threads : int, optional
        As many as there are cores by default.
    """

    timeout_seconds: float = 60.0
    memory: str = "2GB"
    threads: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.timeout_seconds <= LONGEST_SECONDS:
            raise ParameterError(
                f"timeout_seconds: received {self.timeout_seconds!r}; valid: above zero, and at most {LONGEST_SECONDS:,}"
            )
        if self.threads is not None and self.threads < 1:
            raise ParameterError(f"threads: received {self.threads!r}; valid: 1 or more")
        if re.fullmatch(r"[1-9][0-9]{0,8}(KB|MB|GB)", self.memory) is None:
            raise ParameterError(f"memory: received {self.memory!r}; valid: a whole number and KB, MB or GB (512MB)")

    @property
    def memory_bytes(self) -> int:
        """`memory` as a number."""
        return int(self.memory[:-2]) * BYTES[self.memory[-2:]]

    @property
    def config(self) -> Config:
        """What DuckDB is told of it."""
        threads: Config = {} if self.threads is None else {"threads": self.threads}
        return {"memory_limit": f"{self.memory_bytes}B"} | threads

    def timed_out(self) -> QueryError:
        """Give the error of a query that took too long."""
        return QueryError(f"stopped after timeout_seconds={self.timeout_seconds:g}")

    def too_large(self) -> QueryError:
        """Give the error of a query that took too much."""
        return QueryError(f"needs more than memory={self.memory}; read fewer rows or columns, or raise memory")


@dataclass(frozen=True)
class Scene:
    """What a sandbox shows.

    Attributes
    ----------
    files : mapping of name to path
        The pinned files.
    views : mapping of table to statement
        What makes each table a view over pinned files.
    helpers : tuple of str
        Statements that make views and macros over the tables.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    views: Mapping[str, str] = field(default_factory=dict)
    helpers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """One query for the child.

    Attributes
    ----------
    query : str
    scene : Scene
    frames : mapping of table to path
        Tables as Arrow IPC files.
    limits : Limits
    most : int, optional
        How many rows to keep.
    """

    query: str
    scene: Scene
    frames: Mapping[str, str]
    limits: Limits
    most: int | None

    @property
    def line(self) -> bytes:
        """The request as a line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Request:
        """Read what `line` wrote."""
        told = json.loads(line)
        scene = Scene(told["scene"]["files"], told["scene"]["views"], tuple(told["scene"]["helpers"]))
        return cls(told["query"], scene, told["frames"], Limits(**told["limits"]), told["most"])
