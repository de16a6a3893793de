"""Replacements for the backend methods that pytorch-ignite's loggers expose."""

from __future__ import annotations

_SCALARS = "log_scalars({name: value}, step)"
_PARAMS = "log_params({name: value})"
_TEXT = "log_text(name, text, step)"
_IMAGE = "log_image(name, image, step)"
_TAGS = "log_tags({name: value}) of MLflowLogger, or log_text(name, text, step)"
_CLIENT = "the client of MLflow with the run_id of MLflowLogger, as in mlflow.MlflowClient().log_table(logger.run_id, ...)"
_RUN = "run_id of MLflowLogger, as in mlflow.start_run(run_id=logger.run_id)"
_WANDB = "log_scalars({name: value}, step), or the same name of run of WandbLogger"
_REPLACEMENTS = {
    "add_scalar": _SCALARS,
    "add_scalars": _SCALARS,
    "log_metric": _SCALARS,
    "log_metrics": _SCALARS,
    "add_hparams": _PARAMS,
    "log_param": _PARAMS,
    "add_text": _TEXT,
    "log_dict": _TEXT,
    "add_histogram": "log_histogram(name, values, step)",
    "add_image": _IMAGE,
    "add_images": _IMAGE,
    "add_figure": "log_figure(name, figure, step)",
    "add_graph": "log_graph(model, inputs) of TensorboardLogger",
    "log_artifacts": "log_artifact(path), which also accepts a folder",
    "log_model": "log_artifact(path, name) for a model that mlflow.pytorch.save_model(model, path) has saved",
    "set_tag": _TAGS,
    "set_tags": _TAGS,
    **dict.fromkeys(("log_table", "log_input", "log_inputs", "get_artifact_uri", "register_model"), _CLIENT),
    **dict.fromkeys(("active_run", "start_run", "end_run"), _RUN),
    **dict.fromkeys(("log", "watch", "define_metric"), _WANDB),
    **dict.fromkeys(
        (
            "add_audio",
            "add_custom_scalars",
            "add_embedding",
            "add_histogram_raw",
            "add_mesh",
            "add_onnx_graph",
            "add_pr_curve",
            "add_tensor",
            "add_video",
        ),
        "the same method of TensorboardLogger(...).writer",
    ),
}


def missing_attribute(logger: object, name: str) -> AttributeError:
    """Return the error for an attribute that a logger does not have.

    Args:
        logger: The logger.
        name: Name of the attribute.

    Example:
        >>> print(missing_attribute(3, "log_param"))
        'int' object has no attribute 'log_param'; loggers do not forward calls to their backends. Use log_params({name: value})
    """
    problem = f"{type(logger).__name__!r} object has no attribute {name!r}"
    if name in _REPLACEMENTS:
        problem += f"; loggers do not forward calls to their backends. Use {_REPLACEMENTS[name]}"
    return AttributeError(problem)
