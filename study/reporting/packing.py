"""Long text within a page, packed so that the browser itself can unpack it, and the hash that lets a script run."""

from __future__ import annotations

import base64
import gzip
import hashlib
from functools import cache

from plotly.offline import get_plotlyjs


def pack(text: str) -> str:
    """A text in UTF-8, gzip and base64: letters, digits, `+`, `/` and `=`, the same for the same text."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode("ascii")


def unpack(packed: str) -> str:
    """What `pack` made a text of."""
    return gzip.decompress(base64.b64decode(packed)).decode()


@cache
def packed_plotly() -> str:
    """Plotly's script, packed."""
    return pack(get_plotlyjs())


@cache
def script_hash(script: str) -> str:
    """How a Content-Security-Policy names an inline script that may run."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
