"""What lies in the folder of decoded images, under which names, and who may write it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from trainer.errors import DataError

FORMAT = 2
IMAGES = "images.npy"
META = "meta.json"
JOURNAL = "images.sums"

PREPARED_NAME = re.compile(r"(?P<fingerprint>[0-9a-f]{32})-(?P<size>[0-9]+)(?P<exact>-exact)?-v(?P<format>[0-9]+)")

_LOOK_SECONDS = 0.5
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def prepared_name(fingerprint: str, size: int, exact: bool) -> str:
    """The name of the folder of a dataset's decoded images."""
    return f"{fingerprint[:32]}-{size}{'-exact' if exact else ''}-v{FORMAT}"


def partial_name(name: str) -> str:
    """The name of the folder where images are decoded that `name` will hold."""
    return f".{name}.partial"


def lock_name(name: str) -> str:
    """The name of the file that whoever writes `name` holds a lock on."""
    return f".{name}.lock"


@contextlib.contextmanager
def hold(cache_dir: Path, name: str, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Be the only process that writes one folder of the cache; the system ends it with the process.

    Args:
        cache_dir: the folder of decoded images.
        name: of the folder in it.
        waiting: called now and then while another process holds it; without, nothing waits.

    Yields:
        Whether it is held: False where the file system knows no locks.

    Raises:
        Timeout: another process holds it, and nothing waits.
        OSError: the cache cannot be written.
    """
    lock = FileLock(cache_dir / lock_name(name), timeout=_LOOK_SECONDS if waiting else 0)
    held = False
    while not held:
        try:
            lock.acquire()
            held = True
        except Timeout:
            if waiting is None:
                raise
            waiting()
        except NotImplementedError:
            break
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            break
    try:
        yield held
    finally:
        lock.release()


@contextlib.contextmanager
def writing(cache_dir: Path) -> Iterator[None]:
    """Turn what the operating system says against writing into a `DataError`."""
    try:
        yield
    except BrokenPipeError:  # from a progress callback whose reader is gone, never from a disk
        raise
    except OSError as error:
        raise DataError(
            f"cannot write the image cache in {cache_dir}: {error.strerror}; make room there, or set LMF_HOME to a "
            "folder on a disk that can be written and has room"
        ) from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: beside its place, flushed, then moved there.

    Raises:
        OSError: it cannot be written; what was there is left as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a folder or a file as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
