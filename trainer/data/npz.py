"""Arrays of an `.npz` file, read row by row: the files may be far larger than memory, and are never unpickled."""

from __future__ import annotations

import contextlib
import io
import lzma
import math
import os
import threading
import weakref
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from trainer.data.dataset import first_few
from trainer.data.images import BrokenImageError
from trainer.errors import DataError, one_line

DAMAGE = (OSError, EOFError, ValueError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
"""What damaged files raise when they are read."""

_WINDOW_BYTES = 16 * 2**20
_WINDOW_ROWS = 4096
_CHUNK_BYTES = 2**20


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an `.npz` file.

    Raises:
        DataError: it cannot be read, or is no such file.
    """
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGE as error:
        if isinstance(error, OSError):
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
        raise DataError(f"{path}: is no complete .npz file: {one_line(error)}; download it again") from None
    with archive:
        yield archive


def open_array(archive: zipfile.ZipFile, key: str) -> tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]:
    """The stream of an array's values, row by row; raises `KeyError` or one of `DAMAGE` where there is none."""
    info = archive.getinfo(f"{key}.npy")
    with contextlib.ExitStack() as on_error:
        stream = on_error.enter_context(archive.open(info))
        shape, by_column, dtype = _read_header(stream)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are never unpickled")
        if by_column and math.prod(shape) != max(shape, default=1):
            raise ValueError("it is stored column by column")
        if info.file_size - stream.tell() != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"it does not hold the {shape} values that it announces")
        on_error.pop_all()
        return stream, shape, dtype


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the .npy format is unknown")
    try:
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)
        return np.lib.format.read_array_header_2_0(stream)
    except Exception:  # numpy takes a damaged header apart in many ways
        raise ValueError("its header is damaged") from None


def announced_array(archive: zipfile.ZipFile, path: Path, key: str) -> tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]:
    """The stream of an array's values, row by row, with its shape and type.

    Raises:
        DataError: there is no such array, or it is damaged.
    """
    try:
        return open_array(archive, key)
    except KeyError:
        names = [name if name.isprintable() else ascii(name) for name in sorted(archive.namelist())]
        keys = first_few([name.removesuffix(".npy") for name in names], 6) or "nothing"
        raise DataError(f"{path}: holds no {key}, but {keys}; it is no file of MedMNIST v2") from None
    except DAMAGE as error:
        refuse_array(path, key, error)


def refuse_array(path: Path, key: str, error: BaseException) -> NoReturn:
    """Turn what a damaged array raised into a `DataError`."""
    raise DataError(f"{path}: {key} cannot be used: {one_line(error)}; download the file again") from None


class StreamedRows:
    """The images of a file, unpacked in passing: from an index to an image's bytes.

    Reads in nearly ascending order, from any number of threads, unpack each array once. Images that were passed over
    are kept until they are asked for, up to some MiB; a read of an image further back starts its array again. It can
    be pickled, and each process opens the file for itself.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], counts: tuple[tuple[str, int], ...]) -> None:
        """Opens nothing yet.

        Args:
            path: the `.npz` file.
            shape: of one image, uint8.
            counts: the parts in the order of the index, and their images.
        """
        self._made_from = (path, shape, counts)
        self._passes: dict[int, _Pass] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return StreamedRows, self._made_from

    def __call__(self, index: int) -> bytes:
        """The bytes of an image, row by row; raises `BrokenImageError`."""
        process = os.getpid()  # a forked one must not move the file position of its parent, nor wait for its lock
        rows = self._passes.get(process) or self._passes.setdefault(process, _Pass(*self._made_from))
        with rows.lock:
            return rows.read(index)


class _Pass:
    """Where one process stands in the file; to be used under its lock."""

    def __init__(self, path: Path, shape: tuple[int, ...], counts: tuple[tuple[str, int], ...]) -> None:
        self.lock = threading.Lock()
        self._path = path
        self._counts = counts
        self._starts = np.cumsum([0, *(count for _, count in counts)]).tolist()
        self._shape = shape
        self._row_bytes = math.prod(shape)
        self._window = min(_WINDOW_ROWS, _WINDOW_BYTES // self._row_bytes)
        self._passed: dict[int, bytes] = {}
        self._given: dict[int, bytes] = {}
        self._broken: dict[int, tuple[int, str]] = {}
        self._stream: IO[bytes] | None = None
        self._part = self._position = -1
        self._files = contextlib.ExitStack()
        weakref.finalize(self, self._files.close).atexit = False

    def read(self, index: int) -> bytes:
        if index in self._given:
            return self._given[index]
        if index not in self._passed:
            self._unpack(index)
        row = self._given[index] = self._passed.pop(index)
        return row

    def _unpack(self, index: int) -> None:
        part = bisect_right(self._starts, index) - 1
        if part not in self._broken or index < self._broken[part][0]:
            if self._stream and part == self._part + 1 and index - self._position < self._window:
                self._advance(self._starts[part])  # other threads may still ask for the last images of that part
            if self._stream is None or part != self._part or index < self._position:
                self._open(part)
            self._advance(index + 1)
        if index not in self._passed:
            raise BrokenImageError(self._broken[part][1])

    def _open(self, part: int) -> None:
        self._close()
        self._part, self._position = part, self._starts[part]
        name, count = self._counts[part]
        try:
            archive = self._files.enter_context(zipfile.ZipFile(self._path))
            stream, shape, dtype = open_array(archive, f"{name}_images")
            if shape != (count, *self._shape) or dtype != np.uint8:
                stream.close()
                raise ValueError("the file has changed since it was opened")
            self._stream = self._files.enter_context(io.BufferedReader(stream, _CHUNK_BYTES))  # type: ignore[type-var]
        except (*DAMAGE, KeyError) as error:
            self._fail(error)

    def _close(self) -> None:
        self._stream = None
        self._files.close()

    def _advance(self, stop: int) -> None:
        """Unpack up to an index of the present part."""
        try:
            while self._stream and self._position < stop:
                row = self._stream.read(self._row_bytes)
                if len(row) < self._row_bytes:
                    raise EOFError("it is cut short")
                self._keep(row)
            if self._position == self._starts[-1]:
                self._close()
        except DAMAGE as error:
            self._fail(error)

    def _keep(self, row: bytes) -> None:
        self._passed[self._position] = row
        self._position += 1
        if len(self._passed) + len(self._given) > self._window:
            oldest = self._given or self._passed
            del oldest[next(iter(oldest))]

    def _fail(self, error: BaseException) -> None:
        """Remember that a part cannot be read from here on, so that not every image unpacks it up to here again."""
        self._close()
        name = self._counts[self._part][0]
        reason = f"cannot be unpacked from {self._path}: {name}_images is damaged: {one_line(error)}"
        self._broken[self._part] = (self._position, reason)
