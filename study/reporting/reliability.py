"""A picture of calibration: accuracy over confidence before and after a temperature, and how sure the model is."""

from __future__ import annotations

from study.reporting.calibration import Calibration, CalibrationScores
from study.reporting.marks import LEGEND_BELOW
from study.reporting.picture import Picture, empty_figure, in_percent
from study.reporting.text import percent

_LOOKS = (("before", "val", "circle", -0.004), ("after", "accent", "diamond-open", 0.004))


def reliability_diagram(found: Calibration) -> Picture:
    """Accuracy over confidence with Wilson intervals, and below it the share of images by confidence.

    Where validation has no best temperature, only the model as it was trained is shown.

    Args:
        found: a trial's calibration on test.
    """
    figure = empty_figure("confidence, %", "accuracy, %")
    figure.add_scatter(
        x=[0, 100],
        y=[0, 100],
        mode="lines",
        line={"color": "var(--muted)", "width": 1, "dash": "dot"},
        name="calibrated",
        hoverinfo="skip",
    )
    looks = _LOOKS if found.fitted else _LOOKS[:1]
    for which, color, symbol, shift in looks:
        scores = found.before if which == "before" else found.after
        rows = [row for row in scores.bins if row.count]
        name = _name(found, which)
        figure.add_scatter(
            x=[in_percent((row.confidence or 0.0) + shift) for row in rows],
            y=[in_percent(row.accuracy) for row in rows],
            error_y={
                "array": [in_percent((row.accuracy_high or 0.0) - (row.accuracy or 0.0)) for row in rows],
                "arrayminus": [in_percent((row.accuracy or 0.0) - (row.accuracy_low or 0.0)) for row in rows],
                "thickness": 1,
                "width": 3,
            },
            mode="markers",
            marker={"color": f"var(--{color})", "symbol": symbol, "size": 8},
            name=f"{name}: ECE {percent(scores.ece)} %",
            customdata=[
                [row.count, in_percent(row.low), in_percent(row.high), in_percent(row.confidence)] for row in rows
            ],
            hovertemplate=f"{name}<br>%{{customdata[0]}} images with confidence %{{customdata[1]:.0f}} to "
            "%{customdata[2]:.0f} %<br>mean confidence %{customdata[3]:.2f} %<br>accuracy %{y:.2f} %<extra></extra>",
        )
    total = found.test_images
    for which, color, _, _ in looks:
        scores = found.before if which == "before" else found.after
        filled = which == "before"
        name = _name(found, which)
        figure.add_bar(
            x=[in_percent((row.low + row.high) / 2) for row in scores.bins],
            y=[in_percent(row.count / total) for row in scores.bins],
            marker={
                "color": f"var(--{color})" if filled else "rgba(0,0,0,0)",
                "line": {"color": f"var(--{color})", "width": 0 if filled else 1.5},
            },
            yaxis="y2",
            showlegend=False,
            customdata=[row.count for row in scores.bins],
            hovertemplate=f"{name}<br>%{{customdata}} images, %{{y:.2f}} % of all<extra></extra>",
        )
    figure.update_layout(yaxis2=figure.layout.yaxis)
    figure.update_layout(
        xaxis={"range": [0, 101], "anchor": "y2"},
        yaxis={"domain": [0.34, 1], "range": [-3, 103]},
        yaxis2={"domain": [0, 0.24], "title": {"text": "images, %"}, "anchor": "x", "rangemode": "tozero", "nticks": 4},
        barmode="group",
        bargap=0.1,
        height=440,
        legend=LEGEND_BELOW,
    )
    return Picture("reliability", "Calibration of the best trial on test", figure)


def reliability_sentence(found: Calibration, of: str | None = None) -> str:
    """What to read from the diagram: whether the model is too sure, and what the temperature mends.

    Args:
        found: a trial's calibration on test.
        of: what the trial is called, which the sentence then begins with.
    """
    before, after = found.before, found.after
    begin = f"{of[:1].upper()}{of[1:]}: on" if of else "On"
    text = (
        f"{begin} test the mean confidence is {percent(before.confidence)} % and the accuracy "
        f"{percent(before.accuracy)} %: {_tendency(before)}; the expected calibration error is {percent(before.ece)} %"
    )
    temperature, to = f"{found.temperature:.3g}", f" ({percent(after.ece)} % with it)"
    if not found.fitted:
        return f"{text}. Validation has no best temperature, so none is applied."
    if after.ece >= before.ece:
        return f"{text}. The temperature that fits validation best, {temperature}, does not lower it{to}."
    return f"{text}. The temperature that fits validation best, {temperature}, lowers it{to}."


def _name(found: Calibration, which: str) -> str:
    return "as trained" if which == "before" else f"with temperature {found.temperature:.3g}"


def _tendency(scores: CalibrationScores) -> str:
    gap = scores.confidence - scores.accuracy
    if abs(gap) < 0.01:
        return "within one percentage point of each other"
    return "the model is too sure of itself" if gap > 0 else "the model is right more often than it says"
