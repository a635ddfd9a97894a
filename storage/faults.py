"""A switch for tests: end this process as if by a power cut at a named step.

`LMF_FAULT=STEP` makes the process kill itself when it reaches that step. `LMF_FAULT_ONCE=FILE` does so only while
FILE does not exist yet, and makes it, so that the process started next gets past the step.
"""

from __future__ import annotations

import os
import signal

STEPS = (
    "claimed",
    "trial-running",
    "epoch-checkpointed",
    "epoch-recorded",
    "epoch-reported",
    "trained",
    "files-stored",
    "scored",
    "attributes-set",
    "told",
    "tidied",
    "closed",
)

PRUNING_STEPS = ("prune-decided", "pruned")
"""Where a training is pruned, these come after `epoch-reported` and before `attributes-set`."""


def reach(step: str) -> None:
    """Note that `step` is reached; kills the process where a test asked for that."""
    if os.environ.get("LMF_FAULT") != step:
        return
    marker = os.environ.get("LMF_FAULT_ONCE")
    if marker:
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)
