-- Undoes 016. Which events were given up is forgotten: keep a dump of the table. Trees keep their
-- incarnations; events that were given up count as unknown from then on (IU001).

BEGIN;
SET LOCAL ROLE iu_owner;

CREATE OR REPLACE FUNCTION public.fn_iu_route_event(p_event_ref uuid, p_payload jsonb)
RETURNS public.event_outbox
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_event public.event_outbox;
  v_stub  public.event_outbox_stub;
BEGIN
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

COMMENT ON FUNCTION public.fn_iu_route_event(uuid, jsonb) IS
  'The event as the outbox has it, or by value checked against its stub; IU001 unknown, IU020 another payload. Internal.';

DROP FUNCTION public.fn_iu_rebase_adopt(text, jsonb, bytea, jsonb, text);
DROP FUNCTION public.fn_iu_rebase_abandon(uuid, integer, text, jsonb, text);
DROP TRIGGER trg_iu_tree_incarnation ON public.iu_tree;
DROP FUNCTION public.fn_iu_tree_incarnation();
COMMENT ON COLUMN public.iu_tree.version IS 'Events this tree has had in this incarnation; 0 as loaded.';
DROP TABLE public.iu_abandoned_event;

COMMIT;
