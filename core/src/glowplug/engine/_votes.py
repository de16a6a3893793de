"""Votes: the ranks agree on stop requests, so that each request takes effect at the same iteration on all ranks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from glowplug.engine._stop import StopRequests
from glowplug.events import Events
from glowplug.exceptions import GlowplugWarning

if TYPE_CHECKING:
    import torch
    from torch.distributed import Work

    from glowplug.engine._rank_link import RankLink
    from glowplug.engine._rank_watch import RankWatch

_REMEDY = "Give each rank the same number of batches, for example with a DistributedSampler"

VOTING_EVENTS = (
    Events.STARTED,
    Events.EPOCH_STARTED,
    Events.TERMINATE_SINGLE_EPOCH,
    Events.EPOCH_COMPLETED,
    Events.INTERRUPT,
    Events.COMPLETED,
)
_ITERATION, _BATCH = range(len(VOTING_EVENTS), len(VOTING_EVENTS) + 2)
_PLACES = (*map(str, VOTING_EVENTS), str(Events.ITERATION_COMPLETED), str(Events.GET_BATCH_COMPLETED))
# 62 bits in total, so that the number of a place and its negative are 64-bit integers.
_COUNT_BITS, _PLACE_BITS, _RUN_BITS = 36, 4, 22
_NEVER = 1 << 62
_NOTHING = object()


class Ballot(NamedTuple):
    """What a rank proposes; the result of a vote has the maximum of each field over all ranks."""

    place: int
    """Run and event of the vote, and its epoch, iteration or batch, which must be the same on all ranks."""
    minus_place: int
    run: int = 0
    epoch: int = 0
    interrupt: int = 0
    gap: int = 0
    """Number of iterations from this vote to the next one; 0 on all ranks but rank 0."""
    has_batch: int = 0
    has_no_batch: int = 0
    is_length_unknown: int = 0
    longest: int = 0
    minus_shortest: int = -_NEVER
    has_communicated: int = 0
    """Whether the iterations of this epoch contained a collective operation."""


class Pace:
    """Number of iterations between two votes.

    Votes are so rare that they take less than 1 % of the time, and so frequent that a request takes effect within a second.

    Args:
        fixed: The number; ``None`` to choose the number from the time that iterations take.
    """

    # Seconds between two votes. A vote delays the steps of the ranks by about 2 ms if they share busy cores.
    PAUSE = 0.4
    # The number grows at most by this factor, because one fast iteration says little about the next ones.
    GROWTH = 4

    def __init__(self, fixed: int | None = None) -> None:
        self.gap = fixed or 1
        self._fixed = fixed
        self._last: tuple[int, float] | None = None

    def pause(self) -> None:
        """Do not count the time between the last vote and the next one, as between two epochs."""
        self._last = None

    def next_gap(self, iteration: int) -> int:
        """Return the number of iterations from a vote at this iteration to the next vote."""
        now, last = perf_counter(), self._last
        self._last = (iteration, now)
        if self._fixed is None and last is not None and iteration > last[0]:
            step = (now - last[1]) / (iteration - last[0])
            self.gap = max(1, min(int(self.PAUSE / step), self.GROWTH * self.gap))
        return self.gap


class Votes:
    """Votes of all ranks on the stop requests of one engine.

    A vote at an iteration overlaps with the next iteration: it is posted at the end of an iteration, and its result takes effect
    at the end of the next one. A vote at another event takes effect at once.

    If the ranks have different numbers of batches, they end the epoch together, unless their iterations call no collective operations.
    Then each rank uses all its batches, without votes after the end of the shortest data.

    Args:
        stop: The requests of the engine on this rank, which receive the results.

    Attributes:
        due: The iteration at whose end the loop must call :meth:`at_iteration`.
        length: The number of iterations of the epoch on this rank; ``None`` if a rank does not know its number.
    """

    _watch: RankWatch
    _link: RankLink
    _pace: Pace

    def __init__(self, stop: StopRequests) -> None:
        self._stop = stop
        self.due = 0
        self.length: int | None = None
        # The iteration from which on the next vote may be posted, and the vote that was posted.
        self._begin_at = 0
        self._posted: tuple[Work, torch.Tensor, int] | None = None
        # The iteration before the first one of the epoch, and that at which the shortest data ends, if it is shorter.
        self._epoch_start, self._shortest_end = 0, _NEVER
        self._activity: object = None
        self._ends_together = False

    def begin(self, watch: RankWatch, agree_every: int | None, *, fails_if_uneven: bool) -> None:
        """Begin the votes of a run, or of the rest of an interrupted run.

        Args:
            watch: The connection between the ranks, and whether another rank has failed.
            agree_every: Number of iterations between two votes; ``None`` to choose it.
            fails_if_uneven: Whether it is an error if the ranks have different numbers of batches.
        """
        self._watch, self._link = watch, watch.link
        self._number = watch.run % (1 << _RUN_BITS)
        self._pace = Pace(agree_every)
        self._posted = None
        self._fails_if_uneven = fails_if_uneven

    def at_iteration(self, iteration: int, *, is_last: bool) -> None:
        """Apply the vote that was posted at the last iteration, and post another one if it is due.

        Args:
            iteration: The iteration that has been completed.
            is_last: Whether the epoch or the run ends with this iteration; then there is a vote at its end.
        """
        self._settle()
        if iteration == self._shortest_end and not self._stop.is_agreed:
            self._end_shortest_data()
        elif iteration >= self._begin_at and not is_last and not self._stop.is_agreed:
            gap = self._pace.next_gap(iteration) if self._link.rank == 0 else 0
            values = self._values(_ITERATION, iteration - self._epoch_start, gap=gap)
            self._posted = (self._link.reduce_max(values), values, iteration)
        self.due = min(self._begin_at if self._posted is None else iteration + 1, self._shortest_end)

    def at_event(self, event: Events, epoch: int) -> None:
        """Vote at an event other than ``EPOCH_STARTED``, and apply the result at once."""
        self._settle()
        self._apply(self._vote(VOTING_EVENTS.index(event), epoch))

    def at_epoch_start(self, epoch: int, iteration: int, done: int, length: int | None) -> None:
        """Vote at ``EPOCH_STARTED``, apply the result at once, and agree on the number of iterations of the epoch.

        Args:
            epoch: The epoch that starts.
            iteration: The iteration of the engine.
            done: The number of iterations of this epoch that a loaded run has completed.
            length: The number of iterations that this rank expects, if it is known.
        """
        proposal = _length_of_epoch(length)
        if self._link.rank == 0:
            proposal["gap"] = self._pace.gap
        result = self._vote(VOTING_EVENTS.index(Events.EPOCH_STARTED), epoch, **proposal)
        self._apply(result)
        self._pace.pause()
        self._epoch_start, self._shortest_end = iteration - done, _NEVER
        self._begin_at = iteration + result.gap
        self._activity = self._link.activity()
        self._agree_on_length(result, length)
        self.due = min(self._begin_at, self._shortest_end)

    def together(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield the batches of this rank, with a vote at each batch, until the ranks end the epoch together."""
        for fetched in count():
            batch = next(batches, _NOTHING)
            has_batch = batch is not _NOTHING
            result = self._vote(
                _BATCH,
                fetched,
                has_batch=has_batch,
                has_no_batch=not has_batch,
                has_communicated=self._has_communicated(),
            )
            is_uneven = bool(result.has_batch and result.has_no_batch)
            are_apart = is_uneven and self._are_apart(result, fetched)
            if not has_batch or (is_uneven and not are_apart):
                return
            yield batch
            if are_apart:
                yield from batches
                return

    def _has_communicated(self) -> int:
        return int(self._ends_together or self._link.activity() != self._activity)

    def _values(self, place: int, count: int, **proposal: int) -> torch.Tensor:
        import torch

        where = ((self._number << _PLACE_BITS) + place << _COUNT_BITS) + count
        ballot = Ballot(where, -where, *self._stop.proposals(), **proposal)
        return torch.tensor(ballot, dtype=torch.int64, device="cpu")

    def _vote(self, place: int, count: int, **proposal: int) -> Ballot:
        """Vote, and wait for the result."""
        values = self._values(place, count, **proposal)
        self._watch.check()
        self._wait(self._link.reduce_max(values))
        return _checked(values)

    def _wait(self, work: Work) -> None:
        self._watch.is_voting = True
        try:
            work.wait()
        finally:
            self._watch.is_voting = False

    def _settle(self, *, is_deferred: bool = False) -> None:
        """Wait for the vote that was posted last, and apply its result, or propose it for the next vote."""
        self._watch.check()
        if self._posted is None:
            return
        (work, values, posted_at), self._posted = self._posted, None
        self._wait(work)
        result = _checked(values)
        self._begin_at = posted_at + result.gap
        self._apply(result, is_deferred=is_deferred)

    def _apply(self, result: Ballot, *, is_deferred: bool = False) -> None:
        self._stop.agree((result.run, result.epoch, result.interrupt), is_deferred=is_deferred)

    def _agree_on_length(self, result: Ballot, length: int | None) -> None:
        """Begin an epoch with the number of iterations that all ranks have, or that this rank has."""
        shortest = -result.minus_shortest
        self._lengths = (shortest, result.longest)
        self.length = None if result.is_length_unknown else length
        if self.length is None or shortest == result.longest:
            return
        if self._fails_if_uneven:
            raise ValueError(
                f"the ranks have between {shortest} and {result.longest} batches per epoch; this rank has {length}. {_REMEDY}, or "
                'call run() with uneven="shortest"'
            )
        if self._ends_together:
            self.length = shortest
        else:
            self._shortest_end = self._epoch_start + shortest

    def _end_shortest_data(self) -> None:
        """Decide at the end of the shortest data whether the epoch ends on all ranks."""
        shortest, longest = self._lengths
        result = self._vote(_BATCH, shortest, has_communicated=self._has_communicated())
        self._shortest_end = _NEVER
        if not result.has_communicated:
            self._begin_at = _NEVER
            return
        self._ends_together = True
        unused = sum(self._link.gather(self.length or 0)) - shortest * self._link.size
        self.length = shortest
        self._warn(
            f"the ranks have between {shortest} and {longest} batches per epoch. An epoch ends after {shortest} iterations on all "
            f"ranks, so {unused} batches of each epoch are not used"
        )

    def _are_apart(self, result: Ballot, fetched: int) -> bool:
        """Return whether this rank uses its remaining batches although another rank has none left."""
        text = f"only some ranks have more than {fetched} batches in this epoch"
        if self._fails_if_uneven:
            raise ValueError(f'{text}. {_REMEDY}, or call run() with uneven="shortest"')
        if not result.has_communicated:
            # The last vote takes effect at the end of the epoch, because the ranks no longer end their iterations together.
            self._settle(is_deferred=True)
            self._begin_at = self.due = _NEVER
            return True
        if not self._ends_together:
            self._ends_together = True
            self._warn(f"{text}, so the epoch ends on all ranks. At least 1 batch was not used")
        return False

    def _warn(self, text: str) -> None:
        if self._link.rank == 0:
            warnings.warn(
                f'{text}. {_REMEDY}, or make this an error with run(uneven="error")',
                GlowplugWarning,
                stacklevel=2,
            )


def _length_of_epoch(length: int | None) -> dict[str, int]:
    return {"is_length_unknown": 1} if length is None else {"longest": length, "minus_shortest": -length}


def _checked(values: torch.Tensor) -> Ballot:
    """Return the result of a vote if all ranks have voted at the same place."""
    result = Ballot(*values.tolist())
    if result.place != -result.minus_place:
        places = " and another one ".join(map(_place_name, (-result.minus_place, result.place)))
        raise RuntimeError(
            f"the ranks are not at the same place of the script: one rank is {places}. Each rank must run the same engines for the "
            "same number of iterations. If only some ranks run an engine, call its run() with agree_every=0"
        )
    return result


def _place_name(code: int) -> str:
    rest, count = divmod(code, 1 << _COUNT_BITS)
    number, place = divmod(rest, 1 << _PLACE_BITS)
    unit = {_ITERATION: "iteration", _BATCH: "batch"}.get(place, "epoch")
    return f"at {_PLACES[place]} ({unit} {count}) of run {number}"
