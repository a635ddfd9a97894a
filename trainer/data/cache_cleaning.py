"""What a folder of decoded images holds, and removing what nobody needs any more."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import Timeout

from trainer.data.cache_folder import (
    FORMAT,
    IMAGES,
    JOURNAL,
    META,
    PREPARED_NAME,
    hold,
    lock_name,
    prepared_name,
)
from trainer.data.digests import INDEX_NAME, indexes_nothing
from trainer.errors import DataError

Kind = Literal["prepared", "outdated", "unfinished", "left", "digests", "lock"]

_PART_NAME = re.compile(rf"\.(?P<name>{PREPARED_NAME.pattern})(?P<rest>\.partial|-[0-9a-f]{{16}}(\.partial)?)")
_LOCK_NAME = re.compile(rf"\.(?P<name>{PREPARED_NAME.pattern})\.lock")
_TEMPORARY_NAME = re.compile(rf"\.{INDEX_NAME.pattern}\.[0-9a-f]{{16}}\.tmp")
_FILE_NAME = re.compile(rf"\.?(?:{'|'.join(map(re.escape, (META, IMAGES, JOURNAL)))})(?:\.[0-9a-f]{{16}}\.tmp)?")
_STALE_SECONDS = 3600.0


@dataclass(frozen=True)
class CacheEntry:
    """Something of the cache's own in its folder.

    Attributes:
        name: its name there.
        kind: `prepared` for decoded images, `outdated` for those of an older format, `unfinished` for what `prepare`
            goes on with, `left` for what a killed process left that nothing goes on with, `digests` for the digests of
            files, `lock` for an empty file that locks are held on.
        bytes: what it takes on disk.
        target: name of the folder of decoded images that it is, or was to become; None for digests.
    """

    name: str
    kind: Kind
    bytes: int
    target: str | None


@dataclass(frozen=True)
class Removed:
    """What was removed from the cache, or would be.

    Attributes:
        name: its name in the cache folder.
        bytes: what that freed.
    """

    name: str
    bytes: int


def list_cache(cache_dir: Path) -> tuple[CacheEntry, ...]:
    """What of the cache's own lies in its folder, by name; nothing where there is no such folder.

    Raises:
        DataError: the folder cannot be read.
    """
    entries: list[CacheEntry] = []
    try:
        paths = sorted(cache_dir.iterdir()) if cache_dir.exists() else []
        for path in paths:
            with contextlib.suppress(FileNotFoundError):  # another process removed it meanwhile
                if not path.is_symlink() and (entry := _entry(path)):
                    entries.append(entry)
    except OSError as error:
        raise DataError(f"cannot read the image cache in {cache_dir}: {error.strerror}") from None
    return tuple(entries)


def clean_cache(
    cache_dir: Path, keep: Collection[tuple[str, int, bool]], *, dry_run: bool = False
) -> tuple[Removed, ...]:
    """Remove decoded images that nobody needs, unfinished ones, and what killed processes left.

    What a running `prepare` works on stays, and so does everything that is not the cache's own. Digests of files go
    when no decoded images stay, or none of the files is there any more.

    Args:
        cache_dir: the folder of decoded images.
        keep: what is needed: content fingerprint, side in pixels, and whether JPEGs were decoded exactly.
        dry_run: remove nothing.

    Returns:
        What was removed, or would be.

    Raises:
        DataError: something cannot be removed.
    """
    kept = {prepared_name(*key) for key in keep}
    entries = list_cache(cache_dir)
    removed: list[Removed] = []
    try:
        for target in sorted({entry.target for entry in entries if entry.target}):
            of_target = [entry for entry in entries if entry.target == target]
            removed += _clean_target(cache_dir, target, of_target, target in kept, dry_run)
        gone = {item.name for item in removed}
        any_stays = any(entry.kind in ("prepared", "unfinished") and entry.name not in gone for entry in entries)
        for entry in entries:
            path = cache_dir / entry.name
            unneeded = entry.kind == "digests" and (not any_stays or indexes_nothing(path))
            if unneeded or (entry.kind == "left" and entry.target is None and _is_stale(path)):
                removed.append(_remove(path, entry, dry_run))
    except OSError as error:
        raise DataError(f"cannot clean the image cache in {cache_dir}: {error.strerror}") from None
    return tuple(sorted(removed, key=lambda item: item.name))


def _clean_target(
    cache_dir: Path, target: str, entries: Collection[CacheEntry], is_kept: bool, dry_run: bool
) -> Iterator[Removed]:
    """Remove what belongs to one folder of decoded images, unless another process works on it."""
    had_lock = any(entry.kind == "lock" for entry in entries)
    try:
        with hold(cache_dir, target):
            for entry in entries:
                path = cache_dir / entry.name
                if entry.kind == "lock" or (entry.kind == "prepared" and is_kept) or not path.exists():
                    continue
                if entry.kind == "left" and not _is_stale(path):
                    continue
                yield _remove(path, entry, dry_run)
            if not (dry_run and had_lock):
                (cache_dir / lock_name(target)).unlink(missing_ok=True)
    except Timeout:
        return


def _entry(path: Path) -> CacheEntry | None:
    """What a path in the cache folder is, by its name; None for what is not the cache's own."""
    name = path.name
    if path.is_dir():
        size = sum(file.stat().st_size for file in _own_files(path))
        if match := PREPARED_NAME.fullmatch(name):
            number = int(match["format"])
            if number > FORMAT:  # of a newer version of this program, which knows better
                return None
            return CacheEntry(name, "prepared" if number == FORMAT else "outdated", size, name)
        if match := _PART_NAME.fullmatch(name):
            return CacheEntry(name, "unfinished" if match["rest"] == ".partial" else "left", size, match["name"])
    elif path.is_file():
        if INDEX_NAME.fullmatch(name):
            return CacheEntry(name, "digests", path.stat().st_size, None)
        if _TEMPORARY_NAME.fullmatch(name):
            return CacheEntry(name, "left", path.stat().st_size, None)
        if match := _LOCK_NAME.fullmatch(name):
            return CacheEntry(name, "lock", path.stat().st_size, match["name"])
    return None


def _own_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _FILE_NAME.fullmatch(path.name) and path.is_file()]


def _is_stale(path: Path) -> bool:
    """Whether something has long not been written to, so that the process that made it must be gone."""
    parts = [path, *_own_files(path)] if path.is_dir() else [path]
    return time.time() - max(part.stat().st_mtime for part in parts) > _STALE_SECONDS


def _remove(path: Path, entry: CacheEntry, dry_run: bool) -> Removed:
    """Remove an entry; files in it that are not the cache's own stay, and their folder with them."""
    if not dry_run:
        if path.is_dir():
            for file in sorted(_own_files(path), key=lambda file: file.name != META):
                file.unlink()
            if not any(path.iterdir()):
                path.rmdir()
        else:
            path.unlink(missing_ok=True)
    return Removed(entry.name, entry.bytes)
