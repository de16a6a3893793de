"""Classification metrics on two gloo ranks."""


def test_two_ranks_with_uneven_data(run_ranks):
    """Two ranks with different numbers of examples return the values of all data, also after more updates (D2, M-060)."""

    def check(rank):
        import torch

        from glowplug import Engine
        from glowplug_metrics import (
            ClassificationReport,
            ConfusionMatrix,
            Fbeta,
            MultiLabelConfusionMatrix,
            Precision,
            Recall,
            TopKCategoricalAccuracy,
            mIoU,
        )

        random = torch.Generator().manual_seed(0)
        data = torch.randn(7, 4, generator=random), torch.randint(4, (7,), generator=random)
        rows = [torch.randint(2, (7, 3), generator=random) for _ in "py"]
        many = torch.randn(7, 70, generator=random), torch.randint(70, (7,), generator=random)

        def metrics():
            return {
                "precision": Precision(),
                "weighted": Recall(average="weighted"),
                "f2": Fbeta(2.0, average=False),
                "report": ClassificationReport(),
                "cm": ConfusionMatrix(4),
                "recalls": ConfusionMatrix(4, average="recall"),
                "miou": mIoU(ConfusionMatrix(4)),
                "top": TopKCategoricalAccuracy(2),
            }

        def labelled():
            return {
                "matrices": MultiLabelConfusionMatrix(3),
                "samples": Precision(average="samples", is_multilabel=True),
                "micro": Recall(average="micro", is_multilabel=True),
            }

        def values_of(make, batches):
            engine = Engine(lambda engine, batch: batch)
            for name, metric in make().items():
                metric.attach(engine, name)
            published = engine.run(batches).metrics
            return {name: v.tolist() if isinstance(v, torch.Tensor) else v for name, v in published.items()}

        def part(pair, of):
            return [tuple(t[of] for t in pair)]

        mine = slice(0, 5) if rank == 0 else slice(5, 7)
        values = {**values_of(metrics, part(data, mine)), **values_of(labelled, part(rows, mine))}
        values["many"] = values_of(lambda: {"many": Precision()}, part(many, mine))

        idle, counts = Precision(average="micro"), ConfusionMatrix(4)
        if rank == 0:
            idle.update(data)
            counts.update(data)
        values["one idle"] = [idle.compute(), counts.compute().tolist()]
        idle.update(data)
        counts.update(data)
        values["later"] = [idle.compute(), counts.compute().tolist()]

        other = Recall()
        other.update((torch.eye(3), torch.arange(3)) if rank == 0 else (torch.ones(3), torch.ones(3)))
        try:
            other.compute()
        except RuntimeError as error:
            values["kinds"] = str(error)

        # The values of one process with all data.
        torch.distributed.destroy_process_group()
        alone = {
            **values_of(metrics, part(data, slice(None))),
            **values_of(labelled, part(rows, slice(None))),
        }
        alone["many"] = values_of(lambda: {"many": Precision()}, part(many, slice(None)))
        idle, counts = Precision(average="micro"), ConfusionMatrix(4)
        idle.update(data)
        counts.update(data)
        alone["one idle"] = [idle.compute(), counts.compute().tolist()]
        alone["later"] = [idle.compute(), (3 * counts.compute()).tolist()]
        torch.distributed.init_process_group(
            "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
        )
        return [values, alone]

    for values, alone in run_ranks(check):
        assert (
            "Recall needs the same kind of data and number of classes on all ranks, got binary and multiclass with 3 classes"
            in values.pop("kinds")
        )
        assert values == alone
