from __future__ import annotations

import pytest
from lmf_testing.pictures import HOSTILE, check_colours, check_hostile, layout, marks, traces

from study.reporting.class_figures import (
    MOST_CLASSES,
    Contender,
    class_f1,
    class_f1_rows,
    class_f1_sentence,
    loss_contenders,
    study_contenders,
)
from study.reporting.rows import ClassCount, class_counts
from study.reporting.statistics import summarize

COUNTS = (ClassCount("NV", 70, 10, 10), ClassCount("DF", 7, 1, 1), ClassCount("MEL", 30, 5, 5))
BEST = Contender("best", (0.9, 0.5, 0.7), ((0.88, 0.4, 0.7), (0.92, 0.6, 0.7)))
TWO, ONE = Contender("two", (0.1, 0.2), ((0.1, 0.2),)), Contender("one", (0.05, 0.3), ((0.05, 0.3),))
OTHER = Contender("plain", (0.8, 0.6, 0.7), ((0.8, 0.6, 0.7),))


def scored(records, macro_f1, *f1):
    return records.scores(macro_f1, f1_per_class=list(f1))


def test_the_rarest_class_comes_first():
    rows = class_f1_rows(COUNTS, (BEST, OTHER))
    assert [(row.name, row.train, row.contender, row.f1) for row in rows] == [
        ("DF", 7, "best", 0.5),
        ("DF", 7, "plain", 0.6),
        ("MEL", 30, "best", 0.7),
        ("MEL", 30, "plain", 0.7),
        ("NV", 70, "best", 0.9),
        ("NV", 70, "plain", 0.8),
    ]
    assert (rows[0].low, rows[0].high, rows[0].seeds) == (0.4, 0.6, 2)


def test_classes_without_a_split_are_ordered_by_all_their_images():
    counts = (ClassCount("a", None, None, None, 9), ClassCount("b", None, None, None, 4))
    rows = class_f1_rows(counts, (Contender("x", (0.1, 0.2), ((0.1, 0.2),)),))
    assert [(row.name, row.train) for row in rows] == [("b", None), ("a", None)]


def test_a_study_compares_its_best_the_plain_point_and_the_one_in_the_middle(records):
    points = [
        records.point(1.0, 0.5, 0.9, scored(records, 0.5, 0.6, 0.4), seed=1),
        records.point(1.0, 0.5, 0.7, scored(records, 0.5, 0.8, 0.2), seed=2),
        records.point(1.0, 0.7, 0.7),
        records.point(1.0, 0.9, 0.6, scored(records, 0.5, 0.3, 0.1)),
        records.point(1.0, 1.0, 0.5, scored(records, 0.5, 0.7, 0.7)),
        records.point(1.0, 2.0, 0.4),
    ]
    found = study_contenders(summarize(records.study(points)))
    assert [one.name for one in found] == ["best (α 1.0, β 0.5)", "α = β = 1", "median point (α 1.0, β 0.9)"]
    assert found[0].f1 == pytest.approx((0.7, 0.3))
    assert found[0].seeds == ((0.6, 0.4), (0.8, 0.2))
    assert found[2].f1 == (0.3, 0.1)
    assert study_contenders(summarize(records.study(points)), "val")[1].f1 == (0.5, 0.5)


def test_a_point_that_is_two_of_them_stands_once(records):
    points = [records.point(1.0, 1.0, 0.9), records.point(1.0, 0.5, 0.3)]
    assert [one.name for one in study_contenders(summarize(records.study(points)))] == ["best (α 1.0, β 1.0)"]
    points.append(records.point(1.0, 2.0, 0.95))
    names = [one.name for one in study_contenders(summarize(records.study(points)))]
    assert names == ["best (α 1.0, β 2.0)", "α = β = 1"]
    assert study_contenders(summarize(records.study([records.point(1.0, 1.0)]))) == ()


def test_losses_are_compared_in_the_order_of_the_description(records):
    points = [
        records.point(1.0, 0.5, 0.5, scored(records, 0.5, 0.6, 0.4), settings=()),
        records.point(1.0, 1.0, 0.5, settings=()),
        records.point(None, None, 0.5, scored(records, 0.5, 0.2, 0.1), loss="cce"),
        records.point(None, None, loss="focal"),
    ]
    summary = summarize(records.study(points, spec={"losses": ["cce", "focal", "lmf"]}))
    found = loss_contenders(summary)
    assert [one.name for one in found] == ["CCE", "LMF α 1.0, β 0.5", "LMF α 1.0, β 1.0"]
    assert found[0].f1 == (0.2, 0.1)


def test_marks_lie_beside_each_other_and_differ_in_shape():
    picture = class_f1(COUNTS, (BEST, OTHER))
    shown = traces(picture)
    assert shown["best"]["y"] == [50.0, 70.0, 90.0]
    assert shown["best"]["error_y"]["array"] == pytest.approx([10.0, 0.0, 2.0])
    assert shown["best"]["error_y"]["arrayminus"] == pytest.approx([10.0, 0.0, 2.0])
    assert shown["best"]["error_y"]["visible"]
    assert not shown["plain"]["error_y"]["visible"]
    assert [round(x) for x in shown["best"]["x"]] == [round(x) for x in shown["plain"]["x"]] == [0, 1, 2]
    assert shown["best"]["x"] != shown["plain"]["x"]
    assert shown["best"]["marker"]["symbol"] != shown["plain"]["marker"]["symbol"]
    assert layout(picture)["xaxis"]["ticktext"] == ["DF<br>7", "MEL<br>30", "NV<br>70"]
    assert shown["best"]["text"][0] == "DF<br>7 training images<br>best: 50.00 %<br>2 seeds from 40.00 to 60.00 %"


def test_of_very_many_classes_the_rarest_are_shown():
    counts = [ClassCount(f"c{n}", 1000 - n, 1, 1) for n in range(60)]
    values = tuple(n / 100 for n in range(60))
    picture = class_f1(counts, (Contender("x", values, (values,)),))
    assert marks(picture) == MOST_CLASSES
    assert picture.title == "Test F1 of each class, the rarest first, the 40 rarest of 60 classes"
    assert layout(picture)["xaxis"]["ticktext"][0] == "c59<br>941"
    assert traces(picture)["x"]["y"][0] == 59.0


def test_long_names_are_cut_in_the_middle_on_the_axis_alone():
    counts = (ClassCount("Pneumonia, viral, in children", 5, 1, 1),)
    picture = class_f1(counts, (Contender("x", (0.5,), ((0.5,),)),))
    assert layout(picture)["xaxis"]["ticktext"] == ["Pneumonia…children<br>5"]
    assert traces(picture)["x"]["text"][0].startswith("Pneumonia, viral, in children<br>")


def test_names_with_markup_stay_text():
    counts = (ClassCount(HOSTILE, 5, 1, 1),)
    check_hostile(class_f1(counts, (Contender(HOSTILE, (0.5,), ((0.5,),)),)))


def test_classes_in_words():
    rows = class_f1_rows(COUNTS, (BEST, OTHER))
    assert class_f1_sentence(rows) == (
        "The rarest class, DF (7 training images, 1 test image: too few to tell), has F1 50.00 % with best, 60.00 % "
        "with plain; beside plain, best gains most on NV (+10.00 points, 10 test images) and loses most on DF (-10.00 "
        "points, 1 test image: too few to tell)."
    )
    assert class_f1_sentence(rows, "plain").endswith(
        "beside best, plain gains most on DF (+10.00 points, 1 test image: too few to tell) and loses most on NV "
        "(-10.00 points, 10 test images)."
    )
    worse = class_f1_rows(COUNTS, (BEST, Contender("bad", (0.1, 0.1, 0.1), ((0.1, 0.1, 0.1),)), OTHER))
    assert class_f1_sentence(worse, "bad", "plain").endswith(
        "beside plain, bad gains on no class and loses most on NV (-70.00 points, 10 test images)."
    )
    assert class_f1_sentence(worse, against="bad").endswith(
        "(+80.00 points, 10 test images) and least on DF (+40.00 points, 1 test image: too few to tell)."
    )
    assert class_f1_sentence(class_f1_rows(COUNTS, (BEST,))).endswith("has F1 50.00 % with best.")
    unknown = class_f1_rows((ClassCount("a", None, None, None, 9), ClassCount("b", None, None, None, 4)), (TWO, ONE))
    assert class_f1_sentence(unknown) == (
        "The rarest class, b, has F1 20.00 % with two, 30.00 % with one; beside one, two gains most on a (+5.00 "
        "points) and loses most on b (-10.00 points)."
    )
    assert class_f1_sentence(()) == "No point is complete yet."


def test_figures_of_a_study_without_scores_are_empty(records):
    study = records.study([])
    picture = class_f1(class_counts(study), study_contenders(summarize(study)))
    assert marks(picture) == 0
    check_colours(picture)
