"""`lmf gradcam` as a process, on small studies that are trained for it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lmf_testing.cli import Lmf, Ran, run_lmf
from PIL import Image

from storage.artifacts import Artifacts
from storage.database import Database
from study.reporting.cams import CamSheet, read_cams

FIGURES = ("--model", "test_resnet", "--weights", "none", "--image-size", "64", "--epochs", "2", "--lr", "0.003")
MACHINE = ("--threads", "1", "--workers", "1", "--device", "cpu", "--precision", "fp32")

Run = Callable[..., Ran]


def make_skin(root: Path) -> Path:
    """A folder of images of three classes: 64 x 48, each with a coloured spot."""
    random = np.random.default_rng(5)
    for channel, (name, count) in enumerate((("nv", 24), ("mel", 18), ("df", 12))):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 80, (48, 64, 3), np.uint8)
            top, left = random.integers(0, 28), random.integers(0, 40)
            pixels[top : top + 20, left : left + 20, channel] += np.uint8(random.integers(20, 170))
            Image.fromarray(pixels).save(root / name / f"{name}-{number:02}.png")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two trained studies: of alpha = beta, whose weights are all kept, and one without weights."""
    home = tmp_path_factory.mktemp("gradcam") / "home"
    dataset = f"folder:{make_skin(home.parent / 'skin')}"
    for study, grid, kept in (("skin", "0.8,1.0", "all"), ("bare", "1.0", "none")):
        ran = run_lmf(
            home,
            *("run", dataset, "--study", study, "--settings", "joint", "--grid", grid, "--keep-weights", kept),
            *(*FIGURES, *MACHINE),
        )
        assert ran.code == 0, ran.err
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """A copy of that home, where this process's `lmf` finds it."""
    shutil.copytree(trained, tmp_path / "home")
    return tmp_path / "home"


def sheet_of(home: Path, study: str) -> CamSheet | None:
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    try:
        return read_cams(database, Artifacts.open(str(home / "artifacts")), study)
    finally:
        database.close()


def test_a_study_is_explained_kept_checked_and_deleted(home: Path, lmf: Lmf) -> None:
    ran = run_lmf(home, "gradcam", "skin", "--images", "3", "--device", "cpu")
    assert ran.code == 0, ran.err
    assert ran.err == ""
    first, rule, *images, last = ran.out.splitlines()
    assert re.fullmatch(r"skin: LMF \(α = .*\) \(trial \d\).*; layer layer4 \(2 x 2\), predicted class", first)
    assert rule.startswith("Test images were chosen by a rule: ")
    assert len(images) == 3
    sheet = sheet_of(home, "skin")
    assert sheet is not None
    for line, row in zip(images, sheet.rows, strict=True):
        assert re.match(rf"  \d\. {row.image}, {row.truth}: ", line)
        assert line.count("wrong") == sum(not cell.is_right for cell in row.cells)
    # Three pictures of the images and three for each trial, the sheet of all, and a document for each trial.
    trials = len(sheet.columns)
    assert last == f"skin: {3 + 3 * trials + 1 + trials} files kept with its trials; `lmf report` shows them"
    assert "0 errors" in lmf("db", "check").out
    assert lmf("study", "delete", "skin", "--yes").code == 0
    assert lmf("study", "delete", "bare", "--yes").code == 0
    assert list((home / "artifacts").iterdir()) == []


def test_boxes_layer_and_class_are_taken_as_asked(home: Path, lmf: Lmf, tmp_path: Path) -> None:
    assert lmf("gradcam", "skin", "--images", "1", "--device", "cpu").code == 0
    before = sheet_of(home, "skin")
    assert before is not None
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"image,x,y,width,height,label\n{before.rows[0].image},16,12,32,24,spot\nnobody.png,1,1,9,9,\n")
    asked = ("--images", "1", "--boxes", str(boxes), "--layer", "layer3", "--class", "true", "--device", "cpu")
    ran = lmf("gradcam", "skin", *asked)
    assert ran.code == 0
    assert ran.err.splitlines() == ["skin: --boxes names images that it does not have: nobody.png"]
    assert ", boxes: 1: " in ran.out
    after = sheet_of(home, "skin")
    assert after is not None
    assert (after.layer, after.explains, after.places) == ("layer3", "true", (4, 4))
    boxes.write_text("image,x,y,width,height\n" + "".join(f"nv/nv-{number:02},1,1,9,9\n" for number in range(24)))
    told = lmf("gradcam", "skin", *asked).err.splitlines()
    assert re.fullmatch(r"skin: not shown, since they are no test images: \d+ images with boxes", told[0])
    assert re.fullmatch(r"skin: not shown: \d+ test images? with boxes; raise --images \(at most 50\)", told[1])
    assert len(told) == 2
    (box,) = after.rows[0].boxes
    assert (box.x, box.y, box.width, box.height, box.label) == (0.25, 0.25, 0.5, 0.5, "spot")


def test_where_none_is_named_studies_without_weights_are_passed_over(home: Path, lmf: Lmf) -> None:
    ran = lmf("gradcam", "--images", "1", "--device", "cpu")
    assert ran.code == 0
    assert ran.err.startswith("passed over bare: the weights of no trial of the study are kept; ")
    assert sheet_of(home, "skin") is not None
    assert sheet_of(home, "bare") is None


def test_what_cannot_be_done_is_refused_in_one_line(home: Path, lmf: Lmf, tmp_path: Path) -> None:
    bad = tmp_path / "boxes.csv"
    bad.write_text("image,x,y,width,height\na,1,2,3,zero\n")
    cases = {
        ("gradcam", "bare"): "bare: the weights of no trial of the study are kept; Grad-CAM needs the weights: ",
        ("gradcam", "other"): "no study named other",
        ("gradcam", "skin", "--layer", "layer9"): "--layer: the model has no layer 'layer9'; those with a map, ",
        ("gradcam", "skin", "--boxes", str(bad)): f"--boxes: {bad} line 2: height is 'zero'; expected a number above 0",
        ("gradcam", "skin", "--boxes", str(tmp_path / "none.csv")): "none.csv: No such file or directory",
        ("gradcam", "skin", "--images", "0"): "0 is not in the range 1<=x<=50",
        ("gradcam", "skin", "--class", "both"): "'both' is not one of 'predicted', 'true'",
        ("gradcam", "skin", "--device", "cuda:77"): "--device: cuda:77 is not here",
    }
    for arguments, reason in cases.items():
        assert reason in lmf(*arguments, *(() if "--device" in arguments else ("--device", "cpu"))).refusal()
    assert sheet_of(home, "skin") is None


def test_without_captum_the_command_to_install_it_is_told(home: Path, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "captum.py").write_text("raise ImportError('no captum here')\n")
    ran = run_lmf(home, "gradcam", "skin", "--device", "cpu", changes={"PYTHONPATH": str(tmp_path / "without")})
    assert ran.refusal().endswith("(no captum here); install it with: pip install 'lmf[gradcam]'")
