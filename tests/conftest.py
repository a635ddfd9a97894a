"""Fixtures that several packages' tests share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lmf_testing.postgres import Server, postgres_server

pytest_plugins = ["lmf_testing.skips", "lmf_testing.told"]


@pytest.fixture(autouse=True)
def keep_logging() -> Iterator[None]:
    """Take back what a test's command set up: its handler would write into a stream that ends with the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real label tables, images and weights."""
    folder = os.environ.get("LMF_TEST_DATA")
    if not folder:
        pytest.skip("LMF_TEST_DATA is not set: it names a folder with data/, weights/ and paper/")
    return Path(folder).absolute()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A real PostgreSQL server, started once."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'lmf.db'}"


@pytest.fixture
def postgres_url(postgres: Server) -> Iterator[str]:
    """The URL of a new empty PostgreSQL database."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def storage_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new empty database, on each backend in turn."""
    url = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    assert isinstance(url, str)
    return url
