"""Which devices a machine has, and which of them a worker takes."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

from study.errors import StudyError

CPU_FILE = Path("/proc/cpuinfo")


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


def describe_device(device: str) -> dict[str, str]:
    """What a worker trains with, as far as the machine tells; loads torch for a GPU only.

    Args:
        device: `cpu`, `cuda:N`, or `none` for a worker that trains nothing.

    Returns:
        Always `python`, `lmf` and `system`, the operating system's name. With a device also `device_name`, as its maker
        calls it; of a GPU `device_uuid`, by which it is known on whatever machine, and the versions `cuda` and `cudnn`.
        What a GPU that is broken or not there does not tell is left out.
    """
    facts = {"python": platform.python_version(), "lmf": version("lmf"), "system": _system_name()}
    if device == "cpu":
        facts["device_name"] = _processor_name()
    elif device.startswith("cuda"):
        facts |= _gpu_facts(device)
    return facts


def _gpu_facts(device: str) -> dict[str, str]:
    import torch

    if not torch.cuda.is_available():
        return {}
    facts = {}
    try:
        found = torch.cuda.get_device_properties(torch.device(device))
        facts["device_name"] = str(found.name)
        facts["device_uuid"] = str(getattr(found, "uuid", ""))
        if torch.version.cuda:
            facts["cuda"] = torch.version.cuda
            facts["cudnn"] = show_cudnn_version(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError):
        # The training will say what is wrong with it.
        pass
    return {name: value for name, value in facts.items() if value}


def show_cudnn_version(number: int | None) -> str:
    """The version of cuDNN as it is written, 9.10.2, from its own number for it, 91002; empty without one."""
    if not number:
        return ""
    major, rest = divmod(number, 10_000 if number >= 90_000 else 1_000)
    return f"{major}.{rest // 100}.{rest % 100}"


def _processor_name() -> str:
    """What the processor's maker calls it, or its architecture where the system does not tell."""
    try:
        lines = CPU_FILE.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return " ".join(value.split())
    return platform.processor() or platform.machine()


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _lock_file(device: str) -> Path:
    """The lock of a GPU, named by what it is rather than by its number, which depends on the process."""
    import torch

    identity = getattr(torch.cuda.get_device_properties(torch.device(device)), "uuid", device)
    return Path(tempfile.gettempdir()) / f"lmf-{os.getuid()}-{str(identity).replace(':', '-')}.lock"
