"""On what hardware a study was trained: a table, and a sentence for a methods section that names no host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from study.reporting.tables import Table
from study.reporting.text import counted, duration

if TYPE_CHECKING:
    from storage.hardware import Hardware

_KINDS = {"gpu": "GPU", "cpu": "processor"}
_LIBRARIES = {"cuda": "CUDA", "cudnn": "cuDNN", "python": "Python", "system": ""}
_ORDER = ("cuda", "cudnn", "torch", "timm", "lmf", "python", "system")
_MARKS = re.compile(r"\((?:R|TM|C)\)", re.IGNORECASE)


def hardware_table(found: Sequence[Hardware]) -> Table:
    """A row for devices of one name with one set of versions, those that were used longest first.

    Args:
        found: the hardware, as `storage.hardware.read_hardware` gives it.
    """
    rows = []
    for same in _grouped(found, with_versions=True):
        first = same[0]
        rows.append(
            (
                device_name(first) or f"{_KINDS[first.kind]}, type not on record",
                str(len(_devices(same))) if first.kind == "gpu" else "",
                str(len({one.host for one in same})),
                str(sum(one.attempts for one in same)),
                duration(sum(one.seconds for one in same)),
                ", ".join(_shown_versions(first)),
            )
        )
    return Table(("hardware", "GPUs", "hosts", "attempts", "time", "versions"), tuple(rows), wide_last=True)


def hardware_sentence(found: Sequence[Hardware]) -> str:
    """What trained a study, in a sentence that names no host; empty where nothing was trained.

    Args:
        found: the hardware, as `storage.hardware.read_hardware` gives it.
    """
    parts = [_gpu_words(same) if same[0].kind == "gpu" else _cpu_words(same) for same in _grouped(found)]
    return f"Training ran on {_listed(parts)}." if parts else ""


def device_name(one: Hardware) -> str | None:
    """What the maker calls a device, without the signs of trade marks; None where it is not on record."""
    return " ".join(_MARKS.sub(" ", one.name).split()) if one.name else None


def _gpu_words(same: Sequence[Hardware]) -> str:
    count, name = len(_devices(same)), device_name(same[0])
    if name is None:
        return f"{counted(count, 'GPU')} of a type that is not on record"
    software = []
    for library in ("cuda", "cudnn"):
        numbers = sorted({one.versions[library] for one in same if library in one.versions})
        if numbers:
            software.append(f"{_LIBRARIES[library]} {_listed(numbers)}")
    return f"{count} × {name}" + (f" ({', '.join(software)})" if software else "")


def _cpu_words(same: Sequence[Hardware]) -> str:
    machines = counted(len(_devices(same)), "machine")
    name = device_name(same[0])
    return f"the processors of {machines} ({name or 'type not on record'})"


def _grouped(found: Iterable[Hardware], *, with_versions: bool = False) -> Iterator[list[Hardware]]:
    """Hardware of the same kind and name, and of the same versions where that is asked; GPUs, then the longest used."""
    groups: dict[tuple[str, str | None, tuple[tuple[str, str], ...]], list[Hardware]] = {}
    for one in found:
        versions = tuple(sorted(one.versions.items())) if with_versions else ()
        groups.setdefault((one.kind, device_name(one), versions), []).append(one)
    yield from sorted(groups.values(), key=lambda same: (same[0].kind != "gpu", -sum(one.seconds for one in same)))


def _devices(same: Iterable[Hardware]) -> set[str]:
    return {device for one in same for device in one.devices}


def _shown_versions(one: Hardware) -> Iterator[str]:
    for name in (*_ORDER, *sorted(set(one.versions) - set(_ORDER))):
        if name in one.versions:
            yield f"{_LIBRARIES.get(name, name)} {one.versions[name]}".strip()


def _listed(parts: Sequence[str]) -> str:
    return " and ".join((", ".join(parts[:-1]), parts[-1])) if len(parts) > 1 else parts[0]
