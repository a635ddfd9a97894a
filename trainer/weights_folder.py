"""A folder of pretrained weights, one file a model, for machines that cannot reach the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.errors import ModelError

_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class StoredWeights:
    """Pretrained weights in a folder.

    Attributes:
        model: the timm name of the model, with its tag.
        path: the file.
        bytes: its size.
    """

    model: str
    path: Path
    bytes: int


def weights_path(folder: Path, model: str) -> Path:
    """Where a folder keeps the weights of a model, whether or not they are there.

    Args:
        folder: the folder of weights.
        model: the timm name of the model, with its tag.
    """
    return folder / f"{model}{_SUFFIX}"


def list_weights(folder: Path) -> tuple[StoredWeights, ...]:
    """The weights in a folder, by name; none where there is no such folder.

    Raises:
        ModelError: the folder cannot be read.
    """
    try:
        paths = sorted(folder.iterdir()) if folder.exists() else []
        return tuple(
            StoredWeights(path.name.removesuffix(_SUFFIX), path, path.stat().st_size)
            for path in paths
            if path.name.endswith(_SUFFIX) and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        raise ModelError(f"weights: cannot read the folder {folder}: {error.strerror or error}") from None
