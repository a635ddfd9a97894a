"""What may be changed through the dashboard: what people say of studies and trials, and never what was measured.

Studies, trials, their ends and their files are the ledger's. Were Optuna's half of a study deleted alone, the ledger
would still point at it, and SQLite would give its number to the next study.
"""

from __future__ import annotations

import io
import json
import re
from wsgiref.types import WSGIEnvironment

MOST_BYTES = 1 << 20

_NUMBER = "[0-9]+"
_ATTRIBUTES = re.compile(f"/api/trials/{_NUMBER}/user-attrs")
_ALLOWED = tuple(
    (method, re.compile(path))
    for method, path in (
        ("PUT", f"/api/studies/{_NUMBER}/note"),
        ("PUT", f"/api/studies/{_NUMBER}/{_NUMBER}/note"),
        ("POST", _ATTRIBUTES.pattern),
        ("POST", f"/api/studies/{_NUMBER}/preference"),
        ("POST", f"/api/studies/{_NUMBER}/preference/[^/]+"),
        ("DELETE", f"/api/studies/{_NUMBER}/preference/[^/]+"),
        ("PUT", f"/api/studies/{_NUMBER}/preference_feedback_component"),
        ("POST", f"/api/studies/{_NUMBER}/{_NUMBER}/skip"),
    )
)
_OURS = "lmf:"


def check_write(method: str, path: str, environ: WSGIEnvironment) -> str | None:
    """Why a request for a change is not let through, or None where it is.

    Args:
        method: its method.
        path: its path.
        environ: its environment; a body that had to be read is put back.
    """
    if not any(method == allowed and pattern.fullmatch(path) for allowed, pattern in _ALLOWED):
        return (
            "only notes, attributes and preferences can be changed here; studies and trials are changed by "
            "`lmf study delete`, `lmf study retry` and `lmf run`"
        )
    if _ATTRIBUTES.fullmatch(path) and any(key.startswith(_OURS) for key in _attribute_names(environ)):
        return f"attributes that begin with {_OURS} tie a trial to its point and cannot be changed"
    return None


def _attribute_names(environ: WSGIEnvironment) -> list[str]:
    body = environ["wsgi.input"].read(MOST_BYTES + 1)
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    try:
        attributes = json.loads(body)["user_attrs"]
        return list(attributes)
    except (ValueError, KeyError, TypeError):
        # optuna-dashboard refuses it as well.
        return []
