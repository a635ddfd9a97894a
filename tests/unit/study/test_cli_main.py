"""How the command line ends: by an exit code that says what happened, and one line where a user can do something."""

from __future__ import annotations

import sys
import types

import click
import pytest

from storage.errors import StorageError
from study.cli import main as cli
from study.errors import StudyError
from trainer.errors import DataError, DeviceFailedError


def end_of(monkeypatch: pytest.MonkeyPatch, error: BaseException | None, result: int | None = None) -> object:
    """The exit code of a command that raises, or returns."""

    @click.command("odd")
    def odd_command() -> int | None:
        if error is not None:
            raise error
        return result

    module = types.ModuleType("odd_module")
    module.odd_command = odd_command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "odd_module", module)
    monkeypatch.setitem(cli.COMMANDS, "odd", ("odd_module", "Odd."))
    with pytest.raises(SystemExit) as ended:
        cli.main(["odd"])
    return ended.value.code


@pytest.mark.parametrize("error", [StudyError("a\nb"), StorageError("a\nb"), DataError("a\nb")])
def test_what_a_user_can_mend_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert end_of(monkeypatch, error) == 2
    assert capsys.readouterr().err == "lmf: a b\n"


def test_a_defect_keeps_its_traceback_and_is_not_taken_for_points_that_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(monkeypatch, RuntimeError("out of luck")) == 70
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "RuntimeError: out of luck" in said


def test_a_broken_device_is_one_line_and_no_refusal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(monkeypatch, DeviceFailedError("cuda:0 failed")) == 70
    assert capsys.readouterr().err == "lmf: cuda:0 failed\n"


@pytest.mark.parametrize("result", [None, 0, 1, 3])
def test_what_a_command_returns_is_the_exit_code(monkeypatch: pytest.MonkeyPatch, result: int | None) -> None:
    assert end_of(monkeypatch, None, result) == (result or 0)


def test_ctrl_c_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    assert end_of(monkeypatch, KeyboardInterrupt()) == 3


def test_a_group_alone_shows_its_help_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["study"])
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) > 5
