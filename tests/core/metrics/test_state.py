"""The state of metrics in one and two processes, and the decorators for distributed values."""

import io

import pytest
import torch

from glowplug import Engine, Metric, reinit__is_reduced, sync_all_reduce


class Everything(Metric):
    """Metric with a state attribute of each supported type."""

    _state_dict_all_req_keys = ("count", "sums", "nothing", "nested", "part", "parts")

    def __init__(self, part=None, parts=None):
        self.part = part
        self.parts = parts or {}
        super().__init__()

    def reset(self):
        self.count = 0
        self.sums = torch.zeros(2)
        self.nothing = None
        self.nested = []

    def update(self, output):
        self.count += 1
        self.sums += output
        self.nested.append({"last": output.clone(), "name": "x"})

    def compute(self):
        return self.sums / self.count


class Count(Metric):
    _state_dict_all_req_keys = ("count",)

    def reset(self):
        self.count = 0

    def update(self, output):
        self.count += output

    @sync_all_reduce("count")
    def compute(self):
        return self.count


def test_safe_load():
    """All types of state can be loaded with weights_only=True (M-070)."""
    metric = Everything(Count(), {"a": Count()})
    metric.update(torch.tensor([1.0, 2.0]))
    metric.part.update(5)
    metric.parts["a"].update(6)
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    fresh = Everything(Count(), {"a": Count()})
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert (fresh.count, fresh.sums.tolist(), fresh.nothing) == (1, [1.0, 2.0], None)
    assert fresh.nested[0]["last"].tolist() == [1.0, 2.0]
    assert (fresh.part.compute(), fresh.parts["a"].compute()) == (5, 6)


def test_later_updates():
    """A saved state shares no memory with the metric that saved it or loads it (M-070)."""
    metric = Everything()
    metric.update(torch.ones(2))
    state = metric.state_dict()
    fresh = Everything()
    fresh.load_state_dict(state)
    metric.update(torch.ones(2))
    fresh.update(torch.ones(2))
    assert state["__metric_state_per_rank"][0]["sums"].tolist() == [1.0, 1.0]


def test_invalid_state():
    """load_state_dict() refuses wrong types, keys, attributes and numbers of ranks by name (M-071)."""
    count = Count()
    with pytest.raises(TypeError, match="the state of Count must be a mapping, got list"):
        count.load_state_dict([])
    with pytest.raises(
        ValueError, match=r"must have the key '__metric_state_per_rank', got the keys \['count'\]"
    ):
        count.load_state_dict({"count": 1})
    with pytest.raises(ValueError, match="saved by 2 processes and cannot be loaded by 1"):
        count.load_state_dict({"__metric_state_per_rank": [{"count": 1}, {"count": 2}]})
    with pytest.raises(ValueError, match="state of Count must have the keys count; got total"):
        count.load_state_dict({"__metric_state_per_rank": [{"total": 1}]})
    assert count.count == 0


def test_class_without_declared_state():
    """A metric that declares no state raises an error instead of saving an empty state (M-071)."""

    class Silent(Count):
        _state_dict_all_req_keys = ()

    for call in (Silent().state_dict, lambda: Silent().load_state_dict({})):
        with pytest.raises(NotImplementedError, match="Silent does not declare its state"):
            call()


def test_unsupported_attribute():
    """state_dict() refuses an attribute that a safe load refuses (M-070)."""
    metric = Everything()
    metric.nested = [{"function": print}]
    with pytest.raises(TypeError, match=r"Everything.nested\[0\]\['function'\] cannot be saved"):
        metric.state_dict()


def test_unknown_reduction():
    """An unknown reduction is refused when the class is decorated (M-060)."""
    with pytest.raises(
        ValueError, match=r"sync_all_reduce\('count:MEAN'\): the operation must be one of SUM"
    ):
        sync_all_reduce("count:MEAN")


def test_cached_result():
    """reset() and update() discard the cached value of compute() (M-061)."""

    class Cached(Count):
        @reinit__is_reduced
        def reset(self):
            super().reset()

        @reinit__is_reduced
        def update(self, output):
            super().update(output)

        def compute(self):
            if self._result is None:
                self._result = self.count
            return self._result

    cached = Cached()
    cached.update(2)
    assert cached.compute() == 2
    cached.update(3)
    assert cached.compute() == 5
    cached.reset()
    assert cached.compute() == 0


def test_two_ranks(run_ranks):
    """Values cover all ranks, also after later updates, and the state holds each rank's part (M-060, M-062, M-070)."""

    def check(rank):
        import torch

        from glowplug import Engine, Metric, sync_all_reduce

        class Spread(Metric):
            _state_dict_all_req_keys = ("total", "smallest", "largest", "product")

            def reset(self):
                self.total, self.smallest, self.largest, self.product = torch.zeros(2), 10**9, -1.0, 1

            def update(self, output):
                self.total += output
                self.smallest = min(self.smallest, output)
                self.largest = max(self.largest, float(output))
                self.product *= output

            @sync_all_reduce("total", "smallest:MIN", "largest:MAX", "product:PRODUCT")
            def compute(self):
                return [self.total.tolist(), self.smallest, self.largest, self.product]

            @sync_all_reduce("missing")
            def missing(self):
                pass

            @sync_all_reduce("_output_transform")
            def function(self):
                pass

        class Late(Metric):
            def reset(self):
                self.total, self.vector, self.mixed, self.uneven = (
                    0,
                    torch.zeros(()),
                    0.0,
                    torch.zeros(1 + rank),
                )

            def update(self, output):
                self.total = self.total + torch.tensor(output, dtype=torch.float64)
                self.vector = self.vector + torch.ones(3)
                self.mixed = self.mixed + 2

            @sync_all_reduce("total", "vector", "mixed")
            def compute(self):
                return [float(self.total), self.vector.tolist(), float(self.mixed)]

            @sync_all_reduce("uneven")
            def fail(self):
                pass

        late = Late()
        empty = late.compute()
        if rank == 1:
            late.update(0.1)
        only_one = late.compute()
        late.update(0.25)

        def error(call):
            try:
                call()
            except (TypeError, ValueError) as error:
                return f"{type(error).__name__}: {error}"

        metric = Spread()
        engine = Engine(lambda engine, batch: batch)
        metric.attach(engine, "spread")
        published = engine.run([1 + rank, 3 + rank]).metrics["spread"]
        again = metric.compute()
        own = metric.total.tolist()
        state = metric.state_dict()
        metric.update(7)
        fresh = Spread()
        fresh.load_state_dict(state)
        return {
            "published": published,
            "again": again,
            "own": own,
            "after": metric.compute(),
            "ranks": len(state["__metric_state_per_rank"]),
            "loaded": [fresh.total.tolist(), fresh.smallest],
            "one rank": error(
                lambda: fresh.load_state_dict(
                    {"__metric_state_per_rank": state["__metric_state_per_rank"][:1]}
                )
            ),
            "errors": [error(metric.missing), error(metric.function), error(late.fail)],
            "late": [empty, only_one, late.compute()],
        }

    results = run_ranks(check)
    of_all = [[10.0, 10.0], 1, 4.0, 24]
    for rank, result in enumerate(results):
        assert result["published"] == result["again"] == of_all
        assert result["own"] == result["loaded"][0] == [4.0 + 2 * rank] * 2
        assert result["loaded"][1] == 1 + rank
        assert result["after"] == [[24.0, 24.0], 1, 7.0, 24 * 49]
        assert result["ranks"] == 2
        assert "saved by 1 processes and cannot be loaded by 2" in result["one rank"]
        missing, function, shapes = result["errors"]
        assert "ValueError: sync_all_reduce: Spread has no attribute 'missing'" in missing
        assert (
            "TypeError: Spread._output_transform is reduced over ranks and must be a number or a tensor"
            in function
        )
        assert (
            shapes
            == "ValueError: Late.uneven has different shapes on the ranks and cannot be reduced: [(1,), (2,)]"
        )
        assert result["late"] == [[0.0, 0.0, 0.0], [0.1, [1.0] * 3, 2.0], [0.1 + 0.5, [3.0] * 3, 6.0]]


class Largest(Count):
    """Metric that does not use what its parent declares as state."""

    def reset(self):
        self.largest = 0

    def update(self, output):
        self.largest = max(self.largest, output)

    def compute(self):
        return self.largest


class TestSubclassWithItsOwnReset:
    """A subclass whose reset() does not set what its parent declares as state."""

    @pytest.mark.parametrize("combined", [False, True])
    def test_attached(self, combined):
        """It can be attached, alone or in an expression, and is omitted from the engine's state (M-071)."""
        engine = Engine(lambda engine, batch: batch)
        metric = Largest() + 0 if combined else Largest()
        metric.attach(engine, "largest")
        assert engine.run([1, 7, 3], max_epochs=2).metrics == {"largest": 7}
        assert "handlers" not in engine.state_dict()

    def test_saved_by_the_user(self):
        """Its state_dict() and load_state_dict() name the missing attribute and what to declare (M-071)."""
        metric = Largest()
        for call in (metric.state_dict, lambda: metric.load_state_dict(Count().state_dict())):
            with pytest.raises(
                NotImplementedError,
                match=r"Largest lacks attributes .*: count\. .*_state_dict_all_req_keys = ",
            ):
                call()
