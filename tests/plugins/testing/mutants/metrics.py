"""A correct metric, and mutants with one fault each."""

import torch

from glowplug import Events, Metric, sync_all_reduce
from glowplug.distributed import all_reduce
from glowplug.exceptions import NotComputableError


class Mean(Metric):
    """The mean of all numbers."""

    _state_dict_all_req_keys = ("_sum", "_count")

    def reset(self):
        self._sum = torch.zeros((), dtype=torch.float64)
        self._count = 0

    def update(self, output):
        self._sum = self._sum + output.detach().sum().to("cpu", torch.float64)
        self._count += output.numel()

    @sync_all_reduce("_sum", "_count")
    def compute(self):
        if self._count == 0:
            raise NotComputableError("Mean has seen no number since it was reset")
        return (self._sum / self._count).item()


class MeanOfMeans(Mean):
    def update(self, output):
        self._sum = self._sum + output.detach().mean().double()
        self._count += 1


class IgnoresTheSign(Mean):
    def update(self, output):
        super().update(output.abs())


class IsZeroWithoutData(Mean):
    @sync_all_reduce("_sum", "_count")
    def compute(self):
        return (self._sum / max(self._count, 1)).item()


class DividesByZero(Mean):
    @sync_all_reduce("_sum", "_count")
    def compute(self):
        return self._sum.item() / self._count


class KeepsItsCount(Mean):
    _count = 0

    def reset(self):
        self._sum = torch.zeros((), dtype=torch.float64)


class RemembersItsValue(Mean):
    value = None

    def compute(self):
        self.value = super().compute() if self.value is None else self.value
        return self.value


class WeighsTheLast(Mean):
    def update(self, output):
        self._sum = 0.5 * self._sum + output.detach().sum().double()
        self._count += output.numel()


class MutatesItsInput(Mean):
    def update(self, output):
        super().update(output.mul_(1.0))
        output.zero_()


class KeepsTheBatches(Mean):
    _state_dict_all_req_keys = ("batches",)

    def reset(self):
        super().reset()
        self.batches = []

    def update(self, output):
        self.batches.append(output.detach())

    def compute(self):
        if not self.batches:
            raise NotComputableError("no data")
        self._sum, self._count = sum(b.sum().double() for b in self.batches), sum(map(len, self.batches))
        return super().compute()


class KeepsTheGraph(Mean):
    def update(self, output):
        self._sum = self._sum + output.sum().double()
        self._count += output.numel()

    @sync_all_reduce("_sum", "_count")
    def compute(self):
        if self._count == 0:
            raise NotComputableError("no data")
        return (self._sum.detach() / self._count).item()


class ComputesInPlace(Mean):
    def compute(self):
        value = super().compute()
        self._sum = self._sum / 2
        return value


class ComputesOnOneRank(Mean):
    def compute(self):
        if self._count == 0:
            raise NotComputableError("no data")
        return (self._sum / self._count).item()


class ReducesTwice(Mean):
    def compute(self):
        self._sum, self._count = all_reduce(self._sum), all_reduce(self._count)
        self._sum = self._sum * 1.5 if self._count > 6 else self._sum
        return (self._sum / self._count).item() if self._count else super().compute()


class HasNoState(Mean):
    _state_dict_all_req_keys = ()


class HasHalfAState(Mean):
    _state_dict_all_req_keys = ("_sum",)


class SharesItsSum(Mean):
    _shared = torch.zeros((), dtype=torch.float64)

    def reset(self):
        self._sum = self._shared.zero_()
        self._count = 0

    def update(self, output):
        self._shared.add_(output.detach().sum().double())
        self._sum = self._shared
        self._count += output.numel()


class PublishesElsewhere(Mean):
    def completed(self, engine, name):
        super().completed(engine, "mean")


class LeavesARegistration(Mean):
    def attach(self, engine, name, usage=None):
        engine.add_event_handler(Events.STARTED, self.reset)
        return super().attach(engine, name, usage)


class ChangesTheDefaultType(Mean):
    def compute(self):
        torch.set_default_dtype(torch.float64)
        return super().compute()


class IsNoMetric:
    def update(self, output):
        pass
