"""MLflow logger."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glowplug import RunOutcome
from glowplug.loggers import Logger, OnError, flatten_params
from glowplug_mlflow.failures import CREDENTIALS, redact, reported
from glowplug_mlflow.keys import MAX_LENGTH, escape, file_name, shorten
from glowplug_mlflow.requests import (
    MAX_METRICS,
    MAX_PARAM_LENGTH,
    MAX_PARAMS,
    MAX_TAG_LENGTH,
    bound_requests,
    slices,
    unbound_requests,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("glowplug.mlflow")

STATUS = {
    None: "FINISHED",
    RunOutcome.COMPLETED: "FINISHED",
    RunOutcome.TERMINATED: "FINISHED",
    RunOutcome.FAILED: "FAILED",
    # Otherwise the run would stay RUNNING forever. A later MLflowLogger(run_id=...) can continue it.
    RunOutcome.INTERRUPTED: "KILLED",
}
# Tag of the runs that a logger created. A later logger may end such a run, for example after a crash.
OPENED_BY = "glowplug.logger"
# Tag that makes MLflow show training runs for an experiment, instead of the traces of a GenAI application.
KIND = {"mlflow.experimentKind": "custom_model_development"}
LONG_NAMES = "glowplug/long_names.json"
# Maximum number of characters of a name that a log message shows.
MAX_SHOWN = 50


class MLflowLogger(Logger):
    """Logs metrics, parameters, tags, texts, images, figures and artifacts to MLflow.

    The MLflow run starts at the first record. The final status of the MLflow run is ``FINISHED`` if the engine's run completed or
    was terminated, ``FAILED`` after an exception, and ``KILLED`` if the engine's run was interrupted and not continued. While
    the server is unavailable, training continues and the records wait in a queue.

    The logger respects MLflow's limits. The logger splits large requests and escapes names that MLflow refuses
    (:func:`glowplug_mlflow.keys.escape`). If a name, parameter or tag is too long, the logger shortens it, stores the full text
    as an artifact and writes a warning to the log.

    The logger writes to one of three runs:

    - If MLflow has an active run (``mlflow.start_run()``) and no argument selects another run, the logger uses the active run
      and leaves it open.
    - If ``run_id`` is given, the logger continues this run: it sets the status of the run to ``RUNNING`` and later ends the run.
      If another program still has the run open, the logger does not change the status.
    - Otherwise, the logger creates a new run.

    The logger never changes MLflow's global tracking URI or active run.

    Args:
        tracking_uri: URI of the server or database. A password in this URI is never shown. The default comes from
            ``mlflow.set_tracking_uri``, the environment variable ``MLFLOW_TRACKING_URI`` or MLflow's own default, in this order.
        experiment_name: Name of the experiment. If the experiment does not exist, the logger creates it as an experiment of the
            kind "Machine learning". By default, the environment variable ``MLFLOW_EXPERIMENT_NAME`` names the experiment. If
            the variable is not set, the experiment comes from ``mlflow.set_experiment`` or ``MLFLOW_EXPERIMENT_ID``, or is
            MLflow's default experiment.
        run_name: Name of a new run. By default, MLflow chooses the name.
        run_id: Id of a run to continue.
        tags: Tags of the run. The values are converted to strings.
        nested: Whether to make the new run a child of your active run.
        on_error: ``"warn"`` reports errors in the log. ``"raise"`` raises errors at the next call of ``log_*``, ``flush`` or
            ``close``.
        capacity: Maximum number of waiting records. Further records are dropped and counted.
        timeout: Maximum number of seconds to wait for the delivery of records at the end of a run, in ``flush`` and in
            ``close``.
        all_ranks: Whether to log on every rank of ``torch.distributed``, with one MLflow run per rank. By default, only rank 0
            logs.

    Raises:
        ValueError: If ``nested`` is set without an active run, or if ``run_id`` is combined with ``experiment_name``,
            ``run_name`` or ``nested``.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from glowplug import Engine, Events
        >>> trainer = Engine(lambda engine, batch: 1 / batch)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     uri = f"sqlite:///{Path(folder).as_posix()}/mlflow.db"
        ...     with MLflowLogger(uri, "digits", tags={"model": "mlp"}, timeout=60) as logger:
        ...         logger.log_params({"lr": 0.1})
        ...         _ = logger.attach_output_handler(
        ...             trainer,
        ...             Events.ITERATION_COMPLETED,
        ...             tag="training",
        ...             output_transform=lambda loss: {"loss": loss},
        ...         )
        ...         state = trainer.run([1, 2, 4])
        ...         logger.counts
        Counts(sent=4, dropped=0, pending=0)
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment_name: str | None = None,
        run_name: str | None = None,
        run_id: str | None = None,
        tags: Mapping[str, Any] | None = None,
        nested: bool = False,
        *,
        on_error: OnError = "warn",
        capacity: int = 100_000,
        timeout: float = 10.0,
        all_ranks: bool = False,
    ) -> None:
        super().__init__(on_error=on_error, capacity=capacity, timeout=timeout, all_ranks=all_ranks)
        if run_id is not None and (experiment_name is not None or run_name is not None or nested):
            raise ValueError(
                f"MLflowLogger: run_id={run_id!r} continues an existing run; remove experiment_name, run_name and nested, "
                "which create a new run"
            )
        active, active_uri = _active_run()
        if nested and active is None:
            raise ValueError(
                "MLflowLogger: nested=True requires an active run; call mlflow.start_run() first"
            )
        is_new = experiment_name is not None or run_name is not None or nested
        shares = not is_new and tracking_uri in (None, active_uri) and run_id in (None, active)
        self.tracking_uri = active_uri if active and tracking_uri is None else tracking_uri
        self.experiment_name = experiment_name
        self.run_name = run_name
        self.tags = dict(tags or {})
        self._parent_run_id = active if nested else None
        self._run_id = active if active and shares else run_id
        self._is_mine = not (active and shares)
        self._client: MlflowClient | None = None
        self._bounded: list[str] = []
        self._long_names: dict[str, str] = {}

    @property
    def run_id(self) -> str:
        """The id of the MLflow run; reading the id opens the run if necessary.

        Raises:
            ConnectionError: If the run cannot be opened; ``__cause__`` is the original error.
            RuntimeError: If the logger was closed before it opened a run, or if it does not log on this rank.
        """
        if self._run_id is None:
            self.ensure_open()
        if self._run_id is None:
            raise ConnectionError("MLflowLogger has no run")
        return self._run_id

    @reported
    def page_url(self, server: str = "http://127.0.0.1:5000") -> str:
        """Return the address of the MLflow page that shows this experiment's training runs.

        By default, MLflow 3 opens its GenAI page, which shows no training runs.

        Args:
            server: Address of the ``mlflow ui`` server that shows a local store. The default is the standard address of
                ``mlflow ui``. If the logger writes to a tracking server, ``server`` is ignored.

        Returns:
            The address, without credentials.

        Raises:
            ConnectionError: If the run cannot be opened or read.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     with MLflowLogger(f"sqlite:///{folder}/mlflow.db", "digits", timeout=60) as logger:
            ...         logger.page_url()
            'http://127.0.0.1:5000/#/experiments/1?workflowType=machine_learning'
        """
        from mlflow import MlflowClient, get_tracking_uri

        run = MlflowClient(self.tracking_uri).get_run(self.run_id)
        uri = self.tracking_uri or get_tracking_uri()
        shown_by = CREDENTIALS.sub("", uri) if uri.startswith(("http://", "https://")) else server
        return f"{shown_by.rstrip('/')}/#/experiments/{run.info.experiment_id}?workflowType=machine_learning"

    @reported
    def open_backend(self) -> None:
        """Import MLflow and open the run."""
        self._bounded = self._bounded or bound_requests()
        from mlflow import MlflowClient

        if self._client is not None and self._run_id is not None:
            # The run was opened earlier; check that the server is available again.
            self._client.get_run(self._run_id)
            return
        client = MlflowClient(self.tracking_uri)
        if self._run_id is None:
            self._run_id = self._create_run(client)
        elif self._is_mine:
            run = client.get_run(self._run_id)
            self._is_mine = run.info.status != "RUNNING" or OPENED_BY in run.data.tags
            if self._is_mine:
                client.update_run(self._run_id, status="RUNNING")
        self._client = client
        self._log_tags(self.tags)

    def _create_run(self, client: MlflowClient) -> str:
        from mlflow.tracking.context.registry import resolve_tags
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

        parent = {MLFLOW_PARENT_RUN_ID: self._parent_run_id} if self._parent_run_id else {}
        tags = resolve_tags({OPENED_BY: type(self).__name__, **parent})
        run = client.create_run(self._experiment_id(client), tags=tags, run_name=self.run_name)
        run_id: str = run.info.run_id
        return run_id

    def _experiment_id(self, client: MlflowClient) -> str:
        from mlflow import get_tracking_uri
        from mlflow.exceptions import MlflowException

        name = self.experiment_name or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        if name is None:
            # An experiment id is only valid in the store that it belongs to.
            is_global = self.tracking_uri in (None, get_tracking_uri())
            return os.environ.get("MLFLOW_EXPERIMENT_ID", "0") if is_global else "0"
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
            f"experiment {name!r} exists but cannot be used, probably because it was deleted; restore the experiment or choose "
            "another name"
        )

    @reported
    def write_scalars_batch(self, rows: Sequence[tuple[Mapping[str, float], int, float]]) -> None:
        """Write the metrics of several records in as few requests as possible.

        MLflow's databases store NaN as NaN, but they replace infinities by the largest finite float.
        """
        from mlflow.entities import Metric

        client, run_id = self._connected()
        metrics = (
            Metric(self._key(name), float(value), int(timestamp * 1000), step)
            for scalars, step, timestamp in rows
            for name, value in scalars.items()
        )
        for part in slices(((metric.key, "", metric) for metric in metrics), MAX_METRICS):
            client.log_batch(run_id, metrics=part)

    @reported
    def write_params(self, params: Mapping[str, Any]) -> None:
        """Write parameters; the names of nested parameters are joined with slashes, as in ``optimizer/lr``.

        Raises:
            RuntimeError: If MLflow refuses a parameter, for example because the run already has another value for this
                parameter. Parameters that MLflow accepts are written before this error is raised.
        """
        from mlflow.entities import Param

        client, run_id = self._connected()
        texts = self._fitting("params", flatten_params(params), MAX_PARAM_LENGTH)
        refused = []
        for part in slices(((key, text, Param(key, text)) for key, text in texts), MAX_PARAMS):
            try:
                client.log_batch(run_id, params=part)
            except Exception as error:
                if getattr(error, "error_code", None) != "INVALID_PARAMETER_VALUE":
                    raise
                refused += [each for each in part if not self._accepts_param(client, run_id, each)]
        if refused:
            raise RuntimeError(
                f"MLflow refused {', '.join(f'{param.key}={param.value}' for param in refused)}. If the run "
                "already has another value of a parameter, that value cannot change; use another name or a new run"
            )

    def _accepts_param(self, client: MlflowClient, run_id: str, param: Any) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            client.log_batch(run_id, params=[param])
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            return False
        return True

    @reported
    def write_text(self, name: str, text: str, step: int, timestamp: float) -> None:
        """Write a text as the artifact ``texts/<name>/<step>.txt``."""
        client, run_id = self._connected()
        client.log_text(run_id, text, f"texts/{file_name(name)}/{step}.txt")

    @reported
    def write_image(self, name: str, image: Any, step: int, timestamp: float) -> None:
        """Write an image.

        The shape of the image is ``(height, width)``, or ``(channels, height, width)`` or ``(height, width, channels)`` with 1,
        3 or 4 channels. Floats must be between 0 and 1, and integers between 0 and 255.
        """
        self._log_pixels(name, image, step, timestamp)

    @reported
    def write_figure(self, name: str, figure: Any, step: int, timestamp: float) -> None:
        """Write a matplotlib figure as an image, or a plotly figure as the artifact ``figures/<name>/<step>.html``."""
        if hasattr(figure, "ndim"):
            self._log_pixels(name, figure, step, timestamp)
        else:
            client, run_id = self._connected()
            client.log_figure(run_id, figure, f"figures/{file_name(name)}/{step}.html")

    def _log_pixels(self, name: str, image: Any, step: int, timestamp: float) -> None:
        channels = (1, 3, 4)
        if image.ndim == 3 and image.shape[0] in channels and image.shape[2] not in channels:  # noqa: PLR2004 - with channels
            image = image.transpose(1, 2, 0)
        client, run_id = self._connected()
        client.log_image(
            run_id,
            image,
            key=file_name(name),
            step=step,
            timestamp=int(timestamp * 1000),
        )

    @reported
    def write_artifact(self, path: str, name: str | None) -> None:
        """Upload a file or a folder.

        Args:
            path: Path of the file or folder on this machine.
            name: Destination folder in the run's artifact store; ``None`` for the root of the store.
        """
        client, run_id = self._connected()
        upload = client.log_artifacts if Path(path).is_dir() else client.log_artifact
        upload(run_id, path, name)

    @reported
    def close_backend(self, outcome: RunOutcome | None) -> None:
        """End the run if this logger opened it."""
        client, run_id = self._connected()
        try:
            if self._is_mine:
                client.set_terminated(run_id, STATUS[outcome])
        finally:
            unbound_requests(self._bounded)

    # MLflow's limits

    def _connected(self) -> tuple[MlflowClient, str]:
        if self._client is None or self._run_id is None:
            raise ConnectionError("the run is not open")
        return self._client, self._run_id

    def _key(self, name: str) -> str:
        key = escape(name)
        short = shorten(key)
        if short != key and short not in self._long_names:
            self._long_names[short] = name
            client, run_id = self._connected()
            client.log_dict(run_id, self._long_names, LONG_NAMES)
            log.warning(
                "MLflowLogger: the name %r is %d characters long after escaping, but MLflow allows only %d. Values with this "
                "name are logged under a shortened name that ends with %s; the full name is in the artifact %s",
                _beginning(name),
                len(key),
                MAX_LENGTH,
                short[-17:],
                LONG_NAMES,
            )
        return short

    def _fitting(self, kind: str, values: Mapping[str, Any], longest: int) -> Iterable[tuple[str, str]]:
        """Yield names and values that MLflow accepts; store the full text of longer values as artifacts."""
        client, run_id = self._connected()
        for name, value in values.items():
            key, text = self._key(name), str(value)
            if len(text) > longest:
                file = f"{kind}/{file_name(name)}.txt"
                client.log_text(run_id, text, file)
                note = f"... (all {len(text)} characters are in the artifact {file})"
                log.warning(
                    "MLflowLogger: the value of %r is %d characters long and was shortened to %d; the full value is in the "
                    "artifact %s",
                    _beginning(name),
                    len(text),
                    longest,
                    file,
                )
                text = text[: longest - len(note)] + note
            yield key, text

    def _log_tags(self, tags: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        client, run_id = self._connected()
        texts = self._fitting("tags", tags, MAX_TAG_LENGTH)
        for part in slices(((key, text, RunTag(key, text)) for key, text in texts), MAX_PARAMS):
            client.log_batch(run_id, tags=part)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_client": None, "_bounded": []}

    def __repr__(self) -> str:
        return f"MLflowLogger({redact(self.tracking_uri) if self.tracking_uri else ''})"


def _beginning(name: str) -> str:
    """Return a name for a message, shortened if it is long."""
    return name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}..."


def _active_run() -> tuple[str | None, str | None]:
    """Return the id of the calling thread's active run, and the tracking URI of that run."""
    # An active run implies that MLflow has been imported.
    mlflow: Any = sys.modules.get("mlflow")
    run = mlflow.active_run() if hasattr(mlflow, "active_run") else None
    return (run.info.run_id, mlflow.get_tracking_uri()) if run is not None else (None, None)
