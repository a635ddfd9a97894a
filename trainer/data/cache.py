"""Decoded images on disk: decoded once, then mapped into memory by every trial."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.cache_folder import (
    IMAGES,
    JOURNAL,
    META,
    hold,
    partial_name,
    prepared_name,
    remove,
    write_whole,
    writing,
)
from trainer.data.dataset import ImageDataset, Labels
from trainer.data.digests import forget_digests
from trainer.data.fingerprint import combine_digests, image_digest
from trainer.data.images import Pixels
from trainer.data.scan import scan_some
from trainer.data.unfinished import (
    Sums,
    Unfinished,
    count_journal,
    journal_header,
    read_journal,
    sound_images,
)
from trainer.errors import DataError

_SPARE_BYTES = 2**20
_TELL_EVERY = 64


@dataclass(frozen=True, eq=False)
class Prepared:
    """A dataset whose images are decoded.

    Attributes:
        images: uint8, shape ``(num_images, size, size, 3)``, mapped from disk and read-only.
        labels: int64, shape ``(num_images,)``.
        class_names: a label is an index into them.
        image_names: in the order of `images`.
        fingerprint: the dataset's content fingerprint.
        size: side of an image in pixels.
        exact: whether JPEGs were decoded at their full size.
    """

    images: Pixels
    labels: Labels
    class_names: tuple[str, ...]
    image_names: tuple[str, ...]
    fingerprint: str
    size: int
    exact: bool


def prepared_bytes(num_images: int, size: int) -> int:
    """Bytes that `prepare` writes for the pixels of so many images."""
    return num_images * size * size * 3


def prepared_folder(cache_dir: Path, fingerprint: str, size: int, exact: bool = False) -> Path:
    """Where a dataset's decoded images lie, or would lie."""
    return cache_dir / prepared_name(fingerprint, size, exact)


def open_prepared(cache_dir: Path, fingerprint: str, size: int, exact: bool = False) -> Prepared | None:
    """The decoded images of a dataset, or None where the cache has none or they are damaged.

    Sizes, shapes and the digest of names and labels are checked; pixels are not (`verify_prepared` does).

    Args:
        cache_dir: the folder that `prepare` wrote to.
        fingerprint: the dataset's content fingerprint.
        size: side of an image in pixels.
        exact: those whose JPEGs were decoded at their full size.
    """
    folder = prepared_folder(cache_dir, fingerprint, size, exact)
    try:
        stored = json.loads((folder / META).read_bytes())
        meta = stored["meta"]
        if stored["sha256"] != _meta_digest(meta):
            return None
        if (meta["fingerprint"], meta["size"], meta["exact"]) != (fingerprint, size, exact):
            return None
        images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
        right_size = (folder / IMAGES).stat().st_size == images.offset + images.nbytes
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    labels = np.array(meta["labels"], dtype=np.int64)
    if not right_size or images.dtype != np.uint8 or images.shape != (len(labels), size, size, 3):
        return None
    return Prepared(images, labels, tuple(meta["class_names"]), tuple(meta["image_names"]), fingerprint, size, exact)


def verify_prepared(
    cache_dir: Path,
    fingerprint: str,
    size: int,
    exact: bool = False,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Whether the cache holds a dataset's decoded images as they were written, to the last pixel; reads all of them.

    Args:
        cache_dir: the folder that `prepare` wrote to.
        fingerprint: the dataset's content fingerprint.
        size: side of an image in pixels.
        exact: those whose JPEGs were decoded at their full size.
        progress: called now and then with images read and images in all.
    """
    prepared = open_prepared(cache_dir, fingerprint, size, exact)
    if prepared is None:
        return False
    folder = prepared_folder(cache_dir, fingerprint, size, exact)
    total = len(prepared.labels)
    journal = read_journal(folder / JOURNAL, journal_header(fingerprint, size, exact))
    if set(journal) != set(range(total)):
        return False
    offset = (folder / IMAGES).stat().st_size - prepared_bytes(total, size)
    for index, is_sound in sound_images(folder / IMAGES, offset, prepared_bytes(1, size), journal):
        if not is_sound:
            return False
        if progress and ((index + 1) % _TELL_EVERY == 0 or index + 1 == total):
            progress(index + 1, total)
    return True


def prepare(
    dataset: ImageDataset,
    size: int,
    cache_dir: Path,
    *,
    fingerprint: str,
    exact: bool = False,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    verify: bool = False,
) -> Prepared:
    """Decode a dataset into the cache, or open it where that has been done.

    Images are decoded into a folder beside their place, which is moved there when complete. Whatever cuts that short,
    the next call goes on with what has reached the disk. Of several processes that ask for the same images one decodes,
    and the others wait for it. Where the file system knows no locks, each decodes for itself, from the start, and the
    first to finish counts.

    Args:
        dataset: whose images to decode.
        size: side of the decoded images in pixels, at least 1.
        cache_dir: the folder of decoded images, made where it is missing.
        fingerprint: the dataset's `content_fingerprint`.
        exact: decode JPEGs at their full size, and keep the images apart from others.
        workers: threads that decode, at least 1.
        progress: called now and then with images done and images in all, also while another process decodes them.
        verify: read what was prepared before to the last pixel, and decode it again if it is damaged.

    Raises:
        DataError: images are broken (all are found, the first are named) or have changed since the fingerprint was
            taken, or the cache cannot be written.
    """

    def find() -> Prepared | None:
        if verify and not verify_prepared(cache_dir, fingerprint, size, exact, progress=progress):
            return None
        return open_prepared(cache_dir, fingerprint, size, exact)

    found = find()
    if found:
        return found
    target = prepared_folder(cache_dir, fingerprint, size, exact)
    with writing(cache_dir):
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _workplace(cache_dir, target.name, len(dataset), progress) as folder:
            found = find()
            if found:
                return found
            unfinished = Unfinished(folder, fingerprint, size, exact, len(dataset), progress)
            _check_space(cache_dir, prepared_bytes(len(dataset) - len(unfinished.done), size))
            _decode(dataset, size, exact, unfinished, workers, progress)
            sources = [unfinished.done[index].source for index in range(len(dataset))]
            if combine_digests(dataset, sources) != fingerprint:
                remove(folder)
                forget_digests(cache_dir, dataset.files)
                raise DataError(f"{dataset.name}: images changed while they were read; start again")
            write_whole(folder / META, _meta_text(dataset, fingerprint, size, exact))
            _publish(folder, target, lambda: find() is not None)
    prepared = open_prepared(cache_dir, fingerprint, size, exact)
    if prepared is None:
        raise DataError(f"image cache {target}: was damaged right after it was written; check the disk")
    return prepared


@contextlib.contextmanager
def _workplace(cache_dir: Path, name: str, total: int, progress: Callable[[int, int], None] | None) -> Iterator[Path]:
    """The folder to decode into, which no other process writes."""
    partial = cache_dir / partial_name(name)

    def waiting() -> None:
        if progress:
            progress(min(count_journal(partial), total), total)

    with hold(cache_dir, name, waiting) as held:
        if held:
            yield partial
            return
        private = cache_dir / partial_name(f"{name}-{secrets.token_hex(8)}")
        try:
            yield private
        finally:
            remove(private)


def _check_space(cache_dir: Path, needed: int) -> None:
    free = shutil.disk_usage(cache_dir).free
    if free < needed + _SPARE_BYTES:
        raise DataError(
            f"the decoded images need {needed / 1e6:,.1f} MB in {cache_dir}, where {free / 1e6:,.1f} MB are free; make "
            "room there, or set LMF_HOME to a folder on a larger disk"
        )


def _decode(
    dataset: ImageDataset,
    size: int,
    exact: bool,
    unfinished: Unfinished,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Decode the images that are missing."""

    def work(index: int) -> Sums:
        data = dataset.read(index)
        return Sums(image_digest(data), unfinished.write(index, dataset.decode(data, size, exact)))

    missing = [index for index in range(len(dataset)) if index not in unfinished.done]
    results = scan_some(dataset, missing, work, workers=workers, progress=progress)
    with unfinished, contextlib.closing(results):
        for index, sums in results:
            unfinished.record(index, sums)


def _meta_text(dataset: ImageDataset, fingerprint: str, size: int, exact: bool) -> bytes:
    meta = {
        "fingerprint": fingerprint,
        "size": size,
        "exact": exact,
        "class_names": dataset.class_names,
        "image_names": dataset.image_names,
        "labels": dataset.labels.tolist(),
    }
    return json.dumps({"meta": meta, "sha256": _meta_digest(meta)}).encode()


def _meta_digest(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _publish(folder: Path, target: Path, is_good: Callable[[], bool]) -> None:
    """Move a finished folder to its place; what stands there stays if it is good, and goes if it is damaged."""
    while True:
        try:
            os.rename(folder, target)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        if is_good():
            remove(folder)
            return
        damaged = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, damaged)
        remove(damaged)
