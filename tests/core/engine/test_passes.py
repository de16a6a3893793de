"""Epochs and passes: an epoch is one pass over the data, unless epoch_length is given."""

import random

import pytest

from glowplug import Engine, Events, RunOutcome, RunStart
from glowplug.exceptions import GlowplugWarning


class Claiming:
    """Re-iterable batches whose length may be wrong."""

    def __init__(self, count, claimed):
        self.count, self.claimed = count, claimed

    def __iter__(self):
        return iter(range(self.count))

    def __len__(self):
        return self.claimed


class Varying:
    """Re-iterable batches whose number differs in each pass."""

    def __init__(self, *counts):
        self.counts = list(counts)

    def __iter__(self):
        return iter(range(self.counts.pop(0)))


class TestWrongLength:
    @pytest.mark.parametrize(("claimed", "found"), [(5, "4"), (3, "more")])
    def test_epoch_follows_the_data(self, claimed, found, identity, batches):
        """Each epoch has all batches of its pass, and one warning names the claimed length."""
        epochs = batches(identity)
        with pytest.warns(
            GlowplugWarning, match=rf"epoch 1: len\(\) of the Claiming is {claimed}, .* {found} batches;"
        ) as warned:
            state = identity.run(Claiming(4, claimed), max_epochs=3)
        assert epochs == [[0, 1, 2, 3]] * 3
        assert (len(warned), state.epoch_length, state.epoch) == (1, 4, 3)

    @pytest.mark.parametrize(("claimed", "given"), [(5, 3), (3, 5), (4, 4)])
    def test_given_length_is_kept(self, claimed, given, identity, batches):
        """A given epoch_length cuts and restarts the passes, whatever the data claims (E-113, E-114)."""
        epochs = batches(identity)
        state = identity.run(Claiming(4, claimed), max_epochs=2, epoch_length=given)
        repeated = [i % 4 for i in range(2 * given)]
        assert epochs == [repeated[:given], repeated[given:]]
        assert state.epoch_length == given

    def test_events_of_a_longer_pass(self, identity, fired):
        """A batch beyond the claimed length fires the same events as any other batch."""
        names = fired(identity)
        with pytest.warns(GlowplugWarning, match="the data has more"):
            identity.run(Claiming(2, 1))
        iteration = ["GET_BATCH_STARTED", "GET_BATCH_COMPLETED", "ITERATION_STARTED", "ITERATION_COMPLETED"]
        assert names[2:-3] == [*iteration, *iteration, "GET_BATCH_STARTED"]

    def test_max_iters_at_the_claimed_length(self, identity, fired):
        """max_iters within a pass that claims to be over ends the run within the epoch (E-104)."""
        names = fired(identity, Events.TERMINATE, Events.EPOCH_COMPLETED)
        state = identity.run(Claiming(4, 3), max_iters=3)
        assert (names, state.iteration) == (["TERMINATE"], 3)

    def test_interrupted_at_the_claimed_length(self, identity, batches):
        """A run that is interrupted at the claimed end continues with the rest of the pass (E-138)."""
        epochs = batches(identity)
        identity.add_event_handler(Events.ITERATION_COMPLETED(once=3), identity.interrupt)
        identity.run(Claiming(4, 3), max_epochs=2)
        with pytest.warns(GlowplugWarning, match="the data has more"):
            state = identity.run()
        assert epochs == [[0, 1, 2, 3]] * 2
        assert state.outcome is RunOutcome.COMPLETED


class TestVaryingPasses:
    def test_epochs_have_the_lengths_of_the_passes(self, identity, batches):
        """Passes of 5, 3 and 6 batches are epochs of 5, 3 and 6 iterations, without a warning."""
        epochs, lengths = batches(identity), []
        identity.add_event_handler(Events.EPOCH_COMPLETED, lambda e: lengths.append(e.state.epoch_length))
        state = identity.run(Varying(5, 3, 6), max_epochs=3)
        assert [len(epoch) for epoch in epochs] == lengths == [5, 3, 6]
        assert (state.epoch, state.iteration) == (3, 14)

    def test_max_iters_counts_iterations(self, identity):
        """max_iters is reached although earlier passes were longer than later ones (E-105)."""
        assert identity.run(Varying(5, 3, 6, 5, 3), max_iters=20).iteration == 20

    def test_length_that_changes_between_passes(self, identity, batches):
        """The length is read again for each pass, so it may change between passes."""
        data, epochs = Claiming(2, 2), batches(identity)

        @identity.on(Events.EPOCH_COMPLETED)
        def grow():
            data.count = data.claimed = data.count + 1

        identity.run(data, max_epochs=3)
        assert [len(epoch) for epoch in epochs] == [2, 3, 4]

    def test_lengths_set_by_a_handler(self, identity, batches):
        """set_data() and state.epoch_length at EPOCH_COMPLETED give epochs of the wanted lengths 6, 1, 1, 1."""
        epochs = batches(identity)

        @identity.on(Events.EPOCH_COMPLETED)
        def shorten(engine):
            engine.set_data([7])
            engine.state.epoch_length = 1

        state = identity.run(range(6), max_epochs=4)
        assert epochs == [[0, 1, 2, 3, 4, 5], [7], [7], [7]]
        assert (state.epoch, state.outcome) == (4, RunOutcome.COMPLETED)

    def test_data_set_between_epochs(self, identity, batches):
        """After set_data() at EPOCH_COMPLETED each epoch is one pass over the new data (E-117)."""
        epochs = batches(identity)
        identity.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda e: e.set_data([7, 8, 9]))
        identity.run([1, 2], max_epochs=3)
        assert epochs == [[1, 2], [7, 8, 9], [7, 8, 9]]

    def test_epoch_start(self, identity):
        """state.epoch_start is the number of iterations before the current epoch."""
        starts = []
        for event in (Events.EPOCH_STARTED, Events.ITERATION_COMPLETED):
            identity.add_event_handler(event, lambda e: starts.append(e.state.epoch_start))
        identity.run(Varying(2, 1, 1), max_epochs=3)
        assert starts == [0, 0, 0, 2, 2, 3, 3]


def failing_once(at, error):
    """Return an engine whose step fails once at an iteration, and the batches of its completed steps."""
    done = []

    def step(engine, batch):
        if engine.state.iteration == at and error:
            raise error.pop()
        done.append(batch)

    return Engine(step), done


class TestFailedEpoch:
    @pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
    @pytest.mark.parametrize("at", [7, 10, 11, 27, 30])
    def test_continues_after_the_last_completed_iteration(self, at, error):
        """The next run() completes the failed epoch with each batch once, and ends after three whole epochs (E-158)."""
        engine, done = failing_once(at, [error])
        with pytest.raises(type(error)):
            engine.run(range(10), max_epochs=3)
        state = engine.run(range(10), max_epochs=3)
        assert done == [*range(10)] * 3
        assert (state.epoch, state.iteration, state.run_start) == (3, 30, RunStart.CONTINUED)

    def test_error_of_a_handler(self, identity, batches):
        """After an error at ITERATION_COMPLETED the completed iteration is not repeated (E-158)."""
        epochs, errors = batches(identity), [OSError("full")]

        @identity.on(Events.ITERATION_COMPLETED(once=7))
        def fail():
            if errors:
                raise errors.pop()

        with pytest.raises(OSError, match="full"):
            identity.run(range(10), max_epochs=3)
        state = identity.run(range(10), max_epochs=3)
        assert epochs == [[*range(7)], [7, 8, 9], [*range(10)], [*range(10)]]
        assert state.iteration == 30

    def test_state_where_it_continues(self):
        """Handlers of STARTED and EPOCH_STARTED see how far the continued epoch is (E-158)."""
        engine, _ = failing_once(17, [ValueError()])
        with pytest.raises(ValueError):
            engine.run(range(10), max_epochs=3)
        seen = []
        for event in (Events.STARTED, Events.EPOCH_STARTED):
            engine.add_event_handler(
                event, lambda e: seen.append((e.state.epoch, e.state.iteration, e.state.epoch_start))
            )
        engine.run(range(10), max_epochs=3)
        assert seen == [(1, 16, 10), (2, 16, 10), (3, 20, 20)]

    def test_generator_starts_the_epoch_again(self, caplog):
        """If the data cannot continue, the epoch starts again, and a message gives the reason (E-158)."""
        engine, done = failing_once(3, [ValueError()])
        with pytest.raises(ValueError):
            engine.run(iter(range(4)), max_epochs=2)
        state = engine.run([7, 8, 9], max_epochs=2)
        assert done == [0, 1, 7, 8, 9, 7, 8, 9]
        assert (state.epoch, state.iteration) == (2, 6)
        assert (
            "epoch 1 starts again instead of continuing after iteration 2: the run stopped after 2"
            in caplog.text
        )

    def test_failed_run_of_one_epoch_is_repeated(self):
        """A failed run of one epoch, such as an evaluation, starts again as a new run."""
        engine, done = failing_once(3, [ValueError()])
        with pytest.raises(ValueError):
            engine.run(range(4))
        state = engine.run(range(4))
        assert done == [0, 1, 0, 1, 2, 3]
        assert (state.iteration, state.run_start) == (4, RunStart.NEW)

    def test_without_data(self):
        """A failed run without data continues its epoch (E-018, E-158)."""
        engine, done = failing_once(3, [ValueError()])
        with pytest.raises(ValueError):
            engine.run(max_epochs=2, epoch_length=4)
        assert engine.run(max_epochs=2).iteration == 8
        assert len(done) == 8


def saved_at(event, data, max_epochs=3, prepare=lambda engine: None):
    """Run an engine, and return its state saved at an event and the batches of its steps."""
    engine, saved, seen = Engine(lambda engine, batch: seen.append(batch)), [], []
    prepare(engine)
    engine.add_event_handler(event, lambda e: saved.append(e.state_dict()))
    engine.run(data, max_epochs=max_epochs)
    return saved[0], seen


def resumed_from(saved, data, prepare=lambda engine: None, **limits):
    """Return the batches of a run that continues from a saved state."""
    seen = []
    engine = Engine(lambda engine, batch: seen.append(batch))
    prepare(engine)
    engine.load_state_dict(saved)
    engine.run(data, **limits)
    return engine, seen


class TestFinishedRun:
    def test_terminated_run_stays_terminated(self, caplog, fired):
        """A run that terminate() ended after an epoch does not train on when it is loaded, and says how to continue."""
        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(Events.EPOCH_COMPLETED(once=4), engine.terminate)
        saved, _ = [], engine.run([1, 2], max_epochs=10)
        for _ in range(3):
            other = Engine(lambda engine, batch: saved.append(batch))
            other.load_state_dict(engine.state_dict())
            names = fired(other)
            state = other.run([1, 2], max_epochs=10)
            assert names == ["STARTED", "TERMINATE", "COMPLETED", "TEARDOWN"]
            assert (state.epoch, state.outcome, saved) == (4, RunOutcome.TERMINATED, [])
            engine = other
        assert "the loaded run was already terminated after epoch 4" in caplog.text
        assert "call run() with max_epochs above 10" in caplog.text
        _, seen = resumed_from(engine.state_dict(), [1, 2], max_epochs=11)
        assert len(seen) == 14

    def test_saved_in_the_event_that_terminates(self):
        """A state saved after terminate() in the same event belongs to a terminated run."""
        saved, _ = saved_at(
            Events.EPOCH_COMPLETED(once=2),
            [1, 2],
            prepare=lambda e: e.add_event_handler(Events.EPOCH_COMPLETED(once=2), e.terminate),
        )
        assert resumed_from(saved, [1, 2])[1] == []

    def test_terminated_within_an_epoch_continues(self):
        """A run that terminate() ended within an epoch continues there."""
        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=4), engine.terminate)
        engine.run([1, 2, 3], max_epochs=2)
        assert resumed_from(engine.state_dict(), [1, 2, 3])[1] == [2, 3]

    def test_completed_run_says_so(self, caplog):
        """A loaded run that has reached its limit names the limit to raise."""
        saved, _ = saved_at(Events.COMPLETED, [1, 2])
        engine, seen = resumed_from(saved, [1, 2], max_epochs=3)
        assert (seen, engine.state.outcome) == ([], RunOutcome.COMPLETED)
        assert "the loaded run has already ended after epoch 3" in caplog.text


def shuffling_in_place(data):
    """Return a function that lets an engine shuffle a list at each EPOCH_STARTED."""
    return lambda engine: engine.add_event_handler(Events.EPOCH_STARTED, lambda: random.shuffle(data))


def shuffling_copies(engine):
    """Let an engine set a shuffled copy of its data at each EPOCH_STARTED."""
    engine.add_event_handler(Events.EPOCH_STARTED, lambda e: e.set_data(random.sample(range(10), 10)))


class TestShuffledList:
    def test_same_random_numbers_again(self):
        """A handler of EPOCH_STARTED that draws an order draws the same order again on resume (C4)."""
        random.seed(3)
        saved, seen = saved_at(Events.ITERATION_COMPLETED(once=14), range(10), prepare=shuffling_copies)
        random.seed(4)
        _, rest = resumed_from(saved, range(10), prepare=shuffling_copies)
        assert rest == seen[14:]

    def test_order_that_cannot_be_restored_is_refused(self):
        """A list in another order than in the saved run is refused within an epoch, with the reason (C4)."""
        random.seed(3)
        data = [*range(10)]
        saved, _ = saved_at(Events.ITERATION_COMPLETED(once=14), data, prepare=shuffling_in_place(data))
        data = [*range(10)]
        with pytest.raises(ValueError, match="the items of the list have since been changed or reordered"):
            resumed_from(saved, data, prepare=shuffling_in_place(data))

    def test_any_order_at_the_end_of_an_epoch(self):
        """At the end of an epoch the order does not matter, since another pass begins (C4)."""
        data = [*range(10)]
        saved, _ = saved_at(Events.EPOCH_COMPLETED(once=1), data)
        data.reverse()
        assert resumed_from(saved, data)[1] == data * 2


class TestOtherLength:
    @pytest.mark.parametrize("event", [Events.EPOCH_COMPLETED(once=1), Events.ITERATION_COMPLETED(once=10)])
    def test_allowed_at_the_end_of_an_epoch(self, event):
        """A state of the end of an epoch continues with data of another length, such as another batch size (C4)."""
        saved, _ = saved_at(event, range(10))
        engine, seen = resumed_from(saved, range(5))
        assert seen == [*range(5)] * 2
        assert (engine.state.epoch, engine.state.iteration) == (3, 20)

    def test_refused_within_an_epoch(self):
        """Within an epoch data of another length is refused (C4)."""
        saved, _ = saved_at(Events.ITERATION_COMPLETED(once=9), range(10))
        with pytest.raises(
            ValueError,
            match="stopped after 9 batches, and its data had length 10, but this data has length 5",
        ):
            resumed_from(saved, range(5))
