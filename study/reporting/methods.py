"""A methods paragraph for the user's own paper, and what to cite; all from what is stored with the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from study.paper.names import loss_name
from study.reporting.hardware import hardware_sentence
from study.reporting.leakage import has_leaks, leakage_line
from study.reporting.rows import StudyData
from study.reporting.statistics import StudySummary
from study.reporting.text import SETTING_FORMS, counted, factor, score_name

PAPER_CITATION = (
    "Abu Adnan Sadi, Labib Chowdhury, Nusrat Jahan, Mohammad Newaz Sharif Rafi, Radeya Chowdhury, Faisal Ahamed Khan, "
    "Nabeel Mohammed: LMFLOSS: A hybrid loss for imbalanced medical image classification. arXiv:2212.12741."
)
PAPER_BIBTEX = """@misc{lmfloss,
  title = {{LMFLOSS}: A hybrid loss for imbalanced medical image classification},
  author = {Sadi, Abu Adnan and Chowdhury, Labib and Jahan, Nusrat and Rafi, Mohammad Newaz Sharif and
    Chowdhury, Radeya and Khan, Faisal Ahamed and Mohammed, Nabeel},
  year = {2022},
  eprint = {2212.12741},
  archivePrefix = {arXiv}
}"""

_SEARCH_NAMES = {
    "tpe": "a tree-structured Parzen estimator",
    "gp": "Bayesian optimisation with a Gaussian process",
    "random": "random search",
}
_PRECISION_NAMES = {
    "fp32": "32-bit floating point",
    "bf16": "bfloat16 mixed precision",
    "fp16": "16-bit mixed precision",
}


def methods_paragraph(data: StudyData, summary: StudySummary) -> str:
    """What was done, in sentences that a methods section can take as they are; plain text.

    Args:
        data: the study.
        summary: its statistics.
    """
    study, spec = data.study, data.study.spec
    recipe: Mapping[str, Any] = spec.get("recipe", {})
    sentences = [
        _images(study.dataset, study.counts, study.class_names),
        _split(spec),
        leakage_line(study.leakage) if has_leaks(study.leakage) else "",
        _training(study.model, recipe),
        _loss(recipe) if _trains_lmf(summary) else "",
        _tried(summary, spec),
        _chosen(recipe, summary),
        _hardware(data),
        _versions(spec),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def factors_sentence(summary: StudySummary) -> str:
    """Where LMF's α and β come from in a comparison of losses, which is what makes it fair or not; else empty."""
    spec = summary.study.spec
    if not any(one.loss == "lmf" for one in summary.losses):
        return ""
    source = spec.get("factors_from")
    if source is None:
        return "LMF's α and β were given; no loss was tuned on these data."
    if " " in str(source):
        return f"LMF's α and β are those of {source}; no loss was tuned on these data."
    return (
        f"LMF's α and β are the best of the study {source}, chosen by validation, while the other losses were not "
        "tuned: that favours LMF, most of all where that study had the same validation images and seeds."
    )


def _trains_lmf(summary: StudySummary) -> bool:
    return not summary.losses or any(one.loss == "lmf" for one in summary.losses)


def _images(dataset: str, counts: Mapping[str, Sequence[int]], names: Sequence[str]) -> str:
    parts = {part: sum(counts[part]) for part in ("train", "val", "test") if part in counts}
    text = f"Images of {dataset} in {counted(len(names), 'class')} ({', '.join(names)})"
    if len(parts) == 3:
        text += f" were split into {parts['train']:,} for training, {parts['val']:,} for validation and "
        text += f"{parts['test']:,} for testing"
        train = [count for count in counts["train"] if count]
        if train:
            text += f"; the largest class has {max(train) / min(train):.1f} times the training images of the smallest"
        return f"{text}."
    return f"{text} were used."


def _split(spec: Mapping[str, Any]) -> str:
    group = spec.get("group")
    whole = f" and images of one {group} kept together" if group else ""
    if spec.get("split_seed") is not None:
        return (
            "The split was drawn at random, class by class, with 15 % of each class for validation and as many for "
            f"testing (seed {spec['split_seed']}){whole}."
        )
    if spec.get("split_file"):
        return "The split was given by a table."
    return "The split is the one that the dataset was published with." if "split_seed" in spec else ""


def _training(model: str, recipe: Mapping[str, Any]) -> str:
    if not recipe:
        return ""
    weights = recipe.get("weights")
    start = {"hub": "pretrained weights from the model hub", "none": "random weights"}.get(
        str(weights), "weights from a file"
    )
    if recipe.get("weights_sha256"):
        start += f" (SHA-256 {str(recipe['weights_sha256'])[:12]}…)"
    name = str(recipe.get("model", model))
    alias = "" if name == model else f" ({name})"
    scaled = "scaled to [0, 1]" + (
        " and normalised by the model's mean and deviation" if recipe.get("normalize") else ""
    )
    augmented = {"standard": "with flips, quarter turns and colour changes", "none": "without augmentation"}
    parts = [
        f"The network {model}{alias}, started from {start}, was trained for {recipe.get('epochs', '?')} epochs",
        f"on images of {recipe.get('image_size', '?')} × {recipe.get('image_size', '?')} pixels {scaled},",
        f"{augmented.get(str(recipe.get('augment')), 'with augmentation')},",
        f"in batches of {recipe.get('batch_size', '?')},",
    ]
    if "lr" in recipe:
        parts.append(
            f"with Adam (learning rate {recipe['lr']:g}, L2 weight decay {recipe['weight_decay']:g}, "
            f"the rate multiplied by {recipe['lr_gamma']:g} every {recipe['lr_step_epochs']} epochs)"
        )
    precision = _PRECISION_NAMES.get(str(recipe.get("precision")))
    return " ".join(parts).rstrip(",") + (f" in {precision}." if precision else ".")


def _loss(recipe: Mapping[str, Any]) -> str:
    if "gamma" not in recipe:
        return ""
    variant = (
        f"with its logits scaled by {recipe['scale']:g} and its classes weighted by their margins, as its authors did"
        if recipe.get("variant") == "reference"
        else "as its equations say, without scale or class weights"
    )
    return (
        "The LMF loss is α times LDAM plus β times focal loss, with margins proportional to the inverse fourth root of "
        f"the class sizes (largest {recipe['max_margin']:g}), LDAM {variant}, and a focal exponent γ of "
        f"{recipe['gamma']:g}."
    )


def _tried(summary: StudySummary, spec: Mapping[str, Any]) -> str:
    seeds = [int(seed) for seed in spec.get("seeds", ())]
    with_seeds = f" with {counted(len(seeds), 'training seed')} ({', '.join(map(str, seeds))})" if seeds else ""
    if summary.losses:
        named = []
        for one in summary.losses:
            factors = f" (α = {factor(one.alpha)}, β = {factor(one.beta)})" if one.alpha is not None else ""
            named.append(f"{loss_name(one.loss)}{factors}")
        return f"The losses {', '.join(named)} were each trained{with_seeds}. {factors_sentence(summary)}".rstrip()
    search = str(spec.get("search", "grid"))
    if search != "grid":
        how = _SEARCH_NAMES.get(search, search)
        return (
            f"α and β were searched in [0.5, 2] by {how} with a budget of {counted(summary.study.total, 'training')}."
        )
    if not summary.settings:
        return ""
    settings = ", ".join(f"{one.name} ({SETTING_FORMS[one.name]})" for one in summary.settings)
    grid = ", ".join(f"{value:g}" for value in spec.get("grid", ()))
    pairs = len({(row.alpha, row.beta) for row in summary.rows})
    return (
        f"α and β took the values {grid} in the settings {settings}: {counted(pairs, 'combination')}, each "
        f"trained{with_seeds}."
    )


def _chosen(recipe: Mapping[str, Any], summary: StudySummary) -> str:
    select = score_name(summary.select, summary.specificity)
    what = (
        "" if summary.losses else f", and the combination with the best mean validation {select} over its seeds chosen"
    )
    text = (
        f"Of each training the epoch with the best validation {select} was kept{what}; each training was tested once, "
        "and test scores played no part in any choice"
    )
    counts = summary.states
    missing = [f"{counts[state]} {state}" for state in counts if state != "complete" and counts[state]]
    if missing:
        text += f" ({counts['complete']} of {counted(summary.study.total, 'training')} complete, {', '.join(missing)})"
    return f"{text}."


def _hardware(data: StudyData) -> str:
    if not data.attempts:
        return ""
    kinds = sorted({"GPUs" if record.device.startswith("cuda") else "processors" for record in data.attempts})
    hosts = len({record.host for record in data.attempts})
    seconds = sum(epoch.seconds for epoch in data.epochs)
    found = hardware_sentence(data.hardware)
    if found:
        return f"{found} It took {seconds / 3600:.1f} hours in all."
    return f"Training took {seconds / 3600:.1f} hours on {' and '.join(kinds)} of {counted(hosts, 'machine')}."


def _versions(spec: Mapping[str, Any]) -> str:
    libraries = "".join(f", {name} {number}" for name, number in sorted(spec.get("versions", {}).items()))
    return f"Software: lmf {version('lmf')}{libraries}."
