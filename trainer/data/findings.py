"""What is wrong, or worth knowing, about a dataset before it is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found in a dataset.

    Attributes:
        kind: what sort of thing, in a few words, such as ``row without image``.
        severity: `error` for what a training refuses, `warning` for what it would silently suffer from.
        message: one line that names the file, and the row where a table is meant.
        images: names of the images concerned.
    """

    kind: str
    severity: Severity
    message: str
    images: tuple[str, ...] = ()
