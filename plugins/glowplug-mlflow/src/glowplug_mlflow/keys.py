"""Reversible escaping of names that MLflow refuses."""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 250

# Characters that MLflow allows in the names of metrics, parameters and tags. A name must also be a normalized relative path.
ALLOWED = re.compile(r"[\w/.\- :]")
ALLOWED_IN_FILES = re.compile(r"[A-Za-z0-9_/.\- ]")

_NOT_NORMALIZED = re.compile(r"^/|(?<=/)/|/$|^\.(?=\.)|(?:^|(?<=/))\.{1,2}(?=/|$)")
_ESCAPE = re.compile(r"_x([0-9A-F]{0,6})_")


def escape(name: str, allowed: re.Pattern[str] = ALLOWED) -> str:
    """Return a name that MLflow accepts; different names remain different.

    A forbidden character becomes ``_x<HEX>_``, where ``<HEX>`` is its code point. Names such as
    ``/a``, ``a//b``, ``a/`` and ``./a`` are not normalized paths; their offending slashes and dots are escaped in the same way.
    Underscores that would otherwise start an escape sequence are escaped as well. An empty name becomes ``_x_``.

    Args:
        name: Any text.
        allowed: Regular expression that matches one allowed character.

    Example:
        >>> escape("f1@0.5=max"), escape("training/loss"), escape("a//b")
        ('f1_x40_0.5_x3D_max', 'training/loss', 'a/_x2F_b')
    """
    if not name:
        return "_x_"
    forbidden = {index for match in _NOT_NORMALIZED.finditer(name) for index in range(*match.span())}
    parts: list[str] = []
    for index in reversed(range(len(name))):
        character = name[index]
        is_plain = allowed.fullmatch(character) and index not in forbidden
        if character == "_" and _ESCAPE.match("_" + "".join(reversed(parts[-8:]))):
            is_plain = False
        parts.append(character if is_plain else f"_x{ord(character):X}_")
    return "".join(reversed(parts))


def unescape(name: str) -> str:
    """Reverse :func:`escape`.

    Example:
        >>> unescape("f1_x40_0.5_x3D_max")
        'f1@0.5=max'
    """
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else "", name)


def shorten(name: str, length: int = MAX_LENGTH) -> str:
    """Shorten a name to at most ``length`` characters.

    A longer name is cut, and a hash of the full name is added at the end.

    Args:
        name: Any text.
        length: Maximum number of characters. Defaults to 250.

    Example:
        >>> len(shorten("x" * 300)), shorten("short")
        (250, 'short')
    """
    if len(name) <= length:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: length - len(digest) - 1].rstrip('/')}-{digest}"


def file_name(name: str) -> str:
    """Return an ASCII file name of at most 250 characters for an artifact.

    Example:
        >>> file_name("notes/façade")
        'notes/fa_xE7_ade'
    """
    return shorten(escape(name, ALLOWED_IN_FILES))
