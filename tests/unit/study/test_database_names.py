"""Databases as users name them on a command line."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from study.database_names import find_url
from study.errors import StudyError

URL = "postgresql+psycopg://lmf:secret@host/lmf"


def test_a_url_is_taken_as_it_is(capsys):
    assert find_url("FROM", "sqlite:////tmp/x.db") == "sqlite:////tmp/x.db"
    assert capsys.readouterr().err == ""


def test_a_password_on_the_command_line_is_warned_of_and_not_shown(capsys):
    assert find_url("TO", URL) == URL
    err = capsys.readouterr().err
    assert err.startswith("warning: TO: other users can read a command line")
    assert "secret" not in err


def test_a_sqlite_file_whatever_its_name(tmp_path):
    path = tmp_path / "100%?#.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (n)")
        connection.commit()
    from sqlalchemy import make_url

    assert make_url(find_url("FROM", str(path))).database == str(path)


def test_a_file_that_holds_a_url(tmp_path, capsys):
    (tmp_path / "url").write_text(f"{URL}\n")
    assert find_url("TO", str(tmp_path / "url")) == URL
    assert capsys.readouterr().err == ""


def test_a_variable_that_holds_a_url(monkeypatch):
    monkeypatch.setenv("OTHER_DATABASE", URL)
    assert find_url("TO", "env:OTHER_DATABASE") == URL
    monkeypatch.delenv("OTHER_DATABASE")
    with pytest.raises(StudyError, match="TO: the variable OTHER_DATABASE holds no URL; expected a SQLAlchemy URL, a"):
        find_url("TO", "env:OTHER_DATABASE")


@pytest.mark.parametrize("content", ["", "hello", f"{URL}\n{URL}\n", "\xff\xfe"])
def test_a_file_that_is_neither(tmp_path, content):
    (tmp_path / "file").write_text(content)
    with pytest.raises(StudyError, match="is neither a SQLite database nor does it hold one URL") as caught:
        find_url("FROM", str(tmp_path / "file"))
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(StudyError, match=r"FROM: .*none: No such file or directory; .* is named sqlite:///"):
        find_url("FROM", str(tmp_path / "none"))
