"""The model card: its metadata, its figures, and that names in it stay text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.model_card import card_text
from study.model_export import _without_path
from trainer.config import Recipe
from trainer.exported import ModelDescription

SCORES = {
    "accuracy": 0.8,
    "precision": 0.7,
    "recall": 0.65,
    "macro_f1": 0.625,
    "balanced_accuracy": 0.65,
    "macro_auc": 0.9,
    "f1_per_class": [0.75, 0.5],
    "confusion": [[9, 3], [1, 2]],
    "auc_per_class": [0.91, None],
}


def describe(classes: tuple[str, str] = ("NV", "MEL"), **origin: Any) -> ModelDescription:
    moment = {"ece": 0.31, "nll": 1.5, "brier": 0.4}
    past = {
        "study": "skin-resnet50",
        "dataset": "skin",
        "dataset_licence": "CC BY-NC 4.0",
        "trial": 4,
        "loss": {"name": "lmf", "alpha": 1.0, "beta": 0.55},
        "seed": 23,
        "select": "macro_f1",
        "best_epoch": 7,
        "chosen": True,
        "scores": {"val": SCORES | {"macro_f1": 0.7}, "test": SCORES},
        "calibration": {
            "before": moment,
            "after": moment | {"ece": 0.04},
            "val_images": 12,
            "test_images": 15,
        },
        "images": {"train": [1038, 18], "val": [8, 4], "test": [12, 3]},
        "split": {"seed": 23, "group": "lesion", "file": False},
        "fingerprint": "f" * 64,
        "split_fingerprint": "5" * 64,
        "leakage": [],
        "warnings": [],
        "versions": {"torch": "2.9.0", "timm": "1.0.20"},
        "exported_with": {"lmf": "0.1.0"},
        "trained_at": 1_750_000_000.0,
        "points": {"planned": 31, "complete": 30},
    }
    return ModelDescription(
        recipe=Recipe(model="resnet50.tv2_in1k"),
        classes=classes,
        statistics=None,
        temperature=2.5,
        weights_sha256="a" * 64,
        marks_sha256="b" * 64,
        origin=past | origin,
    )


def front_of(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(front)
    return found


def test_the_front_is_what_the_hub_reads() -> None:
    front = front_of(card_text(describe()))
    assert front["license"] == "unknown"
    assert front["pipeline_tag"] == "image-classification"
    assert front["base_model"] == "timm/resnet50.tv2_in1k"
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert (model["name"], result["dataset"]["name"]) == ("skin-resnet50", "skin")
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        "f1": 0.625,
        "accuracy": 0.8,
        "precision": 0.7,
        "recall": 0.65,
    }


def test_a_model_from_scratch_has_no_base_model() -> None:
    scratch = replace(describe(), recipe=Recipe(model="resnet50", weights="none"))
    assert "base_model" not in front_of(card_text(scratch))


def test_it_says_what_the_model_is_not_for_and_what_it_was_made_of() -> None:
    card = card_text(describe())
    for said in (
        "It is not a medical\ndevice, and must not be used to diagnose or treat anybody.",
        "LMF (α = 1.0, β = 0.55)",
        "The split was drawn class by class with seed 23. Images of one lesion were kept together.",
        "Nothing is known of lesions or patients",
        "Epoch 7 and this trial were chosen by macro F1 on validation",
        "Logits are divided by the temperature 2.5, fitted on 12 validation images. On 15 test images:",
        "CC BY-NC 4.0",
        "arXiv",
    ):
        assert said in card


def test_every_class_has_its_images_and_scores() -> None:
    lines = card_text(describe()).splitlines()
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    assert ["NV", "1,038", "8", "12"] in found
    assert ["MEL", "18", "4", "3"] in found
    assert ["all", "1,056", "12", "15"] in found
    assert ["NV", "12", "75.00", "75.00", "91.00"] in found
    assert ["MEL", "3", "50.00", "66.67", "–"] in found
    assert ["macro F1 %", "70.00", "62.50"] in found
    assert ["expected calibration error %", "31.00", "4.00"] in found


def test_without_a_temperature_it_says_so() -> None:
    card = card_text(replace(describe(calibration=None), temperature=None))
    assert "No temperature could be fitted" in card


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a|b\n# heading", "`rm -rf`", "[x](javascript:1)", "---"]
)
def test_names_stay_text(name: str) -> None:
    card = card_text(describe(classes=(name, "MEL"), dataset=name, warnings=[f"never predicted: {name}"]))
    assert front_of(card)["model-index"][0]["results"][0]["dataset"]["name"] == name
    body = card.split("---\n", 2)[2]
    assert "<script" not in body
    assert "\n# heading" not in body
    assert "[x](" not in body
    assert body.count("`rm") == body.count("\\`rm")
    widths = {line.replace("\\|", "").count("|") for line in body.splitlines() if line.startswith("|")}
    assert widths == {3, 4, 5, 6}


def test_no_folder_of_a_weights_file_is_told() -> None:
    recipe = _without_path(Recipe(weights="/home/alice/secret/resnet.safetensors", weights_sha256="c" * 64))
    assert (recipe.weights, recipe.weights_sha256) == ("resnet.safetensors", "c" * 64)
    card = card_text(replace(describe(), recipe=recipe))
    assert "alice" not in card
    assert "resnet.safetensors" in card
    for source in ("hub", "none"):
        assert _without_path(Recipe(weights=source)) == Recipe(weights=source)


def test_a_weights_path_is_cut_on_any_system() -> None:
    assert _without_path(Recipe(weights=str(Path("somewhere") / "w.pt"))).weights == "w.pt"
