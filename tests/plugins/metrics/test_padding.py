"""Metrics of data that a DistributedSampler pads, on real gloo ranks."""

import pytest


@pytest.mark.parametrize("size", [2, 3])
def test_values_are_those_of_one_process(run_ranks, size):
    """Without the padding, each metric has the same value on all ranks as in one process, for all small data sets (M-063, D2)."""

    def check(rank):
        import itertools

        import torch
        from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

        from glowplug import create_supervised_evaluator
        from glowplug_metrics import Accuracy, ConfusionMatrix, EpochMetric, Loss, MetricGroup, Precision

        size = torch.distributed.get_world_size()
        random = torch.Generator().manual_seed(0)
        # Sums of such numbers are exact, so their order has no effect.
        x = torch.randint(-8, 8, (9, 3), generator=random) / 4.0
        y = torch.randint(3, (9,), generator=random)

        def absolute_error(y_pred, y):
            return (y_pred - torch.nn.functional.one_hot(y, 3)).abs().sum(1).mul(16 * 9 * 8 * 7 * 5).mean()

        def sorted_sums(y_pred, y):
            return (y_pred.sum(1) + 100 * y).sort().values.tolist()

        def metrics():
            precision = Precision(average="micro")
            return {
                "accuracy": Accuracy(),
                "loss": Loss(absolute_error),
                "confusion": ConfusionMatrix(3),
                "epoch": EpochMetric(sorted_sums, check_compute_fn=False),
                "group": MetricGroup(
                    {"accuracy in group": Accuracy(), "loss in group": Loss(absolute_error)}
                ),
                "arithmetic": 1 - precision,
            }

        def values(batch_size, data, ranks):
            sampler = DistributedSampler(data, ranks, rank % ranks, seed=batch_size)
            evaluator = create_supervised_evaluator(torch.nn.Identity(), metrics(), drop_padding=True)
            evaluator.run(DataLoader(data, batch_size, sampler=sampler))
            found = evaluator.state.metrics
            return {
                name: value.tolist() if isinstance(value, torch.Tensor) else value
                for name, value in found.items()
            }

        cases = list(itertools.product(range(1, 10), range(1, 5)))
        together = [values(batch_size, TensorDataset(x[:n], y[:n]), size) for n, batch_size in cases]
        torch.distributed.destroy_process_group()
        alone = [values(batch_size, TensorDataset(x[:n], y[:n]), 1) for n, batch_size in cases]
        return [together, alone]

    for together, alone in run_ranks(check, size):
        assert together == alone


def test_warning_on_one_rank(run_ranks):
    """By default the repeated samples count, and only rank 0 warns, once in several runs (M-063)."""

    def check(rank):
        import warnings

        import torch
        from torch.utils.data import DataLoader, DistributedSampler

        from glowplug import Engine
        from glowplug_metrics import Accuracy, Average

        data = [(torch.tensor([0.0, 1.0]), 1)] * 4 + [(torch.tensor([0.0, 1.0]), 0)]
        evaluator = Engine(lambda engine, batch: batch)
        Accuracy().attach(evaluator, "accuracy")
        Average(lambda output: output[1].double()).attach(evaluator, "share")
        loader = DataLoader(data, 2, sampler=DistributedSampler(data, shuffle=False))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(3):
                evaluator.run(loader)
        return [evaluator.state.metrics["accuracy"], [str(warning.message) for warning in caught]]

    (first, (message,)), (second, none) = run_ranks(check)
    assert first == second == 5 / 6
    assert message.startswith(
        "metrics ('accuracy', 'share') count some samples more than once: the DistributedSampler pads the 5 samples of the data so "
        "that each of the 2 ranks has 3 (1 repeated)."
    )
    assert none == []
