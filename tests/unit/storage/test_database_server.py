"""A database on a server: what it refuses, when it is away, and how many connections it sees."""

from __future__ import annotations

import socket
import threading
import traceback
from contextlib import closing

import pytest
import sqlalchemy as sa

from storage.database import Database
from storage.errors import NoDatabaseError, StorageError, StorageUnavailableError
from storage.queries import list_studies
from storage.schema import StudyRow


def refusal(url, **options):
    """The error with which a URL is refused, checked to be one line."""
    with pytest.raises(StorageError) as caught:
        Database.open(url, **options).close()
    assert "\n" not in str(caught.value)
    return caught.value


def shown(error):
    """Everything of an error that a person may come to see."""
    return "".join([str(error), repr(error), repr(error.args), *traceback.format_exception(error)])


class TestServer:
    def test_a_wrong_password_is_refused_and_not_shown(self, postgres):
        error = refusal(postgres.url(password="wr{o}%ng p:a/ss@"))
        assert "password authentication failed" in str(error)
        assert "check user, password and database of the URL" in str(error)
        assert not isinstance(error, StorageUnavailableError), "it is of no use to try again"
        for secret in ("wr{o}%ng p:a/ss@", "wr%7Bo%7D%25ng", "wr{{o}}", postgres.password):
            assert secret not in shown(error)

    def test_a_server_that_does_not_answer(self):
        with closing(socket.socket()) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            error = refusal(f"postgresql://lmf:secret@127.0.0.1:{port}/lmf")
        assert f"postgresql+psycopg://lmf:***@127.0.0.1:{port}/lmf: " in str(error)
        assert "check that the server runs" in str(error)
        assert "secret" not in shown(error)

    def test_a_host_that_does_not_exist(self):
        error = refusal("postgresql://lmf:secret@no-such-host.invalid/lmf")
        assert "check that the server runs and that host" in str(error)

    def test_a_database_that_does_not_exist(self, postgres):
        assert 'database "nothing" does not exist' in str(refusal(postgres.url("nothing")))

    def test_a_password_with_awkward_characters_serves_both_halves(self, prepared_postgres, make_lab, postgres):
        assert set("{}%: /@#'") <= set(postgres.password), "the server's password is awkward on purpose"
        lab = make_lab(prepared_postgres)
        assert len(lab.trials(lab.plan(1))) == 1
        assert postgres.password not in repr(lab.database) + repr(lab.mirror)

    def test_a_server_without_lmf_is_not_written_where_nothing_is_to_be_made(self, postgres_url):
        error = refusal(postgres_url, create=False)
        assert isinstance(error, NoDatabaseError)
        assert "this database holds no studies of lmf yet; `lmf run` makes one" in str(error)

    def test_a_restart_between_two_calls_goes_unnoticed(self, prepared_postgres, make_lab, postgres):
        lab = make_lab(prepared_postgres)
        study_id = lab.plan(2)
        lease = lab.claim(study_id)
        lab.mirror.start(lease.trial_id)
        postgres.control("-m", "fast", "stop")
        postgres.start()
        lab.ledger.renew(lease)
        lab.mirror.report(lease.trial_id, {1: 0.1})
        assert lab.trial(lease).intermediate_values == {1: 0.1}
        assert list_studies(lab.database) == ("skin-small",)

    def test_a_server_that_is_away_is_unavailable_and_then_back(self, prepared_postgres, make_lab, postgres):
        lab = make_lab(prepared_postgres)
        study_id = lab.plan(2)
        lease = lab.claim(study_id)
        postgres.control("-m", "fast", "stop")
        try:
            for call in (
                lambda: lab.ledger.renew(lease),
                lambda: list_studies(lab.database),
                lambda: lab.mirror.start(lease.trial_id),
                lambda: lab.mirror.report(lease.trial_id, {1: 0.1}),
                lambda: lab.mirror.add_waiting(1, "p9", 1.0, 1.0, {}),
            ):
                with pytest.raises(StorageUnavailableError) as caught:
                    call()
                assert "\n" not in str(caught.value)
                assert postgres.password not in shown(caught.value)
        finally:
            postgres.start()
        lab.ledger.renew(lease)
        lab.mirror.start(lease.trial_id)
        assert len(lab.trials(study_id)) == 2

    def test_a_connection_lost_within_a_transaction_undoes_it(self, prepared_postgres, make_lab, postgres):
        lab = make_lab(prepared_postgres)
        lab.plan(1)

        def write():
            with lab.database.begin() as connection:
                connection.execute(sa.update(StudyRow).values(model="half-written"))
                own = connection.scalar(sa.text("SELECT pg_backend_pid()"))
                with postgres.connect() as administrator:
                    administrator.execute("SELECT pg_terminate_backend(%s)", [own])
                connection.execute(sa.update(StudyRow).values(model="written"))

        with pytest.raises(StorageUnavailableError):
            write()
        assert lab.study().model == "small"

    def test_a_worker_keeps_one_connection(self, prepared_postgres, make_lab, postgres):
        lab = make_lab(prepared_postgres)
        study_id = lab.plan(3)
        most = []

        def count():
            name = sa.make_url(prepared_postgres).database
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
            with postgres.connect() as connection:
                most.append(connection.execute(query, [name]).fetchone()[0])

        worker = lab.worker()
        lease = lab.claim(study_id, worker)
        lab.mirror.start(lease.trial_id)

        def keep_the_lease():
            for _ in range(5):
                lab.ledger.renew(lease)
                lab.workers.note(worker, "training")
                count()

        keeper = threading.Thread(target=keep_the_lease)
        keeper.start()
        for number in range(1, 6):
            lab.ledger.record_epochs(lease, [lab.epoch(number)])
            lab.mirror.report(lease.trial_id, {number: 0.1})
            lab.study()
            count()
        keeper.join()
        assert max(most) == 1


class TestLocks:
    def cut(self, postgres, lab):
        """Cut the connections of this process but the one of the pool."""
        with lab.database.read() as connection:
            mine = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        with postgres.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> %s",
                [lab.database.url.database, mine],
            )

    def test_a_lock_whose_connection_was_cut_is_known_to_be_lost(self, postgres, make_lab, prepared_postgres):
        lab = make_lab(prepared_postgres)
        with lab.database.lock("search"):
            lab.database.check_locks()
            self.cut(postgres, lab)
            with pytest.raises(StorageUnavailableError):
                lab.database.check_locks()
            with pytest.raises(StorageUnavailableError), lab.database.lock("plan"):
                pass
        with lab.database.lock("search"), lab.database.lock("plan"):
            lab.database.check_locks()

    def test_after_a_cut_within_an_inner_lock_the_next_one_is_refused_as_a_passing_trouble(
        self, postgres, make_lab, prepared_postgres
    ):
        lab = make_lab(prepared_postgres)
        with lab.database.lock("search"):
            with lab.database.lock("plan"):
                self.cut(postgres, lab)
            with pytest.raises(StorageUnavailableError, match="lock was lost"), lab.database.lock("plan"):
                pass

    def test_nested_locks_take_one_connection_and_those_who_wait_none(self, postgres, make_lab, prepared_postgres):
        lab = make_lab(prepared_postgres)
        other = lab.another()

        def connections():
            with postgres.connect() as connection:
                query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
                return connection.execute(query, [lab.database.url.database]).fetchone()[0]

        with other.read():
            pass
        with lab.database.lock("search"), lab.database.lock("plan"):
            held = connections()
            with pytest.raises(StorageUnavailableError, match="has held the lock"), other.lock("plan", 0.3):
                pass
            assert connections() == held == 3

    def test_the_server_forgets_who_falls_asleep_within_a_transaction(self, make_lab, prepared_postgres):
        lab = make_lab(prepared_postgres)
        with lab.database.read() as connection:
            assert connection.scalar(sa.text("SHOW idle_in_transaction_session_timeout")) == "10s"
            assert connection.scalar(sa.text("SHOW application_name")) == "lmf"
