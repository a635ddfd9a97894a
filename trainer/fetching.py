"""Fetching pretrained weights from the hub into a folder, to be copied to machines that cannot reach it."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import timm
from timm.models import is_model_pretrained

from trainer.data.cache_folder import write_whole
from trainer.errors import ModelError
from trainer.models import full_model_name
from trainer.pretrained import download
from trainer.weights_folder import weights_path

_WAYS_OUT = "fetch them on a machine that reaches the hub, and copy the file"


def fetch_weights(name: str, folder: Path, *, force: bool = False) -> Path:
    """Store a model's pretrained weights, with their original head, in a folder that `build_model` takes them from.

    Args:
        name: an alias, or a timm name with or without a tag of pretrained weights.
        folder: where to; it is made where missing.
        force: fetch them although they are there already.

    Returns:
        The file, written whole or not at all.

    Raises:
        ModelError: the model is unknown, its weights cannot be had, or the file cannot be written.
    """
    model = full_model_name(name)
    path = weights_path(folder, model)
    if path.is_file() and not force:
        return path
    if not is_model_pretrained(model):
        raise ModelError(f"weights: timm offers no pretrained weights for {model}, so there is nothing to fetch")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        state = download(model, _WAYS_OUT).state_dict()
        # Tensors that share memory, as tied weights do, cannot be stored as such.
        apart = {key: value.contiguous().clone() for key, value in state.items()}
        write_whole(path, safetensors.torch.save(apart, {"format": "pt", "model": model, "timm": timm.__version__}))
    except OSError as error:
        raise ModelError(
            f"weights: cannot write {path}: {error.strerror or error}; make room there or choose another folder"
        ) from error
    return path
