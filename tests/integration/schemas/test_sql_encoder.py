"""PostgreSQL makes, of every payload, the bytes that fastavro makes, and refuses every other.

Ten thousand payloads of all six events, from a printed seed, full of edges; the golden data;
and payloads broken in one place each, which model, encoder and PostgreSQL must all refuse by
the name of that place. What this does not prove: that the append function calls the encoder
of the right event (tests/integration/sql does).
"""

import json
import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from iu_core.events import ContractViolation, parse_event
from schemas import golden
from schemas.catalog import SCHEMAS_DIR, Catalog, Contract
from schemas.codec import decode_datum, encode_with
from schemas.generated_data import SURPLUS, Broken, broken, payload
from schemas.sql_encoder import encoder_name
from tests.services import create_database, drop_database

EVENTS_TOTAL = 10_000
BATCH = 500
BROKEN_PAYLOADS = 8  # of each event; each is broken in some two hundred ways
CONTRACTS = Catalog.bundled().contracts

Session = psycopg.Connection[tuple[Any, ...]]

# One statement for many payloads: a refusal must not end the statement of the others.
VERDICT = """
    CREATE FUNCTION pg_temp.{verdict}(p_payload jsonb) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM public.{encoder}(p_payload);
      RETURN 'accepted';
    EXCEPTION WHEN OTHERS THEN
      RETURN SQLSTATE || ' ' || SQLERRM;
    END $$"""


@pytest.fixture(scope="module")
def session(postgres_server: str, migrated_template: Callable[[str], str]) -> Iterator[Session]:
    """A migrated database, so that what is held to account is what a migration released."""
    url = create_database(postgres_server, migrated_template(postgres_server))
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection
    drop_database(postgres_server, url)


def datums(session: Session, contract: Contract, payloads: list[Any]) -> list[bytes]:
    query = sql.SQL(
        "SELECT public.{}(body) FROM unnest(%s::jsonb[]) WITH ORDINALITY AS each (body, n) ORDER BY n"
    )
    encoder = sql.Identifier(encoder_name(contract.event_type, contract.version))
    texts = [json.dumps(body, ensure_ascii=False) for body in payloads]
    return [row[0] for row in session.execute(query.format(encoder), (texts,))]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.event_type)
def test_ten_thousand_payloads_give_the_bytes_of_fastavro_and_come_back(
    session: Session, contract: Contract
) -> None:
    seed = secrets.randbits(32)
    rng = random.Random(seed)
    count = -(-EVENTS_TOTAL // len(CONTRACTS))
    for first in range(0, count, BATCH):
        payloads = [payload(contract.record, rng) for _ in range(min(BATCH, count - first))]
        made = datums(session, contract, payloads)
        assert len(made) == len(payloads)
        for body, datum in zip(payloads, made, strict=True):
            # encode_with is fastavro's writer behind the strict model; tests/contract holds it to that.
            assert datum == encode_with(contract, body), f"seed {seed}"
            assert decode_datum(contract, datum) == body, f"seed {seed}"


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.event_type)
def test_golden_payloads_give_the_datum_that_was_kept(session: Session, contract: Contract) -> None:
    cases = list(golden.cases(golden.folder(SCHEMAS_DIR, contract)))
    assert len(cases) >= golden.CASES_MIN
    assert datums(session, contract, [case.payload for case in cases]) == [case.datum for case in cases]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.event_type)
def test_a_payload_broken_in_one_place_is_refused_there_by_all_three(
    session: Session, contract: Contract
) -> None:
    seed = secrets.randbits(32)
    rng = random.Random(seed)
    cases = [
        case
        for _ in range(BROKEN_PAYLOADS)
        for case in broken(contract.record, payload(contract.record, rng))
    ]
    for case, verdict in zip(cases, verdicts(session, contract, cases), strict=True):
        assert verdict.startswith(f"IU021 {named_by_postgres(contract, case)}: expected "), (
            seed,
            case,
            verdict,
        )
        with pytest.raises(ContractViolation) as by_model:
            parse_event(contract.event_type, contract.version, case.payload)
        with pytest.raises(ContractViolation) as by_encoder:
            encode_with(contract, case.payload)
        for refused in (by_model, by_encoder):
            place = f"{case.path or 'payload'}: "
            assert any(fault.startswith(place) for fault in refused.value.faults), (seed, case)
    # That the generator has not dried up: every fault it knows was tried on this event's fields.
    faults = Counter(case.fault for case in cases)
    assert {
        "null",
        "missing key",
        "unknown key",
        "too large",
        "a whole float",
        "upper case",
        "time 'now'",
    } <= set(faults)


def verdicts(session: Session, contract: Contract, cases: list[Broken]) -> list[str]:
    """What PostgreSQL says of each case: `accepted`, or SQLSTATE and message."""
    verdict = sql.Identifier(f"verdict_{contract.event_type}")
    encoder = sql.Identifier(encoder_name(contract.event_type, contract.version))
    session.execute(sql.SQL(VERDICT).format(verdict=verdict, encoder=encoder))
    query = sql.SQL(
        "SELECT pg_temp.{}(body) FROM unnest(%s::jsonb[]) WITH ORDINALITY AS each (body, n) ORDER BY n"
    )
    bodies = [json.dumps(case.payload) for case in cases]
    return [row[0] for row in session.execute(query.format(verdict), (bodies,))]


def named_by_postgres(contract: Contract, case: Broken) -> str:
    """Where PostgreSQL says the fault is: a surplus key is told with the record it stands in."""
    inside = case.path.removesuffix(SURPLUS).removesuffix(".") if case.fault == "unknown key" else case.path
    return f"{contract.event_type}.{inside}" if inside else contract.event_type


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.event_type)
def test_a_null_payload_is_refused_and_not_passed_on_as_null(session: Session, contract: Contract) -> None:
    with pytest.raises(psycopg.Error, match="expected an object, found nothing") as refused:
        session.execute(f"SELECT public.{encoder_name(contract.event_type, contract.version)}(NULL)")
    assert refused.value.sqlstate == "IU021"


def test_a_refusal_tells_field_reason_and_contract(session: Session) -> None:
    contract = CONTRACTS[0]
    body = payload(contract.record, random.Random(1)) | {"incarnation": "one"}
    with pytest.raises(psycopg.Error) as refused:
        datums(session, contract, [body])
    told = refused.value.diag
    assert (told.sqlstate, told.message_primary) == (
        "IU021",
        f'{contract.event_type}.incarnation: expected an integer, found "one"',
    )
    assert told.message_hint == f"The contract stands in schemas/structure/{contract.event_type}."


def test_nobody_but_the_owner_may_call_an_encoder(session: Session) -> None:
    rows = session.execute(
        "SELECT proname, proowner::regrole::text, proacl::text, prosecdef FROM pg_proc "
        "WHERE starts_with(proname, 'fn_iu_avro_')"
    ).fetchall()
    assert len(rows) > len(CONTRACTS)
    assert {(owner, grants, definer) for _, owner, grants, definer in rows} == {
        ("iu_owner", "{iu_owner=X/iu_owner}", False)
    }


def test_a_hostile_search_path_changes_nothing(session: Session) -> None:
    """The primitives have no SET of their own; that of the encoder must cover them."""
    contract = next(contract for contract in CONTRACTS if contract.event_type == "structure_piece_split")
    body = payload(contract.record, random.Random(2))
    session.execute("""
        CREATE SCHEMA hostile;
        CREATE FUNCTION hostile.octet_length(bytea) RETURNS integer LANGUAGE sql RETURN 0;
        CREATE FUNCTION hostile.join(bytea, bytea) RETURNS bytea LANGUAGE sql RETURN ''::bytea;
        CREATE OPERATOR hostile.|| (FUNCTION = hostile.join, LEFTARG = bytea, RIGHTARG = bytea);
        SET search_path = hostile, pg_catalog, public""")
    try:
        assert session.execute("SELECT '\\x01'::bytea || '\\x02'::bytea").fetchone() == (
            b"",
        )  # it is hostile
        assert datums(session, contract, [body]) == [encode_with(contract, body)]
    finally:
        session.execute("RESET search_path; DROP SCHEMA hostile CASCADE")


def test_text_that_jsonb_cannot_hold_never_reaches_an_encoder(session: Session) -> None:
    """U+0000 and half a surrogate pair: the models refuse them too (tests/unit/schemas)."""
    for wrong in ("a\\u0000b", "a\\ud800b"):
        with pytest.raises(psycopg.Error) as refused:
            session.execute("SELECT %s::jsonb", (f'{{"actor": "{wrong}"}}',))
        assert refused.value.sqlstate in ("22P05", "22P02")


@pytest.mark.parametrize(
    "setting",
    [
        "TimeZone = 'Asia/Kathmandu'",
        "DateStyle = 'German, DMY'",
        "bytea_output = 'escape'",
        "extra_float_digits = -15",
        "IntervalStyle = 'iso_8601'",
        "standard_conforming_strings = off",
        "lc_numeric = 'C'",
    ],
)
def test_no_setting_of_the_session_changes_the_bytes(session: Session, setting: str) -> None:
    rng = random.Random(3)
    try:
        session.execute(f"SET {setting}")
        for contract in CONTRACTS:
            bodies = [payload(contract.record, rng) for _ in range(20)]
            assert datums(session, contract, bodies) == [encode_with(contract, body) for body in bodies]
    finally:
        session.execute(f"RESET {setting.split(' ')[0]}")
