"""Sessions for the tests of the SQL substrate, and (for now) the databases themselves."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from iu_core.database import connect
from iu_core.database.migration_files import read
from iu_core.database.migrations import Migrator
from iu_core.resources import sql_dir
from iu_core.settings import DatabaseSettings

SERVERS = {"15": "postgresql://postgres@127.0.0.1:55415", "18": "postgresql://postgres@127.0.0.1:55418"}


def _drop(server: str, name: str) -> None:
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _create(server: str, template: str) -> str:
    name = f"sqla_{uuid.uuid4().hex}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    return name


@pytest.fixture(scope="session", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest) -> str:
    return SERVERS[request.param]


@pytest.fixture(scope="session")
def migrated_template(server: str) -> Iterator[str]:
    name = _create(server, "template0")
    with connect(
        f"{server}/{name}", None, settings=DatabaseSettings(), application_name="template"
    ) as connection:
        Migrator(connection, read(sql_dir())).up()
    yield name
    _drop(server, name)


@pytest.fixture
def postgres_url(server: str) -> Iterator[str]:
    name = _create(server, "template0")
    yield f"{server}/{name}"
    _drop(server, name)


@pytest.fixture
def migrated_url(server: str, migrated_template: str) -> Iterator[str]:
    name = _create(server, migrated_template)
    yield f"{server}/{name}"
    _drop(server, name)
