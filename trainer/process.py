"""What a training does to its process, and what the process's failures mean: threads, kernels, memory."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from trainer.config import Recipe
from trainer.errors import DeviceFailedError, DeviceMemoryError, ModelError, one_line

# What glibc's malloc.h calls these two.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_LARGEST_INT = 2**31 - 1
_MEMORY_ERRORS = ("can't allocate memory", "CUDA error: out of memory", "ALLOC_FAILED")
_DEVICE_ERRORS = ("CUDA error", "cuDNN error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "unspecified launch failure")
_ALLOCATION = re.compile(r"tried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)", re.IGNORECASE)
_UNITS = {"bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_NOT_DETERMINISTIC = "does not have a deterministic implementation"


def set_up_process(recipe: Recipe, device: torch.device) -> None:
    """Prepare this process for training: its threads, and which kernels a GPU may choose from.

    For speed, a GPU multiplies float32 with TF32 and cuDNN tries out which kernels are fastest. A deterministic recipe
    keeps TF32, which repeats itself, but neither tries out kernels nor takes one that adds up in changing order. A
    process that trains on the processor keeps the memory that it frees.

    Args:
        recipe: its `threads` are used by everything that torch computes on the CPU from now on.
        device: where this process will train; nothing may have been computed on a GPU before.
    """
    torch.set_num_threads(recipe.threads)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    else:
        _keep_freed_memory()
    torch.backends.cudnn.benchmark = not recipe.deterministic
    if recipe.deterministic:
        # cuBLAS reads this when it is first used.
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(recipe.deterministic)
    # No result depends on memory that nothing was written to; filling it would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _keep_freed_memory() -> None:
    """Let glibc use freed memory again instead of giving it back to the system.

    A step allocates and frees hundreds of large tensors. By default each of them is a mapping of its own, whose pages
    the system has to clear again, step by step; that costs small networks up to a quarter of their time. Where the C
    library is another one, nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


@contextmanager
def translated_failures(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Turn what torch raises for a lack of memory, of a deterministic kernel or of a compiler into errors of ours.

    Args:
        recipe: what is trained in the block.
        device: where.

    Raises:
        DeviceMemoryError: the device has too little memory; with the figures, and what to try.
        DeviceFailedError: the graphics card or its driver failed.
        ModelError: the model has no deterministic kernel, or cannot be compiled.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if _is_out_of_memory(error):
            raise DeviceMemoryError(_out_of_memory_message(recipe, device, error)) from error
        if device.type == "cuda" and any(mark in str(error) for mark in _DEVICE_ERRORS):
            raise DeviceFailedError(f"{device} failed: {one_line(error)}; see dmesg and nvidia-smi") from error
        if recipe.deterministic and _NOT_DETERMINISTIC in str(error):
            raise ModelError(
                f"model: {recipe.model} needs a kernel that does not repeat itself on {device} "
                f"({str(error).split(' ', 1)[0]}); leave out --deterministic, or take another model"
            ) from error
        if recipe.compile and _is_of_compiler(error):
            raise ModelError(
                f"model: {recipe.model} cannot be compiled here ({one_line(error)}); leave out --compile, or install "
                "what torch.compile needs (on a processor a C++ compiler)"
            ) from error
        raise


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    marks = (*_MEMORY_ERRORS, "out of memory") if _is_of_compiler(error) else _MEMORY_ERRORS
    return any(mark in str(error) for mark in marks)


def _is_of_compiler(error: Exception) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def _out_of_memory_message(recipe: Recipe, device: torch.device, error: Exception) -> str:
    asked = _ALLOCATION.search(str(error))
    figures = [f"{_size(float(asked[1]) * _UNITS[asked[2].lower()])} more were asked for"] if asked else []
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        figures += [
            f"this training had taken {_size(torch.cuda.max_memory_allocated(device))}",
            f"{_size(free)} of {_size(total)} were free",
        ]
        remedy = "use a smaller batch, smaller images or another model, fewer trials a GPU (--per-gpu)"
        remedy += ", or bf16" if recipe.precision == "fp32" else ""
    else:
        memory = psutil.virtual_memory()
        figures.append(f"{_size(memory.available)} of {_size(memory.total)} were free")
        remedy = "use a smaller batch, smaller images or another model, or fewer --workers"
    return (
        f"{device} has too little memory for {recipe.model} with batches of {recipe.batch_size} images of "
        f"{recipe.image_size} x {recipe.image_size} ({', '.join(figures)}): {remedy}"
    )


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
