"""Logs: one line a record for people, or one JSON document a line, with study, trial and worker."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pythonjsonlogger.json import JsonFormatter

from study.errors import StudyError

LEVELS = ("debug", "info", "warning", "error")
JSON_VARIABLE = "LMF_LOG_JSON"
LEVEL_VARIABLE = "LMF_LOG_LEVEL"
FIELDS = ("study", "trial", "worker")

_PEOPLE = "%(asctime)s %(levelname)s %(message)s"

# A process works on one point at a time, and all its threads speak of that one.
_fields: dict[str, str | int | None] = dict.fromkeys(FIELDS)


class _Fields(logging.Filter):
    """Gives every record the fields of `log_context`."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _fields.items():
            setattr(record, name, value)
        return True


def set_up_logging(as_json: bool = False, level: str = "info", people: str = _PEOPLE) -> None:
    """Send this process's log to stderr, in place of what was set up before.

    Args:
        as_json: one JSON document a line, with `time` (UTC, RFC 3339), `level`, `logger`, `message`, `study`, `trial`
            and `worker`, the last three null where they do not apply; else a line for people.
        level: the least serious kind of record that is written, one of `LEVELS`.
        people: format of a line for people.

    Raises:
        StudyError: there is no such level.
    """
    if level not in LEVELS:
        raise StudyError(f"--log-level: {level!r} is unknown; expected {', '.join(LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Fields())
    handler.setFormatter(_json_formatter() if as_json else logging.Formatter(people))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


@contextmanager
def log_context(**fields: str | int | None) -> Iterator[None]:
    """Name study, trial or worker in every record that this process writes within the block.

    Args:
        fields: some of `FIELDS`.
    """
    before = {name: _fields[name] for name in fields}
    _fields.update(fields)
    try:
        yield
    finally:
        _fields.update(before)


def log_environment(as_json: bool, level: str) -> dict[str, str]:
    """Variables that make a child process log in the same way."""
    return {JSON_VARIABLE: "1" if as_json else "", LEVEL_VARIABLE: level}


def _json_formatter() -> logging.Formatter:
    formatter = JsonFormatter(
        ["asctime", "levelname", "name", "message", *FIELDS],
        datefmt="%Y-%m-%dT%H:%M:%SZ",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        json_ensure_ascii=False,
    )
    formatter.converter = time.gmtime
    return formatter
