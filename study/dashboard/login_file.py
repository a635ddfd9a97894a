"""The file of those who may see the dashboard: a line a person, with the password hashed by scrypt.

A line reads `NAME:scrypt:N:R:P:SALT:HASH`, salt and hash in base64. Empty lines and lines that begin with `#` say
nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from study.errors import StudyError
from study.private_files import make_folder, write_private

FEWEST_CHARACTERS = 8
LONGEST_NAME = 64

_METHOD = "scrypt"
_COST, _BLOCK_SIZE, _PARALLEL = 2**15, 8, 3
_MOST_WORK = 2**26
_SALT_BYTES, _HASH_BYTES = 16, 32
_FORM = "NAME:scrypt:N:R:P:SALT:HASH, as --add-login writes it"


@dataclass(frozen=True)
class Login:
    """One person's name and hashed password.

    Attributes:
        name: the name, without a colon.
        cost: scrypt's N, a power of two.
        block_size: scrypt's r.
        parallel: scrypt's p.
        salt: random bytes of this login's own.
        digest: what scrypt makes of the password.
    """

    name: str
    cost: int
    block_size: int
    parallel: int
    salt: bytes
    digest: bytes

    @classmethod
    def make(cls, name: str, password: str) -> Login:
        """Hash a password with a new salt."""
        blank = cls(name, _COST, _BLOCK_SIZE, _PARALLEL, secrets.token_bytes(_SALT_BYTES), b"")
        return cls(name, _COST, _BLOCK_SIZE, _PARALLEL, blank.salt, blank.hash(password))

    def hash(self, password: str) -> bytes:
        """What scrypt makes of a password with this login's salt and cost."""
        return hashlib.scrypt(
            password.encode(),
            salt=self.salt,
            n=self.cost,
            r=self.block_size,
            p=self.parallel,
            maxmem=256 * self.cost * self.block_size + 256 * self.block_size * self.parallel,
            dklen=_HASH_BYTES,
        )

    @property
    def line(self) -> str:
        """The login's line in the file."""
        salt, digest = (base64.b64encode(value).decode() for value in (self.salt, self.digest))
        return f"{self.name}:{_METHOD}:{self.cost}:{self.block_size}:{self.parallel}:{salt}:{digest}"


def read_logins(path: Path) -> tuple[Login, ...]:
    """Read all logins of a file.

    Raises:
        StudyError: the file cannot be read, holds no login or a line that is none, or others may write it.
    """
    logins = tuple(
        _parse(path, number, line) for number, line in enumerate(_read_lines(path), start=1) if _says_something(line)
    )
    if not logins:
        raise StudyError(f"--login: {path} holds no login; `lmf dashboard --login {path} --add-login NAME` adds one")
    names = [login.name for login in logins]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StudyError(f"--login: {path} has {', '.join(twice)} more than once; leave one line each")
    return logins


def add_login(path: Path, name: str, password: str) -> None:
    """Add a login to a file, or give one that is there a new password; the file is made if it is missing.

    The file is replaced as a whole, and nobody but its owner may read the new one.

    Raises:
        StudyError: name or password do not fit, or the file cannot be read or written.
    """
    check_name(name)
    if len(password) < FEWEST_CHARACTERS:
        raise StudyError(f"--add-login: the password is too short; expected at least {FEWEST_CHARACTERS} characters")
    lines = _read_lines(path) if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if _says_something(line):
            _parse(path, number, line)
    kept = [line for line in lines if line.partition(":")[0] != name or not _says_something(line)]
    make_folder(path.parent, advice="--login names another file")
    text = "".join(f"{line}\n" for line in [*kept, Login.make(name, password).line])
    write_private(path, text, advice="--login names another file")


def check_name(name: str) -> None:
    """Refuse a name that cannot stand in the file or in a browser's login.

    Raises:
        StudyError: it is empty, too long, or has a colon, a control character, or a space at an end.
    """
    if not name or len(name) > LONGEST_NAME or ":" in name or name != name.strip() or not name.isprintable():
        raise StudyError(
            f"--add-login: {name[:LONGEST_NAME]!r} cannot be a name; expected 1 to {LONGEST_NAME} characters without "
            "a colon"
        )
    if name.startswith("#"):
        raise StudyError(f"--add-login: {name!r} cannot be a name; # begins a remark")


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _read_lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise StudyError(f"--login: cannot read {path}: {reason}") from None
    if mode & 0o022:
        raise StudyError(f"--login: others may write {path} and so let themselves in; run: chmod 600 {path}")
    return lines


def _parse(path: Path, number: int, line: str) -> Login:
    name, *rest = line.split(":")
    try:
        method, cost, block_size, parallel, salt, digest = rest
        login = Login(
            name,
            int(cost),
            int(block_size),
            int(parallel),
            base64.b64decode(salt, validate=True),
            base64.b64decode(digest, validate=True),
        )
    except (ValueError, binascii.Error):
        raise StudyError(f"--login: {path}, line {number}: this is no login; expected {_FORM}") from None
    work = login.cost * login.block_size * login.parallel
    sound = login.cost > 1 and login.cost & (login.cost - 1) == 0 and login.block_size > 0 and login.parallel > 0
    if method != _METHOD or not name or not sound or work > _MOST_WORK or len(login.digest) != _HASH_BYTES:
        raise StudyError(f"--login: {path}, line {number}: this is no login; expected {_FORM}")
    return login
