from typing import Any

from glowplug.loggers import GradsHistHandler as GradsHistHandler
from glowplug.loggers import GradsScalarHandler as GradsScalarHandler
from glowplug.loggers import OptimizerParamsHandler as OptimizerParamsHandler
from glowplug.loggers import OutputHandler as OutputHandler
from glowplug.loggers import WeightsHistHandler as WeightsHistHandler
from glowplug.loggers import WeightsScalarHandler as WeightsScalarHandler
from glowplug.loggers import global_step_from_engine as global_step_from_engine
from glowplug_early_stopping import EarlyStopping as EarlyStopping
from glowplug_mlflow import MLflowLogger as MLflowLogger
from glowplug_model_checkpoint import Checkpoint as Checkpoint
from glowplug_model_checkpoint import DiskSaver as DiskSaver
from glowplug_model_checkpoint import ModelCheckpoint as ModelCheckpoint
from glowplug_progress import ProgressBar as ProgressBar
from glowplug_tensorboard import TensorboardLogger as TensorboardLogger
from glowplug_terminate_on_nan import TerminateOnNan as TerminateOnNan

def create(name: str, /, **options: Any) -> Any: ...
