"""Removal of secrets from texts and tracking URIs."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote

# The password of a database may contain a slash.
_CREDENTIALS = re.compile(r"(?<=://)(?:[^/?\s'\"]+|(?<!http://)(?<!https://)[^/?:@\s'\"]*:[^?\s'\"]+)@")
# Parameters of a query that may contain a secret. The parameter sslkey is the path of a file.
_SECRET_PARAMETER = re.compile(
    r"passw|pwd|secret|token|(?<!ssl)key|auth|signature|credential|odbc_connect|^sig$", re.IGNORECASE
)
_PARAMETER = re.compile(r"(?<=[?&;])([^?=&;\s'\"]+)=([^&;#\s'\"]+)")

_URI_VARIABLE = "MLFLOW_TRACKING_URI"
_SECRET_VARIABLES = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "DATABRICKS_TOKEN",
    "DATABRICKS_CLIENT_SECRET",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
)


def redact(text: str, *uris: str | None) -> str:
    """Replace the secrets in a text with ``***``.

    In every URI of the text, the function replaces the credentials ``user:password`` and the values of parameters such as
    ``?password=``. Everywhere in the text, it replaces the values of environment variables such as ``MLFLOW_TRACKING_TOKEN``.

    Args:
        text: Any text.
        *uris: URIs that contain secrets. These secrets are replaced everywhere in the text, even outside URIs.

    Example:
        >>> redact("no answer from https://me:secret@mlflow.example")
        'no answer from https://***@mlflow.example'
        >>> redact("no answer from https://mlflow.example?api_key=secret&page=1")
        'no answer from https://mlflow.example?api_key=***&page=1'
    """
    text = _CREDENTIALS.sub("***@", text)
    text = _PARAMETER.sub(
        lambda found: f"{found[1]}=***" if _SECRET_PARAMETER.search(found[1]) else found[0], text
    )
    secrets = {secret for uri in (*uris, os.environ.get(_URI_VARIABLE)) for secret in _secrets_of(uri or "")}
    secrets.update(os.environ.get(name, "") for name in _SECRET_VARIABLES)
    secrets.add(
        _basic(os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD"))
    )
    # A message may show a secret that ends with a line break in another form.
    secrets.update([secret.strip() for secret in secrets])
    # A longer secret may contain a shorter one.
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def without_secrets(uri: str) -> str:
    """Return a URI without its credentials and without its secret parameters.

    Example:
        >>> without_secrets("postgresql://me:secret@127.0.0.1/runs?sslmode=require&sslpassword=secret")
        'postgresql://127.0.0.1/runs?sslmode=require'
    """
    start, mark, query = _CREDENTIALS.sub("", uri).partition("?")
    public = [part for part in query.split("&") if not _SECRET_PARAMETER.search(part.partition("=")[0])]
    return start + mark + "&".join(public) if any(public) else start


def _basic(user: str | None, password: str | None) -> str:
    """Return the credentials as a request contains them, or ``""`` if one of them is missing."""
    return base64.b64encode(f"{user}:{password}".encode()).decode() if user and password else ""


def _secrets_of(uri: str) -> Iterator[str]:
    """Yield each secret of a URI in the forms in which a text may contain it, such as percent-decoded."""
    found = _CREDENTIALS.search(uri)
    if found is not None:
        user, separator, password = found[0][:-1].partition(":")
        if not separator:
            # A token
            yield user
        else:
            yield from (password, unquote(password))
            yield _basic(unquote(user), unquote(password))
    for name, value in parse_qsl(uri.partition("?")[2]):
        if _SECRET_PARAMETER.search(name):
            yield value
