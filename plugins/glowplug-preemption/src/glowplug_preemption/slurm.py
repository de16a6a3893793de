"""Put a job of the Slurm workload manager back into the queue."""

from __future__ import annotations

import logging
import os
import subprocess

_log = logging.getLogger("glowplug_preemption")

# A healthy controller answers within a second.
_TIMEOUT_S = 30.0


def requeue() -> bool:
    """Requeue the Slurm job that this process belongs to, and return whether Slurm has accepted this.

    Slurm ends the processes of a job that it requeues, so call this function last. A failure is logged.

    Example:
        >>> _ = os.environ.pop("SLURM_JOB_ID", None)
        >>> requeue()
        False
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        _log.warning("the job was not requeued, because SLURM_JOB_ID is not set; this is no Slurm job")
        return False
    try:
        subprocess.run(  # noqa: S603 - the job id is that of Slurm
            ["scontrol", "requeue", job],  # noqa: S607 - Slurm's folder differs between clusters
            check=True,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        _log.error("scontrol requeue %s failed with exit code %d: %s", job, error.returncode, error.stderr)
        return False
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.error("scontrol requeue %s failed: %s", job, error)
        return False
    _log.warning("Slurm has requeued job %s", job)
    return True
