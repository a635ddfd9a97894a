from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
from lmf_testing.web import ask_application, basic

from storage.errors import StorageError, StorageUnavailableError
from study.dashboard.answer import Answer
from study.dashboard.application import NothingThereError, TrialEndedError
from study.dashboard.gateway import Gateway
from study.dashboard.login_check import LoginCheck
from study.dashboard.login_file import Login

PASSWORD = "correct horse"
LOCAL = ("localhost", "127.0.0.1")
NOTE = "/api/studies/1/note"
ATTRIBUTES = "/api/trials/20/user-attrs"
JSON = {"CONTENT_TYPE": "application/json", "body": b'{"body": "text", "version": 1, "user_attrs": {"rating": 3}}'}
PATHS = ("/", "/dashboard", "/static/bundle.js", "/api/studies", "/artifacts/1/2/abc", "/csv/1", "/favicon.ico")


class Behind:
    """Stands for optuna-dashboard: answers 200 with what it is told, and keeps what it was asked."""

    def __init__(self, *headers: tuple[str, str], error: Exception | None = None) -> None:
        self.headers = headers
        self.error = error
        self.asked: list[str] = []
        self.bodies: list[bytes] = []

    def __call__(self, environ):
        self.asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        self.bodies.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        if self.error is not None:
            raise self.error
        return Answer("200 OK", self.headers, [b"content"])


@pytest.fixture
def reader() -> Behind:
    return Behind(("Content-Type", "text/html"))


@pytest.fixture
def writer() -> Behind:
    return Behind()


@pytest.fixture(scope="module")
def ada() -> Login:
    """A login whose password costs next to nothing to check."""
    cheap = Login("ada", 2, 1, 1, b"salt", b"")
    return replace(cheap, digest=cheap.hash(PASSWORD))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", PATHS)
def test_without_a_login_nothing_is_served_and_with_a_wrong_one_nothing(reader, ada, path, method):
    gateway = Gateway(reader, logins=LoginCheck([ada]))
    for headers in ({}, {"HTTP_AUTHORIZATION": basic("ada", "wrong")}, {"HTTP_AUTHORIZATION": basic("eve", PASSWORD)}):
        page = ask_application(gateway, path, method, **headers)
        assert page.status == 401
        assert page.headers["www-authenticate"].startswith("Basic ")
        assert b"content" not in page.body
    assert reader.asked == []
    page = ask_application(gateway, path, method, HTTP_AUTHORIZATION=basic("ada", PASSWORD))
    assert page.status == (302 if path == "/" else 200)


def test_whose_logins_failed_too_often_is_told_to_wait(reader, ada, caplog):
    gateway = Gateway(reader, logins=LoginCheck([ada], clock=lambda: 0.0))
    pages = [ask_application(gateway, "/", HTTP_AUTHORIZATION=basic("ada", "wr0ng")) for _ in range(6)]
    assert [page.status for page in pages] == [401] * 5 + [429]
    assert pages[-1].headers["retry-after"] == "1"
    assert "127.0.0.1" in caplog.text
    assert "wr0ng" not in caplog.text
    assert ask_application(gateway, "/dashboard", HTTP_AUTHORIZATION=basic("ada", PASSWORD)).status == 429


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "STRANGE"])
def test_read_only_refuses_all_but_reading_with_a_reason(reader, method):
    page = ask_application(Gateway(reader), "/api/studies/1", method, HTTP_X_HTTP_METHOD_OVERRIDE="GET")
    assert page.status == 403
    assert "read-only" in json.loads(page.body)["reason"]
    assert reader.asked == []


def test_a_method_that_is_to_override_another_overrides_nothing(reader):
    page = ask_application(Gateway(reader), "/api/studies", HTTP_X_HTTP_METHOD_OVERRIDE="DELETE")
    assert page.status == 200
    assert reader.asked == ["GET /api/studies"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", NOTE),
        ("PUT", "/api/studies/1/20/note"),
        ("POST", ATTRIBUTES),
    ],
)
def test_with_editing_what_people_say_may_be_written_and_is_logged(reader, writer, ada, caplog, method, path):
    caplog.set_level(logging.WARNING)
    gateway = Gateway(reader, writer, logins=LoginCheck([ada]))
    body = json.dumps({"body": "very s3cret", "version": 1, "user_attrs": {"rating": 3}}).encode()
    login = basic("ada", PASSWORD)
    page = ask_application(
        gateway, path, method, **{**JSON, "body": body}, REMOTE_ADDR="10.0.0.9", HTTP_AUTHORIZATION=login
    )
    assert page.status == 200
    assert writer.asked == [f"{method} {path}"]
    assert writer.bodies == [body]
    assert f"write by ada from 10.0.0.9: {method} {path}: 200" in caplog.text
    assert "s3cret" not in caplog.text
    assert PASSWORD not in caplog.text


def test_a_write_that_fails_is_logged_too(reader, caplog):
    page = ask_application(Gateway(reader, Behind(error=StorageUnavailableError("away"))), NOTE, "PUT", **JSON)
    assert page.status == 503
    assert f"write by anybody from 127.0.0.1: PUT {NOTE}: failed" in caplog.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/api/studies/1"),
        ("POST", "/api/studies"),
        ("POST", "/api/studies/1/rename"),
        ("POST", "/api/trials/20/tell"),
        ("POST", "/api/artifacts/1/20"),
        ("POST", "/api/artifacts/1"),
        ("DELETE", "/api/artifacts/1/20/abc"),
        ("POST", "/incompatible-rdb-schema"),
        ("POST", "/api/llm/trial_filter_query"),
        ("POST", "/api/studies/1/preference"),
        ("POST", "/api/studies/1/preference/abc-1"),
        ("DELETE", "/api/studies/1/preference/abc-1"),
        ("PUT", "/api/studies/1/preference_feedback_component"),
        ("POST", "/api/studies/1/20/skip"),
        ("DELETE", NOTE),
        ("PUT", f"{NOTE}/"),
        ("PUT", f"{NOTE}/../../1"),
        ("put", NOTE),
        ("PUT", "/api/studies/1\n/note"),
    ],
)
def test_with_editing_studies_and_trials_still_cannot_be_changed(reader, writer, method, path):
    page = ask_application(Gateway(reader, writer), path, method, **JSON)
    assert page.status == 403
    assert "preference" not in json.loads(page.body)["reason"]
    assert "lmf study delete" in json.loads(page.body)["reason"]
    assert writer.asked == reader.asked == []


def test_the_attribute_that_ties_a_trial_to_its_point_cannot_be_written(reader, writer):
    gateway = Gateway(reader, writer)
    body = json.dumps({"user_attrs": {"rating": 3, "lmf:point": "p1"}}).encode()
    page = ask_application(gateway, ATTRIBUTES, "POST", **{**JSON, "body": body})
    assert page.status == 403
    assert "lmf:" in json.loads(page.body)["reason"]
    assert writer.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"{}",
        b'{"user_attrs": 1}',
        b'{"user_attrs": {}}',
        b'{"user_attrs": ["rating"]}',
        b'{"user_attrs": [["lmf:point", "x"]]}',
        b'{"user_attrs": {"rating": %s}}' % (b"[" * 100 + b"]" * 100),
        b'{"user_attrs": {"rating": %s}}' % (b"[" * 100_000 + b"]" * 100_000),
        b'{"user_attrs": {"rating": "%s"}}' % (b"x" * 2_000_000),
    ],
    ids=range(12),
)
def test_what_is_no_object_of_attributes_is_refused(reader, writer, caplog, body):
    page = ask_application(Gateway(reader, writer), ATTRIBUTES, "POST", **{**JSON, "body": body})
    assert page.status == 400
    assert "user_attrs" in json.loads(page.body)["reason"]
    assert writer.asked == []
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "body", [b"[]", b'{"body": "x"}', b'{"body": "x", "version": "1"}', b'{"body": 1, "version": 1}']
)
def test_what_is_no_note_is_refused(reader, writer, body):
    page = ask_application(Gateway(reader, writer), NOTE, "PUT", **{**JSON, "body": body})
    assert page.status == 400
    assert "version" in json.loads(page.body)["reason"]
    assert writer.asked == []


@pytest.mark.parametrize(("kind", "status"), [("text/plain", 400), ("", 400), ("Application/JSON; charset=utf-8", 200)])
def test_a_body_that_optuna_dashboard_would_not_read_as_json_is_refused(reader, writer, kind, status):
    assert ask_application(Gateway(reader, writer), NOTE, "PUT", **{**JSON, "CONTENT_TYPE": kind}).status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"HTTP_SEC_FETCH_SITE": "same-origin"}, 200),
        ({"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "https://behind.a.proxy"}, 200),
        ({"HTTP_ORIGIN": "http://127.0.0.1:8080"}, 200),
        ({"HTTP_SEC_FETCH_SITE": "cross-site"}, 403),
        ({"HTTP_SEC_FETCH_SITE": "same-site", "HTTP_ORIGIN": "http://127.0.0.1:8080"}, 403),
        ({"HTTP_SEC_FETCH_SITE": "none"}, 403),
        ({"HTTP_ORIGIN": "http://127.0.0.1:9999"}, 403),
        ({"HTTP_ORIGIN": "https://evil.example"}, 403),
        ({"HTTP_ORIGIN": "null"}, 403),
    ],
)
def test_another_site_cannot_write_through_a_user_s_browser(reader, writer, headers, status):
    page = ask_application(Gateway(reader, writer), NOTE, "PUT", **JSON, **headers)
    assert page.status == status
    assert len(writer.asked) == (status == 200)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("127.0.0.1:9000", 200),
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("[::1]:8080", 200),
        ("127.0.0.7:8080", 200),
        ("", 421),
        ("evil.example:8080", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.168.0.1:8080", 421),
        ("[::1", 421),
        ("0.0.0.0:8080", 421),
    ],
)
def test_on_loopback_no_other_name_leads_to_it(reader, host, status):
    assert ask_application(Gateway(reader, local_names=LOCAL), "/dashboard", HTTP_HOST=host).status == status


def test_elsewhere_any_name_leads_to_it(reader):
    assert ask_application(Gateway(reader), "/dashboard", HTTP_HOST="lab.example").status == 200


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_keeps_to_its_own_site(path):
    headers = (
        ("Content-Type", "text/plain"),
        ("Access-Control-Allow-Origin", "*"),
        ("Content-Security-Policy", "default-src 'self'"),
    )
    page = ask_application(Gateway(Behind(*headers)), path)
    assert "access-control-allow-origin" not in page.headers
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-frame-options"] == "SAMEORIGIN"
    assert "frame-ancestors 'self'" in page.headers["content-security-policy"]
    assert path == "/" or "default-src 'self'" in page.headers["content-security-policy"]
    assert ("no-store" in page.headers.get("cache-control", "")) == (not path.startswith("/static/"))


@pytest.mark.parametrize("path", ["/artifacts/1/2/abc", "/artifacts/1/abc", "/anything/else"])
@pytest.mark.parametrize(
    ("kind", "is_shown"),
    [
        ("text/plain", True),
        ("text/csv; charset=utf-8", True),
        ("application/json", True),
        ("image/png", True),
        ("text/html", False),
        ("TEXT/HTML", False),
        ("image/svg+xml", False),
        ("application/xhtml+xml", False),
        ("application/pdf", False),
        ("", False),
    ],
)
def test_a_file_that_a_browser_might_run_is_kept_and_all_are_boxed_in(path, kind, is_shown):
    page = ask_application(Gateway(Behind(("Content-Type", kind))), path)
    assert page.body == b"content"
    assert page.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert page.headers["content-type"] == (kind if is_shown else "application/octet-stream")
    assert ("content-disposition" in page.headers) == (not is_shown)


def test_a_packed_file_is_kept_as_it_is():
    behind = Behind(("Content-Type", "text/csv"), ("Content-Encodings", "gzip"))
    page = ask_application(Gateway(behind), "/artifacts/1/2/abc")
    assert page.headers["content-type"] == "application/octet-stream"
    assert page.headers["content-disposition"] == "attachment"
    assert "content-encodings" not in page.headers


def test_a_path_that_is_no_text_cannot_pass_for_another(reader):
    page = ask_application(Gateway(reader), "/art\xffifacts/1/2/abc")
    assert page.status == 400
    assert reader.asked == []


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (StorageUnavailableError("postgresql://lmf@db/x: refused"), 503, "database cannot be reached"),
        (StorageError("disk full"), 500, "cannot be read"),
        (NothingThereError(), 404, "no such thing"),
        (TrialEndedError(), 409, "this trial has ended"),
        (RuntimeError("a bug"), 500, "cannot be answered"),
    ],
)
@pytest.mark.parametrize("path", ["/dashboard", "/api/studies/1"])
def test_what_goes_wrong_is_said_in_a_line_and_in_full_in_the_log(caplog, error, status, reason, path):
    page = ask_application(Gateway(Behind(error=error)), path)
    assert page.status == status
    assert reason in (json.loads(page.body)["reason"] if path.startswith("/api/") else page.body.decode())
    assert not str(error) or str(error) not in page.body.decode()
    assert str(error) in caplog.text
    assert ("retry-after" in page.headers) == (status == 503)
    assert ("Traceback" in caplog.text) == isinstance(error, RuntimeError)


def test_a_database_that_is_away_is_not_told_of_every_request(caplog):
    gateway = Gateway(Behind(error=StorageUnavailableError("away")))
    assert [ask_application(gateway, "/api/studies").status for _ in range(5)] == [503] * 5
    assert caplog.text.count("away") == 1


def test_a_head_has_no_body(reader):
    page = ask_application(Gateway(Behind(error=StorageUnavailableError("away"))), "/dashboard", "HEAD")
    assert (page.status, page.body) == (503, b"")
