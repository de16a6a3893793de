"""What scripts written for ignite take from its utils."""

from __future__ import annotations

import io
import logging
import random

import pytest

from glowplug.utils import manual_seed, setup_logger, to_onehot

torch = pytest.importorskip("torch")
np = pytest.importorskip("numpy")


@pytest.fixture
def name(request):
    """A logger's name, of which nothing is left behind."""
    name = request.node.name
    yield name
    logger = logging.getLogger(name)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def test_U_001_manual_seed_seeds_all_generators():
    """Python, torch and numpy draw the same numbers after the same seed."""

    def draw():
        return random.random(), torch.rand(1).item(), np.random.rand()

    manual_seed(3)
    first = draw()
    assert draw() != first
    manual_seed(3)
    assert draw() == first


def test_U_001_to_onehot():
    """The classes become the second dimension, as a mask's do for a segmentation."""
    masks = torch.tensor([[[0, 2], [1, 1]]])
    onehot = to_onehot(masks, num_classes=3)
    assert onehot.dtype is torch.uint8
    assert onehot.shape == (1, 3, 2, 2)
    assert torch.equal(onehot.argmax(1), masks)
    assert torch.equal(onehot.sum(1), torch.ones(1, 2, 2, dtype=torch.int64))


def test_U_001_setup_logger_writes_once(name, tmp_path, capsys):
    """Lines from the level up go to the stream and to the file, and not to the root logger's handlers too."""
    stream, path = io.StringIO(), tmp_path / "run.log"
    logger = setup_logger(name, logging.WARNING, stream, "%(levelname)s %(message)s", path)
    logger.info("hidden")
    logger.warning("größer")
    assert stream.getvalue() == "WARNING größer\n"
    assert path.read_text(encoding="utf-8") == "WARNING größer\n"
    assert not logger.propagate
    assert capsys.readouterr().err == ""


def test_U_001_setup_logger_leaves_a_logger_as_it_is(name):
    """A second call returns the logger untouched; with reset=True it replaces what the first one set up."""
    logger = setup_logger(name, stream=io.StringIO())
    (handler,) = logger.handlers
    assert setup_logger(name, logging.DEBUG) is logger
    assert (logger.handlers, logger.level) == ([handler], logging.INFO)
    stream = io.StringIO()
    setup_logger(name, logging.DEBUG, stream, "%(message)s", reset=True).debug("anew")
    assert stream.getvalue() == "anew\n"
    assert handler not in logger.handlers


def test_U_001_setup_logger_is_silent_on_other_ranks(name, capsys):
    """A rank that is not 0 writes nothing, not even through Python's handler of last resort."""
    setup_logger(name, distributed_rank=1).error("twice")
    assert capsys.readouterr().err == ""


def test_convert_tensor_is_that_of_the_core():
    """The name is where ignite has it."""
    import glowplug
    from glowplug.utils import convert_tensor

    assert convert_tensor is glowplug.convert_tensor
