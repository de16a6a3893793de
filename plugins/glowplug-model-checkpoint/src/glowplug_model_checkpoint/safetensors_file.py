"""Safetensors file with a manifest and a digest that covers every byte.

The metadata in the header of the file have, beside the ``format`` that Hugging Face libraries expect, the :class:`Manifest`, the
digest of each tensor, the place of each tensor in the checkpoint, and the seal: a digest of all other bytes, in which the content
of each tensor is replaced by its digest.

The header precedes the tensors. It is written with empty digests first, and again, with the same length, when the tensors are
written. The library writes only whole files under temporary names that it chooses, so it is used only for reading.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import torch

from glowplug_model_checkpoint.checkpoint_file import Loaded, warn_unverified
from glowplug_model_checkpoint.digests import Digest, new_hasher
from glowplug_model_checkpoint.manifest import Entry, Manifest
from glowplug_model_checkpoint.sealing import DamagedCheckpointError, Seal, blank, check_seal, sealed

__all__ = ["SafetensorsFormat"]

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
_METADATA = "__metadata__"
_MANIFEST, _DIGESTS, _PLACES, _SEAL = "glowplug", "glowplug.digests", "glowplug.places", "glowplug.seal"
_SEAL_PATTERN = re.compile(rb'"glowplug\.seal":"(xxh3_128|sha256) ([0-9a-f]+)"')
# The length of the header, a number of 8 bytes, precedes it; the library accepts no longer header.
_LENGTH, _LONGEST_HEADER = 8, 100_000_000

_Keys: TypeAlias = tuple[str, ...]


class SafetensorsFormat:
    """The format of safetensors files; only tensors in nested mappings.

    Example:
        >>> file = io.BytesIO()
        >>> content = {"model": {"weight": torch.ones(2)}}
        >>> SafetensorsFormat().write(content, file, {"step": 1}, "xxh3_128", "model.safetensors")
        >>> SafetensorsFormat().read_manifest(file).metadata
        {'step': 1}
    """

    extension = "safetensors"

    def write(
        self, content: Any, file: BinaryIO, metadata: Mapping[str, Any], digest: Digest, filename: str
    ) -> None:
        """Write a checkpoint.

        Raises:
            ValueError: If the checkpoint contains anything other than dense tensors in mappings.
        """
        parts = _Parts.of(content, filename)
        digits = [blank(digest)] * len(parts.tensors)
        file.write(_header(parts, metadata, digits, f"{digest} {blank(digest)}"))
        raw = []
        for tensor in parts.tensors.values():
            data = _bytes_of(tensor)
            hasher = new_hasher(digest)
            hasher.update(data)
            raw.append(hasher.digest())
            file.write(data)
        header = _header(parts, metadata, [each.hex() for each in raw], f"{digest} {blank(digest)}")
        file.seek(0)
        file.write(header)
        seal, entries = _seal_in(header), _entries(_parsed(header[_LENGTH:]), len(header))
        if seal is None or entries is None:
            raise AssertionError("the header lacks what was written to it")
        file.flush()
        value = sealed(file, zip(entries, raw, strict=True), seal)
        file.seek(seal.position)
        file.write(value.encode())
        file.flush()

    def verify(self, file: BinaryIO) -> Manifest | None:
        """Compare a file with its digest."""
        header = _read_header(file)
        manifest, seal = _manifest(header)
        if manifest is None or seal is None:
            return None
        entries = _entries(_parsed(header[_LENGTH:]), len(header))
        if entries is None:
            raise DamagedCheckpointError("its manifest does not fit the file")
        check_seal(file, entries, seal)
        return manifest

    def read_manifest(self, file: BinaryIO) -> Manifest | None:
        """Read only the header, which has the manifest."""
        return _manifest(_read_header(file))[0]

    def load(self, file: BinaryIO, location: object) -> Loaded:
        """Verify and load a file, also one of another program, which has no manifest.

        Raises:
            ImportError: If safetensors is not installed.
            DamagedCheckpointError: If the file does not match its digest.
        """
        try:
            from safetensors.torch import load
        except ImportError as error:
            raise ImportError(
                "loading safetensors files needs safetensors: pip install 'glowplug-model-checkpoint[safetensors]'"
            ) from error
        file.seek(0)
        data = file.read()
        manifest = self.verify(io.BytesIO(data))
        if manifest is None:
            warn_unverified(location)
        try:
            tensors = load(data)
        except Exception as error:
            # The library raises its own type of error for invalid files.
            raise DamagedCheckpointError(f"the file is incomplete or damaged ({error})") from error
        places = _metadata_of(_parsed(_read_header(io.BytesIO(data))[_LENGTH:])).get(_PLACES)
        content = tensors if places is None else _nested(tensors, json.loads(places))
        return Loaded(content, None if manifest is None else manifest.metadata)


class _Parts(NamedTuple):
    """The tensors of a checkpoint by their names in the file, and the places of each in the checkpoint."""

    tensors: Mapping[str, torch.Tensor]
    places: Mapping[str, list[_Keys]]
    empty: list[_Keys]

    @classmethod
    def of(cls, content: Any, filename: str) -> _Parts:
        """Return the parts of a checkpoint; what the format does not support is refused."""
        tensors: dict[str, torch.Tensor] = {}
        places: dict[str, list[_Keys]] = {}
        empty: list[_Keys] = []
        known: dict[Any, str] = {}
        used: set[str] = {_METADATA}
        for path, value in _leaves(content, (), filename):
            if value is None:
                empty.append(path)
                continue
            name = ".".join(path)
            if name in used:
                raise ValueError(
                    f"{filename!r} was not saved because the name {name!r} would occur twice in the safetensors file or is "
                    "reserved; rename it"
                )
            used.add(name)
            tensor = _checked(value, path, filename)
            # Tied weights are the same elements of the same memory.
            identity = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            same = known.setdefault(identity, name) if tensor.numel() else name
            places.setdefault(same, []).append(path)
            if same == name:
                tensors[name] = tensor
        # The library requires aligned tensors, so those with the largest elements come first.
        order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
        return cls({name: tensors[name] for name in order}, places, empty)


def _leaves(value: Any, path: _Keys, filename: str) -> Iterator[tuple[_Keys, torch.Tensor | None]]:
    """Yield the tensors of nested mappings with their paths, and the paths of empty mappings."""
    if isinstance(value, torch.Tensor):
        yield path, value
        return
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        where = f"at {'.'.join(path)!r}" if path else "as its content"
        what = (
            "a mapping with keys that are no strings" if isinstance(value, Mapping) else type(value).__name__
        )
        raise ValueError(
            f"{filename!r} was not saved because safetensors files contain only tensors in mappings, but the checkpoint has "
            f"{what} {where}. Save only models with SafetensorsSaver, and other objects with another handler"
        )
    if not value:
        yield path, None
    for key, each in value.items():
        yield from _leaves(each, (*path, key), filename)


def _checked(value: torch.Tensor, path: _Keys, filename: str) -> torch.Tensor:
    tensor = value.detach()
    problem = None
    if type(tensor) is not torch.Tensor:
        problem = f"a {type(tensor).__name__}"
    elif tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        problem = "sparse, quantized or without data"
    elif tensor.dtype not in _DTYPES:
        problem = f"of the type {tensor.dtype}"
    if problem is not None:
        raise ValueError(
            f"{filename!r} was not saved because {'.'.join(path)!r} is {problem}, which safetensors files do not support; convert "
            "it to a plain dense tensor in state_dict(), or use DiskSaver"
        )
    return tensor


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    plain = tensor.resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    data: Any = plain.view(torch.uint8).numpy() if plain.numel() else b""
    return memoryview(data)


def _header(parts: _Parts, metadata: Mapping[str, Any], digests: list[str], seal: str) -> bytes:
    """Return the length of the header and the header, which begins with the seal."""
    places = {"tensors": parts.places, "empty": parts.empty}
    header: dict[str, Any] = {
        _METADATA: {
            _SEAL: seal,
            "format": "pt",
            _MANIFEST: Manifest(metadata).to_json().decode(),
            _DIGESTS: json.dumps(digests),
            _PLACES: json.dumps(places),
        }
    }
    position = 0
    for name, tensor in parts.tensors.items():
        end = position + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)
    return len(text).to_bytes(_LENGTH, "little") + text


def _read_header(file: BinaryIO) -> bytes:
    """Return the length of the header and the header."""
    file.seek(0)
    start = file.read(_LENGTH)
    length = int.from_bytes(start, "little")
    if len(start) < _LENGTH or length > _LONGEST_HEADER:
        raise DamagedCheckpointError("the file is empty or its beginning is damaged")
    header = file.read(length)
    if len(header) < length:
        raise DamagedCheckpointError("the end of the file is missing")
    return start + header


def _parsed(text: bytes) -> Mapping[str, Any]:
    try:
        header = json.loads(text)
    except ValueError as error:
        raise DamagedCheckpointError(f"its header cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise DamagedCheckpointError("its header cannot be read")
    return header


def _metadata_of(header: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = header.get(_METADATA, {})
    return metadata if isinstance(metadata, dict) else {}


def _seal_in(header: bytes) -> Seal | None:
    found = _SEAL_PATTERN.search(header)
    return None if found is None else Seal(found[1].decode(), found[2].decode(), found.start(2))


def _manifest(header: bytes) -> tuple[Manifest | None, Seal | None]:
    """Return manifest and seal; a file with only one of the two is damaged."""
    seal = _seal_in(header)
    text = _metadata_of(_parsed(header[_LENGTH:])).get(_MANIFEST)
    if seal is None and text is None:
        return None, None
    if seal is None or not isinstance(text, str):
        raise DamagedCheckpointError(f"its {'digest' if seal is None else 'manifest'} is missing")
    try:
        return Manifest.from_json(text.encode()), seal
    except ValueError as error:
        raise DamagedCheckpointError(str(error)) from error


def _entries(header: Mapping[str, Any], begin: int) -> list[Entry] | None:
    """Return the tensors with their positions and digests; ``None`` if the header is malformed."""
    try:
        digests = json.loads(_metadata_of(header)[_DIGESTS])
        spans = sorted((*each["data_offsets"], name) for name, each in header.items() if name != _METADATA)
        entries = [
            Entry(name, begin + first, end - first, value)
            for (first, end, name), value in zip(spans, digests, strict=True)
        ]
    except (KeyError, TypeError, ValueError):
        return None
    return entries if all(entry.is_valid() for entry in entries) else None


def _nested(tensors: Mapping[str, torch.Tensor], places: Mapping[str, Any]) -> Any:
    """Return the tensors in mappings that are nested as they were saved."""
    content: dict[str, Any] = {}
    for path in places["empty"]:
        _put(content, path, {})
    for name, paths in places["tensors"].items():
        for path in paths:
            _put(content, path, tensors[name])
    return content


def _put(content: dict[str, Any], path: list[str], value: Any) -> None:
    if not path:
        return
    for key in path[:-1]:
        content = content.setdefault(key, {})
    content[path[-1]] = value
