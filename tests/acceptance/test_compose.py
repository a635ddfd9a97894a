"""docker-compose.yml: valid, closed, pinned; and each service does its work, run as a process on a real PostgreSQL."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from lmf_testing.compose import ROOT, SETTINGS, Stand, compose_command, interpolate, read_compose
from lmf_testing.postgres import AWKWARD, Server

VARIABLES = ("LMF_PASSWORD_FILE", "LMF_LOGIN_FILE", "LMF_DATA", "LMF_DASHBOARD_PORT", "LMF_TORCH")
VISITOR, WORD = "anna", "eight or more"


def check(folder: Path, text: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """What compose says of a file."""
    command = compose_command()
    if command is None:
        pytest.skip("needs docker-compose, or Docker's plugin compose")
    (folder / "docker-compose.yml").write_text(text)
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [*command, "-f", folder / "docker-compose.yml", "config"],
        env=environment | settings,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
    )


@pytest.fixture(scope="module")
def text() -> str:
    return (ROOT / "docker-compose.yml").read_text()


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found = read_compose()["services"]
    assert isinstance(found, dict)
    return found


def test_compose_takes_the_file(text: str, tmp_path: Path) -> None:
    done = check(tmp_path, text, **SETTINGS)
    assert done.returncode == 0, done.stderr
    assert "postgres:18" in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("healthcheck:", "heathcheck:"),
        ("service_healthy", "service_happy"),
        ("stop_grace_period: 1m", "stop_grace_period: [1m]"),
        ("      db:\n        condition", "      dbs:\n        condition"),
    ],
)
def test_compose_would_see_a_mistake(text: str, tmp_path: Path, right: str, wrong: str) -> None:
    assert right in text
    assert check(tmp_path, text.replace(right, wrong), **SETTINGS).returncode != 0


@pytest.mark.parametrize("missing", list(SETTINGS))
def test_compose_refuses_to_start_without_a_secret(text: str, tmp_path: Path, missing: str) -> None:
    for given in ({}, {missing: ""}):
        done = check(tmp_path, text, **{name: file for name, file in SETTINGS.items() if name != missing}, **given)
        assert done.returncode != 0
        assert "as .env.example shows" in done.stderr
        assert missing in done.stderr


def test_the_example_has_every_setting_and_no_secret(text: str) -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(given) == set(VARIABLES) == set(re.findall(r"\$\{(\w+)", text))
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    assert {name: given[name] for name in defaults} == defaults
    assert interpolate(text, given) == interpolate(text, SETTINGS)


def test_only_the_dashboard_is_published_and_only_here(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"dashboard": ["127.0.0.1:8080:8080"]}
    for service in services.values():
        assert not {"network_mode", "privileged", "pid", "ipc", "devices"} & set(service)
        assert "docker.sock" not in json.dumps(service)
    networks = read_compose()["networks"]
    assert services["db"]["networks"] == ["database"]
    assert networks["database"] == {"internal": True}


def test_what_services_name_is_defined(services: dict[str, Any]) -> None:
    document = read_compose()
    for service in services.values():
        assert set(service["networks"]) <= set(document["networks"])
        assert set(service["secrets"]) <= set(document["secrets"])
        named = [volume.partition(":")[0] for volume in service.get("volumes", ())]
        assert {name for name in named if not name.startswith(".")} <= set(document["volumes"])


def test_images_are_pinned(services: dict[str, Any]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {name: service["image"] for name, service in services.items()}
    assert re.fullmatch(r"postgres:18\.\d+-bookworm", images.pop("db"))
    assert images.pop("worker-gpu") == f"lmf:{version}-cu130"
    assert set(images.values()) == {f"lmf:{version}-cpu"}
    for name, service in services.items():
        if name != "db":
            assert service["image"].endswith(f"-{service['build']['args']['TORCH']}")


def test_no_password_is_in_an_environment_or_a_command(services: dict[str, Any]) -> None:
    for service in services.values():
        for variable, value in service["environment"].items():
            assert "PASSWORD" not in variable or (variable.endswith("_FILE") and value.startswith("/run/secrets/"))
        if "LMF_STORAGE" in service["environment"]:
            assert sa.make_url(service["environment"]["LMF_STORAGE"]).password is None
        named = {value.rpartition("/")[2] for value in (*service["environment"].values(), *service.get("command", ()))}
        assert set(service["secrets"]) == named & set(read_compose()["secrets"])


def test_services_wait_restart_and_stop_as_they_should(services: dict[str, Any]) -> None:
    assert services["db"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert services["schema"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert services["schema"]["restart"] == "no"
    for name in ("dashboard", "worker", "worker-gpu"):
        assert services[name]["depends_on"] == {"schema": {"condition": "service_completed_successfully"}}
        assert services[name]["restart"] == "unless-stopped"
    for name in ("worker", "worker-gpu"):
        assert services[name]["stop_signal"] == "SIGTERM"
        assert services[name]["stop_grace_period"] == "3m"
        assert "container_name" not in services[name], "or it could not be scaled"
        assert services[name]["volumes"][-1] == "./data:/data/images:ro"
    assert {name: service.get("profiles") for name, service in services.items()} == {
        **{"db": None, "schema": None, "dashboard": None},
        **{"worker": ["cpu"], "worker-gpu": ["gpu"]},
    }
    (device,) = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


@pytest.fixture
def stand(postgres: Server, tmp_path: Path) -> Iterator[Stand]:
    """Folders, secrets and an empty database for the services."""
    (tmp_path / "secrets").mkdir(mode=0o700)
    password = tmp_path / "secrets" / "database_password"
    password.write_text(f"{AWKWARD}\n")
    for folder in ("images", "lmf-home", "artifacts"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    database = postgres.create_database()
    yield Stand(tmp_path, f"127.0.0.1:{postgres.port}/{database}", port)
    postgres.drop_database(database)


def finish(process: subprocess.Popen[str], code: int = 0, seconds: float = 240) -> str:
    """Wait for a process, and check how it ended and that it told no password."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == code, (out, err)
    assert AWKWARD not in out + err
    return out


@contextlib.contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed at the end if it still runs."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def ask(port: int, method: str, path: str, login: str | None = None) -> int:
    """The status of an answer of the dashboard; 0 while it does not listen."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
    try:
        connection.request(method, path, headers=headers)
        return connection.getresponse().status
    except ConnectionRefusedError:
        return 0
    finally:
        connection.close()


def wait_until(condition: Any, process: subprocess.Popen[str], seconds: float = 240) -> None:
    """Wait for something that a process does."""
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.3)


def test_the_services_prepare_train_and_show_a_study(stand: Stand, services: dict[str, Any]) -> None:
    finish(stand.start("schema"))
    finish(stand.start("schema"))

    with running(stand.start("worker-gpu")) as refused:
        assert "cuda is not here" in refused.communicate(timeout=240)[1]
    assert refused.returncode == 2

    # `docker compose run worker run ...` plans a study, and is stopped before it is trained.
    flags = ("--study", "digits", "--epochs", "1", "--image-size", "16", "--settings", "joint", "--grid", "0.5,1.0")
    planning = stand.start("worker", "run", "digits-lt", *flags, "--workers", "1", "--device", "cpu", "--threads", "1")
    with running(planning):
        wait_until(lambda: points(stand), planning)
        planning.send_signal(signal.SIGTERM)
        planning.communicate(timeout=120)
    assert planning.returncode in (0, 3)

    with running(stand.start("worker")) as worker:
        wait_until(lambda: set(points(stand)) == {"complete"}, worker)
        # It stays for the next study, and ends when it is told to.
        time.sleep(1)
        assert worker.poll() is None
        worker.send_signal(getattr(signal, services["worker"]["stop_signal"]))
        finish(worker, code=0, seconds=60)
    assert len(points(stand)) == 2

    make_login(stand)
    with running(stand.start("dashboard")) as dashboard:
        wait_until(lambda: ask(stand.port, "GET", "/"), dashboard)
        assert ask(stand.port, "GET", "/api/studies") == 401
        assert ask(stand.port, "GET", "/api/studies", f"{VISITOR}:wrong word") == 401
        assert ask(stand.port, "GET", "/api/studies", f"{VISITOR}:{WORD}") == 200
        assert ask(stand.port, "DELETE", "/api/studies/1", f"{VISITOR}:{WORD}") in (403, 405)
        probe = [str(word).replace("8080", str(stand.port)) for word in services["dashboard"]["healthcheck"]["test"]]
        assert probe[:2] == ["CMD", "python"]
        assert subprocess.run([sys.executable, *probe[2:]], timeout=60).returncode == 0
        dashboard.send_signal(signal.SIGTERM)
        finish(dashboard, seconds=60)
    assert subprocess.run([sys.executable, *probe[2:]], capture_output=True, timeout=60).returncode != 0


def points(stand: Stand) -> list[str]:
    """The states of all points in the stand's database."""
    url = sa.make_url(f"postgresql+psycopg://lmf@{stand.database}").set(password=AWKWARD)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(connection.scalars(sa.text("SELECT state FROM lmf_points WHERE trial_id IS NOT NULL")))


def make_login(stand: Stand) -> None:
    """What .env.example tells to do: a login, readable for all in a folder that nobody else can enter."""
    path = stand.folder / "secrets" / "dashboard_login"
    subprocess.run(
        [Path(sys.executable).parent / "lmf", "dashboard", "--login", path, "--add-login", VISITOR],
        input=f"{WORD}\n",
        text=True,
        check=True,
        capture_output=True,
        timeout=120,
    )
    path.chmod(0o444)
