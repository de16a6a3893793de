"""Images look the same in every backend, whatever their type and layout."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from mlflow import MlflowClient
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from glowplug_mlflow import MLflowLogger
from glowplug_tensorboard import TensorboardLogger

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")

# Five rows, four columns, three channels; all bytes differ.
COLORS = (np.arange(60, dtype=np.uint8) * 4).reshape(5, 4, 3)
GRAY = COLORS[..., 0]
ALPHA = np.concatenate([COLORS, COLORS[..., :1]], axis=2)
MASK = GRAY > 100


def colors(kind):
    """Return the colored image as a tensor with floats, channels first."""
    return torch.from_numpy(COLORS).permute(2, 0, 1).to(kind) / 255


# Name: what is logged, and the bytes that every backend shows.
IMAGES = {
    "bytes": (COLORS, COLORS),
    "channels first": (COLORS.transpose(2, 0, 1), COLORS),
    "tensor of bytes": (torch.from_numpy(COLORS), COLORS),
    "integers": (COLORS.astype(np.int64), COLORS),
    "integers outside": (COLORS.astype(np.int32) * 2 - 50, (COLORS.astype(int) * 2 - 50).clip(0, 255)),
    "half": (colors(torch.float16), COLORS),
    "float": (colors(torch.float32), COLORS),
    "float with gradient": (colors(torch.float32).requires_grad_(), COLORS),
    "double": (COLORS.astype(np.float64) / 255, COLORS),
    "floats outside": (colors(torch.float32) * 3 - 1, (COLORS.astype(int) * 3 - 255).clip(0, 255)),
    "gray": (GRAY, GRAY),
    "gray float": (torch.from_numpy(GRAY)[None] / 255, GRAY),
    "mask": (MASK, MASK * 255),
    "alpha": (ALPHA, ALPHA),
    "pillow": (Image.fromarray(COLORS), COLORS),
    "palette": (Image.fromarray(MASK), MASK * 255),
    "batch": (np.stack([COLORS, 255 - COLORS]), np.concatenate([COLORS, 255 - COLORS], axis=1)),
}


def decoded(content):
    """Return the pixels of an image file, with four channels."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")).tolist()


def in_tensorboard(folder, name):
    """Return the pixels of an image in an event file."""
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0})
    accumulator.Reload()
    (event,) = accumulator.Images(name)
    return decoded(event.encoded_image_string)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """Log all images and a figure to both backends; return a function that reads the pixels of one from both."""
    folder = tmp_path_factory.mktemp("pictures")
    figure = Figure(figsize=(2, 1), dpi=20)
    figure.subplots().plot([1, 3, 2])
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    loggers = TensorboardLogger(folder / "logs"), MLflowLogger(uri, "pictures", timeout=120)
    for logger in loggers:
        with logger:
            for name, (image, _) in IMAGES.items():
                logger.log_image(name, image, 1)
            logger.log_figure("figure", figure, 1)
        assert logger.counts.dropped == logger.counts.pending == 0
    client, run_id = MlflowClient(uri), loggers[1].run_id
    paths = [file.path for file in client.list_artifacts(run_id, "images") if file.path.endswith(".png")]

    def pixels(name):
        (path,) = (path for path in paths if path.startswith(f"images/{name}+step+"))
        stored = Path(client.download_artifacts(run_id, path)).read_bytes()
        return in_tensorboard(folder / "logs", name), decoded(stored)

    yield pixels
    client._tracking_client.store.engine.dispose()


@pytest.mark.parametrize("name", IMAGES)
def test_same_picture(logged, name):
    """TensorBoard and MLflow have the same pixels, and they follow the rule of ``log_image``."""
    expected = np.asarray(IMAGES[name][1]).astype(np.uint8)
    shown = np.asarray(Image.fromarray(expected).convert("RGBA")).tolist()
    assert logged(name) == (shown, shown)


def test_same_figure(logged):
    """A figure of matplotlib has the same pixels in both backends, and is not empty."""
    tensorboard, mlflow = logged("figure")
    assert tensorboard == mlflow
    assert (len(tensorboard), len(tensorboard[0])) == (20, 40)
    assert len({tuple(pixel) for row in tensorboard for pixel in row}) > 10
