-- fn_iu_structure_op_gate lets a structure operation pass, or refuses it; the gate then keeps
-- its value until the operation's transaction ends.
--
-- The lock comes first and in a statement of its own, as in fn_iu_delivery_gate and for the
-- same reasons: a close that waits for the row alone would be overtaken by every new
-- operation, and a statement that waits reads with a snapshot older than its wait.
--
-- It is another pair than the gate of deliveries, (18773, 1): an import of a large document
-- holds this one for as long as it takes, and must not hold back the kill switch.

CREATE OR REPLACE FUNCTION public.fn_iu_structure_op_gate()
RETURNS void
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_enabled text;
BEGIN
  -- 18773 is 'IU' in ASCII, 2 this gate.  fn_iu_config_set takes the same pair exclusively.
  PERFORM pg_advisory_xact_lock_shared(18773, 2);

  SELECT config.value INTO v_enabled
    FROM public.dot_config AS config
   WHERE config.key = 'iu_core.structure_op_enabled'
     FOR SHARE;

  -- A missing key reads as NULL: IS DISTINCT FROM denies where <> would let it pass.
  IF v_enabled IS DISTINCT FROM 'true' THEN
    RAISE insufficient_privilege USING
      MESSAGE = 'structure operations are closed',
      DETAIL  = format('iu_core.structure_op_enabled is %L', v_enabled),
      HINT    = 'Open them with: iu gate open structure --reason "..."';
  END IF;
END;
$$;

ALTER FUNCTION public.fn_iu_structure_op_gate() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_structure_op_gate() IS
  'Passes the gate of structure operations and pins it until commit, or raises 42501. Fail-closed.';

-- Whoever may call this can hold a close back, so no process role may: the operations, which
-- iu_owner owns too, call it for them.
REVOKE ALL ON FUNCTION public.fn_iu_structure_op_gate() FROM PUBLIC;
