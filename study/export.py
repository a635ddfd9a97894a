"""The best α and β of studies as one document that scripts read; its shape is stable."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from study.reporting.rows import SPLITS
from study.reporting.statistics import Pair, SettingSummary, StudySummary, summarize

if TYPE_CHECKING:
    from storage.queries import StudyRecord

FORMATS = ("json", "yaml")


def export_document(studies: Iterable[StudyRecord]) -> dict[str, Any]:
    """What `lmf export` gives; scores are fractions.

    `best` is None while no point is complete. `settings` has the settings that the study has; `points` in it is the
    number of (α, β) that its means are over, and the means are None where that is 0. `leakage` has
    an entry for each known kind of group, as in `storage.planning.DatasetFacts`, and none where none is known.

    Args:
        studies: the studies, in the order in which they are to stand.
    """
    return {"studies": [_study(summarize(study)) for study in studies]}


def render(document: dict[str, Any], form: str) -> str:
    """The document as text that ends with a line break.

    Args:
        document: what `export_document` gave.
        form: one of `FORMATS`.
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


def _factors(pair: Pair) -> dict[str, float]:
    return {"alpha": pair.alpha, "beta": pair.beta}
