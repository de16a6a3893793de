"""Tests of the temporary files that W&B writes for images and pages."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from wandb.sdk.data_types._private import MEDIA_TMP

from glowplug_wandb import WandbLogger

RECORDS = {
    "image": lambda logger: logger.log_image("image", np.zeros((4, 4, 3), np.uint8), 1),
    "text": lambda logger: logger.log_text("note", "text", 1),
}


def make_logger(runs):
    """Return a logger with a timeout that is long enough for a busy machine."""
    return WandbLogger("digits", dir=runs.folder, timeout=60)


@pytest.mark.parametrize("kind", RECORDS)
def test_temporary_files_that_cannot_be_written(runs, kind):
    """If W&B cannot write its temporary files, the record waits until it can."""
    folder = Path(MEDIA_TMP.name)
    with make_logger(runs) as logger:
        logger.log_scalars({"loss": 1.0}, 1)
        assert logger.flush()
        shutil.rmtree(folder)
        try:
            RECORDS[kind](logger)
            assert not logger.flush(1)
            assert logger.counts == (1, 0, 1)
        finally:
            folder.mkdir()
        # The first attempt after a failure.
        assert any(logger.flush() for _ in range(3))
        assert logger.counts == (2, 0, 0)


def test_name_that_no_file_can_have(runs):
    """W&B stores an image in a file with the image's name; one whose name is too long does not block later records."""
    with make_logger(runs) as logger:
        logger.log_image("n" * 300, np.zeros((4, 4, 3), np.uint8), 1)
        logger.log_scalars({"loss": 1.0}, 1)
        assert logger.flush()
        assert logger.counts == (1, 1, 0)
