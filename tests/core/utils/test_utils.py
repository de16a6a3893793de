"""glowplug.utils, the helpers that ignite scripts import."""

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
    """Yield a logger's name, and remove the logger's handlers afterwards."""
    name = request.node.name
    yield name
    logger = logging.getLogger(name)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


def test_manual_seed():
    """Python, torch and numpy draw the same numbers after the same seed (U-001)."""

    def draw():
        return random.random(), torch.rand(1).item(), np.random.rand()

    manual_seed(3)
    first = draw()
    assert draw() != first
    manual_seed(3)
    assert draw() == first


def test_to_onehot():
    """The class dimension becomes the second one, also for segmentation masks (U-001)."""
    masks = torch.tensor([[[0, 2], [1, 1]]])
    onehot = to_onehot(masks, num_classes=3)
    assert onehot.dtype is torch.uint8
    assert onehot.shape == (1, 3, 2, 2)
    assert torch.equal(onehot.argmax(1), masks)
    assert torch.equal(onehot.sum(1), torch.ones(1, 2, 2, dtype=torch.int64))


class TestSetupLogger:
    def test_writes_once(self, name, tmp_path, capsys):
        """Records of the level and above go to stream and file once, and not to the root logger (U-001)."""
        stream, path = io.StringIO(), tmp_path / "run.log"
        logger = setup_logger(name, logging.WARNING, stream, "%(levelname)s %(message)s", path)
        logger.info("hidden")
        logger.warning("größer")
        assert stream.getvalue() == "WARNING größer\n"
        assert path.read_text(encoding="utf-8") == "WARNING größer\n"
        assert not logger.propagate
        assert capsys.readouterr().err == ""

    def test_second_call(self, name):
        """A second call returns the logger unchanged, and reset=True replaces its handlers (U-001)."""
        logger = setup_logger(name, stream=io.StringIO())
        (handler,) = logger.handlers
        assert setup_logger(name, logging.DEBUG) is logger
        assert (logger.handlers, logger.level) == ([handler], logging.INFO)
        stream = io.StringIO()
        setup_logger(name, logging.DEBUG, stream, "%(message)s", reset=True).debug("anew")
        assert stream.getvalue() == "anew\n"
        assert handler not in logger.handlers

    def test_other_ranks(self, name, capsys):
        """A rank other than 0 writes nothing, not even through logging.lastResort (U-001)."""
        setup_logger(name, distributed_rank=1).error("twice")
        assert capsys.readouterr().err == ""


def test_convert_tensor():
    """convert_tensor is exported, as in ignite.utils."""
    import glowplug
    from glowplug.utils import convert_tensor

    assert convert_tensor is glowplug.convert_tensor
