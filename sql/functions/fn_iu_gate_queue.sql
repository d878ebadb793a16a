-- fn_iu_gate_queue makes a change of a switch wait its turn behind the deliveries under way.
--
-- Deliveries share advisory lock (18773, 1) until they commit; this takes it exclusively,
-- before the statement touches its first row.  Row locks alone would starve the change,
-- because share locks overtake a waiting update; the advisory lock is granted in order of
-- arrival.  dot_config and iu_outbound_route use one and the same pair: with two, a delivery
-- and two changes could wait for each other in a ring.
--
-- It has to be a statement trigger.  A row trigger fires with the row already found, under a
-- snapshot older than the wait, and the change would act on what the wait made stale.

CREATE OR REPLACE FUNCTION public.fn_iu_gate_queue()
RETURNS trigger
LANGUAGE plpgsql
VOLATILE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- 18773 is 'IU' in ASCII, 1 the delivery gate; fn_iu_delivery_gate shares the same pair.
  PERFORM pg_advisory_xact_lock(18773, 1);
  RETURN NULL;
END;
$$;

ALTER FUNCTION public.fn_iu_gate_queue() OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_gate_queue() IS
  'Statement trigger: waits for the deliveries under way, and keeps new ones waiting until commit.';

REVOKE ALL ON FUNCTION public.fn_iu_gate_queue() FROM PUBLIC;
