"""Train a small language model on an endless stream of Python code, with validation every 100 iterations.

pip install glowplug glowplug-monitors glowplug-schedulers glowplug-metrics glowplug-model-checkpoint \
    glowplug-early-stopping glowplug-terminate-on-nan glowplug-progress glowplug-jsonl
python docs/examples/language_model.py     starts a run, or resumes the run that was interrupted
"""

from __future__ import annotations

import argparse
import inspect
import math
import typing
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from glowplug import Events, create_supervised_evaluator, create_supervised_trainer, setup_training
from glowplug.handlers import CsvLogger, Throughput, create_lr_scheduler_with_warmup
from glowplug.metrics import Loss, MetricsLambda

FOLDER = "runs/language_model"
CONTEXT = 32
ITERATIONS = 400


def main() -> None:
    torch.manual_seed(0)
    text = "".join(inspect.getsource(module) for module in (argparse, inspect, typing))
    characters = sorted(set(text))
    tokens = torch.tensor([characters.index(each) for each in text])
    training, validation = tokens[:-6400], tokens[-6400:]
    model = LanguageModel(len(characters))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    trainer = create_supervised_trainer(model, optimizer, loss_fn, prepare_batch=shift, clip_norm=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=ITERATIONS)
    create_lr_scheduler_with_warmup(cosine, warmup_start_value=0.0, warmup_duration=50).attach(trainer)
    Throughput(Tensor.numel).attach(trainer, "tokens/s")
    loss = Loss(loss_fn)
    metrics = {"loss": loss, "perplexity": MetricsLambda(math.exp, loss)}
    evaluator = create_supervised_evaluator(model, metrics, prepare_batch=shift)

    @evaluator.on(Events.COMPLETED)
    def show() -> None:
        perplexity, speed = evaluator.state.metrics["perplexity"], trainer.state.metrics["tokens/s"]
        print(f"iteration {trainer.state.iteration}: perplexity {perplexity:.2f}, {speed:.0f} tokens/s")

    with CsvLogger(f"{FOLDER}/log.csv") as logger:
        setup_training(
            trainer,
            {"model": model, "optimizer": optimizer},
            FOLDER,
            evaluator,
            validation.view(-1, 20, CONTEXT),
            event_name=Events.ITERATION_COMPLETED(every=100),
            best="loss",
            mode="min",
            patience=3,
            loggers=[logger],
        )
        trainer.run(Stream(training), max_iters=ITERATIONS)
    print(repr(write(model, characters, "    def ")))


class Stream(IterableDataset[Tensor]):
    """Batches of windows at random positions, without an end. The state makes a resumed run continue with the next batch.

    Args:
        tokens: Tensor of shape ``(length,)``.
    """

    def __init__(self, tokens: Tensor) -> None:
        self._windows = tokens.unfold(0, CONTEXT, 1)
        self._generator = torch.Generator().manual_seed(0)

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield self._windows[torch.randint(len(self._windows), (16,), generator=self._generator)]

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
        self.positions = nn.Parameter(torch.zeros(CONTEXT, width))
        layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=128, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.head = nn.Linear(width, num_characters)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the next characters, of shape ``(batch, length, num_characters)``."""
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        inputs = self.embedding(tokens) + self.positions[:length]
        logits: Tensor = self.head(self.layers(inputs, mask=mask, is_causal=True))
        return logits


def loss_fn(logits: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def shift(tokens: Tensor, **_: object) -> tuple[Tensor, Tensor]:
    """Return the inputs and the targets: each character predicts the next one."""
    return tokens[:, :-1], tokens[:, 1:]


@torch.no_grad()
def write(model: nn.Module, characters: list[str], text: str) -> str:
    """Continue a text with the most probable characters."""
    model.eval()
    for _ in range(40):
        tokens = torch.tensor([[characters.index(each) for each in text[1 - CONTEXT :]]])
        text += characters[int(model(tokens)[0, -1].argmax())]
    return text


if __name__ == "__main__":
    main()
