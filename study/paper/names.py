"""The paper's datasets, models, losses and classes: what they are called here, and what it calls them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

DATASETS: Mapping[str, str] = {
    "odir5k": "ODIR-5K",
    "ham10000": "HAM-10K",
    "isic2019": "ISIC-2019",
    "covid19-radiography": "Covid-19",
}
"""Our datasets of the paper in its order, and its names for them."""

MODELS: Mapping[str, str] = {
    "efficientnetv2": "EfficientNetV2",
    "resnet50": "ResNet-50",
    "densenet121": "DenseNet-121",
}
"""Our short names of the paper's models in its order, and its names for them."""

ARCHITECTURES: Mapping[str, str] = {
    "tf_efficientnetv2_s": "efficientnetv2",
    "resnet50": "resnet50",
    "densenet121": "densenet121",
}
"""timm's architectures, and the paper's models that they stand for. The paper leaves EfficientNetV2's size open."""

SCORE_TABLES: Mapping[str, int] = {"efficientnetv2": 2, "resnet50": 3, "densenet121": 4}
"""Which of the paper's tables has the scores of a model."""

LOSSES: Mapping[str, str] = {"cce": "CCE", "focal": "Focal", "ldam": "LDAM", "bwcce": "BWCCE", "lmf": "LMF"}
"""The losses that the paper compares in its order, and its names for them."""

OTHER_LOSSES: Mapping[str, str] = {
    "wcce": "WCCE",
    "cb_cce": "Class-balanced CCE",
    "balanced_softmax": "Balanced softmax",
    "logit_adjustment": "Logit adjustment",
}
"""Losses that the paper does not compare, and how a table names them."""

CLASSES: Mapping[str, tuple[str, ...]] = {
    "odir5k": ("A", "C", "D", "G", "H", "M", "N", "O"),
    "ham10000": ("AKIEC", "BCC", "BKL", "DF", "MEL", "NV", "VASC"),
    "isic2019": ("AK", "BCC", "BKL", "DF", "MEL", "NV", "SCC", "VASC"),
    "covid19-radiography": ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"),
}
"""The classes of the paper's datasets in the order of its Table 5, by our names."""

_CLASS_NAMES: Mapping[str, str] = {"COVID": "Covid", "Lung_Opacity": "LO", "Viral Pneumonia": "VP"}
_HUBS = ("hf-hub:", "hf_hub:", "timm/")


def paper_dataset(title: str, class_names: Iterable[str] | None = None) -> str | None:
    """The paper's dataset of that title, None where it is none of its four.

    Args:
        title: a study's dataset.
        class_names: the study's classes in any order; where they are given they must be those of the paper, since a
            folder of images may bear the same title.
    """
    if title not in DATASETS:
        return None
    if class_names is not None and sorted(class_names) != sorted(CLASSES[title]):
        return None
    return title


def paper_model(name: str) -> str | None:
    """The paper's model that a name stands for, None where it is none of its three.

    Args:
        name: a short name, or timm's with or without the tag of its weights: `resnet50`, `resnet50.tv2_in1k`.
    """
    for hub in _HUBS:
        name = name.removeprefix(hub)
    return name if name in MODELS else ARCHITECTURES.get(name.partition(".")[0])


def dataset_name(title: str) -> str:
    """The paper's name of a dataset, or its title where the paper has none."""
    return DATASETS.get(title, title)


def model_name(name: str) -> str:
    """The paper's name of a model, or the name itself where the paper has none."""
    known = paper_model(name)
    return name if known is None else MODELS[known]


def loss_name(loss: str) -> str:
    """A loss as tables name it."""
    return LOSSES.get(loss) or OTHER_LOSSES.get(loss) or loss


def class_name(name: str) -> str:
    """The paper's name of a class of the COVID-19 radiographs; any other name stays as it is."""
    return _CLASS_NAMES.get(name, name)
