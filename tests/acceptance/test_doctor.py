"""`lmf doctor`: as a process, on machines that are well and on others."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lmf_testing.cli import Lmf, Ran, environment, run_lmf
from lmf_testing.postgres import AWKWARD, Server
from lmf_testing.real import home_of, plan_real, short_spec

OFFLINE = {"HF_HUB_OFFLINE": "1"}
ALWAYS = [
    *("python", "packages", "extras", "imports", "command", "settings", "database", "home", "cache", "artifacts"),
    *("data", "weights", "memory", "gpu", "disk"),
]


Examine = Callable[..., dict[str, dict[str, Any]]]


def read(ran: Ran, code: int) -> dict[str, dict[str, Any]]:
    """What the doctor found, by check; the document, the exit code and that no password is seen are checked."""
    assert ran.code == code, (ran.out, ran.err)
    document = ran.json
    assert set(document) == {"problems", "warnings", "checks"}
    assert AWKWARD not in ran.out + ran.err
    for level in ("problem", "warning"):
        assert document[f"{level}s"] == sum(check["level"] == level for check in document["checks"])
    assert all(check["advice"] for check in document["checks"] if check["level"] != "ok")
    return {check["check"]: check for check in document["checks"]}


@pytest.fixture
def examine(lmf: Lmf, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Lets the doctor look within this process, with some variables set."""
    # The doctor sets this one itself where it is given --data.
    monkeypatch.setenv("LMF_DATA", "")

    def examine(*arguments: str, code: int, **variables: str) -> dict[str, dict[str, Any]]:
        for name, value in (OFFLINE | variables).items():
            monkeypatch.setenv(name, value)
        return read(lmf("doctor", "--json", *arguments), code)

    return examine


def test_a_new_home_is_well_and_stays_untouched(tmp_path: Path) -> None:
    found = read(run_lmf(tmp_path / "home", "doctor", "--json", changes=OFFLINE), 0)
    assert set(ALWAYS) <= set(found)
    assert found["database"]["found"].endswith("is made by the first study")
    assert not (tmp_path / "home").exists()


def test_a_planned_study_is_looked_at(storage_url: str, tmp_path: Path, examine: Examine) -> None:
    plan_real(home_of(tmp_path / "home", storage_url), short_spec())
    found = examine("--data", str(tmp_path), code=0, LMF_STORAGE=storage_url)
    assert found["study digits"]["found"] == "31 of 31 points left; its images are decoded here"
    assert found["data"]["found"] == str(tmp_path)
    assert {found[check]["level"] for check in ("database", "schema", "optuna", "artifacts")} == {"ok"}
    backend = {"sqlite"} if storage_url.startswith("sqlite") else {"connections", "transactions", "clock"}
    assert backend <= set(found)
    elsewhere = examine("--data", str(tmp_path / "no"), code=1)
    assert elsewhere["data"]["level"] == "problem"


def test_a_server_that_is_away_leaves_the_rest_to_be_looked_at(postgres: Server, examine: Examine) -> None:
    for url in (postgres.url(password=f"{AWKWARD}x"), postgres.url().replace(f":{postgres.port}/", ":1/")):
        found = examine(code=1, LMF_STORAGE=url)
        assert set(ALWAYS) <= set(found)
        assert found["database"]["level"] == "problem"
        assert "127.0.0.1" in found["database"]["found"]
        assert "`lmf db status`" in found["database"]["advice"]
        assert [check for check, diagnosis in found.items() if diagnosis["level"] == "problem"] == ["database"]


def test_a_server_that_says_nothing_is_given_up(examine: Examine) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        found = examine(code=1, LMF_STORAGE=f"postgresql+psycopg://lmf:hidden@127.0.0.1:{port}/lmf")
    assert found["database"]["level"] == "problem"
    assert set(ALWAYS) <= set(found)
    assert "hidden" not in str(found)


@pytest.mark.parametrize("url", ["mysql://lmf:hidden@db/lmf", "hidden"])
def test_a_url_that_is_none_is_a_problem(examine: Examine, url: str) -> None:
    found = examine(code=1, LMF_STORAGE=url)
    assert found["database"]["level"] == "problem"
    assert "hidden" not in str(found)


def test_a_file_that_is_no_database_is_a_problem(examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "lmf.db").write_text("no database, but long enough to be looked at as one " * 100)
    found = examine(code=1, LMF_STORAGE=f"sqlite:///{tmp_path / 'lmf.db'}")
    assert found["database"]["found"] == f"{tmp_path / 'lmf.db'}: file is not a database"
    assert "no program keeps it locked" in found["database"]["advice"]


def test_settings_that_cannot_be_read_are_a_problem(examine: Examine, tmp_path: Path) -> None:
    found = examine(code=1, LMF_STORAGE_FILE=str(tmp_path / "none"))
    assert found["settings"]["level"] == "problem"
    assert "LMF_STORAGE_FILE: cannot read" in found["settings"]["found"]
    assert set(ALWAYS) - {"database"} <= set(found)


def test_what_is_broken_is_told_and_ends_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise OSError(2, 'libcudart.so: cannot open', 'libcudart.so')\n")
    changes = OFFLINE | {"PYTHONPATH": str(tmp_path / "broken")}
    found = read(run_lmf(tmp_path / "home", "doctor", "--json", changes=changes), 1)
    assert (found["gpu"]["level"], found["gpu"]["found"]) == ("problem", "libcudart.so: libcudart.so: cannot open")
    assert [check for check, diagnosis in found.items() if diagnosis["level"] == "problem"] == ["gpu"]


def test_without_what_it_runs_on_it_still_says_so(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sqlalchemy.py").write_text("raise ImportError('no sqlalchemy')\n")
    ran = run_lmf(tmp_path / "home", "doctor", changes={"PYTHONPATH": str(tmp_path / "broken")})
    assert (ran.code, ran.err) == (1, "")
    assert "nothing else can be looked at: no sqlalchemy" in ran.out


def test_text_has_a_line_for_each_check_and_one_for_what_to_do(lmf: Lmf, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (OFFLINE | {"LMF_STORAGE": "nonsense"}).items():
        monkeypatch.setenv(name, value)
    ran = lmf("doctor")
    lines = ran.out.splitlines()
    assert ran.code == 1
    assert lines[-1] == "problems: 1, warnings: 1"
    place = next(number for number, line in enumerate(lines) if line.startswith("problem database"))
    assert lines[place].split()[:2] == ["problem", "database"]
    assert lines[place + 1].lstrip().startswith("-> expected sqlite:///FILE")
    assert [line for line in lines if line != line.rstrip() or "\x1b" in line] == []


def test_a_terminal_gets_columns_and_colours(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    variables = environment(tmp_path, OFFLINE | {"TERM": "xterm-256color", "COLUMNS": "60"})
    process = subprocess.Popen([sys.executable, "-m", "study.cli.main", "doctor"], env=variables, stdout=slave)
    os.close(slave)
    text = b""
    try:
        while part := os.read(master, 65536):
            text += part
    except OSError:  # what reading a terminal gives at its end
        pass
    finally:
        os.close(master)
    assert process.wait(timeout=120) == 0
    assert b"\x1b[32mok" in text
    assert b"\x1b[33mwarning" in text


def test_torch_is_loaded_to_look_at_gpus_and_for_nothing_else(tmp_path: Path) -> None:
    plan_real(home_of(tmp_path, f"sqlite:///{tmp_path / 'lmf.db'}"), short_spec())
    code = (
        "import sys\nfrom study.doctor import examination, rounds\nrounds.check_gpus = lambda: ()\n"
        "found = [diagnosis.check for diagnosis in examination.examine()]\n"
        "print('study digits' in found, sorted({'torch', 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path, OFFLINE), capture_output=True, text=True, check=True
    )
    assert done.stdout == "True []\n"
