"""Connection between the ranks, for votes and for reports of failures."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from glowplug.distributed import rank, world_size

if TYPE_CHECKING:
    import torch
    from torch.distributed.distributed_c10d import ProcessGroup, Store, Work

_ABORT_TIMEOUT = dt.timedelta(milliseconds=1)
# No other receive operation uses this tag.
_ABORT_TAG = 0x676C6F77

# The number of the outermost run of a watch; runs within this run have higher ones.
OUTERMOST = 1


class Failure(NamedTuple):
    """An exception that ended the run of a rank."""

    rank: int
    exception: str
    """Name of the exception's class."""
    message: str
    iteration: int


class RankLink:
    """A gloo group for votes, and a key in the store of the process group for the first failure of each watch.

    The constructor is a collective operation.
    """

    _watches = 0
    # Whether all ranks have noticed a failure, so that all of them open a new link for the next run.
    is_broken = False

    def __init__(self) -> None:
        import torch.distributed as dist

        self.rank, self.size = rank(), world_size()
        # Only torch owns the group: destroy_process_group() must release it while gloo's threads can still end.
        self._group = weakref.ref(dist.new_group(backend="gloo", group_desc="glowplug votes"))
        # Another thread can use this copy of the store while torch uses the original.
        self._store: Store = dist.group.WORLD.get_group_store().clone()  # type: ignore[union-attr]  # there is a process group
        # torchrun keeps the store when it restarts the processes, and with it the keys of the former ones.
        self._token = self.gather(secrets.randbits(62))[0]
        self._key = ""

    def begin_watch(self) -> None:
        """Begin another watch, whose failures have another key."""
        self._watches += 1
        self._key = f"glowplug/failure/{self._token}/{self._watches}"

    def reduce_max(self, values: torch.Tensor) -> Work:
        """Start to replace each value by its maximum over the ranks."""
        import torch.distributed as dist

        work: Work | None = dist.all_reduce(values, dist.ReduceOp.MAX, group=self._group(), async_op=True)
        assert work is not None  # noqa: S101 - only for ranks outside the group
        return work

    def abort_votes(self) -> None:
        """Let a vote that another thread of this process waits for fail."""
        group = self._group()
        if group is not None:
            _abort(group)

    def activity(self) -> object:
        """Return a value that changes when this rank calls a collective operation, votes excepted."""
        from torch.distributed import distributed_c10d

        # There is no public list of the process groups, nor a public count of their operations.
        groups: list[Any] = list(distributed_c10d._world.pg_map)  # noqa: SLF001
        try:
            return {
                group.group_name: group._get_sequence_number_for_group()  # noqa: SLF001
                for group in groups
                if group is not self._group()
            }
        except RuntimeError:
            # The backend does not count.
            return object()

    def gather(self, value: int) -> list[int]:
        """Return the values of all ranks."""
        import torch
        import torch.distributed as dist

        parts = [torch.empty(1, dtype=torch.int64, device="cpu") for _ in range(self.size)]
        dist.all_gather(parts, torch.tensor([value], dtype=torch.int64, device="cpu"), group=self._group())
        return [int(part) for part in parts]

    # Failures; any thread may call these methods.

    def publish(self, failure: Failure, run: int = OUTERMOST) -> None:
        """Publish the failure of a run, unless another rank has published one before."""
        key = f"{self._key}/{run}"
        if self._store.add(f"{key}/count", 1) == 1:
            self._store.set(key, json.dumps(failure))

    def failure(self, run: int = OUTERMOST) -> Failure | None:
        """Return the failure of a run that was published, if any."""
        key = f"{self._key}/{run}"
        return Failure(*json.loads(self._store.get(key))) if self._store.check([key]) else None

    def confirm(self) -> None:
        """Publish that this rank has read the failure."""
        self._store.add(f"{self._key}/confirmed", 1)

    def confirmations(self) -> int:
        """Return how many ranks have read the failure."""
        return self._store.add(f"{self._key}/confirmed", 0)


class _Opened(NamedTuple):
    world: weakref.ref[Any]
    link: RankLink


_opened: _Opened | None = None


def open_link() -> RankLink:
    """Return the link of the process group, which the first call opens; the first call is a collective operation."""
    global _opened  # noqa: PLW0603 - one link for the one process group
    import torch.distributed as dist

    world = dist.group.WORLD
    if _opened is not None and _opened.world() is world and not _opened.link.is_broken:
        return _opened.link
    _opened = _Opened(weakref.ref(world), RankLink())
    return _opened.link


def abort_groups() -> None:
    """Let the collective operations that other threads of this process wait for fail, in all process groups."""
    from torch.distributed import distributed_c10d

    # There is no public list of the process groups.
    for group in list(distributed_c10d._world.pg_map):  # noqa: SLF001
        _abort(group)


def _abort(group: ProcessGroup) -> None:
    import torch
    import torch.distributed as dist

    # The group may be destroyed meanwhile, and connections may already be closed.
    with suppress(Exception):
        group.abort()
    with suppress(Exception):
        # The backend of a group with several backends has no name, but each of them is part of the configuration.
        if "gloo" not in dist.get_backend_config(group):
            return
        for peer in range(group.size()):
            if peer == group.rank():
                continue
            # gloo has no abort. If an operation times out, gloo closes all connections of its group.
            with suppress(Exception):
                group.recv([torch.empty(1, device="cpu")], peer, _ABORT_TAG).wait(_ABORT_TIMEOUT)
