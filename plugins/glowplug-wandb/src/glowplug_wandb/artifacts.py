"""Names of W&B artifacts."""

from __future__ import annotations

import re
import zlib

LONGEST = 128
"""Maximum length of a name in W&B."""


def artifact_name(name: str) -> str:
    """Return an artifact name that W&B accepts; different names get different results.

    Args:
        name: Any name.

    Example:
        >>> artifact_name("model.pt"), artifact_name("best/model.pt")
        ('model.pt', 'best_model.pt-dbd3bd78')
    """
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    if safe == name and len(name) <= LONGEST:
        return name
    suffix = f"-{zlib.crc32(name.encode(errors='surrogatepass')):08x}"
    return safe[: LONGEST - len(suffix)] + suffix
