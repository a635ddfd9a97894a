"""The database's password is nowhere but where the user put it."""

from __future__ import annotations

import json
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus

import psutil
import pytest
import sqlalchemy as sa
from lmf_testing.cli import run_lmf, start_lmf
from lmf_testing.postgres import Server
from lmf_testing.real import home_of, plan_real, short_spec

from storage.database import Database

SHORT = ("--epochs=1", "--image-size=16", "--grid=0.5,1.0", "--settings=joint", "--threads=1", "--workers=1")
DEBUG = ("--log-level=debug", "--log-json")


def spellings(password: str) -> set[str]:
    """How a password may be written."""
    return {password, quote(password, safe=""), quote_plus(password), json.dumps(password)[1:-1], repr(password)[1:-1]}


class CommandLines:
    """Collects the command lines of all processes of this machine, again and again."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._stop = threading.Event()

    def look(self) -> None:
        while not self._stop.wait(0.05):
            for process in psutil.process_iter(["cmdline"]):
                self.seen.add(" ".join(process.info["cmdline"] or ()))

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self.look)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def all_rows(url: str) -> str:
    """Everything that is in the database, as text."""
    database = Database.open(url)
    try:
        with database.read() as connection:
            names = sa.inspect(connection).get_table_names()
            rows = [connection.exec_driver_sql(f'SELECT * FROM "{name}"').all() for name in names]
    finally:
        database.close()
    assert any("lmf_points" in name for name in names)
    return repr(rows)


def files_below(folder: Path) -> dict[Path, str]:
    """Every file of a folder as text; what is packed in zip files, too."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found[path] = path.read_bytes().decode("latin-1")
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as packed:
                    found[path] += "".join(packed.read(name).decode("latin-1") for name in packed.namelist())
    return found


def test_the_password_is_in_no_log_command_line_message_report_or_table(
    tmp_path: Path, postgres: Server, postgres_url: str
) -> None:
    home = tmp_path / "home"
    given = {"LMF_STORAGE": postgres_url}
    said = []

    def lmf(*arguments: str, code: int = 0, changes: dict[str, str] | None = None) -> str:
        ran = run_lmf(home, *arguments, changes={**given, **(changes or {})})
        assert ran.code == code, (arguments, ran)
        said.extend([ran.out, ran.err])
        return ran.out

    lines = CommandLines()
    with lines.watching():
        lmf("run", "digits-lt", *SHORT, "--study=a", *DEBUG)
        lmf("run", "digits-lt", *SHORT, "--study=b", "--dry-run", *DEBUG)
        plan_real(home_of(home, postgres_url), short_spec(study="c", grid="0.5,1.0,1.5", settings="joint"))
        lmf("study", "pause", "c")
        lmf("study", "resume", "c")
        lmf("launch", "local", "--workers=1", "--device=cpu", "--max-points=1", *DEBUG, code=3)
        lmf("worker", "--max-points=1", "--device=cpu", *DEBUG, code=3)
        lmf("study", "cancel", "c", "--yes")
        for command in (
            *(("status",), ("status", "--json"), ("report", "--csv"), ("export",), ("study", "list"), ("db", "check")),
            *(
                ("study", "show", "a", "--json"),
                ("db", "upgrade"),
                ("db", "backup", str(home / "backup")),
                ("data", "list"),
            ),
            ("db", "copy", "env:LMF_STORAGE", f"sqlite:///{home / 'copy.db'}"),
        ):
            lmf(*command)
        said.append(run_lmf(home, "doctor", "--json", changes=given).out)
        dashboard = start_lmf(home, "dashboard", "--port=0", *DEBUG, changes=given)
        assert dashboard.stdout is not None
        said.append(dashboard.stdout.readline())
        assert "http://127.0.0.1:" in said[-1]
        time.sleep(1.0)
        dashboard.terminate()
        said.extend(dashboard.communicate(timeout=60))
    wrong = postgres_url.replace(f":{postgres.port}/", ":1/")
    elsewhere = sa.make_url(postgres_url).set(database="nothing").render_as_string(hide_password=False)
    bad = ("status", "doctor", "db upgrade --wait 1", "worker --database-patience 0 --log-level debug", "db check")
    for url in (wrong, elsewhere):
        for command in bad:
            ran = run_lmf(home, *command.split(), changes={"LMF_STORAGE": url})
            assert ran.code in (1, 2), (command, ran)
            said.extend([ran.out, ran.err])
    said.append(run_lmf(home, "status", changes={"LMF_STORAGE": postgres_url + "?sslmode=nonsense"}).err)

    secrets = spellings(postgres.password)
    assert len(secrets) > 1, "the server's password is awkward on purpose"
    rows, files = all_rows(postgres_url), files_below(home)
    assert any(path.suffix == ".html" for path in files)
    assert any("worker" in path.name and "DEBUG" in text for path, text in files.items()), (
        "workers logged at debug level"
    )
    places = {"output": "".join(said), "rows": rows, **{str(path): text for path, text in files.items()}}
    places["command lines"] = "\n".join(lines.seen)
    assert "study.cli.main worker" in places["command lines"]
    found = [(place, secret) for place, text in places.items() for secret in secrets if secret in text]
    assert found == []


@pytest.mark.parametrize("command", ["status", "worker --database-patience 0"])
def test_a_wrong_password_is_refused_at_once_and_not_shown(
    tmp_path: Path, postgres: Server, postgres_url: str, command: str
) -> None:
    wrong = sa.make_url(postgres_url).set(password="wr{o}%ng p:a/ss@").render_as_string(hide_password=False)
    refused = run_lmf(tmp_path, *command.split(), changes={"LMF_STORAGE": wrong}).refusal()
    assert "password authentication failed" in refused
    assert not any(secret in refused for secret in spellings("wr{o}%ng p:a/ss@"))
