"""EarlyStopping: its arithmetic, whom it stops, and whose run its count belongs to."""

import logging
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glowplug import Engine, Events, RunOutcome
from glowplug.testing import FakeEngine
from glowplug_early_stopping import EarlyStopping

NAN, INF = float("nan"), float("inf")


def stopped_at(scores, patience=2, **options):
    """Return at which score (from 1) the trainer is stopped, ``None`` if it is not; and the handler."""
    trainer = FakeEngine()
    handler = EarlyStopping(patience, lambda engine: engine.state.output, trainer, **options)
    evaluator = FakeEngine(parent=trainer)
    handler.attach(evaluator)
    for number, score in enumerate(scores, 1):
        evaluator.fire(Events.COMPLETED, output=score)
        assert not evaluator.terminated
        if trainer.terminated:
            return number, handler
    return None, handler


def training(scores, attach=True, given=False):
    """Return a trainer of three iterations an epoch that evaluates after each epoch, and its EarlyStopping."""
    trainer = Engine(lambda engine, batch: batch)
    evaluator = Engine(lambda engine, batch: scores[trainer.state.epoch - 1])
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    handler = EarlyStopping(2, lambda engine: engine.state.output, trainer if given else None)
    if attach:
        handler.attach(evaluator)
    else:
        evaluator.add_event_handler(Events.COMPLETED, handler)
    return trainer, handler


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"patience": 0}, ValueError, "patience must be an integer of at least 1, got 0"),
        ({"patience": 1.5}, ValueError, "got 1.5"),
        ({"threshold": -0.1}, ValueError, "threshold must be finite and at least 0, got -0.1"),
        ({"threshold": NAN}, ValueError, "got nan"),
        ({"threshold_mode": "relative"}, ValueError, "threshold_mode must be 'abs' or 'rel', got 'relative'"),
        ({"mode": "maximum"}, ValueError, "mode must be 'max' or 'min', got 'maximum'"),
        (
            {"score_function": 3},
            TypeError,
            "score_function must be a function of the engine or a metric name, got 3",
        ),
        ({"trainer": "trainer"}, TypeError, "trainer must be a glowplug engine, got 'trainer'"),
    ],
)
def test_H_061_wrong_options_are_named(options, error, message):
    """Each wrong option is refused at construction, with its value."""
    with pytest.raises(error, match=message):
        EarlyStopping(**{"patience": 1, "score_function": len, **options})


@pytest.mark.parametrize(
    ("scores", "options", "expected"),
    [
        ([1.0, 0.9, 0.8], {}, 3),
        ([1.0, 1.0, 1.0], {}, 3),  # equal is no improvement
        ([1.0, 0.9, 1.1, 1.0, 1.2, 1.1], {}, None),
        ([1.0, 1.1, 1.2], {"mode": "min"}, 3),
        ([1.0, 0.9, 0.8, 0.7], {"mode": "min"}, None),
        ([1.0, 1.5, 2.0], {"threshold": 0.5}, 3),  # exactly by the threshold is not by more
        ([1.0, 1.75, 2.5], {"threshold": 0.5}, None),
        ([2.0, 1.5, 1.0], {"threshold": 0.5, "mode": "min"}, 3),
        ([1.0, 1.25, 1.25], {"threshold": 0.25, "threshold_mode": "rel"}, 3),
        ([4.0, 5.5, 7.0], {"threshold": 0.25, "threshold_mode": "rel"}, None),
        ([4.0, 2.5, 1.75], {"threshold": 0.25, "threshold_mode": "rel", "mode": "min"}, None),
        ([4.0, 3.0, 3.0], {"threshold": 0.25, "threshold_mode": "rel", "mode": "min"}, 3),
    ],
)
def test_H_062_an_improvement_is_strict(scores, options, expected):
    """Only more than the threshold better counts, in each mode, and the first score only sets the mark."""
    assert stopped_at(scores, **options)[0] == expected


def test_H_063_slow_gains_add_up_only_if_cumulative():
    """Gains below the threshold move the mark by default, and leave it where it is with cumulative=True."""
    scores = [1.0, 1.3, 1.6, 1.9]
    assert stopped_at(scores, threshold=0.5)[0] == 3
    assert stopped_at(scores, threshold=0.5, cumulative=True)[0] is None
    assert stopped_at([1.0, 1.3, 1.2], threshold=0.5)[1].best_score == 1.3
    assert stopped_at([1.0, 1.3, 1.2], threshold=0.5, cumulative=True)[1].best_score == 1.0
    assert stopped_at([1.0, 0.7, 0.8], threshold=0.5, mode="min")[1].best_score == 0.7


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("sign", [1, -1])
def test_H_064_relative_threshold_with_negative_best(mode, sign):
    """With a negative best score, too, only a better score is an improvement."""
    better, worse = (-0.8, -1.05) if mode == "max" else (-1.2, -0.95)
    options = {"threshold": 0.1, "threshold_mode": "rel", "mode": mode}
    assert stopped_at([-1.0, worse, worse], **options)[0] == 3
    assert stopped_at([-1.0, better], patience=1, **options)[0] is None
    slightly = -0.95 if mode == "max" else -1.05
    assert stopped_at([-1.0, slightly], patience=1, **options)[0] == 2


@pytest.mark.parametrize(("mode", "bad"), [("max", NAN), ("max", -INF), ("min", NAN), ("min", INF)])
@pytest.mark.parametrize("cumulative", [False, True])
def test_H_065_nan_is_never_an_improvement(mode, bad, cumulative):
    """NaN and the bad infinity count against the run, from the first score on, and never become the best."""
    number, handler = stopped_at([1.0, bad, bad], mode=mode, cumulative=cumulative)
    assert (number, handler.best_score) == (3, 1.0)
    number, handler = stopped_at([bad, bad], mode=mode, cumulative=cumulative)
    assert (number, handler.best_score) == (2, None)
    assert handler.stop_reason == "no finite score in 2 evaluations"
    number, handler = stopped_at([bad, 1.0, bad], mode=mode, cumulative=cumulative)
    assert (number, handler.best_score, handler.counter) == (None, 1.0, 1)


@given(
    st.lists(st.floats(), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.sampled_from(["abs", "rel"]),
    st.booleans(),
)
def test_H_062_the_two_modes_mirror_each_other(scores, threshold, threshold_mode, cumulative):
    """Minimizing a score is maximizing its negative."""
    options = {"threshold": threshold, "threshold_mode": threshold_mode, "cumulative": cumulative}
    at_most, upwards = stopped_at(scores, **options)
    at_least, downwards = stopped_at([-score for score in scores], mode="min", **options)
    assert (at_most, upwards.counter) == (at_least, downwards.counter)
    assert upwards.best_score == (None if downwards.best_score is None else -downwards.best_score)


@given(st.lists(st.floats(), min_size=1, max_size=8), st.sampled_from(["max", "min"]))
def test_H_065_the_best_score_is_the_best_of_all(scores, mode):
    """Without a threshold the best score is the best of all that are numbers, whatever stands between them."""
    _, handler = stopped_at(scores, patience=100, mode=mode)
    best = max if mode == "max" else min
    numbers = [score for score in scores if score == score and abs(score) < INF]  # noqa: PLR0124 - NaN
    good = [score for score in scores if score == (INF if mode == "max" else -INF)]
    assert handler.best_score == best(numbers + good, default=None)


@pytest.mark.parametrize(
    "as_score", [np.float32, np.int64, lambda score: torch.tensor(score), lambda score: torch.tensor([score])]
)
def test_H_062_scores_of_numpy_and_torch(as_score):
    """Numpy scalars and tensors of one element are scores, and are kept as plain floats."""
    number, handler = stopped_at([as_score(2.0), as_score(1.0), as_score(1.0)])
    assert number == 3
    assert handler.best_score == 2.0
    assert type(handler.best_score) is float


@pytest.mark.parametrize("score", [None, "high", torch.zeros(2), [0.5]])
def test_a_score_that_is_no_number_is_named(score):
    """What is no single number raises with its value and where it comes from."""
    with pytest.raises(
        TypeError, match=r"the score must be a single number, but score_function .*<lambda> returned"
    ):
        stopped_at([score])


def test_a_metric_can_be_named():
    """A string reads the engine's metric of that name."""
    trainer = FakeEngine()
    evaluator = FakeEngine(parent=trainer)
    EarlyStopping(1, "loss", mode="min").attach(evaluator)
    evaluator.fire(Events.COMPLETED, metrics={"loss": 0.5, "accuracy": 0.1})
    evaluator.fire(Events.COMPLETED, metrics={"loss": 0.6, "accuracy": 0.9})
    assert trainer.terminated


@pytest.mark.parametrize(
    ("metrics", "there"), [({}, r"only \[\];"), ({"nll": 1.0, "f1": 1.0}, r"only \['nll', 'f1'\];")]
)
def test_a_missing_metric_is_an_error_that_lists_those_present(metrics, there):
    """A name that is not there raises, with the names that are."""
    evaluator = FakeEngine(parent=FakeEngine())
    EarlyStopping(1, "loss").attach(evaluator)
    with pytest.raises(ValueError, match=f"no metric 'loss' at Events.COMPLETED, {there}"):
        evaluator.fire(Events.COMPLETED, metrics=metrics)


def test_a_metric_that_is_no_number_is_named():
    """The error says which metric it was."""
    evaluator = FakeEngine(parent=FakeEngine())
    EarlyStopping(1, "matrix").attach(evaluator)
    with pytest.raises(TypeError, match=r"metric 'matrix' returned tensor\(\[\[1., 1."):
        evaluator.fire(Events.COMPLETED, metrics={"matrix": torch.ones(2, 2)})


@pytest.mark.parametrize("attach", [True, False], ids=["attach", "add_event_handler"])
@pytest.mark.parametrize("given", [True, False], ids=["trainer given", "trainer found"])
def test_H_067_an_evaluator_in_a_real_run_stops_its_trainer(attach, given, caplog):
    """The count survives the evaluator's own runs, and the trainer stops at the third evaluation."""
    trainer, handler = training([0.9, 0.8, 0.7, 0.6], attach, given)
    with caplog.at_level(logging.INFO, "glowplug_early_stopping"):
        state = trainer.run(range(3), max_epochs=4)
    assert (state.epoch, state.outcome) == (3, RunOutcome.TERMINATED)
    assert (handler.stopped_epoch, handler.counter, handler.best_score) == (3, 2, 0.9)
    assert handler.stop_reason == "no improvement on 0.9 in the last 2 evaluations"
    assert caplog.messages == [f"epoch 3: {handler.stop_reason}; the run is terminated"]


def test_a_trainer_can_score_itself():
    """Without an evaluator it stops the engine that it is attached to."""
    trainer = Engine(lambda engine, batch: -batch)
    EarlyStopping(2, lambda engine: engine.state.output).attach(trainer, Events.ITERATION_COMPLETED)
    assert trainer.run(range(10)).iteration == 3


def test_a_score_at_the_end_of_the_trainer_itself_is_refused():
    """What could never stop anything fails at attach, with what to do."""
    trainer = FakeEngine()
    handler = EarlyStopping(1, len, trainer)
    with pytest.raises(ValueError, match=r"use attach\(trainer, Events.EPOCH_COMPLETED\)"):
        handler.attach(trainer)
    assert not trainer.handlers_at(Events.STARTED)
    assert trainer.state_dict() == {"handlers": {}}


@pytest.mark.parametrize("attach", [True, False], ids=["attach", "add_event_handler"])
def test_H_066_a_new_run_starts_with_a_fresh_count(attach):
    """The second run of a trainer is judged by its own scores."""
    scores = [0.9, 0.8, 0.85, 0.8, 0.7]
    trainer, handler = training(scores, attach=attach)
    assert trainer.run(range(3), max_epochs=2).outcome is RunOutcome.COMPLETED
    assert handler.counter == 1
    scores[0] = 0.1
    trainer.state.max_epochs = None  # as E-096 says: start anew
    state = trainer.run(range(3), max_epochs=5)
    assert state.epoch == 5
    assert (handler.best_score, handler.counter) == (0.85, 2)


def test_H_066_another_trainer_starts_with_a_fresh_count():
    """An evaluator that goes on to serve a second trainer does not judge it by the scores of the first."""
    scores = iter([0.9, 0.8, 0.7, 0.5, 0.4, 0.6])
    evaluator = Engine(lambda engine, batch: next(scores))
    handler = EarlyStopping(2, lambda engine: engine.state.output)
    handler.attach(evaluator)
    epochs = []
    for _ in range(2):
        trainer = Engine(lambda engine, batch: None)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
        epochs.append(trainer.run([0], max_epochs=3).epoch)
    assert epochs == [3, 3]
    assert (handler.best_score, handler.counter) == (0.6, 0)


def test_H_066_a_run_that_was_stopped_and_goes_on_has_its_patience_again():
    """Going on after an early stop gives as many further scores as the patience says; the best score stays."""
    trainer, handler = training([0.9, 0.8, 0.7, 0.6, 0.5, 0.95])
    assert trainer.run(range(3), max_epochs=6).epoch == 3
    state = trainer.run(range(3))
    assert (state.epoch, handler.best_score, handler.stopped_epoch) == (5, 0.9, 5)


def test_H_066_a_run_that_goes_on_keeps_its_count():
    """A count under way goes on where the run goes on."""
    trainer, handler = training([0.9, 0.8, 0.7, 0.6])
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), trainer.terminate)
    trainer.run(range(3), max_epochs=4)
    assert handler.counter == 1
    assert trainer.run(range(3)).epoch == 3
    assert handler.stop_reason


@pytest.mark.parametrize("given", [True, False], ids=["trainer given", "trainer found"])
def test_H_068_its_state_travels_with_the_trainers(given):
    """A run that is resumed by new objects stops where the uninterrupted one would."""
    scores = [0.9, 0.8, 0.7, 0.6]
    trainer, _ = training(scores, given=given)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), trainer.terminate)
    trainer.run(range(3), max_epochs=4)
    saved = trainer.state_dict()
    assert saved["handlers"] == {"EarlyStopping": {"counter": 1, "best_score": 0.9, "threshold_mode": "abs"}}
    trainer, handler = training(scores, given=given)
    trainer.load_state_dict(saved)
    assert trainer.run(range(3)).epoch == 3
    assert (handler.best_score, handler.counter) == (0.9, 2)
    trainer.state.max_epochs = None
    scores[:] = [0.1, 0.2, 0.3]
    assert trainer.run(range(3), max_epochs=3).epoch == 3  # a new run is not the resumed one any more


def test_H_068_the_state_loads_with_weights_only(tmp_path):
    """torch.load(weights_only=True) takes the state, also where the scores were tensors and numpy scalars."""
    _, handler = stopped_at([torch.tensor(2.0), np.float64(3.0), torch.tensor(1.0)])
    torch.save(handler.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == {
        "counter": 1,
        "best_score": 3.0,
        "threshold_mode": "abs",
    }


def test_H_068_an_older_state_without_threshold_mode_loads():
    """A state from before threshold_mode keeps the mode of the constructor; one with it brings its own."""
    handler = EarlyStopping(3, len, threshold_mode="rel")
    handler.load_state_dict({"counter": 2, "best_score": 0.5})
    assert handler.state_dict() == {"counter": 2, "best_score": 0.5, "threshold_mode": "rel"}
    handler.load_state_dict({"counter": 1, "best_score": None, "threshold_mode": "abs"})
    assert handler.state_dict() == {"counter": 1, "best_score": None, "threshold_mode": "abs"}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"counter": 1}, r"must have the keys 'counter' and 'best_score', got \['counter'\]"),
        ({}, r"must have the keys 'counter' and 'best_score', got \[\]"),
        ({"counter": 1, "best_score": 0.5, "threshold_mode": "x"}, "must be 'abs' or 'rel', got 'x'"),
    ],
)
def test_H_068_a_bad_state_is_refused_whole(state, message):
    """A state that cannot be taken changes nothing."""
    handler = EarlyStopping(3, len)
    before = handler.state_dict()
    with pytest.raises(ValueError, match=message):
        handler.load_state_dict(state)
    assert handler.state_dict() == before


def test_H_066_a_state_loaded_by_hand_survives_the_start_of_a_run_and_no_other():
    """What was loaded on purpose is not thrown away by the run that follows, but by the one after it."""
    trainer, handler = training([0.9, 0.8, 0.7], given=True)
    handler.load_state_dict({"counter": 1, "best_score": 0.95})
    assert trainer.run(range(3), max_epochs=3).epoch == 1
    trainer.state.max_epochs = None
    assert trainer.run(range(3), max_epochs=3).epoch == 3
    assert handler.best_score == 0.9


def test_two_at_one_trainer():
    """A second one is numbered or has its own key; removed ones leave no state behind."""
    trainer = FakeEngine()
    evaluator = FakeEngine(parent=trainer)
    first = EarlyStopping(1, len, trainer).attach(evaluator, event_name=Events.COMPLETED)
    second = EarlyStopping(1, len, trainer)
    numbered = second.attach(evaluator)
    EarlyStopping(1, len, trainer, state_key="second").attach(evaluator)
    assert trainer.state_dict()["handlers"].keys() == {"EarlyStopping", "EarlyStopping#2", "second"}
    numbered.remove()
    assert not evaluator.has_event_handler(second)
    assert len(trainer.handlers_at(Events.STARTED)) == 2
    first.remove()
    second.attach(evaluator).remove()
    assert trainer.state_dict()["handlers"].keys() == {"second"}


def test_two_given_straight_to_add_event_handler_need_no_keys():
    """Without attach there is no state to store, so nothing to name."""
    trainer = FakeEngine()
    evaluator = FakeEngine(parent=trainer)
    for _ in range(2):
        evaluator.add_event_handler(Events.COMPLETED, EarlyStopping(1, lambda engine: 1.0))
    evaluator.fire(Events.COMPLETED)
    assert trainer.state_dict() == {"handlers": {}}
    assert len(trainer.handlers_at(Events.STARTED)) == 2


def test_the_handle_takes_everything_back():
    """After remove() neither the evaluator nor the trainer knows the handler, and it can be attached again."""
    trainer = FakeEngine()
    evaluator = FakeEngine(parent=trainer)
    handler = EarlyStopping(1, lambda engine: 1.0)
    for _ in range(2):
        handle = handler.attach(evaluator)
        evaluator.fire(Events.COMPLETED)
        assert list(trainer.state_dict()["handlers"]) == ["EarlyStopping"]
        assert evaluator.state_dict() == {"handlers": {}}
        handle.remove()
        for engine in (trainer, evaluator):
            assert engine.state_dict() == {"handlers": {}}
            assert not engine.handlers_at(Events.STARTED)
        assert not evaluator.has_event_handler(handler)


def test_attached_twice_each_handle_takes_its_own_back():
    """One handler at two events keeps its state at the trainer until the last handle is gone."""
    trainer = FakeEngine()
    handler = EarlyStopping(3, lambda engine: 1.0, trainer)
    evaluators = [FakeEngine(parent=trainer), FakeEngine(parent=trainer)]
    first, second = (handler.attach(evaluator) for evaluator in evaluators)
    first.remove()
    assert trainer.state_dict()["handlers"]
    evaluators[0].fire(Events.COMPLETED)
    assert handler.best_score is None
    evaluators[1].fire(Events.COMPLETED)
    assert handler.best_score == 1.0
    second.remove()
    assert trainer.state_dict() == {"handlers": {}}


def test_attached_after_it_was_given_straight_its_state_travels():
    """attach() registers the state also at a trainer that it has met already."""
    trainer = FakeEngine()
    evaluator = FakeEngine(parent=trainer)
    handler = EarlyStopping(3, lambda engine: 1.0, trainer)
    evaluator.add_event_handler(Events.COMPLETED, handler)
    evaluator.fire(Events.COMPLETED)
    handler.attach(evaluator)
    assert trainer.state_dict()["handlers"]
    assert len(trainer.handlers_at(Events.STARTED)) == 1


def test_an_evaluator_that_runs_alone_afterwards_leaves_the_state_at_the_trainer():
    """A run of the evaluator outside of training does not carry the state away."""
    trainer = FakeEngine()
    evaluator = FakeEngine(parent=trainer)
    EarlyStopping(3, lambda engine: 1.0).attach(evaluator)
    evaluator.fire(Events.COMPLETED)
    evaluator.parent = None
    evaluator.fire(Events.COMPLETED)
    assert list(trainer.state_dict()["handlers"]) == ["EarlyStopping"]


def test_H_067_both_ranks_follow_the_score_of_rank_0(run_ranks):
    """Ranks with scores that disagree stop in the same epoch, with the same state: that of rank 0."""

    def scenario(rank):
        import logging

        from glowplug import Engine, Events
        from glowplug_early_stopping import EarlyStopping

        messages = []
        logger = logging.getLogger("glowplug_early_stopping")
        logger.setLevel(logging.INFO)
        logger.addFilter(lambda record: messages.append(record.getMessage()))
        scores = [[0.5, 0.6, 0.5, 0.5, 0.5], [0.9, 0.1, 0.1, 0.95, 0.96]][rank]
        trainer = Engine(lambda engine, batch: batch)
        evaluator = Engine(lambda engine, batch: scores[trainer.state.epoch - 1])
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
        handler = EarlyStopping(2, lambda engine: engine.state.output)
        handler.attach(evaluator)
        state = trainer.run([0, 0], max_epochs=5)
        return state.epoch, state.outcome.name, handler.state_dict(), handler.stop_reason, len(messages)

    reason = "no improvement on 0.6 in the last 2 evaluations"
    state = {"counter": 2, "best_score": 0.6, "threshold_mode": "abs"}
    assert run_ranks(scenario) == [
        [4, "TERMINATED", state, reason, 1],
        [4, "TERMINATED", state, reason, 0],
    ]


def test_mock_engine():
    """A MagicMock with metrics is scored and stopped like an engine."""
    evaluator, trainer = MagicMock(), MagicMock()
    evaluator.state.metrics = {"loss": 0.5}
    handler = EarlyStopping(1, "loss", trainer)
    handler.attach(evaluator)
    handler(evaluator)
    trainer.terminate.assert_not_called()
    handler(evaluator)
    trainer.terminate.assert_called_once_with()
