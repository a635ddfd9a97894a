"""optuna-dashboard on the same URL shows every trial with its parameters, learning curve and files."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
from lmf_testing.light import EPOCHS, STUDY, LightObjective, light_score, open_bench, plan_light

from storage.artifacts import Artifacts
from storage.database import Database
from study.worker import WorkerOptions, serve


def get(app: Callable[..., Any], path: str, query: str = "") -> bytes:
    environ: dict[str, Any] = {"PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    parts = app(environ, lambda status, headers, *_: statuses.append(status))
    body = b"".join(parts)
    if hasattr(parts, "close"):
        parts.close()
    assert statuses[0].startswith("200"), (statuses, body[:300])
    return body


def test_the_dashboard_shows_trials_with_parameters_curves_and_files(storage_url: str, tmp_path: Path) -> None:
    import threading

    database = Database.open(storage_url)
    study_id = plan_light(database, 3)
    bench = open_bench(database, tmp_path, threading.Event())
    serve(bench, study_id, LightObjective(tmp_path), WorkerOptions("cpu"))
    bench.mirror.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from optuna_dashboard import wsgi

        storage = optuna.storages.RDBStorage(storage_url.replace("{", "{{").replace("}", "}}"))
        app = wsgi(storage, artifact_store=Artifacts.open(str(tmp_path / "artifacts")).store)
        (summary,) = json.loads(get(app, "/api/studies"))["study_summaries"]
        assert summary["study_name"] == STUDY
        detail = json.loads(get(app, f"/api/studies/{summary['study_id']}", "after=0"))
        assert len(detail["trials"]) == 3
        for number, trial in enumerate(detail["trials"]):
            beta = 0.5 + number / 3
            assert trial["state"] == "Complete"
            shown = {param["name"]: float(param["param_external_value"]) for param in trial["params"]}
            assert shown == {"alpha": 1.0, "beta": beta}
            curve = {point["step"]: point["value"] for point in trial["intermediate_values"]}
            assert curve == {epoch: light_score(beta, epoch) for epoch in range(1, EPOCHS + 1)}
            (file,) = trial["artifacts"]
            assert file["filename"] == "predictions.csv"
            path = f"/artifacts/{summary['study_id']}/{trial['trial_id']}/{file['artifact_id']}"
            assert get(app, path) == f"p{number}\n".encode()
        storage.remove_session()
        storage.engine.dispose()
    database.close()
