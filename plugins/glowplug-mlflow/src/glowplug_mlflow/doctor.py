"""Check of the tracking server for ``glowplug doctor``.

This module does not import MLflow, because the import takes seconds.
"""

from __future__ import annotations

import base64
import os
import ssl
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

from glowplug.hookspecs import Finding, FindingStatus
from glowplug_mlflow.redaction import redact

__all__ = ["check_tracking_server"]

VARIABLE = "MLFLOW_TRACKING_URI"

# Maximum number of seconds to wait for the server's response.
TIMEOUT = 3.0


def check_tracking_server() -> Finding:
    """Check that the tracking server in ``MLFLOW_TRACKING_URI`` responds.

    The returned finding contains no passwords.

    Example:
        >>> os.environ.pop("MLFLOW_TRACKING_URI", None) and None
        >>> print(check_tracking_server().message)
        MLFLOW_TRACKING_URI is not set; MLflow uses its default store
    """
    uri = os.environ.get(VARIABLE, "")
    if not uri:
        return _check("ok", f"{VARIABLE} is not set; MLflow uses its default store")
    if not uri.startswith(("http://", "https://")):
        return _check("ok", f"{redact(uri)} is not an HTTP address and was not checked")
    try:
        shown = redact(uri, uri)
        code = _status_of(uri)
    except (OSError, HTTPException, ValueError) as error:
        reason = redact(str(getattr(error, "reason", error)))
        return _check(
            "error",
            f"no response from {redact(uri)}: {reason}",
            f"start the MLflow server, or correct {VARIABLE}",
        )
    return _judge(shown, code)


def _status_of(uri: str) -> int:
    try:
        with urllib.request.urlopen(_request(uri), timeout=TIMEOUT, context=_context()) as response:  # noqa: S310 - checked to be http
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def _judge(shown: str, code: int) -> Finding:
    if code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        return _check("error", f"{shown} denies access (status {code})", remedy)
    if code == HTTPStatus.NOT_FOUND:
        return _check(
            "warning",
            f"{shown} has no page /health, so it is probably not an MLflow server",
            f"check {VARIABLE}",
        )
    if code != HTTPStatus.OK:
        return _check("error", f"{shown} responds with status {code}", "check the server's log")
    return _check("ok", f"{shown} responds")


def _check(status: FindingStatus, message: str, remedy: str = "") -> Finding:
    return Finding(name="tracking server", status=status, message=message, remedy=remedy)


def _request(uri: str) -> urllib.request.Request:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(f"{parts.scheme}://{host}{parts.path.rstrip('/')}/health")  # noqa: S310 - checked to be http
    user = unquote(parts.username or "") or os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = unquote(parts.password or "") or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    # The credentials must not reach another server if the request is redirected.
    if user:
        secret = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {secret}")
    elif token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def _context() -> ssl.SSLContext | None:
    # MLflow accepts only this spelling.
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS") == "true":
        return ssl._create_unverified_context()  # noqa: S323, SLF001 - requested by the user
    return None
