"""Copies of states in memory that is kept for the next copy."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

__all__ = ["Snapshot", "Staged"]

_IMMUTABLE = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)


class Staged(NamedTuple):
    """A copy of a state, and a function that waits until the copy is complete."""

    content: Any
    wait: Callable[[], None]


class Snapshot:
    """Copies the tensors of a state into memory that it allocates once.

    Fresh memory is slow, because the system has to provide each of its pages. Therefore the first copy takes longer than the
    others. Tensors that share memory also share it in the copy. Tensors of a GPU are copied into pinned memory on a stream of
    their own: the host does not wait, and the GPU continues with the next step after it has read the tensors.

    Example:
        >>> state = {"weight": torch.zeros(2)}
        >>> snapshot = Snapshot()
        >>> staged = snapshot.take(state)
        >>> _ = state["weight"].fill_(1)
        >>> staged.wait()
        >>> staged.content
        {'weight': tensor([0., 0.])}
    """

    def __init__(self) -> None:
        self._buffers: list[torch.UntypedStorage] = []
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def take(self, content: Any) -> Staged:
        """Copy a state; this overwrites the former copy.

        Args:
            content: Nested dicts, lists and tuples of tensors and plain values.

        Returns:
            The copy, with its tensors on the CPU. Wait before reading it.
        """
        former, self._buffers = self._buffers, []
        copies = _Copies(former, self._buffers, self._streams)
        copied = copies.of(content)
        return Staged(copied, copies.wait_function())


class _Copies:
    """One copy of a state.

    Args:
        former: Buffers of the former copy, in the order in which its storages were copied.
        used: List to which the buffers of this copy are added.
        streams: Streams for copies from each GPU.
    """

    def __init__(
        self,
        former: list[torch.UntypedStorage],
        used: list[torch.UntypedStorage],
        streams: dict[torch.device, torch.cuda.Stream],
    ) -> None:
        self._former = former
        self._used = used
        self._streams = streams
        self._devices: set[torch.device] = set()
        # By device and address, so that a shared storage is copied once.
        self._known: dict[tuple[torch.device, int], torch.UntypedStorage] = {}

    def of(self, value: Any) -> Any:
        """Return a copy of a value."""
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, dict):
            # A shallow copy also has the attributes of a subclass, such as the versions of modules in the state of a model.
            copied = copy.copy(value)
            for key, each in value.items():
                copied[key] = self.of(each)
            return copied
        if type(value) in (list, tuple):
            return type(value)(self.of(each) for each in value)
        return value if isinstance(value, _IMMUTABLE) else copy.deepcopy(value)

    def wait_function(self) -> Callable[[], None]:
        """Make the GPUs wait for the copies, and return a function with which the host waits."""
        events = []
        for device in self._devices:
            stream = self._streams[device]
            # The next step may change the tensors only after they have been read.
            torch.cuda.current_stream(device).wait_stream(stream)
            events.append(stream.record_event())

        def wait() -> None:
            for event in events:
                event.synchronize()

        return wait

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        is_plain = (
            type(tensor) is torch.Tensor
            and tensor.layout is torch.strided
            and tensor.device.type in ("cpu", "cuda")
            and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg() or tensor.requires_grad)
        )
        if not is_plain:
            return copy.deepcopy(tensor)
        storage = self._storage(tensor.untyped_storage())
        empty = torch.empty(0, dtype=tensor.dtype)
        return empty.set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())

    def _storage(self, source: torch.UntypedStorage) -> torch.UntypedStorage:
        key = source.device, source.data_ptr()
        # An empty storage has no address.
        if not source.nbytes() or key not in self._known:
            self._known[key] = self._copied(source)
        return self._known[key]

    def _copied(self, source: torch.UntypedStorage) -> torch.UntypedStorage:
        is_cuda = source.device.type == "cuda"
        index, size = len(self._used), source.nbytes()
        buffer = self._former[index] if index < len(self._former) else None
        if buffer is None or buffer.nbytes() != size or (is_cuda and not buffer.is_pinned()):
            buffer = torch.empty(size, dtype=torch.uint8, pin_memory=is_cuda and size > 0).untyped_storage()
        self._used.append(buffer)
        for piece, target in zip(_pieces(source), _pieces(buffer), strict=True):
            self._copy(piece, target, source.device)
        return buffer

    def _copy(self, source: torch.Tensor, target: torch.Tensor, device: torch.device) -> None:
        if device.type != "cuda":
            target.copy_(source)
            return
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream = self._streams[device]
        if device not in self._devices:
            self._devices.add(device)
            stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)
        source.record_stream(stream)


def _pieces(storage: torch.UntypedStorage) -> Iterator[torch.Tensor]:
    """Yield the content of a storage as words and the remaining bytes, because torch copies bytes more slowly than words."""
    words, rest = divmod(storage.nbytes(), torch.int64.itemsize)
    for dtype, offset, count in ((torch.int64, 0, words), (torch.uint8, storage.nbytes() - rest, rest)):
        if count:
            yield torch.empty(0, dtype=dtype, device=storage.device).set_(storage, offset, (count,), (1,))
