"""A job on another machine: the same home and database, absolute paths, and no secret where others read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from lmf_testing.cli import VARIABLES

from study.errors import StudyError
from study.home import find_home
from study.launch.job_environment import is_local, job_environment

URL = "postgresql+psycopg://lmf:hunter2@db:5432/lmf"


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "PGPASSFILE", "PGPASSWORD", "PGHOST", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMF_HOME", "home")


def environment(storage: str | None = None) -> dict[str, str]:
    return job_environment(find_home(storage), storage)


def test_all_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMF_ARTIFACTS", "files")
    monkeypatch.setenv("LMF_DATA", "images")
    monkeypatch.setenv("PGPASSFILE", "pgpass")
    assert environment() == {
        "LMF_HOME": str(tmp_path / "home"),
        "LMF_ARTIFACTS": str(tmp_path / "files"),
        "LMF_STORAGE": f"sqlite:///{tmp_path / 'home' / 'lmf.db'}",
        "LMF_DATA": str(tmp_path / "images"),
        "PGPASSFILE": str(tmp_path / "pgpass"),
    }
    assert not (tmp_path / "home").exists(), "nothing is written where there is no secret"


def test_each_folder_of_images_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("LMF_DATA", os.pathsep.join(("~/a", "rel/b", "", "/c")))
    assert environment()["LMF_DATA"].split(os.pathsep) == ["/home/ada/a", str(tmp_path / "rel" / "b"), "/c"]


def test_a_relative_sqlite_file_is_named_absolutely(tmp_path: Path) -> None:
    assert environment("sqlite:///some/lmf.db")["LMF_STORAGE"] == f"sqlite:///{tmp_path / 'some' / 'lmf.db'}"


def test_artifacts_in_s3_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMF_ARTIFACTS", "s3://bucket/lmf")
    assert environment()["LMF_ARTIFACTS"] == "s3://bucket/lmf"


@pytest.mark.parametrize("how", ["flag", "variable", "password file"])
def test_a_password_goes_into_a_file_that_nobody_else_reads(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = URL if how == "flag" else None
    if how == "variable":
        monkeypatch.setenv("LMF_STORAGE", URL)
    if how == "password file":
        monkeypatch.setenv("LMF_STORAGE", URL.replace(":hunter2", ""))
        monkeypatch.setenv("LMF_STORAGE_PASSWORD_FILE", str(tmp_path / "password"))
        (tmp_path / "password").write_text("hunter2\n")
    variables = environment(storage)
    assert "LMF_STORAGE" not in variables
    assert "hunter2" not in str(variables)
    path = Path(variables["LMF_STORAGE_FILE"])
    assert path.parent == tmp_path / "home" / "launch"
    assert path.read_text() == f"{URL}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == [path.name], "nothing else is left lying there"


def test_another_password_replaces_the_file_and_another_database_has_its_own() -> None:
    first = environment(URL)["LMF_STORAGE_FILE"]
    assert environment(URL.replace("hunter2", "other"))["LMF_STORAGE_FILE"] == first
    assert "other" in Path(first).read_text()
    assert environment(URL.replace("/lmf", "/second"))["LMF_STORAGE_FILE"] != first


def test_the_user_s_own_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text(URL)
    monkeypatch.setenv("LMF_STORAGE_FILE", "url")
    assert environment()["LMF_STORAGE_FILE"] == str(tmp_path / "url")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("how", ["flag", "variable", "file"])
def test_a_password_of_the_environment_goes_into_the_file(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = URL.replace(":hunter2", "")
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    if how == "variable":
        monkeypatch.setenv("LMF_STORAGE", bare)
    if how == "file":
        (tmp_path / "url").write_text(bare)
        monkeypatch.setenv("LMF_STORAGE_FILE", "url")
    variables = environment(bare if how == "flag" else None)
    assert "hunter2" not in str(variables)
    path = Path(variables["LMF_STORAGE_FILE"])
    assert path.read_text() == f"{URL}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("url", [URL, URL.replace(":hunter2", "") + "?password=hunter2"])
def test_a_password_of_the_url_wins_over_that_of_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "another")
    assert Path(environment(url)["LMF_STORAGE_FILE"]).read_text() == f"{url}\n"


def test_without_a_user_the_password_still_has_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    written = Path(environment("postgresql+psycopg://db/lmf")["LMF_STORAGE_FILE"]).read_text()
    assert written == "postgresql+psycopg://db/lmf?password=hunter2\n"


@pytest.mark.parametrize(
    ("place", "variables", "expected"),
    [
        ("lmf:x@127.0.0.1:5432/lmf", {}, True),
        ("lmf:x@localhost/lmf", {}, True),
        ("lmf:x@[::1]:5432/lmf", {}, True),
        ("/lmf", {}, True),
        ("/lmf?host=/run/postgresql", {}, True),
        ("/lmf", {"PGHOST": "localhost"}, True),
        ("lmf:x@db.example.org/lmf", {}, False),
        ("lmf:x@10.0.0.1/lmf", {}, False),
        ("lmf:x@[fd00::2]:5432/lmf", {}, False),
        ("/lmf?host=db.example.org", {}, False),
        ("/lmf", {"PGHOST": "db"}, False),
        ("/lmf?service=team", {}, False),
        ("/lmf", {"PGSERVICE": "team"}, False),
    ],
)
def test_which_servers_other_machines_cannot_reach(
    place: str, variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_local(f"postgresql://{place}") == expected


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StudyError, match="cannot be written") as refusal:
        environment(URL)
    assert "hunter2" not in str(refusal.value)
