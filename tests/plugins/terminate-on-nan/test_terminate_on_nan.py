"""TerminateOnNan: values it finds, its cost, and how it stops a run."""

import dataclasses
import logging
import math
import subprocess
import sys
from collections import OrderedDict
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from glowplug import Engine, Events, RunOutcome
from glowplug.testing import FakeEngine
from glowplug_terminate_on_nan import TerminateOnNan
from glowplug_terminate_on_nan.finite import find_non_finite

LOGGER = "glowplug_terminate_on_nan"
NAN, INF = float("nan"), float("inf")


class Pair(NamedTuple):
    loss: object
    rest: object


@dataclasses.dataclass
class Result:
    loss: object
    rest: object = None


def fire(output, **options):
    """Return a fake engine after TerminateOnNan has checked this output at iteration 7."""
    fake = FakeEngine()
    TerminateOnNan(**options).attach(fake)
    return fake.fire(Events.ITERATION_COMPLETED, iteration=7, output=output)


FINITE = {
    "none": None,
    "text": "nan",
    "bytes": b"nan",
    "bool": True,
    "int": -3,
    "int too large for a float": 10**400,
    "fraction": Fraction(1, 3),
    "decimal too large for a float": Decimal("1e4000"),
    "float": 1.5,
    "complex": 1 - 2j,
    "numpy scalar": np.float32(1.5),
    "numpy long double": np.longdouble("1e300") * np.longdouble("1e300"),
    "numpy array": np.ones((2, 3)),
    "numpy ints": np.arange(3),
    "numpy dates": np.array(["NaT"], dtype="datetime64[s]"),
    "numpy text": np.array(["nan"]),
    "numpy records": np.zeros(2, dtype=[("loss", "f4")]),
    "numpy, nan under a mask": np.ma.array([1.0, NAN], mask=[False, True]),
    "numpy, all masked": np.ma.array([NAN, NAN], mask=True),
    "empty array": np.empty(0),
    "tensor": torch.ones(2, 3),
    "empty tensor": torch.empty(0),
    "tensor with a graph": torch.ones(2, requires_grad=True) * 2,
    "half whose sum is beyond its range": torch.full((100,), 60000.0, dtype=torch.float16),
    "floats whose sum overflows": torch.full((100,), 3e38),
    "tensor of ints": torch.arange(3),
    "tensor of bools": torch.tensor([True]),
    "meta tensor": torch.empty(3, device="meta"),
    "sparse tensor": torch.eye(2).to_sparse(),
    "nested": {"loss": [1.0, (2.0, {3.0}), None], "y": Pair(torch.ones(2), Result(1.0))},
    "unknown object": object(),
    "class": Result,
    "function": len,
    "range": range(10**9),
}


NOT_FINITE = {
    "nan": (NAN, "output is nan"),
    "inf": (INF, "output is inf"),
    "minus inf": (-INF, "output is -inf"),
    "complex": (complex(0, INF), "output is infj"),
    "decimal": (Decimal("NaN"), "output is NaN"),
    "signalling decimal": (Decimal("sNaN"), "output is sNaN"),
    "numpy scalar": (np.float32("nan"), "output is nan"),
    "numpy half": (np.float16("inf"), "output is inf"),
    "numpy complex": (np.complex64(complex(NAN, 1)), "output is (nan+1j)"),
    "numpy 0-d": (np.array(NAN), "output is nan"),
    "numpy array": (
        np.array([[1.0, 2.0], [-INF, NAN]]),
        "output[1, 0] is -inf (2 of the 4 elements of output are not finite)",
    ),
    "numpy objects": (np.array([1.0, NAN, None], dtype=object), "output[1] is nan"),
    "tensor 0-d": (torch.tensor(NAN), "output is nan"),
    "tensor with a graph": (torch.zeros((), requires_grad=True).log(), "output is -inf"),
    "tensor": (
        torch.tensor([[1.0, INF], [-INF, NAN]]),
        "output[0, 1] is inf (3 of the 4 elements of output are not finite)",
    ),
    "half": (
        torch.tensor([1.0, INF], dtype=torch.float16),
        "output[1] is inf (1 of the 2 elements of output are not finite)",
    ),
    "bfloat16": (torch.tensor(NAN, dtype=torch.bfloat16), "output is nan"),
    "float8": (torch.tensor(NAN).to(torch.float8_e4m3fn), "output is nan"),
    "double": (
        torch.tensor([1e308, 1e308, INF], dtype=torch.float64),
        "output[2] is inf (1 of the 3 elements of output are not finite)",
    ),
    "opposite infinities": (
        torch.tensor([INF, -INF]),
        "output[0] is inf (2 of the 2 elements of output are not finite)",
    ),
    "complex tensor": (
        torch.tensor([1j, complex(0, NAN)]),
        "output[1] is nanj (1 of the 2 elements of output are not finite)",
    ),
    "mapping": ({"loss": [NAN]}, "output['loss'][0] is nan"),
    "mapping, int key": (OrderedDict({3: NAN}), "output[3] is nan"),
    "tuple": ((1.0, (2.0, NAN)), "output[1][1] is nan"),
    "named tuple": (Pair(1.0, {"y": NAN}), "output.rest['y'] is nan"),
    "dataclass": (Result(1.0, [INF]), "output.rest[0] is inf"),
    "set": ([{1.0, NAN}], "output[0] is nan"),
    "the first of two": ([1.0, NAN, INF], "output[1] is nan"),
    "among tensors": (
        {"y": torch.ones(2), "loss": torch.tensor(NAN), "z": torch.ones(2, dtype=torch.float64)},
        "output['loss'] is nan",
    ),
}


class TestValues:
    @pytest.mark.parametrize("output", FINITE.values(), ids=FINITE.keys())
    def test_finite(self, output, caplog):
        """Finite values and unknown objects neither stop the run nor log (H-081, H-082)."""
        assert not fire(output).terminated
        assert not caplog.records

    @pytest.mark.parametrize(("output", "message"), NOT_FINITE.values(), ids=NOT_FINITE.keys())
    def test_not_finite(self, output, message, caplog):
        """Every value that is not finite stops the run with one warning that locates it (H-080)."""
        fake = fire(output)
        assert fake.terminated
        assert [(record.name, record.levelno) for record in caplog.records] == [(LOGGER, logging.WARNING)]
        assert caplog.messages == [f"iteration 7: {message}; the run is terminated"]

    @given(
        st.recursive(
            st.floats() | st.complex_numbers() | st.integers() | st.none() | st.text(max_size=2),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.tuples(inner, inner)
                | st.dictionaries(st.integers() | st.text(max_size=2), inner, max_size=3)
            ),
            max_leaves=12,
        )
    )
    def test_random_tree(self, tree):
        """The path of a value that is not finite is found exactly if there is one (H-080)."""

        def leaves(node):
            if isinstance(node, dict):
                node = list(node.values())
            if isinstance(node, (list, tuple)):
                return [leaf for child in node for leaf in leaves(child)]
            return [node]

        def bad(leaf):
            return isinstance(leaf, (float, complex)) and not (
                math.isfinite(leaf.real) and math.isfinite(leaf.imag)
            )

        found = find_non_finite(tree)
        assert (found is not None) == any(map(bad, leaves(tree)))
        if found is not None:
            path, value = found
            for step in path:
                tree = tree[step]
            assert tree is value
            assert bad(value)

    def test_iterator(self):
        """An iterator in the output is not consumed (H-082)."""
        items = iter([NAN, 1.0])
        assert not fire({"items": items}).terminated
        assert len(list(items)) == 2

    def test_cycle_and_depth(self):
        """An output that contains itself or is very deeply nested is checked completely (H-082)."""
        cycle = [1.0]
        cycle.append(cycle)
        assert not fire(cycle).terminated
        deep = NAN
        for _ in range(3 * sys.getrecursionlimit()):
            deep = [deep]
        assert fire(deep).terminated

    def test_unset_field(self):
        """A dataclass field without a value is ignored (H-082)."""
        result = Result(1.0)
        del result.loss
        assert not fire(result).terminated


class TestOutputTransform:
    def test_selects_values(self):
        """Only the values that output_transform returns are checked (H-080)."""
        output = {"loss": 1.0, "debug": NAN}
        assert not fire(output, output_transform=lambda output: output["loss"]).terminated
        assert fire(output, output_transform=lambda output: output["debug"]).terminated

    def test_not_callable(self):
        """An output_transform that is not callable is refused with its value (H-080)."""
        with pytest.raises(
            TypeError, match="output_transform must be a function of the engine's output, got 'loss'"
        ):
            TerminateOnNan(output_transform="loss")

    def test_async_function(self):
        """An async output_transform is refused: the coroutine that it returns would never be found not finite."""

        async def loss(output):
            return output["loss"]

        with pytest.raises(TypeError, match=r"TerminateOnNan: output_transform .* is an async function"):
            TerminateOnNan(output_transform=loss)


class TestCost:
    def test_tensors_are_read_together(self, recorder):
        """No operation reads a single value, however many tensors there are (H-083)."""
        with recorder:
            assert find_non_finite([torch.ones(3, dtype=torch.bfloat16) for _ in range(5)]) is None
        assert recorder.names.count("aten::sum") == 5
        assert recorder.names.count("aten::stack") == 1
        assert not {"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal"} & set(
            recorder.names
        )

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="counts how often a real device is waited for")
    @pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
    def test_one_synchronization(self):
        """On a GPU a check of many finite tensors synchronizes once (H-083)."""
        import warnings

        output = {
            "loss": torch.ones((), device="cuda"),
            "y": [torch.ones(8, device="cuda") for _ in range(5)],
        }
        find_non_finite(output)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert find_non_finite(output) is None
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert len([one for one in caught if "synchroniz" in str(one.message)]) == 1
        output["y"][3][2] = NAN
        path, value = find_non_finite(output)
        assert path == ("y", 3)
        assert math.isnan(value[2].item())

    def test_imports(self):
        """A run over plain numbers imports neither torch nor numpy."""
        script = (
            "import sys; from glowplug import Engine; from glowplug_terminate_on_nan import TerminateOnNan;"
            "engine = Engine(lambda engine, batch: batch); engine.attach(TerminateOnNan());"
            "print(engine.run([1.0, float('nan'), 1.0]).iteration, 'torch' in sys.modules, 'numpy' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.split() == ["2", "False", "False"]
        assert "iteration 2: output is nan" in done.stderr


class TestRun:
    def test_events(self):
        """attach() checks each iteration by default, accepts other events, and returns a handle."""
        fake = FakeEngine()
        handler = TerminateOnNan()
        handle = handler.attach(fake, Events.ITERATION_COMPLETED(every=2))
        fake.fire(Events.ITERATION_COMPLETED, iteration=1, output=NAN)
        assert not fake.terminated
        handle.remove()
        assert not fake.has_event_handler(handler)
        handler.attach(fake)
        assert fake.has_event_handler(handler, Events.ITERATION_COMPLETED)
        assert fake.fire(Events.ITERATION_COMPLETED, iteration=3, output=NAN).terminated

    @pytest.mark.parametrize("register", ["attach", "add_event_handler"])
    def test_diverging_loss(self, register):
        """A run ends at the iteration of the first loss that is not finite (H-080)."""
        weight = torch.ones(1, requires_grad=True)
        losses = []

        def step(engine, batch):
            loss = (weight**4).sum()
            loss.backward()
            with torch.no_grad():
                weight.sub_(10.0 * weight.grad)
                weight.grad = None
            losses.append(loss.item())
            return {"loss": loss, "note": None}

        engine = Engine(step)
        if register == "attach":
            engine.attach(TerminateOnNan())
        else:
            engine.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
        state = engine.run(range(100), max_epochs=2)
        assert state.outcome is RunOutcome.TERMINATED
        assert state.iteration == len(losses) < 100
        assert not math.isfinite(losses[-1])
        assert all(map(math.isfinite, losses[:-1]))

    def test_both_ranks_stop(self, run_ranks):
        """Both ranks stop at the same iteration if one of them has a NaN (H-084, D1)."""

        def scenario(rank):
            import logging

            from glowplug import Engine
            from glowplug_terminate_on_nan import TerminateOnNan

            messages = []
            logger = logging.getLogger("glowplug_terminate_on_nan")
            logger.addFilter(lambda record: messages.append(record.getMessage()))
            engine = Engine(lambda engine, batch: float("nan") if rank == 1 and batch == 4 else 1.0)
            engine.attach(TerminateOnNan())
            state = engine.run(range(1, 11), agree_every=1)
            return state.iteration, state.outcome.name, messages

        assert run_ranks(scenario) == [
            [5, "TERMINATED", []],
            [5, "TERMINATED", ["iteration 4: output is nan; the run is terminated"]],
        ]

    def test_logging_configuration(self):
        """The handler does not configure logging (H-083)."""
        before = [*logging.getLogger().handlers]
        fire(NAN)
        assert logging.getLogger().handlers == before
        assert logging.getLogger(LOGGER).handlers == []
