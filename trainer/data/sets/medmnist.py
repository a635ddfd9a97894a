"""`medmnist:NAME`: the sets of MedMNIST v2, as published in `.npz` files with a split of their own."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.data.dataset import ImageDataset, Labels
from trainer.data.findings import Finding
from trainer.data.images import BrokenImageError, Pixels
from trainer.data.npz import DAMAGE, StreamedRows, announced_array, open_archive, refuse_array
from trainer.data.source import DatasetSource, Found, Query
from trainer.errors import DataError, one_line

SIZES = (28, 64, 128, 224)

_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right"),
    *("liver", "lung-left", "lung-right", "pancreas", "spleen"),
)
CLASSES = {
    "bloodmnist": (
        *("basophil", "eosinophil", "erythroblast", "immature-granulocyte"),
        *("lymphocyte", "monocyte", "neutrophil", "platelet"),
    ),
    "breastmnist": ("malignant", "not-malignant"),
    "dermamnist": ("AKIEC", "BCC", "BKL", "DF", "MEL", "NV", "VASC"),
    "octmnist": ("CNV", "DME", "drusen", "normal"),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
    "pathmnist": (
        *("adipose", "background", "debris", "lymphocytes", "mucus"),
        *("smooth-muscle", "normal-mucosa", "stroma", "adenocarcinoma"),
    ),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("grade-0", "grade-1", "grade-2", "grade-3", "grade-4"),
    "tissuemnist": (
        *("collecting-duct", "distal-tubule", "glomerular-endothelium", "interstitial-endothelium"),
        *("leukocyte", "podocyte", "proximal-tubule", "thick-ascending-limb"),
    ),
}
"""The sets that can be trained on, and their classes in the order of the published labels 0, 1, 2 and on."""

_VOLUMES = tuple(f"{kind}mnist3d" for kind in ("adrenal", "fracture", "nodule", "organ", "synapse", "vessel"))
_PARTS = {"test": 2, "train": 0, "val": 1}
_RECORD = "https://zenodo.org/records/10519652"


def find(query: Query) -> Found:
    """Find a set's file below the folder of the data, or download it where the package `medmnist` is installed.

    An image is named after its part and its row there, such as `train/000017`. Grey images decode to three equal
    channels.
    """
    if query.group is not None:
        raise DataError(f"--group {query.group}: {SOURCE.name} has no groups; its files name no patients")
    name, size = _parse(query.argument)
    path = _locate(name, size, query.data)
    classes = tuple(sorted(CLASSES[name]))
    with open_archive(path) as archive:
        labels = {part: _read_labels(archive, path, part, name) for part in _PARTS}
        shape = _check_images(archive, path, labels) if query.with_images else None
    counts = {part: len(of_part) for part, of_part in labels.items()}
    dataset = ImageDataset(
        name=_title(query),
        class_names=classes,
        image_names=tuple(f"{part}/{row:06d}" for part, count in counts.items() for row in range(count)),
        labels=np.array([classes.index(code) for code in CLASSES[name]])[np.concatenate(list(labels.values()))],
        read=StreamedRows(path, shape, tuple(counts.items())) if shape else _not_looked_for,
        decode=partial(_decode, shape or ()),
        published_split=np.repeat(np.array(list(_PARTS.values()), dtype=np.int8), list(counts.values())),
    )
    empty = [
        Finding("empty class", "error", f"{path}: no image of the class {code}")
        for code, total in zip(classes, dataset.totals, strict=True)
        if total == 0
    ]
    return Found(dataset, tuple(empty))


def _parse(argument: str | None) -> tuple[str, int | None]:
    """The set, and the size where one is asked for."""
    asked = argument or ""
    name, _, size = asked.partition("_")
    sizes = {"": None} | {str(size): size for size in SIZES[1:]}
    if name == "chestmnist":
        raise DataError(f"{SOURCE.name}:{asked}: its images have several labels each; lmf tells classes apart")
    if name in _VOLUMES:
        raise DataError(f"{SOURCE.name}:{asked}: it holds volumes; lmf trains on images of two dimensions")
    if name not in CLASSES or size not in sizes or asked.endswith("_"):
        known = f"{', '.join(CLASSES)}, each also as NAME_64, NAME_128 and NAME_224"
        raise DataError(f"{SOURCE.form}: unknown set {asked!r}; known are {known}")
    return name, sizes[size]


def _title(query: Query) -> str:
    name, size = _parse(query.argument)
    return _stem(name, size)


def _stem(name: str, size: int | None) -> str:
    return name if size in (None, SIZES[0]) else f"{name}_{size}"


def _locate(name: str, size: int | None, data: Path | None) -> Path:
    if data is not None and (os.path.isfile(data) or data.suffix == ".npz"):
        stems = {_stem(other, of_size): (other, of_size) for other in CLASSES for of_size in SIZES}
        other, of_size = stems.get(data.stem, (name, size))
        if other != name or (size is not None and of_size != size):
            raise DataError(f"{data}: is the file of {SOURCE.name}:{data.stem}, not of {_stem(name, size)}")
        return data
    folder = data if data is not None else _default_folder()
    files = {f"{_stem(name, of_size)}.npz": of_size for of_size in SIZES if size in (None, of_size)}
    found = {files[file]: paths for file, paths in _find_files(folder, files).items()}
    if size is None and SIZES[0] not in found and len(found) > 1:
        names = ", ".join(_stem(name, of_size) for of_size in sorted(found))
        raise DataError(f"{folder}: holds {names}; say which is meant, as in {SOURCE.name}:{names.split(', ')[0]}")
    wanted = size or (next(iter(found)) if len(found) == 1 else SIZES[0])
    paths = found.get(wanted) or [_download(name, wanted, folder)]
    if len(paths) > 1:
        first, second = sorted(str(path.relative_to(folder)) for path in paths)[:2]
        raise DataError(f"{folder}: holds both {first} and {second}; name one of them with --data")
    return paths[0]


def _default_folder() -> Path:
    try:
        return Path.home() / ".medmnist"
    except RuntimeError:
        raise DataError(f"{SOURCE.name}: there is no home folder to look in; add --data DIR") from None


def _find_files(folder: Path, names: Iterable[str]) -> dict[str, list[Path]]:
    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise DataError(f"cannot read the folder {error.filename}: {error.strerror}")

    found: dict[str, list[Path]] = {}
    for below, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [inner for inner in folders if not inner.startswith(".")]
        for name in set(names).intersection(files):
            found.setdefault(name, []).append(Path(below, name))
    return found


def _download(name: str, size: int, folder: Path) -> Path:
    file = f"{_stem(name, size)}.npz"
    missing = f"{folder}: {file} is not below it"
    by_hand = f"put {file} there from {_RECORD}"
    try:
        with _quiet():
            package: Any = importlib.import_module("medmnist")
    except ModuleNotFoundError as error:
        if error.name != "medmnist":
            raise DataError(f"{missing}, and medmnist lacks the package {error.name}; {by_hand}") from None
        raise DataError(f"{missing}; pip install 'lmf[medmnist]' to have it downloaded, or {by_hand}") from None
    except Exception as error:  # whatever the packages that it loads run into
        raise DataError(f"{missing}, and medmnist cannot be loaded: {one_line(error)}; {by_hand}") from None
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{file}-", dir=folder) as unfinished, _quiet():
            # The part is loaded, which is not wanted; the one for validation is small.
            getattr(package, package.INFO[name]["python_class"])(split="val", download=True, root=unfinished, size=size)
            os.replace(Path(unfinished, file), folder / file)
    except Exception as error:
        cause = error.__context__ or error  # the package hides what the network said, and an interrupt, behind its own
        if not isinstance(cause, Exception):
            raise cause from None
        raise DataError(f"{missing}, and downloading failed: {one_line(cause)}; {by_hand}") from None
    return folder / file


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _read_labels(archive: zipfile.ZipFile, path: Path, part: str, name: str) -> Labels:
    key = f"{part}_labels"
    stream, shape, dtype = announced_array(archive, path, key)
    with stream:
        if dtype.kind not in "iu" or len(shape) != 2 or shape[1] != 1:
            raise DataError(f"{path}: {key} is {dtype} of shape {shape}; expected integers of shape (n, 1)")
        if shape[0] == 0:
            raise DataError(f"{path}: {key} is empty; expected labels")
        try:
            data = stream.read(shape[0] * dtype.itemsize)
            labels = np.frombuffer(data, dtype=dtype).reshape(shape[0])
        except DAMAGE as error:
            refuse_array(path, key, error)
    last = len(CLASSES[name]) - 1
    bad = np.flatnonzero((labels < 0) | (labels > last))
    if len(bad):
        raise DataError(f"{path}: {key} has {labels[bad[0]]} in row {bad[0]}; {name} has the classes 0 to {last}")
    return labels.astype(np.int64)


def _check_images(archive: zipfile.ZipFile, path: Path, labels: dict[str, Labels]) -> tuple[int, ...]:
    """The shape of one image, the same in all parts."""
    stems = {_stem(name, size): (size,) for name in CLASSES for size in SIZES}
    sizes = stems.get(path.stem, SIZES)
    shapes = [(size, size, *channels) for size in sizes for channels in ((), (3,))]
    for part, of_part in labels.items():
        key = f"{part}_images"
        stream, shape, dtype = announced_array(archive, path, key)
        stream.close()
        if dtype != np.uint8 or shape[1:] not in shapes:
            expected = " or ".join(f"(n, {', '.join(map(str, shape))})" for shape in shapes)
            raise DataError(f"{path}: {key} is {dtype} of shape {shape}; expected uint8 of shape {expected}")
        if shape[0] != len(of_part):
            raise DataError(f"{path}: {key} has {shape[0]:,} images for the {len(of_part):,} of {part}_labels")
        shapes = [shape[1:]]
    return shapes[0]


def _decode(shape: Sequence[int], data: bytes, size: int, exact: bool = False) -> Pixels:
    image = Image.frombytes("RGB" if len(shape) == 3 else "L", (shape[0], shape[1]), data)
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR).convert("RGB"), dtype=np.uint8)


def _not_looked_for(index: int) -> bytes:
    raise BrokenImageError("was not looked for")


SOURCE = DatasetSource(
    name="medmnist",
    summary="small images of MedMNIST v2, 11 sets",
    find=find,
    argument="NAME",
    licence="CC BY 4.0; dermamnist CC BY-NC 4.0",
    origin="Yang et al. 2023: 780 to 236,386 images a set, of 28, 64, 128 or 224 pixels",
    download=f"nothing with pip install 'lmf[medmnist]'; or NAME.npz, or NAME_64.npz and the like, from {_RECORD}",
    needs_data=False,
    publishes_split=True,
    title=_title,
)
