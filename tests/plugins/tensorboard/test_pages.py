"""Tests that open TensorBoard's pages in a browser."""

from glowplug_tensorboard import TensorboardLogger

# The color of the first run.
COLOR = (0x42, 0x50, 0x66)
# All charts, unfolded and without smoothing.
CHARTS = "?darkMode=false&tagFilter=.&smoothing=0#timeseries"


def test_curves(tmp_path, serve, browser, train, is_shown, eventually):
    """The page of a run shows the curves of its loss, learning rate and accuracy."""
    with TensorboardLogger(tmp_path / "logs" / "digits") as logger:
        points = train(logger)
    browser.open(f"{serve(tmp_path / 'logs')}/{CHARTS}")
    assert eventually(lambda: all(is_shown(points[name], browser.curves(COLOR)) for name in points))
    # Another curve is not mistaken for one of these.
    assert not is_shown([(step, -(step**3)) for step in range(10)], browser.curves(COLOR))


def test_hyperparameters(tmp_path, serve, browser, train, eventually):
    """The HPARAMS page has a row with the hyperparameters and the last metrics of the run."""
    with TensorboardLogger(tmp_path / "logs" / "digits") as logger:
        points = train(logger)
    browser.open(f"{serve(tmp_path / 'logs')}/#hparams")
    accuracy = f"{points['validation/accuracy'][-1][1]:.5g}"
    shown = ("optimizer", "Adam", "hidden", "16.000", "validation/accuracy", accuracy)
    assert eventually(lambda: all(text in browser.text() for text in shown)), browser.text()
