"""Where a server listens and who may connect."""

from __future__ import annotations

import socket

import pytest

from study.errors import StudyError
from study.server.addresses import (
    access_rules,
    check_networks,
    check_port,
    find_port,
    is_loopback,
    listen_addresses,
    reachable_host,
)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "*", "192.0.2.7")),
    ],
)
def test_what_others_can_reach(host, expected):
    assert is_loopback(host) == expected


def test_a_name_that_means_nothing():
    with pytest.raises(StudyError, match=r"--host: no-such-host.invalid is neither an address nor a name"):
        is_loopback("no-such-host.invalid")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1",)),
        ("0.0.0.0", ("0.0.0.0",)),
        ("192.0.2.7", ("192.0.2.7", "127.0.0.1")),
        ("::", ("::", "127.0.0.1")),
    ],
)
def test_this_machine_always_reaches_it(host, expected):
    assert listen_addresses(host) == expected


def test_networks():
    assert check_networks(("10.1.2.3/16", "192.0.2.7", "fd00::/8")) == ("10.1.0.0/16", "192.0.2.7/32", "fd00::/8")
    with pytest.raises(StudyError, match="--allow: office is no network; expected one such as"):
        check_networks(("10.0.0.0/8", "office"))


def test_rules_for_loopback_name_nobody_else():
    rules = access_rules("127.0.0.1", (), "lmf", "studies").splitlines()[1:]
    assert rules == ["host studies lmf 127.0.0.1/32 scram-sha-256", "host studies lmf ::1/128 scram-sha-256"]


def test_rules_for_others_name_networks_and_always_want_a_password():
    rules = access_rules("0.0.0.0", ("10.1.0.0/16", "192.0.2.7/32"), "lmf", "lmf").splitlines()[1:]
    assert [rule.split()[3] for rule in rules] == ["127.0.0.1/32", "::1/128", "samehost", "10.1.0.0/16", "192.0.2.7/32"]
    assert {tuple(rule.split()[:3] + rule.split()[4:]) for rule in rules} == {("host", "lmf", "lmf", "scram-sha-256")}
    assert [rule.split()[3] for rule in access_rules("0.0.0.0", (), "lmf", "lmf").splitlines()[1:]][2:] == [
        "samehost",
        "samenet",
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_is_taken(host):
    port = find_port(host)
    check_port(host, port)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(StudyError, match=f"port {port} of {host} is taken by another program"):
            check_port(host, port)


def test_a_port_that_is_taken_on_loopback_only(monkeypatch):
    """A server for another address listens on loopback as well."""
    monkeypatch.setattr("study.server.addresses.LOOPBACK", "127.0.0.2")
    port = find_port("127.0.0.3")
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))
        other.listen()
        with pytest.raises(StudyError, match="is taken by another program"):
            check_port("127.0.0.3", port)


def test_an_address_of_another_machine():
    with pytest.raises(
        StudyError, match=r"cannot listen on port \d+ of 192.0.2.99: .*; --host takes an address of this"
    ):
        check_port("192.0.2.99", 5432)


def test_under_which_name_others_reach_it():
    assert reachable_host("db.example.org") == "db.example.org"
    assert reachable_host("127.0.0.1") == "127.0.0.1"
    found = reachable_host("0.0.0.0")
    assert found not in ("", "0.0.0.0")
    assert reachable_host("*") == found


@pytest.mark.parametrize(
    ("host", "family", "far"),
    [
        ("0.0.0.0", socket.AF_INET, "192.0.2.1"),
        ("*", socket.AF_INET, "192.0.2.1"),
        ("::", socket.AF_INET6, "2001:db8::1"),
    ],
)
def test_others_reach_it_by_an_address_of_the_kind_that_it_listens_on(host, family, far, monkeypatch):
    class Probe:
        def __init__(self, asked, _):
            assert asked == family

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def connect(self, address):
            assert address[0] == far

        def getsockname(self):
            return ("of this family", 0)

    monkeypatch.setattr("study.server.addresses.socket.socket", Probe)
    assert reachable_host(host) == "of this family"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_a_network_others_reach_it_by_its_name(host, monkeypatch):
    def refuse(*_):
        raise OSError("address family not supported")

    monkeypatch.setattr("study.server.addresses.socket.socket", refuse)
    assert reachable_host(host) == socket.gethostname()
