"""Images decoded so far: a folder that a later process goes on with, and that becomes the finished one."""

from __future__ import annotations

import contextlib
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

from trainer.data.cache_folder import FORMAT, IMAGES, JOURNAL, remove, write_whole
from trainer.data.images import Pixels

_ENTRY = re.compile(rb"([0-9]{8}) ([0-9a-f]{64}) ([0-9a-f]{8})\n")
_ENTRY_BYTES = 8 + 1 + 64 + 1 + 8 + 1
_FLUSH_EVERY = 64


class Sums(NamedTuple):
    """SHA-256 of an image's bytes, and CRC-32 of the pixels that were made from them."""

    source: bytes
    pixels: int


class Unfinished:
    """Decoded images of a dataset, and the journal that says which are on disk.

    The journal names an image only after its pixels have reached the disk, so whatever ends the process, what is in the
    journal is there. One process at a time may write it.

    Attributes:
        folder: where it lies.
        done: by index, the images that are decoded.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        size: int,
        exact: bool,
        num_images: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Find out what is there, reading it again to the last pixel; writes nothing.

        Args:
            folder: where it lies, or will lie.
            fingerprint: the dataset's content fingerprint.
            size: side of a decoded image in pixels.
            exact: whether JPEGs are decoded at their full size.
            num_images: how many images there are in all.
            progress: called now and then with images found good and images in all.
        """
        self.folder = folder
        self._journal_header = journal_header(fingerprint, size, exact)
        self._image_header = _npy_header((num_images, size, size, 3))
        self._image_bytes = size * size * 3
        self._file_bytes = len(self._image_header) + num_images * self._image_bytes
        journal = read_journal(folder / JOURNAL, self._journal_header)
        found = {index: sums for index, sums in journal.items() if index < num_images}
        self.done: dict[int, Sums] = {}
        for index, is_sound in sound_images(folder / IMAGES, len(self._image_header), self._image_bytes, found):
            if is_sound:
                self.done[index] = found[index]
                if progress and len(self.done) % _FLUSH_EVERY == 0:
                    progress(len(self.done), num_images)
        self._new: list[bytes] = []

    def __enter__(self) -> Unfinished:
        if not self.folder.is_dir():
            remove(self.folder)
            self.folder.mkdir()
        entries = [_entry(index, sums) for index, sums in sorted(self.done.items())]
        write_whole(self.folder / JOURNAL, self._journal_header + b"".join(entries))
        with contextlib.ExitStack() as opened:
            self._images = _open(opened, self.folder / IMAGES, os.O_WRONLY | os.O_CREAT)
            self._journal = _open(opened, self.folder / JOURNAL, os.O_WRONLY | os.O_APPEND)
            _write_all(self._images, self._image_header, 0)
            if os.fstat(self._images).st_size > self._file_bytes:
                os.ftruncate(self._images, self._file_bytes)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._opened, contextlib.suppress(OSError) if error else contextlib.nullcontext():
            self.flush()

    def write(self, index: int, pixels: Pixels) -> int:
        """Write an image's pixels; may be called in several threads at once.

        Returns:
            CRC-32 of the pixels.
        """
        if pixels.nbytes != self._image_bytes:
            raise ValueError(f"{pixels.nbytes} bytes of pixels; expected {self._image_bytes}")
        data = np.ascontiguousarray(pixels).data.cast("B")
        _write_all(self._images, data, len(self._image_header) + index * self._image_bytes)
        return zlib.crc32(data)

    def record(self, index: int, sums: Sums) -> None:
        """Take an image down as decoded, once its pixels are written."""
        self.done[index] = sums
        self._new.append(_entry(index, sums))
        if len(self._new) >= _FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Bring to the disk what is decoded, then the journal of it."""
        os.fsync(self._images)
        entries, self._new = b"".join(self._new), []
        _write_all(self._journal, entries)
        os.fsync(self._journal)


def journal_header(fingerprint: str, size: int, exact: bool) -> bytes:
    """The first line of the journal of a dataset's decoded images."""
    return f"lmf images {FORMAT} {fingerprint} {size} {'exact' if exact else 'scaled'}\n".encode()


def read_journal(path: Path, header: bytes) -> dict[int, Sums]:
    """By index, the images that a journal names; none where it cannot be read or has another header.

    A torn end, which a power cut may leave, is passed over.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    if not data.startswith(header):
        return {}
    images: dict[int, Sums] = {}
    for start in range(len(header), len(data), _ENTRY_BYTES):
        match = _ENTRY.fullmatch(data, start, start + _ENTRY_BYTES)
        if match is None:
            break
        images[int(match[1])] = Sums(bytes.fromhex(match[2].decode()), int(match[3], 16))
    return images


def count_journal(folder: Path) -> int:
    """How many images the process that writes a folder has taken down as decoded."""
    try:
        with (folder / JOURNAL).open("rb") as file:
            header = len(file.readline())
            return (file.seek(0, os.SEEK_END) - header) // _ENTRY_BYTES
    except OSError:
        return 0


def sound_images(path: Path, offset: int, image_bytes: int, sums: Mapping[int, Sums]) -> Iterator[tuple[int, bool]]:
    """Read decoded images again and compare them with their sums.

    Args:
        path: the file of pixels.
        offset: where the first image starts in it.
        image_bytes: bytes of an image.
        sums: by index, the images to read.

    Yields:
        An index, and whether the pixels are those that were written.
    """
    for index in sorted(sums):
        try:
            with path.open("rb") as file:
                file.seek(offset + index * image_bytes)
                data = file.read(image_bytes)
        except OSError:  # no such file, or a disk that fails
            data = b""
        yield index, zlib.crc32(data) == sums[index].pixels


def _open(opened: contextlib.ExitStack, path: Path, flags: int) -> int:
    descriptor = os.open(path, flags, 0o666)
    opened.callback(os.close, descriptor)
    return descriptor


def _write_all(descriptor: int, data: bytes | memoryview, offset: int | None = None) -> None:
    rest = memoryview(data)
    while rest:
        if offset is None:
            written = os.write(descriptor, rest)
        else:
            written = os.pwrite(descriptor, rest, offset)
            offset += written
        rest = rest[written:]


def _entry(index: int, sums: Sums) -> bytes:
    return f"{index:08d} {sums.source.hex()} {sums.pixels:08x}\n".encode()


def _npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()
