"""Finds the image files below a folder, the same on every file system."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trainer.data.dataset import first_few
from trainer.data.images import is_image_name
from trainer.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", "")


@dataclass(frozen=True)
class FoundImage:
    """An image, or another file, below a data folder.

    Attributes:
        name: POSIX path below the data folder, accents in composed form (NFC).
        path: where the file is.
        linked: it is a symbolic link.
    """

    name: str
    path: Path
    linked: bool


@dataclass(frozen=True)
class Tree:
    """What lies below a data folder.

    Attributes:
        root: the data folder, resolved.
        folders: the folders directly in it, sorted by name.
        images: all image files below it, sorted by name.
        tables: all files below it that a label table may be, by suffix or for want of one, sorted by name.
        linked_folders: symbolic links to folders, which are not followed, sorted.
    """

    root: Path
    folders: tuple[str, ...]
    images: tuple[FoundImage, ...]
    tables: tuple[FoundImage, ...]
    linked_folders: tuple[str, ...]

    @property
    def not_followed(self) -> str:
        """What to add to a message about something that is missing: the links to folders, if there are any."""
        if not self.linked_folders:
            return ""
        return f" (links to folders are not followed: {first_few(self.linked_folders, 3)})"


def resolve_folder(folder: Path) -> Path:
    """The real path of a folder.

    Raises:
        DataError: it is missing, or is no folder.
    """
    try:
        resolved = folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"data folder {folder}: {_reason(error)}") from None
    if not resolved.is_dir():
        raise DataError(f"data folder {folder}: is a file; give the folder that holds the images")
    return resolved


def walk(root: Path, skip: Callable[[str], bool] = lambda name: False) -> Tree:
    """Find the images and tables below a folder; hidden files and folders, and other files, are passed over.

    Args:
        root: a resolved folder.
        skip: from a folder's POSIX path below `root` to whether it is passed over as well.

    Raises:
        DataError: a folder cannot be read, or a name is no valid text.
    """
    images: list[FoundImage] = []
    tables: list[FoundImage] = []
    linked_folders: list[str] = []
    folders: list[str] = []
    waiting = [("", root)]
    while waiting:
        prefix, folder = waiting.pop()
        for entry in _entries(folder):
            name = prefix + entry.name
            if entry.is_folder:
                if not prefix:
                    folders.append(name)
                if entry.linked:
                    linked_folders.append(name)
                elif not skip(name):
                    waiting.append((f"{name}/", entry.path))
            elif entry.is_file and is_image_name(name):
                images.append(FoundImage(name, entry.path, entry.linked))
            elif entry.is_file and table_stem(entry.name) is not None:
                tables.append(FoundImage(name, entry.path, entry.linked))
    for found in (images, tables):
        found.sort(key=lambda file: file.name)
    return Tree(root, tuple(sorted(folders)), tuple(images), tuple(tables), tuple(sorted(linked_folders)))


def table_stem(name: str) -> str | None:
    """A table's file name without its suffix, packed or not; None for a name that no label table has."""
    path = PurePosixPath(name[:-3] if name.lower().endswith(".gz") else name)
    return path.stem if path.suffix.lower() in TABLE_SUFFIXES else None


def check_inside(image: FoundImage, root: Path) -> None:
    """Make sure that an image, where it is a link, stays in the data folder.

    Raises:
        DataError: the link leads out of it, or to nothing.
    """
    if not image.linked:
        return
    try:
        target = image.path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{image.name} is a broken link: {_reason(error)}") from None
    if not target.is_relative_to(root):
        raise DataError(f"{image.name} is a link to {target}, which leaves the data folder {root}; copy the file in")


@dataclass(frozen=True)
class _Entry:
    name: str
    path: Path
    linked: bool
    is_folder: bool
    is_file: bool


def _entries(folder: Path) -> list[_Entry]:
    try:
        with os.scandir(folder) as entries:
            return [_entry(entry, folder) for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {_reason(error)}") from None


def _entry(entry: os.DirEntry[str], folder: Path) -> _Entry:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{folder}: the file name {entry.name!a} is not UTF-8; rename it") from None
    name = unicodedata.normalize("NFC", entry.name)
    linked = entry.is_symlink()
    is_folder = os.path.isdir(entry.path) if linked else entry.is_dir()
    return _Entry(name, Path(entry.path), linked, is_folder, linked or entry.is_file())


def _reason(error: OSError | RuntimeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
