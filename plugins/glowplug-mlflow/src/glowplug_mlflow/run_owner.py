"""The process that ends a run, which is stored in tags of the run."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

# Tag of the runs that a logger ends. A later logger may continue and end such a run, for example after a crash.
OPENED_BY = "glowplug.logger"
# Tag with the host name and the process id of this logger.
OWNER = "glowplug.owner"


def owner_tags(logger: str) -> dict[str, str]:
    """Return the tags of a run that a logger of this process ends.

    Args:
        logger: Name of the logger's class.
    """
    return {OPENED_BY: logger, OWNER: f"{socket.gethostname()} {os.getpid()}"}


def open_process(tags: Mapping[str, str]) -> int | None:
    """Return the id of the other process on this machine that will end a run, or ``None`` if there is no such process.

    Processes of other machines cannot be checked.

    Args:
        tags: The tags of the run.
    """
    host, _, process = tags.get(OWNER, "").rpartition(" ")
    is_checked = host == socket.gethostname() and process.isdecimal() and int(process) != os.getpid()
    # On Windows, os.kill() would end the process.
    if not is_checked or os.name == "nt":
        return None
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        # A process of another user.
        pass
    return int(process)
