"""Names that MLflow takes: what its rules forbid is escaped, and can be read back."""

from __future__ import annotations

import hashlib
import re

MAX_LENGTH = 250

# MLflow's rule for the names of metrics, parameters and tags; it also wants them to be tidy relative paths.
ALLOWED = re.compile(r"[\w/.\- :]")
ALLOWED_IN_FILES = re.compile(r"[A-Za-z0-9_/.\- ]")

_UNTIDY = re.compile(r"^/|(?<=/)/|/$|^\.(?=\.)|(?:^|(?<=/))\.{1,2}(?=/|$)")
_ESCAPE = re.compile(r"_x([0-9A-F]{0,6})_")


def escape(name: str, allowed: re.Pattern[str] = ALLOWED) -> str:
    """Return a name that MLflow takes; different names stay different.

    A character that is not allowed becomes ``_x<HEX>_``, its code point between ``_x`` and ``_``. So do the slashes and dots
    that make a name an untidy path (``/a``, ``a//b``, ``a/``, ``./a``), the underscore of a name that looks escaped already,
    and the empty name, which becomes ``_x_``.

    Args:
        name: any text.
        allowed: what one allowed character looks like.

    Example:
        >>> escape("f1@0.5=max"), escape("training/loss"), escape("a//b")
        ('f1_x40_0.5_x3D_max', 'training/loss', 'a/_x2F_b')
    """
    if not name:
        return "_x_"
    untidy = {place for match in _UNTIDY.finditer(name) for place in range(*match.span())}
    parts: list[str] = []
    for place in reversed(range(len(name))):
        character = name[place]
        is_plain = allowed.fullmatch(character) and place not in untidy
        if character == "_" and _ESCAPE.match("_" + "".join(reversed(parts[-8:]))):
            is_plain = False
        parts.append(character if is_plain else f"_x{ord(character):X}_")
    return "".join(reversed(parts))


def unescape(name: str) -> str:
    """Return the name from which :func:`escape` made this one.

    Example:
        >>> unescape("f1_x40_0.5_x3D_max")
        'f1@0.5=max'
    """
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else "", name)


def shorten(name: str) -> str:
    """Return a name of at most 250 characters: a longer one is cut, and ends with a hash of the whole.

    Example:
        >>> len(shorten("x" * 300)), shorten("short")
        (250, 'short')
    """
    if len(name) <= MAX_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: MAX_LENGTH - len(digest) - 1].rstrip('/')}-{digest}"


def file_name(name: str) -> str:
    """Return a name for an artifact: escaped down to ASCII, and at most 250 characters.

    Example:
        >>> file_name("notes/façade")
        'notes/fa_xE7_ade'
    """
    return shorten(escape(name, ALLOWED_IN_FILES))
