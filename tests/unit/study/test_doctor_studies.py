"""What the doctor says of studies: their versions, images and weights."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lmf_testing.images import write_classes
from lmf_testing.real import home_of, plan_real, short_spec

from storage.database import Database
from storage.queries import StudyRecord, read_study
from study.doctor.diagnosis import Level
from study.doctor.studies import ask_hub, check_data, check_study, check_weights
from study.home import Home
from study.spec import StudySpec
from study.spec_input import build_study
from trainer.data.cache import prepared_folder
from trainer.data.cache_folder import IMAGES

OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMF_DATA", raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_of(tmp_path / "home", f"sqlite:///{tmp_path / 'lmf.db'}")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "planned" / "skin", {"mel": 4, "nv": 6})


def plan(home: Home, spec: StudySpec) -> StudyRecord:
    plan_real(home, spec)
    database = Database.open(home.storage_url)
    try:
        return read_study(database, spec.name)
    finally:
        database.close()


@pytest.fixture
def record(home: Home, images: Path) -> StudyRecord:
    """A planned study of a folder of images, which are decoded."""
    flags: dict[str, Any] = {
        "study": "skin",
        "epochs": 1,
        "image_size": 16,
        "threads": 1,
        "grid": "1.0",
        "precision": "fp32",
    }
    spec, _ = build_study(f"folder:{images}", flags, resolve_model=lambda name: name)
    return plan(home, spec)


def test_a_study_whose_images_are_decoded_is_fine(home: Home, record: StudyRecord, images: Path) -> None:
    shutil.rmtree(images)
    (found,) = check_study(record, home)
    assert (found.check, found.level) == ("study skin", Level.OK)
    assert found.found == "1 of 1 points left; its images are decoded here"


def test_images_that_are_where_they_were_planned_are_fine(home: Home, record: StudyRecord, images: Path) -> None:
    shutil.rmtree(home.cache)
    (found,) = check_study(record, home)
    assert found.level == Level.OK
    assert found.found.endswith(f"the first worker here decodes its images, from {images}")


def test_images_that_lie_elsewhere_are_found_by_the_variable(
    home: Home, record: StudyRecord, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(home.cache)
    moved = tmp_path / "here" / "skin"
    moved.parent.mkdir()
    images.rename(moved)
    (missing,) = check_study(record, home)
    assert missing.level == Level.WARNING
    assert f"neither decoded here nor at {images}" in missing.found
    assert "workers here skip this study" in missing.advice
    monkeypatch.setenv("LMF_DATA", str(moved.parent))
    (found,) = check_study(record, home)
    assert found.level == Level.OK
    assert found.found.endswith(f"from {moved}")


def test_damaged_images_are_told(home: Home, record: StudyRecord, images: Path) -> None:
    folder = prepared_folder(home.cache, record.fingerprint, 16)
    with (folder / IMAGES).open("r+b") as file:
        file.truncate(100)
    (found,) = check_study(record, home)
    assert found.found.endswith(f"from {images}; {folder} is damaged")


def test_images_that_come_from_no_folder_are_fine(home: Home) -> None:
    record = plan(home, short_spec())
    shutil.rmtree(home.cache)
    (found,) = check_study(record, home)
    assert (found.level, found.found) == (Level.OK, "31 of 31 points left; the first worker here makes its images")


def test_a_study_of_another_version_is_warned_of(home: Home, record: StudyRecord) -> None:
    planned = record.spec["versions"] | {"torch": "1.13.1"}
    (found,) = check_study(replace(record, spec=record.spec | {"versions": planned}), home)
    assert (found.check, found.level) == ("study skin", Level.WARNING)
    assert found.found.startswith("torch 1.13.1 planned, ")
    assert found.advice.endswith("workers here refuse this study")
    (unknown,) = check_study(replace(record, spec=record.spec | {"colour": 1}), home)
    assert unknown.level == Level.WARNING
    assert "colour is unknown" in unknown.found


def test_the_folders_of_data_are_looked_at(tmp_path: Path) -> None:
    (none,) = check_data({})
    assert none.level == Level.OK
    both = check_data({"LMF_DATA": f"{tmp_path}:{tmp_path / 'away'}"})
    assert [(found.level, found.found) for found in both] == [
        (Level.OK, str(tmp_path)),
        (Level.PROBLEM, f"{tmp_path / 'away'} is not there"),
    ]


def test_a_folder_of_data_that_cannot_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    (found,) = check_data({"LMF_DATA": str(tmp_path)})
    assert (found.level, found.found) == (Level.PROBLEM, f"{tmp_path} cannot be read")


@pytest.fixture
def hub() -> Iterator[str]:
    """A hub that answers, if only that there is no such page."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_hub_is_asked_whether_it_answers(hub: str) -> None:
    assert ask_hub({"HF_ENDPOINT": hub}) is None
    assert ask_hub({"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "true"}) == "HF_HUB_OFFLINE is set"
    assert "refused" in str(ask_hub({"HF_ENDPOINT": "http://127.0.0.1:1"}))
    assert "unknown url type" in str(ask_hub({"HF_ENDPOINT": "nowhere"}))


def put_weights(home: Home, name: str) -> None:
    home.weights.mkdir(parents=True, exist_ok=True)
    (home.weights / f"{name}.safetensors").write_bytes(b"x")


def needing(record: StudyRecord, weights: str, model: str = "resnet50") -> StudyRecord:
    return replace(record, model=model, spec=record.spec | {"recipe": record.spec["recipe"] | {"weights": weights}})


def test_weights_that_a_study_needs_are_here_or_at_the_hub(home: Home, record: StudyRecord, hub: str) -> None:
    (none,) = check_weights(home, (), OFFLINE)
    assert (none.level, "lmf model fetch MODEL" in none.advice) == (Level.WARNING, True)
    study = needing(record, "hub")
    put_weights(home, "other.in1k")
    (missing,) = check_weights(home, (study,), OFFLINE)
    assert (missing.level, "lmf model fetch resnet50" in missing.advice) == (Level.WARNING, True)
    (reached,) = check_weights(home, (study,), {"HF_ENDPOINT": hub})
    assert (reached.level, reached.found.endswith("the hub can be reached")) == (Level.OK, True)
    # The alias stands for timm's name with its tag.
    put_weights(home, "resnet50.tv2_in1k")
    (here,) = check_weights(home, (study, needing(record, "none", "densenet121")), OFFLINE)
    assert here.level == Level.OK
    assert "(other.in1k, resnet50.tv2_in1k)" in here.found


@pytest.mark.parametrize(
    ("model", "stored", "fits"),
    [
        ("resnet50", "resnet50.a1_in1k", False),
        ("test_vit", "test_vit.r160_in1k", True),
        ("test_vit.r160_in1k", "test_vit.r160_in1k", True),
        ("test_vit.other", "test_vit.r160_in1k", False),
    ],
)
def test_weights_are_known_by_model_and_tag(
    home: Home, record: StudyRecord, model: str, stored: str, fits: bool
) -> None:
    put_weights(home, stored)
    (found,) = check_weights(home, (needing(record, "hub", model),), OFFLINE)
    assert (found.level == Level.OK) is fits


def test_a_file_of_weights_that_is_away_is_a_problem(home: Home, record: StudyRecord, tmp_path: Path) -> None:
    file = tmp_path / "mine.pt"
    put_weights(home, "any")
    away, _ = check_weights(home, (needing(record, str(file)),), OFFLINE)
    assert (away.level, away.found) == (Level.PROBLEM, f"study skin needs {file}, which is not here")
    file.touch()
    (fine,) = check_weights(home, (needing(record, str(file)),), OFFLINE)
    assert fine.level == Level.OK
