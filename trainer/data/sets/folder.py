"""A folder for each class, images anywhere below it."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from trainer.data.dataset import first_few
from trainer.data.findings import Finding
from trainer.data.images import IMAGE_SUFFIXES
from trainer.data.source import DatasetSource, Found, LabelledImage, Query, build_dataset
from trainer.data.tree import FoundImage, check_inside, resolve_folder, walk
from trainer.errors import DataError

_MASK_FOLDERS = {"mask", "masks"}
_SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def find(query: Query) -> Found:
    """Find the images of a folder-per-class tree.

    Every folder directly in the data folder is a class, and every image file at any depth below it belongs to that
    class; an image is named by its path below the data folder. Passed over are hidden files and folders, files
    without an image's suffix, files beside the class folders, and folders named ``mask`` or ``masks`` within a class.

    Raises:
        DataError: the folder is missing or unreadable, has fewer than two classes, is split into train and test
            folders already, or has links to folders or out of itself.
    """
    if query.group is not None:
        raise DataError(
            f"--group {query.group}: {SOURCE.name} has no groups; a csv:PATH with a column {query.group} or "
            f"{query.group}_id has"
        )
    folder = place(query, SOURCE.name)
    tree = walk(resolve_folder(folder), skip=_is_mask_folder)
    if tree.linked_folders:
        raise DataError(
            f"{folder}: links to folders are not followed: {first_few(tree.linked_folders)}; "
            "put the folders themselves there"
        )
    if not tree.folders:
        raise DataError(f"{folder} holds no folder; expected one folder of images for each class")
    if {name.lower() for name in tree.folders} <= _SPLIT_FOLDERS:
        raise DataError(
            f"{folder} holds {', '.join(tree.folders)}, which look like parts of a split; expected one folder for "
            "each class, with all its images (the split is made here)"
        )
    by_class: dict[str, list[FoundImage]] = defaultdict(list)
    findings: list[Finding] = []
    for image in tree.images:
        class_name, slash, _ = image.name.partition("/")
        if slash:
            check_inside(image, tree.root)
            by_class[class_name].append(image)
        else:
            message = f"{image.name} lies beside the folders of the classes; it is not used"
            findings.append(Finding("image without class", "warning", message, (image.name,)))
    for name in tree.folders:
        if name not in by_class:
            looked = f"looked for {' '.join(IMAGE_SUFFIXES)}"
            findings.append(
                Finding("empty class", "error", f"{folder}: no image in the class folder {name} ({looked})")
            )
    images = (LabelledImage(image.name, name, image.path) for name, images in by_class.items() for image in images)
    return Found(build_dataset(short_name(query, SOURCE.name), folder, tree.folders, images), tuple(findings))


def place(query: Query, form: str) -> Path:
    """Where the data lie: the argument below the folder of the data, or either alone.

    Raises:
        DataError: neither is given.
    """
    if query.argument is None and query.data is None:
        raise DataError(f"{form}: nothing says where the data is; write {form}:PATH or add --data DIR")
    return (query.data or Path()) / os.path.expanduser(query.argument or "")


def short_name(query: Query, form: str) -> str:
    """The name of the folder that `place` gives, or the form's where it has none."""
    data = query.data or Path()
    return Path(os.path.abspath(data / os.path.expanduser(query.argument or ""))).name or form


def _is_mask_folder(name: str) -> bool:
    below_class = name.partition("/")[2]
    return below_class.rpartition("/")[2].lower() in _MASK_FOLDERS


SOURCE = DatasetSource(
    name="folder",
    argument="PATH",
    summary="a folder for each class, with images anywhere below it",
    find=find,
    needs_data=False,
    title=lambda query: short_name(query, "folder"),
)
