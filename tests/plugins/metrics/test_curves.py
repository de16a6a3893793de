"""ROC_AUC, AveragePrecision and their curves, compared with scikit-learn."""

import pickle
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from glowplug import Engine
from glowplug.exceptions import NotComputableError
from glowplug_metrics import ROC_AUC, AveragePrecision, PrecisionRecallCurve, RocCurve

sklearn_metrics = pytest.importorskip("sklearn.metrics")

FUNCTIONS = {
    ROC_AUC: "roc_auc_score",
    AveragePrecision: "average_precision_score",
    RocCurve: "roc_curve",
    PrecisionRecallCurve: "precision_recall_curve",
}
each_metric = pytest.mark.parametrize("kind", FUNCTIONS)


def data(seed, *extra):
    """Return 40 scores and labels of both classes."""
    random = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (40, *extra), generator=random)
    y[0], y[1] = 0, 1
    return torch.rand(40, *extra, generator=random), y


def flat(value):
    """Return the numbers of a value as one array; the parts of a curve are joined."""
    return np.hstack(value) if isinstance(value, tuple) else np.array([value])


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(list(FUNCTIONS)), st.integers(1, 40), st.integers(0, 10**6))
def test_equals_scikit_learn(kind, size, seed):
    """The value equals scikit-learn's for batches of any size (M-089)."""
    y_pred, y = data(seed)
    metric = kind()
    for batch in zip(y_pred.split(size), y.split(size), strict=True):
        metric.update(batch)
    got, expected = (
        metric.compute(),
        getattr(sklearn_metrics, FUNCTIONS[kind])(y.numpy(), y_pred.double().numpy()),
    )
    assert isinstance(got, type(expected) if isinstance(expected, tuple) else float)
    np.testing.assert_allclose(flat(got), flat(expected), rtol=1e-6)


@pytest.mark.parametrize("kind", [ROC_AUC, AveragePrecision])
def test_several_labels(kind):
    """Outputs (N, C) give the mean over labels; half precision and gradients are accepted (M-089)."""
    y_pred, y = data(0, 3)
    metric = kind()
    metric.update((y_pred.bfloat16().requires_grad_(), y))
    expected = getattr(sklearn_metrics, FUNCTIONS[kind])(y.numpy(), y_pred.bfloat16().double().numpy())
    assert metric.compute() == pytest.approx(expected)


@each_metric
def test_attached_and_pickled(kind):
    """The metric works attached, with a mapping and a transform, and as a copy."""
    y_pred, y = data(1)
    engine = Engine(lambda engine, batch: {"y": y, "y_pred": torch.logit(y_pred)})
    metric = kind(output_transform=lambda output: (output["y_pred"].sigmoid(), output["y"]))
    metric.attach(engine, "value")
    published = engine.run([0]).metrics["value"]
    direct = kind()
    direct.update((y_pred, y))
    copied = pickle.loads(pickle.dumps(direct))
    for other in (published, copied.compute()):
        np.testing.assert_allclose(flat(other), flat(direct.compute()), rtol=1e-5)


@each_metric
def test_without_examples(kind):
    """Curves without examples raise NotComputableError (M-010)."""
    with pytest.raises(NotComputableError, match=f"{kind.__name__} has received no examples"):
        kind().compute()


@each_metric
def test_without_scikit_learn(kind, monkeypatch):
    """Without scikit-learn the constructor raises an error that names the extra to install (M-089)."""
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)  # makes the import fail
    with pytest.raises(
        ModuleNotFoundError, match=rf"{kind.__name__} needs scikit-learn: pip install 'glowplug-metrics\[sk"
    ):
        kind()
