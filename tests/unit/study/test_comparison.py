"""Where LMF's factors come from in a comparison of losses, and what is said of the losses in the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from lmf_testing.scored import plan_spec, score_points

from storage.agenda import set_study_state
from storage.database import Database
from storage.lease import Lease
from storage.queries import read_study
from storage.trials import TrialMirror
from study.comparison import chosen_pair, factors_text, loss_lines, settle_factors
from study.errors import StudyError
from study.home import Home
from study.progress import StudyProgress, best_text
from study.reporting.statistics import summarize
from study.spec import StudySpec
from study.status import status_document
from trainer.config import Recipe

STUDY = StudySpec(
    name="light-resnet50",
    dataset="folder:light",
    title="light",
    data=None,
    model="resnet50",
    recipe=Recipe(),
    settings=("beta",),
    grid=(0.5, 1.0),
)
UNASKED = frozenset({"losses", "alpha", "beta", "factors_from", "seeds"})
LOSSES = replace(
    STUDY, name="light-resnet50-losses", settings=(), grid=(), losses=("cce", "wcce", "lmf"), unasked=UNASKED
)


def from_study(name: str) -> StudySpec:
    return replace(LOSSES, factors_from=name, unasked=frozenset())


def by_beta(lease: Lease) -> float:
    """The smaller beta is the better one."""
    assert lease.beta is not None
    return 1.0 - lease.beta / 4


@pytest.fixture
def home(tmp_path: Path, storage_url: str) -> Home:
    return Home(tmp_path, storage_url, str(tmp_path / "artifacts"))


@pytest.fixture
def database(home: Home) -> Iterator[Database]:
    database = Database.open(home.storage_url)
    yield database
    database.close()


def factors(spec: StudySpec) -> tuple[float | None, float | None, str | None]:
    return spec.alpha, spec.beta, spec.factors_from


class TestFactors:
    def test_that_were_given_are_taken_without_asking_anybody(self, home: Home) -> None:
        given = replace(LOSSES, alpha=0.5, beta=1.0, unasked=frozenset())
        assert settle_factors(given, home) == (given, ())
        for other in (STUDY, replace(LOSSES, losses=("cce",))):
            assert settle_factors(other, home) == (other, ())

    def test_are_1_and_1_where_there_is_nothing_yet(self, tmp_path: Path) -> None:
        home = Home(tmp_path, f"sqlite:///{tmp_path / 'none.db'}", "")
        spec, (line,) = settle_factors(LOSSES, home)
        assert factors(spec) == (1.0, 1.0, None)
        assert line.startswith("lmf with alpha 1, beta 1, since there is no study light-resnet50 to take its best from")
        assert not (tmp_path / "none.db").exists()
        with pytest.raises(StudyError, match="no study named other, since there are no studies yet"):
            settle_factors(from_study("other"), home)

    def test_are_those_of_the_study_of_the_same_dataset_and_model(self, home: Home, database: Database) -> None:
        plan_spec(database, STUDY)
        score_points(database, STUDY.name, by_beta)
        for asked in (LOSSES, from_study(STUDY.name)):
            spec, lines = settle_factors(asked, home)
            assert factors(spec) == (1.0, 0.5, STUDY.name)
            assert lines == ("lmf with alpha 1, beta 0.5 (best of study light-resnet50)",)

    def test_of_an_unfinished_study_are_taken_on_request_only(self, home: Home, database: Database) -> None:
        plan_spec(database, STUDY)
        spec, (line,) = settle_factors(LOSSES, home)
        assert "study light-resnet50 has no best alpha and beta" in line
        with pytest.raises(StudyError, match="no best alpha and beta, since no point of it is complete"):
            settle_factors(from_study(STUDY.name), home)
        score_points(database, STUDY.name, by_beta, most=1)
        spec, (line,) = settle_factors(LOSSES, home)
        assert factors(spec) == (1.0, 1.0, None)
        assert "has points still to be trained (--from light-resnet50 takes its best so far)" in line
        spec, lines = settle_factors(from_study(STUDY.name), home)
        assert spec.factors_from == STUDY.name
        assert lines[1] == "warning: study light-resnet50 still has 1 point to train; this is its best so far"

    def test_of_another_split_are_warned_of(self, home: Home, database: Database) -> None:
        plan_spec(database, replace(STUDY, group="lesion"))
        score_points(database, STUDY.name, by_beta)
        spec, (line,) = settle_factors(LOSSES, home)
        assert factors(spec) == (1.0, 1.0, None)
        assert "splits the data in another way" in line
        spec, lines = settle_factors(from_study(STUDY.name), home)
        assert factors(spec) == (1.0, 0.5, STUDY.name)
        assert lines[1].startswith("warning: study light-resnet50 splits light in another way: images that chose")
        assert len(settle_factors(replace(from_study(STUDY.name), title="other"), home)[1]) == 1

    def test_are_not_taken_from_a_comparison_or_from_nowhere(self, home: Home, database: Database) -> None:
        plan_spec(database, replace(LOSSES, name="others", alpha=0.5, beta=0.5))
        score_points(database, "others", lambda lease: 0.5)
        with pytest.raises(StudyError, match="study others has no best alpha and beta, since it compares losses"):
            settle_factors(from_study("others"), home)
        with pytest.raises(StudyError, match="no study named nothing; studies here: others"):
            settle_factors(from_study("nothing"), home)

    def test_of_a_stored_comparison_stay(self, home: Home, database: Database) -> None:
        plan_spec(database, STUDY)
        score_points(database, STUDY.name, by_beta)
        stored, _ = settle_factors(LOSSES, home)
        plan_spec(database, stored)
        assert settle_factors(LOSSES, home) == (stored, ())
        more = replace(STUDY, seeds=(23, 24))
        plan_spec(database, more)
        score_points(database, STUDY.name, lambda lease: 0.9 if lease.beta == 1.0 else 0.1)
        for asked in (LOSSES, from_study(STUDY.name)):
            spec, (line,) = settle_factors(asked, home)
            assert factors(spec) == (1.0, 0.5, STUDY.name)
            assert line.startswith("lmf keeps alpha 1, beta 0.5, with which light-resnet50-losses was planned")
            assert "the best of study light-resnet50 is alpha 1, beta 1 by now" in line
            assert line.endswith("and another name (--study) compares that")
        _, (line,) = settle_factors(LOSSES, home, can_rename=False)
        assert line.endswith("and `lmf study delete light-resnet50-losses` makes way for a comparison with that")

    def test_are_nothing_to_a_stored_comparison_without_lmf(self, home: Home, database: Database) -> None:
        plan_spec(database, replace(LOSSES, losses=("cce", "wcce")))
        assert settle_factors(LOSSES, home) == (replace(LOSSES, losses=("cce", "wcce")), ())
        added, (line,) = settle_factors(replace(LOSSES, unasked=UNASKED - {"losses"}), home)
        assert factors(added) == (1.0, 1.0, None)
        assert line.startswith("lmf with alpha 1, beta 1, since")


class TestComparison:
    @pytest.fixture
    def scored(self, database: Database) -> Database:
        """A comparison with two seeds each, but for wcce, whose second seed failed."""
        values = {"cce": (0.5, 0.6), "wcce": (0.4, None), "lmf": (0.7, 0.75)}
        spec = replace(LOSSES, alpha=1.0, beta=0.6, factors_from="light-resnet50", seeds=(23, 24))
        plan_spec(database, spec)
        score_points(database, LOSSES.name, lambda lease: values[lease.loss][lease.seed - 23])
        return database

    def test_has_a_line_a_loss_with_the_deviation_over_its_seeds(self, scored: Database) -> None:
        lines = loss_lines(summarize(read_study(scored, LOSSES.name)))
        assert [" ".join(line.split()) for line in lines] == [
            f"cce 2 of 2 seeds validation 55.00 ± {100 * stdev((0.5, 0.6)):.2f} test 55.00 ± 7.07",
            "wcce 1 of 2 seeds validation 40.00 test 40.00",
            "lmf (alpha 1, beta 0.6) 2 of 2 seeds validation 72.50 ± 3.54 test 72.50 ± 3.54",
            "(mean macro F1 in percent ± sample standard deviation over seeds)",
        ]

    def test_with_one_seed_says_that_chance_is_unknown(self, database: Database) -> None:
        plan_spec(database, replace(LOSSES, losses=("cce", "wcce")))
        lines = loss_lines(summarize(read_study(database, LOSSES.name)))
        assert "0 of 1 seed   validation -   test -" in lines[0]
        score_points(database, LOSSES.name, lambda lease: 0.5)
        assert "chance is unknown" in loss_lines(summarize(read_study(database, LOSSES.name)))[-1]

    def test_is_led_by_a_loss_and_has_no_best_pair(self, scored: Database) -> None:
        record = read_study(scored, LOSSES.name)
        assert chosen_pair(record) is None
        assert best_text(StudyProgress.of(record)) == "lmf: 72.50 %"
        (document,) = status_document(scored, [LOSSES.name])["studies"]
        assert document["best"] is None
        assert (document["points"], document["complete"], document["failed"]) == (6, 5, 1)

    def test_before_anything_is_complete_nothing_leads(self, database: Database) -> None:
        plan_spec(database, replace(LOSSES, losses=("cce",)))
        assert best_text(StudyProgress.of(read_study(database, LOSSES.name))) == "none yet"

    def test_its_trials_carry_only_the_factors_that_they_have(self, scored: Database) -> None:
        mirror = TrialMirror.open(scored)
        try:
            trials = mirror.storage.get_all_trials(mirror.storage.get_study_id_from_name(LOSSES.name))
        finally:
            mirror.close()
        assert [(trial.user_attrs["lmf:point"], trial.params) for trial in trials[:3]] == [
            ("cce seed=23", {}),
            ("wcce seed=23", {}),
            ("lmf a=1 b=0.6 seed=23", {"alpha": 1.0, "beta": 0.6}),
        ]

    @pytest.mark.parametrize(
        ("source", "text"),
        [
            (None, "lmf with alpha 1, beta 0.6"),
            ("a-b", "lmf with alpha 1, beta 0.6 (best of study a-b)"),
            ("Table 6 of the paper", "lmf with alpha 1, beta 0.6 (Table 6 of the paper)"),
        ],
    )
    def test_says_where_its_factors_come_from(self, source: str | None, text: str) -> None:
        assert factors_text(replace(LOSSES, alpha=1.0, beta=0.6, factors_from=source)) == text


def test_a_paused_study_gives_its_best_as_well(home: Home, database: Database) -> None:
    plan_spec(database, STUDY)
    score_points(database, STUDY.name, by_beta)
    set_study_state(database, read_study(database, STUDY.name).study_id, "paused")
    found: Any = settle_factors(LOSSES, home)[0]
    assert factors(found) == (1.0, 0.5, STUDY.name)
