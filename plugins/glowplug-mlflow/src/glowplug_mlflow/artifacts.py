"""Uploads to the artifact store of a run. A repeated upload of a file replaces the earlier upload."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glowplug_mlflow.failures import Verdict, rule_of
from glowplug_mlflow.keys import file_name, shorten

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Maximum width and height of the small copy that MLflow's pages show.
PREVIEW = 256
# A file name has at most 255 bytes, and MLflow appends the step and the time.
MAX_IMAGE_KEY = 120
# With the pauses of the delivery queue, the tries of the first record take half a minute.
MAX_FAILURES = 6


class Uploads:
    """Limits how often uploads may fail, because a broken artifact store must not block metrics forever.

    After a failed upload, the delivery queue checks that the tracking server responds, and repeats the upload. The record is
    refused at the sixth failure in a row. From then on, each record is refused at its first failure, until an upload succeeds.
    """

    def __init__(self) -> None:
        self._failures = 0

    def send(self, upload: Callable[[], object]) -> None:
        """Call a function that uploads something.

        Raises:
            RuntimeError: If too many uploads in a row have failed.
        """
        try:
            upload()
        except Exception as error:
            if rule_of(error).verdict is Verdict.DROP:
                raise
            self._failures += 1
            if self._failures < MAX_FAILURES:
                raise
            reason = f"{type(error).__name__}: {error}"
        else:
            self._failures = 0
            return
        raise RuntimeError(f"the artifact store has failed {self._failures} times in a row: {reason}")


def upload(client: MlflowClient, run_id: str, path: str, folder: str | None) -> None:
    """Upload a file, or all files in a folder.

    Args:
        client: MLflow client of the tracking store.
        run_id: Id of the run.
        path: Local path.
        folder: Destination folder in the artifact store; ``None`` is the root of the store.

    Raises:
        RuntimeError: If files in a folder cannot be uploaded. The error is raised after all other files have been uploaded.
    """
    source = Path(path)
    if not source.is_dir():
        client.log_artifact(run_id, path, folder)
        return
    files = sorted(file for file in source.rglob("*") if file.is_file())
    refused = []
    for file in files:
        inner = file.parent.relative_to(source).as_posix()
        target = "/".join(part for part in (folder, inner) if part and part != ".")
        try:
            client.log_artifact(run_id, str(file), target or None)
        except Exception as error:
            if rule_of(error).verdict is not Verdict.DROP:
                raise
            refused.append(f"{file.relative_to(source).as_posix()} ({error})")
    if refused:
        raise RuntimeError(
            f"{len(refused)} of {len(files)} files in {source.name} could not be uploaded: {', '.join(refused[:5])}"
        )


def upload_image(
    client: MlflowClient, run_id: str, name: str, pixels: Any, step: int, timestamp: float
) -> None:
    """Upload an image and a preview under the file names that MLflow's web interface expects.

    A repeated call with the same name, step and timestamp replaces the image. ``MlflowClient.log_image`` would create a second
    image.

    Args:
        client: MLflow client of the tracking store.
        run_id: Id of the run.
        name: Name of the image.
        pixels: Array of bytes (``uint8``) of shape ``(height, width, channels)``.
        step: Epoch or iteration.
        timestamp: Unix time in seconds.
    """
    from PIL import Image

    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    preview = image.copy()
    preview.thumbnail((PREVIEW, PREVIEW))
    key = shorten(file_name(name).replace("/", "~"), MAX_IMAGE_KEY)
    milliseconds = int(timestamp * 1000)
    unique = uuid.uuid5(uuid.NAMESPACE_OID, f"{run_id} {name} {step} {milliseconds}")
    stem = f"{key}+step+{step}+timestamp+{milliseconds}+{unique}"
    with tempfile.TemporaryDirectory() as folder:
        for file, picture in ((f"{stem}.png", image), (f"{stem}+compressed.webp", preview)):
            path = Path(folder) / file
            picture.save(path)
            client.log_artifact(run_id, str(path), "images")
    client.set_tag(run_id, "mlflow.loggedImages", True, synchronous=True)
