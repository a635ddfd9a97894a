from __future__ import annotations

from dataclasses import replace

import pytest

from storage.hardware import Hardware
from study.reporting.methods import PAPER_BIBTEX, PAPER_CITATION, methods_paragraph
from study.reporting.rows import StudyData
from study.reporting.statistics import summarize

RECIPE = {
    "model": "resnet50.tv2_in1k",
    "weights": "hub",
    "weights_sha256": None,
    "image_size": 224,
    "normalize": False,
    "augment": "none",
    "epochs": 60,
    "batch_size": 32,
    "lr": 1e-4,
    "weight_decay": 5e-4,
    "lr_step_epochs": 30,
    "lr_gamma": 0.1,
    "select": "macro_f1",
    "precision": "bf16",
    "max_margin": 0.5,
    "gamma": 1.5,
    "scale": 30.0,
    "variant": "reference",
}
SPEC = {
    "recipe": RECIPE,
    "settings": ["joint", "beta"],
    "grid": [0.5, 1.0],
    "seeds": [23, 24],
    "split_seed": 23,
    "group": None,
    "split_file": None,
    "versions": {"torch": "2.14.1", "timm": "1.0.31"},
}


@pytest.fixture
def paragraph(records):
    def paragraph(points=None, spec=None, recipe=None, **others):
        points = [records.point(1.0, 1.0, 0.5, 0.4), records.point(1.0, 0.5, 0.6, 0.5)] if points is None else points
        document = {**SPEC, **(spec or {}), "recipe": {**RECIPE, **(recipe or {})}}
        study = records.study(points, spec=document, model="resnet50", **others)
        data = StudyData(study, (), (records.attempt(points[0], device="cuda:0"),))
        return methods_paragraph(data, summarize(study))

    return paragraph


def test_everything_that_decides_the_result_is_said(paragraph):
    text = paragraph()
    for part in (
        "Images of skin in 2 classes (NV, MEL) were split into 56 for training, 12 for validation and 12 for testing",
        "the largest class has 2.1 times the training images of the smallest",
        "15 % of each class for validation and as many for testing (seed 23).",
        "The network resnet50 (resnet50.tv2_in1k), started from pretrained weights from the model hub, was trained "
        "for 60 epochs",
        "on images of 224 × 224 pixels scaled to [0, 1], without augmentation, in batches of 32, with Adam "
        "(learning rate 0.0001, L2 weight decay 0.0005, the rate multiplied by 0.1 every 30 epochs) "
        "in bfloat16 mixed precision.",
        "inverse fourth root of the class sizes (largest 0.5)",
        "its logits scaled by 30",
        "a focal exponent γ of 1.5",
        "α and β took the values 0.5, 1 in the settings joint (α = β), beta (α = 1)",
        "2 combinations, each trained with 2 training seeds (23, 24).",
        "the combination with the best mean validation macro F1 over its seeds chosen; each "
        "training was tested once, and test scores played no part in any choice",
        "on GPUs of 1 machine.",
        "timm 1.0.31, torch 2.14.1.",
    ):
        assert part in text, part


def test_other_choices_are_told_as_such(paragraph):
    text = paragraph(
        spec={"split_seed": None, "split_file": "/secret/split.csv"},
        recipe={
            "weights": "/secret/w.safetensors",
            "weights_sha256": "ab" * 32,
            "normalize": True,
            "augment": "standard",
        },
    )
    assert "The split was given by a table." in text
    assert "weights from a file (SHA-256 abababababab…)" in text
    assert "/secret" not in text
    assert "normalised by the model's mean and deviation, with flips, quarter turns and colour changes," in text
    grouped = paragraph(spec={"group": "lesion"}, recipe={"variant": "equations"})
    assert "images of one lesion kept together" in grouped
    assert "LDAM as its equations say" in grouped


def test_a_search_tells_how_it_searched(paragraph, records):
    text = paragraph(
        [records.point(0.7, 1.9, 0.5, 0.4)],
        spec={"search": "tpe", "trials": 1, "pruner": "none", "settings": [], "grid": []},
    )
    assert "searched in [0.5, 2] by a tree-structured Parzen estimator with a budget of 1 training" in text


def test_compared_losses_are_named_with_their_factors(paragraph, records):
    points = [
        records.point(None, None, 0.5, 0.4, loss="cce"),
        records.point(1.0, 0.5, 0.6, 0.5, settings=()),
    ]
    text = paragraph(points, spec={"losses": ["cce", "lmf"], "settings": [], "grid": []})
    assert "The losses CCE, LMF (α = 1.0, β = 0.5) were each trained with 2 training seeds (23, 24)." in text
    assert "the combination with" not in text
    assert "LMF's α and β were given; no loss was tuned on these data." in text
    tuned = paragraph(points, spec={"losses": ["cce", "lmf"], "factors_from": "skin-small", "settings": [], "grid": []})
    assert "the best of the study skin-small, chosen by validation, while the other losses were not tuned" in tuned
    published = {"losses": ["cce", "lmf"], "factors_from": "Table 6 of the paper", "settings": [], "grid": []}
    assert "LMF's α and β are those of Table 6 of the paper; no loss was tuned" in paragraph(points, spec=published)
    without = paragraph(points[:1], spec={"losses": ["cce"], "settings": [], "grid": []})
    assert "The LMF loss is" not in without


def test_leaks_and_missing_points_are_confessed(paragraph, records):
    leak = {
        "group": "lesion",
        "groups": 9,
        "leaking_groups": 3,
        "leaking_val_groups": 0,
        "test_images": 12,
        "leaking_test_images": 4,
    }
    points = [records.point(1.0, 1.0, 0.5, 0.4), replace(records.point(), state="failed")]
    text = paragraph(points, leakage=(leak,))
    assert "3 lesions leak from training into test" in text
    assert "(1 of 2 trainings complete, 1 failed)" in text


def test_an_old_description_gives_a_paragraph_all_the_same(records):
    study = records.study(spec={})
    assert methods_paragraph(StudyData(study, (), ()), summarize(study)).startswith("Images of skin")


def test_the_paper_is_cited():
    assert "arXiv:2212.12741" in PAPER_CITATION
    assert "2212.12741" in PAPER_BIBTEX


def test_hardware_is_named_where_workers_told_it(records):
    point = records.point(1.0, 1.0, 0.5)
    study = records.study([point], spec=SPEC)
    gpu = Hardware("node1", "gpu", "NVIDIA H100", {"cuda": "12.8"}, frozenset({"node1 cuda:0"}), 1, 20.0)
    data = StudyData(study, (), (records.attempt(point),), hardware=(gpu,))
    text = methods_paragraph(data, summarize(study))
    assert "NVIDIA H100 (CUDA 12.8). It took 0.0 hours in all." in text
    assert "node1" not in text
