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
    rank_cells,
    rank_rows,
)
from study.reporting.paper_tables import average_ranks, blocks_by_model
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
            LossCell(
                f"{row['dataset']} {row['model']}",
                row["dataset"],
                row["model"],
                row["loss"],
                float(row["macro_f1"]) / 100,
            )
            for row in csv.DictReader(file)
        ]


def test_losses_come_in_the_order_of_the_description_with_their_seeds(study):
    rows = loss_rows(summarize(study), "test", {"LMF": (0.81, 0.89)})
    assert [(row.name, row.seeds, row.interval) for row in rows] == [
        ("LMF", (0.8, 0.9), (0.81, 0.89)),
        ("CCE", (0.6, 0.7), None),
    ]
    assert rows[0].spread.mean == pytest.approx(0.85)
    assert [row.seeds for row in loss_rows(summarize(study), "val")] == [(0.6, 0.8), (0.5, 0.5)]


def test_means_have_their_intervals_and_single_seeds_beside_them(study):
    picture = loss_scores(loss_rows(summarize(study), "test", {"LMF": (0.81, 0.88)}))
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
        "LMF has the highest mean test macro F1, 85.00 %, before CCE with 65.00 %."
    )
    assert loss_sentence(loss_rows(summary, "test", {"LMF": (0.7, 0.9), "CCE": (0.6, 0.75)})) == (
        loss_sentence(loss_rows(summary))
    )
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
    assert sentence.startswith(
        "LMF has the highest mean on ODIR-5K (60.21 ± 1.82 % over 3 models); LMF on HAM-10K (83.45 ± 0.77 % over 3"
    )
    assert sentence.count("LMF ") == 4


def test_one_model_has_no_deviation_and_losses_without_all_models_do_not_count():
    cells = [LossCell("a", "skin", "m", "CCE", 0.5), LossCell("a", "skin", "m", "LMF", 0.4)]
    assert dataset_sentence(dataset_loss_rows(cells)) == "CCE has the highest mean on skin (50.00 %)."
    shown = traces(dataset_losses(dataset_loss_rows(cells)))
    assert shown["CCE"]["text"] == ["skin, CCE<br>50.00 %<br>m: 50.00 %"]
    cells += [LossCell("b", "skin", "n", "LMF", 0.2), LossCell("b", "skin", "n", "CCE", None)]
    assert dataset_sentence(dataset_loss_rows(cells)) == (
        "LMF has the highest mean on skin (30.00 ± 10.00 % over 2 models)."
    )
    assert dataset_sentence(()) == "No loss is complete yet."


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


def test_equal_scores_share_a_rank_and_all_ranks_follow_one_rule():
    cells = [
        *(LossCell("a", "a", "m", loss, score) for loss, score in (("x", 0.5), ("y", 0.5), ("z", 0.1))),
        *(LossCell("b", "b", "m", loss, score) for loss, score in (("x", 0.5), ("y", 0.6))),
        *(LossCell("c", "c", "m", loss, score) for loss, score in (("x", 0.5), ("y", None))),
    ]
    rows = rank_rows(cells)
    assert [(row.loss, row.ranks, row.firsts) for row in rows] == [("y", (1.5, 1.0), 2), ("x", (1.5, 2.0), 1)]
    tests = rank_cells(cells)
    assert tests.ranks == tuple((row.loss, row.mean) for row in rows)
    assert (tests.missing_losses, tests.left_out, tests.blocks) == (("z",), 1, 2)
    assert rank_rows(cells[2:3] + cells[3:4]) == ()


def test_table_figure_and_tests_rank_the_same_losses_of_the_same_comparisons(records):
    def compared(name, **scores):
        points = [
            records.point(None, None, None if score is None else 0.5, score, loss=loss, settings=())
            for loss, score in scores.items()
        ]
        return summarize(records.study(points, spec=SPEC | {"losses": list(scores)}, name=name))

    summaries = [
        compared("a", cce=0.5, focal=0.6, ldam=0.1),
        compared("b", cce=0.8, focal=0.7),
        compared("c", cce=0.5, focal=None, ldam=0.4),
    ]
    cells = loss_cells(summaries)
    figure = rank_rows(cells)
    (blocks,) = blocks_by_model(summaries).values()
    table = average_ranks(blocks)
    tests = rank_cells(cells)
    assert {row.loss for row in figure} == {row[0] for row in table.rows} == {loss for loss, _ in tests.ranks}
    assert {row.loss: f"{row.mean:.2f}" for row in figure} == {row[0]: row[1] for row in table.rows}
    assert table.columns[1] == "mean rank of 2 over 2 comparisons"
    assert "Left out, since not every comparison has them: LDAM." in tests.sentences()


def test_two_comparisons_on_one_dataset_with_one_model_are_told_apart(records):
    summaries = []
    for name, score in (("first", 0.5), ("second", 0.8)):
        points = [
            records.point(None, None, 0.5, score + more, loss=loss) for loss, more in (("cce", 0), ("focal", 0.1))
        ]
        summaries.append(summarize(records.study(points, spec=SPEC, name=name)))
    cells = loss_cells(summaries)
    assert [(cell.study, cell.dataset, cell.score) for cell in cells] == [
        ("first", "skin (first)", 0.5),
        ("first", "skin (first)", 0.6),
        ("second", "skin (second)", 0.8),
        ("second", "skin (second)", 0.9),
    ]
    assert [row.ranks for row in rank_rows(cells)] == [(1.0, 1.0), (2.0, 2.0)]
    assert layout(dataset_losses(dataset_loss_rows(cells)))["xaxis"]["ticktext"] == ["skin (first)", "skin (second)"]
    assert "Focal has the highest mean on skin (first) (60.00 %); Focal on skin (second) (90.00 %)." == (
        dataset_sentence(dataset_loss_rows(cells))
    )


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
    assert [(cell.study, cell.dataset, cell.model, cell.loss) for cell in cells] == [
        ("skin-small", "skin", "EfficientNetV2", loss) for loss in ("LMF", "CCE", "Focal")
    ]
    assert [cell.score for cell in cells[:2]] == pytest.approx([0.85, 0.65])
    assert cells[2].score is None


def test_names_with_markup_stay_text():
    cells = [LossCell(HOSTILE, HOSTILE, HOSTILE, loss, 0.5) for loss in (HOSTILE, "cce")]
    check_hostile(dataset_losses(dataset_loss_rows(cells)))
    check_hostile(loss_ranks(rank_rows(cells)))
    check_hostile(loss_scores([LossRow(HOSTILE, (0.5, 0.6), spread_of((0.5, 0.6)), (0.4, 0.7))]))
