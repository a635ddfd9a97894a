"""An exported model of a tiny training, without a study, and images for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lmf_testing.cli import Ran
from lmf_testing.training import Data, Trial, config_of
from study.cli.main import main
from trainer.exported import ModelDescription, write_model
from trainer.models import build_model, input_statistics
from trainer.results import TrialResult

CLASSES = ("df", "mel", "nv")


def train_tiny(folder: Path, data: Data, **recipe: Any) -> tuple[Trial, TrialResult]:
    """Train one epoch on three classes of colours."""
    folder.mkdir(parents=True, exist_ok=True)
    trial = Trial(config_of(**{"epochs": 1, **recipe}), data, folder)
    return trial, trial.go()


def describe_tiny(trial: Trial, result: TrialResult, **changes: Any) -> ModelDescription:
    """The description of a tiny training's model."""
    recipe = trial.config.recipe
    described = ModelDescription(
        recipe=recipe,
        classes=CLASSES,
        statistics=input_statistics(build_model(recipe, len(CLASSES))) if recipe.normalize else None,
        temperature=0.5,
        weights_sha256=result.weights_sha256,
        origin={"study": "tiny", "trial": 0},
    )
    return replace(described, **changes)


def export_tiny(folder: Path, data: Data, **changes: Any) -> Path:
    """A folder with such a model."""
    trial, result = train_tiny(folder.with_name(f"{folder.name}-training"), data)
    folder.mkdir()
    write_model(folder, describe_tiny(trial, result, **changes), result.best_state)
    return folder


def write_skin(root: Path) -> Path:
    """A folder of images for each of the three classes, in their colours: 12 of nv, 8 of mel and 6 of df."""
    random = np.random.default_rng(5)
    for name, count in (("nv", 12), ("mel", 8), ("df", 6)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 160, (24, 20, 3), np.uint8)
            pixels[..., CLASSES.index(name)] += 60
            Image.fromarray(pixels).save(root / name / f"{name}-{number:02}.png")
    return root


def run_here(capfd: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    """Run `lmf` in this process."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capfd.readouterr()
    assert isinstance(ended.value.code, int)
    return Ran(ended.value.code, out, err)
