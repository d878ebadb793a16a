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
