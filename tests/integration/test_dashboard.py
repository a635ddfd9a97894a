"""optuna-dashboard on our databases: it shows every trial, changes nothing, holds the figures, and outlives outages."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
from lmf_testing.browser import PREDICTIONS, train_light
from lmf_testing.light import EPOCHS, FACTS, STUDY, light_score
from lmf_testing.postgres import AWKWARD, postgres_server
from lmf_testing.web import Page, ask_application

from storage.artifacts import Artifacts
from storage.database import Database
from storage.errors import StorageError, StorageUnavailableError
from storage.planning import NewPoint, plan_points, save_study
from storage.queries import list_studies
from storage.trials import TrialMirror
from study.dashboard.application import OptunaDashboard, open_reader
from study.dashboard.figures import publish_figures
from study.dashboard.gateway import Gateway
from study.dashboard.rounds import FigureRounds

POINTS = 3
FIGURES = [
    *("settings", "plane", "ratio-spread-val", "points-test", "points-val", "choice", "half-ranges", "halves"),
    *("curves", "losses", "classes", "class-f1", "confusion-1"),
]


@dataclass(frozen=True)
class Shown:
    """A trained study and the dashboard on it.

    Attributes:
        database: the study's database.
        dashboard: optuna-dashboard on a reader of it.
        gateway: the gateway before it, with editing.
        folder: where the artifacts are.
    """

    database: Database
    dashboard: OptunaDashboard
    gateway: Gateway
    folder: Path

    def get(self, path: str, query: str = "") -> Page:
        return ask_application(self.gateway, path, QUERY_STRING=query)

    def json(self, path: str, query: str = "") -> Any:
        page = self.get(path, query)
        assert page.status == 200, page.body
        return json.loads(page.body)

    def figures(self) -> dict[str, Any]:
        """The figures that the dashboard has of the study, in its order."""
        return {
            figure["id"]: json.loads(figure["graph_object"])
            for figure in self.json("/api/studies/1")["plotly_graph_objects"]
        }

    def attributes(self) -> dict[str, Any]:
        """The system attributes of Optuna's study."""
        mirror = TrialMirror.open(self.database)
        return mirror.storage.get_study_system_attrs(mirror.storage.get_study_id_from_name(STUDY))


@contextmanager
def show(url: str, folder: Path) -> Iterator[Shown]:
    train_light(url, folder, POINTS)
    database, reader = Database.open(url, create=False), open_reader(url)
    try:
        artifacts = Artifacts.open(str(folder / "artifacts"))
        dashboard = OptunaDashboard(reader, artifacts)
        yield Shown(database, dashboard, Gateway(dashboard, OptunaDashboard(database, artifacts)), folder)
    finally:
        reader.close()
        database.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A study on each backend, for tests that change nothing of it."""
    folder = tmp_path_factory.mktemp("seen")
    if request.param == "sqlite":
        with show(f"sqlite:///{folder / 'lmf.db'}", folder) as found:
            yield found
        return
    server = request.getfixturevalue("postgres")
    name = server.create_database()
    with show(server.url(name), folder) as found:
        yield found
    server.drop_database(name)


@pytest.fixture
def shown(storage_url: str, tmp_path: Path) -> Iterator[Shown]:
    """A study on each backend, of this test alone."""
    with show(storage_url, tmp_path) as found:
        yield found


def test_trials_are_shown_with_parameters_curves_and_files(seen: Shown) -> None:
    (summary,) = seen.json("/api/studies")["study_summaries"]
    assert summary["study_name"] == STUDY
    detail = seen.json(f"/api/studies/{summary['study_id']}", "after=0")
    assert len(detail["trials"]) == POINTS
    for number, trial in enumerate(detail["trials"]):
        beta = 0.5 + number / POINTS
        assert trial["state"] == "Complete"
        values = {param["name"]: float(param["param_external_value"]) for param in trial["params"]}
        assert values == {"alpha": 1.0, "beta": beta}
        curve = {point["step"]: point["value"] for point in trial["intermediate_values"]}
        assert curve == {epoch: light_score(beta, epoch) for epoch in range(1, EPOCHS + 1)}
        files = {file["filename"]: file["artifact_id"] for file in trial["artifacts"]}
        assert sorted(files) == ["page.html", "predictions.csv"]
        folder = f"/artifacts/{summary['study_id']}/{trial['trial_id']}"
        table = seen.get(f"{folder}/{files['predictions.csv']}")
        assert table.body.decode() == PREDICTIONS.format(key=f"p{number}")
        assert table.headers["content-type"] == "text/csv"
        assert "access-control-allow-origin" not in table.headers
        page = seen.get(f"{folder}/{files['page.html']}")
        assert page.headers["content-type"] == "application/octet-stream"
        assert page.headers["content-disposition"] == "attachment"
        assert page.headers["content-security-policy"].startswith("sandbox;")


def test_whatever_only_reads_is_answered_by_a_database_that_takes_no_change(seen: Shown) -> None:
    trial = seen.json("/api/studies/1")["trials"][0]
    file = trial["artifacts"][0]["artifact_id"]
    answers = {
        "/": "/",
        "/dashboard<:re:(/.*)?>": "/dashboard/studies/1",
        "/api/meta": "/api/meta",
        "/api/studies": "/api/studies",
        "/api/studies/<study_id:int>": "/api/studies/1",
        "/api/studies/<study_id:int>/param_importances": "/api/studies/1/param_importances",
        "/api/studies/<study_id:int>/plot/<plot_type>": "/api/studies/1/plot/slice",
        "/csv/<study_id:int>": "/csv/1",
        "/favicon.ico": "/favicon.ico",
        "/static/<filename:path>": "/static/bundle.js",
        "/incompatible-rdb-schema": "/incompatible-rdb-schema",
        "/artifacts/<study_id:int>/<artifact_id:re:[0-9a-fA-F-]+>": f"/artifacts/1/{file}",
        "/artifacts/<study_id:int>/<trial_id:int>/<artifact_id:re:[0-9a-fA-F-]+>": (
            f"/artifacts/1/{trial['trial_id']}/{file}"
        ),
    }
    # A version of optuna-dashboard that reads something more is to be looked at before it is let in.
    assert {route.rule for route in seen.dashboard._application.routes if route.method == "GET"} == set(answers)
    statuses = {path: seen.get(path).status for path in answers.values()}
    assert {path: status for path, status in statuses.items() if status != 200} == {
        "/": 302,
        "/incompatible-rdb-schema": 302,
        f"/artifacts/1/{file}": 404,
    }
    for kind in ("contour", "parallel_coordinate", "rank", "edf", "timeline"):
        assert seen.get(f"/api/studies/1/plot/{kind}").status == 200, kind


def test_the_reader_s_database_itself_refuses_changes(seen: Shown) -> None:
    def change() -> Page:
        def past_the_gateway(environ: Any, start_response: Any) -> Any:
            answer = seen.dashboard(environ)
            start_response(answer.status, list(answer.headers))
            return answer.body

        body = json.dumps({"study_name": "another", "directions": ["maximize"]}).encode()
        return ask_application(past_the_gateway, "/api/studies", "POST", body=body, CONTENT_TYPE="application/json")

    with suppress(StorageError):
        assert change().status == 500
    assert [study["study_name"] for study in seen.json("/api/studies")["study_summaries"]] == [STUDY]


def test_reading_waits_for_no_writer(seen: Shown) -> None:
    with seen.database.begin() as connection:
        connection.exec_driver_sql("UPDATE lmf_studies SET model = model")
        assert seen.get("/api/studies").status == 200
        assert seen.get("/dashboard").status == 200


def test_notes_can_be_written_where_editing_is_allowed(shown: Shown) -> None:
    body = json.dumps({"body": "keep this", "version": 1}).encode()
    page = ask_application(
        shown.gateway, "/api/studies/1/note", "PUT", body=body, CONTENT_TYPE="application/json", REMOTE_ADDR="::1"
    )
    assert page.status == 204
    assert shown.json("/api/studies/1")["note"] == {"version": 1, "body": "keep this"}
    assert ask_application(shown.gateway, "/api/studies/1", "DELETE").status == 403
    assert list_studies(shown.database) == (STUDY,)
    assert len(shown.json("/api/studies")["study_summaries"]) == 1


def test_attributes_of_a_trial_that_has_ended_or_is_unknown_are_refused_in_a_line(
    seen: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    trial = seen.json("/api/studies/1")["trials"][0]["trial_id"]
    body = json.dumps({"user_attrs": {"rating": 3}}).encode()
    for number, status, reason in ((trial, 409, "this trial has ended"), (99999, 404, "no such thing")):
        page = ask_application(
            seen.gateway, f"/api/trials/{number}/user-attrs", "POST", body=body, CONTENT_TYPE="application/json"
        )
        assert page.status == status
        assert reason in json.loads(page.body)["reason"]
    assert "Traceback" not in caplog.text
    assert "Exception" not in caplog.text


def test_attributes_of_a_trial_that_goes_on_can_be_written(shown: Shown) -> None:
    mirror = TrialMirror.open(shown.database)
    study = mirror.storage.get_study_id_from_name(STUDY)
    trial = mirror.storage.create_new_trial(study)
    body = json.dumps({"user_attrs": {"rating": 3}}).encode()
    page = ask_application(
        shown.gateway, f"/api/trials/{trial}/user-attrs", "POST", body=body, CONTENT_TYPE="application/json"
    )
    assert page.status == 204
    assert mirror.storage.get_trial(trial).user_attrs == {"rating": 3}


@pytest.mark.parametrize("path", ["/artifacts/1/99999/abc", "/artifacts/99/1/abc", "/artifacts/1/1/abc"])
def test_a_file_that_does_not_exist_is_not_found(seen: Shown, path: str) -> None:
    assert seen.get(path).status == 404


def test_a_file_that_is_gone_from_the_store_is_not_found(shown: Shown) -> None:
    trial = shown.json("/api/studies/1")["trials"][0]
    file = trial["artifacts"][0]["artifact_id"]
    Artifacts.open(str(shown.folder / "artifacts")).remove(file)
    assert shown.get(f"/artifacts/1/{trial['trial_id']}/{file}").status == 404


def test_the_report_s_figures_are_there_in_its_order(shown: Shown) -> None:
    assert publish_figures(shown.database, STUDY) == len(FIGURES)
    figures = shown.figures()
    assert list(figures) == [f"lmf-{name}" for name in FIGURES]
    means = next(trace for trace in figures["lmf-settings"]["data"] if trace["name"].startswith("validation: mean"))
    scores = [light_score(0.5 + number / POINTS, EPOCHS) for number in range(POINTS)]
    assert means["y"] == [pytest.approx(100 * sum(scores) / POINTS, abs=1e-3)]


def test_figures_are_replaced_and_do_not_pile_up(shown: Shown) -> None:
    publish_figures(shown.database, STUDY)
    before = shown.attributes()
    assert publish_figures(shown.database, STUDY) == 0
    assert shown.attributes() == before

    train_light(shown.database.url.render_as_string(hide_password=False), shown.folder, 2 * POINTS)
    assert publish_figures(shown.database, STUDY) == len(FIGURES)
    assert f"{2 * POINTS} of {2 * POINTS} points" in json.dumps(shown.figures()["lmf-settings"]["layout"])
    after = shown.attributes()
    assert after.keys() >= before.keys()
    for _ in range(2):
        publish_figures(shown.database, STUDY)
    assert shown.attributes() == after


def test_a_writer_that_dies_half_way_is_made_good_by_the_next(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna_dashboard

    whole = optuna_dashboard.save_plotly_graph_object

    def die(study: Any, figure: Any, *, graph_object_id: str) -> str:
        if graph_object_id == "lmf-curves":
            raise StorageUnavailableError("away")
        return str(whole(study, figure, graph_object_id=graph_object_id))

    monkeypatch.setattr(optuna_dashboard, "save_plotly_graph_object", die)
    with pytest.raises(StorageUnavailableError):
        publish_figures(shown.database, STUDY)
    monkeypatch.undo()
    assert publish_figures(shown.database, STUDY) == len(FIGURES)
    assert len(shown.figures()) == len(FIGURES)


def test_only_one_process_writes_figures_at_a_time(seen: Shown) -> None:
    other = Database.open(seen.database.url.render_as_string(hide_password=False), create=False)
    try:
        with other.lock("figures"), pytest.raises(StorageUnavailableError, match="another process has held"):
            publish_figures(seen.database, STUDY, lock_seconds=0.2)
    finally:
        other.close()


def test_a_study_that_is_unknown_or_gone_in_optuna_is_refused_in_a_line(shown: Shown) -> None:
    with pytest.raises(StorageError, match="no study named another"):
        publish_figures(shown.database, "another")
    mirror = TrialMirror.open(shown.database)
    optuna.delete_study(study_name=STUDY, storage=mirror.storage)
    with pytest.raises(StorageError, match="lmf study delete"):
        publish_figures(shown.database, STUDY)


def test_rounds_draw_what_has_changed_and_not_too_often(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    rounds = FigureRounds(shown.database, clock)
    assert rounds.go() == len(FIGURES)
    assert rounds.go() == 0
    train_light(shown.database.url.render_as_string(hide_password=False), shown.folder, 2 * POINTS)
    assert rounds.go() == 0, "a second was spent on it, so twenty have to pass"
    now[0] += 20.0
    assert rounds.go() == len(FIGURES)


def test_one_study_that_cannot_be_drawn_does_not_keep_others_from_it(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from study.dashboard import rounds as module

    monkeypatch.setattr(module, "publish_record", lambda *_: 1 / 0)
    rounds = FigureRounds(shown.database)
    assert rounds.go() == 0
    assert f"{STUDY}: its figures cannot be drawn" in caplog.text
    caplog.clear()
    assert rounds.go() == 0
    assert caplog.text == ""


def test_one_study_whose_half_is_gone_does_not_keep_others_from_it(
    shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = TrialMirror.open(shown.database)
    optuna.delete_study(study_name=STUDY, storage=mirror.storage)
    database = shown.database
    with database.lock("plan"):
        study_id = save_study(database, mirror, "second", "none", {"recipe": {"epochs": EPOCHS}}, FACTS)
        plan_points(database, mirror, study_id, [NewPoint("p0", 1.0, 1.0, "lmf", 23, ("beta",))])
    rounds = FigureRounds(database)
    assert rounds.go() == 1, "the classes of the second study"
    assert rounds.go() == 0
    assert caplog.text.count(f"{STUDY}: its figures are not brought up to date") == 1


def test_rounds_go_on_until_they_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds, stop, gone = FigureRounds(cast(Database, None)), threading.Event(), []

    def go(_: threading.Event) -> int:
        gone.append(1)
        if len(gone) == 3:
            stop.set()
        return 0

    monkeypatch.setattr(rounds, "go", go)
    rounds.keep_up(stop, 0.0)
    assert len(gone) == 3


def test_a_database_that_is_away_is_said_and_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with postgres_server() as server:
        with show(server.url(), tmp_path) as shown:
            rounds = FigureRounds(shown.database)
            trial = shown.json("/api/studies/1")["trials"][0]
            file = f"/artifacts/1/{trial['trial_id']}/{trial['artifacts'][0]['artifact_id']}"
            paths = ("/api/studies", "/api/studies/1", "/dashboard", "/csv/1", file)
            server.control("-m", "fast", "stop")
            try:
                for path in paths:
                    page = shown.get(path)
                    assert page.status == 503, path
                    assert page.headers["retry-after"]
                    assert b"the database cannot be reached" in page.body
                body = json.dumps({"body": "x", "version": 1}).encode()
                write = ask_application(
                    shown.gateway, "/api/studies/1/note", "PUT", body=body, CONTENT_TYPE="application/json"
                )
                assert write.status == 503
                assert rounds.go() == rounds.go() == 0
            finally:
                server.start()
            assert [shown.get(path).status for path in paths] == [200] * len(paths)
            assert rounds.go() == len(FIGURES)
    assert caplog.text.count("figures are not brought up to date") == 1
    assert AWKWARD not in caplog.text
    assert "Traceback" not in caplog.text
