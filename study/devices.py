"""Which devices a machine has, and how many workers suit it."""

from __future__ import annotations

import psutil

from study.errors import StudyError
from study.images import available_cores

MEMORY_PER_WORKER = 2 * 2**30
MOST_CPU_WORKERS = 8


def list_devices(device: str) -> tuple[str, ...]:
    """The devices that `--device` means on this machine: `cpu`, or each CUDA device meant.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        StudyError: a CUDA device is asked for that is not there.
    """
    if device == "cpu":
        return ("cpu",)
    import torch

    found = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count())) if torch.cuda.is_available() else ()
    if device == "auto":
        return found or ("cpu",)
    if device == "cuda" and found:
        return found
    if device in found:
        return (device,)
    there = ", ".join(found) or "none"
    raise StudyError(
        f"--device: {device} is not here (CUDA devices found: {there}); expected auto, cpu or one of these"
    )


def default_workers(devices: tuple[str, ...]) -> int:
    """How many workers suit the devices: one a GPU; on the CPU one a core while there is memory for them."""
    if devices != ("cpu",):
        return len(devices)
    by_memory = psutil.virtual_memory().available // MEMORY_PER_WORKER
    return int(max(1, min(available_cores(), by_memory, MOST_CPU_WORKERS)))


def default_threads(workers: int) -> int:
    """Processor threads of each of so many workers."""
    return max(1, available_cores() // workers)
