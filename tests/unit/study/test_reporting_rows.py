from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, replace

import numpy as np

from study.reporting.rows import (
    CLASS_SCORES,
    SCORES,
    ClassCount,
    SplitScores,
    class_counts,
    class_rows,
    epoch_rows,
    finite,
    point_rows,
)
from trainer.config import SELECTORS
from trainer.metrics import score


def test_a_complete_point_keeps_everything_that_was_recorded(records):
    point = records.point(
        0.5, 1.0, records.scores(0.61, macro_auc=None), records.scores(0.59), seed=7, attempts=2, lost_epochs=3
    )
    study = records.study([point])

    (row,) = point_rows(study, [records.epoch(point, 1), records.epoch(point, 2, seconds=12.5)])

    assert (row.study, row.point, row.trial, row.loss) == ("skin-small", 100, 0, "lmf")
    assert (row.alpha, row.beta, row.seed, row.settings) == (0.5, 1.0, 7, ("alpha",))
    assert (row.attempts, row.lost_epochs, row.epochs, row.seconds, row.best_epoch) == (2, 3, 2, 22.5, 2)
    assert row.score("val", "macro_f1") == 0.61
    assert row.score("val", "macro_auc") is None
    assert row.score("test", "macro_f1") == 0.59
    assert row.score("test", "accuracy") == 0.8
    assert [row.score("test", name) for name in ("mcc", "kappa", "macro_average_precision")] == [0.41, 0.4, 0.85]
    assert (row.score("val", "sensitivity_at_specificity"), row.specificity) == (0.55, 0.95)
    assert [row.test.per_class(name) for name in CLASS_SCORES] == [(0.92, 0.88), (0.93, 0.77), (0.75, 0.35)]


def test_every_score_of_the_trainer_has_its_place(records):
    """The report needs no torch and so lists the scores again; what the trainer stores must all be read."""
    stored = score(np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]]), np.array([0, 1, 1]), specificity=0.5)
    scores = json.loads(json.dumps(stored.to_dict()))
    assert set(SCORES) == {*SELECTORS, "accuracy", "precision", "recall"}
    assert {field.name for field in fields(SplitScores)} == set(scores)
    (row,) = point_rows(records.study([records.point(val=scores, test=scores)]))
    assert asdict(row.val) == asdict(stored)


def test_what_an_older_version_stored_lacks_only_the_newer_scores(records):
    point = records.point(val=records.older_scores(0.61), test=records.older_scores())
    older_epoch = records.epoch(point, 1, val={"macro_f1": 0.5, "accuracy": 0.8, "macro_auc": None})

    (row,) = point_rows(records.study([point]))
    (epoch,) = epoch_rows([row], [older_epoch])

    assert (row.score("val", "macro_f1"), row.score("test", "macro_auc")) == (0.61, 0.9)
    for name in ("macro_average_precision", "sensitivity_at_specificity", "mcc", "kappa"):
        assert row.score("test", name) is epoch.val[name] is None
    assert row.specificity is None
    assert [row.test.per_class(name) for name in CLASS_SCORES] == [(None, None)] * 3
    assert [c.f1 for c in class_rows(row, ("NV", "MEL"))] == [0.61, 0.61, 0.6, 0.6]
    assert {(c.auc, c.average_precision, c.sensitivity_at_specificity) for c in class_rows(row, ("NV", "MEL"))} == {
        (None, None, None)
    }
    assert list(epoch.val) == list(SCORES)


def test_rows_come_by_trial_and_those_without_a_trial_last(records):
    points = [records.point(trial_number=number) for number in (None, 2, 0, 1)]
    assert [row.trial for row in point_rows(records.study(points))] == [0, 1, 2, None]


def test_scores_of_a_point_that_is_not_complete_are_left_out(records):
    failed = replace(records.point(val=0.9), state="failed", message="loss is NaN in epoch 3")
    (row,) = point_rows(records.study([failed]))
    assert row.val is None
    assert row.score("test", "macro_f1") is None
    assert row.specificity is None
    assert row.message == "loss is NaN in epoch 3"


def test_epochs_follow_their_points_and_are_in_order(records):
    first, second = records.point(val=0.5), records.point(0.5, 0.5, val=0.6)
    rows = point_rows(records.study([first, second]))
    mixed = [records.epoch(second, 2), records.epoch(first, 2), records.epoch(second, 1), records.epoch(first, 1)]

    epochs = epoch_rows(rows, mixed)

    assert [(row.point.trial, row.epoch) for row in epochs] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert (epochs[1].train_loss, epochs[1].val_loss, epochs[1].ldam, epochs[1].focal) == (2.0, 2.5, 1.75, 0.025)
    assert (epochs[1].ldam_gradient, epochs[1].focal_gradient) == (0.35, 0.005)
    assert list(epochs[0].val) == list(SCORES)
    assert epochs[0].val["macro_auc"] is None


def test_epochs_of_another_loss_have_no_halves_and_an_infinite_loss_is_missing(records):
    point = records.point(None, None, loss="cce")
    record = records.epoch(point, 1, halves=None, val_loss=math.inf)
    (row,) = epoch_rows(point_rows(records.study([point])), [record])
    assert (row.ldam, row.focal, row.val_loss) == (None, None, None)
    assert (row.ldam_gradient, row.focal_gradient) == (None, None)


def test_classes_are_counted_from_the_confusion_matrix(records):
    scores = records.scores(confusion=[[7, 1], [4, 0]], f1_per_class=[0.7368, 0.0])
    (row,) = point_rows(records.study([records.point(val=scores, test=scores)]))

    classes = class_rows(row, ("NV", "MEL"))

    assert [(c.split, c.name, c.images, c.predicted, c.right) for c in classes if c.split == "test"] == [
        ("test", "NV", 8, 11, 7),
        ("test", "MEL", 4, 1, 0),
    ]
    assert [c.recall for c in classes[:2]] == [0.875, 0.0]
    assert [c.f1 for c in classes] == [0.7368, 0.0, 0.7368, 0.0]


def test_classes_have_their_scores_against_the_rest(records):
    val = records.scores(auc_per_class=[0.7, None])
    (row,) = point_rows(records.study([records.point(val=val, test=0.5)]))
    classes = class_rows(row, ("NV", "MEL"))
    assert [c.auc for c in classes] == [0.7, None, 0.92, 0.88]
    assert [c.average_precision for c in classes] == [0.93, 0.77] * 2
    assert [c.sensitivity_at_specificity for c in classes] == [0.75, 0.35] * 2


def test_a_point_without_scores_has_no_classes_and_an_empty_class_no_recall(records):
    (waiting,) = point_rows(records.study([records.point()]))
    assert class_rows(waiting, ("NV", "MEL")) == ()
    scores = records.scores(confusion=[[8, 0], [0, 0]])
    (row,) = point_rows(records.study([records.point(val=scores, test=scores)]))
    assert class_rows(row, ("NV", "MEL"))[1].recall == 0.0


def test_a_class_has_the_images_of_its_parts(records):
    counts = class_counts(records.study())
    assert counts == (ClassCount("NV", 38, 8, 8), ClassCount("MEL", 18, 4, 4))
    assert [count.images for count in counts] == [54, 26]
    (unsplit, _) = class_counts(records.study(counts={"train": (38, 18)}))
    assert (unsplit, unsplit.images) == (ClassCount("NV", 38, None, None), 38)
    assert ClassCount("NV", None, None, None, 60).images == 60


def test_only_finite_numbers_are_kept():
    assert [finite(value) for value in (1, 0.25, None, math.nan, math.inf, -math.inf)] == [1.0, 0.25, *[None] * 4]
