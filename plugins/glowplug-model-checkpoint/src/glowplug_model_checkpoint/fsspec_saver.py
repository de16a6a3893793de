"""Save handler for the addresses of fsspec, such as object stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glowplug.distributed import rank
from glowplug_model_checkpoint.addresses import is_address, without_secrets
from glowplug_model_checkpoint.digests import DEFAULT_DIGEST, Digest
from glowplug_model_checkpoint.file_format import TorchFormat
from glowplug_model_checkpoint.file_saver import FileSaver
from glowplug_model_checkpoint.remote_storage import storage_at

__all__ = ["FsspecSaver"]


class FsspecSaver(FileSaver):
    """Store checkpoints below an address of fsspec, such as ``s3://bucket/run``, ``gs://bucket/run`` or ``file:///runs/1``.

    ``ModelCheckpoint("s3://bucket/run")`` uses this save handler for each scheme that fsspec knows. The files are those of
    :class:`DiskSaver`. A checkpoint is written to the folder for temporary files (``TMPDIR``) and then uploaded; it appears under
    its name only when the upload has ended. A folder of ``file://`` is written as DiskSaver writes it.

    fsspec and the driver of the scheme, such as s3fs, are imported when they are first used. Pass credentials as the driver
    documents, for example in the environment. Passwords in the URL and in ``storage_options`` are not shown in messages, and
    the locations of checkpoints do not contain them.

    Args:
        url: The address.
        require_empty: Refuse an address that already contains checkpoints (``*.pt``). ``ModelCheckpoint`` passes its own option.
        save_on_rank: The only rank that writes and removes files; on other ranks, ``save`` and ``remove`` do nothing.
        filename_prefix: ``require_empty`` considers only checkpoints with this prefix. An empty prefix matches all checkpoints.
        digest: Kind of the digest: ``"xxh3_128"``, or ``"sha256"``, which is slower.
        read_back: Download each file again, and raise if it differs from what was written. In object stores, this happens
            after the file got its name; a file that differs is removed.
        storage_options: Arguments of the driver, such as ``{"endpoint_url": "http://127.0.0.1:9000"}``.

    Raises:
        ValueError: If ``url`` is not an address, the digest is unknown, or ``require_empty`` refuses the address.
        ImportError: If ``require_empty`` is set and fsspec or the driver is not installed.

    Example:
        >>> import torch
        >>> saver = FsspecSaver("memory://fsspec-example")
        >>> saver.save({"weight": torch.ones(2)}, "model_1.pt", {"step": 1})
        >>> saver.list(), saver.load("model_1.pt"), saver.metadata("model_1.pt")
        (['model_1.pt'], {'weight': tensor([1., 1.])}, {'step': 1})
        >>> saver.locate("model_1.pt")
        'memory://fsspec-example/model_1.pt'
    """

    def __init__(
        self,
        url: str,
        require_empty: bool = False,
        save_on_rank: int = 0,
        *,
        filename_prefix: str = "",
        digest: Digest = DEFAULT_DIGEST,
        read_back: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        if not is_address(url):
            raise ValueError(f"url must be an address such as 's3://bucket/run'; got {url!r}")
        self._url = url
        self._storage_options = dict(storage_options or {})
        super().__init__(
            storage_at(url, self._storage_options),
            TorchFormat(),
            save_on_rank=save_on_rank,
            digest=digest,
            read_back=read_back,
        )
        if require_empty and rank() == save_on_rank:
            self.refuse_existing(f"address {self.url!r}", filename_prefix)

    @property
    def url(self) -> str:
        """The address, without secrets."""
        return without_secrets(self._url)

    def with_options(self, **options: Any) -> FsspecSaver:
        """Return a save handler for the same address with other options.

        Args:
            **options: Arguments of the constructor, except ``url`` and ``storage_options``.
        """
        return FsspecSaver(self._url, storage_options=self._storage_options, **options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"
