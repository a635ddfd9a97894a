"""Where a server listens, who may connect to it, and under which address others reach it."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence

from study.errors import StudyError

LOOPBACK = "127.0.0.1"
_WILDCARDS = ("0.0.0.0", "::", "*")
# Any address that is not of this machine's networks will do: nothing is sent to it.
_FAR_AWAY = {socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)}

NO_TLS = (
    "this PostgreSQL has no TLS: passwords are hashed on their way, but what is stored travels in the clear; "
    "use it within a trusted network, or through an SSH tunnel"
)


def is_loopback(host: str) -> bool:
    """Whether a server that listens on a host or address can be reached from this machine alone.

    Raises:
        StudyError: the name cannot be resolved.
    """
    if host in _WILDCARDS:
        return False
    return all(ipaddress.ip_address(address).is_loopback for address in _resolve(host))


def listen_addresses(host: str) -> tuple[str, ...]:
    """What a server has to listen on: the host, and loopback for the commands of this machine."""
    covered = host in ("0.0.0.0", "*", LOOPBACK, "localhost")
    return (host,) if covered else (host, LOOPBACK)


def check_networks(networks: Sequence[str]) -> tuple[str, ...]:
    """Networks in the form that PostgreSQL takes, such as `10.1.0.0/16`; an address alone is a network of one.

    Raises:
        StudyError: one is no network.
    """
    checked = []
    for network in networks:
        try:
            checked.append(str(ipaddress.ip_network(network, strict=False)))
        except ValueError:
            raise StudyError(f"--allow: {network} is no network; expected one such as 10.1.0.0/16") from None
    return tuple(checked)


def access_rules(host: str, networks: Sequence[str], user: str, database: str) -> str:
    """The content of `pg_hba.conf`: one user, one database, passwords by SCRAM.

    Args:
        host: where the server listens.
        networks: from where others may connect; none means the networks that this machine is in.
        user: the role that may connect.
        database: the database it may connect to.
    """
    places = [f"{LOOPBACK}/32", "::1/128"]
    if not is_loopback(host):
        places += ["samehost", *(networks or ("samenet",))]
    lines = [f"host {database} {user} {place} scram-sha-256" for place in places]
    return "\n".join(["# Written by `lmf db start`.", *lines, ""])


def find_port(host: str) -> int:
    """A port that is free now, on everything that a server for this host listens on.

    Raises:
        StudyError: the host is no address of this machine.
    """
    for _ in range(20):
        with _listener(listen_addresses(host)[0], 0) as first:
            port = int(first.getsockname()[1])
        if not _is_taken(host, port):
            return port
    raise StudyError(f"no free port was found on {host}; name one with --port")


def check_port(host: str, port: int) -> None:
    """Make sure that a server can listen on a port.

    Raises:
        StudyError: the port is taken, may not be used, or the host is no address of this machine.
    """
    if _is_taken(host, port):
        raise StudyError(
            f"port {port} of {host} is taken by another program; end it, or choose another port: lmf db start --port N"
        )


def _is_taken(host: str, port: int) -> bool:
    for address in listen_addresses(host):
        try:
            _listener(address, port).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return True
    return False


def reachable_host(host: str) -> str:
    """Under which name or address other machines reach a server that listens on a host."""
    if host not in _WILDCARDS:
        return host
    # PostgreSQL on `::` takes IPv6 alone.
    family = socket.AF_INET6 if host == "::" else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(_FAR_AWAY[family])
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()


def _listener(host: str, port: int) -> socket.socket:
    """A socket that is bound, as the server would bind it."""
    address = "0.0.0.0" if host == "*" else _resolve(host)[0]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(1)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise
        raise StudyError(
            f"cannot listen on port {port} of {host}: {error.strerror}; --host takes an address of this machine, "
            "--port one that this user may use"
        ) from None
    return listener


def _resolve(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise StudyError(f"--host: {host} is neither an address nor a name that can be resolved") from None
    return tuple(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
