"""Flattening (L-025), and copies that no later step can change."""

from fractions import Fraction
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowplug.loggers._flatten import Flattened
from glowplug.loggers._snapshot import resolve, snapshot

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")


class Point(NamedTuple):
    x: int
    y: int


def flatten(value):
    """Flatten one value under the name ``t``."""
    flat = Flattened()
    flat.add("t", value)
    return flat


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
def test_L_025_numbers_and_containers(value, scalars):
    """Numbers of all kinds, nested mappings, sequences and one-dimensional arrays become named floats."""
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
def test_L_025_what_is_no_number_is_listed_and_never_raises(value):
    """What cannot become a float is left out and listed, so that no output can end a run."""
    flat = flatten({"good": 1.0, "bad": value})
    assert flat.scalars == {"t/good": 1.0}
    assert list(flat.unknown) == ["t/bad"]


@given(
    st.recursive(
        st.floats(allow_nan=False),
        lambda inner: st.dictionaries(st.text(max_size=3), inner) | st.lists(inner),
    )
)
def test_L_025_no_leaf_is_lost(value):
    """However numbers are nested, each leaf gives one scalar with its value (names may coincide only with a "/")."""

    def leaves(item, name):
        if isinstance(item, float):
            yield name, item
        else:
            for key, inner in item.items() if isinstance(item, dict) else enumerate(item):
                yield from leaves(inner, f"{name}/{key}")

    assert flatten(value).scalars == dict(leaves(value, "t"))


def test_snapshot_is_not_changed_by_later_steps():
    """Tensors and arrays, alone or in containers, keep their values when the originals change in place."""
    tensor, array = torch.ones(2), np.ones(2)
    kept = snapshot(({"tensor": tensor, "list": [tensor, array]}, array))
    tensor.mul_(5)
    array *= 5
    nested, alone = resolve(kept)
    assert nested["tensor"].tolist() == nested["list"][0].tolist() == [1.0, 1.0]
    assert nested["list"][1].tolist() == alone.tolist() == [1.0, 1.0]


def test_resolve_gives_numpy_arrays():
    """Sinks get numpy arrays; bfloat16, which numpy does not have, becomes float32."""
    kept = resolve(snapshot([torch.ones(1, dtype=torch.bfloat16), torch.ones(1, dtype=torch.int64)]))
    assert [array.dtype for array in kept] == [np.float32, np.int64]


def test_numbers_of_a_direct_call(logger):
    """log_scalars gets Python's numbers, also where it is called with those of numpy and torch."""
    logger.log_scalars({"a": np.float32(0.5), "b": torch.tensor(2), "c": np.int64(3), "d": 4}, np.int64(7))
    ((step, scalars),) = logger.scalars
    assert scalars == {"a": 0.5, "b": 2.0, "c": 3.0, "d": 4}
    assert {type(value) for value in (step, *scalars.values())} == {int, float}


def test_mutation_after_logging_does_not_change_what_is_logged(logger):
    """The record of a direct call, and its dict, are those of the moment of the call."""
    tensor, scalars = torch.ones(2), {"a": 1.0}
    logger.log_histogram("h", tensor, 1)
    logger.log_scalars(scalars, 1)
    tensor.zero_()
    scalars["a"] = 2.0
    assert logger.scalars == [(1, {"a": 1.0})]
    assert next(call for call in logger.calls if call[0] == "log_histogram")[2].tolist() == [1.0, 1.0]


def test_figures_and_images_arrive_as_pixels():
    """A figure and an image that are drawn on after logging arrive as they were, and keep their canvas."""
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
