"""Which GPU a worker process sees; apart from the tests, so that workers import nothing else."""

import os
import time
from pathlib import Path

from phyff.parallel import GPU_VARIABLE


def seen_gpu(meeting: Path, workers: int) -> str | None:
    """Waits until as many workers have met, so that each does one."""
    (meeting / str(os.getpid())).touch()
    while len(list(meeting.iterdir())) < workers:
        time.sleep(0.01)
    return os.environ.get(GPU_VARIABLE)
