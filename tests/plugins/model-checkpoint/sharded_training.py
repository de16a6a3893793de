"""A small training with a sharded or plain model, which the tests of several ranks run in real processes."""

import hashlib

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor


class Training:
    """A model with AdamW; each rank trains on the whole batch, so the result does not depend on the number of ranks.

    The sizes are not divisible by the number of ranks, so that shards differ in size and some are empty.
    """

    def __init__(self, seed, *, is_sharded=True, is_compiled=False):
        torch.manual_seed(seed)
        self.plain = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
        if is_sharded:
            mesh = dist.init_device_mesh("cpu", (dist.get_world_size(),))
            fully_shard(self.plain[0], mesh=mesh)
            fully_shard(self.plain, mesh=mesh)
        self.model = torch.compile(self.plain, backend="eager") if is_compiled else self.plain
        self.optimizer = torch.optim.AdamW(self.plain.parameters(), lr=0.01)

    @property
    def to_save(self):
        """The objects to save, one of them in a list."""
        return {"model": self.model, "optimizers": [self.optimizer]}

    def step(self, number):
        """Take one optimizer step."""
        batch = torch.arange(24.0).reshape(4, 6).sin() + number
        self.optimizer.zero_grad()
        self.model(batch).square().mean().backward()
        self.optimizer.step()

    def digests(self):
        """Return a digest of each tensor of the model and the optimizer; all ranks must call this."""
        names = [name for name, _ in self.plain.named_parameters()]
        found = {name: digest(value) for name, value in self.plain.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            found.update({f"{names[index]} {key}": digest(value) for key, value in values.items()})
        return found


def digest(tensor):
    """Return a digest of all elements of a tensor, sharded or not."""
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return hashlib.sha256(whole.detach().numpy().tobytes()).hexdigest()[:12]
