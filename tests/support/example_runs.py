"""Runs of the example scripts: what they have saved, printed and logged."""

import json
import re
import runpy
from pathlib import Path

import torch
from torch import nn

from glowplug_model_checkpoint import ModelCheckpoint

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def evaluate(model, x, y):
    """Return the accuracy and the loss of a model over all samples, computed at once in this process."""
    model.eval()
    with torch.no_grad():
        logits = model(x)
    return (logits.argmax(1) == y).sum().item() / len(y), nn.functional.cross_entropy(logits, y).item()


def evaluate_digits(name, folder):
    """Return the accuracy and the loss of the latest checkpoint of a script that classifies digits."""
    script = runpy.run_path(str(EXAMPLES / name))
    model = script["make_model"]()
    ModelCheckpoint.load_objects({"model": model}, ModelCheckpoint.latest(folder))
    return evaluate(model, *script["load_data"]()[1].tensors)


def printed(output):
    """Return the numbers that a script has printed about its evaluations, as texts."""
    return re.findall(r"(?:epoch|iteration) (\d+): accuracy ([\d.]+), (?:loss|perplexity) ([\d.]+)", output)


def logged(path, name):
    """Return the steps and values of a curve in a JSON Lines file."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["step"], line["values"][name]) for line in lines if name in line.get("values", ())]
