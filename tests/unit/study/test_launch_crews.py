"""How many workers planned studies get on this machine: the fewest that any of them allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from lmf_testing.real import home_of, plan_real, short_spec

from storage.agenda import set_study_state
from storage.database import Database
from storage.queries import StudyRecord
from storage.schema import PAUSED
from study import machine
from study.errors import StudyError
from study.launch import crews
from study.launch.crews import choose_common_crew, read_open_studies
from study.machine import Crew
from study.run_options import RunOptions
from trainer.config import Recipe


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Three studies, of which two are trained in the same way, and the third is paused."""
    folder = tmp_path_factory.mktemp("crews")
    home = home_of(folder, f"sqlite:///{folder / 'lmf.db'}")
    for name, flags in (("small", {}), ("alike", {}), ("large", {"image_size": 32})):
        planned = plan_real(home, short_spec(study=name, settings="beta", grid="1.0", **flags))
    database = Database.open(home.storage_url)
    set_study_state(database, planned.study_id, PAUSED)
    yield database
    database.close()


def records(database: Database, *names: str) -> tuple[StudyRecord, ...]:
    return read_open_studies(database, names)


def test_all_studies_are_those_that_are_not_paused(database: Database) -> None:
    assert [record.name for record in records(database)] == ["small", "alike"]
    assert [record.name for record in records(database, "large", "small")] == ["small", "large"]


def test_each_kind_of_training_is_measured_once_and_the_fewest_workers_are_taken(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def choose(recipe: Recipe, classes: int, images: int, options: RunOptions) -> Crew:
        assert (classes, images > 0) == (10, True)
        asked.append(recipe.image_size)
        return Crew(("cpu",), 8 if recipe.image_size == 16 else 3)

    monkeypatch.setattr(crews, "choose_crew", choose)
    options = RunOptions(device="cpu")
    assert choose_common_crew(records(database, "small", "alike", "large"), options).workers == 3
    assert asked == [16, 32]
    assert choose_common_crew(records(database), options).workers == 8


@pytest.mark.parametrize(
    ("options", "workers"), [({}, 2), ({"per_gpu": 3}, 6), ({"workers": 5}, 5), ({"device": "cuda:1"}, 1)]
)
@pytest.mark.parametrize("some", [True, False])
def test_there_is_a_worker_a_gpu_unless_it_is_said_otherwise(
    database: Database, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], workers: int, some: bool
) -> None:
    def two_gpus(device: str) -> tuple[str, ...]:
        return ("cuda:0", "cuda:1") if device == "auto" else (device,)

    monkeypatch.setattr(machine, "list_devices", two_gpus)
    monkeypatch.setattr(crews, "list_devices", two_gpus)
    crew = choose_common_crew(records(database) if some else (), RunOptions(**options))
    assert crew.workers == workers
    assert crew.devices == (("cuda:1",) if "device" in options else ("cuda:0", "cuda:1"))


def test_a_flag_for_gpus_needs_one(database: Database) -> None:
    with pytest.raises(StudyError, match="--per-gpu: there is no GPU here"):
        choose_common_crew(records(database), RunOptions(device="cpu", per_gpu=2))
