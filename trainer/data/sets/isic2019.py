"""ISIC 2019: dermatoscopic images of eight kinds of lesions, from three sources."""

from __future__ import annotations

from trainer.data.label_table import LabelTable, one_hot_labels
from trainer.data.row_images import LabelledRow, empty_classes, find_table, match_rows, open_tree
from trainer.data.source import DatasetSource, Found, Query, build_dataset
from trainer.errors import DataError

CLASSES = ("AK", "BCC", "BKL", "DF", "MEL", "NV", "SCC", "VASC")
UNKNOWN = "UNK"
LABEL_TABLES = ("ISIC_2019_Training_GroundTruth",)
METADATA_TABLES = ("ISIC_2019_Training_Metadata",)

_IMAGE = ("image", "image_id")
_LESION = {"lesion": ("lesion_id",)}
_SHRUNK = "_downsampled"


def find(query: Query) -> Found:
    """Find ISIC 2019's training set as Kaggle or the ISIC archive ship it.

    The class UNK counts only where an image is labelled so. An image's file may be named with or without
    ``_downsampled``. Lesions come from the table of metadata, where that is there.
    """
    tree = open_tree(query, SOURCE.name, (*LABEL_TABLES, *METADATA_TABLES))
    table, metadata = find_table(tree, LABEL_TABLES), find_table(tree, METADATA_TABLES)
    if table is None:
        raise DataError(
            f"{tree.root}{tree.not_followed}: ISIC_2019_Training_GroundTruth.csv is not below it; --data names the "
            "folder of the unpacked dataset"
        )
    if query.group in _LESION and metadata is None:
        raise DataError(
            f"--group {query.group}: ISIC_2019_Training_Metadata.csv, which names lesions, is not below {tree.root}"
        )
    image_at = table.column(_IMAGE, "image")
    columns = {name: table.column((name,), "class") for name in CLASSES}
    unknown_at = table.find((UNKNOWN,))
    if unknown_at is not None:
        columns[UNKNOWN] = unknown_at
    labels, problems = one_hot_labels(table, image_at, columns)
    classes = (*CLASSES, UNKNOWN) if UNKNOWN in labels.values() else CLASSES
    groups, more = _read_groups(metadata or table, query.group) if metadata or query.group else ({}, ())
    rows = [
        LabelledRow(row, row.cell(image_at), labels[row.line], groups.get(row.cell(image_at), dict.fromkeys(more, "")))
        for row in table.rows
        if row.line in labels
    ]
    images, findings = match_rows(table, rows, tree if query.with_images else None, problems, spellings=_spellings)
    findings += empty_classes(classes, images, tree)
    return Found(build_dataset(SOURCE.name, table.path, classes, images, query.group), tuple(findings))


def _read_groups(table: LabelTable, group: str | None) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Each image's groups by kind, and the kinds."""
    image_at, columns = table.column(_IMAGE, "image"), table.group_columns(_LESION, group)
    groups = {
        row.cell(image_at): {kind: row.cell(position) for kind, position in columns.items()} for row in table.rows
    }
    return groups, tuple(columns)


def _spellings(image: str) -> tuple[str, ...]:
    plain = image.removesuffix(_SHRUNK)
    return (image, plain, plain + _SHRUNK)


SOURCE = DatasetSource(
    name="isic2019",
    summary="skin lesions, 8 classes",
    find=find,
    licence="CC BY-NC 4.0",
    origin="ISIC 2019 challenge (HAM10000, BCN_20000, MSK): 25,331 dermatoscopic images",
    download="Kaggle andrewmvd/isic-2019, or the training set at https://challenge.isic-archive.com/data/#2019",
    groups=("lesion",),
)
