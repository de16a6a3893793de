"""Filters on events, lists of events, and custom events that the step fires.

pip install glowplug
python docs/examples/events.py
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from glowplug import Engine, EventEnum, Events


class StepEvents(EventEnum):
    """Events within a step."""

    BACKWARD_COMPLETED = "backward_completed"
    OPTIMIZER_STEPPED = "optimizer_stepped"


def main() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(engine: Any, x: torch.Tensor) -> float:
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        engine.fire_event(StepEvents.BACKWARD_COMPLETED)
        optimizer.step()
        engine.state.steps += 1
        engine.fire_event(StepEvents.OPTIMIZER_STEPPED)
        return loss.item()

    trainer = Engine(step)
    # The counter of a custom event is an attribute of the state; the step increments it.
    trainer.register_events(*StepEvents, event_to_attr={StepEvents.OPTIMIZER_STEPPED: "steps"})

    @trainer.on(StepEvents.BACKWARD_COMPLETED)
    def clip() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)

    @trainer.on(StepEvents.OPTIMIZER_STEPPED(every=8))
    def after_some_steps(engine: Any) -> None:
        print(f"every=8                  the optimizer has stepped {engine.state.steps} times")

    @trainer.on(Events.ITERATION_COMPLETED(once=[1, 5]))
    def first_losses(engine: Any) -> None:
        print(f"once=[1, 5]              iteration {engine.state.iteration}: loss {engine.state.output:.3f}")

    def is_small(engine: Any, _count: int) -> bool:
        return bool(engine.state.output < 0.1)  # noqa: PLR2004 - threshold of this example

    @trainer.on(Events.ITERATION_COMPLETED(event_filter=is_small))
    def stop(engine: Any) -> None:
        print(
            f"event_filter=is_small    iteration {engine.state.iteration}: loss {engine.state.output:.3f}, the end"
        )
        engine.terminate()

    @trainer.on(Events.EPOCH_STARTED(after=1, before=4))
    def in_between(engine: Any) -> None:
        print(f"after=1, before=4        epoch {engine.state.epoch}")

    @trainer.on(Events.EPOCH_COMPLETED(every=2) | Events.COMPLETED)
    def save(engine: Any) -> None:
        print(f"a list of two events     {engine.last_event_name} of epoch {engine.state.epoch}")

    trainer.run([torch.randn(16, 3) for _ in range(6)], max_epochs=20)


if __name__ == "__main__":
    main()
