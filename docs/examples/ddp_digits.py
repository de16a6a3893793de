"""Train a network on handwritten digits in any number of processes, with DistributedDataParallel.

pip install glowplug glowplug-metrics glowplug-model-checkpoint glowplug-terminate-on-nan glowplug-jsonl scikit-learn
torchrun --nproc-per-node 2 docs/examples/ddp_digits.py     two processes, on GPUs if there are any
python docs/examples/ddp_digits.py                          one process

The next start resumes the run. With --max-restarts 3, torchrun restarts the processes if one of them fails.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from typing import Any

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, Subset, TensorDataset

from glowplug import Events, create_supervised_evaluator, create_supervised_trainer, setup_training
from glowplug.distributed import rank, rank_zero_only, world_size
from glowplug.handlers import JsonLinesLogger
from glowplug.metrics import Accuracy, Loss

FOLDER = "runs/ddp_digits"
BATCH_SIZE = 64


def main() -> None:
    device = start_process_group()
    # Each rank needs its own dropout masks. DistributedDataParallel copies the initial weights from rank 0.
    torch.manual_seed(rank())
    training, validation = load_data()
    sampler: DistributedSampler[Any] = DistributedSampler(training, world_size(), rank())
    # A DistributedSampler would repeat samples until all ranks have the same number, and the metrics would count them twice.
    part = Subset(validation, range(rank(), len(validation), world_size()))

    model = make_model().to(device)
    parallel = DistributedDataParallel(model) if world_size() > 1 else model
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loss_fn = nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(parallel, optimizer, loss_fn, device)
    # Not the parallel model: its forward pass may wait for the other ranks, which may have a different number of batches.
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy(), "loss": Loss(loss_fn)}, device)

    @evaluator.on(Events.COMPLETED)
    @rank_zero_only
    def show() -> None:
        accuracy, loss = evaluator.state.metrics["accuracy"], evaluator.state.metrics["loss"]
        print(f"epoch {trainer.state.epoch}: accuracy {accuracy:.4f}, loss {loss:.4f}")

    with JsonLinesLogger(f"{FOLDER}/log.jsonl") as logger:
        setup_training(
            trainer,
            {"model": model, "optimizer": optimizer},
            FOLDER,
            evaluator,
            DataLoader(part, batch_size=128),
            loggers=[logger],
            progress=False,
        )
        data = DataLoader(training, batch_size=BATCH_SIZE // world_size(), sampler=sampler)
        trainer.run(data, max_epochs=number_of_epochs())
    rank_zero_only(print)(f"SHA-256 of the weights: {digest(model)}")
    if dist.is_initialized():
        dist.destroy_process_group()


def start_process_group() -> torch.device:
    """Connect this process with the others if a launcher has started several, and return its device."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if "RANK" in os.environ:
        store, number, count = next(rendezvous("env://"))
        # torchrun keeps the store when it restarts the processes, and with it the addresses of the previous processes.
        store = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=count)
    return device


def load_data() -> tuple[TensorDataset, TensorDataset]:
    """Return 1,540 images for training and 257 for validation, each 1 x 8 x 8 in [0, 1]."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    return TensorDataset(images[:1540], labels[:1540]), TensorDataset(images[1540:], labels[1540:])


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 64),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(64, 10),
    )


def digest(model: nn.Module) -> str:
    """Return a digest of all weights; equal digests mean identical weights."""
    found = hashlib.sha256()
    for tensor in model.state_dict().values():
        found.update(tensor.cpu().numpy().tobytes())
    return found.hexdigest()


def number_of_epochs() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=5)
    epochs: int = parser.parse_args().epochs
    return epochs


if __name__ == "__main__":
    main()
