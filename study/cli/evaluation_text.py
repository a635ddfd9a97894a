"""What `lmf evaluate` prints for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from study.reporting.rows import SCORES
from study.reporting.text import counted, percent, score_figure, score_name, score_unit
from trainer.data.dataset import first_few

if TYPE_CHECKING:
    from rich.console import Console


def print_evaluation(console: Console, document: Mapping[str, Any]) -> None:
    """Print a model's scores on a dataset.

    Args:
        console: where to.
        document: what `study.evaluation.evaluation_document` gave.
    """

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    model, part = document["model"], document["part"]
    which = f"the {part} part of {document['dataset']}" if part else document["dataset"]
    present = sum(1 for one in document["classes"] if one["images"])
    say(
        f"study {model['study']}, trial {model['trial']} on {which}: {counted(document['images'], 'image')} of "
        f"{counted(present, 'class')}"
    )
    for left in document["left_out"]:
        say(
            f"left out: {counted(left['images'], 'image')} of {left['class']}, which the model does not know "
            "(--map THEIRS=OURS names it)"
        )
    if document["failed"]:
        names = first_few([one["image"] for one in document["failed"]])
        say(f"left out: {counted(len(document['failed']), 'image')} that cannot be used: {names}")
    if document["absent_classes"]:
        say(f"no image of: {', '.join(document['absent_classes'])}; means over classes are over the others")
    console.print(_scores(document))
    say("(95 % intervals over images, each drawn within its class)")
    console.print(_classes(document))
    console.print(_confusion(document))
    for when in ("before", "after"):
        found = document["calibration"][when]
        if found is None:
            say("calibration: the model has no temperature")
        else:
            say(
                f"calibration {when} temperature: expected error {percent(found['ece'])} %, mean confidence "
                f"{percent(found['confidence'])} %, Brier {found['brier']:.4f}, log-likelihood loss {found['nll']:.4f}"
            )


def _scores(document: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("score", "value", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name in SCORES:
        interval = document["intervals"].get(name)
        table.add_row(
            score_name(name, document["scores"]["specificity"]) + score_unit(name),
            score_figure(name, document["scores"][name]),
            f"{percent(interval['low'])} to {percent(interval['high'])}" if interval else "-",
        )
    return table


def _classes(document: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("class", "theirs", "images", "predicted", "F1 %", "precision %", "recall %", "AUC %"):
        table.add_column(heading, justify="left" if heading in ("class", "theirs") else "right")
    for one in document["classes"]:
        table.add_row(
            escape(one["name"]),
            escape(", ".join(one["theirs"]) or "-"),
            f"{one['images']:,}",
            f"{one['predicted']:,}",
            *(percent(one[name]) for name in ("f1", "precision", "recall", "auc")),
        )
    return table


def _confusion(document: Mapping[str, Any]) -> Table:
    names = [one["name"] for one in document["classes"]]
    table = Table(box=None, pad_edge=False)
    table.add_column("true \\ predicted")
    for name in names:
        table.add_column(escape(name), justify="right")
    for name, row in zip(names, document["confusion"], strict=True):
        table.add_row(escape(name), *(f"{count:,}" for count in row))
    return table
