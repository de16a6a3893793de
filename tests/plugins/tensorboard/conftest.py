"""Fixtures of the TensorBoard tests."""

import subprocess
import sys

import pytest


@pytest.fixture
def serve():
    """Start a TensorBoard server on 127.0.0.1 for a folder: ``serve(folder)`` returns its address."""
    servers = []

    def start(folder):
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--load_fast", "false"),
                *("--host", "127.0.0.1", "--port", "0"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        servers.append(server)
        address = next((line for line in server.stderr if "http://" in line), None)
        assert address, f"tensorboard did not start: {server.poll()}"
        return "http://" + address.split("http://")[1].split("/")[0]

    yield start
    for server in servers:
        server.terminate()
        server.wait(10)
        server.stderr.close()
