"""The checkpoints that a handler keeps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from glowplug_model_checkpoint.policies import Policy
from glowplug_model_checkpoint.saved import Saved

__all__ = ["Changes", "Retention", "without"]


class Changes(NamedTuple):
    """What a save changes: the checkpoints that are kept after it, and those that are removed."""

    kept: tuple[Saved, ...]
    removed: tuple[Saved, ...]


class Retention:
    """The kept checkpoints, and what the policy decides about the next one.

    The last checkpoint with finite weights is kept whatever the policy says, so that weights that turned NaN do not replace it.

    Args:
        policy: Which checkpoints to keep.

    Example:
        >>> from glowplug_model_checkpoint import KeepLast
        >>> retention = Retention(KeepLast(1))
        >>> retention.items = (Saved("a.pt", 1, is_finite=True),)
        >>> changes = retention.changes(Saved("b.pt", 2, is_finite=False))
        >>> [each.filename for each in changes.kept]
        ['a.pt', 'b.pt']
        >>> retention.items = changes.kept
        >>> [each.filename for each in retention.changes(Saved("c.pt", 3, is_finite=True)).removed]
        ['a.pt', 'b.pt']
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        # Ordered by time of save.
        self.items: tuple[Saved, ...] = ()

    @property
    def last(self) -> Saved | None:
        """The most recent checkpoint."""
        return self.items[-1] if self.items else None

    @property
    def best(self) -> Saved | None:
        """The checkpoint with the best score; without a score, the one with the highest step."""
        if not self.policy.scores:
            return max(self.items, key=lambda each: each.step, default=None)
        first = self.policy.scores[0]
        ranked = [each for each in self.items if first.name in each.scores]
        return max(ranked[::-1] if first.prefer_latest else ranked, key=first.priority, default=None)

    def changes(self, new: Saved) -> Changes | None:
        """Return what a save of the new checkpoint changes; ``None`` if the policy does not keep the new checkpoint.

        The new checkpoint replaces one with the same file name.
        """
        chosen = self.policy.kept((*self.items, new))
        if not any(each is new for each in chosen):
            return None
        items = (*without(self.items, new), new)
        # Without the replaced checkpoint, which must not take the place of an older one.
        names = {each.filename for each in self.policy.kept(items)}
        finite = [each for each in items if each.is_finite]
        names.update(each.filename for each in finite[-1:])
        kept = tuple(each for each in items if each.filename in names)
        return Changes(kept, without(items, *kept))


def without(items: Iterable[Saved], *others: Saved) -> tuple[Saved, ...]:
    """Return the checkpoints whose file names do not occur among ``others``."""
    names = {other.filename for other in others}
    return tuple(item for item in items if item.filename not in names)
