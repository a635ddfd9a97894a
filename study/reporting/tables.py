"""Tables of the page, as plain text cells; `study.reporting.markup` makes HTML of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from study.paper.names import loss_name
from study.reporting.cautions import cautions
from study.reporting.leakage import leakage_short
from study.reporting.rows import CLASS_SCORES, PointRow, StudyData, class_rows
from study.reporting.statistics import StudySummary
from study.reporting.text import (
    NONE,
    SETTING_FORMS,
    counted,
    duration,
    factor,
    moment,
    percent,
    percent_spread,
    score_figure,
    score_name,
    score_unit,
    whole,
)

if TYPE_CHECKING:
    from storage.costs import StudyCost
    from study.reporting.winners import Winner


_PATHS = ("data", "dataset", "split_file", "recipe.weights")


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        columns: the headings.
        rows: the cells, as many a row as there are columns.
        text_columns: how many of the first columns are text; the rest line up as numbers.
        marked: rows that stand out, by index.
        wide_last: the last column is running text and may wrap.
        best: the row and column of each cell that is the best of those that it is compared with.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    marked: frozenset[int] = frozenset()
    wide_last: bool = False
    best: frozenset[tuple[int, int]] = frozenset()


def overview(summaries: Sequence[StudySummary], winners: Sequence[Winner]) -> Table:
    """One row a study, like the paper's Table 6 with the scores beside it, and whether its best is more than luck.

    Args:
        summaries: the studies.
        winners: what is known of each study's best, in the same order.
    """
    rows = []
    for summary, winner in zip(summaries, winners, strict=True):
        study, best = summary.study, summary.best
        rows.append(
            (
                study.name,
                study.dataset,
                study.model,
                study.split_fingerprint[:8],
                f"{summary.states['complete']} of {study.total}",
                factor(best.alpha if best else None),
                factor(best.beta if best else None),
                percent(best.score("val", "macro_f1") if best else None),
                percent(best.score("test", "macro_f1") if best else None),
                _told(winner),
                leakage_short(study.leakage),
            )
        )
    columns = (
        "study",
        "dataset",
        "model",
        "split",
        "points complete",
        "α",
        "β",
        "validation macro F1, %",
        "test macro F1, %",
        "told from the others",
        "leaks",
    )
    return Table(columns, tuple(rows), text_columns=4)


def best_scores(summary: StudySummary) -> Table:
    """The best pair's scores, those of the paper's Tables 2 to 4 first and in their order; empty without a best.

    With several seeds a score is their mean ± the sample standard deviation.
    """
    names = (
        *("accuracy", "precision", "recall", "macro_f1", "balanced_accuracy"),
        *("macro_auc", "macro_average_precision", "sensitivity_at_specificity", "mcc", "kappa"),
    )
    rows = []
    if summary.best:
        for split, title in (("test", "test"), ("val", "validation")):
            spreads = {name: summary.best.spread(split, name) for name in names}
            rows.append(
                (
                    title,
                    *(score_figure(name, spread.mean, spread.standard_deviation) for name, spread in spreads.items()),
                )
            )
    return Table(("split", *(heading(score_name(name, summary.specificity), name) for name in names)), tuple(rows))


def settings(summary: StudySummary) -> Table:
    """One row a setting: the numbers behind Fig 4."""
    rows = [
        (
            str(setting.number),
            setting.name,
            SETTING_FORMS[setting.name],
            f"{len(setting.pairs)} of {setting.planned}",
            percent_spread(setting.test.mean, setting.test.average_deviation),
            percent_spread(setting.val.mean, setting.val.average_deviation),
            factor(setting.best.alpha if setting.best else None),
            factor(setting.best.beta if setting.best else None),
        )
        for setting in summary.settings
    ]
    columns = (
        "in the paper",
        "setting",
        "fixed",
        "points",
        "test macro F1, %",
        "validation macro F1, %",
        "best α",
        "best β",
    )
    return Table(columns, tuple(rows), text_columns=3)


def classes(summary: StudySummary) -> Table:
    """One row a class: images, and what the best pair made of it.

    F1 and the scores against the rest are means over its seeds; what was found and predicted is of the best trial.
    """
    study, best = summary.study, summary.best
    f1 = {split: best.f1_per_class(split) if best else () for split in ("val", "test")}
    against_rest = [best.per_class("test", name) for name in CLASS_SCORES] if best else []
    trial = summary.best_row
    tested = [row for row in class_rows(trial, study.class_names) if row.split == "test"] if trial else []
    rows = []
    for index, name in enumerate(study.class_names):
        counts = (
            str(study.counts[split][index]) if split in study.counts else NONE for split in ("train", "val", "test")
        )
        rows.append(
            (
                name,
                *counts,
                percent(f1["val"][index]) if best else NONE,
                percent(f1["test"][index]) if best else NONE,
                *(percent(against_rest[position][index]) if best else NONE for position in range(len(CLASS_SCORES))),
                percent(tested[index].recall) if tested else NONE,
                ("never" if tested[index].predicted == 0 else str(tested[index].predicted)) if tested else NONE,
            )
        )
    columns = (
        "class",
        "training images",
        "validation images",
        "test images",
        "validation F1, %",
        "test F1, %",
        "test AUC, %",
        "test average precision, %",
        f"test {score_name('sensitivity_at_specificity', summary.specificity)}, %",
        f"found on test by trial {whole(trial.trial) if trial else NONE}, %",
        f"predicted on test by trial {whole(trial.trial) if trial else NONE}",
    )
    marked = frozenset(index for index, row in enumerate(tested) if row.predicted == 0)
    return Table(columns, tuple(rows), marked=marked)


def confusion(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> Table:
    """A confusion matrix.

    Args:
        names: the classes, in class-index order.
        matrix: images by true class (rows) and predicted class (columns).
    """
    rows = tuple((name, *map(str, counts)) for name, counts in zip(names, matrix, strict=True))
    return Table(("true \\ predicted", *names), rows)


def points(summary: StudySummary) -> Table:
    """All points by trial, the best pair's marked; scores in percent."""
    best = {row.point for row in summary.best.rows} if summary.best else set()
    columns = (
        "trial",
        "state",
        "loss" if summary.losses else "setting",
        "α",
        "β",
        "seed",
        "validation F1",
        "test F1",
        "test accuracy",
        "test precision",
        "test recall",
        "best epoch",
        "epochs",
        "time",
        "attempts",
        "lost epochs",
    )
    return Table(
        columns,
        tuple(_point_cells(row, bool(summary.losses)) for row in summary.rows),
        text_columns=3,
        marked=frozenset(index for index, row in enumerate(summary.rows) if row.point in best),
    )


def messages(summary: StudySummary) -> Table | None:
    """The points that left a message and what it says, None where there is none; that one was pruned is no trouble."""
    rows = [
        (
            whole(row.trial),
            row.state,
            factor(row.alpha),
            factor(row.beta),
            str(row.seed),
            str(row.attempts),
            row.message,
        )
        for row in summary.rows
        if row.message and row.state != "pruned"
    ]
    if not rows:
        return None
    return Table(("trial", "state", "α", "β", "seed", "attempts", "message"), tuple(rows), 2, wide_last=True)


def warnings(summary: StudySummary) -> Table | None:
    """What trainings warned of, a warning a row, None where none did."""
    rows = [(caution.trials_text, caution.warning) for caution in cautions(summary.study)]
    return Table(("trials", "warning"), tuple(rows), 2, wide_last=True) if rows else None


def recipe(data: StudyData, with_paths: bool = True) -> Table:
    """The study's stored description, a figure a row.

    Args:
        data: the study.
        with_paths: also where images, split and weights lie, and the dataset as it was named, which may be a path.
    """
    study = data.study
    facts = {
        "planned": moment(study.created_at),
        "fingerprint of the images": study.fingerprint,
        "fingerprint of the split": study.split_fingerprint,
        **{
            f"{split} images": str(sum(study.counts[split]))
            for split in ("train", "val", "test")
            if split in study.counts
        },
        **{name: value for name, value in _flat(study.spec).items() if with_paths or name not in _PATHS},
    }
    return Table(("what", "value"), tuple(facts.items()), text_columns=2, wide_last=True)


def attempts(data: StudyData) -> Table:
    """Every attempt, in order of its start."""
    rows = [
        (
            str(record.trial_number),
            str(record.attempt),
            record.worker,
            record.host,
            record.device,
            moment(record.started_at),
            duration(None if record.ended_at is None else record.ended_at - record.started_at),
            str(record.first_epoch),
            str(record.epochs),
            record.end or "under way",
            record.message or "",
        )
        for record in sorted(data.attempts, key=lambda record: (record.started_at, record.point_id))
    ]
    columns = (
        "trial",
        "attempt",
        "worker",
        "host",
        "device",
        "started",
        "took",
        "resumed after epoch",
        "epochs",
        "end",
        "message",
    )
    return Table(columns, tuple(rows), text_columns=len(columns), wide_last=True)


def attempts_sentence(data: StudyData) -> str:
    """How often and where points were worked on, in one line."""
    hosts = len({record.host for record in data.attempts})
    lost = sum(point.lost_attempts for point in data.study.points)
    again = sum(point.lost_epochs for point in data.study.points)
    speeds = [epoch.images_per_second for epoch in data.epochs]
    speed = f", at {sum(speeds) / len(speeds):.0f} training images a second on average" if speeds else ""
    return (
        f"{counted(len(data.attempts), 'attempt')} on {counted(hosts, 'host')}{speed}; "
        f"{counted(lost, 'attempt')} lost, {counted(again, 'epoch')} trained again.{cost_sentence(data.cost, lost)}"
    )


def cost_sentence(cost: StudyCost | None, lost_attempts: int) -> str:
    """For how long devices were held, and what of it lost workers took; empty where nothing was trained."""
    parts = []
    for kind, time in (("GPUs", cost.gpu), ("processors", cost.cpu)) if cost is not None else ():
        if time.used > 0:
            share = f", {duration(time.lost)} of it for nothing" if lost_attempts else ""
            parts.append(f"{kind} {duration(time.used)}{share}")
    return f" Time of {'; '.join(parts)}." if parts else ""


def _told(winner: Winner) -> str:
    if winner.best is None:
        return NONE
    return "unknown" if winner.p is None else "yes" if winner.crowned else "no"


def _point_cells(row: PointRow, by_loss: bool) -> tuple[str, ...]:
    what = " ".join(row.settings) or (NONE if row.alpha is not None else loss_name(row.loss))
    return (
        whole(row.trial),
        row.state,
        loss_name(row.loss) if by_loss else what,
        factor(row.alpha),
        factor(row.beta),
        str(row.seed),
        percent(row.score("val", "macro_f1")),
        *(percent(row.score("test", name)) for name in ("macro_f1", "accuracy", "precision", "recall")),
        whole(row.best_epoch),
        str(row.epochs),
        duration(row.seconds if row.epochs else None),
        str(row.attempts),
        str(row.lost_epochs),
    )


def heading(title: str, name: str) -> str:
    """A column's heading with the score's unit.

    Args:
        title: the score as a reader knows it.
        name: the score.
    """
    unit = score_unit(name).strip()
    return f"{title}, {unit}" if unit else title


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values under dotted names."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            flat[f"{prefix}{name}"] = ", ".join(map(str, value)) or NONE
        else:
            flat[f"{prefix}{name}"] = NONE if value is None else str(value)
    return flat
