"""Questions of new users, answered by the search of the site."""

import re
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "docs" / "_build" / "html"
RESULTS = 'Array.from(document.querySelectorAll("ul.search li > a")).map(link => link.getAttribute("href"))'
ENDED = "Search finished|did not match"
# How many results a reader looks at.
SEEN = 5

pytestmark = pytest.mark.skipif(not SITE.exists(), reason="tox run -e docs builds the site")

# What the reader types, and the page with the answer.
QUESTIONS = {
    "How do I install it?": ("install", "index"),
    "How do I write a handler?": ("write handler", "tutorial/first-handler"),
    "How do I publish a plugin?": ("publish plugin", "how-to/writing-plugins"),
    "Which plugins are there?": ("plugin index", "reference/plugin-index"),
    "How do I continue an interrupted run?": ("resume run", "how-to/checkpoint-and-resume"),
    "How do I keep the best checkpoint?": ("best checkpoint", "how-to/checkpoint-and-resume"),
    "How do I stop early?": ("early stopping", "distributions/glowplug-early-stopping"),
    "How do I use mixed precision?": ("mixed precision", "how-to/gpu-and-mixed-precision"),
    "How do I accumulate gradients?": ("gradient accumulation", "how-to/training-step"),
    "How do I clip gradients?": ("clip gradients", "how-to/training-step"),
    "How do I train with DDP?": ("DDP", "many-processes"),
    "How do I run under torchrun?": ("torchrun", "many-processes"),
    "How do I validate every n iterations?": ("validate iterations", "how-to/iteration-based-training"),
    "How do I log to MLflow?": ("MLflow", "distributions/glowplug-mlflow"),
    "What happens if the MLflow server is down?": ("MLflow server down", "distributions/glowplug-mlflow"),
    "How do I deliver records that wait?": ("spool replay", "reference/command-line"),
    "How do I log to TensorBoard?": ("TensorBoard", "distributions/glowplug-tensorboard"),
    "How do I write a logger?": ("write logger", "how-to/writing-plugins"),
    "In which order do handlers run?": ("order of handlers", "reference/events"),
    "Which events are there?": ("events", "reference/events"),
    "How do I run a handler every 100 iterations?": ("every filter", "reference/events"),
    "How do I train on several GPUs?": ("multiple GPUs", "many-processes"),
    "How do I move from ignite?": ("ignite", "how-to/coming-from-ignite"),
    "What is the counterpart of a Lightning callback?": (
        "Lightning callback",
        "how-to/coming-from-lightning",
    ),
    "How do I sweep over settings?": ("sweep", "how-to/sweeps"),
    "How do I use a configuration file?": ("configuration file", "how-to/configuration-files"),
    "How do I use it in a notebook?": ("notebook", "how-to/notebooks"),
    "Which environment variables are there?": ("environment variables", "reference/environment-variables"),
    "How long do names stay?": ("deprecation", "explanation/compatibility"),
    "How fast is it?": ("benchmark", "performance"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_search(browser, eventually, question):
    """The search of the site lists the page with the answer among the first results."""
    words, page = QUESTIONS[question]
    browser.open(f"{(SITE / 'search.html').as_uri()}?q={words.replace(' ', '+')}")
    assert eventually(lambda: re.search(ENDED, browser.text()))
    found = [link.partition(".html")[0] for link in browser.value(RESULTS) or []]
    assert page in found[:SEEN]


def test_unknown_word(browser, eventually):
    """A word that is on no page has no results."""
    browser.open(f"{(SITE / 'search.html').as_uri()}?q=zyxwv")
    assert eventually(lambda: "did not match" in browser.text())
    assert browser.value(f"{RESULTS}.length") == 0
