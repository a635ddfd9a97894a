"""Some of the paper's datasets, laid out as they are published, with a few small random pictures."""

from __future__ import annotations

from pathlib import Path

from lmf_testing.images import write_picture

COVID_CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
HAM_CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")


def write_covid(folder: Path, count: int = 4, classes: tuple[str, ...] = COVID_CLASSES) -> Path:
    """The COVID-19 Radiography Database with so many images of each class."""
    for label, name in enumerate(classes):
        for number in range(1, count + 1):
            write_picture(folder / name / "images" / f"{name}-{number}.png", 100 * label + number)
    return folder


def write_ham(folder: Path, count: int = 4) -> Path:
    """HAM10000 by its one-hot table, with so many images of each class."""
    lines = [",".join(("image", *HAM_CLASSES))]
    for label, _ in enumerate(HAM_CLASSES):
        flags = ",".join("1.0" if other == label else "0.0" for other in range(len(HAM_CLASSES)))
        for number in range(1, count + 1):
            name = f"ISIC_00{label}{number:04}"
            write_picture(folder / "images" / f"{name}.jpg", 1000 + 100 * label + number)
            lines.append(f"{name},{flags}")
    (folder / "GroundTruth.csv").write_text("\n".join(lines) + "\n")
    return folder
