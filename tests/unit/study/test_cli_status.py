"""What `lmf status` and `lmf study` say of a stored study."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner

from storage.database import Database
from storage.planning import DatasetFacts, NewPoint, plan_points, save_study
from storage.trials import TrialMirror
from study.cli.status import status_command
from study.cli.study import study_command

SENTENCE = (
    "Test scores are too good: 813 lesions are in training and in test (814 of 1,502 test images show one); "
    "--group lesion keeps lesions whole. 790 lesions are also in training and in validation, which chooses α and β."
)


@pytest.fixture
def leaking(leaks):
    return leaks("lesion", 813, val=790, test_images=1502)


@pytest.fixture
def home(leaks, leaking, tmp_path, monkeypatch):
    """A home with two studies on data that leak, one on data that do not, and one on data of which nothing is known."""
    for name in ("LMF_STORAGE", "LMF_STORAGE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LMF_HOME", str(tmp_path))
    known = {
        "ham-a": ("a", [leaking]),
        "ham-b": ("a", [leaking]),
        "clean": ("b", [leaks("patient")]),
        "digits": ("c", []),
    }
    database = Database.open(f"sqlite:///{tmp_path / 'lmf.db'}")
    mirror = TrialMirror.open(database)
    with database.lock("plan"):
        for name, (letter, leakage) in known.items():
            counts = {"train": (8, 4), "val": (2, 1), "test": (2, 1)}
            facts = DatasetFacts("skin", letter * 64, "s" * 64, ("nv", "mel"), counts, "r" * 18, leakage)
            study_id = save_study(database, mirror, name, "small", {"recipe": {"epochs": 2}}, facts)
            plan_points(database, mirror, study_id, [NewPoint("p", 1.0, 0.5, "lmf", 23, ("beta",))])
    mirror.close()
    database.close()
    return tmp_path


def call(command, *arguments):
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_status_as_json_has_leaks_beside_the_stable_keys(home, leaks, leaking):
    studies = json.loads(call(status_command, "--json"))["studies"]
    assert [study["leakage"] for study in studies] == [[leaking], [leaking], [leaks("patient")], []]
    assert list(studies[0]) == [
        *("study", "dataset", "model", "points", "waiting", "running", "complete", "failed", "pruned"),
        *("attempts", "lost_attempts", "lost_epochs", "best", "leakage", "warnings"),
        *("state", "seconds_left", "hours", "failures"),
    ]


def test_status_has_a_line_for_all_studies_of_which_the_same_is_to_be_said(home):
    lines = call(status_command).splitlines()
    assert [line.strip() for line in lines if "training" in line] == [
        f"ham-a, ham-b: {SENTENCE}",
        "clean: No patient is in both training and test.",
    ]
    assert "training" not in call(status_command, "digits")


def test_the_list_of_studies_names_leaks_in_short(home, leaking):
    assert call(study_command, "list").splitlines() == [
        "ham-a: skin, small, 0/1 points, 813 lesions leak",
        "ham-b: skin, small, 0/1 points, 813 lesions leak",
        "clean: skin, small, 0/1 points",
        "digits: skin, small, 0/1 points",
    ]
    assert json.loads(call(study_command, "list", "--json"))["studies"][1]["leakage"] == [leaking]


def test_a_study_is_shown_with_its_leaks(home, leaking):
    text = call(study_command, "show", "ham-a")
    head = yaml.safe_load(text.split("points:")[0])
    assert head["leaks"] == SENTENCE
    assert "α and β" in text
    assert json.loads(call(study_command, "show", "ham-a", "--json"))["leakage"] == [leaking]
    assert "leaks: Nothing is known of lesions or patients" in call(study_command, "show", "digits")
