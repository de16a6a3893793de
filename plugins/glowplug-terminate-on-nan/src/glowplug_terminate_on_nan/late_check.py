"""Check tensors on an accelerator without waiting for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glowplug_terminate_on_nan.finite import at_least_single

if TYPE_CHECKING:
    import torch

# The device is waited for when it is this many checks behind, so that checks do not pile up.
_MOST_PENDING = 64


@dataclass
class _Pending:
    """A check whose result is on its way to the CPU."""

    iteration: int
    names: list[Callable[[], str]]
    flags: torch.Tensor
    event: torch.Event | None
    """The event after which ``flags`` is complete; ``None`` if it is complete already."""


class LateChecks:
    """Checks that run on the device of the tensors, and whose results are read later.

    Example:
        >>> import torch
        >>> late = LateChecks()
        >>> late.start(7, [(lambda: "loss", torch.tensor(float("nan")))])
        >>> late.read(before=8)
        (7, 'loss')
    """

    def __init__(self) -> None:
        self._pending: deque[_Pending] = deque()

    def start(self, iteration: int, tensors: Sequence[tuple[Callable[[], str], torch.Tensor]]) -> None:
        """Start to check tensors of one device.

        Args:
            iteration: The current iteration.
            tensors: Each tensor with a function that returns its name, which is called only if the tensor is not finite. The
                tensors are not kept.
        """
        names, flags = _finite_flags(tensors)
        if names:
            self._pending.append(_Pending(iteration, names, *_sent_to_cpu(flags)))

    def read(self, before: int, *, wait: bool = False) -> tuple[int, str] | None:
        """Return the iteration and the name of the first tensor that was not finite, or ``None``.

        Args:
            before: The current iteration; checks of this iteration or a later one belong to an earlier run, and are dropped.
            wait: Whether to wait for checks that are not complete.
        """
        while self._pending:
            first = self._pending[0]
            if first.event is not None and not first.event.query():
                if not wait and len(self._pending) < _MOST_PENDING:
                    return None
                first.event.synchronize()
            self._pending.popleft()
            flags = first.flags.tolist()
            if first.iteration < before and not all(flags):
                self._pending.clear()
                return first.iteration, first.names[flags.index(False)]()
        return None

    def __getstate__(self) -> dict[str, Any]:
        # Events of a device cannot be pickled; the results belong to this process.
        return {"_pending": deque()}


def _finite_flags(
    tensors: Sequence[tuple[Callable[[], str], torch.Tensor]],
) -> tuple[list[Callable[[], str]], torch.Tensor]:
    """Return the names of the tensors that can be checked, and on their device, whether each of them is finite."""
    import torch

    names, defects = [], []
    for name, tensor in tensors:
        values = tensor.detach()
        if not values.numel():
            continue
        if values.is_complex():
            values = torch.view_as_real(values.resolve_conj())
        try:
            # NaN and infinity are extremes of their tensor. Unlike a sum, extremes do not overflow, and they need no mask.
            low, high = torch.aminmax(at_least_single(values))
        except NotImplementedError:
            # The device has no arithmetic for this format.
            continue
        names.append(name)
        # 0 for finite extremes, otherwise NaN.
        defects.append(((low - low) + (high - high)).float())
    return names, torch.isfinite(torch.stack(defects)) if defects else torch.empty(0)


def _sent_to_cpu(flags: torch.Tensor) -> tuple[torch.Tensor, torch.Event | None]:
    """Copy flags to the CPU without waiting; return the copy, and the event after which it is complete."""
    import torch

    if flags.device.type == "cpu":
        return flags, None
    copy = torch.empty(flags.shape, dtype=flags.dtype, pin_memory=True)
    copy.copy_(flags, non_blocking=True)
    event = torch.Event(flags.device.type)
    event.record(torch.accelerator.current_stream(flags.device))
    return copy, event
