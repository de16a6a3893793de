"""Shared fixtures of the tests of TerminateOnNan."""

import pytest


@pytest.fixture
def recorder():
    """A context that records the names of torch's operations."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.names.append(function.overloadpacket._qualified_op_name)
            return function(*args, **(kwargs or {}))

    return Recorder()
