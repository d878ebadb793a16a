"""The choice in words, and the record of it."""

import json

import pytest

from infra.local.endpoints import (
    Choice,
    Endpoints,
    NotTaken,
    endpoints_from_json,
    endpoints_to_json,
)
from iu_core.errors import Misconfigured

CHOICE = Choice(
    "postgres",
    "process",
    "PostgreSQL 18.4 from the wheel",
    (NotTaken("environment", "IU_DATABASE_URL is not set"), NotTaken("docker", "no engine answers")),
)
ENDPOINTS = Endpoints(
    "postgresql://postgres:x@127.0.0.1:5432/postgres", "127.0.0.1:9092", None, False, (CHOICE,)
)


def test_a_choice_says_why_no_earlier_step_was_taken() -> None:
    assert str(CHOICE) == (
        "postgres: process, PostgreSQL 18.4 from the wheel;"
        " environment: IU_DATABASE_URL is not set; docker: no engine answers"
    )


def test_what_is_written_down_is_read_back() -> None:
    assert endpoints_from_json(json.loads(json.dumps(endpoints_to_json(ENDPOINTS)))) == ENDPOINTS


def test_the_environment_names_what_there_is() -> None:
    assert ENDPOINTS.environment() == {
        "IU_DATABASE_URL": "postgresql://postgres:x@127.0.0.1:5432/postgres",
        "IU_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    }


def test_the_environment_labels_a_mock() -> None:
    mock = Endpoints(None, "127.0.0.1:9092", None, True, ())
    assert mock.environment() == {
        "IU_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
        "IU_KAFKA__MOCK": "true",
    }


def test_a_service_that_is_not_there_is_named() -> None:
    nothing = Endpoints(None, None, None, False, ())
    with pytest.raises(Misconfigured, match="no PostgreSQL"):
        nothing.postgres()
    with pytest.raises(Misconfigured, match="no Kafka"):
        nothing.kafka()
