-- fn_iu_route_event looks up the event that is to be delivered: its row of the outbox.
--
-- Where the row was pruned, the event comes by value: the caller's payload, if it is the one
-- whose digest the stub kept, in a row made up of the stub's columns; id, bucket, datum and
-- what else no delivery looks at are NULL there.  STABLE is needed: both look-ups then see one
-- snapshot, and in one snapshot an event is in exactly one of the two places.
--
-- An event that was given up after a restore is refused by name and for good (IU022): it stands
-- on the topic for ever, and its tree has gone on without it. That is asked first, so that no
-- row of the same name can bring it back.
--
-- IU001 if it is known nowhere; IU020 if the payload is not the one that was written.

CREATE OR REPLACE FUNCTION public.fn_iu_route_event(p_event_ref uuid, p_payload jsonb)
RETURNS public.event_outbox
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_abandoned public.iu_abandoned_event;
  v_event     public.event_outbox;
  v_stub      public.event_outbox_stub;
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
  IF FOUND THEN
    RETURN v_event;
  END IF;

  SELECT stub.* INTO v_stub
    FROM public.event_outbox_stub AS stub
   WHERE stub.event_ref = p_event_ref;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU001',
      MESSAGE = format('event %s is not in the outbox', p_event_ref),
      DETAIL  = 'No committed operation of this database wrote it.',
      HINT    = format('See what is known of it with: iu explain %s', p_event_ref);
  END IF;

  IF NOT public.fn_iu_payload_matches(
           v_stub.event_type, v_stub.schema_version, p_payload, v_stub.payload_digest) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'IU020',
      MESSAGE = format('the payload given for event %s is not the one that was written', p_event_ref),
      DETAIL  = format('The row was pruned at %s; encoded as %s version %s, the payload has another digest than its stub.',
                       v_stub.pruned_at, v_stub.event_type, v_stub.schema_version),
      HINT    = format('See the event with: iu explain %s', p_event_ref);
  END IF;

  v_event.event_ref         := v_stub.event_ref;
  v_event.event_type        := v_stub.event_type;
  v_event.schema_version    := v_stub.schema_version;
  v_event.aggregate_id      := v_stub.aggregate_id;
  v_event.aggregate_version := v_stub.aggregate_version;
  v_event.incarnation       := v_stub.incarnation;
  v_event.payload           := p_payload;
  v_event.payload_digest    := v_stub.payload_digest;
  v_event.occurred_at       := v_stub.occurred_at;
  RETURN v_event;
END;
$$;

ALTER FUNCTION public.fn_iu_route_event(uuid, jsonb) OWNER TO iu_owner;

COMMENT ON FUNCTION public.fn_iu_route_event(uuid, jsonb) IS
  'The event as the outbox has it, or by value checked against its stub; IU022 given up, IU001 unknown, IU020 another payload. Internal.';

REVOKE ALL ON FUNCTION public.fn_iu_route_event(uuid, jsonb) FROM PUBLIC;
