"""A folder of pretrained weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainer.errors import ModelError
from trainer.weights_folder import StoredWeights, list_weights, weights_path


def test_weights_are_listed_by_name(tmp_path: Path) -> None:
    assert list_weights(tmp_path / "absent") == ()
    assert list_weights(tmp_path) == ()
    for model, content in (("resnet50.tv2_in1k", b"12345"), ("densenet121.tv_in1k", b"123")):
        weights_path(tmp_path, model).write_bytes(content)
    assert list_weights(tmp_path) == (
        StoredWeights("densenet121.tv_in1k", tmp_path / "densenet121.tv_in1k.safetensors", 3),
        StoredWeights("resnet50.tv2_in1k", tmp_path / "resnet50.tv2_in1k.safetensors", 5),
    )


def test_what_is_no_file_of_weights_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".resnet50.tv2_in1k.safetensors.0123456789abcdef.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".hidden.safetensors").write_bytes(b"")
    (tmp_path / "folder.safetensors").mkdir()
    assert list_weights(tmp_path) == ()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=f"cannot read the folder {tmp_path / 'file'}: Not a directory"):
        list_weights(tmp_path / "file")


def test_listing_loads_no_torch() -> None:
    code = "import sys, trainer.weights_folder; print(sorted({'torch', 'timm', 'safetensors'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
