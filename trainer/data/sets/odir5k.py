"""ODIR-5K: fundus photographs of both eyes of patients, eight classes."""

from __future__ import annotations

from ast import literal_eval
from pathlib import PurePosixPath

from trainer.data.findings import Finding
from trainer.data.label_table import LabelTable, Row
from trainer.data.row_images import LabelledRow, empty_classes, find_table, match_rows, open_tree
from trainer.data.source import DatasetSource, Found, Query, build_dataset
from trainer.errors import DataError

CODES = ("N", "D", "G", "C", "A", "H", "M", "O")
"""The classes in the order of `target`: normal, diabetes, glaucoma, cataract, AMD, hypertension, myopia, other."""

LABEL_TABLES = ("full_df",)

_PATIENT = {"patient": ("ID", "patient_id")}


def find(query: Query) -> Found:
    """Find ODIR-5K as Kaggle ships it.

    An image's class is that of the columns `labels` and `target`, which have to agree. The flags N to O say what
    the patient has in either eye, so they are no labels of an image. Of two copies of a photograph the one below
    `preprocessed_images` is taken.
    """
    tree = open_tree(query, SOURCE.name, LABEL_TABLES)
    table = find_table(tree, LABEL_TABLES)
    if table is None:
        raise DataError(
            f"{tree.root}{tree.not_followed}: full_df.csv is not below it; --data names the folder of the unpacked "
            "dataset (data.xlsx labels patients, not images)"
        )
    rows, problems = _read_rows(table, query.group)
    images, findings = match_rows(table, rows, tree if query.with_images else None, problems, prefer=_is_preprocessed)
    findings += empty_classes(CODES, images, tree)
    return Found(build_dataset(SOURCE.name, table.path, CODES, images, query.group), tuple(findings))


def _read_rows(table: LabelTable, group: str | None) -> tuple[list[LabelledRow], list[Finding]]:
    image_at = table.column(("filename",), "image")
    labels_at, target_at = table.find(("labels",)), table.find(("target",))
    if labels_at is None and target_at is None:
        table.column(("labels", "target"), "label")
    columns = table.group_columns(_PATIENT, group)
    rows: list[LabelledRow] = []
    problems: list[Finding] = []
    for row in table.rows:
        file = row.cell(image_at)
        if not file:
            problems.append(table.error(row, "bad row", "the cell of filename is empty"))
            continue
        image = PurePosixPath(file).stem
        try:
            label = _label(row, file, labels_at, target_at)
        except DataError as error:
            problems.append(table.error(row, "bad label", str(error), image))
            continue
        groups = {kind: row.cell(position) for kind, position in columns.items()}
        rows.append(LabelledRow(row, image, label, groups))
    return rows, problems


def _label(row: Row, file: str, labels_at: int | None, target_at: int | None) -> str:
    """The class of a row; a `DataError` says what is wrong with it, without its line."""
    found = []
    if labels_at is not None:
        names = _read_list(row.cell(labels_at))
        if not names or len(names) != 1 or str(names[0]).upper() not in CODES:
            raise DataError(f"{file} has the labels {row.cell(labels_at)!r}; expected one of {', '.join(CODES)}")
        found.append(str(names[0]).upper())
    if target_at is not None:
        marks = _read_list(row.cell(target_at))
        if not marks or len(marks) != len(CODES) or sorted(map(str, marks)) != ["0"] * (len(CODES) - 1) + ["1"]:
            raise DataError(f"{file} has the target {row.cell(target_at)!r}; expected a list of seven 0 and one 1")
        found.append(CODES[[str(mark) for mark in marks].index("1")])
    if len(set(found)) > 1:
        raise DataError(f"{file} is {found[0]} by labels, but {found[1]} by target; decide for one")
    return found[0]


def _read_list(cell: str) -> list[object] | None:
    """A list as the table writes it; a bare code is a list of itself."""
    if cell.upper() in CODES:
        return [cell]
    try:
        value = literal_eval(cell)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, list) else None


def _is_preprocessed(name: str) -> bool:
    return "preprocessed_images" in name.lower().split("/")


SOURCE = DatasetSource(
    name="odir5k",
    summary="fundus photographs, 8 classes",
    find=find,
    licence="not stated; research use",
    origin="ODIR-2019, Peking University and Shanggong: 6,392 labelled photographs of 3,358 patients",
    download="Kaggle andrewmvd/ocular-disease-recognition-odir5k (full_df.csv and preprocessed_images)",
    groups=("patient",),
)
