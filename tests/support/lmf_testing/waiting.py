"""Making a wait for the GPU an error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def forbid_waiting(forbidden: bool) -> None:
    """Let torch raise where the processor waits for a GPU, or let it wait again."""
    with warnings.catch_warnings():
        # The first use in a process says that this mode is a prototype.
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error" if forbidden else "default")


@contextmanager
def no_waiting() -> Iterator[None]:
    """Let torch raise where the processor waits for a GPU within the block."""
    forbid_waiting(True)
    try:
        yield
    finally:
        forbid_waiting(False)
