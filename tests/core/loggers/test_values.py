"""Flattening of nested values, and snapshots of mutable ones."""

import argparse
import dataclasses
import json
import types
from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import given, strategies as st

from glowplug.loggers._flatten import Flattened
from glowplug.loggers._snapshot import resolve, snapshot

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")


class Point(NamedTuple):
    x: int
    y: int


def flatten(value):
    """Flatten one value under the name `t`."""
    flat = Flattened()
    flat.add("t", value)
    return flat


class TestFlatten:
    @pytest.mark.parametrize(
        ("value", "scalars"),
        [
            (1, {"t": 1.0}),
            (True, {"t": 1.0}),
            (Fraction(1, 4), {"t": 0.25}),
            (np.float32(0.5), {"t": 0.5}),
            (np.int8(3), {"t": 3.0}),
            (np.bool_(True), {"t": 1.0}),
            ({"a": {"b": 1}, 3: 2}, {"t/a/b": 1.0, "t/3": 2.0}),
            ([1, (2, 3)], {"t/0": 1.0, "t/1/0": 2.0, "t/1/1": 3.0}),
            (Point(1, 2), {"t/0": 1.0, "t/1": 2.0}),
            (torch.tensor(2), {"t": 2.0}),
            (torch.tensor([1.5, 2.5], requires_grad=True), {"t/0": 1.5, "t/1": 2.5}),
            (torch.tensor([0.5], dtype=torch.bfloat16), {"t/0": 0.5}),
            (np.array([1, 2]), {"t/0": 1.0, "t/1": 2.0}),
            (np.array(1.5), {"t": 1.5}),
            ([], {}),
        ],
    )
    def test_numbers_and_containers(self, value, scalars):
        """Numbers in mappings, sequences and one-dimensional arrays become named floats (L-025)."""
        flat = flatten(value)
        assert flat.scalars == scalars
        assert all(type(number) is float for number in flat.scalars.values())
        assert not flat.unknown
        assert not flat.texts

    @pytest.mark.parametrize(
        "value",
        [
            None,
            object(),
            torch.ones(2, 2),
            np.ones((2, 2)),
            1j,
            torch.tensor(1j),
            10**400,
            np.array("x"),
            np.datetime64("2026-01-01"),
            {1, 2},
        ],
    )
    def test_other_values_are_listed(self, value):
        """Values that cannot become floats are listed, and no value raises (L-025)."""
        flat = flatten({"good": 1.0, "bad": value})
        assert flat.scalars == {"t/good": 1.0}
        assert list(flat.unknown) == ["t/bad"]

    @pytest.mark.parametrize("shape", [(), (2,)])
    def test_complex_values_of_a_device(self, shape):
        """A complex tensor on a device is listed before it is copied; the other values are logged (L-025)."""
        # A tensor on the device "meta" cannot be copied.
        flat = flatten({"good": 1.0, "bad": torch.empty(shape, dtype=torch.complex64, device="meta")})
        assert (flat.scalars, list(flat.unknown)) == ({"t/good": 1.0}, ["t/bad"])

    @given(
        st.recursive(
            st.floats(allow_nan=False),
            lambda inner: st.dictionaries(st.text(max_size=3), inner) | st.lists(inner),
        )
    )
    def test_no_number_is_lost(self, value):
        """Each nested number becomes one scalar; names coincide only if keys contain "/" (L-025)."""

        def leaves(item, name):
            if isinstance(item, float):
                yield name, item
            else:
                for key, inner in item.items() if isinstance(item, dict) else enumerate(item):
                    yield from leaves(inner, f"{name}/{key}")

        assert flatten(value).scalars == dict(leaves(value, "t"))


class TestDirectCall:
    def test_numbers_become_python_numbers(self, logger):
        """write_scalars() receives Python numbers for numbers of numpy and torch."""
        logger.log_scalars(
            {"a": np.float32(0.5), "b": torch.tensor(2), "c": np.int64(3), "d": 4}, np.int64(7)
        )
        ((step, scalars),) = logger.scalars
        assert scalars == {"a": 0.5, "b": 2.0, "c": 3.0, "d": 4}
        assert {type(value) for value in (step, *scalars.values())} == {int, float}

    def test_later_changes_of_the_dict(self, logger):
        """Changing values or dict after log_scalars() does not change the record."""
        tensor, scalars = torch.ones(2), {"a": 1.0}
        logger.log_histogram("h", tensor, 1)
        logger.log_scalars(scalars, 1)
        tensor.zero_()
        scalars["a"] = 2.0
        assert logger.scalars == [(1, {"a": 1.0})]
        assert next(call for call in logger.calls if call[0] == "log_histogram")[2].total == 2.0


class TestSnapshot:
    def test_in_place_changes(self):
        """Later in-place changes of tensors and arrays do not affect a snapshot."""
        tensor, array = torch.ones(2), np.ones(2)
        kept = snapshot(({"tensor": tensor, "list": [tensor, array]}, array))
        tensor.mul_(5)
        array *= 5
        nested, alone = resolve(kept)
        assert nested["tensor"].tolist() == nested["list"][0].tolist() == [1.0, 1.0]
        assert nested["list"][1].tolist() == alone.tolist() == [1.0, 1.0]

    def test_resolve_returns_numpy_arrays(self):
        """Write methods receive numpy arrays, with bfloat16 converted to float32."""
        kept = resolve(snapshot([torch.ones(1, dtype=torch.bfloat16), torch.ones(1, dtype=torch.int64)]))
        assert [array.dtype for array in kept] == [np.float32, np.int64]

    def test_figures_and_images(self):
        """Later changes of a figure or image do not affect its record, and its canvas is unchanged."""
        figures = pytest.importorskip("matplotlib.figure")
        image_module = pytest.importorskip("PIL.Image")
        figure = figures.Figure(figsize=(1, 1), dpi=10)
        canvas = figure.canvas
        image = image_module.new("RGB", (3, 2), "red")
        white, red = resolve(snapshot((figure, image)))
        figure.set_facecolor("black")
        image.putpixel((0, 0), (0, 0, 255))
        assert white.shape == (10, 10, 4)
        assert white.dtype == np.uint8
        assert (white == 255).all()
        assert snapshot(figure)[0, 0].tolist() == [0, 0, 0, 255]
        assert figure.canvas is canvas
        assert red.shape == (2, 3, 3)
        assert (red == [255, 0, 0]).all()
        assert snapshot(image.convert("1")).shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("add_scalar", "log_scalars"),
        ("log_metrics", "log_scalars"),
        ("log_param", "log_params"),
        ("set_tag", r"log_tags\({name: value}\) of MLflowLogger"),
        ("add_graph", r"log_graph\(model, inputs\) of TensorboardLogger"),
        ("add_pr_curve", r"TensorboardLogger\(...\).writer"),
        ("log_table", r"mlflow.MlflowClient\(\).log_table\(logger.run_id, ...\)"),
        ("start_run", r"mlflow.start_run\(run_id=logger.run_id\)"),
        ("watch", "run of WandbLogger"),
    ],
)
def test_method_of_the_backend(logger, name, instead):
    """Asking a logger for a method of its backend raises an error that says what to use (L-009)."""
    with pytest.raises(
        AttributeError, match=f"no attribute '{name}'; loggers do not forward .* Use .*{instead}"
    ):
        getattr(logger, name)
    with pytest.raises(AttributeError, match=r"no attribute 'unknown'$"):
        logger.unknown  # noqa: B018
    assert not hasattr(logger, "__wrapped__")


@dataclasses.dataclass
class Schedule:
    """A part of a configuration."""

    lr: float = 0.1
    milestones: tuple[int, ...] = (1, 2)


class Config:
    """A configuration with the methods of a mapping, whose class is not registered as one."""

    def keys(self):
        return ["a", "schedule"]

    def __getitem__(self, key):
        return {"a": 1, "schedule": Schedule()}[key]


@pytest.mark.parametrize(
    "params",
    [
        argparse.Namespace(a=1, schedule=Schedule()),
        types.SimpleNamespace(a=1, schedule=argparse.Namespace(lr=0.1, milestones=(1, 2))),
        dataclasses.make_dataclass("Run", ["a", "schedule"])(1, Schedule()),
        Config(),
        {"a": 1, "schedule": {"lr": 0.1, "milestones": (1, 2)}},
    ],
    ids=["Namespace", "SimpleNamespace", "dataclass", "like a mapping", "mapping"],
)
def test_kinds_of_params(logger, params):
    """log_params takes namespaces, dataclasses and mappings, also within each other, as they are now."""
    logger.log_params(params)
    if isinstance(params, argparse.Namespace):
        params.a = 2
    logger.close()
    (logged,) = [call[1] for call in logger.calls if call[0] == "log_params"]
    assert json.loads(json.dumps(logged)) == {"a": 1, "schedule": {"lr": 0.1, "milestones": [1, 2]}}


@pytest.mark.parametrize("where", [True, False], ids=["spool", "memory"])
def test_bytes_among_params(make_logger, where):
    """Bytes among hyperparameters are logged as a string, and the other values of the call are not lost."""
    logger = make_logger(spool=where)
    logger.log_params({"lr": 0.1, "key": b"x", "inner": {"keys": [b"y"]}})
    logger.close()
    (logged,) = [call[1] for call in logger.calls if call[0] == "log_params"]
    assert json.loads(json.dumps(logged)) == {"lr": 0.1, "key": "b'x'", "inner": {"keys": ["b'y'"]}}


def test_params_without_names(logger):
    """log_params refuses values without names, such as lists and classes."""
    for params in ([1, 2], "lr", Schedule):
        with pytest.raises(TypeError, match="params must be a mapping, a namespace or a dataclass, got"):
            logger.log_params(params)
