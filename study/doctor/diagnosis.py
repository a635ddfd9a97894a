"""What a check finds, and running one so that it can neither end the doctor nor keep it waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import quote

CHECK_SECONDS = 15.0


class Level(StrEnum):
    """How good or bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Diagnosis:
    """What a check found.

    Attributes:
        check: name of what was looked at, such as `database`.
        level: `ok`; `warning`, where something may go wrong; `problem`, where something does.
        found: what was found, in one line.
        advice: what to do about it, in one line; empty where there is nothing to do.
    """

    check: str
    level: Level
    found: str
    advice: str = ""

    def to_dict(self) -> dict[str, str]:
        """The diagnosis as JSON has it; its keys are stable."""
        return {"check": self.check, "level": self.level.value, "found": self.found, "advice": self.advice}


def ok(check: str, found: str, advice: str = "") -> Diagnosis:
    """Something that is as it should be."""
    return Diagnosis(check, Level.OK, found, advice)


def warning(check: str, found: str, advice: str) -> Diagnosis:
    """Something that may go wrong."""
    return Diagnosis(check, Level.WARNING, found, advice)


def problem(check: str, found: str, advice: str) -> Diagnosis:
    """Something that is wrong."""
    return Diagnosis(check, Level.PROBLEM, found, advice)


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Attributes:
        name: what it is called when it does not get as far as a diagnosis.
        look: looks, and tells what it found.
        seconds: how long it may take.
    """

    name: str
    look: Callable[[], Iterable[Diagnosis]]
    seconds: float = CHECK_SECONDS

    def run(self, secrets: Collection[str] = ()) -> tuple[Diagnosis, ...]:
        """Look, and turn whatever goes wrong on the way into a problem of this check.

        Args:
            secrets: texts that no diagnosis may show.
        """
        found: list[Diagnosis] = []

        def look() -> None:
            try:
                found.extend(self.look())
            except BaseException as error:
                found.append(_crash(self.name, error))

        # A file server that is away blocks whoever asks for a file, beyond any timeout; so the asking is a thread's.
        thread = threading.Thread(target=look, name=f"doctor-{self.name}", daemon=True)
        thread.start()
        thread.join(self.seconds)
        results = tuple(found)
        if thread.is_alive():
            late = f"no answer within {self.seconds:g} s"
            results += (problem(self.name, late, "see whether a disk, a server or a driver hangs; then ask again"),)
        return tuple(_without(secrets, result) for result in results)


def one_line(text: object) -> str:
    """A text with its line breaks and runs of spaces made single spaces."""
    return " ".join(str(text).split())


def _crash(check: str, error: BaseException) -> Diagnosis:
    from storage.errors import StorageError
    from study.errors import StudyError
    from trainer.errors import TrainerError

    if isinstance(error, StorageError | StudyError | TrainerError):
        found, semicolon, advice = one_line(error).partition("; ")
        return problem(check, found, advice if semicolon else "see the message; then ask again")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return problem(check, f"{where}{error.strerror or one_line(error)}", "see whether the file or folder is usable")
    return problem(
        check,
        f"could not be checked: {type(error).__name__}: {one_line(error)}",
        "everything else was checked; please report this",
    )


def _without(secrets: Collection[str], diagnosis: Diagnosis) -> Diagnosis:
    found, advice = diagnosis.found, diagnosis.advice
    for secret in secrets:
        for form in (secret, quote(secret, safe=""), quote(secret, safe=" +"), repr(secret)[1:-1]):
            found, advice = found.replace(form, "***"), advice.replace(form, "***")
    return replace(diagnosis, found=found, advice=advice)
