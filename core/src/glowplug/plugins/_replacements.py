"""Replacements for pytorch-ignite handlers and metrics that no plugin offers."""

from __future__ import annotations

from glowplug.plugins._equivalents import EQUIVALENTS

__all__ = ["REPLACEMENTS"]

_WRITE_LOGGER = (
    "Subclass glowplug.loggers.Logger and implement write_scalars; docs/how-to/writing-plugins.md shows how"
)
_LOG_HANDLER = (
    "For a custom log handler, write a function (engine, logger, event_name) and pass it to "
    "logger.attach(engine, event_name, function)"
)
_SAVE_HANDLER = (
    "Write a class with the methods of glowplug.typing.SaveHandler, or subclass BaseSaveHandler from "
    "glowplug_model_checkpoint"
)

REPLACEMENTS = {
    # Other handlers
    # Loggers
    **dict.fromkeys(
        (
            "BaseLogger",
            "ClearMLLogger",
            "FBResearchLogger",
            "NeptuneLogger",
            "PolyaxonLogger",
            "VisdomLogger",
        ),
        _WRITE_LOGGER,
    ),
    "WandBLogger": "Use WandbLogger of glowplug-wandb: from glowplug.handlers import WandbLogger",
    "BaseHandler": _LOG_HANDLER,
    "BaseOutputHandler": f"Use OutputHandler from glowplug.handlers. {_LOG_HANDLER}",
    "BaseOptimizerParamsHandler": f"Use OptimizerParamsHandler from glowplug.handlers. {_LOG_HANDLER}",
    "BaseWeightsHandler": f"Use WeightsScalarHandler or WeightsHistHandler from glowplug.handlers. {_LOG_HANDLER}",
    "BaseWeightsScalarHandler": f"Use WeightsScalarHandler from glowplug.handlers. {_LOG_HANDLER}",
    # Save handlers
    "BaseSaveHandler": _SAVE_HANDLER,
    "ClearMLSaver": _SAVE_HANDLER,
    "NeptuneSaver": _SAVE_HANDLER,
    # Metrics
    "GpuInfo": "Use the handler DeviceUsage: pip install glowplug-monitors",
    **{name: equivalent.text(name) for name, equivalent in EQUIVALENTS.items()},
}
"""Maps each name to a sentence that says what to use instead, for error messages."""
