"""Values of the schedulers of an optimizer, event by event."""

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch.optim import lr_scheduler

from glowplug_schedulers import (
    ConcatScheduler,
    CosineAnnealingScheduler,
    CyclicalScheduler,
    LinearCyclicalScheduler,
    LRScheduler,
    ParamGroupScheduler,
    ParamScheduler,
    PiecewiseLinear,
    create_lr_scheduler_with_warmup,
)


def sgd(*rates, **options):
    """Return an optimizer with a parameter group for each learning rate."""
    return torch.optim.SGD([{"params": [torch.zeros(1)], "lr": rate} for rate in rates or (1.0,)], **options)


def played(scheduler, events, name="lr"):
    """Call a scheduler without an engine, and return the parameter of each group after each event."""
    values = []
    for _ in range(events):
        scheduler(None)
        values.append([round(group[name], 6) for group in scheduler.optimizer.param_groups])
    return values


def of_one_group(scheduler, events):
    """Return the learning rate of the only group after each event."""
    return [value for (value,) in played(scheduler, events)]


class TestCycles:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"cycle_size": 4}, [1, 0.6, 0.2, 0.6, 1, 0.6, 0.2, 0.6]),
            ({"cycle_size": 2}, [1, 0.2, 1, 0.2]),
            ({"cycle_size": 3, "cycle_mult": 1.5}, [1, 0.466667, 0.466667, 1, 0.6, 0.2, 0.6, 1, 0.733333]),
            (
                {"cycle_size": 4, "start_value_mult": 0.5, "end_value_mult": 0.1},
                [1, 0.6, 0.2, 0.6, 0.5, 0.26, 0.02, 0.26, 0.25],
            ),
            ({"cycle_size": 4, "monotonic": True}, [1, 0.8, 0.6, 0.4, 1, 0.8]),
            (
                {"cycle_size": 4, "monotonic": True, "warmup_duration": 2},
                [1, 0.8, 0.6, 0.4, 0.2, 0.6, 1, 0.8, 0.6, 0.4, 0.2, 0.6, 1],
            ),
            (
                {
                    "cycle_size": 4,
                    "monotonic": True,
                    "warmup_duration": 3,
                    "cycle_mult": 2,
                    "start_value_mult": 0.5,
                    "end_value_mult": 0.5,
                },
                [
                    1,
                    0.8,
                    0.6,
                    0.4,
                    0.2,
                    0.3,
                    0.4,
                    0.5,
                    0.45,
                    0.4,
                    0.35,
                    0.3,
                    0.25,
                    0.2,
                    0.15,
                    0.1,
                    0.125,
                    0.15,
                ],
            ),
        ],
    )
    def test_linear(self, options, expected):
        """Linear cycles go to the end value and back, or only there; factors apply after each cycle (H-112)."""
        scheduler = LinearCyclicalScheduler(sgd(), "lr", 1.0, 0.2, **options)
        assert of_one_group(scheduler, len(expected)) == pytest.approx(expected)

    def test_cosine(self):
        """The cosine goes from the start value to the end value within a cycle (H-112)."""
        scheduler = CosineAnnealingScheduler(sgd(), "lr", 2.0, 0.2, 6)
        expected = [2.0, 1.879423, 1.55, 1.1, 0.65, 0.320577, 2.0, 1.879423]
        assert of_one_group(scheduler, 8) == expected

    @given(
        start=st.floats(0, 10),
        end=st.floats(0, 10),
        size=st.integers(2, 30),
        kind=st.sampled_from([LinearCyclicalScheduler, CosineAnnealingScheduler]),
    )
    def test_range(self, start, end, size, kind):
        """The values are between the start value and the end value, and repeat after each cycle (H-112)."""
        rows = kind.simulate_values(
            2 * size, param_name="lr", start_value=start, end_value=end, cycle_size=size
        )
        values = [value for _, value in rows]
        low, high = sorted((start, end))
        assert all(low - 1e-9 <= value <= high + 1e-9 for value in values)
        assert values[0] == pytest.approx(start)
        assert values[:size] == pytest.approx(values[size:])

    def test_completed_cycles(self):
        """A scheduler counts its cycles, and event_index is the position in the cycle (H-112)."""
        scheduler = LinearCyclicalScheduler(sgd(), "lr", 1.0, 0.0, 4)
        of_one_group(scheduler, 10)
        assert (scheduler.cycle, scheduler.event_index, scheduler.total_cycle_size) == (2, 2, 4)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"cycle_size": 1}, "cycle_size must be at least 2, got 1"),
            ({"cycle_size": 4, "warmup_duration": 2}, "warmup_duration requires monotonic=True"),
            (
                {"cycle_size": 4, "warmup_duration": -1, "monotonic": True},
                "must not be negative, got -1",
            ),
        ],
    )
    def test_invalid(self, options, message):
        """An invalid cycle is refused with the value (H-112)."""
        with pytest.raises(ValueError, match=message):
            LinearCyclicalScheduler(sgd(), "lr", 1.0, 0.0, **options)

    def test_own_cycle(self):
        """A subclass of CyclicalScheduler only computes the value within a cycle (H-112)."""

        class Sawtooth(CyclicalScheduler):
            def get_param(self):
                return self.start_value + self.event_index / self.cycle_size

        assert of_one_group(Sawtooth(sgd(), "lr", 1.0, 0.0, 2), 4) == [1.0, 1.5, 1.0, 1.5]


class TestPiecewise:
    @pytest.mark.parametrize(
        ("milestones", "expected"),
        [
            ([(0, 0.0), (4, 1.0)], [0, 0.25, 0.5, 0.75, 1, 1, 1]),
            ([(2, 0.5), (5, 1.0), (9, 0.1)], [0.5, 0.5, 0.5, 0.666667, 0.833333, 1, 0.775, 0.55, 0.325, 0.1, 0.1]),
            ([(3, 0.5)], [0.5] * 5),
            ([(2, 1.0), (2, 2.0), (4, 0.0)], [1, 1, 2, 1, 0, 0]),
        ],
    )  # fmt: skip
    def test_values(self, milestones, expected):
        """The value is linear between milestones, constant outside, and jumps where two milestones are equal (H-113)."""
        scheduler = PiecewiseLinear(sgd(), "lr", milestones_values=milestones)
        assert of_one_group(scheduler, len(expected)) == expected

    @pytest.mark.parametrize(
        ("milestones", "error", "message"),
        [
            (3, TypeError, "must be a list of pairs, got 3"),
            ([], ValueError, "must be a list of pairs"),
            ([(1, 0.5, 2)], ValueError, r"must be a list of pairs \(milestone, value\)"),
            ([1, 2], ValueError, "must be a list of pairs"),
            ([(1.5, 0.5)], TypeError, "a milestone must be an integer, got 1.5"),
            ([(5, 1.0), (2, 2.0)], ValueError, r"must not decrease, got \[5, 2\]"),
        ],
    )
    def test_invalid(self, milestones, error, message):
        """Invalid milestones are refused with their value (H-113)."""
        with pytest.raises(error, match=message):
            PiecewiseLinear(sgd(), "lr", milestones)


class TestGroups:
    def test_one_group(self):
        """With param_group_index, the other parameter groups do not change (H-111)."""
        scheduler = LinearCyclicalScheduler(sgd(5.0, 6.0), "lr", 1.0, 0.0, 4, param_group_index=1)
        assert played(scheduler, 2) == [[5.0, 1.0], [5.0, 0.5]]

    def test_other_parameter(self):
        """A scheduler can set any parameter, such as the momentum (H-111)."""
        scheduler = LinearCyclicalScheduler(sgd(1.0, 2.0), "momentum", 0.9, 0.5, 4)
        assert played(scheduler, 2, "momentum") == [[0.9, 0.9], [0.7, 0.7]]

    def test_one_value_per_group(self):
        """get_param() may return a list with one value per group; another number of values is an error (H-111)."""

        class Doubled(ParamScheduler):
            def get_param(self):
                return [0.1, 0.2]

        assert played(Doubled(sgd(1.0, 1.0), "lr"), 1) == [[0.1, 0.2]]
        with pytest.raises(ValueError, match="returned 2 values for 1 parameter groups"):
            Doubled(sgd(), "lr")(None)

    def test_unknown_parameter(self):
        """A misspelt parameter is refused at the first event, and the message lists the parameters (H-111)."""
        with pytest.raises(ValueError, match=r"no parameter 'momentun'; it has 'lr', 'momentum'"):
            PiecewiseLinear(sgd(), "momentun", [(0, 1.0)])(None)

    def test_unknown_group(self):
        """An index without a group is refused with the number of groups (H-111)."""
        with pytest.raises(
            IndexError, match="param_group_index is 3, but the optimizer has 1 parameter groups"
        ):
            PiecewiseLinear(sgd(), "lr", [(0, 1.0)], param_group_index=3)(None)

    def test_tensor(self):
        """A learning rate that is a tensor remains the same tensor, because a captured step reads it (H-111)."""
        rate = torch.tensor(1.0)
        optimizer = torch.optim.Adam([torch.zeros(1)], lr=rate, foreach=False, capturable=True)
        before = optimizer.param_groups[0]["lr"]
        scheduler = PiecewiseLinear(optimizer, "lr", [(0, 0.25)])
        scheduler(None)
        assert optimizer.param_groups[0]["lr"] is before
        assert before.item() == 0.25

    @pytest.mark.parametrize("kind", [list, tuple])
    def test_like_an_optimizer(self, kind):
        """Any object with a list or tuple of parameter groups can be scheduled (H-118)."""

        class Like:
            param_groups = kind([{"lr": 1.0}])

        assert of_one_group(PiecewiseLinear(Like(), "lr", [(0, 0.5)]), 1) == [0.5]

    @pytest.mark.parametrize("optimizer", [{}, None, type("O", (), {"param_groups": 1})()])
    def test_no_optimizer(self, optimizer):
        """Anything else is refused (H-118)."""
        with pytest.raises(TypeError, match="optimizer must be a torch optimizer"):
            PiecewiseLinear(optimizer, "lr", [(0, 0.5)])


class TestParamGroupScheduler:
    def make(self, optimizer, **options):
        """Return a scheduler of two groups."""
        return ParamGroupScheduler(
            [
                LinearCyclicalScheduler(optimizer, "lr", 1.0, 0.0, 4, param_group_index=0),
                CosineAnnealingScheduler(optimizer, "lr", 2.0, 0.0, 6, param_group_index=1),
            ],
            **options,
        )

    def test_values(self):
        """Each group gets the values of its scheduler (H-113)."""
        optimizer = sgd(0.1, 0.1)
        scheduler = self.make(optimizer)
        assert scheduler.get_param() == [1.0, 2.0]
        values = []
        for _ in range(7):
            scheduler(None)
            values.append([round(group["lr"], 6) for group in optimizer.param_groups])
        assert values == [[1, 2], [0.5, 1.866025], [0, 1.5], [0.5, 1], [1, 0.5], [0.5, 0.133975], [0, 2]]

    def test_simulated_values(self):
        """The simulation of existing schedulers gives the same values, and changes nothing (H-113)."""
        optimizer = sgd(0.1, 0.1)
        schedulers = self.make(optimizer, save_history=True).schedulers
        rows = ParamGroupScheduler.simulate_values(7, schedulers)
        assert [[round(value, 6) for value in row] for row in rows[5:]] == [[5, 0.5, 0.133975], [6, 0.0, 2.0]]
        assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]
        assert [(each.event_index, each.cycle, each.save_history) for each in schedulers] == [
            (0, 0, True)
        ] * 2

    def test_two_optimizers(self):
        """The schedulers may have different optimizers (H-113)."""
        first, second = sgd(), sgd()
        schedulers = [
            LRScheduler(lr_scheduler.StepLR(first, 2, 0.1)),
            LRScheduler(lr_scheduler.ExponentialLR(second, 0.5)),
        ]
        rows = ParamGroupScheduler.simulate_values(4, schedulers)
        assert [[round(value, 6) for value in row] for row in rows] == [
            [0, 1.0, 1.0],
            [1, 1.0, 0.5],
            [2, 0.1, 0.25],
            [3, 0.1, 0.125],
        ]
        assert (first.param_groups[0]["lr"], second.param_groups[0]["lr"]) == (1.0, 1.0)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((1,), TypeError, "schedulers must be a list, got 1"),
            (([1],), ValueError, "but it contains 1"),
            (([], ["a"]), ValueError, "a string for each of the 0 schedulers"),
            (([], "a"), TypeError, "names must be a list of strings, got 'a'"),
        ],
    )
    def test_invalid(self, arguments, error, message):
        """Invalid arguments are refused with their value (H-113)."""
        with pytest.raises(error, match=message):
            ParamGroupScheduler(*arguments)


class TestConcat:
    def make(self, optimizer):
        """Return three schedulers in sequence."""
        return ConcatScheduler(
            [
                LinearCyclicalScheduler(optimizer, "lr", 1.0, 0.0, 4),
                CosineAnnealingScheduler(optimizer, "lr", 0.0, 1.0, 4),
                PiecewiseLinear(optimizer, "lr", [(0, 3.0), (5, 5.0)]),
            ],
            [5, 3],
        )

    EXPECTED = (1, 0.5, 0, 0.5, 1, 0, 0.146447, 0.5, 3, 3.4, 3.8, 4.2, 4.6, 5, 5)

    def test_values(self):
        """The schedulers run one after another, each from its first value on (H-113)."""
        assert played(self.make(sgd(7.0, 8.0)), 15) == [[value] * 2 for value in self.EXPECTED]

    def test_nested(self):
        """A ConcatScheduler can be a part of another one (H-113)."""
        optimizer = sgd()
        scheduler = ConcatScheduler(
            [self.make(optimizer), PiecewiseLinear(optimizer, "lr", [(0, 7.0)])], [11]
        )
        assert of_one_group(scheduler, 13) == [*self.EXPECTED[:11], 7, 7]

    def test_simulated_values(self):
        """The simulation gives the same values, also of other parameters, and changes nothing (H-113)."""
        optimizer = sgd(8.0, momentum=0.9)
        scheduler = self.make(optimizer)
        rows = ConcatScheduler.simulate_values(12, scheduler.schedulers, scheduler.durations)
        assert [round(value, 6) for _, value in rows] == [*self.EXPECTED[:12]]
        rows = ConcatScheduler.simulate_values(
            2, scheduler.schedulers, [5, 3], param_names=["lr", "momentum"]
        )
        assert rows == [[0, 1.0, 0.9], [1, 0.5, 0.9]]
        assert optimizer.param_groups[0]["lr"] == 8.0
        assert of_one_group(scheduler, 15) == [*self.EXPECTED]

    @pytest.mark.parametrize(
        ("names", "error", "message"),
        [("lr", TypeError, "a list of names, got 'lr'"), (["lr", 1], ValueError, "it has no parameter 1")],
    )
    def test_simulated_parameters(self, names, error, message):
        """Names of parameters that the optimizer does not have are refused (H-113)."""
        schedulers = self.make(sgd()).schedulers
        with pytest.raises(error, match=message):
            ConcatScheduler.simulate_values(2, schedulers, [5, 3], param_names=names)

    def test_after_a_scheduler_of_torch(self):
        """A scheduler of torch begins with its own learning rate, whatever ran before (H-113, H-114)."""
        optimizer = sgd(1.0, 2.0)
        first = LRScheduler(lr_scheduler.StepLR(optimizer, 2, 0.5))
        second = LRScheduler(lr_scheduler.ExponentialLR(optimizer, 0.5))
        assert played(ConcatScheduler([first, second], [3]), 5) == [
            [1.0, 2.0],
            [1.0, 2.0],
            [0.5, 1.0],
            [1.0, 2.0],
            [0.5, 1.0],
        ]

    def invalid(self, case):
        """Return arguments that are refused."""
        one, other = sgd(), sgd()
        first = PiecewiseLinear(one, "lr", [(0, 1.0)])
        return {
            "no list": (None, [1]),
            "one": ([first], []),
            "no scheduler": ([first, 12], [1]),
            "durations": ([first, first], 1),
            "float": ([first, first], [0.5]),
            "number": ([first, first], [1, 2]),
            "optimizer": ([first, PiecewiseLinear(other, "lr", [(0, 1.0)])], [1]),
            "parameter": ([first, PiecewiseLinear(one, "lr2", [(0, 1.0)])], [1]),
        }[case]

    @pytest.mark.parametrize(
        ("case", "error", "message"),
        [
            ("no list", TypeError, "schedulers must be a list of schedulers, got None"),
            ("one", ValueError, "at least two schedulers, got 1"),
            ("no scheduler", TypeError, "but it contains 12"),
            ("durations", TypeError, "durations must be a list of integers, got 1"),
            ("float", ValueError, r"integers of at least 0, got \[0.5\]"),
            ("number", ValueError, "got 2 durations for 2 schedulers"),
            ("optimizer", ValueError, "must have the same optimizer"),
            ("parameter", ValueError, r"must have the same param_name, got \['lr', 'lr2'\]"),
        ],
    )
    def test_invalid(self, case, error, message):
        """Invalid arguments are refused with their value (H-113)."""
        with pytest.raises(error, match=message):
            ConcatScheduler(*self.invalid(case))


class TestWarmup:
    @pytest.mark.parametrize(
        ("duration", "end", "expected"),
        [
            (3, None, [0, 0.5, 1, 1, 0.1, 0.1]),
            (2, None, [0, 1, 1, 0.1, 0.1, 0.01]),
            (4, 0.7, [0, 0.233333, 0.466667, 0.7, 1, 1, 0.1]),
            (4, 1.0, [0, 0.333333, 0.666667, 1, 1, 0.1]),
        ],
    )
    def test_one_group(self, duration, end, expected):
        """A scheduler of torch follows after the warm-up; the end value is not repeated (H-115)."""
        torchs = lr_scheduler.StepLR(sgd(), 2, 0.1)
        scheduler = create_lr_scheduler_with_warmup(torchs, 0.0, duration, end)
        assert of_one_group(scheduler, len(expected)) == expected

    def test_groups(self):
        """By default, each parameter group warms up to its own learning rate (H-115)."""
        scheduler = create_lr_scheduler_with_warmup(lr_scheduler.StepLR(sgd(1.0, 2.0), 2, 0.1), 0.1, 3)
        expected = [[0.1, 0.1], [0.55, 1.05], [1, 2], [1, 2], [0.1, 0.2], [0.1, 0.2]]
        assert played(scheduler, 6) == expected

    def test_end_value_of_several_groups(self):
        """After a warm-up to another value, each parameter group continues with its own learning rate (H-115)."""
        torchs = lr_scheduler.ExponentialLR(sgd(1.0, 2.0), 0.5)
        scheduler = create_lr_scheduler_with_warmup(torchs, 0.1, 3, 0.7)
        assert played(scheduler, 5) == [[0.1, 0.1], [0.4, 0.4], [0.7, 0.7], [1, 2], [0.5, 1]]

    def test_one_of_two_groups(self):
        """The warm-up changes only the groups of the scheduler that follows (H-115)."""
        after = CosineAnnealingScheduler(sgd(1.0, 2.0), "lr", 2.0, 0.2, 6, param_group_index=1)
        scheduler = create_lr_scheduler_with_warmup(after, 0.0, 3)
        assert played(scheduler, 4) == [[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, 1.879423]]

    def test_schedulers_of_this_package(self):
        """Any scheduler of an optimizer can follow, even one with a warm-up (H-115)."""
        optimizer = sgd()
        inner = create_lr_scheduler_with_warmup(lr_scheduler.ExponentialLR(optimizer, 0.5), 0.0, 3)
        scheduler = create_lr_scheduler_with_warmup(inner, 0.5, 2, 0.9)
        assert of_one_group(scheduler, 6) == [0.5, 0.9, 0, 0.5, 1, 0.5]

    def test_simulated_values(self):
        """output_simulated_values gets the values, and the scheduler and the optimizer do not change (H-115)."""
        optimizer = sgd(1.0, 2.0)
        values = [None] * 4
        scheduler = create_lr_scheduler_with_warmup(
            lr_scheduler.ExponentialLR(optimizer, 0.5), 0.0, 2, output_simulated_values=values
        )
        assert values == [[0, 0.0, 0.0], [1, 1.0, 2.0], [2, 0.5, 1.0], [3, 0.25, 0.5]]
        assert [group["lr"] for group in optimizer.param_groups] == [1.0, 2.0]
        assert played(scheduler, 4) == [row[1:] for row in values]

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"lr_scheduler": 12}, TypeError, "a scheduler from torch.optim.lr_scheduler or a ParamScheduler, got 12"),
            ({"warmup_duration": 1.5}, TypeError, "warmup_duration must be an integer, got 1.5"),
            ({"warmup_duration": 1}, ValueError, "warmup_duration must be at least 2, got 1"),
            ({"output_simulated_values": 1}, TypeError, r"a list such as \[None\] \* 100, got 1"),
        ],
    )  # fmt: skip
    def test_invalid(self, options, error, message):
        """Invalid arguments are refused with their value (H-115)."""
        given_options = {
            "lr_scheduler": lr_scheduler.ExponentialLR(sgd(), 0.5),
            "warmup_start_value": 0.0,
            "warmup_duration": 2,
            **options,
        }
        with pytest.raises(error, match=message):
            create_lr_scheduler_with_warmup(**given_options)


def test_simulation_without_an_optimizer():
    """simulate_values ignores the options that need an optimizer (H-110)."""
    rows = PiecewiseLinear.simulate_values(
        2, param_name="x", milestones_values=[(0, math.pi)], save_history=True, param_group_index=4
    )
    assert rows == [[0, math.pi], [1, math.pi]]
