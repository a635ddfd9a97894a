"""A picture of a confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from study.reporting.marks import axis_name, name_angle
from study.reporting.picture import HEIGHT_PIXELS, Picture, empty_figure
from study.reporting.text import counted, percent

MOST_CLASSES_WITH_TEXT = 20
"""Up to so many classes, the counts are written into the cells; of more, they stand under the pointer."""
MOST_CLASSES_WITH_NAMES = 40
"""Up to so many classes, each has its name on the axes; of more, every n-th."""

_ROW_PIXELS = 22
_CELL_OPACITY = 0.5


@dataclass(frozen=True)
class Mistake:
    """A class that was taken for another.

    Attributes:
        true: the class's name.
        predicted: what it was taken for.
        count: how many images.
        of: how many images the class has.
    """

    true: str
    predicted: str
    count: int
    of: int


def confusion_matrix(class_names: Sequence[str], matrix: Sequence[Sequence[int]], what: str) -> Picture:
    """A confusion matrix: counts, shaded by the share of the true class (row) that was predicted as each class.

    Args:
        class_names: the classes, in class-index order.
        matrix: images by true class (rows) and predicted class (columns).
        what: whose matrix on which images, for the title: `the best trial on test`.
    """
    figure = empty_figure("predicted class", "true class")
    size = len(class_names)
    with_text = size <= MOST_CLASSES_WITH_TEXT
    places = list(range(size))
    shares = [[round(100 * count / sum(row), 2) if sum(row) else None for count in row] for row in matrix]
    figure.add_heatmap(
        x=places,
        y=places,
        z=shares,
        customdata=[list(row) for row in matrix],
        zmin=0,
        zmax=100,
        colorscale=[[0, "var(--surface)"], [1, "var(--accent)"]],
        # Half of the colour, so that the text's own colour can be read on every cell; the scale would show it whole.
        opacity=_CELL_OPACITY if with_text else 1,
        showscale=not with_text,
        xgap=1,
        ygap=1,
        hovertemplate="true: %{y}<br>predicted: %{x}<br>%{customdata} images, %{z:.2f} % of the true class"
        "<extra></extra>",
        colorbar={"title": {"text": "of the true<br>class, %"}, "thickness": 12, "outlinecolor": "var(--line)"},
    )
    if with_text:
        cells = [(row, column) for row in places for column in places if matrix[row][column]]
        figure.add_scatter(
            x=[column for _, column in cells],
            y=[row for row, _ in cells],
            mode="text",
            text=[f"{matrix[row][column]:,}" for row, column in cells],
            textfont={"color": "var(--text)", "size": 12 if size <= 10 else 9},
            hoverinfo="skip",
            showlegend=False,
        )
    names = [axis_name(name) for name in class_names]
    ticks = places[:: math.ceil(size / MOST_CLASSES_WITH_NAMES) or 1]
    axis = {
        "tickvals": ticks,
        "ticktext": [names[place] for place in ticks],
        "range": [-0.5, size - 0.5],
        "showgrid": False,
        "ticks": "",
        "tickfont": {"size": 12 if size <= 10 else 9},
    }
    figure.update_layout(
        xaxis={**axis, "tickangle": name_angle([class_names[place] for place in ticks])},
        yaxis={**axis, "range": [size - 0.5, -0.5]},
        height=max(HEIGHT_PIXELS, 150 + _ROW_PIXELS * min(size, MOST_CLASSES_WITH_NAMES)),
        showlegend=False,
    )
    return Picture("confusion", f"Confusion matrix of {what}", figure)


def mistakes(class_names: Sequence[str], matrix: Sequence[Sequence[int]]) -> tuple[Mistake, ...]:
    """The classes that were taken for others, those by the largest share of their class first.

    Args:
        class_names: the classes, in class-index order.
        matrix: images by true class (rows) and predicted class (columns).
    """
    found = [
        Mistake(class_names[true], class_names[predicted], count, sum(row))
        for true, row in enumerate(matrix)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    return tuple(sorted(found, key=lambda mistake: (-mistake.count / mistake.of, -mistake.count)))


def confusion_sentence(class_names: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    """What to read from a confusion matrix: the worst mistake, and how many images are right.

    Args:
        class_names: the classes, in class-index order.
        matrix: images by true class (rows) and predicted class (columns).
    """
    total = sum(map(sum, matrix))
    right = sum(row[index] for index, row in enumerate(matrix))
    text = f"{right:,} of {counted(total, 'image')} lie on the diagonal, classified right"
    found = mistakes(class_names, matrix)
    if not found:
        return f"{text}; no class is taken for another."
    worst = found[0]
    verb = "is" if worst.count == 1 else "are"
    return (
        f"{text}; the mistake by the largest share of a class: {worst.count} of {counted(worst.of, 'image')} of "
        f"{worst.true} ({percent(worst.count / worst.of)} %) {verb} taken for {worst.predicted}."
    )
