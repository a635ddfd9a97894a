"""Where a user's studies live."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from lmf_testing.postgres import AWKWARD

from study.errors import StudyError
from study.home import data_root, find_home


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "STORAGE", "STORAGE_FILE", "STORAGE_PASSWORD_FILE", "ARTIFACTS", "DATA"):
        monkeypatch.delenv(f"LMF_{name}", raising=False)


def test_everything_lies_in_a_folder_here_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = find_home()
    assert home.root == tmp_path / "lmf-home"
    assert sa.make_url(home.storage_url).database == str(tmp_path / "lmf-home" / "lmf.db")
    assert home.artifacts == str(tmp_path / "lmf-home" / "artifacts")
    assert data_root(None) is None


@pytest.mark.parametrize("name", ["a b%20ü", "q?x", "h#a:b@c", "{brace}"])
def test_a_home_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from storage.database import Database
    from storage.trials import TrialMirror

    monkeypatch.setenv("LMF_HOME", str(tmp_path / name))
    database = Database.open(find_home().storage_url)
    mirror = TrialMirror.open(database)
    mirror.ensure_study("skin")
    mirror.close()
    database.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "lmf.db").stat().st_size > 0


def test_a_flag_wins_over_variables_and_a_variable_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "url"
    file.write_text("sqlite:////from/file.db\n")
    monkeypatch.setenv("LMF_STORAGE_FILE", str(file))
    assert find_home().storage_url == "sqlite:////from/file.db"
    monkeypatch.setenv("LMF_STORAGE", "sqlite:////from/variable.db")
    assert find_home().storage_url == "sqlite:////from/variable.db"
    assert find_home("sqlite:////from/flag.db").storage_url == "sqlite:////from/flag.db"


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"", "is empty"), (b"\xff\xfe", "not text")])
def test_a_bad_storage_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, said: str
) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("LMF_STORAGE_FILE", str(file))
    with pytest.raises(StudyError, match=said):
        find_home()


@pytest.fixture
def password_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "password"
    file.write_text(f" {AWKWARD} \r\n", newline="")
    monkeypatch.setenv("LMF_STORAGE_PASSWORD_FILE", str(file))
    return file


def test_a_password_may_lie_in_a_file_of_its_own(password_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMF_STORAGE", "postgresql+psycopg://lmf@db:5432/lmf")
    found = sa.make_url(find_home().storage_url)
    assert found.password == f" {AWKWARD} "
    assert (found.username, found.host, found.database) == ("lmf", "db", "lmf")


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://lmf:own@db/lmf", "postgresql+psycopg:///lmf", "sqlite:////a.db", "no url"]
)
def test_a_url_that_wants_no_password_stays_as_it_is(password_file: Path, url: str) -> None:
    password_file.unlink()
    assert find_home(url).storage_url == url


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b" \n", "is empty"), (b"\xff\xfe", "not text")])
def test_a_bad_password_file_is_refused(password_file: Path, content: bytes | None, said: str) -> None:
    password_file.unlink()
    if content is not None:
        password_file.write_bytes(content)
    with pytest.raises(StudyError, match=rf"LMF_STORAGE_PASSWORD_FILE: .*{said}"):
        find_home("postgresql+psycopg://lmf@db/lmf")


def test_no_password_is_in_its_text() -> None:
    home = find_home("postgresql+psycopg://lmf:hidden@host/db")
    assert "hidden" not in repr(home)
    assert "hidden" not in str(home)
    assert home.environment()["LMF_STORAGE"] == "postgresql+psycopg://lmf:hidden@host/db"


def test_artifacts_may_lie_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMF_ARTIFACTS", "s3://bucket")
    assert find_home().artifacts == "s3://bucket"
    monkeypatch.setenv("LMF_ARTIFACTS", "~/files")
    assert find_home().artifacts == str(Path("~/files").expanduser())
    monkeypatch.setenv("LMF_DATA", "~/images")
    assert data_root(None) == Path("~/images").expanduser()
    assert data_root("/other") == Path("/other")
