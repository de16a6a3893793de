"""The process from which tests fork: it imports large libraries once for all jobs of a test process."""

import multiprocessing

PROCESSES = multiprocessing.get_context("forkserver")


def preload(*libraries):
    """Import libraries before the first process is forked; those that are not installed are ignored."""
    # The first step of an optimizer imports torch._dynamo, which takes as long as the rest of torch.
    PROCESSES.set_forkserver_preload(["torch.distributed", "torch._dynamo", *libraries])


preload()
