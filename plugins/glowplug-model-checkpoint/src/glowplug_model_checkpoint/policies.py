"""Policies: which checkpoints to keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from operator import index
from typing import Any, Literal, TypeAlias

from glowplug.typing import EngineProtocol
from glowplug_model_checkpoint.filenames import check_part
from glowplug_model_checkpoint.saved import Saved

__all__ = ["KeepBest", "KeepEvery", "KeepLast", "Policy", "ScoreFunction", "policy_from", "score_of_metric"]

ScoreFunction: TypeAlias = Callable[[Any], Any]


class Policy(ABC):
    """Decide which checkpoints to keep; ``|`` joins policies, and a checkpoint is kept if any of them keeps it.

    A subclass implements :meth:`kept`.

    Example:
        >>> class KeepAll(Policy):
        ...     def kept(self, saved):
        ...         return saved
        >>> (KeepAll() | KeepLast(1)).kept([Saved("a.pt", 1), Saved("b.pt", 2)])
        [Saved(filename='a.pt', step=1, iteration=0, epoch=0, scores={}, is_finite=None), Saved(filename='b.pt', step=2, iteration=0, epoch=0, scores={}, is_finite=None)]
    """

    @abstractmethod
    def kept(self, saved: Sequence[Saved]) -> Sequence[Saved]:
        """Return the checkpoints to keep.

        Args:
            saved: All checkpoints, in the order in which they were saved. The last one is about to be saved; it is saved only
                if this method returns it.
        """

    @property
    def scores(self) -> tuple[KeepBest, ...]:
        """The policies that need a score."""
        return ()

    def __or__(self, other: Policy) -> Policy:
        if not isinstance(other, Policy):
            return NotImplemented
        return _AnyOf((*_parts(self), *_parts(other)))


@dataclass(frozen=True)
class KeepLast(Policy):
    """Keep the ``n`` checkpoints with the highest steps.

    Args:
        n: Number of checkpoints; ``None`` keeps all.
        prefer_latest: Of several checkpoints of the same step, keep the latest instead of the first.

    Raises:
        TypeError: If ``n`` is not an integer.
        ValueError: If ``n`` is below 1.

    Example:
        >>> [each.filename for each in KeepLast(1).kept([Saved("a.pt", step=1), Saved("b.pt", step=2)])]
        ['b.pt']
    """

    n: int | None = 1
    prefer_latest: bool = False

    def __post_init__(self) -> None:
        _check_count(self.n)

    def kept(self, saved: Sequence[Saved]) -> Sequence[Saved]:
        """Return the ``n`` checkpoints with the highest steps."""
        return _highest(saved, lambda each: each.step, self.n, self.prefer_latest)


@dataclass(frozen=True)
class KeepBest(Policy):
    """Keep the ``n`` checkpoints with the best scores.

    A checkpoint whose score is NaN or infinite is never one of them.

    Args:
        n: Number of checkpoints; ``None`` keeps all that have a score.
        by: The score: the name of a metric of the engine, or a function of the engine that returns a number.
        mode: Whether a higher score (``"max"``) or a lower score (``"min"``) is better.
        name: Name of the score in file names and manifests. The default is the name of the metric or function.
        prefer_latest: Of several checkpoints with equal scores, keep the latest instead of the first.

    Raises:
        TypeError: If ``n`` is not an integer, or ``by`` is neither a string nor a function.
        ValueError: If ``n`` is below 1, ``mode`` is unknown, or the name is not safe in a file name.

    Example:
        >>> saved = [Saved("a.pt", 1, scores={"loss": 0.5}), Saved("b.pt", 2, scores={"loss": 0.7})]
        >>> [each.filename for each in KeepBest(1, by="loss", mode="min").kept(saved)]
        ['a.pt']
    """

    n: int | None = 1
    _: KW_ONLY
    by: str | ScoreFunction
    mode: Literal["max", "min"] = "max"
    name: str = ""
    prefer_latest: bool = False

    def __post_init__(self) -> None:
        _check_count(self.n)
        if not isinstance(self.by, str) and not callable(self.by):
            raise TypeError(
                f"KeepBest: by must be the name of a metric or a function of the engine; got {self.by!r}"
            )
        if self.mode not in {"max", "min"}:
            raise ValueError(f"KeepBest: mode must be 'max' or 'min'; got {self.mode!r}")
        # A function such as a lambda has a name that is not safe in a file name.
        own = self.by if isinstance(self.by, str) else getattr(self.by, "__name__", "score").strip("<>")
        object.__setattr__(self, "name", check_part("score_name", self.name or own))

    @property
    def scores(self) -> tuple[KeepBest, ...]:
        """This policy."""
        return (self,)

    def score(self, engine: EngineProtocol) -> Any:
        """Return the score of the engine, which may be anything; the handler checks it.

        Raises:
            KeyError: If the engine does not have the metric.
        """
        return score_of_metric(self.by, 1.0, engine) if isinstance(self.by, str) else self.by(engine)

    def priority(self, saved: Saved) -> float:
        """Return the score of a checkpoint with the sign that makes a higher number better."""
        return saved.scores[self.name] if self.mode == "max" else -saved.scores[self.name]

    def kept(self, saved: Sequence[Saved]) -> Sequence[Saved]:
        """Return the ``n`` checkpoints with the best scores."""
        ranked = [each for each in saved if self.name in each.scores]
        return _highest(ranked, self.priority, self.n, self.prefer_latest)


@dataclass(frozen=True)
class KeepEvery(Policy):
    """Keep one checkpoint of each interval of epochs or steps: the first one at or after each multiple.

    Args:
        epochs: Length of the interval in epochs.
        steps: Length of the interval in iterations.

    Raises:
        TypeError: If not exactly one of the two is given, or if it is not an integer.
        ValueError: If the interval is below 1.

    Example:
        >>> saved = [Saved(f"{epoch}.pt", step=epoch, epoch=epoch) for epoch in range(1, 8)]
        >>> [each.filename for each in KeepEvery(epochs=3).kept(saved)]
        ['3.pt', '6.pt']
    """

    epochs: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise TypeError("KeepEvery needs either epochs= or steps=")
        _check_count(self.epochs, "KeepEvery: epochs")
        _check_count(self.steps, "KeepEvery: steps")

    def kept(self, saved: Sequence[Saved]) -> Sequence[Saved]:
        """Return the first checkpoint of each interval."""
        first: dict[int, Saved] = {}
        for each in sorted(saved, key=lambda each: each.iteration):
            number = each.epoch // self.epochs if self.epochs else each.iteration // (self.steps or 1)
            if number:
                first.setdefault(number, each)
        return [each for each in saved if each in first.values()]


@dataclass(frozen=True)
class _AnyOf(Policy):
    """Keeps what any of its policies keeps."""

    policies: tuple[Policy, ...]

    def kept(self, saved: Sequence[Saved]) -> Sequence[Saved]:
        chosen = {each.filename for policy in self.policies for each in policy.kept(saved)}
        return [each for each in saved if each.filename in chosen]

    @property
    def scores(self) -> tuple[KeepBest, ...]:
        return tuple(score for policy in self.policies for score in policy.scores)

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.policies))


def policy_from(
    keep: Policy | None,
    n_saved: int | None,
    score_function: ScoreFunction | None,
    score_name: str | None,
    greater_or_equal: bool,
) -> Policy:
    """Return the policy that the arguments of ignite describe, or ``keep``.

    Raises:
        TypeError: If ``keep`` is no policy, or an argument has the wrong type.
        ValueError: If ``keep`` is combined with an argument of ignite.

    Example:
        >>> policy_from(None, 2, None, "accuracy", False)
        KeepBest(n=2, by='accuracy', mode='max', name='accuracy', prefer_latest=False)
    """
    if score_function is not None and not callable(score_function):
        raise TypeError(f"score_function must be callable; got {score_function!r}")
    if keep is None:
        if score_function is None and score_name is None:
            return KeepLast(n_saved, greater_or_equal)
        by: Any = score_name if score_function is None else score_function
        return KeepBest(n_saved, by=by, name=score_name or "score", prefer_latest=greater_or_equal)
    if not isinstance(keep, Policy):
        raise TypeError(
            f"keep must be a policy such as KeepBest(2, by='accuracy') | KeepLast(1); got {keep!r}"
        )
    if n_saved != 1 or score_function is not None or score_name is not None or greater_or_equal:
        raise ValueError(
            "keep= replaces n_saved, score_function, score_name and greater_or_equal; pass for example "
            "keep=KeepBest(2, by='accuracy')"
        )
    return keep


def score_of_metric(metric_name: str, score_sign: float, engine: EngineProtocol) -> Any:
    """Return a metric of the engine, multiplied by the sign.

    Raises:
        KeyError: If the engine does not have the metric.
    """
    metrics = engine.state.metrics
    if metric_name not in metrics:
        raise KeyError(
            f"the score is the metric {metric_name!r}, but the engine has only the metrics {list(metrics)}; attach the "
            "checkpoint to the evaluator that computes the metric, or pass score_function"
        )
    return metrics[metric_name] if score_sign == 1.0 else score_sign * metrics[metric_name]


def default_score_function(metric_name: str, score_sign: float = 1.0) -> ScoreFunction:
    """Return a score function that reads a metric.

    Raises:
        ValueError: If ``score_sign`` is neither 1.0 nor -1.0.
    """
    if score_sign not in {1.0, -1.0}:
        raise ValueError(
            f"score_sign must be 1.0 (higher is better) or -1.0 (lower is better); got {score_sign!r}"
        )
    return partial(score_of_metric, metric_name, score_sign)


def _highest(
    saved: Sequence[Saved], priority: Callable[[Saved], float], n: int | None, prefer_latest: bool
) -> list[Saved]:
    """Return the ``n`` checkpoints of the highest priority, in the order in which they were saved."""
    ranked = sorted(reversed(saved) if prefer_latest else saved, key=priority, reverse=True)
    chosen = ranked if n is None else ranked[:n]
    return [each for each in saved if any(each is other for other in chosen)]


def _parts(policy: Policy) -> tuple[Policy, ...]:
    return policy.policies if isinstance(policy, _AnyOf) else (policy,)


def _check_count(n: int | None, what: str = "n_saved") -> None:
    if n is not None and index(n) < 1:
        raise ValueError(f"{what} must be at least 1, or None; got {n!r}")
