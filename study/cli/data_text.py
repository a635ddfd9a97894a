"""What `lmf data show` and `lmf data check` print."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from study.progress import count_text
from study.reporting.leakage import leakage_sentence

if TYPE_CHECKING:
    from rich.console import Console

    from study.datasets import DataView
    from trainer.data.findings import Finding

SHOWN_OF_A_KIND = 5


def print_view(console: Console, document: dict[str, Any], view: DataView) -> None:
    """Print a dataset's classes, groups and fingerprints.

    Args:
        console: where to.
        document: what `study.datasets.show_document` gave.
        view: the dataset.
    """

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    say(f"{document['dataset']}: {document['images']:,} images of {len(document['classes'])} classes")
    table = Table(box=None, pad_edge=False)
    for heading in ("class", "total", "train", "val", "test"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    parts = ("total", "train", "val", "test")
    for item in document["classes"]:
        table.add_row(item["name"], *("-" if item[part] is None else f"{item[part]:,}" for part in parts))
    sums = [[item[part] for item in document["classes"]] for part in parts]
    table.add_row("all", *("-" if None in counts else f"{sum(counts):,}" for counts in sums), style="bold")
    console.print(table)
    if document["imbalance_ratio"] is not None:
        say(f"imbalance ratio: {document['imbalance_ratio']:.1f} (largest class over smallest)")
    empty = [item["name"] for item in document["classes"] if not item["total"]]
    if empty:
        say(f"no image of: {', '.join(empty)}; `lmf run` refuses that, unless --drop-empty leaves such classes out")
    if view.no_split is not None:
        say(f"no split: {view.no_split}")
    for kind, groups in view.dataset.groups.items():
        kept = ", kept together" if kind == document["group"] else ""
        say(f"groups: {len(set(groups)):,} by {kind}{kept}")
    if view.split is not None:
        say(leakage_sentence(document["leakage"]))
    say(f"fingerprint:       {document['fingerprint'] or 'not read: without images'}")
    say(f"split fingerprint: {document['split_fingerprint'] or '-'}")


def print_findings(console: Console, view: DataView, findings: Sequence[Finding]) -> None:
    """Print what was found, a few of each kind, what stops a training first."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    images = f"{view.dataset.name}: {len(view.dataset):,} images"
    if not findings:
        say(f"{images}, nothing found")
        return
    by_kind = defaultdict(list)
    for finding in findings:
        by_kind[finding.severity, finding.kind].append(finding.message)
    table = Table(box=None, pad_edge=False)
    for heading in ("severity", "kind", "number"):
        table.add_column(heading, justify="right" if heading == "number" else "left")
    for (severity, kind), messages in by_kind.items():
        table.add_row(severity, kind, f"{len(messages):,}")
    errors = sum(finding.severity == "error" for finding in findings)
    say(f"{images}: {count_text(errors, 'error')}, {count_text(len(findings) - errors, 'warning')}")
    console.print(table)
    for (_, kind), messages in by_kind.items():
        say(f"{kind}:")
        for message in messages[:SHOWN_OF_A_KIND]:
            say(f"  {message}")
        if len(messages) > SHOWN_OF_A_KIND:
            say(f"  and {len(messages) - SHOWN_OF_A_KIND:,} more; --json names all")
