"""The process from which tests fork: it imports large libraries once for all jobs of a test process."""

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")
# A library that is not installed is ignored.
PROCESSES.set_forkserver_preload(
    [
        "torch.distributed.fsdp",
        "torch.distributed.checkpoint.state_dict",
        "sklearn.datasets",
        "sklearn.model_selection",
        "matplotlib.pyplot",
    ]
)
