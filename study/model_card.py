"""The model card of an exported model, in the form that the Hugging Face hub reads: metadata on top, then Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from study.paper.names import loss_name
from study.reporting.leakage import leakage_sentence
from study.reporting.methods import PAPER_BIBTEX
from study.reporting.rows import SCORES, SplitScores
from study.reporting.tables import Table
from study.reporting.text import factor, moment, percent, score_figure, score_name, score_unit
from study.reporting.typeset import markdown_table
from trainer.exported import DESCRIPTION_FILE, MARKS_FILE, WEIGHTS_FILE, ModelDescription

_PARTS = ("val", "test")
_WHEN = ("before", "after")
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$])")


def card_text(description: ModelDescription) -> str:
    """The text of the model card.

    Names of studies, datasets and classes stand in it as text, whatever they hold.

    Args:
        description: the model, with the origin that `study.model_export` writes.
    """
    origin = description.origin
    scores = {part: SplitScores.from_dict(found) for part, found in origin["scores"].items()}
    sections = [
        _introduction(description),
        _use(description),
        _data(description),
        _scores(description, scores),
        _calibration(description),
        _training(description),
        _closing(description),
    ]
    front = yaml.safe_dump(_metadata(description, scores), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(sections) + "\n"


def _metadata(description: ModelDescription, scores: Mapping[str, SplitScores]) -> dict[str, Any]:
    origin, recipe = description.origin, description.recipe
    test = scores["test"]
    kinds = {"macro_f1": "f1", "accuracy": "accuracy", "precision": "precision", "recall": "recall"}
    metrics = [
        {"type": kind, "name": f"{score_name(name)} on test", "value": test.get(name)} for name, kind in kinds.items()
    ]
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": origin["dataset"], "type": origin["dataset"], "split": "test"},
        "metrics": metrics,
    }
    base = {"base_model": f"timm/{recipe.model}"} if recipe.weights == "hub" else {}
    return {
        "license": "unknown",
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "class-imbalance", "medical-imaging", "not-a-medical-device", "lmf"],
        **base,
        "model-index": [{"name": origin["study"], "results": [result]}],
    }


def _introduction(description: ModelDescription) -> str:
    origin, recipe = description.origin, description.recipe
    return (
        f"# {_safe(origin['study'])}, trial {origin['trial']}\n\n"
        f"An image classifier for {_safe(origin['dataset'])} with {len(description.classes)} classes: "
        f"{', '.join(map(_safe, description.classes))}. It is timm's `{recipe.model}`, trained with the "
        f"{_loss_name(origin['loss'])} loss and exported by lmf {origin['exported_with']['lmf']}."
    )


def _use(description: ModelDescription) -> str:
    normalised = "normalised" if description.statistics else "not normalised"
    size = description.recipe.image_size
    return f"""## Intended use and limits

For research: to repeat what was reported, and to measure how the model does on other images. **It is not a medical
device, and must not be used to diagnose or treat anybody.**

- It knows the classes above and nothing else: whatever an image shows, one of them is its answer.
- Its scores are those of images like the ones it was trained on. Other cameras, scanners, hospitals or patients may
  score lower; `lmf evaluate` measures that.
- It is one training with one seed. How much another seed would differ, this card does not say.

```console
$ lmf predict DIR IMAGES...                    # a table of probabilities
$ lmf evaluate DIR DATASET --data PATH         # scores on labelled images from elsewhere
```

Without lmf, `{DESCRIPTION_FILE}` says all that is needed: the timm model, the classes in the order of the outputs, and
how an image becomes the input ({size} x {size}, RGB, stretched, scaled to [0, 1], {normalised})."""


def _data(description: ModelDescription) -> str:
    origin = description.origin
    images: Mapping[str, Sequence[int]] = origin["images"]
    rows = [
        [name, *(f"{images[part][index]:,}" for part in ("train", "val", "test"))]
        for index, name in enumerate(description.classes)
    ]
    rows.append(["all", *(f"{sum(images[part]):,}" for part in ("train", "val", "test"))])
    split = origin["split"]
    if split["file"]:
        how = "The split was given by a table."
    elif split["seed"] is None:
        how = "The split is the one that the dataset is published with."
    else:
        how = f"The split was drawn class by class with seed {split['seed']}."
    if split["group"]:
        how += f" Images of one {_safe(split['group'])} were kept together."
    return (
        f"## Training data\n\n{_table(['class', 'training', 'validation', 'test'], rows)}\n\n{how} "
        f"{_safe(leakage_sentence(origin['leakage']))}\n\n"
        f"Fingerprint of the images: `{origin['fingerprint']}`, of the split: `{origin['split_fingerprint']}`."
    )


def _scores(description: ModelDescription, scores: Mapping[str, SplitScores]) -> str:
    origin = description.origin
    shown = [name for name in SCORES if any(found.get(name) is not None for found in scores.values())]
    rows = [
        [
            score_name(name, scores["test"].specificity) + score_unit(name),
            *(score_figure(name, scores[part].get(name)) for part in _PARTS),
        ]
        for name in shown
    ]
    classes = []
    for index, name in enumerate(description.classes):
        test = scores["test"]
        of_class = test.confusion[index]
        recall = of_class[index] / sum(of_class) if sum(of_class) else None
        classes.append(
            [
                name,
                f"{sum(of_class):,}",
                *(percent(value) for value in (test.f1_per_class[index], recall, test.per_class("auc")[index])),
            ]
        )
    chosen = score_name(origin["select"], scores["val"].specificity)
    what = (
        f"Epoch {origin['best_epoch']} and this trial were" if origin["chosen"] else f"Epoch {origin['best_epoch']} was"
    )
    return (
        f"## Scores\n\n{what} chosen by {chosen} on validation, so validation scores are too good; test images were "
        "used once.\n\n"
        f"{_table(['score', 'validation', 'test'], rows)}\n\nOf each class on test, in percent:\n\n"
        f"{_table(['class', 'test images', 'F1', 'recall', 'AUC'], classes)}"
    )


def _calibration(description: ModelDescription) -> str:
    found = description.origin["calibration"]
    if found is None or description.temperature is None:
        return (
            "## Calibration\n\nNo temperature could be fitted, so its probabilities are the network's own; they may be "
            "too sure or not sure enough."
        )
    names = {"ece": "expected calibration error %", "nll": "negative log-likelihood", "brier": "Brier score"}
    rows = [
        [text, *(percent(found[when][name]) if name == "ece" else f"{found[when][name]:.4f}" for when in _WHEN)]
        for name, text in names.items()
    ]
    return (
        f"## Calibration\n\nLogits are divided by the temperature {description.temperature:.4g}, fitted on "
        f"{found['val_images']:,} validation images. On {found['test_images']:,} test images:\n\n"
        f"{_table(['', 'before', 'after'], rows)}\n\nThe temperature changes no predicted class. On images from "
        "elsewhere it may fit less well."
    )


def _training(description: ModelDescription) -> str:
    origin, recipe = description.origin, description.recipe.to_dict()
    loss = origin["loss"]
    rows = [["loss", loss_name(loss["name"])]]
    if loss["alpha"] is not None:
        rows += [["α (LDAM half)", factor(loss["alpha"])], ["β (focal half)", factor(loss["beta"])]]
    rows += [["seed", str(origin["seed"])]]
    rows += [[name, "not set" if value is None else str(value)] for name, value in recipe.items()]
    rows += [[f"{name} (planned)", str(found)] for name, found in origin["versions"].items()]
    points = origin["points"]
    text = (
        f"## How it was trained\n\nIt is one of {points['complete']:,} complete trainings of {points['planned']:,} "
        f"planned in its study, and ended {moment(origin['trained_at'])}.\n\n{_table(['figure', 'value'], rows)}"
    )
    if origin["warnings"]:
        text += "\n\nWarnings of the training:\n\n" + "\n".join(f"- {_safe(line)}" for line in origin["warnings"])
    return text


def _closing(description: ModelDescription) -> str:
    marks = (
        f"\n- `{MARKS_FILE}`: the part and a digest of each image of the study, so that `lmf evaluate` knows them "
        "again; no image can be made of it"
        if description.marks_sha256
        else ""
    )
    pretrained = "" if description.recipe.weights == "none" else ", and the licence of the pretrained weights"
    return f"""## Files

- `{WEIGHTS_FILE}`: the weights (SHA-256 of their names, types, shapes and bytes: `{description.weights_sha256}`)
- `{DESCRIPTION_FILE}`: model, classes, preprocessing, recipe, scores{marks}

## Licence

Unknown: whoever trained this model has to decide under which licence it may be passed on, and may be bound by that of
the images (as far as lmf knows: {_safe(description.origin["dataset_licence"])}){pretrained}. Where images are of
patients, their consent and the ethics vote decide whether weights may leave the hospital at all.

## Citation

The loss is from

```bibtex
{PAPER_BIBTEX}
```"""


def _loss_name(loss: Mapping[str, Any]) -> str:
    name = loss_name(loss["name"])
    factors = f" (α = {factor(loss['alpha'])}, β = {factor(loss['beta'])})" if loss["alpha"] is not None else ""
    return f"{name}{factors}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(Table(tuple(headings), tuple(map(tuple, rows)))).rstrip("\n")


def _safe(text: object) -> str:
    """Text for Markdown: one line, in which nothing is markup, neither Markdown's nor HTML's."""
    line = " ".join(str(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", line)
