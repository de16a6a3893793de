from typing import Any

from glowplug.loggers import (
    GradsHistHandler as GradsHistHandler,
    GradsScalarHandler as GradsScalarHandler,
    OptimizerParamsHandler as OptimizerParamsHandler,
    OutputHandler as OutputHandler,
    WeightsHistHandler as WeightsHistHandler,
    WeightsScalarHandler as WeightsScalarHandler,
    global_step_from_engine as global_step_from_engine,
)
from glowplug_early_stopping import EarlyStopping as EarlyStopping
from glowplug_ema import EMAHandler as EMAHandler, SWAHandler as SWAHandler
from glowplug_jsonl import CsvLogger as CsvLogger, JsonLinesLogger as JsonLinesLogger
from glowplug_lr_finder import FastaiLRFinder as FastaiLRFinder, LRFinder as LRFinder
from glowplug_metrics import EpochOutputStore as EpochOutputStore
from glowplug_mlflow import MLflowLogger as MLflowLogger
from glowplug_model_checkpoint import (
    Checkpoint as Checkpoint,
    DiskSaver as DiskSaver,
    Every as Every,
    FsspecSaver as FsspecSaver,
    KeepBest as KeepBest,
    KeepEvery as KeepEvery,
    KeepLast as KeepLast,
    ModelCheckpoint as ModelCheckpoint,
    SafetensorsSaver as SafetensorsSaver,
    ShardedSaver as ShardedSaver,
)
from glowplug_monitors import (
    DataWait as DataWait,
    DeviceUsage as DeviceUsage,
    GradientNorm as GradientNorm,
    LearningRate as LearningRate,
    ModelSummary as ModelSummary,
    Throughput as Throughput,
)
from glowplug_preemption import Preemption as Preemption
from glowplug_progress import ProgressBar as ProgressBar
from glowplug_schedulers import (
    BaseParamScheduler as BaseParamScheduler,
    BatchSizeScheduler as BatchSizeScheduler,
    ConcatScheduler as ConcatScheduler,
    CosineAnnealingScheduler as CosineAnnealingScheduler,
    CyclicalScheduler as CyclicalScheduler,
    ExpStateScheduler as ExpStateScheduler,
    LambdaStateScheduler as LambdaStateScheduler,
    LinearCyclicalScheduler as LinearCyclicalScheduler,
    LRScheduler as LRScheduler,
    MultiStepStateScheduler as MultiStepStateScheduler,
    ParamGroupScheduler as ParamGroupScheduler,
    ParamScheduler as ParamScheduler,
    PiecewiseLinear as PiecewiseLinear,
    PiecewiseLinearStateScheduler as PiecewiseLinearStateScheduler,
    ReduceLROnPlateauScheduler as ReduceLROnPlateauScheduler,
    StateParamScheduler as StateParamScheduler,
    StepStateScheduler as StepStateScheduler,
    create_lr_scheduler_with_warmup as create_lr_scheduler_with_warmup,
)
from glowplug_tensorboard import TensorboardLogger as TensorboardLogger
from glowplug_terminate_on_nan import TerminateOnNan as TerminateOnNan
from glowplug_timers import (
    BasicTimeProfiler as BasicTimeProfiler,
    HandlersTimeProfiler as HandlersTimeProfiler,
    ProfilerHandler as ProfilerHandler,
    TimeLimit as TimeLimit,
    Timer as Timer,
)
from glowplug_wandb import WandbLogger as WandbLogger

def create(name: str, /, **options: Any) -> Any: ...
