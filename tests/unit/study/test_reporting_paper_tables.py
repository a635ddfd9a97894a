from __future__ import annotations

import csv
from collections import defaultdict
from statistics import stdev

import pytest

from study.paper import names
from study.paper.published import METRICS, published
from study.reporting import paper_tables
from study.reporting.statistics import summarize
from study.reporting.text import NONE

LOSSES = tuple(names.LOSSES)
FULL = {
    "efficientnetv2": "tf_efficientnetv2_s.in1k",
    "resnet50": "resnet50.tv2_in1k",
    "densenet121": "densenet121.tv_in1k",
}
HOSTILE = '<b>"|&%_=x'


def column(table, name):
    return [row[table.columns.index(name)] for row in table.rows]


@pytest.fixture
def printed(test_data):
    """Reads a table of the paper as it was published."""

    def read(name):
        with (test_data / "paper" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return read


@pytest.fixture
def compare(records):
    """Makes the summary of a comparison of losses: `compare({"cce": (0.5, 0.6)})` has two seeds of one loss."""

    def make(losses, dataset="skin", model="resnet18", **others):
        points = []
        for loss, scores in losses.items():
            name, alpha, beta = (
                loss if isinstance(loss, tuple) else (loss, *((1.0, 0.5) if loss == "lmf" else (None,) * 2))
            )
            for seed, score in enumerate(scores):
                given = score if isinstance(score, dict) or score is None else records.scores(score)
                val = None if given is None else given
                points.append(records.point(alpha, beta, val, given, loss=name, seed=seed, settings=()))
        order = list(dict.fromkeys(loss[0] if isinstance(loss, tuple) else loss for loss in losses))
        spec = {"dataset": dataset, "recipe": {"select": "macro_f1", "epochs": 2}, "losses": order}
        return summarize(records.study(points, dataset=dataset, model=model, spec=spec, **others))

    return make


@pytest.fixture
def as_published(compare, records):
    """The studies that would have come to exactly what the paper published, one a dataset and model."""
    paper = published()
    summaries = []
    for model in reversed(names.MODELS):
        for dataset in reversed(names.DATASETS):
            classes = [row for row in paper.classes if row.dataset == dataset]
            size = next(row for row in paper.splits if row.dataset == dataset)
            losses = {}
            for row in paper.scores:
                if (row.model, row.dataset) == (model, dataset):
                    f1 = [one.f1[row.loss] for one in classes]
                    figures = {name: row.get(name) for name in METRICS}
                    losses[row.loss] = (records.scores(**figures, f1_per_class=f1),)
            counts = {
                "train": tuple(one.train for one in classes),
                "val": (size.val,) + (0,) * (len(classes) - 1),
                "test": (size.test,) + (0,) * (len(classes) - 1),
            }
            summaries.append(
                compare(
                    losses,
                    dataset,
                    FULL[model],
                    name=f"{dataset}-{model}",
                    class_names=tuple(one.name for one in classes),
                    counts=counts,
                )
            )
    return summaries


def test_table_1_is_laid_out_like_the_papers(as_published, printed):
    table = paper_tables.split_sizes(as_published)
    assert table.columns == (
        *("dataset", "training", "validation", "test"),
        *("paper: training", "paper: validation", "paper: test"),
    )
    sizes = [[row[part] for part in ("train", "val", "test")] for row in printed("table1")]
    assert [list(row[1:4]) for row in table.rows] == [list(row[4:]) for row in table.rows] == sizes
    assert column(table, "dataset") == list(names.DATASETS.values())


def test_tables_2_to_4_are_laid_out_like_the_papers(as_published, printed):
    blocks = paper_tables.blocks_by_model(as_published)
    assert list(blocks) == ["EfficientNetV2", "ResNet-50", "DenseNet-121"]
    by_table = defaultdict(list)
    for row in printed("tables2-4"):
        figures = [row[name] for name in METRICS]
        by_table[row["table"]].append((row["dataset"], row["loss"], *figures, *figures))
    for number, members in zip("234", blocks.values(), strict=True):
        table = paper_tables.loss_scores(members)
        assert table.columns[:6] == ("dataset", "loss", "accuracy", "precision", "recall", "macro F1")
        assert table.columns[6:] == tuple(f"paper: {name}" for name in table.columns[2:6])
        assert list(table.rows) == by_table[number]


def test_table_5_is_laid_out_like_the_papers(as_published, printed):
    table = paper_tables.class_scores(paper_tables.blocks_by_model(as_published)["EfficientNetV2"])
    headings = list(names.LOSSES.values())
    assert table.columns == (
        *("dataset", "class", "training images"),
        *headings,
        *(f"paper: {name}" for name in headings),
    )
    rows = [
        (row["dataset"], row["class"], row["train_samples"], *(2 * [row[loss] for loss in LOSSES]))
        for row in printed("table5")
    ]
    assert list(table.rows) == rows
    other = paper_tables.class_scores(paper_tables.blocks_by_model(as_published)["ResNet-50"])
    assert other.columns == ("dataset", "class", "training images", *headings)


def test_table_6_is_laid_out_like_the_papers(records, printed):
    rows = printed("table6")
    titles = {name: title for title, name in names.DATASETS.items()}
    studies = []
    for row in reversed(rows):
        dataset, pair = titles[row["dataset"]], (float(row["alpha"]), float(row["beta"]))
        points = [records.point(*pair, 0.9, 0.5), records.point(0.7, 0.7, 0.8, 0.9)]
        classes = names.CLASSES[dataset]
        studies.append(records.study(points, dataset=dataset, model=FULL[row["model"]], class_names=classes))
    table = paper_tables.factors(map(summarize, studies))
    models = list(names.MODELS.values())
    assert table.columns == ("dataset", "factor", *models, *(f"paper: {model}" for model in models))
    expected = []
    for dataset in names.DATASETS.values():
        for sign, name in (("α", "alpha"), ("β", "beta")):
            figures = [row[name] for model in names.MODELS for row in rows
                       if (row["dataset"], row["model"]) == (dataset, model)]  # fmt: skip
            expected.append((dataset, sign, *figures, *figures))
    assert list(table.rows) == expected
    assert paper_tables.factors(map(summarize, studies), with_paper=False).columns == ("dataset", "factor", *models)


def test_the_best_of_each_dataset_and_column_is_marked_ours_and_theirs_apart(as_published):
    table = paper_tables.loss_scores(paper_tables.blocks_by_model(as_published)["EfficientNetV2"])
    odir = {(row, column) for row, column in table.best if row < 5}
    assert odir == {(4, 2), (4, 3), (3, 4), (3, 5), (4, 6), (4, 7), (3, 8), (3, 9)}
    assert table.marked == {3, 9, 14, 19}
    classes = paper_tables.class_scores(paper_tables.blocks_by_model(as_published)["EfficientNetV2"])
    assert {column for row, column in classes.best if row == 0} == {3, 8}
    won = [row for row, column in classes.best if column == 7]
    assert len(won) == 3 + 4 + 7 + 3


def test_several_seeds_give_a_mean_and_the_sample_deviation(compare, records):
    scores = [records.scores(score, accuracy=score + 0.1, f1_per_class=[score, 0.5]) for score in (0.50, 0.53, 0.59)]
    summary = compare({"cce": scores, "lmf": (0.6, None)})
    (blocks,) = paper_tables.blocks_by_model([summary]).values()
    table = paper_tables.loss_scores(blocks)
    spread = f"{100 * stdev((0.50, 0.53, 0.59)):.2f}"
    assert table.columns == ("dataset", "loss", "accuracy", "precision", "recall", "macro F1")
    assert table.rows[0] == ("skin", "CCE", f"64.00 ± {spread}", "70.00 ± 0.00", "65.00 ± 0.00", f"54.00 ± {spread}")
    assert table.rows[1] == ("skin", "LMF", "80.00", "70.00", "65.00", "60.00")
    assert table.best == {(1, 2), (0, 3), (1, 3), (0, 4), (1, 4), (1, 5)}
    classes = paper_tables.class_scores(blocks)
    assert classes.rows[0] == ("skin", "NV", "38", f"54.00 ± {spread}", "60.00")
    assert classes.rows[1] == ("skin", "MEL", "18", "50.00 ± 0.00", "60.00")


def test_losses_that_are_not_trained_yet_have_dashes(compare):
    summary = compare(
        {"cce": (0.5,), "focal": (None,)}, "ham10000", FULL["resnet50"], class_names=names.CLASSES["ham10000"]
    )
    (blocks,) = paper_tables.blocks_by_model([summary]).values()
    table = paper_tables.loss_scores(blocks)
    assert column(table, "loss") == ["CCE", "Focal"]
    assert table.rows[1][2:6] == (NONE,) * 4
    assert column(table, "paper: macro F1") == ["79.95", "79.28"]
    assert not any(column < 6 for _, column in table.best)
    whole = paper_tables.loss_scores(blocks, whole=True)
    assert column(whole, "loss") == ["CCE", "Focal", "LDAM", "BWCCE", "LMF"]
    assert column(whole, "paper: macro F1") == ["79.95", "79.28", "80.41", "79.88", "82.43"]
    assert column(whole, "macro F1") == ["50.00", NONE, NONE, NONE, NONE]
    alone = paper_tables.loss_scores(blocks, with_paper=False)
    assert alone.columns == ("dataset", "loss", "accuracy", "precision", "recall", "macro F1")
    assert alone.rows[0][5] == "50.00"


def test_a_study_of_factors_gives_its_best_pair_unless_a_comparison_is_there(compare, records):
    tuned = summarize(
        records.study([records.point(1.0, 0.5, 0.7, 0.61), records.point(1.0, 0.6, 0.6, 0.99)], model="resnet18")
    )
    (blocks,) = paper_tables.blocks_by_model([tuned]).values()
    assert paper_tables.loss_scores(blocks).rows == (("skin", "LMF", "80.00", "70.00", "65.00", "61.00"),)
    compared = compare({"cce": (0.5,), "lmf": (0.52,)}, name="compare")
    (blocks,) = paper_tables.blocks_by_model([tuned, compared]).values()
    assert [(row[0], row[1], row[5]) for row in paper_tables.loss_scores(blocks).rows] == [
        ("skin", "CCE", "50.00"),
        ("skin", "LMF", "52.00"),
    ]
    assert paper_tables.blocks_by_model([summarize(records.study([records.point(1.0, 0.5)]))]) == {}


def test_studies_of_one_dataset_are_told_apart_and_so_are_pairs_of_lmf(compare):
    pairs = {("lmf", 1.0, 0.5): (0.5,), ("lmf", 1.0, 2.0): (0.6,)}
    first, second = compare(pairs, name="by-lesion", class_names=("NV", "MEL")), compare({"cce": (0.5,)}, name=HOSTILE)
    (blocks,) = paper_tables.blocks_by_model([first, second]).values()
    table = paper_tables.loss_scores(blocks)
    assert column(table, "dataset") == ["skin (by-lesion)"] * 2 + [f"skin ({HOSTILE})"]
    assert column(table, "loss") == ["LMF, α = 1.0, β = 0.5", "LMF, α = 1.0, β = 2.0", "CCE"]


def test_factors_of_several_studies_of_one_dataset_and_model(records):
    points = [records.point(1.0, 0.5, 0.7)]
    same = [records.study(points, name=name) for name in ("first", "second")]
    none = records.study([records.point(0.7, 1.0)], name="third", dataset=HOSTILE, model="resnet18")
    table = paper_tables.factors(map(summarize, [*same, none]))
    assert table.columns == ("dataset", "factor", "EfficientNetV2", "resnet18")
    assert table.rows == (
        ("skin (first)", "α", "1.0", NONE),
        ("skin (first)", "β", "0.5", NONE),
        ("skin (second)", "α", "1.0", NONE),
        ("skin (second)", "β", "0.5", NONE),
        (HOSTILE, "α", NONE, NONE),
        (HOSTILE, "β", NONE, NONE),
    )


def test_one_split_stands_once(compare):
    pair = [compare({"cce": (0.5,)}, name=name) for name in ("a", "b")]
    other = compare({"cce": (0.5,)}, split_fingerprint="6" * 64, counts={})
    assert paper_tables.split_sizes([*pair, other]).rows == (("skin", "56", "12", "12"), ("skin", NONE, NONE, NONE))


def test_average_ranks_are_those_of_the_published_scores(as_published):
    blocks = [block for members in paper_tables.blocks_by_model(as_published).values() for block in members]
    table = paper_tables.average_ranks(blocks)
    assert table.columns == ("loss", "mean rank of 5 over 12 comparisons", "paper: mean rank of 5 over 12")
    ranks = defaultdict(list)
    cells = defaultdict(dict)
    for row in published().scores:
        cells[row.dataset, row.model][row.loss] = row.macro_f1
    for scores in cells.values():
        for loss, score in scores.items():
            ranks[loss].append(1 + sum(other > score for other in scores.values()))
    expected = {names.LOSSES[loss]: f"{sum(of) / 12:.2f}" for loss, of in ranks.items()}
    assert {row[0]: row[1] for row in table.rows} == {row[0]: row[2] for row in table.rows} == expected
    assert table.rows[0][0] == "LMF"
    assert expected["LMF"] == "1.17"


def test_ranks_share_ties_and_leave_out_what_is_not_everywhere(compare):
    first = compare({"cce": (0.5,), "wcce": (0.5,), "focal": (0.4,)}, name="a")
    second = compare({"cce": (0.5,), "wcce": (0.6,)}, name="b", dataset="eyes")
    third = compare({"cce": (0.5,), "wcce": (None,)}, name="c", dataset="chests")
    (blocks,) = paper_tables.blocks_by_model([first, second, third]).values()
    table = paper_tables.average_ranks(blocks)
    assert table.columns == ("loss", "mean rank of 2 over 2 comparisons")
    assert table.rows == (("WCCE", "1.25"), ("CCE", "1.75"))
    assert paper_tables.mean_ranks([[0.5, 0.5, 0.4]]) == (1.5, 1.5, 3.0)


def test_two_comparisons_on_one_dataset_with_one_model_count_both(compare):
    pair = [compare({"cce": (0.5,), "lmf": (0.7,)}, name="a"), compare({"cce": (0.8,), "lmf": (0.6,)}, name="b")]
    (blocks,) = paper_tables.blocks_by_model(pair).values()
    table = paper_tables.average_ranks(blocks)
    assert table.columns[:2] == ("loss", "mean rank of 2 over 2 comparisons")
    assert [row[:2] for row in table.rows] == [("CCE", "1.50"), ("LMF", "1.50")]
    assert paper_tables.average_ranks(blocks[:1]).columns[1] == "mean rank of 2 over 1 comparison"


def test_nothing_to_rank(compare, records):
    tuned = summarize(records.study([records.point(1.0, 0.5, 0.7)]))
    assert paper_tables.average_ranks([]) is None
    (blocks,) = paper_tables.blocks_by_model([tuned]).values()
    assert paper_tables.average_ranks(blocks) is None
    (blocks,) = paper_tables.blocks_by_model([compare({"cce": (0.5,)})]).values()
    assert paper_tables.average_ranks(blocks) is None


def test_the_papers_inconsistencies_as_a_table():
    table = paper_tables.inconsistency_table()
    assert table.columns == ("where", "of what", "the paper says", "against", "gives", "difference")
    assert table.rows[0] == (
        *("Table 2", "ODIR-5K, CCE, macro F1", "60.34", "mean of the 8 F1 of Table 5"),
        *("60.08", "-0.26"),
    )
    assert table.rows[-1][-1] == "-3 values"
    assert len(table.rows) == 17
