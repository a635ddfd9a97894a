"""How a study is carried out here and now: what is no part of its description."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What one run is told beside the study's description.

    Attributes:
        workers: worker processes on this machine, at least 1; None leaves the number to the machine.
        per_gpu: trials that train on one GPU side by side, at least 1, or `auto` for as many as its memory holds; None
            leaves it to `workers`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        keep_weights: of how many of a study's best trials the weights are kept, at least 1, or `all` or `none`.
        max_attempts: how often a point that fails by itself is tried, at least 1.
        lease_seconds: how long a worker's claim on a point lasts without a sign of life, from 1 to 86400.
        database_patience: for how many seconds a worker waits for a database that is away, from 0 to 604800.
        storage: SQLAlchemy URL of the database; None leaves it to the environment. It may hold a password, so it
            is kept out of `repr`.
        dry_run: tell what the run would take and train nothing.
        plan_only: plan the study and leave the training to other workers.
        allow_versions: work on a study that was planned with other versions of torch or timm.
    """

    workers: int | None = None
    per_gpu: int | Literal["auto"] | None = None
    device: str = "auto"
    keep_weights: int | Literal["all", "none"] = 1
    max_attempts: int = 2
    lease_seconds: float = 60.0
    database_patience: float = 600.0
    storage: str | None = field(default=None, repr=False)
    dry_run: bool = False
    plan_only: bool = False
    allow_versions: bool = False

    @property
    def kept_count(self) -> int | None:
        """Of how many trials the weights are kept; 0 for `none`, None for `all`."""
        if self.keep_weights == "all":
            return None
        return 0 if self.keep_weights == "none" else self.keep_weights

    def problems(self) -> list[str]:
        """Every value that is out of range, each as `name: problem`."""
        found = []
        if self.workers is not None and self.workers < 1:
            found.append(f"workers: {self.workers} is less than 1")
        if isinstance(self.per_gpu, int) and self.per_gpu < 1:
            found.append(f"per_gpu: {self.per_gpu} is less than 1")
        if self.per_gpu is not None and self.workers is not None:
            found.append("per_gpu: cannot go with --workers; give one of them")
        if not _DEVICE.fullmatch(self.device):
            found.append(f"device: {self.device!r} is no device; expected auto, cpu, cuda or cuda:N")
        if isinstance(self.keep_weights, int) and self.keep_weights < 1:
            found.append(f"keep_weights: {self.keep_weights} is less than 1; none keeps no weights")
        if self.max_attempts < 1:
            found.append(f"max_attempts: {self.max_attempts} is less than 1")
        if not 1 <= self.lease_seconds <= 86400:
            found.append(f"lease_seconds: {self.lease_seconds:g} is outside [1, 86400]")
        if self.plan_only and self.dry_run:
            found.append("plan_only: cannot go with --dry-run, which writes nothing; give one of them")
        if not 0 <= self.database_patience <= 604800:
            found.append(f"database_patience: {self.database_patience:g} is outside [0, 604800]")
        return found
