"""On which file system a path lies, and whether other machines serve it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

NETWORK_TYPES = frozenset(
    {
        *("9p", "afs", "beegfs", "beegfs_nodev", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs"),
        *("fuse.s3fs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "panfs", "pvfs2"),
        *("smb", "smb2", "smb3", "smbfs", "virtiofs", "vboxsf", "wekafs"),
    }
)


@dataclass(frozen=True)
class Mount:
    """A mounted file system.

    Attributes:
        folder: where it is mounted.
        kind: its type, such as `ext4` or `nfs4`.
    """

    folder: str
    kind: str

    @property
    def is_network(self) -> bool:
        """Whether another machine, or the host of this one, serves it."""
        return self.kind.lower() in NETWORK_TYPES


def read_mounts() -> tuple[Mount, ...]:
    """All mounted file systems, in the order in which they were mounted."""
    return tuple(Mount(found.mountpoint, found.fstype) for found in psutil.disk_partitions(all=True))


def mount_of(path: Path, mounts: Iterable[Mount]) -> Mount | None:
    """The file system that a path lies on, links followed: the deepest mount above it, and of equal ones the last.

    Args:
        path: a path, which need not exist.
        mounts: as `read_mounts` gives them.
    """
    place = path.resolve()
    above = [mount for mount in mounts if place == Path(mount.folder) or Path(mount.folder) in place.parents]
    deepest = max((len(Path(mount.folder).parts) for mount in above), default=0)
    return next((mount for mount in reversed(above) if len(Path(mount.folder).parts) == deepest), None)
