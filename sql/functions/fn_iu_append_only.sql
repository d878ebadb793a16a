-- fn_iu_append_only refuses the statement that fired it: history is added to, never changed.
--
-- A privilege would not be enough, because the owner and superusers have them all, and a
-- mistake is made by exactly those.  The triggers that call this are ENABLE ALWAYS: a plain
-- trigger sleeps under session_replication_role = replica.
--
-- One statement passes: the DELETE that fn_iu_outbox_prune runs on event_outbox.  It sets the
-- transaction-local flag iu.maintenance, but anybody can set that, and current_user says nothing
-- here, where it is always the owner.  So the call stack is asked as well: the statement must
-- come from inside that function, which runs as its owner and which nobody else may call.  Its
-- name is schema-qualified there, because public is not on its search path, so a function of
-- that name elsewhere is not taken for it.  Whoever forges a stack on purpose could as well
-- disable the trigger: this is held against mistakes, and against every other role.

CREATE OR REPLACE FUNCTION public.fn_iu_append_only()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_stack text;
BEGIN
  IF TG_OP = 'DELETE' AND (TG_TABLE_SCHEMA, TG_TABLE_NAME) = ('public', 'event_outbox')
     AND current_setting('iu.maintenance', true) = 'outbox_prune' THEN
    GET DIAGNOSTICS v_stack = PG_CONTEXT;
    IF v_stack ~ '\n[^\n"]* public\.fn_iu_outbox_prune\(text,' THEN
      RETURN NULL;
    END IF;
  END IF;

  RAISE EXCEPTION USING
    ERRCODE = 'IU040',
    MESSAGE = format('%s of %I is refused: it keeps its history', TG_OP, TG_TABLE_NAME),
    DETAIL  = 'Rows of this table are the record of what happened; nothing is taken back.',
    HINT    = CASE
                WHEN (TG_OP, TG_TABLE_NAME) = ('DELETE', 'event_outbox')
                  THEN 'Old events leave the outbox by: iu relay prune'
                ELSE 'Correct it with a new operation, which leaves its own record.'
              END;
END;
$$;

ALTER FUNCTION public.fn_iu_append_only() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_append_only() IS
  'Trigger: refuses UPDATE, DELETE or TRUNCATE with IU040, but for the DELETE of fn_iu_outbox_prune.';

REVOKE ALL ON FUNCTION public.fn_iu_append_only() FROM PUBLIC;
