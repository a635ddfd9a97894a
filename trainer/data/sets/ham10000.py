"""HAM10000: dermatoscopic images of seven kinds of pigmented lesions."""

from __future__ import annotations

from dataclasses import replace

from trainer.data.findings import Finding
from trainer.data.label_table import LabelTable, one_hot_labels
from trainer.data.row_images import LabelledRow, empty_classes, find_table, match_rows, open_tree
from trainer.data.source import DatasetSource, Found, Query, build_dataset
from trainer.errors import DataError

CLASSES = ("AKIEC", "BCC", "BKL", "DF", "MEL", "NV", "VASC")
METADATA_TABLES = ("HAM10000_metadata",)
ONE_HOT_TABLES = ("ISIC2018_Task3_Training_GroundTruth", "GroundTruth")
GROUPING_TABLES = ("ISIC2018_Task3_Training_LesionGroupings",)

_IMAGE = ("image_id", "image")
_LESION = {"lesion": ("lesion_id",)}


def find(query: Query) -> Found:
    """Find HAM10000 as Kaggle, the ISIC archive or Harvard Dataverse ship it.

    Labels come from the table with `dx`, or else from the one-hot table; where both are there they have to agree.
    Lesions come from the former, or from the archive's table of groupings.
    """
    tree = open_tree(query, SOURCE.name, (*METADATA_TABLES, *ONE_HOT_TABLES))
    metadata, one_hot = find_table(tree, METADATA_TABLES), find_table(tree, ONE_HOT_TABLES)
    table = metadata or one_hot
    if table is None:
        raise DataError(
            f"{tree.root}{tree.not_followed}: neither HAM10000_metadata.csv nor GroundTruth.csv is below it; --data "
            "names the folder of the unpacked dataset"
        )
    groupings = find_table(tree, GROUPING_TABLES) if metadata is None else None
    if query.group in _LESION and metadata is None and groupings is None:
        raise DataError(f"--group {query.group}: HAM10000_metadata.csv, which names lesions, is not below {tree.root}")
    rows, problems = _read_dx(table, query.group) if metadata else _read_one_hot(table, groupings, query.group)
    if metadata and one_hot:
        problems += _disagreements(rows, metadata.path.name, one_hot)
    images, findings = match_rows(table, rows, tree if query.with_images else None, problems)
    findings += empty_classes(CLASSES, images, tree)
    return Found(build_dataset(SOURCE.name, table.path, CLASSES, images, query.group), tuple(findings))


def _read_dx(table: LabelTable, group: str | None) -> tuple[list[LabelledRow], list[Finding]]:
    image_at, label_at = table.column(_IMAGE, "image"), table.column(("dx",), "label")
    columns = table.group_columns(_LESION, group)
    rows: list[LabelledRow] = []
    problems: list[Finding] = []
    for row in table.rows:
        image, label = row.cell(image_at), row.cell(label_at).upper()
        if not image:
            problems.append(table.error(row, "bad row", "the image cell is empty"))
        elif label not in CLASSES:
            message = f"{image} has the label {row.cell(label_at)!r}; expected one of {', '.join(CLASSES)}"
            problems.append(table.error(row, "bad label", message, image))
        else:
            groups = {kind: row.cell(position) for kind, position in columns.items()}
            rows.append(LabelledRow(row, image, label, groups))
    return rows, problems


def _read_one_hot(
    table: LabelTable, groupings: LabelTable | None, group: str | None
) -> tuple[list[LabelledRow], list[Finding]]:
    image_at = table.column(_IMAGE, "image")
    labels, problems = one_hot_labels(table, image_at, {name: table.column((name,), "class") for name in CLASSES})
    rows = [LabelledRow(row, row.cell(image_at), labels[row.line]) for row in table.rows if row.line in labels]
    if groupings is None and group is None:
        return rows, problems
    beside = groupings or table
    at, columns = beside.column(_IMAGE, "image"), beside.group_columns(_LESION, group)
    groups = {row.cell(at): {kind: row.cell(position) for kind, position in columns.items()} for row in beside.rows}
    none = dict.fromkeys(columns, "")
    return [replace(row, groups=groups.get(row.image, none)) for row in rows], problems


def _disagreements(rows: list[LabelledRow], dx: str, one_hot: LabelTable) -> list[Finding]:
    image_at = one_hot.column(_IMAGE, "image")
    labels, problems = one_hot_labels(one_hot, image_at, {name: one_hot.column((name,), "class") for name in CLASSES})
    by_dx = {labelled.image: labelled for labelled in rows}
    for row in one_hot.rows:
        other, label = by_dx.get(row.cell(image_at)), labels.get(row.line)
        if other is not None and label is not None and label != other.label:
            message = f"{other.image} is {label}, but {other.label} on line {other.row.line} of {dx}; decide for one"
            problems.append(one_hot.error(row, "label conflict", message, other.image))
    return problems


SOURCE = DatasetSource(
    name="ham10000",
    summary="pigmented skin lesions, 7 classes",
    find=find,
    licence="CC BY-NC 4.0",
    origin="Tschandl, Rosendahl and Kittler 2018: 10,015 dermatoscopic images of 7,470 lesions",
    download="Kaggle surajghuwalewala/ham1000-segmentation-and-classification or kmader/skin-cancer-mnist-ham10000; "
    "only the former has GroundTruth.csv, only the latter has lesions (HAM10000_metadata.csv)",
    groups=("lesion",),
)
