"""From a dataset's name on the command line to the dataset."""

from __future__ import annotations

import os
from pathlib import Path

from trainer.data.csv_table import open_table
from trainer.data.dataset import ImageDataset
from trainer.data.digits import open_digits
from trainer.data.folder import open_folder
from trainer.errors import DataError

DATASET_FORMS: dict[str, str] = {
    "digits-lt": "scikit-learn's digit images, long-tailed; nothing to download",
    "folder:PATH": "a folder for each class, with images anywhere below it",
    "csv:PATH": "a table with a column of images and a column of labels, images beside it or below --data",
}

_TABLE_SUFFIXES = (".csv", ".tsv")


def open_dataset(name: str, data: Path | None, *, group: str | None = None) -> ImageDataset:
    """Find a dataset's images and labels; no image is read yet.

    Args:
        name: one of `DATASET_FORMS`. A relative PATH lies below `data`, or below the current folder without it;
            `folder` and `csv` alone mean `data` itself. `digits-lt` needs no `data`.
        data: the folder of the data; for `csv` alone also the table itself. A table's images lie below this folder, or
            below the table's own where `data` is not a folder.
        group: what to keep together in a split, such as `lesion` or `patient`: a column of the table, or one of that
            name and ``_id``.

    Raises:
        DataError: the name is unknown, or what it names cannot be used.
    """
    form, path = _parse(name)
    if form == "csv":
        table, root = _find_table(path, data)
        return open_table(table, root, dataset_title(name, data), group)
    if group is not None:
        raise DataError(f"--group {group}: {name} has no groups; a csv:PATH with a column {group} or {group}_id has")
    if form == "digits-lt":
        return open_digits()
    return open_folder(_below(path, data, form), dataset_title(name, data))


def dataset_title(name: str, data: Path | None = None) -> str:
    """A short name for studies: ``folder:/a/b/skin`` gives `skin`, ``csv:/x/ham.csv`` gives `ham`.

    Args:
        name: as `open_dataset` takes it.
        data: as `open_dataset` takes it; it gives the title where `name` has no path.

    Raises:
        DataError: the name is unknown.
    """
    form, path = _parse(name)
    if form == "digits-lt":
        return form
    last = Path(os.path.abspath((data or Path()) / path if path else data or Path()))
    is_table = form == "csv" and last.suffix.lower() in _TABLE_SUFFIXES
    return (last.stem if is_table else last.name) or form


def _parse(name: str) -> tuple[str, Path | None]:
    form, colon, path = name.partition(":")
    known = {"digits-lt": not colon, "folder": True, "csv": True}
    if not known.get(form, False):
        raise DataError(f"unknown dataset {name!r}; known are {', '.join(DATASET_FORMS)}")
    return form, Path(path).expanduser() if path else None


def _below(path: Path | None, data: Path | None, form: str) -> Path:
    if path is None and data is None:
        raise DataError(f"{form}: nothing says where the data is; write {form}:PATH or add --data DIR")
    return (data or Path()) / (path or Path())


def _find_table(path: Path | None, data: Path | None) -> tuple[Path, Path]:
    target = _below(path, data, "csv")
    if target.is_dir():
        target = _only_table(target)
    return target, data if data is not None and data.is_dir() else target.parent


def _only_table(folder: Path) -> Path:
    try:
        tables = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in _TABLE_SUFFIXES)
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from None
    tables = [table for table in tables if not table.name.startswith(".")]
    if len(tables) != 1:
        found = ", ".join(table.name for table in tables) or "none"
        raise DataError(f"{folder}: expected one table (.csv or .tsv), found {found}; name it as csv:PATH")
    return tables[0]
