"""Sections that need more than one study of α and β: compared losses, several studies, predictions, and privacy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lmf_testing.report_view import page_figures

from study.paper import published
from study.reporting.page import make_report
from study.reporting.predictions import Predictions, TrialPredictions
from study.reporting.text import percent

LOSSES = ("cce", "lmf")
HAM = ("AKIEC", "BCC", "BKL", "DF", "MEL", "NV", "VASC")
SEEDS = range(5)


def predicted(truth: np.ndarray, wrong: int, classes: int = 2) -> np.ndarray:
    """Probabilities that put every `wrong`-th image into the next class, with a confidence of 0.8."""
    labels = np.where(np.arange(len(truth)) % wrong == 0, (truth + 1) % classes, truth)
    probabilities = np.full((len(truth), classes), 0.2 / (classes - 1))
    probabilities[np.arange(len(truth)), labels] = 0.8
    return probabilities


@pytest.fixture
def compared(records):
    """A comparison of CCE and LMF with five seeds each, LMF better by ten points, with their predictions."""

    def make(**others):
        points = [
            records.point(
                *((1.0, 0.5) if loss == "lmf" else (None, None)),
                0.6 + 0.1 * (loss == "lmf") + seed / 1000,
                0.5 + 0.1 * (loss == "lmf") + seed / 1000,
                loss=loss,
                seed=seed,
                settings=(),
            )
            for seed in SEEDS
            for loss in LOSSES
        ]
        spec = {"losses": list(LOSSES), "recipe": {"select": "macro_f1", "epochs": 2}, "seeds": list(SEEDS)}
        data = records.data(records.study(points, spec=spec, name="skin-small-losses", **others))
        truth = np.repeat([0, 1], 100)
        found = {}
        for point in points:
            probabilities = predicted(truth, 20 if point.loss == "lmf" else 3)
            found[point.point_id] = TrialPredictions(
                *(Predictions(split, truth, probabilities) for split in ("val", "test"))
            )
        return replace(data, predictions=found)

    return make


def test_compared_losses_have_an_answer_of_their_own(compared):
    report = make_report([compared()])
    for text in (
        "The losses compared",
        "LMF is better than every other loss it was compared with.",
        "LMF is better than CCE by 10.00 points of macro F1 on test",
        "The expected calibration error",
    ):
        assert text in report.html, text
    for text in ("The answer", "The plane of α and β", "Fig 4"):
        assert text not in report.html, text
    names = {name.removeprefix("study-1-") for name in report.pictures}
    assert {"loss-scores-test", "class-f1", "confusion-1", "confusion-2", "reliability-1", "reliability-2"} <= names
    assert not names & {"settings", "plane", "choice"}


def test_tables_of_compared_losses_hold_their_scores(compared):
    tables = {named.name.removeprefix("study-1-"): named.table for named in make_report([compared()]).tables}
    scores = tables["losses"]
    assert [row[:2] for row in scores.rows] == [("skin", "CCE"), ("skin", "LMF")]
    assert scores.rows[1][scores.columns.index("macro F1")] == "60.20 ± 0.16"
    (row,) = tables["comparisons"].rows
    assert row[:3] == ("LMF", "CCE", "10.00")
    assert row[-1] == "better"
    # All ways to part ten seeds into five and five: two of 252 are as extreme.
    assert row[4] == f"{2 / 252:.4f}"
    assert [row[0] for row in tables["calibration"].rows] == ["LMF (trial 9)", "CCE (trial 8)"]
    points = tables["points"]
    assert points.columns[2] == "loss"
    assert {row[2] for row in points.rows} == {"CCE", "LMF"}


def test_one_seed_crowns_no_loss(compared):
    data = compared()
    once = replace(data, study=replace(data.study, points=data.study.points[:2]))
    html = make_report([once]).html
    assert "no loss is called better: the noise of training is unknown" in html
    assert "is better than" not in html


def test_before_a_loss_is_complete_there_is_no_answer(records):
    study = records.study([records.point(None, None, loss="cce", settings=())], spec={"losses": ["cce", "lmf"]})
    assert "No loss has a complete training yet." in make_report([records.data(study)]).html


def test_the_score_of_the_best_has_an_interval_where_predictions_are_known(records):
    point = records.point(1.0, 0.5, 0.6, 0.5)
    data = records.data(records.study([point]))
    truth = np.repeat([0, 1], 50)
    found = TrialPredictions(*(Predictions(split, truth, predicted(truth, 4)) for split in ("val", "test")))
    html = make_report([replace(data, predictions={point.point_id: found})]).html
    assert "at 95 % over test images" in html
    assert "Calibration of the best trial on test" in html
    without = make_report([data]).html
    assert "at 95 % over" not in without
    assert "Calibration" not in without


def test_predictions_that_cannot_be_read_are_a_reason_and_no_error(records):
    point = records.point(1.0, 0.5, 0.6, 0.5)
    data = records.data(records.study([point]))
    gone = TrialPredictions(None, None, "its predictions are not in the artifact store")
    html = make_report([replace(data, predictions={point.point_id: gone})]).html
    assert "the best trial (0): its predictions are not in the artifact store." in html


def ham(records, points, **others):
    """A study of HAM10000's seven classes."""
    counts = {"train": (9,) * 7, "val": (2,) * 7, "test": (2,) * 7}
    return records.data(
        records.study(points, dataset="ham10000", class_names=HAM, counts=counts, **{"name": "ham", **others})
    )


def ham_scores(records):
    per_class = ("auc_per_class", "average_precision_per_class", "sensitivity_at_specificity_per_class")
    confusion = [[2 * (row == column) for column in range(7)] for row in range(7)]
    return records.scores(0.5, f1_per_class=[0.5] * 7, confusion=confusion, **{name: [0.5] * 7 for name in per_class})


def test_the_papers_figures_stand_beside_those_of_its_datasets(records):
    scores = ham_scores(records)
    losses = ["cce", "bwcce"]
    compared = [records.point(None, None, scores, scores, loss=loss, settings=()) for loss in losses]
    spec = {"losses": losses, "recipe": {"epochs": 2}, "seeds": [23]}
    tuned = ham(records, [records.point(1.0, 2.0, scores, scores)])
    report = make_report([ham(records, compared, name="ham-losses", spec=spec), tuned])
    for score in published.scores("ham10000", "efficientnetv2").values():
        assert percent(score.macro_f1) in report.html
    assert "Where the published figures disagree" in report.html
    tables = {named.name: named.table for named in report.tables}
    expected = {"report-table-1", "report-table-6", "report-scores-1", "report-classes-1", "report-inconsistencies"}
    assert expected <= set(tables)
    assert any("60.08" in cell for row in tables["report-inconsistencies"].rows for cell in row)


def test_a_study_of_the_papers_data_names_the_papers_best(records):
    scores = ham_scores(records)
    data = ham(records, [records.point(1.0, 2.0, scores, scores)])
    assert "α = 1.0, β = 2.0 (Table 6), with a test macro F1 of 84.61 %." in make_report([data]).html
    other = replace(data, study=replace(data.study, class_names=tuple("ABCDEFG")))
    assert "(Table 6), with a test macro F1" not in make_report([other]).html


def test_other_datasets_have_no_published_figures_beside_them(records):
    points = [records.point(1.0, 0.5, 0.6, 0.5)]
    first, second = (records.data(records.study(points, name=name)) for name in ("a", "b"))
    html = make_report([first, second]).html
    assert "Where the published figures disagree" not in html
    assert "(Table 6), with a test macro F1" not in html


def test_without_patient_data_no_path_and_no_message_is_shown(records):
    failed = records.point(1.0, 0.6, state="failed", message="ISIC_0024306.jpg cannot be read")
    study = records.study(
        [records.point(1.0, 0.5, 0.6), failed],
        spec={
            "data": "/secret/images",
            "dataset": "folder:/secret/images",
            "split_file": "/secret/split.csv",
            "recipe": {"weights": "/secret/w.safetensors", "epochs": 2},
        },
    )
    data = records.data(study)
    data = replace(data, attempts=(*data.attempts, records.attempt(failed, message="ISIC_0024306.jpg cannot be read")))
    whole = make_report([data]).html
    assert "/secret/images" in whole
    assert "ISIC_0024306" in whole
    private = make_report([data], patient_data=False)
    assert "/secret" not in private.html
    assert "ISIC_0024306" not in private.html
    assert "1 point left a message; messages may name images and are left out." in private.html
    assert not any("ISIC" in cell for named in private.tables for row in named.table.rows for cell in row)


def test_long_tables_are_cut_and_say_where_the_rest_is(records, monkeypatch):
    monkeypatch.setattr("study.reporting.sections.run.MOST_ROWS", 5)
    points = [records.point(1.0, 0.5 + number / 10, 0.5 + number / 100) for number in range(9)]
    report = make_report([records.data(records.study(points))])
    table = next(named.table for named in report.tables if named.name == "study-1-points")
    # The first five, and the best one, which is marked.
    assert [row[0] for row in table.rows] == ["0", "1", "2", "3", "4", "8"]
    assert table.marked == {5}
    assert "3 trainings more: `lmf report --csv` writes every row." in report.html


def test_every_picture_and_table_of_the_page_is_in_the_report(compared):
    report = make_report([compared()])
    assert page_figures(report.html).keys() == report.pictures.keys()
    assert len({named.name for named in report.tables}) == len(report.tables) == report.html.count("<table>")


def test_overview_and_answer_agree_on_what_may_be_chance_in_the_images(records):
    # The seeds alone tell these points apart; what both predicted is the same, so the images do not.
    points = [
        records.point(1.0, beta, score + move, seed=seed)
        for beta, score in ((0.5, 0.8), (0.6, 0.5))
        for seed, move in enumerate((0.0, 0.01 * beta, -0.02))
    ]
    data = records.data(records.study(points))
    truth = np.repeat([0, 1], 50)
    same = TrialPredictions(*(Predictions(split, truth, predicted(truth, 4)) for split in ("val", "test")))
    known = replace(data, predictions={point.point_id: same for point in points})
    for study, told in ((data, "yes"), (known, "no")):
        other = replace(study, study=replace(study.study, name="other"))
        report = make_report([study, other])
        table = next(named.table for named in report.tables if named.name == "report-overview")
        assert {row[table.columns.index("told from the others")] for row in table.rows} == {told}
        assert ("Take these to train on this data" in report.html) == (told == "yes")
