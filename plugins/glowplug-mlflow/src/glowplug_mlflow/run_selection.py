"""Selection of the run and the experiment that a logger uses, in MLflow's order of precedence."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from glowplug_mlflow.address import Address, default_store
from glowplug_mlflow.redaction import redact
from glowplug_mlflow.time_limits import without_retries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger("glowplug.mlflow")

# Tag that makes MLflow show training runs for an experiment, instead of the traces of a GenAI application.
KIND = {"mlflow.experimentKind": "custom_model_development"}


# Tag by which a new run is found if the answer of the server was lost.
CREATION = "glowplug.creation"


class Selection(NamedTuple):
    """The run that a logger uses.

    Attributes:
        address: Address of the store. ``None`` means the store that is MLflow's default when the run is opened.
        run_id: Id of the run. ``None`` means a new run.
        is_shared: Whether the run is the active run of the script. If so, the logger does not end the run.
        parent_run_id: Id of the parent of a new run. ``None`` means that the new run has no parent.
    """

    address: Address | None
    run_id: str | None
    is_shared: bool
    parent_run_id: str | None


def select(
    address: Address | None, run_id: str | None, parent_run_id: str | None, *, nested: bool, has_names: bool
) -> Selection:
    """Return the run that the arguments of a logger select.

    As in MLflow, the order of precedence is: the run ``run_id``, the active run, the run ``MLFLOW_RUN_ID``, a new run.

    Args:
        address: Address of the store that was passed to the logger, if any.
        run_id: Id of the run that was passed to the logger, if any.
        parent_run_id: Id of the parent run that was passed to the logger, if any.
        nested: Whether the new run is a child of the active run.
        has_names: Whether ``experiment_name`` or ``run_name`` was passed to the logger.

    Raises:
        ValueError: If ``nested`` is ``True`` but the script has no active run in the same store.
    """
    active, active_address = _active_run()
    is_same_store = address is None or (
        active_address is not None and address.public == active_address.public
    )
    if nested:
        if active is None or not is_same_store:
            raise ValueError(
                "MLflowLogger: nested=True requires an active run in the same store as the new run; call mlflow.start_run() "
                "first, or pass parent_run_id"
            )
        parent_run_id = active
    is_child = parent_run_id is not None
    if run_id is None and active is None and not is_child and is_global(address):
        run_id = os.environ.get("MLFLOW_RUN_ID") or None
    is_shared = (
        active is not None and is_same_store and not (has_names or is_child) and run_id in (None, active)
    )
    return Selection(address or active_address, active if is_shared else run_id, is_shared, parent_run_id)


def _active_run() -> tuple[str | None, Address | None]:
    """Return the id and the store of the active run in the calling thread, or ``(None, None)``."""
    # An active run implies that MLflow has been imported.
    mlflow: Any = sys.modules.get("mlflow")
    run = mlflow.active_run() if hasattr(mlflow, "active_run") else None
    return (run.info.run_id, Address(mlflow.get_tracking_uri())) if run is not None else (None, None)


def global_uri() -> str | None:
    """Return the tracking URI that the script or the environment sets, without importing MLflow."""
    mlflow: Any = sys.modules.get("mlflow")
    if hasattr(mlflow, "is_tracking_uri_set") and mlflow.is_tracking_uri_set():
        return str(mlflow.get_tracking_uri())
    return os.environ.get("MLFLOW_TRACKING_URI") or None


def default_address(folder: str) -> Address:
    """Return the address of the store that MLflow uses by default, without importing MLflow.

    Args:
        folder: Working directory at the time when the logger was created.
    """
    return Address(global_uri() or default_store(folder), folder)


def is_global(address: Address | None) -> bool:
    """Return whether ids that the user sets in the environment refer to the given store."""
    chosen = global_uri()
    return address is None or chosen is None or Address(chosen).public == address.public


def experiment_id(client: MlflowClient, name: str | None, address: Address, folder: str) -> str:
    """Return the id of the experiment for a new run; create the experiment if it does not exist.

    As in ``mlflow.start_run``, the order of precedence is: the experiment ``name``, the experiment of ``mlflow.set_experiment``,
    the experiment ``MLFLOW_EXPERIMENT_NAME``, the experiment ``MLFLOW_EXPERIMENT_ID``, the default experiment.

    Args:
        client: Client of the store.
        name: Name of the experiment that was passed to the logger, if any.
        address: Address of the store. Experiment ids of ``mlflow.set_experiment`` or the environment are ignored if they refer to
            another store.
        folder: Working directory at the time when the logger was created.
    """
    from mlflow.tracking import fluent

    chosen: str | None = getattr(fluent, "_active_experiment_id", None)
    if name is None and chosen is not None and address.public == default_address(folder).public:
        return chosen
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME")
    if name is None:
        from mlflow.tracking.default_experiment.registry import get_experiment_id

        given = os.environ.get("MLFLOW_EXPERIMENT_ID")
        # mlflow.set_experiment also sets the variable.
        if given and given != chosen and is_global(address):
            return given
        return str(get_experiment_id() or 0)
    return _named_experiment(client, name)


def _named_experiment(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    for _ in range(2):
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        try:
            return str(client.create_experiment(name, tags=KIND))
        except MlflowException as error:
            # Another process may create the experiment at the same time.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    raise RuntimeError(
        f"the experiment {name!r} exists but cannot be used, probably because it was deleted; restore it or use another name"
    )


def existing_run(client: MlflowClient, run_id: str, uri: str | None) -> Run:
    """Return an existing run.

    Args:
        client: Client of the store.
        run_id: Id of the run, from an argument, the environment or the saved state of an engine.
        uri: URI of the store, for the error message.

    Raises:
        ConnectionError: If the store does not contain the run. With this type of error, records wait instead of being dropped.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    raise ConnectionError(
        f"the run {run_id} does not exist in {uri}, so it was probably created with another tracking_uri. Pass that tracking_uri "
        "to MLflowLogger; to deliver records from a spool, run `glowplug spool replay --option tracking_uri=...`"
    )


def find_run(client: MlflowClient, experiment: str, own_tags: Mapping[str, str]) -> Run | None:
    """Return the run that an earlier request created, or ``None`` if the server has no such run.

    Args:
        client: Client of the store.
        experiment: Id of the experiment.
        own_tags: Tags that the earlier request set on the run. The tag ``glowplug.creation`` identifies the run.
    """
    found = client.search_runs([experiment], f"tags.`{CREATION}` = '{own_tags[CREATION]}'")
    return found[0] if found else None


def create_run(
    client: MlflowClient,
    experiment: str,
    name: str | None,
    own_tags: Mapping[str, str],
    parent_run_id: str | None,
) -> Run:
    """Create a run with the tags that ``mlflow.start_run`` would set.

    The request is sent only once. If its answer is lost, :func:`find_run` finds the run at the next attempt.

    Args:
        client: Client of the store.
        experiment: Id of the experiment.
        name: Name of the run. If ``None``, MLflow generates a name.
        own_tags: Additional tags.
        parent_run_id: Id of the parent run. If ``None``, the run has no parent.
    """
    from mlflow.tracking.context.registry import resolve_tags
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    parent = {MLFLOW_PARENT_RUN_ID: parent_run_id} if parent_run_id else {}
    # The address of a git repository may contain a token.
    tags = {key: redact(value) for key, value in resolve_tags({**own_tags, **parent}).items()}
    with without_retries():
        return client.create_run(experiment, tags=tags, run_name=name)


def warn_of_other_experiment(client: MlflowClient, run: Any, name: str | None) -> None:
    """Log a warning if an existing run does not belong to the experiment ``name``."""
    if name is None:
        return
    actual = client.get_experiment(run.info.experiment_id).name
    if actual != name:
        log.warning(
            "MLflowLogger: the run %s belongs to the experiment %r, so experiment_name=%r is ignored",
            run.info.run_id,
            actual,
            name,
        )
