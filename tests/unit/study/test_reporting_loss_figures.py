from __future__ import annotations

import csv

import pytest
from lmf_testing.pictures import HOSTILE, check_colours, check_hostile, layout, marks, traces

from study.reporting.loss_figures import LossRow, loss_rows, loss_scores, loss_sentence
from study.reporting.loss_ranks import (
    LossCell,
    dataset_loss_rows,
    dataset_losses,
    dataset_sentence,
    loss_cells,
    loss_ranks,
    rank_rows,
    rank_sentence,
)
from study.reporting.statistics import spread_of, summarize

SPEC = {"losses": ["lmf", "cce", "focal"], "recipe": {"select": "macro_f1"}}


@pytest.fixture
def study(records):
    return records.study(
        [
            records.point(None, None, 0.5, 0.60, loss="cce", seed=1),
            records.point(None, None, 0.5, 0.70, loss="cce", seed=2),
            records.point(1.0, 0.5, 0.6, 0.80, settings=(), seed=1),
            records.point(1.0, 0.5, 0.8, 0.90, settings=(), seed=2),
            records.point(None, None, loss="focal"),
        ],
        spec=SPEC,
    )


@pytest.fixture
def paper(test_data):
    """The paper's Tables 2 to 4."""
    with (test_data / "paper" / "tables2-4.csv").open(newline="") as file:
        return [
            LossCell(row["dataset"], row["model"], row["loss"], float(row["macro_f1"]) / 100)
            for row in csv.DictReader(file)
        ]


def test_losses_come_in_the_order_of_the_description_with_their_seeds(study):
    rows = loss_rows(summarize(study), "test", {"lmf": (0.81, 0.89)})
    assert [(row.name, row.seeds, row.interval) for row in rows] == [
        ("lmf", (0.8, 0.9), (0.81, 0.89)),
        ("CCE", (0.6, 0.7), None),
    ]
    assert rows[0].spread.mean == pytest.approx(0.85)
    assert [row.seeds for row in loss_rows(summarize(study), "val")] == [(0.6, 0.8), (0.5, 0.5)]


def test_means_have_their_intervals_and_single_seeds_beside_them(study):
    picture = loss_scores(loss_rows(summarize(study), "test", {"lmf": (0.81, 0.88)}))
    shown = traces(picture)
    mean = shown["mean and its interval"]
    assert (mean["x"], mean["y"]) == ([0, 1], [85.0, 65.0])
    assert mean["error_y"]["array"] == pytest.approx([3.0, 0.0])
    assert mean["error_y"]["arrayminus"] == pytest.approx([4.0, 0.0])
    seeds = shown["single seeds"]
    assert seeds["y"] == [80.0, 90.0, 60.0, 70.0]
    assert [round(x) for x in seeds["x"]] == [0, 0, 1, 1]
    assert layout(picture)["xaxis"]["ticktext"] == ["LMF", "CCE"]
    check_colours(picture)


def test_one_seed_is_no_cloud_and_no_interval_is_no_bar(records):
    points = [records.point(None, None, 0.5, 0.6, loss=loss) for loss in ("cce", "focal")]
    rows = loss_rows(summarize(records.study(points, spec=SPEC)))
    shown = traces(loss_scores(rows))
    assert list(shown) == ["mean"]
    assert not shown["mean"]["error_y"]["visible"]
    assert "with one seed, nothing is known of the noise" in loss_sentence(rows)


def test_losses_in_words(study):
    summary = summarize(study)
    assert loss_sentence(loss_rows(summary)) == (
        "lmf has the highest mean test macro F1, 85.00 %, 20.00 percentage points above cce."
    )
    apart = {"lmf": (0.8, 0.9), "cce": (0.6, 0.7)}
    assert loss_sentence(loss_rows(summary, "test", apart)).endswith("; their intervals do not overlap.")
    near = {"lmf": (0.7, 0.9), "cce": (0.6, 0.7)}
    assert loss_sentence(loss_rows(summary, "test", near)).endswith("; their intervals overlap.")
    assert loss_sentence(()) == "No loss is complete yet."
    assert loss_sentence(loss_rows(summary)[:1]).endswith("no other loss is complete yet.")
    assert marks(loss_scores(())) == 0


def test_the_papers_fig_1_is_made_of_its_tables(paper):
    rows = {(row.dataset, row.loss): row for row in dataset_loss_rows(paper)}
    assert len(rows) == 20
    # (62.94 + 57.73 + 59.97) / 3 and their distances from it.
    assert rows["ODIR-5K", "LMF"].spread.mean == pytest.approx(0.602133, abs=1e-6)
    assert rows["ODIR-5K", "LMF"].spread.average_deviation == pytest.approx(0.018178, abs=1e-6)
    assert rows["ODIR-5K", "BWCCE"].spread.average_deviation > rows["ODIR-5K", "LMF"].spread.average_deviation
    assert rows["ISIC-2019", "CCE"].models == pytest.approx(
        {"efficientnetv2": 0.7546, "resnet50": 0.6842, "densenet121": 0.7520}
    )
    sentence = dataset_sentence(list(rows.values()))
    assert sentence.startswith("The highest mean over the models has LMF on ODIR-5K (60.21 ± 1.82 %); LMF on HAM-10K")
    assert sentence.count("LMF on") == 4


def test_fig_1_has_a_mark_a_dataset_and_loss(paper):
    picture = dataset_losses(dataset_loss_rows(paper))
    shown = traces(picture)
    assert list(shown) == ["CCE", "Focal", "LDAM", "BWCCE", "LMF"]
    assert len({trace["marker"]["symbol"] for trace in shown.values()}) == 5
    assert shown["LMF"]["y"][0] == 60.2133
    assert shown["LMF"]["error_y"]["array"][0] == 1.8178
    assert [round(x) for x in shown["LMF"]["x"]] == [0, 1, 2, 3]
    assert layout(picture)["xaxis"]["ticktext"] == ["ODIR-5K", "HAM-10K", "ISIC-2019", "Covid-19"]
    check_colours(picture)


def test_ranks_of_the_papers_losses(paper):
    from scipy.stats import rankdata

    rows = rank_rows(paper)
    by_loss = {row.loss: row for row in rows}
    assert rows[0].loss == "LMF"
    # BWCCE is first on ODIR-5K with EfficientNetV2 and DenseNet-121, as the paper says itself.
    assert (by_loss["LMF"].firsts, by_loss["BWCCE"].firsts) == (10, 2)
    assert by_loss["LMF"].mean == pytest.approx(14 / 12)
    assert sum(row.mean for row in rows) == pytest.approx(15)
    cells = {(cell.dataset, cell.model, cell.loss): cell.score for cell in paper}
    losses = [row.loss for row in rows]
    wanted = rankdata([-cells["HAM-10K", "resnet50", loss] for loss in losses])
    place = list(dict.fromkeys((cell.dataset, cell.model) for cell in paper)).index(("HAM-10K", "resnet50"))
    assert [by_loss[loss].ranks[place] for loss in losses] == wanted.tolist()
    assert rank_sentence(rows) == (
        "LMF has the best mean rank, 1.17 of 5 losses, and the highest score in 10 of 12 comparisons."
    )


def test_equal_scores_share_a_rank_and_blocks_with_gaps_do_not_count():
    cells = [
        *(LossCell("a", "m", loss, score) for loss, score in (("x", 0.5), ("y", 0.5), ("z", 0.1))),
        *(LossCell("b", "m", loss, score) for loss, score in (("x", 0.5), ("y", 0.4))),
    ]
    rows = rank_rows(cells)
    assert [(row.loss, row.ranks, row.firsts) for row in rows] == [
        ("x", (1.5,), 1),
        ("y", (1.5,), 1),
        ("z", (3.0,), 0),
    ]
    assert rank_sentence(rows) == (
        "x has the best mean rank, 1.50 of 3 losses, as has y, and the highest score in 1 of 1 comparison."
    )
    assert rank_rows(cells[3:4] + cells[2:3]) == ()
    assert rank_sentence(()).startswith("No dataset and model has a score of every loss")


def test_the_rank_figure_counts_how_often_a_loss_has_a_rank(paper):
    picture = loss_ranks(rank_rows(paper))
    shown = traces(picture)
    often = shown["how often it has this rank"]
    first = {y: text for x, y, text in zip(often["x"], often["y"], often["text"], strict=True) if x == 0}
    assert first == {1: "10", 2: "2"}
    assert sum(map(int, often["text"])) == 60
    assert shown["mean rank"]["y"][0] == 1.16667
    assert layout(picture)["xaxis"]["ticktext"][0] == "LMF<br>1.17"
    assert layout(picture)["yaxis"]["range"][0] > layout(picture)["yaxis"]["range"][1]
    assert picture.title == "Ranks of the losses over 12 comparisons"
    check_colours(picture)
    assert marks(loss_ranks(())) == 0


def test_cells_come_from_the_studies(study, records):
    other = records.study([records.point(1.0, 1.0, 0.5)], name="no losses")
    cells = loss_cells([summarize(study), summarize(other)])
    assert [(cell.dataset, cell.model, cell.loss) for cell in cells] == [
        ("skin", "efficientnetv2", "lmf"),
        ("skin", "efficientnetv2", "cce"),
    ]
    assert [cell.score for cell in cells] == pytest.approx([0.85, 0.65])


def test_names_with_markup_stay_text():
    cells = [LossCell(HOSTILE, HOSTILE, HOSTILE, 0.5), LossCell(HOSTILE, HOSTILE, "cce", 0.4)]
    check_hostile(dataset_losses(dataset_loss_rows(cells)))
    check_hostile(loss_ranks(rank_rows(cells)))
    check_hostile(loss_scores([LossRow(HOSTILE, (0.5, 0.6), spread_of((0.5, 0.6)), (0.4, 0.7))]))
