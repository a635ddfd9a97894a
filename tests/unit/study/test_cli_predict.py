"""`lmf predict`: a table or a document of what a model says of images, and what it says of those that are none."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lmf_testing.cli import Lmf
from lmf_testing.exported import export_tiny, run_here, write_skin
from lmf_testing.images import write_broken_files
from lmf_testing.training import CPU, make_data
from PIL import Image

from trainer.data.images import decode_image
from trainer.inference import open_model


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def lmf(capfd: pytest.CaptureFixture[str]) -> Lmf:
    return partial(run_here, capfd)


@pytest.fixture
def skin(tmp_path: Path) -> Path:
    return write_skin(tmp_path / "skin")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_tiny(tmp_path_factory.mktemp("predict") / "model", make_data())


@pytest.fixture(scope="module")
def uncalibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_tiny(tmp_path_factory.mktemp("predict") / "model", make_data(), temperature=None)


def expected(model: Path, *files: Path) -> tuple[np.ndarray, np.ndarray]:
    """Raw and calibrated probabilities of images, decoded as for training."""
    raw, calibrated = open_model(model, CPU).predict(np.stack([decode_image(f.read_bytes(), 32) for f in files]))
    assert calibrated is not None
    return raw, calibrated


def test_a_folder_gives_a_row_for_each_image(lmf: Lmf, model: Path, skin: Path) -> None:
    (skin / ".hidden.png").write_bytes(b"")
    ran = lmf("predict", str(model), str(skin))
    assert ran.code == 0, ran.err
    rows = list(csv.DictReader(ran.out.splitlines()))
    files = sorted(skin.glob("*/*.png"))
    assert [row["image"] for row in rows] == [str(file) for file in files]
    assert list(rows[0]) == ["image", "predicted", "p(df)", "p(mel)", "p(nv)"]
    for row in rows:
        shares = [float(row[f"p({name})"]) for name in ("df", "mel", "nv")]
        assert sum(shares) == pytest.approx(1, abs=1e-6)
        assert row["predicted"] == ("df", "mel", "nv")[int(np.argmax(shares))]


def test_probabilities_are_calibrated_unless_raw(lmf: Lmf, model: Path, skin: Path) -> None:
    file = skin / "nv" / "nv-00.png"
    raw, calibrated = expected(model, file)
    for flags, wanted in (((), calibrated), (("--raw",), raw)):
        ran = lmf("predict", str(model), str(file), "--json", *flags)
        assert ran.json["calibrated"] is not bool(flags)
        (one,) = ran.json["predictions"]
        assert list(one["probabilities"]) == ["df", "mel", "nv"]
        assert list(one["probabilities"].values()) == pytest.approx(wanted[0].tolist(), abs=1e-7)
        assert one["predicted"] == ("df", "mel", "nv")[int(raw[0].argmax())]
        assert ran.json["temperature"] == 0.5
        assert (ran.json["study"], ran.json["failed"]) == ("tiny", [])


def test_the_most_probable_classes_come_first(lmf: Lmf, model: Path, skin: Path) -> None:
    file = skin / "mel" / "mel-03.png"
    _, calibrated = expected(model, file)
    order = np.argsort(-calibrated[0])[:2]
    names = [("df", "mel", "nv")[index] for index in order]
    row = next(csv.DictReader(lmf("predict", str(model), str(file), "--top", "2").out.splitlines()))
    assert list(row) == ["image", "predicted", "class 1", "p 1", "class 2", "p 2"]
    assert [row["class 1"], row["class 2"]] == names
    assert [float(row["p 1"]), float(row["p 2"])] == pytest.approx(calibrated[0][order].tolist(), abs=1e-6)
    document = lmf("predict", str(model), str(file), "--top", "2", "--json").json
    assert list(document["predictions"][0]["probabilities"]) == names
    assert "--top: 4 is more than the 3 classes" in lmf("predict", str(model), str(file), "--top", "4").refusal()


def test_bad_images_are_told_one_a_line_and_the_rest_is_predicted(
    lmf: Lmf, model: Path, skin: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    said = write_broken_files(broken)
    missing = tmp_path / "missing.png"
    ran = lmf("predict", str(model), str(broken), str(missing), str(skin / "df"))
    assert ran.code == 1
    lines = ran.err.splitlines()
    assert len(lines) == len(said) + 1
    for name, reason in said.items():
        assert any(line.startswith(f"lmf: {broken / name}: {reason}") for line in lines), name
    assert f"lmf: {missing}: cannot be read: No such file or directory" in lines
    assert len(list(csv.DictReader(ran.out.splitlines()))) == 6
    document = lmf("predict", str(model), str(missing), str(skin / "df"), "--json").json
    assert document["failed"] == [{"image": str(missing), "reason": "cannot be read: No such file or directory"}]


def test_nothing_usable_is_a_wrong_request(lmf: Lmf, model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    ran = lmf("predict", str(model), str(tmp_path / "text.png"))
    assert ran.code == 2
    assert ran.err.splitlines()[1:] == ["lmf: no image can be used; expected image files, or folders of them"]
    assert "holds no image" in lmf("predict", str(model), str(tmp_path / "empty")).refusal()
    assert "there is no such folder" in lmf("predict", str(tmp_path / "none"), str(tmp_path)).refusal()
    assert "--device: cuda:9 is not here" in lmf("predict", str(model), "x.png", "--device", "cuda:9").refusal()


def test_an_empty_path_is_not_this_folder(lmf: Lmf, model: Path, skin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(skin / "df")
    said = lmf("predict", str(model), "df-00.png", "").refusal()
    assert said == "lmf: IMAGES: one is an empty path; expected image files, or folders of them (. is this folder)"
    assert lmf("predict", str(model), ".").code == 0


def test_links_to_folders_are_refused(lmf: Lmf, model: Path, skin: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (skin / "link").symlink_to(tmp_path / "other")
    assert "links to folders are not followed: link" in lmf("predict", str(model), str(skin)).refusal()


def test_an_image_that_is_named_twice_is_predicted_once(lmf: Lmf, model: Path, skin: Path) -> None:
    file = str(skin / "df" / "df-00.png")
    ran = lmf("predict", str(model), file, str(skin / "df"), file)
    assert [row["image"] for row in csv.DictReader(ran.out.splitlines())].count(file) == 1


def test_output_goes_to_a_file_whole(lmf: Lmf, model: Path, skin: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "predictions.csv"
    ran = lmf("predict", str(model), str(skin / "df"), "--output", str(target))
    assert (ran.code, ran.out) == (0, "")
    assert target.read_text() == lmf("predict", str(model), str(skin / "df")).out
    lmf("predict", str(model), str(skin / "df"), "--output", str(target), "--json")
    assert json.loads(target.read_text()) == lmf("predict", str(model), str(skin / "df"), "--json").json
    assert not list(target.parent.glob(".*"))


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_predicted(
    lmf: Lmf, model: Path, skin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("study.predicting.predict_images", lambda *_, **__: pytest.fail("predicted"))
    file = skin / "df" / "df-00.png"
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for target, reason in (
        (file / "out.csv", "cannot be written: Not a directory"),
        (tmp_path / f"{'x' * 300}.csv", "cannot be written: File name too long"),
        (tmp_path / "nowhere" / "out.csv", f"cannot be written: {tmp_path / 'nowhere'} is no folder"),
        (Path("/dev/null"), "is not a file that can be replaced"),
    ):
        said = lmf("predict", str(model), str(file), "--output", str(target)).refusal()
        assert said == f"lmf: {target}: {reason}; --output names another file"
    monkeypatch.setattr("study.cli.predict.os.access", lambda place, _: Path(place) != tmp_path)
    said = lmf("predict", str(model), str(file), "--output", str(tmp_path / "new" / "out.csv")).refusal()
    assert f"cannot be written: no right to write in {tmp_path}; --output names another file" in said
    assert not (tmp_path / "new").exists()


def test_batches_and_threads_change_no_more_than_the_last_digits(lmf: Lmf, model: Path, skin: Path) -> None:
    whole = lmf("predict", str(model), str(skin), "--json").json["predictions"]
    by_one = lmf("predict", str(model), str(skin), "--json", "--batch-size", "1", "--threads", "2").json["predictions"]
    for one, other in zip(whole, by_one, strict=True):
        assert list(one["probabilities"].values()) == pytest.approx(list(other["probabilities"].values()), abs=1e-6)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_a_model_without_temperature_says_so(lmf: Lmf, uncalibrated: Path, skin: Path) -> None:
    ran = lmf("predict", str(uncalibrated), str(skin / "df"), "--json")
    assert ran.json["calibrated"] is False
    assert ran.err == "note: the model has no temperature; these are the network's own probabilities\n"
    assert lmf("predict", str(uncalibrated), str(skin / "df"), "--raw").err == ""


def test_hostile_names_stay_text(lmf: Lmf, model: Path, tmp_path: Path) -> None:
    name = 'a "b",\n<script>.png'
    Image.new("L", (9, 9), 80).save(tmp_path / name)
    rows = list(csv.DictReader(lmf("predict", str(model), str(tmp_path / name)).out.splitlines(keepends=True)))
    assert [row["image"] for row in rows] == [str(tmp_path / name)]


def test_a_spreadsheet_computes_no_name(lmf: Lmf, skin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = export_tiny(tmp_path / "odd", make_data(), classes=("=df", "+mel", "@nv"))
    (skin / "df" / "df-00.png").rename(skin / "=cmd|x.png")
    monkeypatch.chdir(skin)
    (row,) = csv.DictReader(lmf("predict", str(odd), "=cmd|x.png").out.splitlines())
    assert (row["image"], row["predicted"][:2]) == ("'=cmd|x.png", f"'{row['predicted'][1]}")
    assert row["predicted"][1:] in ("=df", "+mel", "@nv")
    (row,) = csv.DictReader(lmf("predict", str(odd), "=cmd|x.png", "--top", "2").out.splitlines())
    for name in ("class 1", "class 2"):
        assert row[name][0] == "'"
        assert row[name][1:] in ("=df", "+mel", "@nv")
    (one,) = lmf("predict", str(odd), "=cmd|x.png", "--json").json["predictions"]
    assert one["image"] == "=cmd|x.png"
    assert list(one["probabilities"]) == ["=df", "+mel", "@nv"]


def test_other_library_versions_are_told(lmf: Lmf, skin: Path, tmp_path: Path) -> None:
    old = export_tiny(tmp_path / "model", make_data(), origin={"versions": {"torch": "1.2.3"}})
    ran = lmf("predict", str(old), str(skin / "df"))
    assert ran.code == 0
    assert ran.err.startswith(f"note: it was trained with torch 1.2.3, here {torch.__version__.partition('+')[0][:3]}")
