"""Tracking URIs that stay valid after ``os.chdir`` and do not reveal their passwords."""

from __future__ import annotations

import logging
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from glowplug_mlflow.redaction import redact, without_secrets

log = logging.getLogger("glowplug.mlflow")

# Maps URIs without secrets to the last complete URI with secrets, for addresses that are unpickled in this process.
_complete: dict[str, str] = {}

_LOCAL_PATH = re.compile(r"(sqlite(?:\+\w+)?:///|file:(?!//))(?!/|:memory:|file:)(.+)")
_SQLITE_FILE = re.compile(r"sqlite(?:\+\w+)?:///(?!:memory:|file:)([^?]+)")
_NAMES = ("databricks", "databricks-uc", "uc")


class Address:
    """Tracking URI that omits its secrets from its ``repr`` and its pickle.

    A copy that is unpickled in the same process still knows the secrets. In another process, MLflow reads the credentials of a
    tracking server from its environment variables, such as ``MLFLOW_TRACKING_PASSWORD``.

    Args:
        uri: Tracking URI. The relative path of a local store is made absolute.
        folder: Folder to which a relative path refers. Defaults to the current folder.

    Example:
        >>> address = Address("postgresql://me:secret@127.0.0.1/runs")
        >>> address, address.public, address.reveal()
        (Address('postgresql://***@127.0.0.1/runs'), 'postgresql://127.0.0.1/runs', 'postgresql://me:secret@127.0.0.1/runs')
    """

    def __init__(self, uri: str | os.PathLike[str], folder: str | None = None) -> None:
        complete = _without_http_query(absolute(os.fspath(uri), folder))
        self.public = without_secrets(complete)
        self._complete = complete
        if complete != self.public:
            _complete[self.public] = complete

    @property
    def sqlite_path(self) -> Path | None:
        """Path of the SQLite database; ``None`` for any other store."""
        found = _SQLITE_FILE.match(self.public)
        return Path(found[1]) if found else None

    @property
    def is_missing(self) -> bool:
        """Whether the store is a SQLite database that does not exist yet."""
        return self.sqlite_path is not None and not self.sqlite_path.exists()

    def reveal(self) -> str:
        """Return the URI with its secrets."""
        return self._complete

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.public,)

    def __repr__(self) -> str:
        return f"Address({redact(self.reveal())!r})"


def _restored(public: str) -> Address:
    return Address(_complete.get(public, public))


def default_store(folder: str) -> str:
    """Return the URI of the store that MLflow uses in a folder if no tracking URI is set, without importing MLflow.

    Args:
        folder: The working directory.

    Example:
        >>> default_store("/data")
        'sqlite:////data/mlflow.db'
    """
    runs = Path(folder) / "mlruns"
    has_runs = any(runs.glob("[0-9]*/meta.yaml"))
    # MLflow 3.7 replaced the folder with a database, except for folders that are in use.
    release = tuple(int(part) for part in version("mlflow").split(".")[:2])
    return str(runs) if has_runs or release < (3, 7) else f"sqlite:///{Path(folder, 'mlflow.db').as_posix()}"


def absolute(uri: str, folder: str | None = None) -> str:
    """Make the path in the URI of a local store absolute, and return any other URI unchanged.

    Args:
        uri: Tracking URI.
        folder: Folder to which a relative path refers. Defaults to the current folder.

    Example:
        >>> (
        ...     absolute("https://mlflow.example"),
        ...     absolute("runs", "/data"),
        ...     absolute("sqlite:///mlflow.db", "/data"),
        ... )
        ('https://mlflow.example', '/data/runs', 'sqlite:////data/mlflow.db')
    """
    found = _LOCAL_PATH.fullmatch(uri)
    is_folder = bool(uri) and ":" not in uri and uri not in _NAMES
    if found is None and not is_folder:
        return uri
    prefix, path = found.groups() if found else ("", uri)
    # abspath keeps symbolic links.
    return prefix + os.path.abspath(os.path.join(folder or "", path))  # noqa: PTH100, PTH118


def _without_http_query(uri: str) -> str:
    start, mark, _ = uri.partition("?")
    if not mark or not uri.startswith(("http://", "https://")):
        return uri
    # MLflow would append the path of each request to the query, and urllib3 would log it.
    log.warning(
        "MLflowLogger: the tracking URI %s is used without its query, because MLflow cannot send a query; to authenticate, set "
        "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        redact(uri),
    )
    return start
