"""Whether the folders of a home, its settings and this machine's memory are fit for trainings."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from storage.artifacts import Artifacts
from storage.queries import WorkerRecord
from study.doctor.database import RECENT_SECONDS
from study.doctor.diagnosis import Diagnosis, ok, problem, warning
from study.doctor.mounts import Mount, mount_of
from study.estimate import CHECKPOINT_STATES
from study.home import Home
from trainer.data.cache_cleaning import list_cache
from trainer.weights_folder import list_weights

SUPPOSED_STATE_BYTES = 100_000_000
SPARE_BYTES = 1_000_000_000
LITTLE_MEMORY_BYTES = 2_000_000_000
LITTLE_SHARED_BYTES = 64_000_000
CONTAINER_SECRETS = Path("/run/secrets")
PLACES = ("LMF_HOME", "LMF_STORAGE", "LMF_ARTIFACTS", "LMF_DATA")
SECRET_FILES = ("LMF_STORAGE_FILE", "LMF_STORAGE_PASSWORD_FILE", "PGPASSFILE")
CONTROL_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def check_settings(storage: str | None, environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Whether the settings say one thing, and whether others can read the passwords in them.

    Args:
        storage: what `--storage` was given.
        environment: the environment variables.
    """
    found = []
    if storage is not None and _has_password(storage):
        advice = "put the URL into a file of yours and name it by LMF_STORAGE_FILE; change the password"
        found.append(warning("settings", "--storage holds a password, which `ps` shows to all users", advice))
    if environment.get("LMF_STORAGE") and environment.get("LMF_STORAGE_FILE"):
        both = "LMF_STORAGE and LMF_STORAGE_FILE are both set; LMF_STORAGE counts"
        found.append(warning("settings", both, "unset one of them"))
    for variable in SECRET_FILES:
        path = Path(environment.get(variable) or "").expanduser()
        if environment.get(variable) and path.is_file() and others_can_read(path):
            open_file = f"{variable}: other users of this machine can read {path}"
            found.append(warning("settings", open_file, f"chmod 600 {path}"))
    named = [name for name in (*PLACES, *SECRET_FILES) if environment.get(name)]
    yield from found or [ok("settings", f"set by environment: {', '.join(named) or 'none'}")]


def _has_password(url: str) -> bool:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).password is not None
    except (ArgumentError, ValueError):
        return False


def others_can_read(path: Path) -> bool:
    """Whether every user can read a file: by its rights and those of the folders above it.

    The secrets of a container are seen by its own processes alone, whatever their rights.
    """
    place = path.resolve()
    if CONTAINER_SECRETS in place.parents:
        return False
    is_reachable = all(folder.stat().st_mode & stat.S_IXOTH for folder in place.parents)
    return is_reachable and bool(place.stat().st_mode & stat.S_IROTH)


def check_home(home: Home) -> Iterator[Diagnosis]:
    """Whether the home can be written; it is made by the first command that needs it."""
    place = existing(home.root)
    if not place.is_dir():
        yield problem("home", f"{place} is no folder", "LMF_HOME names another place")
    elif not os.access(place, os.W_OK | os.X_OK):
        yield problem("home", f"{place} cannot be written", "change its owner, or LMF_HOME names another place")
    elif place != home.root:
        yield ok("home", f"{home.root} is made when it is needed")
    else:
        yield ok("home", str(home.root))


def check_cache(home: Home) -> Iterator[Diagnosis]:
    """How much the decoded images take, and whether more can be written."""
    entries = list_cache(home.cache)
    by_kind = {
        kind: [entry for entry in entries if entry.kind == kind]
        for kind in ("prepared", "unfinished", "outdated", "left")
    }
    sets = len(by_kind["prepared"])
    told = f"{sets} set{'' if sets == 1 else 's'} of decoded images, {size(sum(entry.bytes for entry in entries))}"
    if home.cache.exists() and not os.access(home.cache, os.W_OK | os.X_OK):
        yield problem("cache", f"{home.cache} cannot be written", "change its owner or its rights")
        return
    unneeded = [f"{len(found)} {kind}" for kind, found in by_kind.items() if kind != "prepared" and found]
    if unneeded:
        advice = "`lmf data prepare DATASET` goes on with unfinished ones, `lmf data prepare --clean` removes the rest"
        yield warning("cache", f"{told}; {', '.join(unneeded)}", advice)
    else:
        yield ok("cache", f"{told} in {home.cache}")


def check_artifacts(home: Home, mounts: Sequence[Mount], workers: Sequence[WorkerRecord]) -> Iterator[Diagnosis]:
    """Whether files can be stored, read back and removed, and whether all machines see the same folder.

    Args:
        home: whose artifacts.
        mounts: the file systems there are.
        workers: those on record.
    """
    if "://" not in home.artifacts:
        yield from _check_folder(Path(home.artifacts), mounts, workers)
        return
    store = Artifacts.open(home.artifacts)
    _round_trip(store)
    yield ok("artifacts", f"{home.artifacts}: a file was stored, read back and removed")


def _check_folder(folder: Path, mounts: Sequence[Mount], workers: Sequence[WorkerRecord]) -> Iterator[Diagnosis]:
    place = existing(folder)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield problem("artifacts", f"{place} cannot be written", "change its owner, or set LMF_ARTIFACTS")
        return
    if place == folder:
        _round_trip(Artifacts.open(str(folder)))
    mount = mount_of(folder, mounts)
    hosts = sorted({worker.host for worker in workers if worker.last_seen_seconds < RECENT_SECONDS})
    told = f"{folder} on {mount.kind if mount else 'a disk'}" + ("" if place == folder else ", made when it is needed")
    if len(hosts) > 1 and not (mount and mount.is_network):
        yield warning(
            "artifacts",
            f"{told}: a folder of this machine, while {len(hosts)} machines work ({', '.join(hosts[:5])})",
            "checkpoints are only found by machines that see them: LMF_ARTIFACTS names a shared folder or s3://BUCKET",
        )
    else:
        yield ok("artifacts", told)


def _round_trip(store: Artifacts) -> None:
    """Store a small file, read it back and remove it.

    Raises:
        StorageError: one of these fails.
    """
    from storage.errors import StorageError

    name = f"doctor-{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory(prefix="lmf-doctor-") as folder:
        sent, received = Path(folder) / "sent", Path(folder) / "received"
        sent.write_bytes(secrets.token_bytes(1024))
        store.put(name, sent)
        try:
            same = store.get(name, received) and received.read_bytes() == sent.read_bytes()
        finally:
            store.remove(name)
    if not same:
        raise StorageError(f"{store.location}: what was stored is not there, or differs; see the store's own log")


def check_disk(home: Home, workers: int) -> Iterator[Diagnosis]:
    """Whether the disks have room for the checkpoints of this machine's workers.

    Args:
        home: its folders are looked at, and that of temporary files.
        workers: how many workers this machine may run.
    """
    states = [weights.bytes for weights in list_weights(home.weights)]
    needed = SPARE_BYTES + workers * CHECKPOINT_STATES * max(states, default=SUPPOSED_STATE_BYTES)
    folders = {"LMF_HOME": home.root, "temporary files": Path(tempfile.gettempdir())}
    if "://" not in home.artifacts:
        folders["LMF_ARTIFACTS"] = Path(home.artifacts)
    disks: dict[int, list[str]] = {}
    for name, folder in folders.items():
        disks.setdefault(existing(folder).stat().st_dev, []).append(name)
    for names in disks.values():
        free = shutil.disk_usage(existing(folders[names[0]])).free
        told = f"{size(free)} free for {' and '.join(names)} ({existing(folders[names[0]])})"
        needs = f"checkpoints of {workers} workers may take {size(needed)}"
        if names == ["temporary files"]:
            needed_here, needs = SPARE_BYTES, f"{size(SPARE_BYTES)} should be free"
        else:
            needed_here = needed
        if free < SPARE_BYTES // 10:
            yield problem("disk", f"{told}; {needs}", "make room, or name another place by LMF_HOME or LMF_ARTIFACTS")
        elif free < needed_here:
            yield warning("disk", f"{told}; {needs}", "make room, or name another place by LMF_HOME or LMF_ARTIFACTS")
        else:
            yield ok("disk", told)


@dataclass(frozen=True)
class Memory:
    """Memory of this machine, in bytes.

    Attributes:
        total: all of it.
        available: what programs can still have.
        limit: what this container may have; None where nothing limits it.
        shared: free in `/dev/shm`; None where there is none.
    """

    total: int
    available: int
    limit: int | None
    shared: int | None


def read_memory(limit_file: Path = CONTROL_GROUP_LIMIT, shared: Path = Path("/dev/shm")) -> Memory:
    """The memory of this machine as the system tells it."""
    found = psutil.virtual_memory()
    try:
        text = limit_file.read_text().strip()
    except OSError:
        text = "max"
    limit = int(text) if text.isdigit() and int(text) < found.total else None
    return Memory(found.total, found.available, limit, shutil.disk_usage(shared).free if shared.is_dir() else None)


def judge_memory(found: Memory) -> Iterator[Diagnosis]:
    """Whether there is memory for a training."""
    most = found.available if found.limit is None else min(found.available, found.limit)
    told = f"{size(most)} of {size(found.total)} available" + (
        "" if found.limit is None else f", limited to {size(found.limit)} by a container or a scheduler"
    )
    if most < LITTLE_MEMORY_BYTES:
        yield warning("memory", told, "a worker with a small network takes some 0.5 GB, larger ones several: free some")
    else:
        yield ok("memory", told)
    if found.shared is not None and found.shared < LITTLE_SHARED_BYTES:
        advice = "give a container more: --shm-size 1g, or shm_size in docker-compose.yml"
        yield warning("shared memory", f"{size(found.shared)} free in /dev/shm", advice)


def existing(path: Path) -> Path:
    """A path, or the nearest folder above it that exists."""
    return next((place for place in (path, *path.parents) if place.exists()), path)


def size(count: float) -> str:
    """A number of bytes as people say it: `1.2 GB`."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
