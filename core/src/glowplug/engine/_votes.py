"""Votes: the ranks agree on stop requests, so that each request takes effect at the same iteration on all ranks."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from glowplug.engine._stop import StopRequests
from glowplug.events import Events
from glowplug.exceptions import GlowplugWarning

if TYPE_CHECKING:
    import torch
    from torch.distributed import Work

    from glowplug.engine._rank_watch import RankWatch

VOTING_EVENTS = (
    Events.STARTED,
    Events.EPOCH_STARTED,
    Events.TERMINATE_SINGLE_EPOCH,
    Events.EPOCH_COMPLETED,
    Events.INTERRUPT,
)
_ITERATION, _BATCH = range(len(VOTING_EVENTS), len(VOTING_EVENTS) + 2)
_PLACES = (*map(str, VOTING_EVENTS), str(Events.ITERATION_COMPLETED), str(Events.GET_BATCH_COMPLETED))
_ITERATION_BITS, _PLACE_BITS = 36, 4


class Ballot(NamedTuple):
    """What a rank proposes; the result of a vote has the maximum of each field over all ranks."""

    place: int
    """Run, event and iteration of the vote, which must be the same on all ranks."""
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
    minus_shortest: int = -(1 << 62)


class Pace:
    """Number of iterations between two votes.

    Votes are so rare that they take at most about 1 % of the time, and so frequent that a request waits for half a second at most.

    Args:
        fixed: The number; ``None`` to choose the number from the time that votes and iterations take.
    """

    # Bounds of the time between two votes, in seconds, and the ratio of this time to the time of a vote.
    SHORTEST, LONGEST, RATIO = 0.05, 0.5, 200
    # The number grows at most by this factor, because one fast iteration says little about the next ones.
    GROWTH = 4

    def __init__(self, fixed: int | None = None) -> None:
        self.gap = fixed or 1
        self._fixed = fixed
        self._seconds: deque[float] = deque(maxlen=8)
        self._last: tuple[int, float] | None = None

    def add(self, seconds: float) -> None:
        """Record how long this rank was held by a vote."""
        self._seconds.append(seconds)

    def pause(self) -> None:
        """Do not count the time between the last vote and the next one, as between two epochs."""
        self._last = None

    def next_gap(self, iteration: int) -> int:
        """Return the number of iterations from a vote at this iteration to the next vote."""
        now, last = perf_counter(), self._last
        self._last = (iteration, now)
        if self._fixed is None and last is not None and iteration > last[0]:
            step = (now - last[1]) / (iteration - last[0])
            # The fastest vote was not held by a slower rank.
            pause = min(max(self.RATIO * min(self._seconds, default=0.0), self.SHORTEST), self.LONGEST)
            self.gap = max(1, min(int(pause / step), self.GROWTH * self.gap))
        return self.gap


class Votes:
    """Votes of all ranks on the stop requests of one engine.

    A vote at an iteration overlaps with the next iteration: it is posted at the end of an iteration, and its result takes effect
    at the end of the next one. A vote at another event takes effect at once.

    Args:
        stop: The requests of the engine on this rank, which receive the results.
        watch: The connection between the ranks, and whether another rank has failed.
        agree_every: Number of iterations between two votes; ``None`` to choose it.
        fails_if_uneven: Whether it is an error if the ranks have different numbers of batches.

    Attributes:
        due: The iteration at whose end the loop must call :meth:`at_iteration`.
        length: The number of iterations of the epoch on which the ranks agreed; ``None`` if a rank does not know its number.
    """

    def __init__(
        self, stop: StopRequests, watch: RankWatch, agree_every: int | None, *, fails_if_uneven: bool
    ) -> None:
        self._stop = stop
        self._watch, self._link = watch, watch.link
        self._number = watch.count_run()
        self._pace = Pace(agree_every)
        self._fails_if_uneven = fails_if_uneven
        self.due = 0
        self.length: int | None = None
        self._begin_at = 0
        self._posted: tuple[Work, torch.Tensor, int] | None = None
        self._held = 0.0
        self._has_warned = False

    def at_iteration(self, iteration: int, *, is_last: bool) -> None:
        """Apply the vote that was posted at the last iteration, and post another one if it is due.

        Args:
            iteration: The iteration that has been completed.
            is_last: Whether the epoch or the run ends with this iteration; then there is a vote at its end.
        """
        self._settle()
        if iteration >= self._begin_at and not is_last and not self._stop.is_agreed:
            began = perf_counter()
            gap = self._pace.next_gap(iteration) if self._link.rank == 0 else 0
            values = self._values(_ITERATION, iteration, gap=gap)
            self._posted = (self._link.reduce_max(values), values, iteration)
            self._held = perf_counter() - began
        self.due = self._begin_at if self._posted is None else iteration + 1

    def at_event(self, event: Events, iteration: int, length: int | None = None) -> None:
        """Vote at an event, and apply the result at once.

        Args:
            event: One of ``VOTING_EVENTS``.
            iteration: The iteration of the engine.
            length: At ``EPOCH_STARTED``, the number of iterations of the epoch that this rank expects, if it is known.
        """
        self._settle()
        is_start = event is Events.EPOCH_STARTED
        proposal = _length_of_epoch(length) if is_start else {}
        if self._link.rank == 0:
            proposal["gap"] = self._pace.gap
        result = self._vote(VOTING_EVENTS.index(event), iteration, **proposal)
        self._apply(result)
        if is_start:
            self._pace.pause()
            self.due = self._begin_at = iteration + result.gap
            self._agree_on_length(result, length)

    def together(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield the batches of this rank as long as all ranks have one; there is a vote at each batch."""
        fetched = 0
        for batch in batches:
            result = self._vote(_BATCH, fetched, has_batch=1)
            if result.has_no_batch:
                self._report_unused_batch(fetched)
                return
            fetched += 1
            yield batch
        if self._vote(_BATCH, fetched, has_no_batch=1).has_batch:
            self._report_unused_batch(fetched)

    def _values(self, place: int, iteration: int, **proposal: int) -> torch.Tensor:
        import torch

        where = ((self._number << _PLACE_BITS) + place << _ITERATION_BITS) + iteration
        ballot = Ballot(where, -where, *self._stop.proposals(), **proposal)
        return torch.tensor(ballot, dtype=torch.int64, device="cpu")

    def _vote(self, place: int, iteration: int, **proposal: int) -> Ballot:
        """Vote, and wait for the result."""
        values = self._values(place, iteration, **proposal)
        self._watch.check()
        self._link.reduce_max(values).wait()
        return _checked(values)

    def _settle(self) -> None:
        """Wait for the vote that was posted last, and apply its result."""
        self._watch.check()
        if self._posted is None:
            return
        (work, values, posted_at), self._posted = self._posted, None
        began = perf_counter()
        work.wait()
        self._pace.add(self._held + perf_counter() - began)
        result = _checked(values)
        self._begin_at = posted_at + result.gap
        self._apply(result)

    def _apply(self, result: Ballot) -> None:
        self._stop.agree((result.run, result.epoch, result.interrupt))

    def _agree_on_length(self, result: Ballot, length: int | None) -> None:
        """Agree on the number of iterations of an epoch: the smallest number of the ranks, if all ranks know theirs."""
        shortest = -result.minus_shortest
        self.length = None if result.is_length_unknown else shortest
        if self.length is None or shortest == result.longest:
            return
        text = f"the ranks have between {shortest} and {result.longest} batches per epoch"
        if self._fails_if_uneven:
            raise ValueError(
                f"{text}; this rank has {length}. Give each rank the same number of batches, for example with a "
                'DistributedSampler, or call run() with uneven="shortest", so that an epoch ends with the shortest data'
            )
        if not self._has_warned:
            self._has_warned = True
            unused = sum(self._link.gather(length or 0)) - shortest * self._link.size
            self._warn(
                f"{text}. An epoch ends after {shortest} iterations on all ranks, so {unused} batches of each epoch are not used"
            )

    def _report_unused_batch(self, fetched: int) -> None:
        text = f"only some ranks have more than {fetched} batches in this epoch"
        if self._fails_if_uneven:
            raise ValueError(
                f'{text}. Give each rank the same number of batches, or call run() with uneven="shortest", so that an epoch '
                "ends with the shortest data"
            )
        if not self._has_warned:
            self._has_warned = True
            self._warn(f"{text}, so the epoch ends on all ranks. At least 1 batch was not used")

    def _warn(self, text: str) -> None:
        if self._link.rank == 0:
            warnings.warn(
                f'{text}. Give each rank the same number of batches, or make this an error with run(uneven="error")',
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
    rest, iteration = divmod(code, 1 << _ITERATION_BITS)
    number, place = divmod(rest, 1 << _PLACE_BITS)
    name = _PLACES[place]
    at = f"batch {iteration + 1}" if place == _BATCH else f"iteration {iteration}"
    return f"at {name}, {at} of run {number}"
