"""On what hardware a study was trained, by what its workers said of their devices when they registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from storage.costs import used_seconds
from storage.database import Database
from storage.schema import AttemptRow, PointRow, StudyRow, WorkerRow

GPU, CPU = "gpu", "cpu"
DEVICE_NAME, DEVICE_UUID = "device_name", "device_uuid"
OF_DEVICE = (DEVICE_NAME, DEVICE_UUID, "cuda", "cudnn")
"""What of a worker's facts describes its device, and not the machine as a whole."""


@dataclass(frozen=True)
class Hardware:
    """Devices of one name on one host that worked on a study with one set of versions.

    Attributes:
        host: name of the machine.
        kind: `gpu` or `cpu`.
        name: what the maker calls the device; None where the worker did not say, or is no longer known.
        versions: of libraries, Python, lmf, CUDA and cuDNN, and the operating system as `system`; what is known of it.
        devices: what tells the devices apart, across all hosts: a GPU's own identifier where it is known, else host and
            number; a host's processors are one device. Not for show.
        attempts: attempts made there.
        seconds: for how long these held a device, reckoned as in `storage.costs`.
    """

    host: str
    kind: str
    name: str | None
    versions: Mapping[str, str]
    devices: frozenset[str]
    attempts: int
    seconds: float


@dataclass
class _Sum:
    devices: set[str] = field(default_factory=set)
    attempts: int = 0
    seconds: float = 0.0


def read_hardware(database: Database, study: str) -> tuple[Hardware, ...]:
    """The hardware of a study's attempts, GPUs first, then by host and name; attempts without a device are left out.

    Raises:
        StorageError: the database refuses.
    """
    used = used_seconds()
    parts = (
        sa.select(
            AttemptRow.worker_id,
            AttemptRow.host,
            AttemptRow.device,
            sa.func.count().label("attempts"),
            sa.func.sum(sa.case((used > 0, used), else_=0.0)).label("seconds"),
        )
        .join(PointRow, PointRow.id == AttemptRow.point_id)
        .join(StudyRow, StudyRow.id == PointRow.study_id)
        .outerjoin(WorkerRow, WorkerRow.id == AttemptRow.worker_id)
        .where(StudyRow.name == study, sa.or_(AttemptRow.device == "cpu", AttemptRow.device.like("cuda%")))
        .group_by(AttemptRow.worker_id, AttemptRow.host, AttemptRow.device)
        .subquery()
    )
    query = sa.select(parts, WorkerRow.device.label("latest_device"), WorkerRow.versions).outerjoin(
        WorkerRow, WorkerRow.id == parts.c.worker_id
    )
    sums: dict[tuple[str, str, str | None, tuple[tuple[str, str], ...]], _Sum] = {}
    with database.read() as connection:
        for row in connection.execute(query):
            facts = {name: str(value) for name, value in (row.versions or {}).items()}
            if row.latest_device != row.device:
                # The process registered again with another device, so what it said last is not about this one.
                facts = {name: value for name, value in facts.items() if name not in OF_DEVICE}
            kind = GPU if row.device.startswith("cuda") else CPU
            versions = tuple(sorted((key, facts[key]) for key in facts if key not in (DEVICE_NAME, DEVICE_UUID)))
            found = sums.setdefault((row.host, kind, facts.get(DEVICE_NAME), versions), _Sum())
            unnamed = row.host if kind == CPU else f"{row.host} {row.device}"
            found.devices.add(facts.get(DEVICE_UUID, unnamed))
            found.attempts += row.attempts
            found.seconds += float(row.seconds)
    hardware = [
        Hardware(host, kind, name, dict(versions), frozenset(found.devices), found.attempts, found.seconds)
        for (host, kind, name, versions), found in sums.items()
    ]
    return tuple(sorted(hardware, key=lambda one: (one.kind != GPU, one.host, one.name or "", str(one.versions))))
