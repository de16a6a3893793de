"""The learning rates, the recorded losses and the end of a search."""

import math
import warnings

import pytest
import torch
from torch import nn

from glowplug import Engine, Events, Phase, RunOutcome
from glowplug.exceptions import GlowplugWarning
from glowplug_lr_finder import FastaiLRFinder, LRFinder

# Most searches here end before the loss diverges.
pytestmark = pytest.mark.filterwarnings("ignore:FastaiLRFinder. the loss did not diverge")


def trainer_of(losses=None, groups=1, lr=0.001):
    """Return a trainer that records the learning rates that its steps use, its optimizer and these learning rates."""
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(groups)]
    optimizer = torch.optim.SGD([{"params": [each], "lr": lr * (i + 1)} for i, each in enumerate(parameters)])
    used = []

    def step(engine, batch):
        used.append([group["lr"] for group in optimizer.param_groups])
        return 1.0 if losses is None else losses[engine.state.iteration - 1]

    return Engine(step), optimizer, used


def search(trainer, optimizer, batches=10, run=None, **options):
    """Run a search, and return its results."""
    finder = FastaiLRFinder()
    with finder.attach(trainer, {"optimizer": optimizer}, **options) as inner:
        assert inner is trainer
        trainer.run(range(batches), **(run or {}))
    return finder.get_results()


class TestRates:
    def test_exponential(self):
        """The learning rate rises by a constant factor up to end_lr, and is recorded as the step used it (H-103)."""
        trainer, optimizer, used = trainer_of()
        results = search(trainer, optimizer, num_iter=4)
        assert results["lr"] == pytest.approx([0.01, 0.1, 1.0, 10.0])
        assert [[rate] for rate in results["lr"]] == used

    def test_linear(self):
        """The learning rate rises by a constant difference, from start_lr on (H-103)."""
        trainer, optimizer, used = trainer_of()
        results = search(trainer, optimizer, num_iter=4, start_lr=1, end_lr=3, step_mode="linear")
        assert results["lr"] == [1.0, 1.5, 2.0, 2.5]
        assert [[rate] for rate in results["lr"]] == used

    @pytest.mark.parametrize("step_mode", ["exp", "linear"])
    def test_groups(self, step_mode):
        """Each parameter group has its own learning rates (H-103)."""
        trainer, optimizer, used = trainer_of(groups=2)
        options = {"start_lr": [0.1, 1.0], "end_lr": [10.0, 100.0], "step_mode": step_mode}
        results = search(trainer, optimizer, num_iter=2, **options)
        expected = [[1.0, 10.0], [10.0, 100.0]] if step_mode == "exp" else [[0.1, 1.0], [5.05, 50.5]]
        for rates, recorded, wanted in zip(used, results["lr"], expected, strict=True):
            assert rates == recorded == pytest.approx(wanted)

    def test_schedulers_of_the_user(self):
        """Handlers that set the learning rate, even at ITERATION_STARTED, do not disturb the search (H-103)."""
        trainer, optimizer, used = trainer_of()
        for event in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED):

            def change(engine):
                optimizer.param_groups[0]["lr"] = 77.0

            change.phase = Phase.LOGGING
            trainer.add_event_handler(event, change)
        results = search(trainer, optimizer, num_iter=3)
        assert [[rate] for rate in results["lr"]] == used

    def test_tensor(self):
        """A learning rate that is a tensor stays the same tensor during the search (H-103)."""
        trainer, optimizer, used = trainer_of()
        tensor = optimizer.param_groups[0]["lr"] = torch.tensor(0.001, dtype=torch.double)
        search(trainer, optimizer, num_iter=3)
        assert all(rates[0] is tensor for rates in used)
        assert optimizer.param_groups[0]["lr"].item() == 0.001


class TestLength:
    @pytest.mark.parametrize(
        ("options", "run", "expected"),
        [
            ({}, {}, 10),
            ({}, {"max_epochs": 2}, 20),
            ({}, {"max_iters": 7}, 7),
            ({"num_iter": 4}, {}, 4),
            ({"num_iter": 10}, {}, 10),
            ({"num_iter": 25}, {}, 25),
            ({"num_iter": 25}, {"max_iters": 7}, 25),
        ],
    )
    def test_iterations(self, options, run, expected):
        """A search has num_iter iterations, by default those of the run; the data is repeated if necessary (H-103)."""
        trainer, optimizer, used = trainer_of()
        results = search(trainer, optimizer, run=run, **options)
        assert len(used) == len(results["lr"]) == len(results["loss"]) == expected
        assert results["lr"][-1] == pytest.approx(10.0)

    def test_no_length(self):
        """Data without a length needs num_iter, and an error says so before the first iteration (H-103)."""
        trainer, optimizer, used = trainer_of()
        finder = FastaiLRFinder()
        with (
            pytest.raises(ValueError, match="pass num_iter"),
            finder.attach(trainer, {"optimizer": optimizer}),
        ):
            trainer.run(iter(range(5)))
        assert used == []
        with finder.attach(trainer, {"optimizer": optimizer}, num_iter=3):
            trainer.run(iter(range(5)))
        assert len(finder.get_results()["lr"]) == 3

    def test_continued_run(self):
        """In a trainer that has completed iterations, the search is a new run, and the trainer continues afterwards (H-103)."""
        trainer, optimizer, _ = trainer_of()
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), trainer.terminate)
        trainer.run(range(5), max_epochs=3)
        results = search(trainer, optimizer, batches=5)
        assert len(results["lr"]) == 5
        assert results["lr"][-1] == pytest.approx(10.0)
        assert trainer.state.iteration == 5
        assert trainer.run(range(5)).iteration == 15

    def test_two_runs(self):
        """A second run in the block is a new search (H-103)."""
        trainer, optimizer, _ = trainer_of()
        finder = FastaiLRFinder()
        with finder.attach(trainer, {"optimizer": optimizer}, num_iter=3):
            for _ in range(2):
                trainer.run(range(2), max_epochs=1)
                assert len(finder.get_results()["lr"]) == 3


class TestLoss:
    def test_smoothing(self):
        """The recorded loss is smoothed (H-103)."""
        trainer, optimizer, _ = trainer_of([1.0, 2.0, 0.5])
        results = search(trainer, optimizer, batches=3, smooth_f=0.5)
        assert results["loss"] == [1.0, 1.5, 1.0]
        assert search(trainer, optimizer, batches=3, smooth_f=0)["loss"] == [1.0, 2.0, 0.5]

    @pytest.mark.parametrize(
        ("output", "transform"),
        [
            (torch.tensor(2.0), None),
            (torch.tensor([2.0]), None),
            (torch.tensor([[2.0]], requires_grad=True), None),
            (2, None),
            (torch.tensor(2.0).numpy(), lambda output: output.item()),
            ({"loss": 2.0}, lambda output: output["loss"]),
            ((0, (2.0, None)), lambda output: output[1][0]),
        ],
    )
    def test_outputs(self, output, transform):
        """The loss is a number or a tensor with one element, which output_transform may extract (H-103)."""
        trainer, optimizer, _ = trainer_of([output])
        options = {} if transform is None else {"output_transform": transform}
        results = search(trainer, optimizer, batches=1, **options)
        assert results["loss"] == [2.0]
        assert type(results["loss"][0]) is float

    @pytest.mark.parametrize(
        ("output", "error", "message"),
        [
            ([10], TypeError, "number or a tensor with one element, got list; pass output_transform"),
            ((10, 5), TypeError, "got tuple"),
            (None, TypeError, "got NoneType"),
            (torch.tensor([1.0, 2.0]), ValueError, r"tensor of shape \(2,\)"),
        ],
    )
    def test_wrong_outputs(self, output, error, message):
        """Other outputs raise an error that says what to do (H-103)."""
        trainer, optimizer, _ = trainer_of([output])
        with pytest.raises(error, match=message):
            search(trainer, optimizer)

    def test_ranks(self, run_ranks):
        """The losses of all ranks are added, and all ranks stop at the same iteration (H-103, D1)."""

        def find(rank):
            import torch

            from glowplug import Engine
            from glowplug_lr_finder import FastaiLRFinder

            losses = [[1.0, 0.5, 0.5, 9.0, 9.0], [1.0, 0.5, 0.5, 0.5, 0.5]][rank]
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
            trainer, finder = Engine(lambda engine, batch: batch), FastaiLRFinder()
            with finder.attach(trainer, {"optimizer": optimizer}, smooth_f=0, diverge_th=2):
                trainer.run(losses)
            return finder.get_results()["loss"]

        assert run_ranks(find) == [[2.0, 1.0, 1.0, 9.5]] * 2


class TestDivergence:
    @pytest.mark.parametrize(
        ("losses", "expected"),
        [
            ([1.0, 0.5, 1.0, 1.1, 9.0], [1.0, 0.5, 1.0, 1.1]),
            # A positive limit would be exceeded at once.
            ([-1.0, -2.0, -0.5, 1.0, 0.0], [-1.0, -2.0, -0.5, 1.0]),
            ([1.0, 0.5, math.nan, 0.5], [1.0, 0.5]),
            ([1.0, 0.5, math.inf, 0.5], [1.0, 0.5]),
        ],
    )
    def test_end(self, losses, expected):
        """The search ends at a loss above diverge_th times the best, or one that is not finite (H-103)."""
        trainer, optimizer, _ = trainer_of(losses)
        outcomes = []
        trainer.add_event_handler(Events.TEARDOWN, lambda engine: outcomes.append(engine.state.outcome))
        results = search(trainer, optimizer, batches=len(losses), smooth_f=0, diverge_th=2)
        assert results["loss"] == expected
        assert len(results["lr"]) == len(expected)
        assert outcomes == [RunOutcome.TERMINATED]

    def test_warning(self):
        """Only a search without divergence warns (H-103)."""
        trainer, optimizer, _ = trainer_of()
        with pytest.warns(
            GlowplugWarning, match="did not diverge up to the learning rate 10.*increase end_lr"
        ):
            search(trainer, optimizer)
        trainer, optimizer, _ = trainer_of([1.0, 9.0])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            search(trainer, optimizer, batches=2, smooth_f=0)


class TestOptions:
    def test_engine_attach(self):
        """engine.attach(finder) shows which objects the finder needs."""
        trainer, _, _ = trainer_of([1.0])
        with pytest.raises(TypeError, match=r"to_save must be a mapping such as .*, got None"):
            trainer.attach(FastaiLRFinder())

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"to_save": 123}, TypeError, "to_save must be a mapping"),
            ({"to_save": {1: 2}}, TypeError, r"to_save\[1\] needs a method state_dict\(\), got 2"),
            (
                {"to_save": {"model": nn.Linear(1, 1)}},
                ValueError,
                "must have the key 'optimizer', got the keys",
            ),
            (
                {"to_save": {"optimizer": nn.Linear(1, 1)}},
                TypeError,
                "must be a torch.optim.Optimizer, got Linear",
            ),
            ({"output_transform": "loss"}, TypeError, "output_transform must be a function of the output"),
            *(({"smooth_f": value}, ValueError, "smooth_f must be at least 0") for value in (-1, 1, 234)),
            *(
                ({"diverge_th": value}, ValueError, "diverge_th must be at least 1")
                for value in (0.0, math.nan)
            ),
            ({"step_mode": "abc"}, ValueError, "step_mode must be 'exp' or 'linear', got 'abc'"),
            ({"num_iter": 0.0}, TypeError, "num_iter must be an integer, got 0.0"),
            ({"num_iter": 0}, ValueError, "num_iter must be at least 1, got 0"),
            *(
                ({"start_lr": 10, "end_lr": end}, ValueError, "start_lr must be less than end_lr, got 10.0")
                for end in (1, 10)
            ),
            (
                {"start_lr": [0.1, 0.2]},
                ValueError,
                "start_lr must have one value for each of the 1 parameter",
            ),
            ({"end_lr": "high"}, TypeError, "end_lr must be a number or a list of numbers, got 'high'"),
            ({"end_lr": None}, TypeError, "end_lr must be a number or a list of numbers, got None"),
            ({"start_lr": 0.0}, ValueError, "start_lr must be greater than 0 with step_mode='exp'"),
        ],
    )
    def test_invalid(self, options, error, message):
        """attach() itself refuses an invalid option, and names it (H-103)."""
        trainer, optimizer, _ = trainer_of()
        with pytest.raises(error, match=message):
            FastaiLRFinder().attach(trainer, **{"to_save": {"optimizer": optimizer}, **options})
        assert not trainer.registrations()

    def test_alias(self):
        """LRFinder is another name of the class."""
        assert LRFinder is FastaiLRFinder
