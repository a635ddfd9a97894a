"""Where a user's studies live."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from study.errors import StudyError
from study.home import data_root, find_home


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LMF_HOME", "LMF_STORAGE", "LMF_STORAGE_FILE", "LMF_ARTIFACTS", "LMF_DATA"):
        monkeypatch.delenv(name, raising=False)


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
