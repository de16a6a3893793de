"""What to say to somebody who asks for a name, or an address, that no plugin knows."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from glowplug.exceptions import PluginLoadError, PluginNotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from glowplug.plugins._discovery import InstalledPlugin
    from glowplug.plugins._loading import PluginFailure

__all__ = ["FIRST_PARTY", "explain_missing", "explain_unknown_scheme"]

FIRST_PARTY = {
    "Accuracy": "glowplug-metrics",
    "Average": "glowplug-metrics",
    "AveragePrecision": "glowplug-metrics",
    "Checkpoint": "glowplug-model-checkpoint",
    "CheckpointEvents": "glowplug-model-checkpoint",
    "ClassificationReport": "glowplug-metrics",
    "cmAccuracy": "glowplug-metrics",
    "cmPrecision": "glowplug-metrics",
    "cmRecall": "glowplug-metrics",
    "ConfusionMatrix": "glowplug-metrics",
    "DiceCoefficient": "glowplug-metrics",
    "DiskSaver": "glowplug-model-checkpoint",
    "EarlyStopping": "glowplug-early-stopping",
    "EpochMetric": "glowplug-metrics",
    "F1": "glowplug-metrics",
    "Fbeta": "glowplug-metrics",
    "Frequency": "glowplug-metrics",
    "GeometricAverage": "glowplug-metrics",
    "IoU": "glowplug-metrics",
    "JaccardIndex": "glowplug-metrics",
    "Loss": "glowplug-metrics",
    "MeanAbsoluteError": "glowplug-metrics",
    "MeanSquaredError": "glowplug-metrics",
    "MetricGroup": "glowplug-metrics",
    "mIoU": "glowplug-metrics",
    "MLflowLogger": "glowplug-mlflow",
    "ModelCheckpoint": "glowplug-model-checkpoint",
    "MultiLabelConfusionMatrix": "glowplug-metrics",
    "Precision": "glowplug-metrics",
    "PrecisionRecallCurve": "glowplug-metrics",
    "ProgressBar": "glowplug-progress",
    "Recall": "glowplug-metrics",
    "ROC_AUC": "glowplug-metrics",
    "RocCurve": "glowplug-metrics",
    "RootMeanSquaredError": "glowplug-metrics",
    "RunningAverage": "glowplug-metrics",
    "TensorboardLogger": "glowplug-tensorboard",
    "TerminateOnNan": "glowplug-terminate-on-nan",
    "TopKCategoricalAccuracy": "glowplug-metrics",
    "TorchMetric": "glowplug-torchmetrics",
    "VariableAccumulation": "glowplug-metrics",
}
"""Which distribution of this project has a name, to say so where it is not installed."""

_HOMES = {"handler": "glowplug.handlers", "metric": "glowplug.metrics"}


def explain_missing(
    kind: str,
    name: str,
    offered: Mapping[str, Collection[str]],
    blocked: Sequence[InstalledPlugin],
    failures: Sequence[PluginFailure],
) -> ImportError:
    """Make the error for a name that no loaded plugin offers.

    Args:
        kind: ``"handler"``, ``"metric"`` or ``"event"``.
        name: what was asked for.
        offered: the names that the loaded plugins offer, by kind.
        blocked: the plugins that the user's settings keep from loading.
        failures: the plugins that do not work.

    Returns:
        A `PluginLoadError` where the name is known to belong to a broken plugin, else a `PluginNotFoundError`.

    Example:
        >>> print(explain_missing("handler", "EarlyStoping", {"handler": ["EarlyStopping"]}, [], []))
        no plugin offers the handler 'EarlyStoping'. Did you mean EarlyStopping?
    """
    distribution = FIRST_PARTY.get(name)
    for failure in failures:
        if failure.distribution == distribution:
            broken = PluginLoadError(f"the {kind} {name!r} comes with a plugin that does not work: {failure}")
            broken.__cause__ = failure.exception
            return broken
    sentences = [f"no plugin offers the {kind} {name!r}", *_elsewhere(kind, name, offered)]
    if distribution is None:
        matches = get_close_matches(name, {*offered.get(kind, ()), *FIRST_PARTY}, n=1)
        sentences += [f"Did you mean {match}?" for match in matches]
        sentences += _not_asked(blocked, failures)
    elif len(sentences) == 1:
        state = "".join(
            f" (version {plugin.version} is installed, and blocked by {plugin.blocked_by})"
            for plugin in blocked
            if plugin.distribution == distribution
        )
        sentences.append(f"It comes with {distribution}: pip install {distribution}{state}")
    return PluginNotFoundError(". ".join(sentences))


def _elsewhere(kind: str, name: str, offered: Mapping[str, Collection[str]]) -> Iterator[str]:
    for other, home in _HOMES.items():
        if other != kind and name in offered.get(other, ()):
            yield f"It is a {other}: from {home} import {name}"


def explain_unknown_scheme(
    uri: str, blocked: Sequence[InstalledPlugin], failures: Sequence[PluginFailure]
) -> PluginNotFoundError:
    """Make the error for an address that no loaded plugin can store anything under.

    Args:
        uri: the address.
        blocked: the plugins that the user's settings keep from loading.
        failures: the plugins that do not work.

    Example:
        >>> print(explain_unknown_scheme("s3://bucket/run", [], []))
        no plugin stores files under an address that begins with s3: got 's3://bucket/run'. Install a plugin whose hook glowplug_save_handler(uri) answers for s3://, write that hook (glowplug.hookspecs shows one), give a function (checkpoint, filename, metadata) instead of the address, or the path of a folder
    """
    scheme = uri.partition("://")[0]
    remedy = (
        f"Install a plugin whose hook glowplug_save_handler(uri) answers for {scheme}://, write that hook"
        " (glowplug.hookspecs shows one), give a function (checkpoint, filename, metadata) instead of the address,"
        " or the path of a folder"
    )
    problem = f"no plugin stores files under an address that begins with {scheme}: got {uri!r}"
    return PluginNotFoundError(". ".join([problem, remedy, *_not_asked(blocked, failures)]))


def _not_asked(blocked: Sequence[InstalledPlugin], failures: Sequence[PluginFailure]) -> Iterator[str]:
    """Say who may know more and could not be asked: the blocked plugins, and the broken ones."""
    if blocked:
        listed = ", ".join(f"{plugin.distribution} ({plugin.blocked_by})" for plugin in blocked)
        yield f"These plugins are blocked: {listed}"
    if failures:
        listed = "; ".join(f"{failure.distribution} ({failure.cause})" for failure in failures)
        yield f"These plugins do not work: {listed}"
