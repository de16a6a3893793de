"""A small file system that can be full."""

import contextlib
import shutil
import subprocess

MOUNT = 'mount -t tmpfs -o size={size} tmpfs "{folder}"'
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


class SmallDisk:
    """A small file system in a folder, which is there only for the processes that ``command`` runs.

    It needs no rights of an administrator, and ends with these processes. Other processes of the user find it in
    ``/proc/<process id>/root``.

    Args:
        folder: An empty folder.
        size: Size of the file system, such as ``"1500k"``.

    Attributes:
        command: Command that runs the command in its last arguments.
    """

    def __init__(self, folder, size):
        self.folder = folder
        self.command = (*NAMESPACE, MOUNT.format(size=size, folder=folder) + ' && exec "$@"', "sh")

    @staticmethod
    def is_available(folder):
        """Return whether this user may mount a file system in a namespace."""
        if shutil.which("unshare") is None:
            return False
        command = [*NAMESPACE, MOUNT.format(size="100k", folder=folder)]
        return not subprocess.run(command, capture_output=True, check=False).returncode


def fill(folder):
    """Fill the file system of a folder, with a file in this folder."""
    with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(1000))


def free(folder):
    """Remove what ``fill`` has written."""
    (folder / "ballast").unlink(missing_ok=True)
