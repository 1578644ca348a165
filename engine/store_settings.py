"""Settings of the environment that object stores are opened with, checked before a library gets them.

The libraries read the variables themselves, and panic on some malformed values or ignore them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from engine.errors import ParameterError

# What decides which store a URL leads to, and who asks.
PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")
TIMEOUT = "ENGINE_STORE_TIMEOUT"
TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 5.0
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
PASSWORD = re.compile("(?<=//)[^/@]*@")
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])")


class Setting(NamedTuple):
    """Valid values of some variables, as text for messages and as a test; values of secrets are not repeated."""

    names: frozenset[str]
    valid: str
    accepts: Callable[[str], bool]
    is_secret: bool = False


def is_address(text: str, schemes: tuple[str, ...] = ("http", "https")) -> bool:
    """Whether a text is a URL of one of the schemes with a host, and a port from 1 to 65535 if it has one."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    host = url.netloc.rpartition("@")[2]
    name = re.sub(r":\d*$", "", host)
    is_sound = text.isascii() and text.isprintable() and " " not in text
    return is_sound and url.scheme in schemes and _HOST.fullmatch(name) is not None and port != 0


def is_proxy(text: str) -> bool:
    """Whether a text is the address of a proxy: `host:port` or a URL; empty for none."""
    whole = text if "://" in text else f"http://{text}"
    return not text or is_address(whole, ("http", "https", "socks4", "socks5", "socks5h"))


_BOOLEANS = frozenset(("1", "true", "on", "yes", "y", "0", "false", "off", "no", "n"))
SETTINGS = (
    Setting(
        frozenset(
            (
                *ENDPOINTS,
                "AWS_METADATA_ENDPOINT",
                "AZURE_STORAGE_ENDPOINT",
                "AZURE_ENDPOINT",
            )
        ),
        "http://host:port or https://host, or the variable unset",
        is_address,
    ),
    Setting(
        frozenset(("AWS_REGION", "AWS_DEFAULT_REGION")),
        "the name of a region (us-east-1), or the variable unset",
        lambda text: re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text) is not None,
    ),
    Setting(
        frozenset(
            (
                "AWS_ALLOW_HTTP",
                "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
                "AWS_UNSIGNED_PAYLOAD",
                "AWS_SKIP_SIGNATURE",
                "AWS_IMDSV1_FALLBACK",
                "AWS_S3_EXPRESS",
                "AWS_DISABLE_TAGGING",
                "AZURE_USE_FABRIC_ENDPOINT",
                "AZURE_SKIP_SIGNATURE",
                "GOOGLE_SKIP_SIGNATURE",
            )
        ),
        "true or false, or the variable unset",
        lambda text: text.lower() in _BOOLEANS,
    ),
    Setting(
        frozenset(name for one in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (one, one.lower())),
        "http://host:port, or the variable unset",
        is_proxy,
    ),
    Setting(
        frozenset(
            (
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
                "AWS_SESSION_TOKEN",
                "AZURE_STORAGE_ACCOUNT_NAME",
                "AZURE_STORAGE_ACCOUNT_KEY",
            )
        ),
        "printable ASCII without blanks around it, or the variable unset",
        lambda text: text.isascii() and text.isprintable() and text == text.strip(),
        is_secret=True,
    ),
    Setting(
        frozenset((TIMEOUT,)),
        f"a number of seconds from 1 on, or the variable unset ({TIMEOUT_SECONDS:g})",
        lambda text: re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text) is not None and float(text) >= 1,
    ),
)
_SETTING_OF = {name: one for one in SETTINGS for name in one.names}


def store_variables() -> tuple[tuple[str, str], ...]:
    """Variables of the environment, (name, value) sorted by name, that stores are opened with."""
    return tuple(
        sorted((name, value) for name, value in os.environ.items() if name.startswith(PREFIXES) or name in _SETTING_OF)
    )


def check_variables(variables: Iterable[tuple[str, str]]) -> None:
    """Raise ParameterError for the first variable whose value no store can be opened with.

    Raises
    ------
    ParameterError
        A malformed address, region, truth value, key, proxy or time.
    """
    for name, value in variables:
        setting = _SETTING_OF.get(name)
        if setting is None or setting.accepts(value):
            continue
        # A URL may have a password in it.
        shown = f"{len(value)} characters" if setting.is_secret else repr(re.sub(PASSWORD, "***@", value))
        raise ParameterError(f"{name}: received {shown} from the environment; valid: {setting.valid}")


def store_options() -> dict[str, str]:
    """Options of a client beyond the environment: waits are bounded, and an endpoint `http://` is asked without TLS."""
    timeout = timeout_seconds()
    options = {"timeout": f"{round(timeout / 2 * 1000)}ms", "connect_timeout": f"{round(connect_seconds() * 1000)}ms"}
    if endpoint().startswith("http://"):
        options["allow_http"] = "true"
    return options


def endpoint() -> str:
    """Address of the store that stands in for S3; empty for Amazon's."""
    return next((value for name in ENDPOINTS if (value := os.environ.get(name))), "")


def of_endpoint() -> str:
    """` (http://host:port)` for messages; empty for Amazon's."""
    return f" ({re.sub(PASSWORD, '***@', endpoint())})" if endpoint() else ""


def timeout_seconds() -> float:
    """Seconds that a request and its repeats may take: half of it one attempt, half of it the time to begin others."""
    return float(os.environ.get(TIMEOUT) or TIMEOUT_SECONDS)


def connect_seconds() -> float:
    """Seconds that a connection may take to be made."""
    return min(CONNECT_SECONDS, timeout_seconds() / 2)


def retry_options() -> dict[str, Any]:
    """Bounds of repeats, as obstore has them."""
    return {"retry_timeout": timedelta(seconds=timeout_seconds() / 2), "backoff": {"max_backoff": timedelta(seconds=5)}}
