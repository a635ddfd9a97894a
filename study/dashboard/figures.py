"""A study's figures inside optuna-dashboard, which keeps them among the attributes of Optuna's study."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go
import plotly.io as pio

from storage.errors import StorageError
from study.reporting.curves import MOST_CURVES, best_epochs
from study.reporting.gallery import NAMES, study_pictures
from study.reporting.leakage import has_leaks, leakage_line
from study.reporting.picture import Picture, label
from study.reporting.rows import EpochRow, epoch_rows, point_rows
from study.reporting.statistics import StudySummary, summarize
from study.reporting.text import counted

if TYPE_CHECKING:
    from storage.database import Database
    from storage.queries import EpochRecord, StudyRecord
    from storage.trials import TrialMirror

logger = logging.getLogger(__name__)

# On white as on optuna-dashboard's dark ground; it keeps one figure for both, and draws it as it is.
PALETTE = {
    "text": "#7b8087",
    "muted": "#7b8087",
    "line": "rgba(127, 127, 127, 0.30)",
    "faint": "rgba(127, 127, 127, 0.40)",
    "surface": "#1c2127",
    "accent": "#3f83c8",
    "test": "#3f83c8",
    "val": "#c4690f",
    "joint": "#8a6fd6",
    "beta": "#1b9070",
    "alpha": "#d0507f",
}
GROUNDS = ("#ffffff", "#1e1e1e", "#121212")
"""What the figures lie on: optuna-dashboard's cards in light and dark, and its dark page."""
MOST_EPOCHS = 1500
"""How many epochs of other points than the best the figures of epochs have at most."""

_MARK = "lmf:figures"
_LOCK = "figures"
_TITLES = {"settings": "Fig 4: mean macro F1 of each setting"}
_TITLE_PIXELS = 52
_HOVER_TEXT = "#ffffff"
_LEAST_OPACITY = 0.8


_PREFIX = "lmf-"


def figure_place(figure_id: str) -> tuple[int, str]:
    """Where a figure stands among those of its study: ours in the report's order, then others by their ids."""
    name = figure_id.removeprefix(_PREFIX)
    known = figure_id.startswith(_PREFIX) and name in NAMES
    return (NAMES.index(name) if known else len(NAMES), figure_id)


def publish_figures(database: Database, study: str, *, lock_seconds: float = 60.0) -> int:
    """Put a study's figures into optuna-dashboard, in place of those that are there.

    Args:
        database: holds the study.
        study: its name.
        lock_seconds: how long to wait for another process that writes figures.

    Returns:
        How many figures were written: 0 where those that are there are the same, or there is nothing to draw yet.

    Raises:
        StorageError: there is no such study, the database cannot be read or written, or another process wrote figures
            all that time.
    """
    from storage.queries import read_epochs, read_study

    return publish_record(database, read_study(database, study), read_epochs(database, study), lock_seconds)


def show_in_dashboard(database: Database, study: str) -> None:
    """Put a study's figures into optuna-dashboard where that can be done now; else a warning says why not."""
    try:
        publish_figures(database, study)
    except StorageError as error:
        logger.warning("%s: the figures in the dashboard are not up to date: %s", study, error)


def publish_record(
    database: Database, study: StudyRecord, epochs: Sequence[EpochRecord], lock_seconds: float = 60.0
) -> int:
    """The same for a study that was read already."""
    from storage.trials import TrialMirror, optuna_errors

    drawn = study_figures(study, epochs)
    if not drawn:
        return 0
    mark = hashlib.sha256("\n".join(f"{name} {figure.to_json()}" for name, figure in drawn.items()).encode())
    written = 0
    with database.lock(_LOCK, lock_seconds):
        mirror = TrialMirror.open(database)
        try:
            with optuna_errors(database):
                written = _write(mirror, study.name, drawn, mark.hexdigest())
        finally:
            mirror.close()
    return written


def study_figures(study: StudyRecord, epochs: Sequence[EpochRecord]) -> dict[str, go.Figure]:
    """A study's figures as they stand in the dashboard, by their ids there.

    Args:
        study: the study.
        epochs: its epochs.
    """
    summary = summarize(study, point_rows(study, epochs))
    rows = _thinned(summary, epoch_rows(summary.rows, epochs))
    notes = [f"{summary.states['complete']} of {counted(study.total, 'point')} complete"]
    if has_leaks(study.leakage):
        notes.append(leakage_line(study.leakage))
    return {
        f"{_PREFIX}{picture.name}": _for_dashboard(picture, () if picture.name == "classes" else notes)
        for picture in study_pictures(summary, rows)
    }


def _thinned(summary: StudySummary, rows: Sequence[EpochRow]) -> list[EpochRow]:
    """All epochs of the best point; of the others every n-th and each point's first and last, where there are many.

    The figures of still more points are of all together, and are small as they are.
    """
    if len({row.point.point for row in rows}) > MOST_CURVES:
        return list(rows)
    best = best_epochs(summary, rows)
    whole = {row.point.point for row in best}
    last = {row.point.point: row.epoch for row in rows}
    step = math.ceil((len(rows) - len(best)) / MOST_EPOCHS) or 1
    return [
        row
        for row in rows
        if row.point.point in whole or row.epoch % step == 0 or row.epoch in (1, last[row.point.point])
    ]


def _for_dashboard(picture: Picture, notes: Sequence[str]) -> go.Figure:
    """A picture with its title and notes, in colours for both grounds, as large as its place in the dashboard."""
    text = re.sub(r'"var\(--([a-z]+)\)"', lambda name: f'"{PALETTE[name[1]]}"', picture.figure.to_json())
    figure = pio.from_json(text)
    title = "<br>".join(
        [label(_TITLES.get(picture.name, picture.title)), *(f"<sup>{label(note)}</sup>" for note in notes)]
    )
    figure.update_layout(
        title={"text": title, "x": 0.02, "xanchor": "left", "font": {"size": 15}},
        height=None,
        margin={"t": figure.layout.margin.t + _TITLE_PIXELS},
        font={"size": 13},
        hoverlabel={"font": {"color": _HOVER_TEXT}},
    )
    has_cells = any(trace.type == "heatmap" for trace in figure.data)
    for trace in figure.data:
        # The counts of a matrix are read on its cells, whatever the ground is.
        if trace.type == "heatmap":
            trace.opacity = 1
        elif has_cells:
            trace.textfont.color = _HOVER_TEXT
        # Paler than this, a mark can hardly be seen on the dark ground.
        if "marker" in trace and trace.marker.opacity is not None:
            trace.marker.opacity = _LEAST_OPACITY
    return figure


def _write(mirror: TrialMirror, study: str, drawn: dict[str, go.Figure], mark: str) -> int:
    """Write figures; the mark is set last, so that a writer that dies in between is followed by another."""
    import optuna
    from optuna_dashboard import save_plotly_graph_object  # type: ignore[import-untyped]

    storage = mirror.storage
    study_id = storage.get_study_id_from_name(study)
    if storage.get_study_system_attrs(study_id).get(_MARK) == mark:
        return 0
    storage.set_study_system_attr(study_id, _MARK, "")
    stored = optuna.load_study(study_name=study, storage=storage)
    for name, figure in drawn.items():
        save_plotly_graph_object(stored, figure, graph_object_id=name)
    storage.set_study_system_attr(study_id, _MARK, mark)
    return len(drawn)
