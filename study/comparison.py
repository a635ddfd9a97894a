"""Comparisons of losses: where LMF's alpha and beta come from, and what is said of the losses in the end."""

from __future__ import annotations

import statistics
from dataclasses import replace

from storage.database import Database
from storage.queries import StudyRecord, find_spec, list_studies, read_study
from study.errors import StudyError
from study.home import Home
from study.plan import stored_spec, stored_studies
from study.progress import count_text
from study.reporting.statistics import LossSummary, StudySummary, summarize
from study.spec import PLAIN_FACTORS, STUDIED_LOSS, StudySpec, default_name
from study.status import choose_studies

Factors = tuple[float, float]


def settle_factors(spec: StudySpec, home: Home, *, can_rename: bool = True) -> tuple[StudySpec, tuple[str, ...]]:
    """Fill in LMF's alpha and beta where a comparison has them from a study, or where nobody said any.

    A stored comparison keeps its own, also where the study that they were taken from has another best by now; one
    without LMF needs none as long as nobody asks for more losses. A new one without `--from` takes the best of the
    study `DATASET-MODEL`, if that is trained to its end and split alike, or else 1 and 1.

    Args:
        spec: any description; all but comparisons with LMF are given back as they are.
        home: where studies are stored; nothing is written.
        can_rename: whether the user can choose the comparison's name, and may be advised to.

    Returns:
        The description with both factors, and lines that tell the user where they come from.

    Raises:
        StudyError: there is no study of the name in `factors_from`, or it has no best alpha and beta.
        StorageError: the database cannot be read.
    """
    if not spec.compares_lmf or spec.alpha is not None:
        return spec, ()
    with stored_studies(home) as database:
        stored = None if database is None else _stored_comparison(database, spec.name)
        if database is not None and stored is not None:
            if stored.compares_lmf and spec.factors_from in (None, stored.factors_from):
                kept = replace(spec, alpha=stored.alpha, beta=stored.beta, factors_from=stored.factors_from)
                return kept, _news(database, kept, can_rename)
            if not stored.compares_lmf and "losses" in spec.unasked and spec.factors_from is None:
                return replace(spec, losses=stored.losses), ()
        if spec.factors_from is not None:
            return _from_study(database, spec, spec.factors_from)
        return _by_default(database, spec)


def chosen_pair(record: StudyRecord) -> Factors | None:
    """The pair that validation chooses in a study of alpha and beta; None where it has none."""
    best = None if record.spec.get("losses") else summarize(record).best
    return None if best is None else (best.alpha, best.beta)


def factors_text(spec: StudySpec) -> str:
    """LMF's factors and where they come from, such as `lmf with alpha 1, beta 0.6 (best of study a-b)`."""
    source = f" ({source_text(spec.factors_from)})" if spec.factors_from else ""
    return f"{STUDIED_LOSS} with {_pair_text((spec.alpha or 0.0, spec.beta or 0.0))}{source}"


def source_text(source: str) -> str:
    """Where factors come from in words: a study, which is named by one word, or another source, which has several."""
    return source if " " in source else f"best of study {source}"


def loss_lines(summary: StudySummary) -> list[str]:
    """What a comparison came to, a line a loss: mean macro F1 of its complete seeds and their sample deviation.

    Args:
        summary: of a comparison of losses.
    """
    titles = [_title(one) for one in summary.losses]
    width = max(map(len, titles), default=0)
    lines = []
    for title, one in zip(titles, summary.losses, strict=True):
        seeds = f"{len(one.rows)} of {count_text(len(one.seeds), 'seed')}"
        scores = "   ".join(
            f"{name} {_spread_text(one, split)}" for name, split in (("validation", "val"), ("test", "test"))
        )
        lines.append(f"  {title:<{width}}  {seeds:>12}   {scores}")
    if any(len(one.rows) > 1 for one in summary.losses):
        lines.append("  (mean macro F1 in percent ± sample standard deviation over seeds)")
    else:
        lines.append("  (macro F1 in percent; with one seed a loss, how much of a difference is chance is unknown)")
    return lines


def _stored_comparison(database: Database, name: str) -> StudySpec | None:
    document = find_spec(database, name)
    stored = None if document is None else stored_spec(document)
    return stored if stored is not None and stored.losses else None


def _news(database: Database, spec: StudySpec, can_rename: bool) -> tuple[str, ...]:
    """That the study which a comparison took its factors from has another best by now."""
    source = spec.factors_from
    if source is None or source not in list_studies(database):
        return ()
    best = summarize(read_study(database, source)).best
    if best is None or (best.alpha, best.beta) == (spec.alpha, spec.beta):
        return ()
    kept = _pair_text((spec.alpha or 0.0, spec.beta or 0.0))
    way = "another name (--study) compares that"
    if not can_rename:
        way = f"`lmf study delete {spec.name}` makes way for a comparison with that"
    return (
        f"{STUDIED_LOSS} keeps {kept}, with which {spec.name} was planned; the best of study {source} is "
        f"{_pair_text((best.alpha, best.beta))} by now, and {way}",
    )


def _from_study(database: Database | None, spec: StudySpec, name: str) -> tuple[StudySpec, tuple[str, ...]]:
    if database is None:
        raise StudyError(f"no study named {name}, since there are no studies yet; `lmf run` makes one")
    choose_studies(database, (name,))
    record = read_study(database, name)
    best = chosen_pair(record)
    if best is None:
        why = "it compares losses" if record.spec.get("losses") else "no point of it is complete"
        raise StudyError(f"study {name} has no best alpha and beta, since {why}; give --alpha and --beta")
    found = replace(spec, alpha=best[0], beta=best[1], factors_from=name)
    lines = [factors_text(found)]
    if record.remaining:
        lines.append(
            f"warning: study {name} still has {count_text(record.remaining, 'point')} to train; this is its best so far"
        )
    if record.dataset == spec.title and not _is_split_alike(record, spec):
        lines.append(
            f"warning: study {name} splits {spec.title} in another way: images that chose its alpha and beta may be "
            "test images here"
        )
    return found, tuple(lines)


def _by_default(database: Database | None, spec: StudySpec) -> tuple[StudySpec, tuple[str, ...]]:
    name = default_name(spec.title, spec.model)
    why = f"there is no study {name} to take its best from"
    if database is not None and name in list_studies(database):
        record = read_study(database, name)
        best = chosen_pair(record)
        if best is None:
            why = f"study {name} has no best alpha and beta"
        elif record.remaining:
            why = f"study {name} has points still to be trained (--from {name} takes its best so far)"
        elif not _is_split_alike(record, spec):
            why = f"study {name} splits the data in another way"
        else:
            found = replace(spec, alpha=best[0], beta=best[1], factors_from=name)
            return found, (factors_text(found),)
    found = replace(spec, alpha=PLAIN_FACTORS[0], beta=PLAIN_FACTORS[1])
    return found, (f"{factors_text(found)}, since {why}; --alpha and --beta give others",)


def _is_split_alike(record: StudyRecord, spec: StudySpec) -> bool:
    stored = stored_spec(record.spec)
    return all(
        getattr(stored, name) == getattr(spec, name)
        for name in ("title", "split_seed", "group", "split_file", "drop_empty")
    )


def _title(one: LossSummary) -> str:
    if one.alpha is None or one.beta is None:
        return one.loss
    return f"{one.loss} ({_pair_text((one.alpha, one.beta))})"


def _spread_text(one: LossSummary, split: str) -> str:
    scores = [score for row in one.rows if (score := row.score(split, "macro_f1")) is not None]
    if not scores:
        return "-"
    deviation = f" ± {100 * statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    return f"{100 * statistics.fmean(scores):.2f}{deviation}"


def _pair_text(pair: Factors) -> str:
    return f"alpha {pair[0]:g}, beta {pair[1]:g}"
