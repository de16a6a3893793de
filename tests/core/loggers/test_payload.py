"""Payloads become plain data: histograms, pixels and text."""

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")

from glowplug.loggers import Histogram, Logger  # noqa: E402 - needs torch
from glowplug.loggers._payload import finish, layout_of  # noqa: E402 - needs torch
from glowplug.loggers._record import Record  # noqa: E402 - needs torch
from glowplug.loggers._snapshot import snapshot  # noqa: E402 - needs torch
from glowplug.loggers._waiting import Bounds, Waiting  # noqa: E402 - needs torch


class Recorder(Logger):
    """Keep what the backend gets."""

    uses_spool = False

    def __init__(self, **options):
        super().__init__(**options)
        self.got = []

    def write_scalars(self, scalars, step, timestamp):
        self.got.append(scalars)

    def write_histogram(self, name, histogram, step, timestamp):
        self.got.append(histogram)

    def write_image(self, name, image, step, timestamp):
        self.got.append(image)

    def write_figure(self, name, figure, step, timestamp):
        self.got.append(figure)


def payload(kind, value):
    """Return the payload of a record for the backend."""
    return finish(Record(0, kind, "x", 1, 0.0, snapshot(value))).payload


class TestHistogram:
    @pytest.mark.parametrize(
        "convert",
        [
            np.asarray,
            torch.as_tensor,
            list,
            lambda values: torch.as_tensor(values, dtype=torch.bfloat16),
            lambda values: torch.as_tensor(values, dtype=torch.float16),
            lambda values: np.asarray(values, dtype=np.int32).reshape(2, 3),
        ],
    )
    def test_of_any_array(self, convert):
        """Arrays, tensors of any type and lists give the same histogram."""
        found = payload("histogram", convert([1.0, 2.0, 2.0, 4.0, 4.0, 4.0]))
        assert (found.minimum, found.maximum, found.total, found.total_of_squares) == (1.0, 4.0, 17.0, 57.0)
        assert (found.counts[0], sum(found.counts[1:-1]), found.counts[-1]) == (1, 2, 3)
        assert len(found.edges) == len(found.counts) + 1
        assert (found.edges[0], found.edges[-1]) == (1.0, 4.0)

    def test_same_as_numpy(self):
        """The counts and edges are those of numpy for bins of equal width."""
        values = np.random.default_rng(0).normal(size=10_000)
        found = payload("histogram", values)
        counts, edges = np.histogram(values, len(found.counts))
        assert list(found.counts) == counts.tolist()
        assert found.edges == pytest.approx(edges.tolist())

    def test_equal_values(self):
        """Equal values are in one bin."""
        assert payload("histogram", np.full(7, 2.5)) == Histogram([7], 2.5, 2.5, 17.5, 43.75)

    def test_finite_values(self):
        """NaN and infinite values are left out; without a finite value there is no histogram."""
        assert sum(payload("histogram", np.array([1.0, np.nan, np.inf, 3.0])).counts) == 2
        with pytest.raises(ValueError, match="none of its 2 values is finite"):
            payload("histogram", np.array([np.nan, -np.inf]))


class TestPixels:
    @pytest.mark.parametrize(
        "image",
        [
            torch.tensor([[0.0, 0.5], [1.0, 2.0]]),
            torch.tensor([[0.0, 0.5], [1.0, 2.0]]).expand(1, 2, 2),
            torch.tensor([[0.0, 0.5], [1.0, 2.0]], dtype=torch.bfloat16),
            np.array([[0, 128], [255, 255]], dtype=np.uint8),
            np.array([[-5, 128], [255, 999]], dtype=np.int64)[..., None],
            np.array([[0.0, 0.5], [1.0, np.inf]], dtype=np.float64),
        ],
    )
    def test_any_type_gives_the_same_pixels(self, image):
        """Floats from 0 to 1 and integers from 0 to 255, of any layout, give the same bytes."""
        found = payload("image", image)
        assert (found.dtype, found.shape) == (np.uint8, (2, 2, 1))
        assert found[..., 0].tolist() == [[0, 128], [255, 255]]

    def test_layouts(self):
        """Channels come last, and batches are arranged in rows of eight."""
        image = np.random.default_rng(0).random((3, 6, 5))
        assert (payload("image", image) == payload("image", np.moveaxis(image, 0, -1))).all()
        batch = np.zeros((9, 1, 4, 5))
        batch[8] = 1.0
        found = payload("image", batch)
        assert found.shape == (8, 40, 1)
        assert found[4:, :5].all()
        assert found.sum() == 20 * 255

    def test_masks(self):
        """False is black, True is white."""
        assert payload("image", np.array([[True, False]])).ravel().tolist() == [255, 0]

    def test_odd_shape(self):
        """An array that is no image raises where it is logged, with its shape."""
        with (
            Recorder() as logger,
            pytest.raises(ValueError, match=r"log_image: 'x': an image of shape \(7, 4, 5\)"),
        ):
            logger.log_image("x", np.zeros((7, 4, 5)), 1)

    @pytest.mark.parametrize("shape", [(4,), (2, 3, 5), (2, 2, 3, 4, 5), (2, 7, 4, 5), ()])
    def test_no_image(self, shape):
        """Shapes that are no image are refused."""
        with pytest.raises(ValueError, match="cannot be shown"):
            layout_of(shape)


class TestFigures:
    def test_interactive_figure(self):
        """A figure with to_html is logged as the HTML at the time of the call."""

        class Figure:
            title = "before"

            def to_html(self):
                return f"<html>{self.title}</html>"

        figure = Figure()
        with Recorder() as logger:
            logger.log_figure("x", figure, 1)
            figure.title = "after"
        assert logger.got == ["<html>before</html>"]

    def test_other_objects(self):
        """An object that is no figure raises where it is logged."""
        with Recorder() as logger, pytest.raises(TypeError, match="figure must be a Matplotlib figure"):
            logger.log_figure("x", object(), 1)


def test_histogram_of_close_numbers():
    """Numbers of 32 bits that are so close that 256 edges do not fit between them have a histogram."""
    values = np.linspace(1 - 1e-6, 1 + 1e-6, 1_000, dtype=np.float32)
    assert sum(finish(Record(0, "histogram", "w", 1, 0.0, values)).payload.counts) == 1_000


class TestBytes:
    def test_callers_reduce_what_waits(self):
        """Above the limit of waiting bytes, tensors wait as histograms, so memory stays flat."""
        waiting = Waiting(Bounds(10_000, 1 << 28), lambda: None)
        values = np.zeros(1 << 20)
        for step in range(60):
            assert waiting.put(Record(0, "histogram", "w", step, 0.0, values))
        # Histograms count as well.
        assert waiting.size <= Waiting.EAGER + 60 * 10_000
        assert len(waiting) == 60
        while waiting:
            waiting.pop()
        assert waiting.size == 0

    def test_memory_limit(self):
        """Images above the memory limit are dropped and counted."""
        waiting = Waiting(Bounds(10_000, 1_000), lambda: None)
        image = Record(0, "image", "x", 1, 0.0, np.zeros((20, 20, 1), np.uint8))
        assert [waiting.put(image) for _ in range(3)] == [True, True, False]

    @pytest.mark.parametrize(
        ("kind", "payload"), [("text", "x" * 400), ("params", {"event": b"x" * 380, "folder": "x" * 20})]
    )
    def test_memory_limit_of_texts(self, kind, payload):
        """Texts and serialized events count too, and no longer after they were taken."""
        waiting = Waiting(Bounds(10_000, 1_000), lambda: None)
        record = Record(0, kind, None, None, 0.0, payload)
        assert [waiting.put(record) for _ in range(3)] == [True, True, False]
        waiting.pop()
        assert waiting.put(record)
