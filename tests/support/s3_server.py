"""A real S3 server for tests: moto's, in a separate process."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from mlflow_server import free_port

START_LIMIT = 60

# What botocore and s3fs read; the server accepts any credentials.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "canary-secret-key",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class S3Server:
    """A server on 127.0.0.1 with a bucket ``runs``."""

    def __init__(self):
        self.uri = f"http://127.0.0.1:{free_port()}"
        self.environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": self.uri}
        port = self.uri.rpartition(":")[2]
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", port],
            env={**os.environ, **CREDENTIALS},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        limit = time.monotonic() + START_LIMIT
        while not self._has_bucket():
            assert self._process.poll() is None, "the S3 server has ended"
            assert time.monotonic() < limit, "the S3 server did not start in time"
            time.sleep(0.1)

    def _has_bucket(self):
        request = urllib.request.Request(f"{self.uri}/runs", method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stop(self):
        """Kill the server."""
        self._process.kill()
        self._process.wait(10)


@pytest.fixture(scope="session")
def s3_server():
    """An S3 server with a bucket ``runs``."""
    pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = S3Server()
    yield server
    server.stop()
