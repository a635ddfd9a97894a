"""Remembers the digests of image files, so that files that did not change are not read again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from trainer.data.cache_folder import remove, write_whole

INDEX_NAME = re.compile(r"digests-[0-9a-f]{16}\.json")

_FORMAT = 1
_RACY_NANOSECONDS = 2_000_000_000

State = tuple[int, int, int]
"""A file's size in bytes, time of modification in nanoseconds, and inode."""


class DigestIndex:
    """Digests of a dataset's files, kept in a cache folder: one small file for all files below one folder.

    A digest is known while the file has the size, the time of modification and the inode that it had when it was read.
    A file that was modified within 2 seconds before it was read is not taken in: it may change once more without
    getting another time. The index only saves time: where it is damaged or cannot be written, files are read.

    Attributes:
        known: from a position in `files` to the digest of the file there.
    """

    def __init__(self, cache_dir: Path, files: Sequence[Path]) -> None:
        """Read what is known of some files.

        Args:
            cache_dir: the cache folder, which need not exist.
            files: at least one; those of one dataset.
        """
        paths = [os.path.abspath(path) for path in files]
        self._root = _common_folder(paths)
        self._path = cache_dir / _index_name(self._root)
        self._names = [path[len(self._root) :] for path in paths]
        self._newest = time.time_ns() - _RACY_NANOSECONDS
        self._states = [_state(path) for path in paths]
        stored = _read(self._path, self._root)
        self.known: dict[int, bytes] = {}
        for position, (name, state) in enumerate(zip(self._names, self._states, strict=True)):
            entry = stored.get(name)
            if entry is not None and entry[0] == state:
                self.known[position] = entry[1]
        self._new: dict[str, tuple[State, bytes]] = {}

    def add(self, position: int, digest: bytes) -> None:
        """Take in the digest of a file that was read after this index was."""
        self.known[position] = digest
        state = self._states[position]
        if state is not None and state[1] <= self._newest:
            self._new[self._names[position]] = (state, digest)

    def save(self) -> None:
        """Write what is new, beside what other processes have written, without files that are gone."""
        if not self._new:
            return
        stored = _read(self._path, self._root) | self._new
        own = set(self._names)
        kept = {name: entry for name, entry in stored.items() if name in own or os.path.lexists(self._root + name)}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, _encode(self._root, kept))


def forget_digests(cache_dir: Path, files: Sequence[Path] | None) -> None:
    """Remove what is known of a dataset's files."""
    if files:
        remove(cache_dir / _index_name(_common_folder([os.path.abspath(path) for path in files])))


def indexes_nothing(path: Path) -> bool:
    """Whether an index is damaged, or none of its files is there any more."""
    try:
        root, entries = _decode(path.read_bytes())
    except (OSError, ValueError, TypeError, LookupError):
        return True
    return not any(os.path.lexists(root + name) for name in entries)


def _common_folder(paths: Sequence[str]) -> str:
    return os.path.commonpath({os.path.dirname(path) for path in paths})


def _index_name(root: str) -> str:
    return f"digests-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}.json"


def _state(path: str) -> State | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _read(path: Path, root: str) -> dict[str, tuple[State, bytes]]:
    try:
        found_root, entries = _decode(path.read_bytes())
    except (OSError, ValueError, TypeError, LookupError):
        return {}
    return entries if found_root == root else {}


def _encode(root: str, entries: dict[str, tuple[State, bytes]]) -> bytes:
    files = {name: [*state, digest.hex()] for name, (state, digest) in entries.items()}
    text = json.dumps({"format": _FORMAT, "root": root, "files": files}).encode()
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def _decode(data: bytes) -> tuple[str, dict[str, tuple[State, bytes]]]:
    seal, _, text = data.partition(b"\n")
    if seal != hashlib.sha256(text).hexdigest().encode():
        raise ValueError("damaged")
    document = json.loads(text)
    if document["format"] != _FORMAT:
        raise ValueError("of another format")
    files = document["files"]
    return document["root"], {
        name: ((size, mtime_ns, inode), bytes.fromhex(digest))
        for name, (size, mtime_ns, inode, digest) in files.items()
    }
