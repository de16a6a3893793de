"""The handler contract, applied to FastaiLRFinder within its with block."""

import pytest
import torch

from glowplug import RemovableEventHandle
from glowplug_lr_finder import FastaiLRFinder
from glowplug_testing import HandlerCase, HandlerContract

in_progress = []


def enter(finder, engine):
    """Begin a search, and return a handle that ends it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    search = finder.attach(engine, {"optimizer": optimizer}, num_iter=5)
    search.__enter__()
    # A context manager that no longer exists would end the search.
    in_progress.append(search)

    def leave():
        in_progress.remove(search)
        search.__exit__(None, None, None)

    return RemovableEventHandle(leave)


@pytest.mark.filterwarnings("ignore:FastaiLRFinder. the loss did not diverge")
class TestFastaiLRFinder(HandlerContract):
    expected_failures = {
        "run_state_is_unchanged": "the finder limits the run to the iterations of the search"
    }

    @pytest.fixture
    def case(self):
        """A finder whose search begins."""
        yield HandlerCase(make=FastaiLRFinder, attach=enter, plugin="glowplug_lr_finder._plugin")
        while in_progress:
            in_progress.pop().__exit__(None, None, None)
