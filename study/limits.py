"""When a worker ends though there may be more to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """When a worker ends though there may be more to do.

    Attributes:
        max_points: after so many attempts, at least 1; None sets no limit.
        max_hours: after so long, above 0, it checkpoints and stops; None sets no limit.
        idle_exit_seconds: after so long without an open point in any study that it serves, at least 0; None never.
    """

    max_points: int | None = None
    max_hours: float | None = None
    idle_exit_seconds: float | None = 0.0

    def problems(self) -> list[str]:
        """Every value that is out of range, each as `--flag: problem`."""
        found = []
        if self.max_points is not None and self.max_points < 1:
            found.append(f"--max-points: {self.max_points} is less than 1")
        if self.max_hours is not None and not 0 < self.max_hours <= 24 * 365:
            found.append(f"--max-hours: {self.max_hours:g} is outside (0, {24 * 365}]")
        if self.idle_exit_seconds is not None and self.idle_exit_seconds < 0:
            found.append(f"--idle-exit: {self.idle_exit_seconds:g} is less than 0")
        return found
