"""EarlyStopping: improvements, scores, trainers, run starts and state."""

import copy
import logging
import weakref
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from glowplug import Engine, Events, RunOutcome
from glowplug.exceptions import GlowplugWarning
from glowplug.testing import FakeEngine
from glowplug_early_stopping import EarlyStopping, StopReason

NAN, INF = float("nan"), float("inf")


def stopped_at(scores, patience=2, **options):
    """Return the number of the score that stops the trainer, ``None`` if none does, and the handler."""
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
    """Return a trainer that evaluates after each epoch, and its EarlyStopping."""
    trainer = Engine(lambda engine, batch: batch)
    evaluator = Engine(lambda engine, batch: scores[trainer.state.epoch - 1])
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    handler = EarlyStopping(2, lambda engine: engine.state.output, trainer if given else None)
    if attach:
        handler.attach(evaluator)
    else:
        evaluator.add_event_handler(Events.COMPLETED, handler)
    return trainer, handler


def test_called_without_an_engine():
    """A handler with a trainer can be called without an engine; without a trainer, this is an error (H-062)."""
    trainer, scores = FakeEngine(), iter([1.0, 0.8, 0.9])
    handler = EarlyStopping(2, lambda engine: next(scores), trainer)
    stops = []
    for _ in range(3):
        handler(None)
        stops.append(trainer.terminated)
    assert stops == [False, False, True]
    with pytest.raises(TypeError, match="pass an engine, or trainer="):
        EarlyStopping(2, lambda engine: 1.0)(None)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"patience": 0}, ValueError, "patience must be an integer of at least 1, got 0"),
            ({"patience": 1.5}, ValueError, "got 1.5"),
            ({"threshold": -0.1}, ValueError, "threshold must be finite and at least 0, got -0.1"),
            ({"threshold": NAN}, ValueError, "got nan"),
            (
                {"threshold_mode": "relative"},
                ValueError,
                "threshold_mode must be 'abs' or 'rel', got 'relative'",
            ),
            ({"mode": "maximum"}, ValueError, "mode must be 'max' or 'min', got 'maximum'"),
            (
                {"score_function": 3},
                TypeError,
                "score_function must be a function of the engine or a metric name, got 3",
            ),
            ({"trainer": "trainer"}, TypeError, "trainer must be a glowplug engine, got 'trainer'"),
        ],
    )
    def test_invalid(self, options, error, message):
        """Each invalid option is refused at construction with its value (H-061)."""
        with pytest.raises(error, match=message):
            EarlyStopping(**{"patience": 1, "score_function": len, **options})

    @pytest.mark.parametrize("options", [{"threshold": 0.5}, {"min_delta": 0.5}])
    def test_former_names(self, options):
        """min_delta, min_delta_mode and cumulative_delta are other names of the options (H-060)."""
        assert stopped_at([1.0, 1.3, 1.6], **options)[0] == 3
        _, handler = stopped_at([], min_delta=0.1, min_delta_mode="rel", cumulative_delta=True)
        assert (handler.threshold, handler.threshold_mode, handler.cumulative) == (0.1, "rel", True)
        handler.min_delta, handler.min_delta_mode, handler.cumulative_delta = 0.2, "abs", False
        assert (handler.threshold, handler.threshold_mode, handler.cumulative) == (0.2, "abs", False)
        assert (handler.min_delta, handler.min_delta_mode, handler.cumulative_delta) == (0.2, "abs", False)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"min_delta": 0.5, "threshold": 0.1},
                "min_delta and threshold were both given, but min_delta is the former name of threshold; pass only threshold",
            ),
            ({"min_delta": -0.5}, "threshold must be finite and at least 0, got -0.5"),
            ({"min_delta_mode": "x"}, "threshold_mode must be 'abs' or 'rel', got 'x'"),
        ],
    )
    def test_invalid_former_name(self, options, message):
        """An option under both names, or an invalid one under its former name, is refused (H-060, H-061)."""
        with pytest.raises(ValueError, match=message):
            EarlyStopping(1, len, **options)

    def test_set_during_a_run(self):
        """Options can be read and set, and take effect at the next score (H-060)."""
        trainer = FakeEngine()
        handler = EarlyStopping(3, lambda engine: engine.state.output)
        handler.attach(trainer, Events.EPOCH_COMPLETED)
        assert (handler.threshold, handler.threshold_mode, handler.mode) == (0.0, "abs", "max")
        handler.threshold = 0.5
        for score, counter in ((1.0, 0), (1.05, 1)):
            trainer.fire(Events.EPOCH_COMPLETED, output=score)
            assert handler.counter == counter
        handler.threshold, handler.threshold_mode = 0.25, "rel"
        trainer.fire(Events.EPOCH_COMPLETED, output=1.3)
        assert handler.counter == 2
        handler.mode = "min"
        trainer.fire(Events.EPOCH_COMPLETED, output=0.5)
        assert (handler.counter, handler.best_score) == (0, 0.5)
        handler.patience = 1
        assert trainer.fire(Events.EPOCH_COMPLETED, output=0.5).terminated

    @pytest.mark.parametrize(
        ("name", "value"), [("threshold", -1), ("threshold_mode", "x"), ("mode", "best"), ("patience", 0)]
    )
    def test_set_to_an_invalid_value(self, name, value):
        """Setting an option to an invalid value is refused and changes nothing (H-061)."""
        handler = EarlyStopping(1, len)
        before = getattr(handler, name)
        with pytest.raises(ValueError, match=f"EarlyStopping: {name} must be .*, got {value!r}"):
            setattr(handler, name, value)
        assert getattr(handler, name) == before


class TestResetEngine:
    def test_trainer(self):
        """attach(evaluator, event, reset_engine=trainer) resets at new runs of the trainer and stops it (H-067)."""
        scores = [0.9, 0.8, 0.7, 0.6]
        trainer = Engine(lambda engine, batch: batch)
        evaluator = Engine(lambda engine, batch: scores[trainer.state.epoch - 1])
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
        handler = EarlyStopping(2, lambda engine: engine.state.output)
        handle = handler.attach(evaluator, Events.COMPLETED, reset_engine=trainer)
        assert list(trainer.state_dict()["handlers"]) == ["EarlyStopping"]
        for _ in range(2):
            assert trainer.run(range(3), max_epochs=4).epoch == 3
            trainer.state.max_epochs = None
        handle.remove()
        assert not trainer.registrations()[1:]
        assert not evaluator.registrations()

    def test_event(self):
        """reset_event resets the handler in addition to new runs, until the handle is removed (H-067)."""
        trainer = FakeEngine()
        evaluator = FakeEngine(parent=trainer)
        handler = EarlyStopping(5, lambda engine: 1.0)
        handle = handler.attach(
            evaluator, reset_engine=trainer, reset_event=Events.STARTED | Events.EPOCH_STARTED(once=3)
        )
        for epoch, counter in ((1, 0), (2, 1), (3, 0), (4, 1)):
            trainer.fire(Events.EPOCH_STARTED, epoch=epoch)
            evaluator.fire(Events.COMPLETED)
            assert handler.counter == counter
        trainer.fire(Events.STARTED)
        assert (handler.counter, handler.best_score) == (0, None)
        handle.remove()
        assert not trainer.registrations()

    def test_another_engine(self):
        """Each new run of an engine that is not the trainer resets the handler (H-067)."""
        folds, trainer = FakeEngine(), FakeEngine()
        evaluator = FakeEngine(parent=trainer)
        handler = EarlyStopping(5, lambda engine: 1.0, trainer)
        handle = handler.attach(evaluator, reset_engine=folds)
        for _ in range(2):
            evaluator.fire(Events.COMPLETED)
        folds.fire(Events.STARTED, iteration=3)
        assert handler.counter == 1
        folds.fire(Events.STARTED, iteration=0)
        assert (handler.counter, handler.best_score) == (0, None)
        handle.remove()
        assert not folds.registrations()

    @pytest.mark.parametrize("event", [Events.COMPLETED, "COMPLETED", Events.COMPLETED | Events.TERMINATE])
    def test_never_stops(self, event):
        """A reset at STARTED of each evaluation is refused, because the trainer would never stop (H-067)."""
        evaluator = FakeEngine()
        with pytest.raises(ValueError, match=r"Use attach\(evaluator, reset_engine=trainer\)"):
            EarlyStopping(1, len).attach(evaluator, event, reset_engine=evaluator)
        assert not evaluator.registrations()

    def test_unknown_event(self):
        """An unknown reset_event is refused and nothing is attached."""
        trainer, evaluator = FakeEngine(), FakeEngine()
        handler = EarlyStopping(1, len)
        with pytest.raises(ValueError, match=r"Did you mean Events\.EPOCH_STARTED\?"):
            handler.attach(evaluator, reset_engine=trainer, reset_event="EPOCH_STRTED")
        assert not trainer.registrations()
        assert not evaluator.registrations()
        with pytest.raises(TypeError, match="reset_engine must be a glowplug engine, got 'trainer'"):
            handler.attach(evaluator, reset_engine="trainer")


class TestImprovement:
    @pytest.mark.parametrize(
        ("scores", "options", "expected"),
        [
            ([1.0, 0.9, 0.8], {}, 3),
            # An equal score is not an improvement.
            ([1.0, 1.0, 1.0], {}, 3),
            ([1.0, 0.9, 1.1, 1.0, 1.2, 1.1], {}, None),
            ([1.0, 1.1, 1.2], {"mode": "min"}, 3),
            ([1.0, 0.9, 0.8, 0.7], {"mode": "min"}, None),
            # A gain that equals the threshold does not exceed it.
            ([1.0, 1.5, 2.0], {"threshold": 0.5}, 3),
            ([1.0, 1.75, 2.5], {"threshold": 0.5}, None),
            ([2.0, 1.5, 1.0], {"threshold": 0.5, "mode": "min"}, 3),
            ([1.0, 1.25, 1.25], {"threshold": 0.25, "threshold_mode": "rel"}, 3),
            ([4.0, 5.5, 7.0], {"threshold": 0.25, "threshold_mode": "rel"}, None),
            ([4.0, 2.5, 1.75], {"threshold": 0.25, "threshold_mode": "rel", "mode": "min"}, None),
            ([4.0, 3.0, 3.0], {"threshold": 0.25, "threshold_mode": "rel", "mode": "min"}, 3),
        ],
    )
    def test_strict(self, scores, options, expected):
        """A score is an improvement only if it exceeds the best one by more than the threshold (H-062)."""
        assert stopped_at(scores, **options)[0] == expected

    @given(
        st.lists(st.floats(), min_size=1, max_size=8),
        st.sampled_from([0.0, 0.1, 1.0]),
        st.sampled_from(["abs", "rel"]),
        st.booleans(),
    )
    def test_modes_are_symmetric(self, scores, threshold, threshold_mode, cumulative):
        """Minimizing a score equals maximizing its negative (H-062)."""
        options = {"threshold": threshold, "threshold_mode": threshold_mode, "cumulative": cumulative}
        at_most, upwards = stopped_at(scores, **options)
        at_least, downwards = stopped_at([-score for score in scores], mode="min", **options)
        assert (at_most, upwards.counter) == (at_least, downwards.counter)
        assert upwards.best_score == (None if downwards.best_score is None else -downwards.best_score)

    def test_cumulative(self):
        """Gains below the threshold add up only with cumulative=True (H-063)."""
        scores = [1.0, 1.3, 1.6, 1.9]
        assert stopped_at(scores, threshold=0.5)[0] == 3
        assert stopped_at(scores, threshold=0.5, cumulative=True)[0] is None
        assert stopped_at([1.0, 1.3, 1.2], threshold=0.5)[1].best_score == 1.3
        assert stopped_at([1.0, 1.3, 1.2], threshold=0.5, cumulative=True)[1].best_score == 1.0
        assert stopped_at([1.0, 0.7, 0.8], threshold=0.5, mode="min")[1].best_score == 0.7

    @pytest.mark.parametrize("mode", ["max", "min"])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_relative_to_negative_best(self, mode, sign):
        """A relative threshold uses the absolute value of a negative best score (H-064)."""
        better, worse = (-0.8, -1.05) if mode == "max" else (-1.2, -0.95)
        options = {"threshold": 0.1, "threshold_mode": "rel", "mode": mode}
        assert stopped_at([-1.0, worse, worse], **options)[0] == 3
        assert stopped_at([-1.0, better], patience=1, **options)[0] is None
        slightly = -0.95 if mode == "max" else -1.05
        assert stopped_at([-1.0, slightly], patience=1, **options)[0] == 2

    @pytest.mark.parametrize(("mode", "bad"), [("max", NAN), ("max", -INF), ("min", NAN), ("min", INF)])
    @pytest.mark.parametrize("cumulative", [False, True])
    def test_nan(self, mode, bad, cumulative):
        """NaN and the worst infinity count as no improvement and never become the best score (H-065)."""
        number, handler = stopped_at([1.0, bad, bad], mode=mode, cumulative=cumulative)
        assert (number, handler.best_score) == (3, 1.0)
        number, handler = stopped_at([bad, bad], mode=mode, cumulative=cumulative)
        assert (number, handler.best_score) == (2, None)
        assert handler.stop_message == "patience exhausted: no finite score in 2 evaluations"
        number, handler = stopped_at([bad, 1.0, bad], mode=mode, cumulative=cumulative)
        assert (number, handler.best_score, handler.counter) == (None, 1.0, 1)

    @given(st.lists(st.floats(), min_size=1, max_size=8), st.sampled_from(["max", "min"]))
    def test_best_score(self, scores, mode):
        """Without a threshold the best score is the best of all valid scores (H-065)."""
        _, handler = stopped_at(scores, patience=100, mode=mode)
        best = max if mode == "max" else min
        numbers = [score for score in scores if score == score and abs(score) < INF]  # noqa: PLR0124 - NaN
        good = [score for score in scores if score == (INF if mode == "max" else -INF)]
        assert handler.best_score == best(numbers + good, default=None)


class TestScore:
    @pytest.mark.parametrize(
        "as_score",
        [np.float32, np.int64, lambda score: torch.tensor(score), lambda score: torch.tensor([score])],
    )
    def test_numpy_and_torch(self, as_score):
        """Numpy scalars and tensors with one element are accepted and stored as floats (H-062)."""
        number, handler = stopped_at([as_score(2.0), as_score(1.0), as_score(1.0)])
        assert number == 3
        assert handler.best_score == 2.0
        assert type(handler.best_score) is float

    @pytest.mark.parametrize("score", [None, "high", torch.zeros(2), [0.5]])
    def test_not_a_number(self, score):
        """A score that is not a single number raises an error with its value and function."""
        with pytest.raises(
            TypeError, match=r"the score must be a single number, but score_function .*<lambda> returned"
        ):
            stopped_at([score])

    def test_metric_name(self):
        """A string as score_function reads the metric of that name."""
        trainer = FakeEngine()
        evaluator = FakeEngine(parent=trainer)
        EarlyStopping(1, "loss", mode="min").attach(evaluator)
        evaluator.fire(Events.COMPLETED, metrics={"loss": 0.5, "accuracy": 0.1})
        evaluator.fire(Events.COMPLETED, metrics={"loss": 0.6, "accuracy": 0.9})
        assert trainer.terminated

    @pytest.mark.parametrize(
        ("metrics", "there"), [({}, r"\[\]\."), ({"nll": 1.0, "f1": 1.0}, r"\['nll', 'f1'\]\.")]
    )
    def test_missing_metric(self, metrics, there):
        """A missing metric raises an error with the names of the present metrics."""
        evaluator = FakeEngine(parent=FakeEngine())
        EarlyStopping(1, "loss").attach(evaluator)
        with pytest.raises(
            ValueError, match=f"no metric 'loss' at Events.COMPLETED; available metrics: {there}"
        ):
            evaluator.fire(Events.COMPLETED, metrics=metrics)

    def test_metric_not_a_number(self):
        """A metric that is not a single number raises an error with its name."""
        evaluator = FakeEngine(parent=FakeEngine())
        EarlyStopping(1, "matrix").attach(evaluator)
        with pytest.raises(TypeError, match=r"metric 'matrix' returned tensor\(\[\[1., 1."):
            evaluator.fire(Events.COMPLETED, metrics={"matrix": torch.ones(2, 2)})


class TestTrainer:
    @pytest.mark.parametrize("attach", [True, False], ids=["attach", "add_event_handler"])
    @pytest.mark.parametrize("given", [True, False], ids=["trainer given", "trainer found"])
    def test_evaluator_stops_trainer(self, attach, given, caplog):
        """A handler at the evaluator stops the trainer, and reports when and why (H-067)."""
        trainer, handler = training([0.9, 0.8, 0.7, 0.6], attach, given)
        with caplog.at_level(logging.INFO, "glowplug_early_stopping"):
            state = trainer.run(range(3), max_epochs=4)
        assert (state.epoch, state.outcome) == (3, RunOutcome.TERMINATED)
        assert (handler.stopped_epoch, handler.counter, handler.best_score) == (3, 2, 0.9)
        assert handler.stop_reason is StopReason.PATIENCE
        assert handler.stop_message == "patience exhausted: no improvement on 0.9 in the last 2 evaluations"
        assert caplog.messages == [f"epoch 3: {handler.stop_message}; the run is terminated"]

    def test_scores_itself(self):
        """Without an evaluator the handler stops the engine it is attached to."""
        trainer = Engine(lambda engine, batch: -batch)
        EarlyStopping(2, lambda engine: engine.state.output).attach(trainer, Events.ITERATION_COMPLETED)
        assert trainer.run(range(10)).iteration == 3

    def test_own_completed(self):
        """attach() refuses the trainer's own COMPLETED with an error that shows the right call."""
        trainer = FakeEngine()
        handler = EarlyStopping(1, len, trainer)
        with pytest.raises(ValueError, match=r"use attach\(trainer, Events.EPOCH_COMPLETED\)"):
            handler.attach(trainer)
        assert not trainer.handlers_at(Events.STARTED)
        assert trainer.state_dict() == {"handlers": {}}

    @pytest.mark.parametrize(
        "attach",
        [EarlyStopping.attach, lambda handler, engine: engine.add_event_handler("COMPLETED", handler)],
    )
    def test_completed_engine(self, attach):
        """At COMPLETED of an engine that no trainer runs, one warning says that the handler stops nothing."""
        evaluator = Engine(lambda engine, batch: batch)
        attach(EarlyStopping(1, lambda engine: engine.state.output), evaluator)
        with pytest.warns(GlowplugWarning, match="because the run is already over; attach the handler to"):
            evaluator.run([1])
        evaluator.run([1])

    def test_scores_differ_between_ranks(self, run_ranks):
        """If the scores of the ranks differ, all ranks stop in the epoch in which the first one stops (H-067, D1)."""

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
            return state.epoch, state.iteration, state.outcome.name, handler.counter, messages

        reason = "epoch 3: patience exhausted: no improvement on 0.9 in the last 2 evaluations; the run is terminated"
        assert run_ranks(scenario) == [
            [3, 6, "TERMINATED", 1, []],
            [3, 6, "TERMINATED", 2, [reason]],
        ]

    def test_mock_engine(self):
        """A MagicMock with metrics is scored and stopped like an engine."""
        evaluator, trainer = MagicMock(), MagicMock()
        evaluator.state.metrics = {"loss": 0.5}
        handler = EarlyStopping(1, "loss", trainer)
        handler.attach(evaluator)
        handler(evaluator)
        trainer.terminate.assert_not_called()
        handler(evaluator)
        trainer.terminate.assert_called_once_with()

    def test_mock_engine_alone(self):
        """A MagicMock without a trainer is terminated itself, instead of its parent."""
        engine = MagicMock()
        handler = EarlyStopping(1, lambda engine: 1.0)
        handler.attach(engine)
        for _ in range(2):
            handler(engine)
        engine.terminate.assert_called_once_with()
        engine.parent.terminate.assert_not_called()


def test_describe():
    """describe() shows the handler, not its private methods."""
    trainer = Engine(lambda engine, batch: batch)
    EarlyStopping(1, len).attach(trainer, Events.EPOCH_COMPLETED)
    assert [row.split()[2] for row in trainer.describe().splitlines()[1:]] == [
        "EarlyStopping",
        "EarlyStopping",
    ]


@pytest.mark.usefixtures("no_gc")
class TestLifetime:
    @pytest.mark.parametrize("attach", [True, False], ids=["attach", "add_event_handler"])
    @pytest.mark.parametrize("given", [True, False], ids=["trainer given", "trainer found"])
    def test_trainer_and_evaluator(self, attach, given):
        """The engines and the handler are freed with their last references, without the garbage collector."""

        def train():
            trainer = Engine(lambda engine, batch: batch)
            evaluator = Engine(lambda engine, batch: 1.0)
            trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
            handler = EarlyStopping(2, lambda engine: engine.state.output, trainer if given else None)
            if attach:
                handler.attach(evaluator)
            else:
                evaluator.add_event_handler(Events.COMPLETED, handler)
            assert trainer.run([0], max_epochs=9).epoch == 3
            return [weakref.ref(each) for each in (trainer, evaluator, handler)]

        assert [reference() for reference in train()] == [None, None, None]

    def test_trainer_alone(self):
        """A trainer that computes its own score is freed, even if its handle is kept."""

        def train():
            trainer = Engine(lambda engine, batch: 1.0)
            handler = EarlyStopping(2, lambda engine: engine.state.output, trainer)
            handle = handler.attach(trainer, Events.EPOCH_COMPLETED, reset_engine=trainer)
            trainer.run([0], max_epochs=9)
            return handle, [weakref.ref(each) for each in (trainer, handler)]

        handle, references = train()
        assert [reference() for reference in references] == [None, None]
        handle.remove()

    def test_next_trainer(self):
        """The scores of a trainer that no longer exists do not count for the next one (H-066)."""
        evaluator = FakeEngine()
        handler = EarlyStopping(3, lambda engine: 1.0)
        handler.attach(evaluator)
        for _ in range(2):
            evaluator.parent = None
            evaluator.parent = FakeEngine()
            evaluator.fire(Events.COMPLETED)
            evaluator.fire(Events.COMPLETED)
            assert handler.counter == 1

    def test_copy(self):
        """The handlers of a copied trainer stop and reset the copy (H-068)."""
        trainer, evaluator = FakeEngine(), FakeEngine()
        EarlyStopping(1, lambda engine: 1.0, trainer).attach(evaluator)
        copied, copied_evaluator = copy.deepcopy((trainer, evaluator))
        for _ in range(2):
            copied_evaluator.fire(Events.COMPLETED)
        assert copied.terminated
        assert not trainer.terminated


class TestRunStart:
    @pytest.mark.parametrize("attach", [True, False], ids=["attach", "add_event_handler"])
    def test_new_run(self, attach):
        """A new run of the trainer resets the count and the best score (H-066)."""
        scores = [0.9, 0.8, 0.85, 0.8, 0.7]
        trainer, handler = training(scores, attach=attach)
        assert trainer.run(range(3), max_epochs=2).outcome is RunOutcome.COMPLETED
        assert handler.counter == 1
        scores[0] = 0.1
        # Without the old limit the next run is a new one (E-096).
        trainer.state.max_epochs = None
        state = trainer.run(range(3), max_epochs=5)
        assert state.epoch == 5
        assert (handler.best_score, handler.counter) == (0.85, 2)

    def test_another_trainer(self):
        """An evaluator that later serves another trainer starts with a fresh count (H-066)."""
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

    def test_continued_run(self):
        """A run that continues keeps its count (H-066)."""
        trainer, handler = training([0.9, 0.8, 0.7, 0.6])
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), trainer.terminate)
        trainer.run(range(3), max_epochs=4)
        assert handler.counter == 1
        assert trainer.run(range(3)).epoch == 3
        assert handler.stop_reason

    def test_continued_after_stop(self):
        """A run that continues after an early stop resets the count and keeps the best score (H-066)."""
        trainer, handler = training([0.9, 0.8, 0.7, 0.6, 0.5, 0.95])
        assert trainer.run(range(3), max_epochs=6).epoch == 3
        state = trainer.run(range(3))
        assert (state.epoch, handler.best_score, handler.stopped_epoch) == (5, 0.9, 5)

    def test_loaded_state(self):
        """A state loaded with load_state_dict() applies only to the next run (H-066)."""
        trainer, handler = training([0.9, 0.8, 0.7], given=True)
        handler.load_state_dict({"counter": 1, "best_score": 0.95})
        assert trainer.run(range(3), max_epochs=3).epoch == 1
        trainer.state.max_epochs = None
        assert trainer.run(range(3), max_epochs=3).epoch == 3
        assert handler.best_score == 0.9


class TestState:
    @pytest.mark.parametrize("attach", [True, False], ids=["attach", "add_event_handler"])
    @pytest.mark.parametrize("given", [True, False], ids=["trainer given", "trainer found"])
    def test_resumed_run(self, attach, given):
        """A run resumed with new objects stops where the uninterrupted run would stop (H-068)."""
        scores = [0.9, 0.8, 0.7, 0.6]
        trainer, _ = training(scores, attach, given)
        trainer.run(range(3), max_epochs=2)
        saved = trainer.state_dict()
        assert saved["handlers"] == {
            "EarlyStopping": {
                "counter": 1,
                "best_score": 0.9,
                "threshold_mode": "abs",
                "best_epoch": 1,
                "evaluations": 2,
                "stopped_epoch": None,
                "stop_reason": None,
                "stop_message": None,
            }
        }
        trainer, handler = training(scores, attach, given)
        trainer.load_state_dict(saved)
        assert trainer.run(range(3), max_epochs=4).epoch == 3
        assert (handler.best_score, handler.counter) == (0.9, 2)
        trainer.state.max_epochs = None
        scores[:] = [0.1, 0.2, 0.3]
        # A new run does not use the loaded state.
        assert trainer.run(range(3), max_epochs=3).epoch == 3

    def test_weights_only(self, tmp_path):
        """The state loads with torch.load(weights_only=True), even if the scores were tensors (H-068)."""
        _, handler = stopped_at([torch.tensor(2.0), np.float64(3.0), torch.tensor(1.0)])
        torch.save(handler.state_dict(), tmp_path / "state.pt")
        loaded = torch.load(tmp_path / "state.pt", weights_only=True)
        assert loaded == handler.state_dict()
        assert (loaded["counter"], loaded["best_score"]) == (1, 3.0)

    def test_without_threshold_mode(self):
        """A state without threshold_mode keeps the handler's mode (H-068)."""
        handler = EarlyStopping(3, len, threshold_mode="rel")
        handler.load_state_dict({"counter": 2, "best_score": 0.5})
        assert (handler.counter, handler.best_score, handler.threshold_mode) == (2, 0.5, "rel")
        handler.load_state_dict({"counter": 1, "best_score": None, "threshold_mode": "abs"})
        assert (handler.counter, handler.best_score, handler.threshold_mode) == (1, None, "abs")

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            ({"counter": 1}, r"must have the keys 'counter' and 'best_score', got \['counter'\]"),
            ({}, r"must have the keys 'counter' and 'best_score', got \[\]"),
            ({"counter": 1, "best_score": 0.5, "threshold_mode": "x"}, "must be 'abs' or 'rel', got 'x'"),
            (
                {"counter": 1, "best_score": 0.5, "stop_reason": "BORED"},
                r"must be one of \['PATIENCE'.*'BORED'",
            ),
        ],
    )
    def test_invalid(self, state, message):
        """An invalid state raises an error and changes nothing (H-068)."""
        handler = EarlyStopping(3, len)
        before = handler.state_dict()
        with pytest.raises(ValueError, match=message):
            handler.load_state_dict(state)
        assert handler.state_dict() == before

    def test_keys(self):
        """A second handler gets a numbered key or its own state_key."""
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

    def test_add_event_handler(self):
        """Handlers added with add_event_handler() register their states at the first score (H-068)."""
        trainer = FakeEngine()
        evaluator = FakeEngine(parent=trainer)
        for _ in range(2):
            evaluator.add_event_handler(Events.COMPLETED, EarlyStopping(1, lambda engine: 1.0))
        assert trainer.state_dict() == {"handlers": {}}
        evaluator.fire(Events.COMPLETED)
        assert trainer.state_dict()["handlers"].keys() == {"EarlyStopping", "EarlyStopping#2"}
        assert len(trainer.handlers_at(Events.STARTED)) == 2

    def test_attach_after_add_event_handler(self):
        """attach() registers the state at a trainer that the handler already follows."""
        trainer = FakeEngine()
        evaluator = FakeEngine(parent=trainer)
        handler = EarlyStopping(3, lambda engine: 1.0, trainer)
        evaluator.add_event_handler(Events.COMPLETED, handler)
        evaluator.fire(Events.COMPLETED)
        handler.attach(evaluator)
        assert trainer.state_dict()["handlers"]
        assert len(trainer.handlers_at(Events.STARTED)) == 1

    def test_evaluator_alone(self):
        """A run of the evaluator outside training leaves the state at the trainer."""
        trainer = FakeEngine()
        evaluator = FakeEngine(parent=trainer)
        EarlyStopping(3, lambda engine: 1.0).attach(evaluator)
        evaluator.fire(Events.COMPLETED)
        evaluator.parent = None
        evaluator.fire(Events.COMPLETED)
        assert list(trainer.state_dict()["handlers"]) == ["EarlyStopping"]


class TestRemove:
    def test_evaluator_and_trainer(self):
        """remove() detaches the handler from both engines, and it can be attached again."""
        trainer = FakeEngine()
        evaluator = FakeEngine(parent=trainer)
        handler = EarlyStopping(1, lambda engine: 1.0)
        for _ in range(2):
            handle = handler.attach(evaluator)
            evaluator.fire(Events.COMPLETED)
            for engine in (trainer, evaluator):
                assert list(engine.state_dict()["handlers"]) == ["EarlyStopping"]
            handle.remove()
            for engine in (trainer, evaluator):
                assert engine.state_dict() == {"handlers": {}}
                assert not engine.handlers_at(Events.STARTED)
            assert not evaluator.has_event_handler(handler)

    def test_two_attachments(self):
        """Each handle removes one attachment; the state is removed with the last."""
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


SCORES = [0.5, 0.9, 0.8, 0.7, 0.6, 0.95, 0.4, 0.3, 0.2, 0.1]
WAYS = {
    "added": lambda evaluator, stopping: evaluator.add_event_handler(Events.COMPLETED, stopping),
    "attached": lambda evaluator, stopping: stopping.attach(evaluator),
}


def validated(way, *, given):
    """Return a trainer whose evaluator stops it, and the handler."""
    trainer, evaluator = (Engine(lambda engine, batch: batch) for _ in range(2))
    stopping = EarlyStopping(3, lambda engine: SCORES[trainer.state.epoch - 1], trainer if given else None)
    WAYS[way](evaluator, stopping)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 2]))
    return trainer, stopping


class TestResume:
    @pytest.mark.parametrize("given", [False, True])
    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("epochs", [1, 2, 3, 4])
    def test_state_of_the_trainer_alone(self, tmp_path, way, given, epochs):
        """A trainer restored from a file stops in the same epoch as one that never stopped (C4)."""
        whole, expected = validated(way, given=given)
        whole.run([1, 2, 3], max_epochs=10)
        first, _ = validated(way, given=given)
        first.run([1, 2, 3], max_epochs=epochs)
        torch.save({**first.state_dict(), "max_epochs": 10}, tmp_path / "trainer.pt")
        trainer, stopping = validated(way, given=given)
        trainer.load_state_dict(torch.load(tmp_path / "trainer.pt", weights_only=True))
        trainer.run([1, 2, 3])
        assert trainer.state.epoch == whole.state.epoch == 5
        assert (stopping.state_dict(), stopping.stop_reason) == (expected.state_dict(), expected.stop_reason)


class TestExactResume:
    @pytest.mark.parametrize("where", ["trainer", "evaluator"])
    @pytest.mark.parametrize("given", [True, False], ids=["trainer given", "trainer found"])
    def test_add_event_handler(self, where, given):
        """A handler added with add_event_handler resumes exactly from every iteration, also if it is saved again at once (C4)."""
        scores = [0.5, 0.9, 0.8, 0.85, 0.7, 0.6, 0.5]

        def make():
            trainer = Engine(lambda engine, batch: batch)
            handler = EarlyStopping(
                3, lambda engine: scores[trainer.state.epoch - 1], trainer if given else None
            )
            if where == "trainer":
                trainer.add_event_handler(Events.EPOCH_COMPLETED, handler)
            else:
                evaluator = Engine(lambda engine, batch: batch)
                evaluator.add_event_handler(Events.COMPLETED, handler)
                trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
            return trainer, handler

        whole, expected = make()
        whole.run(range(2), max_epochs=7)
        assert whole.state.epoch == 5
        for iteration in range(1, 11):
            for event in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED):
                trainer, _ = make()
                states = []
                trainer.add_event_handler(event(once=iteration), lambda e, s=states: s.append(e.state_dict()))
                trainer.run(range(2), max_epochs=7)
                between, _ = make()
                between.load_state_dict(states[0])
                resumed, handler = make()
                resumed.load_state_dict(between.state_dict())
                resumed.run(range(2), max_epochs=7)
                assert resumed.state.epoch == 5
                assert handler.state_dict() == expected.state_dict()
