"""Decision about the next checkpoint: whether to save it, its name and score, and which ones it replaces."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, NamedTuple

from torch import nn

from glowplug import RunStart
from glowplug.distributed import rank
from glowplug.exceptions import GlowplugWarning
from glowplug.typing import EngineProtocol
from glowplug_model_checkpoint.bookkeeping import Bookkeeping
from glowplug_model_checkpoint.naming import Naming
from glowplug_model_checkpoint.policies import Policy
from glowplug_model_checkpoint.ranks import everywhere
from glowplug_model_checkpoint.saved import Saved, plain_number
from glowplug_model_checkpoint.sharding import has_shards
from glowplug_model_checkpoint.weights import all_finite

__all__ = ["Plan", "Planner", "outermost"]

# An engine runs in another engine at most this often; a mock may be its own parent.
_MAX_DEPTH = 10


class Plan(NamedTuple):
    """The decision of rank 0 about a checkpoint."""

    saved: Saved
    name: str
    removed: tuple[Saved, ...]
    # Whether each rank has only a part of the weights, so that all ranks have to look for NaN.
    is_sharded: bool = False


class Planner:
    """Decides about each checkpoint of a handler.

    Args:
        handler: Name of the handler in warnings.
        policy: Which checkpoints to keep.
        naming: How the handler names its files.
        books: The checkpoints that exist.
        global_step_transform: Function that returns the step; ``None`` for the default.
        check_finite: Whether to look for NaN and infinity in the weights.
    """

    def __init__(
        self,
        handler: str,
        policy: Policy,
        naming: Naming,
        books: Bookkeeping,
        global_step_transform: Callable[[Any, Any], Any] | None,
        check_finite: bool,
    ) -> None:
        self._handler = handler
        self._policy = policy
        self._naming = naming
        self._books = books
        self._global_step_transform = global_step_transform
        self._check_finite = check_finite
        self._is_first = True
        self._warnings: set[str] = set()

    def plan(
        self, engine: EngineProtocol, name: str, modules: Sequence[nn.Module], *, has_scores: bool = True
    ) -> Plan | None:
        """Return what to save and remove now; ``None`` if the policy does not keep a checkpoint of this moment.

        Args:
            engine: Engine that fires the event.
            name: Name of the saved objects in the file name.
            modules: The modules to save.
            has_scores: Whether the engine has the scores of this moment.

        Raises:
            ValueError: If the score is not a number, or the step is not an integer.
        """
        trainer = outermost(engine)
        iteration, epoch = int(trainer.state.iteration), int(trainer.state.epoch)
        if self._is_first:
            self._is_first = False
            if trainer.state.run_start is RunStart.LOADED:
                self._books.adopt(iteration - 1)
        scores = self._scores(engine) if has_scores else {}
        step = self._step(engine, epoch if self._is_best_only else iteration)
        score = next((scores.get(each.name) for each in self._policy.scores), None)
        filename = self._naming.filename(name, step=step, epoch=epoch, score=score)
        changes = self._books.retention.changes(Saved(filename, step, iteration, epoch, scores))
        if changes is None:
            return None
        # Only now, because looking for NaN takes time.
        is_sharded = has_shards(modules)
        is_finite = None if is_sharded else self._is_finite(modules)
        self._report_finiteness(is_finite, epoch)
        saved = Saved(filename, step, iteration, epoch, scores, is_finite)
        changes = self._books.retention.changes(saved) or changes
        return Plan(saved, name, changes.removed, is_sharded)

    def with_all_shards(self, plan: Plan, modules: Sequence[nn.Module]) -> Plan:
        """Return the plan with what all ranks know about their parts of sharded weights; all ranks must call this method.

        Args:
            plan: The plan of rank 0.
            modules: The modules to save.
        """
        if not plan.is_sharded:
            return plan
        found = everywhere(lambda: self._is_finite(modules))
        is_finite = None if None in found else all(found)
        self._report_finiteness(is_finite, plan.saved.epoch)
        saved = replace(plan.saved, is_finite=is_finite)
        changes = self._books.retention.changes(saved)
        return plan._replace(saved=saved, removed=plan.removed if changes is None else changes.removed)

    def metadata(self, plan: Plan, names: list[str]) -> Mapping[str, Any]:
        """Return what the manifest says about a checkpoint.

        Args:
            plan: The decision.
            names: Names of the saved objects.
        """
        ranked = next((each for each in self._policy.scores if each.name in plan.saved.scores), None)
        return {
            # What ignite's save handlers get.
            "basename": self._naming.basename(plan.name),
            "score_name": self._naming.score_name,
            "priority": plan.saved.step if ranked is None else ranked.priority(plan.saved),
            **self._books.description(plan.saved),
            "modes": {each.name: each.mode for each in self._policy.scores},
            "objects": names,
            "is_bare": len(names) == 1,
        }

    @property
    def _is_best_only(self) -> bool:
        return bool(self._policy.scores) and not self._naming.is_mixed

    def _is_finite(self, modules: Sequence[nn.Module]) -> bool | None:
        return all_finite(modules) if self._check_finite else None

    def _report_finiteness(self, is_finite: bool | None, epoch: int) -> None:
        if is_finite is False:
            self._warn_once(
                "weights",
                f"saves weights that contain NaN or infinity, first in epoch {epoch}; the last checkpoint with finite weights is "
                "kept. TerminateOnNan stops such runs",
            )

    def _scores(self, engine: EngineProtocol) -> dict[str, Any]:
        """Return the finite scores by their names."""
        scores = {}
        for policy in self._policy.scores:
            value = plain_number("the score of a checkpoint", policy.score(engine))
            if math.isfinite(value):
                scores[policy.name] = value
            else:
                skipped = "skipped a checkpoint" if self._is_best_only else "does not rank a checkpoint"
                self._warn_once(
                    "score",
                    f"{skipped} because its score is {value}; check the score and whether the training diverged (TerminateOnNan "
                    "stops such runs)",
                )
        return scores

    def _step(self, engine: EngineProtocol, default: int) -> int:
        if self._global_step_transform is None:
            return default
        step = self._global_step_transform(engine, engine.current_event)
        if not isinstance(step, Integral):
            raise ValueError(f"global_step_transform must return an integer; got {step!r}")  # noqa: TRY004 - as for the score
        return int(step)

    def _warn_once(self, what: str, problem: str) -> None:
        if what not in self._warnings and rank() == 0:
            self._warnings.add(what)
            warnings.warn(
                f"{self._handler} {problem}. Further cases are not reported", GlowplugWarning, stacklevel=2
            )


def outermost(engine: EngineProtocol) -> EngineProtocol:
    """Return the engine that runs all others: the trainer, if an evaluator runs in a handler of the trainer.

    Example:
        >>> from glowplug.testing import FakeEngine
        >>> trainer = FakeEngine()
        >>> outermost(FakeEngine(parent=trainer)) is trainer
        True
    """
    for _ in range(_MAX_DEPTH):
        if engine.parent is None:
            break
        engine = engine.parent
    return engine
