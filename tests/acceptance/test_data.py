"""`lmf data`, and what a run makes of datasets: the paper's split, leaks, broken files, the decoded cache."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lmf_testing.cli import Lmf, run_lmf
from PIL import Image

from study.reporting.leakage import leakage_line, leakage_sentence

SHORT = ("--model", "test_efficientnet", "--weights", "none", "--image-size", "32", "--epochs", "1", "--workers", "1")
ONE_POINT = ("--settings", "joint", "--grid", "1")
SHOW_KEYS = {"dataset", "images", "classes", "groups", "leaking_groups", "fingerprint", "split_fingerprint"}
REAL = {
    "ham10000": ("HAM10000", 1200, 7, 1200),
    "isic2019": ("ISIC-2019", 701, 8, 701),
    "odir5k": ("ODIR-5K", 720, 8, 379),
}


@pytest.fixture
def lesions(skin: Path) -> Path:
    """A table of the skin images in which three lesions of each class have two images and the others one."""
    with (skin / "skin.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "lesion_id"])
        for path in sorted(skin.glob("*/*.png")):
            number = int(path.stem[-2:])
            writer.writerow([f"{path.parent.name}/{path.name}", path.parent.name, f"{path.parent.name}-{number // 2}"])
    return skin / "skin.csv"


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """A folder of images for each of three classes, with nothing wrong."""
    folder = tmp_path / "large"
    for label, name in enumerate(("nv", "df", "mel")):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(100 * label + number).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(
                folder / name / f"{name}-{number:02}.png"
            )
    return folder


def leaking(rows: list[tuple[str, str]]) -> tuple[int, int]:
    """Groups that are in training and test, and test images of them, from rows of group and part."""
    parts: dict[str, list[str]] = defaultdict(list)
    for group, part in rows:
        parts[group].append(part)
    both = [found for found in parts.values() if "train" in found and "test" in found]
    return len(both), sum(found.count("test") for found in both)


def test_the_list_names_licence_source_and_download(lmf: Lmf) -> None:
    names = ["covid19-radiography", "digits-lt", "ham10000", "isic2019", "medmnist:NAME", "odir5k", "csv:PATH"]
    listed = lmf("data", "list", "--json").json["datasets"]
    assert [item["dataset"] for item in listed] == [*names, "folder:PATH"]
    assert all(item["licence"] and item["origin"] and item["download"] for item in listed)
    text = lmf("data", "list").out
    assert all(item["licence"] in text and item["download"] in text for item in listed)


@pytest.mark.parametrize(
    ("dataset", "paper"), [("ham10000", "HAM-10K"), ("isic2019", "ISIC-2019"), ("odir5k", "ODIR-5K")]
)
def test_label_tables_alone_give_the_papers_split(lmf: Lmf, test_data: Path, dataset: str, paper: str) -> None:
    shown = lmf("data", "show", dataset, "--data", str(test_data / "data" / "metadata"), "--no-images", "--json").json
    with (test_data / "paper" / "table5.csv").open(newline="") as file:
        expected = {row["class"]: int(row["train_samples"]) for row in csv.DictReader(file) if row["dataset"] == paper}
    assert {item["name"]: item["train"] for item in shown["classes"]} == expected
    assert set(shown) >= SHOW_KEYS
    assert shown["fingerprint"] is None
    assert all(item["total"] == item["train"] + item["val"] + item["test"] for item in shown["classes"])


def test_lesions_of_ham10000_leak_unless_they_are_kept_whole(lmf: Lmf, test_data: Path, tmp_path: Path) -> None:
    show = ("data", "show", "ham10000", "--data", str(test_data / "data" / "metadata"), "--no-images")
    shown = lmf(*show, "--json", "--save-split", str(tmp_path / "split.csv")).json
    import gzip

    with gzip.open(test_data / "data" / "metadata" / "HAM10000_metadata.csv.gz", "rt") as file:
        lesion_of = {row["image_id"]: row["lesion_id"] for row in csv.DictReader(file)}
    with (tmp_path / "split.csv").open(newline="") as file:
        rows = [(lesion_of[row["image"]], row["split"]) for row in csv.DictReader(file)]
    groups, images = leaking(rows)
    assert groups > 100
    assert (shown["groups"], shown["leaking_groups"]) == (7470, groups)
    assert shown["leakage"][0]["leaking_test_images"] == images
    assert f"{groups} lesions" in lmf(*show).out
    whole = lmf(*show, "--group", "lesion", "--json").json
    assert (whole["groups"], whole["leaking_groups"], whole["group"]) == (7470, 0, "lesion")
    assert sum(item["test"] for item in whole["classes"]) == pytest.approx(1502, abs=2)
    again = lmf(*show, "--split-file", str(tmp_path / "split.csv"), "--json").json
    assert again["split_fingerprint"] == shown["split_fingerprint"]
    other = lmf(*show, "--split-seed", "24", "--json").json
    assert other["split_fingerprint"] != shown["split_fingerprint"]
    assert other["classes"] == shown["classes"]


@pytest.mark.parametrize("dataset", REAL)
def test_real_images_are_shown(lmf: Lmf, test_data: Path, dataset: str) -> None:
    folder, images, classes, groups = REAL[dataset]
    show = ("data", "show", dataset, "--data", str(test_data / "data" / "images" / folder), "--json")
    shown = lmf(*show).json
    assert (shown["images"], len(shown["classes"]), shown["groups"]) == (images, classes, groups)
    assert len(shown["fingerprint"]) == 64
    bare = lmf(*show, "--no-images").json
    assert (bare["fingerprint"], bare["split_fingerprint"]) == (None, shown["split_fingerprint"])


def test_classes_without_images_are_shown_and_told_but_not_trained(lmf: Lmf, test_data: Path) -> None:
    data = ("covid19-radiography", "--data", str(test_data / "data" / "images" / "COVID-19_Radiography_Dataset"))
    shown = lmf("data", "show", *data, "--json").json
    assert [item["total"] for item in shown["classes"]] == [84, 0, 236, 0]
    assert [item["train"] for item in shown["classes"]] == [58, 0, 166, 0]
    assert "no image of: Lung_Opacity, Viral Pneumonia" in lmf("data", "show", *data).out
    checked = lmf("data", "check", *data, "--json").json
    assert checked["counts"]["empty class"] == 2
    assert lmf("data", "check", *data, "--strict").code == 1
    said = lmf("run", *data, *SHORT, "--dry-run").refusal()
    assert "Lung_Opacity" in said
    assert "Viral Pneumonia" in said
    assert said.endswith("--drop-empty leaves such classes out")
    assert lmf("run", *data, *SHORT, "--dry-run", "--drop-empty").code == 0


def test_too_few_images_for_a_split_are_shown_all_the_same(lmf: Lmf, test_data: Path) -> None:
    folder = test_data / "data" / "images" / "COVID-19_Radiography_Dataset_one_per_class"
    shown = lmf("data", "show", "covid19-radiography", "--data", str(folder), "--json").json
    assert [(item["total"], item["train"]) for item in shown["classes"]] == [(1, None)] * 4
    assert shown["split_fingerprint"] is None
    text = lmf("data", "show", "covid19-radiography", "--data", str(folder)).out
    assert "no split: each class needs at least 4 images" in text


def test_a_clean_dataset_has_no_finding(lmf: Lmf, clean: Path) -> None:
    done = lmf("data", "check", f"folder:{clean}", "--strict")
    assert (done.code, "nothing found" in done.out) == (0, True)
    assert lmf("data", "check", f"folder:{clean}", "--strict", "--json").json["findings"] == []


def truncate(skin: Path) -> str:
    path = skin / "mel" / "mel-03.png"
    path.write_bytes(path.read_bytes()[:-200])
    return "mel/mel-03.png"


def repeat(skin: Path) -> str:
    (skin / "nv" / "again.png").write_bytes((skin / "nv" / "nv-01.png").read_bytes())
    return "nv/again.png"


def relabel(skin: Path) -> str:
    (skin / "df" / "again.png").write_bytes((skin / "nv" / "nv-01.png").read_bytes())
    return "df/again.png"


def blank(skin: Path) -> str:
    Image.new("RGB", (64, 64), (7, 7, 7)).save(skin / "df" / "blank.png")
    return "df/blank.png"


def shrink(skin: Path) -> str:
    Image.effect_noise((9, 9), 80).convert("RGB").save(skin / "df" / "tiny.png")
    return "df/tiny.png"


def misplace(skin: Path) -> str:
    (skin / "nv" / "nv-01.png").rename(skin / "stray.png")
    return "stray.png"


@pytest.mark.parametrize(
    ("damage", "kind", "severity"),
    [
        (truncate, "truncated", "error"),
        (repeat, "duplicate", "warning"),
        (relabel, "label conflict", "warning"),
        (blank, "blank", "warning"),
        (shrink, "tiny", "warning"),
        (misplace, "image without class", "warning"),
    ],
)
def test_each_fault_is_found_and_named(
    lmf: Lmf, clean: Path, damage: Callable[[Path], str], kind: str, severity: str
) -> None:
    name = damage(clean)
    found = lmf("data", "check", f"folder:{clean}", "--json").json["findings"]
    assert [(item["kind"], item["severity"]) for item in found if name in item["images"]] == [(kind, severity)]
    assert name in next(item["message"] for item in found if name in item["images"])
    done = lmf("data", "check", f"folder:{clean}", "--strict")
    assert (done.code, kind in done.out) == (1, True)
    assert lmf("data", "check", f"folder:{clean}").code == 0


def test_rows_without_an_image_and_images_without_a_row(lmf: Lmf, skin: Path, lesions: Path) -> None:
    (skin / "nv" / "nv-00.png").rename(skin / "nv" / "other.png")
    found = lmf("data", "check", f"csv:{lesions}", "--json").json["findings"]
    kinds = {item["kind"]: item["message"] for item in found}
    assert "skin.csv line 16: no image nv/nv-00.png" in kinds["row without image"]
    assert "nv/other.png is in no row" in kinds["image without row"]
    assert "line 16" in lmf("run", f"csv:{lesions}", *SHORT, "--dry-run").refusal()


def test_the_figure_of_classes_is_written(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    done = lmf("data", "show", f"folder:{skin}", "--plot", str(tmp_path / "classes.html"))
    assert f"written: {tmp_path / 'classes.html'}" in done.out
    assert "plotly" in (tmp_path / "classes.html").read_text().lower()
    assert ".svg" in lmf("data", "show", f"folder:{skin}", "--plot", str(tmp_path / "classes.gif")).refusal()
    assert not (tmp_path / "classes.gif").exists()


def test_images_are_prepared_once_and_cleaned_when_no_study_needs_them(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    cache = tmp_path / "home" / "cache"
    data = (f"folder:{skin}", "--image-size", "32")
    assert "26 images at 32 x 32" in lmf("data", "prepare", *data).out
    files = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}
    assert len(files) == 1
    lmf("data", "prepare", *data)
    assert run_lmf(tmp_path / "home", "run", f"folder:{skin}", *SHORT, *ONE_POINT).code == 0
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")} == files
    lmf("data", "prepare", *data, "--exact")
    lmf("data", "prepare", f"folder:{skin}", "--image-size", "48")
    assert len(list(cache.rglob("*.npy"))) == 3
    assert "would remove" in lmf("data", "prepare", "--clean", "--dry-run").out
    assert len(list(cache.rglob("*.npy"))) == 3
    lmf("data", "prepare", f"folder:{skin}", "--image-size", "48", "--clean")
    assert len(list(cache.rglob("*.npy"))) == 2
    assert "removed: " in lmf("data", "prepare", "--clean").out
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")} == files


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "ham"), "unknown dataset 'ham'; known are"),
        (("show", "ham10000"), "ham10000: nothing says where the data is; add --data DIR"),
        (("show", "ham10000", "--data", "{tmp}"), "neither HAM10000_metadata.csv nor GroundTruth.csv is below it"),
        (("show", "ham10000", "--data", "{tmp}/gone"), "No such file or directory"),
        (("check", "digits-lt", "--group", "writer"), "--group writer: digits-lt has no groups"),
        (("check", "folder:{skin}", "--split-file", "x.csv", "--group", "y"), "--split-file: cannot go with --group"),
        (("show", "folder:{skin}", "--split-file", "{tmp}/x.csv"), "x.csv: No such file or directory"),
        (("show", "folder:{skin}", "--split-seed", "-1"), "--split-seed"),
        (("prepare",), "Missing argument 'DATASET'"),
        (("prepare", "folder:{skin}", "--image-size", "8"), "--image-size"),
        (("prepare", "folder:{skin}", "--dry-run"), "--dry-run: goes with --clean only"),
    ],
)
def test_bad_requests_are_refused(lmf: Lmf, skin: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in lmf("data", *(word.format(tmp=tmp_path, skin=skin) for word in arguments)).refusal()
    assert not (tmp_path / "home").exists()


def test_showing_and_checking_leave_nothing_behind(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    for command in ("show", "check"):
        assert lmf("data", command, f"folder:{skin}").code == 0
    assert not (tmp_path / "home").exists()


def test_leaks_are_told_wherever_scores_are(lmf: Lmf, lesions: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    data = ("run", f"csv:{lesions}", *SHORT, *ONE_POINT)
    ran = run_lmf(home, *data)
    assert ran.code == 0, ran.err
    shown = lmf("data", "show", f"csv:{lesions}", "--json").json
    count = shown["leaking_groups"]
    assert count > 0
    text = leakage_sentence(shown["leakage"])
    assert f"{count} lesion" in text
    assert ran.out.count(text) == 2, "when it is planned, and beside the scores"
    assert text in lmf("status").out
    assert lmf("status", "--json").json["studies"][0]["leakage"] == shown["leakage"]
    assert lmf("export").json["studies"][0]["leakage"] == shown["leakage"]
    (report,) = (home / "reports").glob("*.html")
    assert text in report.read_text()
    assert report.read_text().count(leakage_line(shown["leakage"])) >= 3
    lmf("report", "--csv")
    for sheet in (home / "reports").glob("*.csv"):
        if not sheet.name.endswith("epochs.csv"):
            with sheet.open(newline="") as file:
                assert {row["leaking_test_groups"] for row in csv.DictReader(file)} == {str(count)}
    whole = run_lmf(home, *data, "--group", "lesion", "--study", "whole")
    assert whole.code == 0, whole.err
    assert "No lesion is in both training and test" in whole.out
    assert len(list((home / "cache").rglob("*.npy"))) == 1, "another split decodes nothing again"


def test_a_split_file_is_needed_for_planning_only(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    home, split = tmp_path / "home", tmp_path / "split.csv"
    lmf("data", "show", f"folder:{skin}", "--split-seed", "5", "--save-split", str(split))
    data = ("run", f"folder:{skin}", *SHORT, *ONE_POINT)
    planned = run_lmf(home, *data, "--split-file", str(split))
    assert planned.code == 0, planned.err
    again = run_lmf(home, *data, "--split-seed", "5", "--study", "seeded")
    assert again.code == 0, again.err
    first, second = (best["test_f1_per_class"] for best in _bests(lmf))
    assert first == second
    rows = split.read_text().splitlines()
    split.write_text("\n".join([rows[0], *(row.replace("test", "val?") for row in rows[1:])]))
    assert "is no part" in lmf(*data, "--split-file", str(split)).refusal()
    split.write_text(
        "\n".join(rows).replace("train", "@").replace("test", "train", 1).replace("@", "test", 1).replace("@", "train")
    )
    assert "split in another way" in lmf(*data, "--split-file", str(split)).refusal()


def _bests(lmf: Lmf) -> list[dict[str, Any]]:
    return [study["best"] for study in json.loads(lmf("export").out)["studies"]]
