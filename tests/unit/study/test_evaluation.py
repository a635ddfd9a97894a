"""`lmf evaluate`: scores on other images, over the classes that are there, and what makes them worth less."""

from __future__ import annotations

import csv
import errno
import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmf_testing.cli import Lmf
from lmf_testing.exported import CLASSES, export_tiny, run_here, write_skin
from lmf_testing.images import folder_dataset, write_picture
from lmf_testing.training import make_data
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, precision_score, recall_score

from study.reporting.resampling import score_interval
from trainer.data.cache import prepare
from trainer.data.fingerprint import content_fingerprint
from trainer.data.image_marks import marks_text
from trainer.data.images import MAX_FILE_BYTES
from trainer.data.splits import Split, split_dataset
from trainer.exported import MARKS_FILE, read_description


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def lmf(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lmf:
    monkeypatch.delenv("LMF_DATA", raising=False)
    monkeypatch.setenv("LMF_HOME", str(tmp_path / "home"))
    return partial(run_here, capfd)


@pytest.fixture
def skin(tmp_path: Path) -> Path:
    return write_skin(tmp_path / "skin")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_tiny(tmp_path_factory.mktemp("evaluate") / "model", make_data())


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def oracle(rows: list[dict[str, str]]) -> dict[str, float]:
    """The scores by scikit-learn, means over classes over those that have images."""
    truth, predicted = [row["class"] for row in rows], [row["predicted"] for row in rows]
    over: dict[str, Any] = {"labels": sorted(set(truth)), "average": "macro", "zero_division": 0}
    return {
        "macro_f1": f1_score(truth, predicted, **over),
        "precision": precision_score(truth, predicted, **over),
        "recall": recall_score(truth, predicted, **over),
        "accuracy": accuracy_score(truth, predicted),
        "balanced_accuracy": recall_score(truth, predicted, **over),
    }


def check(document: dict[str, Any], rows: list[dict[str, str]]) -> None:
    assert document["images"] == len(rows)
    for name, value in oracle(rows).items():
        assert document["scores"][name] == pytest.approx(value), name
        interval = document["intervals"][name]
        assert interval["low"] <= document["scores"][name] <= interval["high"], name
    for one in document["classes"]:
        assert one["images"] == sum(row["class"] == one["name"] for row in rows)
        assert one["predicted"] == sum(row["predicted"] == one["name"] for row in rows)


def test_scores_are_those_of_scikit_learn(lmf: Lmf, model: Path, skin: Path, tmp_path: Path) -> None:
    output = tmp_path / "predictions.csv"
    ran = lmf("evaluate", str(model), f"folder:{skin}", "--json", "--output", str(output))
    assert ran.code == 0, ran.err
    rows = table(output)
    assert [row["image"] for row in rows] == sorted(file.relative_to(skin).as_posix() for file in skin.glob("*/*"))
    assert all(row["class"] == row["labelled"] == row["image"].partition("/")[0] for row in rows)
    check(ran.json, rows)
    truth, predicted = [row["class"] for row in rows], [row["predicted"] for row in rows]
    assert ran.json["scores"]["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert (ran.json["absent_classes"], ran.json["left_out"], ran.json["part"]) == ([], [], None)
    assert not (tmp_path / "home").exists()


def test_means_are_over_the_classes_that_have_images(lmf: Lmf, model: Path, skin: Path, tmp_path: Path) -> None:
    for file in (skin / "df").iterdir():
        file.unlink()
    (skin / "df").rmdir()
    output = tmp_path / "predictions.csv"
    ran = lmf("evaluate", str(model), f"folder:{skin}", "--json", "--output", str(output))
    rows = table(output)
    check(ran.json, rows)
    assert ran.json["absent_classes"] == ["df"]
    absent = ran.json["classes"][0]
    assert (absent["name"], absent["images"], absent["f1"], absent["recall"], absent["auc"]) == (
        "df",
        0,
        None,
        None,
        None,
    )
    present = [one["auc"] for one in ran.json["classes"][1:]]
    assert ran.json["scores"]["macro_auc"] == pytest.approx(sum(present) / 2)

    def plain(confusion: np.ndarray) -> np.ndarray:
        right = np.diagonal(confusion, axis1=-2, axis2=-1)
        f1 = 2 * right / np.maximum(confusion.sum(axis=-1) + confusion.sum(axis=-2), 1)
        return np.asarray(f1[..., 1:].mean(axis=-1))

    truth, predicted = (np.array([CLASSES.index(row[name]) for row in rows]) for name in ("class", "predicted"))
    interval = score_interval(truth, predicted[None], 3, plain)
    assert ran.json["intervals"]["macro_f1"] == pytest.approx({"low": interval.low, "high": interval.high})


def test_classes_that_the_model_does_not_know_are_left_out_or_mapped(
    lmf: Lmf, model: Path, skin: Path, tmp_path: Path
) -> None:
    for number in range(3):
        write_picture(skin / "wart" / f"{number}.png", number)
    (skin / "mel").rename(skin / "MEL")
    output = tmp_path / "predictions.csv"
    ran = lmf("evaluate", str(model), f"folder:{skin}", "--json", "--output", str(output))
    assert ran.json["left_out"] == [{"class": "wart", "images": 3}]
    assert ran.json["images"] == 26
    assert ran.json["classes"][1]["theirs"] == ["MEL"]
    check(ran.json, table(output))
    assert (
        "left out: 3 images of wart, which the model does not know" in lmf("evaluate", str(model), f"folder:{skin}").out
    )
    ran = lmf("evaluate", str(model), f"folder:{skin}", "--json", "--output", str(output), "--map", "wart=nv,MEL=df")
    assert (ran.json["left_out"], ran.json["images"]) == ([], 29)
    assert [one["theirs"] for one in ran.json["classes"]] == [["MEL", "df"], [], ["nv", "wart"]]
    rows = table(output)
    check(ran.json, rows)
    assert {(row["labelled"], row["class"]) for row in rows} == {
        ("MEL", "df"),
        ("df", "df"),
        ("nv", "nv"),
        ("wart", "nv"),
    }


def test_a_dataset_of_unknown_classes_is_refused(lmf: Lmf, model: Path, tmp_path: Path) -> None:
    for name in ("wart", "scar"):
        write_picture(tmp_path / "other" / name / "1.png", 1)
    said = lmf("evaluate", str(model), f"folder:{tmp_path / 'other'}").refusal()
    assert "no image is of a class that the model knows (df, mel, nv); --map THEIRS=OURS says which" in said
    said = lmf("evaluate", str(model), f"folder:{tmp_path / 'other'}", "--map", "wart=x").refusal()
    assert "--map: 'x' is no class of the model, whose classes are df, mel, nv" in said


def test_a_part_is_that_of_the_datasets_split(lmf: Lmf, model: Path, skin: Path, tmp_path: Path) -> None:
    output = tmp_path / "predictions.csv"
    flags = ("--part", "test", "--split-seed", "5", "--json", "--output", str(output))
    ran = lmf("evaluate", str(model), f"folder:{skin}", *flags)
    dataset = folder_dataset(skin)
    expected = [dataset.image_names[index] for index in split_dataset(dataset, 5).test]
    assert [row["image"] for row in table(output)] == expected
    assert (ran.json["part"], ran.json["images"]) == ("test", len(expected))
    said = lmf("evaluate", str(model), f"folder:{skin}", "--split-seed", "5").refusal()
    assert "name it with --part" in said
    for file in list((skin / "df").iterdir())[1:]:
        file.unlink()
    said = lmf("evaluate", str(model), f"folder:{skin}", "--part", "test").refusal()
    assert "--part test: skin cannot be split: each class needs at least 4 images" in said


def test_calibration_is_told_before_and_after_temperature(lmf: Lmf, model: Path, skin: Path, tmp_path: Path) -> None:
    output = tmp_path / "predictions.csv"
    found = lmf("evaluate", str(model), f"folder:{skin}", "--json", "--output", str(output)).json["calibration"]
    rows = table(output)
    raw = lmf("predict", str(model), str(skin), "--raw").out.splitlines()
    assert expected_error(rows) == pytest.approx(found["after"]["ece"], abs=1e-6)
    before = [row | {"class": one["class"]} for row, one in zip(csv.DictReader(raw), rows, strict=True)]
    assert expected_error(before) == pytest.approx(found["before"]["ece"], abs=1e-6)
    assert found["before"]["ece"] != found["after"]["ece"]


def expected_error(rows: list[dict[str, str]]) -> float:
    """The expected calibration error over 15 bins, by a plain loop."""
    total = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = [row for row in rows if low < max(float(row[f"p({name})"]) for name in CLASSES) <= high]
        sure = sum(max(float(row[f"p({name})"]) for name in CLASSES) for row in inside)
        total += abs(sum(row["class"] == row["predicted"] for row in inside) - sure)
    return total / len(rows)


def test_the_models_own_images_are_noticed(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    dataset = folder_dataset(skin)
    fingerprint = content_fingerprint(dataset)
    prepare(dataset, 32, tmp_path / "cache", fingerprint=fingerprint)
    split = Split.from_letters("r" * 18 + "v" * 4 + "t" * 4)
    text = marks_text(tmp_path / "cache", fingerprint, 32, False, split)
    assert text is not None
    origin = {"study": "tiny", "trial": 0, "split": {"seed": 23, "group": "lesion", "file": False}}
    marked = export_tiny(
        tmp_path / "model", make_data(), marks_sha256=hashlib.sha256(text.encode()).hexdigest(), origin=origin
    )
    (marked / MARKS_FILE).write_text(text)
    ran = lmf("evaluate", str(marked), f"folder:{skin}", "--json")
    assert ran.json["own_images"] == {"train": 18, "val": 4, "test": 4}
    assert ran.json["warnings"][0] == (
        "18 of the 26 images were in the model's training: scores on them say nothing of others; "
        "--part test --split-seed 23 --group lesion leaves them out where the dataset is the model's own"
    )
    assert [line.removeprefix("warning: ") for line in ran.err.splitlines()] == ran.json["warnings"]
    others = tmp_path / "others"
    for name in CLASSES:
        write_picture(others / name / "1.png", len(name))
        write_picture(others / name / "2.png", 10 + len(name))
    ran = lmf("evaluate", str(marked), f"folder:{others}", "--json")
    assert (ran.json["own_images"], ran.json["warnings"], ran.err) == ({}, [], "")
    (marked / MARKS_FILE).write_text(text.replace("train", "test"))
    assert "was changed or damaged" in lmf("evaluate", str(marked), f"folder:{skin}").refusal()


def test_without_marks_the_whole_dataset_is_known_by_its_fingerprint(
    lmf: Lmf, model: Path, skin: Path, tmp_path: Path
) -> None:
    ran = lmf("evaluate", str(model), f"folder:{skin}", "--json")
    assert ran.json["own_images"] is None
    assert "could not be told" in ran.json["warnings"][0]
    images = {"train": [4, 6, 8], "val": [1, 1, 2], "test": [1, 1, 2]}
    origin = {"study": "tiny", "images": images, "fingerprint": content_fingerprint(folder_dataset(skin))}
    own = export_tiny(tmp_path / "own", make_data(), origin=origin)
    assert read_description(own).marks_sha256 is None
    ran = lmf("evaluate", str(own), f"folder:{skin}", "--json")
    assert ran.json["own_images"] == {"unknown": 26}
    assert "are those of the model's own study: this is no external validation" in ran.err


def test_images_that_cannot_be_used_are_told_and_the_others_are_scored(
    lmf: Lmf, model: Path, skin: Path, tmp_path: Path
) -> None:
    (skin / "nv" / "nv-03.png").write_bytes(b"")
    (skin / "df" / "df-01.png").write_text("text")
    output = tmp_path / "predictions.csv"
    ran = lmf("evaluate", str(model), f"folder:{skin}", "--json", "--output", str(output), "--batch-size", "4")
    assert ran.code == 1
    assert ran.err.splitlines()[:2] == [
        "lmf: df/df-01.png: is no image of a known format",
        "lmf: nv/nv-03.png: is empty",
    ]
    assert ran.json["failed"] == [
        {"image": "df/df-01.png", "reason": "is no image of a known format"},
        {"image": "nv/nv-03.png", "reason": "is empty"},
    ]
    rows = table(output)
    assert len(rows) == 24
    assert all(row["class"] == row["labelled"] == row["image"].partition("/")[0] for row in rows)
    check(ran.json, rows)
    read = lmf("evaluate", str(model), f"folder:{skin}")
    assert read.code == 1
    assert "left out: 2 images that cannot be used: df/df-01.png, nv/nv-03.png" in read.out
    for file in skin.glob("*/*"):
        file.write_bytes(b"")
    ran = lmf("evaluate", str(model), f"folder:{skin}")
    assert ran.code == 2
    assert ran.err.splitlines()[-1] == "lmf: skin: none of the 26 images can be used; expected image files"


def test_an_own_dataset_with_a_broken_image_is_not_taken_for_whole(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    origin = {"images": {"train": [6, 8, 12]}, "fingerprint": content_fingerprint(folder_dataset(skin))}
    own = export_tiny(tmp_path / "own", make_data(), origin=origin)
    assert lmf("evaluate", str(own), f"folder:{skin}", "--json").json["own_images"] == {"unknown": 26}
    os.truncate(skin / "nv" / "nv-03.png", MAX_FILE_BYTES + 1)
    ran = lmf("evaluate", str(own), f"folder:{skin}", "--json")
    assert (ran.code, ran.json["images"], ran.json["own_images"]) == (1, 25, None)


def test_what_can_be_refused_is_refused_before_anything_is_predicted(
    lmf: Lmf, skin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = export_tiny(tmp_path / "model", make_data(), marks_sha256=hashlib.sha256(b"marks").hexdigest())
    monkeypatch.setattr("study.evaluation.predict_images", lambda *_, **__: pytest.fail("predicted"))
    said = lmf("evaluate", str(marked), f"folder:{skin}").refusal()
    assert f"{MARKS_FILE}: cannot be read: No such file" in said
    (marked / MARKS_FILE).write_text("others")
    assert "was changed or damaged" in lmf("evaluate", str(marked), f"folder:{skin}").refusal()
    (marked / MARKS_FILE).write_text("marks")
    target = skin / "df" / "df-00.png" / "out.csv"
    said = lmf("evaluate", str(marked), f"folder:{skin}", "--output", str(target)).refusal()
    assert said == f"lmf: {target}: cannot be written: Not a directory; --output names another file"


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_scores_are_printed_though_their_file_cannot_be_written(
    lmf: Lmf, model: Path, skin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    whole = lmf("evaluate", str(model), f"folder:{skin}", *flags)

    def fill_disk(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("study.reporting.files.os.replace", fill_disk)
    output = tmp_path / "predictions.csv"
    ran = lmf("evaluate", str(model), f"folder:{skin}", "--output", str(output), *flags)
    assert (ran.code, ran.out) == (2, whole.out)
    assert ran.err.splitlines()[-1] == (
        f"lmf: {output}: cannot be written: No space left on device; --output names another file"
    )
    assert not list(tmp_path.glob("*predictions*"))


def test_a_spreadsheet_computes_no_name(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    odd = export_tiny(tmp_path / "model", make_data(), classes=("=df", "+mel", "@nv"))
    output = tmp_path / "predictions.csv"
    for name, theirs in (("df", "=df"), ("mel", "-mel"), ("nv", "@nv")):
        (skin / name).rename(skin / theirs)
    ran = lmf("evaluate", str(odd), f"folder:{skin}", "--map", "-mel=+mel", "--output", str(output), "--json")
    assert ran.code == 0, ran.err
    first, last = table(output)[0], table(output)[-1]
    assert {row["labelled"] for row in table(output)} == {"'=df", "'-mel", "'@nv"}
    assert {row["class"] for row in table(output)} == {"'=df", "'+mel", "'@nv"}
    assert all(row["predicted"] in ("'=df", "'+mel", "'@nv") for row in (first, last))
    assert all(row["image"].startswith(f"{row['labelled']}/") for row in (first, last))
    assert [one["name"] for one in ran.json["classes"]] == ["=df", "+mel", "@nv"]


def test_what_people_read_has_every_class_as_text(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    odd = export_tiny(tmp_path / "model", make_data(), classes=("[bold]df[/bold]", "mel", "nv"))
    ran = lmf("evaluate", str(odd), f"folder:{skin}", "--map", "df=[bold]df[/bold]")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0] == "study tiny, trial 0 on skin: 26 images of 3 classes"
    for said in (
        "macro F1 %",
        "95 % interval",
        "[bold]df[/bold]",
        "true \\ predicted",
        "calibration before temperature",
    ):
        assert said in ran.out
