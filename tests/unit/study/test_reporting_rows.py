from __future__ import annotations

import math
from dataclasses import replace

from study.reporting.rows import SCORES, ClassCount, class_counts, class_rows, epoch_rows, finite, point_rows


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


def test_rows_come_by_trial_and_those_without_a_trial_last(records):
    points = [records.point(trial_number=number) for number in (None, 2, 0, 1)]
    assert [row.trial for row in point_rows(records.study(points))] == [0, 1, 2, None]


def test_scores_of_a_point_that_is_not_complete_are_left_out(records):
    failed = replace(records.point(val=0.9), state="failed", message="loss is NaN in epoch 3")
    (row,) = point_rows(records.study([failed]))
    assert row.val is None
    assert row.score("test", "macro_f1") is None
    assert row.message == "loss is NaN in epoch 3"


def test_epochs_follow_their_points_and_are_in_order(records):
    first, second = records.point(val=0.5), records.point(0.5, 0.5, val=0.6)
    rows = point_rows(records.study([first, second]))
    mixed = [records.epoch(second, 2), records.epoch(first, 2), records.epoch(second, 1), records.epoch(first, 1)]

    epochs = epoch_rows(rows, mixed)

    assert [(row.point.trial, row.epoch) for row in epochs] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert (epochs[1].train_loss, epochs[1].val_loss, epochs[1].ldam, epochs[1].focal) == (2.0, 2.5, 1.75, 0.025)
    assert list(epochs[0].val) == list(SCORES)
    assert epochs[0].val["macro_auc"] is None


def test_epochs_of_another_loss_have_no_halves_and_an_infinite_loss_is_missing(records):
    point = records.point(None, None, loss="cce")
    record = records.epoch(point, 1, halves=None, val_loss=math.inf)
    (row,) = epoch_rows(point_rows(records.study([point])), [record])
    assert (row.ldam, row.focal, row.val_loss) == (None, None, None)


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
