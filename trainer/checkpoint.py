"""Checkpoints: written whole or not at all, checked when read, and loaded without running code from them.

A file is what `torch.save` writes, with a seal of 40 bytes behind it: a mark and the SHA-256 of all before it. So a
flipped or missing byte is found before anything is loaded.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from trainer.errors import CheckpointError

FORMAT = 2

_MARK = b"lmf-seal"
_SEAL_BYTES = len(_MARK) + hashlib.sha256().digest_size
_CHUNK_BYTES = 1 << 20


def write_checkpoint(state: dict[str, Any], path: Path, cancelled: threading.Event | None = None) -> None:
    """Write a checkpoint atomically: the file at `path` is the old one or the whole new one, even after a power cut.

    Args:
        state: tensors and plain values (dicts, lists, strings, numbers, None).
        path: the file; its folder is made where missing. Only one process may write a path at a time.
        cancelled: where it is set before the file is complete, the file is left as it was and nothing is raised.

    Raises:
        CheckpointError: the file cannot be written; an older one is left as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                _write_sealed({"format": FORMAT, **state}, file, cancelled)
                file.flush()
                os.fsync(file.fileno())
            if cancelled is not None and cancelled.is_set():
                return
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(
            f"{path}: the checkpoint cannot be written ({reason}); make room or choose another folder"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, without running any code that the file may hold.

    Args:
        path: a file that `write_checkpoint` made.

    Returns:
        The state that was written.

    Raises:
        CheckpointError: the file is absent, truncated, changed, holds more than plain data, or is of another format.
    """
    try:
        with path.open("rb") as file:
            _check_seal(file, path)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: the checkpoint cannot be read ({error.strerror or error})") from error
    except CheckpointError:
        raise
    except Exception as error:  # whatever the unpickler of a foreign file may raise
        raise CheckpointError(
            f"{path}: this is no checkpoint of lmf, or one that holds more than plain data"
        ) from error
    if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path}: the checkpoint was written by a version of lmf with another format")
    return state


def random_state(device: torch.device) -> dict[str, Any]:
    """Collect the state of every global random generator: Python's, NumPy's, torch's and the device's.

    Args:
        device: the training device.

    Returns:
        Tensors and plain values, for `restore_random_state`.
    """
    version, words, gauss = random.getstate()
    numpy_state: dict[str, Any] = np.random.get_state(legacy=False)
    key = torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))
    return {
        "python": [version, list(words), gauss],
        "numpy": {**numpy_state, "state": {"key": key, "pos": int(numpy_state["state"]["pos"])}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put every global random generator back to a state that `random_state` collected.

    Args:
        state: what `random_state` returned.
        device: the training device; a CUDA state is used on a CUDA device only.
    """
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    inner = state["numpy"]["state"]
    key = inner["key"].numpy().astype(np.uint32)
    np.random.set_state({**state["numpy"], "state": {"key": key, "pos": inner["pos"]}})
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


class _HashingFile:
    """Pass bytes on to a file, hash them, and keep the first error for the end.

    `torch.save` turns an error raised inside it into one of its own that no longer says what happened.
    """

    def __init__(self, file: BinaryIO, cancelled: threading.Event | None) -> None:
        self._file = file
        self._cancelled = cancelled
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is None and not (self._cancelled is not None and self._cancelled.is_set()):
            try:
                self._file.write(data)
                self.sha256.update(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""


def _write_sealed(state: dict[str, Any], file: BinaryIO, cancelled: threading.Event | None) -> None:
    sink = _HashingFile(file, cancelled)
    torch.save(state, sink)  # type: ignore[arg-type]
    if sink.error is not None:
        raise sink.error
    file.write(_MARK + sink.sha256.digest())


def _check_seal(file: BinaryIO, path: Path) -> None:
    """Check the seal and leave the file at its beginning."""
    remaining = file.seek(0, os.SEEK_END) - _SEAL_BYTES
    file.seek(0)
    sha256 = hashlib.sha256()
    while remaining > 0 and (chunk := file.read(min(remaining, _CHUNK_BYTES))):
        sha256.update(chunk)
        remaining -= len(chunk)
    if file.read() != _MARK + sha256.digest():
        raise CheckpointError(
            f"{path}: the checkpoint is damaged (truncated or changed); remove it to start the trial over"
        )
    file.seek(0)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
