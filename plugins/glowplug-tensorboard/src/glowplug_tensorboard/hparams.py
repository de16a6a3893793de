"""Session summaries for TensorBoard's HPARAMS page."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from glowplug import RunOutcome


def session_start(params: Mapping[str, Any]) -> Any:
    """Return a ``Summary`` with the hyperparameters of a session.

    Args:
        params: Flat mapping of names to values. Values other than booleans, numbers and strings are converted to strings.

    Example:
        >>> session_start({"lr": 0.1}).value[0].tag
        '_hparams_/session_start_info'
    """
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
    for name, value in params.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, (int, float)) and abs(value) <= sys.float_info.max:
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = str(value)
    return _summary(metadata.SESSION_START_INFO_TAG, session_start_info=start)


def params_table(params: Mapping[str, Any]) -> str:
    """Return a Markdown table of hyperparameters for TensorBoard's TEXT page.

    Args:
        params: Flat mapping.

    Example:
        >>> print(params_table({"lr": 0.1}))
        | name | value |
        |---|---|
        | lr | 0.1 |
    """
    rows = "".join(f"| {_cell(name)} | {_cell(value)} |\n" for name, value in params.items())
    return f"| name | value |\n|---|---|\n{rows}".rstrip("\n")


def _cell(value: Any) -> str:
    return " ".join(str(value).split("\n")).replace("|", "\\|")


def session_end(outcome: RunOutcome | None) -> Any:
    """Return a ``Summary`` with the status of a finished session.

    Args:
        outcome: Outcome of the run. FAILED and INTERRUPTED are stored as failure; all other outcomes are stored as success.

    Example:
        >>> session_end(RunOutcome.COMPLETED).value[0].tag
        '_hparams_/session_end_info'
    """
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    failed = outcome in (RunOutcome.FAILED, RunOutcome.INTERRUPTED)
    end = plugin_data_pb2.SessionEndInfo(
        status=api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS, end_time_secs=time.time()
    )
    return _summary(metadata.SESSION_END_INFO_TAG, session_end_info=end)


def _summary(tag: str, **content: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(data))])
