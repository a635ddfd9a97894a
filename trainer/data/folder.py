"""A folder for each class, images anywhere below it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from trainer.data.dataset import ImageDataset, LabelledFile, dataset_of_files, first_few
from trainer.data.images import IMAGE_SUFFIXES
from trainer.data.tree import FoundImage, check_inside, resolve_folder, walk
from trainer.errors import DataError

_MASK_FOLDERS = {"mask", "masks"}
_SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def open_folder(folder: Path, title: str) -> ImageDataset:
    """Find the images of a folder-per-class tree.

    Every folder directly in `folder` is a class, and every image file at any depth below it belongs to that class.
    Passed over are hidden files and folders, files without an image's suffix, files beside the class folders, and
    folders named ``mask`` or ``masks`` within a class.

    Args:
        folder: the data folder.
        title: the dataset's short name.

    Raises:
        DataError: the folder is missing or unreadable, has fewer than two classes, holds a class without an image,
            is split into train and test folders already, or has links to folders or out of itself.
    """
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
    for image in tree.images:
        class_name, slash, _ = image.name.partition("/")
        if slash:
            check_inside(image, tree.root)
            by_class[class_name].append(image)
    empty = [name for name in tree.folders if name not in by_class]
    if empty:
        raise DataError(
            f"{folder}: no image in the class folder {first_few(empty)} (looked for {' '.join(IMAGE_SUFFIXES)}); "
            "add images or remove the folder"
        )
    return dataset_of_files(
        title,
        folder,
        (LabelledFile(image.name, image.path, name) for name, images in by_class.items() for image in images),
    )


def _is_mask_folder(name: str) -> bool:
    below_class = name.partition("/")[2]
    return below_class.rpartition("/")[2].lower() in _MASK_FOLDERS
