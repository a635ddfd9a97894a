from __future__ import annotations

import stat
from pathlib import Path

import pytest

from study.dashboard.login_file import LONGEST_NAME, Login, add_login, read_logins
from study.errors import StudyError

PASSWORD = "correct horse: ßtaple"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "logins"


def refusal(file: Path) -> str:
    with pytest.raises(StudyError) as caught:
        read_logins(file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_login_is_found_again_with_its_password_and_no_other(file):
    add_login(file, "ada", PASSWORD)
    (login,) = read_logins(file)
    assert login.name == "ada"
    assert login.hash(PASSWORD) == login.digest
    assert login.hash(PASSWORD + " ") != login.digest


def test_the_file_holds_no_password_and_is_its_owner_s_alone(file):
    add_login(file, "ada", PASSWORD)
    text = file.read_text()
    assert text.startswith("ada:scrypt:")
    assert PASSWORD not in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["logins"]


def test_a_file_that_others_may_read_is_theirs_no_longer_when_a_login_is_added(file):
    add_login(file, "ada", PASSWORD)
    file.chmod(0o644)
    add_login(file, "bob", PASSWORD)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_same_password_of_two_looks_different(file):
    add_login(file, "ada", PASSWORD)
    add_login(file, "bob", PASSWORD)
    ada, bob = read_logins(file)
    assert ada.salt != bob.salt
    assert ada.digest != bob.digest


def test_a_new_password_replaces_the_old_one_and_remarks_stay(file):
    add_login(file, "ada", "first password")
    file.write_text("# the lab\n\n" + file.read_text())
    add_login(file, "bob", PASSWORD)
    add_login(file, "ada", PASSWORD)
    assert file.read_text().startswith("# the lab\n\n")
    logins = {login.name: login for login in read_logins(file)}
    assert sorted(logins) == ["ada", "bob"]
    assert logins["ada"].hash(PASSWORD) == logins["ada"].digest


@pytest.mark.parametrize("name", ["", "a:b", " ada", "a\nb", "#ada", "x" * (LONGEST_NAME + 1), "a\x00"])
def test_a_name_that_cannot_stand_in_the_file_is_refused(file, name):
    with pytest.raises(StudyError, match="cannot be a name"):
        add_login(file, name, PASSWORD)
    assert not file.exists()


def test_a_short_password_is_refused_and_not_shown(file):
    with pytest.raises(StudyError, match="too short") as caught:
        add_login(file, "ada", "s3cr3t!")
    assert "s3cr3t" not in str(caught.value)
    assert not file.exists()


def test_a_file_that_cannot_be_read_is_named(file):
    assert "No such file" in refusal(file)
    file.write_bytes(b"\xff\xfe\x00")
    assert "it is not text" in refusal(file)


def test_a_file_without_a_login_says_how_to_add_one(file):
    file.write_text("# nobody\n\n")
    assert "--add-login" in refusal(file)


def test_a_file_that_others_may_write_is_refused(file):
    add_login(file, "ada", PASSWORD)
    file.chmod(0o620)
    assert "chmod 600" in refusal(file)


def test_two_lines_of_one_name_are_refused(file):
    file.write_text("\n".join(Login.make("ada", PASSWORD).line for _ in range(2)))
    assert "ada more than once" in refusal(file)


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts[:-1],
        lambda parts: [*parts[:1], "md5", *parts[2:]],
        lambda parts: [*parts[:2], "1000", *parts[3:]],
        lambda parts: [*parts[:2], str(2**30), *parts[3:]],
        lambda parts: [*parts[:3], "-8", *parts[4:]],
        lambda parts: [*parts[:3], "x", *parts[4:]],
        lambda parts: [*parts[:5], "no base64!", *parts[6:]],
        lambda parts: [*parts[:6], "c2hvcnQ="],
        lambda parts: ["", *parts[1:]],
    ],
)
def test_a_line_that_is_no_login_is_named_by_its_number_and_not_shown(file, change):
    line = ":".join(change(Login.make("ada", PASSWORD).line.split(":")))
    file.write_text(f"# the lab\n{line}\n")
    message = refusal(file)
    assert "line 2" in message
    assert line not in message
    with pytest.raises(StudyError, match="line 2"):
        add_login(file, "bob", PASSWORD)


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "place").write_text("")
    with pytest.raises(StudyError, match="cannot be written"):
        add_login(tmp_path / "place" / "logins", "ada", PASSWORD)
