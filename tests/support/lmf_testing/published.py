"""Small stand-ins for the published datasets: their tables, and pictures of their names in any layout."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trainer.data.catalog import find_dataset, open_dataset
from trainer.data.dataset import ImageDataset
from trainer.data.source import Found
from trainer.data.splits import split_fingerprint, stratified_split
from trainer.errors import DataError

from .images import write_picture

ALL = slice(None)


@dataclass(frozen=True)
class Sample:
    """Four images of each class of a dataset.

    Attributes:
        name: the dataset's name.
        files: the images' file names.
        tables: the tables' text by file name, the one with labels first.
        labels: each image's class, by the image's name.
        groups: each image's group, by kind and the image's name.
    """

    name: str
    files: tuple[str, ...]
    tables: Mapping[str, str]
    labels: Mapping[str, str]
    groups: Mapping[str, Mapping[str, str]]

    @property
    def table(self) -> str:
        """The file name of the table with labels."""
        return next(iter(self.tables))

    def write(
        self, root: Path, tables: Mapping[str, str | bytes] | None = None, folders: Mapping[str, slice] | None = None
    ) -> Path:
        """Write it below a folder.

        Args:
            root: the folder.
            tables: file names below it and what is in them; by default all tables, directly in it.
            folders: folders of images, and which images each holds; by default all are in `images`.
        """
        write_tables(root, self.tables if tables is None else tables)
        for folder, chosen in ({"images": ALL} if folders is None else folders).items():
            for seed, file in list(enumerate(self.files))[chosen]:
                write_picture(root / folder / file, seed)
        return root


def write_tables(root: Path, tables: Mapping[str, str | bytes]) -> Path:
    """Write text files, packed where the name ends in `.gz` and the text is not bytes already."""
    for name, text in tables.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode() if isinstance(text, str) else text
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") and isinstance(text, str) else data)
    return root


def one_hot(image: str, labels: Mapping[str, str], columns: Sequence[str]) -> str:
    """A table with a column of 0.0 and 1.0 for each class."""
    rows = [[name, *("1.0" if label == column else "0.0" for column in columns)] for name, label in labels.items()]
    return as_csv([[image, *columns], *rows])


def as_csv(rows: Iterable[Iterable[str]], separator: str = ",") -> str:
    """Cells without quotes as text."""
    return "".join(separator.join(row) + "\n" for row in rows)


def change(text: str, line: int, old: str, new: str) -> str:
    """A table with one thing changed on a line, counted from 1."""
    lines = text.splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    return "".join(lines)


def labels_of(dataset: ImageDataset) -> dict[str, str]:
    """Each image's class, by the image's name."""
    return {name: dataset.class_names[label] for name, label in zip(dataset.image_names, dataset.labels, strict=True)}


def groups_of(dataset: ImageDataset) -> dict[str, dict[str, str]]:
    """Each image's group, by kind and the image's name."""
    return {kind: dict(zip(dataset.image_names, of, strict=True)) for kind, of in dataset.groups.items()}


def split_of(dataset: ImageDataset) -> str:
    """The fingerprint of the dataset's split."""
    split = stratified_split(dataset.labels, len(dataset.class_names), 23)
    return split_fingerprint(split, dataset.image_names)


def messages(found: Found, severity: str = "error") -> list[str]:
    """What was found of one severity."""
    return [finding.message for finding in found.findings if finding.severity == severity]


def refusal(name: str, data: Path | None, **options: Any) -> str:
    """What is said, on one line, where a dataset cannot be opened."""
    with pytest.raises(DataError) as caught:
        open_dataset(name, data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_sample(sample: Sample, data: Path, **options: Any) -> None:
    """A dataset is found whole and without a finding, and is the same by its table alone."""
    found = find_dataset(sample.name, data, **options)
    assert found.findings == ()
    by_table = open_dataset(sample.name, data, with_images=False, **options)
    assert by_table.files is None
    for dataset in (found.dataset, by_table):
        assert dataset.name == sample.name
        assert dataset.image_names == tuple(sorted(sample.labels))
        assert labels_of(dataset) == sample.labels
        assert groups_of(dataset) == sample.groups
        assert split_of(dataset) == split_of(found.dataset)
    assert found.dataset.files is not None
    assert found.dataset.read(0) == found.dataset.files[0].read_bytes()


def _ham10000() -> Sample:
    codes = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    images = [f"ISIC_{24306 + number:07d}" for number in range(4 * len(codes))]
    labels = {image: codes[number % len(codes)] for number, image in enumerate(images)}
    lesions = {image: f"HAM_{number // 2:07d}" for number, image in enumerate(images)}
    header = "lesion_id,image_id,dx,dx_type,age,sex,localization".split(",")
    rows = [[lesions[image], image, labels[image].lower(), "histo", "80.0", "male", "scalp"] for image in images]
    tables = {
        "HAM10000_metadata.csv": as_csv([header, *rows[::-1]]),
        "GroundTruth.csv": one_hot("image", labels, codes),
    }
    return Sample("ham10000", tuple(f"{image}.jpg" for image in images), tables, labels, {"lesion": lesions})


def _isic2019() -> Sample:
    codes = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
    images = [f"ISIC_{number:07d}{'_downsampled' if number % 3 == 0 else ''}" for number in range(4 * len(codes))]
    labels = {image: codes[number % len(codes)] for number, image in enumerate(images)}
    lesions = {image: f"BCN_{number // 2:07d}" if number > 3 else "" for number, image in enumerate(images)}
    rows = [[image, "55", "anterior torso", lesions[image], "female"] for image in images]
    tables = {
        "ISIC_2019_Training_GroundTruth.csv": one_hot("image", labels, (*codes, "UNK")),
        "ISIC_2019_Training_Metadata.csv": as_csv([["image", "age_approx", "anatom_site_general", "lesion_id", "sex"]])
        + as_csv(rows),
    }
    groups = {"lesion": {image: lesion or f"image {image}" for image, lesion in lesions.items()}}
    return Sample("isic2019", tuple(f"{image}.jpg" for image in images), tables, labels, groups)


def _odir5k() -> Sample:
    codes = "NDGCAHMO"
    files = [f"{patient}_{eye}.jpg" for patient in range(16) for eye in ("left", "right")]
    images = [file.removesuffix(".jpg") for file in files]
    labels = {image: codes[number % len(codes)] for number, image in enumerate(images)}
    patients = {image: image.split("_")[0] for image in images}
    # The flags are the patient's: here cataract for everybody, whatever the single image shows.
    header = f"ID,Patient Age,{','.join(codes)},labels,target,filename"
    rows = [
        f"{patients[image]},60,0,0,0,1,0,0,0,0,['{label}'],\"{[int(code == label) for code in codes]}\",{image}.jpg"
        for image, label in labels.items()
    ]
    tables = {"full_df.csv": "\n".join([header, *rows]) + "\n"}
    return Sample("odir5k", tuple(files), tables, labels, {"patient": patients})


HAM10000, ISIC2019, ODIR5K = _ham10000(), _isic2019(), _odir5k()
SAMPLES = {sample.name: sample for sample in (HAM10000, ISIC2019, ODIR5K)}
