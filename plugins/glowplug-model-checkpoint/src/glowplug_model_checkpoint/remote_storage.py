"""Storage at an address, through a driver of fsspec.

An object store shows an object only when its upload has ended, so a file is uploaded under its name. Other file systems show a
file while it grows, so it is uploaded under the name of a temporary file, and then renamed.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from glowplug_model_checkpoint.addresses import redacted, scheme_of, secrets_in, without_secrets
from glowplug_model_checkpoint.publishing import create, is_temporary, sweep, temporary_name
from glowplug_model_checkpoint.storage import Folder, Storage

__all__ = ["RemoteStorage", "is_known_scheme", "storage_at"]

_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss"}
# Schemes that nobody can write to.
_READ_ONLY = {"http", "https", "data", "gist", "github", "git"}
# An upload that has not changed for so many seconds was interrupted.
_STALE_SECONDS = 24 * 3600
_BLOCK = 256 << 10
# The names under which drivers report when a file was written.
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


class _Opened(NamedTuple):
    """A driver of fsspec and the path of the storage in it."""

    driver: Any
    path: str


class RemoteStorage:
    """The files below an address.

    Args:
        address: Address such as ``"s3://bucket/run"``.
        options: Arguments of the driver, such as credentials.

    Example:
        >>> storage = RemoteStorage("memory://storage-example", {})
        >>> storage.store("a.txt", lambda file: file.write(b"content"))
        >>> with storage.open("a.txt") as file:
        ...     print(storage.list(), file.read())
        ['a.txt'] b'content'
    """

    def __init__(self, address: str, options: Mapping[str, Any]) -> None:
        self._address = address.rstrip("/")
        self._options = dict(options)
        self._secrets = secrets_in(address, options)

    def check(self) -> None:
        """Check that fsspec and the driver are installed."""
        _check_driver(self._address)

    def prepare(self) -> None:
        """Create the folder, and remove temporary files of processes that were killed."""
        sweep(_local_folder())
        # Object stores have no folders, and no temporary files.
        if self._is_object_store:
            return
        with self._opened() as (driver, path):
            driver.makedirs(path, exist_ok=True)
            for info in self._infos(driver, path):
                if is_temporary(info["name"]) and info["time"] < time.time() - _STALE_SECONDS:
                    # Another process may remove the same file.
                    with suppress(FileNotFoundError):
                        driver.rm_file(f"{path}/{info['name']}")

    def store(
        self,
        filename: str,
        write: Callable[[BinaryIO], object],
        check: Callable[[BinaryIO], object] | None = None,
    ) -> None:
        """Write a local temporary file, and upload it.

        A file in an object store is checked after it was published, and removed if it differs.
        """
        file = create(_local_folder())
        try:
            with file:
                write(file)
                file.flush()
                if self._is_object_store:
                    self._upload(file.name, filename, check)
                else:
                    temporary = temporary_name()
                    self._upload(file.name, temporary, check)
                    self._rename(temporary, filename)
        finally:
            with suppress(OSError):
                Path(file.name).unlink(missing_ok=True)

    def open(self, filename: str) -> BinaryIO:
        """Download a file to a local temporary file."""
        file = create(_local_folder())
        try:
            with self._opened() as (driver, path):
                driver.get_file(f"{path}/{filename}", file.name)
            return Path(file.name).open("rb")
        finally:
            file.close()
            # Elsewhere than on Windows, the open file stays readable.
            with suppress(OSError):
                Path(file.name).unlink(missing_ok=True)

    def open_parts(self, filename: str) -> BinaryIO:
        """Open a file of which only the parts that are read are downloaded."""
        with self._opened() as (driver, path):
            target = f"{path}/{filename}"
            driver.invalidate_cache()
            size = int(driver.info(target)["size"])

        def fetch(begin: int, end: int) -> bytes:
            with self._opened() as (driver, _):
                return bytes(driver.cat_file(target, start=begin, end=end))

        return cast("BinaryIO", io.BufferedReader(_Parts(fetch, size)))

    def list(self) -> Sequence[str]:
        """Return the names of all files except temporary files, oldest first."""
        with self._opened() as (driver, path):
            found = [
                (info["time"], info["name"])
                for info in self._infos(driver, path)
                if not is_temporary(info["name"])
            ]
        return [name for _, name in sorted(found)]

    def remove(self, filename: str) -> None:
        """Remove a file; do nothing if it does not exist."""
        with suppress(FileNotFoundError), self._opened() as (driver, path):
            driver.rm_file(f"{path}/{filename}")

    def locate(self, filename: str) -> str:
        """Return the address of a file, without secrets."""
        return f"{without_secrets(self._address)}/{filename}"

    @property
    def _is_object_store(self) -> bool:
        return scheme_of(self._address) in _OBJECT_STORES

    @contextmanager
    def _opened(self) -> Iterator[_Opened]:
        """Yield the driver; errors within the block show no secrets."""
        try:
            _check_driver(self._address)
            from fsspec.core import url_to_fs

            # fsspec keeps the drivers, one for each process and, if need be, for each thread.
            yield _Opened(*url_to_fs(self._address, **self._options))
        except Exception as error:
            text = redacted(str(error), self._secrets)
            if text == str(error):
                raise
            kinds = (FileNotFoundError, PermissionError, ImportError)
            kind = next((each for each in kinds if isinstance(error, each)), OSError)
            # Without the original error, which contains a secret.
            raise kind(f"{type(error).__name__}: {text}") from None

    def _infos(self, driver: Any, path: str) -> Iterator[Mapping[str, Any]]:
        """Yield the name and time of each file of the folder."""
        driver.invalidate_cache()
        try:
            infos = driver.ls(path, detail=True)
        except FileNotFoundError as error:
            # A driver names a cause if the server refused, for example because there is no such bucket. Otherwise, there is no
            # file yet.
            if error.__cause__ is not None:
                raise
            return
        for info in infos:
            folder, _, name = str(info["name"]).rpartition("/")
            if info["type"] == "file" and name and folder.strip("/") == path.strip("/"):
                yield {"name": name, "time": _time_of(info)}

    def _upload(self, local: str, filename: str, check: Callable[[BinaryIO], object] | None) -> None:
        is_uploaded = False
        try:
            with self._opened() as (driver, path):
                driver.put_file(local, f"{path}/{filename}")
                is_uploaded = True
            if check is not None:
                with self.open(filename) as stored:
                    check(stored)
        except BaseException:
            # A failed upload to an object store leaves the former object.
            if is_uploaded or is_temporary(filename):
                with suppress(Exception):
                    self.remove(filename)
            raise

    def _rename(self, temporary: str, filename: str) -> None:
        try:
            with self._opened() as (driver, path):
                driver.mv(f"{path}/{temporary}", f"{path}/{filename}")
        except BaseException:
            with suppress(Exception):
                self.remove(temporary)
            raise


class _Parts(io.RawIOBase):
    """A file that is read in blocks, each of which is fetched once."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._position = 0
        self._blocks: dict[int, bytes] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"a position in a file must not be negative; got {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        # Blocks end where the file ends, because that is where torch's files have their manifest.
        from_end = (self._size - self._position - 1) // _BLOCK
        end = self._size - from_end * _BLOCK
        begin = max(0, end - _BLOCK)
        if begin not in self._blocks:
            self._blocks[begin] = self._fetch(begin, end)
        piece = self._blocks[begin][self._position - begin :][: len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


def is_known_scheme(address: str) -> bool:
    """Return whether fsspec has a driver for the scheme of an address, installed or not.

    Without fsspec, this is known only of object stores.

    Example:
        >>> (
        ...     is_known_scheme("s3://bucket/run"),
        ...     is_known_scheme("acme://run"),
        ...     is_known_scheme("https://host/run"),
        ... )
        (True, False, False)
    """
    scheme = scheme_of(address)
    if scheme in _READ_ONLY:
        return False
    try:
        from fsspec.registry import known_implementations, registry
    except ImportError:
        return scheme in _OBJECT_STORES
    return scheme in known_implementations or scheme in registry


def storage_at(address: str, options: Mapping[str, Any]) -> Storage:
    """Return the storage at an address; a folder of this machine is written as durably as one that is given by its path.

    Args:
        address: Address whose scheme fsspec knows.
        options: Arguments of the driver.
    """
    address = address.rstrip("/")
    if scheme_of(address) not in {"file", "local"}:
        return RemoteStorage(address, options)
    from fsspec.core import url_to_fs

    return Folder(Path(url_to_fs(address)[1]), address=address)


def _check_driver(address: str) -> None:
    """Import fsspec and the driver for an address.

    Raises:
        ImportError: If one of them is not installed; the error says what to install.
    """
    scheme = scheme_of(address)
    try:
        from fsspec.registry import get_filesystem_class
    except ImportError as error:
        raise ImportError(
            f"{scheme}:// addresses need fsspec: pip install 'glowplug-model-checkpoint[fsspec]'"
        ) from error
    try:
        get_filesystem_class(scheme)
    except ImportError as error:
        reason = str(error).rstrip(".")
        raise ImportError(
            f"{scheme}:// addresses need a driver of fsspec that is not installed: {reason}"
        ) from error


def _local_folder() -> Path:
    return Path(tempfile.gettempdir())


def _time_of(info: Mapping[str, Any]) -> float:
    """Return when a file was written, in seconds, as far as the driver reports it."""
    value = next((info[name] for name in _TIMES if info.get(name) is not None), 0.0)
    if isinstance(value, str):
        with suppress(ValueError):
            return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
        return 0.0
    return value.timestamp() if isinstance(value, datetime) else float(value)
