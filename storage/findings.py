"""What a check of a database found."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, INFO = "error", "info"


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        severity: `error` where something is wrong; `info` where it heals by itself or only takes room.
        where: the database, the study, or the study and its point.
        what: what is so.
        advice: what to do about it.
    """

    severity: str
    where: str
    what: str
    advice: str

    @property
    def line(self) -> str:
        """The finding in one line."""
        return f"{self.severity}: {self.where}: {self.what}; {self.advice}"
