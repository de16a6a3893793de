"""File names of checkpoints: patterns that can only reach what they are given, names that cannot leave their folder."""

from __future__ import annotations

import ntpath
import re
from numbers import Integral, Real
from string import Formatter

__all__ = [
    "EXTENSION",
    "check_filename",
    "check_part",
    "check_pattern",
    "has_prefix",
    "render",
    "setup_filename_pattern",
]

EXTENSION = "pt"

# The format specifications that a field may have; none of them can ask for a name of unbounded length.
_FIELDS = {
    "filename_prefix": "",
    "name": "",
    "score_name": "",
    "ext": "",
    "global_step": r"(0?[1-9][0-9]?d?)?",
    "score": r"(\.[0-9]{1,2}[efg])?",
}


def check_part(what: str, value: object) -> str:
    r"""Return a part of a file name, if no file name that has it can lead out of its folder.

    Args:
        what: what the value is to the user, for the error.
        value: a prefix, the name of a score, a key of ``to_save``; may be empty.

    Raises:
        TypeError: no string.
        ValueError: it has a path separator, ``..``, a drive or unprintable characters.

    Example:
        >>> check_part("filename_prefix", "best")
        'best'
        >>> check_part("filename_prefix", "../best")
        Traceback (most recent call last):
        ...
        ValueError: filename_prefix becomes part of a file name, so it must not have '/', '\', '..', a drive or unprintable characters; got '../best'
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} becomes part of a file name, so it must be a string; got {value!r}")
    is_plain = ntpath.basename(value) == value != "."  # Windows has all of the separators
    if not is_plain or ".." in value or not value.isprintable():
        raise ValueError(
            f"{what} becomes part of a file name, so it must not have '/', '\\', '..', a drive or unprintable "
            f"characters; got {value!r}"
        )
    return value


def check_filename(value: object) -> str:
    """Return the name of a file, if it is one and does not lead out of its folder.

    Raises:
        TypeError: no string.
        ValueError: empty, or as for :func:`check_part`.

    Example:
        >>> check_filename("model_3.pt")
        'model_3.pt'
    """
    if value == "":
        raise ValueError(
            "the name of a checkpoint file must not be empty; does filename_pattern have any field?"
        )
    return check_part("the name of a checkpoint file", value)


def check_pattern(pattern: object) -> str:
    """Return a file name pattern, if all it can reach are the known fields.

    Fields are ``filename_prefix``, ``name``, ``global_step``, ``score_name``, ``score`` and ``ext``. Only two take a
    format: ``{global_step:05d}`` and ``{score:.3f}`` (or ``e``, ``g``). Attributes, indexes and conversions are refused.

    Raises:
        TypeError: no string.
        ValueError: anything else than text and these fields.

    Example:
        >>> check_pattern("{name}_{global_step:05d}.{ext}")
        '{name}_{global_step:05d}.{ext}'
        >>> check_pattern("{name.__class__}.pt")
        Traceback (most recent call last):
        ...
        ValueError: filename_pattern '{name.__class__}.pt': there is no field 'name.__class__'; the fields are filename_prefix, name, score_name, ext, global_step, score
    """
    if not isinstance(pattern, str):
        raise TypeError(f"filename_pattern must be a string such as '{{name}}.{{ext}}', got {pattern!r}")
    try:
        pieces = list(Formatter().parse(pattern))
    except ValueError as error:
        raise ValueError(f"filename_pattern {pattern!r}: {error}; write {{{{ and }}}} for braces") from None
    check_filename("".join(text + ("x" if field else "") for text, field, *_ in pieces))
    for _, field, spec, conversion in pieces:
        if field is None:
            continue
        if field not in _FIELDS:
            raise ValueError(
                f"filename_pattern {pattern!r}: there is no field {field!r}; the fields are {', '.join(_FIELDS)}"
            )
        if conversion or not re.fullmatch(_FIELDS[field], spec or ""):
            raise ValueError(
                f"filename_pattern {pattern!r}: the field {field} cannot be written like this; only {{global_step:05d}} "
                "and {score:.3f} (also e, g) take a format"
            )
    return pattern


def setup_filename_pattern(
    with_prefix: bool = True,
    with_score: bool = True,
    with_score_name: bool = True,
    with_global_step: bool = True,
) -> str:
    """Return the default file name pattern with these parts.

    Raises:
        ValueError: neither score nor step, or a score name without a score.

    Example:
        >>> setup_filename_pattern(with_prefix=False)
        '{name}_{global_step}_{score_name}={score}.{ext}'
    """
    if not (with_score or with_global_step):
        raise ValueError(
            "with_score and with_global_step are both False: each file would overwrite the one before"
        )
    if with_score_name and not with_score:
        raise ValueError("with_score_name=True needs with_score=True: the name stands before the score")
    parts = ["{filename_prefix}"] * with_prefix + ["{name}"] + ["{global_step}"] * with_global_step
    if with_score:
        parts.append("{score_name}={score}" if with_score_name else "{score}")
    return "_".join(parts) + ".{ext}"


def render(
    pattern: str,
    *,
    filename_prefix: str,
    name: str,
    score_name: str | None,
    score: Real | float | None,
    global_step: int | None,
    ext: str = EXTENSION,
) -> str:
    """Return the file name that a pattern makes of these values.

    Args:
        pattern: as :func:`check_pattern` returned it.
        filename_prefix: may be empty.
        name: what is saved.
        score_name: ``None`` is written "None", here and below.
        score: integers are written as they are, others with 4 decimals unless the pattern says how.
        global_step: the number of the save.
        ext: the extension, without its dot.

    Raises:
        ValueError: the name would lead out of its folder, or is empty.

    Example:
        >>> values = dict(filename_prefix="", name="model", score_name="acc", score=0.5, global_step=12)
        >>> render("{name}_{global_step:04d}_{score_name}={score}.{ext}", **values)
        'model_0012_acc=0.5000.pt'
    """
    values = {
        "filename_prefix": filename_prefix,
        "name": name,
        "score_name": score_name,
        "ext": ext,
        "global_step": global_step,
        "score": score,
    }
    written = []
    for text, field, spec, _ in Formatter().parse(pattern):
        written.append(text)
        if field is not None:
            written.append(_write(values[field], spec or ""))
    return check_filename("".join(written))


def has_prefix(filename: str, prefix: str, ext: str = EXTENSION) -> bool:
    """Return whether a file is a checkpoint with this prefix; with the empty one, whether it is a checkpoint at all.

    Example:
        >>> has_prefix("best_model_1.pt", "best"), has_prefix("best2_model_1.pt", "best")
        (True, False)
    """
    return filename.endswith(f".{ext}") and (not prefix or filename.startswith(f"{prefix}_"))


def _write(value: object, spec: str) -> str:
    if value is None or isinstance(value, str):
        return str(value)
    if spec:
        return format(value, spec)
    return str(value) if isinstance(value, Integral) else f"{value:.4f}"
