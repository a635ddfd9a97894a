"""The tables of a report, from a trial's probabilities to its cells, against scikit-learn's own figures."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from study.reporting import evidence_tables, paper_tables, tables
from study.reporting.calibration import calibrate
from study.reporting.predictions import Predictions
from study.reporting.statistics import summarize
from trainer.metrics import score

CLASSES = ("AKIEC", "BCC", "NV")
COUNTS = (30, 60, 210)


@pytest.fixture(scope="module")
def predicted():
    """True classes of imbalanced images, and probabilities that are right about two times in three."""
    random = np.random.default_rng(7)
    truth = np.repeat(np.arange(3), COUNTS)
    logits = random.normal(size=(len(truth), 3)) + 1.3 * np.eye(3)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, probabilities


@pytest.fixture
def summary(records, predicted):
    truth, probabilities = predicted
    scores = score(probabilities, truth, 0.95).to_dict()
    counts = {"train": (150, 300, 1050), "val": COUNTS, "test": COUNTS}
    return summarize(records.study([records.point(1.0, 0.5, scores, scores)], class_names=CLASSES, counts=counts))


def percents(values):
    return [f"{100 * value:.2f}" for value in values]


def test_the_scores_of_the_best(summary, predicted):
    truth, probabilities = predicted
    labels = probabilities.argmax(axis=1)
    table = tables.best_scores(summary)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth, labels, average="macro", zero_division=0)
    one_hot = np.eye(3)[truth]
    expected = percents(
        [
            metrics.accuracy_score(truth, labels),
            precision,
            recall,
            f1,
            metrics.balanced_accuracy_score(truth, labels),
            metrics.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro"),
            metrics.average_precision_score(one_hot, probabilities, average="macro"),
        ]
    )
    assert list(table.rows[0][1:8]) == expected
    agreement = [metrics.matthews_corrcoef(truth, labels), metrics.cohen_kappa_score(truth, labels)]
    assert list(table.rows[0][9:]) == [f"{value:.4f}" for value in agreement]


def test_the_classes_and_their_confusion(summary, predicted):
    truth, probabilities = predicted
    labels = probabilities.argmax(axis=1)
    table = tables.classes(summary)
    cells = {column: [row[index] for row in table.rows] for index, column in enumerate(table.columns)}
    assert cells["test F1, %"] == percents(metrics.f1_score(truth, labels, average=None))
    assert cells["found on test by trial 0, %"] == percents(metrics.recall_score(truth, labels, average=None))
    assert cells["test AUC, %"] == percents(
        metrics.roc_auc_score(truth == index, probabilities[:, index]) for index in range(3)
    )
    assert cells["test average precision, %"] == percents(
        metrics.average_precision_score(truth == index, probabilities[:, index]) for index in range(3)
    )
    assert cells["predicted on test by trial 0"] == [str(count) for count in np.bincount(labels)]
    confusion = tables.confusion(CLASSES, summary.best_row.test.confusion)
    assert [[int(cell) for cell in row[1:]] for row in confusion.rows] == metrics.confusion_matrix(
        truth, labels
    ).tolist()


def test_the_papers_tables(summary, predicted):
    truth, probabilities = predicted
    labels = probabilities.argmax(axis=1)
    (blocks,) = paper_tables.blocks_by_model([summary]).values()
    (row,) = paper_tables.loss_scores(blocks, with_paper=False).rows
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth, labels, average="macro", zero_division=0)
    assert list(row[-4:]) == percents([metrics.accuracy_score(truth, labels), precision, recall, f1])
    by_class = [row[-1] for row in paper_tables.class_scores(blocks).rows]
    assert by_class == percents(metrics.f1_score(truth, labels, average=None))


def test_calibration(predicted):
    truth, probabilities = predicted
    found = calibrate(Predictions("val", truth, probabilities), Predictions("test", truth, probabilities))
    (row,) = evidence_tables.calibration([("trial", found)]).rows
    cells = dict(zip(evidence_tables.calibration([]).columns, row, strict=True))
    assert cells["accuracy, %"] == f"{100 * metrics.accuracy_score(truth, probabilities.argmax(axis=1)):.2f}"
    assert cells["NLL"] == f"{metrics.log_loss(truth, probabilities):.3f}"
    brier = sum(metrics.brier_score_loss(truth == index, probabilities[:, index]) for index in range(3))
    assert cells["Brier score"] == f"{brier:.3f}"
