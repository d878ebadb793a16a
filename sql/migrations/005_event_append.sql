-- 005: how an event is written: the Avro encoders of the six contracts, and the append.

BEGIN;
SET LOCAL ROLE iu_owner;

-- ---------------------------------------------------------------------------------------
-- The encoders, as `iu schemas sql` generates them from schemas/.
-- One set per released version of a contract: an event that was written can always be written
-- again, byte for byte.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/avro/avro_primitives.sql
-- The Avro primitives: each makes the bytes of one value of a payload, or refuses it with
-- IU021 and the path of the field. The encoders of the events, generated from schemas/ by
-- `iu schemas sql`, are made of them; tests/integration/schemas holds both to fastavro.
--
-- They are plpgsql and not inlinable SQL. Inlined, a bulk of events takes as long (28 µs
-- an event against 25), but one event is one transaction, and there the server sets the
-- whole grown expression up anew: 300 µs against 40 (PostgreSQL 15 and 18, measured).
--
-- They have no SET search_path, because a SET costs each of the twenty calls of an event
-- 0.1 to 0.9 µs. They run under that of the encoder, which has one; nobody but the owner
-- may call them, and they are SECURITY INVOKER, so a call past the encoder gains nothing.
--
-- None is STRICT: a missing key arrives as NULL and must be refused, not passed over.

-- Never returns. It has a result type so that it can stand where the bytes would.
CREATE OR REPLACE FUNCTION public.fn_iu_avro_refuse(p_path text, p_expected text, p_value jsonb)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'IU021',
    MESSAGE = format('%s: expected %s, found %s', p_path, p_expected,
                     coalesce(left(p_value::text, 80), 'nothing')),
    DETAIL  = 'The payload does not fit the contract of its event; nothing was encoded.',
    HINT    = format('The contract stands in schemas/structure/%s.',
                     split_part(p_path, '.', 1));
END;
$$;

ALTER FUNCTION public.fn_iu_avro_refuse(text, text, jsonb) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_refuse(text, text, jsonb) IS
  'Raises IU021: the field at p_path is not what its contract says. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_refuse(text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_refuse(text, text, jsonb) TO iu_owner;

-- Seven bits a byte, least first; the high bit says that more follow. The groups are put
-- side by side into one bigint and sent as its tail: set_byte would take a call for each.
-- 128, 32768, 8421376, 2155905024 and 2155905152 are those high bits.
CREATE OR REPLACE FUNCTION public.fn_iu_avro_number(p_number bigint)
RETURNS bytea
LANGUAGE plpgsql
IMMUTABLE
PARALLEL SAFE
AS $$
DECLARE
  -- Zigzag makes 0, -1, 1, -2 into 0, 1, 2, 3. The top bit of the result is a digit like
  -- the others, so numbers far from zero stand here as negative ones until it is masked.
  v_rest  bigint := (p_number << 1) # (p_number >> 63);
  v_bytes bytea  := '';
BEGIN
  -- At most twice: 64 bits are 28 + 28 + 8.
  WHILE v_rest NOT BETWEEN 0 AND 268435455 LOOP
    v_bytes := v_bytes || substring(int8send(
      ((v_rest & 127) << 24) | (((v_rest >> 7) & 127) << 16) | (((v_rest >> 14) & 127) << 8)
      | ((v_rest >> 21) & 127) | 2155905152), 5);
    v_rest := (v_rest >> 28) & 68719476735;
  END LOOP;
  RETURN v_bytes || CASE
    WHEN v_rest < 128 THEN set_byte('\x00'::bytea, 0, v_rest::integer)
    WHEN v_rest < 16384 THEN substring(int8send(
      ((v_rest & 127) << 8) | (v_rest >> 7) | 32768), 7)
    WHEN v_rest < 2097152 THEN substring(int8send(
      ((v_rest & 127) << 16) | (((v_rest >> 7) & 127) << 8) | (v_rest >> 14) | 8421376), 6)
    ELSE substring(int8send(
      ((v_rest & 127) << 24) | (((v_rest >> 7) & 127) << 16) | (((v_rest >> 14) & 127) << 8)
      | (v_rest >> 21) | 2155905024), 5)
  END;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_number(bigint) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_number(bigint) IS
  'Avro long: the zigzag varint of a number, one to ten bytes. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_number(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_number(bigint) TO iu_owner;

-- jsonb keeps 1.0 apart from 1; so does a reader of the JSON in Python, so 1.0 is refused.
CREATE OR REPLACE FUNCTION public.fn_iu_avro_int(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'number' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an integer', p_value);
  END IF;
  IF scale(p_value::numeric) <> 0
     OR p_value::numeric NOT BETWEEN -2147483648 AND 2147483647 THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an integer of 32 bits', p_value);
  END IF;
  RETURN public.fn_iu_avro_number(p_value::bigint);
END;
$$;

ALTER FUNCTION public.fn_iu_avro_int(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_int(jsonb, text) IS
  'Avro int of a JSON integer, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_int(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_int(jsonb, text) TO iu_owner;

-- As int, over 64 bits.
CREATE OR REPLACE FUNCTION public.fn_iu_avro_long(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'number' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an integer', p_value);
  END IF;
  IF scale(p_value::numeric) <> 0
     OR p_value::numeric NOT BETWEEN -9223372036854775808 AND 9223372036854775807 THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an integer of 64 bits', p_value);
  END IF;
  RETURN public.fn_iu_avro_number(p_value::bigint);
END;
$$;

ALTER FUNCTION public.fn_iu_avro_long(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_long(jsonb, text) IS
  'Avro long of a JSON integer, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_long(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_long(jsonb, text) TO iu_owner;

-- The length is that in UTF-8, whatever the encoding of the database.
CREATE OR REPLACE FUNCTION public.fn_iu_avro_string(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
DECLARE
  v_bytes bytea;
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'string' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'a string', p_value);
  END IF;
  v_bytes := convert_to(p_value #>> '{}', 'UTF8');
  RETURN public.fn_iu_avro_number(octet_length(v_bytes)) || v_bytes;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_string(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_string(jsonb, text) IS
  'Avro string of a JSON string, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_string(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_string(jsonb, text) TO iu_owner;

-- One spelling only: with two for one id the payload would not come back from the bytes.
CREATE OR REPLACE FUNCTION public.fn_iu_avro_uuid(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  IF jsonb_typeof(p_value) = 'string'
     AND p_value #>> '{}' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
    RETURN uuid_send((p_value #>> '{}')::uuid);
  END IF;
  RETURN public.fn_iu_avro_refuse(p_path, 'a UUID in lower case', p_value);
END;
$$;

ALTER FUNCTION public.fn_iu_avro_uuid(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_uuid(jsonb, text) IS
  'Avro fixed(16) of a UUID, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_uuid(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_uuid(jsonb, text) TO iu_owner;

-- The length is compared in bytes, so that no pattern has to be made for each size.
CREATE OR REPLACE FUNCTION public.fn_iu_avro_fixed(p_value jsonb, p_bytes integer, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  IF jsonb_typeof(p_value) = 'string'
     AND octet_length(p_value #>> '{}') = 2 * p_bytes
     AND p_value #>> '{}' ~ '^[0-9a-f]*$' THEN
    RETURN decode(p_value #>> '{}', 'hex');
  END IF;
  RETURN public.fn_iu_avro_refuse(p_path, format('%s bytes in lower-case hex', p_bytes), p_value);
END;
$$;

ALTER FUNCTION public.fn_iu_avro_fixed(jsonb, integer, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_fixed(jsonb, integer, text) IS
  'Avro fixed(p_bytes) of lower-case hex, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_fixed(jsonb, integer, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_fixed(jsonb, integer, text) TO iu_owner;

-- Whole numbers all the way: epoch seconds as double precision lose microseconds, and a
-- cast from text would hang on DateStyle and raise errors of its own. Years 0001 to 9999.
CREATE OR REPLACE FUNCTION public.fn_iu_avro_timestamp_micros(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
DECLARE
  v_text text := p_value #>> '{}';
  v_day  date;
BEGIN
  IF jsonb_typeof(p_value) = 'string'
     AND v_text ~ ('^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])'
                   'T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9][.][0-9]{6}Z$') THEN
    -- From the first of the month, as make_date refuses February 30 in words of its own.
    v_day := make_date(substr(v_text, 1, 4)::integer, substr(v_text, 6, 2)::integer, 1)
             + (substr(v_text, 9, 2)::integer - 1);
    IF extract(month FROM v_day) = substr(v_text, 6, 2)::integer THEN
      RETURN public.fn_iu_avro_number(
        (v_day - date '1970-01-01') * bigint '86400000000'
        + substr(v_text, 12, 2)::bigint * 3600000000
        + substr(v_text, 15, 2)::bigint * 60000000
        + substr(v_text, 18, 2)::bigint * 1000000
        + substr(v_text, 21, 6)::bigint);
    END IF;
  END IF;
  RETURN public.fn_iu_avro_refuse(p_path, 'a time as YYYY-MM-DDTHH:MM:SS.ffffffZ', p_value);
END;
$$;

ALTER FUNCTION public.fn_iu_avro_timestamp_micros(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_timestamp_micros(jsonb, text) IS
  'Avro timestamp-micros of a time in UTC with six digits, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_timestamp_micros(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_timestamp_micros(jsonb, text) TO iu_owner;
-- << sql/functions/avro/avro_primitives.sql

-- >> sql/functions/avro/fn_iu_avro_structure_reparented_v1.sql
-- Generated from schemas/structure/structure_reparented/v1.avsc by `iu schemas sql`.
-- Do not edit: `iu schemas check` compares this file with its contract.
--
-- fn_iu_avro_structure_reparented_v1 makes the Avro datum of one event, without wire
-- prefix, as fastavro makes it. It takes the payload whole: each field there, none besides,
-- each in its one spelling; anything else is refused with IU021, which names the field.
-- Needs avro_primitives.sql; why the functions are plpgsql and who has a SET stands there.

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_reparented_v1(p_payload jsonb)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_payload) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse('structure_reparented', 'an object', p_payload);
  END IF;
  v_unknown := p_payload - ARRAY[
    'event_ref',
    'occurred_at',
    'tree_id',
    'incarnation',
    'aggregate_version',
    'operation_id',
    'actor',
    'reason',
    'doc_code',
    'unit_id',
    'iu_code',
    'old_parent_id',
    'old_ordinal',
    'new_parent_id',
    'new_ordinal'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse('structure_reparented', 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_payload -> 'event_ref', 'structure_reparented.event_ref')
    || public.fn_iu_avro_timestamp_micros(p_payload -> 'occurred_at', 'structure_reparented.occurred_at')
    || public.fn_iu_avro_uuid(p_payload -> 'tree_id', 'structure_reparented.tree_id')
    || public.fn_iu_avro_int(p_payload -> 'incarnation', 'structure_reparented.incarnation')
    || public.fn_iu_avro_long(p_payload -> 'aggregate_version', 'structure_reparented.aggregate_version')
    || public.fn_iu_avro_uuid(p_payload -> 'operation_id', 'structure_reparented.operation_id')
    || public.fn_iu_avro_string(p_payload -> 'actor', 'structure_reparented.actor')
    || public.fn_iu_avro_string(p_payload -> 'reason', 'structure_reparented.reason')
    || CASE jsonb_typeof(p_payload -> 'doc_code') WHEN 'null' THEN '\x00'::bytea
         ELSE '\x02'::bytea || public.fn_iu_avro_string(p_payload -> 'doc_code', 'structure_reparented.doc_code') END
    || public.fn_iu_avro_uuid(p_payload -> 'unit_id', 'structure_reparented.unit_id')
    || public.fn_iu_avro_string(p_payload -> 'iu_code', 'structure_reparented.iu_code')
    || public.fn_iu_avro_uuid(p_payload -> 'old_parent_id', 'structure_reparented.old_parent_id')
    || public.fn_iu_avro_int(p_payload -> 'old_ordinal', 'structure_reparented.old_ordinal')
    || public.fn_iu_avro_uuid(p_payload -> 'new_parent_id', 'structure_reparented.new_parent_id')
    || public.fn_iu_avro_int(p_payload -> 'new_ordinal', 'structure_reparented.new_ordinal');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_reparented_v1(jsonb) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_reparented_v1(jsonb) IS
  'Avro datum of a structure_reparented payload, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_reparented_v1(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_reparented_v1(jsonb) TO iu_owner;
-- << sql/functions/avro/fn_iu_avro_structure_reparented_v1.sql

-- >> sql/functions/avro/fn_iu_avro_structure_child_added_v1.sql
-- Generated from schemas/structure/structure_child_added/v1.avsc by `iu schemas sql`.
-- Do not edit: `iu schemas check` compares this file with its contract.
--
-- fn_iu_avro_structure_child_added_v1 makes the Avro datum of one event, without wire
-- prefix, as fastavro makes it. It takes the payload whole: each field there, none besides,
-- each in its one spelling; anything else is refused with IU021, which names the field.
-- Needs avro_primitives.sql; why the functions are plpgsql and who has a SET stands there.

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_child_added_v1_lifecycle(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  -- An object or a number reads as text too, but never as one of these.
  RETURN CASE p_value #>> '{}'
    WHEN 'draft' THEN '\x02'::bytea
    WHEN 'enacted' THEN '\x04'::bytea
    WHEN 'deprecated' THEN '\x06'::bytea
    ELSE public.fn_iu_avro_refuse(p_path, 'one of draft, enacted, deprecated', p_value)
  END;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_child_added_v1_lifecycle(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_child_added_v1_lifecycle(jsonb, text) IS
  'Avro enum Lifecycle of structure_child_added, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_child_added_v1_lifecycle(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_child_added_v1_lifecycle(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_child_added_v1_each_uuid(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'array' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an array', p_value);
  END IF;
  IF jsonb_array_length(p_value) = 0 THEN
    RETURN '\x00'::bytea;
  END IF;
  -- One block with its count, then the empty block that ends an array.
  RETURN public.fn_iu_avro_number(jsonb_array_length(p_value)) || (
    SELECT string_agg(
             public.fn_iu_avro_uuid(each.item, p_path || '[' || (each.position - 1) || ']'),
             ''::bytea ORDER BY each.position)
      FROM jsonb_array_elements(p_value) WITH ORDINALITY AS each (item, position)
  ) || '\x00'::bytea;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_child_added_v1_each_uuid(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_child_added_v1_each_uuid(jsonb, text) IS
  'Avro array of structure_child_added, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_child_added_v1_each_uuid(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_child_added_v1_each_uuid(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_child_added_v1(p_payload jsonb)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_payload) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse('structure_child_added', 'an object', p_payload);
  END IF;
  v_unknown := p_payload - ARRAY[
    'event_ref',
    'occurred_at',
    'tree_id',
    'incarnation',
    'aggregate_version',
    'operation_id',
    'actor',
    'reason',
    'doc_code',
    'unit_id',
    'iu_code',
    'parent_id',
    'ordinal',
    'lifecycle',
    'content_digest',
    'content_bytes',
    'supersedes'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse('structure_child_added', 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_payload -> 'event_ref', 'structure_child_added.event_ref')
    || public.fn_iu_avro_timestamp_micros(p_payload -> 'occurred_at', 'structure_child_added.occurred_at')
    || public.fn_iu_avro_uuid(p_payload -> 'tree_id', 'structure_child_added.tree_id')
    || public.fn_iu_avro_int(p_payload -> 'incarnation', 'structure_child_added.incarnation')
    || public.fn_iu_avro_long(p_payload -> 'aggregate_version', 'structure_child_added.aggregate_version')
    || public.fn_iu_avro_uuid(p_payload -> 'operation_id', 'structure_child_added.operation_id')
    || public.fn_iu_avro_string(p_payload -> 'actor', 'structure_child_added.actor')
    || public.fn_iu_avro_string(p_payload -> 'reason', 'structure_child_added.reason')
    || CASE jsonb_typeof(p_payload -> 'doc_code') WHEN 'null' THEN '\x00'::bytea
         ELSE '\x02'::bytea || public.fn_iu_avro_string(p_payload -> 'doc_code', 'structure_child_added.doc_code') END
    || public.fn_iu_avro_uuid(p_payload -> 'unit_id', 'structure_child_added.unit_id')
    || public.fn_iu_avro_string(p_payload -> 'iu_code', 'structure_child_added.iu_code')
    || CASE jsonb_typeof(p_payload -> 'parent_id') WHEN 'null' THEN '\x00'::bytea
         ELSE '\x02'::bytea || public.fn_iu_avro_uuid(p_payload -> 'parent_id', 'structure_child_added.parent_id') END
    || public.fn_iu_avro_int(p_payload -> 'ordinal', 'structure_child_added.ordinal')
    || public.fn_iu_avro_structure_child_added_v1_lifecycle(p_payload -> 'lifecycle', 'structure_child_added.lifecycle')
    || public.fn_iu_avro_fixed(p_payload -> 'content_digest', 32, 'structure_child_added.content_digest')
    || public.fn_iu_avro_long(p_payload -> 'content_bytes', 'structure_child_added.content_bytes')
    || public.fn_iu_avro_structure_child_added_v1_each_uuid(p_payload -> 'supersedes', 'structure_child_added.supersedes');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_child_added_v1(jsonb) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_child_added_v1(jsonb) IS
  'Avro datum of a structure_child_added payload, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_child_added_v1(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_child_added_v1(jsonb) TO iu_owner;
-- << sql/functions/avro/fn_iu_avro_structure_child_added_v1.sql

-- >> sql/functions/avro/fn_iu_avro_structure_piece_deprecated_v1.sql
-- Generated from schemas/structure/structure_piece_deprecated/v1.avsc by `iu schemas sql`.
-- Do not edit: `iu schemas check` compares this file with its contract.
--
-- fn_iu_avro_structure_piece_deprecated_v1 makes the Avro datum of one event, without wire
-- prefix, as fastavro makes it. It takes the payload whole: each field there, none besides,
-- each in its one spelling; anything else is refused with IU021, which names the field.
-- Needs avro_primitives.sql; why the functions are plpgsql and who has a SET stands there.

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  -- An object or a number reads as text too, but never as one of these.
  RETURN CASE p_value #>> '{}'
    WHEN 'draft' THEN '\x02'::bytea
    WHEN 'enacted' THEN '\x04'::bytea
    WHEN 'deprecated' THEN '\x06'::bytea
    ELSE public.fn_iu_avro_refuse(p_path, 'one of draft, enacted, deprecated', p_value)
  END;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(jsonb, text) IS
  'Avro enum Lifecycle of structure_piece_deprecated, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1(p_payload jsonb)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_payload) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse('structure_piece_deprecated', 'an object', p_payload);
  END IF;
  v_unknown := p_payload - ARRAY[
    'event_ref',
    'occurred_at',
    'tree_id',
    'incarnation',
    'aggregate_version',
    'operation_id',
    'actor',
    'reason',
    'doc_code',
    'unit_id',
    'iu_code',
    'parent_id',
    'ordinal',
    'old_lifecycle'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse('structure_piece_deprecated', 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_payload -> 'event_ref', 'structure_piece_deprecated.event_ref')
    || public.fn_iu_avro_timestamp_micros(p_payload -> 'occurred_at', 'structure_piece_deprecated.occurred_at')
    || public.fn_iu_avro_uuid(p_payload -> 'tree_id', 'structure_piece_deprecated.tree_id')
    || public.fn_iu_avro_int(p_payload -> 'incarnation', 'structure_piece_deprecated.incarnation')
    || public.fn_iu_avro_long(p_payload -> 'aggregate_version', 'structure_piece_deprecated.aggregate_version')
    || public.fn_iu_avro_uuid(p_payload -> 'operation_id', 'structure_piece_deprecated.operation_id')
    || public.fn_iu_avro_string(p_payload -> 'actor', 'structure_piece_deprecated.actor')
    || public.fn_iu_avro_string(p_payload -> 'reason', 'structure_piece_deprecated.reason')
    || CASE jsonb_typeof(p_payload -> 'doc_code') WHEN 'null' THEN '\x00'::bytea
         ELSE '\x02'::bytea || public.fn_iu_avro_string(p_payload -> 'doc_code', 'structure_piece_deprecated.doc_code') END
    || public.fn_iu_avro_uuid(p_payload -> 'unit_id', 'structure_piece_deprecated.unit_id')
    || public.fn_iu_avro_string(p_payload -> 'iu_code', 'structure_piece_deprecated.iu_code')
    || CASE jsonb_typeof(p_payload -> 'parent_id') WHEN 'null' THEN '\x00'::bytea
         ELSE '\x02'::bytea || public.fn_iu_avro_uuid(p_payload -> 'parent_id', 'structure_piece_deprecated.parent_id') END
    || public.fn_iu_avro_int(p_payload -> 'ordinal', 'structure_piece_deprecated.ordinal')
    || public.fn_iu_avro_structure_piece_deprecated_v1_lifecycle(p_payload -> 'old_lifecycle', 'structure_piece_deprecated.old_lifecycle');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1(jsonb) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1(jsonb) IS
  'Avro datum of a structure_piece_deprecated payload, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_deprecated_v1(jsonb) TO iu_owner;
-- << sql/functions/avro/fn_iu_avro_structure_piece_deprecated_v1.sql

-- >> sql/functions/avro/fn_iu_avro_structure_piece_split_v1.sql
-- Generated from schemas/structure/structure_piece_split/v1.avsc by `iu schemas sql`.
-- Do not edit: `iu schemas check` compares this file with its contract.
--
-- fn_iu_avro_structure_piece_split_v1 makes the Avro datum of one event, without wire
-- prefix, as fastavro makes it. It takes the payload whole: each field there, none besides,
-- each in its one spelling; anything else is refused with IU021, which names the field.
-- Needs avro_primitives.sql; why the functions are plpgsql and who has a SET stands there.

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_split_v1_lifecycle(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  -- An object or a number reads as text too, but never as one of these.
  RETURN CASE p_value #>> '{}'
    WHEN 'draft' THEN '\x02'::bytea
    WHEN 'enacted' THEN '\x04'::bytea
    WHEN 'deprecated' THEN '\x06'::bytea
    ELSE public.fn_iu_avro_refuse(p_path, 'one of draft, enacted, deprecated', p_value)
  END;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_split_v1_lifecycle(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_lifecycle(jsonb, text) IS
  'Avro enum Lifecycle of structure_piece_split, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_lifecycle(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_lifecycle(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_split_v1_piece(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an object', p_value);
  END IF;
  v_unknown := p_value - ARRAY[
    'unit_id',
    'iu_code',
    'ordinal',
    'lifecycle',
    'content_digest',
    'content_bytes'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_value -> 'unit_id', p_path || '.unit_id')
    || public.fn_iu_avro_string(p_value -> 'iu_code', p_path || '.iu_code')
    || public.fn_iu_avro_int(p_value -> 'ordinal', p_path || '.ordinal')
    || public.fn_iu_avro_structure_piece_split_v1_lifecycle(p_value -> 'lifecycle', p_path || '.lifecycle')
    || public.fn_iu_avro_fixed(p_value -> 'content_digest', 32, p_path || '.content_digest')
    || public.fn_iu_avro_long(p_value -> 'content_bytes', p_path || '.content_bytes');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_split_v1_piece(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_piece(jsonb, text) IS
  'Avro record Piece of structure_piece_split, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_piece(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_piece(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_split_v1_each_piece(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'array' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an array', p_value);
  END IF;
  IF jsonb_array_length(p_value) = 0 THEN
    RETURN '\x00'::bytea;
  END IF;
  -- One block with its count, then the empty block that ends an array.
  RETURN public.fn_iu_avro_number(jsonb_array_length(p_value)) || (
    SELECT string_agg(
             public.fn_iu_avro_structure_piece_split_v1_piece(each.item, p_path || '[' || (each.position - 1) || ']'),
             ''::bytea ORDER BY each.position)
      FROM jsonb_array_elements(p_value) WITH ORDINALITY AS each (item, position)
  ) || '\x00'::bytea;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_split_v1_each_piece(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_each_piece(jsonb, text) IS
  'Avro array of structure_piece_split, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_each_piece(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_each_piece(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_split_v1_moved_child(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an object', p_value);
  END IF;
  v_unknown := p_value - ARRAY[
    'unit_id',
    'parent_id',
    'ordinal'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_value -> 'unit_id', p_path || '.unit_id')
    || public.fn_iu_avro_uuid(p_value -> 'parent_id', p_path || '.parent_id')
    || public.fn_iu_avro_int(p_value -> 'ordinal', p_path || '.ordinal');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_split_v1_moved_child(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_moved_child(jsonb, text) IS
  'Avro record MovedChild of structure_piece_split, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_moved_child(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_moved_child(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_split_v1_each_moved_child(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'array' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an array', p_value);
  END IF;
  IF jsonb_array_length(p_value) = 0 THEN
    RETURN '\x00'::bytea;
  END IF;
  -- One block with its count, then the empty block that ends an array.
  RETURN public.fn_iu_avro_number(jsonb_array_length(p_value)) || (
    SELECT string_agg(
             public.fn_iu_avro_structure_piece_split_v1_moved_child(each.item, p_path || '[' || (each.position - 1) || ']'),
             ''::bytea ORDER BY each.position)
      FROM jsonb_array_elements(p_value) WITH ORDINALITY AS each (item, position)
  ) || '\x00'::bytea;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_split_v1_each_moved_child(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_each_moved_child(jsonb, text) IS
  'Avro array of structure_piece_split, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_each_moved_child(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_split_v1_each_moved_child(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_split_v1(p_payload jsonb)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_payload) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse('structure_piece_split', 'an object', p_payload);
  END IF;
  v_unknown := p_payload - ARRAY[
    'event_ref',
    'occurred_at',
    'tree_id',
    'incarnation',
    'aggregate_version',
    'operation_id',
    'actor',
    'reason',
    'doc_code',
    'unit_id',
    'iu_code',
    'parent_id',
    'pieces',
    'moved_children'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse('structure_piece_split', 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_payload -> 'event_ref', 'structure_piece_split.event_ref')
    || public.fn_iu_avro_timestamp_micros(p_payload -> 'occurred_at', 'structure_piece_split.occurred_at')
    || public.fn_iu_avro_uuid(p_payload -> 'tree_id', 'structure_piece_split.tree_id')
    || public.fn_iu_avro_int(p_payload -> 'incarnation', 'structure_piece_split.incarnation')
    || public.fn_iu_avro_long(p_payload -> 'aggregate_version', 'structure_piece_split.aggregate_version')
    || public.fn_iu_avro_uuid(p_payload -> 'operation_id', 'structure_piece_split.operation_id')
    || public.fn_iu_avro_string(p_payload -> 'actor', 'structure_piece_split.actor')
    || public.fn_iu_avro_string(p_payload -> 'reason', 'structure_piece_split.reason')
    || CASE jsonb_typeof(p_payload -> 'doc_code') WHEN 'null' THEN '\x00'::bytea
         ELSE '\x02'::bytea || public.fn_iu_avro_string(p_payload -> 'doc_code', 'structure_piece_split.doc_code') END
    || public.fn_iu_avro_uuid(p_payload -> 'unit_id', 'structure_piece_split.unit_id')
    || public.fn_iu_avro_string(p_payload -> 'iu_code', 'structure_piece_split.iu_code')
    || public.fn_iu_avro_uuid(p_payload -> 'parent_id', 'structure_piece_split.parent_id')
    || public.fn_iu_avro_structure_piece_split_v1_each_piece(p_payload -> 'pieces', 'structure_piece_split.pieces')
    || public.fn_iu_avro_structure_piece_split_v1_each_moved_child(p_payload -> 'moved_children', 'structure_piece_split.moved_children');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_split_v1(jsonb) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_split_v1(jsonb) IS
  'Avro datum of a structure_piece_split payload, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_split_v1(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_split_v1(jsonb) TO iu_owner;
-- << sql/functions/avro/fn_iu_avro_structure_piece_split_v1.sql

-- >> sql/functions/avro/fn_iu_avro_structure_piece_merged_v1.sql
-- Generated from schemas/structure/structure_piece_merged/v1.avsc by `iu schemas sql`.
-- Do not edit: `iu schemas check` compares this file with its contract.
--
-- fn_iu_avro_structure_piece_merged_v1 makes the Avro datum of one event, without wire
-- prefix, as fastavro makes it. It takes the payload whole: each field there, none besides,
-- each in its one spelling; anything else is refused with IU021, which names the field.
-- Needs avro_primitives.sql; why the functions are plpgsql and who has a SET stands there.

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_merged_v1_each_uuid(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'array' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an array', p_value);
  END IF;
  IF jsonb_array_length(p_value) = 0 THEN
    RETURN '\x00'::bytea;
  END IF;
  -- One block with its count, then the empty block that ends an array.
  RETURN public.fn_iu_avro_number(jsonb_array_length(p_value)) || (
    SELECT string_agg(
             public.fn_iu_avro_uuid(each.item, p_path || '[' || (each.position - 1) || ']'),
             ''::bytea ORDER BY each.position)
      FROM jsonb_array_elements(p_value) WITH ORDINALITY AS each (item, position)
  ) || '\x00'::bytea;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_merged_v1_each_uuid(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_each_uuid(jsonb, text) IS
  'Avro array of structure_piece_merged, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_each_uuid(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_each_uuid(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_merged_v1_lifecycle(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  -- An object or a number reads as text too, but never as one of these.
  RETURN CASE p_value #>> '{}'
    WHEN 'draft' THEN '\x02'::bytea
    WHEN 'enacted' THEN '\x04'::bytea
    WHEN 'deprecated' THEN '\x06'::bytea
    ELSE public.fn_iu_avro_refuse(p_path, 'one of draft, enacted, deprecated', p_value)
  END;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_merged_v1_lifecycle(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_lifecycle(jsonb, text) IS
  'Avro enum Lifecycle of structure_piece_merged, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_lifecycle(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_lifecycle(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_merged_v1_piece(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an object', p_value);
  END IF;
  v_unknown := p_value - ARRAY[
    'unit_id',
    'iu_code',
    'ordinal',
    'lifecycle',
    'content_digest',
    'content_bytes'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_value -> 'unit_id', p_path || '.unit_id')
    || public.fn_iu_avro_string(p_value -> 'iu_code', p_path || '.iu_code')
    || public.fn_iu_avro_int(p_value -> 'ordinal', p_path || '.ordinal')
    || public.fn_iu_avro_structure_piece_merged_v1_lifecycle(p_value -> 'lifecycle', p_path || '.lifecycle')
    || public.fn_iu_avro_fixed(p_value -> 'content_digest', 32, p_path || '.content_digest')
    || public.fn_iu_avro_long(p_value -> 'content_bytes', p_path || '.content_bytes');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_merged_v1_piece(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_piece(jsonb, text) IS
  'Avro record Piece of structure_piece_merged, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_piece(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_piece(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_merged_v1_moved_child(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an object', p_value);
  END IF;
  v_unknown := p_value - ARRAY[
    'unit_id',
    'parent_id',
    'ordinal'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_value -> 'unit_id', p_path || '.unit_id')
    || public.fn_iu_avro_uuid(p_value -> 'parent_id', p_path || '.parent_id')
    || public.fn_iu_avro_int(p_value -> 'ordinal', p_path || '.ordinal');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_merged_v1_moved_child(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_moved_child(jsonb, text) IS
  'Avro record MovedChild of structure_piece_merged, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_moved_child(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_moved_child(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_merged_v1_each_moved_child(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'array' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an array', p_value);
  END IF;
  IF jsonb_array_length(p_value) = 0 THEN
    RETURN '\x00'::bytea;
  END IF;
  -- One block with its count, then the empty block that ends an array.
  RETURN public.fn_iu_avro_number(jsonb_array_length(p_value)) || (
    SELECT string_agg(
             public.fn_iu_avro_structure_piece_merged_v1_moved_child(each.item, p_path || '[' || (each.position - 1) || ']'),
             ''::bytea ORDER BY each.position)
      FROM jsonb_array_elements(p_value) WITH ORDINALITY AS each (item, position)
  ) || '\x00'::bytea;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_merged_v1_each_moved_child(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_each_moved_child(jsonb, text) IS
  'Avro array of structure_piece_merged, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_each_moved_child(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1_each_moved_child(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_merged_v1(p_payload jsonb)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_payload) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse('structure_piece_merged', 'an object', p_payload);
  END IF;
  v_unknown := p_payload - ARRAY[
    'event_ref',
    'occurred_at',
    'tree_id',
    'incarnation',
    'aggregate_version',
    'operation_id',
    'actor',
    'reason',
    'doc_code',
    'sources',
    'parent_id',
    'piece',
    'moved_children'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse('structure_piece_merged', 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_payload -> 'event_ref', 'structure_piece_merged.event_ref')
    || public.fn_iu_avro_timestamp_micros(p_payload -> 'occurred_at', 'structure_piece_merged.occurred_at')
    || public.fn_iu_avro_uuid(p_payload -> 'tree_id', 'structure_piece_merged.tree_id')
    || public.fn_iu_avro_int(p_payload -> 'incarnation', 'structure_piece_merged.incarnation')
    || public.fn_iu_avro_long(p_payload -> 'aggregate_version', 'structure_piece_merged.aggregate_version')
    || public.fn_iu_avro_uuid(p_payload -> 'operation_id', 'structure_piece_merged.operation_id')
    || public.fn_iu_avro_string(p_payload -> 'actor', 'structure_piece_merged.actor')
    || public.fn_iu_avro_string(p_payload -> 'reason', 'structure_piece_merged.reason')
    || CASE jsonb_typeof(p_payload -> 'doc_code') WHEN 'null' THEN '\x00'::bytea
         ELSE '\x02'::bytea || public.fn_iu_avro_string(p_payload -> 'doc_code', 'structure_piece_merged.doc_code') END
    || public.fn_iu_avro_structure_piece_merged_v1_each_uuid(p_payload -> 'sources', 'structure_piece_merged.sources')
    || public.fn_iu_avro_uuid(p_payload -> 'parent_id', 'structure_piece_merged.parent_id')
    || public.fn_iu_avro_structure_piece_merged_v1_piece(p_payload -> 'piece', 'structure_piece_merged.piece')
    || public.fn_iu_avro_structure_piece_merged_v1_each_moved_child(p_payload -> 'moved_children', 'structure_piece_merged.moved_children');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_merged_v1(jsonb) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1(jsonb) IS
  'Avro datum of a structure_piece_merged payload, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_merged_v1(jsonb) TO iu_owner;
-- << sql/functions/avro/fn_iu_avro_structure_piece_merged_v1.sql

-- >> sql/functions/avro/fn_iu_avro_structure_piece_replaced_v1.sql
-- Generated from schemas/structure/structure_piece_replaced/v1.avsc by `iu schemas sql`.
-- Do not edit: `iu schemas check` compares this file with its contract.
--
-- fn_iu_avro_structure_piece_replaced_v1 makes the Avro datum of one event, without wire
-- prefix, as fastavro makes it. It takes the payload whole: each field there, none besides,
-- each in its one spelling; anything else is refused with IU021, which names the field.
-- Needs avro_primitives.sql; why the functions are plpgsql and who has a SET stands there.

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  -- An object or a number reads as text too, but never as one of these.
  RETURN CASE p_value #>> '{}'
    WHEN 'draft' THEN '\x02'::bytea
    WHEN 'enacted' THEN '\x04'::bytea
    WHEN 'deprecated' THEN '\x06'::bytea
    ELSE public.fn_iu_avro_refuse(p_path, 'one of draft, enacted, deprecated', p_value)
  END;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(jsonb, text) IS
  'Avro enum Lifecycle of structure_piece_replaced, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_piece(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an object', p_value);
  END IF;
  v_unknown := p_value - ARRAY[
    'unit_id',
    'iu_code',
    'ordinal',
    'lifecycle',
    'content_digest',
    'content_bytes'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_value -> 'unit_id', p_path || '.unit_id')
    || public.fn_iu_avro_string(p_value -> 'iu_code', p_path || '.iu_code')
    || public.fn_iu_avro_int(p_value -> 'ordinal', p_path || '.ordinal')
    || public.fn_iu_avro_structure_piece_replaced_v1_lifecycle(p_value -> 'lifecycle', p_path || '.lifecycle')
    || public.fn_iu_avro_fixed(p_value -> 'content_digest', 32, p_path || '.content_digest')
    || public.fn_iu_avro_long(p_value -> 'content_bytes', p_path || '.content_bytes');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_piece(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_piece(jsonb, text) IS
  'Avro record Piece of structure_piece_replaced, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_piece(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_piece(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_moved_child(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an object', p_value);
  END IF;
  v_unknown := p_value - ARRAY[
    'unit_id',
    'parent_id',
    'ordinal'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_value -> 'unit_id', p_path || '.unit_id')
    || public.fn_iu_avro_uuid(p_value -> 'parent_id', p_path || '.parent_id')
    || public.fn_iu_avro_int(p_value -> 'ordinal', p_path || '.ordinal');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_moved_child(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_moved_child(jsonb, text) IS
  'Avro record MovedChild of structure_piece_replaced, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_moved_child(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_moved_child(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(p_value jsonb, p_path text)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
AS $$
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'array' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an array', p_value);
  END IF;
  IF jsonb_array_length(p_value) = 0 THEN
    RETURN '\x00'::bytea;
  END IF;
  -- One block with its count, then the empty block that ends an array.
  RETURN public.fn_iu_avro_number(jsonb_array_length(p_value)) || (
    SELECT string_agg(
             public.fn_iu_avro_structure_piece_replaced_v1_moved_child(each.item, p_path || '[' || (each.position - 1) || ']'),
             ''::bytea ORDER BY each.position)
      FROM jsonb_array_elements(p_value) WITH ORDINALITY AS each (item, position)
  ) || '\x00'::bytea;
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(jsonb, text) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(jsonb, text) IS
  'Avro array of structure_piece_replaced, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(jsonb, text) TO iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_avro_structure_piece_replaced_v1(p_payload jsonb)
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof(p_payload) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse('structure_piece_replaced', 'an object', p_payload);
  END IF;
  v_unknown := p_payload - ARRAY[
    'event_ref',
    'occurred_at',
    'tree_id',
    'incarnation',
    'aggregate_version',
    'operation_id',
    'actor',
    'reason',
    'doc_code',
    'unit_id',
    'iu_code',
    'parent_id',
    'piece',
    'moved_children'
  ];
  IF v_unknown <> '{}' THEN
    RETURN public.fn_iu_avro_refuse('structure_piece_replaced', 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN public.fn_iu_avro_uuid(p_payload -> 'event_ref', 'structure_piece_replaced.event_ref')
    || public.fn_iu_avro_timestamp_micros(p_payload -> 'occurred_at', 'structure_piece_replaced.occurred_at')
    || public.fn_iu_avro_uuid(p_payload -> 'tree_id', 'structure_piece_replaced.tree_id')
    || public.fn_iu_avro_int(p_payload -> 'incarnation', 'structure_piece_replaced.incarnation')
    || public.fn_iu_avro_long(p_payload -> 'aggregate_version', 'structure_piece_replaced.aggregate_version')
    || public.fn_iu_avro_uuid(p_payload -> 'operation_id', 'structure_piece_replaced.operation_id')
    || public.fn_iu_avro_string(p_payload -> 'actor', 'structure_piece_replaced.actor')
    || public.fn_iu_avro_string(p_payload -> 'reason', 'structure_piece_replaced.reason')
    || CASE jsonb_typeof(p_payload -> 'doc_code') WHEN 'null' THEN '\x00'::bytea
         ELSE '\x02'::bytea || public.fn_iu_avro_string(p_payload -> 'doc_code', 'structure_piece_replaced.doc_code') END
    || public.fn_iu_avro_uuid(p_payload -> 'unit_id', 'structure_piece_replaced.unit_id')
    || public.fn_iu_avro_string(p_payload -> 'iu_code', 'structure_piece_replaced.iu_code')
    || public.fn_iu_avro_uuid(p_payload -> 'parent_id', 'structure_piece_replaced.parent_id')
    || public.fn_iu_avro_structure_piece_replaced_v1_piece(p_payload -> 'piece', 'structure_piece_replaced.piece')
    || public.fn_iu_avro_structure_piece_replaced_v1_each_moved_child(p_payload -> 'moved_children', 'structure_piece_replaced.moved_children');
END;
$$;

ALTER FUNCTION public.fn_iu_avro_structure_piece_replaced_v1(jsonb) OWNER TO iu_owner;
COMMENT ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1(jsonb) IS
  'Avro datum of a structure_piece_replaced payload, version 1, or IU021. Internal.';
REVOKE ALL ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.fn_iu_avro_structure_piece_replaced_v1(jsonb) TO iu_owner;
-- << sql/functions/avro/fn_iu_avro_structure_piece_replaced_v1.sql

-- ---------------------------------------------------------------------------------------
-- The append.
-- The only writer of event_outbox.
-- ---------------------------------------------------------------------------------------

-- >> sql/functions/fn_iu_outbox_append.sql
-- fn_iu_outbox_append writes one event: its payload, its Avro datum, and the digest over that.
--
-- The datum is made here, once, where the event is made. Whoever publishes or checks it later
-- moves and compares bytes and needs no contract at hand; and a payload that does not fit its
-- contract takes the change it tells of down with it (IU021), instead of stopping the relay.
--
-- The caller holds the tree's head row. That is what makes ids ascend with versions inside a
-- tree: the identity value is taken under the lock, after the lock of the version before.

CREATE OR REPLACE FUNCTION public.fn_iu_outbox_append(
  p_event_type text, p_operation_id uuid, p_tree_id uuid, p_version bigint, p_incarnation integer,
  p_doc_code text, p_actor text, p_reason text, p_body jsonb
)
RETURNS uuid
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_event_ref   uuid := public.fn_iu_uuid_v7();
  v_occurred_at timestamptz := clock_timestamp();
  v_traceparent text := nullif(current_setting('iu.traceparent', true), '');
  v_payload     jsonb;
  v_datum       bytea;
BEGIN
  v_payload := jsonb_build_object(
    'event_ref', v_event_ref,
    'occurred_at', to_char(v_occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'tree_id', p_tree_id,
    'incarnation', p_incarnation,
    'aggregate_version', p_version,
    'operation_id', p_operation_id,
    'actor', p_actor,
    'reason', p_reason,
    'doc_code', p_doc_code
  ) || p_body;

  -- A static CASE: an event type that no contract knows cannot be written.
  v_datum := CASE p_event_type
    WHEN 'structure_reparented' THEN public.fn_iu_avro_structure_reparented_v1(v_payload)
    WHEN 'structure_child_added' THEN public.fn_iu_avro_structure_child_added_v1(v_payload)
    WHEN 'structure_piece_deprecated' THEN public.fn_iu_avro_structure_piece_deprecated_v1(v_payload)
    WHEN 'structure_piece_split' THEN public.fn_iu_avro_structure_piece_split_v1(v_payload)
    WHEN 'structure_piece_merged' THEN public.fn_iu_avro_structure_piece_merged_v1(v_payload)
    WHEN 'structure_piece_replaced' THEN public.fn_iu_avro_structure_piece_replaced_v1(v_payload)
  END;
  IF v_datum IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU021',
      MESSAGE = format('no contract for events of type %L', p_event_type),
      DETAIL  = 'The datum cannot be made, so the event and its change are refused.',
      HINT    = 'Event types and their contracts stand in schemas/contracts.toml.';
  END IF;

  INSERT INTO public.event_outbox
    (event_ref, event_type, schema_version, aggregate_id, aggregate_version, bucket, incarnation,
     payload, datum, payload_digest, headers, occurred_at)
  VALUES
    (v_event_ref, p_event_type, 1, p_tree_id, p_version,
     get_byte(sha256(uuid_send(p_tree_id)), 0), p_incarnation,
     v_payload, v_datum, sha256(v_datum),
     CASE WHEN v_traceparent IS NULL THEN '{}'::jsonb
          ELSE jsonb_build_object('traceparent', v_traceparent) END,
     v_occurred_at);
  RETURN v_event_ref;
END;
$$;

ALTER FUNCTION public.fn_iu_outbox_append(text, uuid, uuid, bigint, integer, text, text, text, jsonb)
  OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_outbox_append(text, uuid, uuid, bigint, integer, text, text, text, jsonb) IS
  'Appends one event with its Avro datum and digest; returns its event_ref. IU021 if the payload breaks its contract. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_outbox_append(text, uuid, uuid, bigint, integer, text, text, text, jsonb)
  FROM PUBLIC;
-- << sql/functions/fn_iu_outbox_append.sql

COMMIT;
