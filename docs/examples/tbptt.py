"""Train a recurrent network with truncated backpropagation through time.

    pip install glowplug
    python docs/examples/tbptt.py

The task is to repeat the input of four time steps ago. Each sequence has 200 time steps and is cut into chunks of 20 time steps.
Backpropagation needs memory for one chunk only, but the hidden state is passed from chunk to chunk. If the network had no hidden
state, the loss would stay at about 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from glowplug import Events, TbpttEvents, create_supervised_tbptt_trainer

STEPS, DELAY, CHUNK, SEQUENCES, BATCHES = 200, 4, 20, 32, 30


class Echo(nn.Module):
    """A recurrent network: ``model(x)`` or ``model(x, hidden)`` returns the output and the new hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.GRU(input_size=1, hidden_size=24)
        self.head = nn.Linear(24, 1)

    def forward(
        self, x: torch.Tensor, hidden: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Process a chunk of shape (time steps, sequences, 1), starting from a hidden state if one is given."""
        memory, hidden = self.memory(x, hidden)
        return self.head(memory), hidden


def sequences(seed: int, batches: int = BATCHES) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of random inputs (-1 or 1) and delayed copies, each of shape (time steps, sequences, 1)."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(batches):
        signal = torch.randint(0, 2, (STEPS, SEQUENCES, 1), generator=generator) * 2.0 - 1
        silence = torch.zeros(DELAY, SEQUENCES, 1)
        yield signal, torch.cat([silence, signal[:-DELAY]])


def main() -> None:
    torch.manual_seed(0)
    model = Echo()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    trainer = create_supervised_tbptt_trainer(model, optimizer, nn.functional.mse_loss, tbtt_step=CHUNK)

    @trainer.on(TbpttEvents.TIME_ITERATION_COMPLETED(every=30))
    def show(engine: Any) -> None:
        state = engine.state
        print(f"batch {state.iteration:2}  chunk {state.time_iteration:3}  loss {state.output:.4f}")

    @trainer.on(Events.COMPLETED)
    def test() -> None:
        model.eval()
        with torch.no_grad():
            for x, y in sequences(seed=2, batches=1):
                whole, _ = model(x)
                print(f"whole test sequences of {STEPS} steps: loss {nn.functional.mse_loss(whole, y):.4f}")

    trainer.run(list(sequences(seed=1)))


if __name__ == "__main__":
    main()
