"""What readers say of a search: its whole budget, what was pruned, and a report without settings."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from click.testing import CliRunner
from lmf_testing.light import plan_light_search
from rich.console import Console

from storage.database import Database
from storage.search import Search
from storage.trials import TrialMirror
from study.cli.status import status_command
from study.cli.study import study_command
from study.export import export_document
from study.progress import StudyProgress, study_table
from study.reporting import tables
from study.reporting.curves import score_curves
from study.reporting.page import report_page
from study.reporting.rows import epoch_rows, point_rows
from study.reporting.sheets import sheets
from study.reporting.statistics import pruning_of, summarize
from study.reporting.winners import winner_of

SPEC = {"search": "tpe", "trials": 6, "pruner": "median", "seeds": [23]}
SPEC |= {"recipe": {"select": "macro_f1", "epochs": 10}}


@pytest.fixture
def study(records):
    """A search of six trials of ten epochs: two complete, one pruned, one running, two to be chosen."""

    def point(alpha, beta, val=None, **others):
        return records.point(alpha, beta, val, settings=(), **others)

    message = "pruned after epoch 3 of 10 (median)"
    points = (
        point(0.51, 1.9, 0.6, last_epoch=10),
        point(1.3, 0.7, 0.7, last_epoch=10),
        point(1.1, 1.2, state="pruned", attempts=1, last_epoch=3, message=message),
        point(0.9, 1.0, state="running", attempts=1, last_epoch=4),
    )
    return records.study(points, spec=SPEC)


@pytest.fixture
def done(study):
    """The same where the budget was four and all points ended."""
    complete = replace(study.points[0], point_id=900, trial_number=90, alpha=0.8)
    return replace(study, spec=SPEC | {"trials": 4}, points=(*study.points[:3], complete))


def shown(table):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_the_budget_counts_before_it_is_chosen(study):
    assert (study.unchosen, study.total, study.remaining) == (2, 6, 3)
    more = replace(study, spec=SPEC | {"trials": 3})
    assert (more.unchosen, more.total, more.remaining) == (0, 4, 1)
    grid = replace(study, spec={"recipe": {"epochs": 10}})
    assert (grid.unchosen, grid.total, grid.remaining) == (0, 4, 1)


def test_progress_counts_the_whole_budget_and_expects_nothing_of_what_is_pruned(study):
    progress = StudyProgress.of(study)
    assert progress.states == {"complete": 2, "running": 1, "waiting": 2, "failed": 0, "pruned": 1}
    assert progress.points == 6 == sum(progress.states.values())
    assert progress.closed == 3
    assert (progress.epochs_done, progress.epochs_planned) == (10 + 10 + 3 + 4, 5 * 10 + 3)
    assert "3/6" in shown(study_table([progress]))


def test_all_is_done_where_every_point_is_complete_or_pruned(done):
    progress = StudyProgress.of(done)
    assert progress.epochs_done == progress.epochs_planned == 33
    assert progress.closed == progress.points == 4


def test_what_pruning_saved_is_counted_in_epochs(study, done, records):
    pruning = pruning_of(done)
    assert (pruning.points, pruning.epochs, pruning.spared, pruning.unpruned_epochs) == (1, 33, 7, 40)
    assert pruning_of(study).epochs == 27
    assert pruning_of(records.study([records.point(1.0, 1.0, 0.5)])) is None


def test_the_report_has_no_settings_and_says_what_was_pruned(study, done, records):
    data = records.data(done)
    curve = tuple(records.epoch(done.points[2], number) for number in (1, 2, 3))
    page = report_page([replace(data, epochs=data.epochs + curve)])
    assert "Fig 4" not in page
    assert "A line that rises" not in page
    assert "1 of 4 points pruned: 33 epochs trained instead of 40" in page
    assert "3 of 4 points complete (1 pruned)." in page
    assert "What went wrong" not in page
    assert "--seeds" not in page
    epochs = epoch_rows(point_rows(done), curve)
    (line,) = score_curves(summarize(done), epochs).figure.data
    assert list(line.x) == [1, 2, 3, None], "the pruned point's learning curve is shown"
    assert "Unfinished: 2 of 6 points complete (1 running, 2 waiting, 1 pruned)" in report_page([records.data(study)])


def test_a_table_of_several_studies_counts_the_budget(study):
    summary = summarize(study)
    assert tables.overview([summary], [winner_of(summary)]).rows[0][4] == "2 of 6"


def test_status_and_study_count_points_that_are_not_chosen_yet(tmp_path, monkeypatch):
    for name in ("LMF_STORAGE", "LMF_STORAGE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LMF_HOME", str(tmp_path))
    database = Database.open(f"sqlite:///{tmp_path / 'lmf.db'}")
    study_id = plan_light_search(database, 3)
    mirror = TrialMirror.open(database)
    search = Search.open(database, mirror, study_id)
    assert search is not None
    search.plan_next()
    mirror.close()
    database.close()

    def call(command, *arguments):
        done = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    (study,) = json.loads(call(status_command, "--json"))["studies"]
    assert (study["points"], study["waiting"]) == (3, 3)
    assert "0/3" in call(status_command)
    assert call(study_command, "list") == "light: light, none, 0/3 points\n"
    assert "\npoints: 2 still to be chosen\n  trial 0 (lmf a=" in call(study_command, "show", "light")


def test_the_export_and_the_sheets_have_no_settings(done, records):
    (exported,) = export_document([done])["studies"]
    assert exported["settings"] == {}
    assert (exported["best"]["alpha"], exported["best"]["beta"]) == (1.3, 0.7)
    texts = sheets([records.data(done)])
    assert len(texts["settings"].splitlines()) == 1
    states = [row["state"] for row in csv.DictReader(io.StringIO(texts["points"]))]
    assert sorted(states) == ["complete", "complete", "complete", "pruned"]
