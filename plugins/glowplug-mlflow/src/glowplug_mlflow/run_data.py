"""Writing of metrics, parameters and tags of a run within MLflow's size limits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from glowplug.loggers import flatten_params
from glowplug_mlflow.artifacts import Uploads
from glowplug_mlflow.failures import Verdict, rule_of
from glowplug_mlflow.keys import MAX_LENGTH, escape, file_name, shorten, unescape
from glowplug_mlflow.requests import MAX_METRICS, MAX_PARAM_LENGTH, MAX_PARAMS, MAX_TAG_LENGTH, slices

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger("glowplug.mlflow")

# Folder of artifacts that contain the full text of shortened names. Each has the name of the hash at the end of the short name.
LONG_NAMES = "glowplug/long_names"
# Maximum number of characters of a name that a log message shows.
MAX_SHOWN = 50


class RunData:
    """Writes the metrics, parameters and tags of one run.

    If a name, a parameter or a tag is too long for MLflow, the full text is stored as an artifact.

    Args:
        client: Client of the store.
        run_id: Id of the run.
        long_names: Shortened names whose full names this process has stored. New names are added to this set.
        uploads: Limit on failed uploads.
        redact: Function that replaces the secrets in a text.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        long_names: set[str],
        uploads: Uploads,
        redact: Callable[[str], str],
    ) -> None:
        self.client = client
        self.run_id = run_id
        self._long_names = long_names
        self._uploads = uploads
        self._redact = redact

    def write_metrics(self, rows: Sequence[tuple[Mapping[str, float], int, float]]) -> None:
        """Write the metrics of several records in as few requests as possible.

        Raises:
            RuntimeError: If ``rows`` contains a single record and MLflow refuses some of its metrics. The other metrics of this
                record are written before this error is raised.
        """
        from mlflow.entities import Metric

        metrics = (
            Metric(self._key(name), float(value), int(timestamp * 1000), step)
            for scalars, step, timestamp in rows
            for name, value in scalars.items()
        )
        refused: list[Any] = []
        for part in slices(((metric.key, "", metric) for metric in metrics), MAX_METRICS):
            # The delivery queue divides a refused batch of records.
            refused += self._send("metrics", part, divide=len(rows) == 1)
        if refused:
            raise RuntimeError(
                f"MLflow refused the metrics {', '.join(metric.key for metric in refused)}; any other metrics of the record "
                "were written"
            )

    def highest_steps(self) -> dict[str, int]:
        """Return the highest step of each metric that the run has.

        The full name of a shortened name is unknown, so the shortened name is returned.
        """
        # The public mapping of metrics has no steps.
        metrics = self.client.get_run(self.run_id).data._metric_objs  # noqa: SLF001
        return {unescape(metric.key): metric.step for metric in metrics}

    def write_params(self, params: Mapping[str, Any]) -> None:
        """Write parameters; the names of nested parameters are joined with slashes, as in ``optimizer/lr``.

        Raises:
            RuntimeError: If MLflow refuses a parameter, for example because the run already has another value for this
                parameter. Parameters that MLflow accepts are written before this error is raised.
        """
        from mlflow.entities import Param

        texts = self._fitting("params", flatten_params(params), MAX_PARAM_LENGTH)
        refused: list[Any] = []
        for part in slices(((key, text, Param(key, text)) for key, text in texts), MAX_PARAMS):
            refused += self._send("params", part)
        if refused:
            logged = self.client.get_run(self.run_id).data.params
            changes = (
                f"{param.key}={param.value}"
                + (f" (logged: {logged[param.key]})" if param.key in logged else "")
                for param in refused
            )
            advice = (
                "; the value of a logged parameter cannot change, so log the new value under another name or in a new run"
                if any(param.key in logged for param in refused)
                else ""
            )
            raise RuntimeError(f"MLflow refused the parameters {', '.join(changes)}{advice}")

    def write_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags.

        Raises:
            RuntimeError: If MLflow refuses a tag. Tags that MLflow accepts are set before this error is raised.
        """
        from mlflow.entities import RunTag

        texts = self._fitting("tags", flatten_params(tags), MAX_TAG_LENGTH)
        refused: list[Any] = []
        for part in slices(((key, text, RunTag(key, text)) for key, text in texts), MAX_PARAMS):
            refused += self._send("tags", part)
        if refused:
            raise RuntimeError(
                f"MLflow refused the tags {', '.join(tag.key for tag in refused)}; any other tags were set"
            )

    def _send(self, kind: str, items: list[Any], *, divide: bool = True) -> list[Any]:
        """Send metrics, parameters or tags, and return the ones that MLflow refuses."""
        try:
            # The script may have chosen asynchronous requests, which would hide failures.
            self.client.log_batch(self.run_id, synchronous=True, **{kind: items})
        except Exception as error:
            if not divide or rule_of(error).verdict is not Verdict.DROP:
                raise
            if len(items) == 1:
                log.debug("MLflow refused %s: %s", items[0].key, type(error).__name__)
                return items
            return [refused for item in items for refused in self._send(kind, [item])]
        return []

    def _key(self, name: str) -> str:
        key = escape(name)
        short = shorten(key)
        if short != key and short not in self._long_names:
            digest = short.rpartition("-")[2]
            file = f"{LONG_NAMES}/{digest}.txt"
            self._keep_in_full(name, file)
            self._long_names.add(short)
            log.warning(
                "MLflowLogger: the name %r is %d characters long after escaping, but MLflow allows only %d. The values are "
                "logged under a shortened name that ends with -%s. The full name is in the artifact %s",
                _beginning(name),
                len(key),
                MAX_LENGTH,
                digest,
                file,
            )
        return short

    def _fitting(self, kind: str, values: Mapping[str, Any], longest: int) -> Iterable[tuple[str, str]]:
        """Yield keys and texts within MLflow's limits.

        A text that is too long is shortened, and the full text is stored as an artifact.
        """
        for name, value in values.items():
            # Some databases refuse the character NUL.
            key, text = self._key(name), str(value).replace("\0", "\\0")
            if len(text) > longest:
                file = f"{kind}/{file_name(name)}.txt"
                self._keep_in_full(text, file)
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

    def _keep_in_full(self, text: str, file: str) -> None:
        """Store a full name or text as an artifact.

        If the artifact is refused, this method only logs a warning, so the shortened names and texts are still written.
        """
        try:
            self._uploads.send(lambda: self.client.log_text(self.run_id, text, file))
        except Exception as error:
            if rule_of(error).verdict is not Verdict.DROP:
                raise
            log.warning("MLflowLogger: the artifact %s was refused: %s", file, self._redact(str(error)))


def _beginning(name: str) -> str:
    """Return a name for a message, shortened if it is long."""
    return name if len(name) <= MAX_SHOWN else f"{name[:MAX_SHOWN]}..."
