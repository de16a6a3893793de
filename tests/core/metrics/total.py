"""A metric for the tests."""

from glowplug import Metric


class Total(Metric):
    """Metric that adds up all outputs."""

    _state_dict_all_req_keys = ("total",)

    def reset(self):
        self.total = 0

    def update(self, output):
        self.total += output

    def compute(self):
        return self.total
