"""What is stored of the paper's experiments: when a comparison can be planned, and what is in the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lmf_testing.experiments import EXPERIMENTS, by_beta, experiment
from lmf_testing.scored import plan_spec, score_points

from storage.database import Database
from study.errors import StudyError
from study.home import Home
from study.plan import compare_with_stored
from study.reproduction_stored import ReadyComparison, StoredPart, find_stored, ready_comparison, refusal_text
from study.spec import StudySpec
from trainer.config import Recipe


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, f"sqlite:///{tmp_path / 'lmf.db'}", str(tmp_path / "artifacts"))


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    database = Database.open(home.storage_url)
    yield database
    database.close()


class TestReady:
    def test_is_a_comparison_when_its_study_is_trained(self, home: Home, database: Database) -> None:
        one = EXPERIMENTS[0]
        assert ready_comparison(one, home) is None
        plan_spec(database, one.study)
        score_points(database, "a-x", by_beta, 1)
        assert ready_comparison(one, home) is None, "a point is left"
        score_points(database, "a-x", by_beta)
        ready = ready_comparison(one, home)
        assert ready is not None
        assert (ready.spec.alpha, ready.spec.beta) == (1.0, 0.5)
        assert ready.lines == ("lmf with alpha 1, beta 0.5 (best of study a-x)",)
        for other in ({"grid": (0.5, 0.7, 1.0)}, {"recipe": Recipe(epochs=3)}):
            assert ready_comparison(replace(one, study=replace(one.study, **other)), home) is None, other

    def test_is_any_comparison_that_needs_no_study(self, tmp_path: Path) -> None:
        home = Home(tmp_path, f"sqlite:///{tmp_path / 'none.db'}", "")
        for one in (
            experiment("a", "x", alpha=0.5, beta=1.0, factors_from=None),
            experiment("a", "x", losses=("cce",), factors_from=None),
        ):
            assert ready_comparison(one, home) == ReadyComparison(one.losses)
        assert not (tmp_path / "none.db").exists()

    def test_a_stored_one_stays_and_one_with_factors_from_elsewhere_is_refused(
        self, home: Home, database: Database
    ) -> None:
        plan_spec(database, replace(EXPERIMENTS[0].losses, alpha=0.7, beta=1.0))
        ready = ready_comparison(EXPERIMENTS[0], home)
        assert ready is not None
        assert (ready.spec.alpha, ready.spec.beta) == (0.7, 1.0)
        plan_spec(database, replace(EXPERIMENTS[1].losses, alpha=0.7, beta=1.0, factors_from=None))
        with pytest.raises(StudyError, match=r"alpha and beta of lmf, 0.7,1, are not taken from study a-y; --factors"):
            ready_comparison(EXPERIMENTS[1], home)


class TestRefusals:
    def refusal(self, database: Database, stored: StudySpec, **asked: Any) -> str:
        """What is said where a study of another description is stored."""
        plan_spec(database, stored)
        with pytest.raises(StudyError) as caught:
            compare_with_stored(database, replace(stored, **asked))
        assert "--study" in str(caught.value)
        return refusal_text(caught.value).removeprefix(f"study {stored.name} exists and is another one: ")

    def test_name_what_helps_where_studies_cannot_be_named(self, database: Database) -> None:
        study, losses = EXPERIMENTS[0].study, replace(EXPERIMENTS[0].losses, alpha=1.0, beta=0.5)
        assert self.refusal(database, study, recipe=Recipe(epochs=3)) == (
            "epochs: 60 stored, 3 asked; ask for the stored values, or `lmf study delete a-x` makes way"
        )
        assert self.refusal(database, losses, alpha=0.7) == (
            "alpha: 1 stored, 0.7 asked; ask for the stored values (--factors 1,0.5), or "
            "`lmf study delete a-x-losses` makes way"
        )
        assert self.refusal(database, replace(study, name="grouped", group="lesion"), group=None) == (
            "group: lesion stored, none asked; `lmf study delete grouped` makes way"
        )

    def test_that_are_none_of_a_stored_studys_are_left_as_they_are(self) -> None:
        assert refusal_text(StudyError("no GPU")) == "no GPU"


def test_what_is_done_and_failed_is_counted(home: Home, database: Database) -> None:
    study = EXPERIMENTS[0].study
    assert find_stored(study, home) == StoredPart(study)
    plan_spec(database, study)
    score_points(database, study.name, lambda lease: None if lease.beta == 1.0 else 0.5)
    more = replace(study, grid=(0.7,))
    assert find_stored(more, home) == StoredPart(replace(study, grid=(0.5, 0.7, 1.0)), 1, 1)
