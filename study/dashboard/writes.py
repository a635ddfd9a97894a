"""What may be changed through the dashboard: what people say of studies and trials, and never what was measured.

Studies, trials, their ends and their files are the ledger's. Were Optuna's half of a study deleted alone, the ledger
would still point at it, and SQLite would give its number to the next study.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from wsgiref.types import WSGIEnvironment

MOST_BYTES = 1 << 20
MOST_LEVELS = 50
"""How deep lists and objects may lie in each other, far from where Python gives up reading them."""

_NUMBER = "[0-9]+"
_ATTRIBUTES = re.compile(f"/api/trials/{_NUMBER}/user-attrs")
_NOTE = re.compile(f"/api/studies/{_NUMBER}(/{_NUMBER})?/note")
_ALLOWED = (("PUT", _NOTE), ("POST", _ATTRIBUTES))
_OURS = "lmf:"


@dataclass(frozen=True)
class Refusal:
    """Why a request for a change is not let through.

    Attributes:
        status: the status of the answer.
        reason: one line for people.
    """

    status: HTTPStatus
    reason: str


def check_write(method: str, path: str, environ: WSGIEnvironment) -> Refusal | None:
    """Why a request for a change is not let through, or None where it is.

    Args:
        method: its method.
        path: its path.
        environ: its environment; the body, which is read, is put back.
    """
    if not any(method == allowed and pattern.fullmatch(path) for allowed, pattern in _ALLOWED):
        return Refusal(
            HTTPStatus.FORBIDDEN,
            "only notes and attributes can be changed here; studies and trials are changed by `lmf study delete`, "
            "`lmf study retry` and `lmf run`",
        )
    document = _read_json(environ)
    if _NOTE.fullmatch(path):
        if not (isinstance(document.get("version"), int) and isinstance(document.get("body"), str)):
            return Refusal(HTTPStatus.BAD_REQUEST, 'a note is JSON such as {"version": 1, "body": "text"}')
        return None
    attributes = document.get("user_attrs")
    if not isinstance(attributes, dict) or not attributes:
        return Refusal(HTTPStatus.BAD_REQUEST, 'attributes are JSON such as {"user_attrs": {"name": "value"}}')
    if any(name.startswith(_OURS) for name in attributes):
        return Refusal(
            HTTPStatus.FORBIDDEN, f"attributes that begin with {_OURS} tie a trial to its point and cannot be changed"
        )
    return None


def _read_json(environ: WSGIEnvironment) -> dict[str, Any]:
    """The object that a body holds; empty where it holds none, or one that optuna-dashboard could not read."""
    body = environ["wsgi.input"].read(MOST_BYTES + 1)
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    kind = environ.get("CONTENT_TYPE", "").partition(";")[0].lower()
    try:
        document = json.loads(body) if kind == "application/json" else None
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) and not _lies_deep(document) else {}


def _lies_deep(document: object) -> bool:
    level = [document]
    for _ in range(MOST_LEVELS):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
    return bool(level)
