-- fn_iu_structure_op_begin is what every operation does first: pass the gate, and say who and why.
--
-- The gate comes before the words are looked at: a closed system tells nobody whether the
-- rest of the call would have been right.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_begin(p_actor text, p_reason text)
RETURNS void
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM public.fn_iu_structure_op_gate();

  IF nullif(btrim(p_actor), '') IS NULL OR nullif(btrim(p_reason), '') IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU006',
      MESSAGE = format('a structure operation needs %s',
                       CASE WHEN nullif(btrim(p_actor), '') IS NULL THEN 'an actor' ELSE 'a reason' END),
      DETAIL  = format('actor is %L, reason is %L.', p_actor, p_reason),
      HINT    = 'Give both: --actor NAME --reason "..."';
  END IF;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_begin(text, text) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_begin(text, text) IS
  'Gate (42501), then actor and reason (IU006). Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_structure_op_begin(text, text) FROM PUBLIC;
