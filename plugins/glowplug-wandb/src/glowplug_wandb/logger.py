"""Weights & Biases logger."""

from __future__ import annotations

import errno
import html
import os
import secrets
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glowplug import RunOutcome
from glowplug.loggers import Histogram, Logger, OnError
from glowplug_wandb.arguments import SELECT_A_RUN, check_mode, replay_options, without_api_key
from glowplug_wandb.artifacts import artifact_name
from glowplug_wandb.credentials import require_api_key
from glowplug_wandb.history import STEP, RowKey, earlier_rows, row_key

if TYPE_CHECKING:
    from wandb import Run

EXIT_CODES = {
    None: 0,
    RunOutcome.COMPLETED: 0,
    RunOutcome.TERMINATED: 0,
    RunOutcome.FAILED: 1,
    # Exit code of a program that was interrupted with Ctrl-C.
    RunOutcome.INTERRUPTED: 130,
}

SAVE_EVERY = "x_transaction_log_flush_interval"
SAVE_EVERY_VARIABLE = "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL"
"""W&B's setting for the seconds between two writes to the run's file."""

SECONDS_UNSAVED = 0.2
"""Value of this setting. W&B's service process ends about 2 seconds after the training process is killed and loses unsaved rows."""


class WandbLogger(Logger):
    """Log scalars, hyperparameters, texts, histograms, images, figures and artifacts to Weights & Biases (W&B).

    The logger starts a new W&B run at the first record that has a step; it does not use a run that is already active. When the
    logger closes, it finishes the new run with an exit code that depends on the outcome of the engine's run. A W&B run that you
    pass as ``run`` stays open. If you load a saved state of an engine, the logger continues the W&B run to which this state
    belongs.

    W&B requires increasing steps, but a training run logs values at both epochs and iterations. The logger therefore stores
    the step of each record as ``glowplug/step`` and makes ``glowplug/step`` the x-axis of all charts.

    While W&B cannot be reached, training continues. Until the W&B run has started, records wait in glowplug's spool on disk.
    After that, W&B's service process stores the records in the folder ``wandb`` and uploads them.

    Args:
        project: Project of the new run. Defaults to W&B's default project.
        run: A W&B run that you have started. ``run`` cannot be combined with ``project`` or other arguments for a new run.
        on_error: ``"warn"`` reports errors in the log, at most once a minute; ``"raise"`` raises errors at the next call of
            ``log_*``, ``flush`` or ``close``. Defaults to ``"warn"``.
        capacity: Maximum number of records in memory; further records are dropped and counted. Defaults to 100,000.
        memory_limit: Maximum number of bytes of tensors and arrays in memory; further ones are dropped and counted. Defaults to
            256 MiB.
        timeout: Maximum number of seconds that ``flush`` and ``close`` wait. Defaults to 10. The logger sets W&B's
            ``finish_timeout`` to one second less, unless you set ``finish_timeout`` yourself.
        all_ranks: Log on every rank of ``torch.distributed``, with a separate W&B run for each rank, instead of on rank 0 only.
            On rank 1, the id of the run ends with ``-rank1``. Defaults to ``False``.
        spool: Folder in which records wait on disk; ``True`` for the user's state folder, ``False`` to let records wait in memory
            only. Defaults to ``True``.
        durable: Return from ``log_*`` only when the record is on disk, so that no record is lost if the process is killed. By
            default, a killed process can lose the records of the last 0.2 seconds.
        spool_limit: Maximum number of bytes of the records on disk; further records are dropped and counted. Defaults to 1 GiB.
        **init: Further keyword arguments for ``wandb.init``, such as ``name``, ``id``, ``dir``, ``mode``, ``tags`` and
            ``settings``. With ``id`` but without ``resume``, the logger continues an existing run that has this id.

    Raises:
        ValueError: If ``run`` is combined with arguments for a new run, or if the mode is ``"shared"``.

    Example:
        >>> WandbLogger("digits", name="first", mode="offline").project
        'digits'
    """

    def __init__(
        self,
        project: str | None = None,
        *,
        run: Run | None = None,
        on_error: OnError = "warn",
        capacity: int = 100_000,
        memory_limit: int = 1 << 28,
        timeout: float = 10.0,
        all_ranks: bool = False,
        spool: bool | str | os.PathLike[str] = True,
        durable: bool = False,
        spool_limit: int = 1 << 30,
        **init: Any,
    ) -> None:
        super().__init__(
            on_error=on_error,
            capacity=capacity,
            memory_limit=memory_limit,
            timeout=timeout,
            all_ranks=all_ranks,
            spool=spool,
            durable=durable,
            spool_limit=spool_limit,
        )
        if run is not None and (project is not None or init):
            raise ValueError(
                f"WandbLogger: run {run.id} already exists; do not combine it with arguments for a new run: "
                f"{', '.join([*(['project'] if project is not None else []), *init])}"
            )
        check_mode(init, run)
        for name in ("dir", "config"):
            if isinstance(init.get(name), (str, os.PathLike)):
                # An absolute path stays valid after os.chdir().
                init[name] = os.path.abspath(init[name])  # noqa: PTH100 - keeps symbolic links
        self.project = project
        self.init = init
        self._run = run
        self._is_mine = run is None
        self._run_id = self._given_id() if run is None else run.id
        # Whether an earlier process, or this one, has started the run.
        self._is_continued = False
        self._has_begun = run is not None
        # W&B's step before the last write.
        self._step = 0
        # The number of rows that W&B has although their write failed, because its answer was lost or a later row was refused.
        # They are the first rows of the next writes.
        self._ahead = 0
        # The last rows that earlier processes have logged to the run.
        self._earlier_rows: set[RowKey] = set()

    def _given_id(self) -> str | None:
        given = self.init.get("id") or os.environ.get("WANDB_RUN_ID")
        return None if given is None else str(given)

    @property
    def run(self) -> Run:
        """The W&B run, for methods that the logger lacks, such as ``run.alert``.

        Raises:
            ConnectionError: If the run cannot be started; ``__cause__`` is the original error, if there is one.
            RuntimeError: If the logger is closed, or if it does not log on this rank.
        """
        self.ensure_open()
        return self._opened()

    def run_info(self) -> Mapping[str, str]:
        """Return the id of the run."""
        run_id = self._own_id
        return {} if run_id is None else {"run_id": run_id}

    @property
    def _own_id(self) -> str | None:
        """Id of the run of this rank, if it is known."""
        return None if self._run_id is None else self._id_for_rank(self._run_id)

    def _id_for_rank(self, run_id: str) -> str:
        """Return the id of the run of this rank; an id may belong to rank 0, because all ranks load the same state."""
        suffix = f"-rank{self.rank}"
        is_own = not (self._is_mine and self.all_ranks and self.rank) or run_id.endswith(suffix)
        return run_id if is_own else run_id + suffix

    def continue_run(self, info: Mapping[str, str]) -> None:
        """Continue the W&B run of an earlier process, unless the user selected another run."""
        if self._run is None and self._own_id in (None, info["run_id"]):
            self._run_id = info["run_id"]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of :meth:`Logger.state_dict`, and whether W&B has the run."""
        return {**super().state_dict(), "has_begun": self._is_continued or self._has_begun}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the run of a saved state. Each rank continues its own run, even if the state was saved by rank 0.

        Args:
            state_dict: State returned by :meth:`state_dict`.
        """
        saved = state_dict.get("run", {}).get("run_id")
        if saved is not None:
            own = self._id_for_rank(saved)
            if own != saved:
                # The spool of the state belongs to rank 0.
                state_dict = {**state_dict, "rank": self.rank, "run": {"run_id": own}, "spool": ""}
            if self._own_id in (None, own):
                self._is_continued = bool(state_dict.get("has_begun"))
        super().load_state_dict(state_dict)

    def replay_options(self) -> Mapping[str, Any] | None:
        """Return the arguments that describe the run and its server, but no API key.

        W&B reads the API key from the environment or from the file that ``wandb login`` wrote.
        """
        has_begun = self._is_continued or self._has_begun
        return replay_options(self.init, self.project, self._run, has_begun=has_begun)

    def prepare_backend(self) -> None:
        """Import W&B and start its service process."""
        import wandb

        wandb.setup()

    def open_backend(self) -> None:
        """Start or continue a W&B run, unless the logger already has a run that responds."""
        import wandb

        if self._run is not None:
            try:
                _next_step(self._run)
            except ConnectionError:
                if not self._is_mine:
                    raise
                self._run = None
            else:
                return
        settings = self._settings()
        require_api_key(settings, self.init.get("mode"))
        self._run = wandb.init(**self._arguments(), settings=settings)
        self._run_id = self._run.id
        self._has_begun = True
        if self._ahead:
            # The run was lost in a write. Its server knows how many rows it has.
            self._ahead = min(self._ahead, max(0, _next_step(self._run) - self._step))
        self._earlier_rows = earlier_rows(self._run)
        self._run.define_metric("*", step_metric=STEP)

    def _arguments(self) -> dict[str, Any]:
        # Without "create_new", wandb.init() returns or finishes a run that the user has started.
        arguments = {"project": self.project, "reinit": "create_new", **self.init}
        arguments.pop("settings", None)
        has_begun = self._is_continued or self._has_begun
        selects = any(self.init.get(name) is not None for name in SELECT_A_RUN)
        is_new = self._run_id is None
        if is_new and not selects:
            self._run_id = new_run_id()
        if self._run_id is not None:
            arguments["id"] = self._own_id
        if has_begun:
            arguments = {name: value for name, value in arguments.items() if name not in SELECT_A_RUN}
        if has_begun or not (is_new or selects or "WANDB_RESUME" in os.environ):
            # W&B may have the run although no process has received its answer.
            arguments["resume"] = "allow"
        return arguments

    def _settings(self) -> Any:
        """Return the user's W&B settings, with limits on the times for finishing a run and for saving its records.

        W&B's exit hook also finishes runs. Without a limit, the hook would wait for an unreachable server and the script would
        not end.
        """
        import wandb

        given = self.init.get("settings") or {}
        settings = wandb.Settings(**given) if isinstance(given, Mapping) else given.model_copy()
        if not settings.finish_timeout and "WANDB_FINISH_TIMEOUT" not in os.environ:
            settings.finish_timeout = max(0.5, self.timeout - 1.0)
        if SAVE_EVERY not in settings.model_fields_set and SAVE_EVERY_VARIABLE not in os.environ:
            setattr(settings, SAVE_EVERY, SECONDS_UNSAVED)
        return settings

    def write_scalars_batch(self, rows: Sequence[tuple[Mapping[str, float], int, float]]) -> None:
        """Write numbers as rows of the W&B run, one row for each record."""
        self._log([{**scalars, STEP: step, "_timestamp": timestamp} for scalars, step, timestamp in rows])

    def write_params(self, params: Mapping[str, Any]) -> None:
        """Write hyperparameters to the run's config; a later value replaces an earlier one."""
        with self._writing() as run:
            # The methods of the config have no types.
            config: Any = run.config
            config.update(dict(params), allow_val_change=True)

    def write_text(self, name: str, text: str, step: int, timestamp: float) -> None:
        """Write a text, which W&B shows as preformatted HTML."""
        self._log_page(name, f"<pre>{html.escape(text)}</pre>", step, timestamp)

    def write_histogram(self, name: str, histogram: Histogram, step: int, timestamp: float) -> None:
        """Write a distribution."""
        import numpy as np
        import wandb

        bins = np.asarray(histogram.counts), np.asarray(histogram.edges)
        self._log_media(name, lambda: wandb.Histogram(np_histogram=bins), step, timestamp)

    def write_image(self, name: str, image: Any, step: int, timestamp: float) -> None:
        """Write an image."""
        import wandb
        from PIL import Image

        # W&B would also remove a height or width of 1.
        pixels = image[..., 0] if image.shape[-1] == 1 else image
        self._log_media(name, lambda: wandb.Image(Image.fromarray(pixels)), step, timestamp)

    def write_figure(self, name: str, figure: Any, step: int, timestamp: float) -> None:
        """Write a matplotlib figure as an image, and an interactive figure as an HTML page."""
        if isinstance(figure, str):
            self._log_page(name, figure, step, timestamp)
        else:
            self.write_image(name, figure, step, timestamp)

    def write_artifact(self, path: str, name: str | None) -> None:
        """Write a file or folder as a W&B artifact of type ``file``; writing the same name again adds a version.

        Raises:
            FileNotFoundError: If ``path`` does not exist.
        """
        import wandb

        source = Path(path)
        # An error of the source affects this record only.
        source.stat()
        with self._writing() as run:
            artifact = wandb.Artifact(artifact_name(f"run-{run.id}-{name or source.name}"), type="file")
            if source.is_dir():
                artifact.add_dir(str(source), name=source.name)
            else:
                artifact.add_file(str(source), name=source.name)
            run.log_artifact(artifact)

    def flush_backend(self) -> None:
        """Wait until W&B's service process has all records."""
        with self._writing():
            pass

    def close_backend(self, outcome: RunOutcome | None) -> None:
        """Finish the run if this logger started it."""
        if self._is_mine:
            self._opened().finish(exit_code=EXIT_CODES[outcome])

    def _log_page(self, name: str, page: str, step: int, timestamp: float) -> None:
        import wandb

        self._log_media(name, lambda: wandb.Html(page, inject=False), step, timestamp)

    def _log_media(self, name: str, make: Callable[[], Any], step: int, timestamp: float) -> None:
        with _writing_files():
            # W&B's media objects write temporary files.
            media = make()
        self._log([{name: media, STEP: step, "_timestamp": timestamp}])

    def _log(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self._earlier_rows:
            # A killed process may have sent rows that still wait in the spool.
            rows = [row for row in rows if row_key(row) not in self._earlier_rows]
        with self._writing() as run:
            self._step = _next_step(run)
            first = min(self._ahead, len(rows))
            for number, row in enumerate(rows[first:], first):
                try:
                    run.log(dict(row))
                except BaseException:
                    self._ahead = number
                    raise
            ahead, self._ahead = self._ahead - first, max(self._ahead, len(rows))
        self._ahead = ahead

    @contextmanager
    def _writing(self) -> Iterator[Run]:
        """Yield the run, then wait until W&B's service process has received everything written to it.

        W&B's service process continues to run if the training process is killed.
        """
        run = self._opened()
        with _writing_files():
            yield run
        _next_step(run)

    def _opened(self) -> Run:
        if self._run is None:
            raise ConnectionError("the run is not open")
        return self._run

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes to pickle, without the W&B run and the API key; a copy of the logger starts a new run."""
        new: dict[str, Any] = {
            "init": without_api_key(self.init),
            "_run": None,
            "_is_mine": True,
            "_run_id": self._given_id(),
            "_has_begun": False,
            "_step": 0,
            "_ahead": 0,
            "_earlier_rows": set(),
        }
        return {**super().__getstate__(), **new}


@contextmanager
def _writing_files() -> Iterator[None]:
    """Convert an ``OSError``, such as that of a full disk, to ``ConnectionError``, so that the record is written again later."""
    try:
        yield
    except OSError as error:
        # W&B names the files of images and pages after the record.
        if isinstance(error, ConnectionError) or error.errno == errno.ENAMETOOLONG:
            raise
        raise ConnectionError(f"W&B's files cannot be written: {error}") from error


def _next_step(run: Run) -> int:
    """Wait until W&B's service process has all earlier records, then return the W&B step of the next row.

    Raises:
        ConnectionError: If the service process does not respond.
    """
    try:
        step: int = run.step
    except Exception as error:
        raise ConnectionError(
            f"W&B's service process does not respond: {type(error).__name__}: {error}"
        ) from error
    return step


def new_run_id() -> str:
    """Return a random run id in W&B's format.

    The logger chooses the id so that the id is known before ``wandb.init`` returns.

    Example:
        >>> len(new_run_id())
        8
    """
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
