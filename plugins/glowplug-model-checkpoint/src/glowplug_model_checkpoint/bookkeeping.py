"""Bookkeeping of a handler's checkpoints: which exist, which files belong to the handler, and its state."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from glowplug.exceptions import GlowplugWarning
from glowplug.typing import SaveHandler, VerifyingSaveHandler
from glowplug_model_checkpoint.finding import found_at
from glowplug_model_checkpoint.naming import Naming
from glowplug_model_checkpoint.policies import Policy
from glowplug_model_checkpoint.retention import Retention, without
from glowplug_model_checkpoint.save_handler import FunctionSaver
from glowplug_model_checkpoint.saved import Saved

__all__ = ["Bookkeeping", "Owner"]


class Owner(NamedTuple):
    """What identifies the handler that wrote a file. A loaded state cannot change it."""

    handler: str
    filename_prefix: str


class Bookkeeping:
    """The checkpoints of a handler.

    A file that an earlier process wrote is removed only if its manifest names this handler, or, if the save handler stores no
    metadata, if its name fits the handler's pattern. Thus a state that was tampered with cannot make the handler remove other files.

    Args:
        policy: Which checkpoints to keep.
        store: The save handler.
        owner: What identifies the handler in manifests.
        naming: How the handler names its files.
    """

    def __init__(self, policy: Policy, store: SaveHandler, owner: Owner, naming: Naming) -> None:
        self.retention = Retention(policy)
        self.store = store
        self._owner = owner
        self._naming = naming
        # Names of the files that this object recorded.
        self._written: set[str] = set()
        # A checkpoint that is being saved but not yet recorded.
        self.pending: tuple[Saved, ...] = ()

    @property
    def items(self) -> tuple[Saved, ...]:
        """The kept checkpoints, in the order in which they were saved."""
        return self.retention.items

    def clear(self) -> None:
        """Forget the checkpoints without removing their files."""
        self.retention.items = ()

    def record(self, saved: Saved) -> None:
        """Add a checkpoint that is durable."""
        self._written.add(saved.filename)
        self.retention.items = (*without(self.items, saved), saved)

    def remove(self, saved: Saved) -> None:
        """Remove the file of a checkpoint, unless it belongs to somebody else, and forget the checkpoint."""
        if saved.filename in self._written or self._owns(saved.filename):
            self.store.remove(saved.filename)
        self.forget(saved)

    def forget(self, *saved: Saved) -> None:
        """Forget checkpoints without removing their files."""
        self.retention.items = without(self.items, *saved)

    def state(self) -> dict[str, Any]:
        """Return the kept checkpoints and the one that is being saved."""
        items = (*without(self.items, *self.pending), *self.pending)
        return {"saved": [item.as_dict() for item in items]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Load the list of an earlier run, without checkpoints that do not exist or that the handler did not write.

        Raises:
            TypeError: If a value has the wrong type.
            KeyError: If a value is missing.
            ValueError: If a number is not finite or a file name is not safe.
        """
        if "saved" in state:
            items = [Saved.from_values(each) for each in state["saved"]]
        else:
            # The state of ignite and of the first version of this package.
            scores = self.retention.policy.scores
            name = scores[0].name if scores else None
            items = [Saved.from_pair(priority, filename, name) for priority, filename in state["_saved"]]
        if not isinstance(self.store, FunctionSaver):
            stored = set(self.store.list())
            items = [item for item in items if item.filename in stored]
        foreign = [item for item in items if not self._may_own(item.filename)]
        if foreign:
            warnings.warn(
                f"the state of {self._owner.handler} lists files that it did not write, which are ignored: "
                f"{', '.join(item.filename for item in foreign)}",
                GlowplugWarning,
                stacklevel=4,
            )
        self.retention.items = without(items, *foreign)

    def adopt(self, last_iteration: int) -> None:
        """Add the handler's files that a loaded state does not list, because they were saved after that state.

        Args:
            last_iteration: Later checkpoints are not added; the run saves them again.
        """
        if not isinstance(self.store, VerifyingSaveHandler):
            return
        known = {item.filename for item in self.items}
        more = [
            each.saved
            for each in found_at(self.store, self._owner.filename_prefix, self._naming.ext)
            if each.saved.filename not in known
            and each.saved.iteration <= last_iteration
            and self._is_ours(each.saved.filename, each.metadata)
        ]
        if more:
            self.retention.items = tuple(sorted((*self.items, *more), key=lambda each: each.iteration))

    def description(self, saved: Saved) -> dict[str, Any]:
        """Return the metadata that identify a checkpoint of this handler."""
        return {**self._owner._asdict(), **saved.as_dict()}

    def _owns(self, filename: str) -> bool:
        if not isinstance(self.store, VerifyingSaveHandler):
            return self._naming.fits(filename)
        try:
            return self._is_ours(filename, self.store.metadata(filename))
        except Exception:  # noqa: BLE001 - nothing is removed that cannot be read
            return False

    def _may_own(self, filename: str) -> bool:
        """Return whether a file may be listed: a file of an earlier version without metadata is listed but never removed."""
        if isinstance(self.store, VerifyingSaveHandler):
            try:
                metadata = self.store.metadata(filename)
            except Exception:  # noqa: BLE001 - a damaged file cannot be used
                return False
            if metadata is not None:
                return self._is_ours(filename, metadata)
        return self._naming.fits(filename)

    def _is_ours(self, filename: str, metadata: Mapping[str, Any] | None) -> bool:
        expected = {**self._owner._asdict(), "filename": filename}
        return metadata is not None and all(metadata.get(key) == value for key, value in expected.items())
