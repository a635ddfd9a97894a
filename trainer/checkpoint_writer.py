"""Writes checkpoints beside the training: from a copy of the state, in a thread, one at a time.

The training waits for the copy, which takes as long as memory is slow, and for a write only where the one before it is
still under way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.checkpoint import write_checkpoint


class CheckpointWriter:
    """Writes the checkpoints of one trial to one file; to be closed.

    Args:
        path: the file; nobody else may write it.
        publish: called after each write, in the thread that wrote; may raise.
    """

    def __init__(self, path: Path, publish: Callable[[], None] | None = None) -> None:
        self._path = path
        self._publish = publish
        self._cancelled = threading.Event()
        self._thread: ThreadPoolExecutor | None = None
        self._write: Future[None] | None = None
        self._copy: dict[str, Any] = {}

    def start(self, changing: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
        """Copy what training changes, and write it in the thread; the write before must have been waited for.

        Args:
            changing: tensors and plain values that are copied first.
            fixed: more of them that nobody changes any more.
        """
        assert self._write is None, "the write before has not been waited for"
        self._copy = _copied(changing, self._copy)
        for device in _gpus(changing):
            torch.cuda.current_stream(device).synchronize()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._write = self._thread.submit(self._write_and_publish, {**self._copy, **fixed})

    def write(self, state: dict[str, Any]) -> None:
        """Write a state in this thread, after the write under way.

        Raises:
            CheckpointError: the file cannot be written.
        """
        self.wait()
        self._write_and_publish(state)

    def is_done(self) -> bool:
        """Whether no write is under way."""
        return self._write is None or self._write.done()

    def wait(self) -> None:
        """Wait for the write under way, if there is one.

        Raises:
            CheckpointError: the file could not be written.
        """
        if self._write is not None:
            write, self._write = self._write, None
            write.result()

    def close(self) -> None:
        """Give up a write under way, which leaves the file as it was, and end the thread."""
        self._cancelled.set()
        if self._thread is not None:
            self._thread.shutdown()

    def _write_and_publish(self, state: dict[str, Any]) -> None:
        write_checkpoint(state, self._path, self._cancelled)
        if self._publish is not None and not self._cancelled.is_set():
            self._publish()


def _copied(value: Any, old: Any) -> Any:
    """A copy of nested dicts, lists and tensors on the CPU, in the tensors of an older copy where they fit."""
    if isinstance(value, Tensor):
        fits = isinstance(old, Tensor) and old.dtype == value.dtype and old.shape == value.shape
        if not fits or old.stride() != value.stride():
            old = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda, requires_grad=False)
        with torch.no_grad():
            return old.copy_(value, non_blocking=True)
    if isinstance(value, Mapping):
        known = old if isinstance(old, dict) else {}
        return {key: _copied(item, known.get(key)) for key, item in value.items()}
    if isinstance(value, list):
        known_items = old if isinstance(old, list) and len(old) == len(value) else [None] * len(value)
        return [_copied(item, known) for item, known in zip(value, known_items, strict=True)]
    return value


def _gpus(value: Any) -> set[torch.device]:
    """The GPUs from which `_copied` has only started to copy."""
    if isinstance(value, Tensor):
        return {value.device} if value.is_cuda else set()
    if isinstance(value, Mapping | list):
        return set().union(*map(_gpus, value.values() if isinstance(value, Mapping) else value))
    return set()
