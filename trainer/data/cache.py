"""Decoded images on disk: decoded once, then mapped into memory by every trial."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from trainer.data.dataset import ImageDataset, Labels
from trainer.data.fingerprint import combine_digests, image_digest
from trainer.data.images import Pixels
from trainer.data.scan import scan_images
from trainer.errors import DataError

_FORMAT = 1
_IMAGES = "images.npy"
_META = "meta.json"
_STALE_SECONDS = 3600.0
_SPARE_BYTES = 2**20


@dataclass(frozen=True, eq=False)
class Prepared:
    """A dataset whose images are decoded.

    Attributes:
        images: uint8, shape ``(num_images, size, size, 3)``, mapped from disk and read-only.
        labels: int64, shape ``(num_images,)``.
        class_names: a label is an index into them.
        image_names: in the order of `images`.
        groups: the lesion, patient or the like of each image, where the dataset was opened with them.
        fingerprint: the dataset's content fingerprint.
        size: side of an image in pixels.
    """

    images: Pixels
    labels: Labels
    class_names: tuple[str, ...]
    image_names: tuple[str, ...]
    groups: tuple[str, ...] | None
    fingerprint: str
    size: int


def prepared_bytes(num_images: int, size: int) -> int:
    """Bytes that `prepare` writes for the pixels of so many images."""
    return num_images * size * size * 3


def open_prepared(cache_dir: Path, fingerprint: str, size: int) -> Prepared | None:
    """The decoded images of a dataset, or None where the cache has none or they are damaged.

    Args:
        cache_dir: the folder that `prepare` wrote to.
        fingerprint: the dataset's content fingerprint.
        size: side of an image in pixels.
    """
    folder = _folder(cache_dir, fingerprint, size)
    try:
        stored = json.loads((folder / _META).read_bytes())
        meta = stored["meta"]
        if stored["sha256"] != _meta_digest(meta) or meta["fingerprint"] != fingerprint or meta["size"] != size:
            return None
        images = np.load(folder / _IMAGES, mmap_mode="r", allow_pickle=False)
        right_size = (folder / _IMAGES).stat().st_size == images.offset + images.nbytes
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    labels = np.array(meta["labels"], dtype=np.int64)
    if not right_size or images.dtype != np.uint8 or images.shape != (len(labels), size, size, 3):
        return None
    groups = None if meta["groups"] is None else tuple(meta["groups"])
    return Prepared(images, labels, tuple(meta["class_names"]), tuple(meta["image_names"]), groups, fingerprint, size)


def prepare(
    dataset: ImageDataset,
    size: int,
    cache_dir: Path,
    *,
    fingerprint: str,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Decode a dataset into the cache, or open it where that has been done.

    All or nothing: the images are written to a folder beside their place, which is renamed when complete. Of several
    processes that do this at once, each decodes and the first to finish counts.

    Args:
        dataset: whose images to decode.
        size: side of the decoded images in pixels, at least 1.
        cache_dir: the folder of decoded images, made where it is missing.
        fingerprint: the dataset's `content_fingerprint`.
        workers: threads that decode, at least 1.
        progress: called now and then with images done and images in all.

    Raises:
        DataError: images are broken (all are found, the first are named) or have changed since the fingerprint was
            taken, or the cache cannot be written.
    """
    found = open_prepared(cache_dir, fingerprint, size)
    if found:
        return found
    target = _folder(cache_dir, fingerprint, size)
    unfinished = cache_dir / f".{target.name}-{secrets.token_hex(8)}"
    with _writing(cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
        _remove_stale(cache_dir, target.name)
        _check_space(cache_dir, prepared_bytes(len(dataset), size))
        unfinished.mkdir()
    try:
        with _writing(cache_dir):
            digests = _write_images(dataset, size, unfinished / _IMAGES, workers, progress)
            if combine_digests(dataset, digests) != fingerprint:
                raise DataError(f"{dataset.name}: images changed while they were read; start again")
            _write_meta(dataset, size, unfinished / _META, fingerprint)
            _publish(unfinished, target, lambda: open_prepared(cache_dir, fingerprint, size) is not None)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    prepared = open_prepared(cache_dir, fingerprint, size)
    if prepared is None:
        raise DataError(f"image cache {target}: was damaged right after it was written; check the disk")
    return prepared


def _folder(cache_dir: Path, fingerprint: str, size: int) -> Path:
    return cache_dir / f"{fingerprint[:32]}-{size}-v{_FORMAT}"


def _meta_digest(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _writing(cache_dir: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # from a progress callback whose reader is gone, never from a disk
        raise
    except OSError as error:
        raise DataError(
            f"cannot write the image cache in {cache_dir}: {error.strerror}; make room there, or set LMF_HOME to a "
            "folder on a disk that can be written and has room"
        ) from None


def _check_space(cache_dir: Path, needed: int) -> None:
    free = shutil.disk_usage(cache_dir).free
    if free < needed + _SPARE_BYTES:
        raise DataError(
            f"the decoded images need {needed / 1e6:,.1f} MB in {cache_dir}, where {free / 1e6:,.1f} MB are free; make "
            "room there, or set LMF_HOME to a folder on a larger disk"
        )


def _write_images(
    dataset: ImageDataset,
    size: int,
    path: Path,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> list[bytes]:
    def work(data: bytes) -> tuple[bytes, Pixels]:
        return image_digest(data), dataset.decode(data, size)

    digests: list[bytes] = []
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(dataset), size, size, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        for digest, pixels in scan_images(dataset, work, workers=workers, progress=progress):
            digests.append(digest)
            file.write(pixels.tobytes())
        _flush_to_disk(file)
    return digests


def _write_meta(dataset: ImageDataset, size: int, path: Path, fingerprint: str) -> None:
    meta = {
        "fingerprint": fingerprint,
        "size": size,
        "class_names": dataset.class_names,
        "image_names": dataset.image_names,
        "labels": dataset.labels.tolist(),
        "groups": dataset.groups,
    }
    with path.open("wb") as file:
        file.write(json.dumps({"meta": meta, "sha256": _meta_digest(meta)}).encode())
        _flush_to_disk(file)


def _flush_to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _publish(unfinished: Path, target: Path, is_good: Callable[[], bool]) -> None:
    """Move a finished folder to its place; what stands there stays if it is good, and goes if it is damaged."""
    while True:
        try:
            os.rename(unfinished, target)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        if is_good():
            return
        damaged = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, damaged)
        _remove(damaged)


def _remove_stale(cache_dir: Path, name: str) -> None:
    """Remove what processes that were killed left of this dataset: unfinished and long not written to."""
    for folder in cache_dir.glob(f".{name}-*"):
        with contextlib.suppress(OSError):
            written = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if time.time() - written > _STALE_SECONDS:
                _remove(folder)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
