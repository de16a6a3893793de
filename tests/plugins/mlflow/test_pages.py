"""Tests that open MLflow's pages in a browser."""

from glowplug_mlflow import MLflowLogger

# The color of the only run on its page.
COLOR = (0x1F, 0x77, 0xB4)


def test_curves(server, browser, train, is_shown, eventually):
    """The page of a run shows the curves of its loss, learning rate and accuracy."""
    with MLflowLogger(server.uri, "pages", "curves", timeout=60) as logger:
        points = train(logger)
        address = logger.page_url().split("?")[0]
    browser.open(f"{address}/runs/{logger.run_id}/model-metrics")
    assert eventually(lambda: all(is_shown(points[name], browser.curves(COLOR)) for name in points))
    # Another curve is not mistaken for one of these.
    assert not is_shown([(step, -(step**3)) for step in range(10)], browser.curves(COLOR))


def test_runs(server, browser, train, eventually):
    """The page that ``page_url`` returns lists the run."""
    with MLflowLogger(server.uri, "pages of runs", "bold-run", timeout=60) as logger:
        train(logger)
        address = logger.page_url()
    browser.open(address)
    shown = ("bold-run", "matching run")
    assert eventually(lambda: all(text in browser.text() for text in shown)), browser.text()
