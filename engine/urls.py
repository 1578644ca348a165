"""URLs among paths: which texts are one, and the error of a call that takes paths of this file system alone."""

from __future__ import annotations

import os
import re

from engine.errors import ParameterError

SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
EXAMPLE = "s3://bucket/prefix"
OR_STORE = f", or {EXAMPLE} (gs://, az://)"  # what else is valid where a store may stand
OTHER_NAMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "azure": "az"}
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>/{1,2})(?P<rest>.*)", re.DOTALL)


def url_of(value: object) -> str | None:
    """The URL that a text or path is (`s3://bucket/out`); None for a path of this file system.

    A path object makes one slash of two, so `s3:/bucket/out` is a URL too, and so is an unknown scheme with one slash
    unless a folder of that name exists.
    """
    found = _URL.fullmatch(str(value))
    if found is None:
        return None
    scheme = OTHER_NAMES.get(found["scheme"].lower(), found["scheme"].lower())
    if len(found["slashes"]) == 1 and scheme not in SCHEMES and os.path.lexists(f"{found['scheme']}:"):
        return None
    return f"{scheme}://{found['rest']}"


def scheme_of(url: str) -> str:
    """Scheme of a URL that `url_of` gave: `s3` of `s3://bucket/out`."""
    return url.partition("://")[0]


def refuse_url(parameter: str, value: object, also: str = "") -> None:
    """ParameterError where a value is a URL, with what is valid `also`; anything else passes."""
    url = url_of(value)
    if url is None:
        return
    kind = "an object store" if scheme_of(url) in SCHEMES else f"the unknown scheme {scheme_of(url)!r}"
    raise ParameterError(
        f"{parameter}: received {url!r}, a URL of {kind}; valid here: a path of this file system{also}"
    )
