"""Stop requests and lengths of epochs on which several ranks agree; real gloo processes."""

import pytest

from glowplug import Engine, Events
from glowplug.engine._votes import Pace


def test_each_request_at_each_event(run_ranks):
    """A request by one rank takes effect on all ranks at the same iteration, whatever the event (D1)."""

    def scenario(rank):
        from glowplug import Engine, Events

        results = []
        for event in (
            "STARTED",
            "EPOCH_STARTED",
            "GET_BATCH_STARTED",
            "GET_BATCH_COMPLETED",
            "ITERATION_STARTED",
            "ITERATION_COMPLETED",
            "EPOCH_COMPLETED",
        ):
            for request in ("terminate", "terminate_epoch", "interrupt"):
                if request == "terminate_epoch" and event in ("STARTED", "EPOCH_STARTED"):
                    continue
                engine = Engine(lambda engine, batch: None)

                def ask(engine, request=request):
                    if rank == 1 and engine.state.iteration in (0, 4, 7):
                        getattr(engine, request)()
                        assert getattr(
                            engine,
                            {
                                "terminate": "should_terminate",
                                "terminate_epoch": "should_terminate_single_epoch",
                                "interrupt": "should_interrupt",
                            }[request],
                        )

                engine.add_event_handler(Events[event], ask)
                ended = []
                engine.add_event_handler(
                    Events.EPOCH_COMPLETED, lambda e, ended=ended: ended.append(e.state.iteration)
                )
                state = engine.run(range(7), max_epochs=2, agree_every=1)
                results.append([event, request, state.outcome.name, state.iteration, ended])
        return results

    first, second = run_ranks(scenario)
    assert first == second
    stops = {(event, request): rest for event, request, *rest in first}
    assert stops["STARTED", "terminate"] == ["TERMINATED", 0, []]
    assert stops["EPOCH_STARTED", "interrupt"] == ["INTERRUPTED", 0, []]
    # The vote after iteration 4 takes effect after iteration 5.
    assert stops["ITERATION_COMPLETED", "terminate"] == ["TERMINATED", 5, []]
    assert stops["ITERATION_COMPLETED", "interrupt"] == ["INTERRUPTED", 5, []]
    assert stops["EPOCH_COMPLETED", "terminate"] == ["TERMINATED", 7, [7]]
    assert stops["ITERATION_COMPLETED", "terminate_epoch"] == ["COMPLETED", 8, [5, 8]]


def test_skip_completed(run_ranks):
    """The variant of a request that omits an event wins on all ranks."""

    def scenario(rank):
        from glowplug import Engine, Events

        fired = []
        engine = Engine(lambda engine, batch: None)
        for event in (Events.EPOCH_COMPLETED, Events.TERMINATE, Events.COMPLETED, Events.TEARDOWN):
            engine.add_event_handler(event, lambda event=event: fired.append(event.name))

        @engine.on(Events.ITERATION_COMPLETED(once=2))
        def ask():
            engine.terminate_epoch(skip_epoch_completed=rank == 0)

        @engine.on(Events.ITERATION_COMPLETED(once=5))
        def ask_again():
            engine.terminate(skip_completed=rank == 0)

        engine.run(range(5), max_epochs=3, agree_every=1)
        return fired

    assert run_ranks(scenario) == [["TERMINATE", "TEARDOWN"]] * 2


def test_interrupted_run_continues(run_ranks):
    """A run that one rank interrupts continues on all ranks with the next batch, and still agrees on requests."""

    def scenario(rank):
        from glowplug import Engine, Events

        batches = []
        engine = Engine(lambda engine, batch: batches.append(batch))

        @engine.on(Events.ITERATION_COMPLETED)
        def ask():
            if rank == 1 and engine.state.iteration in (2, 9):
                engine.interrupt()

        stops = []
        while len(stops) < 3:
            state = engine.run(range(7), max_epochs=2, agree_every=1)
            stops.append([state.outcome.name, state.iteration])
        return batches, stops

    expected = [[*range(7)] * 2, [["INTERRUPTED", 3], ["INTERRUPTED", 10], ["COMPLETED", 14]]]
    assert run_ranks(scenario) == [expected] * 2


def test_withdrawn_interruption(run_ranks):
    """A handler of INTERRUPT can withdraw the interruption, with one rank and with two."""

    def scenario(rank):
        from glowplug import Engine, Events

        def run(**options):
            engine = Engine(lambda engine, batch: None)
            engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
            engine.add_event_handler(
                Events.INTERRUPT, lambda engine: setattr(engine, "should_interrupt", False)
            )
            state = engine.run(range(5), **options)
            return state.outcome.name, state.iteration

        return run(agree_every=1), run(agree_every=0)

    assert run_ranks(scenario) == [[["COMPLETED", 5], ["COMPLETED", 5]]] * 2


def test_interruption_withdrawn_on_one_rank(run_ranks):
    """An interruption takes effect on all ranks unless all of them withdraw it (D1)."""

    def scenario(rank):
        from glowplug import Engine, Events

        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)

        @engine.on(Events.INTERRUPT)
        def withdraw():
            if rank == 1:
                engine.should_interrupt = False

        outcomes = []
        while not outcomes or outcomes[-1][0] == "INTERRUPTED":
            state = engine.run(range(5), agree_every=1)
            outcomes.append([state.outcome.name, state.iteration])
        return outcomes

    assert run_ranks(scenario) == [[["INTERRUPTED", 3], ["COMPLETED", 5]]] * 2


def test_nested_engine(run_ranks):
    """A request of one rank in an evaluator ends the evaluation, or the trainer, on all ranks."""

    def scenario(rank):
        from glowplug import Engine, Events

        trainer, evaluator = Engine(lambda e, b: None), Engine(lambda e, b: None)
        seen = []

        @trainer.on(Events.ITERATION_COMPLETED(every=2))
        def evaluate():
            seen.append(evaluator.run(range(4), agree_every=1).iteration)

        @evaluator.on(Events.ITERATION_COMPLETED(once=2))
        def ask():
            if rank == 1:
                evaluator.terminate()
            if rank == 0 and trainer.state.iteration == 4:
                trainer.terminate()

        state = trainer.run(range(10), agree_every=1)
        return seen, state.iteration

    assert run_ranks(scenario) == [[[3, 3], 5]] * 2


def test_many_nested_runs(run_ranks):
    """The number of runs within the run of another engine has no limit."""

    def scenario(rank):
        from glowplug import Engine, Events
        from glowplug.engine import _rank_watch

        trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)

        @trainer.on(Events.STARTED)
        def start():
            _rank_watch._current._count = (1 << 23) - 3

        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: evaluator.run([1]))
        return trainer.run(range(6)).iteration

    assert run_ranks(scenario) == [6, 6]


def test_fixed_and_chosen_distance(run_ranks):
    """With agree_every=5, requests take effect after every fifth vote; by default, within a second (D1)."""

    def scenario(rank):
        import time

        from glowplug import Engine, Events

        def run(seconds, at, **options):
            engine, asked = Engine(lambda engine, batch: time.sleep(seconds)), []

            @engine.on(Events.ITERATION_COMPLETED)
            def ask():
                if engine.state.iteration >= at and not asked:
                    asked.append(time.monotonic())
                    if rank == 1:
                        engine.terminate()

            state = engine.run(range(10_000), **options)
            return state.iteration, time.monotonic() - asked[0]

        fixed = [run(0, at, agree_every=5)[0] for at in (1, 5, 6)]
        return fixed, run(0.0005, 300), run(0.02, 20)

    (fixed, fast, slow), second = run_ranks(scenario)
    assert fixed == second[0] == [6, 6, 11]
    for (iteration, seconds), other in ((fast, second[1]), (slow, second[2])):
        assert iteration == other[0]
        assert seconds < 1


def test_shortest_data(run_ranks):
    """Each epoch ends with the shortest data, with one warning on rank 0 that names the unused batches (D1)."""

    def scenario(rank):
        import warnings

        from glowplug import Engine, Events
        from glowplug.distributed import barrier

        class Stream:
            def __iter__(self):
                return iter(range(7 - 2 * rank))

        def step(engine, batch):
            barrier()
            return batch

        results = []
        for data in (list(range(7 - 2 * rank)), Stream()):
            lengths = []
            engine = Engine(step)
            engine.add_event_handler(
                Events.EPOCH_COMPLETED,
                lambda engine, lengths=lengths: lengths.append([engine.state.iteration, engine.state.output]),
            )
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                engine.run(data, max_epochs=2)
            results.append([lengths, engine.state.epoch_length, [str(each.message) for each in caught]])
        return results

    (sized, unsized), (sized_1, unsized_1) = run_ranks(scenario)
    assert [sized[:2], unsized[:2]] == [sized_1[:2], unsized_1[:2]] == [[[[5, 4], [10, 4]], 5]] * 2
    assert sized_1[2] == unsized_1[2] == []
    (warning,), (other,) = sized[2], unsized[2]
    assert warning.startswith(
        "the ranks have between 5 and 7 batches per epoch. An epoch ends after 5 iterations on all ranks, so 2 batches of each "
        "epoch are not used. "
    )
    assert other.startswith(
        "only some ranks have more than 5 batches in this epoch, so the epoch ends on all ranks. At least 1 batch was not used. "
    )


def test_all_data_without_communication(run_ranks):
    """If the iterations call no collectives, as in an evaluation, each rank uses all its data, without a warning (D2)."""

    def scenario(rank):
        import warnings

        from glowplug import Engine, Events

        class Stream:
            def __iter__(self):
                return iter(range(3 + 4 * rank))

        results = []
        warnings.simplefilter("error")
        for data in (list(range(3 + 4 * rank)), Stream(), iter(range(3 + 4 * rank))):
            batches = []
            engine = Engine(lambda engine, batch, batches=batches: batches.append(batch))

            @engine.on(Events.ITERATION_COMPLETED)
            def ask(engine):
                # The ranks agree on this request at the end of the first epoch, before which they no longer meet.
                if engine.state.iteration == 3 and rank == 0 and not isinstance(data, list):  # noqa: B023 - called in this round
                    engine.terminate()

            state = engine.run(data, max_epochs=2, agree_every=1)
            results.append([batches, state.iteration, state.outcome.name])
        return results

    for rank, (sized, unsized, iterator) in enumerate(run_ranks(scenario)):
        data = list(range(3 + 4 * rank))
        assert sized == [2 * data, 2 * len(data), "COMPLETED"]
        assert unsized == iterator == [data, len(data), "TERMINATED"]


def test_interrupted_with_uneven_data(run_ranks):
    """An epoch of unequal data that was interrupted ends with the shortest data, too."""

    def scenario(rank):
        import warnings

        from glowplug import Engine, Events
        from glowplug.distributed import barrier

        warnings.simplefilter("ignore")
        engine = Engine(lambda engine, batch: barrier())
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
        data = range(7 - 2 * rank)
        engine.run(data, agree_every=1)
        first = engine.state.iteration
        return first, engine.run(data).iteration

    assert run_ranks(scenario) == [[3, 5]] * 2


def test_uneven_error(run_ranks):
    """With uneven="error", all ranks raise the same kind of error."""

    def scenario(rank):
        from glowplug import Engine

        errors = []
        for data in (range(5 + rank), (each for each in range(5 + rank))):
            engine = Engine(lambda engine, batch: batch)
            try:
                engine.run(data, uneven="error")
            except ValueError as error:
                errors.append([str(error).partition(".")[0], engine.state.iteration])
        return errors

    first, second = run_ranks(scenario)
    assert first == [
        ["the ranks have between 5 and 6 batches per epoch; this rank has 5", 0],
        ["only some ranks have more than 5 batches in this epoch", 5],
    ]
    assert second[0][0].endswith("this rank has 6")
    assert second[1] == first[1]


def test_given_length(run_ranks):
    """With epoch_length, each rank begins another pass when its data ends, and no batch is left out."""

    def scenario(rank):
        from glowplug import Engine

        batches = []
        Engine(lambda engine, batch: batches.append(batch)).run(range(3 + rank), max_epochs=2, epoch_length=5)
        return batches

    assert run_ranks(scenario) == [
        [0, 1, 2, 0, 1, 2, 0, 1, 2, 0],
        [0, 1, 2, 3, 0, 1, 2, 3, 0, 1],
    ]


def test_new_data(run_ranks):
    """Data that a handler sets begins again within the epoch, as with one rank."""

    def scenario(rank):
        from glowplug import Engine, Events

        batches = []
        engine = Engine(lambda engine, batch: batches.append(batch))
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: engine.set_data([7, 8 + rank]))
        engine.run(range(6), max_epochs=2)
        return batches

    assert run_ranks(scenario) == [[0, 1, 2, 7, 8, 7, 7, 8], [0, 1, 2, 7, 9, 7, 7, 9]]


def test_wrong_length(run_ranks):
    """If the data of one rank ends before its len(), this rank and the others raise an error instead of waiting."""

    def scenario(rank):
        from glowplug import Engine
        from glowplug.distributed import barrier

        class Short:
            def __len__(self):
                return 9

            def __iter__(self):
                return iter(range(9 - 4 * rank))

        try:
            Engine(lambda engine, batch: barrier()).run(Short())
        except RuntimeError as error:
            return f"{type(error).__name__}: {error}"

    first, second = run_ranks(scenario)
    assert second.startswith("RuntimeError: epoch 1: the data of this rank ended after 5 of 9 batches")
    assert first.startswith(
        "RankFailedError: rank 1 failed at iteration 5: RuntimeError: epoch 1: the data of"
    )


def test_engine_on_one_rank(run_ranks):
    """With agree_every=0, one rank alone can run an engine, and engines within its run, and its requests take effect at once."""

    def scenario(rank):
        from glowplug import Engine, Events

        trainer, evaluator, inner = (Engine(lambda engine, batch: None) for _ in range(3))
        evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=2), evaluator.terminate)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda: inner.run(range(3)))

        @trainer.on(Events.ITERATION_COMPLETED(every=2))
        def evaluate():
            if rank == 0:
                evaluator.run(range(5), agree_every=0)

        trainer.run(range(4), agree_every=1)
        return trainer.state.iteration, evaluator.state.iteration, inner.state.iteration

    assert run_ranks(scenario) == [[4, 2, 3], [4, 0, 0]]


def test_different_engines(run_ranks):
    """If only one rank runs an engine, all ranks raise an error that says where the ranks are, instead of waiting (D1)."""

    def scenario(rank):
        from glowplug import Engine, Events

        trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)

        @trainer.on(Events.ITERATION_COMPLETED(once=3))
        def evaluate():
            if rank == 0:
                evaluator.run(range(5))

        try:
            trainer.run(range(8), agree_every=1)
        except RuntimeError as error:
            return str(error)

    for message in run_ranks(scenario):
        assert message == (
            "the ranks are not at the same place of the script: one rank is at Events.ITERATION_COMPLETED (iteration 3) of run 1 and "
            "another one at Events.STARTED (epoch 0) of run 2. Each rank must run the same engines for the same number of iterations. If "
            "only some ranks run an engine, call its run() with agree_every=0"
        ), message


def test_engine_after_run(run_ranks):
    """After a run with votes, an engine can be copied, and nothing else holds it."""

    def scenario(rank):
        import copy
        import gc
        import weakref

        from glowplug import Engine

        gc.disable()
        engine = Engine(lambda engine, batch: None)
        engine.run(iter(range(5)))
        copied = copy.deepcopy(engine)
        alive = weakref.ref(engine)
        del engine
        return copied.state.iteration, alive() is None

    assert run_ranks(scenario) == [[5, True]] * 2


def test_one_rank_never_votes(run_ranks):
    """With one rank, a run calls no collective, although a process group exists."""

    def scenario(rank):
        import torch.distributed as dist

        from glowplug import Engine, Events

        def refuse(*args, **kwargs):
            raise AssertionError("a collective was called")

        dist.all_reduce = dist.new_group = dist.barrier = refuse
        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), engine.terminate)
        return engine.run(range(5), agree_every=1).iteration

    assert run_ranks(scenario, 1) == [3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agree_every": -1}, "agree_every must be an integer of at least 0, or None; got -1"),
        ({"agree_every": True}, "agree_every must be an integer of at least 0, or None; got True"),
        ({"uneven": "longest"}, "uneven must be 'shortest' or 'error', got 'longest'"),
    ],
)
def test_invalid_options(options, message):
    """Invalid options are refused with one rank too, before the run changes the engine."""
    engine = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.STARTED, pytest.fail)
    with pytest.raises(ValueError, match=message):
        engine.run([1], **options)


class TestPace:
    def gaps(self, monkeypatch, step, votes=12):
        """Return the distances that rank 0 chooses if iterations take the given seconds."""
        pace, iteration, now, gaps = Pace(), 1, 0.0, []
        monkeypatch.setattr("glowplug.engine._votes.perf_counter", lambda: now)
        for _ in range(votes):
            gaps.append(pace.next_gap(iteration))
            iteration, now = iteration + gaps[-1], now + gaps[-1] * step
        return gaps

    @pytest.mark.parametrize("step", [0.0001, 0.001, 0.02, 0.3, 2.0])
    def test_cost_and_delay(self, monkeypatch, step):
        """A vote of 4 ms takes at most 1 % of the time, and the delay is less than half a second or one iteration."""
        gap = self.gaps(monkeypatch, step)[-1]
        assert gap == 1 or gap * step <= 0.401
        assert (gap + 1) * step >= 0.4

    def test_growth(self, monkeypatch):
        """One fast iteration does not postpone the next vote by many iterations."""
        assert self.gaps(monkeypatch, 1e-5, 5) == [1, 4, 16, 64, 256]

    def test_fixed(self, monkeypatch):
        """A given distance stays."""
        pace = Pace(3)
        assert [pace.next_gap(iteration) for iteration in (1, 4, 7)] == [3, 3, 3]
