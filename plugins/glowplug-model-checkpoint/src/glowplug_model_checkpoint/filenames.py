"""Safe file names and file name patterns."""

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
    "matches",
    "render",
    "setup_filename_pattern",
    "step_in",
]

EXTENSION = "pt"

# For each field, a regular expression for its format. Widths and precisions are limited so that names cannot become huge.
_FIELDS = {
    "filename_prefix": "",
    "name": "",
    "score_name": "",
    "ext": "",
    "global_step": r"(0?[1-9][0-9]?d?)?",
    "epoch": r"(0?[1-9][0-9]?d?)?",
    "score": r"(\.[0-9]{1,2}[efg])?",
}


def check_part(what: str, value: object) -> str:
    r"""Validate a part of a file name and return it.

    Args:
        what: Name of the value in error messages.
        value: Prefix, score name or key of ``to_save``; an empty string is accepted.

    Raises:
        TypeError: If the value is not a string.
        ValueError: If the value is ``.``, or if it contains a path separator, ``..``, a drive such as ``C:``, or unprintable
            characters.

    Example:
        >>> check_part("filename_prefix", "best")
        'best'
        >>> check_part("filename_prefix", "../best")
        Traceback (most recent call last):
        ...
        ValueError: filename_prefix becomes part of a file name, so it must not be '.' or contain '/', '\', '..', a drive such as 'C:', or unprintable characters; got '../best'
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} becomes part of a file name, so it must be a string; got {value!r}")
    # The separators of Windows include those of all other systems.
    is_plain = ntpath.basename(value) == value != "."
    if not is_plain or ".." in value or not value.isprintable():
        raise ValueError(
            f"{what} becomes part of a file name, so it must not be '.' or contain '/', '\\', '..', a drive such as 'C:', "
            f"or unprintable characters; got {value!r}"
        )
    return value


def check_filename(value: object) -> str:
    """Check that a value is a file name without a path, and return the file name.

    Raises:
        TypeError: If the value is not a string.
        ValueError: If the file name is empty, or if :func:`check_part` refuses the file name.

    Example:
        >>> check_filename("model_3.pt")
        'model_3.pt'
    """
    if value == "":
        raise ValueError("a checkpoint name must not be empty; check filename_pattern")
    return check_part("a checkpoint name", value)


def check_pattern(pattern: object) -> str:
    """Validate a file name pattern and return it.

    The fields are ``filename_prefix``, ``name``, ``global_step``, ``epoch``, ``score_name``, ``score`` and ``ext``.
    ``global_step`` and ``epoch`` accept a width, as in ``{global_step:05d}``. ``score`` accepts a precision with the type ``e``, ``f`` or ``g``, as in
    ``{score:.3f}``. Attributes, indexes and conversions, as in ``{name.x}``, ``{name[0]}`` and ``{name!r}``, are refused.

    Raises:
        TypeError: If the pattern is not a string.
        ValueError: If the pattern contains anything other than text and these fields.

    Example:
        >>> check_pattern("{name}_{global_step:05d}.{ext}")
        '{name}_{global_step:05d}.{ext}'
        >>> check_pattern("{name.__class__}.pt")
        Traceback (most recent call last):
        ...
        ValueError: filename_pattern '{name.__class__}.pt': unknown field 'name.__class__'; the fields are filename_prefix, name, score_name, ext, global_step, epoch, score
    """
    if not isinstance(pattern, str):
        raise TypeError(f"filename_pattern must be a string such as '{{name}}.{{ext}}'; got {pattern!r}")
    try:
        pieces = list(Formatter().parse(pattern))
    except ValueError as error:
        raise ValueError(
            f"filename_pattern {pattern!r}: {error}; write {{{{ and }}}} for literal braces"
        ) from None
    check_filename("".join(text + ("x" if field else "") for text, field, *_ in pieces))
    for _, field, spec, conversion in pieces:
        if field is None:
            continue
        if field not in _FIELDS:
            raise ValueError(
                f"filename_pattern {pattern!r}: unknown field {field!r}; the fields are {', '.join(_FIELDS)}"
            )
        if conversion or not re.fullmatch(_FIELDS[field], spec or ""):
            raise ValueError(
                f"filename_pattern {pattern!r}: unsupported format or conversion for the field {field}. global_step and epoch accept a "
                "width from 1 to 99, such as {global_step:05d}, and score accepts a precision from 0 to 99 with e, f or g, such "
                "as {score:.3f}; other fields accept no format, and no field accepts a conversion such as !r"
            )
    return pattern


def setup_filename_pattern(
    with_prefix: bool = True,
    with_score: bool = True,
    with_score_name: bool = True,
    with_global_step: bool = True,
) -> str:
    """Return the default file name pattern, limited to the chosen parts.

    Args:
        with_prefix: Begin with ``filename_prefix``.
        with_score: Include the score.
        with_score_name: Include the name of the score.
        with_global_step: Include the global step.

    Raises:
        ValueError: If neither the score nor the step is included, or if the score name is included without the score.

    Example:
        >>> setup_filename_pattern(with_prefix=False)
        '{name}_{global_step}_{score_name}={score}.{ext}'
    """
    if not (with_score or with_global_step):
        raise ValueError(
            "with_score and with_global_step are both False, so all files would have the same name; set one of them to True"
        )
    if with_score_name and not with_score:
        raise ValueError("with_score_name=True requires with_score=True")
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
    epoch: int | None = None,
    ext: str = EXTENSION,
) -> str:
    """Replace the fields of a pattern with values and return the file name.

    Args:
        pattern: Result of :func:`check_pattern`.
        filename_prefix: Prefix of the file name; may be empty.
        name: Name of the saved objects.
        score_name: Name of the score. In every field, ``None`` is written as "None".
        score: The score. If the pattern has no format for the score, integers are written unchanged, and other numbers are
            written with 4 decimals.
        global_step: Step number.
        epoch: Epoch number.
        ext: File extension without the dot.

    Raises:
        ValueError: If the file name is empty or not safe.

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
        "epoch": epoch,
        "score": score,
    }
    written = []
    for text, field, spec, _ in Formatter().parse(pattern):
        written.append(text)
        if field is not None:
            written.append(_write(values[field], spec or ""))
    return check_filename("".join(written))


def has_prefix(filename: str, prefix: str, ext: str = EXTENSION) -> bool:
    """Return whether a file name belongs to a checkpoint with the given prefix.

    Args:
        filename: File name without a path.
        prefix: The prefix; an empty prefix matches all checkpoints.
        ext: File extension without the dot.

    Example:
        >>> has_prefix("best_model_1.pt", "best"), has_prefix("best2_model_1.pt", "best")
        (True, False)
    """
    return filename.endswith(f".{ext}") and (not prefix or filename.startswith(f"{prefix}_"))


def step_in(filename: str) -> int | None:
    """Return the step in a file name of the default pattern; ``None`` if there is no step.

    Example:
        >>> step_in("best_model_12_accuracy=0.9000.pt"), step_in("final.pt")
        (12, None)
    """
    numbers = [part for part in filename.rpartition(".")[0].split("_")[1:] if part.isdecimal()]
    return int(numbers[-1]) if numbers else None


def matches(pattern: str, filename: str, filename_prefix: str, ext: str = EXTENSION) -> bool:
    """Return whether a file name may result from a pattern with this prefix.

    Example:
        >>> pattern = setup_filename_pattern(with_prefix=False, with_score=False, with_score_name=False)
        >>> matches(pattern, "model_12.pt", ""), matches(pattern, "final.pt", "")
        (True, False)
    """
    fixed = {"filename_prefix": re.escape(filename_prefix), "ext": re.escape(ext)}
    numbers = {"global_step": r"-?\d+", "epoch": r"-?\d+", "score": r"[-+.e\d]+"}
    expression = ""
    for text, field, _, _ in Formatter().parse(pattern):
        expression += re.escape(text)
        if field is not None:
            expression += fixed.get(field) or numbers.get(field) or ".+"
    return re.fullmatch(expression, filename) is not None


def _write(value: object, spec: str) -> str:
    if value is None or isinstance(value, str):
        return str(value)
    if spec:
        return format(value, spec)
    return str(value) if isinstance(value, Integral) else f"{value:.4f}"
