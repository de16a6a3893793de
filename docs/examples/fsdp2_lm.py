"""Train a small language model whose parameters are sharded over all processes, with fully_shard (FSDP2).

pip install glowplug glowplug-metrics glowplug-model-checkpoint glowplug-tensorboard
torchrun --nproc-per-node 2 docs/examples/fsdp2_lm.py     two processes, on GPUs if there are any
python docs/examples/fsdp2_lm.py                          one process, without sharding

The next start resumes the run.
"""

from __future__ import annotations

import argparse
import inspect
import math
import os
import typing
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.fsdp import fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.utils.data import IterableDataset

from glowplug import Events, create_supervised_evaluator, create_supervised_trainer
from glowplug.distributed import rank, rank_zero_only, world_size
from glowplug.loggers import global_step_from_engine
from glowplug.metrics import Accuracy, Loss, MetricsLambda
from glowplug_model_checkpoint import Checkpoint, ShardedSaver
from glowplug_tensorboard import TensorboardLogger

FOLDER = "runs/fsdp2_lm"
CONTEXT = 32
BATCH_SIZE = 16


def main() -> None:
    device = start_process_group()
    # With the same seed, all ranks create the same initial weights.
    torch.manual_seed(0)
    training, validation, num_characters = load_text()
    model = LanguageModel(num_characters).to(device)
    if world_size() > 1:
        for layer in model.layers:
            fully_shard(layer)
        fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss_fn = nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(model, optimizer, loss_fn, device, prepare_batch=shift, clip_norm=1.0)
    metrics = {"accuracy": Accuracy(), "perplexity": MetricsLambda(math.exp, Loss(loss_fn))}
    evaluator = create_supervised_evaluator(model, metrics, device, prepare_batch=shift)
    # The ranks share the windows without repeating any. All ranks need the same number of batches, because they gather the
    # parameters together in each forward pass.
    number = math.ceil(len(validation) / world_size() / BATCH_SIZE)
    batches = validation[rank() :: world_size()].tensor_split(number)

    @trainer.on(Events.ITERATION_COMPLETED(every=25))
    def validate() -> None:
        evaluator.run(batches)

    @evaluator.on(Events.COMPLETED)
    @rank_zero_only
    def show() -> None:
        accuracy, perplexity = evaluator.state.metrics["accuracy"], evaluator.state.metrics["perplexity"]
        print(f"iteration {trainer.state.iteration}: accuracy {accuracy:.4f}, perplexity {perplexity:.4f}")

    # Each rank writes its part of the parameters and of the optimizer's state.
    checkpoint = Checkpoint(
        {"model": model, "optimizer": optimizer, "trainer": trainer},
        ShardedSaver(f"{FOLDER}/checkpoints"),
        resume="auto",
    )
    checkpoint.attach(trainer, Events.ITERATION_COMPLETED(every=25))
    with TensorboardLogger(f"{FOLDER}/tensorboard") as logger:
        logger.attach_output_handler(
            trainer,
            Events.ITERATION_COMPLETED(every=5),
            "training",
            output_transform=lambda loss: {"loss": loss},
        )
        logger.attach_output_handler(
            evaluator,
            Events.COMPLETED,
            "validation",
            metric_names="all",
            global_step_transform=global_step_from_engine(trainer, Events.ITERATION_COMPLETED),
        )
        trainer.run(Stream(training), max_iters=number_of_iterations())
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


def load_text() -> tuple[Tensor, Tensor, int]:
    """Return the characters of Python code for training, 97 windows for validation, and the number of characters."""
    text = "".join(inspect.getsource(module) for module in (argparse, inspect, typing))
    characters = sorted(set(text))
    tokens = torch.tensor([characters.index(each) for each in text])
    length = 97 * CONTEXT
    return tokens[:-length], tokens[-length:].view(-1, CONTEXT), len(characters)


class Stream(IterableDataset[Tensor]):
    """Batches of windows at random positions, different on each rank, without an end.

    Args:
        tokens: Tensor of shape ``(length,)``.
    """

    def __init__(self, tokens: Tensor) -> None:
        self._windows = tokens.unfold(0, CONTEXT, 1)
        self._generator = torch.Generator().manual_seed(rank())

    def __iter__(self) -> Iterator[Tensor]:
        size = BATCH_SIZE // world_size()
        while True:
            yield self._windows[torch.randint(len(self._windows), (size,), generator=self._generator)]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the position in the stream."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue at a saved position."""
        self._generator.set_state(state["generator"])


class LanguageModel(nn.Module):
    """A transformer that predicts the next character.

    Args:
        num_characters: Number of different characters.
        width: Width of the network.
    """

    def __init__(self, num_characters: int, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_characters, width)
        self.positions = nn.Embedding(CONTEXT, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=128, dropout=0.0, batch_first=True)
            for _ in range(2)
        )
        self.head = nn.Linear(width, num_characters)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the next characters, of shape ``(batch * length, num_characters)``."""
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device)
        hidden = self.embedding(tokens) + self.positions(torch.arange(length, device=tokens.device))
        for layer in self.layers:
            hidden = layer(hidden, src_mask=mask, is_causal=True)
        logits: Tensor = self.head(hidden.flatten(0, 1))
        return logits


def shift(tokens: Tensor, device: torch.device, **_: object) -> tuple[Tensor, Tensor]:
    """Return the inputs and the targets: each character predicts the next one."""
    tokens = tokens.to(device)
    return tokens[:, :-1], tokens[:, 1:].flatten()


def number_of_iterations() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--iterations", type=int, default=100)
    iterations: int = parser.parse_args().iterations
    return iterations


if __name__ == "__main__":
    main()
