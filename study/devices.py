"""Which devices a machine has."""

from __future__ import annotations

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
