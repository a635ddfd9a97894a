"""Which devices a machine has, and which of them a worker takes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from study.errors import StudyError


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


@contextmanager
def hold_device(device: str) -> Iterator[str]:
    """Take one of the devices that `--device` means: of several, the first that no other worker of this user took so.

    Where all are taken, it is the first. A device that was named, or the only one, is shared without asking.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        StudyError: a CUDA device is asked for that is not there.
    """
    devices = list_devices(device)
    if len(devices) == 1:
        yield devices[0]
        return
    for name in devices:
        lock = FileLock(_lock_file(name), timeout=0)
        try:
            lock.acquire()
        except (Timeout, OSError):
            continue
        try:
            yield name
        finally:
            lock.release()
        return
    yield devices[0]


def _lock_file(device: str) -> Path:
    """The lock of a GPU, named by what it is rather than by its number, which depends on the process."""
    import torch

    identity = getattr(torch.cuda.get_device_properties(torch.device(device)), "uuid", device)
    return Path(tempfile.gettempdir()) / f"lmf-{os.getuid()}-{str(identity).replace(':', '-')}.lock"
