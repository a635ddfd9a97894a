"""`lmf dashboard` as a process, looked at with a real Chromium."""

from __future__ import annotations

import functools
import http.server
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lmf_testing.browser import (
    BROWSER,
    PREDICTIONS,
    Dashboard,
    chromium,
    eventually,
    run_dashboard,
    train_light,
)
from lmf_testing.cli import environment, start_lmf
from lmf_testing.light import STUDY
from lmf_testing.web import ask

from storage.database import Database
from storage.queries import list_studies

needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome on the PATH (Debian: chromium)")

NAME, PASSWORD = "ada", "correct horse: ß"
FIGURES = 13


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a trained study in SQLite."""
    folder = tmp_path_factory.mktemp("home")
    train_light(f"sqlite:///{folder / 'lmf.db'}", folder)
    return folder


@pytest.fixture(scope="module")
def logins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of logins, made as a script makes it."""
    file = tmp_path_factory.mktemp("logins") / "logins"
    done = subprocess.run(
        [sys.executable, "-m", "study.cli.main", "dashboard", "--login", str(file), "--add-login", NAME],
        input=f"{PASSWORD}\n",
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(file.parent),
    )
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return file


@pytest.fixture(scope="module")
def dashboard(home: Path) -> Iterator[Dashboard]:
    """A dashboard as it starts by default."""
    with run_dashboard(home) as running:
        eventually(lambda: len(figures_of(running)) == FIGURES)
        yield running


@pytest.fixture(scope="module")
def editing(home: Path, logins: Path) -> Iterator[Dashboard]:
    """A dashboard for other machines, with a login, that takes notes; its URL is that of loopback."""
    with run_dashboard(home, "--host", "0.0.0.0", "--login", str(logins), "--allow-edit") as running:
        running.url = running.url.replace("0.0.0.0", "127.0.0.1")
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@contextmanager
def page_of(browser: Any, **options: Any) -> Iterator[Any]:
    """A page of a new context; `complaints` of it are all errors of the console and of scripts."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, **options)
    context.set_default_timeout(60_000)
    try:
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        yield page
    finally:
        context.close()


def status_of(page: Any, url: str) -> int:
    """The status with which a page is answered; without a body Chromium may show its own page for 401."""
    from playwright.sync_api import Error

    try:
        return int(page.goto(url).status)
    except Error as error:
        if "ERR_INVALID_AUTH_CREDENTIALS" not in error.message:
            raise
        return 401


def figures_of(running: Dashboard, **request: Any) -> list[str]:
    """Ids of the figures that a dashboard has of the study."""
    study = json.loads(running.ask("/api/studies/1", **request).body)
    return [figure["id"] for figure in study["plotly_graph_objects"]]


@needs_browser
def test_the_study_is_listed_and_a_trial_opens_with_its_files(dashboard: Dashboard, browser: Any) -> None:
    with page_of(browser) as page:
        page.goto(dashboard.url)
        page.get_by_text(STUDY).first.wait_for()
        page.goto(f"{dashboard.url}/dashboard/studies/1/trials?numbers=1")
        page.get_by_text("Trial 1 (trial_id=2)").wait_for()
        page.get_by_text("predictions.csv").wait_for()
        page.get_by_text("page.html").wait_for()
        page.locator("[data-testid=FullscreenIcon]").first.click()
        page.get_by_text("p1-image").wait_for()
        assert page.complaints == []


@needs_browser
def test_a_trial_s_file_opens_and_one_with_a_script_only_comes_as_a_file(dashboard: Dashboard, browser: Any) -> None:
    trial = json.loads(dashboard.ask("/api/studies/1").body)["trials"][1]
    files = {file["filename"]: file["artifact_id"] for file in trial["artifacts"]}
    folder = f"/artifacts/1/{trial['trial_id']}"
    table = dashboard.ask(f"{folder}/{files['predictions.csv']}")
    assert table.body.decode() == PREDICTIONS.format(key="p1")
    with page_of(browser) as page:
        page.goto(f"{dashboard.url}/dashboard")
        title = page.title()
        with page.expect_download() as download:
            page.evaluate(
                "path => { const link = document.createElement('a'); link.href = path; link.click() }",
                f"{folder}/{files['page.html']}",
            )
        assert "script" in Path(download.value.path()).read_text()
        assert page.title() == title


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fig_4_and_the_other_figures_are_drawn_inside(dashboard: Dashboard, browser: Any, scheme: str) -> None:
    with page_of(browser, color_scheme=scheme) as page:
        page.goto(f"{dashboard.url}/dashboard/studies/1")
        drawn = page.locator("[id^='user-defined-plot:'].js-plotly-plot")
        drawn.nth(FIGURES - 1).wait_for()
        ids = [place.get_attribute("id") for place in drawn.all()]
        assert ids == [f"user-defined-plot:{name}" for name in figures_of(dashboard)]
        assert ids[0] == "user-defined-plot:lmf-settings"
        fig_4 = drawn.first
        assert "Fig 4: mean macro F1 of each setting" in fig_4.text_content()
        # Means of both splits, and three single points of each.
        assert fig_4.locator(".scatterlayer .point").count() == 2 * (1 + 3)
        assert fig_4.locator(".errorbar").count() == 2
        for place in drawn.all():
            marks = place.locator(".point path, path.point, path.js-line, .heatmaplayer image")
            assert marks.count() > 0, place.get_attribute("id")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(18, 18, 18)") == (scheme == "dark")
        assert page.complaints == []


@needs_browser
def test_a_page_of_the_dashboard_can_change_nothing(dashboard: Dashboard, browser: Any, home: Path) -> None:
    ways = [
        ("DELETE", "/api/studies/1"),
        ("POST", "/api/studies"),
        ("POST", "/api/studies/1/rename"),
        ("POST", "/api/trials/1/tell"),
        ("PUT", "/api/studies/1/note"),
    ]
    with page_of(browser) as page:
        page.goto(f"{dashboard.url}/dashboard")
        for method, path in ways:
            status, answer = page.evaluate(
                """async ([method, path]) => {
                    const answer = await fetch(path, {method, headers: {"Content-Type": "application/json"},
                        body: '{"study_name": "x", "directions": ["maximize"], "body": "x", "version": 1}'});
                    return [answer.status, await answer.json()];
                }""",
                [method, path],
            )
            assert (status, "read-only" in answer["reason"]) == (403, True), (method, path)
    for method, path in ways:
        assert dashboard.ask(path, method=method, body=b"{}").status == 403
    database = Database.open(f"sqlite:///{home / 'lmf.db'}", create=False)
    assert list_studies(database) == (STUDY,)
    database.close()
    (study,) = json.loads(dashboard.ask("/api/studies").body)["study_summaries"]
    assert study["study_name"] == STUDY


@needs_browser
def test_without_a_login_nothing_is_served_and_with_it_everything(editing: Dashboard, browser: Any) -> None:
    for wrong in (None, (NAME, "wrong"), ("eve", PASSWORD)):
        credentials = {"http_credentials": {"username": wrong[0], "password": wrong[1]}} if wrong else {}
        with page_of(browser, **credentials) as page:
            assert status_of(page, f"{editing.url}/dashboard") == 401
            assert page.locator("#dashboard").count() == 0
        assert editing.ask("/api/studies", login=wrong).status == 401
    for path in ("/", "/dashboard", "/static/bundle.js", "/api/studies", "/favicon.ico", "/artifacts/1/1/abc"):
        for method in ("GET", "HEAD", "POST", "DELETE"):
            page = editing.ask(path, method=method)
            assert page.status == 401
            assert page.headers["www-authenticate"].startswith("Basic")
            assert page.body in (b"", b"name and password are needed\n", b'{"reason": "name and password are needed"}')
    with page_of(browser, http_credentials={"username": NAME, "password": PASSWORD}) as page:
        page.goto(editing.url)
        page.get_by_text(STUDY).first.wait_for()
        page.goto(f"{editing.url}/dashboard/studies/1")
        page.locator("[id='user-defined-plot:lmf-settings'].js-plotly-plot").wait_for()
        assert page.complaints == []


@needs_browser
def test_a_note_can_be_written_by_the_dashboard_s_own_page_alone(
    editing: Dashboard, browser: Any, tmp_path: Path
) -> None:
    write = """async address => {
        const answer = await fetch(address + "/api/studies/1/note", {method: "PUT", credentials: "include",
            headers: {"Content-Type": "application/json"}, body: '{"body": "from a page", "version": 1}'});
        return answer.status;
    }"""
    # What a browser sends without asking first; whether it gets an answer does not matter here.
    unasked = """async address => {
        await fetch(address + "/api/trials/1/user-attrs", {method: "POST", credentials: "include",
            mode: "no-cors", body: '{"user_attrs": {"rating": 1}}'}).catch(() => null);
    }"""
    (tmp_path / "index.html").write_text("<title>elsewhere</title>")
    with (
        elsewhere(tmp_path) as foreign,
        page_of(browser, http_credentials={"username": NAME, "password": PASSWORD}) as page,
    ):
        page.goto(f"{editing.url}/dashboard")
        page.goto(foreign)
        with pytest.raises(Exception, match="Failed to fetch"):
            page.evaluate(write, editing.url)
        with page.expect_request(lambda request: request.method == "POST"):
            page.evaluate(unasked, editing.url)
        assert not [line for line in editing.log if "write by" in line]
        page.goto(f"{editing.url}/dashboard")
        assert page.evaluate(write, "") == 204
        assert page.evaluate("() => fetch('/api/studies/1', {method: 'DELETE'}).then(answer => answer.status)") == 403
    (line,) = [line for line in editing.log if "write by" in line]
    assert "write by ada from 127.0.0.1: PUT /api/studies/1/note: 204" in line
    assert "from a page" not in "".join(editing.log)
    assert PASSWORD not in "".join(editing.log)
    study = json.loads(editing.ask("/api/studies/1", login=(NAME, PASSWORD)).body)
    assert study["note"]["body"] == "from a page"


@contextmanager
def elsewhere(folder: Path) -> Iterator[str]:
    """A page of another site."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(home: Path, number: int) -> None:
    with run_dashboard(home) as running:
        assert running.ask("/dashboard", headers={"Host": "evil.example"}).status == 421
        assert running.ask("/").headers["location"] == "/dashboard"
        assert "server" not in running.ask("/").headers
        assert running.stop(number) == 0
    assert running.log == []


def lock_out(server: Any, database: str) -> None:
    """Let nobody into a database, and throw out who is in it."""
    with server.connect() as connection:
        connection.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))


def test_no_password_is_seen_anywhere(postgres_url: str, postgres: Any, tmp_path: Path) -> None:
    train_light(postgres_url, tmp_path, 1)
    storage = {"LMF_STORAGE": postgres_url, "LMF_ARTIFACTS": str(tmp_path / "artifacts")}
    with run_dashboard(tmp_path, "--log-level", "debug", "--log-json", changes=storage) as running:
        eventually(lambda: len(figures_of(running)) == FIGURES)
        command = Path(f"/proc/{running.process.pid}/cmdline").read_bytes().decode()
        pages = [running.ask(path) for path in ("/dashboard", "/api/studies", "/api/studies/1", "/api/meta")]
        lock_out(postgres, postgres_url.rpartition("/")[2])
        page = running.ask("/api/studies")
        assert page.status == 503
        assert "the database cannot be reached" in json.loads(page.body)["reason"]
        assert running.stop() == 0
    assert [page.status for page in pages] == [200] * 4
    assert any(json.loads(line)["level"] == "WARNING" for line in running.log)
    seen = "".join([command, *running.log, *(page.body.decode() for page in [*pages, page])])
    assert postgres.password not in seen
    assert "Traceback" not in seen


def test_the_password_is_asked_for_on_a_terminal_and_not_shown(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "study.cli.main", "dashboard", "--login", "logins", "--add-login", NAME],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env=environment(tmp_path),
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    for question in (b"Password for ada: ", b"Repeat for confirmation: "):
        while question not in shown:
            shown += os.read(ours, 1024)
        os.write(ours, f"{PASSWORD}\n".encode())
    assert process.wait(120) == 0
    shown += os.read(ours, 1024)
    os.close(ours)
    assert b"ada can log in" in shown
    assert PASSWORD.encode() not in shown
    assert (tmp_path / "logins").read_text().startswith("ada:scrypt:")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_machines_are_not_let_in_without_a_login(lmf: Any, host: str) -> None:
    message = lmf("dashboard", "--host", host, "--port", "0").refusal()
    assert f"other machines reach {host}" in message
    assert "--login FILE" in message
    assert "--add-login NAME" in message


def test_what_is_wrong_is_refused_in_a_line(lmf: Any, tmp_path: Path) -> None:
    assert "No such file" in lmf("dashboard", "--login", str(tmp_path / "none")).refusal()
    assert "--login FILE" in lmf("dashboard", "--add-login", "ada").refusal()
    assert "cannot be a name" in lmf("dashboard", "--login", str(tmp_path / "x"), "--add-login", "a:b").refusal()
    assert "'no.such.host.invalid' is unknown" in lmf("dashboard", "--host", "no.such.host.invalid").refusal()


def test_a_port_that_is_taken_or_a_database_that_is_missing_is_refused_in_a_line(
    dashboard: Dashboard, home: Path, tmp_path: Path
) -> None:
    port = dashboard.url.rpartition(":")[2]
    for folder, said in ((home, f"127.0.0.1 port {port} already"), (tmp_path, "there is no database here yet")):
        process = start_lmf(folder, "dashboard", "--port", port)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (2, "")
        assert said in err
        assert len(err.splitlines()) == 1
    assert ask(f"{dashboard.url}/dashboard").status == 200
