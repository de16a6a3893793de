"""Preemption in one process: when it saves, what it saves, and how the run ends."""

import functools
import logging
import os
import signal
import threading
import time

import pytest
import torch
from torch import nn

from glowplug import Engine, Events, Phase, RunOutcome
from glowplug.exceptions import PreemptionExit
from glowplug.loggers import Logger
from glowplug.testing import FakeEngine
from glowplug_preemption import Preemption

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


@pytest.fixture(autouse=True)
def former_handlers():
    """The signal handlers of the test, which each run must restore."""

    def former(signum, frame):
        raise AssertionError("a former signal handler was called")

    before = [signal.signal(each, former) for each in SIGNALS]
    yield
    assert [signal.getsignal(each) for each in SIGNALS] == [former] * len(SIGNALS)
    for each, handler in zip(SIGNALS, before, strict=True):
        signal.signal(each, handler)


class Save:
    """A checkpoint handler that keeps the engine's state in memory."""

    phase = Phase.CHECKPOINT

    def __init__(self):
        self.states = []
        self.events = []

    def __call__(self, engine):
        self.states.append(engine.state_dict())
        self.events.append(engine.current_event)


def send(engine, event, signum=signal.SIGTERM):
    """Raise a signal in this process at an event."""
    engine.add_event_handler(event, lambda: signal.raise_signal(signum))


def preempted(engine, data=range(5), max_epochs=3):
    """Run an engine that is preempted, and return its exit code."""
    with pytest.raises(PreemptionExit) as caught:
        engine.run(data, max_epochs=max_epochs)
    return caught.value.code


RARELY = Events.EPOCH_COMPLETED(every=100)


def trainer_with(*handlers, event=RARELY):
    """Return an engine with Preemption and checkpoint handlers."""
    engine = Engine(lambda engine, batch: batch)
    preemption = Preemption()
    engine.attach(preemption)
    for handler in handlers:
        engine.add_event_handler(event, handler)
    return engine, preemption


class TestSaving:
    @pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
    def test_each_signal(self, signum, caplog):
        """After each of the signals, the run ends in the same iteration with a checkpoint and exit code 75 (C6)."""
        save = Save()
        engine, preemption = trainer_with(save)
        send(engine, Events.ITERATION_STARTED(once=7), signum)
        with caplog.at_level(logging.WARNING, "glowplug_preemption"):
            assert preempted(engine) == 75
        assert [state["iteration"] for state in save.states] == [7]
        assert preemption.reason == signum.name
        assert caplog.messages == [
            f"{signum.name} at epoch 2, iteration 7: Save saved; the process ends with exit code 75"
        ]

    @pytest.mark.parametrize(
        ("event", "iteration"),
        [
            (Events.STARTED, 0),
            (Events.EPOCH_STARTED(once=2), 6),
            (Events.GET_BATCH_STARTED(once=2), 3),
            (Events.GET_BATCH_COMPLETED(once=2), 3),
            (Events.ITERATION_COMPLETED(once=5), 5),
            (Events.EPOCH_COMPLETED(once=2), 10),
            (Events.COMPLETED, 15),
            (Events.TEARDOWN, 15),
        ],
        ids=lambda value: str(value),
    )
    def test_each_event(self, event, iteration):
        """A signal at any event of the run leads to one save and the exit code (C6)."""
        save = Save()
        engine, _ = trainer_with(save)
        if event is Events.TEARDOWN:
            # A handler that runs before the signals are restored.
            class Early:
                phase = Phase.METRICS

                def __call__(self, engine):
                    pass

            engine.add_event_handler(event, Early())
            send(engine, Events.COMPLETED)
        else:
            send(engine, event)
        assert preempted(engine) == 75
        assert [state["iteration"] for state in save.states] == [iteration]
        assert engine.state.outcome is RunOutcome.INTERRUPTED

    def test_resumed_run_equals_the_whole_run(self):
        """A run preempted after any iteration, and resumed, has the weights of the run that was never preempted (C4, C6)."""

        def make():
            torch.manual_seed(3)
            model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 1))
            optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

            def step(engine, batch):
                optimizer.zero_grad()
                model(batch).square().mean().backward()
                optimizer.step()

            engine = Engine(step)
            kept = {}

            class SaveAll(Save):
                def __call__(self, engine):
                    parts = (model, optimizer, engine)
                    kept["states"] = [
                        {**part.state_dict(), "weights": [w.clone() for w in model.parameters()]}
                        if part is model
                        else part.state_dict()
                        for part in parts
                    ]

            engine.add_event_handler(Events.EPOCH_COMPLETED(every=100), SaveAll())
            Preemption().attach(engine)
            return engine, model, optimizer, kept

        torch.manual_seed(1)
        data = list(torch.randn(4, 2, 4))
        engine, whole, *_ = make()
        engine.run(data, max_epochs=3)
        for iteration in range(1, 13):
            engine, _, _, kept = make()
            send(engine, Events.ITERATION_STARTED(once=iteration))
            preempted(engine, data)
            weights = kept["states"][0].pop("weights")
            resumed, other, other_optimizer, _ = make()
            torch.manual_seed(99)
            other.load_state_dict(dict(zip(other.state_dict(), weights, strict=True)))
            other_optimizer.load_state_dict(kept["states"][1])
            resumed.load_state_dict(kept["states"][2])
            resumed.run(data)
            for expected, actual in zip(whole.parameters(), other.parameters(), strict=True):
                assert torch.equal(expected, actual)

    def test_signal_during_a_validation(self):
        """A signal in a nested run takes effect after all handlers of the trainer's event, so none is skipped on resume (C6)."""
        save, calls = Save(), []
        engine, _ = trainer_with(save)
        evaluator = Engine(lambda engine, batch: signal.raise_signal(signal.SIGTERM) if batch == 1 else None)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(range(3)))
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: calls.append("later handler"))
        assert preempted(engine) == 75
        assert evaluator.state.outcome is RunOutcome.COMPLETED
        assert calls == ["later handler"]
        assert save.states[0]["resume"]["epoch_iterations"] is None
        resumed = Engine(lambda engine, batch: batch)
        resumed.load_state_dict(save.states[0])
        assert resumed.run(range(5)).iteration == 15

    def test_early_stop_is_not_continued(self):
        """If a handler terminates the run in the same event, the saved run is complete."""
        save = Save()
        engine, _ = trainer_with(save)
        send(engine, Events.EPOCH_COMPLETED(once=2))
        engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda e: e.terminate())
        assert preempted(engine) == 75
        assert [state["resume"]["terminated"] for state in save.states] == [True]

    def test_event_name(self):
        """With event_name, the run ends only at the given iterations."""
        save, engine = Save(), Engine(lambda engine, batch: batch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, save)
        Preemption().attach(engine, Events.ITERATION_COMPLETED(every=4))
        send(engine, Events.ITERATION_STARTED(once=1))
        preempted(engine)
        assert [state["iteration"] for state in save.states] == [4]

    def test_max_minutes(self):
        """After max_minutes, counted from the creation of the handler, the run ends as after a signal."""
        save, engine = Save(), Engine(lambda engine, batch: time.sleep(0.01))
        engine.add_event_handler(Events.EPOCH_COMPLETED, save)
        began = time.monotonic()
        preemption = Preemption(max_minutes=0.3 / 60)
        preemption.attach(engine)
        assert preempted(engine, range(1000)) == 75
        assert 0.3 <= time.monotonic() - began < 5
        assert len(save.states) == 1
        assert preemption.reason == "max_minutes"

    def test_a_run_within_max_minutes_completes(self):
        """A run that ends before the limit is not preempted."""
        engine = Engine(lambda engine, batch: batch)
        preemption = Preemption(max_minutes=1)
        preemption.attach(engine)
        assert engine.run(range(3)).outcome is RunOutcome.COMPLETED
        assert preemption.reason is None


class TestWhichHandlersSave:
    def test_event_of_the_handler_is_current(self):
        """A handler saves as at its event, so that functions of the event find their counter, and with its arguments."""
        seen = []

        class SaveWith(Save):
            def __call__(self, engine, objects):
                seen.append((engine.current_event, engine.state.get_event_attrib_value(engine.current_event)))
                seen.append(objects)

        engine = Engine(lambda engine, batch: batch)
        Preemption().attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=100), SaveWith(), {"model": 1})
        send(engine, Events.ITERATION_STARTED(once=7))
        preempted(engine)
        assert seen == [(Events.EPOCH_COMPLETED, 2), {"model": 1}]

    def test_each_once(self):
        """A handler saves once, even if it is attached to several events, by a partial or by a method."""
        save, engine = Save(), Engine(lambda engine, batch: batch)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=100) | Events.COMPLETED, save)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=50), functools.partial(save))
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=50), save.__call__)
        Preemption().attach(engine)
        send(engine, Events.ITERATION_STARTED(once=2))
        preempted(engine)
        assert len(save.states) == 1

    def test_scores(self):
        """A handler that ranks by score does not save, so a missing score is no error."""

        class Best(Save):
            def score_function(self, engine):
                raise KeyError("score is missing")

            def __call__(self, engine):
                self.score_function(engine)

        save, best = Save(), Best()
        engine, _ = trainer_with(best, save)
        send(engine, Events.ITERATION_STARTED(once=2))
        assert preempted(engine) == 75
        assert (len(save.states), len(best.states)) == (1, 0)

    def test_save_now(self):
        """A handler with save_now saves with this method, whatever its score and its events are."""

        class Own(Save):
            score_function = len

            def save_now(self, engine):
                self.states.append("now")
                return True

        own = Own()
        engine, _ = trainer_with(own, event=Events.EXCEPTION_RAISED)
        send(engine, Events.ITERATION_STARTED(once=2))
        preempted(engine)
        assert own.states == ["now"]

    def test_failing_save(self, caplog):
        """If one handler fails to save, the others save, and the run fails with its exception, not with exit code 75."""

        class Failing(Save):
            def __call__(self, engine):
                raise OSError("disk full")

        save = Save()
        engine, _ = trainer_with(Failing(), save)
        send(engine, Events.ITERATION_STARTED(once=2))
        with pytest.raises(OSError, match="disk full"):
            engine.run(range(5))
        assert len(save.states) == 1
        assert engine.state.outcome is RunOutcome.FAILED
        assert (
            "TestWhichHandlersSave.test_failing_save.<locals>.Failing could not save a checkpoint"
            in caplog.text
        )

    def test_no_checkpoint_handler(self, caplog):
        """Without a checkpoint handler, the start of the run says that nothing will be saved."""
        engine, _ = trainer_with()
        engine.run(range(2))
        assert "will end the run without a checkpoint" in caplog.text

    def test_dead_data_worker(self):
        """If the signal has killed a data worker, the last completed iteration is saved and the run does not fail."""

        class Data:
            def __iter__(self):
                yield from range(3)
                signal.raise_signal(signal.SIGTERM)
                raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")

        save = Save()
        engine, _ = trainer_with(save)
        assert preempted(engine, Data()) == 75
        assert [state["iteration"] for state in save.states] == [3]
        assert engine.state.outcome is RunOutcome.INTERRUPTED


class TestEnd:
    def test_events(self):
        """TEARDOWN fires after the save; COMPLETED, EXCEPTION_RAISED and the handlers of INTERRUPT do not run."""
        order = []

        class Noting(Save):
            def __call__(self, engine):
                order.append("saved")

        engine, _ = trainer_with(Noting())
        for event in Events:
            if event not in {Events.EXCEPTION_RAISED, Events.TERMINATE_SINGLE_EPOCH}:
                engine.add_event_handler(event, lambda event=event: order.append(event.name))
        engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: order.append("EXCEPTION_RAISED"))
        send(engine, Events.ITERATION_STARTED(once=2))
        preempted(engine)
        assert order[-3:] == ["ITERATION_COMPLETED", "saved", "TEARDOWN"]

    def test_continued_in_the_same_process(self):
        """If the exit is caught, the next run continues after the last iteration, and can be preempted again."""
        save, seen = Save(), []
        engine = Engine(lambda engine, batch: seen.append(batch))
        engine.add_event_handler(Events.EPOCH_COMPLETED, save)
        preemption = Preemption()
        preemption.attach(engine)
        send(engine, Events.ITERATION_STARTED(lambda engine, iteration: iteration in {2, 7}))
        preempted(engine, list(range(5)), max_epochs=2)
        assert (seen, preemption.reason) == ([0, 1], "SIGTERM")
        preempted(engine, list(range(5)), max_epochs=2)
        assert engine.run(list(range(5)), max_epochs=2).outcome is RunOutcome.COMPLETED
        assert seen == [*range(5), *range(5)]
        assert preemption.reason is None

    def test_loggers(self):
        """Loggers deliver their records and end their runs as interrupted, also in a with block or without an engine."""
        ended = []

        class Recorder(Logger):
            def __init__(self, name):
                self.name = name
                super().__init__()
                self.stored = []

            def write_scalars(self, scalars, step, timestamp):
                self.stored.append(step)

            def close_backend(self, outcome):
                ended.append((self.name, self.stored, outcome))

        loose, attached = Recorder("loose"), Recorder("attached")
        engine, _ = trainer_with(Save())
        attached.attach(
            engine,
            Events.ITERATION_COMPLETED,
            lambda e, log, event: log.log_scalars({"a": 1.0}, e.state.iteration),
        )
        loose.log_scalars({"a": 1.0}, 1)
        send(engine, Events.ITERATION_STARTED(once=2))
        within = Recorder("within")
        within.log_scalars({"a": 1.0}, 1)
        with pytest.raises(PreemptionExit), within:
            engine.run(range(5))
        assert sorted(ended) == [
            ("attached", [1, 2], RunOutcome.INTERRUPTED),
            ("loose", [1], RunOutcome.INTERRUPTED),
            ("within", [1], RunOutcome.INTERRUPTED),
        ]

    def test_logger_in_a_with_block_inside_the_exit(self):
        """A logger that is open when PreemptionExit leaves its with block ends its run as interrupted."""
        ended = []

        class Recorder(Logger):
            def write_scalars(self, scalars, step, timestamp):
                pass

            def close_backend(self, outcome):
                ended.append(outcome)

        logger = Recorder()
        logger.log_scalars({"a": 1.0}, 1)
        with pytest.raises(PreemptionExit), logger:
            raise PreemptionExit(75)
        assert ended == [RunOutcome.INTERRUPTED]

    @pytest.mark.parametrize("how", ["completes", "fails", "is interrupted"])
    def test_former_handlers(self, how):
        """After a run without a signal, the former handlers are restored; an interrupted run receives signals again later (C6)."""
        save = Save()
        engine, _ = trainer_with(save)
        during = []
        engine.add_event_handler(
            Events.ITERATION_STARTED, lambda: during.append(signal.getsignal(signal.SIGTERM))
        )
        before = signal.getsignal(signal.SIGTERM)

        def act(engine):
            if how == "fails":
                raise ValueError("step failed")
            if how == "is interrupted":
                engine.interrupt()

        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), act)
        if how == "fails":
            with pytest.raises(ValueError, match="step failed"):
                engine.run(range(5))
        else:
            engine.run(range(5))
        assert signal.getsignal(signal.SIGTERM) is before
        assert before not in during
        if how == "is interrupted":
            send(engine, Events.ITERATION_STARTED(once=4))
            assert preempted(engine, None, None) == 75
            assert [state["iteration"] for state in save.states] == [4]

    def test_detached_while_interrupted(self):
        """A handler that is detached while the run is interrupted receives no signals when the run continues."""
        engine = Engine(lambda engine, batch: batch)
        before, during = signal.getsignal(signal.SIGTERM), []
        handle = Preemption().attach(engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.interrupt())
        engine.add_event_handler(
            Events.ITERATION_STARTED(once=4), lambda: during.append(signal.getsignal(signal.SIGTERM))
        )
        engine.run(range(5))
        handle.remove()
        engine.run()
        assert during == [before]

    def test_failure_after_the_signal(self):
        """A step that fails after the signal raises its own exception, and nothing half-done is saved."""
        save = Save()

        def step(engine, batch):
            signal.raise_signal(signal.SIGTERM)
            raise ValueError("step failed")

        engine = Engine(step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, save)
        Preemption().attach(engine)
        with pytest.raises(ValueError, match="step failed"):
            engine.run(range(5))
        assert save.states == []

    def test_another_thread(self, caplog):
        """On another thread than the main one, no signals are received, and the log says so."""
        engine, _ = trainer_with(Save())
        thread = threading.Thread(target=engine.run, args=(range(3),))
        thread.start()
        thread.join()
        assert engine.state.outcome is RunOutcome.COMPLETED
        assert "Preemption receives no signals" in caplog.text

    def test_ignored_signal(self):
        """A signal that the process ignores stays ignored, as in a background job of a shell."""
        save = Save()
        engine, _ = trainer_with(save)
        send(engine, Events.ITERATION_STARTED(once=2), signal.SIGINT)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            assert engine.run(range(3)).outcome is RunOutcome.COMPLETED
        finally:
            assert signal.signal(signal.SIGINT, before) is signal.SIG_IGN

    def test_forked_process(self):
        """A forked process, such as a data worker, survives SIGINT and SIGUSR1, and SIGTERM ends it."""

        def forked(signum):
            process = os.fork()
            if not process:
                signal.raise_signal(signum)
                os._exit(3)
            return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

        engine, codes = Engine(lambda engine, batch: batch), []
        Preemption().attach(engine)
        engine.add_event_handler(Events.STARTED, lambda: codes.extend(map(forked, SIGNALS)))
        engine.run([1])
        assert codes == [-signal.SIGTERM, 3, 3]


class TestSlurm:
    @pytest.fixture
    def scontrol(self, tmp_path, monkeypatch):
        """A fake ``scontrol`` on PATH, which records its arguments; return the record."""
        record = tmp_path / "record"
        program = tmp_path / "scontrol"
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {record}\necho refused >&2\nexit ${{SCONTROL_CODE:-0}}\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.setenv("SLURM_JOB_ID", "4711")
        return record

    def run(self, signum, requeue=True):
        engine, save = Engine(lambda engine, batch: batch), Save()
        engine.add_event_handler(Events.EPOCH_COMPLETED, save)
        Preemption(requeue=requeue).attach(engine)
        send(engine, Events.ITERATION_STARTED(once=2), signum)
        assert preempted(engine) == 75
        assert len(save.states) == 1

    def test_requeue(self, scontrol, caplog):
        """After SIGUSR1, the job of SLURM_JOB_ID is requeued."""
        self.run(signal.SIGUSR1)
        assert scontrol.read_text() == "requeue 4711\n"
        assert "Slurm has requeued job 4711" in caplog.text

    def test_after_teardown(self, scontrol):
        """The job is requeued last, because Slurm then ends its processes: after the handlers of TEARDOWN."""
        engine, seen = Engine(lambda engine, batch: batch), []
        Preemption(requeue=True).attach(engine)
        engine.add_event_handler(Events.TEARDOWN, lambda: seen.append(scontrol.exists()))
        engine.add_event_handler(Events.TEARDOWN, _Late(lambda: seen.append(scontrol.exists())))
        send(engine, Events.ITERATION_STARTED(once=2), signal.SIGUSR1)
        preempted(engine)
        assert seen == [False, False]
        assert scontrol.exists()

    def test_time_limit(self, scontrol):
        """After max_minutes, the job is requeued."""
        engine = Engine(lambda engine, batch: batch)
        Preemption(max_minutes=1e-9, requeue=True).attach(engine)
        preempted(engine)
        assert scontrol.read_text() == "requeue 4711\n"

    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
    def test_cancelled_job(self, scontrol, signum):
        """A job that is cancelled with SIGTERM or SIGINT is not requeued."""
        self.run(signum)
        assert not scontrol.exists()

    def test_off_by_default(self, scontrol):
        """Without requeue=True, scontrol is not called."""
        self.run(signal.SIGUSR1, requeue=False)
        assert not scontrol.exists()

    def test_failure(self, scontrol, monkeypatch, caplog):
        """If scontrol fails, the log says why, and the exit code is the same."""
        monkeypatch.setenv("SCONTROL_CODE", "1")
        self.run(signal.SIGUSR1)
        assert "scontrol requeue 4711 failed with exit code 1: refused" in caplog.text

    def test_no_scontrol(self, scontrol, monkeypatch, caplog):
        """If scontrol is missing, the log says so, and the exit code is the same."""
        monkeypatch.setenv("PATH", "")
        self.run(signal.SIGUSR1)
        assert "scontrol requeue 4711 failed: [Errno 2]" in caplog.text

    def test_no_job(self, scontrol, monkeypatch, caplog):
        """Outside a Slurm job, the log says that nothing was requeued."""
        monkeypatch.delenv("SLURM_JOB_ID")
        self.run(signal.SIGUSR1)
        assert not scontrol.exists()
        assert "SLURM_JOB_ID is not set" in caplog.text


class _Late:
    """A TEARDOWN handler of the last phase, such as the flush of an asynchronous checkpoint."""

    phase = Phase.CHECKPOINT

    def __init__(self, function):
        self.function = function

    def __call__(self, engine):
        self.function()


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"signals": ["SIGFOO"]}, ValueError, "got 'SIGFOO'"),
            ({"signals": ["SIGKILL"]}, ValueError, "got 'SIGKILL'"),
            ({"signals": "SIGTERM"}, TypeError, r"pass \['SIGTERM'\]"),
            ({"max_minutes": 0}, ValueError, "max_minutes must be above 0"),
            ({"max_minutes": float("nan")}, ValueError, "max_minutes must be above 0"),
            ({"exit_code": 0}, ValueError, "exit_code must be an integer from 1 to 255"),
        ],
    )
    def test_wrong_options(self, options, error, message):
        """A wrong option is refused with its value."""
        with pytest.raises(error, match=message):
            Preemption(**options)

    def test_one_for_each_engine(self):
        """A second handler on an engine is refused until the first one is detached."""
        fake = FakeEngine()
        handle = Preemption().attach(fake)
        with pytest.raises(ValueError, match="already has a Preemption handler"):
            Preemption().attach(fake)
        handle.remove()
        Preemption().attach(fake).remove()
        assert fake.registrations() == ()

    def test_exit_code(self):
        """The exit code can be chosen."""
        engine = Engine(lambda engine, batch: batch)
        Preemption(exit_code=85).attach(engine)
        send(engine, Events.STARTED)
        assert preempted(engine) == 85
