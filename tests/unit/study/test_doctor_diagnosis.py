"""Running a check: what it may not do to the doctor, and what may not be seen of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from lmf_testing.postgres import AWKWARD

from storage.errors import StorageError
from study.doctor.diagnosis import Check, Diagnosis, Level, ok, problem, warning


def test_a_check_tells_what_it_found_in_order() -> None:
    found = (ok("a", "x"), warning("b", "y", "do"), problem("c", "z", "do"))
    assert Check("all", lambda: found).run() == found
    assert found[1].to_dict() == {"check": "b", "level": "warning", "found": "y", "advice": "do"}


@pytest.mark.parametrize(
    ("error", "found", "advice"),
    [
        (StorageError("the file is away; put it back; soon"), "the file is away", "put it back; soon"),
        (StorageError("the file is away"), "the file is away", "see the message; then ask again"),
        (PermissionError(13, "Permission denied", "/a"), "/a: Permission denied", "see whether the file or folder"),
        (RuntimeError("one\n two"), "could not be checked: RuntimeError: one two", "please report this"),
        (SystemExit("gone"), "could not be checked: SystemExit: gone", "please report this"),
    ],
)
def test_what_goes_wrong_in_a_check_is_a_problem_of_it(error: BaseException, found: str, advice: str) -> None:
    def look() -> Iterator[Diagnosis]:
        yield ok("first", "fine")
        raise error

    first, second = Check("place", look).run()
    assert first == ok("first", "fine")
    assert (second.check, second.level, second.found) == ("place", Level.PROBLEM, found)
    assert advice in second.advice


def test_a_check_that_hangs_is_left_behind() -> None:
    release = threading.Event()

    def look() -> Iterator[Diagnosis]:
        yield ok("first", "fine")
        release.wait(60)

    try:
        assert Check("server", look, seconds=0.2).run() == (
            ok("first", "fine"),
            problem(
                "server", "no answer within 0.2 s", "see whether a disk, a server or a driver hangs; then ask again"
            ),
        )
    finally:
        release.set()


def test_no_diagnosis_shows_a_secret() -> None:
    forms = (AWKWARD, quote(AWKWARD, safe=""), quote(AWKWARD, safe=" +"), repr(AWKWARD))

    def look() -> Iterator[Diagnosis]:
        for form in forms:
            yield problem("a", f"no login as {form}", f"try {form}")
        raise RuntimeError(f"bad password {AWKWARD}")

    found = Check("a", look).run([AWKWARD])
    assert len(found) == len(forms) + 1
    for diagnosis in found:
        assert "***" in diagnosis.found
        for form in forms:
            assert form not in diagnosis.found + diagnosis.advice
