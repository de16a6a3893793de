"""Addresses of checkpoints, and the secrets in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

__all__ = ["is_address", "redacted", "scheme_of", "secrets_in", "without_secrets"]

_PASSWORD = re.compile(r"(?<=://)([^/?#:@\s'\"]*):([^/?#\s'\"]*)@")
_PARAMETER = re.compile(r"[?&]([^?=&#\s'\"]+)=([^&#\s'\"]+)")
_SECRET_NAME = re.compile(r"passw|pwd|secret|token|key|auth|signature|credential|^sig$", re.IGNORECASE)


def is_address(location: object) -> bool:
    """Return whether a location is an address with a scheme, not a folder.

    Example:
        >>> is_address("s3://bucket/run"), is_address("runs/today"), is_address("C://runs")
        (True, False, False)
    """
    return isinstance(location, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", location) is not None


def scheme_of(address: str) -> str:
    """Return the scheme of an address in lower case.

    Example:
        >>> scheme_of("S3://bucket/run")
        's3'
    """
    return address.partition("://")[0].lower()


def without_secrets(address: str) -> str:
    """Return an address without its password and without parameters that may be secrets.

    Example:
        >>> without_secrets("sftp://me:secret@host/run?token=secret&page=1")
        'sftp://me@host/run?page=1'
    """
    start, mark, query = _PASSWORD.sub(r"\1@", address).partition("?")
    public = [part for part in query.split("&") if not _SECRET_NAME.search(part.partition("=")[0])]
    return start + mark + "&".join(public) if any(public) else start


def secrets_in(address: str, options: Mapping[str, Any]) -> frozenset[str]:
    """Return the secrets in an address and in the options of its driver, in the forms in which a message may show them.

    Example:
        >>> sorted(secrets_in("sftp://me:a%20b@host/run", {"secret": "c", "port": 22}))
        ['a b', 'a%20b', 'c']
    """
    found = {password for _, password in _PASSWORD.findall(address)}
    found.update(value for name, value in _PARAMETER.findall(address) if _SECRET_NAME.search(name))
    found.update(value for name, value in parse_qsl(address.partition("?")[2]) if _SECRET_NAME.search(name))
    found.update(_secret_options(options))
    return frozenset(filter(None, {*found, *map(unquote, found)}))


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Replace secrets in a text.

    Example:
        >>> redacted("wrong password 'secret'", ["secret"])
        "wrong password '***'"
    """
    # A longer secret may contain a shorter one.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secret_options(options: Mapping[str, Any]) -> Iterable[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secret_options(value)
        elif isinstance(value, str) and _SECRET_NAME.search(str(name)):
            yield value
