-- fn_iu_route_event finds the event that a delivery is about, or refuses it for the event's sake.
--
-- An event that was given up after a restore is refused by name and for good (IU022): it stands
-- on the topic for ever, and its tree has gone on without it. That is asked first, so that no
-- row of the same name can bring it back.
--
-- What is neither in the outbox nor given up was written by no operation of this database: IU001.

CREATE OR REPLACE FUNCTION public.fn_iu_route_event(p_event_ref uuid)
RETURNS public.event_outbox
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_abandoned public.iu_abandoned_event;
  v_event     public.event_outbox;
BEGIN
  SELECT abandoned.* INTO v_abandoned
    FROM public.iu_abandoned_event AS abandoned
   WHERE abandoned.event_ref = p_event_ref;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU022',
      MESSAGE = 'abandoned',
      DETAIL  = format('Event %s was version %s of tree %s; it was given up at %s: %s',
                       p_event_ref, v_abandoned.version, v_abandoned.tree_id,
                       to_char(v_abandoned.abandoned_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                       v_abandoned.reason),
      HINT    = format('The tree goes on in incarnation %s. See: iu explain %s',
                       v_abandoned.fenced_by, p_event_ref);
  END IF;

  SELECT event.* INTO v_event
    FROM public.event_outbox AS event
   WHERE event.event_ref = p_event_ref;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU001',
      MESSAGE = format('event %s is not in the outbox', p_event_ref),
      DETAIL  = 'No committed operation of this database wrote it.',
      HINT    = format('See what is known of it with: iu explain %s', p_event_ref);
  END IF;
  RETURN v_event;
END;
$$;

ALTER FUNCTION public.fn_iu_route_event(uuid) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_event(uuid) IS
  'The outbox row of an event; IU022 if it was given up after a restore, IU001 if nothing is known of it. Internal.';

-- Part of fn_iu_route_deliver, which has asked the gates before: nobody else may call it.
REVOKE ALL ON FUNCTION public.fn_iu_route_event(uuid) FROM PUBLIC;
