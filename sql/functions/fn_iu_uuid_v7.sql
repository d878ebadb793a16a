-- fn_iu_uuid_v7 makes an identifier that sorts by the millisecond it was made in.
--
-- Keys that arrive in order keep an index's newest page hot; random ones touch them all.
-- PostgreSQL 18 has the function built in and counts within a millisecond too; before, the
-- first 48 bits of a random identifier are overwritten with the clock and its version with 7.
-- RFC 9562, section 5.7.

CREATE OR REPLACE FUNCTION public.fn_iu_uuid_v7()
RETURNS uuid
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_bytes bytea;
BEGIN
  -- plpgsql plans a statement when it is reached: the call below is never looked up on 15.
  IF current_setting('server_version_num')::integer >= 180000 THEN
    RETURN uuidv7();
  END IF;

  v_bytes := overlay(
    uuid_send(gen_random_uuid())
    PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
    FROM 1 FOR 6
  );
  v_bytes := set_byte(v_bytes, 6, (get_byte(v_bytes, 6) & 15) | 112);
  RETURN encode(v_bytes, 'hex')::uuid;
END;
$$;

ALTER FUNCTION public.fn_iu_uuid_v7() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_uuid_v7() IS
  'A time-ordered identifier, RFC 9562 version 7.';

-- Default privileges already keep PUBLIC out; said again, so that the file stands by itself.
REVOKE ALL ON FUNCTION public.fn_iu_uuid_v7() FROM PUBLIC;
