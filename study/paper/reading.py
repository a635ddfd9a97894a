"""What the paper itself reads from its figures, in our words, to stand beside what a user's study shows."""

from __future__ import annotations

from dataclasses import dataclass

from study.paper.names import paper_dataset, paper_model


@dataclass(frozen=True)
class SettingReading:
    """The paper's reading of its Fig 4; it prints no figures for it, only the order.

    Attributes:
        dataset: the dataset that it is of.
        model: the model that it is of.
        epochs: how long each of its models was trained.
        models: how many models each setting has.
        best_mean: the setting with the highest mean test macro F1.
        worst_mean: the one with the lowest.
        least_deviation: the one with the smallest average deviation.
        place: where the paper says so.
    """

    dataset: str
    model: str
    epochs: int
    models: int
    best_mean: str
    worst_mean: str
    least_deviation: str
    place: str


@dataclass(frozen=True)
class Fact:
    """Something that the paper says.

    Attributes:
        place: where.
        text: what, in one sentence.
    """

    place: str
    text: str


FIG_4 = SettingReading(
    dataset="ham10000",
    model="efficientnetv2",
    epochs=60,
    models=11,
    best_mean="beta",
    worst_mean="alpha",
    least_deviation="joint",
    place="Fig 4 and the text before it",
)

SETTINGS_FACTS = (
    Fact(
        "Fig 4 and the text before it",
        "On HAM-10K with EfficientNetV2, eleven models of 60 epochs a setting, setting 2 (α = 1) had the highest mean "
        "macro F1, setting 1 (α = β) the smallest deviation, and setting 3 (β = 1) the lowest mean with a moderate "
        "deviation; the figures themselves are only drawn.",
    ),
    Fact(
        "Large margin aware focal loss",
        "Values of α and β between 0.5 and 2.0 were found best by trial and error.",
    ),
)
"""What the paper says of its three settings (Fig 4)."""

FACTORS_FACTS = (
    Fact("Table 6", "Most of the best results have α = 1 and another β: 11 of 12 have α = 1."),
    Fact(
        "Table 6 and the text before it", "A β of 0.5 or 2.0 is advised as a start: 6 of the 12 best results have it."
    ),
    Fact(
        "Analysis of LMF loss hyperparameters",
        "Setting 2 (α = 1) served these four datasets best; others may need another.",
    ),
)
"""What the paper says of the best α and β (Table 6)."""

LOSS_FACTS = (
    Fact("Abstract and Conclusion", "LMF's macro F1 is said to exceed the other losses' by 2 to 9 points."),
    Fact(
        "Results, Performance comparison",
        "On ODIR-5K, BWCCE is slightly better than LMF with EfficientNetV2 and DenseNet-121.",
    ),
    Fact("Results, Performance comparison", "The largest gain, almost 9 points, is on ISIC-2019."),
    Fact("Fig 1", "Over the three models, LMF has the highest mean macro F1 on all four datasets."),
    Fact("Table 5, note", "LMF has the best F1 in 7 of the 8 classes of ISIC-2019 and in 3 of the 4 of Covid-19."),
    Fact("Results, class-wise analysis", "LMF has the best F1 in 4 of the 7 classes of HAM-10K."),
    Fact(
        "Training parameters",
        "Models were trained for 100 epochs; no repetition with other seeds is mentioned, and no interval is given.",
    ),
)
"""What the paper says of the losses (Fig 1, Tables 2 to 5)."""


def is_figure_4(dataset: str, model: str) -> bool:
    """Whether a study is of the dataset and the model of the paper's Fig 4.

    Args:
        dataset: the dataset's title.
        model: the model by its short name or timm's.
    """
    return (paper_dataset(dataset), paper_model(model)) == (FIG_4.dataset, FIG_4.model)


def setting_agreement(best_mean: str | None, worst_mean: str | None, least_deviation: str | None) -> tuple[Fact, ...]:
    """How a user's settings compare with the paper's Fig 4, a sentence for each of its three statements.

    Args:
        best_mean: the user's setting with the highest mean, `joint`, `beta` or `alpha`; None where it is not known.
        worst_mean: the one with the lowest mean, likewise.
        least_deviation: the one with the smallest average deviation, likewise.
    """
    pairs = (
        ("the highest mean", FIG_4.best_mean, best_mean),
        ("the lowest mean", FIG_4.worst_mean, worst_mean),
        ("the smallest deviation", FIG_4.least_deviation, least_deviation),
    )
    return tuple(
        Fact(
            FIG_4.place,
            f"{_NUMBERED[paper]} has {what} in the paper, and here too."
            if paper == own
            else f"{_NUMBERED[paper]} has {what} in the paper, {_NUMBERED[own]} here.",
        )
        for what, paper, own in pairs
        if own is not None
    )


_NUMBERED = {"joint": "Setting 1 (α = β)", "beta": "Setting 2 (α = 1)", "alpha": "Setting 3 (β = 1)"}
