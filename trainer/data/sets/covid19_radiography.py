"""COVID-19 Radiography Database: chest X-rays of four classes."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import PurePosixPath

from trainer.data.findings import Finding
from trainer.data.row_images import empty_classes, open_tree
from trainer.data.source import DatasetSource, Found, LabelledImage, Query, build_dataset
from trainer.data.tree import FoundImage, check_inside
from trainer.errors import DataError

CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


def find(query: Query) -> Found:
    """Find the database as Kaggle ships it: a folder for each class, with `images` and `masks` below it.

    Class folders may lie at any depth, and be written in any case, with blanks, hyphens or underscores. An image is
    named after its class and file, so that it has the same name with and without the level `images`.
    """
    tree = open_tree(query, SOURCE.name)
    by_key = {_key(name): name for name in CLASSES}
    found: dict[str, list[FoundImage]] = defaultdict(list)
    labels: dict[str, str] = {}
    findings: list[Finding] = []
    for image in tree.images:
        path = PurePosixPath(image.name)
        label = next((by_key[_key(part)] for part in reversed(path.parts[:-1]) if _key(part) in by_key), None)
        if label is None:
            message = f"{image.name} lies in no folder of a class; it is not used"
            findings.append(Finding("image without class", "warning", message, (image.name,)))
            continue
        name = f"{label}/{path.name}"
        found[name].append(image)
        labels[name] = label
    if not found:
        raise DataError(
            f"{tree.root}{tree.not_followed}: no image in a folder called {', '.join(CLASSES)}; --data names the "
            "folder of the unpacked dataset"
        )
    images: list[LabelledImage] = []
    for name, copies in found.items():
        check_inside(copies[0], tree.root)
        images.append(LabelledImage(name, labels[name], copies[0].path if query.with_images else None))
        if len(copies) > 1:
            both = " and ".join(image.name for image in copies[:2])
            findings.append(Finding("unclear image", "error", f"{both} are both {name}; keep one of them", (name,)))
    if query.group is not None:
        raise DataError(f"--group {query.group}: {SOURCE.name} has no groups; its publishers name no patients")
    findings += empty_classes(CLASSES, images, tree)
    return Found(build_dataset(SOURCE.name, tree.root, CLASSES, images), tuple(findings))


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).lower()


SOURCE = DatasetSource(
    name="covid19-radiography",
    summary="chest X-rays, 4 classes",
    find=find,
    licence="copyright of the original authors; research use",
    origin="Chowdhury et al. 2020, Rahman et al. 2021: 21,165 images from several sources",
    download="Kaggle tawsifurrahman/covid19-radiography-database",
)
