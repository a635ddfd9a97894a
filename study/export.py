"""The best α and β of studies, and what compared losses came to, as documents and tables for scripts and papers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from statistics import stdev
from typing import TYPE_CHECKING, Any

from study.reporting import paper_tables
from study.reporting.rows import SPLITS
from study.reporting.statistics import LossSummary, Pair, SettingSummary, StudySummary, summarize
from study.reporting.tables import Table
from study.reporting.typeset import csv_table, latex_table, markdown_table

if TYPE_CHECKING:
    from storage.queries import StudyRecord

FORMATS = ("json", "yaml", "csv", "latex", "markdown")

_SCORE_COLUMNS = (
    "val_macro_f1",
    "val_macro_f1_standard_deviation",
    "test_macro_f1",
    "test_macro_f1_standard_deviation",
    "test_accuracy",
    "test_precision",
    "test_recall",
)


def export_text(studies: Iterable[StudyRecord], form: str) -> str:
    """What `lmf export` prints; it ends with a line break.

    Args:
        studies: the studies, in the order in which they are to stand.
        form: one of `FORMATS`. `json` and `yaml` are the document; `csv` has a row a study, or a loss where losses were
            compared, with scores as fractions; `latex` and `markdown` have the paper's Table 6, and its Tables 2 to 4
            where losses were compared, in percent.
    """
    if form in ("json", "yaml"):
        return render(export_document(studies), form)
    summaries = [summarize(study) for study in studies]
    if form == "csv":
        return csv_table(_sheet(summaries))
    named = list(_tables(summaries))
    if form == "latex":
        texts = [latex_table(table, caption=caption, label=f"tab:{name}") for name, caption, table in named]
        return "\n".join(texts) or "% There is no study yet.\n"
    texts = [f"{caption}\n\n{markdown_table(table)}" for _, caption, table in named]
    return "\n".join(texts) or "There is no study yet.\n"


def export_document(studies: Iterable[StudyRecord]) -> dict[str, Any]:
    """The document of `lmf export --json`, whose shape is stable; scores are fractions.

    `best` is None while no point is complete. `settings` has the settings that the study has; `points` in it is the
    number of (α, β) that its means are over, and the means are None where that is 0. `leakage` has
    an entry for each known kind of group, as in `storage.planning.DatasetFacts`, and none where none is known.
    `losses` is there where the study compares losses: means over its complete seeds, and sample standard deviations,
    which are None where fewer than two are complete.

    Args:
        studies: the studies, in the order in which they are to stand.
    """
    return {"studies": [_study(summarize(study)) for study in studies]}


def render(document: dict[str, Any], form: str) -> str:
    """The document as text that ends with a line break.

    Args:
        document: what `export_document` gave.
        form: `json` or `yaml`.
    """
    if form == "json":
        return json.dumps(document, indent=2, allow_nan=False) + "\n"
    import yaml

    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return text


def _study(summary: StudySummary) -> dict[str, Any]:
    study = summary.study
    return {
        "study": study.name,
        "dataset": study.dataset,
        "model": study.model,
        "best": _best(summary),
        "settings": {setting.name: _setting(setting) for setting in summary.settings},
        "leakage": [dict(entry) for entry in study.leakage],
        **({"losses": [_loss(one) for one in summary.losses]} if summary.losses else {}),
    }


def _best(summary: StudySummary) -> dict[str, Any] | None:
    best, row = summary.best, summary.best_row
    if best is None or row is None:
        return None
    f1 = zip(summary.study.class_names, best.f1_per_class("test"), strict=True)
    return {
        **_factors(best),
        "seeds": [seed.seed for seed in sorted(best.rows, key=lambda seed: seed.seed)],
        "trial": row.trial,
        "val_macro_f1": best.score("val", "macro_f1"),
        **{f"test_{name}": best.score("test", name) for name in ("macro_f1", "accuracy", "precision", "recall")},
        "test_f1_per_class": dict(f1),
    }


def _setting(setting: SettingSummary) -> dict[str, Any]:
    spreads = {split: setting.spread(split) for split in SPLITS}
    return {
        "points": len(setting.pairs),
        **{
            split: {"mean": spread.mean, "average_deviation": spread.average_deviation}
            for split, spread in spreads.items()
        },
        "best": _factors(setting.best) if setting.best else None,
    }


def _loss(one: LossSummary) -> dict[str, Any]:
    return {
        "loss": one.loss,
        "alpha": one.alpha,
        "beta": one.beta,
        "seeds": sorted(row.seed for row in one.rows),
        **dict(zip(_SCORE_COLUMNS, _scores(one), strict=True)),
    }


def _scores(one: LossSummary | Pair) -> list[float | None]:
    """The values of `_SCORE_COLUMNS`."""
    values: list[float | None] = []
    for split in SPLITS:
        scores = [score for score in (row.score(split, "macro_f1") for row in one.rows) if score is not None]
        values += [one.score(split, "macro_f1"), stdev(scores) if len(scores) > 1 else None]
    return values + [one.score("test", name) for name in ("accuracy", "precision", "recall")]


def _factors(pair: Pair) -> dict[str, float]:
    return {"alpha": pair.alpha, "beta": pair.beta}


def _sheet(summaries: Sequence[StudySummary]) -> Table:
    rows = []
    for summary in summaries:
        study, best = summary.study, summary.best
        identity = (study.name, study.dataset, study.model)
        if summary.losses:
            for one in summary.losses:
                rows.append([*identity, one.loss, one.alpha, one.beta, _seeds(one), *_scores(one)])
        elif best:
            rows.append([*identity, "lmf", best.alpha, best.beta, _seeds(best), *_scores(best)])
        else:
            rows.append([*identity, "lmf", None, None, "", *(None for _ in _SCORE_COLUMNS)])
    columns = ("study", "dataset", "model", "loss", "alpha", "beta", "seeds", *_SCORE_COLUMNS)
    return Table(columns, tuple(tuple("" if cell is None else str(cell) for cell in row) for row in rows))


def _seeds(one: LossSummary | Pair) -> str:
    return " ".join(str(row.seed) for row in sorted(one.rows, key=lambda row: row.seed))


def _tables(summaries: Sequence[StudySummary]) -> Iterable[tuple[str, str, Table]]:
    """Names, captions and tables of the forms that are typeset."""
    tuned = [summary for summary in summaries if not summary.losses]
    if tuned:
        caption = "The α and β that validation chose, by dataset and model."
        yield "best-factors", caption, paper_tables.factors(tuned, with_paper=False)
    compared = paper_tables.blocks_by_model(summary for summary in summaries if summary.losses)
    for number, (model, blocks) in enumerate(compared.items(), start=1):
        seeds = max(len(one.rows) for block in blocks for one in block.losses)
        spread = ", means over seeds ± sample standard deviation" if seeds > 1 else ""
        caption = f"Test scores of the losses with {model}, in percent{spread}; the best of each dataset are bold."
        yield f"losses-{number}", caption, paper_tables.loss_scores(blocks, with_paper=False)
