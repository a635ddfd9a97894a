"""Pictures of a study's settings, points and classes, as plotly figures; `study.reporting.curves` has its epochs."""

from __future__ import annotations

from collections.abc import Sequence

from study.reporting.picture import Picture, empty_figure, in_percent, label
from study.reporting.rows import ClassCount
from study.reporting.statistics import Pair, SettingSummary, StudySummary
from study.reporting.text import SETTING_FORMS, factor, percent, percent_spread

SYMBOLS = {"joint": "circle", "beta": "diamond", "alpha": "square"}
SPLIT_NAMES = {"test": "test", "val": "validation"}

_SPLIT_OFFSETS = {"test": -0.2, "val": 0.2}
_POINT_SHIFT = 0.12
_PART_COLORS = {"train": "muted", "val": "val", "test": "test", "images": "accent"}
_MOST_CLASSES_WITH_TEXT = 20


def setting_means(summary: StudySummary) -> Picture:
    """The paper's Fig 4: mean macro F1 of each setting with its average deviation, and the single points beside it."""
    figure = empty_figure("", "macro F1, %")
    places = {setting.name: index for index, setting in enumerate(summary.settings)}
    middle, half_width = (len(places) - 1) / 2, max(len(places), 3) / 2
    for split, name in SPLIT_NAMES.items():
        offset = _SPLIT_OFFSETS[split]
        known = [setting for setting in summary.settings if setting.spread(split).count]
        figure.add_scatter(
            x=[places[setting.name] + offset for setting in known],
            y=[in_percent(setting.spread(split).mean) for setting in known],
            error_y={
                "array": [in_percent(setting.spread(split).average_deviation) for setting in known],
                "thickness": 2,
                "width": 7,
            },
            mode="markers",
            marker={"color": f"var(--{split})", "size": 11, "symbol": "diamond"},
            name=f"{name}: mean ± average deviation",
            text=[_setting_hover(setting, split) for setting in known],
            hoverinfo="text",
        )
        points = [(setting, pair) for setting in known for pair in setting.pairs]
        figure.add_scatter(
            x=[places[setting.name] + offset + _POINT_SHIFT for setting, _ in points],
            y=[in_percent(pair.score(split, "macro_f1")) for _, pair in points],
            mode="markers",
            marker={"color": f"var(--{split})", "size": 6, "opacity": 0.55},
            name=f"{name}: single points",
            text=[_pair_hover(pair, split) for _, pair in points],
            hoverinfo="text",
        )
    figure.update_xaxes(
        tickvals=list(places.values()),
        ticktext=[
            f"{setting.name}<br>{SETTING_FORMS[setting.name]}<br>setting {setting.number}"
            for setting in summary.settings
        ],
        tickangle=0,
        range=[middle - half_width, middle + half_width],
        showgrid=False,
    )
    return Picture("settings", "Mean macro F1 of each setting", figure)


def points_by_value(summary: StudySummary, split: str) -> Picture:
    """Macro F1 of each point over the value that its setting varies; with several seeds, mean and average deviation.

    Args:
        summary: the study's statistics.
        split: `val` or `test`.
    """
    figure = empty_figure("the value that the setting varies", "macro F1, %")
    for setting in summary.settings:
        spreads = [pair.spread(split, "macro_f1") for pair in setting.pairs]
        several = any(spread.count > 1 for spread in spreads)
        figure.add_scatter(
            x=[pair.beta if setting.name == "beta" else pair.alpha for pair in setting.pairs],
            y=[in_percent(spread.mean) for spread in spreads],
            error_y={
                "array": [in_percent(spread.average_deviation) for spread in spreads],
                "visible": several,
                "thickness": 1,
                "width": 4,
            },
            mode="lines+markers",
            line={"color": f"var(--{setting.name})", "width": 1.5},
            marker={"symbol": SYMBOLS[setting.name], "size": 8},
            name=f"{setting.name} ({SETTING_FORMS[setting.name]})",
            text=[_pair_hover(pair, split) for pair in setting.pairs],
            hoverinfo="text",
        )
    name = SPLIT_NAMES[split]
    return Picture(f"points-{split}", f"Single points on {name}", figure)


def class_distribution(title: str, rows: Sequence[ClassCount]) -> Picture:
    """The paper's Fig 2: images per class, a bar a class in class order, stacked by part of the split.

    Where a class has no split, the bars are of all images.

    Args:
        title: what the images are; the imbalance ratio is added to it.
        rows: the classes, in class-index order.
    """
    figure = empty_figure("", "images")
    names = [label(row.name) for row in rows]
    is_split = all(None not in (row.train, row.val, row.test) for row in rows)
    parts = (("train", "training"), ("val", "validation"), ("test", "test")) if is_split else (("images", "images"),)
    in_all = sum(row.images for row in rows)
    for part, part_name in parts:
        counts = [getattr(row, part) for row in rows]
        figure.add_bar(
            x=names,
            y=counts,
            name=part_name if is_split else "total",
            marker={"color": f"var(--{_PART_COLORS[part]})"},
            hovertext=[
                _class_hover(row, f"{part_name}: " if is_split else "", count, in_all)
                for row, count in zip(rows, counts, strict=True)
            ],
            hoverinfo="text",
        )
    if len(rows) <= _MOST_CLASSES_WITH_TEXT:
        figure.add_scatter(
            x=names,
            y=[row.images for row in rows],
            mode="text",
            name="images",
            text=[f"{row.images:,}" for row in rows],
            textposition="top center",
            cliponaxis=False,
            hoverinfo="skip",
            showlegend=False,
        )
    # Named so, classes that are called 0, 1, 2 are names and not numbers.
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(rangemode="tozero")
    # Above, where the names of the classes, which may be long, leave it its place.
    legend = {"y": 1.02, "yanchor": "bottom", "traceorder": "normal"}
    figure.update_layout(barmode="stack", legend=legend, margin={"t": 32})
    return Picture("classes", f"{title}, {_imbalance(rows)}", figure)


def setting_title(setting: SettingSummary) -> str:
    """A setting by our name and the paper's number."""
    return f"{setting.name} (setting {setting.number})"


def _imbalance(rows: Sequence[ClassCount]) -> str:
    """How many times as many images the largest class has as the smallest."""
    empty = [row.name for row in rows if not row.images]
    if empty or not rows:
        return f"no image of {', '.join(empty)}" if empty else "no class"
    return f"imbalance ratio {max(row.images for row in rows) / min(row.images for row in rows):,.1f}"


def _class_hover(row: ClassCount, part: str, count: int, in_all: int) -> str:
    lines = [label(row.name)]
    if part:
        lines.append(f"{part}{count:,} ({percent(count / row.images if row.images else 0.0)} % of the class)")
    lines.append(f"in all: {row.images:,} ({percent(row.images / in_all if in_all else 0.0)} % of the images)")
    return "<br>".join(lines)


def _pair_hover(pair: Pair, split: str) -> str:
    spread = pair.spread(split, "macro_f1")
    seeds = f"<br>{spread.count} seeds ± {percent(spread.average_deviation)}" if spread.count > 1 else ""
    return f"α {factor(pair.alpha)}, β {factor(pair.beta)}<br>{SPLIT_NAMES[split]} {percent(spread.mean)} %{seeds}"


def _setting_hover(setting: SettingSummary, split: str) -> str:
    spread = setting.spread(split)
    mean = percent_spread(spread.mean, spread.average_deviation)
    return f"{setting_title(setting)}<br>{SPLIT_NAMES[split]} {mean} %<br>{spread.count} of {setting.planned} points"
