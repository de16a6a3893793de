"""Finding of checkpoints by what their metadata say, also while a run saves and removes checkpoints in the same place."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from glowplug.exceptions import GlowplugWarning
from glowplug.typing import SaveHandler, VerifyingSaveHandler
from glowplug_model_checkpoint.filenames import EXTENSION, has_prefix, step_in
from glowplug_model_checkpoint.saved import Saved

__all__ = ["Found", "by_score", "by_step", "first_usable", "found_at"]

T = TypeVar("T")

# Listings in a row that must agree before a place counts as empty, and listings after which the search gives up.
_AGREEING, _MOST_LISTINGS = 2, 200


class Found(NamedTuple):
    """A checkpoint that was found, with its metadata; a checkpoint without metadata has only a step from its name."""

    saved: Saved
    metadata: Mapping[str, Any] | None


class _Listing(NamedTuple):
    found: list[Found]
    # The problems of damaged files, and the prefixes of checkpoints that were not asked for.
    damaged: dict[str, Exception]
    other_prefixes: set[str]
    has_vanished: bool


def found_at(store: SaveHandler, filename_prefix: str, ext: str = EXTENSION) -> list[Found]:
    """Return the checkpoints with this prefix; damaged ones and those that vanish meanwhile are omitted."""
    return _listed(store, filename_prefix, ext).found


def first_usable(
    store: SaveHandler,
    filename_prefix: str,
    ranked: Callable[[list[Found]], list[Found]],
    use: Callable[[str], T],
    ext: str = EXTENSION,
) -> T | None:
    """Return ``use(filename)`` for the first checkpoint for which this raises no error.

    A damaged checkpoint is skipped with a warning. If a checkpoint vanishes, because a run that saves in the same place has
    removed it, the checkpoints are listed again.

    Args:
        store: The save handler.
        filename_prefix: Only checkpoints with exactly this prefix are used.
        ranked: Function that returns the checkpoints in the order in which they are tried.
        use: Function that verifies or loads a checkpoint.
        ext: Extension of the files, without the dot.

    Returns:
        The result of ``use``, or ``None`` if there is no checkpoint.

    Raises:
        Exception: If the place cannot be listed.
    """
    reported: set[str] = set()
    empty = 0
    for _ in range(_MOST_LISTINGS):
        listing = _listed(store, filename_prefix, ext)
        for filename, problem in listing.damaged.items():
            _report(store, filename, problem, reported)
        has_vanished = listing.has_vanished
        for each in ranked([each for each in listing.found if each.saved.filename not in reported]):
            try:
                return use(each.saved.filename)
            except FileNotFoundError:
                has_vanished = True
                break
            except Exception as error:  # noqa: BLE001 - an older checkpoint may still be usable
                _report(store, each.saved.filename, error, reported)
        empty = 0 if has_vanished else empty + 1
        if empty == _AGREEING:
            _report_prefixes(filename_prefix, listing)
            return None
    raise RuntimeError(
        f"the checkpoints at {store!r} changed during each of {_MOST_LISTINGS} attempts to read one; try again later"
    )


def by_step(found: list[Found]) -> list[Found]:
    """Return the checkpoints from the latest to the earliest. One without metadata counts only if none has metadata.

    Example:
        >>> found = [Found(Saved(f"model_{step}.pt", step, step), {}) for step in (1, 3, 2)]
        >>> [each.saved.filename for each in by_step(found)]
        ['model_3.pt', 'model_2.pt', 'model_1.pt']
    """
    known = [each for each in found if each.metadata is not None] or found
    return sorted(known, key=lambda each: (each.saved.iteration, each.saved.step), reverse=True)


def by_score(by: str | None) -> Callable[[list[Found]], list[Found]]:
    """Return a function that returns the checkpoints with a score from the best to the worst.

    Of equal scores, the checkpoint of the earlier step comes first.

    Args:
        by: Name of the score; ``None`` if the checkpoints have only one.

    Raises:
        ValueError: If the checkpoints have several scores and none is chosen, or if none has the chosen one. The returned
            function raises the error.
    """

    def ranked(found: list[Found]) -> list[Found]:
        names = sorted({name for each in found for name in each.saved.scores})
        if not names:
            return []
        if by is None and len(names) > 1:
            raise ValueError(f"the checkpoints have several scores: {', '.join(names)}; choose one with by=")
        name = by or names[0]
        if name not in names:
            raise ValueError(f"no checkpoint has the score {name!r}; the scores are: {', '.join(names)}")
        scored = sorted(
            (each for each in found if name in each.saved.scores), key=lambda each: each.saved.iteration
        )
        return sorted(scored, key=lambda each: _priority(each, name), reverse=True)

    return ranked


def _priority(found: Found, name: str) -> float:
    modes = (found.metadata or {}).get("modes", {})
    score = found.saved.scores[name]
    return -score if modes.get(name) == "min" else score


def _listed(store: SaveHandler, filename_prefix: str, ext: str) -> _Listing:
    listing = _Listing([], {}, set(), has_vanished=False)
    for name in store.list():
        if not name.endswith(f".{ext}"):
            continue
        try:
            metadata = store.metadata(name) if isinstance(store, VerifyingSaveHandler) else None
        except FileNotFoundError:
            listing = listing._replace(has_vanished=True)
            continue
        except Exception as error:  # noqa: BLE001 - each save handler has its own errors for damaged checkpoints
            if has_prefix(name, filename_prefix, ext):
                listing.damaged[name] = error
            continue
        saved = _described(store, name, metadata)
        prefix = None if metadata is None else metadata.get("filename_prefix")
        if saved is not None and (prefix == filename_prefix or metadata is None):
            if has_prefix(name, filename_prefix, ext):
                listing.found.append(Found(saved, metadata))
        elif isinstance(prefix, str) and prefix != filename_prefix:
            listing.other_prefixes.add(prefix)
    return listing


def _described(store: SaveHandler, name: str, metadata: Mapping[str, Any] | None) -> Saved | None:
    """Return what the metadata say about a checkpoint; without metadata, what its name says."""
    if metadata is not None:
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            return Saved.from_values({**metadata, "filename": name})
        return None
    step = step_in(name)
    if step is None and isinstance(store, VerifyingSaveHandler):
        # A file that this package did not write, such as an exported model.
        return None
    return Saved(name, -1 if step is None else step, -1 if step is None else step)


def _report(store: SaveHandler, filename: str, problem: Exception, reported: set[str]) -> None:
    """Warn about a damaged checkpoint once."""
    if filename in reported:
        return
    reported.add(filename)
    warnings.warn(
        f"skipped the checkpoint {str(store.locate(filename))!r}, which is damaged or cannot be loaded: {problem}",
        GlowplugWarning,
        stacklevel=4,
    )


def _report_prefixes(filename_prefix: str, listing: _Listing) -> None:
    """Warn if there are only checkpoints with other prefixes, because the prefix may be a mistake."""
    if listing.other_prefixes and not listing.found:
        names: Sequence[str] = sorted(listing.other_prefixes)
        warnings.warn(
            f"there is no checkpoint with filename_prefix={filename_prefix!r}, but there are checkpoints with "
            f"{', '.join(map(repr, names))}; pass filename_prefix to use them",
            GlowplugWarning,
            stacklevel=4,
        )
