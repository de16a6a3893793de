"""Steps and engines for supervised training and evaluation."""

from glowplug.supervised._batch import prepare_batch_from_keys
from glowplug.supervised._factories import create_supervised_evaluator, create_supervised_trainer
from glowplug.supervised._optimizer_step import OptimizerEvents, OptimizerStep
from glowplug.supervised._setup import TrainingSetup, setup_training
from glowplug.supervised._steps import supervised_evaluation_step, supervised_training_step
from glowplug.supervised._tbptt import Tbptt_Events, TbpttEvents, create_supervised_tbptt_trainer

__all__ = [
    "OptimizerEvents",
    "OptimizerStep",
    "TbpttEvents",
    "Tbptt_Events",
    "TrainingSetup",
    "create_supervised_evaluator",
    "create_supervised_tbptt_trainer",
    "create_supervised_trainer",
    "prepare_batch_from_keys",
    "setup_training",
    "supervised_evaluation_step",
    "supervised_training_step",
]
