"""Thresholds, the check for finite scores, and the minimum number of evaluations."""

import logging

import pytest

from glowplug import Events
from glowplug.testing import FakeEngine
from glowplug_early_stopping import EarlyStopping, StopReason

NAN, INF = float("nan"), float("inf")


def stopped_at(scores, patience=100, **options):
    """Return the number of the score that stops the trainer, ``None`` if none does, and the handler."""
    trainer = FakeEngine()
    handler = EarlyStopping(patience, "score", trainer, **options)
    evaluator = FakeEngine(parent=trainer)
    handler.attach(evaluator)
    for number, score in enumerate(scores, 1):
        trainer.state.epoch = number
        evaluator.fire(Events.COMPLETED, metrics={"score": score})
        if trainer.terminated:
            return number, handler
    return None, handler


@pytest.mark.parametrize(
    ("scores", "options", "expected", "reason"),
    [
        ([0.5, 0.8, 0.95], {"stopping_threshold": 0.8}, 2, StopReason.STOPPING_THRESHOLD),
        ([0.5, 0.3], {"stopping_threshold": 0.3, "mode": "min"}, 2, StopReason.STOPPING_THRESHOLD),
        ([0.5, 0.3], {"stopping_threshold": 0.2, "mode": "min"}, None, None),
        ([0.5, 0.2, 0.1], {"divergence_threshold": 0.2}, 3, StopReason.DIVERGENCE),
        ([0.5, 10.0, 10.5], {"divergence_threshold": 10, "mode": "min"}, 3, StopReason.DIVERGENCE),
        ([0.5, NAN], {"check_finite": True}, 2, StopReason.NOT_FINITE),
        ([INF], {"check_finite": True}, 1, StopReason.NOT_FINITE),
        ([0.5, NAN, -INF], {}, None, None),
        ([0.5, NAN], {"stopping_threshold": 0.8, "divergence_threshold": 0.2}, None, None),
        ([0.5, 0.4, 0.4, 0.4, 0.4], {"patience": 2, "min_evaluations": 5}, 5, StopReason.PATIENCE),
        ([0.5, 0.4, 0.4, 0.6, 0.4], {"patience": 2, "min_evaluations": 4}, None, None),
        ([0.1, 0.1, 0.1], {"divergence_threshold": 0.2, "min_evaluations": 3}, 3, StopReason.DIVERGENCE),
        ([0.9], {"stopping_threshold": 0.8, "min_evaluations": 3}, 1, StopReason.STOPPING_THRESHOLD),
        ([NAN], {"check_finite": True, "min_evaluations": 3}, 1, StopReason.NOT_FINITE),
        ([0.9, 0.9], {"patience": 1, "stopping_threshold": 0.9}, 1, StopReason.STOPPING_THRESHOLD),
    ],
)
def test_stop(scores, options, expected, reason):
    """Each limit stops the run at the first score beyond it, and the reason says which one it was (H-069)."""
    number, handler = stopped_at(scores, **options)
    assert (number, handler.stop_reason) == (expected, reason)
    assert handler.stopped_epoch == expected
    assert handler.evaluations == len(scores[:expected])


@pytest.mark.parametrize(
    ("score", "options", "message"),
    [
        (
            0.9,
            {"stopping_threshold": 0.8},
            "stopping threshold reached: metric 'score' returned 0.9, and stopping_threshold is 0.8",
        ),
        (
            0.1,
            {"divergence_threshold": 0.2},
            "score diverged: metric 'score' returned 0.1, and divergence_threshold is 0.2",
        ),
        (NAN, {"check_finite": True}, "score not finite: metric 'score' returned nan"),
    ],
)
def test_message(score, options, message, caplog):
    """The final message names the reason, the score and the threshold (H-069)."""
    with caplog.at_level(logging.INFO, "glowplug_early_stopping"):
        _, handler = stopped_at([score], **options)
    assert handler.stop_message == message
    assert caplog.messages == [f"epoch 1: {message}; the run is terminated"]


def test_state():
    """Counts and reason survive resume: a new handler with the saved state goes on as this one (H-068, H-069)."""
    options = {"patience": 2, "min_evaluations": 4}
    scores = [0.5, 0.4, 0.4, 0.4]
    assert stopped_at(scores, **options)[0] == 4
    for cut in range(1, 4):
        _, handler = stopped_at(scores[:cut], **options)
        trainer = FakeEngine()
        trainer.load_state_dict({"handlers": {"EarlyStopping": handler.state_dict()}})
        resumed = EarlyStopping(2, "score", min_evaluations=4)
        resumed.attach(trainer, Events.EPOCH_COMPLETED)
        trainer.fire(Events.STARTED)
        for epoch in range(cut, 4):
            assert not trainer.terminated
            trainer.fire(Events.EPOCH_COMPLETED, epoch=epoch + 1, metrics={"score": scores[epoch]})
        assert trainer.terminated
        assert resumed.state_dict() == stopped_at(scores, **options)[1].state_dict()


def test_loaded_after_a_stop():
    """The reason of a stopped run can be read after loading; if the run continues, it gets its full patience again."""
    _, handler = stopped_at([0.5, 0.4], patience=1)
    trainer = FakeEngine()
    resumed = EarlyStopping(1, "score")
    resumed.attach(trainer, Events.EPOCH_COMPLETED)
    trainer.load_state_dict({"handlers": {"EarlyStopping": handler.state_dict()}})
    trainer.fire(Events.STARTED)
    assert (resumed.stop_reason, resumed.stopped_epoch) == (StopReason.PATIENCE, 2)
    trainer.fire(Events.EPOCH_COMPLETED, epoch=3, metrics={"score": 0.6})
    assert (resumed.stop_reason, resumed.counter, trainer.terminated) == (None, 0, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stopping_threshold": NAN}, "stopping_threshold must be finite, or None, got nan"),
        ({"divergence_threshold": INF}, "divergence_threshold must be finite, or None, got inf"),
        ({"min_evaluations": -1}, "min_evaluations must be an integer of at least 0, got -1"),
        ({"min_evaluations": 1.5}, "got 1.5"),
    ],
)
def test_invalid(options, message):
    """An invalid limit is refused with its value, at construction and later (H-061)."""
    with pytest.raises(ValueError, match=message):
        EarlyStopping(1, len, **options)
    handler = EarlyStopping(1, len)
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=message):
        setattr(handler, name, value)
    setattr(handler, name, 3)
    assert getattr(handler, name) == 3
