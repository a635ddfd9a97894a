from __future__ import annotations

import os
import signal
import socket
import threading

import pytest

from study.dashboard.serving import Address, bind, ended_by_signals, in_background
from study.errors import StudyError


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("10.1.2.3", False)],
)
def test_what_other_machines_reach_is_known(host, is_local):
    assert Address.find(host, 8080).is_local == is_local


def test_a_name_is_as_local_as_all_that_it_stands_for(monkeypatch):
    def found(*numbers):
        return lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, 80)) for number in numbers]

    monkeypatch.setattr(socket, "getaddrinfo", found("127.0.0.1", "127.0.0.2"))
    assert Address.find("localhost", 80).is_local
    monkeypatch.setattr(socket, "getaddrinfo", found("127.0.0.1", "10.0.0.4"))
    assert not Address.find("localhost", 80).is_local


@pytest.mark.parametrize("host", ["", "no.such.host.invalid", "a" * 300])
def test_a_host_that_is_unknown_is_refused(host):
    with pytest.raises(StudyError, match="--host"):
        Address.find(host, 8080)


def test_the_url_can_be_opened(monkeypatch):
    assert Address("127.0.0.1", 0, ()).url(81) == "http://127.0.0.1:81/"
    assert Address("::1", 0, ()).url(81) == "http://[::1]:81/"


def test_a_name_of_several_numbers_has_one_free_port_on_all_that_are_here():
    numbers = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2"), (socket.AF_INET, "192.0.2.1"))
    taken = bind(Address("both", 0, numbers))
    try:
        names = [listener.getsockname() for listener in taken]
        assert [name[0] for name in names] == ["127.0.0.1", "127.0.0.2"]
        assert len({name[1] for name in names}) == 1
    finally:
        for listener in taken:
            listener.close()


def test_a_port_that_is_taken_is_refused_in_a_line():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StudyError, match=f"another program listens on 127.0.0.1 port {port}"):
            bind(Address.find("127.0.0.1", port))


def test_an_address_of_another_machine_is_refused_in_a_line():
    with pytest.raises(StudyError, match=r"cannot listen on 192\.0\.2\.1"):
        bind(Address.find("192.0.2.1", 0))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_block_and_further_ones_change_nothing(number):
    before = signal.getsignal(number)
    reached = []
    with ended_by_signals():
        try:
            os.kill(os.getpid(), number)
            reached.append("never")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("tidied")
    assert reached == ["tidied"]
    assert signal.getsignal(number) == before


def test_work_beside_the_block_is_told_to_stop():
    stop = threading.Event()
    ended = threading.Event()

    def work() -> None:
        stop.wait(60)
        ended.set()

    with in_background(work, stop):
        assert not ended.is_set()
    assert ended.is_set()
