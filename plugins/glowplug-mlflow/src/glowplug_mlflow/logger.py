"""MLflow logger."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from glowplug import RunOutcome
from glowplug.loggers import Histogram, Logger, LoggerOptions
from glowplug_mlflow.address import Address
from glowplug_mlflow.artifacts import Uploads, upload, upload_image
from glowplug_mlflow.failures import Verdict, reported, rule_of
from glowplug_mlflow.keys import file_name
from glowplug_mlflow.redaction import redact
from glowplug_mlflow.run_data import RunData
from glowplug_mlflow.run_owner import OPENED_BY, open_process, owner_tags
from glowplug_mlflow.run_selection import (
    CREATION,
    create_run,
    default_address,
    existing_run,
    experiment_id,
    find_run,
    select,
    warn_of_other_experiment,
)
from glowplug_mlflow.sqlite_database import check_sqlite, reopen_after_io_errors
from glowplug_mlflow.system_metrics import SystemMetrics, is_enabled
from glowplug_mlflow.time_limits import UPLOAD_LIMITS, limited

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from typing_extensions import Unpack

log = logging.getLogger("glowplug.mlflow")

STATUS = {
    None: "FINISHED",
    RunOutcome.COMPLETED: "FINISHED",
    RunOutcome.TERMINATED: "FINISHED",
    RunOutcome.FAILED: "FAILED",
    # Otherwise the run would stay RUNNING forever. A later logger can continue it.
    RunOutcome.INTERRUPTED: "KILLED",
}
# Name under which tags pass the queue as parameters.
TAGS = "glowplug.tags"


class MLflowLogger(Logger):
    """Log metrics, parameters, tags, texts, histograms, images, figures and artifacts to MLflow.

    The MLflow run starts at the first record. The final status of the MLflow run is ``FINISHED`` if the engine's run completed or
    was terminated, ``FAILED`` after an exception, and ``KILLED`` if the engine's run was interrupted and not continued. While
    the server is unavailable, training continues and the records wait on disk.

    The logger respects MLflow's limits. The logger splits large requests and escapes names that MLflow refuses
    (``glowplug_mlflow.keys.escape``). If a name, parameter or tag is too long, the logger shortens it, stores the full text
    as an artifact and writes a warning to the log.

    The logger uses the first of these runs that applies:

    - the run with the id ``run_id``, if you pass an id;
    - your active run (``mlflow.start_run()``), if no argument of the logger selects another run;
    - the run whose id is in the environment variable ``MLFLOW_RUN_ID``, as in ``mlflow.start_run()``;
    - the run in the engine's saved state, if you load a saved state;
    - a new run.

    When the logger continues an existing run, the logger sets the status of this run to ``RUNNING`` and later ends the run.
    The logger does neither if the run is your active run, if another program started the run and has not ended it, or if a logger
    in another process on the same machine still has the run open. A logger on another machine cannot be checked.

    The logger never changes MLflow's global tracking URI or active run.

    Args:
        tracking_uri: URI of the server or database. A relative path becomes absolute when you create the logger. Passwords in the
            URI are never shown. Defaults to the first of these URIs that is set: the URI passed to ``mlflow.set_tracking_uri``,
            the URI in the environment variable ``MLFLOW_TRACKING_URI``, or MLflow's default URI.
        experiment_name: Name of the experiment. If the experiment does not exist, the logger creates one of MLflow's kind
            "Machine learning". Defaults to the first of these experiments that is set: the experiment of
            ``mlflow.set_experiment``, the experiment named in ``MLFLOW_EXPERIMENT_NAME``, the experiment with the id in
            ``MLFLOW_EXPERIMENT_ID``, or MLflow's default experiment.
        run_name: Name of a new run. By default, MLflow generates a name.
        run_id: Id of a run to continue.
        tags: Tags of the run; the values are converted to strings. See also :meth:`log_tags`.
        nested: Make the new run a child of your active run.
        parent_run_id: Make the new run a child of the run with this id.
        log_system_metrics: Log the use of processors, memory, disks, network and GPUs while the run is open. Defaults to the
            value of the environment variable ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING``, or to ``False`` if the variable is not
            set. If the logger uses your active run, the logger ignores this argument, because MLflow can log the system metrics
            of that run itself.
        **options: Options that every :class:`~glowplug.loggers.Logger` accepts, such as ``timeout`` and ``spool``. With
            ``all_ranks=True``, each rank logs to a separate run.

    Raises:
        ValueError: If ``nested`` is ``True`` but you have no active run in the same store, or if ``run_id`` is combined with
            ``experiment_name``, ``run_name``, ``nested`` or ``parent_run_id``.
        ImportError: If the logging of system metrics is enabled but psutil is not installed.

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
        tracking_uri: str | os.PathLike[str] | None = None,
        experiment_name: str | None = None,
        run_name: str | None = None,
        run_id: str | None = None,
        tags: Mapping[str, Any] | None = None,
        nested: bool = False,
        parent_run_id: str | None = None,
        log_system_metrics: bool | None = None,
        **options: Unpack[LoggerOptions],
    ) -> None:
        super().__init__(**options)
        is_new = bool(nested or parent_run_id or experiment_name is not None or run_name is not None)
        if run_id is not None and is_new:
            raise ValueError(
                f"MLflowLogger: run_id={run_id!r} continues an existing run; remove experiment_name, run_name, nested and "
                "parent_run_id, which apply only to a new run"
            )
        # MLflow's default store may be in the current folder, and the run is opened later.
        self._folder = os.getcwd()  # noqa: PTH109 - a plain string
        selection = select(
            Address(tracking_uri) if tracking_uri else None,
            run_id,
            parent_run_id,
            nested=nested,
            has_names=experiment_name is not None or run_name is not None,
        )
        self._address, self._run_id, self._is_shared, self._parent_run_id = selection
        # Whether the id of the run comes from a saved state or a spool.
        self._is_from_state = False
        # Whether this logger ends the run.
        self._is_mine = False
        self.experiment_name = experiment_name
        self.run_name = run_name
        self.tags = dict(tags or {})
        self.log_system_metrics = not self._is_shared and is_enabled(log_system_metrics)
        self._system_metrics: SystemMetrics | None = None
        self._open_run: RunData | None = None
        # Whether the creation of the run was requested.
        self._is_requested = False
        self._long_names: set[str] = set()
        self._uploads = Uploads()

    @property
    def tracking_uri(self) -> str | None:
        """URI of the store, without secrets.

        If you did not choose a store, the URI is ``None`` until the logger looks up MLflow's default store.
        """
        return None if self._address is None else self._address.public

    def _complete_uri(self) -> str | None:
        return None if self._address is None else self._address.reveal()

    def _redacted(self, text: str) -> str:
        return redact(text, self._complete_uri())

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
        client = self._store()
        run = client.get_run(self.run_id)
        uri = self.tracking_uri or ""
        shown_by = uri if uri.startswith(("http://", "https://")) else server
        return f"{shown_by.rstrip('/')}/#/experiments/{run.info.experiment_id}?workflowType=machine_learning"

    def log_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags of the run; unlike parameters, tags can be changed later.

        Args:
            tags: Mapping from the names of the tags to their values. The values are converted to strings.

        Raises:
            TypeError: If ``tags`` is not a mapping.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     with MLflowLogger(f"sqlite:///{folder}/mlflow.db", timeout=60) as logger:
            ...         logger.log_tags({"stage": "warm-up"})
            ...         logger.log_scalars({"loss": 0.5}, step=1)
            ...     logger.counts
            Counts(sent=2, dropped=0, pending=0)
        """
        if not isinstance(tags, Mapping):
            raise TypeError(f"MLflowLogger.log_tags: tags must be a mapping, got {tags!r}")
        # The queue has no kind for tags, which only MLflow has.
        self.log_params({TAGS: tags})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags of the run, as ``mlflow.set_tags`` does; an alias of :meth:`log_tags`."""
        self.log_tags(tags)

    def set_tag(self, key: str, value: Any) -> None:
        """Set one tag of the run, as ``mlflow.set_tag`` does."""
        self.log_tags({key: value})

    def close(self, outcome: RunOutcome | None = None) -> None:
        """Deliver the waiting records, and end the run if this logger opened the run.

        Args:
            outcome: How the run ended. Defaults to the outcome of the last run of an attached engine.
        """
        self.log_system_metrics = False
        if self._system_metrics is not None:
            self._system_metrics.stop(min(1.0, self.timeout))
        super().close(outcome)

    def run_info(self) -> Mapping[str, str]:
        """Return a mapping with the id of the run; the mapping is empty until the logger has a run."""
        return {} if self._run_id is None else {"run_id": self._run_id}

    @reported
    def logged_steps(self) -> Mapping[str, int]:
        """Return the highest step of each metric in the run, except metrics with shortened names."""
        return {f"scalars:{name}": step for name, step in self._connected().highest_steps().items()}

    def continue_run(self, info: Mapping[str, str]) -> None:
        """Continue the run of an earlier process, unless another run was chosen for this logger."""
        if self._run_id is None:
            self._run_id = info["run_id"]
            self._is_from_state = True

    def replay_options(self) -> Mapping[str, Any]:
        """Return the arguments with which ``glowplug spool replay`` recreates this logger.

        The arguments contain no credentials, because MLflow reads credentials from the environment.
        """
        # The process may end before it has opened the store and created the run.
        address = self._address or default_address(self._folder)
        options = {
            "tracking_uri": address.public,
            "experiment_name": self.experiment_name or os.environ.get("MLFLOW_EXPERIMENT_NAME"),
            "run_name": self.run_name,
            "tags": self.tags,
            "parent_run_id": self._parent_run_id,
        }
        # The metrics of the machine that delivers the records do not belong to the run.
        return {name: value for name, value in options.items() if value} | {"log_system_metrics": False}

    def _store(self) -> MlflowClient:
        from mlflow import MlflowClient

        if self._address is None:
            self._address = default_address(self._folder)
        if (path := self._address.sqlite_path) is not None:
            check_sqlite(path)
            reopen_after_io_errors()
        return MlflowClient(self._address.reveal())

    @reported
    def prepare_backend(self) -> None:
        """Import MLflow, and create a local database if it does not exist yet."""
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

        # A database that exists but cannot be opened must not extend the time limits of the callers.
        if self._address is None or self._address.is_missing:
            self._store()

    @reported
    def open_backend(self) -> None:
        """Open the run."""
        if self._open_run is not None:
            # Check that the server is available again.
            self._open_run.client.get_run(self._open_run.run_id)
            return
        client = self._store()
        run = self._create_run(client) if self._run_id is None else self._continue_run(client, self._run_id)
        self._run_id = str(run.info.run_id)
        opened = RunData(client, self._run_id, self._long_names, self._uploads, self._redacted)
        try:
            opened.write_tags(self.tags)
        except Exception as error:
            if rule_of(error).verdict is not Verdict.DROP:
                raise
            log.warning("MLflowLogger: %s", self._redacted(str(error)))
        self._open_run = opened
        if self.log_system_metrics and self._system_metrics is None:
            self._system_metrics = SystemMetrics(self.log_scalars, run.info.start_time / 1000)

    def _create_run(self, client: MlflowClient) -> Run:
        address = self._address or default_address(self._folder)
        experiment = experiment_id(client, self.experiment_name, address, self._folder)
        # The answer of the server may have been lost, or an earlier process was killed before it could save the id.
        may_exist = self._is_requested or self.is_resumed
        self._is_requested = True
        own = {**owner_tags(type(self).__name__), CREATION: self.run_key}
        run = (may_exist and find_run(client, experiment, own)) or create_run(
            client, experiment, self.run_name, own, self._parent_run_id
        )
        self._is_mine = True
        return run

    def _continue_run(self, client: MlflowClient, run_id: str) -> Run:
        run = existing_run(client, run_id, self.tracking_uri)
        # An earlier call may have failed after it had taken over the run.
        if self._is_shared or self._is_mine:
            return run
        warn_of_other_experiment(client, run, self.experiment_name)
        if self._may_end(run):
            for key, value in owner_tags(type(self).__name__).items():
                client.set_tag(run_id, key, value, synchronous=True)
            client.update_run(run_id, status="RUNNING", name=self.run_name)
            self._is_mine = True
        return run

    def _may_end(self, run: Run) -> bool:
        """Return whether this logger may set the status of an existing run."""
        is_known = OPENED_BY in run.data.tags
        if run.info.status != "RUNNING":
            # Without the tag, an earlier process logged to a run that its script ended.
            return is_known or not self._is_from_state
        process = open_process(run.data.tags)
        if is_known and process is not None:
            log.warning(
                "MLflowLogger: the process %d still has the run %s open and will end it, so this logger does not end the run",
                process,
                run.info.run_id,
            )
        return is_known and process is None

    @reported
    def write_scalars_batch(self, rows: Sequence[tuple[Mapping[str, float], int, float]]) -> None:
        """Write the metrics of several records in as few requests as possible.

        MLflow's databases store NaN unchanged. They replace an infinite value with the largest finite float of the same sign.

        Raises:
            RuntimeError: If MLflow refuses metrics. If ``rows`` contains a single record, the other metrics of this record are
                written before this error is raised.
        """
        self._connected().write_metrics(rows)

    @reported
    def write_params(self, params: Mapping[str, Any]) -> None:
        """Write parameters; the names of nested parameters are joined with slashes, as in ``optimizer/lr``.

        Raises:
            RuntimeError: If MLflow refuses a parameter, for example because the run already has another value for this
                parameter. Parameters that MLflow accepts are written before this error is raised.
        """
        if params.keys() == {TAGS}:
            self._connected().write_tags(params[TAGS])
        else:
            self._connected().write_params(params)

    @reported
    def write_text(self, name: str, text: str, step: int, timestamp: float) -> None:
        """Write a text as the artifact ``texts/<name>/<step>.txt``."""
        run = self._connected()
        self._uploads.send(
            lambda: run.client.log_text(run.run_id, text, f"texts/{file_name(name)}/{step}.txt")
        )

    @reported
    def write_histogram(self, name: str, histogram: Histogram, step: int, timestamp: float) -> None:
        """Write a histogram as the artifact ``histograms/<name>/<step>.json``."""
        run = self._connected()
        content = {**histogram._asdict(), "edges": histogram.edges, "timestamp": timestamp}
        self._uploads.send(
            lambda: run.client.log_dict(run.run_id, content, f"histograms/{file_name(name)}/{step}.json")
        )

    @reported
    def write_image(self, name: str, image: Any, step: int, timestamp: float) -> None:
        """Write an image, which MLflow shows on the page of the run."""
        run = self._connected()
        self._uploads.send(lambda: upload_image(run.client, run.run_id, name, image, step, timestamp))

    @reported
    def write_figure(self, name: str, figure: Any, step: int, timestamp: float) -> None:
        """Write a matplotlib figure as an image, or a plotly figure as the artifact ``figures/<name>/<step>.html``."""
        run = self._connected()
        if isinstance(figure, str):
            self._uploads.send(
                lambda: run.client.log_text(run.run_id, figure, f"figures/{file_name(name)}/{step}.html")
            )
        else:
            self._uploads.send(lambda: upload_image(run.client, run.run_id, name, figure, step, timestamp))

    @reported
    def write_artifact(self, path: str, name: str | None) -> None:
        """Upload a file or a folder.

        Args:
            path: Path of the file or folder on this machine.
            name: Destination folder in the run's artifact store; ``None`` for the root of the store.
        """
        run = self._connected()
        with limited(UPLOAD_LIMITS):
            self._uploads.send(lambda: upload(run.client, run.run_id, path, name))

    def flush_backend(self) -> None:
        """Raise the exception that was raised on the thread that measures system metrics, if any."""
        if self._system_metrics is not None:
            self._system_metrics.raise_error()

    @reported
    def close_backend(self, outcome: RunOutcome | None) -> None:
        """End the run if this logger opened it."""
        if self._system_metrics is not None:
            # The run may have been opened while close() was called.
            self._system_metrics.stop(0)
            self._system_metrics = None
        run = self._connected()
        if self._is_mine:
            run.client.set_terminated(run.run_id, STATUS[outcome])

    def _connected(self) -> RunData:
        if self._open_run is None:
            raise ConnectionError("the run is not open")
        return self._open_run

    def __getstate__(self) -> dict[str, Any]:
        own = {"_open_run": None, "_system_metrics": None, "_is_requested": False, "_is_mine": False}
        return {**super().__getstate__(), **own}

    def __repr__(self) -> str:
        return f"MLflowLogger({'' if self._address is None else redact(self._address.reveal())})"
