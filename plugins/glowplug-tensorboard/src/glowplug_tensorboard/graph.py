"""Graphs of models."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard.writer import SummaryWriter


def add_graph(writer: SummaryWriter, model: nn.Module, inputs: Any) -> None:
    """Trace a model and add its graph to a writer; restore the model and the random states of torch, numpy and Python.

    Args:
        writer: The ``SummaryWriter`` that receives the graph.
        model: The model. Wrappers added by ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel`` are not part of
            the graph.
        inputs: An input tensor, or a tuple of the model's inputs.

    Raises:
        Exception: If torch cannot trace the model.
    """
    inner = _unwrapped(model)
    with _unchanged(inner), torch.no_grad(), warnings.catch_warnings():
        # The tracer warns that it is deprecated, and about every Python number that depends on a tensor.
        warnings.simplefilter("ignore")
        # Without strict mode, outputs may be dicts and lists.
        SummaryWriter.add_graph(writer, inner, inputs, use_strict_trace=False)


def _unwrapped(model: nn.Module) -> nn.Module:
    """Remove the wrappers of a model, because a wrapper cannot be traced or would wait for other ranks."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Restore the random states, the buffers and the training mode of each layer after tracing."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that models may use
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        for module, is_training in modes:
            module.training = is_training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
