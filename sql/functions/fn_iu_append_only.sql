-- fn_iu_append_only refuses the statement that fired it: history is added to, never changed.
--
-- A privilege would not be enough, because the owner and superusers have them all, and a
-- mistake is made by exactly those.  The triggers that call this are ENABLE ALWAYS: a plain
-- trigger sleeps under session_replication_role = replica.

CREATE OR REPLACE FUNCTION public.fn_iu_append_only()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'IU040',
    MESSAGE = format('%s of %I is refused: it keeps its history', TG_OP, TG_TABLE_NAME),
    DETAIL  = 'Rows of this table are the record of what happened; nothing is taken back.',
    HINT    = 'Correct it with a new operation, which leaves its own record.';
END;
$$;

ALTER FUNCTION public.fn_iu_append_only() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_append_only() IS
  'Trigger: refuses UPDATE, DELETE or TRUNCATE with IU040.';

REVOKE ALL ON FUNCTION public.fn_iu_append_only() FROM PUBLIC;
