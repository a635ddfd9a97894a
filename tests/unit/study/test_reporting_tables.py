from __future__ import annotations

from dataclasses import replace

from storage.costs import DeviceTime, StudyCost
from study.reporting import tables
from study.reporting.rows import SCORES, StudyData
from study.reporting.statistics import summarize
from study.reporting.text import NONE
from study.reporting.winners import winner_of


def cells(table, column):
    return [row[table.columns.index(column)] for row in table.rows]


def test_settings_in_percent_with_their_average_deviation(records):
    study = records.study(
        [records.point(1.0, 1.0, 0.5, 0.4), records.point(1.0, 0.5, 0.8122, 0.3), records.point(0.5, 0.5)]
    )
    table = tables.settings(summarize(study))
    assert cells(table, "setting") == ["joint", "beta", "alpha"]
    assert cells(table, "in the paper") == ["1", "2", "3"]
    assert cells(table, "points") == ["1 of 2", "2 of 2", "1 of 1"]
    assert cells(table, "validation macro F1, %")[1] == "65.61 ± 15.61"
    assert cells(table, "test macro F1, %")[1] == "35.00 ± 5.00"
    assert cells(table, "best β") == ["1.0", "0.5", "1.0"]


def test_the_best_points_scores_have_a_spread_only_with_several_seeds(records):
    first = records.point(1.0, 0.5, 0.6, 0.5, seed=1)
    one = tables.best_scores(summarize(records.study([first])))
    assert cells(one, "split") == ["test", "validation"]
    assert cells(one, "macro F1, %") == ["50.00", "60.00"]
    assert cells(one, "accuracy, %") == ["80.00", "80.00"]
    assert cells(one, "macro average precision, %") == ["85.00", "85.00"]
    assert cells(one, "sensitivity at 95 % specificity, %") == ["55.00", "55.00"]
    assert cells(one, "MCC") == ["0.4100", "0.4100"]
    assert cells(one, "Cohen's κ") == ["0.4000", "0.4000"]
    assert len(one.columns) == len(SCORES) + 1

    second = records.point(1.0, 0.5, 0.6, 0.7, seed=2)
    two = tables.best_scores(summarize(records.study([first, second])))
    assert cells(two, "macro F1, %") == ["60.00 ± 14.14", "60.00 ± 0.00"]
    assert cells(two, "MCC") == ["0.4100 ± 0.0000"] * 2
    assert tables.best_scores(summarize(records.study([]))).rows == ()


def test_coefficients_are_no_percentages_and_may_be_negative(records):
    points = [
        records.point(1.0, 0.5, 0.6, records.scores(mcc=mcc, kappa=-0.125), seed=seed)
        for seed, mcc in enumerate((-0.3, 0.1))
    ]
    table = tables.best_scores(summarize(records.study(points)))
    assert (cells(table, "MCC")[0], cells(table, "Cohen's κ")[0]) == ("-0.1000 ± 0.2828", "-0.1250 ± 0.0000")


def test_points_of_an_older_version_have_dashes_for_newer_scores(records):
    summary = summarize(records.study([records.point(val=records.older_scores(), test=records.older_scores(0.5))]))
    table = tables.best_scores(summary)
    assert cells(table, "macro F1, %") == ["50.00", "60.00"]
    for heading in ("macro average precision, %", "sensitivity at the stated specificity, %", "MCC", "Cohen's κ"):
        assert cells(table, heading) == [NONE, NONE]
    classes = tables.classes(summary)
    assert cells(classes, "test F1, %") == ["50.00", "50.00"]
    for heading in ("AUC", "average precision", "sensitivity at the stated specificity"):
        assert cells(classes, f"test {heading}, %") == [NONE, NONE]


def test_a_class_that_was_never_predicted_stands_out(records):
    scores = records.scores(confusion=[[8, 0], [4, 0]], f1_per_class=[0.8, 0.0])
    summary = summarize(records.study([records.point(val=0.5, test=scores)]))
    table = tables.classes(summary)
    assert cells(table, "class") == ["NV", "MEL"]
    assert cells(table, "training images") == ["38", "18"]
    assert cells(table, "test F1, %") == ["80.00", "0.00"]
    assert cells(table, "found on test by trial 0, %") == ["100.00", "0.00"]
    assert cells(table, "predicted on test by trial 0") == ["12", "never"]
    assert table.marked == {1}


def test_classes_have_their_scores_against_the_rest_as_means_over_the_seeds(records):
    first = records.scores(auc_per_class=[0.7, None], specificity=0.999)
    second = records.scores(auc_per_class=[0.8, 0.6], specificity=0.999)
    points = [records.point(1.0, 0.5, second, test, seed=seed) for seed, test in enumerate((first, second))]
    table = tables.classes(summarize(records.study(points)))
    assert cells(table, "test AUC, %") == ["75.00", "60.00"]
    assert cells(table, "test average precision, %") == ["93.00", "77.00"]
    assert cells(table, "test sensitivity at 99.9 % specificity, %") == ["75.00", "35.00"]
    assert cells(table, "found on test by trial 0, %") == ["87.50", "50.00"]


def test_classes_without_a_complete_point_have_their_images_only(records):
    table = tables.classes(summarize(records.study([records.point()])))
    assert table.rows == (("NV", "38", "8", "8", *[NONE] * 7), ("MEL", "18", "4", "4", *[NONE] * 7))


def test_the_confusion_matrix_has_a_row_a_true_class(records):
    assert tables.confusion(("NV", "MEL"), ((7, 1), (2, 2))).rows == (("NV", "7", "1"), ("MEL", "2", "2"))


def test_the_table_of_points_has_all_points_and_marks_the_best(records):
    failed = records.point(1.0, 0.5, state="failed", attempts=2, message="loss is NaN in epoch 3")
    lost = records.point(1.0, 0.7, 0.6, 0.55, attempts=3, lost_attempts=2, lost_epochs=5)
    study = records.study([failed, lost, records.point(1.0, 0.9), records.point(None, None, loss="cce")])

    table = tables.points(summarize(study))

    assert cells(table, "trial") == ["0", "1", "2", "3"]
    assert cells(table, "state") == ["failed", "complete", "waiting", "waiting"]
    assert cells(table, "setting") == ["beta", "beta", "beta", "CCE"]
    assert cells(table, "test F1") == [NONE, "55.00", NONE, NONE]
    assert cells(table, "attempts") == ["2", "3", "0", "0"]
    assert cells(table, "lost epochs") == ["0", "5", "0", "0"]
    assert table.marked == {1}
    messages = tables.messages(summarize(study))
    assert cells(messages, "message") == ["loss is NaN in epoch 3"]
    assert cells(messages, "state") == ["failed"]
    assert tables.messages(summarize(records.study([lost]))) is None


def test_the_overview_has_a_row_a_study(records):
    done = records.study([records.point(1.0, 0.6, 0.7, 0.65), records.point(1.0, 0.7)])
    summaries = [summarize(done), summarize(records.study([records.point()], name="later"))]
    table = tables.overview(summaries, [winner_of(summary) for summary in summaries])
    assert cells(table, "study") == ["skin-small", "later"]
    assert cells(table, "points complete") == ["1 of 2", "0 of 1"]
    assert cells(table, "β") == ["0.6", NONE]
    assert cells(table, "test macro F1, %") == ["65.00", NONE]
    assert cells(table, "split") == ["55555555", "55555555"]


def test_the_overview_says_what_leaks(records, leaks):
    studies = [records.study(leakage=entries) for entries in ((leaks("lesion", 813),), (leaks("lesion"),), ())]
    summaries = [summarize(study) for study in studies]
    table = tables.overview(summaries, [winner_of(summary) for summary in summaries])
    assert cells(table, "leaks") == ["813 lesions leak", "none", "unknown"]


def test_the_recipe_is_shown_whole(records):
    study = records.study(spec={"recipe": {"epochs": 60, "lr": 1e-4}, "seeds": [23, 24], "group": None, "settings": []})
    facts = dict(tables.recipe(StudyData(study, (), ())).rows)
    assert facts["recipe.epochs"] == "60"
    assert facts["recipe.lr"] == "0.0001"
    assert facts["seeds"] == "23, 24"
    assert facts["group"] == facts["settings"] == NONE
    assert facts["fingerprint of the images"] == "f" * 64
    assert facts["train images"] == "56"
    assert facts["planned"] == "2025-06-15 15:06:40 UTC"


def test_attempts_come_by_their_start_with_their_end(records):
    point = records.point(val=0.5, attempts=2, lost_attempts=1, lost_epochs=4)
    late = records.attempt(point, 2, started_at=2000.0, ended_at=None, end=None, first_epoch=4, epochs=1, host="b")
    early = records.attempt(point, 1, started_at=1000.0, ended_at=1090.0, end="lost", message="no sign of life")
    data = StudyData(records.study([point]), (records.epoch(point, 1),), (late, early))

    table = tables.attempts(data)

    assert cells(table, "attempt") == ["1", "2"]
    assert cells(table, "took") == ["2 min", NONE]
    assert cells(table, "end") == ["lost", "under way"]
    assert cells(table, "resumed after epoch") == ["0", "4"]
    assert cells(table, "message") == ["no sign of life", ""]
    assert tables.attempts_sentence(data) == (
        "2 attempts on 2 hosts, at 200 training images a second on average; 1 attempt lost, 4 epochs trained again."
    )
    assert tables.attempts_sentence(replace(data, epochs=(), attempts=())).startswith("0 attempts on 0 hosts;")
    cost = StudyCost(gpu=DeviceTime(7200.0, 600.0), cpu=DeviceTime(90.0, 0.0))
    assert tables.attempts_sentence(replace(data, cost=cost)).endswith(
        "4 epochs trained again. "
        "Time of GPUs 2 h 0 min, 10 min of it for nothing; processors 2 min, 0.0 s of it for nothing."
    )
    assert tables.cost_sentence(cost, 0) == " Time of GPUs 2 h 0 min; processors 2 min."
