"""Leaves out what needs torch or numpy where these are not installed, as in the torch-free environments."""

import importlib.util
import re

MISSING = [name for name in ("torch", "numpy") if importlib.util.find_spec(name) is None]


def pytest_ignore_collect(collection_path):
    """Ignore test files that import a missing library at their top."""
    if MISSING and collection_path.suffix == ".py" and collection_path.name != "conftest.py":
        pattern = rf"^(import|from) ({'|'.join(MISSING)})\b"
        if re.search(pattern, collection_path.read_text(), re.MULTILINE):
            return True
    return None
